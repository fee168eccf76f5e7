//! Engines under fire: workers and whole engines die, batches are put off, refused or lost, mail races with stops.
//!
//! The database of the simulation holds the invariants and says which broke; a failure names its seed, and
//! `PENSTOCK_SEED=n cargo test -p penstock-core --test engine_sim` runs that case alone.

mod support;

use support::cluster::Cluster;
use support::seeds;

#[test]
fn every_flow_ends_once_whatever_dies() {
    for seed in seeds(1_000, 20_000) {
        let mut cluster = Cluster::new(seed);
        for _ in 0..=cluster.rng.below(5) {
            cluster.create();
        }
        for _ in 0..cluster.rng.below(1_500) {
            cluster.act();
        }
        cluster.settle();
        cluster.check();
    }
}
