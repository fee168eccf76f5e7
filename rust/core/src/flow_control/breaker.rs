//! Whether a resource is there at all: a circuit breaker with probes.

use super::bucket::Bucket;

/// The wait for the first probe; every further one waits twice as long.
const FIRST_PROBE_MS: i64 = 100;
/// The longest wait for a probe.
const MAX_PROBE_MS: i64 = 60_000;
/// For so many seconds after it closed the rate is bounded: twice that before the trip, and every second twice that.
const RAMP_S: i64 = 10;

/// Open after a trip until a probe comes back well.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    state: State,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed(0) }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// It says yes to everything; when that began is 0 when it never tripped.
    Closed(i64),
    Tripped(Trip),
    /// Closed a moment ago: what has piled up may not come all at once.
    Ramping {
        closed_at: i64,
        rate: f64,
        bucket: Bucket,
    },
}

/// A breaker that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Trip {
    /// What the task said.
    pub cause: String,
    /// Since when.
    pub at: i64,
    /// Probes that came back without success.
    pub failed: u32,
    /// When the next probe may go.
    pub next_probe_at: i64,
    /// Steps a second that were started before the trip.
    pub rate: f64,
    /// A probe is in a worker.
    pub is_probing: bool,
}

/// What the breaker says to a step that would start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Go,
    /// It may, as the probe.
    Probe,
    /// Not now; ask again then, or when the probe is back.
    Wait(Option<i64>),
}

impl Breaker {
    /// The resource is gone, said by a step that is no probe. One that has tripped already stays as it is: the steps
    /// that were under way say nothing new.
    pub fn trip(&mut self, cause: &str, rate: f64, now_ms: i64) {
        if matches!(self.state, State::Tripped(_)) {
            return;
        }
        let next_probe_at = now_ms.saturating_add(FIRST_PROBE_MS);
        let (cause, rate) = (cause.to_owned(), rate.max(1.0));
        let trip = Trip { cause, at: now_ms, failed: 0, next_probe_at, rate, is_probing: false };
        self.state = State::Tripped(trip);
    }

    /// The probe is back without success, or will never come back.
    pub fn probe_failed(&mut self, cause: Option<&str>, now_ms: i64) {
        let State::Tripped(trip) = &mut self.state else { return };
        trip.is_probing = false;
        trip.failed = trip.failed.saturating_add(1);
        trip.next_probe_at = now_ms.saturating_add(wait_ms(trip.failed));
        if let Some(cause) = cause {
            cause.clone_into(&mut trip.cause);
        }
    }

    /// The probe has succeeded.
    pub fn close(&mut self, now_ms: i64) {
        if let State::Tripped(trip) = &self.state {
            self.state =
                State::Ramping { closed_at: now_ms, rate: trip.rate, bucket: Bucket::new(0.0, now_ms) };
        }
    }

    /// Whether a step may start now.
    pub fn check(&mut self, now_ms: i64) -> Answer {
        match &mut self.state {
            State::Closed(_) => Answer::Go,
            State::Tripped(trip) if trip.is_probing => Answer::Wait(None),
            State::Tripped(trip) if trip.next_probe_at > now_ms => Answer::Wait(Some(trip.next_probe_at)),
            State::Tripped(_) => Answer::Probe,
            State::Ramping { closed_at, rate, bucket } => {
                let seconds = (now_ms - *closed_at).max(0) / 1_000;
                if seconds >= RAMP_S {
                    self.state = State::Closed(*closed_at);
                    return Answer::Go;
                }
                let allowed = *rate * f64::from(1 << (seconds + 1));
                bucket.fill(allowed, (allowed / 100.0).max(1.0), now_ms);
                if bucket.has_token() {
                    Answer::Go
                } else {
                    Answer::Wait(Some(bucket.next_at(allowed)))
                }
            }
        }
    }

    /// A step starts, as `check` allowed; whether it is the probe.
    pub fn take(&mut self) -> bool {
        match &mut self.state {
            State::Closed(_) => false,
            State::Tripped(trip) => {
                trip.is_probing = true;
                true
            }
            State::Ramping { bucket, .. } => {
                bucket.take();
                false
            }
        }
    }

    /// Whether it says yes to everything.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// The trip that it has not got over.
    pub fn tripped(&self) -> Option<&Trip> {
        match &self.state {
            State::Tripped(trip) => Some(trip),
            _ => None,
        }
    }

    /// When it last tripped or closed; 0 when it never did.
    pub fn changed_at(&self) -> i64 {
        match &self.state {
            State::Closed(at) => *at,
            State::Tripped(trip) => trip.at,
            State::Ramping { closed_at, .. } => *closed_at,
        }
    }

    /// The rate that a later trip's ramp starts from.
    pub fn rate(&self) -> f64 {
        match &self.state {
            State::Closed(_) => 0.0,
            State::Tripped(Trip { rate, .. }) | State::Ramping { rate, .. } => *rate,
        }
    }

    /// Goes on from a trip that another replica or an earlier life has seen; its probes are not ours.
    pub fn restore(&mut self, trip: Trip) {
        self.state = State::Tripped(Trip { is_probing: false, ..trip });
    }

    /// Goes on from a closing that another replica has seen.
    pub fn restore_closed(&mut self, closed_at: i64, rate: f64, now_ms: i64) {
        self.state = State::Ramping { closed_at, rate: rate.max(1.0), bucket: Bucket::new(0.0, now_ms) };
    }
}

/// The wait for the next probe when so many have failed.
fn wait_ms(failed: u32) -> i64 {
    FIRST_PROBE_MS.checked_shl(failed.min(20)).unwrap_or(MAX_PROBE_MS).min(MAX_PROBE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_wait_twice_as_long_each_time_up_to_a_minute() {
        let mut breaker = Breaker::default();
        breaker.trip("down", 10.0, 0);
        let (mut now_ms, mut waits) = (0, Vec::new());
        for _ in 0..12 {
            let Answer::Wait(Some(at)) = breaker.check(now_ms) else { panic!("a probe may not go yet") };
            waits.push(at - now_ms);
            now_ms = at;
            assert_eq!(breaker.check(now_ms), Answer::Probe);
            assert!(breaker.take());
            assert_eq!(breaker.check(now_ms), Answer::Wait(None));
            breaker.probe_failed(None, now_ms);
        }
        assert_eq!(waits[..10], [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200]);
        assert_eq!(waits[10..], [60_000, 60_000]);
    }

    #[test]
    fn in_the_first_second_after_it_closed_twice_the_rate_goes_through() {
        let mut breaker = Breaker::default();
        breaker.trip("down", 40.0, 0);
        assert_eq!((breaker.check(100), breaker.take()), (Answer::Probe, true));
        breaker.close(150);
        let mut counts = [0; 11];
        for now_ms in 150..11_150 {
            while counts[10] < 9 && breaker.check(now_ms) == Answer::Go {
                breaker.take();
                counts[((now_ms - 150) / 1_000) as usize] += 1;
            }
        }
        assert!((79..=80).contains(&counts[0]), "{counts:?}");
        assert!((158..=163).contains(&counts[1]), "{counts:?}");
        assert!(breaker.is_closed());
    }
}
