//! Rooms that hosts share: each has one owner, whatever stalls.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomkeeper::host::{Keeper, header_of};
use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::room::RoomRng;
use roomkeeper::store::{
    Archive, Chunk, ChunkKind, Claim, Directory, Flush, Head, Load, PostgresDirectory, PostgresOptions, PostgresStore, RoomKey, Seal,
    Store, StoreError, Token, WriterOptions, share_at,
};

use crate::arena::{blueprint, options, script, state_of};
use crate::promises::has_one_owner_for_each_room;
use crate::server::{Server, options_at, shared};

/// A host: its directory, its store, and the number of its last flush.
struct Host {
    directory: PostgresDirectory,
    store: PostgresStore,
    flush: u64,
}

impl Host {
    fn new(place: &PostgresOptions, name: &str, ttl: Duration) -> Self {
        let directory = PostgresDirectory::join(place, name, &format!("{name}.example:5000"), ttl).unwrap();
        let mut store = PostgresStore::open_as(place, name, directory.leases()).unwrap();
        let flush = store.last_flush().unwrap();
        Self { directory, store, flush }
    }

    /// Claims a room and gets it ready; nothing if another host has it.
    fn open(&mut self, room: &str) -> Result<Option<(RoomKey, Token)>, StoreError> {
        let Claim::Granted(lease) = self.directory.claim(room)? else { return Ok(None) };
        self.store.take_over(room)?;
        let key = self.store.enter(&header_of(&options(room)), &blueprint().protocol().describe())?;
        Ok(Some((key, lease.token)))
    }

    /// Writes the next tick of each room, which says by which token it was written; tells which ticks they are.
    fn write(&mut self, rooms: &[(&str, RoomKey, Token)]) -> Result<Vec<u64>, StoreError> {
        let mut flush = Flush { number: self.flush + 1, ..Flush::default() };
        let mut ticks = Vec::new();
        for (name, key, token) in rooms {
            let stored = self.store.room(name)?.unwrap();
            let tick = RoomTick(stored.sealed.map_or(0, |head| head.tick.0 + 1));
            let (from, to, fingerprint) = (u64::from(tick.0), u64::from(tick.0), stored.fingerprint);
            let payload = token.0.to_string().into_bytes();
            let chunk = Chunk { from, to, tick_from: tick, tick_to: tick, fingerprint, payload };
            let head = Head { tick, seq: FactSeq(0) };
            let chunks = vec![(ChunkKind::Ticks, chunk)];
            flush.seals.push(Seal { key: *key, head, chain: stored.chain, fingerprint, chunks, components: None, checkpoint: None });
            ticks.push(from);
        }
        self.store.commit(&flush)?;
        self.flush += 1;
        Ok(ticks)
    }
}

/// The tokens by which the ticks of a room were written, which are all there, each once.
fn tokens(place: &PostgresOptions, room: &str) -> Vec<u64> {
    let mut store = PostgresStore::read(place).unwrap();
    let key = store.room(room).unwrap().unwrap().key;
    let chunks = store.chunks(key, ChunkKind::Ticks, 0, u64::MAX >> 1, usize::MAX >> 1).unwrap();
    assert!(chunks.iter().map(|chunk| chunk.from).eq(0..chunks.len() as u64), "no tick is missing");
    let tokens: Vec<u64> = chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.payload).parse().unwrap()).collect();
    assert!(tokens.is_sorted(), "no token goes back: {tokens:?}");
    tokens
}

#[test]
fn a_directory_in_postgres_has_one_owner_for_each_room() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("directory"), Duration::from_secs(2));
    let mut a = PostgresDirectory::join(&place, "a", "10.0.0.1:5000", ttl).unwrap();
    let mut b = PostgresDirectory::join(&place, "b", "10.0.0.2:5000", ttl).unwrap();
    has_one_owner_for_each_room(&mut a, &mut b, || std::thread::sleep(ttl + Duration::from_millis(200)));
}

