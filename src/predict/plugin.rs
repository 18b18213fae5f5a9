//! The plugin that a game adds to its client.

use bevy_app::prelude::*;
use bevy_ecs::component::Mutable;
use bevy_ecs::prelude::*;

use super::engine::Predictor;
use super::prediction::Prediction;
use super::show::Arrivals;
use super::smooth::{Smoother, Smoothers};
use crate::client::{Connection, Journal, Note, Replica, ReplicaSystems, Touches};
use crate::protocol::{CodecError, Protocol};
use crate::room::{Blueprint, guard};

/// When predictions are shown.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PredictSystems {
    /// In `PreUpdate`, after [`ReplicaSystems::Receive`]: what is on its way, after what has arrived. In `PostUpdate`: what was issued in between.
    Show,
}

/// The predictor, out of its place while it works, and of what another one is built should this one fail.
#[derive(Resource, Debug)]
struct Seat(Option<Box<Predictor>>, Blueprint);

/// Shows what the player asks for at once, by the game's own rules. Add it beside [`ReplicaPlugin`](crate::client::ReplicaPlugin), with the same
/// two functions that the server's room is built from; the protocol is added to the app as ever.
///
/// ```
/// use bevy_app::prelude::*;
/// use roomkeeper::client::{ReplicaPlugin, UdpPlugin};
/// use roomkeeper::predict::PredictPlugin;
/// # fn protocol(_: &mut App) {}
/// # fn rules(_: &mut App) {}
/// let mut app = App::new();
/// app.add_plugins((ReplicaPlugin, UdpPlugin, PredictPlugin::new(protocol, rules)));
/// protocol(&mut app);
/// ```
///
/// What is shown is in the components of the replica's entities; operations, [`ComponentChanged`](crate::protocol::ComponentChanged) and facts tell
/// what the room says alone. Rules keep what they remember in synced components, and take chance from nobody: the room's is not known.
#[derive(Debug)]
pub struct PredictPlugin {
    blueprint: Blueprint,
}

impl PredictPlugin {
    /// Takes the two functions of a game.
    pub fn new(protocol: impl Fn(&mut App) + Send + Sync + 'static, rules: impl Fn(&mut App) + Send + Sync + 'static) -> Self {
        Self::of(Blueprint::new(protocol, rules))
    }

    /// Takes a game.
    pub fn of(blueprint: Blueprint) -> Self {
        Self { blueprint }
    }
}

impl Plugin for PredictPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Prediction>().init_resource::<Smoothers>();
        app.configure_sets(PreUpdate, ReplicaSystems::Show.after(PredictSystems::Show));
        app.configure_sets(PostUpdate, ReplicaSystems::Show.after(PredictSystems::Show));
        app.add_systems(PreUpdate, follow.in_set(PredictSystems::Show).after(ReplicaSystems::Receive));
        app.add_systems(PostUpdate, foresee.in_set(PredictSystems::Show));
    }

    fn finish(&self, app: &mut App) {
        let shadow = self.blueprint.shadow().map_err(|error| error.to_string());
        let world = app.world_mut();
        let ours = world.get_resource::<Protocol>().map(Protocol::fingerprint);
        let shadow = shadow.and_then(|shadow| match Some(shadow.world().resource::<Protocol>().fingerprint()) == ours {
            true => Ok(shadow),
            false => Err("the protocol that the prediction was given is not the app's, or there is no `ReplicaPlugin`".to_owned()),
        });
        match shadow {
            Ok(shadow) => {
                world.insert_resource(Seat(Some(Box::new(Predictor::new(shadow))), self.blueprint.clone()));
                world.resource_mut::<Connection>().journal = Some(Journal::new(withdraw, look));
                world.resource_mut::<Replica>().touches = Some(Touches::default());
            }
            Err(error) => {
                tracing::error!("nothing is predicted: {error}");
                world.resource_mut::<Prediction>().off = Some(error);
            }
        }
    }
}

/// Says how corrections of a component are shown.
pub trait PredictAppExt {
    /// Shows corrections of a component little by little, in a tenth of a second: `shift` gives a value moved by a share of the way from the second
    /// value to the third. Those that are further than `snap_beyond`, by `distance`, are shown at once. Only what is shown is smooth; rules never
    /// meet such values.
    ///
    /// ```
    /// use bevy_app::prelude::*;
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::predict::PredictAppExt;
    /// #[derive(Component, Clone)]
    /// struct Position(f32);
    /// # let mut app = App::new();
    /// app.predict_smoothly::<Position>(
    ///     |at, from, to, share| Position(at.0 + (to.0 - from.0) * share),
    ///     |a, b| (a.0 - b.0).abs(),
    ///     2.0,
    /// );
    /// ```
    fn predict_smoothly<T: Component<Mutability = Mutable> + Clone>(
        &mut self,
        shift: impl Fn(&T, &T, &T, f32) -> T + Send + Sync + 'static,
        distance: impl Fn(&T, &T) -> f32 + Send + Sync + 'static,
        snap_beyond: f32,
    ) -> &mut Self;
}

impl PredictAppExt for App {
    fn predict_smoothly<T: Component<Mutability = Mutable> + Clone>(
        &mut self,
        shift: impl Fn(&T, &T, &T, f32) -> T + Send + Sync + 'static,
        distance: impl Fn(&T, &T) -> f32 + Send + Sync + 'static,
        snap_beyond: f32,
    ) -> &mut Self {
        self.init_resource::<Smoothers>();
        let smoother = Smoother::<T, _, _>::new(shift, distance, snap_beyond);
        self.world_mut().resource_mut::<Smoothers>().all.push(Box::new(smoother));
        self
    }
}

