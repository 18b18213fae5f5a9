//! What a client knows of the server's time: which tick it is there now, and how long a message takes there and back.

use std::time::Duration;

use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{RoomTick, Speed};

/// For how many ticks it is kept how early packets came.
const SAMPLES: usize = 128;

/// For how many ticks it is kept how late they came.
const LATE_SAMPLES: usize = 64;

/// If so many ticks in a row came later than the earliest by more than this, in microseconds, the host has stood still meanwhile, and what was
/// before tells nothing any more.
const STALLED_SAMPLES: usize = 12;
const STALLED: i64 = 2 * TICK_MILLIS as i64 * 1_000;

/// How many measured round trips are kept.
const TRIPS: usize = 32;

/// An estimate of the server's time.
///
/// Each packet tells its tick. How much later than the first tick's time it came is the time it was on the way and a constant; the
/// least of the last seconds is the one that queues and jitter did not delay, after Mills' clock filter (RFC 5905, section 10). Half
/// of the least round trip is what it was on the way.
#[derive(Clone, Debug, Default)]
pub struct ServerClock {
    /// For the last ticks: the arrival of the first of their packets, less the time of the tick, in microseconds.
    offsets: Ring<i64, SAMPLES>,
    /// The same of the last of their packets.
    late: Ring<i64, LATE_SAMPLES>,
    /// The same of both for the newest tick.
    newest: Option<(RoomTick, i64, i64)>,
    trips: Ring<Duration, TRIPS>,
    smoothed: Option<Duration>,
    speed: Speed,
    /// When the speed changed last, and how long it was then as the room counts time, in microseconds.
    since: (Duration, i64),
}

/// The last some values.
#[derive(Clone, Debug)]
struct Ring<T, const N: usize> {
    values: Vec<T>,
    at: usize,
}

impl<T, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self { values: Vec::new(), at: 0 }
    }
}

impl<T: Copy + Ord, const N: usize> Ring<T, N> {
    fn push(&mut self, value: T) {
        match self.values.get_mut(self.at) {
            Some(place) => *place = value,
            None => self.values.push(value),
        }
        self.at = (self.at + 1) % N;
    }

    fn least(&self) -> Option<T> {
        self.values.iter().min().copied()
    }

    /// The last `count` values, the newest first.
    fn newest(&self, count: usize) -> impl Iterator<Item = T> + '_ {
        let (newer, older) = (self.values.iter().take(self.at), self.values.iter().skip(self.at));
        newer.rev().chain(older.rev()).take(count).copied()
    }

    /// Forgets all but the last `count`.
    fn keep(&mut self, count: usize) {
        let kept: Vec<T> = self.newest(count).collect();
        *self = Self::default();
        kept.into_iter().rev().for_each(|value| self.push(value));
    }

    /// The value than which the share is not larger.
    fn quantile(&self, share: f64) -> Option<T> {
        let mut values = self.values.clone();
        let at = (values.len() as f64 * share) as usize;
        (at < values.len()).then(|| *values.select_nth_unstable(at).1)
    }
}

impl ServerClock {
    /// Takes note that a packet of a tick arrived. Times are of a clock of the client's own that never goes back.
    pub(crate) fn tick_came(&mut self, now: Duration, tick: RoomTick) {
        // Packets that belong to no tick say nothing of it.
        if tick.0 == 0 {
            return;
        }
        let offset = self.room_time(now) - i64::from(tick.0) * TICK_MILLIS as i64 * 1_000;
        match &mut self.newest {
            Some((newest, first, last)) if *newest == tick => (*first, *last) = (offset.min(*first), offset.max(*last)),
            Some((newest, ..)) if *newest > tick => self.late.push(offset),
            newest => {
                if let Some((_, first, last)) = newest.replace((tick, offset, offset)) {
                    self.offsets.push(first);
                    self.late.push(last);
                    self.notice_stall();
                }
            }
        }
    }

    /// A time of the client's clock in the room's own time, which goes slower, faster, or stands still with the room: what is measured in it
    /// stays as it was when the speed changes, since word of that comes as late as the ticks do.
    fn room_time(&self, now: Duration) -> i64 {
        let passed = now.saturating_sub(self.since.0).as_micros() as i64;
        self.since.1 + passed * i64::from(self.speed.as_hundredths()) / i64::from(Speed::FULL.as_hundredths())
    }

    /// Takes note that the room goes so fast from now on.
    pub(crate) fn set_speed(&mut self, now: Duration, speed: Speed) {
        self.since = (now, self.room_time(now));
        self.speed = speed;
    }

    /// How fast the room goes.
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// A host that fell behind leaves ticks out, or makes them longer: room time stood still, and every tick comes later than it would have.
    fn notice_stall(&mut self) {
        let (count, recent) = (self.offsets.values.len(), self.offsets.newest(STALLED_SAMPLES).min());
        if count > STALLED_SAMPLES && recent.zip(self.earliest()).is_some_and(|(recent, earliest)| recent - earliest > STALLED) {
            self.offsets.keep(STALLED_SAMPLES);
            self.late.keep(STALLED_SAMPLES);
        }
    }

    fn earliest(&self) -> Option<i64> {
        self.offsets.least().into_iter().chain(self.newest.map(|(_, first, _)| first)).min()
    }

    /// The tick whose packets come now if nothing delays them, with a fraction.
    pub(crate) fn arriving_tick(&self, now: Duration) -> Option<f64> {
        Some((self.room_time(now) - self.earliest()?) as f64 / (TICK_MILLIS as f64 * 1_000.0))
    }

