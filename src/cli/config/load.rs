//! Puts a configuration together: defaults, the file, the environment, flags, each over the ones before. Notes where each value
//! came from, and finds all that is wrong, not only the first.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::form::Given;
use super::keys::{Key, ROOM, SECTIONS, TEMPLATE, nearest, variable};
use super::settings::{Config, Room, Template};
use crate::protocol::limits::NAME_BYTES_MAX;
use crate::store::names_postgres;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Default,
    File { name: Arc<str>, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{}:{line}", name.escape_debug()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Something that is wrong with a configuration: where it stands, what stands there, what is wanted. Displayed it is one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[error("{origin}: {what}")]
pub struct ConfigError {
    pub(super) origin: Origin,
    pub(super) what: String,
}

/// What a flag says of a key. `*` for a template stands for all of them.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    pub(super) path: String,
    pub(super) flag: String,
    pub(super) given: Given,
}

/// All that a configuration is put together from.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// The file's name and its text.
    pub(super) file: Option<(String, String)>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) flags: Vec<Flag>,
    /// The rooms that flags open instead of the file's, and besides.
    pub(super) room: Option<String>,
    pub(super) also: Vec<String>,
    /// The game's own level.
    pub(super) level: Option<PathBuf>,
}

/// A configuration, and where its values came from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Loaded {
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }
}

/// What is found on the way.
#[derive(Default)]
struct Notes {
    origins: BTreeMap<String, Origin>,
    wrong: Vec<ConfigError>,
    /// The keys whose values are wrong: nothing follows from what stands in their places.
    unread: Vec<String>,
}

impl Notes {
    fn wrong(&mut self, origin: Origin, what: impl Into<String>) {
        self.wrong.push(ConfigError { origin, what: what.into() });
    }

    /// Puts a value in its place.
    fn take<T>(&mut self, into: &mut T, key: &Key<T>, path: &str, given: &Given, origin: Origin) {
        match (key.read)(into, given) {
            Ok(()) => {
                self.origins.insert(path.to_owned(), origin);
            }
            Err(wanted) => {
                self.unread.push(path.to_owned());
                let given = if key.is_secret { String::new() } else { format!(" = {given}") };
                self.wrong(origin, format!("{path}{given}: {wanted}"));
            }
        }
    }
}

/// Puts a configuration together.
///
/// # Errors
/// All that is wrong, in the order of the file.
pub(super) fn resolve(sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let mut config = Config::new(sources.level.clone());
    let mut notes = Notes::default();
    if let Some((name, text)) = &sources.file {
        let folder = Path::new(name).parent().map(Path::to_owned).unwrap_or_default();
        let level = sources.level.clone();
        File { name: name.as_str().into(), text, folder, level }.read(&mut config, &mut notes);
    }
    environment(&sources.environment, &mut config, &mut notes);
    for flag in &sources.flags {
        let origin = Origin::Flag(flag.flag.clone());
        by_path(&flag.path, &flag.given, &origin, &mut config, &mut notes);
    }
    rooms_of_flags(sources, &mut config, &mut notes);
    let mut loaded = Loaded { config, origins: std::mem::take(&mut notes.origins) };
    super::agree::agree(&mut loaded, &notes.unread, &mut notes.wrong);
    notes.wrong.sort();
    notes.wrong.dedup();
    if notes.wrong.is_empty() { Ok(loaded) } else { Err(notes.wrong) }
}

fn rooms_of_flags(sources: &Sources, config: &mut Config, notes: &mut Notes) {
    if let Some(name) = &sources.room {
        config.rooms.clear();
        notes.origins.retain(|path, _| !path.starts_with("rooms["));
        room_of_flag(name, "--room", config, notes);
    }
    for name in &sources.also {
        room_of_flag(name, "--also", config, notes);
    }
}

fn room_of_flag(name: &str, flag: &str, config: &mut Config, notes: &mut Notes) {
    let mut room = Room::named("");
    let path = format!("rooms[{}].name", config.rooms.len());
    if let Some(key) = ROOM.first() {
        notes.take(&mut room, key, &path, &Given::plain(name), Origin::Flag(flag.to_owned()));
    }
    config.rooms.push(room);
}

