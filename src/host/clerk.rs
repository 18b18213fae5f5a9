//! What a host that shares rooms asks the directory, and what it hears.

use std::time::Duration;

use crate::store::{Claim, Directory, HostEntry, Load, Store, StoreError};

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
}

impl Clerk {
    pub(crate) fn new(directory: Box<dyn Directory>, stored: Option<Box<dyn Store>>, host: &str, every: Duration) -> Self {
        Self { directory, stored, host: host.to_owned(), every, peer: None, here: None }
    }

    /// Where a room is. If it is nowhere, this host takes it where a room of that name may be created, or is stored.
    pub(crate) fn lead(&mut self, room: String, may_create: bool) -> News {
        let led = self.find_or_claim(&room, may_create).unwrap_or_else(|error| {
            tracing::warn!(room, %error, "the directory can't say where a room is");
            Led::Unknown
        });
        News::Led(room, led)
    }

    fn find_or_claim(&mut self, room: &str, may_create: bool) -> Result<Led, StoreError> {
        if let Some(owner) = self.directory.find(room)?.filter(|owner| owner.host != self.host) {
            return Ok(Led::There(owner.address));
        }
        if !may_create && !self.is_stored(room)? {
            return Ok(Led::Nowhere);
        }
        Ok(match self.directory.claim(room)? {
            Claim::Granted(_) => Led::Here,
            Claim::Taken(owner) => Led::There(owner.address),
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

    /// Gives a room back.
    pub(crate) fn release(&mut self, room: String) -> News {
        if let Err(error) = self.directory.release(&room) {
            // Its lease runs out by itself.
            tracing::warn!(room, %error, "a room can't be given back");
        }
        News::Released(room)
    }

    /// Renews the leases, says how full this host is, and takes rooms whose host is gone.
    pub(crate) fn renew(&mut self, load: Load) -> Result<Vec<News>, StoreError> {
        let mut news = Vec::new();
        let lost = self.directory.renew(load)?;
        if !lost.is_empty() {
            let place = |room: String| {
                let owner = self.directory.find(&room).ok().flatten().filter(|owner| owner.host != self.host);
                (room, owner.map(|owner| owner.address))
            };
            news.push(News::Lost(lost.into_iter().map(place).collect()));
        }
        match self.look_around(load) {
            Ok(taken) => news.extend(taken),
            // What was lost is lost all the same, and who has it is to hear of it.
            Err(error) => tracing::warn!(%error, "the directory can't say which hosts there are"),
        }
        Ok(news)
    }

    /// Looks who else there is, and takes rooms whose host is gone.
    fn look_around(&mut self, load: Load) -> Result<Option<News>, StoreError> {
        let hosts = self.directory.hosts()?;
        self.here = hosts.iter().find(|entry| entry.host == self.host).map(|entry| entry.address.clone());
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
        let taken = self.directory.claim_lapsed(place.min(LAPSED_AT_ONCE))?;
        Ok((!taken.is_empty()).then(|| News::Taken(taken.into_iter().map(|lease| lease.room).collect())))
    }

    /// Gives all rooms back.
    pub(crate) fn leave(&mut self) {
        if let Err(error) = self.directory.leave() {
            tracing::warn!(%error, "the directory still lists this host; what it had runs out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Lease, Leases, MemoryDirectory, Owner, RoomEntry};

    /// It says which rooms are lost, and then no more.
    struct Breaks(MemoryDirectory);

    impl Directory for Breaks {
        fn leases(&self) -> Leases {
            self.0.leases()
        }
        fn claim(&mut self, room: &str) -> Result<Claim, StoreError> {
            self.0.claim(room)
        }
        fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError> {
            self.0.claim_lapsed(most)
        }
        fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError> {
            self.0.renew(load)
        }
        fn release(&mut self, room: &str) -> Result<(), StoreError> {
            self.0.release(room)
        }
        fn find(&mut self, _: &str) -> Result<Option<Owner>, StoreError> {
            Err(StoreError::Stopped)
        }
        fn hosts(&mut self) -> Result<Vec<HostEntry>, StoreError> {
            Err(StoreError::Stopped)
        }
        fn rooms(&mut self) -> Result<Vec<RoomEntry>, StoreError> {
            self.0.rooms()
        }
        fn leave(&mut self) -> Result<(), StoreError> {
            self.0.leave()
        }
    }

    #[test]
    fn a_host_hears_that_a_room_is_lost_though_the_directory_fails_right_after() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let (mut theirs, clock) = (ours.join("b", "10.0.0.2:5000"), ours.clone());
        let mut clerk = Clerk::new(Box::new(Breaks(ours)), None, "a", ttl / 4);
        assert!(matches!(clerk.lead("duel".to_owned(), true), News::Led(_, Led::Unknown)), "nobody can say whose it is");
        clerk.directory.claim("duel").unwrap();
        clock.skip(ttl);
        assert!(matches!(theirs.claim("duel").unwrap(), Claim::Granted(_)));
        let news = clerk.renew(Load::default()).unwrap();
        assert!(matches!(&news[..], [News::Lost(rooms)] if rooms == &[("duel".to_owned(), None)]), "{news:?}");
    }

    #[test]
    fn nobody_is_sent_to_a_host_that_stops_or_is_full() {
        let ttl = Duration::from_secs(3_600);
        let ours = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let load = |rooms_max, members| Load { rooms: 1, rooms_max, members, members_max: 10 };
        let (mut stops, mut full, mut free) =
            (ours.join("b", "10.0.0.2:5000"), ours.join("c", "10.0.0.3:5000"), ours.join("d", "10.0.0.4:5000"));
        let mut clerk = Clerk::new(Box::new(ours), None, "a", ttl / 4);
        clerk.renew(load(5, 0)).unwrap();
        assert_eq!(clerk.peer, None, "none of them has said yet that it has a place");
        stops.renew(load(0, 0)).unwrap();
        full.renew(load(5, 10)).unwrap();
        free.renew(load(5, 9)).unwrap();
        clerk.renew(load(5, 0)).unwrap();
        assert_eq!(clerk.peer.as_deref(), Some("10.0.0.4:5000"));
        free.renew(load(1, 9)).unwrap();
        clerk.renew(load(5, 0)).unwrap();
        assert_eq!(clerk.peer, None);
    }
}
