//! How one component type becomes bytes and JSON: by serde, by a codec of the game's own, or with the entities inside
//! translated to net ids.

use std::fmt;
use std::marker::PhantomData;

use bevy_ecs::entity::EntityMapper;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::relationship::Relationship;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::codec::{CodecError, Reader, decode_exact, encode_all, encode_into, write_varint};
use super::ids::NetId;
use super::registry::short_type_name;
use super::rows::NetMap;

/// A codec that a game brings for a component, for fewer bytes than serde gives.
///
/// JSON forms keep using serde.
///
/// ```
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::{Codec, CodecError, Reader};
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Facing(f32);
///
/// /// 256 steps for a full turn.
/// struct OneByte;
/// impl Codec<Facing> for OneByte {
///     fn encode(&self, facing: &Facing, out: &mut Vec<u8>) {
///         out.push((facing.0 * 256.0 / std::f32::consts::TAU) as u8);
///     }
///     fn decode(&self, input: &mut Reader<'_>) -> Result<Facing, CodecError> {
///         Ok(Facing(f32::from(input.byte()?) * std::f32::consts::TAU / 256.0))
///     }
/// }
/// ```
pub trait Codec<T>: Send + Sync + 'static {
    /// Appends a value.
    fn encode(&self, value: &T, out: &mut Vec<u8>);
    /// Reads a value.
    ///
    /// # Errors
    /// If the bytes are not a value. They may come from a stranger: check everything, and don't allocate on their word.
    fn decode(&self, input: &mut Reader<'_>) -> Result<T, CodecError>;

    /// What the bytes depend on besides the type, as part of the component's shape in the fingerprint: two builds that say
    /// different things refuse each other, and name the component. Default: the name of the codec's type. Say its settings too.
    fn shape(&self) -> String {
        short_type_name::<Self>().to_owned()
    }

    /// Whether any value is read as it was written. If not, the component can't be a [`Quantity`](super::Quantity): the room would
    /// take a step from what it has, a replica from what it read. Default: true.
    fn exact(&self) -> bool {
        true
    }

    /// What is wrong with the codec's settings. The protocol reports it among its [errors](super::Protocol::errors), so that no
    /// room is opened. Default: nothing.
    fn complaint(&self) -> Option<String> {
        None
    }

    /// This codec for another type, read as and built from what it knows.
    ///
    /// `build` must undo `read`: what is read from a built value is what it was built from.
    ///
    /// ```
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::protocol::{Codec, Quantised};
    ///
    /// struct Heat { degrees: f32 }
    /// // Half degrees, in one byte.
    /// let codec = Quantised::new(-40.0..=80.0, 0.5).via(|heat: &Heat| [heat.degrees], |[degrees]| Heat { degrees });
    /// let mut out = Vec::new();
    /// codec.encode(&Heat { degrees: 36.6 }, &mut out);
    /// assert_eq!(out, [153]);
    /// ```
    fn via<U, R, B>(self, read: R, build: B) -> Via<Self, T, R, B>
    where
        Self: Sized,
        R: Fn(&U) -> T + Send + Sync + 'static,
        B: Fn(T) -> U + Send + Sync + 'static,
    {
        Via { codec: self, read, build, known: PhantomData }
    }
}

/// A codec of `T` that serves another type. Made by [`Codec::via`].
pub struct Via<C, T, R, B> {
    codec: C,
    read: R,
    build: B,
    known: PhantomData<fn(T) -> T>,
}

impl<C: fmt::Debug, T, R, B> fmt::Debug for Via<C, T, R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Via").field(&self.codec).finish()
    }
}

