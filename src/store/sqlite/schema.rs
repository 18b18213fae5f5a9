//! The tables of the file, and how older files become newer ones.

/// What stands in the file's header, so that nobody else's file is taken for ours: "roke".
pub(super) const APPLICATION_ID: i64 = 0x726f_6b65;

/// The steps from each layout to the next. A file has as many behind it as its `user_version` says.
pub(super) const MIGRATIONS: &[&str] = &[LAYOUT_1, LAYOUT_2];

const LAYOUT_1: &str = "
CREATE TABLE protocol(fingerprint INTEGER PRIMARY KEY, description TEXT NOT NULL) STRICT;
CREATE TABLE room(
  room_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  uid TEXT NOT NULL,
  header TEXT NOT NULL,            -- what it was created from
  fingerprint INTEGER NOT NULL,    -- the protocol that wrote it last
  sealed_tick INTEGER,             -- everything up to here is in chunks; the journal has the rest
  sealed_seq INTEGER,
  chain BLOB NOT NULL,             -- the head of the chain of hashes after it
  components_tick INTEGER,         -- the tick whose values `component` has
  header_sum INTEGER NOT NULL,
  sum INTEGER NOT NULL             -- over fingerprint, sealed_tick, sealed_seq and chain
) STRICT;
-- The ticks of all rooms that are not in chunks yet: a row for each flush.
CREATE TABLE journal(flush INTEGER PRIMARY KEY, sum INTEGER NOT NULL, frame BLOB NOT NULL) STRICT;
CREATE TABLE mark(one INTEGER PRIMARY KEY CHECK(one = 1), flush INTEGER NOT NULL) STRICT;
INSERT INTO mark VALUES(1, 0);
-- A JSON array: {t: tick, k: kind, p: producer, a: author, c: command, w: the fact that caused it, d: data, h: hash}
CREATE TABLE fact_chunk(
  room_id INTEGER NOT NULL, seq_from INTEGER NOT NULL, seq_to INTEGER NOT NULL, tick_from INTEGER NOT NULL, tick_to INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL, sum INTEGER NOT NULL, payload TEXT NOT NULL,
  PRIMARY KEY(room_id, seq_from), CHECK(seq_to >= seq_from)) STRICT;
-- A JSON array: {t: tick, k: kind of command, a: author, c: command, r: reason, m: detail, d: data, h: hash}
CREATE TABLE refusal_chunk(
  room_id INTEGER NOT NULL, seq_from INTEGER NOT NULL, seq_to INTEGER NOT NULL, tick_from INTEGER NOT NULL, tick_to INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL, sum INTEGER NOT NULL, payload TEXT NOT NULL,
  PRIMARY KEY(room_id, seq_from)) STRICT;
-- Batches, in the form that they have on the wire, and what was taken in; packed.
CREATE TABLE tick_chunk(
  room_id INTEGER NOT NULL, seq_from INTEGER NOT NULL, seq_to INTEGER NOT NULL, tick_from INTEGER NOT NULL, tick_to INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL, sum INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY(room_id, seq_from)) STRICT;
CREATE TABLE checkpoint(
  room_id INTEGER NOT NULL, tick INTEGER NOT NULL, resumed INTEGER NOT NULL, fingerprint INTEGER NOT NULL,
  sum INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY(room_id, tick)) STRICT;
-- The state, as JSON. A row without a component name says that the entity is there.
CREATE TABLE component(
  room_id INTEGER NOT NULL, entity_id TEXT NOT NULL, component_name TEXT NOT NULL, component TEXT NOT NULL,
  PRIMARY KEY(room_id, entity_id, component_name)) STRICT, WITHOUT ROWID;
CREATE TABLE snippet_label(
  room_id INTEGER NOT NULL, label TEXT NOT NULL, tick INTEGER NOT NULL, members TEXT NOT NULL, PRIMARY KEY(room_id, label)) STRICT;
