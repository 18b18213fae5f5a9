//! A viewer: what it is, what it sees with, and what it has to be told.

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::grid::{Cover, Eye};
use super::places::Places;
use super::rule::{Senses, SpectatorsSee};
use crate::protocol::{EntityId, NetId};
use crate::room::index::{EntityIndex, SlotState};

/// What a viewer may see by itself, wherever things are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// The entity of its user.
    pub(super) body: Option<Entity>,
    pub(super) mask: u64,
    pub(super) everything: bool,
}

#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) taken: bool,
    /// It was not there when the viewers were last brought up to date.
    pub(super) fresh: bool,
    pub(super) user: Option<EntityId>,
    /// Where the entity of the user was found last.
    number: Option<NetId>,
    pub(super) rights: Rights,
    pub(super) rights_changed: bool,
    pub(super) cover: Cover,
    pub(super) buckets: Vec<u32>,
    pub(super) entered: Vec<NetId>,
    pub(super) left: Vec<NetId>,
    pub(super) gone: Vec<NetId>,
    pub(super) gained: Vec<NetId>,
    pub(super) lost: Vec<NetId>,
}

impl Seat {
    pub(super) fn new(user: Option<EntityId>) -> Self {
        Self { taken: true, fresh: true, user, ..Self::default() }
    }

    pub(super) fn lists(&mut self) -> [&mut Vec<NetId>; 5] {
        [&mut self.entered, &mut self.left, &mut self.gone, &mut self.gained, &mut self.lost]
    }

    /// Says that the viewer sees an entity from now on, or no longer does.
    pub(super) fn tell(&mut self, id: NetId, sees: bool) {
        if sees { &mut self.entered } else { &mut self.left }.push(id);
    }

    /// What the viewer can see by now.
    pub(super) fn look(&mut self, world: &World, places: &Places, spectators: SpectatorsSee) -> (Rights, Eye) {
        let Some(user) = self.user else {
            let (mask, everything) = match spectators {
                SpectatorsSee::Public => (0, false),
                SpectatorsSee::Mask(mask) => (mask, false),
                SpectatorsSee::Everything => (0, true),
            };
            return (Rights { body: None, mask, everything }, Eye::BLIND);
        };
        let Some(body) = self.body(world.resource::<EntityIndex>(), user) else { return (Rights::default(), Eye::BLIND) };
        let senses = world.get::<Senses>(body).copied().unwrap_or_default();
        let place = |focus: Entity| {
            let focus = world.get_entity(focus).ok().filter(|focus| !focus.contains::<Disabled>())?;
            places.source.as_ref()?.place(focus)
        };
        let eye = senses.reach.limits().and_then(|limits| Some(Eye::new(place(senses.focus.unwrap_or(body))?, limits)));
        (Rights { body: Some(body), mask: senses.mask, everything: false }, eye.unwrap_or(Eye::BLIND))
    }

    /// The entity of a user: where it was last, most often.
    fn body(&mut self, index: &EntityIndex, user: EntityId) -> Option<Entity> {
        let found = |id: &NetId| {
            let slot = index.slot(*id).filter(|slot| slot.id == user)?;
            (!matches!(slot.state, SlotState::Free | SlotState::Buried)).then_some(slot.entity)
        };
        if let Some(body) = self.number.as_ref().and_then(found) {
            return Some(body);
        }
        self.number = index.net_id(user);
        self.number.as_ref().and_then(found)
    }
}
