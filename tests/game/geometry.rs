//! The geometry of the level: what hides, what stops, which way leads around.

use crate::map::*;

/// A small generator of its own: the tests need many cases, not good randomness.
struct Cases(u64);

impl Cases {
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn point(&mut self, size: f32) -> Point {
        [self.unit() * size, self.unit() * size]
    }

    fn level(&mut self) -> Vec<Rect> {
        let side = |centre, half| Rect { centre, half };
        let mut rects = vec![
            side([10.0, -0.5], [11.0, 0.5]),
            side([10.0, 20.5], [11.0, 0.5]),
            side([-0.5, 10.0], [0.5, 11.0]),
            side([20.5, 10.0], [0.5, 11.0]),
        ];
        for _ in 0..12 {
            let half = [0.05 + self.unit() * 1.5, 0.05 + self.unit() * 1.5];
            rects.push(side(self.point(20.0), half));
        }
        rects
    }

    fn free_point(&mut self, solids: &Solids, radius: f32) -> Point {
        loop {
            let point = self.point(20.0);
            if solids.has_room(point, radius) && solids.bounds().is_some_and(|all| all.nearest(point) == point) {
                return point;
            }
        }
    }
}

fn wall(x: f32, y: f32, w: f32, h: f32) -> Rect {
    Rect { centre: [x, y], half: [w, h] }
}

#[test]
fn a_wall_between_two_places_hides_them_from_each_other() {
    let solids = Solids::new([wall(5.0, 5.0, 0.5, 2.0)]);
    assert!(!solids.line_of_sight([0.0, 5.0], [10.0, 5.0]));
    assert!(solids.line_of_sight([0.0, 8.0], [10.0, 8.0]));
    assert!(solids.line_of_sight([0.0, 5.0], [4.0, 5.0]));
    assert_eq!(solids.first_hit([0.0, 5.0], [10.0, 5.0]), Some(0.45));
}

#[test]
fn a_shot_that_starts_in_a_wall_has_hit_it() {
    assert_eq!(wall(0.0, 0.0, 1.0, 1.0).meets_segment([0.5, 0.5], [9.0, 9.0]), Some(0.0));
}

#[test]
fn sight_is_the_same_both_ways() {
    let mut cases = Cases(1);
    for _ in 0..50 {
        let solids = Solids::new(cases.level());
        for _ in 0..50 {
            let (a, b) = (cases.point(20.0), cases.point(20.0));
            assert_eq!(solids.line_of_sight(a, b), solids.line_of_sight(b, a), "{a:?} {b:?}");
        }
    }
}

#[test]
fn a_hit_lies_on_the_edge_of_a_wall() {
    let mut cases = Cases(2);
    for _ in 0..2_000 {
        let rect = wall(10.0, 10.0, 0.5 + cases.unit() * 3.0, 0.5 + cases.unit() * 3.0);
        let (a, b) = (cases.point(20.0), cases.point(20.0));
        if let Some(t) = rect.meets_segment(a, b) {
            let at = add(a, scale(sub(b, a), t));
            assert!(distance(rect.nearest(at), at) < 1e-3);
        }
    }
}

#[test]
fn a_sweep_finds_a_circle_however_fast_it_passes() {
    assert_eq!(segment_meets_circle([0.0, 0.0], [100.0, 0.0], [50.0, 0.4], 0.5).map(|t| t > 0.49 && t < 0.5), Some(true));
    assert_eq!(segment_meets_circle([0.0, 0.0], [100.0, 0.0], [50.0, 0.6], 0.5), None);
    assert_eq!(segment_meets_circle([0.0, 0.0], [1.0, 0.0], [-5.0, 0.0], 0.5), None);
    assert_eq!(segment_meets_circle([0.0, 0.0], [0.0, 0.0], [0.1, 0.0], 0.5), Some(0.0));
}

#[test]
fn a_walker_slides_along_a_wall_and_stops_in_a_corner() {
    let solids = Solids::new([wall(5.0, 0.0, 0.5, 10.0), wall(0.0, 5.0, 10.0, 0.5)]);
    let mut at = [3.0, 0.0];
    for _ in 0..8 {
        at = solids.slide(at, [0.2, 0.1], 0.4);
    }
    assert!((at[0] - 4.1).abs() < 0.01 && at[1] > 0.5, "{at:?}");
    for _ in 0..200 {
        at = solids.slide(at, [0.2, 0.2], 0.4);
    }
    assert!((at[0] - 4.1).abs() < 0.01 && (at[1] - 4.1).abs() < 0.01, "{at:?}");
}

#[test]
fn a_walker_is_never_inside_a_wall_and_never_through_one() {
    let mut cases = Cases(3);
    for _ in 0..40 {
        let solids = Solids::new(cases.level());
        let mut at = cases.free_point(&solids, 0.4);
        for _ in 0..200 {
            let step = scale(sub(cases.point(2.0), [1.0, 1.0]), 1.5);
            let next = solids.slide(at, step, 0.4);
            assert!(solids.has_room(next, 0.4), "{at:?} by {step:?} ended inside at {next:?}");
            assert!(distance(at, next) <= length(step) + 0.01, "flung from {at:?} to {next:?}");
            assert!((0.0..=20.0).contains(&next[0]) && (0.0..=20.0).contains(&next[1]), "escaped to {next:?}");
            at = next;
        }
    }
}

