//! `ledger delete`: rooms that nobody wants any more, with all that is stored of them.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::options::CliError;
use super::super::output::say;
use super::by_name;
use super::options::DeleteOptions;
use crate::store::{Durability, Store, StoreError, UnusedRoom, place_for_people, reader_at, store_at};

/// A time in its largest unit of which it has at least two, for people.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds} s"), |(unit, length)| format!("{} {unit}", seconds / length))
}

/// Opens the data, all of it if rooms are to be deleted: nobody has one of them open then.
fn open(data: &Path, to_delete: bool) -> Result<Box<dyn Store>, CliError> {
    // What is not there is not made.
    let reader = reader_at(data)?;
    match store_at(data, Durability::PowerLoss) {
        Err(StoreError::Locked(_) | StoreError::Served { .. }) if !to_delete => Ok(reader),
        Err(StoreError::Locked(_) | StoreError::Served { .. }) => {
            let detail = "its server runs: stop it first, or have it delete a room by DELETE /rooms/NAME/ledger of its admin server";
            Err(CliError::Argument { what: place_for_people(data), detail: detail.to_owned() })
        }
        opened => Ok(opened?),
    }
}

/// The rooms that are meant, those first that were left first.
fn meant(store: &mut dyn Store, wanted: &[String], unused_for: Option<Duration>) -> Result<Vec<UnusedRoom>, CliError> {
    if wanted.is_empty() && unused_for.is_none() {
        let detail = "which ones are to be deleted? Name them, or say --unused-for".to_owned();
        return Err(CliError::Argument { what: "rooms".to_owned(), detail });
    }
    let all = store.unused("", Duration::ZERO, usize::MAX)?;
    let mut rooms = by_name(all, |room| &room.name, wanted)?;
    rooms.retain(|room| room.unused_for >= unused_for.unwrap_or_default());
    Ok(rooms)
}

pub(super) fn run(data: &Path, room: Option<&str>, options: &DeleteOptions, as_json: bool) -> Result<(), CliError> {
    let mut store = open(data, options.yes)?;
    let mut wanted = options.rooms.clone();
    wanted.extend(room.map(str::to_owned));
    let rooms = meant(&mut *store, &wanted, options.unused_for)?;
    let mut deleted = 0_usize;
    for UnusedRoom { key, name, unused_for } in &rooms {
        let is_gone = options.yes && store.delete(*key, options.unused_for.unwrap_or_default())?;
        deleted += usize::from(is_gone);
        say(&match as_json {
            true => json!({ "room": name, "unused_seconds": unused_for.as_secs(), "deleted": is_gone }).to_string(),
            false => format!("{name}: unused for {}{}", in_words(*unused_for), if is_gone { ", deleted" } else { "" }),
        });
    }
    while options.yes && store.clear()? {}
    if as_json {
        return Ok(());
    }
    say(&match (rooms.len(), options.yes) {
        (0, _) => "there is none that has been unused for so long".to_owned(),
        (_, true) => format!("{deleted} deleted; what they took is free for what comes, and `ledger compact` gives it back to the disk"),
        (count, false) => format!("{count} would be deleted, with all that is stored of them; --yes does so"),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_unit_of_which_there_are_some() {
        let told = [1, 119, 120, 7_199, 7_200, 172_799, 172_800, 2_592_000].map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(told, ["1 s", "119 s", "2 minutes", "119 minutes", "2 hours", "47 hours", "2 days", "30 days"]);
    }
}
