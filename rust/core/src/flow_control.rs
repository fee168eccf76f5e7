//! May it go now? Valve, breaker and limits of everything that tasks lean on.
//!
//! A *resource* is what a task names with `resource=`, by default the task itself. A *partition* is a part of it with
//! limits of its own, such as one per tenant. Here is decided whether one more step of them may start, never which.

mod breaker;
mod bucket;
mod exchange;
mod limits;
mod meter;
mod permits;
mod valve;

use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use breaker::{Answer, Breaker, Trip};
pub use bucket::Bucket;
pub use exchange::merge;
pub use limits::{Bound, Limit, PermitNeed, Usage};
pub use meter::Meter;
pub use permits::Permits;
pub use valve::{Valve, BETA, C};

/// The partition of a resource that has none.
pub const WHOLE: u32 = u32::MAX;

/// Partitions kept before it is looked for idle ones.
const MANY_PARTITIONS: usize = 1_024;

/// What became of a step that was in a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended<'a> {
    /// It succeeded: what it leans on is there.
    Well,
    /// It failed, for whatever reason of its own, or will never come back.
    Otherwise,
    /// The resource asks for patience.
    RateLimited,
    /// The resource is gone; the cause in the task's words.
    Unavailable(&'a str),
}

/// Why a step may not start now.
#[derive(Clone, Debug, PartialEq)]
pub enum Shut {
    /// The valve lets so many a second through.
    Valve(f64),
    /// The breaker is open.
    Breaker,
    /// The breaker closed a moment ago and the backlog comes back slowly.
    Ramp,
    /// A limit of the resource.
    Limit(Bound),
    /// A limit of the partition.
    Partition(Bound),
}

/// A no, and when to ask again; without an instant something has to happen first.
#[derive(Clone, Debug, PartialEq)]
pub struct No {
    /// What says no.
    pub shut: Shut,
    /// When it may be yes.
    pub until: Option<i64>,
}

#[derive(Debug)]
struct Resource {
    name: Arc<str>,
    meter: Meter,
    running: u32,
    valve: Option<Valve>,
    breaker: Breaker,
    total: Option<Usage>,
    each: Option<Limit>,
    partitions: FxHashMap<Arc<str>, u32>,
    /// Whether there is anything that could say no.
    is_controlled: bool,
    /// Whether others should be told.
    is_changed: bool,
}

#[derive(Debug)]
struct Partition {
    usage: Usage,
    /// Queues of ready steps that name it.
    refs: u32,
}

/// A resource as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceRow {
    /// Its name.
    pub name: Arc<str>,
    /// Steps of it in workers.
    pub running: u32,
    /// Steps of it that started in the last second.
    pub per_second: u32,
    /// What the valve lets through a second; `None`: it was never congested.
    pub valve: Option<f64>,
    /// The open breaker.
    pub trip: Option<Trip>,
    /// The limit on all of it.
    pub limit: Option<Limit>,
    /// The limit on each of its partitions.
    pub each: Option<Limit>,
    /// How many partitions are in use.
    pub partitions: usize,
}

/// Everything that may say no.
#[derive(Debug, Default)]
pub struct FlowControl {
    resources: Vec<Resource>,
    partitions: Vec<Option<Partition>>,
    free: Vec<u32>,
    /// Whether limits are shared with other replicas.
    is_shared: bool,
}

impl FlowControl {
    /// Makes a resource known by its number; numbers come one after the other.
    pub fn add(&mut self, name: Arc<str>) -> u32 {
        self.resources.push(Resource {
            name,
            meter: Meter::default(),
            running: 0,
            valve: None,
            breaker: Breaker::default(),
            total: None,
            each: None,
            partitions: FxHashMap::default(),
            is_controlled: false,
            is_changed: false,
        });
        self.resources.len() as u32 - 1
    }

    /// The resource's name.
    pub fn name(&self, resource: u32) -> Option<&Arc<str>> {
        self.resources.get(resource as usize).map(|resource| &resource.name)
    }

    /// Bounds a resource, and each of its partitions; gives whether its partitions began or ceased to count.
    pub fn set_limits(&mut self, resource: u32, total: Limit, each: Limit, now_ms: i64) -> bool {
        let is_shared = self.is_shared;
        let Some(found) = self.resources.get_mut(resource as usize) else { return false };
        match &mut found.total {
            Some(usage) => usage.set(total),
            None if total.is_empty() => {}
            None => {
                let mut usage = Usage::new(total, found.running, now_ms);
                if is_shared {
                    usage.share();
                }
                found.total = Some(usage);
            }
        }
        let had_partitions = found.each.is_some();
        found.each = Some(each).filter(|each| !each.is_empty());
        found.is_controlled = true;
        if let Some(each) = found.each {
            for partition in found.partitions.values() {
                if let Some(partition) = self.partitions[*partition as usize].as_mut() {
                    partition.usage.set(each);
                }
            }
        }
        had_partitions != self.resources[resource as usize].each.is_some()
    }

