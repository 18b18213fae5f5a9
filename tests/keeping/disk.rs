//! What happens when the disk is slow, full, read-only or damaged: rooms go on as long as there is memory for it, nothing that was accepted is
//! lost, and what is damaged is named.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::arena;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::arena::{blueprint, options, script, state_of};
use crate::promises::{play, reader, start};
use crate::store::folder;
use roomkeeper::host::{HostLimits, Keeper, Lobby, header_of};
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::room::RoomRng;
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{
    Archive, Durability, MemoryStore, Opening, Pressure, Retention, Snippet, SqliteStore, Store, StoreError, StoredFact, Writer,
    WriterOptions, copy_room, data_file,
};

/// What is wrong with a disk.
#[derive(Default)]
struct Trouble {
    fails: AtomicBool,
    stall_millis: AtomicU64,
    held: AtomicBool,
}

/// A store on a disk that has trouble with every write.
fn on(trouble: Arc<Trouble>, store: MemoryStore) -> AroundCommits {
    AroundCommits::new(Box::new(store), move |store, flush| {
        std::thread::sleep(Duration::from_millis(trouble.stall_millis.load(Ordering::Relaxed)));
        while trouble.held.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        if trouble.fails.load(Ordering::Relaxed) {
            let error = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
            return Err(StoreError::Io { what: "a flush can't be written".to_owned(), error });
        }
        store.commit(flush)
    })
}

pub fn archive(data: &Path) -> Archive {
    Archive::new(Box::new(SqliteStore::read(data).unwrap()), blueprint().protocol())
}

/// A keeper over a troubled store with a small buffer, and a lobby with one room.
fn troubled(buffer: usize) -> (MemoryStore, Arc<Trouble>, Keeper, Lobby) {
    let (store, trouble) = (MemoryStore::new(), Arc::new(Trouble::default()));
    let mut writer = WriterOptions::default();
    writer.buffer_bytes_max = buffer;
    let mut keeper = Keeper::start(Box::new(on(trouble.clone(), store.clone())), writer).unwrap();
    let mut lobby = Lobby::new(HostLimits::default(), false);
    lobby.admit_room(keeper.room(&blueprint(), options("arena")).unwrap()).unwrap();
    (store, trouble, keeper, lobby)
}

/// A tick of the room, and what the host does around it. True if the room was to stand still.
fn host_tick(keeper: &mut Keeper, lobby: &mut Lobby) -> bool {
    if keeper.attend(lobby) {
        return true;
    }
    let next = lobby.room("arena").unwrap().tick_now().0 + 1;
    for incoming in script(lobby.room("arena").unwrap(), next) {
        lobby.push("arena", incoming);
    }
    let mut report = lobby.tick_room("arena").unwrap();
    keeper.record("arena", &mut report);
    false
}

#[test]
fn while_every_write_stalls_for_two_seconds_no_tick_waits() {
    let (store, trouble, mut keeper, mut lobby) = troubled(64 << 20);
    trouble.stall_millis.store(2_000, Ordering::Relaxed);
    trouble.held.store(true, Ordering::Relaxed);
    // No write ends before it is let go: a tick that waited for one would never end.
    for _ in 0..60 {
        assert!(!host_tick(&mut keeper, &mut lobby));
    }
    assert_eq!(keeper.writer().report().flushes, 0);
    trouble.held.store(false, Ordering::Relaxed);
    keeper.writer().sync().unwrap();
    trouble.stall_millis.store(0, Ordering::Relaxed);
    let report = keeper.stop();
    assert!(report.commit_max.as_secs() >= 2 && report.given_up.is_none(), "{report:?}");
    let mut archive = Archive::new(Box::new(store), blueprint().protocol());
    assert_eq!(archive.head("arena").unwrap().unwrap().tick, RoomTick(60));
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
}

