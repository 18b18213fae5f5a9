//! The rows of the database: how each is read, and what is written beside the flushes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::super::chain::Chain;
use super::super::directory::Token;
use super::super::error::{CHECKSUM, StoreError};
use super::super::frame::{HotTick, join_frame, read_frame};
use super::super::record::{Entities, Head, RoomHeader, Snippet};
use super::super::recovery::seal_of;
use super::super::sums::{
    LEDGER_TABLES, chain_of, gathered, head_of, lost_header, sum_of, sum_of_checkpoint, sum_of_chunk, sum_of_head, table, tick_of,
};
use super::super::tables::{Checkpoint, Chunk, ChunkKind, Flush, Request, RoomKey, Store, StoredRoom, UnusedRoom, possible};
use super::connection::{Connection, Parameters, refused};
use super::write::{check_leases, sum_of_journal, write_checkpoint, write_chunks, write_seals};
use super::{PostgresOptions, PostgresStore, Role, text};
use crate::protocol::{Description, EntityId, FactSeq, Fingerprint, RoomTick};

/// How many old chunks are deleted by one statement, which may take only so long.
const DELETED_AT_ONCE: u64 = 10_000;

/// How long the database may take to give back the space of a table.
const VACUUM_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// A column of a row.
pub(super) fn at<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| refused("a row can't be read", &error))
}

/// A number without sign, which stands with one.
pub(super) fn number_at(row: &Row, column: usize) -> Result<u64, StoreError> {
    at::<i64>(row, column).map(i64::cast_unsigned)
}

fn tick_at(row: &Row, column: usize) -> Result<RoomTick, StoreError> {
    let number: i64 = at(row, column)?;
    let what = "a row can't be read";
    u32::try_from(number).map(RoomTick).map_err(|_| StoreError::Postgres { what, detail: format!("{number} is no tick"), code: None })
}

/// A tick of a row with a checksum. A number that is no tick is read as the last one of all, with which the checksum does not agree: it must
/// not keep anybody from reading the rows beside it.
fn summed_tick_at(row: &Row, column: usize) -> Result<RoomTick, StoreError> {
    at(row, column).map(tick_of)
}

fn json_at<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> Result<T, StoreError> {
    let what = "a row can't be read";
    let failed = |error: serde_json::Error| StoreError::Postgres { what, detail: error.to_string(), code: None };
    serde_json::from_str(at(row, column)?).map_err(failed)
}

/// What [`room_at`] reads, in its order.
const ROOM_COLUMNS: &str = "room_id, header, sealed_tick, sealed_seq, chain, components_tick, fingerprint, name, header_sum, sum";

fn room_at(row: &Row) -> Result<StoredRoom, StoreError> {
    let (tick, seq): (Option<i64>, Option<i64>) = (at(row, 2)?, at(row, 3)?);
    let text: &str = at(row, 1)?;
    let header = serde_json::from_str(text).or_else(|_| at(row, 7).map(lost_header))?;
    let (chain, fingerprint): (&[u8], i64) = (at(row, 4)?, at(row, 6)?);
    let sum = sum_of_head(fingerprint, tick.map(|tick| tick_of(tick).0), seq, chain);
    let components_tick = at::<Option<i64>>(row, 5)?.map(tick_of);
    let sealed = head_of(tick, seq);
    let is_possible = sealed.is_none_or(|head| head.is_possible()) && components_tick.is_none_or(|tick| tick.0 < u32::MAX);
    let intact = sum_of(text.as_bytes()) == at::<i64>(row, 8)? && sum == at::<i64>(row, 9)? && is_possible;
    Ok(StoredRoom {
        key: RoomKey(at(row, 0)?),
        sealed,
        chain: chain_of(chain, &header),
        header,
        components_tick,
        fingerprint: Fingerprint(fingerprint.cast_unsigned()),
        intact,
    })
}

