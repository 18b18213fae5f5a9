//! Bots from one process, who come and go over a bad link, and what they say that they felt.

use std::process::Command;

use crate::server::serve;

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
    let measured = |what: &str| -> usize {
        let row = told.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what}: {told}"));
        row.split_whitespace().last().unwrap().parse().unwrap()
    };
    // Each came in more than once, asked for things, and looked.
    assert!(measured("time to join") > 8, "{told}");
    assert!(measured("command sent until it is answered") > 8 && measured("age of what is shown") > 8, "{told}");
    assert!(!told.contains("lost "), "{told}");
}
