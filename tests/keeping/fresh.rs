//! Facts that became durable just now are told on in bounded memory: what there is no room for stands in the ledger alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use roomkeeper::host::header_of;
use roomkeeper::prelude::*;
use roomkeeper::protocol::FactSeq;
use roomkeeper::room::{Blueprint, RoomOptions};
use roomkeeper::store::{Archive, FreshFacts, MemoryStore, Opening, Writer, WriterOptions};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Sung {
    text: String,
}

/// In each tick sixty facts of sixty thousand bytes.
fn opera() -> Blueprint {
    let protocol = |app: &mut App| {
        app.stateless_fact::<Sung>("sung");
    };
    let rules = |app: &mut App| {
        app.add_systems(FixedUpdate, |mut record: Recorder| {
            for _ in 0..60 {
                record.fact(Sung { text: "x".repeat(60_000) });
            }
        });
    };
    Blueprint::new(protocol, rules)
}

/// The last durable fact, and the numbers of those that are told.
fn told(fresh: &FreshFacts) -> (FactSeq, Vec<u64>) {
    let news = fresh.take();
    assert_eq!(news.len(), 1);
    let news = news.first().unwrap();
    (news.head, news.facts().unwrap().iter().map(|fact| fact.seq.0).collect())
}

#[test]
fn facts_that_nobody_takes_are_kept_up_to_four_mebibytes_and_without_gaps() {
    let (store, opera, options) = (MemoryStore::new(), opera(), RoomOptions::named("opera"));
    let writer = Writer::by_hand(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let fresh = writer.fresh_facts();
    let mut room = opera.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), opera.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut tick = || {
        handle.record(room.tick([]).unwrap().into());
        writer.sync().unwrap();
    };
    // The room's creation, then sixty in each tick.
    (0..3).for_each(|_| tick());
    assert_eq!(told(&fresh), (FactSeq(181), Vec::from_iter(1..=61)));
    tick();
    assert_eq!(told(&fresh), (FactSeq(241), Vec::from_iter(182..=241)));
    let facts = Archive::new(Box::new(store), opera.protocol()).facts("opera", FactSeq(1), usize::MAX).unwrap();
    assert!(facts.iter().map(|fact| fact.seq.0).eq(1..=241));
}
