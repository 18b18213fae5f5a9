//! The directory in PostgreSQL. Each question is one statement, and all times are the database's.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::super::directory::{Claim, Directory, HostEntry, Lease, Leases, Load, Owner, RoomEntry, Token};
use super::super::error::StoreError;
use super::connection::{Connection, Parameters, refused};
use super::{PostgresOptions, PostgresStore, Role, text};

/// How often a claim looks again at a room whose owner came or went meanwhile.
const TRIES: usize = 8;

/// How a statement begins that is to do nothing once another process has the host's name. `ours` is false if the mark of the host, $1, has another run than
/// $2. Where there is no run nobody asks; and where there is no mark the database has gone back, which is for the store to say.
///
/// That is so as of the moment at which the statement begins. One that has to wait for a lock, as on a lease whose room is being written, may take a room after
/// another process has taken the name: it can't write it, hears so when it next renews, and the other one has the room again once it claims it.
const NAMED: &str = "WITH named AS (SELECT NOT EXISTS (SELECT 1 FROM mark WHERE mark.host = $1 AND mark.run::text <> $2) AS ours)";

/// The directory of the hosts that share a database, as one of them sees it.
///
/// It has a connection of its own, so that leases are renewed while the store writes. As the store, it waits for answers by itself and
/// can't be used from within asynchronous code of tokio's.
#[derive(Debug)]
pub struct PostgresDirectory {
    options: PostgresOptions,
    host: String,
    address: String,
    /// What the database calls this process as the one that writes for the host: another process that takes the name is called otherwise.
    run: Option<String>,
    ttl: Duration,
    leases: Leases,
    /// What could not be given back, by the tokens that it was held by.
    owed: BTreeMap<String, Token>,
    connection: Option<Connection>,
}

fn at<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| refused("a row of the directory can't be read", &error))
}

fn token_at(row: &Row, column: usize) -> Result<Token, StoreError> {
    at::<i64>(row, column).map(|token| Token(token.cast_unsigned()))
}

fn count_at(row: &Row, column: usize) -> Result<u32, StoreError> {
    at::<i64>(row, column).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

impl PostgresDirectory {
    /// Joins a host to a directory: its name, which no other has, and the address at which clients reach it. Leases hold for `ttl`, which
    /// is to be several times what a stall of the database or of the network may take; 10 s, renewed each 3 s, are a good choice. The
    /// tables are made if there are none.
    ///
    /// It does not know by which process's hand the host's store writes. So if another process takes the host's name, this one is not told so by
    /// [`StoreError::Served`] as others are: it goes on to renew leases and to claim rooms, while its store is refused. Who is to be told opens both by
    /// [`share_at`](crate::store::share_at).
    ///
    /// # Errors
    /// If the database can't be reached, or holds something else or what a later version wrote.
    pub fn join(options: &PostgresOptions, host: &str, address: &str, ttl: Duration) -> Result<Self, StoreError> {
        let mut directory = Self::beside(options, host, address, ttl)?;
        directory.enter()?;
        Ok(directory)
    }

    /// The same, but the directory does not have the host yet.
    pub(in crate::store) fn beside(options: &PostgresOptions, host: &str, address: &str, ttl: Duration) -> Result<Self, StoreError> {
        if host.is_empty() {
            // The name of a store without leases.
            return Err(StoreError::Unfit { place: options.place(), detail: "a host needs a name".to_owned() });
        }
        let mut connection = options.connect(options.patience)?;
        options.prepare(&mut connection)?;
        let (options, host, address, leases) = (options.clone(), host.to_owned(), address.to_owned(), Leases::default());
        Ok(Self { options, host, address, run: None, ttl, leases, owed: BTreeMap::new(), connection: Some(connection) })
    }

    /// Notes the host, whose store this process has opened. From now on, this included, it is asked whether another process has opened that since.
    pub(in crate::store) fn note_host(&mut self, store: &PostgresStore) -> Result<(), StoreError> {
        if let Role::Writes { run, .. } = &store.role {
            self.run.clone_from(run);
        }
        self.enter()
    }

    /// Notes where the host is reached.
    fn enter(&mut self) -> Result<(), StoreError> {
        let address = self.address.clone();
        let sql = ", entered AS (INSERT INTO host SELECT $1::text, $3::text, clock_timestamp(), 0, 0, 0, 0 FROM named WHERE ours \
                   ON CONFLICT(id) DO UPDATE SET address = excluded.address, heartbeat = clock_timestamp()) SELECT ours FROM named";
        self.ask("the host can't be noted", sql, &[&text(&address)]).map(drop)
    }

    /// The host's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// For how long leases hold, in milliseconds.
    fn ttl_millis(&self) -> i64 {
        i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX).min(86_400_000)
    }

    /// Asks, on a new connection if the last one broke.
    fn query(&mut self, what: &'static str, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        if !self.connection.as_ref().is_some_and(Connection::is_usable) {
            self.connection = None;
            self.connection = Some(self.options.connect(self.options.patience)?);
        }
        self.connection.as_mut().ok_or(StoreError::Stopped)?.query(what, sql, parameters)
    }

    /// Asks by what follows [`NAMED`], with parameters from $3 on. It gives `ours` first, and at least once. If that is false nothing is left of the leases here.
    fn ask(&mut self, what: &'static str, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let (host, run) = (self.host.clone(), self.run.clone());
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&host, &run];
        all.extend_from_slice(parameters);
        let rows = self.query(what, &format!("{NAMED}{sql}"), &all)?;
        let is_ours = rows.first().map(|row| at::<bool>(row, 0)).transpose()?;
        if is_ours == Some(false) {
            self.leases.drop_all();
            return Err(StoreError::Served { place: format!("{}, as host {host:?},", self.options.place()) });
        }
        Ok(rows)
    }

    /// The same, by which this host takes rooms or keeps them: `taken` is to have them and their tokens.
    fn take(&mut self, what: &'static str, taken: &str, parameters: Parameters<'_>) -> Result<Vec<Lease>, StoreError> {
        let since = self.leases.now();
        let sql = format!(", {taken} SELECT named.ours, taken.room, taken.token FROM named LEFT JOIN taken ON true");
        let rows = self.ask(what, &sql, parameters)?;
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            // None at all gives a row as well.
            let Some(room) = at::<Option<String>>(row, 1)? else { continue };
            let lease = Lease { room, token: token_at(row, 2)? };
            self.leases.hold(&lease.room, lease.token, since, self.ttl);
            self.owed.remove(&lease.room);
            leases.push(lease);
        }
        leases.sort_unstable_by(|a, b| a.room.cmp(&b.room));
        Ok(leases)
    }

    /// Renews one lease by its token, if it still holds.
    fn renew_one(&mut self, room: &str, token: Token) -> Result<bool, StoreError> {
        let ttl = self.ttl_millis() as f64;
        let taken = "taken AS (UPDATE lease SET expires = clock_timestamp() + $5 * interval '1 ms' \
                     WHERE room = $3 AND host = $1 AND token = $4 AND expires > clock_timestamp() AND (SELECT ours FROM named) \
                     RETURNING room, token)";
        let renewed = self.take("a lease can't be renewed", taken, &[&text(room), &token.0.cast_signed(), &ttl])?;
        Ok(!renewed.is_empty())
    }
}

