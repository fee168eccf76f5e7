//! What an attempt came to: the results that workers send, and the errors that stay.

use std::fmt::Write;
use std::sync::Arc;

use super::park::Call;
use crate::error::{Error, Result};
use crate::flow_control::Ended;
use crate::json::{self, Value};
use crate::state::Changes;

/// How an error is treated. Anything but `Error` was said by the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ErrorClass {
    /// An exception of no class of ours.
    #[default]
    Error,
    /// Worth another try.
    Retryable,
    /// No declared retry may touch it.
    Permanent,
    /// A downstream asks for patience: the attempt does not count.
    RateLimited,
    /// A downstream is gone: the attempt does not count.
    Unavailable,
}

impl ErrorClass {
    /// The class as it is spelt on the wire and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Retryable => "retryable",
            Self::Permanent => "permanent",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
        }
    }

    /// The class of that name; anything unknown is a plain error.
    pub fn parse(name: &str) -> Self {
        match name {
            "retryable" => Self::Retryable,
            "permanent" => Self::Permanent,
            "rate_limited" => Self::RateLimited,
            "unavailable" => Self::Unavailable,
            _ => Self::Error,
        }
    }
}

/// The failure of one attempt, before it has a place.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TaskError {
    /// Stable code: the task's own, or one of the engine's.
    pub code: Box<str>,
    /// What happened.
    pub message: Box<str>,
    /// The exception's qualified name, empty for the engine's own failures.
    pub type_name: Box<str>,
    /// The qualified names of the exception's base types. Only the choice of a retry reads them; not recorded.
    pub bases: Box<[Box<str>]>,
    /// Text of the traceback.
    pub traceback: Option<Box<str>>,
    /// What the task attached.
    pub data: Option<Value>,
    /// How to treat it.
    pub class: ErrorClass,
    /// When a bounced step may come again.
    pub retry_after_ms: Option<u64>,
}

impl TaskError {
    /// A failure that the engine finds.
    pub fn engine(code: &str, message: impl Into<Box<str>>) -> Self {
        Self { code: code.into(), message: message.into(), ..Self::default() }
    }

    /// Whether the step goes back unharmed: its attempt does not count.
    pub fn is_bounce(&self) -> bool {
        matches!(self.class, ErrorClass::RateLimited | ErrorClass::Unavailable)
    }

    /// What the attempt says of the resource that it leant on.
    pub fn says(&self) -> Ended<'_> {
        match self.class {
            ErrorClass::RateLimited => Ended::RateLimited,
            ErrorClass::Unavailable => Ended::Unavailable(&self.message),
            _ => Ended::Otherwise,
        }
    }

    /// Makes it fit into an event of `limit` bytes: first its data goes, then its texts are cut.
    pub(super) fn fit(&mut self, limit: usize) {
        let texts = self.message.len() + self.traceback.as_ref().map_or(0, |trace| trace.len());
        if self.data.as_ref().map_or(0, |data| data.raw().len()) + texts > limit {
            self.data = None;
        }
        if texts > limit {
            self.traceback = None;
            let end = (0..=limit.min(self.message.len())).rev().find(|at| self.message.is_char_boundary(*at));
            self.message = self.message[..end.unwrap_or(0)].into();
        }
    }

    /// The members that only the journal keeps.
    fn write_rest(&self, out: &mut String) {
        if !matches!(self.class, ErrorClass::Error | ErrorClass::Retryable) {
            let _ = write!(out, ",\"class\":\"{}\"", self.class.as_str());
        }
        if let Some(wait) = self.retry_after_ms {
            let _ = write!(out, ",\"retry_after_ms\":{wait}");
        }
        if let Some(trace) = &self.traceback {
            out.push_str(",\"traceback\":");
            json::escape(trace, out);
        }
    }

    /// Reads the worker's description of an exception.
    ///
    /// # Errors
    /// `corrupt` when it is not one.
    pub fn from_meta(meta: &str) -> Result<Self> {
        let (mut error, mut retryable) = (Self::default(), false);
        for (name, value) in json::object_fields(meta)? {
            match &*name {
                "code" => error.code = text(&value).into(),
                "message" => error.message = text(&value).into(),
                "type" => error.type_name = text(&value).into(),
                "bases" => {
                    let names = value.elements().unwrap_or_default();
                    error.bases = names.iter().map(|name| text(name).into()).collect();
                }
                "traceback" => {
                    error.traceback = Some(text(&value).into_boxed_str()).filter(|text| !text.is_empty());
                }
                "data" => error.data = Some(value).filter(|value| !value.is_null()),
                "class" => error.class = ErrorClass::parse(&text(&value)),
                "retryable" => retryable = value.raw() == "true",
                "retry_after_ms" => error.retry_after_ms = value.raw().parse().ok(),
                _ => {}
            }
        }
        if retryable && error.class == ErrorClass::Error {
            error.class = ErrorClass::Retryable;
        }
        if error.code.is_empty() {
            return Err(Error::corrupt("an error without a code came from a worker"));
        }
        Ok(error)
    }
}

