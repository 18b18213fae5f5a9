//! `swarm`: many bots that play by the rules, each a real client, who come and go; and what players would feel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;
use clap::Args;

use super::beat::{Beat, FRAME_BEATS};
use super::game::Game;
use super::options::{CliError, ClientArguments};
use super::output::say;
use super::player::Player;
use super::recorded::{Part, parts, player_of};
use super::signals::stop_flag;
use super::system::{instant, raise_files};
use crate::client::{Connection, Replica, ShownTime};
use crate::host::{Durations, Priority, give_way};
use crate::predict::Prediction;
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{Accepted, CommandId, Rejected};
use crate::room::RoomRng;

/// How often bots think.
const THINK_EVERY: Duration = Duration::from_millis(TICK_MILLIS);

/// A bot whose turn comes so little before it is to think thinks then, not a turn later: who has one turn a tick would think every other tick.
const EARLY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Args)]
pub(super) struct SwarmOptions {
    #[command(flatten)]
    client: ClientArguments,
    /// How many bots.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "BOTS")]
    bots: u32,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "SECONDS")]
    seconds: u64,
    /// How long a bot stays before it leaves, in seconds on average; 0 for as long as it can.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=86_400), value_name = "SECONDS")]
    stay: u32,
    /// How long it is away before it joins again, in seconds on average.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=86_400), value_name = "SECONDS")]
    away: u32,
    /// How many of them are whole clients as players have them, which predict what they do and show others between the ticks. It costs more.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1_000), value_name = "BOTS")]
    whole: u32,
    /// Where their chance starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let them ask for what the players of a recorded match asked for, each of them again and again: the match in this folder.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// The match's room, if the folder has more than one.
    #[arg(long, value_name = "ROOM", requires = "from")]
    recorded: Option<String>,
}

/// How the bots of a process live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// In so many beats each of them has its turn once. Their measures are that fine.
    pub(super) turn_beats: usize,
    /// Their server is on the same machine and comes first: they give way to it, once each was let in or turned away.
    pub(super) gives_way: bool,
}

/// The answers that came since the last look.
#[derive(Resource, Default)]
struct Answers(Vec<(CommandId, bool)>);

/// What was felt.
#[derive(Default)]
struct Felt {
    joins: Durations,
    answers: Durations,
    ages: Durations,
    drawn: Durations,
    /// Of the commands that were predicted, those that came out otherwise, and all.
    corrected: (u64, u64),
    rejected: u64,
    left: u64,
    lost: BTreeMap<String, u64>,
    packets: u64,
    bytes: u64,
}

/// A bot, in or out.
struct Bot {
    name: String,
    number: u32,
    /// What it asks for, if it does not think itself.
    part: Option<Part>,
    rng: RoomRng,
    player: Option<Player>,
    /// When it came, or is to come.
    since: Instant,
    joined: bool,
    /// It was let in, or turned away, once at least.
    tried: bool,
    leaves_at: Option<Instant>,
    thinks_at: Instant,
    asked: BTreeMap<CommandId, Instant>,
}

pub(super) fn swarm(game: &Game, options: &SwarmOptions) -> Result<(), CliError> {
    live(game, options, Manner { turn_beats: FRAME_BEATS, gives_way: false }, &stop_flag())
}

