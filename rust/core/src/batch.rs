//! What one commit carries: rows and row operations, grouped into units.
//!
//! A *unit* is a connected component of a batch over the flows it touches. It is written whole or not at all, so
//! that a flow's events never commit without the row operation they belong to, nor in another order.

pub mod arrays;
mod building;
mod rows;

use rustc_hash::FxHashSet;

pub use building::{created_in, Building, Group, MAX_BYTES, MAX_EVENTS};
pub use rows::{After, CreateRow, InterruptRow, Item, JournalRow, NewFlow, Op, StopRow};

use crate::ids::FlowId;

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

    /// The units that touch one of the flows.
    pub fn units_of(&self, flows: &FxHashSet<FlowId>) -> FxHashSet<u32> {
        let items = self.items.iter().map(|item| (item.unit, item.flow));
        let after = self.after.iter().map(|(unit, flow, _)| (*unit, *flow));
        items.chain(after).filter(|(_, flow)| flows.contains(flow)).map(|(unit, _)| unit).collect()
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
