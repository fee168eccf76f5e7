//! Signals: delivered to the call that has waited longest, or kept for the first that comes.

use super::mail::{gone, Body};
use super::{Engine, Serial};
use crate::batch::Group;
use crate::error::{Error, Result};
use crate::flow::event::Control;
use crate::flow::Call;
use crate::json::Value;

impl Engine {
    pub(super) fn obey_signal(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let name = body.text("name").ok_or_else(|| Error::invalid("a signal has a name"))?;
        let payload = body.get("payload").cloned().unwrap_or_else(Value::null);
        self.check_answer("the payload", &payload)?;
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        if let Some((step, call)) = live.flow.waits_for_signal(&name) {
            self.answer(serial, step, call, Ok(payload), group, now_ms);
            return Ok(());
        }
        self.control(serial, 0, Control::Signal { name, payload }, group, now_ms);
        Ok(())
    }

    /// Answers a call that has just begun to wait, when a signal was kept for it.
    pub(super) fn take_kept_signal(
        &mut self,
        serial: Serial,
        step: u64,
        at: u32,
        call: &Call,
        group: &mut Group,
        now_ms: i64,
    ) {
        let live = self.flows.get(&serial);
        let kept = live.zip(call.target.as_deref()).and_then(|(live, name)| live.flow.kept_signal(name));
        if let Some((signal, payload)) = kept {
            let payload = payload.clone();
            self.answer_with(serial, step, at, Ok(payload), Some(signal), group, now_ms);
        }
    }

    /// Brings kept signals and waiting calls together: a rewind puts signals back that what it took away had taken.
    pub(super) fn deliver_missed(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        loop {
            let Some(flow) = self.flows.get(&serial).map(|live| &live.flow) else { return };
            let Some(name) = flow.missed_signal() else { return };
            let found = flow.waits_for_signal(name).zip(flow.kept_signal(name));
            let Some(((step, call), (signal, payload))) = found else { return };
            let payload = payload.clone();
            if !self.answer_with(serial, step, call, Ok(payload), Some(signal), group, now_ms) {
                return;
            }
        }
    }

    /// Refuses what is too long for an event.
    pub(super) fn check_answer(&self, what: &str, value: &Value) -> Result<()> {
        let (bytes, limit) = (value.raw().len(), self.options.max_event_bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{what} has {bytes} bytes and {limit} are allowed; store the data elsewhere and pass its address"
        )))
    }
}
