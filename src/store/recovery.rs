//! What an earlier process left: its journal is sealed, and its rooms are found as they were.

use std::collections::BTreeMap;

use super::archive::{Archive, Recovered, RecoveredScene};
use super::error::{CHECKSUM, StoreError};
use super::follow::read_checkpoint;
use super::frame::{HotTick, read_frame};
use super::items::unmarked;
use super::record::Head;
use super::tables::{Checkpoint, ChunkKind, Flush, RoomKey, Seal, Store, StoredRoom};
use super::unsealed::Unsealed;
use crate::protocol::{FactSeq, Fingerprint, RoomTick, Standing, State};

/// Puts what stands in the journal into chunks, so that the next process begins with an empty one. Returns the number of the last flush.
///
/// A damaged row of the journal, and all that follow it, are cut off: ticks follow from the ones before. `report` hears of it.
pub(crate) fn seal_journal(store: &mut dyn Store, mut report: impl FnMut(String)) -> Result<u64, StoreError> {
    store.missing()?.into_iter().for_each(&mut report);
    let last = store.last_flush()?;
    let journal = store.journal()?;
    if journal.is_empty() {
        return Ok(last);
    }
    let mut by_room: BTreeMap<RoomKey, Vec<HotTick>> = BTreeMap::new();
    for (place, (number, frame, intact)) in journal.iter().enumerate() {
        let read = if *intact { read_frame(frame, None).map_err(|error| error.to_string()) } else { Err(CHECKSUM.to_owned()) };
        match read {
            Ok(rooms) => rooms.into_iter().for_each(|(key, ticks)| by_room.entry(key).or_default().extend(ticks)),
            Err(detail) => {
                let lost = journal.len() - place;
                report(format!("the journal of flush {number} is damaged ({detail}); {lost} flushes from there on are cut off"));
                break;
            }
        }
    }
    let mut flush = Flush { number: last + 1, journal_done: last, ..Flush::default() };
    for room in store.rooms()? {
        if !room.intact {
            report(format!("room {:?}: its row is damaged; it can't be opened", room.header.name));
            continue;
        }
        if let Some(ticks) = by_room.remove(&room.key) {
            flush.seals.extend(seal_of(&room, ticks, &mut report));
        }
    }
    store.commit(&flush)?;
    Ok(flush.number)
}

/// What seals the ticks of one room that stood in the journal.
pub(super) fn seal_of(room: &StoredRoom, mut ticks: Vec<HotTick>, report: &mut impl FnMut(String)) -> Option<Seal> {
    // What was sealed meanwhile stands in the journal until all rooms are.
    ticks.retain(|hot| room.sealed.is_none_or(|head| hot.tick.tick > head.tick));
    let mut expected = room.sealed.map_or(0, |head| head.tick.0 + 1);
    let whole = ticks.iter().take_while(|hot| {
        let follows = hot.tick.tick.0 == expected;
        expected = expected.wrapping_add(1);
        follows
    });
    let whole = whole.count();
    if whole < ticks.len() {
        report(format!("room {:?}: {} ticks in the journal don't follow and are cut off", room.header.name, ticks.len() - whole));
        ticks.truncate(whole);
    }
    let last = ticks.last()?.tick.tick;
    let (mut chain, mut unsealed) = (room.chain, Unsealed::default());
    for HotTick { tick, facts, refusals } in &ticks {
        unsealed.tick(tick.tick, tick.batch.as_ref(), &tick.taken, &tick.trail);
        for (body, _) in facts.iter().chain(refusals).filter_map(|text| unmarked(text)) {
            chain.extend(body.as_bytes());
        }
        unsealed.items(tick.tick, facts, refusals);
    }
    let fingerprint = room.fingerprint;
    let seq = FactSeq(room.sealed.map_or(0, |head| head.seq.0) + unsealed.facts());
    let chunks = unsealed.into_chunks(fingerprint, seq);
    let head = Head { tick: last, seq };
    Some(Seal { key: room.key, head, chain, fingerprint, chunks, components: None, checkpoint: None })
}