    /// The number of a partition, [`WHOLE`] when the resource has no limit on partitions. It stays good while
    /// something of it waits or runs; `refer` says that.
    pub fn partition(&mut self, resource: u32, name: Option<&Arc<str>>, now_ms: i64) -> u32 {
        let Some(found) = self.resources.get(resource as usize) else { return WHOLE };
        let (Some(each), Some(name)) = (found.each, name) else { return WHOLE };
        if let Some(partition) = found.partitions.get(name) {
            return *partition;
        }
        let count = found.partitions.len();
        if count >= MANY_PARTITIONS && count.is_power_of_two() {
            self.forget_idle(resource, now_ms);
        }
        let mut usage = Usage::new(each, 0, now_ms);
        if self.is_shared {
            usage.share();
        }
        let made = Partition { usage, refs: 0 };
        let number = self.free.pop().unwrap_or_else(|| {
            self.partitions.push(None);
            self.partitions.len() as u32 - 1
        });
        self.partitions[number as usize] = Some(made);
        self.resources[resource as usize].partitions.insert(name.clone(), number);
        number
    }

    /// One more, or one less, queue of ready steps names the partition.
    pub fn refer(&mut self, partition: u32, is_more: bool) {
        if let Some(partition) = self.part_mut(partition) {
            partition.refs = if is_more { partition.refs + 1 } else { partition.refs.saturating_sub(1) };
        }
    }

    /// No queue names any partition any more.
    pub fn refer_none(&mut self) {
        for partition in self.partitions.iter_mut().flatten() {
            partition.refs = 0;
        }
    }

    fn forget_idle(&mut self, resource: u32, now_ms: i64) {
        let (partitions, free) = (&mut self.partitions, &mut self.free);
        self.resources[resource as usize].partitions.retain(|_, number| {
            let partition = partitions[*number as usize].as_mut();
            let is_idle =
                partition.is_none_or(|partition| partition.refs == 0 && partition.usage.is_idle(now_ms));
            if is_idle {
                partitions[*number as usize] = None;
                free.push(*number);
            }
            !is_idle
        });
    }

    /// Whether one more step may start now.
    pub fn check(&mut self, resource: u32, partition: u32, now_ms: i64) -> Result<(), No> {
        let Some(found) = self.resources.get_mut(resource as usize).filter(|found| found.is_controlled)
        else {
            return Ok(());
        };
        found.check(now_ms)?;
        match self.part_mut(partition) {
            Some(partition) => partition
                .usage
                .check(now_ms)
                .map_err(|(bound, until)| No { shut: Shut::Partition(bound), until }),
            None => Ok(()),
        }
    }

    /// A step starts; gives whether it is a breaker's probe.
    pub fn started(&mut self, resource: u32, partition: u32, now_ms: i64) -> bool {
        let Some(found) = self.resources.get_mut(resource as usize) else { return false };
        found.running += 1;
        found.meter.record(now_ms);
        if !found.is_controlled {
            return false;
        }
        if let Some(valve) = &mut found.valve {
            valve.take();
        }
        if let Some(total) = &mut found.total {
            total.start(now_ms);
        }
        let is_probe = found.breaker.take();
        if let Some(partition) = self.part_mut(partition) {
            partition.usage.start(now_ms);
        }
        is_probe
    }

    /// A step has come back, or will never; gives whether others may start now that could not before.
    pub fn ended(
        &mut self,
        resource: u32,
        partition: u32,
        is_probe: bool,
        how: Ended<'_>,
        now_ms: i64,
    ) -> bool {
        if let Some(partition) = self.part_mut(partition) {
            partition.usage.end(now_ms);
        }
        let Some(found) = self.resources.get_mut(resource as usize) else { return false };
        found.running = found.running.saturating_sub(1);
        if let Some(total) = &mut found.total {
            total.end(now_ms);
        }
        found.tell(is_probe, how, now_ms);
        found.is_controlled
    }

    /// The resource's valve, when it was ever congested.
    pub fn valve(&self, resource: u32) -> Option<&Valve> {
        self.resources.get(resource as usize)?.valve.as_ref()
    }

