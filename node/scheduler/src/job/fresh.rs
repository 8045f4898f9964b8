//! Tasks that anybody may take, by size: a worker gets the largest that is not more than its share.

use std::{cmp::Reverse, collections::BTreeSet};

#[derive(Debug, Clone, Default)]
pub(super) struct Fresh {
    /// Of equal weights the lowest index is the last.
    tasks: BTreeSet<(u64, Reverse<u32>)>,
    /// Of all of them.
    weight: u64,
}

impl Fresh {
    pub(super) fn insert(&mut self, task: u32, weight: u64) {
        if self.tasks.insert((weight, Reverse(task))) {
            self.weight = self.weight.saturating_add(weight);
        }
    }

    pub(super) fn remove(&mut self, task: u32, weight: u64) {
        if self.tasks.remove(&(weight, Reverse(task))) {
            self.weight = self.weight.saturating_sub(weight);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// The largest task of at most this weight, or the smallest of all.
    pub(super) fn fitting(&self, share: u64) -> Option<(u32, u64)> {
        let up_to = |weight: u64| self.tasks.range(..=(weight, Reverse(0))).next_back();
        let smallest = || up_to(self.tasks.first()?.0);
        up_to(share).or_else(smallest).map(|(weight, Reverse(task))| (*task, *weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits_and_lowest_first_among_equals() {
        let mut fresh = Fresh::default();
        assert_eq!(fresh.fitting(9), None);
        [5, 3, 5, 8, 3].into_iter().zip(0..).for_each(|(weight, task)| fresh.insert(task, weight));
        fresh.insert(0, 5);
        assert_eq!((fresh.weight(), fresh.is_empty()), (24, false));
        for (share, expected) in [(0, (1, 3)), (3, (1, 3)), (4, (1, 3)), (5, (0, 5)), (7, (0, 5)), (8, (3, 8))] {
            assert_eq!(fresh.fitting(share), Some(expected), "share {share}");
        }
        fresh.remove(0, 5);
        fresh.remove(0, 5);
        assert_eq!((fresh.fitting(u64::MAX), fresh.fitting(5), fresh.weight()), (Some((3, 8)), Some((2, 5)), 19));
    }
}
