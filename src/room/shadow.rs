//! A room in which nothing happens but what one client asks for: no start-up, no level, nobody's systems but those of [`PredictedUpdate`], and `Ttl`.
//!
//! It is run forward, and what was changed is put back: by whom, and to which values, is the caller's. See `src/predict`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy_app::App;
use bevy_ecs::change_detection::Tick;
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::message::MessageRegistry;
use bevy_ecs::prelude::*;
use bevy_ecs::resource::IsResource;
use bevy_time::{Fixed, Time, Virtual};

use super::clock::RoomClock;
use super::fault::{RoomFault, catch_faults_quietly, fault_of};
use super::index::{EntityIndex, SlotState};
use super::intake::{Asked, Member, Members, decide};
use super::ledger::{Ledger, Origin, record};
use super::resume::{Resumed, fill};
use super::rewind::begin_pasts;
use super::rng::RoomRng;
use super::runner::{PredictedUpdate, Room, RoomEnd, RoomError, RoomInfo, RoomOptions};
use crate::protocol::limits::COMMANDS_PER_TICK_MAX;
use crate::protocol::{CodecError, CommandId, EntityId, Lost, NetId, Producer, Protocol, RoomId, RoomTick, Standing, State, User};

/// Lets something be done in which the game's rules may panic.
///
/// # Errors
/// If they did.
pub(crate) fn guard<T>(act: impl FnOnce() -> T) -> Result<T, RoomFault> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| fault_of(payload, RoomTick(0)))
}

/// Where the ids that it mints begin: far from those of the room, which it can't foresee.
const FIRST_SERIAL: u64 = 1 << 44;

/// See the page.
pub(crate) struct Shadow {
    world: World,
    user: EntityId,
    /// Out of the world, since they run many times in a tick of the client.
    update: Option<Schedule>,
    end: Option<Schedule>,
    users: QueryState<&'static EntityId, With<User>>,
    commands_this_tick: usize,
    ids: Vec<(u32, Tick)>,
    /// What `Resumed` has spawned that is not synced.
    worked_out: Vec<Entity>,
    /// Up to when messages were looked for that are to be let go of.
    messages: Tick,
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadow").field("user", &self.user).finish_non_exhaustive()
    }
}

/// An entity that came since the changes were last forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) id: EntityId,
    pub(crate) net_id: NetId,
    /// Its entity; it may be gone by now.
    pub(crate) entity: Entity,
    pub(crate) lives: bool,
    /// The shadow named it by itself: the room will name it otherwise.
    pub(crate) minted: bool,
}

/// What happened since the changes were last forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    /// Components that were written, added or removed, of entities that were there before: in order, each once.
    pub(crate) rows: Vec<(usize, Entity)>,
    /// Entities that came.
    pub(crate) born: Vec<Birth>,
    /// Entities that were there before and are gone.
    pub(crate) dead: Vec<(EntityId, Entity)>,
    /// Up to which change tick this was looked for.
    pub(crate) until: Tick,
}

impl Default for Touched {
    fn default() -> Self {
        Self { rows: Vec::new(), born: Vec::new(), dead: Vec::new(), until: Tick::new(0) }
    }
}

/// Rows that the room alone moves: those of an entity which have not changed since that change tick are as it has said.
pub(crate) type Foreign = BTreeMap<(usize, Entity), Tick>;

impl Shadow {
    /// Builds one from the same two functions as a room.
    ///
    /// # Errors
    /// As for [`Room::new`].
    pub(crate) fn new(protocol: impl FnOnce(&mut App), rules: impl FnOnce(&mut App)) -> Result<Self, RoomError> {
        let built = catch_unwind(AssertUnwindSafe(|| Room::build(&RoomOptions::named("shadow"), protocol, rules)));
        let mut world = built.map_err(|payload| fault_of(payload, RoomTick(0)))??.into_world();
        catch_faults_quietly(&mut world);
        let mut schedules = world.resource_mut::<Schedules>();
        let (mut update, mut end) = (schedules.remove(PredictedUpdate), schedules.remove(RoomEnd));
        for schedule in update.iter_mut().chain(&mut end) {
            schedule
                .initialize(&mut world)
                .map_err(|error| RoomError::Rules(vec![format!("the schedule {:?} can't be built: {error}", schedule.label())]))?;
        }
        let users = QueryState::new(&mut world);
        Ok(Self {
            world,
            user: EntityId::NIL,
            update,
            end,
            users,
            commands_this_tick: 0,
            ids: Vec::new(),
            worked_out: Vec::new(),
            messages: Tick::new(0),
        })
    }

    /// The world.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The world.
    pub(crate) fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// True if something happens in it by itself.
    pub(crate) fn has_update(&self) -> bool {
        self.update.is_some()
    }

