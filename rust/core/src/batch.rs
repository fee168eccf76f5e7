//! What one commit carries: rows and row operations, grouped into units.
//!
//! A *unit* is a connected component of a batch over the flows it touches. It is written whole or not at all, so
//! that a flow's events never commit without the row operation they belong to, nor in another order.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ids::FlowId;

pub mod arrays;

/// Most events of one batch.
pub const MAX_EVENTS: usize = 4_096;
/// Most bytes of one batch; a bigger group of rows travels alone.
pub const MAX_BYTES: usize = 8 << 20;

/// A new flow: its `flows` row and its `live` row.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateRow {
    /// What the rows hold.
    pub flow: NewFlow,
    /// The owner's replica id; `None` leaves it for whoever has room.
    pub owner: Option<i64>,
    /// 1 when it is owned from the start, else 0.
    pub claims: i64,
}

/// What is asked for when a flow is created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFlow {
    /// Its id.
    pub id: FlowId,
    /// The top of its tree; its own id when it has no parent.
    pub root: FlowId,
    /// The flow and the step that wait for it.
    pub parent: Option<(FlowId, u64)>,
    /// The name it was created by.
    pub workflow: String,
    /// Its frozen graph.
    pub graph: [u8; 32],
    /// Lower runs first.
    pub priority: i32,
    /// Who shares with whom inside a priority.
    pub fairness_key: String,
    /// How much of the share.
    pub fairness_weight: f64,
    /// Longest attempt.
    pub time_budget_ms: i64,
    /// The thread it belongs to.
    pub thread: FlowId,
    /// Its place in the thread.
    pub turn: i64,
    /// JSON object of strings.
    pub tags: Option<String>,
    /// JSON object.
    pub input: String,
    /// JSON object that every task can read.
    pub baggage: Option<String>,
    /// W3C trace context of the creator.
    pub trace_parent: Option<String>,
    /// Where to say that it stopped.
    pub notify: Option<String>,
    /// Its rows go soon after it finished.
    pub delete_on_completion: bool,
    /// When it was created.
    pub created_at: i64,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalRow {
    /// Order number within the flow.
    pub ord: u64,
    /// The step it is about.
    pub step: u64,
    /// Its node's name.
    pub node: String,
    /// The event's name.
    pub event: &'static str,
    /// The attempt it ends.
    pub attempt: u32,
    /// The worker that ran it.
    pub worker: Option<u32>,
    /// How long the step was ready before it was handed out.
    pub queued_ms: i64,
    /// How long the attempt ran.
    pub ran_ms: i64,
    /// When it was settled.
    pub at: i64,
    /// JSON text.
    pub body: String,
}

/// The end of a flow: its `flows` row is completed, its `live` row goes.
#[derive(Clone, Debug, PartialEq)]
pub struct StopRow {
    /// `completed`, `failed` or `cancelled`.
    pub status: &'static str,
    /// JSON object.
    pub output: String,
    /// JSON of the error.
    pub error: Option<String>,
    /// The caller's words.
    pub cancel_reason: Option<String>,
    /// When.
    pub at: i64,
}

/// An open question.
#[derive(Clone, Debug, PartialEq)]
pub struct InterruptRow {
    /// Its id.
    pub id: FlowId,
    /// The top of the tree.
    pub root: FlowId,
    /// The step that asks.
    pub step: u64,
    /// That step's node.
    pub node: String,
    /// The task's name for it.
    pub key: Option<String>,
    /// JSON.
    pub payload: Option<String>,
    /// When it was asked.
    pub created_at: i64,
    /// When it lapses.
    pub expires_at: Option<i64>,
}

/// One row or row operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Two new rows.
    Create(Box<CreateRow>),
    /// A journal row.
    Journal(JournalRow),
    /// The end; guarded by owner, claims and mail.
    Stop(Box<StopRow>),
    /// Nobody's flow again; guarded by owner, claims and mail.
    Release {
        /// Its next due instant.
        wake_at: Option<i64>,
    },
    /// A new status or position of a flow that lives on.
    Status {
        /// `running` or `interrupted`.
        status: &'static str,
        /// JSON list of node names.
        position: String,
        /// When.
        at: i64,
    },
    /// Its replica's death is made up for: `crashes = 0`.
    Calm,
    /// A message to the flow; dropped when it has ended.
    Message {
        /// What kind.
        kind: &'static str,
        /// JSON.
        body: String,
        /// When.
        at: i64,
    },
    /// The answer to a message.
    Verdict {
        /// The message's number.
        seq: i64,
        /// JSON.
        verdict: String,
        /// When.
        at: i64,
    },
    /// A question was asked.
    OpenInterrupt(Box<InterruptRow>),
    /// It was answered, lapsed or was dropped.
    CloseInterrupt {
        /// Its id.
        id: FlowId,
    },
}

