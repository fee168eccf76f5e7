//! Pauses and breakpoints: what operations ask, and what follows from it in memory.

use super::mail::{gone, Body};
use super::{Engine, Ran, Serial};
use crate::batch::{After, Group, InterruptRow, Op};
use crate::error::{Error, Result};
use crate::flow::event::{Control, Event, EventBody};
use crate::flow::CallKind;
use crate::ids::{new_id, unhex, FlowId};
use crate::state::Changes;

impl Engine {
    pub(super) fn obey_pause(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        if let Some(reason) = &live.flow.holds().paused {
            let why = if reason.is_empty() { String::new() } else { format!(" (\"{reason}\")") };
            let key = live.flow.key();
            return Err(Error::conflict(format!(
                "flow {key} is paused already{why}; let it go on by unpause()"
            )));
        }
        self.control(serial, 0, Control::Pause { reason: body.reason() }, group, now_ms);
        Ok(())
    }

    pub(super) fn obey_unpause(&mut self, serial: Serial, group: &mut Group, now_ms: i64) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        if !live.flow.is_paused() {
            let (key, status) = (live.flow.key(), live.flow.status().as_str());
            return Err(Error::conflict(format!("flow {key} is not paused, it is {status}")));
        }
        self.control(serial, 0, Control::Unpause, group, now_ms);
        Ok(())
    }

    pub(super) fn obey_break_before(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        let node = body.text("node").unwrap_or_default();
        let on = body.get("on").is_none_or(|on| on.raw() != "false");
        let is_on = live.flow.holds().breaks.contains(&node);
        if on && live.flow.graph().find(&node).is_none() && !self.graphs.have_node(&node) {
            let own = live.flow.graph();
            let names: Vec<&str> = own.nodes().iter().map(|node| &*node.name).take(20).collect();
            return Err(Error::invalid(format!(
                "no graph that is known here has a node {node:?}; those of flow {} are {names:?}",
                live.flow.key()
            )));
        }
        if on != is_on {
            self.control(serial, 0, Control::BreakBefore { node, on }, group, now_ms);
        }
        Ok(())
    }

    pub(super) fn obey_resume_break(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        let key = live.flow.key();
        let found = match body.text("interrupt_id") {
            Some(id) => unhex(&id).and_then(|id| live.flow.held_as(&id)),
            None => live.flow.held().first().map(|(_, step)| *step),
        };
        let step = found.ok_or_else(|| {
            let asks = live.flow.open_calls(CallKind::Interrupt);
            let hint = if asks.is_empty() { "" } else { "; its question is answered by resume()" };
            Error::conflict(format!("no breakpoint holds that step of flow {key} any more{hint}"))
        })?;
        let overrides = match body.get("overrides").filter(|overrides| !overrides.is_null()) {
            Some(overrides) => Changes::from_overrides(overrides.raw())?,
            None => Changes::default(),
        };
        let bytes = body.get("overrides").map_or(0, |overrides| overrides.raw().len());
        if bytes > self.options.max_event_bytes {
            let most = self.options.max_event_bytes;
            return Err(Error::invalid(format!("the overrides have {bytes} bytes and {most} are allowed")));
        }
        let reducers = live.flow.graph().reducers();
        overrides.check(reducers).map_err(|error| Error::invalid(error.message))?;
        let id = live.flow.step(step).and_then(|step| step.hold.id()).unwrap_or_default();
        self.control(serial, step, Control::ResumeBreak { id, overrides }, group, now_ms);
        Ok(())
    }

    /// Records what an operation does.
    pub(super) fn control(
        &mut self,
        serial: Serial,
        step: u64,
        control: Control,
        group: &mut Group,
        now_ms: i64,
    ) {
        let Some(live) = self.flows.get(&serial) else { return };
        let attempt = live.flow.step(step).map_or(0, |step| step.attempt);
        let body = EventBody::Control(control);
        let event = Event { ord: live.flow.ord() + 1, step, attempt, at: now_ms, body };
        self.record(serial, event, None, Ran::default(), group, now_ms);
    }

    /// A step whose turn has come stands at a breakpoint.
    pub(super) fn break_here(&mut self, serial: Serial, step: u64, now_ms: i64) {
        let id = in_order(new_id(now_ms, (self.random)()), step);
        let mut group = Group::default();
        self.control(serial, step, Control::Break { id }, &mut group, now_ms);
        self.enqueue(group);
    }

    /// What follows in memory and in rows from what an operation did.
    pub(super) fn hold(
        &mut self,
        serial: Serial,
        step: u64,
        control: &Control,
        group: &mut Group,
        now_ms: i64,
    ) {
        match control {
            Control::Pause { .. }
            | Control::Unpause
            | Control::Inherit { .. }
            | Control::BreakBefore { .. } => {
                self.hold_back(serial, group);
                self.tell_children(serial, group, now_ms);
            }
            Control::Break { id } => self.open_break(serial, step, *id, group, now_ms),
            Control::ResumeBreak { id, .. } => {
                let Some(live) = self.flows.get(&serial) else { return };
                group.push(live.about.id, live.claims, Op::CloseInterrupt { id: *id });
            }
            Control::Cancel { .. }
            | Control::StartAt { .. }
            | Control::Signal { .. }
            | Control::ChildStarted { .. }
            | Control::ChildState { .. } => {}
            Control::Rewind(rewind) => {
                let children = rewind.reopened.iter().map(|(_, child)| *child).collect();
                self.say_holds(serial, children, group, now_ms);
                if rewind.is_unpaused {
                    self.ask_parent(serial, group, now_ms);
                }
            }
        }
    }

    /// Takes back what may not start any more, looks again at what may, and arms or stops the timers.
    fn hold_back(&mut self, serial: Serial, group: &mut Group) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let flow = &live.flow;
        let is_paused = flow.is_paused();
        let is_held = |step: &u64| is_paused || flow.step(*step).is_some_and(|step| flow.breaks_before(step));
        let held: Vec<u64> = live.offered.iter().copied().filter(is_held).collect();
        for step in held {
            live.offered.remove(&step);
            self.scheduler.withdraw(serial, step);
        }
        if is_paused {
            self.clear_timers(serial);
        } else {
            self.go_on(serial, group);
        }
    }

    fn go_on(&mut self, serial: Serial, group: &mut Group) {
        let Some(live) = self.flows.get(&serial) else { return };
        let mut idle: Vec<(u64, bool)> = live
            .flow
            .steps()
            .filter(|step| !step.hold.is_held())
            .map(|step| (step.number, step.is_parked()))
            .filter(|(step, _)| !live.running.contains_key(step) && !live.offered.contains(step))
            .collect();
        idle.sort_unstable();
        let id = live.about.id;
        for (step, is_parked) in idle {
            if is_parked {
                self.arm_calls(serial, step);
            } else {
                group.after(id, After::OfferAgain { step });
            }
        }
    }

    /// Offers a step that could run when it was let go. One that has run since has a result that is not committed yet,
    /// and is offered with that.
    pub(super) fn offer_again(&mut self, serial: Serial, step: u64, now_ms: i64) {
        let live = self.flows.get(&serial);
        if live.is_some_and(|live| live.kept.iter().all(|kept| kept.step != step)) {
            self.offer(serial, step, now_ms);
        }
    }

    fn open_break(&mut self, serial: Serial, number: u64, id: FlowId, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let Some(step) = live.flow.step(number) else { return };
        let row = InterruptRow {
            id,
            kind: "breakpoint",
            root: live.about.root,
            step: number,
            node: live.entry.graph.node(step.node).name.to_string(),
            key: None,
            payload: None,
            created_at: now_ms,
            expires_at: None,
        };
        group.push(live.about.id, live.claims, Op::OpenInterrupt(Box::new(row)));
    }
}

/// An id that stands after those of lower steps of the same millisecond: steps are let go in that order.
fn in_order(mut id: FlowId, step: u64) -> FlowId {
    let bits = step & 0x3_ffff;
    id[6] = 0x70 | (bits >> 14) as u8;
    id[7] = (bits >> 6) as u8;
    id[8] = 0x80 | (bits & 0x3f) as u8;
    id
}
