//! From what happened to a step to the rows of one group.

use super::places::place_of;
use super::{Engine, Happening, Kept, Ran, Serial};
use crate::batch::{After, Group, InterruptRow, JournalRow, Op, StopRow};
use crate::flow::event::Event;
use crate::flow::{CallKind, EventBody, Status, Step, TaskResult};
use crate::ids::FlowId;
use crate::json;
use crate::state::State;

/// About what a live step adds to a snapshot.
const STEP_SNAPSHOT_BYTES: usize = 200;

impl Engine {
    /// A result came in for a step that ran.
    pub(super) fn finished(&mut self, serial: Serial, step: u64, result: TaskResult, ran: Ran, now_ms: i64) {
        self.keep(serial, step, Happening::Result(result), ran, now_ms);
    }

    /// A worker died under a step.
    pub(super) fn lost(
        &mut self,
        serial: Serial,
        step: u64,
        cause: &str,
        alone: bool,
        ran: Ran,
        now_ms: i64,
    ) {
        let happening = Happening::Lost { cause: cause.to_owned(), alone };
        self.keep(serial, step, happening, ran, now_ms);
    }

    fn keep(&mut self, serial: Serial, step: u64, happening: Happening, ran: Ran, now_ms: i64) {
        let kept = Kept { ord: 0, step, happening, ran, is_condemned: false };
        if let Some(live) = self.flows.get_mut(&serial).filter(|live| !live.is_stopping) {
            live.kept.push_back(kept);
            self.settle_kept(serial, now_ms);
        }
    }

    /// Settles what is kept and not settled.
    pub(super) fn settle_kept(&mut self, serial: Serial, now_ms: i64) {
        loop {
            let Some(live) = self.flows.get_mut(&serial) else { return };
            if live.is_reloading {
                return;
            }
            // Settled ones stand in front: results are settled in the order in which they came.
            let at = live.kept.partition_point(|kept| kept.ord > 0);
            let Some(mut kept) = live.kept.remove(at) else { return };
            if let Some(ord) = self.settle_one(serial, &kept, now_ms) {
                kept.ord = ord;
                if let Some(live) = self.flows.get_mut(&serial) {
                    live.kept.insert(at, kept);
                }
            }
        }
    }

    /// Settles one happening; gives its event's number, `None` when it is late.
    fn settle_one(&mut self, serial: Serial, kept: &Kept, now_ms: i64) -> Option<u64> {
        let (event, after) = self.decide(serial, now_ms, |live, context| match &kept.happening {
            Happening::Result(result) => live
                .flow
                .settle(kept.step, result, context)
                .ok()
                .map(|settled| (settled.event, settled.after)),
            Happening::Lost { cause, alone } => {
                live.flow.settle_lost(kept.step, cause, *alone, context).ok().map(|event| (event, None))
            }
        })??;
        let ord = event.ord;
        let mut group = Group::default();
        self.record(serial, event, after, kept.ran, &mut group, now_ms);
        self.enqueue(group);
        Some(ord)
    }

    /// Applies an event and adds its row, with everything that follows from it, to the group.
    pub(super) fn record(
        &mut self,
        serial: Serial,
        mut event: Event,
        after: Option<State>,
        ran: Ran,
        group: &mut Group,
        now_ms: i64,
    ) {
        if let EventBody::Parked { calls, .. } = &mut event.body {
            self.defer_calls(calls);
        }
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let (id, claims) = (live.about.id, live.claims);
        let node = live.flow.step(event.step).map(|step| live.entry.graph.node(step.node).name.to_string());
        let effects = match live.flow.apply(&event, after) {
            Ok(effects) => effects,
            Err(error) => {
                // A defect of this engine: nothing more is recorded on what the journal does not have.
                live.is_reloading = true;
                self.report.broken.push((id, error.message));
                return;
            }
        };
        if let EventBody::Done { next, .. } | EventBody::Failed { next, .. } = &mut event.body {
            next.join.clone_from(&effects.joined);
        }
        let body = event.body.to_json(live.flow.key());
        live.journal_bytes += body.len();
        if let Some(history) = &mut live.history {
            history.tail.push(event.clone());
        }
        let row = JournalRow {
            ord: event.ord,
            step: event.step,
            node: node.unwrap_or_default(),
            event: event.body.name(),
            attempt: event.attempt,
            worker: ran.worker,
            queued_ms: ran.queued_ms,
            ran_ms: ran.ran_ms,
            at: event.at,
            body,
        };
        group.push(id, claims, Op::Journal(row));
        group.after(id, After::Committed { ord: event.ord });
        let is_done = matches!(event.body, EventBody::Done { .. });
        if is_done && live.crashes > 0 && !live.is_calming && !live.flow.status().is_finished() {
            live.is_calming = true;
            group.push(id, claims, Op::Calm);
            group.after(id, After::Calmed);
        }
        let is_own = !matches!(event.body, EventBody::Control(_));
        for step in &effects.ready {
            let step = *step;
            group.after(id, if is_own { After::Offer { step } } else { After::OfferAgain { step } });
        }
        if !is_own {
            let again = effects.ready.iter().chain(&effects.revived).chain(&effects.waiting_again);
            live.let_go.extend(again.map(|step| (*step, event.ord)));
        }
        self.sweep(serial, &effects.dropped, group, now_ms);
        match &event.body {
            EventBody::Parked { calls, .. } => self.parked(serial, event.step, calls.len(), group, now_ms),
            EventBody::Resolved { call, .. } => self.close_call(serial, event.step, *call, group),
            EventBody::Control(control) => {
                self.revived(serial, &effects.revived, group, now_ms);
                for step in &effects.waiting_again {
                    self.arm_calls(serial, *step);
                    self.ask_for_graph(serial, *step, group);
                }
                self.hold(serial, event.step, control, group, now_ms);
                self.deliver_missed(serial, group, now_ms);
            }
            _ => {}
        }
        self.after_event(serial, group, now_ms);
    }

