//! The ready steps, in one queue a class, so that what cannot go now never stands before what can.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::bands::{Bands, Entry, Rank};
use super::slots::TaskKind;

/// A step that may run.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Slot of the live flow.
    pub flow: u32,
    /// The step's number in its flow.
    pub step: u64,
    /// Interned task.
    pub task: u32,
    /// Band: lower goes first, strictly.
    pub priority: i32,
    /// Whose share of the band it is.
    pub fairness_key: Arc<str>,
    /// How large that share is.
    pub weight: f64,
    /// Ticket of its creation: the smaller goes first inside a band.
    pub order: u64,
    /// It must be the only step in its worker.
    pub alone: bool,
    /// At most one guarded step is in the workers at a time.
    pub guarded: bool,
}

/// What a step waits for: every class has a queue of its own.
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

    fn index(self) -> usize {
        let demand = match self.demand {
            Demand::Slot(TaskKind::Sync) => 0,
            Demand::Slot(TaskKind::Async) => 1,
            Demand::EmptyWorker => 2,
        };
        demand + if self.guarded { 3 } else { 0 }
    }
}

/// The first step of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub class: Class,
    pub rank: Rank,
    pub task: u32,
}

/// All ready steps.
#[derive(Default, Debug)]
pub(super) struct ReadySteps {
    slab: Slab,
    index: FxHashMap<(u32, u64), u32>,
    classes: [Bands; Class::COUNT],
}

impl ReadySteps {
    /// Adds a step, in place of itself if it is here already.
    pub fn add(&mut self, ready: Ready, class: Class) {
        self.withdraw(ready.flow, ready.step);
        let (key, priority) = ((ready.flow, ready.step), ready.priority);
        let entry = self.slab.insert(ready, class);
        self.index.insert(key, entry.slot);
        self.classes[class.index()].push(priority, entry);
    }

    pub fn withdraw(&mut self, flow: u32, step: u64) -> bool {
        let Some(slot) = self.index.remove(&(flow, step)) else { return false };
        let Some((ready, class)) = self.slab.take(slot) else { return false };
        self.classes[class.index()].bury(ready.priority, |entry| self.slab.is_live(entry));
        true
    }

    pub fn head(&mut self, class: Class) -> Option<Head> {
        let (rank, entry) = self.classes[class.index()].first(|entry| self.slab.is_live(entry))?;
        Some(Head { class, rank, task: self.slab.get(entry.slot)?.task })
    }

    pub fn pop(&mut self, class: Class) -> Option<Ready> {
        let entry = self.classes[class.index()].pop(|entry| self.slab.is_live(entry))?;
        let (ready, _) = self.slab.take(entry.slot)?;
        self.index.remove(&(ready.flow, ready.step));
        Some(ready)
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn len_of(&self, class: Class) -> usize {
        self.classes[class.index()].len()
    }
}

/// Where the steps lie while the queues hold small entries that point at them.
#[derive(Default, Debug)]
struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default, Debug)]
struct Slot {
    generation: u32,
    step: Option<(Ready, Class)>,
}

impl Slab {
    fn insert(&mut self, ready: Ready, class: Class) -> Entry {
        let order = ready.order;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.step = Some((ready, class));
        Entry { order, slot, generation: place.generation }
    }

    fn take(&mut self, slot: u32) -> Option<(Ready, Class)> {
        let place = self.slots.get_mut(slot as usize)?;
        let step = place.step.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        Some(step)
    }

    fn get(&self, slot: u32) -> Option<&Ready> {
        self.slots.get(slot as usize)?.step.as_ref().map(|(ready, _)| ready)
    }

    fn is_live(&self, entry: Entry) -> bool {
        self.slots.get(entry.slot as usize).is_some_and(|slot| slot.generation == entry.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(step: u64, order: u64) -> Ready {
        Ready {
            flow: 1,
            step,
            task: 0,
            priority: 0,
            fairness_key: Arc::from(""),
            weight: 1.0,
            order,
            alone: false,
            guarded: false,
        }
    }

    #[test]
    fn every_class_has_a_queue_of_its_own() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), index);
        }
    }

    #[test]
    fn a_withdrawn_step_is_not_mistaken_for_the_one_in_its_slot() {
        let mut steps = ReadySteps::default();
        let class = Class::ALL[0];
        steps.add(ready(1, 1), class);
        steps.add(ready(2, 2), class);
        assert!(steps.withdraw(1, 1));
        assert!(!steps.withdraw(1, 1));
        steps.add(ready(3, 3), class);
        assert_eq!((steps.len(), steps.len_of(class)), (2, 2));
        let popped: Vec<u64> = std::iter::from_fn(|| steps.pop(class)).map(|ready| ready.step).collect();
        assert_eq!(popped, [2, 3]);
    }

    #[test]
    fn a_step_offered_twice_is_there_once_as_it_was_offered_last() {
        let mut steps = ReadySteps::default();
        steps.add(ready(1, 5), Class::ALL[0]);
        steps.add(ready(1, 6), Class::ALL[2]);
        assert_eq!((steps.len(), steps.len_of(Class::ALL[0])), (1, 0));
        assert_eq!(steps.pop(Class::ALL[2]).map(|ready| ready.order), Some(6));
    }
}
