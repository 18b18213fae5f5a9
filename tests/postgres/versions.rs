//! Two hosts that share their rooms by a real PostgreSQL, each with another version of the game: one is stopped, and the other has its rooms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{Host, HostHandle, HostOptions, Keeper, ShareOptions, Template};
use roomkeeper::prelude::*;
use roomkeeper::protocol::RoomTick;
use roomkeeper::room::Blueprint;
use roomkeeper::store::{Archive, Directory, PostgresDirectory, PostgresOptions, PostgresStore, WriterOptions};
use serde::{Deserialize, Serialize};

use crate::arena::{blueprint, options, protocol, rules};
use crate::server::shared;

#[derive(Component, Serialize, Deserialize)]
struct Mood(u8);

/// The same game as a later version has it.
fn later() -> Blueprint {
    let with_mood = |app: &mut App| {
        protocol(app);
        app.sync::<Mood>("mood");
    };
    Blueprint::new(with_mood, rules)
}

/// A host that runs on a thread of its own.
struct Running {
    handle: HostHandle,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(place: &PostgresOptions, name: &str, game: Blueprint) -> Self {
        let limits = GatewayLimits::default();
        let config = ShardConfig { bind: ([127, 0, 0, 1], 0).into(), public_addresses: Vec::new(), access: Access::Loopback, limits };
        let mut host = Host::bind(&config, HostOptions::default()).unwrap();
        let address = host.local_address().unwrap().to_string();
        // Longer than the test may take: no host gets a room because another one was slow.
        let directory = PostgresDirectory::join(place, name, &address, Duration::from_secs(600)).unwrap();
        let store = PostgresStore::open_as(place, name, directory.leases()).unwrap();
        host.keep_by(Keeper::start(Box::new(store), WriterOptions::default()).unwrap());
        let sharing = ShareOptions { host: name.to_owned(), renew_every: Duration::from_millis(100) };
        host.share(Box::new(directory), Some(Box::new(PostgresStore::read(place).unwrap())), &sharing).unwrap();
        host.template("default", Template::new(game, options("template")));
        let (handle, stop) = (host.handle(), Arc::new(AtomicBool::new(false)));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            host.run(&stops, Duration::from_secs(20));
            let report = host.stop_keeping().unwrap();
            assert!(report.given_up.is_none(), "{report:?}");
        });
        Self { handle, stop, thread }
    }

    /// The tick of a room that is open here.
    fn tick(&self, room: &str) -> Option<RoomTick> {
        let rooms = self.handle.rooms().unwrap();
        rooms.into_iter().find(|info| info.name == room && !info.is_resting).map(|info| info.status.tick)
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not in 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_rooms_of_a_host_that_is_stopped_go_on_at_one_with_a_later_version_of_the_game() {
    let Some(server) = shared() else { return };
    let place = server.options("versions");
    let first = Running::start(&place, "first", blueprint());
    first.handle.open("main", "default").unwrap();
    // Beyond the tick at which all components are stored for the first time.
    until("it is played", || first.tick("main") > Some(RoomTick(130)));
    let second = Running::start(&place, "second", later());
    until("the second one takes rooms", || server.sql(&place, "SELECT rooms_max > 0 FROM host WHERE id = 'second'") == "t");
    let heard = || server.sql(&place, "SELECT heartbeat FROM host WHERE id = 'first'");
    for _ in 0..2 {
        let before = heard();
        until("the first one has looked who else there is", || heard() != before);
    }
    first.stop();
    assert_eq!(server.sql(&place, "SELECT host IS NULL FROM lease WHERE room = 'main'"), "t", "it was given back");
    assert_eq!(server.sql(&place, "SELECT components_tick = sealed_tick FROM room WHERE name = 'main'"), "t");
    let mut archive = Archive::new(Box::new(PostgresStore::read(&place).unwrap()), later().protocol());
    let last = archive.head("main").unwrap().unwrap().tick;
    assert!(last > RoomTick(130));
    second.handle.open("main", "default").unwrap();
    until("it goes on there", || second.tick("main").is_some_and(|tick| tick.0 > last.0 + 20));
    second.stop();
    let head = archive.head("main").unwrap().unwrap().tick;
    assert!(head.0 > last.0 + 20);
    assert_eq!(archive.recover("main").unwrap().standing.tick, head);
}
