//! Who sees what: against every pair worked out anew, in random worlds; and promise by promise.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use proptest::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ComponentAudience, Incoming, LeaveReason, NetId, User};
use roomkeeper::room::{Reach, RevealedTo, Room, RoomError, RoomOptions, SpectatorsSee, ViewerId, Viewers};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Position([f32; 3]);

#[derive(Component, Serialize, Deserialize)]
struct Secret(u8);

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Secret>("secret").to_owner();
    app.sync_relationship::<OwnedBy>("owned_by");
}

fn room(flat: bool) -> Room {
    let rules = move |app: &mut App| {
        match flat {
            true => app.places_by(|position: &Position| [position.0[0], position.0[1]]),
            false => app.places_by(|position: &Position| position.0),
        };
    };
    Room::new(RoomOptions::named("moor"), protocol, rules).unwrap()
}

fn user(n: usize) -> EntityId {
    EntityId::named(&format!("user{n}"))
}

/// What a rule says, beside the `Audience` that says it.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
struct Rule {
    everyone: bool,
    mask: u64,
    near: bool,
}

const PUBLIC: Rule = Rule { everyone: true, mask: 0, near: false };

impl Rule {
    fn nth(n: u16) -> Self {
        let (everyone, mask) = if n.is_multiple_of(3) { (true, 0) } else { (false, u64::from(n / 3) % 4) };
        Self { everyone, mask, near: n % 5 < 3 }
    }

    fn audience(self) -> Audience {
        let audience = if self.everyone { Audience::EVERYONE } else { Audience::mask(self.mask) };
        if self.near { audience.near() } else { audience }
    }

    fn restricted(self) -> bool {
        self != PUBLIC
    }
}

/// Everything worked out anew, for every pair.
struct Model {
    room: Room,
    flat: bool,
    viewers: Viewers,
    seats: BTreeMap<ViewerId, Option<EntityId>>,
    things: Vec<Entity>,
    /// The last rule of everything that ever was.
    rules: BTreeMap<Entity, Rule>,
    within: BTreeSet<(ViewerId, Entity)>,
    shown: BTreeMap<Entity, NetId>,
    /// Those of them that were restricted, in the last tick or since.
    were: BTreeSet<Entity>,
    saw: BTreeMap<ViewerId, BTreeSet<Entity>>,
    inbox: Vec<Incoming>,
}

fn place(n: u16, m: u16) -> [f32; 3] {
    let at = |n: u16| f32::from(n % 160) / 8.0;
    match n {
        ..=20 => [f32::NAN, at(m), 0.0],
        21..=40 => [at(m), f32::INFINITY, 0.0],
        41..=60 => [at(m) * 1e30, -at(n) * 1e36, 1e38],
        61..=80 => [at(m) + 3e9, at(n), at(m)],
        _ => [at(n), at(m), at(n ^ m) / 4.0],
    }
}

fn reach(n: u16) -> Reach {
    let enter = f32::from(n % 64) / 8.0;
    match n {
        ..=20 => Reach { enter: f32::NAN, leave: 3.0 },
        21..=40 => Reach { enter, leave: f32::INFINITY },
        41..=60 => Reach { enter: 1e12, leave: 0.0 },
        61..=80 => Reach { enter: -1.0, leave: 9.0 },
        81..=100 => Reach { enter: 0.0, leave: 0.0 },
        101..=120 => Reach { enter: 1e-30, leave: 1e-25 },
        _ => Reach { enter, leave: enter * 1.25 },
    }
}

impl Model {
    fn new(flat: bool) -> Self {
        Self {
            room: room(flat),
            flat,
            viewers: Viewers::new(),
            seats: BTreeMap::new(),
            things: Vec::new(),
            rules: BTreeMap::new(),
            within: BTreeSet::new(),
            shown: BTreeMap::new(),
            were: BTreeSet::new(),
            saw: BTreeMap::new(),
            inbox: Vec::new(),
        }
    }

