//! The match as a story: one English sentence for each fact, for subtitles, for a screen reader, for a log.
//!
//! Job: a projection. It reads the ledger's JSON payloads and the names that entities have, and knows no rules; so it
//! tells an old match as well as a live one. Invariant: every kind of fact has a sentence; an unknown kind has none.
//!
//! May use: serde_json. Never: the ECS, rules.

use serde_json::Value;

/// What happens to players and how the level ends: how urgent it is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Steps and turns; left out unless somebody asks for all.
    Detail,
    /// What one would want to hear.
    Event,
    /// Deaths and ends: to be said at once.
    Turning,
}

/// The sentence templates: kind of fact, weight, sentence. `{field}` stands for a field of the payload, an entity by
/// its name. Where an option or a number changes the sentence, `variant` picks another template.
const TEMPLATES: &[(&str, Weight, &str)] = &[
    ("user_joined", Weight::Event, "{name} joins."),
    ("user_left", Weight::Event, "{user} leaves."),
    ("player_moved", Weight::Detail, "{player} moves to {to}."),
    ("bullet_fired", Weight::Event, "{player} fires the {weapon}."),
    ("door_opened", Weight::Event, "{player} opens the {door}."),
    ("door_opened_by_itself", Weight::Event, "The {door} opens by itself."),
    ("door_closed", Weight::Event, "The {door} closes."),
    ("player_hit_by_fireball", Weight::Event, "A fireball of the {thrown_by} hits {player} for {damage} health."),
    ("player_hit_while_immune", Weight::Event, "A fireball of the {thrown_by} bursts harmlessly on {player}."),
    ("monster_hit_by_bullet", Weight::Event, "{fired_by} hits the {monster}."),
    ("monster_died", Weight::Event, "The {monster} dies."),
    ("player_collected_weapon", Weight::Event, "{player} takes the {weapon}."),
    ("player_switched_weapon", Weight::Event, "{player} draws the {weapon}."),
    ("player_collected_health", Weight::Event, "{player} uses a medical kit."),
    ("player_collected_immunity", Weight::Event, "{player} is immune to fireballs for a while."),
    ("player_collected_ammo", Weight::Event, "{player} finds {amount} rounds."),
    ("player_collected_key", Weight::Event, "{player} takes the {colour} key."),
    ("player_killed", Weight::Turning, "{player} is killed."),
    ("monster_moved", Weight::Detail, "The {monster} sets out."),
    ("monster_chases", Weight::Detail, "The {monster} goes after somebody."),
    ("monster_stops", Weight::Detail, "The {monster} stops."),
    ("monster_threw_fireball", Weight::Event, "The {monster} throws a fireball at {target}."),
    ("fireball_moved", Weight::Detail, "A fireball bends."),
    ("level_won", Weight::Turning, "{player} reaches the exit: the level is won."),
    ("level_lost", Weight::Turning, "Nobody is left alive: the level is lost."),
];

/// The sentence for one fact and how much it weighs; `None` for a kind the story does not know.
///
/// `name_of` gives the name of the entity that a payload's field holds, such as `door_red` or a player's name; without
/// one the story says "somebody" or "something".
pub fn sentence(kind: &str, payload: &Value, name_of: impl Fn(&Value) -> Option<String>) -> Option<(Weight, String)> {
    let wanted = variant(kind, payload);
    let (_, weight, template) = TEMPLATES.iter().find(|(kind, ..)| *kind == wanted)?;
    let mut told = String::new();
    let mut rest = *template;
    while let Some((before, (field, after))) = rest.split_once('{').and_then(|(a, b)| Some((a, b.split_once('}')?))) {
        told.push_str(before);
        told.push_str(&word(field, payload.get(field), &name_of));
        rest = after;
    }
    told.push_str(rest);
    Some((*weight, told))
}

/// The story as the library's command line tells it: without the details.
pub fn narrate(kind: &str, payload: &Value, who: &dyn Fn(&str) -> String) -> Option<String> {
    let (weight, told) = sentence(kind, payload, |id| id.as_str().map(who))?;
    (weight > Weight::Detail).then_some(told)
}

/// The kinds of facts the story knows, without their variants.
#[cfg(test)]
pub fn kinds() -> impl Iterator<Item = &'static str> {
    const VARIANTS: [&str; 4] = ["door_opened_by_itself", "player_hit_while_immune", "monster_chases", "monster_stops"];
    TEMPLATES.iter().map(|(kind, ..)| *kind).filter(|kind| !VARIANTS.contains(kind))
}

fn variant<'a>(kind: &'a str, payload: &Value) -> &'a str {
    let state = payload.get("state").and_then(Value::as_str);
    match kind {
        "door_opened" if payload.get("player").is_none_or(Value::is_null) => "door_opened_by_itself",
        "player_hit_by_fireball" if payload.get("damage").and_then(Value::as_i64) == Some(0) => "player_hit_while_immune",
        "monster_moved" if state == Some("monster_chase") => "monster_chases",
        "monster_moved" if state == Some("monster_idle") => "monster_stops",
        other => other,
    }
}

/// A field as it is read aloud.
fn word(field: &str, value: Option<&Value>, name_of: &impl Fn(&Value) -> Option<String>) -> String {
    let is_player = matches!(field, "player" | "user" | "target" | "fired_by");
    let unknown = if is_player { "somebody" } else { "something" };
    match (field, value) {
        ("player" | "user" | "target" | "fired_by", Some(id)) => name_of(id).unwrap_or(unknown.into()),
        ("monster" | "thrown_by" | "door", Some(id)) => name_of(id).map_or(unknown.into(), |name| spoken(&name)),
        (_, Some(Value::String(text))) => text.replace('_', " "),
        (_, Some(Value::Array(place))) => {
            let rounded = place.iter().filter_map(Value::as_f64).map(|n| format!("{n:.0}"));
            rounded.collect::<Vec<_>>().join(", ")
        }
        (_, Some(other)) => other.to_string(),
        (_, None) => unknown.into(),
    }
}

/// A level file's name as words: `door_red` is the red door, `monster_imp_1` the imp 1.
fn spoken(name: &str) -> String {
    if let Some(which) = name.strip_prefix("door_") {
        return format!("{} door", which.replace('_', " "));
    }
    name.strip_prefix("monster_").unwrap_or(name).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(kind: &str, payload: Value) -> String {
        let name_of = |id: &Value| id.as_str().map(str::to_owned);
        sentence(kind, &payload, name_of).unwrap().1
    }

    #[test]
    fn a_match_reads_as_a_story() {
        assert_eq!(told("door_opened", json!({"door": "door_red", "player": "ann"})), "ann opens the red door.");
        assert_eq!(told("door_opened", json!({"door": "door_vault", "player": null})), "The vault door opens by itself.");
        let hit = json!({"player": "ann", "thrown_by": "monster_imp_2", "damage": 10});
        assert_eq!(told("player_hit_by_fireball", hit), "A fireball of the imp 2 hits ann for 10 health.");
        assert_eq!(told("player_moved", json!({"player": "ann", "to": [3.2, 4.9]})), "ann moves to 3, 5.");
    }

    #[test]
    fn all_twenty_events_and_the_closing_of_a_door_have_a_sentence() {
        assert_eq!(kinds().count(), 21);
    }

    #[test]
    fn a_fact_of_another_game_has_no_sentence() {
        assert_eq!(sentence("goal_scored", &json!({}), |_| None), None);
    }

    #[test]
    fn a_payload_without_the_field_still_gives_a_sentence() {
        let (_, told) = sentence("player_killed", &json!({}), |_| None).unwrap();
        assert_eq!(told, "somebody is killed.");
    }
}
