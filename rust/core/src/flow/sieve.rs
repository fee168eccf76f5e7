//! Replay of a journal without what some steps did: the flow as if those steps stood where they began, and nothing
//! that followed from them had happened. What ran beside them stays.
//!
//! A join that only came to be with the arrival of a cut branch does not come to be, so its step and all that
//! followed from it are left out too. What a cut step had closed (a cohort that failed fast) stays open.

use rustc_hash::{FxHashMap, FxHashSet};

use super::event::{Control, Entry, Event, EventBody, Next, Route};
use super::park::CallKind;
use super::rewind::{Origin, Rewind};
use super::{Branch, Flow, Step};
use crate::error::{Error, Result};
use crate::ids::FlowId;

/// One thing that happened and still counts.
#[derive(Clone, Copy)]
pub(super) enum Item<'e> {
    /// An event of the journal.
    Event(&'e Event),
    /// An earlier rewind, after what it undid was taken out; and when it was.
    Rewind(&'e Rewind, i64),
    /// A step that was sent back had taken the signal of this event: it is used up.
    Took(u64),
}

/// From where on a step's own events are left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cut {
    /// All of them: it runs from the beginning.
    Whole,
    /// From the first answer of these children on: it waits for them again.
    Children(Vec<FlowId>),
}

/// The cuts by step.
pub(super) type Cuts = FxHashMap<u64, Cut>;

/// How far the events of a step with `Cut::Children` have been followed.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// A child's answer was left out; answers to its other calls still count.
    Open,
    /// It ran again: nothing counts any more.
    Over,
}

/// A step that failed, and nothing caught it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The step.
    pub step: u64,
    /// The children that had failed, when it failed because of one.
    pub children: Vec<FlowId>,
    branch: Option<Branch>,
}

/// Where a closed cohort stood.
#[derive(PartialEq)]
enum Outside {
    /// None is closed.
    Nowhere,
    /// In this branch, or on the trunk.
    At(Option<Branch>),
}

/// What a pass found.
pub(super) struct Sieve<'e, 'c> {
    /// The flow that results.
    pub flow: Flow,
    /// What stays of the journal.
    pub kept: Vec<Item<'e>>,
    /// Steps that came to be and stay.
    pub known: FxHashSet<u64>,
    /// Failures that nothing caught and no join has left behind, with the branch they are in.
    pub failures: Vec<Failure>,
    cuts: &'c Cuts,
    stages: FxHashMap<u64, Stage>,
    /// Steps that follow from cut ones.
    forgotten: FxHashSet<u64>,
    /// The branch that each cohort stands in.
    outer: FxHashMap<u64, Option<Branch>>,
}

/// The part of a journal that still counts.
pub(super) struct Effective<'e> {
    /// Without what rewinds have undone.
    pub items: Vec<Item<'e>>,
    /// The number of the next new step.
    pub next_step: u64,
    /// All steps there ever were.
    pub ever: FxHashSet<u64>,
}

impl<'e> Effective<'e> {
    pub(super) fn of(origin: &Origin, events: &'e [Event]) -> Result<Self> {
        let mut items: Vec<Item<'e>> = Vec::new();
        let first = beginning(origin, events)?;
        let mut next_step = first.next_step;
        let mut ever: FxHashSet<u64> = first.steps.keys().copied().collect();
        for event in events {
            for number in created(&event.body) {
                next_step = next_step.max(number + 1);
                ever.insert(number);
            }
            match &event.body {
                EventBody::Snapshot(_) if event.ord > 1 => {}
                EventBody::Control(Control::Rewind(rewind)) => {
                    items = Sieve::run(origin, &items, &rewind.cuts())?.kept;
                    items.push(Item::Rewind(rewind, event.at));
                }
                _ => items.push(Item::Event(event)),
            }
        }
        Ok(Self { items, next_step, ever })
    }
}

/// The flow before any of its steps did anything.
pub(super) fn beginning(origin: &Origin, events: &[Event]) -> Result<Flow> {
    let mut flow = origin.fresh();
    if let Some(first) = events.first().filter(|event| matches!(event.body, EventBody::Snapshot(_))) {
        flow.apply(first, None)?;
    }
    Ok(flow)
}

