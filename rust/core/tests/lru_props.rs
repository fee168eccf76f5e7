//! The cache against a plain list, newest first.

use penstock_core::lru::Lru;
use proptest::prelude::*;

const MAX_ENTRIES: usize = 5;
const MAX_BYTES: usize = 40;
const TTL_MS: u64 = 50;

/// Key, value, bytes and last use, the most recently used first.
#[derive(Default)]
struct Model(Vec<(u8, u32, usize, u64)>);

impl Model {
    fn put(&mut self, key: u8, value: u32, bytes: usize, now: u64) {
        self.0.retain(|entry| entry.0 != key && now - entry.3 < TTL_MS);
        if bytes > MAX_BYTES {
            return;
        }
        self.0.insert(0, (key, value, bytes, now));
        while self.0.len() > MAX_ENTRIES || self.bytes() > MAX_BYTES {
            self.0.pop();
        }
    }

    fn take(&mut self, key: u8, now: u64) -> Option<(u8, u32, usize, u64)> {
        let at = self.0.iter().position(|entry| entry.0 == key)?;
        let entry = self.0.remove(at);
        (now - entry.3 < TTL_MS).then_some(entry)
    }

    fn get(&mut self, key: u8, now: u64) -> Option<u32> {
        let (_, value, bytes, _) = self.take(key, now)?;
        self.0.insert(0, (key, value, bytes, now));
        Some(value)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|entry| entry.2).sum()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, usize),
    Get(u8),
    Take(u8),
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..9u8;
    prop_oneof![
        4 => (key.clone(), 0..45usize).prop_map(|(key, bytes)| Op::Put(key, bytes)),
        3 => key.clone().prop_map(Op::Get),
        1 => key.prop_map(Op::Take),
        1 => Just(Op::Expire),
    ]
}

proptest! {
    #[test]
    fn the_cache_keeps_what_a_plain_list_keeps(ops in prop::collection::vec((op(), 0..20u64), 0..200)) {
        let (mut cache, mut model) = (Lru::new(MAX_ENTRIES, MAX_BYTES, TTL_MS), Model::default());
        let (mut now, mut value) = (0, 0);
        for (op, pause) in ops {
            now += pause;
            value += 1;
            match op {
                Op::Put(key, bytes) => {
                    cache.put(key, value, bytes, now);
                    model.put(key, value, bytes, now);
                }
                Op::Get(key) => prop_assert_eq!(cache.get(&key, now).copied(), model.get(key, now)),
                Op::Take(key) => {
                    prop_assert_eq!(cache.take(&key, now), model.take(key, now).map(|entry| entry.1));
                }
                Op::Expire => {
                    cache.expire(now);
                    model.0.retain(|entry| now - entry.3 < TTL_MS);
                }
            }
            prop_assert_eq!((cache.len(), cache.bytes()), (model.0.len(), model.bytes()));
        }
    }
}
