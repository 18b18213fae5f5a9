//! JSON in all its forms: values, operations, snippets, levels, scenes; and names that people write.

use std::sync::Arc;

use serde_json::Value;

use super::{Steps, chosen, game, stored};
use crate::protocol::{
    EntityId, FactSeq, Incoming, LinkConditions, Moment, Names, NetId, Operation, Protocol, Reader, RoomTick, State, UpdateKind, When,
    encode_operations,
};
use crate::room::Room;
use crate::store::{Archive, Entities, MemoryStore, Snippet, copy_room, names_postgres};

/// Values of components, and of steps of them: what can be read can be told as JSON, and that is read as the same value.
pub(super) fn values(data: &[u8]) {
    let (protocol, state) = (game::protocol(), game::state());
    for (kind, bytes) in Steps(data) {
        let Some(entry) = protocol.components.get(usize::from(kind) % protocol.components.len()) else { return };
        let mut input = Reader::new(bytes);
        let Ok(json) = entry.column.to_json(&mut input, state) else { continue };
        let mut skipped = Reader::new(bytes);
        assert_eq!((entry.column.skip(&mut skipped), skipped.at()), (Ok(()), input.at()), "{}", entry.name);
        same_value(&entry.name, &json, state, &protocol);
        for step in UpdateKind::ALL.into_iter().filter(|_| entry.quantity) {
            let mut input = Reader::new(bytes);
            let Ok(json) = entry.column.step_to_json(step, &mut input) else { continue };
            let (mut again, mut folded) = (Vec::new(), Vec::new());
            if entry.column.step_from_json(step, &json, &mut again).is_ok() {
                assert_eq!(entry.column.step_to_json(step, &mut Reader::new(&again)).as_ref(), Ok(&json));
            }
            let _ = entry.column.fold(bytes, step, &mut Reader::new(bytes), &mut folded);
        }
    }
}

/// What JSON has no word for, a number that is none, comes back as nothing.
fn same_value(name: &str, json: &Value, state: &State, protocol: &Protocol) {
    let Some(entry) = protocol.component_index(name).and_then(|at| protocol.components.get(at)) else { return };
    let mut again = Vec::new();
    if entry.column.encode_json(json, state, &mut again).is_ok() {
        let read = entry.column.to_json(&mut Reader::new(&again), state);
        let mut twice = Vec::new();
        // The first time a codec may round; then it stands.
        let rounded = read.unwrap_or_else(|error| panic!("{name} {json}: {error}"));
        if entry.column.encode_json(&rounded, state, &mut twice).is_ok() {
            assert_eq!(again, twice, "{name} {json}");
        }
    }
}

struct Nobody;

impl Names for Nobody {
    fn name(&self, _: NetId) -> Option<String> {
        None
    }
    fn id(&self, _: &str) -> Option<NetId> {
        None
    }
}

/// Operations, snippets, what an older version stored, and names.
pub(super) fn json(data: &[u8]) {
    let protocol = game::protocol();
    let (choice, data) = chosen(data);
    let text = String::from_utf8_lossy(data);
    match choice % 6 {
        0 => {
            let Ok(Value::Array(all)) = serde_json::from_str::<Value>(&text) else { return };
            let read =
                all.iter().map(|json| Operation::from_envelope(json).or_else(|_| Operation::from_key_path(json).map(|one| vec![one])));
            let Ok(operations) = read.collect::<Result<Vec<_>, _>>() else { return };
            operated(&protocol, &operations.concat());
        }
        1 => {
            let Ok(snippet) = Snippet::from_text("start", &text) else { return };
            let again = Snippet::from_text("start", &snippet.to_text()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again, snippet);
            if let Ok(evolved) = protocol.evolve_entities(&snippet.entities) {
                assert_eq!(evolved.keys().collect::<Vec<_>>(), snippet.entities.keys().collect::<Vec<_>>());
            }
        }
        2 => {
            let Ok(stored) = serde_json::from_str::<Entities>(&text) else { return };
            let _ = protocol.evolve_entities(&stored);
        }
        3 => {
            let Ok(value) = serde_json::from_str::<Value>(&text) else { return };
            for entry in &protocol.components {
                let mut bytes = Vec::new();
                if entry.column.encode_json(&value, &Nobody, &mut bytes).is_ok() {
                    let mut input = Reader::new(&bytes);
                    assert!(entry.column.skip(&mut input).is_ok() && input.finish().is_ok(), "{} {value}", entry.name);
                }
            }
            for kind in &protocol.facts {
                let Ok(fact) = (kind.from_json)(&value) else { continue };
                let mut bytes = Vec::new();
                if fact.encode(&mut bytes).is_ok() {
                    assert!((kind.decode)(&mut Reader::new(&bytes)).is_ok(), "{} {value}", kind.name);
                }
                let _ = (fact.named(), fact.to_json());
            }
        }
        4 => names(&text),
        _ => {
            let id = EntityId::parse(&text);
            assert_eq!(EntityId::parse(&id.to_string()), id);
            let _ = (names_postgres(std::path::Path::new(&*text)), crate::admin::AdminKey::parse(&text), crate::host::check_filter(&text));
        }
    }
}

