//! A flow's journal as people read it: every step with its events, state and changes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::event::{Control, Entry, Event, EventBody, Next, Route};
use super::{Call, CallKind, Flow, StepError};
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

/// One step as it was. How one stands that has not finished is the flow's to say.
struct Record {
    node: Arc<str>,
    task: Arc<str>,
    ended: Option<&'static str>,
    attempt: u32,
    predecessors: Vec<u64>,
    ordinal: Option<u64>,
    error: Option<StepError>,
    replica: Option<i64>,
    worker: Option<i64>,
    queued_ms: i64,
    ran_ms: i64,
    waited_ms: i64,
    /// It waits, or was put off, since the first instant and until the second.
    waits: Option<(i64, i64)>,
    created_at: i64,
    finished_at: Option<i64>,
    state: Option<State>,
    changes: Changes,
    children: Vec<String>,
    events: Vec<String>,
}

impl Record {
    fn end(&mut self, status: &'static str, at: i64) {
        self.stop_waiting(at);
        (self.ended, self.finished_at) = (Some(status), Some(at));
    }

    /// Notes children: those it calls, or those that it waits for in a fork, which called none itself.
    fn meet_children(&mut self, calls: &[Call]) {
        let called = calls.iter().filter(|call| call.kind == CallKind::Subgraph);
        for child in called.filter_map(|call| call.id.as_ref()).map(|id| hex(id)) {
            if !self.children.contains(&child) {
                self.children.push(child);
            }
        }
    }

    fn stop_waiting(&mut self, at: i64) {
        self.waited_ms += waited(self.waits.take(), at);
    }
}

fn waited(waits: Option<(i64, i64)>, now: i64) -> i64 {
    waits.map_or(0, |(since, until)| (until.min(now) - since).max(0))
}

/// Reads a whole journal, from ord 1.
pub struct Reader {
    flow: Flow,
    records: BTreeMap<u64, Record>,
    /// The last steps of the branches that arrived, by the step that opened the cohort.
    arrivals: FxHashMap<u64, Vec<u64>>,
    /// The step whose state is kept.
    wanted: Option<u64>,
}

