//! Components with an amount, and the operations that change it relatively: `inc`, `dec`, `inc_max`, `dec_min`.

use std::collections::BTreeMap;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::codec::{CodecError, Reader, encode_into};
use super::ids::NetId;

/// A number that can be increased and decreased without overflow: integers saturate at their bounds, floats follow IEEE 754.
pub trait Amount: Copy + PartialOrd + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The sum, or the nearest number that the type holds.
    fn saturating_add(self, other: Self) -> Self;
    /// The difference, or the nearest number that the type holds.
    fn saturating_sub(self, other: Self) -> Self;
}

macro_rules! integer_amounts {
    ($($type:ty)*) => {$(
        impl Amount for $type {
            fn saturating_add(self, other: Self) -> Self {
                <$type>::saturating_add(self, other)
            }
            fn saturating_sub(self, other: Self) -> Self {
                <$type>::saturating_sub(self, other)
            }
        }
    )*};
}
integer_amounts!(u8 u16 u32 u64 i8 i16 i32 i64);

macro_rules! float_amounts {
    ($($type:ty)*) => {$(
        impl Amount for $type {
            fn saturating_add(self, other: Self) -> Self {
                self + other
            }
            fn saturating_sub(self, other: Self) -> Self {
                self - other
            }
        }
    )*};
}
float_amounts!(f32 f64);

/// A component that has an amount, such as health or ammunition.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
///
/// #[derive(Component, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Health(i32);
///
/// impl Quantity for Health {
///     type Amount = i32;
///     fn amount(&self) -> i32 {
///         self.0
///     }
///     fn set_amount(&mut self, amount: i32) {
///         self.0 = amount;
///     }
/// }
/// ```
pub trait Quantity: Component<Mutability = bevy_ecs::component::Mutable> + Clone + PartialEq {
    /// The type of the amount.
    type Amount: Amount;
    /// Reads the amount.
    fn amount(&self) -> Self::Amount;
    /// Replaces the amount.
    fn set_amount(&mut self, amount: Self::Amount);
}

/// Which update operation; the number is its form on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateKind {
    /// Replace the component with a new value.
    Set = 0,
    /// Increase its amount; stops at the bound of the number's type.
    Inc = 1,
    /// Decrease its amount; stops at the bound of the number's type.
    Dec = 2,
    /// Increase its amount up to a maximum. An amount that is above already stays.
    IncMax = 3,
    /// Decrease its amount down to a minimum. An amount that is below already stays.
    DecMin = 4,
}

impl UpdateKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Set, Self::Inc, Self::Dec, Self::IncMax, Self::DecMin];

    /// The kind's name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Inc => "inc",
            Self::Dec => "dec",
            Self::IncMax => "inc_max",
            Self::DecMin => "dec_min",
        }
    }

    /// The kind of that name. The reference text's `inc_to_100` is spelled `inc_max` with `max: 100`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A relative update with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step<A> {
    /// Add.
    Inc(A),
    /// Subtract.
    Dec(A),
    /// Add, but not above `max`.
    IncMax {
        /// How much to add.
        by: A,
        /// The amount not to exceed.
        max: A,
    },
    /// Subtract, but not below `min`.
    DecMin {
        /// How much to subtract.
        by: A,
        /// The amount not to fall below.
        min: A,
    },
}

impl<A: Amount> Step<A> {
    /// The operation of this step.
    pub fn kind(&self) -> UpdateKind {
        match self {
            Self::Inc(_) => UpdateKind::Inc,
            Self::Dec(_) => UpdateKind::Dec,
            Self::IncMax { .. } => UpdateKind::IncMax,
            Self::DecMin { .. } => UpdateKind::DecMin,
        }
    }

