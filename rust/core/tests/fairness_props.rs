//! Whose turn it is, against naive models: a fluid that serves all keys at once, lists that are searched end to end.

use std::collections::{BTreeMap, VecDeque};

use penstock_core::flow_control::Limit;
use penstock_core::scheduler::{Ready, Scheduler, SlotOptions};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const WORKER: u32 = 1;

fn scheduler() -> Scheduler {
    let mut scheduler = Scheduler::new(SlotOptions { threads: 1_000_000, ..SlotOptions::default() });
    scheduler.add_worker(WORKER);
    ["calm", "tight"].into_iter().for_each(|name| {
        scheduler.control_mut().add(name.into());
    });
    scheduler
}

fn step(key: usize, weight: f64, order: u64) -> Ready {
    Ready {
        flow: key as u32,
        step: order,
        task: 0,
        resource: 0,
        partition: None,
        priority: 0,
        fairness_key: format!("key {key}").into(),
        weight,
        order,
        ready_at: 0,
        alone: false,
        guarded: false,
    }
}

/// Takes the next step, which runs at once and ends at once.
fn pick(scheduler: &mut Scheduler) -> Option<Ready> {
    let ready = scheduler.next(WORKER)?;
    scheduler.started(WORKER, ready.order, &ready);
    scheduler.finished(WORKER, ready.order, 10);
    Some(ready)
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![3 => (1..10u32).prop_map(f64::from), 1 => 0.01..100.0f64]
}

fn some_keys() -> impl Strategy<Value = Vec<f64>> {
    let many = prop_oneof![8 => 1..20usize, 2 => 20..200usize, 1 => 200..=1_000usize];
    many.prop_flat_map(|count| prop::collection::vec(weight(), count))
}

/// What each key would have been served by now if all could be served at once.
struct Fluid {
    weights: Vec<f64>,
    backlog: Vec<f64>,
    served: Vec<f64>,
}

impl Fluid {
    fn new(weights: &[f64]) -> Self {
        let zeros = vec![0.0; weights.len()];
        Self { weights: weights.to_vec(), backlog: zeros.clone(), served: zeros }
    }

