//! Replication libraries side by side: the same worlds, the same changes, the same clock. Prints a Markdown table.
//!
//! `peers [--quick] [--udp] [W1 W2 .. V]`

mod measure;
mod replicon;
mod roomkeeper;
mod sight;
#[cfg(feature = "udp")]
mod udp;
mod workload;

use std::process::ExitCode;

use measure::{Entry, Outcome};
use workload::{Play, WORKLOADS, Workload};

/// Who is measured. The first is what the others are compared with.
const CONTESTANTS: &[&[Entry]] = &[replicon::ENTRIES, roomkeeper::ENTRIES];

fn main() -> ExitCode {
    let (mut quick, mut over_udp, mut chosen) = (false, false, Vec::new());
    for argument in std::env::args().skip(1) {
        if argument == "--quick" {
            quick = true;
        } else if argument == "--udp" && cfg!(feature = "udp") {
            over_udp = true;
        } else if WORKLOADS.iter().any(|workload| workload.number() == argument) {
            chosen.push(argument);
        } else {
            eprintln!("unknown argument {argument:?}: peers [--quick] [--udp] [W1 W2 W2s W3 W4 W5 W6 V]");
            return ExitCode::FAILURE;
        }
    }
    let chosen = |workload: &Workload| chosen.is_empty() || chosen.iter().any(|name| name == workload.number());
    let mut workloads: Vec<Workload> = WORKLOADS.into_iter().filter(chosen).collect();
    if quick {
        workloads.iter_mut().for_each(|workload| workload.samples /= 4);
    }
    let rounds = if quick { 1 } else { 3 };
    print_head();
    if over_udp {
        #[cfg(feature = "udp")]
        udp::print(&workloads, rounds);
    } else {
        print_in_memory(&workloads, rounds);
    }
    ExitCode::SUCCESS
}

/// Where it runs, and what everything below was compiled for.
fn print_head() {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |(_, name)| name);
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    println!("Processor: {model}, {count} of them.");
    let target = if cfg!(target_feature = "avx2") { "with AVX2" } else { "without AVX2" };
    println!("Compiled {target}; RUSTFLAGS: {}.", option_env!("RUSTFLAGS").filter(|flags| !flags.is_empty()).unwrap_or("none"));
    println!();
}

fn print_in_memory(workloads: &[Workload], rounds: usize) {
    println!("| workload | contestant | server µs | p10 - p90 | bytes | client µs | times less: server | bytes | client |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for workload in workloads {
        let takes_part = |entry: &&Entry| match workload.play {
            Play::Join => entry.joins,
            Play::Walk => entry.sees,
            _ => true,
        };
        let entries: Vec<&Entry> = CONTESTANTS.iter().copied().flatten().filter(takes_part).collect();
        let outcomes = measure::run(&entries, workload, rounds);
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            print_row(workload.name, entry.name, outcome, &outcomes[0]);
            let looking = outcome.sight_us;
            if looking > 0.0 {
                let (low, high) = outcome.server_spread;
                let less = Outcome { server_us: outcome.server_us - looking, server_spread: (low - looking, high - looking), ..*outcome };
                print_row(workload.name, &format!("{}, less the game's looking around", entry.name), &less, &outcomes[0]);
            }
        }
    }
    println!();
    println!("Server: CPU time of replication per tick, median, the whole update less the same game without replication.");
    println!("Bytes: per client and tick, without headers. Client: CPU time of one client per tick. W4: all of it per join.");
    println!("Times less: the first contestant of the workload divided by this one. Every run asserted that every client held");
    println!(
        "exactly the server's state, or what it sees of it. V: roomkeeper finds out by itself who sees what; for replicon the game does."
    );
}

fn print_row(workload: &str, contestant: &str, outcome: &Outcome, first: &Outcome) {
    let Outcome { server_us, server_spread: (low, high), bytes, client_us, .. } = *outcome;
    let times = |first: f64, this: f64| if this > 0.0 { format!("{:.2}", first / this) } else { "-".into() };
    println!(
        "| {workload} | {contestant} | {server_us:.1} | {low:.1} - {high:.1} | {bytes:.0} | {client_us:.1} | {} | {} | {} |",
        times(first.server_us, server_us),
        times(first.bytes, bytes),
        times(first.client_us, client_us),
    );
}
