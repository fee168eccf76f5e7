//! A graph as a Mermaid flowchart, one that breaks a rule too: a drawing shows best what is wrong with it.
//!
//! Nothing an author wrote reaches the chart as it is: nodes are numbered, and in every label whatever Mermaid, HTML
//! or Markdown could read as its own is a numeric character reference.

use std::fmt::Write as _;

use super::definition::{Definition, EdgeDef, NodeDef};
use super::{Graph, END};
use crate::error::{Error, Result};

const DIRECTIONS: [&str; 4] = ["LR", "RL", "TB", "BT"];

/// The graph as Mermaid text, drawn in `direction`: `LR`, `RL`, `TB` or `BT`.
///
/// # Errors
/// `invalid` for any other direction, and for a text that is no definition.
pub fn mermaid(definition: &str, direction: &str) -> Result<String> {
    let drawn = Drawing::of(Definition::parse(definition)?, definition);
    let mut chart = head(direction)?;
    line(&mut chart, format_args!("start((START))"));
    for (ix, node) in drawn.nodes.iter().enumerate() {
        draw_node(ix, node, &mut chart);
    }
    for ix in (0..drawn.nodes.len()).filter(|ix| drawn.is_switch(*ix)) {
        line(&mut chart, format_args!("s{ix}{{\"switch\"}}"));
    }
    if drawn.edges.iter().any(|edge| edge.to == END) {
        line(&mut chart, format_args!("stop((END))"));
    }
    if let Some(entry) = drawn.place(&drawn.entry) {
        line(&mut chart, format_args!("start --> {entry}"));
    }
    for ix in (0..drawn.nodes.len()).filter(|ix| drawn.is_switch(*ix)) {
        line(&mut chart, format_args!("n{ix} --> s{ix}"));
    }
    for edge in &drawn.edges {
        drawn.edge(edge, &mut chart);
    }
    Ok(chart)
}

/// The first line of a flowchart in `direction`.
///
/// # Errors
/// `invalid` for a direction that does not exist.
pub fn head(direction: &str) -> Result<String> {
    if DIRECTIONS.contains(&direction) {
        return Ok(format!("flowchart {direction}\n"));
    }
    Err(Error::invalid(format!("the direction {direction:?} is unknown; use LR, RL, TB or BT")))
}

struct Drawing {
    entry: String,
    nodes: Vec<NodeDef>,
    edges: Vec<EdgeDef>,
}

impl Drawing {
    fn of(definition: Definition, text: &str) -> Self {
        let Definition { entry, nodes, mut edges, .. } = definition;
        let leads_on =
            |node: &&NodeDef| edges.iter().any(|edge| edge.from == node.name && edge.kind != "on_error");
        let implicit: Vec<String> = if let Ok(graph) = Graph::compile(text) {
            graph.edges[edges.len()..].iter().map(|edge| graph.node(edge.from).name.to_string()).collect()
        } else {
            nodes.iter().filter(|node| !leads_on(node)).map(|node| node.name.clone()).collect()
        };
        edges.extend(implicit.into_iter().map(|from| EdgeDef {
            from,
            to: END.to_owned(),
            kind: "plain".to_owned(),
            ..EdgeDef::default()
        }));
        Self { entry, nodes, edges }
    }

    /// The name in the chart of a node or of `END`.
    fn place(&self, name: &str) -> Option<String> {
        if name == END {
            return Some("stop".to_owned());
        }
        self.nodes.iter().position(|node| node.name == name).map(|ix| format!("n{ix}"))
    }

    fn is_switch(&self, ix: usize) -> bool {
        self.edges.iter().any(|edge| edge.kind == "switch" && edge.from == self.nodes[ix].name)
    }

    fn edge(&self, edge: &EdgeDef, chart: &mut String) {
        let (Some(mut from), Some(to)) = (self.place(&edge.from), self.place(&edge.to)) else { return };
        let when = || label(edge.when.as_deref().unwrap_or_default());
        let (arrow, words) = match edge.kind.as_str() {
            "when" => ("-->", format!("when {}", when())),
            "switch" => {
                from.replace_range(0..1, "s");
                ("-->", if edge.default { "default".to_owned() } else { when() })
            }
            "for_each" => {
                let [bind, over] =
                    [&edge.bind, &edge.over].map(|name| label(name.as_deref().unwrap_or_default()));
                ("==>", format!("for each {bind} in {over}"))
            }
            "goto" => ("-.->", "goto".to_owned()),
            "on_error" => ("-.-x", "on error".to_owned()),
            _ => ("-->", String::new()),
        };
        if words.is_empty() {
            line(chart, format_args!("{from} {arrow} {to}"));
        } else {
            line(chart, format_args!("{from} {arrow}|\"{words}\"| {to}"));
        }
    }
}

