//! The shape of a level: where one can stand, see, shoot and walk.
//!
//! Job: pure geometry over axis-aligned rectangles. Invariant: the same rectangles, given in any order, and the same
//! question give the same answer bit for bit, in a live room, in one that was recovered and in a replay. That is why
//! rectangles are sorted, sums run in one order, and only `libm` stands behind a square root.
//!
//! May use: `libm`. Never: the ECS, clocks, random numbers, transcendental functions of `std`.

mod grid;
mod solids;

pub use grid::{Grid, next_corner};
pub use solids::{KnownSolids, Rect, Solids, segment_meets_circle};

/// A place or a displacement in level units.
pub type Point = [f32; 2];

/// `a + b`.
pub fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

/// `a - b`.
pub fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

/// `a` stretched by `by`.
pub fn scale(a: Point, by: f32) -> Point {
    [a[0] * by, a[1] * by]
}

/// The scalar product.
pub fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

/// The length of a displacement, in level units.
pub fn length(a: Point) -> f32 {
    libm::sqrtf(dot(a, a))
}

/// The distance between two places, in level units.
pub fn distance(a: Point, b: Point) -> f32 {
    length(sub(a, b))
}

/// `a` with length one; `None` for a displacement too short to have a direction, or one that is not finite.
pub fn unit(a: Point) -> Option<Point> {
    let long = length(a);
    (long.is_finite() && long > 1e-6).then(|| scale(a, 1.0 / long))
}

/// Whether both coordinates are ordinary numbers; what a client sends may be anything.
pub fn is_finite(a: Point) -> bool {
    a[0].is_finite() && a[1].is_finite()
}

/// The angle of a direction in radians, counter-clockwise from the x axis, in `-PI..=PI`.
pub fn facing(direction: Point) -> f32 {
    libm::atan2f(direction[1], direction[0])
}

/// A step from `from` towards `to`, no longer than `step_max`.
pub fn towards(from: Point, to: Point, step_max: f32) -> Point {
    let whole = sub(to, from);
    let long = length(whole);
    if long <= step_max { whole } else { scale(whole, step_max / long) }
}

/// `direction` turned towards `wanted` by at most the angle whose cosine and sine are `turn` (0 to 90 degrees).
/// Both directions have length one.
pub fn turned(direction: Point, wanted: Point, turn: [f32; 2]) -> Point {
    let [cos, sin] = turn;
    if dot(direction, wanted) >= cos {
        return wanted;
    }
    let cross = direction[0] * wanted[1] - direction[1] * wanted[0];
    let sin = if cross < 0.0 { -sin } else { sin };
    let raw = [direction[0] * cos - direction[1] * sin, direction[0] * sin + direction[1] * cos];
    unit(raw).unwrap_or(direction)
}
