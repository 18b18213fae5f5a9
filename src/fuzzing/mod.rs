//! Doors for a fuzzer: each gives plain bytes to a decoder, and panics if it does more than refuse them.
//!
//! A door also holds what was decoded to its promises: written again it reads as the same, two readers of the same bytes agree, and no
//! more memory was held than the door says. The fuzz targets in `fuzz/` open one door each; the test below opens them to all that is kept in
//! `fuzz/corpus`. Compiled for fuzzing and for unit tests alone.
//!
//! May use: all.

mod game;
#[cfg(test)]
mod held;
mod host;
mod ledger;
mod replica;
mod seeds;
mod stored;
mod texts;
mod wire;

use std::cell::Cell;

pub use self::seeds::seeds;

/// A decoder, and what it may cost.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// Its name, which is that of its fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// Gives it bytes. Panics if a promise is broken.
    pub open: fn(&[u8]),
    /// At most so many bytes are held at once for each byte that it is given,
    pub bytes_per_byte: usize,
    /// and so many besides, whatever it is given: what is built before the first byte is read, and what a limit allows.
    pub bytes_besides: usize,
    /// The largest input worth trying, in bytes.
    pub input_bytes_max: usize,
}

const MIB: usize = 1 << 20;

const fn door(name: &'static str, open: fn(&[u8]), (bytes_per_byte, bytes_besides): (usize, usize), input_bytes_max: usize) -> Door {
    Door { name, open, bytes_per_byte, bytes_besides, input_bytes_max }
}

/// All doors.
pub const DOORS: &[Door] = &[
    door("gate", wire::gate, (64, MIB), 8_192),
    #[cfg(feature = "websocket")]
    door("websocket", wire::websocket, (64, MIB), 8_192),
    door("envelope", wire::envelope, (256, 4 * MIB), 8_192),
    door("packet", wire::packet, (512, 4 * MIB), 1_201),
    door("batch", wire::batch, (4_096, 8 * MIB), 16_384),
    door("snapshot", wire::snapshot, (32_768, 8 * MIB), 16_384),
    door("replica", replica::replica, (4_096, 64 * MIB), 16_384),
    door("host", host::host, (4_096, 32 * MIB), 8_192),
    door("frame", stored::frame, (1_024, 8 * MIB), 16_384),
    door("chunk", stored::chunk, (65_536, 2 * MIB), 4_096),
    door("tables", ledger::tables, (4_096, 16 * MIB), 16_384),
    door("sqlite", ledger::sqlite, (4_096, 16 * MIB), 512),
    door("values", texts::values, (512, 4 * MIB), 4_096),
    door("json", texts::json, (1_024, 8 * MIB), 8_192),
    door("scene", texts::scene, (4_096, 32 * MIB), 8_192),
    door("config", crate::cli::config_door, (512, 2 * MIB), 16_384),
    door("http", texts::http, (1_024, 32 * MIB), 20_000),
];

/// Cuts an input into steps: a byte that says what to do, two for a length, and so many bytes. The last one may be shorter.
struct Steps<'a>(&'a [u8]);

impl<'a> Iterator for Steps<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([kind, low, high], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (step, rest) = rest.split_at(length);
        self.0 = rest;
        Some((*kind, step))
    }
}

/// Writes a step. What is longer than a length can say is cut off.
fn step(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The first byte, which chooses, and what follows it.
pub(crate) fn chosen(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

thread_local! {
    /// How many inputs got anywhere, of doors that tell.
    static REACHED: Cell<usize> = const { Cell::new(0) };
}

/// A door tells whether an input got behind what is asked first of all: what is kept of inputs is worth little once all end there.
fn reached(far: bool) {
    REACHED.set(REACHED.get() + usize::from(far));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The doors that tell whether an input got anywhere: into the room, to the snapshot, into the store.
    const TELLING: [&str; 3] = ["host", "replica", "tables"];

    fn open(door: &Door, input: &[u8]) {
        let held = held::most_held(|| (door.open)(input));
        let allowed = door.bytes_per_byte * input.len() + door.bytes_besides;
        assert!(held <= allowed, "{}: {held} bytes were held for an input of {}, {allowed} are allowed", door.name, input.len());
    }

    #[test]
    fn whatever_a_fuzzer_has_kept_breaks_no_promise() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        // It does not travel with the package.
        let is_here = corpus.is_dir();
        let seeds = seeds();
        for door in DOORS {
            // What is built for all inputs is not counted for the first.
            (door.open)(&[]);
            REACHED.set(0);
            let own = seeds.iter().filter(|(name, ..)| *name == door.name);
            let mut opened = own.map(|(.., bytes)| open(door, bytes)).count();
            for entry in std::fs::read_dir(corpus.join(door.name)).into_iter().flatten() {
                open(door, &std::fs::read(entry.unwrap().path()).unwrap());
                opened += 1;
            }
            assert!(opened > if is_here { 10 } else { 0 }, "{}: {opened} inputs", door.name);
            let far = REACHED.get();
            assert!(far * 4 >= opened || !TELLING.contains(&door.name), "{}: {far} of {opened} inputs got anywhere", door.name);
        }
    }

    #[test]
    fn what_was_held_for_a_moment_is_counted() {
        let moment = || drop(std::hint::black_box(Vec::<u8>::with_capacity(3 * MIB)));
        assert!((3 * MIB..4 * MIB).contains(&held::most_held(moment)));
        assert_eq!(held::most_held(|| ()), 0);
    }

    #[test]
    fn steps_are_read_as_they_are_written() {
        let mut out = Vec::new();
        step(7, b"seven", &mut out);
        step(0, b"", &mut out);
        assert_eq!(Steps(&out).collect::<Vec<_>>(), [(7, &b"seven"[..]), (0, &b""[..])]);
        assert_eq!(Steps(&[1, 9, 0, 5]).collect::<Vec<_>>(), [(1, &[5][..])]);
    }
}
