//! `soak`: a server with many rooms, and bots who come and go for hours; and whether what the server takes stays as it was.
//!
//! The server is this process, so that all of it can be measured: every few seconds a sample is taken of its memory, its handles and its ticks. The bots
//! are in processes of their own, which give way to it. In the end what comes after the warm-up is judged by its trend, in words and by how the process ends.
//!
//! May use: everything. It reads `/proc`, and says so where there is none. What it keeps of the samples is bounded.

mod bots;
mod folder;
mod plot;
mod rooms;
mod sample;
mod verdict;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use self::bots::Bots;
pub(super) use self::bots::{BotsOptions, bots};
use self::folder::{Folder, bytes_under};
use self::rooms::{Part, Rooms, bots_per_process, parts};
use self::sample::{Csv, Sample, Series, heading};
use self::verdict::{judge, unsteady};
use super::beat::arrival_of;
use super::game::Game;
use super::options::{CliError, LinkArguments};
use super::output::say;
use super::signals::stop_flag;
use super::system::{instant, raise_files};
use crate::host::process::{Process, processor};

/// How long the thread that leads people sleeps at most, as `Host::run` lets it.
const NAP_MAX: Duration = Duration::from_millis(20);

/// How often it is looked whether all bots are there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between the bots of one process, which have then all begun to connect, and those of the next: a host looks at so many requests a second.
const BETWEEN_STARTS: Duration = Duration::from_millis(500);

/// How often a sample is printed.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How long the bots may take to hang up.
const GOODBYE_MAX: Duration = Duration::from_secs(15);

/// The warm-up that nobody asked for is at most so long.
const WARM_UP_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct SoakOptions {
    /// How many rooms are open. One whose match is over is closed, and another takes its place.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=2_048), value_name = "ROOMS")]
    rooms: u32,
    /// How many bots come and go.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "BOTS")]
    bots: u32,
    /// For how long, in minutes.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=1_200), value_name = "MINUTES")]
    minutes: u64,
    /// For how long, in seconds, to try it out.
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..=72_000), value_name = "SECONDS")]
    seconds: Option<u64>,
    /// How long a bot stays before it leaves, in seconds on average; 0 for as long as it can.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=86_400), value_name = "SECONDS")]
    stay: u32,
    /// How long it is away before it joins again, in seconds on average.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=86_400), value_name = "SECONDS")]
    away: u32,
    /// How often a sample is taken, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS")]
    every: u64,
    /// How much of the beginning is not judged, in seconds. Unless it is given: a tenth of the time, at most 10 minutes.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=72_000), value_name = "SECONDS")]
    warm_up: Option<u64>,
    /// Let the bots be whole clients as players have them, which predict what they do, show others between the ticks, and look as often as a game draws. Unless
    /// it is said they keep a replica and have their turn once a tick, at a small part of the cost.
    #[arg(long)]
    predict: bool,
    #[command(flatten)]
    link: LinkArguments,
    /// The level file; the game's own if none is named.
    #[arg(long, value_name = "FILE")]
    level: Option<PathBuf>,
    /// Don't keep the rooms. Unless it is given they are kept in a temporary folder (in TMPDIR, where that is set), which goes at the end.
    #[arg(long)]
    no_store: bool,
    /// Where the bots' chance starts. Each room has a seed of its own.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the plot.
    #[arg(long, default_value = "soak.svg", value_name = "FILE")]
    out: PathBuf,
    /// Where to write all samples, as comma-separated values.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl SoakOptions {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }

    fn warm_up(&self) -> Duration {
        self.warm_up.map_or_else(|| (self.length() / 10).min(WARM_UP_MAX), Duration::from_secs)
    }

    /// Draws what was measured, with sentences below.
    fn draw(&self, game: &Game, samples: &[Sample], lines: &[String]) -> Result<(), CliError> {
        let title = format!("{}: {} rooms, {} bots who come and go", game.name, self.rooms, self.bots);
        let svg = plot::plot(&title, samples, self.warm_up().as_secs_f64(), lines);
        std::fs::write(&self.out, svg).map_err(|error| CliError::Io { what: format!("the plot {}", self.out.display()), error })
    }
}

/// A time, for people.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 120.0 { format!("{seconds} s") } else { format!("{} min", (seconds / 6.0).round() / 10.0) }
}

/// What goes on, and what was measured so far.
struct Soak<'a> {
    options: &'a SoakOptions,
    stop: &'a AtomicBool,
    rooms: Rooms,
    bots: Vec<Bots>,
    /// Where the rooms are kept, if they are.
    data: Option<&'a Path>,
    csv: Option<Csv>,
    series: Series,
    begun: Instant,
    /// As of the last sample: when that was, and what this process had had of the processor.
    sampled: (Duration, Option<Duration>),
    told: Option<Duration>,
    last: Sample,
}

