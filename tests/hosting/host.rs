//! A host on all cores, over real UDP: rooms of their own, on demand and at rest, and what an operator does to them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::beats::{Beat, Mark, Marked, Player, Sum, protocol};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, Credentials, Replica, unix_time};
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{Ban, Host, HostHandle, HostKey, HostOptions, Keeper, OrderError, Template, TokenIssuer};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Refusal, Speed};
use roomkeeper::room::{Blueprint, RoomClock, RoomOptions};
use roomkeeper::sim::AroundCommits;
use roomkeeper::store::{Archive, MemoryStore, Store, StoreError, WriterOptions};

/// 1,000 fails, more than that burns so many milliseconds in each tick.
fn rules(app: &mut App) {
    app.decide(|mark: In<Issued<Mark>>| accept(Marked(mark.command.0)));
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((Beat(0), Sum::default()));
    });
    app.add_observer(|marked: On<Happened<Marked>>, mut sums: Query<&mut Sum>| {
        assert_ne!(marked.event().fact.0, 1_000, "as it was asked to");
        sums.iter_mut().for_each(|mut sum| sum.0 += marked.event().fact.0);
    });
    app.add_systems(FixedUpdate, |mut beats: Query<(&mut Beat, &Sum)>, clock: Res<RoomClock>| {
        for (mut beat, sum) in &mut beats {
            beat.0 = clock.tick().0;
            let begun = now();
            while sum.0 > 1_000 && begun.elapsed() < Duration::from_millis(u64::from(sum.0 - 1_000)) {}
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a rule that burns time on purpose")]
pub fn now() -> Instant {
    Instant::now()
}

pub fn blueprint() -> Blueprint {
    Blueprint::new(protocol, rules)
}

/// A store that can't be written while something is so.
pub fn fails_while(full: &Arc<AtomicBool>, store: Box<dyn Store>) -> AroundCommits {
    let full = full.clone();
    AroundCommits::new(store, move |store, flush| match full.load(Ordering::Relaxed) {
        true => Err(StoreError::Io { what: "a flush can't be written".to_owned(), error: std::io::ErrorKind::StorageFull.into() }),
        false => store.commit(flush),
    })
}

/// Tries again where the machine itself stood still for so long: a thread that only sleeps was as late then. What fails while it was in time fails at once, and
/// so does what fails each time.
pub fn undisturbed(stall: Duration, trial: impl Fn() -> Result<(), String>) {
    let mut last = String::new();
    for _ in 0..10 {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let sleeper = std::thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !ends.load(Ordering::Relaxed) {
                let slept = now();
                std::thread::sleep(Duration::from_millis(5));
                latest = latest.max(slept.elapsed());
            }
            latest
        });
        let came = trial();
        over.store(true, Ordering::Relaxed);
        let latest = sleeper.join().unwrap();
        let Err(why) = came else { return };
        assert!(latest >= stall, "{why}; who only slept was {latest:?} late at most");
        last = why;
    }
    panic!("{last}, ten times");
}

/// A host that runs on a thread of its own.
pub struct Running {
    handle: HostHandle,
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<bool>>,
}

impl Running {
    pub fn start(options: HostOptions, store: Option<MemoryStore>, prepare: impl FnOnce(&mut Host)) -> Self {
        Self::with(Access::Loopback, options, store, prepare)
    }

    pub fn with(access: Access, options: HostOptions, store: Option<MemoryStore>, prepare: impl FnOnce(&mut Host)) -> Self {
        let config =
            ShardConfig { bind: ([127, 0, 0, 1], 0).into(), public_addresses: Vec::new(), access, limits: GatewayLimits::default() };
        let mut host = Host::bind(&config, options).unwrap();
        if let Some(store) = store {
            host.keep_by(Keeper::start(Box::new(store), WriterOptions::default()).unwrap());
        }
        prepare(&mut host);
        let (handle, address, stop) = (host.handle(), host.local_address().unwrap(), Arc::new(AtomicBool::new(false)));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            host.run(&stops, Duration::from_secs(5));
            let all_ended = host.rooms().iter().all(|room| room.is_resting);
            host.stop_keeping();
            all_ended
        });
        Self { handle, address, stop, thread: Some(thread) }
    }

    /// The way to it.
    pub fn handle(&self) -> HostHandle {
        self.handle.clone()
    }

    /// True if it has ended, and written what it had to: by itself, where nobody stopped it.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Stops it. True if all rooms ended in time.
    pub fn stop(mut self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn status(&self, room: &str) -> roomkeeper::host::RoomInfo {
        self.handle.rooms().unwrap().into_iter().find(|info| info.name == room).unwrap()
    }

    /// Why the store can't be written, if so.
    pub fn failing(&self) -> Option<String> {
        self.handle.overview().unwrap().store.unwrap().failing
    }

    pub fn names(&self) -> Vec<String> {
        self.handle.rooms().unwrap().into_iter().map(|info| info.name).collect()
    }
}

