//! What random tasks do: a function of the seed, the place, what they see and what they were answered, so that any
//! order gives the same.

use serde_json::{json, Map, Value};

use super::rng::Rng;

/// Where a step stands, in words that do not depend on the order in which steps finish.
#[derive(Clone, Debug)]
pub struct Place {
    /// The flow and the branch, from the trunk inwards.
    pub path: String,
    pub node: String,
    /// How often this node ran in this branch before.
    pub visit: u64,
    /// How many attempts of this step have ended, in whatever way.
    pub tries: u64,
}

/// How often, in percent, tasks do what is not just returning.
#[derive(Clone, Copy, Default)]
pub struct Habits {
    pub fail: u64,
    pub park: u64,
    pub retry: u64,
    pub delay: u64,
    /// Contributions that their reducers cannot take, gotos that no edge declares.
    pub err: u64,
    /// Whether parks call children, too, and errors send steps back unharmed.
    pub wild: bool,
}

/// A task's wish to leave its edges alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goto {
    No,
    Yes,
    /// To a node that no edge declares.
    Astray,
}

/// The end of an attempt, in the worker's forms.
#[derive(Debug)]
pub enum Act {
    Done { changes: Value, goto: Goto, delay_ms: u64 },
    Failed { meta: Value },
    Parked { changes: Value, calls: Vec<Value> },
    Retry { changes: Value, delay_ms: u64 },
}

/// `answers`: what the calls of the step were answered, `{"answer": …}` or `{"error": code}`.
pub fn act(seed: u64, habits: Habits, place: &Place, view: &Value, answers: &[Value]) -> Act {
    let Place { path, node, visit, tries } = place;
    let mut rng = Rng::at(seed, &format!("{path} {node} {visit} {tries}"));
    if rng.chance(habits.fail) {
        return failed(&mut rng, habits, place);
    }
    let mut changes = changes(&mut rng, place, view, answers);
    if *tries < 5 && rng.chance(habits.park) {
        return Act::Parked { changes, calls: calls(&mut rng, habits, place, view) };
    }
    if *tries < 5 && rng.chance(habits.retry) {
        return Act::Retry { changes, delay_ms: rng.below(2) * 30 };
    }
    if rng.chance(habits.err) {
        let bad = *rng.pick(&["n", "m", "p", "c"]);
        changes["overwrite"].as_object_mut().unwrap().remove(bad);
        changes["set"][bad] = if bad == "c" { json!(5) } else { json!("text") };
    }
    let goto = match (rng.chance(habits.err), *visit < 2 && rng.chance(50)) {
        (true, _) => Goto::Astray,
        (false, true) => Goto::Yes,
        (false, false) => Goto::No,
    };
    Act::Done { changes, goto, delay_ms: if rng.chance(habits.delay) { 1 + rng.below(40) } else { 0 } }
}

fn failed(rng: &mut Rng, habits: Habits, place: &Place) -> Act {
    // None that goes back unharmed: nothing is written of that, so it would do the same for ever.
    let mut class = *rng.pick(&["error", "error", "retryable", "permanent"]);
    if !habits.wild || place.tries >= 5 {
        class = if class == "permanent" { class } else { "error" };
    }
    let code = *rng.pick(&["oops", "no"]);
    let meta = json!({"code": code, "message": format!("{} \u{0} failed", place.node),
        "type": "builtins.OSError", "traceback": "Traceback", "retryable": class == "retryable", "class": class,
        "data": {"visit": place.visit}});
    Act::Failed { meta }
}

fn calls(rng: &mut Rng, habits: Habits, place: &Place, view: &Value) -> Vec<Value> {
    let node = &place.node;
    let one = |rng: &mut Rng, number: u64| {
        let at = place.tries * 4 + number;
        match rng.below(if habits.wild { 10 } else { 6 }) {
            0 => {
                json!({"kind": "interrupt", "key": format!("k{at}"), "payload": {"ask": node}, "timeout_ms": 500})
            }
            1 => json!({"kind": "interrupt", "payload": node, "at": at}),
            2 => json!({"kind": "signal", "target": "go", "at": at}),
            3 => json!({"kind": "signal", "target": node, "timeout_ms": 500, "at": at}),
            4 if !habits.wild => {
                json!({"kind": "subgraph", "target": "child", "input": {}, "key": format!("k{at}")})
            }
            5 => json!({"kind": "sleep", "ms": *rng.pick(&[5, 5, 20_000]), "at": at}),
            _ => child(rng, view, at),
        }
    };
    (0..=rng.below(2)).map(|number| one(rng, number)).collect()
}

/// A call of one of the case's programs, no deeper than three.
fn child(rng: &mut Rng, view: &Value, at: u64) -> Value {
    let depth = view["depth"].as_u64().unwrap_or(0);
    let target = *rng.pick(&["g0", "g1", "g2", "g1", "nobody"]);
    if depth >= 2 {
        return json!({"kind": "sleep", "ms": 5, "at": at});
    }
    let mut input = super::blocks::input();
    input["depth"] = json!(depth + 1);
    input["n"] = json!(rng.below(9));
    json!({"kind": "subgraph", "target": target, "input": input, "at": at})
}

/// Contributions to every reducer, among them of what is seen, and plain fields set and deleted.
fn changes(rng: &mut Rng, place: &Place, view: &Value, answers: &[Value]) -> Value {
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
    put(rng, "s", json!(seen - number as i64));
    put(rng, "p", json!(number > 0));
    put(rng, "q", json!(number > 7));
    put(rng, "c", json!(place.node));
    put(rng, "m", json!({ place.node.clone(): seen }));
    put(rng, "x", json!({"by": place.node, "c": view["c"]}));
    put(rng, "y", json!(null));
    put(rng, "two", json!([number, place.node]));
    if let Some((name, _)) = element {
        put(rng, name, json!("private"));
    }
    if !answers.is_empty() {
        put(rng, "answers", answers.iter().map(brief).collect());
    }
    if rng.chance(10) {
        let field = *rng.pick(&["t", "l", "s"]);
        let value = match rng.below(3) {
            0 => json!(null),
            _ if field == "l" => json!(["over"]),
            _ => json!(number),
        };
        overwrite.insert(field.into(), value);
        set.remove(field);
    }
    if rng.chance(5) {
        set.insert("c".into(), json!(null));
    }
    if rng.chance(10) {
        set.remove("x");
        del.push("x");
    }
    json!({"set": set, "overwrite": overwrite, "del": del})
}

/// An answer without what its reader cannot know: texts of errors, keys of steps.
fn brief(answer: &Value) -> Value {
    match &answer["answer"] {
        Value::Object(state) => json!([state.get("n"), state.get("c")]),
        Value::Null => answer["error"].clone(),
        other => other.clone(),
    }
}
