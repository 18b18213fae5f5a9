//! `bevy_replicon`: a server app and client apps, whose messages are carried by hand.
//!
//! The clients apply a stretch of ticks at once (see `measure`), so the acknowledgements they are going to send are written by
//! hand in the tick of the message; that they do send the same ones is asserted.
//!
//! The settings are the kindest it offers: no client half on the server, no server half on the clients, no check of the
//! protocol when a client joins, one tick per update.

mod app;
mod gaze;

use std::collections::VecDeque;

use bevy::ecs::entity::EntityHashMap;
use bevy::prelude::*;
use bevy_replicon::prelude::*;
use bevy_replicon::shared::backend::channels::{ClientChannel, ServerChannel};
use bevy_replicon::shared::backend::connected_client::NetworkId;
use bytes::Bytes;

pub use self::app::{app, bare_app, finish, held, truth};
pub use self::gaze::Gaze;
use crate::measure::{Contestant, Entry, JoinCost, TickCost, timed};
use crate::workload::{Changes, Play, Population, Workload};

/// With acknowledgements that arrive before the next tick, and with some that take three ticks for the round trip.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "replicon",
        setup: |workload| Box::new(Replicon::setup(workload, 1)),
        bare_server: Some(bare_app),
        bare_client: Some(bare_app),
        joins: true,
        sees: true,
    },
    Entry {
        name: "replicon, acks 3 ticks late",
        setup: |workload| Box::new(Replicon::setup(workload, 3)),
        bare_server: Some(bare_app),
        bare_client: Some(bare_app),
        joins: false,
        sees: false,
    },
];

/// Packets up to this size are sent whole.
const MAX_SIZE: usize = 1_200;

/// Who acknowledges, and what.
type Ack = (Entity, Bytes);

struct Replicon {
    server: App,
    population: Population,
    clients: Vec<Client>,
    /// Acknowledgements under way, those of the oldest tick first.
    acks: VecDeque<Vec<Ack>>,
    /// How many ticks an acknowledgement takes; 1 is before the next tick.
    ack_ticks: usize,
}

struct Client {
    app: App,
    /// The client's entity on the server.
    connection: Entity,
    /// Messages that the client has not applied, by tick, each with its channel.
    sent: Vec<Vec<(usize, Bytes)>>,
    /// Acknowledgements written for the client that it has not sent itself.
    acks: VecDeque<Bytes>,
}

impl Replicon {
    fn setup(workload: &Workload, ack_ticks: usize) -> Self {
        let mut server = finish(app(false));
        server.world_mut().resource_mut::<NextState<ServerState>>().set(ServerState::Running);
        server.update();
        let population = Population::spawn(workload, server.world_mut(), Replicated);
        if workload.play == Play::Walk {
            Gaze::install(&mut server, workload, &population);
        }
        let mut replicon = Self { server, population, clients: Vec::new(), acks: VecDeque::new(), ack_ticks };
        for _ in 0..workload.clients {
            let client = connected_client_app();
            replicon.connect(client);
        }
        replicon.rest();
        replicon
    }

    fn connect(&mut self, app: App) {
        // Numbers are those of members, from 1: `Gaze` goes by them.
        let number = self.clients.len() as u64 + 1;
        let connection = self.server.world_mut().spawn((ConnectedClient { max_size: MAX_SIZE }, NetworkId::new(number))).id();
        self.clients.push(Client { app, connection, sent: Vec::new(), acks: VecDeque::new() });
    }

    /// Ticks until no message is under way in either direction.
    fn rest(&mut self) {
        for _ in 0..self.ack_ticks + 5 {
            let _ = self.tick(&Changes::default());
        }
        let _ = self.apply();
    }

    /// Some work and an update of the server. Its CPU time, and how many bytes it sent.
    fn server_tick(&mut self, work: impl FnOnce(&mut Self)) -> (u64, u64) {
        self.deliver_acks();
        let ((), server_ns) = timed(|| {
            work(self);
            self.server.update();
        });
        (server_ns, self.collect_messages())
    }

