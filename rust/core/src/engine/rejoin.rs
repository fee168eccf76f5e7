//! Losing flows: all of them when this replica was declared dead, one that somebody else came to own.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::{released_flows, slots, Engine, Report};
use crate::ids::FlowId;
use crate::scheduler::{Scheduler, Timers};

impl Engine {
    /// Goes on as the replica `replica`, a stranger that owns nothing: everything about flows and workers is
    /// forgotten, graphs, tasks and waits are kept. Numbers go on, so a result from before matches nothing.
    ///
    /// Gives the flows whose creation was waited for and is lost.
    pub fn rejoin(&mut self, replica: i64) -> Vec<FlowId> {
        self.options.replica = replica;
        self.flows.clear();
        self.index.clear();
        self.running.clear();
        self.workers.clear();
        self.released = released_flows(&self.options);
        self.pending = VecDeque::new();
        self.timers = Timers::new();
        self.scheduler = Scheduler::new(slots(&self.options));
        for (name, kind) in self.known_tasks.clone() {
            self.set_task(&name, kind);
        }
        if let Some(kind) = self.default_kind {
            self.set_default_kind(kind);
        }
        self.report = Report::default();
        self.creating.drain().collect()
    }

    /// Forgets a flow that the database says is not owned here, and its rows that wait to be written. Gives the
    /// flows whose rows were bound to those: they must be loaded again.
    pub fn drop_flow(&mut self, flow: &FlowId) -> Vec<FlowId> {
        let Some(serial) = self.index.get(flow).copied() else { return Vec::new() };
        let (mut bound, mut created) = (FxHashSet::from_iter([*flow]), FxHashSet::default());
        self.purge(&mut bound, &mut created);
        let steps = self.flows.get(&serial).map(|live| live.flow.steps().map(|step| step.number).collect::<Vec<_>>());
        self.drop_steps(serial, &steps.unwrap_or_default());
        self.cancel_timers(serial);
        self.forget(serial, flow);
        bound.remove(flow);
        for other in &bound {
            if let Some(live) = self.index.get(other).and_then(|serial| self.flows.get_mut(serial)) {
                live.is_reloading = true;
            }
        }
        bound.into_iter().collect()
    }
}
