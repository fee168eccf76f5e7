//! Calls that park a step: interrupts, subgraphs, timers and signals, and their answers.

use std::fmt::Write;

use super::outcome::text;
use crate::error::{Error, Result};
use crate::ids::{hex, unhex, FlowId};
use crate::json::{self, Value};

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// An answer from outside.
    Interrupt,
    /// A child flow.
    Subgraph,
    /// An instant.
    Sleep,
    /// A named signal.
    Signal,
}

impl CallKind {
    /// The kind as it is spelt in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Subgraph => "subgraph",
            Self::Sleep => "sleep",
            Self::Signal => "signal",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Interrupt, Self::Subgraph, Self::Sleep, Self::Signal]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Why a call has no answer: raised in the task.
#[derive(Clone, Debug, PartialEq)]
pub struct CallError {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What the child's error carried.
    pub data: Option<Value>,
}

/// One call of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What it waits for.
    pub kind: CallKind,
    /// The task's own name for it.
    pub key: Option<String>,
    /// Its place among the calls that have no name: what a task that runs again finds its answer by.
    pub place: Option<u32>,
    /// The child's workflow, or the signal's name.
    pub target: Option<String>,
    /// The interrupt's payload, or the child's input.
    pub payload: Option<Value>,
    /// When a sleep is over, or an interrupt or a signal lapses.
    pub due: Option<i64>,
    /// How long from now: what the task asked, before it is recorded with `due`.
    pub wait_ms: Option<u64>,
    /// The interrupt's id, or the child's flow id.
    pub id: Option<FlowId>,
    /// The event that parked its step: who has waited longest for a signal is answered first.
    pub since: u64,
    /// A child that is not created yet: its graph has to be asked for.
    pub is_deferred: bool,
    /// What the child said last of itself: at which of its events, and whether a question is open in its tree.
    pub below: Option<(u64, bool)>,
    /// The answer, once there is one.
    pub answer: Option<std::result::Result<Value, CallError>>,
}

impl Call {
    /// Whether it has no answer yet.
    pub fn is_open(&self) -> bool {
        self.answer.is_none()
    }

    /// Whether it is a question that has no answer yet.
    pub fn is_open_interrupt(&self) -> bool {
        self.kind == CallKind::Interrupt && self.is_open()
    }

    /// Whether somebody is asked something that has no answer yet, by the call itself or in its child's tree.
    pub fn is_asking(&self) -> bool {
        self.is_open() && (self.kind == CallKind::Interrupt || matches!(self.below, Some((_, true))))
    }

    /// Reads a call as a worker or the journal writes it.
    ///
    /// # Errors
    /// `corrupt` for an unknown kind.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = json::object_fields(value.raw())?;
        let find = |name: &str| fields.iter().find(|(field, _)| &**field == name).map(|(_, value)| value);
        let kind = find("kind").and_then(|kind| CallKind::parse(&text(kind)));
        let int = |name: &str| find(name).and_then(|value| value.raw().parse::<i64>().ok());
        let below = int("child_ord")
            .map(|ord| (ord.cast_unsigned(), find("child_asks").is_some_and(|asks| asks.raw() == "true")));
        let answer = match (find("answer"), find("error")) {
            (Some(answer), _) => Some(Ok(answer.clone())),
            (None, Some(error)) => Some(Err(CallError::from_json(error)?)),
            (None, None) => None,
        };
        Ok(Self {
            kind: kind.ok_or_else(|| Error::corrupt(format!("unknown call {}", value.raw())))?,
            key: find("key").filter(|key| !key.is_null()).map(text),
            place: int("at").and_then(|at| u32::try_from(at).ok()),
            target: find("target").filter(|target| !target.is_null()).map(text),
            payload: find("payload").or_else(|| find("input")).cloned(),
            due: int("due"),
            wait_ms: find("ms").or_else(|| find("timeout_ms")).and_then(|wait| wait.raw().parse().ok()),
            id: find("id").and_then(|id| unhex(&text(id))),
            since: int("since").unwrap_or(0).cast_unsigned(),
            is_deferred: find("deferred").is_some_and(|deferred| deferred.raw() == "true"),
            below,
            answer,
        })
    }

    /// Writes it for the journal.
    pub fn write_json(&self, out: &mut String) {
        self.write_head(out);
        if let Some(payload) = &self.payload {
            let _ = write!(out, ",\"payload\":{}", payload.raw());
        }
        if let Some(due) = self.due {
            let _ = write!(out, ",\"due\":{due}");
        }
        if let Some(id) = &self.id {
            let _ = write!(out, ",\"id\":\"{}\"", hex(id));
        }
        if self.since > 0 {
            let _ = write!(out, ",\"since\":{}", self.since);
        }
        if self.is_deferred {
            out.push_str(",\"deferred\":true");
        }
        if let Some((ord, asks)) = self.below {
            let _ = write!(out, ",\"child_ord\":{ord},\"child_asks\":{asks}");
        }
        self.write_answer(out);
        out.push('}');
    }

    /// Writes it for the worker that runs the step again.
    pub fn write_answered(&self, out: &mut String) {
        self.write_head(out);
        self.write_answer(out);
        out.push('}');
    }

    fn write_head(&self, out: &mut String) {
        let _ = write!(out, "{{\"kind\":\"{}\"", self.kind.as_str());
        for (name, value) in [("key", &self.key), ("target", &self.target)] {
            if let Some(value) = value {
                let _ = write!(out, ",\"{name}\":");
                json::escape(value, out);
            }
        }
        if let Some(place) = self.place {
            let _ = write!(out, ",\"at\":{place}");
        }
    }

    fn write_answer(&self, out: &mut String) {
        match &self.answer {
            Some(Ok(value)) => {
                let _ = write!(out, ",\"answer\":{}", value.raw());
            }
            Some(Err(error)) => {
                out.push_str(",\"error\":");
                error.write_json(out);
            }
            None => {}
        }
    }
}

impl CallError {
    /// Writes it as JSON.
    pub fn write_json(&self, out: &mut String) {
        out.push_str("{\"code\":");
        json::escape(&self.code, out);
        out.push_str(",\"message\":");
        json::escape(&self.message, out);
        let _ = write!(out, ",\"data\":{}}}", self.data.as_ref().map_or("null", Value::raw));
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn from_json(value: &Value) -> Result<Self> {
        let mut error = Self { code: String::new(), message: String::new(), data: None };
        for (name, field) in json::object_fields(value.raw())? {
            match &*name {
                "code" => error.code = text(&field),
                "message" => error.message = text(&field),
                "data" => error.data = Some(field).filter(|data| !data.is_null()),
                _ => {}
            }
        }
        Ok(error)
    }
}
