//! Properties of the compiler: it never panics, an id survives its canonical form, and what it accepts
//! has exactly the joins that a walk with explicit stacks finds.

use std::collections::{HashMap, HashSet};

use penstock_core::graph::Graph;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{json, Value};

/// A piece of a graph that is legal by construction.
#[derive(Clone, Debug)]
enum Block {
    /// One node that goes on by an edge of this kind.
    Task(&'static str),
    Sequence(Vec<Block>),
    Switch(Vec<Block>),
    Cohort(Vec<Block>),
    Each(Box<Block>),
}

fn block() -> impl Strategy<Value = Block> {
    let task =
        prop::sample::select(vec!["plain", "when", "switch", "goto", "on_error"]).prop_map(Block::Task);
    task.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Block::Sequence),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Block::Switch),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Block::Cohort),
            inner.prop_map(|block| Block::Each(Box::new(block))),
        ]
    })
}

#[derive(Default)]
struct Writer {
    nodes: Vec<Value>,
    edges: Vec<Value>,
    joins: HashMap<String, String>,
}

impl Writer {
    fn node(&mut self, fan_in: bool) -> String {
        let name = format!("n{}", self.nodes.len());
        self.nodes.push(json!({"name": name, "fan_in": fan_in}));
        name
    }

    fn edge(&mut self, from: &str, to: &str, kind: &str) {
        self.edges.push(edge(from, to, kind));
    }

    /// Writes `block` so that it goes on to `next`; answers its first node.
    fn write(&mut self, block: &Block, next: &str) -> String {
        match block {
            Block::Task(kind) => {
                let node = self.node(false);
                self.edge(&node, next, kind);
                if *kind == "on_error" {
                    self.edge(&node, next, "plain");
                }
                node
            }
            Block::Sequence(blocks) => {
                blocks.iter().rev().fold(next.to_owned(), |next, b| self.write(b, &next))
            }
            Block::Switch(blocks) => {
                let node = self.node(false);
                for block in blocks {
                    let first = self.write(block, next);
                    self.edge(&node, &first, "switch");
                }
                node
            }
            Block::Cohort(blocks) => self.cohort(blocks, "plain", next),
            Block::Each(block) => self.cohort(std::slice::from_ref(block), "for_each", next),
        }
    }

    fn cohort(&mut self, blocks: &[Block], kind: &str, next: &str) -> String {
        let (source, join) = (self.node(false), self.node(true));
        self.edge(&join, next, "plain");
        for block in blocks {
            let first = self.write(block, &join);
            self.edge(&source, &first, kind);
        }
        self.joins.insert(source.clone(), join);
        source
    }
}

fn edge(from: &str, to: &str, kind: &str) -> Value {
    match kind {
        "when" | "switch" => json!({"from": from, "to": to, "kind": kind, "when": "x"}),
        "for_each" => json!({"from": from, "to": to, "kind": kind, "over": "items"}),
        _ => json!({"from": from, "to": to, "kind": kind}),
    }
}

fn any_definition() -> impl Strategy<Value = Value> {
    let names = ["a", "b", "c", "d", "e", "END"];
    let kinds = vec!["plain", "plain", "when", "switch", "for_each", "goto", "on_error"];
    let numbers = (0..5_usize, 0..6_usize, prop::sample::select(kinds));
    let edges = prop::collection::vec(numbers, 0..9);
    (1..6_usize, prop::collection::vec(any::<bool>(), 5), edges).prop_map(move |(size, fan_in, edges)| {
        let nodes: Vec<Value> =
            (0..size).map(|i| json!({"name": names[i], "fan_in": fan_in[i] && i > 1})).collect();
        let within = |i: usize| if i < size { names[i] } else { "END" };
        let edges: Vec<Value> = edges
            .into_iter()
            .filter(|(from, ..)| *from < size)
            .map(|(from, to, kind)| edge(names[from], within(to), kind))
            .collect();
        json!({"name": "g", "entry": "a", "nodes": nodes, "edges": edges})
    })
}

/// A legal graph with an edge bent or added here and there: now and then it is still legal.
fn bent_definition() -> impl Strategy<Value = Value> {
    let kinds = vec!["plain", "when", "switch", "for_each", "goto", "goto", "on_error"];
    let bend = (any::<bool>(), any::<Index>(), any::<Index>(), prop::sample::select(kinds));
    (block(), prop::collection::vec(bend, 0..4)).prop_map(|(block, bends)| {
        let mut writer = Writer::default();
        let entry = writer.write(&block, "END");
        for (is_new, at, to, kind) in bends {
            let to = to.index(writer.nodes.len() + 1);
            let to = writer.nodes.get(to).map_or(json!("END"), |node| node["name"].clone());
            if is_new {
                let from = writer.nodes[at.index(writer.nodes.len())]["name"].as_str().unwrap().to_owned();
                writer.edge(&from, to.as_str().unwrap(), kind);
            } else {
                let at = at.index(writer.edges.len());
                writer.edges[at]["to"] = to;
            }
        }
        json!({"name": "g", "entry": entry, "nodes": writer.nodes, "edges": writer.edges})
    })
}

