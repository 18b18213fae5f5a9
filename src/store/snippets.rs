//! Snippets that an older version of a game saved, as this one reads them.

use serde_json::Value;

use super::record::Snippet;
use crate::protocol::{AnyName, Entities, Protocol};

fn are_read(protocol: &Protocol, entities: &Entities) -> bool {
    let mut bytes = Vec::new();
    entities.values().flatten().all(|(name, text)| {
        let entry = protocol.component_index(name).and_then(|at| protocol.components.get(at));
        let value = serde_json::from_str::<Value>(text).ok();
        bytes.clear();
        entry.zip(value).is_some_and(|(entry, value)| entry.column.encode_json(&value, &AnyName, &mut bytes).is_ok())
    })
}

/// A snippet as this protocol reads it. Which one saved it is not stored: it is taken for an older one's where not all of it can be read as it is. What
/// can't be read that way either stays as it is, and the room that is to be reset to it says what is wrong with it.
pub(super) fn read_now(protocol: &Protocol, mut snippet: Snippet) -> Snippet {
    if !are_read(protocol, &snippet.entities)
        && let Ok(evolved) = protocol.evolve_entities(&snippet.entities)
    {
        snippet.entities = evolved;
    }
    snippet
}
