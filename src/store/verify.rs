//! Checks that what is stored is what was written, and follows from itself.

use super::archive::Archive;
use super::chain::Chain;
use super::copy::end_of;
use super::error::StoreError;
use super::frame::unpack;
use super::items::{SEPARATOR, inner, unmarked};
use super::record::{Head, Item};
use super::tables::{Chunk, ChunkKind, StoredRoom};
use crate::protocol::{Dirty, Reader, RoomTick, Standing, State, StateHash};

/// How often the table of components is read until nobody wrote it meanwhile.
const TRIES: usize = 8;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: a fact, a tick, a table.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// What was checked, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// How many facts.
    pub facts: u64,
    /// How many refusals.
    pub refusals: u64,
    /// How many of the facts and refusals could not be held against the chain of hashes, because its beginning is not kept.
    pub unchained: u64,
    /// How many ticks.
    pub ticks: u64,
    /// How many of them carry a hash that the state was compared with.
    pub hashed: u64,
    /// Up to this tick another protocol wrote the room. The version that wrote these ticks can check them; here they are not looked at.
    pub foreign: Option<RoomTick>,
    /// The head of the chain of hashes, as hexadecimal digits: what to compare with a copy kept elsewhere.
    pub head: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Verified {
    fn find(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.findings.push(Finding { place: place.into(), what: what.into() });
    }
}

impl Archive {
    /// Checks a room: checksums, numbers without gaps, the chain of hashes, that the batches follow each other, that the checkpoints, the
    /// table of components and the hashes that batches carry agree with them. `progress` hears the tick that is done.
    ///
    /// What can't be checked is told: [facts](Verified::unchained) and refusals of a chain that does not begin here any more, and
    /// [ticks](Verified::foreign) of another protocol.
    ///
    /// # Errors
    /// If the store itself can't be read. What is damaged is found, not an error.
    pub fn verify(&mut self, name: &str, progress: impl FnMut(RoomTick)) -> Result<Verified, StoreError> {
        let room = self.room(name)?;
        let mut verified = Verified::default();
        self.verify_ledger(&room, &mut verified)?;
        self.verify_end(&room, &mut verified)?;
        if let Some((place, what)) = self.hot(&room)?.damage {
            verified.find(place, format!("{what}; it and what follows can't be read, and is cut off by who opens the data next"));
        }
        self.verify_ticks(&room, &mut verified, progress)?;
        self.verify_components(name, &mut verified)?;
        Ok(verified)
    }

    /// Chunks one by one up to a head, so that one which is damaged does not hide the others.
    fn each_chunk(&mut self, room: &StoredRoom, kind: ChunkKind, head: Head, verified: &mut Verified) -> Vec<Chunk> {
        let (mut chunks, mut from, end) = (Vec::new(), 0, end_of(kind, head));
        loop {
            match self.store().chunks(room.key, kind, from, end, 1) {
                Ok(mut found) => match found.pop() {
                    Some(chunk) => {
                        from = chunk.to + 1;
                        chunks.push(chunk);
                    }
                    None => return chunks,
                },
                Err(error) => {
                    verified.find(format!("{kind:?} from {from} on").to_lowercase(), error.to_string());
                    return chunks;
                }
            }
        }
    }

    /// The number of a room's first fact: a fork goes on with the numbers of the room that it was made of. Nothing if that is not kept.
    fn first_seq(&mut self, room: &StoredRoom) -> Result<Option<u64>, StoreError> {
        let Some((_, tick)) = &room.header.forked_from else { return Ok(Some(1)) };
        let begin = self.store().checkpoint(room.key, *tick, true)?.filter(|begin| begin.tick == *tick);
        let Some(begin) = begin else { return Ok(None) };
        let bytes = unpack(&begin.payload)?;
        Ok(Some(Standing::read(&mut Reader::new(&bytes))?.next_seq.0.max(1)))
    }

    /// True if the first chunk of facts that is kept is the first there was, or there never was one.
    pub(super) fn has_first_fact(&mut self, room: &StoredRoom, first_kept: Option<&Chunk>) -> Result<bool, StoreError> {
        let Some(first) = self.first_seq(room)? else { return Ok(false) };
        Ok(first_kept.map_or_else(|| room.sealed.is_none_or(|head| head.seq.0 < first), |chunk| chunk.from == first))
    }

