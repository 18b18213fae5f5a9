//! A client in a simulation: a real Bevy `App` with a replica, at the end of a simulated link.

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::link::ReliableLane;
use crate::client::{Connection, ConnectionState, Diverged, Replica, ReplicaPlugin};
use crate::host::ConnectionId;
use crate::predict::{Mispredicted, PredictPlugin, Prediction};
use crate::protocol::{Accepted, CommandId, Durable, EntityAdded, EntityId, EntityRemoved, Link, LinkConditions, Protocol, Rejected};
use crate::room::Blueprint;

/// What a simulated client was told, in order.
#[derive(Resource, Debug, Default)]
pub struct Told {
    /// The commands that were accepted.
    pub accepted: Vec<CommandId>,
    /// The commands that were rejected.
    pub rejected: Vec<Rejected>,
    /// The entities that were added.
    pub added: Vec<EntityId>,
    /// The entities that were removed.
    pub removed: Vec<EntityId>,
    /// The differences to the room that were found.
    pub diverged: Vec<Diverged>,
    /// The commands of which it was said that they are stored.
    pub durable: Vec<CommandId>,
    /// The predictions that were wrong.
    pub mispredicted: Vec<Mispredicted>,
}

/// What a client does by itself each tick, before its commands are sent.
type Bot = Box<dyn FnMut(&mut World)>;

/// A client in a simulation.
pub struct SimClient {
    pub(super) app: App,
    pub(super) connection: ConnectionId,
    pub(super) player: EntityId,
    pub(super) up: ReliableLane,
    /// Reports of what arrived.
    pub(super) reports: Link,
    pub(super) down: Link,
    pub(super) connected: bool,
    /// The packets that came, if they are kept.
    kept: Option<Vec<Bytes>>,
    /// Ticks since it vanished without a word.
    pub(super) silent_ticks: Option<u32>,
    pub(super) bot: Option<Bot>,
}

impl std::fmt::Debug for SimClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimClient").field("player", &self.player).field("state", self.state()).finish_non_exhaustive()
    }
}

impl SimClient {
    pub(super) fn new(
        (blueprint, predicts): (&Blueprint, bool),
        player: EntityId,
        connection: ConnectionId,
        conditions: LinkConditions,
        seed: u64,
    ) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin).init_resource::<Told>();
        if predicts {
            app.add_plugins(PredictPlugin::of(blueprint.clone()));
        }
        blueprint.add_protocol(&mut app);
        app.add_observer(|wrong: On<Mispredicted>, mut told: ResMut<Told>| told.mispredicted.push((*wrong).clone()));
        app.add_observer(|accepted: On<Accepted>, mut told: ResMut<Told>| told.accepted.push(accepted.id));
        app.add_observer(|durable: On<Durable>, mut told: ResMut<Told>| told.durable.push(durable.id));
        app.add_observer(|rejected: On<Rejected>, mut told: ResMut<Told>| told.rejected.push((*rejected).clone()));
        app.add_observer(|added: On<EntityAdded>, mut told: ResMut<Told>| told.added.push(added.id));
        app.add_observer(|removed: On<EntityRemoved>, mut told: ResMut<Told>| told.removed.push(removed.id));
        app.add_observer(|diverged: On<Diverged>, mut told: ResMut<Told>| told.diverged.push((*diverged).clone()));
        app.finish();
        app.cleanup();
        let up = ReliableLane::new(conditions, seed);
        let (reports, down) = (Link::new(conditions, seed), Link::new(conditions, seed.wrapping_add(1)));
        Self { app, connection, player, up, reports, down, connected: true, kept: None, silent_ticks: None, bot: None }
    }

    /// Puts it at the end of a new link like the last one.
    pub(super) fn renew(&mut self, connection: ConnectionId, seed: u64) {
        let conditions = self.down.conditions;
        self.up = ReliableLane::new(conditions, seed);
        (self.reports, self.down) = (Link::new(conditions, seed), Link::new(conditions, seed.wrapping_add(1)));
        (self.connection, self.connected, self.silent_ticks) = (connection, true, None);
    }

    pub(super) fn join(&mut self, room: &str, spectate: bool) {
        self.app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| {
            connection.join(world.resource::<Protocol>(), room, spectate);
        });
    }

    /// The client's own world.
    pub fn world(&self) -> &World {
        self.app.world()
    }

    /// The client's own world, to add observers or to read by queries.
    pub fn world_mut(&mut self) -> &mut World {
        self.app.world_mut()
    }

    /// The client's app, to add systems.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.app
    }

    /// Where the connection stands.
    pub fn state(&self) -> &ConnectionState {
        self.world().resource::<Connection>().state()
    }

    /// True if it holds the room's state.
    pub fn is_live(&self) -> bool {
        self.state().is_in_room() && self.world().resource::<Replica>().is_live()
    }

    /// The id of its player, and of the player's entity.
    pub fn player(&self) -> EntityId {
        self.player
    }

    /// Keeps the packets that come from now on: all bytes that the host sends it, as they are before they are encrypted.
    pub fn keep_packets(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The packets that were kept.
    pub fn packets(&self) -> &[Bytes] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// What became of its predictions. It predicts if [`Sim::predicting`](super::Sim::predicting) was called before it came.
    pub fn prediction(&self) -> &Prediction {
        self.world().resource::<Prediction>()
    }

    /// What it was told.
    pub fn told(&self) -> &Told {
        self.world().resource::<Told>()
    }

    pub(super) fn told_mut(&mut self) -> Mut<'_, Told> {
        self.app.world_mut().resource_mut::<Told>()
    }

    /// Takes in what has arrived up to a time, each packet at its own, and reports it as soon as that is due.
    pub(super) fn receive(&mut self, now: Duration) {
        let mut connection = self.app.world_mut().resource_mut::<Connection>();
        while let Some(at) = self.down.next_arrival().filter(|at| *at <= now && self.silent_ticks.is_none()) {
            connection.set_now(at);
            if let Some(packet) = self.down.receive(at) {
                self.kept.iter_mut().for_each(|kept| kept.push(packet.clone()));
                connection.deliver(packet);
            }
            if let Some(report) = connection.next_report() {
                self.reports.send(at, report);
            }
        }
        connection.set_now(now);
        if let Some(report) = connection.next_report().filter(|_| self.silent_ticks.is_none()) {
            self.reports.send(now, report);
        }
    }

    /// Draws a frame: takes in what has arrived up to a time, runs the app, sends what it says.
    pub(super) fn frame(&mut self, now: Duration) {
        self.receive(now);
        self.app.update();
        self.say(now.as_millis() as u64);
    }

    /// Sends what it has to say, at a time in milliseconds.
    pub(super) fn say(&mut self, now: u64) {
        let mut connection = self.app.world_mut().resource_mut::<Connection>();
        while let Some(message) = connection.next_outgoing() {
            self.up.send(now, message);
        }
    }

    /// True if nothing is on its way to it or from it that counts: reports only tell what is there.
    pub(super) fn is_quiet(&self) -> bool {
        self.up.in_flight() + self.down.in_flight() == 0
    }

    /// Changes the link, both ways, for what is sent from now on.
    pub fn set_link(&mut self, conditions: LinkConditions) {
        self.up.conditions = conditions;
        self.reports.conditions = conditions;
        self.down.conditions = conditions;
    }
}
