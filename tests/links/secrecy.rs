//! Nobody receives what they must not see: who sees what over the wire, and what the raw packets hold.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use roomkeeper::client::Replica;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{NetId, OwnedBy, Protocol, Removal, State};
use roomkeeper::room::{Reach, RevealedTo, RoomRng};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

/// A value that no other value equals, by which it is found in a packet.
type Mark = [u8; 12];

#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Position([f32; 2]);
/// Where it is, as everybody who sees it is told, and by which it is found.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Motion(Mark);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Kind(Mark);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Hand(Mark);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Orders(Mark);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Aim(#[entities] Entity);
#[derive(Clone, Serialize, Deserialize)]
struct Shouted {
    who: EntityId,
    words: Mark,
}

const RED: u64 = 1;
const BLUE: u64 = 2;
const REACH: f32 = 10.0;

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Motion>("motion").latest();
    app.sync::<Kind>("kind");
    app.sync::<Hand>("hand").to_owner();
    app.sync::<Orders>("orders").latest().to_mask(RED);
    app.stateless_fact::<Shouted>("shouted");
    app.sync_relationship::<OwnedBy>("owned_by");
    app.sync_mapped::<Aim>("aim");
}

/// In which a room has secrets only while something is hidden.
fn open_protocol(app: &mut App) {
    app.sync::<Kind>("kind");
    app.stateless_fact::<Shouted>("shouted");
}

fn rules(app: &mut App) {
    app.places_by(|position: &Position| position.0);
}

/// What a test knows of an entity, by itself.
struct Game {
    sim: Sim,
    rng: RoomRng,
    marks: u64,
    /// Each mark that ever was there, and who might see it.
    seen: BTreeMap<Mark, (BTreeSet<&'static str>, String)>,
}

const NAMES: [&str; 3] = ["ann", "ben", "eve"];

impl Game {
    fn new(link: LinkConditions, seed: u64) -> Self {
        let mut sim = Sim::new(protocol, rules).seed(seed).link(link);
        for (name, mask) in [("ann", RED), ("ben", BLUE), ("eve", 0)] {
            sim.join(name);
            let senses = Senses::new().with_mask(mask).with_reach(Reach { enter: REACH, leave: REACH });
            sim.give(name, (senses, Position([0.0, 0.0])));
            sim.client_mut(name).keep_packets();
        }
        Self { sim, rng: RoomRng::new(seed), marks: 0, seen: BTreeMap::new() }
    }

    fn mark(&mut self) -> Mark {
        self.marks += 1;
        // Spread over all values, so that no mark looks like a small number.
        let spread = self.marks.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        std::array::from_fn(|n| spread[n % 8] ^ (n as u8).wrapping_mul(37) | 1)
    }

    /// One tick in the life of the room.
    fn change(&mut self) {
        let bodies: Vec<Entity> = NAMES.iter().map(|name| self.sim.room().entity(EntityId::named(name)).unwrap()).collect();
        let world = self.sim.room_mut().world_mut();
        let mut things: Vec<Entity> = world.query_filtered::<Entity, With<Kind>>().iter(world).collect();
        for _ in things.len()..24 {
            let (kind, motion) = (Kind(self.mark()), Motion(self.mark()));
            let place = Position([self.rng.unit_f32() * 60.0 - 30.0, 0.0]);
            let audience = self.audience();
            let world = self.sim.room_mut().world_mut();
            things.push(world.spawn((kind, motion, place, audience)).id());
        }
        for thing in things {
            let (mark, audience, step) = (self.mark(), self.audience(), self.rng.unit_f32() * 4.0 - 2.0);
            let (dice, other) = (self.rng.range(0..60), bodies[self.rng.range(0..3) as usize]);
            let world = self.sim.room_mut().world_mut();
            let mut entity = world.entity_mut(thing);
            match dice {
                0..12 => entity.get_mut::<Position>().unwrap().0[0] += step,
                12..20 => drop(entity.insert(Motion(mark))),
                20..24 => drop(entity.insert(Kind(mark))),
                24..28 => drop(entity.insert(Hand(mark))),
                28..32 => drop(entity.insert(Orders(mark))),
                32..34 => drop(entity.insert(OwnedBy(other))),
                34 => drop(entity.remove::<OwnedBy>()),
                35..37 => drop(entity.insert(audience)),
                37 => drop(entity.remove::<Audience>()),
                38 => entity.despawn(),
                39 => drop(entity.remove::<Hand>()),
                40 => drop(entity.insert(RevealedTo::users([EntityId::named("eve")]))),
                41 => drop(entity.remove::<RevealedTo>()),
                _ => {}
            }
        }
        if self.rng.chance(0.1) {
            let (n, step) = (self.rng.range(0..3) as usize, self.rng.unit_f32() * 8.0 - 4.0);
            self.sim.room_mut().world_mut().get_mut::<Position>(bodies[n]).unwrap().0[0] += step;
        }
    }

