//! Rooms that several hosts share. A thread of its own asks the directory, since answers may take long, or never come.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::clock::instant;
use crate::store::{Claim, Directory, Leases, Load, Store, StoreError};

/// How many rooms of hosts that are gone are taken at once. Others may take the rest.
const LAPSED_AT_ONCE: usize = 16;

/// After so many renewals that did not come a host is not sent anybody any more.
const MISSED_MAX: u32 = 3;

/// Most rooms that wait for an answer of the directory.
pub(super) const ASKED_MAX: usize = 4_096;

/// What the directory is asked.
pub(super) enum Ask {
    /// Where a room is. If it is nowhere, this host takes it where a room of that name may be created, or is stored.
    Lead(String, bool),
    /// A room is given back.
    Release(String),
}

/// Where a room is.
#[derive(Debug)]
pub(super) enum Led {
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
pub(super) enum News {
    Led(String, Led),
    /// Rooms that are not this host's any more, and where they are.
    Lost(Vec<(String, Option<String>)>),
    /// Rooms whose host is gone, and which this host has now.
    Taken(Vec<String>),
    Released(String),
}

/// What the host and the thread both see.
#[derive(Debug, Default)]
struct Board {
    load: Load,
    /// Where the least full of the other hosts is reached.
    peer: Option<String>,
}

/// The way to the directory.
pub(super) struct Sharing {
    asks: Option<Sender<Ask>>,
    news: Receiver<News>,
    /// The rooms that were asked for.
    pub(super) asked: BTreeSet<String>,
    leases: Leases,
    board: Arc<Mutex<Board>>,
    pub(super) host: String,
    thread: Option<JoinHandle<()>>,
}

/// How a host shares its rooms.
#[derive(Clone, Debug)]
pub struct ShareOptions {
    /// The host's name in the directory.
    pub host: String,
    /// How often it renews its leases: several times in the time for which they hold.
    pub renew_every: Duration,
}

impl Sharing {
    /// `stored` tells which rooms there are.
    pub(super) fn start(directory: Box<dyn Directory>, stored: Option<Box<dyn Store>>, options: &ShareOptions) -> std::io::Result<Self> {
        let ((asks, asked), (tell, news), board) = (channel(), channel(), Arc::<Mutex<Board>>::default());
        let leases = directory.leases();
        let (host, every) = (options.host.clone(), options.renew_every);
        let mut clerk = Clerk { directory, stored, tell, board: board.clone(), host: options.host.clone(), every };
        let thread = std::thread::Builder::new().name("directory".to_owned()).spawn(move || clerk.work(&asked))?;
        Ok(Self { asks: Some(asks), news, asked: BTreeSet::new(), leases, board, host, thread: Some(thread) })
    }

    /// Asks where a room is. False if too many wait already.
    pub(super) fn lead(&mut self, room: &str, may_create: bool) -> bool {
        if self.asked.contains(room) {
            return true;
        }
        self.asked.len() < ASKED_MAX && self.asked.insert(room.to_owned()) && self.ask(Ask::Lead(room.to_owned(), may_create))
    }

    pub(super) fn ask(&self, ask: Ask) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.send(ask).is_ok())
    }

    pub(super) fn next_news(&mut self) -> Option<News> {
        let news = self.news.try_recv().ok()?;
        if let News::Led(room, _) = &news {
            self.asked.remove(room);
        }
        Some(news)
    }

    /// True if leases may have run out: another host may have the rooms by now.
    pub(super) fn has_lapsed(&self) -> bool {
        !self.leases.lapsed().is_empty()
    }

    /// True if this host has the room, as far as it knows.
    pub(super) fn holds(&self, room: &str) -> bool {
        self.leases.held().iter().any(|lease| lease.room == room)
    }

    pub(super) fn set_load(&self, load: Load) {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).load = load;
    }

    /// Where the least full of the other hosts is reached.
    pub(super) fn peer(&self) -> Option<String> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).peer.clone()
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        drop(self.asks.take());
        // One that panicked has said so.
        self.thread.take().map(JoinHandle::join).into_iter().for_each(drop);
    }
}

/// Who asks the directory.
struct Clerk {
    directory: Box<dyn Directory>,
    stored: Option<Box<dyn Store>>,
    tell: Sender<News>,
    board: Arc<Mutex<Board>>,
    host: String,
    every: Duration,
}

impl Clerk {
    fn work(&mut self, asked: &Receiver<Ask>) {
        let mut renews: Instant = instant();
        loop {
            let now = instant();
            if now >= renews {
                renews = now + self.every;
                if let Err(error) = self.renew() {
                    tracing::warn!(%error, "the directory of rooms can't be reached");
                    renews = now + self.every / 4;
                }
            }
            match asked.recv_timeout(renews.saturating_duration_since(instant())) {
                Ok(Ask::Lead(room, may_create)) => {
                    let led = self.lead(&room, may_create).unwrap_or_else(|error| {
                        tracing::warn!(room, %error, "the directory can't say where a room is");
                        Led::Unknown
                    });
                    self.say(News::Led(room, led));
                }
                Ok(Ask::Release(room)) => {
                    if let Err(error) = self.directory.release(&room) {
                        // Its lease runs out by itself.
                        tracing::warn!(room, %error, "a room can't be given back");
                    }
                    self.say(News::Released(room));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.directory.leave() {
            tracing::warn!(%error, "the directory still lists this host; what it had runs out");
        }
    }

    fn say(&self, news: News) {
        // A host that is gone has no use for it.
        let _ = self.tell.send(news);
    }

    fn lead(&mut self, room: &str, may_create: bool) -> Result<Led, StoreError> {
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

    fn renew(&mut self) -> Result<(), StoreError> {
        let load = self.board.lock().unwrap_or_else(PoisonError::into_inner).load;
        let lost = self.directory.renew(load)?;
        if !lost.is_empty() {
            let place = |room: String| {
                let owner = self.directory.find(&room).ok().flatten().filter(|owner| owner.host != self.host);
                (room, owner.map(|owner| owner.address))
            };
            let lost = lost.into_iter().map(place).collect();
            self.say(News::Lost(lost));
        }
        let hosts = self.directory.hosts()?;
        let others = hosts.into_iter().filter(|entry| entry.host != self.host && entry.silent < self.every * MISSED_MAX);
        let peer = others.min_by_key(|entry| (entry.load.members, entry.load.rooms)).map(|entry| entry.address);
        self.board.lock().unwrap_or_else(PoisonError::into_inner).peer = peer;
        if load.rooms < load.rooms_max {
            let most = LAPSED_AT_ONCE.min((load.rooms_max - load.rooms) as usize);
            let taken: Vec<String> = self.directory.claim_lapsed(most)?.into_iter().map(|lease| lease.room).collect();
            if !taken.is_empty() {
                self.say(News::Taken(taken));
            }
        }
        Ok(())
    }
}
