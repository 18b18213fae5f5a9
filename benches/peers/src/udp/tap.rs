//! Between a server and one of its clients: passes datagrams on and notes their sizes. The server pays nothing for it.

use std::net::{SocketAddr, UdpSocket};

use super::socket;

/// Between a server and one client.
pub struct Tap {
    /// The client's end.
    front: UdpSocket,
    /// The server's end.
    back: UdpSocket,
    client: Option<SocketAddr>,
}

impl Tap {
    /// Before a server.
    pub fn new(server: SocketAddr) -> Self {
        let back = socket();
        back.connect(server).expect("loopback can be reached");
        Self { front: socket(), back, client: None }
    }

    /// What the client takes for the server.
    pub fn address(&self) -> SocketAddr {
        self.front.local_addr().expect("a bound socket has an address")
    }

    /// Passes on what the client sent.
    pub fn pass_up(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok((size, from)) = self.front.recv_from(&mut buffer) {
            self.client = Some(from);
            let _ = self.back.send(&buffer[..size]);
        }
    }

    /// Passes on what the server sent, at most so many datagrams, and notes their sizes. False if that was all.
    pub fn pass_down(&mut self, most: usize, sizes: &mut Vec<u16>) -> bool {
        let mut buffer = [0; 2_048];
        for _ in 0..most {
            let Ok(size) = self.back.recv(&mut buffer) else { return false };
            sizes.push(u16::try_from(size).unwrap_or(u16::MAX));
            if let Some(client) = self.client {
                let _ = self.front.send_to(&buffer[..size], client);
            }
        }
        true
    }
}
