//! Where flows stand, written for those who list them.
//!
//! The journal says it too, but not to a query. So a flow that has moved and still lives a second later gets its nodes
//! written into its row, at most once a second, and of all flows together only so many a second: under load the
//! column is older, and the work is done all the same.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::settle::json_list;
use super::{Engine, Serial};
use crate::batch::{Group, Op};
use crate::flow::Flow;

/// How long after a flow moved its place is written.
const TELL_AFTER_MS: i64 = 1_000;

/// How often the due ones are looked at, and how many are written then: 256 a second.
const LOOK_EVERY_MS: i64 = 250;
const AT_ONCE: usize = 64;

/// The flows that moved, in the order in which their places are due.
#[derive(Default)]
pub(crate) struct Places {
    moved: VecDeque<(i64, Serial)>,
    not_before: i64,
}

impl Places {
    pub(super) fn next(&self) -> Option<i64> {
        self.moved.front().map(|(due, _)| (*due).max(self.not_before))
    }

    fn due(&mut self, now_ms: i64) -> Option<(i64, Serial)> {
        self.moved.front().filter(|(due, _)| *due <= now_ms)?;
        self.moved.pop_front()
    }
}

/// A number for the nodes at which the flow stands.
pub(super) fn place_of(flow: &Flow) -> u64 {
    let mut hasher = FxHasher::default();
    flow.position().hash(&mut hasher);
    hasher.finish()
}

impl Engine {
    /// Takes note that the flow may stand elsewhere than its row says.
    pub(super) fn moved(&mut self, serial: Serial, now_ms: i64) {
        let Some(live) = self.flows.get_mut(&serial).filter(|live| !live.is_place_due) else { return };
        live.is_place_due = true;
        self.places.moved.push_back((now_ms + TELL_AFTER_MS, serial));
    }

    /// Writes the places that are due.
    pub(super) fn tell_places(&mut self, now_ms: i64) {
        if now_ms < self.places.not_before {
            return;
        }
        let mut told = 0;
        while told < AT_ONCE {
            let Some((_, serial)) = self.places.due(now_ms) else { return };
            told += usize::from(self.tell_place(serial, now_ms));
        }
        self.places.not_before = now_ms + LOOK_EVERY_MS;
    }

    fn tell_place(&mut self, serial: Serial, now_ms: i64) -> bool {
        let Some(live) = self.flows.get_mut(&serial) else { return false };
        live.is_place_due = false;
        let place = place_of(&live.flow);
        if live.is_stopping || live.is_releasing || live.is_reloading || place == live.place {
            return false;
        }
        live.place = place;
        let position = json_list(&live.flow.position());
        let status = live.flow.status().as_str();
        let mut group = Group::default();
        group.push(live.about.id, live.claims, Op::Status { status, position, at: now_ms });
        self.enqueue(group);
        true
    }
}
