//! Flows that wait for a resource that is shut must not keep all others out of memory.
//!
//! What a flow in the database leans on is not known before it is loaded, so a dead resource with a long backlog would
//! fill the room, and steps that could go would wait outside. When the room is nearly full and more than half of it
//! holds flows that only wait for resources, the youngest of those are given back for a while, a few at a time.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{Engine, Serial};

/// How often it is looked, and how many go then: what is given back is claimed again, and that costs.
const LOOK_EVERY_MS: i64 = 250;
const AT_ONCE: usize = 64;

impl Engine {
    /// When it is to be looked whether flows should go; `None` while there is room, or nothing shut to speak of.
    pub(super) fn crowd_due(&self) -> Option<i64> {
        let room = self.options.room;
        let shut = self.scheduler.ready_len() - self.scheduler.open_len();
        (self.space() * 4 < room && shut * 2 > room).then_some(self.crowd_at)
    }

    /// Gives flows back that only wait for resources, down to half of the room.
    pub(super) fn make_room(&mut self, now_ms: i64) {
        if self.crowd_due().is_none_or(|due| now_ms < due) {
            return;
        }
        self.crowd_at = now_ms + LOOK_EVERY_MS;
        let mut shut: FxHashMap<Serial, usize> = FxHashMap::default();
        for (serial, _) in self.scheduler.shut() {
            *shut.entry(serial).or_default() += 1;
        }
        let until = now_ms + self.options.release_after_ms;
        let mut found: Vec<_> = shut
            .into_iter()
            .filter(|(serial, steps)| self.only_waits_for_resources(*serial, *steps, until))
            .filter_map(|(serial, _)| Some((self.flows.get(&serial)?, serial)))
            .map(|(live, serial)| {
                (Reverse((live.about.priority, live.about.created_at, live.about.id)), serial)
            })
            .collect();
        let excess = found.len().saturating_sub(self.options.room / 2).min(AT_ONCE);
        found.sort_unstable();
        for (_, serial) in found.into_iter().take(excess) {
            self.give_back(serial, until, now_ms);
        }
    }

    /// Whether all that the flow could do is those ready steps, and nothing is due or under way.
    fn only_waits_for_resources(&self, serial: Serial, steps: usize, until: i64) -> bool {
        let Some(live) = self.flows.get(&serial) else { return false };
        let is_busy = live.is_releasing || live.is_stopping || live.is_reloading || !live.kept.is_empty();
        !is_busy
            && live.crashes == 0
            && live.running.is_empty()
            && live.offered.len() == steps
            && live.committed == live.flow.ord()
            && !live.has_unread_mail()
            && live.flow.next_due().is_none_or(|due| due > until)
            && !self.has_children_here(serial)
    }

    fn give_back(&mut self, serial: Serial, until: i64, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial) else { return };
        let steps: Vec<u64> = live.offered.drain().collect();
        for step in &steps {
            self.scheduler.withdraw(serial, *step);
        }
        self.release(serial, Some(until), now_ms);
        for step in steps {
            // Comes back by a timer when the release is not written.
            self.offer(serial, step, now_ms);
        }
    }
}
