//! Small corrections are shown little by little: what was shown wrongly is an error that fades.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;

use crate::protocol::EntityId;
use crate::room::EntityIndex;

/// How long an error is seen.
const FADES_IN: Duration = Duration::from_millis(100);

/// A component whose corrections fade, with its type erased.
pub(super) trait Smooth: Send + Sync {
    /// The component.
    fn type_id(&self) -> TypeId;
    /// The shadow is at the tick that was shown last: what does it say of it now?
    fn sample(&mut self, shadow: &World);
    /// What the shadow said is not true any more.
    fn sample_anew(&mut self);
    /// Those that were shown last time.
    fn shown(&self) -> Vec<(Entity, EntityId)>;
    /// Writes what is seen of values into the replica's entities: of such that are predicted now, and of such that were. `share`: which share of an
    /// error fades.
    fn show(&mut self, world: &mut World, shadow: &World, rows: &[(Entity, EntityId, bool)], share: f32);
    /// True if anything has still to fade.
    fn fades(&self) -> bool;
    /// Forgets what was shown.
    fn clear(&mut self);
}

/// The components whose corrections fade.
#[derive(Resource, Default)]
pub(super) struct Smoothers {
    pub(super) all: Vec<Box<dyn Smooth>>,
    shown_at: Duration,
}

impl Smoothers {
    pub(super) fn sample(&mut self, shadow: &World) {
        self.all.iter_mut().for_each(|smooth| smooth.sample(shadow));
    }

    pub(super) fn sample_anew(&mut self) {
        self.all.iter_mut().for_each(|smooth| smooth.sample_anew());
    }

    pub(super) fn fades(&self) -> bool {
        self.all.iter().any(|smooth| smooth.fades())
    }

    /// Forgets what was shown: it is no error.
    pub(super) fn clear(&mut self) {
        self.all.iter_mut().for_each(|smooth| smooth.clear());
    }

    /// A frame in which nothing is shown anew, and nothing fades: what is wrong in a later one has not begun to fade before it.
    pub(super) fn stand(&mut self, now: Duration) {
        self.shown_at = now;
    }

    /// Which share of an error fades until now.
    pub(super) fn share(&mut self, now: Duration) -> f32 {
        let passed = now.saturating_sub(std::mem::replace(&mut self.shown_at, now));
        (passed.as_secs_f32() / FADES_IN.as_secs_f32()).min(1.0)
    }
}

/// An error: where it was shown, and where it should have been.
struct Fault<T> {
    is: T,
    was: T,
    left: f32,
}

/// What was shown of one entity.
struct Face<T> {
    id: EntityId,
    plain: T,
    shown: T,
    /// It was predicted, and does not only fade.
    predicted: bool,
    /// What the shadow says now of the same tick.
    anew: Option<T>,
    fault: Option<Fault<T>>,
}

pub(super) struct Smoother<T, S, D> {
    /// A value, moved by a share of the way from the second to the third.
    pub(super) shift: S,
    pub(super) distance: D,
    pub(super) snap_beyond: f32,
    faces: BTreeMap<Entity, Face<T>>,
}

impl<T, S, D> Smoother<T, S, D> {
    pub(super) fn new(shift: S, distance: D, snap_beyond: f32) -> Self {
        Self { shift, distance, snap_beyond, faces: BTreeMap::new() }
    }
}

fn of_shadow<T: Component + Clone>(shadow: &World, id: EntityId) -> Option<T> {
    let entity = shadow.resource::<EntityIndex>().entity(id)?;
    shadow.get::<T>(entity).cloned()
}

impl<T, S, D> Smooth for Smoother<T, S, D>
where
    T: Component<Mutability = Mutable> + Clone,
    S: Fn(&T, &T, &T, f32) -> T + Send + Sync,
    D: Fn(&T, &T) -> f32 + Send + Sync,
{
    fn type_id(&self) -> TypeId {
        TypeId::of::<T>()
    }

    fn sample(&mut self, shadow: &World) {
        for face in self.faces.values_mut().filter(|face| face.predicted && face.anew.is_none()) {
            face.anew = of_shadow(shadow, face.id);
        }
    }

    fn sample_anew(&mut self) {
        self.faces.values_mut().for_each(|face| face.anew = None);
    }

    fn shown(&self) -> Vec<(Entity, EntityId)> {
        self.faces.iter().map(|(entity, face)| (*entity, face.id)).collect()
    }

    fn show(&mut self, world: &mut World, shadow: &World, rows: &[(Entity, EntityId, bool)], share: f32) {
        let mut before = std::mem::take(&mut self.faces);
        for (entity, id, predicted) in rows {
            let Some(plain) = of_shadow::<T>(shadow, *id) else { continue };
            let face = before.remove(entity);
            let mut fault = None;
            if let Some(face) = face {
                fault = face.fault.map(|fault| Fault { left: fault.left - share, ..fault }).filter(|fault| fault.left > 0.0);
                if let Some(anew) = face.anew.filter(|anew| (self.distance)(&face.plain, anew) > 0.0) {
                    let seen = (self.distance)(&face.shown, &anew) <= self.snap_beyond;
                    // It fades from now on: else a correction in each frame would hold what is shown for good.
                    fault = Some(Fault { is: anew, was: face.shown, left: 1.0 - share }).filter(|fault| seen && fault.left > 0.0);
                }
            }
            // What is not predicted any more is shown as the room has it.
            if !predicted && fault.is_none() {
                continue;
            }
            let shown = fault.as_ref().map_or_else(|| plain.clone(), |fault| (self.shift)(&plain, &fault.is, &fault.was, fault.left));
            if fault.is_some()
                && let Some(mut slot) = world.get_mut::<T>(*entity)
            {
                *slot = shown.clone();
            }
            self.faces.insert(*entity, Face { id: *id, plain, shown, predicted: *predicted, anew: None, fault });
        }
    }

    fn fades(&self) -> bool {
        self.faces.values().any(|face| face.fault.is_some())
    }

    fn clear(&mut self) {
        self.faces.clear();
    }
}
