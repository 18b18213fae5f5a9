//! One room of a host, with all that it takes to run by itself: its lobby, its pace, its way out. Whichever thread has it runs it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::berth::{Berth, Mail, RoomStatus, lock};
use super::complaints::Complaints;
use super::gateway::Outlet;
use super::keeper::{AUDIT_EVERY, KeptRoom, store_behind};
use super::lobby::{Lobby, TickReport};
use super::overview::Traffic;
use super::pacer::Pacer;
use super::past::{Answers, PastReader, attend};
use super::session::ConnectionId;
use crate::protocol::{LeaveReason, Refusal, RoomTick, Speed};
use crate::room::RoomClock;
use crate::store::{Leases, Token};

/// What hears of every tick of every room, on the thread that ran it.
pub type OnTick = Arc<dyn Fn(&str, &TickReport, &Lobby) + Send + Sync>;

/// How many ticks lie between two looks at how a room does.
const STATUS_EVERY: u32 = 10;
const WAYS_EVERY: u32 = 20;

/// What takes longer in the mean is run apart from the other rooms, and what takes less comes back.
const SLOW_ABOVE: Duration = Duration::from_millis(6);
const QUICK_BELOW: Duration = Duration::from_millis(5);

/// From how much longer a tick is than that on a room is slow at once.
const SLOW_AT_ONCE: Duration = Duration::from_millis(20);

/// How long a room that ends goes on, so that those who were in it hear why.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// How long those have to hear that it is over who watched its past until then: a little more than a lobby gives them.
const LAST_WORDS_MAX: Duration = Duration::from_millis(1_200);

/// How long it waits for the store.
const WRITING_MAX: Duration = Duration::from_secs(10);

/// What a room tells the host.
#[derive(Debug)]
pub(super) enum TaskNews {
    /// All of a room that is to be handed over is stored.
    Written(String),
    /// A room's game has failed: nobody is to be led there any more.
    Failed(String),
    /// A room has ended; and whether all of it is stored, if it was kept.
    Over(String, bool),
}

/// What all rooms of a host go by.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// The store is behind: commands are refused.
    pub(super) refusing: AtomicBool,
    /// The store can't take any more: rooms stand still.
    pub(super) halted: AtomicBool,
    /// What this host was leased, if it shares rooms. Rooms ask by themselves: whoever leads the host may be busy when leases run out.
    pub(super) leases: OnceLock<Leases>,
    /// What rooms complain of.
    pub(super) complaints: Complaints,
}

impl Weather {
    /// True if a room is to stand still that was opened by a lease of this token. By a later one another room of its name is opened, and this one
    /// is over.
    fn halts(&self, room: &str, token: Option<Token>) -> bool {
        let holds = |leases: &Leases| token.is_some_and(|token| leases.holds_by(room, token));
        self.halted.load(Ordering::Relaxed) || self.leases.get().is_some_and(|leases| !holds(leases))
    }
}

/// A room, for the thread that runs it.
pub(super) struct Task {
    pub(super) berth: Arc<Berth>,
    lobby: Lobby,
    pacer: Pacer,
    outlet: Outlet,
    /// Which thread of the gateway has whom.
    threads: BTreeMap<ConnectionId, usize>,
    kept: Option<KeptRoom>,
    /// By which lease it was opened, if rooms are shared.
    token: Option<Token>,
    past: Option<Arc<PastReader>>,
    answers: Answers,
    weather: Arc<Weather>,
    on_tick: Option<OnTick>,
    refusing: bool,
    /// What a tick takes in the mean of the last ones.
    mean: Duration,
    pub(super) is_slow: bool,
    paused: bool,
    steps: u32,
    speed: Speed,
    /// What of a tick is due by its speed, in hundredths.
    part: u32,
    empty_since: Option<Duration>,
    ending: Option<Duration>,
    /// It ended so long ago that its past is not shown any more either.
    is_past: bool,
    is_lost: bool,
    /// Nothing happens any more; and whether the host knows that all is stored.
    handing: Option<bool>,
    /// The last tick that was handed to the store.
    recorded: Option<RoomTick>,
    news: Sender<TaskNews>,
    rounds: u32,
    /// Somebody came or went since it was told how the room does.
    is_changed: bool,
    /// So that rooms which were opened together are not all compared in one tick.
    audit_phase: u32,
    traffic: Traffic,
}

