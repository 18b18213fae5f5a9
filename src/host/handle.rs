//! The way to a host from other threads: what an operator sees of it, and orders.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use thiserror::Error;

use super::bans::Ban;
use super::berth::{Mail, RoomStatus};
use super::gateway::GatewayCounters;
use super::limits::HostCounters;
use super::lobby::Lobby;
use super::overview::{MemberInfo, Overview};
use super::token::HostKey;
use crate::protocol::limits::EVENTS_PER_TICK_MAX;
use crate::protocol::{EntityId, Speed};
use crate::room::{Incoming, Room, read_event};

/// How long an answer is waited for. A room that stands in its game's code gives none.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why an order was not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no such room, or it has just ended.
    #[error("there is no room {0:?}")]
    NoRoom(String),
    /// The host, or the room, does not answer.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    NoAnswer,
    /// The host has stopped.
    #[error("the host has stopped")]
    Stopped,
    /// It can't be done.
    #[error("{0}")]
    Refused(String),
}

/// What there is to know of a room.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RoomInfo {
    /// Its name.
    pub name: String,
    /// The template that it was made from; empty if from none.
    pub template: String,
    /// How many players are connected and were led there, some of whom may not be in yet.
    pub seats: usize,
    /// How many it takes.
    pub seats_max: usize,
    /// It is at rest in the store: who asks for it wakes it.
    pub is_resting: bool,
    /// The seed that it began with, unless it was brought back from the store, which knows its own.
    pub seed: u64,
    /// How it does.
    pub status: RoomStatus,
}

impl RoomInfo {
    pub(super) fn resting(name: &str, template: &str) -> Self {
        let (name, template, status) = (name.to_owned(), template.to_owned(), RoomStatus::default());
        Self { name, template, seats: 0, seats_max: 0, is_resting: true, seed: 0, status }
    }
}

/// What a host is told by other threads.
pub(super) enum Order {
    Rooms(Sender<Vec<RoomInfo>>),
    Counters(Sender<(usize, (HostCounters, GatewayCounters))>),
    Overview(Sender<Overview>),
    Survey(Sender<(Vec<RoomInfo>, Overview)>),
    Open { room: String, template: String, answer: Sender<Result<(), String>> },
    Close { room: String, why: String, answer: Sender<bool> },
    Delete { room: String, answer: Sender<Result<bool, String>> },
    Mail { room: String, mail: Mail, answer: Sender<bool> },
    Ban(Ban, Sender<Result<(), String>>),
    Unban(EntityId, Sender<Result<bool, String>>),
    Bans(Sender<Vec<Ban>>),
    Players(Sender<Vec<EntityId>>),
    Visitors(Sender<Vec<(EntityId, String)>>),
    Keys(Vec<HostKey>),
    Refuse,
}

/// The way to a [`Host`](super::Host) from other threads.
#[derive(Clone)]
pub struct HostHandle {
    orders: Sender<Order>,
    host: Arc<Mutex<Thread>>,
}

impl std::fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostHandle")
    }
}

impl HostHandle {
    pub(super) fn new(orders: Sender<Order>, host: Arc<Mutex<Thread>>) -> Self {
        Self { orders, host }
    }

    /// The way to a host that has stopped.
    #[cfg(all(any(test, fuzzing), feature = "admin"))]
    pub(crate) fn to_nobody() -> Self {
        Self::new(channel().0, Arc::new(Mutex::new(std::thread::current())))
    }

