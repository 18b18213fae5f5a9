//! Threads that run rooms when they are due, as many as the machine has cores; and some for rooms that take long, so that those harm each other
//! only.

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::clock::instant;
use super::priority::{Priority, give_way};
use super::task::Task;

/// How many threads run the rooms that take long.
const SLOW_THREADS: usize = 2;

/// How long a thread sleeps at most, so that it notices a stop.
const NAP_MAX: Duration = Duration::from_millis(50);

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

/// Rooms that wait for their time.
#[derive(Default)]
struct Queue {
    rooms: Mutex<BinaryHeap<Reverse<Due>>>,
    sooner: Condvar,
}

impl Queue {
    fn push(&self, due: Due) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = rooms.peek().is_none_or(|first| due.0 < first.0.0);
        rooms.push(Reverse(due));
        drop(rooms);
        if is_first {
            self.sooner.notify_one();
        }
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
        let slow = (0..SLOW_THREADS).map(|number| (format!("slow-rooms-{number}"), false));
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
        self.shared.quick.sooner.notify_all();
        self.shared.slow.sooner.notify_all();
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
    let mut rooms = queue.rooms.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if shared.stop.load(Ordering::Acquire) {
            return None;
        }
        let now = shared.started.elapsed();
        let wait = rooms.peek().map_or(NAP_MAX, |first| first.0.0.saturating_sub(now));
        if wait.is_zero() && !rooms.is_empty() {
            let due = rooms.pop().map(|due| due.0);
            // Another one waits for what is due after this one.
            drop(rooms);
            queue.sooner.notify_one();
            return due;
        }
        let waited = queue.sooner.wait_timeout(rooms, wait.min(NAP_MAX));
        rooms = waited.map_or_else(|error| error.into_inner().0, |(rooms, _)| rooms);
    }
}