/// Takes from the environment what is in it.
fn environment(variables: &BTreeMap<String, String>, config: &mut Config, notes: &mut Notes) {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for path in paths(config) {
        known.insert(variable(&path), path);
    }
    // All verbs know the filter by a shorter name; the long one is said last, and counts.
    let short = ("ROOMKEEPER_LOG".to_owned(), "log.filter".to_owned());
    for (name, path) in std::iter::once(&short).map(|(name, path)| (name, path)).chain(&known) {
        if let Some(text) = variables.get(name).filter(|text| !is_of_kubernetes(name, text)) {
            by_path(path, &Given::plain(text), &Origin::Variable(name.clone()), config, notes);
        }
    }
    let sections = SECTIONS.iter().map(|section| section.name).chain(["templates"]);
    let prefixes: Vec<String> = sections.map(|section| format!("{}_", variable(section))).collect();
    let is_ours = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix)) && !known.contains_key(name);
    for (name, _) in variables.iter().filter(|(name, text)| is_ours(name) && !is_of_kubernetes(name, text)) {
        let meant = nearest(name, known.keys().map(String::as_str));
        notes.wrong(Origin::Variable(name.clone()), format!("there is no such key{}", did_you_mean(meant)));
    }
}

/// True of what Kubernetes tells each container of the services beside it, one of which may be called roomkeeper-store: by its name and its value.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    let is_protocol = |text: &str| ["tcp", "udp", "sctp"].contains(&text);
    let is_url = value.split_once("://").is_some_and(|(protocol, _)| is_protocol(protocol));
    let is_address = value.parse::<IpAddr>().is_ok();
    if name.ends_with("_SERVICE_HOST") {
        return is_address;
    }
    if name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return is_number(value);
    }
    if name.ends_with("_PORT") && is_url {
        return true;
    }
    // As _PORT_5432_TCP, or _PORT_5432_TCP_ADDR.
    let Some((_, port)) = name.rsplit_once("_PORT_") else { return false };
    let words: Vec<&str> = port.split('_').collect();
    let (number, protocol, fits) = match words[..] {
        [number, protocol] => (number, protocol, is_url),
        [number, protocol, "PROTO"] => (number, protocol, is_protocol(value)),
        [number, protocol, "PORT"] => (number, protocol, is_number(value)),
        [number, protocol, "ADDR"] => (number, protocol, is_address),
        _ => return false,
    };
    fits && is_number(number) && is_protocol(&protocol.to_ascii_lowercase())
}

/// The paths of all keys that have a fixed one.
fn paths(config: &Config) -> Vec<String> {
    let sections = SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| format!("{}.{}", section.name, key.name)));
    let templates = config.templates.keys().flat_map(|name| TEMPLATE.iter().map(move |key| format!("templates.{name}.{}", key.name)));
    sections.chain(templates).collect()
}

/// Puts a value in the place that a path names.
fn by_path(path: &str, given: &Given, origin: &Origin, config: &mut Config, notes: &mut Notes) {
    let (section, name) = path.split_once('.').unwrap_or((path, ""));
    if section == "templates" {
        let (template, name) = name.rsplit_once('.').unwrap_or(("", name));
        if let Some(key) = TEMPLATE.iter().find(|key| key.name == name) {
            let mut found = false;
            for (known, place) in config.templates.iter_mut().filter(|(known, _)| template == "*" || *known == template) {
                found = true;
                notes.take(place, key, &format!("templates.{known}.{name}"), given, origin.clone());
            }
            if found {
                return;
            }
        }
    }
    let keys = SECTIONS.iter().find(|known| known.name == section).map(|section| section.keys);
    match keys.and_then(|keys| keys.iter().find(|key| key.name == name)) {
        Some(key) => notes.take(config, key, path, given, origin.clone()),
        None => {
            let known = paths(config);
            let meant = nearest(path, known.iter().map(String::as_str));
            notes.wrong(origin.clone(), format!("there is no key {path:?}{}", did_you_mean(meant)));
        }
    }
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The file, as it is read.
struct File<'a> {
    name: Arc<str>,
    text: &'a str,
    /// What its relative paths are relative to.
    folder: PathBuf,
    level: Option<PathBuf>,
}

