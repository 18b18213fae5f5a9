//! A player of a simulated cluster: a real client that finds its room wherever it is, and what is wrong with it and its way.

use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::host::{Common, SimHost};
use super::plan::Fault;
use super::{SILENT_STEPS, Tally};
use crate::client::{Connection, ConnectionState, Replica};
use crate::host::{ConnectionId, Visitor};
use crate::protocol::{LinkConditions, REPORT, Refusal};
use crate::room::RoomRng;
use crate::sim::client::SimClient;

/// How long a player waits before it tries again, in steps.
const PAUSE_STEPS: u32 = 10;

/// How many of its messages a hostile player remembers.
const REMEMBERED: usize = 32;

/// What a bot does each tick in the client's world that it plays in.
type Brain = Box<dyn FnMut(&mut World)>;

pub(super) struct Player {
    pub(super) name: String,
    pub(super) room: String,
    pub(super) client: SimClient,
    brain: Option<Brain>,
    /// The host that it is connected to, and the one that it tries next.
    pub(super) at: Option<usize>,
    next: usize,
    wait: u32,
    silent: u32,
    pub(super) bad_link: u32,
    pub(super) cut: u32,
    pub(super) frozen: u32,
    pub(super) hostile: u32,
    pub(super) leaves: bool,
    said: Vec<Bytes>,
    rng: RoomRng,
}

impl Player {
    pub(super) fn new(name: String, room: String, client: SimClient, brain: Option<Brain>, seed: u64) -> Self {
        let (at, next, wait, silent, bad_link, cut, frozen, hostile, leaves, said) = Default::default();
        let rng = RoomRng::new(seed);
        Self { name, room, client, brain, at, next, wait, silent, bad_link, cut, frozen, hostile, leaves, said, rng }
    }

    /// The room that it is in; that which it wants while it is in none. A hostile one may have asked for another than it wants, by a letter that it changed.
    pub(super) fn place(&self) -> String {
        let there = self.client.world().resource::<Replica>().room_name();
        if there.is_empty() { self.room.clone() } else { there.to_owned() }
    }

    /// Something goes wrong with it.
    pub(super) fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Link(_, conditions, steps) => {
                self.bad_link = steps;
                self.client.set_link(conditions);
            }
            Fault::Cut(_, steps) => self.cut = steps,
            Fault::Freeze(_, steps) => self.frozen = steps,
            Fault::Hostile(_, steps) => self.hostile = steps,
            Fault::Leave(_) => self.leaves = true,
            _ => {}
        }
    }

    /// Acts, and says what it has to say.
    pub(super) fn speak(&mut self, sent: u64) {
        for left in [&mut self.bad_link, &mut self.cut, &mut self.frozen, &mut self.hostile] {
            *left = left.saturating_sub(1);
        }
        if self.bad_link == 0 && !self.client.down.conditions.is_perfect() {
            self.client.set_link(LinkConditions::PERFECT);
        }
        if self.frozen > 0 || self.at.is_none() {
            return;
        }
        if std::mem::take(&mut self.leaves) && self.client.is_live() {
            self.client.world_mut().resource_mut::<Connection>().leave();
        } else if let Some(brain) = self.brain.as_mut().filter(|_| self.client.is_live()) {
            brain(self.client.app.world_mut());
        }
        self.client.say(sent);
    }

    /// Hands what has arrived of its words to its host.
    pub(super) fn be_heard(&mut self, hosts: &mut [SimHost], common: &mut Common<'_>, now: u64, tally: &mut Tally) {
        let Some(host) = self.at.and_then(|at| hosts.get_mut(at)).filter(|host| host.is_awake()) else { return };
        if self.cut > 0 {
            return;
        }
        while let Some(message) = self.client.up.receive(now) {
            if self.said.len() >= REMEMBERED {
                self.said.remove(0);
            }
            self.said.push(message.clone());
            host.message(common, self.client.connection, &message);
        }
        while let Some(at) = self.client.reports.next_arrival().filter(|at| *at <= Duration::from_millis(now)) {
            if let Some(report) = self.client.reports.receive(at) {
                host.message(common, self.client.connection, &report);
            }
        }
        if self.hostile > 0 {
            for _ in 0..self.rng.range(0..6) {
                let message = self.hostile_message();
                tally.hostile += 1;
                host.message(common, self.client.connection, &message);
            }
        }
    }

    /// Something that no client says: its own words again, changed or cut short, or anything at all.
    fn hostile_message(&mut self) -> Bytes {
        let length = self.rng.range(0..64) as usize;
        let mut any: Vec<u8> = (0..length).map(|_| self.rng.next_u32() as u8).collect();
        let nth = self.rng.range(0..self.said.len().max(1) as u32) as usize;
        match (self.rng.range(0..5), self.said.get(nth)) {
            (0, Some(said)) => said.clone(),
            (1, Some(said)) => {
                let mut changed = said.to_vec();
                let at = self.rng.range(0..changed.len().max(1) as u32) as usize;
                changed.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (length % 8));
                changed.into()
            }
            (2, Some(said)) => said.slice(..length.min(said.len())),
            (3, _) => {
                any.insert(0, REPORT);
                any.into()
            }
            _ => any.into(),
        }
    }

    /// Takes what came, and finds its way on if it has none. `connect` gives the number of its next connection, and where the chance of its
    /// links starts.
    pub(super) fn listen(&mut self, hosts: &mut [SimHost], now: Duration, mut connect: impl FnMut() -> (ConnectionId, u64)) {
        if self.frozen > 0 {
            self.silent += 1;
            return;
        }
        let before = self.client.world().resource::<Connection>().received();
        if self.cut == 0 {
            self.client.receive(now);
        }
        self.client.app.update();
        let heard = self.client.world().resource::<Connection>().received() != before;
        self.silent = if heard { 0 } else { self.silent + 1 };
        self.wait = self.wait.saturating_sub(1);
        if self.at.is_some() {
            self.mind(hosts);
        }
        let next = self.next % hosts.len().max(1);
        let is_there = |host: &&mut SimHost| host.process.is_some();
        if self.at.is_none()
            && self.wait == 0
            && let Some(host) = hosts.get_mut(next).filter(is_there)
        {
            let (connection, seed) = connect();
            self.client.renew(connection, seed);
            self.client.join(&self.room, false);
            host.connected(connection, Visitor { player: self.client.player, name: self.name.clone(), room: None });
            (self.at, self.silent) = (Some(next), 0);
        } else if self.at.is_none() && self.wait == 0 {
            self.next += 1;
        }
    }

    /// Goes away from a host that refuses it, sends it on, or says nothing any more.
    fn mind(&mut self, hosts: &[SimHost]) {
        let state = self.client.state().clone();
        match state {
            ConnectionState::Refused(Refusal::Elsewhere(address), _) => {
                self.next = hosts.iter().position(|host| host.address == address).unwrap_or(self.next + 1);
                (self.at, self.wait) = (None, 1);
            }
            ConnectionState::Refused(..) | ConnectionState::Idle => {
                self.next += usize::from(state != ConnectionState::Idle);
                (self.at, self.wait) = (None, PAUSE_STEPS);
            }
            _ if self.silent > SILENT_STEPS => {
                self.next += 1;
                (self.at, self.wait) = (None, 1);
            }
            _ => {}
        }
    }
}
