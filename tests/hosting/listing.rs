//! Who is in no room yet asks which there are: what it is told, what it is not, and what that costs at most.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use roomkeeper::client::{
    Connection, ConnectionState, Credentials, Receiver, ReplicaPlugin, RoomsListed, UdpPlugin, UdpTransport, unix_time,
};
use roomkeeper::host::gateway::Access;
use roomkeeper::host::{Ban, ConnectionId, Host, HostKey, HostLimits, HostOptions, Lobby, Template, TokenIssuer, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::limits::{NAME_BYTES_MAX, ROOMS_LISTED_MAX};
use roomkeeper::protocol::{Availability, ClientMessage, Protocol, Refusal, RoomList, ServerMessage};
use roomkeeper::room::RoomOptions;
use roomkeeper::store::MemoryStore;

use crate::beats::{Player, protocol};
use crate::host::{Running, blueprint, in_room, now, on_demand, until};
use crate::newcomers::{Joiner, wait};

/// What somebody was told, each time.
#[derive(Resource, Default)]
struct Heard(Vec<RoomList>);

/// A game's client that is connected and in no room.
fn browse(credentials: &Credentials) -> Player {
    let mut app = App::new();
    app.add_plugins((ReplicaPlugin, UdpPlugin));
    protocol(&mut app);
    app.init_resource::<Heard>();
    app.add_observer(|listed: On<RoomsListed>, mut heard: ResMut<Heard>| heard.0.push(listed.event().list.clone()));
    app.finish();
    app.cleanup();
    app.insert_resource(UdpTransport::browse(credentials).unwrap());
    Player(app)
}

fn ask(player: &mut Player, prefix: &str) -> bool {
    player.0.world_mut().resource_mut::<Connection>().list_rooms(prefix)
}

fn heard(player: &Player) -> &[RoomList] {
    &player.0.world().resource::<Heard>().0
}

fn enter(player: &mut Player, room: &str) -> bool {
    player.0.world_mut().resource_mut::<UdpTransport>().enter(room, false)
}

/// What a list says, a room after the other.
fn said(list: &RoomList) -> Vec<(&str, u32, u32, Availability)> {
    list.rooms.iter().map(|room| (room.name.as_str(), room.taken, room.seats, room.availability)).collect()
}

fn listed(template: Template) -> Template {
    Template { listed: true, ..template }
}

fn arena(members_max: usize) -> Template {
    Template { members_max: Some(members_max), ..Template::new(blueprint(), RoomOptions::named("template")) }
}

fn asks(prefix: &str) -> Bytes {
    ClientMessage::ListRooms { prefix: prefix.to_owned() }.encode()
}

#[test]
fn a_player_sees_the_rooms_that_are_listed_and_how_full_they_are() {
    use Availability::{OnDemand, Open};
    let running = Running::start(HostOptions::default(), None, |host| {
        host.template("duel", listed(on_demand(2)));
        host.template("arena", listed(arena(8)));
        host.open("main", "arena").unwrap();
        host.open("attic", "arena").unwrap();
    });
    let mut ann = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut ann], in_room);
    assert!(!ask(&mut ann, ""), "who is in a room is not told");
    let mut bob = browse(&Credentials::unauthenticated(running.address, "bob"));
    assert!(ask(&mut bob, "") && !ask(&mut bob, &"x".repeat(NAME_BYTES_MAX + 1)));
    until("he sees them", &mut [&mut ann, &mut bob], |all| !heard(all[1]).is_empty());
    let all = [("attic", 0, 8, Open), ("duel/*", 0, 2, OnDemand), ("duel/blue", 1, 2, Open), ("main", 0, 8, Open)];
    assert_eq!((said(&heard(&bob)[0]), heard(&bob)[0].total), (all.to_vec(), 4));
    assert_eq!(bob.state(), ConnectionState::Connecting);
    assert!(ask(&mut bob, "duel/b"));
    until("he sees one", &mut [&mut ann, &mut bob], |all| heard(all[1]).len() == 2);
    assert_eq!((said(&heard(&bob)[1]), heard(&bob)[1].prefix.as_str()), (vec![("duel/blue", 1, 2, Open)], "duel/b"));

    // He goes where she is, over the same connection, and plays.
    assert!(enter(&mut bob, "duel/*") && !enter(&mut bob, "main"));
    until("he is in", &mut [&mut ann, &mut bob], in_room);
    assert_eq!((bob.room(), running.handle().counters().unwrap().0), ("duel/blue".to_owned(), 2));
    assert!(!ask(&mut bob, ""));
    bob.mark(7);
    until("both see it", &mut [&mut ann, &mut bob], |all| all.iter_mut().all(|player| player.sum() == 7));
    let mut cem = browse(&Credentials::unauthenticated(running.address, "cem"));
    until("it is told to be full", &mut [&mut ann, &mut bob, &mut cem], |all| {
        ask(all[2], "duel/blue");
        heard(all[2]).last().is_some_and(|list| said(list) == [("duel/blue", 2, 2, Open)])
    });
    assert!(running.stop());
}

