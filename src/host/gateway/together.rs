//! Datagrams to one client that leave at once, where the socket can send several with less effort than one by one.

use std::net::SocketAddr;

use super::counters::GatewayCounters;
use crate::net::DatagramSocket;
use crate::protocol::DATAGRAM_BYTES_MAX;

/// Datagrams that wait for the next one to the same client. All have the same size; only the last may be shorter.
#[derive(Debug, Default)]
pub(super) struct Together {
    to: Option<SocketAddr>,
    size: usize,
    count: usize,
    bytes: Vec<u8>,
}

impl Together {
    /// Sends a datagram: with those that wait if it can leave with them, else after them. False if it did not leave and is lost.
    pub(super) fn send(
        &mut self,
        socket: &mut dyn DatagramSocket,
        counters: &mut GatewayCounters,
        to: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let most = socket.segments_max();
        if most <= 1 {
            self.leave(socket, counters);
            return transmit(socket, counters, to, datagram);
        }
        let all_full = self.bytes.len() == self.count * self.size;
        if self.to != Some(to) || self.count >= most || datagram.len() > self.size || !all_full {
            self.leave(socket, counters);
            (self.to, self.size) = (Some(to), datagram.len());
        }
        self.bytes.extend_from_slice(datagram);
        self.count += 1;
        true
    }

    /// Sends what waits.
    pub(super) fn leave(&mut self, socket: &mut dyn DatagramSocket, counters: &mut GatewayCounters) {
        if let Some(to) = self.to.take() {
            let sent = match self.count {
                1 => socket.send(&self.bytes, to),
                _ => socket.send_segments(&self.bytes, self.size, to),
            };
            count(counters, self.count, self.bytes.len(), sent.is_ok());
        }
        self.count = 0;
        self.bytes.clear();
    }
}

/// Sends a datagram at once. False if the system does not take it.
pub(super) fn transmit(socket: &mut dyn DatagramSocket, counters: &mut GatewayCounters, to: SocketAddr, datagram: &[u8]) -> bool {
    debug_assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
    let sent = socket.send(datagram, to).is_ok();
    count(counters, 1, datagram.len(), sent);
    sent
}

fn count(counters: &mut GatewayCounters, datagrams: usize, bytes: usize, sent: bool) {
    if sent {
        counters.datagrams_out += datagrams as u64;
        counters.bytes_out += bytes as u64;
    } else {
        counters.sends_failed += datagrams as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    /// A socket that notes what it is given, by call.
    #[derive(Debug)]
    struct Noted(usize, Vec<(SocketAddr, Vec<Vec<u8>>)>);

    impl DatagramSocket for Noted {
        fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
            self.send_segments(datagram, datagram.len(), to)
        }

        fn segments_max(&self) -> usize {
            self.0
        }

        fn send_segments(&mut self, datagrams: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
            self.1.push((to, datagrams.chunks(size).map(<[u8]>::to_vec).collect()));
            Ok(())
        }

        fn receive(&mut self, _: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn local_address(&self) -> io::Result<SocketAddr> {
            Ok(address(0))
        }
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 9))
    }

    proptest! {
        #[test]
        fn all_datagrams_leave_in_order_and_as_they_are(most in 1..5_usize, sizes in prop::collection::vec((0..3_u8, 1..4_usize), 0..60)) {
            let (mut socket, mut counters, mut together) = (Noted(most, Vec::new()), GatewayCounters::default(), Together::default());
            let sent: Vec<(SocketAddr, Vec<u8>)> = (0..).zip(&sizes).map(|(n, (to, size))| (address(*to), vec![n; *size])).collect();
            for (to, datagram) in &sent {
                together.send(&mut socket, &mut counters, *to, datagram);
            }
            together.leave(&mut socket, &mut counters);
            together.leave(&mut socket, &mut counters);
            let came: Vec<_> = socket.1.iter().flat_map(|(to, each)| each.iter().map(|datagram| (*to, datagram.clone()))).collect();
            prop_assert_eq!(&came, &sent);
            prop_assert!(socket.1.iter().all(|(_, each)| (1..=most).contains(&each.len())));
            let bytes: usize = sent.iter().map(|(_, datagram)| datagram.len()).sum();
            prop_assert_eq!((counters.datagrams_out, counters.bytes_out), (sent.len() as u64, bytes as u64));
        }
    }

    #[test]
    fn datagrams_of_one_size_and_a_shorter_one_leave_at_once() {
        let (mut socket, mut counters, mut together) = (Noted(46, Vec::new()), GatewayCounters::default(), Together::default());
        for (to, size) in [(1, 9), (1, 9), (1, 4), (1, 4), (2, 9), (2, 12)] {
            together.send(&mut socket, &mut counters, address(to), &vec![0; size]);
        }
        together.leave(&mut socket, &mut counters);
        let calls: Vec<usize> = socket.1.iter().map(|(_, each)| each.len()).collect();
        assert_eq!(calls, [3, 1, 1, 1]);
    }
}
