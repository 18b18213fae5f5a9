//! The messages between a client and a host: one byte for the kind, then what it carries.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::chunk::{CHUNK, DIFFERENCE, SnapshotChunk};
use super::codec::{CodecError, Reader, encode_into, write_text, write_varint};
use super::fingerprint::{Description, Fingerprint};
use super::ids::{CommandId, EntityId, RoomId, RoomTick, SeenTick};
use super::limits::{COMMAND_BYTES_MAX, NAME_BYTES_MAX};
use super::listing::RoomList;
use super::moment::Moment;
use super::rejection::Rejection;
use super::roster::read_uuid;
use super::speed::Speed;

/// The version of this format. Two that differ don't connect.
pub const WIRE_VERSION: u64 = 8;

/// The first byte of [`ServerMessage::Private`].
pub(crate) const PRIVATE_MESSAGE: u8 = 7;

/// Most bytes of a name with a moment of a room's past: the longest that a host gives one, `@-` and seconds behind the room's own name, is shorter.
const PAST_NAME_BYTES_MAX: usize = NAME_BYTES_MAX + 32;

/// What a client that comes back still holds of a room: a state that the host can bring up to date without a whole snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The room.
    pub room: RoomId,
    /// Which run of the room, as its welcome said.
    pub epoch: u64,
    /// The tick of the last batch that is in: all that is ordered is as of it.
    pub tick: RoomTick,
    /// The tick as of which it has all values of `latest` components, as an echo said.
    pub latest: RoomTick,
}

/// What a client says to its host. All on the reliable channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// The first message: which room, and which protocol the client speaks.
    Hello {
        /// The client's protocol.
        fingerprint: Fingerprint,
        /// The room that it wants to join; ignored if its token names one.
        room: String,
        /// True to watch without being a user of the room.
        spectate: bool,
        /// What it still holds of the room, if it was there before.
        resume: Option<Resume>,
    },
    /// A command.
    Command {
        /// The client's number for it: one more than the last that it said, or that the welcome told.
        id: CommandId,
        /// The kind, as an index into the protocol.
        kind: usize,
        /// The moment of the room that its author saw.
        seen: Option<SeenTick>,
        /// The command, encoded.
        payload: Bytes,
    },
    /// The client leaves.
    Leave,
    /// The client's state differs from the hash on the batch of that tick: it asks for a snapshot.
    Diverged {
        /// The tick.
        tick: RoomTick,
    },
    /// Which rooms are there? It comes before the hello, as often as one likes.
    ListRooms {
        /// What the names begin with; nothing for all.
        prefix: String,
    },
}

impl ClientMessage {
    /// Encodes the message.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Hello { fingerprint, room, spectate, resume } => {
                out.push(1);
                write_varint(WIRE_VERSION, &mut out);
                out.extend_from_slice(&fingerprint.0.to_le_bytes());
                write_text(room, &mut out);
                out.push(u8::from(*spectate));
                out.push(u8::from(resume.is_some()));
                if let Some(Resume { room, epoch, tick, latest }) = resume {
                    out.extend_from_slice(room.as_uuid().as_bytes());
                    out.extend_from_slice(&epoch.to_le_bytes());
                    write_varint(u64::from(tick.0), &mut out);
                    write_varint(u64::from(latest.0), &mut out);
                }
            }
            Self::Command { id, kind, seen, payload } => {
                out.push(2);
                write_varint(u64::from(id.0), &mut out);
                write_varint(*kind as u64, &mut out);
                write_varint(seen.map_or(0, |seen| seen.0), &mut out);
                out.extend_from_slice(payload);
            }
            Self::Leave => out.push(3),
            Self::Diverged { tick } => {
                out.push(4);
                write_varint(u64::from(tick.0), &mut out);
            }
            Self::ListRooms { prefix } => {
                out.push(5);
                write_varint(WIRE_VERSION, &mut out);
                write_text(prefix, &mut out);
            }
        }
        Bytes::from(out)
    }

    /// Decodes a message of a stranger.
    ///
    /// # Errors
    /// If it is malformed, or larger than a command may be.
    pub fn decode(message: &Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(message);
        let decoded = match reader.byte()? {
            1 => {
                check_version(&mut reader)?;
                let fingerprint = Fingerprint(read_u64(&mut reader)?);
                let room = read_room(&mut reader)?;
                let spectate = reader.byte()? != 0;
                let resume = if reader.byte()? == 0 { None } else { Some(read_resume(&mut reader)?) };
                Self::Hello { fingerprint, room, spectate, resume }
            }
            2 => {
                let id = CommandId(reader.varint_u32("command id")?);
                let kind = reader.varint_u32("kind of command")? as usize;
                let (at, seen) = (reader.at(), reader.varint()?);
                if seen > SeenTick::MAX.0 {
                    return Err(CodecError::TooLarge { what: "seen tick", value: seen, max: SeenTick::MAX.0, at });
                }
                // Nothing is to be seen before a room's first tick is over.
                let seen = Some(SeenTick(seen)).filter(|seen| seen.0 > 0);
                let (at, size) = (reader.at(), reader.rest().len());
                if size > COMMAND_BYTES_MAX {
                    return Err(CodecError::TooLarge { what: "command size", value: size as u64, max: COMMAND_BYTES_MAX as u64, at });
                }
                return Ok(Self::Command { id, kind, seen, payload: message.slice(at..) });
            }
            3 => Self::Leave,
            4 => Self::Diverged { tick: RoomTick(reader.varint_u32("tick")?) },
            5 => {
                check_version(&mut reader)?;
                Self::ListRooms { prefix: reader.text("beginning of names", NAME_BYTES_MAX)?.to_owned() }
            }
            kind => return Err(CodecError::Unknown { what: "kind of message", value: u64::from(kind), at: 0 }),
        };
        reader.finish()?;
        Ok(decoded)
    }
}

