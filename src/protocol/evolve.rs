//! How what an older version of a game stored is read by a newer one.
//!
//! Facts and components are stored as JSON. A field that was added needs `#[serde(default)]`, a field that was renamed `#[serde(alias = "..")]`;
//! a name that was changed, and all that serde can't say, is registered here.

use std::collections::BTreeMap;

use bevy_app::App;
use serde_json::Value;

use super::ids::NetId;
use super::registry::Protocol;
use super::wire::Names;

/// Makes of an older value a newer one.
pub type Upcast = fn(Value) -> Value;

/// What is known of older versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evolution {
    renamed_components: BTreeMap<String, String>,
    renamed_facts: BTreeMap<String, String>,
    upcast_components: BTreeMap<String, Upcast>,
    upcast_facts: BTreeMap<String, Upcast>,
    dropped_components: Vec<String>,
}

/// Registers how what older versions of a game stored is read.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::EvolveAppExt;
/// use serde::{Deserialize, Serialize};
///
/// /// Version 1 stored it as a bare number, under the name `hp`.
/// #[derive(Component, Serialize, Deserialize)]
/// struct Health { now: i32, most: i32 }
///
/// fn protocol(app: &mut App) {
///     app.sync::<Health>("health");
///     app.component_was("hp", "health");
///     app.upcast_component("health", |old| match old.as_i64() {
///         Some(now) => serde_json::json!({ "now": now, "most": 100 }),
///         None => old,
///     });
/// }
/// ```
pub trait EvolveAppExt {
    /// A component that was stored as `before` is called `now`.
    fn component_was(&mut self, before: &str, now: &str) -> &mut Self;
    /// A fact that was stored as `before` is called `now`.
    fn fact_was(&mut self, before: &str, now: &str) -> &mut Self;
    /// A component that was stored and is no longer needed.
    fn component_dropped(&mut self, before: &str) -> &mut Self;
    /// Reads older values of a component: called with each value that was stored by another protocol.
    fn upcast_component(&mut self, name: &str, upcast: Upcast) -> &mut Self;
    /// Reads older facts of a kind: called with each that is read as a fact of the game.
    fn upcast_fact(&mut self, name: &str, upcast: Upcast) -> &mut Self;
}

fn evolve(app: &mut App, change: impl FnOnce(&mut Evolution)) -> &mut App {
    app.init_resource::<Protocol>();
    change(&mut app.world_mut().resource_mut::<Protocol>().evolution);
    app
}

impl EvolveAppExt for App {
    fn component_was(&mut self, before: &str, now: &str) -> &mut Self {
        evolve(self, |evolution| {
            evolution.renamed_components.insert(before.to_owned(), now.to_owned());
        })
    }

    fn fact_was(&mut self, before: &str, now: &str) -> &mut Self {
        evolve(self, |evolution| {
            evolution.renamed_facts.insert(before.to_owned(), now.to_owned());
        })
    }

    fn component_dropped(&mut self, before: &str) -> &mut Self {
        evolve(self, |evolution| evolution.dropped_components.push(before.to_owned()))
    }

    fn upcast_component(&mut self, name: &str, upcast: Upcast) -> &mut Self {
        evolve(self, |evolution| {
            evolution.upcast_components.insert(name.to_owned(), upcast);
        })
    }

    fn upcast_fact(&mut self, name: &str, upcast: Upcast) -> &mut Self {
        evolve(self, |evolution| {
            evolution.upcast_facts.insert(name.to_owned(), upcast);
        })
    }
}

/// Entities by name, with their components by wire name, as JSON text.
pub type Entities = BTreeMap<String, BTreeMap<String, String>>;

/// Names that are all known: enough to see whether a value can be read.
pub(crate) struct AnyName;

impl Names for AnyName {
    fn name(&self, _: NetId) -> Option<String> {
        None
    }

    fn id(&self, _: &str) -> Option<NetId> {
        Some(NetId(0))
    }
}

impl Protocol {
    /// What a fact is called now, and what it says now.
    pub fn evolve_fact(&self, kind: &str, data: Value) -> (String, Value) {
        let kind = self.evolution.renamed_facts.get(kind).map_or(kind, String::as_str);
        let data = match self.evolution.upcast_facts.get(kind) {
            Some(upcast) => upcast(data),
            None => data,
        };
        (kind.to_owned(), data)
    }

    /// Stored entities as this protocol reads them.
    ///
    /// # Errors
    /// A line for each component that it can't read.
    pub(crate) fn evolve_entities(&self, entities: &Entities) -> Result<Entities, Vec<String>> {
        let (mut evolved, mut problems) = (Entities::new(), BTreeMap::new());
        for (entity, components) in entities {
            let slot = evolved.entry(entity.clone()).or_default();
            for (stored, text) in components {
                if self.evolution.dropped_components.contains(stored) {
                    continue;
                }
                match self.evolve_component(stored, text) {
                    Ok((name, value)) => drop(slot.insert(name, value)),
                    Err(problem) => drop(problems.entry(stored.clone()).or_insert(format!("{entity}.{stored}: {problem}"))),
                }
            }
        }
        if problems.is_empty() { Ok(evolved) } else { Err(problems.into_values().collect()) }
    }

    fn evolve_component(&self, stored: &str, text: &str) -> Result<(String, String), String> {
        let name = self.evolution.renamed_components.get(stored).map_or(stored, String::as_str);
        let entry = self.component_index(name).and_then(|at| self.components.get(at));
        let entry = entry
            .ok_or("no component has that name now; say what it is called by `component_was`, or give it up by `component_dropped`")?;
        let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(upcast) = self.evolution.upcast_components.get(name) {
            value = upcast(value);
        }
        let mut bytes = Vec::new();
        entry.column.encode_json(&value, &AnyName, &mut bytes).map_err(|error| format!("{text} can't be read: {error}"))?;
        Ok((name.to_owned(), value.to_string()))
    }
}
