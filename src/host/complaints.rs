//! What rooms complain of. On a machine that is overloaded each of thousands could say some times a second that it is late: the first complaint is told at
//! once, what follows is told together. Counters count each.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use super::berth::lock;
use super::pacer::Due;

/// For how long complaints of a kind are gathered after one was told.
const GATHERED_FOR: Duration = Duration::from_secs(10);

/// Complaints of one kind. The time comes in: what is told follows from what happened when.
#[derive(Debug, Default)]
struct Gathered {
    /// Until when they are gathered; if it is over and nothing was, the next one is told at once.
    until: Option<Duration>,
    rooms: BTreeSet<String>,
    times: u64,
    skipped: u64,
    /// How bad the worst was, and whose.
    worst: Option<(Duration, String)>,
}

/// What was gathered.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    /// How many rooms complained.
    rooms: usize,
    /// How often, all of them together.
    times: u64,
    /// How many ticks were skipped.
    skipped: u64,
    /// The room that had it worst.
    worst: String,
    /// How bad that was.
    most: Duration,
}

impl Gathered {
    /// Takes a complaint. True if it is to be told by itself, at once.
    fn add(&mut self, room: &str, bad: Duration, skipped: u64, now: Duration) -> bool {
        let is_over = self.until.is_none_or(|until| now >= until);
        if is_over && self.times == 0 {
            self.until = Some(now.saturating_add(GATHERED_FOR));
            return true;
        }
        if !self.rooms.contains(room) {
            self.rooms.insert(room.to_owned());
        }
        self.times += 1;
        self.skipped = self.skipped.saturating_add(skipped);
        if self.worst.as_ref().is_none_or(|(most, _)| bad > *most) {
            self.worst = Some((bad, room.to_owned()));
        }
        false
    }

    /// Gives what was gathered, once it is time to tell it. What comes after that is gathered in turn.
    fn take(&mut self, now: Duration) -> Option<Sum> {
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        let (most, worst) = self.worst.take()?;
        let (rooms, times, skipped) =
            (std::mem::take(&mut self.rooms).len(), std::mem::take(&mut self.times), std::mem::take(&mut self.skipped));
        self.until = Some(now.saturating_add(GATHERED_FOR));
        Some(Sum { rooms, times, skipped, worst, most })
    }
}

/// What the rooms of a host complain of, on whichever threads they run.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    behind: Mutex<Gathered>,
    slow: Mutex<Gathered>,
}

impl Complaints {
    /// A room was run so late that it skipped ticks.
    pub(super) fn fell_behind(&self, room: &str, due: Due, now: Duration) {
        let is_first = lock(&self.behind).add(room, due.late, due.skipped, now);
        if is_first {
            tracing::warn!(room, skipped = due.skipped, late = ?due.late, "a room fell behind; its time stood still");
        }
    }

    /// A room takes so long that it is run apart.
    pub(super) fn takes_long(&self, room: &str, busy: Duration, now: Duration) {
        let is_first = lock(&self.slow).add(room, busy, 0, now);
        if is_first {
            tracing::warn!(room, ?busy, "a room takes long; it is run apart from the others");
        }
    }

