//! What a room takes in, and what became of it: as a room decides it, and as the store keeps it for running it again.
//!
//! ```text
//! taken   := kind, rest, verdict
//! rest    := user, name | user, reason | user, command id, kind of command, [seen,] payload
//!          | label, tick, members, state as JSON text | changes to undo as JSON text | user
//!          | name of a fact, fact as JSON text
//! verdict := 0 (none was given) | 1 (accepted) | 2, code, detail
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::built_in::LeaveReason;
use super::codec::{CodecError, Reader, write_bytes, write_text, write_varint};
use super::ids::{CommandId, EntityId, FactSeq, RoomTick, SeenTick};
use super::limits::{
    COMMAND_BYTES_MAX, EVENT_BYTES_MAX, NAME_BYTES_MAX, REJECTION_CODE_BYTES_MAX, REJECTION_DETAIL_BYTES_MAX, SNAPSHOT_BYTES_MAX,
};
use super::rejection::{Rejection, beginning};
use super::roster::read_uuid;

/// How much of a text that is too long is kept: so much that what is kept is too long as well, wherever its last character ends.
const TOO_LONG: usize = 4;

/// As much of a fact's name that an operator gave as is kept.
#[cfg(feature = "host")]
pub(crate) fn kept_name(name: &str) -> &str {
    beginning(name, NAME_BYTES_MAX + TOO_LONG)
}

/// One thing that reaches a room.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A user wants in.
    Join {
        /// The user, and the id of its entity.
        user: EntityId,
        /// The name that others see.
        name: String,
    },
    /// A user is gone.
    Leave {
        /// The user.
        user: EntityId,
        /// Why.
        reason: LeaveReason,
    },
    /// A user asks for something.
    Command {
        /// The user.
        user: EntityId,
        /// The number that its client gave it.
        id: CommandId,
        /// The kind, as an index into the protocol.
        kind: usize,
        /// The moment of the room that its author saw, as its client says. Untrusted. Older rooms did not record it.
        seen: Option<SeenTick>,
        /// The command, encoded. Untrusted.
        payload: Bytes,
    },
    /// The scene is reset to a stored state: what differs is changed, under the eyes of the members.
    Reset {
        /// The name of the snippet or level.
        label: String,
        /// The tick in which it was saved; 0 for a level. Points in time within the state are moved by what has passed since.
        saved_at: RoomTick,
        /// The users who were in the room when it was saved. Their entities come back only for those who are in it now.
        members: Vec<EntityId>,
        /// The state as JSON text, `{"door123": {"door_state": "closed"}, ..}`.
        state: String,
    },
    /// What a fact changed is undone, as far as nothing has changed it since.
    Revert {
        /// The fact.
        seq: FactSeq,
        /// What it changed.
        changes: Vec<Change>,
    },
    /// A user who is in the room has another connection than before: one that takes the place of an older one, or the first since the room
    /// went on in another process. Changes nothing; recorded because what the user is told begins anew.
    Return {
        /// The user.
        user: EntityId,
    },
    /// An operator lets a fact of the game happen. No rule is asked; it is recorded as the server's, and has no author.
    Event {
        /// The fact's wire name. Untrusted.
        name: String,
        /// What it says, as JSON text: `{"door": "door123"}`. Untrusted.
        fact: String,
    },
}

/// What happened to one component of one entity: from one value to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The entity, as people write it.
    pub entity: String,
    /// The component's wire name.
    pub component: String,
    /// The value before; nothing if the entity did not have it, or did not exist. In JSON `{"$value": null}` is a value, `null` is nothing.
    #[serde(default, with = "maybe_null")]
    pub before: Option<Value>,
    /// The value after; nothing if the entity no longer has it, or no longer exists. In JSON likewise.
    #[serde(default, with = "maybe_null")]
    pub after: Option<Value>,
}

