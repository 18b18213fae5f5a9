//! Bots who come and go while their server is measured: what is said, drawn and written of it, and what is left when it ends early. No time is judged here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::ledger::left_in;

/// A folder of a test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A small soak that has its files, also the temporary ones, in a folder.
fn soak(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    command.args(["soak", "--rooms", "2", "--bots", "6", "--every", "1", "--stay", "2", "--away", "1", "--link", "wifi"]).args(arguments);
    command.arg("--out").arg(folder.join("soak.svg")).arg("--csv").arg(folder.join("soak.csv")).env("TMPDIR", folder);
    command
}

/// The values of a field of all samples.
fn samples(folder: &Path, field: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("soak.csv")).unwrap();
    let mut lines = text.lines();
    let place = lines.next().unwrap().split(',').position(|name| name == field).unwrap_or_else(|| panic!("no {field}: {text}"));
    lines.map(|line| line.split(',').nth(place).unwrap().parse().unwrap()).collect()
}

/// A soak that goes on until it is told to end, or the test does.
struct Running {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// One that has taken a sample.
    fn start(folder: &Path) -> Self {
        let mut process = soak(folder, &["--minutes", "60"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut running = Self { process, said };
        assert!(running.said.by_ref().map(Result::unwrap).any(|line| line.contains("| late ms ")), "it ended before the first sample");
        let first = running.said.next().unwrap().unwrap();
        assert_eq!(first.matches(" | ").count(), 5, "{first}");
        running
    }

    /// Whether it ended well, and what it said from now on, on each of its outputs.
    fn wait(&mut self) -> (bool, Vec<String>, String) {
        let said = self.said.by_ref().map(Result::unwrap).collect();
        let mut errors = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.process.wait().unwrap().success(), said, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// The processes that one has started.
fn children(of: u32) -> Vec<u32> {
    let parent = |process: u32| {
        let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // Its name is in brackets, and may have some, too.
        status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|process| parent(*process) == Some(of)).collect()
}

/// By how much the first thread of a process gives way.
fn niceness(process: u32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    status.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

/// How many commands of its bots were predicted.
fn predicted(told: &str) -> u64 {
    let line = told.lines().find(|line| line.contains(" predicted commands corrected")).unwrap_or_else(|| panic!("{told}"));
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn a_soak_says_draws_and_writes_what_it_measured_and_leaves_nothing_else() {
    let folder = folder("soak");
    let output = soak(&folder, &["--seconds", "8"]).output().unwrap();
    let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    println!("{told}");
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.lines().filter(|line| line.matches(" | ").count() == 5).count() >= 2, "a heading and samples: {told}");
    // So little is not judged, but for what needs no time.
    assert!(told.contains("memory: not judged, there are ") && told.contains("load: not judged"), "{told}");
    assert!(told.contains("rooms: none failed"), "{told}");
    // They came in and went over real links, and tell of it.
    assert!(told.contains("the bots of soak1 say:") && told.contains("time to join") && !told.contains("\n0 joins"), "{told}");
    assert_eq!(predicted(&told), 0, "{told}");

    assert_eq!(left_in(&folder), ["soak.csv", "soak.svg"]);
    let of = |field: &str| samples(&folder, field);
    assert!(of("seconds").len() >= 2 && of("seconds").is_sorted(), "{:?}", of("seconds"));
    assert!(of("joined").last() >= Some(&6.0), "{:?}", of("joined"));
    assert!(of("members").iter().any(|members| *members > 0.0), "{:?}", of("members"));
    assert!(of("rooms").iter().all(|rooms| *rooms >= 2.0), "{:?}", of("rooms"));
    for field in ["memory_bytes", "handles", "threads", "disk_bytes", "cores", "late_max_ms", "ticks"] {
        assert!(of(field).iter().all(|value| *value > 0.0), "{field}: {:?}", of(field));
    }
    let drawn = std::fs::read_to_string(folder.join("soak.svg")).unwrap();
    assert!(drawn.starts_with("<svg xmlns=") && drawn.ends_with("</svg>\n"));
    assert_eq!(drawn.matches("<polyline").count(), 4);
    assert!(drawn.contains("memory: not judged"), "{drawn}");
}

#[test]
fn a_soak_that_is_interrupted_judges_what_there_is() {
    let folder = folder("soak_interrupted");
    let mut running = Running::start(&folder);
    let bots = children(running.process.id());
    assert_eq!(bots.len(), 1);
    signal(running.process.id(), "-INT");
    let (is_well, said, errors) = running.wait();
    assert!(is_well, "{said:?} {errors}");
    assert!(said.iter().any(|line| line == "rooms: none failed"), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("time to join")), "its bots could say what they felt: {said:?}");
    assert_eq!(left_in(&folder), ["soak.csv", "soak.svg"]);
    assert!(!Path::new(&format!("/proc/{}", bots[0])).exists(), "its bots are gone");
}

#[test]
fn the_bots_of_a_soak_give_way_to_their_server_once_each_was_let_in_or_turned_away() {
    let running = Running::start(&folder("soak_gives_way"));
    let bots = children(running.process.id());
    assert_eq!(bots.len(), 1);
    let gives_way = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        niceness(bots[0]) == Some(19)
    });
    assert!(gives_way, "{:?}", niceness(bots[0]));
    assert_eq!(niceness(running.process.id()), niceness(std::process::id()), "the server takes what it can");
}

#[test]
fn the_bots_of_a_soak_predict_where_that_is_asked_for() {
    let folder = folder("soak_predicts");
    let output = soak(&folder, &["--seconds", "6", "--predict", "--no-store"]).output().unwrap();
    let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{told}{errors}");
    assert!(predicted(&told) > 0, "{told}");
}

#[test]
fn when_the_bots_die_it_says_so_and_ends_in_failure() {
    let folder = folder("soak_without_bots");
    let mut running = Running::start(&folder);
    children(running.process.id()).iter().for_each(|bots| signal(*bots, "-KILL"));
    let (is_well, said, errors) = running.wait();
    assert!(!is_well, "{said:?}");
    assert!(errors.contains("error: the process with the bots of soak1 ended before its time (signal: 9"), "{errors}");
    // What was measured until then is there.
    assert!(said.iter().any(|line| line == "rooms: none failed"), "{said:?}");
    assert_eq!(left_in(&folder), ["soak.csv", "soak.svg"]);
}

#[test]
fn a_soak_into_which_no_bot_ever_came_ends_in_failure() {
    let folder = folder("soak_alone");
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    command.args(["soak", "--rooms", "1", "--bots", "2", "--every", "1", "--seconds", "4", "--link", "loss=100%", "--no-store"]);
    let output = command.arg("--out").arg(folder.join("soak.svg")).output().unwrap();
    let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!output.status.success(), "{told}{errors}");
    assert!(told.contains("\n0 joins"), "{told}");
    assert!(errors.contains("error: the process with the bots of soak1 ended in failure (exit status: 1)"), "{errors}");
}

#[test]
fn what_can_be_wrong_is_said_before_anything_is_started() {
    let folder = folder("soak_nowhere");
    let output = soak(&folder.join("not_there"), &["--minutes", "60"]).output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("error: the samples ") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn the_bots_of_a_soak_end_with_whoever_started_them_and_are_not_in_the_help() {
    let inferno = || Command::new(env!("CARGO_BIN_EXE_inferno"));
    let mut bots = inferno();
    bots.args(["soak-bots", "--server", "127.0.0.1:9", "--bots", "2", "--seconds", "3600"]);
    let mut process = bots.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    drop(process.stdin.take());
    // Nobody answers there, so no bot was ever in a room.
    assert!(!process.wait().unwrap().success());
    let help = String::from_utf8(inferno().arg("--help").output().unwrap().stdout).unwrap();
    assert!(help.contains("\n  soak ") && !help.contains("soak-bots"), "{help}");
}
