//! The same workloads over encrypted UDP on loopback: what a server spends per tick, from what arrives to the last `sendto`.
//!
//! Server and clients take turns, each in a thread of its own: the server takes in what came, plays the changes, ticks and
//! sends, which is timed; then every client takes its datagrams, applies them and answers. Time is counted and not read:
//! a tick is 50 ms for both ends, however long it took. Contestants take turns too, in rounds, each with new sockets.

mod crew;
mod floors;
mod replicon;
mod roomkeeper;
mod session;
mod table;
mod tap;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use bevy::prelude::App;
use socket2::{Domain, Socket, Type};

pub use self::table::print;
use crate::measure::TICK;
use crate::workload::{Bits, Changes, Play, Workload};

/// What may leave for one client in a tick, by the budgets of those who have one.
pub const BYTES_PER_TICK_MAX: u64 = 256 << 10;

/// The receive buffer of every socket here: the default holds 90 datagrams of 1,200 bytes.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// What a client is to hold, by the contestant's own numbers of entities.
pub type Truth = BTreeMap<u64, Bits>;

/// A server on a socket.
pub trait Server {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// A whole tick: takes in what arrived, plays the changes, sends.
    fn tick(&mut self, now: Duration, changes: &Changes) -> Cost;

    /// What a member is to hold. Nothing if there is no world behind this socket.
    fn truth(&self, member: usize) -> Option<Truth>;

    /// For a floor: sends the datagrams of a join in the next ticks, whose number it returns.
    fn replay_join(&mut self) -> Option<usize> {
        None
    }
}

/// A client on a socket. Made and used in one thread, which is not the server's.
pub trait Client {
    /// Takes in what arrived, so that the socket's buffer does not overflow. Nothing to do where the buffer is large.
    fn drain(&mut self, _now: Duration) {}

    /// A whole tick: takes in what arrived, applies it, answers.
    fn tick(&mut self, now: Duration);

    /// How many entities it holds; 1 for one without a world that is connected.
    fn held(&mut self) -> usize;

    /// What it holds.
    fn state(&mut self) -> Truth;

    /// Says that it goes.
    fn leave(&mut self);
}

/// What a tick cost, as CPU time of the server's thread in nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    /// All of it.
    pub server_ns: u64,
    /// What of it went into taking in what clients sent, where that can be told apart.
    pub receive_ns: Option<u64>,
    /// What of it the game needed to find out who sees what.
    pub sight_ns: u64,
}

/// The sizes of the datagrams that a member was sent: tick by tick, each of another one, and those of a join.
#[derive(Default, Debug)]
pub struct Trace {
    /// Those of each measured tick.
    pub ticks: Vec<Vec<u16>>,
    /// Those of each tick of the last join.
    pub join: Vec<Vec<u16>>,
}

/// What a server is built for.
#[derive(Clone)]
pub struct Setting {
    /// The workload.
    pub workload: Workload,
    /// What the last contestant before sent that is no floor: a floor sends the same.
    pub trace: Rc<Trace>,
}

/// What a client is built for.
#[derive(Clone, Copy)]
pub struct Newcomer {
    /// The server's address.
    pub server: SocketAddr,
    /// Its number, which is that of a member, from 1.
    pub number: u64,
    /// What is played.
    pub play: Play,
    /// The time.
    pub now: Duration,
}

/// How a contestant comes into the table.
pub struct Entry {
    /// Its name in the table.
    pub name: &'static str,
    /// Builds the server.
    pub server: fn(&Setting) -> Box<dyn Server>,
    /// Builds a client that connects.
    pub client: fn(Newcomer) -> Box<dyn Client>,
    /// What is taken off: see [`crate::measure::Entry::bare_server`]. Nothing for what has no world.
    pub bare: Bare,
}

/// What is taken off a contestant's ticks.
#[derive(Clone, Copy)]
pub enum Bare {
    /// The update of such an app with the same changes.
    App(fn() -> App),
    /// The changes of the world alone.
    World,
    /// Nothing: it is a floor.
    Nothing,
}

/// In the order of a round. A floor sends the datagrams of the last before it that is none.
const ENTRIES: [Entry; 6] =
    [roomkeeper::ENTRY, floors::RENET, floors::NETCODE, roomkeeper::QUANTISED, floors::NETCODE_QUANTISED, replicon::ENTRY];

/// A socket on loopback with a large buffer, that does not block.
fn socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("the system gives a socket");
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).expect("the buffer can be set");
    socket.set_nonblocking(true).expect("sockets can be non-blocking");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
    socket.into()
}

/// The protocol of the floors and of bevy_replicon.
const PROTOCOL_ID: u64 = 7;

/// The time at which everything here begins, since the Unix epoch.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);

/// Takes datagrams from a socket until there are none.
fn receive_all(socket: &UdpSocket, mut take: impl FnMut(SocketAddr, &mut [u8])) {
    let mut buffer = [0; 2_048];
    while let Ok((size, from)) = socket.recv_from(&mut buffer) {
        take(from, &mut buffer[..size]);
    }
}
