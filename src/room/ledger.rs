//! What happened: the facts of a room, numbered without gaps, each with who made it happen and why.

use std::sync::Arc;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;
use bevy_ecs::system::{SystemName, SystemParam};
use serde::Serialize;

use super::clock::RoomClock;
use super::index::EntityIndex;
use super::meter::Meter;
use crate::protocol::limits::{FACT_CHAIN_MAX, FACTS_PER_TICK_MAX};
use crate::protocol::{CommandId, EntityId, Fact, FactHead, FactSeq, Payload, Producer, Protocol, Recorded, read_whole};

/// Where a fact comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) producer: Producer,
    pub(crate) author: Option<EntityId>,
    pub(crate) command: Option<CommandId>,
    pub(crate) cause: Option<FactSeq>,
}

impl Origin {
    pub(crate) fn new(producer: Producer) -> Self {
        Self { producer, author: None, command: None, cause: None }
    }
}

/// The change ticks that passed while a fact was applied: what changed in them changed because of it.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: Tick,
    end: Tick,
    seq: FactSeq,
}

/// The facts of the tick that runs, and the number of the next one.
#[derive(Resource, Default, Debug)]
pub struct Ledger {
    next: u64,
    pub(crate) facts: Vec<Recorded>,
    pub(crate) bytes: Vec<u8>,
    spans: Vec<Span>,
    applying: Option<(FactSeq, Option<EntityId>, Option<CommandId>)>,
    /// How many facts are being applied, each because of the one before.
    depth: usize,
    /// Nothing is recorded: what happens has happened elsewhere.
    pub(crate) muted: bool,
}

impl Ledger {
    /// Goes on after facts that were recorded before: `next` is the number of the next one.
    pub(crate) fn go_on(&mut self, next: FactSeq) {
        self.next = next.0.saturating_sub(1);
    }

    /// The number that the next fact will have.
    pub fn next_seq(&self) -> FactSeq {
        FactSeq(self.next + 1)
    }

    /// The facts of the tick that runs, so far.
    pub fn facts(&self) -> &[Recorded] {
        &self.facts
    }

    /// The fact of this tick that caused a change made at `tick`, if a fact did.
    pub(crate) fn cause_of(&self, tick: Tick, now: Tick) -> Option<FactSeq> {
        let within = |span: &&Span| tick.is_newer_than(span.start, now) && !tick.is_newer_than(span.end, now);
        // The innermost span ends first, and spans are pushed when they end.
        self.spans.iter().find(within).map(|span| span.seq)
    }

    /// Hands the facts of the tick out and starts the next tick.
    pub(crate) fn take(&mut self) -> Vec<Recorded> {
        self.bytes.clear();
        self.spans.clear();
        // A prediction goes on after a panic that left a fact half applied.
        (self.applying, self.depth) = (None, 0);
        std::mem::take(&mut self.facts)
    }
}

/// Records a fact and applies it: the state has changed when this returns.
///
/// # Panics
/// If the fact is not registered, can't be encoded, or is one of too many in the tick or in a chain: faults of the game, which close its room.
pub(crate) fn record(world: &mut World, fact: Box<dyn Fact>, origin: Origin) -> FactSeq {
    record_and(world, fact, origin, |_| {})
}

