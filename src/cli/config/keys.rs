//! Every key: its name, the place of its value, what it may be.

use super::form::{
    Address, Addresses, Bytes, Bytes32, Chance, Conditions, Count, Filter, Fitting, Form, Given, Many, OneOf, Path, Perhaps, RoomName,
    Switch, Ticks, Time, Words,
};
use super::settings::{Config, Room, Template};
use crate::cli::options::Survives;
use crate::host::LogFormat;
use crate::protocol::limits::NAME_BYTES_MAX;
use crate::store::{is_prefix, is_stream};

const DAY_TICKS: u32 = 24 * 60 * 60 * 20;
const HOUR_MILLIS: u64 = 60 * 60 * 1_000;

/// A key of a section.
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    /// Puts a value in its place, or says what is wanted.
    pub(super) read: fn(&mut T, &Given) -> Result<(), String>,
    /// The value as TOML; nothing if it is not set.
    pub(super) write: fn(&T) -> Option<String>,
    /// True if a file's relative paths are meant.
    pub(super) is_path: bool,
    /// True if it may hold a password: what is wrong with a value is told without it.
    pub(super) is_secret: bool,
}

/// A section of the file.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key<Config>],
}

macro_rules! key {
    ($name:literal, $form:expr, $($place:ident).+) => {
        Key { is_path: false, ..key!(path $name, $form, $($place).+) }
    };
    (secret $name:literal, $form:expr, $($place:ident).+) => {
        Key { is_secret: true, ..key!($name, $form, $($place).+) }
    };
    (path $name:literal, $form:expr, $($place:ident).+) => {
        Key {
            name: $name,
            read: |all, given| $form.read(given).map(|value| all.$($place).+ = value),
            write: |all| $form.write(&all.$($place).+),
            is_path: true,
            is_secret: false,
        }
    };
}

pub(super) const SECTIONS: &[Section] = &[
    Section {
        name: "listen",
        keys: &[
            key!("bind", Address, listen.bind),
            key!("public_addresses", Addresses(32), listen.public_addresses),
            key!("gateway_threads", Count(0, 16), listen.gateway_threads),
            key!("websocket", Perhaps(Address), listen.websocket),
            key!(path "key", Path, listen.key),
            key!("allow_unauthenticated", Switch, listen.allow_unauthenticated),
        ],
    },
    Section {
        name: "limits",
        keys: &[
            key!("sessions_max", Many(1, 65_536), limits.sessions_max),
            key!("members_per_room_max", Many(1, 65_536), limits.members_per_room_max),
            key!("rooms_max", Many(1, 1_000_000), limits.rooms_max),
            key!("commands_waiting_max", Many(1, 2_048), limits.commands_waiting_max),
            key!("queue_bytes_max", Bytes(256 << 10, 1 << 30), limits.queue_bytes_max),
            key!("bytes_per_second_max", Bytes32(12 << 10, 1 << 30), limits.bytes_per_second_max),
            key!("mistakes_max", Count(0, 1_000_000), limits.mistakes_max),
            key!("resync_ticks_min", Ticks(0, DAY_TICKS), limits.resync_ticks_min),
            key!("replay_bytes_max", Bytes(0, 1 << 30), limits.replay_bytes_max),
            key!("seat_ticks", Ticks(0, 7 * DAY_TICKS), limits.seat_ticks),
            key!("grace_ticks", Ticks(0, 7 * DAY_TICKS), limits.grace_ticks),
            key!("pasts_max", Many(0, 65_536), limits.pasts_max),
            key!("spectators_behind_min", Ticks(0, DAY_TICKS), limits.spectators_behind_min),
            key!("clients_max", Many(1, 256), gateway.clients_max),
            key!("datagrams_per_tick_max", Count(1, 65_536), gateway.datagrams_per_tick_max),
            key!("messages_per_tick_max", Count(1, 65_536), gateway.messages_per_tick_max),
            key!("requests_per_second", Count(1, 1_000_000), gateway.requests_per_second),
            key!("requests_burst", Count(1, 1_000_000), gateway.requests_burst),
            key!("pending_max", Many(1, 65_536), gateway.pending_max),
            key!("clients_per_address_max", Many(1, 65_536), gateway.clients_per_address_max),
        ],
    },
    Section {
        name: "hosting",
        keys: &[
            key!("room_threads", Count(0, 256), hosting.room_threads),
            key!("rest_after", Perhaps(Time(1_000, 30 * 24 * HOUR_MILLIS)), hosting.rest_after),
            key!(path "bans", Path, hosting.bans),
        ],
    },
    Section {
        name: "share",
        keys: &[
            key!("host", Perhaps(Words(NAME_BYTES_MAX)), share.host),
            key!("address", Perhaps(Address), share.address),
            key!("lease", Time(1_000, HOUR_MILLIS), share.lease),
        ],
    },
    Section {
        name: "admin",
        keys: &[
            key!("bind", Perhaps(Address), admin.bind),
            key!(path "key", Path, admin.key),
            key!(path "token_key", Path, admin.token_key),
        ],
    },
    Section {
        name: "agones",
        keys: &[
            key!("port", Perhaps(Count(1, 65_535)), agones.port),
            key!("ready_again_after", Perhaps(Time(1_000, 24 * HOUR_MILLIS)), agones.ready_again_after),
        ],
    },
    Section {
        name: "store",
        keys: &[
            key!(path "data", Path, store.data),
            key!("survives", SURVIVES, store.survives),
            key!("seal_always", Switch, store.seal_always),
            key!("buffer", Bytes(64 << 10, 16 << 30), store.writer.buffer_bytes_max),
            key!("flush_every", Time(1, 60_000), store.writer.flush_every),
            key!("seal_every_flushes", Count(1, 100_000), store.writer.seal_every),
            key!("components_every_ticks", Ticks(1, DAY_TICKS), store.writer.components_every),
            key!("checkpoint_every_ticks", Ticks(1, DAY_TICKS), store.writer.checkpoint_every),
        ],
    },
    Section {
        name: "nats",
        keys: &[
            key!(secret "url", Perhaps(NATS), nats.url),
            key!("stream", STREAM, nats.stream),
            key!("prefix", PREFIX, nats.prefix),
            key!(path "credentials", Path, nats.credentials),
        ],
    },
    Section { name: "link", keys: &[key!("conditions", Conditions, link.conditions), key!("seed", Count(0, i64::MAX as u64), link.seed)] },
    Section {
        name: "log",
        keys: &[key!("filter", Filter, log.filter), key!("format", FORMATS, log.format), key!("story", Switch, log.story)],
    },
    Section {
        name: "stop",
        keys: &[key!("announce", Time(0, HOUR_MILLIS), stop.announce), key!("within", Time(1_000, HOUR_MILLIS), stop.within)],
    },
];

