//! The protocol of a game: which wire name stands for which component, command and fact.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::OnceLock;

use bevy_app::App;
use bevy_ecs::bundle::{BundleFromComponents, NoBundleEffect};
use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;
use bevy_ecs::relationship::Relationship;
use serde::{Serialize, de::DeserializeOwned};

use super::built_in::is_built_in;
use super::codec::CodecError;
use super::column::{Column, SyncComponent, TypedColumn, write_by_insert, write_in_place};
use super::evolve::Evolution;
use super::fingerprint::{Description, Fingerprint, Shape, shape_at_first_sight, shape_of};
use super::ids::{EntityId, NetId};
use super::limits::{KINDS_MAX, NAME_BYTES_MAX};
use super::payload::{CommandKind, FactKind};
use super::quantity::{Quantity, QuantityHooks, StepLog};
use super::staged::Together;
use super::wire::{ByCodec, ByMapping, BySerde, ByTarget, Codec, Wire};

/// How changes of a component travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Every batch, in order, exactly once. For discrete state; the default.
    #[default]
    Ordered,
    /// The newest value supersedes older ones, so that nothing waits behind a lost packet. For continuous state.
    Latest,
}

/// How much values matter by default.
const PRIORITY: u16 = 100;
/// Who receives a component of an entity that it sees. Which entities a member sees is decided in the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ComponentAudience {
    /// Whoever sees the entity; the default.
    #[default]
    Everyone,
    /// The user that owns the entity, or is it.
    Owner,
    /// Its owner, and the members whose senses share a bit with this mask.
    Mask(u64),
}

/// A synced component in the protocol.
pub(crate) struct ComponentEntry {
    pub(crate) name: String,
    pub(crate) delivery: Delivery,
    pub(crate) quantity: bool,
    /// An update that says what was said last is left out.
    pub(crate) when_different: bool,
    /// How much its values matter where a member can't be sent all.
    pub(crate) priority: u16,
    /// What is read is what was written.
    pub(crate) exact: bool,
    /// Not part of the fingerprint: a client need not know what it is not told.
    pub(crate) audience: ComponentAudience,
    pub(crate) shape: String,
    pub(crate) type_id: TypeId,
    pub(crate) column: Box<dyn Column>,
}

/// The protocol of a game, as a resource of each world that speaks it. Built by [`ProtocolAppExt`].
///
/// Both sides run the same function over their `App`, so they cannot disagree.
#[derive(Resource, Default)]
pub struct Protocol {
    pub(crate) components: Vec<ComponentEntry>,
    pub(crate) commands: Vec<CommandKind>,
    pub(crate) facts: Vec<FactKind>,
    pub(crate) evolution: Evolution,
    /// What is spawned as a bundle; said by the game, and not part of the fingerprint.
    pub(crate) together: Vec<Together>,
    said_together: Vec<fn(&mut World) -> [Together; 2]>,
    names: BTreeMap<String, &'static str>,
    errors: Vec<String>,
    /// Worked out when it is first asked for, and again once something is registered.
    fingerprint: OnceLock<Fingerprint>,
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Protocol").field(&self.describe()).finish()
    }
}

impl Protocol {
    /// What the protocol consists of, for comparison with the other side's.
    pub fn describe(&self) -> Description {
        let mut description = Description::default();
        for entry in &self.components {
            let options = format!("{:?},{},{}", entry.delivery, entry.quantity, entry.shape);
            description.add("component", &entry.name, &options);
        }
        for kind in &self.commands {
            description.add("command", &kind.name, &kind.shape);
        }
        for kind in &self.facts {
            description.add("fact", &kind.name, &kind.shape);
        }
        description
    }

