//! The door by which a fuzzer gives a configuration to read: as a file, as flags, as the environment.

use std::collections::BTreeMap;

use super::form::Given;
use super::load::{Flag, Sources, resolve};
use super::print::print;
use crate::fuzzing::chosen;

const FILE: &str = "/etc/game/server.toml";

fn from_file(text: &str) -> Sources {
    Sources { file: Some((FILE.to_owned(), text.to_owned())), ..Sources::default() }
}

/// Without what is said of where values came from.
fn bare(printed: &str) -> String {
    printed.lines().map(|line| line.rsplit_once(" # ").map_or(line, |(value, _)| value)).collect::<Vec<_>>().join("\n")
}

/// A configuration that is in order is printed, and what is printed is read as the same.
pub(crate) fn config_door(data: &[u8]) {
    let (choice, data) = chosen(data);
    let choice = choice % 3;
    let text = String::from_utf8_lossy(data);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let sources = match choice {
        0 => from_file(&text),
        1 => {
            let flag =
                |(path, value): (&str, &str)| Flag { path: path.to_owned(), flag: format!("--set {path}"), given: Given::plain(value) };
            Sources { flags: pairs.map(flag).collect(), ..Sources::default() }
        }
        _ => {
            let environment: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Sources { environment, room: text.lines().next().map(str::to_owned), ..Sources::default() }
        }
    };
    match resolve(&sources) {
        Ok(loaded) => {
            let printed = print(&loaded);
            let again = resolve(&from_file(&printed));
            let again = again.unwrap_or_else(|wrong| panic!("what was printed can't be read: {wrong:?}\n{printed}"));
            // A relative path of a flag is not relative to a file.
            assert!(choice > 0 || bare(&print(&again)) == bare(&printed), "{printed}\n{}", print(&again));
        }
        Err(wrong) => assert!(!wrong.is_empty() && wrong.iter().all(|wrong| !wrong.to_string().contains('\n')), "{wrong:?}"),
    }
}