    fn thing(&self, n: u16) -> Option<Entity> {
        let thing = *self.things.get(n as usize % self.things.len().max(1))?;
        self.room.world().get_entity(thing).ok().map(|_| thing)
    }

    fn body(&self, n: u16) -> Option<Entity> {
        self.room.entity(user(n as usize % 5))
    }

    fn rule(&mut self, thing: Entity, rule: Option<Rule>) {
        self.rules.insert(thing, rule.unwrap_or(PUBLIC));
        if rule.is_some_and(Rule::restricted) && self.shown.contains_key(&thing) {
            self.were.insert(thing);
        }
        let mut thing = self.room.world_mut().entity_mut(thing);
        match rule {
            Some(rule) => thing.insert(rule.audience()),
            None => thing.remove::<Audience>(),
        };
    }

    fn act(&mut self, (act, n, m): (u8, u16, u16)) -> Option<()> {
        match act {
            0 => self.inbox.push(Incoming::Join { user: user(n as usize % 5), name: String::new() }),
            1 => self.inbox.push(Incoming::Leave { user: user(n as usize % 5), reason: LeaveReason::Left }),
            2 if n % 3 > 0 => {
                let body = self.body(n)?;
                self.room.world_mut().despawn(body);
            }
            2 if self.body(n).is_none() => {
                let user = (user(n as usize % 5), User { name: String::new() }, Position(place(n, m)), Senses::new().with_reach(reach(m)));
                self.room.world_mut().spawn(user);
            }
            3 if self.seats.len() < 70 => {
                for _ in 0..=n % 3 {
                    let user = (m % 4 > 0).then(|| user(m as usize % 5));
                    let viewer = self.viewers.add(user);
                    assert_eq!(self.seats.insert(viewer, user), None);
                }
            }
            4 => {
                let viewer = *self.seats.keys().nth(n as usize % self.seats.len().max(1))?;
                self.seats.remove(&viewer);
                self.saw.remove(&viewer);
                self.within.retain(|(other, _)| *other != viewer);
                self.viewers.remove(viewer);
            }
            5..=7 => {
                let rule = (n % 7 > 0).then(|| Rule::nth(n));
                let thing = match rule {
                    Some(rule) => self.room.world_mut().spawn((Position(place(m, n)), rule.audience())).id(),
                    None => self.room.world_mut().spawn(Position(place(m, n))).id(),
                };
                self.things.push(thing);
                self.rules.insert(thing, rule.unwrap_or(PUBLIC));
            }
            8 => {
                let thing = self.thing(n)?;
                self.room.world_mut().despawn(thing);
            }
            9 => {
                let thing = self.thing(n)?;
                self.rule(thing, (m % 4 > 0).then(|| Rule::nth(m)));
            }
            10 => {
                let (thing, body) = (self.thing(n)?, self.body(m));
                let mut thing = self.room.world_mut().entity_mut(thing);
                match body.filter(|_| m % 3 > 0) {
                    Some(body) => thing.insert(OwnedBy(body)),
                    None => thing.remove::<OwnedBy>(),
                };
            }
            11 => {
                let thing = self.thing(n)?;
                let mut thing = self.room.world_mut().entity_mut(thing);
                match m % 3 {
                    0 => thing.remove::<RevealedTo>(),
                    _ => thing.insert(RevealedTo::users([user(m as usize % 5), user(m as usize / 7 % 5)])),
                };
            }
            12 => {
                let thing = self.thing(n)?;
                let mut thing = self.room.world_mut().entity_mut(thing);
                if thing.contains::<Disabled>() {
                    thing.remove::<Disabled>()
                } else {
                    thing.insert(Disabled)
                };
            }
            13 => {
                let senses = Senses { mask: u64::from(m % 4), focus: self.thing(m).filter(|_| m % 3 == 0), reach: reach(m) };
                let body = self.body(n)?;
                let mut body = self.room.world_mut().entity_mut(body);
                if m.is_multiple_of(11) {
                    body.remove::<Senses>()
                } else {
                    body.insert(senses)
                };
            }
            14 => {
                let sees = [SpectatorsSee::Public, SpectatorsSee::Mask(u64::from(m % 4)), SpectatorsSee::Everything];
                self.room.world_mut().insert_resource(sees[n as usize % 3]);
            }
            15 => {
                let thing = self.thing(n)?;
                self.room.world_mut().entity_mut(thing).remove::<Position>();
            }
            16..=19 => {
                let body = self.body(n)?;
                self.room.world_mut().entity_mut(body).insert(Position(place(m, n)));
            }
            _ => {
                let thing = self.thing(n)?;
                self.room.world_mut().entity_mut(thing).insert(Position(place(m, m.rotate_left(7))));
            }
        }
        Some(())
    }

