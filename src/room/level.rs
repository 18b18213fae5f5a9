//! Level files: a snapshot in JSON, `{"door123": {"position": [1, 2], "door_state": "closed"}, ...}`.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};

use bevy_ecs::prelude::*;
use serde_json::value::RawValue;
use thiserror::Error;

use super::audience::{Audience, put_as_stored};
use super::reset::forget_in;
use crate::protocol::limits::{ENTITIES_MAX, ENTITY_NAME_BYTES_MAX};
use crate::protocol::{EntityId, Names, NetId, NetMap, Places, Protocol, Reader, Saved, Staged, insert_staged, with_ticks_moved};

/// What is wrong with a level file, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LevelError {
    /// The file can't be read.
    #[error("{file}: {detail}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        detail: String,
    },
    /// The text is no snapshot.
    #[error("{file}:{line}:{column}: {detail}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser says.
        detail: String,
    },
    /// An entity has a component that the protocol does not know.
    #[error("{file}:{line}: {entity} has an unknown component {component:?}; known are {known}")]
    UnknownComponent {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The entity's name.
        entity: String,
        /// The component's name.
        component: String,
        /// The names that the protocol knows.
        known: String,
    },
    /// A component has a value that its type does not take.
    #[error("{file}:{line}: {entity}.{component}: {detail}")]
    BadValue {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The entity's name.
        entity: String,
        /// The component's name.
        component: String,
        /// What the type says.
        detail: String,
    },
    /// An entity's name is too long, or there are too many entities.
    #[error("{file}: {detail}")]
    TooLarge {
        /// The file.
        file: String,
        /// What is too large.
        detail: String,
    },
}

/// The components of an entity, by their wire names.
type Components<'a> = BTreeMap<String, &'a RawValue>;

/// A level: entities by readable names or UUIDs, with components by wire names.
///
/// A state that was [saved](crate::store::Snippet::to_text) while its room went on is a level too. What was due two seconds later is due two seconds
/// after the new room begins, and those who were in the room are not in this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    file: String,
    text: String,
    /// All that stands in it are entities, whatever they are called.
    is_stored: bool,
}

