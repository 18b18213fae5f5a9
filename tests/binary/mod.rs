//! The demo game's binary, as somebody runs it: without an environment of ours, in a process that ends with its test, in folders that go with it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and works in real time")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test takes what it needs")]

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Whoever waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn inferno() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    without_ours(&mut command);
    command
}

/// Takes what is ours out of the environment of a command.
pub fn without_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOMKEEPER_")) {
        command.env_remove(name);
    }
}

/// A port at which nobody listens, by UDP and by TCP. None of those that the system gives to whoever wants any: no other test has it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let ports = std::iter::repeat_with(|| 20_000 + (std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000);
    let is_free = |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.map(|port| port as u16).find(is_free).unwrap()
}

/// Sends a signal to a process.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Tells the lines of a stream as they come.
pub fn tell_lines(stream: impl Read + Send + 'static, tell: Sender<String>) {
    std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
}

/// A folder of a test's own.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("roomkeeper-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process and what it says, on both outputs.
pub struct Process {
    pub child: Child,
    said: Receiver<String>,
    pub heard: Vec<String>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, said) = channel();
        tell_lines(child.stdout.take().unwrap(), say.clone());
        tell_lines(child.stderr.take().unwrap(), say);
        Self { child, said, heard: Vec::new() }
    }

    /// How many lines so far have something in them.
    pub fn hears(&mut self, wanted: &str) -> usize {
        self.heard.extend(self.said.try_iter());
        self.heard.iter().filter(|line| line.contains(wanted)).count()
    }

    /// What a line says after some words, once there is one.
    pub fn until(&mut self, wanted: &str) -> String {
        let began = Instant::now();
        while self.hears(wanted) == 0 {
            assert!(began.elapsed() < PATIENCE, "no {wanted:?} in {:#?}", self.heard);
            std::thread::sleep(Duration::from_millis(20));
        }
        let line = self.heard.iter().find(|line| line.contains(wanted)).unwrap();
        line.split_once(wanted).unwrap().1.to_owned()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has, which must be in order.
    pub fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.heard);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
