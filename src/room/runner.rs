//! A room: a Bevy world with its schedules, run one tick at a time.

use std::any::TypeId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_app::{FixedMainScheduleOrder, MainScheduleOrder, PluginsState, RunFixedMainLoop, SubApp};
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::{InternedScheduleLabel, LogLevel, ScheduleBuildSettings, ScheduleLabel, SingleThreadedExecutor};
use bevy_time::{Fixed, Time, Virtual};
use bytes::Bytes;
use thiserror::Error;

use super::audience::watch_owners;
use super::clock::RoomClock;
use super::collect::{Collector, collect};
use super::decision::{Join, Rules, RulesAppExt};
use super::fault::{RoomFault, catch_faults, fault_of};
use super::history::History;
use super::inbox::Inbox;
use super::index::{EntityIndex, keep_index};
use super::intake::{Members, intake};
use super::latest::LatestValues;
use super::ledger::{Ledger, Origin, record};
use super::level::{Level, LevelError};
use super::lifetime::expire;
use super::meter::{HandlerInfo, Meter, handlers};
use super::outbox::Outbox;
use super::private::Private;
use super::resume::{ResumeError, Scene, resume, settle};
use super::rewind::RewindLimit;
use super::rng::RoomRng;
use super::snapshot::write_snapshot;
use super::user::{despawn_user, spawn_user};
use crate::protocol::limits::{LATEST_MAX, TICKS_PER_SECOND};
use crate::protocol::{
    Delivery, EntityId, FactSeq, Incoming, Payload, Producer, Protocol, RoomCreated, RoomId, RoomTick, Standing, State, Trail, UserJoined,
    UserLeft, register_built_in, watch_losses,
};

/// What a room starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomOptions {
    /// The name by which it is addressed.
    pub name: String,
    /// Its id. By default it follows from the name.
    pub id: Option<RoomId>,
    /// Where its chance starts. The same seed gives the same room. Default: 0.
    pub seed: u64,
    /// The level that it starts with. Default: none, an empty world.
    pub level: Option<Level>,
    /// Tell with each operation which fact caused it, at about a byte an operation. Default: no.
    pub notes: bool,
    /// Put a hash of the state on each batch, by which a replica that differs notices. Costs a hash per changed value. Default: no.
    pub check: bool,
    /// Refuse to run systems whose order Bevy does not know from their constraints: such an order can change with any
    /// unrelated system. Default: no.
    pub deny_ambiguity: bool,
}

impl RoomOptions {
    /// A room with that name, and the defaults.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), id: None, seed: 0, level: None, notes: false, check: false, deny_ambiguity: false }
    }
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self::named("room")
    }
}

/// Why a room could not be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The protocol or the rules are not whole; a sentence for each thing that is wrong.
    #[error("the game's protocol and rules don't fit: {}", .0.join("; "))]
    Rules(Vec<String>),
    /// The level can't be loaded.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// What was stored does not fit.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// Code of the game panicked while the room started.
    #[error(transparent)]
    Fault(#[from] RoomFault),
}

/// What a room's world knows of the room. A resource.
#[derive(Resource, Clone, Debug, PartialEq, Eq)]
pub struct RoomInfo {
    /// The name by which it is addressed.
    pub name: String,
    /// Its id.
    pub id: RoomId,
    /// The seed of its chance.
    pub seed: u64,
}

/// The end of a tick, after all systems of the game: a game can't add any to it.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RoomEnd;

/// A schedule that a room never runs, but a client that predicts does: once for each tick between two commands, after the commands of the tick. For
/// what a player's own things do by themselves, its bullet's flight for instance; what runs in it on the server is added to `FixedUpdate` besides.
///
/// ```
/// use bevy_app::prelude::*;
/// use roomkeeper::room::PredictedUpdate;
/// fn fly() {}
/// fn rules(app: &mut App) {
///     app.add_systems(FixedUpdate, fly).add_systems(PredictedUpdate, fly);
/// }
/// ```
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct PredictedUpdate;