/// The joins of an accepted graph, found with explicit stacks; panics where a stack breaks a rule.
fn joins_by_stacks(definition: &Value) -> HashMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let edges: Vec<(String, String, String)> = definition["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| (text(&edge["from"]), text(&edge["to"]), text(&edge["kind"])))
        .collect();
    let nodes = definition["nodes"].as_array().unwrap();
    let is_fan_in = |name: &str| nodes.iter().any(|node| node["name"] == name && node["fan_in"] == true);
    let branches = |name: &str| {
        let count = |kind: &str| edges.iter().filter(|edge| edge.0 == name && edge.2 == kind).count();
        count("plain") + count("when") + 2 * count("for_each")
    };
    let mut joins = HashMap::new();
    let mut close = |source: String, join: &str| {
        let known = joins.entry(source.clone()).or_insert_with(|| join.to_owned());
        assert_eq!(known, join, "two joins of {source}");
    };
    let mut seen: HashSet<(String, Vec<String>)> = HashSet::new();
    let mut open = vec![(text(&definition["entry"]), Vec::<String>::new())];
    while let Some((node, stack)) = open.pop() {
        if !seen.insert((node.clone(), stack.clone())) {
            continue;
        }
        let mut ways: Vec<(String, String)> =
            edges.iter().filter(|edge| edge.0 == node).map(|edge| (edge.1.clone(), edge.2.clone())).collect();
        let goes_on = |(_, kind): &(String, String)| kind != "on_error";
        let asks_only = |(_, kind): &(String, String)| kind == "on_error" || kind == "goto";
        let may_end = stack.is_empty() || !ways.iter().any(goes_on);
        if ways.iter().all(asks_only) && may_end {
            ways.push(("END".into(), "plain".into()));
        }
        for (to, kind) in ways {
            let mut after = stack.clone();
            let is_branch = matches!(kind.as_str(), "plain" | "when" | "for_each");
            if branches(&node) > 1 && (is_branch || is_fan_in(&to)) {
                after.push(node.clone());
            }
            if to == "END" {
                assert!(after.len() < 2, "END inside {after:?}");
                if let Some(source) = after.pop() {
                    close(source, "END");
                }
                continue;
            }
            if is_fan_in(&to) {
                close(after.pop().unwrap(), &to);
            }
            open.push((to, after));
        }
    }
    let places: HashSet<&String> = seen.iter().map(|(node, _)| node).collect();
    assert_eq!(places.len(), seen.len(), "a node with two stacks");
    joins
}

fn joins_of(graph: &Graph) -> HashMap<String, String> {
    use penstock_core::graph::Target;
    let name = |target| match target {
        Target::Node(ix) => graph.node(ix).name.to_string(),
        Target::End => "END".to_owned(),
    };
    graph
        .nodes()
        .iter()
        .filter(|node| node.is_fan_out)
        .map(|node| (node.name.to_string(), name(node.join.unwrap())))
        .collect()
}

fn is_canonical(graph: &Graph) {
    let again = Graph::compile(graph.definition()).unwrap();
    assert_eq!((again.id(), again.definition()), (graph.id(), graph.definition()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_legal_by_construction_is_accepted_with_its_joins(block in block(), nested in any::<bool>()) {
        let mut writer = Writer::default();
        let mut entry = writer.write(&block, "END");
        if nested {
            // An outermost cohort that runs to END.
            let source = writer.node(false);
            writer.edge(&source, &entry, "for_each");
            writer.joins.insert(source.clone(), "END".into());
            entry = source;
        }
        let definition = json!({"name": "g", "entry": entry, "nodes": writer.nodes, "edges": writer.edges});
        let text = definition.to_string();
        // Two arms of a switch, or two branches, may be one edge twice: that is refused, and rightly.
        prop_assume!(!is_repeated(&writer.edges));
        let graph = Graph::compile(&text).unwrap();
        prop_assert_eq!(joins_of(&graph), writer.joins);
        is_canonical(&graph);
    }

    #[test]
    fn what_is_accepted_has_the_joins_that_explicit_stacks_find(
        definition in prop_oneof![any_definition(), bent_definition()]
    ) {
        if let Ok(graph) = Graph::compile(&definition.to_string()) {
            let found = joins_by_stacks(&definition);
            for (source, join) in joins_of(&graph) {
                // A branch of gotos only ends at END although no edge says so.
                prop_assert_eq!(found.get(&source).map_or("END", String::as_str), join, "{}", source);
            }
            is_canonical(&graph);
        }
    }

    #[test]
    fn no_text_makes_it_panic(definition in any_definition(), cut in any::<Index>(), junk in ".{0,8}") {
        let text = definition.to_string();
        let mut place = cut.index(text.len());
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        let _ = Graph::compile(&format!("{}{junk}{}", &text[..place], &text[place..]));
        let _ = Graph::compile(&text[..place]);
        let _ = Graph::compile(&junk);
    }
}

fn is_repeated(edges: &[Value]) -> bool {
    let mut seen = HashSet::new();
    !edges.iter().all(|edge| seen.insert(edge.to_string()))
}
