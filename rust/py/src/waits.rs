//! Rows about what waits, and for what.

use penstock_core::engine::Waiting;
use penstock_core::flow_control::{merge, ResourceRow};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::enter::enter;
use crate::row::id;

/// flow, step, node, resource, reason, detail, until
pub type WaitingTuple<'py> = (Bound<'py, PyBytes>, u64, String, String, &'static str, String, Option<i64>);
/// name, ready, running, in the last second, the valve's rate, the breaker's cause, its next probe
pub type ResourceTuple = (String, usize, u32, u32, Option<f64>, Option<String>, Option<i64>);

/// A step that waits.
pub fn waiting_row(py: Python<'_>, found: Waiting) -> WaitingTuple<'_> {
    let Waiting { flow, step, node, resource, reason, detail, until } = found;
    (id(py, &flow), step, node, resource, reason, detail, until)
}

/// What a resource does.
pub fn resource_row((row, ready): (ResourceRow, usize)) -> ResourceTuple {
    let (cause, probe) = row.trip.map(|trip| (trip.cause, trip.next_probe_at)).unzip();
    (row.name.to_string(), ready, row.running, row.per_second, row.valve, cause, probe)
}

#[pyfunction]
fn merge_resource_states(py: Python<'_>, mine: &str, other: &str) -> PyResult<String> {
    enter(py, || merge(mine, other))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(merge_resource_states, module)?)
}
