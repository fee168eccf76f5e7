//! Properties of the flow machine on random graphs and random results.
//!
//! A failure names its seed; `PENSTOCK_SEED=n cargo test -p penstock-core --test flow_props` runs that case alone.

mod support;

#[path = "support/rewinds.rs"]
mod rewinds;

use std::collections::HashMap;
use std::sync::Arc;

use penstock_core::engine::input_state;
use penstock_core::flow::event::Control;
use penstock_core::flow::{
    Call, CallError, CallKind, Context, Event, EventBody, Flow, TaskError, TaskResult,
};
use penstock_core::graph::Graph;
use penstock_core::ids::FlowId;
use penstock_core::json::Value;
use penstock_core::state::Changes;
use support::blocks::{definition, input, make, Kinds};
use support::rng::Rng;
use support::seeds;
use support::tasks::{act, Act, Goto, Habits, Place};

/// Events after which a case is given up as endless.
const MAX_EVENTS: usize = 3_000;

/// A flow that is driven by hand, with the places of its steps.
struct Walk {
    seed: u64,
    habits: Habits,
    flow: Flow,
    paths: HashMap<u64, String>,
    visits: HashMap<u64, u64>,
    counts: HashMap<(String, String), u64>,
    gotos: HashMap<String, Vec<String>>,
    now_ms: i64,
    rng: Rng,
}

