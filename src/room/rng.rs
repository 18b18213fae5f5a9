//! The room's only source of chance.

use std::ops::Range;

use bevy_ecs::prelude::*;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};

use crate::protocol::{CodecError, Reader, encode_into};

/// A seeded generator (PCG). The same seed gives the same room; use nothing else for chance in gameplay.
///
/// ```
/// use roomkeeper::room::RoomRng;
/// let (mut a, mut b) = (RoomRng::new(7), RoomRng::new(7));
/// assert_eq!(a.next_u32(), b.next_u32());
/// assert!((0..6).contains(&a.range(0..6)));
/// ```
#[derive(Resource, Clone, Debug, PartialEq, Eq)]
pub struct RoomRng {
    generator: Pcg64Mcg,
    /// Drawn from since the last tick ended.
    moved: bool,
}

impl RoomRng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self { generator: Pcg64Mcg::seed_from_u64(seed), moved: false }
    }

    /// Where it stands, if it was drawn from since this was last asked.
    pub(crate) fn take_moved(&mut self) -> Option<Box<[u8]>> {
        if !std::mem::take(&mut self.moved) {
            return None;
        }
        let mut bytes = Vec::with_capacity(17);
        encode_into(&self.generator, &mut bytes).ok().map(|()| bytes.into())
    }

    /// Goes on from where [`take_moved`](Self::take_moved) said it stood.
    pub(crate) fn go_on(&mut self, stand: &[u8]) -> Result<(), CodecError> {
        let mut reader = Reader::new(stand);
        self.generator = reader.value()?;
        reader.finish()
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.moved = true;
        self.generator.next_u32()
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.moved = true;
        self.generator.next_u64()
    }

    /// A whole number in a range. An empty range gives its start.
    pub fn range(&mut self, range: Range<u32>) -> u32 {
        let width = range.end.saturating_sub(range.start);
        // The high half of a product spreads 32 random bits over the width; the bias is below width / 2^32.
        let offset = (u64::from(self.next_u32()) * u64::from(width)) >> 32;
        range.start + offset as u32
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// True with a probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit_f32() < probability
    }
}
