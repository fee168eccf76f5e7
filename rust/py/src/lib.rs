//! `penstock._core`: conversion only. Every decision is in `penstock-core`.

mod batch;
mod batch_arrays;
mod convert;
mod engine;
mod enter;
mod error;
mod graph;
mod history;
mod ids;
mod state;
mod worker;

use pyo3::prelude::*;

/// The boundary between Penstock's Python and its Rust core.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    batch::register(module)?;
    engine::register(module)?;
    graph::register(module)?;
    history::register(module)?;
    ids::register(module)?;
    state::register(module)?;
    worker::register(module)
}
