//! What every store promises, in memory and on disk; and what is made of what is stored.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::arena;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::{blueprint, options, script, state_of};
use crate::promises::{has_one_owner_for_each_room, keeps_its_promises, play, reader, start};
use roomkeeper::host::{Keeper, fork, header_of, rebuild_from_facts, rerun};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{FactSeq, Incoming, RoomTick};
use roomkeeper::room::{Blueprint, Room};
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{
    Archive, Durability, Handle, MemoryDirectory, MemoryStore, Opening, Projection, Projector, Retention, Scoreboard, SqliteStore,
    StoreError, StoredFact, Stream, Writer, WriterOptions, copy_room, data_file,
};

pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_store_in_memory_keeps_its_promises() {
    keeps_its_promises(Box::new(MemoryStore::new()));
}

#[test]
fn a_store_on_disk_keeps_its_promises() {
    keeps_its_promises(Box::new(SqliteStore::open(folder("conformance"), Durability::PowerLoss).unwrap()));
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_build_without_postgres_says_so_and_takes_its_address_for_no_folder() {
    use roomkeeper::host::KeepOptions;
    for address in ["postgres://rooms@localhost/rooms", "postgresql://localhost"] {
        let error = Keeper::open(&KeepOptions::in_folder(address)).unwrap_err();
        assert!(error.to_string().contains("build it with the feature `postgres`"), "{error}");
        assert!(!std::path::Path::new("postgres:").exists() && !std::path::Path::new("postgresql:").exists());
    }
}

#[test]
fn a_room_that_is_opened_again_in_the_same_process_goes_on_where_it_was() {
    let store = MemoryStore::new();
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut hash = 0;
    for opening in 0..4 {
        let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
        assert_eq!(room.tick_now(), RoomTick(opening * 25));
        assert!(opening == 0 || state_of(&mut room).hash() == hash);
        for tick in 1..=25 {
            let incoming = script(&room, opening * 25 + tick);
            keeper.handle("arena").unwrap().record(room.tick(incoming).unwrap().into());
        }
        hash = state_of(&mut room).hash();
    }
    drop(keeper.stop());
    let mut archive = Archive::new(Box::new(store), blueprint().protocol());
    assert_eq!(archive.head("arena").unwrap().unwrap().tick, RoomTick(100));
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
}

#[test]
fn a_room_that_is_opened_again_costs_no_other_what_stands_in_the_journal() {
    for before in 3..12 {
        let store = MemoryStore::new();
        let mut options = WriterOptions::default();
        options.seal_every = 4;
        let writer = Writer::by_hand(Box::new(store.clone()), options, |finding| panic!("{finding}")).unwrap();
        let [(a, mut again), (b, mut room)] = ["a", "b"].map(|name| {
            let room = blueprint().room(arena::options(name)).unwrap();
            let handle = writer.open(header_of(&arena::options(name)), blueprint().protocol(), Opening::New);
            handle.record(room.opening().clone().into());
            (handle, room)
        });
        let live = |handle: &Handle, room: &mut Room| {
            let incoming = script(room, room.tick_now().0 + 1);
            handle.record(room.tick(incoming).unwrap().into());
        };
        for _ in 0..before {
            live(&a, &mut again);
            live(&b, &mut room);
            writer.step();
        }
        let _a = writer.open(header_of(&arena::options("a")), blueprint().protocol(), Opening::New);
        for _ in 0..2 {
            live(&b, &mut room);
            writer.step();
            assert_eq!(b.durable(), Some(room.tick_now()));
            // The process could end here.
            let head = reader(&store).head("b").unwrap().unwrap();
            assert_eq!(head.tick, room.tick_now(), "after {before} ticks");
            let state = reader(&store).state_at("b", head.tick).unwrap();
            assert_eq!(state.hash(), state_of(&mut room).hash());
        }
    }
}

#[test]
fn a_directory_in_memory_has_one_owner_for_each_room() {
    let ttl = std::time::Duration::from_secs(3_600);
    let mut a = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
    let (mut b, clock) = (a.join("b", "10.0.0.2:5000"), a.clone());
    has_one_owner_for_each_room(&mut a, &mut b, || clock.skip(ttl));
}

#[test]
fn each_of_ten_thousand_ticks_is_read_back_as_it_was_before_and_after_compaction() {
    let data = folder("ten_thousand");
    let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
    let mut archive = reader(&store);
    let (_, hashes) = play(&start(Box::new(store)), &blueprint(), "arena", 10_000);
    for compacted in [false, true] {
        if compacted {
            let done = archive.compact("arena", Retention::default(), |_| {}).unwrap();
            assert!(done.chunks_after * 10 < done.chunks_before && done.deleted > 0, "{done:?}");
            // 105 bytes a tick, and 97 once packed together: no more than a tenth above what it was.
            assert!(done.bytes_before < 1_160_000 && done.bytes_after < 1_062_000, "{done:?}");
        }
        let mut cursor = archive.cursor("arena", RoomTick(0)).unwrap();
        for tick in 0..=10_000 {
            cursor.seek(RoomTick(tick)).unwrap();
            assert_eq!(cursor.state().hash(), hashes[tick as usize], "tick {tick}, compacted: {compacted}");
        }
        for tick in (0..=10_000).rev().step_by(977) {
            cursor.seek(RoomTick(tick)).unwrap();
            assert_eq!(cursor.state().hash(), hashes[tick as usize], "back to tick {tick}, compacted: {compacted}");
        }
        assert_eq!(cursor.advance(-1_000_000).unwrap(), RoomTick(0));
        assert_eq!(cursor.advance(i64::MAX).unwrap(), RoomTick(10_000));
    }
}

#[test]
fn only_one_process_writes_and_nothing_foreign_is_touched() {
    let data = folder("locked");
    let store = SqliteStore::open(&data, Durability::PowerLoss).unwrap();
    assert!(matches!(SqliteStore::open(&data, Durability::PowerLoss), Err(StoreError::Locked(_))));
    assert!(roomkeeper::store::is_served(&data));
    drop(store);
    assert!(!roomkeeper::store::is_served(&data));
    assert!(matches!(SqliteStore::read(folder("nothing")), Err(StoreError::Missing(_))));
    let foreign = folder("foreign");
    std::fs::create_dir_all(&foreign).unwrap();
    let other = rusqlite::Connection::open(data_file(&foreign)).unwrap();
    other.execute_batch("CREATE TABLE theirs(x); PRAGMA user_version = 1").unwrap();
    drop(other);
    assert!(matches!(SqliteStore::open(&foreign, Durability::PowerLoss), Err(StoreError::Foreign(..))));
    let newer = rusqlite::Connection::open(data_file(&data)).unwrap();
    newer.execute_batch("PRAGMA user_version = 999").unwrap();
    drop(newer);
    assert!(matches!(SqliteStore::open(&data, Durability::PowerLoss), Err(StoreError::Newer { found: 999, .. })));
}

#[test]
fn whoever_changes_a_fact_after_the_event_is_found_out() {
    let data = folder("tampered");
    let store = SqliteStore::open(&data, Durability::PowerLoss).unwrap();
    drop(play(&start(Box::new(store)), &blueprint(), "arena", 200));
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    let facts: i64 = file.query_row("SELECT count(*) FROM fact WHERE kind = 'healed'", [], |row| row.get(0)).unwrap();
    assert!(facts > 0, "facts are read by plain SQL");
    let sql = "SELECT rowid, payload, seq_from, seq_to, tick_from, tick_to, fingerprint FROM fact_chunk WHERE payload LIKE '%\"by\":10}%'";
    let (rowid, payload, place) = file
        .query_row(sql, [], |row| {
            let place = [row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, place))
        })
        .unwrap();
    let forged = payload.replacen("\"by\":10}", "\"by\":99}", 1);
    // Whoever forges it knows how checksums are made.
    let seed = place.iter().fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number.cast_unsigned()));
    let sum = twox_hash::XxHash3_64::oneshot_with_seed(seed, forged.as_bytes()).cast_signed();
    file.execute("UPDATE fact_chunk SET payload = ?1, sum = ?2 WHERE rowid = ?3", rusqlite::params![forged, sum, rowid]).unwrap();
    drop(file);
    let mut archive = Archive::new(Box::new(SqliteStore::read(&data).unwrap()), blueprint().protocol());
    let forged = archive.facts("arena", FactSeq(1), usize::MAX).unwrap().into_iter().find(|fact| fact.kind == "healed").unwrap();
    let findings = archive.verify("arena", |_| {}).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].place, format!("fact {}", forged.seq));
}

