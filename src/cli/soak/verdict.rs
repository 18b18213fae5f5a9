//! Whether what a server takes stayed as it was.

use super::sample::Sample;

/// Of fewer samples after the warm-up nothing is said: they tell more of the moment than of the server.
const SAMPLES_MIN: usize = 20;

/// Memory is flat if the line through its samples grows by a smaller share of their median.
const GROWTH_MAX: f64 = 0.05;

/// Handles are flat if there are never so many more than at first. What the store opens for a moment is less.
const HANDLES_MORE_MAX: f64 = 5.0;

/// The p99 of how late ticks begin is flat if it is at most so many times that of the beginning,
const LATER_MAX: f64 = 1.5;

/// or below this: of little, half as much again is still little.
const LATE_MILLIS_MAX: f64 = 5.0;

/// Of the rooms, the members and the ticks that there are at first, at least such a share is to be there in the end: of a server that has less to do nothing is
/// shown.
const LOAD_MIN: f64 = 0.5;

/// What is said of one thing that is watched.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) what: &'static str,
    /// Whether it stayed as it should; nothing where that can't be said.
    pub(super) holds: Option<bool>,
    /// The same in a sentence, with its figures.
    pub(super) sentence: String,
}

/// The line through points of which half lie above it and half below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    slope: f64,
    at_zero: f64,
}

impl Line {
    pub(super) fn at(&self, x: f64) -> f64 {
        self.at_zero + self.slope * x
    }
}

/// The middle one, or the mean of the two in the middle. 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (half, odd) = (values.len() / 2, !values.len().is_multiple_of(2));
    let at = |place: usize| values.get(place).copied().unwrap_or_default();
    if odd { at(half) } else { at(half.saturating_sub(1)).midpoint(at(half)) }
}

/// That at which, or below, three of four lie. 0 of nothing.
fn three_of_four(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get((values.len() * 3).div_ceil(4).saturating_sub(1)).copied().unwrap_or_default()
}

/// The line of Theil and Sen: its slope is the median of the slopes between any two points, so a few of them that lie far off don't move it.
fn fit(points: &[(f64, f64)]) -> Line {
    let pairs = points.iter().enumerate().flat_map(|(number, from)| points.iter().skip(number + 1).map(move |to| (*from, *to)));
    let slopes = pairs.filter(|(from, to)| to.0 > from.0).map(|(from, to)| (to.1 - from.1) / (to.0 - from.0));
    let slope = median(slopes);
    Line { slope, at_zero: median(points.iter().map(|(x, y)| y - slope * x)) }
}

/// The samples that are judged: those that say nothing of the warm-up.
pub(super) fn judged(samples: &[Sample], warm_up_seconds: f64) -> &[Sample] {
    let from = samples.partition_point(|sample| sample.seconds < warm_up_seconds + 1.0);
    samples.get(from..).unwrap_or_default()
}

/// The line through their memory, in bytes over seconds.
pub(super) fn memory_line(samples: &[Sample]) -> Line {
    let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.seconds, sample.memory_bytes as f64)).collect();
    fit(&points)
}

/// The first quarter of the samples and the last.
fn quarters(samples: &[Sample]) -> (&[Sample], &[Sample]) {
    let quarter = samples.len().div_ceil(4);
    let (first, last) = (samples.get(..quarter), samples.get(samples.len() - quarter..));
    (first.unwrap_or_default(), last.unwrap_or_default())
}

/// Judges all that is watched.
pub(super) fn judge(samples: &[Sample], warm_up_seconds: f64, failed_rooms: u64) -> Vec<Verdict> {
    let judged = judged(samples, warm_up_seconds);
    let mut verdicts = if judged.len() < SAMPLES_MIN {
        let why = format!("there are {} samples after the warm-up, and {SAMPLES_MIN} are wanted", judged.len());
        let unsaid = |what| Verdict { what, holds: None, sentence: format!("{what}: not judged, {why}") };
        ["memory", "handles", "lateness", "load"].into_iter().map(unsaid).collect()
    } else {
        vec![memory(judged), handles(judged), lateness(judged), load(judged)]
    };
    let sentence = match failed_rooms {
        0 => "rooms: none failed".to_owned(),
        failed => format!("rooms: {failed} failed, the log says why"),
    };
    verdicts.push(Verdict { what: "rooms", holds: Some(failed_rooms == 0), sentence });
    verdicts
}

