//! When a room ticks: at absolute times, so that nothing drifts.

use std::time::Duration;

use crate::room::RoomClock;

/// The most ticks that a room which fell behind makes up for at once. More are skipped: room time then stands still for as
/// long as the host did, and the room goes on at its pace.
pub const CATCH_UP_TICKS_MAX: u32 = 4;

/// Says when a room ticks. Its `n`-th tick is due at `start + phase + n * 50 ms`, however late the one before was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pacer {
    next: Duration,
    late_max: Duration,
    skipped: u64,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// How many ticks to run now, one after the other.
    pub ticks: u32,
    /// How late the first of them is.
    pub late: Duration,
    /// How many ticks were given up.
    pub skipped: u64,
}

impl Pacer {
    /// Starts at `now`; `phase`, below 50 ms, spreads the rooms of a host over the interval.
    pub fn new(now: Duration, phase: Duration) -> Self {
        Self { next: now + phase + RoomClock::STEP, late_max: Duration::ZERO, skipped: 0 }
    }

    /// The phase of the `nth` room of a host: the golden ratio spreads any number of them evenly.
    pub fn phase(nth: u64) -> Duration {
        Duration::from_micros((nth * 30_902) % 50_000)
    }

    /// When the next tick is due.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// The ticks that are due at `now`. They count as run.
    pub fn due(&mut self, now: Duration) -> Due {
        let Some(late) = now.checked_sub(self.next) else { return Due { ticks: 0, late: Duration::ZERO, skipped: 0 } };
        self.late_max = self.late_max.max(late);
        let missed = late.as_millis() / RoomClock::STEP.as_millis();
        let behind = u64::try_from(missed).unwrap_or(u64::MAX).saturating_add(1);
        let ticks = behind.min(u64::from(CATCH_UP_TICKS_MAX));
        let skipped = behind - ticks;
        self.skipped += skipped;
        // Skipped time is skipped in whole ticks: the phase stays.
        self.next += RoomClock::STEP * u32::try_from(behind).unwrap_or(u32::MAX);
        Due { ticks: ticks as u32, late, skipped }
    }

    /// The latest that a tick ever was.
    pub fn late_max(&self) -> Duration {
        self.late_max
    }

    /// How many ticks were given up.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn an_hour_of_late_wakeups_does_not_drift() {
        let mut pacer = Pacer::new(Duration::ZERO, 13 * MILLI);
        let (mut now, mut ticks) = (Duration::ZERO, 0);
        while now < Duration::from_secs(3600) {
            // The host always wakes up 0 to 6 ms late.
            now = pacer.next() + MILLI * (ticks % 7);
            ticks += pacer.due(now).ticks;
        }
        assert!((71_999..=72_001).contains(&ticks), "{ticks}");
        assert_eq!(pacer.skipped(), 0);
    }

    #[test]
    fn a_short_stall_is_made_up_for() {
        let mut pacer = Pacer::new(Duration::ZERO, Duration::ZERO);
        let due = pacer.due(170 * MILLI);
        assert_eq!(due, Due { ticks: 3, late: 120 * MILLI, skipped: 0 });
        assert_eq!(pacer.next(), 200 * MILLI);
    }

    #[test]
    fn a_long_stall_is_skipped_and_the_phase_stays() {
        let mut pacer = Pacer::new(Duration::ZERO, 7 * MILLI);
        let due = pacer.due(Duration::from_secs(60));
        assert_eq!((due.ticks, due.skipped), (CATCH_UP_TICKS_MAX, 1199 - u64::from(CATCH_UP_TICKS_MAX)));
        assert_eq!(pacer.next().as_millis() % 50, 7);
        assert_eq!(pacer.due(pacer.next()).ticks, 1);
    }
}
