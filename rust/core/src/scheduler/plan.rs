//! What to claim next of the flows that lie in the database, so that the shares there are those of the dispatch.
//!
//! A cycle reads the next few keys of the best band (the tally), shares the room out among all keys known to have a
//! backlog (the quotas) and fetches so many of each, oldest first. The quotas are picks of the same virtual time by
//! which steps are dispatched (see `fairness`), and it goes on from cycle to cycle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

use super::fairness::{sane, Tag};

/// Keys that one cycle reads at most.
pub const MAX_KEYS: usize = 256;
/// Keys with a backlog that are kept in mind; the others wait until the cycle comes to them again.
const MAX_KNOWN: usize = 16_384;

/// A key of the backlog, as a tally finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTally {
    /// The fairness key.
    pub key: String,
    /// The weight of its oldest flow.
    pub weight: f64,
}

/// What one look at the backlog found.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tally {
    /// The best band with flows that nobody owns; `None`: there is none.
    pub priority: Option<i32>,
    /// Its keys after `Planner::after`, in their order, at most [`MAX_KEYS`].
    pub keys: Vec<KeyTally>,
}

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ClaimPlan {
    /// The band.
    pub priority: i32,
    /// How many flows of which key, in the order of their turns.
    pub quotas: Vec<(String, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    weight: f64,
    start: f64,
}

/// The claims of one shard, from cycle to cycle.
#[derive(Debug, Default)]
pub struct Planner {
    priority: Option<i32>,
    known: BTreeMap<String, Known>,
    v: f64,
    /// The last key seen; the next tally starts behind it.
    after: Option<String>,
}

impl Planner {
    /// Where the next tally starts: behind this key of that band, or at its beginning.
    pub fn after(&self) -> Option<(i32, &str)> {
        Some((self.priority?, self.after.as_deref()?))
    }

    /// Takes in what a look found and shares `room` flows out among the keys.
    pub fn plan(&mut self, tally: &Tally, room: usize) -> ClaimPlan {
        let Some(priority) = tally.priority else {
            *self = Self::default();
            return ClaimPlan::default();
        };
        if self.priority != Some(priority) {
            *self = Self { priority: Some(priority), ..Self::default() };
        }
        self.learn(tally);
        ClaimPlan { priority, quotas: self.share(room) }
    }

    /// So many were found of a quota: with fewer, the key has no more.
    pub fn fetched(&mut self, key: &str, quota: usize, found: usize) {
        if found >= quota {
            return;
        }
        self.known.remove(key);
    }

    fn learn(&mut self, tally: &Tally) {
        let is_last = tally.keys.len() < MAX_KEYS;
        let from = self.after.take().map_or(Bound::Unbounded, Bound::Excluded);
        let last = tally.keys.last().map(|key| key.key.clone());
        let to = match &last {
            Some(last) if !is_last => Bound::Included(last.clone()),
            _ => Bound::Unbounded,
        };
        let seen: Vec<&str> = tally.keys.iter().map(|key| &*key.key).collect();
        let is_gone = |key: &String| seen.binary_search(&&**key).is_err();
        let gone: Vec<String> =
            self.known.range::<String, _>((from, to)).map(|(key, _)| key.clone()).filter(is_gone).collect();
        for key in gone {
            self.known.remove(&key);
        }
        for KeyTally { key, weight } in &tally.keys {
            let weight = sane(*weight);
            if let Some(known) = self.known.get_mut(key) {
                known.weight = weight;
            } else if self.known.len() < MAX_KNOWN {
                self.known.insert(key.clone(), Known { weight, start: self.v });
            }
        }
        self.after = last.filter(|_| !is_last);
    }

    /// Picks by virtual time, as many as there is room for.
    fn share(&mut self, room: usize) -> Vec<(String, usize)> {
        let total: f64 = self.known.values().map(|known| known.weight).sum();
        let keys: Vec<&String> = self.known.keys().collect();
        let mut tags: Vec<Known> = self.known.values().copied().collect();
        let mut late: BinaryHeap<Reverse<(Tag, usize)>> =
            tags.iter().enumerate().map(|(at, known)| Reverse((Tag(known.start), at))).collect();
        let mut early = BinaryHeap::new();
        let mut counts: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for turn in 0..room {
            if early.is_empty() {
                if let Some(Reverse((Tag(start), _))) = late.peek() {
                    self.v = self.v.max(*start);
                }
            }
            while late.peek().is_some_and(|Reverse((Tag(start), _))| *start <= self.v + 1e-9) {
                let Some(Reverse((_, at))) = late.pop() else { break };
                early.push(Reverse((Tag(tags[at].start + 1.0 / tags[at].weight), at)));
            }
            let Some(Reverse((Tag(finish), at))) = early.pop() else { break };
            counts.entry(at).or_insert((turn, 0)).1 += 1;
            tags[at].start = finish;
            late.push(Reverse((Tag(finish), at)));
            self.v += 1.0 / total;
        }
        let mut quotas: Vec<_> =
            counts.iter().map(|(at, (turn, count))| (*turn, keys[*at].clone(), *count)).collect();
        quotas.sort_unstable();
        for (known, tag) in self.known.values_mut().zip(tags) {
            *known = tag;
        }
        quotas.into_iter().map(|(_, key, count)| (key, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(keys: &[(String, f64)]) -> Tally {
        let keys = keys.iter().map(|(key, weight)| KeyTally { key: key.clone(), weight: *weight });
        Tally { priority: Some(100), keys: keys.collect() }
    }

    /// What a database with an endless backlog answers.
    fn look(all: &[(String, f64)], after: Option<&str>) -> Tally {
        let is_behind = |key: &str| after.is_none_or(|after| key > after);
        let keys = all.iter().filter(|(key, _)| is_behind(key)).take(MAX_KEYS);
        tally(&keys.cloned().collect::<Vec<_>>())
    }

    #[test]
    fn a_small_room_is_shared_out_over_the_cycles() {
        let mut planner = Planner::default();
        let all = [("a".to_owned(), 1.0), ("b".to_owned(), 2.0), ("c".to_owned(), 4.0)];
        let mut counts = BTreeMap::new();
        for _ in 0..700 {
            for (key, count) in planner.plan(&tally(&all), 1).quotas {
                *counts.entry(key).or_insert(0) += count;
            }
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [100, 200, 400]);
    }

    #[test]
    fn more_keys_than_a_cycle_reads_get_their_shares_too() {
        let all: Vec<(String, f64)> =
            (0..1_000).map(|n| (format!("k{n:04}"), if n == 7 { 200.0 } else { 1.0 })).collect();
        let mut planner = Planner::default();
        for _ in 0..8 {
            let after = planner.after().map(|(_, key)| key.to_owned());
            planner.plan(&look(&all, after.as_deref()), 0);
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..1_199 {
            let after = planner.after().map(|(_, key)| key.to_owned());
            for (key, count) in planner.plan(&look(&all, after.as_deref()), 10).quotas {
                *counts.entry(key).or_insert(0) += count;
            }
        }
        assert!((1_999..=2_001).contains(&counts["k0007"]), "{}", counts["k0007"]);
        assert!(counts.iter().all(|(key, count)| key == "k0007" || (9..=11).contains(count)));
    }

    #[test]
    fn a_key_that_has_no_more_gets_no_quota_until_it_is_seen_again() {
        let mut planner = Planner::default();
        let all = [("a".to_owned(), 1.0), ("b".to_owned(), 1.0)];
        assert_eq!(planner.plan(&tally(&all), 4).quotas, [("a".into(), 2), ("b".into(), 2)]);
        planner.fetched("a", 2, 1);
        assert_eq!(planner.plan(&tally(&all[1..]), 4).quotas, [("b".into(), 4)]);
        assert_eq!(planner.plan(&Tally::default(), 4), ClaimPlan::default());
    }
}