/// What a task needs besides its room.
pub(super) struct Gear {
    pub(super) outlet: Outlet,
    pub(super) kept: Option<KeptRoom>,
    pub(super) token: Option<Token>,
    pub(super) past: Option<Arc<PastReader>>,
    pub(super) weather: Arc<Weather>,
    pub(super) on_tick: Option<OnTick>,
    pub(super) news: Sender<TaskNews>,
}

impl Task {
    /// A room that was opened in a lobby of its own.
    pub(super) fn new(berth: Arc<Berth>, mut lobby: Lobby, pacer: Pacer, gear: Gear) -> Self {
        let Gear { outlet, kept, token, past, weather, on_tick, news } = gear;
        let audit_phase = berth.name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % AUDIT_EVERY;
        let (tick, members, away) = lobby.standing_of(&berth.name);
        let standing = RoomStatus { tick, members, away, ..RoomStatus::default() };
        *lock(&berth.status) = standing;
        berth.ran.store(pacer.next().as_millis() as u64, Ordering::Relaxed);
        if past.is_some() {
            lobby.can_read_pasts();
        }
        Self {
            berth,
            lobby,
            pacer,
            outlet,
            threads: BTreeMap::new(),
            kept,
            token,
            past,
            answers: channel(),
            weather,
            on_tick,
            refusing: false,
            mean: Duration::ZERO,
            is_slow: false,
            paused: false,
            steps: 0,
            speed: Speed::FULL,
            part: 0,
            empty_since: None,
            ending: None,
            is_past: false,
            is_lost: false,
            handing: None,
            recorded: None,
            news,
            rounds: 0,
            is_changed: false,
            audit_phase,
            traffic: Traffic::default(),
        }
    }

    /// When it is to run next.
    pub(super) fn due(&self) -> Duration {
        self.pacer.next()
    }

    /// What its run takes, by those before.
    pub(super) fn takes(&self) -> Duration {
        self.mean
    }

    /// Runs what is due. False once the room has ended; `clock` tells the time since the host started.
    pub(super) fn run(&mut self, clock: impl Fn() -> Duration) -> bool {
        let now = clock();
        self.berth.ran.store(now.as_millis() as u64, Ordering::Relaxed);
        self.lobby.advance(now);
        let mail = std::mem::take(&mut *lock(&self.berth.mail));
        mail.letters.into_iter().for_each(|mail| self.take(mail, now));
        self.feel_the_weather();
        let due = self.pacer.due(now);
        if due.skipped > 0 {
            lock(&self.berth.pace).skipped += due.skipped;
            lock(&self.berth.status).pace.skipped += due.skipped;
            self.weather.complaints.fell_behind(&self.berth.name, due, now);
        }
        let stands = self.weather.halts(&self.berth.name, self.token) || self.ending.is_some() || self.handing.is_some();
        let ticks = match self.is_paused() {
            _ if stands => 0,
            true => {
                let steps = self.steps.min(due.ticks);
                self.steps -= steps;
                steps
            }
            false => {
                let hundredths = self.part + due.ticks * u32::from(self.speed.as_hundredths());
                self.part = hundredths % 100;
                hundredths / 100
            }
        };
        for nth in 0..ticks {
            let begins = clock();
            let late = (due.late + begins.saturating_sub(now)).saturating_sub(RoomClock::STEP * nth);
            self.tick();
            let ends = clock();
            self.note_pace(late, ends.saturating_sub(begins), ends);
        }
        if ticks == 0 {
            self.lobby.serve_standing();
        }
        self.show_pasts();
        self.send();
        lock(&self.berth.pace).rounds.record(clock().saturating_sub(now));
        self.tell_status(now);
        self.goes_on(now)
    }

