//! Reads what is stored: rooms, facts, refusals, ticks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::chain::Chain;
use super::error::{CHECKSUM, StoreError};
use super::follow::{checkpoint_payload, rows_of};
use super::frame::{HotTick, read_chunk, read_frame};
use super::record::{Entities, Head, Item, KeptTick, RoomHeader, Snippet, StoredFact, StoredRefusal};
use super::snippets::read_now;
use super::tables::{Checkpoint, Chunk, ChunkKind, ComponentWrites, Flush, RoomKey, Seal, Store, StoredRoom, find_room, some_of};
use crate::protocol::{CodecError, CommandId, EntityId, FactSeq, Fingerprint, Protocol, RoomTick, Saved, Standing, State};

/// How many chunks are read, copied or counted at once.
pub(super) const CHUNKS_A_PAGE: usize = 256;

/// Reads what is stored, with the protocol of the game that stored it.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{FactSeq, RoomTick};
/// use roomkeeper::room::Blueprint;
/// use roomkeeper::store::{Archive, Store, StoreError};
///
/// /// What happened in the room `main`; how many apples its tree had after ten seconds, and by which command.
/// fn look_back(store: Box<dyn Store>, game: &Blueprint) -> Result<(), StoreError> {
///     let mut archive = Archive::new(store, game.protocol());
///     for fact in archive.facts("main", FactSeq(1), 100)? {
///         println!("{}", fact.kind);
///     }
///     let state = archive.state_at("main", RoomTick(200))?;
///     println!("{:?}", state.component(archive.protocol(), EntityId::named("tree"), "apples"));
///     if let Some(why) = archive.why("main", "tree", "apples", RoomTick(200))? {
///         println!("{:?}", why.command);
///     }
///     Ok(())
/// }
/// ```
pub struct Archive {
    store: Box<dyn Store>,
    protocol: Arc<Protocol>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

/// A room as its last process left it.
#[derive(Debug)]
pub struct Recovered {
    /// Its number.
    pub key: RoomKey,
    /// What it was created from.
    pub header: RoomHeader,
    /// Its state; nothing if no tick of it was ever stored.
    pub scene: Option<RecoveredScene>,
    /// Where it stands besides.
    pub standing: Standing,
    /// The chain of hashes over its ledger.
    pub chain: Chain,
}

/// A state that was found.
#[derive(Debug)]
pub enum RecoveredScene {
    /// Exactly as it was.
    Exact(Box<State>),
    /// As JSON, because another protocol stored it.
    Json(String),
}

/// Something that somebody did or tried.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The tick.
    pub tick: RoomTick,
    /// Who.
    pub author: EntityId,
    /// The number that the author's client gave the command.
    pub command: Option<CommandId>,
    /// What it became, or what it would have been.
    pub kind: String,
    /// What it says.
    pub data: Value,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

/// What stands in the journal only, of one room.
pub(super) struct Hot {
    /// The ticks, as far as the journal is whole.
    pub(super) ticks: Vec<HotTick>,
    /// Where what is sealed ends before them.
    pub(super) sealed: Option<Head>,
    /// Where the journal is damaged, and how. Recovery cuts it off there.
    pub(super) damage: Option<(String, String)>,
}

impl Hot {
    /// An error if more was there than can be read.
    fn check_whole(&self, room: &StoredRoom) -> Result<(), StoreError> {
        let damaged = |(place, what): &(String, String)| StoreError::damaged(&room.header.name, place.as_str(), what.as_str());
        self.damage.as_ref().map_or(Ok(()), |damage| Err(damaged(damage)))
    }
}

/// Ticks of one protocol, up to the first of another one, and which tick and which protocol that is.
pub(crate) type OwnPart = (Vec<KeptTick>, Option<(RoomTick, Fingerprint)>);

impl Archive {
    /// Reads a store.
    pub fn new(store: Box<dyn Store>, protocol: Arc<Protocol>) -> Self {
        Self { store, protocol }
    }

