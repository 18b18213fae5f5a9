//! The messages to one member as a stream of bytes: what is queued, what is on the way, and what must go again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::protocol::{DIFFERENCE, PRIVATE_MESSAGE, RoomTick, STREAM_WINDOW_BYTES, varint_size, write_varint};

/// The first byte of the messages that a snapshot makes superfluous: chunks, differences and batches.
const SUPERSEDED: [u8; 4] = [3, DIFFERENCE, BATCH, PRIVATE_MESSAGE];

/// The first byte of a batch.
const BATCH: u8 = 4;

/// What a message that waits costs besides its bytes.
const MESSAGE_COST: usize = 64;

/// With no more than this before it, a snapshot goes out without delay.
const SOON_BYTES: u64 = 8 << 10;

/// A message of which something was sent.
#[derive(Debug)]
struct Segment {
    start: u64,
    message: Bytes,
}

impl Segment {
    fn head(&self) -> u64 {
        head_of(&self.message)
    }

    fn end(&self) -> u64 {
        self.start + self.head() + self.message.len() as u64
    }
}

/// What is queued, in sums.
#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    bytes: usize,
    /// The sizes of the messages, as they go out before them.
    heads: u64,
    /// How many messages a snapshot would make superfluous.
    superseded: usize,
    /// What the others cost.
    lasting: usize,
}

impl Queued {
    fn add(&mut self, message: &Bytes) {
        self.bytes += message.len();
        self.heads += head_of(message);
        match is_superseded(message) {
            true => self.superseded += 1,
            false => self.lasting += message.len() + MESSAGE_COST,
        }
    }

    fn remove(&mut self, message: &Bytes) {
        self.bytes -= message.len();
        self.heads -= head_of(message);
        match is_superseded(message) {
            true => self.superseded -= 1,
            false => self.lasting -= message.len() + MESSAGE_COST,
        }
    }
}

fn is_superseded(message: &Bytes) -> bool {
    message.first().is_some_and(|kind| SUPERSEDED.contains(kind))
}

/// How many bytes tell the size of a message.
fn head_of(message: &Bytes) -> u64 {
    varint_size(message.len() as u64) as u64
}

/// The sending end of a stream of messages.
#[derive(Debug, Default)]
pub(crate) struct OutStream {
    /// What has not begun to go out.
    queue: VecDeque<Bytes>,
    queued: Queued,
    started: VecDeque<Segment>,
    /// Everything before it is there.
    there: u64,
    /// Pieces beyond it that are there: begin and end.
    islands: BTreeMap<u64, u64>,
    /// Where the first byte stands that never went out.
    next: u64,
    /// What must go again: begin and end, in order.
    again: VecDeque<(u64, u64)>,
    /// The batches that are not there yet: their ticks, and where they end.
    batches: VecDeque<(RoomTick, u64)>,
}

impl OutStream {
    /// Queues a message of a tick.
    pub(crate) fn push(&mut self, tick: RoomTick, message: Bytes) {
        self.queued.add(&message);
        let is_batch = matches!(message.first(), Some(&(BATCH | PRIVATE_MESSAGE)));
        self.queue.push_back(message);
        if is_batch {
            let end = self.end();
            self.batches.push_back((tick, end));
        }
    }

    /// Where the stream ends, if all that is queued goes out.
    pub(crate) fn end(&self) -> u64 {
        self.begun() + self.queued.heads + self.queued.bytes as u64
    }

    fn begun(&self) -> u64 {
        self.started.back().map_or(self.next, Segment::end)
    }

