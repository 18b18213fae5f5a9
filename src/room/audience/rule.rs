//! The components that say who may see an entity, and what a member can see.

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use serde::{Deserialize, Serialize};

use super::derived::{HiddenByHand, suspect};
use crate::protocol::{EntityId, NetId, OwnedBy};
use crate::room::index::{EntityIndex, SlotState};

/// Who may see an entity. Without it, everyone.
///
/// Its owner always may: the user that owns it by [`OwnedBy`], or is it. So may those to whom it is [`RevealedTo`]. Not stored by itself:
/// let a synced component require it, or say it ([`audience_by`](crate::room::RulesAppExt::audience_by)), and the entity is restricted wherever it
/// comes from, a level, a reset or a store; or let it be stored itself ([`sync_audience`](crate::room::RulesAppExt::sync_audience)).
/// Immutable: to change it, insert another one.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
///
/// /// A card: nobody but its owner knows that it is there.
/// #[derive(Component)]
/// #[require(Audience = Audience::OWNER)]
/// struct Card(u8);
///
/// const RED: u64 = 1;
/// let mut world = World::new();
/// world.spawn(Card(7));
/// world.spawn(Audience::mask(RED)); // for the red team
/// world.spawn(Audience::EVERYONE.near()); // for whoever is near
/// world.spawn(Audience::mask(RED).near()); // for those of the red team who are near
/// ```
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[component(immutable, on_insert = restrict, on_remove = release)]
pub struct Audience {
    everyone: bool,
    mask: u64,
    near: bool,
}

impl Audience {
    /// Everyone: the entity is public.
    pub const EVERYONE: Self = Self { everyone: true, mask: 0, near: false };

    /// The user that owns it by [`OwnedBy`], or is it.
    pub const OWNER: Self = Self::mask(0);

    /// The members whose [`Senses`] share a bit with `bits`: a team, a cheat, a pair of X-ray glasses.
    pub const fn mask(bits: u64) -> Self {
        Self { everyone: false, mask: bits, near: false }
    }

    /// Of those, whoever is near: the place of the entity is within the [`Reach`] of the member's [focus](Senses::focus). What places are is
    /// said by [`places_by`](crate::room::RulesAppExt::places_by). An entity without a place is near nobody.
    #[must_use]
    pub const fn near(self) -> Self {
        Self { near: true, ..self }
    }

    /// True if not everyone may see it.
    pub fn is_restricted(&self) -> bool {
        !self.everyone || self.near
    }

    pub(super) fn is_near(&self) -> bool {
        self.near
    }

    pub(super) fn is_everyone(&self) -> bool {
        self.everyone
    }

    /// Whether a member with that mask is among those who may see it, near or not.
    pub(super) fn admits(&self, mask: u64) -> bool {
        self.everyone || self.mask & mask != 0
    }
}

/// The most users to whom one entity is revealed.
pub const REVEALED_MAX: usize = 256;

/// The entity is shown to these users too, wherever they are: a pocket that is being picked. Remove it, and they no longer see it.
/// Does nothing to an entity that is public. Immutable: to change it, insert another one.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::room::RevealedTo;
/// let (ann, bob) = (EntityId::named("ann"), EntityId::named("bob"));
/// assert!(RevealedTo::users([ann, bob]).contains(bob));
/// ```
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
#[component(immutable, on_insert = touch, on_remove = touch)]
pub struct RevealedTo {
    users: Vec<EntityId>,
}

impl RevealedTo {
    /// To these users. To the first [`REVEALED_MAX`] by their ids, if there are more: of that an error is logged.
    pub fn users(users: impl IntoIterator<Item = EntityId>) -> Self {
        let mut users: Vec<EntityId> = users.into_iter().collect();
        users.sort_unstable();
        users.dedup();
        if users.len() > REVEALED_MAX {
            tracing::error!(users = users.len(), "an entity can't be revealed to more than {REVEALED_MAX} users");
            users.truncate(REVEALED_MAX);
        }
        Self { users }
    }

    /// True if that user is among them.
    pub fn contains(&self, user: EntityId) -> bool {
        self.users.binary_search(&user).is_ok()
    }

    pub(super) fn as_slice(&self) -> &[EntityId] {
        &self.users
    }
}

/// How far a member sees. An entity comes into its sight within `enter`, and leaves it beyond `leave`, so that one at the edge does not
/// come and go with every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// What is at most so far away comes into sight. Negative or not a number: nothing does.
    pub enter: f32,
    /// What is farther away leaves it. If it is less than `enter`, `enter` counts.
    pub leave: f32,
}

/// Beyond this a square would not be a number any more.
const REACH_MAX: f32 = 1e18;

impl Reach {
    /// As far as nothing.
    pub const NONE: Self = Self { enter: -1.0, leave: -1.0 };

    /// Comes into sight within `enter`, and leaves it a tenth farther away.
    pub fn within(enter: f32) -> Self {
        Self { enter, leave: enter * 1.1 }
    }

