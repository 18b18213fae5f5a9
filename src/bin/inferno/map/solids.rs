//! The rectangles nothing walks or flies through.

use super::{Point, add, distance, dot, length, scale, sub};

/// How deep a circle may stick in a rectangle before it counts as inside, in level units. More than the rounding of
/// one push, far less than anybody can see.
const SLACK: f32 = 1e-3;

/// How often a circle that touches several rectangles is pushed before the step is given up.
const PUSHES_MAX: usize = 4;

/// How many parts one step may be cut into. A step of more than this many radii is cut short.
const PARTS_MAX: usize = 64;

/// An axis-aligned rectangle in level units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// The middle.
    pub centre: Point,
    /// Half the width and half the height.
    pub half: Point,
}

impl Rect {
    /// The place in the rectangle that is nearest to `point`.
    pub fn nearest(&self, point: Point) -> Point {
        let clamp = |axis: usize| {
            let (centre, half) = (coordinate(self.centre, axis), coordinate(self.half, axis));
            coordinate(point, axis).max(centre - half).min(centre + half)
        };
        [clamp(0), clamp(1)]
    }

    /// Whether a circle and the rectangle share an area, not only an edge.
    pub fn overlaps_circle(&self, centre: Point, radius: f32) -> bool {
        let (nearest, reach) = (self.nearest(centre), radius - SLACK);
        !is_clearly_further(nearest, centre, reach) && distance(nearest, centre) < reach
    }

    /// How much of the way from `from` to `to` lies before the rectangle: 0.0 when it starts inside, `None` when it
    /// passes by. Touching an edge or a corner is a meeting.
    pub fn meets_segment(&self, from: Point, to: Point) -> Option<f32> {
        if self.is_beside(from, to) {
            return None;
        }
        let (mut enter, mut leave) = (0.0_f32, 1.0_f32);
        for axis in 0..2 {
            let (start, way) = (coordinate(from, axis), coordinate(to, axis) - coordinate(from, axis));
            let low = coordinate(self.centre, axis) - coordinate(self.half, axis);
            let high = coordinate(self.centre, axis) + coordinate(self.half, axis);
            if way == 0.0 {
                if start < low || start > high {
                    return None;
                }
                continue;
            }
            let (a, b) = ((low - start) / way, (high - start) / way);
            enter = enter.max(a.min(b));
            leave = leave.min(a.max(b));
        }
        (enter <= leave).then_some(enter)
    }

    /// Whether the way lies beside the rectangle: all of it before or behind it, by one axis. Nearly always it does, and that is told without a division: of
    /// numbers of one sign the larger divided by the smaller is more than one, however it is rounded, and of two signs less than zero.
    fn is_beside(&self, from: Point, to: Point) -> bool {
        let is_beside = |axis: usize| {
            let (start, way) = (coordinate(from, axis), coordinate(to, axis) - coordinate(from, axis));
            let low = coordinate(self.centre, axis) - coordinate(self.half, axis);
            let high = coordinate(self.centre, axis) + coordinate(self.half, axis);
            let (a, b) = (low - start, high - start);
            let (near, far) = (a.min(b), a.max(b));
            let onwards = (way > 0.0) & ((far < 0.0) | (near > way));
            let backwards = (way < 0.0) & ((near > 0.0) | (far < way));
            onwards | backwards
        };
        is_beside(0) | is_beside(1)
    }

    /// The rectangle with `by` more on every side.
    pub fn grown(&self, by: f32) -> Rect {
        Rect { centre: self.centre, half: add(self.half, [by, by]) }
    }

    /// All of it as one number. Numbers are compared at once, and levels are sorted several times in a tick.
    fn bits(&self) -> u128 {
        let [x, y, w, h] = [self.centre[0], self.centre[1], self.half[0], self.half[1]].map(|part| u128::from(part.to_bits()));
        x << 96 | y << 64 | w << 32 | h
    }
}

/// How much of the way from `from` to `to` lies before a circle: 0.0 when it starts inside, `None` when it passes by.
pub fn segment_meets_circle(from: Point, to: Point, centre: Point, radius: f32) -> Option<f32> {
    let (way, off) = (sub(to, from), sub(from, centre));
    let c = dot(off, off) - radius * radius;
    if c <= 0.0 {
        return Some(0.0);
    }
    let (a, b) = (dot(way, way), dot(off, way));
    let root = b * b - a * c;
    if a == 0.0 || b >= 0.0 || root < 0.0 {
        return None;
    }
    let t = (-b - libm::sqrtf(root)) / a;
    (t <= 1.0).then_some(t.max(0.0))
}

/// Whether two places are certainly at least `reach` from each other. The square tells, with more to spare than both sides can be rounded by; where it does not
/// tell, the root does.
fn is_clearly_further(a: Point, b: Point, reach: f32) -> bool {
    let off = sub(a, b);
    dot(off, off) > reach * reach * 1.000_001
}

