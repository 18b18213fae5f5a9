//! The game as a human sees and plays it: from the world of a replica to a picture, and from keys to commands.
//!
//! Job: to draw what the components say, live or recorded, and to walk, aim and shoot as the keys say. Invariant: it knows nothing that a
//! replica does not hold.
//!
//! May use: components, commands, map, the bot's [`Scene`](crate::bot::Scene). Never: rules (but their public numbers).

mod draw;
mod pilot;

use crate::components::{Position, positions};
use crate::map::{add, distance, scale, sub};
use bevy_app::App;
use roomkeeper::cli::View;
use roomkeeper::client::InterpolateAppExt;
use roomkeeper::predict::PredictAppExt;

/// The keys of the game.
const KEYS: [(&str, &str); 8] = [
    ("wasd, arrows", "walk"),
    ("space, f", "fire where you face; a monster near that line is aimed at"),
    ("ijkl", "turn and fire up, left, down, right; two of them aslant"),
    ("mouse button", "fire where it points"),
    ("e", "open the nearest door"),
    ("1 2 3", "fist, pistol, shotgun"),
    ("@ i B", "you, an imp, a baron: ! chases, * is in pain, x dies"),
    ("+ I a k S", "medical kit, immunity, rounds, key, shotgun"),
];

/// How the game is shown and played in a terminal.
pub fn view() -> View {
    View { draw: draw::draw, pilot: pilot::pilot, client, keys: &KEYS }
}

/// How far off a prediction may be to be put right little by little, in level units.
const SMOOTH_BELOW: f32 = 1.5;

/// What moves is shown between the room's values, and what was predicted wrongly comes right in a moment.
fn client(app: &mut App) {
    app.interpolate(positions());
    let shift = |at: &Position, from: &Position, to: &Position, share: f32| Position(add(at.0, scale(sub(to.0, from.0), share)));
    app.predict_smoothly(shift, |a: &Position, b: &Position| distance(a.0, b.0), SMOOTH_BELOW);
}

#[cfg(test)]
mod tests;
