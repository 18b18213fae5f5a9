//! What is kept: of a room, of a tick, of a fact, of a refusal.

use std::borrow::Cow;
use std::io::Write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::{
    CommandId, EntityId, FactSeq, Incoming, Producer, Protocol, Recorded, RoomId, RoomTick, Saved, Taken, Trail, UserJoined, Verdict,
    kept_name,
};

/// Who a room is: what it was created from, which is enough to run it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomHeader {
    /// The name by which it is addressed.
    pub name: String,
    /// Its id.
    pub uid: uuid::Uuid,
    /// Where its chance started.
    pub seed: u64,
    /// Whether it tells the cause of each operation.
    pub notes: bool,
    /// Whether its batches carry a hash.
    pub check: bool,
    /// The level that it was created from: its file's name, and its text.
    pub level: Option<(String, String)>,
    /// The room and the tick that it was forked from.
    #[serde(default)]
    pub forked_from: Option<(String, RoomTick)>,
}

impl RoomHeader {
    /// Its id.
    pub fn id(&self) -> RoomId {
        RoomId::from_uuid(self.uid)
    }

    /// The id by which its facts are told outside. A fork has the id of the room that it was made of, so that what its values name is found, and facts
    /// of the same numbers, which are others: whoever knows facts by room and number is told another id, made of that one and of the fork's name.
    pub fn told_id(&self) -> RoomId {
        match self.forked_from {
            None => self.id(),
            Some(_) => RoomId::from_uuid(uuid::Uuid::new_v5(&self.uid, self.name.as_bytes())),
        }
    }
}

/// What a room hands over of one tick.
#[derive(Clone, Debug, Default)]
pub struct TickRecord {
    /// The tick.
    pub tick: RoomTick,
    /// Its batch, if anything changed: all of it, also what members were sent in parts, or not all of them.
    pub batch: Option<Bytes>,
    /// Its facts.
    pub facts: Vec<Recorded>,
    /// What was taken in.
    pub taken: Vec<Taken>,
    /// What the room needs besides its state.
    pub trail: Trail,
}

impl TickRecord {
    /// About how many bytes it takes while it waits.
    pub(crate) fn weight(&self) -> usize {
        let taken = |taken: &Taken| match &taken.incoming {
            Incoming::Command { payload, .. } => payload.len() + 64,
            Incoming::Reset { state, .. } => state.len() + 64,
            Incoming::Event { name, fact } => name.len() + fact.len() + 64,
            _ => 128,
        };
        64 + self.batch.as_ref().map_or(0, Bytes::len) + self.facts.len() * 256 + self.taken.iter().map(taken).sum::<usize>()
    }
}

/// A tick as it is kept, without its facts.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptTick {
    /// The tick.
    pub tick: RoomTick,
    /// Its batch.
    pub batch: Option<Bytes>,
    /// What was taken in.
    pub taken: Vec<Taken>,
    /// What the room needs besides its state.
    pub trail: Trail,
}

/// Where a room's ledger ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last tick.
    pub tick: RoomTick,
    /// The last fact.
    pub seq: FactSeq,
}

/// A fact as the store keeps it.
#[derive(Clone, Debug)]
pub struct StoredFact {
    /// Its number.
    pub seq: FactSeq,
    /// The tick in which it happened.
    pub tick: RoomTick,
    /// Its wire name.
    pub kind: String,
    /// Who made it happen: `init`, `user`, `server`, or `system:` and the name of the system.
    pub producer: String,
    /// The user whose command it came from.
    pub author: Option<EntityId>,
    /// The command that it came from.
    pub command: Option<CommandId>,
    /// The fact that brought it about.
    pub cause: Option<FactSeq>,
    /// What it says, as JSON text.
    pub data: Box<RawValue>,
}

