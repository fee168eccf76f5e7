//! Queues that their resource keeps back.
//!
//! A queue that is found shut is parked in the lane of its class and resource. When the resource opens, only the one
//! whose turn it is among the parked comes back, and goes back after each of its steps while others are parked: an
//! opening costs the same whatever the backlog. Among themselves they go by band, then by the end of their next pick
//! in virtual time. The lane keeps that time for itself while it is shut and hands it on shifted, so that the shares
//! inside the lane stay and nobody has a claim on what the others got meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rustc_hash::FxHashMap;

use super::fairness::Tag;
use super::ready::{ReadySteps, Where};
use crate::flow_control::{FlowControl, No, Shut, WHOLE};

/// What opens by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    Resource(u32),
    Partition(u32),
}

/// Everything that is parked.
#[derive(Default, Debug)]
pub(super) struct Parked {
    lanes: FxHashMap<(usize, u32), Lane>,
    /// Queues shut by their partition's limit.
    by_partition: FxHashMap<u32, Vec<(u32, u64)>>,
    tickets: u64,
    /// Lanes whose envoy is gone; the next look finds another.
    headless: Vec<(usize, u32)>,
}

#[derive(Default, Debug)]
struct Lane {
    bands: BTreeMap<i32, Band>,
    parked: usize,
    /// The parked queue that has come back and stands for the others.
    envoy: Option<(i32, u32)>,
}

#[derive(Default, Debug)]
struct Band {
    /// By the end of the next pick, less the shift at that time.
    queues: BinaryHeap<Reverse<(Tag, u64, u32, u64)>>,
    shift: f64,
}

impl ReadySteps {
    /// A queue that has its first step: it is open, unless others of its lane are parked before it.
    pub(super) fn admit(&mut self, number: u32, control: &mut FlowControl, now_ms: i64) {
        let Some(queue) = self.queues.get(number) else { return };
        let (class, resource) = (queue.class, queue.resource);
        let priority = self.keys.get(queue.key.slot).map_or(0, |key| key.priority);
        let lane = self.parked.lanes.get(&(class, resource)).filter(|lane| lane.parked > 0);
        let Some(lane) = lane else {
            if let Some(order) = self.first_order(number) {
                self.show(number, order);
            }
            return;
        };
        let outranked = lane.envoy.filter(|(band, _)| priority < *band);
        self.park_in_lane(number);
        if let Some((_, envoy)) = outranked {
            self.park_in_lane(envoy);
        }
        self.elect(class, resource, control, now_ms);
    }

    /// A queue was found shut.
    pub(super) fn park(&mut self, number: u32, no: &No) {
        let Some(queue) = self.queues.get(number) else { return };
        let (resource, partition) = (queue.resource, queue.partition);
        let gate = if matches!(no.shut, Shut::Partition(_)) {
            self.park_by_partition(number, partition);
            Gate::Partition(partition)
        } else {
            self.park_in_lane(number);
            Gate::Resource(resource)
        };
        self.arm(gate, no.until);
    }

    fn arm(&mut self, gate: Gate, until: Option<i64>) {
        if let Some(until) = until {
            self.gates.set(gate, until.max(0).cast_unsigned());
        }
    }

    fn set_parked(&mut self, number: u32) -> Option<u64> {
        self.parked.tickets += 1;
        let ticket = self.parked.tickets;
        let queue = self.queues.get_mut(number)?;
        if queue.state == Where::Open {
            self.open[queue.class] -= queue.line.len();
        }
        queue.state = Where::Parked(ticket);
        queue.shown = None;
        Some(ticket)
    }

    fn set_open(&mut self, number: u32) {
        let Some(queue) = self.queues.get_mut(number) else { return };
        if queue.state != Where::Open {
            queue.state = Where::Open;
            self.open[queue.class] += queue.line.len();
        }
    }

    fn park_in_lane(&mut self, number: u32) {
        let Some(order) = self.first_order(number) else { return };
        let Some(ticket) = self.set_parked(number) else { return };
        let Some(queue) = self.queues.get(number) else { return };
        let Some(key) = self.keys.get(queue.key.slot) else { return };
        let lane = self.parked.lanes.entry((queue.class, queue.resource)).or_default();
        let band = lane.bands.entry(key.priority).or_default();
        band.queues.push(Reverse((Tag(key.finish - band.shift), order, number, ticket)));
        lane.parked += 1;
        if lane.envoy.is_some_and(|(_, envoy)| envoy == number) {
            lane.envoy = None;
        }
    }

    fn park_by_partition(&mut self, number: u32, partition: u32) {
        let Some(ticket) = self.set_parked(number) else { return };
        self.parked.by_partition.entry(partition).or_default().push((number, ticket));
        if let Some(queue) = self.queues.get(number) {
            let (class, resource) = (queue.class, queue.resource);
            self.leave_lane(number, class, resource);
        }
    }