#[test]
fn running_a_match_again_gives_the_same_bytes_and_a_room_file_does_so_anywhere() {
    let data = folder("rerun");
    let store = SqliteStore::open(&data, Durability::PowerLoss).unwrap();
    let mut archive = reader(&store);
    drop(play(&start(Box::new(store)), &blueprint(), "arena", 600));
    let all = (RoomTick(0), RoomTick(600));
    let run = rerun(&mut archive, &blueprint(), "arena", all, None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (600, None));
    // A file of its own, read elsewhere.
    let file = folder("bug.room");
    let _ = std::fs::remove_file(&file);
    copy_room(&mut archive, "arena", &mut SqliteStore::create_file(&file).unwrap(), |_| {}).unwrap();
    let mut elsewhere = Archive::new(Box::new(SqliteStore::read(&file).unwrap()), blueprint().protocol());
    let run = rerun(&mut elsewhere, &blueprint(), "arena", all, None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (600, None));
    assert_eq!(elsewhere.verify("arena", |_| {}).unwrap().findings, []);
}

/// The same game, with chance that comes from outside the room.
fn careless() -> Blueprint {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let careless = |mut doors: bevy_ecs::prelude::Query<(&bevy_ecs::prelude::Name, &mut arena::Position)>,
                    clock: bevy_ecs::prelude::Res<RoomClock>| {
        for (_, mut position) in doors.iter_mut().filter(|(name, _)| clock.tick().0 == 123 && name.as_str() == "door_a") {
            position.0[1] = COUNT.fetch_add(1, Ordering::Relaxed) as f32;
        }
    };
    Blueprint::new(arena::protocol, move |app| {
        arena::rules(app);
        bevy_app::App::add_systems(app, bevy_app::FixedUpdate, careless);
    })
}

