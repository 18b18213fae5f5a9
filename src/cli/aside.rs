//! What would be written to stderr while a screen is up: it waits until the screen is gone, or it would tear it.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard};

/// Of what waits no more than this is kept.
const WAITING_BYTES_MAX: usize = 256 * 1_024;

/// What waits; nothing while no screen is up.
static WAITING: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn waiting() -> MutexGuard<'static, Option<Vec<u8>>> {
    // Who panicked with it left whole bytes.
    WAITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Lets bytes wait, if that is not too much. False if nothing has to.
fn keep(bytes: &[u8], max: usize) -> bool {
    let mut waiting = waiting();
    let Some(waiting) = waiting.as_mut() else { return false };
    if waiting.len().saturating_add(bytes.len()) <= max {
        waiting.extend_from_slice(bytes);
    }
    true
}

/// Lets everything wait from now on, unless stderr goes elsewhere than to the terminal.
#[cfg(feature = "terminal")]
pub(super) fn hold() {
    use std::sync::Once;
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Not the hook before: it would write to the terminal.
            if !keep(format!("{panic}\n").as_bytes(), usize::MAX) {
                before(panic);
            }
        }));
    });
    if std::io::stderr().is_terminal() {
        *waiting() = Some(Vec::new());
    }
}

/// Writes what has waited.
#[cfg(feature = "terminal")]
pub(super) fn release() {
    let waited = waiting().take();
    let _ = std::io::stderr().write_all(&waited.unwrap_or_default());
}

/// The way to stderr: at once, or once there is no screen any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aside;

impl Aside {
    /// True if what is written may have colours.
    pub(super) fn has_colours() -> bool {
        std::io::stderr().is_terminal()
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !keep(bytes, WAITING_BYTES_MAX) {
            std::io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