    /// The store.
    pub fn store(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    pub(crate) fn shared_protocol(&self) -> Arc<Protocol> {
        self.protocol.clone()
    }

    /// A room.
    ///
    /// # Errors
    /// If there is none with that name.
    pub fn room(&mut self, name: &str) -> Result<StoredRoom, StoreError> {
        find_room(&mut *self.store, name)
    }

    /// Where a room's ledger ends, as far as its journal is whole; nothing if no tick of it was stored.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn head(&mut self, name: &str) -> Result<Option<Head>, StoreError> {
        let room = self.room(name)?;
        self.head_of(&room)
    }

    /// The same: as far as the journal is whole, as whoever opens the room goes on from there.
    pub(crate) fn head_of(&mut self, room: &StoredRoom) -> Result<Option<Head>, StoreError> {
        let Hot { ticks, sealed, .. } = self.hot(room)?;
        let Some(last) = ticks.last() else { return Ok(sealed) };
        let seq = sealed.map_or(0, |head| head.seq.0) + ticks.iter().map(|hot| hot.facts.len() as u64).sum::<u64>();
        Ok(Some(Head { tick: last.tick.tick, seq: FactSeq(seq) }))
    }

    /// The ticks of a room that stand in the journal only, and where what is sealed ends before them: later than `room` tells, if somebody
    /// seals it meanwhile. Asked for in the other order it would not fit what stands in the journal.
    pub(super) fn hot(&mut self, room: &StoredRoom) -> Result<Hot, StoreError> {
        let (mut ticks, mut damage) = (Vec::new(), None);
        for (number, frame, intact) in self.store.journal_of(room.key)? {
            let read =
                if intact { read_frame(&frame, Some(room.key)).map_err(|error| error.to_string()) } else { Err(CHECKSUM.to_owned()) };
            match read {
                Ok(rooms) => ticks.extend(rooms.into_iter().flat_map(|(_, ticks)| ticks)),
                // Ticks follow from the ones before.
                Err(detail) => {
                    damage = Some((format!("the journal of flush {number}"), detail));
                    break;
                }
            }
        }
        let sealed = if ticks.is_empty() { room.sealed } else { self.store.sealed(room.key)? };
        ticks.retain(|hot: &HotTick| sealed.is_none_or(|head| hot.tick.tick > head.tick));
        Ok(Hot { ticks, sealed, damage })
    }

    /// Facts of a room from one on, in order, at most `limit`.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn facts(&mut self, name: &str, from: FactSeq, limit: usize) -> Result<Vec<StoredFact>, StoreError> {
        let room = self.room(name)?;
        self.facts_of(&room, from, limit)
    }

    pub(crate) fn facts_of(&mut self, room: &StoredRoom, from: FactSeq, limit: usize) -> Result<Vec<StoredFact>, StoreError> {
        // The journal first: what is sealed meanwhile is then seen twice, not missed.
        let hot = self.hot(room)?;
        let (mut facts, mut from) = (Vec::new(), from.0.max(1));
        // How many facts a chunk has is not known before. Who wants few reads few, and no damage behind them.
        let mut page = 1;
        while facts.len() < limit {
            let chunks = self.store.chunks(room.key, ChunkKind::Facts, from, u64::MAX >> 1, page)?;
            let Some(last) = chunks.last().map(|chunk| chunk.to) else { break };
            for chunk in &chunks {
                if facts.len() >= limit {
                    break;
                }
                read_facts(&room.header.name, chunk, from, &mut facts)?;
            }
            from = last + 1;
            page = (page * 2).min(CHUNKS_A_PAGE);
        }
        let mut seq = hot.sealed.map_or(0, |head| head.seq.0);
        for text in hot.ticks.iter().flat_map(|hot| &hot.facts) {
            seq += 1;
            if seq >= from && facts.len() < limit {
                facts.push(item(text)?.into_fact(FactSeq(seq)));
            }
        }
        facts.truncate(limit);
        if facts.len() < limit {
            hot.check_whole(room)?;
        }
        Ok(facts)
    }