    fn wake(&self) {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).unpark();
    }

    fn order<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T, OrderError> {
        let (answer, answers) = channel();
        self.orders.send(order(answer)).map_err(|_| OrderError::Stopped)?;
        self.wake();
        answers.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => OrderError::NoAnswer,
            RecvTimeoutError::Disconnected => OrderError::Stopped,
        })
    }

    /// The rooms, and how each does.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn rooms(&self) -> Result<Vec<RoomInfo>, OrderError> {
        self.order(Order::Rooms)
    }

    /// What the host as a whole has to say.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn overview(&self) -> Result<Overview, OrderError> {
        self.order(Order::Overview)
    }

    /// The rooms, and what the host as a whole has to say, both as of one moment: what a room counted that ends is in one of them, never in both.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn survey(&self) -> Result<(Vec<RoomInfo>, Overview), OrderError> {
        self.order(Order::Survey)
    }

    /// How many are connected, and what was counted.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn counters(&self) -> Result<(usize, (HostCounters, GatewayCounters)), OrderError> {
        self.order(Order::Counters)
    }

    /// Opens a room from a template.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn open(&self, room: &str, template: &str) -> Result<(), OrderError> {
        let (room, template) = (room.to_owned(), template.to_owned());
        self.order(|answer| Order::Open { room, template, answer })?.map_err(OrderError::Refused)
    }

    /// Closes a room; its members are told why.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn close(&self, room: &str, why: &str) -> Result<(), OrderError> {
        let (name, why) = (room.to_owned(), why.to_owned());
        let closed = self.order(|answer| Order::Close { room: name, why, answer })?;
        closed.then_some(()).ok_or_else(|| OrderError::NoRoom(room.to_owned()))
    }

    /// Deletes a room that is not open, with all that is stored of it: its story, its snippets, how far projections have come with it. Nothing brings it
    /// back. Whoever asks for its name from then on finds no room, or where such may be created, a new one.
    ///
    /// # Errors
    /// If nothing is stored of such a room; if it is open, or another host has it; if not all of its facts are published that are to be. If no answer comes in
    /// time, it may be deleted yet.
    pub fn delete(&self, room: &str) -> Result<(), OrderError> {
        let name = room.to_owned();
        let deleted = self.order(|answer| Order::Delete { room: name, answer })?.map_err(OrderError::Refused)?;
        deleted.then_some(()).ok_or_else(|| OrderError::NoRoom(room.to_owned()))
    }

    fn mail(&self, room: &str, mail: Mail) -> Result<(), OrderError> {
        let name = room.to_owned();
        let sent = self.order(|answer| Order::Mail { room: name, mail, answer })?;
        sent.then_some(()).ok_or_else(|| OrderError::NoRoom(room.to_owned()))
    }

    /// Puts a user out of a room, if it is there.
    ///
    /// # Errors
    /// If there is no such room.
    pub fn kick(&self, room: &str, user: EntityId, why: &str) -> Result<(), OrderError> {
        self.mail(room, Mail::Kick(user, why.to_owned()))
    }

    /// Lets a room stand still, or go on. Nothing happens in it meanwhile: what is timed by its ticks waits. Its members are told.
    ///
    /// # Errors
    /// If there is no such room.
    pub fn pause(&self, room: &str, paused: bool) -> Result<(), OrderError> {
        self.mail(room, Mail::Pause(paused))
    }

    /// Lets a room go slower or faster: ticks stay 50 ms of the room's own time, and come in longer or shorter ones of the world's. Its members
    /// are told. A speed of zero is a pause.
    ///
    /// # Errors
    /// If there is no such room.
    pub fn set_speed(&self, room: &str, speed: Speed) -> Result<(), OrderError> {
        self.mail(room, Mail::Speed(speed))
    }

    /// Lets a room that stands still go on by so many ticks.
    ///
    /// # Errors
    /// If there is no such room.
    pub fn step(&self, room: &str, ticks: u32) -> Result<(), OrderError> {
        self.mail(room, Mail::Step(ticks))
    }

    /// Puts something into a room's inbox.
    ///
    /// # Errors
    /// If there is no such room.
    pub fn push(&self, room: &str, incoming: Incoming) -> Result<(), OrderError> {
        self.mail(room, Mail::Push(incoming))
    }

    /// Lets a fact of the game happen in a room with its next tick: by its wire name and its JSON, `{"door": "door123"}`. It is recorded as the
    /// server's, without an author, and applied as any other. No rule is asked, but the entities that it names must be there: a fact that brings
    /// an entity into the room can't be told so. What it says is checked before it is sent, and again in that tick: the store tells what
    /// became of it.
    ///
    /// # Errors
    /// If there is no such room, or it could not take this as it is now: then with what is wrong. If it does not answer in time, the fact may
    /// happen yet.
    pub fn event(&self, room: &str, name: &str, fact: &str) -> Result<(), OrderError> {
        let (of, name, fact) = (room.to_owned(), name.to_owned(), fact.to_owned());
        let asked = self.ask(room, move |lobby| {
            let read = read_event(lobby.room(&of)?.world(), &name, &fact).map(drop);
            let waiting = lobby.waiting(&of).iter().filter(|item| matches!(item, Incoming::Event { .. })).count();
            if let Err(rejection) = read {
                return Some(Err(rejection.to_string()));
            }
            if waiting >= EVENTS_PER_TICK_MAX {
                return Some(Err(format!("{EVENTS_PER_TICK_MAX} events wait already")));
            }
            lobby.push(&of, Incoming::Event { name, fact }).then_some(Ok(()))
        })?;
        asked.map_err(OrderError::Refused)
    }

    /// Looks into a room, between two of its ticks, on the thread that runs it: the room waits for it.
    ///
    /// # Errors
    /// If there is no such room, or it does not answer.
    pub fn look<T: Send + 'static>(&self, room: &str, look: impl FnOnce(&mut Room) -> T + Send + 'static) -> Result<T, OrderError> {
        let name = room.to_owned();
        self.ask(room, move |lobby| lobby.room_mut(&name).map(look))
    }

    /// Who is in a room, and how each is reached.
    ///
    /// # Errors
    /// If there is no such room, or it does not answer.
    pub fn members(&self, room: &str) -> Result<Vec<MemberInfo>, OrderError> {
        let name = room.to_owned();
        self.ask(room, move |lobby| lobby.room(&name).is_some().then(|| lobby.members_of(&name)))
    }

    fn ask<T: Send + 'static>(&self, room: &str, ask: impl FnOnce(&mut Lobby) -> Option<T> + Send + 'static) -> Result<T, OrderError> {
        let (answer, answers) = channel();
        let ask = move |lobby: &mut Lobby| {
            if let Some(found) = ask(lobby) {
                // Who asked and is gone has no use for the answer.
                let _ = answer.send(found);
            }
        };
        self.mail(room, Mail::Ask(Box::new(ask)))?;
        answers.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => OrderError::NoAnswer,
            RecvTimeoutError::Disconnected => OrderError::NoRoom(room.to_owned()),
        })
    }

    /// Bans a player, and puts it out of all rooms.
    ///
    /// # Errors
    /// If it can't be kept: it counts all the same, until the process ends.
    pub fn ban(&self, ban: Ban) -> Result<(), OrderError> {
        self.order(|answer| Order::Ban(ban, answer))?.map_err(OrderError::Refused)
    }

    /// Lets a player in again. False if it was not banned.
    ///
    /// # Errors
    /// If it can't be kept: then the ban still counts.
    pub fn unban(&self, player: EntityId) -> Result<bool, OrderError> {
        self.order(|answer| Order::Unban(player, answer))?.map_err(OrderError::Refused)
    }

    /// The bans that count.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn bans(&self) -> Result<Vec<Ban>, OrderError> {
        self.order(Order::Bans)
    }

    /// Who plays, in whichever room: not those who only watch.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn players(&self) -> Result<Vec<EntityId>, OrderError> {
        self.order(Order::Players)
    }

    /// Who is connected, whether it plays, watches, or is in no room yet: the player, and the name that others see.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn visitors(&self) -> Result<Vec<(EntityId, String)>, OrderError> {
        self.order(Order::Visitors)
    }

    /// Lets in those whose tokens were made with one of these keys, from now on. Who is in stays.
    ///
    /// # Errors
    /// If the host has stopped.
    pub fn accept_keys(&self, keys: Vec<HostKey>) -> Result<(), OrderError> {
        self.orders.send(Order::Keys(keys)).map_err(|_| OrderError::Stopped)?;
        self.wake();
        Ok(())
    }

    /// Refuses newcomers from now on: the host is about to stop. Where another host will have its rooms, those that are still open here take people in.
    ///
    /// # Errors
    /// If it has stopped.
    pub fn refuse_newcomers(&self) -> Result<(), OrderError> {
        self.orders.send(Order::Refuse).map_err(|_| OrderError::Stopped)?;
        self.wake();
        Ok(())
    }
}
