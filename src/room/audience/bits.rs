//! Sets of small numbers, and pairs of a viewer and an entity.

/// A set of small numbers, in ascending order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn set(&mut self, n: u32) {
        let word = n as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (n % 64);
        }
    }

    pub(super) fn unset(&mut self, n: u32) {
        if let Some(word) = self.0.get_mut(n as usize / 64) {
            *word &= !(1 << (n % 64));
        }
    }

    #[inline]
    pub(super) fn contains(&self, n: u32) -> bool {
        self.0.get(n as usize / 64).is_some_and(|word| word >> (n % 64) & 1 != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The words, as many as were ever needed.
    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn put(&mut self, n: u32, there: bool) {
        if there { self.set(n) } else { self.unset(n) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        ones(self.0.iter().copied())
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// The numbers of the bits that are set.
pub(super) fn ones(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u32> {
    words.zip((0..).step_by(64)).flat_map(|(mut word, first)| {
        std::iter::from_fn(move || {
            let bit = word.checked_ilog2().map(|_| word.trailing_zeros())?;
            word &= word - 1;
            Some(first + bit)
        })
    })
}

/// Which viewer has to do with which entity, readable from both ends: a row of viewers for each entity, a set of entities for each viewer.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// The words of a row.
    words: usize,
    rows: Vec<u64>,
    columns: Vec<Bits>,
}

impl Pairs {
    /// Makes room for so many viewers, in words of 64.
    pub(super) fn widen(&mut self, words: usize) {
        if words <= self.words {
            return;
        }
        let entities = self.rows.len().checked_div(self.words).unwrap_or_default();
        let mut rows = vec![0; entities * words];
        if self.words > 0 {
            for (new, old) in rows.chunks_exact_mut(words).zip(self.rows.chunks_exact(self.words)) {
                new.iter_mut().zip(old).for_each(|(new, old)| *new = *old);
            }
        }
        (self.rows, self.words) = (rows, words);
        self.columns.resize_with(words * 64, Bits::default);
    }

    #[inline]
    pub(super) fn contains(&self, viewer: u32, entity: u32) -> bool {
        self.columns.get(viewer as usize).is_some_and(|column| column.contains(entity))
    }

    /// Puts a pair in, or out. The viewer must be one of those that there is room for.
    pub(super) fn put(&mut self, viewer: u32, entity: u32, there: bool) {
        let Some(column) = self.columns.get_mut(viewer as usize) else { return };
        let end = (entity as usize + 1) * self.words;
        if self.rows.len() < end {
            self.rows.resize(end, 0);
        }
        let Some(word) = self.rows.get_mut(end - self.words + viewer as usize / 64) else { return };
        if there {
            *word |= 1 << (viewer % 64);
            column.set(entity);
        } else {
            *word &= !(1 << (viewer % 64));
            column.unset(entity);
        }
    }

    /// Puts a pair in that is not, or out that is.
    pub(super) fn flip(&mut self, viewer: u32, entity: u32) {
        self.put(viewer, entity, !self.contains(viewer, entity));
    }

    /// The viewers of an entity, as bits. May be shorter than a row.
    pub(super) fn row(&self, entity: u32) -> &[u64] {
        let start = entity as usize * self.words;
        self.rows.get(start..start + self.words).unwrap_or_default()
    }

    /// The entities of a viewer.
    pub(super) fn column(&self, viewer: u32) -> Option<&Bits> {
        self.columns.get(viewer as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_more_viewers() {
        let mut pairs = Pairs::default();
        pairs.widen(1);
        pairs.put(3, 70, true);
        pairs.put(63, 0, true);
        pairs.widen(2);
        pairs.put(127, 70, true);
        assert!(pairs.contains(3, 70) && pairs.contains(63, 0) && pairs.contains(127, 70) && !pairs.contains(64, 0));
        assert_eq!(ones(pairs.row(70).iter().copied()).collect::<Vec<_>>(), [3, 127]);
        pairs.put(3, 70, false);
        assert_eq!(ones(pairs.row(70).iter().copied()).collect::<Vec<_>>(), [127]);
        assert_eq!(pairs.column(127).unwrap().iter().collect::<Vec<_>>(), [70]);
        assert!(pairs.row(1000).is_empty());
    }
}
