//! What comes in: packets in whatever order, some twice, some never. Messages come out in order, parts as they come, and reports go
//! back of what is here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::clock::ServerClock;
use crate::protocol::limits::SNAPSHOT_BYTES_MAX;
use crate::protocol::{
    CodecError, Frame, REPORT_BITS_BYTES_MAX, Reader, Report, RoomTick, STREAM_MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, Speed, read_packet,
    unwrap_seq, varint_size,
};

/// How often a client reports, a little less than a tick, so that a loop of 50 ms reports in each round.
const REPORT_EVERY: Duration = Duration::from_millis(45);

/// How often it reports while all goes well and there is little of it: taking in a report costs a host as much as sending a packet.
const REPORT_CALM_EVERY: Duration = Duration::from_millis(95);

/// Most packets between two reports of which that is so.
const CALM_PACKETS: u64 = 8;

/// How often it reports while packets are missing: the sooner the host hears, the sooner it repairs.
const REPORT_GAP_EVERY: Duration = Duration::from_millis(9);

/// In how many reports each packet stands, so that two lost reports lose nothing.
const REPEATS: usize = 3;

/// How many packets before the newest are remembered.
const REMEMBERED: u64 = REPORT_BITS_BYTES_MAX as u64 * 8;

/// Of how many packets the share that was lost is told, and how many of the newest may still be on their way.
const LOSS_PACKETS: usize = 256;
const LOSS_SKIPPED: usize = 4;

/// Most parts that wait for the batches that they need. A host that is behind with its batches leaves a quarter of what goes out to parts: at 2 MiB/s some 22
/// in each of at most 200 ticks, after which it sends none. Each keeps the packet that it came in.
const WAITING_PARTS_MAX: usize = 8_192;

/// Most pieces of the stream that are kept behind one that is missing: a host that waits for it sends a few in each of at most 200 ticks.
/// Each keeps the packet that it came in.
const PIECES_AHEAD_MAX: usize = 8_192;

/// What came out of packets, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A message, as [`ServerMessage`](crate::protocol::ServerMessage) decodes it.
    Message(Bytes),
    /// Values of `latest` components as of a tick.
    Part(RoomTick, Bytes),
    /// All values of `latest` components as of that tick were in packets that came before.
    Complete(RoomTick),
}

/// Where packets were missing when the one after them came, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    /// Since here none is.
    pub(crate) whole_since: u32,
    /// From where to where none was before.
    pub(crate) before: (u32, u32),
}

/// The receiving end of a host's packets.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    newest: Option<u64>,
    newest_at: Duration,
    /// For each packet before the newest, and for itself: 1 if it came. The bit 0 of the first word is the newest.
    came: VecDeque<bool>,
    stream: Stream,
    /// Parts that came before the batches which they need.
    waiting: VecDeque<(RoomTick, Bytes)>,
    /// The newest tick of parts that were too many to wait.
    given_up: Option<RoomTick>,
    report_seq: u16,
    /// What was the newest packet in the last reports.
    reported: VecDeque<u64>,
    reported_at: Option<Duration>,
    /// When the last reports went out, to measure the round trip by their echoes.
    reports_sent: VecDeque<(u16, Duration)>,
    unreported: bool,
    gap: bool,
    heard: RoomTick,
    gaps: Gaps,
    clock: ServerClock,
    packets: u64,
    bytes: u64,
}

