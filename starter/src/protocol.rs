//! What server and clients agree on.

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Interpolation, User};
use serde::{Deserialize, Serialize};

/// Where something stands, in metres.
#[derive(Component, Clone, Serialize, Deserialize)]
pub struct Position(pub [f32; 2]);
/// Which way somebody walks.
#[derive(Component, Clone, Default, Serialize, Deserialize)]
pub struct Heading(pub [f32; 2]);
/// How many apples hang on a tree.
#[derive(Component, Clone, Serialize, Deserialize)]
pub struct Apples(pub u32);
/// How many somebody carries.
#[derive(Component, Clone, Serialize, Deserialize)]
pub struct Basket(pub u32);

/// A command: walk that way from now on.
#[derive(Serialize, Deserialize)]
pub struct Head(pub [f32; 2]);
/// A command: pick an apple of the nearest tree.
#[derive(Serialize, Deserialize)]
pub struct Pick;

/// A fact: somebody walks another way.
#[derive(Clone, Serialize, Deserialize)]
pub struct Headed {
    pub who: EntityId,
    pub to: [f32; 2],
}
/// A fact: somebody picked an apple.
#[derive(Clone, Serialize, Deserialize)]
pub struct Picked {
    pub who: EntityId,
    pub tree: EntityId,
}

/// Both sides add this, so they cannot disagree.
pub fn protocol(app: &mut App) {
    app.sync::<User>("user");
    app.sync::<Position>("position").latest();
    app.sync::<Heading>("heading");
    app.sync::<Apples>("apples");
    app.sync::<Basket>("basket");
    app.command::<Head>("head").fact::<Headed>("headed");
    app.command::<Pick>("pick").fact::<Picked>("picked");
}

/// How a position goes over into the next one, where it is drawn.
pub fn positions() -> Interpolation<Position> {
    Interpolation::linear(|position: &Position| position.0, Position).teleport_beyond(2.0)
}
