//! What passes between the host's thread and the threads of a gateway, and between those: bounded, and nobody waits.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::counters::GatewayCounters;
use super::event::GatewayEvent;
use super::wait::Waker;
use crate::host::session::ConnectionId;
use crate::host::token::HostKey;
use crate::protocol::LinkConditions;

/// Most events that wait for the host. A thread that has more stops receiving, and the system drops what does not fit the socket.
const EVENTS_MAX: usize = 65_536;

/// Most bytes of packets that wait for a thread. More are lost.
const ROUND_BYTES_MAX: usize = 16 << 20;

/// Most datagrams that wait for the thread that they belong to. More are lost.
const FORWARDED_MAX: usize = 4_096;

/// What there is to send for one thread since it last looked.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) link: Option<(LinkConditions, u64)>,
    pub(super) keys: Option<Vec<HostKey>>,
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

    /// Takes over what another round has, as far as it fits.
    fn append(&mut self, other: &Round) {
        self.link = other.link.or(self.link);
        self.keys = other.keys.clone().or(self.keys.take());
        self.closes.extend_from_slice(&other.closes);
        for (connection, packet) in other.packets() {
            self.add_packet(connection, &[packet]);
        }
    }

    fn is_empty(&self) -> bool {
        self.link.is_none() && self.keys.is_none() && self.closes.is_empty() && self.packets.is_empty()
    }

    fn clear(&mut self) {
        (self.link, self.keys) = (None, None);
        self.closes.clear();
        self.packets.clear();
        self.bytes.clear();
    }
}

/// What passes between the host's thread and one of the gateway's.
#[derive(Debug)]
pub(super) struct Exchange {
    round: Mutex<Round>,
    events: Mutex<Vec<GatewayEvent>>,
    forwarded: Mutex<VecDeque<(SocketAddr, Vec<u8>)>>,
    counters: Mutex<GatewayCounters>,
    waker: Waker,
    /// It was woken and has not looked yet.
    woken: AtomicBool,
    stop: AtomicBool,
    reader: Mutex<Option<std::thread::Thread>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    pub(super) fn new(waker: Waker) -> Self {
        let (round, events, forwarded, counters, reader) = Default::default();
        Self { round, events, forwarded, counters, waker, woken: AtomicBool::new(false), stop: AtomicBool::new(false), reader }
    }

    fn wake(&self) {
        if self.woken.swap(true, Ordering::AcqRel) {
            // It looks at everything anyway.
            return;
        }
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

    /// Hands over what is to be sent, and empties it. Many threads may do so: what each has follows on what it had before.
    pub(super) fn hand_over(&self, round: &mut Round) {
        if round.is_empty() {
            return;
        }
        let mut waiting = lock(&self.round);
        if waiting.is_empty() {
            std::mem::swap(&mut *waiting, round);
        } else {
            waiting.append(round);
        }
        drop(waiting);
        round.clear();
        self.wake();
    }

    /// The thread looks at everything that is there now: what comes after this wakes it again.
    pub(super) fn looks(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// What is to be sent goes into `round`, which must be empty. False if there is nothing.
    pub(super) fn take_round(&self, round: &mut Round) -> bool {
        round.clear();
        let mut waiting = lock(&self.round);
        let any = !waiting.is_empty();
        if any {
            std::mem::swap(&mut *waiting, round);
        }
        any
    }

    /// Who is to be woken when there is something to tell.
    pub(super) fn wake_reader(&self, reader: std::thread::Thread) {
        *lock(&self.reader) = Some(reader);
    }

    /// The thread tells what happened. False if the host has too much to read already; nothing is then taken.
    pub(super) fn tell(&self, events: &mut Vec<GatewayEvent>, counters: GatewayCounters) -> bool {
        *lock(&self.counters) = counters;
        let mut waiting = lock(&self.events);
        let room = waiting.len() < EVENTS_MAX;
        let news = room && !events.is_empty();
        if room {
            waiting.append(events);
        }
        drop(waiting);
        if news {
            lock(&self.reader).iter().for_each(std::thread::Thread::unpark);
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
