//! A flush on its way into the tables: one transaction, a statement for each table however many rooms there are.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::ToSql;

use super::super::directory::Token;
use super::super::error::StoreError;
use super::super::frame::split_frame;
use super::super::sums::{sum_of_checkpoint, sum_of_chunk, sum_of_head, sum_with_place, table};
use super::super::tables::{Checkpoint, Chunk, ChunkKind, ComponentWrites, Flush, RoomKey, Seal};
use super::connection::{Connection, refused};
use super::{PostgresStore, Role, text};

pub(super) const FLUSH: &str = "a flush can't be written";

/// Most rows that are sent with one statement: a message has a limit, and so has the time for an answer.
const ROWS_AT_ONCE: usize = 10_000;

/// What the transaction of a flush came to.
enum Came {
    Written,
    /// It had been committed before, when the answer did not arrive.
    Already,
}

/// A checksum over the journal of a room and where it belongs.
pub(super) fn sum_of_journal(room: RoomKey, flush: u64, frame: &[u8]) -> i64 {
    sum_with_place(&[room.0.cast_unsigned(), flush], frame)
}

impl PostgresStore {
    /// Writes a flush, once: one that was committed before, though nobody heard of it, is not written again.
    pub(super) fn write_flush(&mut self, flush: &Flush) -> Result<(), StoreError> {
        let Role::Writes { run: Some(run), stored } = &self.role else { return Err(StoreError::Stopped) };
        let (run, stored) = (run.clone(), *stored);
        let frames = split_frame(&flush.frame)?;
        let keys = frames.iter().map(|(key, _)| *key).chain(flush.seals.iter().map(|seal| seal.key)).collect();
        let (rooms, strangers) = self.tokens(&keys);
        if !strangers.is_empty() {
            return Err(StoreError::Lost { rooms: strangers });
        }
        let (host, fenced, whom) = (self.host.clone(), self.leases.is_some(), self.whom());
        let open: Vec<i64> = self.opened.keys().filter(|key| !self.lost.contains(key)).map(|key| key.0).collect();
        let connection = self.connection()?;
        let came = connection.transaction(FLUSH, |connection| {
            if !take_number(connection, &host, &run, flush.number, stored, &whom)? {
                return Ok(Came::Already);
            }
            if fenced {
                check_leases(connection, &host, &rooms)?;
            }
            write_journal(connection, &host, flush.number, &frames, &rooms)?;
            write_seals(connection, &flush.seals)?;
            forget_journal(connection, &host, flush.journal_done, fenced.then_some(open.as_slice()))?;
            write_cursors(connection, flush, fenced)?;
            write_answers(connection, flush, &host, fenced)?;
            Ok(Came::Written)
        });
        if let Err(StoreError::Lost { rooms }) = &came {
            let lost = self.opened.iter().filter(|(_, (name, _))| rooms.contains(name)).map(|(key, _)| *key);
            self.lost.extend(lost);
        }
        if let (Came::Already, number) = (came?, flush.number) {
            tracing::debug!(number, "a flush was stored before, and its answer lost");
        }
        self.role = Role::Writes { run: Some(run), stored: flush.number };
        for (key, _) in self.left.extract_if(.., |_, last| *last <= flush.journal_done) {
            self.opened.remove(&key);
            self.lost.remove(&key);
        }
        Ok(())
    }

    /// The tokens by which rooms are written; and the names of those for which there is none.
    fn tokens(&self, keys: &BTreeSet<RoomKey>) -> (BTreeMap<RoomKey, (String, Token)>, Vec<String>) {
        let (mut rooms, mut strangers) = (BTreeMap::new(), Vec::new());
        for key in keys {
            match self.opened.get(key) {
                Some(opened) => drop(rooms.insert(*key, opened.clone())),
                None if self.leases.is_none() => drop(rooms.insert(*key, (String::new(), Token(0)))),
                None => strangers.push(format!("room number {}", key.0)),
            }
        }
        (rooms, strangers)
    }
}