/// The keys of a template.
pub(super) const TEMPLATE: &[Key<Template>] = &[
    key!(path "level", Path, level),
    key!("seed", Chance, seed),
    key!("capacity", Perhaps(Many(1, 65_536)), capacity),
    key!("notes", Switch, notes),
    key!("check", Switch, check),
    key!("deny_ambiguity", Switch, deny_ambiguity),
    key!("on_demand", Switch, on_demand),
    key!("listed", Switch, listed),
    key!("delete_after", Perhaps(Time(1_000, 3_650 * 24 * HOUR_MILLIS)), delete_after),
];

/// The keys of a room.
pub(super) const ROOM: &[Key<Room>] = &[key!("name", RoomName, name), key!("template", Words(NAME_BYTES_MAX), template)];

const SURVIVES: OneOf<Survives> = OneOf(&[("process-crash", Survives::ProcessCrash), ("power-loss", Survives::PowerLoss)]);

const FORMATS: OneOf<LogFormat> = OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

const NATS: Fitting = Fitting(
    |text| text.len() <= 1_024 && text.split(',').all(|part| ["nats://", "tls://"].iter().any(|scheme| part.trim().starts_with(scheme))),
    "an address as \"nats://host:4222\" or \"tls://host:4222\", or several with commas between them,",
);

const STREAM: Fitting = Fitting(is_stream, "a name of letters, digits, - and _");

const PREFIX: Fitting = Fitting(is_prefix, "the beginning of subjects, as \"roomkeeper.facts\", without wildcards and spaces,");

/// The name of the environment's variable for a key, by its path.
pub(super) fn variable(path: &str) -> String {
    format!("ROOMKEEPER_{}", path.replace(['.', '-'], "_").to_uppercase())
}

/// What of the known was meant, if anything is near.
pub(super) fn nearest<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|name| (strsim::damerau_levenshtein(asked, name), name)).min();
    near.filter(|(distance, name)| *distance <= 1 + name.len() / 3).map(|(_, name)| name)
}
