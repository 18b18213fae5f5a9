//! The verbs that work: run again, copy, and ask the host for something.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::game::Game;
use super::super::options::{CliError, DumpBy};
use super::super::output::{room_time, say};
use super::super::system::instant;
use super::draft::{Draft, write_whole};
use super::options::TickArgument;
use super::reading::print;
use super::{head, or_last, progress};
use crate::host::{CATCH_UP_TICKS_MAX, Edit, Host, rebuild_from_facts, rerun, view_of};
use crate::protocol::{CommandId, EntityId, FactSeq, Incoming, RoomTick, Verdict};
use crate::store::{
    Archive, Durability, KeptTick, Snippet, SqliteStore, StoreError, TAKEN_UP, copy_room, is_served, place_for_people, store_at,
};

/// How long a host has to answer; and then its room, whose word the store must have.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether there is an answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// With so many ticks more than are stored when a host has answered, a room at full speed has taken in what was put before it: in the next tick, or in the
/// one after those that it was just making up for.
const TAKEN_WITHIN: u32 = CATCH_UP_TICKS_MAX + 1;

/// What is said of something that nobody does at the moment.
const LATER: &str = "as soon as somebody serves it, which nobody does at the moment";

pub(super) fn replay(
    game: &Game,
    archive: &mut Archive,
    room: &str,
    (from, to): (Option<TickArgument>, Option<TickArgument>),
    drop: &[String],
) -> Result<(), CliError> {
    let last = head(archive, room)?;
    let (from, to) = (from.map_or(RoomTick(0), |tick| tick.0), to.map_or(last, |tick| tick.0.min(last)));
    let first = archive.first_kept(room)?;
    if to < first {
        // It would begin behind its end, run nothing, and find no difference.
        return Err(StoreError::NoTick { room: room.to_owned(), tick: to, first, last }.into());
    }
    let mut dropped = Vec::new();
    for text in drop {
        let bad = || CliError::Argument { what: text.clone(), detail: "say whose command: ann:17".to_owned() };
        let (player, command) = text.rsplit_once(':').ok_or_else(bad)?;
        let command = CommandId(command.parse().map_err(|_| bad())?);
        let player = whose(archive, room, Some(player), false)?.ok_or_else(bad)?;
        dropped.push((player, command));
    }
    let bar = progress("replaying", to);
    let mut came = BTreeSet::new();
    let mut edit = |_: RoomTick, incoming: &mut Vec<Incoming>| {
        incoming.retain(|item| match item {
            Incoming::Command { user, id, .. } if dropped.contains(&(*user, *id)) => {
                came.insert((*user, *id));
                false
            }
            _ => true,
        });
    };
    let edit: Option<Edit<'_>> = if drop.is_empty() { None } else { Some(&mut edit) };
    let what_if = edit.is_some();
    let run = rerun(archive, &game.blueprint, room, (from, to), edit, |tick| bar.set_position(u64::from(tick.0)))?;
    bar.finish_and_clear();
    // Nothing would differ without a command that there was not: that is no answer to what if.
    if let Some((text, _)) = drop.iter().zip(&dropped).find(|(_, dropped)| !came.contains(*dropped)) {
        let detail = "no such command was taken in during the ticks that were run again".to_owned();
        return Err(CliError::Argument { what: text.clone(), detail });
    }
    match &run.difference {
        None => say(&format!("{} ticks run again: all {} batches are the same, byte for byte", run.ticks, run.equal_batches)),
        Some(difference) if what_if => {
            say(&format!("the first difference is in tick {} ({}): {}", difference.tick, room_time(difference.tick.0), difference.what));
            let end = archive.state_at(room, to)?;
            let diff = archive.difference(&end, &run.end)?;
            say(&format!("at tick {to} {} components differ:", diff.changes.len()));
            for change in diff.changes.iter().take(20) {
                let text = |value: &Option<serde_json::Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                say(&format!("  {}.{}: {} -> {}", change.entity, change.component, text(&change.before), text(&change.after)));
            }
        }
        Some(difference) => {
            let (tick, what) = (difference.tick, difference.what.clone());
            return Err(CliError::Differs { tick: tick.0, what });
        }
    }
    Ok(())
}

