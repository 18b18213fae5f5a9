//! The publisher's thread.

use std::collections::BTreeMap;
use std::mem::Discriminant;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::clock::instant;
use super::super::error::StoreError;
use super::super::tables::{RoomKey, Store};
use super::super::writer::{CursorKeeper, FreshFacts, RoomFate};
use super::fact::ToldFact;
use super::failure::NatsError;
use super::line::{Line, PUT_OFF_FOR, Place, Sealed};
use super::options::Target;
use super::publisher::Shared;
use super::session::{Last, Message, Run, Session};
use super::subject::subject_of;
use crate::protocol::{FactSeq, RoomId};

/// How often it looks for new facts.
const ROUND: Duration = Duration::from_millis(50);

/// How many rooms are told at once: so many facts are on their way.
const ROOMS_AT_ONCE: usize = 64;

/// How many facts of a room are told in its turn.
const FACTS_AT_ONCE: usize = 128;

/// How often a room's position is noted in the store, while it changes.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How many rooms that are closed, with facts left, are looked after at a time.
const CLOSED_MAX: usize = 1_024;

/// How many of those whose facts can't be told are known beside them: with more, others that were left are not looked for until some of these are mended.
const PUT_OFF_MAX: usize = 16_384;

/// How many of them are looked at again at once.
const PUT_OFF_AT_ONCE: usize = 16;

/// How long it waits after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct Work {
    target: Target,
    store: Box<dyn Store>,
    fresh: FreshFacts,
    cursors: CursorKeeper,
    shared: Arc<Shared>,
    lines: BTreeMap<RoomKey, Line>,
    session: Option<Session>,
    /// The store may have rooms with facts left that are not among the lines.
    look_for_left: bool,
    /// The room that was told last.
    turn: RoomKey,
    pause: Duration,
    failing: Option<Discriminant<NatsError>>,
}

impl Work {
    pub(super) fn new(target: Target, store: Box<dyn Store>, (fresh, cursors): (FreshFacts, CursorKeeper), shared: Arc<Shared>) -> Self {
        Self {
            target,
            store,
            fresh,
            cursors,
            shared,
            lines: BTreeMap::new(),
            session: None,
            look_for_left: true,
            turn: RoomKey(i64::MIN),
            pause: RETRY.0,
            failing: None,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            self.take_news();
            if self.is_over() {
                break;
            }
            match self.round() {
                Ok(()) => self.succeed(),
                Err(error) => self.fail(&error),
            }
            self.report();
        }
        self.keep_positions(true);
        self.report();
        self.shared.is_connected.store(false, Ordering::Relaxed);
    }

    /// True if it is to stop, and nothing is left that could be told in time.
    fn is_over(&self) -> bool {
        let Some(until) = self.shared.stops_at() else { return false };
        let is_idle = !self.lines.values().any(Line::is_due);
        self.session.is_none() || is_idle || instant() >= until
    }

    /// Takes up what became durable.
    fn take_news(&mut self) {
        for news in self.fresh.take() {
            if news.fate == RoomFate::Lost {
                // Who has the room publishes its facts.
                self.lines.remove(&news.key);
                continue;
            }
            let new = || Line { is_fork: news.is_fork, ..Line::new(news.key, &news.room, news.id, news.head, news.fate) };
            self.lines.entry(news.key).or_insert_with(new).hear(&news);
        }
        let done: Vec<RoomKey> = self.lines.iter().filter(|(_, line)| line.is_closed() && line.waits() == 0).map(|(key, _)| *key).collect();
        for key in done {
            self.keep_position(key, true);
            self.lines.remove(&key);
        }
        // The ledger remembers those for which there is no place here.
        let (before, mut going, mut put_off) = (self.lines.len(), 0, 0);
        self.lines.retain(|_, line| {
            let (count, most) = if line.is_put_off() { (&mut put_off, PUT_OFF_MAX) } else { (&mut going, CLOSED_MAX) };
            *count += usize::from(line.is_closed());
            !line.is_closed() || *count <= most
        });
        self.look_for_left |= self.lines.len() < before;
    }