#[test]
fn while_nothing_can_be_written_rooms_refuse_commands_then_stand_still_and_go_on_by_themselves() {
    let (store, trouble, mut keeper, mut lobby) = troubled(60_000);
    (0..20).for_each(|_| assert!(!host_tick(&mut keeper, &mut lobby)));
    keeper.writer().sync().unwrap();
    trouble.fails.store(true, Ordering::Relaxed);
    let (mut refused_at, mut stood_still_at) = (None, None);
    for tick in 0..5_000 {
        let still = host_tick(&mut keeper, &mut lobby);
        if keeper.writer().pressure() == Pressure::High {
            refused_at.get_or_insert(tick);
        }
        if still {
            stood_still_at = Some(tick);
            break;
        }
    }
    assert!(refused_at < stood_still_at, "{refused_at:?} {stood_still_at:?}");
    assert!(refused_at.is_some() && stood_still_at.unwrap() < 2_000, "memory is bounded");
    let before = lobby.room("arena").unwrap().tick_now();
    assert!(host_tick(&mut keeper, &mut lobby), "it stands still");
    assert_eq!(lobby.room("arena").unwrap().tick_now(), before);
    while keeper.writer().failing().is_none() {
        std::thread::yield_now();
    }
    assert!(keeper.writer().failing().unwrap().contains("can't be written"));
    trouble.fails.store(false, Ordering::Relaxed);
    keeper.writer().sync().unwrap();
    assert_eq!(keeper.writer().failing(), None);
    assert!(!host_tick(&mut keeper, &mut lobby), "it goes on by itself");
    assert_eq!(lobby.room("arena").unwrap().tick_now().0, before.0 + 1);
    let report = keeper.stop();
    assert!(report.retries > 0 && report.given_up.is_none(), "{report:?}");
    let mut archive = Archive::new(Box::new(store), blueprint().protocol());
    assert_eq!(archive.head("arena").unwrap().unwrap().tick.0, before.0 + 1, "no tick is missing");
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
}

#[test]
fn a_disk_that_is_full_or_may_not_be_written_is_told_in_a_sentence() {
    // Nobody can make a folder below a file.
    let file = folder("no_folder").with_extension("txt");
    std::fs::write(&file, "").unwrap();
    let below = file.join("rooms");
    let error = SqliteStore::open(&below, Durability::PowerLoss).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the data folder {}", below.display())), "{error}");
    // A disk that is full, as SQLite says it: the file may have so many pages and no more.
    let data = folder("full");
    drop(SqliteStore::open(&data, Durability::PowerLoss).unwrap());
    let mut store = SqliteStore::open(&data, Durability::PowerLoss).unwrap();
    store.limit_pages(Some(200)).unwrap();
    let (mut full, mut room) = (None, blueprint().room(options("arena")).unwrap());
    let mut reader = store.reader().unwrap();
    let protocol = blueprint().protocol();
    let key = store.enter(&header_of(&options("arena")), &protocol.describe()).unwrap();
    let mut snippet = Snippet::from_text("big", arena::LEVEL).unwrap();
    for label in 0..10_000 {
        let _ = room.tick([]).unwrap();
        snippet.label = format!("{label}");
        if let Err(error) = store.save_snippet(key, &snippet) {
            full = Some(error.to_string());
            break;
        }
    }
    assert!(full.as_ref().is_some_and(|error| error.contains("full")), "{full:?}");
    let saved = reader.snippets(key).unwrap().len();
    assert!(saved > 10);
    store.limit_pages(None).unwrap();
    store.save_snippet(key, &snippet).unwrap();
    assert_eq!(reader.snippets(key).unwrap().len(), saved + 1, "what was saved before is there, and it goes on");
}

