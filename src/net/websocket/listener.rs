//! A host's end: one socket for the datagrams of all that connect.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};

use super::tunnel::{Sips, Tunnel, config};
use crate::net::socket::hand_out;
use crate::net::{DatagramSocket, caught, neighbours};

/// A connection over which nothing was sent for so long goes. A gateway says something to its clients four times a second, and nothing to strangers.
const UNSERVED_MAX: Duration = Duration::from_secs(10);

/// How often it is looked for those.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How many bytes the system keeps for who does not read. Its own idea of it are megabytes, which a slow way delivers when they are of no use any more.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Most connections that are taken in before it is looked after those that are there.
const ACCEPTED_AT_ONCE: usize = 64;

/// How many connections that have nothing to say are looked at for one datagram.
const LOOKS_MAX: usize = 64;

/// After so many that it was asked for a datagram the system is asked who else has something to say, also while somebody still has.
const HEARS_EVERY: u32 = 32;

/// Most datagrams that are handed to the system together.
const SEGMENTS_MAX: usize = 16;

/// What the listening socket is known by; connections have the numbers above.
const LISTENER: Token = Token(0);

/// How many may connect, also those of whom it is not known yet whether they can speak with the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Most connections.
    pub most: usize,
    /// Most connections from one IP address other than this machine's, or from the 2^64 of IPv6 that one customer has.
    pub most_of_one: usize,
}

/// Listens for WebSocket connections. Each is an address, from which and to which datagrams go.
///
/// Whoever connects can only send: what it says means something to the gateway behind, which the same keys and limits guard as over UDP. Who is
/// not answered is put out after ten seconds.
pub struct WebSocketListener {
    listener: TcpListener,
    address: SocketAddr,
    crowd: Crowd,
    poll: Poll,
    events: Events,
    /// There may be more to take in than the system will tell again.
    more: bool,
    peers: BTreeMap<SocketAddr, Peer>,
    by_token: BTreeMap<Token, SocketAddr>,
    next_token: usize,
    /// Those who may have something to read, in turn.
    due: VecDeque<SocketAddr>,
    /// How many times it was asked for a datagram since the system was asked.
    asked: u32,
    /// Those of whom nobody knows yet that they are gone.
    lost: VecDeque<SocketAddr>,
    now: Duration,
    swept: Duration,
}

#[derive(Debug)]
struct Peer {
    stage: Stage,
    token: Token,
    is_due: bool,
    /// When it was last sent something, or came.
    served: Duration,
}

#[derive(Debug)]
enum Stage {
    /// It has not said yet that it speaks WebSocket.
    Shaking(Shaking),
    Open(Box<Tunnel<TcpStream>>),
    Over,
}

type Shaken = ServerHandshake<Sips<TcpStream>, NoCallback>;
type Shaking = Box<MidHandshake<Shaken>>;

/// What looking at a connection came to.
enum Seen {
    Datagram(Bytes),
    Something,
    Nothing,
    End,
}

impl std::fmt::Debug for WebSocketListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketListener").field("address", &self.address).field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Stage {
    /// It speaks WebSocket, does not yet, or never will.
    fn of(shaken: Result<tungstenite::WebSocket<Sips<TcpStream>>, HandshakeError<Shaken>>) -> Self {
        match shaken {
            Ok(socket) => Self::Open(Box::new(Tunnel::new(socket))),
            Err(HandshakeError::Interrupted(shaking)) => Self::Shaking(Box::new(shaking)),
            Err(HandshakeError::Failure(_)) => Self::Over,
        }
    }
}

impl Peer {
    /// Reads on.
    fn look(&mut self) -> Seen {
        if let Stage::Shaking(_) = self.stage {
            let Stage::Shaking(shaking) = std::mem::replace(&mut self.stage, Stage::Over) else { return Seen::End };
            self.stage = Stage::of(shaking.handshake());
        }
        match &mut self.stage {
            Stage::Shaking(_) => Seen::Nothing,
            Stage::Over => Seen::End,
            Stage::Open(tunnel) => match tunnel.catch_up().and_then(|()| tunnel.receive()) {
                Ok(Some(datagram)) => Seen::Datagram(datagram),
                Ok(None) => Seen::Something,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Seen::Nothing,
                Err(_) => Seen::End,
            },
        }
    }
}

