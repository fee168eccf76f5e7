//! Which node joins which cohort.
//!
//! The graph is walked from its entry with the stack of open cohorts. A cohort is named by the node
//! that opens it, and a node must have one stack only, so a node's stack is its innermost open source
//! and, below it, the stack of that source: no stack is ever stored.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::compile::Checked;
use super::{Edge, Graph, NodeIx, Target, Way, END};

/// The innermost open fan-out source, or the trunk.
type Place = Option<NodeIx>;

struct Walk<'g> {
    graph: &'g Graph,
    /// Where each node stands; `None` until the walk has been there.
    places: Vec<Option<Place>>,
    /// The join of each fan-out source, and the node before it through which it was found.
    joins: Vec<Option<(Target, NodeIx)>>,
    open: VecDeque<NodeIx>,
}

/// Finds the join of every fan-out source, or the rule that the graph breaks.
pub(super) fn resolve(graph: &mut Graph) -> Checked<()> {
    let entry = graph.node(graph.entry);
    if entry.is_fan_in {
        return Err(format!(
            "node {:?} is the entry and a fan_in, but no cohort is open there; name another entry(…)",
            entry.name
        ));
    }
    let walk = walk(graph)?;
    let joins: Vec<Option<Target>> = walk.joins.iter().map(|join| join.map(|(target, _)| target)).collect();
    let implicit = walk.implicit_ends();
    refuse_endless(graph, &walk, &implicit)?;
    for (node, join) in graph.nodes.iter_mut().zip(joins) {
        node.join = join;
    }
    for from in implicit {
        graph.push_edge(Edge { from, to: Target::End, way: Way::Plain });
    }
    Ok(())
}

fn walk(graph: &Graph) -> Checked<Walk<'_>> {
    let size = graph.nodes.len();
    let mut walk = Walk {
        graph,
        places: vec![None; size],
        joins: vec![None; size],
        open: VecDeque::from([graph.entry]),
    };
    walk.places[graph.entry as usize] = Some(None);
    while let Some(node) = walk.open.pop_front() {
        for (_, edge) in graph.outgoing(node) {
            walk.follow(edge)?;
        }
    }
    walk.close_on_requested_ways()?;
    walk.refuse_unjoined()?;
    Ok(walk)
}

