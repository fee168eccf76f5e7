//! Messages to a flow, and the verdicts on them.

use super::{Engine, Serial};
use crate::batch::{Group, Op};
use crate::error::{Code, Error, Result};
use crate::flow::{outcome, CallError, CallKind};
use crate::ids::{unhex, FlowId};
use crate::json::{self, Value};
use crate::state::Field;

/// The kinds of messages that this version understands.
pub const MAIL_KINDS: [&str; 8] =
    ["resume", "cancel", "child_result", "pause", "unpause", "inherit", "break_before", "resume_break"];

/// The verdict on a message that did what it asked.
pub(super) const OBEYED: &str = "{\"ok\":true}";

/// A message as it lies in the inbox.
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
            self.handle(serial, flow, &message, now_ms);
        }
        if let Some(live) = self.flows.get_mut(&serial) {
            live.seen = live.seen.max(seen);
        }
        self.consider_release(serial, now_ms);
        true
    }

    fn handle(&mut self, serial: Serial, flow: &FlowId, message: &Mail, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial).filter(|live| message.seq > live.handled) else {
            return;
        };
        live.handled = message.seq;
        let claims = live.claims;
        let mut group = Group::default();
        let is_blamed = live.blamed_mail.contains(&message.seq);
        let obeyed = if is_blamed && message.kind != "child_result" {
            let kind = &message.kind;
            Err(Error::invalid(format!(
                "the database refused what {kind} would have written; change its text"
            )))
        } else {
            self.obey(serial, message, is_blamed, &mut group, now_ms)
        };
        let verdict = match obeyed {
            Ok(()) => OBEYED.to_owned(),
            Err(error) => refusal(&error),
        };
        group.push(*flow, claims, Op::Verdict { seq: message.seq, verdict, at: now_ms });
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
        let Some(live) = self.flows.get(&serial) else { return Err(Error::conflict("the flow is gone")) };
        let status = live.flow.status();
        let body = Body(json::object_fields(&message.body)?);
        if status.is_finished() && message.kind != "child_result" {
            let (key, status) = (live.flow.key(), status.as_str());
            let why = live.flow.cancel_reason().map_or(String::new(), |reason| format!(" ({reason:?})"));
            return Err(Error::conflict(format!(
                "{} came too late: flow {key} is {status}{why}",
                message.kind
            )));
        }
        match &*message.kind {
            "resume" => self.obey_resume(serial, &body, group, now_ms),
            "cancel" => {
                let reason = body.reason();
                self.cancel(serial, &reason, group, now_ms);
                Ok(())
            }
            "child_result" => self.obey_child_result(serial, &body, is_blamed, group, now_ms),
            "pause" => self.obey_pause(serial, &body, group, now_ms),
            "unpause" => self.obey_unpause(serial, group, now_ms),
            "inherit" => self.obey_inherit(serial, &body, group, now_ms),
            "break_before" => self.obey_break_before(serial, &body, group, now_ms),
            "resume_break" => self.obey_resume_break(serial, &body, group, now_ms),
            other => Err(Error::invalid(format!("this engine knows no operation {other:?}; upgrade it"))),
        }
    }

    fn obey_resume(&mut self, serial: Serial, body: &Body, group: &mut Group, now_ms: i64) -> Result<()> {
        let Some(live) = self.flows.get(&serial) else { return Err(Error::conflict("the flow is gone")) };
        let key = live.flow.key().clone();
        let wanted = match body.text("interrupt_id") {
            Some(id) => Some(unhex(&id).ok_or_else(|| {
                Error::conflict(format!("interrupt {id:?} of flow {key} is not open; there is no such id"))
            })?),
            None => None,
        };
        let open = live.flow.open_calls(CallKind::Interrupt);
        let found = open.iter().find(|(_, _, call)| wanted.is_none() || call.id == wanted);
        let (step, call) = found.map(|(step, call, _)| (*step, *call)).ok_or_else(|| {
            Error::conflict(match wanted {
                Some(id) if live.flow.held_as(&id).is_some() => held_instead(&key),
                None if !live.flow.held().is_empty() => held_instead(&key),
                Some(id) => format!(
                    "interrupt {} of flow {key} is not open; it was answered or it lapsed",
                    crate::ids::hex(&id)
                ),
                None => {
                    format!("flow {key} has no open interrupt; it was answered already, or none was asked")
                }
            })
        })?;
        let answer = body.get("answer").cloned().unwrap_or_else(Value::null);
        self.answer(serial, step, call, Ok(answer), group, now_ms);
        Ok(())
    }

    fn obey_child_result(
        &mut self,
        serial: Serial,
        body: &Body,
        is_blamed: bool,
        group: &mut Group,
        now_ms: i64,
    ) -> Result<()> {
        let child = body.text("child").and_then(|id| unhex(&id));
        let child = child.ok_or_else(|| Error::corrupt("a child's result names no child"))?;
        let step = body.get("step").and_then(|step| step.raw().parse().ok()).unwrap_or(0);
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

/// The members of a message.
pub(super) struct Body(Vec<(Field, Value)>);

impl Body {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| &**field == name).map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_null()).map(outcome::text)
    }
}

impl Body {
    /// Why, in the caller's words. A column cannot hold a NUL.
    pub(super) fn reason(&self) -> String {
        self.text("reason").unwrap_or_default().replace('\0', "\u{fffd}")
    }
}

fn held_instead(key: &str) -> String {
    format!("a breakpoint holds flow {key}, and takes no answer; let it go by resume_break()")
}

fn refusal(error: &Error) -> String {
    let code = if error.code == Code::Corrupt { "invalid" } else { error.code.as_str() };
    let mut out = format!("{{\"ok\":false,\"code\":\"{code}\",\"message\":");
    json::escape(&error.message, &mut out);
    out.push('}');
    out
}
