//! Every rule of the validator: what it accepts, and which node it names when it refuses.

use penstock_core::graph::{FailurePolicy, Graph, Target};
use serde_json::{json, Value};

/// A definition from edges such as `("a", "b", "plain")`; nodes are named by their edges.
fn definition(edges: &[(&str, &str, &str)], fan_in: &[&str]) -> Value {
    let mut names: Vec<&str> = Vec::new();
    for name in edges.iter().flat_map(|(from, to, _)| [*from, *to]) {
        if name != "END" && !names.contains(&name) {
            names.push(name);
        }
    }
    let nodes: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "task": name, "fan_in": fan_in.contains(name)}))
        .collect();
    let edges: Vec<Value> = edges.iter().map(|(from, to, kind)| edge(from, to, kind)).collect();
    json!({"name": "g", "entry": names[0], "nodes": nodes, "edges": edges, "reducers": {}})
}

fn edge(from: &str, to: &str, kind: &str) -> Value {
    match kind {
        "when" | "switch" => json!({"from": from, "to": to, "kind": kind, "when": "go"}),
        "default" => json!({"from": from, "to": to, "kind": "switch", "default": true}),
        "for_each" => json!({"from": from, "to": to, "kind": kind, "over": "items", "bind": "item"}),
        _ => json!({"from": from, "to": to, "kind": kind}),
    }
}

fn compile(edges: &[(&str, &str, &str)], fan_in: &[&str]) -> Graph {
    Graph::compile(&definition(edges, fan_in).to_string()).unwrap()
}

/// The refusal of a definition, which must hold every one of `words`.
#[track_caller]
fn refused(definition: &Value, words: &[&str]) {
    let refusal = Graph::compile(&definition.to_string()).unwrap_err();
    assert_eq!(refusal.code.as_str(), "invalid");
    for word in words {
        assert!(refusal.message.contains(word), "{word:?} is not in: {}", refusal.message);
    }
}

#[track_caller]
fn join_of(graph: &Graph, source: &str) -> String {
    match graph.node(graph.find(source).unwrap()).join.unwrap() {
        Target::Node(ix) => graph.node(ix).name.to_string(),
        Target::End => "END".into(),
    }
}

const P: &str = "plain";

