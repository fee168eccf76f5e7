//! The whole live state as JSON, so that replay of a long journal starts at its last snapshot.

use std::fmt::Write;

use rustc_hash::FxHashSet;

use super::outcome::{StepError, TaskError};
use super::park::Call;
use super::signals::Signals;
use super::{Branch, Cohort, Flow, Hold, Holds, Status, Step, View};
use crate::error::{Error, Result};
use crate::graph::NodeIx;
use crate::json::{self, Value};
use crate::state::{Changes, Delta, Field, State};

impl Flow {
    /// The live state as the body of a `snapshot` event; equal flows give equal text. A cohort stands after the one
    /// that it is in, whose source is the older step.
    pub fn snapshot(&self) -> String {
        let mut out =
            format!("{{\"next_step\":{},\"status\":\"{}\",\"steps\":[", self.next_step, self.status.as_str());
        let mut steps: Vec<&Step> = self.steps.values().collect();
        steps.sort_unstable_by_key(|step| step.number);
        list(&steps, &mut out, |step, out| self.write_step(step, out));
        out.push_str("],\"cohorts\":[");
        let mut cohorts: Vec<&Cohort> = self.cohorts.values().collect();
        cohorts.sort_unstable_by_key(|cohort| cohort.source);
        list(&cohorts, &mut out, |cohort, out| self.write_cohort(cohort, out));
        out.push(']');
        self.signals.write(&mut out);
        if let Some(output) = &self.output {
            let _ = write!(out, ",\"output\":{}", output.to_json());
        }
        if let Some(error) = &self.error {
            let _ = write!(out, ",\"error\":{}", error.to_json(&self.key, true));
        }
        if let Some(reason) = &self.cancel_reason {
            out.push_str(",\"cancel_reason\":");
            json::escape(reason, &mut out);
        }
        if self.holds != Holds::default() {
            out.push_str(",\"holds\":{");
            self.holds.write(&mut out);
            out.push('}');
        }
        out.push('}');
        out
    }

    pub(super) fn restore(&mut self, text: &str) -> Result<()> {
        let fields = Members(json::object_fields(text)?);
        self.next_step = fields.number("next_step")?;
        let status = fields.text("status").as_deref().and_then(Status::parse);
        self.status = status.ok_or_else(corrupt)?;
        self.steps.clear();
        self.standing.fill(0);
        self.cohorts.clear();
        for value in fields.list("cohorts")? {
            let cohort = self.read_cohort(&Members(json::object_fields(value.raw())?))?;
            self.cohorts.insert(cohort.source, cohort);
        }
        for value in fields.list("steps")? {
            let step = self.read_step(&Members(json::object_fields(value.raw())?))?;
            self.standing[step.node as usize] += 1;
            self.steps.insert(step.number, step);
        }
        self.find_members();
        self.open_interrupts = self.steps.values().map(Step::open_questions).sum();
        self.signals = Signals::read(fields.get("signals"))?;
        for step in self.steps.values() {
            for (at, call) in (0..).zip(&step.calls) {
                self.signals.wait(call, call.since, step.number, at);
            }
        }
        self.holds = fields.get("holds").map(Holds::read).transpose()?.unwrap_or_default();
        self.output = fields.get("output").map(|value| State::from_json(value.raw())).transpose()?;
        self.error = fields.get("error").map(StepError::from_json).transpose()?;
        self.cancel_reason = fields.text("cancel_reason");
        Ok(())
    }

    /// Puts the live steps and the open cohorts into the cohorts that they stand in.
    fn find_members(&mut self) {
        for step in self.steps.values() {
            if let Some(cohort) = step.branch.and_then(|branch| self.cohorts.get_mut(&branch.cohort)) {
                cohort.steps.insert(step.number);
            }
        }
        let outer = |cohort: &Cohort| cohort.outer.map(|branch| (branch.cohort, cohort.source));
        let inner: Vec<(u64, u64)> = self.cohorts.values().filter_map(outer).collect();
        for (outer, source) in inner {
            if let Some(cohort) = self.cohorts.get_mut(&outer) {
                cohort.inner.insert(source);
            }
        }
    }