#[test]
fn a_host_that_lost_its_lease_writes_nothing_more() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("lost"), Duration::from_secs(4));
    let (mut a, mut b) = (Host::new(&place, "a", ttl), Host::new(&place, "b", ttl));
    let (hall, hall_token) = a.open("hall").unwrap().unwrap();
    let (cellar, cellar_token) = a.open("cellar").unwrap().unwrap();
    let both = [("hall", hall, hall_token), ("cellar", cellar, cellar_token)];
    assert_eq!(a.write(&both).unwrap(), [0, 0]);
    assert!(b.open("hall").unwrap().is_none());
    // It stands still until its leases have run out. Nobody has taken the rooms: nevertheless it writes nothing.
    std::thread::sleep(ttl + Duration::from_millis(100));
    assert_eq!(a.directory.leases().lapsed(), ["cellar", "hall"]);
    let lost = |error: StoreError| match error {
        StoreError::Lost { rooms } => rooms,
        error => panic!("{error}"),
    };
    let mut rooms = lost(a.write(&both).unwrap_err());
    rooms.sort();
    assert_eq!(rooms, ["cellar", "hall"]);
    // Another host takes one of them over. The first claims the other again, and still writes nothing by what it had open before.
    let (_, token) = b.open("hall").unwrap().unwrap();
    assert!(token > hall_token);
    assert_eq!(b.write(&[("hall", hall, token)]).unwrap(), [1]);
    let Claim::Granted(again) = a.directory.claim("cellar").unwrap() else { panic!("nobody had it") };
    assert!(again.token > cellar_token);
    let mut rooms = lost(a.write(&both).unwrap_err());
    rooms.sort();
    assert_eq!(rooms, ["cellar", "hall"]);
    assert_eq!(lost(a.store.enter(&header_of(&options("hall")), &blueprint().protocol().describe()).unwrap_err()), ["hall"]);
    assert_eq!(lost(a.store.take_over("hall").unwrap_err()), ["hall"]);
    // What it opens anew it writes.
    let (_, token) = a.open("cellar").unwrap().unwrap();
    assert_eq!(token, again.token);
    assert_eq!(a.write(&[("cellar", cellar, token)]).unwrap(), [1]);
    // A flush in which one room is lost is refused as a whole, and nothing of it is there.
    assert_eq!(lost(a.write(&[("cellar", cellar, token), ("hall", hall, hall_token)]).unwrap_err()), ["hall"]);
    assert_eq!((tokens(&place, "hall").len(), tokens(&place, "cellar").len()), (2, 2));
    assert_eq!(a.store.last_flush().unwrap(), a.flush);
}

