//! `penstock._core`: conversion only. Every decision is in `penstock-core`.

#![expect(clippy::needless_pass_by_value, reason = "what crosses the boundary is extracted, so owned")]

mod batch;
mod batch_arrays;
mod convert;
mod engine;
mod enter;
mod error;
mod fork;
mod graph;
mod history;
mod ids;
mod report;
mod rewind;
mod row;
mod state;
mod waits;
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
    report::register(module)?;
    rewind::register(module)?;
    state::register(module)?;
    waits::register(module)?;
    worker::register(module)
}
