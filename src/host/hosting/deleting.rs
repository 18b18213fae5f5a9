//! How rooms are deleted: those of which somebody says so, and those of templates that keep theirs for so long only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::{Host, Template};
use crate::host::remover::{self, Chore, Outcome, Remover};
use crate::store::StoreError;

/// How often it is looked for rooms that nobody has used for long: ten times in the time for which they are kept, within these bounds.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// For how long a host runs at most until it looks for the first time.
const LOOKS_FIRST_AFTER: Duration = Duration::from_secs(3_600);

/// How many rooms that nobody has used for long are being deleted at once.
const AT_ONCE: usize = 4;

/// What is being deleted, or is to be.
#[derive(Default)]
pub(super) struct Deleting {
    /// The rooms, and those who ordered it.
    rooms: BTreeMap<String, Vec<Sender<Result<bool, String>>>>,
    /// What deletes them, once there is one to delete or to look for.
    remover: Option<Remover>,
    /// Rooms that nobody has used for long, and for how long at least: they are next.
    unused: VecDeque<(String, Duration)>,
    /// When it is to look for such; nothing as long as it never was to.
    looks: Option<Duration>,
    /// For how many templates it is looking.
    looking: usize,
}

impl Host {
    /// Deletes a room because somebody orders it, who hears of it once it is gone.
    pub(super) fn delete_by_order(&mut self, room: &str, answer: Sender<Result<bool, String>>) {
        if let Some(answers) = self.deleting.rooms.get_mut(room) {
            return answers.push(answer);
        }
        match self.begin_to_delete(room, Duration::ZERO) {
            Ok(()) => self.deleting.rooms.entry(room.to_owned()).or_default().push(answer),
            // Who asked and is gone has no use for the answer.
            Err(why) => drop(answer.send(Err(why))),
        }
    }

    /// True while a room is being deleted: whoever wants it waits until it is gone.
    pub(super) fn is_being_deleted(&self, room: &str) -> bool {
        self.deleting.rooms.contains_key(room)
    }