    /// A queue that stands for the parked ones has had a step: the next one's turn is found anew.
    pub(super) fn repark(&mut self, number: u32) {
        let Some(queue) = self.queues.get(number) else { return };
        let lane = self.parked.lanes.get(&(queue.class, queue.resource));
        if lane.is_some_and(|lane| lane.parked > 0) {
            self.park_in_lane(number);
        }
    }

    /// A queue is gone, or kept back elsewhere.
    pub(super) fn leave_lane(&mut self, number: u32, class: usize, resource: u32) {
        let Some(lane) = self.parked.lanes.get_mut(&(class, resource)) else { return };
        if lane.envoy.is_some_and(|(_, envoy)| envoy == number) {
            lane.envoy = None;
            self.parked.headless.push((class, resource));
        }
    }

    /// The gates that are due by now are looked at again.
    pub(super) fn open_due(&mut self, control: &mut FlowControl, now_ms: i64) {
        if self.gates.next().is_none_or(|due| due > now_ms.max(0).cast_unsigned()) {
            return;
        }
        for gate in self.gates.due(now_ms.max(0).cast_unsigned()) {
            match gate {
                Gate::Resource(resource) => self.open_resource(resource, control, now_ms),
                Gate::Partition(partition) => self.open_partition(partition, control, now_ms),
            }
        }
    }

    /// Finds new envoys where one is gone; whether there was anything to find.
    pub(super) fn elect_missing(&mut self, control: &mut FlowControl, now_ms: i64) -> bool {
        let mut is_any = false;
        while let Some((class, resource)) = self.parked.headless.pop() {
            is_any = true;
            self.elect(class, resource, control, now_ms);
        }
        is_any
    }

    /// Something has changed in favour of the resource, or one of its steps has started.
    pub(super) fn open_resource(&mut self, resource: u32, control: &mut FlowControl, now_ms: i64) {
        if self.parked.lanes.is_empty() {
            return;
        }
        for class in 0..super::ready::Class::COUNT {
            self.elect(class, resource, control, now_ms);
        }
    }

    /// Something has changed in favour of the partition.
    pub(super) fn open_partition(&mut self, partition: u32, control: &mut FlowControl, now_ms: i64) {
        if partition == WHOLE {
            return;
        }
        for (number, ticket) in self.parked.by_partition.remove(&partition).unwrap_or_default() {
            if self.queues.get(number).is_some_and(|queue| queue.state == Where::Parked(ticket)) {
                self.set_open(number);
                self.admit(number, control, now_ms);
            }
        }
    }

    /// The partitions whose limits keep queues back.
    pub(super) fn shut_partitions(&self) -> Vec<u32> {
        self.parked.by_partition.keys().copied().collect()
    }

    /// Brings back the parked queue whose turn it is, if the resource lets one go.
    fn elect(&mut self, class: usize, resource: u32, control: &mut FlowControl, now_ms: i64) {
        let Some(lane) = self.parked.lanes.get(&(class, resource)) else { return };
        let best = lane.bands.iter().find(|(_, band)| !band.queues.is_empty()).map(|(priority, _)| *priority);
        let outranked = lane.envoy.filter(|(priority, _)| best.is_some_and(|best| best < *priority));
        if lane.envoy.is_some() && outranked.is_none() {
            return;
        }
        if lane.parked == 0 {
            self.parked.lanes.remove(&(class, resource));
            return;
        }
        if let Err(no) = control.check(resource, WHOLE, now_ms) {
            self.arm(Gate::Resource(resource), no.until);
            return;
        }
        if let Some((_, envoy)) = outranked {
            self.park_in_lane(envoy);
        }
        let Some((priority, number)) = self.take_first(class, resource) else { return };
        self.set_open(number);
        if let Some(order) = self.first_order(number) {
            self.show(number, order);
        }
        if let Some(lane) = self.parked.lanes.get_mut(&(class, resource)) {
            lane.envoy = Some((priority, number));
        }
    }

    /// Takes the first parked queue of a lane out of it and gives its key the time that it has there.
    fn take_first(&mut self, class: usize, resource: u32) -> Option<(i32, u32)> {
        let lane = self.parked.lanes.get_mut(&(class, resource))?;
        while let Some(mut entry) = lane.bands.first_entry() {
            let priority = *entry.key();
            let band = entry.get_mut();
            let Some(Reverse((Tag(tag), _, number, ticket))) = band.queues.pop() else {
                entry.remove();
                continue;
            };
            lane.parked -= 1;
            let Some(queue) = self.queues.get(number).filter(|queue| queue.state == Where::Parked(ticket))
            else {
                continue;
            };
            let v = self.bands.get(&priority).map_or(0.0, |clock| clock.v);
            band.shift = band.shift.max(v - tag);
            let finish = tag + band.shift;
            if let Some(key) = self.keys.get_mut(queue.key.slot).filter(|key| key.finish < finish) {
                key.finish = finish;
                key.start = finish - 1.0 / key.weight;
            }
            return Some((priority, number));
        }
        self.parked.lanes.remove(&(class, resource));
        None
    }
}
