//! Compares what the reference says, event by event, with what the core did.

use std::collections::{BTreeSet, HashMap};

use penstock_core::flow::event::Control;
use penstock_core::flow::{Event, EventBody};
use penstock_core::ids::FlowId;
use serde_json::{json, Value};

use super::past::mark;
use super::record::{plain, words, Ran, Record, Seen};
use super::tasks::Place;

pub struct Witness<'r> {
    pub seed: u64,
    /// It is only asked how far flows have come: what is said of their ends is not compared.
    pub looks: bool,
    /// Every step that was come to.
    pub reached: BTreeSet<String>,
    record: &'r Record,
    /// How many events of each flow were accounted for.
    used: HashMap<String, usize>,
    /// The signals that each flow has taken, by name: the events, and the numbers of the signals.
    signals: HashMap<String, Vec<(u64, u64)>>,
}

/// A step as the reference goes through it.
pub struct Story<'r> {
    pub words: String,
    flow: String,
    ran: Option<&'r Ran>,
    next: usize,
    losses: u32,
    /// When somebody changed its view; an attempt before that left no trace but what it saw.
    since: u64,
}

/// The children that the calls of an event asked for.
pub fn children(event: &Event) -> Vec<Option<FlowId>> {
    let EventBody::Parked { calls, .. } = &event.body else { return Vec::new() };
    calls.iter().map(|call| call.id).collect()
}

/// A call of a step, and what it is answered as far as that can be told.
pub struct CallOf {
    pub asked: Value,
    pub at: i64,
    pub told: Option<Value>,
    /// The child.
    pub id: Option<FlowId>,
    pub answer: Option<Value>,
}

impl CallOf {
    /// Whether its answer outlives a retry.
    pub fn is_kept(&self) -> bool {
        self.answer.as_ref().is_some_and(|came| came.get("answer").is_some())
    }
}

impl<'r> Witness<'r> {
    pub fn new(seed: u64, record: &'r Record) -> Self {
        Self {
            seed,
            looks: false,
            reached: BTreeSet::new(),
            record,
            used: HashMap::new(),
            signals: HashMap::new(),
        }
    }

    pub fn wrong(&self, what: &str) -> ! {
        panic!("seed {}: {what}", self.seed)
    }

