//! The verbs that work on what is stored, by the binary: exports that don't come to their end, and what a room says to a reset.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use roomkeeper::host::{KeepOptions, Keeper};
use roomkeeper::prelude::EntityId;
use roomkeeper::protocol::{CommandId, Incoming, Protocol};
use roomkeeper::room::{Blueprint, Level, RoomOptions};
use roomkeeper::store::data_file;
use serde_json::Value;

use crate::server::serve;
use crate::{protocol, rules};

/// A folder of a test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A verb on the data in a place.
fn verb(name: &str, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    command.arg(name).arg("--data").arg(data);
    command
}

/// Whether it went well, and what it said on each of its outputs.
fn said(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Two minutes of a room in which monsters make their rounds, kept in a folder.
fn record(data: &Path) {
    play(data, 2_400, |_| Vec::new());
}

/// So many ticks of a room into which something comes, kept in a folder.
fn play(data: &Path, ticks: u32, comes: impl Fn(u32) -> Vec<Incoming>) {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
    let options = RoomOptions { level: Some(level), ..RoomOptions::named("main") };
    let mut keeper = Keeper::open(&KeepOptions::in_folder(data)).unwrap();
    let mut room = keeper.room(&Blueprint::new(protocol::add, rules::add), options).unwrap();
    let handle = keeper.handle("main").unwrap();
    for tick in 1..=ticks {
        handle.record(room.tick(comes(tick)).unwrap().into());
    }
    assert!(keeper.stop().given_up.is_none());
}

fn export(data: &Path, to: &Path) -> Command {
    let mut command = verb("ledger", data);
    command.arg("export").arg("--to").arg(to);
    command
}

/// The names of what is in a folder.
pub fn left_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_export_that_fails_half_way_leaves_nothing_and_one_that_does_not_is_whole() {
    let (data, out) = (folder("export_data"), folder("export_out"));
    record(&data);
    let to = out.join("match.sqlite");
    // The facts are copied before the ticks, of which one is not as it was written.
    let damage = || {
        let file = rusqlite::Connection::open(data_file(&data)).unwrap();
        file.execute("UPDATE tick_chunk SET sum = ~sum WHERE seq_from = (SELECT max(seq_from) FROM tick_chunk)", []).unwrap()
    };
    assert_eq!(damage(), 1);
    let (well, _, errors) = said(&mut export(&data, &to));
    assert!(!well && errors.contains("checksum"), "{errors}");
    assert_eq!(left_in(&out), Vec::<String>::new());
    // It is mended, and exported.
    assert_eq!(damage(), 1);
    let (well, told, errors) = said(&mut export(&data, &to));
    assert!(well && told.starts_with("main is in "), "{told}{errors}");
    assert_eq!(left_in(&out), ["match.sqlite"]);
    let (well, told, errors) = said(verb("ledger", &to).arg("verify"));
    assert!(well, "{told}{errors}");
    // What is there is not replaced.
    let (well, _, errors) = said(&mut export(&data, &to));
    assert!(!well && errors.contains("match.sqlite"), "{errors}");
}

#[test]
fn at_the_place_of_an_export_that_is_killed_there_is_never_half_of_it() {
    let (data, out) = (folder("killed_export_data"), folder("killed_export_out"));
    record(&data);
    let to = out.join("match.sqlite");
    let mut export_it = export(&data, &to);
    let mut process = export_it.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // As soon as it has begun to write, or before if it is so quick that it has ended by then.
    while left_in(&out).is_empty() && process.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    process.kill().unwrap();
    process.wait().unwrap();
    if to.exists() {
        let (well, told, errors) = said(verb("ledger", &to).arg("verify"));
        assert!(well, "what is there is whole: {told}{errors}");
    } else {
        let (well, told, errors) = said(&mut export(&data, &to));
        assert!(well, "what was left is in nobody's way: {told}{errors}");
    }
}

/// Saves the snippet `start` of a room that is served. It takes a moment until its first ticks are stored.
fn save_start(data: &Path) {
    let save = || said(verb("snippet", data).args(["save", "start"]));
    let mut saved = save();
    for _ in 0..200 {
        if saved.0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        saved = save();
    }
    assert!(saved.0, "{saved:?}");
}

/// In which ticks a room was reset.
fn resets(data: &Path) -> Vec<u64> {
    let (_, facts, _) = said(verb("ledger", data).args(["--json", "facts", "--kind", "scene_reset"]));
    let tick = |line| serde_json::from_str::<Value>(line).unwrap().get("tick").and_then(Value::as_u64).unwrap();
    facts.lines().map(tick).collect()
}

/// In which tick a reset says that it was done, and whether it may have been later.
fn done_in(told: &str) -> (u64, bool) {
    let (_, tick) = told.split_once("main is reset to start: done in tick ").unwrap_or_else(|| panic!("{told}"));
    (tick.split_whitespace().next().unwrap().parse().unwrap(), tick.trim_end().ends_with(" or later"))
}

#[test]
fn what_is_not_kept_is_not_said_to_come_out_the_same_when_it_is_run_again() {
    let data = folder("replayed_fork");
    record(&data);
    let (well, _, errors) = said(verb("ledger", &data).args(["fork", "00:10.0", "again"]));
    assert!(well, "{errors}");
    let replay = |room: &str| said(verb("ledger", &data).args(["--room", room, "replay", "--to", "00:05.0"]));
    let (well, told, errors) = replay("main");
    assert!(well && told.starts_with("100 ticks run again"), "{told}{errors}");
    let (well, told, errors) = replay("again");
    assert!(!well && told.is_empty() && errors.contains("has no tick 100: what is kept goes from 200 to"), "{told}{errors}");
}

#[test]
fn a_reset_says_in_which_tick_the_room_did_it_or_why_it_did_not() {
    let data = folder("reset_says");
    let server = serve(Some(&data));
    save_start(&data);
    let snippet = |arguments: &[&str]| said(verb("snippet", &data).args(arguments));
    let (well, told, errors) = snippet(&["reset", "start"]);
    assert!(well, "{told}{errors}");
    assert_eq!(resets(&data), [done_in(&told).0]);

    // It can be read, and no room can take it.
    let file = data.join("bad.json");
    std::fs::write(&file, r#"{"heart": {"health": "much"}}"#).unwrap();
    let imported = snippet(&["import", "bad", file.to_str().unwrap()]);
    assert!(imported.0, "{imported:?}");
    let (well, told, errors) = snippet(&["reset", "bad"]);
    assert!(!well && told.is_empty(), "{told}");
    assert!(errors.contains("main: refused in tick ") && errors.contains("bad_state: heart.health: "), "{errors}");

    drop(server);
    let (well, told, errors) = snippet(&["reset", "start"]);
    assert!(well && told == "main is reset to start as soon as somebody serves it, which nobody does at the moment\n", "{told}{errors}");
}

#[test]
fn an_event_by_the_command_line_happens_in_the_room_that_is_served_or_is_refused_in_words() {
    let data = folder("event_says");
    let server = serve(Some(&data));
    save_start(&data);
    let event = |arguments: &[&str]| said(verb("ledger", &data).arg("event").args(arguments));
    let (well, told, errors) = event(&["door_opened", r#"{"door": "door_armoury", "player": null}"#]);
    assert!(well && told.starts_with("door_opened happens in main: done in tick "), "{told}{errors}");
    let (_, facts, _) = said(verb("ledger", &data).args(["--json", "facts", "--kind", "door_opened"]));
    let by_operator = |line: &str| line.contains("\"server\"") && !line.contains("\"system");
    assert_eq!(facts.lines().filter(|line| by_operator(line)).count(), 1, "{facts}");
    let of = |by: &str| said(verb("ledger", &data).args(["--json", "facts", "--kind", "door_opened", "--by", by])).1;
    assert_eq!((of("server").lines().filter(|line| by_operator(line)).count(), of("init").lines().count()), (1, 0), "{facts}");

    // Refused by whoever asks, and by the room, which alone knows who is in it.
    let (well, told, errors) = event(&["door_open", "{}"]);
    assert!(!well && told.is_empty() && errors.contains("unknown_fact") && errors.contains("player_moved"), "{errors}");
    let (well, told, errors) = event(&["door_opened"]);
    assert!(!well && told.is_empty() && errors.contains("malformed: door_opened: invalid type: null"), "{errors}");
    let (well, told, errors) = event(&["door_opened", r#"{"door": "door_nowhere", "player": null}"#]);
    assert!(!well && told.is_empty() && errors.contains("main: refused in tick ") && errors.contains("no_such_entity"), "{errors}");

    drop(server);
    let (well, told, errors) = event(&["door_opened", r#"{"door": "door_armoury", "player": null}"#]);
    let later = "door_opened happens in main as soon as somebody serves it, which nobody does at the moment\n";
    assert!(well && told == later, "{told}{errors}");
}

#[test]
fn of_operators_who_reset_to_the_same_at_about_the_same_time_none_is_told_anothers_tick_for_its_own() {
    let data = folder("reset_thrice");
    let _server = serve(Some(&data));
    save_start(&data);
    let reset = || verb("snippet", &data).args(["reset", "start"]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let all = [reset(), reset(), reset()].map(|process| process.wait_with_output().unwrap());
    let told = all.map(|output| (output.status.success(), String::from_utf8(output.stdout).unwrap()));
    assert!(told.iter().all(|(well, _)| *well), "{told:?}");
    let ticks = resets(&data);
    assert_eq!(ticks.len(), 3, "{ticks:?}");
    let said = told.each_ref().map(|(_, told)| done_in(told));
    assert!(said.iter().all(|(tick, _)| ticks.contains(tick)), "{said:?} of {ticks:?}");
    // Who is told a tick without more has a reset of its own there.
    let mut sure: Vec<u64> = said.iter().filter(|(_, or_later)| !or_later).map(|(tick, _)| *tick).collect();
    let count = sure.len();
    sure.sort_unstable();
    sure.dedup();
    assert_eq!(sure.len(), count, "{said:?} of {ticks:?}");
}

/// Five seconds of a room with ann, whose id is not made of her name. She fires once, by command 7.
fn record_ann(data: &Path, ann: EntityId) {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
    let options = RoomOptions { level: Some(level), ..RoomOptions::named("main") };
    let mut keeper = Keeper::open(&KeepOptions::in_folder(data)).unwrap();
    let mut room = keeper.room(&Blueprint::new(protocol::add, rules::add), options).unwrap();
    let kind = room.world().resource::<Protocol>().command_names().position(|name| name == "fire").unwrap();
    let aim: Vec<u8> = [1.0_f32, 0.0].iter().flat_map(|part| part.to_le_bytes()).collect();
    let handle = keeper.handle("main").unwrap();
    for tick in 1..=100 {
        let incoming = match tick {
            5 => Some(Incoming::Join { user: ann, name: "ann".to_owned() }),
            20 => Some(Incoming::Command { user: ann, id: CommandId(7), kind, seen: None, payload: aim.clone().into() }),
            _ => None,
        };
        handle.record(room.tick(incoming).unwrap().into());
    }
    assert!(keeper.stop().given_up.is_none());
}

#[test]
fn players_are_known_by_their_names_and_whoever_was_never_there_is_not_taken_for_one_who_did_nothing() {
    let (data, id) = (folder("players_by_name"), "0f2b8d7e-6c1a-4e7b-9c55-1f60f1d3a8b2");
    record_ann(&data, EntityId::parse(id));
    let audit = |player: &str| said(verb("ledger", &data).args(["audit", "--player", player]));
    let (well, told, errors) = audit("ann");
    assert!(well && told.contains(" ann user_joined ") && told.contains(" ann command 7 bullet_fired "), "{told}{errors}");
    assert_eq!(audit(id).1, told);
    let (well, told, errors) = audit("bob");
    assert!(!well && told.is_empty() && errors.contains("bob: nobody of that name or id was ever in main"), "{told}{errors}");

    let replay = |dropped: &str| said(verb("ledger", &data).args(["replay", "--drop", dropped]));
    let (well, told, errors) = replay("ann:7");
    assert!(well && told.starts_with("the first difference is in tick 20 "), "{told}{errors}");
    for none in ["ann:8", "bob:7"] {
        let (well, told, errors) = replay(none);
        assert!(!well && told.is_empty() && errors.contains(&format!("{none}: no such command was taken in")), "{told}{errors}");
    }
}

#[test]
fn rooms_are_listed_before_they_are_deleted_and_not_deleted_under_a_server() {
    let data = folder("ledger-delete");
    record(&data);
    let delete = |arguments: &[&str]| said(verb("ledger", &data).arg("delete").args(arguments));
    let (well, _, errors) = delete(&["--yes"]);
    assert!(!well && errors.contains("which ones are to be deleted?"), "{errors}");
    let (well, _, errors) = delete(&["cellar*", "--yes"]);
    assert!(!well && errors.contains("no room has such a name"), "{errors}");
    let (well, _, errors) = delete(&["--unused-for", "30 years"]);
    assert!(!well && errors.contains("with its unit: ms, s, min, h or d"), "{errors}");
    let (well, told, errors) = delete(&["m*n"]);
    assert!(well && told.contains("main: unused for ") && told.contains("1 would be deleted"), "{told} {errors}");
    let (well, told, _) = delete(&["--unused-for", "30d", "--yes"]);
    assert!(well && told.contains("there is none that has been unused for so long"), "{told}");
    // A server has the data: it alone knows which rooms are open.
    let serves = Keeper::open(&KeepOptions::in_folder(&data)).unwrap();
    let (well, told, errors) = delete(&["main", "--yes"]);
    assert!(!well && errors.contains("its server runs: stop it first") && told.is_empty(), "{told} {errors}");
    let (well, told, errors) = delete(&["main"]);
    assert!(well && told.contains("main: unused for "), "{errors}");
    drop(serves.stop());
    let (well, told, errors) = said(verb("ledger", &data).args(["--json", "delete", "main", "--yes"]));
    let line: Value = serde_json::from_str(told.trim()).unwrap();
    assert!(well && line["room"] == "main" && line["deleted"] == true && line["unused_seconds"].is_u64(), "{told} {errors}");
    let (well, told, _) = said(verb("ledger", &data).arg("rooms"));
    assert!(well && told.is_empty(), "{told}");
    // What the last of them took is given back as well.
    let size = || std::fs::metadata(data_file(&data)).unwrap().len();
    let before = size();
    let (well, _, errors) = said(verb("ledger", &data).args(["compact", "--all"]));
    assert!(well && size() < before, "{errors} {before} {}", size());
    let (well, _, errors) = said(verb("ledger", &data).args(["--room", "main", "facts"]));
    assert!(!well && errors.contains("there is no room \"main\""), "{errors}");
}

#[test]
fn a_match_is_told_as_subtitles_that_a_player_of_films_reads() {
    let data = folder("ledger-subtitles");
    let comes = |name: &str| vec![Incoming::Join { user: EntityId::named(name), name: name.to_owned() }];
    play(&data, 80, |tick| match tick {
        20 => comes("<ann> & co"),
        30 => comes("bob"),
        50 => comes("cid"),
        _ => Vec::new(),
    });
    let (well, told, errors) = said(verb("ledger", &data).args(["story", "--vtt"]));
    assert!(well, "{errors}");
    let mut cues = told.split("\n\n").map(str::trim).filter(|cue| !cue.is_empty());
    assert_eq!(cues.next(), Some("WEBVTT"));
    let cues: Vec<(&str, &str)> = cues.map(|cue| cue.split_once('\n').unwrap()).collect();
    let seconds = |time: &str| time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap());
    let mut last = 0.0;
    for (times, text) in &cues {
        let (from, to) = times.split_once(" --> ").unwrap();
        assert!(from.len() == 12 && to.len() == 12 && seconds(from) >= last && seconds(to) > seconds(from), "{times}");
        assert!(!text.is_empty() && !text.contains(['<', '>', '\n']), "{text}");
        last = seconds(from);
    }
    let of = |name: &str| cues.iter().find(|(_, text)| text.contains(name)).unwrap();
    assert!(of("&lt;ann&gt; &amp; co").0.starts_with("00:00:01.000 --> "), "{told}");
    assert!(of("cid").0.starts_with("00:00:02.500 --> "), "{told}");
    // No more than two are to be read at a time.
    for three in cues.windows(3) {
        let (first, third) = (three[0].0.split_once(" --> ").unwrap().1, three[2].0.split_once(" --> ").unwrap().0);
        assert!(seconds(first) <= seconds(third).max(seconds(three[0].0.split_once(" --> ").unwrap().0) + 0.5), "{told}");
    }
}
