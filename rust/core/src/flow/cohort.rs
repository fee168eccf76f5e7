//! Cohorts: when a join starts, and what it starts with.

use std::collections::BTreeMap;

use super::apply::Effects;
use super::outcome::{StepError, TaskError};
use super::{Branch, Cohort, Flow, Status, View};
use crate::error::Result;
use crate::graph::{FailurePolicy, Target};
use crate::state::{Changes, Delta, Field, State};

/// How a cohort stands.
#[derive(Debug, PartialEq)]
enum Verdict {
    Open,
    Join,
    Fail,
}

impl Cohort {
    fn verdict(&self, policy: FailurePolicy) -> Verdict {
        let (arrived, failed) = (self.arrived.len() as u64, self.failed.len() as u64);
        let is_over = arrived + failed == self.size;
        match policy {
            FailurePolicy::First(n) if arrived >= n.max(1) => Verdict::Join,
            FailurePolicy::First(n) if self.size - failed < n.max(1) => Verdict::Fail,
            FailurePolicy::FailFast if failed > 0 => Verdict::Fail,
            _ if !is_over => Verdict::Open,
            FailurePolicy::Tolerate(n) if failed <= n => Verdict::Join,
            _ if failed > 0 => Verdict::Fail,
            _ => Verdict::Join,
        }
    }
}

impl Flow {
    pub(super) fn fail_branch(&mut self, branch: Branch, log: Delta, error: StepError) -> Result<()> {
        let cohort = self.cohort(branch.cohort)?;
        cohort.failed.insert(branch.ordinal, log);
        cohort.error.get_or_insert(error);
        Ok(())
    }

    /// Looks whether the cohort is decided, and moves what follows from it outward.
    pub(super) fn resolve_cohort(&mut self, source: u64, at: i64, effects: &mut Effects) -> Result<()> {
        let mut source = source;
        loop {
            let graph = self.graph.clone();
            let cohort = self.cohort(source)?;
            match cohort.verdict(cohort.policy(&graph)) {
                Verdict::Open => return Ok(()),
                Verdict::Join => {
                    self.join(source, at, effects);
                    return Ok(());
                }
                Verdict::Fail => match self.fail_cohort(source, effects)? {
                    Some(outer) => source = outer,
                    None => return Ok(()),
                },
            }
        }
    }

    fn join(&mut self, source: u64, at: i64, effects: &mut Effects) {
        let Some(mut cohort) = self.close(source, effects) else { return };
        let mut arrived = Delta::default();
        for (_, log) in std::mem::take(&mut cohort.arrived) {
            arrived.append(log);
        }
        arrived.without(&self.private_fields(&cohort));
        let folded = cohort.base.fold(&arrived, self.graph.reducers());
        let mut log = cohort.outer_log.clone();
        if cohort.outer.is_some() {
            log.append(arrived);
            log.compact(self.graph.reducers());
        }
        let (state, broken) = match folded {
            Ok(state) => (state, None),
            Err(error) => (cohort.base.clone(), Some(TaskError::engine("reducer", error.message))),
        };
        match cohort.target(&self.graph) {
            Target::Node(node) => {
                let not_before = cohort.not_before;
                let number = self.create_step(node, View::State(state), log, cohort.outer, not_before, at);
                if let Some(step) = self.steps.get_mut(&number) {
                    step.broken = broken;
                }
                effects.ready.push(number);
                effects.joined_source = Some(source);
                effects.joined = Some((number, self.graph.node(node).name.to_string()));
            }
            Target::End => match broken {
                None => self.end(Status::Completed, state),
                Some(error) => {
                    let node = self.graph.node(cohort.node).name.clone();
                    self.error = Some(StepError { error, node, step: cohort.source });
                    self.end(Status::Failed, state);
                }
            },
        }
    }

