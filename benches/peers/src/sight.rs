//! Who sees what: every member has an entity of its own and sees what is near it, about a hundredth of the world.
//!
//! This is the game's own code, for contestants that do not find it out themselves, and what all of them are checked by: a grid, nine
//! cells of which are looked through for each member.

use crate::workload::{Changes, WORLD_HALF, Workload};

/// How far a member sees, in metres and in the plane: 10,000 entities on a square kilometre are 100 in this circle.
pub const RANGE: f32 = 56.42;

/// Cells are as wide as the range.
const CELLS: usize = (2.0 * WORLD_HALF / RANGE) as usize + 1;

/// A member sees an entity from now on, or no longer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Turn {
    /// The member.
    pub member: usize,
    /// The slot of the entity.
    pub slot: usize,
    /// Whether it sees it now.
    pub visible: bool,
}

/// Who sees what.
pub struct Sights {
    places: Vec<[f32; 2]>,
    cells: Vec<Vec<u32>>,
    /// For each member a bit for each slot.
    seen: Vec<Vec<u64>>,
    scratch: Vec<u64>,
}

impl Sights {
    /// The sights in the beginning of a workload.
    pub fn new(workload: &Workload) -> Self {
        let places: Vec<[f32; 2]> = workload.things().map(|(place, ..)| [place.x, place.z]).collect();
        let mut cells = vec![Vec::new(); CELLS * CELLS];
        for (slot, place) in places.iter().enumerate() {
            cells[cell(*place)].push(slot as u32);
        }
        let words = workload.entities.div_ceil(64);
        let mut this = Self { places, cells, seen: vec![vec![0; words]; workload.clients], scratch: vec![0; words] };
        this.look(&mut Vec::new());
        this
    }

    /// Whether a member sees an entity.
    pub fn sees(&self, member: usize, slot: usize) -> bool {
        self.seen[member][slot / 64] >> (slot % 64) & 1 == 1
    }

    /// Moves the entities and writes down what turned, member by member.
    pub fn update(&mut self, changes: &Changes, turns: &mut Vec<Turn>) {
        turns.clear();
        for &(slot, position, _) in &changes.moves {
            let place = [position.x, position.z];
            let (old, new) = (cell(self.places[slot]), cell(place));
            self.places[slot] = place;
            if old != new {
                self.cells[old].retain(|&other| other as usize != slot);
                self.cells[new].push(slot as u32);
            }
        }
        if !changes.moves.is_empty() {
            self.look(turns);
        }
    }

    fn look(&mut self, turns: &mut Vec<Turn>) {
        let members = self.seen.len();
        for (member, seen) in self.seen.iter_mut().enumerate() {
            let centre = self.places[own_slot(member, members, self.places.len())];
            self.scratch.fill(0);
            let around = |axis: f32| {
                let at = along(axis);
                at.saturating_sub(1)..=(at + 1).min(CELLS - 1)
            };
            for row in around(centre[1]) {
                for &slot in around(centre[0]).flat_map(|column| &self.cells[row * CELLS + column]) {
                    let [x, z] = self.places[slot as usize];
                    let (dx, dz) = (x - centre[0], z - centre[1]);
                    if dx * dx + dz * dz <= RANGE * RANGE {
                        self.scratch[slot as usize / 64] |= 1 << (slot % 64);
                    }
                }
            }
            for (word, (&now, before)) in self.scratch.iter().zip(&mut *seen).enumerate() {
                let mut turned = now ^ *before;
                *before = now;
                while turned != 0 {
                    let bit = turned.trailing_zeros() as usize;
                    turns.push(Turn { member, slot: word * 64 + bit, visible: now >> bit & 1 == 1 });
                    turned &= turned - 1;
                }
            }
        }
    }
}

/// The slot of a member's own entity: they are spread over the slots.
pub fn own_slot(member: usize, members: usize, entities: usize) -> usize {
    member * (entities / members)
}

fn along(axis: f32) -> usize {
    (((axis + WORLD_HALF) / RANGE) as usize).min(CELLS - 1)
}

fn cell([x, z]: [f32; 2]) -> usize {
    along(z) * CELLS + along(x)
}
