//! The rows of the file: how each is written and read.

use std::time::{Duration, Instant};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::super::chain::Chain;
use super::super::clock::instant;
use super::super::error::{CHECKSUM, StoreError};
use super::super::record::{Entities, Head, RoomHeader, Snippet};
use super::super::sums::{
    LEDGER_TABLES, chain_of, gathered, head_of, lost_header, sum_of, sum_of_checkpoint, sum_of_chunk, sum_of_head, table, tick_of,
};
use super::super::tables::{
    Checkpoint, Chunk, ChunkKind, ComponentWrites, Flush, Request, RoomKey, Seal, Store, StoredRoom, UnusedRoom, possible,
};
use super::{SqliteStore, is_served};
use crate::protocol::{Description, EntityId, FactSeq, Fingerprint, RoomTick};

/// How many rows are deleted in one transaction: a host that writes beside it waits for no more.
pub(super) const DELETED_AT_ONCE: usize = 128;

/// Lets others write for as long as this one did. SQLite puts nobody in a queue: who looks now and then would not find the file free.
pub(super) fn give_way(began: Instant) {
    std::thread::sleep(began.elapsed());
}

fn tick_at(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomTick> {
    row.get(column).map(RoomTick)
}

/// A tick of a row with a checksum. A number that is no tick is read as the last one of all, with which the checksum does not agree: it must
/// not keep anybody from reading the rows beside it.
fn summed_tick_at(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomTick> {
    Ok(tick_of(row.get(column)?))
}

fn bytes_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(row.get_ref(column)?.as_bytes_or_null()?.unwrap_or_default().to_vec())
}

fn json_at<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// What [`room_at`] reads, in its order.
const ROOM_COLUMNS: &str = "room_id, header, sealed_tick, sealed_seq, chain, components_tick, fingerprint, name, header_sum, sum";

fn room_at(row: &Row<'_>) -> rusqlite::Result<StoredRoom> {
    let (tick, seq) = (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?);
    let header_sum = sum_of(&bytes_at(row, 1)?);
    let header = json_at(row, 1).or_else(|_| row.get(7).map(lost_header))?;
    let (chain, fingerprint) = (bytes_at(row, 4)?, row.get::<_, i64>(6)?);
    let sum = sum_of_head(fingerprint, tick.map(|tick| tick_of(tick).0), seq, &chain);
    let components_tick = row.get::<_, Option<i64>>(5)?.map(tick_of);
    let sealed = head_of(tick, seq);
    let is_possible = sealed.is_none_or(|head| head.is_possible()) && components_tick.is_none_or(|tick| tick.0 < u32::MAX);
    let intact = header_sum == row.get::<_, i64>(8)? && sum == row.get::<_, i64>(9)? && is_possible;
    let chain = chain_of(&chain, &header);
    Ok(StoredRoom {
        key: RoomKey(row.get(0)?),
        header,
        sealed,
        chain,
        components_tick,
        fingerprint: Fingerprint(fingerprint.cast_unsigned()),
        intact,
    })
}

impl SqliteStore {
    fn name_of(&self, room: RoomKey) -> String {
        let name = self.connection().ok().and_then(|connection| {
            connection.query_row("SELECT name FROM room WHERE room_id = ?1", [room.0], |row| row.get(0)).optional().ok().flatten()
        });
        name.unwrap_or_else(|| format!("number {}", room.0))
    }

    /// Runs a query and collects its rows.
    pub(super) fn all<T>(
        &self,
        what: &'static str,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let failed = StoreError::sqlite(what);
        let mut statement = self.connection()?.prepare_cached(sql).map_err(&failed)?;
        let rows = statement.query_map(parameters, read).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    pub(super) fn run(&self, what: &'static str, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        let failed = StoreError::sqlite(what);
        let mut statement = self.connection()?.prepare_cached(sql).map_err(&failed)?;
        statement.execute(parameters).map_err(&failed)
    }

    /// Does something in a transaction of its own, which nobody else writes beside.
    pub(super) fn at_once<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let connection = self.connection.as_mut().ok_or(StoreError::Stopped)?;
        let done = connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            let done = work(&transaction)?;
            transaction.commit().map(|()| done)
        });
        done.map_err(StoreError::sqlite(what))
    }
}

