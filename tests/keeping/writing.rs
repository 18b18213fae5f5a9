//! How the writer works off what waits, and what it does besides.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::arena::{blueprint, options};
use crate::promises::{play, reader, start};
use roomkeeper::host::{Keeper, header_of};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{CommandId, Incoming, Protocol, RoomTick, Taken, Verdict};
use roomkeeper::room::{Blueprint, Room, RoomOptions};
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{Archive, ChunkKind, Flush, MemoryStore, Opening, Seal, Store, StoreError, TickRecord, Writer, WriterOptions};

fn by_hand(store: Box<dyn Store>, options: WriterOptions) -> Writer {
    Writer::by_hand(store, options, |finding| panic!("{finding}")).unwrap()
}

/// Tells how long it waited, at least.
fn wait_until(mut done: impl FnMut() -> bool) -> Duration {
    let pause = Duration::from_millis(5);
    for pauses in 0..12_000 {
        if done() {
            return pause * pauses;
        }
        std::thread::sleep(pause);
    }
    panic!("nothing comes of it");
}

/// A tick of a megabyte.
fn big(tick: u32) -> TickRecord {
    let state = "x".repeat(1 << 20);
    let incoming = Incoming::Reset { label: "big".to_owned(), saved_at: RoomTick(0), members: Vec::new(), state };
    TickRecord { tick: RoomTick(tick), taken: vec![Taken { incoming, verdict: Some(Verdict::Accepted) }], ..TickRecord::default() }
}

#[test]
fn what_waited_through_an_outage_is_written_in_pieces_and_all_of_it_is_waited_for() {
    for stops in [false, true] {
        let (store, heads) = (MemoryStore::new(), Arc::new(Mutex::new(Vec::new())));
        let seen = heads.clone();
        let around = AroundCommits::new(Box::new(store.clone()), move |store, flush| {
            assert!(flush.frame.is_empty(), "what is written piece by piece is sealed piece by piece");
            seen.lock().unwrap().extend(flush.seals.iter().map(|seal| seal.head.tick.0));
            store.commit(flush)
        });
        let mut never = WriterOptions::default();
        never.flush_every = Duration::from_secs(3_600);
        let writer = match stops {
            false => by_hand(Box::new(around), never),
            true => Writer::start(Box::new(around), never, |finding| panic!("{finding}")).unwrap(),
        };
        let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
        (0..40).for_each(|tick| handle.record(big(tick)));
        assert!(writer.pending_bytes() > 40 << 20);
        if stops {
            handle.close();
            assert!(writer.stop().given_up.is_none());
        } else {
            writer.sync().unwrap();
            assert_eq!(writer.pending_bytes(), 0);
        }
        assert_eq!(handle.durable(), Some(RoomTick(39)));
        assert_eq!(*heads.lock().unwrap(), [6, 13, 20, 27, 34, 39], "8 MiB at most");
        let mut archive = Archive::new(Box::new(store), blueprint().protocol());
        assert_eq!(archive.head("arena").unwrap().unwrap().tick, RoomTick(39));
        assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    }
}

