//! What has to go when steps or flows go: timers, places in workers, open questions, children.

use super::settle::open_row_ids;
use super::{Engine, Serial, Timer};
use crate::batch::{After, Group, Op};
use crate::flow::{Call, CallKind, Step};
use crate::ids::FlowId;
use crate::json;

impl Engine {
    /// Ends what belongs to steps that ended without a result of their own.
    pub(super) fn sweep(&mut self, serial: Serial, dropped: &[Step], group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let (id, claims) = (live.about.id, live.claims);
        let reason =
            live.flow.cancel_reason().unwrap_or("the branch that waits for it was cancelled").to_owned();
        for step in dropped {
            self.withdraw(serial, step.number);
            self.clear_step_timers(serial, step);
            for interrupt in open_row_ids(step) {
                group.push(id, claims, Op::CloseInterrupt { id: interrupt });
            }
        }
        let is_open_child =
            |call: &&Call| call.kind == CallKind::Subgraph && call.is_open() && !call.is_deferred;
        let children = dropped.iter().flat_map(|step| step.calls.iter().filter(is_open_child));
        for child in children.filter_map(|call| call.id) {
            self.cancel_child(&child, &reason, group, now_ms);
        }
    }

    fn cancel_child(&mut self, child: &FlowId, reason: &str, group: &mut Group, now_ms: i64) {
        match self.operable(child) {
            Operable::Here(serial) => self.cancel(serial, reason, group, now_ms),
            Operable::Stopping => group.after(*child, After::Settle),
            Operable::Elsewhere => {
                let mut body = String::from("{\"reason\":");
                json::escape(reason, &mut body);
                body.push('}');
                group.push(*child, 0, Op::Message { kind: "cancel", body, at: now_ms });
            }
        }
    }

    /// How another flow's event may act on this one.
    pub(super) fn operable(&self, flow: &FlowId) -> Operable {
        let serial = self.index.get(flow).copied();
        match serial.and_then(|serial| Some((serial, self.flows.get(&serial)?))) {
            // Behind a message that waits for the journal everything else waits too, in its order.
            Some((_, live)) if live.is_reloading || live.is_releasing || live.history.is_some() => {
                Operable::Elsewhere
            }
            Some((_, live)) if live.is_stopping => Operable::Stopping,
            // What it has not read yet may make it go on.
            Some((_, live)) if live.flow.status().is_finished() => {
                let may_go_on = live.is_revived || live.has_unread_mail();
                if may_go_on {
                    Operable::Elsewhere
                } else {
                    Operable::Stopping
                }
            }
            Some((serial, _)) => Operable::Here(serial),
            None => Operable::Elsewhere,
        }
    }

    /// Takes a step back from the scheduler or from its worker.
    pub(super) fn withdraw(&mut self, serial: Serial, step: u64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let dispatch = live.running.remove(&step);
        if live.offered.remove(&step) {
            self.scheduler.withdraw(serial, step);
        }
        if let Some(dispatch) = dispatch {
            self.void(dispatch);
        }
    }

    /// A dispatch's result is not wanted any more. Its place is free when the worker has answered, or at once when
    /// the worker was never told.
    fn void(&mut self, dispatch: u64) {
        let Some(running) = self.running.remove(&dispatch) else { return };
        if !running.is_sent {
            self.scheduler.forget(running.worker, dispatch);
        } else if let Some(worker) = self.workers.get_mut(&running.worker) {
            worker.outbox.cancel(dispatch);
        }
    }

    /// Voids the dispatches of a flow that were not sent: the event that they wait for will not be committed.
    pub(super) fn void_unsent(&mut self, serial: Serial) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let is_unsent = |dispatch: &u64| self.running.get(dispatch).is_some_and(|running| !running.is_sent);
        let unsent: Vec<u64> = live.running.values().copied().filter(is_unsent).collect();
        live.running.retain(|_, dispatch| !unsent.contains(dispatch));
        for dispatch in unsent {
            self.void(dispatch);
        }
    }

    /// Forgets a flow and everything that refers to it.
    pub(super) fn evict(&mut self, serial: Serial) -> Option<super::Live> {
        self.clear_timers(serial);
        let live = self.flows.remove(&serial)?;
        self.index.remove(&live.about.id);
        for step in &live.offered {
            self.scheduler.withdraw(serial, *step);
        }
        for dispatch in live.running.values() {
            self.void(*dispatch);
        }
        Some(live)
    }

    /// Takes back every timer of a flow.
    pub(super) fn clear_timers(&mut self, serial: Serial) {
        self.timers.cancel(&Timer::Rest(serial));
        let Some(live) = self.flows.get(&serial) else { return };
        for step in live.flow.steps() {
            self.timers.cancel(&Timer::Delay(serial, step.number));
            for call in 0..step.calls.len() as u32 {
                self.timers.cancel(&Timer::Call(serial, step.number, call));
            }
        }
    }

    fn clear_step_timers(&mut self, serial: Serial, step: &Step) {
        self.timers.cancel(&Timer::Delay(serial, step.number));
        for call in 0..step.calls.len() as u32 {
            self.timers.cancel(&Timer::Call(serial, step.number, call));
        }
    }
}

/// Where a flow stands for those who would act on it.
pub(super) enum Operable {
    /// In memory and free.
    Here(Serial),
    /// Over, but for the commit: nothing acts on it any more.
    Stopping,
    /// Not in memory, or on its way out or in: only a message reaches it for certain.
    Elsewhere,
}
