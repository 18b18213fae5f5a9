//! A server of a fleet: the real binary beside a sidecar that takes down what it is told, as `sdk.proto` and `beta.proto` of Agones have it.
#![cfg(all(unix, feature = "agones"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::binary::free_port;
use crate::binary::{Folder, Process, inferno};
use roomkeeper::host::agones::public_address;
use serde_json::{Value, json};

/// What the sidecar knows, and does not forgive.
#[derive(Debug, Default)]
struct Book {
    state: String,
    game_port: u16,
    rooms: Option<i64>,
    rooms_max: Option<i64>,
    players: BTreeSet<String>,
    labels: Vec<(String, String)>,
    health: usize,
    said: Vec<String>,
    wrong: Vec<String>,
    /// The fleet has no counters and no lists.
    is_bare: bool,
    /// The pod has no place yet; and how often somebody asked for it.
    is_nowhere: bool,
    asked_where: usize,
}

impl Book {
    /// Answers as the REST gateway of the sidecar does.
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let number = |key: &str| body[key].as_str().map(|text| text.parse::<i64>().unwrap());
        if path != "/health" && path != "/gameserver" {
            self.said.push(format!("{method} {path}"));
        }
        let mut become_ = |state: &str| {
            self.state = state.to_owned();
            (200, json!({}))
        };
        match (method, path) {
            ("POST", "/ready") => become_("Ready"),
            ("POST", "/allocate") => become_("Allocated"),
            ("POST", "/shutdown") => become_("Shutdown"),
            ("POST", "/health") => {
                self.health += 1;
                (200, json!({}))
            }
            ("GET", "/gameserver") => {
                self.asked_where += 1;
                let address = if self.is_nowhere { "" } else { "127.0.0.1" };
                let status = json!({ "state": self.state, "address": address, "ports": [{ "name": "game", "port": self.game_port }] });
                (200, json!({ "object_meta": { "name": "inferno-x" }, "status": status }))
            }
            ("PUT", "/metadata/label") => {
                let text = |key: &str| body[key].as_str().unwrap().to_owned();
                self.labels.push((text("key"), text("value")));
                (200, json!({}))
            }
            (_, path) if self.is_bare && path.starts_with("/v1beta1/") => (404, json!({ "message": "not found" })),
            ("PATCH", "/v1beta1/counters/rooms") => {
                (self.rooms, self.rooms_max) = (number("count").or(self.rooms), number("capacity").or(self.rooms_max));
                (200, json!({}))
            }
            ("PATCH", "/v1beta1/lists/players") => {
                assert!(number("capacity").is_some_and(|most| most <= 1_000) && body.get("values").is_none());
                (200, json!({}))
            }
            ("POST", "/v1beta1/lists/players:addValue") => match self.players.insert(body["value"].as_str().unwrap().to_owned()) {
                true => (200, json!({})),
                false => (409, json!({ "message": "already exists" })),
            },
            ("POST", "/v1beta1/lists/players:removeValue") => match self.players.remove(body["value"].as_str().unwrap()) {
                true => (200, json!({})),
                false => (404, json!({ "message": "not found" })),
            },
            _ => {
                self.wrong.push(format!("{method} {path} {body}"));
                (501, json!({}))
            }
        }
    }
}

struct Sidecar {
    book: Arc<Mutex<Book>>,
    port: u16,
    stop: Arc<AtomicBool>,
}

