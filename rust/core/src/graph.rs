//! The compiled graph: what a definition means once every rule has been checked.
//!
//! A graph is immutable and shared (`Arc<Graph>`) by all flows that run it. It is named by the SHA-256
//! of its canonical definition, so equal definitions are one graph wherever they were written.

pub mod condition;
pub mod definition;
pub mod render;
pub mod retry;
pub mod route;

mod compile;
mod joins;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::error::Result;
use crate::state::{Field, Reducers};
use condition::Condition;

pub use retry::{FailurePolicy, RetryPolicy};
pub use route::{Each, Hop, RouteError};

/// The name that stands for the end of a branch where a target is expected.
pub const END: &str = "END";

/// A node's place in `Graph::nodes`.
pub type NodeIx = u32;

/// Where an edge leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// To a node.
    Node(NodeIx),
    /// To the end of the branch.
    End,
}

/// One node with everything the flow machine asks of it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, unique in the graph.
    pub name: Arc<str>,
    /// The task it runs; several nodes may run one task.
    pub task: Arc<str>,
    /// The branches of a cohort meet here.
    pub is_fan_in: bool,
    /// Opens a cohort: two or more plain or `when` edges, or a `for_each`.
    pub is_fan_out: bool,
    /// Where the cohort that this node opens is joined; `None` for a node that opens none.
    pub join: Option<Target>,
    /// Where a failure of its step goes.
    pub on_error: Option<Target>,
    /// Time for one attempt, if not the flow's.
    pub time_budget_ms: Option<u64>,
    /// Declared retries.
    pub retry: Option<RetryPolicy>,
    /// What its steps use, for limits and breakers.
    pub resource: Option<Arc<str>>,
    /// What a failed branch does to the cohort that this node opens.
    pub on_failure: FailurePolicy,
    /// `bind`, `bind_index`, `bind_count` of each of its `for_each` edges.
    pub binds: Vec<[Field; 3]>,
}

/// What a `for_each` edge reads and binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EachEdge {
    /// The field with the array.
    pub over: Field,
    /// The names private to a branch: the element, its index, their number.
    pub bind: [Field; 3],
}

/// When an edge is taken.
enum Way {
    Plain,
    When(Condition),
    /// `None`: the default arm.
    Switch(Option<Condition>),
    ForEach(EachEdge),
    Goto,
    OnError,
}

impl Way {
    /// Whether the edge starts a branch of a cohort when its source is a fan-out source.
    fn is_branch(&self) -> bool {
        matches!(self, Self::Plain | Self::When(_) | Self::ForEach(_))
    }

    /// Whether a step that succeeds and asks for nothing may take the edge.
    fn is_success(&self) -> bool {
        !matches!(self, Self::Goto | Self::OnError)
    }
}

struct Edge {
    from: NodeIx,
    to: Target,
    way: Way,
}

/// A compiled graph.
pub struct Graph {
    id: [u8; 32],
    name: Arc<str>,
    definition: String,
    entry: NodeIx,
    nodes: Vec<Node>,
    /// In the definition's order, then the implicit edges to `END`.
    edges: Vec<Edge>,
    /// The edges out of each node, in the order of `edges`.
    out: Vec<Vec<u32>>,
    by_name: FxHashMap<Arc<str>, NodeIx>,
    reducers: Reducers,
}

impl Graph {
    /// Parses a definition and checks every rule.
    ///
    /// # Errors
    /// `invalid`, with the node, the reason and a way out.
    pub fn compile(definition: &str) -> Result<Self> {
        compile::compile(definition)
    }

    /// SHA-256 of the canonical definition.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The display name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The canonical definition.
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// The node that a flow starts with.
    pub fn entry(&self) -> NodeIx {
        self.entry
    }

    /// All nodes, in the order in which they were named.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node at `ix`.
    ///
    /// # Panics
    /// If `ix` is not of this graph.
    pub fn node(&self, ix: NodeIx) -> &Node {
        &self.nodes[ix as usize]
    }

    /// The node called `name`.
    pub fn find(&self, name: &str) -> Option<NodeIx> {
        self.by_name.get(name).copied()
    }

    /// The reducers of the state's fields.
    pub fn reducers(&self) -> &Reducers {
        &self.reducers
    }

    /// The tasks that the nodes run, sorted, each once.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        let tasks: BTreeSet<&str> = self.nodes.iter().map(|node| &*node.task).collect();
        tasks.into_iter()
    }

    /// What the `for_each` edge at index `edge` reads and binds.
    ///
    /// # Panics
    /// If that edge is not a `for_each`: an index comes from [`Each::edge`] only.
    pub fn each_edge(&self, edge: u32) -> &EachEdge {
        match &self.edges[edge as usize].way {
            Way::ForEach(each) => each,
            _ => panic!("edge {edge} of graph {:?} is no for_each", self.name),
        }
    }

    fn outgoing(&self, node: NodeIx) -> impl Iterator<Item = (u32, &Edge)> {
        self.out[node as usize].iter().map(|&ix| (ix, &self.edges[ix as usize]))
    }

    fn target_name(&self, target: Target) -> &str {
        match target {
            Target::Node(ix) => &self.node(ix).name,
            Target::End => END,
        }
    }

    /// Adds an edge at the end of the list.
    fn push_edge(&mut self, edge: Edge) {
        self.out[edge.from as usize].push(self.edges.len() as u32);
        self.edges.push(edge);
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("definition", &self.definition).finish_non_exhaustive()
    }
}
