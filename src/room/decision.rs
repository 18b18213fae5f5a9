//! How a command becomes facts or a rejection: handlers that see the world and change nothing.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;

use bevy_app::App;
use bevy_ecs::prelude::*;
use bevy_ecs::system::{IntoObserverSystem, ReadOnlySystem};
use serde::Serialize;

use super::audience::{Audience, NearerFirst, Senses, add_places, follow};
use crate::protocol::{CommandId, EntityId, Fact, Happened, Payload, Rejection, RoomTick, SeenTick, sync_to_owner};

/// A command with what the room knows of its author. Dereferences to the command.
#[derive(Clone, Debug)]
pub struct Issued<C> {
    /// What is asked for.
    pub command: C,
    /// The author's own entity in the room. `Entity::PLACEHOLDER` where there is none yet: in [`Join`].
    pub author: Entity,
    /// The author. Stamped by the room; nothing that a client says changes it.
    pub author_id: EntityId,
    /// The number that the author's client gave it. Of a [`Join`] the one at which the stay begins, which no command has.
    pub id: CommandId,
    /// The tick that runs.
    pub tick: RoomTick,
    /// The moment of the room that its author saw: as its client says, but not before what the room [looks back](super::RewindAppExt) to, nor after
    /// the tick that runs. That is what it is where the client says nothing.
    pub seen: SeenTick,
}

impl<C> Issued<C> {
    /// An id for the `nth` entity that this command creates, for the fact to name. The author's client knows the same id. No other command of the
    /// room's life gives it, also if its author leaves and comes again: see [`CommandId`].
    pub fn new_id(&self, nth: u32) -> EntityId {
        EntityId::of_command(self.author_id, self.id, nth)
    }
}

impl<C> Deref for Issued<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.command
    }
}

/// A user wants to join. The room decides it like a command, so a game can refuse.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::room::{Facts, Join};
///
/// /// Accepts without a fact of its own: that the user joined is the room's to tell.
/// fn decide_join(join: In<Issued<Join>>) -> Decision {
///     if join.name == "eve" { reject("not_you") } else { Ok(Facts::new()) }
/// }
///
/// fn rules(app: &mut App) {
///     app.decide(decide_join);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The user, and the id of its entity.
    pub user: EntityId,
    /// The name that others see.
    pub name: String,
}

/// The facts that a command becomes, in order.
#[derive(Default)]
pub struct Facts(pub(crate) Vec<Box<dyn Fact>>);

impl Facts {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one more.
    #[must_use]
    pub fn with<F: Serialize + Clone + Send + Sync + 'static>(mut self, fact: F) -> Self {
        self.0.push(Box::new(Payload(fact)));
        self
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|fact| fact.type_name())).finish()
    }
}

/// What a command handler returns: facts, or why not.
pub type Decision = Result<Facts, Rejection>;

/// Accepts a command: this is what happened.
///
/// # Errors
/// Never; the type is a handler's.
pub fn accept<F: Serialize + Clone + Send + Sync + 'static>(fact: F) -> Decision {
    Ok(Facts::new().with(fact))
}

/// Rejects a command with a code such as `no_ammo`.
///
/// # Errors
/// Always: that is its meaning.
pub fn reject(code: impl Into<String>) -> Decision {
    Err(Rejection::new(code))
}

/// The handler of one kind of command, with its type erased.
pub(crate) trait Decide: Send + Sync {
    fn decide(&mut self, world: &World, issue: Issued<Box<dyn Any + Send + Sync>>) -> Decision;
}

struct Handler<C: 'static, S>(S, std::marker::PhantomData<fn() -> C>);

impl<C, S> Decide for Handler<C, S>
where
    C: Send + Sync + 'static,
    S: ReadOnlySystem<In = In<Issued<C>>, Out = Decision>,
{
    fn decide(&mut self, world: &World, issue: Issued<Box<dyn Any + Send + Sync>>) -> Decision {
        let Issued { command, author, author_id, id, tick, seen } = issue;
        let Ok(command) = command.downcast::<C>() else { return reject(Rejection::INTERNAL) };
        let issued = Issued { command: *command, author, author_id, id, tick, seen };
        match self.0.run_readonly(issued, world) {
            Ok(decision) => decision,
            Err(error) => {
                tracing::error!(%error, handler = %self.0.name(), "a command handler can't run");
                reject(Rejection::INTERNAL)
            }
        }
    }
}

/// The names of a kind of fact and of the observer that applies it.
pub(crate) struct Applier {
    pub(crate) fact: &'static str,
    pub(crate) observer: &'static str,
}

