//! Journal events and their bodies, which are JSON text that a person can read.

use std::fmt::Write;

use super::outcome::{text, StepError};
use super::park::{Call, CallError};
use crate::error::{Error, Result};
use crate::json::{self, Value};
use crate::state::Changes;

pub use super::control::Control;
pub use super::next::{Entry, Next, Route};

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
        /// The event that had kept this signal, when it came before anybody waited.
        signal: Option<u64>,
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
            Self::Resolved { call, answer, signal } => {
                let _ = write!(out, ",\"call\":{call}");
                if let Some(signal) = signal {
                    let _ = write!(out, ",\"signal\":{signal}");
                }
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
            Self::Control(control) => control.write(&mut out),
            Self::Snapshot(state) => return state.clone(),
        }
        if out.len() > 1 && out.as_bytes()[1] == b',' {
            out.remove(1);
        }
        out.push('}');
        out
    }

    /// The nodes at which it made steps.
    ///
    /// # Errors
    /// `corrupt` for a snapshot that is none.
    pub fn nodes_reached(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::Done { next, .. } | Self::Failed { next, .. } => next.nodes().map(str::to_owned).collect(),
            Self::Snapshot(text) => snapshot_nodes(text)?,
            _ => Vec::new(),
        })
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
                let signal = fields.int("signal").map(i64::cast_unsigned);
                Self::Resolved { call: fields.int("call").ok_or_else(corrupt)? as u32, answer, signal }
            }
            "lost" => Self::Lost {
                cause: fields.get("cause").map(text).unwrap_or_default(),
                alone: fields.get("alone").is_some_and(|alone| alone.raw() == "true"),
            },
            "started" => Self::Started,
            "control" => Self::Control(Control::read(&fields)?),
            _ => {
                return Err(Error::corrupt(format!(
                    "the journal holds an event {name:?} that this version does not know"
                )))
            }
        })
    }
}

/// The nodes at which the steps of a snapshot stand.
fn snapshot_nodes(text: &str) -> Result<Vec<String>> {
    let fields = Fields(json::object_fields(text)?);
    let steps = fields.get("steps").and_then(Value::elements).ok_or_else(corrupt)?;
    let node = |step: &Value| {
        let fields = Fields(json::object_fields(step.raw())?);
        fields.get("node").map(self::text).ok_or_else(corrupt)
    };
    steps.iter().map(node).collect()
}

/// The members of a body.
pub(super) struct Fields(Vec<(crate::state::Field, Value)>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| &**field == name).map(|(_, value)| value)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
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

pub(super) fn corrupt() -> Error {
    Error::corrupt("a journal body lacks a member that its event must have")
}
