//! What the admin server knows of the game.

use std::sync::Arc;

use serde_json::Value;

use crate::client::picture::View;
use crate::protocol::Protocol;
use crate::room::Blueprint;
use crate::store::Teller;

/// What the admin server knows of the game: what its bytes say, and how it is told and drawn.
#[derive(Clone)]
pub struct AdminGame {
    /// What people call it.
    pub name: String,
    /// The game.
    pub blueprint: Blueprint,
    /// Tells facts as sentences. Without it the bare facts are shown.
    pub teller: Option<Teller>,
    /// Draws a state. Without it the page shows no map.
    pub view: Option<View>,
    /// The components that say what sort of thing an entity is, the first that it has.
    pub kinds: Vec<String>,
    /// The facts that end a match.
    pub ends: Vec<String>,
}

impl std::fmt::Debug for AdminGame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminGame").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AdminGame {
    /// A game that can be neither told nor drawn.
    pub fn new(name: impl Into<String>, blueprint: Blueprint) -> Self {
        Self { name: name.into(), blueprint, teller: None, view: None, kinds: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn protocol(&self) -> Arc<Protocol> {
        self.blueprint.protocol()
    }

    /// A fact as a sentence, if it is worth one.
    pub(super) fn tell(&self, fact: &str, json: &Value, who: &dyn Fn(&str) -> String) -> Option<String> {
        match self.teller {
            Some(teller) => teller(fact, json, who),
            None => Some(format!("{fact} {json}")),
        }
    }
}
