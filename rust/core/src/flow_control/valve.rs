//! How fast a resource is used after it asked for patience: the curve of TCP CUBIC.
//!
//! The congestion window of S. Ha, I. Rhee, L. Xu, *CUBIC: A New TCP-Friendly High-Speed TCP Variant* (2008), read as
//! a rate: cut a little at every signal, flat around the rate at which it last became too much, then ever steeper.

use super::bucket::Bucket;

/// How steep the curve is.
pub const C: f64 = 0.05;
/// How far below the last maximum it starts, as a part of it.
pub const BETA: f64 = 0.01;
/// Signals within so long belong to one congestion: the rate observed then says nothing new.
const ONE_CONGESTION_MS: i64 = 1_000;
/// The slowest it goes.
const LEAST: f64 = 1.0;
/// The burst of the gate, as seconds of the rate. A count over the last second instead of a paced bucket stays at a
/// third to two thirds of what a bursty downstream would bear.
const BURST_S: f64 = 0.01;

/// A resource that was congested at least once. One that never was has no valve.
#[derive(Clone, Copy, Debug)]
pub struct Valve {
    w_cong: f64,
    t_cong: i64,
    w_max: f64,
    k: f64,
    bucket: Bucket,
}

impl Valve {
    /// The valve after a first signal, with the rate observed over the last second.
    pub fn new(observed: f64, now_ms: i64) -> Self {
        Self::at((observed - 1.0).max(LEAST), now_ms, now_ms)
    }

    /// The valve as another replica or an earlier life has left it.
    pub fn at(w_cong: f64, t_cong: i64, now_ms: i64) -> Self {
        let mut valve = Self { w_cong: 0.0, t_cong: 0, w_max: 0.0, k: 0.0, bucket: Bucket::new(0.0, now_ms) };
        valve.cut(w_cong.max(LEAST), t_cong);
        valve
    }

    /// The resource has asked for patience once more.
    pub fn signal(&mut self, observed: f64, now_ms: i64) {
        let is_new = now_ms - self.t_cong > ONE_CONGESTION_MS;
        let w_cong = if is_new { self.w_cong.max(observed) } else { self.w_cong };
        self.cut((w_cong - 1.0).max(LEAST), now_ms.max(self.t_cong));
    }

    /// Takes over another replica's view when it is later, or as late and slower; whether it did.
    pub fn merge(&mut self, w_cong: f64, t_cong: i64) -> bool {
        let is_better = t_cong > self.t_cong || (t_cong == self.t_cong && w_cong < self.w_cong);
        if is_better {
            self.cut(w_cong.max(LEAST), t_cong);
        }
        is_better
    }

    /// Steps a second that may start now.
    pub fn rate(&self, now_ms: i64) -> f64 {
        let t = (now_ms - self.t_cong).max(0) as f64 / 1_000.0 - self.k;
        (C * t * t * t + self.w_max).max(LEAST)
    }

    /// Whether a step may start now; otherwise when to ask again.
    pub fn check(&mut self, now_ms: i64) -> Result<(), i64> {
        let rate = self.rate(now_ms);
        self.bucket.fill(rate, (rate * BURST_S).max(1.0), now_ms);
        if self.bucket.has_token() {
            return Ok(());
        }
        Err(self.bucket.next_at(rate))
    }

    /// A step starts.
    pub fn take(&mut self) {
        self.bucket.take();
    }

    /// The rate at the last congestion, and its instant.
    pub fn congestion(&self) -> (f64, i64) {
        (self.w_cong, self.t_cong)
    }

    fn cut(&mut self, w_cong: f64, t_cong: i64) {
        (self.w_cong, self.t_cong) = (w_cong, t_cong);
        self.w_max = w_cong / (1.0 - BETA);
        self.k = (self.w_max * BETA / C).cbrt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn the_curve_starts_at_the_cut_and_is_flat_at_the_last_maximum() {
        let valve = Valve::new(101.0, 5_000);
        assert!(close(valve.rate(5_000), 100.0));
        let w_max = 100.0 / 0.99;
        let k_ms = (w_max * BETA / C).cbrt() * 1_000.0;
        assert!((valve.rate(5_000 + k_ms as i64) - w_max).abs() < 1e-3);
        assert!(valve.rate(60_000) > 1_000.0);
    }

    #[test]
    fn a_burst_of_signals_is_one_congestion_and_each_costs_one() {
        let mut valve = Valve::new(100.0, 0);
        valve.signal(500.0, 500);
        valve.signal(500.0, 1_500);
        assert!(close(valve.congestion().0, 97.0));
        valve.signal(500.0, 2_501);
        assert!(close(valve.congestion().0, 499.0));
        valve.signal(10.0, 9_000);
        assert!(close(valve.congestion().0, 498.0));
    }

    #[test]
    fn it_never_closes_altogether() {
        let mut valve = Valve::new(0.0, 0);
        (0..50).for_each(|now_ms| valve.signal(0.0, now_ms));
        assert!(close(valve.congestion().0, 1.0) && valve.rate(50) >= 1.0);
    }

    #[test]
    fn of_two_views_the_later_wins_and_then_the_slower() {
        let mut valve = Valve::at(50.0, 100, 100);
        assert!(!valve.merge(10.0, 99) && !valve.merge(60.0, 100));
        assert!(valve.merge(40.0, 100) && valve.merge(70.0, 101));
        assert_eq!(valve.congestion(), (70.0, 101));
    }
}
