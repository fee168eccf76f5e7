//! A batch while it is being filled: groups of rows become units.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{After, Batch, Item, Op};
use crate::ids::FlowId;

/// Most events of one batch.
pub const MAX_EVENTS: usize = 4_096;
/// Most bytes of one batch; a bigger group of rows travels alone.
pub const MAX_BYTES: usize = 8 << 20;

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

    /// The flows it touches, some more than once.
    pub fn flows(&self) -> impl Iterator<Item = &FlowId> {
        self.items.iter().map(|(flow, ..)| flow).chain(self.after.iter().map(|(flow, _)| flow))
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|(_, _, op)| op.bytes()).sum()
    }
}

/// A batch while it is being filled.
#[derive(Debug, Default)]
pub struct Building {
    items: Vec<Item>,
    after: Vec<(u32, FlowId, After)>,
    unit_of: FxHashMap<FlowId, u32>,
    parent: Vec<u32>,
    /// Flows whose rows it inserts.
    created: FxHashSet<FlowId>,
    /// It holds one group and takes no other.
    is_alone: bool,
    events: usize,
    bytes: usize,
}

impl Building {
    /// A batch of one group, so that a refusal has one cause.
    pub fn alone(group: Group) -> Self {
        let mut building = Self::default();
        building.push(group);
        building.is_alone = true;
        building
    }

    /// Whether it holds one group and takes no other.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.after.is_empty()
    }

    /// Whether the group still fits. A row that is inserted has no other operation in the same batch: one statement
    /// would not see it.
    pub fn has_room(&self, group: &Group) -> bool {
        let is_new = |flow: &FlowId, op: &Op| op.is_row_operation() && self.created.contains(flow);
        self.is_empty()
            || (!self.is_alone
                && !group.items.iter().any(|(flow, _, op)| is_new(flow, op))
                && self.events + group.items.len() <= MAX_EVENTS
                && self.bytes + group.bytes() <= MAX_BYTES)
    }

    /// Whether it holds an operation on a row that one of these items inserts.
    pub fn waits_for(&self, items: &[Item]) -> bool {
        let created: FxHashSet<FlowId> = created_in(items).collect();
        !created.is_empty()
            && self.items.iter().any(|item| item.op.is_row_operation() && created.contains(&item.flow))
    }

    /// Adds a group: all its flows become one unit.
    pub fn push(&mut self, group: Group) {
        self.events += group.items.len();
        self.bytes += group.bytes();
        let mut unit = None;
        for flow in group.flows() {
            let at = self.unit(*flow);
            unit = Some(unit.map_or(at, |first| self.union(first, at)));
        }
        let Some(unit) = unit else { return };
        let is_create = |op: &Op| matches!(op, Op::Create(_));
        let created = group.items.iter().filter(|(_, _, op)| is_create(op)).map(|(flow, _, _)| *flow);
        self.created.extend(created);
        let items =
            group.items.into_iter().map(|(flow, claims, op)| Item { unit, flow, claims, seen: 0, op });
        self.items.extend(items);
        self.after.extend(group.after.into_iter().map(|(flow, after)| (unit, flow, after)));
    }

    /// Whether a row of the flow waits in it.
    pub fn touches(&self, flow: &FlowId) -> bool {
        self.unit_of.contains_key(flow)
    }

    /// The flows that it ends.
    pub fn stopped(&self) -> FxHashSet<FlowId> {
        self.items
            .iter()
            .filter(|item| matches!(item.op, Op::Stop(_) | Op::Lapse))
            .map(|item| item.flow)
            .collect()
    }

    /// Takes the verdicts on messages to some flows out of what waits behind it.
    pub fn pull_verdicts(&mut self, later: &mut Self, flows: &FxHashSet<FlowId>) {
        let is_wanted = |item: &Item| matches!(item.op, Op::Verdict { .. }) && flows.contains(&item.flow);
        let (pulled, rest): (Vec<_>, _) = std::mem::take(&mut later.items).into_iter().partition(is_wanted);
        later.items = rest;
        for mut item in pulled {
            item.unit = 0;
            self.absorb(vec![item], Vec::new());
        }
    }

    /// Takes a flow's release out; gives whether there was one.
    pub fn drop_release(&mut self, flow: &FlowId) -> bool {
        let before = self.items.len();
        self.items.retain(|item| item.flow != *flow || !matches!(item.op, Op::Release { .. }));
        self.after.retain(|(_, of, after)| of != flow || *after != After::Released);
        self.items.len() < before
    }

    /// Puts the rows of refused units in front of everything that was added since. Every flow keeps the order of its
    /// rows, and what was one unit stays one.
    pub fn put_back(&mut self, items: Vec<Item>, after: Vec<(u32, FlowId, After)>) {
        let mut later = std::mem::take(self);
        self.is_alone = later.is_alone;
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
        self.created.extend(created_in(&items));
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
            if matches!(item.op, Op::Stop(_) | Op::Lapse | Op::Release { .. }) {
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

/// The flows that some items insert.
pub fn created_in(items: &[Item]) -> impl Iterator<Item = FlowId> + '_ {
    items.iter().filter(|item| matches!(item.op, Op::Create(_))).map(|item| item.flow)
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
            Op::Stop(_) | Op::Lapse => {
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
