//! Codecs for numbers whose range and precision are known: vectors, angles, integers.
//!
//! What they have in common: any value is written, as the nearest one that can be. What was read is written with the same bytes
//! again, so that a replica agrees with its room; what would not be is refused. Values take whole bytes, the fields within a value do not.
//!
//! **Why there are no deltas.** A delta needs a value that the reader is known to have. Parts of `latest` components get lost for one
//! member and not for the next, so a delta would have to be encoded for each member, against what that member acknowledged, while a
//! value is encoded once and shared. What it would save: of the 8 bytes of a place in a kilometre by millimetres 3 for one that walks 1 m in a
//! tick, 4 for 0.1 m (of the 7 by centimetres as much), and nothing of its net id. Where 100 of 1,000 entities move and turn,
//! [`Quantised`] and [`SmallestThree`](super::SmallestThree) make 1,410 bytes of 3,010; deltas of places would make 1,110 of that, for 32 members by
//! encoding 3,200 values instead of 100, with a copy of each value for each member to encode them against.

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

use super::codec::{CodecError, Reader};
use super::pack::Layout;
use super::wire::Codec;

/// Vectors of `f32`, each part in a range, to the nearest of evenly spaced steps.
///
/// A part is off by at most half a step, and by the rounding of an `f32`. Outside the range it becomes the end that is nearer; NaN
/// becomes zero, or the end nearer to that. Both ends are met exactly, and so is zero where it is a whole number of steps from them.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{Codec, Quantised};
/// # use {bevy_app::prelude::*, bevy_ecs::prelude::*, serde::{Deserialize, Serialize}};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Position([f32; 3]);
///
/// fn protocol(app: &mut App) {
///     // A kilometre in millimetres, three times: 60 bits in 8 bytes, for the 12 of three `f32`.
///     app.sync_with("position", Quantised::new(-500.0..=500.0, 0.001).via(|at: &Position| at.0, Position)).latest();
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Quantised<const N: usize> {
    fields: [Field; N],
    layout: Layout<N>,
    complaint: Option<String>,
}

/// One part of a vector. Whatever it holds, nothing panics.
#[derive(Clone, Copy, Debug)]
struct Field {
    min: f32,
    max: f32,
    steps: u32,
    span: f64,
    per_unit: f64,
}

/// How many roundings of an `f32` at the far end of the range a step must be: then what was read is nearest to the step it was read from.
const ROUNDINGS_PER_STEP: f64 = 2.0;

impl Field {
    /// What stands where a field was refused.
    const NONE: Self = Self { min: 0.0, max: 0.0, steps: 1, span: 0.0, per_unit: 0.0 };

    fn new(range: &RangeInclusive<f32>, step: f32) -> Result<Self, String> {
        let (min, max) = (*range.start(), *range.end());
        if !(min.is_finite() && max.is_finite() && min < max) {
            return Err(format!("{range:?} is not a range of numbers"));
        }
        let span = f64::from(max) - f64::from(min);
        if !(step > 0.0 && f64::from(step) <= span) {
            return Err(format!("a step of {step:?} is not above zero and within {range:?}"));
        }
        // What a decimal fraction loses as an `f32` shall not cost one step more.
        let steps = libm::ceil(span / f64::from(step) * (1.0 - f64::from(f32::EPSILON)));
        let rounding = f64::from(min.abs().max(max.abs())) * f64::from(f32::EPSILON);
        if span / steps < rounding * ROUNDINGS_PER_STEP {
            return Err(format!("a step of {step:?} in {range:?} is finer than an f32 holds"));
        }
        Ok(Self { min, max, steps: steps as u32, span, per_unit: steps / span })
    }

    fn width(&self) -> u32 {
        u32::BITS - self.steps.leading_zeros()
    }

    fn steps_to(&self, value: f32) -> u64 {
        let value = if value.is_nan() { 0.0 } else { value };
        let beyond = f64::from(value.max(self.min).min(self.max)) - f64::from(self.min);
        u64::from(((beyond * self.per_unit + 0.5) as u32).min(self.steps))
    }