#[test]
fn what_a_round_left_is_written_at_once_and_not_with_the_next_flush() {
    let mut rarely = WriterOptions::default();
    rarely.flush_every = Duration::from_secs(2);
    let writer = Writer::start(Box::new(MemoryStore::new()), rarely, |finding| panic!("{finding}")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    (0..40).for_each(|tick| handle.record(big(tick)));
    wait_until(|| handle.durable().is_some());
    let rest = wait_until(|| handle.durable() == Some(RoomTick(39)));
    assert!(rest < Duration::from_secs(6), "{rest:?}: a piece each flush takes 10 s");
}

#[test]
fn whoever_gave_up_writes_nothing_after_the_gap() {
    let (store, fails) = (MemoryStore::new(), Arc::new(AtomicBool::new(false)));
    let (failing, mut given_up) = (fails.clone(), None);
    // The flush that is given up never succeeds; any after it would.
    let around = AroundCommits::new(Box::new(store.clone()), move |store, flush| {
        if failing.load(Ordering::Relaxed) && *given_up.get_or_insert(flush.number) == flush.number {
            return Err(StoreError::WentBack { found: 0, stored: 1 });
        }
        store.commit(flush)
    });
    let writer = Writer::start(Box::new(around), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let go_on = |room: &mut Room| (0..5).for_each(|_| handle.record(room.tick([]).unwrap().into()));
    go_on(&mut room);
    writer.sync().unwrap();
    fails.store(true, Ordering::Relaxed);
    go_on(&mut room);
    wait_until(|| writer.failing().is_some());
    go_on(&mut room);
    assert!(writer.stop().given_up.is_some());
    assert_eq!(handle.durable(), Some(RoomTick(5)));
    let mut keeper = Keeper::by_hand(Box::new(store.clone()), WriterOptions::default()).unwrap();
    assert_eq!(keeper.found(), [""; 0]);
    assert_eq!(keeper.room(&blueprint(), options("arena")).unwrap().tick_now(), RoomTick(5));
    assert_eq!(reader(&store).verify("arena", |_| {}).unwrap().findings, []);
}

#[test]
fn who_waits_for_all_to_be_written_waits_for_the_table_of_components_too() {
    for closes in [false, true] {
        let store = MemoryStore::new();
        let mut seldom = WriterOptions::default();
        (seldom.seal_every, seldom.components_every) = (1, 1_000);
        let writer = by_hand(Box::new(store.clone()), seldom);
        let mut room = blueprint().room(options("arena")).unwrap();
        let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
        handle.record(room.opening().clone().into());
        writer.step();
        handle.record(room.tick([]).unwrap().into());
        writer.step();
        let mut archive = reader(&store);
        let stored = archive.room("arena").unwrap();
        assert_eq!((stored.sealed.unwrap().tick, stored.components_tick), (RoomTick(1), Some(RoomTick(0))));
        if closes {
            handle.close();
            writer.step();
        } else {
            writer.sync().unwrap();
        }
        assert_eq!(archive.room("arena").unwrap().components_tick, Some(RoomTick(1)));
        assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
        // It is written once.
        let flushes = writer.report().flushes;
        writer.sync().unwrap();
        assert_eq!(writer.report().flushes, flushes);
    }
}

#[test]
fn a_chunk_beyond_the_end_of_a_room_is_found() {
    for kind in ChunkKind::ALL {
        let mut store = MemoryStore::new();
        drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 60));
        let room = reader(&store).room("arena").unwrap();
        let mut chunk = store.chunks(room.key, ChunkKind::Facts, 0, u64::MAX >> 1, 1).unwrap().remove(0);
        (chunk.from, chunk.to, chunk.tick_from, chunk.tick_to) = (9_000, 9_001, RoomTick(9_000), RoomTick(9_001));
        let (head, chain, fingerprint) = (room.sealed.unwrap(), room.chain, room.fingerprint);
        let seal = Seal { key: room.key, head, chain, fingerprint, chunks: vec![(kind, chunk)], components: None, checkpoint: None };
        let number = store.last_flush().unwrap() + 1;
        store.commit(&Flush { number, journal_done: number, seals: vec![seal], ..Flush::default() }).unwrap();
        let findings = reader(&store).verify("arena", |_| {}).unwrap().findings;
        assert!(matches!(&findings[..], [finding] if finding.place.ends_with("9000 to 9001")), "{kind:?}: {findings:?}");
    }
}

#[test]
fn a_snapshot_that_waits_to_be_compared_is_among_what_waits() {
    let writer = by_hand(Box::new(MemoryStore::new()), WriterOptions::default());
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let (before, snapshot) = (writer.pending_bytes(), room.snapshot().unwrap());
    let bytes = snapshot.len();
    handle.audit(RoomTick(0), snapshot);
    assert_eq!(writer.pending_bytes(), before + bytes);
    writer.step();
    assert_eq!((writer.pending_bytes(), writer.report().differences), (0, 0));
}

#[test]
fn what_is_asked_of_a_room_that_stands_still_is_answered() {
    for flushes in 1..=4 {
        let store = MemoryStore::new();
        let writer = by_hand(Box::new(store.clone()), WriterOptions::default());
        let mut room = blueprint().room(options("arena")).unwrap();
        let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
        handle.record(room.opening().clone().into());
        writer.step();
        for _ in 1..flushes {
            handle.record(room.tick([]).unwrap().into());
            writer.step();
        }
        let mut archive = reader(&store);
        let key = archive.room("arena").unwrap().key;
        let request = archive.store().ask(key, "dance", "").unwrap();
        // Nothing happens in the room meanwhile.
        (0..8).for_each(|_| writer.step());
        let answer = archive.store().answer(request).unwrap();
        assert!(answer.as_ref().is_some_and(|answer| answer.starts_with("refused")), "after {flushes} flushes: {answer:?}");
    }
}

