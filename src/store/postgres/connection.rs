//! A connection that never waits for ever: every answer has a time limit of ours, besides those that the server is told.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::error::{StoreError, in_full};

/// What a query is given.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Most statements that are kept prepared.
const PREPARED_MAX: usize = 128;

/// An open connection, and what drives it while somebody waits for an answer.
pub(super) struct Connection {
    runtime: Option<Runtime>,
    client: Client,
    prepared: BTreeMap<String, Statement>,
    patience: Duration,
    /// True once an answer did not come: what comes next may be the answer to what was asked before.
    broken: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("patience", &self.patience).field("broken", &self.broken).finish_non_exhaustive()
    }
}

/// What the driver says, with the reasons behind it, in one line.
pub(super) fn refused(what: &'static str, error: &tokio_postgres::Error) -> StoreError {
    StoreError::Postgres { what, detail: in_full(error), code: error.code().map(|code| code.code().to_owned()) }
}

fn wait<T>(
    runtime: &Runtime,
    what: &'static str,
    patience: Duration,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match runtime.block_on(async { tokio::time::timeout(patience, answer).await }) {
        Ok(answer) => answer.map_err(|error| refused(what, &error)),
        Err(_) => Err(StoreError::Silent { what, waited: patience }),
    }
}

/// Connects. What drives the connection runs while somebody waits, and ends with the client. What ends it is told to who waits.
fn connect<T>(runtime: &Runtime, config: &Config, tls: T, patience: Duration) -> Result<Client, StoreError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = wait(runtime, "the database can't be reached", patience, config.connect(tls))?;
    drop(runtime.spawn(async move { drop(connection.await) }));
    Ok(client)
}

impl Connection {
    /// Connects. `patience` is how long each answer may take, and so is the whole of connecting.
    pub(super) fn open(config: &Config, tls: Option<MakeRustlsConnect>, patience: Duration) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(StoreError::io("a connection needs a poller of the system's"))?;
        let connected = match tls {
            Some(tls) => connect(&runtime, config, tls, patience),
            None => connect(&runtime, config, NoTls, patience),
        };
        match connected {
            Ok(client) => Ok(Self { runtime: Some(runtime), client, prepared: BTreeMap::new(), patience, broken: false }),
            Err(error) => {
                // A look-up of a name that hangs is left behind.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// False if it must not be used any more.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken && !self.client.is_closed()
    }

    /// How long each answer may take from now on.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    fn run<T>(&mut self, what: &'static str, ask: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.broken) else {
            return Err(StoreError::Postgres { what, detail: "the connection is broken".to_owned(), code: None });
        };
        let answer = wait(runtime, what, self.patience, ask(&self.client));
        self.broken |= matches!(answer, Err(StoreError::Silent { .. })) || self.client.is_closed();
        answer
    }

    /// Statements without parameters and without answer.
    pub(super) fn batch(&mut self, what: &'static str, sql: &str) -> Result<(), StoreError> {
        self.run(what, async |client: &Client| client.batch_execute(sql).await)
    }

    fn prepare(&mut self, what: &'static str, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.run(what, async |client: &Client| client.prepare(sql).await)?;
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The rows that a query gives.
    pub(super) fn query(&mut self, what: &'static str, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(what, sql)?;
        self.run(what, async |client: &Client| client.query(&statement, parameters).await)
    }

    /// How many rows a statement changed.
    pub(super) fn execute(&mut self, what: &'static str, sql: &str, parameters: Parameters<'_>) -> Result<u64, StoreError> {
        let statement = self.prepare(what, sql)?;
        self.run(what, async |client: &Client| client.execute(&statement, parameters).await)
    }

    /// Does something within one transaction: all of it, or nothing. After an error the connection is as before, or broken.
    pub(super) fn transaction<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // The locks and fences of the store count on each statement seeing what was committed before it.
        self.batch(what, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")?;
        match work(self) {
            Ok(done) => self.batch(what, "COMMIT").map(|()| done),
            Err(error) => {
                if self.is_usable() && self.batch(what, "ROLLBACK").is_err() {
                    self.broken = true;
                }
                Err(error)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
