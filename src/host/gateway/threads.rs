//! A shard on a thread of its own.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::event::GatewayEvent;
use super::exchange::{Exchange, Post, Round};
use super::shard::Shard;
use super::wait::{GLANCE, Waiter};
use crate::host::priority::{Priority, give_way};

/// How long it waits after it has sent before it does so again.
const TOGETHER: Duration = Duration::from_millis(2);

/// How often it acknowledges, and keeps connections alive: once per tick.
const FLUSH_EVERY: Duration = Duration::from_millis(45);

/// Most datagrams between two looks at what the host has.
const DATAGRAMS_AT_ONCE: usize = 1_024;

/// A thread that is about to start: its way to wait, and the way to it.
pub(super) struct Seat {
    waiter: Waiter,
    pub(super) exchange: Arc<Exchange>,
}

impl Seat {
    /// A place for the thread of a shard.
    pub(super) fn new(shard: &Shard) -> io::Result<Self> {
        let (waiter, waker) = Waiter::of(shard)?;
        Ok(Self { waiter, exchange: Arc::new(Exchange::new(waker)) })
    }

    /// Starts the thread, with the shard that the place is for.
    pub(super) fn start(self, number: usize, mut shard: Shard, post: Option<Post>, clock: fn() -> Duration) -> io::Result<JoinHandle<()>> {
        let Self { waiter, exchange } = self;
        post.into_iter().for_each(|post| shard.set_post(post));
        let worker = Worker { shard, exchange, events: Vec::new(), clock };
        std::thread::Builder::new().name(format!("gateway-{number}")).spawn(move || worker.work(waiter))
    }
}

struct Worker {
    shard: Shard,
    exchange: Arc<Exchange>,
    events: Vec<GatewayEvent>,
    clock: fn() -> Duration,
}

impl Worker {
    fn work(mut self, mut waiter: Waiter) {
        give_way(Priority::Packets);
        let nap = waiter.nap();
        let mut told = true;
        let mut taken = 0;
        let (mut round, mut flushed) = (Round::default(), Duration::ZERO);
        while !self.exchange.is_stopped() {
            let due = self.shard.next_due().map_or(nap, |due| due.saturating_sub((self.clock)()));
            let wait = if taken >= DATAGRAMS_AT_ONCE { Duration::ZERO } else { due.min(nap) };
            waiter.wait(if told { wait } else { GLANCE });
            self.exchange.looks();
            let now = (self.clock)();
            taken = 0;
            if told {
                for (address, mut datagram) in self.exchange.take_forwarded() {
                    self.shard.take_forwarded(now, address, &mut datagram);
                }
                taken = self.shard.receive(now, DATAGRAMS_AT_ONCE);
            }
            let sends = self.exchange.take_round(&mut round);
            if sends {
                self.round(&round, now);
            }
            // However many rooms send at however many times.
            if now >= flushed + FLUSH_EVERY {
                flushed = now;
                self.shard.flush(now);
            }
            self.events.extend(self.shard.drain_events());
            told = self.exchange.tell(&mut self.events, self.shard.counters());
            if sends {
                // Where hundreds of rooms send at their own times, what they send in a moment goes out together.
                std::thread::sleep(TOGETHER);
            }
        }
        self.shard.flush((self.clock)());
        self.exchange.tell(&mut self.events, self.shard.counters());
    }

    fn round(&mut self, round: &Round, now: Duration) {
        if let Some((conditions, seed)) = round.link {
            self.shard.set_link(conditions, seed);
        }
        round.keys.iter().for_each(|keys| self.shard.accept_keys(keys));
        for (connection, packet) in round.packets() {
            self.shard.send_packet(connection, packet);
        }
        self.shard.send_all();
        round.closes.iter().for_each(|connection| self.shard.disconnect(*connection));
        if !round.closes.is_empty() {
            self.shard.flush(now);
        }
    }
}
