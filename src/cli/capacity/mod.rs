//! `capacity`: how many members and rooms this machine holds. A server here, its clients in another process, and a load that grows until
//! a tick begins too late.
//!
//! May use: everything. The clients are real ones over real UDP. They share the machine, which is said with the result.

mod clients;
mod plot;
mod step;
mod sweep;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub(super) use self::clients::{ClientsOptions, clients};
use self::step::{Bench, Plan, can_share_port};
use self::sweep::{Bounds, single, sweep};
use super::game::Game;
use super::options::{CliError, RoomArguments};
use super::output::say;
use super::signals::stop_flag;
use super::system::{OTHER_FILES, raise_files, wake_ups};
use crate::host::gateway::{CLIENTS_MAX, CLIENTS_PER_THREAD};

/// Most members that a gateway of 16 threads is given here: half of what it may have, since the system spreads clients over threads by
/// chance.
const MEMBERS_MAX: u32 = 2_048;

/// Why no more are tried where one thread has to hold them all.
const ONE_THREAD: &str = "as many as one thread of the gateway holds; several can't share a port on this system";

/// How long a load settles before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct CapacityOptions {
    /// How many members each room has while the rooms become more.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "MEMBERS")]
    members_per_room: u32,
    /// Measure this many rooms, and no growth.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2_048), value_name = "ROOMS")]
    rooms: Option<u32>,
    /// Have one room more, which burns so much of the processor in each of its ticks, and is not judged: it is to harm no other.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=50), value_name = "MILLIS")]
    burn: Option<u64>,
    /// How long each step is measured, in seconds, after 2 s in which it settles.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS")]
    seconds: u64,
    /// How late a tick may begin, in milliseconds: 99 of 100 must stay below it.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50), value_name = "MILLIS")]
    late: u64,
    /// One member of so many is a bot that plays, the others only receive and report; 0 for no bots.
    #[arg(long, default_value_t = 8, value_name = "MEMBERS")]
    bot_every: u32,
    /// Don't go beyond so many members in all.
    #[arg(long, default_value_t = MEMBERS_MAX, value_parser = clap::value_parser!(u32).range(1..=2_048), value_name = "MEMBERS")]
    members_max: u32,
    /// With how many threads the gateway works. Unless it is given: one up to 256 members, then one for each 192.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "N")]
    gateway_threads: Option<u8>,
    /// The level file; the game's own if none is named.
    #[arg(long, value_name = "FILE")]
    level: Option<PathBuf>,
    /// Where to write the plot.
    #[arg(long, default_value = "capacity.svg", value_name = "FILE")]
    svg: PathBuf,
    /// A trial of some seconds with at most 8 members, in which no time is judged.
    #[arg(long)]
    quick: bool,
}

/// How many members a gateway is given that has so many threads, or as many as it takes, and why no more.
fn by_threads(threads: Option<u8>, can_share: bool) -> (u32, &'static str) {
    let given = "as many as the gateway's threads are given";
    match threads {
        None if can_share => (MEMBERS_MAX, given),
        None => (CLIENTS_MAX as u32, ONE_THREAD),
        Some(1) => (CLIENTS_MAX as u32, given),
        Some(threads) => (u32::from(threads) * CLIENTS_PER_THREAD as u32, given),
    }
}

impl CapacityOptions {
    fn bounds(&self, can_share: bool) -> Result<Bounds, CliError> {
        let files = raise_files().map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES));
        if files == 0 {
            let what = "the number of files that this process may have open".to_owned();
            return Err(CliError::Argument {
                what,
                detail: "too low, each client takes one; raise it, by `ulimit -n` for instance".to_owned(),
            });
        }
        let limits = [
            (self.members_max, "as asked"),
            (if self.quick { 8 } else { MEMBERS_MAX }, "as many as are tried"),
            by_threads(self.gateway_threads, can_share),
            (u32::try_from(files).unwrap_or(u32::MAX), "as many as there may be open files; `ulimit -n` raises that"),
        ];
        let (members_max, why_max) = limits.into_iter().min_by_key(|(limit, _)| *limit).unwrap_or((MEMBERS_MAX, ""));
        Ok(Bounds { members_max, why_max, late: Duration::from_millis(self.late), judged: !self.quick })
    }
}

