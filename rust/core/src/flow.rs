//! A live flow: its steps, cohorts and open calls.
//!
//! A flow changes only by [`Flow::apply`] of an [`Event`]. The engine makes the event of a result with
//! [`Flow::settle`], which decides and changes nothing; replay reads it from the journal. Both then go through
//! the same `apply`, so a flow that was replayed is the flow that wrote the journal.

mod apply;
mod cohort;
pub mod control;
pub mod event;
pub mod history;
pub mod holds;
mod next;
pub mod outcome;
pub mod park;
mod read;
pub mod rewind;
mod settle;
mod sieve;
mod signals;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::graph::{FailurePolicy, Graph, NodeIx, Target};
use crate::json::Value;
use crate::state::{Changes, Delta, State};

pub use event::{Event, EventBody};
pub use holds::{Hold, Holds};
pub use outcome::{StepError, TaskError, TaskResult};
pub use park::{Call, CallError, CallKind};
pub use settle::Context;

/// Steps that one flow may create before it is stopped as a runaway.
pub const DEFAULT_MAX_STEPS: u64 = 1_000_000;
/// Losses alone in a worker after which a step counts as poison.
pub const MAX_LOSSES: u32 = 3;

/// How a flow stands. `Interrupted` and `Paused` are derived: a flow is interrupted while it runs and an interrupt or a
/// breakpoint is open in it, and paused, whatever else, while an operation holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has steps to run, or waits for something.
    Running,
    /// It waits for at least one answer of a person.
    Interrupted,
    /// No step of it starts until somebody says so.
    Paused,
    /// Every branch came to its end.
    Completed,
    /// A step failed and nothing caught it.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl Status {
    /// The status as it is spelt in columns and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let all =
            [Self::Running, Self::Interrupted, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];
        all.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether the flow will never run again by itself.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// The place of a step inside an open cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The number of the step that opened the cohort.
    pub cohort: u64,
    /// Which of its branches: edge order, then array index.
    pub ordinal: u64,
}

/// The state that a step sees when it starts.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// The fold of everything before it.
    State(State),
    /// First step of a `for_each` branch: its cohort's base and one element, put together when it is read.
    Element {
        /// The `for_each` edge among the graph's edges.
        edge: u32,
        /// Index in the source array.
        index: u64,
        /// Length of the source array.
        count: u64,
        /// The element.
        value: Value,
    },
}

/// A step that has not finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Number within the flow, never reused.
    pub number: u64,
    /// Its node.
    pub node: NodeIx,
    /// 0 first; +1 by retries only.
    pub attempt: u32,
    /// Not started before this instant; 0 for at once.
    pub not_before: i64,
    /// What it sees.
    pub view: View,
    /// What its branch has contributed so far; empty on the trunk.
    pub log: Delta,
    /// Its branch, `None` on the trunk.
    pub branch: Option<Branch>,
    /// Changes that its earlier attempts and parks recorded.
    pub changes: Changes,
    /// Calls it made, in order, answered or not.
    pub calls: Vec<Call>,
    /// When it was created.
    pub created_at: i64,
    /// How often a worker died under it; anything above 0 makes it run alone.
    pub losses: u32,
    /// How many of those while nothing else was in that worker.
    pub losses_alone: u32,
    /// A `started` event stands in the journal and nothing after it.
    pub is_started: bool,
    /// Whether a breakpoint holds it, or has.
    pub hold: Hold,
    /// A join whose fold failed: it fails with this when its turn comes, and runs nothing.
    pub broken: Option<TaskError>,
}

impl Step {
    /// Whether it waits for an answer.
    pub fn is_parked(&self) -> bool {
        self.calls.iter().any(Call::is_open)
    }

    /// How many of its calls ask people something, themselves or below; a breakpoint that holds it counts too.
    pub(crate) fn open_questions(&self) -> usize {
        self.calls.iter().filter(|call| call.is_asking()).count() + usize::from(self.hold.is_held())
    }
}

