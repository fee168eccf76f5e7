//! What holds steps back that could start: a pause of the whole flow, breakpoints at some of its nodes.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::apply::Effects;
use super::control::Control;
use super::event::corrupt;
use super::outcome::text;
use super::{Flow, Status, Step, View};
use crate::error::{Error, Result};
use crate::ids::{hex, made_at, unhex, FlowId};
use crate::json::{self, Value};
use crate::state::Changes;

/// How a flow is held, and with it every flow below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holds {
    /// Why it is paused, in the caller's words; `None` when it is not.
    pub paused: Option<String>,
    /// Nodes before which steps are held.
    pub breaks: BTreeSet<String>,
    /// In a child: the parent's event that this is from. An older word that comes later counts for nothing.
    pub version: u64,
}

/// A step and the breakpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// None has held it.
    #[default]
    None,
    /// One holds it, under this id among the open questions.
    Held(FlowId),
    /// It was let go: whatever comes, it is not held again.
    Passed,
}

impl Holds {
    /// Whether it holds anything back.
    pub fn is_free(&self) -> bool {
        self.paused.is_none() && self.breaks.is_empty()
    }

    /// Writes its members.
    pub fn write(&self, out: &mut String) {
        let _ = write!(out, "\"version\":{}", self.version);
        if let Some(reason) = &self.paused {
            out.push_str(",\"paused\":");
            json::escape(reason, out);
        }
        if !self.breaks.is_empty() {
            out.push_str(",\"breaks\":[");
            for (at, node) in self.breaks.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                json::escape(node, out);
            }
            out.push(']');
        }
    }

    /// Reads its members.
    ///
    /// # Errors
    /// `corrupt` for what `write` does not write.
    pub fn of<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Result<Self> {
        let breaks = match get("breaks") {
            Some(nodes) => nodes.elements().ok_or_else(corrupt)?.iter().map(text).collect(),
            None => BTreeSet::new(),
        };
        let version = get("version").and_then(|version| version.raw().parse().ok()).ok_or_else(corrupt)?;
        Ok(Self { paused: get("paused").map(text), breaks, version })
    }

    /// Reads it from an object.
    ///
    /// # Errors
    /// `corrupt` for what `write` does not write.
    pub fn read(value: &Value) -> Result<Self> {
        let fields = json::object_fields(value.raw())?;
        Self::of(|name| fields.iter().find(|(field, _)| &**field == name).map(|(_, value)| value))
    }
}

impl Hold {
    /// Whether a breakpoint holds the step.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// The id under which it is held.
    pub fn id(self) -> Option<FlowId> {
        match self {
            Self::Held(id) => Some(id),
            _ => None,
        }
    }

    pub(super) fn write(self, out: &mut String) {
        match self {
            Self::None => {}
            Self::Held(id) => drop(write!(out, ",\"hold\":\"{}\"", hex(&id))),
            Self::Passed => out.push_str(",\"hold\":true"),
        }
    }

    pub(super) fn read(value: Option<&Value>) -> Result<Self> {
        match value {
            None => Ok(Self::None),
            Some(value) if value.raw() == "true" => Ok(Self::Passed),
            Some(value) => unhex(&text(value)).map(Self::Held).ok_or_else(corrupt),
        }
    }
}

impl Step {
    /// Whether it waits for nothing but its time and a worker.
    pub fn is_runnable(&self) -> bool {
        !self.is_parked() && !self.hold.is_held()
    }

    /// Whether a breakpoint can still come before it: nothing of it has run.
    fn is_untouched(&self) -> bool {
        self.hold == Hold::None && self.attempt == 0 && self.losses == 0 && self.calls.is_empty()
    }
}

impl Flow {
    /// How it is held.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Whether no step of it may start.
    pub fn is_paused(&self) -> bool {
        self.status == Status::Running && self.holds.paused.is_some()
    }

    /// Whether a breakpoint stands before the step.
    pub fn breaks_before(&self, step: &Step) -> bool {
        !self.holds.breaks.is_empty()
            && step.is_untouched()
            && self.holds.breaks.contains(&*self.graph.node(step.node).name)
    }

    /// What a child hears of it: how this flow is held now.
    pub fn word_to_children(&self) -> Control {
        Control::Inherit { holds: Holds { version: self.ord, ..self.holds.clone() } }
    }

    /// What a new child has to know, if anything.
    pub fn inherited(&self) -> Option<Control> {
        (!self.holds.is_free()).then(|| self.word_to_children())
    }

    /// The step that is held under this id.
    pub fn held_as(&self, id: &FlowId) -> Option<u64> {
        let found = self.steps.values().find(|step| step.hold == Hold::Held(*id));
        found.map(|step| step.number)
    }

    /// The held steps with their ids, oldest first.
    pub fn held(&self) -> Vec<(FlowId, u64)> {
        let held = self.steps.values().filter_map(|step| Some((step.hold.id()?, step.number)));
        let mut held: Vec<_> = held.collect();
        held.sort_unstable_by_key(|(id, step)| (made_at(id), *step));
        held
    }

    pub(super) fn apply_break(&mut self, number: u64, id: FlowId) -> Result<()> {
        let step = self.live(number)?;
        if step.hold != Hold::None {
            return Err(Error::corrupt(format!("step {number} cannot be held")));
        }
        step.hold = Hold::Held(id);
        self.open_interrupts += 1;
        Ok(())
    }

    pub(super) fn apply_resume_break(
        &mut self,
        number: u64,
        overrides: &Changes,
        effects: &mut Effects,
    ) -> Result<()> {
        let step = self.live(number)?;
        if !step.hold.is_held() {
            return Err(Error::corrupt(format!("step {number} is not held")));
        }
        step.hold = Hold::Passed;
        self.open_interrupts -= 1;
        effects.ready.push(number);
        self.override_view(number, overrides);
        Ok(())
    }

    /// Replaces some of what a step sees. It counts as something that its branch did before the step: what comes after
    /// the join has it too.
    pub(super) fn override_view(&mut self, number: u64, overrides: &Changes) {
        if overrides.is_empty() {
            return;
        }
        let Some(mut state) = self.step(number).map(|step| self.view(step)) else { return };
        state.apply(overrides);
        let Some(step) = self.steps.get_mut(&number) else { return };
        step.view = View::State(state);
        if step.branch.is_some() {
            step.log.push(overrides);
            step.log.compact(self.graph.reducers());
        }
    }
}