impl Walk<'_> {
    fn follow(&mut self, edge: &Edge) -> Checked<()> {
        let source = self.graph.node(edge.from);
        let place = self.place(edge.from);
        let after = if source.is_fan_out && edge.way.is_branch() { Some(edge.from) } else { place };
        match edge.to {
            Target::End => self.end(after, edge.from),
            Target::Node(join) if self.graph.node(join).is_fan_in => {
                // Whichever edge a fan-out source takes into a fan_in, it closes its own cohort there.
                let closed = if source.is_fan_out { Some(edge.from) } else { place };
                let closed = closed.ok_or_else(|| self.nothing_to_join(join, edge.from))?;
                self.close(closed, edge.to, edge.from)?;
                self.arrive(join, self.place(closed), edge.from)
            }
            Target::Node(next) => self.arrive(next, after, edge.from),
        }
    }

    /// The place of a node that the walk has been to.
    fn place(&self, node: NodeIx) -> Place {
        self.places[node as usize].flatten()
    }

    fn name(&self, node: NodeIx) -> &str {
        &self.graph.node(node).name
    }

    fn arrive(&mut self, node: NodeIx, place: Place, via: NodeIx) -> Checked<()> {
        match self.places[node as usize] {
            None => {
                self.places[node as usize] = Some(place);
                self.open.push_back(node);
                Ok(())
            }
            Some(known) if known == place => Ok(()),
            Some(known) => Err(format!(
                "node {:?} is reached {} and, from {:?}, {}; a node has one place only: add a second node with \
                 another name that runs the same task, or close the cohort with a fan_in before it",
                self.name(node),
                self.describe(known),
                self.name(via),
                self.describe(place),
            )),
        }
    }

    /// A branch ends at `END`: legal on the trunk, and in a cohort that no other encloses.
    fn end(&mut self, place: Place, via: NodeIx) -> Checked<()> {
        match place {
            None => Ok(()),
            Some(source) if self.place(source).is_none() => self.close(source, Target::End, via),
            Some(_) => Err(format!(
                "node {:?} leads to {END} {}; a cohort inside another must be closed: let all its branches meet in \
                 one fan_in(…) node",
                self.name(via),
                self.describe(place),
            )),
        }
    }

    fn close(&mut self, source: NodeIx, target: Target, via: NodeIx) -> Checked<()> {
        match self.joins[source as usize] {
            None => {
                self.joins[source as usize] = Some((target, via));
                Ok(())
            }
            Some((known, _)) if known == target => Ok(()),
            Some((known, known_via)) => Err(format!(
                "the branches that node {:?} opens do not meet: one reaches {:?} from {:?}, another {:?} from \
                 {:?}; lead all of them to one fan_in(…) node, all to {END}, or use switch(…) if only one is \
                 ever taken{}",
                self.name(source),
                self.graph.target_name(known),
                self.name(known_via),
                self.graph.target_name(target),
                self.name(via),
                // Its own goto or on_error edge into a fan_in closes its own cohort, see `follow`.
                if source == via || source == known_via {
                    "; to leave an outer cohort from the node that opens this one, put a node between"
                } else {
                    ""
                }
            )),
        }
    }

    /// A node with goto edges only ends its branch there when its task asks for none.
    fn close_on_requested_ways(&mut self) -> Checked<()> {
        for node in 0..self.graph.nodes.len() as NodeIx {
            if let Some(source) = self.place(node).filter(|_| self.has_requested_ways_only(node)) {
                if self.place(source).is_none() && self.joins[source as usize].is_none() {
                    self.close(source, Target::End, node)?;
                }
            }
        }
        Ok(())
    }

    /// The nodes with goto edges only that stand where a branch may end. Elsewhere a task that asks for
    /// no goto has no way on, which is an error of its step.
    fn implicit_ends(&self) -> Vec<NodeIx> {
        let may_end = |place: Place| match place {
            None => true,
            Some(source) => matches!(self.joins[source as usize], Some((Target::End, _))),
        };
        (0..self.graph.nodes.len() as NodeIx)
            .filter(|&node| self.has_requested_ways_only(node) && may_end(self.place(node)))
            .collect()
    }

    fn has_requested_ways_only(&self, node: NodeIx) -> bool {
        !self.graph.outgoing(node).any(|(_, edge)| edge.way.is_success())
    }

    fn refuse_unjoined(&self) -> Checked<()> {
        let is_unjoined =
            |node: &NodeIx| self.graph.node(*node).is_fan_out && self.joins[*node as usize].is_none();
        match (0..self.graph.nodes.len() as NodeIx).find(is_unjoined) {
            None => Ok(()),
            Some(source) => Err(format!(
                "no branch that node {:?} opens ever reaches a fan_in node or {END}; lead all of them to one \
                 fan_in(…) node",
                self.name(source)
            )),
        }
    }

    fn nothing_to_join(&self, join: NodeIx, via: NodeIx) -> String {
        format!(
            "node {:?} is a fan_in, but no cohort is open on the way from {:?}; open one before with fan_out(…) or \
             for_each(…), or take the fan_in mark away",
            self.name(join),
            self.name(via)
        )
    }

    /// The stack of open cohorts in words, innermost first.
    fn describe(&self, place: Place) -> String {
        let Some(innermost) = place else { return "outside every cohort".to_owned() };
        let mut words = format!("inside the cohort of {:?}", self.name(innermost));
        let mut outer = self.place(innermost);
        while let Some(source) = outer {
            let _ = write!(words, " inside that of {:?}", self.name(source));
            outer = self.place(source);
        }
        words
    }
}

/// Refuses a graph that no flow could ever finish.
fn refuse_endless(graph: &Graph, walk: &Walk<'_>, implicit: &[NodeIx]) -> Checked<()> {
    let has_end = graph.edges.iter().any(|edge| edge.to == Target::End);
    let is_lone_when = |node: &NodeIx| {
        let mut ways = graph.outgoing(*node).filter(|(_, edge)| edge.way.is_success());
        walk.place(*node).is_none()
            && matches!((ways.next(), ways.next()), (Some((_, Edge { way: Way::When(_), .. })), None))
    };
    if has_end || !implicit.is_empty() || (0..graph.nodes.len() as NodeIx).any(|node| is_lone_when(&node)) {
        return Ok(());
    }
    Err(format!(
        "no way leads to {END}, so a flow could never finish; add an edge from {:?} or another node to {END}",
        graph.node(graph.entry).name
    ))
}
