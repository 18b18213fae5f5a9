//! The floors: what a member was sent by the contestant before, sent again by less. No world, no replication: the sizes of the
//! datagrams are read from a [`Trace`].
//!
//! `renet + netcode`: a message for each datagram, on an unreliable channel; renet packs, numbers and acknowledges.
//! `netcode`: each datagram encrypted and sent, nothing else.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use bevy_replicon_renet::renet::{ChannelConfig, ConnectionConfig, RenetClient, RenetServer, SendType};
use bytes::Bytes;
use renetcode::{ClientAuthentication, NetcodeClient, NetcodeServer, ServerAuthentication, ServerConfig, ServerResult};

use super::{BEGIN, Bare, Client, Cost, Entry, Newcomer, PROTOCOL_ID, Server, Setting, TICK, Trace, Truth, receive_all, socket};
use crate::measure::timed;
use crate::workload::{Changes, Play};

/// renet and netcode, driven as their own transport does it.
pub const RENET: Entry = Entry {
    name: "floor: renet + netcode",
    server: |setting| Box::new(Floor::new(setting, true)),
    client: |newcomer| Box::new(Receiver::new(newcomer, true)),
    bare: Bare::Nothing,
};

/// netcode alone.
pub const NETCODE: Entry = Entry {
    name: "floor: netcode",
    server: |setting| Box::new(Floor::new(setting, false)),
    client: |newcomer| Box::new(Receiver::new(newcomer, false)),
    bare: Bare::Nothing,
};

/// netcode alone, with the datagrams of quantised components.
pub const NETCODE_QUANTISED: Entry = Entry { name: "floor: netcode, quantised", ..NETCODE };

/// What netcode puts around a payload: a prefix, two bytes of a number, and the tag.
const NETCODE_BYTES: usize = 19;

/// What renet puts around a message that has a packet of its own.
const RENET_BYTES: usize = 8;

/// Datagrams up to this size are taken for acknowledgements: renet makes its own.
const ACK_BYTES_MAX: usize = 64;

/// From 1,199 bytes on renet sends an empty packet before the message.
const MESSAGE_BYTES_MAX: usize = 1_190;

fn config() -> ConnectionConfig {
    let channel = ChannelConfig { channel_id: 0, max_memory_usage_bytes: 64 << 20, send_type: SendType::Unreliable };
    let channels = vec![channel];
    ConnectionConfig { available_bytes_per_tick: 1 << 30, server_channels_config: channels.clone(), client_channels_config: channels }
}

struct Floor {
    socket: UdpSocket,
    netcode: NetcodeServer,
    renet: Option<RenetServer>,
    now: Duration,
    members: Vec<u64>,
    trace: Rc<Trace>,
    joining: bool,
    played: usize,
    /// What is left of the join that is played.
    join: VecDeque<Vec<u16>>,
    filler: Bytes,
}

