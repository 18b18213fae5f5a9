//! What a host that shares rooms asks the directory, and what it hears.

use std::collections::VecDeque;
use std::time::Duration;

use crate::store::{Claim, Directory, HostEntry, Load, Owner, Store, StoreError};

/// How many rooms of hosts that are gone are taken at once. Others may take the rest.
const LAPSED_AT_ONCE: usize = 16;

/// After so many renewals that did not come a host is not sent anybody any more.
const MISSED_MAX: u32 = 3;

/// Where a room is.
#[derive(Debug)]
pub(crate) enum Led {
    /// This host has it now.
    Here,
    /// Another host has it, which clients reach at this address.
    There(String),
    /// There is none.
    Nowhere,
    /// No host has it, and this one has no place for it.
    Full,
    /// Nobody knows.
    Unknown,
}

/// What the directory says.
#[derive(Debug)]
pub(crate) enum News {
    Led(String, Led),
    /// Rooms that are not this host's any more, and where they are.
    Lost(Vec<(String, Option<String>)>),
    /// Rooms whose host is gone, and which this host has now.
    Taken(Vec<String>),
    Released(String),
}

/// Who asks the directory. Answers may take long, or never come.
pub(crate) struct Clerk {
    directory: Box<dyn Directory>,
    /// Tells which rooms there are.
    stored: Option<Box<dyn Store>>,
    host: String,
    /// How often leases are renewed.
    pub(crate) every: Duration,
    /// Where the least full of the other hosts is reached that take rooms and members.
    pub(crate) peer: Option<String>,
    /// Where this one is reached.
    pub(crate) here: Option<String>,
    /// Another process has this host's name by now: the directory gives this one nothing any more.
    pub(crate) is_ousted: bool,
    /// How often the directory has failed since all went well.
    failures: u64,
    /// It has failed since the last renewal after which others were heard of.
    has_failed: bool,
    /// That it fails was told.
    is_told: bool,
    /// Rooms that could not be given back yet.
    owed: VecDeque<String>,
}

impl Clerk {
    pub(crate) fn new(directory: Box<dyn Directory>, stored: Option<Box<dyn Store>>, host: &str, every: Duration) -> Self {
        let (peer, here, is_ousted, failures, has_failed, is_told, owed) = Default::default();
        Self { directory, stored, host: host.to_owned(), every, peer, here, is_ousted, failures, has_failed, is_told, owed }
    }

