//! Numbers of so many bits each, side by side in whole bytes.

use super::codec::{CodecError, Reader};

/// How many bits each of `N` numbers takes, at most 64.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout<const N: usize> {
    widths: [u32; N],
    bytes: usize,
}

impl<const N: usize> Layout<N> {
    pub(super) fn new(widths: [u32; N]) -> Self {
        let bits: usize = widths.iter().map(|width| *width as usize).sum();
        Self { widths, bytes: bits.div_ceil(8) }
    }

    /// Appends numbers, the first one in the lowest bits. What exceeds a number's width must be zero.
    pub(super) fn pack(&self, numbers: [u64; N], out: &mut Vec<u8>) {
        let (mut held, mut filled) = (0_u64, 0);
        let mut put = |number: u64, width: u32| {
            // Fewer than 32 bits are held here, and at most 32 come: they fit.
            held |= number << filled;
            filled += width;
            if filled >= 32 {
                out.extend_from_slice(&(held as u32).to_le_bytes());
                held >>= 32;
                filled -= 32;
            }
        };
        for (number, width) in numbers.into_iter().zip(self.widths) {
            if width > 32 {
                put(number & u64::from(u32::MAX), 32);
                put(number >> 32, width - 32);
            } else {
                put(number, width);
            }
        }
        let left = filled.div_ceil(8) as usize;
        out.extend_from_slice(held.to_le_bytes().get(..left).unwrap_or_default());
    }

    /// Reads numbers.
    ///
    /// # Errors
    /// If the input ends early, or if the bits that fill up the last byte are not zero: equal values have equal bytes.
    pub(super) fn unpack(&self, input: &mut Reader<'_>) -> Result<[u64; N], CodecError> {
        let at = input.at();
        let mut bytes = input.bytes(self.bytes)?.iter();
        let (mut held, mut filled) = (0_u64, 0);
        let mut take = |width: u32| {
            while filled < width {
                held |= u64::from(bytes.next().copied().unwrap_or_default()) << filled;
                filled += 8;
            }
            let number = held & ((1 << width) - 1);
            held >>= width;
            filled -= width;
            number
        };
        let mut numbers = [0; N];
        for (number, width) in numbers.iter_mut().zip(self.widths) {
            let low = take(width.min(32));
            *number = low | take(width.saturating_sub(32)) << 32;
        }
        match held {
            0 => Ok(numbers),
            _ => Err(CodecError::Value { at, detail: "bits follow the last number".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_of_any_width_survive_in_as_few_bytes_as_hold_them(mut numbers: [u64; 5], widths in prop::array::uniform5(0..=64_u32)) {
            for (number, width) in numbers.iter_mut().zip(widths) {
                *number = if width == 0 { 0 } else { *number >> (64 - width) };
            }
            let (layout, mut out) = (Layout::new(widths), Vec::new());
            layout.pack(numbers, &mut out);
            prop_assert_eq!(out.len(), (widths.iter().sum::<u32>() as usize).div_ceil(8));
            let mut input = Reader::new(&out);
            prop_assert_eq!(layout.unpack(&mut input), Ok(numbers));
            prop_assert!(input.finish().is_ok());
        }

        #[test]
        fn what_can_be_read_is_written_the_same(bytes: [u8; 12], widths in prop::array::uniform3(0..=32_u32)) {
            let (layout, mut input, mut out) = (Layout::new(widths), Reader::new(&bytes), Vec::new());
            if let Ok(numbers) = layout.unpack(&mut input) {
                layout.pack(numbers, &mut out);
                prop_assert_eq!(&out[..], input.since(0));
            }
        }
    }
}
