//! Children: how they start, and what they tell their parents.
//!
//! A child tells its parent two things, each in the commit of the event that makes it true: that a question was opened
//! in its tree or the last one closed, and its outcome. In memory when both are owned here, else by a message.

use super::sweep::Operable;
use super::{Engine, Serial};
use crate::batch::{After, Group, NewFlow, Op};
use crate::error::{Error, Result};
use crate::flow::event::{Control, EventBody};
use crate::flow::{Call, CallError, Status};
use crate::ids::{hex, unhex, FlowId};
use crate::json::Value;

use super::mail::Body;

impl Engine {
    /// Creates the child of a call; where that cannot be, the call fails.
    pub(super) fn start_child(
        &mut self,
        serial: Serial,
        step: u64,
        at: u32,
        call: &Call,
        group: &mut Group,
        now_ms: i64,
    ) {
        let workflow = call.target.clone().unwrap_or_default();
        let made = match (self.workflow(&workflow), call.id) {
            (Some(graph), Some(id)) => self.child(serial, step, id, graph, &workflow, call, now_ms),
            _ => None,
        };
        let outcome = if let Some(child) = made {
            self.create_in(child, group).map_err(|error| (error.code.as_str(), error.message))
        } else {
            let known: Vec<&str> = self.graphs.workflows().take(20).collect();
            Err(("not_found", format!("no workflow is called {workflow:?}; known are {known:?}")))
        };
        if let Err((code, message)) = outcome {
            let error = CallError { code: code.into(), message, data: None };
            self.answer(serial, step, at, Err(error), group, now_ms);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different part of the new flow")]
    pub(super) fn child(
        &self,
        serial: Serial,
        step: u64,
        id: FlowId,
        graph: [u8; 32],
        workflow: &str,
        call: &Call,
        now_ms: i64,
    ) -> Option<NewFlow> {
        let live = self.flows.get(&serial)?;
        let parent = &live.about;
        Some(NewFlow {
            id,
            root: parent.root,
            parent: Some((parent.id, step)),
            workflow: workflow.to_owned(),
            graph,
            priority: parent.priority,
            fairness_key: parent.fairness_key.clone(),
            fairness_weight: parent.fairness_weight,
            time_budget_ms: parent.time_budget_ms,
            thread: id,
            turn: 1,
            tags: None,
            input: call.payload.as_ref().map_or_else(|| "{}".to_owned(), |input| input.raw().to_owned()),
            baggage: parent.baggage.clone(),
            trace_parent: parent.trace_parent.clone(),
            notify: None,
            delete_on_completion: false,
            created_at: now_ms,
            first: live.flow.inherited().into_iter().collect(),
        })
    }

    /// Gives a finished child's outcome to the parent: at once when it is owned here, else as a message.
    pub(super) fn answer_parent(
        &mut self,
        child: Serial,
        parent: FlowId,
        step: u64,
        group: &mut Group,
        now_ms: i64,
    ) {
        let Some(live) = self.flows.get(&child) else { return };
        let id = live.about.id;
        let answer = match (live.flow.status(), live.flow.error()) {
            (Status::Completed, _) => Ok(Value::from_raw_unchecked(live.flow.current_state().to_json())),
            (_, Some(failed)) => Err(CallError {
                code: failed.error.code.to_string(),
                message: failed.error.message.to_string(),
                data: failed.error.data.clone(),
            }),
            _ => {
                let reason = live.flow.cancel_reason().unwrap_or_default();
                Err(CallError {
                    code: "cancelled".into(),
                    message: format!("the child was cancelled: {reason}"),
                    data: None,
                })
            }
        };
        match self.operable(&parent) {
            Operable::Here(serial) => {
                if !self.answer_child_call(serial, step, &id, answer, group, now_ms) {
                    // Nobody waits. Should the event that says so be refused, then this one goes back with it.
                    group.after(parent, After::Settle);
                }
            }
            Operable::Stopping => group.after(parent, After::Settle),
            Operable::Elsewhere => group.push(parent, 0, child_result(&id, step, &answer, now_ms)),
        }
    }

    /// Answers the open subgraph call that waits for `child`.
    pub(super) fn answer_child_call(
        &mut self,
        serial: Serial,
        step: u64,
        child: &FlowId,
        answer: std::result::Result<Value, CallError>,
        group: &mut Group,
        now_ms: i64,
    ) -> bool {
        let found = self.flows.get(&serial).and_then(|live| live.flow.step(step));
        let call = found.and_then(|step| step.calls.iter().position(|call| call.id.as_ref() == Some(child)));
        call.is_some_and(|call| self.answer(serial, step, call as u32, answer, group, now_ms))
    }

    /// Tells the parent, when that has changed, whether a question is open in the flow's tree.
    pub(super) fn tell_parent(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let (is_asking, ord, child) = (live.flow.is_asking(), live.flow.ord(), live.about.id);
        let Some((parent, step)) = live.about.parent.filter(|_| is_asking != live.told_parent) else {
            return;
        };
        live.told_parent = is_asking;
        let state = Control::ChildState { step, child, ord, is_asking };
        match self.operable(&parent) {
            Operable::Here(serial) => self.note_child(serial, state, group, now_ms),
            Operable::Stopping => group.after(parent, After::Settle),
            Operable::Elsewhere => {
                let body = EventBody::Control(state).to_json("");
                group.push(parent, 0, Op::Message { kind: "child_state", body, at: now_ms });
            }
        }
    }

    /// Records what a child says of itself, unless a newer word has come already, or nobody waits for the child.
    pub(super) fn note_child(&mut self, serial: Serial, state: Control, group: &mut Group, now_ms: i64) {
        let Control::ChildState { step, child, ord, .. } = &state else { return };
        let Some(live) = self.flows.get(&serial) else { return };
        let Some(found) = live.flow.step(*step) else { return };
        let call = found.calls.iter().find(|call| call.is_open() && call.id.as_ref() == Some(child));
        // An older word may still be on its way as a message, so each that is newer counts, whatever it says.
        let is_news = |call: &Call| call.below.is_none_or(|(known, _)| known < *ord);
        if call.is_some_and(is_news) {
            self.control(serial, *step, state, group, now_ms);
        } else {
            // Should the event that says so be refused, then what the child has recorded goes back with it.
            group.after(live.about.id, After::Settle);
        }
    }

    pub(super) fn obey_child_state(
        &mut self,
        serial: Serial,
        body: &str,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        match EventBody::from_json("control", body)? {
            EventBody::Control(state @ Control::ChildState { .. }) => {
                self.note_child(serial, state, group, now_ms);
                Ok(())
            }
            _ => Err(Error::corrupt("a child's state says nothing of a child")),
        }
    }

    pub(super) fn obey_child_result(
        &mut self,
        serial: Serial,
        body: &Body,
        is_blamed: bool,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let child = body.text("child").and_then(|id| unhex(&id));
        let child = child.ok_or_else(|| Error::corrupt("a child's result names no child"))?;
        let step = body.step().unwrap_or(0);
        let answer = match (body.get("answer"), body.get("error")) {
            // The parent waits for something: it is told that it cannot have the answer.
            _ if is_blamed => Err(CallError {
                code: "refused".into(),
                message: "the database refused the child's result; let it return less, or other text".into(),
                data: None,
            }),
            (_, Some(error)) => Err(CallError::from_json(error)?),
            (answer, None) => Ok(answer.cloned().unwrap_or_else(Value::null)),
        };
        // A child of a step that was rewound or cancelled since has nobody to tell.
        self.answer_child_call(serial, step, &child, answer, group, now_ms);
        Ok(())
    }
}

fn child_result(
    child: &FlowId,
    step: u64,
    answer: &std::result::Result<Value, CallError>,
    now_ms: i64,
) -> Op {
    let mut body = format!("{{\"child\":\"{}\",\"step\":{step},", hex(child));
    match answer {
        Ok(value) => {
            body.push_str("\"answer\":");
            body.push_str(value.raw());
        }
        Err(error) => {
            body.push_str("\"error\":");
            error.write_json(&mut body);
        }
    }
    body.push('}');
    Op::Message { kind: "child_result", body, at: now_ms }
}
