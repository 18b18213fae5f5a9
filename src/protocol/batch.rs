//! A batch: all operations of one room in one tick, component first, as bytes. A snapshot is the same without updates.
//!
//! All integers are [variable-length](super::codec::write_varint); net ids ascend and stand as distances.
//!
//! ```text
//! batch    := tick, flags, [tick - tick of the batch before, if GAP]
//!             [creates] [updates] [deletes] [facts] [notes] [hash]      each if its flag is set
//! creates  := roster, columns
//! columns  := count, count * (component, members, values)
//! members  := 0 (all of the roster) | 1, a bit for each of the roster
//! updates  := sections, sections * (component * 8 + kind, count, count * (net id, value or operands))
//!             kind 5 is the removal of a component: no value
//! deletes  := count, net ids
//! facts    := first seq, count, count * (kind, producer, [author], [seq - cause], payload)
//! notes    := a number for each create, update and delete, in their order: 0, or 1 + the place of the fact that caused it
//! hash     := 8 bytes, little-endian, of the state after the batch
//! snapshot := tick, next seq, roster, columns
//! ```

use super::codec::{CodecError, Reader, write_varint};
use super::ids::{EntityId, FactSeq, NetId, RoomTick};
use super::limits::{ENTITIES_MAX, FACTS_PER_TICK_MAX, KINDS_MAX};
use super::quantity::{EncodedStep, UpdateKind};
use super::roster::{Roster, read_net_id, read_net_ids, read_roster, read_uuid, write_net_id, write_net_ids};
use super::rows::Rows;

pub(crate) const CREATES: u8 = 1;
pub(crate) const UPDATES: u8 = 2;
pub(crate) const DELETES: u8 = 4;
pub(crate) const FACTS: u8 = 8;
pub(crate) const NOTES: u8 = 16;
pub(crate) const HASH: u8 = 32;
pub(crate) const GAP: u8 = 64;
/// Of what one member is told: entities that live on, out of its sight.
pub(crate) const LEFT: u8 = 16;

/// The kind of a section that removes a component.
const REMOVE: u64 = 5;

/// Who made a fact happen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Producer {
    /// The initial state of the room.
    Init,
    /// A user, by a command.
    User,
    /// A system of the game; its name, where it is known.
    System(String),
    /// The server, which saw what no client can tell.
    Server,
}

impl Producer {
    fn number(&self) -> u8 {
        match self {
            Self::Init => 0,
            Self::User => 1,
            Self::System(_) => 2,
            Self::Server => 3,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Init,
            1 => Self::User,
            2 => Self::System(String::new()),
            _ => Self::Server,
        }
    }
}

const HAS_AUTHOR: u8 = 4;
const HAS_CAUSE: u8 = 8;

/// The head of a fact in a batch; its payload follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactHead {
    /// Its number in the ledger.
    pub seq: FactSeq,
    /// Which kind, as an index into the protocol.
    pub kind: usize,
    /// Who made it happen. A system's name is not on the wire.
    pub producer: Producer,
    /// The user whose command it came from.
    pub author: Option<EntityId>,
    /// The fact that brought it about.
    pub cause: Option<FactSeq>,
}

impl FactHead {
    /// Appends the head.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_varint(self.kind as u64, out);
        let author = if self.author.is_some() { HAS_AUTHOR } else { 0 };
        let cause = if self.cause.is_some() { HAS_CAUSE } else { 0 };
        out.push(self.producer.number() | author | cause);
        if let Some(author) = self.author {
            out.extend_from_slice(author.as_uuid().as_bytes());
        }
        if let Some(cause) = self.cause {
            write_varint(self.seq.0.saturating_sub(cause.0), out);
        }
    }

    fn read(reader: &mut Reader<'_>, seq: FactSeq) -> Result<Self, CodecError> {
        let kind = reader.varint_u32("kind of fact")? as usize;
        let at = reader.at();
        let bits = reader.byte()?;
        if bits > 15 {
            return Err(CodecError::Unknown { what: "producer", value: u64::from(bits), at });
        }
        let author = match bits & HAS_AUTHOR {
            0 => None,
            _ => Some(EntityId::from_uuid(read_uuid(reader)?)),
        };
        let cause = match bits & HAS_CAUSE {
            0 => None,
            _ => Some(FactSeq(seq.0.saturating_sub(reader.varint()?))),
        };
        Ok(Self { seq, kind, producer: Producer::from_number(bits & 3), author, cause })
    }
}

/// Appends the head of a column: which of a roster of `count` have the component, by their places.
pub(crate) fn write_members(component: usize, count: usize, places: impl ExactSizeIterator<Item = usize>, out: &mut Vec<u8>) {
    write_varint(component as u64, out);
    if places.len() == count {
        write_varint(0, out);
        return;
    }
    write_varint(1, out);
    let start = out.len();
    out.resize(start + count.div_ceil(8), 0);
    for place in places {
        if let Some(byte) = out.get_mut(start + place / 8) {
            *byte |= 1 << (place % 8);
        }
    }
}