#[test]
fn who_takes_a_room_over_waits_for_the_commit_that_is_under_way() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("paused"), Duration::from_millis(1_200));
    let (mut a, mut b) = (Host::new(&place, "a", ttl), Host::new(&place, "b", ttl));
    // What is written of a tick takes longer than the lease holds, after the lease was checked and before it is committed.
    server.sql(
        &place,
        "CREATE FUNCTION pause() RETURNS trigger AS $$ BEGIN IF new.seq_from = 1 THEN PERFORM pg_sleep(2); END IF; RETURN new; END $$ \
         LANGUAGE plpgsql; CREATE TRIGGER pause BEFORE INSERT ON tick_chunk FOR EACH ROW EXECUTE FUNCTION paused.pause()",
    );
    let (hall, token) = a.open("hall").unwrap().unwrap();
    a.write(&[("hall", hall, token)]).unwrap();
    assert!(a.directory.renew(Load::default()).unwrap().is_empty());
    let began = Instant::now();
    let writing = std::thread::spawn(move || {
        assert_eq!(a.write(&[("hall", hall, token)]).unwrap(), [1]);
        (a, Instant::now())
    });
    std::thread::sleep(ttl);
    let taken = loop {
        match b.open("hall").unwrap() {
            Some(taken) => break taken,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    assert!(taken.1 > token);
    let (mut a, _) = writing.join().unwrap();
    assert_eq!(b.write(&[("hall", hall, taken.1)]).unwrap(), [2], "it sees what was committed before");
    assert!(matches!(a.write(&[("hall", hall, token)]), Err(StoreError::Lost { .. })));
    assert_eq!(tokens(&place, "hall"), [token.0, token.0, taken.1.0]);
}

#[test]
fn a_room_goes_on_elsewhere_at_the_last_tick_that_was_stored() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("elsewhere"), Duration::from_secs(4));
    let host = |name: &str| {
        let directory = PostgresDirectory::join(&place, name, name, ttl).unwrap();
        let store = PostgresStore::open_as(&place, name, directory.leases()).unwrap();
        // Nothing is sealed by itself: all that is played stands in the journal.
        let mut writer = WriterOptions::default();
        writer.seal_every = 10_000;
        (directory, Keeper::start(Box::new(store), writer).unwrap())
    };
    let ((mut first, mut a), (mut second, mut b)) = (host("a"), host("b"));
    for room in ["arena", "other"] {
        assert!(matches!(first.claim(room).unwrap(), Claim::Granted(_)));
    }
    assert!(b.room(&blueprint(), options("arena")).is_err(), "it is not leased to this one");
    let (mut room, mut other) = (a.room(&blueprint(), options("arena")).unwrap(), a.room(&blueprint(), options("other")).unwrap());
    let (handle, others) = (a.handle("arena").unwrap(), a.handle("other").unwrap());
    for tick in 1..=250 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        others.record(other.tick([]).unwrap().into());
        if tick % 10 == 0 {
            assert!(first.renew(Load::default()).unwrap().is_empty());
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    let began = Instant::now();
    while handle.durable() < Some(RoomTick(250)) {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", a.lost());
        std::thread::yield_now();
    }
    let left = server.sql(&place, "SELECT count(*) FROM journal JOIN room USING(room_id) WHERE name = 'arena'");
    assert_ne!(left, "0", "part of it stands in the journal only");
    // The first host stands still. The second takes one room over and plays on; to the byte as the first would have.
    std::thread::sleep(ttl + Duration::from_millis(100));
    assert_eq!(second.claim_lapsed(1).unwrap()[0].room, "arena");
    let mut resumed = b.room(&blueprint(), options("arena")).unwrap();
    assert_eq!((resumed.tick_now(), state_of(&mut resumed).hash()), (RoomTick(250), state_of(&mut room).hash()));
    // The first wakes up and goes on with both, not knowing better.
    for tick in 251..=300 {
        handle.record({
            let incoming = script(&room, tick);
            room.tick(incoming).unwrap().into()
        });
        others.record(other.tick([]).unwrap().into());
        let incoming = script(&resumed, tick);
        b.handle("arena").unwrap().record(resumed.tick(incoming).unwrap().into());
        if tick % 10 == 0 {
            second.renew(Load::default()).unwrap();
        }
    }
    b.writer().sync().unwrap();
    a.writer().sync().unwrap();
    let mut lost = a.lost();
    lost.sort();
    assert_eq!(lost, ["arena", "other"]);
    assert_eq!(handle.durable(), Some(RoomTick(250)), "nobody was told that more is stored");
    assert!(a.lost().is_empty() && b.lost().is_empty());
    assert_eq!(a.writer().failing(), None);
    let mut archive = Archive::new(Box::new(PostgresStore::read(&place).unwrap()), blueprint().protocol());
    assert_eq!(archive.verify("arena", |_| {}).unwrap().findings, []);
    assert_eq!(archive.head("arena").unwrap().unwrap().tick, RoomTick(300));
    assert_eq!(archive.state_at("arena", RoomTick(300)).unwrap().hash(), state_of(&mut resumed).hash());
    // What the first had stored of the other is not lost: who claims it next finds it, though the first has cleared its journal meanwhile.
    assert_eq!(archive.head("other").unwrap().unwrap().tick, RoomTick(250));
    assert!(matches!(first.claim("other").unwrap(), Claim::Granted(_)));
    assert_eq!(a.room(&blueprint(), options("other")).unwrap().tick_now(), RoomTick(250));
    assert!(matches!(first.claim("arena").unwrap(), Claim::Taken(owner) if owner.host == "b"));
}

