//! Reading a flow from its journal, in any process.

use penstock_core::engine::input_state;
use penstock_core::error::Error;
use penstock_core::flow::history::{Line, Reader};
use penstock_core::flow::{Event, EventBody};
use penstock_core::graph::Graph;
use pyo3::prelude::*;

use crate::convert::first;
use crate::enter::enter;

pub type Row = (u64, u64, String, String, u32, i64, Option<i64>, Option<i64>, Option<i64>, i64, String);

/// Replays a whole journal and gives the flow with its steps as JSON.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "Python names them at the call")]
#[pyo3(signature = (definition, *, key, input, created_at, rows, now_ms, step = None))]
fn read_flow(
    py: Python<'_>,
    definition: &str,
    key: &str,
    input: &str,
    created_at: i64,
    rows: Vec<Row>,
    now_ms: i64,
    step: Option<u64>,
) -> PyResult<String> {
    enter(py, || {
        let graph = std::sync::Arc::new(Graph::compile(definition)?);
        let input = input_state(input, graph.reducers())?;
        let mut reader = Reader::new(graph, key.into(), input, created_at, step);
        for (ord, step, _, name, attempt, replica, worker, queued, ran, at, body) in rows {
            let body = EventBody::from_json(&name, &body)?;
            let event = Event { ord, step, attempt, at, body };
            let (queued_ms, ran_ms) = (queued.unwrap_or(0), ran.unwrap_or(0));
            reader.read(&Line { event, replica, worker, queued_ms, ran_ms })?;
        }
        Ok::<_, Error>(reader.to_json(now_ms))
    })
}

/// The nodes that events of a journal led to, in order, some more than once.
#[pyfunction]
fn nodes_reached(py: Python<'_>, events: Vec<(String, String)>) -> PyResult<Vec<String>> {
    enter(py, || {
        let mut nodes = Vec::new();
        for (name, body) in events {
            nodes.extend(EventBody::from_json(&name, &body)?.nodes_reached()?);
        }
        Ok::<_, Error>(nodes)
    })
}

/// The bodies of the `control` events that a new flow begins with.
#[pyfunction]
#[pyo3(signature = (*, hold, start_at))]
fn first_events(hold: bool, start_at: Option<i64>) -> Vec<String> {
    let bodies = first(hold, start_at).into_iter().map(EventBody::Control);
    bodies.map(|body| body.to_json("")).collect()
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(first_events, module)?)?;
    module.add_function(wrap_pyfunction!(nodes_reached, module)?)?;
    module.add_function(wrap_pyfunction!(read_flow, module)?)
}
