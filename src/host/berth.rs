//! A room for those who don't run it: what waits for it, and how it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::delivery::Delivery;
use super::limits::HostCounters;
use super::lobby::Lobby;
use super::overview::{Traffic, Ways};
use super::pace::Pace;
use super::session::{ConnectionId, Visitor};
use crate::protocol::{EntityId, LeaveReason, Refusal, RoomTick, Speed};
use crate::room::Incoming;

/// Most bytes of messages of a client that wait for a room. One that does not return from its game's code takes none in, while its players' clients go on.
const MAIL_BYTES_MAX: usize = 256 << 10;

/// What a message takes besides its bytes.
const LETTER_BYTES: usize = size_of::<Mail>();

/// What reaches a room from outside.
pub(super) enum Mail {
    /// Somebody comes; a thread of the gateway has the connection. And the way to it, if it was told something before.
    Connected(ConnectionId, Visitor, usize, Option<Box<Delivery>>),
    Message(ConnectionId, Bytes),
    Disconnected(ConnectionId, LeaveReason),
    /// For the room's inbox.
    Push(Incoming),
    /// Puts a user out.
    Kick(EntityId, String),
    /// Puts somebody out, user or not.
    TurnAway(ConnectionId, Refusal),
    /// Lets the room stand still, or go on.
    Pause(bool),
    /// Lets the room go slower or faster.
    Speed(Speed),
    /// Lets a room that stands still go on by so many ticks.
    Step(u32),
    /// Somebody wants to look into the room, or to change it.
    Ask(Box<dyn FnOnce(&mut Lobby) + Send>),
    /// The room is to end: closed for its members, or put to rest.
    End(Refusal),
    /// The room is another host's, or nobody's: it is closed, and nothing more of it is written.
    Lose(Refusal),
    /// Nothing more happens in the room: it is written, so that another host can go on with it. Its members stay until it ends.
    HandOver,
}

impl Mail {
    /// True if it is of use only to a room that knows of a connection.
    fn is_about(&self, connection: ConnectionId) -> bool {
        match self {
            Self::Connected(who, ..) | Self::Message(who, _) | Self::TurnAway(who, _) => *who == connection,
            _ => false,
        }
    }
}

/// How a room does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RoomStatus {
    /// The tick that ran last.
    pub tick: RoomTick,
    /// Who is in it: members and spectators.
    pub members: usize,
    /// Users who are waited for.
    pub away: usize,
    /// What was counted.
    pub counters: HostCounters,
    /// How it kept its time since it was opened.
    pub pace: Pace,
    /// It takes so long that it is run apart from the others.
    pub is_slow: bool,
    /// It stands still.
    pub is_paused: bool,
    /// How fast it goes while it does not.
    pub speed: Speed,
    /// For how long nobody has been in it.
    pub empty_for: Duration,
    /// The last tick that is stored, if it is kept.
    pub durable: Option<RoomTick>,
    /// What went over the wire.
    pub traffic: Traffic,
    /// How its members are reached, looked at once in a second.
    pub ways: Ways,
    /// How many watch its past.
    pub past_watchers: usize,
}

/// What waits for a room.
#[derive(Default)]
pub(super) struct Mailbox {
    pub(super) letters: Vec<Mail>,
    /// How much of it are messages of each connection.
    pub(super) bytes: BTreeMap<ConnectionId, usize>,
}

/// A room, for those who don't run it.
#[derive(Default)]
pub(super) struct Berth {
    pub(super) name: String,
    pub(super) mail: Mutex<Mailbox>,
    pub(super) status: Mutex<RoomStatus>,
    /// How it kept its time since somebody last took it.
    pub(super) pace: Mutex<Pace>,
    /// When it last ran, in milliseconds since the host started; before it has, when it is to.
    pub(super) ran: AtomicU64,
}