    fn audience(&mut self) -> Audience {
        match self.rng.range(0..6) {
            0 => Audience::OWNER,
            1 => Audience::mask(RED),
            2 => Audience::mask(BLUE).near(),
            3 => Audience::EVERYONE,
            _ => Audience::EVERYONE.near(),
        }
    }

    /// Whether somebody may see an entity, and is its owner, worked out from its components.
    fn may_see(&self, name: &str, entity: Entity) -> (bool, bool) {
        let (room, mask) = (
            self.sim.room(),
            if name == "ann" {
                RED
            } else if name == "ben" {
                BLUE
            } else {
                0
            },
        );
        let (world, body) = (room.world(), room.entity(EntityId::named(name)).unwrap());
        let owns = entity == body || world.get::<OwnedBy>(entity).is_some_and(|owner| owner.0 == body);
        let audience = world.get::<Audience>(entity).copied().unwrap_or(Audience::EVERYONE);
        let revealed = world.get::<RevealedTo>(entity).is_some_and(|to| to.contains(EntityId::named(name)));
        let place = |entity| world.get::<Position>(entity).map(|position| position.0[0]);
        let near = place(entity).zip(place(body)).is_some_and(|(a, b)| (a - b).abs() <= REACH);
        let admitted = [(Audience::OWNER, false), (Audience::mask(RED), mask == RED), (Audience::mask(BLUE).near(), mask == BLUE && near)]
            .iter()
            .find(|(of, _)| *of == audience)
            .map_or(!audience.is_restricted() || near, |(_, admitted)| *admitted);
        (owns || revealed || admitted, owns)
    }

    /// Ticks, and notes who may see which marks.
    fn tick(&mut self) {
        self.sim.tick();
        let tick = self.sim.room().tick_now();
        let world = self.sim.room_mut().world_mut();
        let things: Vec<Entity> = world.query_filtered::<Entity, With<NetId>>().iter(world).collect();
        for thing in things {
            let world = self.sim.room().world();
            let motion = world.get::<Motion>(thing).map(|motion| (motion.0, "motion"));
            let kind = world.get::<Kind>(thing).map(|kind| (kind.0, "kind"));
            let hand = world.get::<Hand>(thing).map(|hand| (hand.0, "hand"));
            let orders = world.get::<Orders>(thing).map(|orders| (orders.0, "orders"));
            for (mark, what) in [motion, kind, hand, orders].into_iter().flatten() {
                let may = |name: &&str| {
                    let (sees, owns) = self.may_see(name, thing);
                    sees && match what {
                        "hand" => owns,
                        "orders" => owns || *name == "ann",
                        _ => true,
                    }
                };
                let who: Vec<&'static str> = NAMES.into_iter().filter(may).collect();
                self.seen.entry(mark).or_insert_with(|| (BTreeSet::new(), format!("{what} of tick {tick}"))).0.extend(who);
            }
        }
    }

    /// The state of the room as somebody may know it.
    fn expected(&mut self, name: &'static str) -> BTreeMap<(NetId, String), serde_json::Value> {
        let state = self.sim.room_state();
        let known = flat(&state, self.sim.room().world().resource::<Protocol>());
        let by_id: BTreeMap<NetId, Entity> = {
            let world = self.sim.room_mut().world_mut();
            world.query::<(Entity, &NetId)>().iter(world).map(|(entity, id)| (*id, entity)).collect()
        };
        let may = |(id, component): &(NetId, String)| {
            let (sees, owns) = self.may_see(name, by_id[id]);
            sees && match component.as_str() {
                "hand" => owns,
                "orders" => owns || name == "ann",
                _ => true,
            }
        };
        let mut expected: BTreeMap<_, _> = known.into_iter().filter(|(key, _)| may(key)).collect();
        // A reference to somebody who is not seen is none.
        let unseen: Vec<_> = expected
            .keys()
            .filter(|(id, component)| {
                let target = self.sim.room().world().get::<OwnedBy>(by_id[id]).map(|owner| owner.0);
                component == "owned_by" && target.is_some_and(|target| !self.may_see(name, target).0)
            })
            .cloned()
            .collect();
        unseen.iter().for_each(|key| drop(expected.remove(key)));
        expected
    }

