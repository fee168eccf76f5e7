//! From a definition to a graph: names become numbers, and every rule about a single node or edge is
//! checked. The rules about paths are in `joins`.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::condition::Condition;
use super::definition::{id_of, Definition, EdgeDef, FailureDef, NodeDef};
use super::retry::MAX_DURATION_MS;
use super::{joins, EachEdge, Edge, FailurePolicy, Graph, Node, NodeIx, Target, Way, END};
use crate::error::{Error, Result};
use crate::state::{Field, Reducer, Reducers};

/// What an indexed text column keeps in every database.
const MAX_NAME_BYTES: usize = 255;

/// A result whose error is a sentence: the node, the reason, the way out.
pub(super) type Checked<T> = std::result::Result<T, String>;

/// See [`Graph::compile`].
pub(super) fn compile(text: &str) -> Result<Graph> {
    let definition = Definition::parse(text)?;
    let canonical = definition.canonical()?;
    let mut graph = build(&definition)
        .map_err(|reason| Error::invalid(format!("graph {:?}: {reason}", definition.name)))?;
    graph.id = id_of(&canonical);
    graph.definition = canonical;
    Ok(graph)
}

fn build(definition: &Definition) -> Checked<Graph> {
    let mut graph = Graph {
        id: [0; 32],
        name: Arc::from(named(&definition.name, "a graph")?),
        definition: String::new(),
        entry: 0,
        nodes: Vec::with_capacity(definition.nodes.len()),
        edges: Vec::with_capacity(definition.edges.len()),
        out: vec![Vec::new(); definition.nodes.len()],
        by_name: FxHashMap::default(),
        reducers: reducers(definition)?,
    };
    add_nodes(&mut graph, definition)?;
    add_edges(&mut graph, &definition.edges)?;
    for node in 0..graph.nodes.len() as NodeIx {
        check_ways_out(&graph, node)?;
        classify(&mut graph, node);
        check_failure_policy(&graph, node)?;
    }
    refuse_unreachable(&graph)?;
    joins::resolve(&mut graph)?;
    Ok(graph)
}

fn reducers(definition: &Definition) -> Checked<Reducers> {
    let parse = |(field, name): (&String, &String)| {
        Reducer::parse(name).map(|reducer| (Field::from(field.as_str()), reducer)).ok_or_else(|| {
            let known = Reducer::ALL.map(Reducer::name).join(", ");
            format!("field {field:?} has the reducer {name:?}, which does not exist; use one of {known}")
        })
    };
    definition.reducers.iter().map(parse).collect()
}

/// `name`, if every database can keep it.
fn named<'d>(name: &'d str, what: &str) -> Checked<&'d str> {
    if name.trim().is_empty() {
        return Err(format!("the name of {what} is empty; give it one"));
    }
    if name.contains('\0') {
        return Err(format!("the name of {what} is {name:?}, and no database keeps a NUL; leave it out"));
    }
    if name.len() > MAX_NAME_BYTES {
        let start: String = name.chars().take(20).collect();
        return Err(format!(
            "the name of {what} is {} bytes long ({start:?}…); at most {MAX_NAME_BYTES} fit, shorten it",
            name.len()
        ));
    }
    Ok(name)
}

fn add_nodes(graph: &mut Graph, definition: &Definition) -> Checked<()> {
    for node in &definition.nodes {
        let ix = graph.nodes.len() as NodeIx;
        let compiled = compile_node(node)?;
        match graph.by_name.entry(compiled.name.clone()) {
            Entry::Occupied(_) => {
                return Err(format!(
                    "node {:?} is there twice; give the second one another name (it may run the same task)",
                    node.name
                ));
            }
            Entry::Vacant(vacant) => vacant.insert(ix),
        };
        graph.nodes.push(compiled);
    }
    if graph.nodes.is_empty() {
        return Err("it has no nodes; add one with node(…) or chain(…)".into());
    }
    graph.entry = graph.find(&definition.entry).ok_or_else(|| {
        format!("the entry {:?} is not one of its nodes; name one of them with entry(…)", definition.entry)
    })?;
    Ok(())
}

