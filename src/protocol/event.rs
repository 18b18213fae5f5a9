//! What an operator says happened: a fact by its wire name and its JSON text, read with care.

use super::built_in::is_built_in;
use super::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX};
use super::payload::Fact;
use super::registry::Protocol;
use super::rejection::Rejection;

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
            return Err(Rejection::new("unknown_fact").because(format!("{name:?}; there are: {}", known.join(", "))));
        };
        if is_built_in(kind.type_id) {
            return Err(Rejection::new("not_an_event").because(format!("{name} is for the room itself to tell")));
        }
        let malformed = |why: String| Rejection::new("malformed").because(format!("{name}: {why}"));
        let fact = (kind.from_text)(text).map_err(|error| malformed(error.to_string()))?;
        if fact.is_not_finite() {
            return Err(Rejection::new("not_finite").because(format!("{name} has a number that is infinite, or none")));
        }
        // What can't be encoded would end the room, once it is recorded.
        fact.encode(&mut Vec::new()).map_err(|error| malformed(error.to_string()))?;
        Ok(fact)
    }
}
