//! A simulated way for datagrams: delay, jitter, loss, duplication, reordering, a size and a rate, from a seed. Time comes in as a value.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};
use thiserror::Error;

/// What a link does to each datagram that goes one way over it.
///
/// As text: `loss=5%,burst=4,rtt=120ms,jitter=30ms,dup=1%,reorder=2%,rate=256kbit,mtu=1280`, each part once, in any order; before them may
/// stand the name of a [profile](LINK_PROFILES), of which they then change a part. The round trip is half for each way; everything else holds for
/// each way.
///
/// ```
/// use roomkeeper::protocol::LinkConditions;
/// let train: LinkConditions = "loss=5%,rtt=120ms,jitter=30ms,rate=256kbit".parse()?;
/// assert_eq!((train.delay_millis, train.jitter_millis, train.kbit_per_second), (60, 30, 256));
/// let worse: LinkConditions = "train,loss=20%".parse()?;
/// assert_eq!((worse.loss, worse.burst), (0.2, 8.0));
/// assert!("loss=105%".parse::<LinkConditions>().is_err());
/// # Ok::<(), roomkeeper::protocol::LinkParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConditions {
    /// Time one way, in milliseconds. Default: 0.
    pub delay_millis: u32,
    /// Up to so much more, at random for each datagram, in milliseconds. It reorders what is sent close together. Default: 0.
    pub jitter_millis: u32,
    /// The share of datagrams that is lost, from 0 to 1. Default: 0.
    pub loss: f32,
    /// How many are lost in a row, on average, where losses come in bursts (the model of Gilbert, 1960); up to 1: each by its own
    /// chance. Default: 0.
    pub burst: f32,
    /// The share of datagrams that arrives twice, from 0 to 1. Default: 0.
    pub duplication: f32,
    /// The share of datagrams that is held back so that later ones overtake it, from 0 to 1. Default: 0.
    pub reordering: f32,
    /// How much the link carries, in kilobits per second; 0 for no limit. What would wait longer than [`QUEUE_MAX`] is lost. Default: 0.
    pub kbit_per_second: u32,
    /// The largest datagram that gets through, in bytes, with the 28 of IPv4 and UDP; 0 for any. Default: 0.
    pub bytes_max: u32,
}

/// Links as players have them, by name: what tests run over, and what `--link train` means.
pub const LINK_PROFILES: [(&str, LinkConditions); 6] = [
    ("lan", LinkConditions { delay_millis: 1, ..LinkConditions::PERFECT }),
    ("cable", LinkConditions { delay_millis: 15, jitter_millis: 5, loss: 0.001, ..LinkConditions::PERFECT }),
    (
        "wifi",
        LinkConditions {
            delay_millis: 20,
            jitter_millis: 25,
            loss: 0.01,
            burst: 3.0,
            duplication: 0.001,
            reordering: 0.005,
            ..LinkConditions::PERFECT
        },
    ),
    (
        "mobile",
        LinkConditions {
            delay_millis: 45,
            jitter_millis: 40,
            loss: 0.02,
            burst: 4.0,
            kbit_per_second: 2_000,
            bytes_max: 1_280,
            ..LinkConditions::PERFECT
        },
    ),
    (
        "train",
        LinkConditions {
            delay_millis: 75,
            jitter_millis: 60,
            loss: 0.05,
            burst: 8.0,
            duplication: 0.01,
            reordering: 0.01,
            kbit_per_second: 1_000,
            bytes_max: 1_280,
        },
    ),
    ("overseas", LinkConditions { delay_millis: 150, jitter_millis: 30, loss: 0.01, ..LinkConditions::PERFECT }),
];

impl LinkConditions {
    /// Nothing is lost or late.
    pub const PERFECT: Self = Self {
        delay_millis: 0,
        jitter_millis: 0,
        loss: 0.0,
        burst: 0.0,
        duplication: 0.0,
        reordering: 0.0,
        kbit_per_second: 0,
        bytes_max: 0,
    };

