//! The real server, as somebody runs it whose projections are elsewhere.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

use super::binary::{PATIENCE, Process, inferno};
use super::server::Server;
use super::{Folder, WINDOW, ledgers_in, stream_is_ledger};

/// A server with two rooms, players in them, and a way to look into it.
struct Served {
    server: Process,
    players: Vec<Process>,
    admin: SocketAddr,
}

impl Served {
    fn start(folder: &Folder, nats: &Server) -> Self {
        Self::with(folder, nats, inferno())
    }

    fn with(folder: &Folder, nats: &Server, mut command: Command) -> Self {
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

    /// Lets the rooms tick while nothing can be published, which is said once.
    fn waits_for_nats(&mut self) {
        self.ticks_on();
        self.until("facts wait", |served| served.metric("nats_waiting") > 0.0);
        assert_eq!((self.metric("nats_connected"), self.metric("nats_published_total")), (0.0, 0.0));
        assert_eq!(self.server.hears("facts can't be published"), 1, "it is said once: {:#?}", self.server.heard);
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
    served.waits_for_nats();
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
fn a_served_match_is_published_over_tls_and_only_to_a_server_that_is_trusted() {
    let Some(mut nats) = Server::new() else { return };
    let Some(certificate) = nats.encrypt() else { return };
    nats.run();
    nats.make_stream(WINDOW);
    let folder = Folder::new("tls");
    // Nobody whom the system trusts has signed the certificate.
    let mut served = Served::start(&folder, &nats);
    served.waits_for_nats();
    served.players.clear();
    served.server.kill();

    let mut trusting = inferno();
    trusting.env("SSL_CERT_FILE", &certificate);
    let served = Served::with(&folder, &nats, trusting);
    served.until("they are published", |served| served.metric("nats_connected") == 1.0 && served.metric("nats_waiting") < 20.0);
    let Served { server, players, .. } = served;
    drop(players);
    server.stop();
    assert!(stream_is_ledger(&nats, &ledgers_in(&folder.0, &["main", "north"])) > 0);
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
