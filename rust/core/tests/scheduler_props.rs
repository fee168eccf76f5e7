//! The scheduler against a naive model: lists that are searched from end to end.

use std::collections::{BTreeMap, BTreeSet};

use penstock_core::scheduler::{Held, Ready, Scheduler, SlotOptions, TaskKind};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const OPTIONS: SlotOptions =
    SlotOptions { threads: 2, async_slots: 3, lookahead_us: 2_000, max_lookahead: 4 };

/// Tasks 0 to 2 are sync, 3 and 4 async.
const TASKS: u32 = 5;

fn is_async(ready: &Ready) -> bool {
    ready.task >= 3
}

fn rank(ready: &Ready) -> (i32, u64) {
    (ready.priority, ready.order)
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Offer { task: u32, priority: i32, alone: bool, guarded: bool },
    Withdraw(usize),
    Next(usize),
    Pump,
    Finish(usize, u64),
    Forget(usize),
    AddWorker,
    Drain(usize),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let ran_us = prop_oneof![4 => 1..400u64, 1 => 1_000..100_000u64];
    let offer =
        (0..TASKS, -1..2i32, prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(task, priority, alone, guarded, both)| Op::Offer {
                task,
                priority,
                alone: alone || both,
                guarded: guarded || both,
            });
    prop_oneof![
        20 => offer,
        2 => any::<usize>().prop_map(Op::Withdraw),
        4 => any::<usize>().prop_map(Op::Next),
        4 => Just(Op::Pump),
        10 => (any::<usize>(), ran_us).prop_map(|(index, ran_us)| Op::Finish(index, ran_us)),
        1 => any::<usize>().prop_map(Op::Forget),
        1 => Just(Op::AddWorker),
        1 => any::<usize>().prop_map(Op::Drain),
        1 => any::<usize>().prop_map(Op::Remove),
    ]
}

type Checked = Result<(), TestCaseError>;

/// The scheduler and, beside it, everything it should know.
struct Sim {
    scheduler: Scheduler,
    ready: Vec<Ready>,
    running: BTreeMap<u64, (u32, Ready)>,
    /// Whether each worker is open.
    workers: BTreeMap<u32, bool>,
    measured: BTreeSet<u32>,
    tickets: u64,
    ended: usize,
}