    /// Notes if the directory does not answer.
    fn heard<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match &answer {
            Ok(_) => {}
            Err(StoreError::Served { .. }) => self.is_ousted = true,
            Err(_) => (self.failures, self.has_failed) = (self.failures + 1, true),
        }
        answer
    }

    /// Notes that all went well of what is asked again and again. Whatever else fails meanwhile is no news either: only if nothing has, since this was so the last
    /// time, does the directory answer again.
    fn answers(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            return;
        }
        let failures = std::mem::take(&mut self.failures);
        if std::mem::take(&mut self.is_told) && failures > 1 {
            tracing::warn!(failures, "the directory answers again");
        }
    }

    /// True if a failure is to be told: the first until the directory answers again. Everybody who asks for a room would have it told once more.
    pub(crate) fn is_news(&mut self) -> bool {
        !self.is_ousted && !std::mem::replace(&mut self.is_told, true)
    }

    /// Where a room is. If it is nowhere, this host takes it where a room of that name may be created, or is stored.
    pub(crate) fn lead(&mut self, room: String, may_create: bool) -> News {
        let found = self.find_or_claim(&room, may_create);
        self.led(room, found)
    }

    /// The same where this host has no place for a room: it takes none.
    pub(crate) fn lead_elsewhere(&mut self, room: String, may_create: bool) -> News {
        let found = self.find(&room, may_create).map(|found| found.unwrap_or(Led::Full));
        self.led(room, found)
    }

    fn led(&mut self, room: String, found: Result<Led, StoreError>) -> News {
        let led = self.heard(found).unwrap_or_else(|error| {
            if self.is_news() {
                tracing::warn!(room, %error, "the directory can't say where a room is");
            }
            Led::Unknown
        });
        News::Led(room, led)
    }

    /// Where a room is that this host may not take. Nothing if it may.
    fn find(&mut self, room: &str, may_create: bool) -> Result<Option<Led>, StoreError> {
        if let Some(owner) = self.directory.find(room)?.filter(|owner| owner.host != self.host) {
            return Ok(Some(there(owner)));
        }
        if !may_create && !self.is_stored(room)? {
            return Ok(Some(Led::Nowhere));
        }
        Ok(None)
    }

    fn find_or_claim(&mut self, room: &str, may_create: bool) -> Result<Led, StoreError> {
        if let Some(led) = self.find(room, may_create)? {
            return Ok(led);
        }
        Ok(match self.directory.claim(room)? {
            Claim::Granted(_) => {
                self.keep(room);
                Led::Here
            }
            Claim::Taken(owner) => there(owner),
        })
    }

    fn is_stored(&mut self, room: &str) -> Result<bool, StoreError> {
        let Some(stored) = &mut self.stored else { return Ok(false) };
        let found = stored.room(room);
        if found.is_err() {
            stored.reopen()?;
        }
        Ok(found?.is_some_and(|room| room.header.forked_from.is_none()))
    }

    /// Gives a room back. One that can't be given back now is with the next renewal, unless its lease has run out by then.
    pub(crate) fn release(&mut self, room: String) -> Option<News> {
        let released = self.directory.release(&room);
        let Err(error) = self.heard(released) else { return Some(News::Released(room)) };
        if self.is_news() {
            tracing::warn!(room, %error, "a room can't be given back yet");
        }
        self.owed.push_back(room);
        None
    }

    /// A room is this host's anew: what was to be given back is not any more.
    fn keep(&mut self, room: &str) {
        self.owed.retain(|owed| owed != room);
    }

    /// Tries again to give back what could not be, until that fails: each try may take as long as an answer may, and the leases wait.
    fn release_owed(&mut self) -> Vec<News> {
        let mut released = Vec::new();
        while let Some(room) = self.owed.pop_front() {
            let Some(news) = self.release(room) else { break };
            released.push(news);
        }
        released
    }

    /// Renews the leases and says how full this host is, and gives back what could not be given back before.
    pub(crate) fn renew(&mut self, load: Load) -> Result<Vec<News>, StoreError> {
        let renewed = self.directory.renew(load);
        let lost = self.heard(renewed)?;
        let mut news = self.release_owed();
        if !lost.is_empty() {
            let place = |room: String| {
                let owner = self.directory.find(&room).ok().flatten().filter(|owner| owner.host != self.host);
                (room, owner.map(|owner| owner.address).filter(|address| !address.is_empty()))
            };
            news.push(News::Lost(lost.into_iter().map(place).collect()));
        }
        Ok(news)
    }

    /// Looks who else there is, and takes rooms whose host is gone. To be called after each renewal that came: what can't be asked then is told.
    pub(crate) fn look_around(&mut self, load: Load) -> Option<News> {
        match self.hosts_and_lapsed(load) {
            Ok(taken) => {
                self.answers();
                taken
            }
            Err(error) => {
                if self.is_news() {
                    tracing::warn!(%error, "the directory can't say which hosts there are");
                }
                None
            }
        }
    }

    fn hosts_and_lapsed(&mut self, load: Load) -> Result<Option<News>, StoreError> {
        let hosts = self.directory.hosts();
        let hosts = self.heard(hosts)?;
        if self.here.is_none() {
            self.here = hosts.iter().find(|entry| entry.host == self.host).map(|entry| entry.address.clone());
        }
        // One that stops says that it has no place at all.
        let has_place = |load: Load| load.rooms < load.rooms_max && load.members < load.members_max;
        let is_there = |entry: &HostEntry| entry.silent < self.every * MISSED_MAX && has_place(entry.load);
        let others = hosts.into_iter().filter(|entry| entry.host != self.host && is_there(entry));
        self.peer = others.min_by_key(|entry| (entry.load.members, entry.load.rooms)).map(|entry| entry.address);
        self.take_lapsed(load)
    }

    /// Takes rooms whose host is gone, if there is place for them. It costs little, and what is taken over sooner stands still for less.
    pub(crate) fn take_lapsed(&mut self, load: Load) -> Result<Option<News>, StoreError> {
        let place = load.rooms_max.saturating_sub(load.rooms) as usize;
        if place == 0 {
            return Ok(None);
        }
        let taken = self.directory.claim_lapsed(place.min(LAPSED_AT_ONCE));
        let taken = self.heard(taken)?;
        taken.iter().for_each(|lease| self.keep(&lease.room));
        Ok((!taken.is_empty()).then(|| News::Taken(taken.into_iter().map(|lease| lease.room).collect())))
    }

    /// Where the process is reached that has this host's name by now, if the directory says.
    pub(crate) fn successor(&mut self) -> Option<String> {
        let hosts = self.directory.hosts().ok()?;
        let named = hosts.into_iter().find(|entry| entry.host == self.host)?;
        // It may not have said yet where it is.
        self.here.as_ref().is_some_and(|here| *here != named.address).then_some(named.address)
    }

    /// Gives all rooms back.
    pub(crate) fn leave(&mut self) {
        if let Err(error) = self.directory.leave() {
            tracing::warn!(%error, "the directory still lists this host; what it had runs out");
        }
    }
}

