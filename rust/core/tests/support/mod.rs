//! What the random tests of flows and of the engine share.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod back;
pub mod blocks;
pub mod cluster;
pub mod database;
pub mod fold;
pub mod holding;
pub mod past;
pub mod record;
pub mod reference;
pub mod rig;
pub mod rng;
pub mod tasks;
pub mod token;
pub mod witness;

/// How many cases a test runs: `full` when `PENSTOCK_LONG_TESTS` is set, `short` otherwise; and where to start,
/// `PENSTOCK_SEED` if set, to look at one failure again.
pub fn seeds(short: u64, full: u64) -> std::ops::Range<u64> {
    if let Some(seed) = std::env::var("PENSTOCK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return seed..seed + 1;
    }
    0..if std::env::var_os("PENSTOCK_LONG_TESTS").is_some() { full } else { short }
}
