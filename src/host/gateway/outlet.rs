//! The way out of a gateway with threads of its own, for many that send at once.

use std::sync::Arc;

use super::exchange::{Exchange, Round};
use crate::host::session::ConnectionId;
use crate::protocol::{RAW_BYTES_MAX, is_raw};

/// What one sender has for the threads of a gateway. Each has its own.
#[derive(Debug, Default)]
pub(in crate::host) struct Outlet {
    threads: Vec<(Arc<Exchange>, Round)>,
}

impl Clone for Outlet {
    fn clone(&self) -> Self {
        Self::new(self.threads.iter().map(|(exchange, _)| Arc::clone(exchange)).collect())
    }
}

impl Outlet {
    pub(super) fn new(exchanges: Vec<Arc<Exchange>>) -> Self {
        Self { threads: exchanges.into_iter().map(|exchange| (exchange, Round::default())).collect() }
    }

    /// Queues a packet, in parts, for a connection that this thread of the gateway has. False if it can't be sent.
    pub(in crate::host) fn send(&mut self, thread: usize, connection: ConnectionId, parts: &[&[u8]]) -> bool {
        let first = parts.iter().copied().find(|part| !part.is_empty()).unwrap_or_default();
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if !is_raw(first) || size > RAW_BYTES_MAX {
            return false;
        }
        self.threads.get_mut(thread).is_some_and(|(_, round)| round.add_packet(connection, parts))
    }

    /// Closes a connection once what is queued is sent.
    pub(in crate::host) fn close(&mut self, thread: usize, connection: ConnectionId) {
        if let Some((_, round)) = self.threads.get_mut(thread) {
            round.closes.push(connection);
        }
    }

    /// Hands over what is queued.
    pub(in crate::host) fn flush(&mut self) {
        self.threads.iter_mut().for_each(|(exchange, round)| exchange.hand_over(round));
    }
}
