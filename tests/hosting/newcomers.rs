//! Who comes at the wrong moment, or to a place where there is none: clients that say what they like, when they like.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bevy_app::prelude::*;
use bytes::Bytes;
use roomkeeper::client::{ConnectionState, Credentials, HeadlessReplica, LinkStatus, ReplicaPlugin, Sight, UdpLink, unix_time};
use roomkeeper::host::{Ban, HostOptions, Keeper};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, FactSeq, Protocol, Refusal, RoomList};
use roomkeeper::room::RoomOptions;
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{Archive, MemoryStore, Store, StoreError, WriterOptions};

use crate::beats::{Player, protocol};
use crate::host::{Running, blueprint, in_room, now, on_demand, until};

/// A client that says what it is told to, and notes what it hears.
pub struct Joiner {
    link: UdpLink,
    replica: HeadlessReplica,
    /// What it says once it is connected.
    says: Vec<Bytes>,
    pub room: Option<String>,
    pub refused: Option<Refusal>,
    /// Which rooms there are, as often as it was told.
    pub lists: Vec<RoomList>,
}

impl Joiner {
    pub fn connect(address: SocketAddr, name: &str) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        protocol(&mut app);
        let replica = HeadlessReplica::new(app.world_mut().remove_resource::<Protocol>().unwrap());
        let link = UdpLink::connect(&Credentials::unauthenticated(address, name), unix_time()).unwrap();
        Self { link, replica, says: Vec::new(), room: None, refused: None, lists: Vec::new() }
    }

    /// One that wants to play.
    pub fn to(address: SocketAddr, name: &str, room: &str) -> Self {
        let mut joiner = Self::connect(address, name);
        joiner.greet(room, false);
        joiner
    }

    pub fn greet(&mut self, room: &str, spectate: bool) {
        let fingerprint = self.replica.protocol().fingerprint();
        self.say(ClientMessage::Hello { fingerprint, room: room.to_owned(), spectate, resume: None }.encode());
    }

    pub fn say(&mut self, message: Bytes) {
        self.says.push(message);
    }

    pub fn is_connected(&self) -> bool {
        self.link.status() == LinkStatus::Connected
    }

    pub fn go_on(&mut self) {
        self.link.receive(unix_time());
        while let Some(packet) = self.link.next_packet() {
            for sight in self.replica.deliver(unix_time(), &packet).unwrap() {
                match sight {
                    Sight::Welcome { room, .. } => self.room = Some(room),
                    Sight::Refused(refusal, _) => self.refused = Some(refusal),
                    Sight::Rooms(list) => self.lists.push(list),
                    _ => {}
                }
            }
        }
        if self.is_connected() {
            self.says.drain(..).for_each(|message| self.link.send(message).unwrap());
        }
        if let Some(report) = self.replica.next_report(unix_time()) {
            self.link.send_packet(&report);
        }
        self.link.flush();
    }
}

/// Lets time pass until something is so.
pub fn wait(what: &str, joiners: &mut [&mut Joiner], mut is_so: impl FnMut(&[&mut Joiner]) -> bool) {
    until(what, &mut [], |_| {
        joiners.iter_mut().for_each(|joiner| joiner.go_on());
        is_so(joiners)
    });
}

/// How many are in each room once so many have come to any.
pub fn seat_all(address: SocketAddr, many: usize, room: &str) -> BTreeMap<String, usize> {
    let mut all: Vec<Joiner> = (0..many).map(|nth| Joiner::to(address, &format!("p{nth}"), room)).collect();
    let begun = now();
    while all.iter().any(|joiner| joiner.room.is_none() && joiner.refused.is_none()) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{} are in", all.iter().filter(|joiner| joiner.room.is_some()).count());
        all.iter_mut().for_each(Joiner::go_on);
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut seats: BTreeMap<String, usize> = BTreeMap::new();
    for joiner in &all {
        assert_eq!(joiner.refused, None);
        *seats.entry(joiner.room.clone().unwrap()).or_default() += 1;
    }
    seats
}

