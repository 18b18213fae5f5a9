//! A room outlives its process: it goes on from what was stored as if nothing had happened.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::arena::{blueprint, options, script, state_of};
use roomkeeper::host::{Keeper, rebuild};
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::room::Room;
use roomkeeper::store::{Archive, MemoryStore, Opening, RecoveredScene, Store, Writer, WriterOptions};

fn keep(store: &MemoryStore) -> Writer {
    Writer::start(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap()
}

fn archive(store: &MemoryStore) -> Archive {
    Archive::new(Box::new(store.clone()), blueprint().protocol())
}

/// Plays a room and stores it; returns it.
fn play(writer: &Writer, ticks: u32) -> Room {
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(roomkeeper::host::header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=ticks {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
    }
    room
}

#[test]
fn a_room_that_goes_on_gives_the_same_bytes_as_one_that_never_stopped() {
    for ticks in [1, 4, 7, 23, 41, 120, 333] {
        let store = MemoryStore::new();
        let mut first = play(&keep(&store), ticks);
        let recovered = archive(&store).recover("arena").unwrap();
        assert!(matches!(recovered.scene, Some(RecoveredScene::Exact(_))));
        let mut second = rebuild(&blueprint(), &recovered).unwrap();
        assert_eq!(first.tick_now(), second.tick_now());
        for tick in ticks + 1..ticks + 200 {
            let (ours, theirs) = (first.tick(script(&first, tick)).unwrap(), second.tick(script(&second, tick)).unwrap());
            assert_eq!(ours.batch, theirs.batch, "tick {tick} after {ticks}");
            assert_eq!(ours.taken, theirs.taken, "tick {tick} after {ticks}");
        }
        assert_eq!(state_of(&mut first), state_of(&mut second));
    }
}

#[test]
fn the_state_of_each_tick_is_read_back_as_it_was() {
    let store = MemoryStore::new();
    let writer = keep(&store);
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(roomkeeper::host::header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut hashes = vec![state_of(&mut room).hash()];
    for tick in 1..=1_500 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        hashes.push(state_of(&mut room).hash());
    }
    writer.sync().unwrap();
    let mut archive = archive(&store);
    for tick in (0..=1_500).step_by(7) {
        assert_eq!(archive.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick}");
    }
    let verified = archive.verify("arena", |_| {}).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    assert!(verified.hashed > 1_000 && verified.refusals > 0, "{verified:?}");
}

#[test]
fn facts_are_numbered_without_gaps_over_a_restart() {
    let store = MemoryStore::new();
    drop(play(&keep(&store), 100));
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
    let before = archive(&store).head("arena").unwrap().unwrap();
    assert_eq!(before.tick, RoomTick(100));
    let outbox = room.tick(script(&room, 105)).unwrap();
    assert_eq!(outbox.tick, RoomTick(101));
    drop(keeper.stop());
    let facts = archive(&store).facts("arena", FactSeq(1), usize::MAX).unwrap();
    assert!(facts.iter().map(|fact| fact.seq.0).eq(1..=before.seq.0));
    assert_eq!(outbox.facts.first().map_or(before.seq.0 + 1, |fact| fact.seq.0), before.seq.0 + 1);
    let checkpoints = store.clone().checkpoints(store.clone().rooms().unwrap()[0].key).unwrap();
    assert!(checkpoints.contains(&(RoomTick(100), true)), "the room went on from tick 100: {checkpoints:?}");
}