    /// Checks that everybody has exactly what they may know.
    fn check(&mut self) {
        for name in NAMES {
            let expected = self.expected(name);
            let state = self.sim.client_state(name);
            let known = flat(&state, self.sim.room().world().resource::<Protocol>());
            for (key, value) in &expected {
                assert_eq!(known.get(key), Some(value), "{name} {key:?}");
            }
            for key in known.keys() {
                assert!(expected.contains_key(key), "{name} knows {key:?}");
            }
        }
    }

    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.change();
            self.tick();
        }
    }

    /// Searches what was sent for what must not be there.
    fn search(&self) {
        for name in NAMES {
            let packets = self.sim.client_of(name).packets();
            let sent: BTreeSet<&[u8]> = packets.iter().flat_map(|packet| packet.windows(12)).collect();
            let (mut found, mut secrets) = (0, 0);
            for (mark, (who, what)) in &self.seen {
                if who.contains(name) {
                    found += usize::from(sent.contains(&mark[..]));
                } else {
                    assert!(!sent.contains(&mark[..]), "{name} was sent a secret: {what}");
                    secrets += 1;
                }
            }
            assert!(found > 50 && secrets > 50, "the search finds what was sent: {found} of what {name} may see, {secrets} secrets");
        }
    }
}

fn flat(state: &State, protocol: &Protocol) -> BTreeMap<(NetId, String), serde_json::Value> {
    let mut all = BTreeMap::new();
    let names: Vec<&str> = protocol.component_names().collect();
    for (id, entity) in state.entities() {
        for component in entity.components.keys() {
            let value = state.component(protocol, entity.identity.id(state.room()), names[*component]).unwrap();
            all.insert((*id, names[*component].to_owned()), value);
        }
    }
    all
}

#[test]
fn no_byte_about_what_somebody_must_not_see_reaches_them() {
    for seed in 0..6 {
        let mut game = Game::new(LinkConditions::PERFECT, seed);
        for _ in 0..60 {
            game.run(3);
            game.sim.tick();
            game.check();
        }
        game.search();
    }
}

#[test]
fn over_bad_links_everybody_ends_up_with_exactly_what_they_may_know() {
    let link =
        LinkConditions { delay_millis: 60, jitter_millis: 30, loss: 0.1, duplication: 0.02, reordering: 0.02, ..LinkConditions::PERFECT };
    for seed in 0..6 {
        let mut game = Game::new(link, seed);
        for _ in 0..10 {
            game.run(20);
            game.sim.settle();
            game.check();
        }
        game.search();
    }
}

fn shout(sim: &mut Sim, who: &str, words: &Mark) {
    let shouted = Shouted { who: EntityId::named(who), words: *words };
    sim.room_mut().world_mut().run_system_once(move |mut record: Recorder| record.fact(shouted.clone())).unwrap();
}

fn has(sim: &Sim, name: &str, mark: &Mark) -> bool {
    sim.client_of(name).packets().iter().any(|packet| packet.windows(12).any(|window| window == mark))
}

