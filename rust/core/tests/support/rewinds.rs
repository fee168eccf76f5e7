//! Random flows that are sent back at random, against the same flows that were left alone.

use std::collections::{BTreeSet, HashMap};

use penstock_core::engine::input_state;
use penstock_core::flow::event::Control;
use penstock_core::flow::rewind::{failed_steps, rewind, Back, Origin, Wish};
use penstock_core::flow::{Event, EventBody, Flow, Status};
use penstock_core::graph::Graph;
use penstock_core::state::Changes;

use super::support::blocks::{input, make, Kinds};
use super::support::rng::Rng;
use super::support::seeds;
use super::support::tasks::Habits;
use super::{comparable, fresh, graph, habits, Walk, MAX_EVENTS};

/// A walk with its journal, and what in it came of what.
struct Tracked {
    walk: Walk,
    journal: Vec<Event>,
    causes: HashMap<u64, BTreeSet<u64>>,
    /// Steps that a rewind left behind.
    gone: BTreeSet<u64>,
    replayed: Flow,
}

impl Tracked {
    fn new(graph: &std::sync::Arc<Graph>, seed: u64, habits: Habits, order: u64) -> Self {
        let walk = Walk::new(graph, seed, habits, order);
        let causes = HashMap::from([(1, BTreeSet::new())]);
        Self { walk, journal: Vec::new(), causes, gone: BTreeSet::new(), replayed: fresh(graph) }
    }

    fn apply(&mut self, event: Event) {
        let known: BTreeSet<u64> = self.walk.paths.keys().copied().collect();
        let event = self.walk.apply(event);
        let join = match &event.body {
            EventBody::Done { next, .. } | EventBody::Failed { next, .. } => {
                next.join.as_ref().map(|join| join.0)
            }
            _ => None,
        };
        let new: Vec<u64> =
            self.walk.paths.keys().copied().filter(|number| !known.contains(number)).collect();
        for number in new {
            let mut causes = BTreeSet::from([event.step]);
            if join == Some(number) {
                causes.extend(self.inside_of(number, event.step));
            }
            self.causes.insert(number, causes);
        }
        let replay = self.replayed.apply(&event, None);
        replay.unwrap_or_else(|error| panic!("seed {}: {error}", self.walk.seed));
        assert!(
            self.replayed == self.walk.flow,
            "seed {}: replay differs after {event:?}\n{}\n{}",
            self.walk.seed,
            self.replayed.snapshot(),
            self.walk.flow.snapshot()
        );
        self.journal.push(event);
    }

    fn path(&self, number: u64) -> &str {
        let path = &self.walk.paths[&number];
        &path[..path.rfind(' ').unwrap()]
    }

    /// The steps of the fan-out that `join` ended when `last` arrived.
    fn inside_of(&self, join: u64, last: u64) -> Vec<u64> {
        let (outer, path) = (self.path(join), self.path(last));
        let Some(rest) = path.strip_prefix(outer).and_then(|rest| rest.strip_prefix('/')) else {
            return Vec::new();
        };
        let cohort = rest.split('/').next().unwrap();
        let prefix = format!("{outer}/{}.", &cohort[..cohort.rfind('.').unwrap()]);
        let inside = |number: &u64| format!("{}/", self.path(*number)).starts_with(&prefix);
        self.causes.keys().copied().filter(|number| !self.gone.contains(number) && inside(number)).collect()
    }