    /// The [profile](LINK_PROFILES) of a name.
    pub fn profile(name: &str) -> Option<Self> {
        // As it is written.
        let perfect = ("perfect", Self::PERFECT);
        LINK_PROFILES.iter().chain([&perfect]).find(|(known, _)| *known == name).map(|(_, conditions)| *conditions)
    }

    /// True if the link does nothing to what it carries.
    pub fn is_perfect(&self) -> bool {
        *self == Self::PERFECT
    }
}

impl Default for LinkConditions {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// The longest queue before a link with a rate, in time.
pub const QUEUE_MAX: Duration = Duration::from_millis(300);

/// Most datagrams on the way at once. More are lost.
const IN_FLIGHT_MAX: usize = 8_192;

/// What a datagram costs a link with a rate besides its bytes: the headers of UDP and IP.
const HEADER_BYTES: usize = 28;

/// What is wrong with the text of a link's conditions.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkParseError {
    /// A part is not `name=value`, or its name is unknown.
    #[error(
        "{0:?} is none of loss=5%, burst=4, rtt=120ms, jitter=30ms, dup=1%, reorder=2%, rate=256kbit, mtu=1280, \
         nor, in front, one of lan, cable, wifi, mobile, train, overseas"
    )]
    Unknown(String),
    /// A part stands twice.
    #[error("{0} stands twice")]
    Twice(String),
    /// A value is not a number with the unit, or out of range.
    #[error("{name}={value}: a number with {unit} is wanted, at most {max}")]
    Value {
        /// The part.
        name: String,
        /// Its value.
        value: String,
        /// Its unit.
        unit: &'static str,
        /// The largest number allowed.
        max: u32,
    },
}

impl FromStr for LinkConditions {
    type Err = LinkParseError;

    fn from_str(text: &str) -> Result<Self, LinkParseError> {
        let mut conditions = Self::PERFECT;
        let mut seen: Vec<&str> = Vec::new();
        for (at, part) in text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            if let Some(profile) = Self::profile(part).filter(|_| at == 0) {
                conditions = profile;
                continue;
            }
            let (name, value) = part.split_once('=').ok_or_else(|| LinkParseError::Unknown(part.to_owned()))?;
            if seen.contains(&name) {
                return Err(LinkParseError::Twice(name.to_owned()));
            }
            seen.push(name);
            let number = |unit: &'static str, max: u32| -> Result<f32, LinkParseError> {
                let bad = || LinkParseError::Value { name: name.to_owned(), value: value.to_owned(), unit, max };
                let number: f32 = value.strip_suffix(unit).ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
                if (0.0..=max as f32).contains(&number) { Ok(number) } else { Err(bad()) }
            };
            match name {
                "loss" => conditions.loss = number("%", 100)? / 100.0,
                "dup" => conditions.duplication = number("%", 100)? / 100.0,
                "reorder" => conditions.reordering = number("%", 100)? / 100.0,
                "rtt" => conditions.delay_millis = (number("ms", 10_000)? / 2.0).round() as u32,
                "jitter" => conditions.jitter_millis = number("ms", 10_000)?.round() as u32,
                "burst" => conditions.burst = number("", 1_000)?,
                "mtu" => conditions.bytes_max = number("", 65_535)?.round() as u32,
                "rate" => conditions.kbit_per_second = number("kbit", 1_000_000)?.round() as u32,
                _ => return Err(LinkParseError::Unknown(part.to_owned())),
            }
        }
        Ok(conditions)
    }
}

impl fmt::Display for LinkConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_perfect() {
            return f.write_str("perfect");
        }
        let mut parts = Vec::new();
        for (name, share) in [("loss", self.loss), ("dup", self.duplication), ("reorder", self.reordering)] {
            if share > 0.0 {
                parts.push(format!("{name}={}%", share * 100.0));
            }
        }
        if self.burst > 0.0 {
            parts.push(format!("burst={}", self.burst));
        }
        for (name, number, unit) in [
            ("rtt", self.delay_millis * 2, "ms"),
            ("jitter", self.jitter_millis, "ms"),
            ("rate", self.kbit_per_second, "kbit"),
            ("mtu", self.bytes_max, ""),
        ] {
            if number > 0 {
                parts.push(format!("{name}={number}{unit}"));
            }
        }
        f.write_str(&parts.join(","))
    }
}

