//! `ledger backtest`: the rules that this binary has, tried on matches that were recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::super::game::Game;
use super::super::options::CliError;
use super::super::output::{room_time, say};
use super::options::{BacktestOptions, LevelSetting};
use super::{by_name, is_meant};
use crate::host::{Backtest, Counts, Outcomes, StartEdit, TriedRoom, backtest, level_file};
use crate::protocol::{RoomTick, Saved};
use crate::room::{Level, RoomOptions};
use crate::store::{Archive, RoomHeader, place_for_people, reader_at};

/// What rooms start from instead of what they were recorded with.
struct Starts<'a> {
    /// The texts of other levels, by file names.
    levels: BTreeMap<String, String>,
    set: &'a [LevelSetting],
}

pub(super) fn run(game: &Game, data: &Path, room: Option<&str>, options: &BacktestOptions, as_json: bool) -> Result<(), CliError> {
    let mut archive = Archive::new(reader_at(data)?, game.blueprint.protocol());
    let mut wanted = options.rooms.clone();
    wanted.extend(room.map(str::to_owned));
    let headers = rooms_of(&mut archive, data, &wanted)?;
    let starts = Starts::new(&headers, options)?;
    let names: Vec<String> = headers.into_iter().map(|header| header.name).collect();
    let mut edit = |options: &mut RoomOptions| starts.edit(options);
    let edit: Option<StartEdit<'_>> = if starts.change_nothing() { None } else { Some(&mut edit) };
    let bar = ProgressBar::new(names.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos} of {len} rooms, {eta} left") {
        bar.set_style(style);
    }
    let tried = backtest(&mut archive, &game.blueprint, &names, edit, |place, tick| {
        bar.set_position(place as u64);
        bar.set_message(format!("{}, tick {tick}", names.get(place).map_or("", String::as_str)));
    });
    bar.finish_and_clear();
    if as_json {
        tell_as_json(&tried);
    } else {
        tell(&tried);
    }
    if options.check { check(&tried) } else { Ok(()) }
}

/// The rooms that are meant, in the order of their creation.
fn rooms_of(archive: &mut Archive, data: &Path, wanted: &[String]) -> Result<Vec<RoomHeader>, CliError> {
    let headers: Vec<RoomHeader> = archive.store().rooms()?.into_iter().map(|room| room.header).collect();
    if headers.is_empty() {
        // A test that runs nothing would always pass.
        return Err(CliError::Argument { what: place_for_people(data), detail: "there is no room in it".to_owned() });
    }
    by_name(headers, |header| &header.name, wanted)
}

impl<'a> Starts<'a> {
    /// What was asked for, which must be something in the level of one room at least: a slip of the pen would look as if it made no difference.
    fn new(headers: &[RoomHeader], options: &'a BacktestOptions) -> Result<Self, CliError> {
        let recorded: BTreeSet<(&str, &str)> =
            headers.iter().filter_map(|header| header.level.as_ref()).map(|(name, text)| (level_file(name), text.as_str())).collect();
        let mut starts = Self { levels: BTreeMap::new(), set: &options.set };
        if let Some(folder) = &options.levels {
            for (file, _) in &recorded {
                let path = folder.join(file);
                if path.is_file() && !starts.levels.contains_key(*file) {
                    starts.levels.insert((*file).to_owned(), Level::open(&path)?.text().to_owned());
                }
            }
            if starts.levels.is_empty() {
                let files: BTreeSet<&str> = recorded.iter().map(|(file, _)| *file).collect();
                let detail = format!("none of these levels is in it: {}", files.into_iter().collect::<Vec<_>>().join(", "));
                return Err(CliError::Argument { what: folder.display().to_string(), detail });
            }
        }
        // One that can't be read has no value, and its rooms say why.
        let level_of = |(file, text): &(&str, &str)| -> Value { serde_json::from_str(starts.text_of(file, text)).unwrap_or_default() };
        let texts: Vec<Value> = recorded.iter().map(level_of).collect();
        if let Some(setting) = options.set.iter().find(|setting| texts.iter().all(|level| setting.put(&mut level.clone()) == 0)) {
            let detail = "no level of these rooms has a value there".to_owned();
            return Err(CliError::Argument { what: setting.text.clone(), detail });
        }
        Ok(starts)
    }

