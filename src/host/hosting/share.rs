//! Rooms that several hosts share. A thread of its own asks the directory, since answers may take long, or never come.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::berth::lock;
use crate::host::clerk::{Clerk, News};
use crate::host::clock::instant;
use crate::store::{Directory, Leases, Load, Store, StoreError};

/// How often it is looked, from one renewal to the next, whether other hosts' leases have run out.
const LOOKS: u32 = 4;

/// Most rooms that wait for an answer of the directory.
pub(super) const ASKED_MAX: usize = 4_096;

/// What the directory is asked.
pub(super) enum Ask {
    /// Where a room is. If it is nowhere, this host takes it where a room of that name may be created, or is stored; and if it has a place for it.
    Lead { room: String, may_create: bool, has_place: bool },
    /// A room is given back.
    Release(String),
    /// The others are to hear at once how full this host is.
    Renew,
}

/// What the thread has to tell.
pub(super) enum Heard {
    News(News),
    /// Another process has the host's name by now, and is reached there, as far as the directory says. Nothing more is asked, and nothing more heard.
    Ousted(Option<String>),
}

/// What the host and the thread both see.
#[derive(Debug, Default)]
struct Board {
    load: Load,
    /// Where the least full of the other hosts is reached that take any more.
    peer: Option<String>,
    /// Where this one is reached.
    here: Option<String>,
}

/// The way to the directory.
pub(super) struct Sharing {
    asks: Option<Sender<Ask>>,
    news: Receiver<Heard>,
    /// The rooms that were asked for.
    pub(super) asked: BTreeSet<String>,
    /// Of a host that stops: the rooms that are written, and may be another's at any moment.
    pub(super) given: BTreeSet<String>,
    leases: Leases,
    board: Arc<Mutex<Board>>,
    pub(super) host: String,
    /// What tells this process from others that had, or will have, the host's name.
    pub(super) run: u32,
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
        let mut run = [0; 4];
        getrandom::fill(&mut run)?;
        let leases = directory.leases();
        let (host, every) = (options.host.clone(), options.renew_every);
        let (clerk, shown) = (Clerk::new(directory, stored, &host, every), board.clone());
        let thread = std::thread::Builder::new().name("directory".to_owned()).spawn(move || work(clerk, &shown, &tell, &asked))?;
        let (asked, given, run) = (BTreeSet::new(), BTreeSet::new(), u32::from_le_bytes(run));
        Ok(Self { asks: Some(asks), news, asked, given, leases, board, host, run, thread: Some(thread) })
    }

    /// Asks where a room is. False if too many wait already.
    pub(super) fn lead(&mut self, room: &str, may_create: bool, has_place: bool) -> bool {
        if self.asked.contains(room) {
            return true;
        }
        let ask = Ask::Lead { room: room.to_owned(), may_create, has_place };
        self.asked.len() < ASKED_MAX && self.asked.insert(room.to_owned()) && self.ask(ask)
    }

    pub(super) fn ask(&self, ask: Ask) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.send(ask).is_ok())
    }

    pub(super) fn next_news(&mut self) -> Option<Heard> {
        let heard = self.news.try_recv().ok()?;
        if let Heard::News(News::Led(room, _)) = &heard {
            self.asked.remove(room);
        }
        Some(heard)
    }

    /// True if leases may have run out: another host may have the rooms by now.
    pub(super) fn has_lapsed(&self) -> bool {
        self.leases.any_lapsed()
    }

    /// True if this host has the room, as far as it knows.
    pub(super) fn holds(&self, room: &str) -> bool {
        self.leases.held().iter().any(|lease| lease.room == room)
    }

    pub(super) fn set_load(&self, load: Load) {
        let before = std::mem::replace(&mut lock(&self.board).load, load);
        // Whether it takes anybody is no news that can wait: until then it is sent people whom it refuses, or none.
        if (before.rooms_max == 0) != (load.rooms_max == 0) {
            self.ask(Ask::Renew);
        }
    }

    /// Where the least full of the other hosts is reached that take any more.
    pub(super) fn peer(&self) -> Option<String> {
        lock(&self.board).peer.clone()
    }

    /// Where this host is reached, as the directory says.
    pub(super) fn here(&self) -> Option<String> {
        lock(&self.board).here.clone()
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        drop(self.asks.take());
        // One that panicked has said so.
        self.thread.take().map(JoinHandle::join).into_iter().for_each(drop);
    }
}

