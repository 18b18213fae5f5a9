//! Which components can have changed since the last batch, by one look at each table in place of a query for each component: in most ticks of most
//! rooms few have, and what is not looked at need not be fetched from memory.

use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::{ComponentId, StorageType};
use bevy_ecs::prelude::*;
use bevy_ecs::storage::TableId;

use crate::protocol::{ComponentEntry, NetId, Protocol};

/// A table with entities that are told of, and which components stand in it that tell when any of them changed.
#[derive(Debug)]
struct Watched {
    table: TableId,
    /// By their places in the protocol.
    components: Vec<(usize, ComponentId)>,
}

/// Which components of the protocol can have changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// How many archetypes were looked at for their tables.
    archetypes: usize,
    tables: Vec<Watched>,
    /// The components that tell when they change: those with `#[component(summary_tick)]`.
    tell: Vec<Option<ComponentId>>,
    touched: Vec<bool>,
}

impl Touched {
    /// Looks at all tables. A component is touched if one of it changed after `since`, or if it does not tell.
    pub(super) fn look(&mut self, world: &World, protocol: &Protocol, since: Tick, now: Tick) {
        if self.tell.len() != protocol.components.len() {
            *self = Self { tell: protocol.components.iter().map(|entry| tells(world, entry)).collect(), ..Self::default() };
        }
        self.watch_new_tables(world);
        self.touched.clear();
        self.touched.extend(self.tell.iter().map(Option::is_none));
        let tables = &world.storages().tables;
        for Watched { table, components } in &self.tables {
            let Some(table) = tables.get(*table).filter(|table| !table.is_empty()) else { continue };
            for (component, id) in components {
                let changed = table.get_summary_tick(*id).is_none_or(|tick| tick.get().is_newer_than(since, now));
                if let Some(touched) = self.touched.get_mut(*component) {
                    *touched |= changed;
                }
            }
        }
    }

    /// True if the component can have changed.
    pub(super) fn is_touched(&self, component: usize) -> bool {
        self.touched.get(component).copied().unwrap_or(true)
    }

    fn watch_new_tables(&mut self, world: &World) {
        let archetypes = world.archetypes();
        let known = std::mem::replace(&mut self.archetypes, archetypes.len());
        if known == archetypes.len() {
            return;
        }
        let Some(net_id) = world.component_id::<NetId>() else { return };
        for archetype in archetypes.iter().skip(known).filter(|archetype| archetype.contains(net_id)) {
            let table = archetype.table_id();
            if self.tables.iter().any(|watched| watched.table == table) {
                continue;
            }
            let tell = self.tell.iter().enumerate().filter_map(|(component, id)| Some((component, (*id)?)));
            self.tables.push(Watched { table, components: tell.filter(|(_, id)| archetype.contains(*id)).collect() });
        }
    }
}

/// The component, if it tells when any of it changed. Quantities are told by their steps, too.
fn tells(world: &World, entry: &ComponentEntry) -> Option<ComponentId> {
    let id = world.components().get_id(entry.type_id)?;
    let info = world.components().get_info(id)?;
    (info.storage_type() == StorageType::Table && info.summary_tick() && !entry.quantity).then_some(id)
}
