//! A simulated link before each remote address.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::socket::{DatagramSocket, NoSocket, hand_out, is_passing, one_by_one};
use crate::protocol::{Link, LinkConditions};

/// Most remote addresses that have links of their own. For one more, the one that was silent for longest is forgotten, with what is on
/// its way.
pub const LANES_MAX: usize = 4_096;

/// Most datagrams on the way over all links. More are lost.
const CARRIED_MAX: usize = 65_536;

/// Most datagrams that are taken from the socket at once.
const PULLED_MAX: usize = 8_192;

/// The links to and from one address.
#[derive(Debug)]
struct Lane {
    outgoing: Link,
    incoming: Link,
    used: Duration,
}

/// A socket with a simulated link before each remote address, in one direction or both.
///
/// What is delayed leaves, or arrives, when time [passes](DatagramSocket::advance). The same seed loses the same datagrams, if the same ones are
/// sent at the same times.
#[derive(Debug)]
pub struct LinkedSocket {
    socket: Box<dyn DatagramSocket>,
    outgoing: LinkConditions,
    incoming: LinkConditions,
    seed: u64,
    now: Duration,
    lanes: BTreeMap<SocketAddr, Lane>,
    /// How many lanes there ever were.
    opened: u64,
    arrived: VecDeque<(SocketAddr, Bytes)>,
    carried: usize,
}

impl LinkedSocket {
    /// The same conditions in both directions.
    pub fn new(socket: Box<dyn DatagramSocket>, conditions: LinkConditions, seed: u64) -> Self {
        Self::with_directions(socket, conditions, conditions, seed)
    }

    /// For what goes out, and for what comes in. A perfect direction costs nothing.
    pub fn with_directions(socket: Box<dyn DatagramSocket>, outgoing: LinkConditions, incoming: LinkConditions, seed: u64) -> Self {
        let (lanes, arrived) = Default::default();
        Self { socket, outgoing, incoming, seed, now: Duration::ZERO, lanes, opened: 0, arrived, carried: 0 }
    }

    /// Puts links before a socket that is in use; where there are some already they are changed, and go on by their own seed.
    pub fn wrap(socket: &mut Box<dyn DatagramSocket>, conditions: LinkConditions, seed: u64) {
        if socket.relink(conditions) {
            return;
        }
        let inner = std::mem::replace(socket, Box::new(NoSocket));
        *socket = Box::new(Self::new(inner, conditions, seed));
    }