    /// The trip that the resource's breaker has not got over.
    pub fn tripped(&self, resource: u32) -> Option<&Trip> {
        self.resources.get(resource as usize)?.breaker.tripped()
    }

    /// Everything that is used or bounded.
    pub fn rows(&mut self, now_ms: i64) -> Vec<ResourceRow> {
        let row = |found: &mut Resource| ResourceRow {
            name: found.name.clone(),
            running: found.running,
            per_second: found.meter.per_second(now_ms),
            valve: found.valve.as_ref().map(|valve| valve.rate(now_ms)),
            trip: found.breaker.tripped().cloned(),
            limit: found.total.as_ref().map(|usage| *usage.limit()).filter(|limit| !limit.is_empty()),
            each: found.each,
            partitions: found.partitions.len(),
        };
        self.resources.iter_mut().map(row).collect()
    }

    /// From now on every limit is shared with other replicas: only what is lent may be used.
    pub fn share_limits(&mut self) {
        self.is_shared = true;
        let totals = self.resources.iter_mut().filter_map(|resource| resource.total.as_mut());
        let parts = self.partitions.iter_mut().flatten().map(|partition| &mut partition.usage);
        totals.chain(parts).for_each(Usage::share);
    }

    /// What this replica would borrow and what it gives back now; each is to be carried out, and then told by `lend`.
    pub fn permit_needs(&mut self, now_ms: i64) -> Vec<PermitNeed> {
        let mut needs = Vec::new();
        for resource in &mut self.resources {
            let name = resource.name.clone();
            if let Some(usage) = &mut resource.total {
                usage.needs(&name, None, now_ms, &mut needs);
            }
            for (part, number) in &resource.partitions {
                if let Some(partition) = self.partitions[*number as usize].as_mut() {
                    partition.usage.needs(&name, Some(part), now_ms, &mut needs);
                }
            }
        }
        needs
    }

    /// So many permits were lent to this replica.
    pub fn lend(&mut self, resource: u32, partition: Option<&str>, bound: Bound, n: u32, now_ms: i64) {
        let Some(found) = self.resources.get_mut(resource as usize) else { return };
        let usage = match partition {
            None => found.total.as_mut(),
            Some(name) => match found.partitions.get(name).copied() {
                Some(number) => self.part_mut(number).map(|partition| &mut partition.usage),
                None => None,
            },
        };
        if let Some(usage) = usage {
            usage.lend(bound, n, now_ms);
        }
    }

    fn part_mut(&mut self, partition: u32) -> Option<&mut Partition> {
        self.partitions.get_mut(partition as usize)?.as_mut()
    }
}

impl Resource {
    fn check(&mut self, now_ms: i64) -> Result<(), No> {
        match self.breaker.check(now_ms) {
            Answer::Go => {}
            // A probe goes whatever the valve says: it is the slowest there is.
            Answer::Probe => return Ok(()),
            Answer::Wait(until) => {
                let shut = if self.breaker.tripped().is_some() { Shut::Breaker } else { Shut::Ramp };
                return Err(No { shut, until });
            }
        }
        if let Some(valve) = &mut self.valve {
            let rate = valve.rate(now_ms);
            valve.check(now_ms).map_err(|until| No { shut: Shut::Valve(rate), until: Some(until) })?;
        }
        match &mut self.total {
            Some(total) => {
                total.check(now_ms).map_err(|(bound, until)| No { shut: Shut::Limit(bound), until })
            }
            None => Ok(()),
        }
    }

    fn tell(&mut self, is_probe: bool, how: Ended<'_>, now_ms: i64) {
        match how {
            Ended::Well | Ended::Otherwise if !is_probe => return,
            Ended::Well => self.breaker.close(now_ms),
            Ended::Otherwise => self.breaker.probe_failed(None, now_ms),
            Ended::RateLimited => {
                let observed = f64::from(self.meter.per_second(now_ms));
                match &mut self.valve {
                    Some(valve) => valve.signal(observed, now_ms),
                    None => self.valve = Some(Valve::new(observed, now_ms)),
                }
                if is_probe {
                    self.breaker.probe_failed(None, now_ms);
                }
            }
            Ended::Unavailable(cause) if is_probe => self.breaker.probe_failed(Some(cause), now_ms),
            Ended::Unavailable(cause) => {
                let observed = f64::from(self.meter.per_second(now_ms));
                self.breaker.trip(cause, observed, now_ms);
            }
        }
        self.is_controlled = true;
        self.is_changed = true;
    }
}
