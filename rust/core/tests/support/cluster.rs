//! Engines with fake workers around one fake database, driven one small step at a time.

use std::collections::{BTreeMap, VecDeque};

use penstock_core::batch::{Batch, NewFlow};
use penstock_core::engine::{Engine, Options, Report, Wanted};
use penstock_core::flow::{CallKind, EventBody};
use penstock_core::ids::{hex, new_id, FlowId};
use penstock_core::scheduler::TaskKind;
use penstock_core::wire::{FrameReader, FrameWriter, Message, Outcome, ResultOut, StepIn};
use serde_json::json;

use super::blocks::{definition, input, make, Kinds};
use super::database::{Database, No, BAD};
use super::rng::Rng;

/// A graph as the simulation knows it.
pub(super) struct Plan {
    id: [u8; 32],
    definition: String,
    name: String,
    gotos: BTreeMap<String, Vec<String>>,
    pub(super) nodes: Vec<String>,
}

struct Worker {
    number: u32,
    reader: FrameReader,
    running: Vec<StepIn>,
    /// Steps that are to be given up.
    cancelled: Vec<u64>,
}

/// An engine's process: the core, its writer and its poller.
struct Replica {
    number: i64,
    engine: Engine,
    workers: Vec<Worker>,
    /// Batches, or parts of one, that wait for the database.
    writing: VecDeque<Batch>,
    /// The first of them is written, and the engine does not know.
    written: Option<Vec<u32>>,
    /// Claimed or rolled back, and not loaded yet.
    loading: Vec<FlowId>,
    /// Children whose graphs the host looks for.
    wanted: Vec<Wanted>,
}

