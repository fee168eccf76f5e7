//! From a ready step to a frame, and from a frame to results.

use rustc_hash::FxHashSet;

use super::budgets::Clocks;
use super::{clock, Engine, Ran, Running, Serial, Timer, Worker, RELEASING_MS};
use crate::batch::{After, Group};
use crate::error::{Error, Result};
use crate::flow::event::{Event, EventBody};
use crate::flow::{outcome, Call, TaskError, TaskResult};
use crate::flow_control::Ended;
use crate::json::{self, Value};
use crate::scheduler::{Ready, TICKET_BITS};
use crate::state::{Changes, Reducers};
use crate::wire::{FrameReader, FrameWriter, Message, Outcome, ResultIn, StepOut};

impl Engine {
    /// A worker is there and takes steps.
    pub fn worker_ready(&mut self, worker: u32) {
        let made = Worker {
            reader: FrameReader::new(),
            outbox: FrameWriter::new(),
            graphs: FxHashSet::default(),
            clocks: Clocks::default(),
        };
        self.workers.insert(worker, made);
        self.scheduler.add_worker(worker);
    }

    /// The worker gets no more steps; those it holds may finish.
    pub fn drain_worker(&mut self, worker: u32) {
        self.scheduler.drain_worker(worker);
    }

    /// The worker is gone, and everything it had sent was received. Its steps are `lost` and run again; where it was
    /// ended because one of them outlasted its time budget, that one has failed, and the others are not charged.
    pub fn worker_gone(&mut self, worker: u32, cause: &str, now_ms: i64) {
        let was_condemned = self.workers.remove(&worker).is_some_and(|worker| worker.clocks.is_condemned());
        for held in self.scheduler.remove_worker(worker) {
            if let Some(running) = self.end_dispatch(held.dispatch) {
                if running.is_late {
                    self.fail_late(&running, None, now_ms);
                    continue;
                }
                if !running.is_sent || was_condemned {
                    // It never saw the worker, or another step was the reason: it did not die of this one.
                    self.offer(running.flow, running.step, now_ms);
                    continue;
                }
                let ran = Ran { worker: Some(worker), queued_ms: running.queued_ms, ran_ms: 0 };
                self.lost(running.flow, running.step, cause, held.alone, ran, now_ms);
            }
        }
    }

    /// Makes a step a candidate, unless it waits, is one already, or runs.
    pub(super) fn offer(&mut self, serial: Serial, number: u64, now_ms: i64) {
        let sequence = self.next_ticket();
        let Some(live) = self.flows.get_mut(&serial).filter(|live| !live.is_stopping && !live.is_reloading)
        else {
            return;
        };
        if live.is_ahead(number) {
            return;
        }
        let Some(step) = live.flow.step(number).filter(|step| step.is_runnable()) else { return };
        if live.running.contains_key(&number) || live.offered.contains(&number) || live.flow.is_paused() {
            return;
        }
        let hold = if live.is_releasing { now_ms + RELEASING_MS } else { 0 };
        let not_before = step.not_before.max(hold);
        if not_before > now_ms {
            self.timers.set(Timer::Delay(serial, number), clock(not_before));
            return;
        }
        if let Some(error) = step.broken.clone() {
            self.finished(serial, number, TaskResult::Failed(error), Ran::default(), now_ms);
            return;
        }
        if live.flow.breaks_before(step) {
            self.break_here(serial, number, now_ms);
            return;
        }
        let is_guarded = live.crashes > 0;
        let ready = Ready {
            flow: serial,
            step: number,
            task: live.entry.tasks[step.node as usize],
            resource: live.entry.resources[step.node as usize],
            partition: self.resources.partition_of(live, step.node as usize),
            priority: live.about.priority,
            fairness_key: live.fairness_key.clone(),
            weight: live.about.fairness_weight,
            order: ((step.created_at.max(0) as u64) << TICKET_BITS) | sequence,
            ready_at: now_ms,
            alone: is_guarded || step.losses > 0,
            guarded: is_guarded,
        };
        live.offered.insert(number);
        self.scheduler.offer(ready);
    }

    /// What tells apart the steps that were created within one millisecond.
    fn next_ticket(&mut self) -> u64 {
        self.ticket = (self.ticket + 1) & ((1 << TICKET_BITS) - 1);
        self.ticket
    }

    /// Everything that may be sent now, one buffer a worker.
    pub fn frames(&mut self, now_ms: i64) -> Vec<(u32, Vec<u8>)> {
        self.scheduler.wake(now_ms);
        for dispatch in std::mem::take(&mut self.to_send) {
            self.send(dispatch, now_ms);
        }
        loop {
            let mut picked = false;
            for worker in self.scheduler.workers_with_room() {
                if let Some(ready) = self.scheduler.next(worker) {
                    picked = true;
                    self.dispatch(worker, &ready, now_ms);
                }
            }
            if !picked {
                break;
            }
        }
        self.outgoing()
    }

