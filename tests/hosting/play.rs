//! The real binary in a pseudo-terminal: keys in, screen out. Somebody plays, watches, looks back, and has the terminal back afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use crate::terminal::Terminal;
use bevy_app::{App, FixedUpdate};
use bevy_ecs::prelude::Local;
use roomkeeper::cli::{Game, Picture, View};

const INFERNO: &str = env!("CARGO_BIN_EXE_inferno");

/// A level of one corridor: the player at the left, the way out at the right.
const CORRIDOR: &str = r#"{
    "game": {"status": "playing", "tag": "game_state"},
    "spawn_1": {"position": [3.0, 3.0], "spawn_point": {"order": 1}},
    "exit": {"position": [9.0, 3.0], "exit": {"radius": 1.0}},
    "wall_1": {"position": [6.0, 0.5], "wall": {"half": [6.0, 0.5]}},
    "wall_2": {"position": [6.0, 5.5], "wall": {"half": [6.0, 0.5]}}
}"#;

/// A level in which somebody is who throws fireballs, and no way out.
const TRAP: &str = r#"{
    "game": {"status": "playing", "tag": "game_state"},
    "spawn_1": {"position": [3.0, 3.0], "spawn_point": {"order": 1}},
    "wall_1": {"position": [6.0, 0.5], "wall": {"half": [6.0, 0.5]}},
    "monster_baron_1": {"position": [8.0, 3.0], "rotation": 0.0, "monster": "baron", "monster_state": "monster_idle", "health": 120,
        "patrol": {"points": [[8.0, 3.0]], "next": 0}, "visibility": true}
}"#;

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn inferno(arguments: &[&str]) -> Terminal {
    Terminal::start(INFERNO, arguments, &[], true)
}

/// A number that stands behind a word on the screen.
fn number_after(screen: &str, word: &str) -> Option<f64> {
    let rest = screen.split(word).nth(1)?.trim_start();
    let end = rest.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// How far to the right the player is.
fn place(screen: &str) -> f64 {
    number_after(screen, " at  ").unwrap_or(0.0)
}

struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(level: &str) -> Server {
    serve_with(level, &[])
}

fn serve_with(level: &str, more: &[&str]) -> Server {
    let arguments = ["serve", "--bind", "127.0.0.1:0", "--level", level];
    let mut process = Command::new(INFERNO).args(arguments).args(more).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| Some(line.unwrap().split_once(" on udp ")?.1.to_owned())).unwrap();
    Server(process, address)
}

#[test]
fn who_plays_walks_to_the_exit_wins_plays_again_and_has_the_terminal_back() {
    let level = file("corridor.json", CORRIDOR);
    let mut terminal = inferno(&["play", "--name", "ann", "--level", &level]);
    let screen = terminal.wait_for("the level", |screen| place(screen) == 3.0 && screen.contains('@'));
    assert!(screen.contains("ann") && screen.contains("EXIT") && screen.contains("██████") && screen.contains("round trip"), "{screen}");
    assert!(screen.contains("health      ██████████ 100"), "{screen}");
    terminal.hold('d');
    terminal.wait_for("a walk", |screen| place(screen) > 4.0);
    terminal.let_go('d');
    terminal.hold('d');
    let screen = terminal.wait_for_text("The level is won.");
    assert!(screen.contains("r plays again, q leaves"), "{screen}");
    terminal.let_go('d');
    terminal.keys("r");
    terminal.wait_for("another match", |screen| place(screen) == 3.0 && !screen.contains("The level is won."));
    // The key that leaves is beside those that walk: it is asked whether it was meant.
    terminal.keys("q");
    terminal.wait_for_text("leave the match?");
    terminal.keys("e");
    terminal.wait_for("the match goes on", |screen| !screen.contains("leave the match?"));
    terminal.keys("qq");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn what_is_logged_while_somebody_plays_waits_until_the_screen_is_gone() {
    let level = file("logged.json", CORRIDOR);
    let mut terminal = inferno(&["play", "--level", &level, "--log", "roomkeeper=info"]);
    let screen = terminal.wait_for("the level", |screen| place(screen) == 3.0);
    assert!(!screen.contains("joined"), "{screen}");
    // The server, which logged that somebody came, goes on.
    terminal.hold('d');
    terminal.wait_for("a walk", |screen| place(screen) > 4.0);
    terminal.keys("\x03");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.text().contains("joined"), "{}", terminal.text());
}

