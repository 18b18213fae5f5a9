//! A thread that deletes rooms, and looks for those that nobody has used for long: the store may take a while for both.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use super::worker::Worker;
use crate::store::{Archive, Store, StoreError, UnusedRoom};

/// How many rooms are found at once.
const FOUND_MAX: usize = 16_384;

/// What the thread is to do.
pub(super) enum Chore {
    /// Look for rooms whose names begin so, and of which nothing has been written for so long.
    Find { prefix: String, unused_for: Duration },
    /// Delete a room, if nothing has been written of it for so long.
    Delete { room: String, unused_for: Duration },
}

/// What became of a [`Chore`].
pub(super) enum Outcome {
    Found { rooms: Result<Vec<UnusedRoom>, StoreError>, unused_for: Duration },
    Deleted { room: String, deleted: Result<bool, StoreError> },
}

/// What the thread has.
struct Work {
    archive: Archive,
    /// Under which name the store has how far each room's facts are published, if they are to be.
    position: Option<String>,
}

impl Work {
    fn carry_out(&mut self, chore: Chore) -> Outcome {
        match chore {
            Chore::Find { prefix, unused_for } => {
                Outcome::Found { rooms: self.archive.store().unused(&prefix, unused_for, FOUND_MAX), unused_for }
            }
            Chore::Delete { room, unused_for } => {
                let deleted = self.delete(&room, unused_for);
                Outcome::Deleted { room, deleted }
            }
        }
    }

    fn delete(&mut self, name: &str, unused_for: Duration) -> Result<bool, StoreError> {
        let Some(room) = self.archive.store().room(name)? else { return Ok(false) };
        // A fork's facts are told to nobody.
        let told = self.position.clone().filter(|_| room.header.forked_from.is_none());
        // What a host that was killed has left in the journal is to be published as well.
        if let (Some(position), Some(head)) = (told, self.archive.head_of(&room)?) {
            let published = self.archive.store().cursor(&position, room.key)?.map_or(0, |(seq, _)| seq.0);
            if published < head.seq.0 {
                let detail = format!("{} of its facts are not published yet", head.seq.0 - published);
                return Err(StoreError::Unfit { place: format!("room {name:?}"), detail });
            }
        }
        self.archive.store().delete(room.key, unused_for)
    }

    /// Deletes some of what is left of rooms. True if there may be more.
    fn clear(&mut self) -> bool {
        self.archive.store().clear().unwrap_or_else(|error| {
            tracing::warn!(%error, "what is left of deleted rooms is deleted with the next one");
            false
        })
    }

    fn run(mut self, asked: &Receiver<Chore>, tell: &dyn Fn(Outcome) -> bool) {
        // An earlier process may have left something.
        let mut may_be_left = true;
        loop {
            let chore = match may_be_left {
                true => asked.try_recv(),
                false => asked.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match chore {
                Ok(chore) => {
                    may_be_left |= matches!(chore, Chore::Delete { .. });
                    if !tell(self.carry_out(chore)) {
                        return;
                    }
                }
                Err(TryRecvError::Empty) => may_be_left = self.clear(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}

pub(super) type Remover = Worker<Chore, Outcome>;

/// `host` is woken whenever something came of a chore. What is left of a room when it ends is deleted by the next process.
pub(super) fn start(store: Box<dyn Store>, position: Option<String>, host: Arc<Mutex<Thread>>) -> std::io::Result<Remover> {
    // Of what is stored nothing is read that has to do with a game.
    let work = Work { archive: Archive::new(store, Arc::default()), position };
    Worker::start("remover", host, |asked, tell| work.run(asked, tell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::header_of;
    use crate::protocol::{FactSeq, RoomTick};
    use crate::room::{Blueprint, RoomOptions};
    use crate::store::{Flush, Head, MemoryStore, Seal};

    #[test]
    fn a_room_whose_facts_are_to_be_published_stays_until_they_are() {
        let mut store = MemoryStore::new();
        let blueprint = Blueprint::new(|_| {}, |_| {});
        let key = store.enter(&header_of(&RoomOptions::named("duel")), &blueprint.protocol().describe()).unwrap();
        let room = store.room("duel").unwrap().unwrap();
        let (chain, fingerprint) = (room.chain, room.fingerprint);
        let head = Head { tick: RoomTick(5), seq: FactSeq(3) };
        let seal = Seal { key, head, chain, fingerprint, chunks: Vec::new(), components: None, checkpoint: None };
        store.commit(&Flush { number: 1, seals: vec![seal], ..Flush::default() }).unwrap();
        let mut work = Work { archive: Archive::new(Box::new(store.clone()), Arc::default()), position: Some("nats".to_owned()) };
        let refused = work.delete("duel", Duration::ZERO).unwrap_err().to_string();
        assert_eq!(refused, "room \"duel\": 3 of its facts are not published yet");
        let mut told = |seq, number| {
            let cursors = vec![("nats".to_owned(), key, FactSeq(seq), String::new())];
            store.commit(&Flush { number, cursors, ..Flush::default() }).unwrap();
        };
        told(2, 2);
        assert!(work.delete("duel", Duration::ZERO).is_err());
        told(3, 3);
        assert!(work.delete("duel", Duration::ZERO).unwrap() && !work.delete("duel", Duration::ZERO).unwrap());
    }
}
