//! A snapshot on its way: cut into pieces, each packed by itself where that makes it smaller. So travels a difference, with 8 for the 3.
//!
//! ```text
//! chunk := 3, size of the snapshot, place of the piece in it, 0, the piece
//!        | 3, size of the snapshot, place of the piece in it, size of the piece, the piece as an LZ4 block
//! ```
//!
//! Pieces are packed one by one so that a client unpacks them as they come, and never makes room for more than four times what came on a promise.

use bytes::Bytes;

use super::codec::{CodecError, Reader, write_varint};
use super::limits::{SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES};

/// The first byte of the message.
pub(crate) const CHUNK: u8 = 3;

/// The first byte of a piece of a difference.
pub(crate) const DIFFERENCE: u8 = 8;

/// The part of a piece that packing must save to be worth it.
const SAVING: usize = 32;

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The size of the snapshot, in bytes.
    pub size: usize,
    /// Where this piece begins.
    pub at: usize,
    /// The size of the piece if it is packed; 0 if it stands here as it is.
    pub packed: usize,
    /// The piece.
    pub bytes: Bytes,
}

impl SnapshotChunk {
    pub(crate) fn write(&self, kind: u8, out: &mut Vec<u8>) {
        out.push(kind);
        for number in [self.size, self.at, self.packed] {
            write_varint(number as u64, out);
        }
        out.extend_from_slice(&self.bytes);
    }

    /// Reads what follows the first byte of `message`.
    pub(crate) fn read(reader: &mut Reader<'_>, message: &Bytes) -> Result<Self, CodecError> {
        let mut number = |what, max: usize| -> Result<usize, CodecError> {
            let at = reader.at();
            let value = reader.varint()?;
            if value > max as u64 { Err(CodecError::TooLarge { what, value, max: max as u64, at }) } else { Ok(value as usize) }
        };
        let size = number("snapshot", SNAPSHOT_BYTES_MAX)?;
        let at = number("place of a chunk", size)?;
        let packed = number("piece of a snapshot", SNAPSHOT_CHUNK_BYTES)?;
        Ok(Self { size, at, packed, bytes: message.slice(reader.at()..) })
    }
}

/// A snapshot as messages: made once, then shared by all that join in the tick.
pub fn snapshot_messages(snapshot: &Bytes) -> Vec<Bytes> {
    messages(CHUNK, snapshot)
}

/// A difference as messages.
pub(crate) fn difference_messages(difference: &Bytes) -> Vec<Bytes> {
    messages(DIFFERENCE, difference)
}

fn messages(kind: u8, snapshot: &Bytes) -> Vec<Bytes> {
    let mut scratch = vec![0; lz4_flex::block::get_maximum_output_size(SNAPSHOT_CHUNK_BYTES.min(snapshot.len()))];
    let places = (0..snapshot.len()).step_by(SNAPSHOT_CHUNK_BYTES);
    let messages = places.map(|at| {
        let piece = snapshot.slice(at..snapshot.len().min(at + SNAPSHOT_CHUNK_BYTES));
        let (packed, bytes) = match lz4_flex::block::compress_into(&piece, &mut scratch) {
            Ok(size) if size + piece.len() / SAVING < piece.len() => {
                (piece.len(), Bytes::copy_from_slice(scratch.get(..size).unwrap_or_default()))
            }
            _ => (0, piece),
        };
        let mut out = Vec::with_capacity(bytes.len() + 16);
        SnapshotChunk { size: snapshot.len(), at, packed, bytes }.write(kind, &mut out);
        Bytes::from(out)
    });
    messages.collect()
}

/// Puts the chunks of a snapshot together again. They come in order; memory grows with what arrived, not with what was promised.
#[derive(Debug, Default)]
pub struct SnapshotAssembly {
    size: usize,
    bytes: Vec<u8>,
}