fn compile_node(node: &NodeDef) -> Checked<Node> {
    let name = named(&node.name, "a node")?;
    if name == END {
        return Err(format!("a node is named {END:?}, which stands for the end of a branch; rename it"));
    }
    let at = |reason: String| format!("node {name:?}: {reason}");
    if node.time_budget_ms.is_some_and(|budget_ms| !(1..=MAX_DURATION_MS).contains(&budget_ms)) {
        return Err(at("time_budget must be from a millisecond to a hundred years; or leave it out".into()));
    }
    if let Some(resource) = &node.resource {
        named(resource, &format!("the resource of node {name:?}"))?;
    }
    node.retry.as_ref().map_or(Ok(()), super::RetryPolicy::check).map_err(at)?;
    let policy = node.on_failure.as_ref().map_or(Ok(FailurePolicy::Drain), FailureDef::policy);
    Ok(Node {
        name: Arc::from(name),
        task: Arc::from(named(&node.task, &format!("the task of node {name:?}"))?),
        is_fan_in: node.fan_in,
        is_fan_out: false,
        join: None,
        on_error: None,
        time_budget_ms: node.time_budget_ms,
        retry: node.retry.clone(),
        resource: node.resource.as_deref().map(Arc::from),
        on_failure: policy.map_err(at)?,
        binds: Vec::new(),
    })
}

fn add_edges(graph: &mut Graph, edges: &[EdgeDef]) -> Checked<()> {
    let mut seen = FxHashSet::default();
    for edge in edges {
        let compiled = compile_edge(graph, edge)
            .map_err(|reason| format!("edge {:?} → {:?} ({}): {reason}", edge.from, edge.to, edge.kind))?;
        if !seen.insert(edge) {
            return Err(format!(
                "edge {:?} → {:?} ({}) is there twice; to run a task in two branches, bind it to two nodes",
                edge.from, edge.to, edge.kind
            ));
        }
        graph.push_edge(compiled);
    }
    Ok(())
}

fn compile_edge(graph: &Graph, edge: &EdgeDef) -> Checked<Edge> {
    if edge.from == END {
        return Err(format!("{END} ends a branch and leads nowhere; start the edge at a node"));
    }
    let find = |name: &str| {
        graph
            .find(name)
            .ok_or_else(|| format!("there is no node {name:?}; add it with node(…), or correct the name"))
    };
    let from = find(&edge.from)?;
    let to = if edge.to == END { Target::End } else { Target::Node(find(&edge.to)?) };
    let way = compile_way(graph, edge)?;
    match &way {
        Way::OnError if to == Target::Node(from) => {
            Err("a node cannot handle its own error, it might never end; use retry=Retry(…)".into())
        }
        Way::ForEach(_) if to == Target::End => {
            Err("nothing would run for the elements; lead it to the node that handles one of them".into())
        }
        _ => Ok(Edge { from, to, way }),
    }
}

fn compile_way(graph: &Graph, edge: &EdgeDef) -> Checked<Way> {
    refuse_foreign_members(edge)?;
    match edge.kind.as_str() {
        "plain" => Ok(Way::Plain),
        "goto" => Ok(Way::Goto),
        "on_error" => Ok(Way::OnError),
        "when" => condition(edge).map(Way::When),
        "switch" if edge.default => Ok(Way::Switch(None)),
        "switch" => condition(edge).map(|condition| Way::Switch(Some(condition))),
        "for_each" => each(graph, edge).map(Way::ForEach),
        _ => Err("the kind is unknown; use plain, when, switch, for_each, goto or on_error".into()),
    }
}

/// Refuses members that the edge's kind has no use for: two kinds cannot be mixed in one edge.
fn refuse_foreign_members(edge: &EdgeDef) -> Checked<()> {
    let kind = edge.kind.as_str();
    let members = [
        ("when", edge.when.is_some(), kind == "when" || kind == "switch"),
        ("over", edge.over.is_some(), kind == "for_each"),
        ("bind", edge.bind.is_some(), kind == "for_each"),
        ("default", edge.default, kind == "switch" && edge.when.is_none()),
    ];
    match members.iter().find(|(_, is_set, is_allowed)| *is_set && !is_allowed) {
        None => Ok(()),
        Some(("default", ..)) if kind == "switch" => {
            Err("it has both a condition and `default`; write two arms".into())
        }
        Some((member, ..)) => {
            Err(format!("an edge of this kind cannot be combined with `{member}`; write two edges"))
        }
    }
}

fn condition(edge: &EdgeDef) -> Checked<Condition> {
    let text = edge.when.as_deref().ok_or("it needs a condition; without one, use a plain edge")?;
    Condition::parse(text).map_err(|reason| format!("{reason}; correct the condition"))
}

fn each(graph: &Graph, edge: &EdgeDef) -> Checked<EachEdge> {
    let over = edge.over.as_deref().unwrap_or_default();
    let bind = edge.bind.as_deref().unwrap_or_default();
    if over.is_empty() || bind.is_empty() {
        return Err("it needs the field with the array (over) and a name for an element (bind)".into());
    }
    let names = [bind.to_owned(), format!("{bind}_index"), format!("{bind}_count")];
    if let Some(name) = names.iter().find(|name| graph.reducers.reduced(name).is_some()) {
        return Err(format!(
            "it binds {name:?}, which has a reducer, but is gone after the join; choose another bind="
        ));
    }
    Ok(EachEdge { over: Field::from(over), bind: names.map(Field::from) })
}

