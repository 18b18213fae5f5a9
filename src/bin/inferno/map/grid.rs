//! Finding a way: a raster of the level, A* over it, and the next corner of a way to walk to.

use super::{Point, Rect, Solids, add, distance, sub};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The most cells a grid has, so that a level file cannot make one that does not fit in memory.
const CELLS_MAX: usize = 1 << 18;

/// How far from a place, in cells, the search for a free cell to start from or end at goes.
const NEAREST_CELLS: i32 = 3;

/// Ten and fourteen: a straight and a diagonal step in tenths of a cell. Integers, so that equal ways are equal.
const STRAIGHT: u32 = 10;
const DIAGONAL: u32 = 14;

/// The eight neighbours in a fixed order, straight ones first.
const NEIGHBOURS: [(i32, i32, u32); 8] = [
    (1, 0, STRAIGHT),
    (0, 1, STRAIGHT),
    (-1, 0, STRAIGHT),
    (0, -1, STRAIGHT),
    (1, 1, DIAGONAL),
    (-1, 1, DIAGONAL),
    (-1, -1, DIAGONAL),
    (1, -1, DIAGONAL),
];

thread_local! {
    /// What a search needs, kept from one to the next: to fetch and to clear as much for each took more than the search itself.
    static SEARCH: RefCell<Search> = RefCell::default();
}

/// What a search knows of the cells that it has reached.
#[derive(Debug, Default)]
struct Search {
    /// What is known of a cell counts if it is of this search.
    number: u32,
    cells: Vec<Reached>,
    open: BinaryHeap<Reverse<(u32, usize)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    search: u32,
    cost: u32,
    from: u32,
}

impl Search {
    fn begin(&mut self, cells: usize) {
        self.open.clear();
        self.number = self.number.wrapping_add(1);
        if self.number == 0 {
            // All numbers were used.
            self.cells.clear();
            self.number = 1;
        }
        if self.cells.len() < cells {
            self.cells.resize(cells, Reached::default());
        }
    }

    /// What it costs to get to a cell, as far as is known.
    fn cost(&self, cell: usize) -> Option<u32> {
        self.cells.get(cell).filter(|reached| reached.search == self.number).map(|reached| reached.cost)
    }

    fn reach(&mut self, cell: usize, from: usize, cost: u32) {
        if let Some(reached) = self.cells.get_mut(cell) {
            *reached = Reached { search: self.number, cost, from: from as u32 };
        }
    }

    /// The cells from the goal back to the start.
    fn back(&self, start: usize, goal: usize) -> Option<Vec<usize>> {
        let mut way = vec![goal];
        let mut at = goal;
        while at != start {
            at = self.cells.get(at)?.from as usize;
            way.push(at);
        }
        Some(way)
    }
}

/// The level as square cells, each free or not for a circle of one radius.
#[derive(Clone, Debug)]
pub struct Grid {
    low: Point,
    cell: f32,
    columns: i32,
    rows: i32,
    free: Vec<bool>,
    /// Which cells a way leads between: those of one number. Of no meaning where a cell is not free.
    regions: Vec<u32>,
    solids: Solids,
}

impl Grid {
    /// Rasters a level for circles of `radius`. A level that is empty, not finite or too big gives a grid without
    /// cells, on which there is no way to anywhere.
    pub fn new(solids: &Solids, cell: f32, radius: f32) -> Grid {
        let nothing =
            Grid { low: [0.0; 2], cell: 1.0, columns: 0, rows: 0, free: Vec::new(), regions: Vec::new(), solids: Solids::default() };
        let Some(Rect { centre, half }) = solids.bounds() else { return nothing };
        let (columns, rows) = (libm::ceilf(2.0 * half[0] / cell), libm::ceilf(2.0 * half[1] / cell));
        let fits = columns >= 1.0 && rows >= 1.0 && columns * rows <= CELLS_MAX as f32;
        if !fits {
            return nothing;
        }
        let (columns, rows) = (columns as i32, rows as i32);
        let mut grid = Grid { low: sub(centre, half), cell, columns, rows, free: Vec::new(), regions: Vec::new(), solids: solids.clone() };
        grid.free = grid.raster(radius);
        grid.find_regions();
        grid
    }

