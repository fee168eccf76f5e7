"""Workflows that run others as steps, and cancelling."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, Flow, Outcome
from penstock.errors import Conflict, Invalid, Permanent, SubgraphFailed
from tests.support.database import query
from tests.support.waiting import eventually

app = App("subgraphs")


@app.task
def call(flow: Flow, target: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"child": flow.subgraph(target, given)}


@app.task
def call_three(flow: Flow) -> dict[str, Any]:
    return {"children": [flow.subgraph("square", {"n": n})["n"] for n in (2, 3, 4)]}


@app.task
def catch(flow: Flow) -> dict[str, Any]:
    try:
        return {"child": flow.subgraph("fail", {"n": 1})}
    except SubgraphFailed as failure:
        return {"caught": [failure.code, failure.message, failure.data]}


@app.task
def square(n: int) -> dict[str, Any]:
    return {"n": n * n}


@app.task
def call_each(flow: Flow, item: int) -> dict[str, Any]:
    return {"squares": [flow.subgraph("square", {"n": item})["n"]]}


@app.task
def fail(n: int) -> None:
    raise Permanent("child_failed", "as it should", data={"n": n})


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("from below")}


@app.task
def run_until_cancelled(flow: Flow, started: str) -> dict[str, Any]:
    Path(started).touch()
    while not flow.is_cancelled:
        time.sleep(0.001)
    Path(started).with_suffix(".seen").touch()
    return {"late": True}


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("call").chain(call)
app.graph("three").chain(call_three)
app.graph("catch").chain(catch)
app.graph("square").chain(square)
app.graph("fail").chain(fail)
app.graph("ask").chain(ask)
app.graph("endless").chain(run_until_cancelled, nothing)
app.graph("each").chain(nothing).for_each(nothing, call_each, over="items").node("join", nothing).edge(
    call_each, "join"
).fan_in("join").reducer("squares", "append")


def test_a_child_gets_its_input_alone_and_gives_its_state(engine: Engine) -> None:
    outcome = engine.run("call", {"target": "square", "given": {"n": 5, "x": 1}}, timeout=10)
    assert outcome.status == "completed"
    assert outcome.state["child"] == {"n": 25, "x": 1}
    (step,) = engine.history(outcome.key)
    ((child,),) = step.children
    assert (child.node, child.status) == ("square", "completed")
    child_key = child.key.rpartition("/")[0]
    assert engine.snapshot(child_key).state == {"n": 25, "x": 1}
    assert child_key not in {flow.key for flow in engine.list(limit=1_000)}
    (summary,) = [flow for flow in engine.list(children=True, limit=1_000) if flow.key == child_key]
    assert summary.parent_key == outcome.key


def test_several_children_one_after_another(engine: Engine) -> None:
    assert engine.run("three", timeout=10).state["children"] == [4, 9, 16]


def test_children_side_by_side(engine: Engine) -> None:
    outcome = engine.run("each", {"items": list(range(50))}, timeout=20)
    assert outcome.state["squares"] == [n * n for n in range(50)]


def test_a_failed_child_raises_in_its_parent_which_may_catch_it(engine: Engine) -> None:
    assert engine.run("catch", timeout=10).state["caught"] == ["child_failed", "as it should", {"n": 1}]
    outcome = engine.run("call", {"target": "fail", "given": {"n": 2}}, timeout=10)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("child_failed", "call")
    assert outcome.error.data == {"n": 2}


def test_an_unknown_workflow_fails_the_call(engine: Engine) -> None:
    outcome = engine.run("call", {"target": "nowhere", "given": {}}, timeout=10)
    assert outcome.error is not None
    assert outcome.error.code == "not_found"
    assert "nowhere" in outcome.error.message


def test_an_input_that_does_not_fit_fails_the_call(engine: Engine) -> None:
    outcome = engine.run(
        "call", {"target": "each", "given": {"squares": {"no": "list"}, "items": []}}, timeout=10
    )
    assert outcome.status in ("completed", "failed")
    outcome = engine.run(
        "call", {"target": "call", "given": {"target": "square", "given": {"n": 3}}}, timeout=10
    )
    assert outcome.state["child"]["child"] == {"n": 9}


def child_of(engine: Engine, key: str) -> str:
    def found() -> str:
        children = [flow.key for flow in engine.list(children=True, limit=1_000) if flow.parent_key == key]
        return children[0] if children else ""

    return eventually(found, what="the child")


def wait_for_the_end(engine: Engine, key: str) -> Outcome:
    """Wait past questions."""
    eventually(lambda: engine.snapshot(key).is_finished, what=f"the end of {key}")
    return engine.snapshot(key)


def test_operations_on_a_child_are_refused_and_name_its_root(engine: Engine) -> None:
    key = engine.create("call", {"target": "ask", "given": {}})
    child = child_of(engine, key)
    eventually(lambda: engine.snapshot(child).status == "interrupted", what="the child's question")
    for operation in (engine.cancel, engine.resume):
        with pytest.raises(Invalid, match=key):
            operation(child, "x")
    engine.cancel(key)


def test_cancel_ends_a_flow_and_a_running_task_sees_it(engine: Engine, tmp_path: Path) -> None:
    started = tmp_path / "task"
    key = engine.create("endless", {"started": str(started)})
    eventually(started.exists, what="the task to run")
    engine.cancel(key, "changed my mind")
    outcome = engine.wait(key, timeout=10)
    assert (outcome.status, outcome.cancel_reason) == ("cancelled", "changed my mind")
    eventually(started.with_suffix(".seen").exists, what="the task to see that it is cancelled")
    assert "late" not in engine.snapshot(key).state
    assert [step.status for step in engine.history(key)] == ["cancelled"]
    with pytest.raises(Conflict, match="cancelled"):
        engine.cancel(key)
    # The worker takes other work.
    assert engine.run("square", {"n": 3}, timeout=10).state == {"n": 9}


def test_cancel_reaches_children_and_waiting_questions(engine: Engine, tmp_path: Path) -> None:
    asking = engine.create("call", {"target": "ask", "given": {}})
    asked = child_of(engine, asking)
    eventually(lambda: engine.snapshot(asked).interrupts, what="the child's question")
    started = tmp_path / "task"
    running = engine.create("call", {"target": "endless", "given": {"started": str(started)}})
    eventually(started.exists, what="the child's task to run")
    ran = child_of(engine, running)
    for key in (running, asking):
        engine.cancel(key, "all of it")
        assert engine.wait(key, timeout=10).status == "cancelled"
    for child in (ran, asked):
        outcome = wait_for_the_end(engine, child)
        assert outcome.status == "cancelled"
        assert (outcome.cancel_reason, outcome.interrupts) == ("all of it", ())
    eventually(started.with_suffix(".seen").exists, what="the child's task to see that it is cancelled")


def test_a_cancelled_question_is_gone(database_url: str, database: Path) -> None:
    with Engine(app, database_url) as engine:
        key = engine.create("ask")
        assert engine.wait(key, timeout=10).status == "interrupted"
        engine.cancel(key)
        with pytest.raises(Conflict):
            engine.resume(key, 1)
        assert engine.wait(key, timeout=10).status == "cancelled"
    for table in ("interrupts", "live"):
        assert query(database, f"SELECT count(*) FROM penstock_{table}") == [(0,)]


def test_a_completed_flow_cannot_be_cancelled(engine: Engine) -> None:
    key = engine.run("square", {"n": 2}, timeout=10).key
    with pytest.raises(Conflict, match="completed"):
        engine.cancel(key)


def test_a_question_of_a_child_is_answered_through_its_root(engine: Engine) -> None:
    key = engine.create("call", {"target": "ask", "given": {}})
    assert engine.wait(key, timeout=0.5).status == "interrupted"
    engine.resume(key, 5)
    assert engine.wait(key, timeout=10).state["child"] == {"answer": 5}
