//! What the viewers know of an entity.

use bevy_ecs::prelude::*;

use super::rule::{Audience, RevealedTo};
use crate::protocol::{EntityId, NetId, OwnedBy};
use crate::room::index::{EntityIndex, SlotState};

/// An entity as it was when the viewers were last brought up to date.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) entity: Entity,
    /// The replicas of those who see it know it.
    pub(super) shown: bool,
    /// The last batch for all did not tell of it.
    pub(super) restricted: bool,
    pub(super) dead: bool,
    pub(super) audience: Audience,
    pub(super) owner: Option<Entity>,
    pub(super) revealed: Vec<EntityId>,
}

impl Subject {
    pub(super) const NOBODY: Self = Self {
        entity: Entity::PLACEHOLDER,
        shown: false,
        restricted: false,
        dead: true,
        audience: Audience::EVERYONE,
        owner: None,
        revealed: Vec::new(),
    };

    /// As it is now.
    pub(super) fn read(world: &World, index: &EntityIndex, id: NetId) -> Self {
        let Some(slot) = index.slot(id) else { return Self::NOBODY };
        let dead = Self { entity: slot.entity, restricted: slot.restricted, ..Self::NOBODY };
        let Some(entity) = world.get_entity(slot.entity).ok().filter(|_| !matches!(slot.state, SlotState::Free | SlotState::Buried)) else {
            return dead;
        };
        Self {
            shown: slot.state == SlotState::Shown,
            dead: false,
            audience: entity.get::<Audience>().copied().unwrap_or(Audience::EVERYONE),
            owner: entity.get::<OwnedBy>().map(|owner| owner.0),
            revealed: entity.get::<RevealedTo>().map(|revealed| revealed.as_slice().to_vec()).unwrap_or_default(),
            ..dead
        }
    }

    /// It is shown, and only to those who are near.
    pub(super) fn is_near(&self) -> bool {
        self.shown && self.audience.is_near()
    }

    /// Whether it is a user's own.
    pub(super) fn is_own(&self, body: Option<Entity>) -> bool {
        body.is_some_and(|body| self.owner == Some(body) || self.entity == body)
    }
}
