//! Going back, as far as it needs no owner: forks, threads, and whether an operation would be obeyed.

use std::sync::Arc;

use penstock_core::engine::{input_state, next_state, try_rewind};
use penstock_core::error::Result;
use penstock_core::flow::rewind::{self, Origin};
use penstock_core::flow::{Event, EventBody};
use penstock_core::graph::Graph;
use penstock_core::ids::{new_id, FlowId};
use penstock_core::state::Changes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::enter::enter;
use crate::history::Row;
use crate::ids::{id_of, random};
use crate::row::ids;

/// A flow as the database has it: definition, key, input, `created_at`, journal.
#[derive(FromPyObject)]
struct Recorded(String, String, String, i64, Vec<Row>);

impl Recorded {
    fn read(self) -> Result<(Origin, Vec<Event>)> {
        let Self(definition, key, input, created_at, rows) = self;
        let graph = Arc::new(Graph::compile(&definition)?);
        let input = input_state(&input, graph.reducers())?;
        let events = rows.iter().map(|(ord, step, _, name, attempt, .., at, body)| {
            let (ord, step, attempt, at) = (*ord, *step, *attempt, *at);
            Ok(Event { ord, step, attempt, at, body: EventBody::from_json(name, body)? })
        });
        let events = events.collect::<Result<_>>()?;
        Ok((Origin { graph, key: key.into(), input, created_at }, events))
    }
}

/// The first event of a fork of `flow` that runs again from `step`, or where steps wait for other children.
#[pyfunction]
#[pyo3(signature = (flow, *, step, children, overrides, now_ms))]
fn fork_flow(
    py: Python<'_>,
    flow: Recorded,
    step: Option<u64>,
    children: Vec<(u64, Vec<u8>, Vec<u8>)>,
    overrides: &str,
    now_ms: i64,
) -> PyResult<String> {
    let children = children
        .iter()
        .map(|(step, old, new)| Ok((*step, id_of(old)?, id_of(new)?)))
        .collect::<PyResult<Vec<(u64, FlowId, FlowId)>>>()?;
    enter(py, || {
        let (origin, events) = flow.read()?;
        let overrides = Changes::from_overrides(overrides)?;
        let mut make = || new_id(now_ms, random());
        rewind::fork(&origin, &events, step, &children, &overrides, now_ms, &mut make)
    })
}

/// Refuses what the flow's owner would refuse; gives how many steps would run again.
#[pyfunction]
#[pyo3(signature = (flow, *, body, now_ms))]
fn check_rewind(py: Python<'_>, flow: Recorded, body: &str, now_ms: i64) -> PyResult<usize> {
    enter(py, || {
        let (origin, events) = flow.read()?;
        try_rewind(&origin, &events, body, now_ms)
    })
}

/// A step and children of it.
type Failed<'py> = (u64, Vec<Bound<'py, PyBytes>>);

/// The steps whose failure stands, with the children of each that had failed.
#[pyfunction]
fn failed_steps(py: Python<'_>, flow: Recorded) -> PyResult<Vec<Failed<'_>>> {
    let failed = enter(py, || {
        let (origin, events) = flow.read()?;
        rewind::failed_steps(&origin, &events)
    })?;
    Ok(failed.into_iter().map(|failure| (failure.step, ids(py, &failure.children))).collect())
}

/// The state of a thread's next turn.
#[pyfunction]
fn continue_state(py: Python<'_>, definition: &str, state: &str, more: &str) -> PyResult<String> {
    enter(py, || next_state(state, more, Graph::compile(definition)?.reducers()))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fork_flow, module)?)?;
    module.add_function(wrap_pyfunction!(check_rewind, module)?)?;
    module.add_function(wrap_pyfunction!(failed_steps, module)?)?;
    module.add_function(wrap_pyfunction!(continue_state, module)?)
}
