//! A host of a simulated cluster: the real lobby, keeper, writer and directory's clerk, driven step by step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::plan::{Dying, Fault};
use super::{LEASE_STEPS, SILENT_STEPS, STEP};
use crate::host::clerk::{Clerk, Led, News};
use crate::host::{ConnectionId, HostLimits, KeepError, Keeper, Lobby, Visitor};
use crate::protocol::{ClientMessage, LeaveReason, Refusal, RoomTick};
use crate::room::{Blueprint, Level, RoomOptions};
use crate::sim::AroundCommits;
use crate::store::{Directory, Flush, Leases, Load, MemoryDirectory, MemoryStore, Store, StoreError, WriterOptions};

/// How often leases are renewed, in steps.
const RENEW_STEPS: u32 = LEASE_STEPS / 4;

/// How often rooms are compared with what is stored of them, in ticks.
const AUDIT_TICKS: u32 = 25;

/// How many bytes may wait for the disk.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// Which of the reads of a damaged disk fail: so few that some rooms can be read all the same.
const DAMAGED_EVERY: u32 = 5;

/// What is wrong with a host's disk.
#[derive(Debug, Default)]
struct Disk {
    /// So many commits fail from now on, and whether they are done all the same.
    fails: (u32, bool),
    /// The host dies in its next commit.
    dying: Option<Dying>,
    dead: bool,
    /// Some of what is read is not what was written.
    damaged: bool,
    reads: u32,
    /// How often something went wrong.
    failed: u64,
    /// How many rows turned out damaged.
    unread: u64,
}

impl Disk {
    fn commit(&mut self, store: &mut dyn Store, flush: &Flush) -> Result<(), StoreError> {
        let error = |kind: std::io::ErrorKind| StoreError::Io { what: "a flush can't be written".to_owned(), error: kind.into() };
        let broken = Err(error(std::io::ErrorKind::BrokenPipe));
        if self.dead {
            return broken;
        }
        match self.dying {
            Some(Dying::Within) => {
                self.dead = true;
                return broken;
            }
            Some(Dying::Answering) => {
                self.dead = true;
                return store.commit(flush).and(broken);
            }
            _ => {}
        }
        if self.fails.0 > 0 {
            self.fails.0 -= 1;
            self.failed += 1;
            let full = Err(error(std::io::ErrorKind::StorageFull));
            return if self.fails.1 { store.commit(flush).and(full) } else { full };
        }
        store.commit(flush)
    }

    fn read(&mut self, what: &'static str) -> Result<(), StoreError> {
        if !self.damaged {
            return Ok(());
        }
        self.reads = self.reads.wrapping_add(1);
        if !self.reads.is_multiple_of(DAMAGED_EVERY) {
            return Ok(());
        }
        self.unread += 1;
        Err(StoreError::damaged("a room", what, "it is not what was written"))
    }
}

/// What all hosts of a cluster share.
pub(super) struct Common<'a> {
    pub(super) blueprint: &'a Blueprint,
    pub(super) level: Option<&'a Level>,
    pub(super) seed: u64,
    pub(super) directory: MemoryDirectory,
    pub(super) store: MemoryStore,
    /// By room: the last tick that anybody was told is stored.
    pub(super) durable: BTreeMap<String, RoomTick>,
    /// How often a process was started.
    pub(super) started: u64,
    /// What went wrong that must not.
    pub(super) wrong: Option<String>,
    pub(super) takeovers: u64,
    pub(super) lost: u64,
}

impl Common<'_> {
    pub(super) fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

/// A process that runs.
pub(super) struct Process {
    pub(super) lobby: Lobby,
    pub(super) keeper: Keeper,
    clerk: Clerk,
    leases: Leases,
    /// Connections, for how many steps nothing has come from each, and whether it said which room it wants.
    heard: BTreeMap<ConnectionId, (u32, bool)>,
}

