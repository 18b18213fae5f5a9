//! A folder for what is stored, and how much there is in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cli::options::CliError;

/// How many names are tried for the folder. Whatever has the first ones was left by processes that were killed and had the same id.
const NAMES_MAX: u32 = 64;

/// The bytes of all files in a folder. What is gone by the time it is looked at takes nothing.
pub(super) fn bytes_under(folder: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// A folder of this process alone, which goes with what is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one where the system has its temporary files.
    pub(super) fn temporary() -> Result<Self, CliError> {
        let of_number = |number: u32| std::env::temp_dir().join(format!("roomkeeper-soak-{}-{number}", std::process::id()));
        for path in (0..NAMES_MAX).map(of_number) {
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(CliError::Io { what: format!("the folder {}", path.display()), error }),
            }
        }
        let what = format!("a folder in {}", std::env::temp_dir().display());
        Err(CliError::Io { what, error: ErrorKind::AlreadyExists.into() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a temporary folder can't be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_this_processs_own_is_measured_with_all_below_and_goes_with_it() {
        let (one, other) = (Folder::temporary().unwrap(), Folder::temporary().unwrap());
        assert_ne!(one.path(), other.path());
        std::fs::create_dir(one.path().join("below")).unwrap();
        std::fs::write(one.path().join("a"), [0; 300]).unwrap();
        std::fs::write(one.path().join("below/b"), [0; 40]).unwrap();
        assert_eq!((bytes_under(one.path()), bytes_under(other.path())), (340, 0));
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
        assert_eq!(bytes_under(&path), 0);
    }
}
