//! How many flows to claim: no more than can soon run, so that what is left stays where any replica finds it.

use super::Engine;

/// Ready steps kept for each worker thread beyond the one that it runs.
const READY_PER_THREAD: usize = 16;
/// How far ahead is claimed at the present pace.
const AHEAD_MS: u64 = 250;
/// How often the pace is taken.
const TAKEN_EVERY_MS: i64 = 200;

/// How fast steps finish.
#[derive(Default)]
pub(super) struct Pace {
    since_ms: i64,
    finished: u64,
    per_second: u64,
}

impl Pace {
    pub(super) fn finished(&mut self) {
        self.finished += 1;
    }

    /// Takes the pace of the time since it was last taken.
    pub(super) fn take(&mut self, now_ms: i64) {
        let elapsed_ms = now_ms - self.since_ms;
        if elapsed_ms >= TAKEN_EVERY_MS {
            self.per_second = self.finished * 1_000 / elapsed_ms as u64;
            (self.since_ms, self.finished) = (now_ms, 0);
        }
    }

    fn ahead(&self) -> usize {
        (self.per_second * AHEAD_MS / 1_000) as usize
    }
}

impl Engine {
    /// How many flows it wants to claim: as many as its workers will soon run, within its capacity. The first ones
    /// are wanted before any worker is up.
    pub fn room(&self) -> usize {
        let threads = self.workers.len().max(1) * self.options.threads as usize;
        let wanted = (threads * READY_PER_THREAD).max(self.pace.ahead());
        wanted.saturating_sub(self.scheduler.open_len()).min(self.space())
    }

    /// Changes how many flows it holds at most. What is above a smaller number stays until it ends or is released.
    pub fn set_room(&mut self, room: usize) {
        self.options.room = room;
    }

    /// How many more flows fit into memory.
    pub(super) fn space(&self) -> usize {
        self.options.room.saturating_sub(self.flows.len())
    }
}
