//! What tasks lean on: names, limits, bounced steps, and what replicas tell each other.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{clock, Engine, Live, Serial, Timer};
use crate::error::{Error, Result};
use crate::flow::TaskError;
use crate::flow_control::{Limit, ResourceRow};
use crate::json;

/// Where a step's partition of its resource is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionBy {
    /// The flow's fairness key.
    FairnessKey,
    /// A member of the flow's baggage, by its path.
    Baggage(Vec<String>),
}

impl PartitionBy {
    /// Reads `fairness_key` or `baggage.a.b`.
    ///
    /// # Errors
    /// `invalid` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "fairness_key" {
            return Ok(Self::FairnessKey);
        }
        let path: Vec<String> =
            text.strip_prefix("baggage.").unwrap_or_default().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(Error::invalid(format!(
                "a limit cannot be taken per {text:?}: give \"fairness_key\" or \"baggage.\" and a path in it"
            )));
        }
        Ok(Self::Baggage(path))
    }

    fn read(&self, live: &Live) -> Option<Arc<str>> {
        let path = match self {
            Self::FairnessKey => return Some(live.fairness_key.clone()),
            Self::Baggage(path) => path,
        };
        let mut text: String = live.about.baggage.clone()?;
        for member in path {
            let fields = json::object_fields(&text).ok()?;
            let (_, member) = fields.iter().find(|(name, _)| **name == **member)?;
            member.raw().clone_into(&mut text);
        }
        Some(serde_json::from_str::<String>(&text).unwrap_or(text).into())
    }
}

/// The resources that graphs name.
#[derive(Default)]
pub(super) struct Resources {
    numbers: FxHashMap<Arc<str>, u32>,
    by: FxHashMap<u32, PartitionBy>,
}

impl Resources {
    /// The part of its resource that a step of this node counts against.
    pub(super) fn partition_of(&self, live: &Live, node: usize) -> Option<Arc<str>> {
        self.by.get(live.entry.resources.get(node)?)?.read(live)
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// The limits of one resource, as an operator gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceLimits {
    /// On all of it.
    pub total: Limit,
    /// On each of its partitions.
    pub each: Limit,
    /// What names the partitions.
    pub by: Option<PartitionBy>,
}

impl Engine {
    /// The number of a resource, which is made known when it is new.
    pub(super) fn resource(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.resources.numbers.get(name) {
            return *number;
        }
        let number = self.scheduler.control_mut().add(name.clone());
        self.resources.numbers.insert(name.clone(), number);
        number
    }

    /// Bounds a resource from now on; what runs goes on.
    pub fn set_limits(&mut self, name: &str, limits: ResourceLimits, now_ms: i64) {
        self.scheduler.wake(now_ms);
        let number = self.resource(&Arc::from(name));
        let ready = self.withdraw_all_of(number);
        match limits.by {
            Some(by) => self.resources.by.insert(number, by),
            None => self.resources.by.remove(&number),
        };
        self.scheduler.set_limits(number, limits.total, limits.each);
        for (flow, step) in ready {
            self.offer(flow, step, now_ms);
        }
    }

    /// Takes the ready steps of a resource back, to be offered anew.
    fn withdraw_all_of(&mut self, resource: u32) -> Vec<(Serial, u64)> {
        let ready = self.scheduler.waiting(Some(resource), usize::MAX);
        for (serial, step) in &ready {
            self.scheduler.withdraw(*serial, *step);
            if let Some(live) = self.flows.get_mut(serial) {
                live.offered.remove(step);
            }
        }
        ready
    }

    /// How long a bounced step waits before it is ready again, when nothing has to be written for that. A flow that a
    /// dying replica held is written of step by step, and a long wait is written so that the flow can be released.
    pub(super) fn bounce_ms(&self, live: &Live, error: &TaskError) -> Option<i64> {
        let is_free = live.crashes == 0 && !live.is_reloading && !live.is_stopping;
        let wait_ms = i64::try_from(error.retry_after_ms.unwrap_or(0)).unwrap_or(i64::MAX);
        (error.is_bounce() && is_free && wait_ms < self.options.release_after_ms).then_some(wait_ms)
    }

    /// The step is ready again as if it had not run; its place in its key is the old one.
    pub(super) fn bounce(&mut self, serial: Serial, step: u64, wait_ms: i64, now_ms: i64) {
        if wait_ms > 0 {
            self.timers.set(Timer::Delay(serial, step), clock(now_ms + wait_ms));
        } else {
            self.offer(serial, step, now_ms);
        }
    }

    /// What has to be told to other replicas, by resource: rows of JSON for the table `resources`.
    pub fn take_resource_changes(&mut self) -> Vec<(String, String)> {
        self.scheduler.control_mut().take_changes()
    }

    /// Takes in what other replicas, or an earlier life, have told.
    ///
    /// # Errors
    /// `corrupt` when a row cannot be read; the others count all the same.
    pub fn learn_resources(&mut self, rows: &[(String, String)], now_ms: i64) -> Result<()> {
        self.scheduler.wake(now_ms);
        let mut outcome = Ok(());
        for (name, state) in rows {
            let number = self.resource(&Arc::from(name.as_str()));
            outcome = outcome.and(self.scheduler.control_mut().import(number, state, now_ms));
            self.scheduler.reopen(number);
        }
        outcome
    }

    /// What each resource does, by name, with how many of its steps are ready.
    pub fn resources(&mut self, now_ms: i64) -> Vec<(ResourceRow, usize)> {
        let ready: FxHashMap<u32, usize> = self.scheduler.ready_by_resource().into_iter().collect();
        let rows = self.scheduler.control_mut().rows(now_ms).into_iter().enumerate();
        let mut rows: Vec<_> =
            rows.map(|(number, row)| (row, ready.get(&(number as u32)).copied().unwrap_or(0))).collect();
        rows.sort_unstable_by(|a, b| a.0.name.cmp(&b.0.name));
        rows
    }
}
