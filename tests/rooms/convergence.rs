//! A replica equals the room after every batch, whatever is thrown at the room.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use proptest::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Protocol, State, Step};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Health(i16);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
#[component(storage = "SparseSet")]
struct Burning(String);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Target {
    #[entities]
    entity: Entity,
    weight: u8,
}

impl Quantity for Health {
    type Amount = i16;
    fn amount(&self) -> i16 {
        self.0
    }
    fn set_amount(&mut self, amount: i16) {
        self.0 = amount;
    }
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Health>("health").quantity();
    app.sync::<Burning>("burning");
    app.sync_mapped::<Target>("target");
    app.sync_relationship::<ChildOf>("parent");
}

/// The same, but nothing is sent twice.
fn sparing(app: &mut App) {
    app.sync::<Position>("position").latest().when_different();
    app.sync::<Health>("health").quantity().when_different();
    app.sync::<Burning>("burning").when_different();
    app.sync_mapped::<Target>("target").when_different();
    app.sync_relationship::<ChildOf>("parent");
}

/// One thing that happens to the room. Numbers pick entities modulo how many there are.
#[derive(Clone, Debug)]
enum Blow {
    Spawn { health: bool, burning: bool },
    SpawnAndDespawn,
    Despawn(u8),
    Move(u8, f32),
    Hit(u8, Step<i16>),
    Overwrite(u8, i16),
    Burn(u8, String),
    Douse(u8),
    DouseAndBurn(u8),
    Aim(u8, u8),
    Adopt(u8, u8),
    Free(u8),
    Hide(u8),
    Show(u8),
    Tick,
    Join,
    Leave,
}

fn step() -> impl Strategy<Value = Step<i16>> {
    prop_oneof![
        any::<i16>().prop_map(Step::Inc),
        any::<i16>().prop_map(Step::Dec),
        (0..i16::MAX, any::<i16>()).prop_map(|(by, max)| Step::IncMax { by, max }),
        (0..i16::MAX, any::<i16>()).prop_map(|(by, min)| Step::DecMin { by, min }),
    ]
}

fn blow() -> impl Strategy<Value = Blow> {
    let pick = any::<u8>;
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(health, burning)| Blow::Spawn { health, burning }),
        1 => Just(Blow::SpawnAndDespawn),
        2 => pick().prop_map(Blow::Despawn),
        3 => (pick(), -1e3f32..1e3).prop_map(|(who, x)| Blow::Move(who, x)),
        4 => (pick(), step()).prop_map(|(who, step)| Blow::Hit(who, step)),
        1 => (pick(), any::<i16>()).prop_map(|(who, health)| Blow::Overwrite(who, health)),
        2 => (pick(), "[a-z]{0,3}").prop_map(|(who, how)| Blow::Burn(who, how)),
        1 => pick().prop_map(Blow::Douse),
        1 => pick().prop_map(Blow::DouseAndBurn),
        2 => (pick(), pick()).prop_map(|(who, at)| Blow::Aim(who, at)),
        2 => (pick(), pick()).prop_map(|(who, parent)| Blow::Adopt(who, parent)),
        1 => pick().prop_map(Blow::Free),
        1 => pick().prop_map(Blow::Hide),
        1 => pick().prop_map(Blow::Show),
        5 => Just(Blow::Tick),
        1 => Just(Blow::Join),
        1 => Just(Blow::Leave),
    ]
}

struct Arena {
    sim: Sim,
    entities: Vec<Entity>,
    joined: u32,
}

impl Arena {
    fn new(link: LinkConditions, seed: u64) -> Self {
        let protocol = if seed.is_multiple_of(3) { sparing } else { protocol };
        let mut sim = Sim::new(protocol, |_| {}).seed(seed).link(link).options(|options| options.notes = seed.is_multiple_of(2));
        sim.join("first");
        Self { sim, entities: Vec::new(), joined: 0 }
    }

