//! What operations do to a flow: the `control` events, and how they change it.

use std::fmt::Write;

use super::apply::Effects;
use super::event::{corrupt, Fields};
use super::outcome::text;
use super::park::Call;
use super::{Flow, Status};
use crate::error::Result;
use crate::ids::{hex, unhex, FlowId};
use crate::json::{self, Value};

/// What an operation did to a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// No step starts any more; the output is the fold of what completed.
    Cancel {
        /// Why, in the caller's words.
        reason: String,
    },
    /// A signal came before anybody waited for it: it is kept.
    Signal {
        /// Its name.
        name: String,
        /// What it brings.
        payload: Value,
    },
    /// The child that a call waits for was created, now that its graph was found.
    ChildStarted {
        /// The step of the call.
        step: u64,
        /// The child.
        child: FlowId,
    },
    /// A question was opened in the child's tree, or the last one was closed.
    ChildState {
        /// The step of the call.
        step: u64,
        /// The child.
        child: FlowId,
        /// The child's newest event then: what is older than the last word does not count.
        ord: u64,
        /// Whether one is open.
        is_asking: bool,
    },
}

impl Control {
    /// The members of its body: `what`, and what belongs to it.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Cancel { reason } => {
                out.push_str(",\"what\":\"cancel\",\"reason\":");
                json::escape(reason, out);
            }
            Self::Signal { name, payload } => {
                out.push_str(",\"what\":\"signal\",\"name\":");
                json::escape(name, out);
                let _ = write!(out, ",\"payload\":{}", payload.raw());
            }
            Self::ChildStarted { step, child } => {
                let _ =
                    write!(out, ",\"what\":\"child_started\",\"step\":{step},\"child\":\"{}\"", hex(child));
            }
            Self::ChildState { step, child, ord, is_asking } => {
                let child = hex(child);
                let _ = write!(out, ",\"what\":\"child_state\",\"step\":{step},\"child\":\"{child}\"");
                let _ = write!(out, ",\"ord\":{ord},\"asking\":{is_asking}");
            }
        }
    }

    pub(super) fn read(fields: &Fields) -> Result<Self> {
        match fields.get("what").map(text).as_deref() {
            Some("cancel") => Ok(Self::Cancel { reason: fields.get("reason").map(text).unwrap_or_default() }),
            Some("signal") => Ok(Self::Signal {
                name: fields.get("name").map(text).ok_or_else(corrupt)?,
                payload: fields.get("payload").cloned().ok_or_else(corrupt)?,
            }),
            Some("child_started") => {
                Ok(Self::ChildStarted { step: number(fields, "step")?, child: flow_id(fields)? })
            }
            Some("child_state") => Ok(Self::ChildState {
                step: number(fields, "step")?,
                child: flow_id(fields)?,
                ord: number(fields, "ord")?,
                is_asking: fields.get("asking").is_some_and(|asking| asking.raw() == "true"),
            }),
            _ => Err(corrupt()),
        }
    }
}

impl Flow {
    pub(super) fn apply_control(&mut self, control: &Control, ord: u64, effects: &mut Effects) {
        match control {
            Control::Cancel { reason } => self.apply_cancel(reason, effects),
            Control::Signal { name, payload } => self.signals.keep(name, ord, payload),
            Control::ChildStarted { step, child } => {
                if let Some(call) = self.child_call(*step, child) {
                    call.is_deferred = false;
                }
            }
            Control::ChildState { step, child, ord, is_asking } => {
                self.apply_child_state(*step, child, *ord, *is_asking);
            }
        }
    }

    fn apply_child_state(&mut self, step: u64, child: &FlowId, ord: u64, is_asking: bool) {
        let Some(call) = self.child_call(step, child) else { return };
        let before = usize::from(call.is_asking());
        call.below = Some((ord, is_asking));
        let after = usize::from(call.is_asking());
        self.open_interrupts = self.open_interrupts + after - before;
    }

    /// The open call that waits for the child; none when a rewind or a failure has taken it away.
    fn child_call(&mut self, step: u64, child: &FlowId) -> Option<&mut Call> {
        let step = self.steps.get_mut(&step)?;
        step.calls.iter_mut().find(|call| call.is_open() && call.id.as_ref() == Some(child))
    }

    fn apply_cancel(&mut self, reason: &str, effects: &mut Effects) {
        let state = self.current_state();
        let steps = self.steps.keys().copied().collect();
        self.drop_steps(steps, effects);
        self.cancel_reason = Some(reason.to_owned());
        self.end(Status::Cancelled, state);
    }
}

fn number(fields: &Fields, name: &str) -> Result<u64> {
    fields.int(name).map(i64::cast_unsigned).ok_or_else(corrupt)
}

fn flow_id(fields: &Fields) -> Result<FlowId> {
    fields.get("child").and_then(|child| unhex(&text(child))).ok_or_else(corrupt)
}
