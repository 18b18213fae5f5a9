//! What a game can see of its predictions.

use bevy_ecs::prelude::*;

use crate::protocol::{CommandId, EntityId, RoomTick};

/// What became of the commands that were predicted. A resource.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// How many are on their way now, or wait for the rest of the tick in which they were obeyed.
    pub pending: usize,
    /// How many the room obeyed, and all of what they did is here.
    pub confirmed: u64,
    /// How many the room rejected, and how many of them the prediction had rejected too.
    pub rejected: (u64, u64),
    /// How many came out otherwise than was predicted when the answer came: another value, obeyed instead of rejected, or rejected instead of obeyed.
    pub corrected: u64,
    /// How many came out otherwise when they were predicted again, before the answer was here: something else has happened, or the tick is another
    /// one.
    pub revised: u64,
    /// How many were decided in another tick than was expected. That alone is no correction.
    pub retimed: u64,
    /// How many were sent, but not predicted, because too many were on their way.
    pub unpredicted: u64,
    /// The tick of the room that is shown of what is predicted.
    pub tick: RoomTick,
    /// Why nothing is predicted any more: the game's rules panicked, or are not those of the protocol. After a panic the client predicts again once it
    /// has joined again.
    pub off: Option<String>,
}

/// A prediction was wrong. What the room says is shown by now.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct Mispredicted {
    /// The command.
    pub command: CommandId,
    /// The tick in which the room decided it.
    pub tick: RoomTick,
    /// The entity of the client's world whose component came out otherwise. `None` if it is not there, or if it is the answer that did.
    pub entity: Option<Entity>,
    /// Its id; the author's own if it is the answer that came out otherwise.
    pub id: EntityId,
    /// The component's wire name. `None` if the command was obeyed instead of rejected, or the other way round.
    pub component: Option<String>,
}
