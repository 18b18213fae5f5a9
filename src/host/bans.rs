//! Who is not let in, and until when.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::{EntityId, Refusal};

/// Most players that are banned at a time.
const BANS_MAX: usize = 100_000;

/// Why somebody is not let in, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The player.
    pub player: EntityId,
    /// As the player reads it.
    pub why: String,
    /// The end of it, in seconds since the Unix epoch; never, if there is none.
    pub until: Option<u64>,
}

impl Ban {
    /// As the player hears it.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal::Kicked(format!("banned: {}", self.why))
    }
}

/// The players who are not let in. Kept in a file, as JSON, if one is named.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_player: BTreeMap<EntityId, Ban>,
    file: Option<PathBuf>,
}

impl Bans {
    /// Reads a file; there need be none yet. It is written at once: where that can't be done nobody should find out by a ban that is gone.
    ///
    /// # Errors
    /// If it can't be read or written, or holds something else.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let bans: Vec<Ban> = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::new(ErrorKind::InvalidData, error))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let by_player = bans.into_iter().take(BANS_MAX).map(|ban| (ban.player, ban)).collect();
        let bans = Self { by_player, file: Some(path.to_owned()) };
        bans.save().map_err(|error| Error::new(error.kind(), format!("they can't be written there: {error}")))?;
        Ok(bans)
    }

    /// The ban of a player that counts at a time since the Unix epoch.
    pub(super) fn of(&self, player: EntityId, now: Duration) -> Option<&Ban> {
        self.by_player.get(&player).filter(|ban| ban.until.is_none_or(|until| now.as_secs() < until))
    }

    /// All that count.
    pub(super) fn all(&self, now: Duration) -> Vec<Ban> {
        self.by_player.keys().filter_map(|player| self.of(*player, now)).cloned().collect()
    }

    /// Bans a player, in place of an earlier ban.
    ///
    /// # Errors
    /// If there are too many, or the file can't be written: then it counts until the process ends.
    pub(super) fn add(&mut self, ban: Ban, now: Duration) -> Result<(), Error> {
        self.by_player.retain(|_, ban| ban.until.is_none_or(|until| now.as_secs() < until));
        if self.by_player.len() >= BANS_MAX {
            return Err(Error::new(ErrorKind::QuotaExceeded, format!("{BANS_MAX} players are banned, as many as may be")));
        }
        self.by_player.insert(ban.player, ban);
        self.save()
    }

    /// Lets a player in again. False if it was not banned.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(super) fn remove(&mut self, player: EntityId) -> Result<bool, Error> {
        let removed = self.by_player.remove(&player).is_some();
        if removed {
            self.save()?;
        }
        Ok(removed)
    }

    /// Writes all of it beside the file first, so that there is never half of one.
    fn save(&self) -> Result<(), Error> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.by_player.values().collect::<Vec<_>>())?;
        let beside = path.with_extension("new");
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_there_until_its_end_and_after_a_restart() {
        let path = std::env::temp_dir().join(format!("roomkeeper-bans-{}.json", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (ann, bob, now) = (EntityId::named("ann"), EntityId::named("bob"), Duration::from_secs(1_000));
        let mut bans = Bans::open(&path).unwrap();
        bans.add(Ban { player: ann, why: "cheats".to_owned(), until: None }, now).unwrap();
        bans.add(Ban { player: bob, why: "shouts".to_owned(), until: Some(1_010) }, now).unwrap();
        let mut again = Bans::open(&path).unwrap();
        assert_eq!(again.of(ann, now).map(|ban| &*ban.why), Some("cheats"));
        assert!(again.of(bob, Duration::from_secs(1_009)).is_some() && again.of(bob, Duration::from_secs(1_010)).is_none());
        assert_eq!(again.all(Duration::from_secs(1_010)).len(), 1);
        assert!(again.remove(ann).unwrap() && !again.remove(ann).unwrap());
        assert!(Bans::open(&path).unwrap().of(ann, now).is_none());
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Bans::open(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn bans_that_could_not_be_written_are_refused_before_there_are_any() {
        let missing = std::env::temp_dir().join(format!("roomkeeper-no-folder-{}", std::process::id())).join("bans.json");
        let error = Bans::open(&missing).unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.to_string().starts_with("they can't be written there: "), "{error}");
    }
}
