//! What happens when a game's own code fails inside its room: that room stops, with a message; nothing else does.

use std::any::Any;
use std::cell::RefCell;
use std::panic::resume_unwind;

use bevy_ecs::error::{BevyError, ErrorContext};
use bevy_ecs::prelude::*;
use thiserror::Error;

use crate::protocol::RoomTick;

/// A room can't go on: code in it panicked, or its state can't be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the room stopped in tick {tick}: {place}: {message}")]
pub struct RoomFault {
    /// The tick that did not end.
    pub tick: RoomTick,
    /// Where: the name of a system, an observer, or a phase of the tick.
    pub place: String,
    /// What was said.
    pub message: String,
}

/// A panic on its way out of a schedule, with the name of the system that it comes from.
pub(crate) struct Located {
    pub(crate) place: String,
    pub(crate) message: String,
}

/// The text of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".to_owned())
}

/// A room's error handler. A panic goes on unwinding, with its place, and stops the room: its world may be half changed.
/// An error that a system returned is logged, and the room goes on: the system chose to stop where it did.
pub(crate) fn handle(mut error: BevyError, context: ErrorContext) {
    match error.take_payload() {
        None => {
            tracing::error!(place = %context.name(), "{} failed: {error}", context.kind());
            note(|| format!("{} {} failed: {error}", context.kind(), context.name()));
        }
        Some(payload) if payload.is::<Located>() => resume_unwind(payload),
        Some(payload) => {
            let place = format!("{} {}", context.kind(), context.name());
            resume_unwind(Box::new(Located { place, message: panic_text(&*payload) }))
        }
    }
}

/// Most errors of rules that are kept for a test to look at.
const ERRORS_MAX: usize = 64;

thread_local! {
    /// The errors that rules returned on this thread, for tests: a handler of errors knows no world. Nothing in a room reads it.
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps an error of a rule for a test, if there is place.
pub(super) fn note(error: impl FnOnce() -> String) {
    ERRORS.with_borrow_mut(|errors| {
        if errors.len() < ERRORS_MAX {
            errors.push(error());
        }
    });
}

/// The errors that rules returned on this thread since this was last called.
#[cfg(all(feature = "client", feature = "host"))]
pub(crate) fn take_errors() -> Vec<String> {
    ERRORS.take()
}

/// Makes a fault of what a tick's unwinding left.
pub(crate) fn fault_of(payload: Box<dyn Any + Send>, tick: RoomTick) -> RoomFault {
    match payload.downcast::<Located>() {
        Ok(located) => RoomFault { tick, place: located.place, message: located.message },
        Err(payload) => RoomFault { tick, place: "the tick itself".to_owned(), message: panic_text(&*payload) },
    }
}

/// Installs the handler.
pub(crate) fn catch_faults(world: &mut World) {
    world.insert_resource(bevy_ecs::error::FallbackErrorHandler(handle));
}

/// Installs a handler for what is only tried: errors of the game's systems are no news, as they come again with each try.
#[cfg(feature = "client")]
pub(super) fn catch_faults_quietly(world: &mut World) {
    fn handle_quietly(mut error: BevyError, context: ErrorContext) {
        match error.take_payload() {
            None => tracing::debug!(place = %context.name(), "{} failed: {error}", context.kind()),
            Some(payload) if payload.is::<Located>() => resume_unwind(payload),
            Some(payload) => {
                let place = format!("{} {}", context.kind(), context.name());
                resume_unwind(Box::new(Located { place, message: panic_text(&*payload) }))
            }
        }
    }
    world.insert_resource(bevy_ecs::error::FallbackErrorHandler(handle_quietly));
}
