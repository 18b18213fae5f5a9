//! The verbs that look after what is stored, of one room or of all: check, and make smaller.

use std::path::Path;

use serde_json::{Value, json};

use super::super::game::Game;
use super::super::options::CliError;
use super::super::output::say;
use super::{head, open, progress};
use crate::store::{
    Archive, Compacted, Durability, Retention, StoreError, Verified, names_postgres, place_for_people, reader_at, store_at,
};

/// The rooms that are meant, in the order of creation: all of them, or the one that is named or is the only one.
fn meant(game: &Game, data: &Path, room: Option<&str>, all: bool) -> Result<(Archive, Vec<String>), CliError> {
    if !all {
        return open(game, data, room).map(|(archive, room)| (archive, vec![room]));
    }
    if room.is_some() {
        let detail = "it is either one room or all of them".to_owned();
        return Err(CliError::Argument { what: "--room and --all".to_owned(), detail });
    }
    let mut archive = Archive::new(reader_at(data)?, game.blueprint.protocol());
    let rooms = archive.store().room_heads()?.into_iter().map(|(name, _)| name).collect();
    Ok((archive, rooms))
}

pub(super) fn verify(game: &Game, data: &Path, room: Option<&str>, all: bool, as_json: bool) -> Result<(), CliError> {
    let (mut archive, rooms) = meant(game, data, room, all)?;
    if rooms.is_empty() {
        // What checks nothing would always be in order.
        return Err(CliError::Argument { what: place_for_people(data), detail: "there is no room in it".to_owned() });
    }
    let file = archive.store().examine()?;
    let mut wrong = file.len();
    // What is wrong with what holds the rooms is told with the only one, or before all.
    if as_json && all {
        say(&json!({ "findings": file }).to_string());
    } else if !as_json {
        file.iter().for_each(|finding| say(&format!("WRONG: {finding}")));
    }
    for room in &rooms {
        // Where it ends may be what can't be read.
        let bar = progress("verifying", head(&mut archive, room).unwrap_or_default());
        let verified = archive.verify(room, |tick| bar.set_position(u64::from(tick.0)));
        bar.finish_and_clear();
        match verified {
            Ok(verified) => {
                wrong += verified.findings.len();
                match (as_json, all) {
                    (true, true) => say(&as_line(&verified, Some(room), &[])),
                    (true, false) => say(&as_line(&verified, None, &file)),
                    (false, true) => {
                        say(&format!("{room}:"));
                        tell(&verified);
                    }
                    (false, false) => tell(&verified),
                }
            }
            // It hides no other.
            Err(error) if all => {
                wrong += 1;
                let error = error.to_string();
                say(&if as_json { json!({ "room": room, "error": error }).to_string() } else { format!("{room}: {error}") });
            }
            Err(error) => return Err(error.into()),
        }
    }
    if wrong == 0 { Ok(()) } else { Err(CliError::Damaged(wrong)) }
}

fn as_line(verified: &Verified, room: Option<&str>, file: &[String]) -> String {
    let (facts, refusals, ticks, hashed) = (verified.facts, verified.refusals, verified.ticks, verified.hashed);
    let (unchained, foreign, head) = (verified.unchained, verified.foreign, &verified.head);
    let findings: Vec<String> = file.iter().cloned().chain(verified.findings.iter().map(ToString::to_string)).collect();
    let mut line = json!({
        "facts": facts, "refusals": refusals, "unchained": unchained, "ticks": ticks, "hashed": hashed, "foreign": foreign,
        "head": head, "findings": findings
    });
    if let (Some(room), Value::Object(fields)) = (room, &mut line) {
        fields.insert("room".to_owned(), room.into());
    }
    line.to_string()
}

fn tell(verified: &Verified) {
    say(&format!(
        "{} facts, {} refusals, {} ticks; {} states compared with their hash",
        verified.facts, verified.refusals, verified.ticks, verified.hashed
    ));
    say(&format!("the chain of hashes ends with {}", verified.head));
    if verified.unchained > 0 {
        let unchained = verified.unchained;
        say(&format!("its beginning is not kept: {unchained} facts and refusals could not be held against it"));
    }
    if let Some(tick) = verified.foreign {
        say(&format!("the ticks up to {tick} were written by another version of the game, which alone can check them"));
    }
    verified.findings.iter().for_each(|finding| say(&format!("WRONG: {finding}")));
}

/// Gives the space of what was deleted back to the disk. False if a host has the data: SQLite writes the whole file anew for it, and its rooms would
/// stand still meanwhile. What is free in the file is used for what comes.
fn give_back(archive: &mut Archive, data: &Path) -> Result<bool, StoreError> {
    // PostgreSQL keeps nobody waiting, and in a file of its own a room is not played.
    if names_postgres(data) || data.is_file() {
        return archive.store().shrink().map(|()| true);
    }
    // Held meanwhile: no host begins in the middle of it.
    match store_at(data, Durability::PowerLoss) {
        Ok(mut held) => {
            // What is left of rooms that were deleted.
            while held.clear()? {}
            held.shrink().map(|()| true)
        }
        Err(StoreError::Locked(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn compact(game: &Game, data: &Path, room: Option<&str>, all: bool, retention: Retention) -> Result<(), CliError> {
    let (mut archive, rooms) = meant(game, data, room, all)?;
    let mut failed = 0;
    for room in &rooms {
        match compact_room(&mut archive, room, retention) {
            Ok(compacted) => {
                let whose = if all { format!("{room}: ") } else { String::new() };
                say(&format!(
                    "{whose}{} chunks of {} kB became {} of {} kB; {} chunks and checkpoints were deleted",
                    compacted.chunks_before,
                    compacted.bytes_before / 1_000,
                    compacted.chunks_after,
                    compacted.bytes_after / 1_000,
                    compacted.deleted
                ));
            }
            // It keeps no other from getting smaller.
            Err(error) if all => {
                failed += 1;
                say(&format!("{room}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !give_back(&mut archive, data)? {
        say(
            "the data is served: what is free now is used for what comes; to give it back to the disk, do this again once nobody serves it",
        );
    }
    if failed == 0 { Ok(()) } else { Err(CliError::Damaged(failed)) }
}

fn compact_room(archive: &mut Archive, room: &str, retention: Retention) -> Result<Compacted, StoreError> {
    let bar = progress("compacting", head(archive, room)?);
    let compacted = archive.compact(room, retention, |tick| bar.set_position(u64::from(tick.0)));
    bar.finish_and_clear();
    compacted
}
