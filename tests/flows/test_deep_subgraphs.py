"""Flows that run flows: deep, many, cancelled, and of graphs that a host's loader finds at their start."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from penstock import App, Engine, Flow, Graph
from penstock.errors import Permanent, SubgraphFailed
from tests.support.database import query
from tests.support.waiting import eventually

app = App("deep_subgraphs")


@app.task
def down(flow: Flow, depth: int) -> dict[str, Any]:
    if depth == 0:
        return {"trail": [0]}
    return {"trail": [*flow.subgraph("down", {"depth": depth - 1})["trail"], depth]}


@app.task
def fail_down(flow: Flow, depth: int) -> None:
    if depth == 0:
        raise Permanent("at_the_bottom", "no ground", data={"depth": flow["asked"]})
    flow.subgraph("fail_down", {"depth": depth - 1, "asked": flow["asked"]})


@app.task
def stay_down(flow: Flow, depth: int) -> None:
    if depth == 0:
        flow.wait_signal("never")
    flow.subgraph("stay_down", {"depth": depth - 1})


@app.task
def give_nothing(flow: Flow) -> dict[str, Any]:
    return {"child": flow.subgraph("look"), "empty": flow.subgraph("look", {})}


@app.task
def look(flow: Flow) -> dict[str, Any]:
    return {"seen": sorted(flow)}


@app.task
def call_each(flow: Flow, item: int) -> dict[str, Any]:
    return {"got": [flow.subgraph("fan", {"items": [item, item + 1]})["sum"]]}


@app.task
def add(item: int) -> dict[str, int]:
    return {"sum": item}


@app.task
def nothing(flow: Flow) -> None: ...


@app.task
def call(flow: Flow, target: str) -> dict[str, Any]:
    try:
        return {"child": flow.subgraph(target, {"n": 1})}
    except SubgraphFailed as failure:
        return {"caught": [failure.code, failure.message]}


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


for name, task in (
    ("down", down),
    ("fail_down", fail_down),
    ("stay_down", stay_down),
    ("nothing", give_nothing),
):
    app.graph(name).chain(task)
app.graph("look").chain(look)
app.graph("call").chain(call)
fan = app.graph("fan").reducer("sum", "add").chain(nothing).for_each(nothing, add, over="items")
fan.node("join", nothing).edge(add, "join").fan_in("join")
each = app.graph("each").reducer("got", "append").chain(nothing).for_each(nothing, call_each, over="items")
each.node("join", nothing).edge(call_each, "join").fan_in("join")


def below(engine: Engine, key: str) -> list[str]:
    """The keys of the flows of a tree below its root, from the top down."""
    parents = {flow.parent_key: flow.key for flow in engine.list(children=True, limit=1_000)}
    found = []
    while key in parents:
        key = parents[key]
        found.append(key)
    return found


def test_a_flow_ten_flows_deep_gives_its_state_upward(engine: Engine) -> None:
    outcome = engine.run("down", {"depth": 10}, timeout=20)
    assert outcome.state["trail"] == list(range(11))
    assert len(below(engine, outcome.key)) == 10


def test_a_failure_ten_flows_deep_goes_up_with_code_message_and_data(engine: Engine) -> None:
    outcome = engine.run("fail_down", {"depth": 10, "asked": 7}, timeout=20)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("at_the_bottom", "no ground")
    assert outcome.error.data == {"depth": 7}


def test_a_cancelled_root_cancels_ten_flows_below_it(engine: Engine) -> None:
    key = engine.create("stay_down", {"depth": 10})
    eventually(lambda: len(below(engine, key)) == 10, what="ten children")
    engine.cancel(key, "enough")
    keys = below(engine, key)
    for child in keys:
        outcome = engine.wait(child, timeout=10)
        assert (outcome.status, outcome.cancel_reason) == ("cancelled", "enough")


def test_no_input_is_an_empty_one(engine: Engine) -> None:
    outcome = engine.run("nothing", {"mine": 1}, timeout=10)
    assert outcome.state["child"] == outcome.state["empty"] == {"seen": []}


def test_branches_run_children_with_branches_side_by_side(engine: Engine) -> None:
    outcome = engine.run("each", {"items": list(range(30))}, timeout=20)
    assert outcome.state["got"] == [2 * n + 1 for n in range(30)]


def test_a_tree_wider_than_the_engine_s_room_completes_all_the_same(database_url: str) -> None:
    with Engine(app, database_url, room=3) as engine:
        outcome = engine.run("each", {"items": list(range(10))}, timeout=30)
        assert outcome.state["got"] == [2 * n + 1 for n in range(10)]
        assert engine.run("down", {"depth": 6}, timeout=30).state["trail"] == list(range(7))


@app.task
def fail_when_told(flow: Flow) -> None:
    flow.wait_signal("fail")
    raise Permanent("told_to", "as it should")


both = app.graph("fast").node("open", nothing, on_failure="fail_fast").node("left", stay_down)
both.node("right", fail_when_told).fan_out("open", "left", "right")


def test_a_failed_branch_leaves_no_child_of_its_siblings_behind(engine: Engine) -> None:
    key = engine.create("fast", {"depth": 3})
    eventually(lambda: len(below(engine, key)) == 3, what="three children")
    engine.signal(key, "fail")
    outcome = engine.wait(key, timeout=10)
    assert outcome.error is not None
    assert outcome.error.code == "told_to"
    for child in below(engine, key):
        assert engine.wait(child, timeout=10).status == "cancelled"


class Loader:
    """Finds graphs by the baggage, when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def load(self, workflow: str, baggage: Mapping[str, Any]) -> Graph | None:
        self.asked.append((workflow, dict(baggage)))
        assert self.gate.wait(20)
        if workflow == "broken":
            raise RuntimeError("the shelf is empty")
        if workflow == "foreign":
            return Graph(workflow).node("a", "a_task_of_nobody")
        if workflow != "loaded":
            return None
        graph = Graph(workflow)
        names = [f"n{number}" for number in range(int(baggage["length"]))]
        for name in names:
            graph.node(name, "double")
        return graph.chain(*names)


