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
    inferno(&["demo", "--bots", "2", "--limit", "5", "--data", &data]);
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