#[test]
fn a_room_at_rest_is_listed_until_it_is_woken_and_one_that_was_closed_is_not() {
    let mut options = HostOptions { rest_after: Some(Duration::from_millis(300)), ..HostOptions::default() };
    options.limits.grace_ticks = 0;
    let running = Running::start(options, Some(MemoryStore::default()), |host| host.template("duel", listed(on_demand(2))));
    let mut ann = Player::connect(running.address, "ann", "duel/blue");
    until("she is in", &mut [&mut ann], in_room);
    let mut bob = browse(&Credentials::unauthenticated(running.address, "bob"));
    let sees = |what: &str, players: &mut [&mut Player], wanted: Option<(u32, Availability)>| {
        until(what, players, |all| {
            ask(all[0], "duel/blue");
            let told = |list: &RoomList| list.rooms.first().map(|room| (room.taken, room.availability));
            heard(all[0]).last().is_some_and(|list| told(list) == wanted)
        });
    };
    ann.leave();
    sees("it rests", &mut [&mut bob], Some((0, Availability::AtRest)));
    assert!(running.status("duel/blue").is_resting);
    let mut cem = Player::connect(running.address, "cem", "duel/blue");
    until("he is in", &mut [&mut bob, &mut cem], |all| in_room(&mut all[1..]));
    sees("it is open", &mut [&mut bob, &mut cem], Some((1, Availability::Open)));
    running.handle().close("duel/blue", "the end").unwrap();
    sees("it is gone", &mut [&mut bob, &mut cem], None);
    assert!(running.stop());
}

#[test]
fn a_room_that_is_not_listed_is_not_told_of() {
    let key = HostKey([7; 32]);
    let running = Running::with(Access::Tokens(key), HostOptions::default(), None, |host| {
        host.template("den", on_demand(2));
        host.template("arena", listed(arena(8)));
        host.open_room(&blueprint(), RoomOptions::named("hidden")).unwrap();
        host.open("den/secret", "den").unwrap();
        host.open("attic", "arena").unwrap();
        host.open("main", "arena").unwrap();
    });
    let token = |name: &str, room: Option<&str>| {
        let issuer = TokenIssuer { key, addresses: vec![running.address], expire_seconds: 30 };
        Credentials::Token(issuer.issue(EntityId::named(name), name, room, unix_time()).unwrap())
    };
    running.handle().ban(Ban { player: EntityId::named("eve"), why: "cheats".to_owned(), until: None }).unwrap();
    let bound = |name: &str, room: &str| browse(&token(name, Some(room)));
    let mut all = [browse(&token("ann", None)), bound("bob", "main"), bound("cem", "den/secret"), bound("dan", "duel/*")];
    let mut eve = browse(&token("eve", None));
    assert!(all.iter_mut().chain([&mut eve]).all(|player| ask(player, "")));
    let mut each: Vec<&mut Player> = all.iter_mut().chain([&mut eve]).collect();
    until("all are told", &mut each, |each| {
        let are_told = each.iter().take(4).all(|player| !heard(player).is_empty());
        are_told && matches!(each[4].state(), ConnectionState::Refused(Refusal::Kicked(_), _))
    });
    let names = |player: &Player| heard(player)[0].rooms.iter().map(|room| room.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&all[0]), ["attic", "main"], "what is listed");
    assert_eq!(names(&all[1]), ["main"], "a token for one room tells of no other");
    assert_eq!((names(&all[2]), heard(&all[2])[0].total), (Vec::new(), 0), "nor of its own, if nobody is to be told of it");
    assert_eq!(names(&all[3]), [""; 0]);
    assert!(heard(&eve).is_empty(), "who is banned is told of none");
    // A token is good for the question and for the room.
    assert!(enter(&mut all[2], "main"));
    until("he is in", &mut [&mut all[2]], in_room);
    assert_eq!(all[2].room(), "den/secret");
    assert!(running.stop());
}

