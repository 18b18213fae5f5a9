//! A load that grows until it is too much.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::step::{Bench, Plan, Step};
use crate::cli::options::CliError;
use crate::cli::output::say;

/// How often the gap between what was held and what was not is halved.
const HALVINGS: u32 = 2;

/// What a load must keep to, and how far it may grow.
pub(super) struct Bounds {
    pub(super) members_max: u32,
    /// Why not more, to follow a number of members.
    pub(super) why_max: &'static str,
    /// 99 of 100 ticks must begin earlier after their time.
    pub(super) late: Duration,
    /// False if only clients count, and no time.
    pub(super) judged: bool,
}

impl Bounds {
    /// What is wrong with a step; `None` if it was held.
    pub(super) fn complaint(&self, step: &Step) -> Option<String> {
        let (live, wanted) = (step.live, step.plan.total());
        if live < wanted {
            let why = if step.why.is_empty() { "too slow" } else { &step.why };
            return Some(format!("{live} of {wanted} clients were there: {why}"));
        }
        match (self.judged, step.pace.skipped) {
            (true, 0) if step.pace.late.quantile(0.99) >= self.late => {
                Some(format!("a tick of 100 began {} ms late", self.late.as_millis()))
            }
            (true, 1..) => Some(format!("{} ticks were skipped", step.pace.skipped)),
            _ => None,
        }
    }
}

/// Why a load grew no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More of it was not held.
    NotHeld,
    /// It may not.
    Most,
    /// No other was asked for.
    Asked,
    /// Somebody stopped it.
    Stopped,
}

/// What came of a load that grew.
pub(super) struct Sweep {
    pub(super) title: String,
    /// The steps by size; of one that was measured twice, the second run.
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}

impl Sweep {
    /// Notes that somebody stopped it, if so, unless it had come as far as it may by then.
    fn stop_with(&mut self, bench: &Bench) {
        if self.end != End::Most && bench.stop.load(Ordering::Relaxed) {
            self.end = End::Stopped;
        }
    }

    /// The largest step that was held.
    pub(super) fn held(&self, bounds: &Bounds) -> Option<&Step> {
        self.steps.iter().rev().find(|step| bounds.complaint(step).is_none())
    }

    /// What came of it, in a sentence.
    pub(super) fn sentence(&self, bounds: &Bounds) -> String {
        let Some(step) = self.held(bounds) else {
            return match self.steps.first().map(|step| step.plan.total()) {
                Some(smallest) if self.end != End::Stopped => {
                    format!("{}: this machine does not hold the smallest step, of {smallest} members", self.title)
                }
                _ => format!("{}: stopped before a step was held", self.title),
            };
        };
        let Plan { rooms, members } = step.plan;
        let (least, room) = (if self.end == End::NotHeld { "" } else { "at least " }, if rooms == 1 { "room" } else { "rooms" });
        let late = millis(step.pace.late.quantile(0.99));
        let mut sentence = format!(
            "this machine holds {least}{rooms} {room} of {members} members ({} in all) at 20 Hz; p99 of the tick's start {late:.2} ms",
            step.plan.total()
        );
        match self.end {
            End::NotHeld => {}
            End::Most => sentence.push_str(&format!("; not tried beyond {}: {}", bounds.members_max, bounds.why_max)),
            End::Asked => sentence.push_str("; no more were asked for"),
            End::Stopped => sentence.push_str("; stopped before more were tried"),
        }
        if self.steps.iter().any(|step| step.clients_cpu.is_some_and(|cpu| cpu > 0.9)) {
            sentence.push_str("; the clients' thread had no time left in some step, so it may hold more");
        }
        sentence
    }
}

/// Measures steps of growing size, twice as large each, then between the last that was held and the first that was not.
pub(super) fn sweep(bench: &Bench, bounds: &Bounds, title: &str, first: u32, plan: &dyn Fn(u32) -> Plan) -> Result<Sweep, CliError> {
    say(&format!("\n{title}\n{}", heading()));
    let mut sweep = Sweep { title: title.to_owned(), steps: Vec::new(), end: End::NotHeld };
    let max = (1..=bounds.members_max).take_while(|size| plan(*size).total() <= bounds.members_max).last().unwrap_or(1);
    let (mut held, mut size, mut failed) = (0, first.min(max), None);
    while failed.is_none() && !bench.stop.load(Ordering::Relaxed) {
        if measure(bench, bounds, plan(size), &mut sweep)? {
            held = size;
            if size == max {
                sweep.end = End::Most;
                break;
            }
            size = size.saturating_mul(2).min(max);
        } else {
            failed = Some(size);
        }
    }
    for _ in 0..HALVINGS {
        let middle = failed.map_or(held, |failed| held.midpoint(failed));
        if middle == held || bench.stop.load(Ordering::Relaxed) {
            break;
        }
        if measure(bench, bounds, plan(middle), &mut sweep)? {
            held = middle;
        } else {
            failed = Some(middle);
        }
    }
    sweep.steps.sort_by_key(|step| step.plan.total());
    sweep.stop_with(bench);
    Ok(sweep)
}

