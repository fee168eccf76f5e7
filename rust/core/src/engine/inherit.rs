//! Children are held as their parents are: the word to them when that changes, and when they come back.

use super::deferred::is_deferred;
use super::mail::Body;
use super::sweep::Operable;
use super::{Engine, Serial};
use crate::batch::{After, Group, Op};
use crate::error::{Error, Result};
use crate::flow::event::Control;
use crate::flow::{Call, CallKind, Holds};
use crate::ids::{hex, unhex, FlowId};

impl Engine {
    /// The parent says how it is held. Words may overtake each other; the newest counts.
    pub(super) fn obey_inherit(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        self.inherit(serial, Holds::of(|name| body.get(name))?, group, now_ms);
        Ok(())
    }

    fn inherit(&mut self, serial: Serial, holds: Holds, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        if holds.version > live.flow.holds().version {
            self.control(serial, 0, Control::Inherit { holds }, group, now_ms);
        }
    }

    /// Tells all children that live how the flow is held. One that waits for its graph hears it when it is created.
    pub(super) fn tell_children(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let calls = live.flow.open_calls(CallKind::Subgraph);
        let started = calls.iter().filter(|(_, _, call)| !is_deferred(call));
        let children = started.filter_map(|(_, _, call)| call.id).collect();
        self.say_holds(serial, children, group, now_ms);
    }

    /// Tells these children how the flow is held.
    pub(super) fn say_holds(
        &mut self,
        serial: Serial,
        children: Vec<FlowId>,
        group: &mut Group,
        now_ms: i64,
    ) {
        let Some(live) = self.flows.get(&serial) else { return };
        let Control::Inherit { holds } = live.flow.word_to_children() else { return };
        for child in children {
            match self.operable(&child) {
                Operable::Here(serial) => self.inherit(serial, holds.clone(), group, now_ms),
                Operable::Stopping => group.after(child, After::Settle),
                Operable::Elsewhere => {
                    let mut body = String::from("{");
                    holds.write(&mut body);
                    body.push('}');
                    group.push(child, 0, Op::Message { kind: "inherit", body, at: now_ms });
                }
            }
        }
    }

    /// A child that had ended goes on: what its parent was told meanwhile it does not know. Parent and child go back
    /// in any order, so whichever is the later one sees to it.
    pub(super) fn ask_parent(&mut self, serial: Serial, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let Some((parent, step)) = live.about.parent else { return };
        let child = live.about.id;
        match self.operable(&parent) {
            Operable::Here(serial) => self.tell_back(serial, step, child, group, now_ms),
            Operable::Stopping => group.after(parent, After::Settle),
            Operable::Elsewhere => {
                let body = format!("{{\"child\":\"{}\",\"step\":{step}}}", hex(&child));
                group.push(parent, 0, Op::Message { kind: "child_back", body, at: now_ms });
            }
        }
    }

    pub(super) fn obey_child_back(
        &mut self,
        serial: Serial,
        body: &Body,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let child = body.text("child").and_then(|id| unhex(&id));
        let child = child.ok_or_else(|| Error::corrupt("a child that is back has no name"))?;
        let step = body.step().unwrap_or(0);
        self.tell_back(serial, step, child, group, now_ms);
        Ok(())
    }

    fn tell_back(&mut self, serial: Serial, step: u64, child: FlowId, group: &mut Group, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        let waits = |call: &Call| call.is_open() && call.id == Some(child);
        if live.flow.step(step).is_some_and(|step| step.calls.iter().any(waits)) {
            self.say_holds(serial, vec![child], group, now_ms);
        } else {
            // Should the event that says so be refused, then what the child has recorded goes back with it.
            group.after(live.about.id, After::Settle);
        }
    }
}
