//! The one object that Python drives: flows, scheduler, timers and the batch under way.
//!
//! The way of a step: `frames` picks it and encodes it for a worker, `receive` decodes the result and settles it,
//! `take_batch` hands the event to the writer, and `committed` makes its successors ready. Nothing here touches
//! the outside: time comes in as `now_ms`, chance through [`Options::random`].

mod admit;
mod budgets;
mod children;
mod commit;
mod crowd;
mod deferred;
mod dispatch;
mod graphs;
mod holds;
mod inherit;
mod mail;
mod needs;
mod notify;
mod pace;
mod park;
mod places;
mod refuse;
mod rejoin;
mod release;
mod resources;
mod resume;
mod rewind;
mod settle;
mod signals;
mod sweep;
mod waits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::batch::{Building, Group, NewFlow};
use crate::flow::{Context, Flow, Status, TaskResult, DEFAULT_MAX_STEPS};
use crate::graph::Graph;
use crate::ids::{new_id, FlowId};
use crate::lru::Lru;
use crate::scheduler::{Scheduler, SlotOptions, TaskKind, Timers};
use crate::wire::{FrameReader, FrameWriter};

pub use admit::{input_state, new_state, LoadedFlow};
pub use budgets::Overdue;
pub use commit::{Report, Stopped};
pub use deferred::Wanted;
pub use mail::{Mail, MAIL_KINDS};
pub use needs::Needs;
pub use resources::{PartitionBy, ResourceLimits};
pub use rewind::{next_state, try_rewind};
pub use waits::Waiting;

/// How long a released flow stays in memory unused.
const RELEASED_TTL_MS: u64 = 600_000;

/// Longest event, and longest input of a flow, unless an engine is told otherwise.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// A live flow's place in memory; not reused while anything refers to it.
pub type Serial = u32;

/// Source of 16 random bytes, from the system.
pub type Random = Box<dyn FnMut() -> [u8; 16] + Send>;

/// What an engine is told once.
pub struct Options {
    /// This replica's id.
    pub replica: i64,
    /// The shard's number, the first part of its keys.
    pub shard: u32,
    /// How many flows it holds at most before new ones stay in the database.
    pub room: usize,
    /// Longest attempt when neither flow nor node says otherwise.
    pub time_budget_ms: i64,
    /// How long an attempt may take to end after it was told that its time is up.
    pub grace_ms: i64,
    /// A flow that waits longer than this is released.
    pub release_after_ms: i64,
    /// Steps that one flow may create.
    pub max_steps: u64,
    /// Longest body of one event.
    pub max_event_bytes: usize,
    /// Journal bytes after which a snapshot is worth while.
    pub snapshot_bytes: usize,
    /// Sync tasks that a worker runs at a time.
    pub threads: u32,
    /// Released flows kept in memory.
    pub lru_entries: usize,
    /// Bytes of them.
    pub lru_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replica: 0,
            shard: 1,
            room: 2_048,
            time_budget_ms: 120_000,
            grace_ms: 1_000,
            release_after_ms: 5_000,
            max_steps: DEFAULT_MAX_STEPS,
            max_event_bytes: MAX_EVENT_BYTES,
            snapshot_bytes: 256 << 10,
            threads: 1,
            lru_entries: 4_096,
            lru_bytes: 64 << 20,
        }
    }
}

/// A graph with what dispatch needs of it.
#[derive(Debug)]
pub(crate) struct GraphEntry {
    pub graph: Arc<Graph>,
    /// Its number on the wire.
    pub number: u32,
    /// Interned task of each node.
    pub tasks: Vec<u32>,
    /// What each node leans on, by its number in the scheduler's flow control.
    pub resources: Vec<u32>,
}

/// Something that happened to a step, kept until its event is committed.
#[derive(Debug)]
pub(crate) enum Happening {
    Result(TaskResult),
    Lost { cause: String, alone: bool },
}

#[derive(Debug)]
pub(crate) struct Kept {
    /// The event it became; 0 while it is not settled.
    pub ord: u64,
    pub step: u64,
    pub happening: Happening,
    pub ran: Ran,
    /// The database refused what it was, and it became an error.
    pub is_condemned: bool,
}

/// What is known of an attempt beside its result.
#[expect(clippy::struct_field_names, reason = "named as the column")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ran {
    pub worker: Option<u32>,
    pub queued_ms: i64,
    pub ran_ms: i64,
}