/// Appends the values of `picks`, rows of one component that belong to the roster `ids`.
pub(crate) fn write_column(component: usize, ids: &[u32], rows: &Rows, picks: &[usize], out: &mut Vec<u8>) {
    let places = picks.iter().map(|pick| ids.binary_search(&rows.id(*pick)).unwrap_or_default());
    write_members(component, ids.len(), places, out);
    for pick in picks {
        out.extend_from_slice(rows.value(*pick));
    }
}

/// Appends the updates of one component, rows in the order of their net ids. Returns how many sections it wrote;
/// `told` is called for each update in the order of the wire, with its row.
pub(crate) fn write_updates(component: usize, rows: &Rows, picks: &[usize], out: &mut Vec<u8>, mut told: impl FnMut(usize)) -> u64 {
    let stepped = !rows.steps.is_empty();
    let mut sections = 0;
    let sets = picks.iter().filter(|pick| !stepped || rows.steps_of(**pick).is_none());
    let count = if stepped { sets.clone().count() } else { picks.len() };
    if count > 0 {
        sections += 1;
        out.reserve(rows.bytes.len() + count * 2);
        write_varint(component as u64 * 8, out);
        write_varint(count as u64, out);
        let mut before = 0;
        for pick in sets {
            write_net_id(rows.id(*pick), &mut before, out);
            out.extend_from_slice(rows.value(*pick));
            told(*pick);
        }
    }
    if stepped {
        sections += write_steps(component, rows, picks, out, told);
    }
    sections
}

/// Appends steps in rounds: the first step of every entity, then the second, so that each entity's own order is kept.
fn write_steps(component: usize, rows: &Rows, picks: &[usize], out: &mut Vec<u8>, mut told: impl FnMut(usize)) -> u64 {
    let mut sections = 0;
    let mut left: Vec<(usize, &[EncodedStep])> = picks.iter().filter_map(|pick| Some((*pick, rows.steps_of(*pick)?))).collect();
    for round in 0.. {
        left.retain(|(_, steps)| steps.len() > round);
        if left.is_empty() {
            break;
        }
        for kind in UpdateKind::ALL {
            let this_round = left.iter().filter_map(|(pick, steps)| Some((*pick, steps.get(round)?)));
            let steps: Vec<(usize, &[u8])> =
                this_round.filter(|(_, (step, _))| *step == kind).map(|(pick, (_, operands))| (pick, operands.as_slice())).collect();
            if steps.is_empty() {
                continue;
            }
            sections += 1;
            write_varint(component as u64 * 8 + kind as u64, out);
            write_varint(steps.len() as u64, out);
            let mut before = 0;
            for (pick, operands) in steps {
                write_net_id(rows.id(pick), &mut before, out);
                out.extend_from_slice(operands);
                told(pick);
            }
        }
    }
    sections
}

/// Appends the removal of one component from some entities, a section.
pub(crate) fn write_removals(component: usize, ids: &[u32], out: &mut Vec<u8>) {
    write_varint(component as u64 * 8 + REMOVE, out);
    write_net_ids(ids.iter().copied(), out);
}

/// What stands at the beginning of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// The tick whose operations these are.
    pub tick: RoomTick,
    /// The tick of the batch before this one. A replica that is not there yet has missed one; between the two nothing changed.
    pub after: RoomTick,
    pub(crate) flags: u8,
}

impl BatchHead {
    /// Appends the head.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let gap = self.tick.0.saturating_sub(self.after.0);
        write_varint(u64::from(self.tick.0), out);
        if gap == 1 {
            out.push(self.flags);
        } else {
            out.push(self.flags | GAP);
            write_varint(u64::from(gap), out);
        }
    }

    /// Reads the head.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let tick = reader.varint_u32("tick")?;
        let at = reader.at();
        let flags = reader.byte()?;
        if flags & !(CREATES | UPDATES | DELETES | FACTS | NOTES | HASH | GAP) != 0 {
            return Err(CodecError::Unknown { what: "batch flags", value: u64::from(flags), at });
        }
        let gap = if flags & GAP == 0 { 1 } else { reader.varint_u32("gap")? };
        // Only the first batch of a room, that of tick 0, follows nothing.
        if gap > tick || (gap == 0 && tick != 0) {
            return Err(CodecError::TooLarge { what: "gap", value: u64::from(gap), max: u64::from(tick), at });
        }
        Ok(Self { tick: RoomTick(tick), after: RoomTick(tick - gap), flags: flags & !GAP })
    }
}

