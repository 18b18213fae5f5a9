//! A projection follows the stream of facts and builds a view of its own: here, who rang how often. Each fact counts once, however often its
//! process ends: what it remembers is kept together with its place in the stream.
//!
//! `cargo run --example projection`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::header_of;
use roomkeeper::prelude::*;
use roomkeeper::room::{Blueprint, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Opening, Projection, Projector, Store, StoredFact, Writer, WriterOptions};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Rang {
    bell: u32,
}

fn protocol(app: &mut App) {
    app.stateless_fact::<Rang>("rang");
}

fn rules(app: &mut App) {
    app.add_systems(FixedUpdate, |clock: Res<RoomClock>, mut record: Recorder| {
        if clock.tick().0.is_multiple_of(5) {
            record.fact(Rang { bell: clock.tick().0 % 3 });
        }
    });
}

/// How often anything rang.
#[derive(Default)]
struct Rings(u64);

impl Projection for Rings {
    fn name(&self) -> &str {
        "rings"
    }
    fn take(&mut self, _room: &str, fact: &StoredFact) {
        self.0 += u64::from(fact.kind == "rang");
    }
    fn memory(&self) -> String {
        self.0.to_string()
    }
    fn remember(&mut self, memory: &str) {
        self.0 = memory.parse().unwrap_or(0);
    }
}

fn main() -> Result {
    // `SqliteStore::open` keeps it on disk; `Server::keep` does all of this for every room of a server.
    let (store, blueprint, options) = (MemoryStore::new(), Blueprint::new(protocol, rules), RoomOptions::named("tower"));
    let writer = Writer::start(Box::new(store.clone()), WriterOptions::default(), |finding| println!("{finding}"))?;
    let mut room = blueprint.room(options.clone())?;
    let handle = writer.open(header_of(&options), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for stretch in 1..=2 {
        for _ in 0..50 {
            handle.record(room.tick([])?.into());
        }
        writer.sync()?;
        // A process of its own would do this; each time it goes on from where it was.
        let mut projector = Projector::new(Rings::default(), Archive::new(store.reader()?, blueprint.protocol()), "tower")?;
        let known = projector.projection().0;
        let new = projector.catch_up(|name, room, seq, memory| writer.cursor_keeper().keep(name, room, seq, memory))?;
        writer.sync()?;
        println!("stretch {stretch}: it remembered {known} rings, read {new} facts, and counts {} now", projector.projection().0);
    }
    Ok(())
}
