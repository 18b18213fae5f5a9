//! The client's side: a replica of a room in the game's own world, and the commands that go out from it.
//!
//! Notifications come from applying operations, not from Bevy's change detection, so what the game itself writes into its
//! world does not echo.
//!
//! May use: protocol. Never: rooms, nor the host.

mod apply;
mod check;
mod clock;
mod connection;
mod headless;
mod inflow;
mod interpolate;
mod issuing;
mod journal;
mod listing;
pub mod picture;
mod plugin;
mod probe;
mod reconnect;
mod replica;
mod shown;
mod state;
mod track;
mod transport;
mod udp;

pub use self::apply::ApplyError;
pub use self::check::{clear_replica, replica_state, show_state};
pub use self::clock::ServerClock;
pub use self::connection::Connection;
pub use self::headless::{HeadlessReplica, Sight};
pub use self::inflow::Receiver;
pub use self::interpolate::{InterpolateAppExt, NotInterpolated, Shown, ShowsNewest};
pub use self::issuing::{Issue, IssueError, in_room, issue};
pub use self::journal::Predicted;
pub(crate) use self::journal::{Journal, Note, Touches};
pub use self::listing::RoomsListed;
pub use self::plugin::{ReplicaPlugin, ReplicaSystems};
pub use self::replica::{AnyHappened, Diverged, Replica};
pub use self::shown::ShownTime;
pub use self::state::{ConnectionChanged, ConnectionState, Unanswered};
pub use self::transport::{Renew, UdpPlugin, UdpTransport, unix_time};
pub use self::udp::{Credentials, LinkError, LinkStatus, UdpLink};
