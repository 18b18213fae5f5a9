//! A fact as a message says it, and how a consumer counts each once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::record::StoredFact;
use crate::protocol::RoomId;

/// A fact, as the payload of a message says it in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToldFact {
    /// The room's name.
    pub room: String,
    /// The room's id; that of a fork is made of its original's and of its own name.
    pub id: Uuid,
    /// Its number in the room's ledger: from 1 on, without gaps.
    pub seq: u64,
    /// The tick in which it happened, 50 ms each.
    pub tick: u32,
    /// Its wire name.
    #[serde(rename = "fact")]
    pub kind: String,
    /// Who made it happen: `init`, `user`, `server`, or `system:` and the name of the system.
    pub producer: String,
    /// The user whose command it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The command that it came from, by the number that its client gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<u32>,
    /// The fact that brought it about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
    /// What it says, as the ledger has it.
    pub data: Box<RawValue>,
    /// How many bytes what it says has, if that is more than the NATS server takes: then `data` is `null`, and the ledger has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

impl ToldFact {
    pub(super) fn of(room: &str, id: RoomId, fact: &StoredFact) -> Self {
        Self {
            room: room.to_owned(),
            id: id.as_uuid(),
            seq: fact.seq.0,
            tick: fact.tick.0,
            kind: fact.kind.clone(),
            producer: fact.producer.clone(),
            author: fact.author.map(|author| author.to_string()),
            command: fact.command.map(|command| command.0),
            cause: fact.cause.map(|cause| cause.0),
            data: fact.data.clone(),
            left_out: None,
        }
    }

    /// Reads the payload of a message.
    ///
    /// # Errors
    /// If it is none of ours.
    pub fn read(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }

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

    /// By what the stream knows it from others, and a double of it as such: the header `Nats-Msg-Id`.
    pub(super) fn message_id(&self) -> String {
        format!("{}-{}", self.id, self.seq)
    }

    /// The payload, of at most so many bytes: where it has more, it goes without what it says.
    pub(super) fn payload(&mut self, most: usize) -> Result<Vec<u8>, serde_json::Error> {
        let payload = serde_json::to_vec(self)?;
        if payload.len() <= most {
            return Ok(payload);
        }
        self.left_out = Some(self.data.get().len() as u64);
        self.data = RawValue::NULL.to_owned();
        serde_json::to_vec(self)
    }

    /// True if it is that fact of a ledger.
    pub(super) fn is(&self, fact: &StoredFact) -> bool {
        let named = (self.seq, self.tick, &self.kind, &self.producer) == (fact.seq.0, fact.tick.0, &fact.kind, &fact.producer);
        named && (self.left_out.is_some() || self.json() == fact.json())
    }
}

/// What a fact is to a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The next one of its room: it counts.
    New,
    /// It was counted before.
    Double,
    /// It counts, and so many before it never came: they were deleted from the ledger before they were told, or from the stream before they were read.
    After {
        /// How many.
        missing: u64,
    },
}

/// Which facts a projection has counted: the last number of each room. It is kept together with the projection's view, in one transaction; then each
/// fact counts exactly once, however often it comes.
///
/// That is all it takes because of a room's facts one at a time is on its way: a fact comes for the first time only after all before it. So the stream has to
/// be read in its order: by an ordered consumer, or a durable one with `max_ack_pending` 1. Others are sent what they did not acknowledge after what is newer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counted {
    last: BTreeMap<Uuid, u64>,
}

impl Counted {
    /// Counts a fact, and says whether it was to be.
    pub fn count(&mut self, fact: &ToldFact) -> Count {
        let last = self.last.entry(fact.id).or_default();
        if fact.seq <= *last {
            return Count::Double;
        }
        let missing = fact.seq - *last - 1;
        *last = fact.seq;
        if missing == 0 { Count::New } else { Count::After { missing } }
    }

    /// The last fact that was counted of a room.
    pub fn last(&self, room: Uuid) -> u64 {
        self.last.get(&room).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CommandId, EntityId, FactSeq, RoomTick};

    fn fact(seq: u64) -> StoredFact {
        StoredFact {
            seq: FactSeq(seq),
            tick: RoomTick(7),
            kind: "door_opened".to_owned(),
            producer: "user".to_owned(),
            author: Some(EntityId::named("ann")),
            command: Some(CommandId(3)),
            cause: None,
            data: RawValue::from_string(r#"{"door":"a","at":[0.1,2.5]}"#.to_owned()).unwrap(),
        }
    }

    fn told(seq: u64) -> ToldFact {
        ToldFact::of("main", RoomId::named("main"), &fact(seq))
    }

    #[test]
    fn a_fact_is_told_in_json_and_read_back() {
        let payload = String::from_utf8(told(9).payload(usize::MAX).unwrap()).unwrap();
        let (id, ann) = (RoomId::named("main").as_uuid(), EntityId::named("ann"));
        let wanted = format!(
            r#"{{"room":"main","id":"{id}","seq":9,"tick":7,"fact":"door_opened","producer":"user","author":"{ann}","command":3,"data":{{"door":"a","at":[0.1,2.5]}}}}"#
        );
        assert_eq!(payload, wanted);
        let read = ToldFact::read(payload.as_bytes()).unwrap();
        assert!(read.is(&fact(9)) && !read.is(&fact(8)));
        let mut other = fact(9);
        other.data = RawValue::from_string("{}".to_owned()).unwrap();
        assert!(!read.is(&other));
        assert_eq!(read.message_id(), format!("{id}-9"));
    }

    #[test]
    fn what_is_too_long_goes_without_what_it_says_and_says_so() {
        let payload = told(9).payload(200).unwrap();
        let read = ToldFact::read(&payload).unwrap();
        assert_eq!((read.left_out, read.data.get()), (Some(27), "null"));
        assert!(payload.len() <= 300 && read.is(&fact(9)), "it is the same fact");
    }

    #[test]
    fn each_fact_counts_once_and_what_never_came_is_told() {
        let mut counted = Counted::default();
        let counts = [1, 1, 2, 1, 2, 3, 6, 5, 7].map(|seq| counted.count(&told(seq)));
        let (new, double) = (Count::New, Count::Double);
        assert_eq!(counts, [new, double, new, double, double, new, Count::After { missing: 2 }, double, new]);
        let kept = serde_json::to_string(&counted).unwrap();
        assert_eq!(serde_json::from_str::<Counted>(&kept).unwrap(), counted);
        assert_eq!(counted.last(RoomId::named("main").as_uuid()), 7);
    }
}
