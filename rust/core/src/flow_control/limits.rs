//! What a resource may be used at most, by everybody together: at a time, and a second.

use std::sync::Arc;

use super::bucket::Bucket;
use super::permits::Permits;
use crate::error::{Error, Result};

/// Bounds that an operator has set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// Steps that run at a time.
    pub max_concurrency: Option<u32>,
    /// Steps that start a second.
    pub rate: Option<f64>,
    /// Steps that may start at once after a pause; a tenth of a second's when not given, and at least one.
    pub burst: Option<f64>,
}

impl Limit {
    /// Whether it bounds nothing.
    pub fn is_empty(&self) -> bool {
        self.max_concurrency.is_none() && self.rate.is_none()
    }

    /// The limit, if it is one that something can go through.
    ///
    /// # Errors
    /// `invalid` naming the value and what may stand in its place.
    pub fn checked(self) -> Result<Self> {
        let is_bad =
            |value: Option<f64>, least: f64| value.is_some_and(|value| !value.is_finite() || value < least);
        if self.rate == Some(0.0) || is_bad(self.rate, 0.0) {
            return Err(Error::invalid(format!(
                "a rate of {:?}: give steps a second, above 0",
                self.rate.unwrap_or_default()
            )));
        }
        if is_bad(self.burst, 1.0) {
            return Err(Error::invalid(format!(
                "a burst of {:?}: give at least 1 step",
                self.burst.unwrap_or_default()
            )));
        }
        if self.max_concurrency == Some(0) {
            return Err(Error::invalid(
                "a max_concurrency of 0 lets nothing through; pause the flows instead",
            ));
        }
        Ok(self)
    }

    fn burst(&self) -> f64 {
        self.burst.unwrap_or_else(|| self.rate.unwrap_or(0.0) / 10.0).max(1.0)
    }
}

/// Which bound a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many run already.
    Concurrency,
    /// So many have started lately.
    Rate,
}

/// A limit and what is used of it here.
#[derive(Clone, Debug)]
pub struct Usage {
    limit: Limit,
    running: u32,
    bucket: Bucket,
    /// What of it is lent to this replica; `None`: all of it is ours.
    lent: Option<Lent>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    slots: Permits,
    tokens: Permits,
}

/// What a replica would have of a shared limit, or gives back of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitNeed {
    /// The resource.
    pub resource: Arc<str>,
    /// Its partition; `None`: all of it.
    pub partition: Option<Arc<str>>,
    /// Places to run in, or starts.
    pub bound: Bound,
    /// So many are asked for.
    pub wanted: u32,
    /// So many are not held any more.
    pub returned: u32,
}

impl Lent {
    fn of(&mut self, bound: Bound) -> &mut Permits {
        match bound {
            Bound::Concurrency => &mut self.slots,
            Bound::Rate => &mut self.tokens,
        }
    }
}

impl Usage {
    /// A limit of which nothing is used.
    pub fn new(limit: Limit, running: u32, now_ms: i64) -> Self {
        Self { limit, running, bucket: Bucket::new(limit.burst(), now_ms), lent: None }
    }

