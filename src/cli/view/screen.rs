//! The terminal, taken over for a while, and given back as it was whatever happens.

use std::io::{BufWriter, IsTerminal, Stdout, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{
    DisableFocusChange, DisableMouseCapture, EnableFocusChange, EnableMouseCapture, Event, KeyboardEnhancementFlags,
    PopKeyboardEnhancementFlags, PushKeyboardEnhancementFlags, poll, read,
};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, supports_keyboard_enhancement,
};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::{Position, Rect};

use super::super::aside;
use super::super::options::CliError;

/// Most events that are taken at once: who leans on the keyboard does not keep the screen from being drawn.
const EVENTS_AT_ONCE: usize = 256;

/// How often the thread that reads looks whether it is still wanted, and how long it waits for the rest of what has begun to come.
const LOOK: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_millis(20);

/// The terminal while it is taken over.
pub(super) struct Screen {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    /// What stands on it.
    shown: Buffer,
    /// The terminal was asked to tell when a key comes up.
    asked: bool,
    events: Receiver<std::io::Result<Event>>,
    is_over: Arc<AtomicBool>,
}

fn failed(error: std::io::Error) -> CliError {
    CliError::Io { what: "the terminal".to_owned(), error }
}

/// Says so if there is no terminal to draw in.
pub(super) fn require_terminal(verb: &'static str) -> Result<(), CliError> {
    if stdin().is_terminal() && stdout().is_terminal() { Ok(()) } else { Err(CliError::NoTerminal(verb)) }
}

impl Screen {
    /// Takes the terminal over. It is given back when the screen is dropped, by a panic too.
    pub(super) fn enter() -> Result<Self, CliError> {
        // From here on dropping it undoes all, what was not done too.
        let (give, events) = sync_channel(EVENTS_AT_ONCE);
        let (backend, is_over) = (CrosstermBackend::new(BufWriter::new(stdout())), Arc::new(AtomicBool::new(false)));
        let mut screen = Self { backend, shown: Buffer::default(), asked: false, events, is_over: is_over.clone() };
        aside::hold();
        enable_raw_mode().map_err(failed)?;
        screen.asked = supports_keyboard_enhancement().unwrap_or(false);
        execute!(stdout(), EnterAlternateScreen, EnableMouseCapture, EnableFocusChange, cursor::Hide).map_err(failed)?;
        if screen.asked {
            execute!(stdout(), PushKeyboardEnhancementFlags(KeyboardEnhancementFlags::all())).map_err(failed)?;
        }
        std::thread::spawn(move || read_events(&give, &is_over));
        Ok(screen)
    }

    /// Draws anew, in the size that the terminal has now. Only what differs is written.
    ///
    /// By hand, since ratatui's own terminal asks where the cursor is whenever the size changes, and fails where nobody answers.
    pub(super) fn draw(&mut self, paint: impl FnOnce(Rect, &mut Buffer)) -> Result<(), CliError> {
        let area = Rect::from((Position::ORIGIN, self.backend.size().map_err(failed)?));
        if area != self.shown.area {
            self.backend.clear_region(ClearType::All).map_err(failed)?;
            self.shown = Buffer::empty(area);
        }
        let mut next = Buffer::empty(area);
        paint(area, &mut next);
        self.backend.draw(self.shown.diff(&next).into_iter()).map_err(failed)?;
        self.shown = next;
        Backend::flush(&mut self.backend).map_err(failed)
    }

    /// What happened meanwhile; waits for something, but no longer than that.
    ///
    /// # Errors
    /// If the terminal is gone: nobody is there any more.
    pub(super) fn events(&mut self, wait: Duration) -> Result<Vec<Event>, CliError> {
        let mut events = Vec::new();
        match self.events.recv_timeout(wait) {
            Ok(event) => events.push(event.map_err(failed)?),
            Err(RecvTimeoutError::Timeout) => return Ok(events),
            Err(RecvTimeoutError::Disconnected) => return Err(failed(closed())),
        }
        for event in self.events.try_iter().take(EVENTS_AT_ONCE) {
            events.push(event.map_err(failed)?);
        }
        Ok(events)
    }
}

fn closed() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it was closed")
}

/// Reads what happens at the terminal until the screen is gone, or the terminal is.
///
/// A thread of its own, because the library that reads waits for the rest of what looks like the beginning of a key, and because it looks for
/// more once a terminal has hung up: it is asked only while there is one, and when there is something. Changes of size come late by that; they
/// are seen when it is drawn.
fn read_events(give: &SyncSender<std::io::Result<Event>>, is_over: &AtomicBool) {
    let read_some = || -> std::io::Result<bool> {
        if !is_struck(LOOK)? {
            return Ok(true);
        }
        while poll(REST)? {
            if give.send(Ok(read()?)).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    while !is_over.load(Ordering::Relaxed) {
        match read_some() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return drop(give.send(Err(error))),
        }
    }
}

/// True if something comes from the terminal before the time is over.
#[cfg(unix)]
fn is_struck(wait: Duration) -> std::io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let input = stdin();
    let mut looked_at = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    match poll(&mut looked_at, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
        // A signal came: whoever waits for it looks.
        Err(nix::errno::Errno::EINTR) => return Ok(false),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    let [looked_at] = looked_at;
    let found = looked_at.revents().unwrap_or(PollFlags::empty());
    // On macOS poll(2) takes no terminal that was opened as /dev/tty; the library looks in another way.
    if cfg!(target_vendor = "apple") && found.contains(PollFlags::POLLNVAL) {
        return crossterm::event::poll(wait);
    }
    if found.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
        return Err(closed());
    }
    Ok(found.contains(PollFlags::POLLIN))
}

#[cfg(not(unix))]
fn is_struck(wait: Duration) -> std::io::Result<bool> {
    poll(wait)
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Whoever closed the terminal does not miss it.
        if self.asked {
            let _ = execute!(stdout(), PopKeyboardEnhancementFlags);
        }
        let _ = execute!(stdout(), DisableFocusChange, DisableMouseCapture, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
        aside::release();
    }
}
