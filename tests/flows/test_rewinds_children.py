"""Going back in trees: a step of a child takes its ancestors along, and a parent that goes back leaves its children."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import App, Engine, Flow
from penstock.errors import Conflict, Invalid, Permanent, SubgraphFailed
from tests.support.waiting import eventually

app = App("rewinds of trees")


@app.task
def work(flow: Flow, n: int, bad: bool = False) -> dict[str, Any]:
    if bad:
        raise Permanent("bad", "the work is bad")
    return {"result": n * 10}


@app.task
def tidy(flow: Flow) -> dict[str, Any]:
    return {"tidied": True}


@app.task
def call(flow: Flow, n: int = 1) -> dict[str, Any]:
    inner = flow.subgraph("worker", {"n": n, "bad": flow.get("bad", bool, False)})
    return {"sum": inner["result"], "log": [inner["result"]]}


@app.task
def call_middle(flow: Flow) -> dict[str, Any]:
    inner = flow.subgraph("middle", {"n": flow["n"], "bad": flow.get("bad", bool, False)})
    return {"sum": inner["sum"]}


@app.task
def call_both(flow: Flow) -> dict[str, Any]:
    first = flow.subgraph("worker", {"n": 1}, key="first")
    try:
        second = flow.subgraph("worker", {"n": 2, "bad": True}, key="second")["result"]
    except SubgraphFailed as failure:
        second = failure.code
    return {"first": first["result"], "second": second}


@app.task
def spread(flow: Flow) -> None: ...


@app.task
def call_each(flow: Flow, item: int) -> dict[str, Any]:
    inner = flow.subgraph("worker", {"n": item, "bad": item in flow.get("bads", list, [])})
    return {"sum": inner["result"]}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"result": flow.interrupt("how many?")}


@app.task
def call_asker(flow: Flow) -> dict[str, Any]:
    return {"sum": flow.subgraph("asker", {})["result"]}


app.graph("worker").chain(work, tidy)
app.graph("asker").chain(ask)
app.graph("middle").chain(call, tidy).reducer("log", "append")
app.graph("top").chain(call_middle, tidy)
app.graph("both").chain(call_both, tidy)
app.graph("asking").chain(call_asker, tidy)
each = app.graph("each").reducer("sum", "add")
each.node(spread).for_each(spread, call_each, over="items").edge(call_each, tidy).fan_in(tidy)


def children_of(engine: Engine, key: str) -> list[str]:
    """The children of a flow, the oldest first."""
    found = engine.list(children=True, limit=1_000).items
    return sorted(flow.key for flow in found if flow.parent_key == key)


def step_of(engine: Engine, key: str, node: str) -> str:
    """The newest step of a node."""
    return [step for step in engine.history(key) if step.node == node][-1].key


def test_a_step_of_a_grandchild_runs_again_and_the_whole_tree_goes_on_from_it(engine: Engine) -> None:
    key = engine.run("top", {"n": 1}).key
    (middle,) = children_of(engine, key)
    (worker,) = children_of(engine, middle)
    engine.restart_from(step_of(engine, worker, "work"), {"n": 5})
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["sum"]) == ("completed", 50)
    assert engine.wait(middle).state["log"] == [50]
    assert children_of(engine, key) == [middle]
    assert children_of(engine, middle) == [worker]


def test_a_failed_step_of_a_child_is_retried_and_the_parent_goes_on(engine: Engine) -> None:
    failed = engine.run("top", {"n": 2, "bad": True})
    assert (failed.status, failed.error.code if failed.error else None) == ("failed", "bad")
    (middle,) = children_of(engine, failed.key)
    (worker,) = children_of(engine, middle)
    engine.retry_step(step_of(engine, worker, "work"), {"bad": False})
    outcome = engine.wait(failed.key, timeout=20)
    assert (outcome.status, outcome.state["sum"], outcome.error) == ("completed", 20, None)


def test_recover_runs_the_failed_steps_of_children_in_place_of_those_that_failed_with_them(
    engine: Engine,
) -> None:
    failed = engine.run("each", {"items": [1, 2, 3, 4], "bads": [2, 4]})
    assert failed.status == "failed"
    before = children_of(engine, failed.key)
    assert engine.recover(failed.key, {"bad": False}) == 2
    outcome = engine.wait(failed.key, timeout=20)
    assert (outcome.status, outcome.state["sum"]) == ("completed", 100)
    assert children_of(engine, failed.key) == before


def test_a_parent_s_step_that_runs_again_makes_new_children(engine: Engine) -> None:
    key = engine.run("top", {"n": 1}).key
    engine.restart_from(step_of(engine, key, "call_middle"), {"n": 3})
    assert engine.wait(key, timeout=20).state["sum"] == 30
    assert len(children_of(engine, key)) == 2


def test_answers_of_other_children_stay_when_one_goes_back(engine: Engine) -> None:
    key = engine.run("both", {}).key
    first, second = sorted(children_of(engine, key), key=lambda child: engine.snapshot(child).state["n"])
    engine.retry_step(step_of(engine, second, "work"), {"bad": False})
    outcome = engine.wait(key, timeout=20)
    assert (outcome.state["first"], outcome.state["second"]) == (10, 20)
    assert set(children_of(engine, key)) == {first, second}


def test_a_restart_cancels_the_children_that_live(engine: Engine) -> None:
    key = engine.create("asking", {})
    asked = engine.wait(key, timeout=20)
    (child,) = children_of(engine, key)
    assert asked.interrupts[0].flow_key == child
    engine.restart(key)
    eventually(lambda: engine.snapshot(child).status == "cancelled", what="the old child's end")
    eventually(lambda: engine.snapshot(key).interrupts, what="the new child's question")
    engine.resume(key, 7)
    assert engine.wait(key, timeout=20).state["sum"] == 7


def test_a_step_of_a_living_child_goes_back_without_its_parent_noticing(engine: Engine) -> None:
    key = engine.create("asking", {})
    asked = engine.wait(key, timeout=20)
    engine.restart_from(asked.interrupts[0].step_key)
    eventually(lambda: engine.snapshot(key).interrupts not in ((), asked.interrupts), what="a new question")
    engine.resume(key, 8)
    assert engine.wait(key, timeout=20).state["sum"] == 8
    events = [event.kind for event in engine.history(key)[0].events if event.kind != "control"]
    assert events == ["parked", "resolved", "done"]


def test_a_child_that_goes_back_may_ask_through_its_parent_again(engine: Engine) -> None:
    key = engine.create("asking", {})
    engine.wait(key, timeout=20)
    engine.resume(key, 1)
    assert engine.wait(key, timeout=20).status == "completed"
    (child,) = children_of(engine, key)
    engine.restart_from(step_of(engine, child, "ask"))
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.interrupts[0].flow_key) == ("interrupted", child)
    engine.resume(key, 2)
    assert engine.wait(key, timeout=20).state["sum"] == 2


def test_flow_level_operations_on_a_child_are_refused(engine: Engine) -> None:
    key = engine.run("top", {"n": 1}).key
    (middle,) = children_of(engine, key)
    for refused in (engine.restart, engine.recover):
        with pytest.raises(Invalid, match="is a child"):
            refused(middle)


def test_a_child_that_its_parent_has_left_behind_does_not_go_back(engine: Engine) -> None:
    key = engine.run("top", {"n": 1}).key
    (old,) = children_of(engine, key)
    engine.restart_from(step_of(engine, key, "call_middle"))
    outcome = engine.wait(key, timeout=20)
    with pytest.raises(Conflict, match="does not wait for that child any more"):
        engine.restart_from(step_of(engine, old, "call"))
    assert engine.wait(key, timeout=20).state == outcome.state
    assert engine.wait(old, timeout=20).status == "completed"


def test_of_many_who_recover_a_flow_one_wins(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            failed = engine.run("top", {"n": 1, "bad": True})

            def race(_: int, key: str = failed.key) -> int | str:
                try:
                    return engine.recover(key, {"bad": False})
                except Conflict as conflict:
                    return conflict.message

            answers = list(pool.map(race, range(4)))
            assert [answer for answer in answers if isinstance(answer, int)] == [1], answers
            assert engine.wait(failed.key, timeout=20).state["sum"] == 10
