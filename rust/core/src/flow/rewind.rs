//! Going back: the flow as it would stand if some of its steps had not run yet.
//!
//! Everything here is a function of the whole journal. What comes out is written as one `control` event that holds
//! the resulting live state, so replay of a rewind asks nothing of what stood before it.

use std::fmt::Write;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::apply::Effects;
use super::event::{corrupt, Event, EventBody, Fields, Next, Route};
use super::outcome::text;
use super::park::{Call, CallKind};
use super::sieve::{beginning, Cut, Cuts, Effective, Item, Sieve};

pub use super::sieve::Failure;
use super::{Flow, Hold, Holds, Status, Step};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{hex, unhex, FlowId};
use crate::json::Value;
use crate::state::{Changes, State};

/// What a flow began with: together with its journal, all there is to know of it.
pub struct Origin {
    /// Its frozen graph.
    pub graph: Arc<Graph>,
    /// Its key.
    pub key: Arc<str>,
    /// Its input.
    pub input: State,
    /// When it was created.
    pub created_at: i64,
}

impl Origin {
    pub(super) fn fresh(&self) -> Flow {
        Flow::new(self.graph.clone(), self.key.clone(), self.input.clone(), self.created_at)
    }
}

/// How far to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// To the beginning of the flow.
    Start,
    /// To before this step.
    Step(u64),
    /// To before this step, which must have failed.
    Failed(u64),
    /// To before every step that failed.
    AllFailed,
    /// No step of its own: only to where steps wait for children that go back themselves.
    Children,
}

impl Back {
    /// The operation that goes back so far, as it is spelt in the API and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "restart",
            Self::Step(_) => "restart_from",
            Self::Failed(_) => "retry_step",
            Self::AllFailed => "recover",
            Self::Children => "reopen",
        }
    }
}

/// What is asked of a flow.
#[derive(Clone, Debug)]
pub struct Wish {
    /// How far.
    pub back: Back,
    /// Steps that wait again for a child, which goes back itself.
    pub reopen: Vec<(u64, FlowId)>,
    /// What is replaced in the view of each step that runs again.
    pub overrides: Changes,
}

/// What an operation made of a flow: the body of its event.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewind {
    /// The operation.
    pub what: String,
    /// Steps that run from the beginning.
    pub steps: Vec<u64>,
    /// Steps that wait for a child again.
    pub reopened: Vec<(u64, FlowId)>,
    /// What was replaced in the views of `steps`.
    pub overrides: Changes,
    /// Steps that had been dropped and live again, with the calls that they have now.
    pub revived: Vec<(u64, Vec<Call>)>,
    /// The flow had ended: that ended a pause too.
    pub is_unpaused: bool,
    /// The live state that results, as in a snapshot.
    pub flow: String,
}

impl Rewind {
    pub(super) fn cuts(&self) -> Cuts {
        cuts(&self.steps, &self.reopened)
    }

    /// Does to the steps what the rewind did beyond leaving things out. `cuts` are those of a later one: a step that it
    /// takes back to its beginning has no calls of an earlier life.
    pub(super) fn touch(&self, flow: &mut Flow, at: i64, cuts: &Cuts) {
        for number in &self.steps {
            flow.begin_again(*number, self.what == Back::Start.as_str(), &self.overrides, at);
        }
        for (number, calls) in &self.revived {
            let is_cut = cuts.get(number) == Some(&Cut::Whole);
            if let Some(step) = flow.steps.get_mut(number).filter(|_| !is_cut) {
                step.calls.clone_from(calls);
                step.wake();
            }
        }
        if self.is_unpaused {
            flow.holds.paused = None;
        }
        flow.reopen(&self.reopened);
    }

