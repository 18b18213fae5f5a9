//! A terminal of the tests' own: a pseudo-terminal with the real binary in it, and what stands on its screen.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// How often it looks at the screen until something is there, up to a tenth of a second each: then the test fails.
const LOOKS: u32 = 3_000;

/// How long the process says nothing between two frames.
const PAUSE: Duration = Duration::from_millis(10);

/// A process in a terminal.
pub struct Terminal {
    child: Kept,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// It knows the keyboard protocol by which key-ups are told.
    tells_ends: bool,
    /// How the terminal was set before the process.
    before: String,
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    pub fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)], tells_ends: bool) -> Self {
        let pair = native_pty_system().openpty(size(100, 30)).unwrap();
        let before = format!("{:?}", pair.master.get_termios());
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        environment.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (give, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // It ends with the terminal.
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 || give.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        let parser = vt100::Parser::new(NonZeroU16::new(30).unwrap(), NonZeroU16::new(100).unwrap(), 0);
        let keys = pair.master.take_writer().unwrap();
        Self { child: Kept(child), master: pair.master, keys, output, parser, tells_ends, before }
    }

    /// Takes in what the process has written. False if nothing came for so long.
    fn pump(&mut self, wait: Duration) -> bool {
        let bytes = match self.output.recv_timeout(wait) {
            Ok(bytes) => bytes,
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(wait);
                return false;
            }
        };
        self.parser.process(&bytes);
        // What the process asks a terminal: whether it knows the keyboard protocol, and what it is.
        let asks = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        if asks(b"\x1b[?u") && self.tells_ends {
            self.keys("\x1b[?0u");
        }
        if asks(b"\x1b[c") {
            self.keys("\x1b[?62;c");
        }
        true
    }

    pub fn text(&self) -> String {
        self.parser.screen().rows(0, 200).map(|row| format!("{}\n", row.trim_end())).collect()
    }

    /// Waits until the screen is as it should be, and drawn to its end.
    pub fn wait_for(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let shown = self.look(LOOKS, is_so);
        shown.unwrap_or_else(|| panic!("{what}: it never came to that; the screen:\n{}", self.text()))
    }

    /// Looks so many times whether the screen is as it should be, and drawn to its end.
    pub fn look(&mut self, times: u32, is_so: impl Fn(&str) -> bool) -> Option<String> {
        for _ in 0..times {
            if is_so(&self.text()) {
                // A frame may come in pieces.
                for _ in 0..20 {
                    if !self.pump(PAUSE) {
                        break;
                    }
                }
                let text = self.text();
                if is_so(&text) {
                    return Some(text);
                }
            }
            self.pump(Duration::from_millis(100));
        }
        None
    }

    pub fn wait_for_text(&mut self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Presses a key and holds it, as a terminal tells it that knows the keyboard protocol.
    pub fn hold(&mut self, key: char) {
        // A key that does nothing comes up: this terminal tells.
        self.keys("\x1b[109;1:1u\x1b[109;1:3u");
        self.keys(&format!("\x1b[{};1:1u", key as u32));
    }

    pub fn let_go(&mut self, key: char) {
        self.keys(&format!("\x1b[{};1:3u", key as u32));
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.parser.set_size(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
        self.master.resize(size(columns, rows)).unwrap();
    }

    pub fn process(&self) -> u32 {
        self.child.0.process_id().unwrap()
    }

    /// Waits for the end, checks that the terminal is as it was, and returns the exit code.
    pub fn end(&mut self) -> u32 {
        for _ in 0..LOOKS {
            self.pump(Duration::from_millis(100));
            if let Some(status) = self.child.0.try_wait().unwrap() {
                while self.pump(Duration::from_millis(100)) {}
                let screen = self.parser.screen();
                assert!(!screen.alternate_screen(), "the alternate screen is left");
                assert!(!screen.hide_cursor(), "the cursor is back");
                assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None, "the mouse is given back");
                assert_eq!(format!("{:?}", self.master.get_termios()), self.before, "the terminal is set as it was");
                return status.exit_code();
            }
        }
        panic!("it does not end; the screen:\n{}", self.text());
    }

    /// Closes the window, as people do, and waits for the end of the process.
    pub fn close(mut self) {
        // The thread that reads ends with the next bytes, since nobody wants them.
        drop(std::mem::replace(&mut self.output, channel().1));
        self.keys("?");
        let Self { mut child, master, keys, .. } = self;
        drop((master, keys));
        for _ in 0..LOOKS {
            if child.0.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it goes on without a terminal");
    }
}

/// A process that does not outlive the test.
struct Kept(Box<dyn Child + Send + Sync>);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}
