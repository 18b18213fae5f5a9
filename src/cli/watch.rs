//! `watch`: a spectator that prints what happens.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::game::Game;
use super::options::{CliError, WatchFormat, WatchOptions};
use super::serve::{room_time, say, stop_flag};
use crate::client::{HeadlessReplica, LinkStatus, Sight, UdpLink, unix_time};
use crate::protocol::{Channel, ClientMessage, EntityId, Followed, Names, UserJoined};

/// How often the watcher looks, well within a tick.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) fn watch(game: &Game, options: &WatchOptions) -> Result<(), CliError> {
    let stop = stop_flag();
    let mut link = UdpLink::connect(&options.client.credentials("spectator")?, unix_time())?;
    let mut watcher = Watcher { game, format: options.format, replica: HeadlessReplica::new(game.protocol()), names: BTreeMap::new() };
    let mut greeted = false;
    while !stop.load(Ordering::Relaxed) {
        link.receive(unix_time());
        while let Some(message) = link.next_message() {
            let sights = watcher.replica.deliver(&message).map_err(|error| CliError::Connection(error.to_string()))?;
            for sight in sights {
                watcher.see(sight)?;
            }
        }
        match link.status() {
            LinkStatus::Connecting => {}
            LinkStatus::Connected if greeted => {}
            LinkStatus::Connected => {
                greeted = true;
                let fingerprint = watcher.replica.protocol().fingerprint();
                let hello = ClientMessage::Hello { fingerprint, room: options.client.room.clone(), spectate: true };
                link.send(Channel::Ordered, hello.encode())?;
            }
            LinkStatus::Disconnected(reason) => return Err(CliError::Connection(reason)),
        }
        link.flush();
        std::thread::sleep(LOOK_EVERY);
    }
    // What can't be said any more need not be.
    let _ = link.send(Channel::Ordered, ClientMessage::Leave.encode());
    link.flush();
    link.disconnect();
    Ok(())
}

struct Watcher<'a> {
    game: &'a Game,
    format: WatchFormat,
    replica: HeadlessReplica,
    /// The names of users, as far as they were heard.
    names: BTreeMap<EntityId, String>,
}

impl Watcher<'_> {
    fn see(&mut self, sight: Sight) -> Result<(), CliError> {
        match sight {
            Sight::Refused(refusal, differences) if differences.is_empty() => return Err(CliError::Connection(refusal.to_string())),
            Sight::Refused(refusal, differences) => {
                return Err(CliError::Connection(format!("{refusal}:\n  {}", differences.join("\n  "))));
            }
            Sight::Welcome { room, .. } if self.format == WatchFormat::Story => say(&format!("watching {room}")),
            Sight::Welcome { room, .. } => say(&json!({ "note": "joined_room", "room": room }).to_string()),
            Sight::Snapshot if self.format != WatchFormat::Story => {
                let state = self.replica.state();
                let entities = state.to_json(self.replica.protocol()).unwrap_or_default();
                say(&json!({ "tick": state.tick(), "snapshot": entities }).to_string());
            }
            Sight::Batch(followed) => self.batch(&followed),
            Sight::Snapshot | Sight::Verdicts(_) | Sight::Nothing => {}
        }
        Ok(())
    }

    fn batch(&mut self, followed: &Followed) {
        let tick = self.replica.state().tick();
        for fact in &followed.facts {
            if let Ok(joined) = serde_json::from_value::<UserJoined>(fact.json.clone()) {
                self.names.insert(joined.user, joined.name);
            }
            if self.format == WatchFormat::Story {
                let state = self.replica.state();
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
        for operation in &followed.operations {
            match self.format {
                WatchFormat::Story => {}
                WatchFormat::Json => say(&operation.to_envelope().to_string()),
                WatchFormat::KeyPath => say(&operation.to_key_path().to_string()),
            }
        }
    }
}
