//! The real server, as somebody runs it who has others to look after: its file, its environment, its log, its end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use crate::binary::{Folder, PATIENCE, inferno, signal, tell_lines};
use crate::installed::if_there;
use bevy_app::App;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, ReplicaPlugin};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::protocol::{EntityId, Protocol, Refusal};
use roomkeeper::room::{Blueprint, RoomOptions};
use roomkeeper::store::{Durability, SqliteStore};
use serde_json::Value;

/// What a command says, and whether it ended well.
fn said(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Lines of a stream as they come.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    tell_lines(stream, tell);
    told
}

/// A process, with what it says on each of its outputs. It ends with its test.
struct Process {
    child: Child,
    out: Receiver<String>,
    errors: Receiver<String>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, errors) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, out, errors }
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// How it ended, and all that it said to stderr that was not taken yet.
    fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        // They end with the process.
        let rest = std::iter::from_fn(|| self.errors.recv_timeout(PATIENCE).ok()).collect();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines up to one that has something in it, with that.
fn until(lines: &Receiver<String>, wanted: &str) -> Vec<String> {
    until_all(lines, &[wanted])
}

/// Lines up to one that has several things in it, with that.
fn until_all(lines: &Receiver<String>, wanted: &[&str]) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| wanted.iter().all(|wanted| line.contains(wanted))) {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => seen.push(line),
            Err(_) => panic!("no {wanted:?} in {seen:#?}"),
        }
    }
    seen
}

/// Starts a server with a key on all addresses, reached at one of them. Whoever finds a port for it may lose that before it listens.
fn serve_at_a_free_port(key: &str) -> (Process, String) {
    for _ in 0..5 {
        let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let (bind, reached) = (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"));
        let public = format!("listen.public_addresses={reached}");
        let mut server = Process::start(inferno().args(["serve", "--bind", &bind, "--key", key, "--set", &public]));
        // What it says ends with it.
        let is_there = std::iter::from_fn(|| server.out.recv_timeout(PATIENCE).ok()).any(|line| line.contains(" on udp "));
        if is_there {
            return (server, reached);
        }
        let _ = server.child.kill();
        let (_, errors) = server.ended();
        assert!(errors.iter().any(|line| line.contains("Address already in use")), "{errors:?}");
    }
    panic!("all ports are taken")
}

/// Starts a server; gives its address, and what it said before.
fn serve(arguments: &[&str]) -> (Process, String, Vec<String>) {
    let server = Process::start(inferno().arg("serve").args(arguments));
    let begin = until(&server.out, " on udp ");
    let address = begin.last().unwrap().split_once(" on udp ").unwrap().1.to_owned();
    (server, address, begin)
}

/// What `config` prints: values and origins by key, with the section before it.
fn printed(text: &str) -> BTreeMap<String, (String, String)> {
    let mut section = String::new();
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else {
            let (value, origin) = line.rsplit_once(" # ").unwrap_or_else(|| panic!("{line}"));
            let (name, value) = value.split_once(" = ").unwrap_or((value, ""));
            all.insert(format!("{section}.{name}"), (value.to_owned(), origin.to_owned()));
        }
    }
    all
}

const FILE: &str = "[listen]\nbind = \"127.0.0.1:0\"\n\n[limits]\nsessions_max = 7\nrooms_max = 8\n\n[templates.den]\nseed = 5\ncapacity = 3\n\n\
    [[rooms]]\nname = \"north\"\ntemplate = \"den\"\n\n[[rooms]]\nname = \"south\"\n";

#[test]
fn flags_count_more_than_the_environment_and_that_more_than_the_file() {
    let folder = Folder::new("precedence");
    let file = folder.write("server.toml", FILE);
    let mut command = inferno();
    command.args(["config", "--config", &file, "--set", "limits.grace_ticks=5s", "--bind", "127.0.0.2:0"]);
    command.env("ROOMKEEPER_LIMITS_ROOMS_MAX", "9").env("ROOMKEEPER_LIMITS_GRACE_TICKS", "7").env("ROOMKEEPER_LOG", "info");
    let (well, text, errors) = said(&mut command);
    assert!(well, "{errors}");
    let all = printed(&text);
    for (key, value, origin) in [
        ("limits.sessions_max", "7", format!("{file}:5")),
        ("limits.rooms_max", "9", "environment ROOMKEEPER_LIMITS_ROOMS_MAX".to_owned()),
        ("limits.grace_ticks", "100", "flag --set limits.grace_ticks".to_owned()),
        ("limits.mistakes_max", "16", "default".to_owned()),
        ("listen.bind", "\"127.0.0.2:0\"", "flag --bind".to_owned()),
        ("log.filter", "\"info\"", "environment ROOMKEEPER_LOG".to_owned()),
        ("templates.den.capacity", "3", format!("{file}:10")),
        ("rooms.name", "\"south\"", format!("{file}:17")),
    ] {
        assert_eq!(all[key], (value.to_owned(), origin), "{key}\n{text}");
    }

    // And the server does what `config` says: the rooms of the file where no flag names any.
    let (_server, address, begin) = serve(&["--config", &file, "--bind", "127.0.0.2:0"]);
    assert!(address.starts_with("127.0.0.2:") && begin.last().unwrap().contains("serves north, south on"), "{begin:?}");
    let (_server, _, begin) = serve(&["--config", &file, "--room", "east", "--also", "west"]);
    assert!(begin.last().unwrap().contains("serves east, west on"), "{begin:?}");
}

