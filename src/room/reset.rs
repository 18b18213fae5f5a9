//! Changes a scene from outside, under the eyes of its members: back to a stored state, or back from what one fact did.
//!
//! Only what differs is changed, so that members receive the difference as an ordinary batch.

use std::any::TypeId;
use std::collections::BTreeMap;

use bevy_ecs::component::{ComponentId, ComponentInfo};
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::relationship::RelationshipAccessor;
use serde_json::Value;

use super::audience::{Audience, put_as_stored};
use super::clock::RoomClock;
use super::index::{EntityIndex, Slot, SlotState};
use super::intake::Members;
use super::ledger::{Origin, record_and};
use super::level::{LevelNames, insert_watched, watched};
use super::private::may_be_named;
use crate::protocol::limits::{ENTITIES_MAX, ENTITY_NAME_BYTES_MAX};
use crate::protocol::{
    Change, CodecError, ComponentEntry, EntityId, FactSeq, Names, NetId, NetMap, Payload, Places, Producer, Protocol, Reader, Rejection,
    Reverted, RoomTick, Saved, SceneReset, UpdateKind, Verdict, with_ticks_moved,
};

type Scene = BTreeMap<String, BTreeMap<String, Value>>;

/// Resets the scene. Entities that the state does not have go, but for those of the users who are in the room.
pub(crate) fn reset(world: &mut World, label: &str, saved_at: RoomTick, members: &[EntityId], state: &str) -> Verdict {
    let mut scene: Scene = match serde_json::from_str(state) {
        Ok(scene) => scene,
        Err(error) => return refused(error.to_string()),
    };
    // A state from a file tells as of when it is. What counts is what was said beside it.
    scene.remove(Saved::NAME);
    // Those who were there when it was saved and are not now don't come back as ghosts.
    let has_left = |name: &str| {
        let id = EntityId::parse(name);
        members.contains(&id) && !world.resource::<Members>().contains(id)
    };
    scene.retain(|name, _| !has_left(name));
    // Nor does what went before get mixed up with somebody who came in since by the id that it had.
    let came_since = |name: &str| {
        let id = EntityId::parse(name);
        !members.contains(&id) && world.resource::<Members>().contains(id)
    };
    if !members.is_empty() {
        scene.retain(|name, _| !came_since(name));
    }
    forget(world.resource::<Protocol>(), &mut scene, &has_left);
    let moved = i64::from(world.resource::<RoomClock>().tick().0) - i64::from(saved_at.0);
    if let Err(detail) = with_ticks_moved(moved, || check(world.resource::<Protocol>(), &scene)) {
        return refused(detail);
    }
    let fact = Payload(SceneReset { snippet: label.to_owned() });
    record_and(world, Box::new(fact), Origin::new(Producer::Server), |world| {
        with_ticks_moved(moved, || apply_scene(world, &scene));
    });
    Verdict::Accepted
}

/// Lets what refers to those who have left refer to nobody.
fn forget(protocol: &Protocol, scene: &mut Scene, has_left: &dyn Fn(&str) -> bool) {
    for (component, value) in scene.values_mut().flatten() {
        if let Some(entry) = protocol.component_index(component).and_then(|at| protocol.components.get(at)) {
            forget_in(entry, value, has_left);
        }
    }
}

/// The same for one component's value.
pub(super) fn forget_in(entry: &ComponentEntry, value: &mut Value, has_left: &dyn Fn(&str) -> bool) {
    if !entry.column.refers() {
        return;
    }
    if !is_relationship(entry) {
        return forget_within(value, has_left);
    }
    if value.as_str().is_some_and(has_left) {
        *value = Value::Null;
    }
}

