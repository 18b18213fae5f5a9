//! Under a name that a room has no other one is put, by a fork or by a copy.

use crate::arena::{blueprint, options, script};
use crate::promises::{play, reader, start};
use roomkeeper::host::{fork, header_of};
use roomkeeper::protocol::RoomTick;
use roomkeeper::store::{MemoryStore, Opening, RoomHeader, Store, StoreError, Writer, WriterOptions, copy_room};

fn is_taken(done: Result<(), StoreError>) -> bool {
    matches!(done, Err(StoreError::Unfit { detail, .. }) if detail == "it is there already")
}

#[test]
fn a_fork_takes_no_name_that_a_room_has() {
    let mut store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 100));
    let mut archive = reader(&store);
    let before = archive.head("arena").unwrap();
    assert!(is_taken(fork(&mut archive, "arena", RoomTick(37), "arena", &mut store)));
    assert_eq!(archive.head("arena").unwrap(), before);
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    fork(&mut archive, "arena", RoomTick(37), "what_if", &mut store).unwrap();
    assert!(is_taken(fork(&mut archive, "arena", RoomTick(20), "what_if", &mut store)));
    assert_eq!(archive.head("what_if").unwrap().unwrap().tick, RoomTick(37));
}

#[test]
fn a_fork_that_was_interrupted_can_be_made_again() {
    let mut store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 100));
    let mut archive = reader(&store);
    let header = archive.room("arena").unwrap().header;
    let header = RoomHeader { name: "what_if".to_owned(), ..header };
    store.enter(&header, &blueprint().protocol().describe()).unwrap();
    fork(&mut archive, "arena", RoomTick(37), "what_if", &mut store).unwrap();
    assert_eq!(archive.head("what_if").unwrap().unwrap().tick, RoomTick(37));
}

#[test]
fn a_room_that_stands_in_the_journal_only_has_its_name_too() {
    let (from, mut into) = (MemoryStore::new(), MemoryStore::new());
    drop(play(&start(Box::new(from.clone())), &blueprint(), "arena", 40));
    // Its process ended in its first second.
    let writer = Writer::by_hand(Box::new(into.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=5 {
        writer.step();
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
    }
    writer.step();
    writer.abandon();
    let mut left = reader(&into);
    assert!(left.room("arena").unwrap().sealed.is_none());
    assert!(is_taken(copy_room(&mut reader(&from), "arena", &mut into, |_| {})));
    assert!(is_taken(fork(&mut reader(&from), "arena", RoomTick(20), "arena", &mut into)));
    assert_eq!(left.head("arena").unwrap().unwrap().tick, RoomTick(5));
    assert_eq!(left.verify("arena", |_| {}).unwrap().findings, []);
}