/// Two hidden things and a public one that refers to one of them.
#[test]
fn facts_and_references_tell_nobody_of_what_they_do_not_see() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
    for (name, mask) in [("ann", RED), ("ben", BLUE)] {
        sim.give(name, Senses::new().with_mask(mask));
        sim.client_mut(name).keep_packets();
    }
    sim.tick();
    let world = sim.room_mut().world_mut();
    let spy = world.spawn((EntityId::named("spy"), Name::new("spy"), Kind(*b"kind_of_spy_"), Audience::mask(RED))).id();
    let crate_ = world.spawn((EntityId::named("crate"), Kind(*b"kind_crate__"), OwnedBy(spy))).id();
    sim.tick();
    let owner = |sim: &Sim, name: &str| {
        let world = sim.client_of(name).world();
        let entity = world.resource::<Replica>().entity(EntityId::named("crate")).unwrap();
        world.get::<OwnedBy>(entity).map(|owner| owner.0)
    };
    let of_spy = |sim: &Sim, name: &str| sim.client_of(name).world().resource::<Replica>().entity(EntityId::named("spy"));
    assert_eq!((owner(&sim, "ann"), owner(&sim, "ben")), (of_spy(&sim, "ann"), None));
    assert!(of_spy(&sim, "ann").is_some() && of_spy(&sim, "ben").is_none());
    // Who does not see whom a fact names does not hear of it.
    shout(&mut sim, "spy", b"a_whispering");
    shout(&mut sim, "ann", b"a_loud_shout");
    sim.tick();
    for (mark, to_ben) in [(b"a_whispering", false), (b"a_loud_shout", true), (b"kind_of_spy_", false)] {
        assert_eq!((has(&sim, "ann", mark), has(&sim, "ben", mark)), (true, to_ben), "{}", String::from_utf8_lossy(mark));
    }
    // Ben comes to see the spy, and what belongs to it, then loses both.
    sim.room_mut().world_mut().entity_mut(spy).insert(RevealedTo::users([EntityId::named("ben")]));
    sim.tick();
    assert!(of_spy(&sim, "ben").is_some());
    assert_eq!(owner(&sim, "ben"), of_spy(&sim, "ben"));
    sim.room_mut().world_mut().entity_mut(spy).remove::<RevealedTo>();
    sim.tick();
    assert_eq!((of_spy(&sim, "ben"), owner(&sim, "ben")), (None, None));
    assert!(sim.room().world().get::<OwnedBy>(crate_).is_some());
}

/// All that ben is sent while a crate belongs to a spy whom he does not see, or to nobody, until the spy ends.
fn sent_to_ben(of_spy: bool) -> Vec<Vec<u8>> {
    let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
    sim.give("ann", Senses::new().with_mask(RED));
    sim.client_mut("ben").keep_packets();
    let spy = sim.room_mut().world_mut().spawn((EntityId::named("spy"), Kind(*b"kind_of_spy_"), Audience::mask(RED))).id();
    sim.run_ticks(2);
    let aim = if of_spy { spy } else { Entity::PLACEHOLDER };
    let mut crate_ = sim.room_mut().world_mut().spawn((EntityId::named("crate"), Kind(*b"kind_crate__"), Aim(aim)));
    if of_spy {
        crate_.insert(OwnedBy(spy));
    }
    sim.run_ticks(4);
    sim.room_mut().world_mut().despawn(spy);
    sim.run_ticks(4);
    assert!(has(&sim, "ben", b"kind_crate__"));
    sim.client_of("ben").packets().iter().map(|packet| packet.to_vec()).collect()
}

#[test]
fn what_belongs_to_somebody_hidden_is_told_as_what_belongs_to_nobody_from_its_birth_to_the_end_of_its_owner() {
    assert!(sent_to_ben(true) == sent_to_ben(false), "ben is sent other bytes");
}

#[test]
fn what_refers_to_something_hidden_is_told_though_it_has_the_number_of_another_that_said_the_same() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
    sim.give("ann", Senses::new().with_mask(RED));
    let spy = sim.room_mut().world_mut().spawn((EntityId::named("spy"), Kind(*b"kind_of_spy_"), Audience::mask(RED))).id();
    sim.run_ticks(2);
    let mut numbers = BTreeSet::new();
    for _ in 0..3 {
        let crate_ = sim.room_mut().world_mut().spawn((EntityId::named("crate"), Kind(*b"kind_crate__"), OwnedBy(spy), Aim(spy))).id();
        sim.run_ticks(2);
        numbers.insert(*sim.room().world().get::<NetId>(crate_).unwrap());
        for (name, sees) in [("ann", true), ("ben", false)] {
            let world = sim.client_of(name).world();
            let entity = |name: &str| world.resource::<Replica>().entity(EntityId::named(name));
            let (there, spy) = (entity("crate").unwrap(), entity("spy"));
            assert_eq!(spy.is_some(), sees);
            assert_eq!(world.get::<OwnedBy>(there).map(|owner| owner.0), spy, "{name}");
            assert_eq!(world.get::<Aim>(there).map(|aim| aim.0), Some(spy.unwrap_or(Entity::PLACEHOLDER)), "{name}");
        }
        sim.room_mut().world_mut().entity_mut(crate_).despawn();
        sim.tick();
    }
    assert_eq!(numbers.len(), 1, "they had one number after the other");
    assert_eq!(sim.settle().assert_converged(), 2);
}

