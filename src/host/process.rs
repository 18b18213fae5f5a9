//! What the system says of this process: for who watches a host, and for who measures one.

use std::time::Duration;

/// What a process takes. What the system does not tell is missing.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// See [`processor`].
    pub(crate) processor: Option<Duration>,
    /// Its memory that is in the machine's.
    pub(crate) resident_bytes: Option<u64>,
    /// Files, sockets and whatever else it has open.
    pub(crate) open_files: Option<u64>,
    /// How many it may have open.
    pub(crate) files_max: Option<u64>,
    pub(crate) threads: Option<u64>,
}

impl Process {
    /// What it takes now. Goes through all that it has open: not to be asked often.
    pub(crate) fn look() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The folder that is read here is one of them.
        let open_files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64);
        Self {
            processor: processor(),
            resident_bytes: field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1_024),
            open_files,
            files_max: files_max(),
            threads: field(&status, "Threads:"),
        }
    }
}

/// The number in a line of a process's status.
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The time that this process has had of the processor, all its threads together. One call: cheap enough to be asked often.
#[cfg(unix)]
pub(crate) fn processor() -> Option<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    // Systems differ in the types of the two numbers.
    let span = |time: nix::sys::time::TimeVal| {
        let (seconds, micros) = (u64::try_from(time.tv_sec()).ok()?, u64::try_from(time.tv_usec()).ok()?);
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    };
    Some(span(usage.user_time())? + span(usage.system_time())?)
}

#[cfg(not(unix))]
pub(crate) fn processor() -> Option<Duration> {
    None
}

#[cfg(unix)]
fn files_max() -> Option<u64> {
    // Systems differ in its type: on FreeBSD it has a sign.
    let limits = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok();
    limits.and_then(|(soft, _)| u64::try_from(i128::from(soft)).ok())
}

#[cfg(not(unix))]
fn files_max() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_process_takes() {
        let process = Process::look();
        if cfg!(unix) {
            assert!(process.processor.is_some() && process.files_max.is_some_and(|files| files > 0), "{process:?}");
        }
        if cfg!(target_os = "linux") {
            assert!(process.resident_bytes > Some(1_000_000) && process.open_files > Some(2) && process.threads > Some(0), "{process:?}");
        }
    }

    #[test]
    fn a_number_is_read_from_its_own_line_and_one_that_is_not_there_is_missing() {
        let status = "Name:\tgame\nVmRSS:\t  2048 kB\nThreads:\t7\n";
        assert_eq!((field(status, "VmRSS:"), field(status, "Threads:")), (Some(2_048), Some(7)));
        assert_eq!((field(status, "VmSwap:"), field(status, "Name:")), (None, None));
    }
}
