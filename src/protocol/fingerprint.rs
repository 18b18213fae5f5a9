//! What a protocol consists of, as a hash and as a list, so that two that differ can be told apart by name.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

use bevy_ecs::entity::Entity;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_reflection::{ContainerFormat, Format, Registry, Samples, Tracer, TracerConfig};
use twox_hash::XxHash3_64;

use super::alike::{formats_in, is_same_container};
use super::depth::Bounded;
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
            // A text takes whatever is written to it.
            let _ = writeln!(text, "{what} {name} {shape:08x}");
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
                    let hint = "the order counts, and a client's begins with `ReplicaPlugin`";
                    lines.push(format!("{what} {name:?} is registered in another order: client {at}, server {other}; {hint}"));
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
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Its fields, variants and their types, as text.
    pub(crate) text: String,
    /// True if a list in it has items that take no bytes: a few bytes could claim 2^64 of them, and whoever reads them would not come to an end.
    pub(crate) endless: bool,
    /// True if only a format that tells names gives it back: what is written of it can't be read.
    pub(crate) nameless: bool,
}

/// The shape of a type. A type that serde can't be traced through (it checks its input, or its first variants contain it without end) is described by its
/// name alone.
pub(crate) fn shape_of<T: DeserializeOwned + 'static>() -> Shape {
    once(TypeId::of::<T>(), Sight::Whole, || shape_from::<T>(traced::<T>()))
}

/// The shape of a fact of the library's own, with the first variant alone of an enum within it. It stood so in the fingerprint of every game before
/// [`shape_of`] saw the others, and what is stored is read by its fingerprint. What these facts consist of changes with the version of the wire.
pub(crate) fn shape_at_first_sight<T: DeserializeOwned + 'static>() -> Shape {
    once(TypeId::of::<T>(), Sight::First, || {
        let mut tracer = Tracer::new(config());
        let format = tracer.trace_type::<T>(&Samples::new()).map(|(format, _)| format);
        shape_from::<T>(format.map(|format| (format, tracer.registry_unchecked())))
    })
}

/// How far a type is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sight {
    Whole,
    First,
}

/// What a type looks like does not change while the program runs: it is traced for the first room, and known for the thousands after it.
fn once(of: TypeId, sight: Sight, trace: impl FnOnce() -> Shape) -> Shape {
    static KNOWN: Mutex<BTreeMap<(TypeId, Sight), Shape>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shape) = known().get(&(of, sight)) {
        return shape.clone();
    }
    // Not while it is locked: a type may read itself by code of the game's.
    let shape = trace();
    known().entry((of, sight)).or_insert(shape).clone()
}

fn shape_from<T>(traced: serde_reflection::Result<(Format, Registry)>) -> Shape {
    let name = short_type_name::<T>();
    match traced {
        Ok((format, types)) => {
            let lists = |format: &Format| has_endless_list(format, &types);
            let endless = lists(&format) || types.values().any(|container| formats_in(container).iter().any(lists));
            Shape { text: format!("{name} {format:?} {types:?}"), endless, nameless: false }
        }
        Err(error) => Shape { text: name.to_owned(), endless: false, nameless: needs_names(&error) },
    }
}

/// True if a type asks whoever reads it what comes next. A format without names writes its values well, and can't say.
fn needs_names(error: &serde_reflection::Error) -> bool {
    matches!(error, serde_reflection::Error::NotSupported("deserialize_any" | "deserialize_identifier"))
}

/// An entity can't be read from zero, so that is not what the tracer gives for a number of its size.
fn config() -> TracerConfig {
    TracerConfig::default().is_human_readable(false).default_u64_value(Entity::PLACEHOLDER.to_bits())
}

/// The variants of an enum that a pass goes by, by the enum's name: of that one it sees the variant behind them, of any other the first.
type Passed = BTreeMap<String, Vec<String>>;

/// An enum of which only the first variant has been seen.
struct Opened {
    name: String,
    variants: u32,
    /// The way on which it was met.
    passed: Passed,
}

/// How many passes a type is worth. One with more variants in it is described as far as they reached.
const PASSES_MAX: u32 = 1_024;

/// The tracer gives variants that it has met by name numbers from the end; none has so many that they come down to here.
const PROVISIONAL: u32 = 1 << 31;

