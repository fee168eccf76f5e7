"""Forks: new flows that go on from a step of a finished one."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import App, Engine, Flow
from penstock.errors import Conflict, Invalid, NotFound, Permanent

app = App("forks")


@app.task
def start(flow: Flow) -> dict[str, Any]:
    return {"log": ["start"]}


@app.task
def part(flow: Flow, item: int, factor: int = 1) -> dict[str, Any]:
    return {"total": item * factor, "log": [f"part {item}"]}


@app.task
def ending(flow: Flow, fail: bool = False) -> dict[str, Any]:
    if fail:
        raise Permanent("asked", "it was asked to fail")
    return {"log": ["ending"], "by": flow.key, "baggage": flow.baggage}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("?")}


@app.task
def call(flow: Flow) -> dict[str, Any]:
    return {"inner": flow.subgraph("inner", {"items": flow["items"], "log": []}), "log": ["call"]}


@app.task
def call_deep(flow: Flow) -> dict[str, Any]:
    return {"outer": flow.subgraph("outer", {"items": flow["items"], "log": []})["inner"]["total"]}


def _reduced(name: str) -> Any:
    return app.graph(name).reducer("log", "append").reducer("total", "add")


_reduced("inner").node(start).for_each(start, part, over="items").edge(part, ending).fan_in(ending)
_reduced("outer").chain(start, call, ending)
_reduced("deep").chain(call_deep, ending)
_reduced("asking").chain(start, ask, ending)

ITEMS = {"items": [1, 2, 3]}


def step_of(engine: Engine, key: str, node: str, ordinal: int | None = None) -> str:
    """The newest step of a node."""
    found = [step for step in engine.history(key) if step.node == node and ordinal in (None, step.ordinal)]
    return found[-1].key


def child_of(engine: Engine, key: str, node: str) -> str:
    """The key of the child that a node's step has called."""
    steps = next(step.children for step in engine.history(key) if step.node == node)
    return steps[0][0].key.rsplit("/", 1)[0]


def test_a_fork_goes_on_from_a_step_and_leaves_its_origin_alone(engine: Engine) -> None:
    origin = engine.run("inner", ITEMS, priority=7, fairness_key="f", baggage={"who": "me"})
    step = step_of(engine, origin.key, "ending")
    key = engine.fork(step, {"total": 100, "items": None})
    outcome = engine.wait(key, timeout=20)
    assert outcome.status == "completed"
    assert outcome.state["log"] == ["start", "part 1", "part 2", "part 3", "ending"]
    assert (outcome.state["total"], outcome.state["by"], outcome.state["baggage"]) == (
        100,
        key,
        {"who": "me"},
    )
    assert "items" not in outcome.state
    assert outcome.thread_key == origin.key
    summary = next(flow for flow in engine.list(workflow="inner").items if flow.key == key)
    assert (summary.forked_from, summary.priority, summary.fairness_key) == (step, 7, "f")
    assert engine.wait(origin.key).state == origin.state


def test_a_fork_inside_a_for_each_keeps_the_other_branches(engine: Engine) -> None:
    origin = engine.run("inner", ITEMS)
    key = engine.fork(step_of(engine, origin.key, "part", 1), {"factor": 10})
    outcome = engine.wait(key, timeout=20)
    assert outcome.state["total"] == 24
    assert outcome.state["log"] == ["start", "part 1", "part 2", "part 3", "ending"]
    assert [step.node for step in engine.history(key)] == ["part", "ending"]


def test_a_fork_of_a_failed_flow_can_mend_it(engine: Engine) -> None:
    failed = engine.run("inner", {**ITEMS, "fail": True})
    key = engine.fork(step_of(engine, failed.key, "ending"), {"fail": None})
    assert engine.wait(key, timeout=20).state["total"] == 6
    assert engine.wait(failed.key).status == "failed"


def test_a_fork_in_a_child_takes_its_ancestors_along(engine: Engine) -> None:
    origin = engine.run("deep", ITEMS)
    outer = child_of(engine, origin.key, "call_deep")
    inner = child_of(engine, outer, "call")
    key = engine.fork(step_of(engine, inner, "part", 2), {"factor": 10})
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.state["outer"]) == ("completed", 33)
    assert engine.wait(origin.key).state["outer"] == 6
    children = engine.list(workflow="outer", children=True).items
    assert {flow.parent_key for flow in children} >= {origin.key, key}


def test_a_fork_s_history_nests_the_children_that_were_forked_with_it(engine: Engine) -> None:
    origin = engine.run("deep", ITEMS)
    inner = child_of(engine, child_of(engine, origin.key, "call_deep"), "call")
    key = engine.fork(step_of(engine, inner, "part", 2))
    engine.wait(key, timeout=20)
    outer = child_of(engine, key, "call_deep")
    forked = child_of(engine, outer, "call")
    assert forked != inner
    assert [step.node for step in engine.history(forked)] == ["part", "ending"]
    assert '"called by call' in engine.history_mermaid(key)
    steps = sum(len(engine.history(each)) for each in (key, outer, forked))
    assert engine.progress(key) == {"completed": steps}
    again = engine.fork(step_of(engine, forked, "part", 2), {"factor": 10})
    assert engine.wait(again, timeout=20).state["outer"] == 33


def test_a_fork_of_a_fork_and_what_it_knows_of_the_past(engine: Engine) -> None:
    origin = engine.run("outer", ITEMS)
    fork = engine.fork(step_of(engine, origin.key, "call"))
    engine.wait(fork, timeout=20)
    again = engine.fork(step_of(engine, fork, "ending"), {"log": ["new"]})
    assert engine.wait(again, timeout=20).state["log"] == ["new", "ending"]
    with pytest.raises(NotFound, match="no step has the key"):
        engine.fork(f"{fork}/1")


def test_a_fork_restarts_from_where_it_began(engine: Engine) -> None:
    origin = engine.run("inner", ITEMS)
    key = engine.fork(step_of(engine, origin.key, "part", 0), {"factor": 5})
    assert engine.wait(key, timeout=20).state["total"] == 10
    engine.restart(key)
    assert engine.wait(key, timeout=20).state["total"] == 10
    engine.restart(key, {"factor": 1})
    assert engine.wait(key, timeout=20).state["total"] == 6


def test_a_fork_of_a_cancelled_flow_runs_what_the_cancel_had_stopped(engine: Engine) -> None:
    key = engine.create("asking", {})
    engine.wait(key, timeout=20)
    engine.cancel(key)
    fork = engine.fork(step_of(engine, key, "ask"))
    assert engine.wait(fork, timeout=20).status == "interrupted"
    engine.resume(fork, 1)
    assert engine.wait(fork, timeout=20).state["answer"] == 1


def test_only_a_finished_tree_is_forked(engine: Engine) -> None:
    key = engine.create("asking", {})
    engine.wait(key, timeout=20)
    with pytest.raises(Conflict, match="is interrupted: fork"):
        engine.fork(step_of(engine, key, "start"))
    engine.cancel(key)
    with pytest.raises(NotFound):
        engine.fork(f"{key}/77")
    with pytest.raises(NotFound):
        engine.fork(key)
    with pytest.raises(Invalid, match="`total`"):
        engine.fork(step_of(engine, key, "start"), {"total": []})
