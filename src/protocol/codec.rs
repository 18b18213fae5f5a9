//! How values become bytes. The only file that names bincode, so that it can be replaced.
//!
//! Values are bincode 2 with variable-length integers, of so many bytes at most; the frame around them uses the
//! variable-length integer of SQLite 4 (<https://sqlite.org/src4/doc/trunk/www/varint.wiki>), which holds 0 to 240 in one byte.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::limits::VALUE_BYTES_MAX;

/// How much a value may claim while it is read. Of an integer bincode counts the bytes that it takes in memory, which are 16 for one on the wire at most:
/// what has been written can be read, and only a text that says to be longer than all its bytes is stopped by this.
const CLAIMS_MAX: usize = VALUE_BYTES_MAX * 16;

const CONFIG: Configuration<LittleEndian, Varint, Limit<CLAIMS_MAX>> = bincode::config::standard().with_limit::<CLAIMS_MAX>();

/// What is wrong with some bytes, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The input ended early.
    #[error("the input ends at byte {at}, {wanted} more needed")]
    Truncated {
        /// Where reading stopped.
        at: usize,
        /// How many more bytes were needed.
        wanted: usize,
    },
    /// Something follows what should have been the end.
    #[error("{left} bytes follow the end at byte {at}")]
    TrailingBytes {
        /// Where the input should have ended.
        at: usize,
        /// How many bytes follow.
        left: usize,
    },
    /// A number is beyond its limit.
    #[error("{what} is {value} at byte {at}, at most {max} allowed")]
    TooLarge {
        /// What the number counts.
        what: &'static str,
        /// The number.
        value: u64,
        /// Its limit.
        max: u64,
        /// Where it stands.
        at: usize,
    },
    /// A value does not have the shape of its type.
    #[error("a value at byte {at} is malformed: {detail}")]
    Value {
        /// Where the value begins.
        at: usize,
        /// What the decoder says.
        detail: String,
    },
    /// A number or a name stands for nothing here.
    #[error("unknown {what} {value} at byte {at}")]
    Unknown {
        /// What it should have stood for.
        what: &'static str,
        /// The number.
        value: u64,
        /// Where it stands.
        at: usize,
    },
    /// A value could not be written.
    #[error("a value can't be encoded: {detail}")]
    Encode {
        /// What the encoder says.
        detail: String,
    },
}

struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Most values are smaller: they are written straight into the buffer, which has grown by so much before.
const SMALL_VALUE_BYTES: usize = 64;

/// Appends a value to `out`.
///
/// # Errors
/// If the type can't be encoded (it needs a self-describing format) or is larger than [`VALUE_BYTES_MAX`]. `out` is as before then.
#[inline]
pub(crate) fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    // A growth by a constant is two stores; bounds are then checked against the slice, not the vector.
    out.extend_from_slice(&[0; SMALL_VALUE_BYTES]);
    let room = out.get_mut(start..).unwrap_or_default();
    match bincode::serde::encode_into_slice(value, room, CONFIG) {
        Ok(size) => {
            out.truncate(start + size);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            encode_large(value, out, error)
        }
    }
}

/// Appends many values: as [`encode_into`] for each, but by way of a page that stays in the nearest cache.
///
/// # Errors
/// As [`encode_into`]; some of the values may have been appended then.
pub(crate) fn encode_all<'a, T: Serialize + 'a>(values: impl Iterator<Item = &'a T>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut page = [0; 4096];
    let mut used = 0;
    for value in values {
        if used > page.len() - SMALL_VALUE_BYTES {
            out.extend_from_slice(page.get(..used).unwrap_or_default());
            used = 0;
        }
        match bincode::serde::encode_into_slice(value, page.get_mut(used..).unwrap_or_default(), CONFIG) {
            Ok(size) => used += size,
            Err(error) => {
                out.extend_from_slice(page.get(..used).unwrap_or_default());
                used = 0;
                encode_large(value, out, error)?;
            }
        }
    }
    out.extend_from_slice(page.get(..used).unwrap_or_default());
    Ok(())
}

#[cold]
fn encode_large<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>, small: EncodeError) -> Result<(), CodecError> {
    drop(small);
    let start = out.len();
    let done = bincode::serde::encode_into_writer(value, Append(out), CONFIG);
    let size = out.len() - start;
    if done.is_ok() && size <= VALUE_BYTES_MAX {
        return Ok(());
    }
    out.truncate(start);
    Err(match done {
        Err(error) => CodecError::Encode { detail: error.to_string() },
        Ok(()) => CodecError::Encode { detail: format!("{size} bytes, at most {VALUE_BYTES_MAX} allowed") },
    })
}

/// Reads a value that takes up all of `bytes`.
///
/// # Errors
/// If the bytes are malformed, too few or too many.
pub(super) fn decode_exact<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// Appends an unsigned integer: one byte up to 240, two up to 2,287, three up to 67,823, then four to nine.
#[inline]
pub fn write_varint(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=240 => out.push(value as u8),
        241..=2287 => {
            let rest = value - 240;
            out.extend_from_slice(&[241 + (rest >> 8) as u8, rest as u8]);
        }
        2288..=67823 => {
            let [.., high, low] = (value - 2288).to_be_bytes();
            out.extend_from_slice(&[249, high, low]);
        }
        _ => {
            let bytes = value.to_be_bytes();
            let skipped = (value.leading_zeros() / 8).min(5) as usize;
            out.push(250 + (5 - skipped) as u8);
            out.extend(bytes.iter().skip(skipped));
        }
    }
}