#[test]
fn a_lone_node_is_a_graph() {
    let graph = Graph::compile(r#"{"name":"g","entry":"a","nodes":[{"name":"a"}]}"#).unwrap();
    assert_eq!(graph.tasks().collect::<Vec<_>>(), ["a"]);
    assert_eq!(graph.node(graph.entry()).join, None);
    let canonical = r#"{"name":"g","entry":"a","nodes":[{"name":"a","task":"a","fan_in":false}],"edges":[],"reducers":{}}"#;
    assert_eq!(graph.definition(), canonical);
}

#[test]
fn names_are_checked() {
    let named = |node: Value| json!({"name": "g", "entry": "a", "nodes": [{"name": "a"}, node]});
    refused(&json!({"name": " ", "entry": "a", "nodes": [{"name": "a"}]}), &["name of a graph is empty"]);
    refused(&json!({"name": "g", "entry": "", "nodes": []}), &["no nodes", "node(…)"]);
    refused(&json!({"name": "g", "entry": "b", "nodes": [{"name": "a"}]}), &["\"b\"", "entry(…)"]);
    refused(&named(json!({"name": ""})), &["name of a node is empty"]);
    refused(&named(json!({"name": "END"})), &["\"END\"", "rename"]);
    refused(&named(json!({"name": "a"})), &["\"a\" is there twice", "another name"]);
    refused(&named(json!({"name": "b\0"})), &["NUL"]);
    refused(&named(json!({"name": "b".repeat(256)})), &["256 bytes", "255"]);
    refused(&named(json!({"name": "b", "task": " "})), &["task of node \"b\""]);
}

#[test]
fn what_is_not_of_the_form_is_refused_with_its_place() {
    refused(&json!([]), &["cannot be read"]);
    refused(
        &json!({"name": "g", "entry": "a", "nodes": [{"name": "a", "colour": 1}]}),
        &["colour", "column"],
    );
    refused(&json!({"name": "g", "entry": "a"}), &["nodes"]);
    assert!(Graph::compile("{").is_err());
}

#[test]
fn options_are_checked() {
    let with = |option: Value| {
        let mut node = json!({"name": "a"});
        node.as_object_mut().unwrap().extend(option.as_object().unwrap().clone());
        json!({"name": "g", "entry": "a", "nodes": [node]})
    };
    let retry = |key: &str, value: Value| {
        let mut retry = json!({"max_attempts": 3, "initial_ms": 10});
        retry[key] = value;
        with(json!({"retry": retry}))
    };
    refused(&with(json!({"time_budget_ms": 0})), &["\"a\"", "time_budget"]);
    refused(&with(json!({"resource": ""})), &["resource of node \"a\""]);
    refused(&with(json!({"on_failure": {"policy": "fail_fast"}})), &["\"a\"", "opens no cohort"]);
    refused(&with(json!({"on_failure": {"policy": "first"}})), &["\"a\"", "number"]);
    refused(&with(json!({"on_failure": {"policy": "fail_fast", "n": 1}})), &["takes no number"]);
    refused(&with(json!({"on_failure": {"policy": "pray"}})), &["\"pray\"", "fail_fast"]);
    refused(&with(json!({"time_budget_ms": u64::MAX})), &["\"a\"", "hundred years"]);
    refused(&retry("give_up_after_ms", json!(u64::MAX)), &["\"a\"", "hundred years"]);
    refused(&retry("max_attempts", json!(0)), &["\"a\"", "max_attempts"]);
    refused(&retry("multiplier", json!(0.5)), &["multiplier", "at least 1"]);
    refused(&retry("jitter", json!(1.5)), &["jitter", "0 to 1"]);
    refused(&retry("on", json!([""])), &["empty name"]);
    refused(&retry("multiplier", json!("2")), &["not a number"]);
}

#[test]
fn edges_are_checked_one_by_one() {
    let with = |bad: Value| json!({"name": "g", "entry": "a", "nodes": [{"name": "a"}, {"name": "b"}], "edges": [edge("a", "b", P), bad]});
    let of = |from: &str, to: &str, kind: &str| with(edge(from, to, kind));
    refused(&of("END", "b", P), &["leads nowhere"]);
    refused(&of("a", "c", P), &["no node \"c\""]);
    refused(&of("c", "a", P), &["no node \"c\""]);
    refused(&of("a", "b", "teleport"), &["\"a\" → \"b\"", "unknown", "for_each"]);
    refused(&of("b", "b", "on_error"), &["\"b\"", "own error", "Retry"]);
    refused(&of("b", "END", "for_each"), &["nothing would run"]);
    refused(&of("a", "b", P), &["\"a\" → \"b\"", "twice"]);
    refused(&with(json!({"from": "a", "to": "b", "kind": "when"})), &["needs a condition"]);
    refused(&with(json!({"from": "a", "to": "b", "kind": "switch"})), &["needs a condition"]);
    refused(&with(json!({"from": "a", "to": "b", "kind": "for_each"})), &["over"]);
    refused(&with(json!({"from": "a", "to": "b", "kind": "when", "when": "x &&"})), &["x &&", "correct"]);
}

#[test]
fn kinds_cannot_be_mixed_in_one_edge() {
    for (kind, member, value) in [
        ("goto", "over", json!("items")),
        ("goto", "when", json!("x")),
        ("on_error", "when", json!("x")),
        ("on_error", "over", json!("items")),
        ("plain", "bind", json!("item")),
        ("for_each", "when", json!("x")),
        ("switch", "over", json!("items")),
        ("when", "default", json!(true)),
    ] {
        let mut bad = edge("a", "b", kind);
        bad[member] = value;
        let nodes = [json!({"name": "a"}), json!({"name": "b"})];
        let definition = json!({"name": "g", "entry": "a", "nodes": nodes, "edges": [bad]});
        refused(&definition, &["\"a\" → \"b\"", "combined", member]);
    }
}

#[test]
fn ways_out_of_one_node_are_checked_together() {
    refused(&definition(&[("a", "b", "on_error"), ("a", "c", "on_error")], &[]), &["\"a\"", "two on_error"]);
    refused(&definition(&[("a", "b", "switch"), ("a", "c", P)], &[]), &["\"a\"", "mixes a switch"]);
    refused(&definition(&[("a", "b", "default"), ("a", "c", "default")], &[]), &["two defaults"]);
    compile(&[("a", "b", "switch"), ("a", "c", "default"), ("a", "d", "goto"), ("a", "c", "on_error")], &[]);
}

#[test]
fn reducers_and_binds_are_checked() {
    let mut unknown = definition(&[("a", "b", P)], &[]);
    unknown["reducers"] = json!({"log": "apend"});
    refused(&unknown, &["\"log\"", "\"apend\"", "append"]);

    let mut reduced = definition(&[("a", "b", "for_each")], &[]);
    reduced["reducers"] = json!({"item_index": "add"});
    refused(&reduced, &["item_index", "bind="]);

    let mut hidden = definition(&[("a", "b", "for_each")], &[]);
    hidden["edges"][0]["over"] = json!("item");
    refused(&hidden, &["\"a\"", "hide the array", "bind="]);

    let mut double = definition(&[("a", "b", "for_each"), ("a", "c", "for_each")], &[]);
    double["edges"][1]["bind"] = json!("item_index");
    refused(&double, &["\"a\"", "item_index", "two meanings"]);
}

#[test]
fn a_node_nobody_leads_to_is_refused() {
    refused(&definition(&[("a", "b", P), ("c", "b", P)], &[]), &["\"c\"", "cannot be reached", "\"a\""]);
}

#[test]
fn a_graph_that_can_never_finish_is_refused() {
    refused(&definition(&[("a", "b", P), ("b", "a", P)], &[]), &["no way leads to END", "\"a\""]);
    compile(&[("a", "b", "when"), ("b", "a", P)], &[]);
    compile(&[("a", "b", P), ("b", "a", "goto")], &[]);
}

#[test]
fn a_cohort_meets_in_one_fan_in() {
    let graph =
        compile(&[("s", "a", P), ("s", "b", P), ("a", "j", P), ("b", "j", P), ("j", "END", P)], &["j"]);
    assert_eq!(join_of(&graph, "s"), "j");
    refused(
        &definition(&[("s", "a", P), ("s", "b", P), ("a", "j", P), ("b", "k", P)], &["j", "k"]),
        &["\"s\"", "\"j\"", "\"k\"", "fan_in(…)"],
    );
}

#[test]
fn an_outermost_cohort_may_run_to_the_end() {
    let graph = compile(&[("s", "a", P), ("s", "b", P), ("b", "END", P)], &[]);
    assert_eq!(join_of(&graph, "s"), "END");
    let direct = compile(&[("s", "a", "when"), ("s", "END", "when")], &[]);
    assert_eq!(join_of(&direct, "s"), "END");
    refused(
        &definition(&[("s", "a", P), ("s", "b", P), ("a", "j", P)], &["j"]),
        &["\"s\"", "\"j\"", "\"END\"", "do not meet"],
    );
}

#[test]
fn an_inner_cohort_needs_a_fan_in() {
    refused(
        &definition(&[("s", "a", "for_each"), ("a", "b", "for_each")], &[]),
        &["\"b\"", "cohort of \"a\" inside that of \"s\"", "fan_in(…)"],
    );
    let graph = compile(&[("s", "a", "for_each"), ("a", "b", "for_each"), ("b", "j", P)], &["j"]);
    assert_eq!((join_of(&graph, "s"), join_of(&graph, "a")), ("END".into(), "j".into()));
}

#[test]
fn a_branch_reaches_its_join_by_any_edge() {
    for kind in ["switch", "goto", "when"] {
        let graph = compile(&[("s", "a", "for_each"), ("a", "j", kind)], &["j"]);
        assert_eq!(join_of(&graph, "s"), "j", "{kind}");
    }
    let edges = [("s", "a", "for_each"), ("a", "b", P), ("a", "j", "on_error"), ("b", "j", "goto")];
    assert_eq!(join_of(&compile(&edges, &["j"]), "s"), "j");
    // An on_error edge alone is no way out for a success, which would end inside the cohort.
    refused(
        &definition(&[("s", "a", "for_each"), ("a", "j", "on_error")], &["j"]),
        &["\"s\"", "\"j\"", "\"END\""],
    );
}

#[test]
fn a_fan_in_needs_an_open_cohort() {
    refused(&definition(&[("a", "j", P)], &["j"]), &["\"j\"", "no cohort is open", "\"a\""]);
    refused(&definition(&[("j", "a", P)], &["j"]), &["\"j\"", "entry"]);
}

#[test]
fn a_source_may_lead_straight_to_its_own_join() {
    for kind in [P, "goto", "on_error"] {
        let graph = compile(&[("s", "a", "for_each"), ("s", "j", kind), ("a", "j", P)], &["j"]);
        assert_eq!(join_of(&graph, "s"), "j", "{kind}");
    }
    refused(
        &definition(
            &[
                ("o", "s", "for_each"),
                ("s", "a", "for_each"),
                ("a", "j", P),
                ("j", "k", P),
                ("s", "k", "on_error"),
            ],
            &["j", "k"],
        ),
        &["\"s\"", "\"k\"", "put a node between"],
    );
}

#[test]
fn a_source_may_be_overridden_to_the_end_but_not_into_a_branch() {
    let edges = [("s", "a", "for_each"), ("a", "j", P), ("s", "END", "goto"), ("s", "h", "on_error")];
    compile(&edges, &["j"]);
    let edges = [("s", "a", "for_each"), ("a", "j", P), ("s", "a", "goto")];
    refused(
        &definition(&edges, &["j"]),
        &["\"a\"", "cohort of \"s\"", "outside every cohort", "another name"],
    );
    let edges = [("s", "a", "for_each"), ("a", "j", P), ("a", "END", "goto")];
    refused(&definition(&edges, &["j"]), &["\"s\"", "\"a\""]);
}

#[test]
fn a_node_has_one_place() {
    let edges = [("s", "a", "for_each"), ("a", "j", P), ("j", "a", P)];
    refused(&definition(&edges, &["j"]), &["\"a\"", "\"j\"", "outside every cohort", "same task"]);
    let laps =
        compile(&[("s", "a", "for_each"), ("a", "j", P), ("j", "s", "goto"), ("a", "a", "goto")], &["j"]);
    assert_eq!(join_of(&laps, "s"), "j");
}

#[test]
fn a_cohort_without_any_meeting_is_refused() {
    refused(&definition(&[("s", "a", "for_each"), ("a", "a", "switch")], &[]), &["\"s\"", "ever reaches"]);
}

#[test]
fn a_branch_of_requested_ways_may_end_where_branches_end() {
    let graph = compile(&[("s", "a", "for_each"), ("a", "a", "goto")], &[]);
    assert_eq!(join_of(&graph, "s"), "END");
}

#[test]
fn failure_policies_fit_their_cohort() {
    let mut edges = definition(&[("s", "a", P), ("s", "b", P)], &[]);
    edges["nodes"][0]["on_failure"] = json!({"policy": "first", "n": 2});
    let graph = Graph::compile(&edges.to_string()).unwrap();
    assert_eq!(graph.node(graph.entry()).on_failure, FailurePolicy::First(2));
    edges["nodes"][0]["on_failure"]["n"] = json!(3);
    refused(&edges, &["\"s\"", "first 3", "opens 2"]);
}

#[test]
fn sources_know_their_binds_and_handlers() {
    let graph = compile(&[("s", "a", "for_each"), ("a", "END", P), ("s", "h", "on_error")], &[]);
    let source = graph.node(graph.entry());
    assert!(source.is_fan_out);
    assert_eq!(source.binds, [["item".into(), "item_index".into(), "item_count".into()]]);
    assert_eq!(source.on_error, graph.find("h").map(Target::Node));
    assert_eq!(&*graph.each_edge(0).over, "items");
}
