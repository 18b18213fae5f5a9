//! Hosts that share rooms by a directory, each on all cores and over real UDP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use roomkeeper::client::Replica;
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{Host, HostOptions, Keeper, Lobby, ShareOptions, Template, TickReport};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, Refusal, RoomTick};
use roomkeeper::room::{Blueprint, RoomOptions};
use roomkeeper::store::{
    Archive, Claim, Directory, HostEntry, Lease, Leases, Load, MemoryDirectory, MemoryStore, Owner, RoomEntry, Store, StoreError, Token,
    WriterOptions,
};

use serde::{Deserialize, Serialize};

use crate::beats::{Player, protocol};
use crate::host::{Running, blueprint, fails_while, in_room, on_demand, until};
use crate::newcomers::{Joiner, seat_all, wait};

const LEASE: Duration = Duration::from_secs(10);

/// A directory by which something becomes of what is heard of rooms whose leases have run out, and that takes so long to say where a room is.
struct Lapsed(MemoryDirectory, fn(Vec<Lease>) -> Vec<Lease>, Duration);

/// What can be heard when somebody asks for a room at the moment at which it is taken over: that it was given is said twice.
fn twice(leases: Vec<Lease>) -> Vec<Lease> {
    leases.iter().chain(&leases).cloned().collect()
}

/// The host has rooms for a while before it hears so.
fn late(leases: Vec<Lease>) -> Vec<Lease> {
    if !leases.is_empty() {
        std::thread::sleep(Duration::from_millis(500));
    }
    leases
}

