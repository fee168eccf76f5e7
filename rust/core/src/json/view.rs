//! Looking into a raw value that is known to be valid, without taking it apart.

use std::borrow::Cow;

use super::scan::Scanner;
use super::text::{escape, Text};
use super::{tree, Kind};

/// The elements of a raw array; of anything else none.
pub fn items(raw: &str) -> impl Iterator<Item = &str> {
    let mut scanner = Scanner::within(raw, usize::MAX);
    let mut is_open = scanner.open_array().is_ok();
    let mut is_first = true;
    std::iter::from_fn(move || {
        let item = is_open.then(|| scanner.next_item(is_first).ok().flatten()).flatten();
        is_open = item.is_some();
        is_first = false;
        item
    })
}

/// The fields of a raw object, names as raw string literals; of anything else none.
pub fn members(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut scanner = Scanner::within(raw, usize::MAX);
    let mut is_open = scanner.open_object().is_ok();
    let mut is_first = true;
    std::iter::from_fn(move || {
        let member = is_open.then(|| scanner.next_member(is_first).ok().flatten()).flatten();
        is_open = member.is_some();
        is_first = false;
        member
    })
}

/// The raw value of one field of a raw object.
pub fn member<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    let mut wanted = String::with_capacity(name.len() + 2);
    escape(name, &mut wanted);
    members(raw).filter(|(literal, _)| canonical(literal) == wanted).last().map(|(_, value)| value)
}

/// A text that is the same for equal values; see `Json::canonical`.
pub fn canonical(raw: &str) -> Cow<'_, str> {
    match Kind::of(raw) {
        Kind::Null | Kind::Bool => raw.into(),
        // Without a backslash it is already spelt the one way in which `escape` spells it.
        Kind::String if !raw.contains('\\') => raw.into(),
        Kind::Number if raw.parse::<i64>().is_ok() && raw != "-0" => raw.into(),
        Kind::String => {
            let mut out = String::with_capacity(raw.len());
            Text::of_literal(raw).encode(&mut out);
            out.into()
        }
        _ => tree::decode(raw).canonical().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_elements_are_found_by_raw_text() {
        assert_eq!(items("[ 1, [2] ,{}]").collect::<Vec<_>>(), ["1", "[2]", "{}"]);
        assert_eq!(members(r#"{"a": 1, "b":[]}"#).collect::<Vec<_>>(), [("\"a\"", "1"), ("\"b\"", "[]")]);
        assert_eq!(items("{}").count() + members("[]").count(), 0);
        assert_eq!(member(r#"{"a":1,"\u0061":2}"#, "a"), Some("2"));
    }

    #[test]
    fn equal_values_have_one_canonical_text() {
        for (a, b) in [
            (r#"{"a":1,"b":[2.0]}"#, r#"{ "b" : [2], "\u0061":1.0 }"#),
            (r#""\u00e9""#, "\"é\""),
            ("-0", "0.0"),
            ("1e2", "100"),
        ] {
            assert_eq!(canonical(a), canonical(b));
        }
        assert_ne!(canonical("1"), canonical("\"1\""));
    }
}
