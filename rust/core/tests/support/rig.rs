//! One engine with fake workers around the fake database, driven at random until all flows of a case are over.
//!
//! Chance orders the ends of steps, the commits and the answers, and now and then throws the engine away at any point; a new
//! one goes on from what was committed. Time passes only when there is nothing else to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use penstock_core::batch::{Batch, NewFlow};
use penstock_core::engine::{Engine, Options, Report};
use penstock_core::flow::{CallKind, EventBody};
use penstock_core::graph::Graph;
use penstock_core::ids::{hex, new_id, parse_flow_key, FlowId};
use penstock_core::scheduler::TaskKind;
use penstock_core::wire::{FrameReader, FrameWriter, Message, Outcome, ResultOut, StepIn};
use serde_json::{json, Value};

use super::blocks::{definition, input, Block};
use super::database::{Database, FlowRow};
use super::past::Past;
use super::record::{words, Record, Seen};
use super::rng::Rng;
use super::tasks::{act, Act, Goto, Habits, Place};

/// Moves after which a case is given up as endless.
const MOST_MOVES: usize = 40_000;

/// What may happen besides steps and answers, in percent of all moves.
#[derive(Clone, Copy, Default)]
pub struct Chaos {
    pub crash: u64,
    pub worker: u64,
    pub cancel: u64,
    /// Pauses and breakpoints.
    pub hold: u64,
    /// Operations that go back.
    pub back: u64,
}

/// A program as the engine knows it.
pub(super) struct Plan {
    text: String,
    pub(super) id: [u8; 32],
    gotos: HashMap<String, Vec<String>>,
}

pub struct Rig<'p> {
    pub seed: u64,
    pub db: Database,
    pub(super) habits: Habits,
    chaos: Chaos,
    pub(super) rng: Rng,
    pub(super) now_ms: i64,
    pub(super) plans: Vec<Plan>,
    engine: Engine,
    replica: i64,
    worker: u32,
    reader: FrameReader,
    /// With where each stood when it began.
    running: Vec<(StepIn, Place)>,
    void: Vec<u64>,
    /// Taken from the engine and not written, or written and not told.
    batch: Option<Batch>,
    told: Option<Vec<u32>>,
    loading: Vec<FlowId>,
    pub(super) places: HashMap<(FlowId, u64), Place>,
    pub(super) visits: HashMap<String, u64>,
    pub(super) labels: HashMap<FlowId, String>,
    pub(super) seen: Vec<(String, Seen)>,
    /// How often each operation was asked for.
    pub posted: BTreeMap<&'static str, usize>,
    pub crashes: usize,
    signals: u64,
    pub past: Past,
    /// How often it may still go back.
    backs: u64,
    pub(super) programs: &'p [Block],
}

impl<'p> Rig<'p> {
    pub fn new(seed: u64, programs: &'p [Block], habits: Habits, chaos: Chaos) -> Self {
        let mut rng = Rng::new(seed ^ 0x516);
        let mut db = Database { seed, ..Database::default() };
        let plans: Vec<Plan> = programs.iter().map(|tree| plan(tree, &mut db)).collect();
        let engine = Engine::new(Options::default(), Box::new(|| [0; 16]));
        let mut rig = Self {
            seed,
            db,
            habits,
            chaos,
            now_ms: 1_000_000 + rng.below(1_000) as i64,
            rng,
            plans,
            engine,
            replica: 0,
            worker: 0,
            reader: FrameReader::new(),
            running: Vec::new(),
            void: Vec::new(),
            batch: None,
            told: None,
            loading: Vec::new(),
            places: HashMap::new(),
            visits: HashMap::new(),
            labels: HashMap::new(),
            seen: Vec::new(),
            posted: BTreeMap::new(),
            crashes: 0,
            signals: 0,
            past: Past::default(),
            backs: if chaos.back > 0 { 5 } else { 0 },
            programs,
        };
        rig.start_engine();
        rig
    }

