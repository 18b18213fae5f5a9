//! A game that fails stops its own room; a game that is not whole is refused with a sentence for each thing that is wrong.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::Receiver;
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, LeaveReason, Protocol, Refusal, ServerMessage};
use roomkeeper::room::{Blueprint, Level, LevelError, Room, RoomError, RoomOptions};
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Fuse(u32);
#[derive(Serialize, Deserialize)]
struct Light;
#[derive(Clone, Serialize, Deserialize)]
struct Lit;

/// As JSON types are written: where there is no lock, nothing stands for it.
#[derive(Component, Clone, Serialize, Deserialize)]
struct Door {
    open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<u8>,
}

fn protocol(app: &mut App) {
    app.sync::<Fuse>("fuse");
}

#[test]
#[cfg(debug_assertions)]
fn while_a_game_is_made_what_could_not_be_read_again_ends_the_room_by_name() {
    let ends = |rules: fn(&mut App)| {
        let known = |app: &mut App| {
            app.sync::<Door>("door");
            app.stateless_fact::<Door>("door_seen");
        };
        let mut room = Room::new(RoomOptions::named("hall"), known, rules).unwrap();
        room.tick([]).err().unwrap().to_string()
    };
    let by_component = ends(|app| {
        app.add_systems(FixedUpdate, |mut commands: Commands| {
            commands.spawn(Door { open: true, lock: None });
        });
    });
    assert!(by_component.contains("door") && by_component.contains("could not be read again"), "{by_component}");
    let by_fact = ends(|app| {
        app.add_systems(FixedUpdate, |mut record: Recorder| record.fact(Door { open: true, lock: None }));
    });
    assert!(by_fact.contains("door_seen") && by_fact.contains("could not be read again"), "{by_fact}");
}

fn burn(mut fuses: Query<&mut Fuse>) {
    for mut fuse in &mut fuses {
        fuse.0 = fuse.0.checked_sub(1).expect("the fuse has burnt down");
    }
}

fn rules(app: &mut App) {
    app.add_systems(FixedUpdate, burn);
}

/// A lobby with two rooms and a spectator in each; the messages that each is sent.
fn lobby() -> Lobby {
    let mut lobby = Lobby::new(HostLimits::default(), false);
    let blueprint = Blueprint::new(protocol, rules);
    for (number, name) in [(1, "doomed"), (2, "calm")] {
        lobby.open_room(&blueprint, RoomOptions::named(name)).unwrap();
        let fingerprint = lobby.room(name).unwrap().world().resource::<Protocol>().fingerprint();
        lobby.connected(ConnectionId(number), Visitor { player: EntityId::named(name), name: name.into(), room: None });
        lobby
            .message(ConnectionId(number), &ClientMessage::Hello { fingerprint, room: name.into(), spectate: true, resume: None }.encode());
    }
    lobby
}

/// What is sent to each connection, and who is closed once it has that.
#[derive(Default)]
struct Ends {
    now: Duration,
    receivers: BTreeMap<ConnectionId, Receiver>,
}

impl Ends {
    fn sent(&mut self, lobby: &mut Lobby) -> (Vec<(u64, ServerMessage)>, Vec<ConnectionId>) {
        let (mut messages, mut closed) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            self.now += Duration::from_millis(50);
            lobby.advance(self.now);
            let (now, receivers) = (self.now, &mut self.receivers);
            closed.extend(lobby.pump(|connection, own, shared| {
                let taken = receivers.entry(connection).or_default().take(now, &[own, shared].concat().into()).unwrap();
                messages.extend(taken.iter().map(|message| (connection.0, ServerMessage::decode(message).unwrap())));
            }));
            for (connection, receiver) in &mut self.receivers {
                if let Some(report) = receiver.next_report(self.now) {
                    lobby.message(*connection, &report);
                }
            }
        }
        (messages, closed)
    }
}

#[test]
fn a_panicking_system_closes_its_room_with_a_message_and_no_other() {
    let mut lobby = lobby();
    lobby.room_mut("doomed").unwrap().world_mut().spawn(Fuse(3));
    lobby.room_mut("calm").unwrap().world_mut().spawn(Fuse(1_000));
    let mut fault = None;
    for _ in 0..3 {
        for name in ["doomed", "calm"] {
            assert!(lobby.tick_room(name).unwrap().fault.is_none());
        }
    }
    let mut ends = Ends::default();
    ends.sent(&mut lobby);
    for _ in 0..5 {
        for name in ["doomed", "calm"] {
            fault = lobby.tick_room(name).and_then(|report| report.fault).or(fault);
        }
    }
    let fault = fault.unwrap();
    assert!(fault.place.contains("burn"), "{fault}");
    assert!(fault.message.contains("the fuse has burnt down"), "{fault}");
    let (messages, closed) = ends.sent(&mut lobby);
    let farewell = messages.iter().find(|(to, _)| *to == 1).unwrap();
    assert!(matches!(&farewell.1, ServerMessage::Refused(Refusal::RoomClosed(text)) if text.contains("tick 4")), "{farewell:?}");
    assert_eq!(closed, [ConnectionId(1)]);
    assert_eq!(messages.iter().filter(|(to, message)| *to == 2 && matches!(message, ServerMessage::Batch(_))).count(), 5);
    assert_eq!(lobby.room_names().collect::<Vec<_>>(), ["calm"]);
    assert_eq!(lobby.counters().room_faults, 1);
}

