//! A whole cluster in one thread under one seed: hosts that share rooms, players, their links, disks and clocks, and what goes wrong with each.
//!
//! The rooms, lobbies, keepers, writers, the directory's clerk and the clients are the real ones; the transport, the database and time are
//! simulated. After each step it is checked that no room has two owners, that nothing that was reported as stored is gone and that nothing grows
//! without bound; at the end that all players are back, that every replica equals its room, and that the ledgers are whole.

mod host;
mod plan;
mod player;
mod shrink;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::*;
use twox_hash::XxHash3_64;

use self::host::{BUFFER_BYTES, Common, SimHost};
use self::plan::Whose;
pub use self::plan::{ClusterSize, Dying, Fault, Planned, plan};
use self::player::Player;
use super::client::SimClient;
use crate::client::replica_state;
use crate::host::ConnectionId;
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{CommandId, EntityId, FactSeq, LinkConditions, Protocol, State};
use crate::room::{Blueprint, Level};
use crate::store::{Archive, MemoryDirectory, MemoryStore, Store};

/// How long a step is.
const STEP: Duration = Duration::from_millis(TICK_MILLIS);

/// For how long a lease holds, in steps: three seconds.
const LEASE_STEPS: u32 = 60;

/// After how many steps without a word either side takes the other to be gone: five seconds.
const SILENT_STEPS: u32 = 100;

/// How long it may take until all is well after the last fault, in steps: leases run out, silence is noticed, players find their way.
const CALM_STEPS: u32 = 2_400;

/// How often replicas are compared with their rooms meanwhile, in steps.
const COMPARE_STEPS: u32 = 40;

/// What a player does by itself, made from a seed.
pub type MakeBrain = dyn Fn(u64) -> Box<dyn FnMut(&mut World)> + Send + Sync;

/// What is checked of a client's world in every step, besides what always is. It says what is wrong.
pub type CheckClient = dyn Fn(&mut World) -> Result<(), String> + Send + Sync;

/// A cluster to be simulated.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::room::Blueprint;
/// use roomkeeper::sim::{Cluster, ClusterSize};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Beat(u32);
///
/// fn protocol(app: &mut App) {
///     app.sync::<Beat>("beat");
/// }
/// fn rules(app: &mut App) {
///     app.add_systems(Startup, |mut commands: Commands| drop(commands.spawn(Beat(0))));
///     app.add_systems(FixedUpdate, |mut beats: Query<&mut Beat>| beats.iter_mut().for_each(|mut beat| beat.0 += 1));
/// }
///
/// let cluster = Cluster::new(Blueprint::new(protocol, rules), ClusterSize { steps: 200, ..ClusterSize::default() });
/// let tally = cluster.run(7).map_err(|failure| failure.to_string())?;
/// assert!(tally.ticks > 200);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone)]
pub struct Cluster {
    blueprint: Blueprint,
    level: Option<Level>,
    size: ClusterSize,
    brain: Option<Arc<MakeBrain>>,
    check: Option<Arc<CheckClient>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("size", &self.size).finish_non_exhaustive()
    }
}

/// What a simulation saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Steps of 50 ms.
    pub steps: u64,
    /// Ticks of rooms.
    pub ticks: u64,
    /// Faults that began.
    pub faults: u64,
    /// Rooms that went on from what was stored.
    pub takeovers: u64,
    /// Rooms that hosts lost to others.
    pub lost: u64,
    /// Commits that failed.
    pub disk_failures: u64,
    /// Rows that were read and were not what was written.
    pub damaged: u64,
    /// Connections that players made.
    pub connections: u64,
    /// Messages that no client would send.
    pub hostile: u64,
    /// Commands that players were told are stored. Each was found in the ledger.
    pub stored_commands: u64,
    /// Facts in the ledgers at the end.
    pub facts: u64,
    /// Replicas that were compared with their rooms.
    pub compared: u64,
    /// A hash over all that the ledgers say, and the states that they come to: another one where anything at all was otherwise.
    pub hash: u64,
}

impl Tally {
    /// Counts what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.ticks += other.ticks;
        self.faults += other.faults;
        self.takeovers += other.takeovers;
        self.lost += other.lost;
        self.disk_failures += other.disk_failures;
        self.damaged += other.damaged;
        self.connections += other.connections;
        self.hostile += other.hostile;
        self.stored_commands += other.stored_commands;
        self.facts += other.facts;
        self.compared += other.compared;
        self.hash = XxHash3_64::oneshot_with_seed(self.hash, &other.hash.to_le_bytes());
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step in which it was found.
    pub step: u32,
    /// What is not as it must be.
    pub what: String,
    /// What went wrong before.
    pub faults: Vec<Planned>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}, step {}: {}", self.seed, self.step, self.what)?;
        self.faults.iter().try_for_each(|(step, fault)| writeln!(f, "  step {step}: {fault:?}"))
    }
}