    fn round(&mut self) -> Result<(), NatsError> {
        if self.session.is_none() {
            self.session = Some(Session::open(&self.target, self.shared.clone())?);
            self.look_for_left = true;
            self.shared.is_connected.store(true, Ordering::Relaxed);
            tracing::info!(servers = self.target.shown, stream = self.target.options.stream, "facts are published");
        }
        // Those that are put off would otherwise keep all that were created after them from their turn.
        if self.look_for_left && !self.lines.values().any(|line| line.is_closed() && !line.is_put_off()) {
            self.find_left()?;
        }
        let due = self.due();
        self.find_places(&due)?;
        self.load(&due)?;
        let told = self.publish(&due)?;
        self.keep_positions(false);
        match &self.session {
            Some(session) if told == 0 => session.idle(ROUND),
            _ => Ok(()),
        }
    }

    /// Finds rooms with facts left that nobody has open here: they were closed, or their process ended, while there was no NATS. Several hosts may find
    /// the same: what they tell twice is let fall.
    fn find_left(&mut self) -> Result<(), StoreError> {
        let put_off = self.lines.values().filter(|line| line.is_closed() && line.is_put_off()).count();
        let most = CLOSED_MAX.min(PUT_OFF_MAX.saturating_sub(put_off));
        if most == 0 {
            return Ok(());
        }
        let name = self.target.options.position_name();
        let (mut left, mut is_more) = (0, false);
        for room in self.store.rooms()? {
            // What was tried in a fork never happened.
            let Some(head) = room.sealed.filter(|_| room.intact && room.header.forked_from.is_none()) else { continue };
            if self.lines.contains_key(&room.key) {
                continue;
            }
            let kept = self.store.cursor(&name, room.key)?;
            let is_told =
                kept.is_some_and(|(seq, memory)| seq >= head.seq && Some(&memory) == self.session.as_ref().map(|session| &session.created));
            if is_told || head.seq == FactSeq(0) {
                continue;
            }
            if left == most {
                is_more = true;
                break;
            }
            left += 1;
            self.lines.insert(room.key, Line::new(room.key, &room.header.name, room.header.told_id(), head.seq, RoomFate::Closed));
        }
        // Where the store could not be read it is looked for again.
        self.look_for_left = is_more;
        Ok(())
    }

    /// The rooms whose turn it is, and those that were put off for long enough: a few, so that they hold nobody up.
    fn due(&mut self) -> Vec<RoomKey> {
        let after = self.lines.range((Bound::Excluded(self.turn), Bound::Unbounded));
        let turns = after.chain(self.lines.range(..=self.turn));
        let mut due: Vec<RoomKey> = turns.filter(|(_, line)| line.is_due()).map(|(key, _)| *key).take(ROOMS_AT_ONCE).collect();
        self.turn = due.last().copied().unwrap_or(self.turn);
        let now = instant();
        let again = self.lines.iter().filter_map(|(key, line)| Some((line.put_off()?, *key)));
        let mut again: Vec<(Instant, RoomKey)> = again.filter(|(since, _)| now.duration_since(*since) > PUT_OFF_FOR).collect();
        again.sort_unstable();
        due.extend(again.into_iter().map(|(_, key)| key).take(PUT_OFF_AT_ONCE));
        due
    }

    /// Finds out how far the stream has come with rooms of which that is not known.
    fn find_places(&mut self, due: &[RoomKey]) -> Result<(), NatsError> {
        let Some(session) = &self.session else { return Ok(()) };
        let unknown = due.iter().filter_map(|key| self.lines.get(key)).filter(|line| !matches!(line.place, Place::Known));
        let unknown: Vec<(RoomKey, String)> = unknown.map(|line| (line.key, line.room.clone())).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let (created, name) = (session.created.clone(), self.target.options.position_name());
        let keeps_the_last = session.keeps_the_last();
        for (key, last) in session.last_of(&self.target.options.prefix, unknown)? {
            let Some(line) = self.lines.get_mut(&key) else { continue };
            // A position in another stream says nothing of this one.
            let kept = self.store.cursor(&name, key)?.filter(|(_, memory)| *memory == created).map_or(0, |(seq, _)| seq.0);
            // Where there is a last message, what the stream took after it is lost there: it is told again.
            let kept = if keeps_the_last && matches!(last, Last::Fact(_)) { 0 } else { kept };
            place(line, &mut *self.store, last, kept).or_else(|error| spoilt(line, error))?;
        }
        Ok(())
    }