    /// The chain goes tick by tick: facts, then refusals. What is sealed meanwhile is not looked at.
    fn verify_ledger(&mut self, room: &StoredRoom, verified: &mut Verified) -> Result<(), StoreError> {
        verified.head = room.chain.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let Some(head) = room.sealed else { return Ok(()) };
        let facts = self.each_chunk(room, ChunkKind::Facts, head, verified);
        let refusals = self.each_chunk(room, ChunkKind::Refusals, head, verified);
        // Whoever can't tell how a fork began finds that below, among its checkpoints.
        let whole = self.has_first_fact(room, facts.first()).unwrap_or(false);
        let mut items: Vec<(RoomTick, bool, String, String)> = Vec::new();
        let mut expected = None;
        for chunk in &facts {
            if expected.is_some_and(|expected| expected != chunk.from) {
                verified.find(format!("fact {}", expected.unwrap_or(0)), format!("missing; the next one is {}", chunk.from));
            }
            expected = Some(chunk.to + 1);
            let texts = item_texts(chunk);
            if texts.len() as u64 != chunk.to - chunk.from + 1 {
                verified.find(format!("facts {} to {}", chunk.from, chunk.to), format!("there are {}", texts.len()));
            }
            let sealed = texts.into_iter().zip(chunk.from..=head.seq.0);
            let before = items.len();
            items.extend(sealed.map(|((tick, text), seq)| (tick, false, format!("fact {seq}"), text)));
            verified.facts += (items.len() - before) as u64;
        }
        for chunk in &refusals {
            let before = items.len();
            let sealed = item_texts(chunk).into_iter().filter(|(tick, _)| *tick <= head.tick);
            items.extend(sealed.map(|(tick, text)| (tick, true, format!("refusal in tick {tick}"), text)));
            verified.refusals += (items.len() - before) as u64;
        }
        items.sort_by_key(|(tick, refusal, ..)| (*tick, *refusal));
        let mut chain = Chain::new(room.header.id());
        let mut broken = !whole;
        verified.unchained = if whole { 0 } else { items.len() as u64 };
        for (_, _, place, text) in &items {
            let Some((body, mark)) = unmarked(text) else {
                verified.find(place, "it carries no hash");
                continue;
            };
            if chain.extend(body.as_bytes()) != mark && !broken {
                broken = true;
                verified.find(place, "its hash does not agree: it, or what was before it, was changed after the event");
            }
        }
        if !broken && chain != room.chain {
            verified.find("the end of the ledger", "its hash does not agree: facts or refusals are missing");
        }
        Ok(())
    }

    /// Looks for chunks beyond the end of what is sealed: nobody reads them, and they are in the way of what the room writes next.
    fn verify_end(&mut self, room: &StoredRoom, verified: &mut Verified) -> Result<(), StoreError> {
        let Some(head) = room.sealed else { return Ok(()) };
        let mut beyond = Vec::new();
        for kind in ChunkKind::ALL {
            let (mut from, end) = (end_of(kind, head) + 1, u64::MAX >> 1);
            while from <= end {
                match self.store().chunks(room.key, kind, from, end, 1) {
                    Ok(found) => match found.first() {
                        Some(chunk) => {
                            beyond.push((kind, chunk.from, chunk.to));
                            from = chunk.to.saturating_add(1);
                        }
                        None => break,
                    },
                    Err(error) => {
                        verified.find(format!("{kind:?} from {from} on").to_lowercase(), error.to_string());
                        break;
                    }
                }
            }
        }
        // What was sealed meanwhile is no finding: a chunk that could be read is within the end as it is told after that.
        let head = self.room(&room.header.name)?.sealed.unwrap_or(head);
        for (kind, from, to) in beyond.into_iter().filter(|(kind, _, to)| *to > end_of(*kind, head)) {
            verified.find(format!("{kind:?} {from} to {to}").to_lowercase(), "they are beyond the end of what the room's row tells");
        }
        Ok(())
    }

