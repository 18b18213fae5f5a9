//! Who gets a seat, who keeps it, and who is shown out: a lobby, and clients that say what they like when they like.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use roomkeeper::client::{Connection, ConnectionState, ReplicaPlugin, issue};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, CommandId, LeaveReason, Protocol, Refusal};
use roomkeeper::room::{Blueprint, Facts, Join, RoomOptions};
use serde::{Deserialize, Serialize};

const ROOM: &str = "duel";

#[derive(Serialize, Deserialize)]
struct Shout;
#[derive(Clone, Serialize, Deserialize)]
struct Shouted;

fn protocol(app: &mut App) {
    app.command::<Shout>("shout").stateless_fact::<Shouted>("shouted");
}

fn rules(app: &mut App) {
    app.decide(|_: In<Issued<Shout>>| -> Decision { accept(Shouted) });
    app.decide(|join: In<Issued<Join>>| -> Decision {
        if join.name == "banned" { reject("banned") } else { Ok(Facts::new()) }
    });
}

/// A lobby with a room of two seats.
fn lobby(limits: HostLimits, takeover: bool) -> Lobby {
    let mut lobby = Lobby::new(limits, takeover);
    lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions::named(ROOM)).unwrap();
    lobby.set_capacity(ROOM, 2);
    lobby
}

/// A client, and its connection.
struct Guest {
    id: ConnectionId,
    app: App,
}

impl Guest {
    /// Connects, and asks to be let in. What it is told it hears with the next tick.
    fn come(lobby: &mut Lobby, number: u64, name: &str) -> Self {
        Self::come_as(lobby, number, name, name)
    }

    fn come_as(lobby: &mut Lobby, number: u64, player: &str, name: &str) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        protocol(&mut app);
        app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| connection.join(world.resource::<Protocol>(), ROOM, false));
        let id = ConnectionId(number);
        lobby.connected(id, Visitor { player: EntityId::named(player), name: name.to_owned(), room: None });
        let mut guest = Self { id, app };
        guest.say(lobby);
        guest
    }

    fn say(&mut self, lobby: &mut Lobby) {
        while let Some(message) = self.app.world_mut().resource_mut::<Connection>().next_outgoing() {
            lobby.message(self.id, &message);
        }
    }

    fn state(&self) -> String {
        self.app.world().resource::<Connection>().state().to_string()
    }

    fn is_live(&self) -> bool {
        self.app.world().resource::<Connection>().state() == &ConnectionState::Live
    }
}

/// A tick of the room, and what each is told.
fn tick(lobby: &mut Lobby, guests: &mut [&mut Guest]) {
    lobby.tick_room(ROOM);
    let mut packets: Vec<(ConnectionId, Bytes)> = Vec::new();
    lobby.pump(|to, own, shared| packets.push((to, [own, shared].concat().into())));
    for guest in guests {
        let mine = packets.iter().filter(|(to, _)| *to == guest.id);
        mine.for_each(|(_, packet)| guest.app.world_mut().resource_mut::<Connection>().deliver(packet.clone()));
        guest.app.update();
        guest.say(lobby);
    }
}

fn refused(why: &'static str) -> String {
    ConnectionState::Refused(Refusal::Rejected(Rejection::new(why)), Vec::new()).to_string()
}

#[test]
fn a_player_who_comes_back_to_a_full_room_takes_its_own_seat() {
    let mut lobby = lobby(HostLimits::default(), true);
    let [mut ann, mut ben] = [(1, "ann"), (2, "ben")].map(|(number, name)| Guest::come(&mut lobby, number, name));
    tick(&mut lobby, &mut [&mut ann, &mut ben]);
    assert!(ann.is_live() && ben.is_live());
    let [mut again, mut eve] = [(3, "ann"), (4, "eve")].map(|(number, name)| Guest::come(&mut lobby, number, name));
    tick(&mut lobby, &mut [&mut ann, &mut ben, &mut again, &mut eve]);
    assert!(again.is_live() && ben.is_live(), "{}", again.state());
    assert!(ann.state().contains("you joined from elsewhere"), "{}", ann.state());
    assert_eq!((eve.state(), lobby.member_count(ROOM)), (refused("room_full"), 2));
}

#[test]
fn where_nobody_takes_over_who_is_in_already_hears_so_and_not_that_the_room_is_full() {
    let mut lobby = lobby(HostLimits::default(), false);
    let [mut ann, mut ben] = [(1, "ann"), (2, "ben")].map(|(number, name)| Guest::come(&mut lobby, number, name));
    tick(&mut lobby, &mut [&mut ann, &mut ben]);
    let mut again = Guest::come(&mut lobby, 3, "ann");
    tick(&mut lobby, &mut [&mut ann, &mut ben, &mut again]);
    assert_eq!((again.state(), ann.is_live()), (refused("already_joined"), true));
}

