//! A configuration as a file that can be read again, with where each value came from.

use std::fmt::Write;

use super::keys::{Key, ROOM, SECTIONS, TEMPLATE};
use super::load::{Loaded, Origin};

/// The whole of it, as TOML.
pub(super) fn print(loaded: &Loaded) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        head(&mut out, &format!("[{}]", section.name));
        keys(&mut out, loaded, section.name, section.keys, &loaded.config);
    }
    for (name, template) in &loaded.config.templates {
        head(&mut out, &format!("[templates.{name}]"));
        keys(&mut out, loaded, &format!("templates.{name}"), TEMPLATE, template);
    }
    for (at, room) in loaded.config.rooms.iter().enumerate() {
        head(&mut out, "[[rooms]]");
        keys(&mut out, loaded, &format!("rooms[{at}]"), ROOM, room);
    }
    out
}

fn head(out: &mut String, head: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    let _ = writeln!(out, "{gap}{head}");
}

fn keys<T>(out: &mut String, loaded: &Loaded, path: &str, keys: &[Key<T>], from: &T) {
    for key in keys {
        let origin = loaded.origin(&format!("{path}.{}", key.name));
        let _ = match (key.write)(from) {
            Some(value) => writeln!(out, "{} = {value} # {origin}", key.name),
            None if origin == Origin::Default => writeln!(out, "# {} is not set # {origin}", key.name),
            // By this a path that another source would set is none.
            None => writeln!(out, "# {} is set to nothing # {origin}", key.name),
        };
    }
}