fn draw_node(ix: usize, node: &NodeDef, chart: &mut String) {
    let words = if node.name == node.task {
        label(&node.name)
    } else {
        format!("{} ({})", label(&node.name), label(&node.task))
    };
    if node.fan_in {
        line(chart, format_args!("n{ix}{{{{\"{words}\"}}}}"));
    } else {
        line(chart, format_args!("n{ix}[\"{words}\"]"));
    }
}

fn line(chart: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(chart, "    {text}");
}

/// `text` as it may stand between the quotes of a label.
///
/// Letters and digits of every script stay, and `. , _ -` between two of them; anything else is a reference.
pub fn label(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut before: Option<char> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let next = rest.clone().next();
        let is_inside = [before, next].iter().all(|beside| beside.is_some_and(char::is_alphanumeric));
        match c {
            _ if c.is_alphanumeric() || c == ' ' => safe.push(c),
            '.' | ',' | '_' | '-' if is_inside => safe.push(c),
            _ if c.is_control() => safe.push(' '),
            _ => {
                let _ = write!(safe, "#{};", u32::from(c));
            }
        }
        before = Some(c);
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
        let chart = mermaid(ORDER, "LR").unwrap();
        let expected = r#"flowchart LR
    start((START))
    n0["split"]
    n1["pack (pack_item)"]
    n2{{"ship"}}
    n3["alarm"]
    s2{"switch"}
    stop((END))
    start --> n0
    n2 --> s2
    n0 ==>|"for each item in items"| n1
    n1 --> n2
    n2 -.->|"goto"| n0
    n2 -.-x|"on error"| n3
    s2 -->|"late #62; 3"| n3
    s2 -->|"default"| stop
    n3 --> stop
"#;
        assert_eq!(chart, expected);
    }

    #[test]
    fn four_directions_and_no_fifth() {
        for direction in DIRECTIONS {
            assert!(mermaid(ORDER, direction).unwrap().starts_with(&format!("flowchart {direction}\n")));
        }
        assert!(mermaid(ORDER, "TD\nclick n0").unwrap_err().message.contains("LR, RL, TB or BT"));
    }

    #[test]
    fn nothing_an_author_wrote_is_markup() {
        let text = r#"{"name":"g","entry":"a\"];\n<script>%%{init}%%`#","nodes":[{"name":"a\"];\n<script>%%{init}%%`#"}]}"#;
        let chart = mermaid(text, "TB").unwrap();
        let label = chart.lines().find(|line| line.contains("n0[")).unwrap();
        let inner = label.trim().strip_prefix("n0[\"").unwrap().strip_suffix("\"]").unwrap();
        assert!(inner.chars().all(|c| c.is_alphanumeric() || "#; ".contains(c)), "{inner}");
        assert_eq!(chart.lines().count(), 6);
    }

    #[test]
    fn letters_of_every_script_stay() {
        assert_eq!(label("Größe_é.日本-1"), "Größe_é.日本-1");
    }

    #[test]
    fn nothing_is_read_as_markdown() {
        for (text, safe) in
            [("- a", "#45; a"), ("1. a", "1#46; a"), ("_a_", "#95;a#95;"), ("**a**", "#42;#42;a#42;#42;")]
        {
            assert_eq!(label(text), safe);
        }
    }

    #[test]
    fn a_graph_that_breaks_rules_is_drawn_too() {
        let text = r#"{"name":"","entry":"zz","nodes":[{"name":"a"},{"name":"b"},{"name":"lost"}],
            "edges":[{"from":"a","to":"b","kind":"when","when":"n >"},{"from":"a","to":"zz","kind":"plain"}]}"#;
        let chart = mermaid(text, "LR").unwrap();
        assert!(chart.contains("n0 -->|\"when n #62;\"| n1"), "{chart}");
        assert!(chart.contains("n2 --> stop"), "{chart}");
    }
}
