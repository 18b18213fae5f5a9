//! Rooms, clients and links in one process, without a clock: what a game's own tests use.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use serde::Serialize;

use super::client::SimClient;
use crate::client::{IssueError, issue, replica_state};
use crate::host::{ConnectionId, HostLimits, Lobby, Visitor};
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{CommandId, EntityId, LeaveReason, LinkConditions, Protocol, RoomTick, State};
use crate::room::{Blueprint, Level, Recorded, Room, RoomFault, RoomOptions, take_errors};

/// The name of the simulated room.
const ROOM: &str = "sim";

/// How long the host waits for a silent client, in ticks: 5 s, as over UDP.
pub const TIMEOUT_TICKS: u32 = 100;

/// A room and its clients in one process, without a clock: a tick is as fast as it can be computed, and the same seed
/// gives the same run.
///
/// The client side is the real one, an `App` with a replica per client, and so are the lobby and the room; only the link
/// between them is simulated.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::sim::Sim;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Ammo(u32);
/// #[derive(Serialize, Deserialize)]
/// struct Fire;
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Fired { by: EntityId }
///
/// fn protocol(app: &mut App) {
///     app.sync::<Ammo>("ammo");
///     app.command::<Fire>("fire").fact::<Fired>("fired");
/// }
/// fn decide_fire(fire: In<Issued<Fire>>, shooters: Query<&Ammo>) -> Decision {
///     if shooters.get(fire.author)?.0 == 0 {
///         return reject("no_ammo");
///     }
///     accept(Fired { by: fire.author_id })
/// }
/// fn use_ammo(fired: On<Happened<Fired>>, index: Res<EntityIndex>, mut ammo: Query<&mut Ammo>) -> Result {
///     let Some(shooter) = index.entity(fired.by) else { return Ok(()) };
///     ammo.get_mut(shooter)?.0 -= 1;
///     Ok(())
/// }
/// fn rules(app: &mut App) {
///     app.decide(decide_fire).apply(use_ammo);
/// }
///
/// let mut sim = Sim::new(protocol, rules).seed(7).client("ann");
/// sim.give("ann", Ammo(1)).issue("ann", &Fire).issue("ann", &Fire).tick();
/// assert_eq!(sim.facts(), ["fired"]);
/// assert_eq!(sim.rejections("ann"), ["no_ammo"]);
/// sim.assert_converged();
/// ```
///
/// # Panics
/// It is made for tests: its methods panic, with a message, where a test should fail.
pub struct Sim {
    blueprint: Blueprint,
    options: RoomOptions,
    conditions: LinkConditions,
    predicting: bool,
    limits: HostLimits,
    frames_per_second: Option<u32>,
    lobby: Option<Lobby>,
    clients: BTreeMap<String, SimClient>,
    connections: u64,
    millis: u64,
    facts: Vec<Recorded>,
    batches: Vec<(RoomTick, Bytes)>,
    fault: Option<RoomFault>,
    errors: Vec<String>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("millis", &self.millis).field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// How a simulation is set up. All before the first client.
impl Sim {
    /// A simulation of a game.
    pub fn new(protocol: impl Fn(&mut App) + Send + Sync + 'static, rules: impl Fn(&mut App) + Send + Sync + 'static) -> Self {
        Self::of(Blueprint::new(protocol, rules))
    }

    /// A simulation of a game.
    pub fn of(blueprint: Blueprint) -> Self {
        Self {
            blueprint,
            options: RoomOptions { check: true, ..RoomOptions::named(ROOM) },
            conditions: LinkConditions::PERFECT,
            predicting: false,
            limits: HostLimits::default(),
            frames_per_second: None,
            lobby: None,
            clients: BTreeMap::new(),
            connections: 0,
            millis: 0,
            facts: Vec::new(),
            batches: Vec::new(),
            fault: None,
            errors: Vec::new(),
        }
    }

    /// The seed of the room's and the links' chance. Default: 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// The level that the room starts with.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.options.level = Some(level);
        self
    }

