//! Where data is, as people name it: a folder, a file with one room, or the address of a PostgreSQL.

use std::path::Path;
use std::time::Duration;

use super::directory::Directory;
use super::error::StoreError;
#[cfg(feature = "postgres")]
use super::postgres::{PostgresDirectory, PostgresOptions, PostgresStore};
use super::sqlite::{self, Durability, SqliteStore};
use super::tables::Store;

/// True if a place is the address of a PostgreSQL, and no folder.
pub(crate) fn names_postgres(place: &Path) -> bool {
    place.to_str().is_some_and(|place| place.starts_with("postgres://") || place.starts_with("postgresql://"))
}

/// The PostgreSQL that a place names, if it names one.
#[cfg(feature = "postgres")]
fn postgres_at(place: &Path) -> Option<PostgresOptions> {
    names_postgres(place).then(|| PostgresOptions::at(place.to_string_lossy()))
}

/// A place as it is told to people: without a password.
#[cfg(all(feature = "client", feature = "host"))]
pub(crate) fn place_for_people(place: &Path) -> String {
    #[cfg(feature = "postgres")]
    if let Some(options) = postgres_at(place) {
        return options.place();
    }
    if names_postgres(place) { "PostgreSQL".to_owned() } else { place.display().to_string() }
}

/// Opens the data of a place for writing all of it, and makes it if there is none.
///
/// # Errors
/// If the place can't be written, another process has it, or it is a PostgreSQL and this build knows none.
pub fn store_at(place: &Path, durability: Durability) -> Result<Box<dyn Store>, StoreError> {
    #[cfg(feature = "postgres")]
    if let Some(options) = postgres_at(place) {
        return Ok(Box::new(PostgresStore::open(&options)?));
    }
    if names_postgres(place) {
        return Err(StoreError::NoPostgres);
    }
    Ok(Box::new(SqliteStore::open(place, durability)?))
}

/// Opens the data of a place that several hosts share, for writing those rooms of it that are this host's; and the directory that says which those are.
///
/// # Errors
/// If it can't be reached, holds something else, or is no PostgreSQL, or this build knows none.
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "there is nothing to share"))]
pub fn share_at(place: &Path, host: &str, address: &str, lease: Duration) -> Result<(Box<dyn Store>, Box<dyn Directory>), StoreError> {
    #[cfg(feature = "postgres")]
    if let Some(options) = postgres_at(place) {
        let mut directory = PostgresDirectory::beside(&options, host, address, lease)?;
        let store = PostgresStore::open_as(&options, host, directory.leases())?;
        // Not before: another process that has the name, as its session's lock tells, is reached where it says.
        directory.note_host(&store)?;
        return Ok((Box::new(store), Box::new(directory)));
    }
    match names_postgres(place) {
        true => Err(StoreError::NoPostgres),
        false => Err(StoreError::Unfit { place: place.display().to_string(), detail: "only a database can be shared".to_owned() }),
    }
}

/// Opens the data of a place for reading, whoever writes it meanwhile.
///
/// # Errors
/// If there is none, it can't be read, or it is a PostgreSQL and this build knows none.
pub fn reader_at(place: &Path) -> Result<Box<dyn Store>, StoreError> {
    #[cfg(feature = "postgres")]
    if let Some(options) = postgres_at(place) {
        return Ok(Box::new(PostgresStore::read(&options)?));
    }
    if names_postgres(place) {
        return Err(StoreError::NoPostgres);
    }
    Ok(Box::new(SqliteStore::read(place)?))
}

/// True if a process has the data of a place open for writing.
pub fn is_served(place: &Path) -> bool {
    #[cfg(feature = "postgres")]
    if let Some(options) = postgres_at(place) {
        return PostgresStore::read(&options).is_ok_and(|mut store| store.is_served().unwrap_or(false));
    }
    sqlite::is_served(place)
}
