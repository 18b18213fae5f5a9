//! What is left after a room was made smaller is whole, whichever part of it is gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::{Health, blueprint, options, script};
use crate::promises::{play, start};
use crate::writing::{ask, refusing};
use bevy_app::prelude::*;
use roomkeeper::host::header_of;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{FactSeq, Incoming, RoomTick};
use roomkeeper::room::{Blueprint, Level, Room, RoomOptions};
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{Archive, Handle, MemoryStore, Opening, Retention, StoreError, Writer, WriterOptions};

/// A room of a game, and what writes it.
fn open(store: &MemoryStore, blueprint: &Blueprint, options: &RoomOptions) -> (Writer, Room, Handle) {
    let writer = Writer::by_hand(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let room = blueprint.room(options.clone()).unwrap();
    let handle = writer.open(header_of(options), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    (writer, room, handle)
}

#[test]
fn a_room_that_was_made_smaller_before_is_read_once_and_not_chunk_by_chunk() {
    let (store, reads) = (MemoryStore::new(), Arc::new(AtomicU32::new(0)));
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 700));
    let count = reads.clone();
    let counted = AroundCommits::new(Box::new(store), |store, flush| store.commit(flush)).reading(move |what| {
        count.fetch_add(u32::from(what == "a chunk"), Ordering::Relaxed);
        Ok(())
    });
    let mut archive = Archive::new(Box::new(counted), blueprint().protocol());
    let mut retention = Retention::default();
    retention.chunk_ticks = 20;
    archive.compact("arena", retention, |_| {}).unwrap();
    reads.store(0, Ordering::Relaxed);
    let again = archive.compact("arena", retention, |_| {}).unwrap();
    assert!(again.chunks_before == again.chunks_after && again.chunks_after > 40, "{again:?}");
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads < 30, "{reads} pages of chunks were read");
}

#[test]
fn a_room_whose_batches_are_all_deleted_begins_with_the_checkpoint_that_was_made_of_them() {
    let protocol = |app: &mut App| {
        app.sync::<Health>("health");
    };
    let (store, quiet) = (MemoryStore::new(), Blueprint::new(protocol, |_: &mut App| {}));
    let level = Level::from_text("quiet.json", r#"{"crate": {"health": 7}}"#);
    let (writer, mut room, handle) = open(&store, &quiet, &RoomOptions { level: Some(level), ..RoomOptions::named("quiet") });
    for _ in 0..60 {
        writer.step();
        handle.record(room.tick([]).unwrap().into());
    }
    writer.sync().unwrap();
    let mut archive = Archive::new(Box::new(store), quiet.protocol());
    let then = archive.state_at("quiet", RoomTick(55)).unwrap();
    assert_eq!(then.entities().len(), 1);
    let mut retention = Retention::default();
    retention.ticks = Some(10);
    archive.compact("quiet", retention, |_| {}).unwrap();
    assert!(matches!(archive.state_at("quiet", RoomTick(0)), Err(StoreError::NoTick { .. })));
    assert_eq!(archive.state_at("quiet", RoomTick(55)).unwrap().hash(), then.hash());
    assert_eq!(archive.verify("quiet", |_| {}).unwrap().findings, []);
}

#[test]
fn of_a_fact_whose_batch_is_deleted_nobody_is_told_that_it_changed_nothing() {
    let store = MemoryStore::new();
    let (writer, mut room, handle) = open(&store, &blueprint(), &options("arena"));
    for tick in 1..=100_u32 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        if tick.is_multiple_of(20) {
            writer.sync().unwrap();
        }
    }
    let mut archive = Archive::new(Box::new(store), blueprint().protocol());
    let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    let opened = facts.iter().find(|fact| fact.tick == RoomTick(40) && fact.kind == "door_opened").unwrap().seq;
    assert!(!archive.changes_of("arena", opened).unwrap().is_empty());
    let mut retention = Retention::default();
    retention.ticks = Some(50);
    archive.compact("arena", retention, |_| {}).unwrap();
    assert_eq!(archive.first_kept("arena").unwrap(), RoomTick(40));
    assert!(matches!(archive.changes_of("arena", opened), Err(StoreError::NoTick { .. })));
}

/// A room in which a user joins in some ticks, and commands are refused in others, all of it sealed at ticks 60 and 100; made smaller, so that
/// what is older than so many ticks may go.
fn refused(joins: [u32; 2], refusals: std::ops::RangeInclusive<u32>, keep: u32) -> Archive {
    let (store, blueprint, options) = (MemoryStore::new(), refusing(), RoomOptions::named("refusing"));
    let (writer, mut room, handle) = open(&store, &blueprint, &options);
    for tick in 1..=100 {
        let user = EntityId::named(if tick == joins.iter().copied().max().unwrap_or(0) { "bob" } else { "ann" });
        let incoming = match tick {
            tick if joins.contains(&tick) => vec![Incoming::Join { user, name: "somebody".to_owned() }],
            tick if refusals.contains(&tick) => vec![ask(&room, user, tick)],
            _ => Vec::new(),
        };
        handle.record(room.tick(incoming).unwrap().into());
        if tick == 60 {
            writer.sync().unwrap();
        }
    }
    writer.sync().unwrap();
    let mut archive = Archive::new(Box::new(store), blueprint.protocol());
    let mut retention = Retention::default();
    retention.facts = Some(keep);
    archive.compact("refusing", retention, |_| {}).unwrap();
    archive
}

#[test]
fn refusals_that_outlive_all_facts_are_not_taken_for_a_forged_ledger() {
    let mut archive = refused([1, 2], 70..=95, 20);
    assert_eq!(archive.facts("refusing", FactSeq(1), usize::MAX).unwrap().len(), 0);
    assert!(!archive.refusals("refusing", RoomTick(0)).unwrap().is_empty());
    assert_eq!(archive.verify("refusing", |_| {}).unwrap().findings, []);
}

#[test]
fn refusals_stay_as_long_as_the_first_fact_does() {
    let mut archive = refused([1, 55], 2..=30, 60);
    assert_eq!(archive.facts("refusing", FactSeq(1), 1).unwrap().len(), 1);
    assert_eq!(archive.refusals("refusing", RoomTick(0)).unwrap().len(), 29);
    assert_eq!(archive.verify("refusing", |_| {}).unwrap().findings, []);
}

#[test]
fn how_much_could_not_be_held_against_the_chain_of_hashes_is_told() {
    let whole = refused([1, 55], 2..=30, 60).verify("refusing", |_| {}).unwrap();
    assert!(whole.facts > 0 && whole.refusals > 0 && whole.unchained == 0, "{whole:?}");
    let cut = refused([1, 2], 70..=95, 20).verify("refusing", |_| {}).unwrap();
    assert!(cut.facts == 0 && cut.refusals > 0 && cut.unchained == cut.refusals, "{cut:?}");
}