    fn pick(&self, number: u8) -> Option<Entity> {
        (!self.entities.is_empty()).then(|| self.entities[usize::from(number) % self.entities.len()])
    }

    fn strike(&mut self, blow: &Blow) {
        let world = self.sim.room().world();
        self.entities.retain(|entity| world.get_entity(*entity).is_ok());
        match blow {
            Blow::Tick => {
                self.sim.tick();
                self.sim.assert_converged();
            }
            Blow::Join if self.sim.client_names().len() < 4 => {
                self.joined += 1;
                self.sim.connect(&format!("guest{}", self.joined), self.joined.is_multiple_of(3));
            }
            Blow::Leave => {
                let guest = self.sim.client_names().into_iter().find(|name| name != "first" && self.sim.client_of(name).is_live());
                if let Some(guest) = guest {
                    self.sim.leave(&guest);
                }
            }
            Blow::Join => {}
            other => self.strike_world(other),
        }
    }

    fn strike_world(&mut self, blow: &Blow) {
        let place = Position([1.0, 2.0]);
        match blow {
            Blow::Spawn { health, burning } => {
                let mut entity = self.sim.room_mut().world_mut().spawn(place);
                if *health {
                    entity.insert(Health(50));
                }
                if *burning {
                    entity.insert(Burning("hot".into()));
                }
                let entity = entity.id();
                self.entities.push(entity);
            }
            Blow::SpawnAndDespawn => {
                let world = self.sim.room_mut().world_mut();
                let entity = world.spawn((place, Health(1))).id();
                world.despawn(entity);
            }
            _ => self.strike_entity(blow),
        }
    }

    fn strike_entity(&mut self, blow: &Blow) {
        let (Blow::Despawn(who)
        | Blow::Move(who, _)
        | Blow::Hit(who, _)
        | Blow::Overwrite(who, _)
        | Blow::Burn(who, _)
        | Blow::Douse(who)
        | Blow::DouseAndBurn(who)
        | Blow::Aim(who, _)
        | Blow::Adopt(who, _)
        | Blow::Free(who)
        | Blow::Hide(who)
        | Blow::Show(who)) = blow
        else {
            return;
        };
        let Some(entity) = self.pick(*who) else { return };
        let other = match blow {
            Blow::Aim(_, other) | Blow::Adopt(_, other) => self.pick(*other),
            _ => None,
        };
        let world = self.sim.room_mut().world_mut();
        let descends = other.is_some_and(|other| {
            let mut up = Some(other);
            while let Some(at) = up.filter(|at| *at != entity) {
                up = world.get::<ChildOf>(at).map(|parent| parent.0);
            }
            up.is_some()
        });
        let mut target = world.entity_mut(entity);
        match blow {
            Blow::Despawn(_) => target.despawn(),
            Blow::Move(_, x) => drop(target.insert(Position([*x, 0.0]))),
            Blow::Overwrite(_, health) => drop(target.insert(Health(*health))),
            Blow::Burn(_, how) => drop(target.insert(Burning(how.clone()))),
            Blow::Douse(_) => drop(target.remove::<Burning>()),
            Blow::DouseAndBurn(_) => drop(target.remove::<Burning>().insert(Burning("again".into()))),
            Blow::Aim(..) => drop(target.insert(Target { entity: other.unwrap(), weight: 3 })),
            Blow::Adopt(..) if !descends => drop(target.insert(ChildOf(other.unwrap()))),
            Blow::Free(_) => drop(target.remove::<ChildOf>()),
            Blow::Hide(_) => drop(target.insert(Disabled)),
            Blow::Show(_) => drop(target.remove::<Disabled>()),
            Blow::Hit(_, step) => {
                let step = *step;
                world.run_system_once(move |mut health: Patch<Health>| health.step(entity, step).is_some()).unwrap();
            }
            _ => {}
        }
    }

