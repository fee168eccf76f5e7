//! The worker's end of the wire, for the interpreter that runs tasks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use penstock_core::error::{Error, Result};
use penstock_core::wire::{self, FrameReader, FrameWriter, Message, Outcome, ResultOut, StepIn};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyList};
use pyo3::IntoPyObjectExt;

use crate::error::to_py;
use crate::fork::Home;
use crate::row::row;

/// Frames in, tuples out, and back. Made after the fork, one a worker.
///
/// Keeps the interpreter lock: decoding takes microseconds, and a task that computes gives the lock back only after
/// the switch interval, which is 5 ms in a worker.
#[pyclass(frozen, module = "penstock._core")]
struct WorkerCodec {
    home: Home,
    /// Used by whoever calls `feed`, the worker's loop thread.
    reader: Mutex<FrameReader>,
}

type Finished = (u64, u8, u32, PyBackedStr, PyBackedStr);

#[pymethods]
impl WorkerCodec {
    #[classattr]
    const STEP: u8 = wire::STEPS;
    #[classattr]
    const GRAPH: u8 = wire::GRAPH;
    #[classattr]
    const CANCEL: u8 = wire::CANCEL;
    #[classattr]
    const STOP: u8 = wire::STOP;
    #[classattr]
    const STATE: u8 = wire::STATE;
    #[classattr]
    const DONE: u8 = Outcome::Done as u8;
    #[classattr]
    const ERROR: u8 = Outcome::Error as u8;
    #[classattr]
    const PARKED: u8 = Outcome::Parked as u8;
    #[classattr]
    const RETRY: u8 = Outcome::Retry as u8;
    #[classattr]
    const MAX_FRAME_BYTES: usize = wire::MAX_FRAME_BYTES;

    #[new]
    fn new() -> Self {
        Self { home: Home::here(), reader: Mutex::new(FrameReader::new()) }
    }

    fn feed<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let messages = self.reader().and_then(|mut reader| reader.feed(data)).map_err(to_py)?;
        let items = PyList::empty(py);
        for message in messages {
            add_tuples(py, &items, message)?;
        }
        Ok(items)
    }

    #[staticmethod]
    fn results(py: Python<'_>, items: Vec<Finished>) -> PyResult<Bound<'_, PyBytes>> {
        let mut writer = FrameWriter::new();
        for (dispatch, outcome, ran_us, changes, meta) in &items {
            let outcome = Outcome::from_byte(*outcome)
                .ok_or_else(|| to_py(Error::invalid(format!("{outcome} is no outcome"))))?;
            let result = ResultOut { dispatch: *dispatch, outcome, ran_us: *ran_us, changes, meta };
            writer.result(&result).map_err(to_py)?;
        }
        Ok(PyBytes::new(py, &writer.finish()))
    }

    #[staticmethod]
    fn fetch<'py>(py: Python<'py>, dispatch: u64, names: &str) -> Bound<'py, PyBytes> {
        let mut writer = FrameWriter::new();
        writer.fetch(dispatch, names);
        PyBytes::new(py, &writer.finish())
    }

    #[staticmethod]
    fn hello<'py>(py: Python<'py>, about: &str) -> Bound<'py, PyBytes> {
        let mut writer = FrameWriter::new();
        writer.hello(about);
        PyBytes::new(py, &writer.finish())
    }

    #[staticmethod]
    fn stop(py: Python<'_>) -> Bound<'_, PyBytes> {
        let mut writer = FrameWriter::new();
        writer.stop();
        PyBytes::new(py, &writer.finish())
    }
}

impl WorkerCodec {
    fn reader(&self) -> Result<MutexGuard<'_, FrameReader>> {
        self.home.check("codec")?;
        Ok(self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn add_tuples(py: Python<'_>, items: &Bound<'_, PyList>, message: Message) -> PyResult<()> {
    match message {
        Message::Steps(steps) => steps.into_iter().try_for_each(|step| items.append(step_tuple(py, step)?)),
        Message::Graph(number, reducers) => items.append((wire::GRAPH, number, reducers)),
        Message::Cancel(dispatch) => items.append((wire::CANCEL, dispatch)),
        Message::Stop => items.append((wire::STOP,)),
        Message::State(dispatch, state) => items.append((wire::STATE, dispatch, state)),
        Message::Results(_) | Message::Hello(_) | Message::Fetch(..) => {
            Err(to_py(Error::corrupt("a worker was sent a frame that only workers send")))
        }
    }
}

/// `(STEP, dispatch, graph_no, attempt, step, created_at_ms, step_created_at_ms, budget_ms, flow_key, node, task,
/// baggage, state, changes, calls, left_out)`.
fn step_tuple(py: Python<'_>, s: StepIn) -> PyResult<Bound<'_, PyAny>> {
    Ok(row![py;
        wire::STEPS, s.dispatch, s.graph_no, s.attempt, s.step, s.created_at_ms, s.step_created_at_ms, s.budget_ms,
        s.flow_key, s.node, s.task, s.baggage, s.state, s.changes, s.calls, s.left_out,
    ])
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WorkerCodec>()
}