/// Lets time pass until something is so.
pub fn until(what: &str, players: &mut [&mut Player], mut is_so: impl FnMut(&mut [&mut Player]) -> bool) {
    let begun = now();
    while !is_so(players) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not in 30 s");
        players.iter_mut().for_each(|player| player.0.update());
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn in_room(players: &mut [&mut Player]) -> bool {
    players.iter().all(|player| player.state().is_in_room())
}

pub fn on_demand(members_max: usize) -> Template {
    let mut template = Template::new(blueprint(), RoomOptions::named("template"));
    (template.members_max, template.on_demand) = (Some(members_max), true);
    template
}

#[test]
fn rooms_of_their_own_play_side_by_side_and_one_whose_game_fails_closes_alone() {
    undisturbed(Duration::from_millis(100), side_by_side);
}

#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
fn side_by_side() -> Result<(), String> {
    let running = Running::start(HostOptions::default(), None, |host| {
        for nth in 0..200 {
            host.open_room(&blueprint(), RoomOptions::named(format!("room{nth}"))).unwrap();
        }
    });
    let mut players: Vec<Player> = (0..20).map(|nth| Player::connect(running.address, "ann", &format!("room{nth}"))).collect();
    let mut all: Vec<&mut Player> = players.iter_mut().collect();
    until("all are in", &mut all, in_room);
    for (nth, player) in all.iter_mut().enumerate() {
        player.mark(nth as u32);
    }
    until("each room is its own", &mut all, |all| all.iter_mut().enumerate().all(|(nth, player)| player.sum() == nth as u32));
    let before = running.status("room9").status.tick;
    all[7].mark(1_000);
    until("it is closed", &mut all, |all| matches!(all[7].state(), ConnectionState::Refused(Refusal::RoomClosed(_), _)));
    until("the others go on", &mut all, |_| running.status("room9").status.tick.0 > before.0 + 30);
    assert!(all.iter().enumerate().all(|(nth, player)| nth == 7 || player.state().is_in_room()));
    let rooms = running.handle.rooms().unwrap();
    assert_eq!(rooms.len(), 199, "the failed one is gone");
    assert!(rooms.iter().all(|room| room.status.counters.room_faults == 0));
    let skipped = rooms.iter().filter(|room| room.status.pace.skipped > 0).count();
    assert!(running.stop());
    if skipped == 0 { Ok(()) } else { Err(format!("{skipped} rooms skipped ticks")) }
}

#[test]
fn a_room_that_takes_long_is_run_apart_and_the_others_skip_nothing() {
    undisturbed(Duration::from_millis(15), run_apart);
}

fn run_apart() -> Result<(), String> {
    let running = Running::start(HostOptions { room_threads: 2, ..HostOptions::default() }, None, |host| {
        for nth in 0..20 {
            host.open_room(&blueprint(), RoomOptions::named(format!("room{nth}"))).unwrap();
        }
    });
    let mut player = Player::connect(running.address, "ann", "room3");
    until("it is in", &mut [&mut player], in_room);
    player.mark(1_040);
    until("it is slow", &mut [&mut player], |_| running.status("room3").status.is_slow);
    let before = running.status("room4").status.tick;
    until("time passes", &mut [&mut player], |_| running.status("room4").status.tick.0 > before.0 + 60);
    let mut wrong = Vec::new();
    for room in running.handle.rooms().unwrap() {
        if room.name == "room3" {
            assert!(room.status.is_slow);
        } else if room.status.is_slow || room.status.pace.skipped > 0 {
            wrong.push(format!("{}: {}, {:?}", room.name, room.status.is_slow, room.status.pace));
        }
    }
    assert!(player.state().is_in_room());
    assert!(running.stop());
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
}

// Eight threads of the gateway share a port, as only Linux lets them.
#[cfg(target_os = "linux")]
#[test]
fn a_thousand_who_come_at_once_to_rooms_of_two_are_all_seated_and_no_room_has_three() {
    const MANY: usize = 1_000;
    let mut options = HostOptions { gateway_threads: 8, ..HostOptions::default() };
    options.limits.sessions_max = 2 * MANY;
    let running = Running::start(options, None, |host| host.template("duel", on_demand(2)));
    let seats = crate::newcomers::seat_all(running.address, MANY, "duel/*");
    assert_eq!((seats.len(), seats.values().max()), (MANY / 2, Some(&2)), "no room is over its capacity, and none is wasted");
    assert_eq!(running.names().len(), MANY / 2);
}

#[test]
fn rooms_are_created_on_demand_within_limits_and_where_a_template_says_so() {
    let mut options = HostOptions::default();
    options.limits.rooms_max = 3;
    let running = Running::start(options, None, |host| {
        host.template("duel", on_demand(2));
        host.template("arena", Template::new(blueprint(), RoomOptions::named("template")));
        host.open("arena/main", "arena").unwrap();
    });
    let join = |room: &str| Player::connect(running.address, room, room);
    let (mut named, mut main) = (join("duel/blue"), join("arena/main"));
    let (mut closed, mut unknown, mut nameless) = (join("arena/other"), join("chess/*"), join("duel/"));
    until("those who may are in", &mut [&mut named, &mut main], in_room);
    let refused = |player: &mut Player| matches!(player.state(), ConnectionState::Refused(Refusal::NoSuchRoom(_), _));
    until("the others are not", &mut [&mut closed, &mut unknown, &mut nameless], |all| all.iter_mut().all(|player| refused(player)));
    let mut any = Player::connect(running.address, "cem", "duel/*");
    until("anywhere", &mut [&mut any, &mut named], in_room);
    assert_eq!(any.room(), "duel/blue", "where somebody waits");
    let mut more = Player::connect(running.address, "dan", "duel/*");
    until("anywhere", &mut [&mut more, &mut named, &mut any], in_room);
    assert_eq!((more.room(), running.names().len()), ("duel/1".to_owned(), 3));
    let mut too_many = Player::connect(running.address, "eve", "duel/red");
    until("full", &mut [&mut too_many], |all| matches!(all[0].state(), ConnectionState::Refused(Refusal::HostFull, _)));
}

#[test]
fn a_room_that_nobody_is_in_goes_to_rest_and_wakes_as_it_was() {
    let mut options = HostOptions { rest_after: Some(Duration::from_millis(500)), ..HostOptions::default() };
    options.limits.grace_ticks = 0;
    let store = MemoryStore::default();
    let running = Running::start(options, Some(store.clone()), |host| host.template("duel", on_demand(2)));
    let mut player = Player::connect(running.address, "ann", "duel/blue");
    until("it is in", &mut [&mut player], in_room);
    player.mark(42);
    until("it is marked", &mut [&mut player], |all| all[0].sum() == 42);
    player.leave();
    until("it is at rest", &mut [], |_| running.status("duel/blue").is_resting);
    let mut archive = Archive::new(store.reader().unwrap(), blueprint().protocol());
    let slept_at = archive.head("duel/blue").unwrap().unwrap().tick;
    for times in 1..=3 {
        let mut again = Player::connect(running.address, "ann", "duel/blue");
        until("it is in again", &mut [&mut again], in_room);
        assert_eq!(again.sum(), 41 + times);
        again.mark(1);
        until("it is marked again", &mut [&mut again], |all| all[0].sum() == 42 + times);
        assert!(running.status("duel/blue").status.tick >= slept_at);
        again.leave();
        until("it is at rest again", &mut [], |_| running.status("duel/blue").is_resting);
    }
    assert!(running.stop());
    let facts = archive.facts("duel/blue", roomkeeper::protocol::FactSeq(1), usize::MAX).unwrap();
    let marks = facts.iter().filter(|fact| fact.kind == "marked").count();
    assert_eq!(marks, 4, "the ledger goes on through it");
    assert!(facts.windows(2).all(|pair| pair[1].seq.0 == pair[0].seq.0 + 1));
}

#[test]
fn an_operator_lets_a_room_stand_still_steps_looks_into_it_puts_out_and_closes() {
    let running = Running::start(HostOptions::default(), None, |host| {
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    let (handle, mut ann, mut bob) =
        (&running.handle, Player::connect(running.address, "ann", "main"), Player::connect(running.address, "bob", "main"));
    until("both are in", &mut [&mut ann, &mut bob], in_room);
    handle.pause("main", true).unwrap();
    until("it stands", &mut [&mut ann, &mut bob], |_| running.status("main").status.is_paused);
    let tick = || handle.look("main", |room| room.tick_now()).unwrap();
    let stands_at = tick();
    ann.mark(5);
    // Longer than the transport waits for a silent host.
    let begun = now();
    until("6 s", &mut [&mut ann, &mut bob], |_| begun.elapsed() > Duration::from_secs(6));
    assert_eq!(tick(), stands_at);
    assert!(in_room(&mut [&mut ann, &mut bob]), "they are told that it is there");
    assert_eq!(ann.sum(), 0);
    handle.step("main", 1).unwrap();
    until("a tick", &mut [&mut ann, &mut bob], |all| all[1].sum() == 5);
    assert_eq!(tick().0, stands_at.0 + 1);
    handle.step("main", 5).unwrap();
    until("five ticks", &mut [&mut ann, &mut bob], |_| tick().0 == stands_at.0 + 6);
    handle.pause("main", false).unwrap();
    until("it goes on", &mut [&mut ann, &mut bob], |_| tick().0 > stands_at.0 + 10);
    handle.kick("main", EntityId::named("bob"), "enough").unwrap();
    until("bob is out", &mut [&mut ann, &mut bob], |all| {
        all[1].state() == ConnectionState::Refused(Refusal::Kicked("enough".to_owned()), Vec::new())
    });
    assert!(ann.state().is_in_room());
    handle.close("main", "the end").unwrap();
    until("it is closed", &mut [&mut ann], |all| {
        all[0].state() == ConnectionState::Refused(Refusal::RoomClosed("the end".to_owned()), Vec::new())
    });
    until("it is gone", &mut [], |_| running.names().is_empty());
    assert_eq!(handle.close("main", "the end"), Err(OrderError::NoRoom("main".to_owned())));
}

#[test]
fn a_host_that_stops_refuses_who_comes_tells_who_is_there_and_keeps_all() {
    let store = MemoryStore::default();
    let running = Running::start(HostOptions::default(), Some(store.clone()), |host| {
        for room in ["main", "other"] {
            host.open_room(&blueprint(), RoomOptions::named(room)).unwrap();
        }
    });
    let (mut ann, mut bob) = (Player::connect(running.address, "ann", "main"), Player::connect(running.address, "bob", "other"));
    until("both are in", &mut [&mut ann, &mut bob], in_room);
    ann.mark(7);
    until("it is marked", &mut [&mut ann, &mut bob], |all| all[0].sum() == 7);
    running.handle.refuse_newcomers().unwrap();
    let mut cem = Player::connect(running.address, "cem", "main");
    until("a newcomer is refused", &mut [&mut ann, &mut bob, &mut cem], |all| {
        all[2].state() == ConnectionState::Refused(Refusal::ShuttingDown, Vec::new())
    });
    assert!(in_room(&mut [&mut ann, &mut bob]), "who is there plays on");
    let tick = running.status("main").status.tick;
    let ends = std::thread::spawn(move || running.stop());
    until("they are told", &mut [&mut ann, &mut bob], |all| {
        all.iter().all(|player| player.state() == ConnectionState::Refused(Refusal::ShuttingDown, Vec::new()))
    });
    assert!(ends.join().unwrap(), "all rooms ended in time");
    let mut archive = Archive::new(store.reader().unwrap(), blueprint().protocol());
    assert!(archive.head("main").unwrap().unwrap().tick >= tick);
    assert!(archive.facts("main", roomkeeper::protocol::FactSeq(1), 100).unwrap().iter().any(|fact| fact.kind == "marked"));
}

#[test]
fn a_key_is_changed_while_those_who_came_with_the_old_one_play_on() {
    let [old, new] = [1, 2].map(|byte| HostKey([byte; 32]));
    let running = Running::with(Access::Tokens(old), HostOptions::default(), None, |host| {
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    let token = |key: HostKey, name: &str| {
        let issuer = TokenIssuer { key, addresses: vec![running.address], expire_seconds: 30 };
        Credentials::Token(issuer.issue(EntityId::named(name), name, None, unix_time()).unwrap())
    };
    let mut ann = Player::by(&token(old, "ann"), "main");
    until("ann is in", &mut [&mut ann], in_room);
    running.handle.accept_keys(vec![new, old]).unwrap();
    let (mut bob, mut cem) = (Player::by(&token(new, "bob"), "main"), Player::by(&token(old, "cem"), "main"));
    until("both keys let in", &mut [&mut ann, &mut bob, &mut cem], in_room);
    running.handle.accept_keys(vec![new]).unwrap();
    let mut dan = Player::by(&token(new, "dan"), "main");
    until("the new one lets in", &mut [&mut ann, &mut bob, &mut cem, &mut dan], in_room);
    let mut late = Player::by(&token(old, "late"), "main");
    let mut forged = Player::by(&token(HostKey([3; 32]), "forged"), "main");
    let refused = || running.handle.counters().unwrap().1.1.unusable;
    until("they are not heard", &mut [&mut ann, &mut late, &mut forged], |_| refused() >= 6);
    assert!(!late.state().is_in_room() && !forged.state().is_in_room());
    until("the others play on", &mut [&mut ann, &mut bob, &mut cem, &mut dan], in_room);
    assert_eq!(running.handle.counters().unwrap().0, 4);
}

#[test]
fn who_is_banned_is_put_out_at_once_and_not_let_in_again_until_it_is_over() {
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bans.json");
    let _ = std::fs::remove_file(&file);
    let start = || {
        Running::start(HostOptions::default(), None, |host| {
            host.keep_bans(&file).unwrap();
            host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
        })
    };
    let running = start();
    let (mut ann, mut bob) = (Player::connect(running.address, "ann", "main"), Player::connect(running.address, "bob", "main"));
    until("both are in", &mut [&mut ann, &mut bob], in_room);
    running.handle.ban(Ban { player: EntityId::named("ann"), why: "cheats".to_owned(), until: None }).unwrap();
    let out = |player: &Player| player.state() == ConnectionState::Refused(Refusal::Kicked("banned: cheats".to_owned()), Vec::new());
    until("ann is out", &mut [&mut ann, &mut bob], |all| out(all[0]));
    assert!(bob.state().is_in_room());
    assert!(running.stop());
    let running = start();
    let mut again = Player::connect(running.address, "ann", "main");
    until("it is not let in", &mut [&mut again], |all| out(all[0]));
    assert!(running.handle.unban(EntityId::named("ann")).unwrap());
    let mut pardoned = Player::connect(running.address, "ann", "main");
    until("ann is in again", &mut [&mut pardoned], in_room);
    assert_eq!(running.handle.bans(), Ok(Vec::new()));
}

#[test]
fn who_is_in_a_room_and_who_comes_is_told_how_fast_it_goes_and_follows() {
    let running = Running::start(HostOptions::default(), None, |host| host.open_room(&blueprint(), RoomOptions::named("main")).unwrap());
    let (handle, mut ann) = (&running.handle, Player::connect(running.address, "ann", "main"));
    until("she is in", &mut [&mut ann], in_room);
    let speed = |player: &Player| player.0.world().resource::<Connection>().speed();
    let off = |player: &mut Player| {
        let tick = f64::from(player.0.world().resource::<Replica>().tick().0);
        player.0.world().resource::<Connection>().server_tick().unwrap() - tick
    };
    handle.pause("main", true).unwrap();
    until("she is told", &mut [&mut ann], |all| speed(all[0]).is_still());
    let (since, stood) = (now(), running.status("main").status.tick);
    // Who comes hears of it before it is let in, which is when the room goes on.
    let mut bob = Player::connect(running.address, "bob", "main");
    until("he is told", &mut [&mut ann, &mut bob], |all| speed(all[1]).is_still());
    until("a second passes", &mut [&mut ann, &mut bob], |_| since.elapsed() > Duration::from_secs(1));
    assert!(!bob.state().is_in_room() && off(&mut ann).abs() < 1.5, "{} ticks off", off(&mut ann));
    assert_eq!(running.status("main").status.tick, stood);

    // At half its pace: told, and kept.
    handle.set_speed("main", Speed::from_ratio(0.5).unwrap()).unwrap();
    assert!(speed(&ann).is_still(), "it stands still all the same");
    handle.pause("main", false).unwrap();
    until("both are in, and she is told", &mut [&mut ann, &mut bob], |all| in_room(all) && !speed(all[0]).is_still());
    assert_eq!((speed(&ann).ratio(), speed(&bob).ratio()), (0.5, 0.5));
    let tick = |player: &Player| player.0.world().resource::<Replica>().tick().0;
    let players = std::cell::RefCell::new((ann, bob));
    // On a machine that stands still a room skips ticks, or is late, and nobody can foresee that.
    undisturbed(Duration::from_millis(100), || {
        let (ann, bob) = &mut *players.borrow_mut();
        // So that the clock has forgotten a stall before.
        let first = tick(ann);
        until("ticks that tell what time it is", &mut [&mut *ann, &mut *bob], |all| tick(all[0]) > first + 15);
        let (since, before, mut worst) = (now(), tick(ann), 0.0_f64);
        until("four seconds pass", &mut [&mut *ann, &mut *bob], |all| {
            worst = worst.max(off(all[0]).abs());
            since.elapsed() > Duration::from_secs(4)
        });
        let passed = tick(ann) - before;
        match (36..=44).contains(&passed) && worst < 3.0 {
            true => Ok(()),
            false => Err(format!("{passed} ticks in 4 s, and the server's tick was {worst} off")),
        }
    });
    let (mut ann, mut bob) = players.into_inner();
    let (since, before) = (now(), tick(&ann));

    handle.set_speed("main", Speed::from_ratio(4.0).unwrap()).unwrap();
    until("a quarter of a minute of the room passes", &mut [&mut ann, &mut bob], |all| tick(all[0]) > before + 300);
    // At its own pace it would take 15 s.
    assert!(since.elapsed() < Duration::from_secs(12) && running.status("main").status.speed == Speed::MAX);
}

#[test]
fn a_seat_that_is_kept_for_somebody_who_is_cut_off_is_given_to_nobody_who_asks_for_any_room() {
    let running = Running::start(HostOptions::default(), None, |host| host.template("duel", on_demand(2)));
    let mut ann = Player::connect(running.address, "ann", "duel/*");
    let mut bob = Player::connect(running.address, "bob", "duel/*");
    until("both are in", &mut [&mut ann, &mut bob], in_room);
    let first = bob.room();
    assert_eq!(ann.room(), first);
    // Ann says nothing any more.
    until("her seat is kept", &mut [&mut bob], |_| running.status(&first).status.away == 1);
    let mut cem = Player::connect(running.address, "cem", "duel/*");
    until("cem is in", &mut [&mut bob, &mut cem], in_room);
    assert_ne!(cem.room(), first);
}

#[test]
fn where_a_game_has_failed_whoever_comes_is_led_to_another_room_at_once() {
    let running = Running::start(HostOptions::default(), Some(MemoryStore::default()), |host| host.template("duel", on_demand(1)));
    let mut ann = Player::connect(running.address, "ann", "duel/*");
    until("she is in", &mut [&mut ann], in_room);
    let first = ann.room();
    ann.mark(1_000);
    until("it is closed", &mut [&mut ann], |all| matches!(all[0].state(), ConnectionState::Refused(Refusal::RoomClosed(_), _)));
    let closed_at = now();
    let mut bob = Player::connect(running.address, "bob", "duel/*");
    until("he is in", &mut [&mut bob], |all| {
        assert!(!matches!(all[0].state(), ConnectionState::Refused(..)), "{}", all[0].state());
        in_room(all)
    });
    assert_ne!(bob.room(), first);
    until("the failed one is gone", &mut [&mut bob], |_| !running.names().contains(&first));
    assert!(closed_at.elapsed() < Duration::from_secs(8), "nothing was left to be written: {:?}", closed_at.elapsed());
    let mut cem = Player::connect(running.address, "cem", "duel/*");
    until("he is in", &mut [&mut bob, &mut cem], in_room);
    assert!(cem.room() != first && cem.room() != bob.room());
}

#[test]
fn a_stored_room_rests_without_the_seats_of_those_who_were_in_it_long_ago() {
    let mut options = HostOptions { rest_after: Some(Duration::from_secs(60)), ..HostOptions::default() };
    options.limits.seat_ticks = 20;
    let store = MemoryStore::default();
    let running = Running::start(options, Some(store.clone()), |host| host.template("duel", on_demand(1)));
    let mut ann = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut ann], in_room);
    // She is in it when the host stops.
    assert!(running.stop());
    let running = Running::start(options, Some(store), |host| {
        host.template("duel", on_demand(1));
        host.take_up("duel/blue").unwrap();
        assert!(host.rooms().iter().all(|room| room.is_resting && room.template == "duel"));
    });
    std::thread::sleep(Duration::from_millis(1_100));
    let mut bob = Player::connect(running.address, "bob", "duel/blue");
    until("he is in", &mut [&mut bob], |all| {
        assert!(!matches!(all[0].state(), ConnectionState::Refused(..)), "{}", all[0].state());
        in_room(all)
    });
}

#[test]
fn while_the_store_fails_a_room_that_rests_is_not_waited_for_and_the_others_go_on() {
    let mut options = HostOptions { rest_after: Some(Duration::from_millis(300)), ..HostOptions::default() };
    options.limits.grace_ticks = 0;
    let full = Arc::new(AtomicBool::new(false));
    let store = fails_while(&full, Box::new(MemoryStore::default()));
    let running = Running::start(options, None, |host| {
        host.keep_by(Keeper::start(Box::new(store), WriterOptions::default()).unwrap());
        host.template("duel", on_demand(2));
    });
    let mut first = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut first], in_room);
    first.leave();
    let mut bob = Player::connect(running.address, "bob", "duel/red");
    until("he is in, and the other room is at rest", &mut [&mut bob], |all| in_room(all) && running.status("duel/blue").is_resting);
    full.store(true, Ordering::Relaxed);
    until("the store fails", &mut [&mut bob], |_| running.failing().is_some());
    let mut ann = Player::connect(running.address, "ann", "duel/blue");
    until("she is told", &mut [&mut ann, &mut bob], |all| matches!(all[0].state(), ConnectionState::Refused(Refusal::RoomClosed(_), _)));
    let tick = |player: &Player| player.0.world().resource::<Replica>().tick().0;
    let before = tick(&bob);
    until("he sees on", &mut [&mut bob], |all| tick(all[0]) > before + 40);
    full.store(false, Ordering::Relaxed);
    until("the store is back", &mut [&mut bob], |_| running.failing().is_none());
    let mut ann = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut ann, &mut bob], in_room);
    assert!(running.stop());
}

