//! A host that stands still for a while, and leaves out the ticks that it missed: what a client foresaw for them is taken back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use crate::foreseen::id;
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, Replica, ReplicaPlugin, issue};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::predict::{PredictPlugin, PredictedUpdate};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Protocol;
use roomkeeper::room::{Blueprint, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Place(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Pace(f32);

#[derive(Serialize, Deserialize)]
struct Walk(f32);
#[derive(Clone, Serialize, Deserialize)]
struct Walked {
    who: EntityId,
    pace: f32,
}

fn protocol(app: &mut App) {
    app.sync::<Place>("place").latest();
    app.sync::<Pace>("pace");
    app.command::<Walk>("walk").fact::<Walked>("walked");
}

fn rules(app: &mut App) {
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Place(0.0), Pace(0.0)));
    });
    app.decide(|walk: In<Issued<Walk>>| -> Decision { accept(Walked { who: walk.author_id, pace: walk.command.0 }) });
    app.apply(|walked: On<Happened<Walked>>, index: Res<EntityIndex>, mut paces: Query<&mut Pace>| {
        index.entity(walked.who).and_then(|who| paces.get_mut(who).ok()).into_iter().for_each(|mut pace| pace.0 = walked.pace);
    });
    app.add_systems(FixedUpdate, go).add_systems(PredictedUpdate, go);
}

fn go(mut walkers: Query<(&mut Place, &Pace)>) {
    for (mut place, pace) in walkers.iter_mut().filter(|(_, pace)| pace.0 != 0.0) {
        place.0 += pace.0;
    }
}

const ANN: ConnectionId = ConnectionId(1);

/// A room, and ann who is alone in it. Time goes on for her where it does not for the host.
struct Stage {
    lobby: Lobby,
    client: App,
    now: Duration,
}

impl Stage {
    fn new() -> Self {
        let blueprint = Blueprint::new(protocol, rules);
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.open_room(&blueprint, RoomOptions::named("main")).unwrap();
        lobby.connected(ANN, Visitor { player: id("ann"), name: "ann".to_owned(), room: None });
        let mut client = App::new();
        client.add_plugins((ReplicaPlugin, PredictPlugin::of(blueprint)));
        protocol(&mut client);
        client.finish();
        client.cleanup();
        client.world_mut().resource_scope(|world, mut connection: Mut<Connection>| {
            connection.join(world.resource::<Protocol>(), "main", false);
        });
        Self { lobby, client, now: Duration::ZERO }
    }

    /// The host stands still for so many ticks; what ann reports meanwhile waits there, not here.
    fn stall(&mut self, ticks: u32) {
        let mut waits = Vec::new();
        for _ in 0..ticks {
            self.now += Duration::from_millis(50);
            let mut connection = self.client.world_mut().resource_mut::<Connection>();
            connection.set_now(self.now);
            waits.extend(connection.next_report());
            self.client.update();
        }
        self.lobby.advance(self.now);
        waits.iter().for_each(|report| self.lobby.message(ANN, report));
    }

    /// So many ticks' time passes, in which the host is there, or stands still.
    fn pass(&mut self, ticks: u32, is_there: bool) {
        for _ in 0..ticks {
            self.now += Duration::from_millis(50);
            let mut connection = self.client.world_mut().resource_mut::<Connection>();
            connection.set_now(self.now);
            if is_there {
                self.lobby.advance(self.now);
                while let Some(message) = connection.next_outgoing().or_else(|| connection.next_report()) {
                    self.lobby.message(ANN, &message);
                }
                assert!(self.lobby.tick_room("main").is_some_and(|report| report.fault.is_none()));
                self.lobby.pump(|_, own, shared| connection.deliver([own, shared].concat().into()));
            }
            self.client.update();
        }
    }

    /// Where ann sees herself.
    fn seen(&self) -> f32 {
        let world = self.client.world();
        world.get::<Place>(world.resource::<Replica>().user_entity().unwrap()).unwrap().0
    }

    /// How far that is ahead of where the room has her.
    fn ahead(&self) -> f32 {
        let room = self.lobby.room("main").unwrap();
        self.seen() - room.world().get::<Place>(room.entity(id("ann")).unwrap()).unwrap().0
    }
}

#[test]
fn who_walks_goes_on_from_where_the_room_has_her_after_a_host_that_stood_still() {
    let mut stage = Stage::new();
    stage.pass(40, true);
    issue(stage.client.world_mut(), &Walk(1.0)).unwrap();
    stage.pass(40, true);
    assert!(stage.seen() > 30.0 && stage.ahead().abs() < 5.0, "{} ahead", stage.ahead());
    stage.pass(60, false);
    assert!(stage.ahead() > 50.0, "{} ahead", stage.ahead());
    // Of some ticks it is only known that they are late.
    stage.pass(20, true);
    let began = stage.seen();
    for n in 1..=30 {
        stage.pass(1, true);
        assert!(stage.ahead().abs() < 5.0, "{n}: {} ahead", stage.ahead());
    }
    assert!(stage.seen() > began + 25.0, "from {began} to {}", stage.seen());
}

#[test]
fn a_host_that_stood_still_does_not_take_its_members_ways_for_full() {
    for phase in 0..6 {
        let mut stage = Stage::new();
        stage.pass(20, true);
        issue(stage.client.world_mut(), &Walk(1.0)).unwrap();
        stage.pass(40 + phase, true);
        let before = stage.lobby.path(ANN).unwrap().1;
        stage.stall(5);
        stage.pass(20, true);
        let after = stage.lobby.path(ANN).unwrap().1;
        assert!(after >= before / 2.0, "phase {phase}: from {before} to {after}");
    }
}
