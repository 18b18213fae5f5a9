//! Names for everything that is counted or addressed.

use std::fmt;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace in which readable names of level files become UUIDs: a UUIDv5 of this and the name.
pub const LEVEL_NAMESPACE: Uuid = Uuid::from_u128(0x7d5f_31c0_6d1b_5c8e_9a47_2f1e_60a2_b3c4);

/// The UUID by which the ledger, the snapshots, the tools and other rooms know an entity.
///
/// It is a component: every entity with a synced component carries one, and an entity that carries one is replicated. Spawn with an explicit id to give a
/// readable or a foreign one, otherwise the room mints one that no other room can mint.
///
/// ```
/// use roomkeeper::prelude::*;
/// assert_eq!(EntityId::named("door123"), EntityId::named("door123"));
/// assert_ne!(EntityId::named("door123"), EntityId::named("door124"));
/// ```
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[require(NetId)]
pub struct EntityId(Uuid);

/// The name under which [`EntityId`] announces itself to a serde serializer, so that the ids inside a command
/// can be found without a derive of our own.
pub(crate) const ENTITY_ID_NEWTYPE: &str = "roomkeeper::EntityId";

impl EntityId {
    /// The id of no entity. An entity spawned with it is given a minted one.
    pub const NIL: Self = Self(Uuid::nil());

    /// The id of the entity that a level file calls `name`.
    pub fn named(name: &str) -> Self {
        Self(Uuid::new_v5(&LEVEL_NAMESPACE, name.as_bytes()))
    }

    /// The same with its name beside it, as a bundle: people and tools are then shown the name.
    ///
    /// ```
    /// use bevy_ecs::prelude::*;
    /// use roomkeeper::protocol::EntityId;
    ///
    /// let mut world = World::new();
    /// let tree = world.spawn(EntityId::with_name("tree")).id();
    /// assert_eq!(world.get::<EntityId>(tree), Some(&EntityId::named("tree")));
    /// ```
    pub fn with_name(name: &str) -> (Self, Name) {
        (Self::named(name), Name::new(name.to_owned()))
    }

    /// The id that a room gives the `serial`-th entity that it names itself. A UUIDv8: the room's own bits, then the serial.
    pub fn minted(room: RoomId, serial: u64) -> Self {
        // As one number: put together from bytes, each id is read back from memory before its bytes have arrived there, which is
        // most of what a replica takes to enter the entities of a snapshot.
        const SERIAL: u128 = (1 << 48) - 1;
        const VERSION: u128 = 0xF << 76;
        const VARIANT: u128 = 0b11 << 62;
        let bits = (room.0.as_u128() & !(SERIAL | VERSION | VARIANT)) | (8 << 76) | (0b10 << 62) | (u128::from(serial) & SERIAL);
        Self(Uuid::from_u128(bits))
    }

    /// The serial number, if a room minted the id.
    pub(crate) fn serial_in(self, room: RoomId) -> Option<u64> {
        let [.., a, b, c, d, e, f] = *self.0.as_bytes();
        let serial = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        (Self::minted(room, serial) == self).then_some(serial)
    }

    /// The id of the `nth` entity that a command of `author` creates: the same on the client, which may create it ahead,
    /// and in the room. No other command of the room's life gives it.
    pub fn of_command(author: Self, command: CommandId, nth: u32) -> Self {
        let [a, b, c, d] = command.0.to_be_bytes();
        let [e, f, g, h] = nth.to_be_bytes();
        Self(Uuid::new_v5(&author.0, &[a, b, c, d, e, f, g, h]))
    }

    /// Wraps a UUID that comes from elsewhere.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID itself.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    /// True for [`EntityId::NIL`].
    pub fn is_nil(self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// By hand rather than derived: 16 bytes on the wire instead of 17, text in JSON, and a name that `touched` can see.
impl Serialize for EntityId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_newtype_struct(ENTITY_ID_NEWTYPE, &self.0)
        } else {
            serializer.serialize_newtype_struct(ENTITY_ID_NEWTYPE, self.0.as_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for EntityId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            // A level file names entities readably; what is not a UUID is such a name.
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            return Ok(Self::parse(&text));
        }
        <[u8; 16]>::deserialize(deserializer).map(|bytes| Self(Uuid::from_bytes(bytes)))
    }
}

impl EntityId {
    /// Reads an id as people write it: a UUID in its usual form, or else a readable name of the level.
    pub fn parse(text: &str) -> Self {
        Uuid::try_parse(text).map_or_else(|_| Self::named(text), Self)
    }
}

/// A moment of a room's time as somebody saw it, in 256ths of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenTick(pub u64);

impl SeenTick {
    /// How many there are in a tick.
    pub const PER_TICK: u64 = 256;

    /// The last one there is.
    pub const MAX: Self = Self((u32::MAX as u64 + 1) * Self::PER_TICK - 1);

