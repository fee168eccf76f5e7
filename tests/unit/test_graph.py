"""The builder: what it writes, what it refuses while it is built, and what the core says of the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from penstock.errors import Invalid
from penstock.graph import END, First, Graph, Retry, Tolerate


def fetch(url: str) -> dict[str, str]:
    return {"page": url}


def parse() -> None:
    pass


def edges(graph: Graph) -> list[dict[str, object]]:
    return list(json.loads(graph.to_json())["edges"])


def nodes(graph: Graph) -> dict[str, dict[str, object]]:
    return {node["name"]: node for node in json.loads(graph.to_json())["nodes"]}


def test_a_chain_of_functions_is_a_graph_and_keeps_them() -> None:
    graph = Graph("pages").chain(fetch, parse).validate()
    assert graph.functions == {"fetch": fetch, "parse": parse}
    assert json.loads(graph.to_json()) == {
        "name": "pages",
        "entry": "fetch",
        "nodes": [
            {"name": "fetch", "task": "fetch", "fan_in": False},
            {"name": "parse", "task": "parse", "fan_in": False},
        ],
        "edges": [{"from": "fetch", "to": "parse", "kind": "plain"}],
        "reducers": {},
    }


def test_one_node_is_a_chain() -> None:
    assert list(nodes(Graph("g").chain(fetch).validate())) == ["fetch"]


def test_every_kind_of_edge_is_written() -> None:
    graph = (
        Graph("g")
        .edge("a", "b", when="n > 1")
        .for_each("b", "c", over="xs", bind="x")
        .switch("d", {"ok": "e", "late": END}, default="f")
        .goto("e", "b")
        .on_error("e", END)
        .edge("c", "d")
        .fan_in("d")
        .reducer("log", "append")
        .validate()
    )
    assert edges(graph) == [
        {"from": "a", "to": "b", "kind": "when", "when": "n > 1"},
        {"from": "b", "to": "c", "kind": "for_each", "over": "xs", "bind": "x"},
        {"from": "d", "to": "e", "kind": "switch", "when": "ok"},
        {"from": "d", "to": "END", "kind": "switch", "when": "late"},
        {"from": "d", "to": "f", "kind": "switch", "default": True},
        {"from": "e", "to": "b", "kind": "goto"},
        {"from": "e", "to": "END", "kind": "on_error"},
        {"from": "c", "to": "d", "kind": "plain"},
    ]
    assert nodes(graph)["d"]["fan_in"] is True


def test_fan_out_writes_plain_edges_in_order() -> None:
    graph = Graph("g").fan_out("a", "b", fetch, END)
    assert [edge["to"] for edge in edges(graph)] == ["b", "fetch", "END"]


def test_the_first_node_is_the_entry_unless_another_is_named() -> None:
    assert json.loads(Graph("g").edge("a", "b").to_json())["entry"] == "a"
    assert json.loads(Graph("g").edge("a", "b").entry("b").to_json())["entry"] == "b"


def test_a_node_may_run_another_task_and_have_options() -> None:
    graph = Graph("g").edge("a", "b").edge("a", "c")
    retry = Retry(3, 0.5, max_interval=10, on=(TimeoutError, "busy"))
    graph.node("a", fetch, time_budget=90, retry=retry, resource="api", on_failure=Tolerate(1)).validate()
    assert nodes(graph)["a"] == {
        "name": "a",
        "task": "fetch",
        "fan_in": False,
        "time_budget_ms": 90_000,
        "retry": {
            "max_attempts": 3,
            "initial_ms": 500,
            "multiplier": 2.0,
            "max_interval_ms": 10_000,
            "jitter": 0.1,
            "on": ["TimeoutError", "busy"],
        },
        "resource": "api",
        "on_failure": {"policy": "tolerate", "n": 1},
    }


def test_options_do_not_depend_on_when_the_node_is_declared() -> None:
    late = Graph("g").for_each("a", "b", over="xs").fan_in("j").edge("b", "j")
    early = Graph("g").node("a", on_failure=First(2)).for_each("a", "b", over="xs").fan_in("j").edge("b", "j")
    assert late.node("a", on_failure=First(2)).node("j").to_json() == early.node("j").to_json()


def test_a_decorated_function_stands_for_its_task() -> None:
    def work() -> None:
        pass

    work.__penstock_task__ = "mail.send"  # type: ignore[attr-defined]  # what the app's decorator leaves there
    graph = Graph("g").chain(work)
    assert graph.functions == {"mail.send": work}
    assert list(nodes(graph)) == ["mail.send"]


def test_json_is_read_back_as_the_same_graph() -> None:
    graph = (
        Graph("größe")
        .node("a", fetch, retry=Retry(2, 1))
        .for_each("a", "b", over="xs")
        .reducer("log", "append")
    )
    again = Graph.from_json(graph.to_json())
    assert again.to_json() == graph.to_json()
    assert Graph.from_json(graph.definition()).edge("b", END).validate().name == "größe"
    # What was read may be declared once more, such as to give it options.
    assert nodes(again.node("b", resource="api"))["b"]["resource"] == "api"


def test_definitions_are_canonical_by_the_core() -> None:
    from penstock import _core

    graph = Graph("g").edge("b", "a").node("a", fetch)
    graph_id, canonical, tasks = _core.compile_graph(graph.definition())
    assert (len(graph_id), tasks) == (32, ["b", "fetch"])
    assert canonical == graph.definition()
    spaced = json.dumps(json.loads(canonical), indent=2).encode()
    assert _core.compile_graph(spaced) == (graph_id, canonical, tasks)


@pytest.mark.parametrize("direction", ["LR", "RL", "TB", "BT"])
def test_a_graph_is_drawn_in_four_directions(direction: str) -> None:
    chart = Graph("g").chain("a", 'b"]; click').mermaid(direction)  # type: ignore[arg-type]  # each of the four
    assert chart.startswith(f"flowchart {direction}\n")
    assert "click" in chart
    assert '"];' not in chart


def test_a_fifth_direction_is_refused() -> None:
    with pytest.raises(Invalid, match="LR, RL, TB or BT"):
        Graph("g").chain("a").mermaid("TD")  # type: ignore[arg-type]  # a wrong value is the subject


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "blank name": (lambda: Graph(" "), "name of a graph"),
    "node of another type": (lambda: Graph("g").edge("a", 5), "node of graph 'g' is 5"),  # type: ignore[arg-type]
    "node named END": (lambda: Graph("g").node(END), "END ends a branch"),
    "edge from END": (lambda: Graph("g").edge(END, "a"), "target only"),
    "entry END": (lambda: Graph("g").entry(END), "target only"),
    "END inside a chain": (lambda: Graph("g").chain("a", END, "b"), "target only"),
    "empty chain": (lambda: Graph("g").chain(), "at least one"),
    "empty switch": (lambda: Graph("g").switch("a", {}), "no arms"),
    "blank condition": (lambda: Graph("g").edge("a", "b", when=" "), "condition of an edge"),
    "node declared twice": (lambda: Graph("g").node("a").node("a"), "declared twice"),
    "two functions of one name": (lambda: Graph("g").chain(lambda: 1, lambda: 2), "two functions"),
    "callable without a name": (lambda: Graph("g").chain(Callable_()), "has no name"),
    "two reducers": (lambda: Graph("g").reducer("x", "add").reducer("x", "min"), "keep one"),
    "retry of another type": (lambda: Graph("g").node("a", retry=3), "Retry"),  # type: ignore[arg-type]
    "policy of another name": (lambda: Graph("g").node("a", on_failure="x"), "fail_fast"),  # type: ignore[arg-type]
    "no time": (lambda: Graph("g").node("a", time_budget=0), "time_budget of node 'a'"),
    "blank resource": (lambda: Graph("g").node("a", resource=""), "resource of node 'a'"),
    "no attempts": (lambda: Retry(0, 1), "max_attempts"),
    "negative delay": (lambda: Retry(1, -1), "Retry.initial"),
    "shrinking delay": (lambda: Retry(1, 1, multiplier=0.5), "Retry.multiplier"),
    "too much jitter": (lambda: Retry(1, 1, jitter=2), "Retry.jitter"),
    "lone error": (lambda: Retry(1, 1, on=ValueError), "give a tuple"),  # type: ignore[arg-type]
    "tolerate none": (lambda: Tolerate(0), "Tolerate"),
    "first of none": (lambda: First(0), "First"),
}


class Callable_:  # noqa: N801  # stands for any callable object without a name
    def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_refused_at_once(case: str) -> None:
    build, words = REFUSED[case]
    with pytest.raises(Invalid, match=words.replace("(", r"\(")):
        build()


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (Graph("g"), "no nodes"),
        (Graph("g").edge("a", "b", when="n >"), "n >"),
        (Graph("g").chain("a").reducer("x", "apend"), "apend"),
        (Graph("g").fan_out("a", "b", "c").edge("b", "j").fan_in("j"), '"a".*do not meet'),
        (Graph("g").chain("a", "b").entry("b"), '"a" cannot be reached'),
        (Graph("g").chain("a", "\ud800"), "UTF-8"),
    ],
)
def test_what_means_nothing_is_refused_with_its_node(graph: Graph, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        graph.validate()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "g", "entry": "a", "nodes": []}', b"\xff"])
def test_what_is_no_graph_is_not_read(text: str | bytes) -> None:
    with pytest.raises(Invalid):
        Graph.from_json(text)


def test_building_a_graph_loads_neither_the_database_nor_telemetry() -> None:
    script = (
        "import sys, penstock.graph; print([m for m in ('sqlalchemy', 'opentelemetry') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert loaded.stdout.strip() == "[]"