    fn start_engine(&mut self) {
        self.replica += 1;
        let mut chance = Rng::at(self.seed, &format!("ids {}", self.replica));
        let options = Options {
            replica: self.replica,
            release_after_ms: *self.rng.pick(&[50, 5_000]),
            snapshot_bytes: *self.rng.pick(&[600, 4_000, 1 << 20]),
            lru_entries: self.rng.below(6) as usize,
            ..Options::default()
        };
        self.engine = Engine::new(options, Box::new(move || chance.bytes()));
        for (at, plan) in self.plans.iter().enumerate() {
            self.engine.add_graph(&plan.text).unwrap();
            self.engine.publish(&format!("g{at}"), plan.id).unwrap();
        }
        self.engine.set_default_kind(TaskKind::Async);
        self.start_worker();
    }

    fn start_worker(&mut self) {
        self.worker += 1;
        self.reader = FrameReader::new();
        self.running.clear();
        self.void.clear();
        self.engine.worker_ready(self.worker);
    }

    /// Creates a flow of the first program and drives everything to its end.
    pub fn run(&mut self) -> Record {
        let root = self.create();
        for _ in 0..MOST_MOVES {
            if self.db.live.is_empty() && self.engine.entries() == 0 {
                assert!(self.db.interrupts.is_empty(), "seed {}: questions of ended flows", self.seed);
                if self.backs > 0 && self.rng.chance(70) {
                    self.backs -= 1;
                    self.send_back(root);
                    continue;
                }
                self.check_gone();
                for id in self.db.flows.keys().copied().collect::<Vec<_>>() {
                    self.label(id);
                }
                let mut record = Record::read(&self.db, &self.past, &self.places, &self.labels);
                for (at, seen) in self.seen.drain(..) {
                    record.steps.entry(at).or_default().seen.push(seen);
                }
                return record;
            }
            self.act(root);
        }
        panic!("seed {}: not everything came to its end", self.seed);
    }

    fn create(&mut self) -> FlowId {
        let id = new_id(self.now_ms, self.rng.bytes());
        let mut state = input();
        state["depth"] = json!(0);
        let flow = NewFlow {
            id,
            root: id,
            parent: None,
            workflow: "g0".to_owned(),
            graph: self.plans[0].id,
            priority: 1,
            fairness_key: String::new(),
            fairness_weight: 1.0,
            time_budget_ms: 1_000_000_000,
            thread: id,
            turn: 1,
            tags: None,
            input: state.to_string(),
            baggage: None,
            trace_parent: None,
            notify: None,
            delete_on_completion: false,
            created_at: self.now_ms,
            first: Vec::new(),
        };
        self.labels.insert(id, String::new());
        self.engine.create(flow).unwrap();
        // From here on the flow is stored, whatever dies.
        while !self.db.flows.contains_key(&id) {
            self.write();
        }
        id
    }

    fn act(&mut self, root: FlowId) {
        let chance = self.rng.below(1_000);
        let Chaos { crash, worker, cancel, hold, back } = self.chaos;
        if chance < crash * 10 {
            return self.crash();
        }
        if chance < (crash + worker) * 10 {
            self.engine.worker_gone(self.worker, "signal 9", self.now_ms);
            return self.start_worker();
        }
        if chance < (crash + worker + cancel) * 10 {
            self.post(&root, "cancel", &json!({"reason": "enough"}));
        } else if chance < (crash + worker + cancel + hold) * 10 {
            self.hold(&root);
        } else if chance < (crash + worker + cancel + hold + back) * 10 && self.backs > 0 {
            self.backs -= 1;
            self.send_back(root);
        }
        match self.rng.below(10) {
            0..=2 => self.write(),
            3 | 4 => self.tell(),
            5 => self.take_in(),
            6 | 7 => self.frames(),
            8 => {
                self.engine.tick(self.now_ms);
            }
            _ => {}
        }
        if self.habits.park > 0 && self.rng.chance(1) {
            self.signal(&root, "go");
        }
        if self.running.is_empty() || self.rng.chance(40) {
            self.go_on(root);
        } else {
            let at = self.rng.below(self.running.len() as u64) as usize;
            self.finish(at);
        }
    }

