//! What a flow of returning and failing tasks comes to, said as simply as can be: state is folded step by step, and
//! nothing is ever parked, retried or looped.

use serde_json::{json, Map, Value};

use super::blocks::{Block, Branch, Cohort, Policy, Way};
use super::tasks::{act, Act, Habits, Place};

/// The status and the final state of a tree.
pub fn run(tree: &Block, input: &Value, seed: u64, habits: Habits) -> (&'static str, Value) {
    let mut run = Run { seed, habits };
    let mut token = Token { state: input.clone(), log: Vec::new(), path: String::new() };
    let status = if run.block(tree, &mut token) { "completed" } else { "failed" };
    (status, token.state)
}

struct Run {
    seed: u64,
    habits: Habits,
}

struct Token {
    state: Value,
    log: Vec<Value>,
    path: String,
}

impl Token {
    fn fold(&mut self, changes: &Value) {
        self.state = fold(&self.state, changes);
        self.log.push(changes.clone());
    }
}

impl Run {
    /// Whether the branch got through.
    fn block(&mut self, block: &Block, token: &mut Token) -> bool {
        match block {
            Block::Task(task) => self.task(&task.node, token),
            Block::Sequence(blocks) => blocks.iter().all(|block| self.block(block, token)),
            Block::Switch { node, arms, default } => {
                if !self.task(node, token) {
                    return false;
                }
                let arm = arms.iter().find(|(test, _)| test.holds(&token.state));
                let body = arm.map_or(default.as_deref(), |(_, body)| body.as_ref());
                body.is_none_or(|body| self.block(body, token))
            }
            Block::Cohort(cohort) => self.cohort(cohort, token),
        }
    }

    fn task(&mut self, node: &str, token: &mut Token) -> bool {
        let place = Place { path: token.path.clone(), node: node.into(), visit: 0, attempt: 0, answered: 0 };
        match act(self.seed, self.habits, &place, &token.state) {
            Act::Done { changes, .. } => {
                token.fold(&changes);
                true
            }
            _ => false,
        }
    }

    fn cohort(&mut self, cohort: &Cohort, token: &mut Token) -> bool {
        if !self.task(&cohort.node, token) {
            return false;
        }
        let (mut arrived, mut all, mut failures, mut ordinal) = (Vec::new(), Vec::new(), 0, 0);
        for branch in &cohort.branches {
            for binds in starts(branch, &token.state) {
                let mut state = token.state.clone();
                state.as_object_mut().unwrap().extend(binds);
                let path = format!("{}/{}#0.{ordinal}", token.path, cohort.node);
                let mut inner = Token { state, log: Vec::new(), path };
                let is_through = branch.body.as_ref().is_none_or(|body| self.block(body, &mut inner));
                ordinal += 1;
                all.extend(inner.log.iter().cloned());
                if is_through {
                    arrived.extend(inner.log);
                } else {
                    failures += 1;
                }
            }
        }
        let allowed = if let Policy::Tolerate(n) = cohort.policy { n } else { 0 };
        let is_joined = failures <= allowed;
        for changes in if is_joined { arrived } else { all } {
            token.fold(&without(changes, &cohort.branches));
        }
        is_joined && cohort.join.as_ref().is_none_or(|join| self.task(join, token))
    }
}

/// The private fields of each branch that an edge starts.
fn starts(branch: &Branch, state: &Value) -> Vec<Map<String, Value>> {
    match &branch.way {
        Way::Plain => vec![Map::new()],
        Way::When(test) => {
            if test.holds(state) {
                vec![Map::new()]
            } else {
                Vec::new()
            }
        }
        Way::Each(over, bind) => {
            let elements = state[*over].as_array().cloned().unwrap_or_default();
            let count = elements.len();
            let binds = |(index, element): (usize, Value)| {
                let mut binds = Map::from_iter([
                    (format!("{bind}_index"), json!(index)),
                    (format!("{bind}_count"), json!(count)),
                ]);
                if !element.is_null() {
                    binds.insert(bind.clone(), element);
                }
                binds
            };
            elements.into_iter().enumerate().map(binds).collect()
        }
    }
}

fn without(mut changes: Value, branches: &[Branch]) -> Value {
    for branch in branches {
        let Way::Each(_, bind) = &branch.way else { continue };
        for name in [bind.clone(), format!("{bind}_index"), format!("{bind}_count")] {
            for member in ["set", "overwrite"] {
                changes[member].as_object_mut().unwrap().remove(&name);
            }
        }
    }
    changes
}

fn fold(state: &Value, changes: &Value) -> Value {
    let mut out = state.as_object().unwrap().clone();
    for (field, value) in changes["set"].as_object().unwrap() {
        let folded = reduce(field, out.get(field).unwrap_or(&Value::Null), value);
        out.insert(field.clone(), folded);
    }
    for (field, value) in changes["overwrite"].as_object().unwrap() {
        out.insert(field.clone(), value.clone());
    }
    for field in changes["del"].as_array().unwrap() {
        out.remove(field.as_str().unwrap());
    }
    out.retain(|_, value| !value.is_null());
    Value::Object(out)
}

fn reduce(field: &str, base: &Value, part: &Value) -> Value {
    let list = |value: &Value| match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    };
    match field {
        "n" => json!(base.as_i64().unwrap_or(0) + part.as_i64().unwrap()),
        "l" => Value::Array([list(base), list(part)].concat()),
        "u" => {
            let mut items = list(base);
            for item in list(part) {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            Value::Array(items)
        }
        "t" => json!(base.as_i64().unwrap_or(i64::MIN).max(part.as_i64().unwrap())),
        "c" => json!(format!("{}{}", base.as_str().unwrap_or(""), part.as_str().unwrap())),
        "m" => {
            let mut fields = base.as_object().cloned().unwrap_or_default();
            fields.extend(part.as_object().unwrap().clone());
            Value::Object(fields)
        }
        _ => part.clone(),
    }
}
