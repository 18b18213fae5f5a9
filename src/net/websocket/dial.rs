//! A client's end.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tungstenite::http::Uri;
use tungstenite::{HandshakeError, WebSocket};

use super::tunnel::{Sips, Tunnel, config};
use crate::net::socket::hand_out;
use crate::net::{DatagramSocket, Dial};

/// For how long one address is tried, and each step of the greeting.
const STEP_MAX: Duration = Duration::from_secs(5);

/// How many messages are looked at for one datagram. A host that says other things all the time keeps no frame from ending.
const LOOKS_MAX: usize = 64;

/// The port of `ws` where a URL names none.
const PORT: u16 = 80;

/// Where a host listens for WebSocket.
type Locate = dyn Fn(SocketAddr) -> String + Send + Sync;

/// Dials hosts by WebSocket, at the same address and port as by UDP unless somebody says otherwise.
///
/// ```no_run
/// // Not run: it needs a host.
/// use roomkeeper::client::{Credentials, UdpTransport};
/// use roomkeeper::net::WebSocketDial;
///
/// let ann = Credentials::unauthenticated("127.0.0.1:5000".parse()?, "ann");
/// let transport = UdpTransport::connect_by(WebSocketDial::default(), &ann, "lobby", false)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct WebSocketDial {
    locate: Option<Arc<Locate>>,
}

impl fmt::Debug for WebSocketDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketDial").field("elsewhere", &self.locate.is_some()).finish()
    }
}

impl WebSocketDial {
    /// At a URL that begins with `ws://`, for each host by the address that tokens name: behind a proxy, or at another port. What goes over it is
    /// encrypted anyway where clients have tokens; `wss` is not spoken.
    pub fn at(locate: impl Fn(SocketAddr) -> String + Send + Sync + 'static) -> Self {
        Self { locate: Some(Arc::new(locate)) }
    }
}

impl Dial for WebSocketDial {
    fn dial(&self, host: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
        let url = self.locate.as_ref().map_or_else(|| format!("ws://{host}/"), |locate| locate(host));
        let opened = Arc::new(Mutex::new(None));
        let told = Arc::clone(&opened);
        // The system looks names up and connects as slowly as it likes; a game goes on meanwhile.
        std::thread::Builder::new().name("websocket-dial".to_owned()).spawn(move || {
            let came = open(&url).map_err(|why| format!("can't reach {url}: {why}"));
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
        })?;
        Ok(Box::new(WebSocketSocket { host, way: Way::Dialing(opened) }))
    }
}

/// Connects, agrees to speak WebSocket, and gives what never waits.
fn open(url: &str) -> Result<WebSocket<Sips<TcpStream>>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("it is no URL: {error}"))?;
    if uri.scheme_str() != Some("ws") {
        return Err("its scheme is not ws".to_owned());
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, uri.port_u16().unwrap_or(PORT)).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut stream = Err("there is no such address".to_owned());
    for address in addresses {
        stream = TcpStream::connect_timeout(&address, STEP_MAX).map_err(|error| error.to_string());
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream?;
    let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(STEP_MAX)));
    prepared.and_then(|()| stream.set_write_timeout(Some(STEP_MAX))).map_err(|error| error.to_string())?;
    let socket = match tungstenite::client::client_with_config(url, Sips::of(stream), Some(config())) {
        Ok((socket, _)) => socket,
        Err(HandshakeError::Interrupted(_)) => return Err(format!("no answer within {} s", STEP_MAX.as_secs())),
        Err(HandshakeError::Failure(error)) => return Err(error.to_string()),
    };
    socket.get_ref().stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(socket)
}

type Opened = Arc<Mutex<Option<Result<WebSocket<Sips<TcpStream>>, String>>>>;

#[derive(Debug)]
enum Way {
    Dialing(Opened),
    Open(Box<Tunnel<TcpStream>>),
    Ended(String),
}

/// The way to one host.
#[derive(Debug)]
struct WebSocketSocket {
    host: SocketAddr,
    way: Way,
}

impl WebSocketSocket {
    /// The connection, once it is there.
    fn tunnel(&mut self) -> Option<&mut Tunnel<TcpStream>> {
        if let Way::Dialing(opened) = &self.way {
            let came = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
            match came {
                Some(Ok(socket)) => self.way = Way::Open(Box::new(Tunnel::new(socket))),
                Some(Err(why)) => self.way = Way::Ended(why),
                None => {}
            }
        }
        match &mut self.way {
            Way::Open(tunnel) => Some(tunnel),
            Way::Dialing(_) | Way::Ended(_) => None,
        }
    }

    fn end(&mut self, error: &io::Error) {
        self.way = Way::Ended(format!("the connection to {} is over: {error}", self.host));
    }
}

impl DatagramSocket for WebSocketSocket {
    fn send(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let is_there = to == self.host;
        let tunnel = self.tunnel().filter(|_| is_there).ok_or(ErrorKind::NotConnected)?;
        let sent = tunnel.queue(datagram).and_then(|()| tunnel.flush());
        if let Err(error) = &sent
            && error.kind() != ErrorKind::WouldBlock
        {
            self.end(error);
        }
        sent
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let host = self.host;
        for _ in 0..LOOKS_MAX {
            let tunnel = self.tunnel().ok_or(ErrorKind::WouldBlock)?;
            match tunnel.catch_up().and_then(|()| tunnel.receive()) {
                Ok(Some(datagram)) => return Ok((hand_out(&datagram, buffer), host)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.end(&error);
                    break;
                }
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Err(ErrorKind::NotConnected.into())
    }

    fn advance(&mut self, _now: Duration) {
        // Whether it stands is to be known also where nothing is sent.
        let _ = self.tunnel();
    }

    /// Never: a connection that fell silent may be dead without the system knowing it, for a quarter of an hour.
    fn reaches(&self, _host: SocketAddr) -> bool {
        false
    }

    fn ended(&self) -> Option<&str> {
        match &self.way {
            Way::Ended(why) => Some(why),
            Way::Dialing(_) | Way::Open(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Why a way to a host ends.
    fn why(dial: &WebSocketDial, host: SocketAddr) -> String {
        let mut socket = dial.dial(host).unwrap();
        for _ in 0..2_000 {
            assert!(socket.send(&[1], host).is_err() && socket.receive(&mut [0; 8]).is_err());
            if let Some(why) = socket.ended() {
                assert!(!socket.reaches(host));
                return why.to_owned();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{socket:?}");
    }

    #[test]
    fn a_host_that_cannot_be_reached_is_named_with_the_reason() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = why(&WebSocketDial::default(), nobody);
        assert!(refused.contains(&format!("ws://{nobody}/")) && refused.to_lowercase().contains("refused"), "{refused}");

        let secure = why(&WebSocketDial::at(|host| format!("wss://{host}/")), nobody);
        assert!(secure.contains("scheme is not ws"), "{secure}");
        let nonsense = why(&WebSocketDial::at(|_| "no url at all".to_owned()), nobody);
        assert!(nonsense.contains("no url at all"), "{nonsense}");
    }

    #[test]
    fn a_server_that_speaks_something_else_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            io::Write::write_all(&mut stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
            // Until the other end has read it and hung up.
            io::Read::read_to_end(&mut stream, &mut Vec::new()).unwrap_or_default();
        });
        let why = why(&WebSocketDial::default(), host);
        assert!(why.contains("404"), "{why}");
        answers.join().unwrap();
    }
}
