//! How a moment of a room's past is named: `main@-30s`, half a minute ago; `main@1200`, its tick 1,200; `main@02:05`, its time.

use super::ids::RoomTick;
use super::limits::TICKS_PER_SECOND;

/// When a moment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// So many ticks before now.
    Ago(u32),
    /// At a tick.
    At(RoomTick),
}

/// A moment of a room's past, as a spectator asks for it: it is shown the room from there on, at the pace at which it went.
///
/// ```
/// use roomkeeper::protocol::{Moment, RoomTick, When};
/// let moment = |name| Moment::parse(name).map(|moment| (moment.room.to_owned(), moment.when));
/// assert_eq!(moment("main@-30s"), Some(("main".to_owned(), When::Ago(600))));
/// assert_eq!(moment("main@-1.5m"), Some(("main".to_owned(), When::Ago(1_800))));
/// assert_eq!(moment("main@1200"), Some(("main".to_owned(), When::At(RoomTick(1_200)))));
/// assert_eq!(moment("main@02:05.5"), Some(("main".to_owned(), When::At(RoomTick(2_510)))));
/// assert_eq!(moment("main"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<'a> {
    /// The room.
    pub room: &'a str,
    /// When.
    pub when: When,
}

impl<'a> Moment<'a> {
    /// Reads a name. `None` if it does not end with a moment: then it is a room's own.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (room, when) = name.rsplit_once('@')?;
        let when = match when.strip_prefix('-') {
            Some(ago) => When::Ago(parse_span(ago)?),
            None => When::At(RoomTick(parse_time(when)?)),
        };
        (!room.is_empty()).then_some(Self { room, when })
    }
}

/// A span in ticks: `30s`, `1.5m`.
fn parse_span(text: &str) -> Option<u32> {
    let (number, ticks) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60 * TICKS_PER_SECOND),
        None => (text.strip_suffix('s')?, TICKS_PER_SECOND),
    };
    ticks_of(number, ticks)
}

/// A tick by its number, or by the room's time: minutes and seconds.
fn parse_time(text: &str) -> Option<u32> {
    match text.split_once(':') {
        None => text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())),
        Some((minutes, seconds)) => ticks_of(minutes, 60 * TICKS_PER_SECOND)?.checked_add(ticks_of(seconds, TICKS_PER_SECOND)?),
    }
}

/// A number, not negative, in units of so many ticks.
fn ticks_of(number: &str, unit: u32) -> Option<u32> {
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let ticks = number.parse::<f64>().ok().filter(|_| plain)? * f64::from(unit);
    (ticks <= f64::from(u32::MAX)).then(|| ticks.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_names_no_moment_is_a_room() {
        for name in ["main", "@-30s", "main@", "main@-", "main@-30", "main@-s", "main@+3", "main@-1e9s", "main@-nans", "main@1:2:3", "a@b"]
        {
            assert_eq!(Moment::parse(name), None, "{name}");
        }
        assert_eq!(Moment::parse("a@b@-0s"), Some(Moment { room: "a@b", when: When::Ago(0) }));
    }

    #[test]
    fn spans_and_times_are_told_in_ticks() {
        for (text, ticks) in [("-30s", 600), ("-1.5m", 1_800), ("-2m", 2_400), ("-0.04s", 1)] {
            let name = format!("main@{text}");
            assert_eq!(Moment::parse(&name), Some(Moment { room: "main", when: When::Ago(ticks) }), "{text}");
        }
        for (text, tick) in [("0:00", 0), ("1:30.5", 1_810), ("10:00", 12_000)] {
            let name = format!("main@{text}");
            assert_eq!(Moment::parse(&name), Some(Moment { room: "main", when: When::At(RoomTick(tick)) }), "{text}");
        }
        // The last minute that a tick's number can name, and the first that none can.
        assert!(Moment::parse("main@3579139:00").is_some() && Moment::parse("main@3579140:00").is_none());
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_panic(name: String, tail in "@-?[0-9.:sm]{0,12}") {
            let _ = Moment::parse(&format!("{name}{tail}"));
        }

        #[test]
        fn a_tick_reads_as_it_is_written(tick: u32) {
            let name = format!("room@{tick}");
            prop_assert_eq!(Moment::parse(&name), Some(Moment { room: "room", when: When::At(RoomTick(tick)) }));
        }
    }
}
