//! Threads that run rooms when they are due, as many as the machine has cores; and some for rooms that take long, so that those harm each other
//! only.

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::clock::instant;
use super::priority::{Priority, give_way};
use super::task::Task;

/// How many threads run the rooms that take long, at least: as many as run the others, to which they give way.
const SLOW_THREADS: usize = 2;

/// How long a thread sleeps at most, so that it notices a stop.
const NAP_MAX: Duration = Duration::from_millis(50);

/// How much longer than until the next room is due those threads wait of which none is needed: one waits for the room. They would all wake up for it.
const ASIDE: Duration = Duration::from_millis(1);

/// How late Windows may wake who waits for a condition until a time: at the next step of its clock. Who sleeps it wakes within a millisecond.
const CLOCK_STEP: Duration = Duration::from_millis(16);

/// How long is slept at once where that matters: a stop, and a room that is due sooner, are seen in between.
const DOZE: Duration = Duration::from_millis(2);

/// A room, and when it is due. The one that waits longest comes first.
struct Due(Duration, u64, Box<Task>);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Order {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Rooms that wait for their time, and whether a thread waits for the first of them.
#[derive(Default)]
struct Waiting {
    rooms: BinaryHeap<Reverse<Due>>,
    is_awaited: bool,
}

impl Waiting {
    fn first(&self) -> Option<Duration> {
        self.rooms.peek().map(|first| first.0.0)
    }
}

/// Rooms that wait for their time, and threads that wait for rooms.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the thread that waits for the first room: another one is due before.
    sooner: Condvar,
    /// Wakes one of the others: there is more to do.
    more: Condvar,
}

impl Queue {
    fn push(&self, due: Due) {
        let mut waiting = self.waiting();
        let is_first = waiting.first().is_none_or(|first| due.0 < first);
        waiting.rooms.push(Reverse(due));
        let is_awaited = waiting.is_awaited;
        drop(waiting);
        if is_first {
            if is_awaited { &self.sooner } else { &self.more }.notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the threads share.
struct Shared {
    quick: Queue,
    slow: Queue,
    stop: AtomicBool,
    started: Instant,
    /// Who is to hear that a room has ended.
    reader: Mutex<Option<Thread>>,
}

/// Runs rooms. It ends when it is dropped; what is then left of the rooms ends with it.
pub(super) struct Scheduler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    numbers: u64,
}

impl Scheduler {
    /// Starts `threads` threads.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let (quick, slow, reader) = Default::default();
        let shared = Arc::new(Shared { quick, slow, stop: AtomicBool::new(false), started: instant(), reader });
        let mut scheduler = Self { shared: Arc::clone(&shared), threads: Vec::new(), numbers: 0 };
        let quick = (0..threads.max(1)).map(|number| (format!("rooms-{number}"), true));
        let slow = (0..threads.max(SLOW_THREADS)).map(|number| (format!("slow-rooms-{number}"), false));
        for (name, is_quick) in quick.chain(slow) {
            let shared = Arc::clone(&shared);
            let work = move || {
                if !is_quick {
                    give_way(Priority::Aside);
                }
                work(&shared, if is_quick { &shared.quick } else { &shared.slow });
            };
            scheduler.threads.push(std::thread::Builder::new().name(name).spawn(work)?);
        }
        Ok(scheduler)
    }

    /// The time since it started.
    pub(super) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Wakes a thread whenever a room has ended.
    pub(super) fn wake(&self, reader: &Thread) {
        *self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader.clone());
    }

    /// Takes a room over.
    pub(super) fn add(&mut self, task: Task) {
        self.numbers += 1;
        self.shared.quick.push(Due(task.due(), self.numbers, Box::new(task)));
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for queue in [&self.shared.quick, &self.shared.slow] {
            queue.sooner.notify_all();
            queue.more.notify_all();
        }
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, queue: &Queue) {
    while let Some(Due(_, number, mut task)) = next(shared, queue) {
        let ran = catch_unwind(AssertUnwindSafe(|| task.run(|| shared.started.elapsed())));
        let failed = ran.is_err();
        if failed {
            tracing::error!(room = task.berth.name, "the host failed at a room, which is lost; the others go on");
        }
        if ran.unwrap_or(false) {
            let queue = if task.is_slow { &shared.slow } else { &shared.quick };
            queue.push(Due(task.due(), number, task));
        } else {
            if failed {
                task.lost();
            }
            shared.reader.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Thread::unpark);
        }
    }
}

/// Waits for the next room that is due. Nothing once all is to stop.
fn next(shared: &Shared, queue: &Queue) -> Option<Due> {
    let mut waiting = queue.waiting();
    // Whether it is this thread that waits for the first room.
    let mut awaits = false;
    loop {
        let now = shared.started.elapsed();
        let left = waiting.first().map_or(NAP_MAX, |first| first.saturating_sub(now));
        let stops = shared.stop.load(Ordering::Acquire);
        if stops || (left.is_zero() && !waiting.rooms.is_empty()) {
            waiting.is_awaited &= !awaits;
            let due = if stops { None } else { waiting.rooms.pop().map(|due| due.0) };
            // Whoever waits for the first room takes it in time. If nobody does, this thread would have to be back before the room is due.
            let back = match &due {
                Some(due) if !waiting.is_awaited => now + due.2.takes(),
                _ => now,
            };
            let is_more = waiting.first().is_some_and(|first| first <= back);
            drop(waiting);
            if is_more {
                queue.more.notify_one();
            }
            return due;
        }
        awaits |= !waiting.is_awaited;
        waiting.is_awaited = true;
        let (condition, mut wait) = if awaits { (&queue.sooner, left) } else { (&queue.more, left + ASIDE) };
        if cfg!(windows) && awaits {
            if left < 2 * CLOCK_STEP {
                drop(waiting);
                std::thread::sleep(left.min(DOZE));
                waiting = queue.waiting();
                continue;
            }
            // It is back in time to sleep the rest.
            wait -= CLOCK_STEP;
        }
        let waited = condition.wait_timeout(waiting, wait.min(NAP_MAX));
        waiting = waited.map_or_else(|error| error.into_inner().0, |(waiting, _)| waiting);
    }
}