/// Lets bots come and go until the time is over or they are told to stop. Then they tell what they felt.
pub(super) fn live(game: &Game, options: &SwarmOptions, manner: Manner, stop: &AtomicBool) -> Result<(), CliError> {
    // Each takes a socket, and another one while it is not sure that anybody is there.
    raise_files();
    let options = &SwarmOptions { client: by_address(&options.client)?, ..options.clone() };
    let parts = match &options.from {
        Some(data) => parts(game, data, options.recorded.as_deref())?,
        None => Vec::new(),
    };
    let started = instant();
    let part = |number: u32| parts.get(number as usize % parts.len().max(1)).cloned();
    let bot = |number| Bot::new((number, part(number)), options.seed, started);
    let mut bots: Vec<Bot> = (0..options.bots).map(bot).collect();
    let (mut felt, mut beat, mut gives_way) = (Felt::default(), Beat::begin_by_turns(), manner.gives_way);
    let mut began = false;
    let length = Duration::from_secs(options.seconds);
    while !stop.load(Ordering::Relaxed) && started.elapsed() < length {
        let now = instant();
        for bot in beat.turns(&mut bots, manner.turn_beats) {
            if let Err(error) = bot.turn(game, options, (now, &mut beat), &mut felt) {
                // What is wrong from the beginning is said at once. Later it is one bot's, and the others go on.
                if !began {
                    return Err(error);
                }
                *felt.lost.entry(error.to_string()).or_default() += 1;
                bot.comes_again(now, options);
            }
            began |= bot.player.is_some();
        }
        if gives_way && bots.iter().all(|bot| bot.tried) {
            gives_way = false;
            give_way(Priority::Players);
        }
        beat.wait();
    }
    let inside = bots.iter().filter(|bot| bot.joined).count();
    for bot in &mut bots {
        bot.go(&mut felt);
    }
    felt.tell(options, started.elapsed(), inside);
    match felt.joins.count() {
        0 => Err(CliError::Connection(felt.lost.into_keys().next().unwrap_or_else(|| "no bot came into the room".to_owned()))),
        _ => Ok(()),
    }
}

/// The same way in, with the servers' addresses in place of their names: a name that is looked up whenever a bot comes holds all of them up, or fails.
fn by_address(client: &ClientArguments) -> Result<ClientArguments, CliError> {
    // A token has the addresses in it.
    if client.token.is_some() {
        return Ok(client.clone());
    }
    let of = |server: &str| {
        let hosts = ClientArguments { server: server.to_owned(), ..client.clone() }.credentials("")?.hosts();
        Ok::<_, CliError>(hosts.into_iter().map(|host| host.to_string()))
    };
    let mut addresses = Vec::new();
    for server in client.server.split(',') {
        addresses.extend(of(server)?);
    }
    Ok(ClientArguments { server: addresses.join(","), ..client.clone() })
}

