//! What still counts of the journals when flows were sent back, by a reading of its own: the events of the steps that are
//! sent back go, the reference walks over what is left, and what it does not come to any more goes too.

use std::collections::{BTreeSet, HashMap};

use penstock_core::flow::event::Control;
use penstock_core::flow::rewind::Rewind;
use penstock_core::flow::{Event, EventBody};
use penstock_core::ids::FlowId;
use serde_json::Value;

use super::record::{words, Record};
use super::reference::Reference;
use super::rig::Rig;

#[derive(Default)]
pub struct Past {
    /// The events of each flow that count. A rewind stands at each step that it sent back or woke.
    pub facts: HashMap<FlowId, Vec<Event>>,
    /// How far each journal was read.
    read: HashMap<FlowId, usize>,
    /// The children whose answers events are, by flow and order number.
    answers: HashMap<(FlowId, u64), FlowId>,
    /// Flows that nobody calls any more, and whether they had ended when they were left behind.
    pub gone: HashMap<FlowId, bool>,
    /// How often each operation went back.
    pub backs: HashMap<String, usize>,
}

/// The rewind that stands at a step.
pub fn mark(event: &Event) -> Option<&Rewind> {
    match &event.body {
        EventBody::Control(Control::Rewind(rewind)) => Some(rewind),
        _ => None,
    }
}

impl Past {
    /// Whether a step of a flow still asks for this child.
    pub fn asks(&self, flow: &FlowId, child: &FlowId) -> bool {
        self.facts.get(flow).into_iter().flatten().any(|event| match &event.body {
            EventBody::Parked { calls, .. } => calls.iter().any(|call| call.id.as_ref() == Some(child)),
            _ => false,
        })
    }

    /// Leaves out what the steps did that are sent back.
    fn cut(&mut self, flow: FlowId, rewind: &Rewind) {
        let (mut open, mut over) = (BTreeSet::new(), BTreeSet::new());
        let answers = &self.answers;
        let facts = self.facts.entry(flow).or_default();
        facts.retain(|event| {
            let step = event.step;
            if rewind.steps.contains(&step) {
                // What somebody chose for its view stays chosen.
                return mark(event).is_some_and(|earlier| earlier.steps.contains(&step));
            }
            match &event.body {
                EventBody::Control(Control::Cancel { .. }) => false,
                EventBody::Control(_) => !over.contains(&step),
                EventBody::Resolved { .. } if !over.contains(&step) => {
                    let child = answers.get(&(flow, event.ord));
                    let is_cut = child.is_some_and(|child| rewind.reopened.contains(&(step, *child)));
                    if is_cut {
                        open.insert(step);
                    }
                    !is_cut
                }
                _ => {
                    if open.contains(&step) {
                        over.insert(step);
                    }
                    !over.contains(&step)
                }
            }
        });
    }
}