    /// The chunks of one kind that reach up to a number, in order, some at a time.
    pub(crate) fn each_page(
        &mut self,
        room: &StoredRoom,
        kind: ChunkKind,
        to: u64,
        mut take: impl FnMut(Vec<Chunk>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = 0;
        loop {
            let page = self.store.chunks(room.key, kind, from, to, CHUNKS_A_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.to + 1;
            take(page)?;
        }
    }

    /// One fact.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn fact(&mut self, name: &str, seq: FactSeq) -> Result<Option<StoredFact>, StoreError> {
        Ok(self.facts(name, seq, 1)?.pop().filter(|fact| fact.seq == seq))
    }

    /// What was refused from a tick on, in order.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn refusals(&mut self, name: &str, from: RoomTick) -> Result<Vec<StoredRefusal>, StoreError> {
        let room = self.room(name)?;
        let hot = self.hot(&room)?;
        hot.check_whole(&room)?;
        let chunks = self.store.chunks(room.key, ChunkKind::Refusals, u64::from(from.0), u64::MAX >> 1, usize::MAX >> 1)?;
        let mut refusals = Vec::new();
        for chunk in &chunks {
            let items: Vec<Item<'_>> = serde_json::from_slice(&chunk.payload).map_err(|error| json_error(&error))?;
            refusals.extend(items.into_iter().map(Item::into_refusal).filter(|refusal| refusal.tick >= from));
        }
        // What was sealed meanwhile is in both.
        let last = refusals.last().map(|refusal: &StoredRefusal| refusal.tick);
        let hot = hot.ticks.iter().filter(|hot| hot.tick.tick >= from && Some(hot.tick.tick) > last);
        for text in hot.flat_map(|hot| &hot.refusals) {
            refusals.push(item(text)?.into_refusal());
        }
        Ok(refusals)
    }

