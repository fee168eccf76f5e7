//! Answers to open questions.

use super::mail::{gone, Body};
use super::{Engine, Serial};
use crate::batch::Group;
use crate::error::{Error, Result};
use crate::flow::{Call, CallKind, Flow};
use crate::ids::{hex, unhex, FlowId};
use crate::json::Value;

impl Engine {
    pub(super) fn obey_resume(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        let key = live.flow.key();
        let wanted = match body.text("interrupt_id") {
            Some(id) => Some(unhex(&id).ok_or_else(|| {
                Error::conflict(format!("interrupt {id:?} of flow {key} is not open; there is no such id"))
            })?),
            None => None,
        };
        let (step, call) = find(&live.flow, wanted, body.step()).ok_or_else(|| {
            Error::conflict(match wanted {
                Some(id) if live.flow.held_as(&id).is_some() => held_instead(key),
                None if !live.flow.held().is_empty() => held_instead(key),
                Some(id) => {
                    format!("interrupt {} of flow {key} is not open; it was answered or it lapsed", hex(&id))
                }
                None => {
                    format!("flow {key} has no open interrupt; it was answered already, or none was asked")
                }
            })
        })?;
        let answer = body.get("answer").cloned().unwrap_or_else(Value::null);
        self.check_answer("the answer", &answer)?;
        self.answer(serial, step, call, Ok(answer), group, now_ms);
        Ok(())
    }
}

/// The open question of that id, in the step that the sender knows it to be of; without an id the oldest.
fn find(flow: &Flow, wanted: Option<FlowId>, step: Option<u64>) -> Option<(u64, u32)> {
    let is_it = |call: &Call| call.is_open_interrupt() && call.id == wanted;
    if let Some(step) = step.and_then(|step| flow.step(step)).filter(|_| wanted.is_some()) {
        return step.calls.iter().position(is_it).map(|at| (step.number, at as u32));
    }
    if wanted.is_none() {
        return flow.open_calls(CallKind::Interrupt).first().map(|(step, call, _)| (*step, *call));
    }
    let mut calls =
        flow.steps().flat_map(|step| (0..).zip(&step.calls).map(|(at, call)| (step.number, at, call)));
    calls.find(|(_, _, call)| is_it(call)).map(|(step, at, _)| (step, at))
}

fn held_instead(key: &str) -> String {
    format!("a breakpoint holds flow {key}, and takes no answer; let it go by resume_break()")
}