#[test]
fn what_is_wrong_is_told_with_file_and_line_all_of_it() {
    let folder = Folder::new("wrong");
    let file =
        folder.write("server.toml", "[listen]\nbnd = 1\n[limits]\nsessions_max = 0\n[templates.default]\nlevel = \"nowhere.json\"\n");
    for arguments in [["config", "--check"], ["config", "--config"], ["serve", "--config"]] {
        let (well, out, errors) = said(inferno().args(arguments).arg(&file));
        assert!(!well && out.is_empty(), "{out}");
        let expected = format!(
            "error: 2 things are wrong with the configuration\n{file}:2: there is no key listen.bnd; did you mean bind?\n\
             {file}:4: limits.sessions_max = 0: a whole number from 1 to 65536 is wanted\n"
        );
        assert_eq!(errors, expected);
    }
    // What only the disk can tell comes once the rest is in order.
    let file = folder.write("server.toml", "[templates.default]\nlevel = \"nowhere.json\"\n");
    let (well, _, errors) = said(inferno().args(["config", "--check", &file]));
    assert!(
        !well && errors.starts_with(&format!("error: {file}:2: templates.default.level: ")) && errors.contains("nowhere.json"),
        "{errors}"
    );
    let file = folder.write("server.toml", "[limits]\nsessions_max = 1\n");
    assert_eq!(said(inferno().args(["config", "--check", &file])), (true, format!("{file} is in order\n"), String::new()));
    let (well, _, errors) = said(inferno().args(["serve", "--config", "/nowhere/server.toml"]));
    assert!(!well && errors.contains("/nowhere/server.toml: No such file"), "{errors}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_full_disk_does_not_take_is_an_error() {
    for arguments in [&["config"][..], &["handlers"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = inferno().args(arguments).stdout(full).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains("what was put out is not whole: No space left"), "{arguments:?}: {errors}");
    }
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let folder = Folder::new("again");
    let file = folder.write("server.toml", FILE);
    let first = said(inferno().args(["config", "--config", &file, "--data", "match", "--seal-always", "--link", "train,loss=10%"]));
    assert!(first.0, "{}", first.2);
    // Elsewhere: what is printed does not hang on where it is put.
    std::fs::create_dir(folder.0.join("elsewhere")).unwrap();
    let again = folder.write("elsewhere/again.toml", &first.1);
    let second = said(inferno().args(["config", "--config", &again]));
    assert!(second.0, "{}", second.2);
    let values = |text: &str| printed(text).into_iter().map(|(key, (value, _))| (key, value)).collect::<Vec<_>>();
    assert_eq!(values(&first.1), values(&second.1));
    assert_eq!(values(&first.1).iter().find(|(key, _)| key == "store.seal_every_flushes").unwrap().1, "1");
}

/// The example with everything in it that stands there as a comment.
fn example_in_full() -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/server.toml")).unwrap();
    let is_code = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    text.lines().map(|line| line.strip_prefix("# ").filter(|code| is_code(code)).unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn the_example_is_in_order_has_every_key_and_tells_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/server.toml");
    let (well, text, errors) = said(inferno().args(["config", "--config", example]));
    assert!(well, "{errors}");
    let (_, defaults, _) = said(inferno().arg("config"));
    let values = |text: &str| printed(text).into_iter().map(|(key, (value, _))| (key, value)).collect::<BTreeMap<_, _>>();
    assert_eq!(values(&text), values(&defaults), "as it stands it changes nothing");

    let folder = Folder::new("example");
    let full = example_in_full();
    let file = folder.write("server.toml", &full);
    std::fs::create_dir(folder.0.join("levels")).unwrap();
    for level in ["e1m1", "e1m2"] {
        folder.write(&format!("levels/{level}.json"), "{}");
    }
    let (well, text, errors) = said(inferno().args(["config", "--config", &file]));
    assert!(well, "{errors}\n{full}");
    let chosen = [
        "listen.public_addresses",
        "listen.websocket",
        "listen.key",
        "hosting.rest_after",
        "hosting.bans",
        "admin.",
        "agones.",
        "share.",
        "store.data",
        "link.conditions",
        "nats.url",
        "nats.credentials",
        "templates.default.level",
        "templates.default.capacity",
        "templates.default.delete_after",
        "templates.dungeon.",
        "rooms.",
    ];
    for (key, (value, origin)) in printed(&text) {
        assert!(origin.starts_with(&file), "the example does not have {key}, it is from {origin}");
        if !chosen.iter().any(|chosen| key.starts_with(chosen)) {
            assert_eq!(Some(&value), values(&defaults).get(&key), "{key}");
        }
    }
}

/// What a server said but for what is the machine's doing: on a busy one a room may take long, or fall behind, and is named.
fn but_for_slowness(mut lines: Vec<String>) -> Vec<String> {
    let slowness = ["a room takes long", "rooms take long", "a room fell behind", "rooms fell behind"];
    lines.retain(|line| !slowness.iter().any(|slowness| line.contains(slowness)));
    lines
}

/// Joins as a spectator, sees the room once, and leaves.
fn look_in(address: &str, room: &str) {
    let (well, _, errors) = said(inferno().args(["dump", "--server", address, "--room", room]));
    assert!(well, "{errors}");
}

#[test]
fn a_hangup_changes_what_is_logged_and_every_line_is_json() {
    let folder = Folder::new("hangup");
    let log = |filter: &str| folder.write("server.toml", &format!("{FILE}\n[log]\nfilter = \"{filter}\"\nformat = \"json\"\n"));
    let file = log("warn");
    let (mut server, address, _) = serve(&["--config", &file]);
    look_in(&address, "north");
    log("warn,roomkeeper::host=info");
    server.signal("-HUP");
    let before = but_for_slowness(until(&server.errors, "this is logged from now on"));
    assert_eq!(before.len(), 1, "nobody was logged who joined while that was not asked for: {before:#?}");
    assert!(before[0].contains("roomkeeper::host=info"), "{before:?}");
    look_in(&address, "south");
    let mut seen = until_all(&server.errors, &["\"left\"", "south"]);

    // What is wrong changes nothing, and says so.
    folder.write("server.toml", "[log]\nfilter = \"loud=very\"\n");
    server.signal("-HUP");
    seen.extend(until(&server.errors, "was not read again"));
    assert!(seen.last().unwrap().contains("server.toml:2: log.filter"), "{seen:#?}");
    look_in(&address, "north");
    seen.extend(until_all(&server.errors, &["\"left\"", "north"]));

    let all: Vec<Value> = before.iter().chain(&seen).map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let joined: Vec<&Value> = all.iter().filter(|line| line["message"] == "joined").collect();
    assert_eq!(joined.iter().map(|line| line["room"].as_str().unwrap()).collect::<Vec<_>>(), ["south", "north"], "{all:#?}");
    for line in &joined {
        assert!(line["connection"].is_u64() && line["level"] == "INFO" && line["timestamp"].is_string(), "{line}");
        assert_eq!(line["target"], "roomkeeper::host::lobby::arrive");
    }
    server.signal("-TERM");
    let (status, rest) = server.ended();
    assert_eq!(status.code(), Some(0), "{rest:?}");
}

#[test]
fn a_hangup_does_not_close_a_server_that_anybody_may_enter_and_says_so() {
    let folder = Folder::new("open");
    folder.write("server.key", &"11".repeat(32));
    let file = folder.write("server.toml", "[listen]\nbind = \"127.0.0.1:0\"\n");
    let (server, address, _) = serve(&["--config", &file]);
    folder.write("server.toml", "[listen]\nbind = \"127.0.0.1:0\"\nkey = \"server.key\"\n");
    server.signal("-HUP");
    until(&server.errors, "counts only from the next start on: until then players are let in without tokens");
    look_in(&address, "main");
}

#[test]
fn without_a_file_a_hangup_stops_the_server_as_before() {
    let (mut server, ..) = serve(&["--bind", "127.0.0.1:0"]);
    server.signal("-HUP");
    assert_eq!(server.ended().0.code(), Some(0));
}

/// Somebody who watches and is in the room.
fn watcher(address: &str) -> Process {
    let watcher = Process::start(inferno().args(["watch", "--server", address]));
    until(&watcher.out, "snapshot");
    watcher
}

#[test]
fn a_stop_is_told_to_who_is_there_and_all_is_kept() {
    let folder = Folder::new("stop");
    let data = folder.0.join("data");
    let arguments = ["--bind", "127.0.0.1:0", "--data", data.to_str().unwrap(), "--set", "stop.within=30s"];
    let (mut server, address, _) = serve(&arguments);
    let mut watcher = watcher(&address);
    let mut player = Process::start(inferno().args(["bot", "--server", &address]));
    until(&player.out, "in the room");
    server.signal("-TERM");
    for client in [&mut watcher, &mut player] {
        let (status, errors) = client.ended();
        assert!(!status.success() && errors.iter().any(|line| line.contains("the server shuts down")), "{errors:?}");
    }
    let (status, errors) = server.ended();
    assert_eq!(status.code(), Some(0), "{errors:?}");
    assert_eq!(but_for_slowness(errors), Vec::<String>::new());
    let stopped = until(&server.out, "stopped: ");
    assert!(stopped.last().unwrap().starts_with("stopped: 2 joined, "), "{stopped:?}");

    // Nothing is missing, nothing has to be put in order.
    let (well, out, errors) = said(inferno().args(["ledger", "--data", data.to_str().unwrap(), "verify"]));
    assert!(well, "{out}{errors}");
    let (_server, _, begin) = serve(&arguments);
    assert!(begin.len() == 2 && begin[0].starts_with("main goes on at "), "{begin:?}");
}

#[test]
fn beside_a_server_a_compaction_does_not_write_the_whole_file_anew_for_which_all_rooms_would_wait() {
    let folder = Folder::new("compact");
    let data = folder.0.join("data");
    let stopped = |mut server: Process| {
        server.signal("-TERM");
        assert!(server.ended().0.success());
    };
    let arguments = ["--bind", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let (server, address, _) = serve(&arguments);
    look_in(&address, "main");
    stopped(server);
    let (server, ..) = serve(&arguments);
    let compact = || said(inferno().args(["ledger", "--data", data.to_str().unwrap(), "compact", "--keep-ticks", "1"]));
    let is_put_off = |out: &str| out.contains("once nobody serves it");
    let (well, out, errors) = compact();
    assert!(well && is_put_off(&out), "{out}{errors}");
    stopped(server);
    let (well, out, errors) = compact();
    assert!(well && !is_put_off(&out), "{out}{errors}");
}

#[test]
fn a_room_that_cannot_be_opened_is_told_hides_no_other_and_who_asks_for_it_has_it_tried_again() {
    let folder = Folder::new("damaged");
    let data = folder.0.join("data");
    let config = folder.write("server.toml", FILE);
    let arguments = ["--config", &config, "--data", data.to_str().unwrap()];
    let (mut server, address, _) = serve(&arguments);
    look_in(&address, "north");
    server.signal("-TERM");
    assert!(server.ended().0.success());
    let damage = |room: &str| {
        let file = rusqlite::Connection::open(data.join("rooms.sqlite")).unwrap();
        assert_eq!(file.execute("UPDATE room SET sum = ~sum WHERE name = ?1", [room]).unwrap(), 1);
    };
    damage("north");
    let (well, out, errors) = said(inferno().args(["ledger", "--data", data.to_str().unwrap(), "rooms"]));
    assert!(!well && errors.contains("1 things are wrong"), "{errors}");
    assert!(out.lines().any(|line| line.starts_with("north: ") && line.contains("is damaged")), "{out}");
    assert!(out.lines().any(|line| line.starts_with("south: ") && line.contains(" played, ")), "{out}");
    for (verb, of_south) in [("verify", "the chain of hashes ends with"), ("compact", "south: ")] {
        let (well, out, errors) = said(inferno().args(["ledger", "--data", data.to_str().unwrap(), verb, "--all"]));
        assert!(!well && errors.contains("1 things are wrong"), "{errors}");
        assert!(out.lines().any(|line| line.starts_with("north: ") && line.contains("is damaged")), "{out}");
        assert!(out.lines().any(|line| line.starts_with(of_south)), "{out}");
    }
    let (well, _, errors) = said(inferno().args(["ledger", "--data", data.to_str().unwrap(), "--room", "south", "verify", "--all"]));
    assert!(!well && errors.contains("either one room or all of them"), "{errors}");

    let (server, address, begin) = serve(&arguments);
    assert!(begin.iter().any(|line| line.starts_with("north is not served: ")), "{begin:#?}");
    until_all(&server.errors, &["a room is not served", "north"]);
    look_in(&address, "south");
    let (well, _, errors) = said(inferno().args(["dump", "--server", &address, "--room", "north"]));
    assert!(!well && errors.contains("it can't be opened"), "{errors}");
    drop(server);
    damage("south");
    let (well, _, errors) = said(inferno().arg("serve").args(arguments));
    assert!(!well && errors.contains("is damaged"), "{errors}");
}

#[test]
fn a_fork_has_a_name_by_which_it_can_be_served_and_is_told_where_nobody_names_it() {
    let folder = Folder::new("fork");
    let data = folder.0.join("data");
    let ledger = |arguments: &[&str]| said(inferno().args(["ledger", "--data", data.to_str().unwrap()]).args(arguments));
    std::fs::create_dir_all(&data).unwrap();
    drop(SqliteStore::open(&data, Durability::ProcessCrash).unwrap());
    let (well, _, errors) = ledger(&["facts"]);
    assert!(!well && errors.contains("there is no room in it"), "{errors}");

    let arguments = ["--bind", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let (mut server, address, _) = serve(&arguments);
    look_in(&address, "main");
    server.signal("-TERM");
    assert!(server.ended().0.success());
    let long = "x".repeat(65);
    for name in ["", "duel/*", "a\nb", &long] {
        let (well, _, errors) = ledger(&["fork", "0", name]);
        assert!(!well && errors.contains("a name of 1 to 64 bytes is wanted"), "{name:?}: {errors}");
    }
    let (well, _, errors) = ledger(&["fork", "0", "again"]);
    assert!(well, "{errors}");
    let (server, _, begin) = serve(&arguments);
    assert!(begin.iter().any(|line| line.contains("forks are not served") && line.ends_with(": again")), "{begin:#?}");
    drop(server);
    let (_server, _, begin) = serve(&[&arguments[..], &["--also", "again"]].concat());
    assert!(!begin.iter().any(|line| line.contains("forks")) && begin.last().unwrap().contains("again"), "{begin:#?}");
}

#[test]
fn who_follows_what_happens_ends_once_nobody_reads_it_any_more() {
    let folder = Folder::new("unheard");
    let data = folder.0.join("data");
    let data = data.to_str().unwrap();
    let arguments = ["--bind", "127.0.0.1:0", "--data", data];
    let (mut server, address, _) = serve(&arguments);
    look_in(&address, "main");
    server.signal("-TERM");
    assert!(server.ended().0.success());
    let (_server, address, _) = serve(&arguments);
    let player = Process::start(inferno().args(["bot", "--server", &address]));
    until(&player.out, "in the room");
    for verb in [&["watch", "--server", &address][..], &["ledger", "--data", data, "tail"]] {
        let mut child = inferno().args(verb).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, errors) = (child.stdout.take().unwrap(), lines(child.stderr.take().unwrap()));
        let mut process = Process { child, out: channel().1, errors };
        // As `head -1` does.
        assert!(BufReader::new(out).read_line(&mut String::new()).unwrap() > 0, "{verb:?}");
        let end = loop {
            if let Err(end) = process.errors.recv_timeout(PATIENCE) {
                break end;
            }
        };
        assert_eq!(end, RecvTimeoutError::Disconnected, "it goes on: {verb:?}");
        assert!(process.child.wait().unwrap().success(), "{verb:?}");
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let (mut server, address, _) = serve(&["--bind", "127.0.0.1:0", "--set", "stop.within=1h"]);
    // It does not hear that the server stops, which therefore waits for it.
    let watcher = watcher(&address);
    watcher.signal("-STOP");
    server.signal("-TERM");
    server.signal("-INT");
    let (status, errors) = server.ended();
    assert!(status.signal().is_some(), "{status}: it ended as who is not asked; {errors:?}");
    assert!(errors.iter().any(|line| line.contains("it stops at once")), "{errors:?}");
}

#[test]
fn a_stop_that_hangs_is_ended_in_time() {
    let (out, into) = UnixStream::pair().unwrap();
    let mut fill = into.try_clone().unwrap();
    let mut command = inferno();
    command.args(["serve", "--bind", "127.0.0.1:0", "--set", "stop.within=1s", "--log", "error"]);
    let mut child = command.stdout(OwnedFd::from(into)).stderr(Stdio::piped()).spawn().unwrap();
    let errors = lines(child.stderr.take().unwrap());
    let mut server = Process { child, out: channel().1, errors };
    let mut line = String::new();
    while !line.contains(" on udp ") {
        line.clear();
        assert!(BufReader::with_capacity(1, &out).read_line(&mut line).unwrap() > 0);
    }
    // Nobody reads any more, and nothing more fits in: the server's last words have no place to go.
    fill.set_nonblocking(true).unwrap();
    while fill.write(b" ").is_ok() {}
    fill.set_nonblocking(false).unwrap();
    server.signal("-TERM");
    let (status, errors) = server.ended();
    assert_eq!(status.code(), Some(1), "{errors:?}");
    assert!(errors.iter().any(|line| line.contains("it had not stopped in time")), "{errors:?}");
}

/// Asks to be let in; gives where the client then stands.
fn ask(lobby: &mut Lobby, number: u64, meanwhile: impl FnOnce(&mut Lobby)) -> ConnectionState {
    let mut client = App::new();
    client.add_plugins(ReplicaPlugin);
    let world = client.world_mut();
    world.resource_scope(|world, mut connection: Mut<Connection>| connection.join(world.resource::<Protocol>(), "lobby", false));
    let (id, name) = (ConnectionId(number), format!("user{number}"));
    lobby.connected(id, Visitor { player: EntityId::named(&name), name, room: None });
    meanwhile(lobby);
    while let Some(message) = world.resource_mut::<Connection>().next_outgoing() {
        lobby.message(id, &message);
    }
    lobby.tick_room("lobby");
    let mut inbox = Vec::new();
    lobby.pump(|to, own, shared| inbox.extend((to == id).then(|| [own, shared].concat())));
    inbox.into_iter().for_each(|packet| world.resource_mut::<Connection>().deliver(packet.into()));
    client.update();
    client.world().resource::<Connection>().state().clone()
}

#[test]
fn nobody_is_let_in_while_the_host_stops_and_who_was_about_to_come_in_is_told() {
    let told = ConnectionState::Refused(Refusal::ShuttingDown, Vec::new());
    let mut lobby = Lobby::new(HostLimits::default(), false);
    let blueprint = Blueprint::new(|_| {}, |_| {});
    lobby.open_room(&blueprint, RoomOptions::named("lobby")).unwrap();
    assert_eq!(ask(&mut lobby, 1, |_| {}), ConnectionState::Live);
    assert_eq!(ask(&mut lobby, 2, Lobby::shut_down), told, "who is connected and has not said which room it wants");
    assert_eq!(ask(&mut lobby, 3, |_| {}), told, "who comes later");
    assert_eq!(lobby.room_names().count(), 0);
}

#[test]
fn a_room_takes_no_more_than_its_template_says() {
    let folder = Folder::new("capacity");
    let file = folder.write("server.toml", &FILE.replace("capacity = 3", "capacity = 1"));
    let (_server, address, _) = serve(&["--config", &file]);
    let mut first = Process::start(inferno().args(["watch", "--server", &address, "--room", "north"]));
    until(&first.out, "snapshot");
    let (well, _, errors) = said(inferno().args(["dump", "--server", &address, "--room", "north"]));
    assert!(!well && errors.contains("room_full"), "{errors}");
    look_in(&address, "south");
    first.signal("-TERM");
    assert!(first.ended().0.success());
}

const DUELS: &str = "[listen]\nbind = \"127.0.0.1:0\"\n[templates.default]\ncapacity = 5\n[templates.duel]\ncapacity = 1\non_demand = true\n\
    [hosting]\nrest_after = \"1min\"\n";

#[test]
fn rooms_that_were_created_on_demand_are_stored_with_their_template_and_rest_until_somebody_comes() {
    let folder = Folder::new("duels");
    let (data, file) = (folder.0.join("data"), folder.write("server.toml", DUELS));
    let arguments = ["--config", &file, "--room", "main", "--data", data.to_str().unwrap()];
    let (mut server, address, _) = serve(&arguments);
    for room in ["duel/blue", "duel/red", "duel/green", "main"] {
        look_in(&address, room);
    }
    server.signal("-TERM");
    assert!(server.ended().0.success());
    // There are more of them than there may be at a time.
    let (_server, address, begin) = serve(&[&arguments[..], &["--set", "limits.rooms_max=2"]].concat());
    assert!(begin.iter().any(|line| line.contains("3 stored rooms rest")), "{begin:#?}");
    assert!(begin.last().unwrap().contains("serves main on"), "{begin:#?}");
    let watcher = Process::start(inferno().args(["watch", "--server", &address, "--room", "duel/red"]));
    until(&watcher.out, "snapshot");
    let (well, _, errors) = said(inferno().args(["dump", "--server", &address, "--room", "duel/red"]));
    assert!(!well && errors.contains("room_full"), "it has one seat: {errors}");
    // Without rest they are opened, as long as there is place, and the others are named.
    drop((_server, watcher));
    let file = folder.write("always.toml", &DUELS.replace("rest_after = \"1min\"\n", ""));
    let (_server, _, begin) = serve(&["--config", &file, "--room", "main", "--data", arguments[5], "--set", "limits.rooms_max=2"]);
    assert!(begin.last().unwrap().contains("serves duel/"), "{begin:#?}");
    assert_eq!(begin.iter().filter(|line| line.contains("is not served: ")).count(), 2, "{begin:#?}");
}

const LISTED: &str = "[listen]\nbind = \"127.0.0.1:0\"\n[templates.default]\ncapacity = 5\nlisted = true\n[templates.duel]\ncapacity = 2\non_demand = true\n\
    listed = true\n[templates.den]\ncapacity = 3\n[[rooms]]\nname = \"north\"\n[[rooms]]\nname = \"secret\"\ntemplate = \"den\"\n";

#[test]
fn the_rooms_that_a_server_tells_of_are_printed_as_a_table_or_as_json() {
    let folder = Folder::new("listed");
    let (_server, address, _) = serve(&["--config", &folder.write("server.toml", LISTED)]);
    let list = |arguments: &[&str]| {
        let (well, out, errors) = said(inferno().args(["rooms", "--server", &address]).args(arguments));
        assert!(well, "{errors}");
        out
    };
    assert_eq!(list(&[]), "room    seats\nduel/*    0/2  on demand\nnorth     0/5  open\n");
    let told: Value = serde_json::from_str(&list(&["--json", "--prefix", "n"])).unwrap();
    assert_eq!(told["rooms"][0]["name"], "north", "{told}");
    assert_eq!((&told["total"], told["prefix"].as_str()), (&Value::from(1), Some("n")));
    assert!(list(&["--prefix", "secret"]).contains("the server tells of no rooms"));
    // What is not told of is there all the same.
    look_in(&address, "secret");
    let (well, _, errors) = said(inferno().args(["rooms", "--server", "nowhere"]));
    assert!(!well && errors.contains("nowhere"), "{errors}");
}

fn deployed(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

#[test]
fn the_unit_of_systemd_runs_what_there_is_and_waits_for_the_stop() {
    let folder = Folder::new("unit");
    let file = folder.write("server.toml", "[listen]\nbind = \"127.0.0.1:0\"\n[stop]\nwithin = \"20s\"\n");
    let unit = deployed("roomkeeper.service")
        .replace("/usr/local/bin/inferno", env!("CARGO_BIN_EXE_inferno"))
        .replace("/etc/roomkeeper/server.toml", &file);
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    let command = |key: &str| value(key).split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (well, out, errors) = said(inferno().args(command("ExecStartPre")));
    assert!(well && out == format!("{file} is in order\n"), "{out}{errors}");
    let arguments = command("ExecStart");
    let (mut server, ..) = serve(&arguments.iter().map(String::as_str).skip(1).collect::<Vec<_>>());
    assert_eq!(arguments[0], "serve");
    server.signal(&format!("-{}", value("KillSignal").trim_start_matches("SIG")));
    assert_eq!(server.ended().0.code(), Some(0));
    // The configuration that the unit asks for ends by itself before systemd would kill it.
    assert!(unit.contains("`within = \"20s\"`") && value("TimeoutStopSec").parse::<u32>().unwrap() > 20, "{unit}");

    // Of several lists the last counts: threads may give way.
    let filters: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    assert_eq!(filters, ["@system-service", "~@privileged @resources", "setpriority"]);
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hosting.md")).unwrap();
    let wanted = manual.split("## systemd").nth(1).and_then(|page| page.split("```toml\n").nth(1)?.split("```").next()).unwrap();
    let file = folder.write("wanted.toml", wanted);
    assert_eq!(said(inferno().args(["config", "--check", &file])), (true, format!("{file} is in order\n"), String::new()));

    let path = folder.write("roomkeeper.service", &unit);
    if let Some(verified) = if_there(Command::new("systemd-analyze").args(["verify", &path]).output().ok(), "systemd-analyze", "systemd") {
        assert!(verified.status.success() && verified.stderr.is_empty(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[test]
fn the_environment_of_the_image_is_understood() {
    let text = deployed("Containerfile");
    let settings: Vec<(&str, &str)> = text
        .split(|c: char| c.is_whitespace())
        .filter(|word| word.starts_with("ROOMKEEPER_"))
        .filter_map(|word| word.split_once('='))
        .collect();
    assert_eq!(settings.len(), 4, "{settings:?}");
    let (well, _, errors) = said(inferno().arg("config").envs(settings.clone()));
    let refused = "error: environment ROOMKEEPER_LISTEN_BIND: listen.bind = \"0.0.0.0:5000\": it can be reached from outside, so listen.key is wanted";
    assert!(!well && errors.starts_with(refused), "{errors}");
    let (well, text, errors) = said(inferno().arg("config").envs(settings.clone()).env("ROOMKEEPER_LISTEN_ALLOW_UNAUTHENTICATED", "true"));
    assert!(well, "{errors}");
    // As the manual runs it: with a key, and where players reach it.
    let key = ("ROOMKEEPER_LISTEN_KEY", "/data/server.key");
    let (well, _, errors) = said(inferno().arg("config").envs(settings.clone()).envs([key]));
    assert!(!well && errors.contains("listen.public_addresses is wanted"), "{errors}");
    let reached = ("ROOMKEEPER_LISTEN_PUBLIC_ADDRESSES", "203.0.113.7:5000");
    let (well, _, errors) = said(inferno().arg("config").envs(settings.clone()).envs([key, reached]));
    assert!(well, "{errors}");
    for (name, value) in settings {
        assert!(text.contains(&format!("\"{value}\" # environment {name}\n")), "{name}\n{text}");
    }
}

#[test]
fn a_key_without_a_public_address_is_refused_at_the_start_and_with_one_tokens_let_in() {
    let folder = Folder::new("reached");
    let [key, token] = ["server.key", "ann.token"].map(|name| folder.0.join(name).to_str().unwrap().to_owned());
    for verb in ["serve", "config"] {
        let (well, _, errors) = said(inferno().args([verb, "--bind", "0.0.0.0:0", "--key", &key]));
        let wanted = "error: flag --bind: listen.bind = \"0.0.0.0:0\": no token could name it, so listen.public_addresses is wanted";
        assert!(!well && errors.starts_with(wanted), "{errors}");
    }
    assert!(!Path::new(&key).exists(), "nothing was made for it");

    let (_server, reached) = serve_at_a_free_port(&key);
    let (well, _, errors) = said(inferno().args(["token", "--key", &key, "--server", &reached, "--player", "ann", "--out", &token]));
    assert!(well, "{errors}");
    let (well, _, errors) = said(inferno().args(["dump", "--server", &reached, "--token", &token]));
    assert!(well, "{errors}");
}

#[test]
fn a_token_is_readable_for_its_owner_alone_and_no_key_is_made_for_it() {
    let folder = Folder::new("token");
    let [key, out] = ["server.key", "ann.token"].map(|name| folder.0.join(name));
    let make = || {
        let paths = [&key, &out].map(|path| path.to_str().unwrap());
        let [key, out] = paths;
        said(inferno().args(["token", "--key", key, "--server", "127.0.0.1:5000", "--player", "ann", "--out", out]))
    };
    let (well, _, errors) = make();
    assert!(!well && errors.contains("the key file") && errors.contains("No such file"), "{errors}");
    assert!(!key.exists() && !out.exists(), "a key that no server has is of no use");
    folder.write("server.key", &"11".repeat(32));
    let mode = || std::fs::metadata(&out).unwrap().permissions().mode() & 0o777;
    assert!(make().0);
    assert_eq!(mode(), 0o600);
    // Also in the place of one that others could read.
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(make().0);
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_hangup_without_a_key_file_makes_no_key_and_changes_nothing() {
    let folder = Folder::new("gone");
    folder.write("server.key", &"11".repeat(32));
    let file = folder.write("server.toml", "[listen]\nbind = \"127.0.0.1:0\"\nkey = \"server.key\"\n");
    let (server, address, _) = serve(&["--config", &file]);
    let [key, kept, token] = ["server.key", "kept.key", "ann.token"].map(|name| folder.0.join(name).to_str().unwrap().to_owned());
    std::fs::rename(&key, &kept).unwrap();
    server.signal("-HUP");
    until(&server.errors, "the keys stay as they were");
    assert!(!Path::new(&key).exists());
    let (well, _, errors) = said(inferno().args(["token", "--key", &kept, "--server", &address, "--player", "ann", "--out", &token]));
    assert!(well, "{errors}");
    let (well, _, errors) = said(inferno().args(["dump", "--server", &address, "--token", &token]));
    assert!(well, "{errors}");
}

#[test]
fn bans_that_could_not_be_kept_are_told_at_the_start() {
    let folder = Folder::new("bans");
    let bans = folder.0.join("no folder/bans.json").to_str().unwrap().to_owned();
    let (well, _, errors) = said(inferno().args(["serve", "--bind", "127.0.0.1:0", "--set", &format!("hosting.bans={bans}")]));
    let wanted = format!("error: the bans in {bans}: they can't be written there: No such file or directory");
    assert!(!well && errors.starts_with(&wanted), "{errors}");
}

#[test]
fn who_asks_for_a_name_that_no_room_can_have_is_told_that_there_is_none() {
    let folder = Folder::new("names");
    let file = folder.write("server.toml", DUELS);
    let (mut server, address, _) = serve(&["--config", &file]);
    let (well, _, errors) = said(inferno().args(["dump", "--server", &address, "--room", "duel/blue/*"]));
    assert!(!well && errors.contains("the server has no room \"duel/blue/*\""), "{errors}");
    look_in(&address, "duel/*");
    server.signal("-TERM");
    let (status, errors) = server.ended();
    assert_eq!((status.code(), but_for_slowness(errors)), (Some(0), Vec::new()), "what strangers ask for is not logged");
}

/// Asks an admin server for a token; gives the status, and the body.
#[cfg(feature = "admin")]
fn fetch_token(admin: &str, key: &str, body: &str) -> (u16, Vec<u8>) {
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "POST /tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
        Accept: application/octet-stream\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, body) = reply.split_at(end);
    (String::from_utf8_lossy(head).split(' ').nth(1).unwrap().parse().unwrap(), body.split_at(4).1.to_vec())
}

#[cfg(feature = "admin")]
#[test]
fn a_back_end_fetches_tokens_over_http_and_goes_on_when_the_key_is_changed() {
    let folder = Folder::new("tokens");
    let [old, new] = ["11", "22"].map(|byte| byte.repeat(32));
    folder.write("server.key", &old);
    let text = "[listen]\nbind = \"127.0.0.1:0\"\nkey = \"server.key\"\n[admin]\nbind = \"127.0.0.1:0\"\nkey = \"admin.key\"\ntoken_key = \"back-end.key\"\n\
        [log]\nfilter = \"info\"\n";
    let file = folder.write("server.toml", text);
    let (server, address, _) = serve(&["--config", &file]);
    let admin = until(&server.out, "look into it at http://").pop().unwrap().rsplit_once('/').unwrap().1.to_owned();
    let key_for = |name: &str| std::fs::read_to_string(folder.0.join(name)).unwrap().trim().to_owned();
    let back_end = key_for("back-end.key");
    assert_ne!(back_end, key_for("admin.key"), "both were made, each by itself");
    let comes_in = |name: &str| {
        let (status, token) = fetch_token(&admin, &back_end, &format!("{{\"player\": \"{name}\"}}"));
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&token));
        let path = folder.0.join(format!("{name}.token"));
        std::fs::write(&path, token).unwrap();
        said(inferno().args(["dump", "--server", &address, "--token", path.to_str().unwrap()]))
    };
    let (well, _, errors) = comes_in("ann");
    assert!(well, "{errors}");
    assert_eq!(fetch_token(&admin, "0123456789abcdef", "{\"player\": \"eve\"}").0, 401);

    // From now on only the new one counts, and tokens are made with it.
    folder.write("server.key", &new);
    server.signal("-HUP");
    until(&server.errors, "the keys were read again");
    let (well, _, errors) = comes_in("bob");
    assert!(well, "{errors}");
}