    fn after(&self, steps: u64) -> f32 {
        if steps == u64::from(self.steps) {
            return self.max;
        }
        let beyond = steps as f64 * self.span / f64::from(self.steps);
        ((f64::from(self.min) + beyond) as f32).max(self.min).min(self.max)
    }
}

impl<const N: usize> Quantised<N> {
    /// All parts in the same range and with the same step, in the parts' own unit.
    ///
    /// A step that does not divide the range is made the next smaller one that does. A range that is none, or a step that is not above
    /// zero, above the whole range, or finer than twice the rounding of an `f32` at the far end (0.0001 at 500), is an error of the
    /// protocol: see [`Protocol::errors`](super::Protocol::errors).
    pub fn new(range: RangeInclusive<f32>, step: f32) -> Self {
        Self::each(std::array::from_fn(|_| (range.clone(), step)))
    }

    /// Each part with a range and a step of its own. See [`Quantised::new`].
    pub fn each(parts: [(RangeInclusive<f32>, f32); N]) -> Self {
        let mut complaint = None;
        let fields = parts.map(|(range, step)| {
            Field::new(&range, step).unwrap_or_else(|error| {
                complaint = Some(error);
                Field::NONE
            })
        });
        Self { fields, layout: Layout::new(fields.map(|field| field.width())), complaint }
    }
}

impl<const N: usize> Codec<[f32; N]> for Quantised<N> {
    fn encode(&self, value: &[f32; N], out: &mut Vec<u8>) {
        let mut parts = value.iter();
        let numbers = self.fields.map(|field| parts.next().map_or(0, |part| field.steps_to(*part)));
        self.layout.pack(numbers, out);
    }

    fn decode(&self, input: &mut Reader<'_>) -> Result<[f32; N], CodecError> {
        let at = input.at();
        let numbers = self.layout.unpack(input)?;
        let mut parts = [0.0; N];
        for ((part, field), steps) in parts.iter_mut().zip(&self.fields).zip(numbers) {
            let max = u64::from(field.steps);
            if steps > max {
                return Err(CodecError::TooLarge { what: "number of steps", value: steps, max, at });
            }
            *part = field.after(steps);
        }
        Ok(parts)
    }

    fn shape(&self) -> String {
        let fields = self.fields.iter().map(|field| format!(" {:?} to {:?} in {}", field.min, field.max, field.steps));
        fields.fold("Quantised".to_owned(), |shape, field| shape + &field)
    }

    fn exact(&self) -> bool {
        false
    }

    fn complaint(&self) -> Option<String> {
        self.complaint.clone()
    }
}

/// Angles in radians, a whole turn in so many bits.
///
/// What comes back is from -π up to, but not including, π, and off by at most half of the last bit: 0.2 degrees with 10 bits,
/// 0.0055 with 15. Zero, quarter and half turns are met exactly. Infinities and NaN become zero.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{Angles, Codec};
/// # use {bevy_app::prelude::*, bevy_ecs::prelude::*, serde::{Deserialize, Serialize}};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Aim { yaw: f32, pitch: f32 }
///
/// fn protocol(app: &mut App) {
///     // Three bytes.
///     let codec = Angles::new(12).via(|aim: &Aim| [aim.yaw, aim.pitch], |[yaw, pitch]| Aim { yaw, pitch });
///     app.sync_with("aim", codec).latest();
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Angles<const N: usize> {
    bits: u32,
    layout: Layout<N>,
    complaint: Option<String>,
}

/// The most bits of a turn that an `f32` between -π and π holds.
const ANGLE_BITS_MAX: u32 = 24;

impl<const N: usize> Angles<N> {
    /// `bits` for each angle, 1 to 24: anything else is an error of the protocol, see [`Protocol::errors`](super::Protocol::errors).
    pub fn new(bits: u32) -> Self {
        let wrong = !(1..=ANGLE_BITS_MAX).contains(&bits);
        let complaint = wrong.then(|| format!("{bits} bits of a turn: 1 to {ANGLE_BITS_MAX} are allowed"));
        let bits = bits.clamp(1, ANGLE_BITS_MAX);
        Self { bits, layout: Layout::new([bits; N]), complaint }
    }

