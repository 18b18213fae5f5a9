//! The real server, as somebody runs it whose projections are elsewhere.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::server::{PATIENCE, Server};
use super::{Folder, WINDOW, ledgers_in, stream_is_ledger};

pub fn inferno() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOMKEEPER_")) {
        command.env_remove(name);
    }
    command
}

/// A process and what it says, on both outputs. It ends with its test.
pub struct Process {
    pub child: Child,
    said: Receiver<String>,
    pub heard: Vec<String>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, said) = channel();
        let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let say_errors = say.clone();
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).try_for_each(|line| say_errors.send(line)));
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
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let line = self.heard.iter().find(|line| line.contains(wanted)).unwrap();
        line.split_once(wanted).unwrap().1.to_owned()
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.heard);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with two rooms, players in them, and a way to look into it.
struct Served {
    server: Process,
    players: Vec<Process>,
    admin: SocketAddr,
}

impl Served {
    fn start(folder: &Folder, nats: &Server) -> Self {
        let mut command = inferno();
        command.args(["serve", "--bind", "127.0.0.1:0", "--also", "north", "--admin", "127.0.0.1:0", "--nats", &nats.url()]);
        let mut server = Process::start(command.arg("--data").arg(&folder.0));
        let address = server.until(" on udp ");
        let admin = server.until("look into it at http://").parse().unwrap();
        let players = [("ann", "main"), ("bob", "main"), ("cem", "north")];
        let player = |(name, room)| Process::start(inferno().args(["bot", "--server", &address, "--name", name, "--room", room]));
        let mut players: Vec<Process> = players.map(player).into();
        players.iter_mut().for_each(|player| drop(player.until("in the room")));
        Self { server, players, admin }
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("roomkeeper_"));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    fn metric(&self, name: &str) -> f64 {
        self.metrics()[&format!("roomkeeper_{name}")]
    }

    fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:?} {:?}", self.metrics(), self.server.heard);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Lets the rooms tick for a second and more.
    fn ticks_on(&self) {
        for room in ["main", "north"] {
            let name = format!("room_tick{{room=\"{room}\"}}");
            let tick = self.metric(&name);
            self.until("rooms tick on", |served| served.metric(&name) >= tick + 30.0);
        }
    }
}

#[test]
fn a_served_match_is_published_once_whatever_happens_to_nats_and_to_the_server() {
    let Some(mut nats) = Server::start() else { return };
    nats.make_stream(WINDOW);
    nats.kill();
    let folder = Folder::new("served");
    let mut served = Served::start(&folder, &nats);
    served.ticks_on();
    served.until("facts wait", |served| served.metric("nats_waiting") > 0.0);
    assert_eq!((served.metric("nats_connected"), served.metric("nats_published_total")), (0.0, 0.0));
    assert_eq!(served.server.hears("facts can't be published"), 1, "it is said once: {:#?}", served.server.heard);
    nats.run();
    served.until("they are published", |served| served.metric("nats_connected") == 1.0 && served.metric("nats_published_total") > 0.0);
    // Killed, and there again.
    nats.kill();
    served.until("it is noticed", |served| served.metric("nats_connected") == 0.0);
    served.ticks_on();
    nats.run();
    served.until("they are published again", |served| served.metric("nats_connected") == 1.0);
    served.ticks_on();
    // The server is killed in the middle of it, and starts again on what it kept, when no id is remembered any more.
    served.players.clear();
    served.server.kill();
    std::thread::sleep(WINDOW * 5);
    let served = Served::start(&folder, &nats);
    served.ticks_on();
    served.until("it has caught up", |served| served.metric("nats_connected") == 1.0 && served.metric("nats_waiting") < 20.0);
    assert_eq!((served.metric("nats_missing_total"), served.metric("nats_rooms_refused")), (0.0, 0.0));
    let Served { server, players, .. } = served;
    drop(players);
    // What happens last is published before it ends.
    server.stop();
    let facts = stream_is_ledger(&nats, &ledgers_in(&folder.0, &["main", "north"]));
    assert!(facts > 20);
    eprintln!("{facts} facts of two rooms, once each, over two outages of NATS and a SIGKILL of the server");
}

#[test]
fn the_manual_names_exactly_the_metrics_that_are_exported() {
    let Some(nats) = Server::new() else { return };
    let folder = Folder::new("manual");
    let served = Served::start(&folder, &nats);
    let mut exported: Vec<String> = served.metrics().into_keys().filter(|name| name.starts_with("roomkeeper_nats")).collect();
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/nats.md")).unwrap();
    let mut named: Vec<String> = manual
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `roomkeeper")?.split_once('`')?.0))
        .map(|name| format!("roomkeeper{name}"))
        .collect();
    exported.sort();
    named.sort();
    assert_eq!(named, exported);
}

#[test]
fn what_is_wrong_with_it_is_said_at_the_start() {
    let folder = Folder::new("wrong");
    let data = folder.0.to_str().unwrap().to_owned();
    let creds = folder.0.join("none.creds").to_str().unwrap().to_owned();
    let credentials = format!("nats.credentials={creds}");
    for (arguments, wanted) in [
        (
            vec!["--nats", "nats://127.0.0.1:4222"],
            "nats.url: what is published is what is kept, so a folder is wanted, by --data or store.data",
        ),
        (vec!["--data", &data, "--nats", "http://127.0.0.1"], "an address as \"nats://host:4222\" or \"tls://host:4222\""),
        (vec!["--data", &data, "--nats", "nats://ann:secret@127.0.0.1:port"], "nats: NATS server URL is invalid"),
        (
            vec!["--data", &data, "--nats", "nats://127.0.0.1", "--set", "nats.prefix=a.>"],
            "nats.prefix = \"a.>\": the beginning of subjects",
        ),
        (vec!["--data", &data, "--nats", "nats://127.0.0.1", "--set", "nats.stream=a.b"], "nats.stream = \"a.b\": a name of letters"),
        (vec!["--data", &data, "--nats", "nats://127.0.0.1", "--set", &credentials], "none.creds: No such file"),
    ] {
        let output = inferno().args(["serve", "--bind", "127.0.0.1:0"]).args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted) && !said.contains("secret"), "{arguments:?}: {said}");
    }
}
