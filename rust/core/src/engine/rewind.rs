//! Operations that go back: they wait until the whole journal is at hand, and so does the mail behind them.

use super::mail::{gone, Body, Mail, AGAIN};
use super::{Engine, Serial};
use crate::batch::{After, Group, Op};
use crate::error::{Error, Result};
use crate::flow::event::{Control, Event};
use crate::flow::rewind::{rewind, Back, Origin, Wish};
use crate::flow::Flow;
use crate::ids::{unhex, FlowId};
use crate::json::{self, Value};
use crate::state::{Change, Changes, Delta, ReduceError, Reducers, State};

/// Mail that waits for the journal, and what the journal in the database may lack by then.
#[derive(Debug)]
pub(crate) struct History {
    /// The flow's newest event when the first message came.
    pub from: u64,
    /// Events since.
    pub tail: Vec<Event>,
    /// The messages in order.
    pub mail: Vec<Mail>,
    /// Mail counted by then.
    pub seen: i64,
}

impl Engine {
    /// Handles a message, or has it wait: for the journal, or behind one that does.
    pub(super) fn take_in_turn(&mut self, serial: Serial, message: Mail, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let last = live.history.as_ref().and_then(|history| history.mail.last());
        if message.seq <= live.handled || last.is_some_and(|last| message.seq <= last.seq) {
            return;
        }
        if let Some(history) = &mut live.history {
            history.mail.push(message);
        } else if message.kind == "rewind" && !live.blamed_mail.contains(&message.seq) && !live.is_stopping {
            let (from, seen) = (live.flow.ord(), live.seen);
            live.history = Some(Box::new(History { from, tail: Vec::new(), mail: vec![message], seen }));
            self.histories.insert(live.about.id);
        } else {
            self.handle(serial, &message, None, now_ms);
        }
    }

    /// The flows whose whole journal is wanted and can be read by now: what they had settled is committed.
    pub fn wanted_histories(&mut self) -> Vec<FlowId> {
        let find = |flow: &FlowId| self.index.get(flow).and_then(|serial| self.flows.get(serial));
        self.histories.retain(|flow| find(flow).is_some_and(|live| live.history.is_some()));
        let is_ready = |live: &super::Live| {
            !live.is_reloading && live.history.as_ref().is_some_and(|history| live.committed >= history.from)
        };
        let mut ready: Vec<FlowId> =
            self.histories.iter().copied().filter(|flow| find(flow).is_some_and(is_ready)).collect();
        ready.sort_unstable();
        ready
    }

    /// Takes a flow's journal, as the database has it from ord 1 on, and handles the mail that waited for it.
    pub fn tell_history(&mut self, flow: &FlowId, mut events: Vec<Event>, now_ms: i64) {
        let Some(serial) = self.index.get(flow).copied() else { return };
        let Some(live) = self.flows.get_mut(&serial).filter(|live| !live.is_reloading) else { return };
        let newest = events.last().map_or(0, |event| event.ord);
        let Some(history) = live.history.take_if(|history| newest >= history.from) else { return };
        let History { tail, mail, mut seen, .. } = *history;
        events.extend(tail.into_iter().filter(|event| event.ord > newest));
        // While they are handled, what they record is part of the journal of the next.
        for message in mail {
            if let Some(live) = self.flows.get_mut(&serial) {
                let from = live.flow.ord();
                live.history = Some(Box::new(History { from, tail: Vec::new(), mail: Vec::new(), seen }));
            }
            self.handle(serial, &message, Some(&events), now_ms);
            let Some(done) = self.flows.get_mut(&serial).and_then(|live| live.history.take()) else { return };
            events.extend(done.tail);
            seen = done.seen;
        }
        if let Some(live) = self.flows.get_mut(&serial) {
            live.seen = live.seen.max(seen);
        }
        self.consider_release(serial, now_ms);
    }

    /// Ends a flow that is over and has no mail that could change that: whose end waited for its mail, or that was
    /// revived in vain.
    pub(super) fn rest_again(&mut self, serial: Serial, now_ms: i64) {
        let Some(live) = self.flows.get(&serial) else { return };
        if live.is_revived {
            self.lapse(serial, now_ms);
        } else {
            let mut group = Group::default();
            self.stop(serial, &mut group, now_ms);
            self.enqueue(group);
        }
    }

