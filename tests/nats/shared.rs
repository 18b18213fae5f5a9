//! Two real servers that share their rooms by a real PostgreSQL, and publish to the same stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roomkeeper::protocol::FactSeq;
use roomkeeper::store::{Archive, PostgresOptions, PostgresStore, StoredFact};

use super::arena::blueprint;
use super::binary::{PATIENCE, Process, inferno};
use super::server::Server;
use super::{WINDOW, database, stream_is_ledger};

const ROOMS: [&str; 2] = ["main", "north"];

struct Stage {
    database: database::Server,
    nats: Server,
}

impl Stage {
    fn host(&self, name: &str) -> (Process, String) {
        let mut command = inferno();
        let data = format!("postgres://rooms@127.0.0.1:{}/postgres", self.database.port());
        command.args(["serve", "--bind", "127.0.0.1:0", "--also", "north", "--data", &data, "--nats", &self.nats.url()]);
        let mut host = Process::start(command.args(["--set", &format!("share.host={name}"), "--set", "share.lease=3s"]));
        let address = host.until(" on udp ");
        (host, address)
    }

    fn ledgers(&self) -> BTreeMap<String, Vec<StoredFact>> {
        let place = PostgresOptions::at(format!("postgres://rooms@127.0.0.1:{}/postgres", self.database.port()));
        let mut archive = Archive::new(Box::new(PostgresStore::read(&place).unwrap()), blueprint().protocol());
        ROOMS.map(|room| (room.to_owned(), archive.facts(room, FactSeq(1), usize::MAX).unwrap_or_default())).into()
    }

    fn until_more(&self) {
        let count = |stage: &Self| stage.ledgers().into_iter().map(|(room, facts)| (room, facts.len())).collect::<BTreeMap<_, _>>();
        let (began, before) = (Instant::now(), count(self));
        while !count(self).iter().all(|(room, facts)| *facts > before[room] + 5) {
            assert!(began.elapsed() < PATIENCE * 2, "{before:?}, {:?}", count(self));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_host_that_takes_rooms_over_goes_on_where_the_stream_stands() {
    let Some(nats) = Server::start() else { return };
    nats.make_stream(WINDOW);
    let Some(database) = database::Server::start() else { return };
    let stage = Stage { database, nats };
    let (first, here) = stage.host("first");
    // All rooms are the first one's.
    std::thread::sleep(Duration::from_millis(500));
    let (second, there) = stage.host("second");
    let servers = format!("{here},{there}");
    let player = |(name, room)| Process::start(inferno().args(["bot", "--server", &servers, "--name", name, "--room", room]));
    let mut players: Vec<Process> = [("ann", "main"), ("bob", "main"), ("cem", "north")].map(player).into();
    players.iter_mut().for_each(|player| drop(player.until("in the room")));
    stage.until_more();
    first.kill();
    stage.until_more();
    drop(players);
    second.stop();
    let facts = stream_is_ledger(&stage.nats, &stage.ledgers());
    eprintln!("{facts} facts of two rooms, once each, over a takeover");
}