    fn change_nothing(&self) -> bool {
        self.levels.is_empty() && self.set.is_empty()
    }

    /// The text of a level, or of the one that takes its place.
    fn text_of<'t>(&'t self, file: &str, text: &'t str) -> &'t str {
        self.levels.get(file).map_or(text, String::as_str)
    }

    fn edit(&self, options: &mut RoomOptions) -> Result<(), String> {
        let Some(level) = &options.level else { return Ok(()) };
        let mut text = self.text_of(level_file(level.name()), level.text()).to_owned();
        if !self.set.is_empty() {
            let as_it_is: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", level.name()))?;
            let mut changed = as_it_is.clone();
            for setting in self.set {
                setting.put(&mut changed);
            }
            // A level that has these values already stays as it is written, and the room begins as it did.
            if changed != as_it_is {
                text = changed.to_string();
            }
        }
        if text != level.text() {
            options.level = Some(Level::from_text(level.name(), text));
        }
        Ok(())
    }
}

impl LevelSetting {
    /// Puts the value into a level, wherever there is one that is meant. Tells in how many places.
    fn put(&self, level: &mut Value) -> usize {
        let mut places = 0;
        for (entity, components) in level.as_object_mut().into_iter().flatten() {
            if entity != Saved::NAME
                && is_meant(&self.entity, entity)
                && let Some(place) = self.place_in(components)
            {
                *place = self.value.clone();
                places += 1;
            }
        }
        places
    }

    fn place_in<'v>(&self, components: &'v mut Value) -> Option<&'v mut Value> {
        let mut place = components.get_mut(&self.component)?;
        for field in &self.fields {
            place = match (place, field.parse::<usize>()) {
                (Value::Array(items), Ok(at)) => items.get_mut(at)?,
                (other, _) => other.get_mut(field)?,
            };
        }
        Some(place)
    }
}

/// What came of a room, where there is something to say of it.
fn line_of(room: &TriedRoom) -> Option<String> {
    let mut line = match &room.difference {
        Some(difference) => format!("otherwise from tick {} ({}) on: {}", difference.tick, room_time(difference.tick.0), difference.what),
        None if room.from > RoomTick(0) || room.same_end.is_none() => "as recorded".to_owned(),
        None => return None,
    };
    if room.difference.is_some() {
        line.push_str(match room.same_end {
            Some(true) => "; its last state is the recorded one",
            Some(false) => "; its last state is another one",
            None => "",
        });
    }
    if room.from > RoomTick(0) {
        line.push_str(&format!("; begun after tick {}, since nothing is kept of it before", room.from));
    }
    if room.same_end.is_none() {
        line.push_str("; compared by its facts, since another protocol stored it");
    }
    Some(format!("{}: {line}", room.room))
}

fn tell(tried: &Backtest) {
    for room in &tried.rooms {
        line_of(room).iter().for_each(|line| say(line));
    }
    tried.failed.iter().for_each(|(room, error)| say(&format!("{room}: could not be run: {error}")));
    let levels = tried.by_level();
    if levels.len() > 1 {
        for (level, outcomes) in &levels {
            tell_sums(level.as_deref().unwrap_or("without a level"), outcomes, None);
        }
    }
    tell_sums("in all", &tried.in_all(), Some(tried.failed.len()));
}

/// A table of what came of several rooms.
fn tell_sums(of: &str, outcomes: &Outcomes, failed: Option<usize>) {
    let Outcomes { rooms, differ, .. } = outcomes;
    let failed = failed.filter(|failed| *failed > 0).map(|failed| format!(", {failed} could not be run")).unwrap_or_default();
    say(&format!("{of}: {} as recorded, {differ} otherwise{failed}", rooms - differ));
    let width = outcomes.facts.keys().chain(outcomes.refused.keys()).map(String::len).max().unwrap_or(0).max("refused".len());
    for (title, counts) in [("fact", &outcomes.facts), ("refused", &outcomes.refused)] {
        if !counts.is_empty() {
            say(&format!("  {title:<width$} {:>10} {:>10} {:>10}", "recorded", "now", "change"));
        }
        for (name, times) in counts {
            let change = if times.change() == 0 { String::new() } else { format!("{:+}", times.change()) };
            say(format!("  {name:<width$} {:>10} {:>10} {change:>10}", times.recorded, times.now).trim_end());
        }
    }
}

