//! What a store reads: ticks, chunks, journals, checkpoints.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use super::{chosen, game};
use crate::host::header_of;
use crate::protocol::{CommandId, EntityId, Incoming, LeaveReason, Reader, RoomTick, Taken, write_bytes, write_varint};
use crate::room::Room;
use crate::store::{
    HotTick, Item, KeptTick, MemoryStore, Opening, RoomKey, Store, TickRecord, Writer, WriterOptions, checkpoint_payload, join_frame, pack,
    read_checkpoint, read_chunk, read_frame, read_tick, split_frame, unmarked, unpack, write_kept, write_texts,
};

/// What comes in at a tick of the match that is recorded.
fn script(tick: u32) -> Vec<Incoming> {
    let ann = EntityId::named("ann");
    let command = |kind, payload: &'static [u8]| Incoming::Command {
        user: ann,
        id: CommandId(tick),
        kind,
        seen: Some(crate::protocol::SeenTick(u64::from(tick) * 256)),
        payload: Bytes::from_static(payload),
    };
    match tick {
        1 => vec![Incoming::Join { user: ann, name: "Ann".to_owned() }],
        3 => vec![command(0, &[40]), command(0, &[0])],
        5 => vec![command(1, &[3, b's', b'a', b'y', 0, 0]), Incoming::Return { user: ann }],
        8 => vec![Incoming::Revert { seq: crate::protocol::FactSeq(3), changes: Vec::new() }],
        9 => vec![Incoming::Leave { user: ann, reason: LeaveReason::Kicked }],
        10 => vec![Incoming::Reset {
            label: "start".to_owned(),
            saved_at: RoomTick(2),
            members: vec![ann],
            state: r#"{"crate": {"health": 3}}"#.to_owned(),
        }],
        _ => Vec::new(),
    }
}

/// Plays the match, and gives each tick away.
fn play(ticks: u32, mut take: impl FnMut(TickRecord)) -> Room {
    let mut room = game::room();
    take(room.opening().clone().into());
    for tick in 1..ticks {
        match room.tick(script(tick)) {
            Ok(outbox) => take(outbox.into()),
            Err(fault) => panic!("{fault}"),
        }
    }
    room
}

/// Writes the match into a store, by what writes for real.
pub(super) fn record(store: Box<dyn Store>, ticks: u32) {
    let mut options = WriterOptions::default();
    (options.flush_every, options.seal_every, options.checkpoint_every) = (Duration::from_millis(1), 6, 8);
    let writer = Writer::start(store, options, |finding| panic!("{finding}")).unwrap_or_else(|error| panic!("{error}"));
    let handle = writer.open(header_of(&game::options(game::LEVEL)), game::protocol(), Opening::New);
    drop(play(ticks, |record| {
        handle.record(record);
        let synced = writer.sync();
        assert!(synced.is_ok(), "{synced:?}");
    }));
    drop(writer.stop());
}

/// The match in memory.
pub(super) fn recorded() -> &'static MemoryStore {
    static STORE: OnceLock<MemoryStore> = OnceLock::new();
    STORE.get_or_init(|| {
        let store = MemoryStore::new();
        record(Box::new(store.clone()), 16);
        store
    })
}

/// The match as ticks and as the journal of a flush.
pub(super) fn as_bytes() -> (Vec<u8>, Vec<u8>) {
    let (mut ticks, mut journal) = (Vec::new(), Vec::new());
    drop(play(12, |record| {
        let start = ticks.len();
        write_kept(record.tick, record.batch.as_ref(), &record.taken, &record.trail, &mut ticks);
        journal.extend_from_slice(ticks.get(start..).unwrap_or_default());
        let text: &[u8] = br#"{"t":1,"k":"healed","p":"user","d":{"who":"ann","by":20},"h":"0123456789abcdef"}"#;
        write_texts([text].into_iter().take(record.facts.len().min(1)), &mut journal);
        write_texts(std::iter::empty::<&[u8]>(), &mut journal);
    }));
    (ticks, join_frame(&[(RoomKey(1), &journal)]))
}