#[test]
fn a_terminal_that_tells_no_key_ups_walks_as_long_as_keys_are_repeated() {
    let level = file("corridor_old.json", CORRIDOR);
    let mut terminal = Terminal::start(INFERNO, &["play", "--level", &level], &[], false);
    terminal.wait_for("the level", |screen| place(screen) == 3.0);
    // On a busy machine all of them may come at once, and make one step.
    let mut presses = 0;
    while terminal.look(20, |screen| place(screen) > 3.2).is_none() {
        presses += 1;
        assert!(presses < 20, "it does not walk:\n{}", terminal.text());
        for _ in 0..3 {
            terminal.keys("d");
            terminal.keys("\x1b[C");
        }
    }
    // Nobody repeats the key: it stops before the exit. On a busy machine it may be put back a little before.
    let stood = |terminal: &mut Terminal| place(&terminal.wait_for("a picture", |screen| place(screen) > 3.0));
    let mut before = stood(&mut terminal);
    loop {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = stood(&mut terminal);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 7.0, "{before}");
    terminal.keys("\x03");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn who_is_killed_is_told_so_and_what_can_be_done() {
    let level = file("trap.json", TRAP);
    let mut terminal = inferno(&["play", "--name", "ann", "--level", &level]);
    terminal.wait_for("a monster", |screen| screen.contains("B!"));
    // First it is shown once more, from five seconds before on.
    terminal.wait_for("the last seconds", |screen| screen.contains("once more   k goes on") && screen.contains("B!"));
    let page = |screen: &str| screen.contains("the level is lost.") && screen.contains("k shows the last seconds once more");
    let screen = terminal.wait_for("the end of it", page);
    assert!(screen.contains("r plays again, q leaves") && screen.contains("ann is killed."), "{screen}");
    terminal.keys("k");
    terminal.wait_for("the last seconds again", |screen| screen.contains("once more   k goes on") && screen.contains("B!"));
    terminal.keys("k");
    terminal.wait_for("the end of it", page);
    terminal.keys("\x1b");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn who_dies_with_the_key_held_down_that_goes_on_sees_the_last_seconds_all_the_same() {
    let mut terminal = inferno(&["play", "--name", "ann", "--level", &file("trap_held.json", TRAP)]);
    terminal.wait_for("a monster", |screen| screen.contains("B!"));
    // It fires down as well.
    terminal.hold('k');
    let repeated = |terminal: &mut Terminal| {
        terminal.keys("\x1b[107;1:2u");
        terminal.look(1, |screen| screen.contains("once more   k goes on")).is_some()
    };
    assert!((0..1_200).any(|_| repeated(&mut terminal)), "{}", terminal.text());
    (0..20).for_each(|_| assert!(repeated(&mut terminal), "{}", terminal.text()));
    terminal.let_go('k');
    terminal.keys("\x03");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn who_may_look_only_at_what_is_past_is_led_there_by_the_key_that_goes_back() {
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("watched_late");
    let _ = std::fs::remove_dir_all(&data);
    let more = ["--data", data.to_str().unwrap(), "--set", "limits.spectators_behind_min=100"];
    let server = serve_with(&file("corridor_late.json", CORRIDOR), &more);
    let mut spectator = inferno(&["watch", "--view", &server.1]);
    spectator.wait_for_text("not let in");
    spectator.keys("[");
    spectator.wait_for("the past", |screen| screen.contains("s late") && screen.contains("EXIT"));
    spectator.keys("q");
    assert_eq!(spectator.end(), 0);
}

#[test]
fn a_spectator_sees_who_plays_on_a_server_and_an_unknown_room_is_refused() {
    let server = serve(&file("corridor_served.json", CORRIDOR));
    let mut player = inferno(&["play", &server.1, "--name", "ann", "--link", "rtt=40ms"]);
    player.wait_for("the level", |screen| place(screen) == 3.0);
    let mut spectator = inferno(&["watch", "--view", &server.1]);
    let screen = spectator.wait_for("the player", |screen| screen.contains("ann") && place(screen) == 3.0);
    assert!(screen.contains('@') && screen.contains("EXIT") && screen.contains("tab follow another"), "{screen}");
    player.hold('d');
    spectator.wait_for("a walk", |screen| place(screen) > 3.5);
    spectator.keys("q");
    assert_eq!(spectator.end(), 0);
    player.keys("qq");
    assert_eq!(player.end(), 0);
    let mut stranger = inferno(&["play", &server.1, "--room", "cellar"]);
    let screen = stranger.wait_for_text("not let in");
    assert!(screen.contains("r tries again, q leaves") && screen.contains(&format!("inferno rooms {} lists rooms", server.1)), "{screen}");
    stranger.keys("q");
    assert_eq!(stranger.end(), 0);
}

#[test]
fn who_watches_goes_back_in_time_and_on_again_where_the_server_keeps_it() {
    let level = file("corridor_watched.json", CORRIDOR);
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("watched");
    let _ = std::fs::remove_dir_all(&data);
    for kept in [true, false] {
        let keeping = ["--data", data.to_str().unwrap()];
        let server = serve_with(&level, if kept { &keeping } else { &[] });
        let mut player = inferno(&["play", &server.1, "--name", "ann"]);
        player.wait_for("the level", |screen| place(screen) == 3.0);
        // Long enough to be seen where she came.
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        player.hold('d');
        player.wait_for("a walk", |screen| place(screen) > 4.0);
        player.let_go('d');
        // So that her walk is past.
        std::thread::sleep(std::time::Duration::from_secs(3));
        let mut spectator = inferno(&["watch", "--view", &server.1]);
        spectator.wait_for("the player", |screen| place(screen) > 3.5);
        spectator.keys("[");
        let mut back = 1;
        if kept {
            // Usually less than ten seconds have passed: it is at the beginning, and sees her come. On a slow machine it has to go back further.
            while spectator.look(300, |screen| screen.contains("s late") && place(screen) == 3.0).is_none() {
                back += 1;
                assert!(back < 20, "the player in the past:\n{}", spectator.text());
                spectator.keys("[");
            }
        } else {
            spectator.wait_for_text("this server does not keep what happened");
        }
        (0..back).for_each(|_| spectator.keys("]"));
        spectator.wait_for("the present", |screen| !screen.contains("late") && place(screen) > 3.5);
        spectator.keys("q");
        assert_eq!(spectator.end(), 0);
        if kept {
            // So does who has named the moment by its tick.
            let mut spectator = inferno(&["watch", "--view", &server.1, "--room", "main@20"]);
            spectator.wait_for("the tick", |screen| screen.contains("from tick 20") && screen.contains("EXIT"));
            spectator.keys("[");
            let screen = spectator.wait_for("a tick before", |screen| screen.contains("from tick 0") && screen.contains("EXIT"));
            assert!(!screen.contains("not let in"), "{screen}");
            spectator.keys("q");
            assert_eq!(spectator.end(), 0);
        }
        player.keys("qq");
        assert_eq!(player.end(), 0);
    }
}

#[test]
fn a_recorded_match_is_gone_through_forwards_backwards_and_by_its_facts() {
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("looked_back");
    let _ = std::fs::remove_dir_all(&data);
    let (data, level) = (data.display().to_string(), file("corridor_kept.json", CORRIDOR));
    let mut terminal = inferno(&["play", "--name", "ann", "--level", &level, "--data", &data]);
    terminal.wait_for("the level", |screen| place(screen) == 3.0);
    terminal.hold('d');
    terminal.wait_for_text("The level is won.");
    terminal.let_go('d');
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.text().contains(&format!("inferno ledger --data {data} view main")), "{}", terminal.text());

    let mut terminal = inferno(&["ledger", "--data", &data, "view", "main"]);
    let screen = terminal.wait_for_text("tick        0 of");
    assert!(screen.contains("1, paused") && screen.contains('●') && screen.contains('┼'), "{screen}");
    let last = number_after(&screen, "tick        0 of").unwrap();
    // The end of it, as the player saw it; and the beginning again.
    terminal.keys("\x1b[F");
    let screen = terminal.wait_for_text(&format!("tick        {last} of {last}"));
    assert!(screen.contains("ann reaches the exit: the level is won.") && place(&screen) > 7.5, "{screen}");
    // The win is the last fact that is told; the one before is that ann joined.
    terminal.keys("p");
    terminal.wait_for("the win", |screen| number_after(screen, "tick ") < Some(last));
    terminal.keys("p");
    let screen = terminal.wait_for("the join", |screen| place(screen) == 3.0);
    assert!(screen.contains("ann joins.") && !screen.contains("the level is won"), "{screen}");
    let joined = number_after(&screen, "tick ").unwrap();
    terminal.keys(".");
    terminal.wait_for("a tick on", |screen| number_after(screen, "tick ") == Some(joined + 1.0));
    terminal.keys(",,");
    terminal.wait_for("two ticks back", |screen| number_after(screen, "tick ") == Some(joined - 1.0));
    // To a tick by its number; what is none is named.
    terminal.keys("gxy\r");
    terminal.wait_for_text("\"xy\" is no tick");
    terminal.keys(&format!("\x7f\x7f{joined}\r"));
    terminal.wait_for("the tick", |screen| number_after(screen, "tick ") == Some(joined));
    // Only one kind of fact.
    terminal.keys("k");
    let screen = terminal.wait_for_text("> all that is told");
    assert!(screen.contains("player_moved, ") && screen.contains("level_won, 1"), "{screen}");
    // The first is that the room was created.
    terminal.keys("\x1b[B\x1b[B\r");
    terminal.wait_for_text("n p         user_joined");
    // It plays by itself, fast, to the end, and back from there.
    terminal.keys("]]]] ");
    terminal.wait_for("the end", |screen| number_after(screen, "tick ") == Some(last) && screen.contains("16, forwards"));
    terminal.keys("b");
    terminal.wait_for("the beginning", |screen| screen.contains("tick        0 of") && screen.contains("16, backwards"));
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_match_that_is_over_on_the_server_of_others_can_be_left_and_looked_at_and_not_had_again() {
    let server = serve(&file("corridor_of_others.json", CORRIDOR));
    let mut ann = inferno(&["play", &server.1, "--name", "ann"]);
    ann.wait_for("the level", |screen| place(screen) == 3.0);
    let mut bob = inferno(&["play", &server.1, "--name", "bob"]);
    bob.wait_for("the level", |screen| place(screen) == 3.0);
    ann.hold('d');
    let screen = bob.wait_for_text("The level is won.");
    assert!(screen.contains("q leaves") && !screen.contains("plays again"), "{screen}");
    bob.keys("\t");
    bob.wait_for("ann, who is followed", |screen| place(screen) > 7.0 && !screen.contains("The level is won. "));
    bob.keys("\t");
    bob.wait_for("bob again", |screen| place(screen) == 3.0);
    bob.keys("q");
    assert_eq!(bob.end(), 0);
    ann.let_go('d');
    ann.keys("q");
    assert_eq!(ann.end(), 0);
}

#[test]
fn a_running_match_is_looked_at_to_its_end_while_its_server_seals_it_and_stops() {
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("looked_at_live");
    let _ = std::fs::remove_dir_all(&data);
    let data = data.display().to_string();
    let level = file("corridor_live.json", CORRIDOR);
    let mut player = inferno(&["play", "--name", "ann", "--level", &level, "--data", &data]);
    player.wait_for("the level", |screen| place(screen) == 3.0);
    let mut viewer = inferno(&["ledger", "--data", &data, "view", "main"]);
    viewer.wait_for_text("1, paused");
    let end = |viewer: &mut Terminal, more: f64| {
        viewer.keys("\x1b[F");
        let screen = viewer.wait_for("the end", |screen| number_after(screen, "tick ") > Some(more));
        number_after(&screen, "tick ").unwrap()
    };
    let before = end(&mut viewer, 0.0);
    player.keys("qq");
    assert_eq!(player.end(), 0);
    // Past what was there when it began to look.
    viewer.wait_for("the whole match", |screen| number_after(screen, " of ") > Some(before));
    end(&mut viewer, before);
    viewer.keys(",");
    viewer.keys("q");
    assert_eq!(viewer.end(), 0);
}

#[test]
fn a_small_terminal_says_what_it_needs_and_one_that_grows_is_used() {
    let level = file("corridor_small.json", CORRIDOR);
    let mut terminal = inferno(&["play", "--level", &level]);
    terminal.wait_for("the level", |screen| place(screen) == 3.0);
    terminal.resize(30, 6);
    let screen = terminal.wait_for_text("This terminal is 30 by 6.");
    assert!(screen.contains("40 by 12 are needed."), "{screen}");
    terminal.resize(50, 20);
    let screen = terminal.wait_for_text("you  health 100/100");
    assert!(screen.contains('@'), "{screen}");
    terminal.resize(120, 40);
    terminal.wait_for("a panel", |screen| screen.contains("round trip") && screen.contains("EXIT"));
    terminal.keys("?");
    terminal.wait_for_text("walk");
    terminal.keys("qq");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_process_that_is_told_to_stop_gives_the_terminal_back() {
    let level = file("corridor_stopped.json", CORRIDOR);
    let mut terminal = inferno(&["play", "--level", &level]);
    terminal.wait_for("the level", |screen| place(screen) == 3.0);
    assert!(Command::new("kill").args(["-TERM", &terminal.process().to_string()]).status().unwrap().success());
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_process_ends_with_its_terminal() {
    let level = file("corridor_closed.json", CORRIDOR);
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("closed");
    let _ = std::fs::remove_dir_all(&data);
    let data = data.display().to_string();
    for arguments in [&["play", "--level", &level, "--data", &data][..], &["ledger", "--data", &data, "view", "main"]] {
        let mut terminal = inferno(arguments);
        terminal.wait_for("the level", |screen| screen.contains("EXIT"));
        terminal.close();
    }
}

/// Says which part this process plays in a test below.
const PART: &str = "ROOMKEEPER_TEST_PART";

/// Not a test of its own: the part of the game, in a process of its own.
#[test]
fn a_game_that_panics_plays_its_part() {
    if std::env::var(PART).is_err() {
        return;
    }
    fn draw(_: &mut bevy_ecs::prelude::World, _: &roomkeeper::cli::Eyes) -> Picture {
        panic!("drawn badly");
    }
    let view = View { draw, pilot: || Box::new(|_, _| {}), client: |_| {}, keys: &[] };
    let code = Game::new("bad", |_| {}, |_| {}).view(view).run_with(["bad", "play"]);
    assert_eq!(code, ExitCode::SUCCESS);
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_read_there() {
    let program = std::env::current_exe().unwrap().display().to_string();
    let arguments = ["--exact", "play::a_game_that_panics_plays_its_part", "--nocapture"];
    let mut terminal = Terminal::start(&program, &arguments, &[(PART, "bad")], true);
    terminal.wait_for_text("drawn badly");
    assert_ne!(terminal.end(), 0);
}

/// As above.
#[test]
fn a_game_that_hangs_plays_its_part() {
    if std::env::var(PART).is_err() {
        return;
    }
    let rules = |app: &mut App| {
        app.add_systems(FixedUpdate, |mut ticks: Local<u32>| {
            *ticks += 1;
            if *ticks > 3 {
                loop {
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
            }
        });
    };
    let view = View { draw: |_, _| Picture::default(), pilot: || Box::new(|_, _| {}), client: |_| {}, keys: &[] };
    let _ = Game::new("hangs", |_| {}, rules).view(view).run_with(["hangs", "play"]);
}

#[test]
fn a_game_that_hangs_leaves_the_terminal_usable_and_is_ended_by_asking_again() {
    let program = std::env::current_exe().unwrap().display().to_string();
    let arguments = ["--exact", "play::a_game_that_hangs_plays_its_part", "--nocapture"];
    let mut terminal = Terminal::start(&program, &arguments, &[(PART, "hangs")], true);
    terminal.wait_for_text("q leave");
    // By now it hangs.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    terminal.keys("qq");
    terminal.wait_for("the screen is left", |screen| !screen.contains("q leave"));
    terminal.keys("\x03");
    std::thread::sleep(std::time::Duration::from_secs(3));
    terminal.keys("\x03");
    assert_eq!(terminal.end(), 130);
}

#[test]
fn without_a_terminal_it_says_so_and_ends_with_2() {
    for arguments in [&["play"][..], &["watch", "--view"]] {
        let output = Command::new(INFERNO).args(arguments).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("needs a terminal: its standard input and output must both be one."), "{error}");
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
    }
}
