//! The real server, as a process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server process, and what it said when it started. It ends with its test.
pub struct Server {
    pub process: Child,
    pub address: SocketAddr,
    #[cfg_attr(not(unix), expect(dead_code, reason = "what only `crash` asks"))]
    pub went_on_at: Option<u32>,
    #[cfg_attr(not(unix), expect(dead_code, reason = "what only `crash` asks"))]
    pub found: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a server, that keeps its rooms in a folder if one is given.
#[expect(clippy::zombie_processes, reason = "where it does not wait, the test fails")]
pub fn serve(data: Option<&Path>) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    command.args(["serve", "--bind", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    let mut process = command.spawn().unwrap();
    let (mut went_on_at, mut found) = (None, Vec::new());
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, tick)) = line.split_once(", tick ") {
            went_on_at = Some(tick.parse().unwrap());
        } else if let Some((_, address)) = line.split_once(" on udp ") {
            return Server { process, address: address.parse().unwrap(), went_on_at, found };
        } else {
            found.push(line);
        }
    }
    panic!("the server did not start: {found:?}");
}