impl StoredFact {
    /// What it says.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.get()).unwrap_or_default()
    }

    /// What it says, as a fact of a game.
    ///
    /// # Errors
    /// If it is not an `F`.
    pub fn get<F: serde::de::DeserializeOwned>(&self) -> Result<F, serde_json::Error> {
        serde_json::from_str(self.data.get())
    }

    /// Whether it was made to happen by somebody of this name, or of this kind of producers: `system:think` is by `system`.
    pub fn is_by(&self, producer: &str) -> bool {
        self.producer == producer || self.producer.split_once(':').is_some_and(|(kind, _)| kind == producer)
    }

    /// Who joined, if that is what it says.
    pub fn joined(&self) -> Option<UserJoined> {
        (self.kind == "user_joined").then(|| self.get().ok()).flatten()
    }

    /// All of it as one JSON object, for people and tools.
    pub fn to_json(&self) -> Value {
        let mut json =
            serde_json::json!({ "seq": self.seq, "tick": self.tick, "fact": self.kind, "producer": self.producer, "data": self.json() });
        let mut add = |key: &str, value: Option<Value>| {
            if let (Some(object), Some(value)) = (json.as_object_mut(), value) {
                object.insert(key.to_owned(), value);
            }
        };
        add("author", self.author.map(|author| author.to_string().into()));
        add("command", self.command.map(|command| command.0.into()));
        add("cause", self.cause.map(|cause| cause.0.into()));
        json
    }
}

/// A command or a join that was refused, as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRefusal {
    /// The tick.
    pub tick: RoomTick,
    /// Who asked.
    pub author: EntityId,
    /// What for: the command's wire name, or `join`.
    pub kind: String,
    /// The number that its client gave it.
    pub command: Option<CommandId>,
    /// What it said, if it could be read.
    pub data: Value,
    /// Why not, for a program.
    pub code: String,
    /// Why not, for a person.
    pub detail: String,
}

/// A stored, named state that a room can be reset to.
#[derive(Clone, Debug, PartialEq)]
pub struct Snippet {
    /// Its name.
    pub label: String,
    /// The tick in which it was saved; 0 for a level that was imported.
    pub tick: RoomTick,
    /// The users who were in the room.
    pub members: Vec<EntityId>,
    /// The state: entities by the names that people write, their components by wire names, each value as JSON.
    pub entities: Entities,
}

pub use crate::protocol::Entities;

/// The JSON text of entities: `{"door123": {"position": [1, 2]}, ..}`, an entity a line.
pub(crate) fn entities_text(entities: &Entities) -> String {
    text_behind(None, entities)
}

/// The same behind a line that is none of them.
fn text_behind(head: Option<String>, entities: &Entities) -> String {
    let mut text = String::from("{");
    let begin = |text: &mut String| text.push_str(if text.len() == 1 { "\n  " } else { ",\n  " });
    if let Some(head) = head {
        begin(&mut text);
        text.push_str(&head);
    }
    for (entity, components) in entities {
        begin(&mut text);
        text.push_str(&Value::from(entity.as_str()).to_string());
        text.push_str(": {");
        for (place, (component, value)) in components.iter().enumerate() {
            text.push_str(if place == 0 { "" } else { ", " });
            text.push_str(&format!("{}: {value}", Value::from(component.as_str())));
        }
        text.push('}');
    }
    text.push_str("\n}\n");
    text
}

impl Snippet {
    /// The JSON of the whole state, which is also the format of a level file. As of which tick it is, and who was in the room, is told in front of the
    /// entities, as `"$snippet"`.
    pub fn to_text(&self) -> String {
        let saved = Saved { tick: self.tick, members: self.members.iter().copied().collect() };
        text_behind((saved != Saved::default()).then(|| saved.line()), &self.entities)
    }

    /// Reads the JSON of a state. One that somebody wrote, a level, is as of tick 0.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_text(label: &str, text: &str) -> Result<Self, serde_json::Error> {
        type Raw<'a> = std::collections::BTreeMap<String, std::collections::BTreeMap<String, &'a RawValue>>;
        let mut raw: Raw<'_> = serde_json::from_str(text)?;
        let Saved { tick, members } = Saved::take_out(&mut raw)?;
        let components = |raw: std::collections::BTreeMap<String, &RawValue>| {
            raw.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
        };
        let entities = raw.into_iter().map(|(name, raw)| (name, components(raw))).collect();
        Ok(Self { label: label.to_owned(), tick, members: members.into_iter().collect(), entities })
    }

    /// What a room takes in to be reset to it.
    pub fn reset(&self) -> Incoming {
        Incoming::Reset {
            label: self.label.clone(),
            saved_at: self.tick,
            members: self.members.clone(),
            state: entities_text(&self.entities),
        }
    }
}

