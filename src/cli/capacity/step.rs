//! One step of a load: a server with rooms here, their clients in another process, and what was measured.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bevy_app::prelude::*;

use super::clients::{News, room_name};
use crate::cli::game::Game;
use crate::cli::options::CliError;
use crate::cli::system::{end, instant};
use crate::host::gateway::{Access, GatewayLimits, ShardConfig, can_share, threads_for};
use crate::host::process::processor;
use crate::host::{Host, HostLimits, HostOptions, Pace};
use crate::room::{Blueprint, RoomOptions};

/// How long the thread that leads people sleeps at most, as [`Host::run`] lets it.
const NAP_MAX: Duration = Duration::from_millis(20);

/// How long all clients may take to get in, besides a tick's third for each.
const JOIN_TIME: Duration = Duration::from_secs(15);

/// The room that burns what it can.
const BURNER: &str = "burner";

fn is_judged(room: &str) -> bool {
    room != BURNER
}

/// Is busy for so long.
fn spin(time: Duration) {
    let begun = instant();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// How large a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) rooms: u32,
    /// Members of each room.
    pub(super) members: u32,
}

impl Plan {
    pub(super) fn total(self) -> u32 {
        self.rooms * self.members
    }

    /// With how many threads the gateway works, unless the command line says: one as long as one shard is enough.
    pub(super) fn threads(self, wanted: Option<u8>) -> usize {
        wanted.map_or_else(|| threads_for(self.total() as usize), usize::from)
    }
}

/// What is the same in all steps.
pub(super) struct Bench<'a> {
    pub(super) game: &'a Game,
    pub(super) room: RoomOptions,
    pub(super) bot_every: u32,
    pub(super) threads: Option<u8>,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    /// How much of the processor a room beside the others burns in each of its ticks.
    pub(super) burn: Option<Duration>,
    pub(super) stop: &'a AtomicBool,
}

/// What was measured in a step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) plan: Plan,
    pub(super) threads: usize,
    pub(super) pace: Pace,
    /// How many clients were there until the end.
    pub(super) live: u32,
    /// Why the first was not.
    pub(super) why: String,
    /// Bytes sent per member and second, without the headers of UDP and IP.
    pub(super) bytes: f64,
    /// How much of one core this process took, from 0 to the number of cores.
    pub(super) host_cpu: Option<f64>,
    /// And the process with the clients.
    pub(super) clients_cpu: Option<f64>,
}

/// The process with the clients. It ends when its standard input does.
struct Clients {
    process: Child,
    lines: Receiver<String>,
    latest: News,
}

impl Clients {
    fn start(server: SocketAddr, plan: Plan, bot_every: u32) -> Result<Self, CliError> {
        let io = |error| CliError::Io { what: "the process with the clients".to_owned(), error };
        let numbers = [("--rooms", plan.rooms), ("--members", plan.members), ("--bot-every", bot_every)];
        let mut process = Command::new(std::env::current_exe().map_err(io)?)
            .args(["capacity-clients", "--server", &server.to_string()])
            .args(numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io)?;
        let output = process.stdout.take();
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok);
            lines.map(|line| tell.send(line)).find(Result::is_err)
        });
        Ok(Self { process, lines, latest: News::default() })
    }

    /// Hears what it has to say.
    fn hear(&mut self) -> Result<&News, CliError> {
        loop {
            match self.lines.try_recv() {
                Ok(line) => self.latest = serde_json::from_str(&line).unwrap_or_else(|_| self.latest.clone()),
                Err(mpsc::TryRecvError::Empty) => return Ok(&self.latest),
                Err(mpsc::TryRecvError::Disconnected) => {
                    return Err(CliError::Connection("the process with the clients ended before its time".to_owned()));
                }
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Runs the server for a time, or until `enough`.
fn drive(
    server: &mut Host,
    clients: &mut Clients,
    time: Duration,
    stop: &AtomicBool,
    enough: impl Fn(&News) -> bool,
) -> Result<(), CliError> {
    let begun = instant();
    while begun.elapsed() < time && !stop.load(Ordering::Relaxed) && !enough(clients.hear()?) {
        server.round();
        std::thread::park_timeout(NAP_MAX);
    }
    Ok(())
}

/// Where the server of a step listens.
fn config() -> ShardConfig {
    ShardConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        public_addresses: Vec::new(),
        access: Access::Loopback,
        limits: GatewayLimits::default(),
    }
}

/// True if several threads of a gateway can share a port on this system.
pub(super) fn can_share_port() -> bool {
    can_share(config().bind)
}

impl Bench<'_> {
    fn server(&self, plan: Plan, threads: usize) -> Result<Host, CliError> {
        let limits = HostLimits {
            sessions_max: plan.total() as usize,
            members_per_room_max: plan.members as usize,
            rooms_max: plan.rooms as usize + 1,
            ..HostLimits::default()
        };
        let options = HostOptions { limits, gateway_threads: threads, ..HostOptions::default() };
        let mut server = Host::bind(&config(), options)?;
        for number in 0..plan.rooms {
            let room = RoomOptions { name: room_name(number), seed: self.room.seed.wrapping_add(u64::from(number)), ..self.room.clone() };
            server.open_room(&self.game.blueprint, room)?;
        }
        if let Some(burn) = self.burn {
            let rules = move |app: &mut App| {
                app.add_systems(FixedUpdate, move || spin(burn));
            };
            server.open_room(&Blueprint::new(|_: &mut App| {}, rules), RoomOptions::named(BURNER))?;
        }
        Ok(server)
    }

    /// Measures a step: a new server, new clients.
    pub(super) fn step(&self, plan: Plan) -> Result<Step, CliError> {
        let (threads, total) = (plan.threads(self.threads), plan.total());
        let mut server = self.server(plan, threads)?;
        let address = server.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })?;
        let mut clients = Clients::start(address, plan, self.bot_every)?;
        let (server, clients) = (&mut server, &mut clients);
        let join_time = JOIN_TIME + Duration::from_millis(15) * total;
        drive(server, clients, join_time, self.stop, |news| news.live == total || news.lost > 0)?;
        drive(server, clients, self.warm_up, self.stop, |news| news.live < total)?;
        let (from, cpu_before, sent_before) = (clients.latest.clone(), processor(), server.counters().1.bytes_out);
        drop(server.take_pace(is_judged));
        let begun = instant();
        drive(server, clients, self.measured, self.stop, |news| news.live < total)?;
        let (seconds, pace) = (begun.elapsed().as_secs_f64(), server.take_pace(is_judged));
        let (cpu_after, sent) = (processor(), server.counters().1.bytes_out - sent_before);
        let news = &clients.latest;
        let there: usize = server.rooms().iter().map(|room| room.status.members).sum();
        // A process that has no time to tell anything has told nothing.
        let told = news.at.checked_sub(from.at).filter(|micros| *micros > 0);
        let clients_cpu = |before: u64, after: u64| Some(after.saturating_sub(before) as f64 / told? as f64);
        Ok(Step {
            plan,
            threads,
            pace,
            live: news.live.min(there as u32),
            why: news.why.clone(),
            bytes: sent as f64 / f64::from(total) / seconds.max(0.001),
            host_cpu: cpu_after.zip(cpu_before).map(|(after, before)| (after - before).as_secs_f64() / seconds.max(0.001)),
            clients_cpu: from.cpu.zip(news.cpu).and_then(|(before, after)| clients_cpu(before, after)),
        })
    }
}
