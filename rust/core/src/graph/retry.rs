//! What a node says about failure: its declared retries, and its cohort's policy.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The longest duration, a hundred years: an instant plus a duration never overflows.
pub(super) const MAX_DURATION_MS: u64 = 100 * 366 * 24 * 60 * 60 * 1000;

/// Declared retries of a node's step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first one counted.
    pub max_attempts: u32,
    /// The delay before the second attempt.
    pub initial_ms: u64,
    /// The factor from one delay to the next.
    #[serde(default = "default_multiplier", deserialize_with = "exact_float")]
    pub multiplier: f64,
    /// No delay is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_interval_ms: Option<u64>,
    /// No attempt starts later than this after the step was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up_after_ms: Option<u64>,
    /// The part of a delay, 0 to 1, that chance may take away.
    #[serde(default = "default_jitter", deserialize_with = "exact_float")]
    pub jitter: f64,
    /// Codes or exception types that are retried; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Codes or exception types that are not; stronger than `on`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_on: Vec<String>,
}

impl RetryPolicy {
    /// The delay after attempt number `attempt` (0: before the second one).
    ///
    /// Exponential, capped by `max_interval_ms`, then shortened by up to `jitter` of itself. The same
    /// `attempt` and `seed` give the same delay.
    pub fn delay_ms(&self, attempt: u32, seed: u64) -> u64 {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let cap = self.max_interval_ms.map_or(MAX_DURATION_MS, |cap| cap.min(MAX_DURATION_MS)) as f64;
        // 0 × ∞ is not a number; `initial_ms` 0 means no delay whatever the factor.
        let grown = self.multiplier.powi(exponent).min(f64::MAX) * self.initial_ms as f64;
        let delay = grown.min(cap);
        (delay - delay * self.jitter * chance(seed, attempt)).round() as u64
    }

    /// Whether a failure with this code, of these exception types (its own and its bases), is retried.
    pub fn applies<'a>(&self, code: &str, types: &(impl Iterator<Item = &'a str> + Clone)) -> bool {
        let names = |entries: &[String]| {
            entries.iter().any(|entry| entry == code || types.clone().any(|name| is_named(entry, name)))
        };
        !names(&self.not_on) && (self.on.is_empty() || names(&self.on))
    }

    /// The first reason why no step could be retried like this.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_attempts == 0 {
            return Err("retry.max_attempts is 0; it counts the first attempt, so give at least 1".into());
        }
        if !(self.multiplier.is_finite() && self.multiplier >= 1.0) {
            return Err(format!("retry.multiplier is {}; give a number of at least 1", self.multiplier));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(format!("retry.jitter is {}; give a number from 0 to 1", self.jitter));
        }
        let durations = [Some(self.initial_ms), self.max_interval_ms, self.give_up_after_ms];
        if durations.into_iter().flatten().any(|duration_ms| duration_ms > MAX_DURATION_MS) {
            return Err(
                "a duration of retry is longer than a hundred years; shorten it, or leave it out".into()
            );
        }
        if self.on.iter().chain(&self.not_on).any(String::is_empty) {
            return Err(
                "retry.on or retry.not_on holds an empty name; give error codes or exception types".into()
            );
        }
        Ok(())
    }
}

/// What a failed branch does to the cohort that a node opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailurePolicy {
    /// The siblings finish, then the failure moves outward.
    #[default]
    Drain,
    /// The siblings are cancelled.
    FailFast,
    /// Up to so many failed branches join without contributing.
    Tolerate(u64),
    /// Join after so many arrivals and cancel the rest.
    First(u64),
}

/// Whether `entry` names the exception type: in full, or by its last part alone.
fn is_named(entry: &str, type_name: &str) -> bool {
    let last = |path: &str, name: &str| path.rsplit('.').next() == Some(name);
    entry == type_name || (!type_name.is_empty() && (last(type_name, entry) || last(entry, type_name)))
}

/// A number in [0, 1) from `seed` and `attempt` (`SplitMix64`).
fn chance(seed: u64, attempt: u32) -> f64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(u64::from(attempt) + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn default_multiplier() -> f64 {
    2.0
}

fn default_jitter() -> f64 {
    0.1
}

/// Reads a float with the standard library: `serde_json` may be off by one unit in the last place,
/// and then the same definition would get two ids.
fn exact_float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    raw.get().parse().map_err(|_| D::Error::custom(format!("{} is not a number", raw.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(changes: &str) -> RetryPolicy {
        serde_json::from_str(&format!(r#"{{"max_attempts":9,"initial_ms":100,"jitter":0.0{changes}}}"#))
            .unwrap()
    }

    #[test]
    fn delays_grow_up_to_the_cap() {
        let delays = |policy: &RetryPolicy| [0, 1, 2, 3].map(|attempt| policy.delay_ms(attempt, 1));
        assert_eq!(delays(&policy("")), [100, 200, 400, 800]);
        assert_eq!(delays(&policy(r#","multiplier":1.5,"max_interval_ms":200"#)), [100, 150, 200, 200]);
        assert_eq!(delays(&policy(r#","max_interval_ms":50"#)), [50; 4]);
    }

    #[test]
    fn no_delay_overflows() {
        assert_eq!(policy("").delay_ms(u32::MAX, 1), MAX_DURATION_MS);
        let at_once = RetryPolicy { initial_ms: 0, ..policy("") };
        assert_eq!(at_once.delay_ms(u32::MAX, 1), 0);
    }

    #[test]
    fn jitter_shortens_and_repeats() {
        let jittered = RetryPolicy { jitter: 0.25, ..policy("") };
        let delays: Vec<u64> = (0..500).map(|seed| jittered.delay_ms(1, seed)).collect();
        assert!(delays.iter().all(|delay| (150..=200).contains(delay)));
        assert!(delays.iter().min() < Some(&155) && delays.iter().max() > Some(&195));
        assert_eq!(jittered.delay_ms(1, 7), jittered.delay_ms(1, 7));
    }

    #[test]
    fn errors_are_chosen_by_code_or_type() {
        assert!(policy("").applies("error", &["ValueError"].into_iter()));
        let chosen = policy(r#","on":["timeout","builtins.OSError","KeyError"],"not_on":["pkg.KeyError"]"#);
        assert!(chosen.applies("timeout", &["X"].into_iter()));
        assert!(chosen.applies("error", &["OSError"].into_iter()));
        assert!(chosen.applies("error", &["json.KeyError"].into_iter()));
        assert!(!chosen.applies("error", &["pkg.KeyError"].into_iter()));
        assert!(!chosen.applies("error", &["pkg.OSError"].into_iter()));
        assert!(!chosen.applies("error", &[""].into_iter()));
        let based = |name| chosen.applies("error", &["app.Own", name].into_iter());
        assert!(based("OSError"));
        assert!(!based("pkg.KeyError") && !based("Exception"));
    }
}