    fn serve_one(&mut self) {
        let mut left = 1.0;
        while left > 1e-12 {
            let busy: Vec<usize> = (0..self.weights.len()).filter(|key| self.backlog[*key] > 1e-12).collect();
            let total: f64 = busy.iter().map(|key| self.weights[*key]).sum();
            if busy.is_empty() {
                return;
            }
            let until_empty = busy.iter().map(|key| self.backlog[*key] * total / self.weights[*key]);
            let part = until_empty.fold(left, f64::min);
            for key in busy {
                let share = part * self.weights[key] / total;
                self.served[key] += share;
                self.backlog[key] = (self.backlog[key] - share).max(0.0);
            }
            left -= part;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn no_key_is_ever_more_than_one_pick_from_its_share(weights in some_keys(), rounds in 1..4usize) {
        let mut scheduler = scheduler();
        let total: f64 = weights.iter().sum();
        let picks = (rounds * weights.len().max(200)).min(3_000);
        let mut order = 0;
        for (key, weight) in weights.iter().enumerate() {
            for _ in 0..(picks as f64 * weight / total) as usize + 3 {
                order += 1;
                scheduler.offer(step(key, *weight, order));
            }
        }
        let mut counts = vec![0.0; weights.len()];
        for picked in 1..=picks {
            let ready = pick(&mut scheduler).unwrap();
            counts[ready.flow as usize] += 1.0;
            if picked % 7 == 0 || weights.len() < 50 {
                for (key, weight) in weights.iter().enumerate() {
                    let share = picked as f64 * weight / total;
                    let count = counts[key];
                    prop_assert!((count - share).abs() < 1.0 + 1e-6, "key {} has {} of {}", key, count, share);
                    prop_assert!(share < 100.0 || (count - share).abs() <= 0.02 * share);
                }
            }
        }
    }

    #[test]
    fn with_keys_that_come_and_go_each_stays_within_a_pick_of_the_fluid(
        weights in prop::collection::vec(weight(), 1..30),
        ops in prop::collection::vec((any::<u16>(), 0..6usize, 0..8usize), 1..120),
    ) {
        let mut scheduler = scheduler();
        let mut fluid = Fluid::new(&weights);
        let (mut counts, mut order) = (vec![0.0; weights.len()], 0);
        for (key, steps, picks) in ops {
            let key = key as usize % weights.len();
            for _ in 0..steps {
                order += 1;
                scheduler.offer(step(key, weights[key], order));
                fluid.backlog[key] += 1.0;
            }
            for _ in 0..picks {
                let Some(ready) = pick(&mut scheduler) else { break };
                counts[ready.flow as usize] += 1.0;
                fluid.serve_one();
                for key in 0..weights.len() {
                    let (count, share) = (counts[key], fluid.served[key]);
                    prop_assert!((count - share).abs() < 1.0 + 1e-6, "key {} has {} of {}", key, count, share);
                }
            }
        }
    }

    #[test]
    fn bands_are_strict_and_a_key_is_first_in_first_out(
        ops in prop::collection::vec(prop::option::weighted(0.6, (0..4usize, -2..3i32, 0..1_000u64)), 1..200),
    ) {
        let mut scheduler = scheduler();
        let mut model: BTreeMap<(i32, u32), Vec<u64>> = BTreeMap::new();
        for (at, op) in ops.into_iter().enumerate() {
            if let Some((key, priority, at_ms)) = op {
                let order = (at_ms << 20) | at as u64;
                scheduler.offer(Ready { priority, ..step(key, 1.0 + key as f64, order) });
                model.entry((priority, key as u32)).or_default().push(order);
                continue;
            }
            let picked = pick(&mut scheduler);
            prop_assert_eq!(picked.is_none(), model.is_empty());
            let Some(picked) = picked else { continue };
            let best = *model.keys().next().unwrap();
            prop_assert_eq!(picked.priority, best.0);
            let line = model.get_mut(&(picked.priority, picked.flow)).unwrap();
            prop_assert_eq!(line.iter().min(), Some(&picked.order));
            line.retain(|order| *order != picked.order);
            if line.is_empty() {
                model.remove(&(picked.priority, picked.flow));
            }
        }
    }

    #[test]
    fn a_shut_resource_keeps_back_its_own_steps_and_no_others(
        max in 0..3u32,
        ops in prop::collection::vec((0..5usize, 0..3i32, any::<bool>(), 0..4u8), 1..200),
    ) {
        let mut scheduler = scheduler();
        let limit = Limit { max_concurrency: Some(max), ..Limit::default() };
        scheduler.set_limits(1, limit, Limit::default());
        let mut ready: Vec<Ready> = Vec::new();
        let mut running: VecDeque<Ready> = VecDeque::new();
        for (at, (key, priority, is_tight, what)) in ops.into_iter().enumerate() {
            match what {
                0 | 1 => {
                    let made = Ready { priority, resource: u32::from(is_tight), ..step(key, 1.0, at as u64) };
                    ready.push(made.clone());
                    scheduler.offer(made);
                }
                2 => {
                    let Some(ended) = running.pop_front() else { continue };
                    prop_assert!(scheduler.finished(WORKER, ended.order, 10));
                }
                _ => {
                    if at % 5 == 0 && !ready.is_empty() {
                        let gone = ready.swap_remove(at % ready.len());
                        prop_assert!(scheduler.withdraw(gone.flow, gone.step));
                    }
                    next(&mut scheduler, &mut ready, &mut running, max)?;
                }
            }
        }
        while !ready.is_empty() {
            if !next(&mut scheduler, &mut ready, &mut running, max)? {
                let Some(ended) = running.pop_front() else { break };
                prop_assert!(scheduler.finished(WORKER, ended.order, 10));
            }
        }
        prop_assert!(ready.is_empty() || max == 0, "left behind: {ready:?}");
    }
}

fn next(
    scheduler: &mut Scheduler,
    ready: &mut Vec<Ready>,
    running: &mut VecDeque<Ready>,
    max: u32,
) -> Result<bool, TestCaseError> {
    let is_full = running.iter().filter(|running| running.resource == 1).count() >= max as usize;
    let could_go = |ready: &&Ready| ready.resource == 0 || !is_full;
    let best = ready.iter().filter(could_go).map(|ready| ready.priority).min();
    let picked = scheduler.next(WORKER);
    prop_assert_eq!(picked.as_ref().map(|ready| ready.priority), best);
    let Some(picked) = picked else { return Ok(false) };
    prop_assert!(could_go(&&picked), "{:?} is shut", picked);
    prop_assert!(scheduler.started(WORKER, picked.order, &picked));
    let at = ready.iter().position(|ready| ready.order == picked.order).unwrap();
    ready.swap_remove(at);
    running.push_back(picked);
    Ok(true)
}

#[test]
fn shares_hold_inside_a_resource_that_is_kept_slow_beside_one_that_is_not() {
    let mut scheduler = scheduler();
    scheduler.wake(1_000);
    let limit = Limit { rate: Some(100.0), burst: Some(1.0), ..Limit::default() };
    scheduler.set_limits(1, limit, Limit::default());
    let mut order = 0;
    for (key, weight) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
        for _ in 0..2_000 {
            order += 1;
            scheduler.offer(Ready { resource: 1, ..step(key, weight, order) });
        }
    }
    let mut counts = [0; 4];
    for now_ms in 1_000..15_000 {
        scheduler.wake(now_ms);
        for _ in 0..10 {
            order += 1;
            scheduler.offer(step(0, 1.0, order));
        }
        while let Some(ready) = pick(&mut scheduler) {
            counts[ready.flow as usize] += 1;
        }
    }
    assert_eq!(counts[0], 140_000);
    let kept_slow = f64::from(counts[1] + counts[2] + counts[3]);
    assert!((1_380.0..=1_420.0).contains(&kept_slow), "{counts:?}");
    for (key, share) in [(1, 1.0 / 7.0), (2, 2.0 / 7.0), (3, 4.0 / 7.0)] {
        assert!((f64::from(counts[key]) - kept_slow * share).abs() <= 2.0, "{counts:?}");
    }
}

#[test]
fn what_was_shut_for_long_has_no_claim_on_what_the_others_got() {
    let mut scheduler = scheduler();
    scheduler.set_limits(1, Limit { max_concurrency: Some(0), ..Limit::default() }, Limit::default());
    let mut order = 0;
    let mut offer = |scheduler: &mut Scheduler, key: usize, resource: u32| {
        order += 1;
        scheduler.offer(Ready { resource, ..step(key, 1.0, order) });
    };
    (0..1_000).for_each(|_| offer(&mut scheduler, 1, 1));
    for _ in 0..5_000 {
        offer(&mut scheduler, 2, 0);
        assert_eq!(pick(&mut scheduler).map(|ready| ready.flow), Some(2));
    }
    (0..1_000).for_each(|_| offer(&mut scheduler, 2, 0));
    scheduler.set_limits(1, Limit { max_concurrency: Some(9), ..Limit::default() }, Limit::default());
    let picked: Vec<u32> = (0..100).filter_map(|_| pick(&mut scheduler)).map(|ready| ready.flow).collect();
    let back = picked.iter().filter(|key| **key == 1).count();
    assert!((48..=52).contains(&back), "{picked:?}");
}

#[test]
fn waiting_steps_age_into_better_bands_when_asked_to() {
    let mut scheduler = scheduler();
    scheduler.wake(1_000);
    scheduler.offer(Ready { priority: 5, ..step(0, 1.0, 1_000 << 20) });
    scheduler.offer(Ready { priority: 3, ..step(1, 1.0, 20_000 << 20) });
    scheduler.wake(20_000);
    assert_eq!(scheduler.waiting(None, 9), [(1, 20_000 << 20), (0, 1_000 << 20)]);
    scheduler.set_ageing(5_000);
    scheduler.wake(21_000);
    assert_eq!(pick(&mut scheduler).map(|ready| ready.flow), Some(0));
}