/// Where another host has a room. One that has left is nowhere, until its leases have run out.
fn there(owner: Owner) -> Led {
    if owner.address.is_empty() { Led::Unknown } else { Led::There(owner.address) }
}

/// A directory for tests, something of which becomes otherwise.
#[cfg(test)]
pub(super) mod around {
    use crate::store::{Claim, Directory, HostEntry, Lease, Leases, Load, MemoryDirectory, Owner, RoomEntry, StoreError};

    type Before = Box<dyn FnMut(&'static str) -> Result<(), StoreError> + Send>;

    /// Of each question something is made before it is asked, by its name; and what fails there is not asked.
    pub(in crate::host) struct Around {
        inner: MemoryDirectory,
        before: Before,
    }

    impl Around {
        pub(in crate::host) fn new(
            inner: MemoryDirectory,
            before: impl FnMut(&'static str) -> Result<(), StoreError> + Send + 'static,
        ) -> Box<Self> {
            Box::new(Self { inner, before: Box::new(before) })
        }

        fn ask(&mut self, what: &'static str) -> Result<&mut MemoryDirectory, StoreError> {
            (self.before)(what).map(|()| &mut self.inner)
        }
    }

    impl Directory for Around {
        fn leases(&self) -> Leases {
            self.inner.leases()
        }
        fn claim(&mut self, room: &str) -> Result<Claim, StoreError> {
            self.ask("claim")?.claim(room)
        }
        fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError> {
            self.ask("claim_lapsed")?.claim_lapsed(most)
        }
        fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError> {
            self.ask("renew")?.renew(load)
        }
        fn release(&mut self, room: &str) -> Result<(), StoreError> {
            self.ask("release")?.release(room)
        }
        fn find(&mut self, room: &str) -> Result<Option<Owner>, StoreError> {
            self.ask("find")?.find(room)
        }
        fn hosts(&mut self) -> Result<Vec<HostEntry>, StoreError> {
            self.ask("hosts")?.hosts()
        }
        fn rooms(&mut self) -> Result<Vec<RoomEntry>, StoreError> {
            self.ask("rooms")?.rooms()
        }
        fn leave(&mut self) -> Result<(), StoreError> {
            self.ask("leave")?.leave()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::around::Around;
    use super::*;
    use crate::store::MemoryDirectory;

    /// It says which rooms are lost, and then no more.
    fn breaks(inner: MemoryDirectory) -> Box<Around> {
        Around::new(inner, |asked| if ["find", "hosts"].contains(&asked) { Err(StoreError::Stopped) } else { Ok(()) })
    }

    /// It does not take rooms back as long as it fails.
    fn keeps(inner: MemoryDirectory, fails: Arc<AtomicBool>) -> Box<Around> {
        Around::new(inner, move |asked| match asked == "release" && fails.load(Ordering::Relaxed) {
            true => Err(StoreError::Stopped),
            false => Ok(()),
        })
    }

    /// What is asked again and again.
    fn round(clerk: &mut Clerk, load: Load) -> Result<Vec<News>, StoreError> {
        let mut news = clerk.renew(load)?;
        news.extend(clerk.look_around(load));
        Ok(news)
    }

    #[test]
    fn a_room_counts_as_given_back_once_it_is_and_is_tried_again_until_then() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let (mut theirs, fails) = (ours.join("b", "10.0.0.2:5000"), Arc::new(AtomicBool::new(true)));
        let mut clerk = Clerk::new(keeps(ours, fails.clone()), None, "a", ttl / 4);
        clerk.directory.claim("duel").unwrap();
        assert!(clerk.release("duel".to_owned()).is_none());
        assert!(round(&mut clerk, Load::default()).unwrap().is_empty());
        assert!(matches!(theirs.claim("duel").unwrap(), Claim::Taken(_)));
        fails.store(false, Ordering::Relaxed);
        let news = round(&mut clerk, Load::default()).unwrap();
        assert!(matches!(&news[..], [News::Released(room)] if room == "duel"), "{news:?}");
        assert!(matches!(theirs.claim("duel").unwrap(), Claim::Granted(_)));
        assert!(round(&mut clerk, Load::default()).unwrap().is_empty());
    }

    #[test]
    fn a_room_that_could_not_be_given_back_and_is_asked_for_again_stays() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let (mut theirs, fails) = (ours.join("b", "10.0.0.2:5000"), Arc::new(AtomicBool::new(true)));
        let mut clerk = Clerk::new(keeps(ours, fails.clone()), None, "a", ttl / 4);
        for room in ["duel", "hall", "cellar"] {
            clerk.directory.claim(room).unwrap();
            assert!(clerk.release(room.to_owned()).is_none());
        }
        assert!(round(&mut clerk, Load::default()).unwrap().is_empty());
        assert_eq!(clerk.owed, ["hall", "cellar", "duel"], "one was tried, and is behind the others now");
        assert!(matches!(clerk.lead("duel".to_owned(), true), News::Led(_, Led::Here)));
        fails.store(false, Ordering::Relaxed);
        let news = round(&mut clerk, Load::default()).unwrap();
        assert!(matches!(&news[..], [News::Released(a), News::Released(b)] if a == "hall" && b == "cellar"), "{news:?}");
        assert!(matches!(theirs.claim("duel").unwrap(), Claim::Taken(_)));
    }

    #[test]
    fn nobody_is_sent_to_where_nothing_is_known_to_be() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        assert!(matches!(ours.join("b", "").claim("hall").unwrap(), Claim::Granted(_)));
        let mut clerk = Clerk::new(Box::new(ours), None, "a", ttl / 4);
        assert!(matches!(clerk.lead("hall".to_owned(), true), News::Led(_, Led::Unknown)));
    }

    #[test]
    fn a_host_hears_that_a_room_is_lost_though_the_directory_fails_right_after() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let (mut theirs, clock) = (ours.join("b", "10.0.0.2:5000"), ours.clone());
        let mut clerk = Clerk::new(breaks(ours), None, "a", ttl / 4);
        assert!(matches!(clerk.lead("duel".to_owned(), true), News::Led(_, Led::Unknown)), "nobody can say whose it is");
        clerk.directory.claim("duel").unwrap();
        clock.skip(ttl);
        assert!(matches!(theirs.claim("duel").unwrap(), Claim::Granted(_)));
        let news = round(&mut clerk, Load::default()).unwrap();
        assert!(matches!(&news[..], [News::Lost(rooms)] if rooms == &[("duel".to_owned(), None)]), "{news:?}");
    }