fn chunk_at(row: &Row, kind: ChunkKind) -> Result<(Chunk, i64), StoreError> {
    let payload = match kind {
        ChunkKind::Ticks => at::<&[u8]>(row, 6)?,
        ChunkKind::Facts | ChunkKind::Refusals => at::<&str>(row, 6)?.as_bytes(),
    };
    let (tick_from, tick_to, fingerprint) = (summed_tick_at(row, 2)?, summed_tick_at(row, 3)?, Fingerprint(number_at(row, 4)?));
    Ok((
        Chunk { from: number_at(row, 0)?, to: number_at(row, 1)?, tick_from, tick_to, fingerprint, payload: payload.to_vec() },
        at(row, 5)?,
    ))
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A row of the journal: its room, its flush, its bytes, and whether they are what was written.
type JournalRow = (RoomKey, u64, Vec<u8>, bool);

const JOURNAL: &str = "the journal";

fn journal_rows(connection: &mut Connection, filter: &str, parameters: Parameters<'_>) -> Result<Vec<JournalRow>, StoreError> {
    let sql = format!("SELECT room_id, flush, sum, frame FROM journal {filter} ORDER BY room_id, token, flush");
    let rows = connection.query(JOURNAL, &sql, parameters)?;
    let row = |row: &Row| {
        let (key, flush, frame) = (RoomKey(at(row, 0)?), number_at(row, 1)?, at::<&[u8]>(row, 3)?);
        let intact = sum_of_journal(key, flush, frame) == at::<i64>(row, 2)?;
        Ok((key, flush, frame.to_vec(), intact))
    };
    rows.iter().map(row).collect()
}

/// Journals of one room each. What is damaged, and what follows it of the same room, stands at the end: no other room is cut off by it.
fn as_frames(rows: Vec<JournalRow>) -> Vec<(u64, Vec<u8>, bool)> {
    let (mut whole, mut damaged, mut torn) = (Vec::new(), Vec::new(), None);
    for (key, flush, frame, intact) in rows {
        let frame = join_frame(&[(key, &frame)]);
        if intact && torn != Some(key) {
            whole.push((flush, frame, true));
        } else {
            torn = Some(key);
            damaged.push((flush, frame, false));
        }
    }
    whole.append(&mut damaged);
    whole
}

impl PostgresStore {
    pub(super) fn all<T>(
        &mut self,
        what: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.connection()?.query(what, sql, parameters)?.iter().map(read).collect()
    }

    pub(super) fn run(&mut self, what: &'static str, sql: &str, parameters: Parameters<'_>) -> Result<u64, StoreError> {
        self.connection()?.execute(what, sql, parameters)
    }

    fn name_of(&mut self, room: RoomKey) -> String {
        let name = self.all("the table of rooms", "SELECT name FROM room WHERE room_id = $1", &[&room.0], |row| at(row, 0));
        name.ok().and_then(|mut names| names.pop()).unwrap_or_else(|| format!("number {}", room.0))
    }

    /// The token by which a room is opened, where leases are asked for.
    fn token_of(&self, room: &str) -> Result<Option<Token>, StoreError> {
        let Some(leases) = &self.leases else { return Ok(None) };
        leases.opened(room).map(Some).ok_or_else(|| StoreError::Lost { rooms: vec![room.to_owned()] })
    }
}

/// Notes a room within a transaction.
fn note_room(connection: &mut Connection, header: &RoomHeader, protocol: &Description) -> Result<RoomKey, StoreError> {
    let what = "the table of rooms";
    let fingerprint = protocol.fingerprint().0.cast_signed();
    let description = serde_json::to_string(protocol).unwrap_or_default();
    let sql = "INSERT INTO protocol VALUES($1, $2) ON CONFLICT DO NOTHING";
    connection.execute("the table of protocols", sql, &[&fingerprint, &text(&description)])?;
    let sql = "INSERT INTO room(name, uid, header, fingerprint, chain, header_sum, sum) VALUES($1, $2, $3, $4, $5, $6, $7) \
               ON CONFLICT(name) DO UPDATE SET uid = excluded.uid, header = excluded.header, fingerprint = excluded.fingerprint, \
               chain = excluded.chain, header_sum = excluded.header_sum, sum = excluded.sum WHERE room.sealed_tick IS NULL";
    let written = serde_json::to_string(header).unwrap_or_default();
    let (uid, chain) = (header.id().to_string(), Chain::new(header.id()).0);
    let sum = sum_of_head(fingerprint, None, None, &chain);
    let (name, header_sum) = (text(&header.name), sum_of(written.as_bytes()));
    connection.execute(what, sql, &[&name, &uid, &written, &fingerprint, &chain.as_slice(), &header_sum, &sum])?;
    for table in LEDGER_TABLES {
        let sql = format!("DELETE FROM {table} WHERE room_id = (SELECT room_id FROM room WHERE name = $1 AND sealed_tick IS NULL)");
        connection.execute("what an interrupted copy left can't be deleted", &sql, &[&name])?;
    }
    let rows = connection.query(what, "SELECT room_id FROM room WHERE name = $1", &[&name])?;
    let key = rows.first().map(|row| at(row, 0)).transpose()?;
    key.map(RoomKey).ok_or_else(|| StoreError::damaged(&header.name, "its row", "it is not there"))
}

/// Seals what stands in the journal of a room, whoever wrote it, within a transaction that holds the room's lease.
fn seal_what_was_left(connection: &mut Connection, room: &StoredRoom) -> Result<Vec<String>, StoreError> {
    let (mut found, mut ticks): (Vec<String>, Vec<HotTick>) = Default::default();
    for (number, frame, intact) in as_frames(journal_rows(connection, "WHERE room_id = $1", &[&room.key.0])?) {
        let read = if intact { read_frame(&frame, None).map_err(|error| error.to_string()) } else { Err(CHECKSUM.to_owned()) };
        match read {
            Ok(rooms) => ticks.extend(rooms.into_iter().flat_map(|(_, ticks)| ticks)),
            Err(detail) => {
                found.push(format!("room {:?}: its journal is damaged from flush {number} on ({detail}) and cut off", room.header.name));
                break;
            }
        }
    }
    if let Some(seal) = seal_of(room, ticks, &mut |finding| found.push(finding)) {
        write_seals(connection, &[seal])?;
    }
    connection.execute(JOURNAL, "DELETE FROM journal WHERE room_id = $1", &[&room.key.0])?;
    Ok(found)
}

/// Whether what chunks are to be put in the place of is there, from the first to the last; of a room of which nothing is sealed, in any case.
/// What is there is locked: of two who put it together, the second sees what the first made of it.
fn are_whole(connection: &mut Connection, room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> Result<bool, StoreError> {
    let what = "chunks can't be replaced";
    let sealed = "SELECT sealed_tick IS NOT NULL FROM room WHERE room_id = $1";
    match connection.query(what, sealed, &[&room.0])?.first().map(|row| at::<bool>(row, 0)).transpose()? {
        // It was deleted meanwhile.
        None => return Ok(false),
        Some(false) => return Ok(true),
        Some(true) => {}
    }
    let sql = format!(
        "SELECT seq_from, seq_to FROM {} WHERE room_id = $1 AND seq_from BETWEEN $2 AND $3 ORDER BY seq_from FOR UPDATE",
        table(kind)
    );
    for chunk in chunks {
        let (from, to) = (chunk.from.cast_signed(), chunk.to.cast_signed());
        let found = connection.query(what, &sql, &[&room.0, &from, &to])?;
        let first: Option<i64> = found.first().map(|row| at(row, 0)).transpose()?;
        let last: Option<i64> = found.last().map(|row| at(row, 1)).transpose()?;
        if (first, last) != (Some(from), Some(to)) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Store for PostgresStore {
    fn rooms(&mut self) -> Result<Vec<StoredRoom>, StoreError> {
        self.all("the table of rooms", &format!("SELECT {ROOM_COLUMNS} FROM room ORDER BY room_id"), &[], room_at)
    }

    fn room_heads(&mut self) -> Result<Vec<(String, Option<Head>)>, StoreError> {
        let sql = "SELECT name, sealed_tick, sealed_seq FROM room ORDER BY room_id";
        self.all("the table of rooms", sql, &[], |row| Ok((at(row, 0)?, head_of(at(row, 1)?, at(row, 2)?))))
    }

    fn room(&mut self, name: &str) -> Result<Option<StoredRoom>, StoreError> {
        let sql = format!("SELECT {ROOM_COLUMNS} FROM room WHERE name = $1");
        Ok(self.all("the table of rooms", &sql, &[&text(name)], room_at)?.pop())
    }

    fn sealed(&mut self, room: RoomKey) -> Result<Option<Head>, StoreError> {
        let sql = "SELECT sealed_tick, sealed_seq FROM room WHERE room_id = $1 AND sealed_tick IS NOT NULL";
        let heads = self.all("the table of rooms", sql, &[&room.0], |row| Ok(head_of(at(row, 0)?, at(row, 1)?)))?;
        possible(heads.first().copied().flatten(), || self.name_of(room))
    }

    fn enter(&mut self, header: &RoomHeader, protocol: &Description) -> Result<RoomKey, StoreError> {
        let token = self.token_of(&header.name)?;
        let host = self.host.clone();
        let opened = (header.name.clone(), token.unwrap_or_default());
        let key = self.connection()?.transaction("the table of rooms", |connection| {
            if token.is_some() {
                check_leases(connection, &host, &BTreeMap::from([(RoomKey(0), opened.clone())]))?;
            }
            note_room(connection, header, protocol)
        })?;
        if token.is_some() {
            self.opened.insert(key, opened);
            self.lost.remove(&key);
            self.left.remove(&key);
        }
        Ok(key)
    }

    fn take_over(&mut self, room: &str) -> Result<Vec<String>, StoreError> {
        let Some(leases) = self.leases.clone() else { return Ok(Vec::new()) };
        let token = leases.open(room).ok_or_else(|| StoreError::Lost { rooms: vec![room.to_owned()] })?;
        let host = self.host.clone();
        self.connection()?.transaction("a room can't be taken over", |connection| {
            check_leases(connection, &host, &BTreeMap::from([(RoomKey(0), (room.to_owned(), token))]))?;
            let sql = format!("SELECT {ROOM_COLUMNS} FROM room WHERE name = $1");
            let rows = connection.query("the table of rooms", &sql, &[&text(room)])?;
            let Some(stored) = rows.first().map(room_at).transpose()?.filter(|stored| stored.intact) else { return Ok(Vec::new()) };
            seal_what_was_left(connection, &stored)
        })
    }

    fn protocol(&mut self, fingerprint: Fingerprint) -> Result<Option<Description>, StoreError> {
        let sql = "SELECT description FROM protocol WHERE fingerprint = $1";
        Ok(self.all("the table of protocols", sql, &[&fingerprint.0.cast_signed()], |row| json_at(row, 0))?.pop())
    }

    fn commit(&mut self, flush: &Flush) -> Result<(), StoreError> {
        self.write_flush(flush)
    }

    fn last_flush(&mut self) -> Result<u64, StoreError> {
        let host = self.host.clone();
        let found = self.all("the last flush", "SELECT flush FROM mark WHERE host = $1", &[&host], |row| number_at(row, 0))?;
        Ok(found.first().copied().unwrap_or(0))
    }

    fn journal(&mut self) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError> {
        if self.leases.is_some() && matches!(self.role, Role::Writes { .. }) {
            // What stands there is other hosts', or is sealed when its room is taken over.
            return Ok(Vec::new());
        }
        Ok(as_frames(journal_rows(self.connection()?, "", &[])?))
    }

    fn journal_of(&mut self, room: RoomKey) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError> {
        Ok(as_frames(journal_rows(self.connection()?, "WHERE room_id = $1", &[&room.0])?))
    }

    fn chunks(&mut self, room: RoomKey, kind: ChunkKind, from: u64, to: u64, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        let table = table(kind);
        // The chunk that `from` is in begins at or before it.
        let sql = format!(
            "SELECT seq_from, seq_to, tick_from, tick_to, fingerprint, sum, payload FROM {table} WHERE room_id = $1 AND seq_from <= $3 AND seq_to >= $2 AND \
             seq_from >= coalesce((SELECT max(seq_from) FROM {table} WHERE room_id = $1 AND seq_from <= $2), 0) ORDER BY seq_from LIMIT $4"
        );
        let parameters: Parameters<'_> = &[&room.0, &clamp(from), &clamp(to), &clamp(limit as u64).max(1)];
        let rows = self.all("a chunk can't be read", &sql, parameters, |row| chunk_at(row, kind))?;
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
        let sql = "SELECT tick, resumed, fingerprint, sum, payload FROM checkpoint WHERE room_id = $1 AND tick <= $2 AND (resumed OR NOT $3) \
                   ORDER BY tick DESC LIMIT 1";
        let parameters: Parameters<'_> = &[&room.0, &i64::from(tick.0), &resumed];
        let mut rows = self.all("a checkpoint can't be read", sql, parameters, |row| {
            let fingerprint = Fingerprint(number_at(row, 2)?);
            let payload = at::<&[u8]>(row, 4)?.to_vec();
            Ok((Checkpoint { tick: summed_tick_at(row, 0)?, resumed: at(row, 1)?, fingerprint, payload }, at::<i64>(row, 3)?))
        })?;
        let Some((checkpoint, sum)) = rows.pop() else { return Ok(None) };
        if sum_of_checkpoint(&checkpoint) != sum {
            return Err(StoreError::damaged(&self.name_of(room), format!("the checkpoint of tick {}", checkpoint.tick), CHECKSUM));
        }
        Ok(Some(checkpoint))
    }

    fn checkpoints(&mut self, room: RoomKey) -> Result<Vec<(RoomTick, bool)>, StoreError> {
        let sql = "SELECT tick, resumed FROM checkpoint WHERE room_id = $1 ORDER BY tick";
        self.all("the checkpoints", sql, &[&room.0], |row| Ok((tick_at(row, 0)?, at(row, 1)?)))
    }

    fn add_checkpoint(&mut self, room: RoomKey, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        write_checkpoint(self.connection()?, room, checkpoint)
    }

    fn components(&mut self, room: RoomKey) -> Result<Entities, StoreError> {
        let sql = "SELECT entity_id, component_name, component FROM component WHERE room_id = $1";
        self.all("the components", sql, &[&room.0], |row| Ok((at(row, 0)?, at(row, 1)?, at(row, 2)?))).map(gathered)
    }

    fn save_snippet(&mut self, room: RoomKey, snippet: &Snippet) -> Result<(), StoreError> {
        let what = "the snippet can't be saved";
        let members: Vec<String> = snippet.members.iter().map(ToString::to_string).collect();
        let members = serde_json::to_string(&members).unwrap_or_default();
        let (label, tick) = (text(&snippet.label), i64::from(snippet.tick.0));
        let (mut entities, mut components, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (entity, all) in &snippet.entities {
            let there = all.is_empty().then_some(("", "null"));
            for (component, value) in all.iter().map(|(component, value)| (component.as_str(), value.as_str())).chain(there) {
                entities.push(text(entity));
                components.push(text(component));
                values.push(text(value));
            }
        }
        self.connection()?.transaction(what, |connection| {
            let sql = "INSERT INTO snippet_label VALUES($1, $2, $3, $4) \
                       ON CONFLICT(room_id, label) DO UPDATE SET tick = excluded.tick, members = excluded.members";
            connection.execute(what, sql, &[&room.0, &label, &tick, &members])?;
            connection.execute(what, "DELETE FROM snippet WHERE room_id = $1 AND label = $2", &[&room.0, &label])?;
            let sql = "INSERT INTO snippet SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[])";
            connection.execute(what, sql, &[&room.0, &label, &entities, &components, &values]).map(drop)
        })
    }

    fn snippet(&mut self, room: RoomKey, label: &str) -> Result<Option<Snippet>, StoreError> {
        let sql = "SELECT tick, members FROM snippet_label WHERE room_id = $1 AND label = $2";
        let head = self.all("a snippet", sql, &[&room.0, &text(label)], |row| Ok((tick_at(row, 0)?, json_at::<Vec<String>>(row, 1)?)))?;
        let Some((tick, members)) = head.into_iter().next() else { return Ok(None) };
        let sql = "SELECT entity_id, component_name, component FROM snippet WHERE room_id = $1 AND label = $2";
        let rows = self.all("a snippet", sql, &[&room.0, &text(label)], |row| Ok((at(row, 0)?, at(row, 1)?, at(row, 2)?)))?;
        let members = members.iter().map(|member| EntityId::parse(member)).collect();
        Ok(Some(Snippet { label: label.to_owned(), tick, members, entities: gathered(rows) }))
    }

    fn snippets(&mut self, room: RoomKey) -> Result<Vec<(String, RoomTick, u64)>, StoreError> {
        // As bytes: a database sorts texts by its language.
        let sql = "SELECT label, tick, (SELECT count(DISTINCT entity_id) FROM snippet s WHERE s.room_id = l.room_id AND s.label = l.label) \
                   FROM snippet_label l WHERE room_id = $1 ORDER BY label COLLATE \"C\"";
        self.all("the snippets", sql, &[&room.0], |row| Ok((at(row, 0)?, tick_at(row, 1)?, number_at(row, 2)?)))
    }

    fn cursor(&mut self, projection: &str, room: RoomKey) -> Result<Option<(FactSeq, String)>, StoreError> {
        let sql = "SELECT seq, memory FROM projection WHERE name = $1 AND room_id = $2";
        let mut rows = self.all("a projection", sql, &[&text(projection), &room.0], |row| {
            Ok((FactSeq(number_at(row, 0)?), String::from_utf8_lossy(at(row, 1)?).into_owned()))
        })?;
        Ok(rows.pop())
    }

    fn ask(&mut self, room: RoomKey, kind: &str, subject: &str) -> Result<i64, StoreError> {
        let (what, sql) = ("the request can't be made", "INSERT INTO request(room_id, kind, subject) VALUES($1, $2, $3) RETURNING id");
        let ids = self.all(what, sql, &[&room.0, &text(kind), &text(subject)], |row| at(row, 0))?;
        ids.first().copied().ok_or_else(|| StoreError::Postgres { what, detail: "it got no number".to_owned(), code: None })
    }

    fn requests(&mut self) -> Result<Vec<Request>, StoreError> {
        let request = |row: &Row| Ok(Request { id: at(row, 0)?, key: RoomKey(at(row, 1)?), kind: at(row, 2)?, subject: at(row, 3)? });
        // Some of each room: what is asked of a room that is not open waits, and is not to hide what is asked of others.
        let some_of = |open: &str| {
            format!(
                "SELECT id, room_id, kind, subject FROM \
                 (SELECT request.*, row_number() OVER (PARTITION BY room_id ORDER BY id) AS place FROM request {open} AND answer IS NULL) few \
                 WHERE place <= 8 ORDER BY id"
            )
        };
        if self.leases.is_none() {
            return self.all("the requests", &some_of("WHERE true"), &[], request);
        }
        let host = self.host.clone();
        let sql = some_of("JOIN room USING(room_id) JOIN lease ON lease.room = room.name WHERE lease.host = $1");
        self.all("the requests", &sql, &[&host], request)
    }

    fn answer(&mut self, request: i64) -> Result<Option<String>, StoreError> {
        let mut rows = self.all("the answer", "SELECT answer FROM request WHERE id = $1", &[&request], |row| at(row, 0))?;
        Ok(rows.pop().flatten())
    }

    fn answer_open(&mut self, request: i64, answer: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE request SET answer = $2 WHERE id = $1 AND answer IS NULL";
        Ok(self.run("the request can't be answered", sql, &[&request, &answer])? == 1)
    }

    fn forget(&mut self, room: RoomKey, before: RoomTick, kinds: &[ChunkKind], checkpoints: bool) -> Result<u64, StoreError> {
        let (mut rows, before) = (0, i64::from(before.0));
        for kind in kinds {
            // The oldest first: what an interruption leaves has no gap.
            let sql = format!(
                "DELETE FROM {0} USING (SELECT seq_from FROM {0} WHERE room_id = $1 AND tick_to < $2 ORDER BY seq_from LIMIT {DELETED_AT_ONCE}) AS old \
                 WHERE {0}.room_id = $1 AND {0}.seq_from = old.seq_from",
                table(*kind)
            );
            loop {
                let deleted = self.run("old chunks can't be deleted", &sql, &[&room.0, &before])?;
                rows += deleted;
                if deleted < DELETED_AT_ONCE {
                    break;
                }
            }
        }
        if checkpoints {
            let sql = "DELETE FROM checkpoint WHERE room_id = $1 AND tick < $2";
            rows += self.run("old checkpoints can't be deleted", sql, &[&room.0, &before])?;
        }
        Ok(rows)
    }

    fn drop_checkpoints(&mut self, room: RoomKey, ticks: &[RoomTick]) -> Result<u64, StoreError> {
        let ticks: Vec<i64> = ticks.iter().map(|tick| i64::from(tick.0)).collect();
        let sql = "DELETE FROM checkpoint WHERE room_id = $1 AND tick = ANY($2)";
        self.run("old checkpoints can't be deleted", sql, &[&room.0, &ticks])
    }

    fn replace(&mut self, room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> Result<(), StoreError> {
        let what = "chunks can't be replaced";
        let bounds = |of: fn(&Chunk) -> u64| chunks.iter().map(|chunk| of(chunk).cast_signed()).collect::<Vec<i64>>();
        let (from, to) = (bounds(|chunk| chunk.from), bounds(|chunk| chunk.to));
        let new: Vec<(RoomKey, &Chunk)> = chunks.iter().map(|chunk| (room, chunk)).collect();
        let sql = format!(
            "DELETE FROM {0} USING unnest($2::bigint[], $3::bigint[]) AS new(seq_from, seq_to) \
             WHERE {0}.room_id = $1 AND {0}.seq_from BETWEEN new.seq_from AND new.seq_to",
            table(kind)
        );
        self.connection()?.transaction(what, |connection| {
            if !are_whole(connection, room, kind, chunks)? {
                return Ok(());
            }
            connection.execute(what, &sql, &[&room.0, &from, &to])?;
            write_chunks(connection, kind, &new)
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
        // Not the kind that locks a table while it is rewritten: somebody may be playing.
        let mut connection = self.options.connect(VACUUM_WITHIN)?;
        for kind in ChunkKind::ALL {
            connection.batch("the space can't be given back", &format!("VACUUM {}", table(kind)))?;
        }
        connection.batch("the space can't be given back", "VACUUM checkpoint")
    }

    fn examine(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on' ORDER BY name";
        let off = self.all("the settings of the database", sql, &[], |row| at::<String>(row, 0))?;
        let mut found: Vec<String> = off
            .into_iter()
            .map(|name| format!("the database has {name} off: it may lose or damage what it stored when power fails"))
            .collect();
        found.append(&mut self.missing()?);
        Ok(found)
    }

    fn is_served(&mut self) -> Result<bool, StoreError> {
        PostgresStore::is_served(self)
    }

    fn missing(&mut self) -> Result<Vec<String>, StoreError> {
        // Who wrote last is asked when it writes: the number of the last flush must not go back.
        Ok(Vec::new())
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.connect()
    }

    fn reader(&self) -> Result<Box<dyn Store>, StoreError> {
        self.reader_within(self.options.reading_patience)
    }

    fn reader_within(&self, patience: Duration) -> Result<Box<dyn Store>, StoreError> {
        let (patience, reading_patience) = (self.options.patience.min(patience), self.options.reading_patience.min(patience));
        let options = PostgresOptions { patience, reading_patience, ..self.options.clone() };
        Ok(Box::new(Self::read_as(&options, &self.host, self.leases.clone())?))
    }

    fn leave(&mut self, room: RoomKey) {
        if let (Role::Writes { stored, .. }, true) = (&self.role, self.opened.contains_key(&room)) {
            self.left.insert(room, *stored);
        }
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