#[test]
fn no_tick_is_written_by_two_however_hosts_claim_stall_and_wake_up() {
    let Some(server) = shared() else { return };
    let place = server.options("stress");
    let ttl = Duration::from_millis(120);
    drop(Host::new(&place, "first", ttl));
    // Twelve seconds, and on a slow machine until enough has happened: ticks that were written, flushes that were refused.
    let (began, enough): (Instant, Arc<[AtomicU64; 2]>) = (Instant::now(), Arc::default());
    let names: Vec<String> = (0..5).map(|number| format!("room{number}")).collect();
    let play = |number: u64| {
        let (place, names, enough) = (place.clone(), names.clone(), enough.clone());
        let goes_on = move |enough: &[AtomicU64; 2]| {
            let [written, refused] = enough.each_ref().map(|count| count.load(Ordering::Relaxed));
            began.elapsed() < Duration::from_secs(if written > 1_000 && refused > 40 { 12 } else { 90 })
        };
        std::thread::spawn(move || {
            let mut host = Host::new(&place, &format!("host{number}"), ttl);
            let mut rng = RoomRng::new(number);
            let mut open: BTreeMap<String, (RoomKey, Token)> = BTreeMap::new();
            let (mut written, mut refused): (BTreeMap<(String, u64), u64>, u64) = Default::default();
            while goes_on(&enough) {
                for name in &names {
                    if !open.contains_key(name)
                        && rng.chance(0.4)
                        && let Ok(Some(opened)) = host.open(name)
                    {
                        open.insert(name.clone(), opened);
                    }
                }
                // What the directory says is lost is not closed: the store has to refuse it.
                if rng.chance(0.5) {
                    host.directory.renew(Load::default()).unwrap();
                }
                let rooms: Vec<_> =
                    open.iter().filter(|_| rng.chance(0.7)).map(|(name, (key, token))| (name.as_str(), *key, *token)).collect();
                match host.write(&rooms) {
                    Ok(ticks) => {
                        enough[0].fetch_add(ticks.len() as u64, Ordering::Relaxed);
                        for ((name, _, token), tick) in rooms.iter().zip(ticks) {
                            assert_eq!(written.insert(((*name).to_owned(), tick), token.0), None);
                        }
                    }
                    Err(StoreError::Lost { rooms }) => {
                        refused += 1;
                        enough[1].fetch_add(1, Ordering::Relaxed);
                        open.retain(|name, _| !rooms.contains(name));
                    }
                    Err(error) => panic!("{error}"),
                }
                if rng.chance(0.15) {
                    std::thread::sleep(ttl.mul_f64(f64::from(rng.range(1..20)) / 10.0));
                }
                if rng.chance(0.05)
                    && let Some((name, _)) = open.pop_first()
                {
                    host.directory.release(&name).unwrap();
                }
            }
            (written, refused)
        })
    };
    let hosts: Vec<_> = (0..4).map(play).collect();
    let played: Vec<_> = hosts.into_iter().map(|host| host.join().unwrap()).collect();
    let (mut ticks, mut handovers) = (0, 0);
    for name in &names {
        let stored = tokens(&place, name);
        ticks += stored.len();
        handovers += stored.chunk_by(|a, b| a == b).count();
        for (tick, token) in stored.iter().enumerate() {
            let by: Vec<u64> = played.iter().filter_map(|(written, _)| written.get(&(name.clone(), tick as u64)).copied()).collect();
            assert_eq!(by, [*token], "tick {tick} of {name} was written by one host, which knows it");
        }
    }
    let refused: u64 = played.iter().map(|(_, refused)| refused).sum();
    assert_eq!(ticks, played.iter().map(|(written, _)| written.len()).sum::<usize>(), "whatever was reported as written is there");
    assert!(ticks > 500 && handovers > 30 && refused > 10, "{ticks} ticks, {handovers} handovers, {refused} refused");
    println!("{ticks} ticks, {handovers} handovers, {refused} flushes refused");
}

#[test]
fn hosts_with_leases_and_one_that_has_everything_exclude_each_other() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("exclusive"), Duration::from_secs(5));
    let a = Host::new(&place, "a", ttl);
    let b = Host::new(&place, "b", ttl);
    assert!(matches!(PostgresStore::open(&place), Err(StoreError::Served { .. })));
    assert!(matches!(PostgresStore::open_as(&place, "a", a.directory.leases()), Err(StoreError::Served { .. })), "one process a name");
    drop((a, b));
    let alone = PostgresStore::open(&place).unwrap();
    let directory = PostgresDirectory::join(&place, "a", "a", ttl).unwrap();
    assert!(matches!(PostgresStore::open_as(&place, "a", directory.leases()), Err(StoreError::Served { .. })));
    drop(alone);
}

