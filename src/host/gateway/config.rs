//! Where a gateway listens, and who may connect.

use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use thiserror::Error;

use super::counters::GatewayLimits;
use crate::host::token::HostKey;

/// The receive buffer that a socket asks for. The default of Linux holds about 255 small datagrams: at 20 Hz, everything
/// beyond some 128 clients would be dropped in silence.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

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
    /// The addresses that stand in the tokens; the bound one if there are none.
    pub public_addresses: Vec<SocketAddr>,
    /// Who may connect.
    pub access: Access,
    /// What is allowed.
    pub limits: GatewayLimits,
}

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
        error: std::io::Error,
    },
    /// Without tokens anybody could connect.
    #[error("{0} can be reached from outside: give a key for connect tokens, or allow access without authentication")]
    Unauthenticated(SocketAddr),
    /// More clients than the transport can hold.
    #[error("a shard holds at most 256 clients, not {0}")]
    TooManyClients(usize),
}

impl ShardConfig {
    /// Refuses what would let in anybody unasked, or more than the transport can hold.
    pub(super) fn check(&self) -> Result<(), BindError> {
        if self.access == Access::Loopback && !self.bind.ip().is_loopback() {
            return Err(BindError::Unauthenticated(self.bind));
        }
        if self.limits.clients_max > 256 {
            return Err(BindError::TooManyClients(self.limits.clients_max));
        }
        Ok(())
    }
}

/// Opens a socket of the system.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(SocketProtocol::UDP))?;
    // The system may grant less (net.core.rmem_max); what it grants is better than its default.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