/// The rules about all edges out of one node together.
fn check_ways_out(graph: &Graph, node: NodeIx) -> Checked<()> {
    let name = &graph.node(node).name;
    let count = |wanted: fn(&Way) -> bool| graph.outgoing(node).filter(|(_, edge)| wanted(&edge.way)).count();
    if count(|way| matches!(way, Way::OnError)) > 1 {
        return Err(format!(
            "node {name:?} has two on_error edges; keep one, and let a switch in its handler decide"
        ));
    }
    if count(|way| matches!(way, Way::Switch(None))) > 1 {
        return Err(format!("the switch at node {name:?} has two defaults; keep one"));
    }
    if count(|way| matches!(way, Way::Switch(_))) > 0 && count(Way::is_branch) > 0 {
        return Err(format!(
            "node {name:?} mixes a switch with other edges that a success takes; make them all arms of the \
             switch, or move the switch to a node of its own"
        ));
    }
    check_binds(graph, node)
}

/// The names that the branches of one cohort keep private must not hide an array that it reads, nor
/// mean the element in one branch and the index in another.
fn check_binds(graph: &Graph, node: NodeIx) -> Checked<()> {
    let name = &graph.node(node).name;
    let edges = || {
        graph.outgoing(node).filter_map(|(_, edge)| match &edge.way {
            Way::ForEach(each) => Some(each),
            _ => None,
        })
    };
    for each in edges() {
        if let Some(hidden) = each.bind.iter().find(|bind| edges().any(|other| other.over == **bind)) {
            return Err(format!(
                "a for_each at node {name:?} binds {hidden:?}, which would hide the array of that name in \
                 its branches; choose another bind="
            ));
        }
        let clashes = |other: &EachEdge| other.bind != each.bind && each.bind.contains(&other.bind[0]);
        if let Some(other) = edges().find(|other| clashes(other)) {
            return Err(format!(
                "two for_each edges at node {name:?} give {:?} two meanings; choose another bind= for one",
                other.bind[0]
            ));
        }
    }
    Ok(())
}

/// Fills in what the edges say about their node, and the edge to `END` of a node without a way out.
fn classify(graph: &mut Graph, node: NodeIx) {
    let (mut branches, mut binds, mut on_error, mut has_way_out) = (0, Vec::new(), None, false);
    for (_, edge) in graph.outgoing(node) {
        branches += usize::from(edge.way.is_branch());
        has_way_out |= !matches!(edge.way, Way::OnError);
        match &edge.way {
            Way::ForEach(each) => binds.push(each.bind.clone()),
            Way::OnError => on_error = Some(edge.to),
            _ => {}
        }
    }
    let compiled = &mut graph.nodes[node as usize];
    compiled.is_fan_out = branches > 1 || !binds.is_empty();
    compiled.on_error = on_error;
    compiled.binds = binds;
    if !has_way_out {
        graph.push_edge(Edge { from: node, to: Target::End, way: Way::Plain });
    }
}

fn check_failure_policy(graph: &Graph, node: NodeIx) -> Checked<()> {
    let compiled = graph.node(node);
    let name = &compiled.name;
    if !compiled.is_fan_out && compiled.on_failure != FailurePolicy::Drain {
        return Err(format!(
            "node {name:?} has on_failure but opens no cohort; set it on the node with the fan_out or for_each"
        ));
    }
    let branches = graph.outgoing(node).filter(|(_, edge)| edge.way.is_branch()).count() as u64;
    match compiled.on_failure {
        FailurePolicy::First(n) if compiled.binds.is_empty() && n > branches => Err(format!(
            "node {name:?} waits for the first {n} branches but opens {branches}; lower the number of First"
        )),
        _ => Ok(()),
    }
}

fn refuse_unreachable(graph: &Graph) -> Checked<()> {
    let mut is_reached = vec![false; graph.nodes.len()];
    let mut open = vec![graph.entry];
    is_reached[graph.entry as usize] = true;
    while let Some(node) = open.pop() {
        for (_, edge) in graph.outgoing(node) {
            if let Target::Node(next) = edge.to {
                if !std::mem::replace(&mut is_reached[next as usize], true) {
                    open.push(next);
                }
            }
        }
    }
    match is_reached.iter().position(|reached| !reached) {
        None => Ok(()),
        Some(lost) => Err(format!(
            "node {:?} cannot be reached from the entry {:?}; lead an edge to it, remove it, or choose \
             another entry(…)",
            graph.nodes[lost].name,
            graph.node(graph.entry).name
        )),
    }
}
