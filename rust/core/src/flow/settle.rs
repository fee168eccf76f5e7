//! From a result to its event: decides, changes nothing.

use super::event::{Entry, Event, EventBody, Next, Route};
use super::outcome::{ErrorClass, StepError, TaskError, TaskResult};
use super::park::{Call, CallKind};
use super::{Flow, Step};
use crate::error::{Error, Result};
use crate::graph::{Hop, Target};
use crate::ids::FlowId;
use crate::json::Value;
use crate::state::{Change, Changes, Delta, State};

/// How long a bounced step waits when its error names no time.
const BOUNCE_MS: u64 = 1_000;

/// What a decision takes from outside.
pub struct Context<'a> {
    /// The database's clock.
    pub now_ms: i64,
    /// Chance for jitter.
    pub seed: u64,
    /// Longest changes of one event.
    pub max_event_bytes: usize,
    /// Makes ids for children and interrupts.
    pub new_id: &'a mut dyn FnMut() -> FlowId,
}

/// An event that has not been applied, with the state it leads to when that is known.
pub struct Settled {
    /// The event.
    pub event: Event,
    /// The state after the step, so that `apply` need not fold again.
    pub after: Option<State>,
}

impl Flow {
    /// The event that `result` of step `number` makes.
    ///
    /// # Errors
    /// `not_found` when the step is not live or is parked: its result is late and is dropped.
    pub fn settle(&self, number: u64, result: &TaskResult, context: &mut Context<'_>) -> Result<Settled> {
        let step = self.steps.get(&number).filter(|step| !step.is_parked());
        let step =
            step.ok_or_else(|| Error::not_found(format!("step {number} is not waiting for a result")))?;
        let (body, after) = match result {
            TaskResult::Done { changes, goto, delay_ms } => {
                let not_before = later(context.now_ms, *delay_ms);
                match self.settle_done(step, changes, goto.as_deref(), not_before, context) {
                    Ok((next, after)) => (EventBody::Done { changes: changes.clone(), next }, Some(after)),
                    Err(error) => (self.settle_failure(step, error, context), None),
                }
            }
            TaskResult::Failed(error) => (self.settle_failure(step, error.clone(), context), None),
            TaskResult::Retry { changes, delay_ms } => {
                (self.settle_retry(step, changes, *delay_ms, context), None)
            }
            TaskResult::Parked { changes, calls } => {
                (self.settle_parked(step, changes, calls, context), None)
            }
        };
        Ok(Settled { event: self.event(step, context.now_ms, body), after })
    }

    /// The event of a worker's death under the step: `lost`, or the step's failure when it is poison.
    ///
    /// # Errors
    /// `not_found` when the step is not live.
    pub fn settle_lost(
        &self,
        number: u64,
        cause: &str,
        alone: bool,
        context: &mut Context<'_>,
    ) -> Result<Event> {
        let step =
            self.steps.get(&number).ok_or_else(|| Error::not_found(format!("step {number} is not live")))?;
        let losses = step.losses_alone + u32::from(alone);
        let body = if losses >= super::MAX_LOSSES {
            let mut error = TaskError::engine(
                "poison",
                format!("the worker died {losses} times while it ran this step alone, last by {cause}"),
            );
            error.class = ErrorClass::Permanent;
            self.settle_failure(step, error, context)
        } else {
            EventBody::Lost { cause: cause.to_owned(), alone }
        };
        Ok(self.event(step, context.now_ms, body))
    }

    pub(super) fn event(&self, step: &Step, now_ms: i64, body: EventBody) -> Event {
        Event { ord: self.ord + 1, step: step.number, attempt: step.attempt, at: now_ms, body }
    }

    fn settle_done(
        &self,
        step: &Step,
        changes: &Changes,
        goto: Option<&str>,
        not_before: i64,
        context: &Context<'_>,
    ) -> std::result::Result<(Next, State), TaskError> {
        check_size(changes, 0, context.max_event_bytes)?;
        let after = self.state_after(step, changes)?;
        let route = self.route_done(step, &after, goto, not_before)?;
        Ok((Next::new(route), after))
    }

    /// The step's view with everything it ever changed folded in, once.
    pub(super) fn state_after(
        &self,
        step: &Step,
        changes: &Changes,
    ) -> std::result::Result<State, TaskError> {
        let mut own = step.changes.clone();
        own.merge(changes.clone());
        let mut delta = Delta::default();
        delta.push(&own);
        let reduced = self.view(step).fold(&delta, self.graph.reducers());
        reduced.map_err(|error| TaskError::engine("reducer", error.message))
    }

