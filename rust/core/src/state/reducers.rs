//! Which field is reduced how.

use std::collections::BTreeMap;

use super::Field;
use crate::error::{Error, Result};
use crate::json::{escape, object_fields, Json};

/// How contributions to one field become its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reducer {
    /// The later write wins: a plain field.
    Replace,
    /// Lists one after the other; a scalar counts as a list of one.
    Append,
    /// As append, without what is already there.
    Union,
    /// The sum.
    Add,
    /// The smallest number.
    Min,
    /// The largest number.
    Max,
    /// Objects field by field, the later value wins.
    Merge,
    /// Whether all are true.
    And,
    /// Whether one is true.
    Or,
    /// Strings one after the other.
    Concat,
}

impl Reducer {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Replace,
        Self::Append,
        Self::Union,
        Self::Add,
        Self::Min,
        Self::Max,
        Self::Merge,
        Self::And,
        Self::Or,
        Self::Concat,
    ];

    /// The reducer of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reducer| reducer.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Union => "union",
            Self::Add => "add",
            Self::Min => "min",
            Self::Max => "max",
            Self::Merge => "merge",
            Self::And => "and",
            Self::Or => "or",
            Self::Concat => "concat",
        }
    }
}

/// The reducers of a graph by field. Fields that are not here are plain.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Reducers(BTreeMap<Field, Reducer>);

impl Reducers {
    /// The reducer of a field; `None` and `Replace` both mean a plain field.
    pub fn get(&self, field: &str) -> Option<Reducer> {
        self.0.get(field).copied()
    }

    /// The reducer of a field that is not plain.
    pub fn reduced(&self, field: &str) -> Option<Reducer> {
        self.get(field).filter(|reducer| *reducer != Reducer::Replace)
    }

    /// The fields in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Field, Reducer)> {
        self.0.iter().map(|(field, reducer)| (field, *reducer))
    }

    /// Whether every field is plain.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `{field: name}`.
    pub fn from_json(text: &str) -> Result<Self> {
        let read = |(field, name): (Field, crate::json::Value)| {
            let reducer = match name.decode() {
                Json::String(name) => name.as_str().and_then(Reducer::parse),
                _ => None,
            };
            reducer.map(|reducer| (field.clone(), reducer)).ok_or_else(|| unknown(&field, name.raw()))
        };
        object_fields(text)?.into_iter().map(read).collect()
    }

    /// Appends `{field: name}`.
    pub fn write_json(&self, out: &mut String) {
        out.push('{');
        for (at, (field, reducer)) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            escape(field, out);
            out.push(':');
            escape(reducer.name(), out);
        }
        out.push('}');
    }
}

fn unknown(field: &str, name: &str) -> Error {
    let names = Reducer::ALL.map(Reducer::name).join(", ");
    Error::invalid(format!("the reducer {name} of field `{field}` is unknown: use one of {names}"))
}

impl FromIterator<(Field, Reducer)> for Reducers {
    fn from_iter<I: IntoIterator<Item = (Field, Reducer)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reducer_has_a_name_that_reads_back() {
        for reducer in Reducer::ALL {
            assert_eq!(Reducer::parse(reducer.name()), Some(reducer));
        }
        assert_eq!(Reducer::parse("Append"), None);
    }

    #[test]
    fn reducers_read_and_write_as_one_object() {
        let text = r#"{"a":"append","n":"add"}"#;
        let mut out = String::new();
        let reducers = Reducers::from_json(text).unwrap();
        reducers.write_json(&mut out);
        assert_eq!(out, text);
        assert_eq!((reducers.get("n"), reducers.get("x")), (Some(Reducer::Add), None));
        assert!(Reducers::from_json(r#"{"a":"sum"}"#)
            .unwrap_err()
            .message
            .contains("one of replace, append"));
    }
}
