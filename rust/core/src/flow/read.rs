//! Looking at a flow.

use std::sync::Arc;

use super::park::Call;
use super::{Flow, Status, Step, StepError, View};
use crate::graph::Graph;
use crate::json::Value;
use crate::state::State;

impl Flow {
    /// Its graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Its key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Order number of its newest event.
    pub fn ord(&self) -> u64 {
        self.ord
    }

    /// Takes the next order number for a row that changes nothing: a snapshot.
    pub fn skip_ord(&mut self) -> u64 {
        self.ord += 1;
        self.ord
    }

    /// Sets how many steps it may create.
    pub fn limit_steps(&mut self, max_steps: u64) {
        self.max_steps = max_steps;
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        match self.status {
            Status::Running if self.is_paused() => Status::Paused,
            Status::Running if self.is_asking() => Status::Interrupted,
            status => status,
        }
    }

    /// Whether it lives and somebody is asked something, in it or below: a question, or a breakpoint that holds a step.
    pub fn is_asking(&self) -> bool {
        self.status == Status::Running && self.open_interrupts > 0
    }

    /// Why it failed.
    pub fn error(&self) -> Option<&StepError> {
        self.error.as_ref()
    }

    /// Why it was cancelled.
    pub fn cancel_reason(&self) -> Option<&str> {
        self.cancel_reason.as_deref()
    }

    /// A live step.
    pub fn step(&self, number: u64) -> Option<&Step> {
        self.steps.get(&number)
    }

    /// Its live steps, in no order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.values()
    }

    /// How many steps are live.
    pub fn live_steps(&self) -> usize {
        self.steps.len()
    }

    /// The state that a step sees.
    pub fn view(&self, step: &Step) -> State {
        match &step.view {
            View::State(state) => state.clone(),
            View::Element { edge, index, count, value } => {
                let cohort = step.branch.and_then(|branch| self.cohorts.get(&branch.cohort));
                let mut state = cohort.map(|cohort| cohort.base.clone()).unwrap_or_default();
                let [bind, bind_index, bind_count] = &self.graph.each_edge(*edge).bind;
                state.set(bind.clone(), value.clone());
                state.set(bind_index.clone(), Value::int(*index as i64));
                state.set(bind_count.clone(), Value::int(*count as i64));
                state
            }
        }
    }

    /// The names of the nodes it stands at, sorted, each once.
    pub fn position(&self) -> Vec<&str> {
        let counted = self.graph.nodes().iter().zip(&self.standing);
        let mut nodes: Vec<&str> =
            counted.filter(|(_, steps)| **steps > 0).map(|(node, _)| &*node.name).collect();
        nodes.sort_unstable();
        nodes
    }

    /// The next instant at which something happens by itself, among steps that wait. Nothing does in a paused flow.
    pub fn next_due(&self) -> Option<i64> {
        if self.is_paused() {
            return None;
        }
        let delayed = self.steps.values().filter(|step| step.is_runnable() && step.not_before > 0);
        let calls = self.steps.values().flat_map(|step| step.calls.iter().filter(|call| call.is_open()));
        delayed.map(|step| step.not_before).chain(calls.filter_map(|call: &Call| call.due)).min()
    }
}
