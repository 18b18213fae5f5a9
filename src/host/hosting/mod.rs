//! A host on all cores: every room runs by itself, and who comes is led to the room that it wants.

mod attend;
mod closing;
mod deleting;
mod lead;
mod listing;
mod opening;
mod share;
mod shared;

use self::closing::Ending;
use self::deleting::Deleting;
use self::opening::{Building, ToOpen};
pub use self::share::ShareOptions;
use self::share::Sharing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;

use crate::host::bans::Bans;
use crate::host::berth::Berth;
use crate::host::clock::unix_time;
use crate::host::gateway::{Access, BindError, Gateway, GatewayCounters, GatewayEvent, Outlet, ShardConfig, can_share, spread};
use crate::host::handle::{HostHandle, Order, RoomInfo};
use crate::host::keeper::{KeepOptions, Keeper};
use crate::host::limits::{HostCounters, HostLimits};
use crate::host::lobby::Lobby;
use crate::host::opener::Opener;
use crate::host::overview::{Overview, StoreStatus, Tally};
use crate::host::pace::Pace;
use crate::host::scheduler::Scheduler;
use crate::host::server::ServerError;
use crate::host::session::{ConnectionId, Visitor};
use crate::host::task::{OnTick, TaskNews, Weather};
use crate::host::token::HostKey;
use crate::protocol::LinkConditions;
use crate::room::{Blueprint, RoomOptions};
use crate::store::Token;

/// How often it looks after the store, and after those who are in no room.
const LOOK_AROUND_EVERY: Duration = Duration::from_millis(20);

/// How often it looks for rooms that nobody is in.
const LOOK_FOR_EMPTY_EVERY: Duration = Duration::from_secs(1);

/// What rooms are made from.
#[derive(Clone, Debug)]
pub struct Template {
    /// The game.
    pub blueprint: Blueprint,
    /// What a room of it is created from, but for its name.
    pub options: RoomOptions,
    /// How many members and spectators a room of it has at most; as many as the host's limits say if it does not.
    pub members_max: Option<usize>,
    /// Whether a room of it is created when somebody asks for `NAME/...`, where `NAME` is the template's.
    pub on_demand: bool,
    /// Whether each new room has another seed, and not the one of the options.
    pub fresh_seeds: bool,
    /// Whether who is in no room yet is told of its rooms, when it asks which there are. Names serve as codes, so none are told of by default.
    pub listed: bool,
    /// After which time a room of it that nobody uses is deleted, with its whole history: one whose name begins with the template's and a `/`, that is
    /// kept, and that has not been open for so long by the store's clock. None are by default.
    pub delete_after: Option<Duration>,
}

impl Template {
    /// A game's rooms as they are by default. None are created on demand.
    pub fn new(blueprint: Blueprint, options: RoomOptions) -> Self {
        Self { blueprint, options, members_max: None, on_demand: false, fresh_seeds: false, listed: false, delete_after: None }
    }

    fn seats_max(&self, limits: &HostLimits) -> usize {
        self.members_max.unwrap_or(limits.members_per_room_max)
    }
}

/// How a host works.
#[derive(Clone, Copy, Debug)]
pub struct HostOptions {
    /// What it allows.
    pub limits: HostLimits,
    /// How many threads send, receive and encrypt: 1 to 16, each for up to 256 clients. Several share a port, which only Linux lets them: elsewhere the host
    /// does not start. 0 for as many as [`sessions_max`](HostLimits::sessions_max) needs: where they can't share a port that is one, and there is place for
    /// fewer, as a line of the log says.
    pub gateway_threads: usize,
    /// Where it listens for those who come by WebSocket, for up to as many clients as one thread of the gateway has. Clients look for it at the address and port
    /// at which the host has UDP, if nobody tells them otherwise. Wants the feature `websocket`.
    pub websocket: Option<SocketAddr>,
    /// How many threads run rooms. 0 for as many as there are cores.
    pub room_threads: usize,
    /// After which time a room that nobody is in, and that is kept, goes to rest in the store; whoever asks for it wakes it. One that was created on
    /// demand and is not kept ends.
    pub rest_after: Option<Duration>,
    /// For how long a host that is to stop refuses newcomers and is not [ready](super::HostHandle) before it lets go of those who are there: so that whatever
    /// sends players to it has noticed.
    pub announce_stop: Duration,
}

impl Default for HostOptions {
    fn default() -> Self {
        let limits = HostLimits::default();
        Self { limits, gateway_threads: 0, websocket: None, room_threads: 0, rest_after: None, announce_stop: Duration::ZERO }
    }
}