/// Lets bots come and go, measures the server, and judges what came of it.
pub(super) fn soak(game: &Game, options: &SoakOptions) -> Result<(), CliError> {
    let stop = stop_flag();
    // What can be wrong comes first: nobody is to wait for hours to hear of it.
    taken(&Process::look()).ok_or_else(|| CliError::Argument {
        what: "soak".to_owned(),
        detail: "memory and handles are read from /proc, which this system does not have, so it can't measure here".to_owned(),
    })?;
    drop(game.brain(0)?);
    let csv = options.csv.as_deref().map(Csv::create).transpose()?;
    options.draw(game, &[], &[])?;
    // For the bots, whose processes may have as many as this one.
    let files = raise_files();
    let folder = if options.no_store { None } else { Some(Folder::temporary()?) };
    let data = folder.as_ref().map(Folder::path);
    let parts = parts(options.rooms, options.bots, bots_per_process(options.predict, files));
    let preface = preface(game, options, parts.len(), data);
    preface.iter().for_each(|line| say(line));
    let rooms = Rooms::open(game, options, &parts, data)?;
    let begun = instant();
    let mut soak = Soak {
        options,
        stop: &stop,
        rooms,
        bots: Vec::new(),
        data,
        csv,
        series: Series::default(),
        begun,
        sampled: (Duration::ZERO, processor()),
        told: None,
        last: Sample::default(),
    };
    // Whatever ends it, what there is by then is judged and drawn.
    let ran = soak.run(&parts);
    let ended = soak.end();
    let verdicts = judge(soak.series.samples(), options.warm_up().as_secs_f64(), soak.rooms.failed());
    let sentences: Vec<String> = verdicts.iter().map(|verdict| verdict.sentence.clone()).collect();
    say("");
    sentences.iter().for_each(|line| say(line));
    let drawn = options.draw(game, soak.series.samples(), &[preface, sentences].concat());
    if drawn.is_ok() {
        say(&format!("the plot is in {}", options.out.display()));
    }
    ran.and(ended).and(drawn)?;
    let unsteady = unsteady(&verdicts);
    if unsteady.is_empty() { Ok(()) } else { Err(CliError::Unsteady(unsteady)) }
}

fn preface(game: &Game, options: &SoakOptions, processes: usize, data: Option<&Path>) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let link = options.link.link.map_or_else(|| "as it is".to_owned(), |link| link.to_string());
    let stay = if options.stay == 0 { "stay as long as they can".to_owned() } else { format!("stay {} s on average", options.stay) };
    let store = data.map_or_else(|| "are not kept".to_owned(), |data| format!("are kept in {}, which goes at the end", data.display()));
    let kind =
        if options.predict { "predict, and look as often as a game draws" } else { "don't predict, and have their turn once a tick" };
    vec![
        format!(
            "{}: {} rooms and {} bots for {}, on {cores} cores. The server is this process; the bots are in {processes} more of the same machine, which give \
             way to it once each bot was let in or turned away.",
            game.name,
            options.rooms,
            options.bots,
            in_words(options.length())
        ),
        format!("Bots {stay} and are away for {} s; they {kind}; their link is {link}. The rooms {store}.", options.away),
        format!("A sample is taken every {} s. The first {} are not judged.", options.every, in_words(options.warm_up())),
    ]
}

/// The memory, the handles and the threads of a process, where the system tells.
fn taken(process: &Process) -> Option<[u64; 3]> {
    Some([process.resident_bytes?, process.open_files?, process.threads?])
}

