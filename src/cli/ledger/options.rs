//! What can be said to `ledger` and `snippet`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::super::config::time_with_unit;
use super::super::options::DumpBy;
use crate::protocol::RoomTick;

/// A tick, as people write it: its number, with or without an `@`, or the time of the room, `14:32.5` or `1:14:32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct TickArgument(pub(super) RoomTick);

#[cfg(feature = "terminal")]
impl TickArgument {
    pub(in crate::cli) fn tick(self) -> RoomTick {
        self.0
    }
}

impl FromStr for TickArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix('@').unwrap_or(text);
        if let Ok(tick) = plain.parse() {
            return Ok(Self(RoomTick(tick)));
        }
        let bad = || format!("{text:?} is no tick: a number, such as 1830, or a time of the room, such as 01:31.5");
        let mut seconds = 0.0;
        for part in plain.split(':') {
            let part: f64 = part.parse().map_err(|_| bad())?;
            if !(0.0..1e6).contains(&part) || !plain.contains(':') {
                return Err(bad());
            }
            seconds = seconds * 60.0 + part;
        }
        // To the nearest tick: times are told in tenths.
        Ok(Self(RoomTick((seconds * 20.0).round().min(f64::from(u32::MAX)) as u32)))
    }
}

/// An entity, or a component of one: `door_red`, `door_red.door_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct PlaceArgument {
    pub(super) entity: String,
    pub(super) component: Option<String>,
}

impl FromStr for PlaceArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (entity, component) = match text.rsplit_once('.') {
            Some((entity, component)) => (entity, Some(component.to_owned())),
            None => (text, None),
        };
        Ok(Self { entity: entity.to_owned(), component })
    }
}

/// Another value in a level: `monster_*.health=30`, `medkit_1.item.amount=50`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LevelSetting {
    /// As it was said.
    pub(super) text: String,
    /// The entity's name, in which `*` stands for anything.
    pub(super) entity: String,
    /// The component's wire name.
    pub(super) component: String,
    /// The way to the value within the component: names of fields, places in lists.
    pub(super) fields: Vec<String>,
    pub(super) value: Value,
}

impl FromStr for LevelSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} puts no value into a level, as monster_*.health=30 or medkit_1.item.amount=50 do");
        let (place, value) = text.split_once('=').ok_or_else(bad)?;
        let mut parts = place.split('.').map(str::to_owned);
        let (Some(entity), Some(component)) = (parts.next(), parts.next()) else { return Err(bad()) };
        // A word needs no quotes.
        let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        Ok(Self { text: text.to_owned(), entity, component, fields: parts.collect(), value })
    }
}

#[derive(Debug, Args)]
pub(super) struct BacktestOptions {
    /// The rooms, by their names, in which `*` stands for anything; all of them if none is named.
    #[arg(value_name = "ROOM")]
    pub(super) rooms: Vec<String>,
    /// Fail if a room comes out otherwise than it was recorded, or can't be run: for a test with recorded matches.
    #[arg(long)]
    pub(super) check: bool,
    /// Start rooms from the level in this folder that has the file name of theirs, where there is one.
    #[arg(long, value_name = "FOLDER")]
    pub(super) levels: Option<PathBuf>,
    /// Start rooms with another value in their level, where it has one there: `monster_*.health=30`. Can be said several times.
    #[arg(long, value_name = "ENTITY.COMPONENT[.FIELD]=VALUE")]
    pub(super) set: Vec<LevelSetting>,
}

