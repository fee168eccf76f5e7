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
