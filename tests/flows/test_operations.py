"""Creating flows, waiting for them and reading them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, Flow
from penstock.errors import Conflict, Invalid, NotFound, Permanent, WaitTimeout
from tests.support.database import row_counts

app = App("operations")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def fail(n: int) -> None:
    raise Permanent("too_small", f"{n} is too small", data={"n": n})


@app.task
def crash(n: int) -> float:
    return n / 0


@app.task
def wait_for(gate: str) -> dict[str, bool]:
    while not Path(gate).exists():
        time.sleep(0.001)
    return {"opened": True}


@app.task
def who(flow: Flow) -> dict[str, Any]:
    return {"key": flow.key, "step": flow.step_key, "baggage": flow.baggage, "node": flow.node}


app.graph("double").chain(double)
app.graph("twice").node("first", double).node("second", double).chain("first", "second")
app.graph("fail").node("before", double).chain("before", fail)
app.graph("crash").chain(crash)
app.graph("wait").chain(wait_for)
app.graph("who").chain(who)


def test_run_gives_the_outcome_of_a_new_flow(engine: Engine) -> None:
    outcome = engine.run("twice", {"n": 3, "kept": ["x", None]}, timeout=10)
    assert (outcome.status, outcome.error, outcome.cancel_reason) == ("completed", None, None)
    assert outcome.state == {"n": 12, "kept": ["x", None]}
    assert (outcome.workflow, outcome.thread_key) == ("twice", outcome.key)
    assert outcome.is_finished


def test_a_failure_is_an_outcome_with_code_message_data_and_place(engine: Engine) -> None:
    outcome = engine.run("fail", {"n": 3}, timeout=10)
    assert outcome.status == "failed"
    assert outcome.state == {"n": 6}, "what had completed"
    error = outcome.error
    assert error is not None
    assert (error.code, error.message, error.type) == (
        "too_small",
        "6 is too small",
        "penstock.errors.Permanent",
    )
    assert (error.data, error.node, error.step_key) == ({"n": 6}, "fail", f"{outcome.key}/2")
    assert not error.retryable


def test_an_unclassified_exception_has_the_code_error_and_its_type(engine: Engine) -> None:
    outcome = engine.run("crash", {"n": 1}, timeout=10)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.type) == ("error", "ZeroDivisionError")
    assert outcome.error.message == "division by zero"


def test_a_parameter_of_the_wrong_type_fails_the_step(engine: Engine) -> None:
    outcome = engine.run("double", {"n": "three"}, timeout=10)
    assert outcome.error is not None
    assert outcome.error.code == "invalid_state"


def test_create_wait_and_a_second_wait_agree(engine: Engine) -> None:
    key = engine.create("double", {"n": 1})
    first = engine.wait(key, timeout=10)
    assert engine.wait(key, timeout=0) == engine.poll(key) == engine.snapshot(key) == first


def test_wait_and_run_time_out_and_the_flow_goes_on(engine: Engine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with pytest.raises(WaitTimeout) as caught:
        engine.run("wait", {"gate": str(gate)}, timeout=0.05)
    key = caught.value.flow_key
    assert key is not None
    with pytest.raises(WaitTimeout):
        engine.wait(key, timeout=timedelta(milliseconds=10))
    assert engine.poll(key, timeout=0.01).status == "running"
    running = engine.snapshot(key)
    assert (running.status, running.state) == ("running", {"gate": str(gate)})
    assert not running.is_stopped
    gate.touch()
    assert engine.wait(key, timeout=10).state["opened"] is True


def test_create_many_gives_keys_in_order(engine: Engine) -> None:
    keys = engine.create_many("double", [{"n": n} for n in range(50)], tags={"group": "many"})
    assert [engine.wait(key, timeout=10).state["n"] for key in keys] == [2 * n for n in range(50)]
    assert engine.create_many("double", []) == []
    found = engine.list(tags={"group": "many"}, limit=1_000).items
    assert {flow.key for flow in found} == set(keys)


def test_run_task_runs_one_task(engine: Engine) -> None:
    assert engine.run_task("double", {"n": 4}, timeout=10).state == {"n": 8}
    outcome = engine.run_task(double, {"n": 5}, timeout=10)
    assert (outcome.state, outcome.workflow) == ({"n": 10}, "task:double")


def test_a_task_sees_who_it_is_and_its_baggage(engine: Engine) -> None:
    outcome = engine.run("who", baggage={"tenant": "blue"}, timeout=10)
    assert outcome.state == {
        "key": outcome.key,
        "step": f"{outcome.key}/1",
        "baggage": {"tenant": "blue"},
        "node": "who",
    }


def test_history_tells_every_step_and_step_what_it_saw_and_did(engine: Engine) -> None:
    outcome = engine.run("fail", {"n": 1}, timeout=10)
    first, second = engine.history(outcome.key)
    assert [first.key, second.key] == [f"{outcome.key}/1", f"{outcome.key}/2"]
    assert (first.node, first.task, first.status, first.number) == ("before", "double", "completed", 1)
    assert (second.node, second.status, second.predecessors) == ("fail", "failed", (1,))
    assert second.error is not None
    assert second.error.code == "too_small"
    assert [event.kind for event in first.events + second.events] == ["done", "failed"]
    assert first.finished_at is not None
    assert abs(datetime.now(UTC) - first.finished_at) < timedelta(minutes=1)
    assert first.state is None

    full = engine.step(first.key)
    assert (full.state, full.changes) == ({"n": 1}, {"n": 2})
    assert engine.step(second.key).state == {"n": 2}


def test_flows_of_one_millisecond_are_listed_in_the_order_of_their_creation(engine: Engine) -> None:
    tag = {"burst": "1"}
    keys = [engine.create("double", {"n": 1}, hold=True, tags=tag) for _ in range(60)]
    keys += engine.create_many("double", [{"n": n} for n in range(60)], hold=True, tags=tag)
    assert [flow.key for flow in engine.list(tags=tag, limit=200).items] == keys[::-1]


def test_list_filters_and_pages_newest_first(engine: Engine) -> None:
    tag = {"test": "list"}
    keys = [engine.create("double", {"n": n}, tags=tag, priority=n) for n in range(5)]
    failed = engine.run("fail", {"n": 0}, tags=tag, timeout=10).key
    for key in keys:
        engine.wait(key, timeout=10)
    everything = engine.list(tags=tag).items
    assert {flow.key for flow in everything} == {failed, *keys}
    created = [flow.created_at for flow in everything]
    assert created == sorted(created, reverse=True)
    assert [flow.key for flow in engine.list(tags=tag, status="failed")] == [failed]
    assert [flow.key for flow in engine.list(tags=tag, error_code="too_small")] == [failed]
    assert [flow.key for flow in engine.list(tags=tag, workflow="double", priority=3)] == [keys[3]]
    assert engine.list(tags=tag, workflow="who").items == ()
    pages, cursor = [], None
    while True:
        page = engine.list(tags=tag, limit=4, cursor=cursor)
        pages.append([flow.key for flow in page])
        cursor = page.cursor
        if cursor is None:
            break
    assert [len(page) for page in pages] == [4, 2]
    assert [key for page in pages for key in page] == [flow.key for flow in everything]
    with pytest.raises(Invalid, match="workflow"):
        engine.list(workflo="double")


def test_an_idempotency_key_names_one_flow(engine: Engine) -> None:
    key = engine.create("double", {"n": 1}, idempotency_key="order-7")
    assert engine.create("double", {"n": 1}, idempotency_key="order-7") == key
    assert engine.run("double", {"n": 1}, idempotency_key="order-7", timeout=10).key == key
    with pytest.raises(Conflict):
        engine.create("double", {"n": 2}, idempotency_key="order-7")
    with pytest.raises(Conflict):
        engine.create("twice", {"n": 1}, idempotency_key="order-7")
    assert engine.create("double", {"n": 1}, idempotency_key="order-8") != key


def test_better_priorities_run_first(database_url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Engine(app, database_url) as engine:
        blocker = engine.create("wait", {"gate": str(gate)})
        keys = {
            priority: engine.create("double", {"n": 1}, priority=priority) for priority in (300, 100, -5, 200)
        }
        gate.touch()
        engine.wait(blocker, timeout=10)
        ends = {}
        for priority, key in keys.items():
            engine.wait(key, timeout=10)
            (step,) = engine.history(key)
            ends[priority] = step.events[-1]
        assert sorted(ends, key=lambda priority: ends[priority].at) == [-5, 100, 200, 300] or (
            len({event.at for event in ends.values()}) < len(ends)
        )


def test_a_linear_step_costs_one_journal_row(database_url: str, database: Path) -> None:
    with Engine(app, database_url) as engine:
        engine.run("twice", {"n": 1}, timeout=10)
        counts = {name: number for name, number in row_counts(database).items() if number}
    assert counts.pop("penstock_graphs") == len(app.graphs())
    assert counts.pop("penstock_replicas") == counts.pop("penstock_version") == 1
    counts.pop("penstock_leases", None)
    assert counts == {"penstock_flows": 1, "penstock_journal": 2}


def test_a_wrong_step_is_not_found(engine: Engine) -> None:
    key = engine.run("double", {"n": 1}, timeout=10).key
    with pytest.raises(NotFound):
        engine.step(f"{key}/2")
