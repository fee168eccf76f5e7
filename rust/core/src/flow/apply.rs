//! From an event to the flow after it: the one way a flow changes, live and in replay.

use super::event::{Entry, Event, EventBody, Next, Route};
use rustc_hash::FxHashSet;

use super::outcome::{StepError, TaskError};
use super::park::{Call, CallError, CallKind};
use super::signals::Signals;
use super::{Branch, Cohort, Flow, Hold, Status, Step, View};
use crate::error::{Error, Result};
use crate::graph::NodeIx;
use crate::ids::made_at;
use crate::json::Value;
use crate::state::{Changes, Delta, State};

/// What an event set going.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// Steps that may run now, or from their `not_before`.
    pub ready: Vec<u64>,
    /// Numbers of the steps that were live and are not any more without a result of their own.
    pub cancelled: Vec<u64>,
    /// Those steps as they were: their open calls are void.
    pub dropped: Vec<Step>,
    /// Steps that wait, and that the engine did not hold before.
    pub revived: Vec<u64>,
    /// Steps that wait again for something that had been answered; what else they waited for stays.
    pub waiting_again: Vec<u64>,
    /// Step and node that a join created.
    pub joined: Option<(u64, String)>,
    /// The step that had opened the cohort which was joined.
    pub joined_source: Option<u64>,
}

/// A branch that stands between two steps.
struct Token {
    number: u64,
    node: NodeIx,
    branch: Option<Branch>,
    log: Delta,
    state: State,
}

impl Flow {
    /// Applies the next event. `after` is the state that `settle` computed; replay passes `None`.
    ///
    /// # Errors
    /// `corrupt` for a gap in `ord`, an unknown step, or a body that does not fit the flow.
    pub fn apply(&mut self, event: &Event, after: Option<State>) -> Result<Effects> {
        let effects = self.apply_leniently(event, after)?;
        if let EventBody::Done { next, .. } | EventBody::Failed { next, .. } = &event.body {
            if next.join.is_some() && next.join != effects.joined {
                return Err(Error::corrupt(format!(
                    "replay of flow {} makes the join {:?} where the journal has {:?}",
                    self.key, effects.joined, next.join
                )));
            }
        }
        Ok(effects)
    }

    /// The same, whether or not the join comes to be that the journal has.
    pub(super) fn apply_leniently(&mut self, event: &Event, after: Option<State>) -> Result<Effects> {
        let starts_here = self.ord == 0 && matches!(event.body, EventBody::Snapshot(_));
        if event.ord != self.ord + 1 && !starts_here {
            return Err(Error::corrupt(format!(
                "the journal of flow {} goes from event {} to {}; restore the missing rows from a backup",
                self.key, self.ord, event.ord
            )));
        }
        let mut effects = Effects::default();
        match &event.body {
            EventBody::Done { changes, next } => {
                let token = self.finish(event.step, changes, after)?;
                self.follow(token, next, None, event.at, &mut effects)?;
            }
            EventBody::Failed { changes, error, next } => {
                let token = self.finish_failed(event.step, changes)?;
                self.follow(token, next, Some(error), event.at, &mut effects)?;
            }
            EventBody::Retry { changes, not_before, attempt, .. } => {
                let step = self.live(event.step)?;
                step.changes.merge(changes.clone());
                step.attempt = *attempt;
                step.not_before = *not_before;
                step.is_started = false;
                step.calls.retain(|call| matches!(call.answer, Some(Ok(_))));
                effects.ready.push(event.step);
            }
            EventBody::Parked { changes, calls } => {
                let step = self.live(event.step)?;
                step.changes.merge(changes.clone());
                step.is_started = false;
                let first = step.calls.len() as u32;
                step.calls.extend(calls.iter().map(|call| Call { since: event.ord, ..call.clone() }));
                self.open_interrupts += calls.iter().filter(|call| call.is_asking()).count();
                for (at, call) in (first..).zip(calls) {
                    self.signals.wait(call, event.ord, event.step, at);
                }
            }
            EventBody::Resolved { call, answer, signal } => {
                self.resolve_call(event.step, *call, answer, &mut effects)?;
                if let Some(signal) = signal {
                    let step = self.steps.get(&event.step);
                    let name = step.and_then(|step| step.calls.get(*call as usize)?.target.as_deref());
                    self.signals.take_named(name.unwrap_or_default(), *signal);
                }
            }
            EventBody::Lost { alone, .. } => {
                let step = self.live(event.step)?;
                step.losses += 1;
                step.losses_alone += u32::from(*alone);
                step.is_started = false;
                effects.ready.push(event.step);
            }
            EventBody::Started => self.live(event.step)?.is_started = true,
            EventBody::Control(control) => self.apply_control(event, control, &mut effects)?,
            EventBody::Snapshot(state) => self.restore(state)?,
        }
        self.ord = event.ord;
        effects.cancelled.extend(effects.dropped.iter().map(|step| step.number));
        Ok(effects)
    }

