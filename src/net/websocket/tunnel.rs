//! One connection that carries datagrams.

use std::io::{self, ErrorKind, Read, Write};

use bytes::Bytes;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

/// Longest message that is read, in bytes: what a datagram's buffer takes. A longer one ends the connection.
pub(super) const MESSAGE_BYTES_MAX: usize = 2_048;

/// How many bytes are read at once.
pub(super) const READ_BYTES: usize = 4 << 10;

/// Up to so many bytes are put together before the system is given them, unless they are flushed.
const TOGETHER_BYTES: usize = 16 << 10;

/// Most bytes that wait for a system that takes none. A datagram more is lost, as over UDP: what waits longer is of no use to anybody.
pub(super) const WAITING_BYTES_MAX: usize = 32 << 10;

/// What both ends agree to expect of each other.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(TOGETHER_BYTES)
        .max_write_buffer_size(WAITING_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// Longest greeting, in bytes.
const GREETING_BYTES_MAX: usize = 8 << 10;

/// A connection of which so much is read, and no more before somebody says so: the library reads on until it has a whole message, or nothing is there,
/// which who sends fast enough could put off for ever.
#[derive(Debug)]
pub(super) struct Sips<S> {
    pub(super) stream: S,
    left: usize,
}

impl<S> Sips<S> {
    /// One of which a greeting can be read.
    pub(super) fn of(stream: S) -> Self {
        Self { stream, left: GREETING_BYTES_MAX }
    }
}

impl<S: Read> Read for Sips<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        let most = self.left.min(buffer.len());
        let size = self.stream.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left -= size;
        Ok(size)
    }
}

impl<S: Write> Write for Sips<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A WebSocket connection that neither waits nor knows the time.
#[derive(Debug)]
pub(super) struct Tunnel<S> {
    socket: WebSocket<Sips<S>>,
    /// Something waits until the system takes more.
    behind: bool,
}

impl<S: Read + Write> Tunnel<S> {
    /// One over a connection on which both have agreed to speak WebSocket, by what [`config`] says.
    pub(super) fn new(socket: WebSocket<Sips<S>>) -> Self {
        Self { socket, behind: false }
    }

    /// Puts a datagram behind those that wait; it leaves with the next [flush](Self::flush).
    ///
    /// # Errors
    /// `WouldBlock` if too much waits: it is lost. Others if the connection is over.
    pub(super) fn queue(&mut self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.write(Message::Binary(Bytes::copy_from_slice(datagram))) {
            Err(Error::WriteBufferFull(_)) => Err(ErrorKind::WouldBlock.into()),
            written => self.waits(written),
        }
    }

    /// Gives the system what waits, as far as it takes it.
    ///
    /// # Errors
    /// If the connection is over.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flushed = self.socket.flush();
        self.behind = false;
        self.waits(flushed)
    }

    /// The same if something waits.
    ///
    /// # Errors
    /// If the connection is over.
    pub(super) fn catch_up(&mut self) -> io::Result<()> {
        if self.behind { self.flush() } else { Ok(()) }
    }

    /// That the system takes no more at the moment is no error: it waits.
    fn waits(&mut self, written: tungstenite::Result<()>) -> io::Result<()> {
        match written {
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.behind = true;
                Ok(())
            }
            written => written.map_err(over),
        }
    }

    /// The next datagram that came, or `None` for something that is none and needs nothing, or for a part of one: there may be more.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there. Others if the connection is over, also because what came is no datagram.
    pub(super) fn receive(&mut self) -> io::Result<Option<Bytes>> {
        self.socket.get_mut().left = READ_BYTES;
        match self.socket.read() {
            Ok(Message::Binary(datagram)) => Ok(Some(datagram)),
            // The answer to a ping waits until something is read or sent; that to a goodbye, too.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => Ok(None),
            Ok(Message::Text(_) | Message::Frame(_)) => Err(io::Error::new(ErrorKind::InvalidData, "it sent what is no datagram")),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Err(error),
            Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(over(error)),
        }
    }
}

