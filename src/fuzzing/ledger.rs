//! A store of which somebody has written every number and every byte, read by all that reads stores.

use std::sync::OnceLock;

use super::{Steps, chosen, game, reached, step, stored};
use crate::host::header_of;
use crate::protocol::{FactSeq, Fingerprint, Reader, RoomTick, write_varint};
use crate::store::{
    Archive, Checkpoint, Chunk, ChunkKind, ComponentWrites, Durability, Flush, Head, MemoryStore, Retention, RoomKey, Seal, Snippet,
    SqliteStore, Store, copy_room, pack, seal_journal, unpack,
};

const ROOM: &str = "moor";

/// Ticks stay below this: who verifies a room goes through all of them, ten minutes at a time.
const TICKS: u64 = 5_000;

/// What a step writes: numbers first, then content.
struct Row<'a> {
    numbers: [u64; 4],
    content: &'a [u8],
}

impl<'a> Row<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = reader.varint().ok()?;
        }
        Some(Self { numbers, content: reader.rest() })
    }

    fn tick(&self, nth: usize) -> RoomTick {
        RoomTick((self.numbers.get(nth).copied().unwrap_or_default() % TICKS) as u32)
    }
}

fn row(kind: u8, numbers: [u64; 4], content: &[u8], out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    numbers.into_iter().for_each(|number| write_varint(number, &mut bytes));
    bytes.extend_from_slice(content);
    step(kind, &bytes, out);
}

/// Writes the rows into a store. All but the journal is put there by a seal each.
fn fill(store: &mut dyn Store, data: &[u8]) -> Option<RoomKey> {
    let description = game::protocol().describe();
    let fingerprint = description.fingerprint();
    let mut header = header_of(&game::options(game::LEVEL));
    let (choice, data) = chosen(data);
    if choice % 2 == 1 {
        header.forked_from = Some(("other".to_owned(), RoomTick(3)));
    }
    let key = store.enter(&header, &description).ok()?;
    let mut head = Head { tick: RoomTick(0), seq: FactSeq(0) };
    let chain = store.room(ROOM).ok()??.chain;
    let mut sealed = false;
    for (number, (kind, bytes)) in (1..).zip(Steps(data)) {
        let Some(row) = Row::read(bytes) else { continue };
        let mut seal = Seal { key, head, chain, fingerprint, chunks: Vec::new(), components: None, checkpoint: None };
        let mut flush = Flush { number, ..Flush::default() };
        let [from, to, ..] = row.numbers.map(|number| number.min(u64::MAX >> 2));
        let chunk = |payload: Vec<u8>| Chunk { from, to: to.max(from), tick_from: row.tick(2), tick_to: row.tick(3), fingerprint, payload };
        match kind % 8 {
            0 => seal.chunks.push((ChunkKind::Facts, chunk(row.content.to_vec()))),
            1 => seal.chunks.push((ChunkKind::Refusals, chunk(row.content.to_vec()))),
            2 => seal.chunks.push((ChunkKind::Ticks, chunk(pack(row.content)))),
            3 => {
                let resumed = row.numbers.get(2).is_some_and(|number| number % 2 == 1);
                // One of another protocol, now and then.
                let fingerprint = if row.numbers.get(3) == Some(&9) { Fingerprint(9) } else { fingerprint };
                seal.checkpoint = Some(Checkpoint { tick: row.tick(0), resumed, fingerprint, payload: pack(row.content) });
            }
            4 => {
                flush.frame = row.content.to_vec();
                store.commit(&flush).ok()?;
                continue;
            }
            5 => {
                head = Head { tick: row.tick(0), seq: FactSeq(to) };
                (seal.head, sealed) = (head, true);
            }
            6 => {
                let text = String::from_utf8_lossy(row.content);
                let mut parts = text.splitn(3, ' ').map(str::to_owned);
                let value = (parts.next()?, parts.next().unwrap_or_default(), parts.next());
                seal.components = Some(ComponentWrites { tick: row.tick(0), all: false, gone: Vec::new(), values: vec![value] });
            }
            _ => {
                if let Ok(snippet) = Snippet::from_text("start", &String::from_utf8_lossy(row.content)) {
                    store.save_snippet(key, &Snippet { tick: row.tick(0), ..snippet }).ok()?;
                }
                continue;
            }
        }
        if sealed || kind % 8 != 6 {
            flush.seals.push(seal);
            store.commit(&flush).ok()?;
        }
    }
    Some(key)
}

/// All that reads a room. Errors are answers.
fn read(archive: &mut Archive) {
    let _ = archive.verify(ROOM, |_| ());
    let head = archive.head(ROOM).ok().flatten();
    let _ = (archive.recover(ROOM).map(drop), archive.check_schema(ROOM), archive.names(ROOM));
    let facts = archive.facts(ROOM, FactSeq(1), 100);
    for seq in facts.iter().flatten().map(|fact| fact.seq).take(4) {
        let _ = archive.changes_of(ROOM, seq);
    }
    let _ = (archive.fact(ROOM, FactSeq(u64::MAX >> 1)), archive.audit(ROOM, None).map(drop), archive.snippet(ROOM, "start"));
    let ticks = archive.ticks(ROOM, RoomTick(0), RoomTick(u32::MAX));
    let last = ticks.iter().flatten().last().map(|kept| kept.tick).or(head.map(|head| head.tick)).unwrap_or_default();
    let _ = (archive.why(ROOM, "crate", "health", last).map(drop), archive.history(ROOM, "ann", None, RoomTick(0), last).map(drop));
    let _ = archive.diff(ROOM, RoomTick(0), last).map(drop);
    let state = archive.state_at(ROOM, last);
    if let Ok(state) = &state {
        // What is recovered can be told to people: a room opens with it.
        assert!(state.to_json(&game::protocol()).is_ok());
    }
    if let Ok(mut cursor) = archive.cursor(ROOM, RoomTick(0)) {
        let _ = (cursor.forward().map(drop), cursor.forward().map(drop), cursor.advance(i64::MAX).map(drop), cursor.advance(-2).map(drop));
    }
    let _ = archive.save_snippet(ROOM, "now", last).map(drop);
}