    fn place_of(&self, entity: Entity) -> Option<[f32; 3]> {
        let [x, y, z] = self.room.world().get::<Position>(entity)?.0;
        let place = [x, y, if self.flat { 0.0 } else { z }];
        place.iter().all(|number| number.is_finite()).then_some(place)
    }

    /// From where, and how far, a user looks.
    fn eye(&self, user: Option<EntityId>) -> Option<([f32; 3], Reach)> {
        let body = self.room.entity(user?)?;
        let senses = self.room.world().get::<Senses>(body)?;
        let focus = senses.focus.unwrap_or(body);
        let place = self.place_of(focus).filter(|_| !self.room.world().entity(focus).contains::<Disabled>())?;
        let enter = senses.reach.enter.min(1e18);
        (enter >= 0.0 && !senses.reach.enter.is_nan()).then_some((place, Reach { enter, leave: senses.reach.leave.max(enter).min(1e18) }))
    }

    fn tick(&mut self) {
        self.room.tick(std::mem::take(&mut self.inbox)).unwrap();
        self.viewers.update(self.room.world_mut());
        let world = self.room.world_mut();
        let shown: BTreeMap<Entity, NetId> = world.query::<(Entity, &NetId)>().iter(world).map(|(entity, id)| (entity, *id)).collect();
        for (viewer, user) in self.seats.clone() {
            self.check(viewer, user, &shown);
        }
        self.shown = shown;
        let rules = &self.rules;
        self.were = self.shown.keys().copied().filter(|entity| rules.get(entity).is_some_and(|rule| rule.restricted())).collect();
    }

    fn sees(&mut self, viewer: ViewerId, user: Option<EntityId>, entity: Entity) -> bool {
        let rule = self.rules.get(&entity).copied().unwrap_or(PUBLIC);
        let spot = self.eye(user).zip(self.place_of(entity)).filter(|_| rule.near);
        let within = spot.is_some_and(|((eye, reach), place)| {
            let [x, y, z] = [place[0] - eye[0], place[1] - eye[1], place[2] - eye[2]];
            let square = x * x + y * y + z * z;
            square <= reach.enter * reach.enter || self.within.contains(&(viewer, entity)) && square <= reach.leave * reach.leave
        });
        if within {
            self.within.insert((viewer, entity))
        } else {
            self.within.remove(&(viewer, entity))
        };
        let world = self.room.world();
        let spectators = world.get_resource::<SpectatorsSee>().copied().unwrap_or_default();
        let body = user.and_then(|user| self.room.entity(user));
        let (mask, everything) = match (user, body, spectators) {
            (None, _, SpectatorsSee::Everything) => (0, true),
            (None, _, SpectatorsSee::Mask(mask)) => (mask, false),
            (Some(_), Some(body), _) => (world.get::<Senses>(body).map_or(0, |senses| senses.mask), false),
            _ => (0, false),
        };
        let own = self.owns(user, entity);
        let revealed = user.is_some_and(|user| world.get::<RevealedTo>(entity).is_some_and(|revealed| revealed.contains(user)));
        !rule.restricted() || everything || own || revealed || (rule.everyone || rule.mask & mask != 0) && (!rule.near || within)
    }

