//! The simulated way of what a client asks: a reliable ordered channel over a link that delays and loses, without a clock.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::LinkConditions;
use crate::room::RoomRng;

/// When the reliable channel sends a lost message again, in milliseconds.
pub const RESEND_MILLIS: u32 = 150;

/// One direction of a link, as the reliable ordered channel makes it look: all arrives, once, in order, but a message that
/// was lost or overtaken holds up those behind it.
#[derive(Debug)]
pub struct ReliableLane {
    /// What it does to what it carries, from now on.
    pub conditions: LinkConditions,
    rng: RoomRng,
    on_the_way: VecDeque<(u64, Bytes)>,
    last_arrival: u64,
    lost: u64,
}

impl ReliableLane {
    /// A lane whose chance starts from `seed`.
    pub fn new(conditions: LinkConditions, seed: u64) -> Self {
        Self { conditions, rng: RoomRng::new(seed), on_the_way: VecDeque::new(), last_arrival: 0, lost: 0 }
    }

    /// Sends a message at a time, in milliseconds.
    pub fn send(&mut self, now: u64, message: Bytes) {
        let LinkConditions { delay_millis, jitter_millis, loss, .. } = self.conditions;
        let mut arrival = now + u64::from(delay_millis) + u64::from(self.rng.range(0..jitter_millis + 1));
        // A link that loses everything would never deliver: 20 losses in a row are enough.
        for _ in 0..20 {
            if !self.rng.chance(loss) {
                break;
            }
            self.lost += 1;
            arrival += u64::from(RESEND_MILLIS);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        self.on_the_way.push_back((self.last_arrival, message));
    }

    /// The next message that has arrived at a time, in milliseconds.
    pub fn receive(&mut self, now: u64) -> Option<Bytes> {
        self.on_the_way.pop_front_if(|(arrival, _)| *arrival <= now).map(|(_, message)| message)
    }

    /// How many messages are on the way.
    pub fn in_flight(&self) -> usize {
        self.on_the_way.len()
    }

    /// How many times a message was lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
