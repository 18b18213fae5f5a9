//! What lies between two values of a component: how a client draws it between two ticks, and how a room looks it up between them.

use std::fmt;

type Between<T> = Box<dyn Fn(&T, &T, f32) -> T + Send + Sync>;
type Distance<T> = Box<dyn Fn(&T, &T) -> f32 + Send + Sync>;
/// Of two values, and how many ticks lie between them.
type Jumps<T> = Box<dyn Fn(&T, &T, f32) -> bool + Send + Sync>;

/// How a value goes over into the next one. A game tells it once and gives it to both sides: what a client shows is then what a room finds
/// when it looks back.
///
/// ```
/// use roomkeeper::protocol::Interpolation;
/// #[derive(Clone, Debug, PartialEq)]
/// struct Position([f32; 2]);
///
/// fn positions() -> Interpolation<Position> {
///     Interpolation::linear(|position: &Position| position.0, Position).teleport_beyond(5.0)
/// }
/// let (from, to) = (Position([0.0, 0.0]), Position([4.0, 2.0]));
/// assert_eq!(positions().blend(&from, &to, 0.25), Position([1.0, 0.5]));
/// assert_eq!(positions().blend(&from, &Position([9.0, 0.0]), 0.25), from, "nobody walks so far in a tick");
/// ```
pub struct Interpolation<T> {
    between: Between<T>,
    distance: Option<Distance<T>>,
    jumps: Option<Jumps<T>>,
}

impl<T> fmt::Debug for Interpolation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interpolation").field("jumps", &self.jumps.is_some()).finish_non_exhaustive()
    }
}

impl<T: Clone + 'static> Interpolation<T> {
    /// By a function of the game's own: from the one value (share 0) to the other (share 1).
    pub fn by(between: impl Fn(&T, &T, f32) -> T + Send + Sync + 'static) -> Self {
        Self { between: Box::new(between), distance: None, jumps: None }
    }

    /// Not at all: a value stands until the next one's time has come.
    pub fn hold() -> Self {
        Self::by(|from, _, _| from.clone())
    }

    /// Straight from one place to the other.
    pub fn linear<const N: usize>(
        get: impl Fn(&T) -> [f32; N] + Clone + Send + Sync + 'static,
        make: impl Fn([f32; N]) -> T + Send + Sync + 'static,
    ) -> Self {
        let measured = get.clone();
        let between = move |from: &T, to: &T, share: f32| {
            let (mut mixed, to) = (get(from), get(to));
            mixed.iter_mut().zip(to).for_each(|(part, to)| *part += (to - *part) * share);
            make(mixed)
        };
        let distance = move |from: &T, to: &T| {
            let squares = measured(from).into_iter().zip(measured(to)).map(|(from, to)| (to - from) * (to - from));
            libm::sqrtf(squares.sum())
        };
        Self { distance: Some(Box::new(distance)), ..Self::by(between) }
    }

    /// An angle in radians, the shorter way round.
    pub fn angle(get: impl Fn(&T) -> f32 + Clone + Send + Sync + 'static, make: impl Fn(f32) -> T + Send + Sync + 'static) -> Self {
        let measured = get.clone();
        let between = move |from: &T, to: &T, share: f32| make(get(from) + turn(get(from), get(to)) * share);
        let distance = move |from: &T, to: &T| turn(measured(from), measured(to)).abs();
        Self { distance: Some(Box::new(distance)), ..Self::by(between) }
    }

    /// A rotation as a quaternion of length one, along the shorter arc at an even speed (Shoemake, "Animating rotation with quaternion
    /// curves", 1985). Its distance is the angle, in radians.
    pub fn spherical(
        get: impl Fn(&T) -> [f32; 4] + Clone + Send + Sync + 'static,
        make: impl Fn([f32; 4]) -> T + Send + Sync + 'static,
    ) -> Self {
        let measured = get.clone();
        let between = move |from: &T, to: &T, share: f32| make(slerp(get(from), get(to), share));
        let distance = move |from: &T, to: &T| 2.0 * libm::acosf(dot(measured(from), measured(to)).abs().min(1.0));
        Self { distance: Some(Box::new(distance)), ..Self::by(between) }
    }

    /// Takes two values that are further apart in a tick for a teleport, with nothing between them. Where values between two were lost, they may be
    /// further apart by as much for each tick.
    ///
    /// # Panics
    /// If it is a function of the game's own, or `hold`, of which no distance is known: see [`teleport_if`](Self::teleport_if).
    #[must_use]
    pub fn teleport_beyond(mut self, most: f32) -> Self {
        let Some(distance) = self.distance.take() else { panic!("no distance is known between such values: use `teleport_if`") };
        self.jumps = Some(Box::new(move |from, to, ticks| distance(from, to) > most * ticks));
        self
    }

    /// Takes it for a teleport, with nothing between the two values, where the function says so.
    #[must_use]
    pub fn teleport_if(mut self, jumps: impl Fn(&T, &T) -> bool + Send + Sync + 'static) -> Self {
        self.jumps = Some(Box::new(move |from, to, _| jumps(from, to)));
        self
    }

    /// The value at a share of the way between those of two ticks that follow each other.
    pub fn blend(&self, from: &T, to: &T, share: f32) -> T {
        self.blend_over(1.0, from, to, share)
    }

    /// The same of two values between which there are so many ticks.
    pub(crate) fn blend_over(&self, ticks: f32, from: &T, to: &T, share: f32) -> T {
        match share {
            share if share >= 1.0 => to.clone(),
            share if share > 0.0 && !self.jumps.as_ref().is_some_and(|jumps| jumps(from, to, ticks.max(1.0))) => {
                (self.between)(from, to, share)
            }
            _ => from.clone(),
        }
    }
}

