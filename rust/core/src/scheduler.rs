//! Which ready step goes to which worker, and when: the facade over the queues, the slots and what resources bear.
//!
//! Strict bands by priority; inside a band every fairness key gets its share; first in first out inside a key. A step
//! that cannot go now (its slot is taken, it needs an empty worker, another guarded one runs, its resource is shut)
//! never blocks one that can.

mod ageing;
mod fairness;
mod line;
mod parked;
mod plan;
mod ready;
mod slab;
mod slots;
mod timers;
mod why;

pub use plan::{ClaimPlan, KeyTally, Planner, Tally, MAX_KEYS};
pub use ready::{Ready, TICKET_BITS};
pub use slots::{Held, SlotOptions, TaskKind};
pub use timers::Timers;
pub use why::Why;

use crate::flow_control::{Ended, FlowControl, Limit};
use ready::{Class, Demand, Head, Rank, ReadySteps};
use slots::{InFlight, Slots};

/// What waking another worker costs, about: so much work is not worth spreading.
const WAKE_US: u64 = 100;

/// Ready steps on one side, workers on the other, and between them what their resources bear.
#[derive(Debug)]
pub struct Scheduler {
    ready: ReadySteps,
    slots: Slots,
    control: FlowControl,
    /// The instant of the last `wake`.
    now_ms: i64,
    /// The worker that is being emptied for the first alone step; set and cleared by `choose`.
    reserved: Option<u32>,
    ageing: ageing::Ageing,
}

type Heads = [Option<Head>; Class::COUNT];

impl Scheduler {
    /// No step and no worker.
    pub fn new(options: SlotOptions) -> Self {
        Self {
            ready: ReadySteps::default(),
            slots: Slots::new(options),
            control: FlowControl::default(),
            now_ms: 0,
            reserved: None,
            ageing: ageing::Ageing::default(),
        }
    }

    /// Forgets steps and workers; what is known of resources stays.
    pub fn start_anew(&mut self, options: SlotOptions) {
        let workers: Vec<u32> = self.slots.workers().collect();
        for worker in workers {
            self.remove_worker(worker);
        }
        self.slots = Slots::new(options);
        self.ready = ReadySteps::default();
        self.control.refer_none();
        self.reserved = None;
    }

    /// It is `now_ms`, for all that follows. What opens by time is looked at again.
    pub fn wake(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.ready.open_due(&mut self.control, self.now_ms);
        self.age();
    }

    /// When something that is shut may open by time alone.
    pub fn next_wake(&self) -> Option<i64> {
        self.ready.gates.next().map(u64::cast_signed)
    }

    /// Says which slots a task takes: sync if never said. Steps already offered keep their queue.
    pub fn set_task(&mut self, task: u32, kind: TaskKind) {
        self.slots.set_kind(task, kind);
    }

    /// Which slots a task takes.
    pub fn kind(&self, task: u32) -> TaskKind {
        self.slots.kind(task)
    }

    /// Makes a step ready; one that is ready already is replaced.
    pub fn offer(&mut self, ready: Ready) {
        let class = self.class_of(&ready);
        self.ready.add(ready, class, &mut self.control, self.now_ms);
    }

    /// Takes a ready step back; false when it is not ready (never offered, or handed out).
    pub fn withdraw(&mut self, flow: u32, step: u64) -> bool {
        self.ready.withdraw(flow, step, &mut self.control)
    }

    /// A worker that may be given steps.
    pub fn add_worker(&mut self, worker: u32) {
        self.slots.add_worker(worker);
    }

    /// The worker is given no more; what it holds may finish.
    pub fn drain_worker(&mut self, worker: u32) {
        self.slots.drain_worker(worker);
    }

    /// The worker is gone: what it held, by dispatch.
    pub fn remove_worker(&mut self, worker: u32) -> Vec<Held> {
        let held = self.slots.remove_worker(worker);
        for (_, step) in &held {
            self.end(step, Ended::Otherwise);
        }
        let alone = held.len() == 1;
        let held = held.iter().map(|(dispatch, step)| Held {
            dispatch: *dispatch,
            flow: step.flow,
            step: step.step,
            alone,
        });
        held.collect()
    }

