//! A graph as a Mermaid flowchart.
//!
//! Nothing an author wrote reaches the chart as it is: nodes are numbered, and in every label whatever
//! is not a letter, a digit or harmless punctuation is a numeric character reference.

use std::fmt::Write as _;

use super::{Edge, Graph, Target, Way};
use crate::error::{Error, Result};

const DIRECTIONS: [&str; 4] = ["LR", "RL", "TB", "BT"];

/// The graph as Mermaid text, drawn in `direction`: `LR`, `RL`, `TB` or `BT`.
///
/// # Errors
/// `invalid` for any other direction.
pub fn mermaid(graph: &Graph, direction: &str) -> Result<String> {
    if !DIRECTIONS.contains(&direction) {
        return Err(Error::invalid(format!("the direction {direction:?} is unknown; use LR, RL, TB or BT")));
    }
    let mut chart = format!("flowchart {direction}\n    start((START))\n");
    for ix in 0..graph.nodes.len() {
        draw_node(graph, ix, &mut chart);
    }
    if graph.edges.iter().any(|edge| edge.to == Target::End) {
        chart.push_str("    stop((END))\n");
    }
    line(&mut chart, format_args!("start --> n{}", graph.entry));
    for edge in &graph.edges {
        draw_edge(edge, &mut chart);
    }
    Ok(chart)
}

fn draw_node(graph: &Graph, ix: usize, chart: &mut String) {
    let node = &graph.nodes[ix];
    let label = if node.name == node.task {
        escape(&node.name)
    } else {
        format!("{} ({})", escape(&node.name), escape(&node.task))
    };
    if node.is_fan_in {
        line(chart, format_args!("n{ix}{{{{\"{label}\"}}}}"));
    } else {
        line(chart, format_args!("n{ix}[\"{label}\"]"));
    }
}

fn draw_edge(edge: &Edge, chart: &mut String) {
    let arrow = if edge.way.is_success() { "-->" } else { "-.->" };
    let label = label(&edge.way).map_or_else(String::new, |label| format!("|\"{label}\"|"));
    match edge.to {
        Target::Node(to) => line(chart, format_args!("n{} {arrow}{label} n{to}", edge.from)),
        Target::End => line(chart, format_args!("n{} {arrow}{label} stop", edge.from)),
    }
}

fn label(way: &Way) -> Option<String> {
    match way {
        Way::Plain => None,
        Way::When(condition) | Way::Switch(Some(condition)) => Some(escape(condition.text())),
        Way::Switch(None) => Some("default".to_owned()),
        Way::ForEach(each) => Some(format!("for each {} in {}", escape(&each.bind[0]), escape(&each.over))),
        Way::Goto => Some("goto".to_owned()),
        Way::OnError => Some("on error".to_owned()),
    }
}

fn line(chart: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(chart, "    {text}");
}

/// `text` with every character that Mermaid or HTML could read as its own made a reference.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | '_' | '-') => safe.push(c),
            _ if c.is_control() => safe.push(' '),
            _ => {
                let _ = write!(safe, "#{};", u32::from(c));
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"name":"order","entry":"split","nodes":[{"name":"split"},{"name":"pack","task":"pack_item"},
        {"name":"ship","fan_in":true},{"name":"alarm"}],"edges":[
        {"from":"split","to":"pack","kind":"for_each","over":"items"},{"from":"pack","to":"ship","kind":"plain"},
        {"from":"ship","to":"split","kind":"goto"},{"from":"ship","to":"alarm","kind":"on_error"},
        {"from":"ship","to":"alarm","kind":"switch","when":"late > 3"},
        {"from":"ship","to":"END","kind":"switch","default":true}]}"#;

    #[test]
    fn every_node_and_edge_is_drawn() {
        let chart = mermaid(&Graph::compile(ORDER).unwrap(), "LR").unwrap();
        let expected = r#"flowchart LR
    start((START))
    n0["split"]
    n1["pack (pack_item)"]
    n2{{"ship"}}
    n3["alarm"]
    stop((END))
    start --> n0
    n0 -->|"for each item in items"| n1
    n1 --> n2
    n2 -.->|"goto"| n0
    n2 -.->|"on error"| n3
    n2 -->|"late #62; 3"| n3
    n2 -->|"default"| stop
    n3 --> stop
"#;
        assert_eq!(chart, expected);
    }

    #[test]
    fn four_directions_and_no_fifth() {
        let graph = Graph::compile(ORDER).unwrap();
        for direction in DIRECTIONS {
            assert!(mermaid(&graph, direction).unwrap().starts_with(&format!("flowchart {direction}\n")));
        }
        assert!(mermaid(&graph, "TD\nclick n0").unwrap_err().message.contains("LR, RL, TB or BT"));
    }

    #[test]
    fn nothing_an_author_wrote_is_markup() {
        let text = r#"{"name":"g","entry":"a\"];\n<script>%%{init}%%`#","nodes":[{"name":"a\"];\n<script>%%{init}%%`#"}]}"#;
        let chart = mermaid(&Graph::compile(text).unwrap(), "TB").unwrap();
        let label = chart.lines().find(|line| line.contains("n0[")).unwrap();
        let inner = label.trim().strip_prefix("n0[\"").unwrap().strip_suffix("\"]").unwrap();
        assert!(inner.chars().all(|c| c.is_alphanumeric() || "#; ".contains(c)), "{inner}");
        assert_eq!(chart.lines().count(), 6);
    }

    #[test]
    fn letters_of_every_script_stay() {
        assert_eq!(escape("Größe_é.日本-1"), "Größe_é.日本-1");
    }
}