/// A batch without its hash. That of a stored one is over more than members are sent beside the batches: a replica would compare it with something else.
#[cfg(feature = "host")]
pub(crate) fn without_hash(batch: &bytes::Bytes) -> bytes::Bytes {
    let mut reader = Reader::new(batch);
    let head = BatchHead::read(&mut reader).ok().filter(|head| head.flags & HASH != 0);
    let Some((head, (body, _))) = head.zip(reader.rest().split_last_chunk::<8>()) else { return batch.clone() };
    let mut out = Vec::with_capacity(batch.len());
    BatchHead { flags: head.flags & !HASH, ..head }.write(&mut out);
    out.extend_from_slice(body);
    out.into()
}

/// Appends the head of what one member is told of a tick beside the batch for all: the same operations, facts with their numbers.
///
/// ```text
/// private := tick, flags, [creates] [updates] [deletes] [out of sight, as deletes] [facts]
/// facts   := count, count * (seq, kind, producer, [author], [seq - cause], payload)
/// ```
///
/// The flag of a gap says that the batch of the tick follows: both are then applied as one.
pub(crate) fn write_private_head(tick: RoomTick, flags: u8, batch_follows: bool, out: &mut Vec<u8>) {
    write_varint(u64::from(tick.0), out);
    out.push(flags | if batch_follows { GAP } else { 0 });
}

/// Reads that head: the head of a batch that follows whatever was before, and whether a batch follows.
///
/// # Errors
/// If it is malformed.
pub(crate) fn read_private_head(reader: &mut Reader<'_>) -> Result<(BatchHead, bool), CodecError> {
    let tick = RoomTick(reader.varint_u32("tick")?);
    let at = reader.at();
    let flags = reader.byte()?;
    if flags & !(CREATES | UPDATES | DELETES | LEFT | FACTS | GAP) != 0 {
        return Err(CodecError::Unknown { what: "private flags", value: u64::from(flags), at });
    }
    Ok((BatchHead { tick, after: RoomTick(0), flags: flags & !GAP }, flags & GAP != 0))
}