#[test]
fn what_is_not_deterministic_is_named() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &careless(), "arena", 300));
    let run = rerun(&mut reader(&store), &careless(), "arena", (RoomTick(0), RoomTick(300)), None, |_| {}).unwrap();
    let difference = run.difference.unwrap();
    assert_eq!(difference.tick, RoomTick(123));
    assert!(difference.what.starts_with("door_a.position is [11.25,0.0] recorded, [11.25,1.0] now"), "{}", difference.what);
}

#[test]
fn what_if_a_command_had_not_come() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 100));
    let mut archive = reader(&store);
    let ann = EntityId::named("ann");
    let mut nobody_opens_a = |_: RoomTick, incoming: &mut Vec<Incoming>| {
        incoming.retain(|item| !matches!(item, Incoming::Command { user, id, .. } if *user == ann && id.0 == 20));
    };
    let run = rerun(&mut archive, &blueprint(), "arena", (RoomTick(0), RoomTick(100)), Some(&mut nobody_opens_a), |_| {}).unwrap();
    let first = run.difference.as_ref().unwrap();
    assert_eq!(first.tick, RoomTick(20), "bob, who came second, opens it instead");
    let mut nothing = |_: RoomTick, _: &mut Vec<Incoming>| {};
    let same = rerun(&mut archive, &blueprint(), "arena", (RoomTick(0), RoomTick(100)), Some(&mut nothing), |_| {}).unwrap();
    assert_eq!(same.difference, None);
}

#[test]
fn a_fork_goes_on_from_any_tick_without_touching_the_old_room() {
    let mut store = MemoryStore::new();
    let (_, hashes) = play(&start(Box::new(store.clone())), &blueprint(), "arena", 300);
    let mut archive = reader(&store);
    fork(&mut archive, "arena", RoomTick(137), "what_if", &mut store).unwrap();
    let recovered = archive.recover("what_if").unwrap();
    let mut room = roomkeeper::host::rebuild(&blueprint(), &recovered).unwrap();
    assert_eq!((room.tick_now(), room.info().name.as_str()), (RoomTick(137), "what_if"));
    for tick in 138..=300 {
        let incoming = script(&room, tick);
        let _ = room.tick(incoming).unwrap();
        assert_eq!(state_of(&mut room).hash(), hashes[tick as usize], "tick {tick}");
    }
    assert_eq!(archive.head("arena").unwrap().unwrap().tick, RoomTick(300));
}

