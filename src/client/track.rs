//! The last values of one component of one entity, as of their ticks, and how far of them has been shown.

use std::collections::VecDeque;

use bevy_ecs::prelude::*;

use super::inflow::Gaps;
use crate::protocol::Interpolation;

/// Most values that are kept of one component of one entity.
const VALUES_MAX: usize = 10;

/// How much faster than time goes what was held up catches up; and in how many ticks it does, at least, if it is far behind.
const CATCH_UP: f64 = 1.3;
const CATCH_UP_TICKS: f64 = 4.0;

/// Values this many ticks apart may be of something that moves evenly, only not with each tick.
const PACE_MAX: u32 = 4;

/// Where packets were lost more than once, something that was silent for so many ticks is taken to have moved all the while, and beyond that
/// to have stood.
const LOST_MAX: u32 = 10;

/// A value that stood from one tick to another.
#[derive(Clone, Debug)]
struct Standing<T> {
    since: f64,
    until: f64,
    value: T,
}

/// The values of one component of one entity, oldest first. There is always one.
#[derive(Component, Clone, Debug)]
pub(super) struct Track<T: Send + Sync + 'static> {
    values: VecDeque<Standing<T>>,
    /// Up to where it has been shown, in ticks.
    at: f64,
    /// The ticks between the last values, where that tells of a pace.
    paces: [u32; 2],
    /// Something came since it was shown.
    fresh: bool,
}