/// A room that is open.
struct Place {
    berth: Arc<Berth>,
    template: Template,
    template_name: String,
    seed: u64,
    /// By which lease it was opened, if rooms are shared.
    token: Option<Token>,
    /// Players who were led there and are connected.
    seats: usize,
    /// Those who were led there to watch its present, and are connected. They take seats as well.
    watchers: usize,
    /// Everybody who was led there and is connected.
    visitors: usize,
    /// Why it was told to end, if it was.
    ending: Option<Ending>,
}

impl Place {
    fn seats_max(&self, limits: &HostLimits) -> usize {
        self.template.seats_max(limits)
    }

    /// How many seats are taken, as the room counts them. Those that are kept for who lost its connection are not free.
    fn taken(&self) -> usize {
        self.seats + self.watchers + self.berth.away()
    }

    /// Somebody is led there.
    fn count_in(&mut self, part: Part) {
        self.visitors += 1;
        match part {
            Part::Plays => self.seats += 1,
            Part::Watches => self.watchers += 1,
            Part::LooksBack => {}
        }
    }

    /// Somebody who was led there is not connected any more.
    fn count_out(&mut self, part: Part) {
        self.visitors = self.visitors.saturating_sub(1);
        match part {
            Part::Plays => self.seats = self.seats.saturating_sub(1),
            Part::Watches => self.watchers = self.watchers.saturating_sub(1),
            Part::LooksBack => {}
        }
    }
}

/// What somebody does in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Plays,
    /// It sees the present, and has a seat for it.
    Watches,
    /// It sees the past, as many as like.
    LooksBack,
}

/// A room at rest.
struct Resting {
    template: String,
    since: Duration,
}

/// Where a connection is.
struct Route {
    visitor: Visitor,
    thread: usize,
    /// The room that it was led to, and what it does there.
    room: Option<(String, Part)>,
    waits: Option<Wait>,
}

/// What somebody waits for: that a room has ended, so that it can be woken; that it is built; or that the directory says whose it is.
struct Wait {
    room: String,
    hello: Bytes,
    /// It asked for any room of a template.
    any: bool,
}

/// A host of many rooms on one UDP port, with all cores at work. For one that is driven by its caller on one thread see [`Server`](super::Server).
///
/// Each room runs by itself on whichever thread is free, so none waits for another, and one that takes long is run apart. Who connects says which
/// room it wants: a room by its name; `NAME/x`, which is created if the [template](Self::template) `NAME` allows it; or `NAME/*`, any room of that
/// template with a free seat, or a new one.
pub struct Host {
    gateway: Gateway,
    outlet: Outlet,
    options: HostOptions,
    /// Those who are in no room.
    foyer: Lobby,
    routes: BTreeMap<ConnectionId, Route>,
    places: BTreeMap<String, Place>,
    /// Rooms at rest.
    resting: BTreeMap<String, Resting>,
    templates: BTreeMap<String, Template>,
    /// The templates of rooms that are to be opened once the directory says that they are this host's.
    wanted: BTreeMap<String, String>,
    /// Rooms of which nothing tells the template by which they were made, so that one was guessed: whether they may be told of is not known.
    guessed: BTreeSet<String>,
    /// By template: the number of the last room that was opened because somebody asked for any.
    numbers: BTreeMap<String, u64>,
    /// What could not be opened: a room, or any of a template; and until when nobody tries it again because somebody asks.
    unopened: BTreeMap<String, Duration>,
    scheduler: Scheduler,
    news: (Sender<TaskNews>, Receiver<TaskNews>),
    /// The way to the directory, if rooms are shared with other hosts.
    sharing: Option<Sharing>,
    /// Rooms that are to be opened, one after the other: those that somebody asked for, and those that this host was given.
    to_open: VecDeque<ToOpen>,
    /// Those of them that are being built.
    building: BTreeMap<String, Building>,
    /// How many were built so.
    built: u64,
    /// What builds them, once there is one to build.
    opener: Option<Opener>,
    deleting: Deleting,
    orders: (Sender<Order>, Receiver<Order>),
    keeper: Option<Keeper>,
    weather: Arc<Weather>,
    bans: Bans,
    on_tick: Option<OnTick>,
    /// The thread that leads people, for those who wake it; nobody knows of it before the first round.
    thread: Arc<Mutex<Thread>>,
    is_known: bool,
    opened: u64,
    /// What rooms counted that have ended; and those who were refused before they were led to one.
    ended: Tally,
    looked_around: Duration,
    looked_for_empty: Duration,
    draining: bool,
    /// What to say of it if another process took the name that this host has in the directory.
    ousted: Option<String>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("rooms", &self.places.len()).field("connections", &self.routes.len()).finish_non_exhaustive()
    }
}

