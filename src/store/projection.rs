//! Readers of the ledger that build views of their own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::Value;

use super::archive::{Archive, name_of};
use super::error::StoreError;
use super::record::StoredFact;
use super::stream::Stream;
use super::tables::RoomKey;
use super::writer::CursorKeeper;
use crate::protocol::{EntityId, FactSeq, RoomTick};

/// How many facts of a room a projection is given before it is noted where it stands.
const FACTS_AT_ONCE: usize = 1_000;

/// How often a projection looks for new facts.
const ROUND: Duration = Duration::from_millis(50);

/// The same after it could not read: a database that is gone is not asked twenty times a second.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// A reader of the ledger that builds a view of its own. What it remembers is kept together with its position, so that each fact counts
/// exactly once in it, however often its process ends.
///
/// ```
/// use roomkeeper::store::{Projection, StoredFact};
///
/// /// How many doors were opened.
/// #[derive(Default)]
/// struct Doors(u64);
///
/// impl Projection for Doors {
///     fn name(&self) -> &str {
///         "doors"
///     }
///     fn take(&mut self, _room: &str, fact: &StoredFact) {
///         self.0 += u64::from(fact.kind == "door_opened");
///     }
///     fn memory(&self) -> String {
///         self.0.to_string()
///     }
///     fn remember(&mut self, memory: &str) {
///         self.0 = memory.parse().unwrap_or(0);
///     }
/// }
/// ```
pub trait Projection: Send {
    /// Under which name its position is kept.
    fn name(&self) -> &str;
    /// Takes a fact.
    fn take(&mut self, room: &str, fact: &StoredFact);
    /// What it has to remember of a room, as text.
    fn memory(&self) -> String;
    /// Takes up what it remembered.
    fn remember(&mut self, memory: &str);
}

/// Runs a projection over one room. What it remembers, and where it stands, is handed to `keep` together.
pub struct Projector<P> {
    projection: P,
    stream: Stream,
    key: RoomKey,
    failed: Option<String>,
}

impl<P> std::fmt::Debug for Projector<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projector").field("key", &self.key).field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl<P: Projection> Projector<P> {
    /// Goes on where the projection stood, or begins with the first fact.
    ///
    /// # Errors
    /// If the store can't be read, or has no such room.
    pub fn new(mut projection: P, mut archive: Archive, room: &str) -> Result<Self, StoreError> {
        let stored = archive.room(room)?;
        let key = stored.key;
        let cursor = archive.store().cursor(projection.name(), key)?;
        // Facts that it was given may have been cut off with a damaged journal: their numbers are others' now.
        let head = archive.head_of(&stored)?.map_or(FactSeq(0), |head| head.seq);
        let mut stream = Stream::from_start(archive, Some(room));
        if let Some((seq, memory)) = cursor {
            projection.remember(&memory);
            stream.after(key, seq.min(head));
        }
        Ok(Self { projection, stream, key, failed: None })
    }

    /// Gives the projection the facts that are new, and hands to `keep` where it then stands. Returns how many there were. One that
    /// panicked gets none any more: its last position stands.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn catch_up(&mut self, mut keep: impl FnMut(&str, RoomKey, FactSeq, String)) -> Result<u64, StoreError> {
        let mut count = 0;
        while self.failed.is_none() {
            let items = self.stream.next(FACTS_AT_ONCE)?;
            if items.is_empty() {
                break;
            }
            let projection = &mut self.projection;
            let taken = catch_unwind(AssertUnwindSafe(|| items.iter().for_each(|item| projection.take(&item.room, &item.fact))));
            if taken.is_err() {
                self.failed = Some(format!(
                    "it panicked between the facts {} and {}",
                    items.first().map_or(0, |item| item.fact.seq.0),
                    self.stream.position(self.key)
                ));
                tracing::error!(projection = self.projection.name(), "a projection panicked; it gets no more facts");
                break;
            }
            count += items.len() as u64;
            keep(self.projection.name(), self.key, self.stream.position(self.key), self.projection.memory());
        }
        Ok(count)
    }

    /// Gives the projection the facts as they become durable, in a thread of its own, until the writer stops. However slow it is, it keeps
    /// nobody waiting: it reads what is stored. Dropping the handle stops nothing.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(mut self, cursors: CursorKeeper) -> Result<std::thread::JoinHandle<Self>, StoreError>
    where
        P: 'static,
    {
        let name = format!("projection {}", self.projection.name());
        let run = move || {
            let mut said = None;
            while self.failed.is_none() && !cursors.is_stopping() {
                let caught_up = self.catch_up(|name, room, seq, memory| cursors.keep(name, room, seq, memory));
                let why = caught_up.err().map(|error| error.to_string());
                // What stays wrong is said once.
                if let Some(error) = why.as_ref().filter(|why| said.as_ref() != Some(*why)) {
                    tracing::warn!(error, projection = self.projection.name(), "a projection can't read what is stored; it tries again");
                }
                std::thread::sleep(if why.is_some() { AFTER_ERROR } else { ROUND });
                said = why;
            }
            self
        };
        std::thread::Builder::new().name(name).spawn(run).map_err(StoreError::io("a projection's thread can't be started"))
    }

    /// How many facts of its room it has not seen yet.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn lag(&mut self) -> Result<u64, StoreError> {
        let key = self.key;
        let position = self.stream.position(key);
        let room = self.stream.rooms()?.into_iter().find(|room| room.key == key);
        let head = room.map(|room| self.stream.archive().head_of(&room)).transpose()?.flatten();
        Ok(head.map_or(0, |head| head.seq.0.saturating_sub(position.0)))
    }

    /// Why it gets no more facts, if so.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The projection.
    pub fn projection(&self) -> &P {
        &self.projection
    }
}

