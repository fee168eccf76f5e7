//! What several steps did, in order.

use std::collections::BTreeMap;

use super::{reduce, Change, Changes, Field, Reducer, Reducers};
use crate::error::{Error, Result};
use crate::json::{escape, object_fields, Value};

/// What several steps did to one field: what they put in place of its value, then what they contributed.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct FieldLog {
    /// The last overwrite; null for a deletion.
    pub(super) reset: Option<Value>,
    /// The contributions since.
    pub(super) adds: Vec<Value>,
}

impl FieldLog {
    /// What the contributions stand on, given the value before.
    pub(super) fn base<'a>(&'a self, before: Option<&'a Value>) -> Option<&'a Value> {
        self.reset.as_ref().or(before)
    }

    fn push(&mut self, change: &Change) {
        match change {
            Change::Contribute(value) => self.adds.push(value.clone()),
            Change::Overwrite(value) => self.put(value.clone()),
            Change::Delete => self.put(Value::null()),
        }
    }

    fn put(&mut self, value: Value) {
        self.reset = Some(value);
        self.adds.clear();
    }

    fn append(&mut self, later: Self) {
        if later.reset.is_some() {
            *self = later;
        } else {
            self.adds.extend(later.adds);
        }
    }

    /// Combines contributions where every base gives the same result as before. What cannot be combined
    /// (a sum that is not finite) stays, so that the fold reports it.
    fn compact(&mut self, reducer: Reducer) {
        if self.adds.is_empty() {
            return;
        }
        if reducer == Reducer::Replace || self.reset.is_some() {
            if let Ok(value) = reduce(reducer, self.base(None), &self.adds) {
                self.put(value);
            }
        } else if reducer != Reducer::Add {
            // A sum onto an unknown base stays a list: the base may be a float, and then every single
            // addition rounds.
            if let Ok(value) = reduce(reducer, None, &self.adds) {
                self.adds = if value.is_null() { Vec::new() } else { vec![value] };
            }
        }
    }
}

/// The composed log of several steps, by field. Folding it gives what folding the steps one by one gives.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Delta(BTreeMap<Field, FieldLog>);

impl Delta {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the changes of the next step.
    pub fn push(&mut self, changes: &Changes) {
        for (field, change) in changes.iter() {
            self.log(field).push(change);
        }
    }

    /// Adds what came after.
    pub fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for (field, log) in later.0 {
            self.0.entry(field).or_default().append(log);
        }
    }

    /// Adds what came after.
    pub fn append_ref(&mut self, later: &Self) {
        for (field, log) in &later.0 {
            self.log(field).append(log.clone());
        }
    }

    fn log(&mut self, field: &Field) -> &mut FieldLog {
        if !self.0.contains_key(field) {
            self.0.insert(field.clone(), FieldLog::default());
        }
        self.0.entry(field.clone()).or_default()
    }

    /// Forgets some fields.
    pub fn without(&mut self, names: &[Field]) {
        for name in names {
            self.0.remove(name);
        }
    }

    /// Makes the log shorter where that changes no fold's result. Sums are combined only onto a base that
    /// the log itself has put.
    pub fn compact(&mut self, reducers: &Reducers) {
        for (field, log) in &mut self.0 {
            log.compact(reducers.get(field).unwrap_or(Reducer::Replace));
        }
    }

    /// The fields in order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Field, &FieldLog)> {
        self.0.iter()
    }

    /// One JSON object, `{field:{"set":value,"add":[value]}}`, both optional; `"set":null` is a deletion.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        for (field, log) in &self.0 {
            if out.len() > 1 {
                out.push(',');
            }
            escape(field, &mut out);
            out.push(':');
            write_log(log, &mut out);
        }
        out.push('}');
        out
    }

    /// Reads what `to_json` gives.
    pub fn from_json(json: &str) -> Result<Self> {
        object_fields(json)?.into_iter().map(|(field, log)| Ok((field, read_log(log.raw())?))).collect()
    }
}

impl FromIterator<(Field, FieldLog)> for Delta {
    fn from_iter<I: IntoIterator<Item = (Field, FieldLog)>>(logs: I) -> Self {
        Self(logs.into_iter().collect())
    }
}

