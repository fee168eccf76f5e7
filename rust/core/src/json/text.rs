//! Strings by value. JSON can spell half a surrogate pair, which no `str` can hold.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A decoded string in generalized UTF-8 (WTF-8): as UTF-8, with lone surrogates as three bytes each.
/// The order of the bytes is the order of the code points.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Text(Vec<u8>);

const HIGH: std::ops::Range<u32> = 0xd800..0xdc00;
const LOW: std::ops::Range<u32> = 0xdc00..0xe000;

impl Text {
    /// Decodes a string literal, quotes included, that is known to be valid.
    pub(crate) fn of_literal(literal: &str) -> Self {
        let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(inner.len());
        let mut rest = inner;
        while let Some(at) = rest.find('\\') {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            rest = decode_escape(&rest[at + 1..], &mut bytes);
        }
        bytes.extend_from_slice(rest.as_bytes());
        Self(bytes)
    }

    /// The string, unless it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The string with U+FFFD in place of every lone surrogate.
    pub fn to_lossy(&self) -> Cow<'_, str> {
        match self.as_str() {
            Some(text) => text.into(),
            None => self.parts().map(|part| part.unwrap_or("\u{fffd}")).collect(),
        }
    }

    /// The bytes in generalized UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many code points it has, as Python counts them.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|&&b| b & 0xc0 != 0x80).count()
    }

    /// Whether `part` occurs in it.
    pub fn contains(&self, part: &Self) -> bool {
        match (self.as_str(), part.as_str()) {
            (Some(whole), Some(part)) => whole.contains(part),
            _ => part.is_empty() || self.0.windows(part.0.len()).any(|window| window == part.0),
        }
    }

    /// Appends the string literal, quotes included.
    pub fn encode(&self, out: &mut String) {
        out.push('"');
        for part in self.parts() {
            match part {
                Ok(valid) => escape_inner(valid, out),
                // Writing to a String cannot fail.
                Err(surrogate) => drop(write!(out, "\\u{surrogate:04x}")),
            }
        }
        out.push('"');
    }

    /// The stretches of valid text, and the lone surrogates between them.
    fn parts(&self) -> impl Iterator<Item = Result<&str, u32>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let valid = match std::str::from_utf8(rest) {
                Ok(text) => text,
                Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
            };
            if !valid.is_empty() {
                rest = &rest[valid.len()..];
                return Some(Ok(valid));
            }
            let [a, b, c, ..] = *rest else { return None };
            rest = &rest[3..];
            Some(Err(u32::from(a & 0x0f) << 12 | u32::from(b & 0x3f) << 6 | u32::from(c & 0x3f)))
        })
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Decodes what follows a backslash and gives the rest.
fn decode_escape<'a>(rest: &'a str, out: &mut Vec<u8>) -> &'a str {
    let Some(&kind) = rest.as_bytes().first() else { return "" };
    let plain = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0c,
        b'u' => return decode_unit(rest, out),
        other => other,
    };
    out.push(plain);
    &rest[1..]
}

/// Decodes `uXXXX`, or two of them that make one code point.
fn decode_unit<'a>(rest: &'a str, out: &mut Vec<u8>) -> &'a str {
    let Some(unit) = hex(rest.get(1..5)) else { return "" };
    let after = &rest[5..];
    if HIGH.contains(&unit) && after.starts_with("\\u") {
        if let Some(low) = hex(after.get(2..6)).filter(|low| LOW.contains(low)) {
            push_code_point(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), out);
            return &after[6..];
        }
    }
    push_code_point(unit, out);
    after
}

fn hex(digits: Option<&str>) -> Option<u32> {
    u32::from_str_radix(digits?, 16).ok()
}

fn push_code_point(code: u32, out: &mut Vec<u8>) {
    if let Some(c) = char::from_u32(code) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.extend([0xe0 | (code >> 12) as u8, 0x80 | (code >> 6 & 0x3f) as u8, 0x80 | (code & 0x3f) as u8]);
    }
}

/// Appends a JSON string literal, quotes included.
pub fn escape(text: &str, out: &mut String) {
    out.push('"');
    escape_inner(text, out);
    out.push('"');
}

fn escape_inner(text: &str, out: &mut String) {
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[start..at]);
        if short.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(short);
        }
        start = at + 1;
    }
    out.push_str(&text[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(literal: &str) -> String {
        let mut out = String::new();
        Text::of_literal(literal).encode(&mut out);
        out
    }

    #[test]
    fn escapes_are_read_and_only_the_needed_ones_written() {
        assert_eq!(
            Text::of_literal(r#""\"\\\/\b\f\n\r\t\u0041\u00e9""#).as_str(),
            Some("\"\\/\u{8}\u{c}\n\r\tAé")
        );
        assert_eq!(again(r#""\"\\\/\b\u000c\n\u0000é""#), r#""\"\\/\u0008\u000c\n\u0000é""#);
    }

    #[test]
    fn a_pair_of_escapes_is_one_code_point() {
        assert_eq!(Text::of_literal(r#""\ud83d\ude00""#).as_str(), Some("\u{1f600}"));
        assert_eq!(Text::of_literal(r#""\ud83d\ude00""#).count(), 1);
    }

    #[test]
    fn half_a_pair_survives() {
        for literal in [r#""\ud83d""#, r#""a\ude00b""#, r#""\ude00\ud83d""#, r#""\ud83d\ud83dx""#] {
            assert_eq!(again(literal), literal);
            assert_eq!(Text::of_literal(literal).as_str(), None);
        }
        assert_eq!(Text::of_literal(r#""a\ud800b""#).to_lossy(), "a\u{fffd}b");
        assert_eq!(Text::of_literal(r#""a\ud800""#).count(), 2);
        let half = Text::of_literal(r#""\ud800""#);
        assert!(Text::of_literal(r#""a\ud800b""#).contains(&half) && !Text::from("ab").contains(&half));
    }
}