/// An open cohort: the branches between a fan-out and its join.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    /// The step that opened it.
    pub source: u64,
    /// That step's node.
    pub node: NodeIx,
    /// State after the source: what the join folds onto.
    pub base: State,
    /// The branch of the enclosing cohort it stands in.
    pub outer: Option<Branch>,
    /// What that branch had contributed, the source included.
    pub outer_log: Delta,
    /// How many branches it has.
    pub size: u64,
    /// Contributions of the branches that arrived, by ordinal.
    pub arrived: BTreeMap<u64, Delta>,
    /// What failed branches had done before; never part of a join.
    pub failed: BTreeMap<u64, Delta>,
    /// The first failure, in journal order.
    pub error: Option<StepError>,
    /// The latest delay that an arrival asked for.
    pub not_before: i64,
    /// Its live steps: those of its own branches, not of cohorts inside.
    pub steps: FxHashSet<u64>,
    /// The sources of the open cohorts inside its branches.
    pub inner: FxHashSet<u64>,
}

impl Cohort {
    fn target(&self, graph: &Graph) -> Target {
        graph.node(self.node).join.unwrap_or(Target::End)
    }

    fn policy(&self, graph: &Graph) -> FailurePolicy {
        graph.node(self.node).on_failure
    }
}

/// A live flow.
#[derive(Clone, Debug)]
pub struct Flow {
    graph: Arc<Graph>,
    /// Its key, the prefix of its step keys.
    key: Arc<str>,
    /// Order number of the newest applied event.
    ord: u64,
    next_step: u64,
    max_steps: u64,
    status: Status,
    steps: FxHashMap<u64, Step>,
    /// How many of `steps` stand at each node: asked whenever the flow's status changes.
    standing: Vec<usize>,
    cohorts: FxHashMap<u64, Cohort>,
    /// How many calls and breakpoints of `steps` ask something, the calls themselves or below: asked after every event.
    open_interrupts: usize,
    signals: signals::Signals,
    holds: Holds,
    output: Option<State>,
    error: Option<StepError>,
    cancel_reason: Option<String>,
}

impl PartialEq for Flow {
    fn eq(&self, other: &Self) -> bool {
        self.graph.id() == other.graph.id()
            && (self.ord, self.next_step, self.status) == (other.ord, other.next_step, other.status)
            && self.steps == other.steps
            && self.standing == other.standing
            && self.cohorts == other.cohorts
            && (self.open_interrupts, &self.output) == (other.open_interrupts, &other.output)
            && self.signals == other.signals
            && self.holds == other.holds
            && self.error == other.error
            && self.cancel_reason == other.cancel_reason
    }
}

impl Flow {
    /// A new flow: step 1 at the graph's entry, seeing `input`.
    pub fn new(graph: Arc<Graph>, key: Arc<str>, input: State, created_at: i64) -> Self {
        let entry = graph.entry();
        let mut flow = Self {
            graph,
            key,
            ord: 0,
            next_step: 1,
            max_steps: DEFAULT_MAX_STEPS,
            status: Status::Running,
            steps: FxHashMap::default(),
            standing: Vec::new(),
            cohorts: FxHashMap::default(),
            open_interrupts: 0,
            signals: signals::Signals::default(),
            holds: Holds::default(),
            output: None,
            error: None,
            cancel_reason: None,
        };
        flow.standing.resize(flow.graph.nodes().len(), 0);
        flow.create_step(entry, View::State(input), Delta::default(), None, 0, created_at);
        flow
    }

    /// The flow that `events` made out of `input`, in the order of their `ord`.
    ///
    /// # Errors
    /// `corrupt` for a gap in `ord` or an event that does not fit.
    pub fn replay<'a>(
        graph: Arc<Graph>,
        key: Arc<str>,
        input: State,
        created_at: i64,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> crate::error::Result<Self> {
        let mut flow = Self::new(graph, key, input, created_at);
        for event in events {
            flow.apply(event, None)?;
        }
        Ok(flow)
    }
}
