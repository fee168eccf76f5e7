//! A batch as the parameters of `PostgreSQL`'s statement.

use penstock_core::batch::{arrays, Batch};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bits of `arrays::KINDS`, columns, and the last event.
pub type Parameters<'py> = (u32, Vec<Bound<'py, PyBytes>>, Option<(Bound<'py, PyBytes>, u64)>);

/// Which groups of columns there are, the columns, and flow and ord of the last event.
pub fn parameters<'py>(py: Python<'py>, batch: &Batch) -> Parameters<'py> {
    let arrays = arrays::encode(batch);
    let columns = arrays.columns.iter().map(|column| PyBytes::new(py, column)).collect();
    let newest = arrays.newest.map(|(flow, ord)| (PyBytes::new(py, &flow), ord));
    (arrays.kinds, columns, newest)
}