impl WebSocketListener {
    /// Listens.
    ///
    /// # Errors
    /// If the address can't be had.
    pub fn bind(address: SocketAddr, crowd: Crowd) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        let (peers, by_token, due, asked, lost, now, swept) = Default::default();
        let events = Events::with_capacity(256);
        Ok(Self { listener, address, crowd, poll, events, more: false, peers, by_token, next_token: 1, due, asked, lost, now, swept })
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// True if nobody is.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Hears from the system who has something to say, and who comes.
    fn hear(&mut self) {
        self.asked = 0;
        let polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        let mut more = std::mem::take(&mut self.more);
        if polled.is_ok() {
            for event in &self.events {
                more |= event.token() == LISTENER;
                if let Some(address) = self.by_token.get(&event.token()) {
                    line_up(&mut self.due, &mut self.peers, *address);
                }
            }
        }
        if more {
            self.take_in();
        }
    }

    fn take_in(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    // Who can't be taken in hears that by the end of the connection.
                    let _: io::Result<()> = self.welcome(stream, address);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // One that has gone again, for instance, or a process that may open no more files.
                Err(_) => break,
            }
        }
        self.more = true;
    }

    fn welcome(&mut self, mut stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        let (first, last) = neighbours(address.ip());
        let of_one = || self.peers.range(SocketAddr::new(first, 0)..=SocketAddr::new(last, u16::MAX)).count();
        let is_here = address.ip().to_canonical().is_loopback();
        let are_too_many = self.peers.len() >= self.crowd.most || !is_here && of_one() >= self.crowd.most_of_one;
        if are_too_many || self.peers.contains_key(&address) {
            return Ok(());
        }
        stream.set_nodelay(true)?;
        // What the system does not grant it does not need.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        let token = Token(self.next_token);
        self.next_token += 1;
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let shaken = caught(|| Stage::of(tungstenite::accept_with_config(Sips::of(stream), Some(config()))));
        let Some(stage @ (Stage::Shaking(_) | Stage::Open(_))) = shaken else { return Ok(()) };
        self.by_token.insert(token, address);
        self.peers.insert(address, Peer { stage, token, is_due: false, served: self.now });
        // What came with the greeting the system has told already.
        line_up(&mut self.due, &mut self.peers, address);
        Ok(())
    }

    fn end(&mut self, address: SocketAddr) {
        if let Some(peer) = self.peers.remove(&address) {
            self.by_token.remove(&peer.token);
            self.lost.push_back(address);
        }
    }

    fn send_by(&mut self, to: SocketAddr, send: impl FnOnce(&mut Tunnel<TcpStream>) -> io::Result<()>) -> io::Result<()> {
        let now = self.now;
        let Some(Peer { stage: Stage::Open(tunnel), served, .. }) = self.peers.get_mut(&to) else {
            return Err(ErrorKind::NotConnected.into());
        };
        let sent = send(tunnel);
        match &sent {
            Ok(()) => *served = now,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end(to),
        }
        sent
    }
}

/// Puts one in the line of those who may have something to read.
fn line_up(due: &mut VecDeque<SocketAddr>, peers: &mut BTreeMap<SocketAddr, Peer>, address: SocketAddr) {
    if let Some(peer) = peers.get_mut(&address).filter(|peer| !peer.is_due) {
        peer.is_due = true;
        due.push_back(address);
    }
}

