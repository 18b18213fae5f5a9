//! A real server is killed again and again, at random moments and under load. Nothing that it reported as stored is missing, and players
//! go on where they were.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
// In the end the server is told to stop by a signal.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::server::{Server, serve};
use crate::{bot, protocol, rules};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, Credentials, Replica, ReplicaPlugin, UdpPlugin, UdpTransport, replica_state};
use roomkeeper::host::rerun;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Admission, Durable, FactSeq, RoomTick};
use roomkeeper::room::{Blueprint, RoomRng};
use roomkeeper::store::{Archive, SqliteStore};

const KILLS: u32 = 50;
/// More commands of each player than this are reported as stored.
const MANY: usize = 100;

/// The commands that were reported as stored, with their ticks.
#[derive(Resource, Default)]
struct Stored(BTreeMap<(u32, u32), ()>);

struct Player {
    name: &'static str,
    app: App,
    brain: Box<dyn FnMut(&mut World)>,
}

impl Player {
    fn new(name: &'static str, seed: u64) -> Self {
        let mut app = App::new();
        app.add_plugins((ReplicaPlugin, UdpPlugin)).init_resource::<Stored>();
        protocol::add(&mut app);
        app.add_observer(|durable: On<Durable>, mut stored: ResMut<Stored>| {
            stored.0.insert((durable.tick.0, durable.id.0), ());
        });
        app.finish();
        app.cleanup();
        Self { name, app, brain: bot::brain(seed) }
    }

    fn connect(&mut self, server: SocketAddr, client_id: u64) {
        let admission = Admission { client_id, player: EntityId::named(self.name), name: self.name.to_owned(), room: None };
        let transport = UdpTransport::connect(&Credentials::Unauthenticated { server, admission }, "main", false).unwrap();
        self.app.insert_resource(transport);
    }

    fn play(&mut self) {
        if *self.app.world().resource::<Connection>().state() == ConnectionState::Live {
            (self.brain)(self.app.world_mut());
        }
        self.app.update();
    }

    fn is_live(&self) -> bool {
        *self.app.world().resource::<Connection>().state() == ConnectionState::Live
    }
}

fn archive(data: &Path) -> Archive {
    Archive::new(Box::new(SqliteStore::read(data).unwrap()), Blueprint::new(protocol::add, rules::add).protocol())
}

/// Lets the players play for a while.
fn play(players: &mut [Player], time: Duration) {
    let rounds = time.as_millis() / 10;
    for _ in 0..rounds {
        players.iter_mut().for_each(Player::play);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_server_that_is_killed_fifty_times_loses_nothing_that_it_reported_as_stored() {
    let data = folder("killed");
    let mut rng = RoomRng::new(11);
    let mut players = [Player::new("ann", 1), Player::new("bob", 2)];
    let (mut last, mut came_back) = (None::<u32>, 0);
    for kill in 0..KILLS {
        let mut server = serve(Some(&data));
        assert!(server.found.is_empty(), "kill {kill}: {:?}", server.found);
        assert!(server.went_on_at >= last, "kill {kill}: at {:?} after {last:?}", server.went_on_at);
        for (number, player) in players.iter_mut().enumerate() {
            player.connect(server.address, u64::from(kill) * 10 + number as u64 + 1);
        }
        play(&mut players, Duration::from_millis(u64::from(rng.range(30..700))));
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        came_back += players.iter().filter(|player| player.is_live()).count();
        let stored = players.iter().flat_map(|player| player.app.world().resource::<Stored>().0.keys());
        last = stored.map(|(tick, _)| *tick).max().or(last);
    }
    println!("{came_back} of {} connections got into the room before their server was killed; stored up to tick {last:?}", KILLS * 2);
    assert!(came_back > KILLS as usize / 2, "{came_back}");
    let server = serve(Some(&data));
    for (number, player) in players.iter_mut().enumerate() {
        player.connect(server.address, 9_000 + number as u64);
    }
    // However slow the machine is, much was stored in the end.
    for _ in 0..60 {
        play(&mut players, Duration::from_secs(1));
        if players.iter().all(|player| player.app.world().resource::<Stored>().0.len() > MANY) {
            break;
        }
    }
    end_well(server);
    check(&data, &mut players);
}

/// Ends a server as an operator does.
fn end_well(mut server: Server) {
    let id = server.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(server.process.wait().unwrap().success());
}

fn check(data: &Path, players: &mut [Player]) {
    let mut archive = archive(data);
    let verified = archive.verify("main", |_| {}).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    // Run again from its creation, with a restart wherever there was one, it gives the same bytes.
    let end = archive.head("main").unwrap().unwrap().tick;
    let run = rerun(&mut archive, &Blueprint::new(protocol::add, rules::add), "main", (RoomTick(0), end), None, |_| {}).unwrap();
    assert_eq!((run.difference, run.ticks), (None, end.0));
    let facts = archive.facts("main", FactSeq(1), usize::MAX).unwrap();
    assert!(facts.iter().map(|fact| fact.seq.0).eq(1..=facts.len() as u64));
    assert!(facts.is_sorted_by_key(|fact| fact.tick));
    let joined = facts.iter().filter(|fact| fact.kind == "user_joined").count();
    assert_eq!(joined, players.len(), "whose seat was kept did not have to join again");
    for player in players {
        let of_player = facts.iter().filter(|fact| fact.author == Some(EntityId::named(player.name)));
        let known: BTreeSet<(u32, u32)> = of_player.filter_map(|fact| Some((fact.tick.0, fact.command?.0))).collect();
        let stored = &player.app.world().resource::<Stored>().0;
        assert!(stored.len() > MANY, "{} commands of {} were reported as stored", stored.len(), player.name);
        let missing: Vec<_> = stored.keys().filter(|stored| !known.contains(stored)).collect();
        assert!(missing.is_empty(), "{missing:?} of {} were reported as stored", player.name);
        let (tick, replica) = (player.app.world().resource::<Replica>().tick(), replica_state(player.app.world_mut()).unwrap());
        let room = archive.state_at("main", tick).unwrap();
        let difference = room.difference(archive.protocol(), &replica);
        assert_eq!(difference, None, "the replica of {} at tick {tick}", player.name);
        assert!(tick > RoomTick(100));
    }
}
