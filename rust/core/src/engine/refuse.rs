//! What the database refuses: flows go back to their last committed event and settle again what was kept.

use rustc_hash::FxHashSet;

use super::mail::DONE;
use super::{Engine, Happening, Report, Serial};
use crate::batch::{created_in, After, Batch, Building, Item, Op};
use crate::flow::{TaskError, TaskResult};
use crate::ids::FlowId;

impl Engine {
    /// The database refuses the data of this batch, which holds one unit: its flows go back to their last committed
    /// event and are reported for reload. When that has been tried, what is to blame becomes an error of its step.
    pub fn refuse(&mut self, batch: &Batch, message: &str) -> Report {
        self.answered(batch);
        let is_hopeless = self.note_refusal(batch) && !self.blame(batch, message);
        self.roll_back(&batch.items, &batch.after, message);
        if is_hopeless {
            // Nothing is left to try: it stays as it is until somebody looks.
            for flow in flows_of(&batch.items, &[]) {
                if self.index.contains_key(&flow) && self.reloads.remove(&flow) {
                    self.report.broken.push((flow, format!("the database refuses its rows: {message}")));
                }
            }
        }
        self.take_report()
    }

    /// Drops a flow that is owned elsewhere, with everything of it that is not written.
    pub(super) fn abandon(&mut self, flow: &FlowId) {
        let Some(serial) = self.index.get(flow).copied() else { return };
        self.evict(serial);
        let mut flows = FxHashSet::from_iter([*flow]);
        let mut created = FxHashSet::default();
        self.purge(&mut flows, &mut created);
        self.send_back(&flows, &created, "the flow that created it is owned elsewhere");
    }

    /// Counts a refusal of every flow in the batch; gives whether one of them was refused before.
    fn note_refusal(&mut self, batch: &Batch) -> bool {
        let mut is_repeated = false;
        for flow in flows_of(&batch.items, &[]) {
            if let Some(live) = self.index.get(&flow).and_then(|serial| self.flows.get_mut(serial)) {
                is_repeated |= live.refusals > 0;
                live.refusals += 1;
            }
        }
        is_repeated
    }

    /// Finds the result in the batch that is at fault, else the message. What was refused before goes alone, so there
    /// is one of them; where several had to go together, the next refusal finds the next suspect.
    fn blame(&mut self, batch: &Batch, message: &str) -> bool {
        let text = format!("the database refused what the step wrote: {message}");
        for item in &batch.items {
            let Op::Journal(row) = &item.op else { continue };
            let live = self.index.get(&item.flow).and_then(|serial| self.flows.get_mut(serial));
            let kept = live.and_then(|live| live.kept.iter_mut().find(|kept| kept.ord == row.ord));
            if let Some(kept) = kept.filter(|kept| !kept.is_condemned) {
                kept.is_condemned = true;
                kept.happening = Happening::Result(TaskResult::Failed(TaskError::engine("refused", text)));
                return true;
            }
        }
        for item in &batch.items {
            let Op::Verdict { seq, verdict, .. } = &item.op else { continue };
            let live = self.index.get(&item.flow).and_then(|serial| self.flows.get_mut(serial));
            if verdict.starts_with(DONE) && live.is_some_and(|live| live.blamed_mail.insert(*seq)) {
                return true;
            }
        }
        false
    }

    /// Takes rows back that will not be written, and all that waits behind them.
    pub(super) fn roll_back(&mut self, items: &[Item], after: &[(u32, FlowId, After)], message: &str) {
        let mut flows = flows_of(items, after);
        let mut created = FxHashSet::default();
        created.extend(created_in(items));
        self.purge(&mut flows, &mut created);
        self.send_back(&flows, &created, message);
    }

    /// Forgets the flows that were never written and marks the others for reload.
    fn send_back(&mut self, flows: &FxHashSet<FlowId>, created: &FxHashSet<FlowId>, message: &str) {
        let mut flows: Vec<FlowId> = flows.iter().copied().collect();
        flows.sort_unstable();
        for flow in flows {
            let serial = self.index.get(&flow).copied();
            if created.contains(&flow) {
                if let Some(serial) = serial {
                    self.evict(serial);
                }
                self.creating.remove(&flow);
                self.unstored.remove(&flow);
                self.watched.remove(&flow);
                self.report.refused.push((flow, message.to_owned()));
            } else if let Some(live) = serial.and_then(|serial| self.flows.get_mut(&serial)) {
                if !live.is_reloading {
                    live.is_reloading = true;
                    // A guarded step would record its start on a journal that is not known now.
                    let serial = self.index[&flow];
                    for step in live.offered.drain() {
                        self.scheduler.withdraw(serial, step);
                    }
                    self.reloads.insert(flow);
                }
            }
        }
    }

    /// Takes later rows of refused flows out of what waits, and the flows that were bound to them with them.
    fn purge(&mut self, flows: &mut FxHashSet<FlowId>, created: &mut FxHashSet<FlowId>) {
        loop {
            let before = flows.len();
            for building in &mut self.pending {
                let batch = std::mem::take(building).close(0, |_| 0);
                let touched = batch.units_of(flows);
                let (stay, out) = batch.partition(&touched);
                flows.extend(flows_of(&out.items, &out.after));
                created.extend(created_in(&out.items));
                building.put_back(stay.items, stay.after);
            }
            if flows.len() == before {
                self.pending.retain(|building: &Building| !building.is_empty());
                return;
            }
        }
    }

    /// The flows of this batch have nothing at the database any more.
    pub(super) fn answered(&mut self, batch: &Batch) {
        for item in &batch.items {
            self.in_flight.remove(&item.flow);
        }
    }

    /// The flows to reload of which nothing is under way: a journal that still grows cannot be read.
    pub(super) fn ready_reloads(&mut self) -> Vec<FlowId> {
        let is_still = |flow: &FlowId| !self.in_flight.contains(flow);
        let mut ready: Vec<FlowId> = self.reloads.iter().copied().filter(is_still).collect();
        self.reloads.retain(|flow| self.in_flight.contains(flow));
        ready.retain(|flow| self.index.contains_key(flow));
        ready.sort_unstable();
        ready
    }

    /// The report, with the flows to reload.
    pub(super) fn take_report(&mut self) -> Report {
        let ready = self.ready_reloads();
        self.report.reload.extend(ready);
        std::mem::take(&mut self.report)
    }

    /// Whether the flow was refused and has committed nothing since.
    pub(super) fn is_suspect(&self, flow: &FlowId) -> bool {
        let live = self.index.get(flow).and_then(|serial: &Serial| self.flows.get(serial));
        live.is_some_and(|live| live.refusals > 0)
    }

    pub(super) fn is_reloading(&self, flow: &FlowId) -> bool {
        let live = self.index.get(flow).and_then(|serial: &Serial| self.flows.get(serial));
        live.is_some_and(|live| live.is_reloading)
    }
}

fn flows_of(items: &[Item], after: &[(u32, FlowId, After)]) -> FxHashSet<FlowId> {
    items.iter().map(|item| item.flow).chain(after.iter().map(|(_, flow, _)| *flow)).collect()
}
