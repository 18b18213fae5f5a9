//! The verbs that only read.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::game::Game;
use super::super::options::{CliError, DumpBy};
use super::super::output::{is_heard, room_time, say};
use super::super::signals::stop_flag;
use super::options::{PlaceArgument, TickArgument};
use super::or_last;
use super::working::whose;
use crate::protocol::{EntityId, FactSeq, Op, RoomTick, State};
use crate::store::{Archive, Link, Narration, Projection, Scoreboard, StoredFact, name_of};

/// How many facts are read at once.
const FACTS_AT_ONCE: usize = 10_000;

pub(super) fn rooms(archive: &mut Archive, as_json: bool) -> Result<(), CliError> {
    let mut damaged = 0;
    for room in archive.store().rooms()? {
        let name = &room.header.name;
        let head = match archive.head(name) {
            Ok(head) => head,
            // It hides no other.
            Err(error) => {
                damaged += 1;
                let error = error.to_string();
                say(&if as_json { json!({ "room": name, "error": error }).to_string() } else { format!("{name}: {error}") });
                continue;
            }
        };
        let (tick, seq) = head.map_or((0, 0), |head| (head.tick.0, head.seq.0));
        if as_json {
            say(&json!({ "room": name, "tick": tick, "facts": seq, "seed": room.header.seed, "forked_from": room.header.forked_from })
                .to_string());
        } else {
            let fork = room.header.forked_from.map(|(from, tick)| format!(", forked from {from} at tick {tick}"));
            say(&format!("{name}: {} played, tick {tick}, {seq} facts{}", room_time(tick), fork.unwrap_or_default()));
        }
    }
    if damaged > 0 { Err(CliError::Damaged(damaged)) } else { Ok(()) }
}

fn fact_line(fact: &StoredFact, names: &BTreeMap<EntityId, String>, as_json: bool) -> String {
    if as_json {
        return fact.to_json().to_string();
    }
    let by = match fact.author {
        Some(author) => format!(" by {}", name_of(names, &author.to_string())),
        None => format!(" by {}", fact.producer),
    };
    let because = fact.cause.map(|cause| format!(" because of #{cause}")).unwrap_or_default();
    format!("#{} {} {} {}{by}{because}", fact.seq, room_time(fact.tick.0), fact.kind, named(&fact.json(), names))
}

/// JSON with the ids of entities as people write them.
fn named(value: &Value, names: &BTreeMap<EntityId, String>) -> Value {
    match value {
        Value::String(text) => {
            let id = uuid::Uuid::try_parse(text).ok().map(EntityId::from_uuid);
            id.and_then(|id| names.get(&id)).map_or_else(|| value.clone(), |name| name.as_str().into())
        }
        Value::Array(items) => items.iter().map(|item| named(item, names)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (key.clone(), named(field, names))).collect(),
        other => other.clone(),
    }
}

pub(super) fn facts(
    archive: &mut Archive,
    room: &str,
    (kind, by): (Option<&str>, Option<&str>),
    (from, to): (u64, Option<u64>),
    as_json: bool,
) -> Result<(), CliError> {
    let is_wanted = |fact: &&StoredFact| kind.is_none_or(|kind| kind == fact.kind) && by.is_none_or(|by| fact.is_by(by));
    let names = archive.names(room)?;
    let mut next = from;
    loop {
        let facts = archive.facts(room, FactSeq(next), FACTS_AT_ONCE)?;
        let Some(last) = facts.last().map(|fact| fact.seq.0) else { return Ok(()) };
        for fact in facts.iter().filter(is_wanted) {
            if to.is_some_and(|to| fact.seq.0 > to) {
                return Ok(());
            }
            say(&fact_line(fact, &names, as_json));
        }
        next = last + 1;
    }
}

