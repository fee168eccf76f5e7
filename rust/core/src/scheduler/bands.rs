//! Strict bands by priority; inside a band, first in, first out by order of creation.
//!
//! Which step stands first inside a band is the business of `Line` alone: weighted fairness by key
//! takes its place there and leaves the bands as they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Withdrawn entries that a line may carry beyond its live ones before it is swept.
const SLACK: usize = 64;

/// Where a step stands among all ready ones: the smaller goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    pub priority: i32,
    pub order: u64,
}

/// A step's place in the slab. The generation tells a withdrawn step from the one that came after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Entry {
    pub order: u64,
    pub slot: u32,
    pub generation: u32,
}

/// The ready steps of one class, band by band. A band without live entries is not kept.
#[derive(Default, Debug)]
pub(super) struct Bands {
    bands: BTreeMap<i32, Line>,
    live: usize,
}

impl Bands {
    pub fn push(&mut self, priority: i32, entry: Entry) {
        self.bands.entry(priority).or_default().push(entry);
        self.live += 1;
    }

    /// The first live entry of the best band.
    pub fn first(&mut self, is_live: impl Fn(Entry) -> bool) -> Option<(Rank, Entry)> {
        let mut band = self.bands.first_entry()?;
        let entry = band.get_mut().first(is_live)?;
        Some((Rank { priority: *band.key(), order: entry.order }, entry))
    }

    /// Takes out what `first` has shown.
    pub fn pop(&mut self, is_live: impl Fn(Entry) -> bool) -> Option<Entry> {
        let mut band = self.bands.first_entry()?;
        let entry = band.get_mut().pop(is_live)?;
        if band.get().live == 0 {
            band.remove();
        }
        self.live -= 1;
        Some(entry)
    }

    /// One entry of the band is no longer live; it stays until it is passed or swept.
    pub fn bury(&mut self, priority: i32, is_live: impl Fn(Entry) -> bool) {
        let Some(line) = self.bands.get_mut(&priority) else { return };
        line.live -= 1;
        self.live -= 1;
        if line.live == 0 {
            self.bands.remove(&priority);
        } else if line.len() > 2 * line.live + SLACK {
            line.sweep(is_live);
        }
    }

    pub fn len(&self) -> usize {
        self.live
    }
}

/// One band. Steps mostly come in the order of their creation, so a queue takes them; the few that
/// come back late (a retry, a lost step) stand in a heap beside it.
#[derive(Default, Debug)]
struct Line {
    queue: VecDeque<Entry>,
    late: BinaryHeap<Reverse<Entry>>,
    live: usize,
}

impl Line {
    fn push(&mut self, entry: Entry) {
        if self.queue.back().is_none_or(|last| last.order <= entry.order) {
            self.queue.push_back(entry);
        } else {
            self.late.push(Reverse(entry));
        }
        self.live += 1;
    }

    fn first(&mut self, is_live: impl Fn(Entry) -> bool) -> Option<Entry> {
        while self.queue.front().is_some_and(|entry| !is_live(*entry)) {
            self.queue.pop_front();
        }
        while self.late.peek().is_some_and(|Reverse(entry)| !is_live(*entry)) {
            self.late.pop();
        }
        match (self.queue.front(), self.late.peek()) {
            (Some(queued), Some(Reverse(late))) => Some(*queued.min(late)),
            (Some(entry), None) | (None, Some(Reverse(entry))) => Some(*entry),
            (None, None) => None,
        }
    }

    fn pop(&mut self, is_live: impl Fn(Entry) -> bool) -> Option<Entry> {
        let entry = self.first(is_live)?;
        self.live -= 1;
        if self.queue.front() == Some(&entry) {
            self.queue.pop_front()
        } else {
            self.late.pop().map(|Reverse(late)| late)
        }
    }

    fn len(&self) -> usize {
        self.queue.len() + self.late.len()
    }

    fn sweep(&mut self, is_live: impl Fn(Entry) -> bool) {
        self.queue.retain(|entry| is_live(*entry));
        self.late.retain(|Reverse(entry)| is_live(*entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(order: u64) -> Entry {
        Entry { order, slot: order as u32, generation: 0 }
    }

    fn drain(bands: &mut Bands, is_live: impl Fn(Entry) -> bool + Copy) -> Vec<u64> {
        std::iter::from_fn(|| bands.pop(is_live)).map(|entry| entry.order).collect()
    }

    #[test]
    fn a_better_band_goes_first_and_a_late_comer_takes_its_old_place() {
        let mut bands = Bands::default();
        for (priority, order) in [(1, 1), (1, 5), (1, 3), (-2, 9), (1, 4)] {
            bands.push(priority, entry(order));
        }
        assert_eq!(bands.first(|_| true).map(|(rank, _)| (rank.priority, rank.order)), Some((-2, 9)));
        assert_eq!(drain(&mut bands, |_| true), [9, 1, 3, 4, 5]);
        assert_eq!((bands.len(), bands.bands.len()), (0, 0));
    }

    #[test]
    fn withdrawn_entries_are_passed_over_and_swept() {
        let mut bands = Bands::default();
        (0..1_000).for_each(|order| bands.push(0, entry(order)));
        let is_live = |entry: Entry| entry.order % 100 == 7;
        (0..990).for_each(|_| bands.bury(0, is_live));
        assert!(bands.bands[&0].len() <= 2 * 10 + SLACK);
        assert_eq!(drain(&mut bands, is_live), (0..10).map(|n| n * 100 + 7).collect::<Vec<_>>());
    }
}
