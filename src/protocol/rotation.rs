//! Rotations in four bytes.

use std::f64::consts::FRAC_1_SQRT_2;

use super::codec::{CodecError, Reader};
use super::wire::Codec;

/// The greatest number of steps from zero of a part that is not the largest: it is at most `sqrt(1/2)`.
const STEPS: i32 = 511;
/// How many bits each of three parts takes.
const BITS: u32 = 10;

/// A unit quaternion `[x, y, z, w]` in four bytes: which part is the largest, and the three others in ten bits each.
///
/// What comes back is a unit quaternion that turns by at most [`SmallestThree::ERROR_MAX`] radians more or less. Its largest part is
/// positive: it may be the negative of what went in, which is the same rotation. No rotation and half turns about an axis come back
/// exactly. What is no unit quaternion is made one; zero, infinite parts and NaN become no rotation.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{Codec, SmallestThree};
/// # use {bevy_app::prelude::*, bevy_ecs::prelude::*, serde::{Deserialize, Serialize}};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Rotation([f32; 4]);
///
/// fn protocol(app: &mut App) {
///     app.sync_with("rotation", SmallestThree.via(|rotation: &Rotation| rotation.0, Rotation)).latest();
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SmallestThree;

impl SmallestThree {
    /// How far the rotation that comes back may be from the one that went in, in radians: 0.3 degrees.
    pub const ERROR_MAX: f32 = 0.0053;
}

/// A quaternion in steps: the place of the largest part, and the others in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
    largest: usize,
    others: [i32; 3],
}

/// The place of the largest part, the first of those that are equal.
fn largest(parts: &[f32; 4]) -> usize {
    let mut best = (0, 0.0);
    for (place, part) in parts.iter().enumerate() {
        if part.abs() > best.1 {
            best = (place, part.abs());
        }
    }
    best.0
}

impl Steps {
    fn of(parts: &[f32; 4]) -> Self {
        let square: f64 = parts.iter().map(|part| f64::from(*part) * f64::from(*part)).sum();
        if !square.is_finite() || square == 0.0 {
            return Self { largest: 3, others: [0; 3] };
        }
        let largest = largest(parts);
        let negative = parts.get(largest).is_some_and(|part| *part < 0.0);
        let scale = f64::from(STEPS) / (FRAC_1_SQRT_2 * libm::sqrt(square)) * if negative { -1.0 } else { 1.0 };
        let mut others = [0; 3];
        let smaller = parts.iter().enumerate().filter(|(place, _)| *place != largest);
        for (step, (_, part)) in others.iter_mut().zip(smaller) {
            *step = (libm::round(f64::from(*part) * scale) as i32).clamp(-STEPS, STEPS);
        }
        let mut steps = Self { largest, others };
        // Rounding can leave another part the largest. A step less of that one, and the rest of the quaternion is in what is not
        // written: what is read then is written the same again. Ends, as no steps at all are settled.
        while !steps.settled() {
            if let Some(most) = steps.others.iter_mut().max_by_key(|step| step.abs()) {
                *most -= most.signum();
            }
        }
        steps
    }

    fn parts(&self) -> [f32; 4] {
        let part = |step: i32| f64::from(step) * FRAC_1_SQRT_2 / f64::from(STEPS);
        let square: f64 = self.others.iter().map(|step| part(*step) * part(*step)).sum();
        let mut parts = [libm::sqrt((1.0 - square).max(0.0)) as f32; 4];
        let smaller = parts.iter_mut().enumerate().filter(|(place, _)| *place != self.largest);
        for ((_, slot), step) in smaller.zip(self.others) {
            *slot = part(step) as f32;
        }
        parts
    }

    /// Whether the part that is not written comes out as the largest.
    fn settled(&self) -> bool {
        largest(&self.parts()) == self.largest
    }
}

impl Codec<[f32; 4]> for SmallestThree {
    fn encode(&self, value: &[f32; 4], out: &mut Vec<u8>) {
        let steps = Steps::of(value);
        let packed = steps.others.iter().rev().fold(0, |packed, step| packed << BITS | (step + STEPS) as u32);
        out.extend_from_slice(&(packed << 2 | steps.largest as u32).to_le_bytes());
    }

