//! `ledger backtest`, as somebody runs it who has changed a number.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roomkeeper::host::{KeepOptions, Keeper};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Incoming;
use roomkeeper::room::{Blueprint, Level, RoomOptions};
use serde_json::Value;

use crate::{protocol, rules};

/// Ten seconds of two matches: monsters make their rounds, and ann stands where she came in.
fn record(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    let blueprint = Blueprint::new(protocol::add, rules::add);
    let mut keeper = Keeper::open(&KeepOptions::in_folder(&folder)).unwrap();
    for (room, level) in [("first", "e1m1"), ("second", "e1m2")] {
        let level = Level::open(format!("{}/assets/levels/{level}.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut room = keeper.room(&blueprint, RoomOptions { level: Some(level), ..RoomOptions::named(room) }).unwrap();
        let handle = keeper.handle(&room.info().name).unwrap();
        for tick in 1..=200 {
            let joins = (tick == 5).then(|| Incoming::Join { user: EntityId::named("ann"), name: "ann".to_owned() });
            handle.record(room.tick(joins).unwrap().into());
        }
    }
    assert!(keeper.stop().given_up.is_none());
    folder
}

fn backtest(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferno"));
    command.arg("ledger").arg("--data").arg(data).arg("backtest").args(arguments).output().unwrap()
}

/// What it says of a run that is in order.
fn said(data: &Path, arguments: &[&str]) -> String {
    let output = backtest(data, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Why it fails.
fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = backtest(data, arguments);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn recorded_matches_are_a_test_of_rules_that_were_not_to_change() {
    let data = record("backtest_same");
    assert!(said(&data, &["--check"]).contains("in all: 2 as recorded, 0 otherwise"));
    assert!(said(&data, &["--check", "sec*"]).contains("in all: 1 as recorded, 0 otherwise"));
    // The levels of the tree are those that it was recorded with.
    let (levels, none) = (concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels"), concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    assert!(said(&data, &["--check", "--levels", levels]).contains("in all: 2 as recorded, 0 otherwise"));
    assert!(refused(&data, &["third"]).contains("third: no room has such a name"));
    assert!(refused(&data, &["--levels", none]).contains("none of these levels is in it: e1m1.json, e1m2.json"));
    assert!(refused(&data, &["--set", "monster_imp_77.health=1"]).contains("no level of these rooms has a value there"));
    assert!(refused(&data, &["--set", "monster_imp_1"]).contains("puts no value into a level"));
}

#[test]
fn a_changed_number_is_told_by_facts_and_levels() {
    let data = record("backtest_changed");
    // Monsters that are not in the scene sleep.
    let asleep = ["--set", "monster_*.visibility=false"];
    let text = said(&data, &asleep);
    for words in
        ["first: otherwise from tick 0 (00:00.0) on: monster_", "e1m1.json: 0 as", "e1m2.json: 0 as", "in all: 0 as recorded, 2 otherwise"]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let json = said(&data, &[&asleep[..], &["--json"]].concat());
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "two rooms, two levels, and all");
    let moved = &lines[4]["all"]["facts"]["monster_moved"];
    assert!(moved["recorded"].as_u64().unwrap() > 0 && moved["now"] == 0, "{moved}");
    assert_eq!(lines[4]["all"]["facts"]["user_joined"], serde_json::json!({ "recorded": 2, "now": 2 }));
    assert_eq!((&lines[0]["difference"]["tick"], &lines[0]["same_end"]), (&Value::from(0), &Value::from(false)));
    // As a test it fails, and says what is otherwise first.
    let error = refused(&data, &[&asleep[..], &["--check"]].concat());
    assert_eq!(backtest(&data, &[&asleep[..], &["--check"]].concat()).status.code(), Some(3), "told from what could not be run");
    assert!(error.contains("the run differs in tick 0: ") && error.contains("(room \"first\"; 2 of 2 rooms differ)"), "{error}");
}