    /// A hash of the whole protocol: names, order, deliveries and the shapes of the types.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.get_or_init(|| self.describe().fingerprint())
    }

    /// What was wrong with the registrations, a sentence each. A room or a replica with any is refused.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Looks up what the game said comes together. Not before the first message: until then requirements may be added to components.
    #[cfg(feature = "client")]
    pub(crate) fn look_up_together(&mut self, world: &mut World) {
        self.together.extend(self.said_together.drain(..).flat_map(|of| of(world)));
    }

    pub(crate) fn complain(&mut self, error: String) {
        self.errors.push(error);
    }

    /// The wire names of the synced components, in order.
    pub fn component_names(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(|entry| entry.name.as_str())
    }

    /// Who receives the component with that wire name.
    pub fn component_audience(&self, name: &str) -> Option<ComponentAudience> {
        self.components.iter().find(|entry| entry.name == name).map(|entry| entry.audience)
    }

    /// The wire names of the facts, in order.
    pub fn fact_names(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().map(|kind| kind.name.as_str())
    }

    /// The wire names of the commands, in order.
    pub fn command_names(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(|kind| kind.name.as_str())
    }

    pub(crate) fn component_index(&self, name: &str) -> Option<usize> {
        self.components.iter().position(|entry| entry.name == name)
    }

    /// The component that stands for a number, read at `at`.
    pub(crate) fn component_at(&self, component: usize, at: usize) -> Result<&ComponentEntry, CodecError> {
        let entry = self.components.get(component);
        entry.ok_or(CodecError::Unknown { what: "component", value: component as u64, at })
    }

    pub(crate) fn fact_index(&self, type_id: TypeId) -> Option<usize> {
        self.facts.iter().position(|kind| kind.type_id == type_id)
    }

    pub(crate) fn command_index(&self, type_id: TypeId) -> Option<usize> {
        self.commands.iter().position(|kind| kind.type_id == type_id)
    }

    /// Takes note of the shape of a type that strangers' bytes are read as.
    fn take_shape(&mut self, what: &'static str, name: &str, shape: Shape) -> String {
        if shape.endless {
            self.complain(format!("{what} {name:?}: a list in it has items that take no bytes, so a few bytes could claim 2^64 of them"));
        }
        if shape.nameless {
            self.complain(format!(
                "{what} {name:?}: it could be written and not be read again. What serde's `tag`, `untagged` and `flatten` make, and values of any kind, \
                    need a format that tells names"
            ));
        }
        shape.text
    }

    /// Complains of a type that has another name already, under which alone it would be told.
    fn claim_type<T>(&mut self, what: &'static str, name: &str, known: Option<String>) {
        if let Some(known) = known.filter(|known| known != name) {
            self.complain(format!("{what} {name:?}: {} is {known:?} already", short_type_name::<T>()));
        }
    }

    /// Claims a wire name.
    fn claim(&mut self, what: &'static str, name: &str, count: usize) {
        self.fingerprint.take();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            self.complain(format!("{what} name {name:?}: 1 to {NAME_BYTES_MAX} of a-z, 0-9 and _ are allowed"));
        }
        if count >= KINDS_MAX {
            self.complain(format!("{what} {name:?} is one too many: at most {KINDS_MAX} are allowed"));
        }
        if self.names.insert(format!("{what} {name}"), what).is_some() {
            self.complain(format!("{what} {name:?} is registered twice"));
        }
    }
}

/// Registers what both sides share. Implemented for Bevy's [`App`].
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Serialize, Deserialize)]
/// struct Position([f32; 2]);
/// #[derive(Serialize, Deserialize)]
/// struct Fire { aim: [f32; 2] }
/// #[derive(Clone, Serialize, Deserialize)]
/// struct BulletFired { by: EntityId, aim: [f32; 2] }
///
/// fn protocol(app: &mut App) {
///     app.sync::<Position>("position").latest();
///     app.sync_relationship::<ChildOf>("parent");
///     app.command::<Fire>("fire").fact::<BulletFired>("bullet_fired");
/// }
/// ```
pub trait ProtocolAppExt {
    /// Syncs a component under a wire name, encoded by serde. Every entity that carries a synced component is replicated.
    fn sync<T: SyncComponent + Component<Mutability = Mutable>>(&mut self, name: &str) -> Synced<'_, T>;

    /// Syncs a component with a codec of the game's own.
    fn sync_with<T: SyncComponent + Component<Mutability = Mutable>, C: Codec<T>>(&mut self, name: &str, codec: C) -> Synced<'_, T>;

    /// Syncs a component that refers to entities, which must be named by `#[entities]` or `MapEntities`. On a replica they
    /// are the replica's own entities, whatever the order of creation.
    fn sync_mapped<T: SyncComponent + Clone + Component<Mutability = Mutable>>(&mut self, name: &str) -> Synced<'_, T>;

