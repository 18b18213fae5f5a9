//! A socket of the system that hands over several datagrams to one address at once, where the system cuts them apart itself: what a
//! datagram costs is mostly its way through the system, which they then take together ("generic segmentation offload").

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::socket::DatagramSocket;

/// Most datagrams at once: Linux takes 64, and no more than 64 KiB, which these stay below however large they are.
#[cfg(target_os = "linux")]
const SEGMENTS_MAX: usize = 46;

/// After so many refusals in a row it hands over one by one. One client on a way with smaller datagrams does not turn it off for all.
const REFUSALS_MAX: u32 = 32;

/// A socket of the system. It must not block: see [`UdpSocket::set_nonblocking`].
#[derive(Debug)]
pub(crate) struct SegmentedSocket {
    socket: UdpSocket,
    segments_max: usize,
    refusals: u32,
}

impl From<UdpSocket> for SegmentedSocket {
    fn from(socket: UdpSocket) -> Self {
        let segments_max = segments_max(&socket);
        Self { socket, segments_max, refusals: 0 }
    }
}

impl DatagramSocket for SegmentedSocket {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        DatagramSocket::send(&mut self.socket, datagram, to)
    }

    fn segments_max(&self) -> usize {
        self.segments_max
    }

    fn send_segments(&mut self, datagrams: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
        if self.segments_max <= 1 {
            return self.socket.send_segments(datagrams, size, to);
        }
        match send_at_once(&self.socket, datagrams, size, to) {
            // The way there may be one on which the system can't: by a card that computes no checksums, or with smaller datagrams.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                let sent = self.socket.send_segments(datagrams, size, to);
                // What does not leave one by one either, as where there is no way at the moment, says nothing about leaving together.
                if sent.is_ok() {
                    self.refusals += 1;
                    if self.refusals >= REFUSALS_MAX {
                        self.segments_max = 1;
                    }
                }
                sent
            }
            sent => {
                self.refusals = 0;
                sent
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.receive(buffer)
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    #[cfg(unix)]
    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        self.socket.raw_fd()
    }
}

/// How many datagrams the system cuts apart; Linux does since version 4.18.
#[cfg(target_os = "linux")]
fn segments_max(socket: &UdpSocket) -> usize {
    use nix::sys::socket::{getsockopt, sockopt::UdpGsoSegment};
    if getsockopt(socket, UdpGsoSegment).is_ok() { SEGMENTS_MAX } else { 1 }
}

#[cfg(target_os = "linux")]
fn send_at_once(socket: &UdpSocket, datagrams: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
    use std::os::fd::AsRawFd;
    let size = u16::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    let segments = [ControlMessage::UdpGsoSegments(&size)];
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[io::IoSlice::new(datagrams)], &segments, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn segments_max(_socket: &UdpSocket) -> usize {
    1
}

#[cfg(not(target_os = "linux"))]
fn send_at_once(_: &UdpSocket, _: &[u8], _: usize, _: SocketAddr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What arrives of datagrams that are sent at once.
    fn arrived(datagrams: &[u8], size: usize) -> Vec<Vec<u8>> {
        arrived_at("127.0.0.1:0", "127.0.0.1", datagrams, size)
    }

    /// The same from another address, by the name that it has for this one.
    fn arrived_at(from: &str, to: &str, datagrams: &[u8], size: usize) -> Vec<Vec<u8>> {
        let far = UdpSocket::bind(if to == "::1" { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut near = SegmentedSocket::from(UdpSocket::bind(from).unwrap());
        near.send_segments(datagrams, size, SocketAddr::new(to.parse().unwrap(), far.local_addr().unwrap().port())).unwrap();
        let mut buffer = [0; 2_048];
        datagrams.chunks(size).map(|_| far.recv(&mut buffer).map(|size| buffer[..size].to_vec()).unwrap()).collect()
    }

    #[test]
    fn what_is_sent_at_once_arrives_datagram_by_datagram() {
        let bytes: Vec<u8> = (0..3_000).map(|n| (n / 100) as u8).collect();
        for size in [100, 999, 1_000, 1_232, 2_000] {
            assert_eq!(arrived(&bytes, size), bytes.chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>(), "{size}");
        }
        // As many and as large as they come.
        let bytes = vec![7; 1_400 * 46];
        assert_eq!(arrived(&bytes, 1_400).len(), 46);
    }

    #[test]
    fn addresses_of_both_kinds_are_reached() {
        if UdpSocket::bind("[::1]:0").is_err() {
            return println!("not tried: this machine has no IPv6");
        }
        let bytes = [7; 2_500];
        assert_eq!(arrived_at("[::1]:0", "::1", &bytes, 1_000).len(), 3);
        // One socket for both, which names those of the other kind by an address of its own.
        #[cfg(target_os = "linux")]
        assert_eq!(arrived_at("[::]:0", "::ffff:127.0.0.1", &bytes, 1_000).len(), 3);
    }

    #[test]
    fn what_the_system_cannot_cut_apart_is_sent_one_by_one_and_in_the_end_nothing_else_is_tried() {
        // More than it takes at once.
        assert_eq!(arrived(&[7; 200], 1).len(), 200);
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut near = SegmentedSocket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut sends = |bytes: &[u8], size: usize, times: u32| {
            (0..times).for_each(|_| near.send_segments(bytes, size, far.local_addr().unwrap()).unwrap());
            near.segments_max()
        };
        let at_first = sends(&[7; 200], 1, REFUSALS_MAX - 1);
        assert_eq!(sends(&[7; 200], 100, 1), at_first, "that one was taken at once, so it can");
        assert_eq!(sends(&[7; 200], 1, REFUSALS_MAX - 1), at_first);
        assert_eq!(sends(&[7; 200], 1, 1), 1);
    }

    #[test]
    fn where_nothing_leaves_at_all_it_is_not_taken_to_be_for_leaving_together() {
        let mut near = SegmentedSocket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let at_first = near.segments_max();
        for _ in 0..REFUSALS_MAX + 8 {
            // An address of another family.
            near.send_segments(&[7; 200], 100, "[::1]:9".parse().unwrap()).unwrap_err();
        }
        assert_eq!(near.segments_max(), at_first);
    }
}
