//! `watch` and `dump`: a spectator that prints what happens, or what is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::game::Game;
use super::options::{CliError, ClientArguments, DumpBy, DumpOptions, WatchFormat, WatchOptions};
use super::output::{is_heard, room_time, say};
use super::serve::joined;
use super::signals::stop_flag;
use crate::client::{HeadlessReplica, LinkStatus, Sight, unix_time};
use crate::protocol::{ClientMessage, EntityId, Followed, Names, Operation, State};

/// How often a spectator looks, well within a tick.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) fn watch(game: &Game, options: &WatchOptions) -> Result<(), CliError> {
    let mut watcher = Watcher { game, format: options.format, names: BTreeMap::new() };
    spectate(game, &options.client(), |replica, sight| {
        watcher.see(replica, sight)?;
        Ok(if is_heard() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
}

/// Prints the state of a room once.
pub(super) fn dump(game: &Game, options: &DumpOptions) -> Result<(), CliError> {
    spectate(game, &options.client, |replica, sight| {
        if sight != Sight::Snapshot {
            return refused(sight).map(|_| ControlFlow::Continue(()));
        }
        let (state, protocol) = (replica.state(), replica.protocol());
        let json = match options.by {
            DumpBy::Entity => state.to_json(protocol),
            DumpBy::Component => state.to_component_json(protocol),
            DumpBy::Kind => state.to_kind_json(protocol, &game.kinds),
        };
        let json = json.map_err(|error| CliError::Connection(error.to_string()))?;
        say(&format!("{json:#}"));
        Ok(ControlFlow::Break(()))
    })
}

/// Joins a room as a spectator and tells what is seen, until told to stop.
fn spectate(
    game: &Game,
    client: &ClientArguments,
    mut see: impl FnMut(&HeadlessReplica, Sight) -> Result<ControlFlow<()>, CliError>,
) -> Result<(), CliError> {
    let stop = stop_flag();
    let mut servers = client.one_by_one().into_iter();
    let mut link = servers.next().as_ref().unwrap_or(client).link("spectator")?;
    let mut replica = HeadlessReplica::new(game.protocol());
    let (mut greeted, mut enough) = (false, false);
    while !enough && !stop.load(Ordering::Relaxed) {
        link.receive(unix_time());
        while let Some(message) = link.next_packet().filter(|_| !enough) {
            for sight in replica.deliver(unix_time(), &message).map_err(|error| CliError::Connection(error.to_string()))? {
                enough |= see(&replica, sight)?.is_break();
            }
        }
        match link.status() {
            LinkStatus::Connecting => {}
            LinkStatus::Connected if greeted => {}
            LinkStatus::Connected => {
                greeted = true;
                let fingerprint = replica.protocol().fingerprint();
                let hello = ClientMessage::Hello { fingerprint, room: client.room.clone(), spectate: true, resume: None };
                link.send(hello.encode())?;
            }
            // Nobody has let it in there: another one may have the room.
            LinkStatus::Disconnected(reason) => match servers.next().filter(|_| !greeted) {
                Some(next) => link = next.link("spectator")?,
                None => return Err(CliError::Connection(reason)),
            },
        }
        if let Some(report) = replica.next_report(unix_time()) {
            link.send_packet(&report);
        }
        link.flush();
        std::thread::sleep(LOOK_EVERY);
    }
    // What can't be said any more need not be.
    let _ = link.send(ClientMessage::Leave.encode());
    link.flush();
    link.disconnect();
    Ok(())
}

/// Makes an error of a refusal.
fn refused(sight: Sight) -> Result<Sight, CliError> {
    match sight {
        Sight::Refused(refusal, differences) if differences.is_empty() => Err(CliError::Connection(refusal.to_string())),
        Sight::Refused(refusal, differences) => Err(CliError::Connection(format!("{refusal}:\n  {}", differences.join("\n  ")))),
        other => Ok(other),
    }
}

struct Watcher<'a> {
    game: &'a Game,
    format: WatchFormat,
    /// The names of users, as far as they were heard.
    names: BTreeMap<EntityId, String>,
}

impl Watcher<'_> {
    fn see(&mut self, replica: &HeadlessReplica, sight: Sight) -> Result<(), CliError> {
        match refused(sight)? {
            Sight::Welcome { room, .. } if self.format == WatchFormat::Story => say(&format!("watching {room}")),
            Sight::Welcome { room, .. } => say(&json!({ "note": "joined_room", "room": room }).to_string()),
            Sight::Snapshot if self.format != WatchFormat::Story => {
                let state = replica.state();
                let entities = state.to_json(replica.protocol()).unwrap_or_default();
                say(&json!({ "tick": state.tick(), "snapshot": entities }).to_string());
            }
            Sight::Batch(followed) => self.batch(replica.state(), &followed),
            Sight::Latest(_, operations) => self.operations(&operations),
            Sight::Snapshot | Sight::Verdicts(_) | Sight::Nothing | Sight::Refused(..) | Sight::Rooms(_) => {}
        }
        Ok(())
    }

    fn batch(&mut self, state: &State, followed: &Followed) {
        let tick = state.tick();
        for fact in &followed.facts {
            if let Some(joined) = joined(&fact.name, &fact.json) {
                self.names.insert(joined.user, joined.name);
            }
            if self.format == WatchFormat::Story {
                let who = |id: &str| {
                    let id = EntityId::parse(id);
                    let known = self.names.get(&id).cloned();
                    known.or_else(|| state.net_id(id).and_then(|net_id| state.name(net_id))).unwrap_or_else(|| id.to_string())
                };
                if let Some(sentence) = self.game.tell(&fact.name, &fact.json, &who) {
                    say(&format!("{} {sentence}", room_time(tick.0)));
                }
            } else {
                let producer = serde_json::to_value(&fact.head.producer).unwrap_or_default();
                say(&json!({ "tick": tick, "seq": fact.head.seq, "fact": fact.name, "producer": producer, "data": fact.json }).to_string());
            }
        }
        self.operations(&followed.operations);
    }

    fn operations(&self, operations: &[Operation]) {
        for operation in operations {
            match self.format {
                WatchFormat::Story => {}
                WatchFormat::Json => say(&operation.to_envelope().to_string()),
                WatchFormat::KeyPath => say(&operation.to_key_path().to_string()),
            }
        }
    }
}
