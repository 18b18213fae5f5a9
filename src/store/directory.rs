//! The directory: which host has which room, and where clients reach it. A room has at most one owner, whatever stalls.
//!
//! A host has a room by a lease, which runs out unless it is renewed, and which has a token that grows each time the room changes hands. Whether
//! a lease has run out is told by the directory's clock alone. A host that stood still for too long may still believe that it has a room;
//! so the store asks for the token within each transaction that writes, and refuses an old one ([`StoreError::Lost`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::instant;
use super::error::StoreError;

/// How often a room changed hands. It only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A room that a host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The room's name.
    pub room: String,
    /// What tells this ownership from those before and after it.
    pub token: Token,
}

/// Who has a room, and where clients find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The host's name.
    pub host: String,
    /// The address at which clients reach it.
    pub address: String,
    /// The token of its lease.
    pub token: Token,
}

/// What came of asking for a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is this host's.
    Granted(Lease),
    /// Another host has it.
    Taken(Owner),
}

/// How full a host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Rooms that it has.
    pub rooms: u32,
    /// Rooms that it can have.
    pub rooms_max: u32,
    /// Members in its rooms.
    pub members: u32,
    /// Members that it can have.
    pub members_max: u32,
}

/// A host, as the directory knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Its name.
    pub host: String,
    /// The address at which clients reach it.
    pub address: String,
    /// How full it said it was.
    pub load: Load,
    /// How long ago it was last heard of.
    pub silent: Duration,
}

/// A room, as the directory knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEntry {
    /// Its name.
    pub room: String,
    /// Who has it; nobody if it was given back, or its lease ran out.
    pub owner: Option<Owner>,
    /// The token of the last lease.
    pub token: Token,
}

/// Which host has which room, as one host sees and changes it.
///
/// A host renews its leases several times in the time for which they hold, stops rooms that it lost, and gives rooms back only after
/// everything of them is written.
///
/// Its name is its own. Where another process takes it all the same, the rooms are that one's: the earlier process has no leases any more, is refused whatever it
/// asks for ([`StoreError::Served`]), and is to end.
pub trait Directory: Send {
    /// What this host has, for the store that writes it.
    fn leases(&self) -> Leases;
    /// Takes a room, if nobody has it. A room that this host has stays its own, by the lease that it has.
    ///
    /// # Errors
    /// If the directory can't be reached; then it is not known whether the room was taken, and it is not among the [`leases`](Self::leases). If another process
    /// has this host's name.
    fn claim(&mut self, room: &str) -> Result<Claim, StoreError>;
    /// Takes rooms whose host did not renew its lease in time, at most so many. Rooms that were given back are not among them.
    ///
    /// # Errors
    /// If the directory can't be reached, or another process has this host's name.
    fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError>;
    /// Renews all leases of this host at once, and says that it lives and how full it is. Returns the rooms that it lost: a lease that ran
    /// out is not renewed, even if nobody took the room.
    ///
    /// # Errors
    /// If the directory can't be reached, or another process has this host's name.
    fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError>;
    /// Gives a room back, so that any host can claim it at once.
    ///
    /// # Errors
    /// If the directory can't be reached. The lease is not renewed any more all the same, and runs out; until then it can be given back by another try.
    fn release(&mut self, room: &str) -> Result<(), StoreError>;
    /// Who has a room, and where clients find it.
    ///
    /// # Errors
    /// If the directory can't be reached.
    fn find(&mut self, room: &str) -> Result<Option<Owner>, StoreError>;
    /// The hosts, by name. Which of them still live is for the caller to say, by how long they have been silent.
    ///
    /// # Errors
    /// If the directory can't be reached.
    fn hosts(&mut self) -> Result<Vec<HostEntry>, StoreError>;
    /// The rooms that were ever claimed, by name.
    ///
    /// # Errors
    /// If the directory can't be reached.
    fn rooms(&mut self) -> Result<Vec<RoomEntry>, StoreError>;
    /// Gives all rooms back and forgets the host.
    ///
    /// # Errors
    /// If the directory can't be reached, or another process has this host's name: that one is not forgotten.
    fn leave(&mut self) -> Result<(), StoreError>;
}

