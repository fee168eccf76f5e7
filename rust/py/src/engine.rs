//! (skeleton: filled by its owner)

use pyo3::prelude::*;

/// Adds this file's names to the module.
#[expect(clippy::unnecessary_wraps, reason = "all register functions have one shape")]
pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