CREATE TABLE snippet(
  room_id INTEGER NOT NULL, label TEXT NOT NULL, entity_id TEXT NOT NULL, component_name TEXT NOT NULL, component TEXT NOT NULL,
  PRIMARY KEY(room_id, label, entity_id, component_name)) STRICT, WITHOUT ROWID;
CREATE TABLE projection(
  name TEXT NOT NULL, room_id INTEGER NOT NULL, seq INTEGER NOT NULL, memory TEXT NOT NULL, PRIMARY KEY(name, room_id)) STRICT, WITHOUT ROWID;
CREATE TABLE request(
  id INTEGER PRIMARY KEY AUTOINCREMENT, room_id INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, answer TEXT) STRICT;
CREATE VIEW fact AS
  SELECT room.name AS room, c.seq_from + j.key AS seq, j.value->>'$.t' AS tick, j.value->>'$.k' AS kind, j.value->>'$.p' AS producer,
         j.value->>'$.a' AS author, j.value->>'$.c' AS command, j.value->>'$.w' AS cause, j.value->'$.d' AS data
  FROM fact_chunk c JOIN room USING(room_id), json_each(c.payload) j;
CREATE VIEW refusal AS
  SELECT room.name AS room, j.value->>'$.t' AS tick, j.value->>'$.a' AS author, j.value->>'$.c' AS command, j.value->>'$.k' AS kind,
         j.value->>'$.r' AS reason, j.value->>'$.m' AS detail, j.value->'$.d' AS data
  FROM refusal_chunk c JOIN room USING(room_id), json_each(c.payload) j;
CREATE VIEW state AS
  SELECT room.name AS room, entity_id, component_name, component, components_tick AS tick FROM component JOIN room USING(room_id)
  WHERE component_name <> '';
";

/// Rooms can be deleted. Those that were there before count as used when the file came to know of it.
const LAYOUT_2: &str = "
ALTER TABLE room ADD COLUMN used INTEGER NOT NULL DEFAULT 0;  -- when something was last written of it, in seconds since 1970
UPDATE room SET used = unixepoch();
-- How many rooms were deleted, and the highest number that one of them had, which no other gets: the journal may still know it.
CREATE TABLE deleted(one INTEGER PRIMARY KEY CHECK(one = 1), rooms INTEGER NOT NULL, room_id INTEGER NOT NULL) STRICT;
INSERT INTO deleted VALUES(1, 0, 0);
-- The numbers of those of which there still are rows.
CREATE TABLE leftover(room_id INTEGER PRIMARY KEY) STRICT;
";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::Connection;

    use super::*;
    use crate::store::{Durability, RoomKey, SqliteStore, Store, data_file};

    #[test]
    fn a_file_of_the_first_layout_is_brought_up_to_date_and_its_rooms_count_as_used_then() {
        let folder = std::env::temp_dir().join(format!("roomkeeper-layout-1-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let file = Connection::open(data_file(&folder)).unwrap();
        file.execute_batch(LAYOUT_1).unwrap();
        file.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        file.pragma_update(None, "user_version", 1).unwrap();
        file.execute_batch("INSERT INTO room VALUES(7, 'arena', '', '{}', 0, NULL, NULL, x'', NULL, 0, 0)").unwrap();
        drop(file);
        let mut store = SqliteStore::open(&folder, Durability::ProcessCrash).unwrap();
        let unused = store.unused("", Duration::ZERO, 10).unwrap();
        assert_eq!(unused.iter().map(|room| (room.key, room.name.as_str())).collect::<Vec<_>>(), [(RoomKey(7), "arena")]);
        assert!(unused[0].unused_for < Duration::from_secs(60) && store.deleted().unwrap() == 0);
        assert!(!store.delete(RoomKey(7), Duration::from_secs(3_600)).unwrap());
        assert!(store.delete(RoomKey(7), Duration::ZERO).unwrap(), "also one whose row is damaged");
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
