//! Timers against a sorted list.

use penstock_core::scheduler::Timers;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Set(u8, u64),
    Cancel(u8),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..20u8, 0..100u64).prop_map(|(key, wait)| Op::Set(key, wait)),
        2 => (0..20u8).prop_map(Op::Cancel),
        2 => (0..60u64).prop_map(Op::Advance),
    ]
}

proptest! {
    #[test]
    fn timers_come_due_as_a_sorted_list_says(ops in prop::collection::vec(op(), 0..300)) {
        let (mut timers, mut model, mut now) = (Timers::new(), Vec::<(u64, u8)>::new(), 0);
        for op in ops {
            match op {
                Op::Set(key, wait) => {
                    timers.set(key, now + wait);
                    model.retain(|timer| timer.1 != key);
                    model.push((now + wait, key));
                    model.sort_unstable();
                }
                Op::Cancel(key) => {
                    let was_set = model.iter().any(|timer| timer.1 == key);
                    model.retain(|timer| timer.1 != key);
                    prop_assert_eq!(timers.cancel(&key), was_set);
                }
                Op::Advance(by) => {
                    now += by;
                    let (due, rest): (Vec<_>, Vec<_>) = model.into_iter().partition(|timer| timer.0 <= now);
                    model = rest;
                    let keys: Vec<u8> = due.into_iter().map(|timer| timer.1).collect();
                    prop_assert_eq!(timers.due(now), keys);
                }
            }
            prop_assert_eq!((timers.next(), timers.len()), (model.first().map(|timer| timer.0), model.len()));
        }
    }
}