    pub fn story(&mut self, flow: &str, place: &Place) -> Story<'r> {
        let words = words(place);
        self.reached.insert(words.clone());
        let ran = self.record.steps.get(&words);
        Story { words, flow: flow.to_owned(), ran, next: 0, losses: 0, since: 0 }
    }

    fn next(&mut self, story: &mut Story<'r>, last: &mut u64) -> Option<&'r Event> {
        let event = story.ran?.events.get(story.next)?;
        story.next += 1;
        *last = event.ord.max(*last);
        *self.used.entry(story.flow.clone()).or_default() += 1;
        Some(event)
    }

    /// What somebody changed in the step's view when they sent it back, or let it go at a breakpoint.
    pub fn overrides(&mut self, story: &mut Story<'r>, last: &mut u64) -> Option<Value> {
        let event = story.ran?.events.get(story.next)?;
        let overrides = match &event.body {
            EventBody::Control(Control::ResumeBreak { overrides, .. }) => {
                self.next(story, last);
                overrides
            }
            EventBody::Control(Control::Rewind(rewind)) if rewind.steps.contains(&event.step) => {
                story.next += 1;
                &rewind.overrides
            }
            _ => return None,
        };
        story.since = event.ord;
        let mut journal = String::new();
        overrides.to_journal(&mut journal);
        let told: Value = serde_json::from_str(&journal).unwrap();
        let names = told["del"].as_array().cloned().unwrap_or_default();
        let gone = names.iter().map(|name| (name.as_str().unwrap().to_owned(), Value::Null));
        let fields = told["set"].as_object().cloned().unwrap_or_default();
        Some(json!({"overwrite": fields.into_iter().chain(gone).collect::<serde_json::Map<_, _>>()}))
    }

    /// The event that ends the step's next attempt, and whether its workers' deaths did: only that tells a third loss.
    /// `None` when there is none, because something ended the step from outside.
    pub fn attempt(&mut self, story: &mut Story<'r>, last: &mut u64) -> Option<(&'r Event, bool)> {
        loop {
            while story.ran?.events.get(story.next).is_some_and(|event| mark(event).is_some()) {
                story.next += 1;
            }
            let event = self.next(story, last)?;
            match &event.body {
                EventBody::Lost { alone, .. } => story.losses += u32::from(*alone),
                EventBody::Failed { error, .. } => {
                    return Some((event, error.error.code == "poison" && story.losses >= 2))
                }
                _ => return Some((event, false)),
            }
        }
    }

    /// What an attempt saw, and when it began.
    pub fn saw(&self, story: &Story<'_>, tries: u64, view: &Value, not_before: i64) {
        let is_this = |seen: &&Seen| seen.tries == tries && seen.ord >= story.since;
        for seen in story.ran.iter().flat_map(|ran| &ran.seen).filter(is_this) {
            assert_eq!(seen.view, *view, "seed {}: the view of {}", self.seed, story.words);
            let (words, at) = (&story.words, seen.at);
            assert!(at >= not_before, "seed {}: {words} began at {at}, not {not_before}", self.seed);
        }
    }

    pub fn expect(&self, event: &Event, kind: &str, story: &Story<'_>) {
        assert_eq!(event.body.name(), kind, "seed {}: {}: {event:?}", self.seed, story.words);
    }

    /// Takes the answers of open calls until all have one; `None` when the step is ended before.
    pub fn answers(&mut self, story: &mut Story<'r>, calls: &mut Vec<CallOf>, last: &mut u64) -> Option<()> {
        while calls.iter().any(|call| call.answer.is_none()) {
            if let Some(rewind) = story.ran.and_then(|ran| ran.events.get(story.next)).and_then(mark) {
                // It was dropped with its children, and lives again without them.
                story.next += 1;
                let goes_back = |id| rewind.reopened.iter().any(|(_, child)| Some(*child) == id);
                calls.retain(|call| {
                    call.answer.is_some() || call.asked["kind"] != "subgraph" || goes_back(call.id)
                });
                continue;
            }
            let event = self.next(story, last)?;
            let EventBody::Resolved { call, answer, .. } = &event.body else {
                self.wrong(&format!("{event:?} while calls are open"))
            };
            let came = match answer {
                Ok(value) => json!({"answer": plain(serde_json::from_str(value.raw()).unwrap())}),
                Err(error) => json!({"error": error.code}),
            };
            let found = &mut calls[*call as usize];
            let [kind, ms, timeout] = ["kind", "ms", "timeout_ms"].map(|name| &found.asked[name]);
            let wait = ms.as_i64().or(timeout.as_i64());
            let is_due = wait.is_none_or(|wait| event.at >= found.at + wait);
            let is_right = match &found.told {
                Some(told) => came == *told && (kind != "sleep" || is_due),
                None if kind == "subgraph" => false,
                None => answer.is_ok() || (wait.is_some() && is_due && came["error"] == "interrupt_timeout"),
            };
            if !(is_right || self.looks) || found.answer.is_some() {
                self.wrong(&format!("{} was answered {came}, at {} by {event:?}", found.asked, found.at));
            }
            if let (true, Ok(payload)) = (kind == "signal", answer) {
                let name = format!("{} {}", story.flow, found.asked["target"]);
                self.signals.entry(name).or_default().push((event.ord, payload.raw().parse().unwrap()));
            }
            found.answer = Some(came);
        }
        Some(())
    }

    /// The end of a flow. One that was cut was cancelled, after everything that it did.
    pub fn flow(&self, label: &str, status: &str, error: Option<&String>, state: &Value, last: u64) {
        if self.looks {
            return;
        }
        let Some(real) = self.record.flows.get(label) else {
            self.wrong(&format!("{label:?} was never started"))
        };
        let told = (real.status.as_str(), real.error.as_ref(), &real.state);
        assert_eq!(told, (status, error, state), "seed {}: flow {label:?}", self.seed);
        if status == "cancelled" && real.cancelled.is_none_or(|ord| ord <= last) {
            self.wrong(&format!("flow {label:?} ended before its last event, {last}"));
        }
        let used = self.used.get(label).copied().unwrap_or(0);
        assert_eq!(used, real.events, "seed {}: flow {label:?} did more", self.seed);
    }

    /// What must hold when the root was followed: no flow is left over, and each signal was taken once at most, those of
    /// one name in the order in which they were sent.
    pub fn finish(&mut self) {
        for (name, taken) in &mut self.signals {
            taken.sort_unstable();
            let is_in_turn = taken.windows(2).all(|two| two[0].1 < two[1].1);
            assert!(is_in_turn, "seed {}: signals {name} out of turn: {taken:?}", self.seed);
        }
        let mut flows = self.record.flows.iter();
        let left = flows.find(|(label, flow)| flow.events > 0 && !self.used.contains_key(*label));
        assert!(left.is_none(), "seed {}: nothing called {:?}", self.seed, left.map(|(label, _)| label));
    }
}
