//! The way that a branch takes after a step, as the journal has it.

use std::fmt::Write;

use super::event::{corrupt, Fields};
use super::outcome::text;
use crate::error::Result;
use crate::json::{self, Value};

/// Where a branch goes after a step. Recorded, so that conditions are evaluated once.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// The way.
    pub route: Route,
    /// The step that a join created, when this arrival was the last: number and node. Checked by replay.
    pub join: Option<(u64, String)>,
}

/// The ways a branch can go.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// To one step.
    Go {
        /// Its number.
        step: u64,
        /// Its node.
        node: String,
        /// Its earliest start, 0 for at once.
        not_before: i64,
    },
    /// Into a new cohort.
    Fan {
        /// Its branches in order.
        entries: Vec<Entry>,
        /// Their earliest start.
        not_before: i64,
    },
    /// To the join of its cohort.
    Arrive {
        /// The join starts no earlier.
        not_before: i64,
    },
    /// The trunk is at its end.
    End,
    /// The failure moves outward.
    Fail,
}

/// One or many branches of a new cohort.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A branch that starts with a step.
    Step {
        /// Its number.
        step: u64,
        /// Its node.
        node: String,
    },
    /// One branch for each element, however many there are.
    Each {
        /// Number of the first one's step; the others follow.
        first: u64,
        /// Their node.
        node: String,
        /// How many.
        count: u64,
        /// The edge among the graph's edges.
        edge: u32,
    },
    /// Branches that go straight to the join.
    Arrived {
        /// How many.
        count: u64,
    },
}

impl Next {
    /// A way that no join has been added to.
    pub fn new(route: Route) -> Self {
        Self { route, join: None }
    }

    /// The nodes of the steps that it makes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        let (go, fan) = match &self.route {
            Route::Go { node, .. } => (Some(node.as_str()), &[][..]),
            Route::Fan { entries, .. } => (None, &entries[..]),
            _ => (None, &[][..]),
        };
        let entries = fan.iter().filter_map(|entry| match entry {
            Entry::Step { node, .. } | Entry::Each { node, .. } => Some(node.as_str()),
            Entry::Arrived { .. } => None,
        });
        go.into_iter().chain(entries).chain(self.join.as_ref().map(|(_, node)| node.as_str()))
    }

    pub(super) fn write(&self, out: &mut String) {
        match &self.route {
            Route::Go { step, node, not_before } => {
                let _ = write!(out, ",\"next\":[{step},");
                json::escape(node, out);
                if *not_before > 0 {
                    let _ = write!(out, ",{not_before}");
                }
                out.push(']');
            }
            Route::Fan { entries, not_before } => {
                out.push_str(",\"fan\":[");
                for (at, entry) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    entry.write(out);
                }
                out.push(']');
                write_not_before(*not_before, out);
            }
            Route::Arrive { not_before } => {
                out.push_str(",\"next\":\"join\"");
                write_not_before(*not_before, out);
            }
            Route::End => out.push_str(",\"next\":\"end\""),
            Route::Fail => out.push_str(",\"next\":\"fail\""),
        }
        if let Some((step, node)) = &self.join {
            let _ = write!(out, ",\"join\":[{step},");
            json::escape(node, out);
            out.push(']');
        }
    }

    pub(super) fn read(fields: &Fields) -> Result<Self> {
        let not_before = fields.int("not_before").unwrap_or(0);
        let route = if let Some(fan) = fields.get("fan") {
            let entries = fan.elements().ok_or_else(corrupt)?;
            Route::Fan { entries: entries.iter().map(Entry::read).collect::<Result<_>>()?, not_before }
        } else {
            let next = fields.get("next").ok_or_else(corrupt)?;
            match next.raw() {
                "\"join\"" => Route::Arrive { not_before },
                "\"end\"" => Route::End,
                "\"fail\"" => Route::Fail,
                _ => {
                    let parts = next.elements().ok_or_else(corrupt)?;
                    Route::Go {
                        step: number(parts.first())?,
                        node: parts.get(1).map(text).ok_or_else(corrupt)?,
                        not_before: parts.get(2).and_then(|v| v.raw().parse().ok()).unwrap_or(0),
                    }
                }
            }
        };
        let join = match fields.get("join").and_then(Value::elements) {
            Some(parts) => Some((number(parts.first())?, parts.get(1).map(text).ok_or_else(corrupt)?)),
            None => None,
        };
        Ok(Self { route, join })
    }
}

impl Entry {
    fn write(&self, out: &mut String) {
        match self {
            Self::Step { step, node } => {
                let _ = write!(out, "[{step},");
                json::escape(node, out);
                out.push(']');
            }
            Self::Each { first, node, count, edge } => {
                let _ = write!(out, "[{first},");
                json::escape(node, out);
                let _ = write!(out, ",{count},{edge}]");
            }
            Self::Arrived { count } => {
                let _ = write!(out, "{count}");
            }
        }
    }

    fn read(value: &Value) -> Result<Self> {
        let Some(parts) = value.elements() else {
            return Ok(Self::Arrived { count: number(Some(value))? });
        };
        let node = parts.get(1).map(text).ok_or_else(corrupt)?;
        if parts.len() == 2 {
            return Ok(Self::Step { step: number(parts.first())?, node });
        }
        let edge = number(parts.get(3))? as u32;
        Ok(Self::Each { first: number(parts.first())?, node, count: number(parts.get(2))?, edge })
    }
}

fn write_not_before(not_before: i64, out: &mut String) {
    if not_before > 0 {
        let _ = write!(out, ",\"not_before\":{not_before}");
    }
}

fn number(value: Option<&Value>) -> Result<u64> {
    value.and_then(|value| value.raw().parse().ok()).ok_or_else(corrupt)
}