    /// Does all that can be done without time or an answer; when that is nothing, answers, or lets time pass.
    fn go_on(&mut self, root: FlowId) {
        for _ in 0..4 {
            self.write();
            self.tell();
            self.take_in();
            self.frames();
        }
        let is_busy = !self.running.is_empty() || self.batch.is_some() || self.engine.has_batch();
        if is_busy || !self.loading.is_empty() {
            return;
        }
        if self.let_go(&root) && self.rng.chance(70) {
            return;
        }
        let is_question = |(id, _): &(&FlowId, &FlowId)| !self.db.breakpoints.contains(*id);
        let open: Vec<(FlowId, FlowId)> =
            self.db.interrupts.iter().filter(is_question).map(|(id, of)| (*id, *of)).collect();
        if !open.is_empty() && self.rng.chance(50) {
            let (id, flow) = *self.rng.pick(&open);
            let answer = json!({"answer": self.rng.below(1_000), "interrupt_id": hex(&id)});
            return self.post(&flow, "resume", &answer);
        }
        let waits = |row: &FlowRow| {
            Some((row.about.id, row.folded.open_calls(CallKind::Signal).first()?.2.target.clone()?))
        };
        let waiting: Vec<(FlowId, String)> = self.db.flows.values().filter_map(waits).collect();
        if !waiting.is_empty() && self.rng.chance(50) {
            let (flow, name) = self.rng.pick(&waiting).clone();
            return self.signal(&flow, &name);
        }
        let wakes = self.db.live.values().filter(|row| row.owner.is_none()).filter_map(|row| row.wake_at);
        self.engine.tick(self.now_ms);
        let (due, _) = self.engine.next_due();
        let due = due.into_iter().chain(wakes).min();
        if let Some(due) = due {
            self.now_ms = self.now_ms.max(due);
            self.engine.tick(self.now_ms);
        }
    }

    fn post(&mut self, flow: &FlowId, kind: &'static str, body: &Value) {
        self.posted.entry(kind).and_modify(|count| *count += 1).or_insert(1);
        self.db.post(flow, kind, body.to_string(), self.now_ms);
    }

    /// Somebody pauses the tree, or sets or takes away a breakpoint.
    fn hold(&mut self, root: &FlowId) {
        if self.rng.chance(40) {
            return self.post(root, "pause", &json!({"reason": "look"}));
        }
        let node = format!("n{}", 1 + self.rng.below(8));
        let on = self.rng.chance(70);
        self.post(root, "break_before", &json!({"node": node, "on": on}));
    }

    /// Lets a paused tree and a held step go on; whether there was one.
    fn let_go(&mut self, root: &FlowId) -> bool {
        if self.db.live.contains_key(root) && self.db.flows[root].folded.is_paused() {
            self.post(root, "unpause", &json!({}));
            return true;
        }
        let held: Vec<(FlowId, FlowId)> = self
            .db
            .interrupts
            .iter()
            .filter(|(id, _)| self.db.breakpoints.contains(*id))
            .map(|(id, of)| (*id, *of))
            .collect();
        let Some(&(id, flow)) = held.get(self.rng.below(held.len() as u64) as usize) else { return false };
        let folded = &self.db.flows[&flow].folded;
        if let Some((_, number)) = folded.held().into_iter().find(|(held, _)| *held == id) {
            let node = folded.graph().node(folded.step(number).unwrap().node).name.to_string();
            self.place(flow, number, &node);
            let number = self.rng.below(9);
            let overrides = *self.rng.pick(&[0, 1, 2]);
            let overrides = [json!({}), json!({"n": number, "x": null}), json!({"l": ["over"], "x": "over"})]
                [overrides]
                .clone();
            self.post(&flow, "resume_break", &json!({"interrupt_id": hex(&id), "overrides": overrides}));
        }
        true
    }

    fn signal(&mut self, flow: &FlowId, name: &str) {
        self.signals += 1;
        let body = json!({"name": name, "payload": self.signals});
        self.post(flow, "signal", &body);
    }

    fn frames(&mut self) {
        for (_, bytes) in self.engine.frames(self.now_ms) {
            for message in self.reader.feed(&bytes).unwrap() {
                match message {
                    Message::Steps(steps) => steps.into_iter().for_each(|step| self.begin(step)),
                    Message::Cancel(dispatch) => self.void.push(dispatch),
                    _ => {}
                }
            }
        }
    }