impl std::error::Error for Failure {}

impl Cluster {
    /// A cluster that serves rooms of a game. Its players do nothing until they are given [brains](Self::brains).
    pub fn new(blueprint: Blueprint, size: ClusterSize) -> Self {
        let size = ClusterSize { hosts: size.hosts.clamp(1, 16), rooms: size.rooms.max(1), ..size };
        Self { blueprint, level: None, size, brain: None, check: None }
    }

    /// The level that the rooms start with.
    #[must_use]
    pub fn level(mut self, level: Option<Level>) -> Self {
        self.level = level;
        self
    }

    /// What the players do.
    #[must_use]
    pub fn brains(mut self, make: Arc<MakeBrain>) -> Self {
        self.brain = Some(make);
        self
    }

    /// Checks every client's world in every step, for what it must not know for instance.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&mut World) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// Runs with all that a seed lets go wrong. The same seed gives the same run.
    ///
    /// # Errors
    /// If a promise was not kept.
    pub fn run(&self, seed: u64) -> Result<Tally, Failure> {
        self.run_with(seed, &plan(&self.size, seed))
    }

    /// Runs with these faults.
    ///
    /// # Errors
    /// If a promise was not kept.
    pub fn run_with(&self, seed: u64, faults: &[Planned]) -> Result<Tally, Failure> {
        let mut run = Run::new(self, seed, faults);
        let ran = catch_unwind(AssertUnwindSafe(|| run.all()));
        let what = match ran {
            Ok(Ok(())) => return Ok(run.tally),
            Ok(Err(what)) => what,
            Err(panic) => format!("it panicked: {}", crate::room::panic_text(&*panic)),
        };
        Err(Failure { seed, step: run.step, what, faults: faults.to_vec() })
    }
}

/// A simulation that runs.
struct Run<'a> {
    cluster: &'a Cluster,
    faults: &'a [Planned],
    common: Common<'a>,
    hosts: Vec<SimHost>,
    players: Vec<Player>,
    step: u32,
    connections: u64,
    tally: Tally,
    /// The commands that players were told are stored.
    stored: BTreeSet<(String, EntityId, CommandId)>,
}

impl<'a> Run<'a> {
    fn new(cluster: &'a Cluster, seed: u64, faults: &'a [Planned]) -> Self {
        let directory = MemoryDirectory::by_hand("nobody", "", STEP * LEASE_STEPS);
        let common = Common {
            blueprint: &cluster.blueprint,
            level: cluster.level.as_ref(),
            seed,
            directory,
            store: MemoryStore::new(),
            durable: BTreeMap::new(),
            started: 0,
            wrong: None,
            takeovers: 0,
            lost: 0,
        };
        let hosts = (0..cluster.size.hosts).map(SimHost::new).collect();
        let player = |nth: usize| {
            let (name, own) = (format!("player{nth}"), seed.wrapping_mul(31).wrapping_add(nth as u64));
            let id = EntityId::named(&name);
            let client = SimClient::new((&cluster.blueprint, false), id, ConnectionId(0), LinkConditions::PERFECT, own);
            let brain = cluster.brain.as_ref().map(|make| make(own));
            Player::new(name, format!("room{}", nth % cluster.size.rooms), client, brain, own)
        };
        let players = (0..cluster.size.players).map(player).collect();
        let (step, connections, tally, stored) = Default::default();
        Self { cluster, faults, common, hosts, players, step, connections, tally, stored }
    }

    fn all(&mut self) -> Result<(), String> {
        while self.step < self.cluster.size.steps {
            self.one_step()?;
        }
        self.calm();
        let last = self.step + CALM_STEPS;
        while !(self.all_are_well() && self.hosts.iter().all(SimHost::knows_its_rooms)) {
            if self.step >= last {
                let states = self.players.iter().map(|player| format!("{}: {}", player.name, player.client.state()));
                return Err(format!("not all are well {CALM_STEPS} steps after the last fault: {}", states.collect::<Vec<_>>().join("; ")));
            }
            self.one_step()?;
        }
        self.compare()?;
        self.write_all();
        self.check_ledgers()
    }

