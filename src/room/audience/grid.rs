//! Who is near whom: cells in which entities stand, and the viewers that look into each.

use super::places::Place;

/// A viewer's point of view. Distances are squared, but for `pad`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Eye {
    place: Place,
    enter: f32,
    leave: f32,
    /// No coordinate of what is in sight differs by more.
    pad: f32,
}

impl Eye {
    /// One that sees nothing.
    pub(super) const BLIND: Self = Self { place: [0.0; 3], enter: -1.0, leave: -1.0, pad: -1.0 };

    /// At a place, with the distances within which something comes into sight and stays in it.
    pub(super) fn new(place: Place, (enter, leave): (f32, f32)) -> Self {
        // A little more, for what is rounded away: relative, and of squares that are too small to be told from zero.
        Self { place, enter: enter * enter, leave: leave * leave, pad: leave * 1.0001 + 1e-20 }
    }

    pub(super) fn is_blind(&self) -> bool {
        self.pad < 0.0
    }

    /// How far it sees, and a little more.
    pub(super) fn pad(&self) -> f32 {
        self.pad
    }

    /// Whether something at a place is in sight, if it was or was not.
    #[inline]
    pub(super) fn sees(&self, place: &Place, was: bool) -> bool {
        let [x, y, z] = [place[0] - self.place[0], place[1] - self.place[1], place[2] - self.place[2]];
        let square = x * x + y * y + z * z;
        (square <= self.enter) | (was & (square <= self.leave))
    }
}

/// An entity in a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) entity: u32,
}

/// The cells that an eye looks into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cover {
    #[default]
    Nothing,
    /// The first and the last cell in each dimension.
    Cells([[i32; 2]; 3]),
    All,
}

/// Where an entity is filed.
#[derive(Clone, Copy, Debug)]
struct Home {
    bucket: u32,
    at: u32,
}

const NOWHERE: Home = Home { bucket: u32::MAX, at: 0 };
const BUCKETS_MIN: usize = 1 << 10;
const BUCKETS_MAX: usize = 1 << 16;

/// A grid without end, its cells filed in a fixed number of buckets. Cells far from each other may share one: that costs time and changes
/// nothing.
#[derive(Debug)]
pub(super) struct Grid {
    cell: f32,
    dimensions: usize,
    /// The words of a row of `watchers`.
    words: usize,
    buckets: Vec<Vec<Item>>,
    /// For each bucket the viewers that look into it.
    watchers: Vec<u64>,
    homes: Vec<Home>,
    len: usize,
}

impl Grid {
    pub(super) fn new() -> Self {
        let buckets = vec![Vec::new(); BUCKETS_MIN];
        Self { cell: 1.0, dimensions: 3, words: 1, watchers: vec![0; buckets.len()], buckets, homes: Vec::new(), len: 0 }
    }

    pub(super) fn cell(&self) -> f32 {
        self.cell
    }

    fn cell_of(&self, coordinate: f32) -> i32 {
        // Rounded down by hand: `floor` is a call where the target has no instruction for it. Beyond all cells it is the last one: the
        // conversion saturates.
        let cells = coordinate / self.cell;
        let whole = cells as i32;
        whole.saturating_sub(i32::from(whole as f32 > cells))
    }

    /// Neighbours along a row share cache lines; those within a few cells of each other don't share a bucket.
    fn bucket_of(&self, [x, y, z]: [i32; 3]) -> u32 {
        let place = x.wrapping_add(y.wrapping_mul(89)).wrapping_add(z.wrapping_mul(1627));
        place as u32 & (self.buckets.len() - 1) as u32
    }

    /// Files an entity by its place.
    pub(super) fn put(&mut self, entity: u32, place: Place) {
        let bucket = self.bucket_of(place.map(|coordinate| self.cell_of(coordinate)));
        let home = self.home(entity);
        if home.bucket == bucket {
            if let Some(item) = self.buckets.get_mut(bucket as usize).and_then(|items| items.get_mut(home.at as usize)) {
                item.place = place;
            }
            return;
        }
        self.take_out(entity);
        if self.homes.len() <= entity as usize {
            self.homes.resize(entity as usize + 1, NOWHERE);
        }
        let (Some(items), Some(home)) = (self.buckets.get_mut(bucket as usize), self.homes.get_mut(entity as usize)) else { return };
        *home = Home { bucket, at: items.len() as u32 };
        items.push(Item { place, entity });
        self.len += 1;
    }

