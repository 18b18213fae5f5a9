//! Which entities a message creates: their net ids, and who they are.
//!
//! ```text
//! roster := count, count * (net id - net id before), runs until all are named
//! run    := length << 2 | 0, serial of the first      ids that the room minted one after the other
//!         | length << 2 | 1, length * text            readable names of the level
//!         | length << 2 | 2, length * 16 bytes        any other UUID
//! ```

use uuid::Uuid;

use super::codec::{CodecError, Reader, write_text, write_varint};
use super::ids::{EntityId, NetId, RoomId};
use super::limits::{ENTITIES_MAX, ENTITY_NAME_BYTES_MAX};

/// Where an entity's id comes from, which is shorter to send than the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The room minted it; the serial number.
    Minted(u64),
    /// A level file names it.
    Named(String),
    /// Any other UUID.
    Foreign(Uuid),
}

impl Identity {
    /// The id in a room.
    pub fn id(&self, room: RoomId) -> EntityId {
        match self {
            Self::Minted(serial) => EntityId::minted(room, *serial),
            Self::Named(name) => EntityId::named(name),
            Self::Foreign(uuid) => EntityId::from_uuid(*uuid),
        }
    }

    /// The id as people write it in this room: the readable name if there is one, else the UUID.
    pub fn display(&self, room: RoomId) -> String {
        match self {
            Self::Named(name) => name.clone(),
            other => other.id(room).to_string(),
        }
    }

    fn kind(&self) -> u64 {
        match self {
            Self::Minted(_) => 0,
            Self::Named(_) => 1,
            Self::Foreign(_) => 2,
        }
    }

    /// True if `next` can stand in the same run, `count` places behind `self`.
    #[inline]
    fn leads_to(&self, next: &Self, count: u64) -> bool {
        match (self, next) {
            (Self::Minted(first), Self::Minted(serial)) => first.checked_add(count) == Some(*serial),
            (a, b) => a.kind() == b.kind(),
        }
    }
}

/// One entity of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterEntry {
    /// Its number on the wire.
    pub net_id: NetId,
    /// Who it is.
    pub identity: Identity,
}

/// The entities that a message creates, with their net ids, which ascend. What a room minted in a row is not spelt out.
#[derive(Debug)]
pub(crate) struct Roster {
    net_ids: Vec<NetId>,
    runs: Vec<Run>,
}

/// Some of a roster in a row: those that the room minted, or others.
#[derive(Debug)]
pub(crate) struct Run {
    /// The first serial of those that were minted, and how many they are.
    minted: (u64, u64),
    pub(crate) others: Vec<Identity>,
}

impl Run {
    /// The serials of those that were minted.
    pub(crate) fn minted(&self) -> impl Iterator<Item = u64> + use<> {
        let (first, count) = self.minted;
        (0..count).map(move |place| first.saturating_add(place))
    }
}

impl Roster {
    pub(crate) fn len(&self) -> usize {
        self.net_ids.len()
    }

    pub(crate) fn net_ids(&self) -> &[NetId] {
        &self.net_ids
    }

    /// The net ids, and who they are, in the same order: as many.
    pub(crate) fn into_parts(self) -> (Vec<NetId>, Vec<Run>) {
        (self.net_ids, self.runs)
    }

    pub(crate) fn into_entries(self) -> impl Iterator<Item = RosterEntry> {
        let identities = self.runs.into_iter().flat_map(|run| run.minted().map(Identity::Minted).chain(run.others));
        self.net_ids.into_iter().zip(identities).map(|(net_id, identity)| RosterEntry { net_id, identity })
    }
}

/// Appends one of some ascending net ids, as its distance from the one before.
#[inline]
pub(crate) fn write_net_id(id: u32, before: &mut u32, out: &mut Vec<u8>) {
    write_varint(u64::from(id.wrapping_sub(*before)), out);
    *before = id;
}

/// Appends ascending net ids, each as its distance from the one before.
pub(crate) fn write_net_ids(ids: impl ExactSizeIterator<Item = u32>, out: &mut Vec<u8>) {
    write_varint(ids.len() as u64, out);
    out.reserve(ids.len());
    let mut before = 0;
    for id in ids {
        write_net_id(id, &mut before, out);
    }
}

/// The next of some ascending net ids.
#[inline]
pub(crate) fn read_net_id(reader: &mut Reader<'_>, before: &mut Option<u32>) -> Result<NetId, CodecError> {
    let at = reader.at();
    let distance = reader.varint_u32("net id")?;
    let id = before.unwrap_or(0).saturating_add(distance);
    if id as usize >= ENTITIES_MAX {
        return Err(CodecError::TooLarge { what: "net id", value: u64::from(id), max: ENTITIES_MAX as u64 - 1, at });
    }
    if before.is_some() && distance == 0 {
        return Err(CodecError::Value { at, detail: format!("net id {id} stands twice") });
    }
    *before = Some(id);
    Ok(NetId(id))
}

/// Reads what [`write_net_ids`] wrote, and hands over one after the other. Returns how many there are. `what` they are is for errors.
pub(crate) fn read_net_ids(
    reader: &mut Reader<'_>,
    what: &'static str,
    mut take: impl FnMut(NetId) -> Result<(), CodecError>,
) -> Result<usize, CodecError> {
    let (count, mut before) = (reader.count(what, ENTITIES_MAX)?, None);
    for _ in 0..count {
        take(read_net_id(reader, &mut before)?)?;
    }
    Ok(count)
}

