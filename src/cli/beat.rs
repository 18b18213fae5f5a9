//! The beat by which many clients in one process take turns, so that they don't all speak at once, and by which they come.

use std::time::{Duration, Instant};

use super::system::instant;

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(1);

/// In so many beats who plays has its turn once: about once a tick.
pub(super) const TICK_BEATS: usize = 50;

/// In so many beats who looks about as often as a game draws has its turn once.
pub(super) const FRAME_BEATS: usize = 10;

/// In so many beats one client connects: half of the requests that a host looks at.
const CONNECT_BEATS: usize = 4;

/// The same where only those connect whose turn it is: two thirds of the requests. It has no factor in common with the beats between two turns, so that each
/// client's turn is at some time one at which it may.
const TURN_CONNECT_BEATS: u32 = 3;

/// How long it takes at most until so many clients have all begun to connect, each of which does so when it is its turn.
pub(super) fn arrival_of(clients: u32) -> Duration {
    // The last of them may have to wait for their turn.
    BEAT * TURN_CONNECT_BEATS * clients.next_multiple_of(TICK_BEATS as u32)
}

/// Where the beat of a process is.
#[derive(Debug)]
pub(super) struct Beat {
    number: usize,
    next: Instant,
    /// In so many beats one client connects.
    connect_beats: usize,
    /// The first beat at which one more client may connect.
    lets_in_from: usize,
}

impl Beat {
    pub(super) fn begin() -> Self {
        Self { number: 0, next: instant(), connect_beats: CONNECT_BEATS, lets_in_from: 0 }
    }

    /// One by which those connect whose turn it is.
    pub(super) fn begin_by_turns() -> Self {
        Self { connect_beats: TURN_CONNECT_BEATS as usize, ..Self::begin() }
    }

    /// Those whose turn it is, if each has one in so many beats.
    pub(super) fn turns<'c, T>(&self, clients: &'c mut [T], beats: usize) -> impl Iterator<Item = &'c mut T> + use<'c, T> {
        clients.iter_mut().skip(self.number % beats).step_by(beats)
    }

    /// True if one more client may connect now, which is then taken to do so.
    pub(super) fn lets_in(&mut self) -> bool {
        let may = self.number >= self.lets_in_from;
        if may {
            self.lets_in_from = self.number + self.connect_beats;
        }
        may
    }

    /// Waits for the next beat. What is missed is missed: a process that can't keep up makes no bursts of it.
    pub(super) fn wait(&mut self) {
        self.pass(instant());
        std::thread::sleep(self.next.saturating_duration_since(instant()));
    }

    fn pass(&mut self, now: Instant) {
        self.number += 1;
        self.next = (self.next + BEAT).max(now.checked_sub(BEAT).unwrap_or(self.next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets beats pass on time.
    fn pass(mut beat: Beat, count: u32, mut at_each: impl FnMut(&mut Beat)) -> Beat {
        let begun = instant();
        for number in 1..=count {
            at_each(&mut beat);
            beat.pass(begun + BEAT * number);
        }
        beat
    }

    fn beats(count: u32, at_each: impl FnMut(&mut Beat)) -> Beat {
        pass(Beat::begin(), count, at_each)
    }

    #[test]
    fn each_has_its_turn_once_in_so_many_beats_however_many_there_are() {
        for clients in [1, 7, 50, 233] {
            let mut turns = vec![0; clients];
            beats(150, |beat| beat.turns(&mut turns, TICK_BEATS).for_each(|turn| *turn += 1));
            assert!(turns.iter().all(|turn| *turn == 3), "{turns:?}");
        }
    }

    #[test]
    fn at_no_beat_more_have_their_turn_than_must() {
        let mut turns = vec![0; 233];
        beats(100, |beat| assert!(beat.turns(&mut turns, FRAME_BEATS).count() <= 24));
    }

    #[test]
    fn clients_come_one_after_the_other_however_many_want_to_and_whoever_is_there_first() {
        let mut came = Vec::new();
        let mut number = 0;
        beats(400, |beat| {
            number += 1;
            // Those whose turn it is want to: another one at each beat.
            came.extend([beat.lets_in(), beat.lets_in()].into_iter().filter(|may| *may).map(|_| number));
        });
        assert_eq!(came.len(), 100);
        assert!(came.windows(2).all(|pair| pair[1] - pair[0] == 4), "{came:?}");
        // Who comes while nobody else does comes at once.
        let mut quiet = beats(50, |_| {});
        assert_eq!([quiet.lets_in(), quiet.lets_in()], [true, false]);
    }

    #[test]
    fn whoever_wants_to_come_is_let_in_once_at_its_turn_however_many_others_want_to() {
        for clients in [1, 2, 7, 33, 50, 60, 233] {
            for turn_beats in [FRAME_BEATS, TICK_BEATS] {
                let mut is_in = vec![false; clients];
                let longest = arrival_of(clients as u32).as_millis() as u32;
                pass(Beat::begin_by_turns(), longest, |beat| {
                    for is_in in beat.turns(&mut is_in, turn_beats) {
                        *is_in = *is_in || beat.lets_in();
                    }
                });
                assert!(is_in.iter().all(|is_in| *is_in), "{clients} with a turn in {turn_beats} beats: {is_in:?}");
            }
        }
        assert_eq!(arrival_of(100), BEAT * 300);
    }

    #[test]
    fn a_process_that_was_held_up_makes_no_burst_of_what_it_missed() {
        let mut beat = beats(10, |_| {});
        let late = beat.next + Duration::from_secs(3);
        beat.pass(late);
        assert_eq!(beat.next, late - BEAT);
        beat.pass(late);
        beat.pass(late);
        assert_eq!(beat.next, late + BEAT, "one beat at most comes at once");
    }
}