    /// Both distances as they count, if anything can be seen at all.
    pub(super) fn limits(self) -> Option<(f32, f32)> {
        let enter = Some(self.enter.min(REACH_MAX)).filter(|enter| !self.enter.is_nan() && *enter >= 0.0)?;
        Some((enter, self.leave.max(enter).min(REACH_MAX)))
    }
}

/// What a member can see of what is not public. On the entity of its [`User`](crate::protocol::User). Not synced.
///
/// A member whose user's entity has none, or who has no entity at present, sees what is public, its own, and what is [`RevealedTo`] it:
/// nobody sees more because its avatar died.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::room::Reach;
///
/// fn settle_in(joined: On<Happened<UserJoined>>, mut commands: Commands) {
///     commands.spawn((joined.user, Senses::new().with_mask(1).with_reach(Reach { enter: 40.0, leave: 45.0 })));
/// }
/// ```
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct Senses {
    /// Its teams, and whatever else lets it see: an entity with [`Audience::mask`] is seen if both share a bit. Default: none.
    pub mask: u64,
    /// The entity from whose place it looks. If that has no place, is disabled or despawned, nothing is near. Default: the user's own entity.
    pub focus: Option<Entity>,
    /// How far it sees. Default: [`Reach::NONE`].
    pub reach: Reach,
}

impl Default for Senses {
    fn default() -> Self {
        Self { mask: 0, focus: None, reach: Reach::NONE }
    }
}

impl Senses {
    /// Those of a member that sees nothing but what is public or its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a mask.
    #[must_use]
    pub fn with_mask(self, mask: u64) -> Self {
        Self { mask, ..self }
    }

    /// With a reach.
    #[must_use]
    pub fn with_reach(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// Looking from the place of another entity.
    #[must_use]
    pub fn with_focus(self, focus: Entity) -> Self {
        Self { focus: Some(focus), ..self }
    }
}

/// What those see who watch the room without being a user of it. A resource. They stand nowhere: what only those see who are near, they
/// see by `Everything` alone.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpectatorsSee {
    /// What everyone sees; the default.
    #[default]
    Public,
    /// What a member with this mask sees.
    Mask(u64),
    /// All there is.
    Everything,
}

fn restrict(mut world: DeferredWorld<'_>, context: HookContext) {
    let restricted = world.get::<Audience>(context.entity).is_some_and(Audience::is_restricted);
    set_restricted(&mut world, context.entity, restricted);
    if restricted {
        suspect(&mut world, context.entity);
    }
}

fn release(mut world: DeferredWorld<'_>, context: HookContext) {
    set_restricted(&mut world, context.entity, false);
}

fn set_restricted(world: &mut DeferredWorld<'_>, entity: Entity, restricted: bool) {
    let Some(id) = world.get::<NetId>(entity).copied() else { return };
    let Some(mut index) = world.get_resource_mut::<EntityIndex>() else { return };
    // What is dying stays what it was: its last values are still to be told.
    if !matches!(index.state(id.get()), SlotState::Buried | SlotState::Free) {
        index.restrict(id, restricted);
    }
}

fn touch(mut world: DeferredWorld<'_>, context: HookContext) {
    touch_entity(&mut world, context.entity);
}

/// Lets what decides who sees an entity be looked at again.
pub(super) fn touch_entity(world: &mut DeferredWorld<'_>, entity: Entity) {
    let Some(id) = world.get::<NetId>(entity).copied().filter(|id| *id != NetId::UNASSIGNED) else { return };
    if let Some(mut index) = world.get_resource_mut::<EntityIndex>() {
        index.touched.set(id.get());
    }
}

/// Makes a world note whose owner changes, and who is hidden.
pub(crate) fn watch_owners(world: &mut World) {
    world.init_resource::<HiddenByHand>();
    world.add_observer(|gained: On<Insert<OwnedBy>>, mut world: DeferredWorld| touch_entity(&mut world, gained.entity));
    world.add_observer(|lost: On<Remove<OwnedBy>>, mut world: DeferredWorld| touch_entity(&mut world, lost.entity));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_that_makes_no_sense_reaches_nothing_or_as_far_as_it_enters() {
        let limits = |enter, leave| Reach { enter, leave }.limits();
        assert_eq!(limits(1.0, 2.0), Some((1.0, 2.0)));
        assert_eq!(limits(2.0, 1.0), Some((2.0, 2.0)));
        assert_eq!(limits(1.0, f32::NAN), Some((1.0, 1.0)));
        assert_eq!(limits(0.0, f32::INFINITY), Some((0.0, REACH_MAX)));
        assert_eq!(limits(f32::INFINITY, f32::INFINITY), Some((REACH_MAX, REACH_MAX)));
        assert_eq!(limits(f32::NAN, 1.0), None);
        assert_eq!(limits(-1.0, 1.0), None);
    }

    #[test]
    fn an_entity_is_revealed_to_a_bounded_number_of_users() {
        let users = (0..1000).map(|n| EntityId::named(&n.to_string()));
        assert_eq!(RevealedTo::users(users).users.len(), REVEALED_MAX);
    }
}