def test_a_loader_is_asked_once_at_each_child_s_start(database_url: str) -> None:
    loader = Loader()
    with Engine(app, database_url, loader=loader) as engine:
        for length in (1, 3):
            outcome = engine.run("call", {"target": "loaded"}, baggage={"length": length}, timeout=10)
            assert outcome.state["child"] == {"n": 2**length}
            (step,) = engine.history(outcome.key)
            assert len(step.children[0]) == length
    assert loader.asked == [("loaded", {"length": 1}), ("loaded", {"length": 3})]


@pytest.mark.parametrize(
    ("workflow", "code", "says"),
    [
        ("nowhere", "not_found", "nowhere"),
        ("broken", "error", "shelf"),
        ("foreign", "invalid", "a_task_of_nobody"),
    ],
)
def test_a_graph_that_cannot_be_had_fails_the_call(
    database_url: str, workflow: str, code: str, says: str
) -> None:
    with Engine(app, database_url, loader=Loader()) as engine:
        caught = engine.run("call", {"target": workflow}, timeout=10).state["caught"]
        assert caught[0] == code
        assert says in caught[1]
        assert engine.run("call", {"target": "look"}, timeout=10).status == "completed"


def test_a_graph_that_was_not_found_before_the_end_is_asked_for_again(
    database_url: str, database: Any
) -> None:
    slow = Loader()
    slow.gate.clear()
    with Engine(app, database_url, loader=slow) as engine:
        key = engine.create("call", {"target": "loaded"}, baggage={"length": 2})
        eventually(lambda: slow.asked, what="the loader to be asked")
        assert query(database, "SELECT count(*) FROM penstock_flows") == [(1,)]
        engine.shutdown(timeout=0.1)
    slow.gate.set()
    loader = Loader()
    with Engine(app, database_url, loader=loader) as engine:
        assert engine.wait(key, timeout=10).state["child"] == {"n": 4}
    assert loader.asked == [("loaded", {"length": 2})]


def test_a_flow_that_is_cancelled_while_its_child_s_graph_is_looked_for_creates_none(
    database_url: str, database: Any
) -> None:
    loader = Loader()
    loader.gate.clear()
    with Engine(app, database_url, loader=loader) as engine:
        key = engine.create("call", {"target": "loaded"}, baggage={"length": 2})
        eventually(lambda: loader.asked, what="the loader to be asked")
        engine.cancel(key)
        loader.gate.set()
        assert (
            engine.run("call", {"target": "loaded"}, baggage={"length": 1}, timeout=10).status == "completed"
        )
    assert query(database, "SELECT count(*) FROM penstock_flows") == [(3,)]
