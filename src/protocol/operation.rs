//! Operations as people and tools write them. The wire is binary; these are its JSON forms.
//!
//! ```json
//! {"note": "bullet_fired", "op": "create", "entity_id": "rand234", "components": {"position": [1, 2]}}
//! {"op": "inc_max", "entity_id": "user123", "components": {"health": {"by": 10, "max": 100}}}
//! {"op": "delete", "entity_id": "item234"}
//! {"op": "update", "key_path": "entities.item-1.position", "value": [1, 2, 3]}
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::batch::{BatchHead, CREATES, DELETES, UPDATES, write_column, write_removals, write_updates};
use super::codec::{CodecError, write_varint};
use super::ids::{EntityId, NetId, RoomTick};
use super::quantity::UpdateKind;
use super::registry::Protocol;
use super::roster::{Identity, RosterWriter, write_net_ids};
use super::rows::Rows;
use super::state::{State, StateError};

/// What an operation does to its entity.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Creates it, with its first components.
    Create {
        /// The components by their wire names.
        components: BTreeMap<String, Value>,
    },
    /// Updates one component.
    Update {
        /// How.
        kind: UpdateKind,
        /// The component's wire name.
        component: String,
        /// The new value, or what the step takes: `10`, or `{"by": 10, "max": 100}`.
        value: Value,
    },
    /// Removes one component.
    Remove {
        /// The component's wire name.
        component: String,
    },
    /// Deletes it.
    Delete,
}

/// One operation on one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The fact that caused it, where the room tells it.
    pub note: Option<String>,
    /// The entity.
    pub id: EntityId,
    /// The entity as people write it.
    pub name: String,
    /// What is done to it.
    pub op: Op,
}

/// Why JSON is no operation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not an operation: {detail} in {json}")]
pub struct OperationError {
    /// What is wrong.
    pub detail: String,
    /// The JSON, cut to 200 characters.
    pub json: String,
}

fn bad(detail: impl Into<String>, json: &Value) -> OperationError {
    OperationError { detail: detail.into(), json: json.to_string().chars().take(200).collect() }
}

impl Operation {
    /// The entity envelope: `{note, op, entity_id, components}`.
    pub fn to_envelope(&self) -> Value {
        let mut json = Map::new();
        if let Some(note) = &self.note {
            json.insert("note".into(), json!(note));
        }
        let (op, components) = match &self.op {
            Op::Create { components } => ("create", Some(json!(components))),
            Op::Update { kind, component, value } => (kind.name(), Some(json!({ component: value }))),
            Op::Remove { component } => ("delete", Some(json!({ component: null }))),
            Op::Delete => ("delete", None),
        };
        json.insert("op".into(), json!(op));
        json.insert("entity_id".into(), json!(self.name));
        if let Some(components) = components {
            json.insert("components".into(), components);
        }
        Value::Object(json)
    }