impl SnapshotAssembly {
    /// Adds a chunk. Gives the snapshot when it is complete.
    ///
    /// # Errors
    /// If the chunk does not follow the one before, or can't be unpacked.
    pub fn add(&mut self, chunk: &SnapshotChunk) -> Result<Option<Bytes>, CodecError> {
        let SnapshotChunk { size, at, packed, bytes } = chunk;
        if *at == 0 {
            (self.size, self.bytes) = (*size, Vec::new());
        }
        let here = self.bytes.len();
        let piece = if *packed > 0 { *packed } else { bytes.len() };
        if *at != here || *size != self.size || piece == 0 || here + piece > *size {
            return Err(CodecError::Unknown { what: "place of a chunk", value: *at as u64, at: here });
        }
        // Four times what is here: a stranger gets no more for his word, and a snapshot is moved half as often while it grows.
        if self.bytes.capacity() < here + piece {
            self.bytes.reserve_exact((size - here).min(piece.max(3 * here)));
        }
        if *packed == 0 {
            self.bytes.extend_from_slice(bytes);
        } else {
            unpack(bytes, (*packed).min(SNAPSHOT_CHUNK_BYTES), &mut self.bytes)?;
        }
        Ok((self.bytes.len() == *size).then(|| Bytes::from(std::mem::take(&mut self.bytes))))
    }

    /// The share of the snapshot that is here, from 0 to 1.
    pub fn progress(&self) -> f32 {
        self.bytes.len() as f32 / self.size.max(1) as f32
    }
}