    /// Up to which tick another protocol wrote a room. What can't be read is found where it is checked.
    fn foreign_until(&mut self, room: &StoredRoom, last: RoomTick) -> Result<Option<RoomTick>, StoreError> {
        let ours = self.protocol().fingerprint();
        let mut until: Option<RoomTick> = None;
        let _ = self.each_page(room, ChunkKind::Ticks, u64::from(last.0), |page| {
            let foreign = page.iter().filter(|chunk| chunk.fingerprint != ours).map(|chunk| chunk.tick_to.min(last));
            until = until.max(foreign.max());
            Ok(())
        });
        // A process in which nothing happened has no ticks in chunks, but went on from a state of its own form.
        for (tick, _) in self.store().checkpoints(room.key)?.into_iter().filter(|(_, resumed)| *resumed) {
            if let Ok(Some(checkpoint)) = self.store().checkpoint(room.key, tick, false)
                && checkpoint.fingerprint != ours
            {
                until = until.max(Some(checkpoint.tick));
            }
        }
        Ok(until)
    }

    /// With which state the check of the ticks begins, and the first tick after it. Nothing if that can't be told: then it is found.
    fn begin_of_ticks(
        &mut self,
        room: &StoredRoom,
        (first, last): (RoomTick, RoomTick),
        checkpoints: &mut Vec<(RoomTick, bool)>,
        verified: &mut Verified,
    ) -> Result<Option<(State, RoomTick)>, StoreError> {
        verified.foreign = self.foreign_until(room, last)?;
        if let Some(until) = verified.foreign {
            return Ok(self.begin_after(room, until, checkpoints, verified));
        }
        // Tick 0 is followed like any other, unless only the checkpoint that was made of it is left.
        let has_start = !self.store().chunks(room.key, ChunkKind::Ticks, 0, 0, 1)?.is_empty();
        let has_start = has_start || checkpoints.last().is_none_or(|(tick, _)| *tick > RoomTick(0));
        if first == RoomTick(0) && has_start {
            return Ok(Some((State::new(room.header.id()), RoomTick(0))));
        }
        match self.stand_at(room, first) {
            Ok((state, _)) => Ok(Some((state, RoomTick(first.0.saturating_add(1))))),
            Err(error) => {
                verified.find(format!("tick {first}"), error.to_string());
                Ok(None)
            }
        }
    }

