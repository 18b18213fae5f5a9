//! `ledger` and `snippet`: what is stored, of a host that runs or of one that has stopped.

mod backtest;
mod delete;
mod draft;
mod options;
mod reading;
mod upkeep;
mod working;

#[cfg(feature = "terminal")]
pub(super) use self::options::TickArgument as Tick;
pub(super) use self::options::{LedgerOptions, SnippetOptions};

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use self::options::{LedgerVerb, SnippetVerb, TickArgument};
use super::game::Game;
use super::options::CliError;
use crate::protocol::RoomTick;
use crate::store::{Archive, Retention, StoreError, place_for_people, reader_at, some_of};

/// Opens stored data for reading, and finds the room: the one that is named, or the only one there is.
pub(super) fn open(game: &Game, data: &Path, room: Option<&str>) -> Result<(Archive, String), CliError> {
    let mut archive = Archive::new(reader_at(data)?, game.blueprint.protocol());
    if let Some(room) = room {
        archive.room(room)?;
        return Ok((archive, room.to_owned()));
    }
    let mut names: Vec<String> = archive.store().room_heads()?.into_iter().map(|(name, _)| name).collect();
    match (names.len(), names.pop()) {
        (1, Some(name)) => Ok((archive, name)),
        (0, _) => Err(CliError::Argument { what: place_for_people(data), detail: "there is no room in it".to_owned() }),
        (_, last) => {
            names.extend(last);
            let detail = format!("there are several rooms: {}; name one", some_of(names));
            Err(CliError::Argument { what: "--room".to_owned(), detail })
        }
    }
}

/// True if a name is meant by a pattern, in which `*` stands for anything.
fn is_meant(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(last) = parts.next_back() else { return pattern == name };
    let Some(between) = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    parts.try_fold(between, |rest, part| rest.split_once(part).map(|(_, rest)| rest)).is_some()
}

/// Those of some rooms whose names are meant by one of the patterns; all of them if there are none. Each pattern has to mean one.
fn by_name<T>(rooms: Vec<T>, name: impl Fn(&T) -> &str, patterns: &[String]) -> Result<Vec<T>, CliError> {
    if let Some(pattern) = patterns.iter().find(|pattern| !rooms.iter().any(|room| is_meant(pattern, name(room)))) {
        let detail = "no room has such a name; `ledger rooms` lists them".to_owned();
        return Err(CliError::Argument { what: pattern.clone(), detail });
    }
    let is_named = |room: &T| patterns.is_empty() || patterns.iter().any(|pattern| is_meant(pattern, name(room)));
    Ok(rooms.into_iter().filter(is_named).collect())
}

