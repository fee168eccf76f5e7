//! State as the rules say it, for the reference: one change at a time, on plain JSON.

use serde_json::{json, Map, Value};

use super::blocks::{Branch, Way};

const REDUCED: [&str; 9] = ["n", "l", "u", "t", "s", "p", "q", "c", "m"];

/// Writes a step's newer changes over its earlier ones, field by field.
pub fn merge(into: &mut Value, newer: &Value) {
    for member in ["set", "overwrite", "del"] {
        let fields = match &newer[member] {
            Value::Object(fields) => fields.clone(),
            Value::Array(names) => {
                names.iter().map(|name| (name.as_str().unwrap().to_owned(), json!(true))).collect()
            }
            _ => Map::new(),
        };
        for (field, value) in fields {
            for other in ["set", "overwrite", "del"] {
                if let Some(Value::Object(fields)) = into.get_mut(other) {
                    fields.remove(&field);
                }
            }
            into[member][&field] = value;
        }
    }
}

/// Whether each reducer can take what a step contributes to its field.
pub fn fits(changes: &Value) -> bool {
    let of = |member: &str| changes[member].as_object().cloned().unwrap_or_default();
    of("set").iter().chain(of("overwrite").iter()).all(|(field, value)| {
        value.is_null()
            || match field.as_str() {
                "n" | "t" | "s" => value.is_number(),
                "p" | "q" => value.is_boolean(),
                "c" => value.is_string(),
                "m" => value.is_object(),
                _ => true,
            }
    })
}

pub fn fold(state: &Value, changes: &Value) -> Value {
    let mut out = state.as_object().unwrap().clone();
    let of = |member: &str| changes[member].as_object().cloned().unwrap_or_default();
    for (field, value) in of("set") {
        let folded = reduce(&field, out.get(&field).unwrap_or(&Value::Null), &value);
        out.insert(field, folded);
    }
    out.extend(of("overwrite"));
    for field in of("del").keys() {
        out.remove(field);
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
    if part.is_null() && REDUCED.contains(&field) {
        return base.clone();
    }
    let [a, b] = [base.as_i64(), part.as_i64()];
    match field {
        "n" => json!(a.unwrap_or(0) + b.unwrap()),
        "t" => json!(a.unwrap_or(i64::MIN).max(b.unwrap())),
        "s" => json!(a.unwrap_or(i64::MAX).min(b.unwrap())),
        "p" => json!(base.as_bool().unwrap_or(true) && part.as_bool().unwrap()),
        "q" => json!(base.as_bool().unwrap_or(false) || part.as_bool().unwrap()),
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
        "c" => json!(format!("{}{}", base.as_str().unwrap_or(""), part.as_str().unwrap())),
        "m" => {
            let mut fields = base.as_object().cloned().unwrap_or_default();
            fields.extend(part.as_object().unwrap().clone());
            Value::Object(fields)
        }
        _ => part.clone(),
    }
}

/// The private fields of each branch that an edge starts.
pub fn starts(branch: &Branch, state: &Value) -> Vec<Map<String, Value>> {
    let (over, bind) = match &branch.way {
        Way::Plain => return vec![Map::new()],
        Way::When(test) => return test.holds(state).unwrap_or(false).then(Map::new).into_iter().collect(),
        Way::Each(over, bind) => (over, bind),
    };
    let elements = state[*over].as_array().cloned().unwrap_or_default();
    let count = elements.len();
    let binds = |(index, element): (usize, Value)| {
        let own = [(format!("{bind}_index"), json!(index)), (format!("{bind}_count"), json!(count))];
        let element = (!element.is_null()).then(|| (bind.clone(), element));
        own.into_iter().chain(element).collect()
    };
    elements.into_iter().enumerate().map(binds).collect()
}

/// Changes without the fields that were private to the branches.
pub fn without(mut changes: Value, branches: &[Branch]) -> Value {
    for branch in branches {
        let Way::Each(_, bind) = &branch.way else { continue };
        for name in [bind.clone(), format!("{bind}_index"), format!("{bind}_count")] {
            for member in ["set", "overwrite"] {
                if let Some(Value::Object(fields)) = changes.get_mut(member) {
                    fields.remove(&name);
                }
            }
        }
    }
    changes
}
