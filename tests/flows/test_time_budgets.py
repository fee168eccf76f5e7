"""Attempts that outlast their time budget, and tasks whose result is no longer wanted."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, First, Flow, Retry
from penstock.outcome import StepInfo
from tests.support.waiting import eventually

app = App("budgets")
SHORT = 0.15


@app.task
def hang(gate: str) -> None:
    """Look at nothing but the gate, and never return before it opens."""
    while not Path(gate).exists():
        time.sleep(0.005)


@app.task
def heed(flow: Flow, gate: str) -> dict[str, bool]:
    Path(gate + ".started").touch()
    while not flow.is_cancelled:
        time.sleep(0.005)
    Path(gate + ".heeded").touch()
    return {"late": True}


@app.task
async def wait_long(gate: str) -> None:
    Path(gate + ".started").touch()
    try:
        await asyncio.Event().wait()
    finally:
        Path(gate + ".ended").touch()


@app.task
async def refuse_to_end(gate: str) -> None:
    while not Path(gate).exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue


@app.task
async def hold_up_the_loop(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.005)  # noqa: ASYNC251


@app.task
def hang_at_first(flow: Flow, gate: str) -> dict[str, int]:
    if flow.attempt == 0:
        hang(gate)
    return {"attempt": flow.attempt}


@app.task
def rescue(on_error: dict[str, Any]) -> dict[str, Any]:
    return {"rescued": on_error}


@app.task
async def neighbour(gate: str) -> dict[str, bool]:
    """Run until the other has been ended, and say how often."""
    runs = Path(gate + ".runs")
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    while not Path(gate + ".free").exists():  # noqa: ASYNC110 - the fact is another process's
        await asyncio.sleep(0.005)
    return {"done": True}


@app.task
def say_deadline(flow: Flow) -> dict[str, float]:
    assert flow.deadline is not None
    return {"seconds": round((flow.deadline - flow.now).total_seconds(), 1)}


STUBBORN = {"hang": hang, "refuse_to_end": refuse_to_end, "hold_up_the_loop": hold_up_the_loop}
for name, task in {**STUBBORN, "heed": heed, "wait_long": wait_long}.items():
    app.graph(name).node("work", task, time_budget=SHORT)
app.graph("retried").node(
    "work", hang_at_first, time_budget=SHORT, retry=Retry(2, 0.001, on=("time_budget",))
)
app.graph("routed").node("work", hang, time_budget=SHORT).node("rescue", rescue).on_error("work", "rescue")
app.graph("neighbour").node("work", neighbour)
app.graph("waiting").node("work", wait_long)
app.graph("heeding").node("work", heed)
app.graph("hanging").node("work", hang)
app.graph("deadline").node("work", say_deadline)
app.graph("deadline_of_node").node("work", say_deadline, time_budget=30)


@app.task
def fail_when_started(gate: str) -> None:
    while not Path(gate + ".started").exists():
        time.sleep(0.005)
    raise ValueError("the first failure")


@app.task
async def pass_by(gate: str) -> None:
    while not Path(gate + ".started").exists():  # noqa: ASYNC110 - the fact is another process's
        await asyncio.sleep(0.005)


@app.task
def meet() -> None: ...


for name, policy, other in (("fail_fast", "fail_fast", "fail_when_started"), ("first", First(1), "pass_by")):
    graph = app.graph(name).node("split", meet, on_failure=policy)
    graph.node("long", wait_long).node("short", other).node("meet", meet)
    graph.fan_out("split", "long", "short").edge("long", "meet").edge("short", "meet").fan_in("meet")


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    """A file that lets what hangs in this process come to an end, when the test has."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def only_step(engine: Engine, key: str) -> StepInfo:
    (step,) = engine.history(key)
    return step


def kinds(engine: Engine, key: str) -> list[str]:
    return [event.kind for event in only_step(engine, key).events]


@pytest.mark.parametrize("workflow", [*STUBBORN, "heed", "wait_long"])
def test_an_attempt_that_outlasts_its_budget_fails(engine: Engine, gate: Path, workflow: str) -> None:
    outcome = engine.run(workflow, {"gate": str(gate)}, timeout=20)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("time_budget", "work")
    assert "0.15 s" in outcome.error.message
    assert kinds(engine, outcome.key) == ["failed"], "it is neither lost nor poison"
    assert outcome.state == {"gate": str(gate)}, "what it returned late counts for nothing"