/// The user that was named, by its name or its id; nobody for a spectator.
pub(super) fn whose(archive: &mut Archive, room: &str, player: Option<&str>, spectator: bool) -> Result<Option<EntityId>, CliError> {
    let Some(player) = player else {
        let detail = "say from whom: --as PLAYER, or --spectator".to_owned();
        return if spectator { Ok(None) } else { Err(CliError::Argument { what: "--hidden".to_owned(), detail }) };
    };
    let (id, names) = (EntityId::parse(player), archive.names(room)?);
    let named = || names.iter().find(|(_, name)| *name == player).map(|(id, _)| *id);
    Ok(Some(if names.contains_key(&id) { id } else { named().unwrap_or(id) }))
}

/// What somebody had been told by a tick, arranged; or else all that it had not been told.
pub(super) fn view(
    game: &Game,
    archive: &mut Archive,
    room: &str,
    at: Option<TickArgument>,
    whose: Option<EntityId>,
    arranged: Option<DumpBy>,
) -> Result<(), CliError> {
    let tick = or_last(archive, room, at)?;
    let bar = progress("running again", tick);
    let view = view_of(archive, &game.blueprint, room, whose, tick, |tick| bar.set_position(u64::from(tick.0)));
    bar.finish_and_clear();
    let view = view?;
    if let Some(by) = arranged {
        return print(game, archive, &view, by);
    }
    let truth = archive.state_at(room, tick)?;
    let mut hidden = serde_json::Map::new();
    let protocol = archive.protocol();
    for (entity, components) in truth.to_json(protocol).map_err(StoreError::from)?.as_object().into_iter().flatten() {
        let id = EntityId::parse(entity);
        let told = |component: &String| view.component(protocol, id, component);
        let untold = components.as_object().into_iter().flatten().filter(|(component, value)| told(component).as_ref() != Some(*value));
        let untold: serde_json::Map<_, _> = untold.map(|(component, value)| (component.clone(), value.clone())).collect();
        if !untold.is_empty() || view.get(id).is_none() {
            hidden.insert(entity.clone(), untold.into());
        }
    }
    say(&serde_json::to_string_pretty(&hidden).unwrap_or_default());
    Ok(())
}

pub(super) fn from_facts(game: &Game, archive: &mut Archive, room: &str, at: Option<TickArgument>, as_json: bool) -> Result<(), CliError> {
    let tick = or_last(archive, room, at)?;
    let rebuilt = rebuild_from_facts(archive, &game.blueprint, room, tick)?;
    if as_json {
        let (exact, otherwise, lifetimes) = (rebuilt.exact, rebuilt.otherwise, rebuilt.lifetimes);
        say(&json!({ "facts": rebuilt.facts, "exact": exact, "otherwise": otherwise, "lifetimes": lifetimes }).to_string());
        return Ok(());
    }
    say(&format!("{} facts applied up to tick {tick}", rebuilt.facts));
    say(&format!("these components follow from facts alone: {}", rebuilt.exact.join(", ")));
    for (component, entity) in rebuilt.otherwise {
        say(&format!("{component} changes otherwise too; the first entity that differs is {entity}"));
    }
    if !rebuilt.lifetimes.is_empty() {
        say(&format!(
            "{} entities begin or end otherwise too, such as {}",
            rebuilt.lifetimes.len(),
            rebuilt.lifetimes.first().map_or("", String::as_str)
        ));
    }
    Ok(())
}

pub(super) fn schema(archive: &mut Archive, room: &str) -> Result<(), CliError> {
    let (differences, problems) = archive.check_schema(room)?;
    if differences.is_empty() {
        say(&format!("{room} was stored by the same protocol"));
        return Ok(());
    }
    differences.iter().for_each(|difference| say(difference));
    problems.iter().for_each(|problem| say(&format!("BREAKING: {problem}")));
    if !problems.is_empty() {
        return Err(CliError::Damaged(problems.len()));
    }
    let behind = archive.ticks_behind(room)?;
    if behind == 0 {
        say(&format!("every stored value of {room} can be read: it is safe to go on"));
        return Ok(());
    }
    // While it is played that is nothing to wonder at.
    if archive.store().is_served()? {
        say(&format!("every value of {room} that is stored so far can be read: ask again once its server was stopped"));
        return Ok(());
    }
    say(&format!(
        "BREAKING: the last {behind} ticks of {room} are stored in the other version's form only, because its process did not end in order: start the version that wrote it once more and stop it"
    ));
    Err(CliError::Damaged(1))
}

