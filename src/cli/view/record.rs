//! The facts of a recorded room, in order: where one can jump to.

use std::collections::{BTreeMap, VecDeque};

use super::super::game::Game;
use super::super::output::room_time;
use crate::protocol::{EntityId, FactSeq};
use crate::store::{Archive, StoreError, StoredFact, name_of};

/// How many facts are read at once, and how many at all: some hours of a busy match.
const FACTS_AT_ONCE: usize = 10_000;
const FACTS_MAX: usize = 2_000_000;

/// How many marks a bar of time has at most.
const MARKS_MAX: usize = 400;

/// A fact, as far as it is shown.
struct Fact {
    tick: u32,
    kind: u16,
    line: Option<Box<str>>,
}

/// The facts of a room, and which of them are jumped to.
#[derive(Default)]
pub(super) struct Record {
    facts: Vec<Fact>,
    /// The kinds, and how many there are of each.
    pub(super) kinds: Vec<(String, usize)>,
    /// The kind that is jumped to; all that are told, if it is none.
    pub(super) wanted: Option<usize>,
    last: u64,
    names: BTreeMap<EntityId, String>,
    /// All facts that there were are read, or as many as there may be.
    pub(super) is_read: bool,
    marked: Marked,
}

/// Where the marks of a bar of time are, and of which ticks, kind, and facts.
type Marked = Option<(((u32, u32), Option<usize>, usize), Vec<f32>)>;

impl Record {
    /// Reads facts that are new, as many as is done in a moment.
    pub(super) fn read(&mut self, game: &Game, archive: &mut Archive, room: &str) -> Result<(), StoreError> {
        let facts = match self.facts.len() < FACTS_MAX {
            true => archive.facts(room, FactSeq(self.last + 1), FACTS_AT_ONCE)?,
            false => Vec::new(),
        };
        self.is_read = facts.len() < FACTS_AT_ONCE;
        let Some(last) = facts.last().map(|fact| fact.seq.0) else { return Ok(()) };
        self.names.extend(archive.names_of_things(room)?);
        self.names.extend(facts.iter().filter_map(StoredFact::joined).map(|joined| (joined.user, joined.name)));
        for fact in facts {
            let line = game.tell(&fact.kind, &fact.json(), &|id: &str| name_of(&self.names, id)).map(String::into_boxed_str);
            let kind = self.kinds.iter().position(|(kind, _)| *kind == fact.kind).unwrap_or_else(|| {
                self.kinds.push((fact.kind, 0));
                self.kinds.len() - 1
            });
            self.kinds.get_mut(kind).into_iter().for_each(|(_, count)| *count += 1);
            self.facts.push(Fact { tick: fact.tick.0, kind: u16::try_from(kind).unwrap_or(u16::MAX), line });
        }
        self.last = last;
        Ok(())
    }

    /// How many facts there are; and whether there are more than are read.
    pub(super) fn count(&self) -> String {
        let more = match (self.is_read, self.facts.len() < FACTS_MAX) {
            (false, _) => ", reading",
            (true, false) => " or more",
            (true, true) => "",
        };
        format!("{}{more}", self.facts.len())
    }

    fn is_wanted(&self, fact: &Fact) -> bool {
        self.wanted.map_or(fact.line.is_some(), |kind| usize::from(fact.kind) == kind)
    }

    /// What is jumped to, in words.
    pub(super) fn wanted_name(&self) -> &str {
        self.wanted.and_then(|kind| self.kinds.get(kind)).map_or("all that is told", |(kind, _)| kind)
    }

    /// The tick of the next fact, or of the one before, of those that are wanted.
    pub(super) fn jump(&self, from: u32, forward: bool) -> Option<u32> {
        if forward {
            let first = self.facts.partition_point(|fact| fact.tick <= from);
            self.facts.iter().skip(first).find(|fact| self.is_wanted(fact)).map(|fact| fact.tick)
        } else {
            let end = self.facts.partition_point(|fact| fact.tick < from);
            self.facts.iter().take(end).rev().find(|fact| self.is_wanted(fact)).map(|fact| fact.tick)
        }
    }

    /// The last lines of the story up to a tick.
    pub(super) fn story(&self, tick: u32, lines: usize) -> VecDeque<String> {
        // Of what comes after the last one that was read nothing is known.
        let is_known = (self.is_read && self.facts.len() < FACTS_MAX) || self.facts.last().is_some_and(|fact| fact.tick >= tick);
        let end = if is_known { self.facts.partition_point(|fact| fact.tick <= tick) } else { 0 };
        let told = self.facts.iter().take(end).rev().filter_map(|fact| Some((fact.tick, fact.line.as_ref()?)));
        let mut story: VecDeque<String> = VecDeque::new();
        told.take(lines).for_each(|(tick, line)| story.push_front(format!("{} {line}", room_time(tick))));
        story
    }

    /// Where on a bar from one tick to another the facts of the wanted kind are, or else those of `kinds`.
    pub(super) fn marks(&mut self, ends: (u32, u32), kinds: &[String]) -> Vec<f32> {
        let of = (ends, self.wanted, self.facts.len());
        let kept = self.marked.take().filter(|(before, _)| *before == of);
        self.marked.insert(kept.unwrap_or_else(|| (of, self.find_marks(ends, kinds)))).1.clone()
    }

    fn find_marks(&self, (from, to): (u32, u32), kinds: &[String]) -> Vec<f32> {
        let marked: Vec<bool> = match self.wanted {
            None => self.kinds.iter().map(|(kind, _)| kinds.contains(kind)).collect(),
            Some(wanted) => (0..self.kinds.len()).map(|kind| kind == wanted).collect(),
        };
        let marked = self.facts.iter().filter(|fact| marked.get(usize::from(fact.kind)).is_some_and(|marked| *marked));
        let length = f64::from(to.saturating_sub(from).max(1));
        let place = |fact: &Fact| (f64::from(fact.tick.saturating_sub(from)) / length * MARKS_MAX as f64) as usize;
        let mut places: Vec<usize> = marked.map(place).collect();
        places.dedup();
        places.into_iter().map(|place| place as f32 / MARKS_MAX as f32).collect()
    }
}
