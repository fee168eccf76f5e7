//! Calls of parked steps: children, timers, open questions, and the answers to them.

use super::sweep::Operable;
use super::{clock, Engine, Ran, Serial, Timer, RELEASING_MS};
use crate::batch::{After, Group, NewFlow, Op};
use crate::flow::event::{Control, Event, EventBody};
use crate::flow::{Call, CallError, CallKind, Status};
use crate::ids::FlowId;
use crate::json::Value;

impl Engine {
    /// Sets going what the last `new` calls of a step wait for.
    pub(super) fn parked(&mut self, serial: Serial, step: u64, new: usize, group: &mut Group, now_ms: i64) {
        let Some(calls) =
            self.flows.get(&serial).and_then(|live| live.flow.step(step)).map(|step| step.calls.clone())
        else {
            return;
        };
        for (at, call) in calls.iter().enumerate().skip(calls.len().saturating_sub(new)) {
            match call.kind {
                CallKind::Interrupt => {
                    if let (Some(row), Some(live)) =
                        (self.open_row(serial, step, at, now_ms), self.flows.get(&serial))
                    {
                        group.push(live.about.id, live.claims, Op::OpenInterrupt(Box::new(row)));
                    }
                }
                CallKind::Subgraph => self.start_child(serial, step, at as u32, call, group, now_ms),
                CallKind::Sleep | CallKind::Signal => {}
            }
        }
        self.arm_calls(serial, step);
    }

    /// Arms the timers of a step's open calls.
    pub(super) fn arm_calls(&mut self, serial: Serial, step: u64) {
        let Some(found) = self.flows.get(&serial).and_then(|live| live.flow.step(step)) else { return };
        for (at, call) in (0..).zip(&found.calls) {
            if let Some(due) = call.due.filter(|_| call.is_open()) {
                self.timers.set(Timer::Call(serial, step, at), clock(due));
            }
        }
    }