pub(super) fn export(archive: &mut Archive, room: &str, to: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::Io { what: format!("the file {}", to.display()), error };
    let check_place = || match std::fs::symlink_metadata(to) {
        Ok(_) => Err(failed(ErrorKind::AlreadyExists.into())),
        Err(_) => Ok(()),
    };
    check_place()?;
    let bar = progress("exporting", head(archive, room)?);
    let draft = Draft::of(to).map_err(failed)?;
    let mut into = SqliteStore::create_file(draft.path())?;
    copy_room(archive, room, &mut into, |tick| bar.set_position(u64::from(tick.0)))?;
    // What SQLite has beside the file goes into it.
    drop(into);
    // Nobody else's file is replaced that was made meanwhile.
    check_place()?;
    draft.take_place().map_err(failed)?;
    bar.finish_and_clear();
    say(&format!("{room} is in {}; `ledger --data {} story` tells it", to.display(), to.display()));
    Ok(())
}

pub(super) fn import(game: &Game, data: &Path, room: Option<&str>, file: &Path) -> Result<(), CliError> {
    let (mut archive, name) = super::open(game, file, room)?;
    check_name(&name)?;
    let (mut into, place) = (store_at(data, Durability::PowerLoss)?, place_for_people(data));
    let bar = progress("importing", head(&mut archive, &name)?);
    copy_room(&mut archive, &name, &mut *into, |tick| bar.set_position(u64::from(tick.0)))?;
    bar.finish_and_clear();
    say(&format!("{name} is in {place}"));
    Ok(())
}

/// A room by a name that no host takes would be there for good, for nobody.
fn check_name(name: &str) -> Result<(), CliError> {
    Host::check_name(name).map_err(|detail| CliError::Argument { what: format!("{name:?}"), detail })
}

pub(super) fn fork(archive: &mut Archive, room: &str, tick: TickArgument, name: &str, data: &Path) -> Result<(), CliError> {
    check_name(name)?;
    // Held meanwhile: a host that runs numbers its flushes itself.
    let mut into = store_at(data, Durability::PowerLoss)?;
    crate::host::fork(archive, room, tick.0, name, &mut *into)?;
    let place = place_for_people(data);
    say(&format!("{name} goes on from tick {} of {room}: serve it by `serve --room {name}` with the data in {place}", tick.0));
    Ok(())
}

/// What became of something that a room was asked for.
enum Became {
    /// The room did it in this tick, in words.
    Done(String),
    /// Nobody serves the room at the moment.
    Waits,
}

/// Asks the host that serves the data for something, and waits until the room has done it. `is_it` knows it among what a room takes in.
///
/// # Errors
/// If the host or the room refuses, with why; or if nothing is known of it in time.
fn ask(
    archive: &mut Archive,
    room: &str,
    (kind, subject): (&str, &str),
    data: &Path,
    is_it: impl Fn(&Incoming) -> bool,
) -> Result<Became, CliError> {
    let failed = |why: &str| CliError::Connection(format!("{room}: {why}"));
    let key = archive.room(room)?.key;
    // What is stored by now is something else.
    let before = head(archive, room)?;
    let request = archive.store().ask(key, kind, subject)?;
    if !is_served(data) {
        return Ok(Became::Waits);
    }
    let Some(answer) = answer_to(archive, request)? else {
        // Whoever is told that nothing came of it does not expect it hours later, when somebody opens the room.
        return Err(failed(match archive.store().withdraw(request)? {
            true => "the host did not answer, since the room is not open, or stands still; what was asked for is withdrawn",
            false => "the host took it up, and has not said what came of it",
        }));
    };
    if answer.starts_with("refused") {
        return Err(failed(&answer));
    }
    // The host has put it before the room, which has not decided yet. What it decides is stored with its tick.
    let answered = head(archive, room)?;
    let found = search(archive, room, (before, answered), is_it)?;
    if found.is_torn {
        return Err(failed("somebody asked for the same at about the same time; one was done, another refused: see `ledger facts`"));
    }
    match found.told() {
        Some((tick, Some(Verdict::Rejected(why)))) => Err(failed(&format!("refused in {tick}: {why}"))),
        Some((tick, _)) => Ok(Became::Done(tick)),
        None => Err(failed(
            "the host has put it before the room, and of what became of it nothing is stored so far: the room stands still, or the store is behind",
        )),
    }
}