fn renew(clerk: &mut Clerk, board: &Mutex<Board>, say: impl Fn(News)) -> Result<(), StoreError> {
    clerk.renew(load(board))?.into_iter().for_each(say);
    Ok(())
}

fn look_around(clerk: &mut Clerk, board: &Mutex<Board>, say: impl Fn(News)) {
    let taken = clerk.look_around(load(board));
    {
        let mut board = lock(board);
        board.peer.clone_from(&clerk.peer);
        board.here.clone_from(&clerk.here);
    }
    // Who hears of it asks the board.
    taken.into_iter().for_each(say);
}

fn load(board: &Mutex<Board>) -> Load {
    lock(board).load
}

fn work(mut clerk: Clerk, board: &Mutex<Board>, tell: &Sender<Heard>, asked: &Receiver<Ask>) {
    // A host that is gone has no use for it.
    let say = |news| drop(tell.send(Heard::News(news)));
    let (mut renews, mut looks): (Instant, Instant) = (instant(), instant());
    // Whether hosts are to be looked for too, whether it was looked since the last question, and how long that took.
    let (mut is_round, mut has_looked, mut took) = (false, false, Duration::ZERO);
    loop {
        let now = instant();
        // A question may take several answers of a slow database. So leases are renewed between any two, and before one that would last beyond the next renewal if
        // it takes as long as the last did.
        if now + took.min(clerk.every / 2) >= renews {
            (renews, looks, is_round) = (now + clerk.every, now, true);
            if let Err(error) = renew(&mut clerk, board, say) {
                if clerk.is_news() {
                    tracing::warn!(%error, "the directory of rooms can't be reached");
                }
                renews = now + clerk.every / LOOKS;
                (looks, is_round) = (renews, false);
            }
        }
        if clerk.is_ousted {
            // It has nothing that it could give back, and the directory's word of this name is the other one's.
            return drop(tell.send(Heard::Ousted(clerk.successor())));
        }
        if now >= looks && !std::mem::replace(&mut has_looked, true) {
            looks = now + clerk.every / LOOKS;
            if std::mem::take(&mut is_round) {
                look_around(&mut clerk, board, say);
            } else {
                // If it can't be reached, the next renewal says so.
                clerk.take_lapsed(load(board)).ok().flatten().into_iter().for_each(say);
            }
            continue;
        }
        has_looked = false;
        let asked = asked.recv_timeout(renews.min(looks).saturating_duration_since(instant()));
        let since = instant();
        match asked {
            Ok(Ask::Lead { room, may_create, has_place: true }) => say(clerk.lead(room, may_create)),
            Ok(Ask::Lead { room, may_create, .. }) => say(clerk.lead_elsewhere(room, may_create)),
            Ok(Ask::Release(room)) => clerk.release(room).into_iter().for_each(say),
            Ok(Ask::Renew) => renews = now,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        took = since.elapsed();
    }
    clerk.leave();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clerk::around::Around;
    use crate::store::MemoryDirectory;

    #[test]
    fn however_much_is_asked_leases_that_are_due_are_renewed_before_each_question() {
        let (noted, board) = (Arc::<Mutex<Vec<&'static str>>>::default(), Mutex::default());
        let notes = noted.clone();
        let directory = Around::new(MemoryDirectory::new("a", "10.0.0.1:5000", Duration::from_secs(3_600)), move |asked| {
            if ["renew", "find", "hosts"].contains(&asked) {
                lock(&notes).push(asked);
            }
            Ok(())
        });
        // They are always due, as where each answer takes longer than there is from one renewal to the next.
        let clerk = Clerk::new(directory, None, "a", Duration::ZERO);
        let ((asks, asked), (tell, news)) = (channel(), channel());
        for room in ["cellar", "duel", "hall"] {
            asks.send(Ask::Lead { room: room.to_owned(), may_create: true, has_place: true }).unwrap();
        }
        drop(asks);
        work(clerk, &board, &tell, &asked);
        let led = news.try_iter().filter(|heard| matches!(heard, Heard::News(News::Led(..)))).count();
        assert_eq!(led, 3);
        let noted = lock(&noted);
        assert!(noted.chunks(2).all(|two| two[0] == "renew" && two.get(1).is_none_or(|other| *other != "renew")), "{noted:?}");
        assert_eq!(noted.iter().filter(|asked| **asked == "hosts").count(), 4, "{noted:?}");
    }
}