fn check_version(reader: &mut Reader<'_>) -> Result<(), CodecError> {
    let (at, value) = (reader.at(), reader.varint()?);
    if value == WIRE_VERSION { Ok(()) } else { Err(CodecError::Unknown { what: "wire version", value, at }) }
}

/// Reads the name of a room, or of its past: then the moment stands behind the room's own name.
fn read_room(reader: &mut Reader<'_>) -> Result<String, CodecError> {
    let at = reader.at();
    let name = reader.text("room", PAST_NAME_BYTES_MAX)?;
    let room = Moment::parse(name).map_or(name, |moment| moment.room);
    if name.len() > NAME_BYTES_MAX && room.len() > NAME_BYTES_MAX {
        return Err(CodecError::TooLarge { what: "room", value: name.len() as u64, max: NAME_BYTES_MAX as u64, at });
    }
    Ok(name.to_owned())
}

fn read_resume(reader: &mut Reader<'_>) -> Result<Resume, CodecError> {
    let room = RoomId::from_uuid(read_uuid(reader)?);
    let epoch = read_u64(reader)?;
    Ok(Resume { room, epoch, tick: RoomTick(reader.varint_u32("tick")?), latest: RoomTick(reader.varint_u32("tick")?) })
}

fn read_u64(reader: &mut Reader<'_>) -> Result<u64, CodecError> {
    Ok(u64::from_le_bytes(reader.bytes(8)?.try_into().unwrap_or_default()))
}

/// Why a client is not let in, or not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// The client speaks another protocol. It names the differences with the help of this list.
    ProtocolDiffers(Description),
    /// The host has no room of that name.
    NoSuchRoom(String),
    /// The room refused the user.
    Rejected(Rejection),
    /// The room stopped.
    RoomClosed(String),
    /// The host sent the user away.
    Kicked(String),
    /// The host has as many clients as it may.
    HostFull,
    /// The host shuts down.
    ShuttingDown,
    /// Another host has the room: at this address, as `ip:port`.
    Elsewhere(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ProtocolDiffers(_) => f.write_str("the server speaks another protocol"),
            Self::NoSuchRoom(room) => write!(f, "the server has no room {room:?}"),
            Self::Rejected(rejection) => write!(f, "the room refused: {rejection}"),
            Self::RoomClosed(message) => write!(f, "the room closed: {message}"),
            Self::Kicked(message) => write!(f, "sent away: {message}"),
            Self::HostFull => f.write_str("the server is full"),
            Self::ShuttingDown => f.write_str("the server shuts down"),
            Self::Elsewhere(address) => write!(f, "the room is on another server, {address}"),
        }
    }
}

/// What became of a command, on its way to its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictMessage {
    /// The client's number for it.
    pub id: CommandId,
    /// Why it was not obeyed; nothing if it was.
    pub rejection: Option<Rejection>,
}

