//! One socket, its sessions, and the transport behind the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bevy_platform::collections::HashMap;
use bytes::Bytes;
use renet::RenetServer;
use renetcode::{NetcodeServer, ServerAuthentication, ServerConfig, ServerResult};

use super::config::{Access, BindError, ShardConfig, listen};
use super::counters::{GatewayCounters, GatewayLimits, Share};
use super::event::{GatewayEvent, Gone};
use super::exchange::Post;
use super::keys::{KeyRing, run_out_by};
use super::together::{Together, transmit};
use crate::host::session::ConnectionId;
use crate::host::token::HostKey;
use crate::net::{DatagramSocket, LinkedSocket, caught, is_passing, neighbours};
use crate::protocol::{
    Admission, CHANNEL, DatagramKind, LinkConditions, PayloadFrom, PayloadGate, RAW_BYTES_MAX, TIMEOUT_SECONDS, TRANSPORT_ID,
    connection_config, datagram_kind, is_acknowledgement, is_packet, is_raw,
};

/// After so long a silence a client is taken to be gone.
const SILENCE_MAX: Duration = Duration::from_secs(TIMEOUT_SECONDS.unsigned_abs() as u64);

/// For how long the transport remembers a stranger who asked to connect and never went on, where anybody may: longer than this gate does.
const PENDING_MAX: Duration = Duration::from_secs(2 * TIMEOUT_SECONDS.unsigned_abs() as u64);

/// How long after the last datagram to a client the transport sends a keep-alive.
const KEEP_ALIVE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    gate: PayloadGate,
    share: Share,
    closing: bool,
    /// When it was last sent something.
    sent: Duration,
    /// When the transport is asked again whether it is silent, or is due a keep-alive.
    look: Duration,
    /// True once it sent a payload, so it knows that it is connected. Until then it is sent keep-alives alone: the transport
    /// sends none while payloads flow, and a client that lost the first would never learn.
    heard: bool,
}

/// One socket with at most 256 clients.
pub struct Shard {
    socket: Box<dyn DatagramSocket>,
    netcode: NetcodeServer,
    /// The keys whose tokens let in; nothing where anybody may connect.
    keys: Option<KeyRing>,
    renet: RenetServer,
    peers: BTreeMap<u64, Peer>,
    by_address: HashMap<SocketAddr, u64>,
    pending: HashMap<SocketAddr, Duration>,
    /// Who may have messages that were not taken yet.
    unread: BTreeSet<u64>,
    /// Who said more than acknowledgements since the last flush, so one is due.
    unanswered: BTreeSet<u64>,
    /// How many flushes there were.
    round: u64,
    /// When the first of the clients is to be looked after.
    next_look: Duration,
    /// The way to the other shards of the port.
    post: Option<Post>,
    requests_left: f64,
    now: Duration,
    renet_now: Duration,
    limits: GatewayLimits,
    counters: GatewayCounters,
    events: Vec<GatewayEvent>,
    joined: Vec<u8>,
    together: Together,
    buffer: Vec<u8>,
}

/// What waits for others to the same client leaves.
impl Drop for Shard {
    fn drop(&mut self) {
        self.send_all();
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("socket", &self.socket).field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Shard {
    /// Listens. `now` is the time since the Unix epoch, here and everywhere.
    ///
    /// # Errors
    /// If the address can't be had, or could be reached by anybody and that is not allowed.
    pub fn bind(config: &ShardConfig, now: Duration) -> Result<Self, BindError> {
        config.check()?;
        let socket = listen(config.bind).map_err(|error| BindError::Socket { address: config.bind, error })?;
        Self::over(Box::new(socket), config, now)
    }

    /// Listens on a socket that was opened elsewhere: one with a [link](LinkedSocket) before it, or one in
    /// [memory](crate::net::MemoryNetwork).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn over(socket: Box<dyn DatagramSocket>, config: &ShardConfig, now: Duration) -> Result<Self, BindError> {
        config.check()?;
        let address = socket.local_address().map_err(|error| BindError::Socket { address: config.bind, error })?;
        let keys = match config.access {
            Access::Tokens(key) => Some(KeyRing::new(HostKey::random().map_err(|error| BindError::Chance(error.to_string()))?, key)),
            Access::Loopback | Access::Anybody => None,
        };
        let authentication = match &keys {
            Some(keys) => ServerAuthentication::Secure { private_key: keys.own().0 },
            None => ServerAuthentication::Unsecure,
        };
        let public_addresses = if config.public_addresses.is_empty() { vec![address] } else { config.public_addresses.clone() };
        let netcode = NetcodeServer::new(ServerConfig {
            current_time: now,
            max_clients: config.limits.clients_max,
            protocol_id: TRANSPORT_ID,
            public_addresses,
            authentication,
        });
        Ok(Self {
            socket,
            netcode,
            keys,
            renet: RenetServer::new(connection_config()),
            peers: BTreeMap::new(),
            by_address: HashMap::default(),
            pending: HashMap::default(),
            unread: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            round: 1,
            next_look: Duration::ZERO,
            post: None,
            requests_left: f64::from(config.limits.requests_burst),
            now,
            renet_now: now,
            limits: config.limits,
            counters: GatewayCounters::default(),
            events: Vec::new(),
            joined: Vec::with_capacity(RAW_BYTES_MAX),
            together: Together::default(),
            buffer: vec![0; 2_048],
        })
    }

    /// Where the socket listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_address()
    }

