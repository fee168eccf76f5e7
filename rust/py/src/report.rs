//! What a commit led to.

use penstock_core::engine;
use penstock_core::ids::FlowId;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::IntoPyObjectExt;

use crate::row::{id, ids, row, Rows};

/// What has to be done after a commit.
#[pyclass(frozen, module = "penstock._core")]
pub struct Report {
    report: engine::Report,
}

impl Report {
    /// Wraps the core's.
    pub fn new(report: engine::Report) -> Self {
        Self { report }
    }
}

#[pymethods]
impl Report {
    #[getter]
    fn created<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        ids(py, &self.report.created)
    }

    #[getter]
    fn stopped<'py>(&self, py: Python<'py>) -> Rows<'py> {
        let rows = PyList::empty(py);
        for stop in &self.report.stopped {
            rows.append(row![py;
                id(py, &stop.flow), &stop.workflow, id(py, &stop.thread), stop.status, &stop.output, &stop.error,
                &stop.cancel_reason,
            ])?;
        }
        Ok(rows)
    }

    #[getter]
    fn rests<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        ids(py, &self.report.rests)
    }

    #[getter]
    fn mail<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        ids(py, &self.report.mail)
    }

    #[getter]
    fn reload<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        ids(py, &self.report.reload)
    }

    #[getter]
    fn refused<'py>(&self, py: Python<'py>) -> Vec<Reason<'py, '_>> {
        reasons(py, &self.report.refused)
    }

    #[getter]
    fn broken<'py>(&self, py: Python<'py>) -> Vec<Reason<'py, '_>> {
        reasons(py, &self.report.broken)
    }

    #[getter]
    fn notices(&self) -> usize {
        self.report.notices
    }

    #[getter]
    fn released(&self) -> usize {
        self.report.released
    }
}

/// A flow and what is said of it.
type Reason<'py, 'a> = (Bound<'py, PyBytes>, &'a str);

fn reasons<'py, 'a>(py: Python<'py>, reasons: &'a [(FlowId, String)]) -> Vec<Reason<'py, 'a>> {
    reasons.iter().map(|(flow, message)| (id(py, flow), message.as_str())).collect()
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Report>()
}
