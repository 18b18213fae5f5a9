//! What an operator says happened: a fact by its wire name and its JSON text, read with care.

use super::built_in::is_built_in;
use super::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX, REJECTION_DETAIL_BYTES_MAX};
use super::payload::{Fact, read_whole};
use super::registry::Protocol;
use super::rejection::{Rejection, beginning};

impl Protocol {
    /// The wire names of the facts that an operator can let happen, in order: the game's, not those that a room tells of itself.
    pub fn event_names(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().filter(|kind| !is_built_in(kind.type_id)).map(|kind| kind.name.as_str())
    }

    /// Reads what an operator lets happen. Whether the entities that it names are there, the room knows.
    ///
    /// What the store keeps of a text or a name that is too long is its beginning, so what is said of one does not depend on the rest.
    pub(crate) fn read_event(&self, name: &str, text: &str) -> Result<Box<dyn Fact>, Rejection> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Rejection::new("unknown_fact").because(format!("a fact's name has at most {NAME_BYTES_MAX} bytes")));
        }
        if text.len() > EVENT_BYTES_MAX {
            return Err(Rejection::new("too_large").because(format!("more than {EVENT_BYTES_MAX} bytes of JSON")));
        }
        let Some(kind) = self.facts.iter().find(|kind| kind.name == name) else {
            let known: Vec<&str> = self.event_names().collect();
            let asked = format!("{}; there are: ", without_long_quote(&format!("{name:?}")));
            let listed = what_fits(&known, REJECTION_DETAIL_BYTES_MAX.saturating_sub(asked.len()));
            return Err(Rejection::new("unknown_fact").because(asked + &listed));
        };
        if is_built_in(kind.type_id) {
            return Err(Rejection::new("not_an_event").because(format!("{name} is for the room itself to tell")));
        }
        let malformed = |why: String| Rejection::new("malformed").because(in_short(format!("{name}: {why}")));
        let fact = (kind.from_text)(text).map_err(|error| malformed(error.to_string()))?;
        if fact.is_not_finite() {
            return Err(Rejection::new("not_finite").because(format!("{name} has a number that is infinite, or none")));
        }
        // What can't be encoded would end the room, once it is recorded; what can't be read again, each member's client.
        let mut bytes = Vec::new();
        fact.encode(&mut bytes).map_err(|error| malformed(error.to_string()))?;
        read_whole(kind.decode, &bytes).map_err(|error| malformed(format!("it could not be read again: {error}")))?;
        Ok(fact)
    }
}

/// How much of a value is quoted.
const QUOTED_BYTES_MAX: usize = 64;

/// A text as before, but for the rest of the first value that is quoted in it, if that is long.
fn without_long_quote(text: &str) -> String {
    let quoted = text.find(['"', '`']).and_then(|at| {
        let (before, rest) = text.split_at_checked(at + 1)?;
        let end = if before.ends_with('`') { rest.find('`') } else { end_of_quote(rest) };
        Some((before, rest.split_at_checked(end?)?))
    });
    match quoted {
        Some((before, (value, after))) if value.len() > QUOTED_BYTES_MAX => {
            format!("{before}{}\u{2026}{after}", beginning(value, QUOTED_BYTES_MAX))
        }
        _ => text.to_owned(),
    }
}

/// Where the quote ends that is not escaped.
fn end_of_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let ends = |(_, letter): &(usize, char)| {
        let is_end = *letter == '"' && !is_escaped;
        is_escaped = *letter == '\\' && !is_escaped;
        is_end
    };
    text.char_indices().find(ends).map(|(at, _)| at)
}

/// As many of these as so many bytes hold, and how many more there are.
fn what_fits(items: &[&str], max: usize) -> String {
    let all = items.join(", ");
    if all.len() <= max {
        return all;
    }
    let told = |count: usize| {
        let left = items.len() - count;
        let shown: Vec<&str> = items.iter().take(count).copied().collect();
        if shown.is_empty() { format!("{left} of them") } else { format!("{} and {left} more", shown.join(", ")) }
    };
    (1..items.len()).rev().map(told).find(|told| told.len() <= max).unwrap_or_else(|| told(0))
}