    /// Reads entity envelopes. One that updates several components is several operations.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_envelope(json: &Value) -> Result<Vec<Self>, OperationError> {
        let text = |field: &str| json.get(field).and_then(Value::as_str);
        let op = text("op").ok_or_else(|| bad("\"op\" is missing", json))?;
        let name = text("entity_id").ok_or_else(|| bad("\"entity_id\" is missing", json))?;
        let components = json.get("components").and_then(Value::as_object);
        let note = text("note").map(str::to_owned);
        let make = |op| Self { note: note.clone(), id: EntityId::parse(name), name: name.to_owned(), op };
        let needed = || components.ok_or_else(|| bad("\"components\" is missing", json));
        Ok(match (op, components) {
            ("create", _) => {
                let components = needed()?.clone().into_iter().collect();
                vec![make(Op::Create { components })]
            }
            ("delete", None) => vec![make(Op::Delete)],
            ("delete", Some(components)) => components.keys().map(|component| make(Op::Remove { component: component.clone() })).collect(),
            (update, _) => {
                let kind = UpdateKind::from_name(update).ok_or_else(|| bad(format!("unknown \"op\" {update:?}"), json))?;
                let one =
                    |(component, value): (&String, &Value)| make(Op::Update { kind, component: component.clone(), value: value.clone() });
                needed()?.iter().map(one).collect()
            }
        })
    }

    /// The key path form: `{op, key_path, value}`. Where an entity whose name has dots is deleted the path ends with one.
    pub fn to_key_path(&self) -> Value {
        let entity = format!("entities.{}", self.name);
        match &self.op {
            Op::Create { components } => json!({ "op": "create", "key_path": entity, "value": components }),
            Op::Update { kind: UpdateKind::Set, component, value } => {
                json!({ "op": "update", "key_path": format!("{entity}.{component}"), "value": value })
            }
            Op::Update { kind, component, value } => {
                json!({ "op": kind.name(), "key_path": format!("{entity}.{component}"), "value": value })
            }
            Op::Remove { component } => json!({ "op": "delete", "key_path": format!("{entity}.{component}") }),
            // With a dot at the end, where another one would make it the path of a component.
            Op::Delete if self.name.contains('.') => json!({ "op": "delete", "key_path": format!("{entity}.") }),
            Op::Delete => json!({ "op": "delete", "key_path": entity }),
        }
    }

    /// Reads the key path form.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_key_path(json: &Value) -> Result<Self, OperationError> {
        let text = |field: &str| json.get(field).and_then(Value::as_str).ok_or_else(|| bad(format!("{field:?} is missing"), json));
        let (op, path) = (text("op")?, text("key_path")?);
        let path = path.strip_prefix("entities.").ok_or_else(|| bad("\"key_path\" does not begin with \"entities.\"", json))?;
        let value = || json.get("value").cloned().ok_or_else(|| bad("\"value\" is missing", json));
        // A component's name has no dot in it; an entity's name may.
        let split = || path.rsplit_once('.').ok_or_else(|| bad("\"key_path\" names no component", json));
        let of_component = |kind| -> Result<(&str, Op), OperationError> {
            let (name, component) = split()?;
            Ok((name, Op::Update { kind, component: component.to_owned(), value: value()? }))
        };
        let (name, op) = match op {
            "create" => {
                let components = value()?.as_object().cloned().ok_or_else(|| bad("\"value\" is no object", json))?;
                (path, Op::Create { components: components.into_iter().collect() })
            }
            "delete" => match path.rsplit_once('.') {
                Some((name, "")) => (name, Op::Delete),
                Some((name, component)) => (name, Op::Remove { component: component.to_owned() }),
                None => (path, Op::Delete),
            },
            "update" => of_component(UpdateKind::Set)?,
            step => of_component(UpdateKind::from_name(step).ok_or_else(|| bad(format!("unknown \"op\" {step:?}"), json))?)?,
        };
        Ok(Self { note: None, id: EntityId::parse(name), name: name.to_owned(), op })
    }

    /// The component-first form of some operations: what they set, `{"position": {"thing1": [..], ..}, ..}`.
    pub fn to_component_first(operations: &[Self]) -> Value {
        let mut all: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for operation in operations {
            let mut set = |component, value: &Value| {
                all.entry(component).or_default().insert(operation.name.clone(), value.clone());
            };
            match &operation.op {
                Op::Create { components } => components.iter().for_each(|(component, value)| set(component, value)),
                Op::Update { kind: UpdateKind::Set, component, value } => set(component, value),
                Op::Update { kind, component, value } => set(component, &json!({ kind.name(): value })),
                Op::Remove { component } => set(component, &Value::Null),
                Op::Delete => {}
            }
        }
        json!(all)
    }
}

/// Encodes operations as the batch of `tick` that follows `state`. What [`State::apply`] tells of a batch without facts
/// encodes to that batch again.
///
/// # Errors
/// If an operation names an entity or a component that is not there, creates one that is, or has a value that its type does not take; or if a component of
/// an entity is changed twice, other than by steps.
pub fn encode_operations(protocol: &Protocol, state: &State, operations: &[Operation], tick: RoomTick) -> Result<Vec<u8>, CodecError> {
    let mut after = state.clone();
    let mut roster: BTreeMap<NetId, &Operation> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| matches!(operation.op, Op::Create { .. })) {
        if after.net_id(operation.id).is_some() {
            return Err(refused(format!("there is an entity {:?} already", operation.name)));
        }
        let net_id = after.free_net_id();
        let identity = identity_of(operation, state);
        after.insert(net_id, identity);
        roster.insert(net_id, operation);
    }
    operations.iter().try_for_each(|operation| check_components(protocol, operation))?;
    let ids: Vec<u32> = roster.keys().map(|id| id.get()).collect();
    let (mut columns, mut column_count, mut sections, mut section_count) = (Vec::new(), 0, Vec::new(), 0);
    for (component, entry) in protocol.components.iter().enumerate() {
        let mut created = Rows::default();
        for (id, operation) in &roster {
            let Op::Create { components } = &operation.op else { continue };
            if let Some(value) = components.get(&entry.name) {
                entry.column.encode_json(value, &after, &mut created.bytes)?;
                created.push(*id, bevy_ecs::change_detection::Tick::new(0));
            }
        }
        if !created.is_empty() {
            column_count += 1;
            let picks: Vec<usize> = (0..created.len()).collect();
            write_column(component, &ids, &created, &picks, &mut columns);
        }
        section_count += encode_updates(component, entry, &after, operations, &mut sections)?;
    }
    let mut deletes = Vec::new();
    for operation in operations.iter().filter(|operation| operation.op == Op::Delete) {
        deletes.push(known(&after, operation)?.get());
    }
    deletes.sort_unstable();
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    let flags = flag(!ids.is_empty(), CREATES) | flag(section_count > 0, UPDATES) | flag(!deletes.is_empty(), DELETES);
    let mut out = Vec::new();
    BatchHead { tick, after: state.tick(), flags }.write(&mut out);
    if !ids.is_empty() {
        let entries = ids.iter().filter_map(|id| Some((*id, &after.entities().get(&NetId(*id))?.identity)));
        RosterWriter::default().write(entries, &mut out);
        write_varint(column_count, &mut out);
        out.append(&mut columns);
    }
    if section_count > 0 {
        write_varint(section_count, &mut out);
        out.append(&mut sections);
    }
    if !deletes.is_empty() {
        write_net_ids(deletes.into_iter(), &mut out);
    }
    // What no room says, as an entity that is deleted twice or a step of what is not there, nobody could read.
    match state.clone().fold(protocol, &out) {
        Ok(_) => Ok(out),
        Err(StateError::Codec(error)) => Err(error),
        Err(gap) => Err(refused(gap.to_string())),
    }
}

