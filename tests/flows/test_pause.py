"""Stopping the dispatch of flows, letting it go, and flows that begin later."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Client, Engine, Flow
from penstock.errors import Conflict, InterruptTimeout, Invalid, NotFound, WaitTimeout
from tests.support.waiting import eventually

app = App("pause")


@app.task
def touch(flow: Flow, started: str) -> dict[str, Any]:
    Path(started).touch()
    return {"laps": flow.get("laps", int, 0) + 1}


@app.task
def wait_for(started: str, gate: str) -> dict[str, bool]:
    Path(started).touch()
    while not Path(gate).exists():
        time.sleep(0.001)
    return {"opened": True}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt("well?")}


@app.task
def ask_in_time(flow: Flow, limit: float) -> dict[str, Any]:
    try:
        return {"answer": flow.interrupt("quick!", timeout=limit)}
    except InterruptTimeout as late:
        return {"late": late.code}


@app.task
def rest(flow: Flow, limit: float) -> dict[str, Any]:
    flow.sleep(limit)
    return {"rested": True}


@app.task
def call(flow: Flow, target: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"child": flow.subgraph(target, given)}


@app.task
def call_when_told(flow: Flow, gate: str, started: str) -> dict[str, Any]:
    Path(started).touch()
    while not Path(gate).exists():
        time.sleep(0.001)
    return {"child": flow.subgraph("touch", {"started": started + ".child"})}


@app.task
def nothing(flow: Flow) -> None: ...


app.graph("touch").chain(touch)
app.graph("gated").chain(wait_for, nothing)
app.graph("ask").chain(ask, nothing)
app.graph("in_time").chain(ask_in_time)
app.graph("rest").chain(rest)
app.graph("call").chain(call)
app.graph("call_later").chain(call_when_told)


def child_of(engine: Engine | Client, key: str) -> str:
    """The key of the first child of a flow, once it is there."""
    found = eventually(
        lambda: [flow for flow in engine.list(children=True, limit=1_000) if flow.parent_key == key],
        what="the child",
    )
    return found[0].key


def status_is(engine: Engine | Client, key: str, status: str) -> None:
    eventually(lambda: engine.snapshot(key).status == status, what=f"status {status}")
    eventually(
        lambda: {flow.key: flow.status for flow in engine.list(children=True, limit=1_000)}[key] == status,
        what=f"status {status} in the list",
    )


def test_a_paused_flow_finishes_its_running_step_and_starts_none(engine: Engine, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    key = engine.create("gated", {"gate": str(gate), "started": str(started)})
    eventually(started.exists, what="the start of the step")
    engine.pause(key, "let me look")
    assert engine.poll(key).status == engine.snapshot(key).status == "paused"
    assert not engine.poll(key).is_stopped
    gate.touch()
    eventually(lambda: engine.snapshot(key).state.get("opened"), what="the end of the running step")
    with pytest.raises(WaitTimeout):
        engine.wait(key, timeout=0.2)
    first, second = engine.history(key)
    assert (first.status, second.status) == ("completed", "ready")
    assert second.events == ()
    engine.unpause(key)
    assert engine.wait(key, timeout=10).status == "completed"


def test_a_step_that_waits_for_a_worker_is_taken_back(database_url: str, tmp_path: Path) -> None:
    gate, started, other = tmp_path / "gate", tmp_path / "started", tmp_path / "other"
    with Engine(app, database_url) as engine:
        blocker = engine.create("gated", {"gate": str(gate), "started": str(started)})
        eventually(started.exists, what="the start of the blocker")
        key = engine.create("touch", {"started": str(other)})
        engine.pause(key)
        gate.touch()
        assert engine.wait(blocker, timeout=10).status == "completed"
        assert engine.snapshot(key).status == "paused"
        assert not other.exists()
        engine.unpause(key)
        assert engine.wait(key, timeout=10).state["laps"] == 1


def test_pausing_twice_and_unpausing_what_runs_are_conflicts(engine: Engine) -> None:
    key = engine.create("ask")
    engine.wait(key, timeout=10)
    with pytest.raises(Conflict, match="is not paused, it is interrupted"):
        engine.unpause(key)
    engine.pause(key, "lunch")
    with pytest.raises(Conflict, match=r"paused already.*lunch"):
        engine.pause(key)
    engine.unpause(key)
    with pytest.raises(Conflict, match="not paused"):
        engine.unpause(key)
    engine.cancel(key)
    with pytest.raises(Conflict, match=r"pause came too late.*is cancelled"):
        engine.pause(key)
    with pytest.raises(Conflict, match="unpause came too late"):
        engine.unpause(key)
    with pytest.raises(NotFound):
        engine.pause(key[:-4] + "aaaa")
    with pytest.raises(Invalid, match="NUL"):
        engine.pause(key, "a\0b")


def test_an_answer_to_a_paused_flow_is_recorded_and_used_after_it(engine: Engine) -> None:
    key = engine.create("ask")
    assert engine.wait(key, timeout=10).status == "interrupted"
    engine.pause(key)
    assert engine.snapshot(key).status == "paused"
    engine.resume(key, 42)
    assert engine.snapshot(key).interrupts == ()
    assert engine.snapshot(key).status == "paused"
    assert "answer" not in engine.snapshot(key).state
    engine.unpause(key)
    assert engine.wait(key, timeout=10).state == {"answer": 42}


def test_a_question_that_was_open_before_a_pause_is_open_after_it(engine: Engine) -> None:
    key = engine.create("ask")
    engine.wait(key, timeout=10)
    engine.pause(key)
    with pytest.raises(WaitTimeout):
        engine.wait(key, timeout=0.05)
    engine.unpause(key)
    assert engine.wait(key, timeout=10).status == "interrupted"


@pytest.mark.parametrize(
    ("workflow", "end"), [("rest", {"rested": True}), ("in_time", {"late": "interrupt_timeout"})]
)
def test_what_falls_due_in_a_paused_flow_is_so_when_it_goes_on(
    engine: Engine, workflow: str, end: dict[str, Any]
) -> None:
    key = engine.create(workflow, {"limit": 0.15})
    eventually(lambda: [step.status for step in engine.history(key)] == ["parked"], what="the park")
    engine.pause(key)
    # A flow of the same length that began later is over.
    engine.run("rest", {"limit": 0.2}, timeout=10)
    assert [step.status for step in engine.history(key)] == ["parked"]
    engine.unpause(key)
    outcome = engine.wait(key, timeout=10)
    while outcome.status == "interrupted":
        outcome = engine.wait(key, timeout=10)
    assert {name: outcome.state.get(name) for name in end} == end


def test_an_answer_counts_although_its_question_fell_due_in_the_pause(engine: Engine) -> None:
    key = engine.create("in_time", {"limit": 0.1})
    eventually(lambda: [step.status for step in engine.history(key)] == ["parked"], what="the park")
    engine.pause(key)
    engine.run("rest", {"limit": 0.15}, timeout=10)
    engine.resume(key, "late but here")
    engine.unpause(key)
    assert engine.wait(key, timeout=10).state["answer"] == "late but here"


def test_a_pause_holds_children_those_to_come_included(engine: Engine, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    key = engine.create("call", {"target": "call", "given": {"target": "ask", "given": {}}})
    child = child_of(engine, key)
    grandchild = child_of(engine, child)
    eventually(lambda: engine.snapshot(grandchild).interrupts, what="the question")
    engine.pause(key)
    for flow in (key, child, grandchild):
        status_is(engine, flow, "paused")
    engine.unpause(key)
    status_is(engine, grandchild, "interrupted")
    engine.cancel(key)

    key = engine.create("call_later", {"gate": str(gate), "started": str(started)})
    eventually(started.exists, what="the start")
    engine.pause(key)
    gate.touch()
    child = child_of(engine, key)
    status_is(engine, child, "paused")
    assert not Path(f"{started}.child").exists()
    engine.unpause(key)
    assert engine.wait(key, timeout=10).state["child"]["laps"] == 1


def test_a_child_takes_no_pause_of_its_own(engine: Engine) -> None:
    key = engine.create("call", {"target": "ask", "given": {}})
    child = child_of(engine, key)
    for refused in (
        lambda: engine.pause(child),
        lambda: engine.unpause(child),
        lambda: engine.cancel(child),
        lambda: engine.break_before(child, "ask"),
        lambda: engine.resume_break(child),
    ):
        with pytest.raises(Invalid, match=key):
            refused()
    engine.cancel(key)


def test_a_paused_flow_is_nobody_s_and_outlives_its_engine(database_url: str, tmp_path: Path) -> None:
    started = tmp_path / "started"
    with Engine(app, database_url) as engine:
        key = engine.create("ask")
        engine.wait(key, timeout=10)
        engine.pause(key)
        eventually(lambda: engine.replicas()[0].owned == 0, what="the release")
        held = engine.create("touch", {"started": str(started)}, hold=True)
        assert engine.replicas()[0].owned == 0
    with Engine(app, database_url) as engine:
        assert [engine.snapshot(flow).status for flow in (key, held)] == ["paused", "paused"]
        engine.unpause(held)
        assert engine.wait(held, timeout=10).status == "completed"
        engine.unpause(key)
        assert engine.wait(key, timeout=10).status == "interrupted"


def test_a_held_flow_starts_when_it_is_unpaused(engine: Engine, tmp_path: Path) -> None:
    started = tmp_path / "started"
    key = engine.create("touch", {"started": str(started)}, hold=True, idempotency_key=str(started))
    assert engine.create("touch", {"started": str(started)}, hold=True, idempotency_key=str(started)) == key
    many = engine.create_many("touch", [{"started": str(started)}] * 3, hold=True, tags={"of": str(started)})
    for flow in (key, *many):
        assert engine.snapshot(flow).status == "paused"
    listed = engine.list(status="paused", tags={"of": str(started)})
    assert {flow.key for flow in listed} == set(many)
    assert not started.exists()
    for flow in (key, *many):
        engine.unpause(flow)
        assert engine.wait(flow, timeout=10).state["laps"] == 1


def test_a_held_flow_can_be_cancelled_and_waited_for(engine: Engine) -> None:
    with pytest.raises(WaitTimeout) as caught:
        engine.run("touch", {"started": "nowhere"}, hold=True, timeout=0.05)
    key = caught.value.flow_key
    assert key is not None
    engine.cancel(key, "never mind")
    outcome = engine.wait(key, timeout=10)
    assert (outcome.status, outcome.cancel_reason) == ("cancelled", "never mind")
    assert outcome.state == {"started": "nowhere"}
    assert [step.status for step in engine.history(key)] == ["cancelled"]


def test_start_at_puts_the_first_step_off(engine: Engine, tmp_path: Path) -> None:
    at = datetime.now(UTC) + timedelta(milliseconds=400)
    outcome = engine.run("touch", {"started": str(tmp_path / "started")}, start_at=at, timeout=10)
    (step,) = engine.history(outcome.key)
    assert step.finished_at is not None
    assert step.finished_at >= at - timedelta(milliseconds=1)
    assert outcome.status == "completed"


def test_a_start_that_is_past_is_now(engine: Engine, tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    outcome = engine.run("touch", {"started": str(tmp_path / "started")}, start_at=past, timeout=10)
    assert outcome.status == "completed"
    with pytest.raises(Invalid, match="time zone"):
        engine.create("touch", start_at=datetime(2030, 1, 1))  # noqa: DTZ001


def test_mail_to_a_flow_before_its_start_does_not_start_it(engine: Engine, tmp_path: Path) -> None:
    started = tmp_path / "started"
    far = datetime.now(UTC) + timedelta(days=400)
    key = engine.create("touch", {"started": str(started)}, start_at=far)
    held = engine.create("touch", {"started": str(started)}, start_at=far, hold=True)
    assert [engine.snapshot(flow).status for flow in (key, held)] == ["running", "paused"]
    assert [step.status for step in engine.history(key)] == ["waiting"]
    engine.pause(key)
    engine.unpause(key)
    engine.unpause(held)
    engine.break_before(key, "touch")
    with pytest.raises(WaitTimeout):
        engine.wait(key, timeout=0.1)
    for flow in (key, held):
        engine.cancel(flow, "changed my mind")
        outcome = engine.wait(flow, timeout=10)
        assert (outcome.status, outcome.state) == ("cancelled", {"started": str(started)})
    assert not started.exists()


def test_many_flows_of_the_far_future_cost_no_memory(database_url: str) -> None:
    far = datetime.now(UTC) + timedelta(days=400)
    with Engine(app, database_url, room=4) as engine:
        engine.create_many("touch", [{"started": "x"}] * 200, start_at=far)
        assert engine.replicas()[0].owned == 0
        assert engine.run("ask", timeout=10).status == "interrupted"


def test_a_client_holds_pauses_and_starts_flows(distant: Client, tmp_path: Path) -> None:
    state = {"started": str(tmp_path / "started")}
    key = distant.create("touch", state, hold=True)
    assert distant.snapshot(key).status == "paused"
    later = distant.create("touch", state, start_at=datetime.now(UTC) + timedelta(days=1))
    distant.pause(later)
    assert distant.poll(later).status == "paused"
    distant.unpause(key)
    assert distant.wait(key, timeout=10).status == "completed"
    distant.cancel(later)
    assert distant.wait(later, timeout=10).status == "cancelled"
