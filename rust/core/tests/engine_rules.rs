//! Rules of the engine that chance seldom meets, one scenario each.

use penstock_core::batch::{Batch, NewFlow, Op};
use penstock_core::engine::{Engine, Mail, Options};
use penstock_core::ids::FlowId;
use penstock_core::scheduler::TaskKind;
use penstock_core::wire::{FrameReader, FrameWriter, Message, Outcome, ResultOut, StepIn};

const NOW: i64 = 1_000_000;

/// An engine with workers that do what a test says, and a database that says yes.
struct Bench {
    engine: Engine,
    readers: Vec<FrameReader>,
    /// Steps in the workers, with their worker.
    running: Vec<(u32, StepIn)>,
    cancelled: Vec<u64>,
}

impl Bench {
    fn new(workers: u32, graphs: &[(&str, &str)]) -> Self {
        let mut seed = 0;
        let random = Box::new(move || {
            seed += 1;
            [seed; 16]
        });
        let mut engine = Engine::new(Options { threads: 4, ..Options::default() }, random);
        for (workflow, definition) in graphs {
            let id = engine.add_graph(definition).unwrap();
            engine.publish(workflow, id).unwrap();
        }
        engine.set_default_kind(TaskKind::Async);
        (0..workers).for_each(|worker| engine.worker_ready(worker));
        let readers = (0..workers).map(|_| FrameReader::new()).collect();
        Self { engine, readers, running: Vec::new(), cancelled: Vec::new() }
    }

    fn create(&mut self, workflow: &str, number: u8) -> FlowId {
        let id = [number; 16];
        let flow = NewFlow {
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
        };
        self.engine.create(flow).unwrap();
        id
    }

    /// Commits what waits, and hands out what is ready then, until nothing moves.
    fn commit(&mut self) -> Vec<Batch> {
        let mut batches = Vec::new();
        while let Some(batch) = self.engine.take_batch() {
            self.engine.committed(batch.clone(), &[], NOW);
            batches.push(batch);
            self.hand_out();
        }
        batches
    }

    fn hand_out(&mut self) {
        for (worker, bytes) in self.engine.frames(NOW) {
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

    fn finish(&mut self, node: &str, outcome: Outcome, meta: &str) {
        let at = self.running.iter().position(|(_, step)| step.node == node);
        let (worker, step) = self.running.swap_remove(at.unwrap_or_else(|| panic!("{node} does not run")));
        let mut writer = FrameWriter::new();
        let result = ResultOut { dispatch: step.dispatch, outcome, ran_us: 1, changes: "", meta };
        writer.result(&result).unwrap();
        self.engine.receive(worker, &writer.finish(), NOW).unwrap();
    }
}

const LEAF: &str = r#"{"name":"leaf","entry":"ask","nodes":[{"name":"ask"}]}"#;
const PAIR: &str = r#"{"name":"pair","entry":"open","nodes":[
    {"name":"open","on_failure":{"policy":"fail_fast"}},{"name":"left"},{"name":"right"},{"name":"meet","fan_in":true}],
    "edges":[{"from":"open","to":"left","kind":"plain"},{"from":"open","to":"right","kind":"plain"},
    {"from":"left","to":"meet","kind":"plain"},{"from":"right","to":"meet","kind":"plain"}]}"#;
/// It lapses soon, so the flow is not released meanwhile.
const INTERRUPT: &str = r#"{"calls":[{"kind":"interrupt","payload":1,"timeout_ms":500}]}"#;
const FAILURE: &str = r#"{"code":"oops","message":"no","class":"error"}"#;

fn names(batches: &[Batch]) -> Vec<String> {
    let items = batches.iter().flat_map(|batch| &batch.items);
    let name = |op: &Op| match op {
        Op::Stop(row) => row.status.to_owned(),
        Op::CloseInterrupt { .. } => "close".into(),
        Op::Journal(row) => row.event.into(),
        other => format!("{other:?}").chars().take_while(|c| c.is_alphabetic()).collect(),
    };
    items.map(|item| name(&item.op)).collect()
}

