//! Signals that came before anybody waited for them, and the calls that wait for one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use super::event::corrupt;
use super::outcome::text;
use super::park::{Call, CallKind};
use super::Flow;
use crate::error::Result;
use crate::json::{self, Value};

/// The kept signals and the waiting calls, by name. Of one name there are signals or calls, never both for longer
/// than an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Signals {
    /// Oldest first, each with the event that kept it.
    kept: BTreeMap<String, VecDeque<(u64, Value)>>,
    /// The event that parked the step, the step, the call.
    waiting: BTreeMap<String, BTreeSet<(u64, u64, u32)>>,
}

impl Signals {
    /// Keeps a signal that event `ord` brought.
    pub(super) fn keep(&mut self, name: &str, ord: u64, payload: &Value) {
        self.kept.entry(name.to_owned()).or_default().push_back((ord, payload.clone()));
    }

    /// Takes the signal out that event `ord` brought.
    pub(super) fn take(&mut self, ord: u64) {
        let is_it = |queue: &VecDeque<(u64, Value)>| queue.iter().any(|(kept, _)| *kept == ord);
        let name = self.kept.iter().find(|(_, queue)| is_it(queue)).map(|(name, _)| name.clone());
        if let Some(name) = name {
            self.take_named(&name, ord);
        }
    }

    /// The same, of a signal whose name is known: in a fork an event of the origin may have had the same number.
    pub(super) fn take_named(&mut self, name: &str, ord: u64) {
        let Some(queue) = self.kept.get_mut(name) else { return };
        if let Some(at) = queue.iter().position(|(kept, _)| *kept == ord) {
            queue.remove(at);
        }
        if queue.is_empty() {
            self.kept.remove(name);
        }
    }

    /// Notes an open call that waits for a signal; any other call is none of its business.
    pub(super) fn wait(&mut self, call: &Call, since: u64, step: u64, at: u32) {
        if let Some(name) = waits_for(call) {
            self.waiting.entry(name.to_owned()).or_default().insert((since, step, at));
        }
    }

    /// Forgets a call that `wait` noted and that is open still.
    pub(super) fn leave(&mut self, call: &Call, step: u64, at: u32) {
        let Some(name) = waits_for(call) else { return };
        if let Some(calls) = self.waiting.get_mut(name) {
            calls.remove(&(call.since, step, at));
            if calls.is_empty() {
                self.waiting.remove(name);
            }
        }
    }

    /// The kept signals as a member of a snapshot; the waiting calls are found in the steps.
    pub(super) fn write(&self, out: &mut String) {
        if self.kept.is_empty() {
            return;
        }
        out.push_str(",\"signals\":[");
        let queues = self.kept.iter();
        let each = queues.flat_map(|(name, queue)| queue.iter().map(move |(ord, value)| (name, ord, value)));
        for (at, (name, ord, payload)) in each.enumerate() {
            let _ = write!(out, "{}[{ord},", if at > 0 { "," } else { "" });
            json::escape(name, out);
            let _ = write!(out, ",{}]", payload.raw());
        }
        out.push(']');
    }

    /// Reads what `write` wrote.
    pub(super) fn read(member: Option<&Value>) -> Result<Self> {
        let mut signals = Self::default();
        let Some(member) = member else { return Ok(signals) };
        for signal in member.elements().ok_or_else(corrupt)? {
            let parts = signal.elements().filter(|parts| parts.len() == 3).ok_or_else(corrupt)?;
            let ord = parts[0].raw().parse().map_err(|_| corrupt())?;
            signals.keep(&text(&parts[1]), ord, &parts[2]);
        }
        Ok(signals)
    }
}

impl Flow {
    /// The call that has waited longest for a signal of this name: its step and its place there.
    pub fn waits_for_signal(&self, name: &str) -> Option<(u64, u32)> {
        let first = self.signals.waiting.get(name)?.first()?;
        Some((first.1, first.2))
    }

    /// A name of which a signal is kept while a call waits for it, as a rewind may leave it.
    pub fn missed_signal(&self) -> Option<&str> {
        let names = self.signals.kept.keys().map(String::as_str);
        names.into_iter().find(|name| self.signals.waiting.contains_key(*name))
    }

    /// The oldest signal of this name that nobody has taken: its event and its payload.
    pub fn kept_signal(&self, name: &str) -> Option<(u64, &Value)> {
        let (ord, payload) = self.signals.kept.get(name)?.front()?;
        Some((*ord, payload))
    }
}

fn waits_for(call: &Call) -> Option<&str> {
    let is_waiting = call.kind == CallKind::Signal && call.is_open();
    call.target.as_deref().filter(|_| is_waiting)
}