    fn owns(&self, user: Option<EntityId>, entity: Entity) -> bool {
        let body = user.and_then(|user| self.room.entity(user));
        body.is_some_and(|body| body == entity || self.room.world().get::<OwnedBy>(entity).is_some_and(|owner| owner.0 == body))
    }

    fn check(&mut self, viewer: ViewerId, user: Option<EntityId>, shown: &BTreeMap<Entity, NetId>) {
        let gone: Vec<Entity> = self.within.iter().filter(|(_, entity)| !shown.contains_key(entity)).map(|(_, entity)| *entity).collect();
        self.within.retain(|(_, entity)| !gone.contains(entity));
        let sees: BTreeSet<Entity> = shown.keys().copied().filter(|entity| self.sees(viewer, user, *entity)).collect();
        let saw = self.saw.insert(viewer, sees.clone()).unwrap_or_default();
        let now = |entity: &Entity| self.rules.get(entity).copied().unwrap_or(PUBLIC).restricted();
        // What became public is not told by the batch of that tick.
        let restricted = |entity: &Entity| now(entity) || self.were.contains(entity);
        let sorted = |ids: Vec<NetId>| ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        for (entity, id) in shown {
            assert_eq!(self.viewers.sees(viewer, *id), sees.contains(entity), "{viewer:?} {entity}");
            assert_eq!(self.viewers.is_restricted(*id), restricted(entity), "{entity}");
            assert_eq!(self.room.world().resource::<EntityIndex>().is_restricted(*id), now(entity), "{entity}");
            assert_eq!(self.viewers.is_owner(viewer, *id), self.owns(user, *entity), "{viewer:?} {entity}");
            let among = self.viewers.viewers_of(*id).any(|other| other == viewer);
            assert_eq!(among, restricted(entity) && sees.contains(entity), "{viewer:?} {entity}");
        }
        let entered = sees.difference(&saw).filter(|entity| restricted(entity));
        let left = saw.difference(&sees).filter(|entity| shown.contains_key(entity));
        let gone = saw.iter().filter(|entity| !shown.contains_key(entity) && restricted(entity));
        assert_eq!(self.viewers.entered(viewer), sorted(entered.map(|entity| shown[entity]).collect()), "entered {viewer:?}");
        assert_eq!(self.viewers.left(viewer), sorted(left.map(|entity| shown[entity]).collect()), "left {viewer:?}");
        assert_eq!(self.viewers.gone(viewer), sorted(gone.map(|entity| self.shown[entity]).collect()), "gone {viewer:?}");
        let seen = shown.iter().filter(|(entity, _)| sees.contains(entity) && restricted(entity)).map(|(_, id)| *id);
        assert_eq!(self.viewers.seen(viewer).collect::<Vec<_>>(), sorted(seen.collect()), "seen {viewer:?}");
    }
}

fn acts() -> impl Strategy<Value = Vec<Vec<(u8, u16, u16)>>> {
    let act = (0..28_u8, any::<u16>(), any::<u16>()).prop_map(|(act, n, m)| (act, n % 1024, m % 1024));
    prop::collection::vec(prop::collection::vec(act, 0..14), 1..40)
}

proptest! {
    #[test]
    fn each_viewer_sees_what_every_pair_worked_out_anew_says(acts in acts(), flat: bool) {
        let mut model = Model::new(flat);
        for user in 0..4 {
            for act in [0, 2, 3] {
                model.act((act, user * 3, user + 200));
            }
        }
        for tick in acts {
            for act in tick {
                let _ = model.act(act);
            }
            model.tick();
        }
    }
}

/// A room with Ann, Bob and a spectator in it.
struct Moor {
    room: Room,
    viewers: Viewers,
    ann: ViewerId,
    bob: ViewerId,
    spectator: ViewerId,
}

