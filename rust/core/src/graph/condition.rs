//! Conditions of edges: parsed once, evaluated against a state.

use crate::state::State;

/// A parsed condition.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Box<str>,
}

impl Condition {
    /// Parses a condition.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.into() })
    }

    /// Whether it holds.
    pub fn eval(&self, _state: &State) -> Result<bool, String> {
        Err(format!("the condition `{}` cannot be evaluated", self.text))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}
