//! The store in PostgreSQL: the rooms of one host or of many in one schema of a database, each host writing by one connection.
//!
//! PostgreSQL checks its journal, its pages only if its cluster was made so, and waits for its disk unless somebody told it not to. So each
//! row carries a checksum of its own as in SQLite, and each connection sees to it that a commit is on disk when it returns.
//!
//! What is written by a host with leases is fenced: the transaction that writes locks the leases of its rooms first, so whoever takes a room
//! over waits for it, and it sees whether somebody has. No clock but the database's is asked.

mod connection;
mod delete;
mod directory;
mod rows;
mod schema;
mod tls;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use self::connection::{Connection, refused};
pub use self::directory::PostgresDirectory;
use self::schema::MIGRATIONS;
use self::tls::Tls;
use super::directory::{Leases, Token};
use super::error::StoreError;
use super::tables::RoomKey;

/// The oldest PostgreSQL that knows all that is asked of it.
const OLDEST_VERSION: i32 = 130_000;

/// What session locks of ours begin with: "roke".
const LOCK_SPACE: i32 = 0x726f_6b65;

/// A PostgreSQL that rooms are kept in.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// Where it is and who one is there: `postgres://user@host:5432/database`, or `host=.. user=.. dbname=..`. A password that is not in
    /// it is taken from the environment variable `PGPASSWORD`.
    pub address: String,
    /// The schema that the tables are in. It is made if there is none and the role may. Default: `roomkeeper`.
    pub schema: String,
    /// How long each answer to a writer or a directory may take, connecting included. After that the database is taken to be gone.
    /// Default: 5 s.
    pub patience: Duration,
    /// How long an answer to a reader may take. Default: 60 s.
    pub reading_patience: Duration,
}

