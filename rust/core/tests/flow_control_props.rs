//! Valve, breaker and limits: the closed curve, naive models, and downstreams that are simulated on their own clock.

use std::collections::VecDeque;

use penstock_core::flow_control::{
    Answer, Breaker, Bucket, Ended, FlowControl, Limit, Valve, BETA, C, WHOLE,
};
use penstock_core::scheduler::{Ready, Scheduler, SlotOptions};
use proptest::prelude::*;

/// The rate by the words of the design.
fn curve(w_cong: f64, seconds: f64) -> f64 {
    let w_max = w_cong / (1.0 - BETA);
    let k = (w_max * BETA / C).cbrt();
    (C * (seconds - k).powi(3) + w_max).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_valve_follows_the_curve_whatever_the_signals(
        first in 0.0..5_000.0f64,
        signals in prop::collection::vec((0..4_000i64, 0.0..5_000.0f64), 0..40),
        looks in prop::collection::vec(0..60_000i64, 1..20),
    ) {
        let (mut now_ms, mut w_cong, mut t_cong) = (1_000, (first - 1.0).max(1.0), 1_000);
        let mut valve = Valve::new(first, now_ms);
        for (wait_ms, observed) in signals {
            now_ms += wait_ms;
            if now_ms - t_cong > 1_000 && observed > w_cong {
                w_cong = observed;
            }
            (w_cong, t_cong) = ((w_cong - 1.0).max(1.0), now_ms);
            valve.signal(observed, now_ms);
        }
        for later in looks {
            let expected = curve(w_cong, later as f64 / 1_000.0);
            let rate = valve.rate(t_cong + later);
            prop_assert!((rate - expected).abs() <= 1e-9 * expected, "{} is not {}", rate, expected);
        }
    }

    #[test]
    fn a_bucket_never_gives_more_than_its_burst_and_its_rate(
        per_second in 0.5..2_000.0f64,
        burst in 1.0..50.0f64,
        looks in prop::collection::vec(0..500i64, 1..300),
    ) {
        let mut bucket = Bucket::new(burst, 0);
        let (mut now_ms, mut taken) = (0, 0.0);
        for wait_ms in looks {
            now_ms += wait_ms;
            bucket.fill(per_second, burst, now_ms);
            while bucket.has_token() {
                bucket.take();
                taken += 1.0;
            }
            let most = burst + per_second * (now_ms + 1) as f64 / 1_000.0;
            prop_assert!(taken <= most + 1e-6);
            let next_at = bucket.next_at(per_second);
            let mut later = bucket;
            later.fill(per_second, burst, next_at - 2);
            prop_assert!(!later.has_token() || next_at - 2 <= now_ms);
            later.fill(per_second, burst, next_at);
            prop_assert!(later.has_token());
        }
    }

    #[test]
    fn one_probe_at_a_time_and_each_waits_twice_as_long(
        ran_ms in prop::collection::vec(0..5_000i64, 1..20),
        pokes in prop::collection::vec(1..97i64, 1..20),
    ) {
        let mut breaker = Breaker::default();
        breaker.trip("down", 5.0, 0);
        let (mut due, mut now_ms) = (100, 0);
        for (failed, ran_ms) in ran_ms.iter().enumerate() {
            let mut poke = pokes.iter().cycle();
            while breaker.check(now_ms) != Answer::Probe {
                prop_assert_eq!(breaker.check(now_ms), Answer::Wait(Some(due)));
                now_ms = (now_ms + poke.next().unwrap()).min(due);
            }
            prop_assert_eq!(now_ms, due);
            breaker.take();
            for at in [now_ms, now_ms + ran_ms] {
                prop_assert_eq!(breaker.check(at), Answer::Wait(None));
            }
            now_ms += ran_ms;
            breaker.trip("said by one that was under way", 5.0, now_ms);
            breaker.probe_failed(None, now_ms);
            due = now_ms + (100_i64 << (failed + 1).min(20)).min(60_000);
        }
    }

    #[test]
    fn limits_hold_for_the_whole_and_for_each_part(
        max in 1..6u32,
        each in 1..4u32,
        ops in prop::collection::vec((0..4usize, any::<bool>()), 1..200),
    ) {
        let mut control = FlowControl::default();
        control.add("db".into());
        let limit = |max| Limit { max_concurrency: Some(max), ..Limit::default() };
        control.set_limits(0, limit(max), limit(each), 0);
        let parts: Vec<u32> =
            (0..4).map(|part| control.partition(0, Some(&format!("tenant {part}").into()), 0)).collect();
        let mut running = [0; 4];
        for (part, is_start) in ops {
            let may = running.iter().sum::<u32>() < max && running[part] < each;
            prop_assert_eq!(control.check(0, parts[part], 0).is_ok(), may);
            if is_start && may {
                control.started(0, parts[part], 0);
                running[part] += 1;
            } else if !is_start && running[part] > 0 {
                control.ended(0, parts[part], false, Ended::Well, 0);
                running[part] -= 1;
            }
        }
    }
}

/// A scheduler with one worker and a backlog, before a downstream that answers after some time.
struct Run {
    scheduler: Scheduler,
    now_ms: i64,
    order: u64,
    /// Steps in the worker: when each answer comes, and its dispatch.
    running: VecDeque<(i64, Ready)>,
    starts: Vec<i64>,
}