#[test]
fn who_asks_for_ever_is_bounded() {
    let many = ROOMS_LISTED_MAX + 40;
    let running = Running::start(HostOptions::default(), None, |host| {
        host.template("arena", listed(arena(8)));
        (0..many).for_each(|nth| host.open(&format!("room{nth:03}"), "arena").unwrap());
    });
    let mut ann = Joiner::connect(running.address, "ann");
    let begun = now();
    (0..200).for_each(|_| ann.say(asks("")));
    wait("she has asked for three seconds", &mut [], |_| {
        ann.say(asks("room"));
        ann.go_on();
        begun.elapsed() > Duration::from_secs(3)
    });
    ann.say(asks("room0"));
    wait("the last question is answered", &mut [&mut ann], |all| all[0].lists.last().is_some_and(|list| list.prefix == "room0"));
    let most = 2 + begun.elapsed().as_millis() as usize / 500;
    assert!((2..=most).contains(&ann.lists.len()), "{} answers, {most} at most", ann.lists.len());
    let first = &ann.lists[0];
    assert_eq!((first.rooms.len(), first.total as usize), (ROOMS_LISTED_MAX, many));
    assert_eq!(ann.lists.last().unwrap().total, 100);
    let foyer = running.handle().counters().unwrap().1.0;
    assert_eq!((foyer.malformed, foyer.out_of_turn, foyer.kicked), (0, 0, 0), "to ask is no mistake");
    ann.greet("room007", false);
    wait("she is in", &mut [&mut ann], |all| all[0].room.is_some());
    assert_eq!(ann.refused, None);
    assert!(running.stop());
}

/// Asks a lobby all the time for ten seconds; gives what came, if somebody listens.
fn ten_seconds(lobby: &mut Lobby, receiver: &mut Receiver, time: &mut Duration, listens: bool) -> Vec<RoomList> {
    let mut lists = Vec::new();
    for _ in 0..200 {
        *time += Duration::from_millis(50);
        lobby.advance(*time);
        ["", "c", "cellar"].iter().for_each(|prefix| lobby.message(ConnectionId(1), &asks(prefix)));
        let mut packets = Vec::new();
        lobby.pump(|_, own, shared| packets.push(Bytes::from([own, shared].concat())));
        for packet in packets.iter().filter(|_| listens) {
            for message in receiver.take(*time, packet).unwrap() {
                let Ok(ServerMessage::Rooms(list)) = ServerMessage::decode(&message) else { panic!("only lists") };
                lists.push(list);
            }
        }
        if let Some(report) = receiver.next_report(*time) {
            lobby.message(ConnectionId(1), &report);
        }
    }
    lists
}