impl Sidecar {
    fn start(book: Book) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, book, stop) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(book)), Arc::new(AtomicBool::new(false)));
        let (writes, stops) = (book.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stops.load(Ordering::Relaxed) {
                    return;
                }
                let book = writes.clone();
                std::thread::spawn(move || while serve_one(&stream, &book).is_some() {});
            }
        });
        Self { book, port, stop }
    }

    fn until(&self, what: &str, is_so: impl Fn(&Book) -> bool) {
        for _ in 0..400 {
            if is_so(&self.book.lock().unwrap()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{what}: not in 40 s; {:#?}", self.book.lock().unwrap());
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Answers one request of a connection.
fn serve_one(stream: &TcpStream, book: &Mutex<Book>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok().filter(|size| *size > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        length = header.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let (status, answer) = book.lock().unwrap().answer(method, path, &serde_json::from_slice(&body).unwrap_or_default());
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
    let mut stream = stream;
    stream.write_all(format!("{head}{answer}").as_bytes()).ok()
}

fn start(arguments: &[&str], port: Option<u16>) -> Process {
    let mut command = inferno();
    command.args(arguments).env_remove("AGONES_SDK_HTTP_PORT");
    if let Some(port) = port {
        command.env("AGONES_SDK_HTTP_PORT", port.to_string());
    }
    Process::start(&mut command)
}

#[test]
fn a_server_of_a_fleet_is_ready_lives_is_allocated_counts_and_shuts_down() {
    let game_port = free_port();
    let sidecar = Sidecar::start(Book { state: "Scheduled".to_owned(), game_port, ..Book::default() });
    let bind = format!("127.0.0.1:{game_port}");
    let set = ["--set", "limits.rooms_max=7", "--set", "agones.ready_again_after=2s", "--set", "limits.seat_ticks=20"];
    let server = start(&[&["serve", "--bind", &bind, "--also", "second"][..], &set[..]].concat(), Some(sidecar.port));
    sidecar.until("it is ready", |book| book.state == "Ready" && book.rooms == Some(2) && book.rooms_max == Some(7));
    assert_eq!(public_address(sidecar.port, Duration::ZERO).unwrap(), SocketAddr::from(([127, 0, 0, 1], game_port)));

    let bots = start(&["bot", "--bots", "2", "--server", &bind], None);
    sidecar.until("it is allocated, and both are counted", |book| book.state == "Allocated" && book.players.len() == 2);
    bots.signal("-TERM");
    sidecar.until("it is empty, and ready again", |book| book.state == "Ready" && book.players.is_empty());
    let before = sidecar.book.lock().unwrap().health;
    sidecar.until("it goes on to live", |book| book.health > before + 2);

    server.stop();
    let book = sidecar.book.lock().unwrap();
    assert_eq!(book.state, "Shutdown");
    assert_eq!(book.wrong, Vec::<String>::new());
    assert_eq!(book.said.iter().filter(|said| *said == "POST /ready").count(), 2, "{:?}", book.said);
    assert_eq!(book.said.last().unwrap(), "POST /shutdown");
}

#[test]
fn a_server_that_stands_still_is_not_said_to_live_and_one_that_drains_says_so() {
    let game_port = free_port();
    let sidecar = Sidecar::start(Book { state: "Scheduled".to_owned(), game_port, is_bare: true, ..Book::default() });
    let bind = format!("127.0.0.1:{game_port}");
    let server = start(&["serve", "--bind", &bind, "--set", "stop.announce=5s"], Some(sidecar.port));
    sidecar.until("it is ready", |book| book.state == "Ready" && book.health > 1);
    let tried = |book: &Book| book.said.iter().filter(|said| said.contains("v1beta1")).count();
    assert!(tried(&sidecar.book.lock().unwrap()) <= 3, "what the fleet does not have is not asked for again and again");
    server.signal("-STOP");
    std::thread::sleep(Duration::from_millis(300));
    let before = sidecar.book.lock().unwrap().health;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(sidecar.book.lock().unwrap().health, before);
    server.signal("-CONT");
    sidecar.until("it lives", |book| book.health > before);
    server.signal("-TERM");
    sidecar.until("it says that it drains", |book| book.labels == [("roomkeeper-draining".to_owned(), "true".to_owned())]);
    assert_ne!(sidecar.book.lock().unwrap().state, "Shutdown", "who is there plays on");
    sidecar.until("it has ended", |book| book.state == "Shutdown");
}

#[test]
fn without_a_sidecar_there_is_no_fleet_and_one_that_is_named_and_not_there_is_told() {
    let mut alone = start(&["serve", "--bind", "127.0.0.1:0"], None);
    alone.until("on udp");
    assert!(alone.heard.first().is_some_and(|line| line.contains("on udp")), "{:?}", alone.heard);
    alone.stop();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = public_address(nobody, Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains(&format!("the Agones sidecar on port {nobody} does not answer /gameserver")), "{error}");
}

#[test]
fn a_key_that_is_changed_while_the_server_still_starts_counts_once_it_has() {
    let folder = Folder::new("early-key");
    let key = folder.write("server.key", &"11".repeat(32));
    let game_port = free_port();
    let address = format!("127.0.0.1:{game_port}");
    let file = folder.write("server.toml", &format!("[listen]\nbind = \"{address}\"\nkey = \"server.key\"\n[log]\nfilter = \"info\"\n"));
    let sidecar = Sidecar::start(Book { state: "Scheduled".to_owned(), game_port, is_nowhere: true, ..Book::default() });
    let mut server = start(&["serve", "--config", &file], Some(sidecar.port));
    // It has read its keys by then, and waits.
    sidecar.until("it asks where it is", |book| book.asked_where > 0);
    folder.write("server.key", &"22".repeat(32));
    server.signal("-HUP");
    // Time to hear of it while it can do nothing about it. If it is too short for that, it only hears of it later.
    std::thread::sleep(Duration::from_millis(500));
    sidecar.book.lock().unwrap().is_nowhere = false;
    server.until("the keys were read again");
    let token = folder.0.join("ann.token").to_str().unwrap().to_owned();
    let told = |arguments: &[&str]| {
        let output = inferno().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    told(&["token", "--key", &key, "--server", &address, "--player", "ann", "--out", &token]);
    told(&["dump", "--server", &address, "--token", &token]);
    server.stop();
}