/// Operations as bytes do what they say, or are refused before.
fn operated(protocol: &Arc<Protocol>, operations: &[Operation]) {
    let _ = Operation::to_component_first(operations);
    let before = game::state();
    let tick = RoomTick(before.tick().0 + 1);
    if let Ok(batch) = encode_operations(protocol, before, operations, tick) {
        let mut after = before.clone();
        let done = after.follow(protocol, &batch);
        assert!(done.is_ok(), "{done:?} of {operations:?}");
    }
}

fn names(text: &str) {
    if let Some(Moment { room, when }) = Moment::parse(text) {
        assert!(!room.is_empty() && text.starts_with(room));
        if let When::At(tick) = when {
            assert_eq!(Moment::parse(&format!("{room}@{tick}")), Some(Moment { room, when }));
        }
    }
    if let Ok(link) = text.parse::<LinkConditions>() {
        assert!((0.0..=1.0).contains(&link.loss));
        assert!(link.to_string().parse::<LinkConditions>().is_ok(), "{link}");
    }
}

/// What is said to the admin server over one connection.
pub(super) fn http(data: &[u8]) {
    let (choice, data) = chosen(data);
    // A snippet is saved where nobody else looks.
    let store = MemoryStore::new();
    let mut archive = Archive::new(Box::new(stored::recorded().clone()), game::protocol());
    let copied = copy_room(&mut archive, "moor", &mut store.clone(), |_| ());
    assert!(copied.is_ok(), "{copied:?}");
    let answer = crate::admin::converse(game::blueprint(false), Box::new(store), choice % 2 == 0, data);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
    assert!(!answer.contains("HTTP/1.1 500"), "{answer}");
}

/// A room of a level goes on, and its state is a level of the same room.
fn lives(room: &mut Room) {
    for _ in 0..3 {
        let ticked = room.tick([]);
        assert!(ticked.is_ok(), "{:?}", ticked.err());
    }
    let state = game::state_of(room);
    let json = state.to_json(room.world().resource::<Protocol>());
    assert!(json.is_ok(), "{json:?}");
}

/// Level files, states that a room is reset to, changes that are undone, and what an operator lets happen: a name, a space, JSON.
pub(super) fn scene(data: &[u8]) {
    let (choice, data) = chosen(data);
    let text = String::from_utf8_lossy(data).into_owned();
    if choice % 4 == 0 {
        let Ok(mut room) = game::blueprint(false).room(game::options(&text)) else { return };
        let state = game::state_of(&mut room);
        let json = state.to_json(room.world().resource::<Protocol>()).unwrap_or_else(|error| panic!("{error}"));
        let again = game::blueprint(false).room(game::options(&json.to_string()));
        let mut again = again.unwrap_or_else(|error| panic!("a level can't be read that was told of a room: {error} {json}"));
        let told = game::state_of(&mut again).to_json(&game::protocol()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(told, json);
        return lives(&mut room);
    }
    let mut room = game::room();
    let ann = EntityId::named("ann");
    let incoming = match choice % 4 {
        1 => Incoming::Reset { label: "start".to_owned(), saved_at: RoomTick(0), members: vec![ann], state: text },
        2 => {
            let Ok(changes) = serde_json::from_str(&text) else { return };
            Incoming::Revert { seq: FactSeq(1), changes }
        }
        _ => {
            let (name, fact) = text.split_once(' ').unwrap_or((&text, ""));
            Incoming::Event { name: name.to_owned(), fact: fact.to_owned() }
        }
    };
    let ticked = room.tick([Incoming::Join { user: ann, name: "Ann".to_owned() }, incoming]);
    assert!(ticked.is_ok(), "{:?}", ticked.err());
    lives(&mut room);
}
