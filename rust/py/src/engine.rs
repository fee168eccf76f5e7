//! The engine's core as Python drives it: whole batches and buffers, one call a turn.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use penstock_core::engine::{Engine, Mail, Needs, Options, PartitionBy, ResourceLimits, Wanted};
use penstock_core::error::{Error, Result};
use penstock_core::flow_control::Limit;
use penstock_core::scheduler::TaskKind;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::batch::Batch;
use crate::convert::{claimed_flow, new_flow};
use crate::enter::enter;
use crate::error::to_py;
use crate::fork::Home;
use crate::ids::{id_of, random};
use crate::report::Report;
use crate::row::{id, ids};
use crate::waits::{resource_row, waiting_row, ResourceTuple, WaitingTuple};

/// Flows, scheduler and batches of one shard.
#[pyclass(frozen, module = "penstock._core")]
struct Core {
    home: Home,
    engine: Mutex<Engine>,
    time_budget_ms: AtomicI64,
    /// The beginning of the clock by which time budgets go.
    started: Instant,
}

/// (name, `is_async`, fields or everything, `takes_flow`)
type TaskRow = (String, bool, Option<Vec<String>>, bool);

/// Parent, step, child, workflow, baggage.
type WantedRow<'py> = (Bound<'py, PyBytes>, u64, Bound<'py, PyBytes>, String, Option<String>);
/// (worker, dispatch, why)
type OverdueRow = (u32, u64, String);
/// `max_concurrency`, rate, burst
type LimitRow = (Option<u32>, Option<f64>, Option<f64>);

impl Core {
    /// The engine; refuses in a process that was forked from its own.
    fn engine(&self) -> Result<MutexGuard<'_, Engine>> {
        self.home.check("core")?;
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = self.started.elapsed().as_millis();
        engine.set_steady(i64::try_from(steady).unwrap_or(i64::MAX));
        Ok(engine)
    }
}

#[pymethods]
impl Core {
    #[new]
    fn new(replica: i64, shard: u32, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut set = Options { replica, shard, ..Options::default() };
        for (name, value) in options.iter() {
            match name.extract::<String>()?.as_str() {
                "room" => set.room = value.extract()?,
                "time_budget_ms" => set.time_budget_ms = value.extract()?,
                "grace_ms" => set.grace_ms = value.extract()?,
                "release_after_ms" => set.release_after_ms = value.extract()?,
                "max_steps" => set.max_steps = value.extract()?,
                "max_event_bytes" => set.max_event_bytes = value.extract()?,
                "snapshot_bytes" => set.snapshot_bytes = value.extract()?,
                "threads" => set.threads = value.extract()?,
                "lru_entries" => set.lru_entries = value.extract()?,
                "lru_bytes" => set.lru_bytes = value.extract()?,
                other => return Err(to_py(Error::invalid(format!("the core has no option {other:?}")))),
            }
        }
        let time_budget_ms = AtomicI64::new(set.time_budget_ms);
        let engine = Mutex::new(Engine::new(set, Box::new(random)));
        Ok(Self { home: Home::here(), engine, time_budget_ms, started: Instant::now() })
    }

    #[pyo3(signature = (*, room=None, time_budget_ms=None))]
    fn configure(&self, py: Python<'_>, room: Option<usize>, time_budget_ms: Option<i64>) -> PyResult<()> {
        if let Some(ms) = time_budget_ms {
            self.time_budget_ms.store(ms, Ordering::Relaxed);
        }
        enter(py, || {
            if let Some(room) = room {
                self.engine()?.set_room(room);
            }
            Ok(())
        })
    }

