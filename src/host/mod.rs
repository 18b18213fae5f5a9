//! A host: the process that keeps many rooms, their sessions and the sockets.
//!
//! The [`Lobby`] knows no socket and no clock; the server drives it with both.
//!
//! May use: protocol, net, room, store. It reads the clock and runs threads, as the store, `admin` and `cli` do; rooms and the lobby do neither.

#[cfg(feature = "agones")]
pub mod agones;
mod backtest;
mod bans;
mod berth;
pub(crate) mod clerk;
mod clock;
mod complaints;
mod delivery;
pub mod gateway;
mod handle;
mod hosting;
mod keeper;
mod limits;
mod lobby;
mod logs;
mod opener;
mod overview;
mod pace;
mod pacer;
mod past;
mod priority;
#[cfg(any(feature = "admin", feature = "client"))]
pub(crate) mod process;
mod remover;
mod rerun;
mod scheduler;
mod server;
mod session;
mod task;
mod token;
mod view;
mod worker;

#[cfg(feature = "client")]
pub(crate) use self::backtest::level_file;
pub use self::backtest::{Backtest, BacktestError, Counts, Occurrences, Outcomes, StartEdit, TriedRoom, backtest};
pub use self::bans::Ban;
pub use self::berth::RoomStatus;
pub use self::handle::{HostHandle, OrderError, RoomInfo};
pub use self::hosting::{Host, HostOptions, ShareOptions, Template};
pub use self::keeper::{KeepError, KeepOptions, Keeper, header_of, options_of, rebuild};
pub use self::limits::{HostCounters, HostLimits};
pub use self::lobby::{Lobby, PastAnswer, PastRequest, TickReport};
pub use self::logs::{LogError, LogFormat, Logs, check_filter};
pub use self::overview::{MemberInfo, Overview, StoreStatus, Tally, Traffic, Way, Ways};
pub use self::pace::{Durations, Pace};
pub use self::pacer::{CATCH_UP_TICKS_MAX, Due, Pacer};
#[cfg(feature = "client")]
pub(crate) use self::priority::{Priority, give_way};
pub use self::rerun::{Difference, Edit, FromFacts, Rerun, fork, rebuild_from_facts, rerun};
pub use self::server::{Server, ServerError};
pub use self::session::{ConnectionId, Visitor};
pub use self::task::OnTick;
pub use self::token::{HostKey, TokenError, TokenIssuer};
pub use self::view::{ViewError, view_of};
