//! What a protocol consists of, as a hash and as a list, so that two that differ can be told apart by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_reflection::{ContainerFormat, Format, Registry, Samples, Tracer, TracerConfig, VariantFormat};
use twox_hash::XxHash3_64;

use super::registry::short_type_name;

/// A hash of a whole protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One name of a protocol: what it names, and a hash of its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedName {
    /// `component`, `command` or `fact`.
    pub what: String,
    /// The wire name.
    pub name: String,
    /// A hash of the type's fields and of the options.
    pub shape: u32,
}

/// The list of a protocol's names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The names.
    pub names: Vec<DescribedName>,
}

impl Description {
    pub(crate) fn add(&mut self, what: &str, name: &str, shape: &str) {
        let shape = XxHash3_64::oneshot(shape.as_bytes()) as u32;
        self.names.push(DescribedName { what: what.to_owned(), name: name.to_owned(), shape });
    }

    /// The hash of the list.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut text = String::new();
        for DescribedName { what, name, shape } in &self.names {
            text.push_str(&format!("{what} {name} {shape:08x}\n"));
        }
        Fingerprint(XxHash3_64::oneshot(text.as_bytes()))
    }

    /// What changed in this protocol since it was another one: one line for each name.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let index = |side: &Self| -> BTreeMap<(String, String), u32> {
            side.names.iter().map(|d| ((d.what.clone(), d.name.clone()), d.shape)).collect()
        };
        let (now, then) = (index(self), index(before));
        let mut lines = Vec::new();
        for ((what, name), shape) in &then {
            match now.get(&(what.clone(), name.clone())) {
                None => lines.push(format!("{what} {name:?} is stored, but not in the protocol")),
                Some(other) if other != shape => lines.push(format!("{what} {name:?} is stored with other fields than it has now")),
                Some(_) => {}
            }
        }
        let new = now.keys().filter(|key| !then.contains_key(*key));
        lines.extend(new.map(|(what, name)| format!("{what} {name:?} is new")));
        if lines.is_empty() {
            lines.push("the names are the same, in another order".to_owned());
        }
        lines
    }

    /// What differs between this protocol, a client's, and a server's: one line for each name.
    pub fn differences(&self, server: &Self) -> Vec<String> {
        let index = |side: &Self| -> BTreeMap<(String, String), (usize, u32)> {
            let names = side.names.iter().enumerate();
            names.map(|(at, d)| ((d.what.clone(), d.name.clone()), (at, d.shape))).collect()
        };
        let (ours, theirs) = (index(self), index(server));
        let mut lines = Vec::new();
        for ((what, name), (at, shape)) in &ours {
            match theirs.get(&(what.clone(), name.clone())) {
                None => lines.push(format!("{what} {name:?} is unknown to the server")),
                Some((_, other)) if other != shape => {
                    lines.push(format!("{what} {name:?} differs: client {shape:08x}, server {other:08x}"));
                }
                Some((other, _)) if ours.len() == theirs.len() && other != at => {
                    lines.push(format!("{what} {name:?} is registered in another order: client {at}, server {other}"));
                }
                Some(_) => {}
            }
        }
        for (what, name) in theirs.keys().filter(|key| !ours.contains_key(*key)) {
            lines.push(format!("{what} {name:?} is missing on the client"));
        }
        lines
    }
}

/// A type as serde sees it.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its fields, variants and their types, as text.
    pub(crate) text: String,
    /// True if a list in it has items that take no bytes: a few bytes could claim 2^64 of them, and whoever reads them would not come to an end.
    pub(crate) endless: bool,
}

/// The shape of a type. A type that serde can't be traced through (it checks its input) is described by its name alone.
pub(crate) fn shape_of<T: DeserializeOwned>() -> Shape {
    let mut tracer = Tracer::new(TracerConfig::default().is_human_readable(false));
    let name = short_type_name::<T>();
    match tracer.trace_type::<T>(&Samples::new()) {
        Ok((format, _)) => {
            let types = tracer.registry_unchecked();
            let lists = |format: &Format| has_endless_list(format, &types);
            let endless = lists(&format) || types.values().any(|container| formats_in(container).iter().any(lists));
            Shape { text: format!("{name} {format:?} {types:?}"), endless }
        }
        Err(_) => Shape { text: name.to_owned(), endless: false },
    }
}