pub struct Cluster {
    pub seed: u64,
    pub rng: Rng,
    pub db: Database,
    pub now_ms: i64,
    replicas: Vec<Replica>,
    pub(super) plans: Vec<Plan>,
    next_replica: i64,
    next_worker: u32,
    /// Whether anything may go wrong.
    pub is_rough: bool,
    pub asked: u64,
    /// Whether the host finds the last graph, which no engine publishes then.
    has_loader: bool,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plans: Vec<Plan> = (0..3).map(|at| plan(&mut rng, seed, at)).collect();
        let mut db = Database { seed, ..Database::default() };
        for plan in &plans {
            let graph = penstock_core::graph::Graph::compile(&plan.definition).unwrap();
            db.graphs.insert(plan.id, graph.into());
        }
        let mut cluster = Self {
            seed,
            rng,
            db,
            now_ms: 1_000_000,
            replicas: Vec::new(),
            plans,
            next_replica: 1,
            next_worker: 1,
            is_rough: true,
            asked: 0,
            has_loader: false,
        };
        cluster.has_loader = cluster.rng.chance(50);
        for _ in 0..=cluster.rng.below(2) {
            cluster.start_replica();
        }
        cluster
    }

    fn start_replica(&mut self) {
        let number = self.next_replica;
        self.next_replica += 1;
        let mut chance = Rng::at(self.seed, &format!("ids {number}"));
        let options = Options {
            replica: number,
            room: 2 + self.rng.below(20) as usize,
            release_after_ms: 50,
            snapshot_bytes: *self.rng.pick(&[600, 4_000, 1 << 20]),
            lru_entries: self.rng.below(6) as usize,
            ..Options::default()
        };
        let mut engine = Engine::new(options, Box::new(move || chance.bytes()));
        if self.has_loader {
            engine.ask_for_graphs();
        }
        for plan in &self.plans {
            engine.add_graph(&plan.definition).unwrap();
            if !self.has_loader || plan.name != "g2" {
                engine.publish(&plan.name, plan.id).unwrap();
            }
            for (at, node) in plan.nodes.iter().enumerate() {
                engine.set_task(node, if at % 2 == 0 { TaskKind::Sync } else { TaskKind::Async });
            }
        }
        let mut replica = Replica {
            number,
            engine,
            workers: Vec::new(),
            writing: VecDeque::new(),
            written: None,
            loading: Vec::new(),
            wanted: Vec::new(),
        };
        for _ in 0..2 {
            self.next_worker += 1;
            replica.add_worker(self.next_worker);
        }
        self.replicas.push(replica);
    }

    pub fn create(&mut self) {
        let id = new_id(self.now_ms, self.rng.bytes());
        let first = self.first();
        let plan = &self.plans[self.rng.below(3) as usize];
        let mut state = input();
        state["depth"] = json!(0);
        let flow = NewFlow {
            id,
            root: id,
            parent: None,
            workflow: plan.name.clone(),
            graph: plan.id,
            priority: self.rng.below(3) as i32,
            fairness_key: String::new(),
            fairness_weight: 1.0,
            time_budget_ms: 1_000,
            thread: id,
            turn: 1,
            tags: None,
            input: state.to_string(),
            baggage: None,
            trace_parent: None,
            notify: None,
            delete_on_completion: false,
            created_at: self.now_ms,
            first,
        };
        let at = self.rng.below(self.replicas.len() as u64) as usize;
        self.replicas[at].engine.create(flow).unwrap();
    }

    /// One thing that chance picks.
    pub fn act(&mut self) {
        let at = self.rng.below(self.replicas.len() as u64) as usize;
        match self.rng.below(100) {
            0..=19 => self.frames(at),
            20..=44 => self.finish(at),
            45..=59 => self.write(at),
            60..=69 => self.tell(at),
            70..=76 => self.read_mail(at),
            77..=82 => self.claim(at),
            83..=90 => self.load(at),
            91..=92 => self.pass_time(at),
            93..=94 => self.find_graphs(at),
            95..=96 => self.send_mail(),
            97 => self.hold(),
            98 => self.kill_worker(at),
            _ => self.kill_replica(at),
        }
    }

    fn frames(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        for (number, bytes) in replica.engine.frames(self.now_ms) {
            let Some(worker) = replica.workers.iter_mut().find(|worker| worker.number == number) else {
                continue;
            };
            for message in worker.reader.feed(&bytes).unwrap() {
                match message {
                    Message::Steps(steps) => {
                        for step in steps {
                            check_start(&self.db, self.seed, replica.number, &step);
                            worker.running.push(step);
                        }
                    }
                    Message::Cancel(dispatch) => worker.cancelled.push(dispatch),
                    _ => {}
                }
            }
        }
    }

    /// Some step comes to its end.
    fn finish(&mut self, at: usize) {
        let busy: Vec<(usize, usize)> = self.replicas[at]
            .workers
            .iter()
            .enumerate()
            .flat_map(|(worker, found)| (0..found.running.len()).map(move |step| (worker, step)))
            .collect();
        if busy.is_empty() {
            return;
        }
        let (worker, step) = *self.rng.pick(&busy);
        let found = &mut self.replicas[at].workers[worker];
        let number = found.number;
        let step = found.running.swap_remove(step);
        let is_cancelled = found.cancelled.contains(&step.dispatch);
        if !is_cancelled && Rng::at(self.seed, &format!("{} {}", step.flow_key, step.node)).chance(2) {
            // A task that kills whatever runs it.
            self.replicas[at].workers[worker].running.push(step);
            self.replace_worker(at, worker);
            return;
        }
        let (outcome, changes, meta) = if is_cancelled {
            (
                Outcome::Error,
                String::new(),
                r#"{"code":"cancelled","message":"x","class":"permanent"}"#.into(),
            )
        } else {
            self.result(&step)
        };
        let mut writer = FrameWriter::new();
        let result =
            ResultOut { dispatch: step.dispatch, outcome, ran_us: 300, changes: &changes, meta: &meta };
        writer.result(&result).unwrap();
        self.replicas[at].engine.receive(number, &writer.finish(), self.now_ms).unwrap();
    }

    fn result(&mut self, step: &StepIn) -> (Outcome, String, String) {
        let view: serde_json::Value = serde_json::from_str(&step.state).unwrap();
        let rng = &mut self.rng;
        let token = format!("{}/{}", step.flow_key, step.step);
        let mut changes = json!({"set": {"l": [token], "n": 1, "x": step.step}, "overwrite": {}, "del": []});
        if self.is_rough && rng.chance(4) {
            changes["set"]["y"] = json!(BAD);
        }
        let changes = changes.to_string();
        let answered = step.calls.matches("kind").count();
        match rng.below(100) {
            0..=7 => {
                let class = *rng.pick(&["error", "retryable", "permanent", "rate_limited", "unavailable"]);
                let meta = json!({"code": "oops", "message": "no", "type": "E", "class": class});
                (Outcome::Error, String::new(), meta.to_string())
            }
            8..=20 if answered < 4 => {
                let depth = view["depth"].as_u64().unwrap_or(9);
                let calls: Vec<_> = (0..=rng.below(2)).map(|_| self.call(depth)).collect();
                (Outcome::Parked, changes, json!({ "calls": calls }).to_string())
            }
            21..=24 if step.attempt < 3 => (Outcome::Retry, changes, r#"{"delay_ms":20}"#.into()),
            _ => {
                let plan = self.plans.iter().find(|plan| plan.nodes.contains(&step.node)).unwrap();
                let gotos = plan.gotos.get(&step.node).filter(|_| rng.chance(20));
                let mut meta = json!({});
                if let Some(gotos) = gotos {
                    meta["goto"] = json!(rng.pick(gotos));
                }
                if rng.chance(10) {
                    meta["delay_ms"] = json!(rng.below(200));
                }
                (Outcome::Done, changes, meta.to_string())
            }
        }
    }

    fn call(&mut self, depth: u64) -> serde_json::Value {
        match self.rng.below(7) {
            0 => json!({"kind": "interrupt", "payload": 1}),
            1 => json!({"kind": "interrupt", "payload": 1, "timeout_ms": 300}),
            2 if depth < 2 => {
                let target = self.rng.pick(&["g0", "g1", "g2", "nobody"]);
                let bad = if self.is_rough && self.rng.chance(5) { BAD } else { "" };
                let mut state = input();
                (state["depth"], state["bad"]) = (json!(depth + 1), json!(bad));
                json!({"kind": "subgraph", "target": target, "input": state})
            }
            3 => json!({"kind": "sleep", "ms": 1_000}),
            4 => json!({"kind": "signal", "target": self.rng.pick(&["a", "b"])}),
            5 => json!({"kind": "signal", "target": "a", "timeout_ms": 200}),
            _ => json!({"kind": "sleep", "ms": 10}),
        }
    }

    /// The writer hands its next batch to the database.
    fn write(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if replica.written.is_some() {
            return;
        }
        if replica.writing.is_empty() {
            replica.writing.extend(replica.engine.take_batch());
        }
        let Some(batch) = replica.writing.front() else { return };
        match self.db.commit(batch, replica.number, &mut self.rng) {
            Ok(put_off) => replica.written = Some(put_off),
            Err(No::Refused) => {
                let batch = replica.writing.pop_front().unwrap();
                if let Some((first, second)) = batch.split() {
                    replica.writing.push_front(second);
                    replica.writing.push_front(first);
                } else {
                    let report = replica.engine.refuse(&batch, "bad data");
                    self.read(at, report);
                }
            }
            Err(No::Fenced) => unreachable!("the dead are gone"),
        }
    }

    /// The engine learns what became of the batch.
    fn tell(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let Some(put_off) = replica.written.take() else { return };
        let batch = replica.writing.pop_front().unwrap();
        let report = replica.engine.committed(batch, &put_off, self.now_ms);
        self.read(at, report);
    }

    fn read(&mut self, at: usize, report: Report) {
        assert!(report.broken.is_empty(), "seed {}: {:?}", self.seed, report.broken);
        self.replicas[at].loading.extend(report.reload);
    }

    fn read_mail(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        for flow in self.db.unread(Some(replica.number)) {
            let (seen, mail) = self.db.mail_of(&flow);
            replica.engine.deliver(&flow, seen, mail, self.now_ms);
        }
        for flow in replica.engine.wanted_histories() {
            replica.engine.tell_history(&flow, self.db.history(&flow), self.now_ms);
        }
    }

    fn claim(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        // Claims go between two batches.
        if replica.written.is_none() {
            let claimed = self.db.claim(replica.number, replica.engine.room(), self.now_ms);
            replica.loading.extend(claimed);
        }
    }

    fn load(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        for flow in std::mem::take(&mut replica.loading) {
            let Some(loaded) = self.db.load(&flow, replica.number) else { continue };
            let has_mail = loaded.mail > 0;
            let loaded = replica.engine.load_flow(loaded, self.now_ms);
            loaded.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            if has_mail {
                let (seen, mail) = self.db.mail_of(&flow);
                replica.engine.deliver(&flow, seen, mail, self.now_ms);
            }
        }
    }

    /// The host answers for the graphs that it was asked for.
    fn find_graphs(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.wanted.extend(replica.engine.take_wanted());
        for wanted in std::mem::take(&mut replica.wanted) {
            let answer = match &*wanted.workflow {
                "g2" => Ok(self.plans[2].id),
                _ => Err(("not_found".to_owned(), "no such workflow".to_owned())),
            };
            replica.engine.found_graph(&wanted, answer, self.now_ms);
        }
    }

    fn pass_time(&mut self, at: usize) {
        self.now_ms += *self.rng.pick(&[1, 5, 40, 90]);
        self.tick(at);
    }

    fn tick(&mut self, at: usize) {
        self.replicas[at].engine.set_steady(self.now_ms);
        self.replicas[at].engine.tick(self.now_ms);
        for late in self.replicas[at].engine.overdue() {
            if self.rng.chance(50) {
                // Its result may still come.
                self.replicas[at].engine.give_up(late.worker, late.dispatch, self.now_ms);
            } else {
                let found = self.replicas[at].workers.iter().position(|w| w.number == late.worker);
                if let Some(worker) = found {
                    self.replace_worker(at, worker);
                }
            }
        }
    }

    /// Somebody answers a question, or cancels, or tries to.
    fn send_mail(&mut self) {
        if self.is_rough && self.rng.chance(10) {
            return self.send_back();
        }
        let flows: Vec<FlowId> = self.db.live.keys().copied().collect();
        if flows.is_empty() {
            return;
        }
        let flow = *self.rng.pick(&flows);
        if self.is_rough && self.rng.chance(10) {
            let reason = if self.rng.chance(70) { BAD } else { "enough" };
            self.db.post(&flow, "cancel", json!({ "reason": reason }).to_string(), self.now_ms);
        } else if self.rng.chance(30) {
            self.answer(flow);
        } else if self.rng.chance(40) {
            let name = *self.rng.pick(&["a", "b"]);
            self.signal(flow, name);
        }
    }

    /// Somebody sends a flow back, or a step of one, with those above that had gone on without it.
    fn send_back(&mut self) {
        let flows: Vec<FlowId> = self.db.flows.keys().copied().collect();
        if flows.is_empty() {
            return;
        }
        let flow = *self.rng.pick(&flows);
        let step = 1 + self.rng.below(6);
        let what = *self.rng.pick(&["restart", "restart_from", "restart_from", "retry_step", "recover"]);
        let is_root = self.db.flows[&flow].about.parent.is_none();
        if !is_root && matches!(what, "restart" | "recover") {
            return;
        }
        let (mut chain, mut at) = (Vec::new(), flow);
        while let Some((parent, caller)) = self.db.flows[&at].about.parent {
            if !matches!(self.db.flows[&at].status, "completed" | "failed" | "cancelled") {
                break;
            }
            chain.insert(0, (parent, json!({"what": "reopen", "reopen": [[caller, hex(&at)]]})));
            at = parent;
        }
        let is_awaited = chain.is_empty() && !is_root;
        chain.push((flow, json!({"what": what, "step": step, "is_awaited": is_awaited})));
        for (flow, mut body) in chain {
            if self.rng.chance(30) {
                let chosen = if self.rng.chance(20) { BAD } else { "chosen" };
                body["overrides"] = json!({"x": chosen, "y": null});
            }
            self.db.post_or_revive(&flow, "rewind", body.to_string(), self.now_ms);
        }
    }

    fn signal(&mut self, flow: FlowId, name: &str) {
        self.asked += 1;
        let bad = self.bad(10);
        let body = json!({"name": name, "payload": format!("signal {name} {:09}{bad}", self.asked)});
        self.db.post(&flow, "signal", body.to_string(), self.now_ms);
    }

    /// At times what the database refuses, while things may go wrong.
    pub(super) fn bad(&mut self, percent: u64) -> &'static str {
        if self.is_rough && self.rng.chance(percent) {
            BAD
        } else {
            ""
        }
    }

    fn answer(&mut self, flow: FlowId) {
        self.asked += 1;
        let bad = self.bad(10);
        let mut body = json!({"answer": format!("answer {}{bad}", self.asked)});
        let open: Vec<FlowId> =
            self.db.interrupts.iter().filter(|(_, of)| **of == flow).map(|(id, _)| *id).collect();
        if !open.is_empty() && self.rng.chance(50) {
            body["interrupt_id"] = json!(hex(self.rng.pick::<FlowId>(&open)));
        }
        self.db.post(&flow, "resume", body.to_string(), self.now_ms);
    }

    fn kill_worker(&mut self, at: usize) {
        if self.is_rough {
            let worker = self.rng.below(self.replicas[at].workers.len() as u64) as usize;
            self.replace_worker(at, worker);
        }
    }

    fn replace_worker(&mut self, at: usize, worker: usize) {
        let replica = &mut self.replicas[at];
        let gone = replica.workers.swap_remove(worker);
        replica.engine.worker_gone(gone.number, "signal 9", self.now_ms);
        self.next_worker += 1;
        replica.add_worker(self.next_worker);
    }

    /// The process is gone with all it had not written; a stranger takes its place.
    fn kill_replica(&mut self, at: usize) {
        if self.is_rough && self.rng.chance(30) {
            let gone = self.replicas.swap_remove(at);
            self.db.dead.insert(gone.number);
            self.db.release_dead(self.now_ms);
            self.start_replica();
        }
    }

    /// Lets everything come to its end, without accidents.
    pub fn settle(&mut self) {
        self.is_rough = false;
        for round in 0..30_000 {
            for at in 0..self.replicas.len() {
                self.frames(at);
                for _ in 0..4 {
                    self.finish(at);
                }
                self.write(at);
                self.tell(at);
                self.read_mail(at);
                self.claim(at);
                self.load(at);
                self.find_graphs(at);
                self.tick(at);
            }
            self.now_ms += 30;
            if round % 20 == 0 {
                let open: Vec<FlowId> = self.db.interrupts.values().copied().collect();
                if let Some(flow) = open.first() {
                    self.answer(*flow);
                }
                let waits = |id: &&FlowId| self.db.flows[*id].folded.waits_for_signal("b").is_some();
                let waits_for_b = self.db.live.keys().find(waits).copied();
                let waits = |id: &&FlowId| self.db.flows[*id].folded.waits_for_signal("a").is_some();
                let waits_for_a = self.db.live.keys().find(waits).copied();
                for (flow, name) in [(waits_for_a, "a"), (waits_for_b, "b")] {
                    if let Some(flow) = flow {
                        self.signal(flow, name);
                    }
                }
                self.let_go();
                self.unpause();
            }
            let is_idle = self.replicas.iter().all(|replica| replica.engine.entries() == 0);
            if self.db.live.is_empty() && is_idle {
                return;
            }
        }
        self.report_stuck();
    }

    fn report_stuck(&self) -> ! {
        for (id, row) in &self.db.live {
            let flow = &self.db.flows[id].folded;
            eprintln!(
                "{} owner {:?} mail {} ready {:?} wake {:?}",
                hex(id),
                row.owner,
                row.mail,
                row.ready_at,
                row.wake_at
            );
            eprintln!("  {}", flow.snapshot());
        }
        for replica in &self.replicas {
            let engine = &replica.engine;
            eprintln!("replica {}: {:?}, {} entries", replica.number, engine.load(), engine.entries());
        }
        panic!("seed {}: not everything came to its end", self.seed);
    }

    /// What must hold when all is over.
    pub fn check(&self) {
        for (id, flow) in &self.db.flows {
            self.check_flow(id, flow);
        }
        assert!(self.db.interrupts.is_empty(), "seed {}: questions of ended flows", self.seed);
    }

    fn check_flow(&self, id: &FlowId, flow: &super::database::FlowRow) {
        let seed = self.seed;
        let output: serde_json::Value = serde_json::from_str(flow.output.as_ref().unwrap()).unwrap();
        let tokens: Vec<&str> =
            output["l"].as_array().unwrap().iter().filter_map(|token| token.as_str()).collect();
        let mut once = tokens.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(tokens.len(), once.len(), "seed {seed}: an effect was folded twice: {tokens:?}");
        let answers: Vec<String> = flow
            .journal
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::Resolved { answer: Ok(answer), .. } => Some(answer.raw().to_owned()),
                _ => None,
            })
            .collect();
        let is_rewound = self.db.is_rewound(id);
        for name in ["a", "b"].into_iter().filter(|_| !is_rewound) {
            let prefix = format!("\"signal {name} ");
            let came: Vec<&String> = answers.iter().filter(|answer| answer.starts_with(&prefix)).collect();
            let mut sorted = came.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(came, sorted, "seed {seed}: signals came twice, or in another order");
        }
        let mut cancels = 0;
        for letter in self.db.inbox.get(id).into_iter().flatten() {
            let verdict = letter.verdict.as_ref();
            let verdict = verdict.unwrap_or_else(|| panic!("seed {seed}: no verdict on {}", letter.kind));
            let is_obeyed = verdict.starts_with("{\"ok\":true");
            let body: serde_json::Value = serde_json::from_str(&letter.body).unwrap();
            match &*letter.kind {
                "resume" => {
                    let asked = body["answer"].to_string();
                    let came = answers.iter().filter(|answer| **answer == asked).count();
                    assert_eq!(came, usize::from(is_obeyed), "seed {seed}: {verdict}");
                }
                "cancel" => cancels += usize::from(is_obeyed),
                _ => {}
            }
        }
        assert!(cancels <= 1 || is_rewound, "seed {seed}: cancelled twice");
        assert!(
            cancels == 0 || is_rewound || flow.status == "cancelled",
            "seed {seed}: cancelled and {}",
            flow.status
        );
    }
}

