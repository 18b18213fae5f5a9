//! The game of the doors: a component of each kind that a protocol can have, and rules that touch them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::protocol::{Angles, Codec, Protocol, Quantised, Ranged, Rejection, SmallestThree, State};
use crate::room::{Blueprint, Level, Room, RoomOptions};

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Pose {
    at: [f32; 3],
    yaw: f32,
}
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Rotation([f32; 4]);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq)]
struct Health(i32);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq)]
struct Heat(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, PartialEq)]
enum Door {
    Closed,
    Ajar(u8),
    Open { by: EntityId },
}
/// It takes no byte.
#[derive(Component, Serialize, Deserialize)]
struct Mark;
#[derive(Component, Serialize, Deserialize, Default)]
struct Bag {
    items: Vec<(String, u16)>,
    labels: BTreeMap<String, Option<u8>>,
    letter: Option<char>,
    long: (u64, i64),
}
#[derive(Component, Serialize, Deserialize)]
struct Card([i64; 2]);
#[derive(Component, Serialize, Deserialize, Clone)]
struct Aim {
    #[entities]
    at: Entity,
    others: Vec<u8>,
}
#[derive(Component, Serialize, Deserialize)]
struct Secret(u16);

#[derive(Serialize, Deserialize)]
struct Heal {
    by: i32,
}
#[derive(Serialize, Deserialize)]
struct Say {
    text: String,
    to: Vec<EntityId>,
    loud: Option<f32>,
}
#[derive(Serialize, Deserialize)]
struct Give {
    bag: BTreeMap<String, Vec<u8>>,
}
#[derive(Clone, Serialize, Deserialize)]
struct Healed {
    who: EntityId,
    by: i32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Said {
    by: EntityId,
    text: String,
    thing: EntityId,
}

macro_rules! quantities {
    ($($type:ident: $amount:ty)*) => {$(
        impl Quantity for $type {
            type Amount = $amount;
            fn amount(&self) -> $amount {
                self.0
            }
            fn set_amount(&mut self, amount: $amount) {
                self.0 = amount;
            }
        }
    )*};
}
quantities!(Health: i32 Heat: f32);

fn protocol_of(app: &mut App) {
    app.sync::<Position>("position").latest();
    let pose =
        (Quantised::new(-500.0..=500.0, 0.01), Angles::new(12)).via(|pose: &Pose| (pose.at, [pose.yaw]), |(at, [yaw])| Pose { at, yaw });
    app.sync_with("pose", pose).latest();
    app.sync_with("rotation", SmallestThree.via(|rotation: &Rotation| rotation.0, Rotation)).latest();
    app.sync::<Health>("health").quantity();
    app.sync::<Heat>("heat").quantity().latest();
    app.sync::<Door>("door");
    app.sync::<Mark>("mark").latest();
    app.sync::<Bag>("bag");
    app.sync_with("card", Ranged::new([0..=3, -100..=100]).via(|card: &Card| card.0, Card));
    app.sync_mapped::<Aim>("aim");
    app.sync::<Ttl>("ttl");
    app.sync_relationship::<OwnedBy>("owned_by");
    app.command::<Heal>("heal").command::<Say>("say").command::<Give>("give");
    app.fact::<Healed>("healed").fact::<Said>("said");
}

fn rules(app: &mut App) {
    app.decide(|heal: In<Issued<Heal>>| -> Decision {
        if heal.by == 0 {
            return Err(Rejection::new("no_use").because("nothing to heal"));
        }
        accept(Healed { who: heal.author_id, by: heal.by })
    });
    app.decide(|say: In<Issued<Say>>| -> Decision {
        if say.to.len() > 3 || say.loud.is_some_and(|loud| loud > 9.0) {
            return reject("too_loud");
        }
        accept(Said { by: say.author_id, text: say.text.clone(), thing: say.new_id(0) })
    });
    app.decide(|give: In<Issued<Give>>| -> Decision {
        if give.bag.is_empty() { reject("empty") } else { reject("full") }
    });
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Health(50), Position([1.0, 2.0]), Rotation([0.0, 0.6, 0.0, -0.8]), Bag::default()));
    });
    app.apply(|healed: On<Happened<Healed>>, index: Res<EntityIndex>, mut health: Patch<Health>| {
        if let Some(who) = index.entity(healed.who) {
            health.inc_max(who, healed.by, 100);
        }
    });
    app.apply(|said: On<Happened<Said>>, index: Res<EntityIndex>, mut commands: Commands| {
        let bag = Bag { items: vec![(said.text.clone(), 1)], ..Bag::default() };
        let owner = index.entity(said.by).map(OwnedBy);
        let mut thing = commands.spawn((said.thing, Mark, bag, Ttl::millis(400), Pose { at: [1.0, 2.0, 3.0], yaw: 0.5 }));
        owner.into_iter().for_each(|owner| {
            let at = owner.0;
            thing.insert((owner, Aim { at, others: vec![1, 2, 3] }));
        });
    });
    app.add_systems(FixedUpdate, |mut things: Query<&mut Position>, clock: Res<RoomClock>| {
        if clock.tick().0.is_multiple_of(2) {
            things.iter_mut().for_each(|mut position| position.0[0] += 0.25);
        }
    });
}

/// The game, and one that keeps a secret from some of its members.
pub(crate) fn blueprint(secretive: bool) -> &'static Blueprint {
    static OPEN: OnceLock<Blueprint> = OnceLock::new();
    static SECRETIVE: OnceLock<Blueprint> = OnceLock::new();
    if secretive {
        let secret = |app: &mut App| {
            protocol_of(app);
            app.sync::<Secret>("secret").to_owner();
        };
        return SECRETIVE.get_or_init(|| Blueprint::new(secret, rules));
    }
    OPEN.get_or_init(|| Blueprint::new(protocol_of, rules))
}

pub(crate) fn protocol() -> Arc<Protocol> {
    blueprint(false).protocol()
}

pub(crate) const LEVEL: &str = r#"{
  "door_a": {"door": "Closed", "card": [1, -5]},
  "door_b": {"door": {"Open": {"by": "ann"}}, "position": [0, 4], "heat": 0.5, "mark": null, "owned_by": "door_a"},
  "crate": {"pose": {"at": [1, 2, 3], "yaw": 0.5}, "rotation": [0, 0, 0, 1], "health": 7, "ttl": 500,
            "bag": {"items": [["key", 1]], "labels": {"red": null, "blue": 7}, "letter": "x", "long": [1, -2]},
            "aim": {"at": {"$entity": "door_b"}, "others": [1]}}
}"#;

pub(crate) fn options(level: &str) -> RoomOptions {
    let level = Some(Level::from_text("level.json", level));
    RoomOptions { level, seed: 7, notes: true, check: true, ..RoomOptions::named("moor") }
}

/// A room of the game, as it begins.
pub(crate) fn room() -> Room {
    match blueprint(false).room(options(LEVEL)) {
        Ok(room) => room,
        Err(error) => panic!("the game of the doors: {error}"),
    }
}

pub(crate) fn state_of(room: &mut Room) -> State {
    room.state().unwrap_or_else(|fault| panic!("{fault}"))
}

/// The state of the game's level.
pub(crate) fn state() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| state_of(&mut room()))
}
