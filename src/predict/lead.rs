//! In which tick the room will decide a command that is sent now.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::limits::TICK_MILLIS;

/// How many answers are remembered.
const SAMPLES: usize = 15;

/// How far ahead of the tick that it is at the server commands are decided: the way there, and the rest of a tick.
///
/// Learned from the answers, as it depends on what the way does to messages, and on when in a tick the game sends: the middle one of the last few,
/// so that one message that was lost and sent again does not count. Until the first answer: half the round trip and half a tick.
#[derive(Debug, Default)]
pub(super) struct Lead {
    samples: VecDeque<f64>,
}

impl Lead {
    /// A command that was sent when it was that tick at the server was decided in `tick`.
    pub(super) fn learn(&mut self, server_tick: f64, tick: u32) {
        self.samples.push_back(f64::from(tick) - server_tick);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// The tick in which a command is decided that is sent when it is that tick at the server.
    pub(super) fn expect(&self, server_tick: f64, rtt: Option<Duration>) -> u32 {
        let mut sorted: Vec<f64> = self.samples.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let way = rtt.unwrap_or_default().as_secs_f64() / 2.0 * 1_000.0 / TICK_MILLIS as f64;
        let ahead = sorted.get(sorted.len() / 2).copied().unwrap_or(way + 0.5);
        // Saturates, whatever the clock says.
        (server_tick + ahead).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_is_learned_from_answers_and_one_that_is_late_does_not_count() {
        let mut lead = Lead::default();
        // Half of 140 ms is 1.4 ticks: what is sent at 10.0 is there at 11.4, and decided in 12.
        assert_eq!(lead.expect(10.0, Some(Duration::from_millis(140))), 12);
        for tick in 0..20_u32 {
            let sent = f64::from(tick) + f64::from(tick % 10) / 10.0;
            // Twice as long on the way as the round trip says.
            let decided = (sent + 2.8).floor() as u32 + 1 + if tick % 7 == 3 { 3 } else { 0 };
            lead.learn(sent, decided);
        }
        assert_eq!(lead.expect(100.0, Some(Duration::from_millis(140))), 103);
        assert_eq!(lead.expect(100.5, Some(Duration::from_millis(140))), 104);
    }
}
