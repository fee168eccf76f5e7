//! What a pick costs beside a large backlog, a look at a valve, and a released flow's place in the cache.

#![expect(missing_docs, reason = "criterion's macro makes the public function")]

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion};
use penstock_core::flow_control::{Ended, FlowControl, WHOLE};
use penstock_core::lru::Lru;
use penstock_core::scheduler::{Ready, Scheduler, SlotOptions};

const KEYS: u64 = 1_000;
const READY: u64 = 100_000;

fn step(number: u64, names: &[std::sync::Arc<str>]) -> Ready {
    Ready {
        flow: number as u32,
        step: 1,
        task: 0,
        resource: 0,
        partition: None,
        priority: 0,
        fairness_key: names[(number % KEYS) as usize].clone(),
        weight: 1.0 + (number % 7) as f64,
        order: number,
        ready_at: 0,
        alone: false,
        guarded: false,
    }
}

fn picks(bench: &mut Criterion) {
    let names: Vec<std::sync::Arc<str>> = (0..KEYS).map(|key| format!("tenant {key}").into()).collect();
    let mut scheduler = Scheduler::new(SlotOptions { threads: 1, ..SlotOptions::default() });
    scheduler.add_worker(1);
    scheduler.control_mut().add("task".into());
    let mut number = 0;
    while number < READY {
        number += 1;
        scheduler.offer(step(number, &names));
    }
    bench.bench_function("offer + pick, 100 000 ready over 1 000 keys", |bench| {
        bench.iter(|| {
            number += 1;
            scheduler.offer(step(number, &names));
            black_box(scheduler.next(1));
        });
    });
}

fn valve(bench: &mut Criterion) {
    let mut control = FlowControl::default();
    control.add("downstream".into());
    control.ended(0, WHOLE, false, Ended::RateLimited, 1_000);
    let mut now_ms = 1_000;
    bench.bench_function("valve check", |bench| {
        bench.iter(|| {
            now_ms += 1;
            black_box(control.check(0, WHOLE, now_ms)).is_ok()
        });
    });
}

fn lru(bench: &mut Criterion) {
    let mut cache = Lru::new(4_096, 64 << 20, 600_000);
    let id = |number: u64| u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c).to_be_bytes();
    (0..4_096).for_each(|number| cache.put(id(number), number, 1_024, 0));
    let mut number = 0;
    bench.bench_function("LRU get", |bench| {
        bench.iter(|| {
            number = (number + 1) % 4_096;
            black_box(cache.get(&id(number), 1).copied())
        });
    });
    bench.bench_function("LRU put", |bench| {
        bench.iter(|| {
            number += 1;
            cache.put(id(number), number, 1_024, 1);
        });
    });
}

criterion_group!(benches, picks, valve, lru);
criterion_main!(benches);
