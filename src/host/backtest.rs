//! Rules tried on recorded matches: many rooms run again by other rules than those they were played by, and what comes of them beside what was recorded.
//!
//! One room at a time is in memory, and of what is read of it some ticks and facts. A room that can't be read, or in which the rules panic, ends no other.
//!
//! What came in stays what it was: nobody walks around a door that is closed now. The counts say what a change did to these matches, not how people
//! would have played them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use thiserror::Error;

use super::keeper::{KeepError, options_of};
use super::rerun::{Again, AgainTick, Difference, Edit, Told, batches_apart, facts_apart};
use crate::protocol::{Description, FactSeq, Incoming, Protocol, RoomTick, State, Taken, Verdict};
use crate::room::{Blueprint, Ledger, Outbox, RoomError, RoomFault, RoomOptions};
use crate::store::{Archive, ChunkKind, KeptTick, StoreError, StoredFact, StoredRoom};

/// How many facts are read at once.
const FACTS_AT_ONCE: usize = 10_000;

/// Why a room can't be run again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BacktestError {
    /// What is stored can't be read, the room can't be built, or the rules panic in it.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Nothing is stored of it yet.
    #[error("no tick of it is stored")]
    Empty,
    /// The facts are not kept of all ticks that are.
    #[error("its facts before #{0} are not kept, so there is nothing to compare with")]
    NoFacts(FactSeq),
    /// It was to start otherwise than it did, or by another protocol, which it can at its creation alone.
    #[error("it can begin otherwise, or by another protocol, at its creation alone, and what is kept of it begins at tick {0}")]
    NoBeginning(RoomTick),
    /// It can't start as it was to.
    #[error("{0}")]
    Start(String),
}

impl From<StoreError> for BacktestError {
    fn from(error: StoreError) -> Self {
        Self::Keep(error.into())
    }
}

impl From<RoomFault> for BacktestError {
    fn from(fault: RoomFault) -> Self {
        Self::Keep(RoomError::from(fault).into())
    }
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// As it was recorded.
    pub recorded: u64,
    /// By the rules that were tried.
    pub now: u64,
}

impl Occurrences {
    /// How much more often than recorded; below zero where it is less often.
    pub fn change(self) -> i64 {
        (self.now as i64).saturating_sub(self.recorded as i64)
    }
}

/// How often, by names.
pub type Counts = BTreeMap<String, Occurrences>;

/// A room that was run again, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TriedRoom {
    /// Its name.
    pub room: String,
    /// The file name of the level that it was created from, without folders.
    pub level: Option<String>,
    /// The tick after which it was run: 0, its creation, or the first that is kept of it. There it goes on from a stored state, as after a restart, and
    /// the order in which its world goes over entities may be another one than it was.
    pub from: RoomTick,
    /// The tick up to which it was run: the last that was stored.
    pub to: RoomTick,
    /// The first difference. Nothing if it came out as it was recorded: every batch, byte for byte; every fact where another protocol stored the room.
    pub difference: Option<Difference>,
    /// Whether its last state is the recorded one. Nothing where another protocol stored it, since such states can't be compared.
    pub same_end: Option<bool>,
    /// Its facts, by kinds.
    pub facts: Counts,
    /// The commands and joins that were refused, by the codes of the reasons.
    pub refused: Counts,
}

/// What came of several rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How many rooms were run.
    pub rooms: usize,
    /// How many of them came out otherwise than they were recorded.
    pub differ: usize,
    /// Their facts, by kinds.
    pub facts: Counts,
    /// The commands and joins that were refused, by the codes of the reasons.
    pub refused: Counts,
}

impl Outcomes {
    fn add(&mut self, room: &TriedRoom) {
        self.rooms += 1;
        self.differ += usize::from(room.difference.is_some());
        for (sums, counts) in [(&mut self.facts, &room.facts), (&mut self.refused, &room.refused)] {
            for (name, counted) in counts {
                let sum = count_of(sums, name);
                (sum.recorded, sum.now) = (sum.recorded + counted.recorded, sum.now + counted.now);
            }
        }
    }
}

/// What came of trying rules on recorded rooms.
#[derive(Debug, Default)]
pub struct Backtest {
    /// The rooms that were run, in the order in which they were asked for.
    pub rooms: Vec<TriedRoom>,
    /// The rooms that could not be, and why. They are in no sum.
    pub failed: Vec<(String, BacktestError)>,
}

impl Backtest {
    /// True if every room could be run, and came out as it was recorded.
    pub fn is_same(&self) -> bool {
        self.failed.is_empty() && self.rooms.iter().all(|room| room.difference.is_none())
    }

    /// What came of all rooms that were run.
    pub fn in_all(&self) -> Outcomes {
        let mut all = Outcomes::default();
        self.rooms.iter().for_each(|room| all.add(room));
        all
    }

