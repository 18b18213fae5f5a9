//! Hosts that share rooms by a directory, each on all cores and over real UDP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roomkeeper::client::Replica;
use roomkeeper::host::{Host, HostOptions, Keeper, ShareOptions, Template};
use roomkeeper::protocol::RoomTick;
use roomkeeper::room::RoomOptions;
use roomkeeper::store::{
    Archive, Claim, Directory, HostEntry, Lease, Leases, Load, MemoryDirectory, MemoryStore, Owner, RoomEntry, Store, StoreError,
    WriterOptions,
};

use crate::beats::Player;
use crate::host::{Running, blueprint, fails_while, in_room, until};

const LEASE: Duration = Duration::from_secs(10);

/// What can be heard when somebody asks for a room at the moment at which it is taken over: that it was given is said twice.
struct Twice(MemoryDirectory);

impl Directory for Twice {
    fn leases(&self) -> Leases {
        self.0.leases()
    }
    fn claim(&mut self, room: &str) -> Result<Claim, StoreError> {
        self.0.claim(room)
    }
    fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError> {
        self.0.claim_lapsed(most).map(|leases| leases.iter().chain(&leases).cloned().collect())
    }
    fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError> {
        self.0.renew(load)
    }
    fn release(&mut self, room: &str) -> Result<(), StoreError> {
        self.0.release(room)
    }
    fn find(&mut self, room: &str) -> Result<Option<Owner>, StoreError> {
        self.0.find(room)
    }
    fn hosts(&mut self) -> Result<Vec<HostEntry>, StoreError> {
        self.0.hosts()
    }
    fn rooms(&mut self) -> Result<Vec<RoomEntry>, StoreError> {
        self.0.rooms()
    }
    fn leave(&mut self) -> Result<(), StoreError> {
        self.0.leave()
    }
}

/// Shares rooms of one template.
fn share(host: &mut Host, store: &MemoryStore, own: &MemoryDirectory, directory: Box<dyn Directory>) {
    share_in(host, Box::new(store.shared_by(own)), directory);
}

fn share_in(host: &mut Host, store: Box<dyn Store>, directory: Box<dyn Directory>) {
    let stored = store.reader().unwrap();
    host.keep_by(Keeper::start(store, WriterOptions::default()).unwrap());
    let options = ShareOptions { host: "this".to_owned(), renew_every: Duration::from_millis(100) };
    host.share(directory, Some(stored), &options).unwrap();
    host.template("default", Template::new(blueprint(), RoomOptions::named("template")));
}

fn stored(store: &MemoryStore, room: &str) -> RoomTick {
    let mut archive = Archive::new(store.reader().unwrap(), blueprint().protocol());
    archive.head(room).ok().flatten().map_or(RoomTick(0), |head| head.tick)
}

#[test]
fn a_room_that_a_host_is_given_twice_at_once_is_opened_once_and_stays_its_own() {
    let mut gone = MemoryDirectory::new("gone", "127.0.0.1:9", LEASE);
    let store = MemoryStore::new();
    for room in ["cellar", "hall"] {
        assert!(matches!(gone.claim(room).unwrap(), Claim::Granted(_)));
    }
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = gone.join("this", &host.local_address().unwrap().to_string());
        share(host, &store, &own, Box::new(Twice(own.clone())));
    });
    gone.skip(LEASE);
    for room in ["cellar", "hall"] {
        until("it is taken over", &mut [], |_| stored(&store, room) > RoomTick(20));
        let tick = stored(&store, room);
        until("it goes on", &mut [], |_| stored(&store, room) > RoomTick(tick.0 + 20));
        assert_eq!(gone.find(room).unwrap().unwrap().host, "this");
    }
    assert!(running.stop());
}

#[test]
fn a_host_whose_leases_ran_out_has_its_rooms_again_if_nobody_else_was_there_and_its_players_are_back() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share(host, &store, &own, Box::new(own.clone()));
        host.open("main", "default").unwrap();
    });
    let mut ann = Player::connect(running.address, "ann", "main");
    until("ann is in", &mut [&mut ann], in_room);
    ann.mark(3);
    until("it counts", &mut [&mut ann], |all| all[0].sum() == 3);
    let tick = ann.0.world().resource::<Replica>().tick();
    until("it is stored", &mut [&mut ann], |_| stored(&store, "main") >= tick);
    let owner = || directory.clone().find("main").unwrap();
    let first = owner().unwrap().token;
    for _ in 0..2 {
        let token = owner().unwrap().token;
        directory.skip(LEASE);
        until("it has the room again", &mut [&mut ann], |_| owner().is_some_and(|owner| owner.token > token));
        let tick = stored(&store, "main");
        until("it goes on", &mut [&mut ann], |_| stored(&store, "main") > RoomTick(tick.0 + 40));
    }
    until("ann is back", &mut [&mut ann], in_room);
    ann.mark(2);
    until("all of it counts", &mut [&mut ann], |all| all[0].sum() == 5);
    assert!(owner().unwrap().token > first && running.names() == ["main"]);
    assert!(running.stop());
}

#[test]
fn a_host_whose_leases_ran_out_while_the_store_failed_opens_its_rooms_once_it_is_back() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let (store, broken) = (MemoryStore::new(), Arc::new(AtomicBool::new(false)));
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        let failing = fails_while(&broken, Box::new(store.shared_by(&own)));
        share_in(host, Box::new(failing), Box::new(own.clone()));
        host.open("main", "default").unwrap();
    });
    let mut ann = Player::connect(running.address, "ann", "main");
    until("ann is in", &mut [&mut ann], in_room);
    ann.mark(3);
    let tick = ann.0.world().resource::<Replica>().tick();
    until("it is stored", &mut [&mut ann], |all| all[0].sum() == 3 && stored(&store, "main") >= tick);
    let owner = || directory.clone().find("main").unwrap();
    let token = owner().unwrap().token;
    broken.store(true, Ordering::Relaxed);
    until("the store fails", &mut [&mut ann], |_| running.failing().is_some());
    directory.skip(LEASE);
    until("it has the room again", &mut [&mut ann], |_| owner().is_some_and(|owner| owner.token > token));
    let mut rounds = 0;
    until("it could have opened it", &mut [&mut ann], |_| {
        rounds += 1;
        rounds > 100
    });
    assert!(running.failing().is_some() && owner().is_some_and(|owner| owner.host == "this"), "it was not given back");
    let tick = stored(&store, "main");
    broken.store(false, Ordering::Relaxed);
    until("it goes on", &mut [&mut ann], |_| stored(&store, "main") > RoomTick(tick.0 + 40));
    until("ann is back", &mut [&mut ann], in_room);
    assert!(running.names() == ["main"] && running.stop());
}