/// The connection is over: never `WouldBlock`.
fn over(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::Error::new(ErrorKind::ConnectionAborted, "it was closed"),
        error => io::Error::new(ErrorKind::ConnectionAborted, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tungstenite::protocol::Role;

    use super::*;

    /// A connection in memory, that takes so many bytes until somebody reads.
    #[derive(Clone, Debug)]
    struct Pipe {
        there: Arc<Mutex<VecDeque<u8>>>,
        here: Arc<Mutex<VecDeque<u8>>>,
        takes: usize,
    }

    impl Pipe {
        fn pair(takes: usize) -> (Self, Self) {
            let (one, other) = (Arc::default(), Arc::default());
            (Self { there: Arc::clone(&one), here: Arc::clone(&other), takes }, Self { there: other, here: one, takes })
        }
    }

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut here = self.here.lock().unwrap();
            if here.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            here.read(buffer)
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut there = self.there.lock().unwrap();
            let room = self.takes.saturating_sub(there.len()).min(bytes.len());
            if room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            there.write(&bytes[..room])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tunnels(takes: usize) -> (Tunnel<Pipe>, Tunnel<Pipe>) {
        let (client, host) = Pipe::pair(takes);
        let tunnel = |pipe, role| Tunnel::new(WebSocket::from_raw_socket(Sips::of(pipe), role, Some(config())));
        (tunnel(client, Role::Client), tunnel(host, Role::Server))
    }

    fn all(tunnel: &mut Tunnel<Pipe>) -> Vec<Bytes> {
        std::iter::from_fn(|| tunnel.receive().ok()).flatten().collect()
    }

    #[test]
    fn however_much_is_there_of_a_message_that_does_not_end_a_look_at_it_does() {
        let (mut client, mut host) = tunnels(1 << 20);
        let stream = &mut client.socket.get_mut().stream;
        // A message of many frames: the first, and then some that go on with it by nothing, masked by zeros.
        stream.write_all(&[0x02, 0x80, 0, 0, 0, 0]).unwrap();
        let frames: Vec<u8> = [0x00, 0x80, 0, 0, 0, 0].repeat(100_000);
        stream.write_all(&frames).unwrap();
        let before = stream.there.lock().unwrap().len();
        assert_eq!(host.receive().unwrap(), None);
        assert!(before - client.socket.get_ref().stream.there.lock().unwrap().len() <= READ_BYTES);
    }

    #[test]
    fn a_reader_who_does_not_read_costs_what_was_said_and_finds_the_rest_in_order() {
        let (mut client, mut host) = tunnels(8 << 10);
        let sent = (0..1_000_u32).filter(|n| {
            let queued = host.queue(&[n.to_le_bytes(), [7; 4]].concat().repeat(100));
            host.flush().unwrap();
            queued.is_ok()
        });
        let sent: Vec<u32> = sent.collect();
        // What the system took, and what may wait.
        assert!((40..70).contains(&sent.len()), "{}", sent.len());
        let mut came = Vec::new();
        for _ in 0..20 {
            came.extend(all(&mut client).iter().map(|datagram| u32::from_le_bytes(datagram[..4].try_into().unwrap())));
            host.catch_up().unwrap();
        }
        assert_eq!(came, sent);
        assert!(!host.behind);
    }

    #[test]
    fn what_is_too_long_or_text_ends_it() {
        let (mut client, mut host) = tunnels(1 << 20);
        client.queue(&[1; MESSAGE_BYTES_MAX]).unwrap();
        client.flush().unwrap();
        assert_eq!(host.receive().unwrap().unwrap().len(), MESSAGE_BYTES_MAX);
        client.queue(&[1; MESSAGE_BYTES_MAX + 1]).unwrap();
        client.flush().unwrap();
        assert_ne!(host.receive().unwrap_err().kind(), ErrorKind::WouldBlock);

        let (mut client, mut host) = tunnels(1 << 20);
        client.socket.send(Message::text("GET /")).unwrap();
        assert_eq!(host.receive().unwrap_err().kind(), ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn datagrams_arrive_as_they_are_over_connections_that_take_little_at_once(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1_500), 1..20),
            takes in 1_usize..4_000,
        ) {
            let (mut client, mut host) = tunnels(takes);
            let mut came = Vec::new();
            for datagram in &datagrams {
                client.queue(datagram).unwrap();
                client.flush().unwrap();
                for _ in 0..2_000 {
                    came.extend(all(&mut host));
                    if !client.behind {
                        break;
                    }
                    client.catch_up().unwrap();
                }
            }
            came.extend(all(&mut host));
            prop_assert_eq!(came, datagrams);
        }

        #[test]
        fn any_bytes_end_it_or_mean_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for is_client in [true, false] {
                let (mut client, mut host) = tunnels(1 << 20);
                let (speaker, listener) = if is_client { (&mut client, &mut host) } else { (&mut host, &mut client) };
                speaker.socket.get_mut().stream.write_all(&bytes).unwrap();
                for _ in 0..bytes.len() + 2 {
                    match listener.receive() {
                        Ok(Some(datagram)) => prop_assert!(datagram.len() <= bytes.len()),
                        Ok(None) => {}
                        Err(_) => break,
                    }
                }
            }
        }
    }
}
