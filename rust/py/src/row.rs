//! Tuples for Python.

use penstock_core::ids::FlowId;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// A list of tuples.
pub type Rows<'py> = PyResult<Bound<'py, PyList>>;

/// A tuple of any length; those of the bindings end at twelve members.
macro_rules! row {
    ($py:expr; $($value:expr),+ $(,)?) => {
        pyo3::types::PyTuple::new($py, [$($value.into_bound_py_any($py)?),+])?.into_any()
    };
}
pub(crate) use row;

/// A flow's id as bytes.
pub fn id<'py>(py: Python<'py>, id: &FlowId) -> Bound<'py, PyBytes> {
    PyBytes::new(py, id)
}

/// Flows' ids as bytes.
pub fn ids<'py>(py: Python<'py>, ids: &[FlowId]) -> Vec<Bound<'py, PyBytes>> {
    ids.iter().map(|flow| id(py, flow)).collect()
}
