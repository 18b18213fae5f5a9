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

/// How fast the rate grows once it has met its bound, in bytes a second each second: so much, and a tenth of itself.
const GROWTH: f64 = 8.0 * 1024.0;

/// The share of what the way carries that the rate falls to when it is full. The queue is let run dry first.
const CUT_TO: f64 = 0.9;

/// How often it is judged whether the way is full.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// How often while the rate doubles.
const JUDGE_SEARCH_EVERY: Duration = Duration::from_millis(150);

/// While the rate doubles it is at most so many times what arrives.
const SEARCH_AHEAD: f64 = 2.5;

/// What a packet costs besides its bytes: IP and UDP, and the transport's head and authentication code.
pub(crate) const PACKET_OVERHEAD: usize = 28 + 26;

/// For how long packets are remembered at most, in seconds: about as long as a connection lasts without a word.
const MEMORY_MAX: f64 = 5.0;

/// Over how many packets the share of those lost is taken, about.
const LOSS_OVER: f32 = 64.0;

/// With so long between two rounds the host stood still: what waited for it meanwhile tells nothing of the way.
const STOOD_STILL: Duration = Duration::from_millis(120);

/// What is known of a way.
#[derive(Debug)]
pub(crate) struct Path {
    /// In seconds, as all here. The smoothed round trip and its deviation, as in RFC 6298.
    smoothed: Option<f64>,
    deviation: f64,
    /// The least round trip of the last ten seconds, in two halves.
    least: [f64; 2],
    least_since: Duration,
    /// The least round trip since `counted`: what even that one waited is a queue.
    least_counted: f64,
    /// When a round trip was last measured.
    heard: Duration,
    /// For how long packets that seem to be lost are remembered at least, in seconds: it grows while none is heard of.
    memory: f64,
    rate: f64,
    rate_max: f64,
    tokens: f64,
    ticked: Duration,
    /// No bound was met yet: the rate doubles with each round trip that uses it up.
    searching: bool,
    cut: Duration,
    /// Until when what is seen may still come of the queue for which the rate was cut.
    settling: Option<Duration>,
    /// The rate was used up in the last tick.
    limited: bool,
    /// The rate was used up since `counted`: else what arrived says nothing of how much the way carries.
    used: bool,
    /// What became of packets since `counted`.
    counted: Duration,
    arrived: u32,
    lost: u32,
    arrived_bytes: usize,
    /// What share of packets gets lost, over the last [`LOSS_OVER`] or so.
    loss: f32,
    /// Bytes a second that arrived, in the last two full counts.
    carried: [f64; 2],
}

impl Path {
    pub(crate) fn new(now: Duration, rate_max: f64) -> Self {
        Self {
            smoothed: None,
            deviation: 0.0,
            least: [f64::INFINITY; 2],
            least_since: now,
            least_counted: f64::INFINITY,
            heard: now,
            memory: 0.0,
            rate: RATE_FIRST.min(rate_max),
            rate_max,
            tokens: 16.0 * 1024.0,
            ticked: now,
            searching: true,
            cut: now,
            settling: None,
            limited: false,
            used: false,
            counted: now,
            arrived: 0,
            lost: 0,
            arrived_bytes: 0,
            loss: 0.0,
            carried: [0.0; 2],
        }
    }

    /// The same way, of which what was sent so far was too little to judge by how much it carries: of it the round trip alone is known.
    pub(crate) fn anew(&self, now: Duration, rate_max: f64) -> Self {
        Self { smoothed: self.smoothed, deviation: self.deviation, least: self.least, ..Self::new(now, rate_max) }
    }

