//! The state of a flow: a fold of what its steps did.
//!
//! Values are raw JSON text. A state is persistent, so every step keeps its own view for the price of a
//! pointer, and only a reducer ever looks inside a value.

mod changes;
mod delta;
mod reduce;
mod reducers;

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::OrdMap;

pub use changes::{Change, ChangeError, Changes};
pub use delta::Delta;
pub use reduce::{check, reduce, ReduceError};
pub use reducers::{Reducer, Reducers};

use crate::error::Result;
use crate::json::{escape, fields_within, Value, MAX_DEPTH};

/// The name of a field.
pub type Field = Arc<str>;

/// Fields and their values, null never among them: a null field is an absent one. Cloning is O(1).
#[derive(Clone, Default, PartialEq, Debug)]
pub struct State(OrdMap<Field, Value>);

impl State {
    /// Without any field.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one JSON object; its null fields are absent ones.
    pub fn from_json(text: &str) -> Result<Self> {
        // One level more than a value from outside: an appended scalar became a list.
        Ok(fields_within(text, MAX_DEPTH + 1)?.into_iter().collect())
    }

    /// One JSON object, names in order.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    /// Appends what `to_json` gives.
    pub fn write_json(&self, out: &mut String) {
        write_fields(self.iter(), out);
    }

    /// The value of a field that is there.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// Puts a value; null removes the field.
    pub fn set(&mut self, field: Field, value: Value) {
        if value.is_null() {
            self.0.remove(&field);
        } else {
            self.0.insert(field, value);
        }
    }

    /// Takes a field away.
    pub fn remove(&mut self, field: &str) {
        self.0.remove(field);
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Field, &Value)> {
        self.0.iter()
    }

    /// This state with a delta folded in, each field by its reducer.
    pub fn fold(&self, delta: &Delta, reducers: &Reducers) -> std::result::Result<Self, ReduceError> {
        let mut folded = self.clone();
        for (field, log) in delta.iter() {
            let base = log.base(self.get(field));
            let value = if log.adds.is_empty() {
                base.cloned().unwrap_or_else(Value::null)
            } else {
                let reducer = reducers.get(field).unwrap_or(Reducer::Replace);
                reduce(reducer, base, &log.adds).map_err(|error| error.of(field))?
            };
            folded.set(field.clone(), value);
        }
        Ok(folded)
    }

    /// Puts every change as it is, reducers aside: contributions and overwrites replace, deletions remove.
    pub fn apply(&mut self, overrides: &Changes) {
        for (field, change) in overrides.iter() {
            match change {
                Change::Contribute(value) | Change::Overwrite(value) => {
                    self.set(field.clone(), value.clone());
                }
                Change::Delete => self.remove(field),
            }
        }
    }

    /// The overwrites and deletions that make `base` into this state. What both share costs nothing.
    pub fn changes_since(&self, base: &Self) -> Changes {
        let mut changes = Changes::default();
        for difference in base.0.diff(&self.0) {
            match difference {
                DiffItem::Add(field, value) | DiffItem::Update { new: (field, value), .. } => {
                    changes.insert(field.clone(), Change::Overwrite(value.clone()));
                }
                DiffItem::Remove(field, _) => changes.insert(field.clone(), Change::Delete),
            }
        }
        changes
    }

    /// Checks every reduced field against its reducer's type.
    pub fn check(&self, reducers: &Reducers) -> std::result::Result<(), ReduceError> {
        let mut reduced =
            reducers.iter().filter_map(|(field, reducer)| Some((field, reducer, self.get(field)?)));
        reduced.try_for_each(|(field, reducer, value)| check(field, reducer, value))
    }
}

impl FromIterator<(Field, Value)> for State {
    fn from_iter<I: IntoIterator<Item = (Field, Value)>>(fields: I) -> Self {
        Self(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
    }
}

/// Appends one JSON object.
fn write_fields<'a>(fields: impl Iterator<Item = (&'a Field, &'a Value)>, out: &mut String) {
    out.push('{');
    for (at, (field, value)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        escape(field, out);
        out.push(':');
        out.push_str(value.raw());
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Value {
        Value::parse(text).unwrap()
    }

    #[test]
    fn null_is_absence() {
        let mut state = State::from_json(r#"{"a":null,"b":1,"c":{"d":null}}"#).unwrap();
        assert_eq!(state.to_json(), r#"{"b":1,"c":{"d":null}}"#);
        state.set("b".into(), Value::null());
        assert_eq!((state.len(), state.get("b")), (1, None));
    }

    #[test]
    fn the_changes_since_a_base_lead_from_it_to_the_state() {
        let wide: State = (0..500).map(|at| (format!("f{at:03}").into(), Value::int(at))).collect();
        let mut state = wide.clone();
        assert!(state.changes_since(&wide).is_empty());
        state.set("f250".into(), v("[]"));
        state.set("new".into(), v("1"));
        state.remove("f499");
        let changes = state.changes_since(&wide);
        assert_eq!(changes.iter().count(), 3);
        let mut again = wide;
        again.apply(&changes);
        assert_eq!(again, state);
        assert_eq!(State::new().changes_since(&state).iter().count(), state.len());
    }

    #[test]
    fn a_fold_reduces_reduced_fields_and_replaces_the_others() {
        let reducers: Reducers = [("n".into(), Reducer::Add)].into_iter().collect();
        let state = State::from_json(r#"{"n":1,"x":"old","gone":1}"#).unwrap();
        let mut delta = Delta::default();
        for worker in [r#"{"set":{"n":2,"x":"new"}}"#, r#"{"set":{"n":3},"del":["gone"]}"#] {
            delta.push(&Changes::from_task(worker, &reducers).unwrap());
        }
        assert_eq!(state.fold(&delta, &reducers).unwrap().to_json(), r#"{"n":6,"x":"new"}"#);
        assert_eq!(state.get("n"), Some(&v("1")));
    }

    #[test]
    fn an_error_of_a_fold_names_the_field() {
        let reducers: Reducers = [("n".into(), Reducer::Add)].into_iter().collect();
        let state = State::from_json(r#"{"n":1e308}"#).unwrap();
        let mut delta = Delta::default();
        delta.push(&Changes::from_task(r#"{"set":{"n":1e308}}"#, &reducers).unwrap());
        assert_eq!(&*state.fold(&delta, &reducers).unwrap_err().field, "n");
    }

    #[test]
    fn overrides_replace_and_null_removes() {
        let mut state = State::from_json(r#"{"a":1,"b":2}"#).unwrap();
        state.apply(&Changes::from_overrides(r#"{"a":null,"b":[3]}"#).unwrap());
        assert_eq!(state.to_json(), r#"{"b":[3]}"#);
    }

    #[test]
    fn the_input_is_checked_against_the_reducers() {
        let reducers: Reducers = [("n".into(), Reducer::Add)].into_iter().collect();
        assert!(State::from_json(r#"{"n":1}"#).unwrap().check(&reducers).is_ok());
        assert!(State::from_json(r#"{"n":"1"}"#).unwrap().check(&reducers).is_err());
    }
}