    /// What came of the rooms of each level, by the levels' file names; nothing stands for rooms without one.
    pub fn by_level(&self) -> BTreeMap<Option<String>, Outcomes> {
        let mut levels: BTreeMap<Option<String>, Outcomes> = BTreeMap::new();
        self.rooms.iter().for_each(|room| levels.entry(room.level.clone()).or_default().add(room));
        levels
    }
}

/// Changes what a room starts from: its level, its seed. Says why it can't, for a room that is then not run.
pub type StartEdit<'a> = &'a mut dyn FnMut(&mut RoomOptions) -> Result<(), String>;

/// Runs recorded rooms again, one after another, each from its creation or the first tick that is kept to the last, on what came in, by the rules of
/// `blueprint`; and compares what happens with what was recorded. `start` may change what they start from. `progress` hears the place of the room in the
/// list, and its ticks.
///
/// By unchanged rules all rooms come out the same, byte for byte, if the game keeps to what a room promises: so recorded rooms are a test of rules that
/// were not to change. By changed ones it tells in which matches that matters, from when on, and what happens more often than before.
///
/// Up to the first difference a room goes on in another process where it did; after it in the same. A room that another protocol stored can be run if that had
/// the same commands, and others at most besides them here; then its facts are compared. Whoever serves the rooms may go on meanwhile.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::host::{Keeper, backtest};
/// use roomkeeper::prelude::*;
/// use roomkeeper::room::{Blueprint, RoomOptions};
/// use roomkeeper::store::{Archive, MemoryStore, WriterOptions};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Health(i32);
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Burnt { by: i32 }
///
/// /// A hut burns down, by so much in each tick.
/// fn fire(damage: i32) -> Blueprint {
///     let protocol = |app: &mut App| {
///         app.sync::<Health>("health");
///         app.fact::<Burnt>("burnt");
///     };
///     Blueprint::new(protocol, move |app: &mut App| {
///         app.add_systems(Startup, |mut commands: Commands| {
///             commands.spawn((EntityId::with_name("hut"), Health(20)));
///         });
///         app.add_systems(FixedUpdate, move |huts: Query<&Health>, mut record: Recorder| {
///             if huts.iter().any(|health| health.0 > 0) {
///                 record.fact(Burnt { by: damage });
///             }
///         });
///         app.apply(|burnt: On<Happened<Burnt>>, mut huts: Query<&mut Health>| huts.iter_mut().for_each(|mut health| health.0 -= burnt.by));
///     })
/// }
///
/// let store = MemoryStore::new();
/// let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default())?;
/// let mut room = keeper.room(&fire(4), RoomOptions::named("hill"))?;
/// let handle = keeper.handle("hill").ok_or("it is not kept")?;
/// for _ in 0..10 {
///     handle.record(room.tick([])?.into());
/// }
/// keeper.stop();
///
/// let mut archive = Archive::new(Box::new(store), fire(4).protocol());
/// let rooms = ["hill".to_owned()];
/// assert!(backtest(&mut archive, &fire(4), &rooms, None, |_, _| {}).is_same());
/// let tried = backtest(&mut archive, &fire(5), &rooms, None, |_, _| {});
/// assert_eq!(tried.in_all().facts["burnt"].change(), -1); // four times five instead of five times four
/// assert_eq!(tried.rooms[0].same_end, Some(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn backtest(
    archive: &mut Archive,
    blueprint: &Blueprint,
    rooms: &[String],
    mut start: Option<StartEdit<'_>>,
    mut progress: impl FnMut(usize, RoomTick),
) -> Backtest {
    let mut all = Backtest::default();
    for (place, room) in rooms.iter().enumerate() {
        match try_room(archive, blueprint, room, start.as_mut(), |tick| progress(place, tick)) {
            Ok(tried) => all.rooms.push(tried),
            Err(error) => all.failed.push((room.clone(), error)),
        }
    }
    all
}