    fn start_child(
        &mut self,
        serial: Serial,
        step: u64,
        at: u32,
        call: &Call,
        group: &mut Group,
        now_ms: i64,
    ) {
        let workflow = call.target.clone().unwrap_or_default();
        let made = match (self.workflow(&workflow), call.id) {
            (Some(graph), Some(id)) => self.child(serial, step, id, graph, &workflow, call, now_ms),
            _ => None,
        };
        let outcome = if let Some(child) = made {
            self.create_in(child, group).map_err(|error| (error.code.as_str(), error.message))
        } else {
            let known: Vec<&str> = self.graphs.workflows().take(20).collect();
            Err(("not_found", format!("no workflow is called {workflow:?}; known are {known:?}")))
        };
        if let Err((code, message)) = outcome {
            let error = CallError { code: code.into(), message, data: None };
            self.answer(serial, step, at, Err(error), group, now_ms);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different part of the new flow")]
    fn child(
        &self,
        serial: Serial,
        step: u64,
        id: FlowId,
        graph: [u8; 32],
        workflow: &str,
        call: &Call,
        now_ms: i64,
    ) -> Option<NewFlow> {
        let parent = &self.flows.get(&serial)?.about;
        Some(NewFlow {
            id,
            root: parent.root,
            parent: Some((parent.id, step)),
            workflow: workflow.to_owned(),
            graph,
            priority: parent.priority,
            fairness_key: parent.fairness_key.clone(),
            fairness_weight: parent.fairness_weight,
            time_budget_ms: parent.time_budget_ms,
            thread: id,
            turn: 1,
            tags: None,
            input: call.payload.as_ref().map_or_else(|| "{}".to_owned(), |input| input.raw().to_owned()),
            baggage: parent.baggage.clone(),
            trace_parent: parent.trace_parent.clone(),
            notify: None,
            delete_on_completion: false,
            created_at: now_ms,
        })
    }

    /// Records the answer to an open call. Gives whether it was open.
    pub(super) fn answer(
        &mut self,
        serial: Serial,
        step: u64,
        call: u32,
        answer: std::result::Result<Value, CallError>,
        group: &mut Group,
        now_ms: i64,
    ) -> bool {
        let Some(live) = self.flows.get(&serial).filter(|live| !live.is_reloading && !live.is_stopping)
        else {
            return false;
        };
        let Some(found) = live.flow.step(step) else { return false };
        if !found.calls.get(call as usize).is_some_and(Call::is_open) {
            return false;
        }
        let body = EventBody::Resolved { call, answer };
        let event = Event { ord: live.flow.ord() + 1, step, attempt: found.attempt, at: now_ms, body };
        self.record(serial, event, None, Ran::default(), group, now_ms);
        true
    }

    /// What is left of a call after its answer: its row among the open questions, its timer.
    pub(super) fn close_call(&mut self, serial: Serial, step: u64, call: u32, group: &mut Group) {
        self.timers.cancel(&Timer::Call(serial, step, call));
        let Some(live) = self.flows.get(&serial) else { return };
        let Some(call) = live.flow.step(step).and_then(|step| step.calls.get(call as usize)) else { return };
        if let (CallKind::Interrupt, Some(id)) = (call.kind, call.id) {
            group.push(live.about.id, live.claims, Op::CloseInterrupt { id });
        }
    }

    /// Gives a finished child's outcome to the parent: at once when it is owned here, else as a message.
    pub(super) fn answer_parent(
        &mut self,
        child: Serial,
        parent: FlowId,
        step: u64,
        group: &mut Group,
        now_ms: i64,
    ) {
        let Some(live) = self.flows.get(&child) else { return };
        let id = live.about.id;
        let answer = match (live.flow.status(), live.flow.error()) {
            (Status::Completed, _) => Ok(Value::from_raw_unchecked(live.flow.current_state().to_json())),
            (_, Some(failed)) => Err(CallError {
                code: failed.error.code.clone(),
                message: failed.error.message.clone(),
                data: failed.error.data.clone(),
            }),
            _ => {
                let reason = live.flow.cancel_reason().unwrap_or_default();
                Err(CallError {
                    code: "cancelled".into(),
                    message: format!("the child was cancelled: {reason}"),
                    data: None,
                })
            }
        };
        match self.operable(&parent) {
            Operable::Here(serial) => {
                if !self.answer_child_call(serial, step, &id, answer, group, now_ms) {
                    // Nobody waits. Should the event that says so be refused, then this one goes back with it.
                    group.after(parent, After::Settle);
                }
            }
            Operable::Stopping => group.after(parent, After::Settle),
            Operable::Elsewhere => group.push(parent, 0, child_result(&id, step, &answer, now_ms)),
        }
    }

    /// Answers the open subgraph call that waits for `child`.
    pub(super) fn answer_child_call(
        &mut self,
        serial: Serial,
        step: u64,
        child: &FlowId,
        answer: std::result::Result<Value, CallError>,
        group: &mut Group,
        now_ms: i64,
    ) -> bool {
        let found = self.flows.get(&serial).and_then(|live| live.flow.step(step));
        let call = found.and_then(|step| step.calls.iter().position(|call| call.id.as_ref() == Some(child)));
        call.is_some_and(|call| self.answer(serial, step, call as u32, answer, group, now_ms))
    }

    /// Cancels a flow; the children it waits for go with it.
    pub(super) fn cancel(&mut self, serial: Serial, reason: &str, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let body = EventBody::Control(Control::Cancel { reason: reason.to_owned() });
        let event = Event { ord: live.flow.ord() + 1, step: 0, attempt: 0, at: now_ms, body };
        self.record(serial, event, None, Ran::default(), group, now_ms);
    }

    /// Fires what is due; gives the next due instant.
    pub fn tick(&mut self, now_ms: i64) -> Option<i64> {
        self.pace.take(now_ms);
        for timer in self.timers.due(clock(now_ms)) {
            match timer {
                Timer::Delay(serial, step) => self.offer(serial, step, now_ms),
                Timer::Call(serial, step, call) => self.due(serial, step, call, now_ms),
                Timer::Rest(serial) => self.consider_release(serial, now_ms),
            }
        }
        self.scheduler.wake(now_ms);
        self.next_due()
    }

    /// When something is due by time alone.
    pub fn next_due(&self) -> Option<i64> {
        [self.timers.next().map(u64::cast_signed), self.scheduler.next_wake()].into_iter().flatten().min()
    }

    fn due(&mut self, serial: Serial, step: u64, call: u32, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let found = live.flow.step(step).and_then(|step| step.calls.get(call as usize));
        let Some(kind) = found.map(|call| call.kind) else { return };
        if live.is_releasing {
            self.timers.set(Timer::Call(serial, step, call), clock(now_ms + RELEASING_MS));
            return;
        }
        let answer = match kind {
            CallKind::Sleep => Ok(Value::null()),
            _ => Err(CallError {
                code: "interrupt_timeout".into(),
                message: "no answer came in time".into(),
                data: None,
            }),
        };
        let mut group = Group::default();
        if self.answer(serial, step, call, answer, &mut group, now_ms) {
            self.enqueue(group);
        }
    }
}

fn child_result(
    child: &FlowId,
    step: u64,
    answer: &std::result::Result<Value, CallError>,
    now_ms: i64,
) -> Op {
    let mut body = format!("{{\"child\":\"{}\",\"step\":{step},", crate::ids::hex(child));
    match answer {
        Ok(value) => {
            body.push_str("\"answer\":");
            body.push_str(value.raw());
        }
        Err(error) => {
            body.push_str("\"error\":");
            error.write_json(&mut body);
        }
    }
    body.push('}');
    Op::Message { kind: "child_result", body, at: now_ms }
}