/// Records a fact and applies it by its observer and by `also`: what either changes, changed because of the fact.
///
/// # Panics
/// See [`record`].
pub(crate) fn record_and(world: &mut World, fact: Box<dyn Fact>, mut origin: Origin, also: impl FnOnce(&mut World)) -> FactSeq {
    // Before anything is asked of the protocol: it may be lent to who puts the world to what has happened elsewhere.
    if world.resource::<Ledger>().muted {
        return FactSeq(0);
    }
    let tick = world.resource::<RoomClock>().tick;
    let protocol = world.resource::<Protocol>();
    let kind_of = |kind: usize| protocol.facts.get(kind).map(|known| (kind, &known.name, known.decode));
    let Some((kind, name, read)) = protocol.fact_index(fact.kind()).and_then(kind_of) else {
        panic!("the fact {} is not in the protocol: add `app.fact::<..>(\"its_name\")`", fact.type_name());
    };
    let name: Arc<str> = name.as_str().into();
    let mut ledger = world.resource_mut::<Ledger>();
    assert!(ledger.facts.len() < FACTS_PER_TICK_MAX, "more than {FACTS_PER_TICK_MAX} facts in tick {tick}; the last one is {name}");
    let depth = ledger.depth;
    assert!(
        depth < FACT_CHAIN_MAX,
        "more than {FACT_CHAIN_MAX} facts, each recorded while the one before is applied, in tick {tick}; the last one is {name}"
    );
    ledger.depth += 1;
    ledger.next += 1;
    let seq = FactSeq(ledger.next);
    if let Some((cause, author, command)) = ledger.applying {
        origin.cause = origin.cause.or(Some(cause));
        origin.author = origin.author.or(author);
        origin.command = origin.command.or(command);
    }
    let Origin { producer, author, command, cause } = origin;
    let ledger = &mut *ledger;
    FactHead { seq, kind, producer: producer.clone(), author, cause }.write(&mut ledger.bytes);
    let start = ledger.bytes.len();
    if let Err(error) = fact.encode(&mut ledger.bytes) {
        panic!("the fact {name} can't be recorded: {error}");
    }
    if cfg!(debug_assertions) {
        // While a game is being made: a field that serde leaves out where it is empty would be read as what follows it, by all members and from the store.
        if let Err(error) = read_whole(read, ledger.bytes.get(start..).unwrap_or_default()) {
            panic!("the fact {name} could not be read again: {error}");
        }
    }
    let fact: Arc<dyn Fact> = fact.into();
    ledger.facts.push(Recorded { seq, tick, name, producer, author, command, cause, fact: fact.clone() });
    let outer = ledger.applying.replace((seq, author, command));
    let began = world.resource::<Meter>().now();
    let start = world.increment_change_tick();
    fact.trigger(world, seq, tick, author);
    also(world);
    // Without the flush the next fact would be applied to a state in which this one has not happened.
    world.flush();
    let end = world.increment_change_tick();
    world.resource_mut::<Meter>().count_fact(kind, began);
    let mut ledger = world.resource_mut::<Ledger>();
    (ledger.applying, ledger.depth) = (outer, depth);
    ledger.spans.push(Span { start, end, seq });
    seq
}

/// Records facts from systems and observers.
///
/// A fact is recorded and applied at the next point where commands are, in order; the system's name becomes its producer. In a room that
/// goes on from what was stored nothing of that counts as changed or added, so what was recorded of it once is not recorded again.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Component, Serialize, Deserialize, Clone)]
/// # struct Health(i32);
/// #[derive(Clone, Serialize, Deserialize)]
/// struct PlayerKilled { player: EntityId }
///
/// fn notice_deaths(players: Query<(&EntityId, Ref<Health>), Changed<Health>>, mut record: Recorder) {
///     for (player, health) in &players {
///         if health.0 == 0 {
///             record.because(&health).fact(PlayerKilled { player: *player });
///         }
///     }
/// }
/// ```
#[derive(SystemParam)]
pub struct Recorder<'w, 's> {
    commands: Commands<'w, 's>,
    index: ResMut<'w, EntityIndex>,
    name: SystemName,
}

impl<'w, 's> Recorder<'w, 's> {
    /// Records that something happened.
    pub fn fact<F: Serialize + Clone + Send + Sync + 'static>(&mut self, fact: F) {
        self.queue(Payload(fact), None);
    }

    /// A new id for an entity that a fact creates, so that the fact can name it.
    pub fn new_id(&mut self) -> EntityId {
        self.index.mint()
    }

    /// The entity with that id, if the room has one.
    pub fn entity(&self, id: EntityId) -> Option<Entity> {
        self.index.entity(id)
    }

    /// Links the next fact to the one that made `change`: the ledger then tells the whole chain.
    pub fn because(&mut self, change: &impl DetectChanges) -> Because<'_, 'w, 's> {
        Because { tick: change.last_changed(), recorder: self }
    }

    fn queue<F: Serialize + Clone + Send + Sync + 'static>(&mut self, fact: Payload<F>, changed: Option<Tick>) {
        let name = self.name.name();
        let name = name.rsplit("::").next().unwrap_or_default().to_owned();
        self.commands.queue(move |world: &mut World| {
            let mut origin = Origin::new(Producer::System(name));
            let now = world.change_tick();
            origin.cause = changed.and_then(|tick| world.resource::<Ledger>().cause_of(tick, now));
            record(world, Box::new(fact), origin);
        });
    }
}

/// A [`Recorder`] that knows the cause of the next fact.
#[must_use = "call `fact`"]
pub struct Because<'a, 'w, 's> {
    tick: Tick,
    recorder: &'a mut Recorder<'w, 's>,
}

impl Because<'_, '_, '_> {
    /// Records that something happened.
    pub fn fact<F: Serialize + Clone + Send + Sync + 'static>(self, fact: F) {
        self.recorder.queue(Payload(fact), Some(self.tick));
    }
}
