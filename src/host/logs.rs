//! Structured logs, as text or as JSON lines; what is logged can be changed while the process runs.

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, Layer as Lines, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload::{Handle, Layer as Reload};
use tracing_subscriber::util::SubscriberInitExt;

/// The target of what is said of the log itself.
const CHANGES: &str = "roomkeeper::log";

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people. Default.
    #[default]
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, and a field each for what the line is about, as `room` and
    /// `connection`.
    Json,
}

/// Why what is logged can't be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// It is no filter.
    #[error("{filter:?} does not say what to log, as \"warn,roomkeeper::host=info\" does: {error}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Somebody else decides what this process logs.
    #[error("the log of this process was set up by somebody else")]
    NotOurs,
}

/// The log of this process. Clones speak of the same log.
#[derive(Clone, Debug)]
pub struct Logs {
    handle: Option<Handle<EnvFilter, Registry>>,
}

/// Refuses what is no filter.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

/// The transport's own words are left out unless the filter names it: strangers could make it talk at will. That the log was changed is always told.
///
/// A word by itself is a level. `EnvFilter` takes one that is none for the name of a module, so that a slip of the pen would silence all others; and it does not
/// fall back to errors here where the filter says nothing, since something is said before it.
///
/// What a field is to be is taken literally, as `[room{room="north"}]=debug`. As patterns, which is the default, three hundred bytes make it build tables of
/// gigabytes. Of two that ask for the same the later one counts, for which it panics in a build that checks itself; and none begins with a blank, by which it
/// would look for letters in the middle of others.
fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in filter.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        parts.retain(|other| what_of(other) != what_of(part));
        parts.push(part);
    }
    let is_slip = |part: &&&str| match part.split_once('{') {
        // Of what a field is to be it takes what stands before another `=`.
        Some((_, fields)) => fields.rsplit_once('}').map_or(fields, |(fields, _)| fields).matches('=').count() > 1,
        None => !part.contains(['=', '[', ']', '}']) && part.parse::<LevelFilter>().is_err(),
    };
    let said = match parts.iter().find(is_slip) {
        Some(slip) => format!("all={slip}"),
        None if parts.is_empty() => "error".to_owned(),
        None => parts.join(","),
    };
    let parsed = EnvFilter::builder().with_regex(false).parse(format!("renet=off,renetcode=off,{CHANGES}=info,{said}"));
    parsed.map_err(|error| LogError::Filter { filter: filter.to_owned(), error })
}

/// What a part asks for, without the level.
fn what_of(part: &str) -> String {
    let of_level = part.rfind([']', '}']).unwrap_or_default();
    let end = part.get(of_level..).and_then(|rest| rest.rfind('=')).map_or(part.len(), |at| of_level + at);
    let is_level = end == part.len() && part.parse::<LevelFilter>().is_ok();
    if is_level { String::new() } else { part.get(..end).unwrap_or_default().split_whitespace().collect() }
}

impl Logs {
    /// Begins to log. Where another log was begun before in this process, that one goes on, and can't be changed by this.
    ///
    /// # Errors
    /// If the filter is none.
    pub fn start<W>(filter: &str, format: LogFormat, colours: bool, writer: W) -> Result<Self, LogError>
    where
        W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    {
        let (filter, handle) = Reload::new(parse(filter)?);
        let all = tracing_subscriber::registry().with(filter);
        let begun = match format {
            LogFormat::Text => all.with(Lines::new().with_ansi(colours).with_writer(writer)).try_init(),
            LogFormat::Json => {
                let lines = Lines::new().fmt_fields(JsonFields::new()).event_format(JsonLine).with_writer(writer);
                all.with(lines).try_init()
            }
        };
        Ok(Self { handle: begun.is_ok().then_some(handle) })
    }

    /// What is logged, as module=level pairs; nothing if somebody else decides.
    pub fn filter(&self) -> Option<String> {
        let filter = self.handle.as_ref()?.with_current(ToString::to_string).ok()?;
        Some(filter)
    }

    /// Logs something else from now on, everywhere in the process.
    ///
    /// # Errors
    /// If the filter is none, or somebody else decides what is logged. What was logged before then still is.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse(filter)?;
        let handle = self.handle.as_ref().ok_or(LogError::NotOurs)?;
        handle.reload(filter).map_err(|_| LogError::NotOurs)?;
        tracing::info!(target: CHANGES, filter = self.filter(), "this is logged from now on");
        Ok(())
    }
}