    /// What is written for workers already, one buffer a worker.
    pub fn outgoing(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut frames: Vec<_> = self
            .workers
            .iter_mut()
            .filter(|(_, worker)| !worker.outbox.is_empty())
            .map(|(number, worker)| (*number, worker.outbox.finish()))
            .collect();
        frames.sort_unstable_by_key(|(worker, _)| *worker);
        frames
    }

    fn dispatch(&mut self, worker: u32, ready: &Ready, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&ready.flow) else { return };
        live.offered.remove(&ready.step);
        let Some(step) = live.flow.step(ready.step) else { return };
        let dispatch = self.next_dispatch;
        self.next_dispatch += 1;
        live.running.insert(ready.step, dispatch);
        let queued_ms = (now_ms - ready.ready_at).max(0);
        self.running.insert(
            dispatch,
            Running {
                flow: ready.flow,
                step: ready.step,
                worker,
                queued_ms,
                is_sent: false,
                budget_ms: 0,
                is_late: false,
            },
        );
        let must_tell = live.crashes > 0;
        let event = Event {
            ord: live.flow.ord() + 1,
            step: ready.step,
            attempt: step.attempt,
            at: now_ms,
            body: EventBody::Started,
        };
        let id = live.about.id;
        self.scheduler.started(worker, dispatch, ready);
        if must_tell {
            let mut group = Group::default();
            let ran = Ran { worker: Some(worker), queued_ms, ran_ms: 0 };
            self.record(ready.flow, event, None, ran, &mut group, now_ms);
            group.after(id, After::Send { dispatch });
            self.enqueue(group);
        } else {
            self.send(dispatch, now_ms);
        }
    }

    /// Encodes a dispatched step for its worker.
    fn send(&mut self, dispatch: u64, now_ms: i64) {
        let unsaid = self.unsaid_needs();
        let Some(running) = self.running.get_mut(&dispatch) else { return };
        running.is_sent = true;
        let (serial, number, to) = (running.flow, running.step, running.worker);
        let Some(live) = self.flows.get(&serial) else { return };
        let (Some(step), Some(worker)) = (live.flow.step(number), self.workers.get_mut(&to)) else { return };
        let node = live.entry.graph.node(step.node);
        if worker.graphs.insert(live.entry.number) {
            worker.outbox.graph(live.entry.number, &reducers_json(live.entry.graph.reducers()));
        }
        let budget = node.time_budget_ms.map_or(live.about.time_budget_ms, |ms| ms as i64);
        let mut changes = String::new();
        if !step.changes.is_empty() {
            step.changes.to_journal(&mut changes);
        }
        let task = live.entry.tasks[step.node as usize];
        let sent = self.needs.get(&task).unwrap_or(&unsaid).select(&live.flow.view(step));
        let written = worker.outbox.step(&StepOut {
            dispatch,
            graph_no: live.entry.number,
            attempt: step.attempt,
            step: number,
            created_at_ms: live.about.created_at,
            step_created_at_ms: step.created_at,
            budget_ms: budget,
            left_out: &sent.left_out,
            flow_key: live.flow.key(),
            node: &node.name,
            task: &node.task,
            baggage: live.about.baggage.as_deref().unwrap_or(""),
            state: &sent.state,
            changes: &changes,
            calls: &answered_calls(&step.calls),
        });
        let Err(error) = written else {
            let kind = self.scheduler.kind(task);
            self.clock_sent(dispatch, kind, budget);
            return;
        };
        self.scheduler.forget(to, dispatch);
        self.end_dispatch(dispatch);
        let error = TaskError::engine("payload_too_large", error.message);
        self.finished(serial, number, TaskResult::Failed(error), Ran::default(), now_ms);
    }

    pub(super) fn end_dispatch(&mut self, dispatch: u64) -> Option<Running> {
        let running = self.running.remove(&dispatch)?;
        if let Some(live) = self.flows.get_mut(&running.flow) {
            live.running.remove(&running.step);
        }
        Some(running)
    }

    /// Takes bytes that a worker sent; settles the results in them.
    ///
    /// # Errors
    /// `corrupt` when they are no frames: the worker must be killed.
    pub fn receive(&mut self, worker: u32, bytes: &[u8], now_ms: i64) -> Result<()> {
        let Some(found) = self.workers.get_mut(&worker) else { return Ok(()) };
        self.scheduler.wake(now_ms);
        for message in found.reader.feed(bytes)? {
            match message {
                Message::Results(results) => {
                    for result in results {
                        self.take_result(worker, &result, now_ms);
                    }
                }
                Message::Fetch(dispatch, names) => self.send_state(worker, dispatch, &names, now_ms)?,
                Message::Hello(_) => {}
                _ => return Err(Error::corrupt("a worker sent a frame that only engines send")),
            }
        }
        Ok(())
    }

    fn take_result(&mut self, worker: u32, result: &ResultIn, now_ms: i64) {
        let error = match result.outcome {
            Outcome::Error => TaskError::from_meta(&result.meta).ok(),
            _ => None,
        };
        let how = match (result.outcome, &error) {
            (Outcome::Done, _) => Ended::Well,
            (_, Some(error)) => error.says(),
            _ => Ended::Otherwise,
        };
        self.scheduler.ended(worker, result.dispatch, u64::from(result.ran_us), how);
        self.clock_ended(worker, result.dispatch);
        self.pace.finished();
        // A result without a current dispatch is late: the step was cancelled, lost or timed out.
        let Some(running) = self.end_dispatch(result.dispatch) else { return };
        let Some(live) = self.flows.get(&running.flow) else { return };
        let bounced = error.as_ref().filter(|_| !running.is_late);
        if let Some(wait_ms) = bounced.and_then(|error| self.bounce_ms(live, error)) {
            self.bounce(running.flow, running.step, wait_ms, now_ms);
            return;
        }
        let ran = Ran {
            worker: Some(worker),
            queued_ms: running.queued_ms,
            ran_ms: i64::from(result.ran_us).div_euclid(1_000),
        };
        let outcome = read_result(result, live.entry.graph.reducers()).unwrap_or_else(TaskResult::Failed);
        if running.is_late {
            self.fail_late(&running, Some(&outcome), now_ms);
            return;
        }
        self.finished(running.flow, running.step, outcome, ran, now_ms);
    }
}

