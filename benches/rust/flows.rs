//! What the state machine costs: one settled step of a chain, replay of its journal, a join of a thousand branches.

#![expect(missing_docs, reason = "criterion's macro makes the public function")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use penstock_core::flow::{Context, Event, Flow, TaskResult};
use penstock_core::graph::Graph;
use penstock_core::state::{Changes, State};

const LOOP: &str = r#"{"name":"loop","entry":"a","nodes":[{"name":"a"},{"name":"b"}],
    "edges":[{"from":"a","to":"b","kind":"plain"},{"from":"b","to":"a","kind":"plain"}]}"#;
const WIDE: &str = r#"{"name":"wide","entry":"open","nodes":[{"name":"open"},{"name":"each"},{"name":"meet","fan_in":true}],
    "edges":[{"from":"open","to":"each","kind":"for_each","over":"items","bind":"item"},
    {"from":"each","to":"meet","kind":"plain"}]}"#;
const BRANCHES: usize = 1_000;
const STEPS: u64 = 10_000;

fn start(definition: &str, input: &str) -> Flow {
    let graph = Arc::new(Graph::compile(definition).unwrap());
    Flow::new(graph, "1-aaaaaaaaaaaaaaaaaaaaaaaaaa".into(), State::from_json(input).unwrap(), 1_000)
}

/// Settles a step and applies what comes of it, as the engine does.
fn finish(flow: &mut Flow, step: u64) -> Event {
    let mut new_id = || [7; 16];
    let mut context = Context { now_ms: 2_000, seed: 1, max_event_bytes: 1 << 24, new_id: &mut new_id };
    let result = TaskResult::Done { changes: Changes::default(), goto: None, delay_ms: 0 };
    let settled = flow.settle(step, &result, &mut context).unwrap();
    flow.apply(&settled.event, settled.after).unwrap();
    settled.event
}

fn linear(bench: &mut Criterion) {
    let input = r#"{"text":"a few fields","count":3,"list":[1,2,3]}"#;
    let mut flow = start(LOOP, input);
    let mut step = 0;
    bench.bench_function("settle + apply, one step of a chain", |bench| {
        bench.iter(|| {
            if step == 900_000 {
                (flow, step) = (start(LOOP, input), 0);
            }
            step += 1;
            black_box(finish(&mut flow, step).ord)
        });
    });
    let mut flow = start(LOOP, input);
    let journal: Vec<Event> = (1..=STEPS).map(|step| finish(&mut flow, step)).collect();
    let mut group = bench.benchmark_group("replay");
    group.throughput(Throughput::Elements(STEPS));
    let graph = Arc::new(Graph::compile(LOOP).unwrap());
    group.bench_function("events of a chain", |bench| {
        bench.iter(|| {
            let state = State::from_json(input).unwrap();
            let flow =
                Flow::replay(graph.clone(), "1-aaaaaaaaaaaaaaaaaaaaaaaaaa".into(), state, 1_000, &journal);
            black_box(flow.unwrap().ord())
        });
    });
    group.finish();
}

fn join(bench: &mut Criterion) {
    let items: Vec<String> = (0..BRANCHES).map(|item| item.to_string()).collect();
    let input = format!("{{\"items\":[{}]}}", items.join(","));
    let mut flow = start(WIDE, &input);
    finish(&mut flow, 1);
    (2..=BRANCHES as u64).for_each(|step| {
        finish(&mut flow, step);
    });
    let last = flow.steps().next().unwrap().number;
    bench.bench_function("the last of 1 000 branches and their join", |bench| {
        bench.iter_batched_ref(
            || flow.clone(),
            |flow| black_box(finish(flow, last).ord),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, linear, join);
criterion_main!(benches);
