//! What verbs put out, and whether it arrives.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::options::CliError;

/// Why a line could not be printed, the first time.
static UNSAID: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Set once whoever read what is printed has closed its end.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// Prints a line. That its reader [closed its end](is_heard) stops nothing by itself; what else keeps it from being written is [kept](unsaid).
pub(super) fn say(line: &str) {
    let written = writeln!(std::io::stdout().lock(), "{line}");
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => UNHEARD.store(true, Ordering::Relaxed),
        Err(error) => {
            UNSAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        Ok(()) => {}
    }
}

/// False once nobody reads any more what is printed, after `head` for instance: a verb that goes on only to print ends then.
pub(super) fn is_heard() -> bool {
    !UNHEARD.load(Ordering::Relaxed)
}

/// An error if something was not printed since this was asked before: what a verb put out, into a file perhaps, is not whole then.
pub(super) fn unsaid() -> Result<(), CliError> {
    let error = UNSAID.lock().unwrap_or_else(PoisonError::into_inner).take();
    error.map_or(Ok(()), |error| Err(CliError::Io { what: "what was put out is not whole".to_owned(), error }))
}

/// A tick as minutes and seconds of room time.
pub(super) fn room_time(tick: u32) -> String {
    let tenths = tick / 2;
    format!("{:02}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}