/// The handlers and appliers of a room.
#[derive(Resource, Default)]
pub(crate) struct Rules {
    pub(crate) handlers: BTreeMap<TypeId, Box<dyn Decide>>,
    pub(crate) handler_names: BTreeMap<TypeId, &'static str>,
    pub(crate) appliers: BTreeMap<TypeId, Applier>,
    pub(crate) may_name_others: BTreeSet<TypeId>,
    pub(crate) errors: Vec<String>,
}

/// Adds the rules of a game to a room's `App`.
///
/// A handler sees the world and changes nothing. One that asks for write access does not compile; one that takes `Commands`
/// is refused when the room is built:
///
/// ```compile_fail
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// struct Wave;
/// #[derive(Component)]
/// struct Waving(bool);
/// fn decide_wave(wave: In<Issued<Wave>>, mut waving: Query<&mut Waving>) -> Decision {
///     waving.get_mut(wave.author)?.0 = true;
///     reject("never")
/// }
/// fn rules(app: &mut App) {
///     app.decide(decide_wave);
/// }
/// ```
pub trait RulesAppExt {
    /// Adds the handler of a kind of command: a function `In<Issued<C>>, read-only parameters -> Decision`.
    fn decide<C, S, M>(&mut self, handler: S) -> &mut Self
    where
        C: Send + Sync + 'static,
        S: IntoSystem<In<Issued<C>>, Decision, M>,
        S::System: ReadOnlySystem<In = In<Issued<C>>, Out = Decision>;

    /// Adds the one observer that applies a kind of fact to the state: a function `On<Happened<F>>, parameters`.
    /// A second one for the same fact is refused when the room is built: Bevy runs several in arbitrary order.
    fn apply<F, M>(&mut self, applier: impl IntoObserverSystem<Happened<F>, M>) -> &mut Self
    where
        F: Send + Sync + 'static,
        M: 'static;

    /// Lets commands of this kind name entities that belong to other users: a trade, an attack on a chosen player. By
    /// default a command that does is rejected as `not_yours` before its handler runs.
    fn may_name_others<C: Send + Sync + 'static>(&mut self) -> &mut Self;