    fn take(&mut self, mail: Mail, now: Duration) {
        match mail {
            Mail::Connected(connection, visitor, thread, way) => {
                self.is_changed = true;
                self.threads.insert(connection, thread);
                self.lobby.connected_by(connection, visitor, way.map(|way| *way));
            }
            Mail::Message(connection, message) => {
                self.traffic.messages_in += 1;
                self.traffic.bytes_in += message.len() as u64;
                self.lobby.message(connection, &message);
            }
            Mail::Disconnected(connection, reason) => {
                self.is_changed = true;
                self.threads.remove(&connection);
                self.lobby.disconnected(connection, reason);
            }
            Mail::Push(incoming) => drop(self.lobby.push(&self.berth.name, incoming)),
            Mail::Kick(user, why) => {
                // A seat that was kept for it is free at once.
                self.is_changed |= self.lobby.kick(&self.berth.name, user, &why);
            }
            Mail::TurnAway(connection, why) => self.lobby.turn_away(connection, LeaveReason::Kicked, &why),
            Mail::Pause(paused) => {
                (self.paused, self.steps) = (paused, 0);
                self.note_speed(now);
            }
            Mail::Speed(speed) => {
                (self.speed, self.part) = (speed, 0);
                self.note_speed(now);
            }
            Mail::Step(ticks) if self.is_paused() => self.steps = self.steps.saturating_add(ticks),
            // It goes on anyway, and must not go on once more when it stands still.
            Mail::Step(_) => {}
            Mail::Ask(ask) => ask(&mut self.lobby),
            Mail::End(why) => self.end(&why, now),
            Mail::Lose(why) => {
                self.is_lost = true;
                self.end(&why, now);
            }
            Mail::HandOver => drop(self.handing.get_or_insert(false)),
        }
    }

    fn end(&mut self, why: &Refusal, now: Duration) {
        self.lobby.close_room(&self.berth.name, why);
        if self.ending.is_none() && matches!(why, Refusal::Elsewhere(_) | Refusal::ShuttingDown) {
            // Where the room goes on, or the host will, who watches its past comes there too. At once: who soon has seen all of it would hear that it is over.
            self.lobby.turn_all_away(why);
        }
        self.ending.get_or_insert(now);
    }

    /// True if it stands still, by a pause or by its speed.
    fn is_paused(&self) -> bool {
        self.paused || self.speed.is_still()
    }

    /// Tells who is in it how fast the room goes, and who looks at once where it stands.
    fn note_speed(&mut self, now: Duration) {
        let speed = if self.paused { Speed::STILL } else { self.speed };
        self.lobby.set_speed(&self.berth.name, speed);
        self.note_status(now);
    }

    /// True if all that happened is stored and the store is left in order, so that another host may have the room; or nothing is kept. To be asked once nothing
    /// ticks any more.
    fn is_settled(&mut self) -> bool {
        self.kept.as_mut().is_none_or(|kept| kept.is_settled(self.recorded))
    }

    fn feel_the_weather(&mut self) {
        let refusing = self.weather.refusing.load(Ordering::Relaxed);
        if refusing != self.refusing {
            self.refusing = refusing;
            self.lobby.refuse_commands(refusing.then(store_behind));
        }
    }

    fn tick(&mut self) {
        let name = &self.berth.name;
        let Some(mut report) = self.lobby.tick_room(name) else { return };
        if let Some(on_tick) = &self.on_tick {
            on_tick(name, &report, &self.lobby);
        }
        let is_over = report.fault.is_some();
        if let Some(kept) = &mut self.kept {
            kept.record(&mut report);
            // Of the tick in which its game failed nothing is kept.
            self.recorded = if is_over { self.recorded } else { Some(report.tick) };
            kept.tell_durable(name, &mut self.lobby);
            if !is_over && (report.tick.0 + self.audit_phase).is_multiple_of(AUDIT_EVERY) {
                self.lobby.room_mut(name).into_iter().for_each(|room| kept.audit(room));
            }
        }
    }

    fn note_pace(&mut self, late: Duration, busy: Duration, now: Duration) {
        let mut pace = lock(&self.berth.pace);
        pace.late.record(late);
        pace.busy.record(busy);
        drop(pace);
        let mut status = lock(&self.berth.status);
        status.pace.late.record(late);
        status.pace.busy.record(busy);
        self.mean = (self.mean * 15 + busy) / 16;
        self.is_slow = match self.is_slow {
            true => self.mean >= QUICK_BELOW,
            false => self.mean >= SLOW_ABOVE || busy >= SLOW_AT_ONCE,
        };
        let was_slow = std::mem::replace(&mut status.is_slow, self.is_slow);
        drop(status);
        if self.is_slow && !was_slow {
            // So that it is not back at once.
            self.mean = self.mean.max(busy);
            self.weather.complaints.takes_long(&self.berth.name, busy, now);
        }
    }