impl Bot {
    fn new((number, part): (u32, Option<Part>), seed: u64, since: Instant) -> Self {
        let rng = RoomRng::new(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
        let (asked, name) = (BTreeMap::new(), format!("swarm{}", number + 1));
        let (player, joined, tried, leaves_at) = (None, false, false, None);
        Self { name, number, part, rng, player, since, joined, tried, leaves_at, thinks_at: since, asked }
    }

    /// About so long, from half of it to one and a half.
    fn about(&mut self, seconds: u32) -> Duration {
        Duration::from_secs_f32(seconds as f32 * (0.5 + self.rng.unit_f32()))
    }

    /// Comes, if it is time to and it may; or takes in what came, thinks, and goes if it is time to.
    fn turn(&mut self, game: &Game, options: &SwarmOptions, (now, beat): (Instant, &mut Beat), felt: &mut Felt) -> Result<(), CliError> {
        if self.player.is_none() {
            if now >= self.since && beat.lets_in() {
                self.come(game, options, now)?;
            }
            return Ok(());
        }
        self.look(now, felt);
        let Some(player) = &self.player else { return Ok(()) };
        if player.state().is_over() {
            *felt.lost.entry(player.state().to_string()).or_default() += 1;
            self.go(felt);
            self.comes_again(now, options);
        } else if player.state().is_in_room() && !self.joined {
            (self.joined, self.tried) = (true, true);
            felt.joins.record(now - self.since);
            self.leaves_at = (options.stay > 0).then(|| now + self.about(options.stay));
        } else if self.leaves_at.is_some_and(|at| now >= at) {
            felt.left += 1;
            self.go(felt);
            self.since = now + self.about(options.away);
        }
        Ok(())
    }

    /// Was turned away, and tries once more after a time.
    fn comes_again(&mut self, now: Instant, options: &SwarmOptions) {
        self.tried = true;
        self.since = now + self.about(options.away.max(1));
    }

    fn come(&mut self, game: &Game, options: &SwarmOptions, now: Instant) -> Result<(), CliError> {
        let seed = options.seed.wrapping_add(u64::from(self.number));
        let app = if self.number < options.whole { game.player_app(true) } else { game.client_app() };
        let brain = self.part.as_ref().map_or_else(|| game.brain(seed), |part| Ok(player_of(part)))?;
        let mut player = Player::connect_by_in((app, brain), &options.client, &self.name, self.number)?;
        player.app.init_resource::<Answers>();
        player.app.add_observer(|accepted: On<Accepted>, mut answers: ResMut<Answers>| answers.0.push((accepted.id, true)));
        player.app.add_observer(|rejected: On<Rejected>, mut answers: ResMut<Answers>| answers.0.push((rejected.id, false)));
        (self.since, self.thinks_at, self.player) = (now, now, Some(player));
        Ok(())
    }

    /// Takes in what came, thinks if it is time, and notes what it felt.
    fn look(&mut self, now: Instant, felt: &mut Felt) {
        let Some(player) = &mut self.player else { return };
        let thinks = self.joined && now + EARLY >= self.thinks_at;
        if thinks {
            self.thinks_at = (self.thinks_at + THINK_EVERY).max(now);
            let before = player.app.world().resource::<Connection>().last_command();
            (player.brain)(player.app.world_mut());
            let after = player.app.world().resource::<Connection>().last_command();
            self.asked.extend((before.0..after.0).map(|id| (CommandId(id + 1), now)));
        }
        player.app.update();
        for (id, accepted) in std::mem::take(&mut player.app.world_mut().resource_mut::<Answers>().0) {
            felt.rejected += u64::from(!accepted);
            if let Some(asked) = self.asked.remove(&id) {
                felt.answers.record(now - asked);
            }
        }
        let world = player.app.world();
        if let Some(tick) = world.resource::<Connection>().server_tick().filter(|_| thinks) {
            let age = |shown: f64| Duration::from_secs_f64((tick - shown).max(0.0) * TICK_MILLIS as f64 / 1_000.0);
            felt.ages.record(age(f64::from(world.resource::<Replica>().tick().0)));
            let drawn = world.get_resource::<ShownTime>().and_then(ShownTime::tick);
            drawn.into_iter().for_each(|drawn| felt.drawn.record(age(drawn)));
        }
    }

    /// Hangs up.
    fn go(&mut self, felt: &mut Felt) {
        let Some(mut player) = self.player.take() else { return };
        let (packets, bytes) = player.app.world().resource::<Connection>().received();
        (felt.packets, felt.bytes) = (felt.packets + packets, felt.bytes + bytes);
        if let Some(prediction) = player.app.world().get_resource::<Prediction>() {
            felt.corrected.0 += prediction.corrected;
            felt.corrected.1 += prediction.confirmed + prediction.rejected.0;
        }
        player.hang_up();
        (self.joined, self.leaves_at) = (false, None);
        self.asked.clear();
    }
}

impl Felt {
    fn tell(&self, options: &SwarmOptions, took: Duration, inside: usize) {
        let link = options.client.link.link.map_or_else(|| "as it is".to_owned(), |link| link.to_string());
        say(&format!("{} bots for {:.0} s, link {link}", options.bots, took.as_secs_f32()));
        say(&format!("{} joins, {} left of their own accord, {inside} were inside in the end", self.joins.count(), self.left));
        for (reason, times) in &self.lost {
            say(&format!("lost {times} times: {reason}"));
        }
        say(&format!("{:<34}{:>8}{:>8}{:>8}{:>10}", "milliseconds", "p50", "p99", "max", "measured"));
        row("time to join", &self.joins);
        row("command sent until it is answered", &self.answers);
        row("age of what is shown", &self.ages);
        row("age of others as they are drawn", &self.drawn);
        let per_bot = took.as_secs_f64() * f64::from(options.bots);
        let (bytes, packets) = (self.bytes as f64 / per_bot, self.packets as f64 / per_bot);
        let share = 100.0 * self.corrected.0 as f64 / self.corrected.1.max(1) as f64;
        say(&format!("{} of {} predicted commands corrected ({share:.1} %)", self.corrected.0, self.corrected.1));
        say(&format!("{:.1} kB and {packets:.0} packets a second to each; {} commands rejected", bytes / 1_000.0, self.rejected));
    }
}

fn row(what: &str, all: &Durations) {
    let at = |share: f64| if all.count() == 0 { "-".to_owned() } else { all.quantile(share).as_millis().to_string() };
    say(&format!("{what:<34}{:>8}{:>8}{:>8}{:>10}", at(0.5), at(0.99), at(1.0), all.count()));
}
