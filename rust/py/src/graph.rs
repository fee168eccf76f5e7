//! Definitions of graphs: checked, named and drawn.

use penstock_core::engine::{new_state, MAX_EVENT_BYTES};
use penstock_core::error::{Error, Result};
use penstock_core::graph::{render, Graph};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::enter::enter;

/// A checked graph: its id, its canonical definition, the tasks it runs.
type Compiled<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Vec<String>);

#[pyfunction]
fn compile_graph<'py>(py: Python<'py>, definition: &[u8]) -> PyResult<Compiled<'py>> {
    let graph = enter(py, || compile(definition))?;
    let tasks = graph.tasks().map(str::to_owned).collect();
    Ok((PyBytes::new(py, graph.id()), PyBytes::new(py, graph.definition().as_bytes()), tasks))
}

#[pyfunction]
fn graph_mermaid(py: Python<'_>, definition: &[u8], direction: &str) -> PyResult<String> {
    enter(py, || render::mermaid(text(definition)?, direction))
}

#[pyfunction]
fn mermaid_head(py: Python<'_>, direction: &str) -> PyResult<String> {
    enter(py, || render::head(direction))
}

#[pyfunction]
fn mermaid_label(text: &str) -> String {
    render::label(text)
}

#[pyfunction]
fn check_input(py: Python<'_>, definition: &[u8], states: Vec<String>) -> PyResult<()> {
    enter(py, || {
        let graph = compile(definition)?;
        for state in &states {
            new_state(state, graph.reducers(), MAX_EVENT_BYTES)?;
        }
        Ok(())
    })
}

fn compile(definition: &[u8]) -> Result<Graph> {
    Graph::compile(text(definition)?)
}

fn text(definition: &[u8]) -> Result<&str> {
    std::str::from_utf8(definition)
        .map_err(|reason| Error::invalid(format!("the graph definition is not UTF-8: {reason}")))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check_input, module)?)?;
    module.add_function(wrap_pyfunction!(compile_graph, module)?)?;
    module.add_function(wrap_pyfunction!(graph_mermaid, module)?)?;
    module.add_function(wrap_pyfunction!(mermaid_head, module)?)?;
    module.add_function(wrap_pyfunction!(mermaid_label, module)?)
}