/// The same within a value with entities in it, `{"$entity": "door123"}`.
fn forget_within(value: &mut Value, has_left: &dyn Fn(&str) -> bool) {
    match value {
        Value::Object(fields) => {
            let alone = fields.len() == 1;
            for (name, field) in fields.iter_mut() {
                match alone && name == "$entity" && field.as_str().is_some_and(has_left) {
                    true => *field = Value::Null,
                    false => forget_within(field, has_left),
                }
            }
            // Entities that are keys: `{"$entity:door123": 5}`.
            let left = |key: &str| key.strip_prefix("$entity:").is_some_and(has_left);
            if fields.keys().any(|key| left(key)) {
                let kept = std::mem::take(fields).into_iter();
                *fields = kept.map(|(key, field)| (if left(&key) { "$entity:".to_owned() } else { key }, field)).collect();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| forget_within(item, has_left)),
        _ => {}
    }
}

/// Whether the values of a component are the names of other entities.
fn is_relationship(entry: &ComponentEntry) -> bool {
    entry.column.refers() && entry.shape == "relationship"
}

fn refused(detail: impl Into<String>) -> Verdict {
    Verdict::Rejected(Rejection::new("bad_state").because(detail))
}

/// Checks that every value can be read, before anything is changed.
fn check(protocol: &Protocol, scene: &Scene) -> Result<(), String> {
    if scene.len() > ENTITIES_MAX {
        return Err(format!("{} entities, at most {ENTITIES_MAX} allowed", scene.len()));
    }
    let names: Vec<&str> = scene.keys().map(String::as_str).collect();
    let mut bytes = Vec::new();
    for (name, components) in scene {
        if name.len() > ENTITY_NAME_BYTES_MAX {
            return Err(format!("an entity's name is longer than {ENTITY_NAME_BYTES_MAX} bytes: {name}"));
        }
        for (component, value) in components {
            let entry = protocol.component_index(component).and_then(|at| protocol.components.get(at));
            let entry = entry.ok_or_else(|| format!("{name} has an unknown component {component:?}"))?;
            bytes.clear();
            let encoded = entry.column.encode_json(value, &LevelNames(&names), &mut bytes);
            encoded.map_err(|error| format!("{name}.{component}: {error}"))?;
        }
    }
    Ok(())
}

/// Names as the room's index has them.
struct RoomNames<'a>(&'a EntityIndex);

impl Names for RoomNames<'_> {
    fn name(&self, id: NetId) -> Option<String> {
        self.0.slot(id).map(|slot| self.0.display(slot.id))
    }

    fn id(&self, name: &str) -> Option<NetId> {
        self.0.net_id(EntityId::parse(name))
    }
}

fn apply_scene(world: &mut World, scene: &Scene) {
    let wanted: BTreeMap<EntityId, &String> = scene.keys().map(|name| (EntityId::parse(name), name)).collect();
    let index = world.resource::<EntityIndex>();
    let members = world.resource::<Members>();
    let live = index.slots.iter().filter(|slot| !matches!(slot.state, SlotState::Free | SlotState::Buried));
    let (stays, goes): (Vec<&Slot>, Vec<&Slot>) = live.partition(|slot| wanted.contains_key(&slot.id) || members.contains(slot.id));
    let [stays, goes] = [stays, goes].map(|slots| slots.into_iter().map(|slot| slot.entity).collect::<Vec<Entity>>());
    untie(world, &stays, &goes);
    for entity in goes {
        if let Ok(entity) = world.get_entity_mut(entity) {
            entity.despawn();
        }
    }
    for (id, name) in &wanted {
        if world.resource::<EntityIndex>().entity(*id).is_none() {
            spawn(world, *id, name);
        }
    }
    for entity in wanted.keys().filter_map(|id| world.resource::<EntityIndex>().entity(*id)).collect::<Vec<_>>() {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<Disabled>();
        }
    }
    world.flush();
    let empty = BTreeMap::new();
    edit(world, |world, protocol, map| {
        for (id, name) in &wanted {
            let Some(entity) = world.resource::<EntityIndex>().entity(*id) else { continue };
            if let Err(error) = give(world, protocol, map, entity, scene.get(*name).unwrap_or(&empty)) {
                tracing::error!(%error, "a value of the stored state did not go into the scene");
            }
        }
    });
    world.flush();
}