    pub(super) fn write(&self, out: &mut String) {
        let _ = write!(out, ",\"what\":\"{}\",\"steps\":{:?}", self.what, self.steps);
        let reopened: Vec<String> =
            self.reopened.iter().map(|(step, child)| format!("[{step},\"{}\"]", hex(child))).collect();
        let _ = write!(out, ",\"reopened\":[{}],\"overrides\":", reopened.join(","));
        self.overrides.to_journal(out);
        out.push_str(",\"revived\":[");
        for (at, (step, calls)) in self.revived.iter().enumerate() {
            let _ = write!(out, "{}[{step},[", if at > 0 { "," } else { "" });
            for (at, call) in calls.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                call.write_json(out);
            }
            out.push_str("]]");
        }
        let _ = write!(out, "],\"unpaused\":{},\"flow\":{}", self.is_unpaused, self.flow);
    }

    pub(super) fn read(what: String, fields: &Fields) -> Result<Self> {
        let list = |name: &str| fields.get(name).and_then(Value::elements).ok_or_else(corrupt);
        let pair = |value: &Value| -> Result<(u64, Value)> {
            let parts = value.elements().filter(|parts| parts.len() == 2).ok_or_else(corrupt)?;
            Ok((number(&parts[0])?, parts[1].clone()))
        };
        let reopened = list("reopened")?;
        let reopened = reopened.iter().map(|value| {
            let (step, child) = pair(value)?;
            Ok((step, unhex(&text(&child)).ok_or_else(corrupt)?))
        });
        let revived = list("revived")?;
        let revived = revived.iter().map(|value| {
            let (step, calls) = pair(value)?;
            let calls = calls.elements().ok_or_else(corrupt)?;
            Ok((step, calls.iter().map(Call::from_json).collect::<Result<_>>()?))
        });
        Ok(Self {
            what,
            steps: list("steps")?.iter().map(number).collect::<Result<_>>()?,
            reopened: reopened.collect::<Result<_>>()?,
            overrides: Changes::from_journal(fields.get("overrides").ok_or_else(corrupt)?.raw())?,
            revived: revived.collect::<Result<_>>()?,
            is_unpaused: fields.get("unpaused").is_some_and(|value| value.raw() == "true"),
            flow: fields.get("flow").ok_or_else(corrupt)?.raw().to_owned(),
        })
    }

    /// Whether `what` names a rewind.
    pub(super) fn is_named(what: &str) -> bool {
        matches!(what, "restart" | "restart_from" | "retry_step" | "recover" | "reopen")
    }
}

fn cuts(steps: &[u64], reopened: &[(u64, FlowId)]) -> Cuts {
    let mut cuts: Cuts = steps.iter().map(|step| (*step, Cut::Whole)).collect();
    for (step, child) in reopened {
        match cuts.entry(*step).or_insert_with(|| Cut::Children(Vec::new())) {
            Cut::Children(children) => children.push(*child),
            Cut::Whole => {}
        }
    }
    cuts
}

fn number(value: &Value) -> Result<u64> {
    value.raw().parse().map_err(|_| corrupt())
}

/// What going back makes of a flow.
///
/// `before` is the flow as it stands, `events` its whole journal.
///
/// # Errors
/// `not_found` for a step that never was, `conflict` when the flow or the step does not allow it, `invalid` for
/// overrides that do not fit a reducer.
pub fn rewind(
    origin: &Origin,
    events: &[Event],
    before: &Flow,
    wish: &Wish,
    at: i64,
    new_id: &mut dyn FnMut() -> FlowId,
) -> Result<Rewind> {
    check_status(before, wish.back)?;
    wish.overrides.check(origin.graph.reducers()).map_err(|error| Error::invalid(error.message))?;
    let effective = Effective::of(origin, events)?;
    let steps = targets(origin, events, &effective, wish)?;
    let live: FxHashSet<u64> = before.steps.keys().copied().collect();
    let mut made = go_back(origin, &effective, &steps, wish, at)?;
    let anew = if wish.back == Back::Start { &[][..] } else { &steps };
    let revived = made.revive(&live, anew, &wish.reopen, new_id);
    made.next_step = made.next_step.max(effective.next_step).max(before.next_step);
    let is_unpaused = before.status().is_finished();
    if is_unpaused {
        made.holds.paused = None;
    }
    Ok(Rewind {
        what: wish.back.as_str().to_owned(),
        steps,
        reopened: wish.reopen.clone(),
        overrides: wish.overrides.clone(),
        revived,
        is_unpaused,
        flow: made.snapshot(),
    })
}