impl<'e, 'c> Sieve<'e, 'c> {
    /// Runs a journal through the cuts.
    pub(super) fn run(origin: &Origin, items: &[Item<'e>], cuts: &'c Cuts) -> Result<Self> {
        let mut sieve = Self {
            flow: origin.fresh(),
            kept: Vec::with_capacity(items.len()),
            known: FxHashSet::default(),
            failures: Vec::new(),
            cuts,
            stages: FxHashMap::default(),
            forgotten: FxHashSet::default(),
            outer: FxHashMap::default(),
        };
        sieve.known.insert(1);
        for item in items {
            match item {
                Item::Event(event) => sieve.take(event)?,
                Item::Rewind(rewind, at) => {
                    rewind.touch(&mut sieve.flow, *at, cuts);
                    sieve.kept.push(*item);
                }
                Item::Took(signal) => {
                    sieve.flow.signals.take(*signal);
                    sieve.kept.push(*item);
                }
            }
        }
        Ok(sieve)
    }

    fn take(&mut self, event: &'e Event) -> Result<()> {
        match &event.body {
            // A flow that goes on is not cancelled, and what was cut short by that goes on too.
            EventBody::Control(Control::Cancel { .. }) => return Ok(()),
            EventBody::Snapshot(_) => {
                self.flow.apply(event, None)?;
                self.known = self.flow.steps.keys().copied().collect();
                self.outer = self.flow.cohorts.values().map(|cohort| (cohort.source, cohort.outer)).collect();
                self.kept.push(Item::Event(event));
                return Ok(());
            }
            _ => {}
        }
        if event.step > 0 && self.is_left_out(event) {
            self.forgotten.extend(created(&event.body));
            if let EventBody::Resolved { signal: Some(signal), .. } = &event.body {
                self.flow.signals.take(*signal);
                self.kept.push(Item::Took(*signal));
            }
            return Ok(());
        }
        if matches!(event.body, EventBody::Control(_))
            && event.step > 0
            && self.flow.step(event.step).is_none()
        {
            return Ok(());
        }
        self.apply(event)?;
        self.kept.push(Item::Event(event));
        Ok(())
    }

    fn is_left_out(&mut self, event: &Event) -> bool {
        if self.forgotten.contains(&event.step) {
            return true;
        }
        let children = match self.cuts.get(&event.step) {
            None => return false,
            Some(Cut::Whole) => return true,
            Some(Cut::Children(children)) => children,
        };
        match (self.stages.get(&event.step), &event.body) {
            (Some(Stage::Over), _) => true,
            (_, EventBody::Resolved { call, .. }) => {
                let found = self.flow.step(event.step).and_then(|step| step.calls.get(*call as usize));
                let child = found.and_then(|call| call.id);
                let is_left_out = child.is_some_and(|child| children.contains(&child));
                if is_left_out {
                    self.stages.insert(event.step, Stage::Open);
                }
                is_left_out
            }
            (None, _) | (Some(Stage::Open), EventBody::Control(_)) => false,
            (Some(Stage::Open), _) => {
                self.stages.insert(event.step, Stage::Over);
                true
            }
        }
    }

    /// Applies an event with the step numbers that it has in the journal, and looks what did not come to be.
    fn apply(&mut self, event: &Event) -> Result<()> {
        self.flow.ord = event.ord - 1;
        if let Some(first) = created(&event.body).next() {
            self.flow.next_step = first;
        }
        let branch = self.flow.step(event.step).and_then(|step| step.branch);
        let is_failure = next_of(&event.body).is_some_and(|next| next.route == Route::Fail);
        let failed = self.flow.step(event.step).filter(|_| is_failure).map(|step| Failure {
            step: event.step,
            children: failed_children(step, &event.body),
            branch,
        });
        let effects = self.flow.apply_leniently(event, None)?;
        self.known.extend(effects.ready.iter().copied());
        let Some(next) = next_of(&event.body) else { return Ok(()) };
        match (&next.join, &effects.joined) {
            (Some((join, _)), None) => {
                self.forgotten.insert(*join);
            }
            (recorded, made) if recorded != made => {
                return Err(Error::corrupt(format!(
                    "without the rewound steps event {} makes the join {made:?} where the journal has {recorded:?}",
                    event.ord
                )));
            }
            _ => {}
        }
        if matches!(next.route, Route::Fan { .. }) {
            self.outer.insert(event.step, branch);
        }
        self.failures.extend(failed);
        if let Some((join, _)) = &effects.joined {
            let outer = self.flow.step(*join).and_then(|step| step.branch);
            let mut failures = std::mem::take(&mut self.failures);
            failures.retain(|failure| self.closed_into(failure.branch) != Outside::At(outer));
            self.failures = failures;
        }
        Ok(())
    }

    /// Where the outermost closed cohort around a branch stood.
    fn closed_into(&self, branch: Option<Branch>) -> Outside {
        let (mut branch, mut closed) = (branch, Outside::Nowhere);
        while let Some(Branch { cohort, .. }) = branch {
            let outer = self.outer.get(&cohort).copied().flatten();
            if !self.flow.cohorts.contains_key(&cohort) {
                closed = Outside::At(outer);
            }
            branch = outer;
        }
        closed
    }
}

fn failed_children(step: &Step, body: &EventBody) -> Vec<FlowId> {
    let EventBody::Failed { error, .. } = body else { return Vec::new() };
    if !error.error.type_name.ends_with("SubgraphFailed") {
        return Vec::new();
    }
    let calls = step.calls.iter().filter(|call| call.kind == CallKind::Subgraph);
    calls.filter(|call| matches!(call.answer, Some(Err(_)))).filter_map(|call| call.id).collect()
}

fn next_of(body: &EventBody) -> Option<&Next> {
    match body {
        EventBody::Done { next, .. } | EventBody::Failed { next, .. } => Some(next),
        _ => None,
    }
}

/// The numbers of the steps that an event brought about, in order.
fn created(body: &EventBody) -> impl Iterator<Item = u64> + '_ {
    let next = next_of(body);
    let direct = match next.map(|next| &next.route) {
        Some(Route::Go { step, .. }) => Vec::from([(*step, 1)]),
        Some(Route::Fan { entries, .. }) => entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Step { step, .. } => Some((*step, 1)),
                Entry::Each { first, count, .. } => Some((*first, *count)),
                Entry::Arrived { .. } => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let join = next.and_then(|next| next.join.as_ref()).map(|(step, _)| *step);
    direct.into_iter().flat_map(|(first, count)| first..first + count).chain(join)
}
