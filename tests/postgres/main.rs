//! PostgreSQL as the store and as the directory of rooms and hosts, on real servers that these tests start, stop and kill.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and works in real time"
)]
// The servers are found, stalled and killed by way of /proc.
#![cfg(target_os = "linux")]

#[path = "../arena/mod.rs"]
mod arena;
#[path = "../binary/mod.rs"]
mod binary;
#[path = "../certificate/mod.rs"]
mod certificate;
mod failures;
mod hosts;
#[path = "../installed/mod.rs"]
mod installed;
mod leases;
#[path = "../keeping/promises.rs"]
mod promises;
mod server;
mod versions;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arena::{blueprint, options, script, state_of};
use promises::{a_room_is_deleted_whole, keeps_its_promises, play, reader, start};
use roomkeeper::host::{KeepOptions, Keeper, header_of, rerun};
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::store::{Archive, Opening, PostgresOptions, PostgresStore, RoomHeader, Snippet, Store, StoreError, Writer, WriterOptions};
use server::{Server, shared};

#[test]
fn a_store_in_postgres_keeps_its_promises() {
    let Some(server) = shared() else { return };
    keeps_its_promises(Box::new(PostgresStore::open(&server.options("conformance")).unwrap()));
}

#[test]
fn a_room_in_postgres_is_deleted_whole() {
    let Some(server) = shared() else { return };
    let place = server.options("deleted");
    a_room_is_deleted_whole(|| Box::new(retry(|| PostgresStore::open(&place))));
}

#[test]
fn running_a_match_again_from_postgres_gives_the_same_bytes() {
    let Some(server) = shared() else { return };
    let store = PostgresStore::open(&server.options("rerun")).unwrap();
    let mut archive = reader(&store);
    let (_, hashes) = play(&start(Box::new(store)), &blueprint(), "arena", 600);
    let run = rerun(&mut archive, &blueprint(), "arena", (RoomTick(0), RoomTick(600)), None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (600, None));
    let mut cursor = archive.cursor("arena", RoomTick(0)).unwrap();
    for tick in 0..=600 {
        cursor.seek(RoomTick(tick)).unwrap();
        assert_eq!(cursor.state().hash(), hashes[tick as usize], "tick {tick}");
    }
}

