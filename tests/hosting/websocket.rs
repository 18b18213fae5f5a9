//! Who comes by WebSocket: over TCP, as any player otherwise.
#![cfg(all(feature = "websocket", unix))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roomkeeper::client::{ConnectionState, Credentials, UdpTransport, unix_time};
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{Host, HostKey, HostOptions, TokenIssuer};
use roomkeeper::net::{DatagramSocket, Dial, FallbackDial, WebSocketDial};
use roomkeeper::prelude::*;
use roomkeeper::room::RoomOptions;

use crate::beats::Player;
use crate::binary::free_port;
use crate::binary::{Process, inferno};
use crate::host::{Running, blueprint, in_room, until};

/// A host that has a room, and listens for WebSocket as well; with where.
fn host(access: Access) -> (Running, SocketAddr) {
    let options = HostOptions { websocket: Some(([127, 0, 0, 1], 0).into()), ..HostOptions::default() };
    let mut websocket = None;
    let running = Running::with(access, options, None, |host| {
        websocket = host.websocket_address();
        host.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    });
    (running, websocket.unwrap())
}

/// The way to a host that listens for WebSocket at an address.
fn dial(websocket: SocketAddr) -> WebSocketDial {
    WebSocketDial::at(move |_| format!("ws://{websocket}/"))
}

/// A player who comes by a way of its own.
fn player(dial: impl Dial + 'static, credentials: &Credentials) -> Player {
    let mut player = Player::by(credentials, "main");
    let transport = UdpTransport::connect_by(dial, credentials, "main", false).unwrap();
    player.0.insert_resource(transport);
    player
}

#[test]
fn who_comes_by_websocket_plays_with_those_who_come_by_udp() {
    let (running, websocket) = host(Access::Loopback);
    let mut by_udp = Player::connect(running.address, "ann", "main");
    let mut by_tcp = player(dial(websocket), &Credentials::unauthenticated(running.address, "bob"));
    until("both are in", &mut [&mut by_udp, &mut by_tcp], in_room);
    by_tcp.mark(3);
    by_udp.mark(4);
    until("each sees what the other did", &mut [&mut by_udp, &mut by_tcp], |all| all.iter_mut().all(|player| player.sum() == 7));
    let tick = running.status("main").status.tick;
    // What it gets goes on: nothing that the host keeps for it is in the way.
    until("time passes", &mut [&mut by_udp, &mut by_tcp], |_| running.status("main").status.tick.0 > tick.0 + 100);
    by_tcp.leave();
    until("it has left", &mut [&mut by_udp], |_| running.status("main").status.members == 1);
    assert!(running.stop());
}

/// A way on which nothing comes or goes.
#[derive(Debug)]
struct Blocked;

impl Dial for Blocked {
    fn dial(&self, _: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
        Ok(Box::new(Self))
    }
}

