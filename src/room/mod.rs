//! A room: a Bevy world that ticks at 20 Hz, takes an inbox and leaves an outbox.
//!
//! Each tick: [intake](Inbox) decides, records and applies what came in; the game's schedules simulate 50 ms; collect turns
//! what changed into one batch. The same inbox always gives the same outbox.
//!
//! May use: protocol. Never: clocks, sockets, threads, hash order, chance that is not seeded.

mod audience;
mod blueprint;
mod clock;
mod collect;
mod decision;
mod event;
mod fault;
#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host sends"))]
mod history;
mod inbox;
mod index;
mod intake;
#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host sends"))]
mod latest;
mod ledger;
mod level;
mod lifetime;
mod meter;
mod outbox;
mod patch;
#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host sends"))]
mod private;
mod reset;
mod resume;
mod rewind;
mod rng;
mod runner;
#[cfg(feature = "client")]
mod shadow;
mod snapshot;
mod user;

#[cfg(feature = "host")]
pub(crate) use self::audience::Vantage;
pub use self::audience::{Audience, REVEALED_MAX, Reach, RevealedTo, Senses, SpectatorsSee, ViewerId, Viewers};
pub use self::blueprint::Blueprint;
pub use self::clock::{Countdown, RoomClock, every};
pub use self::decision::{Decision, Facts, Issued, Join, RulesAppExt, accept, reject};
pub use self::fault::RoomFault;
#[cfg(all(feature = "client", feature = "host"))]
pub(crate) use self::fault::{panic_text, take_errors};
pub use self::inbox::Inbox;
pub use self::index::EntityIndex;
pub use self::intake::Members;
pub use self::ledger::{Because, Ledger, Recorder};
pub use self::level::{Level, LevelError};
pub use self::lifetime::Ttl;
pub use self::meter::{HandlerInfo, HandlerOf};
pub use self::outbox::{Answer, Outbox};
pub use self::patch::Patch;
pub use self::resume::{ResumeError, Resumed, Scene};
pub use self::rewind::{REWIND_DEFAULT, REWIND_MAX, Rewind, RewindAppExt};
#[cfg(feature = "client")]
pub(crate) use self::rewind::{stood, turn_back_pasts};
pub use self::rng::RoomRng;
pub use self::runner::{PredictedUpdate, Room, RoomError, RoomInfo, RoomOptions};
#[cfg(feature = "client")]
pub(crate) use self::shadow::{Birth, Foreign, Shadow, Touched, guard};

#[cfg(feature = "host")]
pub(crate) use self::event::read_event;
#[cfg(feature = "host")]
pub(crate) use self::history::{bytes_of, catch_up};
#[cfg(feature = "host")]
pub(crate) use self::latest::{LatestValues, NEEDS_TICKS, Part};
#[cfg(feature = "host")]
pub(crate) use self::private::{Beholder, PrivateWriter, ToldReferences};

pub use crate::protocol::{Incoming, Recorded, Verdict};