#[test]
fn whoever_is_refused_the_name_of_a_host_does_not_move_its_address() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("renamed"), Duration::from_secs(20));
    let mut a = Host::new(&place, "a", ttl);
    assert!(matches!(a.directory.claim("hall").unwrap(), Claim::Granted(_)));
    // Whatever became of its row in the directory, it puts it right when it renews its leases.
    drop(PostgresDirectory::join(&place, "a", "elsewhere.example:5000", ttl).unwrap());
    for gone in [false, true] {
        if gone {
            server.sql(&place, "DELETE FROM host");
        }
        assert!(a.directory.renew(Load::default()).unwrap().is_empty());
        assert_eq!(a.directory.find("hall").unwrap().unwrap().address, "a.example:5000");
    }
    // As servers do it, nobody sees another address for a moment.
    server.sql(&place, "CREATE DATABASE renamed");
    let address = format!("postgres://rooms@127.0.0.1:{}/renamed", server.port());
    let share = |reached| share_at(Path::new(&address), "a", reached, ttl);
    let (_store, mut directory) = share("10.0.0.1:5000").unwrap();
    assert!(matches!(share("10.0.0.2:5000").map(drop), Err(StoreError::Served { .. })));
    assert_eq!(directory.hosts().unwrap()[0].address, "10.0.0.1:5000");
}

#[test]
fn a_room_of_which_nothing_more_comes_is_forgotten_once_the_journal_has_nothing_of_it() {
    let Some(server) = shared() else { return };
    let place = server.options("forgotten");
    let mut host = Host::new(&place, "a", Duration::from_secs(600));
    let (hall, hall_token) = host.open("hall").unwrap().unwrap();
    let (cellar, cellar_token) = host.open("cellar").unwrap().unwrap();
    assert_eq!(host.write(&[("hall", hall, hall_token), ("cellar", cellar, cellar_token)]).unwrap(), [0, 0]);
    server.sql(&place, &format!("INSERT INTO journal VALUES({}, 'a', 1, {}, 0, '')", hall.0, hall_token.0));
    let in_journal = || server.sql(&place, "SELECT count(*) FROM journal");
    host.store.leave(hall);
    for (number, journal_done, left) in [(2, 0, "1"), (3, 1, "0")] {
        host.store.commit(&Flush { number, journal_done, ..Flush::default() }).unwrap();
        assert_eq!(in_journal(), left, "flush {number}");
    }
    host.flush = 3;
    // No flush names it any more, however many rooms there have been.
    let error = host.write(&[("hall", hall, hall_token)]).unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    assert_eq!(host.write(&[("cellar", cellar, cellar_token)]).unwrap(), [1]);
    // Until it is opened again.
    assert_eq!(host.open("hall").unwrap(), Some((hall, hall_token)));
    assert_eq!(host.write(&[("hall", hall, hall_token)]).unwrap(), [1]);
}

/// What a directory answers once its connection is there again.
fn once_back<T>(mut ask: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(StoreError::Postgres { .. } | StoreError::Stopped) if began.elapsed() < Duration::from_secs(20) => {}
            answer => return answer,
        }
    }
}

