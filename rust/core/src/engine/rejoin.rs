//! Losing flows: all of them when this replica was declared dead, one that somebody else came to own.

use std::collections::VecDeque;

use super::{released_flows, slots, Engine, Report};
use crate::ids::FlowId;
use crate::scheduler::Timers;

impl Engine {
    /// Goes on as the replica `replica`, a stranger that owns nothing: everything about flows and workers is
    /// forgotten, graphs, tasks and waits are kept. Numbers go on, so a result from before matches nothing.
    ///
    /// Gives the flows that were being created: none of them is known to be stored.
    pub fn rejoin(&mut self, replica: i64) -> Vec<FlowId> {
        self.options.replica = replica;
        self.flows.clear();
        self.index.clear();
        self.running.clear();
        self.to_send.clear();
        self.workers.clear();
        self.released = released_flows(&self.options);
        self.pending = VecDeque::new();
        self.in_flight.clear();
        self.reloads.clear();
        self.histories.clear();
        self.timers = Timers::new();
        self.places = super::places::Places::default();
        self.scheduler.start_anew(slots(&self.options));
        for (name, kind) in self.known_tasks.clone() {
            self.set_task(&name, kind);
        }
        if let Some(kind) = self.default_kind {
            self.set_default_kind(kind);
        }
        self.report = Report::default();
        self.wanted.clear();
        self.overdue.clear();
        self.unstored.extend(self.creating.drain());
        self.unstored.drain().collect()
    }

    /// Forgets a flow that the database says is not owned here, and its rows that wait to be written. Gives the
    /// flows whose rows were bound to those: they must be loaded again. Those of which rows are under way are reported
    /// with the answer to these.
    pub fn drop_flow(&mut self, flow: &FlowId) -> Vec<FlowId> {
        self.abandon(flow);
        self.ready_reloads()
    }
}