#[test]
fn a_sibling_that_is_cancelled_takes_its_question_and_its_child_with_it() {
    let mut bench = Bench::new(1, &[("pair", PAIR), ("leaf", LEAF)]);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    let both =
        r#"{"calls":[{"kind":"subgraph","target":"leaf","input":{}},{"kind":"interrupt","payload":1}]}"#;
    bench.finish("left", Outcome::Parked, both);
    bench.commit();
    bench.finish("right", Outcome::Error, FAILURE);
    let batches = bench.commit();
    assert_eq!(names(&batches), ["failed", "close", "control", "cancelled", "failed"]);
    bench.hand_out();
    assert_eq!(bench.cancelled.len(), 1);
    bench.finish("ask", Outcome::Done, "");
    assert_eq!(bench.engine.entries(), 0);
}

#[test]
fn a_sibling_that_runs_is_told_to_stop_and_its_late_result_counts_for_nothing() {
    let mut bench = Bench::new(1, &[("pair", PAIR)]);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    bench.finish("right", Outcome::Error, FAILURE);
    bench.commit();
    bench.hand_out();
    assert_eq!(bench.cancelled.len(), 1);
    bench.finish("left", Outcome::Done, "");
    assert!(!bench.engine.has_batch());
    assert_eq!(bench.engine.entries(), 0);
}

#[test]
fn a_flow_is_loaded_again_only_when_no_part_of_the_batch_holds_rows_of_it() {
    let mut bench = Bench::new(1, &[("pair", PAIR), ("leaf", LEAF)]);
    let parent = bench.create("leaf", 1);
    bench.commit();
    bench.finish("ask", Outcome::Parked, r#"{"calls":[{"kind":"subgraph","target":"leaf","input":{}}]}"#);
    bench.commit();
    let child = bench.engine.owned().into_iter().find(|flow| *flow != parent).unwrap();
    for flow in [parent, child] {
        let mail = Mail { seq: 1, kind: "resume".into(), body: "{}".into() };
        assert!(bench.engine.deliver(&flow, 1, vec![mail], NOW));
    }
    let batch = bench.engine.take_batch().unwrap();
    let (first, second) = batch.split().unwrap();
    let (of_parent, of_child) = if first.items[0].flow == parent { (first, second) } else { (second, first) };
    // What the child comes to is bound to its parent, and not written yet.
    bench.finish("ask", Outcome::Done, "");
    let report = bench.engine.refuse(&of_parent, "bad data");
    assert_eq!(report.reload, [parent]);
    let report = bench.engine.committed(of_child, &[], NOW);
    assert_eq!(report.reload, [child]);
    assert!(!bench.engine.has_batch());
}

#[test]
fn only_losses_alone_make_a_step_poison() {
    let mut bench = Bench::new(1, &[("pair", PAIR), ("leaf", LEAF)]);
    bench.create("pair", 1);
    bench.commit();
    bench.finish("open", Outcome::Done, "");
    bench.commit();
    let mut events = Vec::new();
    for worker in 0..10 {
        let steps = bench.running.len();
        bench.running.clear();
        bench.engine.worker_gone(worker, "signal 9", NOW);
        bench.engine.worker_ready(worker + 1);
        bench.readers.push(FrameReader::new());
        let batches = bench.commit();
        events.extend(names(&batches));
        assert!(steps == 2 || (worker > 0 && steps < 2), "lost steps run one at a time");
        if events.iter().any(|event| event == "failed") {
            break;
        }
    }
    // One loss of both together, then three of each alone: the first to reach them ends the flow.
    let lost = events.iter().filter(|event| *event == "lost").count();
    assert!((4..=6).contains(&lost), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("failed"));
}

#[test]
fn a_malformed_interrupt_id_answers_nothing() {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    let flow = bench.create("leaf", 1);
    bench.commit();
    bench.finish("ask", Outcome::Parked, INTERRUPT);
    bench.commit();
    let body = r#"{"interrupt_id":"nonsense","answer":1}"#.to_owned();
    bench.engine.deliver(&flow, 1, vec![Mail { seq: 1, kind: "resume".into(), body }], NOW);
    let batches = bench.commit();
    let verdicts: Vec<_> = batches.iter().flat_map(|batch| &batch.items).map(|item| &item.op).collect();
    assert!(matches!(verdicts[0], Op::Verdict { verdict, .. } if verdict.contains("conflict")));
}
