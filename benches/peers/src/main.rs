//! Replication libraries side by side: the same worlds, the same changes, the same clock. Prints a Markdown table.
//!
//! `peers [--quick] [W1 W2 ..]`

mod measure;
mod replicon;
mod roomkeeper;
mod workload;

use std::process::ExitCode;

use measure::{Entry, Outcome};
use workload::WORKLOADS;

/// Who is measured. The first is what the others are compared with.
const CONTESTANTS: &[&[Entry]] = &[replicon::ENTRIES, roomkeeper::ENTRIES];

fn main() -> ExitCode {
    let (mut quick, mut chosen) = (false, Vec::new());
    for argument in std::env::args().skip(1) {
        if argument == "--quick" {
            quick = true;
        } else if WORKLOADS.iter().any(|workload| number(workload.name) == argument) {
            chosen.push(argument);
        } else {
            eprintln!("unknown argument {argument:?}: peers [--quick] [W1 W2 W2s W3 W4 W5 W6]");
            return ExitCode::FAILURE;
        }
    }
    let rounds = if quick { 1 } else { 3 };
    println!("| workload | contestant | server µs | p10 - p90 | bytes | client µs | times less: server | bytes | client |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for mut workload in
        WORKLOADS.into_iter().filter(|workload| chosen.is_empty() || chosen.iter().any(|name| name == number(workload.name)))
    {
        workload.samples /= if quick { 4 } else { 1 };
        let joining = workload.play == workload::Play::Join;
        let entries: Vec<&Entry> = CONTESTANTS.iter().copied().flatten().filter(|entry| entry.joins || !joining).collect();
        let outcomes = measure::run(&entries, &workload, rounds);
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            print_row(workload.name, entry.name, outcome, &outcomes[0]);
        }
    }
    println!();
    println!("Server: CPU time of replication per tick, median, the whole update less the same game without replication.");
    println!("Bytes: per client and tick, without headers. Client: CPU time of one client per tick. W4: all of it per join.");
    println!("Times less: the first contestant of the workload divided by this one. Every run asserted that every client held");
    println!("exactly the server's state.");
    ExitCode::SUCCESS
}

/// The number of a workload, from its name.
fn number(name: &str) -> &str {
    name.split_whitespace().next().unwrap_or(name)
}

fn print_row(workload: &str, contestant: &str, outcome: &Outcome, first: &Outcome) {
    let Outcome { server_us, server_spread: (low, high), bytes, client_us } = *outcome;
    let times = |first: f64, this: f64| if this > 0.0 { format!("{:.2}", first / this) } else { "-".into() };
    println!(
        "| {workload} | {contestant} | {server_us:.1} | {low:.1} - {high:.1} | {bytes:.0} | {client_us:.1} | {} | {} | {} |",
        times(first.server_us, server_us),
        times(first.bytes, bytes),
        times(first.client_us, client_us),
    );
}