/// Looks again and again until there is something, or the time is over. It looks once in any case.
fn look_until<T>(within: Duration, mut look: impl FnMut() -> Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    let deadline = instant() + within;
    loop {
        let found = look()?;
        if found.is_some() || instant() >= deadline {
            return Ok(found);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a host answers to a request, once it does.
fn answer_to(archive: &mut Archive, request: i64) -> Result<Option<String>, StoreError> {
    look_until(ANSWER_WITHIN, || Ok(archive.store().answer(request)?.filter(|answer| answer != TAKEN_UP)))
}

/// What is found of something that was asked of a room, in what is stored of it.
#[derive(Debug)]
struct Search {
    /// The first tick that was not looked at.
    from: u32,
    /// Once this one is stored, so is the one in which the room took it in.
    by: u32,
    /// In which tick the room first took something like it in, and what became of that.
    first: Option<(RoomTick, Option<Verdict>)>,
    /// Somebody else asked for the same. Nothing tells which is whose, only that the first is not later than any.
    is_double: bool,
    /// And of the two one was done, and the other refused.
    is_torn: bool,
}

impl Search {
    /// For what was asked when one tick was the last that was stored, and put before the room when another one was.
    fn between(asked: RoomTick, answered: RoomTick) -> Self {
        let (from, by) = (asked.0.saturating_add(1), answered.0.saturating_add(TAKEN_WITHIN));
        Self { from, by, first: None, is_double: false, is_torn: false }
    }

    fn look(&mut self, ticks: Vec<KeptTick>, is_it: impl Fn(&Incoming) -> bool) {
        for kept in ticks {
            self.from = kept.tick.0.saturating_add(1);
            for taken in kept.taken.into_iter().filter(|taken| is_it(&taken.incoming)) {
                if let Some((_, first)) = &self.first {
                    let is_refused = |verdict: &Option<Verdict>| matches!(verdict, Some(Verdict::Rejected(_)));
                    self.is_double = true;
                    self.is_torn |= is_refused(first) != is_refused(&taken.verdict);
                } else {
                    self.first = Some((kept.tick, taken.verdict));
                }
            }
        }
    }

    /// True if what was asked for is among what was found.
    fn is_settled(&self) -> bool {
        self.first.is_some() && self.from > self.by
    }

    /// In which tick the room took it in, in words, and what became of it.
    fn told(self) -> Option<(String, Option<Verdict>)> {
        let later = if self.is_settled() && !self.is_double { "" } else { " or later" };
        self.first.map(|(tick, verdict)| (format!("tick {tick} ({}){later}", room_time(tick.0)), verdict))
    }
}

/// Looks for what a room has taken in, until that is stored. It was asked for, and the host answered, when so much was stored.
fn search(
    archive: &mut Archive,
    room: &str,
    (asked, answered): (RoomTick, RoomTick),
    is_it: impl Fn(&Incoming) -> bool,
) -> Result<Search, StoreError> {
    let mut search = Search::between(asked, answered);
    look_until(ANSWER_WITHIN, || {
        let ticks = archive.ticks(room, RoomTick(search.from), RoomTick(u32::MAX))?;
        search.look(ticks, &is_it);
        Ok(search.is_settled().then_some(()))
    })?;
    Ok(search)
}

pub(super) fn revert(archive: &mut Archive, room: &str, seq: u64, data: &Path) -> Result<(), CliError> {
    let changes = archive.changes_of(room, FactSeq(seq))?;
    if changes.is_empty() {
        let detail = "it changed nothing, is not there, or the room does not tell causes".to_owned();
        return Err(CliError::Argument { what: format!("fact {seq}"), detail });
    }
    let (subject, count) = (serde_json::to_string(&(seq, &changes)).unwrap_or_default(), changes.len());
    let is_it = |incoming: &Incoming| matches!(incoming, Incoming::Revert { seq: of, .. } if of.0 == seq);
    match ask(archive, room, ("revert", subject.as_str()), data, is_it)? {
        Became::Done(tick) => say(&format!("{count} changes of fact {seq}: done in {tick}; the fact `reverted` tells which were undone")),
        Became::Waits => say(&format!("{count} changes of fact {seq} are undone in {room} {LATER}")),
    }
    Ok(())
}

pub(super) fn event(archive: &mut Archive, room: &str, (name, fact): (&str, &str), data: &Path) -> Result<(), CliError> {
    if let Err(wrong) = archive.protocol().read_event(name, fact) {
        return Err(CliError::Argument { what: format!("fact {name:?}"), detail: wrong.to_string() });
    }
    let subject = serde_json::to_string(&(name, fact)).unwrap_or_default();
    let is_it = |incoming: &Incoming| matches!(incoming, Incoming::Event { name: of, fact: said } if of == name && said == fact);
    match ask(archive, room, ("event", subject.as_str()), data, is_it)? {
        Became::Done(tick) => say(&format!("{name} happens in {room}: done in {tick}")),
        Became::Waits => say(&format!("{name} happens in {room} {LATER}")),
    }
    Ok(())
}

pub(super) fn reset(archive: &mut Archive, room: &str, label: &str, data: &Path) -> Result<(), CliError> {
    archive.snippet(room, label)?;
    let is_it = |incoming: &Incoming| matches!(incoming, Incoming::Reset { label: of, .. } if of == label);
    match ask(archive, room, ("reset", label), data, is_it)? {
        Became::Done(tick) => say(&format!("{room} is reset to {label}: done in {tick}")),
        Became::Waits => say(&format!("{room} is reset to {label} {LATER}")),
    }
    Ok(())
}

pub(super) fn save_snippet(archive: &mut Archive, room: &str, label: &str, at: Option<TickArgument>) -> Result<(), CliError> {
    let tick = or_last(archive, room, at)?;
    let snippet = archive.save_snippet(room, label, tick)?;
    say(&format!("{label}: {} entities of tick {tick} ({})", snippet.entities.len(), room_time(tick.0)));
    Ok(())
}

pub(super) fn export_snippet(archive: &mut Archive, room: &str, label: &str, to: Option<&Path>, rows: bool) -> Result<(), CliError> {
    let snippet = archive.snippet(room, label)?;
    let text = if rows {
        let row = |entity: &String, component: &String, value: &String| {
            format!(
                "{{\"room_id\": {}, \"entity_id\": {}, \"component_name\": {}, \"component\": {value}}}\n",
                json!(room),
                json!(entity),
                json!(component)
            )
        };
        let of_entity =
            snippet.entities.iter().flat_map(|(entity, all)| all.iter().map(move |(component, value)| row(entity, component, value)));
        of_entity.collect()
    } else {
        snippet.to_text()
    };
    let Some(path) = to else {
        say(text.trim_end());
        return Ok(());
    };
    write_whole(path, text.as_bytes()).map_err(|error| CliError::Io { what: format!("the file {}", path.display()), error })
}

pub(super) fn import_snippet(archive: &mut Archive, room: &str, label: &str, file: &Path) -> Result<(), CliError> {
    let what = format!("the file {}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| CliError::Io { what: what.clone(), error })?;
    let snippet = Snippet::from_text(label, &text).map_err(|error| CliError::Argument { what, detail: error.to_string() })?;
    let unknown = snippet
        .entities
        .values()
        .flat_map(|components| components.keys())
        .find(|name| !archive.protocol().component_names().any(|known| known == name.as_str()));
    if let Some(name) = unknown {
        return Err(CliError::Argument { what: format!("component {name:?}"), detail: "the game does not know it".to_owned() });
    }
    let key = archive.room(room)?.key;
    archive.store().save_snippet(key, &snippet)?;
    say(&format!("{label}: {} entities", snippet.entities.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Rejection, Taken, Trail};

    fn reset_to(label: &str) -> Incoming {
        Incoming::Reset { label: label.to_owned(), saved_at: RoomTick(0), members: Vec::new(), state: "{}".to_owned() }
    }

    /// Ticks from one on, in each of which the room accepted resets to these.
    fn ticks(from: u32, labels: &[&[&str]]) -> Vec<KeptTick> {
        let taken = |label: &&str| Taken { incoming: reset_to(label), verdict: Some(Verdict::Accepted) };
        let kept = |(tick, labels): (u32, &&[&str])| KeptTick {
            tick: RoomTick(tick),
            batch: None,
            taken: labels.iter().map(taken).collect(),
            trail: Trail::default(),
        };
        (from..).zip(labels).map(kept).collect()
    }

    fn is_it(incoming: &Incoming) -> bool {
        *incoming == reset_to("start")
    }

    fn words(search: Search) -> Option<String> {
        search.told().map(|(tick, _)| tick)
    }

    #[test]
    fn a_tick_is_told_as_ones_own_once_nobody_elses_can_be_meant() {
        let mut search = Search::between(RoomTick(10), RoomTick(12));
        search.look(ticks(11, &[&[], &["other"]]), is_it);
        assert!(!search.is_settled() && search.first.is_none(), "{search:?}");
        search.look(ticks(13, &[&["start"], &[], &[], &[]]), is_it);
        assert!(!search.is_settled(), "one's own may be to come, if this is somebody else's: {search:?}");
        search.look(ticks(17, &[&["other"]]), is_it);
        assert!(search.is_settled(), "{search:?}");
        assert_eq!(words(search).as_deref(), Some("tick 13 (00:00.6)"));
    }

    #[test]
    fn of_two_resets_to_the_same_the_first_is_told_as_the_earliest_that_ones_own_can_be() {
        let doubles: [&[&[&str]]; 2] = [&[&["start"], &["start"]], &[&["start", "start"], &[]]];
        for labels in doubles {
            let mut search = Search::between(RoomTick(10), RoomTick(12));
            search.look(ticks(11, labels), is_it);
            assert!(search.first.is_some() && !search.is_settled(), "one's own may be a third: {search:?}");
            search.look(ticks(13, &[&[], &[], &[], &[], &[]]), is_it);
            assert!(search.is_settled(), "{search:?}");
            assert_eq!(words(search).as_deref(), Some("tick 11 (00:00.5) or later"));
        }
    }

    #[test]
    fn where_a_room_stands_still_after_one_it_is_not_said_whose_that_was() {
        let mut search = Search::between(RoomTick(10), RoomTick(12));
        search.look(ticks(11, &[&["start"], &[]]), is_it);
        assert!(!search.is_settled(), "{search:?}");
        assert_eq!(words(search).as_deref(), Some("tick 11 (00:00.5) or later"));
        assert_eq!(words(Search::between(RoomTick(10), RoomTick(12))), None);
    }

    #[test]
    fn what_became_of_it_is_told_with_it() {
        let mut search = Search::between(RoomTick(10), RoomTick(10));
        let verdict = Some(Verdict::Rejected(Rejection::new("bad_state")));
        let mut kept = ticks(11, &[&["start"], &[], &[], &[], &[]]);
        kept[0].taken[0].verdict = verdict.clone();
        search.look(kept, is_it);
        assert_eq!(search.told(), Some(("tick 11 (00:00.5)".to_owned(), verdict)));
    }

    #[test]
    fn where_one_of_two_was_done_and_the_other_refused_that_is_known() {
        let refused = Some(Verdict::Rejected(Rejection::new("bad_state")));
        for (first, is_torn) in [(refused.clone(), false), (Some(Verdict::Accepted), true)] {
            let mut kept = ticks(11, &[&["start"], &["start"], &[], &[], &[]]);
            kept[0].taken[0].verdict = first;
            kept[1].taken[0].verdict = refused.clone();
            let mut search = Search::between(RoomTick(10), RoomTick(10));
            search.look(kept, is_it);
            assert!(search.is_double && search.is_torn == is_torn, "{search:?}");
        }
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over_however_few_looks_that_were_and_as_soon_as_something_is_found() {
        let look = |found_at: u32, within: u64| {
            let mut looks = 0;
            let found = look_until(Duration::from_secs(within), || {
                looks += 1;
                Ok((looks == found_at).then_some(looks))
            });
            (found.unwrap(), looks)
        };
        // The time is over as soon as the first look is.
        assert_eq!(look(2, 0), (None, 1));
        assert_eq!(look(1, 0), (Some(1), 1));
        assert_eq!(look(3, 3_600), (Some(3), 3));
        assert!(look_until(Duration::from_secs(3_600), || Err::<Option<()>, _>(StoreError::Stopped)).is_err());
    }
}