    /// Empties it, and fills it with a state of a room as it is for a user.
    ///
    /// # Errors
    /// If the state does not fit.
    pub(crate) fn fill(&mut self, state: &State, name: &str, user: EntityId) -> Result<(), CodecError> {
        let world = &mut self.world;
        // All of it has happened. After an error nothing is predicted any more.
        world.resource_mut::<Ledger>().muted = true;
        let mut entities: Vec<Entity> = world.query_filtered::<Entity, (With<NetId>, Allow<Disabled>)>().iter(world).collect();
        entities.append(&mut self.worked_out);
        for entity in entities {
            // What was a child of another one is gone with it.
            if let Ok(entity) = world.get_entity_mut(entity) {
                entity.despawn();
            }
        }
        world.flush();
        let id: RoomId = state.room();
        world.insert_resource(EntityIndex::new(id));
        world.insert_resource(Lost::default());
        world.insert_resource(RoomInfo { name: name.to_owned(), id, seed: 0 });
        world.resource_mut::<EntityIndex>().go_on(FIRST_SERIAL);
        self.user = user;
        self.begin(state.tick());
        fill(&mut self.world, state, &Standing { tick: state.tick(), ..Standing::default() })?;
        let known = self.unsynced();
        let _ = self.world.try_run_schedule(Resumed);
        self.world.flush();
        self.worked_out = self.unsynced().into_iter().filter(|entity| !known.contains(entity)).collect();
        self.worked_out.sort_unstable();
        self.world.resource_mut::<Ledger>().muted = false;
        begin_pasts(&mut self.world, state.tick().0);
        self.note_members();
        Ok(())
    }

    fn unsynced(&mut self) -> EntityHashSet {
        let world = &mut self.world;
        world.query_filtered::<Entity, (Without<NetId>, Without<IsResource>, Allow<Disabled>)>().iter(world).collect()
    }

    /// The users are those whose entities are here.
    pub(crate) fn note_members(&mut self) {
        let users: Vec<EntityId> = self.users.iter(&self.world).copied().collect();
        let members = &mut self.world.resource_mut::<Members>().by_id;
        members.clear();
        members.extend(users.into_iter().chain([self.user]).map(|user| (user, Member::default())));
    }

    /// A tick begins.
    pub(crate) fn begin(&mut self, tick: RoomTick) {
        self.commands_this_tick = 0;
        let world = &mut self.world;
        world.resource_mut::<RoomClock>().tick = tick;
        let before = RoomClock::STEP * tick.0.saturating_sub(1);
        let mut time = Time::<()>::default();
        time.advance_by(before);
        time.advance_by(RoomClock::STEP);
        *world.resource_mut::<Time>() = time;
        let mut time = Time::<Virtual>::default();
        time.advance_by(before);
        time.advance_by(RoomClock::STEP);
        *world.resource_mut::<Time<Virtual>>() = time;
        let mut time = Time::<Fixed>::from_duration(RoomClock::STEP);
        time.advance_by(before);
        time.advance_by(RoomClock::STEP);
        *world.resource_mut::<Time<Fixed>>() = time;
    }

    /// The user's command is decided, and what comes of it is applied. False if it is rejected.
    pub(crate) fn obey(&mut self, id: CommandId, asked: Asked<'_>) -> bool {
        self.commands_this_tick += 1;
        if self.commands_this_tick > COMMANDS_PER_TICK_MAX {
            return false;
        }
        let (world, user) = (&mut self.world, self.user);
        let Ok(facts) = decide(world, user, id, asked) else { return false };
        for fact in facts.0 {
            record(world, fact, Origin { author: Some(user), command: Some(id), ..Origin::new(Producer::User) });
        }
        true
    }

    /// The tick ends.
    pub(crate) fn end(&mut self) {
        let schedules = self.update.iter_mut().chain(&mut self.end);
        schedules.for_each(|schedule| schedule.run(&mut self.world));
        self.world.resource_mut::<Ledger>().take();
        self.pass_messages();
    }

    /// What Bevy does with messages at the beginning of each frame: those of the frame before are gone.
    fn pass_messages(&mut self) {
        let now = self.world.increment_change_tick();
        let since = std::mem::replace(&mut self.messages, now);
        self.world.try_resource_scope(|world, mut registry: Mut<MessageRegistry>| registry.run_updates(world, since));
    }