fn graph(tree: &support::blocks::Block, seed: u64) -> Arc<Graph> {
    let text = definition(tree).to_string();
    Arc::new(Graph::compile(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}")))
}

fn fresh(graph: &Arc<Graph>) -> Flow {
    let state = input_state(&input().to_string(), graph.reducers()).unwrap();
    Flow::new(graph.clone(), "1-key".into(), state, 1_000)
}

/// The targets of each node's goto edges.
fn gotos(graph: &Graph) -> HashMap<String, Vec<String>> {
    let definition: serde_json::Value = serde_json::from_str(graph.definition()).unwrap();
    let mut gotos: HashMap<String, Vec<String>> = HashMap::new();
    for edge in definition["edges"].as_array().unwrap() {
        if edge["kind"] == "goto" {
            let [from, to] = ["from", "to"].map(|end| edge[end].as_str().unwrap().to_owned());
            gotos.entry(from).or_default().push(to);
        }
    }
    gotos
}

impl Walk {
    fn new(graph: &Arc<Graph>, seed: u64, habits: Habits, order: u64) -> Self {
        let flow = fresh(graph);
        let mut walk = Self {
            seed,
            habits,
            flow,
            paths: HashMap::new(),
            visits: HashMap::new(),
            counts: HashMap::new(),
            gotos: gotos(graph),
            now_ms: 1_000,
            rng: Rng::new(order),
        };
        walk.meet();
        walk
    }

    /// Notes the places of new steps.
    fn meet(&mut self) {
        let mut new: Vec<_> = self
            .flow
            .steps()
            .filter(|step| !self.paths.contains_key(&step.number))
            .map(|step| (step.number, step.node, step.branch))
            .collect();
        new.sort_unstable_by_key(|(number, ..)| *number);
        for (number, node, branch) in new {
            let path = branch.map_or(String::new(), |branch| {
                let (source, visit) = (&self.paths[&branch.cohort], self.visits[&branch.cohort]);
                let at = source.rfind(' ').unwrap();
                format!("{}/{}#{visit}.{}", &source[..at], &source[at + 1..], branch.ordinal)
            });
            let node = self.flow.graph().node(node).name.to_string();
            let count = self.counts.entry((path.clone(), node.clone())).or_default();
            self.visits.insert(number, *count);
            *count += 1;
            self.paths.insert(number, format!("{path} {node}"));
        }
    }

    fn result(&self, number: u64) -> TaskResult {
        let step = self.flow.step(number).unwrap();
        let path = &self.paths[&number];
        let at = path.rfind(' ').unwrap();
        let place = Place {
            path: path[..at].to_owned(),
            node: path[at + 1..].to_owned(),
            visit: self.visits[&number],
            // What a rewind takes back, too.
            tries: u64::from(step.attempt) * 4 + step.calls.len() as u64,
        };
        if let Some(error) = &step.broken {
            return TaskResult::Failed(error.clone());
        }
        let view = serde_json::from_str(&self.flow.view(step).to_json()).unwrap();
        let reducers = self.flow.graph().reducers();
        let read = |changes: &serde_json::Value| Changes::from_task(&changes.to_string(), reducers).unwrap();
        let answers: Vec<_> = step.calls.iter().map(answer).collect();
        match act(self.seed, self.habits, &place, &view, &answers) {
            Act::Done { changes, goto, delay_ms } => {
                let goto = match goto {
                    Goto::No => None,
                    Goto::Yes => self.goto(&place),
                    Goto::Astray => Some("nowhere".to_owned()),
                };
                TaskResult::Done { changes: read(&changes), goto, delay_ms }
            }
            Act::Failed { meta } => TaskResult::Failed(TaskError::from_meta(&meta.to_string()).unwrap()),
            Act::Parked { changes, calls } => {
                let read_call = |call: &serde_json::Value| {
                    Call::from_json(&Value::parse(&call.to_string()).unwrap()).unwrap()
                };
                let calls = calls.iter().map(read_call).collect();
                TaskResult::Parked { changes: read(&changes), calls }
            }
            Act::Retry { changes, delay_ms } => TaskResult::Retry { changes: read(&changes), delay_ms },
        }
    }

    /// A goto that the node has: back to itself, or wherever its plain edge leads.
    fn goto(&self, place: &Place) -> Option<String> {
        let gotos = self.gotos.get(&place.node)?;
        Some(gotos[place.visit as usize % gotos.len()].clone())
    }

    /// The next event, of a step or of an open call that chance picks.
    fn next(&mut self, control: bool) -> Event {
        let mut ready: Vec<u64> =
            self.flow.steps().filter(|step| step.is_runnable()).map(|step| step.number).collect();
        ready.sort_unstable();
        let kinds = [CallKind::Interrupt, CallKind::Sleep, CallKind::Signal, CallKind::Subgraph];
        let open: Vec<(u64, u32)> = kinds
            .into_iter()
            .flat_map(|kind| self.flow.open_calls(kind))
            .map(|(step, call, _)| (step, call))
            .collect();
        let held = self.flow.held();
        let is_stuck = ready.is_empty() && open.is_empty() && held.is_empty();
        assert!(!is_stuck, "seed {}: the flow is stuck", self.seed);
        self.now_ms += self.rng.below(30) as i64;
        let ord = self.flow.ord() + 1;
        if !held.is_empty() && (ready.is_empty() && open.is_empty() || self.rng.chance(20)) {
            let held = *self.rng.pick(&held);
            return self.let_go(held);
        }
        if control && self.rng.chance(8) {
            let body = EventBody::Control(self.hold());
            return Event { ord, step: 0, attempt: 0, at: self.now_ms, body };
        }
        if control && self.rng.chance(1) {
            let body = EventBody::Control(Control::Cancel { reason: "enough \u{0}".into() });
            return Event { ord, step: 0, attempt: 0, at: self.now_ms, body };
        }
        if let Some(event) = self.signal_or_child(control) {
            return event;
        }
        let at = self.rng.below((ready.len() + open.len()) as u64) as usize;
        if at >= ready.len() {
            return self.resolve(open[at - ready.len()]);
        }
        let (number, now_ms) = (ready[at], self.now_ms);
        let step = self.flow.step(number).unwrap();
        if self.flow.breaks_before(step) && step.broken.is_none() {
            let body = EventBody::Control(Control::Break { id: self.rng.bytes() });
            return Event { ord, step: number, attempt: 0, at: now_ms, body };
        }
        let result = self.result(number);
        let mut chance = Rng::new(self.rng.next());
        let mut new_id = || chance.bytes();
        let mut context = Context { now_ms, seed: 7, max_event_bytes: 1 << 20, new_id: &mut new_id };
        if control && self.rng.chance(5) {
            return self.flow.settle_lost(number, "signal 9", self.rng.chance(50), &mut context).unwrap();
        }
        if control && self.rng.chance(5) {
            let attempt = self.flow.step(number).unwrap().attempt;
            return Event { ord, step: number, attempt, at: now_ms, body: EventBody::Started };
        }
        self.flow.settle(number, &result, &mut context).unwrap().event
    }

    /// A signal, kept or taken, or a word of a child.
    fn signal_or_child(&mut self, control: bool) -> Option<Event> {
        let ord = self.flow.ord() + 1;
        let event = |step, body| Some(Event { ord, step, attempt: 0, at: 1_000, body });
        let kept = self.flow.waits_for_signal("go").zip(self.flow.kept_signal("go"));
        if let Some(((step, call), (signal, payload))) = kept {
            let answer = Ok(payload.clone());
            return event(step, EventBody::Resolved { call, answer, signal: Some(signal) });
        }
        if !control {
            return None;
        }
        if self.rng.chance(5) {
            let name = (*self.rng.pick(&["go", "nobody \u{0} waits"])).to_owned();
            if self.flow.waits_for_signal(&name).is_none() {
                let payload = Value::int(ord as i64);
                return event(0, EventBody::Control(Control::Signal { name, payload }));
            }
        }
        let children = self.flow.open_calls(CallKind::Subgraph);
        let (step, _, call) = children.first().filter(|_| self.rng.chance(30))?;
        let (step, child, is_asking) = (*step, call.id?, self.rng.chance(50));
        let body = if self.rng.chance(80) {
            Control::ChildState { step, child, ord, is_asking }
        } else {
            Control::ChildStarted { step, child }
        };
        event(step, EventBody::Control(body))
    }

    /// A pause, a breakpoint, or the end of one.
    fn hold(&mut self) -> Control {
        let nodes = self.flow.graph().nodes();
        let node = nodes[self.rng.below(nodes.len() as u64) as usize].name.to_string();
        match self.rng.below(5) {
            0 => Control::Pause { reason: "look \u{0}".into() },
            1 => Control::Unpause,
            2 => {
                let mut holds = self.flow.holds().clone();
                holds.version += 1;
                holds.breaks.insert(node);
                Control::Inherit { holds }
            }
            on => Control::BreakBefore { node, on: on == 3 },
        }
    }

    fn let_go(&mut self, (id, step): (FlowId, u64)) -> Event {
        let overrides = *self.rng.pick(&["{}", r#"{"n":5,"l":["over"],"x":null,"new":{"a":1.50}}"#]);
        let overrides = Changes::from_overrides(overrides).unwrap();
        let body = EventBody::Control(Control::ResumeBreak { id, overrides });
        Event { ord: self.flow.ord() + 1, step, attempt: 0, at: self.now_ms, body }
    }

    fn resolve(&mut self, (step, call): (u64, u32)) -> Event {
        let found = self.flow.step(step).unwrap();
        let mut chance = Rng::at(self.seed, &format!("{} {} {call}", self.paths[&step], self.visits[&step]));
        let answer = if chance.chance(80) {
            Ok(Value::parse(r#"{"yes": 1.50}"#).unwrap())
        } else {
            let data = Some(Value::int(3));
            Err(CallError { code: "interrupt_timeout".into(), message: "late".into(), data })
        };
        let body = EventBody::Resolved { call, answer, signal: None };
        Event { ord: self.flow.ord() + 1, step, attempt: found.attempt, at: self.now_ms, body }
    }

    /// Applies an event and gives it as the journal has it.
    fn apply(&mut self, mut event: Event) -> Event {
        let effects =
            self.flow.apply(&event, None).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        if let EventBody::Done { next, .. } | EventBody::Failed { next, .. } = &mut event.body {
            next.join = effects.joined;
        }
        self.meet();
        let text = event.body.to_json(self.flow.key());
        let read = EventBody::from_json(event.body.name(), &text);
        event.body = read.unwrap_or_else(|error| panic!("seed {}: {error}: {text}", self.seed));
        event
    }

    fn run(&mut self) {
        for _ in 0..MAX_EVENTS {
            if self.flow.status().is_finished() {
                return;
            }
            let event = self.next(false);
            self.apply(event);
        }
        panic!("seed {}: the flow does not end", self.seed);
    }
}

fn snapshot_of(flow: &Flow) -> Event {
    let body = EventBody::Snapshot(flow.snapshot());
    Event { ord: flow.ord(), step: 0, attempt: 0, at: 0, body }
}

fn habits(rng: &mut Rng) -> Habits {
    let [park, retry, delay] = [(); 3].map(|()| *rng.pick(&[0, 20]));
    Habits { fail: *rng.pick(&[0, 5, 30]), park, retry, delay, err: 0, wild: false }
}

/// An answered call as a task sees it.
fn answer(call: &Call) -> serde_json::Value {
    match call.answer.as_ref().unwrap() {
        Ok(value) => {
            serde_json::json!({"answer": serde_json::from_str::<serde_json::Value>(value.raw()).unwrap()})
        }
        Err(error) => serde_json::json!({"error": error.code}),
    }
}

#[test]
fn a_replayed_flow_is_the_flow_that_wrote_the_journal_after_every_event() {
    let mut events = 0;
    for seed in seeds(1_000, 200_000) {
        let mut rng = Rng::new(seed);
        let graph = graph(&make(&mut rng, Kinds { routes: true, wild: true, races: true }, 12), seed);
        let mut walk = Walk::new(&graph, seed, habits(&mut rng), seed);
        let mut replayed = vec![("ord 1".to_owned(), fresh(&graph))];
        for at in 0..MAX_EVENTS {
            if walk.flow.status().is_finished() {
                break;
            }
            assert!(at < MAX_EVENTS - 1, "seed {seed}: the flow does not end");
            let event = walk.next(true);
            let event = walk.apply(event);
            events += 1;
            for (from, flow) in &mut replayed {
                flow.apply(&event, None).unwrap_or_else(|error| panic!("seed {seed} from {from}: {error}"));
                assert!(
                    *flow == walk.flow,
                    "seed {seed}: replay from {from} differs after {event:?}\n{}\n{}",
                    flow.snapshot(),
                    walk.flow.snapshot()
                );
            }
            if replayed.len() < 4 && rng.chance(15) {
                let start = snapshot_of(&walk.flow);
                let input = walk.flow.current_state();
                let flow = Flow::replay(graph.clone(), "1-key".into(), input, 1_000, [&start]).unwrap();
                assert!(flow == walk.flow, "seed {seed}: the snapshot of event {} differs", start.ord);
                replayed.push((format!("the snapshot of {}", start.ord), flow));
            }
        }
    }
    assert!(events > 0);
}

#[test]
fn a_gap_in_the_journal_is_refused() {
    let tree = make(&mut Rng::new(3), Kinds { routes: false, wild: false, races: false }, 5);
    let graph = graph(&tree, 3);
    let mut walk = Walk::new(&graph, 3, Habits::default(), 3);
    let mut event = walk.next(false);
    event.ord += 1;
    let error = walk.flow.apply(&event, None).unwrap_err();
    assert_eq!(error.code.as_str(), "corrupt");
}

#[test]
fn the_order_in_which_steps_finish_changes_nothing() {
    for seed in seeds(700, 100_000) {
        let mut rng = Rng::new(seed ^ 0xB0);
        let graph = graph(&make(&mut rng, Kinds { routes: true, wild: true, races: false }, 12), seed);
        let habits = habits(&mut rng);
        let ends: Vec<_> = (0..3)
            .map(|order| {
                let mut walk = Walk::new(&graph, seed, habits, seed * 3 + order);
                walk.run();
                (walk.flow.status(), comparable(&walk.flow))
            })
            .collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "seed {seed}: {ends:#?}\n{}", graph.definition());
    }
}

/// The final state without the step numbers that an error names.
fn comparable(flow: &Flow) -> serde_json::Value {
    let mut state: serde_json::Value = serde_json::from_str(&flow.current_state().to_json()).unwrap();
    if let Some(error) = state.get_mut("on_error").and_then(|error| error.as_object_mut()) {
        error.remove("step_key");
    }
    state
}
