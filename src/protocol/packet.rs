//! A packet: what a host sends a client in one datagram. A report: which packets a client has.
//!
//! ```text
//! packet  := 16, seq (2 bytes, little-endian), tick, frames
//! frame   := kind * 2 + open, [size, unless open], body          one that is open reaches to the end of the packet
//! body    := 0 ordered: offset, bytes                            a piece of the stream of messages
//!          | 1 part: values of `latest` components as of the packet's tick
//!          | 2 echo: seq (2 bytes) of the newest report, milliseconds since it came, the tick as of which all `latest` values are there
//! padding := 6                                                   one byte in place of a frame, which says nothing
//! stream  := messages, each with its size before it
//! report  := 17, seq (2 bytes), newest packet (2 bytes), milliseconds since it came, bits
//! bits    := for the packet before the newest the lowest bit of the first byte, then for the one before that ..: 1 if it came
//! ```
//!
//! Sequence numbers wrap; packets are numbered for each client by itself. Integers are those of a [batch](super::batch).

use bytes::Bytes;

use super::codec::{CodecError, Reader, write_varint};
use super::ids::RoomTick;

/// The first byte of a packet. renet's own datagrams begin with smaller ones.
pub const PACKET: u8 = 16;

/// The first byte of a report.
pub const REPORT: u8 = 17;

/// Most bytes of a packet's head.
pub(crate) const PACKET_HEAD_MAX: usize = 3 + 5;

/// Most bytes of bits in a report: so many packets, times eight, may be on the way.
pub(crate) const REPORT_BITS_BYTES_MAX: usize = 128;

/// The largest message in the stream of messages, in bytes.
pub(crate) const STREAM_MESSAGE_BYTES_MAX: usize = super::limits::BATCH_MESSAGE_BYTES_MAX + 1_024;

/// How much of a stream may be on the way, in bytes, counted from the first byte that is missing.
pub(crate) const STREAM_WINDOW_BYTES: u64 = 768 * 1024;

const ORDERED: u8 = 0;
const PART: u8 = 1;
const ECHO: u8 = 2;

/// A byte that stands in place of a frame, by which packets get the same size.
pub(crate) const PADDING: u8 = 6;

/// Appends the head of a packet.
pub(crate) fn write_packet_head(seq: u64, tick: RoomTick, out: &mut Vec<u8>) {
    out.push(PACKET);
    out.extend_from_slice(&(seq as u16).to_le_bytes());
    write_varint(u64::from(tick.0), out);
}

/// Appends the head of a piece of the stream; the bytes follow. One that reaches to the end of its packet may tell no size.
pub(crate) fn write_ordered_head(offset: u64, size: Option<usize>, out: &mut Vec<u8>) {
    out.push(ORDERED * 2 + u8::from(size.is_none()));
    if let Some(size) = size {
        write_varint(size as u64 + varint_size(offset) as u64, out);
    }
    write_varint(offset, out);
}

/// Appends the head of a part, which is always the last frame; it follows.
pub(crate) fn write_part_head(out: &mut Vec<u8>) {
    out.push(PART * 2 + 1);
}

/// Appends an echo, which always tells its size.
pub(crate) fn write_echo(seq: u16, hold_millis: u32, complete: RoomTick, out: &mut Vec<u8>) {
    let numbers = [hold_millis, complete.0].map(u64::from);
    out.push(ECHO * 2);
    write_varint(2 + numbers.iter().map(|number| varint_size(*number) as u64).sum::<u64>(), out);
    out.extend_from_slice(&seq.to_le_bytes());
    numbers.iter().for_each(|number| write_varint(*number, out));
}

/// The bytes that an integer takes.
pub(crate) fn varint_size(value: u64) -> usize {
    match value {
        0..=240 => 1,
        241..=2_287 => 2,
        2_288..=67_823 => 3,
        _ => 1 + (8 - value.leading_zeros() as usize / 8),
    }
}

/// What stands in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A piece of the stream of messages.
    Ordered {
        /// Where it begins in the stream.
        offset: u64,
        /// It.
        bytes: Bytes,
    },
    /// Values of `latest` components.
    Part(Bytes),
    /// A report came.
    Echo {
        /// Which.
        seq: u16,
        /// How long ago.
        hold_millis: u32,
        /// Every value of a `latest` component that had changed by this tick, and not since, is known to have arrived.
        complete: RoomTick,
    },
}

/// Reads a packet: its number, its tick, and what stands in it.
///
/// # Errors
/// If it is malformed.
pub(crate) fn read_packet(packet: &Bytes) -> Result<(u16, RoomTick, Vec<Frame>), CodecError> {
    let mut reader = Reader::new(packet);
    if reader.byte()? != PACKET {
        return Err(CodecError::Unknown { what: "kind of packet", value: u64::from(packet.first().copied().unwrap_or(0)), at: 0 });
    }
    let seq = read_u16(&mut reader)?;
    let tick = RoomTick(reader.varint_u32("tick")?);
    let mut frames = Vec::with_capacity(2);
    while !reader.rest().is_empty() {
        let at = reader.at();
        let tag = reader.byte()?;
        if tag == PADDING {
            continue;
        }
        let size = if tag & 1 == 1 { reader.rest().len() } else { reader.count("bytes of a frame", packet.len())? };
        let start = reader.at();
        let body = reader.bytes(size)?;
        let mut inner = Reader::new(body);
        frames.push(match tag / 2 {
            ORDERED => {
                let offset = inner.varint()?;
                Frame::Ordered { offset, bytes: packet.slice(start + inner.at()..start + size) }
            }
            PART => Frame::Part(packet.slice(start..start + size)),
            ECHO => {
                let seq = read_u16(&mut inner)?;
                let hold_millis = inner.varint_u32("milliseconds")?;
                let complete = RoomTick(inner.varint_u32("tick")?);
                inner.finish()?;
                Frame::Echo { seq, hold_millis, complete }
            }
            kind => return Err(CodecError::Unknown { what: "kind of frame", value: u64::from(kind), at }),
        });
    }
    Ok((seq, tick, frames))
}

