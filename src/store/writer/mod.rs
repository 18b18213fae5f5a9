//! The writer: one thread that takes what all rooms hand over, and commits it together every 50 ms. The rooms never wait for it.

mod audit;
mod by_hand;
mod fresh;
mod gauge;
mod lost;
mod options;
mod requests;
mod waiting;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::fresh::Board;
pub use self::fresh::{FreshFacts, RoomFate, RoomNews};
use self::gauge::{Gauge, Own};
pub use self::options::{Pressure, WriterOptions, WriterReport};
use self::requests::thread_time;
use self::waiting::Waiting;
use super::chain::Chain;
use super::clock::instant;
use super::error::StoreError;
use super::follow::{Beginning, Cadence, Follower};
use super::record::{RoomHeader, TickRecord};
use super::recovery::seal_journal;
use super::tables::{Flush, RoomKey, Seal, Store};
use crate::protocol::{FactSeq, Incoming, Protocol, RoomTick, Standing, State, write_bytes, write_varint};

/// How long the writer waits after an error before it tries again, at most.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long a writer that is to stop goes on trying.
const LAST_TRIES: Duration = Duration::from_secs(2);

/// How often the writer looks for requests, in rounds: also where nothing is written.
const REQUESTS_EVERY: u64 = 4;

/// How a room begins in this process.
#[derive(Debug)]
pub enum Opening {
    /// It is new. What is handed over begins with tick 0.
    New,
    /// It goes on.
    Resumed {
        /// Its state.
        state: Box<State>,
        /// Where it stands besides.
        standing: Box<Standing>,
        /// The chain of hashes over what is stored.
        chain: Chain,
    },
}

/// Something that is asked of a room through its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The number of the request.
    pub id: i64,
    /// The room's name.
    pub room: String,
    /// What the room is to take in.
    pub incoming: Incoming,
}

struct Opened {
    number: u64,
    header: RoomHeader,
    protocol: Arc<Protocol>,
    opening: Opening,
    gauge: Own,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Bytes that wait or are being written.
    pending: AtomicUsize,
    pressure: AtomicU8,
    next_room: AtomicU64,
    done: Mutex<Done>,
    committed: Condvar,
    fresh: Mutex<Board>,
}

#[derive(Default)]
struct Done {
    syncs: u64,
    failing: Option<String>,
    report: WriterReport,
    /// Rooms that are another host's now.
    lost: Vec<String>,
    stopped: bool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes where projections stand, from any thread.
#[derive(Clone)]
pub struct CursorKeeper(Arc<Shared>);

impl std::fmt::Debug for CursorKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKeeper")
    }
}

impl CursorKeeper {
    /// Notes with the next flush where a projection stands, and what it remembers.
    pub fn keep(&self, projection: &str, room: RoomKey, seq: FactSeq, memory: String) {
        self.0.waiting().cursors.push((projection.to_owned(), room, seq, memory));
    }

    /// True once the writer has stopped or is about to.
    pub fn is_stopping(&self) -> bool {
        self.0.waiting().stop || self.0.done().stopped
    }
}

/// Takes what rooms hand over and commits it. Dropping it stops it as [`stop`](Self::stop) does.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// What the thread does, where there is none.
    work: Option<Mutex<Work>>,
    options: WriterOptions,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A room's end of the writer.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    gauge: Arc<Gauge>,
    number: u64,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("number", &self.number).field("durable", &self.durable()).finish_non_exhaustive()
    }
}

impl Handle {
    /// Hands a tick over. Does not wait for anything.
    pub fn record(&self, record: TickRecord) {
        let weight = record.weight();
        self.shared.pending.fetch_add(weight, Ordering::Relaxed);
        let mut waiting = self.shared.waiting();
        waiting.bytes += weight;
        waiting.records.push((self.number, record));
    }

    /// The last tick that would survive; nothing as long as there is none.
    pub fn durable(&self) -> Option<RoomTick> {
        self.gauge.durable()
    }

    /// Says that nothing more will come.
    pub fn close(&self) {
        self.shared.waiting().closed.push(self.number);
    }

