//! What a step's frame carries of the state, and the rest of it on demand.
//!
//! A task is sent the fields that it can be seen to need. Without this a `for_each` would send its whole source array
//! to each of its branches.

use std::sync::Arc;

use super::{Engine, Ran};
use crate::error::{Error, Result};
use crate::flow::outcome::text;
use crate::flow::{TaskError, TaskResult};
use crate::json::{self, Value};
use crate::state::{Field, State};

/// The longest value that a task with the carrier is sent without having named it.
const SMALL_BYTES: usize = 4_096;
/// Bytes of such fields in all.
const SMALL_SUM_BYTES: usize = 64 << 10;
/// Bytes of the names of what is left out; past it they are not told.
const NAMES_BYTES: usize = 4_096;
/// What stands for those.
const TOO_MANY: &str = "*";

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
    /// JSON object; where fields were left out a null says that there is no such field.
    pub state: String,
    /// The fields that were left out, as the wire has it.
    pub left_out: String,
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
        let Self::Fields { names, takes_flow } = self else { return Sent::whole(view) };
        let present = names.iter().filter(|name| view.get(name).is_some()).count();
        if present == view.len() {
            return Sent::whole(view);
        }
        let (small, rest) = sort_out(view, names, *takes_flow);
        if rest.is_empty() {
            return Sent::whole(view);
        }
        let mut state = String::from("{");
        for name in names {
            write_field(name, view.get(name), &mut state);
        }
        for (name, value) in small {
            write_field(name, Some(value), &mut state);
        }
        state.push('}');
        Sent { state, left_out: rest.close() }
    }
}

/// Of the fields that are not named those that travel all the same, while there is room for them, and the others.
fn sort_out<'a>(
    view: &'a State,
    names: &[Field],
    takes_flow: bool,
) -> (Vec<(&'a Field, &'a Value)>, NameList) {
    let (mut small, mut rest) = (Vec::new(), NameList::default());
    let mut room = if takes_flow { SMALL_SUM_BYTES } else { 0 };
    for (name, value) in view.iter().filter(|(name, _)| names.binary_search(name).is_err()) {
        let bytes = name.len() + value.raw().len();
        if value.raw().len() <= SMALL_BYTES && bytes <= room {
            room -= bytes;
            small.push((name, value));
            continue;
        }
        if value.raw().len() <= SMALL_BYTES {
            room = 0;
        }
        if !rest.push(name) && room == 0 {
            break;
        }
    }
    (small, rest)
}

impl Sent {
    fn whole(view: &State) -> Self {
        Self { state: view.to_json(), left_out: String::new() }
    }
}

/// The names of what was left out, while they are few.
#[derive(Default)]
struct NameList {
    text: String,
    is_full: bool,
}

impl NameList {
    /// Adds a name; false when there is no room for more.
    fn push(&mut self, name: &str) -> bool {
        self.is_full |= self.text.len() + name.len() > NAMES_BYTES;
        if !self.is_full {
            self.text.push(if self.text.is_empty() { '[' } else { ',' });
            json::escape(name, &mut self.text);
        }
        !self.is_full
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && !self.is_full
    }

    fn close(mut self) -> String {
        if self.is_full {
            return TOO_MANY.into();
        }
        if !self.text.is_empty() {
            self.text.push(']');
        }
        self.text
    }
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
    /// What a task needs of which nobody has said it: with every name a task, what it takes a look at.
    pub(super) fn unsaid_needs(&self) -> Needs {
        if self.default_kind.is_none() {
            return Needs::Everything;
        }
        Needs::Fields { names: Vec::new(), takes_flow: true }
    }