    /// Gives the server the acknowledgements that have arrived.
    fn deliver_acks(&mut self) {
        if self.acks.len() >= self.ack_ticks {
            let mut messages = self.server.world_mut().resource_mut::<ServerMessages>();
            for (connection, message) in self.acks.pop_front().into_iter().flatten() {
                messages.insert_received(connection, ClientChannel::MutationAcks, message);
            }
        }
    }

    /// Gives every client what the server sent it in this tick, and sends the acknowledgements on their way. Number of bytes.
    fn collect_messages(&mut self) -> u64 {
        let indices: EntityHashMap<usize> = self.clients.iter().enumerate().map(|(index, client)| (client.connection, index)).collect();
        for client in &mut self.clients {
            client.sent.push(Vec::new());
        }
        let mut acks = vec![Vec::new(); self.clients.len()];
        let mut bytes = 0;
        for (connection, channel, message) in self.server.world_mut().resource_mut::<ServerMessages>().drain_sent() {
            bytes += message.len() as u64;
            let index = indices[&connection];
            if channel == usize::from(ServerChannel::Mutations) {
                // One byte of flags, two of the message's number.
                acks[index].extend_from_slice(&message[1..3]);
            }
            self.clients[index].sent.last_mut().expect("pushed above").push((channel, message));
        }
        let mut under_way = Vec::new();
        for (client, ack) in self.clients.iter_mut().zip(acks) {
            if !ack.is_empty() {
                let ack = Bytes::from(ack);
                client.acks.push_back(ack.clone());
                under_way.push((client.connection, ack));
            }
        }
        self.acks.push_back(under_way);
        bytes
    }
}

impl Client {
    /// Applies the next ticks. CPU time of each.
    fn apply(&mut self) -> Vec<u64> {
        let apply = |messages: Vec<(usize, Bytes)>| {
            let mut received = self.app.world_mut().resource_mut::<ClientMessages>();
            for (channel, message) in messages {
                received.insert_received(channel, message);
            }
            let ((), ns) = timed(|| self.app.update());
            for (_, ack) in self.app.world_mut().resource_mut::<ClientMessages>().drain_sent() {
                assert_eq!(Some(ack), self.acks.pop_front(), "the client acknowledges what has been acknowledged for it");
            }
            ns
        };
        self.sent.drain(..).map(apply).collect()
    }
}

impl Contestant for Replicon {
    fn tick(&mut self, changes: &Changes) -> TickCost {
        let mut sight_ns = 0;
        let (server_ns, bytes) = self.server_tick(|this| {
            this.population.change(changes, this.server.world_mut(), Replicated);
            sight_ns = Gaze::step(this.server.world_mut(), changes);
        });
        TickCost { server_ns, sight_ns, bytes_per_client: bytes as f64 / self.clients.len().max(1) as f64 }
    }

    fn apply(&mut self) -> Vec<u64> {
        self.clients.iter_mut().flat_map(Client::apply).collect()
    }

    fn join(&mut self) -> JoinCost {
        // A client's app exists, and knows that it is connected, before its join counts.
        let app = connected_client_app();
        let (server_ns, bytes) = self.server_tick(|this| this.connect(app));
        let client_ns = self.clients.last_mut().expect("one has just joined").apply().iter().sum();
        JoinCost { server_ns, bytes, client_ns, ticks: 1 }
    }

    fn leave(&mut self) {
        if let Some(client) = self.clients.pop() {
            self.server.world_mut().despawn(client.connection);
        }
        self.rest();
    }

    fn assert_equal(&mut self) {
        for (member, Client { app, connection, .. }) in self.clients.iter_mut().enumerate() {
            let (truth, replica) = (truth(self.server.world(), &self.population, member), held(app));
            assert_eq!(replica.len(), truth.len(), "client {connection} holds as many entities as it is to see");
            assert!(replica == truth, "client {connection} holds the server's state bit for bit");
        }
    }
}

fn connected_client_app() -> App {
    let mut app = finish(app(true));
    app.world_mut().resource_mut::<NextState<ClientState>>().set(ClientState::Connected);
    app.update();
    app
}
