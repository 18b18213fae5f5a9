//! Two real servers that share their rooms by a real PostgreSQL. One is killed, paused, or told to stop; the rooms go on, and so do the players.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roomkeeper::protocol::{FactSeq, RoomTick};
use roomkeeper::store::{Archive, PostgresOptions, PostgresStore};

use super::arena::blueprint;
use super::binary::{PATIENCE, Process, inferno};
use super::server::Server;

/// For how long a lease holds here.
const LEASE: Duration = Duration::from_secs(3);

/// With a password that nobody asks for: it must not be told all the same.
fn address_of(database: &Server) -> String {
    format!("postgres://rooms:secret@127.0.0.1:{}/postgres", database.port())
}

fn options_of(database: &Server) -> PostgresOptions {
    PostgresOptions::at(address_of(database))
}

/// A server that shares the rooms `main` and `north` with others.
struct Host {
    process: Process,
    address: SocketAddr,
}

impl Host {
    fn start(database: &Server, name: &str) -> Self {
        let share = format!("share.host={name}");
        let lease = format!("share.lease={}s", LEASE.as_secs());
        let mut command = inferno();
        command.args(["serve", "--bind", "127.0.0.1:0", "--also", "north", "--data", &address_of(database), "--log", "warn"]);
        command.args(["--set", &share, "--set", &lease]);
        let mut process = Process::start(&mut command);
        let address = process.until(" on udp ").parse().unwrap();
        assert!(!process.heard.iter().any(|line| line.contains("secret")), "{:?}", process.heard);
        Self { process, address }
    }
}

/// A player who knows both servers.
fn player(hosts: [&Host; 2], name: &str, room: &str) -> Process {
    let servers = hosts.map(|host| host.address.to_string()).join(",");
    Process::start(inferno().args(["bot", "--server", &servers, "--name", name, "--room", room]))
}

struct Stage {
    database: Server,
    archive: Archive,
}

impl Stage {
    fn new() -> Option<(Self, [Host; 2], Vec<Process>)> {
        let database = Server::start()?;
        let first = Host::start(&database, "first");
        let archive = Archive::new(Box::new(PostgresStore::read(&options_of(&database)).unwrap()), blueprint().protocol());
        let mut stage = Self { database, archive };
        stage.until_beyond("main", RoomTick(20));
        stage.until_beyond("north", RoomTick(20));
        let second = Host::start(&stage.database, "second");
        let hosts = [first, second];
        // Some of them ask the wrong one first, and are sent on.
        let others = [("ann", "main", false), ("bob", "main", true), ("cem", "north", true)];
        let mut players: Vec<Process> = others
            .into_iter()
            .map(|(name, room, turned)| {
                let [first, second] = &hosts;
                player(if turned { [second, first] } else { [first, second] }, name, room)
            })
            .collect();
        players.iter_mut().for_each(|player| drop(player.until("in the room")));
        Some((stage, hosts, players))
    }

    fn head(&mut self, room: &str) -> RoomTick {
        self.archive.head(room).ok().flatten().map_or(RoomTick(0), |head| head.tick)
    }

    fn until_beyond(&mut self, room: &str, tick: RoomTick) -> Duration {
        let began = Instant::now();
        while self.head(room) <= tick {
            assert!(began.elapsed() < PATIENCE, "{room} stands at {}", self.head(room));
            std::thread::sleep(Duration::from_millis(20));
        }
        began.elapsed()
    }