    /// The best step that the worker may be given now. Call `started` with it before the next `next`.
    ///
    /// None also when less loaded workers can take all that fits: ask every worker of
    /// `workers_with_room`, in turn, until a whole round yields nothing.
    pub fn next(&mut self, worker: u32) -> Option<Ready> {
        let head = self.choose(worker)?;
        if head.class.demand == Demand::EmptyWorker {
            self.reserved = None;
        }
        self.ready.pop(&head, &mut self.control)
    }

    /// Workers that could be given something, least loaded first.
    pub fn workers_with_room(&self) -> Vec<u32> {
        self.slots.with_room()
    }

    /// The step takes its place in the worker under a dispatch number; false when the worker is gone.
    pub fn started(&mut self, worker: u32, dispatch: u64, ready: &Ready) -> bool {
        if !self.slots.has(worker) {
            return false;
        }
        let resource = ready.resource;
        let partition = self.control.partition(resource, ready.partition.as_ref(), self.now_ms);
        let is_probe = self.control.started(resource, partition, self.now_ms);
        self.ready.open_resource(resource, &mut self.control, self.now_ms);
        self.slots.start(worker, dispatch, ready, partition, is_probe)
    }

    /// The dispatch gives its place back after `ran_us`; false when the worker does not hold it.
    pub fn finished(&mut self, worker: u32, dispatch: u64, ran_us: u64) -> bool {
        self.ended(worker, dispatch, ran_us, Ended::Well)
    }

    /// The dispatch gives its place back after `ran_us`, and says how its resource is.
    pub fn ended(&mut self, worker: u32, dispatch: u64, ran_us: u64, how: Ended<'_>) -> bool {
        // How long a no takes says nothing about how long a step runs.
        let is_bounce = matches!(how, Ended::RateLimited | Ended::Unavailable(_));
        let Some(step) = self.slots.finish(worker, dispatch, (!is_bounce).then_some(ran_us)) else {
            return false;
        };
        self.end(&step, how);
        true
    }

    /// The dispatch gives its place back without a measured run: its result will never come.
    pub fn forget(&mut self, worker: u32, dispatch: u64) -> bool {
        let Some(step) = self.slots.finish(worker, dispatch, None) else { return false };
        self.end(&step, Ended::Otherwise);
        true
    }

    fn end(&mut self, step: &InFlight, how: Ended<'_>) {
        let (resource, partition) = (step.resource, step.partition);
        if self.control.ended(resource, partition, step.is_probe, how, self.now_ms) {
            self.ready.open_resource(resource, &mut self.control, self.now_ms);
            self.ready.open_partition(partition, &mut self.control, self.now_ms);
        }
    }

    /// Whether the worker holds exactly one step.
    pub fn is_alone(&self, worker: u32) -> bool {
        self.slots.is_alone(worker)
    }

    /// How many steps are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many ready steps are not known to be kept back by their resource.
    pub fn open_len(&self) -> usize {
        self.ready.open.iter().sum()
    }

    /// How many steps are in the workers.
    pub fn running_len(&self) -> usize {
        self.slots.running()
    }

    /// What resources bear, to be looked at.
    pub fn control(&self) -> &FlowControl {
        &self.control
    }

    /// What resources bear, to be told of other replicas. Call `reopen` after.
    pub fn control_mut(&mut self) -> &mut FlowControl {
        &mut self.control
    }

    /// Bounds a resource, and each of its partitions; what is ready obeys at once.
    pub fn set_limits(&mut self, resource: u32, total: Limit, each: Limit) {
        if self.control.set_limits(resource, total, each, self.now_ms) {
            let steps = self.ready.steps.iter().filter(|step| step.ready.resource == resource);
            let steps: Vec<(Ready, i32)> = steps.map(|step| (step.ready.clone(), step.priority)).collect();
            for (ready, priority) in steps {
                let class = self.class_of(&ready);
                self.ready.add_to_band(ready, priority, class, &mut self.control, self.now_ms);
            }
        }
        self.reopen(resource);
    }

