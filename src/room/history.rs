//! What a member that was away has missed: the last batches as they went out, and in which tick everything changed last.
//!
//! Both are bounded: the batches by their bytes and their age, the ticks by what the room holds. So however long somebody was away, what
//! it missed follows from the tick that its replica is at.

use std::collections::VecDeque;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::clock::RoomClock;
use super::collect::Collector;
use super::index::{EntityIndex, SlotState};
use super::latest::LatestValues;
use super::snapshot::write_columns;
use crate::protocol::limits::{BATCH_MESSAGE_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::protocol::{
    CREATES, DELETES, DifferenceHead, NetId, Protocol, RoomTick, RosterWriter, Rows, UPDATES, batch_message, difference_messages, place,
    varint_size, write_net_ids, write_removals, write_updates, write_varint,
};

/// For how many ticks batches are kept: half a minute.
const KEPT_TICKS: u32 = 600;

/// How many bytes of batches are kept.
const KEPT_BYTES: usize = 256 * 1024;

/// What a room remembers of its past for those who come back.
#[derive(Resource, Debug, Default)]
pub(crate) struct History {
    /// By net id: the tick whose batch created the entity that has the number now.
    shown: Vec<u32>,
    /// By net id: the last tick whose batch deleted an entity with that number.
    ended: Vec<u32>,
    /// By component and net id: the last tick whose batch updated or removed the value. Those of `latest` components are kept with them.
    changed: Vec<Vec<u32>>,
    /// The last batches for everybody.
    batches: VecDeque<(RoomTick, Bytes)>,
    bytes: usize,
    /// All batches after this tick are there. `None` before the first tick.
    kept_after: Option<RoomTick>,
    /// What happened after this tick is known, and everybody was told the same.
    pub(super) known_after: RoomTick,
}

impl History {
    /// Takes note of who is created and deleted in a tick.
    pub(crate) fn begin(&mut self, tick: RoomTick, created: &[u32], deleted: impl Iterator<Item = u32>) {
        created.iter().for_each(|id| *place(&mut self.shown, *id as usize) = tick.0);
        deleted.for_each(|id| *place(&mut self.ended, id as usize) = tick.0);
    }

    /// Takes note of whose values of a component are told or removed in a tick.
    pub(crate) fn changed(&mut self, tick: RoomTick, component: usize, ids: impl Iterator<Item = u32>) {
        let mut ids = ids.peekable();
        if ids.peek().is_some() {
            let changed = place(&mut self.changed, component);
            ids.for_each(|id| *place(changed, id as usize) = tick.0);
        }
    }

    /// Keeps the batch of a tick. In a secretive room no batch is for everybody.
    pub(crate) fn keep(&mut self, tick: RoomTick, batch: Option<&Bytes>, secretive: bool) {
        if self.kept_after.is_none() || secretive {
            self.known_after = tick;
        }
        // The message has a byte more.
        let too_large = batch.is_some_and(|batch| batch.len() >= BATCH_MESSAGE_BYTES_MAX);
        if self.kept_after.is_none() || secretive || too_large {
            self.batches.clear();
            (self.bytes, self.kept_after) = (0, Some(tick));
            return;
        }
        if let Some(batch) = batch {
            self.bytes += batch.len();
            self.batches.push_back((tick, batch.clone()));
        }
        let (mut bytes, mut kept_after) = (self.bytes, self.kept_after);
        while let Some((old, batch)) = self.batches.pop_front_if(|(old, _)| bytes > KEPT_BYTES || tick.0 - old.0 > KEPT_TICKS) {
            bytes -= batch.len();
            kept_after = Some(old);
        }
        (self.bytes, self.kept_after) = (bytes, kept_after);
    }

    /// The batches after a tick, as messages, if all of them are there and take no more than `bytes_max` together.
    fn missed(&self, after: RoomTick, bytes_max: usize) -> Option<Vec<Bytes>> {
        self.kept_after.filter(|kept_after| after >= *kept_after)?;
        let missed = || self.batches.iter().filter(|(tick, _)| *tick > after).map(|(_, batch)| batch);
        let bytes: usize = missed().map(|batch| in_stream(batch.len() + 1)).sum();
        (bytes <= bytes_max).then(|| missed().map(batch_message).collect())
    }

    fn is_new(&self, id: u32, since: RoomTick) -> bool {
        self.shown.get(id as usize).is_some_and(|shown| *shown > since.0)
    }

    /// The net ids of which a component was told or removed after a tick.
    fn changed_since(&self, component: usize, since: RoomTick) -> impl Iterator<Item = u32> + '_ {
        let changed = self.changed.get(component).into_iter().flatten();
        (0..).zip(changed).filter(move |(_, changed)| **changed > since.0).map(|(id, _)| id)
    }
}

