//! How ticks are written: one after the other within a chunk of a room, room by room within the journal of a flush.
//!
//! ```text
//! tick  := number, flags, next serial, [size, batch] [size, chance] [count, count * taken]     each if its flag is set
//! frame := rooms, rooms * (key, size, ticks with their texts)
//! texts := facts, facts * text, refusals, refusals * text
//! chunk := size, zstd of ticks
//! ```
//!
//! Integers and texts are those of a batch. All of it comes from a disk and is checked.

use std::cell::RefCell;

use bytes::Bytes;

use super::record::KeptTick;
use super::tables::RoomKey;
use crate::protocol::limits::{BATCH_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::protocol::{CodecError, Reader, RoomTick, Taken, Trail, write_bytes, write_varint};

const BATCH: u8 = 1;
const CHANCE: u8 = 2;
const TAKEN: u8 = 4;

/// Largest chunk, unpacked.
const CHUNK_BYTES_MAX: u64 = 1 << 30;

/// What a byte of zstd can become at most: four of them, a block of equal bytes, are 128 KiB.
const UNPACKED_PER_BYTE_MAX: u64 = 32 * 1024;

/// Most ticks or facts of one room in one chunk or frame.
const COUNT_MAX: usize = 1 << 24;

/// Appends a tick.
pub(crate) fn write_kept(tick: RoomTick, batch: Option<&Bytes>, taken: &[Taken], trail: &Trail, out: &mut Vec<u8>) {
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    write_varint(u64::from(tick.0), out);
    out.push(flag(batch.is_some(), BATCH) | flag(trail.rng.is_some(), CHANCE) | flag(!taken.is_empty(), TAKEN));
    write_varint(trail.next_serial, out);
    if let Some(batch) = batch {
        write_bytes(batch, out);
    }
    if let Some(rng) = &trail.rng {
        write_bytes(rng, out);
    }
    if !taken.is_empty() {
        write_varint(taken.len() as u64, out);
        taken.iter().for_each(|taken| taken.write(out));
    }
}

/// Reads a tick.
pub(crate) fn read_tick(input: &mut Reader<'_>) -> Result<KeptTick, CodecError> {
    let tick = RoomTick(input.varint_u32("tick")?);
    let at = input.at();
    let flags = input.byte()?;
    if flags & !(BATCH | CHANCE | TAKEN) != 0 {
        return Err(CodecError::Unknown { what: "tick flags", value: u64::from(flags), at });
    }
    let next_serial = input.varint()?;
    let mut bytes = |flag: u8, what, max| -> Result<Option<&[u8]>, CodecError> {
        if flags & flag == 0 {
            return Ok(None);
        }
        let size = input.count(what, max)?;
        input.bytes(size).map(Some)
    };
    let batch = bytes(BATCH, "bytes of a batch", BATCH_BYTES_MAX)?.map(Bytes::copy_from_slice);
    let rng = bytes(CHANCE, "bytes of chance", 64)?.map(Into::into);
    let count = if flags & TAKEN == 0 { 0 } else { input.count("intake", COUNT_MAX)? };
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(Taken::read(input)?);
    }
    Ok(KeptTick { tick, batch, taken, trail: Trail { rng, next_serial } })
}

/// How hard zstd tries.
const LEVEL: i32 = 1;

thread_local! {
    /// What packs: made anew for each seal it would cost more than most seals take to pack.
    static PACKER: RefCell<Option<zstd::bulk::Compressor<'static>>> = RefCell::new(zstd::bulk::Compressor::new(LEVEL).ok());
    /// What unpacks, for the same reason.
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = RefCell::new(zstd::bulk::Decompressor::new().ok());
}

/// Packs bytes: their number, then what zstd makes of them.
pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    write_varint(bytes.len() as u64, &mut packed);
    let compressed = PACKER.with_borrow_mut(|packer| match packer {
        Some(packer) => packer.compress(bytes),
        None => zstd::bulk::compress(bytes, LEVEL),
    });
    // It fails only if memory does not suffice.
    packed.extend(compressed.unwrap_or_default());
    packed
}

/// Unpacks.
pub(crate) fn unpack(packed: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut input = Reader::new(packed);
    let size = input.varint()?;
    let at = input.at();
    // No size is believed that so few bytes can't have.
    let max = CHUNK_BYTES_MAX.min(input.rest().len() as u64 * UNPACKED_PER_BYTE_MAX);
    if size > max {
        return Err(CodecError::TooLarge { what: "unpacked size", value: size, max, at });
    }
    let unpacked = UNPACKER.with_borrow_mut(|unpacker| match unpacker {
        Some(unpacker) => unpacker.decompress(input.rest(), size as usize),
        None => zstd::bulk::decompress(input.rest(), size as usize),
    });
    unpacked.map_err(|error| CodecError::Value { at, detail: error.to_string() })
}