    pub(super) fn live(&mut self, number: u64) -> Result<&mut Step> {
        let key = &self.key;
        self.steps.get_mut(&number).ok_or_else(|| {
            Error::corrupt(format!("the journal of flow {key} speaks of step {number}, which is not live"))
        })
    }

    /// A failed step keeps what earlier attempts recorded, unless that is what cannot be folded.
    fn finish_failed(&mut self, number: u64, changes: &Changes) -> Result<Token> {
        let step = self.live(number)?.clone();
        if self.state_after(&step, changes).is_err() {
            self.live(number)?.changes = Changes::default();
        }
        self.finish(number, changes, None)
    }

    fn finish(&mut self, number: u64, changes: &Changes, after: Option<State>) -> Result<Token> {
        self.live(number)?;
        let Some(mut step) = self.remove_step(number) else { return Err(Error::corrupt("no such step")) };
        let state = match after {
            Some(state) => state,
            None => self.state_after(&step, changes).map_err(|error| Error::corrupt(error.message))?,
        };
        let mut log = std::mem::take(&mut step.log);
        if step.branch.is_some() {
            step.changes.merge(changes.clone());
            log.push(&step.changes);
            log.compact(self.graph.reducers());
        }
        Ok(Token { number, node: step.node, branch: step.branch, log, state })
    }

    fn follow(
        &mut self,
        token: Token,
        next: &Next,
        error: Option<&StepError>,
        at: i64,
        effects: &mut Effects,
    ) -> Result<()> {
        let place = (token.branch, &next.route);
        match place {
            (_, Route::Go { step, node, not_before }) => {
                let node = self.find(node)?;
                self.expect_number(*step)?;
                let view = View::State(token.state);
                effects.ready.push(self.create_step(node, view, token.log, token.branch, *not_before, at));
            }
            (_, Route::Fan { entries, not_before }) => {
                let cohort = token.number;
                self.open_cohort(token, entries, *not_before, at, effects)?;
                self.resolve_cohort(cohort, at, effects)?;
            }
            (Some(branch), Route::Arrive { not_before }) => {
                let cohort = self.cohort(branch.cohort)?;
                cohort.arrived.insert(branch.ordinal, token.log);
                cohort.not_before = cohort.not_before.max(*not_before);
                self.resolve_cohort(branch.cohort, at, effects)?;
            }
            (Some(branch), Route::Fail) => {
                let error = error.cloned().ok_or_else(|| Error::corrupt("a step failed without an error"))?;
                self.fail_branch(branch, token.log, error)?;
                self.resolve_cohort(branch.cohort, at, effects)?;
            }
            (None, Route::Fail) => {
                self.error = error.cloned();
                self.end(Status::Failed, token.state);
            }
            (None, Route::End) => self.end(Status::Completed, token.state),
            (Some(_), Route::End) | (None, Route::Arrive { .. }) => {
                return Err(Error::corrupt(format!(
                    "step {} of flow {} ends where it cannot",
                    token.number, self.key
                )));
            }
        }
        Ok(())
    }

    fn open_cohort(
        &mut self,
        token: Token,
        entries: &[Entry],
        not_before: i64,
        at: i64,
        effects: &mut Effects,
    ) -> Result<()> {
        let source = token.number;
        let mut cohort = Cohort {
            source,
            node: token.node,
            base: token.state,
            outer: token.branch,
            outer_log: token.log,
            size: 0,
            arrived: std::collections::BTreeMap::new(),
            failed: std::collections::BTreeMap::new(),
            error: None,
            not_before: 0,
            steps: FxHashSet::default(),
            inner: FxHashSet::default(),
        };
        let first = self.next_step;
        for entry in entries {
            let ordinal = cohort.size;
            match entry {
                Entry::Arrived { count } => {
                    cohort.arrived.extend((ordinal..ordinal + count).map(|at| (at, Delta::default())));
                    cohort.size += count;
                    // The join is a direct successor of the source here, so the source's delay is the join's too.
                    cohort.not_before = not_before;
                }
                Entry::Step { step, node } => {
                    let node = self.find(node)?;
                    self.expect_number(*step)?;
                    let branch = Some(Branch { cohort: source, ordinal });
                    let view = View::State(cohort.base.clone());
                    effects.ready.push(self.create_step(
                        node,
                        view,
                        Delta::default(),
                        branch,
                        not_before,
                        at,
                    ));
                    cohort.size += 1;
                }
                Entry::Each { first, node, count, edge } => {
                    let node = self.find(node)?;
                    self.expect_number(*first)?;
                    let elements = self.elements(&cohort.base, *edge, *count)?;
                    for (index, value) in (0..).zip(elements) {
                        let branch = Some(Branch { cohort: source, ordinal: ordinal + index });
                        let view = View::Element { edge: *edge, index, count: *count, value };
                        effects.ready.push(self.create_step(
                            node,
                            view,
                            Delta::default(),
                            branch,
                            not_before,
                            at,
                        ));
                    }
                    cohort.size += count;
                }
            }
        }
        cohort.steps.extend(first..self.next_step);
        if let Some(outer) = cohort.outer.and_then(|branch| self.cohorts.get_mut(&branch.cohort)) {
            outer.inner.insert(source);
        }
        self.cohorts.insert(source, cohort);
        Ok(())
    }

