//! What is due when: at most one instant a key.

use std::collections::{BTreeMap, BTreeSet};

/// Keys in the order of their instants, then of themselves.
#[derive(Clone, Debug)]
pub struct Timers<K: Ord + Clone> {
    by_due: BTreeSet<(u64, K)>,
    by_key: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Self {
        Self { by_due: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// No timer set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the timer of `key`, in place of an earlier one.
    pub fn set(&mut self, key: K, due_ms: u64) {
        if let Some(old) = self.by_key.insert(key.clone(), due_ms) {
            if old == due_ms {
                return;
            }
            self.by_due.remove(&(old, key.clone()));
        }
        self.by_due.insert((due_ms, key));
    }

    /// Takes the timer of `key` away; whether there was one.
    pub fn cancel(&mut self, key: &K) -> bool {
        match self.by_key.remove_entry(key) {
            Some((key, due_ms)) => self.by_due.remove(&(due_ms, key)),
            None => false,
        }
    }

    /// Takes out every key whose instant has come, earliest first.
    pub fn due(&mut self, now_ms: u64) -> Vec<K> {
        let mut keys = Vec::new();
        while self.next().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some((_, key)) = self.by_due.pop_first() else { break };
            self.by_key.remove(&key);
            keys.push(key);
        }
        keys
    }

    /// The earliest instant.
    pub fn next(&self) -> Option<u64> {
        self.by_due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The instant of `key`.
    pub fn get(&self, key: &K) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_keys_come_out_once_and_in_order() {
        let mut timers = Timers::new();
        timers.set("late", 30);
        timers.set("b", 10);
        timers.set("a", 10);
        assert_eq!((timers.next(), timers.len()), (Some(10), 3));
        assert_eq!(timers.due(9), Vec::<&str>::new());
        assert_eq!(timers.due(10), vec!["a", "b"]);
        assert_eq!(timers.due(10), Vec::<&str>::new());
        assert_eq!(timers.due(99), vec!["late"]);
        assert!(timers.is_empty());
    }

    #[test]
    fn setting_again_moves_and_cancelling_removes() {
        let mut timers = Timers::new();
        timers.set(1, 10);
        timers.set(1, 20);
        timers.set(2, 15);
        assert_eq!((timers.get(&1), timers.due(10)), (Some(20), vec![]));
        assert!(timers.cancel(&2));
        assert!(!timers.cancel(&2));
        assert_eq!(timers.due(100), vec![1]);
    }
}
