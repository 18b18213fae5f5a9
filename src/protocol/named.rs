//! Which entities a command names: a serde serializer that writes nothing and keeps every [`EntityId`] it meets.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};
use uuid::Uuid;

use super::ids::{ENTITY_ID_NEWTYPE, EntityId};

/// What a walk through a value met.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The ids of all entities, wherever in the value they stand.
    pub(crate) entities: Vec<EntityId>,
    /// True if a number is infinite or not a number.
    pub(crate) not_finite: bool,
}

/// Walks through a value.
pub(crate) fn named_in<T: Serialize + ?Sized>(value: &T) -> Named {
    let mut found = Named::default();
    // A type whose serializer fails by itself has named whatever it named up to there; it would not have decoded either.
    let _ = value.serialize(Walk { found: &mut found });
    found
}

/// Why a walk stopped: the type's own serializer gave up.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value can't be walked")
    }
}

impl std::error::Error for Stopped {}

impl ser::Error for Stopped {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct Walk<'a> {
    found: &'a mut Named,
}

impl Walk<'_> {
    fn visit<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
        value.serialize(Walk { found: self.found })
    }
}

macro_rules! leaves {
    ($($method:ident: $type:ty)*) => {$(
        fn $method(self, _: $type) -> Result<(), Stopped> {
            Ok(())
        }
    )*};
}

impl<'a> Serializer for Walk<'a> {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    leaves! {
        serialize_bool: bool serialize_i8: i8 serialize_i16: i16 serialize_i32: i32 serialize_i64: i64
        serialize_u8: u8 serialize_u16: u16 serialize_u32: u32 serialize_u64: u64 serialize_i128: i128 serialize_u128: u128
        serialize_char: char serialize_str: &str serialize_bytes: &[u8] serialize_unit_struct: &'static str
    }

    fn serialize_f32(self, value: f32) -> Result<(), Stopped> {
        self.found.not_finite |= !value.is_finite();
        Ok(())
    }
    fn serialize_f64(self, value: f64) -> Result<(), Stopped> {
        self.found.not_finite |= !value.is_finite();
        Ok(())
    }
    fn is_human_readable(&self) -> bool {
        false
    }
    fn serialize_none(self) -> Result<(), Stopped> {
        Ok(())
    }
    fn serialize_unit(self) -> Result<(), Stopped> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stopped> {
        value.serialize(self)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stopped> {
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Stopped> {
        if name == ENTITY_ID_NEWTYPE {
            let mut bytes = IdBytes::default();
            value.serialize(&mut bytes)?;
            self.found.entities.push(EntityId::from_uuid(Uuid::from_bytes(bytes.bytes)));
            return Ok(());
        }
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, _: &'static str, value: &T) -> Result<(), Stopped> {
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(self)
    }
}

macro_rules! containers {
    ($($trait:ident $method:ident ($($ignored:ty)?);)*) => {$(
        impl ser::$trait for Walk<'_> {
            type Ok = ();
            type Error = Stopped;
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $ignored,)? value: &T) -> Result<(), Stopped> {
                self.visit(value)
            }
            fn end(self) -> Result<(), Stopped> {
                Ok(())
            }
        }
    )*};
}

containers! {
    SerializeSeq serialize_element ();
    SerializeTuple serialize_element ();
    SerializeTupleStruct serialize_field ();
    SerializeTupleVariant serialize_field ();
    SerializeStruct serialize_field (&'static str);
    SerializeStructVariant serialize_field (&'static str);
}

impl ser::SerializeMap for Walk<'_> {
    type Ok = ();
    type Error = Stopped;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stopped> {
        self.visit(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
        self.visit(value)
    }
    fn end(self) -> Result<(), Stopped> {
        Ok(())
    }
}

/// Takes the 16 bytes of one id.
#[derive(Default)]
struct IdBytes {
    bytes: [u8; 16],
    count: usize,
}

macro_rules! no_leaves {
    ($($method:ident: $type:ty)*) => {$(
        fn $method(self, _: $type) -> Result<(), Stopped> {
            Err(Stopped)
        }
    )*};
}

impl Serializer for &mut IdBytes {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Impossible<(), Stopped>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), Stopped>;
    type SerializeTupleVariant = Impossible<(), Stopped>;
    type SerializeMap = Impossible<(), Stopped>;
    type SerializeStruct = Impossible<(), Stopped>;
    type SerializeStructVariant = Impossible<(), Stopped>;

    no_leaves! {
        serialize_bool: bool serialize_i8: i8 serialize_i16: i16 serialize_i32: i32 serialize_i64: i64
        serialize_u16: u16 serialize_u32: u32 serialize_u64: u64 serialize_f32: f32 serialize_f64: f64
        serialize_char: char serialize_str: &str serialize_bytes: &[u8] serialize_unit_struct: &'static str
    }

    fn serialize_u8(self, byte: u8) -> Result<(), Stopped> {
        if let Some(slot) = self.bytes.get_mut(self.count) {
            *slot = byte;
        }
        self.count += 1;
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Stopped> {
        Err(Stopped)
    }
    fn serialize_unit(self) -> Result<(), Stopped> {
        Err(Stopped)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Stopped> {
        Err(Stopped)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stopped> {
        Err(Stopped)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Stopped> {
        Err(Stopped)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, _: &'static str, _: &T) -> Result<(), Stopped> {
        Err(Stopped)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Stopped> {
        Err(Stopped)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Stopped> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Stopped> {
        Err(Stopped)
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self::SerializeTupleVariant, Stopped> {
        Err(Stopped)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Stopped> {
        Err(Stopped)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Stopped> {
        Err(Stopped)
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self::SerializeStructVariant, Stopped> {
        Err(Stopped)
    }
}

impl ser::SerializeTuple for &mut IdBytes {
    type Ok = ();
    type Error = Stopped;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Stopped> {
        if self.count == 16 { Ok(()) } else { Err(Stopped) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Order {
        Give { to: Option<EntityId>, items: Vec<(u8, EntityId)> },
        Wait,
        Hit(EntityId),
        Swap(EntityId, EntityId),
    }

    #[derive(Serialize)]
    struct Orders(Vec<Order>, BTreeMap<u8, EntityId>);

    #[derive(Serialize)]
    struct Wrapped(EntityId);

    #[test]
    fn every_id_is_found_however_deep_it_stands() {
        let id = EntityId::named;
        let give = Order::Give { to: Some(id("a")), items: vec![(1, id("b")), (2, id("c"))] };
        let orders = Orders(vec![Order::Wait, give], BTreeMap::from([(7, id("d"))]));
        assert_eq!(named_in(&orders).entities, ["a", "b", "c", "d"].map(id));
        assert_eq!(named_in(&[Order::Hit(id("a")), Order::Swap(id("b"), id("c"))]).entities, ["a", "b", "c"].map(id));
        let keys = named_in(&BTreeMap::from([(Wrapped(id("a")).0, 1), (id("b"), 2)])).entities;
        assert_eq!(keys.len(), 2, "those that are keys as well");
        assert_eq!(named_in(&Wrapped(id("a"))).entities, [id("a")]);
        assert!(named_in(&(1.0_f32, [f64::NAN])).not_finite);
        // What comes after the widest integers is met as well.
        let wide = named_in(&(u128::MAX, i128::MIN, id("e"), f32::INFINITY));
        assert_eq!(wide, Named { entities: vec![id("e")], not_finite: true });
    }
}
