//! A thread that builds rooms, so that neither whoever is led nor whoever plays waits for the store, or for a large level.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use super::berth::lock;
use super::keeper::{Built, KeepError, Opens};
use super::worker::Worker;
use crate::room::{Blueprint, RoomError, RoomOptions};

/// A room that is to be built.
pub(super) struct Commission {
    /// By which what was built of it is told from what was built of an earlier one of that name.
    pub(super) number: u64,
    pub(super) blueprint: Blueprint,
    pub(super) options: RoomOptions,
    /// What may have the room, where rooms are kept.
    pub(super) opens: Option<Opens>,
}

/// What became of a [`Commission`].
pub(super) struct Finished {
    pub(super) number: u64,
    pub(super) room: String,
    pub(super) built: Result<Built, KeepError>,
    /// What was found missing or damaged, a sentence each.
    pub(super) found: Vec<String>,
}

impl Commission {
    fn carry_out(self) -> Finished {
        let Self { number, blueprint, options, opens } = self;
        let (room, mut found) = (options.name.clone(), Vec::new());
        // What a game does while a room is built is caught by the room; this is for its protocol by itself.
        let built = catch_unwind(AssertUnwindSafe(|| match opens {
            None => Built::new(&blueprint, options),
            Some(opens) => Built::kept(&mut **lock(&opens), &blueprint, options, &mut found),
        }));
        let panicked = |_| Err(RoomError::Rules(vec!["the game panicked while its protocol was built".to_owned()]).into());
        Finished { number, room, built: built.unwrap_or_else(panicked), found }
    }
}

pub(super) type Opener = Worker<Commission, Finished>;

/// `host` is woken whenever a room is built.
pub(super) fn start(host: Arc<Mutex<Thread>>) -> std::io::Result<Opener> {
    Worker::start("opener", host, |asked, tell| {
        // Until nobody hears it any more.
        asked.iter().all(|commission: Commission| tell(commission.carry_out()));
    })
}
