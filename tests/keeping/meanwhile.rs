//! What is read and copied while somebody else writes, or is interrupted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::{blueprint, options, script, state_of};
use crate::promises::{play, reader, start};
use crate::store::folder;
use roomkeeper::host::{Keeper, header_of};
use roomkeeper::protocol::RoomTick;
use roomkeeper::room::Room;
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{
    Archive, ChunkKind, Durability, Handle, MemoryStore, Opening, Retention, SqliteStore, Store, StoreError, Writer, WriterOptions,
    copy_room,
};

/// A store whose first commit with a table of components fails: of a copy the last, when its chunks are there.
fn failing_once(store: Box<dyn Store>) -> AroundCommits {
    let mut fails = true;
    AroundCommits::new(store, move |store, flush| {
        if flush.seals.iter().any(|seal| seal.components.is_some()) && std::mem::take(&mut fails) {
            return Err(StoreError::Io { what: "a flush can't be written".to_owned(), error: std::io::ErrorKind::StorageFull.into() });
        }
        store.commit(flush)
    })
}

/// A room that is played into a store when it is told to.
struct Played {
    writer: Writer,
    room: Room,
    handle: Handle,
    hashes: Vec<u64>,
}

impl Played {
    fn new(store: &MemoryStore) -> Self {
        let writer = Writer::by_hand(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
        let mut room = blueprint().room(options("arena")).unwrap();
        let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
        handle.record(room.opening().clone().into());
        let hashes = vec![state_of(&mut room).hash()];
        Self { writer, room, handle, hashes }
    }

    fn go_on(&mut self, ticks: u32) {
        for _ in 0..ticks {
            let incoming = script(&self.room, self.room.tick_now().0 + 1);
            self.handle.record(self.room.tick(incoming).unwrap().into());
            self.hashes.push(state_of(&mut self.room).hash());
        }
        self.writer.sync().unwrap();
    }
}

#[test]
fn a_room_that_was_half_copied_is_none_yet_and_can_be_copied_again() {
    let store = MemoryStore::new();
    let (_, hashes) = play(&start(Box::new(store.clone())), &blueprint(), "arena", 300);
    let on_disk = SqliteStore::open(folder("half_copied"), Durability::ProcessCrash).unwrap();
    let stores: [Box<dyn Store>; 2] = [Box::new(MemoryStore::new()), Box::new(on_disk)];
    for into in stores {
        let mut into = failing_once(into);
        assert!(copy_room(&mut reader(&store), "arena", &mut into, |_| {}).is_err());
        assert!(into.room("arena").unwrap().unwrap().sealed.is_none());
        copy_room(&mut reader(&store), "arena", &mut into, |_| {}).unwrap();
        let mut copy = Archive::new(Box::new(into), blueprint().protocol());
        assert_eq!(copy.verify("arena", |_| {}).unwrap().findings, []);
        for tick in (0..=300).step_by(29) {
            assert_eq!(copy.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick}");
        }
        assert!(copy_room(&mut reader(&store), "arena", copy.store(), |_| {}).is_err(), "it is there");
    }
}

#[test]
fn whoever_serves_what_an_interrupted_copy_left_begins_the_room_anew() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 100));
    let (data, memory) = (folder("half_served"), MemoryStore::new());
    let on_disk = || SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
    let open = || -> [Box<dyn Store>; 2] { [Box::new(memory.clone()), Box::new(on_disk())] };
    for into in open() {
        let mut into = failing_once(into);
        assert!(copy_room(&mut reader(&store), "arena", &mut into, |_| {}).is_err());
        let key = into.room("arena").unwrap().unwrap().key;
        assert!(!into.chunks(key, ChunkKind::Facts, 0, u64::MAX >> 1, 1).unwrap().is_empty(), "something is left");
    }
    for left in open() {
        let mut keeper = Keeper::by_hand(left, WriterOptions::default()).unwrap();
        let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
        assert_eq!(room.tick_now(), RoomTick(0));
        for tick in 1..=30 {
            let incoming = script(&room, tick);
            keeper.handle("arena").unwrap().record(room.tick(incoming).unwrap().into());
        }
        let mut archive = Archive::new(keeper.reader().unwrap(), blueprint().protocol());
        let report = keeper.stop();
        assert!(report.retries == 0 && report.given_up.is_none(), "{report:?}");
        assert_eq!(archive.head("arena").unwrap().unwrap().tick, RoomTick(30));
        assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    }
}