/// The text of a fact, without its mark.
pub(crate) fn write_fact(fact: &Recorded, out: &mut Vec<u8>) {
    // A vector takes whatever is written to it.
    let _ = write!(out, "{{\"t\":{},\"k\":\"{}\",\"p\":", fact.tick, fact.name);
    match &fact.producer {
        Producer::Init => out.extend_from_slice(b"\"init\""),
        Producer::User => out.extend_from_slice(b"\"user\""),
        Producer::Server => out.extend_from_slice(b"\"server\""),
        Producer::System(name) => drop(serde_json::to_writer(&mut *out, &format_args!("system:{name}"))),
    }
    if let Some(author) = fact.author {
        let _ = write!(out, ",\"a\":\"{author}\"");
    }
    if let Some(command) = fact.command {
        let _ = write!(out, ",\"c\":{command}");
    }
    if let Some(cause) = fact.cause {
        let _ = write!(out, ",\"w\":{cause}");
    }
    out.extend_from_slice(b",\"d\":");
    if let Err(error) = fact.write_json(out) {
        tracing::error!(%error, fact = &*fact.name, seq = fact.seq.0, "a fact can't be told as JSON; it is kept without what it says");
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
}

/// The text of a refusal, without its mark; nothing for what was not refused.
pub(crate) fn write_refusal(protocol: &Protocol, tick: RoomTick, taken: &Taken, out: &mut Vec<u8>) -> bool {
    let Some(Verdict::Rejected(rejection)) = &taken.verdict else { return false };
    let (author, kind, command, data) = match &taken.incoming {
        Incoming::Join { user, name } => (*user, "join", None, Value::from(name.as_str())),
        Incoming::Command { user, id, kind, payload, .. } => {
            let entry = protocol.commands.get(*kind);
            let data = entry.and_then(|entry| (entry.to_json)(payload).ok()).unwrap_or_default();
            (*user, entry.map_or("unknown", |entry| entry.name.as_str()), Some(id.0), data)
        }
        Incoming::Reset { label, .. } => (EntityId::NIL, "reset", None, Value::from(label.as_str())),
        Incoming::Revert { seq, .. } => (EntityId::NIL, "revert", None, Value::from(seq.0)),
        Incoming::Event { name, .. } => (EntityId::NIL, "event", None, Value::from(kept_name(name))),
        Incoming::Leave { .. } | Incoming::Return { .. } => return false,
    };
    let mut json = serde_json::json!({ "t": tick, "a": author.to_string(), "k": kind, "r": rejection.code });
    if let Some(object) = json.as_object_mut() {
        object.extend(command.map(|command| ("c".to_owned(), command.into())));
        object.extend((!rejection.detail.is_empty()).then(|| ("m".to_owned(), rejection.detail.as_str().into())));
        object.insert("d".to_owned(), data);
    }
    out.extend_from_slice(json.to_string().as_bytes());
    true
}

/// A fact or a refusal, as its text says.
#[derive(Deserialize)]
pub(crate) struct Item<'a> {
    t: u32,
    #[serde(borrow)]
    k: Cow<'a, str>,
    #[serde(borrow, default)]
    p: Cow<'a, str>,
    #[serde(borrow, default)]
    a: Option<Cow<'a, str>>,
    #[serde(default)]
    c: Option<u32>,
    #[serde(default)]
    w: Option<u64>,
    #[serde(borrow, default)]
    r: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    m: Option<Cow<'a, str>>,
    #[serde(borrow)]
    d: &'a RawValue,
}

impl Item<'_> {
    pub(crate) fn tick(&self) -> RoomTick {
        RoomTick(self.t)
    }

    pub(crate) fn into_fact(self, seq: FactSeq) -> StoredFact {
        StoredFact {
            seq,
            tick: RoomTick(self.t),
            kind: self.k.into_owned(),
            producer: self.p.into_owned(),
            author: self.a.map(|author| EntityId::parse(&author)),
            command: self.c.map(CommandId),
            cause: self.w.map(FactSeq),
            data: self.d.to_owned(),
        }
    }

    pub(crate) fn into_refusal(self) -> StoredRefusal {
        StoredRefusal {
            tick: RoomTick(self.t),
            author: self.a.map(|author| EntityId::parse(&author)).unwrap_or_default(),
            kind: self.k.into_owned(),
            command: self.c.map(CommandId),
            data: serde_json::from_str(self.d.get()).unwrap_or_default(),
            code: self.r.map(Cow::into_owned).unwrap_or_default(),
            detail: self.m.map(Cow::into_owned).unwrap_or_default(),
        }
    }
}