pub(super) fn tail(game: &Game, archive: &mut Archive, room: &str, from: Option<u64>, lines: u64, as_json: bool) -> Result<(), CliError> {
    let stop = stop_flag();
    let last = archive.head(room)?.map_or(0, |head| head.seq.0);
    let mut next = from.map_or_else(|| last.saturating_sub(lines) + 1, |from| from + 1);
    let mut names = archive.names(room)?;
    let told = |fact: &StoredFact, names: &BTreeMap<EntityId, String>| {
        let who = |id: &str| name_of(names, id);
        game.tell(&fact.kind, &fact.json(), &who)
    };
    while is_heard() && !stop.load(Ordering::Relaxed) {
        let facts = archive.facts(room, FactSeq(next), FACTS_AT_ONCE)?;
        for fact in &facts {
            names.extend(fact.joined().map(|joined| (joined.user, joined.name)));
            match (as_json, told(fact, &names)) {
                (false, Some(sentence)) => say(&format!("#{} {} {sentence}", fact.seq, room_time(fact.tick.0))),
                _ => say(&fact_line(fact, &names, as_json)),
            }
            next = fact.seq.0 + 1;
        }
        if facts.is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

pub(super) fn story(game: &Game, archive: &mut Archive, room: &str, vtt: bool, as_json: bool) -> Result<(), CliError> {
    let teller = game.narrator.unwrap_or(|kind, data, _| Some(format!("{kind} {data}")));
    let mut narration = Narration::new(teller, archive.names(room)?);
    let mut next = 1;
    loop {
        let facts = archive.facts(room, FactSeq(next), FACTS_AT_ONCE)?;
        let Some(last) = facts.last().map(|fact| fact.seq.0) else { break };
        facts.iter().for_each(|fact| narration.take(room, fact));
        next = last + 1;
    }
    if vtt {
        say("WEBVTT\n");
    }
    let lines = narration.take_lines();
    for (place, (tick, line)) in lines.iter().enumerate() {
        // A line stays for four seconds, or until the next but one.
        let until = lines.get(place + 2).map_or(tick.0 + 80, |(next, _)| next.0.min(tick.0 + 80)).max(tick.0 + 10);
        match (vtt, as_json) {
            (true, _) => say(&format!("{} --> {}\n{}\n", vtt_time(tick.0), vtt_time(until), vtt_text(line))),
            (_, true) => say(&json!({ "tick": tick, "line": line }).to_string()),
            _ => say(&format!("{} {line}", room_time(tick.0))),
        }
    }
    Ok(())
}

/// A line as WebVTT writes it, where `<` begins a tag and an arrow stands between two times.
fn vtt_text(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A tick as WebVTT writes times.
fn vtt_time(tick: u32) -> String {
    let millis = u64::from(tick) * 50;
    format!("{:02}:{:02}:{:02}.{:03}", millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60, millis % 1_000)
}

pub(super) fn at(game: &Game, archive: &mut Archive, room: &str, tick: Option<TickArgument>, by: DumpBy) -> Result<(), CliError> {
    let tick = or_last(archive, room, tick)?;
    let state = archive.state_at(room, tick)?;
    print(game, archive, &state, by)
}

pub(super) fn print(game: &Game, archive: &Archive, state: &State, by: DumpBy) -> Result<(), CliError> {
    let protocol = archive.protocol();
    let json = match by {
        DumpBy::Entity => state.to_json(protocol),
        DumpBy::Component => state.to_component_json(protocol),
        DumpBy::Kind => state.to_kind_json(protocol, &game.kinds),
    };
    say(&serde_json::to_string_pretty(&json.map_err(crate::store::StoreError::from)?).unwrap_or_default());
    Ok(())
}

fn or_nothing(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

pub(super) fn diff(archive: &mut Archive, room: &str, from: TickArgument, to: TickArgument, as_json: bool) -> Result<(), CliError> {
    for change in archive.diff(room, from.0, to.0)?.changes {
        if as_json {
            say(&json!(change).to_string());
        } else {
            let (before, after) = (or_nothing(change.before.as_ref()), or_nothing(change.after.as_ref()));
            say(&format!("{}.{}: {before} -> {after}", change.entity, change.component));
        }
    }
    Ok(())
}

/// What an operation is called.
fn op_name(link: &Link) -> &'static str {
    match &link.operation.op {
        Op::Create { .. } => "create",
        Op::Update { kind, .. } => kind.name(),
        Op::Remove { .. } => "remove",
        Op::Delete => "delete",
    }
}

pub(super) fn history(
    archive: &mut Archive,
    room: &str,
    of: &PlaceArgument,
    (from, to): (Option<TickArgument>, Option<TickArgument>),
    as_json: bool,
) -> Result<(), CliError> {
    let from = from.map_or_else(|| archive.first_kept(room), |tick| Ok(tick.0))?;
    let to = or_last(archive, room, to)?;
    for link in archive.history(room, &of.entity, of.component.as_deref(), from, to)? {
        let fact = link.fact.map(|seq| archive.fact(room, seq)).transpose()?.flatten();
        if as_json {
            let fact = fact.map(|fact| fact.to_json());
            say(&link.to_json(json!({ "fact": fact })).to_string());
            continue;
        }
        let by = fact.map_or_else(|| "by a system, without a fact".to_owned(), |fact| format!("by #{} {}", fact.seq, fact.kind));
        let (before, after) = (or_nothing(link.before.as_ref()), or_nothing(link.after.as_ref()));
        say(&format!("{} @{} {} {before} -> {after} {by}", room_time(link.tick.0), link.tick, op_name(&link)));
    }
    Ok(())
}

pub(super) fn why(
    game: &Game,
    archive: &mut Archive,
    room: &str,
    of: &PlaceArgument,
    at: Option<TickArgument>,
    as_json: bool,
) -> Result<(), CliError> {
    let tick = or_last(archive, room, at)?;
    let Some(component) = &of.component else {
        let detail = "name a component: door_red.door_state".to_owned();
        return Err(CliError::Argument { what: of.entity.clone(), detail });
    };
    let Some(why) = archive.why(room, &of.entity, component, tick)? else {
        say(&format!("{}.{component} was never written up to tick {tick}", of.entity));
        return Ok(());
    };
    let names = archive.names(room)?;
    if as_json {
        let facts: Vec<Value> = why.facts.iter().map(StoredFact::to_json).collect();
        let command = why.command.as_ref().map(|(kind, data)| json!({ "command": kind, "data": data }));
        say(&why.link.to_json(json!({ "facts": facts, "command": command })).to_string());
        return Ok(());
    }
    say(&format!("{}.{component} = {} at tick {tick}", of.entity, or_nothing(why.link.after.as_ref())));
    let (at, op) = (why.link.tick, op_name(&why.link));
    say(&format!("  written in tick {at} ({}) by `{op}`; before: {}", room_time(at.0), or_nothing(why.link.before.as_ref())));
    for (place, fact) in why.facts.iter().enumerate() {
        let because = if place == 0 { "because" } else { "which came because" };
        let who = |id: &str| name_of(&names, id);
        let sentence = game.tell(&fact.kind, &fact.json(), &who).unwrap_or_else(|| named(&fact.json(), &names).to_string());
        say(&format!("  {because} of fact #{} {}: {sentence}", fact.seq, fact.kind));
    }
    let origin = why.facts.last();
    match (origin, &why.command) {
        (Some(fact), Some((kind, data))) => {
            let who = fact.author.map(|author| name_of(&names, &author.to_string())).unwrap_or_default();
            let number = fact.command.map_or(0, |command| command.0);
            say(&format!("  which {who} asked for by command {number} `{kind}` {}", named(data, &names)));
        }
        (Some(fact), None) => say(&format!("  which came from {}", fact.producer)),
        (None, _) => say("  by a system, without a fact"),
    }
    Ok(())
}

pub(super) fn audit(archive: &mut Archive, room: &str, player: Option<&str>, as_json: bool) -> Result<(), CliError> {
    let names = archive.names(room)?;
    // Without a player: what all of them did.
    let of = whose(archive, room, player, true)?;
    let all = archive.audit(room, of)?;
    if let Some((player, id)) = player.zip(of)
        && all.is_empty()
        && !names.contains_key(&id)
    {
        return Err(CliError::Argument { what: player.to_owned(), detail: format!("nobody of that name or id was ever in {room}") });
    }
    for audited in all {
        let who = name_of(&names, &audited.author.to_string());
        let command = audited.command.map(|command| command.0);
        if as_json {
            let (tick, kind, data, refused) = (audited.tick, audited.kind, audited.data, audited.refused);
            say(&json!({ "tick": tick, "player": who, "command": command, "kind": kind, "data": data, "refused": refused }).to_string());
            continue;
        }
        let number = command.map(|command| format!(" command {command}")).unwrap_or_default();
        let refused = audited.refused.map(|why| format!("  REFUSED: {why}")).unwrap_or_default();
        say(&format!("{} {who}{number} {} {}{refused}", room_time(audited.tick.0), audited.kind, named(&audited.data, &names)));
    }
    Ok(())
}

pub(super) fn scores(archive: &mut Archive, room: &str, points: &[String], as_json: bool) -> Result<(), CliError> {
    let mut parsed = Vec::new();
    for text in points {
        let bad = || CliError::Argument { what: text.clone(), detail: "say how many points for which fact: monster_died=10".to_owned() };
        let (kind, points) = text.split_once('=').ok_or_else(bad)?;
        parsed.push((kind, points.parse().map_err(|_| bad())?));
    }
    let mut board = Scoreboard::new(&parsed);
    archive.facts(room, FactSeq(1), usize::MAX)?.iter().for_each(|fact| board.take(room, fact));
    if board.scores().is_empty() && !as_json {
        say("no fact of these kinds came from a player's command");
    }
    for (player, score) in board.scores() {
        say(&if as_json { json!({ "player": player, "score": score }).to_string() } else { format!("{score:>6}  {player}") });
    }
    Ok(())
}

pub(super) fn snippets(archive: &mut Archive, room: &str) -> Result<(), CliError> {
    let key = archive.room(room)?.key;
    for (label, tick, entities) in archive.store().snippets(key)? {
        let when = if tick == RoomTick(0) { "imported".to_owned() } else { format!("of tick {tick} ({})", room_time(tick.0)) };
        say(&format!("{label}: {entities} entities, {when}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_subtitle_is_no_tag_and_no_arrow() {
        assert_eq!(vtt_text("<3 & --> joins."), "&lt;3 &amp; --&gt; joins.");
    }
}