impl DatagramSocket for WebSocketListener {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send_by(to, |tunnel| tunnel.queue(datagram).and_then(|()| tunnel.flush()))
    }

    fn segments_max(&self) -> usize {
        SEGMENTS_MAX
    }

    fn send_segments(&mut self, datagrams: &[u8], size: usize, to: SocketAddr) -> io::Result<()> {
        self.send_by(to, |tunnel| {
            let queued = datagrams.chunks(size.max(1)).try_for_each(|datagram| tunnel.queue(datagram));
            tunnel.flush().and(queued)
        })
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        // One that never pauses would keep all others from being heard.
        self.asked += 1;
        if self.asked >= HEARS_EVERY {
            self.hear();
        }
        let mut has_heard = false;
        for _ in 0..LOOKS_MAX {
            let Some(address) = self.due.pop_front() else {
                if std::mem::replace(&mut has_heard, true) {
                    return Err(ErrorKind::WouldBlock.into());
                }
                self.hear();
                continue;
            };
            let Some(peer) = self.peers.get_mut(&address) else { continue };
            peer.is_due = false;
            match caught(|| peer.look()).unwrap_or(Seen::End) {
                Seen::Datagram(datagram) => {
                    line_up(&mut self.due, &mut self.peers, address);
                    return Ok((hand_out(&datagram, buffer), address));
                }
                Seen::Something => {
                    // Whoever asks counts it: one who says other things all the time gets no more than who sends datagrams.
                    line_up(&mut self.due, &mut self.peers, address);
                    return Err(ErrorKind::Interrupted.into());
                }
                Seen::Nothing => {}
                Seen::End => self.end(address),
            }
        }
        // There may be more; who asks may have enough of it.
        Err(ErrorKind::Interrupted.into())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.now < self.swept.saturating_add(SWEEP_EVERY) {
            return;
        }
        self.swept = self.now;
        let oldest = self.now.saturating_sub(UNSERVED_MAX);
        let unserved: Vec<SocketAddr> = self.peers.iter().filter(|(_, peer)| peer.served < oldest).map(|(address, _)| *address).collect();
        unserved.into_iter().for_each(|address| self.end(address));
    }

    fn next_lost(&mut self) -> Option<SocketAddr> {
        self.lost.pop_front()
    }

    #[cfg(unix)]
    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        // One that tells when any of its connections has something.
        Some(std::os::fd::AsRawFd::as_raw_fd(&self.poll))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Stream;
    use std::time::Instant;

    use tungstenite::{Message, WebSocket};

    use super::*;

    const CROWD: Crowd = Crowd { most: 8, most_of_one: 2 };

    fn listener() -> WebSocketListener {
        WebSocketListener::bind(([127, 0, 0, 1], 0).into(), CROWD).unwrap()
    }

    /// What comes while somebody waits for it.
    fn until<T>(listener: &mut WebSocketListener, mut is_so: impl FnMut(&mut WebSocketListener, &[Vec<u8>]) -> Option<T>) -> T {
        #[expect(clippy::disallowed_methods, reason = "a test gives up some time")]
        let began = Instant::now();
        let (mut came, mut buffer) = (Vec::new(), [0; 2_048]);
        loop {
            loop {
                match listener.receive(&mut buffer) {
                    Ok((size, _)) => came.push(buffer[..size].to_vec()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            if let Some(found) = is_so(listener, &came) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{listener:?}, {came:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A client that speaks WebSocket with a listener.
    fn client(listener: &mut WebSocketListener) -> WebSocket<Stream> {
        let address = listener.local_address().unwrap();
        let dialing = std::thread::spawn(move || {
            let stream = Stream::connect(address).unwrap();
            tungstenite::client(format!("ws://{address}/"), stream).unwrap().0
        });
        until(listener, |_, _| dialing.is_finished().then_some(()));
        dialing.join().unwrap()
    }

    fn has_ended(mut stream: &Stream) -> bool {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 512];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    #[test]
    fn datagrams_of_each_are_told_apart_and_answered() {
        let mut listener = listener();
        let mut clients = [client(&mut listener), client(&mut listener)];
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(Message::binary(vec![n as u8; 3])).unwrap();
        }
        let mut froms = Vec::new();
        let mut buffer = [0; 2_048];
        while froms.len() < 2 {
            if let Ok((size, from)) = listener.receive(&mut buffer) {
                assert_eq!(size, 3);
                froms.push((buffer[0], from));
            }
        }
        froms.sort_unstable();
        for (n, from) in froms {
            listener.send_segments(&[n, n, 9], 2, from).unwrap();
            let client = &mut clients[usize::from(n)];
            assert_eq!(client.read().unwrap(), Message::binary(vec![n, n]));
            assert_eq!(client.read().unwrap(), Message::binary(vec![9]));
            assert_eq!(from, client.get_ref().local_addr().unwrap());
        }
        assert_eq!(listener.send(&[1], ([127, 0, 0, 1], 1).into()).unwrap_err().kind(), ErrorKind::NotConnected);
    }

    #[test]
    fn who_says_what_is_no_datagram_is_put_out_and_the_others_are_heard() {
        let mut listener = listener();
        let address = listener.local_address().unwrap();
        let mut honest = client(&mut listener);
        let mut texts = client(&mut listener);
        texts.send(Message::text("hello")).unwrap();
        let mut long = client(&mut listener);
        long.send(Message::binary(vec![0; 4_096])).unwrap();
        let mut browser = Stream::connect(address).unwrap();
        browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut noise = Stream::connect(address).unwrap();
        noise.write_all(&[0xff; 300]).unwrap();
        honest.send(Message::binary(vec![7])).unwrap();
        until(&mut listener, |listener, came| (listener.len() == 1 && came == [[7]]).then_some(()));
        for stream in [texts.get_ref(), long.get_ref(), &browser, &noise] {
            assert!(has_ended(stream));
        }
        let lost: Vec<SocketAddr> = std::iter::from_fn(|| listener.next_lost()).collect();
        assert!(lost.contains(&texts.get_ref().local_addr().unwrap()), "{lost:?}");
    }

    #[test]
    fn who_is_not_answered_is_put_out_and_who_is_stays() {
        let mut listener = listener();
        listener.advance(Duration::from_secs(100));
        let silent = Stream::connect(listener.local_address().unwrap()).unwrap();
        let (stranger, served) = (client(&mut listener), client(&mut listener));
        until(&mut listener, |listener, _| (listener.len() == 3).then_some(()));
        for second in 100..112 {
            listener.advance(Duration::from_secs(second));
            listener.send(&[1], served.get_ref().local_addr().unwrap()).unwrap();
        }
        assert_eq!(listener.len(), 1);
        assert!(has_ended(&silent) && has_ended(stranger.get_ref()));
    }

    #[test]
    fn no_more_are_taken_in_than_may_come_and_who_goes_makes_room() {
        let mut listener = listener();
        let address = listener.local_address().unwrap();
        let mut crowd: Vec<Stream> = (0..12).map(|_| Stream::connect(address).unwrap()).collect();
        until(&mut listener, |listener, _| (listener.len() == CROWD.most).then_some(()));
        for late in crowd.drain(CROWD.most..) {
            assert!(has_ended(&late));
        }
        crowd.clear();
        until(&mut listener, |listener, _| listener.is_empty().then_some(()));
        client(&mut listener);
    }

    #[test]
    fn one_who_says_other_things_all_the_time_keeps_nobody_waiting() {
        let mut listener = listener();
        let (mut noisy, mut honest) = (client(&mut listener), client(&mut listener));
        // The answers stay where they are: it does not read them.
        for _ in 0..5_000 {
            noisy.write(Message::Ping(vec![0; 100].into())).unwrap();
        }
        noisy.flush().unwrap();
        honest.send(Message::binary(vec![7])).unwrap();
        until(&mut listener, |_, came| (came == [[7]]).then_some(()));
    }

    #[test]
    fn one_who_never_pauses_keeps_nobody_waiting_who_speaks_later() {
        let mut listener = listener();
        let (mut noisy, mut honest) = (client(&mut listener), client(&mut listener));
        // Pings of nothing, masked by zeros, many more than are looked at here.
        noisy.get_mut().write_all(&[0x89, 0x80, 0, 0, 0, 0].repeat(40_000)).unwrap();
        let mut buffer = [0; 2_048];
        // Until the listener is in the middle of them.
        while listener.receive(&mut buffer).unwrap_err().kind() != ErrorKind::Interrupted {}
        honest.send(Message::binary(vec![7])).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!((0..1_000).any(|_| listener.receive(&mut buffer).is_ok()), "it is not heard");
    }

    #[test]
    fn who_does_not_read_loses_what_is_too_much_and_costs_no_more() {
        let mut listener = listener();
        let mut lazy = client(&mut listener);
        let to = lazy.get_ref().local_addr().unwrap();
        let datagram = [5; 1_000];
        let sent = (0..100_000).filter(|_| listener.send(&datagram, to).is_ok()).count();
        // The system's buffers, here and there, and what waits.
        assert!(sent < 20_000, "{sent}");
        let mut read = 0;
        lazy.get_ref().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // What waits leaves when the system has room, which the listener hears.
        until(&mut listener, |_, _| {
            while let Ok(message) = lazy.read() {
                assert_eq!(message, Message::binary(datagram.to_vec()));
                read += 1;
            }
            (read == sent).then_some(())
        });
        listener.send(&[6], to).unwrap();
        assert_eq!(lazy.read().unwrap(), Message::binary(vec![6]));
    }
}