/// A worker's result, its changes checked against the reducers.
fn read_result(result: &ResultIn, reducers: &Reducers) -> std::result::Result<TaskResult, TaskError> {
    let changes = || {
        if result.changes.is_empty() {
            return Ok(Changes::default());
        }
        Changes::from_task(&result.changes, reducers)
            .map_err(|error| TaskError::engine(error.code(), error.message()))
    };
    let meta = Meta::read(&result.meta)?;
    Ok(match result.outcome {
        Outcome::Done => TaskResult::Done {
            changes: changes()?,
            goto: meta.text("goto"),
            delay_ms: meta.number("delay_ms"),
        },
        Outcome::Error => {
            TaskResult::Failed(TaskError::from_meta(&result.meta).map_err(|error| broken(&error))?)
        }
        Outcome::Parked => {
            let calls =
                meta.0.iter().find(|(name, _)| &**name == "calls").and_then(|(_, calls)| calls.elements());
            let calls = calls
                .unwrap_or_default()
                .iter()
                .map(Call::from_json)
                .collect::<Result<_>>()
                .map_err(|error| broken(&error))?;
            TaskResult::Parked { changes: changes()?, calls }
        }
        Outcome::Retry => TaskResult::Retry {
            changes: changes()?,
            delay_ms: meta.number("delay_ms").saturating_add(meta.number("extra_delay_ms")),
        },
    })
}

struct Meta(Vec<(crate::state::Field, Value)>);

impl Meta {
    fn read(meta: &str) -> std::result::Result<Self, TaskError> {
        if meta.is_empty() {
            return Ok(Self(Vec::new()));
        }
        json::object_fields(meta).map(Self).map_err(|error| broken(&error))
    }

    fn text(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(field, value)| &**field == name && !value.is_null());
        found.map(|(_, value)| outcome::text(value))
    }

    fn number(&self, name: &str) -> u64 {
        self.0
            .iter()
            .find(|(field, _)| &**field == name)
            .and_then(|(_, value)| value.raw().parse().ok())
            .unwrap_or(0)
    }
}

fn broken(error: &Error) -> TaskError {
    TaskError::engine("error", format!("the worker's result cannot be read: {}", error.message))
}

fn answered_calls(calls: &[Call]) -> String {
    if calls.is_empty() {
        return String::new();
    }
    let mut out = String::from("[");
    for (at, call) in calls.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        call.write_answered(&mut out);
    }
    out.push(']');
    out
}

fn reducers_json(reducers: &Reducers) -> String {
    let mut out = String::from("{");
    for (field, reducer) in reducers.iter() {
        if out.len() > 1 {
            out.push(',');
        }
        json::escape(field, &mut out);
        out.push(':');
        json::escape(reducer.name(), &mut out);
    }
    out.push('}');
    out
}
