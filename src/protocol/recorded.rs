//! A fact with its place in the ledger: what a room gives out, and what the store keeps.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::batch::Producer;
use super::codec::CodecError;
use super::ids::{CommandId, EntityId, FactSeq, RoomTick};
use super::payload::Fact;

/// A fact with its place in the ledger.
#[derive(Clone)]
pub struct Recorded {
    /// Its number.
    pub seq: FactSeq,
    /// The tick in which it happened.
    pub tick: RoomTick,
    /// Its wire name.
    pub name: Arc<str>,
    /// Who made it happen.
    pub producer: Producer,
    /// The user whose command it came from, directly or through other facts.
    pub author: Option<EntityId>,
    /// The command that it came from.
    pub command: Option<CommandId>,
    /// The fact that brought it about.
    pub cause: Option<FactSeq>,
    pub(crate) fact: Arc<dyn Fact>,
}

impl Recorded {
    /// The fact itself, if it is an `F`.
    pub fn get<F: 'static>(&self) -> Option<&F> {
        self.fact.as_any().downcast_ref()
    }

    /// The fact as JSON.
    ///
    /// # Errors
    /// If its type can't be told as JSON, a map with keys that are no text for instance.
    pub fn to_json(&self) -> Result<Value, CodecError> {
        self.fact.to_json()
    }

    /// Appends the fact as JSON text. On an error `out` is as before.
    #[cfg(feature = "host")]
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        self.fact.write_json(out).inspect_err(|_| out.truncate(start))
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fact = self.to_json().unwrap_or_default();
        write!(f, "#{} @{} {} {fact} by {:?}", self.seq, self.tick, self.name, self.producer)
    }
}