    fn one_step(&mut self) -> Result<(), String> {
        self.step += 1;
        self.tally.steps += 1;
        self.begin_faults();
        self.common.directory.skip(STEP);
        let (sent, now) = (u64::from(self.step - 1) * TICK_MILLIS, u64::from(self.step) * TICK_MILLIS);
        let time = Duration::from_millis(now);
        self.players.iter_mut().for_each(|player| player.speak(sent));
        for host in &mut self.hosts {
            host.pass(&mut self.common);
        }
        for player in &mut self.players {
            player.be_heard(&mut self.hosts, &mut self.common, now, &mut self.tally);
        }
        // A host that does not know that time passed may believe for a moment that it still has a room; nothing of that is stored.
        let mut owners: BTreeMap<String, (usize, bool)> = BTreeMap::new();
        for (nth, host) in self.hosts.iter_mut().enumerate().filter(|(_, host)| host.is_awake()) {
            for room in host.step(&mut self.common, time) {
                self.tally.ticks += 1;
                let other = owners.insert(room.clone(), (nth, host.confused > 0)).filter(|(_, confused)| !confused && host.confused == 0);
                if let Some((other, _)) = other {
                    return Err(format!("{room} ticks at host{other} and at host{nth}"));
                }
            }
            Self::send(&mut self.players, host, nth, time);
        }
        self.listen(time)?;
        self.check_bounds()?;
        self.common.wrong.take().map_or(Ok(()), Err)?;
        if self.step.is_multiple_of(COMPARE_STEPS) { self.compare() } else { Ok(()) }
    }

    fn send(players: &mut [Player], host: &mut SimHost, nth: usize, now: Duration) {
        let Some(process) = &mut host.process else { return };
        let mut there: BTreeMap<ConnectionId, &mut Player> =
            players.iter_mut().filter(|player| player.at == Some(nth)).map(|player| (player.client.connection, player)).collect();
        process.pump(|connection, packet| {
            if let Some(player) = there.get_mut(&connection) {
                player.client.down.send(now, packet);
            }
        });
    }

    fn listen(&mut self, now: Duration) -> Result<(), String> {
        let (connections, seed) = (&mut self.connections, self.common.seed);
        for player in &mut self.players {
            player.listen(&mut self.hosts, now, || {
                *connections += 1;
                (ConnectionId(*connections), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(*connections * 2))
            });
            let id = player.client.player();
            let room = player.place();
            let mut told = player.client.told_mut();
            for command in told.durable.drain(..) {
                self.stored.insert((room.clone(), id, command));
            }
            if let Some(diverged) = told.diverged.first() {
                return Err(format!("{} found that it differs: {diverged:?}", player.name));
            }
            if let Some(check) = &self.cluster.check {
                check(player.client.world_mut()).map_err(|what| format!("{}: {what}", player.name))?;
            }
        }
        self.tally.connections = self.connections;
        Ok(())
    }

    fn begin_faults(&mut self) {
        let (step, count) = (self.step, (self.players.len().max(1), self.hosts.len().max(1)));
        for (_, fault) in self.faults.iter().filter(|(begins, _)| *begins == step) {
            self.tally.faults += 1;
            match fault.whose() {
                Whose::Player(nth) => self.players.get_mut(nth % count.0).into_iter().for_each(|player| player.suffer(*fault)),
                Whose::Host(nth) => self.hosts.get_mut(nth % count.1).into_iter().for_each(|host| host.suffer(*fault)),
            }
        }
    }

    /// Nothing is wrong any more.
    fn calm(&mut self) {
        for host in &mut self.hosts {
            (host.stalled, host.suspended, host.slow_disk, host.lonely, host.damaged) = (0, 0, 0, 0, 0);
            host.disk_fails(0, false);
            host.down = host.down.min(1);
        }
        for player in &mut self.players {
            (player.bad_link, player.cut, player.frozen, player.hostile) = (0, 0, 0, 0);
        }
    }

    /// True if a player has all that its room ever told it.
    fn is_well(hosts: &[SimHost], player: &Player) -> bool {
        let process = player.at.and_then(|at| hosts.get(at)?.process.as_ref());
        let connection = player.client.world().resource::<crate::client::Connection>();
        player.client.is_live()
            && process.is_some_and(|process| process.lobby.is_current(player.client.connection, |seq| connection.has_packet(seq)))
    }

    fn all_are_well(&self) -> bool {
        self.players.iter().all(|player| Self::is_well(&self.hosts, player))
    }

