//! How rooms are opened. Those that somebody asks for are built aside: who is led elsewhere meanwhile, or plays, waits for none of them.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::lead::cant_be_opened;
use super::shared::{no_template, not_opened};
use super::{Host, Place, Resting, Template};
use crate::host::berth::Berth;
use crate::host::clock::unix_time;
use crate::host::keeper::{Built, Keeper};
use crate::host::limits::HostLimits;
use crate::host::lobby::Lobby;
use crate::host::opener::{self, Commission, Finished, Opener};
use crate::host::pacer::Pacer;
use crate::host::server::ServerError;
use crate::host::task::{Gear, Task};
use crate::protocol::Refusal;
use crate::room::{Blueprint, RoomClock, RoomError, RoomOptions};
use crate::store::{StoreError, Token};

/// How many rooms are being built, or are next: one thread builds them. Those behind them wait in line, where they can still be let be at no cost.
const BUILDING_MAX: usize = 4;

/// How long a room that is opened again waits until what it was before is written.
const LEFT_MAX: Duration = Duration::from_secs(2);

/// A room that is to be opened.
pub(super) struct ToOpen {
    pub(super) room: String,
    pub(super) template: String,
    /// It is a fresh one, because somebody asked for any of the template.
    is_any: bool,
    /// Since when it waits until what the room was before is written.
    left_since: Option<Duration>,
    /// Somebody ordered it by this template, which so is no guess.
    is_ordered: bool,
    /// Those who ordered it, and are to hear whether it was opened.
    answers: Vec<Sender<Result<(), String>>>,
}

impl ToOpen {
    fn new(room: &str, template: &str, is_any: bool) -> Self {
        let (room, template) = (room.to_owned(), template.to_owned());
        Self { room, template, is_any, left_since: None, is_ordered: false, answers: Vec::new() }
    }

    fn answer(&self, opened: &Result<(), String>) {
        // Who asked and is gone has no use for the answer.
        self.answers.iter().for_each(|answer| drop(answer.send(opened.clone())));
    }
}

/// A room that is being built.
pub(super) struct Building {
    to_open: ToOpen,
    number: u64,
    plan: Plan,
}

impl Building {
    pub(super) fn template(&self) -> &str {
        &self.to_open.template
    }
}

/// What is known of a room before it is built.
struct Plan {
    name: String,
    template_name: String,
    template: Template,
    seed: u64,
    /// By which lease it is this host's, if rooms are shared.
    token: Option<Token>,
}

/// A seed from the system's source of chance.
fn fresh_seed() -> Result<u64, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

impl Host {
    /// Opens a room from a template. Where rooms are [shared](Self::share) with other hosts it is opened once the directory says that it is this
    /// host's.
    ///
    /// # Errors
    /// If there is no such template, no room can have that name, the room can't be built, or the host is about to stop.
    pub fn open(&mut self, room: &str, template: &str) -> Result<(), ServerError> {
        // One that is open, or about to be, keeps the template that was guessed.
        let is_there = self.places.contains_key(room) || self.is_to_be_opened(room);
        self.open_by(room, template)?;
        if !is_there {
            self.guessed.remove(room);
        }
        Ok(())
    }

    /// The same by a template that may have been guessed.
    fn open_by(&mut self, room: &str, template: &str) -> Result<(), ServerError> {
        if self.draining {
            return Err(about_to_stop(room));
        }
        if self.sharing.is_some() {
            return self.open_shared(room, template);
        }
        let found = self.templates.get(template).cloned().ok_or_else(|| no_template(room, template))?;
        self.open_place(room, template, found)
    }

