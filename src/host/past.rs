//! A thread that reads what is stored of rooms, for those who watch their past.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::lobby::{Lobby, PastAnswer, PastRequest};
use super::priority::{Priority, give_way};
use crate::protocol::{Protocol, RoomTick, snapshot_messages, without_hash};
use crate::store::{Archive, Store, StoreError};

/// How many ticks are read at once.
const TICKS_AT_ONCE: u32 = 200;

/// How many bytes of batches are handed over at once, but for the last one.
const BYTES_AT_ONCE: usize = 4 << 20;

/// Of how many rooms the ways to read them are kept. Each is a connection to the store.
const ARCHIVES_MAX: usize = 4;

/// A request, the protocol of its room, and where the answer goes.
type Asked = (PastRequest, Arc<Protocol>, Sender<PastAnswer>);

/// Reads the past of rooms off the threads that tick them. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct PastReader {
    requests: Option<Sender<Asked>>,
    thread: Option<JoinHandle<()>>,
}

impl PastReader {
    pub(super) fn start(store: Box<dyn Store>) -> Self {
        let (requests, asked) = channel::<Asked>();
        let thread = std::thread::Builder::new().name("past".to_owned()).spawn(move || {
            give_way(Priority::Aside);
            let mut archives = VecDeque::new();
            for (request, protocol, answer) in asked {
                let read = read(&*store, &mut archives, &request, protocol);
                let failed = |error: StoreError| PastAnswer { failed: Some(error.to_string()), ..PastAnswer::default() };
                let read = PastAnswer { serial: request.serial, ..read.unwrap_or_else(failed) };
                // Who is gone meanwhile has no use for it.
                let _ = answer.send(read);
            }
        });
        // Without the thread every request fails, and says so.
        Self { requests: Some(requests), thread: thread.ok() }
    }

    pub(super) fn ask(&self, request: PastRequest, protocol: Arc<Protocol>, answer: Sender<PastAnswer>) -> Result<(), PastAnswer> {
        let nobody = PastAnswer::nobody(&request);
        let sent = self.requests.as_ref().map(|requests| requests.send((request, protocol, answer)));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(nobody) }
    }
}

/// The way for answers: in, and out.
pub(super) type Answers = (Sender<PastAnswer>, Receiver<PastAnswer>);

/// Has what a lobby wants to know read by `who` there is for a room, and hands over what was read.
pub(super) fn attend(lobby: &mut Lobby, answers: &Answers, who: impl Fn(&str) -> Option<(Arc<PastReader>, Arc<Protocol>)>) {
    for request in lobby.past_requests() {
        let asked = match who(&request.room) {
            Some((past, protocol)) => past.ask(request, protocol, answers.0.clone()),
            None => Err(PastAnswer::nobody(&request)),
        };
        asked.err().into_iter().for_each(|failed| lobby.past_answer(failed));
    }
    while let Ok(answer) = answers.1.try_recv() {
        lobby.past_answer(answer);
    }
}

impl Drop for PastReader {
    fn drop(&mut self) {
        drop(self.requests.take());
        // One that panicked has said so.
        self.thread.take().map(JoinHandle::join).into_iter().for_each(drop);
    }
}

fn read(
    store: &dyn Store,
    archives: &mut VecDeque<(String, Archive)>,
    request: &PastRequest,
    protocol: Arc<Protocol>,
) -> Result<PastAnswer, StoreError> {
    let name = &request.room;
    let (name, mut archive) = match archives.iter().position(|(room, _)| room == name).and_then(|at| archives.remove(at)) {
        Some(known) => known,
        None => (name.clone(), Archive::new(store.reader()?, protocol)),
    };
    let answer = read_room(&mut archive, request);
    if answer.is_ok() {
        // Otherwise the next one may fare better with a fresh connection.
        archives.push_front((name, archive));
        archives.truncate(ARCHIVES_MAX);
    }
    answer
}