impl PostgresOptions {
    /// A database by its address.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            schema: "roomkeeper".to_owned(),
            patience: Duration::from_secs(5),
            reading_patience: Duration::from_secs(60),
        }
    }

    fn config(&self) -> Result<(Config, Tls), StoreError> {
        let (address, tls) = Tls::split(&self.address);
        let parsed: Result<Config, _> = address.parse();
        // The driver's own words may quote what they could not read.
        let mut config = parsed.map_err(|error| match refused("", &error) {
            StoreError::Postgres { detail, .. } if !self.address.contains('@') || !detail.contains('@') => self.unfit(detail),
            _ => self.unfit("this is no address of a PostgreSQL"),
        })?;
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("roomkeeper");
        }
        // A server that is gone without a word is noticed by the system too, while nobody waits for an answer.
        // All hosts that are named are tried in the time that there is for connecting.
        let hosts = u32::try_from(config.get_hosts().len().max(config.get_hostaddrs().len())).unwrap_or(u32::MAX);
        let each = if hosts > 1 { self.patience / hosts.saturating_add(1) } else { self.patience };
        config.connect_timeout(each).tcp_user_timeout(self.patience);
        config.keepalives_idle(Duration::from_secs(5)).keepalives_interval(Duration::from_secs(2)).keepalives_retries(3);
        config.ssl_mode(if tls.wanted { SslMode::Require } else { SslMode::Disable });
        Ok((config, tls))
    }

    /// Where it is, for people: without a password.
    pub fn place(&self) -> String {
        let Ok(config) = Tls::split(&self.address).0.parse::<Config>() else { return "PostgreSQL".to_owned() };
        let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let port = config.get_ports().first().map_or_else(String::new, |port| format!(":{port}"));
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        format!("postgres://{host}{port}/{database}, schema {}", self.schema)
    }

    fn unfit(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Unfit { place: self.place(), detail: detail.into() }
    }

    /// A name within SQL, in quotes.
    fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    /// Connects and tells the session what holds in it.
    fn connect(&self, patience: Duration) -> Result<Connection, StoreError> {
        let (config, tls) = self.config()?;
        let tls = if tls.wanted { Some(tls.connector().map_err(|detail| self.unfit(detail))?) } else { None };
        let mut connection = Connection::open(&config, tls, self.patience)?;
        let what = "the session can't be set up";
        // The server gives up a little earlier than we do, so that it says what it waited for. Who holds locks and falls silent, as a
        // process that was stopped does, is thrown out in time for others to take over.
        let millis = patience.mul_f64(0.9).as_millis();
        let idle = self.patience.as_millis();
        connection.batch(
            what,
            &format!(
                "SET search_path TO {}; SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
                 SET idle_in_transaction_session_timeout = {idle}; SET client_min_messages = warning; SET standard_conforming_strings = on; \
                 SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = {idle}",
                self.quoted_schema()
            ),
        )?;
        // `off` would lose commits with the server's process. What waits for other servers is left as it is.
        let sql = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
        connection.query(what, sql, &[])?;
        connection.set_patience(patience);
        Ok(connection)
    }

    /// The layout of what is there: nothing if there is none.
    fn layout(&self, connection: &mut Connection) -> Result<Option<i64>, StoreError> {
        let what = "the layout can't be read";
        let sql = "SELECT to_regclass('layout')::text, (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1)), \
                   current_setting('server_version_num')::int, current_setting('server_encoding')";
        let rows = connection.query(what, sql, &[&self.quoted_schema()])?;
        let row = rows.first().ok_or_else(|| self.unfit("it says nothing of itself"))?;
        let failed = |error| refused(what, &error);
        let (version, encoding): (i32, String) = (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
        if version < OLDEST_VERSION {
            return Err(self.unfit(format!("PostgreSQL {} is too old: 13 or newer is wanted", version / 10_000)));
        }
        if encoding != "UTF8" {
            return Err(self.unfit(format!("the database's encoding is {encoding}: UTF8 is wanted")));
        }
        let (ours, relations): (Option<String>, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if ours.is_none() {
            return if relations == 0 { Ok(None) } else { Err(self.unfit("the schema has tables that are none of roomkeeper's")) };
        }
        let rows = connection.query(what, "SELECT version FROM layout", &[])?;
        let found: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
        let known = MIGRATIONS.len() as i64;
        if found > known { Err(StoreError::Newer { found, known }) } else { Ok(Some(found)) }
    }

    /// Makes the tables, or brings them up to date.
    fn prepare(&self, connection: &mut Connection) -> Result<(), StoreError> {
        if self.layout(connection)? == Some(MIGRATIONS.len() as i64) {
            return Ok(());
        }
        let what = "a change of the layout";
        connection.transaction(what, |connection| {
            // Hosts that start at the same time do it one after the other.
            connection.query(what, "SELECT pg_advisory_xact_lock($1, 0)", &[&LOCK_SPACE])?;
            if connection.query(what, "SELECT 1 WHERE to_regnamespace($1) IS NOT NULL", &[&self.quoted_schema()])?.is_empty() {
                connection.batch(what, &format!("CREATE SCHEMA {}", self.quoted_schema()))?;
            }
            let layout = self.layout(connection)?.unwrap_or(0);
            for (at, step) in MIGRATIONS.iter().enumerate().skip(usize::try_from(layout).unwrap_or(0)) {
                connection.batch(what, step)?;
                connection.execute(what, "UPDATE layout SET version = $1", &[&(at as i64 + 1)])?;
            }
            Ok(())
        })
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("place", &self.place()).field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// How a store writes, if it does.
#[derive(Debug)]
enum Role {
    /// It does not; snippets can be saved and requests made.
    Reads,
    /// It is the host's one writer. `run` is what the database calls this process, `stored` the last flush that it said is stored.
    Writes { run: Option<String>, stored: u64 },
}

/// A store in PostgreSQL.
///
/// It waits for answers by itself and can't be used from within asynchronous code of tokio's: give it a thread of its own there, or
/// `spawn_blocking`.
#[derive(Debug)]
pub struct PostgresStore {
    options: PostgresOptions,
    /// Empty for a host that is the only one.
    host: String,
    leases: Option<Leases>,
    role: Role,
    /// The names and tokens of rooms as they were when they were opened.
    opened: BTreeMap<RoomKey, (String, Token)>,
    /// Those of them that were found to be another host's.
    lost: BTreeSet<RoomKey>,
    /// Those of which nothing more comes, and the last flush that had anything of them: they are named as long as something of them may be in the journal.
    left: BTreeMap<RoomKey, u64>,
    /// It has no connection because another process had the host's name when it was last asked for.
    is_taken: bool,
    connection: Option<Connection>,
}

impl PostgresStore {
    /// Opens a database for writing all its rooms, and makes the tables if there are none. One process can do so at a time, and none
    /// while hosts with leases do.
    ///
    /// # Errors
    /// If it can't be reached, is being written by another process, or holds something else or what a later version wrote.
    pub fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::start(options, "", None)
    }

    /// Opens a database for writing those rooms that a directory leased to this host. One process can do so for each host.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as(options: &PostgresOptions, host: &str, leases: Leases) -> Result<Self, StoreError> {
        Self::start(options, host, Some(leases))
    }

    fn start(options: &PostgresOptions, host: &str, leases: Option<Leases>) -> Result<Self, StoreError> {
        let role = Role::Writes { run: None, stored: 0 };
        let (options, host) = (options.clone(), host.to_owned());
        let (opened, lost, left) = Default::default();
        let mut store = Self { options, host, leases, role, opened, lost, left, is_taken: false, connection: None };
        store.connect()?;
        Ok(store)
    }

    /// Opens a database for reading, whoever writes it meanwhile; snippets can be saved and requests made.
    ///
    /// # Errors
    /// If it can't be reached, or holds nothing of ours or what a later version wrote.
    pub fn read(options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::read_as(options, "", None)
    }

    fn read_as(options: &PostgresOptions, host: &str, leases: Option<Leases>) -> Result<Self, StoreError> {
        let (options, host) = (options.clone(), host.to_owned());
        let (opened, lost, left) = Default::default();
        let mut store = Self { options, host, leases, role: Role::Reads, opened, lost, left, is_taken: false, connection: None };
        store.connect()?;
        Ok(store)
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        (self.connection, self.is_taken) = (None, false);
        if matches!(self.role, Role::Reads) {
            let mut connection = self.options.connect(self.options.reading_patience)?;
            self.options.layout(&mut connection)?.ok_or_else(|| self.options.unfit("there is no data of roomkeeper's"))?;
            self.connection = Some(connection);
            return Ok(());
        }
        let mut connection = self.options.connect(self.options.patience)?;
        self.options.prepare(&mut connection)?;
        let named = self.lock(&mut connection).and_then(|()| self.take_mark(&mut connection));
        self.is_taken = matches!(named, Err(StoreError::Served { .. }));
        named?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Locks the host's name, and all of the data against those who want all of it. The locks are the session's: whoever loses the one
    /// loses the other, and what a session without them wrote can't be.
    fn lock(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let what = "the session's locks";
        let (all, own) = if self.leases.is_some() { ("_shared", true) } else { ("", false) };
        // What is left of an earlier session of ours ends by itself, soon.
        let taken = |error| match error {
            // Lock not available; the statement was given up.
            StoreError::Postgres { code: Some(code), .. } if code == "55P03" || code == "57014" => {
                StoreError::Served { place: self.whom() }
            }
            error => error,
        };
        connection.batch(what, "SET lock_timeout = 1000")?;
        let key = "hashtext(current_schema() || '/' || $2)";
        let sql = format!("SELECT pg_advisory_lock{all}($1, {key})");
        connection.query(what, &sql, &[&LOCK_SPACE, &""]).map_err(taken)?;
        if own {
            connection.query(what, &format!("SELECT pg_advisory_lock($1, {key})"), &[&LOCK_SPACE, &self.host]).map_err(taken)?;
        }
        connection.batch(what, &format!("SET lock_timeout = {}", self.options.patience.mul_f64(0.9).as_millis()))
    }

    /// True if a process has the data open for writing, or some of it.
    pub(super) fn is_served(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 \
                   AND objid::bigint = hashtext(current_schema() || '/')::bigint & 4294967295 \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        Ok(!self.connection()?.query("the session's locks", sql, &[&i64::from(LOCK_SPACE)])?.is_empty())
    }

    fn whom(&self) -> String {
        let place = self.options.place();
        if self.host.is_empty() { place } else { format!("{place}, as host {:?}", self.host) }
    }

    /// Notes that this process writes for the host from now on; or, if it did before, makes sure that no other has meanwhile.
    fn take_mark(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let what = "the mark of the last flush";
        let Role::Writes { run, .. } = &mut self.role else { return Ok(()) };
        match run {
            Some(run) => {
                // Where there is no mark the database has gone back, and whoever writes next hears so.
                let sql = "SELECT 1 FROM mark WHERE host = $1 AND run::text <> $2";
                if !connection.query(what, sql, &[&self.host, run])?.is_empty() {
                    return Err(StoreError::Served { place: self.whom() });
                }
            }
            None => {
                let sql = "INSERT INTO mark VALUES($1, gen_random_uuid(), 0) ON CONFLICT(host) DO UPDATE SET run = gen_random_uuid() \
                           RETURNING run::text";
                let rows = connection.query(what, sql, &[&self.host])?;
                *run = rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| refused(what, &error))?;
            }
        }
        Ok(())
    }

    /// The connection. That of a reader comes back by itself; a writer has to be told by `reopen`, since it has to find out what of the
    /// last flush was stored.
    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if matches!(self.role, Role::Reads) && !self.connection.as_ref().is_some_and(Connection::is_usable) {
            self.connect()?;
        }
        if self.is_taken {
            return Err(StoreError::Served { place: self.whom() });
        }
        self.connection.as_mut().filter(|connection| connection.is_usable()).ok_or(StoreError::Stopped)
    }
}

/// A text as PostgreSQL can hold it: it knows no character 0. A room in which somebody writes one goes on.
fn text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