/// A failure with its place: what is recorded, shown to `on_error` and kept as the flow's error.
#[derive(Clone, Debug, PartialEq)]
pub struct StepError {
    /// What happened.
    pub error: TaskError,
    /// The node's name.
    pub node: Arc<str>,
    /// The step's number.
    pub step: u64,
}

impl StepError {
    /// As the JSON that `ErrorInfo` reads. `with_traceback` for the journal only, which also keeps the class and the
    /// wait.
    pub fn to_json(&self, flow_key: &str, with_traceback: bool) -> String {
        let mut out = self.seen_json(flow_key);
        out.pop();
        out.push_str(",\"retryable\":");
        out.push_str(if self.error.class == ErrorClass::Retryable { "true" } else { "false" });
        if with_traceback {
            self.error.write_rest(&mut out);
        }
        out.push('}');
        out
    }

    /// As the JSON that the `on_error` handler finds in the state.
    pub fn seen_json(&self, flow_key: &str) -> String {
        let mut out = String::from("{\"code\":");
        json::escape(&self.error.code, &mut out);
        for (name, text) in
            [("message", &*self.error.message), ("type", &*self.error.type_name), ("node", &*self.node)]
        {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            json::escape(text, &mut out);
        }
        out.push_str(",\"step_key\":");
        json::escape(&format!("{flow_key}/{}", self.step), &mut out);
        out.push_str(",\"data\":");
        out.push_str(self.error.data.as_ref().map_or("null", Value::raw));
        out.push('}');
        out
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// `corrupt` when it is something else.
    pub fn from_json(value: &Value) -> Result<Self> {
        let (mut node, mut step) = (Arc::from(""), 0);
        for (name, field) in json::object_fields(value.raw())? {
            match &*name {
                "node" => node = text(&field).into(),
                "step_key" => {
                    step = text(&field).rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                }
                _ => {}
            }
        }
        Ok(Self { error: TaskError::from_meta(value.raw())?, node, step })
    }
}

/// What a worker says of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskResult {
    /// It returned.
    Done {
        /// What it changed.
        changes: Changes,
        /// The node it asked to go to.
        goto: Option<String>,
        /// How much later its successors start.
        delay_ms: u64,
    },
    /// It failed.
    Failed(TaskError),
    /// It waits.
    Parked {
        /// Changes before its first unanswered call.
        changes: Changes,
        /// The calls that have no answer yet.
        calls: Vec<Call>,
    },
    /// It asked to run again.
    Retry {
        /// Changes of this attempt; they stay.
        changes: Changes,
        /// How much later.
        delay_ms: u64,
    },
}

/// The text of a JSON string; of any other value its JSON.
pub(crate) fn text(value: &Value) -> String {
    match value.decode() {
        json::Json::String(text) => text.to_lossy().into_owned(),
        _ => value.raw().to_owned(),
    }
}