/// A host, and what is wrong with it. What is counted in steps goes down to 0.
pub(super) struct SimHost {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) process: Option<Process>,
    pub(super) down: u32,
    pub(super) stalled: u32,
    pub(super) suspended: u32,
    pub(super) slow_disk: u32,
    pub(super) lonely: u32,
    pub(super) damaged: u32,
    /// For how long it may still believe what is not so.
    pub(super) confused: u32,
    disk: Arc<Mutex<Disk>>,
    age: u32,
}

impl SimHost {
    pub(super) fn new(nth: usize) -> Self {
        let (name, address) = (format!("host{nth}"), format!("10.0.0.{}:5000", nth + 1));
        let (down, stalled, suspended, slow_disk, lonely, damaged, confused, age) = Default::default();
        Self { name, address, process: None, down, stalled, suspended, slow_disk, lonely, damaged, confused, disk: Arc::default(), age }
    }

    fn with_disk<T>(&self, with: impl FnOnce(&mut Disk) -> T) -> T {
        with(&mut self.disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn disk_fails(&self, times: u32, done: bool) {
        self.with_disk(|disk| disk.fails = (times, done));
    }

    pub(super) fn disk_failures(&self) -> u64 {
        self.with_disk(|disk| disk.failed)
    }

    /// How many rows it could not read.
    pub(super) fn rows_damaged(&self) -> u64 {
        self.with_disk(|disk| disk.unread)
    }

    /// Something goes wrong with it.
    pub(super) fn suffer(&mut self, fault: Fault) {
        match fault {
            // At the end of this step, or where its disk is about to write.
            Fault::Crash(_, dying, steps) if self.process.is_some() => {
                self.down = steps.max(1);
                self.with_disk(|disk| disk.dying = Some(dying));
            }
            Fault::Stall(_, steps) => self.stalled = steps,
            Fault::Suspend(_, steps) => (self.suspended, self.confused) = (steps, steps + LEASE_STEPS),
            Fault::Leap(_, steps) => self.leap(STEP * steps),
            Fault::Disk(_, times, done) => self.disk_fails(times, done),
            Fault::SlowDisk(_, steps) => self.slow_disk = steps,
            Fault::Damage(_, steps) => self.damaged = steps,
            Fault::Lonely(_, steps) => self.lonely = steps,
            _ => {}
        }
    }

    /// Lets its own clock leap ahead.
    fn leap(&self, time: Duration) {
        self.process.iter().for_each(|process| process.leases.pass(time));
    }

    /// True if it does anything in this step.
    pub(super) fn is_awake(&self) -> bool {
        self.process.is_some() && self.stalled == 0 && self.suspended == 0
    }

    /// True if the rooms that it has are its own as far as anybody can know: it knows how much time has passed, and no lease has run out.
    pub(super) fn knows_its_rooms(&self) -> bool {
        self.confused == 0 && self.process.as_ref().is_some_and(|process| process.leases.lapsed().is_empty())
    }

    /// Starts its process, as an operator would.
    fn start(&mut self, common: &mut Common<'_>) {
        self.with_disk(|disk| *disk = Disk { failed: disk.failed, unread: disk.unread, damaged: disk.damaged, ..Disk::default() });
        let directory = common.directory.join(&self.name, &self.address);
        let (leases, disk, read) = (directory.leases(), self.disk.clone(), self.disk.clone());
        let store = AroundCommits::new(Box::new(common.store.shared_by(&directory)), move |store, flush| {
            disk.lock().unwrap_or_else(PoisonError::into_inner).commit(store, flush)
        });
        let store = store.reading(move |what| read.lock().unwrap_or_else(PoisonError::into_inner).read(what));
        let mut options = WriterOptions::default();
        // Often, so that a minute sees much of it.
        (options.seal_every, options.components_every, options.checkpoint_every) = (7, 20, 90);
        options.buffer_bytes_max = BUFFER_BYTES;
        let keeper = match Keeper::by_hand(Box::new(store), options) {
            Ok(keeper) => keeper,
            Err(error) => return common.fail(format!("{} can't be started: {error}", self.name)),
        };
        let mut lobby = Lobby::new(HostLimits::default(), true);
        common.started += 1;
        lobby.begin_epoch(common.started << 32);
        let clerk = Clerk::new(Box::new(directory), Some(Box::new(common.store.clone())), &self.name, STEP * RENEW_STEPS);
        self.age = 0;
        self.process = Some(Process { lobby, keeper, clerk, leases, heard: BTreeMap::new() });
    }

    pub(super) fn connected(&mut self, connection: ConnectionId, visitor: Visitor) {
        if let Some(process) = &mut self.process {
            process.heard.insert(connection, (0, false));
            process.lobby.connected(connection, visitor);
        }
    }

    /// Time passes for it, and what was wrong comes to an end.
    pub(super) fn pass(&mut self, common: &mut Common<'_>) {
        if self.suspended == 0 {
            self.leap(STEP);
        }
        for left in [&mut self.stalled, &mut self.suspended, &mut self.slow_disk, &mut self.lonely, &mut self.damaged, &mut self.confused] {
            *left = left.saturating_sub(1);
        }
        self.with_disk(|disk| disk.damaged = self.damaged > 0);
        if self.process.is_none() {
            self.down = self.down.saturating_sub(1);
            if self.down == 0 {
                self.start(common);
            }
        }
    }

    /// Takes what a client says.
    pub(super) fn message(&mut self, common: &mut Common<'_>, connection: ConnectionId, message: &Bytes) {
        let Some(process) = &mut self.process else { return };
        let Some((silent, greeted)) = process.heard.get_mut(&connection) else { return };
        *silent = 0;
        if !*greeted && let Ok(ClientMessage::Hello { room, .. }) = ClientMessage::decode(message) {
            *greeted = true;
            if process.lobby.room(&room).is_none() {
                let led = if self.lonely > 0 { News::Led(room.clone(), Led::Unknown) } else { process.clerk.lead(room.clone(), true) };
                let away = match led {
                    News::Led(_, Led::Here) => process.open(common, &room, &self.name).err(),
                    News::Led(_, Led::There(host)) => Some(Refusal::Elsewhere(host)),
                    News::Led(_, Led::Nowhere) => Some(Refusal::NoSuchRoom(room)),
                    _ => Some(Refusal::RoomClosed("nobody can say where it is at the moment".to_owned())),
                };
                if let Some(why) = away {
                    return process.lobby.turn_away(connection, LeaveReason::Left, &why);
                }
            }
        }
        process.lobby.message(connection, message);
    }

    /// Runs what is due in a step. Gives the rooms that ticked.
    pub(super) fn step(&mut self, common: &mut Common<'_>, now: Duration) -> Vec<String> {
        let Some(process) = &mut self.process else { return Vec::new() };
        process.lobby.advance(now);
        process.part_with_the_silent();
        self.age += 1;
        if self.age % RENEW_STEPS == 1 && self.lonely == 0 {
            process.renew(common, &self.name);
            self.confused = 0;
        }
        let lost = process.keeper.lost();
        common.lost += lost.len() as u64;
        lost.iter().for_each(|room| process.close(room, None));
        let halted = process.keeper.attend(&mut process.lobby);
        let lapsed = process.leases.lapsed();
        let mut ticked = Vec::new();
        if !halted && lapsed.is_empty() {
            let rooms: Vec<String> = process.lobby.room_names().map(str::to_owned).collect();
            for room in rooms {
                process.tick(common, &room);
                ticked.push(room);
            }
        } else {
            process.lobby.serve_standing();
        }
        let dying = self.disk.lock().unwrap_or_else(PoisonError::into_inner).dying;
        if dying != Some(Dying::Before) && self.slow_disk == 0 {
            process.keeper.writer().step();
            process.note_durable(common);
            if let Some(difference) = process.keeper.writer().report().told.first() {
                common.fail(format!("a room is not what is stored of it: {difference}"));
            }
        }
        if dying.is_some()
            && let Some(process) = self.process.take()
        {
            process.keeper.abandon();
        }
        ticked
    }
}

impl Process {
    fn open(&mut self, common: &mut Common<'_>, room: &str, host: &str) -> Result<(), Refusal> {
        let options = RoomOptions { seed: common.seed, level: common.level.cloned(), notes: true, check: true, ..RoomOptions::named(room) };
        match self.keeper.room(common.blueprint, options) {
            Ok(opened) => {
                let (tick, durable) = (opened.tick_now(), common.durable.get(room).copied());
                if durable.is_some_and(|durable| tick < durable) {
                    common.fail(format!(
                        "{host} goes on with {room} at tick {tick}, but {} was said to be stored",
                        durable.unwrap_or_default()
                    ));
                }
                common.takeovers += u64::from(tick.0 > 0);
                self.lobby.admit_room(opened).map_err(|error| Refusal::RoomClosed(error.to_string()))
            }
            Err(error) => {
                // Another host has it by now, or it can't be read at the moment: it is asked for again.
                if !matches!(error, KeepError::Store(StoreError::Lost { .. } | StoreError::Damaged { .. })) {
                    common.fail(format!("{host} can't open {room}: {error}"));
                }
                Err(Refusal::RoomClosed(error.to_string()))
            }
        }
    }

    fn renew(&mut self, common: &mut Common<'_>, host: &str) {
        let rooms = self.lobby.room_names().count() as u32;
        let load = Load { rooms, rooms_max: 1_000, members: self.heard.len() as u32, members_max: 1_000 };
        let Ok(mut heard) = self.clerk.renew(load) else { return };
        heard.extend(self.clerk.look_around(load));
        for news in heard {
            match news {
                News::Taken(rooms) => {
                    for room in rooms {
                        if self.lobby.room(&room).is_none() && self.open(common, &room, host).is_err() {
                            self.clerk.release(room);
                        }
                    }
                }
                News::Lost(rooms) => {
                    common.lost += rooms.len() as u64;
                    rooms.into_iter().for_each(|(room, host)| self.close(&room, host));
                }
                News::Led(..) | News::Released(_) => {}
            }
        }
    }

    /// Another host has the room, or nobody.
    fn close(&mut self, room: &str, host: Option<String>) {
        let why = host.map_or_else(|| Refusal::RoomClosed("it went to another server".to_owned()), Refusal::Elsewhere);
        self.lobby.close_room(room, &why);
        self.keeper.close(room);
    }

    fn tick(&mut self, common: &mut Common<'_>, room: &str) {
        let Some(mut report) = self.lobby.tick_room(room) else { return };
        if let Some(fault) = &report.fault {
            common.fail(format!("{room} failed: {fault}"));
        }
        self.keeper.record(room, &mut report);
        self.keeper.tell_durable(room, &mut self.lobby);
        if report.tick.0.is_multiple_of(AUDIT_TICKS) {
            self.keeper.audit(room, &mut self.lobby);
        }
    }

    fn note_durable(&self, common: &mut Common<'_>) {
        for room in self.lobby.room_names() {
            if let Some(tick) = self.keeper.handle(room).and_then(|handle| handle.durable()) {
                let known = common.durable.entry(room.to_owned()).or_default();
                *known = tick.max(*known);
            }
        }
    }

    fn part_with_the_silent(&mut self) {
        for (silent, _) in self.heard.values_mut() {
            *silent += 1;
        }
        let gone: Vec<ConnectionId> = self.heard.iter().filter(|(_, (silent, _))| *silent > SILENT_STEPS).map(|(id, _)| *id).collect();
        for connection in gone {
            self.part(connection, LeaveReason::Timeout);
        }
    }

    pub(super) fn part(&mut self, connection: ConnectionId, why: LeaveReason) {
        if self.heard.remove(&connection).is_some() {
            self.lobby.disconnected(connection, why);
        }
    }

    /// What is to be sent, and which connections end.
    pub(super) fn pump(&mut self, mut send: impl FnMut(ConnectionId, Bytes)) -> Vec<ConnectionId> {
        let closed = self.lobby.pump(|connection, own, shared| send(connection, [own, shared].concat().into()));
        self.heard.retain(|connection, _| !closed.contains(connection));
        closed
    }
}
