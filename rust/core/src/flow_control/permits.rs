//! What this replica holds of a limit that it shares with others: taken and given back in blocks.

/// Permits asked for at first; twice as many each time it asks again soon.
const FIRST_BLOCK: u32 = 1;
/// The largest block.
const MAX_BLOCK: u32 = 64;
/// What is not used for so long is given back.
const UNUSED_MS: i64 = 1_000;

/// Permits of one kind: places to run in, or starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    held: u32,
    in_use: u32,
    /// The most that were in use at a time since `since`, or that were spent.
    peak: u32,
    since: i64,
    block: u32,
    is_wanting: bool,
}

impl Permits {
    /// How many are held, used ones included.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// One more would be of use now.
    pub fn want(&mut self, now_ms: i64) {
        if !self.is_wanting {
            self.is_wanting = true;
            self.look(now_ms);
        }
    }

    /// How many to ask for; 0 when it needs none.
    pub fn wanted(&self) -> u32 {
        if self.is_wanting {
            self.block.clamp(FIRST_BLOCK, MAX_BLOCK)
        } else {
            0
        }
    }

    /// So many were lent; fewer than wanted says that there are no more.
    pub fn lend(&mut self, n: u32, now_ms: i64) {
        let wanted = self.wanted();
        self.held = self.held.saturating_add(n);
        self.block = if n >= wanted { wanted.saturating_mul(2).min(MAX_BLOCK) } else { FIRST_BLOCK };
        self.is_wanting = n == 0 && self.is_wanting;
        self.look(now_ms);
    }

    /// So many are in use now.
    pub fn used(&mut self, in_use: u32, now_ms: i64) {
        self.look(now_ms);
        self.in_use = in_use;
        self.peak = self.peak.max(in_use);
    }

    /// One is spent for good.
    pub fn spend(&mut self, now_ms: i64) {
        self.look(now_ms);
        self.held = self.held.saturating_sub(1);
        self.since = now_ms;
    }

    /// How many were of no use for a second and are given back now.
    pub fn give_back(&mut self, now_ms: i64) -> u32 {
        if now_ms - self.since < UNUSED_MS || self.is_wanting {
            return 0;
        }
        let unused = self.held.saturating_sub(self.peak.max(self.in_use));
        self.held -= unused;
        (self.peak, self.since) = (self.in_use, now_ms);
        if unused > 0 {
            self.block = FIRST_BLOCK;
        }
        unused
    }

    fn look(&mut self, now_ms: i64) {
        if self.since == 0 {
            self.since = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_while_more_is_lent_and_start_anew_when_there_is_no_more() {
        let mut permits = Permits::default();
        let mut blocks = Vec::new();
        for now_ms in 1..=5 {
            permits.want(now_ms);
            blocks.push(permits.wanted());
            permits.lend(permits.wanted(), now_ms);
        }
        assert_eq!((blocks, permits.held()), (vec![1, 2, 4, 8, 16], 31));
        permits.want(6);
        permits.lend(3, 6);
        permits.want(7);
        assert_eq!((permits.wanted(), permits.held()), (1, 34));
    }

    #[test]
    fn what_was_of_no_use_for_a_second_goes_back() {
        let mut permits = Permits::default();
        permits.lend(10, 1_000);
        permits.used(4, 1_100);
        permits.used(2, 1_200);
        assert_eq!(permits.give_back(1_999), 0);
        assert_eq!((permits.give_back(2_000), permits.held()), (6, 4));
        assert_eq!((permits.give_back(3_000), permits.held()), (2, 2));
    }
}
