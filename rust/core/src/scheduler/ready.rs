//! The ready steps: strict bands, fairness over keys inside a band, first in first out inside a key.
//!
//! A class holds what asks the same of a worker, so what cannot go now never stands before what can. What its
//! resource keeps back is parked (see `parked`): it costs nothing until the resource opens.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::fairness::{sane, Clock, Key, Standing, Turns};
use super::line::{Entry, Line};
use super::parked::{Gate, Parked};
use super::slab::{Place, Slab};
use super::slots::TaskKind;
use super::timers::Timers;
use crate::flow_control::FlowControl;

/// Queues of a key that are looked through for its oldest step; with more the one that was served speaks for all.
const FEW_QUEUES: usize = 16;

/// Low bits of a ticket, which tell apart what was created within one millisecond; above them stands that instant.
pub const TICKET_BITS: u32 = 20;

/// A step that may run.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Slot of the live flow.
    pub flow: u32,
    /// The step's number in its flow.
    pub step: u64,
    /// Interned task.
    pub task: u32,
    /// What it leans on; see [`FlowControl::add`].
    pub resource: u32,
    /// The part of the resource whose limit it counts against.
    pub partition: Option<Arc<str>>,
    /// Band: lower goes first, strictly.
    pub priority: i32,
    /// Whose share of the band it is.
    pub fairness_key: Arc<str>,
    /// How large that share is.
    pub weight: f64,
    /// Ticket of its creation: the smaller goes first inside a key.
    pub order: u64,
    /// Since when it has been ready.
    pub ready_at: i64,
    /// It must be the only step in its worker.
    pub alone: bool,
    /// At most one guarded step is in the workers at a time.
    pub guarded: bool,
}

/// What a step waits for: every class has turns of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class {
    pub demand: Demand,
    pub guarded: bool,
}

/// What a step asks of its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Demand {
    Slot(TaskKind),
    EmptyWorker,
}

impl Class {
    pub const COUNT: usize = 6;
    pub const ALL: [Self; Self::COUNT] = [
        Self { demand: Demand::Slot(TaskKind::Sync), guarded: false },
        Self { demand: Demand::Slot(TaskKind::Async), guarded: false },
        Self { demand: Demand::EmptyWorker, guarded: false },
        Self { demand: Demand::Slot(TaskKind::Sync), guarded: true },
        Self { demand: Demand::Slot(TaskKind::Async), guarded: true },
        Self { demand: Demand::EmptyWorker, guarded: true },
    ];

    pub fn of(ready: &Ready, kind: TaskKind) -> Self {
        let demand = if ready.alone { Demand::EmptyWorker } else { Demand::Slot(kind) };
        Self { demand, guarded: ready.guarded }
    }

    pub fn index(self) -> usize {
        let demand = match self.demand {
            Demand::Slot(TaskKind::Sync) => 0,
            Demand::Slot(TaskKind::Async) => 1,
            Demand::EmptyWorker => 2,
        };
        demand + if self.guarded { 3 } else { 0 }
    }
}

/// Where a step stands among all that could go now: the smaller goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    pub priority: i32,
    /// Its turn has not come yet by right; it goes because nothing else can.
    is_late: bool,
    tag: super::fairness::Tag,
    pub order: u64,
}

/// The first step of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub class: Class,
    pub rank: Rank,
    pub task: u32,
    queue: u32,
}

/// The steps of one key that are in one class and lean on one partition.
#[derive(Debug)]
pub(super) struct Queue {
    pub key: Place,
    pub class: usize,
    pub resource: u32,
    pub partition: u32,
    pub line: Line,
    pub state: Where,
    /// The order under which it stands among the open ones of its key; entries with another are out of date.
    pub shown: Option<u64>,
}

/// Where a queue stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Where {
    /// Among the open ones of its key.
    Open,
    /// Parked, under a ticket that tells this parking from others.
    Parked(u64),
}

/// A ready step and where it is.
#[derive(Debug)]
pub(super) struct Step {
    pub ready: Ready,
    pub queue: u32,
    /// The band that it is in: its own, or a better one that it has aged into.
    pub priority: i32,
}