#[test]
fn a_value_tells_its_whole_chain_of_causes() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 100));
    let mut archive = reader(&store);
    let why = archive.why("arena", "door_a", "door_state", RoomTick(90)).unwrap().unwrap();
    assert_eq!(why.link.tick, RoomTick(20));
    assert_eq!((why.link.before.unwrap(), why.link.after.unwrap()), ("Closed".into(), "Open".into()));
    assert_eq!(why.facts.iter().map(|fact| fact.kind.as_str()).collect::<Vec<_>>(), ["door_opened"]);
    assert_eq!(why.facts[0].author, Some(EntityId::named("ann")));
    let (command, data) = why.command.unwrap();
    assert_eq!((command.as_str(), data["door"].as_str().unwrap()), ("open", EntityId::named("door_a").to_string().as_str()));
    assert!(archive.why("arena", "door_a", "health", RoomTick(90)).unwrap().is_none());
    let drifted = archive.why("arena", "crate", "position", RoomTick(90)).unwrap().unwrap();
    assert!(drifted.facts.is_empty() && drifted.link.fact.is_none(), "a system moved it, without a fact");
    let history = archive.history("arena", &EntityId::named("ann").to_string(), Some("avatar"), RoomTick(0), RoomTick(100)).unwrap();
    assert_eq!(history.len(), 1);
    let diff = archive.diff("arena", RoomTick(19), RoomTick(20)).unwrap();
    assert!(diff.changes.iter().any(|change| change.entity == "door_a" && change.component == "door_state"));
}

#[test]
fn an_audit_lists_what_was_done_and_what_was_refused() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 100));
    let audit = reader(&store).audit("arena", Some(EntityId::named("bob"))).unwrap();
    let told: Vec<_> = audit.iter().map(|audited| (audited.kind.as_str(), audited.refused.as_deref())).collect();
    assert_eq!(told, [("user_joined", None), ("open", Some("open_already")), ("healed", None)]);
}

#[test]
fn facts_alone_give_what_changes_by_facts_alone() {
    let store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 60));
    let rebuilt = rebuild_from_facts(&mut reader(&store), &blueprint(), "arena", RoomTick(60)).unwrap();
    assert!(rebuilt.exact.contains(&"door_state".to_owned()) && rebuilt.exact.contains(&"avatar".to_owned()), "{rebuilt:?}");
    assert!(rebuilt.otherwise.iter().any(|(component, _)| component == "position"), "{rebuilt:?}");
}

#[test]
fn where_the_first_facts_are_not_kept_nothing_is_told_from_the_others_alone() {
    let mut store = MemoryStore::new();
    drop(play(&start(Box::new(store.clone())), &blueprint(), "arena", 300));
    let mut archive = reader(&store);
    fork(&mut archive, "arena", RoomTick(137), "what_if", &mut store).unwrap();
    let mut retention = Retention::default();
    retention.facts = Some(100);
    archive.compact("arena", retention, |_| {}).unwrap();
    assert!(archive.facts("arena", FactSeq(1), 1).unwrap()[0].seq > FactSeq(1));
    for (room, tick) in [("what_if", 137), ("arena", 300)] {
        let error = rebuild_from_facts(&mut archive, &blueprint(), room, RoomTick(tick)).unwrap_err().to_string();
        assert!(error.contains("its first facts are not kept here"), "{room}: {error}");
    }
}

/// Counts facts, and fails at one.
#[derive(Default)]
struct Count {
    facts: u64,
    fails_at: u64,
}

impl Projection for Count {
    fn name(&self) -> &str {
        "count"
    }
    fn take(&mut self, _: &str, fact: &StoredFact) {
        assert!(fact.seq.0 != self.fails_at, "as it should");
        self.facts += 1;
    }
    fn memory(&self) -> String {
        self.facts.to_string()
    }
    fn remember(&mut self, memory: &str) {
        self.facts = memory.parse().unwrap();
    }
}

/// The same under another name: it begins with the first fact.
struct Failing(Count);

impl Projection for Failing {
    fn name(&self) -> &str {
        "failing"
    }
    fn take(&mut self, room: &str, fact: &StoredFact) {
        self.0.take(room, fact);
    }
    fn memory(&self) -> String {
        self.0.memory()
    }
    fn remember(&mut self, memory: &str) {
        self.0.remember(memory);
    }
}