/// Where the variants stand that the tracer is told to have met, out of the way of both ends.
const MET: u32 = 1 << 30;

/// All that a type consists of: each variant of each enum that can be met in it.
///
/// The tracer follows one variant of each enum, and goes into an option or a list only the first time. So each pass begins with a new one, which is told
/// which variants to go by. Each enum is gone through once, on the way on which it was first met, so there are as many passes as there are variants.
fn traced<T: DeserializeOwned>() -> serde_reflection::Result<(Format, Registry)> {
    let (format, found) = pass::<T>(&Passed::new());
    let format = format?;
    let (mut types, mut opened, mut passes) = (Registry::new(), Vec::new(), 0);
    take_found(found, &Passed::new(), &mut types, &mut opened);
    while let Some(Opened { name, variants, mut passed }) = opened.pop() {
        for at in 1..variants {
            let Some(ContainerFormat::Enum(known)) = types.get(&name) else { break };
            let Some(last) = known.get(&(at - 1)).map(|variant| variant.name.clone()) else { break };
            passed.entry(name.clone()).or_default().push(last);
            if passes == PASSES_MAX {
                return Ok((format, types));
            }
            passes += 1;
            // A variant that checks its input, or leads round without end, is known as far as it let itself be traced; the others are not the worse for it.
            let (passed_on, found) = pass::<T>(&passed);
            if let Err(error) = passed_on
                && needs_names(&error)
            {
                return Err(error);
            }
            take_found(found, &passed, &mut types, &mut opened);
        }
    }
    Ok((format, types))
}

/// Goes through a type once. What it met on the way is there also where it came to no end.
///
/// An enum that is met within itself is gone through by its first variant, however often. If that contains the enum too, the tracer would go on until the
/// stack is spent: so it goes to a certain depth only.
fn pass<T: DeserializeOwned>(passed: &Passed) -> (serde_reflection::Result<Format>, Registry) {
    let (mut tracer, mut samples) = (Tracer::new(config()), Samples::new());
    for (name, variants) in passed {
        for (place, variant) in (MET..).zip(variants) {
            let met = Met { name: lasting(name), place, variant: lasting(variant) };
            if let Err(error) = tracer.trace_value(&mut samples, &met) {
                return (Err(error), tracer.registry_unchecked());
            }
        }
    }
    let format = tracer.trace_type_once::<Bounded<T>>(&samples).map(|(format, _)| format);
    (format, tracer.registry_unchecked())
}

/// Adds what a pass found to what is known. Of enums that were not known yet the further variants are to be seen.
fn take_found(found: Registry, passed: &Passed, types: &mut Registry, opened: &mut Vec<Opened>) {
    for (name, container) in found {
        match container {
            ContainerFormat::Enum(variants) => {
                let at = passed.get(&name).map_or(0, |passed| passed.len() as u32);
                let Some((number, variant)) = variants.into_iter().find(|(number, _)| *number >= PROVISIONAL) else { continue };
                let known = types.entry(name.clone()).or_insert_with(|| {
                    // The first of them has the lowest number, the last one the highest there is.
                    opened.push(Opened { name, variants: (u32::MAX - number).saturating_add(1), passed: passed.clone() });
                    ContainerFormat::Enum(BTreeMap::new())
                });
                if let ContainerFormat::Enum(known) = known {
                    known.entry(at).or_insert(variant);
                }
            }
            other => {
                // serde gives names without their modules: another type of that name is known beside the first.
                let names = std::iter::once(name.clone()).chain((2..).map(|nth| format!("{name} {nth}")));
                let free = names.into_iter().find(|name| types.get(name).is_none_or(|known| is_same_container(known, &other)));
                if let Some(name) = free {
                    types.entry(name).or_insert(other);
                }
            }
        }
    }
}

/// A variant that the tracer shall take for met: it goes by what it has seen a value of.
struct Met {
    name: &'static str,
    place: u32,
    variant: &'static str,
}

impl Serialize for Met {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit_variant(self.name, self.place, self.variant)
    }
}