    fn decode(&self, input: &mut Reader<'_>) -> Result<[f32; 4], CodecError> {
        let at = input.at();
        let packed = input.bytes(4)?.iter().rev().fold(0_u32, |packed, byte| packed << 8 | u32::from(*byte));
        let step = |nth: u32| (packed >> (2 + nth * BITS) & ((1 << BITS) - 1)) as i32 - STEPS;
        let steps = Steps { largest: (packed & 3) as usize, others: [step(0), step(1), step(2)] };
        // What nobody writes nobody reads, or a replica would say other bytes than the room.
        if steps.others.iter().any(|step| *step > STEPS) || !steps.settled() {
            return Err(CodecError::Value { at, detail: "no quaternion is written so".to_owned() });
        }
        Ok(steps.parts())
    }

    fn exact(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(parts: [f32; 4]) -> Vec<u8> {
        let mut out = Vec::new();
        SmallestThree.encode(&parts, &mut out);
        out
    }

    fn back(parts: [f32; 4]) -> [f32; 4] {
        SmallestThree.decode(&mut Reader::new(&bytes_of(parts))).unwrap()
    }

    /// The angle of the rotation that leads from one to the other.
    fn angle_between(a: [f32; 4], b: [f32; 4]) -> f64 {
        let [a, b] = [a, b].map(|parts| parts.map(f64::from));
        let norm = |q: [f64; 4]| libm::sqrt(q.iter().map(|part| part * part).sum());
        let (na, nb) = (norm(a), norm(b));
        let way = |sign: f64| norm(std::array::from_fn(|n| a[n] / na - sign * b[n] / nb));
        4.0 * libm::asin(way(1.0).min(way(-1.0)) / 2.0)
    }

    fn check(parts: [f32; 4]) -> f64 {
        let (bytes, read) = (bytes_of(parts), back(parts));
        assert_eq!(bytes.len(), 4);
        assert_eq!(bytes_of(read), bytes, "{parts:?} is read as {read:?}");
        let error = angle_between(parts, read);
        assert!(error <= f64::from(SmallestThree::ERROR_MAX), "{parts:?} is read as {read:?}: {error} radians");
        error
    }

    #[test]
    fn what_games_hold_most_comes_back_exactly() {
        for place in 0..4 {
            let mut parts = [0.0; 4];
            parts[place] = 1.0;
            assert_eq!(back(parts), parts);
            assert_eq!(back(parts.map(|part| -part)), parts);
        }
    }

    #[test]
    fn what_is_no_rotation_becomes_none() {
        for parts in [[0.0; 4], [f32::NAN, 0.0, 0.0, 1.0], [f32::INFINITY, 0.0, 0.0, 1.0], [f32::NEG_INFINITY; 4]] {
            assert_eq!(back(parts), [0.0, 0.0, 0.0, 1.0]);
        }
        assert_eq!(back([0.0, f32::MAX, 0.0, f32::MIN_POSITIVE]), [0.0, 1.0, 0.0, 0.0]);
        check([f32::MIN_POSITIVE; 4]);
        check([f32::MAX; 4]);
    }

    #[test]
    fn parts_that_are_nearly_equal_settle() {
        let near = [0.0, 1e-7, -1e-7, 1e-4, -1e-4, 7e-4, -7e-4, 1.4e-3];
        for start in [[0.5; 4], [0.5, -0.5, 0.5, -0.5], [0.57735, 0.57735, 0.57735, 0.0], [0.7, 0.0, 0.7, 0.0]] {
            for n in 0..near.len().pow(4) {
                check(std::array::from_fn(|part| start[part] + near[n / near.len().pow(part as u32) % near.len()]));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_rotation_comes_back_within_the_error_and_is_written_the_same(parts in prop::array::uniform4(-1.0_f32..1.0)) {
            prop_assume!(parts.iter().any(|part| *part != 0.0));
            check(parts);
        }

        #[test]
        fn any_numbers_are_written_and_read_as_a_unit_quaternion(parts: [u32; 4]) {
            let parts = parts.map(f32::from_bits);
            let read = back(parts);
            prop_assert!((read.iter().map(|part| part * part).sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert_eq!(bytes_of(read), bytes_of(parts));
        }

        #[test]
        fn any_bytes_are_refused_or_written_the_same(bytes: [u8; 4]) {
            if let Ok(read) = SmallestThree.decode(&mut Reader::new(&bytes)) {
                prop_assert!(read.iter().all(|part| part.is_finite()));
                prop_assert_eq!(&bytes_of(read)[..], &bytes[..]);
            }
            prop_assert!(SmallestThree.decode(&mut Reader::new(&bytes[..3])).is_err());
        }
    }
}
