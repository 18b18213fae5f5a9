//! One port, on the host's thread or on threads of its own.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::{BindError, ShardConfig, THREADS_MAX, listen_shared};
use super::counters::GatewayCounters;
use super::event::GatewayEvent;
use super::outlet::Outlet;
use super::pool::Pool;
use super::shard::Shard;
use crate::host::session::ConnectionId;
use crate::host::token::HostKey;
use crate::net::DatagramSocket;
use crate::protocol::LinkConditions;

/// One UDP port with its clients, and those who come by WebSocket if there is a way for them.
///
/// Without threads it is one [`Shard`], driven by who calls. With some, each thread has a socket on the same port, and a shard of its own; they hand
/// over what came in and take what is to go out by bounded queues, so a host's round neither decrypts nor encrypts.
#[derive(Debug)]
pub struct Gateway(Kind);

#[derive(Debug)]
enum Kind {
    Inline(Box<Shard>),
    Threads(Box<Pool>, Addresses),
}

/// Where it listens.
#[derive(Debug)]
struct Addresses {
    udp: SocketAddr,
    websocket: Option<SocketAddr>,
}

impl Gateway {
    /// Listens: on the caller's thread, or on as many of its own. `clock` gives the time since the Unix epoch.
    ///
    /// # Errors
    /// As [`Shard::bind`]; and if the system can't share a port between threads, or has none to give.
    pub fn bind(config: &ShardConfig, threads: usize, clock: fn() -> Duration) -> Result<Self, BindError> {
        if threads == 0 {
            return Ok(Self(Kind::Inline(Box::new(Shard::bind(config, clock())?))));
        }
        Self::bind_with(config, threads, None, clock)
    }

    /// Listens on as many threads of its own, at least one; and on one more for those who come by WebSocket, if an address is given for them.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); and if that address can't be had, could be reached by anybody and that is not allowed, or the feature `websocket` is off.
    pub fn bind_with(
        config: &ShardConfig,
        threads: usize,
        websocket: Option<SocketAddr>,
        clock: fn() -> Duration,
    ) -> Result<Self, BindError> {
        config.check()?;
        let mut shards = Self::shards(listen_shared(config.bind, threads)?, config, clock)?;
        let own = shards.first().and_then(|shard| shard.local_address().ok()).unwrap_or(config.bind);
        let port = shards.len();
        if let Some(address) = websocket {
            let (socket, config) = config.listen_by_websocket(address, own)?;
            shards.push(Shard::over(socket, &config, clock())?);
        }
        Self::start(shards, port, config, clock)
    }

    /// Listens on sockets of one address that were opened elsewhere, each with a thread of its own.
    ///
    /// # Errors
    /// If there are none or more than 16, or as [`bind`](Self::bind).
    pub fn over(sockets: Vec<Box<dyn DatagramSocket>>, config: &ShardConfig, clock: fn() -> Duration) -> Result<Self, BindError> {
        let shards = Self::shards(sockets, config, clock)?;
        let port = shards.len();
        Self::start(shards, port, config, clock)
    }

    fn shards(sockets: Vec<Box<dyn DatagramSocket>>, config: &ShardConfig, clock: fn() -> Duration) -> Result<Vec<Shard>, BindError> {
        if !(1..=THREADS_MAX).contains(&sockets.len()) {
            return Err(BindError::TooManyThreads(sockets.len()));
        }
        sockets.into_iter().map(|socket| Shard::over(socket, config, clock())).collect()
    }

    /// Starts a thread for each shard. The first `port` of them share a port.
    fn start(shards: Vec<Shard>, port: usize, config: &ShardConfig, clock: fn() -> Duration) -> Result<Self, BindError> {
        let address_of = |shard: &Shard| shard.local_address().ok();
        let address = shards.first().and_then(address_of).unwrap_or(config.bind);
        let websocket = shards.get(port).and_then(address_of);
        let pool = Pool::start(shards, port, clock).map_err(|error| BindError::Socket { address, error })?;
        Ok(Self(Kind::Threads(Box::new(pool), Addresses { udp: address, websocket })))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        match &self.0 {
            Kind::Inline(shard) => shard.local_address(),
            Kind::Threads(_, addresses) => Ok(addresses.udp),
        }
    }