impl<U, C, T, R, B> Codec<U> for Via<C, T, R, B>
where
    C: Codec<T>,
    T: 'static,
    R: Fn(&U) -> T + Send + Sync + 'static,
    B: Fn(T) -> U + Send + Sync + 'static,
{
    fn encode(&self, value: &U, out: &mut Vec<u8>) {
        self.codec.encode(&(self.read)(value), out);
    }
    fn decode(&self, input: &mut Reader<'_>) -> Result<U, CodecError> {
        self.codec.decode(input).map(&self.build)
    }
    fn shape(&self) -> String {
        self.codec.shape()
    }
    fn exact(&self) -> bool {
        self.codec.exact()
    }
    fn complaint(&self) -> Option<String> {
        self.codec.complaint()
    }
}

/// Codecs for the parts of a value, one after the other.
macro_rules! codecs_in_a_row {
    ($(($codec:ident, $part:ident, $value:ident)),*) => {
        impl<$($part, $codec: Codec<$part>),*> Codec<($($part,)*)> for ($($codec,)*) {
            fn encode(&self, ($($value,)*): &($($part,)*), out: &mut Vec<u8>) {
                #[expect(non_snake_case, reason = "a codec is named as its type")]
                let ($($codec,)*) = self;
                $($codec.encode($value, out);)*
            }
            fn decode(&self, input: &mut Reader<'_>) -> Result<($($part,)*), CodecError> {
                #[expect(non_snake_case, reason = "a codec is named as its type")]
                let ($($codec,)*) = self;
                Ok(($($codec.decode(input)?,)*))
            }
            fn shape(&self) -> String {
                #[expect(non_snake_case, reason = "a codec is named as its type")]
                let ($($codec,)*) = self;
                [$($codec.shape()),*].join(", ")
            }
            fn exact(&self) -> bool {
                #[expect(non_snake_case, reason = "a codec is named as its type")]
                let ($($codec,)*) = self;
                $($codec.exact())&&*
            }
            fn complaint(&self) -> Option<String> {
                #[expect(non_snake_case, reason = "a codec is named as its type")]
                let ($($codec,)*) = self;
                None$(.or_else(|| $codec.complaint()))*
            }
        }
    };
}
codecs_in_a_row!((C1, T1, one), (C2, T2, two));
codecs_in_a_row!((C1, T1, one), (C2, T2, two), (C3, T3, three));

/// Names for net ids, in both directions, for the JSON forms.
pub(crate) trait Names {
    /// The readable name or UUID of an entity.
    fn name(&self, id: NetId) -> Option<String>;
    /// The net id of the entity with that name or UUID.
    fn id(&self, name: &str) -> Option<NetId>;
}

