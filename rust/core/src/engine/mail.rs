//! Messages to a flow, and the verdicts on them.

use super::{Engine, Serial};
use crate::batch::{Group, Op};
use crate::error::{Code, Error, Result};
use crate::flow::{outcome, Event};
use crate::ids::FlowId;
use crate::json::{self, Value};
use crate::state::Field;

/// The kinds of messages that this version understands.
pub const MAIL_KINDS: [&str; 12] = [
    "resume",
    "signal",
    "cancel",
    "child_state",
    "child_result",
    "child_back",
    "pause",
    "unpause",
    "inherit",
    "break_before",
    "resume_break",
    "rewind",
];

/// How the verdict on a message begins that did what it asked.
pub(super) const DONE: &str = "{\"ok\":true";

/// That verdict, when there is no more to say.
const OBEYED: &str = "{\"ok\":true}";

/// The verdict on a rewind that met the flow between its end and the commit of that: the sender asks again.
pub(super) const AGAIN: &str = "{\"ok\":false,\"code\":\"conflict\",\"message\":\"the flow has just stopped; ask again\",\"again\":true}";

/// A message as it lies in the inbox.
#[derive(Debug)]
pub struct Mail {
    /// Its number within the flow.
    pub seq: i64,
    /// What it asks.
    pub kind: String,
    /// JSON object.
    pub body: String,
}

impl Engine {
    /// Handles the unanswered messages of a flow. `seen` is its `mail` as read in the same snapshot as they were.
    /// Gives whether the flow is owned here.
    pub fn deliver(&mut self, flow: &FlowId, seen: i64, mail: Vec<Mail>, now_ms: i64) -> bool {
        let Some(serial) = self.index.get(flow).copied() else { return false };
        if self.flows.get(&serial).is_none_or(|live| live.is_reloading) {
            return false;
        }
        let handled = self.flows.get(&serial).map_or(0, |live| live.handled);
        if mail.iter().any(|message| message.seq > handled) {
            self.cancel_release(serial);
        }
        for message in mail {
            self.take_in_turn(serial, message, now_ms);
        }
        if let Some(live) = self.flows.get_mut(&serial) {
            match &mut live.history {
                Some(history) => history.seen = history.seen.max(seen),
                None => live.seen = live.seen.max(seen),
            }
        }
        self.consider_release(serial, now_ms);
        true
    }

    pub(super) fn handle(&mut self, serial: Serial, message: &Mail, events: Option<&[Event]>, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial).filter(|live| message.seq > live.handled) else {
            return;
        };
        live.handled = message.seq;
        let (flow, claims) = (live.about.id, live.claims);
        let mut group = Group::default();
        let is_blamed = live.blamed_mail.contains(&message.seq);
        let obeyed = if is_blamed && message.kind != "child_result" {
            let kind = &message.kind;
            Err(Error::invalid(format!(
                "the database refused what {kind} would have written; change its text"
            )))
        } else if message.kind == "rewind" && live.is_stopping {
            Ok(AGAIN.to_owned())
        } else if let Some(events) = events.filter(|_| message.kind == "rewind") {
            self.obey_rewind(serial, message, events, &mut group, now_ms)
        } else {
            self.obey(serial, message, is_blamed, &mut group, now_ms).map(|()| OBEYED.to_owned())
        };
        let verdict = obeyed.unwrap_or_else(|error| refusal(&error));
        group.push(flow, claims, Op::Verdict { seq: message.seq, verdict, at: now_ms });
        self.enqueue(group);
    }

    fn obey(
        &mut self,
        serial: Serial,
        message: &Mail,
        is_blamed: bool,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(gone()) };
        let status = live.flow.status();
        let body = Body(json::object_fields(&message.body)?);
        if status.is_finished() && !message.kind.starts_with("child_") {
            let (key, status) = (live.flow.key(), status.as_str());
            let reason = live.flow.cancel_reason().filter(|reason| !reason.is_empty());
            let why = reason.map_or(String::new(), |reason| format!(" (\"{reason}\")"));
            return Err(Error::conflict(format!(
                "{} came too late: flow {key} is {status}{why}",
                message.kind
            )));
        }
        match &*message.kind {
            "resume" => self.obey_resume(serial, &body, group, now_ms),
            "signal" => self.obey_signal(serial, &body, group, now_ms),
            "child_state" => self.obey_child_state(serial, &message.body, group, now_ms),
            "cancel" => {
                if let Some(wanted) = body.text("if_status").filter(|wanted| *wanted != status.as_str()) {
                    let (key, status) = (live.flow.key(), status.as_str());
                    return Err(Error::conflict(format!("flow {key} is {status} and not {wanted} any more")));
                }
                let reason = body.reason();
                self.cancel(serial, &reason, group, now_ms);
                Ok(())
            }
            "child_result" => self.obey_child_result(serial, &body, is_blamed, group, now_ms),
            "child_back" => self.obey_child_back(serial, &body, group, now_ms),
            "pause" => self.obey_pause(serial, &body, group, now_ms),
            "unpause" => self.obey_unpause(serial, group, now_ms),
            "inherit" => self.obey_inherit(serial, &body, group, now_ms),
            "break_before" => self.obey_break_before(serial, &body, group, now_ms),
            "resume_break" => self.obey_resume_break(serial, &body, group, now_ms),
            other => Err(Error::invalid(format!("this engine knows no operation {other:?}; upgrade it"))),
        }
    }
}

/// The members of a message.
pub(super) struct Body(pub(super) Vec<(Field, Value)>);

impl Body {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| &**field == name).map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_null()).map(outcome::text)
    }

    /// The step that it is about, where it names one.
    pub(super) fn step(&self) -> Option<u64> {
        self.get("step")?.raw().parse().ok()
    }

    /// Why, in the caller's words. A column cannot hold a NUL.
    pub(super) fn reason(&self) -> String {
        self.text("reason").unwrap_or_default().replace('\0', "\u{fffd}")
    }
}

/// The refusal of a message to a flow that is not here any more.
pub(super) fn gone() -> Error {
    Error::conflict("the flow is gone")
}

fn refusal(error: &Error) -> String {
    let code = if error.code == Code::Corrupt { "invalid" } else { error.code.as_str() };
    let mut out = format!("{{\"ok\":false,\"code\":\"{code}\",\"message\":");
    json::escape(&error.message, &mut out);
    out.push('}');
    out
}