    /// Other options of the room. Its name stays.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut RoomOptions)) -> Self {
        change(&mut self.options);
        self.options.name = ROOM.to_owned();
        self
    }

    /// The links of the clients that come from now on.
    #[must_use]
    pub fn link(mut self, conditions: LinkConditions) -> Self {
        self.conditions = conditions;
        self
    }

    /// Lets the clients that come from now on predict what their commands do. See [`predict`](crate::predict).
    #[must_use]
    pub fn predicting(mut self) -> Self {
        self.predicting = true;
        self
    }

    /// Other limits of the host.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut HostLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Lets the clients draw so often between the ticks, as a game does, and not once with each tick. Commands go out with the frames, bots
    /// run before the frames of a tick.
    #[must_use]
    pub fn frames(mut self, per_second: u32) -> Self {
        self.frames_per_second = Some(per_second).filter(|per_second| *per_second > 0);
        self
    }

    /// Adds a client and runs until it is in the room.
    #[must_use]
    pub fn client(mut self, name: &str) -> Self {
        self.join(name);
        self
    }
}

/// What happens in it.
impl Sim {
    /// Adds a client and runs until it is in the room.
    pub fn join(&mut self, name: &str) -> &mut Self {
        self.connect(name, false);
        for _ in 0..2_000 {
            if self.client_of(name).is_live() {
                return self;
            }
            self.tick();
        }
        panic!("{name} is not in the room after 100 s: {}", self.client_of(name).state());
    }

    /// Adds a client, or a spectator, that is on its way into the room.
    pub fn connect(&mut self, name: &str, spectate: bool) -> &mut Self {
        self.start();
        assert!(!self.clients.contains_key(name), "there is a client {name} already");
        let (connection, seed) = self.next_connection();
        let player = EntityId::named(name);
        let mut client = SimClient::new((&self.blueprint, self.predicting), player, connection, self.conditions, seed);
        client.join(ROOM, spectate);
        self.clients.insert(name.to_owned(), client);
        self.lobby_mut().connected(connection, Visitor { player, name: name.to_owned(), room: None });
        self
    }

