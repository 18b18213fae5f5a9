//! What a client knows of the server's time: which tick it is there now, and how long a message takes there and back.

use std::time::Duration;

use crate::protocol::RoomTick;
use crate::protocol::limits::TICK_MILLIS;

/// How many samples of each kind are kept: about five seconds of packets.
const SAMPLES: usize = 128;

/// How many measured round trips are kept.
const TRIPS: usize = 32;

/// An estimate of the server's time.
///
/// Each packet tells its tick. How much later than the first tick's time it came is the time it was on the way and a constant; the
/// least of the last seconds is the one that queues and jitter did not delay, after Mills' clock filter (RFC 5905, section 10). Half
/// of the least round trip is what it was on the way.
#[derive(Clone, Debug, Default)]
pub struct ServerClock {
    /// For the last packets: arrival, less the time of the packet's tick, in milliseconds.
    offsets: Ring<i64, SAMPLES>,
    trips: Ring<Duration, TRIPS>,
    smoothed: Option<Duration>,
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
}

impl ServerClock {
    /// Takes note that a packet of a tick arrived. Times are of a clock of the client's own that never goes back.
    pub(crate) fn tick_came(&mut self, now: Duration, tick: RoomTick) {
        self.offsets.push(now.as_micros() as i64 - i64::from(tick.0) * TICK_MILLIS as i64 * 1_000);
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
        let since_tick_zero = now.as_micros() as i64 - self.offsets.least()? + on_the_way;
        Some(since_tick_zero as f64 / (TICK_MILLIS as f64 * 1_000.0))
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
        assert!(clock.rtt().unwrap() < Duration::from_millis(160));
    }
}