/// A line of JSON. The library's own format keeps what a span says apart from what the line says; whoever searches for a room
/// should not have to know which of them told it.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.extend(object(&fields.fields));
            }
        }
        let mut fields = String::new();
        context.field_format().format_fields(Writer::new(&mut fields), event)?;
        line.extend(object(&fields));
        let metadata = event.metadata();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn object(fields: &str) -> Map<String, Value> {
    serde_json::from_str(fields).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::room::{Room, RoomOptions};

    /// A writer that keeps what is written.
    #[derive(Clone, Default)]
    pub(in crate::host) struct Kept(pub(in crate::host) Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile, as JSON lines.
    fn logged(what: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = Lines::new().fmt_fields(JsonFields::new()).event_format(JsonLine).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), what);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn what_a_rule_logs_in_the_middle_of_a_tick_says_whose_it_is() {
        let lines = logged(|| {
            let rules = |app: &mut bevy_app::App| {
                app.add_systems(bevy_app::FixedUpdate, || tracing::warn!("a rule speaks"));
            };
            let mut rooms = ["north", "south"].map(|name| Room::new(RoomOptions::named(name), |_| {}, rules).unwrap());
            rooms.iter_mut().rev().for_each(|room| drop(room.tick([]).unwrap()));
            tracing::warn!("nobody's");
        });
        let rooms: Vec<_> = lines.iter().filter(|line| line["message"] == "a rule speaks").map(|line| &line["room"]).collect();
        assert_eq!(rooms, ["south", "north"], "{lines:?}");
        assert!(lines.last().unwrap().get("room").is_none(), "{lines:?}");
    }

    #[test]
    fn a_line_of_json_has_what_its_span_says_beside_what_it_says_itself() {
        let lines = logged(|| {
            let _room = tracing::error_span!("room", room = "north").entered();
            tracing::info!(connection = 7, name = "a \"quoted\"\nname", "joined");
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line["room"], "north");
        assert_eq!(line["connection"], 7);
        assert_eq!(line["name"], "a \"quoted\"\nname");
        assert_eq!(line["message"], "joined");
        assert_eq!(line["level"], "INFO");
        assert!(
            line["target"].as_str().unwrap().ends_with("logs::tests") && line["timestamp"].as_str().unwrap().starts_with("20"),
            "{line}"
        );
    }

    #[test]
    fn what_is_no_filter_is_refused_and_the_transport_stays_quiet() {
        for wrong in ["roomkeeper=loud", "warn,roomkeeper::host=infos", "wran", "verbose", "info,roomkeeper"] {
            let error = check_filter(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let filter = parse("warn,roomkeeper::host=debug").unwrap().to_string();
        assert!(filter.contains("renet=off") && filter.contains("renetcode=off"), "{filter}");
        let asked = parse("renetcode=trace").unwrap().to_string();
        assert!(asked.contains("renetcode=trace") && !asked.contains("renetcode=off"), "{asked}");
    }

    #[test]
    fn a_filter_asks_for_one_room_by_its_name_and_no_pattern_that_it_names_is_worked_out() {
        let heard = |filter: &str| {
            let kept = Kept::default();
            let writer = kept.clone();
            let lines = Lines::new().with_ansi(false).with_writer(move || writer.clone());
            let all = tracing_subscriber::registry().with(parse(filter).unwrap()).with(lines);
            tracing::subscriber::with_default(all, || {
                for name in ["north", "south"] {
                    tracing::error_span!("room", room = name).in_scope(|| tracing::debug!("{name} speaks"));
                }
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            ["north speaks", "south speaks"].map(|words| text.contains(words))
        };
        assert_eq!(heard("error,[room{room=\"north\"}]=debug"), [true, false]);
        assert_eq!(heard("error,[room{room=.*}]=debug"), [false, false]);
        // What is asked for twice is as it was said last.
        assert_eq!(heard("error,[room{room=\"north\"}]=debug,[room{room=\"north\"}]=error"), [false, false]);
        assert_eq!(heard("error,[room{room=\"north\"}]=error,[ room{room= \"north\"}]=debug,debug,error"), [false, false]);
        assert!(check_filter("[{a=b,c=d}]=debug,[{c=d,a=b}]=debug").is_err());
        assert!(check_filter("[{a=b}]=debug").is_ok() && check_filter("[{a=b=c}]=debug,[{a=b}]=info").is_err());
        assert!(check_filter("warn,a[\u{2003}\u{e9},\u{2003}\u{e9}\u{e9}=x]").is_err());
        // As a pattern it takes gigabytes.
        assert!(check_filter(&format!("[{{a=.*x{}}}]=debug", ".".repeat(30))).is_ok());
    }

    #[test]
    fn blanks_around_levels_mean_nothing_and_of_a_filter_that_says_nothing_errors_are_told() {
        for (said, level) in [(" info", "info"), ("warn ,roomkeeper::host=debug ", "warn"), ("", "error"), (" , ", "error"), ("OFF", "off")]
        {
            let filter = parse(said).unwrap().to_string();
            assert!(filter.split(',').any(|part| part == level), "{said:?}: {filter}");
        }
    }
}
