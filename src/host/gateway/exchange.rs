//! What passes between the host's thread and the threads of a gateway, and between those: bounded, and nobody waits.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use mio::Waker;

use super::counters::GatewayCounters;
use super::event::GatewayEvent;
use crate::host::session::ConnectionId;
use crate::protocol::LinkConditions;

/// Most rounds that a thread lies behind. The host goes on adding to the one that it could not hand over.
const ROUNDS_MAX: usize = 4;

/// Most events that wait for the host. A thread that has more stops receiving, and the system drops what does not fit the socket.
const EVENTS_MAX: usize = 65_536;

/// Most bytes of packets in one round. More are lost.
const ROUND_BYTES_MAX: usize = 8 << 20;

/// Most datagrams that wait for the thread that they belong to. More are lost.
const FORWARDED_MAX: usize = 4_096;

/// What the host has for one thread since the last flush.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) link: Option<(LinkConditions, u64)>,
    pub(super) closes: Vec<ConnectionId>,
    packets: Vec<(ConnectionId, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Round {
    /// Adds a packet, in parts. False if there are too many.
    pub(super) fn add_packet(&mut self, connection: ConnectionId, parts: &[&[u8]]) -> bool {
        let begin = self.bytes.len();
        if begin + parts.iter().map(|part| part.len()).sum::<usize>() > ROUND_BYTES_MAX {
            return false;
        }
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.packets.push((connection, begin..self.bytes.len()));
        true
    }

    pub(super) fn packets(&self) -> impl Iterator<Item = (ConnectionId, &[u8])> {
        self.packets.iter().map(|(connection, range)| (*connection, self.bytes.get(range.clone()).unwrap_or_default()))
    }

    fn clear(&mut self) {
        self.link = None;
        self.closes.clear();
        self.packets.clear();
        self.bytes.clear();
    }
}

/// What passes between the host's thread and one of the gateway's.
#[derive(Debug)]
pub(super) struct Exchange {
    rounds: Mutex<VecDeque<Round>>,
    spare: Mutex<Vec<Round>>,
    events: Mutex<Vec<GatewayEvent>>,
    forwarded: Mutex<VecDeque<(SocketAddr, Vec<u8>)>>,
    counters: Mutex<GatewayCounters>,
    waker: Waker,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    pub(super) fn new(waker: Waker) -> Self {
        let (rounds, spare, events, forwarded, counters) = Default::default();
        Self { rounds, spare, events, forwarded, counters, waker, stop: AtomicBool::new(false) }
    }

    fn wake(&self) {
        // It fails only where the thread is gone.
        let _: io::Result<()> = self.waker.wake();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The host hands over a round, and is given an empty one; or none is taken, and it stays as it is.
    pub(super) fn hand_over(&self, round: &mut Round) {
        let mut rounds = lock(&self.rounds);
        if rounds.len() < ROUNDS_MAX {
            let empty = lock(&self.spare).pop().unwrap_or_default();
            rounds.push_back(std::mem::replace(round, empty));
        }
        drop(rounds);
        self.wake();
    }

    pub(super) fn next_round(&self) -> Option<Round> {
        lock(&self.rounds).pop_front()
    }

    /// The thread gives a round back, to be filled again.
    pub(super) fn give_back(&self, mut round: Round) {
        round.clear();
        let mut spare = lock(&self.spare);
        if spare.len() < ROUNDS_MAX {
            spare.push(round);
        }
    }

    /// The thread tells what happened. False if the host has too much to read already; nothing is then taken.
    pub(super) fn tell(&self, events: &mut Vec<GatewayEvent>, counters: GatewayCounters) -> bool {
        *lock(&self.counters) = counters;
        let mut waiting = lock(&self.events);
        let room = waiting.len() < EVENTS_MAX;
        if room {
            waiting.append(events);
        }
        room
    }

    pub(super) fn take_events(&self) -> Vec<GatewayEvent> {
        std::mem::take(&mut *lock(&self.events))
    }

    pub(super) fn take_forwarded(&self) -> VecDeque<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut *lock(&self.forwarded))
    }

    pub(super) fn counters(&self) -> GatewayCounters {
        *lock(&self.counters)
    }
}

/// Which shard has which address, and the way to it. The system gives the datagrams of an address always to the same socket, until the number of
/// sockets on the port changes; then a shard passes on what belongs to another.
#[derive(Clone, Debug)]
pub(super) struct Post {
    number: usize,
    owners: Arc<RwLock<BTreeMap<SocketAddr, usize>>>,
    others: Vec<Arc<Exchange>>,
}

impl Post {
    /// One for each shard.
    pub(super) fn offices(exchanges: &[Arc<Exchange>]) -> impl Iterator<Item = Self> + '_ {
        let owners = Arc::default();
        (0..exchanges.len()).map(move |number| Self { number, owners: Arc::clone(&owners), others: exchanges.to_vec() })
    }

    /// This shard has the address.
    pub(super) fn own(&self, address: SocketAddr) {
        self.owners.write().unwrap_or_else(PoisonError::into_inner).insert(address, self.number);
    }

    /// This shard has it no longer.
    pub(super) fn disown(&self, address: SocketAddr) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        if owners.get(&address) == Some(&self.number) {
            owners.remove(&address);
        }
    }

    /// No address belongs to the shard of a number any more.
    pub(super) fn disown_all(&self, number: usize) {
        self.owners.write().unwrap_or_else(PoisonError::into_inner).retain(|_, owner| *owner != number);
    }

    /// Passes a datagram on to the shard that has its address. False if none has, or this one.
    pub(super) fn forward(&self, address: SocketAddr, datagram: &[u8]) -> bool {
        let owner = self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&address).copied();
        let Some(exchange) = owner.filter(|owner| *owner != self.number).and_then(|owner| self.others.get(owner)) else {
            return false;
        };
        let mut forwarded = lock(&exchange.forwarded);
        if forwarded.len() < FORWARDED_MAX {
            forwarded.push_back((address, datagram.to_vec()));
        }
        drop(forwarded);
        exchange.wake();
        true
    }
}