impl Directory for Lapsed {
    fn leases(&self) -> Leases {
        self.0.leases()
    }
    fn claim(&mut self, room: &str) -> Result<Claim, StoreError> {
        self.0.claim(room)
    }
    fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError> {
        self.0.claim_lapsed(most).map(self.1)
    }
    fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError> {
        self.0.renew(load)
    }
    fn release(&mut self, room: &str) -> Result<(), StoreError> {
        self.0.release(room)
    }
    fn find(&mut self, room: &str) -> Result<Option<Owner>, StoreError> {
        std::thread::sleep(self.2);
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

/// Another host of a directory, with place for rooms.
struct Peer(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Peer {
    const ADDRESS: &str = "127.0.0.1:7";

    fn of(directory: &MemoryDirectory) -> Self {
        let (mut peer, is_over) = (directory.join("peer", Self::ADDRESS), Arc::new(AtomicBool::new(false)));
        let has_place = Load { rooms: 0, rooms_max: 9, members: 0, members_max: 9 };
        peer.renew(has_place).unwrap();
        let ends = is_over.clone();
        let renews = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                peer.renew(has_place).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self(is_over, Some(renews))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        drop(self.1.take().map(std::thread::JoinHandle::join));
    }
}

/// Shares rooms.
fn share(host: &mut Host, store: &MemoryStore, own: &MemoryDirectory, directory: Box<dyn Directory>) {
    share_in(host, Box::new(store.shared_by(own)), directory);
}

fn share_in(host: &mut Host, store: Box<dyn Store>, directory: Box<dyn Directory>) {
    share_as("this", host, Some(store), directory);
}

/// The same for a host of another name, and for one that keeps nothing.
fn share_as(name: &str, host: &mut Host, store: Option<Box<dyn Store>>, directory: Box<dyn Directory>) {
    let stored = store.as_ref().map(|store| store.reader().unwrap());
    if let Some(store) = store {
        host.keep_by(Keeper::start(store, WriterOptions::default()).unwrap());
    }
    let options = ShareOptions { host: name.to_owned(), renew_every: Duration::from_millis(100) };
    host.share(directory, stored, &options).unwrap();
    host.template("duel", on_demand(2));
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
        share(host, &store, &own, Box::new(Lapsed(own.clone(), twice, Duration::ZERO)));
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

/// A host that shares its rooms, with one of them open.
fn with_main(directory: &MemoryDirectory, store: &MemoryStore) -> Running {
    Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share(host, store, &own, Box::new(own.clone()));
        host.open("main", "default").unwrap();
    })
}

#[test]
fn a_host_whose_leases_ran_out_has_its_rooms_again_if_nobody_else_was_there_and_its_players_are_back() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let running = with_main(&directory, &store);
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
fn who_watches_the_past_of_a_room_whose_lease_ran_out_is_sent_to_where_it_goes_on() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let running = with_main(&directory, &store);
    wait("it has a past", &mut [], |_| stored(&store, "main") > RoomTick(120));
    let mut ann = Joiner::connect(running.address, "ann");
    ann.greet("main@-5s", true);
    wait("she watches", &mut [&mut ann], |all| all[0].room.is_some());
    directory.skip(LEASE);
    wait("she is told", &mut [&mut ann], |all| all[0].refused.is_some());
    assert_eq!(ann.refused, Some(Refusal::Elsewhere(running.address.to_string())), "this host has it again");
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

#[test]
fn whoever_asks_for_any_room_is_given_a_new_one_though_the_host_had_rooms_before_it_was_started_again() {
    // Of such a name not all fits in that of a room.
    const NAME: &str = "a-host-whose-name-is-as-long-as-the-names-of-hosts-may-be-0123456";
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let start = || {
        Running::start(HostOptions::default(), None, |host| {
            let own = directory.join(NAME, &host.local_address().unwrap().to_string());
            share_as(NAME, host, Some(Box::new(store.shared_by(&own))), Box::new(own.clone()));
        })
    };
    let running = start();
    let mut ann = Player::connect(running.address, "ann", "duel/*");
    until("she is in", &mut [&mut ann], in_room);
    ann.mark(42);
    until("it counts", &mut [&mut ann], |all| all[0].sum() == 42);
    let first = ann.room();
    assert!(first.starts_with("duel/a-host-") && first.len() <= 64, "{first}");
    assert!(running.stop());
    let running = start();
    let mut bob = Player::connect(running.address, "bob", "duel/*");
    until("he is in", &mut [&mut bob], in_room);
    assert!(bob.room() != first && bob.sum() == 0, "{} after {first}", bob.room());
    let mut again = Player::connect(running.address, "ann", &first);
    until("by its name it is there", &mut [&mut bob, &mut again], in_room);
    assert_eq!(again.sum(), 42);
    assert!(running.stop());
}

#[test]
fn many_who_come_at_once_to_a_host_that_shares_its_rooms_open_no_more_than_they_need() {
    const MANY: usize = 60;
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let mut options = HostOptions::default();
    options.limits.rooms_max = MANY / 2;
    let running = Running::start(options, None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share_as("this", host, None, Box::new(own));
    });
    let seats = seat_all(running.address, MANY, "duel/*");
    assert_eq!((seats.len(), seats.values().max()), (MANY / 2, Some(&2)));
    assert_eq!(running.names().len(), MANY / 2);
    let mut late = Joiner::to(running.address, "late", "duel/*");
    wait("there is no place for more", &mut [&mut late], |all| all[0].refused.is_some() || all[0].room.is_some());
    assert_eq!((late.refused, late.room), (Some(Refusal::HostFull), None));
}

#[test]
fn where_many_ask_for_rooms_that_are_nowhere_whoever_wants_any_is_not_told_that_the_host_is_full() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let mut options = HostOptions::default();
    options.limits.rooms_max = 1;
    let running = Running::start(options, None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share_as("this", host, None, Box::new(Lapsed(own, std::convert::identity, Duration::from_millis(300))));
    });
    let mut all: Vec<Joiner> = (0..8).map(|nth| Joiner::to(running.address, &format!("p{nth}"), &format!("nowhere-{nth}"))).collect();
    let mut all: Vec<&mut Joiner> = all.iter_mut().collect();
    wait("the first is told, and others wait", &mut all, |all| all.iter().any(|joiner| joiner.refused.is_some()));
    let mut ann = Joiner::to(running.address, "ann", "duel/*");
    all.push(&mut ann);
    wait("she knows where she is", &mut all, |all| all[8].room.is_some() || all[8].refused.is_some());
    assert_eq!(all[8].refused, None);
    assert!(running.stop());
}

#[test]
fn who_asks_a_host_that_stops_is_told_so_and_the_room_is_anybodys() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let options = HostOptions { announce_stop: Duration::from_secs(1), ..HostOptions::default() };
    let running = Running::start(options, None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share_as("this", host, None, Box::new(own));
    });
    let (handle, mut ann) = (running.handle(), Joiner::connect(running.address, "ann"));
    // Before she has said anything she may not be known yet, and not be told.
    ann.say(Bytes::from_static(b"\xff"));
    wait("she is heard", &mut [&mut ann], |_| handle.counters().unwrap().1.0.malformed == 1);
    let ends = std::thread::spawn(move || running.stop());
    wait("it is about to stop", &mut [&mut ann], |_| handle.overview().is_ok_and(|overview| overview.is_draining));
    ann.greet("duel/x", false);
    wait("she is told", &mut [&mut ann], |all| {
        assert_eq!(directory.clone().find("duel/x").unwrap(), None, "nobody has it");
        all[0].refused.is_some()
    });
    assert_eq!(ann.refused, Some(Refusal::ShuttingDown));
    assert!(ends.join().unwrap());
}

