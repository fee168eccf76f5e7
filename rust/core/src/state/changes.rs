//! What one step did, field by field.

use std::collections::BTreeMap;

use super::{check, reduce, write_fields, Field, ReduceError, Reducer, Reducers};
use crate::error::{Error, Result};
use crate::json::{escape, fields_within, object_fields, Json, Value, MAX_DEPTH};

/// What a step did to one field.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Its own part of a reduced field.
    Contribute(Value),
    /// The field's new value, whatever was there.
    Overwrite(Value),
    /// The field is gone.
    Delete,
}

impl Change {
    fn overwrite(value: Value) -> Self {
        if value.is_null() {
            Self::Delete
        } else {
            Self::Overwrite(value)
        }
    }
}

/// What one step did, over all its attempts, parks and retries.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Changes(BTreeMap<Field, Change>);

/// Why the changes of a task are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// A value that its field's reducer cannot take.
    Reduce(ReduceError),
    /// A change that no task may make.
    State(String),
}

impl ChangeError {
    /// The code of the step's error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reduce(_) => "reducer",
            Self::State(_) => "invalid_state",
        }
    }

    /// What happened and what to do.
    pub fn message(&self) -> &str {
        match self {
            Self::Reduce(error) => &error.message,
            Self::State(message) => message,
        }
    }
}

impl From<ReduceError> for ChangeError {
    fn from(error: ReduceError) -> Self {
        Self::Reduce(error)
    }
}

impl From<Error> for ChangeError {
    fn from(error: Error) -> Self {
        Self::State(error.message)
    }
}

impl Changes {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what the same step did later: field by field the later change stands, deletions too.
    pub fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The changes in order of their fields' names.
    pub fn iter(&self) -> impl Iterator<Item = (&Field, &Change)> {
        self.0.iter()
    }

    /// What was done to a field.
    pub fn get(&self, field: &str) -> Option<&Change> {
        self.0.get(field)
    }

    /// Records one change in place of any earlier one of that field.
    pub fn insert(&mut self, field: Field, change: Change) {
        self.0.insert(field, change);
    }

    /// Reads the worker's form, `{"set":{field:value},"overwrite":{field:value},"del":[field]}`, every
    /// member optional, and checks all of it, so that no later fold can fail on a type.
    ///
    /// A field both overwritten and set is overwritten first: the contribution is reduced onto that.
    pub fn from_task(json: &str, reducers: &Reducers) -> std::result::Result<Self, ChangeError> {
        let mut changes = Self::default();
        let (mut set, mut overwrite, mut del) = (None, None, None);
        for (member, value) in object_fields(json)? {
            match &*member {
                "set" => set = Some(value),
                "overwrite" => overwrite = Some(value),
                "del" => del = Some(value),
                _ => return Err(unknown_member(&member).into()),
            }
        }
        for field in del.map_or_else(|| Ok(Vec::new()), |list| names(&list))? {
            changes.delete(field, reducers)?;
        }
        for (field, value) in values(overwrite.as_ref())? {
            changes.overwrite(field, value, reducers)?;
        }
        for (field, value) in values(set.as_ref())? {
            changes.set(field, value, reducers)?;
        }
        Ok(changes)
    }

    /// Reads `{field:value}` as overwrites; null deletes.
    pub fn from_overrides(json: &str) -> Result<Self> {
        let fields = fields_within(json, MAX_DEPTH)?;
        Ok(fields.into_iter().map(|(field, value)| (field, Change::overwrite(value))).collect())
    }

    /// Checks every value of a reduced field against its reducer's type.
    pub fn check(&self, reducers: &Reducers) -> std::result::Result<(), ReduceError> {
        self.iter().try_for_each(|(field, change)| match (change, reducers.reduced(field)) {
            (Change::Contribute(value) | Change::Overwrite(value), Some(reducer)) => {
                check(field, reducer, value)
            }
            _ => Ok(()),
        })
    }

    fn delete(&mut self, field: Field, reducers: &Reducers) -> std::result::Result<(), ChangeError> {
        if let Some(reducer) = reducers.reduced(&field) {
            return Err(ChangeError::State(format!(
                "field `{field}` is reduced with `{}` and cannot be deleted: use overwrite(\"{field}\", None)",
                reducer.name()
            )));
        }
        self.insert(field, Change::Delete);
        Ok(())
    }

    fn overwrite(
        &mut self,
        field: Field,
        value: Value,
        reducers: &Reducers,
    ) -> std::result::Result<(), ReduceError> {
        check(&field, reducers.get(&field).unwrap_or(Reducer::Replace), &value)?;
        self.insert(field, Change::overwrite(value));
        Ok(())
    }

    fn set(
        &mut self,
        field: Field,
        value: Value,
        reducers: &Reducers,
    ) -> std::result::Result<(), ReduceError> {
        let Some(reducer) = reducers.reduced(&field) else {
            self.insert(field, Change::overwrite(value));
            return Ok(());
        };
        check(&field, reducer, &value)?;
        // A null stays too: it takes the place of what an earlier attempt contributed.
        let change = match self.get(&field) {
            Some(Change::Overwrite(_) | Change::Delete) if value.is_null() => return Ok(()),
            Some(Change::Overwrite(base)) => Change::Overwrite(reduce(reducer, Some(base), &[value])?),
            Some(Change::Delete) => Change::Overwrite(reduce(reducer, None, &[value])?),
            _ => Change::Contribute(value),
        };
        self.insert(field, change);
        Ok(())
    }