impl Archive {
    /// A room as its last process left it.
    ///
    /// # Errors
    /// If what is stored is damaged, or was written by another protocol in a way that this one can't read.
    pub fn recover(&mut self, name: &str) -> Result<Recovered, StoreError> {
        let room = self.room(name)?;
        let head = self.head_of(&room)?;
        let (chain, key, header) = (room.chain, room.key, room.header.clone());
        let Some(head) = head else {
            return Ok(Recovered { key, header, scene: None, standing: Standing::default(), chain });
        };
        let ours = self.protocol().fingerprint();
        let (scene, standing) = match self.written_by_another(&room, head.tick, ours)? {
            None => {
                let (state, standing) = self.stand_at(&room, head.tick)?;
                (RecoveredScene::Exact(Box::new(state)), standing)
            }
            Some(theirs) => self.evolve(&room, head, theirs)?,
        };
        Ok(Recovered { key, header, scene: Some(scene), standing, chain })
    }

    /// The protocol that wrote what recovery would have to read, if it is another one.
    fn written_by_another(&mut self, room: &StoredRoom, tick: RoomTick, ours: Fingerprint) -> Result<Option<Fingerprint>, StoreError> {
        let checkpoint = self.store().checkpoint(room.key, tick, false)?;
        let from = checkpoint.as_ref().map_or(0, |checkpoint| u64::from(checkpoint.tick.0) + 1);
        let chunks = self.store().chunks(room.key, ChunkKind::Ticks, from, u64::from(tick.0), usize::MAX)?;
        let mut all = checkpoint.iter().map(|checkpoint| checkpoint.fingerprint).chain(chunks.iter().map(|chunk| chunk.fingerprint));
        Ok(all.find(|theirs| *theirs != ours))
    }

    /// The state and the standing at a tick, by a checkpoint and the batches after it.
    pub(crate) fn stand_at(&mut self, room: &StoredRoom, tick: RoomTick) -> Result<(State, Standing), StoreError> {
        let begin = self.store().checkpoint(room.key, tick, false)?;
        let (mut state, mut standing) = match &begin {
            Some(checkpoint) => self.read_checkpoint(room, checkpoint)?,
            None => (State::new(room.header.id()), Standing { next_seq: FactSeq(1), ..Standing::default() }),
        };
        let from = begin.as_ref().map(|checkpoint| RoomTick(checkpoint.tick.0.saturating_add(1))).unwrap_or_default();
        let protocol = self.shared_protocol();
        for kept in self.own_ticks_of(room, from, tick)? {
            let mut facts = 0;
            if let Some(batch) = &kept.batch {
                let folded = state.fold(&protocol, batch);
                facts = folded.map_err(|error| StoreError::State { room: room.header.name.clone(), tick: kept.tick, error })?.facts;
            }
            standing.follow(kept.tick, kept.batch.is_some(), facts, &kept.taken, &kept.trail);
        }
        standing.tick = tick;
        Ok((state, standing))
    }

    /// The standing at a tick, for those who go on from there.
    pub(crate) fn standing_at(&mut self, name: &str, tick: RoomTick) -> Result<(State, Standing), StoreError> {
        let room = self.room(name)?;
        self.check_tick(&room, tick)?;
        self.stand_at(&room, tick)
    }

    /// What a checkpoint of a room holds.
    pub(crate) fn stand(&mut self, name: &str, checkpoint: &Checkpoint) -> Result<(State, Standing), StoreError> {
        let room = self.room(name)?;
        self.read_checkpoint(&room, checkpoint)
    }

    /// Reads what a checkpoint holds.
    ///
    /// # Errors
    /// If it was written by another protocol, or is malformed.
    pub(crate) fn read_checkpoint(&mut self, room: &StoredRoom, checkpoint: &Checkpoint) -> Result<(State, Standing), StoreError> {
        self.check_fingerprint(room, checkpoint.fingerprint)?;
        read_checkpoint(self.protocol(), &room.header, &checkpoint.payload)
    }