impl Op {
    fn bytes(&self) -> usize {
        96 + match self {
            Self::Create(row) => {
                row.flow.input.len() + row.flow.baggage.as_ref().map_or(0, String::len) + 300
            }
            Self::Journal(row) => row.body.len(),
            Self::Stop(row) => row.output.len() + row.error.as_ref().map_or(0, String::len),
            Self::Message { body, .. } => body.len(),
            Self::OpenInterrupt(row) => row.payload.as_ref().map_or(0, String::len),
            _ => 0,
        }
    }
}

/// A row operation with the flow it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The unit it belongs to: an index until the batch is closed, then the unit's number.
    pub unit: u32,
    /// The flow.
    pub flow: FlowId,
    /// The owner's claim number, for guards.
    pub claims: i64,
    /// Mail that the owner had read, for guards; set when the batch is closed.
    pub seen: i64,
    /// What to do.
    pub op: Op,
}

/// What the engine does once the unit is committed.
#[derive(Clone, Debug, PartialEq)]
pub enum After {
    /// The step may run, from its `not_before`.
    Offer {
        /// The step.
        step: u64,
    },
    /// The event is safe.
    Committed {
        /// Its order number.
        ord: u64,
    },
    /// The step of a flow whose replica had died may be sent.
    Send {
        /// The dispatch.
        dispatch: u64,
    },
    /// Look whether the flow only waits.
    Settle,
    /// The flow rests with a status that callers wait for.
    Rest,
    /// The flow is over.
    Stopped,
    /// The flow is nobody's.
    Released,
    /// The flow's rows exist.
    Created,
}

/// A batch while it is being filled.
#[derive(Debug, Default)]
pub struct Building {
    items: Vec<Item>,
    after: Vec<(u32, FlowId, After)>,
    unit_of: FxHashMap<FlowId, u32>,
    parent: Vec<u32>,
    events: usize,
    bytes: usize,
}

/// A batch on its way to the database.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number, for logs and answers.
    pub number: u64,
    /// How many units it has.
    pub units: u32,
    /// Its rows, in the order they were made.
    pub items: Vec<Item>,
    /// What follows from its commit.
    pub after: Vec<(u32, FlowId, After)>,
}

/// A set of rows that belong together.
#[derive(Debug, Default)]
pub struct Group {
    items: Vec<(FlowId, i64, Op)>,
    after: Vec<(FlowId, After)>,
}

impl Group {
    /// Adds a row operation on `flow`, which is held by claim number `claims`.
    pub fn push(&mut self, flow: FlowId, claims: i64, op: Op) {
        self.items.push((flow, claims, op));
    }

    /// Adds what follows from the commit.
    pub fn after(&mut self, flow: FlowId, after: After) {
        self.after.push((flow, after));
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.after.is_empty()
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|(_, _, op)| op.bytes()).sum()
    }
}

