//! What operations do to a flow: the `control` events, and how they change it.

use super::apply::Effects;
use super::event::{corrupt, Fields};
use super::outcome::text;
use super::rewind::Rewind;
use super::{Flow, Status};
use crate::error::Result;
use crate::json;

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
        }
    }

    pub(super) fn read(fields: &Fields) -> Result<Self> {
        match fields.get("what").map(text) {
            Some(what) if what == "cancel" => {
                Ok(Self::Cancel { reason: fields.get("reason").map(text).unwrap_or_default() })
            }
            Some(what) if Rewind::is_named(&what) => Ok(Self::Rewind(Box::new(Rewind::read(what, fields)?))),
            _ => Err(corrupt()),
        }
    }
}

impl Flow {
    pub(super) fn apply_control(&mut self, control: &Control, effects: &mut Effects) -> Result<()> {
        match control {
            Control::Cancel { reason } => self.apply_cancel(reason, effects),
            Control::Rewind(rewind) => self.apply_rewind(rewind, effects)?,
        }
        Ok(())
    }

    fn apply_cancel(&mut self, reason: &str, effects: &mut Effects) {
        let state = self.current_state();
        let steps = self.steps.keys().copied().collect();
        self.drop_steps(steps, effects);
        self.cancel_reason = Some(reason.to_owned());
        self.end(Status::Cancelled, state);
    }
}