def test_a_sync_task_is_told_and_an_async_one_cancelled(engine: Engine, gate: Path) -> None:
    engine.run("heed", {"gate": str(gate)}, timeout=20)
    assert Path(f"{gate}.heeded").exists()
    engine.run("wait_long", {"gate": str(gate)}, timeout=20)
    assert Path(f"{gate}.ended").exists()


def test_a_declared_retry_acts_on_it(engine: Engine, gate: Path) -> None:
    outcome = engine.run("retried", {"gate": str(gate)}, timeout=20)
    assert outcome.state["attempt"] == 1
    assert kinds(engine, outcome.key) == ["retry", "done"]


def test_it_is_routed_like_any_error(engine: Engine, gate: Path) -> None:
    outcome = engine.run("routed", {"gate": str(gate)}, timeout=20)
    assert outcome.status == "completed"
    assert outcome.state["rescued"]["code"] == "time_budget"


def test_others_are_neither_held_up_nor_charged(engine: Engine, gate: Path) -> None:
    others = [engine.create("neighbour", {"gate": f"{gate}{n}"}) for n in range(6)]
    for n in range(6):
        eventually(lambda n=n: Path(f"{gate}{n}.runs").exists(), what="the neighbours")
    late = [engine.create("hang", {"gate": str(gate)}) for _ in range(3)]
    for key in late:
        outcome = engine.wait(key, timeout=20)
        assert outcome.error is not None
        assert outcome.error.code == "time_budget"
    for n, key in enumerate(others):
        Path(f"{gate}{n}.free").touch()
        assert engine.wait(key, timeout=20).status == "completed"
        step = only_step(engine, key)
        assert (step.attempt, [event.kind for event in step.events]) == (0, ["done"])


def test_hanging_tasks_do_not_starve_the_others(engine: Engine, gate: Path) -> None:
    hanging = [engine.create("hang", {"gate": str(gate)}) for _ in range(4)]
    assert engine.run("deadline", timeout=20).status == "completed"
    assert {engine.wait(key, timeout=20).status for key in hanging} == {"failed"}
    assert engine.run("deadline", timeout=20).status == "completed"


def test_the_budget_of_the_node_goes_before_that_of_the_flow_and_that_before_the_engines(
    engine: Engine,
) -> None:
    def seconds(workflow: str, **options: Any) -> float:
        return float(engine.run(workflow, timeout=20, **options).state["seconds"])

    assert seconds("deadline") == 120
    assert seconds("deadline", time_budget=timedelta(seconds=50)) == 50
    assert seconds("deadline_of_node", time_budget=50) == 30


@pytest.mark.parametrize(("workflow", "status"), [("fail_fast", "failed"), ("first", "completed")])
def test_a_sibling_that_its_cohort_does_not_wait_for_is_told(
    engine: Engine, gate: Path, workflow: str, status: str
) -> None:
    outcome = engine.run(workflow, {"gate": str(gate)}, timeout=20)
    assert outcome.status == status
    eventually(lambda: Path(f"{gate}.ended").exists(), what="the end of the sibling")


@pytest.mark.parametrize("workflow", ["heeding", "waiting"])
def test_a_task_of_a_cancelled_flow_is_told_at_once(engine: Engine, gate: Path, workflow: str) -> None:
    key = engine.create(workflow, {"gate": str(gate)})
    eventually(lambda: Path(f"{gate}.started").exists(), what="the task")
    engine.cancel(key, "enough")
    outcome = engine.wait(key, timeout=20)
    assert (outcome.status, outcome.cancel_reason) == ("cancelled", "enough")
    ended = ".heeded" if workflow == "heeding" else ".ended"
    eventually(lambda: Path(f"{gate}{ended}").exists(), what="the end of the task")
    assert engine.run("deadline", timeout=20).status == "completed", "its place is free"
    assert "late" not in engine.poll(key).state