    /// Where a circle [has room](Solids::has_room), cell by cell. Each rectangle is asked for the cells about it alone: a room does this whenever a door
    /// moves, and a few milliseconds would make hundreds of others late.
    fn raster(&self, radius: f32) -> Vec<bool> {
        let mut free = vec![true; usize::try_from(self.columns * self.rows).unwrap_or(0)];
        for rect in self.solids.rects() {
            let reach = add(rect.half, [radius + self.cell; 2]);
            let (from, to) = (sub(sub(rect.centre, reach), self.low), sub(add(rect.centre, reach), self.low));
            let cells = |axis: usize, count: i32| {
                let at = |point: Point| libm::floorf(point.get(axis).copied().unwrap_or_default() / self.cell);
                (at(from) as i32).max(0)..(at(to) as i32).saturating_add(1).min(count)
            };
            for y in cells(1, self.rows) {
                for x in cells(0, self.columns) {
                    if rect.overlaps_circle(self.middle(x, y), radius)
                        && let Some(cell) = self.index(x, y).and_then(|index| free.get_mut(index))
                    {
                        *cell = false;
                    }
                }
            }
        }
        free
    }

    /// Numbers the regions. Straight steps tell: a diagonal one needs both cells beside it, so two of them lead there too.
    fn find_regions(&mut self) {
        const NOT_SEEN: u32 = u32::MAX;
        let mut regions = vec![NOT_SEEN; self.free.len()];
        let mut open = Vec::new();
        for (from, region) in (0..self.free.len()).zip(0..NOT_SEEN) {
            open.push(from);
            while let Some(at) = open.pop() {
                let is_new = self.free.get(at) == Some(&true) && regions.get(at) == Some(&NOT_SEEN);
                if let Some(seen) = regions.get_mut(at).filter(|_| is_new) {
                    *seen = region;
                    let (x, y) = self.column_row(at);
                    open.extend([(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)].into_iter().filter_map(|(x, y)| self.index(x, y)));
                }
            }
        }
        self.regions = regions;
    }

    /// The cells where a [`way`](Self::way) begins and ends, if there is one: asked faster than for the way.
    pub fn ends(&self, from: Point, to: Point) -> Option<(usize, usize)> {
        let (start, goal) = (self.free_near(from)?, self.free_near(to)?);
        (self.regions.get(start)? == self.regions.get(goal)?).then_some((start, goal))
    }

    /// A shortest way over free cells, as places from after `from` up to and including `to`. `None` when there is
    /// none. Of several equally short ways it is always the same one.
    pub fn way(&self, from: Point, to: Point) -> Option<Vec<Point>> {
        let ends = self.ends(from, to)?;
        self.between(ends).map(|way| self.up_to(way, ends, to))
    }

    /// The middles of the cells of a way between two cells that there [is](Self::ends) one between. The same cells have the same way.
    pub fn between(&self, (start, goal): (usize, usize)) -> Option<Vec<Point>> {
        let cells = SEARCH.with_borrow_mut(|search| self.search(search, start, goal))?;
        Some(cells.iter().rev().map(|&cell| self.middle_of(cell)).collect())
    }

    /// A way between cells as one to a place in the last of them.
    pub fn up_to(&self, mut way: Vec<Point>, (_, goal): (usize, usize), to: Point) -> Vec<Point> {
        // The place itself instead of its cell's middle, unless it lies in a wall and another cell stands in for it.
        if self.cell_at(to).and_then(|(x, y)| self.index(x, y)) == Some(goal)
            && let Some(last) = way.last_mut()
        {
            *last = to;
        }
        way
    }

    /// A* with integer costs. Ties go to the cell with the smaller index, so the answer never depends on the heap. Gives the cells of the way, the
    /// goal first.
    fn search(&self, search: &mut Search, start: usize, goal: usize) -> Option<Vec<usize>> {
        search.begin(self.free.len());
        search.reach(start, start, 0);
        search.open.push(Reverse((self.guess(start, goal), start)));
        while let Some(Reverse((_, at))) = search.open.pop() {
            if at == goal {
                return search.back(start, goal);
            }
            let so_far = search.cost(at)?;
            for (next, step) in self.steps_from(at) {
                let total = so_far + step;
                if search.cost(next).is_none_or(|known| total < known) {
                    search.reach(next, at, total);
                    search.open.push(Reverse((total + self.guess(next, goal), next)));
                }
            }
        }
        None
    }