/// The first event of a fork: a flow of another key that goes on from `step` of a finished one. `children` are steps
/// that wait for a child of the origin, with the child of the fork that they wait for instead.
///
/// # Errors
/// As [`rewind`].
pub fn fork(
    origin: &Origin,
    events: &[Event],
    step: Option<u64>,
    children: &[(u64, FlowId, FlowId)],
    overrides: &Changes,
    at: i64,
    new_id: &mut dyn FnMut() -> FlowId,
) -> Result<String> {
    overrides.check(origin.graph.reducers()).map_err(|error| Error::invalid(error.message))?;
    let wish = Wish {
        back: step.map_or(Back::Children, Back::Step),
        reopen: children.iter().map(|(step, old, _)| (*step, *old)).collect(),
        overrides: overrides.clone(),
    };
    let effective = Effective::of(origin, events)?;
    let steps = targets(origin, events, &effective, &wish)?;
    let mut made = go_back(origin, &effective, &steps, &wish, at)?;
    made.revive(&FxHashSet::default(), &steps, &wish.reopen, new_id);
    for step in made.steps.values_mut() {
        // Cut short by the end of the origin: it asks again when it runs again.
        step.calls.retain(|call| !call.is_open() || call.kind == CallKind::Subgraph);
    }
    made.holds = Holds::default();
    made.recount();
    for (number, old, new) in children {
        let calls = made.steps.get_mut(number).map(|step| &mut step.calls);
        for call in calls.into_iter().flatten().filter(|call| call.id.as_ref() == Some(old)) {
            call.id = Some(*new);
        }
    }
    made.next_step = made.next_step.max(effective.next_step);
    Ok(made.snapshot())
}

/// The steps that failed and that nothing caught, oldest first: what a recover runs again.
///
/// # Errors
/// `corrupt` when the journal does not replay.
pub fn failed_steps(origin: &Origin, events: &[Event]) -> Result<Vec<Failure>> {
    let effective = Effective::of(origin, events)?;
    standing_failures(origin, &effective)
}

fn standing_failures(origin: &Origin, effective: &Effective<'_>) -> Result<Vec<Failure>> {
    let none = Cuts::default();
    let mut failures = Sieve::run(origin, &effective.items, &none)?.failures;
    failures.sort_unstable_by_key(|failure| failure.step);
    Ok(failures)
}

fn check_status(before: &Flow, back: Back) -> Result<()> {
    let (key, status, what) = (before.key(), before.status(), back.as_str());
    let (is_allowed, asked) = match back {
        Back::Start => (
            status.is_finished() || status == Status::Interrupted,
            "a flow that has stopped; cancel it first",
        ),
        Back::AllFailed => (status == Status::Failed, "a failed flow"),
        _ => (status != Status::Cancelled, "a flow that was not cancelled; restart or fork it"),
    };
    if is_allowed {
        return Ok(());
    }
    Err(Error::conflict(format!("flow {key} is {}: {what} asks for {asked}", status.as_str())))
}

