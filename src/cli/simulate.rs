//! `simulate`: whole clusters of hosts and players in one process, as fast as they can be computed, with all that goes wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;

use super::game::Game;
use super::options::CliError;
use super::output::say;
use super::system::instant;
use crate::protocol::limits::{TICK_MILLIS, TICKS_PER_SECOND};
use crate::room::Level;
use crate::sim::{Cluster, ClusterSize, Failure, Tally};

/// How many runs may be spent on a run that fails, to find out which of its faults it needs.
const SHRINK_RUNS: u32 = 80;

#[derive(Debug, Args)]
pub(super) struct SimulateOptions {
    /// How many runs, each with a seed of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    seeds: u64,
    /// The first seed. The same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// For how long faults go on in each run, in seconds of room time. Then it must get well by itself.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400), value_name = "SECONDS")]
    seconds: u32,
    /// Hosts, which share the rooms.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    hosts: u8,
    /// Rooms.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    rooms: u8,
    /// Players, who are spread over the rooms, and play if the game has bots.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=64))]
    players: u8,
    /// Threads; each has a run at a time. Default: one for each core.
    #[arg(long)]
    threads: Option<usize>,
}

/// What all threads work at.
struct Work<'a> {
    cluster: &'a Cluster,
    next: AtomicU64,
    last: u64,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    failure: Mutex<Option<Failure>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Work<'_> {
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed > self.last {
                return;
            }
            match self.cluster.run(seed) {
                Ok(tally) => locked(&self.tally).add(&tally),
                Err(failure) => {
                    self.stop.store(true, Ordering::Relaxed);
                    locked(&self.failure).get_or_insert(failure);
                }
            }
        }
    }
}

pub(super) fn simulate(game: &Game, options: &SimulateOptions) -> Result<(), CliError> {
    let size = ClusterSize {
        hosts: options.hosts.into(),
        rooms: options.rooms.into(),
        players: options.players.into(),
        steps: options.seconds * TICKS_PER_SECOND,
    };
    let level = game.level.as_ref().map(Level::open).transpose()?;
    let mut cluster = Cluster::new(game.blueprint.clone(), size).level(level);
    if let Some(make) = &game.bot {
        cluster = cluster.brains(make.clone());
    }
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let (next, last) = (AtomicU64::new(options.from), options.from.saturating_add(options.seeds - 1));
    let (stop, tally, failure) = Default::default();
    let work = Work { cluster: &cluster, next, last, stop, tally, failure };
    let begun = instant();
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| work.run()))));
    let tally = locked(&work.tally).clone();
    report(&tally, begun.elapsed());
    let Some(failure) = locked(&work.failure).take() else { return Ok(()) };
    say(&format!("seed {} fails after {} faults; looking for those that it needs", failure.seed, failure.faults.len()));
    Err(CliError::Simulation(cluster.shrink(failure, SHRINK_RUNS)))
}

fn report(tally: &Tally, took: Duration) {
    let minutes = tally.steps as f64 * TICK_MILLIS as f64 / 60_000.0;
    say(&format!(
        "{minutes:.1} minutes of {} ticks simulated in {:.1} s: {:.0} a minute",
        tally.ticks,
        took.as_secs_f64(),
        minutes / took.as_secs_f64() * 60.0
    ));
    say(&format!(
        "{} faults: rooms went on elsewhere or anew {} times, hosts lost {}, {} commits failed, {} rows damaged, \
            {} connections, {} hostile messages",
        tally.faults, tally.takeovers, tally.lost, tally.disk_failures, tally.damaged, tally.connections, tally.hostile
    ));
    say(&format!(
        "{} facts; {} commands were said to be stored, and are; {} times a replica was compared with its room, and equal",
        tally.facts, tally.stored_commands, tally.compared
    ));
}