    /// Fails the cohort; gives the enclosing one that has to be looked at next.
    fn fail_cohort(&mut self, source: u64, effects: &mut Effects) -> Result<Option<u64>> {
        let done = self.partial_log(source);
        let Some(cohort) = self.close(source, effects) else { return Ok(None) };
        let error = cohort.error.clone().unwrap_or_else(|| StepError {
            error: TaskError::engine("no_match", "fewer branches can arrive than the fan-out asks for"),
            node: self.graph.node(cohort.node).name.clone(),
            step: cohort.source,
        });
        match cohort.outer {
            None => {
                let state = cohort.base.fold(&done, self.graph.reducers()).unwrap_or(cohort.base);
                self.error = Some(error);
                self.end(Status::Failed, state);
                Ok(None)
            }
            Some(branch) => {
                let mut log = cohort.outer_log;
                log.append(done);
                self.fail_branch(branch, log, error)?;
                Ok(Some(branch.cohort))
            }
        }
    }

    /// Takes the cohort out, with every step and cohort that is still open inside it.
    fn close(&mut self, source: u64, effects: &mut Effects) -> Option<Cohort> {
        let cohort = self.cohorts.remove(&source)?;
        if let Some(outer) = cohort.outer.and_then(|branch| self.cohorts.get_mut(&branch.cohort)) {
            outer.inner.remove(&source);
        }
        let mut dropped: Vec<u64> = cohort.steps.iter().copied().collect();
        let mut closed: Vec<u64> = cohort.inner.iter().copied().collect();
        while let Some(inside) = closed.pop().and_then(|source| self.cohorts.remove(&source)) {
            dropped.extend(&inside.steps);
            closed.extend(&inside.inner);
        }
        self.drop_steps(dropped, effects);
        Some(cohort)
    }

    /// The names that a `for_each` gives to its branches: gone after the join.
    fn private_fields(&self, cohort: &Cohort) -> Vec<Field> {
        self.graph.node(cohort.node).binds.iter().flatten().cloned().collect()
    }

    /// What the steps of a cohort have done so far, arrived or not, by place.
    fn partial_log(&self, source: u64) -> Delta {
        self.log_so_far(source, false)
    }

    /// The same; with `is_recorded` what steps that have not finished recorded before a park or a retry counts too.
    fn log_so_far(&self, source: u64, is_recorded: bool) -> Delta {
        let Some(cohort) = self.cohorts.get(&source) else { return Delta::default() };
        let mut branches: BTreeMap<u64, Delta> = BTreeMap::new();
        for (ordinal, log) in cohort.arrived.iter().chain(&cohort.failed) {
            branches.insert(*ordinal, log.clone());
        }
        let of = |branch: Option<Branch>| branch.filter(|b| b.cohort == source).map(|b| b.ordinal);
        for step in cohort.steps.iter().filter_map(|number| self.steps.get(number)) {
            let is_new = !step.log.is_empty() || (is_recorded && !step.changes.is_empty());
            if let Some(ordinal) = of(step.branch).filter(|_| is_new) {
                let mut log = step.log.clone();
                if is_recorded {
                    log.push(&step.changes);
                }
                branches.insert(ordinal, log);
            }
        }
        for inner in cohort.inner.iter().filter_map(|source| self.cohorts.get(source)) {
            if let Some(ordinal) = of(inner.outer) {
                let mut log = inner.outer_log.clone();
                log.append(self.log_so_far(inner.source, is_recorded));
                branches.insert(ordinal, log);
            }
        }
        let mut all = Delta::default();
        for (_, log) in branches {
            all.append(log);
        }
        all.without(&self.private_fields(cohort));
        all
    }

    /// The fold of everything that has completed: the output when the flow ends here.
    pub fn current_state(&self) -> State {
        self.state_so_far(false)
    }

    /// The state as readers see it: what parked steps recorded before they parked counts too.
    pub fn present_state(&self) -> State {
        self.state_so_far(true)
    }

    fn state_so_far(&self, is_recorded: bool) -> State {
        if let Some(output) = &self.output {
            return output.clone();
        }
        if let Some(step) = self.steps.values().find(|step| step.branch.is_none()) {
            let view = self.view(step);
            let recorded = is_recorded.then(|| self.state_after(step, &Changes::default()).ok()).flatten();
            return recorded.unwrap_or(view);
        }
        let trunk = self.cohorts.values().find(|cohort| cohort.outer.is_none());
        trunk
            .map(|cohort| {
                let done = self.log_so_far(cohort.source, is_recorded);
                cohort.base.fold(&done, self.graph.reducers()).unwrap_or_else(|_| cohort.base.clone())
            })
            .unwrap_or_default()
    }
}