#[derive(Debug)]
struct Held {
    token: Token,
    /// Until then the lease holds for sure, by this host's own clock.
    until: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    held: BTreeMap<String, Held>,
    /// By which lease rooms are open. A room that was lost and claimed again has to be opened again before anything of it is written.
    opened: BTreeMap<String, Token>,
}

/// What leases are timed by: real time, or for simulations one that passes when it is told to.
#[derive(Clone, Debug)]
enum Clock {
    Real(Instant),
    Hand(Arc<AtomicU64>),
}

impl Clock {
    fn now(&self) -> Duration {
        match self {
            Self::Real(began) => instant().saturating_duration_since(*began),
            Self::Hand(micros) => Duration::from_micros(micros.load(Ordering::Relaxed)),
        }
    }

    /// Another one of its kind.
    fn another(&self) -> Self {
        match self {
            Self::Real(_) => Self::Real(instant()),
            Self::Hand(_) => Self::Hand(Arc::default()),
        }
    }
}

/// The leases that a host has, shared between its directory and its store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Leases {
    kept: Arc<Mutex<Kept>>,
    clock: Clock,
}

impl Default for Leases {
    fn default() -> Self {
        Self { kept: Arc::default(), clock: Clock::Real(instant()) }
    }
}

impl Leases {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Each change is one insertion or removal: who panicked in between left nothing halfway.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by this host's own clock.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Lets time pass on this host's own clock, where it is one that does so [by hand](MemoryDirectory::by_hand).
    pub fn pass(&self, time: Duration) {
        if let Clock::Hand(micros) = &self.clock {
            micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The rooms that this host has, as far as it knows, by name.
    pub fn held(&self) -> Vec<Lease> {
        self.kept().held.iter().map(|(room, held)| Lease { room: room.clone(), token: held.token }).collect()
    }

    /// The rooms whose leases may have run out, because they could not be renewed: their host is to stand still, since another one may
    /// show them to their players by now. Asks this host's clock, which was started before the directory's, and so is never late.
    pub fn lapsed(&self) -> Vec<String> {
        let now = self.now();
        self.kept().held.iter().filter(|(_, held)| held.until <= now).map(|(room, _)| room.clone()).collect()
    }

    /// True if there are any such.
    pub(crate) fn any_lapsed(&self) -> bool {
        let now = self.now();
        self.kept().held.values().any(|held| held.until <= now)
    }

    /// True if a room is leased to this host by this token, and its lease has not run out as far as it knows.
    pub(crate) fn holds_by(&self, room: &str, token: Token) -> bool {
        let now = self.now();
        self.kept().held.get(room).is_some_and(|held| held.token == token && held.until > now)
    }

    /// Notes a lease, which holds from `since` on for `ttl`.
    pub(super) fn hold(&self, room: &str, token: Token, since: Duration, ttl: Duration) {
        self.kept().held.insert(room.to_owned(), Held { token, until: since + ttl });
    }

    /// Forgets a lease.
    pub(super) fn drop(&self, room: &str) {
        self.kept().held.remove(room);
    }

    /// Forgets a lease that is given back: all that was to be written by it is.
    pub(super) fn give_back(&self, room: &str) {
        let mut kept = self.kept();
        kept.held.remove(room);
        kept.opened.remove(room);
    }

    /// Forgets all leases.
    pub(super) fn drop_all(&self) {
        self.kept().held.clear();
    }

    /// The token of a lease.
    pub(crate) fn token(&self, room: &str) -> Option<Token> {
        self.kept().held.get(room).map(|held| held.token)
    }

    /// Opens a room: what is written of it from now on is written by the lease that the host has now.
    pub(super) fn open(&self, room: &str) -> Option<Token> {
        let token = self.token(room)?;
        self.kept().opened.insert(room.to_owned(), token);
        Some(token)
    }

    /// The token by which a room is open; that which the host has now if nobody opened it before.
    pub(crate) fn opened(&self, room: &str) -> Option<Token> {
        let opened = self.kept().opened.get(room).copied();
        opened.or_else(|| self.open(room))
    }
}

#[derive(Debug)]
struct Row {
    host: Option<String>,
    token: Token,
    expires: Duration,
}

#[derive(Debug, Default)]
struct Tables {
    hosts: BTreeMap<String, (String, Load, Duration)>,
    /// How often a process joined under a name: the last one has it.
    runs: BTreeMap<String, u64>,
    rooms: BTreeMap<String, Row>,
    skipped: Duration,
}

/// A directory in memory, for hosts in one process.
#[derive(Clone, Debug)]
pub struct MemoryDirectory {
    tables: Arc<Mutex<Tables>>,
    clock: Clock,
    host: String,
    /// Which of the processes of that name this is.
    run: u64,
    ttl: Duration,
    leases: Leases,
}

impl MemoryDirectory {
    /// An empty directory, as its first host sees it. Leases hold for `ttl`.
    pub fn new(host: &str, address: &str, ttl: Duration) -> Self {
        Self::with(Clock::Real(instant()), ttl).join(host, address)
    }

    /// The same for simulations: time passes only where it is let pass, for the directory by [`skip`](Self::skip), and for each host by
    /// [`Leases::pass`].
    pub fn by_hand(host: &str, address: &str, ttl: Duration) -> Self {
        Self::with(Clock::Hand(Arc::default()), ttl).join(host, address)
    }

    fn with(clock: Clock, ttl: Duration) -> Self {
        Self { tables: Arc::default(), clock, host: String::new(), run: 0, ttl, leases: Leases::default() }
    }

    /// The same directory, as another host sees it; or as another process of a host does, which has the name from now on.
    pub fn join(&self, host: &str, address: &str) -> Self {
        let leases = Leases { kept: Arc::default(), clock: self.clock.another() };
        let now = self.now();
        let mut tables = self.tables();
        tables.hosts.insert(host.to_owned(), (address.to_owned(), Load::default(), now));
        let runs = tables.runs.entry(host.to_owned()).or_default();
        *runs += 1;
        let run = *runs;
        drop(tables);
        Self { host: host.to_owned(), run, leases, ..self.clone() }
    }

    /// Lets time pass at once, for tests: all leases get so much older.
    pub fn skip(&self, time: Duration) {
        self.tables().skipped += time;
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.now() + self.tables().skipped
    }

    /// This host's name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// True if a room is this host's by a lease with that token, which has not run out.
    pub(super) fn holds(&self, room: &str, token: Token) -> bool {
        let now = self.now();
        let tables = self.tables();
        let is_ours = |row: &Row| row.host.as_ref() == Some(&self.host) && row.token == token && row.expires > now;
        self.has_name(&tables) && tables.rooms.get(room).is_some_and(is_ours)
    }

    fn has_name(&self, tables: &Tables) -> bool {
        tables.runs.get(&self.host) == Some(&self.run)
    }

    /// Makes sure that no other process has this host's name by now. Else nothing is left of its leases.
    fn check_name(&self, tables: &Tables) -> Result<(), StoreError> {
        if self.has_name(tables) {
            return Ok(());
        }
        self.leases.drop_all();
        Err(StoreError::Served { place: format!("the directory in memory, as host {:?},", self.host) })
    }

    fn owner(tables: &Tables, row: &Row, now: Duration) -> Option<Owner> {
        let host = row.host.clone().filter(|_| row.expires > now)?;
        let address = tables.hosts.get(&host).map(|(address, ..)| address.clone()).unwrap_or_default();
        Some(Owner { host, address, token: row.token })
    }

    fn grant(&self, row: &mut Row, room: &str, now: Duration) -> Lease {
        *row = Row { host: Some(self.host.clone()), token: Token(row.token.0 + 1), expires: now + self.ttl };
        self.leases.hold(room, row.token, self.leases.now(), self.ttl);
        Lease { room: room.to_owned(), token: row.token }
    }
}

impl Directory for MemoryDirectory {
    fn leases(&self) -> Leases {
        self.leases.clone()
    }

    fn claim(&mut self, room: &str) -> Result<Claim, StoreError> {
        let now = self.now();
        let mut tables = self.tables();
        self.check_name(&tables)?;
        let owner = tables.rooms.get(room).and_then(|row| Self::owner(&tables, row, now));
        match owner {
            Some(owner) if owner.host != self.host => return Ok(Claim::Taken(owner)),
            Some(owner) if self.leases.token(room) == Some(owner.token) => {
                return Ok(Claim::Granted(Lease { room: room.to_owned(), token: owner.token }));
            }
            _ => {}
        }
        let row = tables.rooms.entry(room.to_owned()).or_insert(Row { host: None, token: Token(0), expires: now });
        Ok(Claim::Granted(self.grant(row, room, now)))
    }

    fn claim_lapsed(&mut self, most: usize) -> Result<Vec<Lease>, StoreError> {
        let now = self.now();
        let mut tables = self.tables();
        self.check_name(&tables)?;
        let lapsed = tables.rooms.iter_mut().filter(|(_, row)| row.host.is_some() && row.expires <= now).take(most);
        Ok(lapsed.map(|(room, row)| self.grant(row, room, now)).collect())
    }

    fn renew(&mut self, load: Load) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        let mut tables = self.tables();
        self.check_name(&tables)?;
        if let Some((_, said, heard)) = tables.hosts.get_mut(&self.host) {
            (*said, *heard) = (load, now);
        }
        let mut lost = Vec::new();
        for Lease { room, token } in self.leases.held() {
            match tables.rooms.get_mut(&room) {
                Some(row) if row.host.as_ref() == Some(&self.host) && row.token == token && row.expires > now => {
                    row.expires = now + self.ttl;
                    self.leases.hold(&room, token, self.leases.now(), self.ttl);
                }
                _ => {
                    self.leases.drop(&room);
                    lost.push(room);
                }
            }
        }
        Ok(lost)
    }

    fn release(&mut self, room: &str) -> Result<(), StoreError> {
        let token = self.leases.token(room);
        self.leases.give_back(room);
        if let Some(row) = self.tables().rooms.get_mut(room).filter(|row| row.host.as_ref() == Some(&self.host) && Some(row.token) == token)
        {
            row.host = None;
        }
        Ok(())
    }

    fn find(&mut self, room: &str) -> Result<Option<Owner>, StoreError> {
        let now = self.now();
        let tables = self.tables();
        Ok(tables.rooms.get(room).and_then(|row| Self::owner(&tables, row, now)))
    }

    fn hosts(&mut self) -> Result<Vec<HostEntry>, StoreError> {
        let now = self.now();
        let entry = |(host, (address, load, heard)): (&String, &(String, Load, Duration))| HostEntry {
            host: host.clone(),
            address: address.clone(),
            load: *load,
            silent: now.saturating_sub(*heard),
        };
        Ok(self.tables().hosts.iter().map(entry).collect())
    }

    fn rooms(&mut self) -> Result<Vec<RoomEntry>, StoreError> {
        let now = self.now();
        let tables = self.tables();
        let entry =
            |(room, row): (&String, &Row)| RoomEntry { room: room.clone(), owner: Self::owner(&tables, row, now), token: row.token };
        Ok(tables.rooms.iter().map(entry).collect())
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        self.check_name(&self.tables())?;
        for lease in self.leases.held() {
            self.release(&lease.room)?;
        }
        self.tables().hosts.remove(&self.host);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_processes_under_one_name_the_later_one_has_it_and_the_earlier_one_keeps_takes_and_writes_nothing() {
        let ttl = Duration::from_secs(3_600);
        let mut earlier = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let Claim::Granted(lease) = earlier.claim("hall").unwrap() else { panic!("nobody had it") };
        let mut beside = earlier.join("b", "10.0.0.2:5000");
        earlier.renew(Load::default()).unwrap();
        assert!(earlier.holds("hall", lease.token));
        let mut later = earlier.join("a", "10.0.0.9:5000");
        // By the lease alone it could still write.
        assert!(!earlier.holds("hall", lease.token) && earlier.leases().holds_by("hall", lease.token));
        assert!(matches!(earlier.renew(Load::default()), Err(StoreError::Served { .. })));
        assert!(earlier.leases().held().is_empty(), "its rooms stand still");
        assert!(matches!(earlier.claim("hall"), Err(StoreError::Served { .. })));
        beside.claim("cellar").unwrap();
        beside.skip(ttl);
        assert!(matches!(earlier.claim_lapsed(9), Err(StoreError::Served { .. })));
        assert!(matches!(earlier.leave(), Err(StoreError::Served { .. })));
        // The later one has all that the name had, and the other hosts are none of its concern.
        let taken: Vec<String> = later.claim_lapsed(9).unwrap().into_iter().map(|lease| lease.room).collect();
        assert_eq!(taken, ["cellar", "hall"]);
        assert!(beside.renew(Load::default()).is_ok_and(|lost| lost == ["cellar"]));
        assert_eq!(beside.find("hall").unwrap().map(|owner| owner.address).as_deref(), Some("10.0.0.9:5000"));
    }
    #[test]
    fn a_room_is_held_by_its_host_by_its_token_until_it_runs_out_and_by_nothing_else() {
        let ttl = Duration::from_secs(10);
        let mut a = MemoryDirectory::new("a", "10.0.0.1:5000", ttl);
        let mut b = a.join("b", "10.0.0.2:5000");
        let Claim::Granted(Lease { token, .. }) = a.claim("hall").unwrap() else { panic!("nobody had it") };
        let other = Token(token.0 + 1);
        assert!(a.holds("hall", token) && a.leases().holds_by("hall", token));
        for (room, token) in [("hall", other), ("cellar", token)] {
            assert!(!a.holds(room, token) && !a.leases().holds_by(room, token), "{room} {token:?}");
        }
        assert!(!b.holds("hall", token) && !b.leases().holds_by("hall", token));
        // Who asks again has the same, another is told whose it is.
        assert!(matches!(a.claim("hall").unwrap(), Claim::Granted(again) if again.token == token));
        assert!(matches!(b.claim("hall").unwrap(), Claim::Taken(owner) if owner.host == "a" && owner.token == token));
        // A day of renewals, then none.
        for _ in 0..10 {
            a.skip(ttl / 2);
            assert_eq!(a.renew(Load::default()).unwrap(), Vec::<String>::new());
        }
        assert!(a.holds("hall", token) && a.leases().holds_by("hall", token));
        a.skip(ttl);
        assert!(!a.holds("hall", token));
        // What has run out is not renewed, also if nobody else took it; and what another took is its alone.
        assert_eq!(a.renew(Load::default()).unwrap(), ["hall"]);
        let Claim::Granted(lease) = b.claim("hall").unwrap() else { panic!("it ran out") };
        assert!(lease.token.0 > token.0 && b.holds("hall", lease.token) && !a.holds("hall", lease.token));
        assert!(matches!(a.claim("hall").unwrap(), Claim::Taken(owner) if owner.host == "b"));
        // Who gives back what it has no more takes nothing from who has it.
        a.release("hall").unwrap();
        assert!(b.holds("hall", lease.token));
        b.release("hall").unwrap();
        assert!(!b.holds("hall", lease.token) && b.find("hall").unwrap().is_none());
    }
}
