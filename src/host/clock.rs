//! Where real time comes into a host.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time since the Unix epoch, which the transport's tokens go by: that of the system at the first call, and what has passed since. Where the system's
/// clock is set, it goes on as if nothing was: connections are timed by it, and would all be silent, or never again, in one moment.
pub(super) fn unix_time() -> Duration {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let (start, at) = START.get_or_init(|| (system_time(), instant()));
    start.saturating_add(at.elapsed())
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
}