    /// What users did and tried, accepted and refused, in the order of their ticks; of one of them, or of all.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn audit(&mut self, name: &str, of: Option<EntityId>) -> Result<Vec<Audited>, StoreError> {
        let facts = self.facts(name, FactSeq(1), usize::MAX)?.into_iter().filter(|fact| fact.producer == "user");
        let accepted = facts.filter_map(|fact| {
            let data = fact.json();
            Some(Audited { tick: fact.tick, author: fact.author?, command: fact.command, kind: fact.kind, data, refused: None })
        });
        let refused = self.refusals(name, RoomTick(0))?.into_iter().map(|refusal| {
            let StoredRefusal { tick, author, kind, command, data, code, detail } = refusal;
            let refused = Some(if detail.is_empty() { code } else { format!("{code}: {detail}") });
            Audited { tick, author, command, kind, data, refused }
        });
        let mut all: Vec<Audited> = accepted.chain(refused).filter(|audited| of.is_none_or(|of| of == audited.author)).collect();
        all.sort_by_key(|audited| audited.tick);
        Ok(all)
    }

    /// The ticks of a room from one to another, both included. Stretches in which nothing happened may be left out.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn ticks(&mut self, name: &str, from: RoomTick, to: RoomTick) -> Result<Vec<KeptTick>, StoreError> {
        let room = self.room(name)?;
        self.ticks_of(&room, from, to)
    }

    pub(crate) fn ticks_of(&mut self, room: &StoredRoom, from: RoomTick, to: RoomTick) -> Result<Vec<KeptTick>, StoreError> {
        Ok(self.ticks_by(room, (from, to), None)?.0)
    }

    /// The same for who follows their batches: refused if another protocol wrote any of them, which this one would take for something else.
    pub(crate) fn own_ticks_of(&mut self, room: &StoredRoom, from: RoomTick, to: RoomTick) -> Result<Vec<KeptTick>, StoreError> {
        let (ticks, foreign) = self.own_part_of(room, from, to)?;
        foreign.map_or(Ok(()), |(_, theirs)| self.check_fingerprint(room, theirs))?;
        Ok(ticks)
    }

    /// The same up to the first tick that another protocol wrote, and which tick and which protocol that is.
    pub(crate) fn own_part_of(&mut self, room: &StoredRoom, from: RoomTick, to: RoomTick) -> Result<OwnPart, StoreError> {
        let ours = self.protocol.fingerprint();
        self.ticks_by(room, (from, to), Some(ours))
    }

    /// What stands in the journal only. A damage is none to whom wants no more than is before it.
    fn hot_up_to(&mut self, room: &StoredRoom, to: RoomTick) -> Result<Vec<HotTick>, StoreError> {
        let hot = self.hot(room)?;
        let last = hot.ticks.last().map(|hot| hot.tick.tick).or(hot.sealed.map(|head| head.tick));
        if last.is_none_or(|last| last < to) {
            hot.check_whole(room)?;
        }
        Ok(hot.ticks)
    }

    /// The ticks of a room; of one protocol alone, if one is named.
    fn ticks_by(&mut self, room: &StoredRoom, (from, to): (RoomTick, RoomTick), of: Option<Fingerprint>) -> Result<OwnPart, StoreError> {
        let is_foreign = |theirs: Fingerprint| of.is_some_and(|ours| ours != theirs);
        let hot = if room.sealed.is_some_and(|head| to <= head.tick) { Vec::new() } else { self.hot_up_to(room, to)? };
        let chunks = self.store.chunks(room.key, ChunkKind::Ticks, u64::from(from.0), u64::from(to.0), usize::MAX >> 1)?;
        let mut ticks = Vec::new();
        for chunk in &chunks {
            if is_foreign(chunk.fingerprint) {
                return Ok((ticks, Some((chunk.tick_from, chunk.fingerprint))));
            }
            let read = read_chunk(&chunk.payload).map_err(|error| {
                StoreError::damaged(&room.header.name, format!("the ticks {} to {}", chunk.from, chunk.to), error.to_string())
            })?;
            ticks.extend(read.into_iter().filter(|kept| (from..=to).contains(&kept.tick)));
        }
        let last = ticks.last().map(|kept| kept.tick);
        let hot = hot.into_iter().map(|hot| hot.tick).filter(|kept| (from..=to).contains(&kept.tick) && Some(kept.tick) > last);
        let hot: Vec<KeptTick> = hot.collect();
        // Whoever goes on with a room seals where it goes on, before anything stands in the journal.
        if let Some(first) = hot.first().filter(|_| is_foreign(room.fingerprint)) {
            return Ok((ticks, Some((first.tick, room.fingerprint))));
        }
        ticks.extend(hot);
        Ok((ticks, None))
    }

    /// A snippet. One that an older version of the game saved is read as that version's components are.
    ///
    /// # Errors
    /// If there is none with that name.
    pub fn snippet(&mut self, name: &str, label: &str) -> Result<Snippet, StoreError> {
        let room = self.room(name)?;
        if let Some(snippet) = self.store.snippet(room.key, label)? {
            return Ok(read_now(&self.protocol, snippet));
        }
        let known = self.store.snippets(room.key)?.into_iter().map(|(label, ..)| label).collect();
        Err(StoreError::NoSnippet { room: name.to_owned(), label: label.to_owned(), known: some_of(known) })
    }

    /// Saves the state of a tick as a snippet.
    ///
    /// # Errors
    /// If the tick is not there, or the snippet can't be written.
    pub fn save_snippet(&mut self, name: &str, label: &str, tick: RoomTick) -> Result<Snippet, StoreError> {
        let room = self.room(name)?;
        self.check_tick(&room, tick)?;
        let (state, standing) = self.stand_at(&room, tick)?;
        let entities = self.entities_of(&state)?;
        let snippet = Snippet { label: label.to_owned(), tick, members: standing.members.into_keys().collect(), entities };
        self.store.save_snippet(room.key, &snippet)?;
        Ok(snippet)
    }

    /// A state's entities as JSON texts.
    pub(crate) fn entities_of(&self, state: &State) -> Result<Entities, CodecError> {
        let mut entities = Entities::new();
        if let Value::Object(all) = state.to_json(&self.protocol)? {
            for (entity, components) in all {
                let texts = components.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string()));
                entities.insert(entity, texts.collect());
            }
        }
        Ok(entities)
    }

    /// How people write the entities and users that a room ever had: names by ids.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn names(&mut self, name: &str) -> Result<BTreeMap<EntityId, String>, StoreError> {
        let mut names = self.names_of_things(name)?;
        let room = self.room(name)?;
        let facts = self.facts_of(&room, FactSeq(1), usize::MAX)?;
        names.extend(facts.iter().filter_map(StoredFact::joined).map(|joined| (joined.user, joined.name)));
        Ok(names)
    }

    /// The same without the names that users told when they joined, which stand in the facts.
    pub(crate) fn names_of_things(&mut self, name: &str) -> Result<BTreeMap<EntityId, String>, StoreError> {
        let room = self.room(name)?;
        let mut names: BTreeMap<EntityId, String> = BTreeMap::new();
        if let Some((_, text)) = &room.header.level
            && let Ok(level) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text)
        {
            names.extend(level.into_keys().filter(|name| name != Saved::NAME).map(|name| (EntityId::parse(&name), name)));
        }
        names.extend(self.store.components(room.key)?.into_keys().map(|name| (EntityId::parse(&name), name)));
        Ok(names)
    }

    /// Refuses a name under which a store has anything of a room, in chunks or in the journal: who entered another one there would take its end
    /// away. A room without a tick is what is left of a copy or a fork that was interrupted.
    pub(super) fn check_free(&self, name: &str, into: &mut dyn Store) -> Result<(), StoreError> {
        if into.room(name)?.is_none() || Self::new(into.reader()?, self.protocol.clone()).head(name)?.is_none() {
            return Ok(());
        }
        Err(StoreError::Unfit { place: format!("room {name:?}"), detail: "it is there already".to_owned() })
    }

    /// Notes a room in a store, which must not have it, that begins with a state.
    pub(crate) fn found_room(
        &self,
        header: &RoomHeader,
        state: &State,
        standing: &Standing,
        into: &mut dyn Store,
    ) -> Result<(), StoreError> {
        self.check_free(&header.name, into)?;
        let description = self.protocol().describe();
        let key = into.enter(header, &description)?;
        let fingerprint = description.fingerprint();
        let payload = checkpoint_payload(self.protocol(), state, standing);
        let values = rows_of(self.entities_of(state)?);
        let components = ComponentWrites { tick: standing.tick, all: true, gone: Vec::new(), values };
        let seal = Seal {
            key,
            head: Head { tick: standing.tick, seq: FactSeq(standing.next_seq.0.saturating_sub(1)) },
            chain: Chain::new(header.id()),
            fingerprint,
            chunks: Vec::new(),
            components: Some(components),
            checkpoint: Some(Checkpoint { tick: standing.tick, resumed: true, fingerprint, payload }),
        };
        let number = into.last_flush()? + 1;
        into.commit(&Flush { number, seals: vec![seal], ..Flush::default() })
    }
}

