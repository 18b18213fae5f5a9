//! Where a gateway listens, and who may connect.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use thiserror::Error;

use super::counters::GatewayLimits;
use crate::host::token::HostKey;
#[cfg(feature = "websocket")]
use crate::net::{Crowd, WebSocketListener};
use crate::net::{DatagramSocket, SegmentedSocket};

/// The receive buffer that a socket asks for. The default of Linux holds about 255 small datagrams: at 20 Hz, everything
/// beyond some 128 clients would be dropped in silence.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The send buffer that a socket asks for. What many clients are sent in a tick is handed over faster than a card sends it, and what does not fit is lost: of
/// always the same clients, those who come last.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Who has a token that was made with this key.
    Tokens(HostKey),
    /// Anybody who reaches the socket, if that is bound to the loopback address.
    Loopback,
    /// Anybody at all. Players can then pretend to be each other.
    Anybody,
}

/// What a shard is built from.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Where to listen.
    pub bind: SocketAddr,
    /// The addresses that stand in the tokens; the bound one if there are none, which can't do where every address is bound: a token's has to be
    /// one of them exactly.
    pub public_addresses: Vec<SocketAddr>,
    /// Who may connect.
    pub access: Access,
    /// What is allowed.
    pub limits: GatewayLimits,
}

/// How many clients a thread of a gateway can hold.
pub(crate) const CLIENTS_MAX: usize = 256;

/// Why a shard can't listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The system refuses.
    #[error("can't listen on udp {address}: {error}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The system refuses to listen for those who come by WebSocket.
    #[error("can't listen on tcp {address} for WebSocket: {error}")]
    WebSocket {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Datagrams over WebSocket are a feature.
    #[error("can't listen on tcp {0} for WebSocket: this was built without the feature `websocket`")]
    NoWebSocket(SocketAddr),
    /// The system gives no random numbers for a key.
    #[error("{0}")]
    Chance(String),
    /// Without tokens anybody could connect.
    #[error("{0} can be reached from outside: give a key for connect tokens, or allow access without authentication")]
    Unauthenticated(SocketAddr),
    /// Several sockets can't share a port.
    #[error(
        "one port can't be spread over {0} threads here: that needs SO_REUSEPORT as Linux has it; leave gateway_threads at 0, or say 1, for 256 clients"
    )]
    NoSharedPort(usize),
    /// More threads than allowed, or none.
    #[error("a gateway has 1 to 16 threads, not {0}")]
    TooManyThreads(usize),
    /// More clients than the transport can hold.
    #[error("a shard holds at most 256 clients, not {0}")]
    TooManyClients(usize),
}

impl ShardConfig {
    /// Refuses what would let in anybody unasked, or more than the transport can hold.
    pub(super) fn check(&self) -> Result<(), BindError> {
        self.guard(self.bind)?;
        if self.limits.clients_max > CLIENTS_MAX {
            return Err(BindError::TooManyClients(self.limits.clients_max));
        }
        Ok(())
    }

    /// Refuses an address at which anybody could come in unasked.
    fn guard(&self, address: SocketAddr) -> Result<(), BindError> {
        match self.access {
            Access::Loopback if !address.ip().is_loopback() => Err(BindError::Unauthenticated(address)),
            Access::Loopback | Access::Anybody | Access::Tokens(_) => Ok(()),
        }
    }

    /// Opens a socket for those who come by WebSocket, with what a shard behind it is built from: tokens name the addresses by which clients come by UDP,
    /// also where these come by another way. `udp` is where it listens for those.
    #[cfg(feature = "websocket")]
    pub(super) fn listen_by_websocket(&self, address: SocketAddr, udp: SocketAddr) -> Result<(Box<dyn DatagramSocket>, Self), BindError> {
        self.guard(address)?;
        // Each may be there a second time: by a connection that broke, of which nobody knows yet.
        let most_of_one = self.limits.clients_per_address_max.saturating_mul(2);
        let crowd = Crowd { most: self.limits.clients_max.saturating_add(self.limits.pending_max), most_of_one };
        let listener = WebSocketListener::bind(address, crowd).map_err(|error| BindError::WebSocket { address, error })?;
        let public_addresses = if self.public_addresses.is_empty() { vec![udp] } else { self.public_addresses.clone() };
        Ok((Box::new(listener), Self { bind: address, public_addresses, ..self.clone() }))
    }

    /// As the feature `websocket` would.
    #[cfg(not(feature = "websocket"))]
    pub(super) fn listen_by_websocket(&self, address: SocketAddr, _udp: SocketAddr) -> Result<(Box<dyn DatagramSocket>, Self), BindError> {
        self.guard(address)?;
        Err(BindError::NoWebSocket(address))
    }
}

/// Most threads of a gateway.
pub(super) const THREADS_MAX: usize = 16;

/// How many clients a thread of a gateway is to have in the mean, of the 256 that it may have: the system spreads them by chance, and with 16 threads one
/// in some ten thousand spreads gives one of them more.
pub const CLIENTS_PER_THREAD: usize = 192;

/// How many threads a gateway needs for so many clients: one as long as that is enough.
pub fn threads_for(clients: usize) -> usize {
    if clients <= CLIENTS_MAX { 1 } else { clients.div_ceil(CLIENTS_PER_THREAD).min(THREADS_MAX) }
}

/// How a gateway is spread over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) struct Spread {
    /// How many threads it has, each with a socket on its port.
    pub(in crate::host) threads: usize,
    /// How many clients may come: as many as were wanted, or fewer, where one thread has to hold them all.
    pub(in crate::host) clients_max: usize,
}

