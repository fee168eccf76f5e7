//! Journal events and their bodies, which are JSON text that a person can read.

use std::fmt::Write;

use super::outcome::{text, StepError};
use super::park::{Call, CallError};
use crate::error::{Error, Result};
use crate::json::{self, Value};
use crate::state::Changes;

/// One line of a flow's journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// 1, 2, 3 … within the flow, without a gap.
    pub ord: u64,
    /// The step it is about; 0 for the flow itself.
    pub step: u64,
    /// The attempt it ends.
    pub attempt: u32,
    /// When it was settled, by the database's clock.
    pub at: i64,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventBody {
    /// A step finished.
    Done {
        /// What its last attempt changed.
        changes: Changes,
        /// Where its branch goes.
        next: Next,
    },
    /// A step failed for good.
    Failed {
        /// What its last attempt left, `on_error` when it was routed.
        changes: Changes,
        /// Why.
        error: StepError,
        /// The way to the handler, or `Fail`.
        next: Next,
    },
    /// An attempt ended and the step will run again.
    Retry {
        /// What stays of it.
        changes: Changes,
        /// Why, when it failed.
        error: Option<StepError>,
        /// Not before this instant.
        not_before: i64,
        /// The next attempt's number.
        attempt: u32,
    },
    /// The step waits.
    Parked {
        /// Changes before its first unanswered call.
        changes: Changes,
        /// The new calls.
        calls: Vec<Call>,
    },
    /// A call has its answer.
    Resolved {
        /// Which of the step's calls.
        call: u32,
        /// The answer.
        answer: std::result::Result<Value, CallError>,
    },
    /// A worker died under the step.
    Lost {
        /// How.
        cause: String,
        /// Nothing else was in that worker.
        alone: bool,
    },
    /// A step of a flow whose replica died is about to start.
    Started,
    /// Somebody changed the flow.
    Control(Control),
    /// The whole live state; replay may start here.
    Snapshot(String),
}

/// What an operation did to a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// No step starts any more; the output is the fold of what completed.
    Cancel {
        /// Why, in the caller's words.
        reason: String,
    },
}

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

    fn write(&self, out: &mut String) {
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

    fn read(fields: &Fields) -> Result<Self> {
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

impl EventBody {
    /// The event's name, as in the journal's column.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Retry { .. } => "retry",
            Self::Parked { .. } => "parked",
            Self::Resolved { .. } => "resolved",
            Self::Lost { .. } => "lost",
            Self::Started => "started",
            Self::Control(_) => "control",
            Self::Snapshot(_) => "snapshot",
        }
    }

    /// The body as the journal's JSON. `flow_key` goes into errors.
    pub fn to_json(&self, flow_key: &str) -> String {
        let mut out = String::from("{");
        match self {
            Self::Done { changes, next } => {
                write_changes(changes, &mut out);
                next.write(&mut out);
            }
            Self::Failed { changes, error, next } => {
                write_changes(changes, &mut out);
                let _ = write!(out, ",\"error\":{}", error.to_json(flow_key, true));
                next.write(&mut out);
            }
            Self::Retry { changes, error, not_before, attempt } => {
                write_changes(changes, &mut out);
                if let Some(error) = error {
                    let _ = write!(out, ",\"error\":{}", error.to_json(flow_key, true));
                }
                let _ = write!(out, ",\"not_before\":{not_before},\"attempt\":{attempt}");
            }
            Self::Parked { changes, calls } => {
                write_changes(changes, &mut out);
                out.push_str(",\"calls\":[");
                for (at, call) in calls.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    call.write_json(&mut out);
                }
                out.push(']');
            }
            Self::Resolved { call, answer } => {
                let _ = write!(out, ",\"call\":{call}");
                match answer {
                    Ok(value) => {
                        let _ = write!(out, ",\"answer\":{}", value.raw());
                    }
                    Err(error) => {
                        out.push_str(",\"error\":");
                        error.write_json(&mut out);
                    }
                }
            }
            Self::Lost { cause, alone } => {
                out.push_str(",\"cause\":");
                json::escape(cause, &mut out);
                let _ = write!(out, ",\"alone\":{alone}");
            }
            Self::Started => {}
            Self::Control(Control::Cancel { reason }) => {
                out.push_str(",\"what\":\"cancel\",\"reason\":");
                json::escape(reason, &mut out);
            }
            Self::Snapshot(state) => return state.clone(),
        }
        if out.len() > 1 && out.as_bytes()[1] == b',' {
            out.remove(1);
        }
        out.push('}');
        out
    }

    /// Reads a row of the journal.
    ///
    /// # Errors
    /// `corrupt` for anything that no version has written.
    pub fn from_json(name: &str, body: &str) -> Result<Self> {
        if name == "snapshot" {
            return Ok(Self::Snapshot(body.to_owned()));
        }
        let fields = Fields(json::object_fields(body)?);
        Ok(match name {
            "done" => Self::Done { changes: fields.changes()?, next: Next::read(&fields)? },
            "failed" => Self::Failed {
                changes: fields.changes()?,
                error: StepError::from_json(fields.get("error").ok_or_else(corrupt)?)?,
                next: Next::read(&fields)?,
            },
            "retry" => Self::Retry {
                changes: fields.changes()?,
                error: fields.get("error").map(StepError::from_json).transpose()?,
                not_before: fields.int("not_before").ok_or_else(corrupt)?,
                attempt: fields.int("attempt").ok_or_else(corrupt)? as u32,
            },
            "parked" => {
                let calls = fields.get("calls").and_then(Value::elements).ok_or_else(corrupt)?;
                Self::Parked {
                    changes: fields.changes()?,
                    calls: calls.iter().map(Call::from_json).collect::<Result<_>>()?,
                }
            }
            "resolved" => {
                let answer = match (fields.get("answer"), fields.get("error")) {
                    (Some(value), _) => Ok(value.clone()),
                    (None, Some(error)) => Err(CallError::from_json(error)?),
                    (None, None) => return Err(corrupt()),
                };
                Self::Resolved { call: fields.int("call").ok_or_else(corrupt)? as u32, answer }
            }
            "lost" => Self::Lost {
                cause: fields.get("cause").map(text).unwrap_or_default(),
                alone: fields.get("alone").is_some_and(|alone| alone.raw() == "true"),
            },
            "started" => Self::Started,
            "control" => match fields.get("what").map(text).as_deref() {
                Some("cancel") => Self::Control(Control::Cancel {
                    reason: fields.get("reason").map(text).unwrap_or_default(),
                }),
                _ => return Err(corrupt()),
            },
            _ => {
                return Err(Error::corrupt(format!(
                    "the journal holds an event {name:?} that this version does not know"
                )))
            }
        })
    }
}

/// The members of a body.
struct Fields(Vec<(crate::state::Field, Value)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| &**field == name).map(|(_, value)| value)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.raw().parse().ok()
    }

    fn changes(&self) -> Result<Changes> {
        self.get("changes").map_or_else(|| Ok(Changes::default()), |value| Changes::from_journal(value.raw()))
    }
}

fn write_changes(changes: &Changes, out: &mut String) {
    if !changes.is_empty() {
        out.push_str(",\"changes\":");
        changes.to_journal(out);
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

fn corrupt() -> Error {
    Error::corrupt("a journal body lacks a member that its event must have")
}