    /// The amount after this step. The room and every replica compute it with this function.
    pub fn after(&self, amount: A) -> A {
        match *self {
            Self::Inc(by) => amount.saturating_add(by),
            Self::Dec(by) => amount.saturating_sub(by),
            Self::IncMax { max, .. } if amount >= max => amount,
            Self::IncMax { by, max } => {
                let sum = amount.saturating_add(by);
                if sum > max { max } else { sum }
            }
            Self::DecMin { min, .. } if amount <= min => amount,
            Self::DecMin { by, min } => {
                let rest = amount.saturating_sub(by);
                if rest < min { min } else { rest }
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Self::Inc(by) | Self::Dec(by) => encode_into(by, out),
            Self::IncMax { by, max: bound } | Self::DecMin { by, min: bound } => encode_into(&(by, bound), out),
        }
    }

    fn decode(kind: UpdateKind, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match kind {
            UpdateKind::Inc => Self::Inc(reader.value()?),
            UpdateKind::Dec => Self::Dec(reader.value()?),
            UpdateKind::IncMax => {
                let (by, max) = reader.value()?;
                Self::IncMax { by, max }
            }
            UpdateKind::DecMin => {
                let (by, min) = reader.value()?;
                Self::DecMin { by, min }
            }
            UpdateKind::Set => {
                return Err(CodecError::Unknown { what: "relative update", value: 0, at: reader.at() });
            }
        })
    }

    fn to_json(self) -> Value {
        match self {
            Self::Inc(by) | Self::Dec(by) => json!(by),
            Self::IncMax { by, max } => json!({ "by": by, "max": max }),
            Self::DecMin { by, min } => json!({ "by": by, "min": min }),
        }
    }

    fn from_json(kind: UpdateKind, value: &Value) -> Result<Self, serde_json::Error> {
        let amount = |value: &Value| serde_json::from_value::<A>(value.clone());
        let field = |name: &str| amount(value.get(name).unwrap_or(&Value::Null));
        Ok(match kind {
            UpdateKind::Dec => Self::Dec(amount(value)?),
            UpdateKind::IncMax => Self::IncMax { by: field("by")?, max: field("max")? },
            UpdateKind::DecMin => Self::DecMin { by: field("by")?, min: field("min")? },
            UpdateKind::Inc | UpdateKind::Set => Self::Inc(amount(value)?),
        })
    }
}

/// The steps of one entity since the last batch, encoded, and the value they led to.
#[derive(Debug)]
struct Logged<T> {
    steps: Vec<EncodedStep>,
    after: T,
}

/// Most steps of one entity that a batch tells. What was stepped more often is told as the value: readers take only so many sections, and members have
/// less to do.
const STEPS_MAX: usize = 15;

/// A step as it stands in a batch.
pub(crate) type EncodedStep = (UpdateKind, Vec<u8>);

/// The steps that were taken on components of one type since the last batch.
///
/// An entry is true as long as nobody wrote the component in between by plain mutation: it is dropped as soon as that
/// shows, and the batch then carries a `set`.
#[derive(Resource, Debug)]
pub(crate) struct StepLog<T: Send + Sync + 'static> {
    since: Tick,
    entries: BTreeMap<NetId, Logged<T>>,
}

impl<T: Send + Sync + 'static> Default for StepLog<T> {
    fn default() -> Self {
        Self { since: Tick::new(0), entries: BTreeMap::new() }
    }
}

impl<T: Send + Sync + 'static> StepLog<T> {
    /// True if any step was taken since the last batch.
    pub(crate) fn any(&self) -> bool {
        !self.entries.is_empty()
    }
}

impl<T: Quantity> StepLog<T> {
    /// Takes a step on `value` and remembers it if the batch can tell it as a step.
    pub(crate) fn step(&mut self, id: NetId, value: &mut Mut<'_, T>, step: Step<T::Amount>, now: Tick) {
        let untouched = !value.last_changed().is_newer_than(self.since, now);
        let known = match self.entries.get(&id) {
            Some(entry) => entry.after == **value,
            None => untouched,
        };
        let before = value.amount();
        value.set_amount(step.after(before));
        let mut operands = Vec::new();
        let is_long = self.entries.get(&id).is_some_and(|entry| entry.steps.len() >= STEPS_MAX);
        if !known || is_long || step.encode(&mut operands).is_err() {
            self.entries.remove(&id);
            return;
        }
        let after = (**value).clone();
        let entry = self.entries.entry(id).or_insert_with(|| Logged { steps: Vec::new(), after: after.clone() });
        entry.steps.push((step.kind(), operands));
        entry.after = after;
    }
}

/// What an error names if the component is not there of which a step is.
const NOTHING_TO_STEP: &str = "component to step";

