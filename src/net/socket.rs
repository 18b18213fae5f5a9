//! What the two ends of the network want of a socket.

use std::fmt::Debug;
use std::io;
#[cfg(feature = "host")]
use std::net::{IpAddr, Ipv6Addr};
use std::net::{SocketAddr, UdpSocket};
#[cfg(feature = "host")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::protocol::LinkConditions;

/// A socket that neither waits nor knows the time.
pub trait DatagramSocket: Debug + Send + Sync {
    /// Sends a datagram.
    ///
    /// # Errors
    /// If the system does not take it; it is then lost.
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;

    /// How many datagrams to one address it sends at once with less effort than one by one; 1 if it is the same.
    fn segments_max(&self) -> usize {
        1
    }

    /// Sends datagrams to one address: each has `size` bytes, but for the last, which may be shorter.
    ///
    /// # Errors
    /// If the system does not take all of them: one at least is lost.
    fn send_segments(&mut self, datagrams: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
        one_by_one(datagrams, size, |datagram| self.send(datagram, to))
    }

    /// Takes the next datagram that has arrived: its size, and who sent it. What is longer than the buffer is cut.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Lets time pass. Times don't go back.
    fn advance(&mut self, _now: Duration) {}

    /// Lets out all that was sent and is still on its way, at once: nobody lets time pass on it any more. The time stays what it is.
    fn let_out(&mut self) {}

    /// When it has something to do at the latest though nothing arrives; `None` for never.
    fn next_due(&self) -> Option<Duration> {
        None
    }

    /// True if what it sends can reach an address. One that is a way to a single host is of use for no other.
    fn reaches(&self, _host: SocketAddr) -> bool {
        true
    }

    /// Why nothing will come or go by it any more, if it is known to have ended.
    fn ended(&self) -> Option<&str> {
        None
    }

    /// The next address from which nothing will come any more, where that is known: told once of each.
    fn next_lost(&mut self) -> Option<SocketAddr> {
        None
    }

    /// Changes the simulated link before it, both ways, for what is sent from now on. False if it has none.
    fn relink(&mut self, _conditions: LinkConditions) -> bool {
        false
    }

    /// True if it sends by UDP: the system of an address at which nobody listens says so.
    fn is_udp(&self) -> bool {
        false
    }

    /// What the system knows it by, to be waited for; `None` if it is no socket of the system.
    #[cfg(unix)]
    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        None
    }
}

/// Sends datagrams that have `size` bytes each, but for the last.
pub(super) fn one_by_one(datagrams: &[u8], size: usize, mut send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut sent = Ok(());
    for datagram in datagrams.chunks(size.max(1)) {
        match send(datagram) {
            // Its buffer is full: it takes none of the others either.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => sent = Err(error),
            Ok(()) => {}
        }
    }
    sent
}

/// It must not block: see [`UdpSocket::set_nonblocking`].
impl DatagramSocket for UdpSocket {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send_to(datagram, to).map(|_| ())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer)
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn reaches(&self, host: SocketAddr) -> bool {
        self.local_addr().is_ok_and(|own| own.is_ipv4() == host.is_ipv4())
    }

    fn is_udp(&self) -> bool {
        true
    }

    #[cfg(unix)]
    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        Some(std::os::fd::AsRawFd::as_raw_fd(self))
    }
}

/// Copies a datagram to where it is wanted, cut if it is longer than that. Gives how long it is then.
pub(super) fn hand_out(datagram: &[u8], buffer: &mut [u8]) -> usize {
    let size = datagram.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..size), datagram.get(..size)) {
        to.copy_from_slice(from);
    }
    size
}

/// What stands in for a socket that is being wrapped.
#[derive(Debug)]
pub(crate) struct NoSocket;

impl DatagramSocket for NoSocket {
    fn send(&mut self, _datagram: &[u8], _to: SocketAddr) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn receive(&mut self, _buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// What Windows says of a datagram that is longer than the buffer: others cut it. It is gone.
const TOO_LONG: i32 = 10_040;

/// True for an error that says something of an earlier datagram, not that there is none. Some systems report here that one could
/// not be delivered.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    let was_too_long = cfg!(windows) && error.raw_os_error() == Some(TOO_LONG);
    is_refused(error) || was_too_long || error.kind() == io::ErrorKind::Interrupted
}

/// True for an error that says that nobody listens where an earlier datagram went.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

/// What a function returns, or `None` if it panics: what strangers say is read by libraries that know nothing of whom they would take along.
#[cfg(feature = "host")]
pub(crate) fn caught<T>(function: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(function)).ok()
}

/// The first and the last of the addresses that count as one: by IPv6 one customer has 2^64 of them.
#[cfg(feature = "host")]
pub(crate) fn neighbours(ip: IpAddr) -> (IpAddr, IpAddr) {
    match ip {
        IpAddr::V6(v6) if ip.to_canonical().is_ipv6() => {
            let own = u128::from(u64::MAX);
            (Ipv6Addr::from_bits(v6.to_bits() & !own).into(), Ipv6Addr::from_bits(v6.to_bits() | own).into())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => (ip, ip),
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;

    #[test]
    fn what_one_customer_has_by_ipv6_counts_as_one_address() {
        let of = |text: &str| neighbours(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        for alone in ["203.0.113.7", "::ffff:203.0.113.7"] {
            let ip: IpAddr = alone.parse().unwrap();
            assert_eq!(neighbours(ip), (ip, ip));
        }
    }
}
