//! What is stored of a room: any moment, what happened, and why.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{ANOTHER_PROTOCOL, Answer, Asked, Failure, Room, told, with};
use super::desk::Desk;
use super::game::AdminGame;
use super::orders::FACT_MAX;
use super::readers::{Reader, still_wanted};
use crate::protocol::{EntityId, FactSeq, RoomTick};
use crate::store::{Archive, Link, StoredFact, name_of};

/// Most facts of one answer, and most that are gone through for it.
const FACTS_MAX: usize = 1_000;
const FACTS_SEEN_MAX: usize = 50_000;
const FACTS_AT_ONCE: usize = 1_000;

/// Most pictures of one answer, and most ticks from one to the next.
const FRAMES_MAX: u32 = 40;
const EVERY_MAX: u32 = 400;

/// Most writes of one answer, and how far back they are looked for unless it is said: ten minutes.
const WRITES_MAX: usize = 500;
const HISTORY_TICKS: u32 = 12_000;

/// How many ticks are gone through at once for them: what is written in those is held at a time.
const HISTORY_AT_ONCE: u32 = 600;

/// `?tick=`.
#[derive(Deserialize)]
pub(super) struct At {
    tick: Option<u32>,
    /// How it is arranged: `entity`, `component` or `kind`.
    by: Option<String>,
}

/// The first tick that is kept, and the last.
fn ends(archive: &mut Archive, room: &str) -> Result<(RoomTick, RoomTick), Failure> {
    let last = archive.head(room)?.map_or(RoomTick(0), |head| head.tick);
    Ok((archive.first_kept(room)?.min(last), last))
}

pub(super) async fn ticks(State(desk): State<Arc<Desk>>, Room(room): Room) -> Answer {
    let ticks = desk.read(move |desk, reader| {
        if let Some(archive) = reader.stored(&room)? {
            let (first, last) = ends(archive, &room)?;
            let facts = archive.head(&room)?.map_or(0, |head| head.seq.0);
            return Ok(json!({ "first": first, "last": last, "facts": facts, "is_stored": true }));
        }
        let now = desk.handle.look(&room, |room| room.tick_now())?;
        Ok(json!({ "first": now, "last": now, "facts": 0, "is_stored": false }))
    });
    told(&ticks.await?)
}

pub(super) async fn state(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(At { tick, by }): Asked<At>) -> Answer {
    let by = by.unwrap_or_else(|| "entity".to_owned());
    let state = desk.read(move |desk, reader| {
        let (tick, state) = desk.state(reader, &room, tick)?;
        let entities = match by.as_str() {
            "entity" => state.to_json(reader.protocol()),
            "component" => state.to_component_json(reader.protocol()),
            "kind" => state.to_kind_json(reader.protocol(), &desk.game.kinds),
            _ => return Err(Failure::bad(format!("a state is arranged by entity, component or kind, not by {by:?}"))),
        };
        Ok(json!({ "tick": tick, "by": by, "state": entities? }))
    });
    told(&state.await?)
}

