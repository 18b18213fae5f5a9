//! Whether anybody listens at a host's address: a process that is gone can't say goodbye, but the system that it ran on says that it is gone.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::net::is_refused;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// After so many answers that nobody listens it is believed. A process that takes another's place may not be there yet at the first.
const ANSWERS: u32 = 3;

/// What is sent: a host lets it fall.
const KNOCK: [u8; 1] = [0];

/// Asks by a socket of its own. The one by which a client speaks with its host can't: for a system to say so it would have to be bound to the
/// host's address, and then it would not go on by another network.
#[derive(Debug, Default)]
pub(super) struct Probe {
    socket: Option<(SocketAddr, UdpSocket)>,
    asked: Option<Duration>,
    refused: u32,
}

impl Probe {
    /// Asks, if it is time to. True once it is known that nobody listens.
    pub(super) fn ask(&mut self, now: Duration, host: SocketAddr) -> bool {
        if self.socket.as_ref().is_none_or(|(asked, _)| *asked != host) {
            *self = Self { socket: open(host).ok().map(|socket| (host, socket)), ..Self::default() };
        }
        let Some((_, socket)) = &self.socket else { return false };
        if self.asked.is_some_and(|asked| now < asked + ASK_EVERY) {
            return self.refused >= ANSWERS;
        }
        self.asked = Some(now);
        // What the last knock came to is told by whatever is done next.
        let heard = socket.recv(&mut [0; 1]).err().is_some_and(|error| is_refused(&error));
        let told = socket.send(&KNOCK).err().is_some_and(|error| is_refused(&error));
        self.refused += u32::from(heard || told);
        self.refused >= ANSWERS
    }
}

fn open(host: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match host {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(host)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: SocketAddr) -> bool {
        let mut probe = Probe::default();
        (0..20).any(|nth| {
            std::thread::sleep(Duration::from_millis(5));
            probe.ask(ASK_EVERY * nth, host)
        })
    }

    #[test]
    fn a_socket_that_is_gone_is_known_and_one_that_is_silent_is_not_taken_to_be() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let host = silent.local_addr().unwrap();
        assert!(!ask(host));
        drop(silent);
        assert!(ask(host));
    }
}
