//! How a client opens a way to a host.

use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::socket::DatagramSocket;

/// Opens ways to hosts, by whatever carries datagrams.
pub trait Dial: Debug + Send + Sync {
    /// Begins to open a way to a host, and does not wait until it is: what is sent before is lost. What it receives is from that address, whatever is in
    /// between.
    ///
    /// # Errors
    /// If the system gives no socket.
    fn dial(&self, host: SocketAddr) -> io::Result<Box<dyn DatagramSocket>>;
}

impl Dial for Arc<dyn Dial> {
    fn dial(&self, host: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
        (**self).dial(host)
    }
}

/// By UDP: what there is unless somebody says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpDial;

impl Dial for UdpDial {
    fn dial(&self, host: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
        let any: SocketAddr = match host {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        Ok(Box::new(socket))
    }
}

/// By one way, and by another where nothing comes by the first: some networks let no UDP through.
///
/// Which it is is decided anew for each connection, before it stands.
///
/// ```
/// use std::time::Duration;
/// use roomkeeper::net::{FallbackDial, UdpDial};
/// # #[cfg(feature = "websocket")] {
/// use roomkeeper::net::WebSocketDial;
///
/// let dial = FallbackDial::new(UdpDial, WebSocketDial::default(), Duration::from_secs(2));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FallbackDial {
    first: Arc<dyn Dial>,
    second: Arc<dyn Dial>,
    after: Duration,
}

impl FallbackDial {
    /// By `first`; and by `second`, where nothing has come by the first for so long.
    pub fn new(first: impl Dial + 'static, second: impl Dial + 'static, after: Duration) -> Self {
        Self { first: Arc::new(first), second: Arc::new(second), after }
    }
}

impl Dial for FallbackDial {
    fn dial(&self, host: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
        let way = Way::First { since: None, second: None };
        Ok(Box::new(FallbackSocket { host, socket: self.first.dial(host)?, way, dial: self.clone() }))
    }
}

/// Which of two ways it is.
#[derive(Debug)]
enum Way {
    /// Nothing has come by the first yet, since the time at which it was begun; the second may be about to be opened.
    First { since: Option<Duration>, second: Option<Box<dyn DatagramSocket>> },
    /// It is known.
    Known,
}

/// The first way until something comes by it, or until the second is open and nothing has.
#[derive(Debug)]
struct FallbackSocket {
    host: SocketAddr,
    socket: Box<dyn DatagramSocket>,
    way: Way,
    dial: FallbackDial,
}

impl FallbackSocket {
    /// True if another way than the one that is used may still be taken.
    fn may_change(&self) -> bool {
        match &self.way {
            Way::First { second: Some(second), .. } => second.ended().is_none(),
            Way::First { since, second: None } => *since != Some(Duration::MAX),
            Way::Known => false,
        }
    }
}

impl DatagramSocket for FallbackSocket {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if let Way::First { second, .. } = &mut self.way
            && let Some(mut open) = second.take_if(|second| second.ended().is_none())
        {
            // It takes something only once it is open. A host that was asked by both ways at once would take the second for a copy of the first.
            if open.send(datagram, to).is_ok() {
                (self.socket, self.way) = (open, Way::Known);
                return Ok(());
            }
            *second = Some(open);
        }
        self.socket.send(datagram, to)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.receive(buffer)?;
        if received.1 == self.host {
            self.way = Way::Known;
        }
        Ok(received)
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    fn advance(&mut self, now: Duration) {
        self.socket.advance(now);
        let is_over = self.socket.ended().is_some();
        let Way::First { since, second } = &mut self.way else { return };
        match second {
            Some(second) => second.advance(now),
            None => {
                let begun = *since.get_or_insert(now);
                // Where the first can't be had nothing is waited for.
                let is_due = is_over || now >= begun.saturating_add(self.dial.after);
                if is_due && begun != Duration::MAX {
                    // Where it can't be had either the first is all there is.
                    *second = self.dial.second.dial(self.host).ok();
                    *since = Some(Duration::MAX);
                }
            }
        }
    }

    fn let_out(&mut self) {
        self.socket.let_out();
    }

    fn next_due(&self) -> Option<Duration> {
        self.socket.next_due()
    }

    /// Never: the next connection may be from another network.
    fn reaches(&self, _host: SocketAddr) -> bool {
        false
    }

    /// The end of the first is none as long as the second may be taken.
    fn ended(&self) -> Option<&str> {
        if self.may_change() { None } else { self.socket.ended() }
    }

    /// What the system says of UDP counts only where there is no other way to come: that nobody listens there is no news to who is about to come by
    /// another.
    fn is_udp(&self) -> bool {
        !self.may_change() && self.socket.is_udp()
    }

    #[cfg(unix)]
    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        self.socket.raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::net::{MemoryNetwork, MemorySocket};

    /// A way over a network in memory: from an address of its own each time.
    #[derive(Clone, Debug)]
    struct Over(MemoryNetwork);

    impl Dial for Over {
        fn dial(&self, _: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
            Ok(Box::new(self.0.bind(local(0))?))
        }
    }