fn read_room(archive: &mut Archive, request: &PastRequest) -> Result<PastAnswer, StoreError> {
    let name = &request.room;
    let head = archive.head(name)?.map_or(RoomTick(0), |head| head.tick);
    if request.after > head {
        // It is not stored yet.
        return Ok(PastAnswer { read_to: request.after, at_end: true, ..PastAnswer::default() });
    }
    let first = archive.first_kept(name)?;
    let mut answer = PastAnswer::default();
    if let Some(tick) = request.snapshot {
        let tick = tick.max(first);
        let (state, standing) = archive.standing_at(name, tick)?;
        let snapshot = Bytes::from(state.to_snapshot(archive.protocol(), tick, standing.next_seq));
        answer.snapshot = Some((tick, snapshot_messages(&snapshot)));
    }
    // What is not kept any more is in the snapshot that comes first.
    let after = request.after.max(first);
    let end = RoomTick(after.0.saturating_add(TICKS_AT_ONCE)).min(head);
    answer.read_to = end;
    let mut bytes = 0;
    if after < end {
        let room = archive.room(name)?;
        // What another version of the game wrote would be read by this one's clients as something else.
        let (ticks, foreign) = archive.own_part_of(&room, RoomTick(after.0 + 1), end)?;
        if let Some((first, theirs)) = foreign {
            let first = first.0.max(after.0 + 1);
            if first == after.0 + 1 {
                archive.check_fingerprint(&room, theirs)?;
            }
            answer.read_to = RoomTick(first - 1);
        }
        for kept in ticks {
            let Some(batch) = kept.batch else { continue };
            bytes += batch.len();
            answer.batches.push((kept.tick, without_hash(&batch)));
            if bytes >= BYTES_AT_ONCE {
                answer.read_to = kept.tick;
                break;
            }
        }
    }
    answer.at_end = answer.read_to >= head;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Keeper;
    use crate::protocol::{BatchHead, HASH, ProtocolAppExt, Reader};
    use crate::room::{Blueprint, RoomOptions};
    use crate::store::{MemoryStore, WriterOptions};

    #[derive(bevy_ecs::prelude::Component, serde::Serialize, serde::Deserialize)]
    struct Place(u32);

    fn protocol(app: &mut bevy_app::App) {
        app.sync::<Place>("place").latest();
    }

    #[test]
    fn what_is_shown_of_a_room_that_checks_itself_has_no_hash_which_no_replica_could_have() {
        let (store, blueprint) = (MemoryStore::new(), Blueprint::new(protocol, |_| {}));
        let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
        let mut room = keeper.room(&blueprint, RoomOptions { check: true, ..RoomOptions::named("main") }).unwrap();
        room.world_mut().spawn(Place(7));
        let outbox = room.tick([]).unwrap();
        let stored = outbox.batch.clone().unwrap();
        keeper.handle("main").unwrap().record(outbox.into());
        drop(keeper.stop());
        let request = PastRequest { serial: 0, room: "main".to_owned(), after: RoomTick(0), snapshot: None };
        let answer = read(&store, &mut VecDeque::new(), &request, blueprint.protocol()).unwrap();
        let [(tick, shown)] = answer.batches.as_slice() else { panic!("{answer:?}") };
        let split = |batch: &Bytes| {
            let mut reader = Reader::new(batch);
            let head = BatchHead::read(&mut reader).unwrap();
            (head, reader.rest().to_vec())
        };
        let ((stored, all), (shown, rest)) = (split(&stored), split(shown));
        assert_eq!((*tick, shown.tick, shown.after), (RoomTick(1), stored.tick, stored.after));
        assert_eq!((stored.flags & HASH, shown.flags), (HASH, stored.flags & !HASH));
        assert_eq!(rest, all.get(..all.len() - 8).unwrap(), "and all else is there");
    }

    #[test]
    fn however_many_rooms_are_watched_few_ways_to_the_store_stay_open() {
        let (store, blueprint) = (MemoryStore::new(), Blueprint::new(|_| {}, |_| {}));
        let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
        let names: Vec<String> = (0..20).map(|nth| format!("room{nth}")).collect();
        names.iter().for_each(|name| drop(keeper.room(&blueprint, RoomOptions::named(name)).unwrap()));
        drop(keeper.stop());
        let mut archives = VecDeque::new();
        for name in names.iter().chain(&names) {
            let request = PastRequest { serial: 0, room: name.clone(), after: RoomTick(0), snapshot: Some(RoomTick(0)) };
            let answer = read(&store, &mut archives, &request, blueprint.protocol()).unwrap();
            assert!(answer.snapshot.is_some() && archives.len() <= ARCHIVES_MAX);
            assert_eq!(archives.front().map(|(room, _)| room), Some(name), "who asks again finds it");
        }
    }
}
