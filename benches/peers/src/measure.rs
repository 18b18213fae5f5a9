//! What a contestant must do, and how it is timed: CPU time of the only thread, medians over many ticks.
//!
//! What replication costs is a whole update less the same game without replication, timed alike by [`timed`].
//! Server, clients and the bare game take turns of [`STRETCH`] ticks, and the first [`SETTLE`] of a turn do not count, because in
//! life they do not share a cache: with the clients between any two ticks of the server, a contestant that keeps much state per
//! client looks three times as slow as it is.

use std::time::Duration;

use bevy::prelude::*;
use cpu_time::ThreadTime;

use crate::workload::{Changes, Play, Population, Script, Workload};

/// What a tick is, to everybody.
pub const TICK: Duration = Duration::from_millis(50);

/// How many ticks the server runs before the clients get their turn.
pub const STRETCH: usize = 25;

/// How many ticks of a turn pass before the caches hold what they held before.
const SETTLE: usize = 5;

/// Joins that do not count.
const JOIN_WARM_UP: usize = 3;

/// A replication library with a server and all its clients, in one process.
///
/// Clients that are connected when the set-up is done hold the whole world already.
pub trait Contestant {
    /// Plays the changes in the server's world and ticks the server: both together are timed, by [`timed`]. The messages are
    /// counted and kept for [`Contestant::apply`]; what clients would answer at once (acknowledgements) goes back by hand.
    fn tick(&mut self, changes: &Changes) -> TickCost;

    /// Lets every client apply what the server sent since the last call: one client after the other, each tick by tick.
    /// CPU time of each of these updates in nanoseconds, one for every client and tick even if nothing was sent, by [`timed`]; handing over the messages is not in it.
    fn apply(&mut self) -> Vec<u64>;

    /// Connects one more client and ticks, with nothing changing, until it holds the world. What others get is theirs to apply.
    fn join(&mut self) -> JoinCost;

    /// Disconnects the client that joined last, and ticks until the server is at rest again. Not timed.
    fn leave(&mut self);

    /// Asserts that every client holds exactly the entities of the server, each with the same four components bit for bit
    /// (`workload::bits`). Everything sent has been applied.
    ///
    /// # Panics
    /// If one does not.
    fn assert_equal(&mut self);
}

/// How a contestant comes into the table.
pub struct Entry {
    /// Its name in the table.
    pub name: &'static str,
    /// Builds the server's world, connects the clients of the workload, and ticks until all is at rest.
    pub setup: fn(&Workload) -> Box<dyn Contestant>,
    /// An app like the server's without replication, whose update is taken off each tick's cost.
    /// Without one only the changes of the world are taken off.
    pub bare_server: Option<fn() -> App>,
    /// An app like a client's without replication, whose update is taken off what a client costs.
    pub bare_client: Option<fn() -> App>,
    /// Whether the contestant is measured in the workloads of joining.
    pub joins: bool,
    /// Whether the contestant is measured where members see a part of the world.
    pub sees: bool,
}

/// What one tick cost.
#[derive(Clone, Copy, Default, Debug)]
pub struct TickCost {
    /// CPU time of the server, in nanoseconds: changes and update.
    pub server_ns: u64,
    /// What of it the game needed to find out who sees what, where the library leaves that to it.
    pub sight_ns: u64,
    /// Bytes of messages to the clients, divided by their number. Without the headers of a transport.
    pub bytes_per_client: f64,
}

/// What one join cost.
#[derive(Clone, Copy, Default, Debug)]
pub struct JoinCost {
    /// CPU time of the server, in nanoseconds: the connection and all ticks.
    pub server_ns: u64,
    /// Bytes of messages to all clients.
    pub bytes: u64,
    /// CPU time of the client that joined, in nanoseconds, all ticks.
    pub client_ns: u64,
    /// How many ticks it took.
    pub ticks: u32,
}

/// Medians of a run.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// CPU time of replication per tick (or join), in microseconds.
    pub server_us: f64,
    /// A tenth of the ticks cost less than the first, a tenth more than the second, in microseconds.
    pub server_spread: (f64, f64),
    /// What of it the game needed to find out who sees what, in microseconds.
    pub sight_us: f64,
    /// Bytes per client and tick (the mean), or per join.
    pub bytes: f64,
    /// CPU time of one client per tick (or join), in microseconds.
    pub client_us: f64,
}

/// Runs something and says how much CPU time this thread spent in it, in nanoseconds.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = ThreadTime::now();
    let value = work();
    (value, u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Runs a workload with each contestant, in rounds, each with new worlds: how they happen to lie in memory matters.
/// Every round ends with the assertion that everybody holds the same.
pub fn run(entries: &[&Entry], workload: &Workload, rounds: usize) -> Vec<Outcome> {
    let mut samples: Vec<Samples> = entries.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for (entry, samples) in entries.iter().zip(&mut samples) {
            let mut contestant = (entry.setup)(workload);
            let mut bare = Bare::new(entry.bare_server, entry.bare_client, workload);
            contestant.assert_equal();
            if workload.play == Play::Join {
                joins(contestant.as_mut(), &mut bare, workload, samples);
            } else {
                plays(contestant.as_mut(), &mut bare, workload, samples);
            }
        }
    }
    samples.iter().map(Samples::outcome).collect()
}