/// Tells a fact as a sentence: its kind, what it says, and how people call those it names. Nothing for one that is not worth a sentence.
pub type Teller = fn(&str, &Value, &dyn Fn(&str) -> String) -> Option<String>;

/// The ledger as a story: a sentence a fact, and repetitions told once.
#[derive(Clone, Debug)]
pub struct Narration {
    teller: Teller,
    names: BTreeMap<EntityId, String>,
    lines: Vec<(RoomTick, String, u32)>,
}

impl Narration {
    /// A story. `names`: how people call those whom facts name; who joins is known without.
    pub fn new(teller: Teller, names: BTreeMap<EntityId, String>) -> Self {
        Self { teller, names, lines: Vec::new() }
    }

    /// The lines that were not taken yet: tick and sentence. One that was told several times in a row ends with how often.
    pub fn take_lines(&mut self) -> Vec<(RoomTick, String)> {
        let lines = std::mem::take(&mut self.lines).into_iter();
        let often = |(tick, line, times): (RoomTick, String, u32)| match times {
            1 => (tick, line),
            2 => (tick, format!("{line} (twice)")),
            times => (tick, format!("{line} ({times} times)")),
        };
        lines.map(often).collect()
    }

    /// The sentence of a fact.
    pub fn tell(&mut self, fact: &StoredFact) -> Option<String> {
        if let Some(joined) = fact.joined() {
            self.names.insert(joined.user, joined.name);
        }
        let who = |id: &str| name_of(&self.names, id);
        (self.teller)(&fact.kind, &fact.json(), &who)
    }
}

impl Projection for Narration {
    fn name(&self) -> &str {
        "narration"
    }

    fn take(&mut self, _: &str, fact: &StoredFact) {
        let Some(line) = self.tell(fact) else { return };
        match self.lines.last_mut() {
            // The same within two seconds is told once.
            Some((tick, last, times)) if *last == line && fact.tick.0.saturating_sub(tick.0) <= 40 => *times += 1,
            _ => self.lines.push((fact.tick, line, 1)),
        }
    }

    fn memory(&self) -> String {
        let names: BTreeMap<String, &String> = self.names.iter().map(|(id, name)| (id.to_string(), name)).collect();
        serde_json::to_string(&names).unwrap_or_default()
    }

    fn remember(&mut self, memory: &str) {
        let names: BTreeMap<String, String> = serde_json::from_str(memory).unwrap_or_default();
        self.names.extend(names.into_iter().map(|(id, name)| (EntityId::parse(&id), name)));
    }
}

/// Points for facts: whose command brought them about.
#[derive(Clone, Debug, Default)]
pub struct Scoreboard {
    points: BTreeMap<String, i64>,
    scores: BTreeMap<String, i64>,
    names: BTreeMap<String, String>,
}

impl Scoreboard {
    /// So many points for each fact of a kind.
    pub fn new(points: &[(&str, i64)]) -> Self {
        let points = points.iter().map(|(kind, points)| ((*kind).to_owned(), *points)).collect();
        Self { points, ..Self::default() }
    }

    /// The scores, best first.
    pub fn scores(&self) -> Vec<(String, i64)> {
        let name = |id: &String| self.names.get(id).unwrap_or(id).clone();
        let mut scores: Vec<_> = self.scores.iter().map(|(id, score)| (name(id), *score)).collect();
        scores.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        scores
    }
}

impl Projection for Scoreboard {
    fn name(&self) -> &str {
        "scoreboard"
    }

    fn take(&mut self, _: &str, fact: &StoredFact) {
        if let Some(joined) = fact.joined() {
            self.names.insert(joined.user.to_string(), joined.name);
        }
        if let (Some(points), Some(author)) = (self.points.get(&fact.kind), fact.author) {
            *self.scores.entry(author.to_string()).or_default() += points;
        }
    }

    fn memory(&self) -> String {
        serde_json::to_string(&(&self.scores, &self.names)).unwrap_or_default()
    }

    fn remember(&mut self, memory: &str) {
        (self.scores, self.names) = serde_json::from_str(memory).unwrap_or_default();
    }
}