#[test]
fn a_host_whose_name_another_process_took_sends_its_players_there_and_ends_though_nobody_stops_it() {
    const THERE: &str = "127.0.0.1:7";
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share_as("this", host, None, Box::new(own));
        host.open("main", "default").unwrap();
    });
    let mut ann = Joiner::to(running.address, "ann", "main");
    wait("she is in", &mut [&mut ann], |all| all[0].room.is_some());
    // Somebody took this process to be gone, and started it again elsewhere.
    let mut other = directory.join("this", THERE);
    let Claim::Granted(lease) = other.claim("main").unwrap() else { panic!("it has the name, and so the room") };
    wait("she is told", &mut [&mut ann], |all| all[0].refused.is_some());
    assert_eq!(ann.refused, Some(Refusal::Elsewhere(THERE.to_owned())));
    wait("it ends", &mut [&mut ann], |_| running.has_ended());
    // It neither took the room back, nor moved or removed what the directory says of the name.
    let owner = other.find("main").unwrap().unwrap();
    assert_eq!((owner.token, owner.address.as_str()), (lease.token, THERE));
    assert!(running.stop(), "all its rooms had ended");
}

#[test]
fn a_host_whose_name_another_process_took_stores_nothing_more_and_gives_nothing_back() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let running = with_main(&directory, &store);
    until("it is stored", &mut [], |_| stored(&store, "main") > RoomTick(20));
    let mut other = directory.join("this", "127.0.0.1:7");
    let head = stored(&store, "main");
    until("it ends", &mut [], |_| running.has_ended());
    assert_eq!(stored(&store, "main"), head);
    assert!(other.find("main").unwrap().is_some(), "the lease runs out by itself, or is taken by who has the name");
    assert!(other.hosts().unwrap().iter().any(|entry| entry.host == "this" && entry.address == "127.0.0.1:7"));
    assert!(running.stop(), "all its rooms had ended");
}

#[test]
fn a_program_hears_why_its_host_has_nothing_to_do_any_more() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let (access, limits) = (Access::Loopback, GatewayLimits::default());
    let config = ShardConfig { bind: ([127, 0, 0, 1], 0).into(), public_addresses: Vec::new(), access, limits };
    let mut host = Host::bind(&config, HostOptions::default()).unwrap();
    let own = directory.join("this", &host.local_address().unwrap().to_string());
    share_as("this", &mut host, None, Box::new(own));
    host.open("main", "default").unwrap();
    until("the room is open", &mut [], |_| {
        host.round();
        host.room("main").is_some()
    });
    assert_eq!(host.ousted(), None);
    let _other = directory.join("this", "127.0.0.1:7");
    until("it hears so", &mut [], |_| {
        host.round();
        host.ousted().is_some()
    });
    // Nobody has asked it to stop.
    host.run(&AtomicBool::new(false), Duration::from_secs(5));
    let why = host.ousted().unwrap();
    assert!(why.contains("\"this\"") && why.contains("gone back to an earlier state"), "{why}");
    assert!(host.rooms().is_empty());
}

#[test]
fn an_order_to_open_a_room_that_is_just_ending_is_refused_and_can_be_given_again() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let running = with_main(&directory, &MemoryStore::new());
    let mut ann = Player::connect(running.address, "ann", "main");
    until("ann is in", &mut [&mut ann], in_room);
    let handle = running.handle();
    handle.close("main", "over").unwrap();
    // Ann does not listen, so it waits for her to hear its last words.
    let refused = handle.open("main", "default").unwrap_err().to_string();
    assert!(refused.contains("just ending"), "{refused}");
    until("it can be asked for again", &mut [&mut ann], |_| handle.open("main", "default").is_ok());
    until("it is open again", &mut [&mut ann], |_| handle.rooms().unwrap().iter().any(|room| room.name == "main"));
    assert!(running.stop());
}