#[test]
fn a_copy_of_a_room_that_is_played_ends_with_one_tick_and_can_be_served() {
    let store = MemoryStore::new();
    let mut played = Played::new(&store);
    played.go_on(130);
    let mut into = SqliteStore::open(folder("copied_while_played"), Durability::ProcessCrash).unwrap();
    copy_room(&mut reader(&store), "arena", &mut into, |_| played.go_on(30)).unwrap();
    assert!(played.room.tick_now() > RoomTick(200), "it was played meanwhile");
    let mut copy = reader(&into);
    assert_eq!(copy.head("arena").unwrap().unwrap().tick, RoomTick(130));
    assert_eq!(copy.room("arena").unwrap().components_tick, Some(RoomTick(130)));
    assert_eq!(copy.verify("arena", |_| {}).unwrap().findings, []);
    let mut keeper = Keeper::by_hand(Box::new(into), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
    for tick in 131..=170 {
        let incoming = script(&room, tick);
        keeper.handle("arena").unwrap().record(room.tick(incoming).unwrap().into());
        assert_eq!(state_of(&mut room).hash(), played.hashes[tick as usize], "tick {tick}");
    }
    let report = keeper.stop();
    assert!(report.retries == 0 && report.given_up.is_none(), "{report:?}");
    assert_eq!(copy.verify("arena", |_| {}).unwrap().findings, []);
}

#[test]
fn a_copy_of_a_room_that_is_made_smaller_meanwhile_has_no_gap() {
    let mut retention = Retention::default();
    (retention.ticks, retention.facts, retention.chunk_ticks) = (Some(100), Some(100), 50);
    for nth in 0..3 {
        let (store, mut calls) = (MemoryStore::new(), 0);
        let (_, hashes) = play(&start(Box::new(store.clone())), &blueprint(), "arena", 400);
        let mut into = MemoryStore::new();
        let meanwhile = |_: RoomTick| {
            if calls == nth {
                reader(&store).compact("arena", retention, |_| {}).unwrap();
            }
            calls += 1;
        };
        copy_room(&mut reader(&store), "arena", &mut into, meanwhile).unwrap();
        let mut copy = reader(&into);
        assert_eq!(copy.verify("arena", |_| {}).unwrap().findings, [], "after call {nth}");
        for tick in (301..=400).step_by(9) {
            assert_eq!(copy.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick} after call {nth}");
        }
    }
}

#[test]
fn whoever_checks_a_room_that_is_played_finds_nothing_wrong() {
    for nth in 1..=24 {
        let store = MemoryStore::new();
        let mut played = Played::new(&store);
        played.go_on(15);
        let (played, reads) = (Mutex::new(played), AtomicU32::new(0));
        let read = AroundCommits::new(Box::new(store), |store, flush| store.commit(flush)).reading(move |_| {
            if reads.fetch_add(1, Ordering::Relaxed) + 1 == nth {
                // A command is refused in it.
                played.lock().unwrap().go_on(10);
            }
            Ok(())
        });
        let mut archive = Archive::new(Box::new(read), blueprint().protocol());
        let verified = archive.verify("arena", |_| {}).unwrap();
        assert_eq!(verified.findings, [], "written before the {nth}th look");
    }
}

#[test]
fn who_opens_a_room_again_has_no_other_sealed_for_it() {
    let store = MemoryStore::new();
    let mut seldom = WriterOptions::default();
    seldom.seal_every = 1_000_000;
    let mut keeper = Keeper::start(Box::new(store.clone()), seldom).unwrap();
    let _beside = keeper.room(&blueprint(), options("beside")).unwrap();
    drop(keeper.room(&blueprint(), options("arena")).unwrap());
    let end = keeper.handle("arena").unwrap();
    keeper.close("arena");
    while !end.is_over() {
        std::thread::yield_now();
    }
    assert_eq!(keeper.room(&blueprint(), options("arena")).unwrap().tick_now(), RoomTick(0));
    assert_eq!(reader(&store).room("beside").unwrap().sealed, None);
}
