//! What replicas tell each other about a resource, and what survives a restart: a row of JSON a resource.

use serde::{Deserialize, Serialize};

use super::breaker::Trip;
use super::{FlowControl, Resource, Valve};
use crate::error::{Error, Result};

/// The state of a resource as it is stored. Instants are the shard's clock's.
#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
#[serde(default)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    valve: Option<StoredValve>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<StoredBreaker>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct StoredValve {
    w_cong: f64,
    t_cong: i64,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(tag = "state", rename_all = "lowercase")]
enum StoredBreaker {
    Tripped { at: i64, cause: String, failed: u32, next_probe_at: i64, rate: f64 },
    Closed { at: i64, rate: f64 },
}

impl StoredBreaker {
    /// What decides between two: the later one, and of one trip the one that has seen more probes fail.
    fn rank(&self) -> (i64, u32) {
        match self {
            Self::Tripped { at, failed, .. } => (*at, *failed),
            Self::Closed { at, .. } => (*at, 0),
        }
    }
}

impl FlowControl {
    /// The resources that have changed since the last call, by name, each with its state as JSON.
    pub fn take_changes(&mut self) -> Vec<(String, String)> {
        let mut changes = Vec::new();
        for resource in self.resources.iter_mut().filter(|resource| resource.is_changed) {
            resource.is_changed = false;
            changes.push((resource.name.to_string(), resource.export()));
        }
        changes
    }

    /// Whether `take_changes` would give something.
    pub fn has_changes(&self) -> bool {
        self.resources.iter().any(|resource| resource.is_changed)
    }

    /// Takes a stored state in, as far as it is later than what is known, or as late and slower.
    ///
    /// # Errors
    /// `corrupt` when it is no such state.
    pub fn import(&mut self, resource: u32, state: &str, now_ms: i64) -> Result<()> {
        let stored = read(state)?;
        let Some(found) = self.resources.get_mut(resource as usize) else { return Ok(()) };
        found.merge(stored, now_ms);
        Ok(())
    }
}

/// Merges two stored states of a resource: what a writer does with the row that it finds.
///
/// # Errors
/// `corrupt` when one is no such state.
pub fn merge(mine: &str, other: &str) -> Result<String> {
    let (mut mine, other) = (read(mine)?, read(other)?);
    let is_better = |a: &StoredValve, b: &StoredValve| {
        a.t_cong > b.t_cong || (a.t_cong == b.t_cong && a.w_cong < b.w_cong)
    };
    if let Some(valve) = other.valve {
        if mine.valve.as_ref().is_none_or(|known| is_better(&valve, known)) {
            mine.valve = Some(valve);
        }
    }
    if let Some(breaker) = other.breaker {
        if mine.breaker.as_ref().is_none_or(|known| breaker.rank() > known.rank()) {
            mine.breaker = Some(breaker);
        }
    }
    Ok(write(&mine))
}

fn read(state: &str) -> Result<Stored> {
    serde_json::from_str(state)
        .map_err(|error| Error::corrupt(format!("a resource's state cannot be read: {error}")))
}

fn write(stored: &Stored) -> String {
    serde_json::to_string(stored).unwrap_or_else(|_| "{}".to_owned())
}

impl Resource {
    fn export(&self) -> String {
        let valve = self.valve.as_ref().map(Valve::congestion);
        let breaker = match self.breaker.tripped().cloned() {
            Some(Trip { cause, at, failed, next_probe_at, rate, .. }) => {
                Some(StoredBreaker::Tripped { at, cause, failed, next_probe_at, rate })
            }
            None if self.breaker.changed_at() == 0 => None,
            None => Some(StoredBreaker::Closed { at: self.breaker.changed_at(), rate: self.breaker.rate() }),
        };
        let valve = valve.map(|(w_cong, t_cong)| StoredValve { w_cong, t_cong });
        write(&Stored { valve, breaker })
    }

    fn merge(&mut self, stored: Stored, now_ms: i64) {
        if let Some(StoredValve { w_cong, t_cong }) = stored.valve {
            match &mut self.valve {
                Some(valve) => {
                    valve.merge(w_cong, t_cong);
                }
                None => self.valve = Some(Valve::at(w_cong, t_cong, now_ms)),
            }
            self.is_controlled = true;
        }
        let known = (self.breaker.changed_at(), self.breaker.tripped().map_or(0, |trip| trip.failed));
        let Some(breaker) = stored.breaker.filter(|breaker| breaker.rank() > known) else { return };
        self.is_controlled = true;
        match breaker {
            StoredBreaker::Tripped { at, cause, failed, next_probe_at, rate } => {
                let trip = Trip { cause, at, failed, next_probe_at, rate, is_probing: false };
                self.breaker.restore(trip);
            }
            StoredBreaker::Closed { at, rate } => self.breaker.restore_closed(at, rate, now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ended, Shut, WHOLE};
    use super::*;

    fn control() -> FlowControl {
        let mut control = FlowControl::default();
        control.add("mail".into());
        control
    }

    #[test]
    fn a_trip_survives_a_restart_with_its_next_probe() {
        let mut control = control();
        control.started(0, WHOLE, 1_000);
        control.ended(0, WHOLE, false, Ended::Unavailable("refused"), 1_000);
        let changes = control.take_changes();
        assert_eq!(changes.len(), 1);
        assert!(control.take_changes().is_empty());
        let mut later = super::super::FlowControl::default();
        later.add("mail".into());
        later.import(0, &changes[0].1, 1_050).unwrap();
        let no = later.check(0, WHOLE, 1_050).unwrap_err();
        assert_eq!((no.shut, no.until), (Shut::Breaker, Some(1_100)));
        assert_eq!(later.tripped(0).map(|trip| trip.cause.as_str()), Some("refused"));
    }

    #[test]
    fn of_two_states_each_part_is_the_later_ones() {
        let old = r#"{"valve":{"w_cong":9.0,"t_cong":5},"breaker":{"state":"closed","at":90,"rate":3.0}}"#;
        let new = r#"{"valve":{"w_cong":8.0,"t_cong":6},"breaker":{"state":"tripped","at":80,"cause":"x","failed":0,"next_probe_at":180,"rate":3.0}}"#;
        let merged = merge(old, new).unwrap();
        assert_eq!(merged, merge(new, old).unwrap());
        assert!(merged.contains("8.0") && merged.contains("closed"), "{merged}");
        assert!(merge("[]", "{}").is_err() || merge("1", "{}").is_err());
    }

    #[test]
    fn a_closing_seen_elsewhere_closes_it_here() {
        let mut control = control();
        control.ended(0, WHOLE, false, Ended::Unavailable("refused"), 1_000);
        control.import(0, r#"{"breaker":{"state":"closed","at":1_500,"rate":2.0}}"#, 1_600).unwrap_err();
        control.import(0, r#"{"breaker":{"state":"closed","at":1500,"rate":2.0}}"#, 1_600).unwrap();
        assert!(control.tripped(0).is_none());
    }
}