    /// Something about the resource was changed from outside: what waits for it is looked at again.
    pub fn reopen(&mut self, resource: u32) {
        self.ready.open_resource(resource, &mut self.control, self.now_ms);
        for partition in self.ready.shut_partitions() {
            self.ready.open_partition(partition, &mut self.control, self.now_ms);
        }
    }

    fn class_of(&self, ready: &Ready) -> Class {
        Class::of(ready, self.slots.kind(ready.task))
    }

    fn choose(&mut self, worker: u32) -> Option<Head> {
        if self.ready.len() == 0 || !self.slots.is_open(worker) {
            return None;
        }
        let heads = self.heads();
        let alone = first_alone(&heads);
        self.reserve(&heads, alone);
        (heads.iter().flatten())
            .filter(|head| self.may_go(worker, head, alone))
            .min_by_key(|head| head.rank)
            .copied()
    }

    /// The first step of each class, without the guarded ones while one is in a worker.
    fn heads(&mut self) -> Heads {
        let is_shut = self.slots.has_guarded();
        Class::ALL.map(|class| {
            if class.guarded && is_shut {
                None
            } else {
                self.ready.head(class, &mut self.control, self.now_ms)
            }
        })
    }

    /// Under load no worker is ever empty by itself. So when an alone step is the best of all and finds
    /// none, the least loaded worker is kept from taking anything worse until it is empty.
    fn reserve(&mut self, heads: &Heads, alone: Option<Rank>) {
        let Some(alone) = alone else {
            self.reserved = None;
            return;
        };
        if self.reserved.is_some_and(|worker| self.slots.is_open(worker)) {
            return;
        }
        let is_best = heads.iter().flatten().all(|head| alone <= head.rank);
        self.reserved = if is_best && !self.slots.any_vacant() { self.slots.least_loaded() } else { None };
    }

    fn may_go(&self, worker: u32, head: &Head, alone: Option<Rank>) -> bool {
        if head.class.demand == Demand::EmptyWorker {
            return self.slots.is_vacant(worker);
        }
        let is_kept = self.is_kept_for(worker, alone, head.rank);
        self.slots.has_slot(worker, head.task) && !is_kept && !self.is_for_others(worker, head, alone)
    }

    /// Whether the worker is reserved for a step that goes before `rank`.
    fn is_kept_for(&self, worker: u32, alone: Option<Rank>, rank: Rank) -> bool {
        self.reserved == Some(worker) && alone.is_some_and(|alone| alone < rank)
    }

    /// Whether less loaded workers can take the head and all that stands behind it.
    fn is_for_others(&self, worker: u32, head: &Head, alone: Option<Rank>) -> bool {
        if head.class.guarded || self.slots.is_within(worker, head.task, WAKE_US) {
            return false;
        }
        let is_after_alone = alone.is_some_and(|alone| alone < head.rank);
        // An empty worker that the alone step takes first does not take this one.
        let is_exempt =
            |other| is_after_alone && (self.reserved == Some(other) || self.slots.is_vacant(other));
        self.slots.is_for_others(worker, head.task, self.ready.len_of(head.class), is_exempt)
    }
}

