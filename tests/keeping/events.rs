//! What operators let happen, as the store keeps it and as it is run again.

use roomkeeper::host::{Keeper, rerun};
use roomkeeper::protocol::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX};
use roomkeeper::protocol::{FactSeq, Incoming, RoomTick, Taken};
use roomkeeper::room::Verdict;
use roomkeeper::store::{MemoryStore, WriterOptions};

use crate::arena::{blueprint, options, script, state_of};
use crate::promises::reader;

fn event(name: &str, fact: &str) -> Incoming {
    Incoming::Event { name: name.to_owned(), fact: fact.to_owned() }
}

/// What operators ask for at a tick.
fn asked(tick: u32) -> Vec<Incoming> {
    match tick {
        15 => vec![event("healed", r#"{"who": "crate", "by": 20}"#), event("healed", r#"{"who": "nobody", "by": 20}"#)],
        16 => vec![event("healed", "{"), event(&"é".repeat(NAME_BYTES_MAX), "null"), event("healed", &"é".repeat(EVENT_BYTES_MAX))],
        // Nothing else opens a door that is opened so.
        18 => vec![event("door_opened", r#"{"by": "ann", "door": "door_a"}"#)],
        _ => Vec::new(),
    }
}

#[test]
fn what_operators_let_happen_is_stored_and_run_again_the_same() {
    let store = MemoryStore::new();
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
    let mut taken: Vec<Taken> = Vec::new();
    for tick in 1..=40 {
        let incoming = script(&room, tick).into_iter().chain(asked(tick));
        let outbox = room.tick(incoming).unwrap();
        taken.extend(outbox.taken.iter().filter(|taken| matches!(taken.incoming, Incoming::Event { .. })).cloned());
        keeper.handle("arena").unwrap().record(outbox.into());
    }
    let end = state_of(&mut room).hash();
    drop(keeper.stop());

    let mut archive = reader(&store);
    let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    let of_operators: Vec<_> = facts.iter().filter(|fact| fact.producer == "server" && fact.author.is_none()).collect();
    assert_eq!(of_operators.iter().map(|fact| (&*fact.kind, fact.tick.0)).collect::<Vec<_>>(), [("healed", 15), ("door_opened", 18)]);
    let refusals = archive.refusals("arena", RoomTick(0)).unwrap();
    let events: Vec<_> = refusals.iter().filter(|refusal| refusal.kind == "event").map(|refusal| &*refusal.code).collect();
    assert_eq!(events, ["no_such_entity", "malformed", "unknown_fact", "too_large"]);
    assert!(refusals.iter().any(|refusal| refusal.code == "open_already"), "ann and bob find the door open");

    // What came in is kept as it was, but for the rest of what is too long.
    let ticks = archive.ticks("arena", RoomTick(1), RoomTick(40)).unwrap();
    let kept = ticks.iter().flat_map(|tick| &tick.taken).filter(|taken| matches!(taken.incoming, Incoming::Event { .. }));
    let kept: Vec<&Taken> = kept.collect();
    assert_eq!(kept.iter().map(|taken| &taken.verdict).collect::<Vec<_>>(), taken.iter().map(|taken| &taken.verdict).collect::<Vec<_>>());
    for (kept, taken) in kept.iter().zip(&taken).filter(|(_, taken)| taken.verdict == Some(Verdict::Accepted)) {
        assert_eq!(*kept, taken);
    }
    let Incoming::Event { name, .. } = &kept[3].incoming else { panic!("{kept:?}") };
    assert!((NAME_BYTES_MAX + 1..=NAME_BYTES_MAX + 4).contains(&name.len()), "{name}");
    let Incoming::Event { fact, .. } = &kept[4].incoming else { panic!("{kept:?}") };
    assert!((EVENT_BYTES_MAX + 1..=EVENT_BYTES_MAX + 4).contains(&fact.len()), "{}", fact.len());

    // Run again it becomes the same, and so does what was cut: it is said of it what was said of the whole.
    let run = rerun(&mut archive, &blueprint(), "arena", (RoomTick(0), RoomTick(40)), None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference, run.end.hash()), (40, None, end));
    let mut again = blueprint().room(options("arena")).unwrap();
    for tick in &ticks {
        let outbox = again.tick(tick.taken.iter().map(|taken| taken.incoming.clone())).unwrap();
        assert_eq!(outbox.taken, tick.taken, "tick {}", tick.tick);
    }
    // What if nobody had let anything happen?
    let mut nothing = |_: RoomTick, incoming: &mut Vec<Incoming>| incoming.retain(|item| !matches!(item, Incoming::Event { .. }));
    let run = rerun(&mut archive, &blueprint(), "arena", (RoomTick(0), RoomTick(40)), Some(&mut nothing), |_| {}).unwrap();
    assert_eq!(run.difference.unwrap().tick, RoomTick(15));
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
}