    /// Puts a simulated link before each client, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        self.send_all();
        LinkedSocket::wrap(&mut self.socket, conditions, seed);
    }

    /// When a simulated link has something to deliver; [`receive`](Self::receive) does it.
    pub fn next_due(&self) -> Option<Duration> {
        self.socket.next_due()
    }

    /// What was counted.
    pub fn counters(&self) -> GatewayCounters {
        self.counters
    }

    /// The clients that are connected, in the order of their numbers.
    pub fn connections(&self) -> impl ExactSizeIterator<Item = ConnectionId> + '_ {
        self.peers.keys().map(|id| ConnectionId(*id))
    }

    /// What happened since this was last called, in order.
    pub fn drain_events(&mut self) -> impl Iterator<Item = GatewayEvent> + '_ {
        self.events.drain(..)
    }

    /// Takes in what has arrived, at most `budget` datagrams. May be called at any time. Returns how many it took.
    pub fn receive(&mut self, now: Duration, budget: usize) -> usize {
        self.send_all();
        self.advance(now);
        let mut taken = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        while taken < budget {
            let more = match self.socket.receive(&mut buffer) {
                Ok((size, address)) => {
                    taken += 1;
                    self.counters.datagrams_in += 1;
                    self.counters.bytes_in += size as u64;
                    if let Some(datagram) = buffer.get_mut(..size) {
                        self.datagram(address, datagram);
                    }
                    true
                }
                Err(error) => {
                    let passing = is_passing(&error);
                    taken += usize::from(passing);
                    passing
                }
            };
            if !more {
                break;
            }
        }
        self.buffer = buffer;
        self.collect_messages();
        while let Some(address) = self.socket.next_lost() {
            self.lose(address);
        }
        taken
    }

    /// Nothing comes from an address any more, as its connection tells: whoever had it is gone now, not after a silence.
    fn lose(&mut self, address: SocketAddr) {
        if let Some(id) = self.by_address.get(&address).copied() {
            self.gone(id, Gone::Lost);
            self.drop_from_transport(id);
        }
        // A stranger that was half-way in is remembered as long as one by UDP is, and as the transport does.
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        self.socket.advance(self.now);
        self.netcode.update(passed);
        // Who comes and goes is told by the shard's own events. Those of renet, which nobody asks for, would be kept for ever.
        while self.renet.get_event().is_some() {}
        let refill = passed.as_secs_f64() * f64::from(self.limits.requests_per_second);
        self.requests_left = (self.requests_left + refill).min(f64::from(self.limits.requests_burst));
    }

    fn datagram(&mut self, address: SocketAddr, datagram: &mut [u8]) {
        let Some(kind) = datagram_kind(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        let known = self.by_address.get(&address).copied();
        if known.is_none() && !self.pending.contains_key(&address) && self.forward(address, datagram) {
            self.counters.forwarded += 1;
            return;
        }
        match (kind, known) {
            (DatagramKind::Request, Some(_)) => {
                self.counters.requests_while_connected += 1;
                return;
            }
            (DatagramKind::Request, None) if !self.may_request(address) => {
                self.counters.requests_limited += 1;
                return;
            }
            (DatagramKind::Request, None) if self.has_too_many(address) => {
                self.counters.addresses_limited += 1;
                return;
            }
            (DatagramKind::Request, None) => {
                let is_good = match &self.keys {
                    Some(keys) => match keys.reseal(datagram) {
                        Some(id) if keys.is_used(id) => {
                            self.counters.duplicates += 1;
                            return;
                        }
                        id => id.is_some(),
                    },
                    None => run_out_by(datagram, (self.now + PENDING_MAX).as_secs()),
                };
                if !is_good {
                    self.counters.unusable += 1;
                    return;
                }
            }
            (DatagramKind::Session, None) if !self.pending.contains_key(&address) => {
                self.counters.unknown_address += 1;
                return;
            }
            (DatagramKind::Session, None) => {}
            (DatagramKind::Session, Some(id)) => {
                let Some(peer) = self.peers.get_mut(&id) else { return };
                if peer.share.of(self.round).is_used_up(&self.limits) {
                    self.counters.rate_limited += 1;
                    return;
                }
            }
        }
        self.process(address, datagram);
    }

    /// Tells the other shards of the port whose an address is.
    fn own(&self, address: SocketAddr, is_ours: bool) {
        match &self.post {
            Some(post) if is_ours => post.own(address),
            Some(post) => post.disown(address),
            None => {}
        }
    }

    /// Passes a datagram on to the shard whose client sent it. False if there is none.
    fn forward(&self, address: SocketAddr, datagram: &[u8]) -> bool {
        self.post.as_ref().is_some_and(|post| post.forward(address, datagram))
    }

    pub(super) fn set_post(&mut self, post: Post) {
        self.post = Some(post);
    }

    /// Takes in a datagram that came to another shard of the port.
    pub(super) fn take_forwarded(&mut self, now: Duration, address: SocketAddr, datagram: &mut [u8]) {
        self.advance(now);
        // Whose address is no longer known here has nobody to be passed on to.
        if self.by_address.contains_key(&address) || self.pending.contains_key(&address) {
            self.datagram(address, datagram);
        }
    }

    #[cfg(unix)]
    pub(super) fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        self.socket.raw_fd()
    }

    /// Lets in those whose tokens were made with one of these keys, from now on. Who is in stays.
    pub fn accept_keys(&mut self, accepted: &[HostKey]) {
        self.keys.iter_mut().for_each(|keys| keys.accept(accepted));
    }

    /// True if as many clients have a stranger's IP address as may, or by IPv6 one of the same 2^64. Those of this machine are not counted.
    fn has_too_many(&self, address: SocketAddr) -> bool {
        let most = self.limits.clients_per_address_max;
        if address.ip().to_canonical().is_loopback() || self.pending.contains_key(&address) {
            return false;
        }
        let own = neighbours(address.ip());
        let same = |other: &&SocketAddr| neighbours(other.ip()) == own;
        self.by_address.keys().chain(self.pending.keys()).filter(same).take(most).count() >= most
    }

    fn may_request(&mut self, address: SocketAddr) -> bool {
        let room = self.pending.len() < self.limits.pending_max || self.pending.contains_key(&address);
        let granted = room && self.requests_left >= 1.0;
        self.requests_left -= f64::from(u8::from(granted));
        granted
    }

    /// Hands a datagram that passed the gate to the transport.
    fn process(&mut self, address: SocketAddr, datagram: &mut [u8]) {
        let (netcode, socket, counters) = (&mut self.netcode, &mut *self.socket, &mut self.counters);
        // The gate leaves nothing that panics; should it have a hole, one datagram is lost and not the host.
        let processed = caught(move || match netcode.process_packet(address, datagram) {
            ServerResult::None => Step::Nothing,
            ServerResult::PacketToSend { addr, payload } => {
                transmit(socket, counters, addr, payload);
                Step::Pending
            }
            ServerResult::Payload { client_id, payload } => Step::Payload(client_id, payload),
            ServerResult::ClientConnected { client_id, addr, user_data, payload } => {
                transmit(socket, counters, addr, payload);
                Step::Connected(client_id, user_data)
            }
            ServerResult::ClientDisconnected { client_id, .. } => Step::Disconnected(client_id),
        });
        match processed {
            None => {
                self.counters.panics_caught += 1;
                self.count_junk(address);
            }
            Some(Step::Nothing) => {
                self.counters.unusable += 1;
                self.count_junk(address);
            }
            Some(Step::Pending) => {
                self.pending.insert(address, self.now);
                self.own(address, true);
            }
            Some(Step::Payload(id, payload)) => self.payload(id, payload),
            Some(Step::Connected(id, user_data)) => self.connect(id, address, &user_data),
            Some(Step::Disconnected(id)) => self.gone(id, Gone::Left),
        }
    }

    /// Nothing came of a datagram: it was not a client's own, or asks for nothing.
    fn count_junk(&mut self, address: SocketAddr) {
        let peer = self.by_address.get(&address).and_then(|id| self.peers.get_mut(id));
        peer.into_iter().for_each(|peer| peer.share.of(self.round).junk += 1);
    }

    fn payload(&mut self, id: u64, payload: &[u8]) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.share.of(self.round).datagrams += 1;
        if !peer.gate.admits(payload) {
            self.counters.payloads_refused += 1;
            return;
        }
        peer.heard = true;
        if is_raw(payload) {
            self.counters.packets_in += 1;
            self.events.push(GatewayEvent::Packet(ConnectionId(id), Bytes::copy_from_slice(payload)));
            return;
        }
        if !is_acknowledgement(payload) {
            self.unanswered.insert(id);
        }
        self.unread.insert(id);
        let renet = &mut self.renet;
        if caught(|| renet.process_packet_from(payload, id)).is_none() {
            self.counters.panics_caught += 1;
        }
    }

    fn connect(&mut self, id: u64, address: SocketAddr, user_data: &[u8; 256]) {
        self.pending.remove(&address);
        let admission = Admission::decode(user_data).ok().filter(|admission| admission.client_id == id);
        let Some(admission) = admission else {
            self.counters.forged += 1;
            self.own(address, false);
            self.drop_from_transport(id);
            return;
        };
        if self.peers.contains_key(&id) {
            // Two connections by one token: neither can be told from the other, so both go.
            self.counters.duplicates += 1;
            self.own(address, false);
            self.gone(id, Gone::Closed);
            self.drop_from_transport(id);
            self.drop_from_transport(id);
            return;
        }
        if self.keys.as_mut().is_some_and(|keys| !keys.take(id, self.now)) {
            // It was half-way in already when another one came in by its token, who is gone by now.
            self.counters.duplicates += 1;
            self.own(address, false);
            self.drop_from_transport(id);
            return;
        }
        self.renet.add_connection(id);
        self.by_address.insert(address, id);
        self.own(address, true);
        let gate = PayloadGate::new(PayloadFrom::Client);
        let (sent, look) = (self.now, self.now + KEEP_ALIVE);
        let peer = Peer { address, gate, share: Share::default(), closing: false, sent, look, heard: false };
        self.peers.insert(id, peer);
        self.next_look = self.next_look.min(look);
        self.counters.connected += 1;
        self.events.push(GatewayEvent::Connected(ConnectionId(id), admission));
    }

    fn drop_from_transport(&mut self, id: u64) {
        if let ServerResult::ClientDisconnected { addr, payload: Some(payload), .. } = self.netcode.disconnect(id) {
            transmit(&mut *self.socket, &mut self.counters, addr, payload);
        }
    }

    fn gone(&mut self, id: u64, how: Gone) {
        let Some(peer) = self.peers.remove(&id) else { return };
        // What it said last still counts.
        self.take_messages(id, u32::MAX);
        self.unread.remove(&id);
        self.unanswered.remove(&id);
        self.by_address.remove(&peer.address);
        self.own(peer.address, false);
        self.renet.remove_connection(id);
        self.counters.disconnected += 1;
        let how = if peer.closing { Gone::Closed } else { how };
        self.events.push(GatewayEvent::Disconnected(ConnectionId(id), how));
    }

    fn collect_messages(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        for id in unread {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let left = self.limits.messages_per_tick_max.saturating_sub(peer.share.of(self.round).messages);
            let taken = self.take_messages(id, left);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.share.messages += taken;
            }
            if taken == left {
                // There may be more, for the next round.
                self.unread.insert(id);
            }
        }
    }

    fn take_messages(&mut self, id: u64, most: u32) -> u32 {
        let mut taken = 0;
        while taken < most {
            let Some(message) = self.renet.receive_message(id, CHANNEL) else { break };
            self.events.push(GatewayEvent::Message(ConnectionId(id), message));
            taken += 1;
        }
        taken
    }

    /// Sends a packet, encrypted, beside the transport's channel: it may get lost, doubled by none, and overtaken. Where the system takes
    /// several at once it leaves with those that follow for the same client, at the latest with [`send_all`](Self::send_all). It begins with one of [`RAW_KINDS`](crate::protocol::RAW_KINDS) and has at most [`RAW_BYTES_MAX`] bytes.
    ///
    /// False if it did not leave and is lost: there is no such client, it does not know yet that it is connected, the packet
    /// is none, or the system's buffer is full. What waits may still find that full, which [`GatewayCounters::sends_failed`] counts.
    pub fn send_packet(&mut self, connection: ConnectionId, packet: &[u8]) -> bool {
        let ConnectionId(id) = connection;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.heard) else { return false };
        if !is_packet(packet) {
            return false;
        }
        peer.sent = self.now;
        let Ok((address, datagram)) = self.netcode.generate_payload_packet(id, packet) else { return false };
        let sent = self.together.send(&mut *self.socket, &mut self.counters, address, datagram);
        self.counters.packets_out += u64::from(sent);
        sent
    }

    /// [Sends a packet](Self::send_packet) that lies in several parts, joined in a buffer that is used again: a head of each client's own
    /// before a body that all share.
    pub fn send_packet_parts(&mut self, connection: ConnectionId, parts: &[&[u8]]) -> bool {
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        let fits = parts.iter().map(|part| part.len()).sum::<usize>() <= RAW_BYTES_MAX;
        parts.iter().filter(|_| fits).for_each(|part| joined.extend_from_slice(part));
        let sent = self.send_packet(connection, &joined);
        self.joined = joined;
        sent
    }

    /// Sends the packets that wait for others to the same client. [`flush`](Self::flush) and [`receive`](Self::receive) do it, too.
    pub fn send_all(&mut self) {
        self.together.leave(&mut *self.socket, &mut self.counters);
    }

    /// Closes a connection with the next flush.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&connection.0) {
            (peer.closing, peer.look) = (true, Duration::ZERO);
            self.next_look = Duration::ZERO;
        }
    }

    /// Acknowledges what clients said, keeps their connections alive, and closes those that are over. Once per tick.
    pub fn flush(&mut self, now: Duration) {
        self.send_all();
        self.advance(now);
        self.round += 1;
        self.give_up_on_the_silent();
        if !self.unanswered.is_empty() {
            self.renet.update(self.now.saturating_sub(self.renet_now));
            self.renet_now = self.now;
            std::mem::take(&mut self.unanswered).into_iter().for_each(|id| self.acknowledge(id));
        }
        if self.next_look <= self.now {
            let due: Vec<u64> = self.peers.iter().filter(|(_, peer)| peer.look <= self.now).map(|(id, _)| *id).collect();
            due.into_iter().for_each(|id| self.look_after(id));
            self.next_look = self.peers.values().map(|peer| peer.look).min().unwrap_or(Duration::MAX);
        }
    }

    /// Forgets strangers that asked to connect and never went on, and who came in so long ago that its token lets in nobody any more.
    fn give_up_on_the_silent(&mut self) {
        self.keys.iter_mut().for_each(|keys| keys.forget(self.now));
        let oldest = self.now.saturating_sub(SILENCE_MAX);
        let given_up: Vec<SocketAddr> = self.pending.iter().filter(|(_, since)| **since < oldest).map(|(address, _)| *address).collect();
        for address in given_up {
            self.pending.remove(&address);
            self.own(address, false);
        }
    }

    /// Tells a client which of its messages came. The transport would acknowledge at every flush, even acknowledgements.
    fn acknowledge(&mut self, id: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !self.renet.is_connected(id) {
            // It said what the transport does not forgive.
            (peer.look, self.next_look) = (Duration::ZERO, Duration::ZERO);
            return;
        }
        peer.sent = self.now;
        for packet in self.renet.get_packets_to_send(id).unwrap_or_default() {
            if let Ok((address, datagram)) = self.netcode.generate_payload_packet(id, &packet) {
                // If the system's buffer is full, the client says it again.
                transmit(&mut *self.socket, &mut self.counters, address, datagram);
            }
        }
    }

    /// Lets the transport say that a client is silent, or keep the connection alive; and closes what is over.
    fn look_after(&mut self, id: u64) {
        // The transport itself goes by the client's token, and who came without one has an idea of its own.
        let is_silent = self.netcode.time_since_last_received_packet(id).is_some_and(|silence| silence > SILENCE_MAX);
        let gone = is_silent
            || match self.netcode.update_client(id) {
                ServerResult::PacketToSend { addr, payload } => {
                    transmit(&mut *self.socket, &mut self.counters, addr, payload);
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.sent = self.now;
                    }
                    false
                }
                ServerResult::ClientDisconnected { addr, payload, .. } => {
                    if let Some(payload) = payload {
                        transmit(&mut *self.socket, &mut self.counters, addr, payload);
                    }
                    true
                }
                _ => false,
            };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if gone || peer.closing || !self.renet.is_connected(id) {
            self.gone(id, Gone::Lost);
            self.drop_from_transport(id);
            return;
        }
        peer.look = (peer.sent + KEEP_ALIVE).max(self.now);
    }
}

enum Step<'a> {
    Nothing,
    Pending,
    Payload(u64, &'a [u8]),
    Connected(u64, Box<[u8; 256]>),
    Disconnected(u64),
}

#[cfg(test)]
mod tests;
