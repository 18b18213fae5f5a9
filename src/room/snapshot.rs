//! The whole replicated state of a room, encoded.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::clock::RoomClock;
use super::index::{EntityIndex, SlotState};
use super::ledger::Ledger;
use crate::protocol::limits::SNAPSHOT_BYTES_MAX;
use crate::protocol::{Protocol, RosterWriter, Rows, SnapshotHead, write_column, write_varint};

/// Who may know of an entity, or of one of its components.
pub(super) type MayHave<'a> = &'a dyn Fn(u32, Option<usize>) -> bool;

/// Encodes the state as of the last batch, or what of it one may know. The same state gives the same bytes, whatever order it came about in.
///
/// # Panics
/// If a component can't be encoded, or the snapshot is larger than [`SNAPSHOT_BYTES_MAX`].
pub(crate) fn write_snapshot(world: &mut World, may_have: Option<MayHave<'_>>) -> Bytes {
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let index = world.resource::<EntityIndex>();
    let mut out = Vec::with_capacity(index.slots.len() * 32);
    let (tick, next_seq) = (world.resource::<RoomClock>().tick, world.resource::<Ledger>().next_seq());
    SnapshotHead { tick, next_seq }.write(&mut out);
    let may_see = |id: u32| may_have.is_none_or(|may_have| may_have(id, None));
    let shown = index.slots.iter().zip(0..).filter(|(slot, id)| slot.state == SlotState::Shown && may_see(*id));
    let mut roster = RosterWriter::default();
    roster.write(shown.map(|(slot, id)| (id, &slot.identity)), &mut out);
    write_columns(world, &mut protocol, (&roster.ids, may_have), &mut out);
    *world.resource_mut::<Protocol>() = protocol;
    assert!(out.len() <= SNAPSHOT_BYTES_MAX, "the snapshot has {} bytes, at most {SNAPSHOT_BYTES_MAX} allowed", out.len());
    Bytes::from(out)
}

/// Writes the columns of the entities `ids`, which ascend. Without `may_have` those are all.
pub(super) fn write_columns(world: &World, protocol: &mut Protocol, (ids, may_have): (&[u32], Option<MayHave<'_>>), out: &mut Vec<u8>) {
    let (mut rows, count_at, mut count) = (Rows::default(), out.len(), 0_usize);
    // The number of columns is known at the end; one byte holds it in nearly every protocol.
    out.push(0);
    for (component, entry) in protocol.components.iter_mut().enumerate() {
        let start = out.len();
        write_varint(component as u64, out);
        write_varint(0, out);
        let mut encoded = if may_have.is_none() { entry.column.all_in_order(world, ids, out) } else { Ok(false) };
        if let Ok(false) = encoded {
            out.truncate(start);
            rows.clear();
            encoded = entry.column.all(world, &mut rows).map(|()| write_gathered(component, (ids, may_have), &mut rows, out));
        }
        match encoded {
            Ok(written) => count += usize::from(written),
            Err(error) => panic!("the component {} can't be encoded: {error}", entry.name),
        }
    }
    let mut counted = Vec::new();
    write_varint(count as u64, &mut counted);
    out.splice(count_at..=count_at, counted);
}

/// Writes rows in the order of their net ids. False if there are none.
fn write_gathered(component: usize, (ids, may_have): (&[u32], Option<MayHave<'_>>), rows: &mut Rows, out: &mut Vec<u8>) -> bool {
    rows.sort();
    // What was spawned since the last batch is not in this state yet; and as many rows as ids need not be those of the same entities.
    let whole = may_have.is_none() && rows.len() == ids.len() && rows.sorted().map(|row| rows.id(row)).eq(ids.iter().copied());
    let may_have = |id: u32| may_have.is_none_or(|may_have| may_have(id, Some(component)));
    let known = |id: u32| whole || (ids.binary_search(&id).is_ok() && may_have(id));
    let picks: Vec<usize> = rows.sorted().filter(|row| known(rows.id(*row))).collect();
    if !picks.is_empty() {
        write_column(component, ids, rows, &picks, out);
    }
    !picks.is_empty()
}
