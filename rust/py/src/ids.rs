//! Keys of flows and steps.

use penstock_core::ids;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::to_py;

/// Sixteen bytes out of Python.
pub fn id_of(bytes: &[u8]) -> PyResult<ids::FlowId> {
    bytes.try_into().map_err(|_| pyo3::exceptions::PyValueError::new_err("an id has 16 bytes"))
}

/// Sixteen bytes of the system's random source.
pub fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without it keys could be guessed: better no process than that.
    getrandom::fill(&mut bytes).unwrap_or_else(|_| std::process::abort());
    bytes
}

static SEQUENCE: ids::Sequence = ids::Sequence::new();

#[pyfunction]
fn new_flow_id(py: Python<'_>, now_ms: i64) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &SEQUENCE.next(now_ms, random()))
}

#[pyfunction]
fn flow_key(shard: u32, flow_id: &[u8]) -> PyResult<String> {
    Ok(ids::flow_key(shard, &id_of(flow_id)?))
}

#[pyfunction]
fn parse_flow_key<'py>(py: Python<'py>, key: &str) -> PyResult<(u32, Bound<'py, PyBytes>)> {
    let (shard, id) = ids::parse_flow_key(key).map_err(to_py)?;
    Ok((shard, PyBytes::new(py, &id)))
}

#[pyfunction]
fn parse_step_key<'py>(py: Python<'py>, key: &str) -> PyResult<(u32, Bound<'py, PyBytes>, u64)> {
    let (shard, id, step) = ids::parse_step_key(key).map_err(to_py)?;
    Ok((shard, PyBytes::new(py, &id), step))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(new_flow_id, module)?)?;
    module.add_function(wrap_pyfunction!(flow_key, module)?)?;
    module.add_function(wrap_pyfunction!(parse_flow_key, module)?)?;
    module.add_function(wrap_pyfunction!(parse_step_key, module)?)
}