/// How values of `T` become bytes and JSON.
pub(crate) trait Wire<T>: Send + Sync + 'static {
    /// True if values may refer to entities.
    const REFERS: bool = false;
    /// True if a value that refers to nobody that the replicas know is as good as none: a relationship.
    const NEEDS_TARGET: bool = false;
    /// Appends a value. False if it refers to an entity that the replicas don't know.
    fn encode(&self, value: &T, world: &World, out: &mut Vec<u8>) -> Result<bool, CodecError>;
    /// Appends values that refer to nothing, one after the other.
    fn encode_all<'a>(&self, values: impl Iterator<Item = &'a T>, world: &World, out: &mut Vec<u8>) -> Result<(), CodecError>
    where
        T: 'a,
    {
        for value in values {
            self.encode(value, world, out)?;
        }
        Ok(())
    }
    /// Appends a value that no world owns and that refers to nothing.
    fn encode_detached(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// Reads a value. `None` if it needs a target and has none in this world.
    fn decode(&self, input: &mut Reader<'_>, map: &NetMap) -> Result<Option<T>, CodecError>;
    fn skip(&self, input: &mut Reader<'_>) -> Result<(), CodecError> {
        self.decode(input, &NetMap::default()).map(drop)
    }
    fn to_json(&self, input: &mut Reader<'_>, names: &dyn Names) -> Result<Value, CodecError>;
    fn encode_json(&self, value: &Value, names: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

fn json_error(error: &serde_json::Error) -> CodecError {
    CodecError::Encode { detail: error.to_string() }
}

/// By serde.
#[derive(Debug)]
pub(crate) struct BySerde;

impl<T: Serialize + DeserializeOwned> Wire<T> for BySerde {
    #[inline]
    fn encode(&self, value: &T, _: &World, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        let start = out.len();
        encode_into(value, out)?;
        if cfg!(debug_assertions) {
            read_again::<T>(out.get(start..).unwrap_or_default())?;
        }
        Ok(true)
    }

    fn encode_all<'a>(&self, mut values: impl Iterator<Item = &'a T>, world: &World, out: &mut Vec<u8>) -> Result<(), CodecError>
    where
        T: 'a,
    {
        if cfg!(debug_assertions) {
            return values.try_for_each(|value| self.encode(value, world, out).map(drop));
        }
        encode_all(values, out)
    }

    fn encode_detached(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_into(value, out)
    }

    #[inline]
    fn decode(&self, input: &mut Reader<'_>, _: &NetMap) -> Result<Option<T>, CodecError> {
        input.value().map(Some)
    }

    fn to_json(&self, input: &mut Reader<'_>, _: &dyn Names) -> Result<Value, CodecError> {
        serde_json::to_value(input.value::<T>()?).map_err(|error| json_error(&error))
    }

    fn encode_json(&self, value: &Value, _: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let value: T = serde_json::from_value(value.clone()).map_err(|error| json_error(&error))?;
        encode_into(&value, out)
    }
}

/// While a game is being made: whether what was written of a value is read again, to its end. A field that serde leaves out where it is empty would be read
/// as what follows it.
fn read_again<T: DeserializeOwned>(written: &[u8]) -> Result<(), CodecError> {
    decode_exact::<T>(written).map(drop).map_err(|error| CodecError::Encode { detail: format!("it could not be read again: {error}") })
}

/// By a codec of the game's own.
#[derive(Debug)]
pub(crate) struct ByCodec<C>(pub(crate) C);

impl<T: Serialize + DeserializeOwned, C: Codec<T>> Wire<T> for ByCodec<C> {
    fn encode(&self, value: &T, _: &World, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        self.0.encode(value, out);
        Ok(true)
    }

    fn encode_detached(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.0.encode(value, out);
        Ok(())
    }

    fn decode(&self, input: &mut Reader<'_>, _: &NetMap) -> Result<Option<T>, CodecError> {
        self.0.decode(input).map(Some)
    }

    fn to_json(&self, input: &mut Reader<'_>, _: &dyn Names) -> Result<Value, CodecError> {
        serde_json::to_value(self.0.decode(input)?).map_err(|error| json_error(&error))
    }

    fn encode_json(&self, value: &Value, _: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let value: T = serde_json::from_value(value.clone()).map_err(|error| json_error(&error))?;
        self.0.encode(&value, out);
        Ok(())
    }
}

/// A relationship: the net id of its target plus one, or zero if the target has none.
#[derive(Debug)]
pub(crate) struct ByTarget<T>(pub(crate) PhantomData<fn() -> T>);

fn write_target(target: Option<NetId>, out: &mut Vec<u8>) {
    write_varint(target.map_or(0, |id| u64::from(id.0) + 1), out);
}

fn read_target(input: &mut Reader<'_>) -> Result<Option<NetId>, CodecError> {
    Ok(input.varint_u32("net id")?.checked_sub(1).map(NetId))
}

/// The entities of which the one for whom a room encodes at the moment may not know: references to them lead to nobody. A resource, there
/// only meanwhile.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct HiddenFrom {
    /// A bit for each net id.
    pub(crate) words: Vec<u64>,
}

impl HiddenFrom {
    fn contains(&self, id: NetId) -> bool {
        self.words.get(id.get() as usize / 64).is_some_and(|word| word >> (id.get() % 64) & 1 == 1)
    }
}

/// The net id of an entity, if the replicas know it: what is `Disabled` they don't.
fn known_net_id(world: &World, entity: Entity) -> Option<NetId> {
    let entity = world.get_entity(entity).ok().filter(|entity| !entity.contains::<Disabled>())?;
    let hidden = world.get_resource::<HiddenFrom>();
    entity.get::<NetId>().copied().filter(|id| hidden.is_none_or(|hidden| !hidden.contains(*id)))
}

impl<T: Relationship> Wire<T> for ByTarget<T> {
    const REFERS: bool = true;
    const NEEDS_TARGET: bool = true;

    fn encode(&self, value: &T, world: &World, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        let target = known_net_id(world, value.get());
        write_target(target, out);
        Ok(target.is_some())
    }

    fn encode_detached(&self, _: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        write_target(None, out);
        Ok(())
    }

    fn decode(&self, input: &mut Reader<'_>, map: &NetMap) -> Result<Option<T>, CodecError> {
        Ok(read_target(input)?.and_then(|id| map.get(id)).map(T::from))
    }

    fn to_json(&self, input: &mut Reader<'_>, names: &dyn Names) -> Result<Value, CodecError> {
        Ok(read_target(input)?.and_then(|id| names.name(id)).map_or(Value::Null, Value::String))
    }

    fn encode_json(&self, value: &Value, names: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match value {
            Value::Null => write_target(None, out),
            Value::String(name) => match names.id(name) {
                Some(id) => write_target(Some(id), out),
                None => return Err(CodecError::Encode { detail: format!("there is no entity named {name:?}") }),
            },
            other => return Err(CodecError::Encode { detail: format!("expected the name of an entity, found {other}") }),
        }
        Ok(())
    }
}

/// By serde, with the entities inside (those that `#[entities]` or `MapEntities` names) translated to net ids.
#[derive(Debug)]
pub(crate) struct ByMapping;

/// The key that stands for an entity in JSON: `{"$entity": "door123"}`.
const ENTITY_KEY: &str = "$entity";

/// What an entity that is itself a key of a map begins with in JSON: `{"$entity:door123": 5}`; nothing follows for nobody. A key of the game's own that
/// begins with this, or is [`ENTITY_KEY`], has one more `$` in front.
const KEY_PREFIX: &str = "$entity:";

/// The generation that marks an entity as a net id in disguise. Such an entity never enters a world.
const DISGUISE: u64 = 0x5eed_0e57_0000_0000;

fn disguise(id: Option<NetId>) -> Entity {
    // Bevy keeps the index inverted in the low half, where zero is no entity. The room's net ids are below 2^20; what a client has of its own, or is
    // about to lose, has the number of nobody, which is all ones: it is disguised as the one before it, which stands for nobody in any map either.
    id.map_or(Entity::PLACEHOLDER, |id| Entity::from_bits(DISGUISE | u64::from((!id.0).max(1))))
}

fn undisguise_bits(bits: u64) -> Option<NetId> {
    (bits & 0xffff_ffff_0000_0000 == DISGUISE).then_some(NetId(!(bits as u32)))
}

struct IntoNet<'w> {
    world: &'w World,
    complete: bool,
}

impl EntityMapper for IntoNet<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        let id = known_net_id(self.world, source);
        self.complete &= id.is_some();
        disguise(id)
    }
    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

