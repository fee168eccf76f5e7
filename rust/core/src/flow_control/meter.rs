//! How many steps started in the last second.

const SLOTS: usize = 10;
const SLOT_MS: i64 = 100;

/// A ring of tenths of a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    counts: [u32; SLOTS],
    /// The tenth that is counted now.
    slot: i64,
    sum: u32,
}

impl Meter {
    /// Counts one.
    pub fn record(&mut self, now_ms: i64) {
        self.turn(now_ms);
        self.counts[self.slot.rem_euclid(SLOTS as i64) as usize] += 1;
        self.sum += 1;
    }

    /// How many were counted in the last second, to a tenth of one.
    pub fn per_second(&mut self, now_ms: i64) -> u32 {
        self.turn(now_ms);
        self.sum
    }

    fn turn(&mut self, now_ms: i64) {
        let slot = now_ms.div_euclid(SLOT_MS);
        if slot <= self.slot {
            return;
        }
        if slot - self.slot >= SLOTS as i64 {
            (self.counts, self.sum) = ([0; SLOTS], 0);
        } else {
            for passed in self.slot + 1..=slot {
                let count = &mut self.counts[passed.rem_euclid(SLOTS as i64) as usize];
                self.sum -= *count;
                *count = 0;
            }
        }
        self.slot = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_second_does_not_count() {
        let mut meter = Meter::default();
        (0..1_000).for_each(|now_ms| meter.record(now_ms));
        assert_eq!(meter.per_second(999), 1_000);
        assert_eq!(meter.per_second(1_499), 500);
        assert_eq!(meter.per_second(1_999), 0);
        assert_eq!(meter.per_second(1_000_000), 0);
    }
}