/// What a host says to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// The client is let in; a snapshot follows, or if its state is gone on with, what it missed and a difference.
    Welcome {
        /// The room's id.
        room: RoomId,
        /// Which run of the room this is. It is another one after the room was opened anew.
        epoch: u64,
        /// True if the client's state is gone on with: perhaps batches, then a difference follow.
        resumed: bool,
        /// The room's name.
        name: String,
        /// The client's user; the nil id for a spectator.
        user: EntityId,
        /// The number of the last command that the room took of this user; of one who joins anew, one above those of all who have left. The client
        /// goes on after it.
        last_command: CommandId,
    },
    /// The client is not let in, or not kept.
    Refused(Refusal),
    /// A piece of a snapshot.
    Chunk(SnapshotChunk),
    /// A piece of a difference, which is cut and packed as a snapshot is.
    Difference(SnapshotChunk),
    /// All operations of a tick.
    Batch(Bytes),
    /// What became of this client's commands in a tick.
    Verdicts {
        /// The tick.
        tick: RoomTick,
        /// In the order of the commands. None at all, before the welcome: nothing was taken of the user since it joined, so nothing that its client
        /// asked before will be answered.
        verdicts: Vec<VerdictMessage>,
    },
    /// What this client is told of a tick beside the batch for all; if that batch follows, both are applied as one.
    Private(Bytes),
    /// What happened up to this tick is stored: it would survive the end of the host.
    Durable {
        /// The tick.
        tick: RoomTick,
    },
    /// The room goes so fast from now on: an operator lets it stand still, or go slower or faster.
    Speed(Speed),
    /// The rooms that a client asked for which is in none yet.
    Rooms(RoomList),
}

impl ServerMessage {
    /// Encodes the message.
    ///
    /// # Errors
    /// If a text in it is larger than a value may be, or a list longer than it may be.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut out = Vec::new();
        match self {
            Self::Welcome { room, epoch, resumed, name, user, last_command } => {
                out.push(1);
                write_varint(u64::from(last_command.0), &mut out);
                out.extend_from_slice(&epoch.to_le_bytes());
                out.push(u8::from(*resumed));
                out.extend_from_slice(room.as_uuid().as_bytes());
                out.extend_from_slice(user.as_uuid().as_bytes());
                write_text(name, &mut out);
            }
            Self::Refused(refusal) => {
                out.push(2);
                encode_into(refusal, &mut out)?;
            }
            Self::Chunk(chunk) => chunk.write(CHUNK, &mut out),
            Self::Difference(chunk) => chunk.write(DIFFERENCE, &mut out),
            Self::Batch(batch) => return Ok(batch_message(batch)),
            Self::Verdicts { tick, verdicts } => {
                out.push(5);
                write_varint(u64::from(tick.0), &mut out);
                encode_into(verdicts, &mut out)?;
            }
            Self::Durable { tick } => {
                out.push(6);
                write_varint(u64::from(tick.0), &mut out);
            }
            Self::Speed(speed) => {
                out.push(9);
                write_varint(u64::from(speed.as_hundredths()), &mut out);
            }
            Self::Rooms(list) => {
                out.push(10);
                list.write(&mut out)?;
            }
            Self::Private(private) => {
                out.push(PRIVATE_MESSAGE);
                out.extend_from_slice(private);
            }
        }
        Ok(Bytes::from(out))
    }

    /// Decodes a message of a host.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn decode(message: &Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(message);
        let decoded = match reader.byte()? {
            1 => {
                let last_command = CommandId(reader.varint_u32("command id")?);
                let (epoch, resumed) = (read_u64(&mut reader)?, reader.byte()? != 0);
                let room = RoomId::from_uuid(read_uuid(&mut reader)?);
                let user = EntityId::from_uuid(read_uuid(&mut reader)?);
                let name = read_room(&mut reader)?;
                Self::Welcome { room, epoch, resumed, name, user, last_command }
            }
            2 => Self::Refused(reader.value()?),
            CHUNK => return SnapshotChunk::read(&mut reader, message).map(Self::Chunk),
            DIFFERENCE => return SnapshotChunk::read(&mut reader, message).map(Self::Difference),
            4 => return Ok(Self::Batch(message.slice(1..))),
            PRIVATE_MESSAGE => return Ok(Self::Private(message.slice(1..))),
            5 => Self::Verdicts { tick: RoomTick(reader.varint_u32("tick")?), verdicts: reader.value()? },
            6 => Self::Durable { tick: RoomTick(reader.varint_u32("tick")?) },
            9 => {
                let (at, value, max) = (reader.at(), reader.varint()?, Speed::MAX.as_hundredths().into());
                let speed = u16::try_from(value).ok().and_then(Speed::hundredths);
                Self::Speed(speed.ok_or(CodecError::TooLarge { what: "speed", value, max, at })?)
            }
            10 => Self::Rooms(RoomList::read(&mut reader)?),
            kind => return Err(CodecError::Unknown { what: "kind of message", value: u64::from(kind), at: 0 }),
        };
        reader.finish()?;
        Ok(decoded)
    }
}