/// One way of a simulated link.
///
/// ```
/// use std::time::Duration;
/// use roomkeeper::protocol::{Link, LinkConditions};
/// let mut link = Link::new("rtt=100ms".parse()?, 7);
/// link.send(Duration::ZERO, b"hello"[..].into());
/// assert_eq!(link.receive(Duration::from_millis(49)), None);
/// assert_eq!(link.receive(Duration::from_millis(50)).as_deref(), Some(&b"hello"[..]));
/// # Ok::<(), roomkeeper::protocol::LinkParseError>(())
/// ```
#[derive(Debug)]
pub struct Link {
    /// What it does to what is sent from now on.
    pub conditions: LinkConditions,
    rng: Pcg64Mcg,
    on_the_way: BinaryHeap<Reverse<(Duration, u64, Bytes)>>,
    sent: u64,
    lost: u64,
    /// True in the middle of a burst of losses.
    bursting: bool,
    /// Until when the link is busy with what was sent before.
    busy_until: Duration,
}

impl Link {
    /// A link whose chance starts from `seed`.
    pub fn new(conditions: LinkConditions, seed: u64) -> Self {
        let rng = Pcg64Mcg::seed_from_u64(seed);
        Self { conditions, rng, on_the_way: BinaryHeap::new(), sent: 0, lost: 0, bursting: false, busy_until: Duration::ZERO }
    }

    /// Sends a datagram at a time. Times don't go back.
    pub fn send(&mut self, now: Duration, datagram: Bytes) {
        let conditions = self.conditions;
        let queued = self.queue(now, datagram.len());
        let too_large = conditions.bytes_max > 0 && datagram.len() + HEADER_BYTES > conditions.bytes_max as usize;
        if queued > QUEUE_MAX || too_large || self.loses() || self.on_the_way.len() >= IN_FLIGHT_MAX {
            self.lost += 1;
            return;
        }
        let copies = if self.chance(conditions.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let mut millis = f64::from(conditions.delay_millis) + self.unit() * f64::from(conditions.jitter_millis);
            if self.chance(conditions.reordering) {
                millis += self.unit() * (2.0 * f64::from(conditions.delay_millis + conditions.jitter_millis) + 20.0);
            }
            self.sent += 1;
            let arrival = now + queued + Duration::from_micros((millis * 1_000.0) as u64);
            self.on_the_way.push(Reverse((arrival, self.sent, datagram.clone())));
        }
    }

    /// Whether the next datagram is lost by chance.
    fn loses(&mut self) -> bool {
        let LinkConditions { loss, burst, .. } = self.conditions;
        if burst <= 1.0 || loss <= 0.0 || loss >= 1.0 {
            return self.chance(loss);
        }
        // It ends so often that it lasts as long as it should, and begins so often that the share is right.
        let turn = if self.bursting { 1.0 / burst } else { (loss / (burst * (1.0 - loss))).min(1.0) };
        self.bursting ^= self.chance(turn);
        self.bursting
    }

    /// How long a datagram waits before the link, and is on it.
    fn queue(&mut self, now: Duration, bytes: usize) -> Duration {
        if self.conditions.kbit_per_second == 0 {
            return Duration::ZERO;
        }
        let bits = ((bytes + HEADER_BYTES) * 8) as u64;
        let takes = Duration::from_micros(bits * 1_000 / u64::from(self.conditions.kbit_per_second));
        let done = self.busy_until.max(now) + takes;
        let waits = done.saturating_sub(now);
        if waits <= QUEUE_MAX {
            self.busy_until = done;
        }
        waits
    }

    /// The next datagram that has arrived at a time.
    pub fn receive(&mut self, now: Duration) -> Option<Bytes> {
        let arrived = self.on_the_way.peek().is_some_and(|Reverse((arrival, ..))| *arrival <= now);
        if arrived { self.on_the_way.pop().map(|Reverse((_, _, datagram))| datagram) } else { None }
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.on_the_way.peek().map(|Reverse((arrival, ..))| *arrival)
    }

