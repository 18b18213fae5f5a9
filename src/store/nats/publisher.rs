//! The publisher, as its host sees it: started, asked how it does, stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::clock::instant;
use super::super::tables::Store;
use super::super::writer::Writer;
use super::failure::NatsError;
use super::options::NatsOptions;
use super::work::Work;

/// How long a publisher may take to notice that its time is up.
const GRACE: Duration = Duration::from_millis(500);

/// How a publisher does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherReport {
    /// True while there is a connection, and a stream that takes facts.
    pub is_connected: bool,
    /// Facts that the stream took.
    pub published: u64,
    /// Of them, those that it had before, and let fall.
    pub doubles: u64,
    /// Durable facts of open rooms, and of others with facts left, that the stream does not have yet.
    pub waiting: u64,
    /// Facts that were deleted from the ledger before they were published.
    pub missing: u64,
    /// How often something failed, and was tried again.
    pub failures: u64,
    /// Rooms whose facts are not published, because the stream or the ledger has what it should not. The log says which.
    pub rooms_refused: u64,
    /// Why nothing can be published at the moment, if so.
    pub failing: Option<String>,
}

/// What the host's threads and the publisher's both see.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) is_connected: AtomicBool,
    pub(super) published: AtomicU64,
    pub(super) doubles: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) missing: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) rooms_refused: AtomicU64,
    failing: Mutex<Option<String>>,
    until: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn set_failing(&self, failing: Option<String>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }

    /// Until when it may go on; nothing as long as it is not to stop.
    pub(super) fn stops_at(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once it may not wait for anything any more.
    pub(super) fn is_out_of_time(&self) -> bool {
        self.stops_at().is_some_and(|until| instant() >= until)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stops_at().is_some()
    }

    fn stop(&self, within: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(instant() + within);
    }
}

/// Publishes the durable facts of the rooms that a writer has open, and of others in its store with facts left. Dropping it stops it at once.
pub struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    last_words: Duration,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("report", &self.report()).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Starts a publisher, which reads by `reader` what the writer stores. It waits for no server: it connects by itself, and goes on trying. A writer has one.
    ///
    /// # Errors
    /// If an option is wrong, or the system gives no thread.
    pub fn start(options: &NatsOptions, writer: &Writer, reader: Box<dyn Store>) -> Result<Self, NatsError> {
        let target = options.check()?;
        let shared = Arc::new(Shared::default());
        let work = Work::new(target, reader, (writer.fresh_facts(), writer.cursor_keeper()), shared.clone());
        let thread = std::thread::Builder::new().name("roomkeeper-nats".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(|error| NatsError::Io { what: "the publisher's thread can't be started", error })?;
        Ok(Self { shared, thread: Some(thread), last_words: options.last_words })
    }

    /// How it does.
    pub fn report(&self) -> PublisherReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &*self.shared;
        PublisherReport {
            is_connected: shared.is_connected.load(Ordering::Relaxed),
            published: count(&shared.published),
            doubles: count(&shared.doubles),
            waiting: count(&shared.waiting),
            missing: count(&shared.missing),
            failures: count(&shared.failures),
            rooms_refused: count(&shared.rooms_refused),
            failing: shared.failing.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Publishes what waits, as long as the server takes it and its last words may take, and stops. What is left is published by the next process.
    pub fn stop(mut self) -> PublisherReport {
        self.end(self.last_words);
        self.report()
    }

    fn end(&mut self, within: Duration) {
        self.shared.stop(within);
        let Some(thread) = self.thread.take() else { return };
        let until = instant() + within + GRACE;
        while !thread.is_finished() && instant() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        // It may wait for a database that hangs: then it is left behind, and ends by itself.
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the publisher panicked");
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