/// A batch as a message: made once, then shared by all members.
pub fn batch_message(batch: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(batch.len() + 1);
    out.put_u8(4);
    out.put_slice(batch);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::limits::TICKS_PER_SECOND;
    use proptest::prelude::*;

    #[test]
    fn every_message_survives_the_wire() {
        let rejection = Rejection::new("no_ammo").because("reload first");
        let server = [
            ServerMessage::Welcome {
                room: RoomId::named("a"),
                epoch: u64::MAX - 1,
                resumed: true,
                name: "a".into(),
                user: EntityId::named("ann"),
                last_command: CommandId(4),
            },
            ServerMessage::Refused(Refusal::ProtocolDiffers(Description::default())),
            ServerMessage::Refused(Refusal::Rejected(rejection.clone())),
            ServerMessage::Refused(Refusal::Elsewhere("203.0.113.7:5000".to_owned())),
            ServerMessage::Chunk(SnapshotChunk { size: 10, at: 0, packed: 7, bytes: Bytes::from_static(b"abc") }),
            ServerMessage::Difference(SnapshotChunk { size: 10, at: 7, packed: 0, bytes: Bytes::from_static(b"abc") }),
            ServerMessage::Batch(Bytes::from_static(b"batch")),
            ServerMessage::Speed(Speed::STILL),
            ServerMessage::Speed(Speed::MAX),
            ServerMessage::Rooms(RoomList::default()),
            ServerMessage::Verdicts { tick: RoomTick(9), verdicts: vec![VerdictMessage { id: CommandId(3), rejection: Some(rejection) }] },
        ];
        for message in server {
            assert_eq!(ServerMessage::decode(&message.encode().unwrap()), Ok(message));
        }
        let resume = Resume { room: RoomId::named("a"), epoch: 1 << 60, tick: RoomTick(70_000), latest: RoomTick(69_990) };
        let client = [
            ClientMessage::Hello { fingerprint: Fingerprint(7), room: "lobby".into(), spectate: true, resume: None },
            ClientMessage::Hello { fingerprint: Fingerprint(7), room: "lobby".into(), spectate: false, resume: Some(resume) },
            ClientMessage::Command { id: CommandId(1), kind: 2, seen: None, payload: Bytes::from_static(b"payload") },
            ClientMessage::Command { id: CommandId(2), kind: 2, seen: Some(SeenTick::MAX), payload: Bytes::new() },
            ClientMessage::Leave,
            ClientMessage::Diverged { tick: RoomTick(70_000) },
            ClientMessage::ListRooms { prefix: "duel/".into() },
        ];
        for message in client {
            assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_command_has_1024_bytes_at_most() {
        let command = |size| ClientMessage::Command { id: CommandId(1), kind: 2, seen: None, payload: vec![7_u8; size].into() };
        assert_eq!(ClientMessage::decode(&command(1_024).encode()), Ok(command(1_024)));
        let refused = ClientMessage::decode(&command(1_025).encode());
        assert!(matches!(refused, Err(CodecError::TooLarge { what: "command size", value: 1_025, max: 1_024, .. })), "{refused:?}");
    }

    #[test]
    fn the_past_of_a_room_with_the_longest_name_can_be_asked_for_and_shown() {
        let named = |name: String| {
            let (room, user) = (RoomId::named("a"), EntityId::NIL);
            let hello = ClientMessage::Hello { fingerprint: Fingerprint(7), room: name.clone(), spectate: true, resume: None };
            let welcome = ServerMessage::Welcome { room, epoch: 0, resumed: false, name, user, last_command: CommandId(0) };
            let welcome_read = ServerMessage::decode(&welcome.encode().unwrap()) == Ok(welcome);
            [ClientMessage::decode(&hello.encode()) == Ok(hello), welcome_read]
        };
        let longest = "r".repeat(NAME_BYTES_MAX);
        // The seconds of the last tick that there can be.
        let seconds = f64::from(u32::MAX) / f64::from(TICKS_PER_SECOND);
        assert_eq!(named(format!("{longest}@-{seconds}s")), [true; 2]);
        assert_eq!(named(longest.clone()), [true; 2]);
        for name in [format!("{longest}r"), format!("{longest}r@-1s"), format!("{longest}@-{}1s", "0".repeat(32))] {
            assert_eq!(named(name), [false; 2]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = ClientMessage::decode(&bytes);
            let _ = ServerMessage::decode(&bytes);
        }
    }
}