/// How many bytes the values of each component have, most first.
pub(super) async fn bytes(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(At { tick, .. }): Asked<At>) -> Answer {
    let bytes = desk.read(move |desk, reader| {
        let (tick, state) = desk.state(reader, &room, tick)?;
        let names: Vec<&str> = reader.protocol().component_names().collect();
        let mut sums: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (at, value) in state.entities().values().flat_map(|entity| &entity.components) {
            let sum = sums.entry(names.get(*at).copied().unwrap_or_default()).or_default();
            *sum = (sum.0 + 1, sum.1 + value.len());
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        let line = |(name, (entities, bytes)): &(&str, (usize, usize))| json!({ "component": name, "entities": entities, "bytes": bytes });
        let components: Value = sums.iter().map(line).collect();
        Ok(json!({ "tick": tick, "entities": state.entities().len(), "components": components }))
    });
    told(&bytes.await?)
}

/// `?tick=&follow=&ticks=&every=`.
#[derive(Deserialize)]
pub(super) struct Frames {
    tick: Option<u32>,
    /// Through whose eyes.
    follow: Option<String>,
    /// How many pictures.
    ticks: Option<u32>,
    /// How many ticks from one to the next.
    every: Option<u32>,
}

pub(super) async fn picture(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(wanted): Asked<Frames>) -> Answer {
    told(&desk.read(move |desk, reader| frames(desk, reader, &room, &wanted)).await?)
}

fn frames(desk: &Desk, reader: &mut Reader, room: &str, wanted: &Frames) -> Result<Value, Failure> {
    let (count, every) = (wanted.ticks.unwrap_or(1), wanted.every.unwrap_or(1));
    if !(1..=FRAMES_MAX).contains(&count) || !(1..=EVERY_MAX).contains(&every) {
        return Err(Failure::bad(format!("1 to {FRAMES_MAX} ticks can be asked for, every 1 to {EVERY_MAX}")));
    }
    let of = wanted.follow.as_deref().filter(|of| !of.is_empty()).map_or(EntityId::NIL, EntityId::parse);
    if reader.stored(room)?.is_none() {
        let (tick, state) = desk.state(reader, room, wanted.tick)?;
        let picture = reader.painter.draw(&state, tick, of)?;
        return Ok(json!({ "first": tick, "last": tick, "frames": [{ "tick": tick, "picture": picture }] }));
    }
    let Reader { archive: Some(archive), painter, gone, .. } = reader else { return Err(Failure::broken("the archive is gone")) };
    let (first, last) = ends(archive, room)?;
    let begin = wanted.tick.map_or(last, RoomTick);
    let mut cursor = archive.cursor(room, begin)?;
    let mut frames = Vec::new();
    let ticks = (0..count).map(|nth| begin.0.saturating_add(nth.saturating_mul(every)));
    for tick in ticks.take_while(|tick| *tick <= last.0.max(begin.0)) {
        still_wanted(gone)?;
        cursor.seek(RoomTick(tick))?;
        let picture = painter.draw(cursor.state(), RoomTick(tick), of)?;
        frames.push(json!({ "tick": tick, "picture": picture }));
    }
    Ok(json!({ "first": first, "last": last, "frames": frames }))
}

/// `?from=&to=`.
#[derive(Deserialize)]
pub(super) struct Between {
    from: u32,
    to: u32,
}

pub(super) async fn diff(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(Between { from, to }): Asked<Between>) -> Answer {
    let diff = desk.read(move |_, reader| {
        let changes = reader.archive()?.diff(&room, RoomTick(from), RoomTick(to))?.changes;
        Ok(json!({ "from": from, "to": to, "changes": changes }))
    });
    told(&diff.await?)
}

/// `?from=&tick=&until=&to=&limit=&kind=&by=&told=`.
#[derive(Deserialize)]
pub(super) struct Facts {
    /// From this one on.
    from: Option<u64>,
    /// From the first one on that happened in this tick or later.
    tick: Option<u32>,
    /// The last ones that happened up to this tick.
    until: Option<u32>,
    /// The last ones up to this one.
    to: Option<u64>,
    limit: Option<usize>,
    /// Only those of this kind.
    kind: Option<String>,
    /// Only those of this producer, or kind of producers.
    by: Option<String>,
    /// Only those that are worth a sentence.
    told: Option<bool>,
}

pub(super) async fn facts(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(wanted): Asked<Facts>) -> Answer {
    told(&desk.read(move |desk, reader| read_facts(&desk.game, reader, &room, &wanted)).await?)
}

/// The number of the first fact that happened in a tick or later.
fn first_of(archive: &mut Archive, room: &str, tick: u32) -> Result<u64, Failure> {
    let (mut low, mut high) = (1, archive.head(room)?.map_or(0, |head| head.seq.0) + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        // What is not kept any more was earlier.
        match archive.fact(room, FactSeq(middle))? {
            Some(fact) if fact.tick.0 >= tick => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(low)
}

fn read_facts(game: &AdminGame, reader: &mut Reader, room: &str, wanted: &Facts) -> Result<Value, Failure> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=FACTS_MAX).contains(&limit) {
        return Err(Failure::bad(format!("1 to {FACTS_MAX} facts can be asked for")));
    }
    reader.archive()?.room(room)?;
    let (names, gone) = (reader.names(room)?, reader.gone.clone());
    let archive = reader.archive()?;
    let line = |fact: &StoredFact| game.tell(&fact.kind, &fact.json(), &|id: &str| name_of(&names, id));
    let chosen = |fact: StoredFact| {
        let line = line(&fact);
        let is_of = wanted.kind.as_ref().is_none_or(|kind| *kind == fact.kind) && wanted.by.as_ref().is_none_or(|by| fact.is_by(by));
        let is_wanted = is_of && (line.is_some() || wanted.told != Some(true));
        is_wanted.then(|| fact_json(&fact, line))
    };
    if wanted.until.is_some() || wanted.to.is_some() {
        let to = wanted.to.map_or(u64::MAX, |to| to.saturating_add(1));
        let last = match wanted.until {
            Some(until) => first_of(archive, room, until.saturating_add(1))?,
            None => archive.head(room)?.map_or(0, |head| head.seq.0) + 1,
        };
        return last_facts(archive, room, (last.min(to), limit), &gone, chosen);
    }
    let (mut found, mut seen) = (Vec::new(), 0);
    let mut next = match wanted.tick {
        Some(tick) => first_of(archive, room, tick)?,
        None => wanted.from.unwrap_or(1).clamp(1, FACT_MAX),
    };
    while found.len() < limit && seen < FACTS_SEEN_MAX {
        still_wanted(&gone)?;
        let page = archive.facts(room, FactSeq(next), FACTS_AT_ONCE.min(limit.max(100)))?;
        if page.is_empty() {
            break;
        }
        seen += page.len();
        for fact in page {
            next = fact.seq.0 + 1;
            found.extend(chosen(fact));
            if found.len() == limit {
                break;
            }
        }
    }
    let is_cut = found.len() < limit && seen >= FACTS_SEEN_MAX;
    Ok(json!({ "facts": found, "next": next, "before": null, "is_cut": is_cut }))
}

/// The last facts before a number that are wanted, and the number of the first one before all that were looked at.
fn last_facts(
    archive: &mut Archive,
    room: &str,
    (mut end, limit): (u64, usize),
    gone: &AtomicBool,
    chosen: impl Fn(StoredFact) -> Option<Value>,
) -> Result<Value, Failure> {
    let (mut found, mut seen) = (Vec::new(), 0);
    while found.len() < limit && end > 1 && seen < FACTS_SEEN_MAX {
        still_wanted(gone)?;
        let begin = end.saturating_sub(FACTS_AT_ONCE as u64).max(1);
        let page = archive.facts(room, FactSeq(begin), (end - begin) as usize)?;
        seen += page.len();
        let page: Vec<StoredFact> = page.into_iter().filter(|fact| fact.seq.0 < end).collect();
        // What is older is not kept.
        end = if page.is_empty() { 1 } else { begin };
        for fact in page.into_iter().rev() {
            let seq = fact.seq.0;
            found.extend(chosen(fact));
            if found.len() == limit {
                end = seq;
                break;
            }
        }
    }
    found.reverse();
    let before = (end > 1).then_some(end - 1);
    Ok(json!({ "facts": found, "next": null, "before": before, "is_cut": before.is_some() && found.len() < limit }))
}

/// A fact as the command line prints it, and as a sentence.
fn fact_json(fact: &StoredFact, line: Option<String>) -> Value {
    with(fact.to_json(), json!({ "line": line }))
}

/// `?entity=&component=&from=&to=`.
#[derive(Deserialize)]
pub(super) struct History {
    entity: String,
    component: Option<String>,
    from: Option<u32>,
    to: Option<u32>,
}

pub(super) async fn history(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(wanted): Asked<History>) -> Answer {
    let history = desk.read(move |desk, reader| {
        reader.archive()?.room(&room)?;
        let (names, gone) = (reader.names(&room)?, reader.gone.clone());
        let archive = reader.archive()?;
        let (first, last) = ends(archive, &room)?;
        let to = wanted.to.map_or(last, |to| RoomTick(to).min(last));
        let from = wanted.from.map_or_else(|| RoomTick(to.0.saturating_sub(HISTORY_TICKS)).max(first), RoomTick);
        let (from, (links, all)) = match last_writes(archive, &room, &wanted, (from, to), &gone) {
            // Another version of the game wrote some of it. Unless that was asked for, what was written since is told.
            Err(failure) if wanted.from.is_none() && failure.code == ANOTHER_PROTOCOL => {
                let since = archive.went_on(&room, to)?.filter(|since| *since > from).ok_or(failure)?;
                (since, last_writes(archive, &room, &wanted, (since, to), &gone)?)
            }
            written => (from, written?),
        };
        let mut writes = Vec::new();
        for link in &links {
            let fact = link.fact.map(|seq| archive.fact(&room, seq)).transpose()?.flatten();
            let line = fact.as_ref().and_then(|fact| desk.game.tell(&fact.kind, &fact.json(), &|id: &str| name_of(&names, id)));
            writes.push(link.to_json(json!({ "fact": fact.map(|fact| fact_json(&fact, line)) })));
        }
        // What is older is asked for by this as its end.
        let oldest = links.front().filter(|_| all > links.len()).map_or(from, |link| link.tick);
        let before = oldest.0.checked_sub(1).filter(|before| *before >= first.0);
        Ok(json!({ "from": from, "to": to, "all": all, "before": before, "writes": writes }))
    });
    told(&history.await?)
}

/// The last writes from one tick to another, and how many there were in all. The oldest of many are left out, by whole ticks where that can be.
fn last_writes(
    archive: &mut Archive,
    room: &str,
    wanted: &History,
    (from, to): (RoomTick, RoomTick),
    gone: &AtomicBool,
) -> Result<(VecDeque<Link>, usize), Failure> {
    let (mut links, mut all, mut begin, mut cut) = (VecDeque::new(), 0, from, None);
    loop {
        still_wanted(gone)?;
        let end = RoomTick(begin.0.saturating_add(HISTORY_AT_ONCE - 1)).min(to);
        let found = archive.history(room, &wanted.entity, wanted.component.as_deref(), begin, end)?;
        all += found.len();
        for link in found {
            if links.len() == WRITES_MAX {
                cut = links.pop_front().map(|oldest: Link| oldest.tick);
            }
            links.push_back(link);
        }
        match end.next() {
            Some(next) if end < to => begin = next,
            _ => break,
        }
    }
    if links.back().is_some_and(|newest| Some(newest.tick) != cut) {
        while links.front().is_some_and(|oldest| Some(oldest.tick) == cut) {
            links.pop_front();
        }
    }
    Ok((links, all))
}

/// `?entity=&component=&tick=`.
#[derive(Deserialize)]
pub(super) struct Why {
    entity: String,
    component: String,
    tick: Option<u32>,
}

pub(super) async fn why(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(wanted): Asked<Why>) -> Answer {
    let why = desk.read(move |desk, reader| {
        let gone = reader.gone.clone();
        let archive = reader.archive()?;
        let tick = match wanted.tick {
            Some(tick) => RoomTick(tick),
            None => ends(archive, &room)?.1,
        };
        let (entity, component) = (&wanted.entity, &wanted.component);
        let first = archive.first_kept(&room)?;
        let since = RoomTick(tick.0.saturating_sub(HISTORY_TICKS)).max(first);
        let (mut end, mut found) = (tick, None);
        while found.is_none() {
            still_wanted(&gone)?;
            let begin = RoomTick(end.0.saturating_sub(HISTORY_AT_ONCE - 1)).max(since);
            found = archive.why_since(&room, entity, component, end, begin)?;
            if begin <= since {
                break;
            }
            end = RoomTick(begin.0 - 1);
        }
        let Some(why) = found else { return Err(not_written(entity, component, (since, tick), first)) };
        let names = reader.names(&room)?;
        let who = |id: &str| name_of(&names, id);
        let facts: Vec<Value> = why.facts.iter().map(|fact| fact_json(fact, desk.game.tell(&fact.kind, &fact.json(), &who))).collect();
        let origin = why.facts.last();
        let command = why.command.as_ref().map(|(kind, data)| json!({ "command": kind, "data": data }));
        let author = origin.and_then(|fact| fact.author).map(|author| name_of(&names, &author.to_string()));
        let producer = origin.map(|fact| fact.producer.clone());
        let more = json!({ "facts": facts, "command": command, "author": author, "producer": producer });
        Ok(why.link.to_json(more))
    });
    told(&why.await?)
}

/// That a component was not written from one tick to another, and the tick to ask for next, if anything older is kept.
fn not_written(entity: &str, component: &str, (since, tick): (RoomTick, RoomTick), first: RoomTick) -> Failure {
    let before = since.0.checked_sub(1).filter(|before| *before >= first.0);
    let message = match before {
        Some(before) => {
            format!("{entity}.{component} was not written from tick {since} to tick {tick}: ask with tick={before} for what was before")
        }
        None => format!("{entity}.{component} was never written up to tick {tick}, as far as is kept"),
    };
    Failure { more: json!({ "before": before }), ..Failure::missing(message) }
}

pub(super) async fn snippets(State(desk): State<Arc<Desk>>, Room(room): Room) -> Answer {
    let snippets = desk.read(move |_, reader| {
        let Some(archive) = reader.stored(&room)? else { return Ok(json!([])) };
        let key = archive.room(&room)?.key;
        let snippets = archive.store().snippets(key)?.into_iter();
        Ok(snippets.map(|(label, tick, entities)| json!({ "label": label, "tick": tick, "entities": entities })).collect())
    });
    told(&snippets.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_lately_is_looked_for_further_back_while_anything_older_is_kept() {
        let ask = |since, first| not_written("heart", "sum", (RoomTick(since), RoomTick(90)), RoomTick(first));
        let older = ask(50, 0);
        assert_eq!(older.more["before"], json!(49));
        assert_eq!(older.message, "heart.sum was not written from tick 50 to tick 90: ask with tick=49 for what was before");
        assert_eq!(
            [ask(50, 49), ask(50, 50), ask(0, 0)].map(|failure| failure.more["before"].clone()),
            [json!(49), Value::Null, Value::Null]
        );
    }
}