#[derive(Debug, Args)]
pub(super) struct DeleteOptions {
    /// The rooms, by their names, in which `*` stands for anything.
    #[arg(value_name = "ROOM")]
    pub(super) rooms: Vec<String>,
    /// Only those of which nothing has been written for so long: `30d`, `12h`. If no room is named, all of those.
    #[arg(long, value_name = "TIME", value_parser = time_with_unit)]
    pub(super) unused_for: Option<Duration>,
    /// Delete them. Without it they are listed only.
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LedgerOptions {
    /// The folder that the host keeps its rooms in, or a file with one room.
    #[arg(long, value_name = "FOLDER", global = true, default_value = "data")]
    pub(super) data: PathBuf,
    /// The room, where there are several.
    #[arg(long, global = true)]
    pub(super) room: Option<String>,
    /// Print JSON lines.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) verb: LedgerVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum LedgerVerb {
    /// List the rooms.
    Rooms,
    /// Print the last facts, and those that come, until it is stopped.
    Tail {
        /// Go on after this fact instead.
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
        /// How many of the last facts to begin with.
        #[arg(long, default_value_t = 10)]
        lines: u64,
    },
    /// Tell the facts as a story.
    Story {
        /// As subtitles, in the form of WebVTT.
        #[arg(long)]
        vtt: bool,
    },
    /// Look at the match in the terminal, at any moment, forwards and backwards.
    #[cfg(feature = "terminal")]
    View {
        /// The room, where there are several.
        name: Option<String>,
        /// The tick to begin with; the first one if none is named.
        #[arg(long)]
        at: Option<TickArgument>,
    },
    /// Print facts.
    Facts {
        /// Only those of one kind.
        #[arg(long)]
        kind: Option<String>,
        /// Only those of one producer: init, user, system, server, or one system as system:think.
        #[arg(long, value_name = "PRODUCER")]
        by: Option<String>,
        /// From this one on.
        #[arg(long, default_value_t = 1, value_name = "SEQ")]
        from: u64,
        /// Up to this one.
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
    },
    /// Print the state at a tick.
    At {
        /// The tick; the last one if none is named.
        tick: Option<TickArgument>,
        /// How to arrange it.
        #[arg(long, value_enum, default_value_t = DumpBy::Entity)]
        by: DumpBy,
        /// Only what this player had been told by then. Runs the room again.
        #[arg(long = "as", value_name = "PLAYER")]
        player: Option<String>,
        /// Only what a spectator had been told by then. Runs the room again.
        #[arg(long, conflicts_with = "player")]
        spectator: bool,
        /// Instead of what the player or the spectator had been told, all that it had not been told.
        #[arg(long, conflicts_with = "by")]
        hidden: bool,
    },
    /// Print what differs between two ticks.
    Diff {
        /// The one.
        from: TickArgument,
        /// The other.
        to: TickArgument,
    },
    /// Print every write of an entity or of one of its components: when, what, by which fact.
    History {
        /// The entity, or the component: `door_red.door_state`.
        of: PlaceArgument,
        /// From this tick on.
        #[arg(long)]
        from: Option<TickArgument>,
        /// Up to this tick.
        #[arg(long)]
        to: Option<TickArgument>,
    },
    /// Tell why a component has the value that it has at a tick: operation, facts, command, player or system.
    Why {
        /// The component: `door_red.door_state`.
        of: PlaceArgument,
        /// The tick; the last one if none is named.
        at: Option<TickArgument>,
    },
    /// Print what players did and tried, and why they were refused.
    Audit {
        /// Only this one.
        #[arg(long)]
        player: Option<String>,
    },
    /// Print points: for each fact that came from a player's command.
    Scores {
        /// How many for which fact: `monster_died=10`.
        points: Vec<String>,
    },
    /// Run the room again from what came in, and compare every batch.
    Replay {
        /// From here on.
        #[arg(long)]
        from: Option<TickArgument>,
        /// Up to here.
        #[arg(long)]
        to: Option<TickArgument>,
        /// What if this player had not sent this command? `ann:17`. Can be said several times.
        #[arg(long, value_name = "PLAYER:COMMAND")]
        drop: Vec<String>,
    },
    /// Run many rooms again by the rules that this binary has, and tell what happens otherwise or more often than it was recorded.
    Backtest(BacktestOptions),
    /// Apply the facts alone, and tell which components come out right.
    FromFacts {
        /// Up to this tick.
        #[arg(long)]
        at: Option<TickArgument>,
    },
    /// Check everything: checksums, numbers, the chain of hashes, that batches, checkpoints and components agree.
    Verify {
        /// Every room of the data, one after another: one that can't be read hides no other.
        #[arg(long)]
        all: bool,
    },
    /// Compare the protocol that stored the room with the game's, and try whether this version can go on with it.
    Schema,
    /// Write the room with its whole history to a file of its own.
    Export {
        /// The file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Take in a room from a file that `export` wrote. Its host must not run.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Pack what is old, and delete what need not be kept; a host may serve the data meanwhile. The file gets smaller once nobody serves it.
    Compact {
        /// For how many ticks the state can be told and run again; all if it is not said. 72000 are an hour.
        #[arg(long, value_name = "TICKS")]
        keep_ticks: Option<u32>,
        /// For how many ticks facts are kept; all if it is not said.
        #[arg(long, value_name = "TICKS")]
        keep_facts: Option<u32>,
        /// Every room of the data, one after another.
        #[arg(long)]
        all: bool,
    },
    /// Delete rooms with all that is stored of them. Their host must not run; one that does deletes them by `DELETE /rooms/NAME/ledger` of its admin server.
    Delete(DeleteOptions),
    /// Make a new room that goes on from a tick of this one. A host opens it by `serve --room NAME`.
    Fork {
        /// The tick.
        tick: TickArgument,
        /// The new room's name.
        name: String,
    },
    /// Undo what a fact changed, where nothing has changed it since. The host that serves the room does it.
    Revert {
        /// The fact.
        seq: u64,
    },
    /// Let a fact of the game happen, as the server's. No rule is asked, but the entities that it names must be there. The host that serves the room does it.
    Event {
        /// The fact's name: `door_opened`.
        name: String,
        /// What it says, as JSON: `{"door": "door123"}`.
        #[arg(value_name = "JSON", default_value = "null", allow_negative_numbers = true)]
        fact: String,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SnippetOptions {
    /// The folder that the host keeps its rooms in.
    #[arg(long, value_name = "FOLDER", global = true, default_value = "data")]
    pub(super) data: PathBuf,
    /// The room, where there are several.
    #[arg(long, global = true)]
    pub(super) room: Option<String>,
    #[command(subcommand)]
    pub(super) verb: SnippetVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum SnippetVerb {
    /// List the snippets of the room.
    List,
    /// Save the state of a tick under a name.
    Save {
        /// The name.
        label: String,
        /// The tick; the last one if none is named.
        #[arg(long)]
        at: Option<TickArgument>,
    },
    /// Reset the room to a snippet, under the eyes of its members. The host that serves the room does it.
    Reset {
        /// The name.
        label: String,
    },
    /// Print a snippet as the JSON of a level.
    Export {
        /// The name.
        label: String,
        /// Write it to a file instead.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// As rows: room, entity, component name, component.
        #[arg(long)]
        rows: bool,
    },
    /// Take in a level file, or what `export` printed, as a snippet.
    Import {
        /// The name.
        label: String,
        /// The file.
        file: PathBuf,
    },
}