/// The steps that run from the beginning.
fn targets(origin: &Origin, events: &[Event], effective: &Effective<'_>, wish: &Wish) -> Result<Vec<u64>> {
    let key = &origin.key;
    match wish.back {
        Back::Start => {
            let mut first: Vec<u64> = beginning(origin, events)?.steps.keys().copied().collect();
            first.sort_unstable();
            Ok(first)
        }
        Back::Children => Ok(Vec::new()),
        Back::AllFailed => {
            let waits = |step: &u64| wish.reopen.iter().any(|(waiting, _)| waiting == step);
            let failed = standing_failures(origin, effective)?.into_iter().map(|failure| failure.step);
            let failed: Vec<u64> = failed.filter(|step| !waits(step)).collect();
            if failed.is_empty() && wish.reopen.is_empty() {
                return Err(Error::conflict(format!("flow {key} has no failed step to recover")));
            }
            Ok(failed)
        }
        Back::Step(step) | Back::Failed(step) => {
            if !effective.ever.contains(&step) {
                return Err(Error::not_found(format!(
                    "no step has the key {:?}; step keys stand in history()",
                    format!("{key}/{step}")
                )));
            }
            if matches!(wish.back, Back::Failed(_)) {
                check_failed(key, step, &effective.items)?;
            }
            Ok(vec![step])
        }
    }
}