fn write_room(connection: &Connection, header: &RoomHeader, protocol: &Description) -> rusqlite::Result<Option<RoomKey>> {
    let fingerprint = protocol.fingerprint().0.cast_signed();
    let description = serde_json::to_string(protocol).unwrap_or_default();
    let sql = "INSERT INTO protocol VALUES(?1, ?2) ON CONFLICT(fingerprint) DO UPDATE SET description = excluded.description \
               WHERE description <> excluded.description";
    connection.prepare_cached(sql)?.execute(params![fingerprint, description])?;
    // A number that no room has, or had.
    let sql = "INSERT INTO room(room_id, name, uid, header, fingerprint, chain, header_sum, sum, used) VALUES( \
               max(coalesce((SELECT max(room_id) FROM room), 0), coalesce((SELECT room_id FROM deleted), 0)) + 1, \
               ?1, ?2, ?3, ?4, ?5, ?6, ?7, unixepoch()) \
               ON CONFLICT(name) DO UPDATE SET uid = excluded.uid, header = excluded.header, fingerprint = excluded.fingerprint, \
               chain = excluded.chain, header_sum = excluded.header_sum, sum = excluded.sum WHERE sealed_tick IS NULL";
    let text = serde_json::to_string(header).unwrap_or_default();
    let (uid, chain) = (header.id().to_string(), Chain::new(header.id()).0);
    let sum = sum_of_head(fingerprint, None, None, &chain);
    let mut insert = connection.prepare_cached(sql)?;
    insert.execute(params![header.name, uid, text, fingerprint, chain, sum_of(text.as_bytes()), sum])?;
    // What an interrupted copy left.
    for table in LEDGER_TABLES {
        let sql = format!("DELETE FROM {table} WHERE room_id = (SELECT room_id FROM room WHERE name = ?1 AND sealed_tick IS NULL)");
        connection.prepare_cached(&sql)?.execute([&header.name])?;
    }
    let mut key = connection.prepare_cached("SELECT room_id FROM room WHERE name = ?1")?;
    key.query_row([&header.name], |row| row.get(0).map(RoomKey)).optional()
}

fn write_flush(connection: &Connection, flush: &Flush) -> rusqlite::Result<()> {
    if !flush.frame.is_empty() {
        let mut insert = connection.prepare_cached("INSERT INTO journal VALUES(?1, ?2, ?3)")?;
        insert.execute(params![flush.number.cast_signed(), sum_of(&flush.frame), flush.frame])?;
    }
    for seal in &flush.seals {
        write_seal(connection, seal)?;
    }
    connection.prepare_cached("DELETE FROM journal WHERE flush <= ?1")?.execute([flush.journal_done.cast_signed()])?;
    for (name, room, seq, memory) in &flush.cursors {
        let mut upsert = connection.prepare_cached("INSERT OR REPLACE INTO projection VALUES(?1, ?2, ?3, ?4)")?;
        upsert.execute(params![name, room.0, seq.0.cast_signed(), memory])?;
    }
    for (id, answer) in &flush.answered {
        connection.prepare_cached("UPDATE request SET answer = ?2 WHERE id = ?1")?.execute(params![id, answer])?;
    }
    connection.prepare_cached("UPDATE mark SET flush = ?1")?.execute([flush.number.cast_signed()]).map(drop)
}

fn write_chunk(connection: &Connection, room: RoomKey, kind: ChunkKind, chunk: &Chunk) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO {} VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", table(kind));
    let mut insert = connection.prepare_cached(&sql)?;
    let text = String::from_utf8_lossy(&chunk.payload);
    let payload: &dyn rusqlite::ToSql = if kind == ChunkKind::Ticks { &chunk.payload } else { &text };
    let (from, to, fingerprint) = (chunk.from.cast_signed(), chunk.to.cast_signed(), chunk.fingerprint.0.cast_signed());
    let sum = sum_of_chunk(chunk);
    insert.execute(params![room.0, from, to, chunk.tick_from.0, chunk.tick_to.0, fingerprint, sum, payload]).map(drop)
}