#[test]
fn a_full_host_takes_no_room_that_somebody_asks_for_and_sends_on_who_asks_for_another_ones() {
    const THERE: &str = "127.0.0.1:7";
    let directory = MemoryDirectory::new("nobody", "", LEASE * 60);
    let mut other = directory.join("other", THERE);
    assert!(matches!(other.claim("hall").unwrap(), Claim::Granted(_)));
    let mut options = HostOptions::default();
    options.limits.rooms_max = 1;
    let running = Running::start(options, None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share_as("this", host, None, Box::new(own));
        host.open("main", "default").unwrap();
    });
    let mut ann = Joiner::to(running.address, "ann", "main");
    wait("she is in", &mut [&mut ann], |all| all[0].room.is_some());
    let mut all = [("bob", "duel/blue"), ("cem", "nowhere"), ("dan", "hall")].map(|(name, room)| Joiner::to(running.address, name, room));
    wait("they are told", &mut all.iter_mut().collect::<Vec<_>>(), |all| all.iter().all(|joiner| joiner.refused.is_some()));
    let told = all.map(|joiner| joiner.refused.unwrap());
    assert_eq!(told, [Refusal::HostFull, Refusal::NoSuchRoom("nowhere".to_owned()), Refusal::Elsewhere(THERE.to_owned())]);
    assert_eq!(running.handle().overview().unwrap().ended.counters.refused_full, 1);
    // What was ever claimed stands there for good.
    assert!(other.rooms().unwrap().iter().map(|entry| entry.room.as_str()).eq(["hall", "main"]));
    assert!(running.stop());
}

#[test]
fn a_room_whose_lease_ran_out_stands_still_though_its_host_has_it_again_for_another_one() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let ticks = Arc::new(Mutex::new(Vec::<(Option<Token>, RoomTick)>::new()));
    let notes = ticks.clone();
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        let leases = own.leases();
        host.on_tick(Arc::new(move |_: &str, report: &TickReport, _: &Lobby| {
            let token = leases.held().first().map(|lease| lease.token);
            notes.lock().unwrap().push((token, report.tick));
        }));
        // What is not kept begins anew, so that the two can be told apart.
        share_as("this", host, None, Box::new(Lapsed(own, late, Duration::ZERO)));
        host.open("main", "default").unwrap();
    });
    let by = |is_meant: &dyn Fn(Option<Token>) -> bool| -> Vec<RoomTick> {
        ticks.lock().unwrap().iter().filter(|(token, _)| is_meant(*token)).map(|(_, tick)| *tick).collect()
    };
    until("it ticks", &mut [], |_| by(&|_| true).len() > 30);
    let first = directory.clone().find("main").unwrap().unwrap().token;
    directory.skip(LEASE);
    let is_new = |token: Option<Token>| token > Some(first);
    until("it ticks by a new lease", &mut [], |_| by(&is_new).len() > 30);
    let again = by(&is_new);
    // A tick that had begun by the old one may end after it.
    assert!(again.iter().position(|tick| *tick == RoomTick(1)).is_some_and(|before| before <= 1), "{again:?}");
    assert!(running.stop());
}

#[test]
fn a_host_that_stops_and_can_hand_nothing_over_because_the_store_fails_tells_its_players_so() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let (store, broken) = (MemoryStore::new(), Arc::new(AtomicBool::new(false)));
    let peer = Peer::of(&directory);
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        let failing = fails_while(&broken, Box::new(store.shared_by(&own)));
        share_in(host, Box::new(failing), Box::new(own.clone()));
        host.open("main", "default").unwrap();
    });
    let mut ann = Joiner::to(running.address, "ann", "main");
    wait("she is in", &mut [&mut ann], |all| all[0].room.is_some());
    broken.store(true, Ordering::Relaxed);
    wait("the store fails", &mut [&mut ann], |_| running.failing().is_some());
    let stops = std::thread::spawn(move || running.stop());
    wait("she is told", &mut [&mut ann], |all| all[0].refused.is_some());
    assert_eq!(ann.refused, Some(Refusal::ShuttingDown));
    broken.store(false, Ordering::Relaxed);
    drop(peer);
    stops.join().unwrap();
}