    /// No way at all; it counts how often it was asked for.
    #[derive(Debug)]
    struct Nowhere(Arc<AtomicU32>);
    impl Dial for Nowhere {
        fn dial(&self, _: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// A way that is refused.
    #[derive(Debug)]
    struct Refused;
    impl Dial for Refused {
        fn dial(&self, _: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
            Ok(Box::new(Self))
        }
    }
    impl DatagramSocket for Refused {
        fn send(&mut self, _: &[u8], _: SocketAddr) -> io::Result<()> {
            Err(io::ErrorKind::NotConnected.into())
        }
        fn receive(&mut self, _: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn local_address(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::NotConnected.into())
        }
        fn ended(&self) -> Option<&str> {
            Some("refused")
        }
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn came(socket: &mut MemorySocket) -> Vec<(u8, SocketAddr)> {
        let mut buffer = [0; 8];
        std::iter::from_fn(|| socket.receive(&mut buffer).ok().map(|(_, from)| (buffer[0], from))).collect()
    }

    /// A host that can be reached by two networks, and a way to it.
    fn two_ways() -> (MemorySocket, MemorySocket, Box<dyn DatagramSocket>) {
        let (one, other) = (MemoryNetwork::new(), MemoryNetwork::new());
        let hosts = (one.bind(local(9)).unwrap(), other.bind(local(9)).unwrap());
        let dial = FallbackDial::new(Over(one), Over(other), seconds(2));
        (hosts.0, hosts.1, dial.dial(local(9)).unwrap())
    }

    #[test]
    fn where_nothing_comes_by_the_first_way_the_second_is_taken_and_kept() {
        let (mut first, mut second, mut socket) = two_ways();
        socket.advance(seconds(100));
        socket.send(&[1], local(9)).unwrap();
        socket.advance(seconds(101));
        socket.send(&[2], local(9)).unwrap();
        socket.advance(seconds(102));
        socket.send(&[3], local(9)).unwrap();
        let by_first: Vec<u8> = came(&mut first).into_iter().map(|(byte, _)| byte).collect();
        let by_second = came(&mut second);
        assert_eq!((by_first.as_slice(), by_second.len(), by_second[0].0), ([1, 2].as_slice(), 1, 3));
        // What comes by the first is too late.
        first.send(&[7], by_second[0].1).unwrap();
        second.send(&[8], by_second[0].1).unwrap();
        let mut buffer = [0; 8];
        assert_eq!((socket.receive(&mut buffer).unwrap(), buffer[0]), ((1, local(9)), 8));
        socket.send(&[4], local(9)).unwrap();
        assert_eq!((came(&mut first), came(&mut second).len()), (vec![], 1));
    }

    #[test]
    fn where_something_comes_by_the_first_way_it_stays_however_long_it_is_silent_then() {
        let (mut first, mut second, mut socket) = two_ways();
        socket.advance(seconds(100));
        socket.send(&[1], local(9)).unwrap();
        let (_, from) = came(&mut first)[0];
        first.send(&[2], from).unwrap();
        socket.receive(&mut [0; 8]).unwrap();
        for second in 101..200 {
            socket.advance(seconds(second));
            socket.send(&[3], local(9)).unwrap();
        }
        assert_eq!((came(&mut first).len(), came(&mut second)), (99, vec![]));
    }

    #[test]
    fn what_the_system_says_of_udp_counts_only_where_there_is_no_other_way_to_come() {
        let network = MemoryNetwork::new();
        let _host = network.bind(local(9)).unwrap();
        let mut socket = FallbackDial::new(UdpDial, Over(network), seconds(2)).dial(local(9)).unwrap();
        for second in 100..104 {
            assert!(!socket.is_udp(), "{second}");
            socket.advance(seconds(second));
        }
        socket.send(&[1], local(9)).unwrap();
        assert!(!socket.is_udp(), "it is the other one");

        let mut socket = FallbackDial::new(UdpDial, Nowhere(Arc::default()), seconds(2)).dial(local(9)).unwrap();
        socket.advance(seconds(100));
        assert!(!socket.is_udp());
        socket.advance(seconds(102));
        assert!(socket.is_udp(), "there is no other");
    }

    #[test]
    fn where_the_first_way_is_refused_the_second_is_taken_at_once_and_its_end_is_told_only_where_there_is_none() {
        let network = MemoryNetwork::new();
        let mut host = network.bind(local(9)).unwrap();
        // Alone, and as the second of another.
        let chain = || FallbackDial::new(Refused, Over(network.clone()), seconds(2));
        for dial in [chain(), FallbackDial::new(Refused, chain(), seconds(2))] {
            let mut socket = dial.dial(local(9)).unwrap();
            for _ in 0..3 {
                assert_eq!(socket.ended(), None);
                socket.advance(seconds(100));
            }
            socket.send(&[1], local(9)).unwrap();
            assert_eq!((came(&mut host).len(), socket.ended()), (1, None));
        }
        let mut socket = FallbackDial::new(Refused, Refused, seconds(2)).dial(local(9)).unwrap();
        socket.advance(seconds(100));
        assert_eq!(socket.ended(), Some("refused"));
    }

    #[test]
    fn where_there_is_no_second_way_the_first_goes_on_and_the_other_is_asked_for_once() {
        let network = MemoryNetwork::new();
        let mut host = network.bind(local(9)).unwrap();

        let asked = Arc::default();
        let mut socket = FallbackDial::new(Over(network), Nowhere(Arc::clone(&asked)), seconds(2)).dial(local(9)).unwrap();
        for second in 100..110 {
            socket.advance(seconds(second));
            socket.send(&[1], local(9)).unwrap();
        }
        assert_eq!((came(&mut host).len(), asked.load(Ordering::Relaxed)), (10, 1));
    }
}
