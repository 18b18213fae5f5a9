//! What can go wrong with what is kept.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::{CodecError, RoomTick, StateError};

/// What is wrong with a store, and where.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refuses.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// SQLite refuses.
    #[error("{what}: {error}")]
    Sqlite {
        /// What was tried.
        what: &'static str,
        /// What it says.
        error: rusqlite::Error,
    },
    /// PostgreSQL refuses, or can't be reached.
    #[error("{what}: {detail}")]
    Postgres {
        /// What was tried.
        what: &'static str,
        /// What it says. Never a password.
        detail: String,
        /// The five characters by which it names the kind of error, if it was the database that said so.
        code: Option<String>,
    },
    /// PostgreSQL does not answer. What was to be written may be written all the same: its last flush tells.
    #[error("{what}: the database did not answer within {waited:?}")]
    Silent {
        /// What was tried.
        what: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// A database in which rooms can't be kept.
    #[error("{place}: {detail}")]
    Unfit {
        /// The database, without a password.
        place: String,
        /// Why not.
        detail: String,
    },
    /// Another process writes there.
    #[error("{place} is being written by another process; stop it first")]
    Served {
        /// The database, and who writes.
        place: String,
    },
    /// A room was to be deleted that a host has.
    #[error("room {room:?} is served by host {host:?}: it can be deleted once it has ended there")]
    Held {
        /// The room.
        room: String,
        /// The host's name.
        host: String,
    },
    /// Rooms were to be written that are not, or no longer, leased to this host. Nothing of them is written.
    #[error("not leased to this host any more: {}", .rooms.join(", "))]
    Lost {
        /// Their names.
        rooms: Vec<String>,
    },
    /// The database knows less than it once said it had stored: another server took its place that had not got everything.
    #[error(
        "the database has gone back to flush {found}, and flush {stored} was stored once: what lies between is lost; start again to go on from what it has"
    )]
    WentBack {
        /// The last flush that it has.
        found: u64,
        /// The last flush that was stored.
        stored: u64,
    },
    /// The address of a PostgreSQL is given to a build without the feature for it.
    #[error("this build knows no PostgreSQL: build it with roomkeeper's feature `postgres`, or name a folder")]
    NoPostgres,
    /// Another process has the data open for writing.
    #[error("{0} is being served by another process; stop it first")]
    Locked(PathBuf),
    /// There is nothing.
    #[error("there is no data in {0}")]
    Missing(PathBuf),
    /// The file is none of ours.
    #[error("{0} is no data of roomkeeper's (its application id is {1})")]
    Foreign(PathBuf, i64),
    /// A later version wrote it.
    #[error("the data has the layout {found}, this version knows up to {known}; use the version that wrote it, or a later one")]
    Newer {
        /// The layout of the file.
        found: i64,
        /// The layout that this version writes.
        known: i64,
    },
    /// What was read is not what was written.
    #[error("the data of room {room:?} is damaged: {what}: {detail}")]
    Damaged {
        /// The room.
        room: String,
        /// Which row.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no such room.
    #[error("there is no room {room:?}; there are: {known}")]
    NoRoom {
        /// The name that was asked for.
        room: String,
        /// The names there are.
        known: String,
    },
    /// There is no such snippet.
    #[error("room {room:?} has no snippet {label:?}; it has: {known}")]
    NoSnippet {
        /// The room.
        room: String,
        /// The name that was asked for.
        label: String,
        /// The names there are.
        known: String,
    },
    /// A tick is asked for that is not there.
    #[error("room {room:?} has no tick {tick}: what is kept goes from {first} to {last}")]
    NoTick {
        /// The room.
        room: String,
        /// The tick.
        tick: RoomTick,
        /// The first that is kept.
        first: RoomTick,
        /// The last there is.
        last: RoomTick,
    },
    /// What is stored was written by another protocol, and can't be read by this one.
    #[error("room {room:?} was stored by another protocol: {}", .differences.join("; "))]
    Protocol {
        /// The room.
        room: String,
        /// What differs, a line for each name.
        differences: Vec<String>,
    },
    /// What is stored does not follow from what is stored before it.
    #[error("room {room:?}, tick {tick}: {error}")]
    State {
        /// The room.
        room: String,
        /// The tick.
        tick: RoomTick,
        /// What does not fit.
        error: StateError,
    },
    /// A value can't be read or written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The writer has stopped: its thread is gone.
    #[error("the store's writer has stopped")]
    Stopped,
}

/// What is said of a row that is not what was written.
pub(crate) const CHECKSUM: &str = "its checksum does not agree";

impl StoreError {
    /// True if the data itself is damaged: to try again is of no use.
    pub fn is_damage(&self) -> bool {
        let code = match self {
            Self::Sqlite { error, .. } => error.sqlite_error_code(),
            _ => None,
        };
        let damaged = [Some(rusqlite::ErrorCode::DatabaseCorrupt), Some(rusqlite::ErrorCode::NotADatabase)];
        // XX001 and XX002: PostgreSQL found damage in its own files.
        let found_by_postgres = matches!(self, Self::Postgres { code: Some(code), .. } if code == "XX001" || code == "XX002");
        matches!(self, Self::Damaged { .. } | Self::WentBack { .. }) || found_by_postgres || (code.is_some() && damaged.contains(&code))
    }

    pub(crate) fn damaged(room: &str, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { room: room.to_owned(), what: what.into(), detail: detail.into() }
    }

    pub(crate) fn sqlite(what: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |error| Self::Sqlite { what, error }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// What an error says, with the reasons behind it, in one line. A reason that it names itself is not said again.
#[cfg(any(feature = "postgres", feature = "nats"))]
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let reason_text = reason.to_string();
        if !detail.ends_with(&reason_text) {
            detail = format!("{detail}: {reason_text}");
        }
        source = reason.source();
    }
    detail.replace('\n', "; ")
}