    /// The moment at which a tick is over: what its batch says.
    pub const fn of(tick: RoomTick) -> Self {
        Self(tick.0 as u64 * Self::PER_TICK)
    }

    /// A time in ticks, with a fraction.
    pub fn from_ticks(ticks: f64) -> Self {
        // A saturating cast: what is no number is the beginning.
        Self((ticks * Self::PER_TICK as f64) as u64).min(Self::MAX)
    }

    /// The tick that was over last.
    pub const fn tick(self) -> RoomTick {
        let tick = self.0 / Self::PER_TICK;
        RoomTick(if tick > u32::MAX as u64 { u32::MAX } else { tick as u32 })
    }

    /// How much of the next one had passed, from 0 to 1.
    pub fn share(self) -> f32 {
        (self.0 % Self::PER_TICK) as f32 / Self::PER_TICK as f32
    }

    /// So many 256ths of a tick earlier.
    #[must_use]
    pub const fn back(self, by: u64) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

/// The UUID of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Uuid);

impl RoomId {
    /// Wraps a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id of the room that is addressed by `name`: the same name gives the same id.
    pub fn named(name: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
    }

    /// The UUID itself.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A small integer that stands for an [`EntityId`] on one room's wire. Handed out at create, lowest free number first;
/// a freed number is not handed out again before the batch that deleted its entity has left.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetId(pub(crate) u32);

impl Default for NetId {
    fn default() -> Self {
        Self::UNASSIGNED
    }
}

impl NetId {
    pub(crate) const UNASSIGNED: Self = Self(u32::MAX);

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A count of 50 ms steps since the room was created. Never wall-clock; it does not wrap: at 20 Hz it lasts 6.8 years,
/// and a room that reaches the end closes.
///
/// In a snippet or a level, whose values are JSON, a point in time moves with the scene: what was due two seconds after the snippet was
/// saved is due two seconds after the room is reset to it, or begins with it. What began earlier than a room can have begun counts as having begun with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RoomTick(pub u32);

thread_local! {
    /// By how many ticks the points in time that are read from JSON are moved.
    static SHIFT: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Reads JSON with all points in time moved by so many ticks, at most to the beginning or the end of time.
pub(crate) fn with_ticks_moved<T>(by: i64, read: impl FnOnce() -> T) -> T {
    struct Restore(i64);
    impl Drop for Restore {
        fn drop(&mut self) {
            SHIFT.set(self.0);
        }
    }
    let _restore = Restore(SHIFT.replace(by));
    read()
}

/// Where a tick that JSON tells is moved to: below 0, before the beginning of time.
pub(crate) fn moved(tick: u32) -> i64 {
    i64::from(tick).saturating_add(SHIFT.get())
}

impl<'de> Deserialize<'de> for RoomTick {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "RoomTick")]
        struct Plain(u32);
        let is_moved = deserializer.is_human_readable();
        let Plain(tick) = Plain::deserialize(deserializer)?;
        Ok(if is_moved { Self::at_or_within(moved(tick)) } else { Self(tick) })
    }
}

impl RoomTick {
    /// The tick, or the beginning or the end of time.
    pub(crate) fn at_or_within(tick: i64) -> Self {
        Self(tick.clamp(0, i64::from(u32::MAX)) as u32)
    }

    /// The tick after this one, or `None` at the end of time.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for RoomTick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a fact in its room's ledger: 1, 2, 3, ... without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FactSeq(pub u64);

impl fmt::Display for FactSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that a client gives its own command: one more than that of the one before. A number that the room has seen is not obeyed again.
///
/// The first of a stay follows the number that the welcome tells. Where nobody has left yet that is 0; else it is above the numbers of all who have,
/// but at most 2^31 - 1, so that no number of a user comes twice in a room's life before that user's own commands are more than 2^31: a year of
/// sixty a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId(pub u32);

impl CommandId {
    /// The highest number at which a stay begins: half of all numbers are everybody's own, whatever others used up.
    pub(crate) const STAY_MAX: Self = Self(u32::MAX / 2);

    /// At which number stays begin where this was somebody's last who left.
    pub(crate) fn stay_after(self) -> Self {
        Self(self.0.saturating_add(1)).min(Self::STAY_MAX)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_minted_id_is_the_rooms_own_bits_then_the_serial_as_a_uuid_of_version_8(room: u128, serial: u64) {
            let room = RoomId::from_uuid(Uuid::from_u128(room));
            let mut bytes = *room.0.as_bytes();
            bytes[10..].copy_from_slice(&serial.to_be_bytes()[2..]);
            let id = EntityId::minted(room, serial);
            prop_assert_eq!(id.as_uuid(), uuid::Builder::from_custom_bytes(bytes).into_uuid());
            prop_assert_eq!(id.serial_in(room), Some(serial & ((1 << 48) - 1)));
        }
    }
}