    /// Where it listens for those who come by WebSocket, if it does.
    pub fn websocket_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Inline(_) => None,
            Kind::Threads(_, addresses) => addresses.websocket,
        }
    }

    /// What was counted, by all threads together.
    pub fn counters(&self) -> GatewayCounters {
        match &self.0 {
            Kind::Inline(shard) => shard.counters(),
            Kind::Threads(pool, _) => pool.counters(),
        }
    }

    /// The clients that are connected, in the order of their numbers.
    pub fn connections(&self) -> Vec<ConnectionId> {
        match &self.0 {
            Kind::Inline(shard) => shard.connections().collect(),
            Kind::Threads(pool, _) => pool.connections(),
        }
    }

    /// How many clients each thread has; one number if there are no threads.
    pub fn clients_per_thread(&self) -> Vec<usize> {
        match &self.0 {
            Kind::Inline(shard) => vec![shard.connections().len()],
            Kind::Threads(pool, _) => pool.clients_per_thread(),
        }
    }

    /// Puts a simulated link before each client, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        match &mut self.0 {
            Kind::Inline(shard) => shard.set_link(conditions, seed),
            Kind::Threads(pool, _) => pool.set_link(conditions, seed),
        }
    }

    /// Lets in those whose tokens were made with one of these keys, at most [`KEYS_MAX`](super::KEYS_MAX), from now on. Who is in stays. Where anybody may connect
    /// it changes nothing.
    pub fn accept_keys(&mut self, keys: &[HostKey]) {
        match &mut self.0 {
            Kind::Inline(shard) => shard.accept_keys(keys),
            Kind::Threads(pool, _) => pool.accept_keys(keys),
        }
    }

    /// The way out for those who send from threads of their own; none if it has none itself.
    pub(in crate::host) fn outlet(&self) -> Option<Outlet> {
        match &self.0 {
            Kind::Inline(_) => None,
            Kind::Threads(pool, _) => Some(pool.outlet()),
        }
    }

    /// Which of its threads has a client.
    pub(in crate::host) fn thread_of(&self, connection: ConnectionId) -> Option<usize> {
        match &self.0 {
            Kind::Inline(_) => None,
            Kind::Threads(pool, _) => pool.thread_of(connection),
        }
    }

    /// Wakes this thread whenever a thread of the gateway has something to tell.
    pub(in crate::host) fn wake_reader(&self, reader: &std::thread::Thread) {
        if let Kind::Threads(pool, _) = &self.0 {
            pool.wake_reader(reader);
        }
    }

    /// When [`receive`](Self::receive) has something to do though nothing arrives.
    pub fn next_due(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Inline(shard) => shard.next_due(),
            Kind::Threads(..) => None,
        }
    }

    /// Takes in what has arrived, at most `budget` datagrams if it has no threads. May be called at any time.
    pub fn receive(&mut self, now: Duration, budget: usize) -> usize {
        match &mut self.0 {
            Kind::Inline(shard) => shard.receive(now, budget),
            Kind::Threads(pool, _) => pool.receive(),
        }
    }

    /// What happened since this was last called; in order, as far as one client is concerned.
    pub fn drain_events(&mut self) -> Box<dyn Iterator<Item = GatewayEvent> + '_> {
        match &mut self.0 {
            Kind::Inline(shard) => Box::new(shard.drain_events()),
            Kind::Threads(pool, _) => Box::new(pool.drain_events()),
        }
    }

    /// Sends a packet: see [`Shard::send_packet`]. With threads it leaves with the next flush.
    pub fn send_packet(&mut self, connection: ConnectionId, packet: &[u8]) -> bool {
        match &mut self.0 {
            Kind::Inline(shard) => shard.send_packet(connection, packet),
            Kind::Threads(pool, _) => pool.send_packet_parts(connection, &[packet]),
        }
    }

    /// [Sends a packet](Self::send_packet) that lies in several parts.
    pub fn send_packet_parts(&mut self, connection: ConnectionId, parts: &[&[u8]]) -> bool {
        match &mut self.0 {
            Kind::Inline(shard) => shard.send_packet_parts(connection, parts),
            Kind::Threads(pool, _) => pool.send_packet_parts(connection, parts),
        }
    }

    /// Sends the packets that wait: see [`Shard::send_all`]. With threads it hands over all that is queued.
    pub fn send_all(&mut self) {
        match &mut self.0 {
            Kind::Inline(shard) => shard.send_all(),
            Kind::Threads(pool, _) => pool.flush(),
        }
    }

    /// Closes a connection with the next flush.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        match &mut self.0 {
            Kind::Inline(shard) => shard.disconnect(connection),
            Kind::Threads(pool, _) => pool.disconnect(connection),
        }
    }

    /// Sends what acknowledges, and what keeps the connections alive. Once per tick.
    pub fn flush(&mut self, now: Duration) {
        match &mut self.0 {
            Kind::Inline(shard) => shard.flush(now),
            Kind::Threads(pool, _) => pool.flush(),
        }
    }
}
