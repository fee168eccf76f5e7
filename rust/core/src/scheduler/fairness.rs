//! Weighted fairness inside a band: which key's turn it is, by virtual time.
//!
//! WF²Q of J. C. R. Bennett and H. Zhang, *WF²Q: Worst-case Fair Weighted Fair Queueing* (INFOCOM 1996), for jobs of
//! one pick each. Beside the real picks runs a fluid that serves all keys at once, each at its weight; `v` is its
//! virtual time, and a pick moves it on by one over the sum of the weights. A key's next pick starts in the fluid at
//! `start` and ends at `finish = start + 1 / weight`. Of the picks that have started there, the one that ends first
//! goes. So no key is ever a whole pick ahead of its share or behind it, whatever the weights; start-time fair
//! queueing (P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996), whose rule for keys that come back it shares, and stride
//! scheduling can be ahead by as many picks as there are keys.

use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::BinaryHeap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::slab::{Place, Slab};

/// Sums of the same numbers in another order differ by so much.
const GRAIN: f64 = 1e-9;
/// The smallest and the largest weight that count as such.
const WEIGHTS: (f64, f64) = (1e-6, 1e6);

/// An instant of virtual time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tag(pub f64);

impl Eq for Tag {}

impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tag {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A weight that can be divided by.
pub(super) fn sane(weight: f64) -> f64 {
    if weight > 0.0 {
        weight.clamp(WEIGHTS.0, WEIGHTS.1)
    } else {
        1.0
    }
}

/// A fairness key of one band.
#[derive(Debug)]
pub(super) struct Key {
    pub priority: i32,
    pub name: Arc<str>,
    pub start: f64,
    pub finish: f64,
    /// What its `finish` was computed with.
    pub weight: f64,
    /// Its ready steps.
    pub ready: usize,
    /// Its queues.
    pub queues: SmallVec<[u32; 2]>,
    /// Its place in the turns of each class.
    pub standings: [Standing; super::ready::Class::COUNT],
}

/// A key in the turns of one class.
#[derive(Default, Debug)]
pub(super) struct Standing {
    /// Its queues that are not known to be shut, by the order of their first step; checked when looked at.
    pub open: BinaryHeap<Reverse<(u64, u32)>>,
    /// Whether it stands in the turns.
    pub is_placed: bool,
}

/// The virtual time of one band.
#[derive(Default, Debug)]
pub(super) struct Clock {
    pub v: f64,
    /// The sum of the weights of the keys that the fluid serves.
    weights: f64,
    keys: usize,
    /// Keys without ready steps that the fluid has not finished with.
    leaving: BinaryHeap<Reverse<(Tag, Place)>>,
    /// Ready steps of the band.
    pub ready: usize,
}

impl Clock {
    /// Whether a pick that starts then has started.
    pub fn has_started(&self, start: f64) -> bool {
        start <= self.v + GRAIN
    }

    /// A key enters, or comes back before the fluid has finished with it: no credit for the time away.
    pub fn enter(&mut self, key: &mut Key, weight: f64, is_new: bool) {
        if is_new {
            self.keys += 1;
            self.weights += weight;
        } else {
            self.weights += weight - key.weight;
        }
        key.weight = weight;
        key.start = key.start.max(self.v);
        key.finish = key.start + 1.0 / weight;
    }

    /// A key has no ready step any more.
    pub fn leave(&mut self, place: Place, key: &Key) {
        self.leaving.push(Reverse((Tag(key.start), place)));
    }

    /// A step of the key was picked; its next one has the weight.
    pub fn serve(&mut self, key: &mut Key, weight: f64) {
        // Nothing had started that could go: the fluid waits for nobody.
        self.v = self.v.max(key.start);
        key.start = key.finish;
        self.weights += weight - key.weight;
        key.weight = weight;
        key.finish = key.start + 1.0 / weight;
    }

    /// The fluid serves for one pick; gives the keys that it has finished with.
    pub fn advance(&mut self, keys: &Slab<Key>) -> SmallVec<[u32; 2]> {
        let (mut left, mut gone) = (1.0, SmallVec::new());
        while self.keys > 0 && self.weights > 0.0 {
            let target = self.v + left / self.weights;
            let Some(leaving) = self.leaving.peek_mut() else {
                self.v = target;
                break;
            };
            let Reverse((Tag(at), place)) = *leaving;
            let is_leaving = keys.at(place).filter(|key| key.ready == 0 && key.start <= at);
            let Some(key) = is_leaving else {
                PeekMut::pop(leaving);
                continue;
            };
            if at > target {
                self.v = target;
                break;
            }
            left = (left - (at - self.v).max(0.0) * self.weights).max(0.0);
            self.v = self.v.max(at);
            self.weights -= key.weight;
            self.keys -= 1;
            gone.push(place.slot);
            PeekMut::pop(leaving);
            // The same key may be on its way out twice.
            while self.leaving.peek().is_some_and(|Reverse((_, other))| *other == place) {
                self.leaving.pop();
            }
        }
        if self.keys == 0 {
            self.weights = 0.0;
        }
        gone
    }

    /// Everything that is on its way out.
    pub fn drain(&mut self) -> impl Iterator<Item = Place> + '_ {
        self.leaving.drain().map(|Reverse((_, place))| place)
    }
}

