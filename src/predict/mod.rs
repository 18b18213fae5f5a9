//! Client-side prediction: what a player asks for shows at once, worked out by the server's own rules, and is put right when the server says
//! otherwise.
//!
//! Beside the replica stands a shadow: a room's world with the game's rules, that follows the replica. Commands that are on their way are applied
//! to it in the ticks in which the room is expected to decide them; what differs from the replica then is shown in the replica's entities, and
//! taken back before any message is applied. So what the room says, its versions and its hashes never meet a predicted value.
//!
//! ```
//! use bevy_app::prelude::*;
//! use bevy_ecs::prelude::*;
//! use roomkeeper::client::{ReplicaPlugin, UdpPlugin};
//! use roomkeeper::predict::{Mispredicted, PredictAppExt, PredictPlugin, PredictedUpdate};
//! use roomkeeper::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Component, Serialize, Deserialize, Clone)]
//! struct Position(f32);
//!
//! fn protocol(app: &mut App) {
//!     app.sync::<Position>("position").latest();
//! }
//!
//! fn rules(app: &mut App) {
//!     app.add_systems(FixedUpdate, fly).add_systems(PredictedUpdate, fly);
//! }
//!
//! fn fly(mut things: Query<&mut Position>) {
//!     things.iter_mut().for_each(|mut at| at.0 += 0.05);
//! }
//!
//! let mut app = App::new();
//! app.add_plugins((ReplicaPlugin, UdpPlugin, PredictPlugin::new(protocol, rules)));
//! protocol(&mut app);
//! app.predict_smoothly::<Position>(
//!     |at, from, to, share| Position(at.0 + (to.0 - from.0) * share),
//!     |a, b| (a.0 - b.0).abs(),
//!     2.0,
//! );
//! app.add_observer(|wrong: On<Mispredicted>| println!("{wrong:?}"));
//! app.finish();
//! assert_eq!(app.world().resource::<roomkeeper::predict::Prediction>().off, None);
//! ```
//!
//! May use: protocol, room, client. Never: the host, sockets, the wall clock (time comes in by the connection).

mod course;
mod engine;
mod lead;
mod mirror;
mod pending;
mod plugin;
mod prediction;
mod show;
mod smooth;

pub use self::plugin::{PredictAppExt, PredictPlugin, PredictSystems};
pub use self::prediction::{Mispredicted, Prediction};
pub use crate::client::Predicted;
pub use crate::room::PredictedUpdate;