/// A value that may be null, as the values of components without fields are, or none at all.
mod maybe_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::{Value, json};

    /// What stands around a value that would otherwise be taken for another one.
    const AROUND: &str = "$value";

    fn within(value: &Value) -> Option<&Value> {
        value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get(AROUND))
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) if value.is_null() || within(value).is_some() => json!({ AROUND: value }).serialize(serializer),
            other => other.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        let value = Option::<Value>::deserialize(deserializer)?;
        Ok(value.map(|value| within(&value).cloned().unwrap_or(value)))
    }
}

/// What became of a command, a join, or another thing that a room can refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It became facts.
    Accepted,
    /// It became nothing.
    Rejected(Rejection),
}

/// Something that a room took in, with what became of it. Nothing was said of a leave, a return, or a copy of an earlier command.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// What came in.
    pub incoming: Incoming,
    /// What became of it.
    pub verdict: Option<Verdict>,
}

fn write_id(id: EntityId, out: &mut Vec<u8>) {
    out.extend_from_slice(id.as_uuid().as_bytes());
}

fn read_id(input: &mut Reader<'_>) -> Result<EntityId, CodecError> {
    read_uuid(input).map(EntityId::from_uuid)
}

impl Taken {
    /// Appends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.incoming {
            Incoming::Join { user, name } => {
                out.push(0);
                write_id(*user, out);
                write_text(name, out);
            }
            Incoming::Leave { user, reason } => {
                out.push(1);
                write_id(*user, out);
                out.push(*reason as u8);
            }
            Incoming::Command { user, id, kind, seen, payload } => {
                out.push(if seen.is_some() { 6 } else { 2 });
                write_id(*user, out);
                write_varint(u64::from(id.0), out);
                write_varint(*kind as u64, out);
                seen.iter().for_each(|seen| write_varint(seen.0, out));
                // What is longer was rejected unread; the rest of it says no more.
                write_bytes(payload.get(..COMMAND_BYTES_MAX + 1).unwrap_or(payload), out);
            }
            Incoming::Reset { label, saved_at, members, state } => {
                out.push(3);
                write_text(label, out);
                write_varint(u64::from(saved_at.0), out);
                write_varint(members.len() as u64, out);
                members.iter().for_each(|member| write_id(*member, out));
                write_text(state, out);
            }
            Incoming::Revert { seq, changes } => {
                out.push(4);
                write_varint(seq.0, out);
                write_text(&serde_json::to_string(changes).unwrap_or_default(), out);
            }
            Incoming::Return { user } => {
                out.push(5);
                write_id(*user, out);
            }
            Incoming::Event { name, fact } => {
                out.push(7);
                // What is longer was rejected unread; the rest of it says no more.
                write_text(beginning(name, NAME_BYTES_MAX + TOO_LONG), out);
                write_text(beginning(fact, EVENT_BYTES_MAX + TOO_LONG), out);
            }
        }
        match &self.verdict {
            None => out.push(0),
            Some(Verdict::Accepted) => out.push(1),
            Some(Verdict::Rejected(rejection)) => {
                out.push(2);
                // What is longer could not be read again, and nothing that was stored with it.
                write_text(beginning(&rejection.code, REJECTION_CODE_BYTES_MAX), out);
                write_text(beginning(&rejection.detail, REJECTION_DETAIL_BYTES_MAX), out);
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is malformed.
    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let at = input.at();
        let incoming = match input.byte()? {
            kind @ (2 | 6) => read_command(input, kind == 6)?,
            0 => Incoming::Join { user: read_id(input)?, name: input.text("name of a user", SNAPSHOT_BYTES_MAX)?.to_owned() },
            1 => Incoming::Leave { user: read_id(input)?, reason: read_reason(input)? },
            3 => {
                let label = input.text("label", SNAPSHOT_BYTES_MAX)?.to_owned();
                let saved_at = RoomTick(input.varint_u32("tick")?);
                let count = input.count("members", 1 << 16)?;
                let members = (0..count).map(|_| read_id(input)).collect::<Result<_, _>>()?;
                Incoming::Reset { label, saved_at, members, state: input.text("state", SNAPSHOT_BYTES_MAX)?.to_owned() }
            }
            4 => {
                let seq = FactSeq(input.varint()?);
                let changes = serde_json::from_str(input.text("changes", SNAPSHOT_BYTES_MAX)?);
                Incoming::Revert { seq, changes: changes.map_err(|error| CodecError::Value { at, detail: error.to_string() })? }
            }
            5 => Incoming::Return { user: read_id(input)? },
            7 => {
                let name = input.text("name of a fact", NAME_BYTES_MAX + TOO_LONG)?.to_owned();
                Incoming::Event { name, fact: input.text("fact", EVENT_BYTES_MAX + TOO_LONG)?.to_owned() }
            }
            kind => return Err(CodecError::Unknown { what: "kind of intake", value: u64::from(kind), at }),
        };
        let at = input.at();
        let verdict = match input.byte()? {
            0 => None,
            1 => Some(Verdict::Accepted),
            2 => {
                let code = input.text("code", REJECTION_CODE_BYTES_MAX)?.to_owned();
                Some(Verdict::Rejected(Rejection { code, detail: input.text("detail", REJECTION_DETAIL_BYTES_MAX)?.to_owned() }))
            }
            verdict => return Err(CodecError::Unknown { what: "verdict", value: u64::from(verdict), at }),
        };
        Ok(Self { incoming, verdict })
    }
}