    /// Syncs a relationship, such as Bevy's `ChildOf` or [`OwnedBy`](crate::protocol::OwnedBy).
    fn sync_relationship<T: Relationship + SyncComponent>(&mut self, name: &str) -> &mut Self;

    /// Says that many entities have just these synced components, so that clients spawn them at once: a snapshot of thousands is taken in in half the
    /// time. Where they have others besides, or fewer, nothing changes. Bevy's observers and hooks hear of them in the same order; what those ask for by
    /// commands is done once all entities that stand in a row are there.
    ///
    /// ```
    /// use bevy_app::prelude::*;
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::prelude::*;
    /// use serde::{Deserialize, Serialize};
    /// #[derive(Component, Serialize, Deserialize)]
    /// struct Position([f32; 2]);
    /// #[derive(Component, Serialize, Deserialize)]
    /// struct Health(i32);
    ///
    /// let mut app = App::new();
    /// app.sync::<Position>("position").latest();
    /// app.sync::<Health>("health");
    /// app.spawn_together::<(Position, Health)>();
    /// ```
    ///
    /// # Panics
    /// When the first message comes, if a component stands twice in it.
    fn spawn_together<B: Bundle<Effect: NoBundleEffect> + BundleFromComponents>(&mut self) -> &mut Self;

    /// Lets clients issue a command.
    fn command<C: Serialize + DeserializeOwned + Send + Sync + 'static>(&mut self, name: &str) -> &mut Self;

    /// Lets a room record a fact. The room needs an observer that applies it.
    fn fact<F: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(&mut self, name: &str) -> &mut Self;

    /// Lets a room record a fact that changes no state, such as `game_ended`.
    fn stateless_fact<F: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(&mut self, name: &str) -> &mut Self;
}

/// Options of a synced component: what its methods don't set is as it is by default.
#[derive(Debug)]
pub struct Synced<'a, T> {
    app: &'a mut App,
    index: usize,
    component: PhantomData<fn() -> T>,
}

impl<T: SyncComponent + Component<Mutability = Mutable>> Synced<'_, T> {
    fn entry(&mut self, change: impl FnOnce(&mut ComponentEntry)) -> &mut Self {
        let mut protocol = self.app.world_mut().resource_mut::<Protocol>();
        protocol.fingerprint.take();
        if let Some(entry) = protocol.components.get_mut(self.index) {
            change(entry);
        }
        self
    }

    /// Lets newer values supersede older ones instead of arriving one after the other.
    pub fn latest(&mut self) -> &mut Self {
        self.entry(|entry| entry.delivery = Delivery::Latest)
    }

    /// How much changes of a [`latest`](Self::latest) component matter to members whose way is too narrow for all of them: one of 200
    /// goes twice as often as one of 100, which is the default. However little it matters, none is forgotten: what waits matters more with
    /// each tick.
    pub fn priority(&mut self, priority: u16) -> &mut Self {
        self.entry(|entry| entry.priority = priority.max(1))
    }

    /// Leaves an update out if its value equals, byte for byte, the one that was sent last: for components that systems write
    /// every tick, changed or not. Costs the room a copy of each entity's value and a comparison for each write; where the
    /// systems can use Bevy's `set_if_neq` instead, that costs nothing.
    pub fn when_different(&mut self) -> &mut Self {
        self.entry(|entry| entry.when_different = true)
    }

    /// Keeps the component for the user that owns the entity by [`OwnedBy`](super::OwnedBy), or is it: a hand of cards. The others may
    /// see the entity, but not this.
    ///
    /// ```
    /// use bevy_app::prelude::*;
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::prelude::*;
    /// use roomkeeper::protocol::{ComponentAudience, Protocol};
    /// use serde::{Deserialize, Serialize};
    /// #[derive(Component, Serialize, Deserialize)]
    /// struct Hand(Vec<u8>);
    ///
    /// let mut app = App::new();
    /// app.sync::<Hand>("hand").to_owner();
    /// assert_eq!(app.world().resource::<Protocol>().component_audience("hand"), Some(ComponentAudience::Owner));
    /// ```
    pub fn to_owner(&mut self) -> &mut Self {
        self.entry(|entry| entry.audience = ComponentAudience::Owner)
    }

    /// Keeps the component for the owner of the entity, and the members whose [`Senses`](crate::room::Senses) share a bit with `mask`: what
    /// a team knows of its own.
    pub fn to_mask(&mut self, mask: u64) -> &mut Self {
        self.entry(|entry| entry.audience = ComponentAudience::Mask(mask))
    }

    /// Makes the operations `inc`, `dec`, `inc_max` and `dec_min` known for this component.
    pub fn quantity(&mut self) -> &mut Self
    where
        T: Quantity,
    {
        let world = self.app.world_mut();
        world.init_resource::<StepLog<T>>();
        let mut protocol = world.resource_mut::<Protocol>();
        if let Some(entry) = protocol.components.get(self.index).filter(|entry| !entry.exact) {
            let error = format!("component {:?} is a quantity, but its codec does not give back every amount exactly", entry.name);
            protocol.complain(error);
        }
        self.entry(|entry| {
            entry.quantity = true;
            entry.column.set_hooks(Box::new(QuantityHooks::<T>::new()));
        })
    }
}