    fn write_step(&self, step: &Step, out: &mut String) {
        let node = &self.graph.node(step.node).name;
        let _ = write!(out, "{{\"step\":{},\"node\":", step.number);
        json::escape(node, out);
        let (attempt, not_before, created_at) = (step.attempt, step.not_before, step.created_at);
        let _ = write!(out, ",\"attempt\":{attempt},\"not_before\":{not_before},\"created_at\":{created_at}");
        let (losses, alone) = (step.losses, step.losses_alone);
        let _ =
            write!(out, ",\"losses\":{losses},\"losses_alone\":{alone},\"is_started\":{}", step.is_started);
        match &step.view {
            View::State(state) => {
                out.push_str(",\"state\":");
                self.write_state(state, step.branch, out);
            }
            View::Element { edge, index, count, value } => {
                let _ = write!(out, ",\"element\":[{edge},{index},{count},{}]", value.raw());
            }
        }
        write_branch(step.branch, out);
        let _ = write!(out, ",\"log\":{},\"changes\":", step.log.to_json());
        step.changes.to_journal(out);
        out.push_str(",\"calls\":[");
        list(&step.calls, out, Call::write_json);
        out.push(']');
        step.hold.write(out);
        if let Some(error) = &step.broken {
            let placed = StepError { error: error.clone(), node: node.clone(), step: step.number };
            let _ = write!(out, ",\"broken\":{}", placed.to_json(&self.key, true));
        }
        out.push('}');
    }

    fn read_step(&self, fields: &Members) -> Result<Step> {
        let view = match (fields.get("state"), fields.get("element").and_then(Value::elements)) {
            (Some(state), _) => View::State(self.read_state(state, read_branch(fields)?)?),
            (None, Some(parts)) if parts.len() == 4 => View::Element {
                edge: parse(&parts[0])?,
                index: parse(&parts[1])?,
                count: parse(&parts[2])?,
                value: parts[3].clone(),
            },
            _ => return Err(corrupt()),
        };
        let broken = fields.get("broken").map(StepError::from_json).transpose()?;
        Ok(Step {
            number: fields.number("step")?,
            node: self.read_node(fields)?,
            attempt: fields.number("attempt")?,
            not_before: fields.number("not_before")?,
            view,
            log: Delta::from_json(fields.get("log").ok_or_else(corrupt)?.raw())?,
            branch: read_branch(fields)?,
            changes: Changes::from_journal(fields.get("changes").ok_or_else(corrupt)?.raw())?,
            calls: fields.list("calls")?.iter().map(Call::from_json).collect::<Result<_>>()?,
            created_at: fields.number("created_at")?,
            losses: fields.number("losses")?,
            losses_alone: fields.number("losses_alone")?,
            is_started: fields.get("is_started").is_some_and(|value| value.raw() == "true"),
            hold: Hold::read(fields.get("hold"))?,
            broken: broken.map(|placed: StepError| -> TaskError { placed.error }),
        })
    }

    fn write_cohort(&self, cohort: &Cohort, out: &mut String) {
        let _ = write!(out, "{{\"source\":{},\"node\":", cohort.source);
        json::escape(&self.graph.node(cohort.node).name, out);
        let _ = write!(out, ",\"size\":{},\"not_before\":{}", cohort.size, cohort.not_before);
        out.push_str(",\"base\":");
        self.write_state(&cohort.base, cohort.outer, out);
        let _ = write!(out, ",\"outer_log\":{}", cohort.outer_log.to_json());
        write_branch(cohort.outer, out);
        for (name, branches) in [("arrived", &cohort.arrived), ("failed", &cohort.failed)] {
            let _ = write!(out, ",\"{name}\":[");
            let branches: Vec<_> = branches.iter().collect();
            list(&branches, out, |(ordinal, log), out| {
                let _ = write!(out, "[{ordinal},{}]", log.to_json());
            });
            out.push(']');
        }
        if let Some(error) = &cohort.error {
            let _ = write!(out, ",\"error\":{}", error.to_json(&self.key, true));
        }
        out.push('}');
    }