#[test]
fn those_who_ask_within_one_tick_get_no_more_seats_than_there_are() {
    let mut lobby = lobby(HostLimits::default(), true);
    let mut guests: Vec<Guest> = (0..5).map(|number| Guest::come(&mut lobby, number, &format!("user{number}"))).collect();
    tick(&mut lobby, &mut guests.iter_mut().collect::<Vec<_>>());
    let live: Vec<bool> = guests.iter().map(Guest::is_live).collect();
    assert_eq!((live, guests[4].state()), (vec![true, true, false, false, false], refused("room_full")));
    assert_eq!(lobby.room(ROOM).unwrap().members().iter().count(), 2);
}

#[test]
fn whom_the_rules_reject_does_not_get_in_by_asking_twice() {
    let mut lobby = lobby(HostLimits::default(), true);
    let [mut first, mut second] = [1, 2].map(|number| Guest::come(&mut lobby, number, "banned"));
    for _ in 0..3 {
        tick(&mut lobby, &mut [&mut first, &mut second]);
    }
    assert_eq!((second.state(), lobby.member_count(ROOM), lobby.counters().joined), (refused("banned"), 0, 0));
    let [mut first, mut second] = [3, 4].map(|number| Guest::come(&mut lobby, number, "ann"));
    tick(&mut lobby, &mut [&mut first, &mut second]);
    assert!(second.is_live() && !first.is_live());
    assert_eq!((lobby.member_count(ROOM), lobby.counters().joined), (1, 1));
}

#[test]
fn who_asks_goes_and_asks_again_within_a_tick_hears_the_last_answer() {
    let mut lobby = lobby(HostLimits::default(), true);
    let mut ben = Guest::come(&mut lobby, 1, "ben");
    tick(&mut lobby, &mut [&mut ben]);
    let first = Guest::come(&mut lobby, 2, "shy");
    lobby.disconnected(first.id, LeaveReason::Left);
    lobby.disconnected(ben.id, LeaveReason::Left);
    let mut second = Guest::come(&mut lobby, 3, "shy");
    for _ in 0..3 {
        tick(&mut lobby, &mut [&mut second]);
    }
    assert!(second.is_live(), "{}", second.state());
    lobby.disconnected(second.id, LeaveReason::Left);
    tick(&mut lobby, &mut []);
    assert_eq!(lobby.room(ROOM).unwrap().members().iter().count(), 0, "nobody is in it without a connection");
}

#[test]
fn for_whom_the_rules_have_not_decided_no_seat_is_kept() {
    let mut lobby = lobby(HostLimits::default(), true);
    let mut ann = Guest::come(&mut lobby, 1, "ann");
    tick(&mut lobby, &mut [&mut ann]);
    lobby.disconnected(ann.id, LeaveReason::Left);
    let asks = Guest::come_as(&mut lobby, 2, "ann", "banned");
    lobby.disconnected(asks.id, LeaveReason::Timeout);
    tick(&mut lobby, &mut []);
    let mut again = Guest::come_as(&mut lobby, 3, "ann", "banned");
    for _ in 0..3 {
        tick(&mut lobby, &mut [&mut again]);
    }
    assert_eq!((again.state(), lobby.member_count(ROOM)), (refused("banned"), 0));
}

#[test]
fn a_seat_that_was_kept_goes_to_the_last_of_those_who_come_back_to_it() {
    let mut lobby = lobby(HostLimits::default(), true);
    let mut ann = Guest::come(&mut lobby, 1, "ann");
    tick(&mut lobby, &mut [&mut ann]);
    lobby.disconnected(ann.id, LeaveReason::Timeout);
    let [mut first, mut second] = [2, 3].map(|number| Guest::come(&mut lobby, number, "ann"));
    for _ in 0..3 {
        tick(&mut lobby, &mut [&mut first, &mut second]);
    }
    assert!(second.is_live() && !first.is_live(), "{} {}", first.state(), second.state());
    assert_eq!(lobby.member_count(ROOM), 1);
}