impl Directory for PostgresDirectory {
    fn leases(&self) -> Leases {
        self.leases.clone()
    }

    fn claim(&mut self, room: &str) -> Result<Claim, StoreError> {
        let (what, ttl) = ("a room can't be claimed", self.ttl_millis() as f64);
        if let Some(token) = self.leases.token(room) {
            if self.renew_one(room, token)? {
                return Ok(Claim::Granted(Lease { room: room.to_owned(), token }));
            }
            self.leases.drop(room);
        }
        for _ in 0..TRIES {
            // An earlier process of this host that is still there has an old token.
            let taken = "taken AS (INSERT INTO lease AS l \
                         SELECT $3::text, $1::text, 1, clock_timestamp() + $4 * interval '1 ms' FROM named WHERE ours \
                         ON CONFLICT(room) DO UPDATE SET host = excluded.host, token = l.token + 1, \
                         expires = clock_timestamp() + $4 * interval '1 ms' \
                         WHERE l.host IS NULL OR l.host = excluded.host OR l.expires <= clock_timestamp() RETURNING room, token)";
            if let Some(lease) = self.take(what, taken, &[&text(room), &ttl])?.pop() {
                return Ok(Claim::Granted(Lease { room: room.to_owned(), ..lease }));
            }
            if let Some(owner) = self.find(room)? {
                return Ok(Claim::Taken(owner));
            }
        }
        Err(StoreError::Postgres { what, detail: "its owner changes all the time".to_owned(), code: None })
    }

    fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError> {
        let (ttl, most) = (self.ttl_millis() as f64, i64::try_from(most).unwrap_or(i64::MAX));
        // Those that somebody else is about to take, or whose last transaction is not over, are left for the next time.
        let taken = "lapsed AS (SELECT room FROM lease WHERE host IS NOT NULL AND expires <= clock_timestamp() AND (SELECT ours FROM named) \
                     ORDER BY room LIMIT $4 FOR UPDATE SKIP LOCKED), \
                     taken AS (UPDATE lease SET host = $1, token = lease.token + 1, expires = clock_timestamp() + $3 * interval '1 ms' \
                     FROM lapsed WHERE lease.room = lapsed.room RETURNING lease.room, lease.token)";
        self.take("rooms can't be claimed", taken, &[&ttl, &most])
    }

    fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError> {
        let (ttl, held, address) = (self.ttl_millis() as f64, self.leases.held(), self.address.clone());
        let (rooms, tokens): (Vec<_>, Vec<i64>) = held.iter().map(|lease| (text(&lease.room), lease.token.0.cast_signed())).unzip();
        // Locked in the order in which a store locks them, which checks all of its rooms at once. Whatever became of the host's row: it is put right.
        let taken = "alive AS (INSERT INTO host \
                     SELECT $1::text, $10::text, clock_timestamp(), $6::bigint, $7::bigint, $8::bigint, $9::bigint FROM named WHERE ours \
                     ON CONFLICT(id) DO UPDATE SET address = excluded.address, heartbeat = excluded.heartbeat, rooms = excluded.rooms, \
                     rooms_max = excluded.rooms_max, members = excluded.members, members_max = excluded.members_max), \
                     mine AS (SELECT l.room FROM lease l JOIN unnest($4::text[], $5::bigint[]) AS held(room, token) ON l.room = held.room \
                     WHERE l.host = $1 AND l.token = held.token AND l.expires > clock_timestamp() AND (SELECT ours FROM named) \
                     ORDER BY l.room FOR UPDATE OF l), \
                     taken AS (UPDATE lease SET expires = clock_timestamp() + $3 * interval '1 ms' FROM mine WHERE lease.room = mine.room \
                     RETURNING lease.room, lease.token)";
        let [a, b, c, d] = [load.rooms, load.rooms_max, load.members, load.members_max].map(i64::from);
        let parameters: Parameters<'_> = &[&ttl, &rooms, &tokens, &a, &b, &c, &d, &text(&address)];
        let renewed = self.take("the leases can't be renewed", taken, parameters)?;
        let mut lost = Vec::new();
        for lease in held {
            if renewed.binary_search_by(|renewed| renewed.room.as_str().cmp(&text(&lease.room))).is_err() {
                self.leases.drop(&lease.room);
                lost.push(lease.room);
            }
        }
        Ok(lost)
    }

    fn release(&mut self, room: &str) -> Result<(), StoreError> {
        let Some(token) = self.leases.token(room).or_else(|| self.owed.get(room).copied()) else { return Ok(()) };
        // First: one that can't be given back now is not renewed any more, and runs out.
        self.leases.give_back(room);
        self.owed.insert(room.to_owned(), token);
        let host = self.host.clone();
        let sql = "UPDATE lease SET host = NULL, expires = clock_timestamp() WHERE room = $1 AND host = $2 AND token = $3";
        self.query("a room can't be given back", sql, &[&text(room), &host, &token.0.cast_signed()])?;
        self.owed.remove(room);
        Ok(())
    }

    fn find(&mut self, room: &str) -> Result<Option<Owner>, StoreError> {
        let sql = "SELECT lease.host, coalesce(host.address, ''), lease.token FROM lease LEFT JOIN host ON host.id = lease.host \
                   WHERE lease.room = $1 AND lease.host IS NOT NULL AND lease.expires > clock_timestamp()";
        let rows = self.query("a room can't be looked up", sql, &[&text(room)])?;
        let owner = |row: &Row| Ok(Owner { host: at(row, 0)?, address: at(row, 1)?, token: token_at(row, 2)? });
        rows.first().map(owner).transpose()
    }

    fn hosts(&mut self) -> Result<Vec<HostEntry>, StoreError> {
        let sql = "SELECT id, address, rooms, rooms_max, members, members_max, \
                   (greatest(extract(epoch FROM clock_timestamp() - heartbeat), 0) * 1000)::bigint FROM host ORDER BY id COLLATE \"C\"";
        let entry = |row: &Row| {
            let load =
                Load { rooms: count_at(row, 2)?, rooms_max: count_at(row, 3)?, members: count_at(row, 4)?, members_max: count_at(row, 5)? };
            let silent = Duration::from_millis(at::<i64>(row, 6)?.cast_unsigned());
            Ok(HostEntry { host: at(row, 0)?, address: at(row, 1)?, load, silent })
        };
        self.query("the hosts can't be read", sql, &[])?.iter().map(entry).collect()
    }

    fn rooms(&mut self) -> Result<Vec<RoomEntry>, StoreError> {
        let sql = "SELECT lease.room, lease.token, lease.host, coalesce(host.address, ''), \
                   lease.host IS NOT NULL AND lease.expires > clock_timestamp() \
                   FROM lease LEFT JOIN host ON host.id = lease.host ORDER BY lease.room COLLATE \"C\"";
        let entry = |row: &Row| {
            let token = token_at(row, 1)?;
            let host = if at(row, 4)? { at::<Option<String>>(row, 2)? } else { None };
            let address = at(row, 3)?;
            Ok(RoomEntry { room: at(row, 0)?, owner: host.map(|host| Owner { host, address, token }), token })
        };
        self.query("the rooms can't be read", sql, &[])?.iter().map(entry).collect()
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        let what = "the host can't be forgotten";
        // What another process of the name has not claimed yet is not given away from under it.
        self.ask(what, " SELECT ours FROM named", &[])?;
        let held = self.leases.held().into_iter().map(|lease| lease.room);
        for room in held.chain(self.owed.keys().cloned()).collect::<Vec<_>>() {
            self.release(&room)?;
        }
        let sql = ", gone AS (DELETE FROM host WHERE id = $1 AND (SELECT ours FROM named)) SELECT ours FROM named";
        self.ask(what, sql, &[]).map(drop)
    }
}