/// The files of a store whose process ended in the middle: copied while it ran.
pub fn crashed(name: &str, ticks: u32) -> PathBuf {
    let (live, copy) = (folder(&format!("{name}_live")), folder(name));
    let writer =
        Writer::start(Box::new(SqliteStore::open(&live, Durability::ProcessCrash).unwrap()), WriterOptions::default(), |finding| {
            panic!("{finding}")
        });
    let writer = writer.unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=ticks {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        // Each in a flush of its own, some of which seal.
        while handle.durable() < Some(RoomTick(tick)) {
            if tick.is_multiple_of(17) {
                writer.sync().unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    std::fs::create_dir_all(&copy).unwrap();
    for file in ["rooms.sqlite", "rooms.sqlite-wal", "mark"] {
        std::fs::copy(live.join(file), copy.join(file)).unwrap();
    }
    copy
}

pub fn copy_of(folder: &Path, name: &str) -> PathBuf {
    let copy = self::folder(name);
    std::fs::create_dir_all(&copy).unwrap();
    for file in ["rooms.sqlite", "rooms.sqlite-wal", "mark"].into_iter().filter(|file| folder.join(file).exists()) {
        std::fs::copy(folder.join(file), copy.join(file)).unwrap();
    }
    copy
}

/// Opens what is left after damage: the findings, and the tick at which the room would go on, or why it can't.
pub fn open_damaged(data: &Path) -> (Vec<String>, Result<Option<RoomTick>, String>) {
    let store = match SqliteStore::open(data, Durability::ProcessCrash) {
        Ok(store) => store,
        Err(error) => return (Vec::new(), Err(error.to_string())),
    };
    let mut keeper = match Keeper::start(Box::new(store), WriterOptions::default()) {
        Ok(keeper) => keeper,
        Err(error) => return (Vec::new(), Err(error.to_string())),
    };
    let found = keeper.found().to_vec();
    let stored = match keeper.stored() {
        Ok(stored) => stored,
        Err(error) => return (found, Err(error.to_string())),
    };
    if stored.is_empty() {
        return (found, Ok(None));
    }
    let room = keeper.room(&blueprint(), options("arena"));
    (found, room.map(|room| Some(room.tick_now())).map_err(|error| error.to_string()))
}

#[test]
fn a_truncated_journal_is_cut_at_the_last_whole_flush_and_what_is_missing_is_told() {
    let data = crashed("torn", 60);
    let whole = std::fs::metadata(data.join("rooms.sqlite-wal")).unwrap().len();
    let (found, tick) = open_damaged(&copy_of(&data, "torn_not_at_all"));
    assert_eq!((found, tick), (Vec::new(), Ok(Some(RoomTick(60)))));
    let mut rng = RoomRng::new(3);
    let mut cut_short = 0;
    for cut in 0..24 {
        let torn = copy_of(&data, "torn_copy");
        let length = whole / 2 + u64::from(rng.range(0..(whole / 2) as u32));
        std::fs::OpenOptions::new().write(true).open(torn.join("rooms.sqlite-wal")).unwrap().set_len(length).unwrap();
        let (found, tick) = open_damaged(&torn);
        let tick = tick.unwrap().map_or(0, |tick| tick.0);
        assert!(tick <= 60, "cut {cut}");
        if tick < 59 {
            cut_short += 1;
            assert!(
                found.iter().any(|finding| finding.contains("are missing")),
                "cut {cut} at {length} of {whole}, tick {tick}: {found:?}"
            );
        }
        let findings = archive(&torn).verify("arena", |_| {}).unwrap().findings;
        assert_eq!(findings, [], "cut {cut}: what is left is whole");
    }
    assert!(cut_short > 5, "{cut_short}");
}

#[test]
fn a_corrupted_page_is_named_and_never_read_as_something_else() {
    let data = crashed("rotten", 60);
    // Everything into the main file.
    rusqlite::Connection::open(data_file(&data)).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let truth = archive(&data).state_at("arena", RoomTick(60)).unwrap().hash();
    let (mut named, mut harmless, mut rng) = (0, 0, RoomRng::new(5));
    for round in 0..60 {
        let rotten = copy_of(&data, "rotten_copy");
        let mut bytes = std::fs::read(data_file(&rotten)).unwrap();
        for _ in 0..4 {
            let at = rng.range(100..bytes.len() as u32) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.range(0..8);
            }
        }
        std::fs::write(data_file(&rotten), bytes).unwrap();
        let read = SqliteStore::read(&rotten).map(|store| Archive::new(Box::new(store), blueprint().protocol()));
        let verified = read.and_then(|mut archive| {
            let file = archive.store().examine()?;
            Ok((file, archive.verify("arena", |_| {})?, archive.state_at("arena", RoomTick(60)).map(|state| state.hash())))
        });
        match verified {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                named += 1;
            }
            Ok((file, verified, state)) if !file.is_empty() || !verified.findings.is_empty() => {
                // What can be read in spite of it is right.
                assert!(state.is_err() || state.is_ok_and(|state| state == truth));
                named += 1;
            }
            Ok((_, _, state)) => {
                assert_eq!(state.unwrap(), truth);
                harmless += 1;
            }
        }
        // Nothing that is damaged stops the process that would serve it.
        if round % 5 == 0 {
            let (_, tick) = open_damaged(&rotten);
            assert!(tick.is_err() || tick.is_ok_and(|tick| tick <= Some(RoomTick(60))));
        }
    }
    assert!(named > 10, "{named} of 60 were named, {harmless} hit nothing that counts");
}

#[test]
fn a_damaged_chunk_hides_no_fact_before_it() {
    let data = folder("facts_before_damage");
    let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
    drop(play(&start(Box::new(store)), &blueprint(), "arena", 200));
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    let damaged = "(SELECT seq_from FROM fact_chunk ORDER BY seq_from LIMIT 1 OFFSET 1)";
    let before = file.query_row(&format!("SELECT {damaged} - 1"), [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
    assert_eq!(file.execute(&format!("UPDATE fact_chunk SET sum = sum + 1 WHERE seq_from = {damaged}"), []).unwrap(), 1);
    drop(file);
    let mut archive = archive(&data);
    for from in 1..=before {
        let facts = archive.facts("arena", FactSeq(from), (before + 1 - from) as usize).unwrap();
        assert!(facts.iter().map(|fact| fact.seq.0).eq(from..=before), "from {from}");
    }
    assert!(archive.facts("arena", FactSeq(1), before as usize + 1).unwrap_err().is_damage());
    assert!(archive.facts("arena", FactSeq(before + 1), 1).unwrap_err().is_damage());
}

#[test]
fn a_forged_row_of_impossible_numbers_is_named_and_leads_nobody_in_circles() {
    let data = crashed("forged_numbers", 40);
    // Its journal is sealed.
    assert!(open_damaged(&data).1.is_ok());
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    // Who forges does not ask the table.
    file.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    let sum = |place: &[i64], bytes: &[u8]| {
        let seed = place.iter().fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number.cast_unsigned()));
        twox_hash::XxHash3_64::oneshot_with_seed(seed, bytes).cast_signed()
    };
    for to in [i64::MAX, -1] {
        for table in ["fact_chunk", "tick_chunk"] {
            let sql = format!(
                "SELECT seq_from, tick_from, tick_to, fingerprint, CAST(payload AS BLOB) FROM {table} ORDER BY seq_from DESC LIMIT 1"
            );
            let row =
                |row: &rusqlite::Row<'_>| Ok(([row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?], row.get::<_, Vec<u8>>(4)?));
            let ([from, tick_from, tick_to, fingerprint], payload) = file.query_row(&sql, [], row).unwrap();
            let sum = sum(&[from, to, tick_from, tick_to, fingerprint], &payload);
            let sql = format!("UPDATE {table} SET seq_to = ?1, sum = ?2 WHERE seq_from = ?3");
            assert_eq!(file.execute(&sql, [to, sum, from]).unwrap(), 1);
        }
        let findings = archive(&data).verify("arena", |_| ()).unwrap().findings;
        assert!(!findings.is_empty(), "{to}");
        assert!(archive(&data).facts("arena", FactSeq(1), usize::MAX).is_err() || to < 0, "what can't be is not read");
        assert!(archive(&data).ticks("arena", RoomTick(0), RoomTick(u32::MAX)).is_err() || to < 0);
    }
    for (tick, seq) in [(i64::from(u32::MAX), 3), (3, i64::MAX), (3, -1)] {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
        let (fingerprint, chain) = file.query_row("SELECT fingerprint, chain FROM room", [], row).unwrap();
        let sum = sum(&[fingerprint, tick + 1, seq.wrapping_add(1)], &chain);
        assert_eq!(file.execute("UPDATE room SET sealed_tick = ?1, sealed_seq = ?2, sum = ?3", [tick, seq, sum]).unwrap(), 1);
        let error = archive(&data).recover("arena").map(drop).unwrap_err().to_string();
        assert!(error.contains("its row in the table of rooms"), "{error}");
    }
}

#[test]
fn an_impossible_number_in_the_row_of_one_room_keeps_no_other_from_being_served() {
    let columns = [
        ("sealed_tick", "-1"),
        ("sealed_tick", "4294967296"),
        ("sealed_seq", "NULL"),
        // As a room that is new has it.
        ("(sealed_tick, sealed_seq)", "(NULL, NULL)"),
        ("components_tick", "-1"),
    ];
    let other = MemoryStore::new();
    drop(play(&start(Box::new(other.clone())), &blueprint(), "arena", 20));
    for (column, number) in columns {
        let data = folder("impossible_number");
        let open = || Box::new(SqliteStore::open(&data, Durability::ProcessCrash).unwrap());
        let writer = Writer::start(open(), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
        for name in ["arena", "beside"] {
            let mut room = blueprint().room(options(name)).unwrap();
            let handle = writer.open(header_of(&options(name)), blueprint().protocol(), Opening::New);
            handle.record(room.opening().clone().into());
            (0..10).for_each(|_| handle.record(room.tick([]).unwrap().into()));
        }
        assert!(writer.stop().given_up.is_none());
        let file = rusqlite::Connection::open(data_file(&data)).unwrap();
        let sql = format!("UPDATE room SET {column} = {number} WHERE name = 'arena'");
        assert_eq!(file.execute(&sql, []).unwrap(), 1);
        drop(file);
        let error = copy_room(&mut reader(&other), "arena", &mut *open(), |_| {}).unwrap_err().to_string();
        assert!(error.contains("its row in the table of rooms"), "a copy into it, {column} = {number}: {error}");
        let mut keeper = Keeper::start(open(), WriterOptions::default()).unwrap();
        let error = keeper.room(&blueprint(), options("arena")).map(drop).unwrap_err().to_string();
        assert!(error.contains("its row in the table of rooms"), "{column} = {number}: {error}");
        let beside = keeper.room(&blueprint(), options("beside")).unwrap();
        assert_eq!(beside.tick_now(), RoomTick(10), "{column} = {number}");
    }
}

#[test]
fn a_room_that_is_opened_again_is_noted_without_a_write() {
    let data = folder("noted_before");
    let open = || SqliteStore::open(&data, Durability::PowerLoss).unwrap();
    drop(play(&start(Box::new(open())), &blueprint(), "arena", 20));
    let mut store = open();
    let written = || std::fs::metadata(data.join("rooms.sqlite-wal")).map_or(0, |file| file.len());
    let before = written();
    let mut enter = |name| store.enter(&header_of(&options(name)), &blueprint().protocol().describe()).unwrap();
    let key = enter("arena");
    assert_eq!(written(), before);
    assert_ne!(enter("beside"), key);
    assert!(written() > before, "one that is new is");
}

#[test]
fn a_file_whose_process_ended_before_it_had_tables_is_taken_up() {
    let data = folder("first_page");
    std::fs::create_dir_all(&data).unwrap();
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    file.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE one(x); DROP TABLE one").unwrap();
    drop(file);
    assert!(std::fs::metadata(data_file(&data)).unwrap().len() > 0);
    assert!(matches!(SqliteStore::read(&data), Err(StoreError::Missing(_))));
    assert!(SqliteStore::open(&data, Durability::PowerLoss).unwrap().rooms().unwrap().is_empty());
}

#[test]
fn a_compaction_that_fails_half_way_leaves_no_tick_that_is_told_wrongly() {
    // The room has its beginning, or was made smaller before.
    for kept_before in [None, Some(400)] {
        for table in ["checkpoint", "tick_chunk"] {
            let data = folder("half_compacted");
            let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
            let (_, hashes) = play(&start(Box::new(store)), &blueprint(), "arena", 600);
            let mut archive = archive(&data);
            let mut retention = Retention::default();
            (retention.ticks, retention.chunk_ticks) = (kept_before, 50);
            archive.compact("arena", retention, |_| {}).unwrap();
            let file = rusqlite::Connection::open(data_file(&data)).unwrap();
            let stop = format!("CREATE TRIGGER stop BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'stop'); END");
            file.execute_batch(&stop).unwrap();
            retention.ticks = Some(200);
            let error = archive.compact("arena", retention, |_| {}).unwrap_err().to_string();
            assert!(error.contains("stop"), "{table}: {error}");
            file.execute_batch("DROP TRIGGER stop").unwrap();
            let mut told = 0;
            for tick in 0..=600 {
                match archive.state_at("arena", RoomTick(tick)) {
                    Ok(state) => {
                        assert_eq!(state.hash(), hashes[tick as usize], "tick {tick}, without {table}, of {kept_before:?}");
                        told += 1;
                    }
                    Err(error) => assert!(matches!(error, StoreError::NoTick { .. }), "tick {tick}: {error}"),
                }
            }
            assert!(told > 200, "{told} ticks are told");
            assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
            // Whoever tries again does what was not done.
            archive.compact("arena", retention, |_| {}).unwrap();
            assert!(archive.first_kept("arena").unwrap() > RoomTick(300));
            assert_eq!(archive.state_at("arena", RoomTick(450)).unwrap().hash(), hashes[450]);
            assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
        }
    }
}

#[test]
fn old_ticks_are_deleted_some_at_a_time_so_that_whoever_writes_beside_it_gets_on() {
    let data = folder("deleted_in_pieces");
    let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
    let writer = Writer::start(Box::new(store), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut hashes = vec![state_of(&mut room).hash()];
    for tick in 1..=300 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        hashes.push(state_of(&mut room).hash());
        writer.sync().unwrap();
    }
    assert!(writer.stop().given_up.is_none());
    let file = rusqlite::Connection::open(data_file(&data)).unwrap();
    let first = || file.query_row("SELECT min(seq_from) FROM tick_chunk", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(first(), 0);
    let stop = "CREATE TRIGGER stop BEFORE DELETE ON tick_chunk WHEN old.seq_from = 200 BEGIN SELECT RAISE(ABORT, 'stop'); END";
    file.execute_batch(stop).unwrap();
    let mut archive = archive(&data);
    let mut retention = Retention::default();
    retention.ticks = Some(20);
    let error = archive.compact("arena", retention, |_| {}).unwrap_err().to_string();
    assert!(error.contains("stop"), "{error}");
    assert!((1..200).contains(&first()), "{} is the first tick that is left", first());
    // What is left is whole, and a copy has nothing of what is about to go.
    let mut copy = MemoryStore::new();
    copy_room(&mut archive, "arena", &mut copy, |_| {}).unwrap();
    for mut left in [reader(&copy), self::archive(&data)] {
        let kept = left.first_kept("arena").unwrap().0;
        assert!((270..=280).contains(&kept), "{kept}");
        for tick in kept..=300 {
            assert_eq!(left.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick}");
        }
        assert_eq!(left.verify("arena", |_| {}).unwrap().findings, []);
    }
    assert_eq!(reader(&copy).ticks("arena", RoomTick(0), RoomTick(270)).unwrap(), []);
    file.execute_batch("DROP TRIGGER stop").unwrap();
    archive.compact("arena", retention, |_| {}).unwrap();
    assert!(first() > 270, "{}", first());
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
}

fn facts_of(archive: &mut Archive) -> Vec<serde_json::Value> {
    archive.facts("arena", FactSeq(1), usize::MAX).unwrap().iter().map(StoredFact::to_json).collect()
}

/// A copy of a room has all that is durable of it.
fn is_copied_whole(left: &mut Archive, ticks: u32) {
    let mut copy = MemoryStore::new();
    copy_room(left, "arena", &mut copy, |_| {}).unwrap();
    let mut copy = reader(&copy);
    assert_eq!(copy.head("arena").unwrap(), left.head("arena").unwrap());
    assert_eq!(copy.head("arena").unwrap().map(|head| head.tick), Some(RoomTick(ticks)));
    assert_eq!(facts_of(&mut copy), facts_of(left));
    for tick in (0..=ticks).map(RoomTick) {
        assert_eq!(copy.state_at("arena", tick).unwrap().hash(), left.state_at("arena", tick).unwrap().hash(), "tick {tick}");
    }
    assert_eq!(copy.verify("arena", |_| {}).unwrap().findings, []);
}

#[test]
fn a_copy_has_what_stands_only_in_the_journal_of_a_process_that_was_killed() {
    for (ticks, is_sealed) in [(5, false), (30, true)] {
        let store = MemoryStore::new();
        let writer = Writer::by_hand(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
        let mut room = blueprint().room(options("arena")).unwrap();
        let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
        handle.record(room.opening().clone().into());
        for tick in 1..=ticks {
            writer.step();
            let incoming = script(&room, tick);
            handle.record(room.tick(incoming).unwrap().into());
        }
        writer.step();
        writer.abandon();
        let mut left = reader(&store);
        let sealed = left.room("arena").unwrap().sealed;
        assert!(sealed.is_some() == is_sealed && sealed.is_none_or(|head| head.tick < RoomTick(ticks)), "{sealed:?}");
        is_copied_whole(&mut left, ticks);
    }
    is_copied_whole(&mut archive(&crashed("left_in_the_journal", 40)), 40);
    // Of a room of which there is nothing, that is said.
    let mut store = MemoryStore::new();
    store.enter(&header_of(&options("arena")), &blueprint().protocol().describe()).unwrap();
    let error = copy_room(&mut reader(&store), "arena", &mut MemoryStore::new(), |_| {}).unwrap_err();
    assert!(matches!(&error, StoreError::Unfit { detail, .. } if detail == "nothing of it is stored"), "{error}");
}