#[test]
fn a_room_that_failed_does_not_tick_again() {
    let mut room = Room::new(RoomOptions::named("doomed"), protocol, rules).unwrap();
    room.world_mut().spawn(Fuse(0));
    let fault = room.tick([]).unwrap_err();
    assert_eq!(room.tick([]).unwrap_err(), fault);
    assert_eq!(room.snapshot().unwrap_err(), fault);
}

/// Somebody connects, and asks to come into a room.
fn come(lobby: &mut Lobby, connection: u64, name: &str) {
    let fingerprint = lobby.room("calm").unwrap().world().resource::<Protocol>().fingerprint();
    let hello = ClientMessage::Hello { fingerprint, room: "calm".into(), spectate: false, resume: None };
    lobby.connected(ConnectionId(connection), Visitor { player: EntityId::named(name), name: name.into(), room: None });
    lobby.message(ConnectionId(connection), &hello.encode());
}

fn is_in(lobby: &Lobby, name: &str) -> bool {
    lobby.room("calm").unwrap().entity(EntityId::named(name)).is_some()
}

#[test]
fn a_room_that_stood_still_goes_on_however_many_came_and_went_meanwhile() {
    let mut lobby = Lobby::new(HostLimits::default(), true);
    lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("calm")).unwrap();
    for nth in 0..2_100_u64 {
        let reason = if nth.is_multiple_of(2) { LeaveReason::Left } else { LeaveReason::Timeout };
        come(&mut lobby, nth, "ann");
        lobby.disconnected(ConnectionId(nth), reason);
    }
    come(&mut lobby, 3_000, "ben");
    let report = lobby.tick_room("calm").unwrap();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert!(report.taken.len() == 1 && report.facts.len() < 10, "{} taken, {} facts", report.taken.len(), report.facts.len());
    assert!(is_in(&lobby, "ben") && !is_in(&lobby, "ann"));
}

#[test]
fn what_waits_for_a_room_that_stands_still_does_not_grow_with_the_connections_of_its_members() {
    let mut lobby = Lobby::new(HostLimits::default(), true);
    lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("calm")).unwrap();
    let [ann, ben] = [0, 10_000];
    come(&mut lobby, ann, "ann");
    come(&mut lobby, ben, "ben");
    assert!(lobby.tick_room("calm").unwrap().fault.is_none());
    for nth in 1..=1_000 {
        // The one takes its own place over, the other has lost its connection.
        come(&mut lobby, ann + nth, "ann");
        lobby.disconnected(ConnectionId(ann + nth - 1), LeaveReason::Kicked);
        lobby.disconnected(ConnectionId(ben + nth - 1), LeaveReason::Timeout);
        come(&mut lobby, ben + nth, "ben");
    }
    let report = lobby.tick_room("calm").unwrap();
    assert!(report.fault.is_none() && report.taken.len() < 10, "{} taken, {:?}", report.taken.len(), report.fault);
    assert!(is_in(&lobby, "ann") && is_in(&lobby, "ben") && report.facts.is_empty());
    // Both leave for good, and the one comes again and again.
    lobby.disconnected(ConnectionId(ann + 1_000), LeaveReason::Left);
    lobby.disconnected(ConnectionId(ben + 1_000), LeaveReason::Left);
    for nth in 20_000..21_000 {
        come(&mut lobby, nth, "ann");
        lobby.disconnected(ConnectionId(nth), LeaveReason::Left);
    }
    come(&mut lobby, 30_000, "ann");
    let report = lobby.tick_room("calm").unwrap();
    assert!(report.fault.is_none() && report.taken.len() < 10, "{} taken, {:?}", report.taken.len(), report.fault);
    assert!(is_in(&lobby, "ann") && !is_in(&lobby, "ben"));
    let members: Vec<EntityId> = lobby.room("calm").unwrap().members().iter().collect();
    assert_eq!(members, [EntityId::named("ann")]);
}

/// A row of dominoes: each that falls knocks the next one over.
#[derive(Clone, Serialize, Deserialize)]
struct Fell(u32);

