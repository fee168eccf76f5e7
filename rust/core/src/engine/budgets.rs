//! Time budgets: an attempt that outlasts its own is told so, and after a grace its place is given up.
//!
//! A budget counts from the attempt's start. Workers run sync steps in the order in which they were sent, so many at a
//! time, and say when one ends; so the start of the next is known here without being told. What a worker was told to
//! drop keeps its budget: until it has answered it holds a thread all the same.
//!
//! Budgets go by a clock of their own, which nobody sets: a task has run no longer because the shard's clock was put
//! right, or moved by a test.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{Engine, Ran, Running};
use crate::flow::{TaskError, TaskResult};
use crate::scheduler::TaskKind;

/// No attempt has a clock that runs.
const NEVER: i64 = i64::MAX;

/// An attempt that a worker holds.
#[derive(Clone, Copy, Debug)]
struct Clock {
    budget_ms: i64,
    /// When something is next to be done about it; `NEVER` before its start.
    due: i64,
    is_warned: bool,
}

/// The clocks of one worker.
#[derive(Debug)]
pub(crate) struct Clocks {
    held: FxHashMap<u64, Clock>,
    /// Sync steps that have not ended, as they were sent.
    queue: VecDeque<u64>,
    /// How many of them, from the front, have started.
    started: usize,
    /// No clock is due before.
    due: i64,
    /// Some attempt outlasted its grace, so the worker is ended from outside.
    is_condemned: bool,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            held: FxHashMap::default(),
            queue: VecDeque::new(),
            started: 0,
            due: NEVER,
            is_condemned: false,
        }
    }
}

impl Clocks {
    fn sent(&mut self, dispatch: u64, kind: TaskKind, budget_ms: i64, threads: u32, now_ms: i64) {
        self.held.insert(dispatch, Clock { budget_ms, due: NEVER, is_warned: false });
        match kind {
            TaskKind::Async => self.start(dispatch, now_ms),
            TaskKind::Sync => {
                self.queue.push_back(dispatch);
                self.start_next(threads, now_ms);
            }
        }
    }

    fn ended(&mut self, dispatch: u64, threads: u32, now_ms: i64) {
        if self.held.remove(&dispatch).is_none() {
            return;
        }
        if self.held.is_empty() {
            self.due = NEVER;
        }
        let Some(at) = self.queue.iter().position(|queued| *queued == dispatch) else { return };
        self.queue.remove(at);
        self.started -= usize::from(at < self.started);
        self.start_next(threads, now_ms);
    }

    fn start_next(&mut self, threads: u32, now_ms: i64) {
        while self.started < self.queue.len().min(threads as usize) {
            self.start(self.queue[self.started], now_ms);
            self.started += 1;
        }
    }

    fn start(&mut self, dispatch: u64, now_ms: i64) {
        if let Some(clock) = self.held.get_mut(&dispatch) {
            clock.due = now_ms.saturating_add(clock.budget_ms);
            self.due = self.due.min(clock.due);
        }
    }

    /// What is due: attempts to warn, and attempts whose grace is over.
    fn fire(&mut self, grace_ms: i64, now_ms: i64) -> (Vec<u64>, Vec<u64>) {
        let (mut late, mut lost) = (Vec::new(), Vec::new());
        self.due = NEVER;
        for (dispatch, clock) in &mut self.held {
            if clock.due <= now_ms {
                if clock.is_warned { &mut lost } else { &mut late }.push(*dispatch);
                clock.is_warned = true;
                // Whoever has to end it is reminded until it has ended.
                clock.due = now_ms.saturating_add(grace_ms);
            }
            self.due = self.due.min(clock.due);
        }
        self.is_condemned |= !lost.is_empty();
        late.sort_unstable();
        lost.sort_unstable();
        (late, lost)
    }

    /// Whether the engine itself had the worker ended.
    pub(super) fn is_condemned(&self) -> bool {
        self.is_condemned
    }
}

/// An attempt that outlasted its budget and its grace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The worker that holds it.
    pub worker: u32,
    /// The attempt.
    pub dispatch: u64,
    /// Why it is given up.
    pub why: String,
}

impl Engine {
    /// A step went to its worker.
    pub(super) fn clock_sent(&mut self, dispatch: u64, kind: TaskKind, budget_ms: i64) {
        let now_ms = self.steady_ms;
        let Some(running) = self.running.get_mut(&dispatch) else { return };
        running.budget_ms = budget_ms;
        let threads = self.options.threads;
        if let Some(worker) = self.workers.get_mut(&running.worker) {
            worker.clocks.sent(dispatch, kind, budget_ms, threads, now_ms);
        }
    }

