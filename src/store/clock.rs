//! Where real time comes into the store.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "leases run out, and what writes and publishes waits, in real time")]
pub(super) fn instant() -> Instant {
    Instant::now()
}