impl Host {
    /// Listens. Its threads wait until [`run`](Self::run) or [`round`](Self::round) is called.
    ///
    /// # Errors
    /// If the address can't be had, or anybody could reach it and that is not allowed; if the system gives no threads, or several are asked for and
    /// can't share a port.
    pub fn bind(config: &ShardConfig, mut options: HostOptions) -> Result<Self, ServerError> {
        let wanted = options.limits.sessions_max;
        let spread = spread(options.gateway_threads, wanted, config.limits.clients_max, can_share(config.bind))?;
        options.limits.sessions_max = spread.clients_max;
        let gateway = Gateway::bind_with(config, spread.threads, options.websocket, unix_time)?;
        if spread.clients_max < wanted {
            let clients_max = spread.clients_max;
            tracing::warn!(clients_max, wanted, "several threads can't share a port on this system: one has it, and no more clients");
        }
        let outlet = gateway.outlet().ok_or(BindError::TooManyThreads(0))?;
        let threads = match options.room_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let scheduler = Scheduler::start(threads);
        let scheduler = scheduler.map_err(|error| BindError::Socket { address: config.bind, error })?;
        let mut foyer = Lobby::new(options.limits, matches!(config.access, Access::Tokens(_)));
        foyer.leave_rooms_to_host();
        let (routes, places, resting, templates, wanted, weather, bans) = Default::default();
        let (guessed, numbers, unopened, building) = Default::default();
        Ok(Self {
            gateway,
            outlet,
            options,
            foyer,
            routes,
            places,
            resting,
            templates,
            wanted,
            guessed,
            numbers,
            unopened,
            scheduler,
            news: channel(),
            sharing: None,
            to_open: VecDeque::new(),
            building,
            built: 0,
            opener: None,
            deleting: Deleting::default(),
            orders: channel(),
            keeper: None,
            weather,
            bans,
            on_tick: None,
            thread: Arc::new(Mutex::new(std::thread::current())),
            is_known: false,
            opened: 0,
            ended: Tally::default(),
            looked_around: Duration::ZERO,
            looked_for_empty: Duration::ZERO,
            draining: false,
            ousted: None,
        })
    }

    /// Keeps the rooms that are opened from now on, and brings them back if they were stored.
    ///
    /// # Errors
    /// If the data can't be read or written, or another process has it.
    pub fn keep(&mut self, options: &KeepOptions) -> Result<&mut Keeper, ServerError> {
        Ok(self.keep_by(Keeper::open(options)?))
    }

    /// The same by a keeper that is open already.
    pub fn keep_by(&mut self, keeper: Keeper) -> &mut Keeper {
        self.keeper.insert(keeper)
    }

    /// What keeps the rooms, if anything does.
    pub fn keeper(&mut self) -> Option<&mut Keeper> {
        self.keeper.as_mut()
    }

    /// Lets somebody hear of every tick of the rooms that are opened from now on. It is called on the threads that run them: what it does, a room
    /// waits for.
    pub fn on_tick(&mut self, hears: OnTick) {
        self.on_tick = Some(hears);
    }

    /// Makes a template known: rooms can be [opened](Self::open) from it, and if it says so, are on demand.
    pub fn template(&mut self, name: &str, template: Template) {
        self.templates.insert(name.to_owned(), template);
    }

    /// Keeps the players who are not let in in a file, and reads it.
    ///
    /// # Errors
    /// If it can't be read or written, or holds something else.
    pub fn keep_bans(&mut self, file: &Path) -> std::io::Result<()> {
        self.bans = Bans::open(file)?;
        Ok(())
    }

    /// Lets in those whose tokens were made with one of these keys, from now on. Who is in stays.
    pub fn accept_keys(&mut self, keys: &[HostKey]) {
        self.gateway.accept_keys(keys);
    }