    /// A worker has no more to do with a step.
    pub(super) fn clock_ended(&mut self, worker: u32, dispatch: u64) {
        let now_ms = self.steady_ms;
        let threads = self.options.threads;
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.clocks.ended(dispatch, threads, now_ms);
        }
    }

    /// How long it is until a budget or a grace may be over.
    pub(super) fn next_budget(&self) -> Option<i64> {
        let due = self.workers.values().map(|worker| worker.clocks.due).min().filter(|due| *due < NEVER)?;
        Some((due - self.steady_ms).max(0))
    }

    /// Says what the clock of time budgets shows, which nobody sets.
    pub fn set_steady(&mut self, steady_ms: i64) {
        self.steady_ms = steady_ms;
    }

    /// Tells attempts that their time is up, and notes those whose grace is over.
    pub(super) fn fire_budgets(&mut self) {
        let grace_ms = self.options.grace_ms;
        let now_ms = self.steady_ms;
        let mut due: Vec<u32> = (self.workers.iter())
            .filter(|(_, worker)| worker.clocks.due <= now_ms)
            .map(|(number, _)| *number)
            .collect();
        due.sort_unstable();
        for number in due {
            let Some(worker) = self.workers.get_mut(&number) else { continue };
            let (late, lost) = worker.clocks.fire(grace_ms, now_ms);
            for dispatch in late {
                // One that is not current was told to stop when it ceased to be.
                if let Some(running) = self.running.get_mut(&dispatch) {
                    running.is_late = true;
                    worker.outbox.cancel(dispatch);
                }
            }
            for dispatch in lost {
                let why = self.running.get(&dispatch).map_or_else(
                    || "a cancelled task did not end within its time budget".to_owned(),
                    |running| {
                        let of = self.flows.get(&running.flow).and_then(|live| {
                            let step = live.flow.step(running.step)?;
                            Some(&*live.entry.graph.node(step.node).name)
                        });
                        format!(
                            "the task at {:?} outlasted its time budget of {}",
                            of.unwrap_or_default(),
                            seconds(running.budget_ms)
                        )
                    },
                );
                self.overdue.push(Overdue { worker: number, dispatch, why });
            }
        }
    }

    /// The attempts whose place has to be given up: their worker is to be ended, which `worker_gone` then says, or the
    /// place replaced, which `give_up` says.
    pub fn overdue(&mut self) -> Vec<Overdue> {
        std::mem::take(&mut self.overdue)
    }

    /// The worker has put another thread in the place of an attempt that does not end.
    pub fn give_up(&mut self, worker: u32, dispatch: u64, now_ms: i64) {
        self.clock_ended(worker, dispatch);
        self.scheduler.forget(worker, dispatch);
        if let Some(running) = self.end_dispatch(dispatch) {
            self.fail_late(&running, None, now_ms);
        }
    }

    /// An attempt fails because its time is up, whatever it came to; it may have said where it was.
    pub(super) fn fail_late(&mut self, running: &Running, said: Option<&TaskResult>, now_ms: i64) {
        let budget = seconds(running.budget_ms);
        let mut error =
            TaskError::engine("time_budget", format!("the attempt outlasted its time budget of {budget}"));
        if let Some(TaskResult::Failed(said)) = said {
            error.traceback.clone_from(&said.traceback);
        }
        let ran =
            Ran { worker: Some(running.worker), queued_ms: running.queued_ms, ran_ms: running.budget_ms };
        self.finished(running.flow, running.step, TaskResult::Failed(error), ran, now_ms);
    }
}

fn seconds(ms: i64) -> String {
    format!("{} s", ms as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(clocks: &Clocks, dispatch: u64) -> i64 {
        clocks.held[&dispatch].due
    }

    #[test]
    fn a_queued_step_has_its_whole_budget_from_its_start() {
        let mut clocks = Clocks::default();
        (1..=4).for_each(|dispatch| clocks.sent(dispatch, TaskKind::Sync, 100, 2, 0));
        assert_eq!([1, 2, 3, 4].map(|at| due(&clocks, at)), [100, 100, NEVER, NEVER]);
        clocks.ended(2, 2, 70);
        assert_eq!([1, 3, 4].map(|at| due(&clocks, at)), [100, 170, NEVER]);
        clocks.ended(1, 2, 90);
        assert_eq!([3, 4].map(|at| due(&clocks, at)), [170, 190]);
        clocks.ended(9, 2, 90);
        assert_eq!(clocks.started, 2);
    }

    #[test]
    fn an_async_step_starts_when_it_is_sent() {
        let mut clocks = Clocks::default();
        (1..=3).for_each(|dispatch| clocks.sent(dispatch, TaskKind::Async, 100, 1, dispatch.cast_signed()));
        assert_eq!([1, 2, 3].map(|at| due(&clocks, at)), [101, 102, 103]);
        assert_eq!(clocks.due, 101);
    }

    #[test]
    fn a_late_step_is_warned_once_and_then_given_up_until_it_ends() {
        let mut clocks = Clocks::default();
        clocks.sent(1, TaskKind::Sync, 100, 1, 0);
        clocks.sent(2, TaskKind::Async, 105, 1, 0);
        assert_eq!(clocks.fire(10, 99), (vec![], vec![]));
        assert_eq!(clocks.fire(10, 100), (vec![1], vec![]));
        assert_eq!(clocks.fire(10, 109), (vec![2], vec![]));
        assert!(!clocks.is_condemned());
        assert_eq!(clocks.fire(10, 110), (vec![], vec![1]));
        assert!(clocks.is_condemned());
        clocks.ended(1, 1, 111);
        assert_eq!(clocks.fire(10, 119), (vec![], vec![2]));
        clocks.ended(2, 1, 119);
        assert_eq!((clocks.fire(10, 200), clocks.due), ((vec![], vec![]), NEVER));
    }
}
