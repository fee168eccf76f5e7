//! The strict scanner (RFC 8259): finds where a value ends without building anything, and without
//! recursion.

use smallvec::SmallVec;

use super::{Kind, STORED_DEPTH};
use crate::error::{Error, Result};

/// A position in a JSON text.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    max_depth: usize,
}

impl<'a> Scanner<'a> {
    /// At the start of a text that may nest as deep as any stored one.
    pub fn new(text: &'a str) -> Self {
        Self::within(text, STORED_DEPTH)
    }

    /// At the start of a text each value of which may nest `max_depth` deep.
    pub fn within(text: &'a str, max_depth: usize) -> Self {
        Self { text, at: 0, max_depth }
    }

    /// The raw text of the next value.
    pub fn value(&mut self) -> Result<&'a str> {
        self.skip_space();
        let start = self.at;
        self.skip_value()?;
        Ok(&self.text[start..self.at])
    }

    /// Only space may follow.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.at == self.text.len() {
            return Ok(());
        }
        Err(self.error("nothing more was expected"))
    }

    /// Enters an object.
    pub fn open_object(&mut self) -> Result<()> {
        self.skip_space();
        self.expect(b'{', "a JSON object was expected")
    }

    /// Enters an array.
    pub fn open_array(&mut self) -> Result<()> {
        self.skip_space();
        self.expect(b'[', "a JSON array was expected")
    }

    /// What the next value is; `Null` also where none is.
    pub fn kind(&mut self) -> Kind {
        self.skip_space();
        Kind::of(&self.text[self.at..])
    }

    /// The next name (a string literal, quotes included) and its value; at the closing brace nothing.
    pub fn next_member(&mut self, is_first: bool) -> Result<Option<(&'a str, &'a str)>> {
        let Some(name) = self.next_name(is_first)? else { return Ok(None) };
        Ok(Some((name, self.value()?)))
    }

    /// The next name, after which its value stands; at the closing brace nothing.
    pub fn next_name(&mut self, is_first: bool) -> Result<Option<&'a str>> {
        if !self.has_next(is_first, b'}')? {
            return Ok(None);
        }
        let start = self.at;
        self.string()?;
        let name = &self.text[start..self.at];
        self.colon()?;
        Ok(Some(name))
    }

    /// The next element; at the closing bracket nothing.
    pub fn next_item(&mut self, is_first: bool) -> Result<Option<&'a str>> {
        if !self.has_item(is_first)? {
            return Ok(None);
        }
        self.value().map(Some)
    }

    /// Whether an element stands here; past the closing bracket if not.
    pub fn has_item(&mut self, is_first: bool) -> Result<bool> {
        self.has_next(is_first, b']')
    }

    fn has_next(&mut self, is_first: bool, close: u8) -> Result<bool> {
        self.skip_space();
        if self.peek() == close {
            self.at += 1;
            return Ok(false);
        }
        if !is_first {
            self.expect(b',', "a comma or the closing bracket was expected")?;
            self.skip_space();
        }
        Ok(true)
    }

    fn skip_value(&mut self) -> Result<()> {
        let mut open: SmallVec<[u8; 64]> = SmallVec::new();
        loop {
            self.skip_space();
            match self.peek() {
                b'"' => self.string()?,
                b'{' => {
                    if self.descend(&mut open, b'}')? {
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    if self.descend(&mut open, b']')? {
                        continue;
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return Err(self.error("a JSON value was expected")),
            }
            if !self.ascend(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Enters an array or object, and leaves it at once when it is empty. Whether it has something inside.
    fn descend(&mut self, open: &mut SmallVec<[u8; 64]>, close: u8) -> Result<bool> {
        if open.len() >= self.max_depth {
            return Err(self.error(&format!("JSON nests more than {} deep", self.max_depth)));
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == close {
            self.at += 1;
            return Ok(false);
        }
        open.push(close);
        Ok(true)
    }

    /// After a value: closes what ends here. Whether another value follows.
    fn ascend(&mut self, open: &mut SmallVec<[u8; 64]>) -> Result<bool> {
        while let Some(&close) = open.last() {
            self.skip_space();
            let here = self.peek();
            if here == b',' {
                self.at += 1;
                if close == b'}' {
                    self.name()?;
                }
                return Ok(true);
            }
            if here != close {
                return Err(self.error("a comma or the closing bracket was expected"));
            }
            self.at += 1;
            open.pop();
        }
        Ok(false)
    }

    fn name(&mut self) -> Result<()> {
        self.skip_space();
        self.string()?;
        self.colon()
    }

    fn colon(&mut self) -> Result<()> {
        self.skip_space();
        self.expect(b':', "a colon was expected")
    }

    fn string(&mut self) -> Result<()> {
        self.expect(b'"', "a name in double quotes was expected")?;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.skip_escape()?,
                Some(0..=0x1f) => return Err(self.error("a control character in a string must be escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.error("a string is not closed")),
            }
        }
    }

    fn skip_escape(&mut self) -> Result<()> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.error("four hexadecimal digits were expected"));
                }
                self.at += 5;
            }
            _ => return Err(self.error("there is no such escape")),
        }
        Ok(())
    }

    /// Passes a number.
    pub fn number(&mut self) -> Result<()> {
        let start = self.at;
        self.at += usize::from(self.peek() == b'-');
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut has_exponent = false;
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            has_exponent = true;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.digits()?;
        }
        self.check_range(start, has_exponent)
    }

    /// A float that reads as infinite could not be written again. Without an exponent that takes 309 digits.
    fn check_range(&self, start: usize, has_exponent: bool) -> Result<()> {
        let text = &self.text[start..self.at];
        if !has_exponent && (text.len() < 309 || !text.contains('.')) {
            return Ok(());
        }
        crate::number::Number::of_valid(text).map(drop)
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error("a digit was expected"));
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("a JSON value was expected"));
        }
        self.at += word.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8, message: &str) -> Result<()> {
        if self.peek() != byte {
            return Err(self.error(message));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The byte here; 0, which no JSON text may hold, at the end.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn error(&self, message: &str) -> Error {
        Error::invalid(format!("not valid JSON at byte {}: {message}", self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Value;

    #[test]
    fn what_the_standard_allows_is_taken() {
        for text in [
            "0",
            "-0",
            "10",
            "-1.5e+10",
            "1E5",
            "\"\\u0000\\ud800\\\"/\\/\"",
            "[[],{},[[]]]",
            "\"\u{7f}é\u{1f600}\"",
            "{\"a\":[1,2,{\"b\":null}],\"\":true}",
            "[ 1 , 2 ]",
            "{ }",
            "1e-400",
            "[1 ]",
        ] {
            assert_eq!(Value::parse(text).unwrap().raw(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            " ",
            "NaN",
            "Infinity",
            "-Infinity",
            "-",
            "01",
            "1.",
            ".1",
            "1e",
            "+1",
            "1e400",
            "tru",
            "nul",
            "True",
            "'a'",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"a\nb\"",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "{1:1}",
            "1 1",
            "nullx",
            "[1]]",
            "\u{feff}1",
            "\u{a0}1",
            "/**/1",
            "\0",
        ] {
            assert!(Value::parse(text).is_err(), "{text}");
        }
    }
}