    /// The state with which this protocol went on after another one, and the first tick after it. The checkpoints before are let go.
    fn begin_after(
        &mut self,
        room: &StoredRoom,
        until: RoomTick,
        checkpoints: &mut Vec<(RoomTick, bool)>,
        verified: &mut Verified,
    ) -> Option<(State, RoomTick)> {
        let ours = self.protocol().fingerprint();
        while let Some((tick, _)) = checkpoints.last().copied() {
            let found = if tick < until { Ok(None) } else { self.store().checkpoint(room.key, tick, false) };
            let read = match found {
                Ok(Some(found)) if found.tick == tick && found.fingerprint == ours => self.read_checkpoint(room, &found).map(Some),
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            match read {
                Ok(Some((state, _))) => return Some((state, RoomTick(tick.0.saturating_add(1)))),
                Ok(None) => {}
                Err(error) => verified.find(format!("the checkpoint of tick {tick}"), error.to_string()),
            }
            checkpoints.pop();
        }
        let what = "another protocol wrote them, and this one has not gone on from there: the version that wrote them can check them";
        verified.find(format!("the ticks up to {until}"), what);
        None
    }

    fn verify_ticks(&mut self, room: &StoredRoom, verified: &mut Verified, mut progress: impl FnMut(RoomTick)) -> Result<(), StoreError> {
        let protocol = self.shared_protocol();
        let (first, last) = self.kept_ticks(room)?;
        let mut checkpoints = self.store().checkpoints(room.key)?;
        checkpoints.reverse();
        let Some((mut state, mut at)) = self.begin_of_ticks(room, (first, last), &mut checkpoints, verified)? else { return Ok(()) };
        // The hash of the state at the cost of what each tick changes, not of all there is.
        let (mut hashes, mut dirty) = (StateHash::of(&state), Dirty::default());
        while at <= last {
            let end = RoomTick(at.0.saturating_add(599)).min(last);
            let ticks = match self.own_ticks_of(room, at, end) {
                Ok(ticks) => ticks,
                Err(error) => {
                    verified.find(format!("ticks {at} to {end}"), error.to_string());
                    return Ok(());
                }
            };
            for kept in ticks {
                self.verify_checkpoints(room, &mut checkpoints, kept.tick, &state, verified);
                verified.ticks += 1;
                let Some(batch) = &kept.batch else { continue };
                match state.fold_noting(&protocol, batch, Some(&mut dirty)) {
                    Ok(folded) => {
                        hashes.follow(&state, &mut dirty);
                        if let Some(hash) = folded.hash {
                            verified.hashed += 1;
                            if hash != hashes.sum() {
                                verified.find(format!("tick {}", kept.tick), "the state is not what the batch's hash says");
                                return Ok(());
                            }
                        }
                    }
                    Err(error) => {
                        verified.find(format!("tick {}", kept.tick), error.to_string());
                        return Ok(());
                    }
                }
            }
            // What was noted is all that changed.
            if hashes.sum() != state.hash() {
                verified.find(format!("tick {end}"), "the state is not what its changes make of it");
                return Ok(());
            }
            progress(end);
            let Some(next) = end.next() else { break };
            at = next;
        }
        self.verify_checkpoints(room, &mut checkpoints, RoomTick(last.0.saturating_add(1)), &state, verified);
        Ok(())
    }

    /// Compares the checkpoints before a tick with the state before it.
    fn verify_checkpoints(
        &mut self,
        room: &StoredRoom,
        checkpoints: &mut Vec<(RoomTick, bool)>,
        before: RoomTick,
        state: &State,
        verified: &mut Verified,
    ) {
        while let Some((tick, resumed)) = checkpoints.pop_if(|(tick, _)| *tick < before) {
            // One that was deleted meanwhile is not there, though an older one is.
            let read = self.store().checkpoint(room.key, tick, false).and_then(|found| match found.filter(|found| found.tick == tick) {
                Some(checkpoint) => self.read_checkpoint(room, &checkpoint).map(Some),
                None => Ok(None),
            });
            match read {
                // Batches go on from where a process resumed, which may be what another protocol made of it.
                Ok(Some((stored, _))) => {
                    let difference = stored.difference(self.protocol(), state);
                    if let Some(difference) = difference.filter(|_| !resumed) {
                        verified.find(format!("the checkpoint of tick {tick}"), difference);
                    }
                }
                Ok(None) => {}
                Err(error) => verified.find(format!("the checkpoint of tick {tick}"), error.to_string()),
            }
        }
    }

    /// Compares the table of components with the state of the tick that it says it is of. One that is written all the time is not compared: it
    /// can't be read together with what it says.
    fn verify_components(&mut self, name: &str, verified: &mut Verified) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let room = self.room(name)?;
            let Some(tick) = room.components_tick else { return Ok(()) };
            let stored = self.store().components(room.key)?;
            if self.room(name)?.components_tick != Some(tick) {
                continue;
            }
            let state = match self.stand_at(&room, tick) {
                Ok((state, _)) => state,
                Err(error) => {
                    verified.find("the table of components", error.to_string());
                    return Ok(());
                }
            };
            let wanted = self.entities_of(&state)?;
            let mut entities = wanted.keys().chain(stored.keys());
            if let Some(entity) = entities.find(|entity| wanted.get(*entity) != stored.get(*entity)) {
                verified.find(format!("the table of components, {entity}"), format!("it is not the state of tick {tick}"));
            }
            return Ok(());
        }
        Ok(())
    }
}

/// The texts of a chunk's items with their ticks: an item a line.
fn item_texts(chunk: &Chunk) -> Vec<(RoomTick, String)> {
    let text = String::from_utf8_lossy(inner(&chunk.payload));
    // One that can't be read comes first, and is found by its hash.
    let tick_of = |line: &str| serde_json::from_str(line).map_or(RoomTick(0), |item: Item<'_>| item.tick());
    text.split(SEPARATOR).map(|line| (tick_of(line), line.to_owned())).collect()
}