/// One Bevy world with its own schedule, tick, ledger and members. `Send`, and it never waits: an inbox in, an outbox out.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::room::{Room, RoomOptions};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Position([f32; 2]);
///
/// fn protocol(app: &mut App) {
///     app.sync::<Position>("position").latest();
/// }
/// fn drift(mut positions: Query<&mut Position>) {
///     positions.iter_mut().for_each(|mut position| position.0[0] += 0.05);
/// }
/// fn rules(app: &mut App) {
///     app.add_systems(FixedUpdate, drift);
/// }
///
/// let mut room = Room::new(RoomOptions::named("lobby"), protocol, rules)?;
/// room.world_mut().spawn(Position([0.0, 0.0]));
/// let outbox = room.tick([])?;
/// assert!(outbox.batch.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Room {
    app: SubApp,
    simulate: Vec<InternedScheduleLabel>,
    opening: Outbox,
    fault: Option<RoomFault>,
    /// By which what is logged in a tick says whose it is.
    span: tracing::Span,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("info", self.info()).field("tick", &self.tick_now()).field("fault", &self.fault).finish()
    }
}

impl Room {
    /// Builds a room: its protocol, its rules, its level; then runs tick 0, in which the start-up schedules run.
    ///
    /// # Errors
    /// If the protocol and the rules don't fit each other, the level can't be loaded, or the game panics.
    pub fn new(options: RoomOptions, protocol: impl FnOnce(&mut App), rules: impl FnOnce(&mut App)) -> Result<Self, RoomError> {
        let built = catch_unwind(AssertUnwindSafe(|| Self::build(&options, protocol, rules)));
        let mut room = built.map_err(|payload| fault_of(payload, RoomTick(0)))??;
        room.opening = room.run(|world, simulate| open(world, simulate, &options))??;
        Ok(room)
    }

    /// Builds a room that goes on from what was stored of it. It has no [opening](Self::opening); its next tick is the one after
    /// `standing.tick`. Start-up schedules don't run: [`Resumed`](super::Resumed) does. To systems nothing of what was stored is added or changed.
    ///
    /// # Errors
    /// As for [`Room::new`], or if the stored state does not fit.
    pub fn resume(
        options: &RoomOptions,
        scene: Scene<'_>,
        standing: &Standing,
        protocol: impl FnOnce(&mut App),
        rules: impl FnOnce(&mut App),
    ) -> Result<Self, RoomError> {
        let built = catch_unwind(AssertUnwindSafe(|| Self::build(options, protocol, rules)));
        let mut room = built.map_err(|payload| fault_of(payload, standing.tick))??;
        let stored = room.run(|world, simulate| {
            let (stored, filled_at) = resume(world, scene, standing)?;
            initialize_schedules(world, simulate)?;
            settle(world, standing, filled_at);
            Ok::<_, RoomError>(stored)
        })??;
        if let (Scene::Exact(state), Some(stored)) = (scene, stored) {
            let rebuilt = room.snapshot()?;
            if *stored != *rebuilt {
                let protocol = room.world().resource::<Protocol>();
                let rebuilt = State::from_snapshot(protocol, state.room(), &rebuilt);
                let difference = rebuilt.map_or_else(|error| Some(error.to_string()), |rebuilt| state.difference(protocol, &rebuilt));
                return Err(ResumeError::Differs(difference.unwrap_or_default()).into());
            }
        }
        Ok(room)
    }

    pub(super) fn build(options: &RoomOptions, protocol: impl FnOnce(&mut App), rules: impl FnOnce(&mut App)) -> Result<Self, RoomError> {
        let mut app = App::new();
        let id = options.id.unwrap_or_else(|| RoomId::named(&options.name));
        let world = app.world_mut();
        keep_index(world, id);
        watch_owners(world);
        catch_faults(world);
        world.insert_resource(RoomInfo { name: options.name.clone(), id, seed: options.seed });
        world.insert_resource(RoomRng::new(options.seed));
        world.insert_resource(Collector::new(options.notes, options.check));
        app.init_resource::<Protocol>().init_resource::<Rules>().init_resource::<RoomClock>().init_resource::<Inbox>();
        app.init_resource::<Meter>()
            .init_resource::<LatestValues>()
            .init_resource::<History>()
            .init_resource::<Private>()
            .init_resource::<Outbox>()
            .init_resource::<Members>()
            .init_resource::<RewindLimit>()
            .init_resource::<Ledger>();
        app.insert_resource(Time::<()>::default()).insert_resource(Time::<Virtual>::default());
        app.insert_resource(Time::<Fixed>::from_hz(f64::from(TICKS_PER_SECOND)));
        app.add_systems(RoomEnd, expire);
        register_built_in(&mut app);
        protocol(&mut app);
        rules(&mut app);
        while app.plugins_state() == PluginsState::Adding {
            std::hint::spin_loop();
        }
        app.finish();
        app.cleanup();
        apply_built_in(&mut app);
        check_rules(&app)?;
        let mut app = std::mem::take(app.main_mut());
        watch_losses(app.world_mut());
        let simulate = prepare_schedules(app.world_mut(), options.deny_ambiguity);
        let span = tracing::error_span!("room", room = options.name);
        Ok(Self { app, simulate, opening: Outbox::default(), fault: None, span })
    }