/// Unties those who stay from what goes, which Bevy despawns with all that is linked to it: with a vehicle those who sit in it.
fn untie(world: &mut World, stays: &[Entity], goes: &[Entity]) {
    let (stay, go): (EntityHashSet, EntityHashSet) = (stays.iter().copied().collect(), goes.iter().copied().collect());
    let mut ties: Vec<(Entity, ComponentId)> = Vec::new();
    let child_of = world.register_component::<ChildOf>();
    let parent = |entity: &Entity| world.get::<ChildOf>(*entity).map(ChildOf::parent);
    for entity in stays {
        // What is not synced may stand between the two.
        let mut above = std::iter::successors(parent(entity), parent).take(ENTITIES_MAX);
        if above.find(|above| stay.contains(above) || go.contains(above)).is_some_and(|above| go.contains(&above)) {
            ties.push((*entity, child_of));
        }
    }
    let index = world.resource::<EntityIndex>();
    for entry in world.resource::<Protocol>().components.iter().filter(|entry| is_relationship(entry)) {
        let Some(component) = world.components().get_id(entry.type_id).filter(|component| is_linked(world, *component)) else { continue };
        for entity in stays {
            let mut bytes = Vec::new();
            let Ok(Some(_)) = entry.column.one(world, *entity, None, &mut bytes) else { continue };
            let Ok(Value::String(target)) = entry.column.to_json(&mut Reader::new(&bytes), &RoomNames(index)) else { continue };
            if index.entity(EntityId::parse(&target)).is_some_and(|target| go.contains(&target)) {
                ties.push((*entity, component));
            }
        }
    }
    for (entity, component) in ties {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove_by_id(component);
        }
    }
}

/// Whether an entity is despawned with the one to which it has this relationship.
fn is_linked(world: &World, component: ComponentId) -> bool {
    let accessor = world.components().get_info(component).and_then(ComponentInfo::relationship_accessor);
    matches!(accessor, Some(RelationshipAccessor::Relationship { linked_spawn: true, .. }))
}

fn spawn(world: &mut World, id: EntityId, name: &str) -> Entity {
    if EntityId::named(name) == id {
        return world.spawn((id, Name::new(name.to_owned()))).id();
    }
    world.spawn(id).id()
}

/// Lends the protocol and the map from net ids to entities.
fn edit<T>(world: &mut World, change: impl FnOnce(&mut World, &mut Protocol, &NetMap) -> T) -> T {
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let mut map = NetMap::default();
    for (slot, id) in world.resource::<EntityIndex>().slots.iter().zip(0..) {
        if !matches!(slot.state, SlotState::Free | SlotState::Buried) {
            map.set(NetId(id), slot.entity);
        }
    }
    let changed = change(world, &mut protocol, &map);
    for entry in &mut protocol.components {
        // What tells the observers of a replica is not for a room.
        drop(entry.column.announcement());
    }
    *world.resource_mut::<Protocol>() = protocol;
    changed
}

/// Gives an entity exactly these synced components, as far as it differs.
fn give(
    world: &mut World,
    protocol: &mut Protocol,
    map: &NetMap,
    entity: Entity,
    components: &BTreeMap<String, Value>,
) -> Result<(), CodecError> {
    let is_stored = |entry: &ComponentEntry| entry.type_id == TypeId::of::<Audience>() && components.contains_key(&entry.name);
    if protocol.components.iter().any(is_stored) {
        return put_as_stored(world, entity, |world| put_all(world, protocol, map, entity, components));
    }
    put_all(world, protocol, map, entity, components)
}

