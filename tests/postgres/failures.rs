//! A database that is killed, stands still, is cut off in the middle, or goes back: nothing that was reported as stored is missing, nothing
//! is there by half, and it goes on by itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use roomkeeper::host::{Keeper, header_of};
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::store::{
    Archive, Chunk, ChunkKind, Claim, Directory, Flush, Head, Load, Opening, PostgresDirectory, PostgresOptions, PostgresStore, RoomKey,
    Seal, Store, StoreError, Writer, WriterOptions,
};

use crate::arena::{blueprint, options, script, state_of};
use crate::server::{Server, options_at, shared};

/// The next flush of a store: a tick of each of two rooms.
fn next(store: &mut PostgresStore, number: u64, keys: [RoomKey; 2]) -> Flush {
    let rooms = store.rooms().unwrap();
    let tick = RoomTick(number as u32);
    let seals = rooms.iter().filter(|room| keys.contains(&room.key)).map(|room| {
        let (from, to, fingerprint) = (number, number, room.fingerprint);
        let payload = vec![number as u8; 2_000];
        let chunk = Chunk { from, to, tick_from: tick, tick_to: tick, fingerprint, payload };
        let (head, chunks) = (Head { tick, seq: FactSeq(0) }, vec![(ChunkKind::Ticks, chunk)]);
        Seal { key: room.key, head, chain: room.chain, fingerprint, chunks, components: None, checkpoint: None }
    });
    Flush { number, seals: seals.collect(), ..Flush::default() }
}

fn two_rooms(store: &mut PostgresStore) -> [RoomKey; 2] {
    ["one", "two"].map(|name| store.enter(&header_of(&options(name)), &blueprint().protocol().describe()).unwrap())
}

/// The ticks that are there of a room.
fn ticks(store: &mut PostgresStore, key: RoomKey) -> Vec<u64> {
    store.chunks(key, ChunkKind::Ticks, 0, u64::MAX >> 1, usize::MAX >> 1).unwrap().iter().map(|chunk| chunk.from).collect()
}

/// As the writer does: starts over until a flush is there.
fn commit(store: &mut PostgresStore, flush: &Flush, errors: &mut u32) {
    let began = Instant::now();
    while let Err(error) = store.commit(flush) {
        assert!(began.elapsed() < Duration::from_secs(60), "{error}");
        *errors += 1;
        std::thread::sleep(Duration::from_millis(20));
        let _ = store.reopen();
        if store.last_flush().is_ok_and(|last| last >= flush.number) {
            break;
        }
    }
}

#[test]
fn a_server_that_is_killed_during_commits_loses_nothing_that_was_reported_and_keeps_nothing_by_half() {
    let Some(mut server) = Server::start() else { return };
    let mut place = server.options("killed");
    place.patience = Duration::from_secs(2);
    let mut store = PostgresStore::open(&place).unwrap();
    let keys = two_rooms(&mut store);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = std::thread::spawn(move || {
        let (mut errors, mut number) = (0, 0);
        // What a flush is made of is read once, since between two flushes the server may be gone.
        let mut flush = next(&mut store, 1, keys);
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            flush.number = number;
            for seal in &mut flush.seals {
                seal.head.tick = RoomTick(number as u32);
                let (_, chunk) = &mut seal.chunks[0];
                (chunk.from, chunk.to, chunk.tick_from, chunk.tick_to) = (number, number, seal.head.tick, seal.head.tick);
                chunk.payload = vec![number as u8; 2_000];
            }
            commit(&mut store, &flush, &mut errors);
        }
        (number, errors)
    });
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(300 + 70 * round));
        server.kill();
        server.run();
    }
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let (number, errors) = writing.join().unwrap();
    let mut store = PostgresStore::open(&place).unwrap();
    assert_eq!(store.last_flush().unwrap(), number);
    for key in keys {
        assert!(ticks(&mut store, key).into_iter().eq(1..=number), "each is there, once");
    }
    assert!(errors >= 6 && number > 100, "{number} flushes, {errors} errors");
    println!("{number} flushes, {errors} errors, 6 kills");
}

