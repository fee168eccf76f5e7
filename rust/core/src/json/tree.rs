//! A value taken apart.

use super::scan::Scanner;
use super::text::Text;
use super::{last_wins, Kind};
use crate::error::Result;
use crate::number::Number;

/// A JSON value as a tree. The order of an object's fields is kept and takes part in equality.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(Text),
    /// An array.
    Array(Vec<Json>),
    /// An object: names are unique.
    Object(Vec<(Text, Json)>),
}

impl Json {
    /// Appends the compact text.
    pub fn encode(&self, out: &mut String) {
        self.write(out, false);
    }

    /// The compact text.
    pub fn encoded(&self) -> String {
        let mut out = String::new();
        self.encode(&mut out);
        out
    }

    /// A text that is the same for equal values: names sorted, numbers by value.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, true);
        out
    }

    fn write(&self, out: &mut String, is_canonical: bool) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) if is_canonical => number.write_canonical(out),
            Self::Number(number) => number.write(out),
            Self::String(text) => text.encode(out),
            Self::Array(items) => write_array(items, out, is_canonical),
            Self::Object(fields) => write_object(fields, out, is_canonical),
        }
    }
}

fn write_array(items: &[Json], out: &mut String, is_canonical: bool) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        item.write(out, is_canonical);
    }
    out.push(']');
}

fn write_object(fields: &[(Text, Json)], out: &mut String, is_canonical: bool) {
    let mut ordered: Vec<&(Text, Json)> = fields.iter().collect();
    if is_canonical {
        ordered.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    }
    out.push('{');
    for (at, (name, value)) in ordered.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        name.encode(out);
        out.push(':');
        value.write(out, is_canonical);
    }
    out.push('}');
}

/// Takes a valid text apart. Recursion is bounded by the depth that the scanner lets in.
pub(super) fn decode(raw: &str) -> Json {
    // A text that was checked reads.
    read(&mut Scanner::new(raw)).unwrap_or(Json::Null)
}

fn read(scanner: &mut Scanner<'_>) -> Result<Json> {
    Ok(match scanner.kind() {
        Kind::Array => {
            scanner.open_array()?;
            let mut items = Vec::new();
            while scanner.has_item(items.is_empty())? {
                items.push(read(scanner)?);
            }
            Json::Array(items)
        }
        Kind::Object => {
            scanner.open_object()?;
            let mut fields = Vec::new();
            while let Some(name) = scanner.next_name(fields.is_empty())? {
                fields.push((Text::of_literal(name), read(scanner)?));
            }
            Json::Object(last_wins(fields))
        }
        Kind::Null => scanner.value().map(|_| Json::Null)?,
        Kind::Bool => Json::Bool(scanner.value()? == "true"),
        Kind::Number => Json::Number(Number::of_valid(scanner.value()?)?),
        Kind::String => Json::String(Text::of_literal(scanner.value()?)),
    })
}
