//! Relative updates of quantities, which replicas receive as what they are: `inc_max(health, 10, 100)`.

use bevy_ecs::prelude::*;
use bevy_ecs::system::{SystemChangeTick, SystemParam};

use crate::protocol::{NetId, Quantity, Step, StepLog};

/// Takes the update operations `inc`, `dec`, `inc_max` and `dec_min` on a component.
///
/// The component changes at once, and the batch tells the operation instead of the value, unless something else wrote the
/// component in the same tick: then it tells the value, as it does for every plain mutation. Integers stop at the bounds of
/// their type. Register the component by `app.sync::<Health>("health").quantity()`.
///
/// Each operation returns the new amount, or `None` if the entity has no such component.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// # #[derive(Component, Clone, PartialEq)]
/// # struct Health(i32);
/// # impl Quantity for Health {
/// #     type Amount = i32;
/// #     fn amount(&self) -> i32 { self.0 }
/// #     fn set_amount(&mut self, amount: i32) { self.0 = amount; }
/// # }
/// # #[derive(Clone)]
/// # struct MedkitCollected { by: EntityId }
/// fn heal(collected: On<Happened<MedkitCollected>>, index: Res<EntityIndex>, mut health: Patch<Health>) {
///     if let Some(player) = index.entity(collected.by) {
///         health.inc_max(player, 10, 100);
///     }
/// }
/// ```
#[derive(SystemParam)]
pub struct Patch<'w, 's, T: Quantity> {
    components: Query<'w, 's, (&'static NetId, &'static mut T)>,
    log: ResMut<'w, StepLog<T>>,
    now: SystemChangeTick,
}

impl<T: Quantity> Patch<'_, '_, T> {
    /// Adds `by`.
    pub fn inc(&mut self, entity: Entity, by: T::Amount) -> Option<T::Amount> {
        self.step(entity, Step::Inc(by))
    }

    /// Subtracts `by`.
    pub fn dec(&mut self, entity: Entity, by: T::Amount) -> Option<T::Amount> {
        self.step(entity, Step::Dec(by))
    }

    /// Adds `by`, but not above `max`. An amount that is above already stays.
    pub fn inc_max(&mut self, entity: Entity, by: T::Amount, max: T::Amount) -> Option<T::Amount> {
        self.step(entity, Step::IncMax { by, max })
    }

    /// Subtracts `by`, but not below `min`. An amount that is below already stays.
    pub fn dec_min(&mut self, entity: Entity, by: T::Amount, min: T::Amount) -> Option<T::Amount> {
        self.step(entity, Step::DecMin { by, min })
    }

    /// Takes any step.
    pub fn step(&mut self, entity: Entity, step: Step<T::Amount>) -> Option<T::Amount> {
        let (id, mut value) = self.components.get_mut(entity).ok()?;
        self.log.step(*id, &mut value, step, self.now.this_run());
        Some(value.amount())
    }

    /// Reads the component.
    pub fn get(&self, entity: Entity) -> Option<&T> {
        self.components.get(entity).ok().map(|(_, value)| value)
    }
}
