//! Batches out, and what follows when they are committed, put off or refused.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{clock, Engine, Released, Serial, Timer};
use crate::batch::{After, Batch, Building, Item, Op};
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
}

impl Engine {
    /// Whether there is something to write.
    pub fn has_batch(&self) -> bool {
        self.pending.iter().any(|building| !building.is_empty())
    }

    /// Everything that waits to be written, up to the limits of one batch. The next one is taken when this one
    /// was answered.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let building = loop {
            let building = self.pending.pop_front()?;
            if !building.is_empty() {
                break building;
            }
        };
        let number = self.next_batch;
        self.next_batch += 1;
        let seen = |flow: &FlowId| {
            let serial = self.index.get(flow);
            serial.and_then(|serial| self.flows.get(serial)).map_or(0, |live| live.seen)
        };
        Some(building.close(number, seen))
    }

    /// The batch is safe, but for its `put_off` units: their flows have unread mail.
    pub fn committed(&mut self, batch: Batch, put_off: &[u32], now_ms: i64) -> Report {
        let put_off: FxHashSet<u32> = put_off.iter().copied().collect();
        let (done, late) = if put_off.is_empty() {
            (batch, None)
        } else {
            let (done, late) = batch.partition(&put_off);
            (done, Some(late))
        };
        if let Some(late) = late {
            self.put_back(late);
        }
        for (_, flow, after) in done.after {
            self.follow_up(&flow, after, now_ms);
        }
        std::mem::take(&mut self.report)
    }

    fn put_back(&mut self, late: Batch) {
        for item in &late.items {
            if matches!(item.op, Op::Stop(_) | Op::Release { .. }) {
                self.report.mail.push(item.flow);
            }
        }
        // A release is not worth a second try: the flow has mail, so it has work.
        let released: FxHashSet<FlowId> = late
            .items
            .iter()
            .filter(|item| matches!(item.op, Op::Release { .. }))
            .map(|item| item.flow)
            .collect();
        for flow in &released {
            if let Some(live) = self.index.get(flow).and_then(|serial| self.flows.get_mut(serial)) {
                live.is_releasing = false;
            }
        }
        let items: Vec<Item> =
            late.items.into_iter().filter(|item| !matches!(item.op, Op::Release { .. })).collect();
        let after = late.after.into_iter().filter(|(_, _, after)| *after != After::Released).collect();
        match self.pending.front_mut() {
            Some(front) => front.put_back(items, after),
            None => {
                let mut building = Building::default();
                building.put_back(items, after);
                self.pending.push_back(building);
            }
        }
    }

    fn follow_up(&mut self, flow: &FlowId, after: After, now_ms: i64) {
        match after {
            After::Created => {
                if self.creating.remove(flow) {
                    self.report.created.push(*flow);
                }
                return;
            }
            After::Send { dispatch } => {
                self.send(dispatch, now_ms);
                return;
            }
            _ => {}
        }
        let Some(serial) = self.index.get(flow).copied() else { return };
        match after {
            After::Offer { step } => self.offer(serial, step, now_ms),
            After::Committed { ord } => {
                if let Some(live) = self.flows.get_mut(&serial) {
                    live.committed = live.committed.max(ord);
                    live.kept.retain(|kept| kept.ord == 0 || kept.ord > ord);
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
            After::Released => self.let_go(serial, flow, now_ms),
            After::Created | After::Send { .. } => {}
        }
    }

    fn stopped(&mut self, serial: Serial, flow: &FlowId) {
        self.index.remove(flow);
        let Some(live) = self.flows.remove(&serial) else { return };
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

    fn let_go(&mut self, serial: Serial, flow: &FlowId, now_ms: i64) {
        self.index.remove(flow);
        self.cancel_timers(serial);
        let Some(live) = self.flows.remove(&serial) else { return };
        let bytes = 512 + live.about.input.len() + live.journal_bytes;
        let released = Released {
            flow: live.flow,
            claims: live.claims,
            journal_bytes: live.journal_bytes,
            snapshot_len: live.snapshot_len,
        };
        self.released.put(*flow, released, bytes, clock(now_ms));
        self.report.released += 1;
    }

    /// Disarms every timer of a flow that is about to leave.
    pub(super) fn cancel_timers(&mut self, serial: Serial) {
        let Some(live) = self.flows.get(&serial) else { return };
        for step in live.flow.steps() {
            self.timers.cancel(&Timer::Delay(serial, step.number));
            for call in 0..step.calls.len() {
                self.timers.cancel(&Timer::Call(serial, step.number, call as u32));
            }
        }
    }

    /// The database refuses the data of this batch, which holds one unit: its flows go back to their last committed
    /// event and are reported for reload. A flow whose refused event stood alone gets an error of its step instead.
    pub fn refuse(&mut self, batch: &Batch, message: &str) -> Report {
        let mut flows: FxHashSet<FlowId> = batch.items.iter().map(|item| item.flow).collect();
        let mut created: FxHashSet<FlowId> = FxHashSet::default();
        note_created(&batch.items, &mut created);
        self.purge(&mut flows, &mut created);
        let alone = flows.len() - created.len() == 1;
        for flow in flows {
            let Some(serial) = self.index.get(&flow).copied() else {
                if self.creating.remove(&flow) || created.contains(&flow) {
                    self.report.refused.push((flow, message.to_owned()));
                }
                continue;
            };
            if created.contains(&flow) {
                self.forget(serial, &flow);
                self.report.refused.push((flow, message.to_owned()));
                continue;
            }
            if self.flows.get(&serial).is_some_and(|live| live.is_careful && alone) {
                self.condemn(serial, message);
            }
            if let Some(live) = self.flows.get_mut(&serial) {
                live.is_reloading = true;
            }
            self.report.reload.push(flow);
        }
        std::mem::take(&mut self.report)
    }

    /// Takes later rows of refused flows out of what waits, and the flows that were bound to them with them.
    pub(super) fn purge(&mut self, flows: &mut FxHashSet<FlowId>, created: &mut FxHashSet<FlowId>) {
        loop {
            let before = flows.len();
            for building in &mut self.pending {
                let batch = std::mem::take(building).close(0, |_| 0);
                let touched: FxHashSet<u32> = batch
                    .items
                    .iter()
                    .filter(|item| flows.contains(&item.flow))
                    .map(|item| item.unit)
                    .collect();
                let (stay, out) = batch.partition(&touched);
                flows.extend(out.items.iter().map(|item| item.flow));
                note_created(&out.items, created);
                building.put_back(stay.items, stay.after);
            }
            if flows.len() == before {
                return;
            }
        }
    }

    pub(super) fn forget(&mut self, serial: Serial, flow: &FlowId) {
        self.index.remove(flow);
        self.creating.remove(flow);
        if let Some(live) = self.flows.remove(&serial) {
            for step in live.offered {
                self.scheduler.withdraw(serial, step);
            }
            let running: FxHashMap<u64, u64> = live.running;
            for dispatch in running.values() {
                self.running.remove(dispatch);
            }
        }
    }
}

fn note_created(items: &[Item], created: &mut FxHashSet<FlowId>) {
    created.extend(items.iter().filter(|item| matches!(item.op, Op::Create(_))).map(|item| item.flow));
}