impl<T: Clone + Send + Sync + 'static> Track<T> {
    /// Begins with the value as of a tick.
    pub(super) fn new(tick: u32, value: T) -> Self {
        let since = f64::from(tick);
        Self { values: [Standing { since, until: since, value }].into(), at: since, paces: [1; 2], fresh: true }
    }

    /// Takes the value as of a tick. Where no packet was missing, a value that did not come did not change.
    pub(super) fn push(&mut self, tick: u32, value: T, gaps: Gaps) {
        let since = f64::from(tick);
        self.fresh = true;
        let Some(last) = self.values.back_mut() else { return *self = Self::new(tick, value) };
        if since < last.since {
            // Time does not go back but where the room is another run.
            return *self = Self::new(tick, value);
        }
        if since == last.since {
            last.value = value;
            return;
        }
        let (last_tick, silent) = (last.since as u32, tick - last.since as u32);
        let known = gaps.whole_since <= last_tick || gaps.whole_since > tick;
        let (whole_from, whole_to) = gaps.before;
        let slow = self.paces.iter().any(|pace| *pace > 1);
        last.until = match silent {
            1 => last.since,
            2..=PACE_MAX if known && slow => last.since,
            _ if known => since - 1.0,
            // What changed in a gap, or after it, stood until then, if it was told of all before.
            _ if silent > LOST_MAX => f64::from(whole_to.max(tick - LOST_MAX).clamp(last_tick, tick - 1)),
            _ if last_tick >= whole_from => f64::from(whole_to.clamp(last_tick, tick - 1)),
            _ => last.since,
        };
        let pace = if known && silent <= PACE_MAX { silent } else { 1 };
        self.paces = [self.paces[1], pace];
        self.values.push_back(Standing { since, until: since, value });
        if self.values.len() > VALUES_MAX {
            // Not one of the two between which it is now: that would be seen.
            self.values.remove(2);
        }
    }

    /// True if nothing is to be shown but what is shown already.
    pub(super) fn is_at_rest(&self) -> bool {
        self.values.len() == 1 && !self.fresh
    }

    /// Forgets all but the newest value, which somebody else shows.
    pub(super) fn forget(&mut self) {
        self.values.drain(..self.values.len().saturating_sub(1));
        self.fresh = false;
        self.at = self.values.back().map_or(self.at, |newest| newest.since);
    }

    /// The value to be shown at a time in ticks, some time after the last one was: on the way there, and never back. With `leap` at once.
    pub(super) fn advance(&mut self, time: f64, passed: f64, leap: bool, by: &Interpolation<T>) -> Option<T> {
        self.fresh = false;
        let time = time - f64::from(self.paces.iter().copied().max().unwrap_or(1) - 1);
        let behind = (time - self.at).max(0.0);
        let mut left = if leap { f64::INFINITY } else { passed * CATCH_UP.max(behind / CATCH_UP_TICKS) };
        loop {
            let [now, next] = [self.values.front()?, self.values.get(1).unwrap_or(self.values.front()?)];
            // Nobody sees time pass while nothing moves.
            self.at = self.at.max(time.min(now.until));
            if self.values.len() == 1 || self.at < now.until {
                return Some(now.value.clone());
            }
            let step = (time - self.at).min(next.since - self.at).min(left).max(0.0);
            (self.at, left) = (self.at + step, left - step);
            if next.since - self.at > 1e-6 {
                let ticks = next.since - now.until;
                return Some(by.blend_over(ticks as f32, &now.value, &next.value, ((self.at - now.until) / ticks) as f32));
            }
            self.at = self.at.max(next.since);
            self.values.pop_front();
        }
    }

    /// The time as of which it is shown, in ticks.
    #[cfg(test)]
    fn at(&self) -> f64 {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: Gaps = Gaps { whole_since: 0, before: (0, 0) };

    fn straight() -> Interpolation<f32> {
        Interpolation::linear(|x: &f32| [*x], |[x]| x).teleport_beyond(100.0)
    }

    /// Frames of a third of a tick from one time to another.
    fn frames(track: &mut Track<f32>, from: f64, to: f64) -> Vec<f32> {
        let count = ((to - from) * 3.0).round() as u32;
        (1..=count).map(|n| track.advance(from + f64::from(n) / 3.0, 1.0 / 3.0, false, &straight()).unwrap()).collect()
    }

    #[test]
    fn what_stood_for_long_and_then_moves_starts_a_tick_before_it_is_elsewhere() {
        let mut track = Track::new(10, 1.0);
        assert!(frames(&mut track, 10.0, 58.0).iter().all(|x| *x == 1.0));
        track.push(60, 2.0, WHOLE);
        assert!(frames(&mut track, 58.0, 59.0).iter().all(|x| *x == 1.0), "it stood until tick 59");
        let moved = frames(&mut track, 59.0, 60.0);
        assert!((moved[0] - 1.333).abs() < 0.01 && (moved[2] - 2.0).abs() < 1e-3, "{moved:?}");
        assert!(frames(&mut track, 60.0, 70.0).iter().all(|x| *x == 2.0), "and stands, without drifting on");
    }

    #[test]
    fn a_value_that_was_lost_is_gone_over_evenly() {
        let mut track = Track::new(10, 0.0);
        track.push(11, 1.0, WHOLE);
        // 12 was lost, which 13 tells.
        track.push(13, 3.0, Gaps { whole_since: 13, before: (0, 11) });
        let shown = frames(&mut track, 10.0, 13.0);
        assert!(shown.windows(2).all(|pair| (pair[1] - pair[0] - 1.0 / 3.0).abs() < 1e-4), "{shown:?}");
    }

    #[test]
    fn what_stood_and_whose_first_step_was_lost_stood_until_then() {
        let mut track = Track::new(10, 0.0);
        track.push(60, 2.0, Gaps { whole_since: 60, before: (30, 58) });
        assert!(frames(&mut track, 10.0, 58.0).iter().all(|x| *x == 0.0));
        let moved = frames(&mut track, 58.0, 60.0);
        assert!(moved.windows(2).all(|pair| (pair[1] - pair[0] - 1.0 / 3.0).abs() < 1e-3), "{moved:?}");
    }

    #[test]
    fn what_moves_with_every_second_tick_moves_evenly() {
        let mut track = Track::new(10, 0.0);
        let mut shown = Vec::new();
        for tick in (12..60).step_by(2) {
            track.push(tick, tick as f32 - 10.0, WHOLE);
            shown.extend(frames(&mut track, f64::from(tick) - 3.0, f64::from(tick) - 1.0));
        }
        let steps: Vec<f32> = shown.windows(2).skip(20).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| *step > 0.3 && *step < 0.36), "{steps:?}");
    }

    #[test]
    fn a_teleport_is_shown_when_its_time_has_come_and_not_before() {
        let mut track = Track::new(10, 0.0);
        track.push(11, 500.0, WHOLE);
        assert_eq!(frames(&mut track, 10.0, 11.0), [0.0, 0.0, 500.0]);
    }

    #[test]
    fn what_is_as_quick_as_nothing_else_does_not_leap_where_values_were_lost() {
        let quick = Interpolation::linear(|x: &f32| [*x], |[x]| x).teleport_beyond(1.5);
        let mut track = Track::new(10, 0.0);
        track.push(11, 1.0, WHOLE);
        // 12 and 13 were lost, which 14 tells.
        track.push(14, 4.0, Gaps { whole_since: 14, before: (0, 11) });
        let shown: Vec<f32> = (1..=12).map(|n| track.advance(10.0 + f64::from(n) / 3.0, 1.0 / 3.0, false, &quick).unwrap()).collect();
        assert!(shown.windows(2).all(|pair| (pair[1] - pair[0] - 1.0 / 3.0).abs() < 1e-4), "{shown:?}");
        track.push(15, 6.0, WHOLE);
        let shown = [1, 2, 3].map(|n| track.advance(14.0 + f64::from(n) / 3.0, 1.0 / 3.0, false, &quick).unwrap());
        assert_eq!(shown, [4.0, 4.0, 6.0], "and what is further apart in a tick is a teleport still");
    }

    #[test]
    fn what_was_held_up_catches_up_by_a_third_faster() {
        let mut track = Track::new(10, 0.0);
        track.push(11, 1.0, WHOLE);
        assert_eq!(frames(&mut track, 10.0, 14.0).last(), Some(&1.0));
        for tick in 15..40 {
            track.push(tick, tick as f32 - 10.0, Gaps { whole_since: 15, before: (0, 11) });
        }
        let shown = frames(&mut track, 14.0, 38.0);
        let most = shown.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f32::max);
        assert!(most <= 1.3 / 3.0 + 1e-4, "{most}");
        assert!((shown.last().unwrap() - 28.0).abs() < 1e-3, "{shown:?}");
    }

    proptest! {
        #[test]
        fn it_is_always_between_values_that_came_never_back_and_of_bounded_size(
            arrivals in prop::collection::vec((0..6_u32, -3..20_i32, 0..40_u32, prop::bool::weighted(0.9)), 1..300),
        ) {
            // A thing that goes forward only, by steps of up to one, of which some values come late, some never.
            let (mut tick, mut x, mut time) = (5_u32, 0.0_f32, 2.0_f64);
            let mut track = Track::new(tick, x);
            let (mut known, mut before, mut at, mut lost) = (x, 0.0_f32, f64::MIN, 0);
            for (ticks, goes, thirds, comes) in arrivals {
                for _ in 0..ticks {
                    tick += 1;
                    x += goes.max(0) as f32 / 20.0;
                }
                if comes {
                    track.push(tick, x, if goes < 0 { Gaps { whole_since: tick, before: (lost, tick - 1) } } else { WHOLE });
                    lost = if goes < 0 { tick } else { lost };
                    known = x;
                }
                for _ in 0..thirds / 8 {
                    time += 1.0 / 3.0;
                    let shown = track.advance(time, 1.0 / 3.0, false, &straight()).unwrap();
                    prop_assert!(shown >= before - 1e-3 && shown <= known + 1e-3, "{before} {shown} {known}");
                    prop_assert!(track.at() >= at && track.values.len() <= VALUES_MAX);
                    (before, at) = (shown, track.at());
                }
            }
            // In the end it is where the thing is.
            track.push(tick + 1, x, WHOLE);
            let end = track.advance(f64::from(tick) + 20.0, 1_000.0, false, &straight()).unwrap();
            prop_assert!((end - x).abs() < 1e-3, "{end} {x}");
        }
    }
}
