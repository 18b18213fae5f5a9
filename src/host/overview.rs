//! What a host has to say of itself to an operator: plain data, put together where nobody waits for it.

use std::time::Duration;

use super::berth::RoomStatus;
use super::gateway::GatewayCounters;
use super::limits::HostCounters;
use super::pace::Pace;
use crate::protocol::EntityId;
use crate::store::{Pressure, Writer, WriterReport};

/// What went over the wire for a room, without the headers of UDP and IP, and without what encryption adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages and reports of its members that came in.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that went out to its members, each a datagram.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

impl Traffic {
    /// Counts what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
    }
}

/// How the ways to the members of a room are, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Ways {
    /// To how many members a round trip was measured.
    pub measured: usize,
    /// The mean of their round trips.
    pub rtt_mean: Duration,
    /// The longest of them.
    pub rtt_max: Duration,
    /// What share of packets gets lost, in the mean of all members.
    pub loss_mean: f32,
    /// The same on the worst way.
    pub loss_max: f32,
    /// Bytes that wait to be sent to them.
    pub queue_bytes: usize,
    /// Bytes that wait for the one for whom most do.
    pub queue_bytes_max: usize,
}

/// The way to one member.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Way {
    /// The round trip, once it was measured.
    pub rtt: Option<Duration>,
    /// What share of packets gets lost at present.
    pub loss: f32,
    /// Bytes a second that may be sent.
    pub rate: f64,
    /// Bytes that wait to be sent.
    pub queue_bytes: usize,
}

/// Somebody who is in a room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The player.
    pub player: EntityId,
    /// The name that others see.
    pub name: String,
    /// It only watches.
    pub spectates: bool,
    /// How it is reached.
    pub way: Way,
}

/// What rooms have counted: those that are open, or those that have ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// What was counted.
    pub counters: HostCounters,
    /// How they kept their time.
    pub pace: Pace,
    /// What went over the wire for them.
    pub traffic: Traffic,
}

impl Tally {
    /// Counts what a room counted.
    pub fn add(&mut self, room: &RoomStatus) {
        self.counters = self.counters + room.counters;
        self.pace.add(&room.pace);
        self.traffic.add(&room.traffic);
    }
}

/// How the store does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreStatus {
    /// How far it is behind.
    pub pressure: Pressure,
    /// Bytes that wait to be written, or are being written.
    pub pending_bytes: usize,
    /// Why nothing can be written at the moment, if so.
    pub failing: Option<String>,
    /// What its writer did.
    pub report: WriterReport,
}

impl StoreStatus {
    pub(super) fn of(writer: &Writer) -> Self {
        Self { pressure: writer.pressure(), pending_bytes: writer.pending_bytes(), failing: writer.failing(), report: writer.report() }
    }
}

/// What a host as a whole has to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// How many are connected.
    pub connections: usize,
    /// What those counted who lead people to rooms.
    pub foyer: HostCounters,
    /// What the gateway counted.
    pub gateway: GatewayCounters,
    /// What rooms counted that have ended; and those who were refused before they were led to one.
    pub ended: Tally,
    /// How the store does, if rooms are kept.
    pub store: Option<StoreStatus>,
    /// How publishing to NATS goes, if facts are published.
    #[cfg(feature = "nats")]
    pub nats: Option<crate::store::nats::PublisherReport>,
    /// Newcomers are refused: it is about to stop.
    pub is_draining: bool,
    /// What rooms can be opened from.
    pub templates: Vec<String>,
}