fn plays(contestant: &mut dyn Contestant, bare: &mut Bare, workload: &Workload, samples: &mut Samples) {
    let mut script = Script::new(workload);
    for _ in 0..2 {
        stretch(contestant, bare, &mut script, &mut Samples::default());
    }
    contestant.assert_equal();
    for _ in 0..workload.samples.div_ceil(STRETCH - SETTLE) {
        stretch(contestant, bare, &mut script, samples);
    }
    contestant.assert_equal();
}

fn stretch(contestant: &mut dyn Contestant, bare: &mut Bare, script: &mut Script, samples: &mut Samples) {
    let changes: Vec<Changes> = (0..STRETCH).map(|_| script.next_tick()).collect();
    let costs: Vec<TickCost> = changes.iter().map(|changes| contestant.tick(changes)).collect();
    let applied = contestant.apply();
    let bare_server = changes.iter().map(|changes| bare.server_tick(changes)).skip(SETTLE);
    samples.bare_server.extend(bare_server);
    samples.bare_client.extend((0..STRETCH).map(|_| bare.client_tick()).skip(SETTLE));
    for cost in &costs[SETTLE..] {
        samples.server.push(cost.server_ns);
        samples.sight.push(cost.sight_ns);
        samples.bytes.push(cost.bytes_per_client);
    }
    for ticks in applied.chunks_exact(STRETCH) {
        samples.client.extend(&ticks[SETTLE..]);
    }
}

fn joins(contestant: &mut dyn Contestant, bare: &mut Bare, workload: &Workload, samples: &mut Samples) {
    let nothing = Changes::default();
    for round in 0..workload.samples + JOIN_WARM_UP {
        let cost = contestant.join();
        let _ = contestant.apply();
        if round == 0 || round + 1 == workload.samples + JOIN_WARM_UP {
            contestant.assert_equal();
        }
        contestant.leave();
        let _ = contestant.apply();
        // A join may take several ticks, so those without replication are taken off one by one.
        let (mut bare_server, mut bare_client) = (0, 0);
        for _ in 0..cost.ticks {
            bare_server += bare.server_tick(&nothing);
            bare_client += bare.client_tick();
        }
        if round >= JOIN_WARM_UP {
            samples.server.push(cost.server_ns.saturating_sub(bare_server));
            samples.client.push(cost.client_ns.saturating_sub(bare_client));
            samples.bytes.push(cost.bytes as f64);
        }
    }
}

/// What was measured: CPU times in nanoseconds, and bytes. Those of joins are without the bare game's already.
#[derive(Default)]
struct Samples {
    server: Vec<u64>,
    sight: Vec<u64>,
    bare_server: Vec<u64>,
    client: Vec<u64>,
    bare_client: Vec<u64>,
    bytes: Vec<f64>,
}

impl Samples {
    fn outcome(&self) -> Outcome {
        let server = |share| (quantile(&self.server, share) - quantile(&self.bare_server, 0.5)) / 1_000.0;
        Outcome {
            server_us: server(0.5),
            server_spread: (server(0.1), server(0.9)),
            sight_us: quantile(&self.sight, 0.5) / 1_000.0,
            bytes: self.bytes.iter().sum::<f64>() / self.bytes.len().max(1) as f64,
            client_us: (quantile(&self.client, 0.5) - quantile(&self.bare_client, 0.5)) / 1_000.0,
        }
    }
}

/// The sample that a share of all samples is less than; 0 if there is none.
pub fn quantile(samples: &[u64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0) as f64
}

/// The same game without replication.
pub struct Bare {
    world: BareWorld,
    population: Population,
    client: Option<App>,
}

enum BareWorld {
    App(Box<App>),
    World(Box<World>),
}

impl Bare {
    /// The app of a game without replication, or only its world, and that of a client.
    pub fn new(server: Option<fn() -> App>, client: Option<fn() -> App>, workload: &Workload) -> Self {
        let mut world = match server {
            Some(app) => BareWorld::App(Box::new(app())),
            None => BareWorld::World(Box::default()),
        };
        let population = Population::spawn(workload, world.world_mut(), ());
        Self { world, population, client: client.map(|app| app()) }
    }

    /// A tick of the game. CPU time in nanoseconds.
    pub fn server_tick(&mut self, changes: &Changes) -> u64 {
        timed(|| {
            self.population.change(changes, self.world.world_mut(), ());
            match &mut self.world {
                BareWorld::App(app) => app.update(),
                BareWorld::World(world) => world.clear_trackers(),
            }
        })
        .1
    }

    fn client_tick(&mut self) -> u64 {
        self.client.as_mut().map_or(0, |app| timed(|| app.update()).1)
    }
}

impl BareWorld {
    fn world_mut(&mut self) -> &mut World {
        match self {
            Self::App(app) => app.world_mut(),
            Self::World(world) => world,
        }
    }
}