/// Lets a world note in [`Lost`](super::rows::Lost) which synced components its entities lose, by whoever's hand.
pub(crate) fn watch_losses(world: &mut World) {
    let protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    for (index, entry) in protocol.components.iter().enumerate() {
        entry.column.watch(world, index);
    }
    *world.resource_mut::<Protocol>() = protocol;
}

/// Puts a column into the protocol.
fn add_column<T, C>(app: &mut App, name: &str, wire: C, write: super::column::WriteFn<T>, shape: String) -> usize
where
    T: SyncComponent,
    C: Wire<T>,
{
    let world = app.world_mut();
    world.init_resource::<Protocol>();
    let type_id = TypeId::of::<T>();
    // Ids, numbers and names of entities travel by themselves: as components they would be inserted twice.
    let is_of_all = [TypeId::of::<EntityId>(), TypeId::of::<NetId>(), TypeId::of::<Name>()].contains(&type_id);
    if !is_of_all {
        // It fails where a component is registered twice, of which `claim` complains.
        let _ = world.try_register_required_components::<T, EntityId>();
    }
    let column = TypedColumn::<T, C>::new(world, wire, write);
    let mut protocol = world.resource_mut::<Protocol>();
    let index = protocol.components.len();
    protocol.claim("component", name, index);
    if is_of_all {
        let error = format!("component {name:?}: {} is sent with every entity by itself and can't be synced", std::any::type_name::<T>());
        protocol.complain(error);
    }
    if let Some(twin) = protocol.components.iter().find(|entry| entry.type_id == type_id) {
        let error = format!("{} is registered both as {:?} and as {name:?}", std::any::type_name::<T>(), twin.name);
        protocol.complain(error);
    }
    protocol.components.push(ComponentEntry {
        name: name.to_owned(),
        delivery: Delivery::Ordered,
        quantity: false,
        when_different: false,
        priority: PRIORITY,
        exact: true,
        audience: ComponentAudience::Everyone,
        shape,
        type_id,
        column: Box::new(column),
    });
    index
}

/// Syncs an immutable component, for the owners of entities alone: what a room stores of its own.
pub(crate) fn sync_to_owner<T: SyncComponent>(app: &mut App, name: &str) {
    let index = add_column::<T, _>(app, name, BySerde, write_by_insert::<T>, shape_of::<T>().text);
    if let Some(entry) = app.world_mut().resource_mut::<Protocol>().components.get_mut(index) {
        entry.audience = ComponentAudience::Owner;
    }
}

