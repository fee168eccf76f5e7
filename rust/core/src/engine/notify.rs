//! Telling the host that a flow stopped: a row of the outbox, in the commit of the stop itself.

use super::{Engine, Serial};
use crate::batch::{Group, Op};
use crate::flow::Status;
use crate::ids::hex;
use crate::json;

/// The outbox's name for it.
pub const FLOW_STOPPED: &str = "flow_stopped";

impl Engine {
    /// Adds the row when the flow has stopped and somebody wants to know. It holds the whole outcome, because the flow
    /// may be restarted or deleted before it is delivered.
    pub(super) fn notify(&mut self, serial: Serial, group: &mut Group) {
        let Some(live) = self.flows.get(&serial) else { return };
        let (Some(address), None) = (&live.about.notify, live.about.parent) else { return };
        let status = live.flow.status();
        if !status.is_finished() && status != Status::Interrupted {
            return;
        }
        let mut body = String::from("{\"address\":");
        json::escape(address, &mut body);
        body.push_str(",\"workflow\":");
        json::escape(&live.about.workflow, &mut body);
        body.push_str(",\"thread\":\"");
        body.push_str(&hex(&live.about.thread));
        body.push_str("\",\"status\":\"");
        body.push_str(status.as_str());
        body.push_str("\",\"state\":");
        body.push_str(&live.flow.current_state().to_json());
        if let Some(error) = live.flow.error() {
            body.push_str(",\"error\":");
            body.push_str(&error.to_json(live.flow.key(), true));
        }
        if let Some(reason) = live.flow.cancel_reason() {
            body.push_str(",\"cancel_reason\":");
            json::escape(reason, &mut body);
        }
        body.push('}');
        let op = Op::Outbox { topic: FLOW_STOPPED, ord: live.flow.ord(), body };
        group.push(live.about.id, live.claims, op);
        group.after(live.about.id, crate::batch::After::Notify);
    }
}