/// What a variant consists of, as far as it is known.
fn formats_of(variant: &VariantFormat) -> Vec<Format> {
    match variant {
        VariantFormat::Variable(variable) => variable.borrow().as_ref().map(formats_of).unwrap_or_default(),
        VariantFormat::Unit => Vec::new(),
        VariantFormat::NewType(format) => vec![(**format).clone()],
        VariantFormat::Tuple(formats) => formats.clone(),
        VariantFormat::Struct(fields) => fields.iter().map(|field| field.value.clone()).collect(),
    }
}

/// What a struct or an enum consists of.
fn formats_in(container: &ContainerFormat) -> Vec<Format> {
    match container {
        ContainerFormat::UnitStruct => Vec::new(),
        ContainerFormat::NewTypeStruct(format) => vec![(**format).clone()],
        ContainerFormat::TupleStruct(formats) => formats.clone(),
        ContainerFormat::Struct(fields) => fields.iter().map(|field| field.value.clone()).collect(),
        ContainerFormat::Enum(variants) => variants.values().flat_map(|variant| formats_of(&variant.value)).collect(),
    }
}

/// True if a list right in a format has items that take no bytes. What has a name is looked at by itself.
fn has_endless_list(format: &Format, types: &Registry) -> bool {
    let within = |format: &Format| has_endless_list(format, types);
    let takes = |format: &Format| takes_bytes(format, types, NESTED_MAX);
    match format {
        Format::Seq(item) => !takes(item) || within(item),
        Format::Map { key, value } => !(takes(key) || takes(value)) || within(key) || within(value),
        Format::Option(format) | Format::TupleArray { content: format, .. } => within(format),
        Format::Tuple(formats) => formats.iter().any(within),
        Format::Variable(variable) => variable.borrow().as_ref().is_some_and(within),
        _ => false,
    }
}

/// How deep types are looked into for a byte. Two that share a name may seem to contain each other.
const NESTED_MAX: u32 = 64;

/// True if each value of a format takes a byte at least.
fn takes_bytes(format: &Format, types: &Registry, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    let takes = |format: &Format| takes_bytes(format, types, depth);
    match format {
        Format::Unit => false,
        Format::Tuple(formats) => formats.iter().any(takes),
        Format::TupleArray { content, size } => *size > 0 && takes(content),
        Format::Variable(variable) => variable.borrow().as_ref().is_none_or(takes),
        Format::TypeName(name) => match types.get(name) {
            // Which variant it is takes a byte.
            None | Some(ContainerFormat::Enum(_)) => true,
            Some(container) => formats_in(container).iter().any(takes),
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct One {
        #[expect(dead_code, reason = "only its shape matters")]
        x: f32,
    }

    mod renamed {
        #[derive(serde::Deserialize)]
        pub(super) struct One {
            #[expect(dead_code, reason = "only its shape matters")]
            pub(super) y: f32,
        }
    }

    #[test]
    fn a_renamed_field_changes_the_shape() {
        assert_ne!(shape_of::<One>().text, shape_of::<renamed::One>().text);
    }

    #[derive(Deserialize)]
    struct Nothing;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Skipped {
        #[serde(skip)]
        all: u32,
        nothing: ((), [Nothing; 3]),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Which {
        A,
        B(Vec<u8>),
        C { deep: Option<BTreeMap<(), Vec<Skipped>>> },
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Fine {
        A,
        B(Vec<One>),
        C { deep: Option<BTreeMap<(), Vec<Fine>>>, nothing: Skipped },
    }

    #[test]
    fn a_list_of_nothing_is_found_wherever_it_is() {
        assert!(shape_of::<Vec<()>>().endless);
        assert!(shape_of::<(u8, Option<Vec<Nothing>>)>().endless);
        assert!(shape_of::<Vec<[u8; 0]>>().endless);
        assert!(shape_of::<BTreeMap<(), ()>>().endless);
        assert!(shape_of::<Which>().endless);
        assert!(!shape_of::<Fine>().endless);
        assert!(!shape_of::<(Vec<(u8, ())>, String, [(); 4], BTreeMap<(), u8>)>().endless);
    }

    #[test]
    fn differences_are_told_by_name() {
        let (mut client, mut server) = (Description::default(), Description::default());
        client.add("component", "health", "i32");
        server.add("component", "health", "i64");
        client.add("fact", "old", "");
        server.add("fact", "new", "");
        let lines = client.differences(&server);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("\"health\" differs"));
        assert!(lines[1].contains("\"old\" is unknown to the server"));
        assert!(lines[2].contains("\"new\" is missing on the client"));
        assert_ne!(client.fingerprint(), server.fingerprint());
    }
}