fn read_command(input: &mut Reader<'_>, is_seen: bool) -> Result<Incoming, CodecError> {
    let (user, id) = (read_id(input)?, CommandId(input.varint_u32("command")?));
    let kind = input.varint_u32("kind of command")? as usize;
    let seen = if is_seen { Some(SeenTick(input.varint()?).min(SeenTick::MAX)) } else { None };
    let size = input.count("bytes of a command", COMMAND_BYTES_MAX + 1)?;
    Ok(Incoming::Command { user, id, kind, seen, payload: Bytes::copy_from_slice(input.bytes(size)?) })
}

fn read_reason(input: &mut Reader<'_>) -> Result<LeaveReason, CodecError> {
    let at = input.at();
    match input.byte()? {
        0 => Ok(LeaveReason::Left),
        1 => Ok(LeaveReason::Timeout),
        2 => Ok(LeaveReason::Kicked),
        reason => Err(CodecError::Unknown { what: "reason", value: u64::from(reason), at }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(before: Option<Value>, after: Option<Value>) -> Change {
        Change { entity: "door".to_owned(), component: "marked".to_owned(), before, after }
    }

    #[test]
    fn an_undoing_is_read_as_it_was_recorded_whatever_the_values_are() {
        let values = [None, Some(Value::Null), Some(json!(7)), Some(json!({ "$value": null })), Some(json!({ "$value": 1, "b": 2 }))];
        let changes: Vec<Change> = values.iter().map(|value| change(value.clone(), value.clone())).collect();
        let taken = Taken { incoming: Incoming::Revert { seq: FactSeq(3), changes }, verdict: Some(Verdict::Accepted) };
        let mut out = Vec::new();
        taken.write(&mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(Taken::read(&mut reader), Ok(taken));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_command_that_was_too_large_is_too_large_when_it_is_read_again() {
        for (size, kept) in [(1_024, 1_024), (1_025, 1_025), (5_000, 1_025)] {
            let command = |size| Incoming::Command {
                user: EntityId::named("ann"),
                id: CommandId(3),
                kind: 1,
                seen: None,
                payload: Bytes::from(vec![7_u8; size]),
            };
            let mut out = Vec::new();
            Taken { incoming: command(size), verdict: None }.write(&mut out);
            let mut reader = Reader::new(&out);
            assert_eq!(Taken::read(&mut reader), Ok(Taken { incoming: command(kept), verdict: None }), "{size}");
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_change_of_a_component_without_fields_tells_a_value_from_none() {
        let came = json!({ "entity": "door", "component": "marked", "before": null, "after": { "$value": null } });
        assert_eq!(serde_json::to_value(change(None, Some(Value::Null))).unwrap(), came);
        // What was recorded before, with what may be missing.
        let old = json!({ "entity": "door", "component": "marked", "after": "Open" });
        assert_eq!(serde_json::from_value::<Change>(old).unwrap(), change(None, Some("Open".into())));
    }
}
