//! Words to a tree, by recursive descent. From loose to tight: `||`, `&&`, comparison, `+ -`, `* / %`, `! -`.

use regex::Regex;

use super::lexer::{at_byte, tokens, Token};
use crate::json::Text;
use crate::number::Number;
use crate::state::Field;

/// How deep parentheses and prefix operators may nest.
const MAX_DEPTH: usize = 100;

/// A part of a condition. Chains are flat, so the height is bounded by `MAX_DEPTH`.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Number(Number),
    String(Text),
    Path(Path),
    Has(Path),
    Len(Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// Whether a regex matches; with `true` whether it does not.
    Matches(Box<Expr>, Pattern, bool),
    In(Box<Expr>, Box<Expr>),
}

/// A place in the state.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub field: Field,
    pub steps: Vec<Step>,
}

/// One step down into a value.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Key(Box<str>),
    /// From the end if negative.
    Index(i64),
}

/// The right side of `=~`.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Literal(Regex),
    /// Compiled when it is evaluated.
    Dynamic(Box<Expr>),
}

/// An arithmetic operator.
pub(super) type Operator = &'static str;

/// What a comparison asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

type Parsed<T = Expr> = Result<T, String>;

/// Parses a whole condition.
pub(super) fn parse(text: &str) -> Parsed {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    if *parser.peek() == Token::End {
        return Err("it is empty".into());
    }
    let expr = parser.any()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

/// Compiles a regex.
pub(super) fn regex(pattern: &str) -> Parsed<Regex> {
    Regex::new(pattern).map_err(|error| format!("the regex `{pattern}` does not compile: {error}"))
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Parsed {
        self.chain("||", Expr::Any, Self::all)
    }

    fn all(&mut self) -> Parsed {
        self.chain("&&", Expr::All, Self::comparison)
    }

    fn chain(&mut self, sign: &str, build: fn(Vec<Expr>) -> Expr, part: fn(&mut Self) -> Parsed) -> Parsed {
        let first = part(self)?;
        if !self.is_sign(sign) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.takes(sign) {
            parts.push(part(self)?);
        }
        Ok(build(parts))
    }

    fn comparison(&mut self) -> Parsed {
        let has_prefix = self.is_sign("!");
        let left = self.sum()?;
        let Some(sign) = self.comparison_sign() else { return Ok(left) };
        if has_prefix {
            return Err(
                self.here(&format!("`!a {sign} b` is ambiguous: write !(a {sign} b) or (!a) {sign} b"))
            );
        }
        self.next += 1;
        let right = self.sum()?;
        if let Some(second) = self.comparison_sign() {
            return Err(self.here(&format!("comparisons do not chain: join two with && before `{second}`")));
        }
        compare(sign, left, right)
    }

    fn comparison_sign(&self) -> Option<&'static str> {
        match self.peek() {
            Token::Name(name) if name == "in" => Some("in"),
            Token::Sign(sign @ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~")) => Some(sign),
            _ => None,
        }
    }

    fn sum(&mut self) -> Parsed {
        self.arithmetic(&["+", "-"], Self::product)
    }

    fn product(&mut self) -> Parsed {
        self.arithmetic(&["*", "/", "%"], Self::prefixed)
    }

    fn arithmetic(&mut self, signs: &[Operator], part: fn(&mut Self) -> Parsed) -> Parsed {
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some(sign) = signs.iter().copied().find(|sign| self.takes(sign)) {
            rest.push((sign, part(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) })
    }

    /// Every recursion of the parser passes here.
    fn prefixed(&mut self) -> Parsed {
        if self.depth == MAX_DEPTH {
            return Err(self.here(&format!("it nests more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let expr = if self.takes("!") {
            Expr::Not(Box::new(self.prefixed()?))
        } else if self.takes("-") {
            Expr::Negate(Box::new(self.prefixed()?))
        } else {
            self.operand()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn operand(&mut self) -> Parsed {
        if self.takes("(") {
            let inner = self.any()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let operand = match self.peek() {
            Token::Number(number) => Expr::Number(number.clone()),
            Token::String(text) => Expr::String(text.as_str().into()),
            Token::Name(name) => {
                let name = name.clone();
                return self.named(&name);
            }
            _ => return Err(self.unexpected("a value")),
        };
        self.next += 1;
        Ok(operand)
    }

    fn named(&mut self, name: &str) -> Parsed {
        if name == "in" {
            return Err(self.unexpected("a value"));
        }
        if let Some(spelling) = python_constant(name) {
            return Err(self.here(&format!("there is no `{name}`: write {spelling}")));
        }
        self.next += 1;
        match name {
            "true" | "false" => Ok(Expr::Bool(name == "true")),
            "null" => Ok(Expr::Null),
            _ if self.is_sign("(") => self.call(name),
            _ => self.path(name).map(Expr::Path),
        }
    }

    fn call(&mut self, function: &str) -> Parsed {
        if !matches!(function, "len" | "has") {
            return Err(self.here(&format!("there is no function `{function}`: there are len and has")));
        }
        self.expect("(")?;
        let argument = self.any()?;
        self.expect(")")?;
        match (function, argument) {
            ("len", argument) => Ok(Expr::Len(Box::new(argument))),
            (_, Expr::Path(path)) => Ok(Expr::Has(path)),
            _ => Err(self.here("has() takes the path of a value in the state")),
        }
    }

    fn path(&mut self, field: &str) -> Parsed<Path> {
        let mut steps = Vec::new();
        loop {
            if self.takes(".") {
                let Token::Name(name) = self.peek() else { return Err(self.unexpected("a name")) };
                steps.push(Step::Key(name.as_str().into()));
                self.next += 1;
            } else if self.takes("[") {
                steps.push(self.subscript()?);
                self.expect("]")?;
            } else {
                return Ok(Path { field: field.into(), steps });
            }
        }
    }

    fn subscript(&mut self) -> Parsed<Step> {
        let is_negative = self.takes("-");
        let step = match self.peek() {
            Token::String(key) if !is_negative => Some(Step::Key(key.as_str().into())),
            Token::Number(number) => {
                number.as_i64().map(|index| Step::Index(if is_negative { -index } else { index }))
            }
            _ => None,
        };
        let step = step.ok_or_else(|| self.unexpected("an integer or a string"))?;
        self.next += 1;
        Ok(step)
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn is_sign(&self, wanted: &str) -> bool {
        matches!(self.peek(), Token::Sign(sign) if *sign == wanted)
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let is_here = self.is_sign(wanted);
        self.next += usize::from(is_here);
        is_here
    }

    fn expect(&mut self, wanted: &str) -> Parsed<()> {
        if self.takes(wanted) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{wanted}`")))
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found = match self.peek() {
            Token::Number(number) => number.to_text(),
            Token::String(text) => format!("the string {text:?}"),
            Token::Name(name) => format!("`{name}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".into(),
        };
        self.here(&format!("{wanted} was expected, not {found}"))
    }

    fn here(&self, message: &str) -> String {
        at_byte(self.tokens[self.next].0, message)
    }
}

fn python_constant(name: &str) -> Option<&'static str> {
    match name {
        "True" => Some("true"),
        "False" => Some("false"),
        "None" => Some("null"),
        _ => None,
    }
}

fn compare(sign: &str, left: Expr, right: Expr) -> Parsed {
    let comparison = match sign {
        "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "in" => return Ok(Expr::In(Box::new(left), Box::new(right))),
        _ => return Ok(Expr::Matches(Box::new(left), pattern(right)?, sign == "!~")),
    };
    Ok(Expr::Compare(comparison, Box::new(left), Box::new(right)))
}

fn pattern(right: Expr) -> Parsed<Pattern> {
    match right {
        Expr::String(text) => regex(&text.to_lossy()).map(Pattern::Literal),
        Expr::Null | Expr::Bool(_) | Expr::Number(_) => Err("a regex is written as a string".into()),
        other => Ok(Pattern::Dynamic(Box::new(other))),
    }
}
