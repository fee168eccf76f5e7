//! Reading a flow from its journal, in any process.

use penstock_core::engine::input_state;
use penstock_core::error::{Error, Result};
use penstock_core::flow::history::{Line, Reader};
use penstock_core::flow::{Event, EventBody};
use penstock_core::graph::Graph;
use pyo3::prelude::*;

use crate::convert::first;
use crate::enter::enter;

pub type Row = (u64, u64, String, String, u32, i64, Option<i64>, Option<i64>, Option<i64>, i64, String);

/// A flow and its journal, to be replayed.
#[derive(FromPyObject)]
struct Told {
    #[pyo3(item)]
    definition: String,
    #[pyo3(item)]
    key: String,
    #[pyo3(item)]
    input: String,
    #[pyo3(item)]
    created_at: i64,
    #[pyo3(item)]
    rows: Vec<Row>,
    #[pyo3(item)]
    running: Vec<u64>,
}

impl Told {
    fn read(self, step: Option<u64>) -> Result<Reader> {
        let graph = std::sync::Arc::new(Graph::compile(&self.definition)?);
        let input = input_state(&self.input, graph.reducers())?;
        let mut reader = Reader::new(graph, self.key.into(), input, self.created_at, step);
        for (ord, step, _, name, attempt, replica, worker, queued, ran, at, body) in self.rows {
            let body = EventBody::from_json(&name, &body)?;
            let event = Event { ord, step, attempt, at, body };
            let (queued_ms, ran_ms) = (queued.unwrap_or(0), ran.unwrap_or(0));
            reader.read(&Line { event, replica, worker, queued_ms, ran_ms })?;
        }
        Ok(reader)
    }
}

#[pyfunction]
#[pyo3(signature = (flow, now_ms, step = None))]
fn read_flow(py: Python<'_>, flow: Told, now_ms: i64, step: Option<u64>) -> PyResult<String> {
    let running = flow.running.clone();
    enter(py, || Ok::<_, Error>(flow.read(step)?.to_json(now_ms, &running)))
}

#[pyfunction]
fn count_steps(py: Python<'_>, flow: Told, now_ms: i64) -> PyResult<String> {
    let running = flow.running.clone();
    enter(py, || Ok::<_, Error>(flow.read(None)?.to_counts(now_ms, &running)))
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
    module.add_function(wrap_pyfunction!(count_steps, module)?)?;
    module.add_function(wrap_pyfunction!(read_flow, module)?)
}