/// Reads what follows that head.
///
/// # Errors
/// If it is malformed, or if the visitor says so. The visitor has then seen a part of it.
pub(crate) fn read_private(head: BatchHead, reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<(), CodecError> {
    read_operations(head, reader, visitor)?;
    if head.flags & LEFT != 0 {
        read_net_ids(reader, "entities out of sight", |id| visitor.leave(id))?;
    }
    if head.flags & FACTS != 0 {
        for _ in 0..reader.count("facts", FACTS_PER_TICK_MAX)? {
            let seq = FactSeq(reader.varint()?);
            let head = FactHead::read(reader, seq)?;
            visitor.fact(head, reader)?;
        }
    }
    reader.finish()
}

/// Takes what stands in a batch or a snapshot, in its order. What is read of `input` must be exactly the value.
pub(crate) trait Visit {
    /// Entities are created; their components follow.
    fn create(&mut self, roster: Roster) -> Result<(), CodecError>;
    /// The values of one component of the created entities `members`.
    fn column(&mut self, component: usize, members: &[NetId], input: &mut Reader<'_>) -> Result<(), CodecError>;
    /// All columns are through.
    fn created(&mut self) -> Result<(), CodecError>;
    /// A component of an entity is updated.
    fn update(&mut self, component: usize, kind: UpdateKind, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError>;
    /// A component of an entity is removed.
    fn remove(&mut self, component: usize, id: NetId) -> Result<(), CodecError>;
    /// An entity is deleted.
    fn delete(&mut self, id: NetId) -> Result<(), CodecError>;
    /// An entity is deleted, if it is known: it may have come and gone while nobody was told.
    fn delete_known(&mut self, id: NetId) -> Result<(), CodecError> {
        self.delete(id)
    }
    /// An entity is deleted here, but lives on out of this client's sight.
    fn leave(&mut self, id: NetId) -> Result<(), CodecError> {
        self.delete(id)
    }
    /// A fact happened.
    fn fact(&mut self, head: FactHead, input: &mut Reader<'_>) -> Result<(), CodecError>;
    /// A note: the fact, as its place among the batch's facts, that caused an operation, as its place among the operations.
    fn note(&mut self, operation: usize, fact: usize) -> Result<(), CodecError>;
}

/// Reads what follows the head of a batch. Returns the hash of the state after it, if the batch carries one.
///
/// # Errors
/// If the batch is malformed, or if the visitor says so. The visitor has then seen a part of it.
pub(crate) fn read_batch(head: BatchHead, reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<Option<u64>, CodecError> {
    let operations = read_operations(head, reader, visitor)?;
    if head.flags & FACTS != 0 {
        read_facts(reader, visitor)?;
    }
    if head.flags & NOTES != 0 {
        for operation in 0..operations {
            if let Some(fact) = reader.varint()?.checked_sub(1) {
                visitor.note(operation, usize::try_from(fact).unwrap_or(usize::MAX))?;
            }
        }
    }
    let hash = if head.flags & HASH == 0 { None } else { Some(read_hash(reader)?) };
    reader.finish()?;
    Ok(hash)
}

/// Reads the operations of a batch: what stands between its head and its facts. Returns how many there are.
///
/// # Errors
/// See [`read_batch`].
pub(crate) fn read_operations(head: BatchHead, reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<usize, CodecError> {
    let mut operations = 0;
    if head.flags & CREATES != 0 {
        operations += read_creates(reader, visitor)?;
    }
    if head.flags & UPDATES != 0 {
        for _ in 0..reader.count("sections", KINDS_MAX * 64)? {
            operations += read_section(reader, visitor)?;
        }
    }
    if head.flags & DELETES != 0 {
        operations += read_net_ids(reader, "deletes", |id| visitor.delete(id))?;
    }
    Ok(operations)
}

fn read_hash(reader: &mut Reader<'_>) -> Result<u64, CodecError> {
    let bytes = reader.bytes(8)?;
    Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

pub(super) fn read_creates(reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<usize, CodecError> {
    let roster = read_roster(reader)?;
    let ids = roster.net_ids().to_vec();
    visitor.create(roster)?;
    let (mut members, mut columns) = (Vec::new(), Vec::new());
    for _ in 0..reader.count("columns", KINDS_MAX)? {
        let at = reader.at();
        let component = reader.varint_u32("component")? as usize;
        // Values that take no bytes would cost nothing to say again and again.
        if columns.contains(&component) {
            return Err(CodecError::Value { at, detail: format!("the component with the number {component} has two columns") });
        }
        columns.push(component);
        let at = reader.at();
        match reader.varint()? {
            0 => visitor.column(component, &ids, reader)?,
            1 => {
                members.clear();
                let bits = reader.bytes(ids.len().div_ceil(8))?;
                let has = |place: usize| bits.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
                members.extend(ids.iter().enumerate().filter(|(place, _)| has(*place)).map(|(_, id)| *id));
                visitor.column(component, &members, reader)?;
            }
            value => return Err(CodecError::Unknown { what: "kind of members", value, at }),
        }
    }
    visitor.created()?;
    Ok(ids.len())
}

pub(super) fn read_section(reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<usize, CodecError> {
    let at = reader.at();
    let tag = reader.varint_u32("section")?;
    let component = (tag / 8) as usize;
    let count = reader.count("updates", ENTITIES_MAX)?;
    let mut before = None;
    if u64::from(tag % 8) == REMOVE {
        for _ in 0..count {
            visitor.remove(component, read_net_id(reader, &mut before)?)?;
        }
        return Ok(count);
    }
    let kind = UpdateKind::ALL.get(tag as usize % 8).copied();
    let kind = kind.ok_or(CodecError::Unknown { what: "kind of update", value: u64::from(tag % 8), at })?;
    for _ in 0..count {
        let id = read_net_id(reader, &mut before)?;
        visitor.update(component, kind, id, reader)?;
    }
    Ok(count)
}

fn read_facts(reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<(), CodecError> {
    let first = reader.varint()?;
    let count = reader.count("facts", FACTS_PER_TICK_MAX)?;
    for place in 0..count {
        let head = FactHead::read(reader, FactSeq(first.saturating_add(place as u64)))?;
        visitor.fact(head, reader)?;
    }
    Ok(())
}

/// The beginning of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The tick whose state this is, after its batch.
    pub tick: RoomTick,
    /// The seq of the next fact.
    pub next_seq: FactSeq,
}

impl SnapshotHead {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_varint(u64::from(self.tick.0), out);
        write_varint(self.next_seq.0, out);
    }

    /// Reads the head.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { tick: RoomTick(reader.varint_u32("tick")?), next_seq: FactSeq(reader.varint()?) })
    }
}

/// Reads what follows the head of a snapshot: creates, and nothing else.
///
/// # Errors
/// If the snapshot is malformed, or if the visitor says so.
pub(crate) fn read_snapshot(reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<(), CodecError> {
    read_creates(reader, visitor)?;
    reader.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_made_a_fact_happen_is_read_as_it_is_written() {
        let author = EntityId::named("ann");
        for producer in [Producer::Init, Producer::User, Producer::System(String::new()), Producer::Server] {
            for (author, cause) in [(None, None), (Some(author), None), (None, Some(FactSeq(3))), (Some(author), Some(FactSeq(6)))] {
                let head = FactHead { seq: FactSeq(7), kind: 5, producer: producer.clone(), author, cause };
                let mut bytes = Vec::new();
                head.write(&mut bytes);
                let mut reader = Reader::new(&bytes);
                assert_eq!(FactHead::read(&mut reader, FactSeq(7)), Ok(head));
                assert_eq!(reader.finish(), Ok(()));
            }
        }
    }
}