    /// Runs one tick: takes the inbox up, simulates 50 ms, collects the batch.
    ///
    /// # Errors
    /// If code of the game panics, or did in an earlier tick. The room must then be dropped, or rebuilt from what is stored.
    pub fn tick(&mut self, incoming: impl IntoIterator<Item = Incoming>) -> Result<Outbox, RoomFault> {
        self.app.world_mut().resource_mut::<Inbox>().items.extend(incoming);
        let _whose = self.span.clone().entered();
        self.run(tick)
    }

    fn run<T>(&mut self, phase: impl FnOnce(&mut World, &[InternedScheduleLabel]) -> T) -> Result<T, RoomFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let (world, simulate) = (self.app.world_mut(), &self.simulate);
        let ran = catch_unwind(AssertUnwindSafe(|| phase(world, simulate)));
        ran.map_err(|payload| {
            let fault = fault_of(payload, self.tick_now());
            self.fault = Some(fault.clone());
            fault
        })
    }

    /// The world of a room that never ticks.
    #[cfg(feature = "client")]
    pub(super) fn into_world(mut self) -> World {
        std::mem::take(self.app.world_mut())
    }

    /// Lets facts be applied that were recorded elsewhere; what their observers record is taken to be among them.
    pub(super) fn of_facts(mut self) -> Self {
        self.app.world_mut().resource_mut::<Ledger>().muted = true;
        self
    }

    /// Applies a fact that was recorded elsewhere. False if the room knows no such fact, or nothing applies it. Only for rooms that were
    /// built for facts alone: [`Blueprint::room_of_facts`](super::Blueprint::room_of_facts).
    ///
    /// # Errors
    /// If the game panics.
    pub fn apply_fact(
        &mut self,
        kind: &str,
        tick: RoomTick,
        author: Option<EntityId>,
        json: &serde_json::Value,
    ) -> Result<bool, RoomFault> {
        self.run(|world, _| {
            let protocol = world.resource::<Protocol>();
            let (kind, json) = protocol.evolve_fact(kind, json.clone());
            let Some(entry) = protocol.facts.iter().find(|entry| entry.name == kind && entry.stateful) else { return false };
            let Ok(fact) = (entry.from_json)(&json) else { return false };
            // Those of tick 0 came about when the room was built.
            if tick == RoomTick(0) {
                return true;
            }
            world.resource_mut::<RoomClock>().tick = tick;
            fact.trigger(world, FactSeq(0), tick, author);
            world.flush();
            true
        })
    }

    /// The outbox of tick 0: the batch that creates the initial state. Folding it and all later batches gives the state.
    pub fn opening(&self) -> &Outbox {
        &self.opening
    }

    /// The whole replicated state, as of the tick that ran last, encoded.
    ///
    /// # Errors
    /// If the room has stopped, or a component can't be encoded.
    pub fn snapshot(&mut self) -> Result<Bytes, RoomFault> {
        self.run(|world, _| write_snapshot(world, None))
    }

    /// The whole replicated state, as of the tick that ran last, as plain data.
    ///
    /// # Errors
    /// If the room has stopped, or its state can't be told.
    pub fn state(&mut self) -> Result<State, RoomFault> {
        let snapshot = self.snapshot()?;
        State::from_snapshot(self.world().resource::<Protocol>(), self.info().id, &snapshot).map_err(|error| RoomFault {
            tick: self.tick_now(),
            place: "the state".to_owned(),
            message: error.to_string(),
        })
    }

    /// Lets somebody read the newest values of the components whose delivery is `latest`, and encode those that nobody asked for yet.
    ///
    /// # Errors
    /// If the room has stopped, or the game's code panics.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host sends"))]
    pub(crate) fn with_latest<T>(&mut self, ask: impl FnOnce(&mut LatestValues, &World) -> T) -> Result<T, RoomFault> {
        // Not by `resource_scope`: a resource is an entity, which would be moved to another table and back in each tick.
        self.run(|world, _| {
            let mut latest = std::mem::take(&mut *world.resource_mut::<LatestValues>());
            let told = ask(&mut latest, world);
            *world.resource_mut::<LatestValues>() = latest;
            told
        })
    }

    /// Lets somebody read the world to tell single members their share of it.
    ///
    /// # Errors
    /// If the room has stopped, or the game's code panics.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host sends"))]
    pub(crate) fn with_world<T>(&mut self, ask: impl FnOnce(&mut World) -> T) -> Result<T, RoomFault> {
        self.run(|world, _| ask(world))
    }

    /// True if there is anything in it of which not every member may know.
    pub fn is_secretive(&self) -> bool {
        self.world().resource::<Private>().secretive
    }

    /// The first tick from which on everybody might know everything, as far as this process knows.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host asks"))]
    pub(crate) fn public_since(&self) -> RoomTick {
        self.world().resource::<History>().known_after
    }

    /// The tick that ran last.
    pub fn tick_now(&self) -> RoomTick {
        self.world().resource::<RoomClock>().tick
    }

    /// The room's name, id and seed.
    pub fn info(&self) -> &RoomInfo {
        self.world().resource::<RoomInfo>()
    }

    /// The room's world, for reading.
    pub fn world(&self) -> &World {
        self.app.world()
    }

    /// The room's world. What is changed here goes into the next batch, without a fact that says why.
    pub fn world_mut(&mut self) -> &mut World {
        self.app.world_mut()
    }

    /// What handles each kind of command and fact, how often it ran, and how long it took.
    pub fn handlers(&self) -> Vec<HandlerInfo> {
        handlers(self.world())
    }

    /// Lends the room a clock, by which the time of its [handlers](Self::handlers) is measured. Nothing else in the room
    /// reads it. `clock` gives the time since some fixed point.
    pub fn lend_clock(&mut self, clock: fn() -> Duration) {
        self.app.world_mut().resource_mut::<Meter>().clock = Some(clock);
    }

    /// The users in the room.
    pub fn members(&self) -> &Members {
        self.world().resource::<Members>()
    }

    /// The entity with that id.
    pub fn entity(&self, id: EntityId) -> Option<Entity> {
        self.world().resource::<EntityIndex>().entity(id)
    }
}