    /// From here on changes count. Chance begins anew, and so do the ids that it mints.
    pub(crate) fn forget_changes(&mut self) -> Tick {
        let world = &mut self.world;
        world.flush();
        let now = world.increment_change_tick();
        restart_steps(world, now);
        let mut index = world.resource_mut::<EntityIndex>();
        index.born.clear();
        index.toggled.clear();
        index.free_the_dead();
        index.go_on(FIRST_SERIAL);
        let mut lost = world.resource_mut::<Lost>();
        (lost.since, lost.dying) = (now, None);
        lost.rows.clear();
        *world.resource_mut::<RoomRng>() = RoomRng::new(0);
        let mut ledger = world.resource_mut::<Ledger>();
        ledger.take();
        ledger.go_on(crate::protocol::FactSeq(1));
        world.clear_trackers();
        // Both of their buffers: they tell of what has not happened.
        self.pass_messages();
        self.pass_messages();
        now
    }

    /// Takes note that what happened up to now came true: nobody asks for it any more, and it is not kept.
    pub(crate) fn forget_notes(&mut self) {
        let now = self.world.change_tick();
        restart_steps(&mut self.world, now);
        self.world.clear_trackers();
    }

    /// True if entities came or went, were disabled or enabled, or lost components, since the changes were forgotten.
    pub(crate) fn is_reshaped(&self) -> bool {
        let index = self.world.resource::<EntityIndex>();
        !index.born.is_empty() || !index.deaths.is_empty() || !index.toggled.is_empty() || !self.world.resource::<Lost>().rows.is_empty()
    }

    /// How many entities came since the changes were forgotten.
    pub(crate) fn births(&self) -> usize {
        self.world.resource::<EntityIndex>().born.len()
    }

    /// The entities that came since the changes were forgotten, but for the first few.
    pub(crate) fn born_after(&self, known: usize) -> Vec<Birth> {
        born_after(self.world.resource::<EntityIndex>(), known)
    }

    /// Births and deaths since the changes were forgotten. Who was disabled is dead, as in the room.
    pub(crate) fn came_and_went(&self) -> Touched {
        let index = self.world.resource::<EntityIndex>();
        let born = born_after(index, 0);
        let despawned = index.deaths.iter().filter_map(|death| index.slot(death.id));
        let toggled = index.toggled.iter().filter_map(|id| index.slot(*id));
        let disabled = toggled.filter(|slot| self.world.get::<Disabled>(slot.entity).is_some());
        let new: EntityHashSet = born.iter().map(|birth| birth.entity).collect();
        let dead = despawned.chain(disabled).filter(|slot| !new.contains(&slot.entity)).map(|slot| (slot.id, slot.entity));
        let dead: BTreeMap<EntityId, Entity> = dead.collect();
        Touched { dead: dead.into_iter().collect(), born, ..Touched::default() }
    }

    /// Everything that changed after a change tick, but for what the room alone moves; births and deaths since the changes were forgotten.
    pub(crate) fn touched(&mut self, since: Tick, foreign: &Foreign) -> Touched {
        let mut touched = self.came_and_went();
        let (ids, world) = (&mut self.ids, &mut self.world);
        let now = world.increment_change_tick();
        touched.until = now;
        let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
        let index = world.resource::<EntityIndex>();
        let new: EntityHashSet = touched.born.iter().map(|birth| birth.entity).collect();
        let row = |component: usize, id: NetId| {
            let slot = index.slot(id).filter(|slot| !matches!(slot.state, SlotState::Buried | SlotState::Free));
            slot.map(|slot| (component, slot.entity)).filter(|(_, entity)| !new.contains(entity))
        };
        for (component, entry) in protocol.components.iter_mut().enumerate() {
            ids.clear();
            entry.column.changed_ids(world, since, now, ids);
            let rows = ids.iter().filter_map(|(id, tick)| Some((row(component, NetId(*id))?, *tick)));
            let own = |(row, tick): &(_, Tick)| foreign.get(row).is_none_or(|written| tick.is_newer_than(*written, now));
            touched.rows.extend(rows.filter(own).map(|(row, _)| row));
        }
        touched.rows.extend(world.resource::<Lost>().rows.iter().filter_map(|lost| row(lost.component, lost.id)));
        touched.rows.sort_unstable();
        touched.rows.dedup();
        *world.resource_mut::<Protocol>() = protocol;
        touched
    }
}

fn restart_steps(world: &mut World, now: Tick) {
    let protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    for entry in protocol.components.iter().filter(|entry| entry.quantity) {
        entry.column.restart_steps(world, now);
    }
    *world.resource_mut::<Protocol>() = protocol;
}

fn born_after(index: &EntityIndex, known: usize) -> Vec<Birth> {
    let birth = |id: &NetId| {
        let slot = index.slot(*id)?;
        let minted = slot.id.serial_in(index.room()).is_some();
        let lives = !matches!(slot.state, SlotState::Buried | SlotState::Free);
        Some(Birth { id: slot.id, net_id: *id, entity: slot.entity, lives, minted })
    };
    index.born.iter().skip(known).filter_map(birth).collect()
}