    fn after_event(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        if live.flow.status().is_finished() {
            // A message that waits for the journal may make it go on.
            if live.history.is_none() {
                self.stop(serial, group, now_ms);
            } else {
                group.after(live.about.id, After::Settle);
            }
        } else {
            self.tell_status(serial, group, now_ms);
            self.moved(serial, now_ms);
            self.tell_parent(serial, group, now_ms);
            self.consider_snapshot(serial, group, now_ms);
            if let Some(live) = self.flows.get(&serial) {
                group.after(live.about.id, After::Settle);
            }
        }
    }

    /// Says in the flow's row that its status changed while it lives on.
    fn tell_status(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let status = live.flow.status();
        if status == live.told {
            return;
        }
        live.told = status;
        live.place = place_of(&live.flow);
        let position = json_list(&live.flow.position());
        group.push(live.about.id, live.claims, Op::Status { status: status.as_str(), position, at: now_ms });
        if status == Status::Interrupted {
            group.after(live.about.id, After::Rest);
            self.notify(serial, group);
        }
    }

    fn consider_snapshot(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let limit = self.options.snapshot_bytes;
        let Some(live) = self.flows.get_mut(&serial) else { return };
        // A fan-out of a hundred thousand is one short event, and a snapshot right after it a huge one.
        let least = live.flow.live_steps() * STEP_SNAPSHOT_BYTES;
        if live.journal_bytes <= limit.max(2 * live.snapshot_len).max(least) {
            return;
        }
        let body = live.flow.snapshot();
        live.snapshot_len = body.len();
        live.journal_bytes = 0;
        let ord = live.flow.skip_ord();
        let row = JournalRow {
            ord,
            step: 0,
            node: String::new(),
            event: "snapshot",
            attempt: 0,
            worker: None,
            queued_ms: 0,
            ran_ms: 0,
            at: now_ms,
            body,
        };
        group.push(live.about.id, live.claims, Op::Journal(row));
        group.after(live.about.id, After::Committed { ord });
    }

    /// The flow is over: its rows, its parent's answer, its children's end.
    pub(super) fn stop(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        live.is_stopping = true;
        let key = live.flow.key().clone();
        let row = StopRow {
            status: live.flow.status().as_str(),
            output: live.flow.current_state().to_json(),
            error: live.flow.error().map(|error| error.to_json(&key, true)),
            cancel_reason: live.flow.cancel_reason().map(str::to_owned),
            at: now_ms,
        };
        let (id, claims, parent) = (live.about.id, live.claims, live.about.parent);
        group.push(id, claims, Op::Stop(Box::new(row)));
        group.after(id, After::Stopped);
        self.notify(serial, group);
        if let Some((parent, step)) = parent {
            self.answer_parent(serial, parent, step, group, now_ms);
        }
    }

    pub(super) fn open_row(
        &self,
        serial: Serial,
        step: u64,
        call: usize,
        now_ms: i64,
    ) -> Option<InterruptRow> {
        let live = self.flows.get(&serial)?;
        let step = live.flow.step(step)?;
        let call = step.calls.get(call).filter(|call| call.kind == CallKind::Interrupt)?;
        Some(InterruptRow {
            id: call.id?,
            kind: "interrupt",
            root: live.about.root,
            step: step.number,
            node: live.entry.graph.node(step.node).name.to_string(),
            key: call.key.clone(),
            payload: call.payload.as_ref().map(|payload| payload.raw().to_owned()),
            created_at: now_ms,
            expires_at: call.due,
        })
    }
}

/// The ids under which a step stands among the open questions.
pub(super) fn open_row_ids(step: &Step) -> impl Iterator<Item = FlowId> + '_ {
    let asked = step.calls.iter().filter(|call| call.is_open_interrupt());
    asked.filter_map(|call| call.id).chain(step.hold.id())
}

/// A JSON list of strings.
pub(super) fn json_list(names: &[&str]) -> String {
    let mut out = String::from("[");
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        json::escape(name, &mut out);
    }
    out.push(']');
    out
}