/// Whether what chunks are to be put in the place of is there, from the first to the last; of a room of which nothing is sealed, in any case.
fn are_whole(connection: &Connection, room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> rusqlite::Result<bool> {
    let sealed = "SELECT sealed_tick IS NOT NULL FROM room WHERE room_id = ?1";
    match connection.query_row(sealed, [room.0], |row| row.get::<_, bool>(0)).optional()? {
        // It was deleted meanwhile.
        None => return Ok(false),
        Some(false) => return Ok(true),
        Some(true) => {}
    }
    let sql = format!("SELECT min(seq_from), max(seq_to) FROM {} WHERE room_id = ?1 AND seq_from BETWEEN ?2 AND ?3", table(kind));
    let mut bounds = connection.prepare_cached(&sql)?;
    for chunk in chunks {
        let (from, to) = (chunk.from.cast_signed(), chunk.to.cast_signed());
        let found: (Option<i64>, Option<i64>) = bounds.query_row([room.0, from, to], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if found != (Some(from), Some(to)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_seal(connection: &Connection, seal: &Seal) -> rusqlite::Result<()> {
    for (kind, chunk) in &seal.chunks {
        write_chunk(connection, seal.key, *kind, chunk)?;
    }
    if let Some(checkpoint) = &seal.checkpoint {
        write_checkpoint(connection, seal.key, checkpoint)?;
    }
    if let Some(writes) = &seal.components {
        write_components(connection, seal.key, writes)?;
    }
    let sql = "UPDATE room SET sealed_tick = ?2, sealed_seq = ?3, chain = ?4, fingerprint = ?5, components_tick = coalesce(?6, components_tick), sum = ?7, used = unixepoch() \
               WHERE room_id = ?1";
    let components_tick = seal.components.as_ref().map(|writes| writes.tick.0);
    let mut update = connection.prepare_cached(sql)?;
    let head = (seal.head.tick.0, seal.head.seq.0.cast_signed());
    let fingerprint = seal.fingerprint.0.cast_signed();
    let sum = sum_of_head(fingerprint, Some(head.0), Some(head.1), &seal.chain.0);
    update.execute(params![seal.key.0, head.0, head.1, seal.chain.0, fingerprint, components_tick, sum]).map(drop)
}

fn write_checkpoint(connection: &Connection, room: RoomKey, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?;
    let (tick, fingerprint) = (checkpoint.tick.0, checkpoint.fingerprint.0.cast_signed());
    let sum = sum_of_checkpoint(checkpoint);
    insert.execute(params![room.0, tick, checkpoint.resumed, fingerprint, sum, checkpoint.payload]).map(drop)
}

fn write_components(connection: &Connection, room: RoomKey, writes: &ComponentWrites) -> rusqlite::Result<()> {
    if writes.all {
        connection.prepare_cached("DELETE FROM component WHERE room_id = ?1")?.execute([room.0])?;
    }
    let mut gone = connection.prepare_cached("DELETE FROM component WHERE room_id = ?1 AND entity_id = ?2")?;
    for entity in &writes.gone {
        gone.execute(params![room.0, entity])?;
    }
    let mut set = connection.prepare_cached("INSERT OR REPLACE INTO component VALUES(?1, ?2, ?3, ?4)")?;
    let mut unset = connection.prepare_cached("DELETE FROM component WHERE room_id = ?1 AND entity_id = ?2 AND component_name = ?3")?;
    for (entity, component, value) in &writes.values {
        match value {
            Some(value) => set.execute(params![room.0, entity, component, value])?,
            None => unset.execute(params![room.0, entity, component])?,
        };
    }
    Ok(())
}

impl Store for SqliteStore {
    fn rooms(&mut self) -> Result<Vec<StoredRoom>, StoreError> {
        self.all("the table of rooms", &format!("SELECT {ROOM_COLUMNS} FROM room ORDER BY room_id"), [], room_at)
    }

    fn room_heads(&mut self) -> Result<Vec<(String, Option<Head>)>, StoreError> {
        let sql = "SELECT name, sealed_tick, sealed_seq FROM room ORDER BY room_id";
        self.all("the table of rooms", sql, [], |row| Ok((row.get(0)?, head_of(row.get(1)?, row.get(2)?))))
    }

    fn room(&mut self, name: &str) -> Result<Option<StoredRoom>, StoreError> {
        let sql = format!("SELECT {ROOM_COLUMNS} FROM room WHERE name = ?1");
        Ok(self.all("the table of rooms", &sql, [name], room_at)?.pop())
    }

    fn sealed(&mut self, room: RoomKey) -> Result<Option<Head>, StoreError> {
        let sql = "SELECT sealed_tick, sealed_seq FROM room WHERE room_id = ?1 AND sealed_tick IS NOT NULL";
        let heads = self.all("the table of rooms", sql, [room.0], |row| Ok(head_of(row.get(0)?, row.get(1)?)))?;
        possible(heads.first().copied().flatten(), || self.name_of(room))
    }

    fn enter(&mut self, header: &RoomHeader, protocol: &Description) -> Result<RoomKey, StoreError> {
        // What is there already is not written again: of hundreds of rooms that are opened at once each would wait for the disk.
        let key = self.at_once("a room can't be noted", |connection| write_room(connection, header, protocol))?;
        key.ok_or_else(|| StoreError::damaged(&header.name, "its row", "it is not there"))
    }

    fn protocol(&mut self, fingerprint: Fingerprint) -> Result<Option<Description>, StoreError> {
        let sql = "SELECT description FROM protocol WHERE fingerprint = ?1";
        let mut found = self.all("the table of protocols", sql, [fingerprint.0.cast_signed()], |row| json_at(row, 0))?;
        Ok(found.pop())
    }

    fn commit(&mut self, flush: &Flush) -> Result<(), StoreError> {
        self.at_once("a flush can't be written", |connection| write_flush(connection, flush))?;
        self.write_mark(flush.number);
        Ok(())
    }

    fn last_flush(&mut self) -> Result<u64, StoreError> {
        let found = self.all("the last flush", "SELECT flush FROM mark", [], |row| row.get::<_, i64>(0))?;
        Ok(found.first().copied().unwrap_or(0).cast_unsigned())
    }

    fn journal(&mut self) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError> {
        let sql = "SELECT flush, sum, frame FROM journal ORDER BY flush";
        let rows =
            self.all("the journal", sql, [], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?, bytes_at(row, 2)?)))?;
        Ok(rows
            .into_iter()
            .map(|(number, sum, frame)| {
                let intact = sum_of(&frame) == sum;
                (number, frame, intact)
            })
            .collect())
    }

    fn chunks(&mut self, room: RoomKey, kind: ChunkKind, from: u64, to: u64, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        let table = table(kind);
        // The chunk that `from` is in begins at or before it.
        let sql = format!(
            "SELECT seq_from, seq_to, tick_from, tick_to, fingerprint, sum, payload FROM {table} WHERE room_id = ?1 AND seq_from <= ?3 AND seq_to >= ?2 AND \
             seq_from >= coalesce((SELECT max(seq_from) FROM {table} WHERE room_id = ?1 AND seq_from <= ?2), 0) ORDER BY seq_from LIMIT ?4"
        );
        let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let rows = self.all("a chunk can't be read", &sql, params![room.0, clamp(from), clamp(to), clamp(limit as u64).max(1)], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let (tick_from, tick_to) = (summed_tick_at(row, 2)?, summed_tick_at(row, 3)?);
            let chunk = Chunk {
                from: number(0)?,
                to: number(1)?,
                tick_from,
                tick_to,
                fingerprint: Fingerprint(number(4)?),
                payload: bytes_at(row, 6)?,
            };
            Ok((chunk, row.get::<_, i64>(5)?))
        })?;
        let mut chunks = Vec::with_capacity(rows.len());
        for (chunk, sum) in rows {
            if sum_of_chunk(&chunk) != sum || !chunk.is_possible() {
                return Err(StoreError::damaged(&self.name_of(room), format!("{table} {} to {}", chunk.from, chunk.to), CHECKSUM));
            }
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    fn checkpoint(&mut self, room: RoomKey, tick: RoomTick, resumed: bool) -> Result<Option<Checkpoint>, StoreError> {
        let sql = "SELECT tick, resumed, fingerprint, sum, payload FROM checkpoint WHERE room_id = ?1 AND tick <= ?2 AND resumed >= ?3 \
                   ORDER BY tick DESC LIMIT 1";
        let mut rows = self.all("a checkpoint can't be read", sql, params![room.0, tick.0, resumed], |row| {
            let fingerprint = Fingerprint(row.get::<_, i64>(2)?.cast_unsigned());
            let checkpoint = Checkpoint { tick: summed_tick_at(row, 0)?, resumed: row.get(1)?, fingerprint, payload: bytes_at(row, 4)? };
            Ok((checkpoint, row.get::<_, i64>(3)?))
        })?;
        let Some((checkpoint, sum)) = rows.pop() else { return Ok(None) };
        if sum_of_checkpoint(&checkpoint) != sum {
            return Err(StoreError::damaged(&self.name_of(room), format!("the checkpoint of tick {}", checkpoint.tick), CHECKSUM));
        }
        Ok(Some(checkpoint))
    }

    fn checkpoints(&mut self, room: RoomKey) -> Result<Vec<(RoomTick, bool)>, StoreError> {
        let sql = "SELECT tick, resumed FROM checkpoint WHERE room_id = ?1 ORDER BY tick";
        self.all("the checkpoints", sql, [room.0], |row| Ok((tick_at(row, 0)?, row.get(1)?)))
    }

    fn add_checkpoint(&mut self, room: RoomKey, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        write_checkpoint(self.connection()?, room, checkpoint).map_err(StoreError::sqlite("a checkpoint can't be added"))
    }

    fn components(&mut self, room: RoomKey) -> Result<Entities, StoreError> {
        let sql = "SELECT entity_id, component_name, component FROM component WHERE room_id = ?1";
        let rows = self.all("the components", sql, [room.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(gathered(rows))
    }

    fn save_snippet(&mut self, room: RoomKey, snippet: &Snippet) -> Result<(), StoreError> {
        let members: Vec<String> = snippet.members.iter().map(ToString::to_string).collect();
        let members = serde_json::to_string(&members).unwrap_or_default();
        self.at_once("the snippet can't be saved", |connection| {
            let place = params![room.0, snippet.label];
            connection.execute("DELETE FROM snippet WHERE room_id = ?1 AND label = ?2", place)?;
            let sql = "INSERT OR REPLACE INTO snippet_label VALUES(?1, ?2, ?3, ?4)";
            connection.execute(sql, params![room.0, snippet.label, snippet.tick.0, members])?;
            for (entity, components) in &snippet.entities {
                let there = (String::new(), "null".to_owned());
                let there = components.is_empty().then_some((&there.0, &there.1));
                for (component, value) in components.iter().chain(there) {
                    let sql = "INSERT INTO snippet VALUES(?1, ?2, ?3, ?4, ?5)";
                    connection.execute(sql, params![room.0, snippet.label, entity, component, value])?;
                }
            }
            Ok(())
        })
    }

    fn snippet(&mut self, room: RoomKey, label: &str) -> Result<Option<Snippet>, StoreError> {
        let sql = "SELECT tick, members FROM snippet_label WHERE room_id = ?1 AND label = ?2";
        let head = self.all("a snippet", sql, params![room.0, label], |row| Ok((tick_at(row, 0)?, json_at::<Vec<String>>(row, 1)?)))?;
        let Some((tick, members)) = head.into_iter().next() else { return Ok(None) };
        let sql = "SELECT entity_id, component_name, component FROM snippet WHERE room_id = ?1 AND label = ?2";
        let rows = self.all("a snippet", sql, params![room.0, label], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let members = members.iter().map(|member| EntityId::parse(member)).collect();
        Ok(Some(Snippet { label: label.to_owned(), tick, members, entities: gathered(rows) }))
    }

    fn snippets(&mut self, room: RoomKey) -> Result<Vec<(String, RoomTick, u64)>, StoreError> {
        let sql = "SELECT label, tick, (SELECT count(DISTINCT entity_id) FROM snippet s WHERE s.room_id = l.room_id AND s.label = l.label) \
                   FROM snippet_label l WHERE room_id = ?1 ORDER BY label";
        self.all("the snippets", sql, [room.0], |row| Ok((row.get(0)?, tick_at(row, 1)?, row.get::<_, i64>(2)?.cast_unsigned())))
    }

    fn cursor(&mut self, projection: &str, room: RoomKey) -> Result<Option<(FactSeq, String)>, StoreError> {
        let sql = "SELECT seq, memory FROM projection WHERE name = ?1 AND room_id = ?2";
        let mut rows = self.all("a projection", sql, params![projection, room.0], |row| {
            Ok((FactSeq(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?))
        })?;
        Ok(rows.pop())
    }

    fn ask(&mut self, room: RoomKey, kind: &str, subject: &str) -> Result<i64, StoreError> {
        let sql = "INSERT INTO request(room_id, kind, subject) VALUES(?1, ?2, ?3)";
        self.run("the request can't be made", sql, params![room.0, kind, subject])?;
        Ok(self.connection()?.last_insert_rowid())
    }

    fn requests(&mut self) -> Result<Vec<Request>, StoreError> {
        // Some of each room: what is asked of a room that is not open waits, and is not to hide what is asked of others.
        let sql = "SELECT id, room_id, kind, subject FROM \
                   (SELECT *, row_number() OVER (PARTITION BY room_id ORDER BY id) AS place FROM request WHERE answer IS NULL) \
                   WHERE place <= 8 ORDER BY id";
        self.all("the requests", sql, [], |row| {
            Ok(Request { id: row.get(0)?, key: RoomKey(row.get(1)?), kind: row.get(2)?, subject: row.get(3)? })
        })
    }

    fn answer(&mut self, request: i64) -> Result<Option<String>, StoreError> {
        let mut rows = self.all("the answer", "SELECT answer FROM request WHERE id = ?1", [request], |row| row.get(0))?;
        Ok(rows.pop().flatten())
    }

    fn answer_open(&mut self, request: i64, answer: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE request SET answer = ?2 WHERE id = ?1 AND answer IS NULL";
        Ok(self.run("the request can't be answered", sql, params![request, answer])? == 1)
    }

    fn forget(&mut self, room: RoomKey, before: RoomTick, kinds: &[ChunkKind], checkpoints: bool) -> Result<u64, StoreError> {
        let mut rows = 0;
        for kind in kinds {
            let table = table(*kind);
            // The oldest first: what an interruption leaves has no gap.
            let sql = format!(
                "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE room_id = ?1 AND tick_to < ?2 ORDER BY seq_from LIMIT {DELETED_AT_ONCE})"
            );
            loop {
                let began = instant();
                let deleted = self.run("old chunks can't be deleted", &sql, params![room.0, before.0])?;
                rows += deleted;
                if deleted < DELETED_AT_ONCE {
                    break;
                }
                give_way(began);
            }
        }
        if checkpoints {
            let sql = "DELETE FROM checkpoint WHERE room_id = ?1 AND tick < ?2";
            rows += self.run("old checkpoints can't be deleted", sql, params![room.0, before.0])?;
        }
        Ok(rows as u64)
    }

    fn drop_checkpoints(&mut self, room: RoomKey, ticks: &[RoomTick]) -> Result<u64, StoreError> {
        let mut dropped = 0;
        for some in ticks.chunks(DELETED_AT_ONCE) {
            let began = instant();
            dropped += self.at_once("old checkpoints can't be deleted", |connection| {
                let sql = "DELETE FROM checkpoint WHERE room_id = ?1 AND tick = ?2";
                some.iter().map(|tick| connection.execute(sql, params![room.0, tick.0])).sum::<rusqlite::Result<usize>>()
            })?;
            if some.len() == DELETED_AT_ONCE {
                give_way(began);
            }
        }
        Ok(dropped as u64)
    }

    fn replace(&mut self, room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> Result<(), StoreError> {
        self.at_once("chunks can't be replaced", |connection| {
            if !are_whole(connection, room, kind, chunks)? {
                return Ok(());
            }
            for chunk in chunks {
                let sql = format!("DELETE FROM {} WHERE room_id = ?1 AND seq_from BETWEEN ?2 AND ?3", table(kind));
                let (from, to) = (chunk.from.cast_signed(), chunk.to.cast_signed());
                connection.execute(&sql, params![room.0, from, to])?;
                write_chunk(connection, room, kind, chunk)?;
            }
            Ok(())
        })
    }

    fn unused(&mut self, prefix: &str, unused_for: Duration, most: usize) -> Result<Vec<UnusedRoom>, StoreError> {
        self.unused_rooms(prefix, unused_for, most)
    }

    fn delete(&mut self, room: RoomKey, unused_for: Duration) -> Result<bool, StoreError> {
        self.delete_room(room, unused_for)
    }

    fn clear(&mut self) -> Result<bool, StoreError> {
        self.clear_some()
    }

    fn deleted(&mut self) -> Result<u64, StoreError> {
        self.deleted_rooms()
    }

    fn shrink(&mut self) -> Result<(), StoreError> {
        self.connection()?.execute_batch("VACUUM").map_err(StoreError::sqlite("the space can't be given back"))
    }

    fn examine(&mut self) -> Result<Vec<String>, StoreError> {
        let mut found = self.all("the check of the file", "PRAGMA integrity_check(20)", [], |row| row.get::<_, String>(0))?;
        found.retain(|line| line != "ok");
        found.append(&mut self.missing()?);
        Ok(found)
    }

    fn is_served(&mut self) -> Result<bool, StoreError> {
        Ok(is_served(&self.folder))
    }

    fn missing(&mut self) -> Result<Vec<String>, StoreError> {
        // In this order: who writes meanwhile commits a flush before it is noted.
        let marked = self.marked_flush();
        let last = self.last_flush()?;
        Ok(match marked.map_or(0, |marked| marked.saturating_sub(last)) {
            0 => Vec::new(),
            missing => vec![format!(
                "{missing} flushes after flush {last} were committed once and are missing: the tail of SQLite's journal was damaged, or the data \
                 was put back from a copy"
            )],
        })
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.connect()
    }

    fn reader(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(Self::read(self.folder.clone())?))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.all("the journal can't be put into its place", sql, [], |_| Ok(())).map(drop)
    }
}
