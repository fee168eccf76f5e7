//! The real core against a naive reading of the rules: random graphs and random tasks run through the engine, its wire and a
//! database, and a recursion of a few hundred lines says what must have come of it: state, status, error, every view and
//! every event.
//!
//! A failure names its seed; `PENSTOCK_SEED=n cargo test -p penstock-core --test model` runs that case alone, and
//! `PENSTOCK_LONG_TESTS=1` many more.

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::blocks::{input, make, Block, Kinds};
use support::reference::Reference;
use support::rig::{Chaos, Rig};
use support::rng::Rng;
use support::seeds;
use support::tasks::Habits;

/// What a run of cases met, so that a generator that no longer makes something is noticed.
#[derive(Default)]
struct Met(BTreeMap<String, usize>);

impl Met {
    fn note(&mut self, what: impl Into<String>, times: usize) {
        *self.0.entry(what.into()).or_default() += times;
    }

    /// Asserts that each of these came often enough, unless one seed was asked for.
    fn check(&self, least: &[(&str, usize)]) {
        if std::env::var_os("PENSTOCK_SEED").is_some() {
            return;
        }
        for (what, times) in least {
            let found = self.0.get(*what).copied().unwrap_or(0);
            assert!(found >= *times, "{what} came {found} times and not {times}: {:#?}", self.0);
        }
    }
}

fn habits(rng: &mut Rng) -> Habits {
    let [park, retry, delay] = [(); 3].map(|()| *rng.pick(&[0, 0, 15]));
    Habits { fail: *rng.pick(&[0, 0, 4, 15]), park, retry, delay, err: *rng.pick(&[0, 0, 2]), wild: true }
}

fn check(seed: u64, chaos: Chaos, met: &mut Met) {
    let mut rng = Rng::new(seed ^ 0xC0);
    let kinds = Kinds { routes: true, wild: true, races: true };
    let programs: Vec<Block> = [12, 5, 5].map(|size| make(&mut rng, kinds, size)).into();
    let habits = habits(&mut rng);
    let mut rig = Rig::new(seed, &programs, habits, chaos);
    let record = rig.run();
    let mut root = input();
    root["depth"] = json!(0);
    let mut reference = Reference::new(seed, habits, &programs, &record);
    reference.flow("", 0, &root);
    reference.witness.finish();
    met.note("crash", rig.crashes);
    for (kind, times) in &rig.posted {
        met.note(*kind, *times);
    }
    for (what, times) in &rig.past.backs {
        met.note(what, *times);
    }
    met.note("left behind", rig.past.gone.len());
    met.note("child", record.flows.len() - 1);
    for (label, flow) in &record.flows {
        met.note(if label.is_empty() { flow.status.clone() } else { format!("child {}", flow.status) }, 1);
    }
    met.note(record.flows[""].error.clone().unwrap_or_default(), 1);
    for ran in record.steps.values() {
        for event in &ran.events {
            met.note(event.body.name(), 1);
        }
    }
}

#[test]
fn the_core_agrees_with_the_naive_reading_of_the_rules() {
    let mut met = Met::default();
    for seed in seeds(20_000, 1_000_000) {
        check(seed, Chaos::default(), &mut met);
    }
    eprintln!("{:#?}", met.0);
    met.check(&[
        ("completed", 2_000),
        ("failed", 2_000),
        ("child", 1_000),
        ("child cancelled", 50),
        ("retry", 1_000),
        ("parked", 1_000),
    ]);
}

#[test]
fn the_core_agrees_when_engines_and_workers_die_at_any_event_and_flows_are_cancelled() {
    let mut met = Met::default();
    for seed in seeds(10_000, 500_000) {
        let mut rng = Rng::new(seed ^ 0xD1E);
        let chaos = Chaos {
            crash: *rng.pick(&[0, 2, 5]),
            worker: *rng.pick(&[0, 2]),
            cancel: *rng.pick(&[0, 1]),
            hold: *rng.pick(&[0, 0, 3]),
            back: 0,
        };
        check(seed, chaos, &mut met);
    }
    eprintln!("{:#?}", met.0);
    met.check(&[
        ("crash", 1_000),
        ("cancelled", 100),
        ("lost", 100),
        ("completed", 1_000),
        ("pause", 500),
        ("resume_break", 500),
        ("signal", 500),
    ]);
}

#[test]
fn the_core_agrees_when_flows_are_sent_back_at_any_event() {
    let mut met = Met::default();
    for seed in seeds(2_000, 500_000) {
        let mut rng = Rng::new(seed ^ 0xBAC);
        let chaos = Chaos {
            crash: *rng.pick(&[0, 0, 3]),
            worker: *rng.pick(&[0, 0, 2]),
            cancel: *rng.pick(&[0, 0, 1]),
            hold: *rng.pick(&[0, 0, 3]),
            back: *rng.pick(&[1, 4, 10]),
        };
        check(seed, chaos, &mut met);
    }
    eprintln!("{:#?}", met.0);
    met.check(&[
        ("restart", 100),
        ("restart_from", 200),
        ("retry_step", 50),
        ("recover", 50),
        ("reopen", 50),
    ]);
}