    /// Has the next facts in memory, from the ledger where they are not.
    fn load(&mut self, due: &[RoomKey]) -> Result<(), StoreError> {
        for key in due {
            let Some(line) = self.lines.get_mut(key).filter(|line| matches!(line.place, Place::Known) && line.queue.is_empty()) else {
                continue;
            };
            match line.load(&mut *self.store) {
                Ok(0) => {}
                Ok(missing) => {
                    tracing::error!(
                        room = line.room,
                        missing,
                        up_to = line.told,
                        "facts were deleted from the ledger before they were published"
                    );
                    self.shared.missing.fetch_add(missing, Ordering::Relaxed);
                }
                Err(error) => spoilt(line, error)?,
            }
        }
        Ok(())
    }

    /// Tells the facts that are in memory. Returns how many the stream took.
    fn publish(&mut self, due: &[RoomKey]) -> Result<usize, NatsError> {
        let Some(session) = &self.session else { return Ok(0) };
        let mut runs = Vec::new();
        for line in due.iter().filter_map(|key| self.lines.get(key)).filter(|line| !line.queue.is_empty()) {
            let mut messages = Vec::new();
            for fact in line.queue.iter().take(FACTS_AT_ONCE) {
                let mut told = ToldFact::of(&line.room, line.id, fact);
                let unreadable =
                    |error: serde_json::Error| NatsError::Refused { room: line.room.clone(), seq: fact.seq.0, detail: error.to_string() };
                let payload = told.payload(session.payload_max).map_err(unreadable)?;
                if let Some(bytes) = told.left_out {
                    tracing::warn!(
                        room = line.room,
                        seq = fact.seq.0,
                        bytes,
                        "a fact is longer than NATS takes; it is published without what it says"
                    );
                }
                let subject = subject_of(&self.target.options.prefix, &line.room, &fact.kind);
                messages.push(Message { seq: fact.seq.0, subject, id: told.message_id(), payload });
            }
            runs.push(Run { key: line.key, room: line.room.clone(), messages });
        }
        if runs.is_empty() {
            return Ok(0);
        }
        let (ran, failure) = session.publish(runs);
        let mut taken = 0;
        for ran in ran {
            self.lines.entry(ran.key).and_modify(|line| line.advance(ran.taken));
            taken += ran.taken;
            self.shared.doubles.fetch_add(ran.doubles, Ordering::Relaxed);
        }
        self.shared.published.fetch_add(taken as u64, Ordering::Relaxed);
        failure.map_or(Ok(taken), Err)
    }

    /// Notes in the store how far the stream has come, once it is time.
    fn keep_position(&mut self, key: RoomKey, at_once: bool) {
        let Some((line, session)) = self.lines.get_mut(&key).zip(self.session.as_ref()) else { return };
        let now = instant();
        let is_new = line.kept.is_none_or(|(seq, _)| seq != line.told);
        let is_time = at_once || line.kept.is_none_or(|(_, at)| now.duration_since(at) >= KEEP_EVERY);
        if matches!(line.place, Place::Known) && is_new && is_time && line.told > 0 {
            line.kept = Some((line.told, now));
            self.cursors.keep(&self.target.options.position_name(), key, FactSeq(line.told), session.created.clone());
        }
    }

    fn keep_positions(&mut self, at_once: bool) {
        let keys: Vec<RoomKey> = self.lines.keys().copied().collect();
        keys.into_iter().for_each(|key| self.keep_position(key, at_once));
    }

    /// How many facts wait, of all rooms.
    fn waits(&self) -> u64 {
        self.lines.values().map(Line::waits).sum()
    }

    fn report(&self) {
        let refused = self.lines.values().filter(|line| line.is_refused()).count();
        self.shared.waiting.store(self.waits(), Ordering::Relaxed);
        self.shared.rooms_refused.store(refused as u64, Ordering::Relaxed);
    }