/// A flow this engine owns.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a stop or a release that is under way can be rolled back too"
)]
pub(crate) struct Live {
    pub about: NewFlow,
    pub entry: Arc<GraphEntry>,
    pub fairness_key: Arc<str>,
    pub flow: Flow,
    pub claims: i64,
    pub crashes: i64,
    /// Mail read so far: guards stop and release.
    pub seen: i64,
    /// Highest message number that was handled.
    pub handled: i64,
    /// Results whose events are not committed yet.
    pub kept: VecDeque<Kept>,
    /// Newest committed event.
    pub committed: u64,
    /// Steps that are in a worker, by step.
    pub running: FxHashMap<u64, u64>,
    /// Steps offered to the scheduler.
    pub offered: FxHashSet<u64>,
    pub told: Status,
    /// What its parent was told last: whether a question is open in its tree.
    pub told_parent: bool,
    /// Stands for the nodes that its row names; 0 when that is unknown.
    pub place: u64,
    /// It waits among those whose place is to be written.
    pub is_place_due: bool,
    pub journal_bytes: usize,
    pub snapshot_len: usize,
    pub is_releasing: bool,
    /// With many steps: when it may next be looked at to be let go.
    pub look_again_at: i64,
    pub is_stopping: bool,
    /// Rolled back: waits to be loaded again.
    pub is_reloading: bool,
    /// A committed event will set `crashes` to 0.
    pub is_calming: bool,
    /// Refusals since its last commit; above 0 whatever is written of it goes alone.
    pub refusals: u32,
    /// Messages whose effect the database refused: they get that as their verdict.
    pub blamed_mail: FxHashSet<i64>,
    /// It had finished when it was loaded: what is to happen to it is in its mail.
    pub is_revived: bool,
    /// Set while a message waits for the whole journal.
    pub history: Option<Box<rewind::History>>,
    /// Steps that an operation sent back or let go, with the event that says so: what an older event allows them they
    /// may not any more.
    pub let_go: FxHashMap<u64, u64>,
}

impl Live {
    /// Whether an operation let the step go by an event that is not committed yet.
    fn is_ahead(&mut self, step: u64) -> bool {
        let committed = self.committed;
        self.let_go.retain(|_, ord| *ord > committed);
        self.let_go.contains_key(&step)
    }

    fn has_unread_mail(&self) -> bool {
        self.seen == UNREAD || self.history.is_some()
    }
}

/// What an owner has seen of mail that it must read first: equal to no number of messages.
const UNREAD: i64 = -1;

pub(crate) struct Running {
    pub flow: Serial,
    pub step: u64,
    pub worker: u32,
    pub queued_ms: i64,
    /// Whether the worker was told; a guarded step waits for its `started` event first.
    pub is_sent: bool,
    pub budget_ms: i64,
    /// Its time is up and it was told: whatever it answers, it has failed.
    pub is_late: bool,
}

pub(crate) struct Worker {
    pub reader: FrameReader,
    pub outbox: FrameWriter,
    pub graphs: FxHashSet<u32>,
    pub clocks: budgets::Clocks,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A step's delay.
    Delay(Serial, u64),
    /// A call's due instant: a sleep is over, an interrupt or a signal lapses.
    Call(Serial, u64, u32),
    /// Whether the flow can be released now.
    Rest(Serial),
}

pub(crate) struct Released {
    pub flow: Flow,
    pub claims: i64,
    pub handled: i64,
    pub journal_bytes: usize,
    pub snapshot_len: usize,
}

/// The engine's core.
pub struct Engine {
    options: Options,
    random: Random,
    graphs: graphs::Graphs,
    tasks: FxHashMap<Arc<str>, u32>,
    known_tasks: BTreeMap<String, TaskKind>,
    resources: resources::Resources,
    /// What tasks are sent of the state, by interned task; the others everything.
    needs: FxHashMap<u32, Needs>,
    /// Set when every task name will do, as with a host's executor.
    default_kind: Option<TaskKind>,
    flows: FxHashMap<Serial, Live>,
    index: FxHashMap<FlowId, Serial>,
    next_serial: Serial,
    watched: FxHashSet<FlowId>,
    /// Flows whose creation a caller waits for.
    creating: FxHashSet<FlowId>,
    /// Flows created here whose rows are not known to be committed.
    unstored: FxHashSet<FlowId>,
    scheduler: Scheduler,
    timers: Timers<Timer>,
    places: places::Places,
    /// When it is next looked whether flows of shut resources fill the room.
    crowd_at: i64,
    released: Lru<FlowId, Released>,
    running: FxHashMap<u64, Running>,
    next_dispatch: u64,
    /// Guarded steps whose `started` event is committed: they go with the next frames, unless they are cancelled.
    to_send: Vec<u64>,
    workers: FxHashMap<u32, Worker>,
    pending: VecDeque<Building>,
    /// Flows with rows in the batch that was handed out, or in a part of it, not answered yet.
    in_flight: FxHashSet<FlowId>,
    /// Flows that were rolled back and are not reported yet.
    reloads: FxHashSet<FlowId>,
    /// Flows whose mail waits for their journal.
    histories: FxHashSet<FlowId>,
    next_batch: u64,
    ticket: u64,
    pace: pace::Pace,
    overdue: Vec<Overdue>,
    /// The clock of time budgets.
    steady_ms: i64,
    report: Report,
    /// Unknown workflows of children are the host's to find.
    asks_for_graphs: bool,
    wanted: Vec<Wanted>,
}

