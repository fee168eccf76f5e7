//! Rules of children whose graphs are looked for, one scenario each.

#[path = "support/bench.rs"]
mod bench;

use bench::{names, Bench, LEAF, NOW};
use penstock_core::batch::{Batch, Op};
use penstock_core::engine::{LoadedFlow, Mail};
use penstock_core::flow::{Event, EventBody};
use penstock_core::wire::Outcome;

/// A flow that waits for children whose workflow nobody knows yet; with what was written of it.
fn waiting(calls: &str) -> (Bench, [u8; 16], Vec<Batch>) {
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    bench.engine.ask_for_graphs();
    let flow = bench.create("leaf", 1);
    let mut batches = bench.commit();
    bench.finish("ask", Outcome::Parked, calls);
    batches.extend(bench.commit());
    (bench, flow, batches)
}

const ONE: &str = r#"{"calls":[{"kind":"subgraph","target":"shelf","input":{}}]}"#;
const TWO: &str = r#"{"calls":[{"kind":"subgraph","target":"shelf","input":{}},
    {"kind":"subgraph","target":"rack","input":{}}]}"#;

#[test]
fn each_graph_is_asked_for_once() {
    let (mut bench, _, _) = waiting(TWO);
    let wanted = bench.engine.take_wanted();
    let workflows: Vec<&str> = wanted.iter().map(|wanted| &*wanted.workflow).collect();
    assert_eq!(workflows, ["shelf", "rack"]);
}

#[test]
fn a_child_that_was_never_created_is_told_nothing() {
    let (mut bench, flow, _) = waiting(ONE);
    for (seq, kind) in [(1, "pause"), (2, "cancel")] {
        bench.engine.deliver(&flow, seq, vec![Mail { seq, kind: kind.into(), body: "{}".into() }], NOW);
    }
    assert_eq!(names(&bench.commit()), ["control", "Verdict", "control", "cancelled", "Verdict"]);
    let wanted = bench.engine.take_wanted();
    assert!(!bench.engine.found_graph(&wanted[0], Err(("not_found".into(), "none".into())), NOW));
    assert_eq!(bench.engine.entries(), 0);
}

#[test]
fn a_step_that_hears_at_its_load_that_nobody_finds_the_graph_runs_after_the_commit_of_that() {
    let (_, flow, batches) = waiting(ONE);
    let rows = batches.iter().flat_map(|batch| &batch.items);
    let events = rows.filter_map(|item| match &item.op {
        Op::Journal(row) => Some(Event {
            ord: row.ord,
            step: row.step,
            attempt: row.attempt,
            at: row.at,
            body: EventBody::from_json(row.event, &row.body).unwrap(),
        }),
        _ => None,
    });
    // Another engine, which has nobody to ask.
    let mut bench = Bench::new(1, &[("leaf", LEAF)]);
    let about = bench.about("leaf", 1);
    let loaded = LoadedFlow {
        about,
        claims: 2,
        crashes: 0,
        mail: 0,
        is_finished: false,
        events: events.collect(),
        journal_bytes: 0,
    };
    bench.engine.load_flow(loaded, NOW).unwrap();
    bench.hand_out();
    assert!(bench.running.is_empty(), "its answer is not committed");
    assert_eq!(names(&bench.commit())[0], "resolved");
    assert_eq!(bench.running.len(), 1);
    assert!(bench.running[0].1.calls.contains("not_found"));
    assert_eq!(bench.running[0].1.flow_key, penstock_core::ids::flow_key(1, &flow));
}