    /// Appends the journal's form, `{"add":{field:value},"set":{field:value},"del":[field]}`, empty members
    /// left out.
    pub fn to_journal(&self, out: &mut String) {
        out.push('{');
        let start = out.len();
        self.write_member("add", out, |change| match change {
            Change::Contribute(value) => Some(value),
            _ => None,
        });
        self.write_member("set", out, |change| match change {
            Change::Overwrite(value) => Some(value),
            _ => None,
        });
        let deleted: Vec<&Field> =
            self.iter().filter(|(_, c)| **c == Change::Delete).map(|(f, _)| f).collect();
        if !deleted.is_empty() {
            out.push_str("\"del\":[");
            for field in deleted {
                escape(field, out);
                out.push(',');
            }
            out.pop();
            out.push_str("],");
        }
        if out.len() > start {
            out.pop();
        }
        out.push('}');
    }

    fn write_member(&self, name: &str, out: &mut String, pick: fn(&Change) -> Option<&Value>) {
        let mut picked = self.iter().filter_map(|(field, change)| Some((field, pick(change)?))).peekable();
        if picked.peek().is_none() {
            return;
        }
        escape(name, out);
        out.push(':');
        write_fields(picked, out);
        out.push(',');
    }

    /// Reads the journal's form.
    pub fn from_journal(json: &str) -> Result<Self> {
        let mut changes = Self::default();
        for (member, value) in object_fields(json)? {
            match &*member {
                "add" => changes.0.extend(contributions(&value)?),
                "set" => changes.0.extend(overwrites(&value)?),
                "del" => changes.0.extend(names(&value)?.into_iter().map(|field| (field, Change::Delete))),
                _ => return Err(unknown_member(&member)),
            }
        }
        Ok(changes)
    }
}

impl FromIterator<(Field, Change)> for Changes {
    fn from_iter<I: IntoIterator<Item = (Field, Change)>>(changes: I) -> Self {
        Self(changes.into_iter().collect())
    }
}

fn contributions(object: &Value) -> Result<impl Iterator<Item = (Field, Change)>> {
    Ok(object_fields(object.raw())?.into_iter().map(|(field, value)| (field, Change::Contribute(value))))
}

fn overwrites(object: &Value) -> Result<impl Iterator<Item = (Field, Change)>> {
    Ok(object_fields(object.raw())?.into_iter().map(|(field, value)| (field, Change::overwrite(value))))
}

fn values(object: Option<&Value>) -> Result<Vec<(Field, Value)>> {
    object.map_or_else(|| Ok(Vec::new()), |object| fields_within(object.raw(), MAX_DEPTH))
}

fn names(list: &Value) -> Result<Vec<Field>> {
    let wrong = || Error::invalid("the deleted fields are not a list of names");
    let Json::Array(items) = list.decode() else { return Err(wrong()) };
    let name = |item: Json| match item {
        Json::String(text) => text.as_str().map(Field::from).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    items.into_iter().map(name).collect()
}

fn unknown_member(member: &str) -> Error {
    Error::invalid(format!("changes have no member `{member}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reducers() -> Reducers {
        [("n".into(), Reducer::Add), ("l".into(), Reducer::Append), ("p".into(), Reducer::Replace)]
            .into_iter()
            .collect()
    }

    fn journal(worker: &str) -> String {
        let mut out = String::new();
        Changes::from_task(worker, &reducers()).unwrap().to_journal(&mut out);
        out
    }

    #[test]
    fn a_set_contributes_to_reduced_fields_and_overwrites_plain_ones() {
        assert_eq!(journal(r#"{"set":{"n":1,"x":2,"p":3}}"#), r#"{"add":{"n":1},"set":{"p":3,"x":2}}"#);
        assert_eq!(
            journal(r#"{"set":{"n":null,"x":null},"del":["y"]}"#),
            r#"{"add":{"n":null},"del":["x","y"]}"#
        );
        assert_eq!(journal("{}"), "{}");
    }

    #[test]
    fn an_overwrite_replaces_a_reduced_field_on_purpose() {
        assert_eq!(journal(r#"{"overwrite":{"n":5}}"#), r#"{"set":{"n":5}}"#);
        assert_eq!(journal(r#"{"overwrite":{"n":null}}"#), r#"{"del":["n"]}"#);
        assert_eq!(journal(r#"{"set":{"n":2},"overwrite":{"n":5}}"#), r#"{"set":{"n":7}}"#);
        assert_eq!(journal(r#"{"set":{"l":2},"overwrite":{"l":null}}"#), r#"{"set":{"l":[2]}}"#);
    }

    #[test]
    fn what_a_task_may_not_write_is_refused_with_its_code() {
        for (worker, code) in [
            (r#"{"set":{"n":"1"}}"#, "reducer"),
            (r#"{"overwrite":{"n":[]}}"#, "reducer"),
            (r#"{"del":["n"]}"#, "invalid_state"),
            (r#"{"del":[1]}"#, "invalid_state"),
            (r#"{"sets":{}}"#, "invalid_state"),
            (r#"{"set":{"x":NaN}}"#, "invalid_state"),
            ("[]", "invalid_state"),
        ] {
            assert_eq!(Changes::from_task(worker, &reducers()).unwrap_err().code(), code, "{worker}");
        }
    }

    #[test]
    fn the_later_change_of_a_step_stands() {
        let mut changes = Changes::from_task(r#"{"set":{"n":1,"x":1,"y":1}}"#, &reducers()).unwrap();
        changes.merge(Changes::from_task(r#"{"set":{"n":2,"x":null}}"#, &reducers()).unwrap());
        let mut out = String::new();
        changes.to_journal(&mut out);
        assert_eq!(out, r#"{"add":{"n":2},"set":{"y":1},"del":["x"]}"#);
        assert_eq!(Changes::from_journal(&out).unwrap(), changes);
    }
}