    /// Everybody is up to date, and so is whoever only read the batches.
    fn finish(mut self) {
        self.sim.settle();
        assert_eq!(self.sim.assert_converged(), self.sim.client_names().len());
        let room = self.sim.room_state();
        let protocol = self.sim.room().world().resource::<Protocol>();
        let mut folded = State::new(room.room());
        for (_, batch) in self.sim.batches() {
            folded.apply(protocol, batch).unwrap();
            assert_eq!(turned(&folded.to_component_json(protocol).unwrap()), without_bare(&folded.to_json(protocol).unwrap()));
        }
        assert_eq!(room.difference(protocol, &folded), None, "the batches from the first on, folded, are the room");
    }
}

/// A state by component, arranged by entity.
fn turned(by_component: &Value) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut all: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for (component, entities) in by_component.as_object().unwrap() {
        for (entity, value) in entities.as_object().unwrap() {
            all.entry(entity.clone()).or_default().insert(component.clone(), value.clone());
        }
    }
    all
}

/// A state by entity, without the entities that have no component.
fn without_bare(by_entity: &Value) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut all: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_value(by_entity.clone()).unwrap();
    all.retain(|_, components| !components.is_empty());
    all
}

/// More by `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_replica_equals_the_room_after_every_batch(blows in prop::collection::vec(blow(), 1..80), seed in 0..1_000_u64) {
        let mut arena = Arena::new(LinkConditions::PERFECT, seed);
        blows.iter().for_each(|blow| arena.strike(blow));
        arena.finish();
    }

    #[test]
    fn every_replica_equals_the_room_over_bad_links(blows in prop::collection::vec(blow(), 1..60), seed in 0..1_000_u64) {
        let link = LinkConditions { delay_millis: 70, jitter_millis: 60, loss: 0.1, ..LinkConditions::PERFECT };
        let mut arena = Arena::new(link, seed);
        blows.iter().for_each(|blow| arena.strike(blow));
        arena.finish();
    }
}

#[test]
fn a_replica_that_is_written_to_says_what_differs_and_is_put_right() {
    let mut sim = Sim::new(protocol, |_| {}).client("ann");
    let id = EntityId::named("statue");
    let entity = sim.room_mut().world_mut().spawn((id, Position([1.0, 2.0]), Health(7))).id();
    sim.run_ticks(25);
    let replica = sim.client_of("ann").world().resource::<roomkeeper::client::Replica>().entity(id).unwrap();
    sim.client_mut("ann").world_mut().get_mut::<Health>(replica).unwrap().0 = 99;
    // A batch that is not of `latest` components alone carries the hash.
    sim.room_mut().world_mut().get_mut::<Position>(entity).unwrap().0 = [5.0, 5.0];
    sim.room_mut().world_mut().spawn(Health(1));
    sim.run_ticks(3);
    let told = sim.client_of("ann").told();
    assert_eq!(told.diverged.len(), 1);
    let diverged = &told.diverged[0];
    assert_eq!((diverged.id, diverged.component.as_str()), (id, "health"));
    assert_eq!((diverged.ours.clone(), diverged.theirs.clone()), (Some(99.into()), Some(7.into())));
    assert_eq!(sim.client_of("ann").world().get::<Health>(replica), Some(&Health(7)));
}

#[test]
fn a_second_difference_soon_after_the_first_is_put_right_too() {
    let mut sim = Sim::new(protocol, |_| {}).client("ann");
    let id = EntityId::named("statue");
    sim.room_mut().world_mut().spawn((id, Health(7)));
    sim.run_ticks(25);
    let replica = sim.client_of("ann").world().resource::<roomkeeper::client::Replica>().entity(id).unwrap();
    for _ in 0..2 {
        sim.client_mut("ann").world_mut().get_mut::<Health>(replica).unwrap().0 = 99;
        // The hash on its batch tells of it.
        sim.room_mut().world_mut().spawn(Health(1));
        sim.run_ticks(5);
    }
    assert_eq!(sim.client_of("ann").told().diverged.len(), 1, "a member is not sent two snapshots within a second");
    // Nothing happens any more that could tell of it again.
    sim.run_ticks(25);
    assert_eq!(sim.client_of("ann").world().get::<Health>(replica), Some(&Health(7)));
    assert_eq!(sim.client_of("ann").told().diverged.len(), 2);
    let counters = sim.lobby_mut().counters();
    assert_eq!((counters.resyncs, counters.resyncs_refused), (2, 1));
}