    /// The next connection, and where the chance of its links starts.
    fn next_connection(&mut self) -> (ConnectionId, u64) {
        self.connections += 1;
        let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.connections * 2);
        (ConnectionId(self.connections), seed)
    }

    /// Lets a client that [vanished](Self::vanish), or was put out, connect again, with the replica that it kept. A connection that the host
    /// still takes to be alive ends with it. What was on the way is lost.
    pub fn reconnect(&mut self, name: &str, spectate: bool) -> &mut Self {
        let (connection, seed) = self.next_connection();
        let client = self.client_mut(name);
        let (older, player) = (client.connected.then_some(client.connection), client.player);
        client.renew(connection, seed);
        client.join(ROOM, spectate);
        let lobby = self.lobby_mut();
        older.into_iter().for_each(|older| lobby.disconnected(older, LeaveReason::Timeout));
        lobby.connected(connection, Visitor { player, name: name.to_owned(), room: None });
        self
    }

    /// Lets a client say goodbye and go.
    pub fn leave(&mut self, name: &str) -> &mut Self {
        let client = self.client_mut(name);
        client.world_mut().resource_mut::<crate::client::Connection>().leave();
        self.tick_while(|sim| sim.client_of(name).connected);
        self.clients.remove(name);
        self
    }

    /// Cuts a client off without a word: the host notices after [`TIMEOUT_TICKS`].
    pub fn vanish(&mut self, name: &str) -> &mut Self {
        self.client_mut(name).silent_ticks = Some(0);
        self
    }

    /// Puts a component on the entity of a client's player, in the room.
    pub fn give(&mut self, name: &str, bundle: impl Bundle) -> &mut Self {
        let player = self.client_of(name).player;
        let room = self.room_mut();
        let Some(entity) = room.entity(player) else { panic!("{name} has no entity in the room") };
        room.world_mut().entity_mut(entity).insert(bundle);
        self
    }

    /// Lets a client issue a command.
    pub fn issue<C: Serialize + 'static>(&mut self, name: &str, command: &C) -> &mut Self {
        if let Err(error) = self.try_issue(name, command) {
            panic!("{name} can't issue {}: {error}", std::any::type_name::<C>());
        }
        self
    }

    /// Lets a client issue a command, if it can.
    ///
    /// # Errors
    /// If it can't.
    pub fn try_issue<C: Serialize + 'static>(&mut self, name: &str, command: &C) -> Result<CommandId, IssueError> {
        issue(self.client_mut(name).world_mut(), command)
    }

    /// Lets a client act by itself: the function runs each tick, before the client's commands are sent.
    pub fn bot(&mut self, name: &str, bot: impl FnMut(&mut World) + 'static) -> &mut Self {
        self.client_mut(name).bot = Some(Box::new(bot));
        self
    }

    /// Runs one tick: the clients' messages travel, the room ticks, its messages travel, the clients apply them.
    pub fn tick(&mut self) -> &mut Self {
        self.start();
        self.send_up();
        self.tick_room();
        self.send_down();
        if self.frames_per_second.is_none() {
            self.clients.values_mut().for_each(|client| client.app.update());
        }
        self
    }

    /// Draws the frames between two ticks. The first is half a frame after time began, so that none falls together with a tick.
    fn draw(&mut self, from: u64, to: u64) {
        let Some(rate) = self.frames_per_second.map(u64::from) else { return };
        let nth = |millis: u64| (millis * rate * 2 + 1_000) / 2_000;
        for frame in nth(from)..nth(to) {
            let at = Duration::from_micros((frame * 2 + 1) * 500_000 / rate);
            self.clients.values_mut().filter(|client| client.connected).for_each(|client| client.frame(at));
        }
    }

    /// Runs some ticks.
    pub fn run_ticks(&mut self, ticks: u32) -> &mut Self {
        for _ in 0..ticks {
            self.tick();
        }
        self
    }

    /// Runs until a condition fails, at most 2,000 ticks.
    pub fn tick_while(&mut self, mut condition: impl FnMut(&Self) -> bool) -> &mut Self {
        for _ in 0..2_000 {
            if !condition(self) {
                return self;
            }
            self.tick();
        }
        panic!("the condition still holds after 100 s of room time");
    }

    /// Runs until nothing is on the way any more and every client holds the room's newest batch.
    pub fn settle(&mut self) -> &mut Self {
        self.tick();
        self.tick_while(|sim| {
            sim.clients.values().any(|client| client.connected && (!client.is_quiet() || !client.is_live() || !sim.is_current(client)))
        })
    }

    /// True if a client has all that the room ever told it.
    fn is_current(&self, client: &SimClient) -> bool {
        let connection = client.world().resource::<crate::client::Connection>();
        self.lobby.as_ref().is_some_and(|lobby| lobby.is_current(client.connection, |seq| connection.has_packet(seq)))
    }

    fn start(&mut self) {
        if self.lobby.is_some() {
            return;
        }
        let mut lobby = Lobby::new(self.limits, false);
        lobby.begin_epoch(self.options.seed);
        if let Err(error) = lobby.open_room(&self.blueprint, self.options.clone()) {
            panic!("the room can't be built: {error}");
        }
        if let Some(room) = lobby.room(ROOM) {
            self.facts.extend(room.opening().facts.iter().cloned());
            self.batches.extend(room.opening().batch.iter().map(|batch| (RoomTick(0), batch.clone())));
        }
        self.lobby = Some(lobby);
    }

    fn send_up(&mut self) {
        let sent = self.millis;
        self.millis += TICK_MILLIS;
        let now = self.millis;
        for client in self.clients.values_mut().filter(|client| client.connected) {
            if let Some(bot) = &mut client.bot {
                bot(client.app.world_mut());
            }
            client.say(sent);
        }
        self.draw(sent, now);
        let Some(lobby) = &mut self.lobby else { return };
        for client in self.clients.values_mut().filter(|client| client.connected) {
            client.receive(Duration::from_millis(now));
            if let Some(silent) = &mut client.silent_ticks {
                *silent += 1;
                if *silent >= TIMEOUT_TICKS {
                    client.connected = false;
                    lobby.disconnected(client.connection, LeaveReason::Timeout);
                }
                continue;
            }
            while let Some(message) = client.up.receive(now) {
                lobby.message(client.connection, &message);
            }
        }
        self.take_reports();
    }

    /// Lets the host hear what arrived at the clients, each report at its time.
    fn take_reports(&mut self) {
        let Some(lobby) = &mut self.lobby else { return };
        let now = Duration::from_millis(self.millis);
        let here = self.clients.values_mut().filter(|client| client.connected && client.silent_ticks.is_none());
        let mut reports: Vec<(Duration, ConnectionId, Bytes)> = Vec::new();
        for client in here {
            while let Some(at) = client.reports.next_arrival().filter(|at| *at <= now) {
                reports.extend(client.reports.receive(at).map(|report| (at, client.connection, report)));
            }
        }
        reports.sort_by_key(|(at, ..)| *at);
        for (at, connection, report) in reports {
            lobby.advance(at);
            lobby.message(connection, &report);
        }
        lobby.advance(now);
    }

    fn tick_room(&mut self) {
        let Some(lobby) = &mut self.lobby else { return };
        lobby.advance(Duration::from_millis(self.millis));
        let report = lobby.tick_room(ROOM);
        self.errors.extend(take_errors());
        let Some(report) = report else { return };
        self.facts.extend(report.facts);
        self.batches.extend(report.batch.map(|batch| (report.tick, batch)));
        self.fault = report.fault.or(self.fault.take());
    }

    fn send_down(&mut self) {
        let now = Duration::from_millis(self.millis);
        let Some(lobby) = &mut self.lobby else { return };
        let mut by_connection: BTreeMap<ConnectionId, &mut SimClient> =
            self.clients.values_mut().map(|client| (client.connection, client)).collect();
        let closed = lobby.pump(|connection, own, shared| {
            if let Some(client) = by_connection.get_mut(&connection) {
                client.down.send(now, [own, shared].concat().into());
            }
        });
        for (connection, client) in by_connection {
            client.receive(now);
            client.connected &= !closed.contains(&connection);
        }
    }
}

