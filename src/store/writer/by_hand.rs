//! A writer without a thread: it writes when it is told to, for simulations in which nothing happens by itself.

use std::sync::{Mutex, PoisonError};

use super::super::error::StoreError;
use super::super::tables::Store;
use super::{Work, Writer, WriterOptions};

/// How often a flush is tried before it is given up.
pub(super) const TRIES_MAX: u32 = 32;

impl Writer {
    /// A writer that writes only when it is [told to](Self::step), and gives up a flush that fails 32 times: nobody else could mend the store
    /// meanwhile.
    ///
    /// # Errors
    /// If the store can't be read or written.
    pub fn by_hand(store: Box<dyn Store>, options: WriterOptions, report: impl FnMut(String)) -> Result<Self, StoreError> {
        let mut work = Work::new(store, options, report)?;
        work.by_hand = Some(0);
        Ok(Self { shared: work.shared.clone(), thread: None, work: Some(Mutex::new(work)), options })
    }

    /// Writes what waits, if this writer does so by hand.
    pub fn step(&self) {
        let Some(work) = &self.work else { return };
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (waiting, syncs) = self.shared.waiting().take();
            if work.round(waiting, syncs) {
                return;
            }
        }
    }

    /// Ends a writer that works by hand as a crash would: what waits is not written.
    pub fn abandon(mut self) {
        self.work = None;
    }
}