#[test]
fn while_a_host_is_about_to_stop_it_still_lets_into_its_rooms_which_no_other_has_and_sends_all_else_on() {
    let (directory, store) = (MemoryDirectory::new("nobody", "", LEASE), MemoryStore::new());
    let _peer = Peer::of(&directory);
    let options = HostOptions { announce_stop: Duration::from_secs(10), ..HostOptions::default() };
    let running = Running::start(options, None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        share(host, &store, &own, Box::new(own.clone()));
        host.open("main", "default").unwrap();
    });
    let (address, handle, mut ann) = (running.address, running.handle(), Joiner::to(running.address, "ann", "main"));
    wait("she is in", &mut [&mut ann], |all| all[0].room.is_some());
    let stops = std::thread::spawn(move || running.stop());
    wait("it is about to stop", &mut [&mut ann], |_| handle.overview().is_ok_and(|overview| overview.is_draining));
    let (mut bob, mut cem) = (Joiner::to(address, "bob", "main"), Joiner::to(address, "cem", "duel/*"));
    wait("they know where they are", &mut [&mut ann, &mut bob, &mut cem], |all| {
        all.iter().all(|joiner| joiner.room.is_some() || joiner.refused.is_some())
    });
    let there = Some(Refusal::Elsewhere(Peer::ADDRESS.to_owned()));
    assert_eq!((bob.room.as_deref(), &bob.refused), (Some("main"), &None));
    assert_eq!((cem.room, cem.refused), (None, there.clone()));
    wait("they are told where it goes on", &mut [&mut ann, &mut bob], |all| all.iter().all(|joiner| joiner.refused.is_some()));
    assert_eq!([ann.refused, bob.refused], [there.clone(), there]);
    assert!(stops.join().unwrap(), "all its rooms had ended");
}

#[test]
fn a_room_that_is_to_be_opened_by_a_template_that_is_not_there_is_refused_and_can_be_asked_for_as_before() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let running = with_main(&directory, &store);
    let refused = running.handle().open("duel/blue", "chess").unwrap_err().to_string();
    assert!(refused.contains("there is no template \"chess\""), "{refused}");
    let mut ann = Joiner::to(running.address, "ann", "duel/blue");
    wait("she knows where she is", &mut [&mut ann], |all| all[0].room.is_some() || all[0].refused.is_some());
    assert_eq!((&ann.refused, ann.room.as_deref()), (&None, Some("duel/blue")));
    assert!(running.stop());
}

#[test]
fn who_leaves_while_the_directory_is_asked_for_its_room_is_let_go_and_takes_no_seat_there() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let running = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("this", &host.local_address().unwrap().to_string());
        let asked = Lapsed(own, |leases| leases, Duration::from_millis(500));
        let options = ShareOptions { host: "this".to_owned(), renew_every: Duration::from_millis(100) };
        host.share(Box::new(asked), None, &options).unwrap();
        host.template("duel", on_demand(1));
    });
    let mut ann = Joiner::to(running.address, "ann", "duel/x");
    ann.say(ClientMessage::Leave.encode());
    wait("she is connected", &mut [&mut ann], |all| all[0].is_connected());
    wait("she is let go", &mut [&mut ann], |all| !all[0].is_connected());
    assert_eq!((ann.refused, ann.room), (None, None));
    let mut bob = Joiner::to(running.address, "bob", "duel/x");
    wait("bob knows where he is", &mut [&mut bob], |all| all[0].room.is_some() || all[0].refused.is_some());
    assert_eq!((bob.refused, bob.room.as_deref()), (None, Some("duel/x")), "the only seat is free");
    assert!(running.stop());
}

#[derive(Component, Serialize, Deserialize)]
struct Mood(u8);

/// The same game as a later version has it.
fn later() -> Blueprint {
    let protocol = |app: &mut App| {
        protocol(app);
        app.sync::<Mood>("mood");
    };
    Blueprint::new(protocol, |_| {})
}

#[test]
fn what_a_host_hands_over_another_version_of_the_game_can_open() {
    let directory = MemoryDirectory::new("nobody", "", LEASE);
    let store = MemoryStore::new();
    let running = with_main(&directory, &store);
    let other = Running::start(HostOptions::default(), None, |host| {
        let own = directory.join("other", &host.local_address().unwrap().to_string());
        share_as("other", host, Some(Box::new(store.shared_by(&own))), Box::new(own.clone()));
    });
    let mut ann = Player::connect(running.address, "ann", "main");
    until("it is played", &mut [&mut ann], |all| in_room(all) && stored(&store, "main") > RoomTick(130));
    // Whose version does not matter: nobody asks for the room before all of it is looked at.
    drop(ann);
    let handle = other.handle();
    until("each knows of the other", &mut [], |_| handle.overview().is_ok() && directory.clone().hosts().unwrap().len() > 1);
    assert!(running.stop());
    assert!(directory.clone().find("main").unwrap().is_none(), "it was given back");
    let mut archive = Archive::new(store.reader().unwrap(), later().protocol());
    let recovered = archive.recover("main").unwrap();
    assert_eq!(Some(recovered.standing.tick), archive.head("main").unwrap().map(|head| head.tick));
    assert!(other.stop());
}
