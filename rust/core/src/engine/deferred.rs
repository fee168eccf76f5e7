//! Children whose graph has to be asked for: the host finds graphs, and may take its time.
//!
//! Such a call is recorded with `deferred`; the child is created when the answer comes. Whoever owns the flow asks,
//! after every load again, so no answer has to be durable.

use super::{Engine, Serial};
use crate::batch::{After, Group};
use crate::flow::event::Control;
use crate::flow::{Call, CallError, CallKind};
use crate::ids::FlowId;

/// A child that waits for its graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The flow that calls it.
    pub parent: FlowId,
    /// The step that does.
    pub step: u64,
    /// The child's id.
    pub child: FlowId,
    /// The workflow that it is to run.
    pub workflow: String,
    /// The parent's baggage, JSON or nothing.
    pub baggage: Option<String>,
}

impl Engine {
    /// From now on unknown workflows of children are asked for by `take_wanted`.
    pub fn ask_for_graphs(&mut self) {
        self.asks_for_graphs = true;
    }

    /// The children whose graphs are asked for since the last time.
    pub fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.wanted)
    }

    /// The answer: the graph that the child is to run, or the code and message of its failure. Gives whether somebody
    /// waited for it.
    pub fn found_graph(
        &mut self,
        wanted: &Wanted,
        answer: std::result::Result<[u8; 32], (String, String)>,
        now_ms: i64,
    ) -> bool {
        let Some(serial) = self.index.get(&wanted.parent).copied() else { return false };
        let Some(live) = self.flows.get(&serial).filter(|live| !live.is_reloading && !live.is_stopping)
        else {
            return false;
        };
        let Some(step) = live.flow.step(wanted.step) else { return false };
        let is_it = |call: &Call| is_deferred(call) && call.id == Some(wanted.child);
        let Some(at) = step.calls.iter().position(is_it) else { return false };
        let call = step.calls[at].clone();
        let at = at as u32;
        let mut group = Group::default();
        let made = answer.and_then(|graph| {
            let workflow = wanted.workflow.as_str();
            let child = self.child(serial, wanted.step, wanted.child, graph, workflow, &call, now_ms);
            let child = child.ok_or_else(|| ("not_found".to_owned(), "its parent is gone".to_owned()))?;
            let created = self.create_in(child, &mut group);
            created.map_err(|error| (error.code.as_str().to_owned(), error.message))
        });
        match made {
            Ok(()) => {
                let control = Control::ChildStarted { step: wanted.step, child: wanted.child };
                self.control(serial, wanted.step, control, &mut group, now_ms);
            }
            Err((code, message)) => {
                let error = CallError { code, message, data: None };
                self.answer(serial, wanted.step, at, Err(error), &mut group, now_ms);
            }
        }
        self.enqueue(group);
        true
    }

    /// Marks the new calls whose graph is not known here and has to be asked for.
    pub(super) fn defer_calls(&self, calls: &mut [Call]) {
        for call in calls.iter_mut().filter(|call| call.kind == CallKind::Subgraph) {
            let is_known = call.target.as_deref().is_some_and(|name| self.workflow(name).is_some());
            call.is_deferred = self.asks_for_graphs && !is_known;
        }
    }

    /// Asks once the call is safe.
    pub(super) fn ask_for_graph(&self, serial: Serial, step: u64, group: &mut Group) {
        if let Some(live) = self.flows.get(&serial) {
            group.after(live.about.id, After::Ask { step });
        }
    }

    /// Asks for the graphs of a step's children, or says that there are none where nobody can be asked.
    pub(super) fn want_graphs(&mut self, serial: Serial, step: u64, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let Some(found) = live.flow.step(step) else { return };
        let wanted: Vec<Wanted> = found
            .calls
            .iter()
            .filter(|call| is_deferred(call))
            .filter_map(|call| {
                Some(Wanted {
                    parent: live.about.id,
                    step,
                    child: call.id?,
                    workflow: call.target.clone().unwrap_or_default(),
                    baggage: live.about.baggage.clone(),
                })
            })
            .collect();
        for wanted in wanted {
            if let Some(graph) = self.workflow(&wanted.workflow) {
                self.found_graph(&wanted, Ok(graph), now_ms);
            } else if self.asks_for_graphs {
                self.wanted.push(wanted);
            } else {
                let message = format!("no workflow is called {:?}", wanted.workflow);
                self.found_graph(&wanted, Err(("not_found".into(), message)), now_ms);
            }
        }
    }
}

/// Whether the call waits for its child's graph.
pub(super) fn is_deferred(call: &Call) -> bool {
    call.is_deferred && call.is_open()
}