impl Inflow {
    /// Takes a packet that arrived.
    ///
    /// # Errors
    /// If it is malformed. Nothing of it was taken.
    pub(crate) fn take(&mut self, now: Duration, packet: &Bytes, out: &mut VecDeque<Arrival>) -> Result<(), CodecError> {
        let (seq, tick, frames) = read_packet(packet)?;
        let seq = unwrap_seq(seq, self.newest.unwrap_or_else(|| u64::from(seq)));
        self.unreported = true;
        if self.is_known(seq) {
            return Ok(());
        }
        // All or nothing: what is reported as here is here.
        for frame in &frames {
            if let Frame::Ordered { offset, bytes } = frame {
                self.stream.check(*offset, bytes.len())?;
            }
        }
        if self.newest.is_none_or(|newest| seq > newest + 1) {
            let (before, until) = (self.gaps.whole_since, self.heard.0);
            self.gaps = Gaps { whole_since: self.heard.max(tick).0, before: (before, until) };
        }
        self.note(seq, now);
        (self.packets, self.bytes) = (self.packets + 1, self.bytes + packet.len() as u64);
        self.heard = self.heard.max(tick);
        self.clock.tick_came(now, tick);
        for frame in frames {
            match frame {
                Frame::Ordered { offset, bytes } => self.stream.put(offset, bytes),
                Frame::Part(body) => out.push_back(Arrival::Part(tick, body)),
                Frame::Echo { seq, hold_millis, complete } => {
                    self.echo(now, seq, hold_millis);
                    out.push_back(Arrival::Complete(complete));
                }
            }
        }
        while let Some(message) = self.stream.next_message()? {
            out.push_back(Arrival::Message(message));
        }
        Ok(())
    }

    /// True if a packet came before, or is so old that it is not known whether it did.
    pub(crate) fn is_known(&self, seq: u64) -> bool {
        let Some(newest) = self.newest else { return false };
        match newest.checked_sub(seq) {
            None => false,
            Some(back) if back >= REMEMBERED => true,
            Some(back) => self.came.get(back as usize).copied().unwrap_or(false),
        }
    }

    /// How many of the newest packets, so many, did not come, or not yet.
    pub(crate) fn missing(&self) -> (usize, usize) {
        (self.came.iter().filter(|came| !**came).count(), self.came.len())
    }

    fn note(&mut self, seq: u64, now: Duration) {
        let ahead = self.newest.map_or(1, |newest| seq.saturating_sub(newest));
        if ahead > 0 {
            self.gap |= ahead > 1;
            for _ in 1..ahead.min(REMEMBERED) {
                self.came.push_front(false);
            }
            self.came.push_front(true);
            self.came.truncate(REMEMBERED as usize);
            (self.newest, self.newest_at) = (Some(seq), now);
            return;
        }
        let back = self.newest.unwrap_or(seq) - seq;
        if back as usize >= self.came.len() {
            self.came.resize(back as usize + 1, false);
        }
        self.came.get_mut(back as usize).into_iter().for_each(|came| *came = true);
    }

    fn echo(&mut self, now: Duration, seq: u16, hold_millis: u32) {
        if let Some((_, sent)) = self.reports_sent.iter().find(|(report, _)| *report == seq) {
            let trip = now.saturating_sub(*sent).saturating_sub(Duration::from_millis(u64::from(hold_millis)));
            self.clock.round_trip(trip);
        }
    }

    /// The report that is due, if one is. It goes out as a packet of its own.
    pub(crate) fn report(&mut self, now: Duration) -> Option<Bytes> {
        let newest = self.newest.filter(|_| self.unreported)?;
        let every = match self.gap {
            true => REPORT_GAP_EVERY,
            false if self.is_calm(newest) => REPORT_CALM_EVERY,
            false => REPORT_EVERY,
        };
        if self.reported_at.is_some_and(|at| now < at + every) {
            return None;
        }
        let oldest = if self.reported.len() < REPEATS { 0 } else { self.reported.front().copied().unwrap_or_default() };
        self.reported.push_back(newest);
        if self.reported.len() > REPEATS {
            self.reported.pop_front();
        }
        let span = (newest - oldest.min(newest)).min(self.came.len() as u64 - 1) as usize;
        let mut bits = vec![0_u8; span.div_ceil(8)];
        for (at, _) in self.came.iter().skip(1).take(span).enumerate().filter(|(_, came)| **came) {
            bits.get_mut(at / 8).into_iter().for_each(|byte| *byte |= 1 << (at % 8));
        }
        (self.unreported, self.gap, self.reported_at) = (false, false, Some(now));
        self.report_seq = self.report_seq.wrapping_add(1);
        self.reports_sent.push_back((self.report_seq, now));
        if self.reports_sent.len() > 64 {
            self.reports_sent.pop_front();
        }
        let hold_millis = now.saturating_sub(self.newest_at).as_millis().min(60_000) as u32;
        Some(Report { seq: self.report_seq, newest: newest as u16, hold_millis, bits }.encode())
    }