/// Takes the number of a flush, and with it the lock that lets one transaction of the host after the other. False if the flush is there.
fn take_number(connection: &mut Connection, host: &str, run: &str, number: u64, stored: u64, whom: &str) -> Result<bool, StoreError> {
    let (number, stored) = (number.cast_signed(), stored.cast_signed());
    let sql = "UPDATE mark SET flush = $3 WHERE host = $1 AND run::text = $2 AND flush < $3 AND flush >= $4";
    if connection.execute(FLUSH, sql, &[&host, &run, &number, &stored])? == 1 {
        return Ok(true);
    }
    let rows = connection.query(FLUSH, "SELECT run::text = $2, flush FROM mark WHERE host = $1", &[&host, &run])?;
    let Some(row) = rows.first() else { return Err(StoreError::WentBack { found: 0, stored: stored.cast_unsigned() }) };
    let failed = |error| refused(FLUSH, &error);
    let (ours, found): (bool, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if !ours {
        return Err(StoreError::Served { place: whom.to_owned() });
    }
    if found < stored {
        return Err(StoreError::WentBack { found: found.cast_unsigned(), stored: stored.cast_unsigned() });
    }
    Ok(false)
}

/// Makes sure that rooms are this host's, and that they stay so until the transaction ends: whoever takes one over waits for its lease.
/// All who lock several leases do so in the order of the rooms' names, so that nobody waits for who waits for them.
pub(super) fn check_leases(connection: &mut Connection, host: &str, rooms: &BTreeMap<RoomKey, (String, Token)>) -> Result<(), StoreError> {
    if rooms.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = rooms.values().map(|(name, _)| text(name)).collect();
    // Not joined with the tokens: as long as the table is new, the planner takes that for less work than it is.
    let sql = "SELECT room, token FROM lease WHERE room = ANY($2) AND host = $1 AND expires > clock_timestamp() ORDER BY room FOR SHARE";
    let what = "the leases can't be checked";
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    for row in connection.query(what, sql, &[&host, &names])? {
        let failed = |error| refused(what, &error);
        held.insert(row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    }
    let is_lost = |(name, token): &&(String, Token)| held.get(&*text(name)) != Some(&token.0.cast_signed());
    let lost: Vec<String> = rooms.values().filter(is_lost).map(|(name, _)| name.clone()).collect();
    if lost.is_empty() { Ok(()) } else { Err(StoreError::Lost { rooms: lost }) }
}

fn write_journal(
    connection: &mut Connection,
    host: &str,
    flush: u64,
    frames: &[(RoomKey, &[u8])],
    rooms: &BTreeMap<RoomKey, (String, Token)>,
) -> Result<(), StoreError> {
    if frames.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = frames.iter().map(|(key, _)| key.0).collect();
    let tokens: Vec<i64> = frames.iter().map(|(key, _)| rooms.get(key).map_or(0, |(_, token)| token.0.cast_signed())).collect();
    let sums: Vec<i64> = frames.iter().map(|(key, frame)| sum_of_journal(*key, flush, frame)).collect();
    let frames: Vec<&[u8]> = frames.iter().map(|(_, frame)| *frame).collect();
    let sql = "INSERT INTO journal SELECT room_id, $1, $2, token, sum, frame \
               FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) AS new(room_id, token, sum, frame)";
    connection.execute(FLUSH, sql, &[&host, &flush.cast_signed(), &keys, &tokens, &sums, &frames]).map(drop)
}

pub(super) fn write_chunks(connection: &mut Connection, kind: ChunkKind, chunks: &[(RoomKey, &Chunk)]) -> Result<(), StoreError> {
    for chunks in chunks.chunks(ROWS_AT_ONCE) {
        let numbers = |of: fn(&Chunk) -> u64| chunks.iter().map(|(_, chunk)| of(chunk).cast_signed()).collect::<Vec<i64>>();
        let (from, to) = (numbers(|chunk| chunk.from), numbers(|chunk| chunk.to));
        let (tick_from, tick_to) = (numbers(|chunk| chunk.tick_from.0.into()), numbers(|chunk| chunk.tick_to.0.into()));
        let fingerprints = numbers(|chunk| chunk.fingerprint.0);
        let keys: Vec<i64> = chunks.iter().map(|(key, _)| key.0).collect();
        let sums: Vec<i64> = chunks.iter().map(|(_, chunk)| sum_of_chunk(chunk)).collect();
        let bytes: Vec<&[u8]> = chunks.iter().map(|(_, chunk)| chunk.payload.as_slice()).collect();
        // Texts of ours hold no 0: JSON writes it otherwise.
        let texts: Vec<_> = bytes.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
        let (form, payloads): (_, &(dyn ToSql + Sync)) = if kind == ChunkKind::Ticks { ("bytea", &bytes) } else { ("text", &texts) };
        let sql = format!(
            "INSERT INTO {} SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::{form}[])",
            table(kind)
        );
        connection.execute(FLUSH, &sql, &[&keys, &from, &to, &tick_from, &tick_to, &fingerprints, &sums, payloads])?;
    }
    Ok(())
}

pub(super) fn write_seals(connection: &mut Connection, seals: &[Seal]) -> Result<(), StoreError> {
    if seals.is_empty() {
        return Ok(());
    }
    for kind in ChunkKind::ALL {
        let mut chunks = Vec::new();
        for seal in seals {
            chunks.extend(seal.chunks.iter().filter(|(of, _)| *of == kind).map(|(_, chunk)| (seal.key, chunk)));
        }
        write_chunks(connection, kind, &chunks)?;
    }
    for (key, checkpoint) in seals.iter().filter_map(|seal| Some((seal.key, seal.checkpoint.as_ref()?))) {
        write_checkpoint(connection, key, checkpoint)?;
    }
    write_components(connection, seals)?;
    write_heads(connection, seals)
}

pub(super) fn write_checkpoint(connection: &mut Connection, room: RoomKey, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let sql = "INSERT INTO checkpoint VALUES($1, $2, $3, $4, $5, $6) ON CONFLICT(room_id, tick) DO UPDATE SET resumed = excluded.resumed, \
               fingerprint = excluded.fingerprint, sum = excluded.sum, payload = excluded.payload";
    let (tick, fingerprint) = (i64::from(checkpoint.tick.0), checkpoint.fingerprint.0.cast_signed());
    let sum = sum_of_checkpoint(checkpoint);
    connection.execute(FLUSH, sql, &[&room.0, &tick, &checkpoint.resumed, &fingerprint, &sum, &checkpoint.payload]).map(drop)
}

/// Where the ledgers of rooms stand now.
fn write_heads(connection: &mut Connection, seals: &[Seal]) -> Result<(), StoreError> {
    // Of several of one room the last counts.
    let last: BTreeMap<RoomKey, &Seal> = seals.iter().map(|seal| (seal.key, seal)).collect();
    let components: BTreeMap<RoomKey, i64> =
        seals.iter().filter_map(|seal| Some((seal.key, i64::from(seal.components.as_ref()?.tick.0)))).collect();
    let (mut keys, mut ticks, mut seqs, mut chains) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut fingerprints, mut components_ticks, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for (key, seal) in &last {
        let (tick, seq, fingerprint) = (seal.head.tick.0, seal.head.seq.0.cast_signed(), seal.fingerprint.0.cast_signed());
        keys.push(key.0);
        ticks.push(i64::from(tick));
        seqs.push(seq);
        chains.push(seal.chain.0.as_slice());
        fingerprints.push(fingerprint);
        components_ticks.push(components.get(key).copied());
        sums.push(sum_of_head(fingerprint, Some(tick), Some(seq), &seal.chain.0));
    }
    let sql = "UPDATE room SET sealed_tick = new.tick, sealed_seq = new.seq, chain = new.chain, fingerprint = new.fingerprint, \
               components_tick = coalesce(new.components_tick, room.components_tick), sum = new.sum, used = clock_timestamp() \
               FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[]) \
               AS new(room_id, tick, seq, chain, fingerprint, components_tick, sum) WHERE room.room_id = new.room_id";
    let parameters: [&(dyn ToSql + Sync); 7] = [&keys, &ticks, &seqs, &chains, &fingerprints, &components_ticks, &sums];
    connection.execute(FLUSH, sql, &parameters).map(drop)
}

/// A row of the table of components by its place.
type Place<'a> = (i64, std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>);

fn write_components(connection: &mut Connection, seals: &[Seal]) -> Result<(), StoreError> {
    let writes: Vec<(i64, &ComponentWrites)> = seals.iter().filter_map(|seal| Some((seal.key.0, seal.components.as_ref()?))).collect();
    let all: Vec<i64> = writes.iter().filter(|(_, writes)| writes.all).map(|(key, _)| *key).collect();
    if !all.is_empty() {
        connection.execute(FLUSH, "DELETE FROM component WHERE room_id = ANY($1)", &[&all])?;
    }
    let gone = |(key, writes): &(i64, &'_ ComponentWrites)| {
        let key = *key;
        writes.gone.iter().map(move |entity| (key, entity.clone())).collect::<Vec<_>>()
    };
    let gone: Vec<(i64, String)> = writes.iter().flat_map(gone).collect();
    for gone in gone.chunks(ROWS_AT_ONCE) {
        let (keys, entities): (Vec<i64>, Vec<_>) = gone.iter().map(|(key, entity)| (*key, text(entity))).unzip();
        let sql = "DELETE FROM component USING unnest($1::bigint[], $2::text[]) AS gone(room_id, entity_id) \
                   WHERE component.room_id = gone.room_id AND component.entity_id = gone.entity_id";
        connection.execute(FLUSH, sql, &[&keys, &entities])?;
    }
    // Sorted by place, and of several for one place the last.
    let mut rows: BTreeMap<Place<'_>, Option<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, writes) in &writes {
        if !seen.insert(*key) {
            // What an earlier seal of the same room wrote, and a later one deletes.
            let gone: BTreeSet<_> = writes.gone.iter().map(|entity| text(entity)).collect();
            rows.retain(|(room, entity, _), _| room != key || !(writes.all || gone.contains(entity)));
        }
        for (entity, component, value) in &writes.values {
            rows.insert((*key, text(entity), text(component)), value.as_deref());
        }
    }
    let rows: Vec<_> = rows.into_iter().collect();
    rows.chunks(ROWS_AT_ONCE).try_for_each(|rows| set_components(connection, rows))
}

fn set_components(connection: &mut Connection, rows: &[(Place<'_>, Option<&str>)]) -> Result<(), StoreError> {
    let (mut set, mut unset) = ((Vec::new(), Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
    for ((key, entity, component), value) in rows {
        match value {
            Some(value) => {
                set.0.push(*key);
                set.1.push(entity);
                set.2.push(component);
                set.3.push(text(value));
            }
            None => {
                unset.0.push(*key);
                unset.1.push(entity);
                unset.2.push(component);
            }
        }
    }
    if !unset.0.is_empty() {
        let sql = "DELETE FROM component USING unnest($1::bigint[], $2::text[], $3::text[]) AS gone(room_id, entity_id, component_name) \
                   WHERE component.room_id = gone.room_id AND component.entity_id = gone.entity_id \
                   AND component.component_name = gone.component_name";
        connection.execute(FLUSH, sql, &[&unset.0, &unset.1, &unset.2])?;
    }
    if !set.0.is_empty() {
        let sql = "INSERT INTO component SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) \
                   ON CONFLICT(room_id, entity_id, component_name) DO UPDATE SET component = excluded.component \
                   WHERE component.component <> excluded.component";
        connection.execute(FLUSH, sql, &[&set.0, &set.1, &set.2, &set.3])?;
    }
    Ok(())
}

/// Deletes what of the journal is in chunks meanwhile. A host with leases deletes only what is of the rooms that it has open: of rooms
/// that it lost, what is not in chunks is for who takes them over.
fn forget_journal(connection: &mut Connection, host: &str, done: u64, open: Option<&[i64]>) -> Result<(), StoreError> {
    let done = done.cast_signed();
    match open {
        Some(open) => {
            let sql = "DELETE FROM journal WHERE host = $1 AND flush <= $2 AND room_id = ANY($3)";
            connection.execute(FLUSH, sql, &[&host, &done, &open]).map(drop)
        }
        None => {
            // What hosts with leases left, this one has sealed when it began.
            let sql = "DELETE FROM journal WHERE (host = $1 AND flush <= $2) OR (host <> $1 AND $2 > 0)";
            connection.execute(FLUSH, sql, &[&host, &done]).map(drop)
        }
    }
}

fn write_cursors(connection: &mut Connection, flush: &Flush, fenced: bool) -> Result<(), StoreError> {
    // Who lost a room may have a projection left that lags behind that of the room's host.
    let newer = if fenced { "WHERE projection.seq <= excluded.seq" } else { "" };
    let sql = format!(
        "INSERT INTO projection VALUES($1, $2, $3, $4) ON CONFLICT(name, room_id) DO UPDATE SET seq = excluded.seq, \
         memory = excluded.memory {newer}"
    );
    for (name, room, seq, memory) in &flush.cursors {
        connection.execute(FLUSH, &sql, &[&text(name), &room.0, &seq.0.cast_signed(), &memory.as_bytes()])?;
    }
    Ok(())
}

fn write_answers(connection: &mut Connection, flush: &Flush, host: &str, fenced: bool) -> Result<(), StoreError> {
    for (id, answer) in &flush.answered {
        if fenced {
            let sql = "UPDATE request SET answer = $2 FROM room, lease WHERE request.id = $1 AND room.room_id = request.room_id \
                       AND lease.room = room.name AND lease.host = $3 AND lease.expires > clock_timestamp()";
            connection.execute(FLUSH, sql, &[id, &text(answer), &host])?;
        } else {
            connection.execute(FLUSH, "UPDATE request SET answer = $2 WHERE id = $1", &[id, &text(answer)])?;
        }
    }
    Ok(())
}
