//! A condition against a state. Values are read in place; only numbers and strings are decoded.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::parser::{regex, Comparison, Expr, Operator, Path, Pattern, Step};
use crate::json::{canonical, items, member, members, Kind, Text};
use crate::number::Number;
use crate::state::State;

/// What an expression amounts to.
#[derive(Clone, Debug)]
pub(super) enum Operand<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, Text>),
    /// The raw text of an array.
    Array(&'a str),
    /// The raw text of an object.
    Object(&'a str),
}

type Evaluated<T> = Result<T, String>;

/// Evaluates an expression.
pub(super) fn evaluate<'a>(expr: &'a Expr, state: &'a State) -> Evaluated<Operand<'a>> {
    Ok(match expr {
        Expr::Null => Operand::Null,
        Expr::Bool(value) => Operand::Bool(*value),
        Expr::Number(number) => Operand::Number(number.clone()),
        Expr::String(text) => Operand::String(Cow::Borrowed(text)),
        Expr::Path(path) => find(path, state).map_or(Ok(Operand::Null), Operand::read)?,
        Expr::Has(path) => Operand::Bool(find(path, state).is_some_and(|raw| raw != "null")),
        Expr::Len(inner) => Operand::Number(length(&evaluate(inner, state)?)?),
        Expr::Not(inner) => Operand::Bool(!evaluate(inner, state)?.is_truthy()),
        Expr::Negate(inner) => Operand::Number(evaluate(inner, state)?.number("-")?.neg()),
        Expr::All(parts) => Operand::Bool(!has_part(parts, false, state)?),
        Expr::Any(parts) => Operand::Bool(has_part(parts, true, state)?),
        Expr::Arithmetic(first, rest) => Operand::Number(arithmetic(first, rest, state)?),
        Expr::Compare(comparison, left, right) => {
            Operand::Bool(compare(*comparison, &evaluate(left, state)?, &evaluate(right, state)?))
        }
        Expr::Matches(left, pattern, is_negated) => {
            Operand::Bool(matches(&evaluate(left, state)?, pattern, state)? != *is_negated)
        }
        Expr::In(left, right) => Operand::Bool(evaluate(right, state)?.holds(&evaluate(left, state)?)?),
    })
}

/// Whether one part is truthy, or not, as wanted; those after it are not evaluated.
fn has_part(parts: &[Expr], wanted: bool, state: &State) -> Evaluated<bool> {
    for part in parts {
        if evaluate(part, state)?.is_truthy() == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn find<'a>(path: &Path, state: &'a State) -> Option<&'a str> {
    let mut raw = state.get(&path.field)?.raw();
    for step in &path.steps {
        raw = match step {
            Step::Key(key) => member(raw, key)?,
            Step::Index(index) => item(raw, *index)?,
        };
    }
    Some(raw)
}

fn item(raw: &str, index: i64) -> Option<&str> {
    let place = match usize::try_from(index) {
        Ok(place) => place,
        Err(_) => items(raw).count().checked_sub(index.unsigned_abs() as usize)?,
    };
    items(raw).nth(place)
}

fn length(operand: &Operand<'_>) -> Evaluated<Number> {
    let count = match operand {
        Operand::Null => 0,
        Operand::Array(raw) => items(raw).count(),
        Operand::Object(raw) => {
            members(raw).map(|(name, _)| canonical(name)).collect::<std::collections::HashSet<_>>().len()
        }
        Operand::String(text) => text.count(),
        other => return Err(format!("{} has no length", other.described())),
    };
    Ok(Number::from(count as i64))
}

fn arithmetic(first: &Expr, rest: &[(Operator, Expr)], state: &State) -> Evaluated<Number> {
    let Some((sign, _)) = rest.first() else { return evaluate(first, state)?.number("") };
    let mut total = evaluate(first, state)?.number(sign)?;
    for (sign, expr) in rest {
        let number = evaluate(expr, state)?.number(sign)?;
        let result = match *sign {
            "+" => total.add(&number),
            "-" => total.sub(&number),
            "*" => total.mul(&number),
            "/" => total.div(&number),
            _ => total.rem(&number),
        };
        total = result.map_err(|error| error.message)?;
    }
    Ok(total)
}

fn compare(comparison: Comparison, left: &Operand<'_>, right: &Operand<'_>) -> bool {
    match comparison {
        Comparison::Equal => left.equals(right),
        Comparison::NotEqual => !left.equals(right),
        Comparison::Less => left.order(right).is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => left.order(right).is_some_and(Ordering::is_le),
        Comparison::Greater => left.order(right).is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => left.order(right).is_some_and(Ordering::is_ge),
    }
}

/// Only a string matches, and only a string is a pattern. Half a surrogate pair is read as U+FFFD.
fn matches(left: &Operand<'_>, pattern: &Pattern, state: &State) -> Evaluated<bool> {
    let dynamic = match pattern {
        Pattern::Literal(_) => None,
        Pattern::Dynamic(expr) => match evaluate(expr, state)? {
            Operand::String(text) => Some(regex(&text.to_lossy())?),
            _ => return Ok(false),
        },
    };
    let Operand::String(text) = left else { return Ok(false) };
    Ok(match (pattern, dynamic) {
        (_, Some(regex)) => regex.is_match(&text.to_lossy()),
        (Pattern::Literal(regex), None) => regex.is_match(&text.to_lossy()),
        (Pattern::Dynamic(_), None) => false,
    })
}

impl<'a> Operand<'a> {
    fn read(raw: &'a str) -> Evaluated<Self> {
        Ok(match Kind::of(raw) {
            Kind::Null => Self::Null,
            Kind::Bool => Self::Bool(raw == "true"),
            Kind::Number => Self::Number(Number::of_valid(raw).map_err(|error| error.message)?),
            Kind::String => Self::String(Cow::Owned(Text::of_literal(raw))),
            Kind::Array => Self::Array(raw),
            Kind::Object => Self::Object(raw),
        })
    }

    /// Everything but null, false, 0, and what is empty.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => !number.is_zero(),
            Self::String(text) => !text.is_empty(),
            Self::Array(raw) => items(raw).next().is_some(),
            Self::Object(raw) => members(raw).next().is_some(),
        }
    }

    fn described(&self) -> &'static str {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Number(_) => Kind::Number,
            Self::String(_) => Kind::String,
            Self::Array(_) => Kind::Array,
            Self::Object(_) => Kind::Object,
        }
        .described()
    }

    fn number(self, sign: &str) -> Evaluated<Number> {
        match self {
            Self::Number(number) => Ok(number),
            other => Err(format!("`{sign}` takes numbers, not {}", other.described())),
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) | (Self::Object(a), Self::Object(b)) => {
                canonical(a) == canonical(b)
            }
            _ => false,
        }
    }

    /// Numbers by value, strings by code point; nothing else has an order.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Whether an array has the element, an object the key, a string the part.
    fn holds(&self, wanted: &Self) -> Evaluated<bool> {
        match (self, wanted) {
            (Self::Array(raw), _) => {
                for element in items(raw) {
                    if Operand::read(element)?.equals(wanted) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Self::Object(raw), Self::String(key)) => {
                Ok(members(raw).any(|(name, _)| Text::of_literal(name) == **key))
            }
            (Self::String(text), Self::String(part)) => Ok(text.contains(part)),
            _ => Ok(false),
        }
    }
}
