//! Components with codecs of the library's: replicas hold what the room says, in fewer bytes; nonsense opens no room.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use proptest::prelude::*;
use roomkeeper::client::Replica;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Angles, Codec, Protocol, Quantised, Ranged, SmallestThree, State};
use roomkeeper::room::{Room, RoomOptions};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Position([f32; 3]);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Rotation([f32; 4]);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Aim {
    yaw: f32,
    pitch: f32,
}
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Health(i16);

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
    app.sync_with("position", Quantised::new(-500.0..=500.0, 0.001).via(|at: &Position| at.0, Position)).latest().when_different();
    app.sync_with("rotation", SmallestThree.via(|rotation: &Rotation| rotation.0, Rotation)).latest();
    let aim = Angles::new(12).via(|aim: &Aim| [aim.yaw, aim.pitch], |[yaw, pitch]| Aim { yaw, pitch });
    app.sync_with("aim", aim);
    app.sync_with("health", Ranged::new([0..=100]).via(|health: &Health| [health.0.into()], |[health]| Health(health as i16)));
}

/// Any number, also such as no game should have.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -600.0_f32..600.0, 4 => -1.0_f32..1.0, 1 => any::<u32>().prop_map(f32::from_bits)]
}

type Written = (u8, [f32; 3], [f32; 4], [f32; 2], i16);

fn written() -> impl Strategy<Value = Written> {
    let numbers = || number();
    (any::<u8>(), [numbers(), number(), number()], [number(), number(), number(), number()], [number(), number()], any::<i16>())
}

fn write(sim: &mut Sim, (who, at, rotation, [yaw, pitch], health): Written) {
    let world = sim.room_mut().world_mut();
    let id = EntityId::named(&format!("thing{}", who % 8));
    let values = (Position(at), Rotation(rotation), Aim { yaw, pitch }, Health(health));
    match world.resource::<EntityIndex>().entity(id) {
        Some(entity) if who >= 128 => drop(world.entity_mut(entity).insert(values)),
        Some(entity) => world.get_mut::<Position>(entity).unwrap().0 = at,
        None => drop(world.spawn((id, values))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_replica_and_the_folded_batches_equal_the_room(writes in prop::collection::vec(written(), 1..40), seed in 0..1_000_u64) {
        let link = LinkConditions { delay_millis: 70, jitter_millis: 60, loss: 0.1, ..LinkConditions::PERFECT };
        let link = if seed.is_multiple_of(2) { link } else { LinkConditions::PERFECT };
        let mut sim = Sim::new(protocol, |_| {}).seed(seed).link(link).client("ann");
        for (n, values) in writes.into_iter().enumerate() {
            write(&mut sim, values);
            if n % 3 == 0 {
                sim.tick();
                sim.assert_converged();
            }
            if n == 10 {
                sim.join("bob");
            }
        }
        sim.settle();
        prop_assert_eq!(sim.assert_converged(), sim.client_names().len());
        let room = sim.room_state();
        let protocol = sim.room().world().resource::<Protocol>();
        let mut folded = State::new(room.room());
        for (_, batch) in sim.batches() {
            folded.apply(protocol, batch).unwrap();
        }
        prop_assert_eq!(room.difference(protocol, &folded), None);
    }
}

#[test]
fn a_replica_holds_the_nearest_value_that_can_be_written() {
    let mut sim = Sim::new(protocol, |_| {}).client("ann");
    let id = EntityId::named("statue");
    let here = sim.room_mut().world_mut().spawn((id, Position([1.00049, f32::NAN, 1e9]), Health(300))).id();
    sim.run_ticks(3);
    let replica = sim.client_of("ann").world().resource::<Replica>().entity(id).unwrap();
    assert_eq!(sim.client_of("ann").world().get::<Position>(replica), Some(&Position([1.0, 0.0, 500.0])));
    assert_eq!(sim.client_of("ann").world().get::<Health>(replica), Some(&Health(100)));
    // What is less than a step is not sent.
    let batches = sim.batches().len();
    sim.room_mut().world_mut().get_mut::<Position>(here).unwrap().0[0] = 1.0004;
    sim.run_ticks(3);
    assert_eq!(sim.batches().len(), batches);
    sim.assert_converged();
}

#[test]
fn a_hundred_movers_take_less_than_half_the_bytes() {
    let full = |app: &mut App| {
        app.sync::<Position>("position").latest();
        app.sync::<Rotation>("rotation").latest();
    };
    let [full, quantised] = [full, protocol].map(|protocol: fn(&mut App)| {
        let mut room = Room::new(RoomOptions::named("movers"), protocol, |_| {}).unwrap();
        let thing = (Position([0.0; 3]), Rotation([0.0, 0.0, 0.0, 1.0]));
        let things: Vec<Entity> = (0..1_000).map(|_| room.world_mut().spawn(thing).id()).collect();
        room.tick([]).unwrap();
        for mover in things.iter().step_by(10) {
            room.world_mut().entity_mut(*mover).insert((Position([1.5, 2.5, 3.5]), Rotation([0.6, 0.0, 0.8, 0.0])));
        }
        room.tick([]).unwrap().batch.unwrap().len()
    });
    assert_eq!(full - quantised, 1_600, "{full} and {quantised} bytes");
    assert!(quantised * 2 < full, "{full} and {quantised} bytes");
}

#[test]
fn a_codec_with_nonsense_for_settings_opens_no_room() {
    let nonsense = |app: &mut App| {
        app.sync_with("position", Quantised::new(-500.0..=500.0, 0.0).via(|at: &Position| at.0, Position));
        app.sync_with("rotation", SmallestThree.via(|rotation: &Rotation| rotation.0, Rotation));
        app.sync_with("aim", Angles::new(40).via(|aim: &Aim| [aim.yaw, aim.pitch], |[yaw, pitch]| Aim { yaw, pitch }));
        let health = Ranged::new([7..=7]).via(|health: &Health| [health.0.into()], |[health]| Health(health as i16));
        app.sync_with("health", health).quantity();
    };
    let error = Room::new(RoomOptions::named("attic"), nonsense, |_| {}).unwrap_err().to_string();
    for part in [
        "component \"position\": a step of 0.0 is not above zero and within -500.0..=500.0",
        "component \"aim\": 40 bits of a turn: 1 to 24 are allowed",
        "component \"health\": 7..=7 does not hold at least two numbers",
        "component \"health\" is a quantity, but its codec does not give back every amount exactly",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(!error.contains("rotation"), "{error}");
}
