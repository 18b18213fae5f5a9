//! The store on disk: one SQLite file for all rooms of a host, in WAL mode, written by one connection.
//!
//! SQLite forgets what follows a damaged frame of its journal, and does not check its pages' contents. So each row carries a checksum of
//! its own, and the number of the last flush stands in a file beside the data: what is missing shows.

mod delete;
mod rows;
mod schema;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use self::schema::{APPLICATION_ID, MIGRATIONS};
use super::error::StoreError;

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, by whatever means. Power loss may cost the last seconds, never the order.
    ProcessCrash,
    /// The loss of power, as far as the disk keeps its word: each flush waits for it. The default.
    #[default]
    PowerLoss,
}

/// A store on disk.
#[derive(Debug)]
pub struct SqliteStore {
    folder: PathBuf,
    durability: Durability,
    connection: Option<Connection>,
    /// Held while the data is open for writing.
    _lock: Option<File>,
    mark: Option<File>,
    writes: bool,
}

/// The data file in a folder, or the file itself.
pub fn data_file(place: &Path) -> PathBuf {
    if place.is_file() { place.to_owned() } else { place.join("rooms.sqlite") }
}

fn open_lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.map_err(StoreError::io(format!("the lock file {}", path.display())))
}

/// True if a process has the data in a folder open for writing.
pub(super) fn is_served(folder: &Path) -> bool {
    data_file(folder).exists() && open_lock(folder).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

impl SqliteStore {
    /// Opens the data in a folder for writing, and makes it if there is none. One process can do so at a time.
    ///
    /// # Errors
    /// If the folder can't be written, another process has it open, or what is there is not ours or of a later version.
    pub fn open(folder: impl Into<PathBuf>, durability: Durability) -> Result<Self, StoreError> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(StoreError::io(format!("the data folder {}", folder.display())))?;
        let lock = open_lock(&folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(folder)),
            Err(TryLockError::Error(error)) => return Err(StoreError::Io { what: "the lock file".to_owned(), error }),
        }
        let mut store = Self { folder, durability, connection: None, _lock: Some(lock), mark: None, writes: true };
        store.connect()?;
        Ok(store)
    }

    /// Makes a file of its own, such as one room is exported to. Read it by [`read`](Self::read).
    ///
    /// # Errors
    /// If it is there already, or can't be made.
    pub fn create_file(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let folder = path.into();
        File::create_new(&folder).map_err(StoreError::io(format!("the file {}", folder.display())))?;
        let mut store = Self { folder, durability: Durability::ProcessCrash, connection: None, _lock: None, mark: None, writes: true };
        store.connect()?;
        Ok(store)
    }

    /// Opens the data in a folder for reading, whoever writes it meanwhile; snippets can be saved and requests made.
    ///
    /// # Errors
    /// If there is none, or it is not ours or of a later version.
    pub fn read(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let folder = folder.into();
        if !data_file(&folder).exists() {
            return Err(StoreError::Missing(folder));
        }
        let mut store = Self { folder, durability: Durability::PowerLoss, connection: None, _lock: None, mark: None, writes: false };
        store.connect()?;
        Ok(store)
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        self.connection = None;
        let failed = |what| StoreError::sqlite(what);
        let path = data_file(&self.folder);
        let create = if self.writes { OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::empty() };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let connection = match Connection::open_with_flags(&path, flags) {
            // A reader of a folder that it may not write.
            Err(_) if !self.writes => Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY),
            opened => opened,
        };
        let mut connection = connection.map_err(failed("the data file can't be opened"))?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed("the busy timeout"))?;
        connection.set_prepared_statement_cache_capacity(64);
        let number = |connection: &Connection, name: &str| -> Result<i64, StoreError> {
            connection.pragma_query_value(None, name, |row| row.get(0)).map_err(failed("the data file can't be read"))
        };
        let (application, layout) = (number(&connection, "application_id")?, number(&connection, "user_version")?);
        let known = MIGRATIONS.len() as i64;
        if layout > known {
            return Err(StoreError::Newer { found: layout, known });
        }
        // Its process may have ended after the file had a first page, and before there was anything in it.
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        let fresh = layout == 0 && application == 0 && tables.map_err(failed("the data file can't be read"))? == 0;
        if application != APPLICATION_ID && !fresh {
            return Err(StoreError::Foreign(path, application));
        }
        if fresh && !self.writes {
            return Err(StoreError::Missing(self.folder.clone()));
        }
        if self.writes {
            self.prepare(&mut connection, layout)?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn prepare(&mut self, connection: &mut Connection, layout: i64) -> Result<(), StoreError> {
        let failed = |what| StoreError::sqlite(what);
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed("the data file can't be written"))?;
        let synchronous = if self.durability == Durability::PowerLoss { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous).map_err(failed("synchronous"))?;
        if self.durability == Durability::PowerLoss {
            // On macOS what was synchronised may still be in the drive's cache, unless the drive too is asked. Elsewhere this does nothing.
            connection.pragma_update(None, "fullfsync", true).map_err(failed("fullfsync"))?;
        }
        connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(failed("journal_size_limit"))?;
        for (at, step) in MIGRATIONS.iter().enumerate().skip(usize::try_from(layout).unwrap_or(0)) {
            let transaction = connection.transaction().map_err(failed("a change of the layout"))?;
            transaction.execute_batch(step).map_err(failed("a change of the layout"))?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed("application_id"))?;
            transaction.pragma_update(None, "user_version", at as i64 + 1).map_err(failed("user_version"))?;
            transaction.commit().map_err(failed("a change of the layout"))?;
        }
        if self.folder.is_file() {
            return Ok(());
        }
        let path = self.folder.join("mark");
        let mark = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        self.mark = Some(mark.map_err(StoreError::io(format!("the mark file {}", path.display())))?);
        Ok(())
    }

    /// Lets the file have at most so many pages of 4 KiB: writing more fails as on a full disk. `None`: as many as SQLite can.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn limit_pages(&mut self, pages: Option<u32>) -> Result<(), StoreError> {
        let limit = pages.unwrap_or(u32::MAX - 1);
        self.connection()?.pragma_update(None, "max_page_count", limit).map_err(StoreError::sqlite("max_page_count"))
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or(StoreError::Stopped)
    }

    /// Notes the number of the last flush beside the data.
    fn write_mark(&mut self, flush: u64) {
        let Some(mark) = &mut self.mark else { return };
        let written = mark.seek(SeekFrom::Start(0)).and_then(|_| mark.write_all(format!("{flush:020}\n").as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "the number of the last flush can't be noted");
        }
    }

    /// The number of the last flush, as it stands beside the data: later ones than the data has are missing, since the tail of SQLite's journal
    /// was damaged. Nothing for a folder without a mark.
    fn marked_flush(&self) -> Option<u64> {
        let mut text = String::new();
        File::open(self.folder.join("mark")).and_then(|mut mark| mark.read_to_string(&mut text)).ok()?;
        text.trim().parse().ok()
    }
}