/// A match that is written while something happens to the server; then all of it is there.
fn played_while(place: &PostgresOptions, mut happens: impl FnMut(u32)) -> (roomkeeper::store::WriterReport, Vec<String>) {
    let writer =
        Writer::start(Box::new(PostgresStore::open(place).unwrap()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let (mut hashes, mut durable, mut failures) = (vec![state_of(&mut room).hash()], None, Vec::new());
    let mut longest = Duration::ZERO;
    for tick in 1..=300 {
        happens(tick);
        let incoming = script(&room, tick);
        let outbox = room.tick(incoming).unwrap();
        let began = Instant::now();
        handle.record(outbox.into());
        longest = longest.max(began.elapsed());
        hashes.push(state_of(&mut room).hash());
        assert!(handle.durable() >= durable, "it never goes back");
        durable = handle.durable();
        failures.extend(writer.failing());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(longest < Duration::from_millis(500), "no tick waits for the database: {longest:?}");
    writer.sync().unwrap();
    assert_eq!(handle.durable(), Some(RoomTick(300)));
    let mut archive = Archive::new(Box::new(PostgresStore::read(place).unwrap()), blueprint().protocol());
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    let mut cursor = archive.cursor("arena", RoomTick(0)).unwrap();
    for tick in 0..=300 {
        cursor.seek(RoomTick(tick)).unwrap();
        assert_eq!(cursor.state().hash(), hashes[tick as usize], "tick {tick}");
    }
    (writer.stop(), failures)
}

#[test]
fn while_the_server_is_gone_for_seconds_rooms_go_on_and_all_ticks_are_there_afterwards() {
    let Some(mut server) = Server::start() else { return };
    let mut place = server.options("gone");
    place.patience = Duration::from_secs(1);
    let (report, failures) = played_while(&place, |tick| match tick {
        80 => server.kill(),
        220 => server.run(),
        _ => {}
    });
    assert!(report.given_up.is_none() && report.retries > 1, "{report:?}");
    assert!(failures.iter().any(|failure| failure.contains("the database") || failure.contains("connection")), "{failures:?}");
}

#[test]
fn while_the_server_stands_still_it_is_given_up_in_time_and_taken_up_again() {
    let Some(server) = Server::start() else { return };
    let mut place = server.options("stalled");
    place.patience = Duration::from_secs(1);
    let (mut since, mut noticed) = (Instant::now(), None);
    let (report, failures) = played_while(&place, |tick| match tick {
        80 => {
            server.stall();
            since = Instant::now();
        }
        240 => {
            noticed = Some(since.elapsed());
            server.go_on();
        }
        _ => {}
    });
    assert!(report.given_up.is_none() && report.retries > 1, "{report:?}");
    let silent = failures.iter().any(|failure| failure.contains("did not answer within 1s"));
    assert!(silent && noticed.is_some_and(|after| after > Duration::from_secs(3)), "{failures:?}");
    // Nobody who comes while it stands still waits for ever.
    server.stall();
    let began = Instant::now();
    assert!(matches!(PostgresStore::read(&place), Err(StoreError::Silent { .. })));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    server.go_on();
}

/// A host that could not give back its room, for a moment in which the server stood still.
fn not_given_back(schema: &str) -> Option<(Server, PostgresDirectory)> {
    let server = Server::start()?;
    let mut place = server.options(schema);
    place.patience = Duration::from_secs(1);
    let mut directory = PostgresDirectory::join(&place, "a", "10.0.0.1:5000", Duration::from_secs(60)).unwrap();
    assert!(matches!(directory.claim("hall").unwrap(), Claim::Granted(_)));
    server.stall();
    assert!(directory.release("hall").is_err());
    server.go_on();
    Some((server, directory))
}

#[test]
fn a_room_that_can_not_be_given_back_is_not_kept_by_its_host_either() {
    let Some((_server, mut directory)) = not_given_back("given_back") else { return };
    assert!(directory.leases().held().is_empty(), "so it is not renewed, and runs out");
    assert!(directory.renew(Load::default()).unwrap().is_empty() && directory.leases().held().is_empty());
}

#[test]
fn a_room_that_could_not_be_given_back_is_by_the_next_try_or_when_its_host_leaves() {
    let Some(server) = Server::start() else { return };
    let mut place = server.options("owed");
    place.patience = Duration::from_secs(1);
    let mut directory = PostgresDirectory::join(&place, "a", "10.0.0.1:5000", Duration::from_secs(60)).unwrap();
    let mut observer = PostgresDirectory::join(&place, "b", "10.0.0.2:5000", Duration::from_secs(60)).unwrap();
    for leaves in [false, true] {
        assert!(matches!(directory.claim("hall").unwrap(), Claim::Granted(_)));
        std::thread::scope(|scope| {
            // As a flush does that takes long.
            scope.spawn(|| server.sql(&place, "SELECT room FROM lease FOR SHARE; SELECT pg_sleep(3)"));
            let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            while server.sql(&place, sleeps) != "1" {}
            let error = directory.release("hall").unwrap_err();
            assert!(matches!(error, StoreError::Postgres { .. } | StoreError::Silent { .. }), "{error}");
        });
        assert!(directory.leases().held().is_empty());
        assert_eq!(observer.find("hall").unwrap().map(|owner| owner.host).as_deref(), Some("a"), "nobody else may have it yet");
        let given = if leaves { directory.leave() } else { directory.release("hall") };
        given.unwrap();
        assert_eq!(observer.find("hall").unwrap(), None);
    }
}

#[test]
fn what_was_to_be_given_back_and_was_claimed_anew_is_not_given_back() {
    let Some((_server, mut directory)) = not_given_back("kept") else { return };
    let Claim::Granted(lease) = crate::retry(|| directory.claim("hall")) else { panic!("nobody else was there") };
    assert!(directory.renew(Load::default()).unwrap().is_empty());
    assert_eq!(directory.find("hall").unwrap().map(|owner| owner.token), Some(lease.token));
    assert_eq!(directory.leases().held(), [lease]);
}

const PASS: u8 = 0;
/// The next COMMIT reaches the server, its answer nobody.
const LOSE_ANSWER: u8 = 1;
/// The next COMMIT reaches the server only long after the client has given up.
const DELAY: u8 = 2;

/// Something between a client and a server that does the worst at the worst moment.
fn between(server: u16) -> (u16, Arc<AtomicU8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, trouble) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(PASS)));
    let shared = trouble.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut answers, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            let trouble = shared.clone();
            std::thread::spawn(move || forward(client, server, &trouble));
        }
    });
    (port, trouble)
}