fn read_u16(reader: &mut Reader<'_>) -> Result<u16, CodecError> {
    Ok(u16::from_le_bytes(reader.bytes(2)?.try_into().unwrap_or_default()))
}

/// Which packets a client has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The report's own number.
    pub(crate) seq: u16,
    /// The newest packet that came.
    pub(crate) newest: u16,
    /// How long ago it came.
    pub(crate) hold_millis: u32,
    /// Those before it, see [the module](self).
    pub(crate) bits: Vec<u8>,
}

impl Report {
    /// Encodes the report.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(8 + self.bits.len());
        out.push(REPORT);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.newest.to_le_bytes());
        write_varint(u64::from(self.hold_millis), &mut out);
        out.extend_from_slice(&self.bits);
        Bytes::from(out)
    }

    /// Decodes the report of a stranger.
    ///
    /// # Errors
    /// If it is malformed.
    pub(crate) fn decode(report: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(report);
        let kind = reader.byte()?;
        if kind != REPORT {
            return Err(CodecError::Unknown { what: "kind of report", value: u64::from(kind), at: 0 });
        }
        let (seq, newest) = (read_u16(&mut reader)?, read_u16(&mut reader)?);
        let hold_millis = reader.varint_u32("milliseconds")?;
        let (at, bits) = (reader.at(), reader.rest());
        if bits.len() > REPORT_BITS_BYTES_MAX {
            return Err(CodecError::TooLarge { what: "bits", value: bits.len() as u64, max: REPORT_BITS_BYTES_MAX as u64, at });
        }
        Ok(Self { seq, newest, hold_millis, bits: bits.to_vec() })
    }

    /// True if a packet came that is `back` before the newest.
    pub(crate) fn has(&self, back: u64) -> bool {
        match back.checked_sub(1) {
            None => true,
            Some(bit) => self.bits.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 == 1),
        }
    }
}

/// The number that ends in these 16 bits and lies closest to another.
pub(crate) fn unwrap_seq(seq: u16, near: u64) -> u64 {
    let ahead = i64::from(seq.wrapping_sub(near as u16) as i16);
    near.checked_add_signed(ahead).unwrap_or(u64::from(seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_packet_says_what_was_written(
            seq: u16, tick: u32, offset in 0..u64::MAX / 2, echo: Option<(u16, u32, u32)>, bytes: Vec<u8>, part: Option<Vec<u8>>,
            padding in 0..40_usize,
        ) {
            let mut out = Vec::new();
            write_packet_head(u64::from(seq) + (7 << 16), RoomTick(tick), &mut out);
            prop_assert!(out.len() <= PACKET_HEAD_MAX);
            out.resize(out.len() + padding, PADDING);
            let mut frames = Vec::new();
            if let Some((seq, hold_millis, complete)) = echo {
                write_echo(seq, hold_millis, RoomTick(complete), &mut out);
                frames.push(Frame::Echo { seq, hold_millis, complete: RoomTick(complete) });
            }
            write_ordered_head(offset, part.is_some().then_some(bytes.len()), &mut out);
            out.extend_from_slice(&bytes);
            frames.push(Frame::Ordered { offset, bytes: bytes.into() });
            if let Some(part) = part {
                write_part_head(&mut out);
                out.extend_from_slice(&part);
                frames.push(Frame::Part(part.into()));
            }
            prop_assert_eq!(read_packet(&out.into()).unwrap(), (seq, RoomTick(tick), frames));
        }

        #[test]
        fn a_report_survives_the_wire(seq: u16, newest: u16, hold_millis: u32, bits in prop::collection::vec(any::<u8>(), 0..128)) {
            let report = Report { seq, newest, hold_millis, bits };
            prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes: Vec<u8>, kind in 16_u8..18) {
            let _ = read_packet(&bytes.clone().into());
            bytes.insert(0, kind);
            let _ = Report::decode(&bytes);
            let _ = read_packet(&bytes.into());
        }

        #[test]
        fn a_number_is_found_again_from_its_last_bits(near in 40_000..u64::MAX / 2, distance in -30_000..30_000_i64) {
            let seq = near.checked_add_signed(distance).unwrap();
            prop_assert_eq!(unwrap_seq(seq as u16, near), seq);
        }

        #[test]
        fn the_size_of_an_integer_is_known(value: u64, shift in 0..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            write_varint(value, &mut out);
            prop_assert_eq!(varint_size(value), out.len());
        }
    }
}
