//! Where real time comes into a host.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// By which part of the time that passes the host's clock goes faster, or slower, until it is right.
const BEND: u32 = 8;

/// The time since the Unix epoch, which the transport's tokens go by: that of the system at the first call, and what has passed since. Where the system's
/// clock is set, it follows little by little: connections are timed by it, and would all be silent, or never again, in one moment.
pub(super) fn unix_time() -> Duration {
    static LAST: Mutex<Option<(Duration, Instant)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // Asked under the lock, so that it never goes back.
    let (system, at) = (system_time(), instant());
    let now = last.map_or(system, |(time, then)| following(system, time, at.saturating_duration_since(then)));
    *last = Some((now, at));
    now
}

/// The time by a clock that stood at `time` and goes on by what has passed since, a little faster or slower where that brings it nearer to the system's.
fn following(system: Duration, time: Duration, passed: Duration) -> Duration {
    let (steady, bend) = (time.saturating_add(passed), passed / BEND);
    if steady < system { system.min(steady.saturating_add(bend)) } else { system.max(steady.saturating_sub(bend)) }
}

#[expect(clippy::disallowed_methods, reason = "the host is where real time comes in")]
fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the host is where real time comes in")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_system_and_goes_on_by_what_passes() {
        let (first, second, system) = (unix_time(), unix_time(), system_time());
        assert!(first <= second && second.abs_diff(system) < Duration::from_secs(60), "{second:?} for {system:?}");
    }

    #[test]
    fn a_system_clock_that_is_set_is_followed_little_by_little_and_never_backwards() {
        let [started, step] = [1_000, 1].map(Duration::from_secs);
        // It started with a clock that is 30 s ahead, or behind, of that of the system from now on.
        for begin in [1_030, 970].map(Duration::from_secs) {
            let (mut time, mut system, mut seconds) = (begin, started, 0);
            while time != system {
                system += step;
                let next = following(system, time, step);
                assert!(next >= time + step * 7 / 8 && next <= time + step * 9 / 8, "{time:?} to {next:?}");
                (time, seconds) = (next, seconds + 1);
                assert!(seconds < 1_000, "it is never right: {time:?} for {system:?}");
            }
            assert_eq!(seconds, 240);
        }
        assert_eq!(following(started + step, started, step), started + step, "one that is right stays so");
    }
}
