//! The verbs that work: run again, check, copy, make smaller, and ask the host for something.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::game::Game;
use super::super::options::{CliError, DumpBy};
use super::super::serve::{room_time, say};
use super::options::TickArgument;
use super::reading::print;
use super::{head, or_last, progress};
use crate::host::{Edit, rebuild_from_facts, rerun, view_of};
use crate::protocol::{CommandId, EntityId, FactSeq, Incoming, RoomTick};
use crate::store::{
    Archive, Durability, Retention, Snippet, SqliteStore, StoreError, TAKEN_UP, copy_room, is_served, place_for_people, store_at,
};

/// How long a host has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn replay(
    game: &Game,
    archive: &mut Archive,
    room: &str,
    (from, to): (Option<TickArgument>, Option<TickArgument>),
    drop: &[String],
) -> Result<(), CliError> {
    let last = head(archive, room)?;
    let (from, to) = (from.map_or(RoomTick(0), |tick| tick.0), to.map_or(last, |tick| tick.0.min(last)));
    let mut dropped = Vec::new();
    for text in drop {
        let bad = || CliError::Argument { what: text.clone(), detail: "say whose command: ann:17".to_owned() };
        let (player, command) = text.rsplit_once(':').ok_or_else(bad)?;
        dropped.push((EntityId::parse(player), CommandId(command.parse().map_err(|_| bad())?)));
    }
    let bar = progress("replaying", to);
    let mut edit = |_: RoomTick, incoming: &mut Vec<Incoming>| {
        incoming.retain(|item| !matches!(item, Incoming::Command { user, id, .. } if dropped.contains(&(*user, *id))));
    };
    let edit: Option<Edit<'_>> = if drop.is_empty() { None } else { Some(&mut edit) };
    let what_if = edit.is_some();
    let run = rerun(archive, &game.blueprint, room, (from, to), edit, |tick| bar.set_position(u64::from(tick.0)))?;
    bar.finish_and_clear();
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

pub(super) fn verify(archive: &mut Archive, room: &str, as_json: bool) -> Result<(), CliError> {
    let bar = progress("verifying", head(archive, room)?);
    let file = archive.store().examine()?;
    let verified = archive.verify(room, |tick| bar.set_position(u64::from(tick.0)))?;
    bar.finish_and_clear();
    let findings: Vec<String> = file.into_iter().chain(verified.findings.iter().map(ToString::to_string)).collect();
    if as_json {
        let (facts, refusals, ticks, hashed) = (verified.facts, verified.refusals, verified.ticks, verified.hashed);
        say(
            &json!({ "facts": facts, "refusals": refusals, "ticks": ticks, "hashed": hashed, "head": verified.head, "findings": findings })
                .to_string(),
        );
    } else {
        say(&format!(
            "{} facts, {} refusals, {} ticks; {} states compared with their hash",
            verified.facts, verified.refusals, verified.ticks, verified.hashed
        ));
        say(&format!("the chain of hashes ends with {}", verified.head));
        findings.iter().for_each(|finding| say(&format!("WRONG: {finding}")));
    }
    if findings.is_empty() { Ok(()) } else { Err(CliError::Damaged(findings.len())) }
}

pub(super) fn schema(archive: &mut Archive, room: &str) -> Result<(), CliError> {
    let (differences, problems) = archive.check_schema(room)?;
    if differences.is_empty() {
        say(&format!("{room} was stored by the same protocol"));
        return Ok(());
    }
    differences.iter().for_each(|difference| say(difference));
    problems.iter().for_each(|problem| say(&format!("BREAKING: {problem}")));
    if problems.is_empty() {
        say(&format!("every stored value of {room} can be read: it is safe to go on"));
        return Ok(());
    }
    Err(CliError::Damaged(problems.len()))
}

pub(super) fn export(archive: &mut Archive, room: &str, to: &Path) -> Result<(), CliError> {
    let bar = progress("exporting", head(archive, room)?);
    let mut into = SqliteStore::create_file(to)?;
    copy_room(archive, room, &mut into, |tick| bar.set_position(u64::from(tick.0)))?;
    bar.finish_and_clear();
    say(&format!("{room} is in {}; `ledger --data {} story` tells it", to.display(), to.display()));
    Ok(())
}

pub(super) fn import(game: &Game, data: &Path, room: Option<&str>, file: &Path) -> Result<(), CliError> {
    let (mut archive, name) = super::open(game, file, room)?;
    let (mut into, place) = (store_at(data, Durability::PowerLoss)?, place_for_people(data));
    // A room without a tick is what is left of an import that was interrupted.
    if into.room(&name)?.is_some() && Archive::new(into.reader()?, game.blueprint.protocol()).head(&name)?.is_some() {
        let detail = format!("{place} has a room of that name already");
        return Err(CliError::Argument { what: name, detail });
    }
    let bar = progress("importing", head(&mut archive, &name)?);
    copy_room(&mut archive, &name, &mut *into, |tick| bar.set_position(u64::from(tick.0)))?;
    bar.finish_and_clear();
    say(&format!("{name} is in {place}"));
    Ok(())
}

pub(super) fn compact(archive: &mut Archive, room: &str, keep_ticks: Option<u32>, keep_facts: Option<u32>) -> Result<(), CliError> {
    let bar = progress("compacting", head(archive, room)?);
    let mut retention = Retention::default();
    (retention.ticks, retention.facts) = (keep_ticks, keep_facts);
    let compacted = archive.compact(room, retention, |tick| bar.set_position(u64::from(tick.0)))?;
    archive.store().shrink()?;
    bar.finish_and_clear();
    say(&format!(
        "{} chunks of {} kB became {} of {} kB; {} chunks and checkpoints were deleted",
        compacted.chunks_before,
        compacted.bytes_before / 1_000,
        compacted.chunks_after,
        compacted.bytes_after / 1_000,
        compacted.deleted
    ));
    Ok(())
}

pub(super) fn fork(archive: &mut Archive, room: &str, tick: TickArgument, name: &str, data: &Path) -> Result<(), CliError> {
    if archive.store().room(name)?.is_some() {
        return Err(CliError::Argument { what: name.to_owned(), detail: "there is a room of that name already".to_owned() });
    }
    // Held meanwhile: a host that runs numbers its flushes itself.
    let mut into = store_at(data, Durability::PowerLoss)?;
    crate::host::fork(archive, room, tick.0, name, &mut *into)?;
    let place = place_for_people(data);
    say(&format!("{name} goes on from tick {} of {room}: serve it by `serve --room {name}` with the data in {place}", tick.0));
    Ok(())
}

/// Asks the host that serves the data for something, and waits for its answer.
fn ask(archive: &mut Archive, room: &str, kind: &str, subject: &str, data: &Path) -> Result<String, CliError> {
    let key = archive.room(room)?.key;
    let request = archive.store().ask(key, kind, subject)?;
    if !is_served(data) {
        return Ok("nobody serves the room at the moment: it is done as soon as somebody does".to_owned());
    }
    for _ in 0..ANSWER_WITHIN.as_millis() / 50 {
        std::thread::sleep(Duration::from_millis(50));
        match archive.store().answer(request)? {
            Some(answer) if answer == TAKEN_UP => {}
            Some(answer) if answer.starts_with("refused") => return Err(CliError::Connection(format!("{room}: {answer}"))),
            Some(answer) => return Ok(answer),
            None => {}
        }
    }
    // Whoever is told that nothing came of it does not expect it hours later, when somebody opens the room.
    Err(CliError::Connection(match archive.store().withdraw(request)? {
        true => format!("{room}: the host did not answer, since the room is not open, or stands still; what was asked for is withdrawn"),
        false => format!("{room}: the host took it up, and has not said what came of it"),
    }))
}

pub(super) fn revert(archive: &mut Archive, room: &str, seq: u64, data: &Path) -> Result<(), CliError> {
    let changes = archive.changes_of(room, FactSeq(seq))?;
    if changes.is_empty() {
        let detail = "it changed nothing, is not there, or the room does not tell causes".to_owned();
        return Err(CliError::Argument { what: format!("fact {seq}"), detail });
    }
    let subject = serde_json::to_string(&(seq, &changes)).unwrap_or_default();
    let answer = ask(archive, room, "revert", &subject, data)?;
    say(&format!("{} changes of fact {seq}: {answer}; the fact `reverted` tells which were undone", changes.len()));
    Ok(())
}

pub(super) fn reset(archive: &mut Archive, room: &str, label: &str, data: &Path) -> Result<(), CliError> {
    archive.snippet(room, label)?;
    let answer = ask(archive, room, "reset", label, data)?;
    say(&format!("{room} is reset to {label}: {answer}"));
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
    std::fs::write(path, text).map_err(|error| CliError::Io { what: format!("the file {}", path.display()), error })
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