    /// The ledger has every fact, once, and nobody left; whoever looks finds nothing wrong.
    fn assert_unbroken(&mut self) {
        for room in ["main", "north"] {
            let facts = self.archive.facts(room, FactSeq(1), usize::MAX).unwrap();
            assert!(facts.iter().zip(1..).all(|(fact, seq)| fact.seq == FactSeq(seq)), "{room}");
            let left: Vec<_> = facts.iter().filter(|fact| fact.kind == "user_left").collect();
            assert!(left.is_empty(), "{left:?}");
        }
        for room in ["main", "north"] {
            let mut command = inferno();
            let output = command.args(["ledger", "--data", &address_of(&self.database), "--room", room, "verify"]).output().unwrap();
            assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn the_rooms_of_a_host_that_is_killed_tick_on_another_and_the_players_are_back() {
    let Some((mut stage, [mut first, second], mut players)) = Stage::new() else { return };
    let _ = first.process.child.kill();
    let _ = first.process.child.wait();
    std::thread::sleep(Duration::from_millis(300));
    let heads = [stage.head("main"), stage.head("north")];
    let gap = stage.until_beyond("main", heads[0]).max(stage.until_beyond("north", heads[1]));
    eprintln!("the rooms ticked on another host {:.1} s after theirs was killed; leases hold for {LEASE:?}", gap.as_secs_f64());
    for player in &mut players {
        player.heard.clear();
        player.until("in the room");
        assert!(player.is_running());
    }
    let (main, north) = (stage.head("main"), stage.head("north"));
    stage.until_beyond("main", RoomTick(main.0 + 40));
    stage.until_beyond("north", RoomTick(north.0 + 40));
    drop(players);
    second.process.signal("-TERM");
    let began = Instant::now();
    let mut second = second;
    while second.process.is_running() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.assert_unbroken();
}

#[test]
fn a_host_that_was_paused_beyond_its_lease_writes_nothing_more() {
    let Some((mut stage, [mut first, mut second], mut players)) = Stage::new() else { return };
    first.process.signal("-STOP");
    std::thread::sleep(Duration::from_millis(300));
    let head = stage.head("main");
    stage.until_beyond("main", RoomTick(head.0 + 40));
    first.process.signal("-CONT");
    first.process.until("counts here");
    let head = stage.head("main");
    stage.until_beyond("main", RoomTick(head.0 + 60));
    assert!(first.process.is_running() && second.process.is_running());
    for player in &mut players {
        assert!(player.is_running(), "{:#?}", player.heard);
    }
    let owners = stage.database.sql(&options_of(&stage.database), "SELECT DISTINCT host FROM lease ORDER BY 1");
    assert_eq!(owners, "second");
    stage.assert_unbroken();
}

#[test]
fn a_host_whose_name_another_process_took_renews_nothing_and_ends_with_word_of_what_to_do() {
    let Some(database) = Server::start() else { return };
    let place = options_of(&database);
    let leases = "SELECT string_agg(room || ' ' || host, ', ' ORDER BY room) FROM lease WHERE expires > clock_timestamp()";
    let mut first = Host::start(&database, "same");
    let began = Instant::now();
    while database.sql(&place, leases) != "main same, north same" {
        assert!(began.elapsed() < PATIENCE, "{:#?}", first.process.heard);
        std::thread::sleep(Duration::from_millis(20));
    }
    // It stands still, and the database has lost it, as behind a cable that was cut: with its sessions the lock on its name is gone.
    first.process.signal("-STOP");
    database.sql(&place, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'roomkeeper'");
    let mut second = Host::start(&database, "same");
    let anew = "SELECT count(*) FROM lease WHERE token > 1 AND expires > clock_timestamp()";
    let address = "SELECT address FROM host WHERE id = 'same'";
    let began = Instant::now();
    while database.sql(&place, anew) != "2" {
        assert!(began.elapsed() < PATIENCE, "{:#?}", second.process.heard);
        std::thread::sleep(Duration::from_millis(20));
    }
    first.process.signal("-CONT");
    let began = Instant::now();
    while first.process.is_running() {
        assert_eq!(database.sql(&place, address), second.address.to_string(), "it leads nobody to itself");
        assert!(began.elapsed() < PATIENCE, "{:#?}", first.process.heard);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!first.process.child.wait().unwrap().success());
    // What the log said, and what it said last.
    first.process.until("error: share.host: another process has the name \"same\"");
    assert!(first.process.heard.iter().any(|line| line.contains("under a name that no other has")), "{:#?}", first.process.heard);
    std::thread::sleep(LEASE);
    assert_eq!(database.sql(&place, anew), "2", "the second one renews what it has");
    assert_eq!(database.sql(&place, address), second.address.to_string());
    assert!(second.process.is_running() && second.process.hears("another process") == 0, "{:#?}", second.process.heard);
}

#[test]
fn a_host_that_is_told_to_stop_moves_its_players_and_loses_none() {
    let Some((mut stage, [mut first, _second], mut players)) = Stage::new() else { return };
    players.iter_mut().for_each(|player| player.heard.clear());
    let head = stage.head("main");
    first.process.signal("-TERM");
    let began = Instant::now();
    while first.process.is_running() {
        assert!(began.elapsed() < PATIENCE, "{:#?}", first.process.heard);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(first.process.child.wait().unwrap().success());
    stage.until_beyond("main", RoomTick(head.0 + 60));
    for player in &mut players {
        player.until("in the room");
        assert!(player.is_running() && player.hears("reconnecting") == 0, "nobody lost its connection: {:#?}", player.heard);
    }
    stage.assert_unbroken();
}
