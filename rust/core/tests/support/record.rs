//! What the random tests know of a run of the real core: which attempts ended, in which order, and what each of them saw.
//! What that means for the flow is for the reference to say.

use std::collections::HashMap;

use penstock_core::flow::event::Control;
use penstock_core::flow::{Event, EventBody};
use penstock_core::ids::FlowId;
use serde_json::Value;

use super::database::Database;
use super::past::{mark, Past};
use super::tasks::Place;

/// What a worker was sent for one attempt.
pub struct Seen {
    pub tries: u64,
    pub view: Value,
    pub at: i64,
    /// The flow's newest event then.
    pub ord: u64,
}

/// One step: its events in order, and what its attempts saw.
#[derive(Default)]
pub struct Ran {
    pub events: Vec<Event>,
    pub seen: Vec<Seen>,
}

/// One flow: how it ended, and its part of the journal that is about no step.
pub struct FlowRecord {
    pub id: FlowId,
    pub status: String,
    pub state: Value,
    pub error: Option<String>,
    /// The order number of its cancellation.
    pub cancelled: Option<u64>,
    /// How many events are about its steps.
    pub events: usize,
}

#[derive(Default)]
pub struct Record {
    /// By the words of their place.
    pub steps: HashMap<String, Ran>,
    /// By the words of the call that started them; the root has none.
    pub flows: HashMap<String, FlowRecord>,
}

/// A step's place as one text, unique over all flows of a case.
pub fn words(place: &Place) -> String {
    format!("{} {} {}", place.path, place.node, place.visit)
}

/// An answer or an error without what only the core can know: texts, types and keys of steps.
pub fn plain(mut state: Value) -> Value {
    if let Some(Value::Object(error)) = state.get_mut("on_error") {
        error.retain(|name, _| ["code", "node", "data"].contains(&name.as_str()));
    }
    state
}

impl Record {
    /// Puts what counts of the journals of a database where the places of their steps are known.
    pub fn read(
        db: &Database,
        past: &Past,
        places: &HashMap<(FlowId, u64), Place>,
        labels: &HashMap<FlowId, String>,
    ) -> Self {
        let mut record = Self::default();
        for (id, row) in db.flows.iter().filter(|(id, _)| !past.gone.contains_key(*id)) {
            let Some(label) = labels.get(id) else { continue };
            let facts = past.facts.get(id).map_or(&[][..], |facts| facts);
            let events = record.put(db.seed, *id, facts, places);
            let output = row.output.as_ref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            let is_cancel =
                |event: &&Event| matches!(&event.body, EventBody::Control(Control::Cancel { .. }));
            let flow = FlowRecord {
                id: *id,
                status: row.status.to_owned(),
                state: plain(output),
                error: row.folded.error().map(|error| error.error.code.clone()),
                cancelled: facts.iter().find(is_cancel).map(|event| event.ord),
                events,
            };
            record.flows.insert(label.clone(), flow);
        }
        record
    }

    /// Puts the events of a flow's steps where they belong; gives how many there are.
    pub fn put(
        &mut self,
        seed: u64,
        flow: FlowId,
        facts: &[Event],
        places: &HashMap<(FlowId, u64), Place>,
    ) -> usize {
        let mut count = 0;
        for event in facts {
            let is_mark = mark(event).is_some();
            let is_of_step = match &event.body {
                EventBody::Control(control) => is_mark || matches!(control, Control::ResumeBreak { .. }),
                EventBody::Started | EventBody::Snapshot(_) => false,
                _ => event.step > 0,
            };
            if !is_of_step {
                continue;
            }
            let Some(place) = places.get(&(flow, event.step)) else {
                assert!(is_mark, "seed {seed}: {event:?} of a step that never ran");
                continue;
            };
            count += usize::from(!is_mark);
            self.steps.entry(words(place)).or_default().events.push(event.clone());
        }
        count
    }
}