    fn begin(&mut self, step: StepIn) {
        let (_, id) = parse_flow_key(&step.flow_key).unwrap();
        let place = self.place(id, step.step, &step.node);
        let view = super::record::plain(serde_json::from_str(&step.state).unwrap());
        if !self.past.gone.contains_key(&id) {
            let ord = self.db.flows[&id].folded.ord();
            self.seen.push((words(&place), Seen { tries: place.tries, view, at: self.now_ms, ord }));
        }
        self.running.push((step, place));
    }

    /// How many attempts of a step have ended and count.
    pub(super) fn tries(&self, id: FlowId, number: u64) -> u64 {
        let ended = |body: &EventBody| {
            matches!(body, EventBody::Retry { .. } | EventBody::Parked { .. } | EventBody::Done { .. })
        };
        let facts = self.past.facts.get(&id).into_iter().flatten();
        facts.filter(|event| event.step == number && ended(&event.body)).count() as u64
    }

    /// Where a step stands, by what is committed.
    fn place(&mut self, id: FlowId, number: u64, node: &str) -> Place {
        assert!(self.db.flows.contains_key(&id), "seed {}: a step of no flow", self.seed);
        let tries = self.tries(id, number);
        if let Some(place) = self.places.get(&(id, number)) {
            return Place { tries, ..place.clone() };
        }
        let label = self.label(id);
        if self.past.gone.contains_key(&id) {
            return Place { path: hex(&id), node: node.to_owned(), visit: number, tries };
        }
        let found = self.db.flows[&id].folded.step(number);
        let found = found.unwrap_or_else(|| panic!("seed {}: step {} runs again", self.seed, number));
        let path = found.branch.map_or(label, |branch| {
            let source = self.places.get(&(id, branch.cohort));
            let source = source.unwrap_or_else(|| panic!("seed {}: step {number} has no source", self.seed));
            format!("{}/{}#{}.{}", source.path, source.node, source.visit, branch.ordinal)
        });
        let count = self.visits.entry(format!("{path} {node}")).or_default();
        let place = Place { path, node: node.to_owned(), visit: *count, tries: 0 };
        *count += 1;
        self.places.insert((id, number), place.clone());
        Place { tries, ..place }
    }

    /// The words of the call that started a flow.
    pub(super) fn label(&mut self, id: FlowId) -> String {
        if let Some(label) = self.labels.get(&id) {
            return label.clone();
        }
        let (parent, step) = self.db.flows[&id].about.parent.unwrap();
        if self.past.gone.contains_key(&parent) {
            self.past.gone.insert(id, true);
            return String::new();
        }
        let (mut tries, mut found) = (0, None);
        for event in self.past.facts[&parent].iter().filter(|event| event.step == step) {
            match &event.body {
                EventBody::Parked { calls, .. } => {
                    found = found.or(calls.iter().position(|call| call.id == Some(id)).map(|at| (tries, at)));
                    tries += 1;
                }
                EventBody::Retry { .. } => tries += 1,
                _ => {}
            }
        }
        let (tries, at) = found.unwrap_or_else(|| panic!("seed {}: a child that nobody called", self.seed));
        let label = format!("{}.{tries}.{at}>", words(&self.places[&(parent, step)]));
        self.labels.insert(id, label.clone());
        label
    }

    fn finish(&mut self, at: usize) {
        let (step, place) = self.running.swap_remove(at);
        let (outcome, changes, meta) = if self.void.contains(&step.dispatch) {
            (
                Outcome::Error,
                String::new(),
                json!({"code": "cancelled", "message": "x", "class": "permanent"}),
            )
        } else {
            self.result(&step, &place)
        };
        let meta = if meta.is_null() { String::new() } else { meta.to_string() };
        let mut writer = FrameWriter::new();
        let result =
            ResultOut { dispatch: step.dispatch, outcome, ran_us: 300, changes: &changes, meta: &meta };
        writer.result(&result).unwrap();
        self.engine.receive(self.worker, &writer.finish(), self.now_ms).unwrap();
    }