fn write_ticks(ticks: &[KeptTick]) -> Vec<u8> {
    let mut out = Vec::new();
    ticks.iter().for_each(|kept| write_kept(kept.tick, kept.batch.as_ref(), &kept.taken, &kept.trail, &mut out));
    out
}

fn write_hot(rooms: &[(RoomKey, Vec<HotTick>)]) -> Vec<u8> {
    let texts = |texts: &[String], out: &mut Vec<u8>| write_texts(texts.iter().map(String::as_bytes), out);
    let mut out = Vec::new();
    write_varint(rooms.len() as u64, &mut out);
    for (key, ticks) in rooms {
        let mut bytes = Vec::new();
        for hot in ticks {
            bytes.append(&mut write_ticks(std::slice::from_ref(&hot.tick)));
            texts(&hot.facts, &mut bytes);
            texts(&hot.refusals, &mut bytes);
        }
        write_varint(key.0.cast_unsigned(), &mut out);
        write_bytes(&bytes, &mut out);
    }
    out
}

/// Ticks as somebody else packed them.
pub(super) fn chunk(data: &[u8]) {
    if let (Ok(bytes), Ok(ticks)) = (unpack(data), read_chunk(data)) {
        assert!(bytes.len() >= ticks.len());
        assert_eq!(read_chunk(&pack(&write_ticks(&ticks))).as_ref(), Ok(&ticks));
    }
}

pub(super) fn frame(data: &[u8]) {
    let (choice, data) = chosen(data);
    match choice % 6 {
        0 => {
            let (all, split) = (read_frame(data, None), split_frame(data));
            let Ok(rooms) = all else { return };
            assert!(split.is_ok_and(|split| split.len() == rooms.len()));
            let again = read_frame(&write_hot(&rooms), None);
            assert!(again.is_ok_and(|again| format!("{again:?}") == format!("{rooms:?}")), "a journal is read as another one");
        }
        1 => {
            if let Ok(rooms) = split_frame(data) {
                assert!(split_frame(&join_frame(&rooms)).is_ok_and(|again| again == rooms));
            }
        }
        2 => {
            if let Ok(ticks) = read_chunk(&pack(data)) {
                assert_eq!(read_chunk(&pack(&write_ticks(&ticks))).as_ref(), Ok(&ticks));
            }
        }
        3 => {
            let protocol = game::protocol();
            let header = header_of(&game::options(game::LEVEL));
            let Ok((state, standing)) = read_checkpoint(&protocol, &header, &pack(data)) else { return };
            let again = read_checkpoint(&protocol, &header, &checkpoint_payload(&protocol, &state, &standing));
            let again = again.unwrap_or_else(|error| panic!("{error}"));
            assert!(again.0.entities() == state.entities() && again.1 == standing, "a checkpoint is read as another one");
        }
        4 => {
            let mut input = Reader::new(data);
            let _ = read_tick(&mut input);
            if let Ok(taken) = Taken::read(&mut Reader::new(data)) {
                let mut out = Vec::new();
                taken.write(&mut out);
                assert_eq!(Taken::read(&mut Reader::new(&out)), Ok(taken));
            }
        }
        _ => {
            let text = String::from_utf8_lossy(data);
            let _ = unmarked(&text);
            if let Ok(item) = serde_json::from_str::<Item<'_>>(&text) {
                let fact = item.into_fact(crate::protocol::FactSeq(1));
                let _ = (fact.to_json(), fact.joined());
            }
            if let Ok(item) = serde_json::from_str::<Item<'_>>(&text) {
                let _ = item.into_refusal();
            }
        }
    }
}

/// Where a folder can be made that goes again, in memory where there is such a place.
pub(super) fn scratch() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    let place = if shared.is_dir() { shared } else { std::env::temp_dir() };
    place.join(format!("roomkeeper-doors-{}", std::process::id()))
}