fn counts_as_json(counts: &Counts) -> Value {
    counts.iter().map(|(name, times)| (name.clone(), json!({ "recorded": times.recorded, "now": times.now }))).collect()
}

fn sums_as_json(outcomes: &Outcomes) -> Value {
    let (facts, refused) = (counts_as_json(&outcomes.facts), counts_as_json(&outcomes.refused));
    json!({ "rooms": outcomes.rooms, "differ": outcomes.differ, "facts": facts, "refused": refused })
}

/// A line for each room, one for each level, and one for all.
fn tell_as_json(tried: &Backtest) {
    for room in &tried.rooms {
        let difference = room.difference.as_ref().map(|difference| json!({ "tick": difference.tick, "what": difference.what }));
        let (facts, refused) = (counts_as_json(&room.facts), counts_as_json(&room.refused));
        say(&json!({
            "room": room.room, "level": room.level, "from": room.from, "to": room.to, "difference": difference, "same_end": room.same_end,
            "facts": facts, "refused": refused
        })
        .to_string());
    }
    tried.failed.iter().for_each(|(room, error)| say(&json!({ "room": room, "error": error.to_string() }).to_string()));
    for (level, outcomes) in tried.by_level() {
        say(&json!({ "level": level, "sum": sums_as_json(&outcomes) }).to_string());
    }
    say(&json!({ "all": sums_as_json(&tried.in_all()), "failed": tried.failed.len() }).to_string());
}

/// Fails unless all came out as it was recorded.
fn check(tried: &Backtest) -> Result<(), CliError> {
    let differing = tried.rooms.iter().find_map(|room| Some((&room.room, room.difference.as_ref()?)));
    if let Some((room, difference)) = differing {
        let what = format!("{} (room {room:?}; {} of {} rooms differ)", difference.what, tried.in_all().differ, tried.rooms.len());
        return Err(CliError::Differs { tick: difference.tick.0, what });
    }
    match tried.failed.first() {
        None => Ok(()),
        Some((room, error)) => {
            let rooms = tried.rooms.len() + tried.failed.len();
            let detail = format!("could not be run, so it is not known whether they come out as recorded; {room:?}: {error}");
            Err(CliError::Argument { what: format!("{} of {rooms} rooms", tried.failed.len()), detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, meant, others) in [
            ("main", vec!["main"], vec!["main2", "mai", ""]),
            ("*", vec!["main", ""], vec![]),
            ("match_*", vec!["match_", "match_17"], vec!["a_match_17", "match"]),
            ("*_17", vec!["match_17", "_17"], vec!["match_170"]),
            ("a*b*c", vec!["abc", "a1b2c", "abbc"], vec!["ab", "ac", "acb"]),
            ("a*a", vec!["aa", "aba"], vec!["a"]),
        ] {
            meant.iter().for_each(|name| assert!(is_meant(pattern, name), "{pattern} {name}"));
            others.iter().for_each(|name| assert!(!is_meant(pattern, name), "{pattern} {name}"));
        }
    }

    #[test]
    fn a_value_is_put_where_there_is_one() {
        let imp = json!({ "health": 48, "patrol": { "points": [[1, 2], [3, 4]] } });
        let level = json!({ "imp_1": imp, "imp_2": { "health": 60 }, "door": { "state": "open" } });
        let put = |text: &str| {
            let (setting, mut level) = (text.parse::<LevelSetting>().unwrap(), level.clone());
            (setting.put(&mut level), level)
        };
        let (places, changed) = put("imp_*.health=30");
        assert_eq!((places, &changed["imp_1"]["health"], &changed["imp_2"]["health"]), (2, &json!(30), &json!(30)));
        assert_eq!(put("imp_1.patrol.points.1.0=9").1["imp_1"]["patrol"]["points"], json!([[1, 2], [9, 4]]));
        assert_eq!(put("door.state=closed").1["door"]["state"], json!("closed"));
        for nowhere in ["imp_3.health=1", "door.health=1", "imp_1.patrol.points.2=1", "imp_1.health.now=1"] {
            assert_eq!(put(nowhere), (0, level.clone()), "{nowhere}");
        }
        for bad in ["imp_1.health", "imp_1=3", ""] {
            assert!(bad.parse::<LevelSetting>().is_err(), "{bad}");
        }
    }
}