fn first_alone(heads: &Heads) -> Option<Rank> {
    let needs_empty = |head: &&Head| head.class.demand == Demand::EmptyWorker;
    heads.iter().flatten().filter(needs_empty).map(|head| head.rank).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: u32 = 0;
    const ASYNC: u32 = 1;

    fn scheduler(workers: u32, options: SlotOptions) -> Scheduler {
        let mut scheduler = Scheduler::new(options);
        scheduler.set_task(ASYNC, TaskKind::Async);
        (1..=workers).for_each(|worker| scheduler.add_worker(worker));
        scheduler
    }

    fn step(order: u64, task: u32) -> Ready {
        Ready {
            flow: 0,
            step: order,
            task,
            resource: 0,
            partition: None,
            priority: 0,
            fairness_key: "".into(),
            weight: 1.0,
            order,
            ready_at: 0,
            alone: false,
            guarded: false,
        }
    }

    fn alone(order: u64) -> Ready {
        Ready { alone: true, ..step(order, SYNC) }
    }

    /// Gives the worker all that it gets; the dispatch is the step's number.
    fn fill(scheduler: &mut Scheduler, worker: u32) -> Vec<u64> {
        let mut steps = Vec::new();
        while let Some(ready) = scheduler.next(worker) {
            scheduler.started(worker, ready.step, &ready);
            steps.push(ready.step);
        }
        steps
    }

    /// Lets one step of the task run in worker 1, so that its run time is known.
    fn measure(scheduler: &mut Scheduler, ran_us: u64) {
        scheduler.started(1, u64::MAX, &step(u64::MAX, SYNC));
        scheduler.finished(1, u64::MAX, ran_us);
    }

    #[test]
    fn an_unmeasured_task_waits_for_a_thread() {
        let mut scheduler = scheduler(1, SlotOptions { threads: 2, ..SlotOptions::default() });
        (1..=5).for_each(|order| scheduler.offer(step(order, SYNC)));
        assert_eq!(fill(&mut scheduler, 1), [1, 2]);
        assert!(scheduler.finished(1, 1, 1_000_000));
        assert_eq!(fill(&mut scheduler, 1), [3]);
    }

    #[test]
    fn short_steps_are_queued_up_to_the_budget_and_to_the_count() {
        let mut scheduler = scheduler(1, SlotOptions { max_lookahead: 6, ..SlotOptions::default() });
        (1..=50).for_each(|order| scheduler.offer(step(order, SYNC)));
        measure(&mut scheduler, 500);
        assert_eq!(fill(&mut scheduler, 1), [1, 2, 3, 4]);
        for dispatch in 1..=4 {
            scheduler.finished(1, dispatch, 1);
        }
        assert_eq!(fill(&mut scheduler, 1), [5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn nothing_is_queued_behind_a_long_step() {
        let mut scheduler = scheduler(1, SlotOptions::default());
        scheduler.set_task(2, TaskKind::Sync);
        measure(&mut scheduler, 10);
        scheduler.offer(step(1, 2));
        scheduler.offer(step(2, SYNC));
        assert_eq!(fill(&mut scheduler, 1), [1]);
        assert!(scheduler.forget(1, 1));
        assert_eq!(fill(&mut scheduler, 1), [2]);
    }

    #[test]
    fn what_cannot_go_does_not_block_what_can() {
        let mut scheduler = scheduler(1, SlotOptions { async_slots: 1, ..SlotOptions::default() });
        scheduler.offer(step(1, ASYNC));
        scheduler.offer(step(2, ASYNC));
        scheduler.offer(step(3, SYNC));
        scheduler.offer(Ready { priority: 9, ..step(4, SYNC) });
        assert_eq!(fill(&mut scheduler, 1), [1, 3]);
        scheduler.finished(1, 3, 1);
        assert_eq!(fill(&mut scheduler, 1), [4]);
    }

    #[test]
    fn steps_are_spread_over_the_least_loaded_workers() {
        let mut scheduler = scheduler(3, SlotOptions::default());
        (1..=7).for_each(|order| scheduler.offer(step(order, ASYNC)));
        let shares: Vec<usize> = [1, 2, 3].map(|worker| fill(&mut scheduler, worker).len()).into();
        assert_eq!(shares, [3, 2, 2]);
        assert_eq!(scheduler.workers_with_room(), [2, 3, 1]);
        scheduler.offer(step(8, ASYNC));
        assert_eq!(scheduler.next(1), None);
        assert_eq!(fill(&mut scheduler, 2), [8]);
    }

    #[test]
    fn a_handful_of_short_steps_is_not_worth_waking_a_second_worker() {
        let mut scheduler = scheduler(2, SlotOptions::default());
        measure(&mut scheduler, 10);
        (1..=8).for_each(|order| scheduler.offer(step(order, SYNC)));
        assert_eq!(fill(&mut scheduler, 1).len(), 8);
        measure(&mut scheduler, 10_000);
        scheduler.offer(step(9, SYNC));
        assert_eq!(scheduler.next(1), None);
        assert_eq!(fill(&mut scheduler, 2), [9]);
    }

    #[test]
    fn an_alone_step_empties_the_only_worker_and_has_it_for_itself() {
        let mut scheduler = scheduler(1, SlotOptions { threads: 2, ..SlotOptions::default() });
        scheduler.offer(step(1, SYNC));
        scheduler.offer(step(2, ASYNC));
        assert_eq!(fill(&mut scheduler, 1), [1, 2]);
        scheduler.offer(alone(3));
        scheduler.offer(step(4, SYNC));
        assert_eq!(scheduler.next(1), None);
        scheduler.finished(1, 1, 1);
        assert_eq!(scheduler.next(1), None);
        scheduler.finished(1, 2, 1);
        assert_eq!(fill(&mut scheduler, 1), [3]);
        assert!(scheduler.is_alone(1) && scheduler.workers_with_room().is_empty());
        scheduler.finished(1, 3, 1);
        assert_eq!(fill(&mut scheduler, 1), [4]);
    }

    #[test]
    fn a_better_band_still_goes_to_the_reserved_worker() {
        let mut scheduler = scheduler(1, SlotOptions { threads: 2, ..SlotOptions::default() });
        scheduler.offer(step(1, SYNC));
        assert_eq!(fill(&mut scheduler, 1), [1]);
        scheduler.offer(alone(2));
        scheduler.offer(step(3, SYNC));
        assert_eq!(scheduler.next(1), None);
        scheduler.offer(Ready { priority: -1, ..step(4, SYNC) });
        assert_eq!(fill(&mut scheduler, 1), [4]);
        scheduler.withdraw(0, 2);
        scheduler.finished(1, 4, 1_000_000);
        assert_eq!(fill(&mut scheduler, 1), [3]);
    }

    #[test]
    fn another_worker_is_reserved_when_the_reserved_one_goes() {
        let mut scheduler = scheduler(2, SlotOptions::default());
        (1..=3).for_each(|order| scheduler.offer(step(order, ASYNC)));
        assert_eq!((fill(&mut scheduler, 1), fill(&mut scheduler, 2)), (vec![1, 2], vec![3]));
        scheduler.offer(alone(4));
        (5..=9).for_each(|order| scheduler.offer(step(order, ASYNC)));
        assert_eq!((fill(&mut scheduler, 2), fill(&mut scheduler, 1)), (vec![], vec![5, 6, 7, 8, 9]));
        scheduler.drain_worker(2);
        scheduler.offer(step(10, ASYNC));
        assert!(fill(&mut scheduler, 1).is_empty());
        for dispatch in [1, 2, 5, 6, 7, 8, 9] {
            scheduler.finished(1, dispatch, 1);
        }
        assert_eq!(fill(&mut scheduler, 1), [4]);
    }

    #[test]
    fn one_guarded_step_runs_at_a_time_and_a_lost_one_frees_the_guard() {
        let mut scheduler = scheduler(2, SlotOptions::default());
        (1..=2).for_each(|order| scheduler.offer(Ready { guarded: true, ..alone(order) }));
        assert_eq!((fill(&mut scheduler, 1), fill(&mut scheduler, 2)), (vec![1], vec![]));
        assert_eq!(scheduler.remove_worker(1), [Held { dispatch: 1, flow: 0, step: 1, alone: true }]);
        assert_eq!(fill(&mut scheduler, 2), [2]);
    }

    #[test]
    fn a_draining_worker_gets_no_more_and_gives_back_what_it_has() {
        let mut scheduler = scheduler(1, SlotOptions::default());
        scheduler.offer(step(1, SYNC));
        assert_eq!(fill(&mut scheduler, 1), [1]);
        scheduler.drain_worker(1);
        scheduler.offer(step(2, ASYNC));
        assert_eq!(scheduler.next(1), None);
        assert!(scheduler.finished(1, 1, 5));
        assert_eq!((scheduler.running_len(), scheduler.ready_len()), (0, 1));
        assert!(!scheduler.finished(1, 1, 5));
    }
}