/// After so long without a run a room hangs: whoever is led there would not be heard.
const UNHEARD_MAX: Duration = Duration::from_secs(2);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Berth {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), ..Self::default() })
    }

    pub(super) fn send(&self, mail: Mail) {
        lock(&self.mail).letters.push(mail);
    }

    /// Passes on what somebody says. False if so much of it waits for the room that it does not fit.
    pub(super) fn deliver(&self, connection: ConnectionId, message: Bytes) -> bool {
        let mut mail = lock(&self.mail);
        let own = mail.bytes.entry(connection).or_default();
        let bytes = *own + message.len() + LETTER_BYTES;
        let fits = bytes <= MAIL_BYTES_MAX;
        if fits {
            *own = bytes;
            mail.letters.push(Mail::Message(connection, message));
        }
        fits
    }

    /// Passes on that somebody is gone. Of who came since the room last took anything in it hears nothing at all: the mail of one that does not return
    /// from its game's code must not grow with those who come and go.
    pub(super) fn part(&self, connection: ConnectionId, reason: LeaveReason) {
        let mut mail = lock(&self.mail);
        let came = mail.letters.iter().rposition(|letter| matches!(letter, Mail::Connected(who, ..) if *who == connection));
        let Some(came) = came else { return mail.letters.push(Mail::Disconnected(connection, reason)) };
        let since = mail.letters.split_off(came);
        mail.letters.extend(since.into_iter().filter(|letter| !letter.is_about(connection)));
        mail.bytes.remove(&connection);
    }

    pub(super) fn status(&self) -> RoomStatus {
        lock(&self.status).clone()
    }

    /// True if who is led there now gets in: it is run, and is not paused.
    pub(super) fn takes_in(&self, now: Duration) -> bool {
        let ran = Duration::from_millis(self.ran.load(Ordering::Relaxed));
        now.saturating_sub(ran) < UNHEARD_MAX && !lock(&self.status).is_paused
    }

    /// A seat is about to be kept for somebody whose connection broke, as the room will say when it runs next.
    pub(super) fn expects_back(&self) {
        lock(&self.status).away += 1;
    }

    /// How many seats are kept for those whose connections broke.
    pub(super) fn away(&self) -> usize {
        lock(&self.status).away
    }

    pub(super) fn take_pace(&self) -> Pace {
        std::mem::take(&mut *lock(&self.pace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_a_room_that_takes_nothing_in_only_so_much_waits_and_orders_all_the_same() {
        let (berth, message) = (Berth::new("main"), Bytes::from(vec![7; 1_000]));
        let fits = |berth: &Berth| (0..10_000).take_while(|_| berth.deliver(ConnectionId(1), message.clone())).count();
        assert!(berth.deliver(ConnectionId(2), message.clone()), "everybody has a share of its own");
        let fitted = fits(&berth);
        assert!((MAIL_BYTES_MAX / 2_000..=MAIL_BYTES_MAX / 1_000).contains(&fitted), "{fitted}");
        berth.send(Mail::Pause(true));
        let waiting = std::mem::take(&mut *lock(&berth.mail));
        assert!(berth.deliver(ConnectionId(2), message.clone()));
        assert_eq!(waiting.letters.len(), fitted + 2);
        assert_eq!(fits(&berth), fitted, "it took all in");
    }

    #[test]
    fn a_room_that_takes_nothing_in_hears_nothing_of_who_came_and_went_meanwhile() {
        let (berth, message) = (Berth::new("main"), Bytes::from(vec![7; 1_000]));
        let come = |number: u64| {
            let visitor = Visitor { player: EntityId::named("ann"), name: "ann".to_owned(), room: None };
            berth.send(Mail::Connected(ConnectionId(number), visitor, 0, None));
            assert!(berth.deliver(ConnectionId(number), message.clone()));
        };
        let part = |number: u64| berth.part(ConnectionId(number), LeaveReason::Left);
        let waiting = || {
            let mail = lock(&berth.mail);
            (mail.letters.len(), mail.bytes.len())
        };
        come(1);
        drop(std::mem::take(&mut *lock(&berth.mail)));
        // The room knows of the first alone.
        come(2);
        berth.send(Mail::Pause(true));
        for number in 10..1_000 {
            come(number);
            berth.send(Mail::TurnAway(ConnectionId(number), Refusal::HostFull));
            part(number);
        }
        assert_eq!(waiting(), (3, 1), "the second, and an order");
        part(1);
        assert_eq!(waiting(), (4, 1));
        // The same number once more.
        come(1);
        part(1);
        part(2);
        let mail = std::mem::take(&mut *lock(&berth.mail));
        assert!(matches!(mail.letters[..], [Mail::Pause(true), Mail::Disconnected(ConnectionId(1), LeaveReason::Left)]));
        assert!(mail.bytes.is_empty());
    }
}