    /// Takes up a room that is stored, by the template that its name tells, or else `default`: then nobody is told of it who asks which rooms there are,
    /// also if that template is [listed](Template::listed), since it may have been made by another one. Where rooms that nobody is in go to rest, one that may be
    /// created on demand rests until somebody asks for it.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn take_up(&mut self, room: &str) -> Result<(), ServerError> {
        let template = self.template_for_stored(room).unwrap_or_default();
        if self.sharing.is_some() || self.places.contains_key(room) {
            return self.open_by(room, &template);
        }
        let rests = self.options.rest_after.is_some() && self.template_for_new(room).is_some();
        let opened = if rests { Ok(()) } else { self.open_by(room, &template) };
        if rests || opened.is_err() {
            // Its name is its own, also if it can't be opened now.
            self.rest(room, template);
        }
        opened
    }

    pub(crate) fn rest(&mut self, room: &str, template: String) {
        self.resting.insert(room.to_owned(), Resting { template, since: self.scheduler.now() });
    }

    /// Opens a room with options of its own.
    ///
    /// # Errors
    /// If it can't be built.
    pub fn open_room(&mut self, blueprint: &Blueprint, options: RoomOptions) -> Result<(), ServerError> {
        let name = options.name.clone();
        self.open_place(&name, "", Template::new(blueprint.clone(), options))
    }

    /// Opens a room here and now: whoever calls waits until it is built.
    fn open_place(&mut self, name: &str, template_name: &str, template: Template) -> Result<(), ServerError> {
        let (plan, options) = self.plan(name, template_name, template)?;
        if self.is_to_be_opened(name) {
            return Err(not_opened(name, "it is about to be opened".to_owned()));
        }
        self.check_store(name)?;
        let built = match &mut self.keeper {
            None => Built::new(&plan.template.blueprint, options),
            Some(keeper) => keeper.build(&plan.template.blueprint, options),
        };
        self.settle(plan, built.map_err(|error| ServerError::of_room(name, error))?)
    }

    /// Fails if who opens the room would wait for a store that can't be written.
    fn check_store(&self, name: &str) -> Result<(), ServerError> {
        match self.keeper.as_ref().and_then(|keeper| keeper.why_not_again(name)) {
            Some(why) => Err(ServerError::Keep(StoreError::Unfit { place: "the store".to_owned(), detail: why }.into())),
            None => Ok(()),
        }
    }

    /// As [`plan`](Self::plan), by the name of a template.
    fn plan_by_name(&self, room: &str, template: &str) -> Result<(Plan, RoomOptions), ServerError> {
        let found = self.templates.get(template).cloned().ok_or_else(|| no_template(room, template))?;
        self.plan(room, template, found)
    }

    /// What a room is to be, and what it is built from, if it can be opened.
    fn plan(&self, name: &str, template_name: &str, template: Template) -> Result<(Plan, RoomOptions), ServerError> {
        let failed = |why: String| ServerError::Room { name: name.to_owned(), error: RoomError::Rules(vec![why]) };
        Self::check_name(name).map_err(failed)?;
        if self.places.contains_key(name) {
            return Err(failed(format!("there is a room {name:?} already")));
        }
        if self.is_being_deleted(name) {
            return Err(failed("it is just being deleted: try again once it is gone".to_owned()));
        }
        let open = self.places.len() + self.building.len();
        if open >= self.options.limits.rooms_max {
            return Err(failed(format!("{open} rooms are as many as the host may have")));
        }
        let mut options = RoomOptions { name: name.to_owned(), ..template.options.clone() };
        if template.fresh_seeds {
            options.seed = fresh_seed().map_err(|error| failed(error.to_string()))?;
        }
        let token = self.weather.leases.get().and_then(|leases| leases.token(name));
        let (name, template_name, seed) = (name.to_owned(), template_name.to_owned(), options.seed);
        Ok((Plan { name, template_name, template, seed, token }, options))
    }

    /// Lets a room that was built run.
    fn settle(&mut self, plan: Plan, built: Built) -> Result<(), ServerError> {
        let Plan { name, template_name, template, seed, token } = plan;
        let failed = |error| ServerError::Room { name: name.clone(), error };
        let limits = HostLimits {
            members_per_room_max: template.members_max.unwrap_or(self.options.limits.members_per_room_max),
            seat_ticks: self.seat_ticks(&name),
            ..self.options.limits
        };
        let (mut lobby, mut kept, mut past) = (Lobby::new(limits, self.foyer.takes_over()), None, None);
        lobby.begin_epoch(unix_time().as_nanos() as u64);
        match &mut self.keeper {
            None => lobby.admit_room(built.room).map_err(failed)?,
            Some(keeper) => {
                lobby.admit_room(keeper.admit(built)).map_err(failed)?;
                (kept, past) = (keeper.give_away(&name), keeper.past_reader());
            }
        }
        let pacer = Pacer::new(self.scheduler.now(), Pacer::phase(self.opened));
        self.opened += 1;
        let berth = Berth::new(&name);
        // The lease by which the store writes it. One that asks for none leaves it at that of the first time.
        let token = self.weather.leases.get().and_then(|leases| match &kept {
            Some(_) => leases.opened(&name).max(token),
            None => leases.token(&name),
        });
        let gear = Gear {
            outlet: self.outlet.clone(),
            kept,
            token,
            past,
            weather: self.weather.clone(),
            on_tick: self.on_tick.clone(),
            news: self.news.0.clone(),
        };
        self.scheduler.add(Task::new(berth.clone(), lobby, pacer, gear));
        self.resting.remove(&name);
        self.unopened.remove(&name);
        self.unopened.remove(&format!("{template_name}/*"));
        let (seats, watchers, visitors) = (0, 0, 0);
        let place = Place { berth, template, template_name, seed, token, seats, watchers, visitors, ending: None };
        self.places.insert(name, place);
        Ok(())
    }

    /// For how long the users are waited for that a room still has when it is opened: no longer than since it could be come back to.
    fn seat_ticks(&self, room: &str) -> u32 {
        let rested = self.resting.get(room).map_or(Duration::ZERO, |resting| self.scheduler.now().saturating_sub(resting.since));
        let ticks = rested.as_millis() / RoomClock::STEP.as_millis();
        self.options.limits.seat_ticks.saturating_sub(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// True if a room is to be opened, and is not open yet.
    pub(super) fn is_to_be_opened(&self, room: &str) -> bool {
        self.building.contains_key(room) || self.to_open.iter().any(|to_open| to_open.room == room)
    }

    /// A room was given to this host once more. What is being built of it by a lease that has run out meanwhile is of no use: it is built anew.
    pub(super) fn build_anew(&mut self, room: &str) {
        let token = self.weather.leases.get().and_then(|leases| leases.token(room));
        if self.building.get(room).is_some_and(|building| building.plan.token != token) {
            let outdated = self.building.remove(room).map(|building| building.to_open);
            self.to_open.extend(outdated);
        }
    }

    /// How many rooms are to be opened.
    pub(super) fn opening(&self) -> usize {
        self.to_open.len() + self.building.len()
    }

    /// True if no room more could be opened, once those are that are to be.
    pub(super) fn is_full(&self) -> bool {
        self.places.len() + self.opening() >= self.options.limits.rooms_max
    }

    /// Puts a room in line that is to be opened: a fresh one because somebody asked for any of its template, or one that is wanted by its name. Who waits for
    /// it is led to it then.
    pub(super) fn put_in_line(&mut self, room: &str, template: &str, is_any: bool) {
        if !self.is_to_be_opened(room) {
            self.to_open.push_back(ToOpen::new(room, template, is_any));
        }
    }

    /// Opens a room because somebody orders it, who hears of it once it is open.
    pub(super) fn open_by_order(&mut self, room: &str, template: &str, answer: Sender<Result<(), String>>) {
        let answered = if self.sharing.is_some() {
            // It is opened once the directory has answered, which may take long.
            self.open(room, template)
        } else if self.draining {
            Err(about_to_stop(room))
        } else {
            let being_built = self.building.get_mut(room).map(|building| &mut building.to_open);
            if let Some(known) = being_built.or_else(|| self.to_open.iter_mut().find(|to_open| to_open.room == room)) {
                return known.answers.push(answer);
            }
            let Err(error) = self.plan_by_name(room, template).and_then(|_| self.check_store(room)) else {
                let ordered = ToOpen { is_ordered: true, answers: vec![answer], ..ToOpen::new(room, template, false) };
                return self.to_open.push_back(ordered);
            };
            Err(error)
        };
        // Who asked and is gone has no use for the answer.
        drop(answer.send(answered.map_err(|error| error.to_string())));
    }

    /// Lets those run that were built, and has the next ones built. What waits for the store stays in line.
    pub(super) fn open_next(&mut self) {
        while let Some(finished) = self.opener.as_ref().and_then(Opener::next_answer) {
            self.is_finished(finished);
        }
        let mut waiting = VecDeque::new();
        while self.building.len() < BUILDING_MAX
            && let Some(to_open) = self.to_open.pop_front()
        {
            waiting.extend(self.have_built(to_open));
        }
        waiting.append(&mut self.to_open);
        self.to_open = waiting;
    }

    /// Has a room built, unless it is to wait in line: then it is given back.
    fn have_built(&mut self, mut to_open: ToOpen) -> Option<ToOpen> {
        if self.is_being_deleted(&to_open.room) {
            return Some(to_open);
        }
        if let Err(error) = self.check_store(&to_open.room) {
            return self.waits_in_line(to_open, &error);
        }
        if self.keeper.as_mut().is_some_and(|keeper| keeper.is_left(&to_open.room)) {
            let now = self.scheduler.now();
            if now < *to_open.left_since.get_or_insert(now) + LEFT_MAX {
                return Some(to_open);
            }
            let (place, detail) = ("the store".to_owned(), "what the room was before is not written yet".to_owned());
            self.can_not_be_opened(to_open, &ServerError::Keep(StoreError::Unfit { place, detail }.into()));
            return None;
        }
        if self.places.len() + self.building.len() >= self.options.limits.rooms_max {
            self.is_let_down(&to_open, "as many rooms are open as may be", &Refusal::HostFull);
            return None;
        }
        match self.plan_by_name(&to_open.room, &to_open.template) {
            Ok((plan, options)) => self.commission(to_open, plan, options),
            Err(error) => self.can_not_be_opened(to_open, &error),
        }
        None
    }

    fn commission(&mut self, to_open: ToOpen, plan: Plan, options: RoomOptions) {
        let opener = match self.opener.take().map_or_else(|| opener::start(self.thread.clone()), Ok) {
            Ok(opener) => self.opener.insert(opener),
            Err(error) => {
                let why = format!("the system gives no thread that builds it: {error}");
                return self.can_not_be_opened(to_open, &not_opened(&plan.name, why));
            }
        };
        self.built += 1;
        let (number, blueprint) = (self.built, plan.template.blueprint.clone());
        opener.ask(Commission { number, blueprint, options, opens: self.keeper.as_ref().map(Keeper::opens) });
        self.building.insert(plan.name.clone(), Building { to_open, number, plan });
    }

    fn is_finished(&mut self, finished: Finished) {
        let Finished { number, room, built, found } = finished;
        self.keeper.iter_mut().for_each(|keeper| keeper.note(&found));
        // Otherwise it was let be meanwhile.
        if self.building.get(&room).is_none_or(|building| building.number != number) {
            return;
        }
        let Some(Building { to_open, plan, .. }) = self.building.remove(&room) else { return };
        let opened = built.map_err(|error| ServerError::of_room(&room, error)).and_then(|built| self.settle(plan, built));
        if let Err(error) = opened {
            return self.can_not_be_opened(to_open, &error);
        }
        if to_open.is_ordered {
            self.guessed.remove(&room);
        }
        to_open.answer(&Ok(()));
        self.take_waiting(&room).into_iter().for_each(|(connection, wait)| self.knock(connection, wait.hello));
    }

    /// A room can't be opened at the moment, since the store fails. What was given to this host stays its own, and is opened as soon as the store is back: it is
    /// given back to the line. For others nobody waits.
    fn waits_in_line(&mut self, to_open: ToOpen, error: &ServerError) -> Option<ToOpen> {
        if self.sharing.is_some() {
            return Some(ToOpen { left_since: None, ..to_open });
        }
        // That the store fails was told; whoever asks for its rooms would have it told once more.
        tracing::debug!(room = to_open.room, %error, "a room waits for the store");
        to_open.answer(&Err(error.to_string()));
        self.let_waiting_go(&to_open.room, &cant_be_opened());
        None
    }

    /// A room could not be opened.
    fn can_not_be_opened(&mut self, to_open: ToOpen, error: &ServerError) {
        if self.waits_for_store(&to_open.room) {
            let waits = self.waits_in_line(to_open, error);
            return self.to_open.extend(waits);
        }
        self.put_off(&to_open.room);
        if to_open.is_any {
            // The next one would fare no better.
            self.put_off(&format!("{}/*", to_open.template));
        }
        self.is_let_down(&to_open, &error.to_string(), &cant_be_opened());
    }

    fn is_let_down(&mut self, to_open: &ToOpen, why: &str, refusal: &Refusal) {
        to_open.answer(&Err(why.to_owned()));
        self.give_back(&to_open.room, why, refusal);
    }

    /// A room was deleted: who only wanted to wake it finds none.
    pub(super) fn wake_no_more(&mut self, room: &str) {
        let is_only_woken = self.to_open.iter().any(|to_open| to_open.room == room && !to_open.is_ordered);
        if self.sharing.is_none() && is_only_woken && self.template_for_new(room).is_none() {
            self.let_be(room, &Refusal::NoSuchRoom(room.to_owned()));
        }
    }

    /// A room is not to be opened any more. True if it was to be: who waits for it is told why it is not.
    pub(super) fn let_be(&mut self, room: &str, why: &Refusal) -> bool {
        let queued = self.to_open.iter().position(|to_open| to_open.room == room).and_then(|at| self.to_open.remove(at));
        let Some(to_open) = queued.or_else(|| Some(self.building.remove(room)?.to_open)) else { return false };
        to_open.answer(&Err(why.to_string()));
        self.let_waiting_go(room, why);
        true
    }

    /// Nothing more is opened: who waits for a room that was to be is told.
    pub(super) fn open_no_more(&mut self) {
        let being_built = std::mem::take(&mut self.building).into_values().map(|building| building.to_open);
        for to_open in std::mem::take(&mut self.to_open).into_iter().chain(being_built) {
            to_open.answer(&Err(about_to_stop(&to_open.room).to_string()));
            self.pass_up(&to_open.room);
        }
    }
}

fn about_to_stop(room: &str) -> ServerError {
    not_opened(room, "the host is about to stop".to_owned())
}
