//! The workers' places: who holds what, and how much more each may be given.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::ready::Ready;

/// What an unmeasured step is taken to last: long, so that nothing is queued behind it.
const UNMEASURED_US: u64 = 1 << 32;
/// Measurements that count half each: the first run of a task often pays for its imports.
const EARLY_RUNS: u32 = 8;

/// How much a worker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOptions {
    /// Sync steps that a worker runs at a time.
    pub threads: u32,
    /// Async steps that a worker runs at a time.
    pub async_slots: u32,
    /// Estimated sync work in microseconds that a thread may have before it, running and queued.
    pub lookahead_us: u64,
    /// Sync steps that may be queued in a worker beyond its threads.
    pub max_lookahead: u32,
}

impl Default for SlotOptions {
    fn default() -> Self {
        Self { threads: 1, async_slots: 256, lookahead_us: 2_000, max_lookahead: 64 }
    }
}

/// Which kind of slot a task takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskKind {
    /// A thread of the worker.
    #[default]
    Sync,
    /// A place on the worker's event loop.
    Async,
}

/// A step that a worker held when it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Number of the dispatch that will have no result.
    pub dispatch: u64,
    /// Slot of the live flow.
    pub flow: u32,
    /// The step's number in its flow.
    pub step: u64,
    /// It was the only step in the worker.
    pub alone: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Task {
    kind: TaskKind,
    mean_us: f64,
    runs: u32,
}

impl Task {
    /// Moving mean of the run times; none before the first run.
    fn mean_us(self) -> Option<u64> {
        (self.runs > 0).then(|| (self.mean_us.ceil() as u64).clamp(1, UNMEASURED_US))
    }

    fn measure(&mut self, ran_us: u64) {
        let share = match self.runs {
            0 => 1.0,
            runs if runs < EARLY_RUNS => 0.5,
            _ => 0.125,
        };
        self.mean_us += (ran_us as f64 - self.mean_us) * share;
        self.runs = self.runs.saturating_add(1);
    }
}

/// A step that is in a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub flow: u32,
    pub step: u64,
    pub resource: u32,
    pub partition: u32,
    /// Its breaker let it through to see whether the resource is back.
    pub is_probe: bool,
    task: u32,
    kind: TaskKind,
    /// What `started` added to the worker's sum: the mean may have moved when it is taken off.
    estimate_us: u64,
    alone: bool,
    guarded: bool,
}

#[derive(Default, Debug)]
struct Worker {
    held: FxHashMap<u64, InFlight>,
    sync: u32,
    asynchronous: u32,
    sync_us: u64,
    has_alone: bool,
    is_draining: bool,
}

impl Worker {
    fn is_open(&self) -> bool {
        !self.is_draining && !self.has_alone
    }

    fn load(&self, kind: TaskKind) -> u32 {
        match kind {
            TaskKind::Sync => self.sync,
            TaskKind::Async => self.asynchronous,
        }
    }

    fn insert(&mut self, dispatch: u64, step: InFlight) {
        match step.kind {
            TaskKind::Sync => self.sync += 1,
            TaskKind::Async => self.asynchronous += 1,
        }
        self.sync_us += step.estimate_us;
        self.has_alone |= step.alone;
        self.held.insert(dispatch, step);
    }

    fn remove(&mut self, dispatch: u64) -> Option<InFlight> {
        let step = self.held.remove(&dispatch)?;
        match step.kind {
            TaskKind::Sync => self.sync -= 1,
            TaskKind::Async => self.asynchronous -= 1,
        }
        self.sync_us -= step.estimate_us;
        self.has_alone &= !step.alone;
        Some(step)
    }
}

/// All workers and what is known of the tasks' run times.
#[derive(Debug)]
pub(super) struct Slots {
    options: SlotOptions,
    tasks: Vec<Task>,
    workers: BTreeMap<u32, Worker>,
    running: usize,
    guarded: usize,
}

impl Slots {
    pub fn new(options: SlotOptions) -> Self {
        let options = SlotOptions {
            threads: options.threads.max(1),
            async_slots: options.async_slots.max(1),
            ..options
        };
        Self { options, tasks: Vec::new(), workers: BTreeMap::new(), running: 0, guarded: 0 }
    }