    /// The free neighbours of a cell. A diagonal step needs both cells beside it, or it would cut a corner.
    fn steps_from(&self, at: usize) -> impl Iterator<Item = (usize, u32)> + '_ {
        let (x, y) = self.column_row(at);
        NEIGHBOURS.into_iter().filter_map(move |(dx, dy, step)| {
            let straight = dx == 0 || dy == 0;
            let open = self.is_free(x + dx, y + dy) && (straight || self.is_free(x + dx, y) && self.is_free(x, y + dy));
            if open { self.index(x + dx, y + dy).map(|next| (next, step)) } else { None }
        })
    }

    /// A lower bound of the cost between two cells.
    fn guess(&self, from: usize, to: usize) -> u32 {
        let ((ax, ay), (bx, by)) = (self.column_row(from), self.column_row(to));
        let (dx, dy) = (ax.abs_diff(bx), ay.abs_diff(by));
        STRAIGHT * dx.max(dy) + (DIAGONAL - STRAIGHT) * dx.min(dy)
    }

    /// The free cell nearest to a place and not behind a wall from there, for places close to walls; the first in row
    /// order of equally near ones.
    fn free_near(&self, point: Point) -> Option<usize> {
        let (x, y) = self.cell_at(point)?;
        // The place's own cell is the nearest, beyond all rounding, unless the place is at its edge.
        let off = sub(point, self.middle(x, y));
        let is_well_within = off.iter().all(|off| off.abs() < self.cell * 0.45);
        if is_well_within && self.is_free(x, y) && self.solids.line_of_sight(point, self.middle(x, y)) {
            return self.index(x, y);
        }
        let around = (-NEAREST_CELLS..=NEAREST_CELLS).flat_map(|dy| (-NEAREST_CELLS..=NEAREST_CELLS).map(move |dx| (dx, dy)));
        let free = around.map(|(dx, dy)| (x + dx, y + dy)).filter(|&(x, y)| self.is_free(x, y));
        let mut free: Vec<(f32, i32, i32)> = free.map(|(x, y)| (distance(self.middle(x, y), point), x, y)).collect();
        // Nearly always the first will do, and whether it can be seen costs most.
        free.sort_by(|a, b| a.0.total_cmp(&b.0));
        let seen = free.into_iter().find(|&(_, x, y)| self.solids.line_of_sight(point, self.middle(x, y)));
        seen.and_then(|(_, x, y)| self.index(x, y))
    }

    fn is_free(&self, x: i32, y: i32) -> bool {
        self.index(x, y).and_then(|index| self.free.get(index)).copied().unwrap_or(false)
    }

    fn index(&self, x: i32, y: i32) -> Option<usize> {
        let inside = x >= 0 && y >= 0 && x < self.columns && y < self.rows;
        inside.then(|| usize::try_from(y * self.columns + x).ok()).flatten()
    }

    fn column_row(&self, index: usize) -> (i32, i32) {
        let index = i32::try_from(index).unwrap_or(0);
        (index % self.columns.max(1), index / self.columns.max(1))
    }

    fn cell_at(&self, point: Point) -> Option<(i32, i32)> {
        let off = sub(point, self.low);
        let (x, y) = (libm::floorf(off[0] / self.cell), libm::floorf(off[1] / self.cell));
        // Saturating casts: a place far outside is outside, not around the corner.
        (x.is_finite() && y.is_finite()).then_some((x.clamp(-1e6, 1e6) as i32, y.clamp(-1e6, 1e6) as i32))
    }

    fn middle(&self, x: i32, y: i32) -> Point {
        add(self.low, [(x as f32 + 0.5) * self.cell, (y as f32 + 0.5) * self.cell])
    }

    fn middle_of(&self, index: usize) -> Point {
        let (x, y) = self.column_row(index);
        self.middle(x, y)
    }
}

/// The place on a way to walk straight to: the furthest that a circle reaches without touching a wall, else the
/// first. `None` when the way is at its end.
pub fn next_corner(way: &[Point], from: Point, solids: &Solids, radius: f32) -> Option<Point> {
    way.iter().rev().find(|&&corner| solids.line_of_walk(from, corner, radius)).or(way.first()).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cell_is_free_exactly_where_a_circle_has_room(
            rects in prop::collection::vec(((-9.0..9.0_f32, -9.0..9.0_f32), (0.01..4.0_f32, 0.01..4.0_f32)), 1..20),
            radius in 0.05..1.5_f32,
        ) {
            let solids = super::Solids::new(rects.into_iter().map(|((x, y), (w, h))| super::Rect { centre: [x, y], half: [w, h] }));
            let grid = super::Grid::new(&solids, 0.5, radius);
            let cells = (0..grid.rows).flat_map(|y| (0..grid.columns).map(move |x| (x, y)));
            let free: Vec<bool> = cells.map(|(x, y)| solids.has_room(grid.middle(x, y), radius)).collect();
            prop_assert!(!free.is_empty() && grid.free == free);
        }
    }
}
