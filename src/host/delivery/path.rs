//! What is known of the way to one member: the round trip, what it loses, and how much it carries.

use std::time::Duration;

/// The rate that a new connection starts with, in bytes a second.
const RATE_FIRST: f64 = 256.0 * 1024.0;

/// The lowest rate that a connection is held to, in bytes a second: what 96 kbit/s carry.
pub(crate) const RATE_FLOOR: f64 = 12.0 * 1024.0;

/// By how much the round trip may grow over the least one before the way is taken to be full: a queue builds up in it.
const QUEUE_MAX: f64 = 0.1;

/// The share of packets that may be lost before the way is taken to be full. Wireless links lose a lot and are not full.
const LOSS_MAX: f64 = 0.4;

/// How many packets tell the share that is lost: of fewer, chance alone may take so many.
const LOSS_OF: u32 = 60;

/// How fast the rate grows once it has met its bound, in bytes a second each second.
const GROWTH: f64 = 24.0 * 1024.0;

/// What a packet costs besides its bytes: IP and UDP, and the transport's head and authentication code.
pub(crate) const PACKET_OVERHEAD: usize = 28 + 26;

/// What is known of a way.
#[derive(Debug)]
pub(crate) struct Path {
    /// In seconds, as all here. The smoothed round trip and its deviation, as in RFC 6298.
    smoothed: Option<f64>,
    deviation: f64,
    /// The least round trip of the last ten seconds, in two halves.
    least: [f64; 2],
    least_since: Duration,
    rate: f64,
    rate_max: f64,
    tokens: f64,
    ticked: Duration,
    /// No bound was met yet: the rate doubles with each round trip that uses it up.
    searching: bool,
    cut: Duration,
    /// The rate was used up in the last tick.
    limited: bool,
    /// What became of packets since `counted`.
    counted: Duration,
    arrived: u32,
    lost: u32,
    arrived_bytes: usize,
    /// Bytes a second that arrived, in the last full count.
    carried: f64,
}

impl Path {
    pub(crate) fn new(now: Duration, rate_max: f64) -> Self {
        Self {
            smoothed: None,
            deviation: 0.0,
            least: [f64::INFINITY; 2],
            least_since: now,
            rate: RATE_FIRST.min(rate_max),
            rate_max,
            tokens: 16.0 * 1024.0,
            ticked: now,
            searching: true,
            cut: now,
            limited: false,
            counted: now,
            arrived: 0,
            lost: 0,
            arrived_bytes: 0,
            carried: 0.0,
        }
    }

    /// The round trip, or what is assumed until one was measured.
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_secs_f64(self.smoothed.unwrap_or(0.15))
    }

    /// The rate, in bytes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// After how long without an answer a packet is taken to be lost: RFC 6298, and a tick for each side's rounds.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.smoothed.unwrap_or(0.2) + (4.0 * self.deviation).max(0.02) + 0.1)
    }

    /// A tick begins: the rate allows more.
    pub(crate) fn tick(&mut self, now: Duration) {
        let past = now.saturating_sub(self.ticked).as_secs_f64().min(0.25);
        self.ticked = now;
        if self.limited {
            let trip = self.smoothed.unwrap_or(0.15).max(0.05);
            self.rate += if self.searching { self.rate * past / trip } else { GROWTH * past };
            self.rate = self.rate.min(self.rate_max);
        }
        self.limited = false;
        // What was not used does not pile up: two ticks' worth, and a snapshot's first chunk.
        self.tokens = (self.tokens + self.rate * past).min(self.rate * 0.1 + 16.0 * 1024.0);
        self.judge(now);
    }

    /// How many bytes may go out now, counted with what packets cost besides.
    pub(crate) fn allowance(&self) -> usize {
        self.tokens.max(0.0) as usize
    }

    /// Bytes went out.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.tokens -= (bytes + PACKET_OVERHEAD) as f64;
    }

    /// Less went out than there was to send, or the rate was used up.
    pub(crate) fn was_limited(&mut self) {
        self.limited = true;
    }

    /// A packet arrived.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.arrived += 1;
        self.arrived_bytes += bytes + PACKET_OVERHEAD;
    }

    /// A packet was lost.
    pub(crate) fn lost(&mut self) {
        self.lost += 1;
    }

    /// A packet's way there and back took so long.
    pub(crate) fn round_trip(&mut self, now: Duration, trip: Duration) {
        let trip = trip.as_secs_f64();
        match self.smoothed {
            None => (self.smoothed, self.deviation) = (Some(trip), trip / 2.0),
            Some(smoothed) => {
                self.deviation = 0.75 * self.deviation + 0.25 * (smoothed - trip).abs();
                self.smoothed = Some(0.875 * smoothed + 0.125 * trip);
            }
        }
        if now.saturating_sub(self.least_since) > Duration::from_secs(5) {
            self.least = [self.least[1], f64::INFINITY];
            self.least_since = now;
        }
        self.least[1] = self.least[1].min(trip);
    }

    /// Once in a while, and not twice for the same queue: is the way full?
    fn judge(&mut self, now: Duration) {
        let past = now.saturating_sub(self.counted);
        if past < Duration::from_millis(500) {
            return;
        }
        let seen = self.arrived + self.lost;
        let lossy = seen >= LOSS_OF && f64::from(self.lost) > LOSS_MAX * f64::from(seen);
        self.carried = self.arrived_bytes as f64 / past.as_secs_f64();
        (self.counted, self.arrived_bytes) = (now, 0);
        if seen >= LOSS_OF {
            (self.arrived, self.lost) = (0, 0);
        }
        let least = self.least[0].min(self.least[1]);
        let queued = self.smoothed.is_some_and(|smoothed| smoothed > least + QUEUE_MAX);
        if lossy || queued {
            self.cut(now);
        }
    }

    /// Nothing at all came back for long.
    pub(crate) fn timed_out(&mut self, now: Duration) {
        if now.saturating_sub(self.cut) > self.timeout() * 2 {
            self.cut(now);
        }
    }

    fn cut(&mut self, now: Duration) {
        // What is sent beyond what arrives only makes the queue longer.
        let carried = if self.carried > 0.0 { self.carried } else { self.rate };
        self.rate = (self.rate.min(carried.max(RATE_FLOOR)) * 0.8).max(RATE_FLOOR.min(self.rate_max));
        self.tokens = self.tokens.min(0.0);
        (self.searching, self.cut) = (false, now);
    }
}