/// Measures one load.
pub(super) fn single(bench: &Bench, bounds: &Bounds, title: &str, plan: Plan) -> Result<Sweep, CliError> {
    say(&format!("\n{title}\n{}", heading()));
    let mut sweep = Sweep { title: title.to_owned(), steps: Vec::new(), end: End::Asked };
    measure(bench, bounds, plan, &mut sweep)?;
    sweep.stop_with(bench);
    Ok(sweep)
}

/// Measures a step, and once more if it was not held: whatever else a machine does can make one run bad, and none good.
fn measure(bench: &Bench, bounds: &Bounds, plan: Plan, sweep: &mut Sweep) -> Result<bool, CliError> {
    let mut last = None;
    for _ in 0..2 {
        let step = bench.step(plan)?;
        if bench.stop.load(Ordering::Relaxed) {
            break;
        }
        let complaint = bounds.complaint(&step);
        say(&row(&step, complaint.as_deref()));
        let held = complaint.is_none();
        last = Some(step);
        if held {
            break;
        }
    }
    let held = last.as_ref().is_some_and(|step| bounds.complaint(step).is_none());
    sweep.steps.extend(last);
    Ok(held)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn heading() -> String {
    format!(
        "{:>5} {:>7} {:>7} | late ms {:>7} {:>7} {:>7} | tick ms {:>6} {:>6} | round ms {:>6} {:>6} | {:>7} | {:>12} | {:>8} {:>11}",
        "rooms",
        "members",
        "threads",
        "p50",
        "p99",
        "max",
        "p50",
        "p99",
        "p50",
        "p99",
        "skipped",
        "B/s a member",
        "host CPU",
        "clients CPU"
    )
}

fn row(step: &Step, complaint: Option<&str>) -> String {
    let [late, tick, round] =
        [&step.pace.late, &step.pace.busy, &step.pace.rounds].map(|times| [0.5, 0.99].map(|share| millis(times.quantile(share))));
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let end = complaint.map(|complaint| format!(" | not held: {complaint}")).unwrap_or_default();
    format!(
        "{:>5} {:>7} {:>7} | {:>15.2} {:>7.2} {:>7.2} | {:>14.2} {:>6.2} | {:>15.2} {:>6.2} | {:>7} | {:>12.0} | {:>8} {:>11}{end}",
        step.plan.rooms,
        step.plan.total(),
        step.threads,
        late[0],
        late[1],
        millis(step.pace.late.max()),
        tick[0],
        tick[1],
        round[0],
        round[1],
        step.pace.skipped,
        step.bytes,
        percent(step.host_cpu),
        percent(step.clients_cpu),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Pace;

    /// What is said of steps of rooms of 16, of which some were not held.
    fn said(steps: &[(u32, bool)], end: End) -> String {
        let step = |(rooms, is_held): &(u32, bool)| {
            let plan = Plan { rooms: *rooms, members: 16 };
            let live = if *is_held { plan.total() } else { 1 };
            let (why, pace) = (String::new(), Pace::default());
            Step { plan, threads: 1, pace, live, why, bytes: 0.0, host_cpu: None, clients_cpu: None }
        };
        let bounds = Bounds { members_max: 500, why_max: "as asked", late: Duration::from_millis(5), judged: true };
        Sweep { title: "rooms".to_owned(), steps: steps.iter().map(step).collect(), end }.sentence(&bounds)
    }

    #[test]
    fn only_a_load_that_grew_until_it_was_too_much_is_said_to_be_all_that_is_held() {
        let two = "2 rooms of 16 members (32 in all) at 20 Hz; p99 of the tick's start 0.00 ms";
        let steps = [(1, true), (2, true), (4, false)];
        assert_eq!(said(&steps, End::NotHeld), format!("this machine holds {two}"));
        for (end, why) in [
            (End::Most, "not tried beyond 500: as asked"),
            (End::Asked, "no more were asked for"),
            (End::Stopped, "stopped before more were tried"),
        ] {
            assert_eq!(said(&steps[..2], end), format!("this machine holds at least {two}; {why}"));
        }
    }

    #[test]
    fn of_nothing_that_was_held_it_is_said_why() {
        let smallest = "rooms: this machine does not hold the smallest step, of 16 members";
        assert_eq!(said(&[(1, false)], End::NotHeld), smallest);
        assert_eq!(said(&[(1, false)], End::Asked), smallest);
        for steps in [&[(1, false)][..], &[]] {
            assert_eq!(said(steps, End::Stopped), "rooms: stopped before a step was held");
        }
    }
}