#[test]
fn numbers_of_an_earlier_stay_reach_no_room_nor_do_those_that_leave_some_out() {
    let mut lobby = lobby(HostLimits::default(), true);
    let shout = |lobby: &mut Lobby, guest: &Guest, number: u32| {
        let command = ClientMessage::Command { id: CommandId(number), kind: 0, seen: None, payload: Bytes::new() };
        lobby.message(guest.id, &command.encode());
    };
    let last = |lobby: &Lobby| lobby.room(ROOM).unwrap().members().last_command(EntityId::named("ann"));
    let mut first = Guest::come(&mut lobby, 1, "ann");
    tick(&mut lobby, &mut [&mut first]);
    (1..=5).for_each(|number| shout(&mut lobby, &first, number));
    tick(&mut lobby, &mut [&mut first]);
    assert_eq!(last(&lobby), CommandId(5));
    lobby.disconnected(first.id, LeaveReason::Left);
    tick(&mut lobby, &mut []);
    let mut second = Guest::come(&mut lobby, 2, "ann");
    tick(&mut lobby, &mut [&mut second]);
    assert!(second.is_live(), "{}", second.state());
    let told = second.app.world().resource::<Connection>().last_command();
    assert_eq!((told, last(&lobby)), (CommandId(6), CommandId(6)));
    // All that she may have said before, and what she has not come to yet.
    (0..=6).chain([8, 9, u32::MAX]).for_each(|number| shout(&mut lobby, &second, number));
    tick(&mut lobby, &mut [&mut second]);
    assert_eq!((last(&lobby), lobby.counters().commands, lobby.counters().out_of_turn), (CommandId(6), 5, 3));
    shout(&mut lobby, &second, 7);
    tick(&mut lobby, &mut [&mut second]);
    assert_eq!((last(&lobby), lobby.counters().commands, lobby.counters().out_of_turn), (CommandId(7), 6, 3));
}

#[test]
fn who_comes_back_to_its_seat_goes_on_where_the_room_is_though_more_was_said() {
    let mut limits = HostLimits::default();
    limits.commands_waiting_max = 3;
    let mut lobby = lobby(limits, true);
    let last = |lobby: &Lobby| lobby.room(ROOM).unwrap().members().last_command(EntityId::named("ann"));
    let shout = |lobby: &mut Lobby, guest: &mut Guest, times: u32| {
        for _ in 0..times {
            issue(guest.app.world_mut(), &Shout).unwrap();
        }
        guest.say(lobby);
    };
    let mut first = Guest::come(&mut lobby, 1, "ann");
    tick(&mut lobby, &mut [&mut first]);
    // What does not fit into a tick never gets to the room.
    shout(&mut lobby, &mut first, 8);
    tick(&mut lobby, &mut [&mut first]);
    assert_eq!(last(&lobby), CommandId(3));
    shout(&mut lobby, &mut first, 1);
    tick(&mut lobby, &mut [&mut first]);
    assert_eq!(last(&lobby), CommandId(9));
    shout(&mut lobby, &mut first, 8);
    lobby.disconnected(first.id, LeaveReason::Timeout);
    let mut second = Guest::come(&mut lobby, 2, "ann");
    tick(&mut lobby, &mut [&mut second]);
    assert_eq!((last(&lobby), lobby.counters().returned), (CommandId(12), 1));
    shout(&mut lobby, &mut second, 2);
    tick(&mut lobby, &mut [&mut second]);
    assert_eq!((last(&lobby), lobby.counters().out_of_turn), (CommandId(14), 0));
}

#[test]
fn who_asks_for_ever_and_never_takes_the_answers_is_shown_out() {
    let limits = HostLimits::default();
    let mut lobby = lobby(limits, true);
    let [mut ann, mut ben] = [(1, "ann"), (2, "ben")].map(|(number, name)| Guest::come(&mut lobby, number, name));
    tick(&mut lobby, &mut [&mut ann, &mut ben]);
    assert!(ann.is_live() && ben.is_live());
    let mut ticks = 0;
    while lobby.counters().kicked == 0 {
        ticks += 1;
        assert!(ticks < 20_000, "it is kept for ever");
        for n in 0..64 {
            let shout = |id| ClientMessage::Command { id: CommandId(id), kind: 0, seen: None, payload: Bytes::new() };
            lobby.message(ann.id, &shout((ticks - 1) * 64 + n + 1).encode());
        }
        // Ann reports nothing; Ben hears all that he is told.
        tick(&mut lobby, &mut [&mut ben]);
    }
    // So much may wait, and no more: 64 answers of a tick cost some three bytes each.
    assert!(ticks > 1_000, "{ticks}");
    tick(&mut lobby, &mut [&mut ben]);
    assert!(ben.is_live());
    assert_eq!((lobby.member_count(ROOM), lobby.room(ROOM).unwrap().members().iter().count()), (1, 1));
}

#[test]
fn whose_seat_is_kept_can_be_put_out_all_the_same() {
    let mut lobby = lobby(HostLimits::default(), true);
    let mut ann = Guest::come(&mut lobby, 1, "ann");
    tick(&mut lobby, &mut [&mut ann]);
    lobby.disconnected(ann.id, LeaveReason::Timeout);
    assert!(lobby.kick(ROOM, EntityId::named("ann"), "enough"));
    tick(&mut lobby, &mut []);
    assert_eq!(lobby.room(ROOM).unwrap().members().iter().count(), 0);
    let mut again = Guest::come_as(&mut lobby, 2, "ann", "banned");
    (0..2).for_each(|_| tick(&mut lobby, &mut [&mut again]));
    assert_eq!(again.state(), refused("banned"), "the rules are asked");
}