    /// Names the component that says where entities are, in one to three dimensions: by it is known who is near an entity whose
    /// [`Audience`](super::Audience) is so limited. What is not finite is nowhere. One component only.
    ///
    /// ```
    /// use bevy_app::prelude::*;
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::prelude::*;
    /// #[derive(Component)]
    /// struct Position { x: f32, y: f32 }
    /// fn rules(app: &mut App) {
    ///     app.places_by(|position: &Position| [position.x, position.y]);
    /// }
    /// ```
    fn places_by<T: Component, const N: usize>(&mut self, place: impl Fn(&T) -> [f32; N] + Send + Sync + 'static) -> &mut Self;

    /// Lets a component say who may know of its entity. What an entity that has one is restricted to follows from it wherever the entity comes from: a rule,
    /// a level, the store after a restart, a snippet. An [`Audience`](super::Audience) that a rule inserts when it spawns something is not stored unless
    /// the game [says so](Self::sync_audience): after a restart or a reset everybody would see it.
    ///
    /// It follows until the component is removed: then the entity has no audience any more, but for what another component says.
    ///
    /// Where an entity has several components of which this was said, the one that was named last has the word.
    ///
    /// ```
    /// use bevy_app::prelude::*;
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::prelude::*;
    /// #[derive(Component)]
    /// struct LaidBy { team: u64 }
    /// #[derive(Component)]
    /// struct Team(u64);
    /// fn rules(app: &mut App) {
    ///     app.audience_by(|trap: &LaidBy| Audience::mask(trap.team));
    ///     app.senses_by(|team: &Team| Senses::new().with_mask(team.0));
    /// }
    /// ```
    fn audience_by<T: Component>(&mut self, audience: impl Fn(&T) -> Audience + Clone + Send + Sync + 'static) -> &mut Self;

    /// Lets a component of users' entities say what they sense, wherever they come from: [`Senses`](super::Senses) are not stored either. See
    /// [`audience_by`](Self::audience_by).
    fn senses_by<T: Component>(&mut self, senses: impl Fn(&T) -> Senses + Clone + Send + Sync + 'static) -> &mut Self;

    /// Stores the [`Audience`](super::Audience) of each entity that has one with the entity, as a component `audience`: what a rule hid by hand is hidden
    /// after a restart and a reset too. Belongs to the game's protocol, as it is a part of what both sides agree on. Only the owner of an entity is told
    /// its audience, and the room is one with secrets from its beginning. A reset to a state that says nothing of an entity's audience leaves it as it is.
    /// One that is stored stands, in a level and after a reset or a restart, whatever [`audience_by`](Self::audience_by) says, until what it would follow from
    /// changes.
    ///
    /// ```
    /// use bevy_app::prelude::*;
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::prelude::*;
    /// use serde::{Deserialize, Serialize};
    /// #[derive(Component, Serialize, Deserialize)]
    /// struct Chest(u32);
    /// fn protocol(app: &mut App) {
    ///     app.sync::<Chest>("chest");
    ///     app.sync_audience();
    /// }
    /// fn bury(mut commands: Commands) {
    ///     commands.spawn((Chest(40), Audience::OWNER));
    /// }
    /// ```
    fn sync_audience(&mut self) -> &mut Self;

    /// Lets values of [`latest`](crate::protocol::Synced::latest) components matter more the nearer they are to the one who is sent them, where its
    /// way is too narrow for all. What is `distance` away from a member's [focus](super::Senses::focus) matters half as much as what is there, at three times as
    /// far a tenth, and nothing less than a sixty-fourth, all times its [priority](crate::protocol::Synced::priority). What has no
    /// [place](Self::places_by) matters fully; to a member that stands nowhere all does.
    ///
    /// # Panics
    /// If `distance` is not a number above 0.
    fn nearer_first(&mut self, distance: f32) -> &mut Self;
}

impl RulesAppExt for App {
    fn decide<C, S, M>(&mut self, handler: S) -> &mut Self
    where
        C: Send + Sync + 'static,
        S: IntoSystem<In<Issued<C>>, Decision, M>,
        S::System: ReadOnlySystem<In = In<Issued<C>>, Out = Decision>,
    {
        let mut system = IntoSystem::into_system(handler);
        system.initialize(self.world_mut());
        self.init_resource::<Rules>();
        let mut rules = self.world_mut().resource_mut::<Rules>();
        if system.has_deferred() {
            let error = format!("the handler {} takes `Commands` or another deferred parameter; a handler changes nothing", system.name());
            rules.errors.push(error);
        }
        rules.handler_names.insert(TypeId::of::<C>(), std::any::type_name::<S>());
        let handler = Box::new(Handler(system, std::marker::PhantomData::<fn() -> C>));
        if rules.handlers.insert(TypeId::of::<C>(), handler).is_some() {
            rules.errors.push(format!("{} has two handlers; `decide` takes one", std::any::type_name::<C>()));
        }
        self
    }

    fn apply<F, M>(&mut self, applier: impl IntoObserverSystem<Happened<F>, M>) -> &mut Self
    where
        F: Send + Sync + 'static,
        M: 'static,
    {
        let names = Applier { fact: std::any::type_name::<F>(), observer: std::any::type_name_of_val(&applier) };
        self.world_mut().add_observer(applier);
        self.init_resource::<Rules>();
        let mut rules = self.world_mut().resource_mut::<Rules>();
        if rules.appliers.insert(TypeId::of::<F>(), names).is_some() {
            rules.errors.push(format!("{} has two observers that apply it; `apply` takes one", std::any::type_name::<F>()));
        }
        self
    }

    fn may_name_others<C: Send + Sync + 'static>(&mut self) -> &mut Self {
        self.init_resource::<Rules>();
        self.world_mut().resource_mut::<Rules>().may_name_others.insert(TypeId::of::<C>());
        self
    }

    fn places_by<T: Component, const N: usize>(&mut self, place: impl Fn(&T) -> [f32; N] + Send + Sync + 'static) -> &mut Self {
        add_places(self, place);
        self
    }

    fn audience_by<T: Component>(&mut self, audience: impl Fn(&T) -> Audience + Clone + Send + Sync + 'static) -> &mut Self {
        follow(self, audience);
        self
    }

    fn senses_by<T: Component>(&mut self, senses: impl Fn(&T) -> Senses + Clone + Send + Sync + 'static) -> &mut Self {
        follow(self, senses);
        self
    }

    fn sync_audience(&mut self) -> &mut Self {
        sync_to_owner::<Audience>(self, "audience");
        self
    }

    fn nearer_first(&mut self, distance: f32) -> &mut Self {
        assert!(distance > 0.0, "the distance {distance} is not above 0");
        self.insert_resource(NearerFirst(distance));
        self
    }
}