impl ProtocolAppExt for App {
    fn sync<T: SyncComponent + Component<Mutability = Mutable>>(&mut self, name: &str) -> Synced<'_, T> {
        self.init_resource::<Protocol>();
        let shape = self.world_mut().resource_mut::<Protocol>().take_shape("component", name, shape_of::<T>());
        let index = add_column::<T, _>(self, name, BySerde, write_in_place::<T>, shape);
        Synced { app: self, index, component: PhantomData }
    }

    fn sync_with<T: SyncComponent + Component<Mutability = Mutable>, C: Codec<T>>(&mut self, name: &str, codec: C) -> Synced<'_, T> {
        let shape = format!("{}:{}", shape_of::<T>().text, codec.shape());
        let (exact, complaint) = (codec.exact(), codec.complaint());
        let index = add_column::<T, _>(self, name, ByCodec(codec), write_in_place::<T>, shape);
        let mut protocol = self.world_mut().resource_mut::<Protocol>();
        if let Some(complaint) = complaint {
            protocol.complain(format!("component {name:?}: {complaint}"));
        }
        if let Some(entry) = protocol.components.get_mut(index) {
            entry.exact = exact;
        }
        Synced { app: self, index, component: PhantomData }
    }

    fn sync_mapped<T: SyncComponent + Clone + Component<Mutability = Mutable>>(&mut self, name: &str) -> Synced<'_, T> {
        self.init_resource::<Protocol>();
        let shape = self.world_mut().resource_mut::<Protocol>().take_shape("component", name, shape_of::<T>());
        let shape = format!("mapped:{shape}");
        let index = add_column::<T, _>(self, name, ByMapping, write_in_place::<T>, shape);
        Synced { app: self, index, component: PhantomData }
    }

    fn sync_relationship<T: Relationship + SyncComponent>(&mut self, name: &str) -> &mut Self {
        add_column::<T, _>(self, name, ByTarget::<T>(PhantomData), write_by_insert::<T>, "relationship".to_owned());
        self
    }

    fn spawn_together<B: Bundle<Effect: NoBundleEffect> + BundleFromComponents>(&mut self) -> &mut Self {
        self.init_resource::<Protocol>();
        self.world_mut()
            .resource_mut::<Protocol>()
            .said_together
            .push(|world| [Together::of::<(NetId, EntityId, B)>(world), Together::of::<(NetId, EntityId, Name, B)>(world)]);
        self
    }

    fn command<C: Serialize + DeserializeOwned + Send + Sync + 'static>(&mut self, name: &str) -> &mut Self {
        self.init_resource::<Protocol>();
        let mut protocol = self.world_mut().resource_mut::<Protocol>();
        let count = protocol.commands.len();
        protocol.claim("command", name, count);
        let known = protocol.command_index(TypeId::of::<C>()).and_then(|known| protocol.commands.get(known)).map(|kind| kind.name.clone());
        protocol.claim_type::<C>("command", name, known);
        let shape = protocol.take_shape("command", name, shape_of::<C>());
        protocol.commands.push(CommandKind::new::<C>(name, shape));
        self
    }

    fn fact<F: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(&mut self, name: &str) -> &mut Self {
        add_fact::<F>(self, name, true);
        self
    }

    fn stateless_fact<F: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(&mut self, name: &str) -> &mut Self {
        add_fact::<F>(self, name, false);
        self
    }
}

fn add_fact<F: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(app: &mut App, name: &str, stateful: bool) {
    app.init_resource::<Protocol>();
    let mut protocol = app.world_mut().resource_mut::<Protocol>();
    let count = protocol.facts.len();
    protocol.claim("fact", name, count);
    let known = protocol.fact_index(TypeId::of::<F>()).and_then(|known| protocol.facts.get(known)).map(|kind| kind.name.clone());
    protocol.claim_type::<F>("fact", name, known);
    let shape = if is_built_in(TypeId::of::<F>()) { shape_at_first_sight::<F>() } else { shape_of::<F>() };
    let shape = protocol.take_shape("fact", name, shape);
    protocol.facts.push(FactKind::new::<F>(name, shape, stateful));
}