    /// Tells what was gathered, if it is time to.
    pub(super) fn tell(&self, now: Duration) {
        let behind = lock(&self.behind).take(now);
        if let Some(Sum { rooms, times, skipped, worst, most }) = behind {
            tracing::warn!(rooms, times, skipped, worst, late = ?most, "rooms fell behind since that was told; their time stood still");
        }
        let slow = lock(&self.slow).take(now);
        if let Some(Sum { rooms, times, worst, most, .. }) = slow {
            tracing::warn!(rooms, times, worst, busy = ?most, "rooms take long since that was told; they are run apart from the others");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::host::berth::Berth;
    use crate::host::gateway::Outlet;
    use crate::host::limits::HostLimits;
    use crate::host::lobby::Lobby;
    use crate::host::logs::tests::Kept;
    use crate::host::pacer::Pacer;
    use crate::host::task::{Gear, Task, Weather};
    use crate::room::{Blueprint, RoomOptions};

    const SECOND: Duration = Duration::from_secs(1);

    /// The complaints that are logged meanwhile, in lines.
    fn logged(what: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        // With one subscriber alone, whichever thread logs from a place first decides for all whether that place is listened to.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        tracing::subscriber::with_default(subscriber, what);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("host::complaints")).map(str::to_owned).collect()
    }

    /// Rooms in which nothing happens, each to be run by itself, from the beginning on.
    fn rooms(many: usize, weather: &Arc<Weather>) -> Vec<Task> {
        let blueprint = Blueprint::new(|_| {}, |_| {});
        let open = |nth: usize| {
            let name = format!("room{nth}");
            let mut lobby = Lobby::new(HostLimits::default(), false);
            lobby.open_room(&blueprint, RoomOptions::named(&name)).unwrap();
            let (outlet, weather, news) = (Outlet::default(), Arc::clone(weather), channel().0);
            let gear = Gear { outlet, kept: None, token: None, past: None, weather, on_tick: None, news };
            Task::new(Berth::new(&name), lobby, Pacer::new(Duration::ZERO, Duration::ZERO), gear)
        };
        (0..many).map(open).collect()
    }

    #[test]
    fn rooms_that_fall_behind_again_and_again_are_told_in_a_line_each_ten_seconds_and_counted_each() {
        let weather = Arc::<Weather>::default();
        let mut tasks = rooms(40, &weather);
        let lines = logged(|| {
            for now in (1..=30).map(|seconds| SECOND * seconds) {
                tasks.iter_mut().for_each(|task| assert!(task.run(|| now)));
                weather.complaints.tell(now);
            }
        });
        // Each is late by a second each time: of 20 ticks it makes up for four.
        let skipped: u64 = tasks.iter().map(|task| task.berth.status().pace.skipped).sum();
        assert_eq!(skipped, 40 * 30 * 16);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[0].contains("a room fell behind") && lines[0].contains("room0") && lines[0].contains("skipped=16"), "{lines:#?}");
        // All of the first eleven seconds but for the one that was told, then all of ten.
        assert!(lines[1].contains("rooms=40 times=439 skipped=7024") && lines[1].contains("late=950ms"), "{lines:#?}");
        assert!(lines[2].contains("rooms=40 times=400 skipped=6400"), "{lines:#?}");
    }

    #[test]
    fn a_room_that_took_long_once_comes_back_though_it_takes_four_milliseconds() {
        let weather = Arc::<Weather>::default();
        let mut task = rooms(1, &weather).remove(0);
        let clock = Cell::new(Duration::from_millis(50));
        let mut is_slow_after = |takes: u64| {
            let asked = Cell::new(0);
            // The time, then when the tick begins, and when it ends.
            let time = || {
                if asked.replace(asked.get() + 1) == 2 {
                    clock.set(clock.get() + Duration::from_millis(takes));
                }
                clock.get()
            };
            assert!(task.run(time));
            clock.set(task.due());
            task.is_slow
        };
        assert!(is_slow_after(25));
        assert!((0..1_000).any(|_| !is_slow_after(4)));
    }

    #[test]
    fn rooms_that_take_long_all_at_once_are_told_in_two_lines() {
        let weather = Arc::<Weather>::default();
        let mut tasks = rooms(40, &weather);
        let clock = Cell::new(SECOND);
        // Whoever asks for the time once more finds it 25 ms later.
        let slow = || {
            clock.set(clock.get() + Duration::from_millis(25));
            clock.get()
        };
        let lines = logged(|| {
            tasks.iter_mut().for_each(|task| assert!(task.run(slow)));
            weather.complaints.tell(Duration::MAX);
        });
        assert!(tasks.iter().all(|task| task.is_slow && task.berth.status().is_slow));
        let lines: Vec<&String> = lines.iter().filter(|line| line.contains("long")).collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("a room takes long") && lines[1].contains("rooms=39 times=39"), "{lines:#?}");
    }

    #[test]
    fn what_was_quiet_for_long_enough_is_told_at_once_again_and_the_worst_is_named() {
        let mut gathered = Gathered::default();
        let millis = Duration::from_millis;
        assert_eq!(gathered.take(SECOND), None);
        assert!(gathered.add("hall", millis(300), 2, SECOND));
        // Nothing followed.
        assert_eq!(gathered.take(SECOND * 11), None);
        assert!(gathered.add("hall", millis(300), 2, SECOND * 11));
        for (room, bad) in [("hall", 200), ("cellar", 900), ("hall", 400), ("attic", 900)] {
            assert!(!gathered.add(room, millis(bad), 3, SECOND * 12));
        }
        assert_eq!(gathered.take(SECOND * 20), None, "it is not time yet");
        let sum = Sum { rooms: 3, times: 4, skipped: 12, worst: "cellar".to_owned(), most: millis(900) };
        // What comes late itself waits for nothing else.
        assert!(!gathered.add("hall", millis(100), 0, SECOND * 30));
        assert_eq!(gathered.take(SECOND * 30), Some(Sum { times: 5, ..sum }));
        assert_eq!(gathered.take(SECOND * 40), None);
        assert!(gathered.add("hall", millis(100), 0, SECOND * 40));
    }
}
