//! A token bucket on a clock of milliseconds.

/// Tokens come at a rate and are kept up to a burst; whatever starts takes one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    /// A bucket that holds `tokens` at `now_ms`.
    pub fn new(tokens: f64, now_ms: i64) -> Self {
        Self { tokens, at_ms: now_ms }
    }

    /// Lets in what has come since the last look. One millisecond's worth beyond the burst is kept: the clock is no
    /// finer, and a rate that loses the rest of each millisecond is too low by up to a tenth.
    pub fn fill(&mut self, per_second: f64, burst: f64, now_ms: i64) {
        let elapsed_ms = (now_ms - self.at_ms).max(0) as f64;
        let room = burst + per_second / 1_000.0;
        self.tokens = (self.tokens + elapsed_ms * per_second / 1_000.0).min(room);
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Whether a step may take one.
    pub fn has_token(&self) -> bool {
        self.tokens >= 1.0 - 1e-9
    }

    /// Takes one; also when there is none, which is then owed.
    pub fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// When the next token will be there.
    pub fn next_at(&self, per_second: f64) -> i64 {
        let wait_ms = ((1.0 - self.tokens).max(0.0) * 1_000.0 / per_second - 1e-6).ceil();
        self.at_ms.saturating_add((wait_ms as i64).max(1))
    }

    /// Whether it holds all that it can, so that nothing is lost with it.
    pub fn is_full(&mut self, per_second: f64, burst: f64, now_ms: i64) -> bool {
        self.fill(per_second, burst, now_ms);
        self.tokens >= burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(0.0, 0);
        let mut times = Vec::new();
        for now_ms in 1_000..1_100 {
            bucket.fill(100.0, 3.0, now_ms);
            while bucket.has_token() {
                bucket.take();
                times.push(now_ms);
            }
        }
        assert_eq!(times[..5], [1_000, 1_000, 1_000, 1_009, 1_019]);
        assert_eq!(times.len(), 3 + 10);
    }

    #[test]
    fn it_says_when_the_next_token_comes() {
        let mut bucket = Bucket::new(1.0, 50);
        bucket.fill(150.0, 1.0, 50);
        bucket.take();
        assert_eq!(bucket.next_at(150.0), 57);
        bucket.fill(150.0, 1.0, 57);
        assert!(bucket.has_token());
    }
}
