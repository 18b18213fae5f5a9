//! Authoritative multiplayer game rooms on Bevy ECS.
//!
//! A room is a Bevy `World` that ticks at 20 Hz. Gameplay is ordinary Bevy systems over ordinary components. What changed
//! in a tick becomes one batch of operations, encoded once and sent to every client. What happened becomes a fact in an
//! append-only ledger. Clients ask by commands, which can be rejected; accepted ones become facts; facts become state.
//!
//! # A whole game, and its test
//!
//! ```
//! use bevy_app::prelude::*;
//! use bevy_ecs::prelude::*;
//! use roomkeeper::prelude::*;
//! use roomkeeper::sim::Sim;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Component, Serialize, Deserialize)]
//! struct Position([f32; 2]);
//! #[derive(Component, Serialize, Deserialize)]
//! struct Ammo(u32);
//! #[derive(Serialize, Deserialize)]
//! struct Fire { aim: [f32; 2] }
//! #[derive(Clone, Serialize, Deserialize)]
//! struct BulletFired { by: EntityId, bullet: EntityId, aim: [f32; 2] }
//! #[derive(Component, Serialize, Deserialize)]
//! struct Velocity([f32; 2]);
//!
//! /// Both sides add this, so they cannot disagree.
//! fn protocol(app: &mut App) {
//!     app.sync::<Position>("position").latest();
//!     app.sync::<Ammo>("ammo");
//!     // So that a bullet flies on, and ends, after a restart too.
//!     app.sync::<Velocity>("velocity");
//!     app.sync::<Ttl>("ttl");
//!     app.command::<Fire>("fire").fact::<BulletFired>("bullet_fired");
//! }
//!
//! /// The server adds this.
//! fn rules(app: &mut App) {
//!     app.decide(decide_fire).apply(spawn_bullet).add_systems(FixedUpdate, fly);
//! }
//!
//! fn decide_fire(fire: In<Issued<Fire>>, shooters: Query<&Ammo>) -> Decision {
//!     if shooters.get(fire.author)?.0 == 0 {
//!         return reject("no_ammo");
//!     }
//!     accept(BulletFired { by: fire.author_id, bullet: fire.new_id(0), aim: fire.aim })
//! }
//!
//! fn spawn_bullet(fired: On<Happened<BulletFired>>, mut commands: Commands) {
//!     commands.spawn((fired.bullet, Position([0.0, 0.0]), Velocity(fired.aim), Ttl::millis(2_000)));
//! }
//!
//! fn fly(mut bullets: Query<(&mut Position, &Velocity)>) {
//!     for (mut position, velocity) in &mut bullets {
//!         position.0 = [position.0[0] + velocity.0[0] * 0.05, position.0[1] + velocity.0[1] * 0.05];
//!     }
//! }
//!
//! let mut sim = Sim::new(protocol, rules).seed(7).client("ann").client("bob");
//! sim.give("ann", Ammo(1)).issue("ann", &Fire { aim: [1.0, 0.0] }).tick();
//! assert_eq!(sim.facts(), ["bullet_fired"]);
//! sim.give("ann", Ammo(0)).issue("ann", &Fire { aim: [1.0, 0.0] }).run_ticks(3);
//! assert_eq!(sim.rejections("ann"), ["no_ammo"]);
//! assert_eq!(sim.assert_converged(), 2); // both clients hold exactly what the room holds
//! ```
//!
//! A binary is `Game::new("shooter", protocol, rules).run()` (see [`cli`]), which gives it the verbs `play`, `serve`, `config`,
//! `demo`, `capacity`, `rooms`, `watch`, `dump`, `bot`, `swarm`, `soak`, `simulate`, `handlers`, `ledger`, `snippet` and `token`.
//!
//! # What is promised
//!
//! - A replica that has applied a batch equals the room as of that tick, bit for bit, in all synced components. With
//!   [`RoomOptions::check`](room::RoomOptions) each batch carries a hash, and a replica that differs says which component of
//!   which entity, with both values, and is put right.
//! - A client that joins again with the replica that it kept equals the room afterwards as any other does. It is sent no more than a snapshot would be,
//!   and where it is sent the batches that it missed, half a minute of them at most, it is told each fact in them once and in order.
//! - Within a batch: create, update, delete. An entity's last values are shown before its end, however short it lived.
//! - A fact has a number without gaps and is never taken back. A command is obeyed at most once.
//! - The same inbox and the same seed give the same bytes, in any process on any machine, as long as the game keeps to
//!   what [`room`] says about clocks, chance and order.
//! - With a store, a room goes on after the end of its process at its last flush, at most 50 ms and the time of a commit back, and nothing that was
//!   reported as [`Durable`](protocol::Durable) is lost. No tick waits for a disk.
//! - Nothing that a client sends makes the host panic, hang, or grow without bound; a game that panics stops its own room.
//!
//! # What is not
//!
//! - Values between two ticks are not seen: a component that was written twice in a tick arrives once.
//! - A value of a `latest` component may overtake what the batches say, and some of its values are never seen: only the newest counts.
//! - After a longer time away, or where a snapshot is less than what was missed, the facts of that time are not told.
//! - In a room in which something is not for everybody no batch carries a hash: a replica that differs there does not notice.
//! - What a game keeps in components that are not synced, or in resources, is not stored: see [`room::Resumed`].
//!
//! # Features
//!
//! `client` is the replica and its transport; `host` is lobby, gateway and server. Both are on by default. The simulation
//! kit and the command line need both. `terminal`, on by default too, lets the command line draw a game: see
//! [`Game::view`](cli::Game::view). `websocket`, on by default too, carries datagrams over TCP where a network lets no UDP
//! through. `admin`, on by default too, is an HTTP server beside a host: metrics, orders, and a page
//! to look at any moment of any room. `postgres` keeps rooms in PostgreSQL, `nats` publishes their facts to NATS JetStream: see
//! `store::nats`. `agones` makes a host a game server of an Agones fleet: see `host::agones`. A game's client takes
//! `default-features = false, features = ["client"]`, and `websocket` with it where its players may have no UDP.
#![warn(unreachable_pub)]

#[cfg(feature = "admin")]
pub mod admin;
#[cfg(all(feature = "client", feature = "host"))]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[doc(hidden)]
#[cfg(all(any(test, fuzzing), feature = "admin"))]
pub mod fuzzing;
#[cfg(all(doctest, feature = "client", feature = "host"))]
mod guide;
#[cfg(feature = "host")]
pub mod host;
#[cfg(any(feature = "client", feature = "host"))]
pub mod net;
#[cfg(feature = "client")]
pub mod predict;
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "what only a replica does with a column"))]
pub mod protocol;
pub mod room;
#[cfg(all(feature = "client", feature = "host"))]
pub mod sim;
#[cfg(feature = "host")]
pub mod store;

pub use {bevy_app, bevy_ecs, bevy_time};

/// The names that games use most. None of them is in Bevy's own prelude.
pub mod prelude {
    pub use crate::protocol::{
        ComponentChanged, EntityAdded, EntityId, EntityRemoved, Happened, OwnedBy, ProtocolAppExt, Quantity, Rejected, Rejection,
        UserJoined, UserLeft,
    };
    pub use crate::room::{
        Audience, Decision, EntityIndex, Issued, Patch, Recorder, RoomClock, RoomRng, RulesAppExt, Senses, Ttl, accept, reject,
    };
}
