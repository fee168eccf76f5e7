"""Cohorts: branches side by side, joined by reducers, in an order that no timing changes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from penstock import App, Engine, First, Flow, Graph, Tolerate
from penstock.errors import Permanent

app = App("cohorts")


@app.task
def start(flow: Flow) -> None: ...


@app.task
def part(flow: Flow, item: int, item_index: int, item_count: int) -> dict[str, Any]:
    # The later the branch, the sooner it is done: arrival is the reverse of the order of the fold.
    time.sleep((item_count - item_index) * 0.001)
    return {
        "seen": [item],
        "total": item,
        "low": item,
        "high": item,
        "text": str(item),
        "tags": {str(item): True},
    }


@app.task
def add_lap(flow: Flow, item: int, laps: int = 0) -> dict[str, Any]:
    if laps + 1 < item:
        flow.goto("part")
    return {"laps": laps + 1, "seen": [f"{item}.{laps}"]}


@app.task
def choose(flow: Flow, item: int) -> dict[str, Any]:
    if item < 0:
        raise Permanent("negative", data=item)
    return {"seen": [item]}


@app.task
def mend(on_error: dict[str, Any]) -> dict[str, Any]:
    return {"seen": [f"mended {on_error['data']}"]}


@app.task
def inner(flow: Flow, row: list[int]) -> dict[str, Any]:
    return {"seen": ["row"], "cells": row}


@app.task
def cell(flow: Flow, item: int) -> dict[str, Any]:
    return {"seen": [item], "total": item}


@app.task
def join(flow: Flow) -> dict[str, Any]:
    return {"seen": ["join"], "left": sorted(name for name in flow if name.startswith(("item", "row")))}


def reduced(name: str) -> Graph:
    graph = app.graph(name)
    for field, reducer in (
        ("seen", "append"),
        ("total", "add"),
        ("low", "min"),
        ("high", "max"),
        ("text", "concat"),
        ("tags", "merge"),
    ):
        graph.reducer(field, reducer)
    return graph


reduced("each").chain(start).for_each(start, part, over="items").edge(part, join).fan_in(join)
reduced("each_to_end").chain(start).for_each(start, cell, over="items")
reduced("laps").node("start", start).node("part", add_lap).for_each("start", "part", over="items").goto(
    "part", "part"
).edge("part", join).fan_in(join)
reduced("mended").chain(start).for_each(start, choose, over="items").on_error(choose, mend).edge(
    choose, join
).edge(mend, join).fan_in(join)
reduced("drained").chain(start).for_each(start, choose, over="items").edge(choose, join).fan_in(join)
for policy, name in ((Tolerate(1), "tolerant"), (First(2), "first")):
    reduced(name).node("start", start, on_failure=policy).for_each("start", choose, over="items").edge(
        choose, join
    ).fan_in(join)
reduced("nested").chain(start).for_each(start, inner, over="rows", bind="row").for_each(
    inner, cell, over="cells"
).node("inner join", join).edge(cell, "inner join").fan_in("inner join").edge("inner join", join).fan_in(join)


def run(engine: Engine, workflow: str, **state: Any) -> dict[str, Any]:
    outcome = engine.run(workflow, state, timeout=20)
    assert (outcome.status, outcome.error) == ("completed", None)
    return dict(outcome.state)


def test_branches_join_in_the_order_of_the_array_whatever_order_they_end_in(engine: Engine) -> None:
    state = run(engine, "each", items=[5, 3, 9, 1], seen=["input"], total=100)
    assert state["seen"] == ["input", 5, 3, 9, 1, "join"]
    assert (state["total"], state["low"], state["high"], state["text"]) == (118, 1, 9, "5391")
    assert state["tags"] == {"5": True, "3": True, "9": True, "1": True}
    assert state["left"] == ["items"], "element, index and count are gone after the join"


@pytest.mark.parametrize("state", [{"items": []}, {}, {"items": None}])
def test_an_empty_cohort_runs_its_join_at_once(engine: Engine, state: dict[str, Any]) -> None:
    assert run(engine, "each", **state)["seen"] == ["join"]


def test_what_is_no_array_is_an_error_of_the_source(engine: Engine) -> None:
    outcome = engine.run("each", {"items": 7}, timeout=10)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("condition", "start")


def test_a_cohort_may_join_at_the_end(engine: Engine) -> None:
    state = run(engine, "each_to_end", items=list(range(100)))
    assert state["seen"] == list(range(100))
    assert state["total"] == sum(range(100))


def test_every_lap_of_a_branch_contributes(engine: Engine) -> None:
    state = run(engine, "laps", items=[2, 1, 3])
    assert state["seen"] == ["2.0", "2.1", "1.0", "3.0", "3.1", "3.2", "join"]


def test_an_inner_cohort_stands_at_its_place_in_its_branch(engine: Engine) -> None:
    state = run(engine, "nested", rows=[[1, 2], [], [3]])
    assert state["seen"] == ["row", 1, 2, "join", "row", "join", "row", 3, "join", "join"]
    assert state["total"] == 6


def test_a_branch_that_is_routed_still_joins(engine: Engine) -> None:
    assert run(engine, "mended", items=[1, -2, 3])["seen"] == [1, "mended -2", 3, "join"]


def test_a_failed_branch_fails_the_flow_when_its_siblings_are_done(engine: Engine) -> None:
    outcome = engine.run("drained", {"items": [1, -2, 3]}, timeout=10)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.data) == ("negative", -2)
    statuses = sorted(step.status for step in engine.history(outcome.key))
    assert statuses == ["completed", "completed", "completed", "failed"]


def test_tolerated_failures_do_not_contribute(engine: Engine) -> None:
    assert run(engine, "tolerant", items=[1, -2, 3])["seen"] == [1, 3, "join"]
    assert engine.run("tolerant", {"items": [-1, -2, 3]}, timeout=10).status == "failed"


def test_the_first_arrivals_join_and_the_rest_is_cancelled(engine: Engine) -> None:
    seen = run(engine, "first", items=list(range(20)))["seen"]
    assert len(seen) == 3
    assert seen[-1] == "join"
    assert seen[:2] == sorted(seen[:2])


def test_a_wide_cohort(engine: Engine) -> None:
    state = run(engine, "each_to_end", items=[1] * 2_000)
    assert state["total"] == 2_000


def test_history_tells_the_place_of_each_branch(engine: Engine) -> None:
    outcome = engine.run("each", {"items": [7, 8]}, timeout=10)
    steps = engine.history(outcome.key)
    assert [(step.node, step.ordinal) for step in steps] == [
        ("start", None),
        ("part", 0),
        ("part", 1),
        ("join", None),
    ]
    assert sorted(steps[3].predecessors) == [2, 3]
    assert engine.step(steps[2].key).state == {"items": [7, 8], "item": 8, "item_index": 1, "item_count": 2}
