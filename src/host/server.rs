//! Drives a [`Lobby`] with a socket and a clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::clock::{instant, unix_time};
use super::complaints::Complaints;
use super::gateway::Access;
use super::gateway::{BindError, Gateway, GatewayCounters, GatewayEvent, ShardConfig};
use super::keeper::{AUDIT_EVERY, KeepError, KeepOptions, Keeper};
use super::limits::{HostCounters, HostLimits};
use super::lobby::{Lobby, TickReport};
use super::pace::Pace;
use super::pacer::{Due, Pacer};
use crate::protocol::LinkConditions;
use crate::room::{Blueprint, RoomClock, RoomError, RoomOptions};
use crate::store::WriterReport;

/// Most datagrams that are taken in between two ticks of rooms. A flood is left in the socket's buffer, which drops it.
const DATAGRAMS_PER_ROUND_MAX: usize = 20_000;

/// How long the host sleeps at most, so that it notices a stop.
const NAP_MAX: Duration = Duration::from_millis(25);

/// When in the 50 ms the past is shown.
const PAST_PHASE: Duration = Duration::from_millis(25);

/// How often members are served while the rooms stand still.
const SETTLE_ROUND: Duration = Duration::from_millis(20);

/// How long the members of a host that stops have to hear of it, if nobody says otherwise.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a server could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It can't listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A room can't be built.
    #[error("the room {name:?} can't be opened: {error}")]
    Room {
        /// The room.
        name: String,
        /// Why.
        error: RoomError,
    },
    /// Rooms can't be kept, or brought back.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl ServerError {
    /// Why a room can't be kept, or can't be built.
    pub(super) fn of_room(name: &str, error: KeepError) -> Self {
        match error {
            KeepError::Room(error) => Self::Room { name: name.to_owned(), error },
            error => Self::Keep(error),
        }
    }
}

/// A host of rooms on one UDP port.
#[derive(Debug)]
pub struct Server {
    lobby: Lobby,
    gateway: Gateway,
    pacers: BTreeMap<String, Pacer>,
    started: Instant,
    late_max: Duration,
    skipped: u64,
    pace: Pace,
    keeper: Option<Keeper>,
    /// When those who watch the past of rooms are shown its next tick.
    pasts: Pacer,
    /// Since when the rooms stand still because the store is full.
    halted: bool,
    /// How long the members have to hear that it stops.
    farewell: Duration,
    complaints: Complaints,
}

impl Server {
    /// Listens, and sends and receives on the thread that [runs](Self::run) it.
    ///
    /// # Errors
    /// If the address can't be had, or anybody could reach it and that is not allowed.
    pub fn bind(config: &ShardConfig, limits: HostLimits) -> Result<Self, ServerError> {
        Self::bind_threads(config, limits, 0)
    }

    /// Listens, and sends and receives on so many threads of its own: at most 16, each with up to 256 clients.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); and if the system can't share a port between threads.
    pub fn bind_threads(config: &ShardConfig, limits: HostLimits, threads: usize) -> Result<Self, ServerError> {
        let gateway = Gateway::bind(config, threads, unix_time)?;
        let takeover = matches!(config.access, Access::Tokens(_));
        let mut lobby = Lobby::new(limits, takeover);
        lobby.begin_epoch(unix_time().as_nanos() as u64);
        Ok(Self {
            lobby,
            gateway,
            pacers: BTreeMap::new(),
            started: instant(),
            late_max: Duration::ZERO,
            skipped: 0,
            pace: Pace::default(),
            keeper: None,
            pasts: Pacer::new(Duration::ZERO, PAST_PHASE),
            halted: false,
            farewell: FAREWELL,
            complaints: Complaints::default(),
        })
    }

    /// Keeps the rooms that are opened from now on, and brings them back if they were stored.
    ///
    /// # Errors
    /// If the data can't be read or written, or another process has it.
    pub fn keep(&mut self, options: &KeepOptions) -> Result<&mut Keeper, ServerError> {
        Ok(self.keep_by(Keeper::open(options)?))
    }

    /// The same by a keeper that is open already: one that keeps rooms in memory, for instance.
    pub fn keep_by(&mut self, keeper: Keeper) -> &mut Keeper {
        self.lobby.can_read_pasts();
        self.keeper.insert(keeper)
    }