    fn route_done(
        &self,
        step: &Step,
        after: &State,
        goto: Option<&str>,
        not_before: i64,
    ) -> std::result::Result<Route, TaskError> {
        let node = self.graph.node(step.node);
        let hops = self
            .graph
            .route(step.node, after, goto)
            .map_err(|error| TaskError::engine(error.code(), error.message().to_owned()))?;
        let route = if node.is_fan_out && goto.is_none() {
            self.open(step, &hops, not_before)
        } else if let Some(hop) = hops.first() {
            self.go(step, hop.target, not_before)?
        } else if step.branch.is_none() {
            Route::End
        } else {
            return Err(TaskError::engine(
                "no_match",
                format!(
                    "no edge of node {:?} matched, and a branch of a fan-out must reach its join",
                    node.name
                ),
            ));
        };
        self.check_steps(&route)?;
        Ok(route)
    }

    fn go(&self, step: &Step, target: Target, not_before: i64) -> std::result::Result<Route, TaskError> {
        let join =
            step.branch.and_then(|branch| self.cohorts.get(&branch.cohort)).map(|c| c.target(&self.graph));
        let node = self.graph.node(step.node);
        match target {
            Target::End if step.branch.is_none() => Ok(Route::End),
            _ if join == Some(target) && node.join != Some(target) => Ok(Route::Arrive { not_before }),
            Target::Node(ix) if !self.graph.node(ix).is_fan_in || node.join == Some(target) => {
                Ok(Route::Go { step: self.next_step, node: self.graph.node(ix).name.to_string(), not_before })
            }
            _ => Err(TaskError::engine(
                "no_match",
                format!(
                    "node {:?} leaves its fan-out before the join; lead every branch to the join",
                    node.name
                ),
            )),
        }
    }

    fn open(&self, step: &Step, hops: &[Hop], not_before: i64) -> Route {
        let join = self.graph.node(step.node).join.unwrap_or(Target::End);
        let (mut entries, mut next) = (Vec::with_capacity(hops.len()), self.next_step);
        for hop in hops {
            let count = hop.each.as_ref().map_or(1, |each| each.count);
            let Target::Node(ix) = hop.target else {
                entries.push(Entry::Arrived { count });
                continue;
            };
            if hop.target == join {
                entries.push(Entry::Arrived { count });
                continue;
            }
            let node = self.graph.node(ix).name.to_string();
            entries.push(match &hop.each {
                Some(each) => Entry::Each { first: next, node, count, edge: each.edge },
                None => Entry::Step { step: next, node },
            });
            next += count;
        }
        entries.retain(|entry| !matches!(entry, Entry::Each { count: 0, .. } | Entry::Arrived { count: 0 }));
        if entries.is_empty() {
            return match join {
                Target::End if step.branch.is_none() => Route::End,
                Target::End => Route::Arrive { not_before },
                Target::Node(ix) => {
                    Route::Go { step: self.next_step, node: self.graph.node(ix).name.to_string(), not_before }
                }
            };
        }
        Route::Fan { entries, not_before }
    }

    /// Refuses a route that would make the flow a runaway.
    fn check_steps(&self, route: &Route) -> std::result::Result<(), TaskError> {
        let made = match route {
            Route::Go { .. } | Route::Arrive { .. } => 1,
            Route::Fan { entries, .. } => entries
                .iter()
                .map(|entry| match entry {
                    Entry::Step { .. } => 1,
                    Entry::Each { count, .. } => *count,
                    Entry::Arrived { .. } => 0,
                })
                .sum(),
            Route::End | Route::Fail => 0,
        };
        if self.next_step - 1 + made <= self.max_steps {
            return Ok(());
        }
        let mut error = TaskError::engine(
            "max_steps",
            format!(
                "the flow would exceed its max_steps of {}; is there a loop without an end?",
                self.max_steps
            ),
        );
        error.class = ErrorClass::Permanent;
        Err(error)
    }

    pub(super) fn settle_failure(
        &self,
        step: &Step,
        mut error: TaskError,
        context: &Context<'_>,
    ) -> EventBody {
        error.fit(context.max_event_bytes);
        let planned = self.plan_retry(step, &error, context);
        error.bases = Box::default();
        if let Some((not_before, attempt)) = planned {
            let error = Some(self.place(step, error));
            return EventBody::Retry { changes: Changes::default(), error, not_before, attempt };
        }
        let error = self.place(step, error);
        if let Some(target) = self.graph.node(step.node).on_error {
            if let Ok(route) =
                self.go(step, target, 0).and_then(|route| self.check_steps(&route).map(|()| route))
            {
                let mut changes = Changes::default();
                let seen = Value::from_raw_unchecked(error.seen_json(&self.key));
                changes.insert("on_error".into(), Change::Overwrite(seen));
                return EventBody::Failed { changes, error, next: Next::new(route) };
            }
        }
        EventBody::Failed { changes: Changes::default(), error, next: Next::new(Route::Fail) }
    }