    /// How many datagrams are on the way.
    pub fn in_flight(&self) -> usize {
        self.on_the_way.len()
    }

    /// How many datagrams were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn unit(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / f64::from(u32::MAX)
    }

    /// True with a probability. No chance is drawn for 0, so that a perfect link draws none.
    fn chance(&mut self, probability: f32) -> bool {
        probability > 0.0 && self.unit() < f64::from(probability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrivals(text: &str, count: u64) -> (Vec<u64>, u64) {
        let mut link = Link::new(text.parse().unwrap(), 3);
        let mut arrived = Vec::new();
        for n in 0..count + 2_000 {
            let now = Duration::from_millis(n);
            if n < count {
                link.send(now, Bytes::copy_from_slice(&n.to_le_bytes()));
            }
            while let Some(datagram) = link.receive(now) {
                arrived.push(u64::from_le_bytes(datagram.as_ref().try_into().unwrap()));
            }
        }
        assert_eq!(link.in_flight(), 0);
        (arrived, link.lost())
    }

    #[test]
    fn a_perfect_link_delivers_all_at_once_and_in_order() {
        assert_eq!(arrivals("", 500), ((0..500).collect(), 0));
    }

    #[test]
    fn shares_are_what_they_say() {
        let (arrived, lost) = arrivals("loss=20%", 10_000);
        assert!((1_900..2_100).contains(&lost) && arrived.len() as u64 == 10_000 - lost, "{lost}");
        let (arrived, _) = arrivals("dup=10%", 10_000);
        assert!((10_900..11_100).contains(&arrived.len()), "{}", arrived.len());
        let (arrived, _) = arrivals("rtt=100ms,reorder=5%", 10_000);
        assert!(!arrived.is_sorted());
    }

    #[test]
    fn bursts_are_as_long_and_as_frequent_as_they_say() {
        let (arrived, lost) = arrivals("loss=10%,burst=5", 100_000);
        assert!((9_000..11_000).contains(&lost), "{lost}");
        let bursts = arrived.windows(2).filter(|pair| pair[1] - pair[0] > 1).count() as f64;
        let mean = lost as f64 / bursts;
        assert!((4.6..5.4).contains(&mean), "{mean}");
    }

    #[test]
    fn what_is_too_large_is_lost() {
        let mut link = Link::new("mtu=128".parse().unwrap(), 3);
        link.send(Duration::ZERO, Bytes::from(vec![0; 100]));
        link.send(Duration::ZERO, Bytes::from(vec![0; 101]));
        assert_eq!((link.in_flight(), link.lost()), (1, 1));
    }

    #[test]
    fn each_profile_reads_back_as_itself() {
        for (name, conditions) in LINK_PROFILES {
            assert_eq!(name.parse(), Ok(conditions));
            assert_eq!(conditions.to_string().parse(), Ok(conditions), "{name} is {conditions}");
        }
        assert!("loss=1%,train".parse::<LinkConditions>().is_err());
    }

    #[test]
    fn a_rate_holds_and_its_queue_is_bounded() {
        // 36 bytes with headers every millisecond are 288 kbit/s.
        let (arrived, lost) = arrivals("rate=144kbit", 10_000);
        let share = arrived.len() as f64 / 10_000.0;
        assert!((0.48..0.54).contains(&share), "{share}");
        assert_eq!(arrived.len() as u64 + lost, 10_000);
    }

    #[test]
    fn bad_texts_are_named() {
        for (text, wanted) in [("loss=5", "loss=5: a number with %"), ("speed=3", "\"speed=3\" is none"), ("rtt=1ms,rtt=2ms", "twice")] {
            let error = text.parse::<LinkConditions>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let all = "loss=5%,dup=1%,reorder=2%,burst=4,rtt=120ms,jitter=30ms,rate=256kbit,mtu=1280";
        assert_eq!(all.parse::<LinkConditions>().unwrap().to_string(), all);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = text.parse::<LinkConditions>();
        }
    }
}