    /// What changed between the protocol that stored a room and this one, a line for each name; and a line for each component whose stored
    /// values this one can't read. Whether it can go on with the room at all, see [`ticks_behind`](Self::ticks_behind) too.
    ///
    /// # Errors
    /// If what is stored can't be read.
    pub fn check_schema(&mut self, name: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let room = self.room(name)?;
        if room.fingerprint == self.protocol().fingerprint() {
            return Ok(Default::default());
        }
        let differences = self.differences(room.fingerprint)?;
        let entities = self.store().components(room.key)?;
        Ok((differences, self.protocol().evolve_entities(&entities).err().unwrap_or_default()))
    }

    /// By how many ticks the table of components is behind, from which another protocol goes on with a room: by none once the room's process
    /// ended in order. While one has the room, and after one that was killed, it is by some, and another protocol can't open it.
    ///
    /// # Errors
    /// If what is stored can't be read.
    pub fn ticks_behind(&mut self, name: &str) -> Result<u32, StoreError> {
        let room = self.room(name)?;
        Ok(self.head_of(&room)?.map_or(0, |head| behind(&room, head)))
    }

    /// Refuses what another protocol wrote, with what differs.
    pub(crate) fn check_fingerprint(&mut self, room: &StoredRoom, theirs: Fingerprint) -> Result<(), StoreError> {
        if theirs == self.protocol().fingerprint() {
            return Ok(());
        }
        let differences = self.differences(theirs)?;
        Err(StoreError::Protocol { room: room.header.name.clone(), differences })
    }

    fn differences(&mut self, theirs: Fingerprint) -> Result<Vec<String>, StoreError> {
        let ours = self.protocol().describe();
        let Some(theirs) = self.store().protocol(theirs)? else { return Ok(vec![format!("nothing is known of the protocol {theirs}")]) };
        Ok(ours.changes_since(&theirs))
    }

    /// Reads a room that another protocol wrote, from its components as JSON.
    fn evolve(&mut self, room: &StoredRoom, head: Head, theirs: Fingerprint) -> Result<(RecoveredScene, Standing), StoreError> {
        let mut differences = self.differences(theirs)?;
        let refused = |differences| StoreError::Protocol { room: room.header.name.clone(), differences };
        let behind = behind(room, head);
        if behind > 0 {
            differences.push(format!(
                "its last {behind} ticks are stored in the other protocol's form only, because its process did not end in order: start the version that wrote it once more and stop it"
            ));
            return Err(refused(differences));
        }
        let entities = self.store().components(room.key)?;
        let evolved = self.protocol().evolve_entities(&entities).map_err(|problems| {
            let mut all = problems;
            all.append(&mut differences);
            refused(all)
        })?;
        let mut standing = self.standing_only(room, head)?;
        standing.last_batch = head.tick;
        Ok((RecoveredScene::Json(super::record::entities_text(&evolved)), standing))
    }

    /// Where a room stands besides its state, without reading a batch.
    fn standing_only(&mut self, room: &StoredRoom, head: Head) -> Result<Standing, StoreError> {
        let checkpoint = self.store().checkpoint(room.key, head.tick, false)?;
        let mut standing = match &checkpoint {
            Some(checkpoint) => {
                let bytes = super::frame::unpack(&checkpoint.payload)?;
                Standing::read(&mut crate::protocol::Reader::new(&bytes))?
            }
            None => Standing { next_seq: FactSeq(1), ..Standing::default() },
        };
        let from = checkpoint.as_ref().map(|checkpoint| RoomTick(checkpoint.tick.0.saturating_add(1))).unwrap_or_default();
        for kept in self.ticks_of(room, from, head.tick)? {
            standing.follow(kept.tick, kept.batch.is_some(), 0, &kept.taken, &kept.trail);
        }
        (standing.tick, standing.next_seq) = (head.tick, FactSeq(head.seq.0 + 1));
        Ok(standing)
    }
}

/// By how many ticks the table of components of a room is behind its end.
fn behind(room: &StoredRoom, head: Head) -> u32 {
    room.components_tick.map_or(head.tick.0.saturating_add(1), |tick| head.tick.0.abs_diff(tick.0))
}