impl Soak<'_> {
    /// Starts the bots, and measures until the time is over or somebody wants it to end.
    fn run(&mut self, parts: &[Part]) -> Result<(), CliError> {
        let address = self.rooms.address()?;
        for (number, part) in (0..).zip(parts) {
            self.bots.push(Bots::start(address, part, number, self.options)?);
            self.drive(self.begun.elapsed() + arrival_of(part.bots) + BETWEEN_STARTS)?;
        }
        say(&heading());
        let (every, length) = (Duration::from_secs(self.options.every), self.options.length());
        while self.begun.elapsed() < length && !self.is_stopped() {
            // At even distances from the beginning. What is missed is missed, and of half a distance no sample is taken: it would tell of hardly any tick.
            let past = (self.begun.elapsed() + every / 2).as_secs() / self.options.every;
            let next = Duration::from_secs((past + 1) * self.options.every);
            self.drive(next.min(length))?;
            if !self.is_stopped() && (self.begun.elapsed() - self.sampled.0) * 2 >= every {
                self.sample()?;
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Leads people until so long after the beginning, or until it is to end, while all bots are there.
    fn drive(&mut self, until: Duration) -> Result<(), CliError> {
        let mut looked = None::<Duration>;
        while self.begun.elapsed() < until && !self.is_stopped() {
            self.rooms.round();
            let now = self.begun.elapsed();
            if looked.is_none_or(|looked| now >= looked + LOOK_EVERY) {
                looked = Some(now);
                self.bots.iter_mut().try_for_each(Bots::check)?;
                self.rooms.check()?;
            }
            std::thread::park_timeout(NAP_MAX);
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<(), CliError> {
        // Before anything is counted, which takes some memory for a moment.
        let process = Process::look();
        let gone = || CliError::Io { what: "what the system says of this process".to_owned(), error: ErrorKind::NotFound.into() };
        let [memory_bytes, handles, threads] = taken(&process).ok_or_else(gone)?;
        let (now, cpu, count) = (self.begun.elapsed(), process.processor, self.rooms.count());
        let (before, cpu_before) = std::mem::replace(&mut self.sampled, (now, cpu));
        let used = cpu.zip(cpu_before).map_or(Duration::ZERO, |(cpu, before)| cpu.saturating_sub(before));
        let sample = Sample {
            seconds: now.as_secs_f64(),
            memory_bytes,
            handles,
            threads,
            cores: used.as_secs_f64() / (now - before).as_secs_f64().max(0.001),
            disk_bytes: self.data.map_or(0, bytes_under),
            ..count
        };
        if let Some(csv) = &mut self.csv {
            csv.add(&sample)?;
        }
        self.series.add(sample);
        self.last = sample;
        if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
            self.told = Some(now);
            say(&sample.row());
        }
        Ok(())
    }

    /// Tells the last sample and lets the bots go, who tell what they felt; then ends the rooms.
    fn end(&mut self) -> Result<(), CliError> {
        if self.told.is_some_and(|told| told.as_secs_f64() < self.last.seconds) {
            say(&self.last.row());
        }
        self.bots.iter_mut().for_each(Bots::stop);
        let begun = instant();
        while begun.elapsed() < GOODBYE_MAX && self.bots.iter_mut().any(Bots::is_there) {
            self.rooms.round();
            std::thread::park_timeout(NAP_MAX);
        }
        let (is_stopped, mut well) = (self.is_stopped(), Ok(()));
        for bots in &mut self.bots {
            say(&format!("\nthe bots of {} say:", bots.template()));
            bots.words().iter().for_each(|line| say(line));
            // Who stops it may do so before anybody has come in.
            if !is_stopped {
                well = well.and(bots.ended_well());
            }
        }
        // Ends those that have not by now.
        self.bots.clear();
        let stored = self.rooms.end();
        well.and(stored)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::options::{Cli, Verb};

    fn options(arguments: &[&str]) -> Result<SoakOptions, String> {
        let cli = Cli::try_parse_from(["inferno", "soak"].iter().chain(arguments).copied()).map_err(|error| error.to_string())?;
        let Verb::Soak(options) = cli.verb else { panic!("another verb") };
        Ok(options)
    }

    #[test]
    fn a_soak_that_is_told_nothing_is_two_hours_of_a_thousand_bots() {
        let options = options(&[]).unwrap();
        assert_eq!((options.rooms, options.bots), (300, 1_000));
        assert_eq!((options.length(), options.warm_up()), (Duration::from_secs(7_200), Duration::from_secs(600)));
    }

    #[test]
    fn the_warm_up_is_a_tenth_of_the_time_unless_it_is_given() {
        assert_eq!(options(&["--minutes", "20"]).unwrap().warm_up(), Duration::from_secs(120));
        assert_eq!(options(&["--seconds", "8"]).unwrap().warm_up(), Duration::from_millis(800));
        assert_eq!(options(&["--warm-up", "0"]).unwrap().warm_up(), Duration::ZERO);
    }

    #[test]
    fn bots_predict_only_where_that_is_asked_for() {
        assert!(!options(&[]).unwrap().predict);
        assert!(options(&["--predict"]).unwrap().predict);
    }

    #[test]
    fn there_is_one_length() {
        let error = options(&["--minutes", "2", "--seconds", "8"]).unwrap_err();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let words = [(0.8, "0.8 s"), (119.0, "119 s"), (150.0, "2.5 min"), (7_200.0, "120 min")];
        for (seconds, words) in words {
            assert_eq!(in_words(Duration::from_secs_f64(seconds)), words);
        }
    }
}