fn dominoes(count: u32) -> Room {
    let protocol = |app: &mut App| {
        app.fact::<Fell>("fell");
    };
    let rules = move |app: &mut App| {
        app.apply(|fell: On<Happened<Fell>>, mut record: Recorder| {
            if fell.0 > 1 {
                record.fact(Fell(fell.0 - 1));
            }
        });
        app.add_systems(FixedUpdate, move |mut record: Recorder| record.fact(Fell(count)));
    };
    Room::new(RoomOptions::named("dominoes"), protocol, rules).unwrap()
}

#[test]
fn a_fact_that_records_itself_stops_its_room_in_words_and_not_the_process() {
    assert_eq!(dominoes(128).tick([]).unwrap().facts.len(), 128);
    assert!(dominoes(129).tick([]).unwrap_err().message.contains("more than 128 facts"));
    let mut room = dominoes(u32::MAX);
    let fault = room.tick([]).unwrap_err();
    assert!(fault.message.contains("more than 128 facts") && fault.message.contains("fell"), "{fault}");
    assert_eq!(room.tick([]).unwrap_err(), fault);
}

fn refused(protocol: impl FnOnce(&mut App), rules: impl FnOnce(&mut App)) -> String {
    Room::new(RoomOptions::named("refused"), protocol, rules).unwrap_err().to_string()
}

fn ignore(_: On<Happened<Lit>>) {}
fn ignore_too(_: On<Happened<Lit>>) {}
fn decide(_: In<Issued<Light>>) -> Decision {
    accept(Lit)
}
fn decide_with_commands(_: In<Issued<Light>>, _: Commands) -> Decision {
    accept(Lit)
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    let fact = |app: &mut App| {
        app.fact::<Lit>("lit");
    };
    let both = |app: &mut App| {
        app.command::<Light>("light").fact::<Lit>("lit");
    };
    assert!(refused(fact, |_| {}).contains("missing handler for fact \"lit\""));
    assert!(
        refused(both, |app| {
            app.apply(ignore);
        })
        .contains("missing handler for command \"light\"")
    );
    assert!(
        refused(fact, |app| {
            app.apply(ignore).apply(ignore_too);
        })
        .contains("two observers")
    );
    assert!(
        refused(both, |app| {
            app.apply(ignore).decide(decide).decide(decide);
        })
        .contains("two handlers")
    );
    assert!(
        refused(both, |app| {
            app.apply(ignore).decide(decide_with_commands);
        })
        .contains("Commands")
    );
    assert!(
        refused(
            |app| {
                app.stateless_fact::<Lit>("lit");
            },
            |app| {
                app.apply(ignore);
            }
        )
        .contains("stateless")
    );
    assert!(
        refused(
            |_| {},
            |app| {
                app.apply(ignore);
            }
        )
        .contains("no fact of the protocol")
    );
    assert!(
        refused(
            |app| {
                app.fact::<Lit>("lit").fact::<Lit>("lit");
            },
            |app| {
                app.apply(ignore);
            }
        )
        .contains("twice")
    );
    assert!(
        refused(
            |app| {
                app.sync::<Fuse>("Big Fuse");
            },
            |_| {}
        )
        .contains("Big Fuse")
    );
}

/// One of many components.
#[derive(Component, Serialize, Deserialize)]
struct Dial<const N: u8>(u8);

macro_rules! dials {
    ($app:ident, $($number:literal)*) => {
        $($app.sync::<Dial<$number>>(concat!("dial", $number)).latest();)*
    };
}