struct FromNet<'m>(&'m NetMap);

impl EntityMapper for FromNet<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        undisguise_bits(source.to_bits()).and_then(|id| self.0.get(id)).unwrap_or(Entity::PLACEHOLDER)
    }
    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

/// Disguises nobody as well: as a number it is 1, which a game may mean by itself.
struct MarkNobody;

impl EntityMapper for MarkNobody {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        if source == Entity::PLACEHOLDER { disguise(Some(NetId::UNASSIGNED)) } else { source }
    }
    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

impl<T: Component + Clone + Serialize + DeserializeOwned> Wire<T> for ByMapping {
    const REFERS: bool = true;

    fn encode(&self, value: &T, world: &World, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        let mut mapper = IntoNet { world, complete: true };
        let mut value = value.clone();
        T::map_entities(&mut value, &mut mapper);
        encode_into(&value, out)?;
        Ok(mapper.complete)
    }

    fn encode_detached(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_into(value, out)
    }

    fn decode(&self, input: &mut Reader<'_>, map: &NetMap) -> Result<Option<T>, CodecError> {
        let mut value = input.value()?;
        T::map_entities(&mut value, &mut FromNet(map));
        Ok(Some(value))
    }

    fn to_json(&self, input: &mut Reader<'_>, names: &dyn Names) -> Result<Value, CodecError> {
        let mut value = input.value::<T>()?;
        T::map_entities(&mut value, &mut MarkNobody);
        let mut value = serde_json::to_value(value).map_err(|error| json_error(&error))?;
        name_entities(&mut value, names);
        Ok(value)
    }