/// A cursor over bytes that somebody else wrote. It never reads past the end and never allocates on the word of the input, but for the values of
/// games: a text in one may say that it has 1 MiB, and serde lays aside as much for a list, before the bytes are found missing.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// The next byte's position.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// The bytes from `start` up to where reading is now.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// If none is left.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, CodecError> {
        let byte = *self.input.get(self.at).ok_or(CodecError::Truncated { at: self.at, wanted: 1 })?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let rest = self.rest();
        let taken = rest.get(..count).ok_or(CodecError::Truncated { at: self.input.len(), wanted: count.saturating_sub(rest.len()) })?;
        self.at += count;
        Ok(taken)
    }

    /// Takes an integer that [`write_varint`] wrote.
    ///
    /// # Errors
    /// If the input ends within it.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, CodecError> {
        let first = self.byte()?;
        match first {
            0..=240 => Ok(u64::from(first)),
            241..=248 => Ok(240 + (u64::from(first - 241) << 8) + u64::from(self.byte()?)),
            249 => Ok(2288 + (u64::from(self.byte()?) << 8) + u64::from(self.byte()?)),
            _ => {
                let count = usize::from(first - 250) + 3;
                Ok(self.bytes(count)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            }
        }
    }

    /// Takes a 32-bit integer.
    ///
    /// # Errors
    /// If the input ends within it, or if it is larger.
    #[inline]
    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        let at = self.at;
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| CodecError::TooLarge { what, value, max: u64::from(u32::MAX), at })
    }

    /// Takes a count of things that follow, each at least one byte long, so that no count promises more than the input holds.
    ///
    /// # Errors
    /// If it is above `max` or above what can follow.
    #[inline]
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, CodecError> {
        let at = self.at;
        let value = self.varint()?;
        let max = max.min(self.rest().len());
        match usize::try_from(value) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(CodecError::TooLarge { what, value, max: max as u64, at }),
        }
    }

    /// Takes a value that `encode_into` wrote.
    ///
    /// # Errors
    /// If it is malformed, larger than a value may be, or the input ends within it.
    #[inline]
    pub fn value<T: DeserializeOwned>(&mut self) -> Result<T, CodecError> {
        let rest = self.rest();
        match bincode::serde::decode_from_slice(rest.get(..VALUE_BYTES_MAX).unwrap_or(rest), CONFIG) {
            Ok((value, used)) => {
                self.at += used;
                Ok(value)
            }
            Err(error) => Err(CodecError::Value { at: self.at, detail: error.to_string() }),
        }
    }

    /// Takes a text of at most `max` bytes.
    ///
    /// # Errors
    /// If it is longer, not UTF-8, or the input ends within it.
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str, CodecError> {
        let count = self.count(what, max)?;
        let at = self.at;
        let bytes = self.bytes(count)?;
        std::str::from_utf8(bytes).map_err(|error| CodecError::Value { at, detail: format!("{what}: {error}") })
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// If something is.
    pub fn finish(&self) -> Result<(), CodecError> {
        match self.rest().len() {
            0 => Ok(()),
            left => Err(CodecError::TrailingBytes { at: self.at, left }),
        }
    }
}

/// Appends a text with its length.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    write_bytes(text.as_bytes(), out);
}

/// Appends bytes with their number.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_integer_takes_as_few_bytes_as_the_format_says() {
        for (value, size) in [(0, 1), (240, 1), (241, 2), (2287, 2), (2288, 3), (67823, 3), (67824, 4), (u64::MAX, 9)] {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            assert_eq!(out.len(), size, "{value}");
        }
    }

    #[test]
    fn what_can_be_written_can_be_read_and_nothing_larger() {
        // The count takes three bytes, each number one on the wire and sixteen in memory.
        let most = VALUE_BYTES_MAX - 3;
        let mut out = Vec::new();
        encode_into(&vec![1_u128; most], &mut out).unwrap();
        assert_eq!(out.len(), VALUE_BYTES_MAX);
        assert_eq!(decode_exact::<Vec<u128>>(&out).map(|numbers| numbers.len()), Ok(most));
        let mut all = Vec::new();
        assert!(encode_all([vec![1_u128; most], vec![1_u128; most + 1]].iter(), &mut all).is_err());
        let [low, high] = (most as u16 + 1).to_le_bytes();
        let too_large = [&[251, low, high][..], &vec![1; most + 1]].concat();
        assert!(matches!(decode_exact::<Vec<u128>>(&too_large), Err(CodecError::Value { at: 0, .. })));
        assert!(decode_exact::<Vec<u8>>(&too_large).is_err());
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut hostile = vec![0xfd];
        hostile.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode_exact::<String>(&hostile).is_err());
        assert!(decode_exact::<Vec<u64>>(&hostile).is_err());
    }

    proptest! {
        #[test]
        fn every_integer_survives(value: u64) {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = decode_exact::<(u32, String, Vec<u16>)>(&bytes);
            let mut reader = Reader::new(&bytes);
            while reader.varint().is_ok() {}
            let _ = Reader::new(&bytes).text("name", 10);
        }
    }
}