/// Over how many threads a gateway is spread: so many as somebody says, or with 0 so many as `clients` need. Where sockets can't share a port one thread has
/// it, and with it no more clients than `each` holds.
///
/// # Errors
/// If somebody says that there are to be several, and a port can't be shared.
pub(in crate::host) fn spread(said: usize, clients: usize, each: usize, can_share: bool) -> Result<Spread, BindError> {
    let threads = if said == 0 { threads_for(clients) } else { said };
    match said {
        _ if threads == 1 || can_share => Ok(Spread { threads, clients_max: clients }),
        0 => Ok(Spread { threads: 1, clients_max: clients.min(each) }),
        _ => Err(BindError::NoSharedPort(said)),
    }
}

/// True if several sockets can share a port here, and the system spreads the clients between them.
pub(crate) fn can_share(address: SocketAddr) -> bool {
    let tried = Socket::new(Domain::for_address(address), Type::DGRAM, Some(SocketProtocol::UDP)).and_then(|socket| share(&socket));
    // Whatever else is wrong, who listens there is told.
    !tried.is_err_and(|error| error.kind() == io::ErrorKind::Unsupported)
}

/// Opens a socket of the system.
pub(super) fn listen(address: SocketAddr) -> io::Result<SegmentedSocket> {
    open(address, |_| Ok(()))
}

fn open(address: SocketAddr, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<SegmentedSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(SocketProtocol::UDP))?;
    // The system may grant less (net.core.rmem_max and wmem_max); what it grants is better than its default.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    // Windows alone would hear at `[::]` only those who come by IPv6.
    if cfg!(windows) && address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    Ok(SegmentedSocket::from(UdpSocket::from(socket)))
}

/// Opens as many sockets on one port, between which the system spreads the clients.
pub(super) fn listen_shared(mut address: SocketAddr, count: usize) -> Result<Vec<Box<dyn DatagramSocket>>, BindError> {
    if count > THREADS_MAX {
        return Err(BindError::TooManyThreads(count));
    }
    let failed = |error| BindError::Socket { address, error };
    // First without sharing: else a second server on the same port would be let in, and take half of the first one's clients.
    let alone = listen(address).map_err(failed)?;
    if count <= 1 {
        return Ok(vec![Box::new(alone)]);
    }
    drop(alone);
    let mut sockets: Vec<Box<dyn DatagramSocket>> = Vec::new();
    for _ in 0..count {
        let failed = |error| BindError::Socket { address, error };
        let socket = open(address, share).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => BindError::NoSharedPort(count),
            _ => failed(error),
        })?;
        address = socket.local_address().map_err(failed)?;
        sockets.push(Box::new(socket));
    }
    // What came before the last was open may belong to another one now: its sender asks again.
    let mut buffer = [0; 1];
    for socket in &mut sockets {
        while socket.receive(&mut buffer).is_ok() {}
    }
    Ok(sockets)
}

/// Lets a port be shared. Other systems than Linux know the option, but give everything to one of the sockets.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn share(socket: &Socket) -> io::Result<()> {
    const NO_SUCH_OPTION: i32 = 92;
    socket.set_reuse_port(true).map_err(|error| match error.raw_os_error() {
        Some(NO_SUCH_OPTION) => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn share(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_port_cannot_be_shared_one_thread_has_it_and_only_who_says_more_is_refused() {
        let is = |threads, clients_max| Spread { threads, clients_max };
        // What a server is told that is told nothing.
        assert_eq!(spread(0, 1_000, CLIENTS_MAX, true).unwrap(), is(6, 1_000));
        assert_eq!(spread(0, 1_000, CLIENTS_MAX, false).unwrap(), is(1, 256));
        assert_eq!(spread(0, 1_000, 64, false).unwrap(), is(1, 64));
        for can_share in [true, false] {
            // Nothing is missing where one is enough, or was asked for.
            assert_eq!(spread(0, 256, CLIENTS_MAX, can_share).unwrap(), is(1, 256));
            assert_eq!(spread(1, 1_000, CLIENTS_MAX, can_share).unwrap(), is(1, 1_000));
        }
        assert_eq!(spread(2, 100, CLIENTS_MAX, true).unwrap(), is(2, 100));
        let error = spread(2, 100, CLIENTS_MAX, false).unwrap_err();
        assert!(matches!(error, BindError::NoSharedPort(2)), "{error}");
        assert!(error.to_string().contains("2 threads") && error.to_string().contains("gateway_threads"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_all_clients_are_sent_in_a_tick_may_wait_in_the_socket() {
        let usual = Socket::new(Domain::IPV4, Type::DGRAM, Some(SocketProtocol::UDP)).unwrap().send_buffer_size().unwrap();
        let mut granted = 0;
        let asked = open(([127, 0, 0, 1], 0).into(), |socket| {
            granted = socket.send_buffer_size()?;
            Ok(())
        });
        asked.unwrap();
        assert!(granted > usual, "{granted}, {usual}");
    }

    #[test]
    fn whether_a_port_can_be_shared_is_what_becomes_of_it() {
        let address = ([127, 0, 0, 1], 0).into();
        match (can_share(address), listen_shared(address, 2)) {
            (true, Ok(sockets)) => assert_eq!(sockets.len(), 2),
            (false, Err(BindError::NoSharedPort(2))) => {}
            (can, came) => panic!("{can}, but {came:?}"),
        }
    }
}
