//! What all requests share: the ways to the host and to the store, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::answer::Failure;
use super::game::AdminGame;
use super::guard::{Guard, Refusals};
use super::readers::{Reader, Readers};
use super::server::SetLog;
use super::tokens::Tokens;
use crate::host::{HostHandle, OrderError};
use crate::protocol::{RoomTick, State};
use crate::store::StoreError;

/// What all requests share.
pub(super) struct Desk {
    pub(super) game: AdminGame,
    pub(super) handle: HostHandle,
    pub(super) readers: Readers,
    pub(super) guard: Guard,
    pub(super) refusals: Arc<Refusals>,
    pub(super) requests: AtomicU64,
    pub(super) set_log: Option<SetLog>,
    pub(super) tokens: Option<Tokens>,
    /// When it started, since the Unix epoch.
    pub(super) started: Duration,
}

/// Says that nobody waits for an answer any more, once it is dropped.
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Desk {
    /// Asks the host, on a thread that may wait for it.
    pub(super) async fn host<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&HostHandle) -> Result<T, OrderError> + Send + 'static,
    ) -> Result<T, Failure> {
        let handle = self.handle.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&handle)).await;
        Ok(asked.map_err(|_| Failure::broken("asking the host failed"))??)
    }

    /// Reads, on a thread that may wait for it, as soon as one of the readers is free.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self, &mut Reader) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.readers.turn().await?;
        let desk = self.clone();
        let waits = Waits(Arc::default());
        let gone = waits.0.clone();
        let work = move || {
            let mut reader = desk.readers.take()?;
            reader.gone = gone;
            let done = read(&desk, &mut reader);
            // One that panicked is not given back: what it held may be half done.
            desk.readers.give_back(reader);
            // What is being read is read to its end when who asked hangs up, so only now is it somebody else's turn.
            drop(turn);
            done
        };
        let done = tokio::task::spawn_blocking(work).await;
        drop(waits);
        done.map_err(|_| Failure::broken("reading failed; the log says where"))?
    }

    /// A room's state: as it is stored at a tick, or at the last one; of a room that is not stored, as it is now.
    pub(super) fn state(&self, reader: &mut Reader, room: &str, tick: Option<u32>) -> Result<(RoomTick, State), Failure> {
        if let Some(archive) = reader.stored(room)? {
            let tick = match tick {
                Some(tick) => RoomTick(tick),
                None => archive.head(room)?.map_or(RoomTick(0), |head| head.tick),
            };
            return Ok((tick, archive.state_at(room, tick)?));
        }
        let looked = self.handle.look(room, |room| (room.tick_now(), room.info().id, room.snapshot()));
        let (now, id, snapshot) = looked?;
        if tick.is_some_and(|tick| tick != now.0) {
            let (room, tick) = (room.to_owned(), RoomTick(tick.unwrap_or_default()));
            return Err(StoreError::NoTick { room, tick, first: now, last: now }.into());
        }
        let snapshot = snapshot.map_err(|fault| Failure::broken(fault.to_string()))?;
        let state = State::from_snapshot(reader.protocol(), id, &snapshot).map_err(|error| Failure::broken(error.to_string()))?;
        Ok((now, state))
    }
}
