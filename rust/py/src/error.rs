//! The core's refusals as the package's exceptions. The classes live in `penstock/errors.py`.

use penstock_core::error::{Code, Error};
use pyo3::import_exception;
use pyo3::PyErr;

import_exception!(penstock.errors, Conflict);
import_exception!(penstock.errors, CorruptJournal);
import_exception!(penstock.errors, Invalid);
import_exception!(penstock.errors, NotFound);

/// The exception that says what the core said.
pub fn to_py(error: Error) -> PyErr {
    match error.code {
        Code::Invalid => Invalid::new_err(error.message),
        Code::NotFound => NotFound::new_err(error.message),
        Code::Conflict => Conflict::new_err(error.message),
        Code::Corrupt => CorruptJournal::new_err(error.message),
    }
}
