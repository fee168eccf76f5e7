//! Reducers and states for the Python side.

use std::str;

use penstock_core::error::{Error, Result};
use penstock_core::json::Value;
use penstock_core::state::{self, Reducer, State};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};

use crate::enter::enter;

fn text(json: &[u8]) -> Result<&str> {
    str::from_utf8(json).map_err(|error| Error::invalid(format!("the JSON is not UTF-8: {error}")))
}

fn value(json: &[u8]) -> Result<Value> {
    Value::parse(text(json)?)
}

fn reducer(name: &str) -> Result<Reducer> {
    let names = Reducer::ALL.map(Reducer::name).join(", ");
    Reducer::parse(name).ok_or_else(|| Error::invalid(format!("no reducer `{name}`: use one of {names}")))
}

#[pyfunction]
fn reduce<'py>(
    py: Python<'py>,
    reducer: &str,
    base: Option<&[u8]>,
    adds: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let folded = enter(py, || {
        let reducer = self::reducer(reducer)?;
        let base = base.map(value).transpose()?;
        let adds = adds.iter().map(|json| value(json)).collect::<Result<Vec<_>>>()?;
        state::reduce(reducer, base.as_ref(), &adds).map_err(|error| Error::invalid(error.message))
    })?;
    Ok(PyBytes::new(py, folded.raw().as_bytes()))
}

#[pyfunction]
fn check_state(py: Python<'_>, json: &[u8]) -> PyResult<()> {
    enter(py, || State::from_json(text(json)?).map(drop))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("REDUCERS", PyTuple::new(module.py(), Reducer::ALL.map(Reducer::name))?)?;
    module.add_function(wrap_pyfunction!(reduce, module)?)?;
    module.add_function(wrap_pyfunction!(check_state, module)?)
}
