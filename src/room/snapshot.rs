//! The whole replicated state of a room, encoded.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::clock::RoomClock;
use super::index::{EntityIndex, SlotState};
use super::ledger::Ledger;
use crate::protocol::limits::SNAPSHOT_BYTES_MAX;
use crate::protocol::{Identity, Protocol, Rows, SnapshotHead, write_column, write_roster, write_varint};

/// Encodes the state as of the last batch. The same state gives the same bytes, whatever order it came about in.
///
/// # Panics
/// If a component can't be encoded, or the snapshot is larger than [`SNAPSHOT_BYTES_MAX`].
pub(crate) fn write_snapshot(world: &mut World) -> Bytes {
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let mut out = Vec::new();
    let index = world.resource::<EntityIndex>();
    let (tick, next_seq) = (world.resource::<RoomClock>().tick, world.resource::<Ledger>().next_seq());
    SnapshotHead { tick, next_seq }.write(&mut out);
    let shown = index.slots.iter().enumerate().filter(|(_, slot)| slot.state == SlotState::Shown);
    let roster: Vec<(u32, &Identity)> = shown.map(|(id, slot)| (id as u32, &slot.identity)).collect();
    write_roster(roster.iter().copied(), &mut out);
    let ids: Vec<u32> = roster.iter().map(|(id, _)| *id).collect();
    write_columns(world, &mut protocol, &ids, &mut out);
    *world.resource_mut::<Protocol>() = protocol;
    assert!(out.len() <= SNAPSHOT_BYTES_MAX, "the snapshot has {} bytes, at most {SNAPSHOT_BYTES_MAX} allowed", out.len());
    Bytes::from(out)
}

fn write_columns(world: &World, protocol: &mut Protocol, ids: &[u32], out: &mut Vec<u8>) {
    let (mut rows, mut columns, mut count) = (Rows::default(), Vec::new(), 0);
    for (component, entry) in protocol.components.iter_mut().enumerate() {
        rows.clear();
        if let Err(error) = entry.column.all(world, &mut rows) {
            panic!("the component {} can't be encoded: {error}", entry.name);
        }
        rows.sort();
        // What was spawned since the last batch is not in this state yet.
        let picks: Vec<usize> = rows.sorted().filter(|row| rows.len() == ids.len() || ids.binary_search(&rows.id(*row)).is_ok()).collect();
        if !picks.is_empty() {
            count += 1;
            write_column(component, ids, &rows, &picks, &mut columns);
        }
    }
    write_varint(count, out);
    out.append(&mut columns);
}
