//! Who may see what, decided in the room by ordinary components: everyone, the owner, a team, and whoever is near.
//!
//! An entity without an [`Audience`] is public. [`Viewers`] works out once per tick, after the room's own tick, what each member sees of
//! the others, what came into its sight and what left it; it sends nothing. The cost follows what changed, not who could see what.
//!
//! May use: protocol, the room's index and its last schedule. Never: clocks, hash order; a number of an entity is its place in every table.

mod bits;
mod derived;
mod grid;
mod places;
mod rule;
mod seat;
mod subject;
mod update;
mod viewers;

pub use self::rule::{Audience, REVEALED_MAX, Reach, RevealedTo, Senses, SpectatorsSee};
pub use self::viewers::{ViewerId, Viewers};

pub(crate) use self::bits::Bits;
pub(crate) use self::derived::{AsStored, follow, put_as_stored, tell_of_hidden_by_hand};
#[cfg(feature = "host")]
pub(crate) use self::places::Vantage;
pub(crate) use self::places::{NearerFirst, add_places};
pub(crate) use self::rule::watch_owners;