    fn add_graph<'py>(&self, py: Python<'py>, definition: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let id = enter(py, || {
            let text =
                std::str::from_utf8(definition).map_err(|_| Error::invalid("the graph is not UTF-8"))?;
            self.engine()?.add_graph(text)
        })?;
        Ok(PyBytes::new(py, &id))
    }

    fn publish(&self, py: Python<'_>, workflow: &str, graph_id: [u8; 32]) -> PyResult<()> {
        enter(py, || self.engine()?.publish(workflow, graph_id))
    }

    fn workflow<'py>(&self, py: Python<'py>, workflow: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(enter(py, || Ok(self.engine()?.workflow(workflow)))?.map(|id| PyBytes::new(py, &id)))
    }

    fn knows_graph(&self, py: Python<'_>, graph_id: [u8; 32]) -> PyResult<bool> {
        enter(py, || Ok(self.engine()?.knows_graph(&graph_id)))
    }

    fn set_tasks(&self, py: Python<'_>, tasks: Vec<TaskRow>) -> PyResult<()> {
        enter(py, || {
            let mut engine = self.engine()?;
            for (name, is_async, fields, takes_flow) in tasks {
                engine.set_task(&name, if is_async { TaskKind::Async } else { TaskKind::Sync });
                let named = fields.map(|fields| Needs::fields(fields, takes_flow));
                engine.set_needs(&name, named.unwrap_or(Needs::Everything));
            }
            Ok(())
        })
    }

    fn set_default_kind(&self, py: Python<'_>, is_async: bool) -> PyResult<()> {
        enter(py, || {
            self.engine()?.set_default_kind(if is_async { TaskKind::Async } else { TaskKind::Sync });
            Ok(())
        })
    }

    fn missing_tasks(&self, py: Python<'_>, graph_id: [u8; 32]) -> PyResult<Vec<String>> {
        enter(py, || Ok(self.engine()?.missing_tasks(&graph_id)))
    }

    #[pyo3(signature = (flows, *, watch_creation, watch_stop))]
    fn create(
        &self,
        py: Python<'_>,
        flows: Vec<Bound<'_, PyTuple>>,
        watch_creation: bool,
        watch_stop: bool,
    ) -> PyResult<()> {
        let flows = flows.iter().map(new_flow).collect::<PyResult<Vec<_>>>()?;
        enter(py, || {
            let mut engine = self.engine()?;
            let ids: Vec<_> = flows.iter().map(|flow| flow.id).collect();
            engine.create_many(flows)?;
            for id in ids {
                if watch_creation {
                    engine.watch_creation(id);
                }
                if watch_stop {
                    engine.watch(id);
                }
            }
            Ok(())
        })
    }

    fn check_input(&self, py: Python<'_>, graph_id: [u8; 32], state: &str) -> PyResult<()> {
        enter(py, || self.engine()?.check_state(&graph_id, state))
    }

    fn watch(&self, py: Python<'_>, flow_id: &[u8]) -> PyResult<()> {
        let id = id_of(flow_id)?;
        enter(py, || {
            self.engine()?.watch(id);
            Ok(())
        })
    }

    fn unwatch(&self, py: Python<'_>, flow_id: &[u8]) -> PyResult<()> {
        let id = id_of(flow_id)?;
        enter(py, || {
            self.engine()?.unwatch(&id);
            Ok(())
        })
    }

    fn load<'py>(
        &self,
        py: Python<'py>,
        rows: Vec<Bound<'py, PyTuple>>,
        now_ms: i64,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, String)>> {
        let time_budget_ms = self.time_budget_ms.load(Ordering::Relaxed);
        let claimed =
            rows.iter().map(|row| claimed_flow(row, time_budget_ms)).collect::<PyResult<Vec<_>>>()?;
        let broken = enter(py, || {
            let mut engine = self.engine()?;
            let mut broken = Vec::new();
            for flow in claimed {
                let flow_id = flow.id();
                let taken = flow.replayable().and_then(|loaded| engine.load_flow(loaded, now_ms));
                if let Err(error) = taken {
                    broken.push((flow_id, error.message));
                }
            }
            Ok(broken)
        })?;
        Ok(broken.into_iter().map(|(flow_id, reason)| (id(py, &flow_id), reason)).collect())
    }

    fn deliver(
        &self,
        py: Python<'_>,
        flow_id: &[u8],
        seen: i64,
        messages: Vec<(i64, String, String)>,
        now_ms: i64,
    ) -> PyResult<bool> {
        let id = id_of(flow_id)?;
        let mail = messages.into_iter().map(|(seq, kind, body)| Mail { seq, kind, body }).collect();
        enter(py, || Ok(self.engine()?.deliver(&id, seen, mail, now_ms)))
    }

    fn wanted_histories<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        Ok(ids(py, &enter(py, || Ok(self.engine()?.wanted_histories()))?))
    }

    fn tell_history(&self, py: Python<'_>, row: &Bound<'_, PyTuple>, now_ms: i64) -> PyResult<()> {
        let claimed = claimed_flow(row, self.time_budget_ms.load(Ordering::Relaxed))?;
        enter(py, || {
            let loaded = claimed.replayable()?;
            self.engine()?.tell_history(&loaded.about.id, loaded.events, now_ms);
            Ok(())
        })
    }

    fn ask_for_graphs(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || {
            self.engine()?.ask_for_graphs();
            Ok(())
        })
    }

    fn take_wanted<'py>(&self, py: Python<'py>) -> PyResult<Vec<WantedRow<'py>>> {
        let wanted = enter(py, || Ok(self.engine()?.take_wanted()))?;
        let row = |wanted: Wanted| {
            let (parent, child) = (id(py, &wanted.parent), id(py, &wanted.child));
            (parent, wanted.step, child, wanted.workflow, wanted.baggage)
        };
        Ok(wanted.into_iter().map(row).collect())
    }

    fn found_graph(
        &self,
        py: Python<'_>,
        wanted: (Vec<u8>, u64, Vec<u8>, String, Option<String>),
        graph_id: Option<[u8; 32]>,
        failure: Option<(String, String)>,
        now_ms: i64,
    ) -> PyResult<bool> {
        let (parent, step, child, workflow, baggage) = wanted;
        let wanted = Wanted { parent: id_of(&parent)?, step, child: id_of(&child)?, workflow, baggage };
        let answer = graph_id.ok_or_else(|| failure.unwrap_or_default());
        enter(py, || Ok(self.engine()?.found_graph(&wanted, answer, now_ms)))
    }

    fn worker_ready(&self, py: Python<'_>, worker: u32) -> PyResult<()> {
        enter(py, || {
            self.engine()?.worker_ready(worker);
            Ok(())
        })
    }

    fn drain_worker(&self, py: Python<'_>, worker: u32) -> PyResult<()> {
        enter(py, || {
            self.engine()?.drain_worker(worker);
            Ok(())
        })
    }

    fn worker_gone(&self, py: Python<'_>, worker: u32, cause: &str, now_ms: i64) -> PyResult<()> {
        enter(py, || {
            self.engine()?.worker_gone(worker, cause, now_ms);
            Ok(())
        })
    }

    fn receive(&self, py: Python<'_>, worker: u32, data: &[u8], now_ms: i64) -> PyResult<bool> {
        enter(py, || {
            let mut engine = self.engine()?;
            engine.receive(worker, data, now_ms)?;
            Ok(engine.has_batch())
        })
    }

    fn frames<'py>(&self, py: Python<'py>, now_ms: i64) -> PyResult<Bound<'py, PyList>> {
        let frames = enter(py, || Ok(self.engine()?.frames(now_ms)))?;
        PyList::new(py, frames.iter().map(|(worker, bytes)| (*worker, PyBytes::new(py, bytes))))
    }

    fn outgoing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let frames = enter(py, || Ok(self.engine()?.outgoing()))?;
        PyList::new(py, frames.iter().map(|(worker, bytes)| (*worker, PyBytes::new(py, bytes))))
    }

    fn tick(&self, py: Python<'_>, now_ms: i64) -> PyResult<Vec<OverdueRow>> {
        enter(py, || {
            let mut engine = self.engine()?;
            engine.tick(now_ms);
            Ok(engine.overdue().into_iter().map(|late| (late.worker, late.dispatch, late.why)).collect())
        })
    }

    fn next_due(&self, py: Python<'_>) -> PyResult<(Option<i64>, Option<i64>)> {
        enter(py, || Ok(self.engine()?.next_due()))
    }

    fn give_up(&self, py: Python<'_>, worker: u32, dispatch: u64, now_ms: i64) -> PyResult<()> {
        enter(py, || {
            self.engine()?.give_up(worker, dispatch, now_ms);
            Ok(())
        })
    }

    fn take_batch(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let taken = enter(py, || {
            let mut engine = self.engine()?;
            Ok(engine.take_batch().map(|batch| (batch, engine.replica())))
        })?;
        Ok(taken.map(|(batch, replica)| Batch::new(batch, replica)))
    }

    fn committed(
        &self,
        py: Python<'_>,
        batch: &Bound<'_, Batch>,
        refused_units: Vec<u32>,
        now_ms: i64,
    ) -> PyResult<Report> {
        let batch = batch.get().take()?;
        let report = enter(py, || Ok(self.engine()?.committed(batch, &refused_units, now_ms)))?;
        Ok(Report::new(report))
    }

    fn refuse(&self, py: Python<'_>, batch: &Bound<'_, Batch>, message: &str) -> PyResult<Report> {
        let batch = batch.get().take()?;
        let report = enter(py, || Ok(self.engine()?.refuse(&batch, message)))?;
        Ok(Report::new(report))
    }

    fn has_batch(&self, py: Python<'_>) -> PyResult<bool> {
        enter(py, || Ok(self.engine()?.has_batch()))
    }

    fn room(&self, py: Python<'_>) -> PyResult<usize> {
        enter(py, || Ok(self.engine()?.room()))
    }

    fn counts(&self, py: Python<'_>) -> PyResult<(usize, usize, usize)> {
        enter(py, || Ok(self.engine()?.load()))
    }

    fn owned_of<'py>(&self, py: Python<'py>, flow_ids: Vec<Vec<u8>>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let asked = flow_ids.iter().map(|id| id_of(id)).collect::<PyResult<Vec<_>>>()?;
        Ok(ids(py, &enter(py, || Ok(self.engine()?.owned_of(&asked)))?))
    }

    fn running_steps(&self, py: Python<'_>, flow_id: &[u8]) -> PyResult<Vec<u64>> {
        let id = id_of(flow_id)?;
        enter(py, || Ok(self.engine()?.running_steps(&id)))
    }

    fn rejoin<'py>(&self, py: Python<'py>, replica: i64) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        Ok(ids(py, &enter(py, || Ok(self.engine()?.rejoin(replica)))?))
    }

    fn drop_flow<'py>(&self, py: Python<'py>, flow_id: &[u8]) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let id = id_of(flow_id)?;
        Ok(ids(py, &enter(py, || Ok(self.engine()?.drop_flow(&id)))?))
    }

    fn owned<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        Ok(ids(py, &enter(py, || Ok(self.engine()?.owned()))?))
    }

    fn why<'py>(
        &self,
        py: Python<'py>,
        flow_id: &[u8],
        limit: usize,
        now_ms: i64,
    ) -> PyResult<Option<Vec<WaitingTuple<'py>>>> {
        let asked = id_of(flow_id)?;
        let found = enter(py, || Ok(self.engine()?.why(&asked, limit, now_ms)))?;
        Ok(found.map(|found| found.into_iter().map(|step| waiting_row(py, step)).collect()))
    }

    fn waiting<'py>(
        &self,
        py: Python<'py>,
        resource: Option<String>,
        limit: usize,
        now_ms: i64,
    ) -> PyResult<Vec<WaitingTuple<'py>>> {
        let found = enter(py, || Ok(self.engine()?.waiting(resource.as_deref(), limit, now_ms)))?;
        Ok(found.into_iter().map(|step| waiting_row(py, step)).collect())
    }

    fn resources(&self, py: Python<'_>, now_ms: i64) -> PyResult<Vec<ResourceTuple>> {
        let rows = enter(py, || Ok(self.engine()?.resources(now_ms)))?;
        Ok(rows.into_iter().map(resource_row).collect())
    }

    fn take_resource_changes(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        enter(py, || Ok(self.engine()?.take_resource_changes()))
    }

    fn learn_resources(&self, py: Python<'_>, rows: Vec<(String, String)>, now_ms: i64) -> PyResult<()> {
        enter(py, || self.engine()?.learn_resources(&rows, now_ms))
    }

    fn set_limits(
        &self,
        py: Python<'_>,
        resource: &str,
        total: LimitRow,
        each: LimitRow,
        per: Option<&str>,
        now_ms: i64,
    ) -> PyResult<()> {
        enter(py, || {
            let by = per.map(PartitionBy::parse).transpose()?;
            let limit =
                |(max_concurrency, rate, burst): LimitRow| Limit { max_concurrency, rate, burst }.checked();
            let limits = ResourceLimits { total: limit(total)?, each: limit(each)?, by };
            self.engine()?.set_limits(resource, limits, now_ms);
            Ok(())
        })
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Core>()
}
