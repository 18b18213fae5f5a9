//! A game in a terminal: `play`, `watch --view`, `ledger view`. All three draw a world that holds a replica, by the same function of the
//! game's; the first two follow a live room, the third puts the replica to what is stored.
//!
//! May use: all of `cli`, `client`, `host`, `store`. Knows no game: what there is to see is a [`Picture`](super::Picture), what somebody does
//! are [`Keys`](super::Keys).

mod canvas;
mod frame;
mod keyboard;
mod live;
mod options;
mod own;
mod play;
mod record;
mod replay;
mod screen;
mod scrub;
mod story;

pub(super) use self::options::PlayOptions;
pub(super) use self::play::{play, watch};
pub(super) use self::scrub::scrub;