    /// How much later than the earliest packets 19 of 20 ticks are here, in ticks.
    pub(crate) fn lateness(&self) -> f64 {
        let late = self.late.quantile(0.95).zip(self.earliest()).map_or(0, |(late, earliest)| late - earliest);
        late.max(0) as f64 / (TICK_MILLIS as f64 * 1_000.0)
    }

    /// Takes note of a round trip, without the time that either side let it wait.
    pub(crate) fn round_trip(&mut self, trip: Duration) {
        self.trips.push(trip);
        // The eighth of RFC 6298.
        self.smoothed = Some(self.smoothed.map_or(trip, |smoothed| (smoothed * 7 + trip) / 8));
    }

    /// The round trip, smoothed. `None` until one was measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The tick that it is at the server now, with a fraction: at time `now` of the clock that [`Connection::set_now`] is given.
    /// `None` until the first packet came.
    ///
    /// [`Connection::set_now`]: super::Connection::set_now
    pub fn server_tick(&self, now: Duration) -> Option<f64> {
        let on_the_way = self.trips.least().unwrap_or_default().as_micros() as i64 / 2;
        Some(self.arriving_tick(now)? + self.speed.ratio() * on_the_way as f64 / (TICK_MILLIS as f64 * 1_000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_is_known_to_half_of_one_over_a_link_of_a_hundred_milliseconds_that_jitters() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.server_tick(Duration::from_secs(1)), None);
        // 50 ms each way and up to 30 more, from a small generator; the client's clock began 7,123 ms before the room.
        let mut state = 1_u64;
        let mut jitter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Duration::from_millis((state >> 40) % 31)
        };
        let began = Duration::from_millis(7_123);
        let mut worst = 0.0_f64;
        for tick in 1..1_000 {
            let at = began + Duration::from_millis(TICK_MILLIS * tick);
            clock.tick_came(at + Duration::from_millis(50) + jitter(), RoomTick(tick as u32));
            clock.round_trip(Duration::from_millis(100) + jitter() + jitter());
            if tick > 20 {
                worst = worst.max((clock.server_tick(at).unwrap() - tick as f64).abs());
            }
        }
        assert!(worst < 0.5, "{worst} ticks");
        // The mean is 130.
        let trip = clock.rtt().unwrap();
        assert!((Duration::from_millis(115)..Duration::from_millis(145)).contains(&trip), "{trip:?}");
    }

    #[test]
    fn the_round_trip_follows_a_way_that_got_longer_and_not_one_packet() {
        let (mut clock, millis) = (ServerClock::default(), Duration::from_millis);
        assert_eq!(clock.rtt(), None);
        clock.round_trip(millis(80));
        assert_eq!(clock.rtt(), Some(millis(80)));
        clock.round_trip(millis(880));
        assert_eq!(clock.rtt(), Some(millis(180)), "seven eighths of 80, one of 880");
        (0..40).for_each(|_| clock.round_trip(millis(300)));
        let trip = clock.rtt().unwrap();
        assert!(trip.abs_diff(millis(300)) < millis(5), "{trip:?}");
    }

    #[test]
    fn a_room_that_goes_slower_or_faster_or_stands_still_is_followed_without_a_jump() {
        let (mut clock, way) = (ServerClock::default(), Duration::from_millis(40));
        let (mut at, mut tick) = (Duration::from_secs(3), 0);
        let mut worst = 0.0_f64;
        for (speed, ticks) in [(100, 50), (25, 20), (400, 200), (0, 0), (0, 5), (100, 100)] {
            let speed = Speed::hundredths(speed).unwrap();
            clock.set_speed(at + way, speed);
            if speed.is_still() {
                // A while in which nothing happens; then single steps.
                at += Duration::from_secs(20);
                assert!((clock.server_tick(at + way).unwrap() - f64::from(tick)).abs() < 0.01);
            }
            for _ in 0..ticks {
                let step = Duration::from_millis(TICK_MILLIS).as_secs_f64() / if speed.is_still() { 1.0 } else { speed.ratio() };
                at += Duration::from_secs_f64(step);
                tick += 1;
                clock.tick_came(at + way, RoomTick(tick));
                clock.round_trip(way * 2);
                let off = (clock.arriving_tick(at + way).unwrap() - f64::from(tick)).abs();
                let ahead = clock.server_tick(at + way).unwrap() - clock.arriving_tick(at + way).unwrap();
                worst = worst.max(off).max((ahead - 0.8 * speed.ratio()).abs());
            }
        }
        assert!(worst < 0.01, "{worst} ticks");
    }

    #[test]
    fn a_host_that_stood_still_or_is_slow_is_known_to_be_so_within_a_second() {
        let mut clock = ServerClock::default();
        let mut at = Duration::from_secs(5);
        for tick in 1..2_000_u32 {
            at += Duration::from_millis(match tick {
                500 => 1_050,
                1_000..1_500 => 65,
                _ => TICK_MILLIS,
            });
            clock.tick_came(at, RoomTick(tick));
            let off = clock.arriving_tick(at).unwrap() - f64::from(tick);
            let settled = !(500..520).contains(&tick);
            assert!(!settled || (0.0..6.5).contains(&off), "{off} ticks off in {tick}");
        }
        assert!((clock.arriving_tick(at).unwrap() - 1_999.0).abs() < 0.01);
    }
}
