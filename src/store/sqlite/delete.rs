//! How a room is deleted: at once for whoever looks, and its rows little by little.

use std::time::Duration;

use rusqlite::params;

use super::super::error::StoreError;
use super::super::sums::ROOM_TABLES;
use super::super::tables::{RoomKey, UnusedRoom};
use super::SqliteStore;
use super::rows::{DELETED_AT_ONCE, give_way};
use crate::store::clock::instant;

/// Seconds, as SQLite counts them. Who says longer than anybody lives means that nothing is old enough.
fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX).min(i64::from(u32::MAX))
}

/// What deletes some of the rows that a room left in a table. Some tables have no number for a row.
fn delete_some(table: &str) -> String {
    let some = |of: &str| format!("{of} IN (SELECT {of} FROM {table} WHERE room_id = ?1 LIMIT {DELETED_AT_ONCE})");
    let which = match table {
        "component" => some("entity_id"),
        // The first of its snippets, and no more of it than of others' entities.
        "snippet" => format!("(label, entity_id) IN (SELECT label, entity_id FROM snippet WHERE room_id = ?1 LIMIT {DELETED_AT_ONCE})"),
        "projection" => some("name"),
        _ => some("rowid"),
    };
    format!("DELETE FROM {table} WHERE room_id = ?1 AND {which}")
}

impl SqliteStore {
    pub(super) fn unused_rooms(&self, prefix: &str, unused_for: Duration, most: usize) -> Result<Vec<UnusedRoom>, StoreError> {
        let sql = "SELECT room_id, name, max(unixepoch() - used, 0) FROM room \
                   WHERE substr(name, 1, length(?1)) = ?1 AND used <= unixepoch() - ?2 ORDER BY used, room_id LIMIT ?3";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.all("the unused rooms can't be read", sql, params![prefix, seconds(unused_for), most], |row| {
            let unused_for = Duration::from_secs(row.get::<_, i64>(2)?.cast_unsigned());
            Ok(UnusedRoom { key: RoomKey(row.get(0)?), name: row.get(1)?, unused_for })
        })
    }

    pub(super) fn delete_room(&mut self, room: RoomKey, unused_for: Duration) -> Result<bool, StoreError> {
        self.at_once("a room can't be deleted", |connection| {
            let sql = "DELETE FROM room WHERE room_id = ?1 AND used <= unixepoch() - ?2";
            if connection.execute(sql, params![room.0, seconds(unused_for)])? == 0 {
                return Ok(false);
            }
            connection.execute("INSERT OR IGNORE INTO leftover VALUES(?1)", [room.0])?;
            let sql = "UPDATE deleted SET rooms = rooms + 1, room_id = max(room_id, ?1)";
            connection.execute(sql, [room.0]).map(|_| true)
        })
    }

    /// Deletes some of what is left of a room. True if there may be more of it, or of others.
    pub(super) fn clear_some(&mut self) -> Result<bool, StoreError> {
        let what = "what is left of a room can't be deleted";
        let left = self.all(what, "SELECT room_id FROM leftover LIMIT 1", [], |row| row.get::<_, i64>(0))?;
        let Some(room) = left.first() else { return Ok(false) };
        for table in ROOM_TABLES {
            let began = instant();
            if self.run(what, &delete_some(table), [room])? > 0 {
                give_way(began);
                return Ok(true);
            }
        }
        self.run(what, "DELETE FROM leftover WHERE room_id = ?1", [room])?;
        Ok(true)
    }

    pub(super) fn deleted_rooms(&self) -> Result<u64, StoreError> {
        let found = self.all("the number of deleted rooms", "SELECT rooms FROM deleted", [], |row| row.get::<_, i64>(0))?;
        Ok(found.first().copied().unwrap_or(0).cast_unsigned())
    }
}
