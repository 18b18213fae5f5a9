//! Who is not let in, and until when.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Write};
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
    /// Reads a file; there need be none yet. Whether it can be written is tried at once: nobody should find out by a ban that is gone.
    ///
    /// # Errors
    /// If it can't be read, could not be written, or holds something else, or more than there may be.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let by_player = match std::fs::read(path) {
            Ok(text) => read(&text, BANS_MAX)?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        may_start_after(try_place(path))?;
        Ok(Self { by_player, file: Some(path.to_owned()) })
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
        if self.by_player.len() >= BANS_MAX && !self.by_player.contains_key(&ban.player) {
            return Err(Error::new(ErrorKind::QuotaExceeded, format!("{BANS_MAX} players are banned, as many as may be")));
        }
        self.by_player.insert(ban.player, ban);
        self.save()
    }

    /// Lets a player in again. False if it was not banned.
    ///
    /// # Errors
    /// If the file can't be written: then the ban still counts, and whoever asks again has it written.
    pub(super) fn remove(&mut self, player: EntityId) -> Result<bool, Error> {
        let Some(ban) = self.by_player.remove(&player) else { return Ok(false) };
        let saved = self.save();
        if saved.is_err() {
            self.by_player.insert(player, ban);
        }
        saved.map(|()| true)
    }

    /// Writes all of it beside the file first, so that there is never half of one.
    fn save(&self) -> Result<(), Error> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.by_player.values().collect::<Vec<_>>())?;
        let beside = beside(path);
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&text)?;
        // Or else its name may be there after a loss of power, and nothing in it.
        file.sync_all()?;
        drop(file);
        std::fs::rename(&beside, path)
    }
}

/// What a file says. One with more than `most` is refused: of those that were left out nobody would hear, and the next ban would write them away.
fn read(text: &[u8], most: usize) -> Result<BTreeMap<EntityId, Ban>, Error> {
    let bans: Vec<Ban> = serde_json::from_slice(text).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    let by_player: BTreeMap<EntityId, Ban> = bans.into_iter().map(|ban| (ban.player, ban)).collect();
    if by_player.len() > most {
        let why = format!("it has bans of {} players, and {most} may be banned", by_player.len());
        return Err(Error::new(ErrorKind::InvalidData, why));
    }
    Ok(by_player)
}

/// Where a file is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Tries whether a file could be written, without touching it.
fn try_place(path: &Path) -> Result<(), Error> {
    let beside = beside(path);
    std::fs::write(&beside, b"")?;
    std::fs::remove_file(&beside)
}

/// A disk that is full now may have place again when somebody is banned: it is no reason not to start.
fn may_start_after(tried: Result<(), Error>) -> Result<(), Error> {
    match tried {
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            tracing::warn!(%error, "bans could not be written at the moment");
            Ok(())
        }
        tried => tried.map_err(|error| Error::new(error.kind(), format!("they can't be written there: {error}"))),
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

    #[test]
    fn bans_are_written_when_they_change_and_not_at_the_start() {
        // Named as what is written beside others.
        let folder = std::env::temp_dir().join(format!("roomkeeper-bans-{}", std::process::id()));
        let (path, ann, now) = (folder.join("bans.new"), EntityId::named("ann"), Duration::from_secs(1_000));
        std::fs::create_dir_all(&folder).unwrap();
        let names = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let mut bans = Bans::open(&path).unwrap();
        assert!(names().is_empty(), "{:?}", names());
        bans.add(Ban { player: ann, why: "cheats".to_owned(), until: None }, now).unwrap();
        // As somebody would write it who has no server at hand.
        let text = format!(" {}", std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, &text).unwrap();
        assert!(Bans::open(&path).unwrap().of(ann, now).is_some());
        assert_eq!((std::fs::read_to_string(&path).unwrap(), names()), (text, vec!["bans.new".into()]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    fn ban(number: usize) -> Ban {
        Ban { player: EntityId::named(&format!("player{number}")), why: "cheats".to_owned(), until: None }
    }

    #[test]
    fn a_file_with_more_bans_than_may_be_is_refused_and_not_cut_short() {
        let text = serde_json::to_vec(&(0..4).map(ban).collect::<Vec<_>>()).unwrap();
        assert_eq!(read(&text, 4).unwrap().len(), 4);
        let error = read(&text, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "it has bans of 4 players, and 3 may be banned");
        let twice = serde_json::to_vec(&[ban(0), ban(1), ban(0)]).unwrap();
        assert_eq!(read(&twice, 2).unwrap().len(), 2, "who is named twice is banned once");
    }

    #[test]
    fn where_as_many_are_banned_as_may_be_a_ban_can_still_be_changed() {
        let now = Duration::from_secs(1_000);
        let mut bans = Bans { by_player: (0..BANS_MAX).map(ban).map(|ban| (ban.player, ban)).collect(), file: None };
        assert_eq!(bans.add(ban(BANS_MAX), now).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        bans.add(Ban { until: Some(1_010), ..ban(7) }, now).unwrap();
        assert_eq!(bans.of(ban(7).player, now).and_then(|ban| ban.until), Some(1_010));
        // What is over makes place.
        bans.add(ban(BANS_MAX), Duration::from_secs(1_010)).unwrap();
    }

    #[test]
    fn a_full_disk_is_no_reason_not_to_start() {
        for (kind, may) in [(ErrorKind::StorageFull, true), (ErrorKind::QuotaExceeded, true), (ErrorKind::ReadOnlyFilesystem, false)] {
            assert_eq!(may_start_after(Err(kind.into())).map_err(|error| error.kind()), if may { Ok(()) } else { Err(kind) });
        }
    }

    #[test]
    fn a_ban_whose_end_could_not_be_written_ends_once_it_is_asked_for_again() {
        let folder = std::env::temp_dir().join(format!("roomkeeper-bans-lifted-{}", std::process::id()));
        let (path, ann, now) = (folder.join("bans.json"), EntityId::named("ann"), Duration::from_secs(1_000));
        std::fs::create_dir_all(&folder).unwrap();
        let mut bans = Bans::open(&path).unwrap();
        bans.add(Ban { player: ann, why: "cheats".to_owned(), until: None }, now).unwrap();
        // Where it would be written first there is something else.
        std::fs::create_dir(beside(&path)).unwrap();
        assert!(bans.remove(ann).is_err());
        std::fs::remove_dir(beside(&path)).unwrap();
        assert!(bans.remove(ann).unwrap(), "the file still has it");
        assert!(Bans::open(&path).unwrap().of(ann, now).is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
