//! One engine whose workers do what a test says, and a database that says yes.
#![allow(dead_code, reason = "every test file uses a part of it")]

use penstock_core::batch::{Batch, NewFlow, Op};
use penstock_core::engine::{Engine, Options};
use penstock_core::ids::FlowId;
use penstock_core::scheduler::TaskKind;
use penstock_core::wire::{FrameReader, FrameWriter, Message, Outcome, ResultOut, StepIn};

pub const NOW: i64 = 1_000_000;

/// An engine with workers that do what a test says, and a database that says yes.
pub struct Bench {
    pub engine: Engine,
    pub readers: Vec<FrameReader>,
    /// Steps in the workers, with their worker.
    pub running: Vec<(u32, StepIn)>,
    pub cancelled: Vec<u64>,
}

impl Bench {
    pub fn new(workers: u32, graphs: &[(&str, &str)]) -> Self {
        let mut seed = 0_u128;
        let random = Box::new(move || {
            seed += 1;
            seed.to_le_bytes()
        });
        let mut engine = Engine::new(Options { threads: 4, ..Options::default() }, random);
        for (workflow, definition) in graphs {
            let id = engine.add_graph(definition).unwrap();
            engine.publish(workflow, id).unwrap();
        }
        engine.set_default_kind(TaskKind::Async);
        engine.set_steady(NOW);
        (0..workers).for_each(|worker| engine.worker_ready(worker));
        let readers = (0..workers).map(|_| FrameReader::new()).collect();
        Self { engine, readers, running: Vec::new(), cancelled: Vec::new() }
    }

    pub fn create(&mut self, workflow: &str, number: u8) -> FlowId {
        let flow = self.about(workflow, number);
        let id = flow.id;
        self.engine.create(flow).unwrap();
        id
    }

    pub fn about(&self, workflow: &str, number: u8) -> NewFlow {
        let id = [number; 16];
        NewFlow {
            id,
            root: id,
            parent: None,
            workflow: workflow.into(),
            graph: self.engine.workflow(workflow).unwrap(),
            priority: 100,
            fairness_key: String::new(),
            fairness_weight: 1.0,
            time_budget_ms: 1_000,
            thread: id,
            turn: 1,
            tags: None,
            input: "{}".into(),
            baggage: None,
            trace_parent: None,
            notify: None,
            delete_on_completion: false,
            created_at: NOW,
            first: Vec::new(),
        }
    }

    /// Commits what waits, and hands out what is ready then, until nothing moves.
    pub fn commit(&mut self) -> Vec<Batch> {
        let mut batches = Vec::new();
        while let Some(batch) = self.engine.take_batch() {
            self.engine.committed(batch.clone(), &[], NOW);
            batches.push(batch);
            self.hand_out();
        }
        batches
    }

    pub fn hand_out(&mut self) {
        self.hand_out_at(NOW);
    }

    /// Lets time pass by every clock.
    pub fn pass_to(&mut self, now_ms: i64) {
        self.engine.set_steady(now_ms);
        self.engine.tick(now_ms);
    }

    pub fn hand_out_at(&mut self, now_ms: i64) {
        for (worker, bytes) in self.engine.frames(now_ms) {
            for message in self.readers[worker as usize].feed(&bytes).unwrap() {
                match message {
                    Message::Steps(steps) => {
                        self.running.extend(steps.into_iter().map(|step| (worker, step)));
                    }
                    Message::Cancel(dispatch) => self.cancelled.push(dispatch),
                    _ => {}
                }
            }
        }
    }

    pub fn finish(&mut self, node: &str, outcome: Outcome, meta: &str) {
        let at = self.running.iter().position(|(_, step)| step.node == node);
        let (worker, step) = self.running.swap_remove(at.unwrap_or_else(|| panic!("{node} does not run")));
        let mut writer = FrameWriter::new();
        let result = ResultOut { dispatch: step.dispatch, outcome, ran_us: 1, changes: "", meta };
        writer.result(&result).unwrap();
        self.engine.receive(worker, &writer.finish(), NOW).unwrap();
    }
}

pub const LEAF: &str = r#"{"name":"leaf","entry":"ask","nodes":[{"name":"ask"}]}"#;
pub const PAIR: &str = r#"{"name":"pair","entry":"open","nodes":[
    {"name":"open","on_failure":{"policy":"fail_fast"}},{"name":"left"},{"name":"right"},{"name":"meet","fan_in":true}],
    "edges":[{"from":"open","to":"left","kind":"plain"},{"from":"open","to":"right","kind":"plain"},
    {"from":"left","to":"meet","kind":"plain"},{"from":"right","to":"meet","kind":"plain"}]}"#;
/// It lapses soon, so the flow is not released meanwhile.
pub const INTERRUPT: &str = r#"{"calls":[{"kind":"interrupt","payload":1,"timeout_ms":500}]}"#;
pub const FAILURE: &str = r#"{"code":"oops","message":"no","class":"error"}"#;

pub fn names(batches: &[Batch]) -> Vec<String> {
    let items = batches.iter().flat_map(|batch| &batch.items);
    let name = |op: &Op| match op {
        Op::Stop(row) => row.status.to_owned(),
        Op::CloseInterrupt { .. } => "close".into(),
        Op::Journal(row) => row.event.into(),
        other => format!("{other:?}").chars().take_while(|c| c.is_alphabetic()).collect(),
    };
    items.map(|item| name(&item.op)).collect()
}
