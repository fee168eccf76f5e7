//! Why a step waits.

use std::fmt::Write;

use super::{Engine, Serial};
use crate::flow::Step;
use crate::flow_control::{Bound, No, Shut};
use crate::ids::FlowId;
use crate::json;
use crate::scheduler::Why;

/// A step that does not run, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The flow.
    pub flow: FlowId,
    /// The step's number.
    pub step: u64,
    /// Its node's name.
    pub node: String,
    /// What it leans on.
    pub resource: String,
    /// What it waits for: `not_due`, `parked`, `paused`, `breakpoint`, `committing`, `valve`, `breaker`, `limit`,
    /// `guarded`, `better_band`, `fairness_turn`, `no_free_worker`.
    pub reason: &'static str,
    /// JSON object: what there is to know about the reason.
    pub detail: String,
    /// When that may change by time alone.
    pub until: Option<i64>,
}

impl Engine {
    /// The steps of a flow that do not run, by number, at most so many; `None` when the flow is not owned here.
    pub fn why(&mut self, flow: &FlowId, limit: usize, now_ms: i64) -> Option<Vec<Waiting>> {
        let serial = *self.index.get(flow)?;
        self.scheduler.wake(now_ms);
        let live = self.flows.get(&serial)?;
        let idle = live.flow.steps().map(|step| step.number).filter(|step| !live.running.contains_key(step));
        let mut idle: Vec<u64> = idle.collect();
        idle.sort_unstable();
        idle.truncate(limit);
        Some(idle.into_iter().filter_map(|step| self.why_step(serial, step, now_ms)).collect())
    }

    /// Ready steps, best band and oldest first, at most so many; of one resource when it is given.
    pub fn waiting(&mut self, resource: Option<&str>, limit: usize, now_ms: i64) -> Vec<Waiting> {
        self.scheduler.wake(now_ms);
        let number = match resource {
            Some(name) => match self.resources.number(name) {
                Some(number) => Some(number),
                None => return Vec::new(),
            },
            None => None,
        };
        let found = self.scheduler.waiting(number, limit);
        found.into_iter().filter_map(|(serial, step)| self.why_step(serial, step, now_ms)).collect()
    }

    fn why_step(&mut self, serial: Serial, number: u64, now_ms: i64) -> Option<Waiting> {
        let reason = self.scheduler.why(serial, number);
        let live = self.flows.get(&serial)?;
        let step = live.flow.step(number)?;
        let node = live.entry.graph.node(step.node);
        let resource = live.entry.resources.get(step.node as usize).copied().unwrap_or_default();
        let name = self.scheduler.control().name(resource).map_or_else(String::new, ToString::to_string);
        let told = match reason {
            Some(why) => self.tell(&why, resource),
            None => idle(step, live.flow.is_paused(), now_ms),
        };
        let Told { reason, detail, until } = told;
        Some(Waiting {
            flow: live.about.id,
            step: number,
            node: node.name.to_string(),
            resource: name,
            reason,
            detail,
            until,
        })
    }

    fn tell(&self, why: &Why, resource: u32) -> Told {
        match why {
            Why::Shut(No { shut, until }) => {
                let (reason, detail) = match shut {
                    Shut::Valve(rate) => ("valve", format!("{{\"per_second\":{rate:.1}}}")),
                    Shut::Breaker => ("breaker", self.trip_detail(resource)),
                    Shut::Ramp => ("breaker", "{\"state\":\"closing\"}".to_owned()),
                    Shut::Limit(bound) => ("limit", bound_detail(*bound, "resource")),
                    Shut::Partition(bound) => ("limit", bound_detail(*bound, "partition")),
                };
                Told { reason, detail, until: *until }
            }
            Why::Guarded => Told::plain("guarded"),
            Why::BetterBand(priority) => {
                Told { detail: format!("{{\"priority\":{priority}}}"), ..Told::plain("better_band") }
            }
            Why::FairnessTurn => Told::plain("fairness_turn"),
            Why::NoFreeWorker | Why::NoEmptyWorker => Told {
                detail: format!("{{\"workers\":{}}}", self.workers.len()),
                ..Told::plain("no_free_worker")
            },
        }
    }

    fn trip_detail(&self, resource: u32) -> String {
        let Some(trip) = self.scheduler.control().tripped(resource) else { return "{}".to_owned() };
        let mut detail = String::from("{\"state\":\"open\",\"cause\":");
        json::escape(&trip.cause, &mut detail);
        let _ = write!(
            detail,
            ",\"since\":{},\"failed_probes\":{},\"next_probe_at\":{}}}",
            trip.at, trip.failed, trip.next_probe_at
        );
        detail
    }
}

struct Told {
    reason: &'static str,
    detail: String,
    until: Option<i64>,
}

impl Told {
    fn plain(reason: &'static str) -> Self {
        Self { reason, detail: "{}".to_owned(), until: None }
    }
}

/// A step that is neither ready nor in a worker.
fn idle(step: &Step, is_paused: bool, now_ms: i64) -> Told {
    if is_paused {
        return Told::plain("paused");
    }
    if step.is_parked() {
        let due = step.calls.iter().filter(|call| call.is_open()).filter_map(|call| call.due).min();
        return Told { until: due, ..Told::plain("parked") };
    }
    if step.hold.is_held() {
        return Told::plain("breakpoint");
    }
    if step.not_before > now_ms {
        return Told { until: Some(step.not_before), ..Told::plain("not_due") };
    }
    Told::plain("committing")
}

fn bound_detail(bound: Bound, of: &str) -> String {
    let bound = match bound {
        Bound::Concurrency => "max_concurrency",
        Bound::Rate => "rate",
    };
    format!("{{\"limit\":\"{bound}\",\"of\":\"{of}\"}}")
}
