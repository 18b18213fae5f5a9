//! `handlers`: what decides each command, what applies each fact, and what came of it in a match of bots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::game::Game;
use super::options::{CliError, HandlersOptions};
use super::output::say;
use crate::protocol::limits::TICKS_PER_SECOND;
use crate::protocol::{Op, Protocol, State};
use crate::room::{HandlerInfo, HandlerOf};
use crate::sim::Sim;

/// The time by which handlers are measured.
#[expect(clippy::disallowed_methods, reason = "it is measured, and nothing in the room depends on it")]
fn clock() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let now = Instant::now();
    now.saturating_duration_since(*START.get_or_init(|| now))
}

/// Plays a match in this process and prints what handled it.
pub(super) fn handlers(game: &Game, options: &HandlersOptions) -> Result<(), CliError> {
    let sim = play(game, options)?;
    let operations = operations_by_fact(&sim);
    let infos = sim.room().handlers();
    say(&format!("{} s of a match of {} bots. Where nothing stands, it did not occur.", seconds(&sim), sim.client_names().len()));
    for (of, title) in [(HandlerOf::Command, "commands"), (HandlerOf::Fact, "facts")] {
        say(&format!("\n{title}"));
        for info in infos.iter().filter(|info| info.of == of) {
            say(&line(info, operations.get(&info.kind)));
        }
    }
    Ok(())
}

fn seconds(sim: &Sim) -> u32 {
    sim.room().tick_now().0 / TICKS_PER_SECOND
}

fn play(game: &Game, options: &HandlersOptions) -> Result<Sim, CliError> {
    let mut room = options.room.room_options(game)?;
    room.notes = true;
    let mut sim = Sim::of(game.blueprint.clone()).options(|options| *options = room);
    sim.room_mut().lend_clock(clock);
    for n in 1..=options.bots {
        let (name, Some(bot)) = (format!("bot{n}"), &game.bot) else { break };
        sim.join(&name).bot(&name, bot(options.room.seed.wrapping_add(u64::from(n))));
    }
    for _ in 0..options.limit.saturating_mul(TICKS_PER_SECOND) {
        if sim.facts().iter().any(|fact| game.ends.iter().any(|end| end == fact)) {
            break;
        }
        sim.tick();
        if let Some(fault) = sim.fault() {
            return Err(CliError::Connection(fault.to_string()));
        }
    }
    Ok(sim)
}

/// What the batches say was done because of each kind of fact.
fn operations_by_fact(sim: &Sim) -> BTreeMap<String, BTreeSet<String>> {
    let mut by_fact: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let protocol = sim.room().world().resource::<Protocol>();
    let mut state = State::new(sim.room().info().id);
    for (_, batch) in sim.batches() {
        for operation in state.apply(protocol, batch).unwrap_or_default() {
            let what = match &operation.op {
                Op::Create { .. } => "create".to_owned(),
                Op::Update { kind, component, .. } => format!("{} {component}", kind.name()),
                Op::Remove { component } => format!("remove {component}"),
                Op::Delete => "delete".to_owned(),
            };
            if let Some(note) = operation.note {
                by_fact.entry(note).or_default().insert(what);
            }
        }
    }
    by_fact
}

fn line(info: &HandlerInfo, operations: Option<&BTreeSet<String>>) -> String {
    let handler = info.handler.map_or("-", |path| path.split_once("::").map_or(path, |(_, path)| path));
    let mean = info.time.checked_div(u32::try_from(info.runs).unwrap_or(u32::MAX));
    let usage = match (info.runs, info.rejected) {
        (0, _) => String::new(),
        (runs, 0) => format!("{runs} runs of {:.1} us", mean.unwrap_or_default().as_secs_f64() * 1e6),
        (runs, no) => format!("{runs} runs of {:.1} us, {no} rejected", mean.unwrap_or_default().as_secs_f64() * 1e6),
    };
    let operations: Vec<&str> = operations.into_iter().flatten().map(String::as_str).collect();
    format!("  {:<26} {:<32} {usage:<30} {}", info.kind, handler, operations.join(", ")).trim_end().to_owned()
}
