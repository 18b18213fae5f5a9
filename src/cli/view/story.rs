//! What a client hears, as lines: the facts of its room as a story, and what is refused to it.

use std::collections::{BTreeMap, VecDeque};

use bevy_app::App;
use bevy_ecs::prelude::*;

use super::super::game::Game;
use super::super::output::room_time;
use super::super::serve::joined;
use crate::client::{AnyHappened, Replica};
use crate::protocol::{EntityId, Rejected, User};

/// How many lines are remembered.
const LINES_MAX: usize = 50;

/// How many names of users are remembered, some of whom may be gone.
const NAMES_MAX: usize = 10_000;

/// What was heard since the last look.
#[derive(Resource, Default)]
struct Heard {
    facts: Vec<AnyHappened>,
    refused: Vec<String>,
}

/// Lets a client's app listen.
pub(super) fn listen(app: &mut App) {
    app.init_resource::<Heard>();
    app.add_observer(|fact: On<AnyHappened>, mut heard: ResMut<Heard>| heard.facts.push(fact.event().clone()));
    app.add_observer(|rejected: On<Rejected>, mut heard: ResMut<Heard>| {
        let detail = if rejected.detail.is_empty() { String::new() } else { format!(": {}", rejected.detail) };
        heard.refused.push(format!("{}{detail}", rejected.code.replace('_', " ")));
    });
}

/// The story as a client hears it.
#[derive(Default)]
pub(super) struct Story {
    pub(super) lines: VecDeque<String>,
    names: BTreeMap<EntityId, String>,
}

impl Story {
    pub(super) fn push(&mut self, line: String) {
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Takes in what was heard since the last time.
    pub(super) fn take(&mut self, game: &Game, world: &mut World) {
        let mut heard = world.resource_mut::<Heard>();
        let (facts, refused) = (std::mem::take(&mut heard.facts), std::mem::take(&mut heard.refused));
        for fact in facts {
            if self.names.len() < NAMES_MAX
                && let Some(joined) = joined(&fact.name, &fact.json)
            {
                self.names.insert(joined.user, joined.name);
            }
            let who = |id: &str| self.names.get(&EntityId::parse(id)).cloned().unwrap_or_else(|| name_in(world, EntityId::parse(id)));
            if let Some(sentence) = game.tell(&fact.name, &fact.json, &who) {
                self.push(format!("{} {sentence}", room_time(fact.tick.0)));
            }
        }
        for why in refused {
            let line = format!("      refused: {why}");
            // Who leans on a key is told once.
            if self.lines.back() != Some(&line) {
                self.push(line);
            }
        }
    }
}

/// How people call an entity of a replica.
fn name_in(world: &World, id: EntityId) -> String {
    let entity = world.resource::<Replica>().entity(id);
    let named = entity.and_then(|entity| {
        let user = world.get::<User>(entity).map(|user| user.name.clone());
        user.or_else(|| world.get::<Name>(entity).map(|name| name.as_str().to_owned()))
    });
    named.unwrap_or_else(|| id.to_string())
}