/// Lets the predictor do something; what goes wrong ends the prediction until the client joins again, and not the client.
fn with_predictor<T: Default>(world: &mut World, act: impl FnOnce(&mut Predictor, &mut World) -> Result<T, CodecError>) -> T {
    let Some(mut predictor) = world.get_resource_mut::<Seat>().and_then(|mut seat| seat.0.take()) else { return T::default() };
    let done = match predictor.off {
        true => Ok(Ok(T::default())),
        false => guard(|| act(&mut predictor, world)),
    };
    let error = match done {
        Ok(Ok(value)) => {
            world.resource_mut::<Seat>().0 = Some(predictor);
            return value;
        }
        Ok(Err(error)) => error.to_string(),
        Err(fault) => format!("{}: {}", fault.place, fault.message),
    };
    tracing::error!("nothing is predicted any more: {error}");
    predictor.off = true;
    // What was shown is what the room says again.
    let _ = predictor.take_back(world);
    predictor.forget(world);
    let arrivals = guard(|| predictor.show(world));
    world.resource_mut::<Connection>().journal.iter_mut().for_each(|journal| journal.notes.clear());
    world.resource_mut::<Replica>().touches = None;
    *world.resource_mut::<Prediction>() = Prediction { pending: 0, off: Some(error), ..world.resource::<Prediction>().clone() };
    world.resource_mut::<Seat>().0 = Some(predictor);
    if let Ok(Ok(arrivals)) = arrivals {
        arrivals.announce(world);
    }
    T::default()
}

/// Builds another predictor if the client has joined again since the last one failed.
fn recover(world: &mut World) {
    let Some(seat) = world.get_resource::<Seat>().filter(|seat| seat.0.as_ref().is_some_and(|predictor| predictor.off)) else { return };
    let blueprint = seat.1.clone();
    let mut connection = world.resource_mut::<Connection>();
    let notes = connection.journal.as_mut().map(|journal| std::mem::take(&mut journal.notes)).unwrap_or_default();
    if !notes.iter().any(|note| matches!(note, Note::Joined)) {
        return;
    }
    let off = match blueprint.shadow() {
        Ok(shadow) => {
            world.resource_mut::<Seat>().0 = Some(Box::new(Predictor::new(shadow)));
            world.resource_mut::<Replica>().touches = Some(Touches::default());
            None
        }
        Err(error) => Some(error.to_string()),
    };
    world.resource_mut::<Prediction>().off = off;
}

/// Messages are about to be applied. What was issued since the last look is predicted first: what they say may be of it already.
fn withdraw(world: &mut World) {
    with_predictor(world, |predictor, world| {
        predictor.take_back(world)?;
        take_up(predictor, world).map(drop)
    });
}

/// A message was applied.
fn look(world: &mut World) {
    with_predictor(world, Predictor::look);
}

/// All messages that arrived were applied.
fn follow(world: &mut World) {
    recover(world);
    let shown = with_predictor(world, |predictor, world| {
        predictor.hear(world)?;
        let live = world.resource::<Connection>().state().is_in_room() && world.resource::<Replica>().is_live();
        if !live {
            predictor.take_back(world)?;
            predictor.forget(world);
            return predictor.show(world).map(Some);
        }
        if predictor.is_idle(world) {
            return stand(world);
        }
        if predictor.is_told_more(world) {
            predictor.catch_up(world)?;
        } else if predictor.is_behind(world) {
            predictor.go_on(world);
        } else if !predictor.is_bare && !world.resource::<Smoothers>().fades() {
            return stand(world);
        }
        predictor.take_back(world)?;
        predictor.show(world).map(Some)
    });
    tell(world, shown);
}

/// A frame in which all stays as it is.
fn stand(world: &mut World) -> Result<Option<Arrivals>, CodecError> {
    let now = world.resource::<Connection>().now();
    world.resource_mut::<Smoothers>().stand(now);
    Ok(None)
}

/// The game has had its turn.
fn foresee(world: &mut World) {
    let shown = with_predictor(world, |predictor, world| match take_up(predictor, world)? {
        true => predictor.show(world).map(Some),
        false => Ok(None),
    });
    tell(world, shown);
}

/// Predicts what was issued since the last look; says whether anything was said. What was shown is taken back then.
fn take_up(predictor: &mut Predictor, world: &mut World) -> Result<bool, CodecError> {
    let said = |connection: &Connection| connection.journal.as_ref().is_some_and(|journal| !journal.notes.is_empty());
    if !said(world.resource::<Connection>()) || !world.resource::<Replica>().is_live() {
        return Ok(false);
    }
    predictor.take_back(world)?;
    // While there was nothing to predict the shadow stood still, unless something happens in it by itself.
    let stood = predictor.pending.is_empty() && !predictor.shadow.has_update();
    predictor.hear(world)?;
    predictor.stale |= stood || predictor.open <= predictor.base(world.resource::<Replica>());
    predictor.catch_up(world)?;
    Ok(true)
}

/// Tells what came and went, and what was wrong.
fn tell(world: &mut World, shown: Option<Arrivals>) {
    let Some(mut seat) = world.get_resource_mut::<Seat>() else { return };
    let Some(predictor) = &mut seat.0 else { return };
    let wrong = std::mem::take(&mut predictor.wrong);
    let (pending, tick, revised) = (predictor.pending.len(), predictor.open, std::mem::take(&mut predictor.revised));
    let mut prediction = world.resource_mut::<Prediction>();
    prediction.pending = pending;
    prediction.revised += revised;
    if let Some(arrivals) = shown {
        prediction.tick.0 = tick;
        arrivals.announce(world);
    }
    wrong.into_iter().for_each(|wrong| world.trigger(wrong));
}
