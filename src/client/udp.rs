//! The client's end of encrypted UDP, or of whatever carries its datagrams. No clock inside: the time comes in.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::Cursor;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use renet::RenetClient;
use renetcode::{ClientAuthentication, ConnectToken, NetcodeClient, NetcodeError};
use thiserror::Error;

use super::probe::Probe;
use crate::net::{DatagramSocket, Dial, LinkedSocket, UdpDial, is_passing};
use crate::protocol::{
    Admission, AdmissionError, CHANNEL, CLIENT_MESSAGE_BYTES_MAX, CLIENT_RELIABLE_BYTES_MAX, EntityId, LinkConditions, PayloadFrom,
    PayloadGate, TIMEOUT_SECONDS, TRANSPORT_ID, connection_config, datagram_kind, is_acknowledgement, is_packet, is_raw,
};

/// The silence after which a connection counts as broken.
const TIMEOUT: Duration = Duration::from_secs(TIMEOUT_SECONDS.unsigned_abs() as u64);

/// The silence after which it is asked whether anybody is there. Hosts say something four times a second.
const DOUBTS_AFTER: Duration = Duration::from_millis(400);

/// As how long a frame counts that took longer: what waited in the socket meanwhile comes then, and nothing of it was silence. Less than [`DOUBTS_AFTER`].
const FRAME_MAX: Duration = Duration::from_millis(250);

/// Most packets that wait to be taken. The oldest go first: a reader so slow is better served by the newest.
const PACKETS_WAITING_MAX: usize = 4_096;

/// How a client gets in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A connect token of the game's back end.
    Token(Vec<u8>),
    /// None: for a host on this machine, or one that lets anybody in.
    Unauthenticated {
        /// The host.
        server: SocketAddr,
        /// Who the client says it is. The client id must be a fresh random number.
        admission: Admission,
    },
}

impl Credentials {
    /// For a host on this machine, or one that lets anybody in: a player by its name, which stands for its id.
    ///
    /// ```
    /// use roomkeeper::client::Credentials;
    ///
    /// let ann = Credentials::unauthenticated("127.0.0.1:5000".parse()?, "ann");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unauthenticated(server: SocketAddr, name: &str) -> Self {
        // To each connection its own number.
        let client_id = RandomState::new().hash_one(name);
        let admission = Admission { client_id, player: EntityId::named(name), name: name.to_owned(), room: None };
        Self::Unauthenticated { server, admission }
    }

    /// The same for another host: where nobody is authenticated any, with a token those whose addresses stand in it. `None` for one that does not.
    pub fn at(&self, host: SocketAddr) -> Option<Self> {
        match self {
            Self::Unauthenticated { admission, .. } => Some(Self::Unauthenticated { server: host, admission: admission.clone() }),
            Self::Token(token) => {
                let mut read = ConnectToken::read(&mut Cursor::new(token)).ok()?;
                let place = read.server_addresses.iter().position(|address| *address == Some(host))?;
                // The transport takes the first one. Which ones there are the host reads elsewhere in the token, where nobody can change it.
                read.server_addresses.swap(0, place);
                let mut token = Vec::new();
                read.write(&mut token).ok()?;
                Some(Self::Token(token))
            }
        }
    }

    /// The addresses of the hosts to which they are a way.
    pub fn hosts(&self) -> Vec<SocketAddr> {
        match self {
            Self::Unauthenticated { server, .. } => vec![*server],
            Self::Token(token) => {
                let read = ConnectToken::read(&mut Cursor::new(token));
                read.map(|token| token.server_addresses.into_iter().flatten().collect()).unwrap_or_default()
            }
        }
    }
}

/// Where a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkStatus {
    /// On the way.
    Connecting,
    /// Messages can be sent.
    Connected,
    /// Over, and why.
    Disconnected(String),
}

/// Why there is no link.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The system gives no socket.
    #[error("no socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The token is none.
    #[error("the connect token is malformed: {0}")]
    Token(NetcodeError),
    /// A name is too long.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The message is too large.
    #[error("a message of {0} bytes can't be sent; at most {CLIENT_MESSAGE_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Too much is unacknowledged.
    #[error("the connection is too slow for what is sent")]
    Full,
}

