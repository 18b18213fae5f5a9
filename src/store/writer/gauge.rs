//! What a room's thread sees of what the writer has done for it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::protocol::RoomTick;

/// What both see.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// One more than the last durable tick; 0 as long as there is none.
    durable: AtomicU32,
    is_over: AtomicBool,
}

impl Gauge {
    /// What happened up to a tick is durable.
    pub(super) fn reached(&self, tick: RoomTick) {
        self.durable.store(tick.0.saturating_add(1), Ordering::Release);
    }

    /// The last durable tick.
    pub(super) fn durable(&self) -> Option<RoomTick> {
        self.durable.load(Ordering::Acquire).checked_sub(1).map(RoomTick)
    }

    /// The writer has nothing more of the room.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// The writer's end of it. Whatever becomes of the room there, it is over once this is gone.
pub(super) struct Own(pub(super) Arc<Gauge>);

impl Deref for Own {
    type Target = Gauge;
    fn deref(&self) -> &Gauge {
        &self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}
