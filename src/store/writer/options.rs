//! How a writer works, and what it says of its work.

use std::time::Duration;

/// How a writer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterOptions {
    /// From one flush to the next. A crash costs at most this and the time that a commit takes. Default: 50 ms.
    pub flush_every: Duration,
    /// How many flushes from one sealing of a room to its next: its ticks go from the journal into chunks that SQL reads. 1 seals
    /// with each flush. Default: 20.
    pub seal_every: u32,
    /// How many ticks the table of components may be behind. Default: 100. With 1, and `seal_every` 1, it is as of the last flush.
    pub components_every: u32,
    /// How many ticks from one checkpoint to the next. Default: 600.
    pub checkpoint_every: u32,
    /// How many bytes may wait. From half of it on rooms refuse commands, and when it is full they stand still, until the store has
    /// caught up. Default: 64 MiB.
    pub buffer_bytes_max: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            flush_every: Duration::from_millis(50),
            seal_every: 20,
            components_every: 100,
            checkpoint_every: 600,
            buffer_bytes_max: 64 << 20,
        }
    }
}

/// How far the store is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// It keeps up.
    Easy,
    /// More than half of the buffer is full: commands are to be refused.
    High,
    /// The buffer is full: rooms are to stand still.
    Full,
}

/// What a writer did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WriterReport {
    /// How many flushes were committed.
    pub flushes: u64,
    /// The longest that a commit took.
    pub commit_max: Duration,
    /// How long all commits took together.
    pub commit_sum: Duration,
    /// How often a commit failed and was tried again.
    pub retries: u64,
    /// The processor time that its thread used, where the system tells.
    pub busy: Duration,
    /// How often a room's [snapshot](super::Handle::audit) differed from what its batches told.
    pub differences: u64,
    /// The first of these differences, a sentence each.
    pub told: Vec<String>,
    /// Why the last commit failed, if it was given up: what waited is lost.
    pub given_up: Option<String>,
}