impl Floor {
    fn new(setting: &Setting, with_renet: bool) -> Self {
        let socket = socket();
        let netcode = NetcodeServer::new(ServerConfig {
            current_time: BEGIN,
            max_clients: setting.workload.clients + 1,
            protocol_id: PROTOCOL_ID,
            public_addresses: vec![socket.local_addr().expect("a bound socket has an address")],
            authentication: ServerAuthentication::Unsecure,
        });
        Self {
            socket,
            netcode,
            renet: with_renet.then(|| RenetServer::new(config())),
            now: BEGIN,
            members: Vec::new(),
            trace: Rc::clone(&setting.trace),
            joining: setting.workload.play == Play::Join,
            played: 0,
            join: VecDeque::new(),
            filler: (0..1_300_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect(),
        }
    }

    fn receive(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        self.now = now;
        let Self { socket, netcode, renet, members, filler, .. } = self;
        netcode.update(passed);
        if let Some(renet) = renet {
            renet.update(passed);
        }
        receive_all(socket, |from, datagram| match netcode.process_packet(from, datagram) {
            ServerResult::PacketToSend { addr, payload } => {
                let _ = socket.send_to(payload, addr);
            }
            ServerResult::Payload { client_id, payload } => {
                if let Some(renet) = renet {
                    let _ = renet.process_packet_from(payload, client_id);
                }
            }
            ServerResult::ClientConnected { client_id, addr, payload, .. } => {
                let _ = socket.send_to(payload, addr);
                members.push(client_id);
                if let Some(renet) = renet {
                    renet.add_connection(client_id);
                    // As after any join: from now on both ends acknowledge each other's acknowledgements.
                    renet.send_message(client_id, 0, filler.slice(..100));
                }
            }
            ServerResult::None | ServerResult::ClientDisconnected { .. } => {}
        });
        for &member in &*members {
            if let ServerResult::PacketToSend { addr, payload } = netcode.update_client(member) {
                let _ = socket.send_to(payload, addr);
            }
        }
    }

    fn send(&mut self, sizes: &[u16], members: &[u64]) {
        for &member in members {
            for &size in sizes {
                let size = usize::from(size);
                if let Some(renet) = &mut self.renet {
                    if size > ACK_BYTES_MAX {
                        let size = (size - NETCODE_BYTES - RENET_BYTES).min(MESSAGE_BYTES_MAX);
                        renet.send_message(member, 0, self.filler.slice(..size));
                    }
                } else if let Ok((address, datagram)) =
                    self.netcode.generate_payload_packet(member, &self.filler[..size.saturating_sub(NETCODE_BYTES)])
                {
                    let _ = self.socket.send_to(datagram, address);
                }
            }
        }
        let Some(renet) = &mut self.renet else { return };
        for &member in &self.members {
            for packet in renet.get_packets_to_send(member).unwrap_or_default() {
                if let Ok((address, datagram)) = self.netcode.generate_payload_packet(member, &packet) {
                    let _ = self.socket.send_to(datagram, address);
                }
            }
        }
    }
}

impl Server for Floor {
    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }

    fn tick(&mut self, now: Duration, _changes: &Changes) -> Cost {
        let ((), receive_ns) = timed(|| self.receive(now));
        let mut members = self.members.clone();
        let sizes = if self.joining {
            // Clients are numbered as they came, so the joiner has the highest number.
            members = members.iter().copied().max().into_iter().collect();
            self.join.pop_front().unwrap_or_default()
        } else {
            self.played += 1;
            self.trace.ticks.get(self.played % self.trace.ticks.len().max(1)).cloned().unwrap_or_default()
        };
        let ((), send_ns) = timed(|| self.send(&sizes, &members));
        Cost { server_ns: receive_ns + send_ns, receive_ns: Some(receive_ns), sight_ns: 0 }
    }

    fn truth(&self, _member: usize) -> Option<Truth> {
        None
    }

    fn replay_join(&mut self) -> Option<usize> {
        self.join = self.trace.join.iter().cloned().collect();
        Some(self.join.len())
    }
}

struct Receiver {
    socket: UdpSocket,
    netcode: NetcodeClient,
    renet: Option<RenetClient>,
    now: Duration,
}

impl Receiver {
    fn new(Newcomer { server: server_addr, number: client_id, now, .. }: Newcomer, with_renet: bool) -> Self {
        let authentication = ClientAuthentication::Unsecure { protocol_id: PROTOCOL_ID, client_id, server_addr, user_data: None };
        let netcode = NetcodeClient::new(now, authentication).expect("an address makes a token");
        // A tick of waiting, so that the first request goes out in the first tick.
        Self { socket: socket(), netcode, renet: with_renet.then(|| RenetClient::new(config())), now: now.saturating_sub(TICK) }
    }
}

impl Client for Receiver {
    fn tick(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        self.now = now;
        let Self { socket, netcode, renet, .. } = self;
        receive_all(socket, |_, datagram| {
            if let (Some(payload), Some(renet)) = (netcode.process_packet(datagram), renet.as_mut()) {
                renet.process_packet(payload);
            }
        });
        if let Some((datagram, address)) = netcode.update(passed) {
            let _ = socket.send_to(datagram, address);
        }
        let Some(renet) = renet.as_mut().filter(|_| netcode.is_connected()) else { return };
        renet.set_connected();
        renet.update(passed);
        while renet.receive_message(0).is_some() {}
        for packet in renet.get_packets_to_send() {
            if let Ok((address, datagram)) = netcode.generate_payload_packet(&packet) {
                let _ = socket.send_to(datagram, address);
            }
        }
    }

    fn held(&mut self) -> usize {
        usize::from(self.netcode.is_connected())
    }

    fn state(&mut self) -> Truth {
        Truth::new()
    }

    fn leave(&mut self) {}
}
