//! What the verbs that measure want of the system: files, time, and processes beside this one.

use std::io::Read;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::host::Durations;
use crate::host::process::Process;

/// Files that a process has open besides its clients' sockets.
pub(super) const OTHER_FILES: u64 = 64;

/// Lets the process have as many open files as the system allows it, and those that it starts from then on. Gives how many that are, if
/// the system says.
pub(super) fn raise_files() -> Option<u64> {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        const FILES: Resource = Resource::RLIMIT_NOFILE;
        let _ = getrlimit(FILES).and_then(|(soft, hard)| {
            // Some systems say that there is no limit and then don't take it at its word: what counts is what it is then. macOS refuses it, and
            // takes its OPEN_MAX.
            setrlimit(FILES, hard, hard).or_else(|_| setrlimit(FILES, soft.max(hard.min(10_240)), hard))
        });
    }
    Process::look().files_max
}

#[expect(clippy::disallowed_methods, reason = "verbs play and measure in real time")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

/// Ends a process that ends when its standard input does; after five seconds by force.
pub(super) fn end(process: &mut Child) {
    const PATIENCE: Duration = Duration::from_secs(5);
    drop(process.stdin.take());
    let begun = instant();
    while matches!(process.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    // One that has ended by itself is not harmed by it.
    let _ = process.kill();
    let _ = process.wait();
}

/// A flag that is set when the standard input ends: whoever started this process then needs it no longer, or is gone.
pub(super) fn until_input_ends() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        set.store(true, Ordering::Relaxed);
    });
    stop
}

/// How late a thread wakes up that does nothing but sleep: what the machine adds to whatever is measured on it.
pub(super) fn wake_ups(time: Duration) -> Durations {
    const SLEEP: Duration = Duration::from_millis(5);
    let (mut late, begun) = (Durations::default(), instant());
    while begun.elapsed() < time {
        let due = instant() + SLEEP;
        std::thread::sleep(SLEEP);
        late.record(instant().saturating_duration_since(due));
    }
    late
}