    /// Other bounds from now on; what runs goes on.
    pub fn set(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// The bounds.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How many run.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Whether one more step may start now; otherwise which bound says no and when to ask again, if time alone helps.
    pub fn check(&mut self, now_ms: i64) -> std::result::Result<(), (Bound, Option<i64>)> {
        let slots = match (&self.lent, self.limit.max_concurrency) {
            (_, None) => u32::MAX,
            (None, Some(max)) => max,
            (Some(lent), Some(max)) => lent.slots.held().min(max),
        };
        if self.running >= slots {
            if let Some(lent) = &mut self.lent {
                lent.slots.want(now_ms);
            }
            return Err((Bound::Concurrency, None));
        }
        let Some(rate) = self.limit.rate else { return Ok(()) };
        if let Some(lent) = &mut self.lent {
            if lent.tokens.held() > 0 {
                return Ok(());
            }
            lent.tokens.want(now_ms);
            return Err((Bound::Rate, None));
        }
        self.bucket.fill(rate, self.limit.burst(), now_ms);
        if self.bucket.has_token() {
            return Ok(());
        }
        Err((Bound::Rate, Some(self.bucket.next_at(rate))))
    }

    /// A step starts.
    pub fn start(&mut self, now_ms: i64) {
        self.running += 1;
        if let Some(lent) = &mut self.lent {
            if self.limit.max_concurrency.is_some() {
                lent.slots.used(self.running, now_ms);
            }
            if self.limit.rate.is_some() {
                lent.tokens.spend(now_ms);
            }
        } else if self.limit.rate.is_some() {
            self.bucket.take();
        }
    }

    /// A step has ended.
    pub fn end(&mut self, now_ms: i64) {
        self.running = self.running.saturating_sub(1);
        if let Some(lent) = &mut self.lent {
            lent.slots.used(self.running, now_ms);
        }
    }

    /// From now on only what is lent to this replica may be used.
    pub fn share(&mut self) {
        self.lent.get_or_insert_default();
    }

    /// So many permits of a kind were lent to this replica.
    pub fn lend(&mut self, bound: Bound, n: u32, now_ms: i64) {
        if let Some(lent) = &mut self.lent {
            lent.of(bound).lend(n, now_ms);
        }
    }

    pub(super) fn needs(
        &mut self,
        resource: &Arc<str>,
        partition: Option<&Arc<str>>,
        now_ms: i64,
        needs: &mut Vec<PermitNeed>,
    ) {
        let Some(lent) = &mut self.lent else { return };
        for bound in [Bound::Concurrency, Bound::Rate] {
            let permits = lent.of(bound);
            let (returned, wanted) = (permits.give_back(now_ms), permits.wanted());
            if wanted > 0 || returned > 0 {
                let (resource, partition) = (resource.clone(), partition.cloned());
                needs.push(PermitNeed { resource, partition, bound, wanted, returned });
            }
        }
    }

    /// Whether forgetting it would lose nothing.
    pub fn is_idle(&mut self, now_ms: i64) -> bool {
        let is_lent = self.lent.is_some_and(|lent| lent.slots.held() + lent.tokens.held() > 0);
        let burst = self.limit.burst();
        self.running == 0
            && !is_lent
            && self.limit.rate.is_none_or(|rate| self.bucket.is_full(rate, burst, now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_counts_until_it_ends() {
        let limit = Limit { max_concurrency: Some(2), ..Limit::default() };
        let mut usage = Usage::new(limit, 0, 0);
        for _ in 0..2 {
            assert_eq!(usage.check(0), Ok(()));
            usage.start(0);
        }
        assert_eq!(usage.check(9), Err((Bound::Concurrency, None)));
        usage.end(9);
        assert_eq!(usage.check(9), Ok(()));
    }

    #[test]
    fn a_rate_lets_its_burst_through_at_once() {
        let limit = Limit { rate: Some(50.0), burst: Some(4.0), ..Limit::default() };
        let mut usage = Usage::new(limit, 0, 0);
        let mut started = Vec::new();
        for now_ms in 0..=100 {
            while usage.check(now_ms).is_ok() {
                usage.start(now_ms);
                started.push(now_ms);
            }
        }
        assert_eq!(started, [0, 0, 0, 0, 20, 40, 60, 80, 100]);
    }

    #[test]
    fn a_shared_limit_gives_only_what_is_lent() {
        let limit = Limit { max_concurrency: Some(8), ..Limit::default() };
        let mut usage = Usage::new(limit, 0, 0);
        usage.share();
        assert_eq!(usage.check(5), Err((Bound::Concurrency, None)));
        usage.lend(Bound::Concurrency, 1, 6);
        assert_eq!(usage.check(6), Ok(()));
        usage.start(6);
        assert_eq!(usage.check(7), Err((Bound::Concurrency, None)));
    }
}
