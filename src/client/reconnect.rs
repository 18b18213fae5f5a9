//! When a connection that broke is tried again: at once, then less and less often, and not for ever.

use std::time::Duration;

/// How long it waits after the first try that failed, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Who has not looked for so long was away: longer than any frame takes.
const AWAY_MIN: Duration = Duration::from_secs(5);

/// A connection that broke.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    since: Duration,
    /// When somebody was there last to try.
    looked: Duration,
    /// Why, as of the last try.
    pub(super) reason: String,
    tried: u32,
    due: Duration,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing yet.
    Wait,
    /// To try.
    Try,
    /// To leave it.
    GiveUp,
}

impl Broken {
    /// It broke now.
    pub(super) fn new(now: Duration, reason: String) -> Self {
        Self { since: now, looked: now, reason, tried: 0, due: now }
    }

    /// Somebody is there to try. To be told more often than once in [`AWAY_MIN`]: what is longer is no time in which anything could be tried, as
    /// where the computer slept, and does not count.
    pub(super) fn look(&mut self, now: Duration) {
        let away = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if away > AWAY_MIN {
            (self.since, self.due) = (self.since.saturating_add(away), now);
        }
    }

    /// How many tries failed.
    pub(super) fn tried(&self) -> u32 {
        self.tried
    }

    /// A try failed, at one of so many hosts. It waits once all of them were tried.
    pub(super) fn failed(&mut self, now: Duration, reason: String, hosts: usize) {
        let hosts = u32::try_from(hosts.max(1)).unwrap_or(u32::MAX);
        self.tried = self.tried.saturating_add(1);
        let (rounds, within) = (self.tried / hosts, self.tried % hosts);
        let pause =
            if within > 0 { Duration::ZERO } else { FIRST_PAUSE.saturating_mul(1 << rounds.saturating_sub(1).min(8)).min(PAUSE_MAX) };
        (self.reason, self.due) = (reason, now.saturating_add(pause));
    }

    /// What is to be done now by somebody who has so much patience.
    pub(super) fn remedy(&self, now: Duration, patience: Duration) -> Remedy {
        if now.saturating_sub(self.since) > patience {
            Remedy::GiveUp
        } else if now >= self.due {
            Remedy::Try
        } else {
            Remedy::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_hosts_all_are_tried_before_it_waits() {
        let now = Duration::from_secs(100);
        let mut broken = Broken::new(now, "cut".to_owned());
        let pauses = [(); 9].map(|()| {
            broken.failed(now, "gone".to_owned(), 3);
            (broken.due - now).as_millis()
        });
        assert_eq!(pauses, [0, 0, 250, 0, 0, 500, 0, 0, 1_000]);
    }

    #[test]
    fn while_the_computer_sleeps_no_patience_is_lost() {
        let patience = Duration::from_secs(60);
        let mut now = Duration::from_secs(100);
        let mut broken = Broken::new(now, "cut".to_owned());
        for _ in 0..30 {
            now += Duration::from_millis(100);
            broken.look(now);
            if broken.remedy(now, patience) == Remedy::Try {
                broken.failed(now, "no network".to_owned(), 1);
            }
        }
        now += Duration::from_secs(9 * 3_600);
        broken.look(now);
        assert_eq!(broken.remedy(now, patience), Remedy::Try, "at once, as if it had just broken");
        for _ in 0..57 {
            now += Duration::from_secs(1);
            broken.look(now);
            assert_ne!(broken.remedy(now, patience), Remedy::GiveUp);
        }
        now += Duration::from_secs(1);
        broken.look(now);
        assert_eq!(broken.remedy(now, patience), Remedy::GiveUp, "with what it had tried for before");
    }

    #[test]
    fn it_is_tried_at_once_then_less_often_and_given_up_in_the_end() {
        let (began, patience) = (Duration::from_secs(100), Duration::from_secs(30));
        let mut broken = Broken::new(began, "cut".to_owned());
        let (mut now, mut tries) = (began, Vec::new());
        loop {
            match broken.remedy(now, patience) {
                Remedy::GiveUp => break,
                Remedy::Try => {
                    tries.push((now - began).as_millis());
                    broken.failed(now, "still".to_owned(), 1);
                }
                Remedy::Wait => {}
            }
            now += Duration::from_millis(10);
        }
        assert_eq!(tries.get(..6), Some(&[0, 250, 750, 1_750, 3_750, 7_750][..]));
        assert_eq!((tries.len(), broken.tried(), broken.reason.as_str()), (11, 11, "still"));
        assert!(now - began > patience && now - began < patience + Duration::from_millis(20));
    }
}
