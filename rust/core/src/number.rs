//! Exact numbers: integers of any size, and finite floats.
//!
//! An integer stays an integer through every operation but true division; one of each kind gives a float.

mod arithmetic;

use std::cmp::Ordering;
use std::fmt::Write as _;

use num_bigint::BigInt;
use num_traits::{FromPrimitive as _, ToPrimitive as _, Zero as _};

use crate::error::{Error, Result};
use crate::json::scan::Scanner;

/// A JSON number by value. Equality and order are exact across integers and floats.
#[derive(Clone, Debug)]
pub enum Number {
    /// An integer that fits.
    Small(i64),
    /// An integer that does not fit `Small`; made by `From<BigInt>` only.
    Big(BigInt),
    /// A finite float; made by `Number::float` only.
    Float(f64),
}

/// Integers up to this magnitude are floats without loss.
const EXACT_IN_FLOAT: u64 = 1 << 53;

impl Number {
    /// Reads the text of one JSON number. Digits beyond the float range are refused.
    pub fn parse(text: &str) -> Result<Self> {
        let mut scanner = Scanner::new(text);
        scanner.number()?;
        scanner.end()?;
        Self::of_valid(text)
    }

    /// Reads a text already known to be a JSON number.
    pub(crate) fn of_valid(text: &str) -> Result<Self> {
        if let Ok(small) = text.parse() {
            return Ok(Self::Small(small));
        }
        if text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            return text.parse().ok().and_then(Self::float).ok_or_else(|| out_of_range(text));
        }
        let big = BigInt::parse_bytes(text.as_bytes(), 10);
        big.map(Self::from).ok_or_else(|| Error::invalid(format!("`{text}` is not a number")))
    }

    /// A float, unless it is NaN or infinite.
    pub fn float(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }

    /// Whether it is an integer, by kind and not by value.
    pub fn is_integer(&self) -> bool {
        !matches!(self, Self::Float(_))
    }

    /// Whether it is 0, 0.0 or -0.0.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Small(i) => *i == 0,
            Self::Big(_) => false,
            Self::Float(f) => *f == 0.0,
        }
    }

    /// The value if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Small(i) => Some(*i),
            _ => None,
        }
    }

    /// The JSON text: an integer's digits, or the shortest float that reads back, spelt as Python spells it.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Appends what `to_text` gives.
    pub fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Small(i) => write!(out, "{i}"),
            Self::Big(big) => write!(out, "{big}"),
            Self::Float(f) => write_float(*f, out),
        };
    }

    /// Appends a text that is the same for equal values: `1`, `1.0` and `1e0` are all `1`.
    pub fn write_canonical(&self, out: &mut String) {
        match self {
            Self::Float(f) if f.fract() == 0.0 => Self::from(integral(*f)).write(out),
            _ => self.write(out),
        }
    }
}

/// Python's `repr`: the shortest digits that read back, of equally short ones the nearest, and of equally
/// near ones the even. Rust's shortest form rounds such a half up, so long digits are asked for again.
fn write_float(value: f64, out: &mut String) -> std::fmt::Result {
    const FEW: usize = 15;
    let shortest = format!("{value:e}");
    let digits = shortest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    let even = (digits > FEW).then(|| format!("{value:.*e}", digits - 1));
    let chosen = even.filter(|text| text.parse() == Ok(value)).unwrap_or(shortest);
    let (mantissa, exponent) = chosen.split_once('e').unwrap_or((&chosen, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return write_positional(mantissa, exponent, out);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `d.ddd` times a power of ten without an exponent, and always with a point.
fn write_positional(mantissa: &str, exponent: i32, out: &mut String) -> std::fmt::Result {
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    out.push_str(if mantissa.starts_with('-') { "-" } else { "" });
    let Ok(point) = usize::try_from(exponent).map(|exponent| exponent + 1) else {
        return write!(out, "0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    };
    match digits.split_at_checked(point) {
        Some((whole, fraction)) => {
            write!(out, "{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
        }
        None => write!(out, "{digits}{}.0", "0".repeat(point - digits.len())),
    }
}

/// The integer part of a finite float.
fn integral(value: f64) -> BigInt {
    BigInt::from_f64(value.trunc()).unwrap_or_default()
}

fn out_of_range(text: &str) -> Error {
    let shown: String = text.chars().take(40).collect();
    Error::invalid(format!("the number `{shown}` is out of the range of a float: write it as a string"))
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Small(value)
    }
}

impl From<BigInt> for Number {
    fn from(value: BigInt) -> Self {
        value.to_i64().map_or_else(|| Self::Big(value), Self::Small)
    }
}

fn cmp_small_float(int: i64, float: f64) -> Ordering {
    if int.unsigned_abs() <= EXACT_IN_FLOAT {
        return (int as f64).partial_cmp(&float).unwrap_or(Ordering::Equal);
    }
    cmp_big_float(&BigInt::from(int), float)
}

fn cmp_big_float(int: &BigInt, float: f64) -> Ordering {
    let fraction = float.fract();
    int.cmp(&integral(float)).then_with(|| 0.0.partial_cmp(&fraction).unwrap_or(Ordering::Equal))
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(a), Self::Small(b)) => a.cmp(b),
            (Self::Big(a), Self::Big(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Small(a), Self::Float(b)) => cmp_small_float(*a, *b),
            (Self::Big(a), Self::Float(b)) => cmp_big_float(a, *b),
            (Self::Small(_), Self::Big(b)) => BigInt::zero().cmp(b),
            _ => other.cmp(self).reverse(),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn a_float_is_spelt_as_python_spells_it() {
        for text in [
            "1.0",
            "-0.0",
            "0.1",
            "1e+16",
            "1.5e-05",
            "0.0001",
            "1e+100",
            "1234567890123456.0",
            "5e-324",
            "120.0",
            "-862692205762859.2",
        ] {
            assert_eq!(n(text).to_text(), text);
        }
    }

    #[test]
    fn an_integer_keeps_every_digit() {
        let digits = "123456789012345678901234567890";
        assert_eq!(n(digits).to_text(), digits);
        assert_eq!(n("-0").to_text(), "0");
    }

    #[test]
    fn order_is_exact_between_integers_and_floats() {
        assert!(n("9007199254740993") > n("9007199254740992.0"));
        assert!(n("10000000000000000000001") > n("1e22"));
        assert!(n("-10000000000000000000001") < n("-1e22"));
        assert!(n("1") < n("1.5") && n("-1") > n("-1.5"));
        assert!(n("1e300") > n("9223372036854775807") && n("-1e300") < n("-9223372036854775808"));
        assert_eq!(n("1"), n("1.0"));
    }

    #[test]
    fn equal_values_have_one_canonical_text() {
        for text in ["100", "100.0", "1e2", "1E+2"] {
            let mut out = String::new();
            n(text).write_canonical(&mut out);
            assert_eq!(out, "100");
        }
    }

    #[test]
    fn what_no_float_can_hold_is_refused() {
        assert!(Number::parse("1e400").unwrap_err().message.contains("out of the range"));
        for text in ["", "01", "+1", "1.", ".5", "1e", "NaN", "Infinity", "0x1", "1 "] {
            assert!(Number::parse(text).is_err(), "{text}");
        }
    }
}