impl Building {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.after.is_empty()
    }

    /// Whether the group still fits.
    pub fn has_room(&self, group: &Group) -> bool {
        self.is_empty()
            || (self.events + group.items.len() <= MAX_EVENTS && self.bytes + group.bytes() <= MAX_BYTES)
    }

    /// Adds a group: all its flows become one unit.
    pub fn push(&mut self, group: Group) {
        self.events += group.items.len();
        self.bytes += group.bytes();
        let mut unit = None;
        let flows =
            group.items.iter().map(|(flow, _, _)| flow).chain(group.after.iter().map(|(flow, _)| flow));
        for flow in flows {
            let at = self.unit(*flow);
            unit = Some(unit.map_or(at, |first| self.union(first, at)));
        }
        let Some(unit) = unit else { return };
        let items =
            group.items.into_iter().map(|(flow, claims, op)| Item { unit, flow, claims, seen: 0, op });
        self.items.extend(items);
        self.after.extend(group.after.into_iter().map(|(flow, after)| (unit, flow, after)));
    }

    /// Whether a row of the flow waits in it.
    pub fn touches(&self, flow: &FlowId) -> bool {
        self.unit_of.contains_key(flow)
    }

    /// Puts the rows of refused units in front of everything that was added since. Every flow keeps the order of its
    /// rows, and what was one unit stays one.
    pub fn put_back(&mut self, items: Vec<Item>, after: Vec<(u32, FlowId, After)>) {
        let mut later = std::mem::take(self);
        let (mut later_items, mut later_after) =
            (std::mem::take(&mut later.items), std::mem::take(&mut later.after));
        for unit in units_of(&mut later_items, &mut later_after) {
            *unit = later.find(*unit);
        }
        self.absorb(items, after);
        self.absorb(later_items, later_after);
    }

    /// Adds rows whose units are known.
    fn absorb(&mut self, mut items: Vec<Item>, mut after: Vec<(u32, FlowId, After)>) {
        let mut units: FxHashMap<u32, u32> = FxHashMap::default();
        let mut place = |building: &mut Self, unit: u32, flow: FlowId| {
            let at = building.unit(flow);
            let first = *units.entry(unit).or_insert(at);
            building.union(first, at)
        };
        for item in &mut items {
            item.unit = place(self, item.unit, item.flow);
            self.events += 1;
            self.bytes += item.op.bytes();
        }
        for (unit, flow, _) in &mut after {
            *unit = place(self, *unit, *flow);
        }
        self.items.append(&mut items);
        self.after.append(&mut after);
    }

    /// Closes it; `seen` says how much mail the owner of a flow has read by now.
    pub fn close(mut self, number: u64, seen: impl Fn(&FlowId) -> i64) -> Batch {
        let mut numbers: FxHashMap<u32, u32> = FxHashMap::default();
        let mut items = std::mem::take(&mut self.items);
        let mut after = std::mem::take(&mut self.after);
        for unit in units_of(&mut items, &mut after) {
            let root = self.find(*unit);
            let next = numbers.len() as u32;
            *unit = *numbers.entry(root).or_insert(next);
        }
        for item in &mut items {
            if matches!(item.op, Op::Stop(_) | Op::Release { .. }) {
                item.seen = seen(&item.flow);
            }
        }
        fold_row_operations(&mut items);
        Batch { number, units: numbers.len() as u32, items, after }
    }

    fn unit(&mut self, flow: FlowId) -> u32 {
        if let Some(unit) = self.unit_of.get(&flow) {
            return self.find(*unit);
        }
        let unit = self.parent.len() as u32;
        self.parent.push(unit);
        self.unit_of.insert(flow, unit);
        unit
    }

    fn find(&self, unit: u32) -> u32 {
        let mut root = unit;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        root
    }

    /// Makes one unit of two. The older index stays the root, so that a flow that many others join is found at once.
    fn union(&mut self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
        a.min(b)
    }
}

fn units_of<'a>(
    items: &'a mut [Item],
    after: &'a mut [(u32, FlowId, After)],
) -> impl Iterator<Item = &'a mut u32> {
    items.iter_mut().map(|item| &mut item.unit).chain(after.iter_mut().map(|(unit, _, _)| unit))
}

/// Leaves one operation a row: of several statuses the last, and neither a status nor a calm beside a stop. The
/// database runs the statements of a batch kind by kind, so an older status would undo the stop.
fn fold_row_operations(items: &mut Vec<Item>) {
    let (mut told, mut calmed) = (FxHashSet::default(), FxHashSet::default());
    let mut keeps: Vec<bool> = items
        .iter()
        .rev()
        .map(|item| match item.op {
            Op::Stop(_) => {
                told.insert(item.flow);
                calmed.insert(item.flow);
                true
            }
            Op::Status { .. } => told.insert(item.flow),
            Op::Calm => calmed.insert(item.flow),
            _ => true,
        })
        .collect();
    items.retain(|_| keeps.pop().unwrap_or(true));
}

impl Batch {
    /// How many journal rows it has.
    pub fn events(&self) -> usize {
        self.items.iter().filter(|item| matches!(item.op, Op::Journal(_))).count()
    }

    /// The batch minus some of its units, and those.
    pub fn partition(self, units: &FxHashSet<u32>) -> (Self, Self) {
        let (out, stay): (Vec<_>, Vec<_>) =
            self.items.into_iter().partition(|item| units.contains(&item.unit));
        let (after_out, after_stay): (Vec<_>, Vec<_>) =
            self.after.into_iter().partition(|(unit, _, _)| units.contains(unit));
        let half = |items, after| Self { number: self.number, units: self.units, items, after };
        (half(stay, after_stay), half(out, after_out))
    }

