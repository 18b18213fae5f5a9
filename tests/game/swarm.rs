//! Bots from one process, who come and go over a bad link, and what they say that they felt.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server that ends with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_swarm_comes_and_goes_and_says_what_players_would_feel() {
    let serve = Command::new(env!("CARGO_BIN_EXE_inferno")).args(["serve", "--bind", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn();
    let mut server = Server(serve.unwrap());
    let lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| Some(line.split_once(" on udp ")?.1.to_owned())).unwrap();
    let swarm = Command::new(env!("CARGO_BIN_EXE_inferno"))
        .args(["swarm", "--server", &address, "--bots", "8", "--seconds", "8", "--stay", "2", "--away", "1", "--link", "wifi"])
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
