//! Why a command was not obeyed, as it travels.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::limits::{REJECTION_CODE_BYTES_MAX, REJECTION_DETAIL_BYTES_MAX};

/// Why a command was not obeyed. Its author alone hears of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rejection {
    /// The reason, in a form that a program can act on: `no_ammo`.
    pub code: String,
    /// The reason for a person; may be empty.
    pub detail: String,
}

impl Rejection {
    /// The code of an error in a handler that is no rejection. Its text stays in the server's log.
    pub const INTERNAL: &'static str = "internal";

    /// A rejection with a code, cut to [`REJECTION_CODE_BYTES_MAX`].
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: cut(code.into(), REJECTION_CODE_BYTES_MAX), detail: String::new() }
    }

    /// Adds a sentence for a person, cut to [`REJECTION_DETAIL_BYTES_MAX`].
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = cut(detail.into(), REJECTION_DETAIL_BYTES_MAX);
        self
    }

    /// As long as one may be that is told or stored. A game may fill the fields in by itself.
    pub(crate) fn in_short(self) -> Self {
        Self::new(self.code).because(self.detail)
    }
}

/// As much of a text as so many bytes hold, whole characters only.
pub(super) fn beginning(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

fn cut(mut text: String, max: usize) -> String {
    text.truncate(beginning(&text, max).len());
    text
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => f.write_str(&self.code),
            detail => write!(f, "{}: {detail}", self.code),
        }
    }
}

/// An error in a handler becomes the one public code [`Rejection::INTERNAL`]; what it says goes to the log: as a warning when as many have failed as a power
/// of two, since a client can make them fail as often as it likes, and at debug each time.
impl<E: std::error::Error> From<E> for Rejection {
    fn from(error: E) -> Self {
        static FAILED: AtomicU64 = AtomicU64::new(0);
        let times = FAILED.fetch_add(1, Ordering::Relaxed) + 1;
        if times.is_power_of_two() {
            tracing::warn!(%error, times, "a command handler failed; its command is rejected");
        } else {
            tracing::debug!(%error, times, "a command handler failed; its command is rejected");
        }
        Self::new(Self::INTERNAL)
    }
}