impl Moor {
    fn new() -> Self {
        let (mut room, mut viewers) = (room(true), Viewers::new());
        let [ann, bob] = [0, 1].map(|n| {
            room.tick([Incoming::Join { user: user(n), name: String::new() }]).unwrap();
            viewers.add(Some(user(n)))
        });
        let spectator = viewers.add(None);
        let mut moor = Self { room, viewers, ann, bob, spectator };
        moor.tick();
        moor
    }

    fn spawn(&mut self, bundle: impl Bundle) -> Entity {
        self.room.world_mut().spawn(bundle).id()
    }

    fn edit(&mut self, entity: Entity) -> EntityWorldMut<'_> {
        self.room.world_mut().entity_mut(entity)
    }

    fn body(&self, n: usize) -> Entity {
        self.room.entity(user(n)).unwrap()
    }

    fn tick(&mut self) {
        self.room.tick([]).unwrap();
        self.viewers.update(self.room.world_mut());
    }

    fn id(&self, entity: Entity) -> NetId {
        *self.room.world().get(entity).unwrap()
    }

    /// Who sees it: Ann, Bob, the spectator.
    fn seers(&self, entity: Entity) -> [bool; 3] {
        [self.ann, self.bob, self.spectator].map(|viewer| self.viewers.sees(viewer, self.id(entity)))
    }
}

const AT_HOME: Position = Position([0.0; 3]);

#[test]
fn what_is_restricted_is_so_before_its_first_batch_and_from_the_moment_on() {
    let mut moor = Moor::new();
    let (secret, open) = (moor.spawn((AT_HOME, Audience::OWNER)), moor.spawn(AT_HOME));
    let late = moor.spawn(Audience::OWNER);
    moor.edit(late).insert(AT_HOME);
    let ids = [secret, open, late].map(|entity| moor.id(entity));
    let restricted = |moor: &Moor| ids.map(|id| moor.room.world().resource::<EntityIndex>().is_restricted(id));
    assert_eq!(restricted(&moor), [true, false, true]);
    moor.edit(open).insert(Audience::mask(1));
    moor.edit(late).insert(Audience::EVERYONE);
    assert_eq!(restricted(&moor), [true, true, false]);
    moor.tick();
    moor.edit(open).remove::<Audience>();
    assert_eq!(restricted(&moor), [true, true, false], "not before those who don't know it were told");
    moor.tick();
    assert_eq!((restricted(&moor), moor.viewers.entered(moor.ann)), ([true, false, false], &ids[1..2]));
    moor.edit(open).insert(Audience::OWNER);
    moor.room.world_mut().despawn(secret);
    assert_eq!(restricted(&moor), [true, true, false], "its end is not told to all either");
}

#[test]
fn the_owner_sees_its_own_and_others_what_is_revealed_to_them() {
    let mut moor = Moor::new();
    let (ann, bob) = (moor.body(0), moor.body(1));
    let purse = moor.spawn((AT_HOME, Audience::OWNER, OwnedBy(ann)));
    moor.tick();
    assert_eq!(moor.seers(purse), [true, false, false]);
    moor.edit(purse).insert(RevealedTo::users([user(1)]));
    moor.tick();
    assert_eq!((moor.seers(purse), moor.viewers.entered(moor.bob)), ([true, true, false], &[moor.id(purse)][..]));
    moor.edit(purse).remove::<RevealedTo>();
    moor.tick();
    assert_eq!((moor.seers(purse), moor.viewers.left(moor.bob)), ([true, false, false], &[moor.id(purse)][..]));
    moor.edit(purse).insert(OwnedBy(bob));
    moor.tick();
    assert_eq!(moor.seers(purse), [false, true, false]);
    assert_eq!((moor.viewers.lost(moor.ann), moor.viewers.gained(moor.bob)), (&[moor.id(purse)][..], &[moor.id(purse)][..]));
    let (owner, team) = (ComponentAudience::Owner, ComponentAudience::Mask(1));
    assert!(moor.viewers.may_have(moor.bob, moor.id(purse), owner) && !moor.viewers.may_have(moor.ann, moor.id(purse), team));
}