/// Applies the built-in facts that the game did not choose to apply itself.
fn apply_built_in(app: &mut App) {
    let applied = |app: &App, type_id| app.world().resource::<Rules>().appliers.contains_key(&type_id);
    if !applied(app, TypeId::of::<UserJoined>()) {
        app.apply(spawn_user);
    }
    if !applied(app, TypeId::of::<UserLeft>()) {
        app.apply(despawn_user);
    }
}

/// Each command needs a handler and each fact that changes state an observer; what is there must be in the protocol.
fn check_rules(app: &App) -> Result<(), RoomError> {
    let (protocol, rules) = (app.world().resource::<Protocol>(), app.world().resource::<Rules>());
    let mut errors = protocol.errors().to_vec();
    errors.extend_from_slice(&rules.errors);
    let latest = || protocol.components.iter().filter(|entry| entry.delivery == Delivery::Latest);
    for entry in latest().filter(|entry| entry.column.refers()) {
        errors.push(format!("the component {:?} refers to entities and can't be `latest`: such values must not overtake them", entry.name));
    }
    if latest().count() > LATEST_MAX {
        errors.push(format!("{} components are `latest`, at most {LATEST_MAX} may be", latest().count()));
    }
    for kind in &protocol.commands {
        if !rules.handlers.contains_key(&kind.type_id) {
            errors.push(format!("missing handler for command {:?}: add `app.decide(..)`", kind.name));
        }
    }
    for kind in &protocol.facts {
        match (kind.stateful, rules.appliers.contains_key(&kind.type_id)) {
            (true, false) => {
                errors.push(format!("missing handler for fact {:?}: add `app.apply(..)`, or register it by `stateless_fact`", kind.name));
            }
            (false, true) => errors.push(format!("fact {:?} is stateless, but an observer applies it", kind.name)),
            _ => {}
        }
    }
    for (_, applier) in rules.appliers.iter().filter(|(type_id, _)| protocol.fact_index(**type_id).is_none()) {
        errors.push(format!("an observer applies {}, which is no fact of the protocol", applier.fact));
    }
    for type_id in rules.handlers.keys().filter(|type_id| **type_id != TypeId::of::<Join>()) {
        if protocol.command_index(*type_id).is_none() {
            let handler = rules.handler_names.get(type_id).copied().unwrap_or("a handler");
            errors.push(format!("{handler} decides a command that is not in the protocol: add `app.command::<..>(\"its_name\")`"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(RoomError::Rules(errors)) }
}

/// The schedules of a tick that somebody filled, in Bevy's order. All run at 20 Hz; a room has no frames in between.
fn prepare_schedules(world: &mut World, deny_ambiguity: bool) -> Vec<InternedScheduleLabel> {
    let mut schedules = world.resource_mut::<Schedules>();
    for (_, schedule) in schedules.iter_mut() {
        // Always: cargo features unify, and with `multi_threaded` on a small schedule is 60 to 100 times slower.
        schedule.set_executor(SingleThreadedExecutor::new());
        if deny_ambiguity {
            schedule.set_build_settings(ScheduleBuildSettings { ambiguity_detection: LogLevel::Error, ..Default::default() });
        }
    }
    // As Bevy, its plugins and the game have set it up; the fixed ones once, where a frame would run them as often as is due.
    let fixed = world.get_resource::<FixedMainScheduleOrder>().map(|order| order.labels.clone()).unwrap_or_default();
    let main = world.get_resource::<MainScheduleOrder>().map(|order| order.labels.clone()).unwrap_or_default();
    let of_frame = main.into_iter().flat_map(|label| if label == RunFixedMainLoop.intern() { fixed.clone() } else { vec![label] });
    of_frame.filter(|label| world.resource::<Schedules>().contains(*label)).collect()
}

/// Tick 0.
fn open(world: &mut World, simulate: &[InternedScheduleLabel], options: &RoomOptions) -> Result<Outbox, RoomError> {
    let level = options.level.as_ref().map(|level| level.name().to_owned());
    let created = RoomCreated { room: options.name.clone(), seed: options.seed, level };
    record(world, Box::new(Payload(created)), Origin::new(Producer::Init));
    if let Some(level) = &options.level {
        level.spawn(world)?;
    }
    let startup = world.get_resource::<MainScheduleOrder>().map(|order| order.startup_labels.clone()).unwrap_or_default();
    for label in startup {
        let _ = world.try_run_schedule(label);
    }
    initialize_schedules(world, simulate)?;
    world.flush();
    collect(world);
    Ok(take_outbox(world))
}

/// Builds the game's schedules now, so that a fault in them shows before anybody joins.
fn initialize_schedules(world: &mut World, simulate: &[InternedScheduleLabel]) -> Result<(), RoomError> {
    for label in simulate {
        world
            .schedule_scope(*label, |world, schedule| schedule.initialize(world))
            .map_err(|error| RoomError::Rules(vec![format!("the schedule {label:?} can't be built: {error}")]))?;
    }
    Ok(())
}

fn take_outbox(world: &mut World) -> Outbox {
    let rng = world.resource_mut::<RoomRng>().take_moved();
    let next_serial = world.resource::<EntityIndex>().next_serial();
    let mut outbox = std::mem::take(&mut *world.resource_mut::<Outbox>());
    outbox.trail = Trail { rng, next_serial };
    outbox
}

/// The pipeline of a tick.
fn tick(world: &mut World, simulate: &[InternedScheduleLabel]) -> Outbox {
    advance_time(world);
    intake(world);
    for label in simulate {
        world.run_schedule(*label);
    }
    world.run_schedule(RoomEnd);
    collect(world);
    world.clear_trackers();
    take_outbox(world)
}

fn advance_time(world: &mut World) {
    let mut clock = world.resource_mut::<RoomClock>();
    let Some(next) = clock.tick.next() else { panic!("the room has reached the last tick there is") };
    clock.tick = next;
    world.resource_mut::<Time>().advance_by(RoomClock::STEP);
    world.resource_mut::<Time<Virtual>>().advance_by(RoomClock::STEP);
    world.resource_mut::<Time<Fixed>>().advance_by(RoomClock::STEP);
}
