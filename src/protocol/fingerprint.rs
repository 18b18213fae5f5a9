//! What a protocol consists of, as a hash and as a list, so that two that differ can be told apart by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_reflection::{Samples, Tracer, TracerConfig};
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

/// The shape of a type as serde sees it: fields, variants and their types. A type that serde can't be traced through
/// (it checks its input) is described by its name alone.
pub(crate) fn describe_type<T: DeserializeOwned>() -> String {
    let mut tracer = Tracer::new(TracerConfig::default().is_human_readable(false));
    let name = short_type_name::<T>();
    match tracer.trace_type::<T>(&Samples::new()) {
        Ok((format, _)) => {
            let types = tracer.registry_unchecked();
            format!("{name} {format:?} {types:?}")
        }
        Err(_) => name.to_owned(),
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
        assert_ne!(describe_type::<One>(), describe_type::<renamed::One>());
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