#[test]
fn who_loses_a_thing_loses_what_its_owner_alone_may_know_though_that_goes_in_the_same_tick() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
    let [ann, ben] = ["ann", "ben"].map(|name| sim.room().entity(EntityId::named(name)).unwrap());
    let hand = |sim: &Sim, name: &str| {
        let world = sim.client_of(name).world();
        let purse = world.resource::<Replica>().entity(EntityId::named("purse")).unwrap();
        world.get::<Hand>(purse).is_some()
    };
    for next in [None, Some(ben)] {
        let world = sim.room_mut().world_mut();
        let purse = world.spawn((EntityId::named("purse"), Kind(*b"kind_purse__"), Hand(*b"gold_and_so_"), OwnedBy(ann))).id();
        sim.run_ticks(2);
        assert_eq!((hand(&sim, "ann"), hand(&sim, "ben")), (true, false));
        let mut purse = sim.room_mut().world_mut().entity_mut(purse);
        purse.remove::<(OwnedBy, Hand)>();
        if let Some(next) = next {
            purse.insert(OwnedBy(next));
        }
        sim.run_ticks(2);
        assert_eq!((hand(&sim, "ann"), hand(&sim, "ben")), (false, false));
        assert_eq!(sim.settle().assert_converged(), 2);
        let purse = sim.room().entity(EntityId::named("purse")).unwrap();
        sim.room_mut().world_mut().entity_mut(purse).despawn();
        sim.tick();
    }
}

#[test]
fn what_is_said_of_somebody_hidden_after_its_end_is_told_to_nobody() {
    for (protocol, always) in [(protocol as fn(&mut App), true), (open_protocol as fn(&mut App), false)] {
        let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
        sim.give("ann", Senses::new().with_mask(RED));
        ["ann", "ben"].iter().for_each(|name| sim.client_mut(name).keep_packets());
        let spy = sim.room_mut().world_mut().spawn((EntityId::named("spy"), Kind(*b"kind_of_spy_"), Audience::mask(RED))).id();
        sim.run_ticks(2);
        sim.room_mut().world_mut().entity_mut(spy).despawn();
        sim.tick();
        shout(&mut sim, "spy", b"a_whispering");
        shout(&mut sim, "ann", b"a_loud_shout");
        sim.tick();
        assert!(sim.room().is_secretive(), "what is said is a secret by itself");
        sim.run_ticks(2);
        assert_eq!(sim.room().is_secretive(), always);
        for name in ["ann", "ben"] {
            assert!(has(&sim, name, b"a_loud_shout") && !has(&sim, name, b"a_whispering"), "{name}");
        }
        assert_eq!(sim.settle().assert_converged(), 2);
    }
}

#[test]
fn what_is_said_of_somebody_hidden_in_the_tick_of_its_end_is_told_as_of_itself_and_of_nobody_who_ends_beside_it() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
    sim.give("ann", Senses::new().with_mask(RED));
    ["ann", "ben"].iter().for_each(|name| sim.client_mut(name).keep_packets());
    // Between two that everybody sees, so that whichever is taken for it is another.
    let audiences = [Audience::EVERYONE, Audience::mask(RED), Audience::EVERYONE];
    let things: Vec<Entity> = ["torch", "spy", "lamp"]
        .into_iter()
        .zip(audiences)
        .map(|(name, audience)| sim.room_mut().world_mut().spawn((EntityId::named(name), Kind(*b"kind_of_some"), audience)).id())
        .collect();
    sim.run_ticks(2);
    shout(&mut sim, "spy", b"a_whispering");
    shout(&mut sim, "lamp", b"a_loud_shout");
    things.iter().for_each(|thing| sim.room_mut().world_mut().entity_mut(*thing).despawn());
    sim.run_ticks(3);
    for (mark, to_ben) in [(b"a_whispering", false), (b"a_loud_shout", true)] {
        assert_eq!((has(&sim, "ann", mark), has(&sim, "ben", mark)), (true, to_ben), "{}", String::from_utf8_lossy(mark));
    }
}

