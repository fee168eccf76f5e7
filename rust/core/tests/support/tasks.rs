//! What random tasks do: a function of the seed, the place and what they see, so that any order gives the same.

use serde_json::{json, Map, Value};

use super::rng::Rng;

/// Where a step stands, in words that do not depend on the order in which steps finish.
#[derive(Clone, Debug)]
pub struct Place {
    /// The branch, from the trunk inwards.
    pub path: String,
    pub node: String,
    /// How often this node ran in this branch before.
    pub visit: u64,
    pub attempt: u32,
    /// Calls that have their answer.
    pub answered: usize,
}

/// How often, in percent, tasks do what is not just returning.
#[derive(Clone, Copy, Default)]
pub struct Habits {
    pub fail: u64,
    pub park: u64,
    pub retry: u64,
    pub delay: u64,
}

/// The end of an attempt, in the worker's forms.
pub enum Act {
    Done { changes: Value, goto: bool, delay_ms: u64 },
    Failed { meta: Value },
    Parked { changes: Value, calls: Value },
    Retry { changes: Value },
}

pub fn act(seed: u64, habits: Habits, place: &Place, view: &Value) -> Act {
    let Place { path, node, visit, attempt, answered } = place;
    let mut rng = Rng::at(seed, &format!("{path} {node} {visit} {attempt} {answered}"));
    if rng.chance(habits.fail) {
        return failed(&mut rng, node, *visit);
    }
    let changes = changes(&mut rng, place, view);
    if *answered < 3 && rng.chance(habits.park) {
        return Act::Parked { changes, calls: calls(&mut rng, node) };
    }
    if *attempt < 3 && rng.chance(habits.retry) {
        return Act::Retry { changes };
    }
    let goto = *visit < 2 && rng.chance(50);
    Act::Done { changes, goto, delay_ms: if rng.chance(habits.delay) { 1 + rng.below(40) } else { 0 } }
}

fn failed(rng: &mut Rng, node: &str, visit: u64) -> Act {
    let class = *rng.pick(&["error", "error", "retryable", "permanent", "rate_limited"]);
    let mut meta = json!({"code": "oops", "message": format!("{node} \u{0} failed"), "type": "builtins.OSError",
        "traceback": "Traceback", "retryable": class == "retryable", "class": class, "data": {"visit": visit}});
    if class == "rate_limited" {
        // A bounce has no end of its own; the attempt number does not move.
        meta["class"] = json!("error");
        meta["retry_after_ms"] = json!(5);
    }
    Act::Failed { meta }
}

fn calls(rng: &mut Rng, node: &str) -> Value {
    let calls = (0..=rng.below(2)).map(|at| match rng.below(6) {
        0 => {
            json!({"kind": "interrupt", "key": format!("k{at}"), "payload": {"ask": node}, "timeout_ms": 500})
        }
        1 => json!({"kind": "interrupt", "payload": node, "at": at}),
        2 => json!({"kind": "signal", "target": "go", "at": at}),
        3 => json!({"kind": "signal", "target": node, "timeout_ms": 500, "at": at}),
        4 => json!({"kind": "subgraph", "target": "child", "input": {}, "key": format!("k{at}")}),
        _ => json!({"kind": "sleep", "ms": 5}),
    });
    Value::Array(calls.collect())
}

/// Contributions to every reducer, among them of what is seen, and plain fields set and deleted.
fn changes(rng: &mut Rng, place: &Place, view: &Value) -> Value {
    let (mut set, mut overwrite, mut del) = (Map::new(), Map::new(), Vec::new());
    let mut put = |rng: &mut Rng, field: &str, value: Value| {
        if rng.chance(40) {
            set.insert(field.into(), value);
        }
    };
    let seen = view["n"].as_i64().unwrap_or(0);
    let element = view.as_object().and_then(|fields| fields.iter().find(|(name, _)| name.starts_with('i')));
    let number = rng.below(9);
    put(rng, "n", json!(seen % 5 + number as i64));
    put(rng, "l", json!([place.node, element.map(|(_, value)| value)]));
    put(rng, "l", json!(place.visit));
    put(rng, "u", json!([number]));
    put(rng, "t", json!(seen));
    put(rng, "c", json!(place.node));
    put(rng, "m", json!({ place.node.clone(): seen }));
    put(rng, "x", json!({"by": place.node, "c": view["c"]}));
    put(rng, "y", json!(null));
    put(rng, "two", json!([number, place.node]));
    if let Some((name, _)) = element {
        put(rng, name, json!("private"));
    }
    if rng.chance(10) {
        overwrite.insert("t".into(), json!(number));
        set.remove("t");
    }
    if rng.chance(10) {
        set.remove("x");
        del.push("x");
    }
    json!({"set": set, "overwrite": overwrite, "del": del})
}