impl Replica {
    fn add_worker(&mut self, number: u32) {
        self.engine.worker_ready(number);
        let worker =
            Worker { number, reader: FrameReader::new(), running: Vec::new(), cancelled: Vec::new() };
        self.workers.push(worker);
    }
}

/// A step that starts is one that the committed journal has, neither finished nor waiting.
fn check_start(db: &Database, seed: u64, replica: i64, step: &StepIn) {
    let (_, id) = penstock_core::ids::parse_flow_key(&step.flow_key).unwrap();
    let Some(live) = db.live.get(&id) else { return };
    if live.owner != Some(replica) {
        return;
    }
    let flow = &db.flows[&id].folded;
    let found = flow.step(step.step).unwrap_or_else(|| panic!("seed {seed}: step {} runs again", step.step));
    assert!(!found.is_parked(), "seed {seed}: step {} runs while it waits", step.step);
    assert_eq!(found.attempt, step.attempt, "seed {seed}: another attempt");
    assert_eq!(flow.view(found).to_json(), step.state, "seed {seed}: another view");
    let is_waiting = flow.open_calls(CallKind::Sleep).iter().any(|(number, ..)| *number == step.step);
    assert!(!is_waiting, "seed {seed}: it sleeps");
    assert!(live.crashes == 0 || found.is_started, "seed {seed}: an unguarded start after a crash");
    assert!(found.is_runnable(), "seed {seed}: a breakpoint holds step {}", step.step);
    // Somebody is just letting it go, and will hear so with the commit.
    let root = db.flows[&id].about.root;
    let mut letters = db.inbox.iter().filter(|(flow, _)| db.flows[*flow].about.root == root);
    let is_let_go = letters.any(|(_, letters)| {
        letters.iter().any(|letter| letter.verdict.is_none() && !letter.kind.starts_with("child_"))
    });
    let may_start = found.is_started || is_let_go;
    assert!(!flow.is_paused() || may_start, "seed {seed}: the flow is paused");
    assert!(!flow.breaks_before(found) || may_start, "seed {seed}: a breakpoint was passed");
}

fn plan(rng: &mut Rng, seed: u64, at: usize) -> Plan {
    let tree = make(rng, Kinds { routes: true, wild: true, races: true }, 8);
    let mut definition = definition(&tree);
    // Node names tell the graphs apart.
    let prefix = format!("g{at}");
    let text = definition.to_string().replace("\"n", &format!("\"{prefix}n"));
    let text = text
        .replace(&format!("\"{prefix}name\""), "\"name\"")
        .replace(&format!("\"{prefix}nodes\""), "\"nodes\"");
    let text =
        text.replace(&format!("\"{prefix}n\":"), "\"n\":").replace(&format!("\"{prefix}n % 2"), "\"n % 2");
    definition = serde_json::from_str(&text).unwrap();
    let graph =
        penstock_core::graph::Graph::compile(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
    let mut gotos: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for edge in definition["edges"].as_array().unwrap().iter().filter(|edge| edge["kind"] == "goto") {
        let [from, to] = ["from", "to"].map(|end| edge[end].as_str().unwrap().to_owned());
        gotos.entry(from).or_default().push(to);
    }
    let nodes = graph.nodes().iter().map(|node| node.name.to_string()).collect();
    Plan { id: *graph.id(), definition: text, name: prefix, gotos, nodes }
}
