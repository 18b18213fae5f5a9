#![expect(clippy::print_stdout, reason = "a benchmark, read by people")]
//! What predicting costs a client: one player of the demo game with ten commands on their way, a tick of the client's app with the prediction and
//! without it. Run: `cargo bench --bench predict`.

#[path = "../src/bin/inferno/commands.rs"]
mod commands;
#[path = "../src/bin/inferno/components.rs"]
mod components;
#[path = "../src/bin/inferno/facts.rs"]
mod facts;
#[path = "../src/bin/inferno/map/mod.rs"]
mod map;
#[path = "../src/bin/inferno/protocol.rs"]
mod protocol;
#[path = "../src/bin/inferno/rules/mod.rs"]
mod rules;

use std::cell::RefCell;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use commands::Move;
use components::Position;
use cpu_time::ThreadTime;
use roomkeeper::client::{Issue, Replica};
use roomkeeper::room::Level;
use roomkeeper::sim::{LinkConditions, Sim};

thread_local! {
    /// When the client's tick began, and how long those before took. The clock of a thread stays on it.
    static SPENT: RefCell<(ThreadTime, Vec<Duration>)> = RefCell::new((ThreadTime::now(), Vec::new()));
}

fn walk(players: Query<&Position>, replica: Res<Replica>, mut issue: Issue, mut step: Local<u32>) -> Result {
    *step += 1;
    let Some(at) = replica.user_entity().and_then(|me| players.get(me).ok()) else { return Ok(()) };
    let turn = if (*step / 40).is_multiple_of(2) { 0.24 } else { -0.24 };
    issue.send(&Move { to: map::add(at.0, [turn, 0.1]) })?;
    Ok(())
}

/// The median and the mean time of a client's tick, in microseconds, and how many commands were on their way in the mean.
fn measure(predicting: bool) -> ([f64; 2], f64) {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json"));
    // A round trip of 450 ms: nine ticks, and the one in which it is decided.
    let link = LinkConditions { delay_millis: 225, ..LinkConditions::PERFECT };
    let sim = level.map(|level| Sim::new(protocol::add, rules::add).level(level).options(|options| options.check = false).link(link));
    let Ok(mut sim) = sim.map(|sim| if predicting { sim.predicting() } else { sim }) else { return ([0.0; 2], 0.0) };
    sim.join("ann");
    let app = sim.client_mut("ann").app_mut();
    SPENT.with_borrow_mut(|(_, ticks)| ticks.clear());
    app.add_systems(First, || SPENT.with_borrow_mut(|(began, _)| *began = ThreadTime::now()));
    app.add_systems(Update, walk);
    app.add_systems(Last, || SPENT.with_borrow_mut(|(began, ticks)| ticks.push(began.elapsed())));
    let mut pending = 0;
    for tick in 0..600 {
        sim.tick();
        if tick >= 100 && predicting {
            pending += sim.client_of("ann").prediction().pending;
        }
    }
    let mut ticks: Vec<Duration> = SPENT.with_borrow(|(_, ticks)| ticks.iter().skip(100).copied().collect());
    ticks.sort_unstable();
    let median = ticks.get(ticks.len() / 2).copied().unwrap_or_default();
    let mean = ticks.iter().sum::<Duration>() / ticks.len().max(1) as u32;
    ([median, mean].map(|time| time.as_secs_f64() * 1e6), pending as f64 / 500.0)
}

/// The middle one of some runs, of the medians and of the means.
fn middle(runs: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|which| {
        let mut times: Vec<f64> = runs.iter().filter_map(|run| run.get(which).copied()).collect();
        times.sort_unstable_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    })
}

fn main() {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut pending = 0.0;
    for _ in 0..5 {
        let (time, on_their_way) = measure(true);
        with.push(time);
        pending = on_their_way;
        without.push(measure(false).0);
    }
    let ([with_median, with_mean], [without_median, without_mean]) = (middle(&with), middle(&without));
    for (what, with, without) in [("in the middle", with_median, without_median), ("in the mean", with_mean, without_mean)] {
        println!(
            "a client's tick, {what}: {with:.1} µs with prediction, {without:.1} µs without: {:.1} µs for {pending:.1} commands on their way",
            with - without
        );
    }
}
