//! What the system says of this process.

use std::time::Duration;

/// What a process takes. What the system does not tell is missing.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) processor: Option<Duration>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) files_max: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            processor: processor(),
            resident_bytes: field("VmRSS:").map(|kilobytes| kilobytes * 1_024),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            files_max: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            threads: field("Threads:"),
        }
    }
}

fn processor() -> Option<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    u64::try_from(micros(usage.user_time()) + micros(usage.system_time())).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_process_takes() {
        let process = Process::look();
        assert!(process.processor.is_some() && process.files_max.is_some_and(|files| files > 0), "{process:?}");
        if cfg!(target_os = "linux") {
            assert!(process.resident_bytes > Some(1_000_000) && process.open_files > Some(2) && process.threads > Some(0), "{process:?}");
        }
    }
}