    /// Two halves by units, to find a row that the database refuses; `None` when only one unit is left.
    pub fn split(&self) -> Option<(Self, Self)> {
        let mut units: Vec<u32> = self.items.iter().map(|item| item.unit).collect();
        units.sort_unstable();
        units.dedup();
        if units.len() < 2 {
            return None;
        }
        let second: FxHashSet<u32> = units[units.len() / 2..].iter().copied().collect();
        Some(self.clone().partition(&second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(group: &mut Group, flow: u8) {
        group.push([flow; 16], 1, Op::Calm);
    }

    fn close(group: &mut Group, flow: u8) {
        group.push([flow; 16], 1, Op::CloseInterrupt { id: [flow; 16] });
    }

    #[test]
    fn groups_that_share_a_flow_are_one_unit() {
        let mut building = Building::default();
        for flows in [&[1, 2][..], &[3], &[2, 4], &[5]] {
            let mut group = Group::default();
            for flow in flows {
                close(&mut group, *flow);
            }
            building.push(group);
        }
        let batch = building.close(1, |_| 0);
        assert_eq!(batch.units, 3);
        let units: Vec<u32> = batch.items.iter().map(|item| item.unit).collect();
        assert_eq!(units, [0, 0, 1, 0, 0, 2]);
    }

    #[test]
    fn what_is_put_back_stands_before_what_came_later() {
        let mut first = Building::default();
        let mut group = Group::default();
        group.push([1; 16], 7, Op::Calm);
        group.after([1; 16], After::Settle);
        first.push(group);
        let batch = first.close(1, |_| 0);
        let mut second = Building::default();
        let mut group = Group::default();
        group.push([1; 16], 7, Op::Release { wake_at: None });
        second.push(group);
        second.put_back(batch.items, batch.after);
        let batch = second.close(2, |_| 9);
        assert_eq!(batch.units, 1);
        assert!(matches!(batch.items[0].op, Op::Calm));
        assert_eq!(batch.items[1].seen, 9);
    }

    fn told(group: &mut Group, flow: u8, status: &'static str) {
        group.push([flow; 16], 1, Op::Status { status, position: String::new(), at: 0 });
    }

    #[test]
    fn a_unit_that_is_put_back_keeps_the_order_of_every_flows_rows() {
        let mut building = Building::default();
        for flow in [1, 2] {
            let mut group = Group::default();
            close(&mut group, flow);
            building.push(group);
        }
        let mut both = Group::default();
        both.push([1; 16], 1, Op::Calm);
        both.push([2; 16], 1, Op::Calm);
        building.push(both);
        building.put_back(Vec::new(), Vec::new());
        let batch = building.close(1, |_| 0);
        assert_eq!(batch.units, 1);
        let calms: Vec<bool> = batch.items.iter().map(|item| matches!(item.op, Op::Calm)).collect();
        assert_eq!(calms, [false, false, true, true]);
    }

    #[test]
    fn a_batch_has_one_operation_a_row() {
        let mut building = Building::default();
        let mut group = Group::default();
        calm(&mut group, 1);
        told(&mut group, 1, "interrupted");
        told(&mut group, 1, "running");
        told(&mut group, 2, "interrupted");
        calm(&mut group, 2);
        let row = StopRow { status: "failed", output: "{}".into(), error: None, cancel_reason: None, at: 0 };
        group.push([2; 16], 1, Op::Stop(Box::new(row)));
        building.push(group);
        let batch = building.close(1, |_| 0);
        let names: Vec<_> = batch
            .items
            .iter()
            .map(|item| match item.op {
                Op::Status { status, .. } => status,
                Op::Stop(_) => "stop",
                _ => "calm",
            })
            .collect();
        assert_eq!(names, ["calm", "running", "stop"]);
    }

    #[test]
    fn halves_hold_every_unit_once() {
        let mut building = Building::default();
        for flow in 0..5 {
            let mut group = Group::default();
            calm(&mut group, flow);
            building.push(group);
        }
        let batch = building.close(1, |_| 0);
        let (a, b) = batch.split().unwrap();
        assert_eq!(a.items.len() + b.items.len(), 5);
        let mut one = a;
        while let Some((half, _)) = one.split() {
            one = half;
        }
        assert_eq!(one.items.len(), 1);
    }
}