    fn succeed(&mut self) {
        self.pause = RETRY.0;
        if self.failing.take().is_some() {
            self.shared.set_failing(None);
            tracing::warn!(waiting = self.waits(), "facts are published again");
        }
    }

    /// Waits a little after a failure. A connection is not gone on with: what it has sent may still arrive, and it is asked anew what the stream has.
    fn fail(&mut self, error: &NatsError) {
        if !matches!(error, NatsError::Store(_)) {
            self.keep_positions(true);
            self.session = None;
            self.shared.is_connected.store(false, Ordering::Relaxed);
            self.lines.values_mut().for_each(Line::forget);
        }
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        self.shared.set_failing(Some(error.to_string()));
        let kind = std::mem::discriminant(error);
        // Once for each kind of failure: the next tries say the same.
        if self.failing.replace(kind) != Some(kind) {
            tracing::error!(%error, "facts can't be published; the ledger has them until they can");
        }
        let until: Instant = instant() + self.pause;
        while instant() < until && !self.shared.is_stopping() {
            std::thread::sleep(Duration::from_millis(10).min(self.pause));
        }
        self.pause = (self.pause * 2).min(RETRY.1);
    }
}

/// What is wrong with one room's data stops no other room.
fn spoilt(line: &mut Line, error: StoreError) -> Result<(), StoreError> {
    if !error.is_damage() && !matches!(error, StoreError::NoRoom { .. }) {
        return Err(error);
    }
    line.refuse(instant(), error.to_string());
    Ok(())
}

/// Works out where a room stands, by the last message that the stream has of it, and by the position that was kept, if that counts: the later one of them.
fn place(line: &mut Line, store: &mut dyn Store, last: Last, kept: u64) -> Result<(), StoreError> {
    let foreign = |line: &mut Line, what: String| {
        let why = format!("{what}; name another nats.prefix or nats.stream, or purge the room's subject");
        line.refuse(instant(), why);
    };
    let longer =
        |seq, head| format!("the stream has the facts of another ledger, or of what this one lost: up to {seq}, and this one has {head}");
    let told = match last {
        Last::Nothing => {
            line.stands_at(kept);
            return Ok(());
        }
        Last::Foreign => {
            foreign(line, "the last message of the room in the stream is no fact".to_owned());
            return Ok(());
        }
        Last::Fact(told) => told,
    };
    // What another host tells is sealed a little later, and it may always have told more by then: the ledger is to have what the stream had at first.
    let (is_new, earlier) = (line.ahead.is_none(), line.ahead.take());
    let told = earlier.filter(|earlier| earlier.seq <= told.seq && line.is_closed()).unwrap_or(told);
    let seq = told.seq;
    // Before forks had ids of their own they were told by their originals': what follows tells whether it is this one's ledger all the same.
    if told.id != line.id.as_uuid() && !line.is_fork {
        // Where rooms were deleted, one that has not the id of its name follows an earlier one, of which nothing more comes.
        if line.id != RoomId::named(&line.room) && store.deleted()? > 0 {
            line.stands_at(kept);
        } else {
            foreign(line, format!("the stream has facts of another room of this name, {}", told.id));
        }
    } else if seq > line.head && !line.is_closed() {
        foreign(line, longer(seq, line.head));
    } else {
        // Where the room is not open here another host may have gone on with it: the ledger says whether what the stream has is its own.
        match Sealed::read(store, &line.room, seq)? {
            Sealed::NotYet if seq <= line.head => {}
            Sealed::NotYet => {
                if is_new {
                    line.place = Place::Ahead(instant());
                } else {
                    foreign(line, longer(seq, line.head));
                }
                line.ahead = Some(told);
            }
            Sealed::Facts(facts) if facts.first().is_some_and(|fact| !told.is(fact)) => {
                foreign(line, format!("the stream has the facts of another ledger: its fact {seq} is not this one's"));
            }
            Sealed::Facts(_) | Sealed::Gone { .. } => {
                line.head = line.head.max(seq);
                line.stands_at(kept.max(seq));
            }
        }
    }
    Ok(())
}