    pub(super) fn take_out(&mut self, entity: u32) {
        let Some(home) = self.homes.get_mut(entity as usize) else { return };
        let Home { bucket, at } = std::mem::replace(home, NOWHERE);
        let Some(items) = self.buckets.get_mut(bucket as usize) else { return };
        items.swap_remove(at as usize);
        self.len -= 1;
        let follower = items.get(at as usize).and_then(|item| self.homes.get_mut(item.entity as usize));
        if let Some(home) = follower {
            home.at = at;
        }
    }

    fn home(&self, entity: u32) -> Home {
        self.homes.get(entity as usize).copied().unwrap_or(NOWHERE)
    }

    pub(super) fn place(&self, entity: u32) -> Option<&Place> {
        let Home { bucket, at } = self.home(entity);
        self.items(bucket).get(at as usize).map(|item| &item.place)
    }

    pub(super) fn items(&self, bucket: u32) -> &[Item] {
        self.buckets.get(bucket as usize).map_or(&[], Vec::as_slice)
    }

    /// The viewers that look where an entity is, as bits.
    pub(super) fn watchers_of(&self, entity: u32) -> &[u64] {
        let start = self.home(entity).bucket as usize * self.words;
        self.watchers.get(start..start + self.words).unwrap_or_default()
    }

    /// Lets a viewer look into buckets, or no longer.
    pub(super) fn watch(&mut self, viewer: u32, buckets: &[u32], there: bool) {
        let (nth, bit) = (viewer as usize / 64, 1 << (viewer % 64));
        for bucket in buckets {
            if let Some(word) = self.watchers.get_mut(*bucket as usize * self.words + nth) {
                *word = if there { *word | bit } else { *word & !bit };
            }
        }
    }

    /// The cells that an eye looks into.
    pub(super) fn cover(&self, eye: &Eye) -> Cover {
        if eye.is_blind() {
            return Cover::Nothing;
        }
        let mut cells = [[0; 2]; 3];
        let mut count = 1_u64;
        for (ends, at) in cells.iter_mut().zip(eye.place).take(self.dimensions) {
            *ends = [self.cell_of(at - eye.pad), self.cell_of(at + eye.pad)];
            count = count.saturating_mul(ends[0].abs_diff(ends[1]).into()).saturating_add(count);
        }
        if count > self.buckets.len() as u64 / 2 { Cover::All } else { Cover::Cells(cells) }
    }

    /// The buckets of these cells, each once.
    pub(super) fn buckets_of(&self, cover: Cover, out: &mut Vec<u32>) {
        out.clear();
        match cover {
            Cover::Nothing => {}
            Cover::All => out.extend(0..self.buckets.len() as u32),
            Cover::Cells([xs, ys, zs]) => {
                for z in zs[0]..=zs[1] {
                    for y in ys[0]..=ys[1] {
                        out.extend((xs[0]..=xs[1]).map(|x| self.bucket_of([x, y, z])));
                    }
                }
                out.sort_unstable();
                out.dedup();
            }
        }
    }

    /// Builds itself anew if it no longer suits what it holds: so many words of viewers, cells of about such a size. True if it did; then
    /// nobody looks anywhere.
    pub(super) fn suit(&mut self, words: usize, dimensions: usize, cell: f32) -> bool {
        let crowded = self.len / 2 > self.buckets.len() && self.buckets.len() < BUCKETS_MAX;
        let alike = self.cell / cell < 1.5 && cell / self.cell < 1.5;
        if words <= self.words && dimensions == self.dimensions && alike && !crowded {
            return false;
        }
        let items: Vec<Item> = self.buckets.drain(..).flatten().collect();
        let buckets = (items.len() / 2).next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX);
        self.buckets.resize_with(buckets, Vec::new);
        self.homes.fill(NOWHERE);
        self.words = words.max(self.words);
        self.watchers = vec![0; buckets * self.words];
        (self.cell, self.dimensions, self.len) = (cell, dimensions, 0);
        items.iter().for_each(|item| self.put(item.entity, item.place));
        true
    }
}