/// What is wrong with a text, as long as a rejection may be: without the rest of a value that is quoted, then with fewer of what was expected.
/// Where it is wrong, at the end, stays.
fn in_short(text: String) -> String {
    const LIST: &str = ", expected one of ";
    if text.len() <= REJECTION_DETAIL_BYTES_MAX {
        return text;
    }
    let text = without_long_quote(&text);
    if text.len() <= REJECTION_DETAIL_BYTES_MAX {
        return text;
    }
    let (text, place) = text.rfind(" at line ").and_then(|at| text.split_at_checked(at)).unwrap_or((text.as_str(), ""));
    let max = REJECTION_DETAIL_BYTES_MAX.saturating_sub(place.len());
    if let Some((before, list)) = text.split_once(LIST) {
        let items: Vec<&str> = list.split(", ").collect();
        let listed = what_fits(&items, max.saturating_sub(before.len() + LIST.len()));
        return format!("{before}{LIST}{listed}{place}");
    }
    format!("{}\u{2026}{place}", beginning(text, max.saturating_sub(3)))
}

#[cfg(test)]
mod tests {
    use bevy_app::App;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::protocol::ProtocolAppExt;

    #[derive(Clone, Serialize, Deserialize)]
    struct Many(Vec<Option<u64>>);

    #[derive(Clone, Serialize, Deserialize)]
    struct Sparing {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<u32>,
        by: u8,
    }

    fn protocol() -> Protocol {
        let mut app = App::new();
        app.stateless_fact::<Many>("many").stateless_fact::<Sparing>("sparing");
        std::mem::take(&mut *app.world_mut().resource_mut::<Protocol>())
    }

    fn refusal(name: &str, text: &str) -> Option<Rejection> {
        protocol().read_event(name, text).err()
    }

    #[test]
    fn what_encodes_and_can_not_be_read_again_is_malformed() {
        let ones = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert_eq!(refusal("many", &ones(8_191)), None, "the longest text of small numbers");
        assert_eq!(refusal("sparing", r#"{"note": 3, "by": 1}"#), None);
        for text in [r#"{"by": 1}"#, r#"{"by": 0}"#] {
            let Rejection { code, detail } = refusal("sparing", text).unwrap();
            assert!(code == "malformed" && detail.starts_with("sparing: it could not be read again: "), "{code}: {detail}");
        }
    }

    #[test]
    fn a_quoted_value_is_cut_where_it_is_long_and_ends_where_its_quote_does() {
        let whole = format!("say \"{}\" now", "x".repeat(QUOTED_BYTES_MAX));
        assert_eq!(without_long_quote(&whole), whole);
        let long = format!("say \"{}\" now", "x".repeat(QUOTED_BYTES_MAX + 1));
        assert_eq!(without_long_quote(&long), format!("say \"{}\u{2026}\" now", "x".repeat(QUOTED_BYTES_MAX)));
        // A backslash before a quote takes it along, one before a backslash does not take the quote behind it.
        assert_eq!(end_of_quote(r#"a\"b" c"#), Some(4));
        assert_eq!(end_of_quote(r#"a\\" c"#), Some(3));
        assert_eq!(end_of_quote(r#"a\\\"" c"#), Some(5));
        assert_eq!(end_of_quote(r#"a\" c"#), None);
    }

    #[test]
    fn what_is_wrong_is_told_whole_however_long_it_is() {
        let long = refusal("sparing", &format!(r#"{{"by": "{}"}}"#, "\u{e9}\\\"".repeat(300))).unwrap().detail;
        assert!(long.contains("\u{2026}\", expected u8 at line 1 column "), "{long}");
        let names: Vec<String> = (0..100).map(|nth| format!("`name_{nth}`")).collect();
        let told =
            in_short(format!("fact: unknown variant `{}`, expected one of {} at line 1 column 9", "x".repeat(200), names.join(", ")));
        assert!(told.len() <= REJECTION_DETAIL_BYTES_MAX, "{told}");
        assert!(told.contains("x\u{2026}`, expected one of `name_0`, ") && told.ends_with(" more at line 1 column 9"), "{told}");
        assert_eq!(what_fits(&["a", "b", "c"], 7), "a, b, c");
        assert_eq!(what_fits(&["alpha", "beta", "gamma"], 17), "alpha and 2 more");
    }
}
