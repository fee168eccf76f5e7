//! JSON as the engine carries it: raw text that is checked once, and taken apart only on demand.
//!
//! Lone surrogate escapes and `\u0000` are legal, NaN and infinities are not, and numbers keep their
//! digits.

pub mod scan;
mod text;
mod tree;
mod view;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

pub use text::{escape, Text};
pub use tree::Json;
pub use view::{canonical, items, member, members};

use crate::error::{Error, Result};
use scan::Scanner;

/// How deep a value from outside may nest.
pub const MAX_DEPTH: usize = 1_000;

/// How deep a stored text may nest: a value, and the documents of the engine around it.
pub const STORED_DEPTH: usize = MAX_DEPTH + 16;

/// The raw text of one valid JSON value, without space around it. Equality is that of the text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Value(Arc<str>);

/// What a value is, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number, integer or not.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind with its article, for messages.
    pub fn described(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }

    pub(crate) fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            _ => Self::Null,
        }
    }
}

impl Value {
    /// Checks a text and takes it as it is. It may nest `MAX_DEPTH` deep.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_within(text, MAX_DEPTH)
    }

    pub(crate) fn parse_within(text: &str, max_depth: usize) -> Result<Self> {
        let mut scanner = Scanner::within(text, max_depth);
        let raw = scanner.value()?;
        scanner.end()?;
        Ok(Self(raw.into()))
    }

    /// Takes a text that is known to be one valid value without space around it.
    pub fn from_raw_unchecked(raw: impl Into<Arc<str>>) -> Self {
        Self(raw.into())
    }

    /// The text.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// `null`
    pub fn null() -> Self {
        Self("null".into())
    }

    /// `true` or `false`
    pub fn bool(value: bool) -> Self {
        Self(if value { "true" } else { "false" }.into())
    }

    /// An integer.
    pub fn int(value: i64) -> Self {
        Self(value.to_string().into())
    }

    /// A string.
    pub fn string(value: &str) -> Self {
        let mut raw = String::with_capacity(value.len() + 2);
        escape(value, &mut raw);
        Self(raw.into())
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.0)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// The elements of an array, raw.
    pub fn elements(&self) -> Option<Vec<Self>> {
        (self.kind() == Kind::Array).then(|| items(&self.0).map(|raw| Self(raw.into())).collect())
    }

    /// How many elements an array has.
    pub fn len_of_array(&self) -> Option<usize> {
        (self.kind() == Kind::Array).then(|| items(&self.0).count())
    }

    /// The value as a tree.
    pub fn decode(&self) -> Json {
        tree::decode(&self.0)
    }
}

/// The fields of one JSON object, their names decoded. Of a repeated name the last value counts, at the
/// first one's place. A name must be Unicode: one with a lone surrogate is refused.
pub fn object_fields(text: &str) -> Result<Vec<(Arc<str>, Value)>> {
    fields_within(text, STORED_DEPTH)
}

/// `object_fields` whose values nest `max_depth` deep at most.
pub(crate) fn fields_within(text: &str, max_depth: usize) -> Result<Vec<(Arc<str>, Value)>> {
    let mut scanner = Scanner::within(text, max_depth);
    scanner.open_object()?;
    let mut fields = Vec::new();
    while let Some((name, raw)) = scanner.next_member(fields.is_empty())? {
        fields.push((field_name(name)?, Value(raw.into())));
    }
    scanner.end()?;
    Ok(last_wins(fields))
}

fn field_name(literal: &str) -> Result<Arc<str>> {
    let inner = &literal[1..literal.len() - 1];
    if !inner.contains('\\') {
        return Ok(inner.into());
    }
    let decoded = Text::of_literal(literal);
    let name = decoded.as_str().ok_or_else(|| {
        Error::invalid(format!("the field name {literal} has half a surrogate pair: name it in Unicode"))
    })?;
    Ok(name.into())
}

/// Drops repeated names: the last value counts, at the first one's place.
fn last_wins<K: Hash + Eq + Clone, V>(fields: Vec<(K, V)>) -> Vec<(K, V)> {
    if has_no_repeat(&fields) {
        return fields;
    }
    let mut places: HashMap<K, usize> = HashMap::with_capacity(fields.len());
    let mut kept: Vec<(K, V)> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        if let Some(&place) = places.get(&name) {
            kept[place].1 = value;
        } else {
            places.insert(name.clone(), kept.len());
            kept.push((name, value));
        }
    }
    kept
}

/// Looked at for few fields only, where it is cheaper than a table.
fn has_no_repeat<K: Eq, V>(fields: &[(K, V)]) -> bool {
    const FEW: usize = 12;
    let is_new = |at: usize| fields[..at].iter().all(|(name, _)| *name != fields[at].0);
    fields.len() <= FEW && (1..fields.len()).all(is_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_text_without_the_space_around_it() {
        let value = Value::parse(" \n[1, {\"a\" : 1.50}]\t").unwrap();
        assert_eq!(value.raw(), "[1, {\"a\" : 1.50}]");
        assert_eq!(value.len_of_array(), Some(2));
        assert_eq!(value.elements().unwrap()[1].raw(), "{\"a\" : 1.50}");
    }

    #[test]
    fn the_kind_is_that_of_the_first_byte() {
        let kinds = [
            ("null", Kind::Null),
            ("true", Kind::Bool),
            ("-1", Kind::Number),
            ("\"\"", Kind::String),
            ("[]", Kind::Array),
            ("{}", Kind::Object),
        ];
        for (text, kind) in kinds {
            assert_eq!(Value::parse(text).unwrap().kind(), kind);
        }
    }

    #[test]
    fn of_a_repeated_name_the_last_value_counts() {
        let fields = object_fields(r#"{"a":1,"b":2,"\u0061":3}"#).unwrap();
        assert_eq!(fields, [("a".into(), Value::int(3)), ("b".into(), Value::int(2))]);
    }

    #[test]
    fn only_an_object_has_fields() {
        for text in ["[]", "1", "", "{", "{\"a\"}", "{\"a\":1,}", "{} x", "{,}", "{\"\\ud800\":1}"] {
            assert!(object_fields(text).is_err(), "{text}");
        }
        assert!(object_fields(" { } ").unwrap().is_empty());
    }

    #[test]
    fn depth_is_bounded_with_an_error() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::parse(&nested(MAX_DEPTH)).is_ok());
        assert!(Value::parse(&nested(MAX_DEPTH + 1)).unwrap_err().message.contains("deep"));
        assert_eq!(Value::parse(&nested(MAX_DEPTH)).unwrap().decode().encoded(), nested(MAX_DEPTH));
    }
}