/// Whose turn it is in one class of one band.
#[derive(Default, Debug)]
pub(super) struct Turns {
    /// Keys whose next pick has started, by its end.
    early: BinaryHeap<Reverse<Turn>>,
    /// The others, by the start of it.
    late: BinaryHeap<Reverse<Turn>>,
}

/// A key's turn as it was when it was written down. Tags only grow, so it never stands too far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub tag: Tag,
    pub order: u64,
    pub key: Place,
}

impl Turns {
    pub fn place(&mut self, key: &Key, place: Place, order: u64, clock: &Clock) {
        if clock.has_started(key.start) {
            self.early.push(Reverse(Turn { tag: Tag(key.finish), order, key: place }));
        } else {
            self.late.push(Reverse(Turn { tag: Tag(key.start), order, key: place }));
        }
    }

    /// The key whose turn it is: of those that have started the one that ends first, else the one that starts first.
    /// Takes out what is gone and puts right what has moved on the way.
    pub fn first(&mut self, keys: &Slab<Key>, clock: &Clock) -> Option<(Turn, bool)> {
        while let Some(late) = self.late.peek_mut() {
            let Reverse(turn) = *late;
            let Some(key) = keys.at(turn.key) else {
                PeekMut::pop(late);
                continue;
            };
            if clock.has_started(key.start) {
                PeekMut::pop(late);
                self.early.push(Reverse(Turn { tag: Tag(key.finish), ..turn }));
            } else if Tag(key.start) > turn.tag {
                set(late, Turn { tag: Tag(key.start), ..turn });
            } else {
                break;
            }
        }
        while let Some(early) = self.early.peek_mut() {
            let Reverse(turn) = *early;
            let Some(key) = keys.at(turn.key) else {
                PeekMut::pop(early);
                continue;
            };
            if !clock.has_started(key.start) {
                PeekMut::pop(early);
                self.late.push(Reverse(Turn { tag: Tag(key.start), ..turn }));
            } else if Tag(key.finish) > turn.tag {
                set(early, Turn { tag: Tag(key.finish), ..turn });
            } else {
                return Some((turn, false));
            }
        }
        self.late.peek().map(|Reverse(turn)| (*turn, true))
    }

    /// Takes out what `first` has shown.
    pub fn drop_first(&mut self, is_late: bool) {
        if is_late {
            self.late.pop();
        } else {
            self.early.pop();
        }
    }
}

fn set(mut top: PeekMut<'_, Reverse<Turn>>, turn: Turn) {
    *top = Reverse(turn);
}
