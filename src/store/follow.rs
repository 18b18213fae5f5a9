//! Follows one room from tick to tick, off its thread: folds its batches, writes its texts, and puts together what is sealed.

use std::sync::Arc;

use super::chain::Chain;
use super::error::StoreError;
use super::frame::{pack, write_texts};
use super::items::mark;
use super::record::{Entities, Head, RoomHeader, TickRecord, write_fact, write_refusal};
use super::tables::{Checkpoint, ComponentWrites, RoomKey, Seal};
use super::unsealed::Unsealed;
use crate::protocol::{CodecError, Dirty, EXISTS, FactSeq, Fingerprint, Protocol, Reader, RoomTick, Standing, State};

/// How often what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cadence {
    pub(crate) components_every: u32,
    pub(crate) checkpoint_every: u32,
}

/// One room, as its store knows it.
pub(crate) struct Follower {
    pub(crate) key: RoomKey,
    pub(crate) header: RoomHeader,
    pub(crate) protocol: Arc<Protocol>,
    fingerprint: Fingerprint,
    pub(crate) state: State,
    pub(crate) standing: Standing,
    chain: Chain,
    dirty: Dirty,
    /// The next seal writes all components, not only what changed: the table does not have them yet.
    all_dirty: bool,
    components_tick: Option<RoomTick>,
    checkpoint_tick: Option<RoomTick>,
    bytes_since_checkpoint: usize,
    /// The next seal takes a checkpoint from which a new process goes on.
    resumes: bool,
    unsealed: Unsealed,
    /// The texts of the facts that were taken up and told nobody yet; nothing where nobody wants them.
    pub(crate) fresh: Option<Vec<(FactSeq, Vec<u8>)>>,
}

/// How a room begins or goes on in a process.
pub(crate) struct Beginning {
    pub(crate) state: State,
    pub(crate) standing: Standing,
    pub(crate) chain: Chain,
    pub(crate) resumed: bool,
}

impl Follower {
    pub(crate) fn new(key: RoomKey, header: RoomHeader, protocol: Arc<Protocol>, begin: Beginning) -> Self {
        let Beginning { state, standing, chain, resumed } = begin;
        Self {
            key,
            header,
            fingerprint: protocol.fingerprint(),
            protocol,
            state,
            standing,
            chain,
            dirty: Dirty::default(),
            all_dirty: true,
            components_tick: None,
            checkpoint_tick: None,
            bytes_since_checkpoint: 0,
            resumes: resumed,
            unsealed: Unsealed::default(),
            fresh: None,
        }
    }

    /// Takes a tick up and appends it to the journal.
    ///
    /// # Errors
    /// If the batch does not follow from the ones before: a fault of ours. The tick's facts are in the journal all the same.
    pub(crate) fn take(&mut self, record: &TickRecord, journal: &mut Vec<u8>) -> Result<(), StoreError> {
        let folded = match &record.batch {
            Some(batch) => self.state.fold_noting(&self.protocol, batch, Some(&mut self.dirty)).map(drop),
            None => Ok(()),
        };
        let facts = record.facts.len() as u64;
        self.standing.follow(record.tick, record.batch.is_some(), facts, &record.taken, &record.trail);
        journal.extend_from_slice(self.unsealed.tick(record.tick, record.batch.as_ref(), &record.taken, &record.trail));
        self.bytes_since_checkpoint += record.batch.as_ref().map_or(0, bytes::Bytes::len);
        let (facts, refusals) = self.marked(record);
        for texts in [&facts, &refusals] {
            write_texts(texts.iter().map(Vec::as_slice), journal);
        }
        self.unsealed.items(record.tick, &facts, &refusals);
        if let Some(fresh) = &mut self.fresh {
            fresh.extend(record.facts.iter().map(|fact| fact.seq).zip(facts));
        }
        folded.map_err(|error| StoreError::State { room: self.header.name.clone(), tick: record.tick, error })
    }