fn forward(mut client: TcpStream, mut server: TcpStream, trouble: &AtomicU8) {
    let mut bytes = [0; 65_536];
    while let Ok(count) = client.read(&mut bytes) {
        let sent = &bytes[..count];
        let commits = sent.windows(7).any(|window| window == b"COMMIT\0");
        if count == 0 {
            break;
        }
        match trouble.load(Ordering::Relaxed) {
            mode @ (LOSE_ANSWER | DELAY) if commits => {
                trouble.store(PASS, Ordering::Relaxed);
                let _ = client.shutdown(Shutdown::Both);
                if mode == DELAY {
                    std::thread::sleep(Duration::from_millis(1_500));
                }
                let _ = server.write_all(sent);
                // Closed only after the server has read it.
                std::thread::sleep(Duration::from_millis(200));
                break;
            }
            _ => server.write_all(sent).unwrap(),
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

#[test]
fn a_commit_whose_answer_was_lost_is_there_once() {
    let Some(server) = shared() else { return };
    let (port, trouble) = between(server.port());
    let mut store = PostgresStore::open(&options_at(port, "answer")).unwrap();
    let keys = two_rooms(&mut store);
    for number in 1..=3 {
        let flush = next(&mut store, number, keys);
        store.commit(&flush).unwrap();
    }
    // By the number of the last flush, as the writer does.
    let flush = next(&mut store, 4, keys);
    trouble.store(LOSE_ANSWER, Ordering::Relaxed);
    assert!(store.commit(&flush).is_err());
    assert!(matches!(store.commit(&flush), Err(StoreError::Stopped)), "it has to be told to start over");
    store.reopen().unwrap();
    assert_eq!(store.last_flush().unwrap(), 4);
    // By trying again.
    store.commit(&flush).unwrap();
    // The server hears of the commit long after the client has given up and is trying again.
    let flush = next(&mut store, 5, keys);
    trouble.store(DELAY, Ordering::Relaxed);
    assert!(store.commit(&flush).is_err());
    let began = Instant::now();
    let mut errors = 0;
    commit(&mut store, &flush, &mut errors);
    assert!(began.elapsed() > Duration::from_millis(700), "it waited for the other: {:?}", began.elapsed());
    for key in keys {
        assert_eq!(ticks(&mut store, key), [1, 2, 3, 4, 5]);
    }
    let flush = next(&mut store, 6, keys);
    store.commit(&flush).unwrap();
    assert_eq!(store.last_flush().unwrap(), 6);
}

#[test]
fn a_database_that_has_gone_back_is_not_written_over() {
    let Some(server) = shared() else { return };
    let place = server.options("back");
    let mut store = PostgresStore::open(&place).unwrap();
    let keys = two_rooms(&mut store);
    for number in 1..=10 {
        let flush = next(&mut store, number, keys);
        store.commit(&flush).unwrap();
    }
    // As a replica has it that became the first server before it had got everything.
    server.sql(&place, "UPDATE mark SET flush = 7; DELETE FROM tick_chunk WHERE seq_from > 7");
    let flush = next(&mut store, 11, keys);
    let error = store.commit(&flush).unwrap_err();
    assert!(matches!(error, StoreError::WentBack { found: 7, stored: 10 }) && error.is_damage(), "{error}");
    store.reopen().unwrap();
    assert!(matches!(store.commit(&flush), Err(StoreError::WentBack { .. })));
    assert_eq!(ticks(&mut store, keys[0]).len(), 7, "nothing was written over it");
    // Who starts again goes on from what is there.
    drop(store);
    let mut store = PostgresStore::open(&place).unwrap();
    assert_eq!(store.last_flush().unwrap(), 7);
    let flush = next(&mut store, 8, keys);
    store.commit(&flush).unwrap();
}

#[test]
fn nobody_waits_for_long_who_opens_a_new_room_while_the_server_stands_still() {
    let Some(server) = Server::start() else { return };
    let store = PostgresStore::open(&server.options("opening")).unwrap();
    let mut keeper = Keeper::start(Box::new(store), WriterOptions::default()).unwrap();
    keeper.room(&blueprint(), options("first")).unwrap();
    server.stall();
    // All whom the host leads wait meanwhile.
    let began = Instant::now();
    assert!(keeper.room(&blueprint(), options("second")).is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    server.go_on();
}
