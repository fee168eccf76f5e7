//! Routing: which successors a finished step has, in which order, and which errors it makes.

use penstock_core::graph::{Each, Graph, Hop, NodeIx, RouteError, Target};
use penstock_core::state::State;
use serde_json::{json, Value};

fn graph(nodes: &[&str], edges: &[Value]) -> Graph {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|name| json!({"name": name.trim_end_matches('*'), "fan_in": name.ends_with('*')}))
        .collect();
    let definition = json!({"name": "g", "entry": "s", "nodes": nodes, "edges": edges});
    Graph::compile(&definition.to_string()).unwrap()
}

fn when(to: &str, kind: &str, when: &str) -> Value {
    json!({"from": "s", "to": to, "kind": kind, "when": when})
}

fn to(target: &str, kind: &str) -> Value {
    json!({"from": "s", "to": target, "kind": kind})
}

fn each(target: &str, over: &str) -> Value {
    json!({"from": "s", "to": target, "kind": "for_each", "over": over})
}

/// Routes from the entry; the names of the successors, `x3` after one of a `for_each` over three.
fn route(graph: &Graph, state: &str, goto: Option<&str>) -> Result<Vec<String>, RouteError> {
    let hops = graph.route(graph.entry(), &State::from_json(state).unwrap(), goto)?;
    let name = |hop: Hop| {
        let name = match hop.target {
            Target::Node(ix) => graph.node(ix).name.to_string(),
            Target::End => "END".into(),
        };
        hop.each.map_or(name.clone(), |each| format!("{name}x{}", each.count))
    };
    Ok(hops.into_iter().map(name).collect())
}

#[test]
fn a_node_without_a_way_out_ends_its_branch() {
    let alone = graph(&["s"], &[]);
    assert_eq!(route(&alone, "{}", None).unwrap(), ["END"]);
    let handled = graph(&["s", "h"], &[to("h", "on_error")]);
    assert_eq!(route(&handled, "{}", None).unwrap(), ["END"]);
    let asking = graph(&["s"], &[to("s", "goto")]);
    assert_eq!(route(&asking, "{}", None).unwrap(), ["END"]);
}

#[test]
fn every_condition_that_holds_is_taken_in_edge_order() {
    let graph = graph(
        &["s", "b", "a", "c"],
        &[when("b", "when", "n > 1"), to("a", "plain"), when("c", "when", "n > 5"), to("END", "on_error")],
    );
    assert_eq!(route(&graph, r#"{"n":9}"#, None).unwrap(), ["b", "a", "c"]);
    assert_eq!(route(&graph, r#"{"n":2}"#, None).unwrap(), ["b", "a"]);
    assert_eq!(route(&graph, "{}", None).unwrap(), ["a"]);
}

#[test]
fn a_lone_when_that_is_false_leads_nowhere() {
    let graph = graph(&["s", "a"], &[when("a", "when", "go")]);
    assert_eq!(route(&graph, "{}", None).unwrap(), Vec::<String>::new());
}

#[test]
fn a_switch_takes_the_first_match_and_its_default_last() {
    let arms = [
        json!({"from": "s", "to": "d", "kind": "switch", "default": true}),
        when("a", "switch", "n > 1"),
        when("END", "switch", "n > 0"),
    ];
    let switch = graph(&["s", "a", "d"], &arms);
    assert_eq!(route(&switch, r#"{"n":2}"#, None).unwrap(), ["a"]);
    assert_eq!(route(&switch, r#"{"n":1}"#, None).unwrap(), ["END"]);
    assert_eq!(route(&switch, r#"{"n":0}"#, None).unwrap(), ["d"]);

    let refusal = route(&graph(&["s", "a"], &arms[1..]), "{}", None).unwrap_err();
    assert_eq!(refusal.code(), "no_match");
    assert!(refusal.message().contains("\"s\"") && refusal.message().contains("default"));
}

#[test]
fn a_for_each_counts_its_elements() {
    let both = graph(&["s", "a", "b"], &[each("a", "xs"), each("b", "ys")]);
    assert_eq!(route(&both, r#"{"xs":[1,[2],{}],"ys":[0]}"#, None).unwrap(), ["ax3", "bx1"]);
    assert_eq!(route(&both, r#"{"xs":[],"ys":null}"#, None).unwrap(), Vec::<String>::new());
    assert_eq!(route(&both, "{}", None).unwrap(), Vec::<String>::new());

    let refusal = route(&both, r#"{"xs":"abc"}"#, None).unwrap_err();
    assert_eq!(refusal.code(), "condition");
    assert!(refusal.message().contains("\"s\"") && refusal.message().contains("\"xs\""));
}

#[test]
fn a_hop_says_which_edge_it_took() {
    let graph =
        graph(&["s", "a", "j*"], &[each("a", "xs"), json!({"from": "a", "to": "j", "kind": "plain"})]);
    let hops = graph.route(0, &State::from_json(r#"{"xs":[1,2]}"#).unwrap(), None).unwrap();
    assert_eq!(hops, [Hop { target: Target::Node(1 as NodeIx), each: Some(Each { edge: 0, count: 2 }) }]);
    assert_eq!(&*graph.each_edge(0).bind[0], "item");
}

#[test]
fn a_goto_overrides_every_other_edge() {
    let graph = graph(&["s", "a", "b"], &[when("a", "switch", "1 / 0"), to("b", "goto"), to("END", "goto")]);
    assert_eq!(route(&graph, "{}", Some("b")).unwrap(), ["b"]);
    assert_eq!(route(&graph, "{}", Some("END")).unwrap(), ["END"]);
    for unknown in ["a", "nobody", ""] {
        let refusal = route(&graph, "{}", Some(unknown)).unwrap_err();
        assert_eq!(refusal.code(), "unknown_goto");
        assert!(refusal.message().contains("declared: \"b\", \"END\""), "{}", refusal.message());
    }
}

#[test]
fn a_condition_that_fails_is_an_error_with_its_node() {
    let graph = graph(&["s", "a"], &[when("a", "when", "n / 0 > 1")]);
    let refusal = route(&graph, r#"{"n":1}"#, None).unwrap_err();
    assert_eq!(refusal.code(), "condition");
    assert!(refusal.message().contains("\"s\"") && refusal.message().contains("n / 0 > 1"));
}
