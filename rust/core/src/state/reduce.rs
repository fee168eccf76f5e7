//! One function a reducer. Each is linear in the size of what it is given, and folding all contributions
//! at once gives what folding them one by one gives, to the byte.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::HashSet;

use super::{Field, Reducer};
use crate::json::{canonical, items, members, Kind, Value};
use crate::number::Number;

/// A value that its reducer cannot take, or a sum that is not a finite number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReduceError {
    /// The field; empty where none was named.
    pub field: Field,
    /// What happened and what to do.
    pub message: String,
}

impl ReduceError {
    fn new(message: String) -> Self {
        Self { field: "".into(), message }
    }

    /// The same error as one of that field.
    pub(super) fn of(self, field: &Field) -> Self {
        Self { field: field.clone(), message: format!("field `{field}`: {}", self.message) }
    }
}

type Reduced = Result<Value, ReduceError>;

/// The value of a field: contributions in order on top of a base. A null contribution is the identity: without
/// any other the base stays as it is, and nothing at all is null. `Replace` takes the last one, null or not.
pub fn reduce(reducer: Reducer, base: Option<&Value>, adds: &[Value]) -> Reduced {
    if reducer == Reducer::Replace {
        return Ok(adds.last().or(base).cloned().unwrap_or_else(Value::null));
    }
    let base = base.filter(|value| !value.is_null());
    if adds.iter().all(Value::is_null) {
        return Ok(base.cloned().unwrap_or_else(Value::null));
    }
    let operands: Vec<&Value> =
        base.into_iter().chain(adds.iter().filter(|value| !value.is_null())).collect();
    let Some(first) = operands.first() else { return Ok(Value::null()) };
    operands.iter().try_for_each(|value| check_type(reducer, value))?;
    match reducer {
        Reducer::Append => Ok(append(&operands)),
        Reducer::Union => Ok(union(base, &operands)),
        _ if operands.len() == 1 => Ok((*first).clone()),
        Reducer::Add => add(&operands),
        Reducer::Min => extreme(&operands, |best, other| other < best),
        Reducer::Max => extreme(&operands, |best, other| other > best),
        Reducer::Merge => Ok(merge(&operands)),
        Reducer::And => Ok(Value::bool(operands.iter().all(|value| value.raw() == "true"))),
        Reducer::Or => Ok(Value::bool(operands.iter().any(|value| value.raw() == "true"))),
        Reducer::Concat | Reducer::Replace => Ok(concat(&operands)),
    }
}

/// Whether a reducer can take a value, by its type alone. Null is fit for all of them.
pub fn check(field: &str, reducer: Reducer, value: &Value) -> Result<(), ReduceError> {
    if value.is_null() {
        return Ok(());
    }
    check_type(reducer, value).map_err(|error| error.of(&field.into()))
}

fn check_type(reducer: Reducer, value: &Value) -> Result<(), ReduceError> {
    let wanted = match reducer {
        Reducer::Replace | Reducer::Append | Reducer::Union => return Ok(()),
        Reducer::Add | Reducer::Min | Reducer::Max => Kind::Number,
        Reducer::Merge => Kind::Object,
        Reducer::And | Reducer::Or => Kind::Bool,
        Reducer::Concat => Kind::String,
    };
    let kind = value.kind();
    if kind == wanted {
        return Ok(());
    }
    let (name, wanted, kind) = (reducer.name(), wanted.described(), kind.described());
    Err(ReduceError::new(format!("the reducer `{name}` takes {wanted}, not {kind}")))
}

fn append(operands: &[&Value]) -> Value {
    if let [only] = operands {
        if only.kind() == Kind::Array {
            return (*only).clone();
        }
    }
    let mut out =
        String::with_capacity(operands.iter().map(|value| value.raw().len() + 1).sum::<usize>() + 1);
    out.push('[');
    for value in operands {
        let inner = match value.kind() {
            Kind::Array => inside(value.raw()).trim_ascii(),
            _ => value.raw(),
        };
        push_part(inner, &mut out);
    }
    out.push(']');
    Value::from_raw_unchecked(out)
}

/// Elements of the base are kept as they are; a contributed one comes in when no equal one is there.
fn union(base: Option<&Value>, operands: &[&Value]) -> Value {
    let mut out = String::from("[");
    let mut seen = HashSet::new();
    for (at, value) in operands.iter().enumerate() {
        let is_base = at == 0 && base.is_some();
        each_element(value, |raw| {
            if seen.insert(canonical(raw)) || is_base {
                push_part(raw, &mut out);
            }
        });
    }
    out.push(']');
    Value::from_raw_unchecked(out)
}

fn each_element<'a>(value: &'a Value, mut take: impl FnMut(&'a str)) {
    match value.kind() {
        Kind::Array => items(value.raw()).for_each(take),
        _ => take(value.raw()),
    }
}

/// One by one, since the sum of floats depends on the order.
fn add(operands: &[&Value]) -> Reduced {
    let mut sum = Number::from(0);
    for (at, value) in operands.iter().enumerate() {
        let number = number_of(value)?;
        sum = if at == 0 {
            number
        } else {
            sum.add(&number).map_err(|error| ReduceError::new(error.message))?
        };
    }
    Ok(Value::from_raw_unchecked(sum.to_text()))
}

