//! What operations do to a flow: the `control` events, and how they change it.

use std::fmt::Write;

use super::apply::Effects;
use super::event::{corrupt, Event, Fields};
use super::holds::Holds;
use super::outcome::text;
use super::park::Call;
use super::rewind::Rewind;
use super::{Flow, Status};
use crate::error::Result;
use crate::ids::{hex, unhex, FlowId};
use crate::json::{self, Value};
use crate::state::Changes;

/// What an operation did to a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// No step starts any more; the output is the fold of what completed.
    Cancel {
        /// Why, in the caller's words.
        reason: String,
    },
    /// Steps run again, and nothing that followed from them has happened.
    Rewind(Box<Rewind>),
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
    /// No step starts until it is unpaused.
    Pause {
        /// Why, in the caller's words.
        reason: String,
    },
    /// What was held by a pause may start.
    Unpause,
    /// The first step starts no earlier.
    StartAt {
        /// Milliseconds since 1970.
        at: i64,
    },
    /// The parent is held so, and its child is too.
    Inherit {
        /// How the parent is held, as of its event `version`.
        holds: Holds,
    },
    /// A breakpoint was set or removed.
    BreakBefore {
        /// The node whose steps are held.
        node: String,
        /// False removes it.
        on: bool,
    },
    /// A breakpoint holds the event's step.
    Break {
        /// The id under which it stands among the open questions.
        id: FlowId,
    },
    /// The event's step may go on.
    ResumeBreak {
        /// The id under which it was held.
        id: FlowId,
        /// What is changed in the step's view.
        overrides: Changes,
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
            Self::Rewind(rewind) => rewind.write(out),
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
            Self::Pause { reason } => {
                out.push_str(",\"what\":\"pause\",\"reason\":");
                json::escape(reason, out);
            }
            Self::Unpause => out.push_str(",\"what\":\"unpause\""),
            Self::StartAt { at } => {
                let _ = write!(out, ",\"what\":\"start_at\",\"at\":{at}");
            }
            Self::Inherit { holds } => {
                out.push_str(",\"what\":\"inherit\",");
                holds.write(out);
            }
            Self::BreakBefore { node, on } => {
                out.push_str(",\"what\":\"break_before\",\"node\":");
                json::escape(node, out);
                let _ = write!(out, ",\"on\":{on}");
            }
            Self::Break { id } => {
                let _ = write!(out, ",\"what\":\"break\",\"id\":\"{}\"", hex(id));
            }
            Self::ResumeBreak { id, overrides } => {
                let _ = write!(out, ",\"what\":\"resume_break\",\"id\":\"{}\",\"overrides\":", hex(id));
                overrides.to_journal(out);
            }
        }
    }

    pub(super) fn read(fields: &Fields) -> Result<Self> {
        let reason = || fields.get("reason").map(text).unwrap_or_default();
        let id = || fields.get("id").and_then(|id| unhex(&text(id))).ok_or_else(corrupt);
        let what = fields.get("what").map(text).ok_or_else(corrupt)?;
        Ok(match &*what {
            "cancel" => Self::Cancel { reason: reason() },
            "pause" => Self::Pause { reason: reason() },
            "unpause" => Self::Unpause,
            "start_at" => Self::StartAt { at: fields.int("at").ok_or_else(corrupt)? },
            "inherit" => Self::Inherit { holds: Holds::of(|name| fields.get(name))? },
            "break_before" => Self::BreakBefore {
                node: fields.get("node").map(text).ok_or_else(corrupt)?,
                on: fields.get("on").is_some_and(|on| on.raw() == "true"),
            },
            "break" => Self::Break { id: id()? },
            "resume_break" => {
                let overrides = fields.get("overrides").ok_or_else(corrupt)?;
                Self::ResumeBreak { id: id()?, overrides: Changes::from_journal(overrides.raw())? }
            }
            "signal" => Self::Signal {
                name: fields.get("name").map(text).ok_or_else(corrupt)?,
                payload: fields.get("payload").cloned().ok_or_else(corrupt)?,
            },
            "child_started" => Self::ChildStarted { step: number(fields, "step")?, child: flow_id(fields)? },
            "child_state" => Self::ChildState {
                step: number(fields, "step")?,
                child: flow_id(fields)?,
                ord: number(fields, "ord")?,
                is_asking: fields.get("asking").is_some_and(|asking| asking.raw() == "true"),
            },
            what if Rewind::is_named(what) => Self::Rewind(Box::new(Rewind::read(what.to_owned(), fields)?)),
            _ => return Err(corrupt()),
        })
    }
}

impl Flow {
    pub(super) fn apply_control(
        &mut self,
        event: &Event,
        control: &Control,
        effects: &mut Effects,
    ) -> Result<()> {
        match control {
            Control::Cancel { reason } => self.apply_cancel(reason, effects),
            Control::Pause { reason } => {
                self.holds.paused = Some(reason.clone());
            }
            Control::Unpause => self.holds.paused = None,
            Control::StartAt { at } => self.live(1)?.not_before = *at,
            Control::Inherit { holds } => self.holds = holds.clone(),
            Control::BreakBefore { node, on } => {
                if *on {
                    self.holds.breaks.insert(node.clone());
                } else {
                    self.holds.breaks.remove(node);
                }
            }
            Control::Break { id } => self.apply_break(event.step, *id)?,
            Control::ResumeBreak { overrides, .. } => {
                self.apply_resume_break(event.step, overrides, effects)?;
            }
            Control::Signal { name, payload } => self.signals.keep(name, event.ord, payload),
            Control::ChildStarted { step, child } => {
                if let Some(call) = self.child_call(*step, child) {
                    call.is_deferred = false;
                }
            }
            Control::ChildState { step, child, ord, is_asking } => {
                self.apply_child_state(*step, child, *ord, *is_asking);
            }
            Control::Rewind(rewind) => self.apply_rewind(rewind, effects)?,
        }
        Ok(())
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
