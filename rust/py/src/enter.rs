//! The gate of every call into the core: releases the interpreter lock and converts the error.

use penstock_core::error::Error;
use pyo3::prelude::*;

use crate::error::to_py;

/// Runs `work` without the interpreter lock and turns a refusal into its exception.
pub fn enter<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    py.detach(work).map_err(to_py)
}