/// Writes rosters. Its buffers are kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct RosterWriter {
    /// The net ids of the roster that was written last.
    pub(crate) ids: Vec<u32>,
    distances: Vec<u8>,
    runs: Vec<u8>,
    /// The identities of the run that grows; of minted ones the first.
    run: Vec<u8>,
}

impl RosterWriter {
    /// Appends a roster in one pass. `entities` ascend by net id.
    pub(crate) fn write<'a>(&mut self, entities: impl Iterator<Item = (u32, &'a Identity)>, out: &mut Vec<u8>) {
        self.distances.clear();
        self.runs.clear();
        self.ids.clear();
        let most = entities.size_hint().1.unwrap_or(0).min(ENTITIES_MAX);
        self.ids.reserve(most);
        self.distances.reserve(most);
        // The run that grows: its first identity, and its length.
        let mut run: Option<(&Identity, u64)> = None;
        let mut before = 0;
        for (id, identity) in entities {
            self.ids.push(id);
            write_net_id(id, &mut before, &mut self.distances);
            match &mut run {
                Some((first, length)) if first.leads_to(identity, *length) => {
                    *length += 1;
                    // The first of a minted run says it for all.
                    if matches!(identity, Identity::Minted(_)) {
                        continue;
                    }
                }
                _ => self.finish_run(run.replace((identity, 1))),
            }
            write_identity(identity, &mut self.run);
        }
        self.finish_run(run);
        write_varint(self.ids.len() as u64, out);
        out.extend_from_slice(&self.distances);
        out.extend_from_slice(&self.runs);
    }

    fn finish_run(&mut self, run: Option<(&Identity, u64)>) {
        if let Some((first, length)) = run {
            write_varint(length << 2 | first.kind(), &mut self.runs);
            self.runs.extend_from_slice(&self.run);
        }
        self.run.clear();
    }
}

fn write_identity(identity: &Identity, out: &mut Vec<u8>) {
    match identity {
        Identity::Named(name) => write_text(name, out),
        Identity::Foreign(uuid) => out.extend_from_slice(uuid.as_bytes()),
        Identity::Minted(serial) => write_varint(*serial, out),
    }
}

/// Reads a roster.
///
/// # Errors
/// If it is malformed; the net ids that it gives ascend and are below [`ENTITIES_MAX`].
pub(crate) fn read_roster(reader: &mut Reader<'_>) -> Result<Roster, CodecError> {
    let count = reader.count("entities", ENTITIES_MAX)?;
    let mut before = None;
    // A collected `Result` does not know its length, and grows step by step.
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(read_net_id(reader, &mut before)?);
    }
    let (mut runs, mut named) = (Vec::new(), 0);
    while named < count {
        let at = reader.at();
        let run = reader.varint()?;
        let length = usize::try_from(run >> 2).unwrap_or(usize::MAX);
        if length == 0 || length > count - named {
            return Err(CodecError::TooLarge { what: "run of identities", value: run >> 2, max: (count - named) as u64, at });
        }
        let (mut minted, mut others) = ((0, 0), Vec::new());
        match run & 3 {
            0 => minted = (reader.varint()?, length as u64),
            1 => {
                for _ in 0..length {
                    others.push(Identity::Named(reader.text("entity name", ENTITY_NAME_BYTES_MAX)?.to_owned()));
                }
            }
            2 => {
                for _ in 0..length {
                    others.push(Identity::Foreign(read_uuid(reader)?));
                }
            }
            kind => return Err(CodecError::Unknown { what: "kind of identity", value: kind, at }),
        }
        runs.push(Run { minted, others });
        named += length;
    }
    Ok(Roster { net_ids: ids, runs })
}

/// Reads the 16 bytes of a UUID.
pub(crate) fn read_uuid(reader: &mut Reader<'_>) -> Result<Uuid, CodecError> {
    let at = reader.at();
    Uuid::from_slice(reader.bytes(16)?).map_err(|error| CodecError::Value { at, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> impl Strategy<Value = Identity> {
        prop_oneof![
            any::<u32>().prop_map(|serial| Identity::Minted(u64::from(serial))),
            "[a-z0-9_]{1,12}".prop_map(Identity::Named),
            any::<u128>().prop_map(|bits| Identity::Foreign(Uuid::from_u128(bits))),
        ]
    }

    proptest! {
        #[test]
        fn a_roster_survives_the_wire(entities in prop::collection::btree_map(0..5000_u32, identity(), 0..40)) {
            let mut out = Vec::new();
            let listed: Vec<_> = entities.iter().map(|(id, identity)| (*id, identity)).collect();
            RosterWriter::default().write(listed.iter().copied(), &mut out);
            let mut reader = Reader::new(&out);
            let read = read_roster(&mut reader).unwrap();
            prop_assert!(reader.finish().is_ok());
            let read: Vec<_> = read.into_entries().map(|entry| (entry.net_id.0, entry.identity)).collect();
            prop_assert_eq!(read, entities.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read_roster(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn entities_that_were_minted_in_a_row_cost_a_byte_each() {
        let all: Vec<Identity> = (0..1000).map(|serial| Identity::Minted(serial + 5000)).collect();
        let mut out = Vec::new();
        let listed: Vec<_> = (0..).zip(&all).collect();
        RosterWriter::default().write(listed.into_iter(), &mut out);
        assert!(out.len() <= 1000 + 10, "{}", out.len());
    }
}