    /// When the step runs again after `error`, and as which attempt; `None` when it does not.
    fn plan_retry(&self, step: &Step, error: &TaskError, context: &Context<'_>) -> Option<(i64, u32)> {
        if error.is_bounce() {
            let wait = error.retry_after_ms.unwrap_or(BOUNCE_MS);
            return Some((later(context.now_ms, wait.max(1)), step.attempt));
        }
        let policy = self.graph.node(step.node).retry.as_ref()?;
        let types = std::iter::once(&*error.type_name).chain(error.bases.iter().map(|base| &**base));
        let is_over = step.attempt + 1 >= policy.max_attempts;
        if is_over || error.class == ErrorClass::Permanent || !policy.applies(&error.code, &types) {
            return None;
        }
        let not_before = later(context.now_ms, policy.delay_ms(step.attempt, context.seed ^ step.number));
        let horizon = policy.give_up_after_ms.map(|wait| later(step.created_at, wait));
        (horizon.is_none_or(|end| not_before.max(context.now_ms) < end))
            .then_some((not_before, step.attempt + 1))
    }

    fn place(&self, step: &Step, error: TaskError) -> StepError {
        StepError { error, node: self.graph.node(step.node).name.clone(), step: step.number }
    }

    fn settle_retry(
        &self,
        step: &Step,
        changes: &Changes,
        delay_ms: u64,
        context: &Context<'_>,
    ) -> EventBody {
        if let Err(error) = check_size(changes, 0, context.max_event_bytes) {
            return self.settle_failure(step, error, context);
        }
        let not_before = later(context.now_ms, delay_ms);
        EventBody::Retry { changes: changes.clone(), error: None, not_before, attempt: step.attempt + 1 }
    }

    fn settle_parked(
        &self,
        step: &Step,
        changes: &Changes,
        calls: &[Call],
        context: &mut Context<'_>,
    ) -> EventBody {
        let mut calls = calls.to_vec();
        if calls.is_empty() {
            let error = TaskError::engine("error", "the task was parked without a call to wait for");
            return self.settle_failure(step, error, context);
        }
        let bytes = calls
            .iter()
            .filter_map(|call| call.payload.as_ref())
            .map(|value| value.raw().len())
            .sum::<usize>();
        if let Err(error) = check_size(changes, bytes, context.max_event_bytes) {
            return self.settle_failure(step, error, context);
        }
        for call in &mut calls {
            if call.kind == CallKind::Sleep {
                // Whatever cannot be read as a wait is none: nothing else would ever answer a sleep.
                call.wait_ms.get_or_insert(0);
            }
            call.due = call.wait_ms.take().map(|wait| context.now_ms.saturating_add_unsigned(wait));
            if matches!(call.kind, CallKind::Interrupt | CallKind::Subgraph) {
                call.id = Some((context.new_id)());
            }
        }
        // The oldest question is the one with the least id, so a step's questions have theirs in the order asked.
        let questions = || calls.iter().filter(|call| call.kind == CallKind::Interrupt);
        let mut ids: Vec<FlowId> = questions().filter_map(|call| call.id).collect();
        ids.sort_unstable();
        let questions = calls.iter_mut().filter(|call| call.kind == CallKind::Interrupt);
        for (call, id) in questions.zip(ids) {
            call.id = Some(id);
        }
        EventBody::Parked { changes: changes.clone(), calls }
    }
}

/// Refuses an event that holds too much: its changes and `more` bytes beside them.
fn check_size(changes: &Changes, more: usize, limit: usize) -> std::result::Result<(), TaskError> {
    let bytes =
        more + changes.iter().map(|(field, change)| field.len() + change_bytes(change)).sum::<usize>();
    if bytes <= limit {
        return Ok(());
    }
    Err(TaskError::engine(
        "payload_too_large",
        format!("the step hands over {bytes} bytes and {limit} are allowed; store the data elsewhere and keep its address"),
    ))
}

fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Contribute(value) | Change::Overwrite(value) => value.raw().len(),
        Change::Delete => 0,
    }
}

/// `now + wait`, and 0 (at once) for no wait.
fn later(now_ms: i64, wait_ms: u64) -> i64 {
    if wait_ms == 0 {
        0
    } else {
        now_ms.saturating_add_unsigned(wait_ms)
    }
}