/// How far it is from one angle to another, the shorter way round.
fn turn(from: f32, to: f32) -> f32 {
    use std::f32::consts::{PI, TAU};
    let turned = libm::fmodf(to - from, TAU);
    match turned {
        turned if turned > PI => turned - TAU,
        turned if turned < -PI => turned + TAU,
        turned => turned,
    }
}

fn dot(a: [f32; 4], b: [f32; 4]) -> f32 {
    a.into_iter().zip(b).map(|(a, b)| a * b).sum()
}

fn slerp(from: [f32; 4], to: [f32; 4], share: f32) -> [f32; 4] {
    let cosine = dot(from, to);
    // A quaternion and its negative are the same rotation.
    let sign = if cosine < 0.0 { -1.0 } else { 1.0 };
    let angle = libm::acosf(cosine.abs().min(1.0));
    let sine = libm::sinf(angle);
    // Between two that are nearly the same the straight way is as good, and divides by nothing.
    let (a, b) = match sine > 1e-3 {
        true => (libm::sinf((1.0 - share) * angle) / sine, libm::sinf(share * angle) / sine),
        false => (1.0 - share, share),
    };
    let mut mixed = from;
    mixed.iter_mut().zip(to).for_each(|(part, to)| *part = *part * a + to * b * sign);
    let length = libm::sqrtf(dot(mixed, mixed)).max(f32::MIN_POSITIVE);
    mixed.map(|part| part / length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_angle_takes_the_shorter_way_round() {
        let angles = Interpolation::angle(|angle: &f32| *angle, |angle| angle);
        assert!((angles.blend(&3.0, &-3.0, 0.5) - std::f32::consts::PI).abs() < 1e-5);
        assert!((angles.blend(&0.5, &1.5, 0.5) - 1.0).abs() < 1e-6);
        let careful = Interpolation::angle(|angle: &f32| *angle, |angle| angle).teleport_beyond(1.0);
        // Left, right, and more than half a turn, which is 2.28 the other way.
        for to in [1.5, -1.5, 4.0] {
            assert_eq!(careful.blend(&0.0, &to, 0.5), 0.0, "{to}");
        }
        assert!(careful.blend(&0.0, &-0.8, 0.5) < 0.0 && careful.blend(&0.0, &0.8, 0.5) > 0.0);
    }

    #[test]
    fn a_rotation_by_more_than_the_angle_is_a_teleport_whichever_quaternion_tells_it() {
        let turns = |most| Interpolation::spherical(|q: &[f32; 4]| *q, |q| q).teleport_beyond(most);
        // A quarter of a turn is 1.57.
        let (still, quarter) = ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.5_f32.sqrt(), 0.5_f32.sqrt()]);
        for to in [quarter, quarter.map(|part| -part)] {
            assert_eq!(turns(1.5).blend(&still, &to, 0.5), still);
            assert_ne!(turns(1.6).blend(&still, &to, 0.5), still);
        }
    }

    #[test]
    fn a_value_that_holds_gives_way_all_at_once() {
        let hold = Interpolation::hold();
        assert_eq!([0.0, 0.5, 0.999, 1.0].map(|share| hold.blend(&1, &2, share)), [1, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_rotation_turns_evenly_and_stays_one(a in prop::array::uniform4(-1.0_f32..1.0), b in prop::array::uniform4(-1.0_f32..1.0), share in 0.0_f32..1.0) {
            prop_assume!(dot(a, a) > 0.01 && dot(b, b) > 0.01);
            let unit = |q: [f32; 4]| q.map(|part| part / dot(q, q).sqrt());
            let (a, b) = (unit(a), unit(b));
            let all = slerp(a, b, share);
            prop_assert!((dot(all, all) - 1.0).abs() < 1e-4);
            let angle = |a, b| 2.0 * dot(a, b).abs().min(1.0).acos();
            // Near a half turn both ways are equally far.
            prop_assume!(angle(a, b) < 3.0 && angle(a, b) > 0.02);
            prop_assert!((angle(a, all) - share * angle(a, b)).abs() < 5e-3, "{} of {}", angle(a, all), angle(a, b));
        }
    }
}
