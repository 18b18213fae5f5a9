//! What a game says that there is to see, and the keys that somebody plays it with. Plain data: what draws it is a terminal's matter,
//! a browser's, or a test's.

use std::collections::BTreeSet;

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::Serialize;

use crate::protocol::EntityId;

/// A place, in the game's own units. The first axis goes to the right, the second one up.
pub type Spot = [f32; 2];

/// How a game is shown and played in a terminal: see `Game::view`.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Turns the world of a replica into a picture. It may belong to a live match or to a recorded one; what is drawn must follow from
    /// the replica and the eyes alone.
    pub draw: fn(&mut World, &Eyes) -> Picture,
    /// Makes somebody who turns keys into commands. It runs once per tick in the client's world, and sends by
    /// [`Issue`](crate::client::Issue).
    pub pilot: fn() -> Pilot,
    /// Adds to a client what the game shows smoothly: see [`interpolate`](crate::client::InterpolateAppExt::interpolate) and
    /// [`predict_smoothly`](crate::predict::PredictAppExt::predict_smoothly). Whoever looks at a recorded match goes without.
    pub client: fn(&mut App),
    /// The game's keys and what they do, for the page that `?` opens.
    pub keys: &'static [(&'static str, &'static str)],
}

/// Turns keys into commands, once per tick, in the client's world.
pub type Pilot = Box<dyn FnMut(&mut World, &Keys)>;

/// Through whose eyes a picture is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eyes {
    /// The entity that is followed: the player, or whom a spectator follows. The nil id for nobody.
    pub of: EntityId,
    /// The tick that is shown.
    pub tick: u32,
}

/// All that there is to see at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Picture {
    /// Where the camera is. Nothing if those whose eyes these are stand nowhere.
    pub focus: Option<Spot>,
    /// What stands on the map; later ones over earlier ones, and marks over all.
    pub shapes: Vec<Shape>,
    /// Whom the gauges are about.
    pub title: String,
    /// What can be fuller or emptier.
    pub gauges: Vec<Gauge>,
    /// What else is to be known: a word, and what there is of it.
    pub facts: Vec<(String, String)>,
    /// Who can be followed, in a lasting order.
    pub actors: Vec<Actor>,
    /// That it is over, for those whose eyes these are or for all.
    pub ending: Option<Ending>,
}

/// Something on the map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// The middle of it.
    pub at: Spot,
    /// What form it has.
    pub form: Form,
    /// In which colour.
    pub tint: Tint,
}

/// The form of something on the map.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A rectangle, filled.
    Block {
        /// Half of its width and of its height.
        half: Spot,
    },
    /// A rectangle that one can see and walk through.
    Haze {
        /// Half of its width and of its height.
        half: Spot,
    },
    /// A circle, filled.
    Disc {
        /// Half of its breadth.
        radius: f32,
    },
    /// Some characters.
    Mark(String),
}

/// A colour, of those that every terminal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Tint {
    #[default]
    White,
    Grey,
    Dark,
    Red,
    Green,
    Blue,
    Yellow,
    Magenta,
    Cyan,
    /// Of the terminal's colours the darker yellow.
    Brown,
}

/// What can be fuller or emptier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// Of what.
    pub name: String,
    /// How much there is.
    pub value: i64,
    /// How much there can be.
    pub max: i64,
    /// In which colour.
    pub tint: Tint,
}

/// Somebody who can be followed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Actor {
    /// Who.
    pub id: EntityId,
    /// What people call it.
    pub name: String,
}

/// That it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// What happened, in a sentence.
    pub text: String,
    /// In which colour.
    pub tint: Tint,
    /// True if the match is over for all, not only for those whose eyes these are.
    pub of_all: bool,
}

/// A key, without what is held beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Key {
    /// A character; letters in small.
    Char(char),
    Up,
    Down,
    Left,
    Right,
    Enter,
    Tab,
    BackTab,
    Backspace,
    Escape,
    Home,
    End,
    PageUp,
    PageDown,
}

/// The keys of one tick, and the mouse.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// Those that are held down, as far as the terminal tells.
    pub held: BTreeSet<Key>,
    /// Those that went down since the last tick, even if they are up again.
    pub struck: BTreeSet<Key>,
    /// Where on the map the mouse points while its button is held.
    pub pointed: Option<Spot>,
}

impl Keys {
    /// True if the key is down, or was since the last tick.
    pub fn is_down(&self, key: Key) -> bool {
        self.held.contains(&key) || self.struck.contains(&key)
    }

    /// True if any of these characters is down, or was since the last tick.
    pub fn any(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| self.is_down(*key))
    }

    /// The direction of four keys, right, up, left, down, each axis -1, 0 or 1. Keys that contradict each other count as none.
    pub fn direction(&self, [right, up, left, down]: [&[Key]; 4]) -> Spot {
        let axis = |more: &[Key], less: &[Key]| f32::from(i8::from(self.any(more)) - i8::from(self.any(less)));
        [axis(right, left), axis(up, down)]
    }
}

impl Shape {
    /// A rectangle, filled.
    pub fn block(at: Spot, half: Spot, tint: Tint) -> Self {
        Self { at, form: Form::Block { half }, tint }
    }

    /// A rectangle that one can see through.
    pub fn haze(at: Spot, half: Spot, tint: Tint) -> Self {
        Self { at, form: Form::Haze { half }, tint }
    }

    /// A circle, filled.
    pub fn disc(at: Spot, radius: f32, tint: Tint) -> Self {
        Self { at, form: Form::Disc { radius }, tint }
    }

    /// Some characters.
    pub fn mark(at: Spot, text: impl Into<String>, tint: Tint) -> Self {
        Self { at, form: Form::Mark(text.into()), tint }
    }
}