/// Rectangles that are asked for again and again: they are sorted anew only where they are not, bit for bit and in order, those of the last time.
#[derive(Debug, Default)]
pub struct KnownSolids {
    met: Vec<Rect>,
    asked: Vec<Rect>,
    solids: Solids,
}

impl KnownSolids {
    /// As [`Solids::new`].
    pub fn of(&mut self, rects: impl IntoIterator<Item = Rect>) -> &Solids {
        self.asked.clear();
        self.asked.extend(rects);
        let is_same = self.asked.len() == self.met.len() && self.asked.iter().zip(&self.met).all(|(asked, met)| asked.bits() == met.bits());
        if !is_same {
            self.solids = Solids::new(self.asked.iter().copied());
            std::mem::swap(&mut self.asked, &mut self.met);
        }
        &self.solids
    }
}

/// All rectangles that are in the way at one moment: the walls and the closed doors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Solids {
    rects: Vec<Rect>,
}

impl Solids {
    /// Takes the rectangles in any order. Sorted, because a query yields them in an order that a recovered room does
    /// not share, and sliding along two walls depends on which comes first.
    pub fn new(rects: impl IntoIterator<Item = Rect>) -> Solids {
        let mut rects: Vec<Rect> = rects.into_iter().collect();
        // Those that are equal are equal in all, so it does not matter which of them comes first.
        rects.sort_unstable_by_key(Rect::bits);
        rects.dedup_by_key(|rect| rect.bits());
        Solids { rects }
    }

    /// All of them.
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }

    /// The smallest rectangle around all; `None` for an empty level.
    pub fn bounds(&self) -> Option<Rect> {
        let first = self.rects.first()?;
        let (mut low, mut high) = (sub(first.centre, first.half), add(first.centre, first.half));
        for rect in &self.rects {
            let (a, b) = (sub(rect.centre, rect.half), add(rect.centre, rect.half));
            low = [low[0].min(a[0]), low[1].min(a[1])];
            high = [high[0].max(b[0]), high[1].max(b[1])];
        }
        let half = scale(sub(high, low), 0.5);
        Some(Rect { centre: add(low, half), half })
    }

    /// How much of the way lies before the first rectangle on it, 0.0 to 1.0; `None` when the way is free.
    pub fn first_hit(&self, from: Point, to: Point) -> Option<f32> {
        self.rects.iter().filter_map(|rect| rect.meets_segment(from, to)).min_by(f32::total_cmp)
    }

    /// Whether two places see each other.
    pub fn line_of_sight(&self, from: Point, to: Point) -> bool {
        !self.rects.iter().any(|rect| rect.meets_segment(from, to).is_some())
    }

    /// Whether a circle can go straight from one place to the other. Cautious at corners: it treats them as square.
    pub fn line_of_walk(&self, from: Point, to: Point, radius: f32) -> bool {
        let by = (radius - SLACK).max(0.0);
        !self.rects.iter().any(|rect| rect.grown(by).meets_segment(from, to).is_some())
    }

    /// Whether a circle stands in no rectangle.
    pub fn has_room(&self, centre: Point, radius: f32) -> bool {
        !self.rects.iter().any(|rect| rect.overlaps_circle(centre, radius))
    }

    /// Where a circle ends that tries to go by `step`: it stops at walls and slides along them. It never ends inside
    /// a rectangle unless it began there, and it never passes through one, however long the step. A circle that began
    /// inside stays where it is.
    pub fn slide(&self, from: Point, step: Point, radius: f32) -> Point {
        let long = length(step);
        if !long.is_finite() || long == 0.0 || radius <= 0.0 {
            return from;
        }
        // Parts of half a radius: a circle cannot cross even the thinnest wall without touching it on the way.
        let parts = libm::ceilf(long / (radius * 0.5)).min(PARTS_MAX as f32);
        let part = scale(step, (radius * 0.5 / long).min(1.0 / parts));
        let mut at = from;
        for _ in 0..parts as usize {
            match self.pushed_out(add(at, part), radius) {
                // A push never carries further than the part itself, else a corner could fling a circle away.
                Some(next) if distance(at, next) <= length(part) + SLACK => at = next,
                _ => break,
            }
        }
        at
    }

    /// The circle moved out of every rectangle it sticks in; `None` when there is no room.
    fn pushed_out(&self, centre: Point, radius: f32) -> Option<Point> {
        let (mut at, reach) = (centre, radius - SLACK * 0.1);
        for _ in 0..PUSHES_MAX {
            let mut free = true;
            for rect in &self.rects {
                let nearest = rect.nearest(at);
                if is_clearly_further(nearest, at, reach) {
                    continue;
                }
                let off = distance(nearest, at);
                if off >= reach {
                    continue;
                }
                free = false;
                if off <= 1e-6 {
                    return None;
                }
                at = add(nearest, scale(sub(at, nearest), radius / off));
            }
            if free {
                return Some(at);
            }
        }
        self.has_room(at, radius).then_some(at)
    }
}

fn coordinate(point: Point, axis: usize) -> f32 {
    if axis == 0 { point[0] } else { point[1] }
}