impl Level {
    /// Reads a level file.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, LevelError> {
        let file = path.as_ref().display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { file, text, is_stored: false }),
            Err(error) => Err(LevelError::Unreadable { file, detail: error.to_string() }),
        }
    }

    /// Takes a level's text. `name` stands for the file in messages.
    pub fn from_text(name: &str, text: impl Into<String>) -> Self {
        Self { file: name.to_owned(), text: text.into(), is_stored: false }
    }

    /// The same of a state as a store has it, of the room that goes on from it.
    #[cfg(feature = "host")]
    pub(crate) fn from_stored(name: &str, text: impl Into<String>) -> Self {
        Self { is_stored: true, ..Self::from_text(name, text) }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.file
    }

    fn line_of(&self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    fn parse(&self) -> Result<(Saved, BTreeMap<String, Components<'_>>), LevelError> {
        let mut entities: BTreeMap<String, Components<'_>> = serde_json::from_str(&self.text).map_err(|error| LevelError::Malformed {
            file: self.file.clone(),
            line: error.line(),
            column: error.column(),
            detail: error.to_string(),
        })?;
        let saved = if self.is_stored { Ok(Saved::default()) } else { Saved::take_out(&mut entities) };
        let saved = saved.map_err(|error| LevelError::Malformed {
            file: self.file.clone(),
            line: 1 + self.text.split(Saved::NAME).next().unwrap_or_default().matches('\n').count(),
            column: 1,
            detail: format!("{:?}: {error}", Saved::NAME),
        })?;
        let too_large = |detail| LevelError::TooLarge { file: self.file.clone(), detail };
        if entities.len() > ENTITIES_MAX {
            return Err(too_large(format!("{} entities, at most {ENTITIES_MAX} allowed", entities.len())));
        }
        match entities.keys().find(|name| name.len() > ENTITY_NAME_BYTES_MAX) {
            Some(name) => Err(too_large(format!("an entity's name is longer than {ENTITY_NAME_BYTES_MAX} bytes: {name}"))),
            None => Ok((saved, entities)),
        }
    }

    /// Spawns the level's entities, in the order of their names.
    ///
    /// # Errors
    /// If the text is malformed, or names components that the protocol does not know; the world is then half filled and
    /// must not be used.
    pub(crate) fn spawn(&self, world: &mut World) -> Result<(), LevelError> {
        let (saved, mut entities) = self.parse()?;
        // Those who were there when it was saved don't come back as ghosts.
        if !saved.members.is_empty() {
            entities.retain(|name, _| !saved.members.contains(&EntityId::parse(name)));
        }
        let names: Vec<&str> = entities.keys().map(String::as_str).collect();
        let mut map = NetMap::default();
        for (place, name) in names.iter().enumerate() {
            let entity = world.spawn((EntityId::parse(name), Name::new((*name).to_owned()))).id();
            map.set(NetId(place as u32), entity);
        }
        let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
        let done = with_ticks_moved(-i64::from(saved.tick.0), || {
            self.fill(world, &mut protocol, &entities, &LevelNames(&names), &map, &saved.members)
        });
        *world.resource_mut::<Protocol>() = protocol;
        done
    }

    fn fill(
        &self,
        world: &mut World,
        protocol: &mut Protocol,
        entities: &BTreeMap<String, Components<'_>>,
        names: &LevelNames<'_>,
        map: &NetMap,
        left: &BTreeSet<EntityId>,
    ) -> Result<(), LevelError> {
        let audience = protocol.components.iter().find(|entry| entry.type_id == TypeId::of::<Audience>()).map(|entry| entry.name.clone());
        for ((_, entity), (name, components)) in map.iter().zip(entities) {
            let mut fill = |world: &mut World| self.fill_entity(world, protocol, (entity, name.as_str(), components), names, map, left);
            match audience.as_ref().is_some_and(|audience| components.contains_key(audience)) {
                true => put_as_stored(world, entity, fill)?,
                false => fill(world)?,
            }
        }
        Ok(())
    }

    fn fill_entity(
        &self,
        world: &mut World,
        protocol: &mut Protocol,
        (entity, name, components): (Entity, &str, &Components<'_>),
        names: &LevelNames<'_>,
        map: &NetMap,
        left: &BTreeSet<EntityId>,
    ) -> Result<(), LevelError> {
        for (component, raw) in components {
            let (file, line) = (self.file.clone(), self.line_of(raw.get()));
            let Some(at) = protocol.component_index(component) else {
                let known = protocol.component_names().collect::<Vec<_>>().join(", ");
                return Err(LevelError::UnknownComponent { file, line, entity: name.to_owned(), component: component.clone(), known });
            };
            let Some(entry) = protocol.components.get(at) else { continue };
            let mut bytes = Vec::new();
            let mut value: serde_json::Value = serde_json::from_str(raw.get()).unwrap_or_default();
            if !left.is_empty() {
                forget_in(entry, &mut value, &|name| left.contains(&EntityId::parse(name)));
            }
            let written = entry.column.encode_json(&value, names, &mut bytes);
            let staged = written.and_then(|()| entry.column.stage(world, Places::All, 1, &mut Reader::new(&bytes), map));
            match staged {
                Ok(staged) => insert_watched(world, protocol, entity, staged),
                Err(error) => {
                    let detail = error.to_string();
                    return Err(LevelError::BadValue { file, line, entity: name.to_owned(), component: component.clone(), detail });
                }
            }
        }
        Ok(())
    }
}

/// Inserts a value into an entity. See [`watched`].
pub(super) fn insert_watched(world: &mut World, protocol: &mut Protocol, entity: Entity, staged: Box<dyn Staged>) {
    watched(world, protocol, |world| insert_staged(world, &[entity], &mut [staged], &[]));
}

/// Does what observers see, with the protocol, which is lent, in its place: the index asks for it, and so does what the game's observers record.
pub(super) fn watched(world: &mut World, protocol: &mut Protocol, change: impl FnOnce(&mut World)) {
    std::mem::swap(&mut *world.resource_mut::<Protocol>(), protocol);
    change(world);
    // What they, and the components' hooks, have asked for, the other side of a relationship for instance, is done before anything else.
    world.flush();
    std::mem::swap(&mut *world.resource_mut::<Protocol>(), protocol);
}

/// Names by their places in a sorted list.
pub(super) struct LevelNames<'a>(pub(super) &'a [&'a str]);

impl Names for LevelNames<'_> {
    fn name(&self, id: NetId) -> Option<String> {
        self.0.get(id.get() as usize).map(|name| (*name).to_owned())
    }

    fn id(&self, name: &str) -> Option<NetId> {
        self.0.binary_search(&name).ok().map(|place| NetId(place as u32))
    }
}
