//! Letting go of flows that only wait, and for long.

use super::settle::json_list;
use super::{clock, Engine, Released, Serial, Timer};
use crate::batch::{After, Group, Op};
use crate::flow::{CallKind, Step};
use crate::ids::FlowId;

/// When a release that was put off is looked at again.
const AGAIN_MS: i64 = 1_000;

/// A flow with more live steps is looked at once in `AGAIN_MS` for each so many of them, since a look goes through all
/// of them, as does a claim: one with very many open questions is not let go and claimed again for each answer.
const MANY_STEPS: usize = 1_024;

/// The longest time between two looks.
const AGAIN_AT_MOST_MS: i64 = 60_000;

/// How long a flow with so many live steps is held between two looks.
pub(super) fn hold_ms(live_steps: usize) -> i64 {
    ((live_steps / MANY_STEPS) as i64 * AGAIN_MS).min(AGAIN_AT_MOST_MS)
}

impl Engine {
    /// Lets go of a flow that only waits, and for long: its memory, and its row.
    pub(super) fn consider_release(&mut self, serial: Serial, now_ms: i64) {
        if !self.is_idle(serial) || self.is_too_early(serial, now_ms) || self.has_children_here(serial) {
            return;
        }
        let Some(live) = self.flows.get_mut(&serial) else { return };
        if live.flow.status().is_finished() {
            self.rest_again(serial, now_ms);
            return;
        }
        let is_work = |step: &Step| step.is_runnable() && step.not_before <= now_ms;
        let has_work = !live.flow.is_paused() && live.flow.steps().any(is_work);
        let wake_at = live.flow.next_due();
        if has_work || wake_at.is_some_and(|at| at <= now_ms + self.options.release_after_ms) {
            return;
        }
        self.release(serial, wake_at, now_ms);
    }

    /// Writes that the flow is nobody's until `wake_at`; it is let go of when that is written.
    pub(super) fn release(&mut self, serial: Serial, wake_at: Option<i64>, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let (id, claims) = (live.about.id, live.claims);
        let position = json_list(&live.flow.position());
        let status = live.flow.status().as_str();
        let mut group = Group::default();
        group.push(id, claims, Op::Status { status, position, at: now_ms });
        group.push(id, claims, Op::Release { wake_at });
        group.after(id, After::Released);
        live.is_releasing = true;
        self.enqueue(group);
    }

    fn is_idle(&self, serial: Serial) -> bool {
        let Some(live) = self.flows.get(&serial) else { return false };
        let is_busy = live.is_releasing || live.is_stopping || live.is_reloading || !live.kept.is_empty();
        !is_busy
            && live.running.is_empty()
            && live.offered.is_empty()
            && live.committed == live.flow.ord()
            && !live.has_unread_mail()
    }

    /// Whether a flow with many steps was looked at a moment ago; then its turn comes by a timer.
    fn is_too_early(&mut self, serial: Serial, now_ms: i64) -> bool {
        let Some(live) = self.flows.get_mut(&serial) else { return true };
        if live.flow.live_steps() <= MANY_STEPS {
            return false;
        }
        let is_too_early = now_ms < live.look_again_at;
        if is_too_early {
            self.timers.set(Timer::Rest(serial), clock(live.look_again_at));
        } else {
            live.look_again_at = now_ms + hold_ms(live.flow.live_steps());
        }
        is_too_early
    }

    /// A child that is owned here answers in memory; without its parent it would have to write a message. One that
    /// waits for its graph is waited for.
    pub(super) fn has_children_here(&self, serial: Serial) -> bool {
        let Some(live) = self.flows.get(&serial) else { return false };
        let is_here = |child: FlowId| self.index.contains_key(&child);
        let mut calls = live.flow.steps().flat_map(|step| &step.calls);
        calls.any(|call| {
            let is_child = call.kind == CallKind::Subgraph && call.is_open();
            is_child && (call.is_deferred || call.id.is_some_and(is_here))
        })
    }

    /// Takes a release back that has not been handed out. One that has been cannot succeed: the flow has mail.
    pub(super) fn cancel_release(&mut self, serial: Serial) {
        let Some(live) = self.flows.get_mut(&serial).filter(|live| live.is_releasing) else { return };
        let id = live.about.id;
        if self.pending.iter_mut().any(|building| building.drop_release(&id)) {
            live.is_releasing = false;
        }
    }

    /// A release was not written.
    pub(super) fn put_off_release(&mut self, flow: &FlowId, now_ms: i64) {
        let Some(serial) = self.index.get(flow).copied() else { return };
        if let Some(live) = self.flows.get_mut(&serial).filter(|live| live.is_releasing) {
            live.is_releasing = false;
            self.timers.set(Timer::Rest(serial), clock(now_ms + AGAIN_MS));
        }
    }

    /// The flow is nobody's now; its memory stays a while.
    pub(super) fn let_go(&mut self, serial: Serial, now_ms: i64) {
        let Some(live) = self.flows.get(&serial).filter(|live| live.is_releasing) else { return };
        if live.committed != live.flow.ord() {
            // What was recorded since cannot be written; whoever claims the flow finds its cause in the database.
            let id = live.about.id;
            self.abandon(&id);
            return;
        }
        let Some(live) = self.evict(serial) else { return };
        let bytes = 512 + live.about.input.len() + live.journal_bytes + live.snapshot_len;
        let released = Released {
            flow: live.flow,
            claims: live.claims,
            handled: live.handled,
            journal_bytes: live.journal_bytes,
            snapshot_len: live.snapshot_len,
        };
        self.released.put(live.about.id, released, bytes, clock(now_ms));
        self.report.released += 1;
        if let Some(parent) = live.about.parent.and_then(|(parent, _)| self.index.get(&parent).copied()) {
            self.consider_release(parent, now_ms);
        }
    }
}