/// What came of it.
impl Sim {
    /// The wire names of the facts that the game recorded: all but the room's own, which tell who came and went.
    pub fn facts(&self) -> Vec<&str> {
        let own = ["room_created", "user_joined", "user_left"];
        self.facts.iter().map(|fact| &*fact.name).filter(|name| !own.contains(name)).collect()
    }

    /// All facts of one kind.
    pub fn facts_of<F: 'static>(&self) -> Vec<&F> {
        self.facts.iter().filter_map(Recorded::get).collect()
    }

    /// The whole ledger.
    pub fn ledger(&self) -> &[Recorded] {
        &self.facts
    }

    /// All batches, with their ticks.
    pub fn batches(&self) -> &[(RoomTick, Bytes)] {
        &self.batches
    }

    /// The codes of the rejections that a client was told.
    pub fn rejections(&self, name: &str) -> Vec<&str> {
        self.client_of(name).told().rejected.iter().map(|rejected| rejected.code.as_str()).collect()
    }

    /// A client.
    pub fn client_of(&self, name: &str) -> &SimClient {
        self.clients.get(name).unwrap_or_else(|| panic!("there is no client {name}"))
    }

    /// A client.
    pub fn client_mut(&mut self, name: &str) -> &mut SimClient {
        self.clients.get_mut(name).unwrap_or_else(|| panic!("there is no client {name}"))
    }

    /// The names of the clients.
    pub fn client_names(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    /// The errors that systems and observers of the room's rules returned, of which a server says something in its log, each with its name.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Why the room stopped, if it did.
    pub fn fault(&self) -> Option<&RoomFault> {
        self.fault.as_ref()
    }

    /// The lobby.
    pub fn lobby_mut(&mut self) -> &mut Lobby {
        self.start();
        self.lobby.as_mut().unwrap_or_else(|| panic!("the room did not start"))
    }

    /// The room.
    pub fn room(&self) -> &Room {
        self.lobby.as_ref().and_then(|lobby| lobby.room(ROOM)).unwrap_or_else(|| panic!("the room has not started, or has closed"))
    }

    /// The room, to be changed from outside.
    pub fn room_mut(&mut self) -> &mut Room {
        self.lobby_mut().room_mut(ROOM).unwrap_or_else(|| panic!("the room has closed"))
    }

    /// The room's state as plain data.
    pub fn room_state(&mut self) -> State {
        self.room_mut().state().unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// A client's state as plain data.
    pub fn client_state(&mut self, name: &str) -> State {
        replica_state(self.client_mut(name).world_mut()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Checks that every live client that has all that the room ever told it equals the room, bit for bit, or where something is not for
    /// everybody what that client may know of it; that none of them ever found a difference; and that none of the room's rules returned an error. Returns how many
    /// were compared.
    pub fn assert_converged(&mut self) -> usize {
        let last = self.room().tick_now();
        assert!(self.errors.is_empty(), "rules of the room failed: {:?}", self.errors);
        let mut compared = 0;
        for name in self.client_names() {
            let client = self.client_of(&name);
            assert!(client.told().diverged.is_empty(), "{name} found a difference: {:?}", client.told().diverged);
            if !client.is_live() || !self.is_current(client) {
                continue;
            }
            let connection = client.connection;
            let Some(room) = self.lobby_mut().state_for(connection) else { continue };
            let replica = self.client_state(&name);
            let protocol = self.room().world().resource::<Protocol>();
            if let Some(difference) = room.difference(protocol, &replica) {
                panic!("the replica of {name} differs from what it is to hold of the room (here) in tick {last}: {difference}");
            }
            compared += 1;
        }
        compared
    }
}