fn put_all(
    world: &mut World,
    protocol: &mut Protocol,
    map: &NetMap,
    entity: Entity,
    components: &BTreeMap<String, Value>,
) -> Result<(), CodecError> {
    for at in 0..protocol.components.len() {
        let entry = protocol.components.get(at);
        let value = entry.and_then(|entry| components.get(&entry.name));
        // A level that was written by hand, or a state from before audiences were stored, is not to show what is hidden.
        if value.is_none() && entry.is_some_and(|entry| entry.type_id == TypeId::of::<Audience>()) {
            continue;
        }
        put(world, protocol, map, entity, at, value)?;
    }
    Ok(())
}

/// Gives an entity a component, or takes it away, if that is not how it is.
fn put(
    world: &mut World,
    protocol: &mut Protocol,
    map: &NetMap,
    entity: Entity,
    at: usize,
    value: Option<&Value>,
) -> Result<(), CodecError> {
    let Some(entry) = protocol.components.get_mut(at) else { return Ok(()) };
    let (mut now, mut wanted) = (Vec::new(), Vec::new());
    let has = entry.column.one(world, entity, None, &mut now)?.is_some();
    let component = world.components().get_id(entry.type_id);
    let Some(value) = value else {
        if has {
            take_away(world, protocol, entity, component);
        }
        return Ok(());
    };
    entry.column.encode_json(value, &RoomNames(world.resource::<EntityIndex>()), &mut wanted)?;
    if has && now == wanted {
        return Ok(());
    }
    if has && component.and_then(|component| world.components().get_info(component)).is_some_and(ComponentInfo::mutable) {
        // It is overwritten where it is, which no observer sees.
        return entry.column.update(world, entity, UpdateKind::Set, &mut Reader::new(&wanted), map);
    }
    let mut staged = entry.column.stage(world, Places::All, 1, &mut Reader::new(&wanted), map)?;
    if staged.run(0).has_value {
        insert_watched(world, protocol, entity, staged);
    } else if has {
        take_away(world, protocol, entity, component);
    }
    Ok(())
}

fn take_away(world: &mut World, protocol: &mut Protocol, entity: Entity, component: Option<ComponentId>) {
    watched(world, protocol, |world| {
        if let (Some(component), Ok(mut entity)) = (component, world.get_entity_mut(entity)) {
            entity.remove_by_id(component);
        }
    });
}

/// Undoes what a fact changed, where nothing has changed it since, and records what became of it.
pub(crate) fn revert(world: &mut World, seq: FactSeq, changes: &[Change]) -> Verdict {
    let (mut undo, mut conflicts) = (Vec::new(), Vec::new());
    for change in changes {
        match value_now(world, &change.entity, &change.component) {
            Ok(now) if now == change.after => undo.push(change),
            Ok(_) => conflicts.push(name_of(world, change)),
            Err(detail) => return refused(detail),
        }
    }
    let fact = Reverted { seq, undone: undo.len() as u32, conflicts };
    record_and(world, Box::new(Payload(fact)), Origin { cause: Some(seq), ..Origin::new(Producer::Server) }, |world| {
        for change in undo {
            if let Err(error) = undo_change(world, change) {
                tracing::error!(%error, entity = change.entity, component = change.component, "a change could not be undone");
            }
        }
    });
    Verdict::Accepted
}

/// What all members are told of a change that stays: its name, unless that would tell them of something hidden.
fn name_of(world: &World, change: &Change) -> String {
    let audience = world.resource::<Protocol>().component_audience(&change.component).unwrap_or_default();
    match may_be_named(world, EntityId::parse(&change.entity), audience) {
        true => format!("{}.{}", change.entity, change.component),
        false => "something that not everybody may know".to_owned(),
    }
}