#[test]
fn the_order_of_the_walls_changes_nothing() {
    let mut cases = Cases(4);
    for _ in 0..40 {
        let mut rects = cases.level();
        let forward = Solids::new(rects.iter().copied());
        rects.reverse();
        let backward = Solids::new(rects);
        let at = cases.free_point(&forward, 0.4);
        for _ in 0..100 {
            let step = sub(cases.point(2.0), [1.0, 1.0]);
            assert_eq!(forward.slide(at, step, 0.4).map(f32::to_bits), backward.slide(at, step, 0.4).map(f32::to_bits));
        }
        let to = cases.free_point(&forward, 0.5);
        assert_eq!(Grid::new(&forward, 0.5, 0.5).way(at, to), Grid::new(&backward, 0.5, 0.5).way(at, to));
    }
}

#[test]
fn a_step_that_is_no_number_goes_nowhere() {
    let solids = Solids::new([wall(5.0, 0.0, 0.5, 10.0)]);
    for step in [[f32::NAN, 0.0], [f32::INFINITY, 1.0], [0.0, 0.0]] {
        assert_eq!(solids.slide([0.0, 0.0], step, 0.4), [0.0, 0.0]);
    }
    assert_eq!(solids.slide([0.0, 0.0], [f32::MAX, 0.0], 0.4), [0.0, 0.0]);
}

#[test]
fn a_way_leads_round_a_wall_and_can_be_walked() {
    let mut cases = Cases(5);
    let mut found = 0;
    for case in 0..120 {
        let solids = Solids::new(cases.level());
        let grid = Grid::new(&solids, 0.5, 0.5);
        // Every other walker starts in a niche that is too narrow for the grid.
        let tight = if case % 2 == 0 { 0.6 } else { 0.4 };
        let (from, to) = (cases.free_point(&solids, tight), cases.free_point(&solids, 0.6));
        let Some(way) = grid.way(from, to) else { continue };
        found += 1;
        assert!(way.windows(2).all(|pair| distance(pair[0], pair[1]) < 1.5));
        let mut at = from;
        for _ in 0..2_000 {
            let left = grid.way(at, to).unwrap();
            let Some(corner) = next_corner(&left, at, &solids, 0.4) else { break };
            at = solids.slide(at, towards(at, corner, 0.25), 0.4);
        }
        assert!(distance(at, to) < 0.5, "stuck at {at:?} on the way from {from:?} to {to:?}");
    }
    assert!(found > 20, "only {found} ways found");
}

#[test]
fn there_is_no_way_into_a_closed_room_and_none_in_an_empty_level() {
    let closed = [wall(5.0, 3.0, 2.5, 0.5), wall(5.0, 7.0, 2.5, 0.5), wall(3.0, 5.0, 0.5, 2.5), wall(7.0, 5.0, 0.5, 2.5)];
    let outside = [wall(0.0, 5.0, 0.1, 6.0), wall(12.0, 5.0, 0.1, 6.0)];
    let solids = Solids::new(closed.into_iter().chain(outside));
    assert_eq!(Grid::new(&solids, 0.5, 0.5).way([1.0, 5.0], [5.0, 5.0]), None);
    assert!(Grid::new(&solids, 0.5, 0.5).way([1.0, 5.0], [10.0, 5.0]).is_some());
    assert_eq!(Grid::new(&Solids::default(), 0.5, 0.5).way([1.0, 5.0], [5.0, 5.0]), None);
}

#[test]
fn a_turn_is_never_larger_than_allowed() {
    let quarter_turn_left = turned([1.0, 0.0], [0.0, 1.0], [0.8, 0.6]);
    assert!((quarter_turn_left[0] - 0.8).abs() < 1e-6 && (quarter_turn_left[1] - 0.6).abs() < 1e-6);
    assert_eq!(turned([1.0, 0.0], [0.8, 0.6], [0.7, 0.714_142_8]), [0.8, 0.6]);
    assert!(turned([1.0, 0.0], [0.0, -1.0], [0.8, 0.6])[1] < 0.0);
}

/// As it was before the ways beside a rectangle were told without a division.
#[expect(clippy::indexing_slicing, reason = "a point has two parts")]
fn meets_segment(rect: &Rect, from: Point, to: Point) -> Option<f32> {
    let (mut enter, mut leave) = (0.0_f32, 1.0_f32);
    for axis in 0..2 {
        let (start, way) = (from[axis], to[axis] - from[axis]);
        let (low, high) = (rect.centre[axis] - rect.half[axis], rect.centre[axis] + rect.half[axis]);
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

#[test]
fn what_is_told_without_a_division_is_what_a_division_tells() {
    let mut cases = Cases(5);
    for round in 0..2_000 {
        // Edges and corners are met exactly in every other round.
        let snap = |point: Point| if round % 2 == 0 { point } else { point.map(|part| (part * 4.0).round() / 4.0) };
        let rect = Rect { centre: snap(cases.point(20.0)), half: snap(cases.point(3.0)) };
        for _ in 0..50 {
            let (from, to) = (snap(cases.point(20.0)), snap(cases.point(20.0)));
            let (is, was) = (rect.meets_segment(from, to).map(f32::to_bits), meets_segment(&rect, from, to).map(f32::to_bits));
            assert_eq!(is, was, "{rect:?}, from {from:?} to {to:?}");
            let radius = 0.05 + cases.unit();
            assert_eq!(
                rect.overlaps_circle(from, radius),
                distance(rect.nearest(from), from) < radius - 1e-3,
                "{rect:?}, {from:?}, {radius}"
            );
        }
    }
}

#[test]
fn rectangles_that_are_known_are_those_that_are_asked_for() {
    let (mut cases, mut known) = (Cases(6), KnownSolids::default());
    for round in 0..200 {
        let mut rects = cases.level();
        for _ in 0..3 {
            assert_eq!(*known.of(rects.iter().copied()), Solids::new(rects.iter().copied()), "round {round}");
            rects.rotate_left(1);
        }
        rects.pop();
        assert_eq!(*known.of(rects.iter().copied()), Solids::new(rects.iter().copied()), "a door opens in round {round}");
    }
}