#[test]
fn what_goes_of_a_public_thing_is_told_to_everybody_and_what_goes_of_a_hidden_one_to_those_who_see_it() {
    let mut sim = Sim::new(open_protocol, |_| {}).client("ann").client("ben");
    sim.give("ann", Senses::new().with_mask(RED));
    let world = sim.room_mut().world_mut();
    let [public, hidden] = [Audience::EVERYONE, Audience::mask(RED)].map(|audience| world.spawn((Kind(*b"kind_of_some"), audience)).id());
    sim.run_ticks(2);
    assert!(sim.room().is_secretive());
    for thing in [public, hidden] {
        sim.room_mut().world_mut().entity_mut(thing).remove::<Kind>();
    }
    sim.run_ticks(2);
    let kinds = |sim: &mut Sim, name: &str| {
        let world = sim.client_mut(name).world_mut();
        world.query::<&Kind>().iter(world).count()
    };
    assert_eq!((kinds(&mut sim, "ann"), kinds(&mut sim, "ben")), (0, 0));
    assert_eq!(sim.settle().assert_converged(), 2);
    // Once nothing is hidden any more the room has no secrets.
    sim.room_mut().world_mut().entity_mut(hidden).insert(Audience::EVERYONE);
    sim.run_ticks(3);
    assert!(!sim.room().is_secretive());
    assert_eq!(sim.settle().assert_converged(), 2);
}

/// What a client was told of entities that it has no more.
#[derive(Resource, Default)]
struct Lost(Vec<(EntityId, Removal)>);

#[test]
fn a_client_can_tell_what_is_gone_from_what_is_out_of_its_sight() {
    let mut sim = Sim::new(protocol, rules).seed(3);
    sim.join("ann");
    sim.give("ann", (Senses::new().with_reach(Reach { enter: REACH, leave: REACH }), Position([0.0, 0.0])));
    let world = sim.client_mut("ann").world_mut();
    world.init_resource::<Lost>();
    world.add_observer(|lost: On<EntityRemoved>, mut all: ResMut<Lost>| all.0.push((lost.id, lost.why)));
    let near = |x: f32| (Kind([1; 12]), Position([x, 0.0]), Audience::EVERYONE.near());
    let [walker, victim, stranger, public] = [near(1.0), near(2.0), near(50.0), near(3.0)].map(|of| {
        let world = sim.room_mut().world_mut();
        world.spawn(of).id()
    });
    sim.room_mut().world_mut().entity_mut(public).remove::<Audience>();
    sim.run_ticks(4);
    let id = |sim: &Sim, entity: Entity| *sim.room().world().get::<EntityId>(entity).unwrap();
    let [walker_id, victim_id, public_id] = [walker, victim, public].map(|entity| id(&sim, entity));
    sim.room_mut().world_mut().get_mut::<Position>(walker).unwrap().0[0] = 40.0;
    sim.run_ticks(4);
    assert_eq!(sim.client_of("ann").world().resource::<Lost>().0, [(walker_id, Removal::OutOfSight)]);
    // It comes back, and dies before her eyes; another dies where she does not see it.
    sim.room_mut().world_mut().get_mut::<Position>(walker).unwrap().0[0] = 4.0;
    sim.run_ticks(4);
    assert!(sim.client_of("ann").world().resource::<Replica>().entity(walker_id).is_some());
    for entity in [walker, victim, stranger, public] {
        sim.room_mut().world_mut().entity_mut(entity).despawn();
        sim.run_ticks(2);
    }
    let lost = &sim.client_of("ann").world().resource::<Lost>().0;
    let gone = [walker_id, victim_id, public_id].map(|id| (id, Removal::Gone));
    assert_eq!(lost[1..], gone);
}

#[derive(Serialize, Deserialize)]
struct Step;
#[derive(Clone, Serialize, Deserialize)]
struct Stepped;

