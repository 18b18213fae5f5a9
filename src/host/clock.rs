//! Where real time comes into a host.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time since the Unix epoch, which the transport's tokens go by.
#[expect(clippy::disallowed_methods, reason = "the host is where real time comes in")]
pub(super) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the host is where real time comes in")]
pub(super) fn instant() -> Instant {
    Instant::now()
}
