//! The deciding half of Penstock.
//!
//! No clock, no I/O, no threads: time comes in as `now_ms`, everything else as values. So the whole
//! engine can be simulated, and a process that holds it can be forked before it is made.

pub mod batch;
pub mod engine;
pub mod error;
pub mod flow;
pub mod flow_control;
pub mod graph;
pub mod ids;
pub mod json;
pub mod lru;
pub mod number;
pub mod scheduler;
pub mod state;
pub mod wire;
