//! The words of a condition.

use crate::number::Number;

/// One word.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// A number literal.
    Number(Number),
    /// A string literal, decoded.
    String(String),
    /// A name of a field, a function or a constant.
    Name(String),
    /// An operator or bracket.
    Sign(&'static str),
    /// Nothing follows.
    End,
}

/// Longer signs before their beginnings.
const SIGNS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "=~", "!~", "<", ">", "!", "(", ")", "[", "]", ".", "+", "-", "*",
    "/", "%", ",",
];

/// Cuts a condition into words, each with the byte it begins at.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let (token, len) = match first {
            '0'..='9' => number(rest),
            '\'' | '"' | '`' => string(rest, first),
            _ if is_name_start(first) => {
                let len = rest.find(|c| !is_name_part(c)).unwrap_or(rest.len());
                Ok((Token::Name(rest[..len].into()), len))
            }
            _ => sign(rest, first),
        }
        .map_err(|error| at_byte(at, &error))?;
        found.push((at, token));
        rest = rest[len..].trim_start();
    }
    found.push((text.len(), Token::End));
    Ok(found)
}

/// A sentence about a place in the text.
pub(super) fn at_byte(at: usize, message: &str) -> String {
    format!("at byte {at}: {message}")
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn sign(rest: &str, first: char) -> Result<(Token, usize), String> {
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Ok((Token::Sign(sign), sign.len()));
    }
    Err(match first {
        '=' => "`=` is not an operator: compare with `==`".into(),
        '&' => "`&` is not an operator: write `&&`".into(),
        '|' => "`|` is not an operator: write `||`".into(),
        other => format!("unexpected `{other}`"),
    })
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if is_digit(signed) {
            end = digits(signed);
        }
    }
    if let Some(next) = rest[end..].chars().next().filter(|c| is_name_part(*c)) {
        return Err(format!("unexpected `{next}` after the number {}", &rest[..end]));
    }
    let number = Number::parse(&rest[..end]).map_err(|_| format!("{} is not a number", &rest[..end]))?;
    Ok((Token::Number(number), end))
}

/// Within backticks everything is literal. Within the other quotes a backslash escapes the quote, itself and
/// `n r t uXXXX`; before anything else it stays, so that `'\d'` is a regex.
fn string(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((Token::String(value), at + 1));
        }
        if c != '\\' || quote == '`' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some((_, escaped)) if escaped == quote || escaped == '\\' => value.push(escaped),
            Some((_, 'n')) => value.push('\n'),
            Some((_, 'r')) => value.push('\r'),
            Some((_, 't')) => value.push('\t'),
            Some((at, 'u')) => {
                value.push(code_point(&rest[at + 1..])?);
                chars.nth(3);
            }
            Some((_, other)) => value.extend(['\\', other]),
            None => break,
        }
    }
    Err(format!("the string that begins with {quote} is not closed"))
}

fn code_point(rest: &str) -> Result<char, String> {
    let digits = rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    code.and_then(char::from_u32).ok_or_else(|| "`\\u` takes four hexadecimal digits of a character".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Vec<String> {
        let found = tokens(text).unwrap().into_iter();
        found.filter_map(|(_, t)| if let Token::String(s) = t { Some(s) } else { None }).collect()
    }

    #[test]
    fn quotes_hide_operators() {
        assert_eq!(strings(r#"'a || b' == "c && 'd'" != `"\`"#), ["a || b", "c && 'd'", "\"\\"]);
    }

    #[test]
    fn escapes_are_those_a_regex_does_not_need() {
        assert_eq!(strings(r"'\'\\\d\b\n\u00e9'"), ["'\\\\d\\b\né"]);
        assert_eq!(strings(r#""\"" '\\.'"#), ["\"", "\\."]);
    }

    #[test]
    fn what_is_no_word_is_refused_with_its_place() {
        for (text, part) in [
            ("a = 1", "at byte 2: `=` is not an operator: compare with `==`"),
            ("a & b", "write `&&`"),
            ("a | b", "write `||`"),
            ("'abc", "not closed"),
            ("1a", "unexpected `a`"),
            ("01", "01 is not a number"),
            ("'\\u12'", "four hexadecimal digits"),
            ("'\\u12€€'", "four hexadecimal digits"),
            ("a ? b", "unexpected `?`"),
        ] {
            assert!(tokens(text).unwrap_err().contains(part), "{text}");
        }
    }
}
