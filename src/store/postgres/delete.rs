//! How a room is deleted: in one transaction, which nobody who claims the room gets past; and its rows little by little after it.

use std::time::Duration;

use super::super::error::StoreError;
use super::super::sums::ROOM_TABLES;
use super::super::tables::{RoomKey, UnusedRoom};
use super::PostgresStore;
use super::connection::Connection;
use super::rows::{at, number_at};

const WHAT: &str = "a room can't be deleted";

/// Seconds, as PostgreSQL counts them. Who says longer than anybody lives means that nothing is old enough.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().min(f64::from(u32::MAX))
}

/// Has the room's lease for the length of the transaction: whoever claims the room waits until it is gone. The token goes on, so that nobody who had
/// the room before can write what gets its name; that is why the row of the lease stays.
fn lock_lease(connection: &mut Connection, room: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO lease AS l VALUES($1, NULL, 1, clock_timestamp()) \
               ON CONFLICT(room) DO UPDATE SET host = NULL, token = l.token + 1, expires = clock_timestamp() \
               WHERE l.host IS NULL OR l.expires <= clock_timestamp() RETURNING room";
    if !connection.query(WHAT, sql, &[&room])?.is_empty() {
        return Ok(());
    }
    let rows = connection.query(WHAT, "SELECT coalesce(host, '') FROM lease WHERE room = $1", &[&room])?;
    let host = rows.first().map(|row| at::<String>(row, 0)).transpose()?.unwrap_or_default();
    Err(StoreError::Held { room: room.to_owned(), host })
}

/// Rooms of which nothing has been written for so long. A server of an older version notes that it gives a room back, and not that it wrote it.
const UNUSED: &str = "used <= clock_timestamp() - $2::float8 * interval '1 s' AND NOT EXISTS ( \
                      SELECT 1 FROM lease WHERE lease.room = room.name AND lease.expires > clock_timestamp() - $2::float8 * interval '1 s' \
                      AND $2::float8 > 0)";

/// How many rows are deleted by one statement, which may take only so long.
const DELETED_AT_ONCE: u32 = 1_000;

impl PostgresStore {
    pub(super) fn unused_rooms(&mut self, prefix: &str, unused_for: Duration, most: usize) -> Result<Vec<UnusedRoom>, StoreError> {
        let sql = format!(
            "SELECT room_id, name, greatest(extract(epoch FROM clock_timestamp() - used), 0)::bigint FROM room \
             WHERE left(name, length($1::text)) = $1::text AND {UNUSED} ORDER BY used, room_id LIMIT $3"
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.all("the unused rooms can't be read", &sql, &[&prefix, &seconds(unused_for), &most], |row| {
            Ok(UnusedRoom { key: RoomKey(at(row, 0)?), name: at(row, 1)?, unused_for: Duration::from_secs(number_at(row, 2)?) })
        })
    }

    pub(super) fn delete_room(&mut self, room: RoomKey, unused_for: Duration) -> Result<bool, StoreError> {
        let seconds = seconds(unused_for);
        self.connection()?.transaction(WHAT, |connection| {
            let sql = format!("SELECT name FROM room WHERE room_id = $1 AND {UNUSED}");
            let rows = connection.query(WHAT, &sql, &[&room.0, &seconds])?;
            let Some(name) = rows.first().map(|row| at::<String>(row, 0)).transpose()? else { return Ok(false) };
            lock_lease(connection, &name)?;
            let sql = "DELETE FROM room WHERE room_id = $1 AND used <= clock_timestamp() - $2::float8 * interval '1 s'";
            if connection.execute(WHAT, sql, &[&room.0, &seconds])? == 0 {
                return Ok(false);
            }
            connection.execute(WHAT, "DELETE FROM journal WHERE room_id = $1", &[&room.0])?;
            connection.execute(WHAT, "INSERT INTO leftover VALUES($1) ON CONFLICT DO NOTHING", &[&room.0])?;
            connection.execute(WHAT, "UPDATE deleted SET rooms = rooms + 1", &[]).map(|_| true)
        })
    }

    /// Deletes some of what is left of a room. True if there may be more of it, or of others.
    pub(super) fn clear_some(&mut self) -> Result<bool, StoreError> {
        let what = "what is left of a room can't be deleted";
        let left = self.all(what, "SELECT room_id FROM leftover ORDER BY room_id LIMIT 1", &[], |row| at::<i64>(row, 0))?;
        let Some(room) = left.first().copied() else { return Ok(false) };
        for table in ROOM_TABLES {
            let some = format!("SELECT ctid FROM {table} WHERE room_id = $1 LIMIT {DELETED_AT_ONCE}");
            if self.run(what, &format!("DELETE FROM {table} WHERE ctid = ANY(ARRAY({some}))"), &[&room])? > 0 {
                return Ok(true);
            }
        }
        self.run(what, "DELETE FROM leftover WHERE room_id = $1", &[&room])?;
        Ok(true)
    }

    pub(super) fn deleted_rooms(&mut self) -> Result<u64, StoreError> {
        let found = self.all("the number of deleted rooms", "SELECT rooms FROM deleted", &[], |row| number_at(row, 0))?;
        Ok(found.first().copied().unwrap_or(0))
    }
}
