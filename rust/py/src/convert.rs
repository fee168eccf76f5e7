//! Rows and requests between Python's tuples and the core's values.

use penstock_core::batch::NewFlow;
use penstock_core::engine::LoadedFlow;
use penstock_core::error::Result;
use penstock_core::flow::event::Control;
use penstock_core::flow::{Event, EventBody, Status};
use penstock_core::ids::FlowId;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ids::id_of;

/// A field of a tuple.
pub fn field<'a, 'py, T>(row: &'a Bound<'py, PyTuple>, at: usize) -> PyResult<T>
where
    T: pyo3::conversion::FromPyObjectOwned<'py>,
{
    row.get_item(at)?.extract::<T>().map_err(Into::into)
}

fn id(row: &Bound<'_, PyTuple>, at: usize) -> PyResult<[u8; 16]> {
    id_of(&field::<Vec<u8>>(row, at)?)
}

fn graph_id(row: &Bound<'_, PyTuple>, at: usize) -> PyResult<[u8; 32]> {
    field::<Vec<u8>>(row, at)?
        .try_into()
        .map_err(|_| pyo3::exceptions::PyValueError::new_err("a graph id has 32 bytes"))
}

/// `(flow_id, workflow, graph_id, input, priority, fairness_key, fairness_weight, time_budget_ms, thread_id, turn,
/// tags, baggage, trace_parent, notify, delete_on_completion, created_at, hold, start_at)`.
pub fn new_flow(row: &Bound<'_, PyTuple>) -> PyResult<NewFlow> {
    let flow = id(row, 0)?;
    Ok(NewFlow {
        id: flow,
        root: flow,
        parent: None,
        workflow: field(row, 1)?,
        graph: graph_id(row, 2)?,
        input: field(row, 3)?,
        priority: field(row, 4)?,
        fairness_key: field(row, 5)?,
        fairness_weight: field(row, 6)?,
        time_budget_ms: field(row, 7)?,
        thread: id(row, 8)?,
        turn: field(row, 9)?,
        tags: field(row, 10)?,
        baggage: field(row, 11)?,
        trace_parent: field(row, 12)?,
        notify: field(row, 13)?,
        delete_on_completion: field(row, 14)?,
        created_at: field(row, 15)?,
        first: first(field(row, 16)?, field(row, 17)?),
    })
}

/// What is done to a new flow before anything runs.
pub fn first(hold: bool, start_at: Option<i64>) -> Vec<Control> {
    let start_at = start_at.map(|at| Control::StartAt { at });
    start_at.into_iter().chain(hold.then(|| Control::Pause { reason: String::new() })).collect()
}

type EventRow = (i64, i64, String, String, i64, i64, String);

/// A claimed flow as the database has it, its journal not read yet.
pub struct Claimed {
    about: NewFlow,
    claims: i64,
    crashes: i64,
    mail: i64,
    is_finished: bool,
    journal: Vec<EventRow>,
}

/// In the order of the store's `LoadRow`.
pub fn claimed_flow(row: &Bound<'_, PyTuple>, time_budget_ms: i64) -> PyResult<Claimed> {
    let flow = id(row, 0)?;
    let parent = match (field::<Option<Vec<u8>>>(row, 7)?, field::<Option<u64>>(row, 8)?) {
        (Some(parent), Some(step)) => Some((id_of(&parent)?, step)),
        _ => None,
    };
    let about = NewFlow {
        id: flow,
        root: id(row, 6)?,
        parent,
        workflow: field(row, 5)?,
        graph: graph_id(row, 4)?,
        priority: field(row, 10)?,
        fairness_key: field(row, 11)?,
        fairness_weight: field(row, 12)?,
        time_budget_ms: field::<Option<i64>>(row, 13)?.unwrap_or(time_budget_ms),
        input: field(row, 14)?,
        baggage: field(row, 15)?,
        trace_parent: field(row, 16)?,
        created_at: field(row, 17)?,
        notify: field(row, 19)?,
        delete_on_completion: field(row, 20)?,
        thread: field::<Option<Vec<u8>>>(row, 18)?.map_or(Ok(flow), |thread| id_of(&thread))?,
        turn: 1,
        tags: None,
        first: Vec::new(),
    };
    let (claims, crashes, mail) = (field(row, 1)?, field(row, 2)?, field(row, 3)?);
    let status = field::<String>(row, 9)?;
    let is_finished = Status::parse(&status).is_some_and(Status::is_finished);
    Ok(Claimed { about, claims, crashes, mail, is_finished, journal: field(row, 21)? })
}

impl Claimed {
    /// The flow's id.
    pub fn id(&self) -> FlowId {
        self.about.id
    }

    /// The flow with its journal read.
    ///
    /// # Errors
    /// `corrupt` when a row is no event.
    pub fn replayable(self) -> Result<LoadedFlow> {
        let journal_bytes =
            self.journal.iter().filter(|row| row.3 != "snapshot").map(|row| row.6.len()).sum();
        let events = self.journal.iter().map(event).collect::<Result<_>>()?;
        let Self { about, claims, crashes, mail, is_finished, .. } = self;
        Ok(LoadedFlow { about, claims, crashes, mail, is_finished, events, journal_bytes })
    }
}

fn event((ord, step, _, name, attempt, at, body): &EventRow) -> Result<Event> {
    Ok(Event {
        ord: *ord as u64,
        step: *step as u64,
        attempt: *attempt as u32,
        at: *at,
        body: EventBody::from_json(name, body)?,
    })
}
