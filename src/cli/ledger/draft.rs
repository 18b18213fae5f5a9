//! A file that takes its place only once all of it is there.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file that is being written beside its place, in a folder of its own whose name says so. The folder goes with all that is in it when this is dropped; if
/// the process is killed it stays, and nothing takes it for what it was to become.
#[derive(Debug)]
pub(super) struct Draft {
    place: PathBuf,
    folder: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// One that nobody else writes, by whatever name others know this process. The file is not made here.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn of(place: &Path) -> io::Result<Self> {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance)?;
        let folder = with_end(place, &format!(".{:016x}.part", u64::from_le_bytes(chance)));
        // Where something of that name is there it fails. So all that is in it from now on is this one's, SQLite's files beside its own too.
        std::fs::create_dir(&folder)?;
        Ok(Self { place: place.to_owned(), path: folder.join("draft"), folder })
    }

    /// Where it is written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It is whole, and whoever wrote it has closed it: it takes its place, and that of an older file.
    ///
    /// # Errors
    /// If the system refuses; then it goes.
    pub(super) fn take_place(self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What can't be removed says by its name what it is.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Writes a file, of which there is never half: until all of it is written, what was there before is. It stays whose it was, and open to the same people.
///
/// What can't be replaced is written where it is, as any file would be: one in a folder that is closed, one that is mounted by itself, one that has other
/// names, somebody else's.
///
/// # Errors
/// If the system refuses.
pub(super) fn write_whole(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(place) {
        // What is no file can't be replaced by one: /dev/stdout, or a name that stands for another.
        Ok(found) if !found.is_file() => return std::fs::write(place, bytes),
        Ok(found) => {
            // What may not be written is not replaced either.
            drop(OpenOptions::new().write(true).open(place)?);
            Some(found)
        }
        Err(_) => None,
    };
    let (draft, mut file) = match draft_for(place, found.as_ref()) {
        Ok(made) => made,
        Err(error) if is_full(&error) => return Err(error),
        Err(_) => return std::fs::write(place, bytes),
    };
    file.write_all(bytes)?;
    drop(file);
    match draft.take_place() {
        Err(error) if !is_full(&error) => std::fs::write(place, bytes),
        taken => taken,
    }
}

/// A draft, and its file, which is as the one that is found at its place.
fn draft_for(place: &Path, found: Option<&Metadata>) -> io::Result<(Draft, File)> {
    let draft = Draft::of(place)?;
    let file = File::create_new(draft.path())?;
    if let Some(found) = found {
        be_as(&file, found)?;
    }
    Ok((draft, file))
}

/// Makes a file that has nothing in it yet the same people's as another one.
///
/// # Errors
/// If the system refuses, or the other one has further names: under those what was in it would be still.
fn be_as(file: &File, found: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        if found.nlink() > 1 {
            return Err(ErrorKind::Unsupported.into());
        }
        fchown(file, Some(found.uid()), Some(found.gid()))?;
    }
    file.set_permissions(found.permissions())
}

/// True if there is no place left. Then nothing is written over what is there, which would be lost for it.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of a test's own, empty.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("roomkeeper-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_at_its_place_once_it_is_whole_and_not_before() {
        let folder = folder("draft");
        let place = folder.join("match.sqlite");
        let draft = Draft::of(&place).unwrap();
        std::fs::write(draft.path(), "half").unwrap();
        assert!(!place.exists());
        std::fs::write(draft.path(), "whole").unwrap();
        draft.take_place().unwrap();
        assert_eq!((names(&folder), std::fs::read_to_string(&place).unwrap()), (vec!["match.sqlite".to_owned()], "whole".to_owned()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn of_a_file_that_never_was_whole_nothing_is_left_and_what_was_there_stays() {
        let folder = folder("given_up");
        let place = folder.join("match.sqlite");
        std::fs::write(&place, "older").unwrap();
        let draft = Draft::of(&place).unwrap();
        for end in ["", "-wal", "-shm"] {
            std::fs::write(with_end(draft.path(), end), "half").unwrap();
        }
        assert_eq!(names(&folder).len(), 2);
        drop(draft);
        assert_eq!((names(&folder), std::fs::read_to_string(&place).unwrap()), (vec!["match.sqlite".to_owned()], "older".to_owned()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn two_who_write_the_same_file_are_in_nobodys_way_even_in_one_process() {
        let folder = folder("two_drafts");
        let place = folder.join("match.sqlite");
        let [one, other, third] = [(); 3].map(|()| Draft::of(&place).unwrap());
        for (draft, text) in [(&one, "one"), (&other, "other"), (&third, "third")] {
            File::create_new(draft.path()).unwrap().write_all(text.as_bytes()).unwrap();
        }
        drop(third);
        one.take_place().unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "one");
        other.take_place().unwrap();
        assert_eq!((names(&folder), std::fs::read_to_string(&place).unwrap()), (vec!["match.sqlite".to_owned()], "other".to_owned()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_changes_nothing() {
        let folder = folder("not_written");
        let place = folder.join("ten.json");
        write_whole(&place, b"{}").unwrap();
        write_whole(&place, b"{\"a\": {}}").unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "{\"a\": {}}");
        assert!(write_whole(&folder.join("nowhere").join("ten.json"), b"{}").is_err());
        assert!(write_whole(&folder, b"{}").is_err());
        assert_eq!(names(&folder), ["ten.json"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_replaced_is_written_where_it_is() {
        let folder = folder("not_replaced");
        // The name of its draft would be longer than a name may be.
        let place = folder.join("a".repeat(250));
        for text in ["one", "other"] {
            write_whole(&place, text.as_bytes()).unwrap();
            assert_eq!((names(&folder).len(), std::fs::read_to_string(&place).unwrap()), (1, text.to_owned()));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_stays_open_to_the_same_people_has_its_other_names_and_may_be_in_a_folder_that_is_closed() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("same_people");
        let (place, second) = (folder.join("ten.json"), folder.join("second.json"));
        let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let mode = || std::fs::metadata(&place).unwrap().permissions().mode() & 0o777;
        write_whole(&place, b"one").unwrap();
        for wanted in [0o600, 0o664] {
            set(&place, wanted);
            write_whole(&place, b"two").unwrap();
            assert_eq!((mode(), std::fs::read_to_string(&place).unwrap()), (wanted, "two".to_owned()));
        }
        std::fs::hard_link(&place, &second).unwrap();
        write_whole(&place, b"three").unwrap();
        assert_eq!(std::fs::read_to_string(&second).unwrap(), "three");
        std::fs::remove_file(&second).unwrap();
        // One who may do anything can make a draft there all the same.
        set(&folder, 0o555);
        let written = write_whole(&place, b"four");
        set(&folder, 0o755);
        written.unwrap();
        assert_eq!((names(&folder), std::fs::read_to_string(&place).unwrap()), (vec!["ten.json".to_owned()], "four".to_owned()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