fn try_room(
    archive: &mut Archive,
    blueprint: &Blueprint,
    name: &str,
    start: Option<&mut StartEdit<'_>>,
    mut progress: impl FnMut(RoomTick),
) -> Result<TriedRoom, BacktestError> {
    let stored = archive.room(name)?;
    // What is stored meanwhile is not looked at.
    let head = archive.head(name)?.ok_or(BacktestError::Empty)?;
    let mut options = options_of(&stored.header);
    if let Some(start) = start {
        start(&mut options).map_err(BacktestError::Start)?;
    }
    let protocol = blueprint.protocol();
    let kinds = commands_of(archive, &protocol, &stored)?;
    let (again, state) = if kinds.is_some() || options != options_of(&stored.header) {
        let first = archive.first_kept(name)?;
        if first > RoomTick(0) {
            return Err(BacktestError::NoBeginning(first));
        }
        (Again::anew(archive, blueprint, name, options, head.tick)?, State::new(stored.header.id()))
    } else {
        Again::begin(archive, blueprint, name, (RoomTick(0), head.tick))?
    };
    progress(again.at);
    let next = if again.is_new { FactSeq(1) } else { again.room.world().resource::<Ledger>().next_seq() };
    let level = stored.header.level.as_ref().map(|(level, _)| level_file(level).to_owned());
    let (difference, same_end, facts, refused) = Default::default();
    let tried = TriedRoom { room: name.to_owned(), level, from: again.at, to: head.tick, difference, same_end, facts, refused };
    let mut trial = Trial { again, protocol, kinds, state, ahead: VecDeque::new(), next: Some(next), last: head.seq, tried };
    trial.open()?;
    while trial.again.at < head.tick {
        trial.tick()?;
        if trial.again.is_at_a_mark() {
            progress(trial.again.at);
        }
    }
    trial.end()
}

/// The name of a level's file without its folders, which differ from machine to machine.
pub(crate) fn level_file(level: &str) -> &str {
    level.rsplit(['/', '\\']).next().unwrap_or(level)
}

/// By which numbers a protocol knows the commands of the one that stored a room. Nothing if that is the same one.
fn commands_of(archive: &mut Archive, protocol: &Protocol, stored: &StoredRoom) -> Result<Option<Vec<usize>>, BacktestError> {
    let ours = protocol.describe();
    let (known, last) = (ours.fingerprint(), stored.fingerprint);
    let chunks = archive.store().chunks(stored.key, ChunkKind::Ticks, 0, u64::MAX >> 1, 1)?;
    let first = chunks.first().map_or(last, |chunk| chunk.fingerprint);
    if first == known && last == known {
        return Ok(None);
    }
    let other = if first == known { last } else { first };
    let Some(theirs) = archive.store().protocol(other)? else {
        let differences = vec![format!("nothing is known of the protocol {other}")];
        return Err(StoreError::Protocol { room: stored.header.name.clone(), differences }.into());
    };
    // Where it went on by another one its commands have other numbers from some tick on.
    if let Some(kinds) = numbers(&theirs, &ours).filter(|_| first == last) {
        return Ok(Some(kinds));
    }
    Err(StoreError::Protocol { room: stored.header.name.clone(), differences: ours.changes_since(&theirs) }.into())
}

/// By which numbers one protocol knows the commands of another; nothing if it does not know all of them as they were.
fn numbers(theirs: &Description, ours: &Description) -> Option<Vec<usize>> {
    let commands = |side: &Description| side.names.iter().filter(|name| name.what == "command").cloned().collect::<Vec<_>>();
    let ours = commands(ours);
    commands(theirs).iter().map(|command| ours.iter().position(|known| known == command)).collect()
}

/// Gives commands the numbers that a protocol knows them by. What was no command is none now.
fn renumber(incoming: &mut [Incoming], kinds: &[usize]) {
    for item in incoming {
        if let Incoming::Command { kind, .. } = item {
            *kind = kinds.get(*kind).copied().unwrap_or(usize::MAX);
        }
    }
}

/// A room that runs again, beside what was recorded of it.
struct Trial<'a> {
    again: Again<'a>,
    protocol: Arc<Protocol>,
    /// Where another protocol stored the room: by which numbers this one knows its commands.
    kinds: Option<Vec<usize>>,
    /// The recorded state, up to the first difference.
    state: State,
    /// Recorded facts of ticks that come.
    ahead: VecDeque<(RoomTick, Told)>,
    /// From where on the next ones are to be read; nothing if all of them were.
    next: Option<FactSeq>,
    /// The number of the last fact.
    last: FactSeq,
    tried: TriedRoom,
}

