//! `capacity`: the binary measures what the machine holds, with clients in a process of their own, and draws it. No time is judged here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};

fn inferno() -> Command {
    Command::new(env!("CARGO_BIN_EXE_inferno"))
}

/// The names of the elements that are open after a text of XML as this library writes it, without comments and sections.
fn open_elements(xml: &str) -> Vec<&str> {
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap();
        assert!(text.split('&').skip(1).all(|rest| ["amp;", "lt;", "gt;"].iter().any(|known| rest.starts_with(known))), "{text}");
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    open
}

#[test]
fn a_trial_names_a_number_of_members_and_draws_it() {
    let svg = std::env::temp_dir().join(format!("roomkeeper-capacity-{}.svg", std::process::id()));
    let output = inferno().args(["capacity", "--quick", "--svg"]).arg(&svg).stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let held: Vec<&str> = text.lines().filter(|line| line.starts_with("this machine holds ")).collect();
    assert_eq!(held.len(), 2, "{text}");
    for sentence in held {
        let (_, members) = sentence.split_once('(').unwrap();
        let members: u32 = members.split_once(" in all) at 20 Hz; p99 of the tick's start ").unwrap().0.parse().unwrap();
        assert_eq!(members, 8, "{text}");
    }
    assert!(text.contains("The clients run in another process of the same machine"), "{text}");

    let drawn = std::fs::read_to_string(&svg).unwrap();
    std::fs::remove_file(&svg).unwrap();
    assert!(drawn.starts_with("<svg xmlns=") && drawn.ends_with("</svg>\n"));
    assert_eq!(open_elements(&drawn), Vec::<&str>::new());
    // Two sweeps, two steps each at least, four lines each.
    assert!(drawn.matches("<circle").count() >= 12, "{drawn}");
    assert!(!drawn.contains("NaN") && !drawn.contains("inf\""), "{drawn}");
}

#[test]
fn as_many_rooms_as_are_asked_for_may_not_have_more_members_than_are_tried() {
    for (arguments, wanted) in [
        (&["--quick", "--rooms", "500"][..], "500 rooms of 4 are 2000 members; at most 8, as many as are tried"),
        (&["--rooms", "10", "--members-per-room", "2", "--members-max", "19"], "10 rooms of 2 are 20 members; at most 19, as asked"),
    ] {
        let output = inferno().arg("capacity").args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains("--rooms") && errors.contains(wanted), "{errors}");
        assert!(output.stdout.is_empty(), "nothing is measured");
    }
}

#[test]
fn the_clients_end_with_whoever_started_them() {
    let clients = ["capacity-clients", "--server", "127.0.0.1:9", "--rooms", "1", "--members", "2", "--bot-every", "0"];
    let mut process = inferno().args(clients).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[test]
fn its_second_half_is_not_in_the_help() {
    let help = String::from_utf8(inferno().arg("--help").output().unwrap().stdout).unwrap();
    assert!(help.contains("\n  capacity  ") && !help.contains("capacity-clients"), "{help}");
}
