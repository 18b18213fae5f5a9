//! A difference: what a replica that was away must do to be where the room is now, as one message.
//!
//! ```text
//! difference := tick, tick - tick of the replica, flags, [deletes] [creates] [updates]      each as in a batch, if its flag is set
//! ```
//!
//! The deletes come first, because a net id may stand for another entity by now. They may name entities that the replica never heard of, and the
//! removals among the updates components that it does not have: those that came and went while it was away.

use super::batch::{CREATES, DELETES, UPDATES};
#[cfg(feature = "client")]
use super::batch::{Visit, read_creates, read_section};
use super::codec::{CodecError, Reader, write_varint};
use super::ids::RoomTick;
#[cfg(feature = "client")]
use super::limits::KINDS_MAX;
#[cfg(feature = "client")]
use super::roster::read_net_ids;

/// What stands at the beginning of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DifferenceHead {
    /// The tick whose state the replica has after it.
    pub(crate) tick: RoomTick,
    /// The tick of the batch that the replica must have before it.
    pub(crate) from: RoomTick,
    pub(crate) flags: u8,
}

impl DifferenceHead {
    /// Appends the head.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_varint(u64::from(self.tick.0), out);
        write_varint(u64::from(self.tick.0.saturating_sub(self.from.0)), out);
        out.push(self.flags);
    }

    /// Reads the head.
    ///
    /// # Errors
    /// If it is malformed.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let tick = reader.varint_u32("tick")?;
        let at = reader.at();
        let back = reader.varint_u32("ticks back")?;
        if back > tick {
            return Err(CodecError::TooLarge { what: "ticks back", value: u64::from(back), max: u64::from(tick), at });
        }
        let at = reader.at();
        let flags = reader.byte()?;
        if flags & !(CREATES | UPDATES | DELETES) != 0 {
            return Err(CodecError::Unknown { what: "flags of a difference", value: u64::from(flags), at });
        }
        Ok(Self { tick: RoomTick(tick), from: RoomTick(tick - back), flags })
    }
}

/// Reads what follows the head of a difference.
///
/// # Errors
/// If it is malformed, or if the visitor says so. The visitor has then seen a part of it.
#[cfg(feature = "client")]
pub(crate) fn read_difference(head: DifferenceHead, reader: &mut Reader<'_>, visitor: &mut impl Visit) -> Result<(), CodecError> {
    if head.flags & DELETES != 0 {
        read_net_ids(reader, "deletes", |id| visitor.delete_known(id))?;
    }
    if head.flags & CREATES != 0 {
        read_creates(reader, visitor)?;
    }
    if head.flags & UPDATES != 0 {
        for _ in 0..reader.count("sections", KINDS_MAX * 64)? {
            read_section(reader, visitor)?;
        }
    }
    reader.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_head_survives_the_wire(tick: u32, back: u32, flags in 0..8_u8) {
            let head = DifferenceHead { tick: RoomTick(tick), from: RoomTick(tick - back.min(tick)), flags };
            let mut out = Vec::new();
            head.write(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(DifferenceHead::read(&mut reader), Ok(head));
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = DifferenceHead::read(&mut Reader::new(&bytes));
        }
    }
}