    /// How many addresses have links.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn lane(&mut self, address: SocketAddr) -> &mut Lane {
        if !self.lanes.contains_key(&address) && self.lanes.len() >= LANES_MAX {
            let silent = self.lanes.iter().min_by_key(|(_, lane)| lane.used).map(|(address, _)| *address);
            silent.and_then(|silent| self.lanes.remove(&silent));
        }
        let (outgoing, incoming, now) = (self.outgoing, self.incoming, self.now);
        let seed = self.seed.wrapping_add(self.opened * 2);
        let lane = self.lanes.entry(address).or_insert_with(|| {
            self.opened += 1;
            Lane { outgoing: Link::new(outgoing, seed), incoming: Link::new(incoming, seed.wrapping_add(1)), used: now }
        });
        lane.used = now;
        lane
    }

    /// Puts what has come to the socket on its way.
    fn pull(&mut self) {
        let (mut buffer, now) = ([0; 2_048], self.now);
        for _ in 0..PULLED_MAX {
            match self.socket.receive(&mut buffer) {
                Ok((size, from)) => {
                    let datagram = Bytes::copy_from_slice(buffer.get(..size).unwrap_or_default());
                    if self.carried < CARRIED_MAX {
                        self.carried += 1;
                        self.lane(from).incoming.send(now, datagram);
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(_) => break,
            }
        }
    }

    /// Lets out and in what has been on its way for long enough.
    fn deliver(&mut self) {
        let mut carried = 0;
        for (address, lane) in &mut self.lanes {
            while let Some(datagram) = lane.outgoing.receive(self.now) {
                // What the system does not take is lost on its way.
                let _ = self.socket.send(&datagram, *address);
            }
            while let Some(datagram) = lane.incoming.receive(self.now) {
                self.arrived.push_back((*address, datagram));
            }
            carried += lane.outgoing.in_flight() + lane.incoming.in_flight();
        }
        self.carried = carried + self.arrived.len();
    }
}

impl DatagramSocket for LinkedSocket {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if self.outgoing.is_perfect() {
            return self.socket.send(datagram, to);
        }
        if self.carried < CARRIED_MAX {
            self.carried += 1;
            let now = self.now;
            self.lane(to).outgoing.send(now, Bytes::copy_from_slice(datagram));
        }
        Ok(())
    }

    fn segments_max(&self) -> usize {
        if self.outgoing.is_perfect() { self.socket.segments_max() } else { 1 }
    }

    fn send_segments(&mut self, datagrams: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
        if self.outgoing.is_perfect() {
            return self.socket.send_segments(datagrams, size, to);
        }
        one_by_one(datagrams, size, |datagram| self.send(datagram, to))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        // Also once the link is perfect: what was on its way before came first.
        match self.arrived.pop_front() {
            Some((address, datagram)) => Ok((hand_out(&datagram, buffer), address)),
            None if self.incoming.is_perfect() => self.socket.receive(buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    fn advance(&mut self, now: Duration) {
        self.socket.advance(now);
        self.now = self.now.max(now);
        if !self.incoming.is_perfect() {
            self.pull();
        }
        self.deliver();
    }

    fn let_out(&mut self) {
        for (address, lane) in &mut self.lanes {
            while let Some(datagram) = lane.outgoing.receive(Duration::MAX) {
                self.carried = self.carried.saturating_sub(1);
                // What the system does not take is lost on its way.
                let _ = self.socket.send(&datagram, *address);
            }
        }
        self.socket.let_out();
    }

    fn next_due(&self) -> Option<Duration> {
        let lanes = self.lanes.values().flat_map(|lane| [lane.outgoing.next_arrival(), lane.incoming.next_arrival()]).flatten();
        lanes.chain(self.socket.next_due()).min()
    }

    fn reaches(&self, host: SocketAddr) -> bool {
        self.socket.reaches(host)
    }

    fn ended(&self) -> Option<&str> {
        self.socket.ended()
    }

    fn next_lost(&mut self) -> Option<SocketAddr> {
        self.socket.next_lost()
    }

    fn relink(&mut self, conditions: LinkConditions) -> bool {
        (self.outgoing, self.incoming) = (conditions, conditions);
        for lane in self.lanes.values_mut() {
            (lane.outgoing.conditions, lane.incoming.conditions) = (conditions, conditions);
        }
        true
    }

    fn is_udp(&self) -> bool {
        self.socket.is_udp()
    }

    #[cfg(unix)]
    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        self.socket.raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::MemoryNetwork;

    fn address(number: u32) -> SocketAddr {
        let [_, a, b, c] = number.to_be_bytes();
        SocketAddr::from(([10, a, b, c], 9))
    }

    fn received(socket: &mut dyn DatagramSocket) -> Vec<u8> {
        let mut buffer = [0; 8];
        std::iter::from_fn(|| socket.receive(&mut buffer).ok().map(|_| buffer[0])).collect()
    }

    #[test]
    fn what_is_delayed_arrives_when_time_has_passed() {
        let network = MemoryNetwork::new();
        let mut far = network.bind(address(2)).unwrap();
        let near = Box::new(network.bind(address(1)).unwrap());
        let mut near = LinkedSocket::new(near, "rtt=100ms".parse().unwrap(), 7);
        near.advance(Duration::ZERO);
        near.send(&[1], address(2)).unwrap();
        far.send(&[2], address(1)).unwrap();
        near.advance(Duration::from_millis(10));
        assert_eq!(near.next_due(), Some(Duration::from_millis(50)));
        near.advance(Duration::from_millis(49));
        assert!(received(&mut far).is_empty() && received(&mut near).is_empty());
        near.advance(Duration::from_millis(50));
        assert_eq!(received(&mut far), [1]);
        near.advance(Duration::from_millis(60));
        assert_eq!(received(&mut near), [2]);
        assert_eq!(near.next_due(), None);
    }

    #[test]
    fn what_is_let_out_arrives_at_once_and_the_time_goes_on_from_where_it_was() {
        let network = MemoryNetwork::new();
        let mut far = network.bind(address(2)).unwrap();
        let near = Box::new(network.bind(address(1)).unwrap());
        let mut near = LinkedSocket::new(near, "rtt=100ms".parse().unwrap(), 7);
        near.advance(Duration::from_millis(10));
        near.send(&[1], address(2)).unwrap();
        far.send(&[2], address(1)).unwrap();
        near.let_out();
        assert_eq!((received(&mut far), received(&mut near)), (vec![1], vec![]));
        assert_eq!((near.carried, near.next_due()), (0, None));
        // What is sent afterwards is on its way as long as ever, and so is what comes.
        near.send(&[3], address(2)).unwrap();
        near.advance(Duration::from_millis(20));
        near.advance(Duration::from_millis(59));
        assert!(received(&mut far).is_empty() && received(&mut near).is_empty());
        near.advance(Duration::from_millis(70));
        assert_eq!((received(&mut far), received(&mut near)), (vec![3], vec![2]));
    }

    #[test]
    fn one_direction_can_be_perfect() {
        let network = MemoryNetwork::new();
        let mut far = network.bind(address(2)).unwrap();
        let near = Box::new(network.bind(address(1)).unwrap());
        let mut near = LinkedSocket::with_directions(near, "loss=100%".parse().unwrap(), LinkConditions::PERFECT, 7);
        near.send(&[1], address(2)).unwrap();
        far.send(&[2], address(1)).unwrap();
        near.advance(Duration::from_secs(1));
        assert_eq!((received(&mut far), received(&mut near)), (vec![], vec![2]));
    }

    #[test]
    fn a_link_can_be_changed_and_lifted_and_what_was_on_its_way_arrives() {
        let network = MemoryNetwork::new();
        let mut far = network.bind(address(2)).unwrap();
        let mut near: Box<dyn DatagramSocket> = Box::new(network.bind(address(1)).unwrap());
        LinkedSocket::wrap(&mut near, "rtt=100ms".parse().unwrap(), 7);
        near.advance(Duration::ZERO);
        near.send(&[1], address(2)).unwrap();
        LinkedSocket::wrap(&mut near, "rtt=20ms".parse().unwrap(), 7);
        near.send(&[2], address(2)).unwrap();
        near.advance(Duration::from_millis(10));
        assert_eq!(received(&mut far), [2]);
        LinkedSocket::wrap(&mut near, LinkConditions::PERFECT, 7);
        near.send(&[3], address(2)).unwrap();
        assert_eq!(received(&mut far), [3]);
        near.advance(Duration::from_millis(50));
        assert_eq!(received(&mut far), [1]);
    }

    #[test]
    fn the_same_seed_loses_the_same() {
        let run = |seed: u64| {
            let network = MemoryNetwork::new();
            let mut far = network.bind(address(2)).unwrap();
            let near = Box::new(network.bind(address(1)).unwrap());
            let mut near = LinkedSocket::new(near, "loss=30%,rtt=20ms,jitter=40ms,dup=5%".parse().unwrap(), seed);
            for n in 0..100 {
                near.advance(Duration::from_millis(u64::from(n)));
                near.send(&[n], address(2)).unwrap();
            }
            near.advance(Duration::from_secs(1));
            received(&mut far)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!((60..90).contains(&run(7).len()));
    }

    #[test]
    fn strangers_fill_no_memory() {
        let network = MemoryNetwork::new();
        let near = Box::new(network.bind(address(1)).unwrap());
        let mut near = LinkedSocket::new(near, "rtt=10000ms".parse().unwrap(), 7);
        for number in 2..6_000 {
            near.advance(Duration::from_millis(u64::from(number)));
            near.send(&[1], address(number)).unwrap();
        }
        assert_eq!(near.lanes(), LANES_MAX);
        assert!(!near.lanes.contains_key(&address(2)) && near.lanes.contains_key(&address(5_999)));
        for _ in 0..CARRIED_MAX + 10 {
            near.send(&[1], address(5_999)).unwrap();
        }
        assert!(near.carried <= CARRIED_MAX);
    }
}
