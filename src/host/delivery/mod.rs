//! What one member is sent, packet by packet, and what came of it.
//!
//! Messages go as a stream of bytes, of which what is lost goes again. Values of `latest` components go in the room's parts, the same
//! bytes for all; of a part that is lost only those values go again that nothing newer has superseded, to that member alone. A rate
//! that follows the way's round trip and losses bounds all of it.
//!
//! May use: protocol, room. Never: clocks and sockets; the time is told.

mod owed;
mod packets;
mod path;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use self::owed::Owed;
use self::packets::{Packet, level};
use self::path::Path;
use self::stream::OutStream;
use crate::protocol::limits::PACKET_BYTES_MAX;
use crate::protocol::{
    CodecError, EntityId, NetId, PACKET_HEAD_MAX, PartSource, Protocol, Report, RoomTick, unwrap_seq, write_echo, write_ordered_head,
    write_packet_head, write_part_head,
};
use crate::room::{Beholder, LatestValues, NEEDS_TICKS, Part};

/// Most packets whose fate is not known. With more, only probes go out.
const UNKNOWN_MAX: usize = 900;

/// How long after a packet a later one must have been sent that arrived, for the first one to be lost: packets of one tick may overtake
/// each other.
const REORDER_FIRST: Duration = Duration::from_millis(30);

/// What that grows to on ways that reorder more.
const REORDER_MAX: Duration = Duration::from_millis(130);

/// For how long it stays grown.
const REORDER_FOR: Duration = Duration::from_secs(10);

/// How long after the last packet one goes out that only asks whether those before it came.
const PROBE_AFTER: Duration = Duration::from_millis(40);

/// How often a packet goes out even if nothing happens, by which clients keep the server's time.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How often a client's report is echoed, by which it measures the round trip.
const ECHO_EVERY: Duration = Duration::from_millis(240);

/// What share of packets must get lost for little pieces of the stream to go out twice, in two packets: what is in order waits for what was lost.
const TWICE_FROM: f32 = 0.02;

/// Most bytes of a tick's stream that go out twice.
const TWICE_MAX: usize = 160;

/// The least room that a piece of the stream is worth its head in.
const PIECE_MIN: usize = 48;

/// For how many packets there is room from the start: what is on its way to a member who reports some ticks late. Where hundreds of members'
/// queues grew one by one while rooms ticked, fresh memory for them took a twentieth of the time of those ticks.
const SENT_USUAL: usize = 32;

/// What the room has for members.
pub(crate) struct Offer<'a> {
    pub(crate) latest: &'a mut LatestValues,
    pub(crate) world: &'a World,
    /// For whom, in a room in which not everybody may know everything.
    pub(crate) beholder: Option<Beholder<'a>>,
    /// What changed in this tick, travels in parts, and is not for everybody: this member's share of it.
    pub(crate) private: &'a [(u32, u8)],
    /// Whose place decides what is near. Spectators stand nowhere.
    pub(crate) user: Option<EntityId>,
}

