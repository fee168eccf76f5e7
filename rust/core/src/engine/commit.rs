//! Batches out, and what follows when they are committed, put off or refused.

use rustc_hash::FxHashSet;

use super::{Engine, Serial};
use crate::batch::{After, Batch, Building, Group, Op};
use crate::ids::FlowId;

/// A flow that came to rest while somebody waited for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    /// The flow.
    pub flow: FlowId,
    /// The top of its thread.
    pub thread: FlowId,
    /// The name it was created by.
    pub workflow: String,
    /// `completed`, `failed` or `cancelled`.
    pub status: &'static str,
    /// JSON object.
    pub output: String,
    /// JSON of the error.
    pub error: Option<String>,
    /// The caller's words.
    pub cancel_reason: Option<String>,
}

/// What Python has to do after a commit.
#[derive(Debug, Default)]
pub struct Report {
    /// Flows whose creation somebody waits for, now safe.
    pub created: Vec<FlowId>,
    /// Flows that ended and were watched.
    pub stopped: Vec<Stopped>,
    /// Flows that were interrupted and are watched.
    pub rests: Vec<FlowId>,
    /// Flows whose mail must be read before their stop can be written.
    pub mail: Vec<FlowId>,
    /// Flows to load again from their journal.
    pub reload: Vec<FlowId>,
    /// Flows that could not be created, with the database's words.
    pub refused: Vec<(FlowId, String)>,
    /// Flows whose memory and journal disagree: a defect, to be logged.
    pub broken: Vec<(FlowId, String)>,
    /// How many flows were released.
    pub released: usize,
    /// How many rows the outbox was given.
    pub notices: usize,
}

impl Engine {
    /// Whether there is something to write.
    pub fn has_batch(&self) -> bool {
        self.pending.iter().any(|building| !building.is_empty())
    }

    /// Everything that waits to be written, up to the limits of one batch. The next one is taken when this one
    /// was answered.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let mut building = loop {
            let building = self.pending.pop_front()?;
            if !building.is_empty() {
                break building;
            }
        };
        // A stop says that all mail was read; the answers to it may not come later.
        let stopped = if self.pending.is_empty() { FxHashSet::default() } else { building.stopped() };
        if !stopped.is_empty() {
            for later in &mut self.pending {
                building.pull_verdicts(later, &stopped);
            }
        }
        let number = self.next_batch;
        self.next_batch += 1;
        let seen = |flow: &FlowId| {
            let serial = self.index.get(flow);
            serial.and_then(|serial| self.flows.get(serial)).map_or(0, |live| live.seen)
        };
        let batch = building.close(number, seen);
        self.in_flight.extend(batch.items.iter().map(|item| item.flow));
        Some(batch)
    }

    /// The batch is safe, but for its `put_off` units: their flows have unread mail.
    pub fn committed(&mut self, batch: Batch, put_off: &[u32], now_ms: i64) -> Report {
        self.answered(&batch);
        let put_off: FxHashSet<u32> = put_off.iter().copied().collect();
        let (done, late) = if put_off.is_empty() {
            (batch, None)
        } else {
            let (done, late) = batch.partition(&put_off);
            (done, Some(late))
        };
        if let Some(late) = late {
            self.put_back(late, now_ms);
        }
        for (_, flow, after) in done.after {
            self.follow_up(&flow, after, now_ms);
        }
        self.take_report()
    }

    fn put_back(&mut self, late: Batch, now_ms: i64) {
        for item in &late.items {
            if matches!(item.op, Op::Stop(_) | Op::Lapse | Op::Release { .. }) {
                self.report.mail.push(item.flow);
            }
            if matches!(item.op, Op::Release { .. }) {
                self.put_off_release(&item.flow, now_ms);
            }
        }
        // What is bound to a flow that was rolled back meanwhile can only go back too.
        let reloading = late.items.iter().map(|item| item.flow).filter(|flow| self.is_reloading(flow));
        let spoiled = late.units_of(&reloading.collect());
        let (mut late, spoiled) = late.partition(&spoiled);
        if !spoiled.items.is_empty() {
            self.roll_back(&spoiled.items, &spoiled.after, "a flow it is bound to was rolled back");
        }
        // A release is not worth a second try: the flow has mail, so it has work.
        late.items.retain(|item| !matches!(item.op, Op::Release { .. }));
        late.after.retain(|(_, _, after)| *after != After::Released);
        let is_suspect = late.items.iter().any(|item| self.is_suspect(&item.flow));
        let is_closed = |front: &Building| is_suspect || front.is_alone() || front.waits_for(&late.items);
        if self.pending.front().is_none_or(is_closed) {
            self.pending.push_front(Building::default());
        }
        if let Some(front) = self.pending.front_mut() {
            front.put_back(late.items, late.after);
        }
    }

    fn follow_up(&mut self, flow: &FlowId, after: After, now_ms: i64) {
        match after {
            After::Created => {
                self.unstored.remove(flow);
                if self.creating.remove(flow) {
                    self.report.created.push(*flow);
                }
                if let Some(serial) = self.index.get(flow).copied() {
                    let mut group = Group::default();
                    self.deliver_missed(serial, &mut group, now_ms);
                    self.enqueue(group);
                }
                return;
            }
            After::Send { dispatch } => {
                self.to_send.push(dispatch);
                return;
            }
            After::Notify => {
                self.report.notices += 1;
                return;
            }
            _ => {}
        }
        let Some(serial) = self.index.get(flow).copied() else { return };
        match after {
            After::Offer { step } => self.offer(serial, step, now_ms),
            After::OfferAgain { step } => self.offer_again(serial, step, now_ms),
            After::Committed { ord } => {
                if let Some(live) = self.flows.get_mut(&serial) {
                    live.committed = live.committed.max(ord);
                    live.refusals = 0;
                    while live.kept.front().is_some_and(|kept| kept.ord > 0 && kept.ord <= ord) {
                        live.kept.pop_front();
                    }
                }
            }
            After::Settle => {
                self.settle_kept(serial, now_ms);
                self.consider_release(serial, now_ms);
            }
            After::Rest => {
                if self.watched.contains(flow) {
                    self.report.rests.push(*flow);
                }
            }
            After::Stopped => self.stopped(serial, flow),
            After::Released => self.let_go(serial, now_ms),
            After::Calmed => self.calmed(serial, now_ms),
            After::Ask { step } => self.want_graphs(serial, step, now_ms),
            After::Created | After::Send { .. } | After::Notify => {}
        }
    }

    fn stopped(&mut self, serial: Serial, flow: &FlowId) {
        if !self.flows.get(&serial).is_some_and(|live| live.is_stopping) {
            return;
        }
        let Some(live) = self.evict(serial) else { return };
        if self.watched.remove(flow) {
            let key = live.flow.key();
            self.report.stopped.push(Stopped {
                flow: *flow,
                thread: live.about.thread,
                status: live.flow.status().as_str(),
                output: live.flow.current_state().to_json(),
                error: live.flow.error().map(|error| error.to_json(key, true)),
                cancel_reason: live.flow.cancel_reason().map(str::to_owned),
                workflow: live.about.workflow,
            });
        }
    }

    /// The flow's replica death is made up for: its steps need not be guarded any more.
    fn calmed(&mut self, serial: Serial, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        live.crashes = 0;
        live.is_calming = false;
        let mut guarded: Vec<u64> = live.offered.drain().collect();
        guarded.sort_unstable();
        for step in guarded {
            self.scheduler.withdraw(serial, step);
            self.offer(serial, step, now_ms);
        }
    }
}