/// Of equal numbers the first one's spelling stays.
fn extreme(operands: &[&Value], beats: fn(&Number, &Number) -> bool) -> Reduced {
    let mut best: Option<(Number, &Value)> = None;
    for &value in operands {
        let number = number_of(value)?;
        if best.as_ref().is_none_or(|(held, _)| beats(held, &number)) {
            best = Some((number, value));
        }
    }
    Ok(best.map_or_else(Value::null, |(_, value)| value.clone()))
}

fn number_of(value: &Value) -> Result<Number, ReduceError> {
    Number::of_valid(value.raw()).map_err(|error| ReduceError::new(error.message))
}

/// A field stays at its first place and takes its last value.
fn merge(operands: &[&Value]) -> Value {
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for (name, value) in operands.iter().flat_map(|object| members(object.raw())) {
        match places.entry(canonical(name)) {
            Entry::Occupied(place) => fields[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(fields.len());
                fields.push((name, value));
            }
        }
    }
    let mut out = String::from("{");
    for (name, value) in fields {
        push_part(name, &mut out);
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    Value::from_raw_unchecked(out)
}

fn concat(operands: &[&Value]) -> Value {
    let mut out = String::with_capacity(operands.iter().map(|value| value.raw().len()).sum());
    out.push('"');
    for value in operands {
        out.push_str(inside(value.raw()));
    }
    out.push('"');
    Value::from_raw_unchecked(out)
}

/// The text between the brackets or quotes.
fn inside(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

/// Appends a part that is not empty, after a comma unless only the opening bracket is there.
fn push_part(part: &str, out: &mut String) {
    if part.is_empty() {
        return;
    }
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, base: &str, adds: &[&str]) -> Result<String, String> {
        let parse = |text: &str| Value::parse(text).unwrap();
        let base = (!base.is_empty()).then(|| parse(base));
        let adds: Vec<Value> = adds.iter().map(|text| parse(text)).collect();
        let reduced = reduce(Reducer::parse(name).unwrap(), base.as_ref(), &adds);
        reduced.map(|value| value.raw().to_owned()).map_err(|error| error.message)
    }

    #[test]
    fn every_reducer_reduces() {
        for (name, base, adds, expected) in [
            ("replace", "1", &["2", "3"][..], "3"),
            ("replace", "1", &["null"], "null"),
            ("append", "[1, 2]", &["3", "[]", "[ 4 ]", "null", "{\"a\":[]}"], "[1, 2,3,4,{\"a\":[]}]"),
            ("append", "", &["[]", "[ ]"], "[]"),
            ("append", "\"x\"", &["null"], "\"x\""),
            ("append", "\"x\"", &["[]"], "[\"x\"]"),
            ("union", "[1,1]", &["[1.0,2]", "2", "[3,\"3\"]"], "[1,1,2,3,\"3\"]"),
            ("union", "", &["[2,2,[1]]", "[[1.0]]"], "[2,[1]]"),
            ("add", "9223372036854775807", &["1", "-2"], "9223372036854775806"),
            ("add", "", &["1", "0.5"], "1.5"),
            ("min", "9007199254740993", &["9007199254740992.0"], "9007199254740992.0"),
            ("max", "1", &["1.0", "null"], "1"),
            (
                "merge",
                "{\"a\":1,\"b\":{\"c\":1}}",
                &["{\"b\":{}}", "{\"\\u0061\":null}"],
                "{\"a\":null,\"b\":{}}",
            ),
            ("merge", "", &["{}", "{\"x\":1}"], "{\"x\":1}"),
            ("and", "true", &["true", "false"], "false"),
            ("or", "", &["false", "true"], "true"),
            ("concat", "\"a\\n\"", &["\"\"", "\"é\\u0000\""], "\"a\\né\\u0000\""),
        ] {
            assert_eq!(run(name, base, adds).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn null_contributions_are_the_identity_of_every_reducer() {
        for reducer in &Reducer::ALL[1..] {
            assert_eq!(run(reducer.name(), "", &["null"]).as_deref(), Ok("null"));
        }
    }

    #[test]
    fn a_wrong_type_is_an_error_that_names_both_types() {
        for (name, wrong) in [
            ("add", "\"1\""),
            ("min", "true"),
            ("max", "[]"),
            ("merge", "[]"),
            ("and", "1"),
            ("or", "\"\""),
            ("concat", "1"),
        ] {
            assert!(run(name, "", &[wrong]).unwrap_err().contains(&format!("`{name}` takes")), "{name}");
        }
        let error = check("total", Reducer::Add, &Value::string("1")).unwrap_err();
        assert_eq!(error.message, "field `total`: the reducer `add` takes a number, not a string");
    }

    #[test]
    fn a_sum_that_is_not_finite_is_an_error() {
        assert!(run("add", "1e308", &["1e308"]).unwrap_err().contains("not a finite number"));
    }

    #[test]
    fn many_contributions_take_linear_time() {
        let adds: Vec<Value> = (0..100_000).map(|i| Value::from_raw_unchecked(format!("[{i}]"))).collect();
        for reducer in [Reducer::Append, Reducer::Union] {
            assert_eq!(reduce(reducer, None, &adds).unwrap().len_of_array(), Some(100_000));
        }
    }
}