    fn turn(&self) -> f64 {
        f64::from(1_u32 << self.bits)
    }
}

impl<const N: usize> Codec<[f32; N]> for Angles<N> {
    fn encode(&self, value: &[f32; N], out: &mut Vec<u8>) {
        let numbers = value.map(|angle| {
            let turns = if angle.is_finite() { f64::from(angle) / TAU } else { 0.0 };
            let within = turns - libm::floor(turns);
            // What rounds up to a whole turn is none.
            (within * self.turn() + 0.5) as u64 & ((1 << self.bits) - 1)
        });
        self.layout.pack(numbers, out);
    }

    fn decode(&self, input: &mut Reader<'_>) -> Result<[f32; N], CodecError> {
        let half = self.turn() / 2.0;
        Ok(self.layout.unpack(input)?.map(|number| {
            let number = number as f64;
            let number = if number < half { number } else { number - self.turn() };
            (number * TAU / self.turn()) as f32
        }))
    }

    fn shape(&self) -> String {
        format!("Angles {N} of {}", self.bits)
    }

    fn exact(&self) -> bool {
        false
    }

    fn complaint(&self) -> Option<String> {
        self.complaint.clone()
    }
}

/// Integers, each in a range, side by side in as few bits as each range takes. Outside its range one becomes the end that is nearer.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{Codec, Ranged};
/// # use {bevy_app::prelude::*, bevy_ecs::prelude::*, serde::{Deserialize, Serialize}};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Unit { team: u8, level: u8, morale: i16 }
///
/// fn protocol(app: &mut App) {
///     // 2 + 6 + 8 bits: two bytes.
///     let codec = Ranged::new([0..=3, 1..=60, -100..=100]).via(
///         |unit: &Unit| [unit.team.into(), unit.level.into(), unit.morale.into()],
///         |[team, level, morale]| Unit { team: team as u8, level: level as u8, morale: morale as i16 },
///     );
///     app.sync_with("unit", codec);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Ranged<const N: usize> {
    ranges: [(i64, i64); N],
    layout: Layout<N>,
    complaint: Option<String>,
}

/// How far a number is above the least one.
fn above(number: i64, min: i64) -> u64 {
    number.wrapping_sub(min) as u64
}

impl<const N: usize> Ranged<N> {
    /// A range for each integer. One that does not hold at least two numbers is an error of the protocol, see
    /// [`Protocol::errors`](super::Protocol::errors).
    pub fn new(ranges: [RangeInclusive<i64>; N]) -> Self {
        let wrong = ranges.iter().find(|range| range.start() >= range.end());
        let complaint = wrong.map(|range| format!("{range:?} does not hold at least two numbers"));
        let ranges = ranges.map(|range| (*range.start(), *range.end().max(range.start())));
        let widths = ranges.map(|(min, max)| u64::BITS - above(max, min).leading_zeros());
        Self { ranges, layout: Layout::new(widths), complaint }
    }
}

impl<const N: usize> Codec<[i64; N]> for Ranged<N> {
    fn encode(&self, value: &[i64; N], out: &mut Vec<u8>) {
        let mut numbers = value.iter();
        let numbers = self.ranges.map(|(min, max)| numbers.next().map_or(0, |number| above((*number).max(min).min(max), min)));
        self.layout.pack(numbers, out);
    }

    fn decode(&self, input: &mut Reader<'_>) -> Result<[i64; N], CodecError> {
        let at = input.at();
        let read = self.layout.unpack(input)?;
        let mut numbers = [0; N];
        for ((number, (min, max)), value) in numbers.iter_mut().zip(self.ranges).zip(read) {
            let max = above(max, min);
            if value > max {
                return Err(CodecError::TooLarge { what: "number in a range", value, max, at });
            }
            *number = min.wrapping_add(value as i64);
        }
        Ok(numbers)
    }

