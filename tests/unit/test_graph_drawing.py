"""Graphs as Mermaid charts: every edge kind in its own way, and no name that could be read as markup."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from penstock import END, Graph
from penstock.graph import Direction

HOSTILE = [
    'a"]; click n0 "javascript:alert(1)"',
    "end",
    "a\nb --> c",
    "%% comment",
    "%%{init: {}}%%",
    "<script>alert(1)</script>",
    "&lt;b&gt;",
    "`code`",
    "[x](http://x)",
    "1. list",
    "- list",
    "**bold**",
    "subgraph",
    "style n0 fill:#f00",
    "x|y|z",
    "{{curly}}",
    "#35;",
    "\\",
    "'",
    "日本語 größe",
    "\u202e\u2028\x1b[31m",
]
LINE = re.compile(
    r"    (n\d+(\[\"[^\"]*\"\]|\{\{\"[^\"]*\"\}\})"
    r"|start\(\(START\)\)|stop\(\(END\)\)|s\d+\{\"switch\"\}"
    r"|\w+ (-->|==>|-\.->|-\.-x)(\|\"[^\"]*\"\|)? \w+)"
)


@pytest.mark.parametrize("direction", get_args(Direction))
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(name: str, direction: Direction) -> None:
    graph = (
        Graph(name)
        .node(name, "other")
        .edge(name, f"{name} 2", when=f"x == {quoted(name)}")
        .for_each(f"{name} 2", f"{name} 3", over=name, bind="it")
    )
    head, *lines = graph.mermaid(direction).splitlines()
    assert head == f"flowchart {direction}"
    for line in lines:
        assert LINE.fullmatch(line), line
        for label in re.findall(r'"([^"]*)"', line):
            text = re.sub(r"#\d+;", "", label)
            assert all(c.isalnum() or c in " .,_-()" for c in text), label
            assert not re.match(r"\d+\.|[-_]", text), f"{label} is read as Markdown"


def quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_each_kind_of_edge_is_drawn_in_its_own_way() -> None:
    graph = (
        Graph("g").edge("plain", "when").edge("when", "each", when="x").for_each("each", "choose", over="xs")
    )
    graph.switch("choose", {"x": "goto"}, default="goto").goto("goto", "error").on_error("goto", "error")
    chart = graph.mermaid()
    arrows = re.findall(r"^    \w+ (\S+?)(?:\|\"(.*)\"\|)? \w+$", chart, re.MULTILINE)
    assert arrows[2:9] == [
        ("-->", ""),
        ("-->", "when x"),
        ("==>", "for each item in xs"),
        ("-->", "x"),
        ("-->", "default"),
        ("-.->", "goto"),
        ("-.-x", "on error"),
    ]
    assert 's3{"switch"}' in chart


def test_a_join_has_a_shape_of_its_own_and_an_alias_names_its_task() -> None:
    chart = (
        Graph("g")
        .node("b", "task")
        .fan_out("a", "b", "c")
        .edge("b", "j")
        .edge("c", "j")
        .fan_in("j")
        .entry("a")
        .mermaid("TB")
    )
    assert '{{"j"}}' in chart
    assert '["b (task)"]' in chart


def test_the_end_is_drawn_where_branches_end() -> None:
    assert "n1 --> stop" in Graph("g").chain("a", "b").mermaid()
    assert 'n0 -.->|"goto"| stop' in Graph("g").goto("a", END).mermaid()


def test_a_graph_that_breaks_a_rule_is_drawn_too() -> None:
    chart = Graph("g").fan_out("a", "b", "c").edge("b", "j", when="x >").fan_in("j").mermaid()
    assert 'n1 -->|"when x #62;"| n3' in chart
