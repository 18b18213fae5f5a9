//! Seeing into a running host and giving it orders, over HTTP: metrics, JSON, and a page for browsers.
//!
//! [`Admin`] is a server of its own on a thread of its own. It asks the host by a [`HostHandle`](crate::host::HostHandle) and reads the store beside its
//! writer, so no room waits for it, except for a look between two of its ticks. Who may ask is `guard`'s matter, and decided before anything else.
//!
//! ```no_run
//! // Not run: it would listen.
//! use roomkeeper::admin::{Admin, AdminKey, AdminOptions};
//! # use roomkeeper::{cli::Game, host::Host};
//!
//! # fn serve(game: &Game, host: &mut Host) -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = AdminOptions::at(([127, 0, 0, 1], 8080).into());
//! options.key = Some(AdminKey::read("admin.key")?);
//! let reader = host.keeper().map(|keeper| keeper.reader()).transpose()?;
//! let admin = Admin::start(options, game.admin(), host.handle(), reader)?;
//! println!("http://{}", admin.address()); // it ends when it is dropped
//! # Ok(())
//! # }
//! ```
//!
//! May use: protocol, room, client, store, host. Never: the verbs of the command line.

mod answer;
mod desk;
#[cfg(any(test, fuzzing))]
mod door;
mod game;
mod guard;
mod ledger;
mod live;
mod metrics;
mod orders;
mod page;
mod paint;
mod readers;
mod server;
mod text;
mod tokens;

#[cfg(any(test, fuzzing))]
pub(crate) use self::door::converse;
pub use self::game::AdminGame;
pub use self::guard::{AdminKey, KeyError};
pub use self::server::{Admin, AdminError, AdminOptions, SetLog};
pub use self::tokens::Tokens;