    /// True if few packets came since the last report, and none is missing of those that the next one tells of.
    fn is_calm(&self, newest: u64) -> bool {
        let since = |reported: Option<&u64>| reported.map_or(REMEMBERED, |reported| newest.saturating_sub(*reported));
        let (last, told) = (since(self.reported.back()), since(self.reported.front()));
        last <= CALM_PACKETS && self.came.iter().take(told as usize).all(|came| *came)
    }

    /// Lets a part wait for the batch that it needs.
    ///
    /// # Errors
    /// If too many wait; it does not then.
    pub(crate) fn wait(&mut self, tick: RoomTick, body: Bytes) -> Result<(), CodecError> {
        if self.waiting.len() >= WAITING_PARTS_MAX {
            let (value, max) = (self.waiting.len() as u64 + 1, WAITING_PARTS_MAX as u64);
            return Err(CodecError::TooLarge { what: "parts that wait for a batch", value, max, at: 0 });
        }
        self.waiting.push_back((tick, body));
        Ok(())
    }

    /// The parts that waited, to be tried again.
    pub(crate) fn waited(&mut self) -> VecDeque<(RoomTick, Bytes)> {
        std::mem::take(&mut self.waiting)
    }

    /// Lets go of all parts that wait, and of one as of that tick. Gives the newest tick of all that were let go of: what is [filled](Self::filled) as of that
    /// one lacks none of them.
    pub(crate) fn give_up(&mut self, tick: RoomTick) -> RoomTick {
        let before = self.given_up.into_iter();
        let newest = self.waiting.drain(..).map(|(tick, _)| tick).chain(before).fold(tick, RoomTick::max);
        self.given_up = Some(newest);
        newest
    }

    /// All values as of a tick are here. Gives the newest tick of those that are still missing, because they were too many to wait.
    pub(crate) fn filled(&mut self, tick: RoomTick) -> Option<RoomTick> {
        self.given_up = self.given_up.filter(|newest| *newest > tick);
        self.given_up
    }

    /// True if values are missing because they were too many to wait.
    pub(crate) fn gave_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// True if values came that are not in the replica yet.
    pub(crate) fn lacks_parts(&self) -> bool {
        !self.waiting.is_empty() || self.gave_up()
    }

    /// The newest tick that a packet told of.
    pub(crate) fn heard(&self) -> RoomTick {
        self.heard
    }

    /// Where packets are missing.
    pub(crate) fn gaps(&self) -> Gaps {
        self.gaps
    }

    /// The share of the last packets that did not come; those that may still be on their way are not counted.
    pub(crate) fn loss(&self) -> f64 {
        let settled = || self.came.iter().skip(LOSS_SKIPPED).take(LOSS_PACKETS);
        let missing = settled().filter(|came| !**came).count();
        missing as f64 / settled().count().max(LOSS_PACKETS / 4) as f64
    }

    /// What is known of the server's time.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Takes note that the room goes so fast from now on.
    pub(crate) fn set_speed(&mut self, now: Duration, speed: Speed) {
        self.clock.set_speed(now, speed);
    }

    /// How many packets came, and their bytes.
    pub(crate) fn received(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }
}

/// Batches, and what is for this client alone, that wait for a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    messages: Vec<(Bytes, bool)>,
    bytes: usize,
}

impl Waiting {
    /// Keeps a message. True for what is for this client alone.
    ///
    /// # Errors
    /// If too much waits.
    pub(crate) fn push(&mut self, message: Bytes, private: bool) -> Result<(), CodecError> {
        // An empty one takes room too.
        self.bytes += message.len() + size_of::<(Bytes, bool)>();
        if self.bytes > SNAPSHOT_BYTES_MAX {
            let (value, max) = (self.bytes as u64, SNAPSHOT_BYTES_MAX as u64);
            return Err(CodecError::TooLarge { what: "what waits for the snapshot", value, max, at: 0 });
        }
        self.messages.push((message, private));
        Ok(())
    }

