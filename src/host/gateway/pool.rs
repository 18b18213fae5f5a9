//! The threads of a gateway, as the host's thread sees them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::counters::GatewayCounters;
use super::event::{GatewayEvent, Gone};
use super::exchange::{Exchange, Post, Round};
use super::outlet::Outlet;
use super::shard::Shard;
use super::threads::Seat;
use crate::host::session::ConnectionId;
use crate::host::token::HostKey;
use crate::protocol::{LinkConditions, RAW_BYTES_MAX, is_raw};

/// A thread, and what is to be handed to it.
#[derive(Debug)]
struct Thread {
    exchange: Arc<Exchange>,
    round: Round,
    /// `None` once it has ended.
    handle: Option<JoinHandle<()>>,
}

/// The threads of a gateway.
#[derive(Debug)]
pub(super) struct Pool {
    threads: Vec<Thread>,
    /// Which thread has which client.
    clients: BTreeMap<ConnectionId, usize>,
    events: Vec<GatewayEvent>,
    post: Option<Post>,
    own: GatewayCounters,
}

impl Pool {
    /// Starts a thread for each shard. The first `port` of them share a port, and pass on what belongs to another of them.
    pub(super) fn start(shards: Vec<Shard>, port: usize, clock: fn() -> Duration) -> io::Result<Self> {
        let seats: Vec<Seat> = shards.iter().map(Seat::new).collect::<io::Result<_>>()?;
        let exchanges: Vec<Arc<Exchange>> = seats.iter().map(|seat| Arc::clone(&seat.exchange)).collect();
        let offices: Vec<Post> = Post::offices(exchanges.get(..port).unwrap_or(&exchanges)).collect();
        let (clients, events, own) = Default::default();
        let mut pool = Self { threads: Vec::new(), clients, events, post: offices.first().cloned(), own };
        let mut offices = offices.into_iter();
        for (number, (seat, shard)) in seats.into_iter().zip(shards).enumerate() {
            let exchange = Arc::clone(&seat.exchange);
            let handle = Some(seat.start(number, shard, offices.next(), clock)?);
            pool.threads.push(Thread { exchange, round: Round::default(), handle });
        }
        Ok(pool)
    }

    pub(super) fn counters(&self) -> GatewayCounters {
        self.threads.iter().fold(self.own, |sum, thread| sum + thread.exchange.counters())
    }

    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.clients.keys().copied().collect()
    }

    pub(super) fn clients_per_thread(&self) -> Vec<usize> {
        let count = |number| self.clients.values().filter(|thread| **thread == number).count();
        (0..self.threads.len()).map(count).collect()
    }

    pub(super) fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        for (number, thread) in self.threads.iter_mut().enumerate() {
            thread.round.link = Some((conditions, seed.wrapping_add((number as u64) << 32)));
        }
        self.flush();
    }

    pub(super) fn accept_keys(&mut self, keys: &[HostKey]) {
        self.threads.iter_mut().for_each(|thread| thread.round.keys = Some(keys.to_vec()));
        self.flush();
    }

    pub(super) fn drain_events(&mut self) -> impl Iterator<Item = GatewayEvent> + '_ {
        self.events.drain(..)
    }

    /// Takes over what the threads have to tell.
    pub(super) fn receive(&mut self) -> usize {
        for number in 0..self.threads.len() {
            let Some(thread) = self.threads.get_mut(number) else { continue };
            let ended = thread.handle.as_ref().is_some_and(JoinHandle::is_finished);
            for event in thread.exchange.take_events() {
                self.event(number, event);
            }
            if ended {
                self.bury(number);
            }
        }
        self.events.len()
    }

    fn event(&mut self, number: usize, event: GatewayEvent) {
        let connection = match &event {
            GatewayEvent::Connected(connection, _) => *connection,
            GatewayEvent::Message(connection, _) | GatewayEvent::Packet(connection, _) => *connection,
            GatewayEvent::Disconnected(connection, _) => *connection,
        };
        let known = self.clients.get(&connection).copied();
        match (&event, known) {
            (GatewayEvent::Connected(..), None) => {
                self.clients.insert(connection, number);
            }
            (GatewayEvent::Connected(..), Some(thread)) => {
                // Two connections by one token, as in a single shard: neither can be told from the other, so both go.
                self.own.duplicates += 1;
                self.close(number, connection);
                self.close(thread, connection);
                return;
            }
            // What comes from another thread than the client's is of the second of two connections by one token.
            (_, known) if known != Some(number) => return,
            (GatewayEvent::Disconnected(..), _) => {
                self.clients.remove(&connection);
            }
            _ => {}
        }
        self.events.push(event);
    }

    /// A thread has ended, which it does only by a fault of ours: its clients are lost, the others' go on.
    fn bury(&mut self, number: usize) {
        let Some(thread) = self.threads.get_mut(number) else { return };
        let ended = thread.handle.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!(number, "a thread of the gateway panicked; its clients are lost");
        }
        if let Some(post) = &self.post {
            post.disown_all(number);
        }
        let lost: Vec<ConnectionId> =
            self.clients.iter().filter(|(_, thread)| **thread == number).map(|(connection, _)| *connection).collect();
        for connection in lost {
            self.clients.remove(&connection);
            self.events.push(GatewayEvent::Disconnected(connection, Gone::Lost));
        }
    }

    pub(super) fn send_packet_parts(&mut self, connection: ConnectionId, parts: &[&[u8]]) -> bool {
        let first = parts.iter().copied().find(|part| !part.is_empty()).unwrap_or_default();
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if !is_raw(first) || size > RAW_BYTES_MAX {
            return false;
        }
        let Some(thread) = self.clients.get(&connection) else { return false };
        self.threads.get_mut(*thread).is_some_and(|thread| thread.round.add_packet(connection, parts))
    }

    pub(super) fn disconnect(&mut self, connection: ConnectionId) {
        if let Some(thread) = self.clients.get(&connection).copied() {
            self.close(thread, connection);
        }
    }

    fn close(&mut self, number: usize, connection: ConnectionId) {
        if let Some(thread) = self.threads.get_mut(number) {
            thread.round.closes.push(connection);
        }
    }

    /// The way out for those who send from threads of their own.
    pub(super) fn outlet(&self) -> Outlet {
        Outlet::new(self.threads.iter().map(|thread| Arc::clone(&thread.exchange)).collect())
    }

    /// Which thread has a client.
    pub(super) fn thread_of(&self, connection: ConnectionId) -> Option<usize> {
        self.clients.get(&connection).copied()
    }

    /// Wakes a thread whenever there is something to tell.
    pub(super) fn wake_reader(&self, reader: &std::thread::Thread) {
        self.threads.iter().for_each(|thread| thread.exchange.wake_reader(reader.clone()));
    }

    /// Hands each thread what it is to send.
    pub(super) fn flush(&mut self) {
        for thread in &mut self.threads {
            thread.exchange.hand_over(&mut thread.round);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.threads.iter().for_each(|thread| thread.exchange.stop());
        for thread in &mut self.threads {
            // Its panic was its own matter; a host that stops has nothing more to tell.
            let _ = thread.handle.take().map(JoinHandle::join);
        }
    }
}