#[test]
fn a_user_can_be_hidden_from_the_others() {
    let mut moor = Moor::new();
    let ghost = moor.body(1);
    moor.edit(ghost).insert(Audience::OWNER);
    moor.tick();
    assert_eq!(moor.seers(ghost), [false, true, false]);
    assert_eq!(moor.viewers.left(moor.ann), [moor.id(ghost)]);
    moor.edit(ghost).remove::<Audience>();
    moor.tick();
    assert_eq!(moor.seers(ghost), [true; 3]);
    assert_eq!((moor.viewers.entered(moor.ann), moor.viewers.entered(moor.bob)), (&[moor.id(ghost)][..], &[][..]));
}

#[test]
fn nobody_sees_more_without_an_avatar_or_senses_and_spectators_what_the_room_says() {
    let mut moor = Moor::new();
    let (ann, red) = (moor.body(0), moor.spawn((AT_HOME, Audience::mask(1))));
    let near = moor.spawn((AT_HOME, Audience::mask(1).near()));
    moor.edit(ann).insert((AT_HOME, Senses::new().with_mask(1).with_reach(Reach::within(1.0))));
    moor.tick();
    assert_eq!((moor.seers(red), moor.seers(near)), ([true, false, false], [true, false, false]));
    assert!(moor.viewers.rights_changed(moor.ann) && !moor.viewers.rights_changed(moor.bob));
    moor.room.world_mut().insert_resource(SpectatorsSee::Mask(3));
    moor.tick();
    assert_eq!((moor.seers(red), moor.seers(near)), ([true, false, true], [true, false, false]));
    moor.room.world_mut().insert_resource(SpectatorsSee::Everything);
    moor.room.world_mut().despawn(ann);
    moor.tick();
    assert_eq!((moor.seers(red), moor.seers(near)), ([false, false, true], [false, false, true]));
    assert_eq!(moor.viewers.left(moor.ann), [red, near].map(|entity| moor.id(entity)));
}

#[test]
fn what_dies_in_sight_is_gone_and_what_was_public_is_left_to_the_batch_for_all() {
    let mut moor = Moor::new();
    let (ann, open) = (moor.body(0), moor.spawn(AT_HOME));
    let secret = moor.spawn((AT_HOME, Audience::OWNER, OwnedBy(ann)));
    moor.tick();
    let ids = [open, secret].map(|entity| moor.id(entity));
    moor.room.world_mut().despawn(open);
    moor.room.world_mut().despawn(secret);
    moor.tick();
    assert_eq!((moor.viewers.gone(moor.ann), moor.viewers.left(moor.ann)), (&ids[1..], &[][..]));
    assert!(moor.viewers.gone(moor.bob).is_empty() && !moor.viewers.any_restricted());
}

#[test]
fn what_a_synced_component_requires_is_restricted_wherever_it_comes_from() {
    #[derive(Component, Serialize, Deserialize)]
    #[require(Audience = Audience::OWNER)]
    struct Card(u8);
    let register = |app: &mut App| {
        app.sync::<Card>("card");
    };
    let mut room = Room::new(RoomOptions::named("table"), register, |_| {}).unwrap();
    let card = room.world_mut().spawn(Card(7)).id();
    let id = *room.world().get::<NetId>(card).unwrap();
    assert!(room.world().resource::<EntityIndex>().is_restricted(id));
}

#[test]
fn places_come_from_one_component() {
    let rules = |app: &mut App| {
        app.places_by(|position: &Position| position.0).places_by(|secret: &Secret| [f32::from(secret.0)]);
    };
    let Err(RoomError::Rules(errors)) = Room::new(RoomOptions::named("moor"), protocol, rules) else { panic!("the room was built") };
    assert!(errors[0].contains("`places_by` was called twice"), "{errors:?}");
}