    fn shape(&self) -> String {
        format!("Ranged {:?}", self.ranges)
    }

    fn exact(&self) -> bool {
        false
    }

    fn complaint(&self) -> Option<String> {
        self.complaint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of<T, C: Codec<T>>(codec: &C, value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        codec.encode(value, &mut out);
        out
    }

    /// Reads what was written, and checks that it is written the same again.
    fn back<T, C: Codec<T>>(codec: &C, value: &T) -> T {
        let bytes = bytes_of(codec, value);
        let mut input = Reader::new(&bytes);
        let read = codec.decode(&mut input).unwrap();
        input.finish().unwrap();
        assert_eq!(bytes_of(codec, &read), bytes);
        read
    }

    /// Any bytes are refused, or written the same again.
    fn survives<T, C: Codec<T>>(codec: &C, bytes: &[u8]) -> Option<T> {
        let mut input = Reader::new(bytes);
        let read = codec.decode(&mut input).ok()?;
        assert_eq!(bytes_of(codec, &read), input.since(0));
        Some(read)
    }

    #[test]
    fn three_parts_of_a_kilometre_in_millimetres_take_eight_bytes() {
        let codec = Quantised::<3>::new(-500.0..=500.0, 0.001);
        assert_eq!(codec.complaint(), None);
        assert_eq!(bytes_of(&codec, &[1.0, 2.0, 3.0]).len(), 8);
        assert_eq!(back(&codec, &[0.0, 500.0, -500.0]), [0.0, 500.0, -500.0]);
        assert_eq!(back(&codec, &[-0.0, 1e9, -1e9]), [0.0, 500.0, -500.0]);
        assert_eq!(back(&codec, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), [0.0, 500.0, -500.0]);
        assert_eq!(back(&Quantised::new(3.0..=7.0, 0.5), &[f32::NAN]), [3.0]);
    }

    #[test]
    fn a_step_that_does_not_divide_its_range_is_made_smaller() {
        let codec = Quantised::<1>::new(0.0..=1.0, 0.3);
        assert_eq!(back(&codec, &[0.3]), [0.25]);
        // What 0.7 loses as an f32 does not count.
        assert_eq!(Quantised::<1>::new(0.0..=7.0, 0.7).fields[0].steps, 10);
    }

    #[test]
    fn nonsense_is_told_and_still_does_not_panic() {
        let inf = f32::INFINITY;
        for (range, step) in [
            (0.0..=0.0, 0.1),
            (1.0..=0.0, 0.1),
            (f32::NAN..=1.0, 0.1),
            (0.0..=inf, 0.1),
            (0.0..=1.0, 0.0),
            (0.0..=1.0, -0.1),
            (0.0..=1.0, f32::NAN),
            (0.0..=1.0, inf),
            (0.0..=1.0, 2.0),
            (-500.0..=500.0, 1e-5),
            (f32::MIN..=f32::MAX, f32::MIN_POSITIVE),
        ] {
            let codec = Quantised::<2>::each([(0.0..=1.0, 0.5), (range.clone(), step)]);
            assert!(codec.complaint().is_some(), "{range:?} {step}");
            assert!(bytes_of(&codec, &[0.5, 0.5]).len() <= 4);
            assert!(survives(&codec, &[0xff; 8]).is_none());
        }
        for bits in [0, 25, u32::MAX] {
            assert!(Angles::<1>::new(bits).complaint().is_some());
            back(&Angles::<1>::new(bits), &[1.0]);
        }
        #[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
        for range in [0..=0, 1..=0, i64::MAX..=i64::MIN] {
            let codec = Ranged::new([range]);
            assert!(codec.complaint().is_some());
            back(&codec, &[5]);
        }
    }

    #[test]
    fn an_angle_wraps_round() {
        use std::f32::consts::{FRAC_PI_2, PI};
        let codec = Angles::<1>::new(10);
        let one = |angle: f32| back(&codec, &[angle])[0];
        assert_eq!([0.0, -0.0, FRAC_PI_2, -FRAC_PI_2, PI, -PI].map(one), [0.0, 0.0, FRAC_PI_2, -FRAC_PI_2, -PI, -PI]);
        assert_eq!(one(3.0 * PI / 2.0), -FRAC_PI_2);
        assert_eq!(one(2.0 * PI - 1e-4), 0.0);
        assert_eq!(one(-1e-30), 0.0);
        assert_eq!([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(one), [0.0; 3]);
        assert!(one(f32::MAX).abs() <= PI);
        assert_eq!(bytes_of(&Angles::<2>::new(12), &[1.0, 2.0]).len(), 3);
    }

    #[test]
    fn integers_stay_in_their_ranges() {
        let codec = Ranged::new([0..=3, 1..=60, -100..=100]);
        assert_eq!(bytes_of(&codec, &[3, 60, 100]).len(), 2);
        assert_eq!(back(&codec, &[2, 30, -7]), [2, 30, -7]);
        assert_eq!(back(&codec, &[i64::MIN, i64::MAX, 101]), [0, 60, 100]);
        let whole = Ranged::new([i64::MIN..=i64::MAX, 0..=1]);
        assert_eq!(back(&whole, &[i64::MIN, 1]), [i64::MIN, 1]);
        assert_eq!(back(&whole, &[i64::MAX, 0]), [i64::MAX, 0]);
        assert_eq!(bytes_of(&whole, &[0, 0]).len(), 9);
    }

    #[test]
    fn codecs_stand_in_a_row_and_serve_other_types() {
        struct Pose {
            at: [f32; 2],
            yaw: f32,
        }
        let codec =
            (Quantised::new(-10.0..=10.0, 0.1), Angles::new(7)).via(|pose: &Pose| (pose.at, [pose.yaw]), |(at, [yaw])| Pose { at, yaw });
        assert_eq!(bytes_of(&codec, &Pose { at: [1.0, 2.0], yaw: 0.0 }).len(), 3);
        let read = back(&codec, &Pose { at: [1.04, -20.0], yaw: 0.01 });
        assert_eq!((read.at, read.yaw), ([1.0, -10.0], 0.0));
        assert_eq!(codec.shape(), "Quantised -10.0 to 10.0 in 200 -10.0 to 10.0 in 200, Angles 1 of 7");
        assert!(!codec.exact() && codec.complaint().is_none());
        // Each by itself: a quantity takes none of them.
        assert!(!Angles::<1>::new(7).exact() && !Quantised::<2>::new(-10.0..=10.0, 0.1).exact());
    }

    /// A step of a walk in any direction: a cube's, so that every part moves.
    fn walk(step: f32, ticks: usize) -> Vec<[f32; 3]> {
        let mut seed = 7_u64;
        let mut chance = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let mut at = [0.0_f32; 3];
        let mut go = |_| {
            let way = [chance(), chance(), chance()];
            let length = libm::sqrtf(way.iter().map(|part| part * part).sum());
            at = std::array::from_fn(|n| (at[n] + way[n] / length * step).clamp(-500.0, 500.0));
            at
        };
        (0..ticks).map(&mut go).collect()
    }

    /// The bytes of a delta in the same steps: five bits for a width, and three signed numbers of that width.
    fn delta_bytes(codec: &Quantised<3>, before: [f32; 3], after: [f32; 3]) -> usize {
        let steps = |at: [f32; 3]| std::array::from_fn::<i64, 3, _>(|n| codec.fields[n].steps_to(at[n]) as i64);
        let (before, after) = (steps(before), steps(after));
        let zigzag = (0..3).map(|n| after[n] - before[n]).map(|delta| (delta << 1 ^ delta >> 63) as u64);
        let width = zigzag.max().map_or(0, |most| u64::BITS - most.leading_zeros());
        (5 + 3 * width as usize).div_ceil(8)
    }

    /// The figures of the module's page.
    #[test]
    fn what_deltas_would_save() {
        for (walked, step, bytes, delta) in [(1.0, 0.001, 8, 5.0), (0.1, 0.001, 8, 4.0), (1.0, 0.01, 7, 4.0), (0.1, 0.01, 7, 3.0)] {
            let codec = Quantised::<3>::new(-500.0..=500.0, step);
            let way = walk(walked, 10_000);
            let deltas: usize = way.windows(2).map(|pair| delta_bytes(&codec, pair[0], pair[1])).sum();
            let mean = deltas as f64 / (way.len() - 1) as f64;
            assert_eq!(bytes_of(&codec, &way[0]).len(), bytes);
            assert!((mean - delta).abs() < 0.05, "{walked} m a tick in {step} m: {mean} bytes");
        }
    }

    fn field() -> impl Strategy<Value = (RangeInclusive<f32>, f32)> {
        let end = || prop_oneof![-1e3_f32..1e3, -1e30_f32..1e30, -1e-3_f32..1e-3];
        (end(), end(), -23.0_f64..0.0)
            .prop_map(|(a, b, fine)| (a.min(b)..=a.max(b), ((f64::from(a) - f64::from(b)).abs() * libm::exp2(fine)) as f32))
            .prop_filter("allowed", |(range, step)| Field::new(range, *step).is_ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_part_is_off_by_half_a_step_and_is_written_the_same((range, step) in field(), at in 0.0..=1.0_f32, any: u32) {
            let codec = Quantised::each([(range.clone(), step), (0.0..=1.0, 0.1)]);
            let (min, max) = (*range.start(), *range.end());
            let value = (f64::from(min) + (f64::from(max) - f64::from(min)) * f64::from(at)) as f32;
            let off = (f64::from(back(&codec, &[value, 0.5])[0]) - f64::from(value)).abs();
            let rounding = f64::from(min.abs().max(max.abs())) * f64::from(f32::EPSILON) / 2.0;
            let half = f64::from(step) * (1.0 + f64::from(f32::EPSILON)) / 2.0;
            prop_assert!(off <= half * (1.0 + 1e-9) + rounding, "{off} off, step {step}");
            let read = back(&codec, &[f32::from_bits(any), f32::from_bits(!any)]);
            prop_assert!(range.contains(&read[0]) && (0.0..=1.0).contains(&read[1]));
            prop_assert_eq!(back(&codec, &[min, 0.0])[0], min);
            prop_assert_eq!(back(&codec, &[max, 0.0])[0], max);
        }

        #[test]
        fn any_bytes_are_refused_or_read_as_a_vector_in_its_range((range, step) in field(), bytes: [u8; 6]) {
            let codec = Quantised::<2>::new(range.clone(), step);
            if let Some(read) = survives(&codec, &bytes) {
                prop_assert!(read.iter().all(|part| range.contains(part)));
            }
            prop_assert!(survives(&codec, &[]).is_none());
        }

        #[test]
        fn an_angle_is_off_by_half_its_last_bit(angle in -100.0_f32..100.0, bits in 1..=24_u32, any: u32, bytes: [u8; 6]) {
            let codec = Angles::new(bits);
            let read = back(&codec, &[angle]);
            let turns = (f64::from(read[0]) - f64::from(angle)) / TAU;
            let off = (turns - libm::round(turns)).abs() * TAU;
            prop_assert!(off <= TAU / f64::from(1_u32 << bits) / 2.0 + 2e-7, "{off} off");
            prop_assert!(back(&codec, &[f32::from_bits(any)])[0].abs() <= std::f32::consts::PI);
            let _ = survives(&Angles::<2>::new(bits), &bytes);
        }

        #[test]
        fn an_integer_in_its_range_comes_back(ends: [i64; 2], number: i64, bytes: [u8; 9]) {
            prop_assume!(ends[0] != ends[1]);
            let range = ends[0].min(ends[1])..=ends[0].max(ends[1]);
            let codec = Ranged::new([range.clone(), 0..=2]);
            prop_assert_eq!(back(&codec, &[number, 1]), [number.clamp(*range.start(), *range.end()), 1]);
            if let Some(read) = survives(&codec, &bytes) {
                prop_assert!(range.contains(&read[0]) && (0..=2).contains(&read[1]));
            }
        }
    }
}