    /// Sends fields of a step's state to the worker that runs it, those of a JSON list of names or all; nothing when the
    /// dispatch is not current any more.
    ///
    /// # Errors
    /// `corrupt` when the names are no list.
    pub(super) fn send_state(&mut self, to: u32, dispatch: u64, names: &str, now_ms: i64) -> Result<()> {
        let asked = if names.is_empty() { None } else { Some(names_of(names)?) };
        let running = self.running.get(&dispatch).filter(|running| running.worker == to);
        let found = running.and_then(|running| {
            let live = self.flows.get(&running.flow)?;
            let view = live.flow.view(live.flow.step(running.step)?);
            let state = asked.map_or_else(|| view.to_json(), |names| fields_of(&view, &names));
            Some((running.flow, running.step, state))
        });
        let Some(worker) = self.workers.get_mut(&to) else { return Ok(()) };
        let state = found.as_ref().map_or("", |(_, _, state)| state);
        let Err(error) = worker.outbox.state(dispatch, state) else { return Ok(()) };
        // Written empty it always fits: the task ends, and so does the step.
        let _ = worker.outbox.state(dispatch, "");
        self.end_dispatch(dispatch);
        if let Some((serial, step, _)) = found {
            let error = TaskError::engine("payload_too_large", error.message);
            self.finished(serial, step, TaskResult::Failed(error), Ran::default(), now_ms);
        }
        Ok(())
    }
}

fn names_of(list: &str) -> Result<Vec<String>> {
    let names = Value::parse(list)?.elements();
    let names = names.ok_or_else(|| Error::corrupt("a worker asked for fields by what is no list"))?;
    Ok(names.iter().map(text).collect())
}

fn fields_of(view: &State, names: &[String]) -> String {
    let mut out = String::from("{");
    for name in names {
        if let Some(value) = view.get(name) {
            write_field(name, Some(value), &mut out);
        }
    }
    out.push('}');
    out
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
        assert_eq!((sent.state, &*sent.left_out), (view.to_json(), ""));
    }

    #[test]
    fn named_fields_travel_whatever_their_size_and_an_absent_one_as_null() {
        let view = state(&[("a", 10), ("big", 1 << 20), ("other", 10)]);
        let sent = needs(&["big", "gone", "big"], false).select(&view);
        assert_eq!(
            (names_in(&sent), &*sent.left_out),
            (vec!["big".into(), "gone".into()], r#"["a","other"]"#)
        );
        assert!(sent.state.ends_with(r#","gone":null}"#));
    }

    #[test]
    fn a_state_of_named_fields_only_is_whole() {
        let sent = needs(&["a", "b"], false).select(&state(&[("a", 3)]));
        assert_eq!((&*sent.state, &*sent.left_out), (r#"{"a":"x"}"#, ""));
    }

    #[test]
    fn with_the_carrier_small_fields_travel_too() {
        let view = state(&[("a", 5), ("edge", SMALL_BYTES), ("over", SMALL_BYTES + 1), ("z", 5)]);
        let sent = needs(&["z"], true).select(&view);
        assert_eq!(names_in(&sent), ["z", "a", "edge"]);
        assert_eq!(sent.left_out, r#"["over"]"#);
        let sent = needs(&["over"], true).select(&view);
        assert_eq!((sent.state, &*sent.left_out), (view.to_json(), ""));
    }

    #[test]
    fn small_fields_are_bounded_in_all() {
        let names: Vec<String> = (0..40).map(|number| format!("f{number:02}")).collect();
        let fields: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 4_000)).collect();
        let sent = needs(&[], true).select(&state(&fields));
        assert!(sent.state.len() < SMALL_SUM_BYTES + 1_000);
        let (carried, left) = (names_in(&sent), names_of(&sent.left_out).unwrap());
        assert_eq!((carried.len(), carried.len() + left.len()), (SMALL_SUM_BYTES / 4_003, 40));
    }

    #[test]
    fn the_names_of_what_is_left_out_are_told_while_they_are_few() {
        let names: Vec<String> = (0..1_000).map(|number| format!("field{number:04}")).collect();
        let fields: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 10)).collect();
        assert_eq!(needs(&[], false).select(&state(&fields)).left_out, TOO_MANY);
        assert_eq!(names_of(&needs(&[], false).select(&state(&fields[..99])).left_out).unwrap(), names[..99]);
    }
}