impl Offer<'_> {
    /// True if the member may know of a value.
    fn may_have(&self, id: u32, ordinal: u8) -> bool {
        let audience = || {
            let entry = self.world.resource::<Protocol>().components.get(self.latest.component(ordinal));
            entry.map(|entry| entry.audience).unwrap_or_default()
        };
        self.beholder.is_none_or(|beholder| beholder.may_have(id, audience()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Arrived,
    /// A later one arrived.
    Overtaken,
    /// Nothing was heard of it for long: perhaps only the reports of it were lost.
    TimedOut,
}

/// A packet that was sent.
#[derive(Debug)]
struct Sent {
    at: Duration,
    tick: RoomTick,
    /// Known when the round is complete.
    bytes: usize,
    /// The piece of the stream in it: where it begins, and its size.
    piece: Option<(u64, usize)>,
    /// What it carries of the stream that another packet carried before it.
    twice: Option<(u64, usize)>,
    /// The values in it: a part of the room that all members share, or one for this member alone.
    part: Option<Arc<Part>>,
    /// The tick from which on the member lacks something without that part.
    lacking: RoomTick,
    fate: Fate,
}

impl Sent {
    fn has_content(&self) -> bool {
        self.piece.is_some() || self.part.is_some()
    }
}

/// The host's end of the way to one member.
#[derive(Debug)]
pub(crate) struct Delivery {
    stream: OutStream,
    path: Path,
    /// What went out of the stream in this round, for the first time.
    once: (u64, usize),
    /// What goes out for the second time with the next packet.
    twice: Option<(u64, usize)>,
    sent: VecDeque<Sent>,
    /// The number of the first of `sent`.
    first_seq: u64,
    owed: Owed,
    /// Not all that was owed in the last round could go.
    is_short: bool,
    /// Where the snapshot ends in the stream that the member must have before parts make sense.
    snapshot_end: Option<u64>,
    /// When the snapshot was known to be there.
    snapshot_there: Option<RoomTick>,
    /// The tick up to which all changes are in the snapshot, sent, or owed.
    given: Option<RoomTick>,
    /// The last tick of which it was offered what changed.
    offered: Option<RoomTick>,
    /// When the newest packet was sent that is known to have arrived.
    newest_arrived: Duration,
    reorder: Duration,
    /// When that last grew.
    reordered: Duration,
    probed: bool,
    last_sent: Duration,
    /// When entities came into its sight, if that is not long ago.
    entered: BTreeMap<u32, u32>,
    echo: Option<(u16, Duration)>,
    echoed: Duration,
    packets: Vec<Packet>,
    padded: Vec<u8>,
    buffer: Vec<u8>,
    source: PartSource,
    parts: Vec<Arc<Part>>,
    /// The tick from which on the member lacks something without those parts.
    lacking: RoomTick,
    /// The tick as of which it is known to have all values that travel in parts.
    complete: RoomTick,
}

impl Delivery {
    pub(crate) fn new(now: Duration, rate_max: f64) -> Self {
        Self {
            stream: OutStream::default(),
            path: Path::new(now, rate_max),
            once: (0, 0),
            twice: None,
            sent: VecDeque::with_capacity(SENT_USUAL),
            // Not 0, so that what is before the first packet has numbers too.
            first_seq: 1_024,
            owed: Owed::default(),
            is_short: false,
            snapshot_end: None,
            snapshot_there: None,
            given: None,
            offered: None,
            newest_arrived: Duration::ZERO,
            reorder: REORDER_FIRST,
            reordered: now,
            probed: true,
            last_sent: now,
            entered: BTreeMap::new(),
            echo: None,
            echoed: Duration::ZERO,
            packets: Vec::new(),
            padded: Vec::new(),
            buffer: Vec::new(),
            source: PartSource::default(),
            parts: Vec::new(),
            lacking: RoomTick(0),
            complete: RoomTick(0),
        }
    }

    /// Whoever was only told which rooms there are comes into one: the stream and the numbers go on, and the rate begins anew.
    pub(crate) fn enter(&mut self, now: Duration, rate_max: f64) {
        self.path = self.path.anew(now, rate_max);
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, tick: RoomTick, message: Bytes) {
        self.stream.push(tick, message);
    }

    /// Takes note that all of the snapshot of a tick has been pushed, or of the difference that takes its place.
    pub(crate) fn snapshot_pushed(&mut self, tick: RoomTick) {
        self.snapshot_end = Some(self.stream.end());
        self.snapshot_there = None;
        self.given = Some(tick);
        self.owed.clear();
    }

    /// Drops what a snapshot will supersede.
    pub(crate) fn drop_superseded(&mut self) {
        self.stream.drop_superseded();
        self.owed.clear();
        self.given = None;
        self.snapshot_end = None;
    }

    /// True if a snapshot that is queued now goes out soon.
    pub(crate) fn takes_snapshot(&self) -> bool {
        self.stream.takes_snapshot()
    }

    /// What the messages cost that wait, and that no snapshot makes superfluous.
    pub(crate) fn lasting_bytes(&self) -> usize {
        self.stream.lasting_bytes()
    }

    /// True if all messages are known to have arrived.
    pub(crate) fn is_there(&self) -> bool {
        self.stream.is_there()
    }

    /// True if the other end can't keep up: more than `max` bytes wait, or what goes out is older than parts can tell.
    pub(crate) fn is_clogged(&self, max: usize, now: RoomTick) -> bool {
        let late = |tick: RoomTick| now.0.saturating_sub(tick.0) >= NEEDS_TICKS;
        // After a snapshot it has as long to catch up with what happened meanwhile.
        let settled = self.snapshot_there.is_some_and(late);
        // However large a snapshot is that goes out now, it is what the member needs. Of who watches the past it stays noted after it is there.
        let on_its_way = self.snapshot_end.filter(|end| self.stream.there() < *end);
        let queued = on_its_way.map_or(self.stream.queued_bytes(), |end| (self.stream.end() - end) as usize);
        queued > max || (settled && self.stream.oldest_batch().is_some_and(late))
    }

    /// True if the member has all that it was ever told, or will have it with the packets that `has` says are there.
    pub(crate) fn is_current(&self, has: impl Fn(u64) -> bool) -> bool {
        let arrived = |(seq, sent): (u64, &Sent)| sent.fate != Fate::Unknown || !sent.has_content() || has(seq);
        self.stream.waiting_bytes() == 0
            && self.owed.is_empty()
            && self.numbered().all(arrived)
            && self.given.is_some()
            && self.given == self.offered
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &Sent)> {
        (self.first_seq..).zip(&self.sent)
    }

    /// Takes a report of what arrived.
    ///
    /// # Errors
    /// If it tells of a packet that was never sent.
    pub(crate) fn report(&mut self, now: Duration, report: &Report) -> Result<(), CodecError> {
        let next = self.first_seq + self.sent.len() as u64;
        let newest = unwrap_seq(report.newest, next);
        if newest >= next {
            return Err(CodecError::TooLarge { what: "packet in a report", value: newest, max: next.saturating_sub(1), at: 3 });
        }
        self.echo = Some((report.seq, now));
        let first = self.first_seq;
        let known = newest.checked_sub(first).map_or(0, |last| last as usize + 1);
        for (seq, sent) in (first..).zip(self.sent.iter_mut().take(known)) {
            if sent.fate == Fate::Arrived || !report.has(newest - seq) {
                continue;
            }
            if sent.fate == Fate::Overtaken {
                // It was only late.
                (self.reorder, self.reordered) = ((self.reorder * 2).min(REORDER_MAX), now);
            }
            sent.fate = Fate::Arrived;
            self.newest_arrived = self.newest_arrived.max(sent.at);
            self.path.arrived(sent.bytes);
            for (start, size) in [sent.piece, sent.twice].into_iter().flatten() {
                self.stream.arrived(start, size);
            }
            if seq == newest {
                // A clock that was set forward meanwhile says that it was held for longer than it has been away: that is no round trip.
                let trip = now.saturating_sub(sent.at).checked_sub(Duration::from_millis(u64::from(report.hold_millis)));
                trip.into_iter().for_each(|trip| self.path.round_trip(now, trip));
            }
        }
        self.forget(now);
        Ok(())
    }

    /// Lets go of packets whose fate is known.
    fn forget(&mut self, now: Duration) {
        let patience = self.path.patience();
        let done = |sent: &Sent| match sent.fate {
            Fate::Unknown => false,
            Fate::Arrived => true,
            // It may only be late.
            Fate::Overtaken | Fate::TimedOut => now.saturating_sub(sent.at) > patience,
        };
        while self.sent.front().is_some_and(done) {
            self.sent.pop_front();
            self.first_seq += 1;
        }
    }

    /// Finds what was lost, and lets it go again.
    fn find_losses(&mut self, now: Duration, latest: Option<&LatestValues>) {
        if now.saturating_sub(self.reordered) > REORDER_FOR {
            self.reorder = REORDER_FIRST;
        }
        let timeout = self.path.timeout();
        let mut timed_out = false;
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::Unknown) {
            let overtaken = sent.at + self.reorder <= self.newest_arrived;
            let late = now.saturating_sub(sent.at) > timeout;
            if sent.part.is_some() && latest.is_none() {
                // The room knows what of the values still counts; it is asked when it ticks. What of the stream is beside them does not wait for that: who
                // is put out has no room any more that ticks.
                if (overtaken || late)
                    && let Some((start, size)) = sent.piece.take()
                {
                    self.stream.lost(start, size);
                }
                continue;
            }
            if !overtaken && !late {
                // Those behind it were sent later.
                break;
            }
            sent.fate = if overtaken { Fate::Overtaken } else { Fate::TimedOut };
            timed_out |= !overtaken;
            self.path.lost();
            if let Some((start, size)) = sent.piece {
                self.stream.lost(start, size);
            }
            for item in sent.part.iter().flat_map(|part| &part.items) {
                let stands = |ordinal: &u8| latest.is_some_and(|latest| latest.stands_since(*ordinal, item.id, sent.tick));
                for ordinal in item.ordinals().filter(stands) {
                    self.owed.add(item.id, ordinal, sent.tick, sent.lacking);
                }
            }
        }
        if timed_out {
            self.path.timed_out(now);
        }
        self.forget(now);
    }

    /// True if parts make sense to the member: it has the entities that they name.
    fn follows(&mut self, tick: RoomTick) -> bool {
        if self.snapshot_end.is_some_and(|end| self.stream.there() >= end) {
            self.snapshot_end = None;
            self.snapshot_there = Some(tick);
        }
        let late = |oldest: RoomTick| tick.0.saturating_sub(oldest.0) >= NEEDS_TICKS;
        self.given.is_some() && self.snapshot_end.is_none() && !self.stream.oldest_batch().is_some_and(late)
    }

    /// Puts together the packets of a tick. Without an offer only messages go out.
    pub(crate) fn round(&mut self, now: Duration, tick: RoomTick, mut offer: Option<Offer<'_>>) {
        let before = self.packets.len();
        self.offered = offer.as_ref().map(|_| tick).or(self.offered);
        if let Some(beholder) = offer.as_ref().and_then(|offer| offer.beholder) {
            self.entered.retain(|_, since| tick.0.saturating_sub(*since) < NEEDS_TICKS);
            self.entered.extend(beholder.viewers.entered(beholder.viewer).iter().map(|id: &NetId| (id.get(), tick.0)));
        }
        self.lacking = tick;
        self.path.tick(now);
        let once = std::mem::take(&mut self.once);
        self.twice = Some(once).filter(|(_, size)| self.path.loss() >= TWICE_FROM && (1..=TWICE_MAX).contains(size));
        self.find_losses(now, offer.as_ref().map(|offer| &*offer.latest));
        if self.is_echo_due(now) {
            // Before this round's values go out, of which nothing is known.
            self.complete = self.complete_as_of();
        }
        // Those that arrived behind a lost one are remembered as long as that one, and keep nothing back.
        if self.sent.len() < UNKNOWN_MAX || self.sent.iter().filter(|sent| sent.fate == Fate::Unknown).count() < UNKNOWN_MAX {
            let allowance = self.path.allowance();
            let waiting = self.stream.waiting_bytes();
            let for_stream = if waiting > allowance { allowance * 3 / 4 } else { waiting };
            if let Some(offer) = offer.as_mut().filter(|_| self.follows(tick)) {
                self.choose_values(tick, offer, allowance - for_stream);
            }
            let parts = std::mem::take(&mut self.parts);
            let mut left = for_stream;
            for part in &parts {
                self.packet(now, tick, Some(part), &mut left);
            }
            self.parts = parts;
            self.parts.clear();
            while left > 0 && self.packet(now, tick, None, &mut left) {}
            if waiting > for_stream || !self.owed.is_empty() {
                self.path.was_limited();
            }
        }
        let unknown = self.sent.iter().any(|sent| sent.fate == Fate::Unknown && sent.has_content());
        let silent = now.saturating_sub(self.last_sent);
        if self.packets.is_empty() && ((unknown && !self.probed && silent >= PROBE_AFTER) || silent >= PING_EVERY) {
            self.probed = true;
            self.packet(now, tick, None, &mut 0);
        }
        let packets = self.packets.get_mut(before..).unwrap_or_default();
        // On a narrow way every byte counts.
        if !self.path.is_limited() {
            level(packets);
        }
        for (packet, sent) in packets.iter().rev().zip(self.sent.iter_mut().rev()) {
            sent.bytes = packet.bytes();
            self.path.spend(sent.bytes);
        }
    }

    fn is_echo_due(&self, now: Duration) -> bool {
        self.echo.is_some() && now.saturating_sub(self.echoed) >= ECHO_EVERY
    }

    /// The tick as of which the member is known to have all values that travel in parts; 0 while a snapshot is on its way.
    fn complete_as_of(&self) -> RoomTick {
        let Some(given) = self.given.filter(|_| self.snapshot_end.is_none()) else { return RoomTick(0) };
        let unknown = self.sent.iter().filter(|sent| sent.fate == Fate::Unknown && sent.part.is_some());
        let lacking = unknown.map(|sent| sent.lacking).chain(self.owed.lacking()).min();
        lacking.map_or(given, |lacking| given.min(RoomTick(lacking.0.saturating_sub(1))))
    }

    /// Chooses the parts of the tick: the room's own, or if they are too much, or something is missing, what matters most.
    fn choose_values(&mut self, tick: RoomTick, offer: &mut Offer<'_>, allowance: usize) {
        let parts = offer.latest.parts();
        let cost: usize = parts.iter().map(|part| part.body.len() + path::PACKET_OVERHEAD + PACKET_HEAD_MAX).sum();
        let given = self.given.unwrap_or_default();
        if self.given == Some(tick) {
            // The room stands still.
            return self.choose_owed(tick, offer, allowance);
        }
        let in_step = given.0 + 1 >= tick.0;
        self.given = Some(tick);
        let mut left = allowance;
        // While older ones wait what is new takes its turn with them: else they had what it leaves.
        if in_step && cost <= allowance && !self.is_short {
            self.parts.extend(parts.iter().cloned());
            left -= cost;
            // What is in them is not owed any more.
            if !self.owed.is_empty() {
                offer.latest.fresh().for_each(|(id, ordinal)| self.owed.settle(id, ordinal));
            }
        } else if in_step {
            offer.latest.fresh().for_each(|(id, ordinal)| self.owed.add(id, ordinal, tick, tick));
        } else {
            offer.latest.changed_since(given).for_each(|(id, ordinal)| self.owed.add(id, ordinal, given, given));
        }
        if in_step {
            offer.private.iter().for_each(|(id, ordinal)| self.owed.add(*id, *ordinal, tick, tick));
        }
        self.choose_owed(tick, offer, left);
    }

    fn choose_owed(&mut self, tick: RoomTick, offer: &mut Offer<'_>, allowance: usize) {
        if self.owed.is_empty() {
            self.is_short = false;
            return;
        }
        self.lacking = self.owed.choose(tick, offer, allowance, &mut self.source).min(self.lacking);
        self.is_short = !self.owed.is_empty();
        let entered = |id: u32| self.entered.get(&id).copied().unwrap_or_default();
        offer.latest.write(&mut self.source, entered, &mut self.parts);
    }

    /// Writes what went out of the stream in the last round once more, if it fits and is not there yet.
    fn repeat(&mut self, room: usize) -> Option<(u64, usize)> {
        let (start, size) = self.twice?;
        let end = start + size as u64;
        let start = start.max(self.stream.there());
        let size = end.saturating_sub(start) as usize;
        if size > room {
            return None;
        }
        self.twice = None;
        if size == 0 {
            return None;
        }
        write_ordered_head(start, Some(size), &mut self.buffer);
        self.stream.copy(start, size, &mut self.buffer);
        Some((start, size))
    }

    /// Puts a packet together of a part and as much of the stream as fits. False if there was nothing to put in.
    fn packet(&mut self, now: Duration, tick: RoomTick, part: Option<&Arc<Part>>, left: &mut usize) -> bool {
        let start = self.buffer.len();
        let seq = self.first_seq + self.sent.len() as u64;
        write_packet_head(seq, tick, &mut self.buffer);
        let head = self.buffer.len() - start;
        let echo = self.echo.filter(|_| self.is_echo_due(now));
        if let Some((report, at)) = echo {
            write_echo(report, now.saturating_sub(at).as_millis().min(60_000) as u32, self.complete, &mut self.buffer);
        }
        let size = part.map_or(0, |part| part.body.len() + 1);
        let twice = self.repeat(PACKET_BYTES_MAX.saturating_sub(self.buffer.len() - start + size + 12));
        // Its head: a kind, a size and a place.
        let room = PACKET_BYTES_MAX.saturating_sub(self.buffer.len() - start + size + 12);
        let piece = if room >= PIECE_MIN && *left > 0 { self.stream.next_piece(room.min(*left)) } else { None };
        if let Some((offset, size)) = piece {
            write_ordered_head(offset, part.is_some().then_some(size), &mut self.buffer);
            self.stream.copy(offset, size, &mut self.buffer);
            *left -= size;
            let goes_on = self.once.1 > 0 && self.once.0 + self.once.1 as u64 == offset;
            self.once = match self.once {
                (first, before) if goes_on => (first, before + size),
                (_, 0) => (offset, size),
                _ => (0, usize::MAX / 2),
            };
        } else if part.is_none() && twice.is_none() && *left > 0 {
            // What there is to echo waits for the next packet.
            self.buffer.truncate(start);
            *left = 0;
            return false;
        }
        if part.is_some() {
            write_part_head(&mut self.buffer);
        }
        if echo.is_some() {
            (self.echo, self.echoed) = (None, now);
        }
        self.last_sent = now;
        let sent = Sent { at: now, tick, bytes: 0, piece, twice, part: part.cloned(), lacking: self.lacking, fate: Fate::Unknown };
        self.probed &= !sent.has_content();
        self.sent.push_back(sent);
        self.packets.push(Packet { own: (start, self.buffer.len()), head, padding: 0, shared: part.cloned() });
        true
    }

    /// True if a round put packets together that were not taken yet.
    pub(crate) fn has_packets(&self) -> bool {
        !self.packets.is_empty()
    }

    /// Hands over the packets of the round, each in the two pieces that it consists of.
    pub(crate) fn take(&mut self, mut send: impl FnMut(&[u8], &[u8])) {
        for packet in self.packets.drain(..) {
            packet.hand_over(&self.buffer, &mut self.padded, &mut send);
        }
        self.buffer.clear();
    }

    /// The round trip, and the rate in bytes a second.
    pub(crate) fn path(&self) -> (Duration, f64) {
        (self.path.rtt(), self.path.rate())
    }

    /// The round trip if it was measured, what share of packets gets lost, and the rate in bytes a second.
    pub(crate) fn path_measured(&self) -> (Option<Duration>, f32, f64) {
        (self.path.rtt_measured(), self.path.loss(), self.path.rate())
    }

    /// How many bytes wait to be sent, for the first time or again.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.stream.waiting_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_arrived_behind_a_lost_one_keep_nothing_back() {
        let now = Duration::from_secs(10);
        let mut delivery = Delivery::new(now, 2e6);
        for nth in 0..=UNKNOWN_MAX {
            let fate = if nth == 0 { Fate::Overtaken } else { Fate::Arrived };
            let (at, tick) = (now - Duration::from_millis(10), RoomTick(7));
            delivery.sent.push_back(Sent { at, tick, bytes: 9, piece: None, twice: None, part: None, lacking: tick, fate });
        }
        delivery.push(RoomTick(8), Bytes::from_static(b"\x06\x08"));
        delivery.round(now, RoomTick(8), None);
        assert!(delivery.has_packets());
    }
}