    /// Replicas that have all that they were told equal their rooms.
    fn compare(&mut self) -> Result<(), String> {
        // By host and room: where everybody is told everything, what one is to hold is what all are.
        let mut told: BTreeMap<(usize, String), State> = BTreeMap::new();
        for player in &mut self.players {
            let here = player.cut == 0 && player.frozen == 0 && Self::is_well(&self.hosts, player);
            let Some(at) = player.at.filter(|_| here) else { continue };
            let Some(process) = self.hosts.get_mut(at).and_then(|host| host.process.as_mut()) else { continue };
            let there = player.place();
            let secretive = process.lobby.room(&there).is_none_or(|room| room.is_secretive());
            let place = (at, there);
            let known = told.remove(&place).filter(|_| !secretive);
            let Some(state) = known.or_else(|| process.lobby.state_for(player.client.connection)) else { continue };
            let Some(room) = process.lobby.room(&place.1) else { continue };
            let (tick, protocol) = (room.tick_now(), room.world().resource::<Protocol>());
            let replica = replica_state(player.client.world_mut()).map_err(|error| error.to_string())?;
            if let Some(difference) = state.difference(protocol, &replica) {
                return Err(format!("the replica of {} differs from {} in tick {tick}: {difference}", player.name, place.1));
            }
            self.tally.compared += 1;
            told.insert(place, state);
        }
        Ok(())
    }

    /// What waits has a bound.
    fn check_bounds(&self) -> Result<(), String> {
        for (host, process) in self.hosts.iter().filter_map(|host| Some((&host.name, host.process.as_ref()?))) {
            // A full buffer lets the rooms stand still after the tick that filled it.
            let waits = process.keeper.writer().pending_bytes();
            if waits > BUFFER_BYTES * 2 {
                return Err(format!("{waits} bytes wait for the disk of {host}, and {BUFFER_BYTES} may"));
            }
            let ways = process.lobby.ways();
            let most = crate::host::HostLimits::default().queue_bytes_max * 2;
            if ways.queue_bytes_max > most {
                return Err(format!("{} bytes wait for one client of {host}, and {most} may", ways.queue_bytes_max));
            }
        }
        Ok(())
    }

    /// Lets all hosts write what they have, so that the ledgers can be looked at.
    fn write_all(&mut self) {
        for process in self.hosts.iter().filter_map(|host| host.process.as_ref()) {
            // By hand it does so at once, and can't have stopped.
            let _ = process.keeper.writer().sync();
        }
    }

    /// The ledgers are whole, and have all that anybody was told is stored.
    fn check_ledgers(&mut self) -> Result<(), String> {
        let protocol = self.cluster.blueprint.protocol();
        let failed = |error: crate::store::StoreError| error.to_string();
        let names: Vec<String> = self.common.store.room_heads().map_err(failed)?.into_iter().map(|(name, _)| name).collect();
        let mut known = BTreeSet::new();
        for name in names {
            let mut archive = Archive::new(self.common.store.reader().map_err(failed)?, protocol.clone());
            let verified = archive.verify(&name, |_| {}).map_err(failed)?;
            if let Some(finding) = verified.findings.first() {
                return Err(format!("the ledger of {name} is damaged: {finding:?}"));
            }
            let facts = archive.facts(&name, FactSeq(1), usize::MAX).map_err(failed)?;
            for (nth, fact) in facts.iter().enumerate() {
                if fact.seq.0 != nth as u64 + 1 {
                    return Err(format!("fact {} of {name} has number {}", nth + 1, fact.seq.0));
                }
                known.extend(fact.author.zip(fact.command).map(|(author, command)| (name.clone(), author, command)));
            }
            self.tally.facts += facts.len() as u64;
            let head = archive.head(&name).map_err(failed)?.map(|head| head.tick).unwrap_or_default();
            if self.common.durable.get(&name).is_some_and(|durable| head < *durable) {
                return Err(format!("{name} is stored up to tick {head}, but more was said to be"));
            }
            let folded = archive.state_at(&name, head).map_err(failed)?;
            self.tally.hash = XxHash3_64::oneshot_with_seed(self.tally.hash, verified.head.as_bytes());
            self.tally.hash = XxHash3_64::oneshot_with_seed(self.tally.hash, &folded.hash().to_le_bytes());
            // By now each host knows which rooms are its own: one that was lost is another run of it, though its tick may be the same.
            let here = self.hosts.iter_mut().filter_map(|host| host.process.as_mut()?.lobby.room_mut(&name));
            for room in here.filter(|room| room.tick_now() == head) {
                let state = room.state().map_err(|fault| fault.to_string())?;
                if let Some(difference) = state.difference(&protocol, &folded) {
                    return Err(format!("the batches of {name} give another state than it has: {difference}"));
                }
            }
        }
        self.tally.disk_failures = self.hosts.iter().map(SimHost::disk_failures).sum();
        self.tally.damaged = self.hosts.iter().map(SimHost::rows_damaged).sum();
        (self.tally.takeovers, self.tally.lost) = (self.common.takeovers, self.common.lost);
        self.tally.stored_commands = self.stored.len() as u64;
        match self.stored.iter().find(|command| !known.contains(command)) {
            Some((room, author, command)) => {
                Err(format!("command {} of {author} in {room} was said to be stored and is not there", command.0))
            }
            None => Ok(()),
        }
    }
}