/// The bytes that a message of some size takes in the stream.
fn in_stream(size: usize) -> usize {
    varint_size(size as u64) + size
}

/// The bytes that messages take in the stream.
pub(crate) fn bytes_of(messages: &[Bytes]) -> usize {
    messages.iter().map(|message| in_stream(message.len())).sum()
}

/// The messages that bring a replica to the state of now, if they take no more than `bytes_max` together, or with the batches that it missed no
/// more than `replay_max`: `held` is the tick of the last
/// batch that it has, `latest` that as of which it has all values of `latest` components.
///
/// What it missed is told in order while the batches are there, facts and all; if not, or if that is more than a snapshot, one difference
/// says what has become of it. Both end with a difference, which brings the values of `latest` components.
///
/// # Panics
/// If a component can't be encoded.
pub(crate) fn catch_up(world: &mut World, held: RoomTick, latest: RoomTick, bytes_max: usize, replay_max: usize) -> Option<Vec<Bytes>> {
    let (tick, history) = (world.resource::<RoomClock>().tick, world.resource::<History>());
    if held > tick || held < history.known_after {
        return None;
    }
    let latest = latest.min(held);
    let replay_max = replay_max.max(bytes_max);
    if let Some(mut messages) = history.missed(held, replay_max) {
        let last = world.resource::<Collector>().last_ordered;
        messages.extend(difference_messages(&write_difference(world, last, (tick, latest))?));
        if bytes_of(&messages) <= replay_max {
            return Some(messages);
        }
    }
    Some(difference_messages(&write_difference(world, held, (held, latest))?)).filter(|messages| bytes_of(messages) <= bytes_max)
}

/// Encodes what differs from the state that a replica has of some ticks. `None` if that is more than any message may be.
fn write_difference(world: &mut World, from: RoomTick, since: (RoomTick, RoomTick)) -> Option<Bytes> {
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let (history, index) = (world.resource::<History>(), world.resource::<EntityIndex>());
    let ended = (0..).zip(&history.ended).filter(|(_, ended)| **ended > since.0.0);
    let ended: Vec<u32> = ended.map(|(id, _)| id).collect();
    let new = index.slots.iter().zip(0..).filter(|(slot, id)| slot.state == SlotState::Shown && history.is_new(*id, since.0));
    let (mut roster, mut creates, mut updates) = (RosterWriter::default(), Vec::new(), Vec::new());
    roster.write(new.map(|(slot, id)| (id, &slot.identity)), &mut creates);
    if !roster.ids.is_empty() {
        write_columns(world, &mut protocol, (&roster.ids, Some(&|_, _| true)), &mut creates);
    }
    let sections = write_changes(world, &protocol, since, &mut updates);
    *world.resource_mut::<Protocol>() = protocol;
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    let flags = flag(!ended.is_empty(), DELETES) | flag(!roster.ids.is_empty(), CREATES) | flag(sections > 0, UPDATES);
    let mut out = Vec::with_capacity(creates.len() + updates.len() + 2 * ended.len() + 16);
    DifferenceHead { tick: world.resource::<RoomClock>().tick, from, flags }.write(&mut out);
    if !ended.is_empty() {
        write_net_ids(ended.iter().copied(), &mut out);
    }
    if !roster.ids.is_empty() {
        out.extend_from_slice(&creates);
    }
    if sections > 0 {
        write_varint(sections, &mut out);
        out.extend_from_slice(&updates);
    }
    (out.len() <= SNAPSHOT_BYTES_MAX).then(|| Bytes::from(out))
}