fn steps(app: &mut App) {
    app.decide(|_: In<Issued<Step>>| -> Decision { accept(Stepped) });
}

fn with_steps(app: &mut App) {
    protocol(app);
    app.command::<Step>("step").stateless_fact::<Stepped>("stepped");
}

#[test]
fn who_changes_sides_sees_what_the_other_side_sees_though_it_never_stops_to_ask() {
    let mut sim = Sim::new(with_steps, steps).seed(5).link("rtt=40ms".parse().unwrap());
    sim.join("ann");
    let flag = (EntityId::named("flag"), Kind(*b"a_blue_flag_"), Audience::mask(BLUE));
    sim.room_mut().world_mut().spawn(flag);
    sim.give("ann", Senses::new().with_mask(RED));
    let sees = |sim: &Sim| sim.client_of("ann").world().resource::<Replica>().entity(EntityId::named("flag")).is_some();
    for mask in [BLUE, RED, BLUE] {
        for _ in 0..40 {
            sim.issue("ann", &Step).tick();
        }
        sim.give("ann", Senses::new().with_mask(mask));
        // Every tick brings her the answer to what she did in the last.
        let waited = (0..40).take_while(|_| sees(sim.issue("ann", &Step).tick()) != (mask == BLUE)).count();
        assert!(waited <= 6, "{waited} ticks");
    }
    assert!(sim.errors().is_empty() && sim.lobby_mut().counters().resyncs >= 3);
}

/// What only its owner is told, and is long: since which tick it is so.
#[derive(Component, Serialize, Deserialize, Clone)]
struct Pack(u32, Vec<u8>);

#[derive(Resource)]
struct Packing(bool);

fn with_packs(app: &mut App) {
    protocol(app);
    app.sync::<Pack>("pack").to_owner();
}

/// Something that all see changes in every tick, and the pack in two of three, if it does.
fn pack(app: &mut App) {
    app.insert_resource(Packing(false)).add_systems(
        FixedUpdate,
        |clock: Res<RoomClock>, packing: Res<Packing>, mut kinds: Query<&mut Kind>, mut packs: Query<&mut Pack>| {
            let tick = clock.tick().0;
            kinds.iter_mut().for_each(|mut kind| kind.0 = std::array::from_fn(|at| (tick >> (at % 4 * 8)) as u8));
            if packing.0 && !tick.is_multiple_of(3) {
                packs.iter_mut().for_each(|mut pack| *pack = Pack(tick, vec![tick as u8; 2_000]));
            }
        },
    );
}

#[test]
fn what_one_is_told_of_a_tick_whose_batch_was_dropped_is_not_taken_for_that_of_another() {
    let mut resyncs = 0;
    for seed in 0..4 {
        let link = LinkConditions { kbit_per_second: 128, delay_millis: 20, ..LinkConditions::PERFECT };
        let mut sim = Sim::new(with_packs, pack).seed(seed).link(link).limits(|limits| limits.queue_bytes_max = 8_000);
        sim.join("ann");
        sim.room_mut().world_mut().spawn(Kind([0; 12]));
        sim.give("ann", Pack(0, Vec::new()));
        let mut packed: BTreeMap<u32, u32> = BTreeMap::new();
        for round in 0..6 {
            for packing in [true, false] {
                sim.room_mut().world_mut().resource_mut::<Packing>().0 = packing;
                for _ in 0..80 + 7 * round {
                    sim.tick();
                    let now = sim.room().tick_now().0;
                    let world = sim.room_mut().world_mut();
                    packed.insert(now, world.query::<&Pack>().single(world).unwrap().0);
                    assert!(sim.errors().is_empty() && sim.client_of("ann").is_live(), "{:?} in tick {now} of seed {seed}", sim.errors());
                    let world = sim.client_mut("ann").world_mut();
                    let (tick, shown) =
                        (world.resource::<Replica>().ordered_tick().0, world.query::<&Pack>().single(world).ok().map(|pack| pack.0));
                    assert!(
                        tick < 4 || shown == packed.get(&tick).copied(),
                        "tick {tick} of seed {seed}: {shown:?}, {:?}",
                        packed.get(&tick)
                    );
                }
            }
        }
        resyncs += sim.lobby_mut().counters().resyncs;
    }
    assert!(resyncs > 10, "{resyncs}");
}