    /// Puts a simulated link before each client, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        self.gateway.set_link(conditions, seed);
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.gateway.local_address()
    }

    /// Where it listens for those who come by WebSocket, if it does.
    pub fn websocket_address(&self) -> Option<SocketAddr> {
        self.gateway.websocket_address()
    }

    /// What it allows: what it was told, or less where the system can't do as much.
    #[cfg(feature = "client")]
    pub(crate) fn limits(&self) -> &HostLimits {
        &self.options.limits
    }

    /// Why it has ended by itself, in a sentence for people that says what to do, if it has: because another process has the name by now by which it
    /// [shares](Self::share) its rooms, or the directory looks so because its data has gone back to an earlier state. None of its rooms counts any more, and it
    /// opens none: [`run`](Self::run) returns then, and who calls [`round`](Self::round) is to stop. To share again it is to be made anew.
    pub fn ousted(&self) -> Option<&str> {
        self.ousted.as_deref()
    }

    /// The way to it from other threads.
    pub fn handle(&self) -> HostHandle {
        HostHandle::new(self.orders.0.clone(), self.thread.clone())
    }

    /// The rooms, and how each does.
    pub fn rooms(&self) -> Vec<RoomInfo> {
        let open = self.places.values().map(|place| self.info(place));
        let resting = self.resting.iter().map(|(name, resting)| RoomInfo::resting(name, &resting.template));
        open.chain(resting).collect()
    }

    /// A room that is open, and how it does.
    pub fn room(&self, name: &str) -> Option<RoomInfo> {
        self.places.get(name).map(|place| self.info(place))
    }

    fn info(&self, place: &Place) -> RoomInfo {
        RoomInfo {
            name: place.berth.name.clone(),
            template: place.template_name.clone(),
            seats: place.seats,
            seats_max: place.seats_max(&self.options.limits),
            is_resting: false,
            seed: place.seed,
            status: place.berth.status(),
        }
    }

    /// How rooms kept their time, those that are wanted all together, since this was last asked of them.
    pub fn take_pace(&mut self, wanted: impl Fn(&str) -> bool) -> Pace {
        let mut pace = Pace::default();
        let wanted = self.places.iter().filter(|(name, _)| wanted(name));
        wanted.for_each(|(_, place)| pace.add(&place.berth.take_pace()));
        pace
    }

    /// What was counted by all rooms that ever were, and by those who lead people; and how the rooms kept their time.
    pub fn totals(&self) -> Tally {
        let mut tally = self.ended.clone();
        tally.counters = tally.counters + self.foyer.counters();
        self.places.values().for_each(|place| tally.add(&place.berth.status()));
        tally
    }

    /// What was counted: by those who lead people, and by the gateway. What rooms count is in their [status](Self::rooms).
    pub fn counters(&self) -> (HostCounters, GatewayCounters) {
        (self.foyer.counters(), self.gateway.counters())
    }

    /// What it has to say as a whole.
    pub fn overview(&self) -> Overview {
        let (foyer, gateway) = self.counters();
        let (connections, ended, is_draining) = (self.connections(), self.ended.clone(), self.draining);
        let store = self.keeper.as_ref().map(|keeper| StoreStatus::of(keeper.writer()));
        Overview {
            connections,
            foyer,
            gateway,
            ended,
            store,
            #[cfg(feature = "nats")]
            nats: self.keeper.as_ref().and_then(|keeper| Some(keeper.publisher()?.report())),
            is_draining,
            templates: self.templates.keys().cloned().collect(),
        }
    }

    /// How many are connected.
    pub fn connections(&self) -> usize {
        self.routes.len()
    }

    /// Leads those who have come, hears what rooms and others have to say. To be called some times in 50 ms.
    pub fn round(&mut self) {
        self.tell_where_it_is();
        let now = self.scheduler.now();
        self.foyer.advance(now);
        self.gateway.receive(unix_time(), usize::MAX);
        let events: Vec<GatewayEvent> = self.gateway.drain_events().collect();
        events.into_iter().for_each(|event| self.lead(event));
        while let Ok(order) = self.orders.1.try_recv() {
            self.obey(order);
        }
        while let Ok(news) = self.news.1.try_recv() {
            match news {
                TaskNews::Written(name) => self.written(&name),
                TaskNews::Failed(name) => self.failed(&name),
                TaskNews::Over(name, written) => self.ended(&name, written),
            }
        }
        self.hear_the_remover();
        self.hear_the_directory();
        self.look_for_unused();
        if now >= self.looked_around + LOOK_AROUND_EVERY {
            self.looked_around = now;
            self.attend_store();
            self.attend_foyer();
            self.weather.complaints.tell(now);
        }
        if now >= self.looked_for_empty + LOOK_FOR_EMPTY_EVERY {
            self.looked_for_empty = now;
            self.put_to_rest();
        }
        self.gateway.flush(unix_time());
    }

    /// Lets those who have something to say know which thread to wake.
    fn tell_where_it_is(&mut self) {
        let here = std::thread::current();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_known || thread.id() != here.id() {
            self.is_known = true;
            self.gateway.wake_reader(&here);
            self.scheduler.wake(&here);
            *thread = here;
        }
    }
}