fn sixty_four_dials(app: &mut App) {
    dials!(app, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    dials!(app, 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
}

#[test]
fn sixty_four_components_may_be_latest_and_the_last_of_them_arrives_too() {
    let mut sim = Sim::new(sixty_four_dials, |_| {}).client("ann");
    let entity = sim.room_mut().world_mut().spawn((Dial::<0>(1), Dial::<63>(1))).id();
    sim.settle();
    sim.room_mut().world_mut().get_mut::<Dial<63>>(entity).unwrap().0 = 9;
    assert_eq!(sim.settle().assert_converged(), 1);
    let world = sim.client_mut("ann").world_mut();
    assert_eq!(world.query::<(&Dial<0>, &Dial<63>)>().iter(world).map(|(first, last)| (first.0, last.0)).collect::<Vec<_>>(), [(1, 9)]);
    let one_more = |app: &mut App| {
        sixty_four_dials(app);
        dials!(app, 64);
    };
    assert!(refused(one_more, |_| {}).contains("65 components are `latest`, at most 64 may be"));
}

#[test]
fn a_protocol_has_1024_commands_at_most() {
    let room = |count: u32| {
        let protocol = move |app: &mut App| {
            for n in 0..count {
                app.command::<Light>(&format!("light{n}"));
            }
        };
        let rules = |app: &mut App| {
            app.decide(decide);
        };
        Room::new(RoomOptions::named("many"), protocol, rules)
    };
    // Of one type, which may have one name only; but no other is there without end.
    let refused = |count: u32| room(count).unwrap_err().to_string();
    assert!(!refused(1_024).contains("one too many"));
    assert!(refused(1_025).contains("\"light1024\" is one too many: at most 1024 are allowed"), "{}", refused(1_025));
}

fn level(text: &str) -> RoomError {
    let level = Some(Level::from_text("bad.json", text));
    Room::new(RoomOptions { level, ..RoomOptions::named("level") }, protocol, |_| {}).unwrap_err()
}

#[test]
fn a_bad_level_names_file_line_and_component() {
    let malformed = level("{\n  \"bomb\": {\n");
    assert!(malformed.to_string().starts_with("bad.json:3:"), "{malformed}");
    let unknown = level("{\n  \"bomb\": {\n    \"wick\": 3\n  }\n}");
    assert!(unknown.to_string().starts_with("bad.json:3: bomb has an unknown component \"wick\""), "{unknown}");
    let value = level("{\n  \"bomb\": {\"fuse\": \"long\"}\n}");
    assert!(value.to_string().starts_with("bad.json:2: bomb.fuse: "), "{value}");
    let saved = level("{\n  \"bomb\": {},\n  \"$snippet\": {\"tock\": 3}\n}");
    assert!(saved.to_string().starts_with("bad.json:3:1: \"$snippet\": unknown field `tock`"), "{saved}");
    assert!(matches!(Level::open("no/such/file.json"), Err(LevelError::Unreadable { .. })));
}

#[test]
fn a_panic_while_the_room_is_built_is_a_sentence() {
    let message = refused(|_| panic!("the game has no protocol"), |_| {});
    assert!(message.contains("the game has no protocol"), "{message}");
}

/// Memory that this process has, and files that it has open.
#[cfg(target_os = "linux")]
fn held() -> (u64, usize) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    (pages * 4, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// Opens rooms, lets a member join each, ticks them, and closes them.
#[cfg(target_os = "linux")]
fn churn(lobby: &mut Lobby, blueprint: &Blueprint, rooms: std::ops::Range<u64>) {
    for nth in rooms {
        let (name, connection) = (format!("room{nth}"), ConnectionId(nth + 1));
        lobby.open_room(blueprint, RoomOptions::named(&name)).unwrap();
        let fingerprint = lobby.room(&name).unwrap().world().resource::<Protocol>().fingerprint();
        lobby.connected(connection, Visitor { player: EntityId::named("ann"), name: "ann".into(), room: None });
        lobby.message(connection, &ClientMessage::Hello { fingerprint, room: name.clone(), spectate: false, resume: None }.encode());
        lobby.advance(Duration::from_millis(nth * 50));
        (0..3).for_each(|_| drop(lobby.tick_room(&name)));
        lobby.pump(|_, _, _| ());
        lobby.close_room(&name, &Refusal::RoomClosed("it is over".to_owned()));
        lobby.disconnected(connection, LeaveReason::Left);
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "it measures its own process: `rooms_come_and_go_and_leave_nothing` runs it in one of its own"]
fn churn_alone() {
    let mut lobby = Lobby::new(HostLimits::default(), true);
    let blueprint = Blueprint::new(protocol, rules);
    churn(&mut lobby, &blueprint, 0..1_000);
    let (kilobytes, files) = held();
    // More where somebody has the time: `ROOMKEEPER_ROOMS=100000 cargo test --all-features --release --test rooms churn_alone -- --ignored`.
    let rooms = std::env::var("ROOMKEEPER_ROOMS").ok().and_then(|rooms| rooms.parse().ok()).unwrap_or(6_000);
    churn(&mut lobby, &blueprint, 1_000..rooms);
    let (later, files_later) = held();
    println!("{kilobytes} kB after 1,000 rooms, {later} kB after {rooms}");
    assert!(later * 100 <= kilobytes * 105, "{kilobytes} kB after 1,000 rooms, {later} kB after {rooms}");
    assert_eq!(files, files_later);
    assert_eq!((lobby.room_names().count(), lobby.has_sessions()), (0, false));
}

#[cfg(target_os = "linux")]
#[test]
fn rooms_come_and_go_and_leave_nothing() {
    // Other tests would be measured too.
    let alone = std::env::args().next().unwrap();
    let name = concat!(module_path!(), "::churn_alone");
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    let output = std::process::Command::new(alone).args(["--ignored", "--exact", name]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