/// The word for what a verdict says.
fn word(holds: bool) -> &'static str {
    if holds { "flat" } else { "not flat" }
}

fn memory(samples: &[Sample]) -> Verdict {
    let line = memory_line(samples);
    let [from, to] = [samples.first(), samples.last()].map(|sample| sample.map_or(0.0, |sample| sample.seconds));
    let (growth, middle) = (line.at(to) - line.at(from), median(samples.iter().map(|sample| sample.memory_bytes as f64)));
    let share = growth / middle.max(1.0);
    // What begins to grow late hardly moves the line.
    let (first, last) = quarters(samples);
    let [before, after] = [first, last].map(|quarter| median(quarter.iter().map(|sample| sample.memory_bytes as f64)));
    let later = (after - before) / before.max(1.0);
    let holds = share < GROWTH_MAX && later < GROWTH_MAX;
    let sentence = format!(
        "memory: {}; the line through {} samples changes by {:+.2} MB in {:.1} min, {:+.1} % of the {:.1} MB in the middle, the last quarter has {:+.1} % of the first, and less than {:+.0} % \
         is wanted of both",
        word(holds),
        samples.len(),
        growth / 1e6,
        (to - from) / 60.0,
        share * 100.0,
        middle / 1e6,
        later * 100.0,
        GROWTH_MAX * 100.0
    );
    Verdict { what: "memory", holds: Some(holds), sentence }
}

fn handles(samples: &[Sample]) -> Verdict {
    let at_first = median(quarters(samples).0.iter().map(|sample| sample.handles as f64));
    let most = samples.iter().map(|sample| sample.handles).max().unwrap_or_default();
    let holds = most as f64 <= at_first + HANDLES_MORE_MAX;
    let sentence = format!(
        "handles: {}; {most} at most, {at_first} in the first quarter, and no more than {HANDLES_MORE_MAX} above that are wanted",
        word(holds)
    );
    Verdict { what: "handles", holds: Some(holds), sentence }
}

fn lateness(samples: &[Sample]) -> Verdict {
    let (first, last) = quarters(samples);
    // A few samples may be bad, but not so many that only the middle one is good.
    let [before, after] = [first, last].map(|quarter| {
        let late = || quarter.iter().map(|sample| sample.p99_millis);
        [median(late()), three_of_four(late())]
    });
    let holds = before.iter().zip(&after).all(|(before, after)| *after <= before * LATER_MAX || *after < LATE_MILLIS_MAX);
    let sentence = format!(
        "lateness: {}; in half of the first quarter's samples 99 of 100 ticks began within {:.2} ms, in three of four within {:.2} ms, in the last quarter's within {:.2} ms and \
         {:.2} ms, and no more than {LATER_MAX} times as much is wanted of both, or less than {LATE_MILLIS_MAX} ms",
        word(holds),
        before[0],
        before[1],
        after[0],
        after[1]
    );
    Verdict { what: "lateness", holds: Some(holds), sentence }
}

/// Whether there was as much to do in the end as at first. Where nobody plays, or no room ticks, all else is flat.
fn load(samples: &[Sample]) -> Verdict {
    let (first, last) = quarters(samples);
    let counts: [fn(&Sample) -> u64; 3] = [|sample| sample.rooms, |sample| sample.members, |sample| sample.ticks];
    let middle = |quarter: &[Sample]| counts.map(|count| median(quarter.iter().map(|sample| count(sample) as f64)));
    let (before, after) = (middle(first), middle(last));
    let holds = before.iter().zip(&after).all(|(before, after)| *before > 0.0 && *after >= before * LOAD_MIN);
    let sentence = format!(
        "load: {}; {} rooms, {} members and {} ticks a sample in the first quarter, {}, {} and {} in the last, and at least {:.0} % of each are wanted",
        if holds { "kept" } else { "not kept" },
        before[0],
        before[1],
        before[2],
        after[0],
        after[1],
        after[2],
        LOAD_MIN * 100.0
    );
    Verdict { what: "load", holds: Some(holds), sentence }
}