#[test]
fn a_lobby_by_itself_tells_its_rooms_and_to_who_does_not_listen_no_more_than_once() {
    let mut lobby = Lobby::new(HostLimits::default(), false);
    for name in ["attic", "cellar"] {
        lobby.open_room(&blueprint(), RoomOptions::named(name)).unwrap();
    }
    lobby.set_listed("cellar", true);
    lobby.connected(ConnectionId(1), Visitor { player: EntityId::named("ann"), name: "ann".to_owned(), room: None });
    let (mut receiver, mut time) = (Receiver::default(), Duration::from_secs(1));
    assert!(ten_seconds(&mut lobby, &mut receiver, &mut time, false).is_empty());
    // What was queued for her meanwhile comes now: one answer, and then those of ten seconds.
    let lists = ten_seconds(&mut lobby, &mut receiver, &mut time, true);
    assert!((5..=22).contains(&lists.len()), "{}", lists.len());
    assert!(lists.iter().all(|list| said(list) == [("cellar", 0, 256, Availability::Open)]));
    assert!(lists.iter().all(|list| list.prefix == "cellar"), "the last question counts");
    let counters = lobby.counters();
    assert_eq!((counters.malformed, counters.out_of_turn), (0, 0));
    // In a room it is too late to ask.
    let fingerprint = lobby.room("cellar").unwrap().world().resource::<Protocol>().fingerprint();
    let hello = ClientMessage::Hello { fingerprint, room: "cellar".to_owned(), spectate: false, resume: None };
    lobby.message(ConnectionId(1), &hello.encode());
    lobby.message(ConnectionId(1), &asks(""));
    assert_eq!(lobby.counters().out_of_turn, 1);
}

#[test]
fn who_joins_no_room_for_ten_minutes_is_let_go() {
    let mut lobby = Lobby::new(HostLimits::default(), false);
    lobby.connected(ConnectionId(1), Visitor { player: EntityId::named("ann"), name: "ann".to_owned(), room: None });
    let (mut receiver, mut told) = (Receiver::default(), Vec::new());
    for second in 1..=620 {
        let (time, mut packets) = (Duration::from_secs(second), Vec::new());
        lobby.advance(time);
        lobby.pump(|_, own, shared| packets.push(Bytes::from([own, shared].concat())));
        for packet in &packets {
            told.extend(receiver.take(time, packet).unwrap().iter().map(|message| (second, ServerMessage::decode(message).unwrap())));
        }
        if let Some(report) = receiver.next_report(time) {
            lobby.message(ConnectionId(1), &report);
        }
    }
    assert!(matches!(&told[..], [(600..=602, ServerMessage::Refused(Refusal::Kicked(_)))]), "{told:?}");
    assert_eq!((lobby.counters().kicked, lobby.has_sessions()), (1, false));
}

#[test]
fn a_room_whose_template_is_not_known_any_more_is_not_told_of() {
    let store = MemoryStore::default();
    let templates = |host: &mut Host| {
        host.template("arena", listed(arena(8)));
        host.template("den", arena(8));
    };
    let running = Running::start(HostOptions::default(), Some(store.clone()), |host| {
        templates(host);
        host.open("secret", "den").unwrap();
        host.open("arena/main", "arena").unwrap();
    });
    until("both are stored", &mut [], |_| ["secret", "arena/main"].iter().all(|room| running.status(room).status.tick.0 > 5));
    assert!(running.stop());
    // Whoever started it named them; now nobody does. By its name one is the arena's.
    let running = Running::start(HostOptions::default(), Some(store), |host| {
        templates(host);
        host.take_up("secret").unwrap();
        host.take_up("arena/main").unwrap();
    });
    assert_eq!(running.status("secret").template, "arena", "a guess");
    let mut ann = browse(&Credentials::unauthenticated(running.address, "ann"));
    assert!(ask(&mut ann, ""));
    until("she is told", &mut [&mut ann], |all| !heard(all[0]).is_empty());
    let names = |player: &Player| heard(player).last().unwrap().rooms.iter().map(|room| room.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ann), ["arena/main"]);
    // Whoever opens it by a template that is listed lets it be told of.
    running.handle().close("secret", "to be opened anew").unwrap();
    until("it is opened anew", &mut [&mut ann], |_| running.handle().open("secret", "arena").is_ok());
    until("she is told of it", &mut [&mut ann], |all| {
        ask(all[0], "");
        names(all[0]) == ["arena/main", "secret"]
    });
    assert!(running.stop());
}