    /// The texts of a tick's facts, and of its refusals, with their marks.
    fn marked(&mut self, record: &TickRecord) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let Self { chain, protocol, .. } = self;
        let facts = record.facts.iter().map(|fact| {
            let mut text = Vec::with_capacity(192);
            write_fact(fact, &mut text);
            mark(chain, &mut text);
            text
        });
        let facts = facts.collect();
        let refusals = record.taken.iter().filter_map(|taken| {
            let mut text = Vec::new();
            write_refusal(protocol, record.tick, taken, &mut text).then(|| {
                mark(chain, &mut text);
                text
            })
        });
        (facts, refusals.collect())
    }

    /// What a room's snapshot of the tick that was taken last has otherwise than the batches tell, if anything.
    pub(crate) fn differs(&self, tick: RoomTick, snapshot: &[u8]) -> Option<String> {
        // Equal states have equal bytes: nearly always that is all.
        if tick != self.standing.tick || self.state.to_snapshot(&self.protocol, tick, self.standing.next_seq) == snapshot {
            return None;
        }
        match State::from_snapshot(&self.protocol, self.header.id(), snapshot) {
            Ok(room) => room.difference(&self.protocol, &self.state),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Where its ledger ends.
    pub(crate) fn head(&self) -> FactSeq {
        FactSeq(self.standing.next_seq.0.saturating_sub(1))
    }

    /// True if anything waits to be sealed.
    pub(crate) fn is_unsealed(&self) -> bool {
        !self.unsealed.is_empty()
    }

    /// True if the table of components is of an older tick than the last one, even if all of that is sealed.
    pub(crate) fn has_older_table(&self) -> bool {
        self.components_tick.is_some_and(|tick| tick < self.standing.tick)
    }

    /// Puts together what is sealed. `whole` writes the components now, however long ago they were written.
    pub(crate) fn seal(&mut self, cadence: Cadence, whole: bool, broken: bool) -> Seal {
        let (fingerprint, tick) = (self.fingerprint, self.standing.tick);
        let seq = self.head();
        let chunks = std::mem::take(&mut self.unsealed).into_chunks(fingerprint, seq);
        let due = |since: Option<RoomTick>, every: u32| since.is_none_or(|since| tick.0.saturating_sub(since.0) >= every);
        let components = match whole || due(self.components_tick, cadence.components_every) {
            true if !broken => self.components_or_later(),
            _ => None,
        };
        let grown = self.bytes_since_checkpoint * 4 >= self.state.entities().len() * 16;
        let rare = due(self.checkpoint_tick, cadence.checkpoint_every.saturating_mul(20));
        let checkpoint = if broken {
            None
        } else if self.resumes || rare || (grown && due(self.checkpoint_tick, cadence.checkpoint_every)) {
            Some(self.checkpoint())
        } else {
            None
        };
        Seal { key: self.key, head: Head { tick, seq }, chain: self.chain, fingerprint, chunks, components, checkpoint }
    }

    /// What the table of components is to have of this tick. Where a value can't be told, the table stays as it is, of the tick that it says it
    /// is of, and the next time all of it is written: what changed meanwhile is not known any more.
    fn components_or_later(&mut self) -> Option<ComponentWrites> {
        let components = self.components();
        if let Err(error) = &components {
            self.all_dirty = true;
            tracing::error!(%error, room = self.header.name, "the components can't be told as JSON; the table of them stays behind");
        }
        components.ok()
    }

    fn components(&mut self) -> Result<ComponentWrites, StoreError> {
        let dirty = std::mem::take(&mut self.dirty);
        let all = std::mem::take(&mut self.all_dirty);
        let tick = self.standing.tick;
        self.components_tick = Some(tick);
        let mut values = Vec::new();
        if all {
            for (id, entity) in self.state.entities() {
                for component in entity.components.keys().chain([&EXISTS]) {
                    values.extend(self.component(*id, *component)?);
                }
            }
            return Ok(ComponentWrites { tick, all, gone: Vec::new(), values });
        }
        for (id, component) in dirty.values {
            values.extend(self.component(id, component)?);
        }
        Ok(ComponentWrites { tick, all, gone: dirty.gone.into_iter().collect(), values })
    }

    fn component(&self, id: crate::protocol::NetId, component: usize) -> Result<Option<(String, String, Option<String>)>, CodecError> {
        let Some(entity) = self.state.entities().get(&id) else { return Ok(None) };
        if component == EXISTS {
            return Ok(Some(exists(entity.identity.display(self.state.room()))));
        }
        let Some(entry) = self.protocol.components.get(component) else { return Ok(None) };
        let json = match entity.components.get(&component) {
            Some(value) => Some(entry.column.to_json(&mut Reader::new(value), &self.state)?.to_string()),
            None => None,
        };
        Ok(Some((entity.identity.display(self.state.room()), entry.name.clone(), json)))
    }

    fn checkpoint(&mut self) -> Checkpoint {
        self.checkpoint_tick = Some(self.standing.tick);
        self.bytes_since_checkpoint = 0;
        let resumed = std::mem::take(&mut self.resumes);
        let payload = checkpoint_payload(&self.protocol, &self.state, &self.standing);
        Checkpoint { tick: self.standing.tick, resumed, fingerprint: self.fingerprint, payload }
    }
}

/// The row that says of an entity only that it is there.
pub(crate) fn exists(entity: String) -> (String, String, Option<String>) {
    (entity, String::new(), Some("null".to_owned()))
}

/// The rows of entities with their components.
pub(crate) fn rows_of(entities: Entities) -> Vec<(String, String, Option<String>)> {
    let of_entity = |(entity, components): (String, std::collections::BTreeMap<String, String>)| {
        let there = exists(entity.clone());
        components.into_iter().map(move |(component, value)| (entity.clone(), component, Some(value))).chain([there])
    };
    entities.into_iter().flat_map(of_entity).collect()
}

/// What a checkpoint holds: the standing, then the snapshot, packed.
pub(crate) fn checkpoint_payload(protocol: &Protocol, state: &State, standing: &Standing) -> Vec<u8> {
    let mut bytes = Vec::new();
    standing.write(&mut bytes);
    bytes.extend_from_slice(&state.to_snapshot(protocol, standing.tick, standing.next_seq));
    pack(&bytes)
}

/// Reads what a checkpoint holds.
pub(crate) fn read_checkpoint(protocol: &Protocol, header: &RoomHeader, payload: &[u8]) -> Result<(State, Standing), StoreError> {
    let bytes = super::frame::unpack(payload)?;
    let mut input = Reader::new(&bytes);
    let standing = Standing::read(&mut input)?;
    let state = State::from_snapshot(protocol, header.id(), input.rest());
    let mut state = state.map_err(|error| StoreError::State { room: header.name.clone(), tick: standing.tick, error })?;
    // A snapshot is of a tick, a state of the last tick in which anything changed.
    state.set_tick(standing.last_batch);
    Ok((state, standing))
}