    /// True once the writer has nothing more of a room that was closed: all of it is stored and in order, or was lost or given up.
    pub fn is_over(&self) -> bool {
        self.gauge.is_over()
    }
}

impl Writer {
    /// Starts a writer. What an earlier process left in the journal is put in order first; `report` hears what was found missing or
    /// damaged.
    ///
    /// # Errors
    /// If the store can't be read or written.
    pub fn start(store: Box<dyn Store>, options: WriterOptions, report: impl FnMut(String)) -> Result<Self, StoreError> {
        let work = Work::new(store, options, report)?;
        let shared = work.shared.clone();
        let thread = std::thread::Builder::new().name("roomkeeper-writer".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(StoreError::io("the writer's thread can't be started"))?;
        Ok(Self { shared, thread: Some(thread), work: None, options })
    }

    /// Opens a room. It is noted with the next flush.
    pub fn open(&self, header: RoomHeader, protocol: Arc<Protocol>, opening: Opening) -> Handle {
        let number = self.shared.next_room.fetch_add(1, Ordering::Relaxed);
        let gauge = Arc::new(Gauge::default());
        if let Opening::Resumed { standing, .. } = &opening {
            gauge.reached(standing.tick);
        }
        self.shared.done().lost.retain(|lost| *lost != header.name);
        self.shared.waiting().opened.push(Opened { number, header, protocol, opening, gauge: Own(gauge.clone()) });
        Handle { shared: self.shared.clone(), gauge, number }
    }

    /// How far the store is behind. Once it is more than `Easy`, it is so until three quarters of the buffer are free.
    pub fn pressure(&self) -> Pressure {
        let (pending, max) = (self.shared.pending.load(Ordering::Relaxed), self.options.buffer_bytes_max);
        let was = self.shared.pressure.load(Ordering::Relaxed);
        let now = match pending {
            _ if pending >= max => Pressure::Full,
            _ if pending >= max / 2 => Pressure::High,
            _ if was > 0 && pending > max / 4 => Pressure::High,
            _ => Pressure::Easy,
        };
        self.shared.pressure.store(now as u8, Ordering::Relaxed);
        now
    }

    /// Bytes that wait to be written, or are being written.
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// Why nothing can be written at the moment, if so.
    pub fn failing(&self) -> Option<String> {
        self.shared.done().failing.clone()
    }

    /// The rooms that are not leased to this host any more, since this was last called. Nothing more of them is written: they are to be
    /// stopped here, and their players sent to who has them.
    pub fn lost(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.done().lost)
    }

