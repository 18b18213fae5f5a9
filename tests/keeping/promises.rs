//! What every store promises, wherever it keeps things.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test takes what it needs")]

use std::time::Duration;

use roomkeeper::host::{Keeper, header_of};
use roomkeeper::protocol::{FactSeq, RoomId, RoomTick};
use roomkeeper::room::{Blueprint, Room};
use roomkeeper::store::{
    Archive, Chunk, ChunkKind, Claim, Directory, Flush, Lease, Load, Opening, Owner, Retention, RoomKey, Snippet, Store, StoreError,
    StoredFact, Token, UnusedRoom, Writer, WriterOptions,
};

use crate::arena::{blueprint, options, script, state_of};

pub fn start(store: Box<dyn Store>) -> Writer {
    Writer::start(store, WriterOptions::default(), |finding| panic!("{finding}")).unwrap()
}

pub fn reader(store: &dyn Store) -> Archive {
    Archive::new(store.reader().unwrap(), blueprint().protocol())
}

/// Plays a match into a store and tells the hash of the state at each tick.
pub fn play(writer: &Writer, blueprint: &Blueprint, name: &str, ticks: u32) -> (Room, Vec<u64>) {
    let mut room = blueprint.room(options(name)).unwrap();
    let handle = writer.open(header_of(&options(name)), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut hashes = vec![state_of(&mut room).hash()];
    for tick in 1..=ticks {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        hashes.push(state_of(&mut room).hash());
        if tick.is_multiple_of(20) {
            writer.sync().unwrap();
        }
    }
    writer.sync().unwrap();
    (room, hashes)
}

/// Chunks of facts as one.
fn as_one(chunks: &[Chunk]) -> Chunk {
    let items = |chunk: &Chunk| String::from_utf8(chunk.payload.clone()).unwrap()[1..chunk.payload.len() - 1].to_owned();
    let payload = format!("[{}]", chunks.iter().map(items).collect::<Vec<_>>().join(",\n")).into_bytes();
    let (first, last) = (chunks.first().unwrap(), chunks.last().unwrap());
    Chunk { to: last.to, tick_to: last.tick_to, payload, ..first.clone() }
}

/// What was taken back is not taken up, nor the other way round.
fn are_taken_back_or_taken_up(store: &mut dyn Store, back: i64, up: i64) {
    assert!(store.withdraw(back).unwrap() && !store.withdraw(back).unwrap());
    assert_eq!(store.answer(back).unwrap().as_deref(), Some("given up"));
    assert!(store.requests().unwrap().iter().all(|open| open.id != back));
    assert!(!store.take_up(back).unwrap() && store.take_up(up).unwrap());
    assert!(!store.withdraw(up).unwrap() && !store.take_up(up).unwrap());
    assert_eq!(store.answer(up).unwrap().as_deref(), Some("taken up"));
}

/// The conformance suite.
pub fn keeps_its_promises(store: Box<dyn Store>) {
    let mut archive = reader(&*store);
    let other = store.reader().unwrap();
    let writer = start(store);
    let (mut room, hashes) = play(&writer, &blueprint(), "arena", 700);
    let head = archive.head("arena").unwrap().unwrap();
    assert_eq!(head.tick, RoomTick(700));
    // Facts by any stretch.
    let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    assert!(facts.iter().map(|fact| fact.seq.0).eq(1..=head.seq.0));
    for from in [1, 2, head.seq.0 / 2, head.seq.0] {
        let some = archive.facts("arena", FactSeq(from), 7).unwrap();
        assert!(some.iter().map(|fact| fact.seq.0).eq((from..=head.seq.0).take(7)), "from {from}");
    }
    assert!(archive.facts("arena", FactSeq(head.seq.0 + 1), 7).unwrap().is_empty());
    // The components are the state.
    let key = archive.room("arena").unwrap().key;
    let state = state_of(&mut room);
    let components = archive.store().components(key).unwrap();
    for (entity, json) in state.to_json(archive.protocol()).unwrap().as_object().unwrap() {
        for (component, value) in json.as_object().unwrap() {
            assert_eq!(components[entity][component], value.to_string(), "{entity}.{component}");
        }
    }
    // Snippets come back as they were saved.
    let saved = archive.save_snippet("arena", "half", RoomTick(350)).unwrap();
    assert_eq!(archive.snippet("arena", "half").unwrap(), saved);
    assert!(matches!(archive.snippet("arena", "none"), Err(StoreError::NoSnippet { .. })));
    assert_eq!(Snippet::from_text("half", &saved.to_text()).unwrap(), saved);
    // Requests are answered once. Those that wait for another room hide none, and are taken back by who does not wait any more.
    let closed = RoomKey(key.0 + 1);
    let waiting: Vec<i64> = (0..100).map(|_| archive.store().ask(closed, "reset", "half").unwrap()).collect();
    are_taken_back_or_taken_up(archive.store(), waiting[0], waiting[1]);
    let request = archive.store().ask(key, "reset", "half").unwrap();
    let mut tries = 0;
    let asked = loop {
        let asked = writer.asked();
        if !asked.is_empty() || tries > 100 {
            break asked;
        }
        tries += 1;
        writer.answer(-1, "");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(matches!(&asked[..], [asked] if asked.id == request && asked.incoming == saved.reset()), "{asked:?}");
    writer.answer(request, "done");
    writer.sync().unwrap();
    assert_eq!(archive.store().answer(request).unwrap().as_deref(), Some("done"));
    // What is compacted reads as before.
    let before = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    // Who puts chunks together that somebody else has put together with others by now changes nothing.
    let chunks = archive.store().chunks(key, ChunkKind::Facts, 0, u64::MAX >> 1, 3).unwrap();
    for some in [&chunks[..3], &chunks[..2]] {
        archive.store().replace(key, ChunkKind::Facts, &[as_one(some)]).unwrap();
        let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
        assert!(before.iter().map(StoredFact::to_json).eq(facts.iter().map(StoredFact::to_json)), "{} of 3", some.len());
    }
    let mut retention = Retention::default();
    retention.chunk_ticks = 100;
    let compacted = archive.compact("arena", retention, |_| {}).unwrap();
    assert!(compacted.chunks_after < compacted.chunks_before / 2, "{compacted:?}");
    let after = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    assert!(before.iter().map(StoredFact::to_json).eq(after.iter().map(StoredFact::to_json)));
    for tick in (0..=700).step_by(13) {
        assert_eq!(archive.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick}");
    }
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    // What need not be kept is gone, and the rest is as it was.
    retention.ticks = Some(200);
    archive.compact("arena", retention, |_| {}).unwrap();
    for tick in (500..=700).step_by(13) {
        assert_eq!(archive.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick}");
    }
    let error = archive.state_at("arena", RoomTick(20)).unwrap_err().to_string();
    assert!(error.contains("has no tick 20: what is kept goes from"), "{error}");
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    drop((writer, other));
}

fn names(rooms: Vec<UnusedRoom>) -> Vec<String> {
    let mut names: Vec<String> = rooms.into_iter().map(|room| room.name).collect();
    names.sort();
    names
}

/// A room is deleted whole, and no other is harmed by it. `open` opens the store again and again.
pub fn a_room_is_deleted_whole(open: impl Fn() -> Box<dyn Store>) {
    let writer = start(open());
    for name in ["arena", "cellar"] {
        drop(play(&writer, &blueprint(), name, 60));
    }
    drop(writer.stop());
    let mut store = open();
    let mut archive = reader(&*store);
    archive.save_snippet("cellar", "half", RoomTick(30)).unwrap();
    let cellar = archive.room("cellar").unwrap().key;
    store.ask(cellar, "reset", "half").unwrap();
    // Of what else is kept of a room the other one has as much.
    let arena = archive.room("arena").unwrap().key;
    archive.save_snippet("arena", "half", RoomTick(30)).unwrap();
    store.ask(arena, "reset", "half").unwrap();
    let cursors = [arena, cellar].map(|room| ("scores".to_owned(), room, FactSeq(3), "three".to_owned())).to_vec();
    // Of a number that is higher than those of the writer's.
    store.commit(&Flush { number: 1_000_000, cursors, ..Flush::default() }).unwrap();
    let facts = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    // Who looks for rooms that nobody uses finds those that it means.
    assert_eq!(names(store.unused("", Duration::ZERO, 10).unwrap()), ["arena", "cellar"]);
    assert_eq!(names(store.unused("cell", Duration::ZERO, 10).unwrap()), ["cellar"]);
    assert_eq!(store.unused("", Duration::ZERO, 1).unwrap().len(), 1);
    let hour = Duration::from_secs(3_600);
    assert!(store.unused("", hour, 10).unwrap().is_empty());
    assert!(!store.delete(cellar, hour).unwrap(), "it was used since");
    assert_eq!(store.deleted().unwrap(), 0);
    // Nobody finds what is deleted, and nothing is left of it.
    assert!(store.delete(cellar, Duration::ZERO).unwrap() && !store.delete(cellar, Duration::ZERO).unwrap());
    assert_eq!(store.deleted().unwrap(), 1);
    assert!(matches!(archive.facts("cellar", FactSeq(1), 1), Err(StoreError::NoRoom { .. })));
    while store.clear().unwrap() {}
    for kind in ChunkKind::ALL {
        assert!(store.chunks(cellar, kind, 0, u64::MAX >> 1, 1).unwrap().is_empty(), "{kind:?}");
    }
    assert!(store.checkpoints(cellar).unwrap().is_empty() && store.components(cellar).unwrap().is_empty());
    assert!(store.snippets(cellar).unwrap().is_empty() && store.snippet(cellar, "half").unwrap().is_none());
    assert_eq!(store.cursor("scores", cellar).unwrap(), None);
    // The other one is as it was.
    assert_eq!(store.cursor("scores", arena).unwrap(), Some((FactSeq(3), "three".to_owned())));
    assert!(store.snippet(arena, "half").unwrap().is_some() && !store.checkpoints(arena).unwrap().is_empty());
    let requests = store.requests().unwrap();
    assert_eq!(requests.iter().map(|request| request.key).collect::<Vec<_>>(), [arena]);
    assert!(requests.iter().all(|request| store.answer_open(request.id, "said").unwrap()));
    let after = archive.facts("arena", FactSeq(1), usize::MAX).unwrap();
    assert!(facts.iter().map(StoredFact::to_json).eq(after.iter().map(StoredFact::to_json)));
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    drop((archive, store));
    // What gets its name is another room, by its number and by its id.
    for ticks in [0, 30] {
        let mut keeper = Keeper::start(open(), WriterOptions::default()).unwrap();
        assert!(keeper.found().is_empty(), "{:?}", keeper.found());
        let mut room = keeper.room(&blueprint(), options("cellar")).unwrap();
        assert_eq!(room.tick_now(), RoomTick(ticks));
        let handle = keeper.handle("cellar").unwrap();
        for tick in ticks + 1..=ticks + 30 {
            let incoming = script(&room, tick);
            handle.record(room.tick(incoming).unwrap().into());
        }
        drop(keeper.stop());
    }
    let store = open();
    let mut archive = reader(&*store);
    let again = archive.room("cellar").unwrap();
    assert!(again.key != cellar && again.header.id() != RoomId::named("cellar"));
    assert_eq!(archive.head("cellar").unwrap().unwrap().tick, RoomTick(60));
    for name in ["arena", "cellar"] {
        assert_eq!(archive.verify(name, |_| {}).unwrap().findings, []);
    }
}

/// What every directory promises. `pass` lets the time pass in which a lease runs out.
pub fn has_one_owner_for_each_room(a: &mut dyn Directory, b: &mut dyn Directory, pass: impl Fn()) {
    let granted = |claim: Claim| match claim {
        Claim::Granted(lease) => lease.token,
        Claim::Taken(owner) => panic!("{owner:?} has it"),
    };
    assert_eq!(a.find("hall").unwrap(), None);
    let first = granted(a.claim("hall").unwrap());
    assert_eq!(granted(a.claim("hall").unwrap()), first, "it stays by the lease that it has");
    let owner = Owner { host: "a".to_owned(), address: "10.0.0.1:5000".to_owned(), token: first };
    assert_eq!(b.claim("hall").unwrap(), Claim::Taken(owner.clone()));
    assert_eq!((a.find("hall").unwrap().as_ref(), b.find("hall").unwrap().as_ref()), (Some(&owner), Some(&owner)));
    assert_eq!(a.leases().held(), [Lease { room: "hall".to_owned(), token: first }]);
    assert!(b.leases().held().is_empty() && a.leases().lapsed().is_empty());
    // Who gives a room back lets anybody have it at once, by a greater token.
    a.release("hall").unwrap();
    assert!(a.leases().held().is_empty());
    assert_eq!(a.find("hall").unwrap(), None);
    assert!(b.claim_lapsed(10).unwrap().is_empty(), "it did not run out");
    let second = granted(b.claim("hall").unwrap());
    assert!(second > first);
    // Leases that are renewed stay, the others run out, and are not renewed any more.
    let cellar = granted(a.claim("cellar").unwrap());
    assert!(b.claim_lapsed(10).unwrap().is_empty());
    let load = Load { rooms: 1, rooms_max: 20, members: 3, members_max: 256 };
    assert!(a.renew(load).unwrap().is_empty());
    pass();
    assert_eq!(a.find("cellar").unwrap(), None);
    assert_eq!(a.renew(load).unwrap(), ["cellar"]);
    assert!(a.leases().held().is_empty());
    let taken = b.claim_lapsed(10).unwrap();
    let taken: Vec<(&str, Token)> = taken.iter().map(|lease| (lease.room.as_str(), lease.token)).collect();
    assert_eq!(taken[0].0, "cellar");
    assert!(taken[0].1 > cellar && taken.len() == 2 && taken[1] > ("hall", second), "its own, which ran out, too: {taken:?}");
    assert!(matches!(a.claim("cellar").unwrap(), Claim::Taken(owner) if owner.host == "b"));
    // What somebody sees who looks for a place.
    let hosts = a.hosts().unwrap();
    assert_eq!(hosts.iter().map(|host| (host.host.as_str(), host.load)).collect::<Vec<_>>(), [("a", load), ("b", Load::default())]);
    assert!(hosts[0].silent < hosts[1].silent);
    let rooms = b.rooms().unwrap();
    assert!(rooms.iter().map(|room| room.room.as_str()).eq(["cellar", "hall"]));
    assert!(rooms.iter().all(|room| room.owner.as_ref().is_some_and(|owner| owner.host == "b" && owner.address == "10.0.0.2:5000")));
    b.leave().unwrap();
    assert!(a.hosts().unwrap().iter().map(|host| host.host.as_str()).eq(["a"]));
    assert!(granted(a.claim("hall").unwrap()) > taken[1].1, "tokens outlive the hosts");
}