/// What JSON can't tell, unless it is empty.
#[derive(Component, Serialize, Deserialize)]
struct Grid(BTreeMap<(i32, i32), u32>);
#[derive(Component, Serialize, Deserialize)]
struct Lamp(bool);

fn protocol(app: &mut App) {
    app.sync::<Grid>("grid");
    app.sync::<Lamp>("lamp");
}

fn rules(app: &mut App) {
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((EntityId::with_name("floor"), Grid(BTreeMap::new())));
        commands.spawn((EntityId::with_name("lamp"), Lamp(false)));
    });
    app.add_systems(FixedUpdate, |mut grids: Query<&mut Grid>, mut lamps: Query<&mut Lamp>, clock: Res<RoomClock>| {
        let tick = clock.tick().0;
        for mut grid in &mut grids {
            match tick {
                20..40 => {
                    grid.0.insert((1, 2), tick);
                }
                40 => grid.0.clear(),
                _ => {}
            }
        }
        for mut lamp in lamps.iter_mut().filter(|_| tick == 30) {
            lamp.0 = true;
        }
    });
}

#[test]
fn a_value_that_json_can_not_tell_leaves_the_table_of_components_behind_but_never_wrong() {
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(protocol, rules));
    let mut always = WriterOptions::default();
    (always.seal_every, always.components_every) = (1, 1);
    let writer = by_hand(Box::new(store.clone()), always);
    let options = RoomOptions::named("hall");
    let mut room = blueprint.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut archive = Archive::new(Box::new(store), blueprint.protocol());
    for tick in 1..=60 {
        handle.record(room.tick([]).unwrap().into());
        writer.step();
        let wanted = if (20..40).contains(&tick) { 19 } else { tick };
        assert_eq!(archive.room("hall").unwrap().components_tick, Some(RoomTick(wanted)), "tick {tick}");
        assert_eq!(archive.verify("hall", |_| {}).unwrap().findings, [], "tick {tick}");
    }
}

#[derive(Component, Serialize, Deserialize)]
struct Seat(u32);
#[derive(Serialize, Deserialize)]
struct Ask(u8);

/// A game that refuses whatever it is asked for, in more words than anybody may say.
pub fn refusing() -> Blueprint {
    let protocol = |app: &mut App| {
        app.sync::<Seat>("seat");
        app.command::<Ask>("ask");
    };
    let rules = |app: &mut App| {
        app.decide(|_: In<Issued<Ask>>| -> Decision { Err(Rejection { code: "never_".repeat(20), detail: "\u{fc}".repeat(150) }) });
        app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
            commands.spawn((joined.user, Seat(1)));
        });
    };
    Blueprint::new(protocol, rules)
}

/// What a user asks of it.
pub fn ask(room: &Room, user: EntityId, number: u32) -> Incoming {
    let kind = room.world().resource::<Protocol>().command_names().position(|name| name == "ask").unwrap();
    Incoming::Command { user, id: CommandId(number), kind, seen: None, payload: bytes::Bytes::from_static(&[1]) }
}

#[test]
fn a_rejection_that_says_too_much_is_cut_and_what_was_written_with_it_can_be_read() {
    let (store, blueprint) = (MemoryStore::new(), refusing());
    let open = || Keeper::by_hand(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut keeper = open();
    let mut room = keeper.room(&blueprint, RoomOptions::named("refusing")).unwrap();
    let user = EntityId::named("ann");
    for tick in 1..=5 {
        let join = Incoming::Join { user, name: "ann".to_owned() };
        let incoming = if tick == 1 { join } else { ask(&room, user, tick) };
        keeper.handle("refusing").unwrap().record(room.tick([incoming]).unwrap().into());
        keeper.writer().step();
    }
    // Nothing is sealed yet: all of it stands in the journal.
    keeper.abandon();
    let mut keeper = open();
    assert_eq!(keeper.found(), [""; 0]);
    assert_eq!(keeper.room(&blueprint, RoomOptions::named("refusing")).unwrap().tick_now(), RoomTick(5));
    let refusals = Archive::new(Box::new(store.clone()), blueprint.protocol()).refusals("refusing", RoomTick(0)).unwrap();
    assert_eq!(refusals.len(), 4);
    for refusal in refusals {
        assert_eq!((refusal.code.len(), refusal.detail), (64, "\u{fc}".repeat(128)));
    }
}
