//! The door by which a fuzzer is the other end of a connection: of a host's or of a client's, from the greeting on or after it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use tungstenite::WebSocket;
use tungstenite::handshake::{HandshakeError, HandshakeRole};
use tungstenite::protocol::Role;

use super::tunnel::{MESSAGE_BYTES_MAX, READ_BYTES, Sips, Tunnel, WAITING_BYTES_MAX, config};

/// How many bytes the other end takes at once, for each byte of a step that says so.
const TAKES: usize = 64;

#[derive(Debug, Default)]
struct Said {
    /// What was said, as it arrives: nothing more is there after each piece.
    pieces: VecDeque<Vec<u8>>,
    /// How many bytes of it were read.
    read: usize,
    /// How many bytes more are taken, and were.
    takes: usize,
    taken: usize,
}

/// A connection in memory.
#[derive(Clone, Debug, Default)]
struct Line(Rc<RefCell<Said>>);

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let said = &mut *self.0.borrow_mut();
        let Some(piece) = said.pieces.front_mut() else { return Err(ErrorKind::WouldBlock.into()) };
        if piece.is_empty() {
            said.pieces.pop_front();
            return Err(ErrorKind::WouldBlock.into());
        }
        let size = piece.len().min(buffer.len());
        buffer.iter_mut().zip(piece.drain(..size)).for_each(|(to, from)| *to = from);
        said.read += size;
        Ok(size)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let said = &mut *self.0.borrow_mut();
        let size = bytes.len().min(said.takes);
        said.takes -= size;
        said.taken += size;
        if size == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(size) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Goes on with a greeting as long as anything of it is there.
fn greet<R: HandshakeRole>(line: &Line, mut shaken: Result<R::FinalResult, HandshakeError<R>>) -> Option<R::FinalResult> {
    loop {
        match shaken {
            Ok(greeted) => return Some(greeted),
            Err(HandshakeError::Interrupted(shaking)) if !line.0.borrow().pieces.is_empty() => shaken = shaking.handshake(),
            Err(_) => return None,
        }
    }
}

fn open(choice: u8, line: &Line) -> Option<WebSocket<Sips<Line>>> {
    let stream = Sips::of(line.clone());
    match choice % 4 {
        0 => greet(line, tungstenite::accept_with_config(stream, Some(config()))),
        1 => Some(WebSocket::from_raw_socket(stream, Role::Server, Some(config()))),
        2 => Some(WebSocket::from_raw_socket(stream, Role::Client, Some(config()))),
        _ => {
            let answered = tungstenite::client::client_with_config("ws://10.0.0.1/", stream, Some(config()));
            greet(line, answered).map(|(socket, _)| socket)
        }
    }
}

/// What the other end says and takes, in steps. A look reads so much and no more, looking comes to an end, a datagram is no longer than one may be, and
/// no more waits than may.
pub(crate) fn websocket_door<'a>(choice: u8, steps: impl Iterator<Item = (u8, &'a [u8])>) {
    let line = Line::default();
    let mut steps = steps.peekable();
    while let Some((_, bytes)) = steps.next_if(|(kind, _)| kind % 4 == 0) {
        line.0.borrow_mut().pieces.push_back(bytes.to_vec());
    }
    line.0.borrow_mut().takes = usize::MAX;
    let Some(socket) = open(choice, &line) else { return };
    let mut tunnel = Tunnel::new(socket);
    {
        let mut said = line.0.borrow_mut();
        (said.takes, said.taken) = (0, 0);
    }
    let mut queued = 0;
    loop {
        if tunnel.catch_up().is_err() || !listen(&line, &mut tunnel) {
            return;
        }
        let Some((kind, bytes)) = steps.next() else { return };
        match kind % 4 {
            0 | 1 => line.0.borrow_mut().pieces.push_back(bytes.to_vec()),
            2 => match tunnel.queue(bytes).and_then(|()| tunnel.flush()) {
                Ok(()) => queued += bytes.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            },
            _ => line.0.borrow_mut().takes = bytes.len() * TAKES,
        }
        let waits = usize::saturating_sub(queued, line.0.borrow().taken);
        assert!(waits <= WAITING_BYTES_MAX, "{waits} bytes wait");
    }
}

/// Reads all that is there. False if the connection is over then.
fn listen(line: &Line, tunnel: &mut Tunnel<Line>) -> bool {
    // Each piece ends a look, and each frame has two bytes at the least; what a look before this one read is less than a look's worth.
    let looks = line.0.borrow().pieces.iter().map(|piece| piece.len() + 1).sum::<usize>() + READ_BYTES;
    for _ in 0..looks {
        let before = line.0.borrow().read;
        let looked = tunnel.receive();
        assert!(line.0.borrow().read - before <= READ_BYTES, "a look read more than it may");
        match looked {
            Ok(Some(datagram)) => assert!(datagram.len() <= MESSAGE_BYTES_MAX),
            Ok(None) => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
            Err(_) if line.0.borrow().pieces.is_empty() => return true,
            Err(_) => {}
        }
    }
    panic!("looking at what is there comes to no end");
}