impl Engine {
    /// An engine that holds nothing.
    pub fn new(options: Options, random: Random) -> Self {
        let released = released_flows(&options);
        Self {
            random,
            graphs: graphs::Graphs::new(),
            tasks: FxHashMap::default(),
            known_tasks: BTreeMap::new(),
            resources: resources::Resources::default(),
            needs: FxHashMap::default(),
            default_kind: None,
            flows: FxHashMap::default(),
            index: FxHashMap::default(),
            next_serial: 1,
            watched: FxHashSet::default(),
            creating: FxHashSet::default(),
            unstored: FxHashSet::default(),
            scheduler: Scheduler::new(slots(&options)),
            timers: Timers::new(),
            places: places::Places::default(),
            crowd_at: 0,
            released,
            running: FxHashMap::default(),
            next_dispatch: 1,
            to_send: Vec::new(),
            workers: FxHashMap::default(),
            pending: VecDeque::new(),
            in_flight: FxHashSet::default(),
            reloads: FxHashSet::default(),
            histories: FxHashSet::default(),
            next_batch: 1,
            ticket: 0,
            pace: pace::Pace::default(),
            overdue: Vec::new(),
            steady_ms: 0,
            report: Report::default(),
            asks_for_graphs: false,
            wanted: Vec::new(),
            options,
        }
    }

    /// How many flows it owns, and how many steps are ready and in workers.
    pub fn load(&self) -> (usize, usize, usize) {
        (self.flows.len(), self.scheduler.ready_len(), self.running.len())
    }

    /// How many entries it holds on behalf of flows, in whatever place: 0 when every flow has ended.
    pub fn entries(&self) -> usize {
        let rows = self.pending.iter().filter(|building| !building.is_empty()).count() + self.in_flight.len();
        let steps = self.scheduler.ready_len() + self.scheduler.running_len() + self.running.len();
        let flows = self.flows.len() + self.index.len() + self.reloads.len();
        let waits = self.watched.len() + self.creating.len();
        rows + steps + flows + self.histories.len() + self.timers.len() + waits + self.unstored.len()
    }

    /// The flows it owns, without those of which the database may know nothing yet.
    pub fn owned(&self) -> Vec<FlowId> {
        self.index.keys().filter(|flow| !self.unstored.contains(*flow)).copied().collect()
    }

    /// Which of these flows it owns.
    pub fn owned_of(&self, flows: &[FlowId]) -> Vec<FlowId> {
        flows.iter().filter(|flow| self.index.contains_key(*flow)).copied().collect()
    }

    /// The flow's steps that are in workers now, none when it is not owned.
    pub fn running_steps(&self, flow: &FlowId) -> Vec<u64> {
        let live = self.index.get(flow).and_then(|serial| self.flows.get(serial));
        live.map(|live| live.running.keys().copied().collect()).unwrap_or_default()
    }

    /// The id under which it writes.
    pub fn replica(&self) -> i64 {
        self.options.replica
    }

    /// Reports the rest of the flow to whoever waits for it.
    pub fn watch(&mut self, flow: FlowId) {
        self.watched.insert(flow);
    }

    /// Reports when the rows of a flow that is being created are safe.
    pub fn watch_creation(&mut self, flow: FlowId) {
        self.creating.insert(flow);
    }

    /// Nobody waits for it any more.
    pub fn unwatch(&mut self, flow: &FlowId) {
        self.watched.remove(flow);
    }

    fn enqueue(&mut self, group: Group) {
        if group.is_empty() {
            return;
        }
        if group.flows().any(|flow| self.is_suspect(flow)) {
            self.pending.push_back(Building::alone(group));
            return;
        }
        match self.pending.back_mut() {
            Some(building) if building.has_room(&group) => building.push(group),
            _ => {
                let mut building = Building::default();
                building.push(group);
                self.pending.push_back(building);
            }
        }
    }

    /// Runs `decide` with the flow and what a decision takes from outside.
    fn decide<T>(
        &mut self,
        serial: Serial,
        now_ms: i64,
        decide: impl FnOnce(&Live, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let live = self.flows.get(&serial)?;
        let random = &mut self.random;
        let seed = u64::from_le_bytes(live.about.id[8..].try_into().unwrap_or_default()) ^ live.flow.ord();
        let mut make = || new_id(now_ms, random());
        let max_event_bytes = self.options.max_event_bytes;
        Some(decide(live, &mut Context { now_ms, seed, max_event_bytes, new_id: &mut make }))
    }
}

/// What is due while a flow is being released waits so long for the answer.
const RELEASING_MS: i64 = 100;

fn slots(options: &Options) -> SlotOptions {
    SlotOptions { threads: options.threads, ..SlotOptions::default() }
}

fn released_flows(options: &Options) -> Lru<FlowId, Released> {
    Lru::new(options.lru_entries, options.lru_bytes, RELEASED_TTL_MS)
}

/// An instant for the clocks of timers and caches, which know no time before 1970.
fn clock(at_ms: i64) -> u64 {
    at_ms.max(0).cast_unsigned()
}
