//! What a finished step leads to: its edges in order, conditions evaluated, arrays counted.

use super::condition::Condition;
use super::{EachEdge, Graph, NodeIx, Target, Way, END};
use crate::json::Kind;
use crate::state::State;

/// One successor, or a whole row of them for a `for_each`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Where it leads.
    pub target: Target,
    /// Set when the edge is a `for_each`.
    pub each: Option<Each>,
}

/// The branches of one `for_each` edge, one an element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Each {
    /// The edge's index among the graph's edges.
    pub edge: u32,
    /// The number of elements, at least one.
    pub count: u64,
}

/// Why a finished step leads nowhere: an error of that step. Each carries its message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteError {
    /// The task asked for a node to which no goto edge leads.
    UnknownGoto(String),
    /// A switch without a match and without a default.
    NoMatch(String),
    /// A condition or the array of a `for_each` that cannot be evaluated.
    Condition(String),
}

impl RouteError {
    /// The stable code of the step's error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownGoto(_) => "unknown_goto",
            Self::NoMatch(_) => "no_match",
            Self::Condition(_) => "condition",
        }
    }

    /// What happened, and the way out.
    pub fn message(&self) -> &str {
        match self {
            Self::UnknownGoto(message) | Self::NoMatch(message) | Self::Condition(message) => message,
        }
    }
}

type Routed<T> = Result<T, RouteError>;

impl Graph {
    /// The successors of a step of `node` that succeeded with the view `state`, in edge order.
    ///
    /// An empty list means that nothing matched; what that means depends on where the step stands.
    ///
    /// # Errors
    /// An error of the step, see [`RouteError`].
    pub fn route(&self, node: NodeIx, state: &State, goto: Option<&str>) -> Routed<Vec<Hop>> {
        if let Some(name) = goto {
            return self.route_goto(node, name).map(|hop| vec![hop]);
        }
        if self.outgoing(node).any(|(_, edge)| matches!(edge.way, Way::Switch(_))) {
            return self.route_switch(node, state).map(|hop| vec![hop]);
        }
        let mut hops = Vec::new();
        for (ix, edge) in self.outgoing(node) {
            let each = match &edge.way {
                Way::Plain => None,
                Way::When(condition) if self.holds(node, condition, state)? => None,
                Way::ForEach(each) => match self.count(node, each, state)? {
                    0 => continue,
                    count => Some(Each { edge: ix, count }),
                },
                Way::When(_) | Way::Switch(_) | Way::Goto | Way::OnError => continue,
            };
            hops.push(Hop { target: edge.to, each });
        }
        Ok(hops)
    }

    fn route_goto(&self, node: NodeIx, name: &str) -> Routed<Hop> {
        let declared = || self.outgoing(node).filter(|(_, edge)| matches!(edge.way, Way::Goto));
        let found = declared().find(|(_, edge)| self.target_name(edge.to) == name);
        found.map(|(_, edge)| Hop { target: edge.to, each: None }).ok_or_else(|| {
            let names: Vec<String> =
                declared().map(|(_, edge)| format!("{:?}", self.target_name(edge.to))).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            RouteError::UnknownGoto(format!(
                "node {:?} asked for goto {name:?}, which is not declared (declared: {known}); \
                 declare it with goto(…, …) in the graph",
                self.node(node).name
            ))
        })
    }

    fn route_switch(&self, node: NodeIx, state: &State) -> Routed<Hop> {
        let mut default = None;
        for (_, edge) in self.outgoing(node) {
            match &edge.way {
                Way::Switch(Some(condition)) if self.holds(node, condition, state)? => {
                    return Ok(Hop { target: edge.to, each: None });
                }
                Way::Switch(None) => default = Some(edge.to),
                _ => {}
            }
        }
        default.map(|target| Hop { target, each: None }).ok_or_else(|| {
            RouteError::NoMatch(format!(
                "no arm of the switch at node {:?} matched; give it a default (a node or {END})",
                self.node(node).name
            ))
        })
    }

    fn holds(&self, node: NodeIx, condition: &Condition, state: &State) -> Routed<bool> {
        condition.eval(state).map_err(|reason| {
            RouteError::Condition(format!(
                "node {:?}: {reason}; correct it in the graph",
                self.node(node).name
            ))
        })
    }

    /// How many branches `each` opens: nothing and null count as an empty array.
    fn count(&self, node: NodeIx, each: &EachEdge, state: &State) -> Routed<u64> {
        let Some(value) = state.get(&each.over) else { return Ok(0) };
        if value.kind() == Kind::Null {
            return Ok(0);
        }
        value.len_of_array().map(|count| count as u64).ok_or_else(|| {
            RouteError::Condition(format!(
                "for_each at node {:?} is over field {:?}, which holds {} and not a list; give it a list, or null for no branches",
                self.node(node).name,
                each.over,
                value.kind().described()
            ))
        })
    }
}
