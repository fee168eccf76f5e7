//! A flow's journal as people read it: every step with its events, state and changes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::apply::Effects;
use super::event::{Control, Event, EventBody, Next, Route};
use super::rewind::Rewind;
use super::{Flow, StepError};
use crate::error::Result;
use crate::graph::Graph;
use crate::ids::hex;
use crate::json;
use crate::state::{Changes, State};

/// A journal row with what is not part of its event.
pub struct Line {
    /// The event.
    pub event: Event,
    /// Who wrote it.
    pub replica: i64,
    /// Which worker ran the attempt.
    pub worker: Option<i64>,
    /// How long the step was ready before.
    pub queued_ms: i64,
    /// How long the attempt ran.
    pub ran_ms: i64,
}

/// One step as it was.
struct Record {
    node: Arc<str>,
    task: Arc<str>,
    status: &'static str,
    attempt: u32,
    predecessors: Vec<u64>,
    ordinal: Option<u64>,
    error: Option<StepError>,
    replica: Option<i64>,
    worker: Option<i64>,
    queued_ms: i64,
    ran_ms: i64,
    created_at: i64,
    finished_at: Option<i64>,
    state: Option<State>,
    changes: Changes,
    children: Vec<String>,
    events: Vec<String>,
}

/// Reads a whole journal, from ord 1.
pub struct Reader {
    flow: Flow,
    records: BTreeMap<u64, Record>,
    arrivals: FxHashMap<u64, Vec<u64>>,
    /// The step whose state is kept.
    wanted: Option<u64>,
}

