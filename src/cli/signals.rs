//! What signals ask: to stop, to stop at once, and of a server to read its log's settings and its keys again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::options::CliError;
use super::system::instant;

/// With how much between them two signals are no longer one: who closes a terminal may send several.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What is done when it is asked to read its settings again.
pub(super) type Reload = Box<dyn FnMut() + Send>;

/// A flag that Ctrl-C, SIGTERM and SIGHUP set. When one of them comes once more, later, the process ends at once, whatever hangs.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let (set, mut first) = (stop.clone(), None);
    let asked = move || {
        let now = instant();
        if now.duration_since(*first.get_or_insert(now)) > AGAIN_AFTER {
            // As a shell tells of who was interrupted.
            std::process::exit(130);
        }
        set.store(true, Ordering::Relaxed);
    };
    // It fails where it was set before, by an earlier verb in the same process; that one then keeps its own.
    let _ = ctrlc::set_handler(asked);
    stop
}

/// A flag that is set by SIGINT and SIGTERM, and by SIGHUP if there is nothing to read again. After the first the process has so
/// long to end; a second one ends it at once.
#[cfg(unix)]
pub(super) fn watch(within: Duration, mut reload: Option<Reload>) -> Result<Arc<AtomicBool>, CliError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let failed = |error| CliError::Io { what: "the handling of signals".to_owned(), error };
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    let watch = move || {
        for signal in signals.forever() {
            match &mut reload {
                Some(reload) if signal == SIGHUP => reload(),
                _ if set.swap(true, Ordering::Relaxed) => {
                    tracing::warn!(signal, "asked to stop again; it stops at once");
                    // As if nobody had caught it: whoever waits for this process sees what ended it.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                _ => {
                    tracing::info!(signal, ?within, "asked to stop");
                    end_after(within);
                }
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(stop)
}

/// A flag that is set when it is asked to stop. After that the process has so long to end; when it is asked again it ends at once.
#[cfg(not(unix))]
pub(super) fn watch(within: Duration, reload: Option<Reload>) -> Result<Arc<AtomicBool>, CliError> {
    if reload.is_some() {
        tracing::info!("on this system no signal asks for it, so the configuration is read at the start only");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    let asked = move || match set.swap(true, Ordering::Relaxed) {
        true => std::process::exit(1),
        false => end_after(within),
    };
    // It fails where it was set before, by an earlier verb in the same process; that one then keeps its own.
    let _ = ctrlc::set_handler(asked);
    Ok(stop)
}

/// Ends the process if it has not ended by itself by then, whatever hangs. For a server that stops though no signal told it to, as for one that was told.
pub(super) fn end_after(within: Duration) {
    let wait = move || {
        std::thread::sleep(within);
        tracing::error!(?within, "it had not stopped in time; what happened last may not be stored");
        std::process::exit(1);
    };
    if let Err(error) = std::thread::Builder::new().name("stop".to_owned()).spawn(wait) {
        tracing::warn!(%error, "nothing watches over how long the stop takes");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const HANGS: &str = "ROOMKEEPER_TEST_HANGS";

    /// Not a test by itself: what the process does that the next test starts. It hangs, for longer than it may.
    #[test]
    fn a_process_that_hangs() {
        if std::env::var_os(HANGS).is_some() {
            end_after(Duration::from_millis(50));
            std::thread::sleep(Duration::from_secs(30));
        }
    }

    #[test]
    fn a_process_that_is_to_end_ends_though_it_hangs() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cli::signals::tests::a_process_that_hangs"]).env(HANGS, "1");
        assert_eq!(command.output().unwrap().status.code(), Some(1));
    }
}