const WORKER: u32 = 1;
const BACKLOG: usize = 500;

impl Run {
    fn new() -> Self {
        let mut scheduler = Scheduler::new(SlotOptions { threads: 64, ..SlotOptions::default() });
        scheduler.add_worker(WORKER);
        scheduler.control_mut().add("downstream".into());
        Self { scheduler, now_ms: 0, order: 0, running: VecDeque::new(), starts: Vec::new() }
    }

    fn ready(&mut self) -> Ready {
        self.order += 1;
        Ready {
            flow: (self.order % 1_000) as u32,
            step: self.order,
            task: 0,
            resource: 0,
            partition: None,
            priority: 0,
            fairness_key: format!("tenant {}", self.order % 10).into(),
            weight: 1.0,
            order: self.order,
            ready_at: 0,
            alone: false,
            guarded: false,
        }
    }

    /// Runs for so long; the downstream is asked when a step starts and answers 5 ms later.
    fn run<'a>(&mut self, for_ms: i64, mut downstream: impl FnMut(i64) -> Ended<'a>) -> Vec<(i64, bool)> {
        let mut answers = Vec::new();
        let end = self.now_ms + for_ms;
        while self.now_ms < end {
            self.scheduler.wake(self.now_ms);
            while self.scheduler.ready_len() + self.running.len() < BACKLOG {
                let made = self.ready();
                self.scheduler.offer(made);
            }
            while self.running.front().is_some_and(|(at, _)| *at <= self.now_ms) {
                let Some((_, ready)) = self.running.pop_front() else { break };
                let how = downstream(self.now_ms);
                answers.push((self.now_ms, how == Ended::Well));
                assert!(self.scheduler.ended(WORKER, ready.step, 5_000, how));
                if how != Ended::Well {
                    self.scheduler.offer(ready);
                }
            }
            while let Some(ready) = self.scheduler.next(WORKER) {
                self.scheduler.started(WORKER, ready.step, &ready);
                self.starts.push(self.now_ms);
                self.running.push_back((self.now_ms + 5, ready));
            }
            self.now_ms += 1;
        }
        answers
    }
}

#[test]
fn a_downstream_that_bears_200_a_second_is_given_that_within_30_seconds() {
    let mut run = Run::new();
    let mut bucket = Bucket::new(20.0, 0);
    let answers = run.run(45_000, |now_ms| {
        bucket.fill(200.0, 20.0, now_ms);
        if bucket.has_token() {
            bucket.take();
            Ended::Well
        } else {
            Ended::RateLimited
        }
    });
    let rates: Vec<usize> = (0..45)
        .map(|second| {
            let is_in = |at: i64| at / 1_000 == second;
            answers.iter().filter(|(at, is_well)| *is_well && is_in(*at)).count()
        })
        .collect();
    let settled: f64 = rates[25..].iter().map(|rate| *rate as f64).sum::<f64>() / 20.0;
    assert!((180.0..=220.0).contains(&settled), "{rates:?}");
    assert!(rates[30..].iter().all(|rate| (170..=230).contains(rate)), "{rates:?}");
}

#[test]
fn a_dead_downstream_gets_probes_only_and_its_backlog_comes_back_slowly() {
    let mut run = Run::new();
    // A steady 100 a second before it dies.
    run.scheduler.set_limits(
        0,
        Limit { rate: Some(100.0), burst: Some(1.0), ..Limit::default() },
        Limit::default(),
    );
    run.run(5_000, |_| Ended::Well);
    let before = run.starts.iter().filter(|at| **at > 4_000).count();
    run.run(100, |_| Ended::Unavailable("refused"));
    run.scheduler.set_limits(0, Limit::default(), Limit::default());
    let dead_from = run.starts.len();
    run.run(10_000, |_| Ended::Unavailable("refused"));
    let probes = &run.starts[dead_from..];
    assert!((5..=7).contains(&probes.len()), "{probes:?}");
    let waits: Vec<i64> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.windows(2).all(|pair| (pair[1] - 2 * pair[0]).abs() <= 10), "{waits:?}");
    let answers = run.run(30_000, |_| Ended::Well);
    let closed_at = answers.iter().find(|(_, is_well)| *is_well).unwrap().0;
    let first_second = run.starts.iter().filter(|at| (closed_at..closed_at + 1_000).contains(*at)).count();
    assert!(first_second > before && first_second <= 2 * (before + 2), "{first_second} after {before}");
    let last = run.starts.iter().filter(|at| **at >= run.now_ms - 1_000).count();
    assert!(last > 10 * before, "{last}");
}

#[test]
fn a_breaker_s_state_is_merged_and_comes_back_after_a_restart() {
    let mut control = FlowControl::default();
    control.add("mail".into());
    control.started(0, WHOLE, 1_000);
    control.ended(0, WHOLE, false, Ended::RateLimited, 1_000);
    control.ended(0, WHOLE, false, Ended::Unavailable("refused"), 1_001);
    let (_, state) = control.take_changes().remove(0);
    let mut later = FlowControl::default();
    later.add("mail".into());
    later.import(0, &state, 1_050).unwrap();
    assert_eq!(later.check(0, WHOLE, 1_100).unwrap_err().until, Some(1_101));
    assert!(later.check(0, WHOLE, 1_101).is_ok() && later.valve(0).is_some());
}