#[test]
fn a_projection_that_was_down_catches_up_exactly_once_per_fact() {
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    let (mut room, _) = play(&writer, &blueprint(), "arena", 150);
    let first = archive_count(&store);
    let mut up = Projector::new(Count::default(), reader(&store), "arena").unwrap();
    assert_eq!(up.catch_up(|name, room, seq, memory| writer.cursor_keeper().keep(name, room, seq, memory)).unwrap(), first);
    assert_eq!(
        (up.lag().unwrap(), up.catch_up(|name, room, seq, memory| writer.cursor_keeper().keep(name, room, seq, memory)).unwrap()),
        (0, 0)
    );
    writer.sync().unwrap();
    // It is down while more happens.
    drop(up);
    let writer = writer_goes_on(&store, writer, &mut room, 100);
    let all = archive_count(&store);
    assert!(all > first);
    let mut back = Projector::new(Count::default(), reader(&store), "arena").unwrap();
    assert_eq!(back.lag().unwrap(), all - first);
    assert_eq!(back.catch_up(|name, room, seq, memory| writer.cursor_keeper().keep(name, room, seq, memory)).unwrap(), all - first);
    assert_eq!(back.projection().facts, all);
    // One that fails harms neither the others nor the room.
    let fails_at = all;
    let mut broken = Projector::new(Failing(Count { fails_at, ..Count::default() }), reader(&store), "arena").unwrap();
    assert_eq!(broken.catch_up(|_, _, _, _| {}).unwrap(), 0);
    assert!(broken.failed().is_some());
    let mut scores = Projector::new(Scoreboard::new(&[("healed", 5)]), reader(&store), "arena").unwrap();
    scores.catch_up(|name, room, seq, memory| writer.cursor_keeper().keep(name, room, seq, memory)).unwrap();
    assert!(matches!(&scores.projection().scores()[..], [(bob, points)] if bob == "bob" && *points % 5 == 0 && *points > 0));
}

fn archive_count(store: &MemoryStore) -> u64 {
    reader(store).head("arena").unwrap().unwrap().seq.0
}

/// Another process goes on with the room.
fn writer_goes_on(store: &MemoryStore, writer: Writer, room: &mut Room, ticks: u32) -> Writer {
    drop(writer.stop());
    let recovered = reader(store).recover("arena").unwrap();
    let writer = start(Box::new(store.clone()));
    let Some(roomkeeper::store::RecoveredScene::Exact(state)) = recovered.scene else { panic!("not exact") };
    let (standing, chain) = (Box::new(recovered.standing), recovered.chain);
    let handle = writer.open(recovered.header, blueprint().protocol(), Opening::Resumed { state, standing, chain });
    for _ in 0..ticks {
        let tick = room.tick_now().0 + 1;
        let incoming = script(room, tick);
        handle.record(room.tick(incoming).unwrap().into());
    }
    writer.sync().unwrap();
    writer
}

#[test]
fn a_stream_tells_each_fact_once_from_the_start_from_now_or_from_anywhere() {
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    let (mut room, _) = play(&writer, &blueprint(), "arena", 50);
    let mut from_start = Stream::from_start(reader(&store), Some("arena"));
    let mut from_now = Stream::from_now(reader(&store), None).unwrap();
    let before = archive_count(&store);
    assert_eq!(from_start.next(usize::MAX).unwrap().len() as u64, before);
    assert!(from_now.next(10).unwrap().is_empty());
    drop(writer_goes_on(&store, writer, &mut room, 50));
    let (a, b) = (from_start.next(usize::MAX).unwrap(), from_now.next(usize::MAX).unwrap());
    assert!(!a.is_empty() && a.iter().map(|item| item.fact.seq).eq(b.iter().map(|item| item.fact.seq)));
    assert_eq!(a[0].fact.seq.0, before + 1);
}

#[test]
fn a_stream_over_all_rooms_loses_nothing_where_one_of_them_could_not_be_read() {
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    for name in ["first", "second"] {
        drop(play(&writer, &blueprint(), name, 60));
    }
    // The first room's facts take two reads: its chunks, and that there are no more.
    let reads = AtomicU32::new(0);
    let failing = AroundCommits::new(Box::new(store.clone()), |store, flush| store.commit(flush)).reading(move |what| {
        let fails = what == "a chunk" && reads.fetch_add(1, Ordering::Relaxed) == 2;
        if fails { Err(StoreError::Stopped) } else { Ok(()) }
    });
    let mut stream = Stream::from_start(Archive::new(Box::new(failing), blueprint().protocol()), None);
    assert!(stream.next(usize::MAX).is_err());
    let items = stream.next(usize::MAX).unwrap();
    for name in ["first", "second"] {
        let head = reader(&store).head(name).unwrap().unwrap().seq.0;
        assert!(items.iter().filter(|item| item.room == name).map(|item| item.fact.seq.0).eq(1..=head), "{name}");
    }
}