/// All ready steps.
#[derive(Default, Debug)]
pub(super) struct ReadySteps {
    pub(super) steps: Slab<Step>,
    index: FxHashMap<(u32, u64), u32>,
    pub(super) keys: Slab<Key>,
    by_name: FxHashMap<(i32, Arc<str>), u32>,
    pub(super) queues: Slab<Queue>,
    by_place: FxHashMap<(u32, usize, u32, u32), u32>,
    pub(super) bands: BTreeMap<i32, Clock>,
    pub(super) turns: [BTreeMap<i32, Turns>; Class::COUNT],
    pub(super) parked: Parked,
    pub(super) gates: Timers<Gate>,
    /// Steps in open queues, by class.
    pub(super) open: [usize; Class::COUNT],
}

impl ReadySteps {
    /// Adds a step, in place of itself if it is here already.
    pub fn add(&mut self, ready: Ready, class: Class, control: &mut FlowControl, now_ms: i64) {
        let priority = ready.priority;
        self.add_to_band(ready, priority, class, control, now_ms);
    }

    pub fn add_to_band(
        &mut self,
        ready: Ready,
        priority: i32,
        class: Class,
        control: &mut FlowControl,
        now_ms: i64,
    ) {
        self.withdraw(ready.flow, ready.step, control);
        let partition = control.partition(ready.resource, ready.partition.as_ref(), now_ms);
        let key = self.enter_key(&ready, priority);
        let queue = self.queue_of(key, class.index(), ready.resource, partition, control);
        let (id, order) = ((ready.flow, ready.step), ready.order);
        let place = self.steps.insert(Step { ready, queue, priority });
        self.index.insert(id, place.slot);
        let Some(found) = self.queues.get_mut(queue) else { return };
        let first_before = found.line.first(|entry| self.steps.has(entry.place)).map(|entry| entry.order);
        found.line.push(Entry { order, place });
        if found.state == Where::Open {
            self.open[class.index()] += 1;
        }
        match (found.state, first_before) {
            (_, None) => self.admit(queue, control, now_ms),
            (Where::Open, Some(first)) if order < first => self.show(queue, order),
            _ => {}
        }
    }

    pub fn withdraw(&mut self, flow: u32, step: u64, control: &mut FlowControl) -> bool {
        let Some(slot) = self.index.remove(&(flow, step)) else { return false };
        let Some(step) = self.steps.remove(slot) else { return false };
        let Some(queue) = self.queues.get_mut(step.queue) else { return false };
        queue.line.bury(|entry| self.steps.has(entry.place));
        if queue.state == Where::Open {
            self.open[queue.class] -= 1;
        }
        let (key, is_empty) = (queue.key, queue.line.len() == 0);
        self.leave_key(key);
        if is_empty {
            self.drop_queue(step.queue, control);
        }
        self.close_band(step.priority);
        true
    }

    /// The first step of the class that may go now. What is found shut on the way is parked.
    pub fn head(&mut self, class: Class, control: &mut FlowControl, now_ms: i64) -> Option<Head> {
        self.elect_missing(control, now_ms);
        loop {
            let priority = *self.turns[class.index()].first_key_value()?.0;
            let head = self.first_in(class, priority, control, now_ms);
            if self.elect_missing(control, now_ms) {
                continue;
            }
            if head.is_some() {
                return head;
            }
            self.turns[class.index()].remove(&priority);
        }
    }

    fn first_in(
        &mut self,
        class: Class,
        priority: i32,
        control: &mut FlowControl,
        now_ms: i64,
    ) -> Option<Head> {
        let at = class.index();
        loop {
            let clock = self.bands.get(&priority)?;
            let turns = self.turns[at].get_mut(&priority)?;
            let (turn, is_late) = turns.first(&self.keys, clock)?;
            let v = clock.v;
            let key = self.keys.get_mut(turn.key.slot)?;
            if !is_late && key.finish + 2.0 / key.weight < v {
                // It could not go for long: that gives no claim on more than its next pick.
                key.start = v - 1.0 / key.weight;
                key.finish = v;
                continue;
            }
            let (tag, slot) = (if is_late { key.start } else { key.finish }, turn.key.slot);
            if let Some((order, queue, task)) = self.open_queue(slot, at, control, now_ms) {
                let rank = Rank { priority, is_late, tag: super::fairness::Tag(tag), order };
                return Some(Head { class, rank, task, queue });
            }
            if let Some(key) = self.keys.get_mut(slot) {
                key.standings[at].is_placed = false;
            }
            self.turns[at].get_mut(&priority)?.drop_first(is_late);
        }
    }