    fn read_cohort(&self, fields: &Members) -> Result<Cohort> {
        let branches = |name: &str| -> Result<_> {
            let pairs = fields.list(name)?;
            pairs
                .iter()
                .map(|pair| {
                    let pair = pair.elements().filter(|pair| pair.len() == 2).ok_or_else(corrupt)?;
                    Ok((parse(&pair[0])?, Delta::from_json(pair[1].raw())?))
                })
                .collect()
        };
        Ok(Cohort {
            source: fields.number("source")?,
            node: self.read_node(fields)?,
            base: self.read_state(fields.get("base").ok_or_else(corrupt)?, read_branch(fields)?)?,
            outer: read_branch(fields)?,
            outer_log: Delta::from_json(fields.get("outer_log").ok_or_else(corrupt)?.raw())?,
            size: fields.number("size")?,
            arrived: branches("arrived")?,
            failed: branches("failed")?,
            error: fields.get("error").map(StepError::from_json).transpose()?,
            not_before: fields.number("not_before")?,
            steps: FxHashSet::default(),
            inner: FxHashSet::default(),
        })
    }

    /// Inside a cohort a state is written as what was changed since the cohort's base: thousands of branches that share
    /// one large array must not each repeat it.
    fn write_state(&self, state: &State, branch: Option<Branch>, out: &mut String) {
        match branch.and_then(|branch| self.cohorts.get(&branch.cohort)) {
            Some(cohort) => state.changes_since(&cohort.base).to_journal(out),
            None => state.write_json(out),
        }
    }

    /// Reads what `write_state` wrote; the enclosing cohorts are there already.
    fn read_state(&self, value: &Value, branch: Option<Branch>) -> Result<State> {
        let Some(branch) = branch else { return State::from_json(value.raw()) };
        let mut state = self.cohorts.get(&branch.cohort).ok_or_else(corrupt)?.base.clone();
        state.apply(&Changes::from_journal(value.raw())?);
        Ok(state)
    }

    fn read_node(&self, fields: &Members) -> Result<NodeIx> {
        fields.text("node").and_then(|name| self.graph.find(&name)).ok_or_else(corrupt)
    }
}

struct Members(Vec<(Field, Value)>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| &**field == name).map(|(_, value)| value)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        parse(self.get(name).ok_or_else(corrupt)?)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(super::outcome::text)
    }

    fn list(&self, name: &str) -> Result<Vec<Value>> {
        self.get(name).and_then(Value::elements).ok_or_else(corrupt)
    }
}

fn list<T>(items: &[T], out: &mut String, mut write: impl FnMut(&T, &mut String)) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(item, out);
    }
}

fn write_branch(branch: Option<Branch>, out: &mut String) {
    if let Some(Branch { cohort, ordinal }) = branch {
        let _ = write!(out, ",\"branch\":[{cohort},{ordinal}]");
    }
}

fn read_branch(fields: &Members) -> Result<Option<Branch>> {
    let Some(value) = fields.get("branch") else { return Ok(None) };
    let parts = value.elements().filter(|parts| parts.len() == 2).ok_or_else(corrupt)?;
    Ok(Some(Branch { cohort: parse(&parts[0])?, ordinal: parse(&parts[1])? }))
}

fn parse<T: std::str::FromStr>(value: &Value) -> Result<T> {
    value.raw().parse().map_err(|_| corrupt())
}

fn corrupt() -> Error {
    Error::corrupt("a snapshot lacks a member that it must have")
}