    /// All that waits, in the order in which it came; nothing does then.
    pub(crate) fn take(&mut self) -> Vec<(Bytes, bool)> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// Puts a stream of messages together.
#[derive(Debug, Default)]
struct Stream {
    /// Where the first byte stands that is missing.
    next: u64,
    ready: BytesMut,
    /// Pieces beyond it.
    ahead: BTreeMap<u64, Bytes>,
}

impl Stream {
    /// # Errors
    /// If a piece lies beyond the window.
    fn check(&self, offset: u64, size: usize) -> Result<(), CodecError> {
        let (value, max) = (offset.saturating_add(size as u64), self.next + STREAM_WINDOW_BYTES);
        if value > max {
            return Err(CodecError::TooLarge { what: "place in the stream", value, max, at: 0 });
        }
        if self.ahead.len() >= PIECES_AHEAD_MAX && offset > self.next {
            let (value, max) = (self.ahead.len() as u64 + 1, PIECES_AHEAD_MAX as u64);
            return Err(CodecError::TooLarge { what: "pieces behind a missing one", value, max, at: 0 });
        }
        Ok(())
    }

    fn put(&mut self, offset: u64, mut bytes: Bytes) {
        let behind = self.next.saturating_sub(offset);
        if behind >= bytes.len() as u64 {
            return;
        }
        bytes.advance(behind as usize);
        let offset = offset + behind;
        if offset > self.next {
            // Pieces may overlap, as a repair is cut anew; of two that begin at the same place the longer one counts.
            let place = self.ahead.entry(offset).or_default();
            if bytes.len() > place.len() {
                *place = bytes;
            }
            return;
        }
        self.append(bytes);
        while let Some(entry) = self.ahead.first_entry().filter(|entry| *entry.key() <= self.next) {
            let (offset, mut bytes) = entry.remove_entry();
            let behind = self.next - offset;
            if behind < bytes.len() as u64 {
                bytes.advance(behind as usize);
                self.append(bytes);
            }
        }
    }

    fn append(&mut self, bytes: Bytes) {
        self.next += bytes.len() as u64;
        self.ready.extend_from_slice(&bytes);
    }

    /// # Errors
    /// If the next message is too large.
    fn next_message(&mut self) -> Result<Option<Bytes>, CodecError> {
        let mut reader = Reader::new(&self.ready);
        // What is there of the size may not be whole.
        let Ok(size) = reader.varint() else { return Ok(None) };
        if size > STREAM_MESSAGE_BYTES_MAX as u64 {
            return Err(CodecError::TooLarge { what: "message", value: size, max: STREAM_MESSAGE_BYTES_MAX as u64, at: 0 });
        }
        let head = varint_size(size);
        if ((self.ready.len() - head) as u64) < size {
            return Ok(None);
        }
        self.ready.advance(head);
        Ok(Some(self.ready.split_to(size as usize).freeze()))
    }
}

/// A client's end of a host's packets without a replica: for loads, and for tests of what a host says.
///
/// ```
/// use std::time::Duration;
/// use roomkeeper::client::Receiver;
/// let mut receiver = Receiver::default();
/// // A packet: its kind, its number, its tick, and no frames.
/// let messages = receiver.take(Duration::ZERO, &b"\x10\x07\x00\x2a"[..].into())?;
/// assert!(messages.is_empty());
/// assert!(receiver.next_report(Duration::from_millis(50)).is_some());
/// # Ok::<(), roomkeeper::protocol::CodecError>(())
/// ```
#[derive(Debug, Default)]
pub struct Receiver {
    inflow: Inflow,
    arrivals: VecDeque<Arrival>,
    parts: u64,
}

impl Receiver {
    /// Takes a packet that arrived at a time, by a clock that never goes back. Gives the messages that are whole now, in order.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn take(&mut self, now: Duration, packet: &Bytes) -> Result<Vec<Bytes>, CodecError> {
        self.inflow.take(now, packet, &mut self.arrivals)?;
        let mut messages = Vec::new();
        for arrival in self.arrivals.drain(..) {
            match arrival {
                Arrival::Message(message) => messages.push(message),
                Arrival::Part(..) => self.parts += 1,
                Arrival::Complete(_) => {}
            }
        }
        Ok(messages)
    }