#[test]
fn who_wants_any_room_is_led_to_none_that_is_paused_and_told_that_all_are_full_where_no_more_are_made() {
    let running = Running::start(HostOptions::default(), None, |host| {
        host.template("duel", on_demand(2));
        let mut fixed = on_demand(1);
        fixed.on_demand = false;
        host.template("hall", fixed);
        host.open("hall/1", "hall").unwrap();
    });
    let mut ann = Player::connect(running.address, "ann", "duel/*");
    until("she is in", &mut [&mut ann], in_room);
    running.handle.pause("duel/1", true).unwrap();
    until("it stands still", &mut [&mut ann], |_| running.status("duel/1").status.is_paused);
    let mut bob = Player::connect(running.address, "bob", "duel/*");
    until("he is in", &mut [&mut ann, &mut bob], |all| in_room(&mut all[1..]));
    assert_eq!(bob.room(), "duel/2");

    let mut cem = Player::connect(running.address, "cem", "hall/*");
    until("he is in", &mut [&mut cem], in_room);
    let mut dan = Player::connect(running.address, "dan", "hall/*");
    until("he is told", &mut [&mut cem, &mut dan], |all| matches!(all[1].state(), ConnectionState::Refused(Refusal::HostFull, _)));
    assert!(running.stop());
}

#[test]
fn a_room_that_an_operator_paused_stands_still_until_it_is_let_go_on_though_nobody_is_in_it() {
    let rest_after = Duration::from_secs(2);
    let options = HostOptions { rest_after: Some(rest_after), ..HostOptions::default() };
    let running = Running::start(options, Some(MemoryStore::default()), |host| {
        host.template("duel", on_demand(2));
        host.open("duel/blue", "duel").unwrap();
    });
    running.handle.pause("duel/blue", true).unwrap();
    // Longer than it takes to be noticed.
    let long = rest_after + Duration::from_secs(2);
    until("nobody was in it for long", &mut [], |_| running.status("duel/blue").status.empty_for > long);
    assert!(running.status("duel/blue").status.is_paused);
    running.handle.pause("duel/blue", false).unwrap();
    until("it is at rest", &mut [], |_| running.status("duel/blue").is_resting);
    assert!(running.stop());
}