    /// The key's queue with the oldest step, of those that are open; with the step's task.
    fn open_queue(
        &mut self,
        key: u32,
        class: usize,
        control: &mut FlowControl,
        now_ms: i64,
    ) -> Option<(u64, u32, u32)> {
        loop {
            let standing = &mut self.keys.get_mut(key)?.standings[class];
            let Reverse((order, number)) = *standing.open.peek()?;
            let queue = self
                .queues
                .get_mut(number)
                .filter(|queue| queue.key.slot == key && queue.class == class && queue.shown == Some(order));
            let Some(queue) = queue else {
                standing.open.pop();
                continue;
            };
            let Some(first) = queue.line.first(|entry| self.steps.has(entry.place)) else {
                standing.open.pop();
                continue;
            };
            if first.order != order {
                // The first one was withdrawn.
                queue.shown = Some(first.order);
                standing.open.pop();
                standing.open.push(Reverse((first.order, number)));
                continue;
            }
            match control.check(queue.resource, queue.partition, now_ms) {
                Ok(()) => return Some((order, number, self.steps.get(first.place.slot)?.ready.task)),
                Err(no) => {
                    standing.open.pop();
                    self.park(number, &no);
                }
            }
        }
    }

    /// Takes out the step that `head` has shown.
    pub fn pop(&mut self, head: &Head, control: &mut FlowControl) -> Option<Ready> {
        let queue = self.queues.get_mut(head.queue)?;
        let entry = queue.line.pop(|entry| self.steps.has(entry.place))?;
        let next = queue.line.first(|entry| self.steps.has(entry.place)).map(|entry| entry.order);
        queue.shown = next;
        let (key, class) = (queue.key, queue.class);
        self.open[class] -= 1;
        let step = self.steps.remove(entry.place.slot)?;
        self.index.remove(&(step.ready.flow, step.ready.step));
        if let Some(top) = self.keys.get_mut(key.slot)?.standings[class].open.peek_mut() {
            match next {
                Some(next) => {
                    let mut top = top;
                    *top = Reverse((next, head.queue));
                }
                None => {
                    std::collections::binary_heap::PeekMut::pop(top);
                }
            }
        }
        self.serve(key, head.rank.priority, head.queue);
        match next {
            None => self.drop_queue(head.queue, control),
            Some(_) => self.repark(head.queue),
        }
        self.close_band(head.rank.priority);
        Some(step.ready)
    }

    fn serve(&mut self, place: Place, priority: i32, served: u32) {
        let weight = self.oldest_weight(place.slot, served);
        let (Some(key), Some(clock)) = (self.keys.get_mut(place.slot), self.bands.get_mut(&priority)) else {
            return;
        };
        key.ready -= 1;
        clock.ready -= 1;
        clock.serve(key, weight);
        if key.ready == 0 {
            clock.leave(place, key);
        }
        for gone in clock.advance(&self.keys) {
            self.forget_key(gone);
        }
    }

    /// The weight of the key's oldest ready step.
    fn oldest_weight(&mut self, key: u32, served: u32) -> f64 {
        let Some(key) = self.keys.get(key) else { return 1.0 };
        let mut queues: SmallVec<[u32; 2]> = key.queues.clone();
        if queues.len() > FEW_QUEUES {
            queues = SmallVec::from_slice(&[served]);
        }
        let mut oldest: Option<Entry> = None;
        for number in queues {
            let first = self.queues.get_mut(number).and_then(|queue| {
                let steps = &self.steps;
                queue.line.first(|entry| steps.has(entry.place))
            });
            oldest = [oldest, first].into_iter().flatten().min();
        }
        let step = oldest.and_then(|entry| self.steps.get(entry.place.slot));
        step.map_or(key.weight, |step| sane(step.ready.weight))
    }

