//! The operators of conditions and of the reducer `add`, with Python's results.

use num_bigint::BigInt;
use num_traits::{Signed as _, ToPrimitive as _, Zero as _};

use super::{Number, EXACT_IN_FLOAT};
use crate::error::{Error, Result};

impl Number {
    /// The sum; of an integer and a float a float.
    pub fn add(&self, other: &Self) -> Result<Self> {
        if let (Self::Small(a), Self::Small(b)) = (self, other) {
            if let Some(sum) = a.checked_add(*b) {
                return Ok(Self::Small(sum));
            }
        }
        self.combine(other, "sum", |a, b| a + b, |a, b| a + b)
    }

    /// The difference.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.combine(other, "difference", |a, b| a - b, |a, b| a - b)
    }

    /// The product.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.combine(other, "product", |a, b| a * b, |a, b| a * b)
    }

    /// The quotient, always a float, correctly rounded also for integers of any size.
    pub fn div(&self, other: &Self) -> Result<Self> {
        if other.is_zero() {
            return Err(Error::invalid("division by zero"));
        }
        let quotient = match (self.as_big(), other.as_big()) {
            (Some(a), Some(b)) if !(fits(&a) && fits(&b)) => divide_exactly(&a, &b),
            _ => self.to_f64()? / other.to_f64()?,
        };
        finite(quotient, "quotient")
    }

    /// The remainder with the sign of the divisor.
    pub fn rem(&self, other: &Self) -> Result<Self> {
        if other.is_zero() {
            return Err(Error::invalid("remainder of a division by zero"));
        }
        self.combine(other, "remainder", floored_big, floored_float)
    }

    /// The number with its sign turned.
    #[must_use]
    pub fn neg(&self) -> Self {
        match self {
            Self::Small(i) => i.checked_neg().map_or_else(|| Self::from(-BigInt::from(*i)), Self::Small),
            Self::Big(big) => Self::from(-big),
            Self::Float(f) => Self::Float(-f),
        }
    }

    /// The nearest float; an integer beyond the float range is refused.
    pub fn to_f64(&self) -> Result<f64> {
        match self {
            Self::Small(i) => Ok(*i as f64),
            Self::Float(f) => Ok(*f),
            Self::Big(big) => big
                .to_f64()
                .filter(|f| f.is_finite())
                .ok_or_else(|| Error::invalid("an integer is too large to be combined with a float")),
        }
    }

    fn as_big(&self) -> Option<BigInt> {
        match self {
            Self::Small(i) => Some(BigInt::from(*i)),
            Self::Big(big) => Some(big.clone()),
            Self::Float(_) => None,
        }
    }

    fn combine(
        &self,
        other: &Self,
        what: &str,
        exact: fn(BigInt, BigInt) -> BigInt,
        rounded: fn(f64, f64) -> f64,
    ) -> Result<Self> {
        match (self.as_big(), other.as_big()) {
            (Some(a), Some(b)) => Ok(Self::from(exact(a, b))),
            _ => finite(rounded(self.to_f64()?, other.to_f64()?), what),
        }
    }
}

fn finite(value: f64, what: &str) -> Result<Number> {
    Number::float(value).ok_or_else(|| Error::invalid(format!("the {what} is not a finite number")))
}

fn fits(int: &BigInt) -> bool {
    int.magnitude().to_u64().is_some_and(|m| m <= EXACT_IN_FLOAT)
}

#[expect(clippy::needless_pass_by_value, reason = "one shape for all exact operators")]
fn floored_big(a: BigInt, b: BigInt) -> BigInt {
    let rest = &a % &b;
    if rest.is_zero() || rest.is_negative() == b.is_negative() {
        return rest;
    }
    rest + b
}

fn floored_float(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest == 0.0 {
        return 0.0_f64.copysign(b);
    }
    if (rest < 0.0) == (b < 0.0) {
        return rest;
    }
    rest + b
}

/// Rounds once: 66 bits of quotient, the last of which remembers whether anything is left over.
fn divide_exactly(a: &BigInt, b: &BigInt) -> f64 {
    let shift = b.bits() as i64 - a.bits() as i64 + 66;
    let (mut top, mut bottom) = (a.magnitude().clone(), b.magnitude().clone());
    if shift >= 0 {
        top <<= shift as u64;
    } else {
        bottom <<= shift.unsigned_abs();
    }
    let mut quotient = &top / &bottom;
    if !(top % bottom).is_zero() {
        quotient.set_bit(0, true);
    }
    let size = scale(quotient.to_f64().unwrap_or(f64::INFINITY), -shift);
    if a.is_negative() == b.is_negative() {
        size
    } else {
        -size
    }
}

/// `value * 2^exponent`, in two factors since one alone may be out of range.
fn scale(value: f64, exponent: i64) -> f64 {
    let exponent = exponent.clamp(-2_000, 2_000) as i32;
    let half = exponent / 2;
    value * 2.0_f64.powi(half) * 2.0_f64.powi(exponent - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn sums_leave_the_fast_path_without_loss() {
        assert_eq!(n("9223372036854775807").add(&n("1")).unwrap().to_text(), "9223372036854775808");
        assert_eq!(n("9223372036854775808").sub(&n("1")).unwrap().as_i64(), Some(i64::MAX));
        assert_eq!(n("-9223372036854775808").neg().to_text(), "9223372036854775808");
        assert_eq!(n("3037000500").mul(&n("3037000500")).unwrap().to_text(), "9223372037000250000");
    }

    #[test]
    fn an_integer_and_a_float_give_a_float() {
        assert_eq!(n("1").add(&n("0.5")).unwrap().to_text(), "1.5");
        assert_eq!(n("2").mul(&n("0.5")).unwrap().to_text(), "1.0");
    }

    #[test]
    fn division_is_true_division() {
        assert_eq!(n("7").div(&n("2")).unwrap().to_text(), "3.5");
        assert_eq!(n("4").div(&n("2")).unwrap().to_text(), "2.0");
        let a = n("123456789012345678901234567890");
        assert_eq!(a.div(&n("-1234567890123456789")).unwrap().to_text(), "-100000000000.0");
        assert_eq!(a.div(&a).unwrap().to_text(), "1.0");
        assert!(n("1").div(&n("0.0")).is_err());
    }

    #[test]
    fn the_remainder_has_the_sign_of_the_divisor() {
        for (a, b, r) in [
            ("7", "3", "1"),
            ("-7", "3", "2"),
            ("7", "-3", "-2"),
            ("-7", "-3", "-1"),
            ("-6", "3", "0"),
            ("5.5", "-2", "-0.5"),
            ("-1", "3.0", "2.0"),
            ("-9223372036854775808", "-1", "0"),
        ] {
            assert_eq!(n(a).rem(&n(b)).unwrap().to_text(), r, "{a} % {b}");
        }
        assert!(n("1").rem(&n("0")).is_err());
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        assert!(n("1e308").add(&n("1e308")).is_err());
        assert!(n(&"9".repeat(400)).add(&n("0.5")).is_err());
    }
}
