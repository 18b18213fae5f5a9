//! Reading a type to a certain depth only. Who makes values up for it, as the tracer of shapes does, may otherwise never come to their end.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

/// How many values may lie within each other. No game's type is so deep, and a thread's stack of 2 MiB holds them: it has 32 KiB for each. Where nothing is
/// optimised, one takes 8 KiB, or 20 if it is an enum or a struct of one or two KiB.
const DEPTH_MAX: u32 = 64;

/// Reads a type as the type itself does, and keeps nothing of it. What is deeper than [`DEPTH_MAX`] is an error.
pub(crate) struct Bounded<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not as a type of its own: whoever is read from shall see no other than `T`.
        T::deserialize(Deep { inner: deserializer, depth: 0 }).map(|_| Self(PhantomData))
    }
}

/// One of serde's parts, and in how many values it lies. It hands the number on to whatever it gives or is given.
struct Deep<P> {
    inner: P,
    depth: u32,
}

impl<P> Deep<P> {
    /// For a visitor of what lies in the value that is read here.
    fn within<V, E: de::Error>(&self, visitor: V) -> Result<Deep<V>, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("it contains itself without end"));
        }
        Ok(Deep { inner: visitor, depth: self.depth + 1 })
    }
}

/// Reads what has nothing within it.
macro_rules! read_plain {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
                self.inner.$method(Deep { inner: visitor, depth: self.depth })
            }
        )*
    };
}

/// Reads what may have itself within it.
macro_rules! read_nested {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {
        $(
            fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
                let visitor = self.within(visitor)?;
                self.inner.$method($($argument,)* visitor)
            }
        )*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Deep<D> {
    type Error = D::Error;

    read_plain! {
        deserialize_any deserialize_ignored_any deserialize_identifier deserialize_bool deserialize_char deserialize_unit
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
    }

    read_nested! {
        deserialize_option()
        deserialize_seq()
        deserialize_map()
        deserialize_tuple(len: usize)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, Deep { inner: visitor, depth: self.depth })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Hands a value on that has nothing within it.
macro_rules! visit_plain {
    ($($method:ident($value:ty))*) => {
        $(
            fn $method<E: de::Error>(self, value: $value) -> Result<V::Value, E> {
                self.inner.$method(value)
            }
        )*
    };
}

// The value is that of the visitor within: the tracer tells enums by the type of what is read.
impl<'de, V: Visitor<'de>> Visitor<'de> for Deep<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    visit_plain! {
        visit_bool(bool) visit_char(char) visit_f32(f32) visit_f64(f64)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Deep { inner: deserializer, depth: self.depth })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Deep { inner: deserializer, depth: self.depth })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Deep { inner: items, depth: self.depth })
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Deep { inner: entries, depth: self.depth })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variants: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Deep { inner: variants, depth: self.depth })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Deep<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Deep { inner: seed, depth: self.depth })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Deep<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Deep { inner: seed, depth: self.depth })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Deep { inner: seed, depth: self.depth })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Deep<A> {
    type Error = A::Error;
    type Variant = Deep<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        // Which variant it is is a number or a name, with nothing within it.
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Deep { inner: variant, depth: self.depth }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Deep<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Deep { inner: seed, depth: self.depth })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Deep { inner: visitor, depth: self.depth })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Deep { inner: visitor, depth: self.depth })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Deep<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Deep { inner: deserializer, depth: self.depth })
    }
}