impl Reader {
    /// A reader of the flow that starts with `input`. `wanted` names the step whose state is asked for.
    pub fn new(graph: Arc<Graph>, key: Arc<str>, input: State, created_at: i64, wanted: Option<u64>) -> Self {
        let flow = Flow::new(graph, key, input, created_at);
        Self { flow, records: BTreeMap::new(), arrivals: FxHashMap::default(), wanted }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// `corrupt` when the row does not fit.
    pub fn read(&mut self, line: &Line) -> Result<()> {
        let event = &line.event;
        let is_first = self.flow.ord() == 0;
        if matches!(event.body, EventBody::Snapshot(_)) && !is_first {
            self.flow.skip_ord();
            return Ok(());
        }
        if is_first && !matches!(event.body, EventBody::Snapshot(_)) {
            self.meet(&[1], &[]);
        }
        let branch = self.flow.step(event.step).and_then(|step| step.branch);
        let effects = self.flow.apply(event, None)?;
        self.note(line);
        for step in &effects.cancelled {
            if let Some(record) = self.records.get_mut(step) {
                record.end("cancelled", event.at);
            }
        }
        if let Some(next) = next_of(&event.body) {
            match (&next.route, branch) {
                (Route::Arrive { .. }, Some(branch)) => self.arrive(branch.cohort, event.step),
                (Route::Fan { entries, .. }, _) if entries.iter().any(is_arrived) => {
                    self.arrive(event.step, event.step);
                }
                _ => {}
            }
        }
        let joined = effects.joined.as_ref().map(|(step, _)| *step);
        let (join, direct): (Vec<u64>, Vec<u64>) =
            effects.ready.iter().partition(|step| Some(**step) == joined);
        self.meet(&direct, &[event.step]);
        if !join.is_empty() {
            let arrived = effects.joined_source.and_then(|source| self.arrivals.get(&source)).cloned();
            self.meet(&join, &arrived.unwrap_or_else(|| vec![event.step]));
        }
        if matches!(event.body, EventBody::Control(_) | EventBody::Snapshot(_)) {
            self.reconcile(line);
        }
        Ok(())
    }

    fn arrive(&mut self, source: u64, step: u64) {
        self.arrivals.entry(source).or_default().push(step);
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
                ended: None,
                attempt: step.attempt,
                predecessors: predecessors.to_vec(),
                ordinal: step.branch.map(|branch| branch.ordinal),
                error: None,
                replica: None,
                worker: None,
                queued_ms: 0,
                ran_ms: 0,
                waited_ms: 0,
                waits: Some((step.created_at, if step.is_runnable() { step.not_before } else { i64::MAX })),
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

    /// After an operation that may have done anything to the steps: those that it brought back live again, those that
    /// it took away are cancelled. What happened before stays.
    fn reconcile(&mut self, line: &Line) {
        let at = line.event.at;
        let mut standing: Vec<u64> = self.flow.steps().map(|step| step.number).collect();
        standing.sort_unstable();
        self.meet(&standing, &[]);
        let anew: &[u64] = match &line.event.body {
            EventBody::Control(Control::Rewind(rewind)) => &rewind.steps,
            _ => &[],
        };
        for (number, record) in &mut self.records {
            if let Some(step) = self.flow.step(*number) {
                record.meet_children(&step.calls);
            }
            match self.flow.step(*number) {
                Some(step) if record.ended.is_some() || anew.contains(number) => {
                    (record.ended, record.finished_at, record.error) = (None, None, None);
                    (record.attempt, record.changes) = (step.attempt, step.changes.clone());
                    record.created_at = step.created_at;
                    record.waits = Some((at, if step.is_runnable() { step.not_before } else { i64::MAX }));
                }
                None if record.ended.is_none() => record.end("cancelled", at),
                _ => continue,
            }
            if *number != line.event.step {
                record.events.push(described(line, self.flow.key()));
            }
        }
        let (flow, records) = (&self.flow, &self.records);
        for (source, arrived) in &mut self.arrivals {
            let Some(cohort) = flow.cohorts.get(source) else { continue };
            arrived.retain(|step| {
                let ordinal = records.get(step).and_then(|record| record.ordinal);
                step == source || ordinal.is_some_and(|ordinal| cohort.arrived.contains_key(&ordinal))
            });
        }
        let seen = self.wanted.and_then(|wanted| self.flow.step(wanted)).map(|step| self.flow.view(step));
        if let Some(record) = self.wanted.and_then(|wanted| self.records.get_mut(&wanted)) {
            record.state = seen.or_else(|| record.state.take());
        }
    }

    fn note(&mut self, line: &Line) {
        let event = &line.event;
        let rests = self.flow.step(event.step).is_some_and(|step| !step.is_runnable());
        let Some(record) = self.records.get_mut(&event.step) else { return };
        record.attempt = event.attempt;
        record.replica = Some(line.replica);
        record.worker = line.worker.or(record.worker);
        record.queued_ms += line.queued_ms;
        record.ran_ms += line.ran_ms;
        record.stop_waiting(event.at);
        match &event.body {
            EventBody::Done { changes, .. } => {
                record.changes.merge(changes.clone());
                record.end("completed", event.at);
            }
            EventBody::Failed { changes, error, next } => {
                record.changes.merge(changes.clone());
                record.error = Some(error.clone());
                record.end(if next.route == Route::Fail { "failed" } else { "routed" }, event.at);
            }
            EventBody::Retry { changes, error, attempt, not_before } => {
                record.changes.merge(changes.clone());
                record.error.clone_from(error);
                record.attempt = *attempt;
                record.waits = Some((event.at, *not_before));
            }
            EventBody::Parked { changes, calls } => {
                record.changes.merge(changes.clone());
                record.meet_children(calls);
            }
            EventBody::Resolved { .. }
            | EventBody::Lost { .. }
            | EventBody::Started
            | EventBody::Control(_)
            | EventBody::Snapshot(_) => {}
        }
        if rests {
            record.waits = Some((event.at, i64::MAX));
        }
        record.events.push(described(line, self.flow.key()));
    }

    /// How a step stands that has not finished.
    fn standing(&self, number: u64, now_ms: i64, running: &[u64]) -> &'static str {
        match self.flow.step(number) {
            _ if running.contains(&number) => "running",
            Some(step) if step.is_parked() => "parked",
            Some(step) if step.hold.is_held() || step.not_before > now_ms => "waiting",
            _ => "ready",
        }
    }

    /// How many steps stand how, and the children that they called, as JSON.
    pub fn to_counts(&mut self, now_ms: i64, running: &[u64]) -> String {
        self.begin();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut children = Vec::new();
        for (number, record) in &self.records {
            let status = record.ended.unwrap_or_else(|| self.standing(*number, now_ms, running));
            *counts.entry(status).or_default() += 1;
            children.extend(record.children.iter());
        }
        format!("{{\"counts\":{counts:?},\"children\":{children:?}}}")
    }

    /// A flow without any event has its first step.
    fn begin(&mut self) {
        if self.flow.ord() == 0 {
            self.meet(&[1], &[]);
        }
    }

    /// The flow and its steps as JSON.
    ///
    /// `running` are the steps that are in workers now; only the owner knows.
    pub fn to_json(&mut self, now_ms: i64, running: &[u64]) -> String {
        self.begin();
        let flow = &self.flow;
        let mut out = format!(
            "{{\"status\":\"{}\",\"state\":{}",
            flow.status().as_str(),
            flow.present_state().to_json()
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
            self.write(*number, record, now_ms, running, &mut out);
        }
        out.push_str("]}");
        out
    }

    fn write(&self, number: u64, record: &Record, now_ms: i64, running: &[u64], out: &mut String) {
        let status = record.ended.unwrap_or_else(|| self.standing(number, now_ms, running));
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
            ("waited_ms", Some(record.waited_ms + waited(record.waits, now_ms))),
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

/// An event as one JSON object. The state that a control event leads to is left out: the steps show it.
fn described(line: &Line, key: &str) -> String {
    let event = &line.event;
    let mut text = format!("{{\"ord\":{},\"event\":\"{}\",\"at\":{}", event.ord, event.body.name(), event.at);
    let worker = line.worker.map_or_else(|| "null".to_owned(), |worker| worker.to_string());
    let (attempt, queued, ran) = (event.attempt, line.queued_ms, line.ran_ms);
    let _ = write!(
        text,
        ",\"attempt\":{attempt},\"worker\":{worker},\"queued_ms\":{queued},\"ran_ms\":{ran},\"body\":"
    );
    let body = match &event.body {
        EventBody::Snapshot(_) => "{}".to_owned(),
        EventBody::Control(_) => without_flow(&event.body.to_json(key)),
        body => body.to_json(key),
    };
    text.push_str(&body);
    text.push('}');
    text
}

fn without_flow(body: &str) -> String {
    let Ok(fields) = json::object_fields(body) else { return "{}".to_owned() };
    let mut out = String::from("{");
    for (name, value) in fields.iter().filter(|(name, _)| &**name != "flow") {
        if out.len() > 1 {
            out.push(',');
        }
        json::escape(name, &mut out);
        let _ = write!(out, ":{}", value.raw());
    }
    out.push('}');
    out
}

fn is_arrived(entry: &Entry) -> bool {
    matches!(entry, Entry::Arrived { .. })
}

fn next_of(body: &EventBody) -> Option<&Next> {
    match body {
        EventBody::Done { next, .. } | EventBody::Failed { next, .. } => Some(next),
        _ => None,
    }
}
