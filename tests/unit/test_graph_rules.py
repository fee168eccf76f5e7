"""The rules of graphs: what is accepted, and what is refused with its node, the reason and a way out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from penstock import END, First, Graph, Retry, Tolerate
from penstock.errors import Invalid


def g() -> Graph:
    return Graph("g")


def pair(graph: Graph, source: str = "a", b: str = "b", c: str = "c", join: str = "j") -> Graph:
    """A fan-out of two branches with its join."""
    return graph.fan_out(source, b, c).edge(b, join).edge(c, join).fan_in(join)


def read(nodes: list[Any], *edges: dict[str, Any]) -> Graph:
    named = [{"name": node} if isinstance(node, str) else node for node in nodes]
    return Graph.from_json(
        json.dumps({"name": "g", "entry": named[0]["name"], "nodes": named, "edges": edges})
    )


def edge(kind: str, a: str = "a", b: str = "END", **members: Any) -> dict[str, Any]:
    return {"from": a, "to": b, "kind": kind, **members}


ACCEPTED: dict[str, Callable[[], Graph]] = {
    "one node": lambda: g().chain("a"),
    "whens that exclude each other, to END": lambda: g().edge("a", "b", when="x").edge("a", "c", when="!x"),
    "exclusive branches by switch need no join": lambda: (
        g().switch("a", {"x": "b"}, default="c").edge("b", "d").edge("c", "d")
    ),
    "a source that asks for END": lambda: pair(g()).goto("a", END),
    "a source that asks for its own join": lambda: pair(g()).goto("a", "j"),
    "a source that fails into its own join": lambda: pair(g()).on_error("a", "j"),
    "a source that asks for a way beside its cohort": lambda: pair(g()).goto("a", "x"),
    "a branch that asks for the join": lambda: pair(g()).goto("b", "j"),
    "a branch that fails into the join": lambda: pair(g()).on_error("b", "j"),
    "a branch that asks for a sibling's node": lambda: pair(g()).goto("b", "c"),
    "a loop over a fan-out": lambda: pair(g()).goto("j", "a"),
    "a loop by a plain edge": lambda: g().edge("a", "b").switch("b", {"x": "a"}, default=END),
    "a handler of two branches": lambda: pair(g()).on_error("b", "h").on_error("c", "h").edge("h", "j"),
    "branches that share a tail": lambda: (
        g().fan_out("a", "b", "c").edge("b", "t").edge("c", "t").edge("t", "j").fan_in("j")
    ),
    "a cohort after a cohort": lambda: pair(pair(g()).edge("j", "x"), "x", "y", "z", "k"),
    "an inner join that leads to the outer join": lambda: (
        g()
        .fan_out("a", "b", "c")
        .fan_out("b", "d", "e")
        .edge("d", "i")
        .edge("e", "i")
        .fan_in("i")
        .edge("i", "j")
        .edge("c", "j")
        .fan_in("j")
    ),
    "all branches to END": lambda: g().fan_out("a", "b", "c"),
    "an edge straight to END beside a branch": lambda: g().edge("a", END).edge("a", "b"),
    "an edge straight to the join": lambda: g().fan_out("a", "b", "j").edge("b", "j").fan_in("j"),
    "a for_each straight to the join": lambda: g().for_each("a", "j", over="xs").fan_in("j"),
    "a join that only a switch reaches": lambda: (
        g().for_each("a", "b", over="xs").switch("b", {"x": "j"}, default="j").fan_in("j")
    ),
    "a join that only a goto reaches": lambda: g().for_each("a", "b", over="xs").goto("b", "j").fan_in("j"),
    "a join that a handler reaches": lambda: (
        g().for_each("a", "b", over="xs").edge("b", "j").on_error("b", "j").fan_in("j")
    ),
    "edges of several kinds out of one source": lambda: (
        g()
        .for_each("a", "b", over="xs")
        .edge("a", "c")
        .edge("a", "d", when="x")
        .edge("b", "j")
        .edge("c", "j")
        .edge("d", "j")
        .fan_in("j")
    ),
    "two for_each": lambda: (
        g()
        .for_each("a", "b", over="xs")
        .for_each("a", "c", over="ys", bind="other")
        .edge("b", "j")
        .edge("c", "j")
        .fan_in("j")
    ),
    "two sources that exclude each other and one join": lambda: pair(
        pair(g().switch("s", {"x": "a"}, default="m"), "a"), "m", "d", "e"
    ),
    "a switch that has a default only": lambda: g().switch("a", {}, default="b"),
    "a switch beside goto and on_error": lambda: (
        g().switch("a", {"x": "b"}, default=END).goto("a", "c").on_error("a", "d")
    ),
    "a lone when in a loop": lambda: g().edge("a", "b").edge("b", "a", when="x"),
    "as many as First asks for": lambda: g().node("a", on_failure=First(2)).fan_out("a", "b", "c"),
    "more than Tolerate needs": lambda: g().node("a", on_failure=Tolerate(9)).fan_out("a", "b", "c"),
    "one task at two nodes": lambda: g().node("a", "t").node("b", "t").chain("a", "b"),
    "a reducer of a field that nobody names": lambda: g().chain("a").reducer("x", "add"),
    "hard names": lambda: g().chain('a"]', "end", "%%", "<b>", "größe", "日本").reducer("\0", "add"),
}

REFUSED: dict[str, tuple[Callable[[], Graph], str, str]] = {
    # how it is built, the reason (with the node), the way out
    "no nodes": (g, "no nodes", "add one"),
    "a node there twice": (lambda: read(["a", "a"]), 'node "a" is there twice', "another name"),
    "a task without a name": (lambda: g().node("a", "b" * 256), 'the task of node "a"', "shorten"),
    "a node called END": (lambda: read(["a", "END"]), 'node is named "END"', "rename"),
    "an entry that is no node": (
        lambda: Graph.from_json('{"name":"g","entry":"b","nodes":[{"name":"a"}]}'),
        'entry "b"',
        "entry(…)",
    ),
    "an edge there twice": (
        lambda: g().edge("a", "b").edge("a", "b"),
        '"a" → "b" (plain) is there twice',
        "two nodes",
    ),
    "an edge from END": (
        lambda: read(["a"], edge("plain", "END", "a")),
        "leads nowhere",
        "start the edge at a node",
    ),
    "an edge to no node": (lambda: read(["a"], edge("plain", "a", "b")), 'no node "b"', "add it"),
    "an edge from no node": (lambda: read(["a"], edge("plain", "b", "a")), 'no node "b"', "add it"),
    "an unknown kind": (lambda: read(["a"], edge("jump")), "(jump)", "use plain, when"),
    "for_each with a condition": (
        lambda: read(["a", "b"], edge("for_each", "a", "b", over="x", when="y")),
        "`when`",
        "two edges",
    ),
    "goto with an array": (lambda: read(["a"], edge("goto", over="x")), "`over`", "two edges"),
    "a bind without an array": (lambda: read(["a"], edge("plain", bind="x")), "`bind`", "two edges"),
    "on_error with a condition": (lambda: read(["a"], edge("on_error", when="x")), "`when`", "two edges"),
    "a switch arm without a condition": (
        lambda: read(["a"], edge("switch")),
        "needs a condition",
        "plain edge",
    ),
    "a default with a condition": (
        lambda: read(["a"], edge("switch", when="x", default=True)),
        "condition and `default`",
        "two arms",
    ),
    "for_each to END": (
        lambda: read(["a"], edge("for_each", over="x")),
        "nothing would run",
        "lead it to the node",
    ),
    "two handlers": (
        lambda: g().on_error("a", "b").on_error("a", "c"),
        'node "a" has two on_error',
        "keep one",
    ),
    "a node that handles its own error": (
        lambda: g().on_error("a", "a"),
        '"a" → "a" (on_error)',
        "retry=Retry",
    ),
    "two defaults": (
        lambda: g().switch("a", {}, default="b").switch("a", {}, default="c"),
        'node "a" has two defaults',
        "keep one",
    ),
    "a switch beside a plain edge": (
        lambda: g().switch("a", {"x": "b"}).edge("a", "c"),
        'node "a" mixes',
        "arms of the switch",
    ),
    "a switch beside a when": (
        lambda: g().switch("a", {"x": "b"}).edge("a", "c", when="y"),
        'node "a" mixes',
        "arms of the switch",
    ),
    "a switch beside a for_each": (
        lambda: g().switch("a", {"x": "b"}).for_each("a", "c", over="y"),
        'node "a" mixes',
        "arms of the switch",
    ),
    "an unreachable node": (lambda: g().chain("a").node("b"), '"b" cannot be reached', "lead an edge to it"),
    "no way to END": (lambda: g().chain("a", "b", "a"), "could never finish", "add an edge"),
    "a condition that does not parse": (
        lambda: g().edge("a", "b", when="x >"),
        "`x >`",
        "correct the condition",
    ),
    "a condition that does not parse where it is never reached": (
        lambda: g().edge("a", "b", when="true || ("),
        "true || (",
        "correct",
    ),
    "a regex that does not compile": (
        lambda: g().switch("a", {"x =~ '['": "b"}, default=END),
        "does not compile",
        "correct",
    ),
    "a reducer that does not exist": (
        lambda: g().chain("a").reducer("x", "sum"),
        '"sum"',
        "one of replace, append",
    ),
    "a bound name with a reducer": (
        lambda: g().for_each("a", "b", over="xs").reducer("item_index", "add"),
        '"item_index"',
        "another bind=",
    ),
    "a bound name that hides its array": (
        lambda: g().for_each("a", "b", over="item"),
        '"item"',
        "another bind=",
    ),
    "a policy without a cohort": (
        lambda: g().node("a", on_failure="fail_fast"),
        'node "a"',
        "fan_out or for_each",
    ),
    "First of more than there are": (
        lambda: g().node("a", on_failure=First(3)).fan_out("a", "b", "c"),
        'node "a"',
        "lower",
    ),
    "a join as the entry": (
        lambda: g().chain("a", "b").fan_in("a"),
        'node "a" is the entry',
        "another entry",
    ),
    "a join on the trunk": (
        lambda: g().chain("a", "b").fan_in("b"),
        'node "b" is a fan_in',
        "open one before",
    ),
    "a join reached from the trunk too": (
        lambda: pair(g().switch("s", {"x": "a"}, default="j")),
        '"j" is a fan_in',
        "open one before",
    ),
    "branches that do not meet": (
        lambda: g().fan_out("a", "b", "c").edge("b", "j").fan_in("j"),
        'node "a" opens do not meet',
        "one fan_in",
    ),
    "branches that meet at two joins": (
        lambda: g().fan_out("a", "b", "c").edge("b", "j").edge("c", "k").fan_in("j").fan_in("k"),
        'node "a" opens do not meet',
        "switch(…)",
    ),
    "a goto out of a branch to END": (
        lambda: pair(g()).goto("b", END),
        'node "a" opens do not meet',
        "one fan_in",
    ),
    "a handler that leaves the branch": (
        lambda: pair(g()).on_error("b", "h").edge("h", END),
        'node "a" opens do not meet',
        "one fan_in",
    ),
    "a goto into a branch": (lambda: pair(g()).goto("a", "b"), 'node "b" is reached', "second node"),
    "a goto from outside into a branch": (
        lambda: pair(g().edge("s", "a")).goto("s", "b"),
        'node "b" is reached',
        "second node",
    ),
    "a loop out of a branch to its source": (
        lambda: pair(g()).goto("b", "a"),
        'node "a" is reached',
        "second node",
    ),
    "a node that is its own branch": (
        lambda: g().for_each("a", "a", over="xs"),
        'node "a" is reached',
        "second node",
    ),
    "a handler for trunk and branch": (
        lambda: pair(g()).on_error("a", "h").on_error("b", "h"),
        'node "h" is reached',
        "second node",
    ),
    "an inner cohort that ends at END": (
        lambda: g().fan_out("a", "b", "c").fan_out("b", "d", "e"),
        'inside the cohort of "b" inside that of "a"',
        "one fan_in",
    ),
    "an inner cohort that joins with the outer one": (
        lambda: (
            g()
            .fan_out("a", "b", "c")
            .fan_out("b", "d", "e")
            .edge("d", "j")
            .edge("e", "j")
            .edge("c", "j")
            .fan_in("j")
        ),
        'node "j" is reached',
        "fan_in before it",
    ),
    "whens that exclude each other and meet without a join": (
        lambda: g().edge("a", "b", when="x").edge("a", "c", when="!x").fan_out("b", "d", "e"),
        '"b"',
        "fan_in",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_this_graph_is_accepted_and_reads_back_exactly(case: str) -> None:
    graph = ACCEPTED[case]().validate()
    again = Graph.from_json(graph.to_json())
    assert again.to_json() == graph.to_json()
    assert again.definition() == graph.definition()


@pytest.mark.parametrize("case", REFUSED)
def test_this_graph_is_refused_with_its_node_the_reason_and_a_way_out(case: str) -> None:
    build, reason, way_out = REFUSED[case]
    with pytest.raises(Invalid, match=re.escape(reason)) as refusal:
        build().validate()
    assert way_out in str(refusal.value)
    assert '"g"' in str(refusal.value), "the graph"


def full() -> Graph:
    """Every option of nodes and every kind of edge."""
    retry = Retry(5, 0.5, 1.1, 30, 600, 0.25, on=("busy", ValueError), not_on=(KeyError,))
    graph = g().node("start", "t", time_budget=7, retry=retry, resource="api", on_failure=Tolerate(3))
    graph.for_each("start", "one", over="xs", bind="x").edge(
        "start", "two", when="n > 1 && s =~ '^\"\\\\d'"
    ).edge("start", "join")
    graph.edge("one", "join").edge("two", "join").fan_in("join").on_error("one", "mend").edge("mend", "join")
    graph.switch("join", {"a == 'é\0'": "last", "b": "start"}, default=END).goto("join", "last")
    for at, name in enumerate(
        ("replace", "append", "union", "add", "min", "max", "merge", "and", "or", "concat")
    ):
        graph.reducer(f"field {at}", name)
    return graph


def test_everything_that_can_be_said_survives_json() -> None:
    graph = full().validate()
    again = Graph.from_json(graph.to_json())
    assert again.to_json() == graph.to_json()
    assert again.validate().mermaid() == graph.mermaid()
    assert json.loads(again.to_json()) == json.loads(graph.to_json())


def test_the_order_of_edges_survives_json() -> None:
    graph = g().fan_out("a", *(f"b{at}" for at in range(50)))
    assert [one["to"] for one in json.loads(Graph.from_json(graph.to_json()).to_json())["edges"]] == [
        f"b{at}" for at in range(50)
    ]
