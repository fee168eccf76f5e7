//! Why a ready step does not run yet.

use super::ready::Where;
use super::Scheduler;
use crate::flow_control::No;

/// What a ready step waits for, the most telling reason first.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// Its resource, or its part of it.
    Shut(No),
    /// Another guarded step is in a worker.
    Guarded,
    /// It has to be alone in a worker, and none is empty.
    NoEmptyWorker,
    /// A better band has steps that could go.
    BetterBand(i32),
    /// Others of its band have their turn first.
    FairnessTurn,
    /// Nothing but a place in a worker.
    NoFreeWorker,
}

impl Scheduler {
    /// Why the step is not in a worker; `None` when it is not ready.
    pub fn why(&mut self, flow: u32, step: u64) -> Option<Why> {
        let found = self.ready.get(flow, step)?;
        let (ready, band) = (found.ready.clone(), found.priority);
        let partition = self.control.partition(ready.resource, ready.partition.as_ref(), self.now_ms);
        if let Err(no) = self.control.check(ready.resource, partition, self.now_ms) {
            return Some(Why::Shut(no));
        }
        if ready.guarded && self.slots.has_guarded() {
            return Some(Why::Guarded);
        }
        let class = self.class_of(&ready);
        let head = self.ready.head(class, &mut self.control, self.now_ms);
        if let Some(best) = head.filter(|head| head.rank.order != ready.order) {
            let is_better = best.rank.priority < band;
            return Some(if is_better { Why::BetterBand(best.rank.priority) } else { Why::FairnessTurn });
        }
        if ready.alone && !self.slots.any_vacant() {
            return Some(Why::NoEmptyWorker);
        }
        Some(Why::NoFreeWorker)
    }

    /// Ready steps of a resource, oldest first, at most so many: `(flow, step)`.
    pub fn waiting(&self, resource: Option<u32>, limit: usize) -> Vec<(u32, u64)> {
        let is_asked = |found: u32| resource.is_none_or(|resource| resource == found);
        let steps = self.ready.steps.iter().filter(|step| is_asked(step.ready.resource));
        let mut found: Vec<_> =
            steps.map(|step| (step.priority, step.ready.order, step.ready.flow, step.ready.step)).collect();
        if found.len() > limit && limit > 0 {
            found.select_nth_unstable(limit - 1);
        }
        found.truncate(limit);
        found.sort_unstable();
        found.into_iter().map(|(_, _, flow, step)| (flow, step)).collect()
    }

    /// Ready steps that are kept back by their resource, or by their part of it: `(flow, step)`.
    pub fn shut(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let is_shut =
            |queue: u32| self.ready.queues.get(queue).is_some_and(|queue| queue.state != Where::Open);
        let steps = self.ready.steps.iter().filter(move |step| is_shut(step.queue));
        steps.map(|step| (step.ready.flow, step.ready.step))
    }

    /// How many ready steps lean on each resource, by its number.
    pub fn ready_by_resource(&self) -> Vec<(u32, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for step in self.ready.steps.iter() {
            *counts.entry(step.ready.resource).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }
}