    /// What is asked of the rooms through their data, since this was last called.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.waiting().asked)
    }

    /// Says what came of a request.
    pub fn answer(&self, request: i64, answer: impl Into<String>) {
        self.shared.waiting().answered.push((request, answer.into()));
    }

    /// What notes where projections stand.
    pub fn cursor_keeper(&self) -> CursorKeeper {
        CursorKeeper(self.shared.clone())
    }

    /// What tells the facts that become durable from now on.
    pub fn fresh_facts(&self) -> FreshFacts {
        FreshFacts::of(self.shared.clone())
    }

    /// Waits until everything that was handed over is written and sealed.
    ///
    /// # Errors
    /// If the writer has stopped.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sync_within(Duration::MAX)
    }

    /// Waits for that, and no longer than so long.
    ///
    /// # Errors
    /// If the writer has stopped, or could not do so much in that time: it goes on with it.
    pub fn sync_within(&self, at_most: Duration) -> Result<(), StoreError> {
        let begun = instant();
        let wanted = {
            let mut waiting = self.shared.waiting();
            waiting.syncs_asked += 1;
            waiting.syncs_asked
        };
        self.shared.wake.notify_all();
        self.step();
        let mut done = self.shared.done();
        while done.syncs < wanted {
            if done.stopped {
                return Err(StoreError::Stopped);
            }
            let left = at_most.saturating_sub(begun.elapsed()).min(Duration::from_secs(3_600));
            if left.is_zero() {
                let detail = done.failing.clone().unwrap_or_else(|| format!("it takes longer than {at_most:?} to write what waits"));
                return Err(StoreError::Unfit { place: "the store".to_owned(), detail });
            }
            done = self.shared.committed.wait_timeout(done, left).map_or_else(|error| error.into_inner().0, |(done, _)| done);
        }
        Ok(())
    }

    /// True if somebody waited for all to be written, and it is not done yet.
    pub(crate) fn is_behind(&self) -> bool {
        let asked = self.shared.waiting().syncs_asked;
        self.shared.done().syncs < asked
    }

    /// What it did so far.
    pub fn report(&self) -> WriterReport {
        self.shared.done().report.clone()
    }

    /// Writes and seals everything, and stops.
    pub fn stop(mut self) -> WriterReport {
        self.end();
        self.report()
    }

    fn end(&mut self) {
        self.shared.waiting().stop = true;
        self.shared.wake.notify_all();
        self.step();
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A room, as the writer's thread has it.
struct Room {
    follower: Follower,
    gauge: Own,
    journal: Vec<u8>,
    /// What the flush makes durable.
    reached: Option<RoomTick>,
    closed: bool,
    broken: bool,
    /// The last fact that was told as fresh, and whether the room was told to be closed.
    told: Option<(FactSeq, bool)>,
}

/// The writer's thread.
struct Work {
    store: Box<dyn Store>,
    options: WriterOptions,
    shared: Arc<Shared>,
    rooms: BTreeMap<u64, Room>,
    /// The number of the last flush.
    number: u64,
    rounds: u64,
    report: WriterReport,
    stopping_since: Option<Instant>,
    /// What is written of rooms that go on, before anything else of them.
    first_seals: Vec<Seal>,
    /// How often in a row something could not be written.
    failures: u32,
    /// How often it was tried since something could be written, where nobody waits.
    by_hand: Option<u32>,
}

impl Work {
    fn new(mut store: Box<dyn Store>, options: WriterOptions, report: impl FnMut(String)) -> Result<Self, StoreError> {
        let number = seal_journal(&mut *store, report)?;
        let (shared, rooms, first_seals, report) = Default::default();
        let (rounds, failures, stopping_since, by_hand) = Default::default();
        Ok(Self { store, options, shared, rooms, number, rounds, report, stopping_since, first_seals, failures, by_hand })
    }

    fn run(mut self) {
        // Whatever ends this thread, who waits for it is told.
        struct Tell(Arc<Shared>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.done().stopped = true;
                self.0.committed.notify_all();
            }
        }
        let _tell = Tell(self.shared.clone());
        let mut last = instant();
        loop {
            let (waiting, syncs) = self.wait(last);
            let stop = waiting.stop;
            last = instant();
            if self.round(waiting, syncs) && (stop || self.has_given_up()) {
                return;
            }
        }
    }

    /// Writes what was taken. True if all that waited then is written, or given up.
    fn round(&mut self, waiting: Waiting, syncs: u64) -> bool {
        let (stop, is_cut) = (waiting.stop, waiting.is_cut);
        // What is cut is sealed piece by piece: all of it at once would be too much in the end.
        let sealing = stop || is_cut || syncs > self.shared.done().syncs;
        if stop {
            self.stopping_since.get_or_insert_with(instant);
        }
        let bytes = waiting.bytes;
        let flush = self.prepare(waiting, sealing);
        // Who gave up writes nothing after the gap.
        let is_over = !self.commit(flush) || !is_cut;
        self.shared.pending.fetch_sub(bytes, Ordering::Relaxed);
        self.rounds += 1;
        if self.rounds.is_multiple_of(REQUESTS_EVERY) {
            self.look_for_requests();
        }
        let mut done = self.shared.done();
        if is_over {
            done.syncs = syncs;
        }
        // A writer by hand has no thread of its own, and nobody waits for it.
        if self.by_hand.is_none() {
            self.report.busy = thread_time();
        }
        done.report = self.report.clone();
        drop(done);
        if self.by_hand.is_none() {
            self.shared.committed.notify_all();
        }
        if stop && is_over {
            // It fails where a reader is in the middle of something; the next process does it then.
            let _ = self.store.settle();
        }
        is_over
    }

    /// Waits for the next flush and takes what there is.
    fn wait(&self, last: Instant) -> (Waiting, u64) {
        let mut waiting = self.shared.waiting();
        loop {
            let left = self.options.flush_every.saturating_sub(last.elapsed());
            if left.is_zero() || waiting.stop || waiting.is_rest || waiting.syncs_asked > self.shared.done().syncs {
                return waiting.take();
            }
            waiting = self.shared.wake.wait_timeout(waiting, left).map_or_else(|error| error.into_inner().0, |(guard, _)| guard);
        }
    }

    /// Puts together what is written at once.
    fn prepare(&mut self, waiting: Waiting, sealing: bool) -> Flush {
        let (last, whole) = (self.number, sealing && !waiting.is_cut);
        for opened in waiting.opened {
            self.enter(opened);
        }
        // What was left of rooms that are opened again took a flush of its own, in which other rooms would have been due.
        let all_due = sealing || self.number > last;
        self.keep_fresh();
        for (number, record) in waiting.records {
            let Some(room) = self.rooms.get_mut(&number) else { continue };
            if let Err(error) = room.follower.take(&record, &mut room.journal)
                && !room.broken
            {
                room.broken = true;
                tracing::error!(%error, "what a room hands over does not fit together; its ticks and facts are kept, its checkpoints are not");
            }
            room.reached = Some(record.tick);
            self.compare(&waiting.audits, number, record.tick);
        }
        for number in waiting.closed {
            self.rooms.entry(number).and_modify(|room| room.closed = true);
        }
        self.number += 1;
        let mut flush = Flush { number: self.number, cursors: waiting.cursors, answered: waiting.answered, ..Flush::default() };
        let seal_every = u64::from(self.options.seal_every.max(1));
        flush.journal_done = if sealing { self.number } else { self.number.saturating_sub(seal_every) };
        flush.seals.append(&mut self.first_seals);
        let cadence = self.cadence();
        let (mut frame, mut framed) = (Vec::new(), 0);
        for (number, room) in &mut self.rooms {
            let due = all_due || room.closed || (number + self.number).is_multiple_of(seal_every);
            let settles = (whole || room.closed) && !room.broken && room.follower.has_older_table();
            if (due && room.follower.is_unsealed()) || settles {
                let seal = room.follower.seal(cadence, whole || room.closed, room.broken);
                flush.seals.push(seal);
            } else if !room.journal.is_empty() {
                framed += 1;
                write_varint(room.follower.key.0.cast_unsigned(), &mut frame);
                write_bytes(&room.journal, &mut frame);
            }
            room.journal.clear();
        }
        if framed > 0 {
            write_varint(framed, &mut flush.frame);
            flush.frame.append(&mut frame);
        }
        flush
    }

    fn cadence(&self) -> Cadence {
        Cadence { components_every: self.options.components_every, checkpoint_every: self.options.checkpoint_every }
    }

    fn enter(&mut self, opened: Opened) {
        let Opened { number, header, protocol, opening, gauge } = opened;
        let description = protocol.describe();
        self.finish_earlier(&header.name);
        if self.has_given_up() {
            return;
        }
        let key = loop {
            match self.store.enter(&header, &description) {
                Ok(key) => break key,
                Err(StoreError::Lost { rooms }) => {
                    self.lose(&rooms);
                    return;
                }
                Err(error) if self.recover(&error) => {}
                Err(_) => return,
            }
        };
        let begin = match opening {
            Opening::New => {
                let (state, chain) = (State::new(header.id()), Chain::new(header.id()));
                let standing = Standing { next_seq: FactSeq(1), ..Standing::default() };
                Beginning { state, standing, chain, resumed: false }
            }
            Opening::Resumed { state, standing, chain } => Beginning { state: *state, standing: *standing, chain, resumed: true },
        };
        let resumed = begin.resumed;
        let mut follower = Follower::new(key, header, protocol, begin);
        if resumed {
            // Where it goes on is written before what happens then: running it again begins there, and another protocol's state does not
            // have to be read twice.
            self.first_seals.push(follower.seal(self.cadence(), true, false));
        }
        let room = Room { follower, gauge, journal: Vec::new(), reached: None, closed: false, broken: false, told: None };
        self.rooms.insert(number, room);
    }

    /// True once a flush was given up. What follows would be written after a gap: nothing more is.
    fn has_given_up(&self) -> bool {
        self.report.given_up.is_some()
    }

    /// Commits a flush, however often it takes. False if it was given up, or one before it.
    fn commit(&mut self, mut flush: Flush) -> bool {
        if self.has_given_up() {
            return false;
        }
        let idle = flush.frame.is_empty() && flush.seals.is_empty() && flush.cursors.is_empty() && flush.answered.is_empty();
        if idle {
            self.number -= 1;
            self.tell_fresh();
            self.leave(|room| room.closed);
            return true;
        }
        let began = instant();
        loop {
            match self.store.commit(&flush) {
                Ok(()) => break,
                Err(StoreError::Lost { rooms }) if self.lose_from(&rooms, &mut flush) => {}
                Err(error) => {
                    if !self.recover(&error) {
                        return false;
                    }
                    // It may have been committed in spite of the error.
                    if self.store.last_flush().is_ok_and(|last| last >= flush.number) {
                        break;
                    }
                }
            }
        }
        self.by_hand = self.by_hand.map(|_| 0);
        self.report.flushes += 1;
        let took = began.elapsed();
        self.report.commit_max = self.report.commit_max.max(took);
        self.report.commit_sum += took;
        let failed = self.shared.done().failing.take();
        if let Some(failure) = failed {
            tracing::warn!(failure, after = ?began.elapsed(), "the store can be written again");
        }
        for room in self.rooms.values_mut() {
            if let Some(reached) = room.reached.take() {
                room.gauge.reached(reached);
            }
        }
        self.tell_fresh();
        self.leave(|room| room.closed);
        // As long as it gets on it has time.
        self.stopping_since = self.stopping_since.map(|_| instant());
        true
    }

    /// Nothing more comes of some rooms.
    fn leave(&mut self, which: impl Fn(&Room) -> bool) {
        for (_, room) in self.rooms.extract_if(.., |_, room| which(room)) {
            self.store.leave(room.follower.key);
        }
    }

    /// Waits a little after an error and starts the store over. False if it is time to give up.
    fn recover(&mut self, error: &StoreError) -> bool {
        let mut done = self.shared.done();
        let first = done.failing.is_none();
        // One that could not be opened again knows no more than that: why, it said then.
        if first || !matches!(error, StoreError::Stopped) {
            done.failing = Some(error.to_string());
        }
        drop(done);
        if first {
            tracing::error!(%error, "the store can't be written; rooms go on as long as the buffer lasts");
        }
        self.failures = if first { 1 } else { self.failures.saturating_add(1) };
        self.report.retries += 1;
        if let Some(tries) = &mut self.by_hand {
            *tries += 1;
            let goes_on = *tries < by_hand::TRIES_MAX && self.store.reopen().is_ok();
            self.report.given_up = (!goes_on).then(|| error.to_string());
            return goes_on;
        }
        let pause = Duration::from_millis(20).saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        let mut waiting = self.shared.waiting();
        if !waiting.stop {
            waiting = self.shared.wake.wait_timeout(waiting, pause).map_or_else(|error| error.into_inner().0, |(guard, _)| guard);
        }
        let stop = waiting.stop;
        drop(waiting);
        if stop {
            let since = *self.stopping_since.get_or_insert_with(instant);
            if error.is_damage() || since.elapsed() > LAST_TRIES {
                self.report.given_up = Some(error.to_string());
                tracing::error!(%error, "the store can't be written; what waited is lost");
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // If this fails too, so will the next try.
        if let Err(error) = self.store.reopen() {
            self.shared.done().failing = Some(error.to_string());
        }
        true
    }
}
