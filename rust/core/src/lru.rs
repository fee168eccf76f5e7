//! A map that stays small: bounded by entries, by bytes and by the time an entry goes unused.
//!
//! Entries live in a slab and are linked newest to oldest through it, so every operation is O(1).

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// No entry: the end of the list.
const NIL: usize = usize::MAX;

/// The least recently used entries go first.
#[derive(Debug)]
pub struct Lru<K, V> {
    max_entries: usize,
    max_bytes: usize,
    ttl_ms: u64,
    bytes: usize,
    index: FxHashMap<K, usize>,
    slab: Vec<Option<Entry<K, V>>>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    bytes: usize,
    used_at: u64,
    newer: usize,
    older: usize,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    /// An empty cache; an entry unused for `ttl_ms` counts as gone.
    pub fn new(max_entries: usize, max_bytes: usize, ttl_ms: u64) -> Self {
        Self {
            max_entries,
            max_bytes,
            ttl_ms,
            bytes: 0,
            index: FxHashMap::default(),
            slab: Vec::new(),
            free: Vec::new(),
            newest: NIL,
            oldest: NIL,
        }
    }

    /// Keeps `value`, replacing an older one of the key. What is larger than the whole cache is not kept.
    pub fn put(&mut self, key: K, value: V, bytes: usize, now_ms: u64) {
        self.remove(&key);
        self.expire(now_ms);
        if bytes > self.max_bytes || self.max_entries == 0 {
            return;
        }
        while self.index.len() >= self.max_entries || self.bytes + bytes > self.max_bytes {
            self.unlink(self.oldest);
        }
        self.insert(Entry { key, value, bytes, used_at: now_ms, newer: NIL, older: NIL });
    }

    /// The value of `key`, which is now the most recently used one.
    pub fn get(&mut self, key: &K, now_ms: u64) -> Option<&V> {
        let mut entry = self.remove(key)?;
        if self.is_stale(&entry, now_ms) {
            return None;
        }
        entry.used_at = entry.used_at.max(now_ms);
        let at = self.insert(entry);
        self.slab[at].as_ref().map(|entry| &entry.value)
    }

    /// The value of `key`, which leaves the cache.
    pub fn take(&mut self, key: &K, now_ms: u64) -> Option<V> {
        let entry = self.remove(key)?;
        (!self.is_stale(&entry, now_ms)).then_some(entry.value)
    }

    /// Drops what has gone unused for too long; `put` does it too.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some(entry) = self.slab.get(self.oldest).and_then(Option::as_ref) {
            if !self.is_stale(entry, now_ms) {
                return;
            }
            self.unlink(self.oldest);
        }
    }

    /// How many entries are kept, stale ones that nobody asked for included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The sum of the bytes that came with the entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_stale(&self, entry: &Entry<K, V>, now_ms: u64) -> bool {
        now_ms.saturating_sub(entry.used_at) >= self.ttl_ms
    }

    fn remove(&mut self, key: &K) -> Option<Entry<K, V>> {
        let at = *self.index.get(key)?;
        self.unlink(at)
    }

    fn insert(&mut self, mut entry: Entry<K, V>) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            self.slab.len() - 1
        });
        entry.newer = NIL;
        entry.older = self.newest;
        self.index.insert(entry.key.clone(), at);
        self.bytes += entry.bytes;
        match self.slab.get_mut(self.newest).and_then(Option::as_mut) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        self.slab[at] = Some(entry);
        at
    }

    fn unlink(&mut self, at: usize) -> Option<Entry<K, V>> {
        let entry = self.slab.get_mut(at)?.take()?;
        match self.slab.get_mut(entry.newer).and_then(Option::as_mut) {
            Some(newer) => newer.older = entry.older,
            None => self.newest = entry.older,
        }
        match self.slab.get_mut(entry.older).and_then(Option::as_mut) {
            Some(older) => older.newer = entry.newer,
            None => self.oldest = entry.newer,
        }
        self.index.remove(&entry.key);
        self.bytes -= entry.bytes;
        self.free.push(at);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_goes_first() {
        let mut cache = Lru::new(2, 100, 1_000);
        cache.put("a", 1, 1, 0);
        cache.put("b", 2, 1, 0);
        assert_eq!(cache.get(&"a", 0), Some(&1));
        cache.put("c", 3, 1, 0);
        assert_eq!((cache.get(&"b", 0).copied(), cache.len()), (None, 2));
        assert_eq!((cache.take(&"a", 0), cache.take(&"c", 0)), (Some(1), Some(3)));
        assert!(cache.is_empty());
    }

    #[test]
    fn bytes_bound_it_too() {
        let mut cache = Lru::new(10, 10, 1_000);
        cache.put("a", 1, 6, 0);
        cache.put("b", 2, 5, 0);
        assert_eq!((cache.get(&"a", 0).copied(), cache.bytes()), (None, 5));
        cache.put("b", 3, 11, 0);
        assert_eq!((cache.get(&"b", 0).copied(), cache.bytes()), (None, 0));
    }

    #[test]
    fn an_unused_entry_times_out_and_a_used_one_stays() {
        let mut cache = Lru::new(10, 10, 100);
        cache.put("a", 1, 1, 0);
        cache.put("b", 2, 1, 0);
        assert_eq!(cache.get(&"a", 99), Some(&1));
        cache.expire(150);
        assert_eq!(cache.len(), 1);
        assert_eq!((cache.take(&"a", 150), cache.take(&"b", 150)), (Some(1), None));
    }
}