    fn elements(&self, base: &State, edge: u32, count: u64) -> Result<Vec<Value>> {
        let over = &self.graph.each_edge(edge).over;
        let elements = base.get(over).and_then(Value::elements).unwrap_or_default();
        if elements.len() as u64 == count {
            return Ok(elements);
        }
        Err(Error::corrupt(format!(
            "the journal fans out over {count} elements of {over:?}, which has {}",
            elements.len()
        )))
    }

    fn resolve_call(
        &mut self,
        number: u64,
        call: u32,
        answer: &std::result::Result<Value, CallError>,
        effects: &mut Effects,
    ) -> Result<()> {
        let key = &self.key;
        let step = self.steps.get_mut(&number).ok_or_else(|| {
            Error::corrupt(format!("the journal of flow {key} answers step {number}, which is not live"))
        })?;
        let open = step.calls.get_mut(call as usize).filter(|call| call.is_open());
        let open = open.ok_or_else(|| Error::corrupt(format!("call {call} of step {number} is not open")))?;
        self.open_interrupts -= usize::from(open.is_asking());
        self.signals.leave(open, number, call);
        open.answer = Some(answer.clone());
        if !step.is_parked() {
            step.not_before = 0;
            effects.ready.push(number);
        }
        Ok(())
    }

    /// Takes steps out that end without a result.
    pub(super) fn drop_steps(&mut self, mut steps: Vec<u64>, effects: &mut Effects) {
        steps.sort_unstable();
        for number in steps {
            let Some(step) = self.remove_step(number) else { continue };
            self.open_interrupts -= step.open_questions();
            for (at, call) in (0..).zip(&step.calls) {
                self.signals.leave(call, number, at);
            }
            effects.dropped.push(step);
        }
    }

    fn remove_step(&mut self, number: u64) -> Option<Step> {
        let step = self.steps.remove(&number)?;
        self.standing[step.node as usize] -= 1;
        if let Some(cohort) = step.branch.and_then(|branch| self.cohorts.get_mut(&branch.cohort)) {
            cohort.steps.remove(&number);
        }
        Some(step)
    }

    pub(super) fn end(&mut self, status: Status, output: State) {
        self.steps.clear();
        self.standing.fill(0);
        self.cohorts.clear();
        self.signals = Signals::default();
        self.status = status;
        self.output = Some(output);
    }

    pub(super) fn create_step(
        &mut self,
        node: NodeIx,
        view: View,
        log: Delta,
        branch: Option<Branch>,
        not_before: i64,
        created_at: i64,
    ) -> u64 {
        let number = self.next_step;
        self.next_step += 1;
        let step = Step {
            number,
            node,
            attempt: 0,
            not_before,
            view,
            log,
            branch,
            changes: Changes::default(),
            calls: Vec::new(),
            created_at,
            losses: 0,
            losses_alone: 0,
            is_started: false,
            hold: Hold::None,
            broken: None,
        };
        self.steps.insert(number, step);
        self.standing[node as usize] += 1;
        if let Some(cohort) = branch.and_then(|branch| self.cohorts.get_mut(&branch.cohort)) {
            cohort.steps.insert(number);
        }
        number
    }

    fn find(&self, node: &str) -> Result<NodeIx> {
        let found = self.graph.find(node);
        found.ok_or_else(|| {
            Error::corrupt(format!("the journal of flow {} names the unknown node {node:?}", self.key))
        })
    }

    fn expect_number(&self, recorded: u64) -> Result<()> {
        if recorded == self.next_step {
            return Ok(());
        }
        let next = self.next_step;
        Err(Error::corrupt(format!(
            "the journal of flow {} creates step {recorded} where {next} is next",
            self.key
        )))
    }

    pub(super) fn cohort(&mut self, source: u64) -> Result<&mut Cohort> {
        let key = &self.key;
        self.cohorts.get_mut(&source).ok_or_else(|| {
            Error::corrupt(format!("the journal of flow {key} speaks of cohort {source}, which is not open"))
        })
    }

    /// The calls of live steps that are open, of one kind, oldest step first.
    pub fn open_calls(&self, kind: CallKind) -> Vec<(u64, u32, &Call)> {
        let mut open: Vec<_> = self
            .steps
            .values()
            .flat_map(|step| (0..).zip(&step.calls).map(move |(at, call)| (step.number, at, call)))
            .filter(|(_, _, call)| call.kind == kind && call.is_open())
            .collect();
        open.sort_unstable_by_key(|(step, at, call)| (call.id.as_ref().map(made_at), *step, *at));
        open
    }

    /// The failure that a join's broken fold left, to be settled when its turn comes.
    pub fn broken(&self, number: u64) -> Option<&TaskError> {
        self.steps.get(&number)?.broken.as_ref()
    }
}