/// How people call whom an id names; the id itself where nobody knows. Names that were stored before control characters were refused are told without them.
pub(crate) fn name_of(names: &BTreeMap<EntityId, String>, id: &str) -> String {
    let name = names.get(&EntityId::parse(id)).map(|name| name.replace(char::is_control, "\u{fffd}"));
    name.unwrap_or_else(|| id.to_owned())
}

fn json_error(error: &serde_json::Error) -> CodecError {
    CodecError::Value { at: error.column(), detail: error.to_string() }
}

/// The facts of a chunk from one on.
pub(crate) fn read_facts(room: &str, chunk: &Chunk, from: u64, out: &mut Vec<StoredFact>) -> Result<(), StoreError> {
    let damaged = |detail: String| StoreError::damaged(room, format!("the facts {} to {}", chunk.from, chunk.to), detail);
    let items: Vec<Item<'_>> = serde_json::from_slice(&chunk.payload).map_err(|error| damaged(error.to_string()))?;
    if items.len() as u64 != chunk.to - chunk.from + 1 {
        return Err(damaged(format!("there are {}", items.len())));
    }
    let numbered = items.into_iter().zip(chunk.from..).filter(|(_, seq)| *seq >= from);
    out.extend(numbered.map(|(item, seq)| item.into_fact(FactSeq(seq))));
    Ok(())
}

pub(crate) fn item(text: &str) -> Result<Item<'_>, CodecError> {
    serde_json::from_str(text).map_err(|error| json_error(&error))
}