/// A name as serde wants it. They are those of the program's own enums and variants, each kept once, however many protocols are built.
fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name).copied() {
        return known;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    name
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
    fn a_client_is_told_of_each_name_what_differs_and_a_store_what_has_changed() {
        let describe = |names: &[(&str, u32)]| Description {
            names: names
                .iter()
                .map(|(name, shape)| DescribedName { what: "component".to_owned(), name: (*name).to_owned(), shape: *shape })
                .collect(),
        };
        let ours = describe(&[("a", 1), ("b", 2)]);
        assert_eq!(ours.differences(&ours), Vec::<String>::new());
        let told = |theirs: &[(&str, u32)]| ours.differences(&describe(theirs)).join("; ");
        assert_eq!(told(&[("a", 1), ("b", 3)]), "component \"b\" differs: client 00000002, server 00000003");
        assert_eq!(told(&[("a", 1)]), "component \"b\" is unknown to the server");
        assert_eq!(told(&[("a", 1), ("b", 2), ("c", 3)]), "component \"c\" is missing on the client");
        let turned = told(&[("b", 2), ("a", 1)]);
        assert!(turned.contains("\"a\" is registered in another order: client 0, server 1") && turned.contains("\"b\""), "{turned}");
        // Where names are missing their places differ for that reason.
        assert_eq!(told(&[("c", 3), ("a", 1), ("b", 2)]), "component \"c\" is missing on the client");
        let since = |before: &[(&str, u32)]| ours.changes_since(&describe(before)).join("; ");
        assert_eq!(since(&[("b", 2), ("a", 1)]), "the names are the same, in another order");
        assert_eq!(since(&[("a", 1), ("b", 3)]), "component \"b\" is stored with other fields than it has now");
        assert_eq!(since(&[("a", 1), ("c", 2)]), "component \"c\" is stored, but not in the protocol; component \"b\" is new");
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
        assert!(shape_of::<hidden::Holder>().endless);
    }

    /// A type behind the last variant of an enum, which is in a list behind the last variant of another one.
    macro_rules! behind_variants {
        ($module:ident, $deep:ty) => {
            #[expect(dead_code, reason = "only its shape matters")]
            mod $module {
                #[derive(serde::Deserialize)]
                pub(super) enum Inner {
                    Nothing,
                    Checked(std::num::NonZeroU8),
                    Deep { deep: $deep },
                }
                #[derive(serde::Deserialize)]
                pub(super) enum Outer {
                    Plain,
                    Again(Box<Outer>),
                    Inner(Vec<Option<Inner>>),
                }
                #[derive(serde::Deserialize)]
                pub(super) struct Holder {
                    pub(super) kept: Option<Outer>,
                    pub(super) named: std::collections::BTreeMap<String, Outer>,
                }
            }
        };
    }
    behind_variants!(bytes, u8);
    behind_variants!(words, u16);
    behind_variants!(hidden, Vec<()>);

    /// Two types of one name, behind two variants.
    macro_rules! of_one_name {
        ($module:ident, $aim:ty) => {
            #[expect(dead_code, reason = "only its shape matters")]
            mod $module {
                mod walk {
                    #[derive(serde::Deserialize)]
                    pub(in super::super) struct Params {
                        speed: u8,
                    }
                }
                mod fire {
                    #[derive(serde::Deserialize)]
                    pub(in super::super) struct Params {
                        aim: $aim,
                    }
                }
                #[derive(serde::Deserialize)]
                pub(super) enum Action {
                    Walk(walk::Params),
                    Fire(fire::Params),
                }
            }
        };
    }
    of_one_name!(coarse, f32);
    of_one_name!(fine, f64);

    #[test]
    fn a_type_that_has_the_name_of_another_is_part_of_the_shape_too() {
        let shape = shape_of::<coarse::Action>().text;
        assert!(shape.contains("\"speed\"") && shape.contains("\"aim\""), "{shape}");
        assert_ne!(shape, shape_of::<fine::Action>().text);
    }

    #[test]
    fn every_variant_of_every_enum_is_part_of_the_shape() {
        let shape = shape_of::<bytes::Holder>().text;
        assert_ne!(shape, shape_of::<words::Holder>().text);
        assert_ne!(shape_of::<bytes::Outer>().text, shape_of::<words::Outer>().text);
        for variant in [r#"0: Named { name: "Nothing""#, r#"1: Named { name: "Checked""#, r#"2: Named { name: "Deep""#] {
            assert!(shape.contains(variant), "{variant} is not in {shape}");
        }
        assert!(shape.contains(r#"2: Named { name: "Inner", value: NewType(Seq(Option(TypeName("Inner"))))"#), "{shape}");
        assert_eq!(shape, shape_of::<bytes::Holder>().text, "it is the same each time");
        assert!(!shape.contains("42949672"), "the tracer's own numbers are not in {shape}");
    }

    #[test]
    fn what_has_no_enum_within_it_is_described_as_at_first_sight() {
        assert_eq!(shape_of::<One>().text, shape_at_first_sight::<One>().text);
        assert_eq!(shape_of::<Which>().text, shape_at_first_sight::<Which>().text);
        assert_eq!(shape_of::<Skipped>().text, shape_at_first_sight::<Skipped>().text);
    }

    /// Types that contain themselves in the first variant.
    #[expect(dead_code, reason = "only their shapes matter")]
    mod winding {
        use std::collections::BTreeMap;

        use serde::Deserialize;

        #[derive(Deserialize)]
        pub(super) enum Node {
            Sequence(Vec<Node>),
            Act(u8),
        }
        #[derive(Deserialize)]
        pub(super) enum Ai {
            None,
            Tree(Node),
            Fixed { steps: u16 },
        }
        #[derive(Deserialize)]
        pub(super) struct Brain {
            pub(super) ai: Ai,
        }
        #[derive(Deserialize)]
        pub(super) enum Twig {
            Fork(Box<Twig>, Box<Twig>),
            Named { twigs: BTreeMap<String, Twig>, last: Option<Box<Twig>> },
        }
        #[derive(Deserialize)]
        pub(super) struct Ring(Box<Ring>);
        #[derive(Deserialize)]
        pub(super) struct Chain {
            pub(super) next: Option<Box<Chain>>,
            pub(super) links: Vec<Chain>,
        }
    }

    #[test]
    fn a_type_that_contains_itself_in_its_first_variant_is_traced_as_far_as_it_goes() {
        let shape = shape_of::<winding::Brain>().text;
        let ai = [r#"0: Named { name: "None", value: Unit"#, r#"1: Named { name: "Tree", value: NewType(TypeName("Node"))"#];
        let node =
            [r#"0: Named { name: "Sequence", value: NewType(Seq(TypeName("Node")))"#, r#"1: Named { name: "Act", value: NewType(U8)"#];
        for variant in ai.into_iter().chain(node).chain([r#"2: Named { name: "Fixed""#]) {
            assert!(shape.contains(variant), "{variant} is not in {shape}");
        }
        assert_eq!(shape, shape_of::<winding::Brain>().text, "it is the same each time");
    }

    #[test]
    fn a_type_that_can_only_be_made_without_end_is_described_by_its_name() {
        assert_eq!(shape_of::<winding::Node>().text, "Node");
        assert_eq!(shape_of::<Vec<winding::Node>>().text, "Vec");
        assert_eq!(shape_of::<winding::Twig>().text, "Twig");
        assert_eq!(shape_of::<winding::Ring>().text, "Ring");
    }

    #[test]
    fn a_deep_type_that_ends_is_traced_whole() {
        type Four<T> = ((((T,),),),);
        type Sixteen<T> = Four<Four<Four<Four<T>>>>;
        let shape = shape_of::<Sixteen<Sixteen<Sixteen<u8>>>>().text;
        assert_eq!(shape.matches("Tuple").count(), 48, "{shape}");
        assert!(shape.contains("U8"), "{shape}");
        let shape = shape_of::<winding::Chain>().text;
        assert!(shape.contains(r#""next", value: Option(TypeName("Chain"))"#), "{shape}");
        assert!(shape.contains(r#""links", value: Seq(TypeName("Chain"))"#), "{shape}");
    }

    #[test]
    fn entities_within_a_type_are_traced_as_numbers() {
        type Links = (Entity, Option<Entity>, Vec<Entity>, BTreeMap<Entity, Vec<Entity>>);
        let shape = shape_of::<Links>().text;
        assert!(shape.contains("U64, Option(U64), Seq(U64), Map { key: U64, value: Seq(U64) }"), "{shape}");
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
