//! How a host keeps its time: how late its ticks begin, and how long they take.

use std::time::Duration;

/// Buckets per doubling: a duration is known to a sixteenth.
const STEPS: u64 = 16;

/// Enough for 71 minutes in microseconds; what is longer counts as that.
const BUCKETS: usize = 29 * STEPS as usize;

/// How many durations of which length there were, to a sixteenth. It never grows.
#[derive(Clone, PartialEq, Eq)]
pub struct Durations {
    /// As wide as the count of all: those of many rooms are added up, for as long as a host runs.
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, sum: Duration::ZERO, max: Duration::ZERO }
    }
}

impl std::fmt::Debug for Durations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most] = [0.5, 0.99].map(|share| self.quantile(share));
        f.debug_struct("Durations").field("count", &self.count).field("p50", &half).field("p99", &most).field("max", &self.max).finish()
    }
}

impl Durations {
    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket(micros)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
        self.max = self.max.max(duration);
    }

    /// Counts what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets.iter()).for_each(|(ours, theirs)| *ours += *theirs);
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// The duration that a share of them, 0.0 to 1.0, did not exceed: at most a sixteenth too much, never too little. Zero if there are
    /// none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += *count;
            if seen >= wanted.max(1) {
                return Duration::from_micros(last_of(at)).min(self.max);
            }
        }
        self.max
    }

    /// How many of them were at most so long, for each of some bounds in rising order. What is less than a sixteenth below a bound may count as above it.
    pub fn at_most<const N: usize>(&self, bounds: [Duration; N]) -> [u64; N] {
        let mut counts = bounds.map(|_| 0);
        let mut seen = 0;
        let mut buckets = self.buckets.iter().enumerate().peekable();
        for (bound, count) in bounds.iter().zip(&mut counts) {
            while let Some((_, here)) = buckets.next_if(|(at, _)| Duration::from_micros(last_of(*at)) <= *bound) {
                seen += *here;
            }
            *count = seen;
        }
        counts
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }
}

/// The bucket of a duration in microseconds: those below 16 each have one, then each doubling has 16.
fn bucket(micros: u64) -> usize {
    let Some(doubling) = micros.checked_ilog2().filter(|_| micros >= STEPS) else { return micros as usize };
    let at = u64::from(doubling - 3) * STEPS + (micros >> (doubling - 4)) % STEPS;
    (at as usize).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn last_of(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if doubling == 0 { step } else { ((STEPS + step + 1) << (doubling - 1)) - 1 }
}

/// How a host kept its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pace {
    /// How late each tick of each room began. Its time is absolute, so what one tick is late, the next is not for that.
    pub late: Durations,
    /// How long each took, without what is sent.
    pub busy: Durations,
    /// How long each round took in which a room ticked: what came in, the ticks, what went out.
    pub rounds: Durations,
    /// How many ticks were given up because the host was too late.
    pub skipped: u64,
}

impl Pace {
    /// Counts what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.late.add(&other.late);
        self.busy.add(&other.busy);
        self.rounds.add(&other.rounds);
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_a_sixteenth_and_never_too_small() {
        for micros in (0..5_000).chain([65_535, 65_536, 1 << 30, (1 << 32) - 1]) {
            let last = last_of(bucket(micros));
            assert!(last >= micros && last <= micros + micros / STEPS, "{micros}: {last}");
            assert!(bucket(last + 1) == bucket(last) + 1 || bucket(last) == BUCKETS - 1, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(0.99), Duration::ZERO);
        (1..=1_000).for_each(|millis| durations.record(Duration::from_millis(millis)));
        assert!((Duration::from_millis(990)..=Duration::from_millis(1_000)).contains(&durations.quantile(0.99)), "{durations:?}");
        assert!((Duration::from_millis(500)..Duration::from_millis(532)).contains(&durations.quantile(0.5)), "{durations:?}");
        assert_eq!((durations.quantile(1.0), durations.max()), (Duration::from_millis(1_000), Duration::from_millis(1_000)));
        assert_eq!((durations.count(), durations.sum()), (1_000, Duration::from_millis(500_500)));
        let [none, some, all] = durations.at_most([Duration::ZERO, Duration::from_millis(500), Duration::from_secs(3)]);
        assert_eq!((none, all), (0, 1_000));
        assert!((468..=500).contains(&some), "{some}");
    }

    #[test]
    fn the_buckets_have_all_that_is_counted_however_much_is_added_up() {
        let mut durations = Durations::default();
        durations.record(Duration::from_millis(1));
        for _ in 0..33 {
            let so_far = durations.clone();
            durations.add(&so_far);
        }
        assert_eq!((durations.count(), durations.at_most([Duration::from_secs(1)])), (1_u64 << 33, [1_u64 << 33]));
        assert_eq!(durations.quantile(0.99), Duration::from_millis(1));
    }
}
