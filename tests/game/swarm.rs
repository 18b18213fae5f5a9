//! Bots from one process, who come and go over a bad link, and what they say that they felt.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use crate::server::serve;

/// What the swarm says in a row: how many were measured.
fn measured(told: &str, what: &str) -> usize {
    let row = told.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what}: {told}"));
    row.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn the_players_of_a_recorded_match_play_again_as_many_as_one_likes() {
    let data = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("played_again");
    let _ = std::fs::remove_dir_all(&data);
    let data = data.display().to_string();
    let inferno = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_inferno")).args(arguments).output().unwrap();
    // It says that the match had not ended; as much of it as there is, is kept.
    inferno(&["demo", "--bots", "2", "--limit", "8", "--data", &data]);
    let server = serve(None);
    let swarm = inferno(&["swarm", "--server", &server.address.to_string(), "--bots", "6", "--seconds", "6", "--from", &data]);
    assert!(swarm.status.success(), "{}", String::from_utf8_lossy(&swarm.stderr));
    let told = String::from_utf8(swarm.stdout).unwrap();
    println!("{told}");
    // Three of each, and each from the beginning.
    assert_eq!(measured(&told, "time to join"), 6);
    assert!(measured(&told, "command sent until it is answered") > 300, "{told}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_bot_that_can_not_come_is_told_of_in_the_end_and_the_others_play_on() {
    let server = serve(None);
    // So few open files that not all of them get a socket.
    let swarm = Command::new("sh")
        .args(["-c", "ulimit -n 24 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_inferno")])
        .args(["swarm", "--bots", "60", "--whole", "0", "--seconds", "4", "--away", "1", "--server", &server.address.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8(swarm.stdout).unwrap();
    assert!(swarm.status.success(), "{told}{}", String::from_utf8_lossy(&swarm.stderr));
    assert!(measured(&told, "time to join") > 0, "{told}");
    assert!(told.lines().any(|line| line.starts_with("lost ") && line.contains("no socket: ")), "{told}");
}

#[test]
fn a_swarm_that_can_not_begin_says_so_at_once() {
    let nowhere = ["swarm", "--server", "127.0.0.1:nowhere", "--seconds", "3600"];
    let swarm = Command::new(env!("CARGO_BIN_EXE_inferno")).args(nowhere).output().unwrap();
    let errors = String::from_utf8(swarm.stderr).unwrap();
    assert!(!swarm.status.success() && errors.contains("the server \"127.0.0.1:nowhere\""), "{errors}");
}

#[test]
fn a_swarm_comes_and_goes_and_says_what_players_would_feel() {
    let server = serve(None);
    let swarm = Command::new(env!("CARGO_BIN_EXE_inferno"))
        .args([
            "swarm",
            "--server",
            &server.address.to_string(),
            "--bots",
            "8",
            "--seconds",
            "8",
            "--stay",
            "2",
            "--away",
            "1",
            "--link",
            "wifi",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8(swarm.stdout).unwrap();
    println!("{told}");
    assert!(swarm.status.success(), "{}", String::from_utf8_lossy(&swarm.stderr));
    // Each came in more than once, asked for things, and looked.
    assert!(measured(&told, "time to join") > 8, "{told}");
    assert!(measured(&told, "command sent until it is answered") > 8 && measured(&told, "age of what is shown") > 8, "{told}");
    assert!(!told.contains("lost "), "{told}");
    // Whole clients: they predicted, and drew others a little ago.
    assert!(measured(&told, "age of others as they are drawn") > 8, "{told}");
    let predicted = told.lines().find_map(|line| line.split_once(" predicted commands corrected")).unwrap().0;
    let (corrected, of) = predicted.split_once(" of ").unwrap();
    let (corrected, of): (u64, u64) = (corrected.parse().unwrap(), of.parse().unwrap());
    assert!(of > 100 && corrected * 4 < of, "{told}");
}

/// What the program says.
fn inferno(arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_inferno")).args(arguments).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_demo_in_a_folder_is_a_match_of_its_own() {
    let data = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("two_demos");
    let _ = std::fs::remove_dir_all(&data);
    let data = data.display().to_string();
    for seed in ["1", "7"] {
        inferno(&["demo", "--bots", "1", "--limit", "2", "--seed", seed, "--data", &data]);
    }
    let (rooms, errors) = inferno(&["ledger", "--data", &data, "--json", "rooms"]);
    let rooms: Vec<serde_json::Value> = rooms.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rooms: Vec<_> = rooms.iter().map(|room| (room["room"].as_str(), room["seed"].as_u64())).collect();
    assert_eq!(rooms, [(Some("main"), Some(1)), (Some("main-2"), Some(7))], "{errors}");
}

#[test]
fn who_only_looks_tries_the_next_server_if_one_is_gone() {
    let server = serve(None);
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (state, errors) = inferno(&["dump", "--transport", "udp", "--server", &format!("{gone},{}", server.address)]);
    assert!(state.contains("game_state"), "{errors}");
}
