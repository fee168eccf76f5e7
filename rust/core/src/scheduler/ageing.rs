//! Ageing: what waits long moves into better bands. Off unless asked for, because bands are strict.

use super::ready::{Class, TICKET_BITS};
use super::Scheduler;

/// How often it is looked for what has aged.
const LOOK_EVERY_MS: i64 = 1_000;

#[derive(Default, Debug)]
pub(super) struct Ageing {
    /// So long a wait makes the priority better by one; 0: never.
    every_ms: i64,
    looked_at: i64,
}

impl Scheduler {
    /// From now on a step's priority gets better by one for every `every_ms` that it waits; never when 0.
    pub fn set_ageing(&mut self, every_ms: u64) {
        self.ageing.every_ms = every_ms as i64;
    }

    pub(super) fn age(&mut self) {
        let Ageing { every_ms, looked_at } = self.ageing;
        if every_ms <= 0 || self.now_ms - looked_at < LOOK_EVERY_MS.min(every_ms) {
            return;
        }
        self.ageing.looked_at = self.now_ms;
        let mut aged = Vec::new();
        for step in self.ready.steps.iter() {
            let steps = (self.now_ms - (step.ready.order >> TICKET_BITS) as i64).max(0) / every_ms;
            let priority = i64::from(step.ready.priority).saturating_sub(steps).max(i64::from(i32::MIN));
            if priority < i64::from(step.priority) {
                aged.push((step.ready.clone(), priority as i32));
            }
        }
        for (ready, priority) in aged {
            let class = Class::of(&ready, self.slots.kind(ready.task));
            self.ready.add_to_band(ready, priority, class, &mut self.control, self.now_ms);
        }
    }
}