/// Writes what became of the values of entities that the replica has. Returns how many sections that are.
fn write_changes(world: &World, protocol: &Protocol, (since, latest): (RoomTick, RoomTick), out: &mut Vec<u8>) -> u64 {
    let (history, index, values) = (world.resource::<History>(), world.resource::<EntityIndex>(), world.resource::<LatestValues>());
    let (mut rows, mut removed, mut sections) = (Rows::default(), Vec::new(), 0);
    for (component, entry) in protocol.components.iter().enumerate() {
        rows.clear();
        removed.clear();
        let mut take = |id: u32| {
            let slot = index.slot(NetId(id)).filter(|slot| slot.state == SlotState::Shown && !history.is_new(id, since));
            let Some(slot) = slot else { return };
            match entry.column.one(world, slot.entity, None, &mut rows.bytes) {
                Ok(Some(changed)) => rows.push(NetId(id), changed),
                Ok(None) => removed.push(id),
                Err(error) => panic!("the component {} can't be encoded: {error}", entry.name),
            }
        };
        match values.changed_of(component, latest) {
            Some(changed) => changed.for_each(&mut take),
            None => history.changed_since(component, since).for_each(&mut take),
        }
        if !rows.is_empty() {
            rows.sort();
            let picks: Vec<usize> = rows.sorted().collect();
            sections += write_updates(component, &rows, &picks, out, |_| {});
        }
        if !removed.is_empty() {
            write_removals(component, &removed, out);
            sections += 1;
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(history: &History, after: u32) -> Option<usize> {
        history.missed(RoomTick(after), usize::MAX).map(|messages| messages.len())
    }

    #[test]
    fn batches_are_kept_for_so_long_and_no_more_than_so_many_bytes() {
        let mut history = History::default();
        history.keep(RoomTick(0), Some(&Bytes::from_static(b"opening")), false);
        for tick in 1..=1_000 {
            history.keep(RoomTick(tick), Some(&Bytes::from_static(b"small")).filter(|_| tick % 2 == 0), false);
        }
        assert_eq!(kept(&history, 1_000), Some(0));
        assert_eq!(kept(&history, 998), Some(1));
        assert_eq!(kept(&history, 398), Some(301));
        assert_eq!(kept(&history, 397), None, "the batch of 398 is there, but not what was before it");
        assert_eq!(history.missed(RoomTick(990), 5 * 7).map(|messages| messages.len()), Some(5));
        assert_eq!(history.missed(RoomTick(990), 5 * 7 - 1), None, "more than a snapshot");
        for tick in 1_001..1_020 {
            history.keep(RoomTick(tick), Some(&Bytes::from(vec![0; KEPT_BYTES / 8])), false);
        }
        assert_eq!((kept(&history, 1_011), kept(&history, 1_010)), (Some(8), None));
        assert!(history.bytes <= KEPT_BYTES);
        history.keep(RoomTick(1_020), Some(&Bytes::from(vec![0; BATCH_MESSAGE_BYTES_MAX])), false);
        assert_eq!((kept(&history, 1_020), kept(&history, 1_019)), (Some(0), None), "nobody is sent such a batch");
    }

    #[test]
    fn what_happened_in_secret_is_not_told_to_those_who_come_back() {
        let mut history = History::default();
        for (tick, secretive) in [(7, false), (8, false), (9, true), (10, false)] {
            history.keep(RoomTick(tick), Some(&Bytes::from_static(b"batch")), secretive);
        }
        assert_eq!(history.known_after, RoomTick(9));
        assert_eq!((kept(&history, 8), kept(&history, 9)), (None, Some(1)));
    }
}