impl File<'_> {
    fn at(&self, offset: usize) -> Origin {
        let line = 1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        Origin::File { name: self.name.clone(), line }
    }

    fn read(&self, config: &mut Config, notes: &mut Notes) {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            notes.wrong(self.at(error.span().map_or(0, |span| span.start)), message);
        }
        // What was understood in spite of them may be something else than was meant.
        if !errors.is_empty() {
            return;
        }
        for (key, value) in document.get_ref() {
            let (name, origin) = (key.get_ref().as_ref(), self.at(key.span().start));
            match (name, SECTIONS.iter().find(|section| section.name == name)) {
                (_, Some(section)) => self.table(value, section.name, section.keys, config, notes, &origin),
                ("templates", _) => self.templates(value, config, notes, &origin),
                ("rooms", _) => self.rooms(value, config, notes, &origin),
                _ => {
                    let known = SECTIONS.iter().map(|section| section.name).chain(["templates", "rooms"]);
                    notes.wrong(origin, unknown("", name, known));
                }
            }
        }
    }

    /// Reads the keys of one table.
    fn table<T>(&self, value: &Spanned<DeValue<'_>>, path: &str, keys: &[Key<T>], into: &mut T, notes: &mut Notes, origin: &Origin) {
        let Some(table) = value.get_ref().as_table() else {
            return notes.wrong(origin.clone(), format!("{path} = {}: a table is wanted, [{path}]", Given::of(value.get_ref())));
        };
        for (name, value) in table {
            let (word, origin) = (name.get_ref().as_ref(), self.at(name.span().start));
            let Some(key) = keys.iter().find(|key| key.name == word) else {
                notes.wrong(origin, unknown(path, word, keys.iter().map(|key| key.name)));
                continue;
            };
            let given = match Given::of(value.get_ref()) {
                Given::Text(text) if key.is_path && !text.is_empty() && !names_postgres(Path::new(&text)) => {
                    Given::Text(self.folder.join(text).to_string_lossy().into_owned())
                }
                given => given,
            };
            notes.take(into, key, &format!("{path}.{word}"), &given, self.at(value.span().start));
        }
    }

    fn templates(&self, value: &Spanned<DeValue<'_>>, config: &mut Config, notes: &mut Notes, origin: &Origin) {
        let Some(table) = value.get_ref().as_table() else {
            return notes.wrong(origin.clone(), "templates: tables are wanted, as [templates.dungeon]");
        };
        for (name, value) in table {
            let (name, origin) = (name.get_ref().as_ref(), self.at(name.span().start));
            let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
            // No underscore: the name is part of the names of variables, where another template's could begin with it.
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_word) {
                notes.wrong(origin, format!("templates.{name:?}: a name of small letters, digits and hyphens is wanted"));
                continue;
            }
            let path = format!("templates.{name}");
            let template = config.templates.entry(name.to_owned()).or_insert_with(|| Template::new(self.level.clone()));
            notes.origins.insert(path.clone(), origin.clone());
            self.table(value, &path, TEMPLATE, template, notes, &origin);
        }
    }

    fn rooms(&self, value: &Spanned<DeValue<'_>>, config: &mut Config, notes: &mut Notes, origin: &Origin) {
        let Some(list) = value.get_ref().as_array() else {
            return notes.wrong(origin.clone(), "rooms: tables are wanted, as [[rooms]]");
        };
        if list.is_empty() {
            return notes.wrong(origin.clone(), "rooms = []: at least one room is wanted");
        }
        config.rooms.clear();
        for (at, value) in list.iter().enumerate() {
            let (path, origin) = (format!("rooms[{at}]"), self.at(value.span().start));
            let mut room = Room::named("");
            self.table(value, &path, ROOM, &mut room, notes, &origin);
            if value.get_ref().as_table().is_some_and(|table| !table.contains_key("name")) {
                notes.wrong(origin, format!("{path}: name is wanted"));
            }
            config.rooms.push(room);
        }
    }
}

fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    let meant = nearest(name, known.clone());
    let all = || format!("; known are {}", known.collect::<Vec<_>>().join(", "));
    let hint = if meant.is_some() { did_you_mean(meant) } else { all() };
    format!("there is no key {path}{dot}{name}{hint}")
}