impl Reader {
    /// A reader of the flow that starts with `input`. `wanted` names the step whose state is asked for.
    pub fn new(graph: Arc<Graph>, key: Arc<str>, input: State, created_at: i64, wanted: Option<u64>) -> Self {
        let flow = Flow::new(graph, key, input, created_at);
        let mut reader = Self { flow, records: BTreeMap::new(), arrivals: FxHashMap::default(), wanted };
        reader.meet(&[1], &[]);
        reader
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// `corrupt` when the row does not fit.
    pub fn read(&mut self, line: &Line) -> Result<()> {
        let event = &line.event;
        if matches!(event.body, EventBody::Snapshot(_)) && self.flow.ord() > 0 {
            self.flow.skip_ord();
            return Ok(());
        }
        let branch = self.flow.step(event.step).and_then(|step| step.branch);
        let effects = self.flow.apply(event, None)?;
        if matches!(event.body, EventBody::Snapshot(_)) {
            self.begin_here();
            return Ok(());
        }
        self.note(line);
        for step in &effects.cancelled {
            if let Some(record) = self.records.get_mut(step) {
                record.status = "cancelled";
                record.finished_at = Some(event.at);
            }
        }
        if let EventBody::Control(Control::Rewind(rewind)) = &event.body {
            self.go_back(rewind, &effects, event.at);
        }
        if let (Some(next), Some(branch)) = (next_of(&event.body), branch) {
            if matches!(next.route, Route::Arrive { .. }) {
                self.arrivals.entry(branch.cohort).or_default().push(event.step);
            }
        }
        let arrived =
            branch.and_then(|branch| self.arrivals.get(&branch.cohort)).cloned().unwrap_or_default();
        let joined = effects.joined.as_ref().map(|(step, _)| *step);
        let (join, direct): (Vec<u64>, Vec<u64>) =
            effects.ready.iter().partition(|step| Some(**step) == joined);
        self.meet(&direct, &[event.step]);
        self.meet(&join, if arrived.is_empty() { std::slice::from_ref(&event.step) } else { &arrived });
        Ok(())
    }

    /// Notes steps that have come to be.
    fn meet(&mut self, steps: &[u64], predecessors: &[u64]) {
        for number in steps {
            let Some(step) = self.flow.step(*number).filter(|_| !self.records.contains_key(number)) else {
                continue;
            };
            let node = self.flow.graph().node(step.node);
            let record = Record {
                node: node.name.clone(),
                task: node.task.clone(),
                status: "ready",
                attempt: 0,
                predecessors: predecessors.to_vec(),
                ordinal: step.branch.map(|branch| branch.ordinal),
                error: None,
                replica: None,
                worker: None,
                queued_ms: 0,
                ran_ms: 0,
                created_at: step.created_at,
                finished_at: None,
                state: (self.wanted == Some(*number)).then(|| self.flow.view(step)),
                changes: Changes::default(),
                children: Vec::new(),
                events: Vec::new(),
            };
            self.records.insert(*number, record);
        }
    }

    /// A fork begins with what it took over.
    fn begin_here(&mut self) {
        self.records.clear();
        let mut steps: Vec<u64> = self.flow.steps().map(|step| step.number).collect();
        steps.sort_unstable();
        self.meet(&steps, &[]);
        for (number, record) in &mut self.records {
            if self.flow.step(*number).is_some_and(super::Step::is_parked) {
                record.status = "parked";
            }
        }
    }

    /// Steps that run again keep what is known of them, and have it all before them.
    fn go_back(&mut self, rewind: &Rewind, effects: &Effects, at: i64) {
        for step in effects.ready.iter().chain(&effects.revived) {
            let Some(record) = self.records.get_mut(step) else { continue };
            record.status = if effects.revived.contains(step) { "parked" } else { "ready" };
            record.finished_at = None;
            if rewind.steps.contains(step) {
                (record.attempt, record.error, record.changes) = (0, None, Changes::default());
                record.created_at = at;
                if let (Some(state), Some(step)) = (&mut record.state, self.flow.step(*step)) {
                    *state = self.flow.view(step);
                }
            }
        }
        let (flow, records) = (&self.flow, &self.records);
        self.arrivals.retain(|cohort, arrived| {
            let Some(cohort) = flow.cohorts.get(cohort) else { return false };
            arrived.retain(|step| {
                let ordinal = records.get(step).and_then(|record| record.ordinal);
                ordinal.is_some_and(|ordinal| cohort.arrived.contains_key(&ordinal))
            });
            true
        });
    }

    fn note(&mut self, line: &Line) {
        let event = &line.event;
        let parked = self.flow.step(event.step).is_some_and(super::Step::is_parked);
        let key = self.flow.key().clone();
        let Some(record) = self.records.get_mut(&event.step) else { return };
        record.attempt = event.attempt;
        record.replica = Some(line.replica);
        record.worker = line.worker.or(record.worker);
        record.queued_ms += line.queued_ms;
        record.ran_ms += line.ran_ms;
        match &event.body {
            EventBody::Done { changes, .. } => {
                record.changes.merge(changes.clone());
                (record.status, record.finished_at) = ("completed", Some(event.at));
            }
            EventBody::Failed { changes, error, next } => {
                record.changes.merge(changes.clone());
                record.error = Some(error.clone());
                record.status = if next.route == Route::Fail { "failed" } else { "routed" };
                record.finished_at = Some(event.at);
            }
            EventBody::Retry { changes, error, attempt, .. } => {
                record.changes.merge(changes.clone());
                record.error.clone_from(error);
                record.attempt = *attempt;
                record.status = "waiting";
            }
            EventBody::Parked { changes, calls } => {
                record.changes.merge(changes.clone());
                record.status = "parked";
                let children = calls.iter().filter(|call| call.kind == super::CallKind::Subgraph);
                record.children.extend(children.filter_map(|call| call.id.as_ref()).map(|id| hex(id)));
            }
            EventBody::Resolved { .. } => record.status = if parked { "parked" } else { "ready" },
            EventBody::Lost { .. } => record.status = "ready",
            EventBody::Control(Control::Break { .. }) => record.status = "waiting",
            EventBody::Control(Control::ResumeBreak { .. }) => {
                record.status = "ready";
                if let (Some(state), Some(step)) = (&mut record.state, self.flow.step(event.step)) {
                    *state = self.flow.view(step);
                }
            }
            EventBody::Started | EventBody::Control(_) | EventBody::Snapshot(_) => {}
        }
        let mut text =
            format!("{{\"ord\":{},\"event\":\"{}\",\"at\":{}", event.ord, event.body.name(), event.at);
        let worker = line.worker.map_or_else(|| "null".to_owned(), |worker| worker.to_string());
        let (attempt, queued, ran) = (event.attempt, line.queued_ms, line.ran_ms);
        let _ = write!(
            text,
            ",\"attempt\":{attempt},\"worker\":{worker},\"queued_ms\":{queued},\"ran_ms\":{ran}"
        );
        let _ = write!(text, ",\"body\":{}}}", event.body.to_json(&key));
        record.events.push(text);
    }

    /// The flow and its steps as JSON.
    pub fn to_json(&self, now_ms: i64) -> String {
        let flow = &self.flow;
        let mut out = format!(
            "{{\"status\":\"{}\",\"state\":{}",
            flow.status().as_str(),
            flow.current_state().to_json()
        );
        out.push_str(",\"error\":");
        out.push_str(
            &flow.error().map_or_else(|| "null".to_owned(), |error| error.to_json(flow.key(), true)),
        );
        out.push_str(",\"cancel_reason\":");
        match flow.cancel_reason() {
            Some(reason) => json::escape(reason, &mut out),
            None => out.push_str("null"),
        }
        out.push_str(",\"nodes\":[");
        for (at, node) in flow.position().iter().enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            json::escape(node, &mut out);
        }
        out.push_str("],\"steps\":[");
        for (at, (number, record)) in self.records.iter().enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            self.write(*number, record, now_ms, &mut out);
        }
        out.push_str("]}");
        out
    }

    fn write(&self, number: u64, record: &Record, now_ms: i64, out: &mut String) {
        let delayed =
            self.flow.step(number).is_some_and(|step| !step.is_parked() && step.not_before > now_ms);
        let status = if record.status == "ready" && delayed { "waiting" } else { record.status };
        let _ = write!(out, "{{\"number\":{number},\"node\":");
        json::escape(&record.node, out);
        out.push_str(",\"task\":");
        json::escape(&record.task, out);
        let (attempt, predecessors) = (record.attempt, &record.predecessors);
        let _ =
            write!(out, ",\"status\":\"{status}\",\"attempt\":{attempt},\"predecessors\":{predecessors:?}");
        for (name, value) in [
            ("ordinal", record.ordinal.map(u64::cast_signed)),
            ("replica", record.replica),
            ("worker", record.worker),
            ("created_at", Some(record.created_at)),
            ("finished_at", record.finished_at),
            ("queued_ms", Some(record.queued_ms)),
            ("ran_ms", Some(record.ran_ms)),
        ] {
            match value {
                Some(value) => drop(write!(out, ",\"{name}\":{value}")),
                None => drop(write!(out, ",\"{name}\":null")),
            }
        }
        out.push_str(",\"error\":");
        let error = record.error.as_ref();
        out.push_str(&error.map_or_else(|| "null".to_owned(), |error| error.to_json(self.flow.key(), true)));
        if let Some(state) = &record.state {
            let _ = write!(out, ",\"state\":{}", state.to_json());
        }
        out.push_str(",\"changes\":");
        record.changes.to_journal(out);
        let _ = write!(out, ",\"children\":{:?},\"events\":[{}]}}", record.children, record.events.join(","));
    }
}

fn next_of(body: &EventBody) -> Option<&Next> {
    match body {
        EventBody::Done { next, .. } | EventBody::Failed { next, .. } => Some(next),
        _ => None,
    }
}