/// Appends what a piece of `size` bytes was packed from.
fn unpack(packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.resize(start + size, 0);
    let detail = match lz4_flex::block::decompress_into(packed, out.get_mut(start..).unwrap_or_default()) {
        Ok(written) if written == size => return Ok(()),
        Ok(written) => format!("a piece of {size} bytes unpacks to {written}"),
        Err(error) => format!("a piece of {size} bytes can't be unpacked: {error}"),
    };
    out.truncate(start);
    Err(CodecError::Value { at: start, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ServerMessage;
    use proptest::prelude::*;

    fn chunk(message: &Bytes) -> SnapshotChunk {
        match ServerMessage::decode(message) {
            Ok(ServerMessage::Chunk(chunk)) => chunk,
            other => panic!("{other:?}"),
        }
    }

    fn assembled(messages: &[Bytes]) -> Result<Option<Bytes>, CodecError> {
        let mut assembly = SnapshotAssembly::default();
        messages.iter().try_fold(None, |_, message| assembly.add(&chunk(message)))
    }

    /// Bytes of which some repeat.
    fn snapshot() -> impl Strategy<Value = Vec<u8>> {
        let run = prop_oneof![
            (any::<u8>(), 1..9_000_usize).prop_map(|(byte, count)| vec![byte; count]),
            prop::collection::vec(any::<u8>(), 1..9_000),
            (prop::collection::vec(any::<u8>(), 1..20), 1..900_usize).prop_map(|(bytes, count)| bytes.repeat(count)),
        ];
        prop::collection::vec(run, 1..20).prop_map(|runs| runs.concat())
    }

    #[test]
    fn what_repeats_is_packed_and_what_does_not_stands_as_it_is() {
        let same = Bytes::from(vec![7; 3 * SNAPSHOT_CHUNK_BYTES + 5]);
        let messages = snapshot_messages(&same);
        assert_eq!(messages.len(), 4);
        assert!(messages.iter().map(Bytes::len).sum::<usize>() * 50 < same.len());
        let mut number = 1_u64;
        let chance = std::iter::repeat_with(|| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 56) as u8
        });
        let random: Bytes = chance.take(2 * SNAPSHOT_CHUNK_BYTES).collect();
        let messages = snapshot_messages(&random);
        assert!(messages.iter().all(|message| chunk(message).packed == 0));
        assert_eq!(assembled(&messages), Ok(Some(random)));
    }

    #[test]
    fn a_chunk_that_lies_is_refused_and_costs_no_more_than_a_piece() {
        let whole = snapshot_messages(&Bytes::from(vec![7; SNAPSHOT_CHUNK_BYTES]));
        let honest = chunk(&whole[0]);
        let lies = [
            SnapshotChunk { packed: honest.packed - 1, ..honest.clone() },
            SnapshotChunk { size: SNAPSHOT_BYTES_MAX, packed: 20, bytes: Bytes::from_static(b"\x10a"), ..honest.clone() },
            SnapshotChunk { bytes: honest.bytes.slice(1..), ..honest.clone() },
            SnapshotChunk { at: 1, ..honest.clone() },
            SnapshotChunk { size: honest.packed - 1, ..honest.clone() },
            SnapshotChunk { packed: 0, bytes: Bytes::new(), ..honest.clone() },
        ];
        for lie in lies {
            let mut assembly = SnapshotAssembly::default();
            assert!(assembly.add(&lie).is_err(), "{lie:?}");
            assert!(assembly.bytes.capacity() <= 2 * SNAPSHOT_CHUNK_BYTES && assembly.bytes.is_empty());
            assert!(assembly.add(&honest).is_ok());
        }
        for (size, packed) in [(SNAPSHOT_BYTES_MAX + 1, 0), (10, SNAPSHOT_CHUNK_BYTES + 1)] {
            let message = ServerMessage::Chunk(SnapshotChunk { size, packed, ..honest.clone() }).encode().unwrap();
            assert!(matches!(ServerMessage::decode(&message), Err(CodecError::TooLarge { .. })));
        }
    }

    #[test]
    fn a_snapshot_that_begins_anew_drops_what_came_of_the_one_before() {
        let (one, two) = (Bytes::from(vec![1; 2 * SNAPSHOT_CHUNK_BYTES]), Bytes::from(vec![2; 3 * SNAPSHOT_CHUNK_BYTES]));
        let mut messages = snapshot_messages(&one);
        messages.truncate(1);
        messages.extend(snapshot_messages(&two));
        assert_eq!(assembled(&messages), Ok(Some(two)));
        assert!(assembled(&[messages[0].clone(), messages[2].clone()]).is_err(), "a piece of another snapshot");
    }

    proptest! {
        #[test]
        fn a_snapshot_survives_being_cut_and_packed(snapshot in snapshot()) {
            let snapshot = Bytes::from(snapshot);
            let messages = snapshot_messages(&snapshot);
            let most = snapshot.len() + messages.len() * 16;
            prop_assert!(messages.iter().map(Bytes::len).sum::<usize>() <= most);
            prop_assert_eq!(assembled(&messages), Ok(Some(snapshot)));
        }

        #[test]
        fn any_bytes_are_unpacked_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            numbers in (0..100_000_usize, 0..70_000_usize),
            twice: bool,
        ) {
            let (size, packed) = numbers;
            let mut assembly = SnapshotAssembly::default();
            let chunk = SnapshotChunk { size, at: 0, packed, bytes: bytes.into() };
            for at in if twice { vec![0, packed] } else { vec![0] } {
                let _ = assembly.add(&SnapshotChunk { at, ..chunk.clone() });
                prop_assert!(assembly.bytes.len() <= size && assembly.progress() <= 1.0);
            }
        }

        #[test]
        fn a_damaged_chunk_is_an_error_or_another_snapshot_but_never_a_panic(snapshot in snapshot(), at: prop::sample::Index, by in 1..=255_u8) {
            let mut messages = snapshot_messages(&Bytes::from(snapshot));
            let mut damaged = messages[0].to_vec();
            let place = at.index(damaged.len());
            damaged[place] ^= by;
            messages[0] = damaged.into();
            let mut assembly = SnapshotAssembly::default();
            for message in &messages {
                if let Ok(ServerMessage::Chunk(chunk)) = ServerMessage::decode(message) {
                    let _ = assembly.add(&chunk);
                }
            }
        }
    }
}