/// Lets the load grow until it is too much, once by rooms and once by members, and tells how much was not.
pub(super) fn capacity(game: &Game, options: &CapacityOptions) -> Result<(), CliError> {
    let stop = stop_flag();
    let can_share = options.gateway_threads.is_some() || can_share_port();
    let bounds = options.bounds(can_share)?;
    let level = options.level.clone();
    let bench = Bench {
        game,
        room: RoomArguments { room: String::new(), level, seed: 1, notes: false, check: false }.room_options(game)?,
        bot_every: if game.bot.is_some() { options.bot_every } else { 0 },
        threads: options.gateway_threads,
        warm_up: if options.quick { Duration::from_millis(200) } else { WARM_UP },
        measured: if options.quick { Duration::from_millis(500) } else { Duration::from_secs(options.seconds) },
        burn: options.burn.map(Duration::from_millis),
        stop: &stop,
    };
    let members = if options.quick { 4 } else { options.members_per_room.min(bounds.members_max) };
    if let Some(rooms) = options.rooms.filter(|rooms| rooms * members > bounds.members_max) {
        let (all, max, why) = (rooms * members, bounds.members_max, bounds.why_max);
        let detail = format!("{rooms} rooms of {members} are {all} members; at most {max}, {why}");
        return Err(CliError::Argument { what: "--rooms".to_owned(), detail });
    }
    let mut preface = preface(&bench, &bounds);
    preface.extend((!can_share).then(|| format!("Not more than {CLIENTS_MAX} members are tried: {ONE_THREAD}.")));
    preface.iter().for_each(|line| say(line));
    let title = format!("rooms of {members} members");
    let sweeps = match options.rooms {
        Some(rooms) => vec![single(&bench, &bounds, &title, Plan { rooms, members })?],
        None => vec![
            sweep(&bench, &bounds, &title, 1, &|rooms| Plan { rooms, members })?,
            sweep(&bench, &bounds, "one room", 8, &|members| Plan { rooms: 1, members })?,
        ],
    };
    let sentences: Vec<String> = sweeps.iter().map(|sweep| sweep.sentence(&bounds)).collect();
    say("");
    sentences.iter().for_each(|line| say(line));
    let svg = plot::plot(game.name, &bounds, &sweeps, &[preface, sentences].concat());
    std::fs::write(&options.svg, svg).map_err(|error| CliError::Io { what: format!("the plot {}", options.svg.display()), error })?;
    say(&format!("the plot is in {}", options.svg.display()));
    Ok(())
}

fn preface(bench: &Bench, bounds: &Bounds) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let members = match bench.bot_every {
        0 if bench.game.bot.is_none() => "The game has no bots: all members only receive and report.".to_owned(),
        0 => "All members only receive and report.".to_owned(),
        every => format!("One member of {every} is a bot that plays, the others receive and report: commands need a replica."),
    };
    let judged = match bounds.judged {
        true => format!(
            "Held is a step in which 99 of 100 ticks begin less than {} ms late, none is skipped, and no client is refused or lost.",
            bounds.late.as_millis()
        ),
        false => "A trial: no time is judged, only that no client is refused or lost.".to_owned(),
    };
    let idle = wake_ups(bench.warm_up).quantile(0.99);
    let verdict = if bounds.judged && idle * 2 >= bounds.late { ": it is too busy to say what it holds" } else { "" };
    let burns = bench.burn.map(|burn| format!("Beside them a room burns {} ms in each of its ticks.", burn.as_millis()));
    let mut preface = vec![
        format!("{} on {cores} cores. The clients run in another process of the same machine, and take their part of it.", bench.game.name),
        format!(
            "Without a load, a thread that only sleeps wakes up to {:.2} ms late in 99 of 100 times{verdict}.",
            idle.as_secs_f64() * 1e3
        ),
        members,
        judged,
    ];
    preface.extend(burns);
    preface
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_port_cannot_be_shared_no_more_are_tried_than_one_thread_holds() {
        assert_eq!(by_threads(None, true).0, MEMBERS_MAX);
        assert_eq!(by_threads(None, false), (256, ONE_THREAD));
        assert_eq!(Plan { rooms: 16, members: 16 }.threads(None), 1, "for which one thread is enough");
        // Who says how many threads is not told otherwise before the first step.
        for can_share in [true, false] {
            assert_eq!([1, 2, 16].map(|threads| by_threads(Some(threads), can_share).0), [256, 384, 3_072]);
        }
    }
}
