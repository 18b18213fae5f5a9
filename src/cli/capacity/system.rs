//! What the system says of this process.

use std::time::Duration;

/// Lets the process have as many open files as the system allows it, and those that it starts from then on. Gives how many that are, if
/// there is a limit.
#[cfg(unix)]
pub(super) fn raise_files() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // Some systems say that there is no limit and then don't take it at its word.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Some(if raised { hard } else { soft })
}

#[cfg(not(unix))]
pub(super) fn raise_files() -> Option<u64> {
    None
}

/// The time that this process has had of the processor, all its threads together.
#[cfg(unix)]
pub(super) fn cpu_time() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0)) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    Some(duration(usage.user_time()) + duration(usage.system_time()))
}

#[cfg(not(unix))]
pub(super) fn cpu_time() -> Option<Duration> {
    None
}
