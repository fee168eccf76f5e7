//! Graphs and tasks that an engine knows.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Engine, GraphEntry, Needs};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::lru::Lru;
use crate::scheduler::TaskKind;

/// Graphs kept that no workflow means any more: those of flows that were created before a deploy.
const OLD_GRAPHS: usize = 1_024;
/// Bytes of their definitions.
const OLD_GRAPH_BYTES: usize = 64 << 20;

/// Compiled graphs by id: those that a workflow means now, and the most recently used of the others.
pub(crate) struct Graphs {
    by_workflow: FxHashMap<String, [u8; 32]>,
    current: FxHashMap<[u8; 32], Arc<GraphEntry>>,
    old: Lru<[u8; 32], Arc<GraphEntry>>,
    /// Numbers on the wire are never reused: workers keep what they were told.
    next_number: u32,
}

impl Graphs {
    pub(super) fn new() -> Self {
        Self {
            by_workflow: FxHashMap::default(),
            current: FxHashMap::default(),
            old: Lru::new(OLD_GRAPHS, OLD_GRAPH_BYTES, u64::MAX),
            next_number: 0,
        }
    }

    pub(super) fn get(&mut self, id: &[u8; 32]) -> Option<Arc<GraphEntry>> {
        self.current.get(id).or_else(|| self.old.get(id, 0)).cloned()
    }

    pub(super) fn workflows(&self) -> impl Iterator<Item = &str> {
        self.by_workflow.keys().map(String::as_str)
    }

    /// Whether a workflow that is known now has a node of that name.
    pub(super) fn have_node(&self, name: &str) -> bool {
        self.current.values().any(|entry| entry.graph.find(name).is_some())
    }

    fn insert(&mut self, graph: Arc<Graph>, tasks: Vec<u32>, resources: Vec<u32>) {
        let (id, bytes) = (*graph.id(), graph.definition().len());
        let entry = Arc::new(GraphEntry { graph, number: self.next_number, tasks, resources });
        self.next_number += 1;
        self.old.put(id, entry, bytes, 0);
    }

    /// Lets `workflow` mean a graph that is known; the one that it meant before may be forgotten some day.
    fn publish(&mut self, workflow: &str, id: [u8; 32]) -> bool {
        let Some(entry) = self.get(&id) else { return false };
        self.old.take(&id, 0);
        self.current.insert(id, entry);
        let before = self.by_workflow.insert(workflow.to_owned(), id);
        if let Some(before) = before.filter(|before| !self.by_workflow.values().any(|id| id == before)) {
            if let Some(entry) = self.current.remove(&before) {
                let bytes = entry.graph.definition().len();
                self.old.put(before, entry, bytes, 0);
            }
        }
        true
    }
}

impl Engine {
    /// Learns a graph; gives its id. A graph that is known already is only looked up.
    ///
    /// # Errors
    /// `invalid` when it does not compile.
    pub fn add_graph(&mut self, definition: &str) -> Result<[u8; 32]> {
        let graph = Arc::new(Graph::compile(definition)?);
        let id = *graph.id();
        if self.graphs.get(&id).is_none() {
            let tasks = graph.nodes().iter().map(|node| self.intern(&node.task)).collect();
            let resources =
                graph.nodes().iter().map(|node| self.resource(node.resource.as_ref().unwrap_or(&node.task)));
            let resources = resources.collect();
            self.graphs.insert(graph, tasks, resources);
        }
        Ok(id)
    }

    /// From now on `workflow` means this graph.
    ///
    /// # Errors
    /// `not_found` when the graph was never added.
    pub fn publish(&mut self, workflow: &str, graph: [u8; 32]) -> Result<()> {
        if self.graphs.publish(workflow, graph) {
            return Ok(());
        }
        Err(Error::not_found(format!("workflow {workflow:?} names a graph that was never added")))
    }

    /// The graph that `workflow` means now.
    pub fn workflow(&self, workflow: &str) -> Option<[u8; 32]> {
        self.graphs.by_workflow.get(workflow).copied()
    }

    /// Whether the graph is known. One that no workflow means is forgotten when many others were used since.
    pub fn knows_graph(&mut self, graph: &[u8; 32]) -> bool {
        self.graphs.get(graph).is_some()
    }

    /// Says that the workers have this task, and of which kind it is.
    pub fn set_task(&mut self, name: &str, kind: TaskKind) {
        let task = self.intern(&Arc::from(name));
        self.scheduler.set_task(task, kind);
        self.known_tasks.insert(name.to_owned(), kind);
    }

    /// Says what the task is seen to need of the state.
    pub fn set_needs(&mut self, name: &str, needs: Needs) {
        let task = self.intern(&Arc::from(name));
        self.needs.insert(task, needs);
    }

    /// The tasks of a graph that no worker has.
    pub fn missing_tasks(&mut self, graph: &[u8; 32]) -> Vec<String> {
        if self.default_kind.is_some() {
            return Vec::new();
        }
        let entry = self.graphs.get(graph);
        let tasks = entry.iter().flat_map(|entry| entry.graph.tasks());
        tasks.filter(|task| !self.known_tasks.contains_key(*task)).map(str::to_owned).collect()
    }

    /// From now on every task name is known, and of this kind.
    pub fn set_default_kind(&mut self, kind: TaskKind) {
        self.default_kind = Some(kind);
        for task in self.tasks.values() {
            self.scheduler.set_task(*task, kind);
        }
    }

    fn intern(&mut self, name: &Arc<str>) -> u32 {
        if let Some(task) = self.tasks.get(name) {
            return *task;
        }
        let task = self.tasks.len() as u32;
        self.tasks.insert(name.clone(), task);
        if let Some(kind) = self.default_kind {
            self.scheduler.set_task(task, kind);
        }
        task
    }
}