/// Rows of any content in the store in memory, which has no checksums that would keep what is wrong away from its readers.
pub(super) fn tables(data: &[u8]) {
    let store = MemoryStore::new();
    if fill(&mut store.clone(), data).is_none() {
        return;
    }
    let mut archive = Archive::new(Box::new(store.clone()), game::protocol());
    reached(archive.head(ROOM).is_ok_and(|head| head.is_some()));
    read(&mut archive);
    let _ = copy_room(&mut archive, ROOM, &mut MemoryStore::new(), |_| ());
    if seal_journal(&mut store.clone(), |_| ()).is_ok() {
        read(&mut archive);
    }
    let retention = Retention { ticks: Some(64), ..Retention::default() };
    if archive.compact(ROOM, retention, |_| ()).is_ok() {
        read(&mut archive);
    }
}

/// The seed of the door above: the rows of a match.
pub(super) fn seed() -> Vec<u8> {
    let (mut store, mut out) = (stored::recorded().clone(), vec![0]);
    let Ok(Some(room)) = store.room(ROOM) else { panic!("the match was recorded") };
    let head = room.sealed.unwrap_or(Head { tick: RoomTick(0), seq: FactSeq(0) });
    row(5, [head.tick.0.into(), head.seq.0, 0, 0], &[], &mut out);
    for (number, kind) in (0..).zip(ChunkKind::ALL) {
        for chunk in store.chunks(room.key, kind, 0, u64::MAX >> 1, 100).into_iter().flatten() {
            let content = if kind == ChunkKind::Ticks { unpack(&chunk.payload).unwrap_or_default() } else { chunk.payload };
            row(number, [chunk.from, chunk.to, chunk.tick_from.0.into(), chunk.tick_to.0.into()], &content, &mut out);
        }
    }
    for (tick, resumed) in store.checkpoints(room.key).into_iter().flatten() {
        if let Ok(Some(checkpoint)) = store.checkpoint(room.key, tick, false) {
            row(3, [tick.0.into(), 0, resumed.into(), 0], &unpack(&checkpoint.payload).unwrap_or_default(), &mut out);
        }
    }
    row(6, [head.tick.0.into(), 0, 0, 0], b"crate health 7", &mut out);
    row(7, [3, 0, 0, 0], br#"{"crate": {"health": 3}}"#, &mut out);
    out
}

/// The seed with a journal behind the rows.
pub(super) fn seed_with_journal() -> Vec<u8> {
    let mut out = vec![1];
    row(4, [0; 4], &stored::as_bytes().1, &mut out);
    row(7, [3, 0, 0, 0], br#"{"door_a": {"door": "Closed"}}"#, &mut out);
    out
}

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = stored::scratch();
        let _ = std::fs::remove_dir_all(&folder);
        let store = SqliteStore::open(&folder, Durability::ProcessCrash).unwrap_or_else(|error| panic!("{error}"));
        stored::record(Box::new(store), 16);
        let bytes = std::fs::read(crate::store::data_file(&folder)).unwrap_or_default();
        assert!(!bytes.is_empty() && bytes.len() < 1 << 24);
        let _ = std::fs::remove_dir_all(&folder);
        bytes
    })
}

/// A file of the store on disk in which some bytes are others, or which ends early. Each four bytes say where, and what.
pub(super) fn sqlite(data: &[u8]) {
    let mut bytes = file().to_vec();
    let (choice, data) = chosen(data);
    for edit in data.chunks_exact(4).take(64) {
        let [low, middle, high, value] = [0, 1, 2, 3].map(|at| edit.get(at).copied().unwrap_or_default());
        let at = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        let length = bytes.len();
        if choice % 8 == 7 {
            bytes.truncate(at % (length + 1));
        } else if let Some(byte) = bytes.get_mut(at % length.max(1)) {
            *byte = if choice % 2 == 0 { value } else { *byte ^ value };
        }
    }
    let folder = stored::scratch().with_extension("file");
    let _ = std::fs::remove_dir_all(&folder);
    let place = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("rooms.sqlite"), &bytes));
    assert!(place.is_ok(), "{place:?}");
    if let Ok(store) = SqliteStore::read(&folder) {
        let mut archive = Archive::new(Box::new(store), game::protocol());
        let _ = (archive.store().rooms().map(drop), archive.store().examine(), archive.store().journal().map(drop));
        let known = archive.store().room(ROOM).ok().flatten();
        if known.is_some_and(|room| u64::from(room.sealed.map_or(0, |head| head.tick.0)) < TICKS) {
            read(&mut archive);
        }
        let _ = archive.store().components(RoomKey(1));
        let _ = archive.store().cursor("story", RoomKey(1));
    }
    if let Ok(mut store) = SqliteStore::open(&folder, Durability::ProcessCrash) {
        let _ = seal_journal(&mut store, |_| ());
    }
    let _ = std::fs::remove_dir_all(&folder);
}
