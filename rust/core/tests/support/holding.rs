//! Somebody holds flows of the simulation, and lets them go.

use penstock_core::flow::event::Control;
use penstock_core::ids::{hex, FlowId};
use serde_json::json;

use super::cluster::Cluster;
use super::database::FlowRow;

impl Cluster {
    /// Some flows begin paused, some later.
    pub(super) fn first(&mut self) -> Vec<Control> {
        let mut first = Vec::new();
        if self.rng.chance(10) {
            first.push(Control::StartAt { at: self.now_ms + self.rng.below(300) as i64 });
        }
        if self.rng.chance(10) {
            first.push(Control::Pause { reason: "hold".into() });
        }
        first
    }

    /// Somebody pauses a tree, sets a breakpoint in it, or lets go of something.
    pub(super) fn hold(&mut self) {
        let rows = self.db.flows.values().filter(|row| row.about.parent.is_none());
        let roots: Vec<FlowId> = rows.map(|row| row.about.id).collect();
        if roots.is_empty() {
            return;
        }
        let root = *self.rng.pick(&roots);
        let bad = self.bad(20);
        let (kind, body) = match self.rng.below(5) {
            0 => ("pause", json!({"reason": format!("look{bad}")})),
            1 => ("unpause", json!({})),
            2 => return self.let_go(),
            on => {
                let plan = &self.plans[self.rng.below(3) as usize];
                ("break_before", json!({"node": self.rng.pick(&plan.nodes), "on": on == 3}))
            }
        };
        self.db.post(&root, kind, body.to_string(), self.now_ms);
    }

    /// Lets a held step go on.
    pub(super) fn let_go(&mut self) {
        let open = self.db.interrupts.iter().filter(|(id, _)| self.db.breakpoints.contains(*id));
        let held: Vec<(FlowId, FlowId)> = open.map(|(id, flow)| (*id, *flow)).collect();
        if held.is_empty() {
            return;
        }
        let (id, flow) = *self.rng.pick(&held);
        let over = self.bad(20);
        let body = json!({"interrupt_id": hex(&id), "overrides": {"over": over, "x": null}});
        self.db.post(&flow, "resume_break", body.to_string(), self.now_ms);
    }

    /// Lets every paused tree go on.
    pub(super) fn unpause(&mut self) {
        let is_paused = |row: &&FlowRow| row.about.parent.is_none() && row.status == "paused";
        let paused: Vec<FlowId> = self.db.flows.values().filter(is_paused).map(|row| row.about.id).collect();
        for flow in paused {
            self.db.post(&flow, "unpause", "{}".into(), self.now_ms);
        }
    }
}
