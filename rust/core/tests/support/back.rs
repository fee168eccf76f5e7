//! Somebody sends flows of a case back: the messages that the operations send.

use penstock_core::engine::{input_state, try_rewind};
use penstock_core::flow::rewind::{failed_steps, Origin};
use penstock_core::flow::{Event, EventBody, Status};
use penstock_core::ids::{flow_key, hex, FlowId};
use serde_json::{json, Value};

use super::rig::Rig;

impl Rig<'_> {
    /// Goes back by some operation, if it can.
    pub(super) fn send_back(&mut self, root: FlowId) {
        let what = *self.rng.pick(&["restart", "restart_from", "restart_from", "retry_step", "recover"]);
        let number = self.rng.below(9);
        let overrides = match self.rng.below(3) {
            0 => json!({"n": number, "x": null}),
            _ => json!({}),
        };
        let messages = match what {
            "restart" => vec![(root, json!({"what": what, "overrides": overrides}))],
            "recover" if self.db.flows[&root].status != "failed" => return,
            "recover" => self.recovery(root, &overrides),
            _ => {
                let steps = self.steps_to_go_back_to(what);
                if steps.is_empty() {
                    return;
                }
                let (flow, step) = *self.rng.pick(&steps);
                self.way_back(flow, &json!({"what": what, "step": step, "overrides": overrides}))
            }
        };
        let now_ms = self.now_ms;
        let would = |(flow, body): &(FlowId, Value)| {
            try_rewind(&self.origin(flow), &self.db.history(flow), &body.to_string(), now_ms).is_ok()
        };
        // Alone, it may be refused by the owner as well.
        if !messages.iter().all(would) && (messages.len() > 1 || self.rng.chance(80)) {
            return;
        }
        for (flow, body) in messages {
            *self.posted.entry("rewind").or_default() += 1;
            self.db.post_or_revive(&flow, "rewind", body.to_string(), now_ms);
        }
    }

    fn origin(&self, flow: &FlowId) -> Origin {
        let about = &self.db.flows[flow].about;
        let graph = self.db.graphs[&about.graph].clone();
        let input = input_state(&about.input, graph.reducers()).unwrap();
        Origin { graph, key: flow_key(1, flow).into(), input, created_at: about.created_at }
    }

    fn steps_to_go_back_to(&self, what: &str) -> Vec<(FlowId, u64)> {
        let mut steps: Vec<(FlowId, u64)> = if what == "restart_from" {
            self.places.keys().copied().collect()
        } else {
            let failed = self.past.facts.iter().flat_map(|(flow, facts)| {
                let is_failed = |event: &&Event| matches!(event.body, EventBody::Failed { .. });
                facts.iter().filter(is_failed).map(|event| (*flow, event.step))
            });
            failed.filter(|(flow, _)| !self.past.gone.contains_key(flow)).collect()
        };
        steps.sort_unstable();
        steps
    }

    /// The message to a flow, and those to the ones above that had gone on without it.
    fn way_back(&self, flow: FlowId, body: &Value) -> Vec<(FlowId, Value)> {
        let (mut messages, mut at) = (Vec::new(), flow);
        while let Some((parent, caller)) = self.db.flows[&at].about.parent {
            if !Status::parse(self.db.flows[&at].status).is_some_and(Status::is_finished) {
                break;
            }
            messages.insert(0, (parent, json!({"what": "reopen", "reopen": [[caller, hex(&at)]]})));
            at = parent;
        }
        let mut body = body.clone();
        body["is_awaited"] = json!(messages.is_empty() && self.db.flows[&flow].about.parent.is_some());
        messages.push((flow, body));
        messages
    }

    fn recovery(&self, flow: FlowId, overrides: &Value) -> Vec<(FlowId, Value)> {
        let (mut reopen, mut below) = (Vec::new(), Vec::new());
        for failure in failed_steps(&self.origin(&flow), &self.db.history(&flow)).unwrap() {
            for child in failure.children {
                if self.db.flows.get(&child).is_some_and(|row| row.status == "failed") {
                    reopen.push(json!([failure.step, hex(&child)]));
                    below.extend(self.recovery(child, overrides));
                }
            }
        }
        below.insert(0, (flow, json!({"what": "recover", "overrides": overrides, "reopen": reopen})));
        below
    }
}