    #[test]
    fn a_host_whose_name_another_process_has_hears_so_and_where_that_one_is_and_takes_nothing_from_it() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let (leases, shared) = (ours.leases(), ours.clone());
        let mut clerk = Clerk::new(Box::new(ours), None, "a", ttl / 4);
        round(&mut clerk, Load::default()).unwrap();
        assert!(matches!(clerk.lead("duel".to_owned(), true), News::Led(_, Led::Here)));
        let mut theirs = shared.join("a", "10.0.0.9:5000");
        let Claim::Granted(lease) = theirs.claim("duel").unwrap() else { panic!("it has the name, and so the room") };
        assert!(!clerk.is_ousted, "nobody has asked");
        let error = round(&mut clerk, Load::default()).unwrap_err();
        assert!(matches!(error, StoreError::Served { .. }) && error.to_string().contains("\"a\""), "{error}");
        assert!(clerk.is_ousted && !clerk.is_news() && leases.held().is_empty());
        assert_eq!(clerk.successor().as_deref(), Some("10.0.0.9:5000"));
        for room in ["duel", "hall"] {
            assert!(matches!(clerk.lead(room.to_owned(), true), News::Led(_, Led::Unknown)));
        }
        clerk.take_lapsed(Load { rooms_max: 9, ..Load::default() }).unwrap_err();
        clerk.leave();
        assert_eq!(theirs.find("duel").unwrap().map(|owner| owner.token), Some(lease.token));
        assert!(theirs.find("hall").unwrap().is_none());
        assert!(theirs.hosts().unwrap().iter().any(|entry| entry.host == "a" && entry.address == "10.0.0.9:5000"));
    }

    #[test]
    fn that_the_directory_fails_is_told_once_until_it_answers_again() {
        let mut clerk = Clerk::new(Box::new(MemoryDirectory::new("a", "", Duration::from_secs(9))), None, "a", Duration::from_secs(1));
        for _ in 0..2 {
            let mut told = 0;
            for _ in 0..100 {
                clerk.heard::<()>(Err(StoreError::Stopped)).unwrap_err();
                told += u32::from(clerk.is_news());
            }
            assert_eq!((told, clerk.failures), (1, 100));
            // Whatever failed may fail again, as long as nothing but this goes well.
            round(&mut clerk, Load::default()).unwrap();
            assert!(clerk.is_told && clerk.failures == 100);
            round(&mut clerk, Load::default()).unwrap();
            assert!(!clerk.is_told && clerk.failures == 0);
        }
    }

    #[test]
    fn what_keeps_failing_while_leases_are_renewed_is_told_once() {
        let ttl = Duration::from_secs(3_600);
        let mut clerk = Clerk::new(breaks(MemoryDirectory::new("a", "", ttl)), None, "a", ttl / 4);
        round(&mut clerk, Load::default()).unwrap();
        assert!(clerk.is_told, "it can't say which hosts there are");
        for _ in 0..3 {
            round(&mut clerk, Load::default()).unwrap();
            assert!(clerk.release("duel".to_owned()).is_some());
            assert!(!clerk.is_news());
        }
        assert_eq!(clerk.failures, 4);
        // The same where only those hear so who ask for rooms.
        let mut clerk = Clerk::new(Box::new(MemoryDirectory::new("a", "", ttl)), None, "a", ttl / 4);
        let mut told = 0;
        for _ in 0..3 {
            clerk.heard::<()>(Err(StoreError::Stopped)).unwrap_err();
            told += u32::from(clerk.is_news());
            round(&mut clerk, Load::default()).unwrap();
        }
        assert_eq!((told, clerk.failures), (1, 3));
    }

    #[test]
    fn a_host_without_a_place_says_where_rooms_are_and_takes_none() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let mut theirs = ours.join("b", "10.0.0.2:5000");
        assert!(matches!(theirs.claim("hall").unwrap(), Claim::Granted(_)));
        let mut clerk = Clerk::new(Box::new(ours), None, "a", ttl / 4);
        assert!(matches!(clerk.lead_elsewhere("duel".to_owned(), true), News::Led(_, Led::Full)));
        assert!(matches!(clerk.lead_elsewhere("nowhere".to_owned(), false), News::Led(_, Led::Nowhere)));
        assert!(matches!(clerk.lead_elsewhere("hall".to_owned(), true), News::Led(_, Led::There(there)) if there == "10.0.0.2:5000"));
        assert!(theirs.rooms().unwrap().iter().map(|entry| entry.room.as_str()).eq(["hall"]), "no other was ever claimed");
    }

    #[test]
    fn nobody_is_sent_to_a_host_that_stops_or_is_full() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let load = |rooms_max, members| Load { rooms: 1, rooms_max, members, members_max: 10 };
        let (mut stops, mut full, mut free) =
            (ours.join("b", "10.0.0.2:5000"), ours.join("c", "10.0.0.3:5000"), ours.join("d", "10.0.0.4:5000"));
        let mut clerk = Clerk::new(Box::new(ours), None, "a", ttl / 4);
        round(&mut clerk, load(5, 0)).unwrap();
        assert_eq!(clerk.peer, None, "none of them has said yet that it has a place");
        stops.renew(load(0, 0)).unwrap();
        full.renew(load(5, 10)).unwrap();
        free.renew(load(5, 9)).unwrap();
        round(&mut clerk, load(5, 0)).unwrap();
        assert_eq!(clerk.peer.as_deref(), Some("10.0.0.4:5000"));
        free.renew(load(1, 9)).unwrap();
        round(&mut clerk, load(5, 0)).unwrap();
        assert_eq!(clerk.peer, None);
    }
}
