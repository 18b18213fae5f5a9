//! Rooms are deleted, and nothing of them comes back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use crate::arena::{blueprint, options, script};
use crate::promises::{a_room_is_deleted_whole, play, start};
use crate::store::folder;
use roomkeeper::host::Keeper;
use roomkeeper::protocol::RoomTick;
use roomkeeper::store::{
    Archive, ChunkKind, Claim, Directory, Durability, MemoryDirectory, MemoryStore, SqliteStore, Store, StoreError, WriterOptions,
};

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder, Durability::ProcessCrash).unwrap()
}

#[test]
fn a_room_in_memory_is_deleted_whole() {
    let store = MemoryStore::new();
    a_room_is_deleted_whole(|| Box::new(store.clone()));
}

#[test]
fn a_room_on_disk_is_deleted_whole() {
    let data = folder("deleted");
    a_room_is_deleted_whole(|| Box::new(open(&data)));
}

#[test]
fn what_stands_in_the_journal_of_a_deleted_room_becomes_no_other_room_s() {
    let data = folder("deleted-journal");
    let mut writing = WriterOptions::default();
    writing.seal_every = 10_000;
    let mut keeper = Keeper::by_hand(Box::new(open(&data)), writing).unwrap();
    for name in ["arena", "cellar"] {
        let mut room = keeper.room(&blueprint(), options(name)).unwrap();
        for tick in 1..=20 {
            let incoming = script(&room, tick);
            keeper.handle(name).unwrap().record(room.tick(incoming).unwrap().into());
        }
    }
    keeper.writer().step();
    keeper.abandon();
    // The one with the highest number: it would be the next room's.
    let mut store = open(&data);
    assert!(!store.journal().unwrap().is_empty());
    let key = store.room("cellar").unwrap().unwrap().key;
    assert!(store.delete(key, Duration::ZERO).unwrap());
    drop(store);
    let mut keeper = Keeper::start(Box::new(open(&data)), WriterOptions::default()).unwrap();
    assert!(keeper.found().is_empty(), "{:?}", keeper.found());
    assert_eq!(keeper.room(&blueprint(), options("arena")).unwrap().tick_now(), RoomTick(20));
    for name in ["cellar", "attic"] {
        assert_eq!(keeper.room(&blueprint(), options(name)).unwrap().tick_now(), RoomTick(0));
    }
    drop(keeper.stop());
    let mut archive = Archive::new(Box::new(open(&data)), blueprint().protocol());
    for name in ["arena", "cellar", "attic"] {
        assert_eq!(archive.verify(name, |_| {}).unwrap().findings, [], "{name}");
    }
}

#[test]
fn what_is_left_of_a_deleted_room_is_found_by_nobody_and_deleted_by_who_comes_later() {
    let data = folder("deleted-leftover");
    let writer = start(Box::new(open(&data)));
    drop(play(&writer, &blueprint(), "arena", 200));
    drop(writer.stop());
    let mut store = open(&data);
    let key = store.room("arena").unwrap().unwrap().key;
    assert!(store.delete(key, Duration::ZERO).unwrap());
    assert!(store.room("arena").unwrap().is_none() && store.rooms().unwrap().is_empty() && store.room_heads().unwrap().is_empty());
    let are_left = |store: &mut SqliteStore| !store.chunks(key, ChunkKind::Ticks, 0, 1_000, 1).unwrap().is_empty();
    assert!(are_left(&mut store), "its rows are deleted after it");
    // The process ends here.
    drop(store);
    let mut store = open(&data);
    assert!(store.clear().unwrap());
    while store.clear().unwrap() {}
    assert!(!are_left(&mut store));
    assert_eq!(store.examine().unwrap(), Vec::<String>::new());
}

#[test]
fn a_room_that_a_host_has_is_not_deleted_by_another() {
    let directory = MemoryDirectory::by_hand("a", "10.0.0.1:5000", Duration::from_secs(10));
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    drop(play(&writer, &blueprint(), "arena", 20));
    drop(writer.stop());
    let mut a = directory.join("a", "10.0.0.1:5000");
    let mut shared = store.shared_by(&directory.join("b", "10.0.0.2:5000"));
    assert!(matches!(a.claim("arena").unwrap(), Claim::Granted(_)));
    let key = shared.room("arena").unwrap().unwrap().key;
    let refused = shared.delete(key, Duration::ZERO).unwrap_err();
    assert!(matches!(&refused, StoreError::Held { room, host } if room == "arena" && host == "a"), "{refused}");
    a.release("arena").unwrap();
    assert!(shared.delete(key, Duration::ZERO).unwrap());
}