#[test]
fn who_is_banned_comes_into_no_room_by_what_it_says_before_it_has_heard_so() {
    let store = MemoryStore::default();
    let running = Running::start(HostOptions::default(), Some(store.clone()), |host| {
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    running.handle().ban(Ban { player: EntityId::named("ann"), why: "cheats".to_owned(), until: None }).unwrap();
    let mut ann = Joiner::connect(running.address, "ann");
    // More than are taken in before it is put out: the last ones are heard when it is no guest any more.
    (0..300).for_each(|_| ann.greet("main", false));
    wait("she has heard it, and is gone", &mut [&mut ann], |all| {
        all[0].refused.is_some() && !all[0].is_connected() && running.handle().counters().unwrap().0 == 0
    });
    assert_eq!(ann.refused, Some(Refusal::Kicked("banned: cheats".to_owned())));
    let tick = running.status("main").status.tick;
    wait("the room goes on", &mut [], |_| running.status("main").status.tick.0 > tick.0 + 20);
    assert!(running.stop());
    let mut archive = Archive::new(store.reader().unwrap(), blueprint().protocol());
    let facts = archive.facts("main", FactSeq(1), usize::MAX).unwrap();
    assert!(!facts.is_empty() && facts.iter().all(|fact| fact.kind != "user_joined"), "{facts:?}");
}

#[test]
fn who_is_there_or_asks_while_a_host_stops_is_told_so_and_no_room_is_opened() {
    let options = HostOptions { announce_stop: Duration::from_secs(1), ..HostOptions::default() };
    let running = Running::start(options, None, |host| host.template("duel", on_demand(2)));
    let (mut late, mut undecided) = (Joiner::connect(running.address, "late"), Joiner::connect(running.address, "undecided"));
    // Whoever has said nothing yet may not know that it is connected, and is told nothing.
    [&mut late, &mut undecided].into_iter().for_each(|joiner| joiner.say(Bytes::from_static(b"\xff")));
    wait("both are heard", &mut [&mut late, &mut undecided], |_| running.handle().counters().unwrap().1.0.malformed == 2);
    let handle = running.handle();
    let ends = std::thread::spawn(move || running.stop());
    wait("it is about to stop", &mut [&mut late, &mut undecided], |_| handle.overview().is_ok_and(|overview| overview.is_draining));
    late.greet("duel/x", false);
    wait("both are told", &mut [&mut late, &mut undecided], |all| all.iter().all(|joiner| joiner.refused.is_some()));
    assert_eq!((late.refused, undecided.refused), (Some(Refusal::ShuttingDown), Some(Refusal::ShuttingDown)));
    assert!(ends.join().unwrap(), "nothing was left to end");
}

#[test]
fn where_those_who_watch_have_taken_seats_whoever_asks_for_any_room_is_led_to_another() {
    let running = Running::start(HostOptions::default(), None, |host| host.template("duel", on_demand(4)));
    let mut all: Vec<Joiner> = ["ann", "bob"].iter().map(|name| Joiner::to(running.address, name, "duel/blue")).collect();
    for name in ["cem", "dan"] {
        let mut watches = Joiner::connect(running.address, name);
        watches.greet("duel/blue", true);
        all.push(watches);
    }
    let mut all: Vec<&mut Joiner> = all.iter_mut().collect();
    wait("all are in", &mut all, |all| all.iter().all(|joiner| joiner.room.as_deref() == Some("duel/blue")));
    let mut eve = Joiner::to(running.address, "eve", "duel/*");
    all.push(&mut eve);
    wait("she knows where she is", &mut all, |all| all[4].room.is_some() || all[4].refused.is_some());
    assert_eq!((&all[4].refused, all[4].room.as_deref()), (&None, Some("duel/1")));
}

#[test]
fn who_watches_the_past_of_a_room_that_is_closed_hears_that_this_was_the_end_of_it() {
    let running = Running::start(HostOptions::default(), Some(MemoryStore::default()), |host| {
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    wait("it has a past", &mut [], |_| running.status("main").status.tick.0 > 120);
    let mut ann = Joiner::connect(running.address, "ann");
    // She would have more to see than a room that ends waits for.
    ann.greet("main@-5s", true);
    wait("she watches", &mut [&mut ann], |all| all[0].room.is_some());
    running.handle().close("main", "the end").unwrap();
    wait("she is told", &mut [&mut ann], |all| all[0].refused.is_some() || !all[0].is_connected());
    assert_eq!(ann.refused, Some(Refusal::RoomClosed("that was the end of it".to_owned())));
    wait("it is gone", &mut [&mut ann], |_| running.names().is_empty());
}

#[test]
fn who_watches_the_past_of_a_room_whose_host_stops_hears_that_and_not_that_it_is_over() {
    let running = Running::start(HostOptions::default(), Some(MemoryStore::default()), |host| {
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    wait("it has a past", &mut [], |_| running.status("main").status.tick.0 > 120);
    let (mut ann, mut bob) = (Joiner::connect(running.address, "ann"), Joiner::connect(running.address, "bob"));
    ann.greet("main@-5s", true);
    // He would have seen all of it before the room has ended.
    bob.greet("main@-1s", true);
    wait("they watch", &mut [&mut ann, &mut bob], |all| all.iter().all(|joiner| joiner.room.is_some()));
    let ends = std::thread::spawn(move || running.stop());
    wait("they are told", &mut [&mut ann, &mut bob], |all| all.iter().all(|joiner| joiner.refused.is_some()));
    assert_eq!((ann.refused, bob.refused), (Some(Refusal::ShuttingDown), Some(Refusal::ShuttingDown)));
    assert!(ends.join().unwrap());
}

#[test]
fn a_room_that_could_not_be_opened_is_not_tried_again_by_each_who_asks_for_it() {
    let (broken, reads) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_broken, counts) = (broken.clone(), reads.clone());
    let store = AroundCommits::new(Box::new(MemoryStore::default()), |store, flush| store.commit(flush)).reading(move |what| {
        if what != "its row" || !is_broken.load(Ordering::Relaxed) {
            return Ok(());
        }
        counts.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Io { what: "a row can't be read".to_owned(), error: std::io::ErrorKind::PermissionDenied.into() })
    });
    let running = Running::start(HostOptions::default(), None, |host| {
        host.keep_by(Keeper::start(Box::new(store), WriterOptions::default()).unwrap());
        host.template("duel", on_demand(100));
    });
    let before = reads.load(Ordering::Relaxed);
    let begun = now();
    let rooms = ["duel/blue", "duel/*"];
    let mut all: Vec<Joiner> = (0..50).map(|nth: usize| Joiner::to(running.address, &format!("p{nth}"), rooms[nth % 2])).collect();
    wait("all are told", &mut all.iter_mut().collect::<Vec<_>>(), |all| all.iter().all(|joiner| joiner.refused.is_some()));
    let tries = reads.load(Ordering::Relaxed) - before;
    let most = 2 * (1 + begun.elapsed().as_secs() as usize / 5);
    assert!((2..=most).contains(&tries), "tried {tries} times, {most} at most");
    assert!(all.iter().all(|joiner| joiner.refused == Some(Refusal::RoomClosed("it can't be opened".to_owned()))));
    // Who looks after the host need not wait.
    broken.store(false, Ordering::Relaxed);
    running.handle().open("duel/blue", "duel").unwrap();
    let mut ann = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut ann], |all| {
        assert!(!matches!(all[0].state(), ConnectionState::Refused(..)), "{}", all[0].state());
        in_room(all)
    });
    assert!(running.stop());
}

#[test]
fn whoever_plays_is_heard_while_a_room_is_opened_from_a_store_that_stands_still() {
    let (stands_still, is_asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (stands, asked) = (stands_still.clone(), is_asked.clone());
    let store = AroundCommits::new(Box::new(MemoryStore::default()), |store, flush| store.commit(flush)).reading(move |what| {
        while what == "its row" && stands.load(Ordering::Relaxed) {
            asked.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
    let running = Running::start(HostOptions::default(), None, |host| {
        host.keep_by(Keeper::start(Box::new(store), WriterOptions::default()).unwrap());
        host.template("duel", on_demand(3));
    });
    let mut ann = Player::connect(running.address, "ann", "duel/red");
    until("she is in", &mut [&mut ann], in_room);
    stands_still.store(true, Ordering::Relaxed);
    let mut bob = Player::connect(running.address, "bob", "duel/blue");
    until("his room is asked for", &mut [&mut ann, &mut bob], |_| is_asked.load(Ordering::Relaxed));
    ann.mark(7);
    until("she is heard", &mut [&mut ann, &mut bob], |all| all[0].sum() == 7);
    let mut cem = Player::connect(running.address, "cem", "duel/red");
    until("he is led to the room that is open", &mut [&mut ann, &mut bob, &mut cem], |all| in_room(&mut all[2..]));
    // Who is not waited for any more: its room is not opened.
    let orders = running.handle();
    let ordered = std::thread::spawn(move || orders.open("duel/green", "duel"));
    until("it is in line", &mut [&mut ann, &mut bob, &mut cem], |_| running.handle().close("duel/green", "enough").is_ok());
    assert!(ordered.join().unwrap().is_err());
    assert!(!in_room(&mut [&mut bob]));
    stands_still.store(false, Ordering::Relaxed);
    until("he is in", &mut [&mut ann, &mut bob, &mut cem], in_room);
    running.handle().open("duel/yellow", "duel").unwrap();
    assert_eq!(running.names(), ["duel/blue", "duel/red", "duel/yellow"]);
    assert!(running.stop());
}

#[test]
fn a_room_whose_game_has_failed_and_that_nobody_could_make_anew_goes_on_from_what_is_stored() {
    let running = Running::start(HostOptions::default(), Some(MemoryStore::default()), |host| {
        let mut fixed = on_demand(3);
        fixed.on_demand = false;
        host.template("arena", fixed);
        host.open("main", "arena").unwrap();
    });
    let mut ann = Player::connect(running.address, "ann", "main");
    until("she is in", &mut [&mut ann], in_room);
    ann.mark(7);
    until("she is heard", &mut [&mut ann], |all| all[0].sum() == 7);
    ann.mark(1_000);
    until("it is closed", &mut [&mut ann], |all| matches!(all[0].state(), ConnectionState::Refused(Refusal::RoomClosed(_), _)));
    until("it is at rest", &mut [], |_| running.status("main").is_resting);
    let mut bob = Player::connect(running.address, "bob", "main");
    until("he is in", &mut [&mut bob], |all| {
        if matches!(all[0].state(), ConnectionState::Refused(..)) {
            // Not as often as somebody asks.
            *all[0] = Player::connect(running.address, "bob", "main");
            std::thread::sleep(Duration::from_millis(100));
        }
        in_room(all)
    });
    assert_eq!(bob.sum(), 7);
    assert!(running.stop());
}