    pub fn set_kind(&mut self, task: u32, kind: TaskKind) {
        self.task_mut(task).kind = kind;
    }

    pub fn kind(&self, task: u32) -> TaskKind {
        self.task(task).kind
    }

    pub fn add_worker(&mut self, worker: u32) {
        self.workers.entry(worker).or_default();
    }

    pub fn drain_worker(&mut self, worker: u32) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.is_draining = true;
        }
    }

    pub fn has(&self, worker: u32) -> bool {
        self.workers.contains_key(&worker)
    }

    pub fn workers(&self) -> impl Iterator<Item = u32> + '_ {
        self.workers.keys().copied()
    }

    /// What the worker held, by dispatch.
    pub fn remove_worker(&mut self, worker: u32) -> Vec<(u64, InFlight)> {
        let Some(worker) = self.workers.remove(&worker) else { return Vec::new() };
        self.running -= worker.held.len();
        self.guarded -= worker.held.values().filter(|step| step.guarded).count();
        let mut held: Vec<_> = worker.held.into_iter().collect();
        held.sort_unstable_by_key(|(dispatch, _)| *dispatch);
        held
    }

    /// Takes the place of a dispatch; false when the worker is gone.
    pub fn start(
        &mut self,
        worker: u32,
        dispatch: u64,
        ready: &Ready,
        partition: u32,
        is_probe: bool,
    ) -> bool {
        let task = self.task(ready.task);
        let estimate_us = match task.kind {
            TaskKind::Sync => task.mean_us().unwrap_or(UNMEASURED_US),
            TaskKind::Async => 0,
        };
        let Some(worker) = self.workers.get_mut(&worker) else { return false };
        let Ready { flow, step, task: number, resource, alone, guarded, .. } = *ready;
        let kind = task.kind;
        worker.insert(
            dispatch,
            InFlight {
                flow,
                step,
                resource,
                partition,
                is_probe,
                task: number,
                kind,
                estimate_us,
                alone,
                guarded,
            },
        );
        self.running += 1;
        self.guarded += usize::from(guarded);
        true
    }

    /// Gives the place of a dispatch back; `ran_us` is none when it has not run to its end.
    pub fn finish(&mut self, worker: u32, dispatch: u64, ran_us: Option<u64>) -> Option<InFlight> {
        let step = self.workers.get_mut(&worker)?.remove(dispatch)?;
        self.running -= 1;
        self.guarded -= usize::from(step.guarded);
        if let Some(ran_us) = ran_us {
            self.task_mut(step.task).measure(ran_us);
        }
        Some(step)
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn has_guarded(&self) -> bool {
        self.guarded > 0
    }

    pub fn is_open(&self, worker: u32) -> bool {
        self.workers.get(&worker).is_some_and(Worker::is_open)
    }

    /// Whether the worker may be given steps and holds none.
    pub fn is_vacant(&self, worker: u32) -> bool {
        self.workers.get(&worker).is_some_and(|worker| worker.is_open() && worker.held.is_empty())
    }

    pub fn any_vacant(&self) -> bool {
        self.workers.keys().any(|worker| self.is_vacant(*worker))
    }

    pub fn is_alone(&self, worker: u32) -> bool {
        self.workers.get(&worker).is_some_and(|worker| worker.held.len() == 1)
    }

    /// Whether a step of the task could be put into the worker.
    pub fn has_slot(&self, worker: u32, task: u32) -> bool {
        self.workers.get(&worker).is_some_and(|worker| self.fits(worker, self.task(task)))
    }

    /// Whether the workers that hold fewer steps of the task's kind, the exempt ones left out, can take
    /// all of `ready` before this one is the least loaded.
    pub fn is_for_others(&self, worker: u32, task: u32, ready: usize, exempt: impl Fn(u32) -> bool) -> bool {
        let task = self.task(task);
        let Some(load) = self.workers.get(&worker).map(|worker| worker.load(task.kind)) else { return true };
        if load == 0 || ready > load as usize * self.workers.len() {
            return false;
        }
        let owed: usize = (self.workers.iter())
            .filter(|(_, other)| other.load(task.kind) < load && self.fits(other, task))
            .filter(|(other, _)| !exempt(**other))
            .map(|(_, other)| (load - other.load(task.kind)) as usize)
            .sum();
        owed >= ready
    }

    /// Whether the worker's sync work, the task's next step included, is expected to last at most `us`.
    pub fn is_within(&self, worker: u32, task: u32, us: u64) -> bool {
        let task = self.task(task);
        let (Some(worker), Some(mean_us)) = (self.workers.get(&worker), task.mean_us()) else { return false };
        task.kind == TaskKind::Sync && worker.sync_us + mean_us <= us
    }

    /// The open workers in which any step could find a place, least loaded first.
    pub fn with_room(&self) -> Vec<u32> {
        let mut workers: Vec<(u32, u32, u32)> = (self.workers.iter())
            .filter(|(_, worker)| self.has_room(worker))
            .map(|(id, worker)| (worker.sync, worker.asynchronous, *id))
            .collect();
        workers.sort_unstable();
        workers.into_iter().map(|(_, _, id)| id).collect()
    }

    /// The open worker that should be empty first.
    pub fn least_loaded(&self) -> Option<u32> {
        (self.workers.iter())
            .filter(|(_, worker)| worker.is_open())
            .min_by_key(|(_, worker)| (worker.held.len(), worker.sync_us))
            .map(|(id, _)| *id)
    }

    fn has_room(&self, worker: &Worker) -> bool {
        let SlotOptions { threads, async_slots, .. } = self.options;
        let can_queue =
            || worker.sync - threads < self.options.max_lookahead && worker.sync_us < self.budget_us();
        worker.is_open() && (worker.asynchronous < async_slots || worker.sync < threads || can_queue())
    }

    fn fits(&self, worker: &Worker, task: Task) -> bool {
        worker.is_open()
            && match task.kind {
                TaskKind::Sync => worker.sync < self.options.threads || self.may_queue(worker, task),
                TaskKind::Async => worker.asynchronous < self.options.async_slots,
            }
    }

    /// Whether a step may wait in the worker for a thread: only a measured one, and not for long.
    fn may_queue(&self, worker: &Worker, task: Task) -> bool {
        worker.sync - self.options.threads < self.options.max_lookahead
            && task.mean_us().is_some_and(|mean_us| worker.sync_us + mean_us <= self.budget_us())
    }

    fn budget_us(&self) -> u64 {
        self.options.lookahead_us.saturating_mul(u64::from(self.options.threads))
    }

    fn task(&self, task: u32) -> Task {
        self.tasks.get(task as usize).copied().unwrap_or_default()
    }

    fn task_mut(&mut self, task: u32) -> &mut Task {
        let index = task as usize;
        if index >= self.tasks.len() {
            self.tasks.resize_with(index + 1, Task::default);
        }
        &mut self.tasks[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_control::WHOLE;

    fn measured(runs: &[u64]) -> Task {
        let mut task = Task::default();
        for ran_us in runs {
            task.measure(*ran_us);
        }
        task
    }

    #[test]
    fn the_first_measurement_counts_whole_and_the_early_ones_half() {
        assert_eq!(measured(&[]).mean_us(), None);
        assert_eq!(measured(&[0]).mean_us(), Some(1));
        assert_eq!(measured(&[50_000]).mean_us(), Some(50_000));
        assert_eq!(measured(&[50_000, 10]).mean_us(), Some(25_005));
        assert!(measured(&[50_000, 10, 10, 10, 10, 10, 10, 10]).mean_us() < Some(500));
    }

    #[test]
    fn a_place_is_given_back_once() {
        let mut slots = Slots::new(SlotOptions::default());
        slots.add_worker(1);
        let ready = Ready {
            flow: 3,
            step: 4,
            task: 0,
            resource: 0,
            partition: None,
            priority: 0,
            fairness_key: "".into(),
            weight: 1.0,
            order: 0,
            ready_at: 0,
            alone: true,
            guarded: true,
        };
        assert!(!slots.start(9, 1, &ready, WHOLE, false));
        assert!(slots.start(1, 1, &ready, WHOLE, false));
        assert!(slots.is_alone(1) && slots.has_guarded() && !slots.is_open(1));
        assert!(slots.finish(1, 1, Some(10)).is_some());
        assert!(slots.finish(1, 1, Some(10)).is_none());
        assert_eq!((slots.running(), slots.has_guarded(), slots.is_vacant(1)), (0, false, true));
    }
}