    fn show_pasts(&mut self) {
        if !self.lobby.has_pasts() {
            return;
        }
        self.lobby.tick_pasts();
        let (past, kept) = (self.past.as_ref(), self.kept.as_ref());
        attend(&mut self.lobby, &self.answers, |_| Some((past?.clone(), kept?.protocol.clone())));
    }

    fn send(&mut self) {
        let (threads, outlet, traffic) = (&self.threads, &mut self.outlet, &mut self.traffic);
        let closed = self.lobby.pump(|connection, own, shared| {
            if let Some(thread) = threads.get(&connection) {
                outlet.send(*thread, connection, &[own, shared]);
                traffic.packets_out += 1;
                traffic.bytes_out += (own.len() + shared.len()) as u64;
            }
        });
        for connection in closed {
            if let Some(thread) = self.threads.remove(&connection) {
                self.outlet.close(thread, connection);
            }
        }
        self.outlet.flush();
    }

    fn tell_status(&mut self, now: Duration) {
        if self.lobby.has_sessions() {
            self.empty_since = None;
        } else {
            self.empty_since.get_or_insert(now);
        }
        self.rounds += 1;
        // Which seats are kept is known at once: whoever leads people there goes by it.
        if std::mem::take(&mut self.is_changed) || self.rounds.is_multiple_of(STATUS_EVERY) {
            self.note_status(now);
        }
    }

    fn note_status(&mut self, now: Duration) {
        // Who is in it is gone through less often: it takes longer.
        let ways = self.rounds.is_multiple_of(WAYS_EVERY).then(|| self.lobby.ways());
        let name = &self.berth.name;
        let (tick, members, away) = self.lobby.standing_of(name);
        let mut status = lock(&self.berth.status);
        (status.tick, status.members, status.away) = (tick, members, away);
        (status.counters, status.is_paused, status.speed) = (self.lobby.counters(), self.is_paused(), self.speed);
        status.empty_for = self.empty_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        status.durable = self.kept.as_ref().map(|kept| kept.durable().unwrap_or_default());
        (status.traffic, status.past_watchers) = (self.traffic, self.lobby.past_watchers());
        status.ways = ways.unwrap_or(status.ways);
    }

    /// False once all who were in a room that ends know why, and all of it is stored.
    fn goes_on(&mut self, now: Duration) -> bool {
        if self.handing == Some(false) && self.is_settled() {
            self.handing = Some(true);
            self.tell(TaskNews::Written(self.berth.name.clone()));
        }
        if self.ending.is_none() && self.lobby.room(&self.berth.name).is_none() {
            // Its game failed while nothing ticked, or somebody who looked into it closed it.
            self.ending = Some(now);
            self.tell(TaskNews::Failed(self.berth.name.clone()));
        }
        let Some(since) = self.ending else { return true };
        if now > since + ENDING_MAX && !self.is_past {
            // Those who watch its past are not at its end yet; but another room of its name may be waited for.
            self.is_past = true;
            self.lobby.turn_all_away(&Refusal::RoomClosed("that was the end of it".to_owned()));
        }
        let all_know = !self.lobby.has_sessions() || now > since + ENDING_MAX + LAST_WORDS_MAX;
        let is_written = !self.is_lost && self.is_settled();
        if all_know && (is_written || self.is_lost || now > since + WRITING_MAX) {
            // What it counted outlives it.
            self.note_status(now);
            self.kept.take().into_iter().for_each(|mut kept| kept.close());
            self.tell(TaskNews::Over(self.berth.name.clone(), is_written));
            return false;
        }
        true
    }

    /// The host failed at it.
    pub(super) fn lost(&mut self) {
        self.kept.take().into_iter().for_each(|mut kept| kept.close());
        self.tell(TaskNews::Over(self.berth.name.clone(), false));
    }

    fn tell(&self, news: TaskNews) {
        // A host that is gone has no use for it.
        let _ = self.news.send(news);
    }
}