#[test]
fn with_sealing_always_sql_sees_the_state_of_the_last_flush() {
    let Some(server) = shared() else { return };
    let place = server.options("always");
    let mut writer = WriterOptions::default();
    (writer.seal_every, writer.components_every) = (1, 1);
    let writer = Writer::start(Box::new(PostgresStore::open(&place).unwrap()), writer, |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=45 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        while handle.durable() < Some(RoomTick(tick)) {
            std::thread::yield_now();
        }
        if tick % 5 != 0 {
            continue;
        }
        let stored =
            server.sql(&place, "SELECT entity_id, component_name, component FROM state WHERE tick = (SELECT max(tick) FROM state)");
        let stored: BTreeSet<String> = stored.lines().map(str::to_owned).collect();
        let state = state_of(&mut room).to_json(&blueprint().protocol()).unwrap();
        let of_entity = |(entity, components): (&String, &serde_json::Value)| {
            let components = components.as_object().unwrap().iter();
            components.map(|(name, value)| format!("{entity}|{name}|{value}")).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<String> = state.as_object().unwrap().iter().flat_map(of_entity).collect();
        assert_eq!(stored, wanted, "tick {tick}");
    }
    let facts = server.sql(&place, "SELECT seq, kind, data->>'by' FROM fact WHERE kind = 'healed'");
    assert!(facts.ends_with("|healed|10") && facts.lines().count() == 1, "{facts}");
    let refused = server.sql(&place, "SELECT tick, kind, reason, data->>'door' IS NOT NULL FROM refusal");
    assert_eq!(refused, "20|open|open_already|t");
}

#[test]
fn only_one_process_writes_and_nothing_foreign_is_touched() {
    let Some(server) = shared() else { return };
    let place = server.options("locked");
    assert!(matches!(PostgresStore::read(&place), Err(StoreError::Unfit { .. })), "there is nothing");
    let mut store = PostgresStore::open(&place).unwrap();
    let error = PostgresStore::open(&place).unwrap_err();
    assert!(matches!(error, StoreError::Served { .. }), "{error}");
    // Who was thrown out and comes back finds that another process has written meanwhile.
    server.sql(&place, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locked'");
    drop(retry(|| PostgresStore::open(&place)));
    let error = store.reopen().unwrap_err();
    assert!(matches!(error, StoreError::Served { .. }), "{error}");
    drop(store);
    assert!(server.sql(&place, "UPDATE layout SET version = 999 RETURNING version").starts_with("999"));
    assert!(matches!(PostgresStore::open(&place), Err(StoreError::Newer { found: 999, .. })));
    let foreign = server.options("foreign");
    server.sql(&foreign, "CREATE SCHEMA \"foreign\"; CREATE TABLE \"foreign\".theirs(x int)");
    let error = PostgresStore::open(&foreign).unwrap_err().to_string();
    assert!(error.contains("none of roomkeeper's"), "{error}");
    server.sql(&foreign, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let latin = PostgresOptions::at(format!("postgres://rooms@127.0.0.1:{}/latin", server.port()));
    let error = PostgresStore::open(&latin).unwrap_err().to_string();
    assert!(error.contains("encoding is LATIN1"), "{error}");
}

fn retry<T>(mut what: impl FnMut() -> Result<T, StoreError>) -> T {
    let began = Instant::now();
    loop {
        match what() {
            Ok(done) => return done,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
    }
}

#[test]
fn what_can_not_be_reached_is_told_in_a_sentence_without_a_password() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in [
        format!("postgres://rooms:hunter2@127.0.0.1:{nobody}/rooms"),
        format!("postgres://rooms:hunter2@127.0.0.1:{port}/rooms"),
        "postgres://rooms:hunter2@no.such.host.invalid/rooms".to_owned(),
        "postgres://rooms:hunter2@127.0.0.1:99999/rooms".to_owned(),
        "postgres://rooms:hunter2@127.0.0.1/rooms?pasword=hunter2".to_owned(),
        "host=127.0.0.1 password=hunter2 port=hunter2".to_owned(),
        "postgres://rooms:hunter2@[::1/rooms".to_owned(),
    ] {
        let mut place = PostgresOptions::at(&address);
        place.patience = Duration::from_secs(1);
        let began = Instant::now();
        let error = PostgresStore::open(&place).unwrap_err();
        let told = format!("{error} {error:?} {place:?} {}", place.place());
        assert!(!told.contains("hunter2") && told.len() > 20, "{told}");
        assert!(began.elapsed() < Duration::from_secs(8), "{address}");
    }
    drop(silent);
}

#[test]
fn a_row_that_is_not_what_was_written_is_named_and_cuts_off_no_other_room() {
    let Some(server) = shared() else { return };
    let place = server.options("rotten");
    let store = PostgresStore::open(&place).unwrap();
    drop(play(&start(Box::new(store)), &blueprint(), "arena", 200));
    server.sql(&place, "UPDATE fact_chunk SET payload = replace(payload, '\"by\":10}', '\"by\":99}')");
    let mut archive = Archive::new(Box::new(PostgresStore::read(&place).unwrap()), blueprint().protocol());
    let error = archive.facts("arena", FactSeq(1), usize::MAX).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("fact_chunk"), "{error}");
    server.sql(&place, "UPDATE fact_chunk SET payload = replace(payload, '\"by\":99}', '\"by\":10}')");
    // Three rooms are left in the journal, as by a process that was killed, and one row of one of them rots.
    let place = server.options("torn");
    let writer = start(Box::new(PostgresStore::open(&place).unwrap()));
    let mut rooms: Vec<_> = ["one", "two", "three"].map(|name| blueprint().room(options(name)).unwrap()).into();
    let open = |name: &str| writer.open(header_of(&options(name)), blueprint().protocol(), Opening::New);
    let handles = ["one", "two", "three"].map(open);
    for (room, handle) in rooms.iter_mut().zip(&handles) {
        handle.record(room.opening().clone().into());
    }
    for tick in 1..=12 {
        for (room, handle) in rooms.iter_mut().zip(&handles) {
            handle.record(room.tick([]).unwrap().into());
        }
        while handles.iter().any(|handle| handle.durable() < Some(RoomTick(tick))) {
            std::thread::yield_now();
        }
    }
    server.sql(&place, "CREATE TABLE left_over AS SELECT * FROM journal; CREATE TABLE rooms_then AS SELECT * FROM room");
    drop(writer);
    server.sql(
        &place,
        "DELETE FROM fact_chunk; DELETE FROM tick_chunk; DELETE FROM refusal_chunk; DELETE FROM checkpoint; INSERT INTO journal SELECT * FROM left_over; \
         UPDATE room SET sealed_tick = t.sealed_tick, sealed_seq = t.sealed_seq, chain = t.chain, sum = t.sum, components_tick = NULL \
         FROM rooms_then t WHERE t.room_id = room.room_id; \
         UPDATE journal SET frame = set_byte(frame, 9, get_byte(frame, 9) # 4) WHERE (room_id, flush) = \
         (SELECT room_id, flush FROM journal JOIN room USING(room_id) WHERE name = 'two' ORDER BY flush OFFSET 5 LIMIT 1)",
    );
    let sealed = server.sql(&place, "SELECT count(*) FROM room WHERE sealed_tick IS NOT NULL");
    assert_eq!(sealed, "0", "nothing was sealed in so short a time");
    let mut keeper = Keeper::start(Box::new(PostgresStore::open(&place).unwrap()), WriterOptions::default()).unwrap();
    assert!(keeper.found().iter().any(|finding| finding.contains("checksum")), "{:?}", keeper.found());
    let ticks = ["one", "two", "three"].map(|name| keeper.room(&blueprint(), options(name)).unwrap().tick_now().0);
    assert!(ticks[0] == 12 && ticks[2] == 12 && ticks[1] < 12 && ticks[1] > 0, "{ticks:?}");
}

#[test]
fn an_impossible_number_in_the_row_of_one_room_keeps_no_other_from_being_served() {
    let Some(server) = shared() else { return };
    let place = server.options("impossible");
    let writer = start(Box::new(PostgresStore::open(&place).unwrap()));
    for name in ["arena", "beside"] {
        drop(play(&writer, &blueprint(), name, 10));
    }
    drop(writer);
    server.sql(&place, "UPDATE room SET sealed_tick = -1 WHERE name = 'arena'");
    let mut keeper = Keeper::start(Box::new(PostgresStore::open(&place).unwrap()), WriterOptions::default()).unwrap();
    let error = keeper.room(&blueprint(), options("arena")).map(drop).unwrap_err().to_string();
    assert!(error.contains("its row in the table of rooms"), "{error}");
    assert_eq!(keeper.room(&blueprint(), options("beside")).unwrap().tick_now(), RoomTick(10));
}

#[test]
fn a_text_that_postgres_can_not_hold_stops_no_room() {
    let Some(server) = shared() else { return };
    let mut store = PostgresStore::open(&server.options_by_socket("zero")).unwrap();
    let protocol = blueprint().protocol().describe();
    let header = RoomHeader { name: "a\0b".to_owned(), ..header_of(&options("x")) };
    let key = store.enter(&header, &protocol).unwrap();
    assert_eq!(store.room("a\0b").unwrap().unwrap().key, key);
    let mut snippet = Snippet::from_text("l\0", r#"{"thing\u0000": {"note": "\u0000"}}"#).unwrap();
    store.save_snippet(key, &snippet).unwrap();
    snippet = store.snippet(key, "l\0").unwrap().unwrap();
    assert_eq!(snippet.entities["thing\u{fffd}"]["note"], r#""\u0000""#);
    assert!(store.ask(key, "reset", "l\0").unwrap() > 0);
}

#[test]
fn a_keeper_keeps_rooms_where_the_address_says_so() {
    let Some(server) = shared() else { return };
    let address = format!("postgres://rooms@127.0.0.1:{}/postgres", server.port());
    let options_of = KeepOptions::in_folder(&address);
    for tick in [0, 1] {
        let mut keeper = Keeper::open(&options_of).unwrap();
        assert_eq!(keeper.found(), [""; 0]);
        let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
        assert_eq!(room.tick_now(), RoomTick(tick));
        keeper.handle("arena").unwrap().record(room.tick([]).unwrap().into());
        assert!(keeper.stop().given_up.is_none());
    }
    assert_eq!(server.sql(&PostgresOptions::at(address), "SELECT name, sealed_tick FROM room"), "arena|2");
}

#[test]
fn connections_are_encrypted_to_a_server_that_proves_its_name_and_to_no_other() {
    let Some(server) = Server::start() else { return };
    let Some(certificate) = server.encrypt() else { return };
    let at = |host: &str, more: &str| {
        let mut options = server.options("encrypted");
        options.address = format!("postgres://rooms@{host}:{}/postgres?{more}", server.port());
        options
    };
    let root = format!("sslmode=verify-full&sslrootcert={}", certificate.display());
    let began = Instant::now();
    // It hears of its new settings a moment later.
    let mut store = loop {
        match PostgresStore::open(&at("127.0.0.1", &root)) {
            Ok(store) => break store,
            Err(error) if began.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    assert!(store.rooms().unwrap().is_empty());
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'roomkeeper'";
    assert_eq!(server.sql(&server.options_by_socket("encrypted"), encrypted), "1");
    // Not to one whose name is another, nor to one that nobody vouches for, nor without encryption where that is wanted.
    for (host, more, why) in [
        ("localhost", root.as_str(), "certificate"),
        ("127.0.0.1", "sslmode=require", "certificate"),
        ("127.0.0.1", "sslmode=disable", "no encryption"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=/nowhere.pem", "/nowhere.pem"),
    ] {
        let error = PostgresStore::open(&at(host, more)).unwrap_err().to_string();
        assert!(error.contains(why), "{host} {more}: {error}");
    }
}