    fn enter_key(&mut self, ready: &Ready, priority: i32) -> Place {
        let clock = self.bands.entry(priority).or_default();
        clock.ready += 1;
        let id = (priority, ready.fairness_key.clone());
        let weight = sane(ready.weight);
        let known = self.by_name.get(&id).copied();
        let slot = known.unwrap_or_else(|| {
            let name = ready.fairness_key.clone();
            let place = self.keys.insert(Key {
                priority,
                name,
                start: 0.0,
                finish: 0.0,
                weight,
                ready: 0,
                queues: SmallVec::new(),
                standings: Default::default(),
            });
            self.by_name.insert(id, place.slot);
            place.slot
        });
        let place = self.keys.place_of(slot);
        if let Some(key) = self.keys.get_mut(slot) {
            if key.ready == 0 {
                clock.enter(key, weight, known.is_none());
            }
            key.ready += 1;
        }
        place
    }

    fn leave_key(&mut self, place: Place) {
        let Some(key) = self.keys.get_mut(place.slot) else { return };
        key.ready -= 1;
        let Some(clock) = self.bands.get_mut(&key.priority) else { return };
        clock.ready -= 1;
        if key.ready == 0 {
            clock.leave(place, key);
        }
    }

    fn forget_key(&mut self, slot: u32) {
        if let Some(key) = self.keys.remove(slot) {
            self.by_name.remove(&(key.priority, key.name));
        }
    }

    /// A band without ready steps is forgotten: the fluid has finished with everything too.
    fn close_band(&mut self, priority: i32) {
        if self.bands.get(&priority).is_none_or(|clock| clock.ready > 0) {
            return;
        }
        let Some(mut clock) = self.bands.remove(&priority) else { return };
        for place in clock.drain() {
            if self.keys.has(place) {
                self.forget_key(place.slot);
            }
        }
        for turns in &mut self.turns {
            turns.remove(&priority);
        }
    }

    fn queue_of(
        &mut self,
        key: Place,
        class: usize,
        resource: u32,
        partition: u32,
        control: &mut FlowControl,
    ) -> u32 {
        let id = (key.slot, class, resource, partition);
        if let Some(queue) = self.by_place.get(&id) {
            return *queue;
        }
        let line = Line::default();
        let queue = Queue { key, class, resource, partition, line, state: Where::Open, shown: None };
        let number = self.queues.insert(queue).slot;
        self.by_place.insert(id, number);
        control.refer(partition, true);
        if let Some(key) = self.keys.get_mut(key.slot) {
            key.queues.push(number);
        }
        number
    }

    fn drop_queue(&mut self, number: u32, control: &mut FlowControl) {
        let Some(queue) = self.queues.remove(number) else { return };
        control.refer(queue.partition, false);
        self.by_place.remove(&(queue.key.slot, queue.class, queue.resource, queue.partition));
        if let Some(key) = self.keys.get_mut(queue.key.slot) {
            key.queues.retain(|other| *other != number);
        }
        self.leave_lane(number, queue.class, queue.resource);
    }

    /// Puts a queue among the open ones of its key, and the key into the turns.
    pub(super) fn show(&mut self, number: u32, order: u64) {
        let Some(queue) = self.queues.get_mut(number) else { return };
        queue.shown = Some(order);
        let Some(key) = self.keys.get_mut(queue.key.slot) else { return };
        let Standing { open, is_placed } = &mut key.standings[queue.class];
        open.push(Reverse((order, number)));
        if *is_placed {
            return;
        }
        *is_placed = true;
        let Some(clock) = self.bands.get(&key.priority) else { return };
        self.turns[queue.class].entry(key.priority).or_default().place(key, queue.key, order, clock);
    }

    pub(super) fn first_order(&mut self, number: u32) -> Option<u64> {
        let steps = &self.steps;
        let queue = self.queues.get_mut(number)?;
        queue.line.first(|entry| steps.has(entry.place)).map(|entry| entry.order)
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Steps of the class that are not known to be shut.
    pub fn len_of(&self, class: Class) -> usize {
        self.open[class.index()]
    }

    pub fn get(&self, flow: u32, step: u64) -> Option<&Step> {
        self.steps.get(*self.index.get(&(flow, step))?)
    }
}