fn check_failed(key: &str, step: u64, items: &[Item<'_>]) -> Result<()> {
    let last = items.iter().rev().find_map(|item| match item {
        Item::Event(event) if event.step == step => match &event.body {
            EventBody::Failed { next: Next { route, .. }, .. } => Some(*route == Route::Fail),
            _ => Some(false),
        },
        _ => None,
    });
    let is_routed = items.iter().any(|item| {
        matches!(item, Item::Event(Event { step: of, body: EventBody::Failed { next, .. }, .. })
            if *of == step && next.route != Route::Fail)
    });
    match last {
        Some(true) => Ok(()),
        _ if is_routed => Err(Error::conflict(format!(
            "step {key}/{step} failed, but its failure went to on_error; use restart_from"
        ))),
        _ => Err(Error::conflict(format!(
            "step {key}/{step} is not a failed one, or somebody retried it already; use restart_from to run it again"
        ))),
    }
}

/// The flow with the steps where they begin, and those that wait for children where they wait.
fn go_back(origin: &Origin, effective: &Effective<'_>, steps: &[u64], wish: &Wish, at: i64) -> Result<Flow> {
    let cuts = cuts(steps, &wish.reopen);
    let Sieve { mut flow, .. } = Sieve::run(origin, &effective.items, &cuts)?;
    let key = &origin.key;
    for step in steps.iter().chain(wish.reopen.iter().map(|(step, _)| step)) {
        if flow.steps.contains_key(step) {
            continue;
        }
        let closed_by = flow.error().map(|error| format!("{key}/{}", error.step));
        return Err(Error::conflict(match closed_by {
            Some(failed) => format!(
                "step {key}/{step} cannot run again while the failure of step {failed} stands, which closes its \
                 fan-out; rewind that step, or recover the flow"
            ),
            None if steps.contains(step) => {
                format!("step {key}/{step} is no part of the flow any more: a rewind left it behind")
            }
            None => format!("step {key}/{step} does not wait for that child any more: it was run again since"),
        }));
    }
    for (step, child) in &wish.reopen {
        let waits = |call: &Call| call.id.as_ref() == Some(child) && call.is_open();
        if !flow.steps.get(step).is_some_and(|step| step.calls.iter().any(waits)) {
            return Err(Error::conflict(format!(
                "step {key}/{step} does not wait for that child any more: it was run again since"
            )));
        }
    }
    for step in steps {
        flow.begin_again(*step, wish.back == Back::Start, &wish.overrides, at);
    }
    flow.reopen(&wish.reopen);
    Ok(flow)
}

impl Step {
    /// Goes on after it had been dropped: what it waited for in memory is gone.
    fn wake(&mut self) {
        self.is_started = false;
        if self.hold.is_held() {
            self.hold = Hold::None;
        }
    }
}

impl Flow {
    /// Puts a step where it began, with some of what it sees replaced. `is_start` is said of the steps that a flow
    /// began with: a fork's may have come so far before it.
    fn begin_again(&mut self, number: u64, is_start: bool, overrides: &Changes, at: i64) {
        let Some(step) = self.steps.get_mut(&number) else { return };
        step.not_before = 0;
        step.created_at = at;
        if !is_start {
            step.attempt = 0;
            step.changes = Changes::default();
            step.calls.clear();
            step.hold = Hold::None;
            (step.losses, step.losses_alone, step.is_started) = (0, 0, false);
        }
        self.override_view(number, overrides);
        if let Some(step) = self.steps.get_mut(&number).filter(|_| !overrides.is_empty()) {
            // A join whose fold failed: what it sees now was chosen.
            step.broken = None;
        }
    }

    /// Makes steps that had been dropped fit to go on: their children are gone, their questions are asked anew.
    fn revive(
        &mut self,
        live: &FxHashSet<u64>,
        steps: &[u64],
        reopen: &[(u64, FlowId)],
        new_id: &mut dyn FnMut() -> FlowId,
    ) -> Vec<(u64, Vec<Call>)> {
        let mut revived = Vec::new();
        let mut dropped: Vec<&mut Step> = self
            .steps
            .values_mut()
            .filter(|step| !live.contains(&step.number) && !steps.contains(&step.number))
            .collect();
        dropped.sort_unstable_by_key(|step| step.number);
        for step in dropped {
            step.wake();
            let waits =
                |call: &Call| reopen.iter().any(|(of, id)| *of == step.number && call.id == Some(*id));
            step.calls.retain(|call| !call.is_open() || call.kind != CallKind::Subgraph || waits(call));
            for call in step.calls.iter_mut().filter(|call| call.is_open_interrupt()) {
                call.id = Some(new_id());
            }
            revived.push((step.number, step.calls.clone()));
        }
        self.recount();
        revived
    }

    /// Forgets what children said of themselves before they went back.
    fn reopen(&mut self, reopened: &[(u64, FlowId)]) {
        for (step, child) in reopened {
            let calls = self.steps.get_mut(step).map(|step| &mut step.calls);
            for call in calls.into_iter().flatten().filter(|call| call.id.as_ref() == Some(child)) {
                call.below = None;
            }
        }
        self.recount();
    }

    pub(super) fn recount(&mut self) {
        self.open_interrupts = self.steps.values().map(Step::open_questions).sum();
    }

    pub(super) fn apply_rewind(&mut self, rewind: &Rewind, effects: &mut Effects) -> Result<()> {
        let old = std::mem::take(&mut self.steps);
        self.restore(&rewind.flow)?;
        let is_anew = |number: &u64| {
            rewind.steps.contains(number) || rewind.reopened.iter().any(|(step, _)| step == number)
        };
        let live: FxHashSet<u64> = old.keys().copied().collect();
        let known: FxHashSet<u64> = old.keys().copied().filter(|number| !is_anew(number)).collect();
        let mut dropped: Vec<Step> = old
            .into_values()
            .filter(|step| is_anew(&step.number) || !self.steps.contains_key(&step.number))
            .collect();
        dropped.sort_unstable_by_key(|step| step.number);
        for step in &mut dropped {
            // A step that waits for one child again goes on waiting for the others.
            if let Some(now) = self.steps.get(&step.number) {
                let stays = |call: &Call| now.calls.iter().any(|open| open.is_open() && open.id == call.id);
                step.calls.retain(|call| call.id.is_none() || !stays(call));
            }
        }
        let mut fresh: Vec<&Step> =
            self.steps.values().filter(|step| !known.contains(&step.number)).collect();
        fresh.sort_unstable_by_key(|step| step.number);
        for step in fresh {
            if step.is_parked() && live.contains(&step.number) {
                effects.waiting_again.push(step.number);
            } else if step.is_parked() {
                effects.revived.push(step.number);
            } else {
                effects.ready.push(step.number);
            }
        }
        effects.dropped.extend(dropped);
        Ok(())
    }
}
