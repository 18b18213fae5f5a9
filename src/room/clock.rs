//! The room's own time: a count of ticks, the same in every run.

use std::time::Duration;

use bevy_ecs::prelude::*;

use crate::protocol::RoomTick;
use crate::protocol::limits::TICK_MILLIS;

/// The time of a room. It advances by 50 ms per tick and knows nothing of the wall clock.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomClock {
    pub(crate) tick: RoomTick,
}

impl RoomClock {
    /// The length of a tick.
    pub const STEP: Duration = Duration::from_millis(TICK_MILLIS);

    /// The tick that runs, or that ran last.
    pub fn tick(&self) -> RoomTick {
        self.tick
    }

    /// The time since the room was created.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::from(self.tick.0) * TICK_MILLIS)
    }

    /// How many ticks a time takes, rounded up: nothing ends early.
    pub fn ticks_in(time: Duration) -> u32 {
        u32::try_from(time.as_millis().div_ceil(u128::from(TICK_MILLIS))).unwrap_or(u32::MAX)
    }
}

/// A run condition: true once every `period` of room time, counted from the room's creation.
///
/// ```
/// use std::time::Duration;
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::room::{every, RoomClock};
///
/// fn heartbeat() {}
/// fn rules(app: &mut App) {
///     app.add_systems(FixedUpdate, heartbeat.run_if(every(Duration::from_secs(5))));
/// }
/// ```
pub fn every(period: Duration) -> impl FnMut(Res<RoomClock>) -> bool + Clone {
    let ticks = RoomClock::ticks_in(period).max(1);
    move |clock| clock.tick.0 % ticks == 0
}

/// A component that counts down in room time.
///
/// It is plain state: sync it if replicas should see it. [`Countdown::tick`] is called by the game's own system, so that a
/// game can pause what it likes.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Countdown {
    /// How many ticks are left.
    pub ticks: u32,
}

impl Countdown {
    /// Starts at a time, rounded up to whole ticks, and to one at least: it has to run out once.
    pub fn new(time: Duration) -> Self {
        Self { ticks: RoomClock::ticks_in(time).max(1) }
    }

    /// Counts one tick. True in the tick in which it runs out, and in no other.
    pub fn tick(&mut self) -> bool {
        let runs_out = self.ticks == 1;
        self.ticks = self.ticks.saturating_sub(1);
        runs_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_runs_out_once() {
        for (millis, ticks) in [(0, 1), (10, 1), (150, 3)] {
            let mut countdown = Countdown::new(Duration::from_millis(millis));
            let ends: Vec<usize> = (1..=10).filter(|_| countdown.tick()).collect();
            assert_eq!((ends, countdown.ticks), (vec![ticks], 0), "{millis} ms");
        }
    }
}