    /// The report that is due, if one is: to be sent as a packet of its own.
    pub fn next_report(&mut self, now: Duration) -> Option<Bytes> {
        self.inflow.report(now)
    }

    /// How many packets came, how many bytes they were, and how many of them carried values of `latest` components.
    pub fn received(&self) -> (u64, u64, u64) {
        let (packets, bytes) = self.inflow.received();
        (packets, bytes, self.parts)
    }

    /// What is known of the server's time, and of the round trip.
    pub fn server_clock(&self) -> &ServerClock {
        self.inflow.clock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{write_ordered_head, write_packet_head, write_varint};
    use proptest::prelude::*;

    /// The packets of a stream of messages, cut at some places, some of them twice.
    fn packets(messages: &[Vec<u8>], cuts: &[usize]) -> Vec<Bytes> {
        let mut stream = Vec::new();
        for message in messages {
            write_varint(message.len() as u64, &mut stream);
            stream.extend_from_slice(message);
        }
        let mut edges: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([0, stream.len()]).collect();
        edges.sort_unstable();
        edges
            .windows(2)
            .enumerate()
            .map(|(seq, edge)| {
                let mut out = Vec::new();
                write_packet_head(65_000 + seq as u64, RoomTick(seq as u32), &mut out);
                write_ordered_head(edge[0] as u64, None, &mut out);
                // A repair may reach over what follows.
                let end = (edge[1] + seq % 3).min(stream.len());
                out.extend_from_slice(&stream[edge[0]..end]);
                Bytes::from(out)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_once_and_in_order(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..20),
            cuts in prop::collection::vec(any::<usize>(), 0..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut packets = packets(&messages, &cuts);
            let first = packets[0].clone();
            for index in &order {
                let (from, packet) = (index.index(packets.len()), index.get(&packets).clone());
                // Later than it should, or twice.
                if from % 2 == 0 { packets.remove(from); }
                packets.push(packet);
            }
            packets.insert(0, first);
            let (mut inflow, mut out) = (Inflow::default(), VecDeque::new());
            for packet in &packets {
                inflow.take(Duration::ZERO, packet, &mut out).unwrap();
            }
            let wanted: VecDeque<Arrival> = messages.into_iter().map(|message| Arrival::Message(message.into())).collect();
            prop_assert_eq!(out, wanted);
        }

        #[test]
        fn three_reports_tell_of_every_packet_that_came(came in prop::collection::vec((any::<bool>(), 0..4_u8), 1..60)) {
            let mut inflow = Inflow::default();
            let (mut told, mut now) = (BTreeMap::<u64, usize>::new(), Duration::ZERO);
            let send = |seq: u64| {
                let mut out = Vec::new();
                write_packet_head(seq, RoomTick(1), &mut out);
                Bytes::from(out)
            };
            let mut arrived = vec![0];
            inflow.take(now, &send(0), &mut VecDeque::new()).unwrap();
            let mut report = |inflow: &mut Inflow, now: Duration| {
                let Some(report) = inflow.report(now) else { return };
                let report = Report::decode(&report).unwrap();
                let newest = unwrap_seq(report.newest, 0);
                for back in (0..=newest).filter(|back| report.has(*back)) {
                    *told.entry(newest - back).or_default() += 1;
                }
            };
            for (seq, (comes, reports)) in (1..).zip(&came) {
                if *comes {
                    inflow.take(now, &send(seq), &mut VecDeque::new()).unwrap();
                    arrived.push(seq);
                }
                if *reports == 0 {
                    now += REPORT_EVERY;
                    report(&mut inflow, now);
                }
            }
            for seq in 100..103 {
                now += REPORT_CALM_EVERY;
                inflow.take(now, &send(seq), &mut VecDeque::new()).unwrap();
                report(&mut inflow, now);
            }
            for seq in &arrived {
                prop_assert!(told.get(seq).is_some_and(|times| *times >= REPEATS), "{seq}: {told:?}");
            }
            prop_assert!(told.keys().all(|seq| arrived.contains(seq) || *seq >= 100));
        }
    }

    #[test]
    fn what_lies_beyond_the_window_is_refused_and_not_reported() {
        let mut out = Vec::new();
        write_packet_head(3, RoomTick(1), &mut out);
        write_ordered_head(STREAM_WINDOW_BYTES, None, &mut out);
        out.push(1);
        let mut inflow = Inflow::default();
        let refused = inflow.take(Duration::ZERO, &out.into(), &mut VecDeque::new());
        assert!(refused.unwrap_err().to_string().contains("place in the stream"));
        assert!(!inflow.is_known(3));
        assert_eq!(inflow.report(Duration::from_secs(1)), None);
    }

    #[test]
    fn a_host_that_never_sends_the_first_byte_is_refused_before_its_pieces_fill_the_memory() {
        let (mut inflow, mut out) = (Inflow::default(), VecDeque::new());
        let mut piece = |seq: u64| {
            let mut packet = Vec::new();
            write_packet_head(seq, RoomTick(1), &mut packet);
            write_ordered_head(1 + seq * 2, None, &mut packet);
            packet.push(1);
            inflow.take(Duration::ZERO, &packet.into(), &mut out)
        };
        assert!((0..PIECES_AHEAD_MAX as u64).all(|seq| piece(seq).is_ok()));
        let refused = piece(PIECES_AHEAD_MAX as u64).unwrap_err();
        assert!(refused.to_string().contains("pieces behind a missing one"), "{refused}");
    }

    #[test]
    fn reports_are_remembered_for_so_long_only_and_their_numbers_may_come_again() {
        let (mut inflow, mut now) = (Inflow::default(), Duration::ZERO);
        for seq in 0..70_000_u64 {
            now += REPORT_CALM_EVERY;
            let mut packet = Vec::new();
            write_packet_head(seq, RoomTick(1), &mut packet);
            inflow.take(now, &packet.into(), &mut VecDeque::new()).unwrap();
            assert!(inflow.report(now).is_some(), "{seq}");
        }
        assert_eq!(inflow.reports_sent.len(), 64);
        let (newest, sent) = *inflow.reports_sent.back().unwrap();
        // 70,000 less 65,536.
        assert_eq!((newest, sent), (4_464, now));
        inflow.echo(sent + Duration::from_millis(40), newest, 15);
        assert_eq!(inflow.clock.rtt(), Some(Duration::from_millis(25)));
    }

    #[test]
    fn parts_that_are_too_many_to_wait_are_missing_until_all_is_there_as_of_the_newest_of_them() {
        let mut inflow = Inflow::default();
        let newest = WAITING_PARTS_MAX as u32;
        assert!((1..=newest).all(|tick| inflow.wait(RoomTick(tick), Bytes::new()).is_ok()));
        let refused = inflow.wait(RoomTick(5), Bytes::new()).unwrap_err();
        assert!(refused.to_string().contains("parts that wait for a batch"), "{refused}");
        assert_eq!(inflow.give_up(RoomTick(5)), RoomTick(newest));
        assert!(inflow.waiting.is_empty() && inflow.lacks_parts());
        assert_eq!(inflow.give_up(RoomTick(7)), RoomTick(newest), "also of those before");
        assert_eq!(inflow.filled(RoomTick(newest - 1)), Some(RoomTick(newest)));
        assert_eq!(inflow.filled(RoomTick(newest)), None);
        assert!(!inflow.lacks_parts());
    }

    #[test]
    fn what_waits_for_a_snapshot_is_bounded_and_empty_messages_count_too() {
        let mut waiting = Waiting::default();
        waiting.push(Bytes::new(), false).unwrap();
        assert!(waiting.bytes > 0);
        let message = Bytes::from(vec![0; SNAPSHOT_BYTES_MAX / 4]);
        assert!((0..3).all(|_| waiting.push(message.clone(), true).is_ok()));
        assert!(waiting.push(message, true).is_err());
        assert_eq!(waiting.take().len(), 4);
        assert_eq!(waiting.bytes, 0);
    }
}
