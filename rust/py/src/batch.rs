//! A batch as rows for `executemany`.

use std::sync::{Mutex, PoisonError};

use penstock_core::batch::{self, Item, Op};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::IntoPyObjectExt;
use rustc_hash::FxHashSet;

use crate::row::{id, row, Rows};

/// Version of the journal that this build writes.
const JOURNAL_FORMAT: i64 = 1;

/// What one commit carries. Used up by `Core.committed`.
#[pyclass(frozen, module = "penstock._core")]
pub struct Batch {
    batch: Mutex<Option<batch::Batch>>,
    replica: i64,
}

impl Batch {
    /// A batch that no one has answered.
    pub fn new(batch: batch::Batch, replica: i64) -> Self {
        Self { batch: Mutex::new(Some(batch)), replica }
    }

    /// Takes the rows out, when the database has answered.
    pub fn take(&self) -> PyResult<batch::Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(used_up)
    }

    fn with<T>(&self, read: impl FnOnce(&batch::Batch) -> PyResult<T>) -> PyResult<T> {
        read(self.batch.lock().unwrap_or_else(PoisonError::into_inner).as_ref().ok_or_else(used_up)?)
    }

    fn rows<'py>(
        &self,
        py: Python<'py>,
        make: impl Fn(&Item) -> PyResult<Option<Bound<'py, PyAny>>>,
    ) -> Rows<'py> {
        self.with(|batch| {
            let rows = PyList::empty(py);
            for item in &batch.items {
                if let Some(row) = make(item)? {
                    rows.append(row)?;
                }
            }
            Ok(rows)
        })
    }
}

fn used_up() -> PyErr {
    PyValueError::new_err("the batch was answered already")
}

#[pymethods]
impl Batch {
    #[getter]
    fn number(&self) -> PyResult<u64> {
        self.with(|batch| Ok(batch.number))
    }

    #[getter]
    fn events(&self) -> PyResult<usize> {
        self.with(|batch| Ok(batch.events()))
    }

    #[getter]
    fn units(&self) -> PyResult<u32> {
        self.with(|batch| Ok(batch.units))
    }

    #[getter]
    fn flows<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Create(create) = &item.op else { return Ok(None) };
            let flow = &create.flow;
            let (parent, step) = flow.parent.unzip();
            Ok(Some(row![py;
                id(py, &flow.id), id(py, &flow.root), parent.map(|parent| id(py, &parent)), step, &flow.workflow,
                PyBytes::new(py, &flow.graph), create.status, flow.priority, &flow.fairness_key, flow.fairness_weight,
                flow.time_budget_ms, id(py, &flow.thread), flow.turn, &flow.tags, &flow.input, &flow.baggage,
                &flow.trace_parent, &flow.notify, flow.delete_on_completion, &create.position, flow.created_at,
                None::<&[u8]>, None::<u64>,
            ]))
        })
    }

    #[getter]
    fn live<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Create(create) = &item.op else { return Ok(None) };
            let flow = &create.flow;
            Ok(Some(row![py;
                id(py, &flow.id), create.owner, create.claims, 0, flow.priority, &flow.fairness_key,
                flow.fairness_weight, create.ready_at, create.wake_at, 0, None::<i64>, PyBytes::new(py, &flow.graph),
                JOURNAL_FORMAT,
            ]))
        })
    }

    #[getter]
    fn journal<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Journal(event) = &item.op else { return Ok(None) };
            Ok(Some(row![py;
                id(py, &item.flow), event.ord, event.step, &event.node, event.event, event.attempt, self.replica,
                event.worker, event.queued_ms, event.ran_ms, event.at, &event.body,
            ]))
        })
    }

    #[getter]
    fn stops<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Stop(stop) = &item.op else { return Ok(None) };
            Ok(Some(row![py;
                stop.status, &stop.output, &stop.error, &stop.cancel_reason, "[]", stop.at, id(py, &item.flow),
            ]))
        })
    }

    #[getter]
    fn live_deletes<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let (Op::Stop(_) | Op::Lapse) = &item.op else { return Ok(None) };
            Ok(Some(row![py; id(py, &item.flow), self.replica, item.claims, item.seen]))
        })
    }

    #[getter]
    fn releases<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Release { wake_at } = &item.op else { return Ok(None) };
            Ok(Some(
                row![py; None::<i64>, *wake_at, id(py, &item.flow), self.replica, item.claims, item.seen],
            ))
        })
    }

    #[getter]
    fn calmed<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Calm = &item.op else { return Ok(None) };
            Ok(Some(row![py; id(py, &item.flow), self.replica, item.claims]))
        })
    }

    #[getter]
    fn statuses<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Status { status, position, at } = &item.op else { return Ok(None) };
            Ok(Some(row![py; *status, position, *at, id(py, &item.flow)]))
        })
    }

    #[getter]
    fn messages<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Message { kind, body, at } = &item.op else { return Ok(None) };
            Ok(Some(row![py; id(py, &item.flow), *kind, body, None::<&str>, *at]))
        })
    }

    #[getter]
    fn verdicts<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Verdict { seq, verdict, at } = &item.op else { return Ok(None) };
            Ok(Some(row![py; *at, verdict, id(py, &item.flow), *seq]))
        })
    }

    #[getter]
    fn interrupts<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::OpenInterrupt(open) = &item.op else { return Ok(None) };
            Ok(Some(row![py;
                id(py, &open.id), id(py, &item.flow), id(py, &open.root), open.step, &open.node, open.kind,
                &open.key, &open.payload, open.created_at, open.expires_at,
            ]))
        })
    }

    #[getter]
    fn interrupt_deletes<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::CloseInterrupt { id: interrupt } = &item.op else { return Ok(None) };
            Ok(Some(row![py; id(py, interrupt)]))
        })
    }

    #[getter]
    fn outbox<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let Op::Outbox { topic, ord, body } = &item.op else { return Ok(None) };
            Ok(Some(row![py; *topic, id(py, &item.flow), *ord, body]))
        })
    }

    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<crate::batch_arrays::Parameters<'py>> {
        self.with(|batch| Ok(crate::batch_arrays::parameters(py, batch)))
    }

    fn guards<'py>(&self, py: Python<'py>) -> Rows<'py> {
        self.rows(py, |item| {
            let mail = match &item.op {
                Op::Stop(_) | Op::Lapse | Op::Release { .. } => Some(item.seen),
                Op::Calm => None,
                _ => return Ok(None),
            };
            Ok(Some(row![py; item.unit, id(py, &item.flow), self.replica, item.claims, mail]))
        })
    }

    fn without(&self, units: FxHashSet<u32>) -> PyResult<Self> {
        self.with(|batch| Ok(Self::new(batch.clone().partition(&units).0, self.replica)))
    }

    fn split(&self) -> PyResult<Option<(Self, Self)>> {
        self.with(|batch| {
            let halves = batch.split();
            Ok(halves.map(|(a, b)| (Self::new(a, self.replica), Self::new(b, self.replica))))
        })
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("JOURNAL_FORMAT", JOURNAL_FORMAT)?;
    module.add_class::<Batch>()
}