impl Trial<'_> {
    /// Compares tick 0, if it was run.
    fn open(&mut self) -> Result<(), BacktestError> {
        if !self.again.is_new {
            return Ok(());
        }
        let (kept, opening) = (self.again.recorded(RoomTick(0))?, self.again.room.opening().clone());
        self.look(&kept, &opening)
    }

    fn tick(&mut self) -> Result<(), BacktestError> {
        let AgainTick { kept, outbox, resumed } = match &self.kinds {
            None => self.again.tick(None)?,
            Some(kinds) => {
                let mut by_ours = |_: RoomTick, incoming: &mut Vec<Incoming>| renumber(incoming, kinds);
                let mut edit: Edit<'_> = &mut by_ours;
                self.again.tick(Some(&mut edit))?
            }
        };
        if let Some(state) = resumed {
            self.state = state;
        }
        self.look(&kept, &outbox)
    }

    /// Counts what happened in a tick, and compares it until something differs.
    fn look(&mut self, kept: &KeptTick, ours: &Outbox) -> Result<(), BacktestError> {
        let recorded = self.facts_of(kept.tick)?;
        let TriedRoom { facts, refused, .. } = &mut self.tried;
        recorded.iter().for_each(|(kind, _)| count_of(facts, kind).recorded += 1);
        ours.facts.iter().for_each(|fact| count_of(facts, &fact.name).now += 1);
        codes(&kept.taken).for_each(|code| count_of(refused, code).recorded += 1);
        codes(&ours.taken).for_each(|code| count_of(refused, code).now += 1);
        if self.tried.difference.is_some() {
            return Ok(());
        }
        let what = match &self.kinds {
            None => batches_apart(&self.protocol, &mut self.state, kept, ours.batch.as_ref())?,
            Some(_) => {
                let now = ours.facts.iter().map(|fact| (fact.name.to_string(), fact.to_json().unwrap_or_default()));
                facts_apart(&recorded, &now.collect::<Vec<Told>>())
            }
        };
        if let Some(what) = what {
            self.again.stay();
            self.tried.difference = Some(Difference { tick: kept.tick, what });
        }
        Ok(())
    }

    /// The recorded facts of a tick.
    fn facts_of(&mut self, tick: RoomTick) -> Result<Vec<Told>, BacktestError> {
        let mut facts = Vec::new();
        loop {
            if self.ahead.is_empty() {
                self.read_facts()?;
            }
            if self.ahead.front().is_none_or(|(of, _)| *of > tick) {
                return Ok(facts);
            }
            facts.extend(self.ahead.pop_front().map(|(_, fact)| fact));
        }
    }

    /// Reads some more of the recorded facts, if there are any.
    fn read_facts(&mut self) -> Result<(), BacktestError> {
        let Some(from) = self.next.filter(|next| *next <= self.last) else { return Ok(()) };
        let page = self.again.archive.facts(&self.tried.room, from, FACTS_AT_ONCE)?;
        // They are numbered without gaps: where another one comes, those before it are not kept.
        let hole = page.iter().zip(from.0..).find(|(fact, seq)| fact.seq.0 != *seq).map(|(fact, _)| fact.seq);
        let first = hole.or_else(|| page.is_empty().then(|| FactSeq(self.last.0.saturating_add(1))));
        if let Some(first) = first {
            return Err(BacktestError::NoFacts(first));
        }
        self.next = page.last().map(|fact| FactSeq(fact.seq.0.saturating_add(1)));
        let to = self.tried.to;
        for fact in page.into_iter().filter(|fact| fact.tick <= to) {
            let tick = fact.tick;
            let told = self.told(fact);
            self.ahead.push_back((tick, told));
        }
        Ok(())
    }

    /// A recorded fact, as this protocol tells it where another one stored it. What it says is else not looked at: batches are compared.
    fn told(&self, fact: StoredFact) -> Told {
        if self.kinds.is_none() {
            return (fact.kind, serde_json::Value::Null);
        }
        let (kind, json) = self.protocol.evolve_fact(&fact.kind, fact.json());
        // By its type: fields may have been added, and numbers have as many digits as they have now.
        let entry = self.protocol.facts.iter().find(|entry| entry.name == kind);
        let now = entry.and_then(|entry| (entry.from_json)(&json).ok()?.to_json().ok());
        (kind, now.unwrap_or(json))
    }

    /// Compares the last state, if it is not known to be the same.
    fn end(mut self) -> Result<TriedRoom, BacktestError> {
        self.tried.same_end = match (&self.kinds, &self.tried.difference) {
            (Some(_), _) => None,
            (None, None) => Some(true),
            (None, Some(_)) => {
                let (recorded, now) = (self.again.archive.state_at(&self.tried.room, self.tried.to)?, self.again.room.state()?);
                // By names: the numbers of entities go by who was there meanwhile.
                Some(names(&recorded) == names(&now) && self.again.archive.difference(&recorded, &now)?.changes.is_empty())
            }
        };
        Ok(self.tried)
    }
}

/// The entities of a state, by their names.
fn names(state: &State) -> BTreeSet<String> {
    state.entities().values().map(|entity| entity.identity.display(state.room())).collect()
}

/// The codes by which commands and joins were refused.
fn codes(taken: &[Taken]) -> impl Iterator<Item = &str> {
    taken.iter().filter_map(|taken| match &taken.verdict {
        Some(Verdict::Rejected(rejection)) => Some(rejection.code.as_str()),
        _ => None,
    })
}

fn count_of<'a>(counts: &'a mut Counts, name: &str) -> &'a mut Occurrences {
    counts.entry(name.to_owned()).or_default()
}
