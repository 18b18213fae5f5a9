//! Whole clusters, simulated: whatever goes wrong, nothing that was said to be stored is lost, and all get well again.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and says what it saw")]

use std::sync::Arc;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, Issue, Replica};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Refusal;
use roomkeeper::room::{Blueprint, RoomClock, RoomRng};
use roomkeeper::sim::{Cluster, ClusterSize, Dying, Fault, MakeBrain, Tally, plan};
use serde::{Deserialize, Serialize};

#[derive(Component, Clone, Serialize, Deserialize, Default)]
struct Position([f32; 2]);
#[derive(Component, Clone, Serialize, Deserialize, Default)]
struct Score(u32);
#[derive(Component, Clone, Serialize, Deserialize)]
struct Mine(EntityId);
/// Its owner alone may know it.
#[derive(Component, Clone, Serialize, Deserialize)]
struct Hand(EntityId);
#[derive(Component, Clone, Serialize, Deserialize)]
struct Spark(u32);
#[derive(Serialize, Deserialize)]
struct Step([f32; 2]);
#[derive(Serialize, Deserialize)]
struct Lay;
#[derive(Clone, Serialize, Deserialize)]
struct Stepped {
    who: EntityId,
    to: [f32; 2],
}
#[derive(Clone, Serialize, Deserialize)]
struct Laid {
    who: EntityId,
    at: [f32; 2],
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Score>("score");
    app.sync::<Mine>("mine");
    app.sync::<Spark>("spark");
    app.sync::<Ttl>("ttl");
    app.command::<Step>("step").fact::<Stepped>("stepped");
    app.command::<Lay>("lay").fact::<Laid>("laid");
}

fn rules(app: &mut App) {
    app.decide(|step: In<Issued<Step>>, places: Query<&Position>| -> Decision {
        let at = places.get(step.author)?.0;
        let [x, y] = step.command.0;
        if !(x.abs() <= 1.0 && y.abs() <= 1.0) {
            return reject("too_far");
        }
        accept(Stepped { who: step.author_id, to: [at[0] + x, at[1] + y] })
    });
    app.decide(|lay: In<Issued<Lay>>, places: Query<&Position>, mines: Query<&Mine>| -> Decision {
        if mines.iter().count() >= 12 {
            return reject("enough");
        }
        accept(Laid { who: lay.author_id, at: places.get(lay.author)?.0 })
    });
    app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut all: Query<(&mut Position, &mut Score)>| {
        if let Some((mut place, mut score)) = index.entity(stepped.who).and_then(|entity| all.get_mut(entity).ok()) {
            place.0 = stepped.to;
            score.0 += 1;
        }
    });
    app.apply(|laid: On<Happened<Laid>>, mut commands: Commands| {
        commands.spawn((Mine(laid.who), Position(laid.at), Ttl::millis(3_000)));
    });
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Position::default(), Score::default()));
    });
    app.add_systems(FixedUpdate, |clock: Res<RoomClock>, mut rng: ResMut<RoomRng>, mut commands: Commands| {
        if clock.tick().0.is_multiple_of(7) {
            commands.spawn((Spark(rng.next_u32() % 100), Position([rng.unit_f32(), 0.0]), Ttl::millis(900)));
        }
    });
}

fn act(mut rng: InMut<RoomRng>, mut issue: Issue) {
    // Who can't send, because the connection has just ended, need not.
    let _ = match rng.range(0..12) {
        0 => issue.send(&Lay),
        1 => issue.send(&Step([9.0, 0.0])),
        2..6 => issue.send(&Step([rng.unit_f32() - 0.5, rng.unit_f32() - 0.5])),
        _ => return,
    };
}

fn brain(seed: u64) -> Box<dyn FnMut(&mut World)> {
    let mut rng = RoomRng::new(seed);
    Box::new(move |world: &mut World| world.run_system_cached_with(act, &mut rng).unwrap())
}

/// Each player plays in a way of its own.
fn brains() -> Arc<MakeBrain> {
    Arc::new(brain)
}

/// All play alike, as they did when something was found.
fn alike() -> Arc<MakeBrain> {
    Arc::new(|_| brain(9))
}

fn run(cluster: &Cluster, seeds: impl Iterator<Item = u64>) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        match cluster.run(seed) {
            Ok(tally) => all.add(&tally),
            Err(failure) => panic!("{}", cluster.shrink(failure, 40)),
        }
    }
    println!("{all:#?}");
    all
}

/// A seed that no run had before; it is told if the run fails.
fn fresh() -> u64 {
    u64::from(std::process::id()) << 20 | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_micros())
}

#[test]
fn whatever_goes_wrong_nothing_stored_is_lost_no_room_has_two_owners_and_all_get_well() {
    let size = ClusterSize { steps: 900, ..ClusterSize::default() };
    let cluster = Cluster::new(Blueprint::new(protocol, rules), size).brains(brains());
    let all = run(&cluster, (1..=24).chain(fresh()..fresh() + 8));
    // It was not all for nothing.
    assert!(all.takeovers > 20 && all.lost > 5 && all.disk_failures > 20 && all.damaged > 5 && all.hostile > 200, "{all:?}");
    assert!(all.stored_commands > 1_000 && all.compared > 1_000, "{all:?}");
}