#[test]
fn a_host_whose_name_another_process_has_by_now_renews_claims_and_moves_nothing() {
    let Some(server) = shared() else { return };
    let ttl = Duration::from_secs(60);
    server.sql(&server.options("taken"), "CREATE DATABASE taken");
    let address = format!("postgres://rooms@127.0.0.1:{}/taken", server.port());
    let share = |reached| share_at(Path::new(&address), "a", reached, ttl);
    let (_former, mut earlier) = share("10.0.0.1:5000").unwrap();
    let Claim::Granted(lease) = earlier.claim("hall").unwrap() else { panic!("nobody had it") };
    assert!(earlier.renew(Load::default()).unwrap().is_empty());
    // With its sessions the lock on its name is gone, and it does not know.
    server.sql(&server.options("taken"), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'taken'");
    let (_store, mut later) = crate::retry(|| share("10.0.0.2:5000"));
    assert_eq!(earlier.leases().held().len(), 1);
    let error = once_back(|| earlier.renew(Load::default())).unwrap_err();
    assert!(matches!(error, StoreError::Served { .. }) && error.to_string().contains("as host \"a\""), "{error}");
    assert!(earlier.leases().held().is_empty(), "its rooms stand still");
    assert!(matches!(earlier.claim("hall"), Err(StoreError::Served { .. })));
    assert!(matches!(earlier.claim_lapsed(4), Err(StoreError::Served { .. })));
    assert!(matches!(earlier.leave(), Err(StoreError::Served { .. })));
    // The lease that it had, unchanged; the later one takes the room by the name.
    assert_eq!(later.find("hall").unwrap().map(|owner| (owner.token, owner.address)), Some((lease.token, "10.0.0.2:5000".to_owned())));
    let Claim::Granted(again) = later.claim("hall").unwrap() else { panic!("it is this host's") };
    assert!(again.token > lease.token && later.renew(Load::default()).unwrap().is_empty());
}

#[test]
fn a_host_whose_mark_is_gone_has_its_name_and_one_whose_mark_is_another_process_has_not() {
    let Some(server) = shared() else { return };
    server.sql(&server.options("unmarked"), "CREATE DATABASE unmarked");
    let sql = |sql: &str| server.sql_in("unmarked", "roomkeeper", sql);
    let address = format!("postgres://rooms@127.0.0.1:{}/unmarked", server.port());
    let (mut store, mut directory) = share_at(Path::new(&address), "a", "10.0.0.1:5000", Duration::from_secs(60)).unwrap();
    assert!(matches!(directory.claim("hall").unwrap(), Claim::Granted(_)));
    store.commit(&Flush { number: 1, ..Flush::default() }).unwrap();
    // As after a backup was put back that is older than the host's first start: that is for the store to say, and it does, however often it is started over.
    sql("DELETE FROM mark");
    let flush = Flush { number: 2, ..Flush::default() };
    for room in ["cellar", "attic"] {
        assert!(directory.renew(Load::default()).unwrap().is_empty());
        assert!(matches!(directory.claim(room).unwrap(), Claim::Granted(_)));
        assert!(directory.claim_lapsed(4).unwrap().is_empty());
        let error = store.commit(&flush).unwrap_err();
        assert!(matches!(error, StoreError::WentBack { found: 0, stored: 1 }), "{error}");
        store.reopen().unwrap();
    }
    assert_eq!(directory.leases().held().len(), 3);
    // As another process leaves it, or an earlier run of this one in a replica that became the first server: they can't be told apart.
    sql("INSERT INTO mark VALUES('a', gen_random_uuid(), 1)");
    let is_served = |error: StoreError| matches!(error, StoreError::Served { .. });
    assert!(is_served(directory.claim("hall").map(drop).unwrap_err()) && directory.leases().held().is_empty());
    assert!(is_served(directory.renew(Load::default()).unwrap_err()));
    assert!(is_served(store.commit(&flush).unwrap_err()) && is_served(store.reopen().unwrap_err()));
    assert!(is_served(store.commit(&flush).unwrap_err()), "and not that it has no connection");
    assert_eq!(sql("SELECT count(*) FROM lease WHERE host = 'a' AND token = 1"), "3", "as they were");
}

#[test]
fn a_process_whose_name_is_taken_right_after_it_has_taken_it_does_not_move_the_hosts_address() {
    let Some(server) = shared() else { return };
    server.sql(&server.options("overtaken"), "CREATE DATABASE overtaken");
    let address = format!("postgres://rooms@127.0.0.1:{}/overtaken", server.port());
    let share = |name, reached| share_at(Path::new(&address), name, reached, Duration::from_secs(60));
    let (_store, mut directory) = share("b", "10.0.0.2:5000").unwrap();
    server.sql_in(
        "overtaken",
        "roomkeeper",
        "CREATE FUNCTION overtake() RETURNS trigger AS $$ BEGIN UPDATE mark SET run = gen_random_uuid() WHERE host = new.host; RETURN NULL; END $$ \
         LANGUAGE plpgsql; CREATE TRIGGER overtake AFTER INSERT ON mark FOR EACH ROW EXECUTE FUNCTION roomkeeper.overtake()",
    );
    assert!(matches!(share("a", "10.0.0.1:5000").map(drop), Err(StoreError::Served { .. })));
    assert!(directory.hosts().unwrap().iter().map(|entry| entry.host.as_str()).eq(["b"]));
    assert!(directory.renew(Load::default()).unwrap().is_empty());
}

/// For how long leases of the processes below hold; and how long the database lets who holds a lock be silent, which is longer, so that it can be told who was
/// thrown out.
const ZOMBIE_LEASE: Duration = Duration::from_millis(1_500);
const ZOMBIE_PATIENCE: Duration = Duration::from_secs(3);

/// Not a test by itself: what the process does that the next test stops and wakes up. It writes until it is refused.
#[test]
fn a_host_in_a_process_of_its_own() {
    let Ok(port) = std::env::var("ROOMKEEPER_TEST_PORT") else { return };
    let mut place = options_at(port.parse().unwrap(), "zombie");
    place.patience = ZOMBIE_PATIENCE;
    let mut host = Host::new(&place, &std::env::var("ROOMKEEPER_TEST_HOST").unwrap(), ZOMBIE_LEASE);
    let opened = loop {
        if let Some(opened) = host.open("hall").unwrap() {
            break opened;
        }
    };
    let mut since = Instant::now();
    loop {
        if since.elapsed() > Duration::from_millis(100) {
            host.directory.renew(Load::default()).unwrap();
            since = Instant::now();
        }
        match host.write(&[("hall", opened.0, opened.1)]) {
            Ok(ticks) => println!("\nwrote {} {}", ticks[0], opened.1.0),
            Err(error) => return println!("\nrefused {error}"),
        }
    }
}

#[test]
fn a_process_that_was_stopped_beyond_its_lease_writes_nothing_more_wherever_it_was_stopped() {
    let Some(server) = Server::start() else { return };
    let mut place = server.options("zombie");
    place.patience = ZOMBIE_PATIENCE;
    drop(Host::new(&place, "first", ZOMBIE_LEASE));
    // It spends most of its time where it has checked its lease and not committed yet.
    server.sql(
        &place,
        "CREATE FUNCTION pause() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN new; END $$ LANGUAGE plpgsql; \
         CREATE TRIGGER pause BEFORE INSERT ON tick_chunk FOR EACH ROW EXECUTE FUNCTION zombie.pause()",
    );
    let (mut known, mut rng, mut thrown_out) = (BTreeMap::new(), RoomRng::new(11), 0);
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leases::a_host_in_a_process_of_its_own", "--nocapture"])
            .env("ROOMKEEPER_TEST_PORT", server.port().to_string())
            .env("ROOMKEEPER_TEST_HOST", format!("zombie{round}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = child.id().to_string();
        let signal = |signal: &str| assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let out = child.stdout.take().unwrap();
        let heard = Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
        let (into, started) = (heard.clone(), Instant::now());
        let listening = std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line));
        });
        while heard.lock().unwrap().iter().filter(|line| line.starts_with("wrote")).count() < 20 {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", heard.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        // Anywhere within what it does: most of its time it waits within a transaction.
        std::thread::sleep(Duration::from_micros(u64::from(rng.range(0..40_000))));
        signal("-STOP");
        let stopped = Instant::now();
        let (mut tries, mut host) = (0, Host::new(&place, &format!("next{round}"), ZOMBIE_LEASE));
        let opened = loop {
            // A lock that the process holds is taken from it by the database, after the patience that it said it has.
            match host.open("hall") {
                Ok(Some(opened)) => break opened,
                Ok(None) => {}
                Err(StoreError::Postgres { .. } | StoreError::Silent { .. } | StoreError::Lost { .. }) => {
                    tries += 1;
                    host = Host::new(&place, &format!("next{round}-{tries}"), ZOMBIE_LEASE);
                }
                Err(error) => panic!("{error}"),
            }
            assert!(stopped.elapsed() < Duration::from_secs(30));
        };
        thrown_out += u32::from(stopped.elapsed() > ZOMBIE_PATIENCE.mul_f64(0.8));
        for _ in 0..5 {
            host.directory.renew(Load::default()).unwrap();
            let ticks = host.write(&[("hall", opened.0, opened.1)]).unwrap();
            known.insert(ticks[0], opened.1.0);
        }
        signal("-CONT");
        child.wait().unwrap();
        listening.join().unwrap();
        let heard = heard.lock().unwrap();
        let refused: Vec<&String> = heard.iter().filter(|line| line.starts_with("refused")).collect();
        assert_eq!(refused.len(), 1, "{heard:?}");
        for line in heard.iter().filter_map(|line| line.strip_prefix("wrote ")) {
            let (tick, token) = line.split_once(' ').unwrap();
            let before = known.insert(tick.parse().unwrap(), token.parse().unwrap());
            assert_eq!(before, None, "tick {tick} was written by two");
        }
        host.directory.release("hall").unwrap();
    }
    let stored = tokens(&place, "hall");
    // One tick of each round may be there of which the process was told nothing.
    for (tick, token) in &known {
        assert_eq!(stored[*tick as usize], *token);
    }
    assert!(stored.len() <= known.len() + 8, "{} of {}", stored.len(), known.len());
    assert!(thrown_out > 0, "none was stopped between check and commit");
    println!("{} ticks; {thrown_out} of 8 were stopped within a transaction", stored.len());
}