    /// The round trip, or what is assumed until one was measured.
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_secs_f64(self.smoothed.unwrap_or(0.15))
    }

    /// The round trip, once it was measured.
    pub(crate) fn rtt_measured(&self) -> Option<Duration> {
        self.smoothed.map(Duration::from_secs_f64)
    }

    /// The rate, in bytes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// After how long without an answer a packet is taken to be lost: RFC 6298, and a tick for each side's rounds.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.smoothed.unwrap_or(0.2) + (4.0 * self.deviation).max(0.02) + 0.1)
    }

    /// For how long a packet that seems to be lost is remembered: it may only be late. On a way that is longer than was thought all of them are, and
    /// if they were forgotten before word of them came, nobody would ever learn how long it is.
    pub(crate) fn patience(&self) -> Duration {
        (self.timeout() * 2).max(Duration::from_secs_f64(self.memory))
    }

    /// A tick begins: the rate allows more.
    pub(crate) fn tick(&mut self, now: Duration) {
        let since = now.saturating_sub(self.ticked);
        let past = since.as_secs_f64().min(0.25);
        self.ticked = now;
        if self.limited {
            self.used = true;
            let trip = self.smoothed.unwrap_or(0.15).max(0.05);
            let grown = self.rate + if self.searching { self.rate * past / trip } else { (GROWTH + self.rate * 0.1) * past };
            let most = if self.searching { self.carried() * SEARCH_AHEAD } else { self.rate_max };
            self.rate = grown.min(most).max(self.rate).min(self.rate_max);
        }
        self.limited = false;
        // What was not used does not pile up: two ticks' worth, and an eighth of a second, up to a snapshot's first chunk.
        self.tokens = (self.tokens + self.rate * past).min(self.rate * 0.1 + (self.rate / 8.0).min(16.0 * 1024.0));
        if since > STOOD_STILL { self.count_anew(now) } else { self.judge(now) }
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

    /// True if there is more to send in this tick than the rate allows.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    /// A packet arrived.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.arrived += 1;
        self.loss -= self.loss / LOSS_OVER;
        self.arrived_bytes += bytes + PACKET_OVERHEAD;
    }

    /// A packet was lost.
    pub(crate) fn lost(&mut self) {
        self.lost += 1;
        self.loss += (1.0 - self.loss) / LOSS_OVER;
    }

    /// What share of packets gets lost at present.
    pub(crate) fn loss(&self) -> f32 {
        self.loss
    }

    /// A packet's way there and back took so long.
    pub(crate) fn round_trip(&mut self, now: Duration, trip: Duration) {
        let trip = trip.as_secs_f64();
        (self.heard, self.memory) = (now, 0.0);
        self.least_counted = self.least_counted.min(trip);
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
        if let Some(settled) = self.settling {
            if now >= settled {
                self.settling = None;
                self.count_anew(now);
            }
            return;
        }
        let past = now.saturating_sub(self.counted);
        if past < if self.searching { JUDGE_SEARCH_EVERY } else { JUDGE_EVERY } {
            return;
        }
        let seen = self.arrived + self.lost;
        let lossy = seen >= LOSS_OF && f64::from(self.lost) > LOSS_MAX * f64::from(seen);
        self.carried = [self.carried[1], self.arrived_bytes as f64 / past.as_secs_f64()];
        let least = self.least[0].min(self.least[1]);
        let queue = if self.least_counted.is_finite() { self.least_counted - least } else { 0.0 };
        if lossy || queue > QUEUE_MAX {
            self.cut(now, queue.clamp(0.0, 0.5));
        } else if seen >= LOSS_OF {
            self.count_anew(now);
        }
        self.begin_count(now);
    }

    /// What is judged next begins now; how many packets arrive and are lost is counted on.
    fn begin_count(&mut self, now: Duration) {
        (self.counted, self.arrived_bytes, self.least_counted, self.used) = (now, 0, f64::INFINITY, false);
    }

    /// What the way carries, as far as is known.
    fn carried(&self) -> f64 {
        self.carried[0].max(self.carried[1])
    }

    fn count_anew(&mut self, now: Duration) {
        self.begin_count(now);
        (self.arrived, self.lost) = (0, 0);
    }

    /// Packets are missing. If nothing at all came back for long, the way may be blocked.
    pub(crate) fn timed_out(&mut self, now: Duration) {
        self.memory = (self.patience().as_secs_f64() * 1.5).min(MEMORY_MAX);
        let silent = now.saturating_sub(self.heard.max(self.cut));
        if silent > self.timeout() * 2 {
            // Which does not tell how much it carries.
            self.slow_to(now, self.rate / 2.0, 0.0);
        }
    }

    /// The way is full: `queue` seconds wait in it.
    fn cut(&mut self, now: Duration, queue: f64) {
        // What is sent beyond what arrives only makes the queue longer.
        let carried = if self.carried() > 0.0 { self.carried() } else { self.rate };
        let (used, tokens) = (self.used, self.tokens);
        self.slow_to(now, self.rate.min(carried.max(RATE_FLOOR)) * CUT_TO, queue);
        if !used {
            // A queue in a way that this member does not fill is somebody else's: it does not run dry while nothing is sent here, and how much there is for this
            // member is tried out when it is wanted.
            (self.tokens, self.searching, self.settling) = (tokens.min(self.rate * 0.1), true, Some(now + self.rtt()));
        }
    }

    /// Goes on at a lower rate, once `queue` seconds of it have not been used.
    fn slow_to(&mut self, now: Duration, rate: f64, queue: f64) {
        self.rate = rate.max(RATE_FLOOR.min(self.rate_max));
        // The queue runs dry.
        self.tokens = self.tokens.min(0.0) - queue * self.rate;
        (self.searching, self.cut) = (false, now);
        self.settling = Some(now + Duration::from_secs_f64(queue) + self.rtt());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tick in which so much is to be sent, over a way that takes so long. Gives what went out.
    fn tick(path: &mut Path, now: &mut Duration, wanted: usize, millis: u64) -> usize {
        *now += Duration::from_millis(50);
        path.tick(*now);
        let sent = wanted.min(path.allowance());
        if sent < wanted {
            path.was_limited();
        }
        if sent > 0 {
            path.spend(sent);
            path.arrived(sent);
            path.round_trip(*now, Duration::from_millis(millis));
        }
        sent
    }

    #[test]
    fn a_queue_that_others_make_neither_silences_a_quiet_member_nor_keeps_it_slow() {
        let (mut now, mut path) = (Duration::from_secs(9), Path::new(Duration::from_secs(9), 2e6));
        for _ in 0..100 {
            tick(&mut path, &mut now, 150, 40);
        }
        let silent = (0..100).filter(|_| tick(&mut path, &mut now, 150, 340) == 0).count();
        assert!(silent <= 2, "{silent} of 100 ticks");
        for nth in 0..130 {
            tick(&mut path, &mut now, if nth < 100 { 150 } else { 4_000 }, 40);
        }
        assert!(path.rate() > 80_000.0, "{} after a second and a half", path.rate());
    }
}