#[test]
fn what_was_found_once_stays_mended() {
    let cluster = Cluster::new(Blueprint::new(protocol, rules), ClusterSize { steps: 900, ..ClusterSize::default() }).brains(alike());
    let found: [(u64, &[(u32, Fault)]); 1] = [
        // A replica came back to another run of the room, in which the number of an entity that is gone stood for one that is there, and took
        // that to have the gone one's components.
        (
            20_387_695_085,
            &[
                (447, Fault::Freeze(0, 75)),
                (639, Fault::SlowDisk(0, 184)),
                (651, Fault::Freeze(0, 126)),
                (706, Fault::Crash(0, Dying::Within, 4)),
            ],
        ),
    ];
    for (seed, faults) in found {
        let tally = cluster.run_with(seed, faults).unwrap();
        assert!(tally.takeovers > 0, "it does not come to that any more: {tally:?}");
    }
    // A host that had been suspended believed at the very end that it still had a room, which had come to the same tick elsewhere.
    let hostile = [(634, Fault::Hostile(2, 52)), (686, Fault::Crash(1, Dying::Answering, 89))];
    let suspended = [(771, Fault::Suspend(0, 149)), (830, Fault::Suspend(1, 147))];
    cluster.brains(brains()).run_with(3_297_416_593, &[hostile, suspended].concat()).unwrap();
    // A room was lost and opened again in the same lobby: those who were in it before took, when they were gone, the sight of those who are now.
    let tally = dealing().brains(alike()).run_with(4, &[(11, Fault::Suspend(0, 53))]).unwrap();
    assert!(tally.lost > 0, "it does not come to that any more: {tally:?}");
}

#[test]
fn many_hosts_and_rooms_with_everything_at_once() {
    let size = ClusterSize { hosts: 4, rooms: 5, players: 8, steps: 600 };
    let cluster = Cluster::new(Blueprint::new(protocol, rules), size).brains(brains());
    run(&cluster, 1..=6);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let cluster = Cluster::new(Blueprint::new(protocol, rules), ClusterSize { steps: 500, ..ClusterSize::default() }).brains(brains());
    for seed in [3, 4] {
        assert_eq!(cluster.run(seed).unwrap(), cluster.run(seed).unwrap());
    }
}

/// A game in which each player is dealt what nobody else may know.
fn dealing() -> Cluster {
    let secret = |app: &mut App| {
        protocol(app);
        app.sync::<Hand>("hand").to_owner();
    };
    let dealt = |app: &mut App| {
        rules(app);
        app.add_systems(FixedUpdate, |mut commands: Commands, users: Query<(Entity, &EntityId), (With<Score>, Without<Hand>)>| {
            for (entity, id) in &users {
                commands.entity(entity).insert(Hand(*id));
            }
        });
    };
    let size = ClusterSize { steps: 600, rooms: 1, ..ClusterSize::default() };
    Cluster::new(Blueprint::new(secret, dealt), size).brains(brains()).check(|world| {
        let me = world.resource::<Replica>().user();
        let foreign = world.query::<&Hand>().iter(world).find(|hand| hand.0 != me);
        foreign.map_or(Ok(()), |hand| Err(format!("it knows the hand of {}", hand.0)))
    })
}

#[test]
fn what_somebody_may_not_know_reaches_nobody_else_whatever_goes_wrong() {
    let all = run(&dealing(), 1..=8);
    assert!(all.compared > 100, "what each may know is what it was told: {all:?}");
}

#[test]
fn a_promise_that_is_broken_is_found_and_shrunk_to_what_it_takes() {
    let size = ClusterSize { steps: 900, ..ClusterSize::default() };
    let cluster = Cluster::new(Blueprint::new(protocol, rules), size).brains(brains()).check(|world| {
        // As if it were one that players hear how a room closes under them, which takes a host that loses it.
        match world.resource::<Connection>().state() {
            ConnectionState::Refused(Refusal::RoomClosed(why), _) if why.contains("another server") => Err(why.clone()),
            _ => Ok(()),
        }
    });
    let failure = (1..20).find_map(|seed| cluster.run(seed).err()).unwrap();
    let before = failure.faults.len();
    let shrunk = cluster.shrink(failure, 200);
    assert_eq!(shrunk.what.split(": ").nth(1), Some("it went to another server"));
    let befalls_host =
        |(_, fault): &(u32, Fault)| matches!(fault, Fault::Stall(..) | Fault::Suspend(..) | Fault::Lonely(..) | Fault::Leap(..));
    assert!(shrunk.faults.len() < before && shrunk.faults.len() < 5 && shrunk.faults.iter().any(befalls_host), "{shrunk}");
    // The same again, from what is printed alone.
    assert_eq!(cluster.run_with(shrunk.seed, &shrunk.faults).unwrap_err(), shrunk);
    assert!(plan(&size, shrunk.seed).len() >= before);
}