    fn why_not_deleted(&mut self, room: &str) -> Option<&'static str> {
        if let Some(place) = self.places.get(room) {
            return Some(if place.ending.is_some() { "it is just ending: try again once it has" } else { "it is open: close it first" });
        }
        if self.is_to_be_opened(room) {
            return Some("it is about to be opened: close it first");
        }
        if self.keeper.as_mut().is_some_and(|keeper| keeper.is_left(room)) {
            return Some("what it was is not all written yet: try again once it is");
        }
        let is_held = self.sharing.as_ref().is_some_and(|sharing| sharing.holds(room));
        is_held.then_some("this host has not given it back yet: try again once it has")
    }

    fn begin_to_delete(&mut self, room: &str, unused_for: Duration) -> Result<(), String> {
        if let Some(why) = self.why_not_deleted(room) {
            return Err(format!("room {room:?}: {why}"));
        }
        self.remover()?.ask(Chore::Delete { room: room.to_owned(), unused_for });
        Ok(())
    }

    /// The thread that is there for it. Once it is there, it deletes what is left of rooms that an earlier process deleted.
    fn remover(&mut self) -> Result<&Remover, String> {
        let remover = match self.deleting.remover.take() {
            Some(remover) => remover,
            None => {
                let keeper = self.keeper.as_ref().ok_or("rooms are not kept here")?;
                let store = keeper.reader_soon().map_err(|error| error.to_string())?;
                let remover = remover::start(store, keeper.position(), self.thread.clone());
                remover.map_err(|error| format!("the system gives no thread for it: {error}"))?
            }
        };
        Ok(self.deleting.remover.insert(remover))
    }

    /// Hears what came of what was to be deleted or found.
    pub(super) fn hear_the_remover(&mut self) {
        while let Some(outcome) = self.deleting.remover.as_ref().and_then(Remover::next_answer) {
            match outcome {
                Outcome::Deleted { room, deleted } => self.is_deleted(&room, deleted),
                Outcome::Found { rooms, unused_for } => {
                    self.deleting.looking = self.deleting.looking.saturating_sub(1);
                    match rooms {
                        Ok(rooms) => self.deleting.unused.extend(rooms.into_iter().map(|room| (room.name, unused_for))),
                        Err(error) => tracing::warn!(%error, "rooms that nobody has used for long can't be looked for"),
                    }
                }
            }
        }
        self.delete_unused();
    }

    /// Has rooms deleted that nobody has used for long, a few at a time: who wants one of the others meanwhile has it as it was, and who orders another one to
    /// be deleted waits for few.
    fn delete_unused(&mut self) {
        while self.deleting.rooms.len() < AT_ONCE
            && let Some((room, unused_for)) = self.deleting.unused.pop_front()
        {
            // One that is to be opened as soon as the directory says so is in use.
            let is_free = !self.wanted.contains_key(&room) && !self.is_being_deleted(&room);
            if is_free && self.begin_to_delete(&room, unused_for).is_ok() {
                self.deleting.rooms.insert(room, Vec::new());
            }
        }
    }

    fn is_deleted(&mut self, room: &str, deleted: Result<bool, StoreError>) {
        let answers = self.deleting.rooms.remove(room).unwrap_or_default();
        match &deleted {
            Ok(true) => {
                self.resting.remove(room);
                self.guessed.remove(room);
                self.wake_no_more(room);
                self.keeper.iter_mut().for_each(|keeper| keeper.forget(room));
                tracing::info!(room, ordered = !answers.is_empty(), "deleted, with all that was stored of it");
            }
            Ok(false) => {}
            // Another host has it, or its facts are not published yet: it is tried again.
            Err(error @ (StoreError::Held { .. } | StoreError::Unfit { .. })) => tracing::debug!(room, %error, "a room is not deleted"),
            Err(error) => tracing::warn!(room, %error, "a room can't be deleted"),
        }
        let deleted = deleted.map_err(|error| error.to_string());
        // Who asked and is gone has no use for the answer.
        answers.into_iter().for_each(|answer| drop(answer.send(deleted.clone())));
    }

    /// Looks for rooms that nobody has used for as long as their templates keep them.
    pub(super) fn look_for_unused(&mut self) {
        let now = self.scheduler.now();
        let is_at_work = self.deleting.looking > 0 || !self.deleting.rooms.is_empty() || !self.deleting.unused.is_empty();
        if self.deleting.looks.is_some_and(|due| now < due) || is_at_work {
            return;
        }
        let kept_for = |(name, template): (&String, &Template)| Some((format!("{name}/"), template.delete_after?));
        let kept_for: Vec<(String, Duration)> = self.templates.iter().filter_map(kept_for).collect();
        let soonest = kept_for.iter().map(|(_, after)| *after).min().unwrap_or(Duration::MAX);
        // One that has just begun does not delete at once what was left long ago: its clock, or its data, may be wrong, and somebody may notice.
        let is_first = self.deleting.looks.is_none();
        let (pause, most) = if is_first { (soonest, LOOKS_FIRST_AFTER) } else { (soonest / 10, LOOK_EVERY.1) };
        self.deleting.looks = Some(now + pause.clamp(LOOK_EVERY.0, most));
        // A store that fails has other things to do.
        let is_able = self.keeper.as_ref().is_some_and(|keeper| keeper.trouble().is_none());
        if kept_for.is_empty() || self.draining || !is_able {
            return;
        }
        let count = kept_for.len();
        match self.remover() {
            Ok(_) if is_first => {}
            Ok(remover) => {
                kept_for.into_iter().for_each(|(prefix, unused_for)| remover.ask(Chore::Find { prefix, unused_for }));
                self.deleting.looking += count;
            }
            Err(why) => tracing::warn!(why, "rooms that nobody has used for long can't be looked for"),
        }
    }
}