    fn result(&mut self, step: &StepIn, place: &Place) -> (Outcome, String, Value) {
        let (_, id) = parse_flow_key(&step.flow_key).unwrap();
        let view = super::record::plain(serde_json::from_str(&step.state).unwrap());
        let calls: Vec<Value> =
            serde_json::from_str(if step.calls.is_empty() { "[]" } else { &step.calls }).unwrap();
        let answers: Vec<Value> = calls.iter().map(answer).collect();
        match act(self.seed, self.habits, place, &view, &answers) {
            Act::Done { changes, goto, delay_ms } => {
                let mut meta = json!({});
                let plan = self.plans.iter().find(|plan| plan.id == self.db.flows[&id].about.graph).unwrap();
                let gotos = plan.gotos.get(&step.node);
                match (goto, gotos) {
                    (Goto::Astray, _) => meta["goto"] = json!("nowhere"),
                    (Goto::Yes, Some(gotos)) => {
                        meta["goto"] = json!(gotos[place.visit as usize % gotos.len()]);
                    }
                    _ => {}
                }
                if delay_ms > 0 {
                    meta["delay_ms"] = json!(delay_ms);
                }
                (Outcome::Done, changes.to_string(), meta)
            }
            Act::Failed { meta } => (Outcome::Error, String::new(), meta),
            Act::Parked { changes, calls } => {
                (Outcome::Parked, changes.to_string(), json!({ "calls": calls }))
            }
            Act::Retry { changes, delay_ms } => {
                (Outcome::Retry, changes.to_string(), json!({"delay_ms": delay_ms}))
            }
        }
    }

    fn write(&mut self) {
        if self.told.is_some() {
            return;
        }
        self.batch = self.batch.take().or_else(|| self.engine.take_batch());
        if let Some(batch) = &self.batch {
            self.told = Some(self.db.commit(batch, self.replica, &mut self.rng).unwrap());
            let flows: BTreeSet<FlowId> = batch.items.iter().map(|item| item.flow).collect();
            for flow in flows {
                self.notice(flow);
            }
        }
    }

    fn tell(&mut self) {
        let Some(put_off) = self.told.take() else { return };
        let report: Report = self.engine.committed(self.batch.take().unwrap(), &put_off, self.now_ms);
        assert!(report.broken.is_empty(), "seed {}: {:?}", self.seed, report.broken);
        self.loading.extend(report.reload);
    }

    /// Mail, claims and loads, between two batches.
    fn take_in(&mut self) {
        for flow in self.db.unread(Some(self.replica)) {
            let (seen, mail) = self.db.mail_of(&flow);
            self.engine.deliver(&flow, seen, mail, self.now_ms);
        }
        for flow in self.engine.wanted_histories() {
            self.engine.tell_history(&flow, self.db.history(&flow), self.now_ms);
        }
        if self.told.is_none() {
            self.loading.extend(self.db.claim(self.replica, self.engine.room(), self.now_ms));
        }
        for flow in std::mem::take(&mut self.loading) {
            let Some(loaded) = self.db.load(&flow, self.replica) else { continue };
            let has_mail = loaded.mail > 0;
            let loaded = self.engine.load_flow(loaded, self.now_ms);
            loaded.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            if has_mail {
                let (seen, mail) = self.db.mail_of(&flow);
                self.engine.deliver(&flow, seen, mail, self.now_ms);
            }
        }
    }

    /// The process is gone with all it had not written.
    fn crash(&mut self) {
        self.crashes += 1;
        self.db.dead.insert(self.replica);
        self.db.release_dead(self.now_ms);
        (self.batch, self.told) = (None, None);
        self.loading.clear();
        self.start_engine();
    }
}

fn plan(tree: &Block, db: &mut Database) -> Plan {
    let definition = definition(tree);
    let text = definition.to_string();
    let graph = Graph::compile(&text).unwrap_or_else(|error| panic!("seed {}: {error}\n{text}", db.seed));
    let mut gotos: HashMap<String, Vec<String>> = HashMap::new();
    for edge in definition["edges"].as_array().unwrap().iter().filter(|edge| edge["kind"] == "goto") {
        let [from, to] = ["from", "to"].map(|end| edge[end].as_str().unwrap().to_owned());
        gotos.entry(from).or_default().push(to);
    }
    let id = *graph.id();
    db.graphs.insert(id, graph.into());
    Plan { text, id, gotos }
}

/// An answered call as its task reads it.
fn answer(call: &Value) -> Value {
    match call.get("error") {
        Some(error) => json!({"error": error["code"]}),
        None => json!({"answer": super::record::plain(call["answer"].clone())}),
    }
}