/// The client's end of encrypted UDP, or of whatever else a [`Dial`] opens to carry its datagrams.
pub struct UdpLink {
    socket: Box<dyn DatagramSocket>,
    dial: Arc<dyn Dial>,
    /// The simulated link before the host, and its seed.
    conditions: Option<(LinkConditions, u64)>,
    /// The last of the hosts to which the credentials are a way: the transport tries one after the other.
    last: Option<SocketAddr>,
    netcode: NetcodeClient,
    renet: RenetClient,
    gate: PayloadGate,
    packets: VecDeque<Bytes>,
    now: Duration,
    refused: u64,
    /// Nothing has come for too long. A token says how long that is, but who comes without one goes by the transport's own idea of it.
    silent: bool,
    /// Asks whether anybody listens at the host, over a socket of the system.
    probe: Option<Probe>,
    /// Nobody listens at the host's address.
    unheard: bool,
    /// It was connected.
    stood: bool,
}

impl std::fmt::Debug for UdpLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpLink").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl UdpLink {
    /// Opens a socket and begins to connect. `now` is the time since the Unix epoch, here and everywhere.
    ///
    /// # Errors
    /// If the system gives no socket, or the credentials are malformed.
    pub fn connect(credentials: &Credentials, now: Duration) -> Result<Self, LinkError> {
        Self::connect_by(UdpDial, credentials, now)
    }

    /// Begins to connect by a way of its own: [`WebSocketDial`](crate::net::WebSocketDial), for instance.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_by(dial: impl Dial + 'static, credentials: &Credentials, now: Duration) -> Result<Self, LinkError> {
        let netcode = netcode_client(credentials, now)?;
        let socket = dial.dial(netcode.server_addr())?;
        let last = credentials.hosts().last().copied();
        Ok(Self { probe: Some(Probe::default()), dial: Arc::new(dial), last, ..Self::new(socket, netcode, now) })
    }

    /// Begins to connect over a socket that was opened elsewhere.
    ///
    /// # Errors
    /// If the credentials are malformed.
    pub fn connect_over(socket: Box<dyn DatagramSocket>, credentials: &Credentials, now: Duration) -> Result<Self, LinkError> {
        Ok(Self::new(socket, netcode_client(credentials, now)?, now))
    }

    fn new(socket: Box<dyn DatagramSocket>, netcode: NetcodeClient, now: Duration) -> Self {
        let (renet, gate) = (RenetClient::new(connection_config()), PayloadGate::new(PayloadFrom::Host));
        Self {
            socket,
            dial: Arc::new(UdpDial),
            conditions: None,
            last: None,
            netcode,
            renet,
            gate,
            packets: VecDeque::new(),
            now,
            refused: 0,
            silent: false,
            probe: None,
            unheard: false,
            stood: false,
        }
    }

    /// Begins to connect anew, over the same socket where that reaches the host. What was on its way is lost.
    ///
    /// # Errors
    /// If the system gives no socket, or the credentials are malformed; the link is then as it was.
    pub fn restart(&mut self, credentials: &Credentials, now: Duration) -> Result<(), LinkError> {
        let netcode = netcode_client(credentials, now)?;
        if !self.socket.reaches(netcode.server_addr()) {
            self.dial_anew(netcode.server_addr())?;
        }
        self.last = credentials.hosts().last().copied();
        (self.netcode, self.renet, self.gate) = (netcode, RenetClient::new(connection_config()), PayloadGate::new(PayloadFrom::Host));
        self.packets.clear();
        (self.now, self.silent, self.unheard, self.stood) = (now, false, false, false);
        self.probe = self.probe.take().map(|_| Probe::default());
        Ok(())
    }

    fn dial_anew(&mut self, host: SocketAddr) -> std::io::Result<()> {
        self.socket = self.dial.dial(host)?;
        if let Some((conditions, seed)) = self.conditions {
            LinkedSocket::wrap(&mut self.socket, conditions, seed);
        }
        Ok(())
    }

    /// For how long nothing has come from the host, not even that it is still there.
    pub fn silence(&self) -> Duration {
        self.netcode.time_since_last_received_packet()
    }

    /// The host that it speaks with.
    pub fn host(&self) -> SocketAddr {
        self.netcode.server_addr()
    }

    /// True if the system on which the host ran says that nobody listens at its address any more.
    pub fn is_unheard(&self) -> bool {
        self.unheard
    }

    /// Puts a simulated link before the host, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        self.conditions = Some((conditions, seed));
        LinkedSocket::wrap(&mut self.socket, conditions, seed);
    }

    /// Takes in what has arrived, and lets time pass.
    pub fn receive(&mut self, now: Duration) {
        let step = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        self.socket.advance(self.now);
        let before = step.min(FRAME_MAX);
        self.pass(before);
        let has_come = self.take_in();
        self.renet.update(step);
        self.pass(if has_come { Duration::ZERO } else { step - before });
        if self.netcode.is_connected() {
            self.renet.set_connected();
            self.stood = true;
        }
        // What was said of UDP says nothing of another way.
        self.unheard &= self.socket.is_udp();
        let doubts = self.socket.is_udp() && self.netcode.time_since_last_received_packet() > DOUBTS_AFTER;
        if let (Some(probe), true) = (&mut self.probe, doubts) {
            self.unheard |= probe.ask(self.now, self.netcode.server_addr());
        }
        if !self.silent && self.netcode.disconnect_reason().is_none() && self.silence() > TIMEOUT {
            self.silent = true;
            self.disconnect();
        }
    }

    /// Lets time pass for the transport.
    fn pass(&mut self, step: Duration) {
        let before = self.netcode.server_addr();
        if let Some((datagram, address)) = self.netcode.update(step) {
            let _ = self.socket.send(datagram, address);
        }
        let host = self.netcode.server_addr();
        if host != before && !self.socket.reaches(host) {
            // The next of those that stand in the token. Without a way there nothing comes of it, as of the one before.
            let _ = self.dial_anew(host);
        }
    }

    /// Takes in what has arrived. True if anything has.
    fn take_in(&mut self) -> bool {
        let (mut buffer, mut has_come) = ([0; 2_048], false);
        // Bounded: a flood must not keep a frame from ending.
        for _ in 0..4_096 {
            let (size, address) = match self.socket.receive(&mut buffer) {
                Ok(received) => received,
                Err(error) if is_passing(&error) => continue,
                Err(_) => break,
            };
            let Some(datagram) = buffer.get_mut(..size) else { continue };
            if address != self.netcode.server_addr() || datagram_kind(datagram).is_none() {
                self.refused += 1;
                continue;
            }
            let (netcode, renet, gate, packets) = (&mut self.netcode, &mut self.renet, &mut self.gate, &mut self.packets);
            let passed = catch_unwind(AssertUnwindSafe(|| match netcode.process_packet(datagram) {
                None => true,
                // A gate takes note of what it admits: it is asked once.
                Some(payload) if !gate.admits(payload) => false,
                Some(payload) if is_raw(payload) => {
                    if packets.len() >= PACKETS_WAITING_MAX {
                        packets.pop_front();
                    }
                    packets.push_back(Bytes::copy_from_slice(payload));
                    true
                }
                Some(payload) => {
                    renet.process_packet(payload);
                    true
                }
            }));
            let passed = passed.unwrap_or(false);
            has_come |= passed;
            self.refused += u64::from(!passed);
        }
        has_come
    }

    /// The next packet that arrived beside the channels: perhaps not in order, perhaps not all of them, each at most once. Its first byte
    /// is one of [`RAW_KINDS`](crate::protocol::RAW_KINDS).
    pub fn next_packet(&mut self) -> Option<Bytes> {
        self.packets.pop_front()
    }

    /// Sends a packet of our own at once, encrypted, beside the channels. It begins with one of
    /// [`RAW_KINDS`](crate::protocol::RAW_KINDS) and has at most [`RAW_BYTES_MAX`](crate::protocol::RAW_BYTES_MAX) bytes.
    ///
    /// False if it did not leave and is lost: the link does not stand, the packet is none, or the system's buffer is full.
    pub fn send_packet(&mut self, packet: &[u8]) -> bool {
        if !is_packet(packet) {
            return false;
        }
        let Ok((address, datagram)) = self.netcode.generate_payload_packet(packet) else { return false };
        self.socket.send(datagram, address).is_ok()
    }

    /// Queues a message; it leaves with the next flush.
    ///
    /// # Errors
    /// If it is too large, or too much is unacknowledged; it is then not sent.
    pub fn send(&mut self, message: Bytes) -> Result<(), LinkError> {
        if message.len() > CLIENT_MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLarge(message.len()));
        }
        if !self.renet.can_send_message(CHANNEL, message.len()) {
            return Err(LinkError::Full);
        }
        self.renet.send_message(CHANNEL, message);
        Ok(())
    }

    /// Sends what is queued, and again what was not acknowledged in time. Once per tick.
    pub fn flush(&mut self) {
        let waiting = self.renet.channel_available_memory(CHANNEL) < CLIENT_RELIABLE_BYTES_MAX;
        if !self.netcode.is_connected() || !waiting {
            return;
        }
        // The transport adds an answer to the host's answers, which need none.
        for packet in self.renet.get_packets_to_send().iter().filter(|packet| !is_acknowledgement(packet)) {
            if let Ok((address, datagram)) = self.netcode.generate_payload_packet(packet) {
                let _ = self.socket.send(datagram, address);
            }
        }
    }

    /// Where the link stands.
    pub fn status(&self) -> LinkStatus {
        if self.silent {
            return LinkStatus::Disconnected(format!("nothing has come from the server for {TIMEOUT_SECONDS} s"));
        }
        if self.unheard && self.stood {
            return LinkStatus::Disconnected(format!("nobody listens at {} any more", self.netcode.server_addr()));
        }
        if let Some(reason) = self.netcode.disconnect_reason() {
            return LinkStatus::Disconnected(reason.to_string());
        }
        if let Some(reason) = self.renet.disconnect_reason() {
            return LinkStatus::Disconnected(reason.to_string());
        }
        if let Some(why) = self.socket.ended().filter(|_| self.stood || self.last.is_none_or(|last| last == self.host())) {
            return LinkStatus::Disconnected(why.to_owned());
        }
        if self.netcode.is_connected() { LinkStatus::Connected } else { LinkStatus::Connecting }
    }

    /// Says goodbye. What is queued and not flushed is lost; what is on a simulated link leaves it at once, since nobody may let time pass on it any more.
    pub fn disconnect(&mut self) {
        // More than once: nobody answers, and datagrams get lost.
        if let Ok((address, datagram)) = self.netcode.disconnect() {
            for _ in 0..3 {
                let _ = self.socket.send(datagram, address);
            }
        }
        self.socket.let_out();
    }

    /// How many datagrams were refused at the gate.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The number of the connection, as its token says.
    pub fn client_id(&self) -> u64 {
        self.netcode.client_id()
    }
}

fn netcode_client(credentials: &Credentials, now: Duration) -> Result<NetcodeClient, LinkError> {
    let authentication = match credentials {
        Credentials::Token(token) => {
            let connect_token = ConnectToken::read(&mut Cursor::new(token)).map_err(LinkError::Token)?;
            if connect_token.server_addresses[0].is_none() {
                return Err(LinkError::Token(NetcodeError::NoMoreServers));
            }
            // The transport takes the one from the other.
            if connect_token.expire_timestamp < connect_token.create_timestamp {
                return Err(LinkError::Token(NetcodeError::Expired));
            }
            ClientAuthentication::Secure { connect_token }
        }
        Credentials::Unauthenticated { server, admission } => ClientAuthentication::Unsecure {
            protocol_id: TRANSPORT_ID,
            client_id: admission.client_id,
            server_addr: *server,
            user_data: Some(admission.encode()?),
        },
    };
    NetcodeClient::new(now, authentication).map_err(LinkError::Token)
}
