//! Graphs and tasks that an engine knows.

use std::sync::Arc;

use super::{Engine, GraphEntry, Needs};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::scheduler::TaskKind;

impl Engine {
    /// Learns a graph; gives its id. A graph that is known already is only looked up.
    ///
    /// # Errors
    /// `invalid` when it does not compile.
    pub fn add_graph(&mut self, definition: &str) -> Result<[u8; 32]> {
        let graph = Arc::new(Graph::compile(definition)?);
        let id = *graph.id();
        if !self.by_id.contains_key(&id) {
            let tasks = graph.nodes().iter().map(|node| self.intern(&node.task)).collect();
            let number = self.by_id.len() as u32;
            self.by_id.insert(id, Arc::new(GraphEntry { graph, number, tasks }));
        }
        Ok(id)
    }

    /// From now on `workflow` means this graph.
    ///
    /// # Errors
    /// `not_found` when the graph was never added.
    pub fn publish(&mut self, workflow: &str, graph: [u8; 32]) -> Result<()> {
        if !self.by_id.contains_key(&graph) {
            return Err(Error::not_found(format!(
                "workflow {workflow:?} names a graph that was never added"
            )));
        }
        self.by_workflow.insert(workflow.to_owned(), graph);
        Ok(())
    }

    /// The graph that `workflow` means now.
    pub fn workflow(&self, workflow: &str) -> Option<[u8; 32]> {
        self.by_workflow.get(workflow).copied()
    }

    /// Whether the graph has been added.
    pub fn knows_graph(&self, graph: &[u8; 32]) -> bool {
        self.by_id.contains_key(graph)
    }

    /// Says that the workers have this task, and of which kind it is.
    pub fn set_task(&mut self, name: &str, kind: TaskKind) {
        let task = self.intern(&Arc::from(name));
        self.scheduler.set_task(task, kind);
        self.known_tasks.insert(name.to_owned(), kind);
    }

    /// Says what the task is seen to need of the state; everything if never said.
    pub fn set_needs(&mut self, name: &str, needs: Needs) {
        let task = self.intern(&Arc::from(name));
        self.needs.insert(task, needs);
    }

    /// The tasks of a graph that no worker has.
    pub fn missing_tasks(&self, graph: &[u8; 32]) -> Vec<String> {
        if self.default_kind.is_some() {
            return Vec::new();
        }
        let entry = self.by_id.get(graph);
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