    fn followers(&self, steps: &[u64]) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        loop {
            let before = found.len();
            for (number, causes) in &self.causes {
                if !self.gone.contains(number)
                    && causes.iter().any(|cause| steps.contains(cause) || found.contains(cause))
                {
                    found.insert(*number);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn origin(&self) -> Origin {
        let graph = self.walk.flow.graph().clone();
        let input = input_state(&input().to_string(), graph.reducers()).unwrap();
        Origin { graph, key: "1-key".into(), input, created_at: 1_000 }
    }

    /// Goes back, and looks whether what is left is what a reader of the rules expects. Gives whether it could.
    fn go_back(&mut self, back: Back, is_drained: bool) -> bool {
        let seed = self.walk.seed;
        let before: BTreeSet<u64> = self.walk.flow.steps().map(|step| step.number).collect();
        let mut chance = Rng::new(self.walk.rng.next());
        let wish = Wish { back, reopen: Vec::new(), overrides: Changes::default() };
        let now_ms = self.walk.now_ms;
        let made =
            rewind(&self.origin(), &self.journal, &self.walk.flow, &wish, now_ms, &mut || chance.bytes());
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                assert_eq!(error.code.as_str(), "conflict", "seed {seed}: {error}");
                return false;
            }
        };
        let steps = made.steps.clone();
        let followers = self.followers(&steps);
        let ord = self.walk.flow.ord() + 1;
        let body = EventBody::Control(Control::Rewind(Box::new(made)));
        self.apply(Event { ord, step: 0, attempt: 0, at: now_ms, body });
        let after: BTreeSet<u64> = self.walk.flow.steps().map(|step| step.number).collect();
        assert!(
            after.is_disjoint(&followers),
            "seed {seed}: {after:?} holds followers {followers:?} of {steps:?}"
        );
        if is_drained {
            let kept = before.difference(&followers).copied();
            let expected: BTreeSet<u64> = kept.chain(steps.iter().copied()).collect();
            assert_eq!(after, expected, "seed {seed}: {back:?} of {steps:?} without {followers:?}");
        }
        self.gone.extend(followers);
        self.recount();
        true
    }

    /// How often a node was visited counts what is left.
    fn recount(&mut self) {
        self.walk.counts.clear();
        for (number, path) in &self.walk.paths {
            if !self.gone.contains(number) {
                let at = path.rfind(' ').unwrap();
                let place = (path[..at].to_owned(), path[at + 1..].to_owned());
                *self.walk.counts.entry(place).or_default() += 1;
            }
        }
    }

    /// Some way back that chance picks.
    fn somewhere(&mut self, rng: &mut Rng) -> Back {
        let status = self.walk.flow.status();
        let failed = failed_steps(&self.origin(), &self.journal).unwrap();
        if status == Status::Failed && !failed.is_empty() && rng.chance(40) {
            return if rng.chance(50) { Back::AllFailed } else { Back::Failed(rng.pick(&failed).step) };
        }
        if status.is_finished() && rng.chance(15) {
            return Back::Start;
        }
        let mut steps: Vec<u64> =
            self.causes.keys().copied().filter(|step| !self.gone.contains(step)).collect();
        steps.sort_unstable();
        Back::Step(*rng.pick(&steps))
    }
}

fn sent_back(seed: u64, races: bool) -> (usize, Flow, Flow) {
    let mut rng = Rng::new(seed ^ 0xD0);
    let graph = graph(&make(&mut rng, Kinds { routes: true, wild: false, races }, 10), seed);
    let habits = habits(&mut rng);
    let mut alone = Walk::new(&graph, seed, habits, seed);
    alone.run();
    let mut tracked = Tracked::new(&graph, seed, habits, seed + 1);
    let (mut left, mut backs) = (1 + rng.below(4), 0);
    for at in 0..3 * MAX_EVENTS {
        assert!(at < 3 * MAX_EVENTS - 1, "seed {seed}: the flow does not end");
        let is_finished = tracked.walk.flow.status().is_finished();
        if left > 0 && (is_finished || rng.chance(4)) {
            left -= 1;
            let back = tracked.somewhere(&mut rng);
            backs += usize::from(tracked.go_back(back, !races));
        } else if is_finished {
            break;
        } else {
            let event = tracked.walk.next(false);
            tracked.apply(event);
        }
    }
    (backs, tracked.walk.flow, alone.flow)
}

#[test]
fn a_flow_that_was_sent_back_comes_to_the_end_of_one_that_was_not() {
    let mut backs = 0;
    for seed in seeds(1_500, 100_000) {
        let (went, flow, alone) = sent_back(seed, false);
        backs += went;
        assert_eq!(flow.status(), alone.status(), "seed {seed}");
        assert_eq!(comparable(&flow), comparable(&alone), "seed {seed}: {}", flow.graph().definition());
    }
    assert!(std::env::var_os("PENSTOCK_SEED").is_some() || backs > 1_000, "{backs}");
}

#[test]
fn a_flow_that_is_sent_back_into_a_race_replays_and_ends() {
    for seed in seeds(700, 50_000) {
        sent_back(seed, true);
    }
}
