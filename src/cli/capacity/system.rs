//! What the system says of this process.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::host::Durations;

/// Lets the process have as many open files as the system allows it, and those that it starts from then on. Gives how many that are, if
/// there is a limit.
#[cfg(unix)]
pub(in crate::cli) fn raise_files() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // Some systems say that there is no limit and then don't take it at its word.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Some(if raised { hard } else { soft })
}

#[cfg(not(unix))]
pub(in crate::cli) fn raise_files() -> Option<u64> {
    None
}

/// The time that this process has had of the processor, all its threads together.
#[cfg(unix)]
pub(in crate::cli) fn cpu_time() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0)) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    Some(duration(usage.user_time()) + duration(usage.system_time()))
}

#[cfg(not(unix))]
pub(in crate::cli) fn cpu_time() -> Option<Duration> {
    None
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
pub(in crate::cli) fn instant() -> Instant {
    Instant::now()
}

/// Ends a process that ends when its standard input does; after five seconds by force.
pub(in crate::cli) fn end(process: &mut Child) {
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