fn value_now(world: &World, entity: &str, component: &str) -> Result<Option<Value>, String> {
    let index = world.resource::<EntityIndex>();
    let protocol = world.resource::<Protocol>();
    let entry = protocol.component_index(component).and_then(|at| protocol.components.get(at));
    let entry = entry.ok_or_else(|| format!("unknown component {component:?}"))?;
    let Some(entity) = index.entity(EntityId::parse(entity)) else { return Ok(None) };
    let mut bytes = Vec::new();
    match entry.column.one(world, entity, None, &mut bytes) {
        Ok(None) => Ok(None),
        Ok(Some(_)) => entry.column.to_json(&mut Reader::new(&bytes), &RoomNames(index)).map(Some).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn undo_change(world: &mut World, change: &Change) -> Result<(), CodecError> {
    let id = EntityId::parse(&change.entity);
    let entity = match (world.resource::<EntityIndex>().entity(id), &change.before) {
        (Some(entity), _) => entity,
        (None, Some(_)) => spawn(world, id, &change.entity),
        (None, None) => return Ok(()),
    };
    let at = world.resource::<Protocol>().component_index(&change.component).unwrap_or(usize::MAX);
    let bare = edit(world, |world, protocol, map| {
        put(world, protocol, map, entity, at, change.before.as_ref())?;
        let has = |entry: &ComponentEntry| matches!(entry.column.one(world, entity, None, &mut Vec::new()), Ok(Some(_)));
        Ok::<_, CodecError>(!protocol.components.iter().any(has))
    })?;
    // It came by that fact, and nothing is left of it.
    if bare && change.before.is_none() && !world.resource::<Members>().contains(id) {
        despawn_alone(world, entity);
    }
    Ok(())
}

/// Despawns an entity, but nothing of what the room keeps synced with it: who sits in what one fact made came by another one.
fn despawn_alone(world: &mut World, entity: Entity) {
    let takes_along = |id: &ComponentId| {
        let accessor = world.components().get_info(*id).and_then(ComponentInfo::relationship_accessor);
        matches!(accessor, Some(RelationshipAccessor::RelationshipTarget { linked_spawn: true, .. }))
    };
    if world.get_entity(entity).is_ok_and(|entity| entity.archetype().components().iter().any(takes_along)) {
        let live = |slot: &&Slot| slot.entity != entity && !matches!(slot.state, SlotState::Free | SlotState::Buried);
        let stays: Vec<Entity> = world.resource::<EntityIndex>().slots.iter().filter(live).map(|slot| slot.entity).collect();
        untie(world, &stays, &[entity]);
    }
    world.despawn(entity);
}

#[cfg(test)]
mod tests {
    use bevy_app::App;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::protocol::ProtocolAppExt;

    #[derive(Component, Serialize, Deserialize, Clone)]
    struct Plans(#[entities] Vec<Entity>);

    #[test]
    fn what_refers_to_who_has_left_refers_to_nobody_wherever_it_stands_in_a_value() {
        let mut app = App::new();
        app.sync_mapped::<Plans>("plans");
        app.sync_relationship::<ChildOf>("parent");
        let protocol = app.world().resource::<Protocol>();
        let entry = |name: &str| protocol.component_index(name).and_then(|at| protocol.components.get(at)).unwrap();
        let after = |component: &str, mut value: Value| {
            forget_in(entry(component), &mut value, &|name| name == "ann");
            value
        };
        let of = |name: &str| json!({ "$entity": name });
        let nobody = json!({ "$entity": null });
        assert_eq!(after("plans", json!([of("ann"), of("bob")])), json!([nobody, of("bob")]));
        assert_eq!(after("plans", json!({ "of": { "who": of("ann"), "why": "ann" } })), json!({ "of": { "who": nobody, "why": "ann" } }));
        // Beside other fields it is a field of that name, and no entity.
        let field = json!({ "$entity": "ann", "more": of("ann") });
        assert_eq!(after("plans", field), json!({ "$entity": "ann", "more": nobody }));
        assert_eq!(after("plans", json!({ "$entity:ann": 5, "$entity:bob": 6 })), json!({ "$entity:": 5, "$entity:bob": 6 }));
        // A value as it is; of a relationship it is a name.
        assert_eq!(after("plans", json!("ann")), json!("ann"));
        assert_eq!(after("parent", json!("ann")), Value::Null);
        assert_eq!(after("parent", json!("bob")), json!("bob"));
    }
}
