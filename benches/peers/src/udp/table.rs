//! The table of the workloads over UDP.

use std::rc::Rc;

use super::session::{Samples, round};
use super::{Bare, ENTRIES, Entry, Trace};
use crate::workload::Workload;

/// What roomkeeper is to stay below, in microseconds, by the workload's number.
const TARGETS: [(&str, f64); 6] = [("W1", 450.0), ("W2", 350.0), ("W3", 10.0), ("W4", 1_500.0), ("W5", 400.0), ("W6", 3_800.0)];

/// Whose target it is: with whole numbers, and quantised.
const OURS: &str = "roomkeeper";

/// Runs workloads and prints a row for each contestant.
pub fn print(workloads: &[Workload], rounds: usize) {
    println!(
        "| workload | contestant | server µs | p10 - p90 | rounds | of it receiving | target | bytes | datagrams | times less: server | bytes |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut dropped = Some(0);
    for workload in workloads {
        let entries: Vec<&Entry> = ENTRIES.iter().collect();
        let rounds = run(&entries, workload, rounds);
        let all = rounds.iter().flatten().map(|round| round.dropped);
        dropped = all.fold(dropped, |sum, dropped| Some(sum? + dropped?));
        let outcomes: Vec<Outcome> = rounds.iter().map(|rounds| Outcome::new(rounds)).collect();
        let last = outcomes.last().map(|outcome| (outcome.server_us, outcome.bytes));
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            print_row(workload, entry, outcome, last.unwrap_or_default());
        }
    }
    println!();
    println!(
        "Server: CPU time of the server's thread per tick, median, from taking in what clients sent to the last sendto, less the same"
    );
    println!(
        "game without replication; the floors whole. Rounds: lowest and highest median of {rounds} rounds. Of it receiving: acknowledgements,"
    );
    println!("mostly. Bytes and datagrams: per member and tick, as they leave the socket, everything but the headers of UDP and IP.");
    println!(
        "W4: all of it per join, less what as many ticks without a join cost; the floors send its datagrams to somebody who is there."
    );
    println!("Floors: the datagrams that roomkeeper above sent some of its members in this round, one after the other, in size and");
    println!("number. V: roomkeeper finds out by itself who sees what; for replicon the game does it. Times less: the last contestant");
    println!("of the workload divided by this one. Every run asserted that every client held exactly what it is to hold:");
    println!("quantised, what is left of the server's values.");
    if let Some(dropped) = dropped {
        println!("Datagrams that the system dropped for want of buffers in what was measured, by anybody on the machine: {dropped}.");
    }
}

/// Medians of a run.
struct Outcome {
    server_us: f64,
    spread: (f64, f64),
    rounds: (f64, f64),
    receive_us: Option<f64>,
    sight_us: f64,
    bytes: f64,
    datagrams: f64,
}

/// What each contestant did in each round; they take turns in every round.
fn run(entries: &[&Entry], workload: &Workload, rounds: usize) -> Vec<Vec<Samples>> {
    let mut all: Vec<Vec<Samples>> = entries.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        let mut before = Rc::new(Trace::default());
        for (entry, samples) in entries.iter().zip(&mut all) {
            let (round, trace) = round(entry, workload, &before);
            samples.push(round);
            if !matches!(entry.bare, Bare::Nothing) {
                before = Rc::new(trace);
            }
        }
    }
    all
}

impl Outcome {
    fn new(rounds: &[Samples]) -> Self {
        let gather = |of: fn(&Samples) -> &[f64]| rounds.iter().flat_map(of).copied().collect::<Vec<f64>>();
        let server = gather(|samples| &samples.server);
        let receive = gather(|samples| &samples.receive);
        let medians = rounds.iter().map(|round| quantile(&round.server, 0.5) / 1_000.0);
        let mean = |samples: Vec<f64>| samples.iter().sum::<f64>() / samples.len().max(1) as f64;
        Self {
            server_us: quantile(&server, 0.5) / 1_000.0,
            spread: (quantile(&server, 0.1) / 1_000.0, quantile(&server, 0.9) / 1_000.0),
            rounds: medians.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), us| (low.min(us), high.max(us))),
            receive_us: (!receive.is_empty()).then(|| quantile(&receive, 0.5) / 1_000.0),
            sight_us: quantile(&gather(|samples| &samples.sight), 0.5) / 1_000.0,
            bytes: mean(gather(|samples| &samples.bytes)),
            datagrams: mean(gather(|samples| &samples.datagrams)),
        }
    }
}

/// The sample that a share of all samples is less than; 0 if there is none.
fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

fn print_row(workload: &Workload, entry: &Entry, outcome: &Outcome, (server_us, bytes): (f64, f64)) {
    let times = |that: f64, this: f64| if this > 0.0 { format!("{:.2}", that / this) } else { "-".into() };
    let target = TARGETS.iter().find(|(number, _)| entry.name.starts_with(OURS) && *number == workload.number());
    let target = target.map(|(_, us)| format!("{us:.0}")).unwrap_or_default();
    let receive = outcome.receive_us.map_or("-".into(), |us| format!("{us:.1}"));
    let rows = [("", 0.0), (", less the game's looking around", outcome.sight_us)];
    for (suffix, off) in &rows[..if outcome.sight_us > 0.0 { 2 } else { 1 }] {
        println!(
            "| {} | {}{suffix} | {:.1} | {:.1} - {:.1} | {:.1} - {:.1} | {receive} | {target} | {:.0} | {:.2} | {} | {} |",
            workload.name,
            entry.name,
            outcome.server_us - off,
            outcome.spread.0 - off,
            outcome.spread.1 - off,
            outcome.rounds.0 - off,
            outcome.rounds.1 - off,
            outcome.bytes,
            outcome.datagrams,
            times(server_us, outcome.server_us - off),
            times(bytes, outcome.bytes),
        );
    }
}
