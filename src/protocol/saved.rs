//! As of when a state in a file is, and who was in its room: told beside the entities, by a name in place of an entity's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ids::{EntityId, RoomTick};

/// What is told of a state that was saved while its room went on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    /// The room's tick. The points in time of the state are told by that room's ticks.
    pub(crate) tick: RoomTick,
    /// The users who were there, whose entities are in the state.
    #[serde(default)]
    pub(crate) members: BTreeSet<EntityId>,
}

impl Saved {
    /// What stands in place of an entity's name.
    pub(crate) const NAME: &str = "$snippet";

    /// Takes what is told out of a file's entities; nothing is told of a state that somebody wrote.
    ///
    /// # Errors
    /// If it is something else.
    pub(crate) fn take_out(entities: &mut BTreeMap<String, BTreeMap<String, &RawValue>>) -> Result<Self, serde_json::Error> {
        match entities.remove(Self::NAME) {
            Some(fields) => serde_json::to_value(fields).and_then(serde_json::from_value),
            None => Ok(Self::default()),
        }
    }

    /// The line of it in a file.
    #[cfg(feature = "host")]
    pub(crate) fn line(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|member| format!("\"{member}\"")).collect();
        format!("{:?}: {{\"tick\": {}, \"members\": [{}]}}", Self::NAME, self.tick, members.join(", "))
    }
}
