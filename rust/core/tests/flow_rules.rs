//! Rules of flows that chance seldom meets, one scenario each.

#[path = "support/bench.rs"]
mod bench;

use std::sync::Arc;

use bench::LEAF;
use penstock_core::engine::input_state;
use penstock_core::flow::event::Control;
use penstock_core::flow::{Call, Event, EventBody, Flow};
use penstock_core::graph::Graph;
use penstock_core::json::Value;
use penstock_core::state::Changes;

fn fresh() -> Flow {
    let graph = Arc::new(Graph::compile(LEAF).unwrap());
    let input = input_state("{}", graph.reducers()).unwrap();
    Flow::new(graph, "flow".into(), input, 0)
}

fn take(flow: &mut Flow, step: u64, body: EventBody) {
    flow.apply(&Event { ord: flow.ord() + 1, step, attempt: 0, at: 0, body }, None).unwrap();
}

fn signal(name: &str) -> EventBody {
    EventBody::Control(Control::Signal { name: name.into(), payload: Value::null() })
}

#[test]
fn a_fork_tells_the_signals_of_its_origin_from_its_own() {
    let mut origin = fresh();
    take(&mut origin, 0, signal("first"));
    take(&mut origin, 0, signal("kept"));
    let mut fork = fresh();
    take(&mut fork, 0, EventBody::Snapshot(origin.snapshot()));
    take(&mut fork, 0, signal("own"));
    for (at, name) in (0..).zip(["own", "kept"]) {
        let call = format!(r#"{{"kind":"signal","target":"{name}","at":{at}}}"#);
        let call = Call::from_json(&Value::parse(&call).unwrap()).unwrap();
        take(&mut fork, 1, EventBody::Parked { changes: Changes::default(), calls: vec![call] });
        let (ord, _) = fork.kept_signal(name).unwrap();
        take(&mut fork, 1, EventBody::Resolved { call: at, answer: Ok(Value::null()), signal: Some(ord) });
    }
    let kept = ["first", "kept", "own"].map(|name| fork.kept_signal(name).is_some());
    assert_eq!(kept, [true, false, false]);
}