impl Rig<'_> {
    /// Reads what was committed of a flow.
    pub(super) fn notice(&mut self, flow: FlowId) {
        let Some(row) = self.db.flows.get(&flow) else { return };
        let read = self.past.read.insert(flow, row.journal.len()).unwrap_or(0);
        for event in row.journal[read..].to_vec() {
            if let EventBody::Control(Control::Rewind(rewind)) = &event.body {
                let mut rewind = (**rewind).clone();
                rewind.flow.clear();
                self.went_back(flow, &event, rewind);
                continue;
            }
            if let Some(child) = self.db.answers.get(&(flow, event.ord)) {
                self.past.answers.insert((flow, event.ord), *child);
            }
            self.past.facts.entry(flow).or_default().push(event);
        }
    }

    fn went_back(&mut self, flow: FlowId, event: &Event, rewind: Rewind) {
        if let Some(was_over) = self.past.gone.get_mut(&flow) {
            // Its caller went back at the same time, and it obeyed first or last.
            *was_over = true;
            return;
        }
        *self.past.backs.entry(rewind.what.clone()).or_default() += 1;
        if rewind.what == "recover" {
            self.check_recovered(flow, &rewind);
        }
        self.past.cut(flow, &rewind);
        let woken = rewind.revived.iter().map(|(step, _)| *step);
        let marked: Vec<u64> = rewind.steps.iter().copied().chain(woken).collect();
        for step in marked {
            let body = EventBody::Control(Control::Rewind(Box::new(rewind.clone())));
            let mark = Event { step, body, ..event.clone() };
            self.past.facts.entry(flow).or_default().push(mark);
        }
        let (reached, _) = self.look(flow);
        self.forget(flow, &rewind, &reached);
    }

    /// The places that a flow has come to, and the failures that stand, as the reference sees them.
    fn look(&mut self, flow: FlowId) -> (BTreeSet<String>, BTreeSet<String>) {
        let label = self.label(flow);
        let about = &self.db.flows[&flow].about;
        let program = self.plans.iter().position(|plan| plan.id == about.graph).unwrap();
        let input: Value = serde_json::from_str(&about.input).unwrap();
        let mut record = Record::default();
        record.put(self.seed, flow, &self.past.facts[&flow], &self.places);
        let mut reference = Reference::new(self.seed, self.habits, self.programs, &record);
        reference.witness.looks = true;
        let failures = reference.look(&label, program, &input);
        (reference.witness.reached, failures)
    }

    fn check_recovered(&mut self, flow: FlowId, rewind: &Rewind) {
        let (_, standing) = self.look(flow);
        let of = |step: &u64| words(&self.places[&(flow, *step)]);
        let again: BTreeSet<String> = rewind.steps.iter().map(of).collect();
        let waiting: BTreeSet<String> = rewind.reopened.iter().map(|(step, _)| of(step)).collect();
        let all: BTreeSet<String> = again.union(&waiting).cloned().collect();
        assert!(
            again.is_subset(&standing) && standing.is_subset(&all),
            "seed {}: recovered {all:?} and not {standing:?}",
            self.seed
        );
    }

    /// Forgets the places that the flow has not come to any more, and the children that they called.
    fn forget(&mut self, flow: FlowId, rewind: &Rewind, reached: &BTreeSet<String>) {
        let mut dropped = BTreeSet::new();
        for step in &rewind.steps {
            if let Some(place) = self.places.get(&(flow, *step)) {
                let words = words(place);
                assert!(reached.contains(&words), "seed {}: {words} went back and never was", self.seed);
                dropped.insert(words);
            }
        }
        self.places.retain(|(of, _), place| {
            let stays = *of != flow || reached.contains(&words(place));
            if !stays {
                dropped.insert(words(place));
            }
            stays
        });
        let places = &self.places;
        let facts = self.past.facts.get_mut(&flow).unwrap();
        facts.retain(|event| {
            event.step == 0 || mark(event).is_some() || places.contains_key(&(flow, event.step))
        });
        let waits: Vec<(String, u64)> = rewind
            .reopened
            .iter()
            .filter_map(|(step, _)| Some((words(self.places.get(&(flow, *step))?), self.tries(flow, *step))))
            .collect();
        self.seen.retain(|(at, seen)| {
            !dropped.contains(at) && !waits.iter().any(|(words, tries)| words == at && seen.tries >= *tries)
        });
        self.lose_children(flow);
        self.visits.clear();
        for place in self.places.values() {
            *self.visits.entry(format!("{} {}", place.path, place.node)).or_default() += 1;
        }
    }

    fn lose_children(&mut self, flow: FlowId) {
        let is_lost = self.past.gone.contains_key(&flow);
        let children: Vec<FlowId> = self
            .db
            .flows
            .values()
            .filter(|row| row.about.parent.is_some_and(|(parent, _)| parent == flow))
            .map(|row| row.about.id)
            .filter(|child| !self.past.gone.contains_key(child))
            .filter(|child| is_lost || !self.past.asks(&flow, child))
            .collect();
        for child in children {
            self.past.gone.insert(child, self.db.flows[&child].folded.status().is_finished());
            let mut dropped = BTreeSet::new();
            self.places.retain(|(of, _), place| {
                if *of == child {
                    dropped.insert(words(place));
                }
                *of != child
            });
            self.seen.retain(|(words, _)| !dropped.contains(words));
            self.labels.insert(child, String::new());
            self.lose_children(child);
        }
    }

    /// What nobody waits for any more was cancelled, if it had not ended before.
    pub(super) fn check_gone(&self) {
        for (flow, was_over) in &self.past.gone {
            let is_cancel = |event: &Event| matches!(&event.body, EventBody::Control(Control::Cancel { .. }));
            let is_told = self.db.flows[flow].journal.iter().any(is_cancel)
                || self.db.inbox.get(flow).into_iter().flatten().any(|letter| letter.kind == "cancel");
            assert!(*was_over || is_told, "seed {}: a child that was left behind goes on", self.seed);
        }
    }
}