impl Sim {
    fn new(workers: u32) -> Self {
        let mut scheduler = Scheduler::new(OPTIONS);
        (3..TASKS).for_each(|task| scheduler.set_task(task, TaskKind::Async));
        let mut sim = Self {
            scheduler,
            ready: Vec::new(),
            running: BTreeMap::new(),
            workers: BTreeMap::new(),
            measured: BTreeSet::new(),
            tickets: 0,
            ended: 0,
        };
        (0..workers).for_each(|_| sim.add_worker());
        sim
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn add_worker(&mut self) {
        let worker = self.ticket() as u32;
        self.workers.insert(worker, true);
        self.scheduler.add_worker(worker);
    }

    fn offer(&mut self, ready: Ready) {
        self.ready.push(ready.clone());
        self.scheduler.offer(ready);
    }

    fn create(&mut self, task: u32, priority: i32, alone: bool, guarded: bool) {
        let order = self.ticket();
        let (flow, step) = ((order % 7) as u32, order);
        self.offer(Ready {
            flow,
            step,
            task,
            resource: 0,
            partition: None,
            priority,
            fairness_key: "".into(),
            weight: 1.0,
            order,
            ready_at: 0,
            alone,
            guarded,
        });
    }

    fn held(&self, worker: u32) -> Vec<&Ready> {
        self.running.values().filter(|(holder, _)| *holder == worker).map(|(_, ready)| ready).collect()
    }

    fn load(&self, worker: u32, of_async: bool) -> usize {
        self.held(worker).into_iter().filter(|held| is_async(held) == of_async).count()
    }

    fn is_open(&self, worker: u32) -> bool {
        self.workers[&worker] && !self.held(worker).iter().any(|held| held.alone)
    }

    /// Whether the step could go to the worker without waiting for a thread there.
    fn has_place(&self, worker: u32, ready: &Ready) -> bool {
        let limit = if is_async(ready) { OPTIONS.async_slots } else { OPTIONS.threads } as usize;
        let is_shut = ready.guarded && self.running.values().any(|(_, running)| running.guarded);
        let has_slot = if ready.alone {
            self.held(worker).is_empty()
        } else {
            self.load(worker, is_async(ready)) < limit
        };
        self.is_open(worker) && has_slot && !is_shut
    }

    fn check_place(&self, worker: u32, ready: &Ready) -> Checked {
        if self.has_place(worker, ready) {
            return Ok(());
        }
        let queue = (OPTIONS.threads + OPTIONS.max_lookahead) as usize;
        let is_lookahead = !ready.alone && !is_async(ready) && self.load(worker, false) < queue;
        prop_assert!(is_lookahead && self.is_open(worker), "{ready:?} has no place in {worker}");
        prop_assert!(self.measured.contains(&ready.task), "an unmeasured step is queued: {ready:?}");
        let shut = ready.guarded && self.running.values().any(|(_, running)| running.guarded);
        prop_assert!(!shut, "two guarded steps");
        Ok(())
    }

    /// Nothing that could have gone to this worker instead stands before the step.
    fn check_order(&self, worker: u32, ready: &Ready) -> Checked {
        for other in self.ready.iter().filter(|other| rank(other) < rank(ready)) {
            let is_same_class = other.alone == ready.alone
                && other.guarded == ready.guarded
                && (other.alone || is_async(other) == is_async(ready));
            prop_assert!(!is_same_class, "{other:?} stands before {ready:?}");
            let is_spread = self.workers.len() > 1 && self.load(worker, is_async(other)) > 0;
            prop_assert!(is_spread || !self.has_place(worker, other), "{other:?} could go before {ready:?}");
        }
        Ok(())
    }

    fn next(&mut self, worker: u32) -> Result<bool, TestCaseError> {
        let Some(ready) = self.scheduler.next(worker) else { return Ok(false) };
        let at = self.ready.iter().position(|known| *known == ready);
        prop_assert!(at.is_some(), "{ready:?} is not ready");
        self.ready.swap_remove(at.unwrap_or_default());
        self.check_place(worker, &ready)?;
        self.check_order(worker, &ready)?;
        let dispatch = self.ticket();
        prop_assert!(self.scheduler.started(worker, dispatch, &ready));
        self.running.insert(dispatch, (worker, ready));
        Ok(true)
    }

    fn pump(&mut self) -> Checked {
        loop {
            let mut is_done = true;
            for worker in self.scheduler.workers_with_room() {
                while self.next(worker)? {
                    is_done = false;
                }
            }
            if is_done {
                return self.check_nothing_waits_in_vain();
            }
        }
    }

    /// Only a worker that is kept for an alone step may have a place for a ready step.
    fn check_nothing_waits_in_vain(&self) -> Checked {
        let waits = |worker: u32| self.ready.iter().find(|ready| self.has_place(worker, ready));
        let idle: Vec<_> =
            self.workers.keys().filter_map(|worker| Some((*worker, waits(*worker)?))).collect();
        let kept = usize::from(self.ready.iter().any(|ready| ready.alone));
        prop_assert!(idle.len() <= kept, "could go: {idle:?}");
        for (worker, _) in idle {
            prop_assert!(!self.held(worker).is_empty(), "{worker} is empty and is given nothing");
        }
        Ok(())
    }

    fn finish(&mut self, dispatch: u64, ran_us: u64) -> Checked {
        let Some((worker, ready)) = self.running.remove(&dispatch) else { return Ok(()) };
        prop_assert!(self.scheduler.finished(worker, dispatch, ran_us));
        prop_assert!(!self.scheduler.finished(worker, dispatch, ran_us));
        self.measured.insert(ready.task);
        self.ended += 1;
        Ok(())
    }

    fn forget(&mut self, dispatch: u64) -> Checked {
        let Some((worker, ready)) = self.running.remove(&dispatch) else { return Ok(()) };
        prop_assert!(self.scheduler.forget(worker, dispatch));
        self.offer(ready);
        Ok(())
    }

    /// A worker goes; what it held is offered again, and alone if it was lost alone.
    fn remove(&mut self, worker: u32) -> Checked {
        let held = self.scheduler.remove_worker(worker);
        let alone = self.held(worker).len() == 1;
        let expected: Vec<Held> = (self.running.iter())
            .filter(|(_, (holder, _))| *holder == worker)
            .map(|(dispatch, (_, ready))| Held {
                dispatch: *dispatch,
                flow: ready.flow,
                step: ready.step,
                alone,
            })
            .collect();
        prop_assert_eq!(&held, &expected);
        self.workers.remove(&worker);
        for lost in held {
            let Some((_, mut ready)) = self.running.remove(&lost.dispatch) else { continue };
            ready.alone |= lost.alone;
            self.offer(ready);
        }
        Ok(())
    }

    fn withdraw(&mut self, index: usize) -> Checked {
        if self.ready.is_empty() {
            return Ok(());
        }
        let ready = self.ready.swap_remove(index % self.ready.len());
        prop_assert!(self.scheduler.withdraw(ready.flow, ready.step));
        prop_assert!(!self.scheduler.withdraw(ready.flow, ready.step));
        self.ended += 1;
        Ok(())
    }

    fn pick_worker(&self, index: usize) -> Option<u32> {
        self.workers.keys().nth(index.checked_rem(self.workers.len())?).copied()
    }

    fn pick_running(&self, index: usize) -> u64 {
        index.checked_rem(self.running.len()).and_then(|at| self.running.keys().nth(at).copied()).unwrap_or(0)
    }

    fn apply(&mut self, op: Op) -> Checked {
        match op {
            Op::Offer { task, priority, alone, guarded } => self.create(task, priority, alone, guarded),
            Op::Withdraw(index) => self.withdraw(index)?,
            Op::Next(index) => {
                if let Some(worker) = self.pick_worker(index) {
                    self.next(worker)?;
                }
            }
            Op::Pump => self.pump()?,
            Op::Finish(index, ran_us) => self.finish(self.pick_running(index), ran_us)?,
            Op::Forget(index) => self.forget(self.pick_running(index))?,
            Op::AddWorker => self.add_worker(),
            Op::Drain(index) => {
                if let Some(worker) = self.pick_worker(index) {
                    self.workers.insert(worker, false);
                    self.scheduler.drain_worker(worker);
                }
            }
            Op::Remove(index) => {
                if let Some(worker) = self.pick_worker(index) {
                    self.remove(worker)?;
                }
            }
        }
        let lengths = (self.scheduler.ready_len(), self.scheduler.running_len());
        prop_assert_eq!(lengths, (self.ready.len(), self.running.len()));
        for worker in self.workers.keys() {
            prop_assert_eq!(self.scheduler.is_alone(*worker), self.held(*worker).len() == 1);
        }
        Ok(())
    }

    /// Finishes the oldest step, one at a time, until nothing is left.
    fn run_dry(&mut self) -> Checked {
        if !self.workers.values().any(|is_open| *is_open) {
            self.add_worker();
        }
        self.pump()?;
        while let Some(dispatch) = self.running.keys().next().copied() {
            self.finish(dispatch, 50)?;
            self.pump()?;
        }
        prop_assert!(self.ready.is_empty(), "never dispatched: {:?}", self.ready);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_step_goes_once_in_its_turn_to_a_worker_that_may_have_it(
        workers in 0..4u32,
        ops in prop::collection::vec(op(), 0..250),
    ) {
        let mut sim = Sim::new(workers);
        let offered = ops.iter().filter(|op| matches!(op, Op::Offer { .. })).count();
        for op in ops {
            sim.apply(op)?;
        }
        sim.run_dry()?;
        prop_assert_eq!(sim.ended, offered);
    }

    #[test]
    fn an_alone_step_gets_its_turn_under_steady_load(
        workers in 1..4u32,
        tasks in prop::collection::vec((0..TASKS, 0..3usize), 150),
        guarded in any::<bool>(),
    ) {
        let mut sim = Sim::new(workers);
        (0..20).for_each(|task| sim.create(task % TASKS, 0, false, false));
        sim.pump()?;
        sim.create(0, 0, true, guarded);
        let step = sim.tickets;
        for (task, oldest) in tasks {
            sim.create(task, 0, false, false);
            sim.pump()?;
            if sim.running.values().any(|(_, ready)| ready.step == step) {
                return Ok(());
            }
            sim.finish(sim.pick_running(oldest), 20)?;
        }
        prop_assert!(false, "the alone step has starved");
    }
}
