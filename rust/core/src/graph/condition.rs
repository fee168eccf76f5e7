//! Conditions of edges: parsed once, regexes included, and evaluated when a step finishes.
//!
//! `&& || ! == != < <= > >= =~ !~ in`, `+ - * / %`, `len(x)`, `has(x)`, parentheses, literals, and paths
//! such as `items[0].sku` or `order["total due"]`. A path that leads nowhere is null.

mod eval;
mod lexer;
mod parser;

use crate::state::State;

/// A parsed condition.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Box<str>,
    expr: parser::Expr,
}

impl Condition {
    /// Parses a condition. The error says what is wrong at which byte.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expr =
            parser::parse(text).map_err(|error| format!("the condition `{text}` is wrong: {error}"))?;
        Ok(Self { text: text.into(), expr })
    }

    /// Whether it holds. An operator that cannot take its operands, and a zero divisor, are errors.
    pub fn eval(&self, state: &State) -> Result<bool, String> {
        let operand = eval::evaluate(&self.expr, state);
        let failed = |error| format!("the condition `{}` cannot be evaluated: {error}", self.text);
        Ok(operand.map_err(failed)?.is_truthy())
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"n":3,"big":9007199254740993,"f":0.1,"s":"a || b","e":"","yes":true,"no":false,
        "items":[{"sku":"x-1","qty":2},{"sku":"y"}],"tags":["vip",7,[1]],"o":{"k":{"d":1.0},"odd key":2,"nil":null},
        "none":[],"void":{},"in2":1,"half":"\ud800x","pattern":"^a","broken":"(","len":4,"é":"\u00e9"}"#;

    fn eval(text: &str) -> Result<bool, String> {
        Condition::parse(text).unwrap().eval(&State::from_json(STATE).unwrap())
    }

    fn all_hold(conditions: &[&str]) {
        for text in conditions {
            assert_eq!(eval(text), Ok(true), "{text}");
        }
    }

    #[test]
    fn paths_lead_into_values_or_to_null() {
        all_hold(&[
            "items[0].sku == 'x-1'",
            "items[-1].sku == `y`",
            "items[2].sku == null",
            "items[-3] == null",
            "o.k.d == 1",
            "o[\"odd key\"] == 2",
            "o['k'][\"d\"] == 1.0",
            "n.x.y == null",
            "absent == null",
            "len == 4",
            "é == 'é'",
        ]);
    }

    #[test]
    fn truthy_is_all_but_null_false_zero_and_what_is_empty() {
        all_hold(&["n", "s", "yes", "items", "o", "'0'", "f"]);
        all_hold(&["!absent", "!no", "!0", "!0.0", "!-0.0", "!e", "!none", "!void"]);
    }

    #[test]
    fn different_types_are_never_equal_nor_ordered() {
        all_hold(&["n != '3'", "!(n == '3')", "!(n < '4')", "!(yes == 1)", "!(null < 1)", "!(null <= null)"]);
        all_hold(&["!(n =~ '3')", "n !~ '3'", "absent !~ 'x'", "!(s =~ absent)", "none != void"]);
    }

    #[test]
    fn comparison_is_exact_and_by_value() {
        all_hold(&[
            "big == 9007199254740993",
            "big > 9007199254740992.0",
            "n == 3.0",
            "'a' < 'b'",
            "'Z' < 'a'",
        ]);
        all_hold(&[
            "tags == tags",
            "o.k == o.k",
            "items != tags",
            "n >= 3",
            "n <= 3",
            "!(n < 3)",
            "!(n > 3)",
        ]);
    }

    #[test]
    fn arithmetic_binds_as_usual_and_stays_exact() {
        all_hold(&[
            "1 + 2 * 3 == 7",
            "(1 + 2) * 3 == 9",
            "10 - 2 - 3 == 5",
            "7 / 2 == 3.5",
            "-7 % 3 == 2",
            "2 * -n == -6",
            "big * big == 81129638414606699710187514626049",
            "n-1 == 2",
            "f + 0.2 != 0.3",
        ]);
        for text in ["1 / 0", "n % (n - 3)", "1 / 0.0", "s + 1", "-s", "absent + 1", "yes * 2", "1e308 * 10"]
        {
            assert!(eval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn functions_measure_and_ask() {
        all_hold(&["len(items) == 2", "len(absent) == 0", "len('aé') == 2", "len(o) == 3", "len(half) == 2"]);
        all_hold(&["has(o.k)", "!has(o.nil)", "!has(absent)", "has(items[1].sku)", "!has(items[5])"]);
        assert!(eval("len(n)").unwrap_err().contains("a number has no length"));
    }

    #[test]
    fn in_looks_into_lists_keys_and_strings() {
        all_hold(&[
            "'vip' in tags",
            "7.0 in tags",
            "!('7' in tags)",
            "items[0] in items",
            "'k' in o",
            "'||' in s",
        ]);
        all_hold(&["!(1 in n)", "!('x' in absent)", "!(in2 in o)"]);
    }

    #[test]
    fn regexes_are_unanchored_and_may_come_from_the_state() {
        all_hold(&["s =~ '\\|\\|'", "items[0].sku =~ '^x-\\d$'", "s =~ pattern", "e !~ 'x'", "half =~ 'x$'"]);
        assert!(eval("s =~ broken").unwrap_err().contains("does not compile"));
    }

    #[test]
    fn what_need_not_be_evaluated_is_not() {
        all_hold(&["yes || 1 / 0", "!(no && 1 / 0)", "yes && n || 1 / 0"]);
        assert!(eval("no || 1 / 0").is_err());
    }

    #[test]
    fn what_does_not_parse_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "empty"),
            ("n ==", "a value was expected, not the end"),
            ("n == 1 2", "an operator or the end was expected, not 2"),
            ("(n", "`)` was expected"),
            ("!n == 1", "ambiguous"),
            ("1 < n < 3", "do not chain"),
            ("n == True", "write true"),
            ("f(n)", "no function `f`"),
            ("has(1)", "has() takes the path"),
            ("s =~ '('", "does not compile"),
            ("s =~ 1", "written as a string"),
            ("items[n]", "an integer or a string"),
            ("items[1.5]", "an integer or a string"),
            ("o.", "a name was expected"),
            ("in", "a value was expected"),
            ("n and yes", "not `and`"),
        ] {
            assert!(Condition::parse(text).unwrap_err().contains(part), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_long_chains_are_not() {
        let nested = |depth: usize| format!("{}n{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(eval(&nested(99)), Ok(true));
        assert!(Condition::parse(&nested(100_000)).unwrap_err().contains("100 deep"));
        assert!(Condition::parse(&format!("{}n", "!".repeat(100_000))).is_err());
        assert_eq!(eval(&format!("0{} == 20000", " + 1".repeat(20_000))), Ok(true));
        assert_eq!(eval(&format!("no{}", " || yes".repeat(20_000))), Ok(true));
    }
}
