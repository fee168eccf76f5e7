//! Calls of parked steps: timers, open questions, and the answers to them.

use super::deferred::is_deferred;
use super::{clock, Engine, Ran, Serial, Timer, RELEASING_MS};
use crate::batch::{Group, Op};
use crate::flow::event::{Control, Event, EventBody};
use crate::flow::{Call, CallError, CallKind};
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
                CallKind::Subgraph if call.is_deferred => {}
                CallKind::Subgraph => self.start_child(serial, step, at as u32, call, group, now_ms),
                CallKind::Signal => self.take_kept_signal(serial, step, at as u32, call, group, now_ms),
                CallKind::Sleep => {}
            }
        }
        if calls.iter().any(is_deferred) {
            self.ask_for_graph(serial, step, group);
        }
        self.arm_calls(serial, step);
    }

    /// Arms the timers of a step's open calls. What falls due while the flow is paused is so when it goes on.
    pub(super) fn arm_calls(&mut self, serial: Serial, step: u64) {
        let Some(live) = self.flows.get(&serial).filter(|live| !live.flow.is_paused()) else { return };
        let Some(found) = live.flow.step(step) else { return };
        for (at, call) in (0..).zip(&found.calls) {
            if let Some(due) = call.due.filter(|_| call.is_open()) {
                self.timers.set(Timer::Call(serial, step, at), clock(due));
            }
        }
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
        self.answer_with(serial, step, call, answer, None, group, now_ms)
    }

    /// As `answer`; `signal` is the event that had kept what is answered.
    #[expect(clippy::too_many_arguments, reason = "a place, an answer, and where it came from")]
    pub(super) fn answer_with(
        &mut self,
        serial: Serial,
        step: u64,
        call: u32,
        answer: std::result::Result<Value, CallError>,
        signal: Option<u64>,
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
        let body = EventBody::Resolved { call, answer, signal };
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

    /// Cancels a flow; the children it waits for go with it.
    pub(super) fn cancel(&mut self, serial: Serial, reason: &str, group: &mut Group, now_ms: i64) {
        self.control(serial, 0, Control::Cancel { reason: reason.to_owned() }, group, now_ms);
    }

    /// Fires what is due.
    pub fn tick(&mut self, now_ms: i64) {
        self.pace.take(now_ms);
        self.fire_budgets();
        self.tell_places(now_ms);
        for timer in self.timers.due(clock(now_ms)) {
            match timer {
                Timer::Delay(serial, step) => self.offer(serial, step, now_ms),
                Timer::Call(serial, step, call) => self.due(serial, step, call, now_ms),
                Timer::Rest(serial) => self.consider_release(serial, now_ms),
            }
        }
        self.scheduler.wake(now_ms);
        self.make_room(now_ms);
    }

    /// The next instant at which something is due, by the shard's clock, and by the one of time budgets how long it is
    /// until the next of them may be over. Frames that were handed out may have brought either nearer.
    pub fn next_due(&self) -> (Option<i64>, Option<i64>) {
        let timer = self.timers.next().map(u64::cast_signed);
        let due = timer.into_iter().chain(self.places.next()).chain(self.scheduler.next_wake());
        let due = due.chain(self.crowd_due()).min();
        (due, self.next_budget())
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