fn refused(detail: String) -> CodecError {
    CodecError::Encode { detail }
}

/// An operation on a component that the protocol does not have would be nobody's.
fn check_components(protocol: &Protocol, operation: &Operation) -> Result<(), CodecError> {
    let named: Vec<&String> = match &operation.op {
        Op::Create { components } => components.keys().collect(),
        Op::Update { component, .. } | Op::Remove { component } => vec![component],
        Op::Delete => Vec::new(),
    };
    match named.into_iter().find(|name| protocol.component_index(name).is_none()) {
        Some(unknown) => Err(refused(format!("there is no component {unknown:?}"))),
        None => Ok(()),
    }
}

fn identity_of(operation: &Operation, state: &State) -> Identity {
    if EntityId::named(&operation.name) == operation.id {
        return Identity::Named(operation.name.clone());
    }
    match operation.id.serial_in(state.room()) {
        Some(serial) => Identity::Minted(serial),
        None => Identity::Foreign(operation.id.as_uuid()),
    }
}

fn known(state: &State, operation: &Operation) -> Result<NetId, CodecError> {
    let missing = || refused(format!("there is no entity {:?}", operation.name));
    state.net_id(operation.id).ok_or_else(missing)
}

fn encode_updates(
    component: usize,
    entry: &super::registry::ComponentEntry,
    state: &State,
    operations: &[Operation],
    out: &mut Vec<u8>,
) -> Result<u64, CodecError> {
    let mut rows = Rows::default();
    let mut removed = Vec::new();
    let tick = bevy_ecs::change_detection::Tick::new(0);
    let twice = |operation: &Operation| refused(format!("{}.{} is changed twice in one tick", operation.name, entry.name));
    for operation in operations {
        match &operation.op {
            Op::Update { kind, component, value } if *component == entry.name => {
                let id = known(state, operation)?;
                let row = rows.ids.iter().position(|known| *known == id.get());
                let is_stepped = row.is_some_and(|row| *kind != UpdateKind::Set && rows.steps_of(row).is_some());
                if removed.contains(&id.get()) || row.is_some() && !is_stepped {
                    return Err(twice(operation));
                }
                if *kind == UpdateKind::Set {
                    entry.column.encode_json(value, state, &mut rows.bytes)?;
                    rows.push(id, tick);
                    continue;
                }
                let mut operands = Vec::new();
                entry.column.step_from_json(*kind, value, &mut operands)?;
                match row {
                    Some(row) => rows.add_step(row, (*kind, operands)),
                    None => {
                        rows.push(id, tick);
                        rows.add_step(rows.len() - 1, (*kind, operands));
                    }
                }
            }
            Op::Remove { component } if *component == entry.name => {
                let id = known(state, operation)?.get();
                if removed.contains(&id) || rows.ids.contains(&id) {
                    return Err(twice(operation));
                }
                removed.push(id);
            }
            _ => {}
        }
    }
    rows.sort();
    let picks: Vec<usize> = rows.sorted().collect();
    let mut sections = write_updates(component, &rows, &picks, out, |_| {});
    if !removed.is_empty() {
        removed.sort_unstable();
        write_removals(component, &removed, out);
        sections += 1;
    }
    Ok(sections)
}
