//! Which moment of the room is shown: a little ago, so that what comes late is there in time.

use std::ops::RangeInclusive;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::connection::Connection;
use super::replica::Replica;
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{RoomId, Speed};

/// How the shown time goes at most faster than time does, and slower, to come where it should be.
const FASTER: f64 = 0.1;
const SLOWER: f64 = 0.25;

/// What share of the way it goes in a tick.
const EASE: f64 = 0.1;

/// Beyond so many ticks it leaps ahead, as after a stall of the game's own.
const LEAP_TICKS: f64 = 10.0;

/// So many ticks too far ahead it stands still until the room has caught up, and so many are of another run of the room.
const STILL_TICKS: f64 = 4.0;
const OTHER_RUN_TICKS: f64 = 100.0;

/// A tick to go from one value to the next, and some of it for what no measure shows.
const LEAST_TICKS: f64 = 1.1;

/// The share of lost packets from which on it is waited a whole tick longer: the value after the lost one is then there in time.
const LOSS_WHOLE: f64 = 0.02;

/// The moment of the room that the client shows. A resource, there if the game [interpolates](super::InterpolateAppExt) something.
///
/// It goes on by itself with each frame, behind the newest that can be here: by a tick, by what 19 of 20 ticks come late at most, and by up to
/// one tick more where packets are lost. When that changes, it goes a little faster or slower, up to a tenth faster. It goes back only where it is five
/// seconds ahead of the room or more: that is another run of it, or a clock that was wrong.
#[derive(Resource, Clone, Debug)]
pub struct ShownTime {
    pub(super) bounds: RangeInclusive<Duration>,
    tick: Option<f64>,
    delay: f64,
    passed: f64,
    leapt: bool,
    last: Duration,
    run: (RoomId, u64),
}

impl Default for ShownTime {
    fn default() -> Self {
        Self {
            bounds: Duration::from_millis(TICK_MILLIS)..=Duration::from_millis(300),
            tick: None,
            delay: LEAST_TICKS,
            passed: 0.0,
            leapt: false,
            last: Duration::ZERO,
            run: (RoomId::named(""), 0),
        }
    }
}

impl ShownTime {
    /// The tick that is shown, with a fraction. `None` until the client is in a room.
    pub fn tick(&self) -> Option<f64> {
        self.tick
    }

    /// How far it is to be behind what the quickest packets bring.
    pub fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.delay * TICK_MILLIS as f64 / 1_000.0)
    }

    /// The ticks that passed with the last frame, and whether the shown time leapt.
    pub(super) fn frame(&self) -> (f64, bool) {
        (self.passed, self.leapt)
    }

    /// Goes on to a frame, of which it is known when the tick comes whose packets come now, what share of packets is late by how many ticks,
    /// and what share is lost.
    fn advance(&mut self, now: Duration, run: (RoomId, u64), (arriving, speed): (Option<f64>, Speed), lateness: f64, loss: f64) {
        let ticks = |time: Duration| time.as_secs_f64() * 1_000.0 / TICK_MILLIS as f64;
        let frame = ticks(now.saturating_sub(self.last));
        self.passed = frame * speed.ratio();
        self.last = now;
        if run != self.run {
            (self.run, self.tick) = (run, None);
        }
        self.leapt = false;
        let Some(arriving) = arriving else { return };
        if let Some(tick) = self.tick.filter(|_| speed.is_still()) {
            // Nothing will come late any more: what a step of an operator brings is shown to its end.
            self.passed = (arriving - tick).clamp(0.0, frame);
            self.tick = Some(tick + self.passed);
            return;
        }
        let wanted = LEAST_TICKS + lateness + (loss / LOSS_WHOLE).min(1.0);
        self.delay = wanted.clamp(ticks(*self.bounds.start()), ticks(*self.bounds.end()).max(ticks(*self.bounds.start())));
        let target = (arriving - self.delay).max(0.0);
        let ahead = self.tick.map(|tick| tick + self.passed - target);
        self.tick = Some(match (self.tick, ahead) {
            (Some(tick), Some(ahead)) if ahead > STILL_TICKS && ahead < OTHER_RUN_TICKS => tick,
            (Some(tick), Some(ahead)) if ahead.abs() <= LEAP_TICKS => tick + self.passed * (1.0 - (ahead * EASE).clamp(-FASTER, SLOWER)),
            _ => {
                self.leapt = true;
                target
            }
        });
    }
}

/// Lets the shown time go on to this frame.
pub(super) fn advance(mut shown: ResMut<ShownTime>, connection: Res<Connection>, replica: Res<Replica>) {
    let inflow = connection.inflow();
    let now = connection.now();
    // Before the client is in, it is not known of which run of which room the packets tell.
    let run = if replica.live { (replica.room, replica.epoch) } else { shown.run };
    let arriving = inflow.clock().arriving_tick(now).filter(|_| replica.live);
    shown.advance(now, run, (arriving, connection.speed()), inflow.clock().lateness(), inflow.loss());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUN: fn() -> (RoomId, u64) = || (RoomId::named("a"), 1);

    #[test]
    fn it_leaps_ahead_after_a_stall_and_starts_over_in_another_room() {
        let mut shown = ShownTime::default();
        shown.advance(Duration::from_millis(1_000), RUN(), (Some(20.0), Speed::FULL), 0.0, 0.0);
        assert!((shown.tick().unwrap() - 18.9).abs() < 1e-9);
        shown.advance(Duration::from_millis(1_016), RUN(), (Some(80.0), Speed::FULL), 0.0, 0.0);
        assert!(shown.leapt && shown.tick() > Some(78.0));
        shown.advance(Duration::from_millis(1_032), RUN(), (None, Speed::FULL), 0.0, 0.0);
        assert!(shown.tick() > Some(78.0), "it waits while nothing is known");
        shown.advance(Duration::from_millis(1_048), (RoomId::named("b"), 1), (Some(3.0), Speed::FULL), 0.0, 0.0);
        assert!(shown.tick() < Some(3.0));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_faster_than_a_tenth(
            frames in prop::collection::vec((1..100_u64, -80..80_i64, 0.0..3.0_f64, 0.0..0.1_f64), 1..400),
        ) {
            let (mut shown, mut now) = (ShownTime::default(), 10_000);
            let mut before = None;
            for (millis, off, lateness, loss) in frames {
                now += millis;
                shown.advance(Duration::from_millis(now), RUN(), (Some((now as i64 + off) as f64 / 50.0), Speed::FULL), lateness, loss);
                let tick = shown.tick().unwrap();
                if let Some(before) = before {
                    let step: f64 = tick - before;
                    prop_assert!(step >= 0.0, "back by {step}");
                    prop_assert!(shown.leapt || step <= millis as f64 / 50.0 * 1.100_001, "{step} in {millis} ms");
                }
                before = Some(tick);
            }
        }
    }
}