fn write_log(log: &FieldLog, out: &mut String) {
    out.push('{');
    if let Some(reset) = &log.reset {
        out.push_str("\"set\":");
        out.push_str(reset.raw());
    }
    if !log.adds.is_empty() {
        out.push_str(if log.reset.is_some() { ",\"add\":" } else { "\"add\":" });
        for (at, value) in log.adds.iter().enumerate() {
            out.push(if at == 0 { '[' } else { ',' });
            out.push_str(value.raw());
        }
        out.push(']');
    }
    out.push('}');
}

fn read_log(json: &str) -> Result<FieldLog> {
    let mut log = FieldLog::default();
    for (member, value) in object_fields(json)? {
        match &*member {
            "set" => log.reset = Some(value),
            "add" => log.adds = value.elements().ok_or_else(not_a_list)?,
            _ => return Err(Error::corrupt(format!("a delta has no member `{member}`"))),
        }
    }
    Ok(log)
}

fn not_a_list() -> Error {
    Error::corrupt("`add` of a delta is not a list")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn reducers() -> Reducers {
        [("n".into(), Reducer::Add), ("l".into(), Reducer::Append)].into_iter().collect()
    }

    fn delta(steps: &[&str]) -> Delta {
        let mut delta = Delta::default();
        for step in steps {
            delta.push(&Changes::from_task(step, &reducers()).unwrap());
        }
        delta
    }

    #[test]
    fn an_overwrite_forgets_the_contributions_before_it() {
        let log = delta(&[r#"{"set":{"n":1}}"#, r#"{"overwrite":{"n":10}}"#, r#"{"set":{"n":5}}"#]);
        assert_eq!(log.to_json(), r#"{"n":{"set":10,"add":[5]}}"#);
    }

    #[test]
    fn appending_is_the_same_as_pushing_one_by_one() {
        let steps = [r#"{"set":{"n":1,"l":1,"x":1}}"#, r#"{"set":{"n":2,"l":[2]},"del":["x"]}"#];
        let mut by_value = delta(&steps[..1]);
        by_value.append(delta(&steps[1..]));
        let mut by_ref = delta(&steps[..1]);
        by_ref.append_ref(&delta(&steps[1..]));
        assert_eq!(by_value, delta(&steps));
        assert_eq!(by_ref, by_value);
    }

    #[test]
    fn it_reads_back_from_its_json() {
        let log = delta(&[r#"{"set":{"n":1,"l":[],"x":[null]},"del":["y"]}"#, r#"{"overwrite":{"l":null}}"#]);
        assert_eq!(Delta::from_json(&log.to_json()).unwrap(), log);
    }

    #[test]
    fn compacting_shortens_what_it_can() {
        let steps = [r#"{"set":{"n":1,"l":1}}"#, r#"{"set":{"n":2,"l":[2]}}"#];
        let mut log = delta(&steps);
        log.compact(&reducers());
        assert_eq!(log.to_json(), r#"{"l":{"add":[[1,2]]},"n":{"add":[1,2]}}"#);
        let mut log = delta(&[r#"{"overwrite":{"n":null}}"#, steps[0], steps[1]]);
        log.compact(&reducers());
        assert_eq!(log.to_json(), r#"{"l":{"add":[[1,2]]},"n":{"set":3}}"#);
    }

    #[test]
    fn sums_are_not_combined_where_a_float_below_rounds_each_of_them() {
        let mut log = delta(&[r#"{"set":{"n":1}}"#, r#"{"set":{"n":1}}"#]);
        log.compact(&reducers());
        let base = State::from_json(r#"{"n":9007199254740992.0}"#).unwrap();
        assert_eq!(base.fold(&log, &reducers()).unwrap(), base);
    }

    #[test]
    fn names_can_be_forgotten() {
        let mut log = delta(&[r#"{"set":{"n":1,"x":1}}"#]);
        log.without(&["n".into(), "absent".into()]);
        assert_eq!(log.to_json(), r#"{"x":{"set":1}}"#);
        assert!(State::new().fold(&log, &reducers()).is_ok());
    }
}
