//! The processes with the bots: `soak-bots`, which `soak` starts; each is a `swarm` that gives way to its server, and ends with whoever started it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use clap::Args;

use super::SoakOptions;
use super::rooms::Part;
use crate::cli::beat::{FRAME_BEATS, TICK_BEATS};
use crate::cli::game::Game;
use crate::cli::options::CliError;
use crate::cli::swarm::{Manner, SwarmOptions, live};
use crate::cli::system::{end, until_input_ends};

/// Longer than any soak: they end when they are told to.
const SECONDS: u32 = 86_400;

/// How many lines are kept of what a process says. What it says at its end is less.
const LINES_MAX: usize = 64;

/// How many of them are its last words.
const LAST_WORDS: usize = 4;

#[derive(Debug, Args)]
pub(in crate::cli) struct BotsOptions {
    #[command(flatten)]
    swarm: SwarmOptions,
    /// Let them have their turns once a tick, and not as often as a game draws.
    #[arg(long)]
    sparing: bool,
}

/// The last lines that a process said, on both outputs.
type Words = Arc<Mutex<VecDeque<String>>>;

fn lock(words: &Words) -> MutexGuard<'_, VecDeque<String>> {
    words.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes in what a process says until it says no more.
fn listen(output: impl Read + Send + 'static, words: &Words) -> JoinHandle<()> {
    let words = words.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut words = lock(&words);
            if words.len() >= LINES_MAX {
                words.pop_front();
            }
            words.push_back(line);
        }
    })
}

/// A process with bots. It ends when its standard input does.
pub(super) struct Bots {
    process: Child,
    template: String,
    words: Words,
    listeners: Vec<JoinHandle<()>>,
}

impl Bots {
    pub(super) fn start(server: SocketAddr, part: &Part, number: u32, options: &SoakOptions) -> Result<Self, CliError> {
        let io = |error| CliError::Io { what: "a process with bots".to_owned(), error };
        let mut command = Command::new(std::env::current_exe().map_err(io)?);
        command.args(["soak-bots", "--server", &server.to_string(), "--room", &format!("{}/*", part.template)]);
        let whole = if options.predict { part.bots } else { 0 };
        let numbers =
            [("--bots", part.bots), ("--seconds", SECONDS), ("--stay", options.stay), ("--away", options.away), ("--whole", whole)];
        command.args(numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]));
        if !options.predict {
            command.arg("--sparing");
        }
        // So that the first of one process does not do what the first of another does. Their numbers are in the bits below.
        let of_its_own = |seed: u64| seed.wrapping_add(u64::from(number) << 48).to_string();
        command.args(["--seed", &of_its_own(options.seed)]);
        if let Some(conditions) = options.link.link {
            command.args(["--link", &conditions.to_string(), "--link-seed", &of_its_own(options.link.link_seed)]);
        }
        // Ctrl-C is for who started it, who then tells the bots.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io)?;
        let words = Words::default();
        let output = process.stdout.take().map(|output| listen(output, &words));
        let errors = process.stderr.take().map(|output| listen(output, &words));
        Ok(Self { process, template: part.template.clone(), words, listeners: output.into_iter().chain(errors).collect() })
    }

    /// Looks whether the process is there.
    ///
    /// # Errors
    /// If it has ended, with its last words.
    pub(super) fn check(&mut self) -> Result<(), CliError> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(CliError::Connection(self.obituary("ended before its time", status))),
            Err(error) => Err(CliError::Io { what: format!("the process with the bots of {}", self.template), error }),
        }
    }

    /// Looks whether the process, which was told to end, has anything to complain of.
    ///
    /// # Errors
    /// If it ended in failure, as it does if no bot ever came into a room, with its last words.
    pub(super) fn ended_well(&mut self) -> Result<(), CliError> {
        match self.process.try_wait() {
            Ok(Some(status)) if !status.success() => Err(CliError::Connection(self.obituary("ended in failure", status))),
            // One that has no time to hang up says nothing of the server.
            _ => Ok(()),
        }
    }

    fn obituary(&mut self, how: &str, status: ExitStatus) -> String {
        let words = self.words();
        let last: Vec<&str> = words.iter().skip(words.len().saturating_sub(LAST_WORDS)).map(String::as_str).collect();
        let said = if last.is_empty() { "it said nothing".to_owned() } else { format!("it said last: {}", last.join(" / ")) };
        format!("the process with the bots of {} {how} ({status}); {said}", self.template)
    }

    pub(super) fn is_there(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Tells it to end. It has then to hang up, and to say what its bots felt.
    pub(super) fn stop(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Whose bots they are.
    pub(super) fn template(&self) -> &str {
        &self.template
    }

    /// What it said, as much of it as is kept. Once it has ended that is all of it.
    pub(super) fn words(&mut self) -> Vec<String> {
        if !self.is_there() {
            std::mem::take(&mut self.listeners).into_iter().for_each(|listener| drop(listener.join()));
        }
        lock(&self.words).iter().filter(|line| !line.trim().is_empty()).cloned().collect()
    }
}

impl Drop for Bots {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Lets bots come and go until the standard input ends. Then they hang up, and what they felt is told.
pub(in crate::cli) fn bots(game: &Game, options: &BotsOptions) -> Result<(), CliError> {
    let turn_beats = if options.sparing { TICK_BEATS } else { FRAME_BEATS };
    live(game, &options.swarm, Manner { turn_beats, gives_way: true }, &until_input_ends())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_a_process_says_the_last_is_kept() {
        let words = Words::default();
        let said: String = (1..=10_000).map(|number| format!("line {number}\n")).collect();
        listen(std::io::Cursor::new(said), &words).join().unwrap();
        let kept = lock(&words).clone();
        assert_eq!(kept.len(), LINES_MAX);
        assert_eq!(kept.back().map(String::as_str), Some("line 10000"));
    }
}
