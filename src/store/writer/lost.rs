//! Rooms that are another host's now, and rooms that are opened again.

use std::collections::BTreeSet;

use super::super::frame::{join_frame, split_frame};
use super::super::tables::{Flush, RoomKey};
use super::Work;

/// So many of the rooms that are lost at once are named in the log. They may be thousands.
const NAMED_MAX: usize = 8;

impl Work {
    /// Gives up rooms that are not leased to this host any more. Their ticks that are not stored are lost; nobody was told that they were.
    /// The host hears of them, but for those that it closed itself.
    pub(super) fn lose(&mut self, rooms: &[String]) -> BTreeSet<RoomKey> {
        let lost = |name: &String| rooms.contains(name);
        let closed: Vec<String> = self.rooms.values().filter(|room| room.closed).map(|room| room.follower.header.name.clone()).collect();
        let keys = self.rooms.values().filter(|room| lost(&room.follower.header.name)).map(|room| room.follower.key).collect();
        self.tell_lost(rooms);
        self.leave(|room| lost(&room.follower.header.name));
        let (count, first) = (rooms.len(), rooms.get(..NAMED_MAX).unwrap_or(rooms).join(", "));
        tracing::warn!(count, first, "these rooms are not leased to this host any more; they are given up");
        let mut done = self.shared.done();
        for room in rooms {
            if !closed.contains(room) && !done.lost.contains(room) {
                done.lost.push(room.clone());
            }
        }
        keys
    }

    /// Gives up rooms, and takes them out of a flush that is to be written. False if there is nothing of them in it: then it would be
    /// refused again.
    pub(super) fn lose_from(&mut self, rooms: &[String], flush: &mut Flush) -> bool {
        let keys = self.lose(rooms);
        let parts = flush.seals.len();
        flush.seals.retain(|seal| !keys.contains(&seal.key));
        flush.cursors.retain(|(_, key, ..)| !keys.contains(key));
        let mut fewer = flush.seals.len() < parts;
        if let Ok(mut frames) = split_frame(&flush.frame) {
            let parts = frames.len();
            frames.retain(|(key, _)| !keys.contains(key));
            fewer |= frames.len() < parts;
            flush.frame = join_frame(&frames);
        }
        fewer
    }

    /// Ends what is left of an earlier opening of a room, by the lease that it had then: what its next opening writes is by another one.
    pub(super) fn finish_earlier(&mut self, name: &str) {
        let earlier: Vec<u64> =
            self.rooms.iter().filter(|(_, room)| room.follower.header.name == name).map(|(number, _)| *number).collect();
        let cadence = self.cadence();
        let mut flush = Flush { number: self.number + 1, ..Flush::default() };
        for number in earlier {
            if let Some(room) = self.rooms.get_mut(&number)
                && (room.follower.is_unsealed() || (!room.broken && room.follower.has_older_table()))
            {
                flush.seals.push(room.follower.seal(cadence, true, room.broken));
            }
            self.rooms.entry(number).and_modify(|room| room.closed = true);
        }
        if !flush.seals.is_empty() {
            self.number += 1;
            self.commit(flush);
        }
        self.leave(|room| room.follower.header.name == name);
    }
}