/// What of it did not stay as it should.
pub(super) fn unsteady(verdicts: &[Verdict]) -> Vec<&'static str> {
    verdicts.iter().filter(|verdict| verdict.holds == Some(false)).map(|verdict| verdict.what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample each ten seconds for two hours, of a server that stays as it is, but for what is changed.
    fn run(change: impl Fn(f64, &mut Sample)) -> Vec<Sample> {
        let steady = |number: u32| {
            let seconds = f64::from(number) * 10.0;
            // It trembles by what it would at rest.
            let tremble = u64::from(number % 7) * 100_000;
            let there = Sample { rooms: 300, members: 870, ticks: 60_000, ..Sample::default() };
            let mut sample = Sample { seconds, memory_bytes: 150_000_000 + tremble, handles: 30, p99_millis: 1.0, ..there };
            change(seconds, &mut sample);
            sample
        };
        (1..=720).map(steady).collect()
    }

    fn failing(samples: &[Sample]) -> Vec<&'static str> {
        unsteady(&judge(samples, 600.0, 0))
    }

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(median([].into_iter()), 0.0);
        assert_eq!(median([3.0].into_iter()), 3.0);
        assert_eq!(median([9.0, 1.0].into_iter()), 5.0);
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), 2.0);
    }

    #[test]
    fn a_line_is_not_moved_by_points_far_off() {
        let straight = |x: u32| (f64::from(x), 7.0 + 2.0 * f64::from(x));
        let mut points: Vec<(f64, f64)> = (0..40).map(straight).collect();
        for place in [3, 17, 38] {
            points[place].1 = 90_000.0;
        }
        let line = fit(&points);
        assert!((line.at(0.0) - 7.0).abs() < 1e-9 && (line.at(100.0) - 207.0).abs() < 1e-9, "{line:?}");
        assert_eq!(fit(&[]), Line { slope: 0.0, at_zero: 0.0 });
        assert_eq!(fit(&[(5.0, 3.0), (5.0, 9.0)]), Line { slope: 0.0, at_zero: 6.0 });
    }

    #[test]
    fn a_server_that_stays_as_it_is_is_flat_and_each_sentence_has_the_figures() {
        let verdicts = judge(&run(|_, _| {}), 600.0, 0);
        assert!(verdicts.iter().all(|verdict| verdict.holds == Some(true)), "{verdicts:?}");
        let said: Vec<&str> = verdicts.iter().map(|verdict| verdict.sentence.as_str()).collect();
        assert!(said[0].starts_with("memory: flat; the line through 660 samples") && said[0].contains("150.3 MB"), "{}", said[0]);
        assert!(said[1].starts_with("handles: flat; 30 at most, 30 in the first quarter"), "{}", said[1]);
        assert!(said[2].starts_with("lateness: flat;") && said[2].contains("1.00 ms"), "{}", said[2]);
        assert!(said[3].starts_with("load: kept; 300 rooms, 870 members and 60000 ticks a sample"), "{}", said[3]);
        assert_eq!(said[4], "rooms: none failed");
    }

    #[test]
    fn memory_may_grow_by_less_than_a_twentieth_and_shrink() {
        let by = |share: f64| run(move |seconds, sample| sample.memory_bytes += (150e6 * share * seconds / 7_200.0) as u64);
        assert_eq!(failing(&by(0.04)), Vec::<&str>::new());
        assert_eq!(failing(&by(0.08)), ["memory"]);
        let shrinks = run(|seconds, sample| sample.memory_bytes -= (seconds * 5_000.0) as u64);
        assert_eq!(failing(&shrinks), Vec::<&str>::new());
    }

    #[test]
    fn a_moment_in_which_memory_is_high_is_no_growth() {
        let peak = run(|seconds, sample| {
            if (6_000.0..6_600.0).contains(&seconds) {
                sample.memory_bytes *= 3;
            }
        });
        assert_eq!(failing(&peak), Vec::<&str>::new());
    }

    #[test]
    fn memory_that_begins_to_grow_late_or_stays_up_after_a_step_is_found() {
        let late = |seconds: f64| (seconds - 5_400.0).max(0.0);
        assert_eq!(failing(&run(|seconds, sample| sample.memory_bytes += (late(seconds) * 50_000.0) as u64)), ["memory"]);
        assert_eq!(failing(&run(|seconds, sample| sample.memory_bytes += u64::from(late(seconds) > 0.0) * 75_000_000)), ["memory"]);
    }

    #[test]
    fn a_handle_that_is_lost_every_ten_minutes_is_found() {
        assert_eq!(failing(&run(|seconds, sample| sample.handles += (seconds / 600.0) as u64)), ["handles"]);
        assert_eq!(failing(&run(|seconds, sample| sample.handles += u64::from(seconds > 4_000.0) * 5)), Vec::<&str>::new());
        assert_eq!(failing(&run(|seconds, sample| sample.handles += u64::from(seconds == 4_000.0) * 6)), ["handles"]);
    }

    #[test]
    fn ticks_that_begin_later_and_later_are_found_but_not_among_those_that_are_in_time() {
        let from_to = |from: f64, to: f64| run(move |seconds, sample| sample.p99_millis = from + (to - from) * seconds / 7_200.0);
        assert_eq!(failing(&from_to(4.0, 12.0)), ["lateness"]);
        assert_eq!(failing(&from_to(1.0, 4.0)), Vec::<&str>::new());
        assert_eq!(failing(&from_to(30.0, 33.0)), Vec::<&str>::new());
        // The worst moments are not what is judged.
        let stalls = run(|seconds, sample| sample.p99_millis = if seconds % 100.0 == 0.0 { 400.0 } else { 1.0 });
        assert_eq!(failing(&stalls), Vec::<&str>::new());
    }

    #[test]
    fn ticks_that_begin_late_in_nearly_half_of_the_last_samples_are_found() {
        let stalls = run(|seconds, sample| {
            if seconds > 5_000.0 && seconds % 100.0 >= 60.0 {
                sample.p99_millis = 400.0;
            }
        });
        assert_eq!(failing(&stalls), ["lateness"]);
        assert_eq!(three_of_four([4.0, 1.0, 3.0, 2.0].into_iter()), 3.0);
        assert_eq!((three_of_four([].into_iter()), three_of_four([7.0].into_iter())), (0.0, 7.0));
    }

    #[test]
    fn a_server_without_members_rooms_or_ticks_is_not_flat_but_idle() {
        assert_eq!(failing(&run(|_, sample| sample.members = 0)), ["load"]);
        let ends = |change: fn(&mut Sample)| {
            let from = move |seconds: f64, sample: &mut Sample| {
                if seconds > 5_000.0 {
                    change(sample);
                }
            };
            failing(&run(from))
        };
        assert_eq!(ends(|sample| sample.members = 400), ["load"]);
        assert_eq!(ends(|sample| (sample.ticks, sample.p99_millis) = (0, 0.0)), ["load"]);
        assert_eq!(ends(|sample| sample.rooms = 0), ["load"]);
        assert_eq!(ends(|sample| sample.members = 500), Vec::<&str>::new());
    }

    #[test]
    fn nothing_of_the_warm_up_is_judged() {
        let begins = run(|seconds, sample| {
            if seconds <= 600.0 {
                (sample.memory_bytes, sample.handles, sample.p99_millis) = (seconds as u64, 900, 300.0);
            }
        });
        assert_eq!(failing(&begins), Vec::<&str>::new());
    }

    #[test]
    fn of_a_short_run_nothing_is_said_but_whether_rooms_failed() {
        let samples = run(|seconds, sample| sample.handles += seconds as u64);
        let verdicts = judge(&samples[..79], 600.0, 2);
        assert!(verdicts[..4].iter().all(|verdict| verdict.holds.is_none()), "{verdicts:?}");
        assert_eq!(verdicts[0].sentence, "memory: not judged, there are 19 samples after the warm-up, and 20 are wanted");
        assert_eq!(unsteady(&verdicts), ["rooms"]);
        assert_eq!(verdicts[4].sentence, "rooms: 2 failed, the log says why");
        assert_eq!(failing(&samples[..80]), ["handles"]);
        assert_eq!(judge(&[], 600.0, 0).len(), 5);
    }
}