#[test]
fn a_projection_whose_last_facts_were_cut_off_takes_those_that_got_their_numbers() {
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    let (mut room, _) = play(&writer, &blueprint(), "arena", 50);
    let (head, key) = (archive_count(&store), reader(&store).room("arena").unwrap().key);
    writer.cursor_keeper().keep("count", key, FactSeq(head + 30), (head + 30).to_string());
    writer.sync().unwrap();
    let mut back = Projector::new(Count::default(), reader(&store), "arena").unwrap();
    drop(writer_goes_on(&store, writer, &mut room, 100));
    let new = archive_count(&store) - head;
    assert!(new > 0);
    assert_eq!(back.catch_up(|_, _, _, _| {}).unwrap(), new);
}

#[test]
fn whoever_reads_while_rooms_are_sealed_sees_each_fact_with_its_number() {
    let store = MemoryStore::new();
    let mut options = WriterOptions::default();
    (options.flush_every, options.seal_every) = (std::time::Duration::from_micros(300), 2);
    let writer = Writer::start(Box::new(store.clone()), options, |finding| panic!("{finding}")).unwrap();
    // Much of this one is read before the other, whose row was read with its own.
    drop(play(&writer, &blueprint(), "arena", 3_000));
    let mut room = blueprint().room(arena::options("beside")).unwrap();
    let handle = writer.open(header_of(&arena::options("beside")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let recording = std::thread::spawn(move || {
        for tick in 1..=3_000 {
            let incoming = script(&room, tick);
            handle.record(room.tick(incoming).unwrap().into());
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    });
    let mut looks: Vec<Vec<StoredFact>> = Vec::new();
    while !recording.is_finished() {
        let items = Stream::from_start(reader(&store), None).next(usize::MAX).unwrap();
        looks.push(items.into_iter().filter(|item| item.room == "beside").map(|item| item.fact).collect());
    }
    recording.join().unwrap();
    drop(writer.stop());
    let all = reader(&store).facts("beside", FactSeq(1), usize::MAX).unwrap();
    assert!(all.len() > 200 && looks.last().unwrap().len() > 100, "{}", all.len());
    for (at, look) in looks.iter().enumerate() {
        let same = |(a, b): (&StoredFact, &StoredFact)| (a.seq, a.tick, &a.kind, a.json()) == (b.seq, b.tick, &b.kind, b.json());
        assert!(look.iter().zip(&all).all(same), "look {at}");
    }
}

#[test]
fn ten_projections_follow_a_live_room_and_one_that_fails_harms_none() {
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    let (mut room, _) = play(&writer, &blueprint(), "arena", 60);
    let mut all = Vec::new();
    for number in 0..10 {
        let fails_at = if number == 3 { 5 } else { 0 };
        let projector = Projector::new(Failing(Count { fails_at, ..Count::default() }), reader(&store), "arena").unwrap();
        all.push(projector.spawn(writer.cursor_keeper()).unwrap());
    }
    let writer = writer_goes_on(&store, writer, &mut room, 40);
    let head = archive_count(&store);
    for (number, projector) in all.into_iter().enumerate() {
        let mut projector = projector.join().unwrap();
        // The writer may have stopped before it came to the last facts.
        projector.catch_up(|_, _, _, _| {}).unwrap();
        if number == 3 {
            assert!(projector.failed().is_some());
            continue;
        }
        assert_eq!((projector.projection().0.facts, projector.lag().unwrap()), (head, 0));
    }
    drop(writer);
}

#[test]
fn with_sealing_always_sql_sees_the_state_of_the_last_flush() {
    let data = folder("always");
    let mut writer = WriterOptions::default();
    (writer.seal_every, writer.components_every) = (1, 1);
    let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
    let writer = Writer::start(Box::new(store), writer, |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=40 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        while handle.durable() < Some(RoomTick(tick)) {
            std::thread::yield_now();
        }
        // As anybody would read it, while the writer has it open.
        let sql = rusqlite::Connection::open_with_flags(data_file(&data), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut rows = sql.prepare("SELECT entity_id, component_name, component FROM state WHERE tick = ?1").unwrap();
        let rows =
            rows.query_map([tick], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))).unwrap();
        let stored: std::collections::BTreeSet<_> = rows.map(Result::unwrap).collect();
        let state = state_of(&mut room).to_json(&blueprint().protocol()).unwrap();
        let of_entity = |(entity, components): (&String, &serde_json::Value)| {
            let components = components.as_object().unwrap().iter();
            components.map(|(name, value)| (entity.clone(), name.clone(), value.to_string())).collect::<Vec<_>>()
        };
        let wanted: std::collections::BTreeSet<_> = state.as_object().unwrap().iter().flat_map(of_entity).collect();
        assert_eq!(stored, wanted, "tick {tick}");
    }
}

#[test]
fn a_snippet_of_many_entities_is_of_one_tick_and_taken_beside_the_room() {
    let store = MemoryStore::new();
    let writer = start(Box::new(store.clone()));
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    room.world_mut().spawn_batch((0..50_000).map(|n| (arena::Position([n as f32, 0.0]), arena::Health(n))));
    handle.record(room.tick([]).unwrap().into());
    handle.record(room.tick([]).unwrap().into());
    writer.sync().unwrap();
    let mut beside = reader(&store);
    let snippet = std::thread::spawn(move || beside.save_snippet("arena", "many", RoomTick(2)).unwrap());
    // The room is not asked: it lives in another thread, and changes all the while.
    for _ in 0..20 {
        handle.record(room.tick([]).unwrap().into());
    }
    let snippet = snippet.join().unwrap();
    writer.sync().unwrap();
    let mut archive = reader(&store);
    let state = archive.state_at("arena", RoomTick(2)).unwrap();
    assert_eq!((snippet.entities.len(), snippet.tick), (state.entities().len(), RoomTick(2)));
    let json = state.to_json(archive.protocol()).unwrap();
    let same = |(entity, components): (&String, &serde_json::Value)| {
        components.as_object().unwrap().iter().all(|(name, value)| snippet.entities[entity].get(name) == Some(&value.to_string()))
    };
    assert!(json.as_object().unwrap().iter().all(same));
    assert_ne!(archive.state_at("arena", RoomTick(22)).unwrap().hash(), state.hash(), "it went on");
}

/// The same game, with a mark that has no fields: as JSON its value is null.
mod marks {
    use bevy_app::prelude::*;
    use bevy_ecs::prelude::*;
    use roomkeeper::prelude::*;
    use roomkeeper::room::Blueprint;

    #[derive(Component, serde::Serialize, serde::Deserialize)]
    struct Watched;

    pub fn blueprint() -> Blueprint {
        let protocol = |app: &mut App| {
            crate::arena::protocol(app);
            app.sync::<Watched>("watched");
        };
        let rules = |app: &mut App| {
            crate::arena::rules(app);
            app.add_systems(FixedUpdate, watch);
        };
        Blueprint::new(protocol, rules)
    }

    fn watch(doors: Query<(Entity, &Name)>, clock: Res<RoomClock>, mut commands: Commands) {
        let door = doors.iter().find(|(_, name)| clock.tick().0 == 5 && name.as_str() == "door_a");
        if let Some((door, _)) = door {
            commands.entity(door).insert(Watched);
        }
    }
}

#[test]
fn a_mark_that_was_undone_is_undone_the_same_when_it_is_run_again() {
    use roomkeeper::protocol::Change;
    use serde_json::Value;
    let (store, blueprint) = (MemoryStore::new(), marks::blueprint());
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&blueprint, options("arena")).unwrap();
    let change = |door: &str, before, after| Change { entity: door.to_owned(), component: "watched".to_owned(), before, after };
    let changes = vec![change("door_a", None, Some(Value::Null)), change("door_b", Some(Value::Null), None)];
    for tick in 1..=10 {
        let undo = Incoming::Revert { seq: FactSeq(1), changes: changes.clone() };
        let outbox = room.tick(if tick == 8 { vec![undo] } else { Vec::new() }).unwrap();
        keeper.handle("arena").unwrap().record(outbox.into());
    }
    let (state, protocol) = (state_of(&mut room), blueprint.protocol());
    let marked = ["door_a", "door_b"].map(|door| state.component(&protocol, EntityId::named(door), "watched"));
    assert_eq!(marked, [None, Some(Value::Null)], "the one mark went, the other came");
    drop(keeper.stop());
    let mut archive = Archive::new(Box::new(store), protocol);
    let run = rerun(&mut archive, &blueprint, "arena", (RoomTick(0), RoomTick(10)), None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference, run.end.hash()), (10, None, state.hash()));
}
