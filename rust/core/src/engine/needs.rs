//! What a step's frame carries of the state, and the rest of it on demand.
//!
//! A task is sent the fields that it can be seen to need. Without this a `for_each` would send its whole source array
//! to each of its branches.

use std::sync::Arc;

use super::{Engine, Ran};
use crate::flow::{TaskError, TaskResult};
use crate::json::{self, Value};
use crate::state::{Field, State};

/// The longest value that a task with the carrier is sent without having named it.
const SMALL_BYTES: usize = 4_096;
/// Bytes of such fields in all.
const SMALL_SUM_BYTES: usize = 64 << 10;

/// What a task is seen to need of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// All of it: the task takes whatever there is, or cannot wait for the rest.
    Everything,
    /// The fields that its parameters name.
    Fields {
        /// The names, each once.
        names: Vec<Field>,
        /// It has the carrier too, so it may look at any other field.
        takes_flow: bool,
    },
}

/// A state as it goes to a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// JSON object; in a partial one a null says that there is no such field.
    pub state: String,
    /// Whether a field was left out.
    pub is_partial: bool,
}

impl Needs {
    /// The fields of those names, whatever the order; one that is named twice counts once.
    pub fn fields(names: impl IntoIterator<Item = String>, takes_flow: bool) -> Self {
        let mut names: Vec<Field> = names.into_iter().map(Arc::from).collect();
        names.sort_unstable();
        names.dedup();
        Self::Fields { names, takes_flow }
    }

    pub(super) fn select(&self, view: &State) -> Sent {
        let Self::Fields { names, takes_flow } = self else {
            return Sent { state: view.to_json(), is_partial: false };
        };
        let present = names.iter().filter(|name| view.get(name).is_some()).count();
        if present == view.len() || (*takes_flow && small_ones(view, names).all(|small| small.is_some())) {
            return Sent { state: view.to_json(), is_partial: false };
        }
        let mut state = String::from("{");
        for name in names {
            write_field(name, view.get(name), &mut state);
        }
        if *takes_flow {
            for (name, value) in small_ones(view, names).flatten() {
                write_field(name, Some(value), &mut state);
            }
        }
        state.push('}');
        Sent { state, is_partial: true }
    }
}

/// The fields that are not named, until they are too many: those too big, and the first too many, are `None`.
fn small_ones<'a>(
    view: &'a State,
    names: &'a [Field],
) -> impl Iterator<Item = Option<(&'a Field, &'a Value)>> {
    let mut room = Some(SMALL_SUM_BYTES);
    let others = view.iter().filter(|(name, _)| names.binary_search(name).is_err());
    others.map_while(move |(name, value)| {
        let left = room?;
        if value.raw().len() > SMALL_BYTES {
            return Some(None);
        }
        room = left.checked_sub(name.len() + value.raw().len());
        Some(room.map(|_| (name, value)))
    })
}

fn write_field(name: &str, value: Option<&Value>, out: &mut String) {
    if out.len() > 1 {
        out.push(',');
    }
    json::escape(name, out);
    out.push(':');
    out.push_str(value.map_or("null", Value::raw));
}

impl Engine {
    /// Sends the whole state of a step to the worker that runs it; nothing when the dispatch is not current any more.
    pub(super) fn send_state(&mut self, to: u32, dispatch: u64, now_ms: i64) {
        let running = self.running.get(&dispatch).filter(|running| running.worker == to);
        let found = running.and_then(|running| {
            let live = self.flows.get(&running.flow)?;
            Some((running.flow, running.step, live.flow.view(live.flow.step(running.step)?).to_json()))
        });
        let Some(worker) = self.workers.get_mut(&to) else { return };
        let state = found.as_ref().map_or("", |(_, _, state)| state);
        let Err(error) = worker.outbox.state(dispatch, state) else { return };
        // Written empty it always fits: the task ends, and so does the step.
        let _ = worker.outbox.state(dispatch, "");
        self.end_dispatch(dispatch);
        if let Some((serial, step, _)) = found {
            let error = TaskError::engine("payload_too_large", error.message);
            self.finished(serial, step, TaskResult::Failed(error), Ran::default(), now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(fields: &[(&str, usize)]) -> State {
        let value = |bytes: usize| Value::string(&"x".repeat(bytes - 2));
        fields.iter().map(|(name, bytes)| ((*name).into(), value(*bytes))).collect()
    }

    fn names_in(sent: &Sent) -> Vec<String> {
        json::object_fields(&sent.state).unwrap().into_iter().map(|(name, _)| name.to_string()).collect()
    }

    fn needs(names: &[&str], takes_flow: bool) -> Needs {
        Needs::fields(names.iter().map(|name| (*name).to_owned()), takes_flow)
    }

    #[test]
    fn a_task_that_needs_everything_is_sent_everything() {
        let view = state(&[("a", 10), ("big", 1 << 20)]);
        let sent = Needs::Everything.select(&view);
        assert_eq!((sent.state, sent.is_partial), (view.to_json(), false));
    }

    #[test]
    fn named_fields_travel_whatever_their_size_and_an_absent_one_as_null() {
        let view = state(&[("a", 10), ("big", 1 << 20), ("other", 10)]);
        let sent = needs(&["big", "gone", "big"], false).select(&view);
        assert_eq!((names_in(&sent), sent.is_partial), (vec!["big".into(), "gone".into()], true));
        assert!(sent.state.ends_with(r#","gone":null}"#));
    }

    #[test]
    fn a_state_of_named_fields_only_is_whole() {
        let sent = needs(&["a", "b"], false).select(&state(&[("a", 3)]));
        assert_eq!((sent.state.as_str(), sent.is_partial), (r#"{"a":"x"}"#, false));
    }

    #[test]
    fn with_the_carrier_small_fields_travel_too() {
        let view = state(&[("a", 5), ("edge", SMALL_BYTES), ("over", SMALL_BYTES + 1), ("z", 5)]);
        let sent = needs(&["z"], true).select(&view);
        assert_eq!((names_in(&sent), sent.is_partial), (vec!["z".into(), "a".into(), "edge".into()], true));
        let sent = needs(&["over"], true).select(&view);
        assert_eq!((sent.state, sent.is_partial), (view.to_json(), false));
    }

    #[test]
    fn small_fields_are_bounded_in_all() {
        let names: Vec<String> = (0..40).map(|number| format!("f{number:02}")).collect();
        let fields: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 4_000)).collect();
        let sent = needs(&[], true).select(&state(&fields));
        assert!(sent.is_partial && sent.state.len() < SMALL_SUM_BYTES + 1_000);
        assert_eq!(names_in(&sent).len(), SMALL_SUM_BYTES / 4_003);
    }
}