    /// How many bytes have not begun to go out.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.bytes
    }

    /// What the queued messages cost that no snapshot makes superfluous.
    pub(crate) fn lasting_bytes(&self) -> usize {
        self.queued.lasting
    }

    /// True if a snapshot that is queued now goes out soon: nothing waits that it would make superfluous, and of the rest little. Who is told
    /// something every tick, the verdicts on its commands, has never nothing waiting.
    pub(crate) fn takes_snapshot(&self) -> bool {
        self.queued.superseded == 0 && self.end() - self.next <= SOON_BYTES
    }

    /// True if the other end is known to have everything.
    pub(crate) fn is_there(&self) -> bool {
        self.there == self.end()
    }

    /// Everything before this place is there.
    pub(crate) fn there(&self) -> u64 {
        self.there
    }

    /// The tick of the oldest batch that is not known to be there.
    pub(crate) fn oldest_batch(&self) -> Option<RoomTick> {
        self.batches.front().map(|(tick, _)| *tick)
    }

    /// Drops what a snapshot will supersede, unless it has begun to go out.
    pub(crate) fn drop_superseded(&mut self) {
        if self.queued.superseded == 0 {
            return;
        }
        let queued = &mut self.queued;
        self.queue.retain(|message| {
            let goes = is_superseded(message);
            if goes {
                queued.remove(message);
            }
            !goes
        });
        let begun = self.begun();
        self.batches.retain(|(_, end)| *end <= begun);
    }

    /// How many bytes wait to be sent, for the first time or again.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let again: u64 = self.again.iter().map(|(start, end)| end - start).sum();
        let new = (self.end() - self.next).min((self.there + STREAM_WINDOW_BYTES).saturating_sub(self.next));
        (again + new) as usize
    }

    /// The next piece to send, of at most `max` bytes: where it begins, and its size.
    pub(crate) fn next_piece(&mut self, max: usize) -> Option<(u64, usize)> {
        while let Some((start, end)) = self.again.pop_front() {
            let start = self.missing_from(start);
            if start >= end {
                continue;
            }
            let island = self.islands.range(start..end).next().map(|(begin, _)| *begin);
            let stop = island.unwrap_or(end).min(start + max as u64);
            if stop < end {
                self.again.push_front((stop, end));
            }
            return (stop > start).then_some((start, (stop - start) as usize));
        }
        let window = (self.there + STREAM_WINDOW_BYTES).saturating_sub(self.next);
        let most = (max as u64).min(window);
        while self.begun() < self.next + most {
            let Some(message) = self.queue.pop_front() else { break };
            self.queued.remove(&message);
            self.started.push_back(Segment { start: self.begun(), message });
        }
        let size = most.min(self.begun() - self.next);
        let start = self.next;
        self.next += size;
        (size > 0).then_some((start, size as usize))
    }

    /// The first byte from a place on that is not there.
    fn missing_from(&self, place: u64) -> u64 {
        let place = place.max(self.there);
        let island = self.islands.range(..=place).next_back();
        island.map_or(place, |(_, end)| place.max(*end))
    }

    /// Appends a piece.
    pub(crate) fn copy(&self, mut start: u64, size: usize, out: &mut Vec<u8>) {
        let end = start + size as u64;
        let first = self.started.partition_point(|segment| segment.end() <= start);
        for segment in self.started.iter().skip(first) {
            if start >= end {
                return;
            }
            let head = segment.head();
            if start < segment.start + head {
                let mut bytes = Vec::with_capacity(4);
                write_varint(segment.message.len() as u64, &mut bytes);
                let (from, to) = (start - segment.start, (end - segment.start).min(head));
                out.extend_from_slice(bytes.get(from as usize..to as usize).unwrap_or_default());
                start = segment.start + to;
            }
            let begin = segment.start + head;
            let to = end.min(segment.end());
            if start < to {
                out.extend_from_slice(segment.message.get((start - begin) as usize..(to - begin) as usize).unwrap_or_default());
                start = to;
            }
        }
    }

    /// A piece is there.
    pub(crate) fn arrived(&mut self, start: u64, size: usize) {
        let (mut start, mut end) = (start, start + size as u64);
        if end <= self.there {
            return;
        }
        // One island out of all that it touches.
        while let Some((begin, stop)) = self.islands.range(..=end).next_back().map(|(begin, stop)| (*begin, *stop)) {
            if stop < start {
                break;
            }
            self.islands.remove(&begin);
            (start, end) = (start.min(begin), end.max(stop));
        }
        if start > self.there {
            self.islands.insert(start, end);
            return;
        }
        self.there = end;
        while self.started.front().is_some_and(|segment| segment.end() <= end) {
            self.started.pop_front();
        }
        while self.batches.front().is_some_and(|(_, stop)| *stop <= end) {
            self.batches.pop_front();
        }
    }

    /// A piece was lost.
    pub(crate) fn lost(&mut self, start: u64, size: usize) {
        let (start, end) = (self.missing_from(start), start + size as u64);
        if start < end {
            // The first that is missing goes first: all that came behind it waits for it.
            let at = self.again.partition_point(|(begin, _)| *begin < start);
            self.again.insert(at, (start, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Send(usize),
        Arrive(prop::sample::Index),
        Lose(prop::sample::Index),
        Drop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..3_000_usize).prop_map(Step::Push),
            (1..1_200_usize).prop_map(Step::Send),
            any::<prop::sample::Index>().prop_map(Step::Arrive),
            any::<prop::sample::Index>().prop_map(Step::Lose),
            Just(Step::Drop),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_lost_the_stream_arrives_whole(steps in prop::collection::vec(step(), 1..120)) {
            let (mut stream, mut way, mut got) = (OutStream::default(), Vec::new(), BTreeMap::new());
            let mut count = 0_u8;
            let send = |stream: &mut OutStream, way: &mut Vec<(u64, usize)>, max| {
                let Some((start, size)) = stream.next_piece(max) else { return false };
                assert!(size <= max && size > 0);
                way.push((start, size));
                true
            };
            let arrive = |stream: &mut OutStream, (start, size): (u64, usize), got: &mut BTreeMap<u64, u8>| {
                let mut bytes = Vec::new();
                stream.copy(start, size, &mut bytes);
                // What arrived already may be forgotten at the sender.
                if bytes.len() == size {
                    (start..).zip(bytes).for_each(|(at, byte)| { got.insert(at, byte); });
                }
                stream.arrived(start, size);
            };
            for step in steps {
                let queue = &stream.queue;
                assert_eq!(stream.queued.bytes, queue.iter().map(Bytes::len).sum::<usize>());
                assert_eq!(stream.queued.heads, queue.iter().map(head_of).sum::<u64>());
                assert_eq!(stream.queued.superseded, queue.iter().filter(|message| is_superseded(message)).count());
                let lasting = queue.iter().filter(|message| !is_superseded(message));
                assert_eq!(stream.lasting_bytes(), lasting.map(|message| message.len() + MESSAGE_COST).sum::<usize>());
                match step {
                    Step::Push(size) => {
                        count = count.wrapping_add(1);
                        stream.push(RoomTick(u32::from(count)), Bytes::from(vec![if count.is_multiple_of(2) { 4 } else { 5 }; size]));
                    }
                    Step::Send(max) => { send(&mut stream, &mut way, max); }
                    Step::Arrive(index) if !way.is_empty() => {
                        let piece = way.remove(index.index(way.len()));
                        arrive(&mut stream, piece, &mut got);
                    }
                    Step::Lose(index) if !way.is_empty() => {
                        let (start, size) = way.remove(index.index(way.len()));
                        stream.lost(start, size);
                    }
                    Step::Drop => stream.drop_superseded(),
                    _ => {}
                }
            }
            for _ in 0..10_000 {
                let more = send(&mut stream, &mut way, 1_000);
                if let Some(piece) = way.pop() { arrive(&mut stream, piece, &mut got); }
                if !more && way.is_empty() { break; }
            }
            prop_assert!(stream.is_there() && stream.waiting_bytes() == 0);
            prop_assert_eq!(stream.oldest_batch(), None);
            prop_assert_eq!(got.len() as u64, stream.there());
            let bytes: Vec<u8> = got.into_values().collect();
            let mut reader = crate::protocol::Reader::new(&bytes);
            while !reader.rest().is_empty() {
                let size = reader.varint().unwrap() as usize;
                let message = reader.bytes(size).unwrap();
                prop_assert!(message.iter().all(|byte| byte == message.first().unwrap()));
            }
        }
    }
}