#[test]
fn a_room_is_deleted_by_no_host_while_another_has_it_and_its_tokens_go_on() {
    let Some(server) = shared() else { return };
    let (place, ttl) = (server.options("deleting"), Duration::from_secs(3));
    let (mut a, mut b) = (Host::new(&place, "a", ttl), Host::new(&place, "b", ttl));
    let (hall, first) = a.open("hall").unwrap().unwrap();
    assert_eq!(a.write(&[("hall", hall, first)]).unwrap(), [0]);
    let mut reader = b.store.reader().unwrap();
    let refused = reader.delete(hall, Duration::ZERO).unwrap_err();
    assert!(matches!(&refused, StoreError::Held { room, host } if room == "hall" && host == "a"), "{refused}");
    let stored = a.store.room("hall").unwrap().unwrap();
    // Who has lost it without knowing writes nothing more of it: neither while it is gone, nor of what gets its name.
    std::thread::sleep(ttl + Duration::from_millis(100));
    assert!(reader.delete(hall, Duration::ZERO).unwrap());
    let (head, chain, fingerprint) = (Head { tick: RoomTick(1), seq: FactSeq(0) }, stored.chain, stored.fingerprint);
    let seal = Seal { key: hall, head, chain, fingerprint, chunks: Vec::new(), components: None, checkpoint: None };
    let late = Flush { number: a.flush + 1, seals: vec![seal], ..Flush::default() };
    assert!(matches!(a.store.commit(&late), Err(StoreError::Lost { .. })));
    let (again, token) = b.open("hall").unwrap().unwrap();
    assert!(again != hall && token > first);
    assert_eq!(b.write(&[("hall", again, token)]).unwrap(), [0]);
    assert!(matches!(a.write(&[("hall", again, first)]), Err(StoreError::Lost { .. })));
    assert_eq!(tokens(&place, "hall"), [token.0]);
    // Who wants a room that is just being deleted has it once it is gone, and then a new one.
    b.directory.release("hall").unwrap();
    let (claimed, deleted) = std::thread::scope(|scope| {
        let claimed = scope.spawn(|| a.open("hall").unwrap());
        let deleted = reader.delete(again, Duration::ZERO);
        (claimed.join().unwrap(), deleted)
    });
    let (key, _) = claimed.unwrap();
    match deleted {
        Ok(deleted) => assert!(deleted && key != again),
        Err(refused) => assert!(matches!(refused, StoreError::Held { .. }) && key == again, "{refused}"),
    }
}