    /// Goes back, and gives the verdict.
    pub(super) fn obey_rewind(
        &mut self,
        serial: Serial,
        message: &Mail,
        events: &[Event],
        group: &mut Group,
        now_ms: i64,
    ) -> Result<String> {
        let body = Body(json::object_fields(&message.body)?);
        let wish = read_wish(&body)?;
        let is_awaited = body.get("is_awaited").is_some_and(|value| value.raw() == "true");
        let is_over = self.flows.get(&serial).is_some_and(|live| live.flow.status().is_finished());
        if is_awaited && is_over {
            // It ended since, and its parent went on: that one has to go back too.
            return Ok(AGAIN.to_owned());
        }
        let made = self.decide(serial, now_ms, |live, context| {
            let origin = Origin {
                graph: live.entry.graph.clone(),
                key: live.flow.key().clone(),
                input: super::input_state(&live.about.input, live.entry.graph.reducers())?,
                created_at: live.about.created_at,
            };
            rewind(&origin, events, &live.flow, &wish, now_ms, context.new_id)
        });
        let made = made.ok_or_else(gone)??;
        let count = made.steps.len();
        let Some(live) = self.flows.get_mut(&serial) else { return Err(gone()) };
        live.is_revived = false;
        self.control(serial, 0, Control::Rewind(Box::new(made)), group, now_ms);
        Ok(format!("{{\"ok\":true,\"steps\":{count}}}"))
    }

    /// Sets going again what steps wait for that had been dropped.
    pub(super) fn revived(&mut self, serial: Serial, steps: &[u64], group: &mut Group, now_ms: i64) {
        for step in steps {
            let calls =
                self.flows.get(&serial).and_then(|live| live.flow.step(*step)).map(|step| &step.calls);
            let open: Vec<usize> = calls
                .into_iter()
                .flat_map(|calls| calls.iter().enumerate().filter(|(_, call)| call.is_open_interrupt()))
                .map(|(at, _)| at)
                .collect();
            for call in open {
                if let (Some(row), Some(live)) =
                    (self.open_row(serial, *step, call, now_ms), self.flows.get(&serial))
                {
                    group.push(live.about.id, live.claims, Op::OpenInterrupt(Box::new(row)));
                }
            }
            self.arm_calls(serial, *step);
        }
    }

    /// Lets a finished flow rest again that was revived in vain. A parent that waits for it hears its outcome again.
    fn lapse(&mut self, serial: Serial, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial).filter(|live| live.is_revived && !live.is_stopping)
        else {
            return;
        };
        live.is_stopping = true;
        let (id, claims, parent) = (live.about.id, live.claims, live.about.parent);
        let mut group = Group::default();
        group.push(id, claims, Op::Lapse);
        group.after(id, After::Stopped);
        if let Some((parent, step)) = parent {
            self.answer_parent(serial, parent, step, &mut group, now_ms);
        }
        self.enqueue(group);
    }
}

/// What a message would come to, if it found the flow as its journal has it: how many steps run again.
///
/// # Errors
/// As the owner would refuse it.
pub fn try_rewind(origin: &Origin, events: &[Event], body: &str, now_ms: i64) -> Result<usize> {
    let wish = read_wish(&Body(json::object_fields(body)?))?;
    let Origin { graph, key, input, created_at } = origin;
    let before = Flow::replay(graph.clone(), key.clone(), input.clone(), *created_at, events)?;
    rewind(origin, events, &before, &wish, now_ms, &mut || [0; 16]).map(|made| made.steps.len())
}

/// The state that a thread's next turn starts from: `state` with `more` contributed to it.
///
/// # Errors
/// `invalid` naming the field that does not fit its reducer.
pub fn next_state(state: &str, more: &str, reducers: &Reducers) -> Result<String> {
    let mut contributions = Changes::default();
    for (field, value) in json::object_fields(more)? {
        let is_reduced = reducers.reduced(&field).is_some();
        let change = if !is_reduced && value.is_null() { Change::Delete } else { Change::Contribute(value) };
        contributions.insert(field, change);
    }
    let invalid = |error: ReduceError| Error::invalid(error.message);
    contributions.check(reducers).map_err(invalid)?;
    let mut delta = Delta::default();
    delta.push(&contributions);
    State::from_json(state)?.fold(&delta, reducers).map(|state| state.to_json()).map_err(invalid)
}

fn read_wish(body: &Body) -> Result<Wish> {
    let step = || body.step().ok_or_else(|| Error::invalid("the message names no step"));
    let back = match body.text("what").as_deref() {
        Some("restart") => Back::Start,
        Some("restart_from") => Back::Step(step()?),
        Some("retry_step") => Back::Failed(step()?),
        Some("recover") => Back::AllFailed,
        Some("reopen") => Back::Children,
        other => {
            return Err(Error::invalid(format!("this engine cannot go back by {other:?}; upgrade it")));
        }
    };
    let mut reopen = Vec::new();
    for pair in body.get("reopen").and_then(Value::elements).unwrap_or_default() {
        let parts = pair.elements().unwrap_or_default();
        let step = parts.first().and_then(|step| step.raw().parse().ok());
        let child = parts.get(1).and_then(|child| unhex(&crate::flow::outcome::text(child)));
        reopen.push(step.zip(child).ok_or_else(|| Error::invalid("the message names no child"))?);
    }
    let overrides = body.get("overrides").filter(|value| !value.is_null());
    let overrides =
        overrides.map_or_else(|| Ok(Changes::default()), |value| Changes::from_overrides(value.raw()))?;
    Ok(Wish { back, reopen, overrides })
}