/// A bar on stderr while something takes long; nothing where stderr is no terminal.
fn progress(what: &'static str, end: RoomTick) -> ProgressBar {
    let bar = ProgressBar::new(u64::from(end.0)).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} tick {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn head(archive: &mut Archive, room: &str) -> Result<RoomTick, StoreError> {
    Ok(archive.head(room)?.map_or(RoomTick(0), |head| head.tick))
}

/// The tick that was named, or else the last one.
fn or_last(archive: &mut Archive, room: &str, tick: Option<TickArgument>) -> Result<RoomTick, StoreError> {
    tick.map_or_else(|| head(archive, room), |tick| Ok(tick.0))
}

pub(super) fn ledger(game: &Game, options: &LedgerOptions) -> Result<(), CliError> {
    let data = &options.data;
    if let LedgerVerb::Rooms = options.verb {
        return reading::rooms(&mut Archive::new(reader_at(data)?, game.blueprint.protocol()), options.json);
    }
    if let LedgerVerb::Import { file } = &options.verb {
        return working::import(game, data, options.room.as_deref(), file);
    }
    if let LedgerVerb::Backtest(tried) = &options.verb {
        return backtest::run(game, data, options.room.as_deref(), tried, options.json);
    }
    if let LedgerVerb::Delete(wanted) = &options.verb {
        return delete::run(data, options.room.as_deref(), wanted, options.json);
    }
    if let LedgerVerb::Verify { all } = options.verb {
        return upkeep::verify(game, data, options.room.as_deref(), all, options.json);
    }
    if let LedgerVerb::Compact { keep_ticks, keep_facts, all } = options.verb {
        let mut retention = Retention::default();
        (retention.ticks, retention.facts) = (keep_ticks, keep_facts);
        return upkeep::compact(game, data, options.room.as_deref(), all, retention);
    }
    #[cfg(feature = "terminal")]
    if let LedgerVerb::View { name, at } = &options.verb {
        let (mut states, room) = open(game, data, name.as_deref().or(options.room.as_deref()))?;
        let (mut facts, _) = open(game, data, Some(&room))?;
        return super::view::scrub(game, (&mut states, &mut facts), &room, at.map(|at| at.0));
    }
    let (mut archive, room) = open(game, data, options.room.as_deref())?;
    let (archive, json) = (&mut archive, options.json);
    match &options.verb {
        #[cfg(feature = "terminal")]
        LedgerVerb::View { .. } => Ok(()),
        LedgerVerb::Rooms | LedgerVerb::Import { .. } | LedgerVerb::Backtest(_) => Ok(()),
        LedgerVerb::Verify { .. } | LedgerVerb::Compact { .. } | LedgerVerb::Delete(_) => Ok(()),
        LedgerVerb::Tail { from, lines } => reading::tail(game, archive, &room, *from, *lines, json),
        LedgerVerb::Story { vtt } => reading::story(game, archive, &room, *vtt, json),
        LedgerVerb::Facts { kind, by, from, to } => reading::facts(archive, &room, (kind.as_deref(), by.as_deref()), (*from, *to), json),
        LedgerVerb::At { tick, by, player: None, spectator: false, hidden: false } => reading::at(game, archive, &room, *tick, *by),
        LedgerVerb::At { tick, by, player, spectator, hidden } => {
            let whose = working::whose(archive, &room, player.as_deref(), *spectator)?;
            let arranged = if *hidden { None } else { Some(*by) };
            working::view(game, archive, &room, *tick, whose, arranged)
        }
        LedgerVerb::Diff { from, to } => reading::diff(archive, &room, *from, *to, json),
        LedgerVerb::History { of, from, to } => reading::history(archive, &room, of, (*from, *to), json),
        LedgerVerb::Why { of, at } => reading::why(game, archive, &room, of, *at, json),
        LedgerVerb::Audit { player } => reading::audit(archive, &room, player.as_deref(), json),
        LedgerVerb::Scores { points } => reading::scores(archive, &room, points, json),
        LedgerVerb::Replay { from, to, drop } => working::replay(game, archive, &room, (*from, *to), drop),
        LedgerVerb::FromFacts { at } => working::from_facts(game, archive, &room, *at, json),
        LedgerVerb::Schema => working::schema(archive, &room),
        LedgerVerb::Export { to } => working::export(archive, &room, to),
        LedgerVerb::Fork { tick, name } => working::fork(archive, &room, *tick, name, data),
        LedgerVerb::Revert { seq } => working::revert(archive, &room, *seq, data),
        LedgerVerb::Event { name, fact } => working::event(archive, &room, (name.as_str(), fact.as_str()), data),
    }
}

pub(super) fn snippet(game: &Game, options: &SnippetOptions) -> Result<(), CliError> {
    let (mut archive, room) = open(game, &options.data, options.room.as_deref())?;
    let archive = &mut archive;
    match &options.verb {
        SnippetVerb::List => reading::snippets(archive, &room),
        SnippetVerb::Save { label, at } => working::save_snippet(archive, &room, label, *at),
        SnippetVerb::Reset { label } => working::reset(archive, &room, label, &options.data),
        SnippetVerb::Export { label, to, rows } => working::export_snippet(archive, &room, label, to.as_deref(), *rows),
        SnippetVerb::Import { label, file } => working::import_snippet(archive, &room, label, file),
    }
}