/// The last segment of a type's path: the path in front differs between binaries that share a protocol.
pub(crate) fn short_type_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let head = name.split('<').next().unwrap_or(name);
    head.rsplit("::").next().unwrap_or(head)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Component, Serialize, Deserialize)]
    struct Ammo(u32);

    fn protocol(register: impl FnOnce(&mut App)) -> Protocol {
        let mut app = App::new();
        register(&mut app);
        std::mem::take(&mut *app.world_mut().resource_mut::<Protocol>())
    }

    #[test]
    fn what_every_entity_is_sent_with_is_refused_as_a_component() {
        let named = protocol(|app| {
            app.sync::<Name>("name");
            app.sync::<EntityId>("id");
            app.sync::<Ammo>("ammo");
        });
        let [name, id] = named.errors() else { panic!("{:?}", named.errors()) };
        assert!(name.contains("component \"name\"") && name.contains("can't be synced"), "{name}");
        assert!(id.contains("component \"id\"") && id.contains("can't be synced"), "{id}");
    }

    #[test]
    fn a_type_by_which_a_few_bytes_claim_without_end_is_refused() {
        #[derive(Clone, Serialize, Deserialize)]
        struct Many(Vec<()>);
        #[derive(Component, Serialize, Deserialize)]
        struct Marks(Vec<Many>, Vec<[u8; 0]>);
        let endless = protocol(|app| {
            app.command::<Many>("many").stateless_fact::<Many>("told");
            app.sync::<Marks>("marks");
            app.sync::<Ammo>("ammo");
        });
        let [command, fact, component] = endless.errors() else { panic!("{:?}", endless.errors()) };
        assert!(command.starts_with("command \"many\": a list in it has items that take no bytes"), "{command}");
        assert!(fact.starts_with("fact \"told\"") && component.starts_with("component \"marks\""), "{fact} {component}");
    }

    #[test]
    fn what_only_a_format_with_names_gives_back_is_refused() {
        #[derive(Component, Clone, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Weapon {
            Sword { edge: u8 },
            Bow { arrows: u8 },
        }
        #[derive(Clone, Serialize, Deserialize)]
        enum Either {
            Plain(Ammo2),
            Any(Box<[serde_json::Value]>),
        }
        #[derive(Clone, Serialize, Deserialize)]
        struct Ammo2(u32);
        let told = protocol(|app| {
            app.sync::<Weapon>("weapon");
            app.command::<Weapon>("draw").fact::<Either>("either").command::<Ammo2>("load");
        });
        let [component, command, fact] = told.errors() else { panic!("{:?}", told.errors()) };
        for (error, begins) in
            [(component, "component \"weapon\": it could be written"), (command, "command \"draw\""), (fact, "fact \"either\"")]
        {
            assert!(error.starts_with(begins), "{error}");
        }
    }

    #[test]
    fn a_type_has_one_name_of_each_kind() {
        let told = protocol(|app| {
            app.command::<u8>("one").command::<u8>("other").fact::<u8>("one").fact::<u16>("other").fact::<u16>("third");
        });
        assert_eq!(told.errors(), ["command \"other\": u8 is \"one\" already", "fact \"third\": u16 is \"other\" already"]);
    }

    /// A component that refers to an entity, with something beside it.
    macro_rules! pointing {
        ($module:ident, $beside:ty) => {
            mod $module {
                use super::*;

                #[derive(Component, Clone, Serialize, Deserialize)]
                pub(super) struct Pointing {
                    #[entities]
                    at: Entity,
                    beside: $beside,
                }
            }
        };
    }
    pointing!(near, u8);
    pointing!(far, u16);
    pointing!(endless, Vec<()>);

    #[test]
    fn the_fields_of_a_mapped_component_are_part_of_the_fingerprint() {
        let near = protocol(|app| {
            app.sync_mapped::<near::Pointing>("pointing");
        });
        let far = protocol(|app| {
            app.sync_mapped::<far::Pointing>("pointing");
        });
        let lines = near.describe().differences(&far.describe());
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.starts_with("component \"pointing\" differs"), "{line}");
        let endless = protocol(|app| {
            app.sync_mapped::<endless::Pointing>("pointing");
        });
        let [error] = endless.errors() else { panic!("{:?}", endless.errors()) };
        assert!(error.starts_with("component \"pointing\": a list in it has items that take no bytes"), "{error}");
    }

    #[test]
    fn who_receives_a_component_is_no_part_of_the_fingerprint() {
        let everyone = protocol(|app| {
            app.sync::<Ammo>("ammo");
        });
        let owner = protocol(|app| {
            app.sync::<Ammo>("ammo").to_owner();
        });
        let team = protocol(|app| {
            app.sync::<Ammo>("ammo").latest().to_mask(6);
        });
        assert_eq!(everyone.component_audience("ammo"), Some(ComponentAudience::Everyone));
        assert_eq!(owner.component_audience("ammo"), Some(ComponentAudience::Owner));
        assert_eq!(team.component_audience("ammo"), Some(ComponentAudience::Mask(6)));
        assert_eq!(team.component_audience("arms"), None);
        assert_eq!(everyone.fingerprint(), owner.fingerprint());
        assert_ne!(everyone.fingerprint(), team.fingerprint(), "that it is the latest value counts");
    }
}
