//! First in, first out by order of creation.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::slab::Place;

/// Withdrawn entries that a line may carry beyond its live ones before it is swept.
const SLACK: usize = 64;

/// A step's place, by the ticket of its creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Entry {
    pub order: u64,
    pub place: Place,
}

/// Steps mostly come in the order of their creation, so a queue takes them; the few that come back late (a retry, a
/// lost step) stand in a heap beside it. A withdrawn entry stays until it is passed or swept.
#[derive(Default, Debug)]
pub(super) struct Line {
    queue: VecDeque<Entry>,
    late: BinaryHeap<Reverse<Entry>>,
    live: usize,
}

impl Line {
    pub fn push(&mut self, entry: Entry) {
        if self.queue.back().is_none_or(|last| last.order <= entry.order) {
            self.queue.push_back(entry);
        } else {
            self.late.push(Reverse(entry));
        }
        self.live += 1;
    }

    pub fn first(&mut self, is_live: impl Fn(Entry) -> bool) -> Option<Entry> {
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

    pub fn pop(&mut self, is_live: impl Fn(Entry) -> bool) -> Option<Entry> {
        let entry = self.first(is_live)?;
        self.live -= 1;
        if self.queue.front() == Some(&entry) {
            self.queue.pop_front()
        } else {
            self.late.pop().map(|Reverse(late)| late)
        }
    }

    /// One entry is no longer live.
    pub fn bury(&mut self, is_live: impl Fn(Entry) -> bool) {
        self.live -= 1;
        if self.queue.len() + self.late.len() > 2 * self.live + SLACK {
            self.queue.retain(|entry| is_live(*entry));
            self.late.retain(|Reverse(entry)| is_live(*entry));
        }
    }

    pub fn len(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(order: u64) -> Entry {
        Entry { order, place: Place { slot: order as u32, generation: 0 } }
    }

    fn drain(line: &mut Line, is_live: impl Fn(Entry) -> bool + Copy) -> Vec<u64> {
        std::iter::from_fn(|| line.pop(is_live)).map(|entry| entry.order).collect()
    }

    #[test]
    fn a_late_comer_takes_its_old_place() {
        let mut line = Line::default();
        for order in [1, 5, 3, 9, 4] {
            line.push(entry(order));
        }
        assert_eq!(drain(&mut line, |_| true), [1, 3, 4, 5, 9]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn withdrawn_entries_are_passed_over_and_swept() {
        let mut line = Line::default();
        (0..1_000).for_each(|order| line.push(entry(order)));
        let is_live = |entry: Entry| entry.order % 100 == 7;
        (0..990).for_each(|_| line.bury(is_live));
        assert!(line.queue.len() + line.late.len() <= 2 * 10 + SLACK);
        assert_eq!(drain(&mut line, is_live), (0..10).map(|n| n * 100 + 7).collect::<Vec<_>>());
    }
}