impl CodecError {
    /// True if a step was read to its end, and the component is not there of which it is.
    #[cfg(feature = "client")]
    pub(crate) fn is_nothing_to_step(&self) -> bool {
        matches!(self, Self::Unknown { what: NOTHING_TO_STEP, .. })
    }
}

/// What a column needs to know of a [`Quantity`], with its amount's type erased.
pub(crate) struct QuantityHooks<T: Send + Sync + 'static> {
    /// The steps that led to exactly this value of an entity.
    pub(crate) logged: for<'w> fn(&'w StepLog<T>, NetId, &T) -> Option<&'w [EncodedStep]>,
    /// Forgets all entries and starts counting at `now`.
    pub(crate) restart: fn(&mut World, Tick),
    /// Takes a step that stands in a message on a value.
    pub(crate) fold: fn(&mut T, UpdateKind, &mut Reader<'_>) -> Result<(), CodecError>,
    /// Takes a step that stands in a message on an entity's component, and gives the old value back.
    pub(crate) apply: fn(&mut World, Entity, UpdateKind, &mut Reader<'_>) -> Result<T, CodecError>,
    /// Reads a step's operands as JSON.
    pub(crate) to_json: fn(UpdateKind, &mut Reader<'_>) -> Result<Value, CodecError>,
    /// Writes a step's operands from JSON.
    pub(crate) from_json: fn(UpdateKind, &Value, &mut Vec<u8>) -> Result<(), CodecError>,
}

impl<T: Quantity> QuantityHooks<T> {
    pub(crate) fn new() -> Self {
        Self {
            logged: |log, id, value| {
                let entry = log.entries.get(&id)?;
                (entry.after == *value).then_some(entry.steps.as_slice())
            },
            restart: |world, now| {
                if let Some(mut log) = world.get_resource_mut::<StepLog<T>>() {
                    log.entries.clear();
                    log.since = now;
                }
            },
            fold: |value, kind, reader| {
                let step = Step::<T::Amount>::decode(kind, reader)?;
                value.set_amount(step.after(value.amount()));
                Ok(())
            },
            apply: |world, entity, kind, reader| {
                let at = reader.at();
                let step = Step::<T::Amount>::decode(kind, reader)?;
                let missing = CodecError::Unknown { what: NOTHING_TO_STEP, value: 0, at };
                let mut value = world.get_mut::<T>(entity).ok_or(missing)?;
                let old = value.clone();
                let amount = step.after(value.amount());
                value.set_amount(amount);
                Ok(old)
            },
            to_json: |kind, reader| Ok(Step::<T::Amount>::decode(kind, reader)?.to_json()),
            from_json: |kind, value, out| {
                Step::<T::Amount>::from_json(kind, value).map_err(|error| CodecError::Encode { detail: error.to_string() })?.encode(out)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_stop_where_they_say() {
        assert_eq!(Step::IncMax { by: 10, max: 100 }.after(95), 100);
        assert_eq!(Step::IncMax { by: 10, max: 100 }.after(120), 120);
        assert_eq!(Step::DecMin { by: 10, min: 0 }.after(5), 0);
        assert_eq!(Step::DecMin { by: 10, min: 0 }.after(-3), -3);
        assert_eq!(Step::Inc(10_u8).after(250), 255);
        assert_eq!(Step::Dec(10_u8).after(3), 0);
        assert_eq!(Step::IncMax { by: i32::MAX, max: i32::MAX }.after(5), i32::MAX);
    }

    proptest! {
        #[test]
        fn a_step_never_leaves_its_bounds(amount: i32, by in 0..i32::MAX, bound: i32) {
            let (up, down) = (Step::IncMax { by, max: bound }, Step::DecMin { by, min: bound });
            prop_assert!(up.after(amount) <= bound.max(amount));
            prop_assert!(down.after(amount) >= bound.min(amount));
        }

        #[test]
        fn a_step_survives_the_wire(by: i64, bound: i64) {
            for step in [Step::Inc(by), Step::Dec(by), Step::IncMax { by, max: bound }, Step::DecMin { by, min: bound }] {
                let mut bytes = Vec::new();
                step.encode(&mut bytes).unwrap();
                prop_assert_eq!(Step::decode(step.kind(), &mut Reader::new(&bytes)).unwrap(), step);
                prop_assert_eq!(Step::from_json(step.kind(), &step.to_json()).unwrap(), step);
            }
        }
    }
}
