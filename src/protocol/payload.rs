//! Commands and facts with their types erased.

use std::any::{Any, TypeId};

use bevy_ecs::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::codec::{CodecError, Reader, decode_exact, encode_into};
use super::ids::{EntityId, FactSeq, RoomTick};
use super::named::{Named, named_in};
use super::notice::Happened;

/// A kind of command in the protocol.
pub(crate) struct CommandKind {
    pub(crate) name: String,
    pub(crate) shape: String,
    pub(crate) type_id: TypeId,
    /// Reads a command that takes up all of the bytes.
    pub(crate) decode: fn(&[u8]) -> Result<Box<dyn Any + Send + Sync>, CodecError>,
    /// What a command names.
    pub(crate) named: fn(&dyn Any) -> Named,
    /// A command as JSON, from its bytes.
    #[cfg(feature = "host")]
    pub(crate) to_json: fn(&[u8]) -> Result<Value, CodecError>,
}

impl CommandKind {
    pub(crate) fn new<C: Serialize + DeserializeOwned + Send + Sync + 'static>(name: &str, shape: String) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            type_id: TypeId::of::<C>(),
            decode: |bytes| Ok(Box::new(decode_exact::<C>(bytes)?)),
            named: |command| command.downcast_ref::<C>().map(named_in::<C>).unwrap_or_default(),
            #[cfg(feature = "host")]
            to_json: |bytes| value_to_json(&decode_exact::<C>(bytes)?),
        }
    }
}

fn value_to_json<T: Serialize>(value: &T) -> Result<Value, CodecError> {
    serde_json::to_value(value).map_err(|error| CodecError::Encode { detail: error.to_string() })
}

/// A kind of fact in the protocol.
pub(crate) struct FactKind {
    pub(crate) name: String,
    pub(crate) shape: String,
    pub(crate) type_id: TypeId,
    /// True if an observer has to apply it.
    pub(crate) stateful: bool,
    /// Reads a fact.
    pub(crate) decode: fn(&mut Reader<'_>) -> Result<Box<dyn Fact>, CodecError>,
    /// Reads a fact that is told as JSON.
    pub(crate) from_json: fn(&Value) -> Result<Box<dyn Fact>, CodecError>,
    /// Reads a fact from JSON text, with errors that say where they are.
    pub(crate) from_text: fn(&str) -> serde_json::Result<Box<dyn Fact>>,
}

/// Reads a fact that takes up all of some bytes, and keeps nothing of it.
pub(crate) fn read_whole(read: fn(&mut Reader<'_>) -> Result<Box<dyn Fact>, CodecError>, bytes: &[u8]) -> Result<(), CodecError> {
    let mut reader = Reader::new(bytes);
    read(&mut reader).and_then(|_| reader.finish())
}

impl FactKind {
    pub(crate) fn new<F: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(name: &str, shape: String, stateful: bool) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            type_id: TypeId::of::<F>(),
            stateful,
            decode: |reader| Ok(Box::new(Payload(reader.value::<F>()?))),
            from_json: |json| match serde_json::from_value::<F>(json.clone()) {
                Ok(fact) => Ok(Box::new(Payload(fact))),
                Err(error) => Err(CodecError::Value { at: 0, detail: error.to_string() }),
            },
            from_text: |text| Ok(Box::new(Payload(serde_json::from_str::<F>(text)?))),
        }
    }
}

/// A fact with its type erased.
pub(crate) trait Fact: Send + Sync {
    /// Which fact.
    fn kind(&self) -> TypeId;
    /// The name of its type, for messages to the developer.
    fn type_name(&self) -> &'static str;
    /// Appends it to a batch.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// As JSON.
    fn to_json(&self) -> Result<Value, CodecError>;
    /// Appends it as JSON text.
    #[cfg(feature = "host")]
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// The entities that it names.
    fn named(&self) -> Vec<EntityId>;
    /// True if a number in it is infinite or not a number.
    fn is_not_finite(&self) -> bool;
    /// Tells a world that it happened.
    fn trigger(&self, world: &mut World, seq: FactSeq, tick: RoomTick, author: Option<EntityId>);
    /// The fact itself.
    fn as_any(&self) -> &dyn Any;
}

/// A fact of a known type.
pub(crate) struct Payload<F>(pub(crate) F);

impl<F: Serialize + Clone + Send + Sync + 'static> Fact for Payload<F> {
    fn kind(&self) -> TypeId {
        TypeId::of::<F>()
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<F>()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_into(&self.0, out)
    }

    fn to_json(&self) -> Result<Value, CodecError> {
        value_to_json(&self.0)
    }

    fn named(&self) -> Vec<EntityId> {
        named_in(&self.0).entities
    }

    fn is_not_finite(&self) -> bool {
        named_in(&self.0).not_finite
    }

    #[cfg(feature = "host")]
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, &self.0).map_err(|error| CodecError::Encode { detail: error.to_string() })
    }

    fn trigger(&self, world: &mut World, seq: FactSeq, tick: RoomTick, author: Option<EntityId>) {
        world.trigger(Happened { fact: self.0.clone(), seq, tick, author });
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }
}