impl DatagramSocket for Blocked {
    fn send(&mut self, _: &[u8], _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, _: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[test]
fn where_a_network_lets_no_udp_through_a_client_comes_by_websocket_by_itself() {
    let (running, websocket) = host(Access::Loopback);
    let dial = FallbackDial::new(Blocked, dial(websocket), Duration::from_millis(300));
    let mut player = player(dial, &Credentials::unauthenticated(running.address, "ann"));
    until("it is in", &mut [&mut player], in_room);
    player.mark(5);
    until("it plays", &mut [&mut player], |all| all[0].sum() == 5);
    assert!(running.stop());
}

#[test]
fn a_token_for_the_address_of_udp_lets_in_by_websocket_too_and_another_keys_does_not() {
    let key = HostKey::random().unwrap();
    let (running, websocket) = host(Access::Tokens(key));
    let token = |key, name: &str| {
        let issuer = TokenIssuer { key, addresses: vec![running.address], expire_seconds: 30 };
        Credentials::Token(issuer.issue(EntityId::named(name), name, None, unix_time()).unwrap())
    };
    let mut ann = player(dial(websocket), &token(key, "ann"));
    until("she is in", &mut [&mut ann], in_room);
    let mut eve = player(dial(websocket), &token(HostKey::random().unwrap(), "eve"));
    until("she is not", &mut [&mut ann, &mut eve], |all| matches!(all[1].state(), ConnectionState::Broken(_)));
    assert!(ann.state().is_in_room());
    assert!(running.stop());
}

/// What lies between a client and a host, and can be cut, or stop to carry anything without a word.
struct Relay {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<(TcpStream, Arc<AtomicBool>)>>>,
}

impl Relay {
    fn to(host: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, streams) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<(TcpStream, Arc<AtomicBool>)>>>::default());
        let kept = Arc::clone(&streams);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(host) else { continue };
                let is_dead = Arc::<AtomicBool>::default();
                kept.lock().unwrap().extend([&near, &far].map(|stream| (stream.try_clone().unwrap(), Arc::clone(&is_dead))));
                for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let is_dead = Arc::clone(&is_dead);
                    std::thread::spawn(move || carry(from, to, &is_dead));
                }
            }
        });
        Self { address, streams }
    }

    fn cut(&self) {
        for (stream, _) in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Nothing gets through any more by those that are open, and nobody is told so.
    fn fall_silent(&self) {
        self.streams.lock().unwrap().drain(..).for_each(|(stream, is_dead)| {
            is_dead.store(true, Ordering::Relaxed);
            // It stays open.
            std::mem::forget(stream);
        });
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_dead: &AtomicBool) {
    let mut bytes = [0; 4_096];
    while let Ok(size @ 1..) = from.read(&mut bytes) {
        if !is_dead.load(Ordering::Relaxed) && to.write_all(bytes.get(..size).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_connection_that_breaks_is_known_at_once_on_both_sides_and_is_come_back_to() {
    let (running, websocket) = host(Access::Loopback);
    let relay = Relay::to(websocket);
    let mut ann = player(dial(relay.address), &Credentials::unauthenticated(running.address, "ann"));
    until("she is in", &mut [&mut ann], in_room);
    for round in 1..=3_u32 {
        ann.mark(1);
        until("she plays", &mut [&mut ann], |all| all[0].sum() == round);
        let began = crate::host::now();
        relay.cut();
        until("she notices", &mut [&mut ann], |all| matches!(all[0].state(), ConnectionState::Reconnecting(_)));
        until("she is back", &mut [&mut ann], in_room);
        // A silence would have to last for 15 s before anybody took note of it.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!((ann.sum(), running.status("main").status.members), (round, 1));
    }
    assert!(running.stop());
}

#[test]
fn a_connection_that_falls_silent_without_a_word_is_given_up_and_another_one_is_made() {
    let (running, websocket) = host(Access::Loopback);
    let relay = Relay::to(websocket);
    let mut ann = player(dial(relay.address), &Credentials::unauthenticated(running.address, "ann"));
    until("she is in", &mut [&mut ann], in_room);
    relay.fall_silent();
    until("she notices", &mut [&mut ann], |all| matches!(all[0].state(), ConnectionState::Reconnecting(_)));
    until("she is back", &mut [&mut ann], in_room);
    ann.mark(2);
    until("she plays", &mut [&mut ann], |all| all[0].sum() == 2);
    assert!(running.stop());
}

#[test]
fn who_cannot_be_reached_by_websocket_is_told_of_by_its_address_and_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut player = player(WebSocketDial::default(), &Credentials::unauthenticated(nobody, "ann"));
    until("it is told", &mut [&mut player], |all| matches!(all[0].state(), ConnectionState::Broken(_)));
    let ConnectionState::Broken(why) = player.state() else { panic!("{:?}", player.state()) };
    assert!(why.contains(&format!("ws://{nobody}/")), "{why}");
}

#[test]
fn an_address_that_others_reach_wants_a_key_also_for_websocket() {
    let bind: SocketAddr = ([127, 0, 0, 1], 0).into();
    let config = ShardConfig { bind, public_addresses: Vec::new(), access: Access::Loopback, limits: GatewayLimits::default() };
    let options = HostOptions { websocket: Some(([0, 0, 0, 0], 0).into()), ..HostOptions::default() };
    let error = Host::bind(&config, options).unwrap_err().to_string();
    assert!(error.contains("0.0.0.0:0 can be reached from outside"), "{error}");
    // The same for a server that is told so on its command line.
    let output = inferno().args(["serve", "--bind", "127.0.0.1:0", "--websocket", "0.0.0.0:0"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("listen.websocket = \"0.0.0.0:0\": it can be reached from outside"), "{error}");
}

#[test]
fn the_server_listens_for_websocket_beside_udp_and_who_watches_finds_it_there() {
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = Process::start(inferno().args(["serve", "--bind", &address, "--websocket", &address]));
    server.until(&format!("and by WebSocket on tcp {address}"));
    let watch = |way: &str| {
        let mut command: Command = inferno();
        command.args(["watch", &address, "--format", "json", "--transport", way]);
        command
    };
    for way in ["websocket", "udp", "auto"] {
        let mut watcher = Process::start(&mut watch(way));
        watcher.until("joined_room");
        watcher.kill();
    }
    server.stop();
}
