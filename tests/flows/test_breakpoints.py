"""Holding steps before they start, and letting them go, perhaps with another view."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Client, Engine, Flow, Retry
from penstock.errors import Conflict, Invalid, NotFound, Permanent, Retryable
from tests.support.waiting import eventually

app = App("breakpoints")


@app.task
def add(flow: Flow, n: int) -> dict[str, Any]:
    return {"n": n + 1, "seen": [n]}


@app.task
def ask(flow: Flow, n: int) -> dict[str, Any]:
    return {"answer": flow.interrupt("well?"), "n": n + 1}


@app.task
def fail_twice(flow: Flow) -> dict[str, Any]:
    if flow.attempt < 2:
        raise Retryable("not_yet")
    return {"attempts": flow.attempt + 1}


@app.task
def wait_for(started: str, gate: str) -> dict[str, bool]:
    Path(started).touch()
    while not Path(gate).exists():
        time.sleep(0.001)
    return {"opened": True}


@app.task
def call(flow: Flow, target: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"child": flow.subgraph(target, given)}


@app.task
def take(flow: Flow, item: int) -> dict[str, Any]:
    return {"taken": [item], "plain": item}


@app.task
def fail_if(flow: Flow, bad: bool) -> None:
    if bad:
        raise Permanent("bad")


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("adds").node("first", add).node("second", add).node("third", add).chain(
    "first", "second", "third"
).reducer("seen", "append")
app.graph("ask").chain(ask)
app.graph("retries").node("retry", fail_twice, retry=Retry(3, 0.01)).chain("retry")
app.graph("asks").chain(ask).node("last", add).chain(ask, "last")
app.graph("gated").chain(wait_for, nothing)
app.graph("call").chain(call)
app.graph("each").chain(nothing).for_each(nothing, take, over="items").node("join", nothing).edge(
    take, "join"
).fan_in("join").reducer("taken", "append")
app.graph("either").node("source", nothing, on_failure="fail_fast").node("good", add).node(
    "bad", fail_if
).node("join", nothing).fan_out("source", "bad", "good").edge("good", "join").edge("bad", "join").fan_in(
    "join"
)
app.graph("loop").node("lap", add).chain("lap").switch("lap", {"n < 3": "lap"}, default="end").node(
    "end", nothing
)


def stopped_at(engine: Engine | Client, key: str) -> list[str]:
    """Wait for a flow to stand at breakpoints, and name their nodes."""
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "interrupted"
    assert {held.kind for held in outcome.interrupts} == {"breakpoint"}
    return [held.node for held in outcome.interrupts]


def held_flow(engine: Engine | Client, workflow: str, state: dict[str, Any], *nodes: str) -> str:
    """A flow that has breakpoints before it starts."""
    key = engine.create(workflow, state, hold=True)
    for node in nodes:
        engine.break_before(key, node)
    engine.unpause(key)
    return key


def test_a_step_is_held_before_it_starts_and_let_go(engine: Engine) -> None:
    key = held_flow(engine, "adds", {"n": 1}, "second")
    outcome = engine.wait(key, timeout=10)
    assert (outcome.status, outcome.state["n"]) == ("interrupted", 2)
    (held,) = outcome.interrupts
    assert (held.kind, held.node, held.step_key, held.flow_key) == ("breakpoint", "second", f"{key}/2", key)
    assert (held.key, held.payload, held.expires_at) == (None, None, None)
    assert [step.status for step in engine.history(key)] == ["completed", "waiting"]
    engine.resume_break(key)
    outcome = engine.wait(key, timeout=10)
    assert (outcome.status, outcome.state, outcome.interrupts) == (
        "completed",
        {"n": 4, "seen": [1, 2, 3]},
        (),
    )
    kinds = [[event.kind for event in step.events] for step in engine.history(key)]
    assert kinds == [["done"], ["control", "control", "done"], ["done"]]


def test_overrides_replace_in_the_view_and_are_never_reduced(engine: Engine) -> None:
    key = held_flow(engine, "adds", {"n": 1, "gone": 1, "kept": 1}, "second")
    stopped_at(engine, key)
    engine.resume_break(key, {"n": 10, "seen": ["over"], "gone": None, "new": {"a": [1]}})
    assert engine.wait(key, timeout=10).state == {
        "n": 12,
        "kept": 1,
        "seen": ["over", 10, 11],
        "new": {"a": [1]},
    }
    full = engine.step(f"{key}/2")
    assert full.state == {"n": 10, "kept": 1, "seen": ["over"], "new": {"a": [1]}}
    assert full.changes == {"n": 11, "seen": [10]}
    assert full.events[1].detail["overrides"] == {
        "set": {"n": 10, "new": {"a": [1]}, "seen": ["over"]},
        "del": ["gone"],
    }


def test_bad_overrides_are_refused_and_the_step_stays_held(engine: Engine) -> None:
    key = held_flow(engine, "adds", {"n": 1}, "second")
    stopped_at(engine, key)
    with pytest.raises(Invalid, match="overrides"):
        engine.resume_break(key, [1])  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="overrides"):
        engine.resume_break(key, {"n": float("nan")})
    assert stopped_at(engine, key) == ["second"]
    engine.resume_break(key)
    assert engine.wait(key, timeout=10).status == "completed"


def test_breakpoints_stop_at_each_node_and_each_lap(engine: Engine) -> None:
    key = held_flow(engine, "adds", {"n": 1}, "first", "second", "third")
    for node in ("first", "second", "third"):
        assert stopped_at(engine, key) == [node]
        engine.resume_break(key)
    assert engine.wait(key, timeout=10).status == "completed"

    key = held_flow(engine, "loop", {"n": 0}, "lap")
    for lap in range(3):
        assert stopped_at(engine, key) == ["lap"]
        assert engine.snapshot(key).state["n"] == lap
        engine.resume_break(key)
    assert engine.wait(key, timeout=10).status == "completed"


def test_a_removed_breakpoint_stops_no_more_and_lets_nothing_go(engine: Engine) -> None:
    key = held_flow(engine, "loop", {"n": 0}, "lap")
    stopped_at(engine, key)
    engine.break_before(key, "lap", on=False)
    engine.break_before(key, "lap", on=False)
    assert stopped_at(engine, key) == ["lap"]
    engine.resume_break(key)
    assert engine.wait(key, timeout=10).state["n"] == 3


def test_a_step_in_a_worker_is_not_touched(engine: Engine, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    key = engine.create("gated", {"gate": str(gate), "started": str(started)})
    eventually(started.exists, what="the start of the step")
    engine.break_before(key, "wait_for")
    assert engine.snapshot(key).status == "running"
    gate.touch()
    assert engine.wait(key, timeout=10).status == "completed"


def test_a_step_that_waits_for_a_worker_is_held(database_url: str, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    with Engine(app, database_url) as engine:
        blocker = engine.create("gated", {"gate": str(gate), "started": str(started)})
        eventually(started.exists, what="the start of the blocker")
        key = engine.create("adds", {"n": 1})
        engine.break_before(key, "first")
        assert stopped_at(engine, key) == ["first"]
        gate.touch()
        assert engine.wait(blocker, timeout=10).status == "completed"
        assert stopped_at(engine, key) == ["first"]
        engine.resume_break(key)
        assert engine.wait(key, timeout=10).status == "completed"


def test_a_retry_or_a_park_of_the_same_step_does_not_stop_again(engine: Engine) -> None:
    key = held_flow(engine, "retries", {}, "retry")
    assert stopped_at(engine, key) == ["retry"]
    engine.resume_break(key)
    assert engine.wait(key, timeout=10).state["attempts"] == 3

    key = held_flow(engine, "ask", {"n": 1}, "ask")
    assert stopped_at(engine, key) == ["ask"]
    engine.resume_break(key, {"n": 5})
    eventually(
        lambda: [q.kind for q in engine.snapshot(key).interrupts] == ["interrupt"], what="the question"
    )
    engine.break_before(key, "ask")
    engine.resume(key, "yes")
    assert engine.wait(key, timeout=10).state == {"n": 6, "answer": "yes"}


def test_answers_and_breakpoints_do_not_mix(engine: Engine) -> None:
    key = held_flow(engine, "ask", {"n": 1}, "ask")
    stopped_at(engine, key)
    with pytest.raises(Conflict, match="resume_break"):
        engine.resume(key, 1)
    (held,) = engine.snapshot(key).interrupts
    with pytest.raises(Conflict, match="resume_break"):
        engine.resume(key, 1, interrupt_id=held.interrupt_id)
    engine.resume_break(key)
    eventually(
        lambda: [q.kind for q in engine.snapshot(key).interrupts] == ["interrupt"], what="the question"
    )
    with pytest.raises(Conflict, match=r"resume\(\)"):
        engine.resume_break(key)
    engine.resume(key, 1)
    assert engine.wait(key, timeout=10).status == "completed"
    with pytest.raises(Conflict):
        engine.resume_break(key)
    with pytest.raises(Conflict, match="came too late"):
        engine.break_before(key, "ask")


def test_a_node_that_nobody_knows_is_refused(engine: Engine) -> None:
    key = engine.create("adds", {"n": 1}, hold=True)
    with pytest.raises(Invalid, match=r'"secnd".*second'):
        engine.break_before(key, "secnd")
    engine.break_before(key, "secnd", on=False)
    engine.break_before(key, "take")  # of another graph, which a child may run
    for node in (None, 1, "a\0b", "x" * 300):
        with pytest.raises(Invalid, match="node"):
            engine.break_before(key, node)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="on is 'no'"):
        engine.break_before(key, "first", on="no")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        engine.break_before(key[:-4] + "aaaa", "first")
    engine.cancel(key)


def test_every_branch_of_a_for_each_is_held_on_its_own(engine: Engine) -> None:
    count = 20
    key = held_flow(engine, "each", {"items": list(range(count))}, "take")
    eventually(lambda: len(engine.snapshot(key).interrupts) == count, what="all branches at the breakpoint")
    order = [held.step_key for held in engine.snapshot(key).interrupts]
    assert engine.wait(key, timeout=10).status == "interrupted"
    engine.resume_break(key, {"item": 100, "note": "first of all"})
    left = engine.wait(key, timeout=10)
    assert len(left.interrupts) == count - 1
    assert [held.step_key for held in left.interrupts] == order[1:], "the oldest one went"
    for _ in range(count - 1):
        engine.resume_break(key)
    with pytest.raises(Conflict, match="no breakpoint"):
        engine.resume_break(key)
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "completed"
    first = int(order[0].rpartition("/")[2]) - 2
    taken = [100 if n == first else n for n in range(count)]
    assert outcome.state["taken"] == taken, "in the order of the elements"
    assert outcome.state["note"] == "first of all", "an override outlives the join"
    assert "item" not in outcome.state


def test_breakpoints_hold_in_children_at_any_depth(engine: Engine) -> None:
    deep = {"target": "call", "given": {"target": "adds", "given": {"n": 1}}}
    key = held_flow(engine, "call", deep, "second")
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "interrupted"
    (held,) = outcome.interrupts
    assert (held.node, held.kind) == ("second", "breakpoint")
    assert held.flow_key != key
    engine.resume_break(key, {"n": 10})
    outcome = engine.wait(key, timeout=10)
    assert outcome.status == "completed"
    assert outcome.state["child"]["child"]["n"] == 12


def test_a_breakpoint_reaches_children_that_run_already(engine: Engine, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    given = {"gate": str(gate), "started": str(started)}
    key = engine.create("call", {"target": "call", "given": {"target": "gated", "given": given}})
    eventually(started.exists, what="the start of the step below")
    engine.break_before(key, "nothing")
    gate.touch()
    assert stopped_at(engine, key) == ["nothing"]
    engine.resume_break(key)
    assert engine.wait(key, timeout=10).state["child"]["child"]["opened"] is True


def test_a_breakpoint_reaches_children_that_nobody_owns(database_url: str) -> None:
    with Engine(app, database_url) as engine:
        given = {"target": "asks", "given": {"n": 1}}
        key = engine.create("call", {"target": "call", "given": given})
        assert engine.wait(key, timeout=10).status == "interrupted"
    with Engine(app, database_url) as engine:
        engine.break_before(key, "last")
        engine.resume(key, "yes")
        eventually(
            lambda: [held.kind for held in engine.snapshot(key).interrupts] == ["breakpoint"], what="the stop"
        )
        assert stopped_at(engine, key) == ["last"]
        engine.pause(key)
        engine.resume_break(key, {"n": 100})
        engine.unpause(key)
        assert engine.wait(key, timeout=10).state["child"]["child"]["n"] == 101


def test_a_held_flow_survives_its_engine_and_is_cancelled_with_its_breakpoints(database_url: str) -> None:
    with Engine(app, database_url) as engine:
        key = held_flow(engine, "adds", {"n": 1}, "second", "third")
        stopped_at(engine, key)
        other = held_flow(engine, "adds", {"n": 1}, "first")
        stopped_at(engine, other)
    with Engine(app, database_url) as engine:
        assert stopped_at(engine, key) == ["second"]
        engine.resume_break(key, {"n": 7})
        assert stopped_at(engine, key) == ["third"]
        engine.resume_break(key)
        assert engine.wait(key, timeout=10).state["n"] == 9
        engine.cancel(other)
        outcome = engine.wait(other, timeout=10)
        assert (outcome.status, outcome.interrupts) == ("cancelled", ())


def test_a_paused_flow_s_step_is_let_go_and_starts_after_the_pause(engine: Engine) -> None:
    key = held_flow(engine, "adds", {"n": 1}, "second")
    stopped_at(engine, key)
    engine.pause(key)
    engine.resume_break(key)
    assert engine.snapshot(key).status == "paused"
    engine.unpause(key)
    assert engine.wait(key, timeout=10).state["n"] == 4


def test_a_restarted_flow_comes_to_its_breakpoints_again(engine: Engine) -> None:
    key = held_flow(engine, "adds", {"n": 1}, "second")
    stopped_at(engine, key)
    engine.resume_break(key)
    assert engine.wait(key, timeout=10).status == "completed"
    engine.restart(key, {"n": 5})
    assert stopped_at(engine, key) == ["second"]
    engine.restart(key, {"n": 7})
    assert stopped_at(engine, key) == ["second"]
    engine.resume_break(key)
    assert engine.wait(key, timeout=10).state["n"] == 10


def test_a_branch_that_was_held_when_its_sibling_failed_is_held_again_with_the_retry(engine: Engine) -> None:
    key = held_flow(engine, "either", {"n": 1, "bad": True}, "good", "bad")
    eventually(lambda: len(engine.snapshot(key).interrupts) == 2, what="both branches at their breakpoints")
    engine.break_before(key, "bad", on=False)
    assert engine.snapshot(key).interrupts[0].node == "bad", "edge order"
    engine.resume_break(key)
    eventually(lambda: engine.snapshot(key).status == "failed", what="the failure")
    assert engine.snapshot(key).interrupts == ()
    (failed,) = [step for step in engine.history(key) if step.status == "failed"]
    engine.retry_step(failed.key, {"bad": False})
    assert stopped_at(engine, key) == ["good"]
    engine.resume_break(key, {"n": 5})
    assert engine.wait(key, timeout=10).state["n"] == 6


def test_a_flow_that_was_cancelled_while_paused_runs_when_it_is_restarted(engine: Engine) -> None:
    key = engine.create("adds", {"n": 1}, hold=True)
    engine.cancel(key)
    assert engine.wait(key, timeout=10).status == "cancelled"
    engine.restart(key)
    assert engine.wait(key, timeout=10).state["n"] == 4


def test_a_client_debugs_too(distant: Client) -> None:
    key = held_flow(distant, "adds", {"n": 1}, "second")
    assert stopped_at(distant, key) == ["second"]
    with pytest.raises(Conflict, match="resume_break"):
        distant.resume(key, 1)
    distant.resume_break(key, {"n": 5})
    assert distant.wait(key, timeout=10).state["n"] == 7