    /// What keeps the rooms, if anything does.
    pub fn keeper(&mut self) -> Option<&mut Keeper> {
        self.keeper.as_mut()
    }

    /// Opens a room, with a phase of its own: rooms spread over the 50 ms.
    ///
    /// # Errors
    /// If it can't be built.
    pub fn open_room(&mut self, blueprint: &Blueprint, options: RoomOptions) -> Result<(), ServerError> {
        let name = options.name.clone();
        let failed = |error| ServerError::Room { name: name.clone(), error };
        match &mut self.keeper {
            None => self.lobby.open_room(blueprint, options).map_err(failed)?,
            Some(keeper) => {
                // Before the keeper is asked: what keeps the one that is open would be closed.
                self.lobby.check_place(&name).map_err(failed)?;
                let room = keeper.room(blueprint, options).map_err(|error| ServerError::of_room(&name, error))?;
                self.lobby.admit_room(room).map_err(failed)?;
            }
        }
        self.pacers.insert(name, Pacer::new(self.started.elapsed(), Pacer::phase(self.pacers.len() as u64)));
        Ok(())
    }

    /// Puts a simulated link before each client, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        self.gateway.set_link(conditions, seed);
    }

    /// The rooms and who is in them.
    pub fn lobby(&self) -> &Lobby {
        &self.lobby
    }

    /// The rooms and who is in them, to be changed.
    pub fn lobby_mut(&mut self) -> &mut Lobby {
        &mut self.lobby
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.gateway.local_address()
    }

    /// What was counted: by the host, and by its gateway.
    pub fn counters(&self) -> (HostCounters, GatewayCounters) {
        (self.lobby.counters(), self.gateway.counters())
    }

    /// The latest that a tick ever was, and how many ticks were given up.
    pub fn lateness(&self) -> (Duration, u64) {
        (self.late_max, self.skipped)
    }

    /// How it kept its time since this was last asked. To be asked between two [rounds](Self::round).
    pub fn take_pace(&mut self) -> Pace {
        std::mem::take(&mut self.pace)
    }

    /// Runs until `stop`, then tells the members and returns. `report` hears of every tick of every room.
    pub fn run(&mut self, stop: &AtomicBool, mut report: impl FnMut(&str, &TickReport, &Lobby)) {
        while !stop.load(Ordering::Relaxed) {
            let wait = self.round(&mut report);
            std::thread::sleep(wait.min(NAP_MAX));
        }
        self.farewell();
    }

    /// Lets the rooms stand still until every member is known to have all of its room, or for so long. True if all have.
    pub fn settle(&mut self, at_most: Duration) -> bool {
        let begun = instant();
        loop {
            self.receive();
            let settled = self.lobby.serve_standing();
            self.send();
            if settled || begun.elapsed() >= at_most {
                return settled;
            }
            std::thread::sleep(SETTLE_ROUND);
        }
    }

    /// Writes what is to be kept and stops keeping. Rooms that go on afterwards are not kept.
    pub fn stop_keeping(&mut self) -> Option<WriterReport> {
        self.keeper.take().map(Keeper::stop)
    }

    /// Takes in what arrived and runs what is due. Returns how long nothing will be.
    pub fn round(&mut self, report: &mut impl FnMut(&str, &TickReport, &Lobby)) -> Duration {
        let begun = self.started.elapsed();
        self.receive();
        let now = self.started.elapsed();
        let mut due: Vec<(String, Due)> = Vec::new();
        for (name, pacer) in &mut self.pacers {
            let now_due = pacer.due(now);
            if now_due.ticks > 0 {
                due.push((name.clone(), now_due));
            }
            if now_due.skipped > 0 {
                self.skipped += now_due.skipped;
                self.pace.skipped += now_due.skipped;
                self.complaints.fell_behind(name, now_due, now);
            }
        }
        self.complaints.tell(now);
        let any_due = !due.is_empty();
        if any_due {
            self.attend_store();
        }
        if self.halted && any_due {
            // What was lost of the last tick goes again.
            self.lobby.serve_standing();
            due.clear();
        }
        for (name, due) in &due {
            for nth in 0..due.ticks {
                // One room waits for the other: a tick begins when it begins, not when the round does.
                let begins = self.started.elapsed();
                let late = (due.late + begins.saturating_sub(now)).saturating_sub(RoomClock::STEP * nth);
                self.late_max = self.late_max.max(late);
                self.pace.late.record(late);
                self.tick(name, report);
                self.pace.busy.record(self.started.elapsed().saturating_sub(begins));
            }
        }
        let shows_past = self.show_pasts();
        if any_due || shows_past || self.pacers.is_empty() {
            self.send();
        }
        if any_due {
            self.pace.rounds.record(self.started.elapsed().saturating_sub(begun));
        }
        let past = self.lobby.has_pasts().then(|| self.pasts.next());
        let next = self.pacers.values().map(Pacer::next).chain(past).min();
        let tick = next.map_or(NAP_MAX, |next| next.saturating_sub(self.started.elapsed()));
        self.gateway.next_due().map_or(tick, |due| tick.min(due.saturating_sub(unix_time())))
    }

    fn tick(&mut self, name: &str, report: &mut impl FnMut(&str, &TickReport, &Lobby)) {
        let Some(mut tick_report) = self.lobby.tick_room(name) else {
            self.pacers.remove(name);
            return;
        };
        report(name, &tick_report, &self.lobby);
        if let Some(keeper) = &mut self.keeper {
            keeper.record(name, &mut tick_report);
            keeper.tell_durable(name, &mut self.lobby);
            if tick_report.fault.is_none() && tick_report.tick.0.is_multiple_of(AUDIT_EVERY) {
                keeper.audit(name, &mut self.lobby);
            }
        }
        if tick_report.fault.is_some() {
            self.pacers.remove(name);
            if let Some(keeper) = &mut self.keeper {
                keeper.close(name);
            }
        }
    }

    /// Shows those who watch the past of rooms its next tick. True if it was time.
    fn show_pasts(&mut self) -> bool {
        let due = self.pasts.due(self.started.elapsed()).ticks > 0 && self.lobby.has_pasts();
        if due {
            self.lobby.tick_pasts();
            self.keeper.iter_mut().for_each(|keeper| keeper.attend_pasts(&mut self.lobby));
        }
        due
    }

    /// Lets rooms stand still while the store can't take any more.
    fn attend_store(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let full = keeper.attend(&mut self.lobby);
        if full != self.halted {
            self.halted = full;
            if full {
                tracing::error!(why = keeper.writer().failing(), "the store can't take any more; the rooms stand still");
            } else {
                tracing::warn!("the store takes again; the rooms go on");
            }
        }
    }

    fn receive(&mut self) {
        self.lobby.advance(self.started.elapsed());
        self.gateway.receive(unix_time(), DATAGRAMS_PER_ROUND_MAX);
        for event in self.gateway.drain_events() {
            match event {
                GatewayEvent::Connected(connection, admission) => {
                    self.lobby.connected(connection, admission.into());
                }
                GatewayEvent::Message(connection, message) | GatewayEvent::Packet(connection, message) => {
                    self.lobby.message(connection, &message);
                }
                GatewayEvent::Disconnected(connection, how) => {
                    self.lobby.disconnected(connection, how.into());
                }
            }
        }
    }

    fn send(&mut self) {
        let gateway = &mut self.gateway;
        self.lobby.advance(self.started.elapsed());
        let closed = self.lobby.pump(|connection, own, shared| {
            gateway.send_packet_parts(connection, &[own, shared]);
        });
        for connection in closed {
            self.gateway.disconnect(connection);
        }
        self.gateway.flush(unix_time());
    }

    /// How long those who are here have to hear that it stops, at most; it goes on as soon as all of them have. Over a link that loses much it takes
    /// seconds. Default: 500 ms.
    pub fn set_farewell(&mut self, at_most: Duration) {
        self.farewell = at_most;
    }

    /// Tells everybody that the host stops, and lets nobody in meanwhile.
    fn farewell(&mut self) {
        self.complaints.tell(Duration::MAX);
        self.lobby.shut_down();
        let begun = instant();
        // Who comes now is told too, but not waited for: newcomers could keep it from ending.
        let mut here = self.gateway.connections();
        while begun.elapsed() < self.farewell && !here.is_empty() {
            self.receive();
            self.send();
            let still = self.gateway.connections();
            here.retain(|connection| still.contains(connection));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