/// Reads a packed chunk of ticks. They ascend: what packs to nothing would else be as many ticks as a chunk may have bytes.
pub(crate) fn read_chunk(packed: &[u8]) -> Result<Vec<KeptTick>, CodecError> {
    let bytes = unpack(packed)?;
    let mut input = Reader::new(&bytes);
    let mut ticks: Vec<KeptTick> = Vec::new();
    while !input.rest().is_empty() {
        let at = input.at();
        let next = read_tick(&mut input)?;
        if let Some(last) = ticks.last().filter(|last| last.tick >= next.tick) {
            return Err(CodecError::Value { at, detail: format!("tick {} stands behind tick {}", next.tick, last.tick) });
        }
        ticks.push(next);
    }
    Ok(ticks)
}

/// A tick in the journal of a flush.
#[derive(Debug)]
pub(crate) struct HotTick {
    pub(crate) tick: KeptTick,
    pub(crate) facts: Vec<String>,
    pub(crate) refusals: Vec<String>,
}

/// Appends texts with their count.
pub(crate) fn write_texts<'a>(texts: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    write_varint(texts.len() as u64, out);
    for text in texts {
        write_bytes(text, out);
    }
}

fn read_texts(input: &mut Reader<'_>) -> Result<Vec<String>, CodecError> {
    let count = input.count("texts", COUNT_MAX)?;
    (0..count).map(|_| Ok(input.text("text", SNAPSHOT_BYTES_MAX)?.to_owned())).collect()
}

/// The journal of a flush, room by room: the bytes of each as they are.
pub(crate) fn split_frame(bytes: &[u8]) -> Result<Vec<(RoomKey, &[u8])>, CodecError> {
    let mut input = Reader::new(bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut rooms = Vec::new();
    for _ in 0..input.count("rooms", COUNT_MAX)? {
        let key = RoomKey(i64::try_from(input.varint()?).unwrap_or(i64::MAX));
        let size = input.count("bytes of a room", bytes.len())?;
        rooms.push((key, input.bytes(size)?));
    }
    input.finish()?;
    Ok(rooms)
}

/// The journal of a flush from those of its rooms; nothing if there are none.
pub(crate) fn join_frame(rooms: &[(RoomKey, &[u8])]) -> Vec<u8> {
    let mut frame = Vec::new();
    if rooms.is_empty() {
        return frame;
    }
    write_varint(rooms.len() as u64, &mut frame);
    for (key, bytes) in rooms {
        write_varint(key.0.cast_unsigned(), &mut frame);
        write_bytes(bytes, &mut frame);
    }
    frame
}

/// Reads the journal of a flush: of all rooms, or of one.
pub(crate) fn read_frame(bytes: &[u8], only: Option<RoomKey>) -> Result<Vec<(RoomKey, Vec<HotTick>)>, CodecError> {
    let mut input = Reader::new(bytes);
    let mut rooms = Vec::new();
    for _ in 0..input.count("rooms", COUNT_MAX)? {
        let key = RoomKey(i64::try_from(input.varint()?).unwrap_or(i64::MAX));
        let size = input.count("bytes of a room", bytes.len())?;
        let mut input = Reader::new(input.bytes(size)?);
        if only.is_some_and(|only| only != key) {
            continue;
        }
        let mut ticks = Vec::new();
        while !input.rest().is_empty() {
            let tick = read_tick(&mut input)?;
            ticks.push(HotTick { tick, facts: read_texts(&mut input)?, refusals: read_texts(&mut input)? });
        }
        rooms.push((key, ticks));
    }
    input.finish()?;
    Ok(rooms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_chunk_ascend() {
        let error = read_chunk(&pack(&[0; 9_000])).unwrap_err().to_string();
        assert!(error.contains("tick 0 stands behind tick 0"), "{error}");
    }

    #[test]
    fn no_size_is_believed_that_the_bytes_behind_it_cannot_have() {
        let mut lie = Vec::new();
        write_varint(CHUNK_BYTES_MAX, &mut lie);
        lie.extend_from_slice(&pack(&[7; 300])[2..]);
        assert!(matches!(unpack(&lie), Err(CodecError::TooLarge { what: "unpacked size", .. })));
        // What packs best of all is read.
        for size in [0, 1, 127 << 10, 16 << 20] {
            assert_eq!(unpack(&pack(&vec![0; size])).map(|bytes| bytes.len()), Ok(size));
        }
    }
}
