//! What a room needs besides its replicated state to go on where it was.

use std::collections::BTreeMap;

use super::codec::{CodecError, Reader, write_varint};
use super::ids::{CommandId, EntityId, FactSeq, RoomTick};
use super::incoming::{Incoming, Taken, Verdict};
use super::roster::read_uuid;

/// What changed in a tick of what no batch tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Where the room's chance stands, if it moved.
    pub rng: Option<Box<[u8]>>,
    /// The serial number of the next id that the room mints.
    pub next_serial: u64,
}

/// Where a room stands besides its replicated state: its tick, its numbers, its chance, its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The tick that ran last.
    pub tick: RoomTick,
    /// The tick of the last batch. Between the two nothing changed.
    pub last_batch: RoomTick,
    /// The number of the next fact.
    pub next_seq: FactSeq,
    /// Where the room's chance stands; empty where it never moved.
    pub rng: Box<[u8]>,
    /// The serial number of the next id that the room mints.
    pub next_serial: u64,
    /// The users in the room, and the last command that it took of each.
    pub members: BTreeMap<EntityId, CommandId>,
}

impl Standing {
    /// Follows the room through one tick.
    pub(crate) fn follow(&mut self, tick: RoomTick, has_batch: bool, facts: u64, taken: &[Taken], trail: &Trail) {
        self.tick = tick;
        if has_batch {
            self.last_batch = tick;
        }
        self.next_seq = FactSeq(self.next_seq.0.max(1).saturating_add(facts));
        if let Some(rng) = &trail.rng {
            self.rng.clone_from(rng);
        }
        self.next_serial = trail.next_serial;
        for Taken { incoming, verdict } in taken {
            match incoming {
                Incoming::Join { user, .. } if *verdict == Some(Verdict::Accepted) => {
                    self.members.insert(*user, CommandId(0));
                }
                Incoming::Leave { user, .. } => {
                    self.members.remove(user);
                }
                Incoming::Command { user, id, .. } => {
                    if let Some(last) = self.members.get_mut(user) {
                        *last = (*last).max(*id);
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for number in [u64::from(self.tick.0), u64::from(self.last_batch.0), self.next_seq.0, self.next_serial, self.rng.len() as u64] {
            write_varint(number, out);
        }
        out.extend_from_slice(&self.rng);
        write_varint(self.members.len() as u64, out);
        for (user, command) in &self.members {
            out.extend_from_slice(user.as_uuid().as_bytes());
            write_varint(u64::from(command.0), out);
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (tick, last_batch) = (RoomTick(input.varint_u32("tick")?), RoomTick(input.varint_u32("tick")?));
        let (next_seq, next_serial) = (FactSeq(input.varint()?), input.varint()?);
        let size = input.count("bytes of chance", 64)?;
        let rng = input.bytes(size)?.into();
        let mut members = BTreeMap::new();
        for _ in 0..input.count("members", 1 << 16)? {
            members.insert(EntityId::from_uuid(read_uuid(input)?), CommandId(input.varint_u32("command")?));
        }
        Ok(Self { tick, last_batch, next_seq, rng, next_serial, members })
    }
}