    fn encode_json(&self, value: &Value, names: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut value = value.clone();
        unname_entities(&mut value, names)?;
        let value: T = serde_json::from_value(value).map_err(|error| json_error(&error))?;
        encode_into(&value, out)
    }
}

fn name_entities(value: &mut Value, names: &dyn Names) {
    match value {
        Value::Number(number) => {
            if let Some(id) = number.as_u64().and_then(undisguise_bits) {
                *value = json!({ ENTITY_KEY: names.name(id) });
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| name_entities(item, names)),
        Value::Object(fields) => {
            let named = std::mem::take(fields).into_iter().map(|(key, mut field)| {
                name_entities(&mut field, names);
                (name_key(key, names), field)
            });
            *fields = named.collect();
        }
        _ => {}
    }
}

fn name_key(key: String, names: &dyn Names) -> String {
    if let Some(id) = key.parse::<u64>().ok().and_then(undisguise_bits) {
        return format!("{KEY_PREFIX}{}", names.name(id).unwrap_or_default());
    }
    if looks_like_entity(&key) { format!("${key}") } else { key }
}

/// True for what begins as an entity that is a key, and for the key that stands for one, with any number of `$` in front.
fn looks_like_entity(key: &str) -> bool {
    let last = key.len() - key.trim_start_matches('$').len();
    // The last of them belongs to the mark.
    last.checked_sub(1).and_then(|at| key.get(at..)).is_some_and(|mark| mark == ENTITY_KEY || mark.starts_with(KEY_PREFIX))
}

fn unname_entities(value: &mut Value, names: &dyn Names) -> Result<(), CodecError> {
    match value {
        Value::Object(fields) if fields.len() == 1 && fields.contains_key(ENTITY_KEY) => {
            let bits = match fields.get(ENTITY_KEY) {
                Some(Value::String(name)) => bits_of(name, names)?,
                _ => Entity::PLACEHOLDER.to_bits(),
            };
            *value = json!(bits);
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| unname_entities(item, names))?,
        Value::Object(fields) => {
            let unnamed = std::mem::take(fields).into_iter().map(|(key, mut field)| {
                unname_entities(&mut field, names)?;
                Ok::<_, CodecError>((unname_key(key, names)?, field))
            });
            *fields = unnamed.collect::<Result<_, CodecError>>()?;
        }
        _ => {}
    }
    Ok(())
}

fn unname_key(key: String, names: &dyn Names) -> Result<String, CodecError> {
    match key.strip_prefix(KEY_PREFIX) {
        Some("") => Ok(Entity::PLACEHOLDER.to_bits().to_string()),
        Some(name) => bits_of(name, names).map(|bits| bits.to_string()),
        None if key.starts_with("$$") && looks_like_entity(&key) => Ok(key.replacen('$', "", 1)),
        None => Ok(key),
    }
}

/// The entity of that name in disguise.
fn bits_of(name: &str, names: &dyn Names) -> Result<u64, CodecError> {
    let id = names.id(name).ok_or_else(|| CodecError::Encode { detail: format!("there is no entity named {name:?}") })?;
    Ok(disguise(Some(id)).to_bits())
}