#[test]
fn a_replica_that_loses_a_component_or_an_entity_gets_it_back() {
    let mut sim = Sim::new(protocol, |_| {}).client("ann");
    let (statue, lamp) = (EntityId::named("statue"), EntityId::named("lamp"));
    let entity = sim.room_mut().world_mut().spawn((statue, Position([1.0, 2.0]), Health(7))).id();
    sim.room_mut().world_mut().spawn((lamp, Position([3.0, 4.0])));
    sim.run_ticks(25);
    let here = |sim: &Sim, id| sim.client_of("ann").world().resource::<roomkeeper::client::Replica>().entity(id).unwrap();
    let (lost, gone) = (here(&sim, statue), here(&sim, lamp));
    sim.client_mut("ann").world_mut().entity_mut(lost).remove::<Health>();
    sim.client_mut("ann").world_mut().despawn(gone);
    // A batch that is not of `latest` components alone carries the hash.
    sim.room_mut().world_mut().get_mut::<Position>(entity).unwrap().0 = [5.0, 5.0];
    sim.room_mut().world_mut().spawn(Health(1));
    sim.run_ticks(3);
    let told: Vec<_> = sim.client_of("ann").told().diverged.iter().map(|diverged| (diverged.id, diverged.component.clone())).collect();
    assert!(told.contains(&(statue, "health".into())) && told.contains(&(lamp, "position".into())), "{told:?}");
    assert_eq!(sim.client_of("ann").world().get::<Health>(lost), Some(&Health(7)));
    assert!(sim.client_of("ann").world().get_entity(here(&sim, lamp)).is_ok());
    // From then on nothing differs, whatever comes.
    let before = sim.client_of("ann").told().diverged.len();
    sim.room_mut().world_mut().entity_mut(entity).remove::<Health>();
    sim.run_ticks(3);
    sim.room_mut().world_mut().despawn(entity);
    sim.run_ticks(3);
    assert_eq!(sim.client_of("ann").told().diverged.len(), before);
}

#[test]
fn what_a_replica_lost_and_the_room_steps_comes_back_although_nothing_is_checked() {
    let mut sim = Sim::new(protocol, |_| {}).options(|options| options.check = false).client("ann");
    let ids = [EntityId::named("statue"), EntityId::named("lamp")];
    let world = sim.room_mut().world_mut();
    let entities = ids.map(|id| world.spawn((id, Health(7))).id());
    sim.run_ticks(25);
    let here = |sim: &Sim| ids.map(|id| sim.client_of("ann").world().resource::<roomkeeper::client::Replica>().entity(id).unwrap());
    let [lost, gone] = here(&sim);
    sim.client_mut("ann").world_mut().entity_mut(lost).remove::<Health>();
    sim.client_mut("ann").world_mut().despawn(gone);
    // What comes with the steps is not held up by them.
    let world = sim.room_mut().world_mut();
    world.run_system_once(move |mut health: Patch<Health>| entities.map(|entity| health.step(entity, Step::Dec(2)).is_some())).unwrap();
    world.spawn((EntityId::named("newcomer"), Burning("hot".into())));
    sim.run_ticks(5);
    assert!(sim.client_of("ann").is_live());
    let healths = here(&sim).map(|entity| sim.client_of("ann").world().get::<Health>(entity).cloned());
    assert_eq!(healths, [Some(Health(5)), Some(Health(5))]);
    assert_eq!(sim.lobby_mut().counters().resyncs, 1);
    let (room, replica) = (sim.room_state(), sim.client_state("ann"));
    assert_eq!(room.difference(sim.room().world().resource::<Protocol>(), &replica), None);
}
