"""Flows that outlive the engine that runs them, or its memory of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, Flow
from penstock.errors import EngineUnavailable
from tests.support.database import query
from tests.support.ledger import Ledger, note
from tests.support.waiting import eventually

app = App("restarts")


@app.task
def slow(flow: Flow, ledger: str, gate: str) -> dict[str, Any]:
    note(ledger, step=flow.step_key)
    while not Path(gate).exists():
        time.sleep(0.001)
    return {"count": 1, "trail": [flow.node]}


@app.task
def quick(flow: Flow, ledger: str) -> dict[str, Any]:
    note(ledger, step=flow.step_key)
    return {"count": 1, "trail": [flow.node]}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"trail": [flow.interrupt("well?")], "count": 1}


@app.task
def nap(flow: Flow, by: float) -> dict[str, Any]:
    flow.sleep(by)
    return {"count": 1, "trail": ["nap"]}


@app.task
def call(flow: Flow, ledger: str, gate: str) -> dict[str, Any]:
    child = flow.subgraph("slow", {"ledger": ledger, "gate": gate})
    return {"count": child["count"], "trail": ["child"]}


CHAINS: dict[str, dict[str, Callable[..., dict[str, Any]]]] = {
    "slow": {"first": quick, "held": slow, "last": quick},
    "ask": {"first": quick, "ask": ask, "last": quick},
    "nap": {"first": quick, "nap": nap, "last": quick},
    "call": {"first": quick, "call": call, "last": quick},
}
for name, nodes in CHAINS.items():
    graph = app.graph(name).reducer("count", "add").reducer("trail", "append")
    for node, task in nodes.items():
        graph.node(node, task)
    graph.chain(*nodes)

wide = app.graph("wide").reducer("count", "add").reducer("trail", "append")
wide.node("first", quick).node("each", quick).node("ask", ask).node("join", quick).for_each(
    "first", "each", over="items"
).chain("each", "ask", "join").fan_in("join")

StartEngine = Callable[..., Engine]


@pytest.fixture
def state(ledger: Ledger, tmp_path: Path) -> dict[str, Any]:
    return {"ledger": str(ledger.path), "gate": str(tmp_path / "gate")}


def ledger_is_clean(ledger: Ledger) -> bool:
    return set(ledger.counts("step").values()) == {1}


def owners(database: Path) -> set[int | None]:
    return {owner for (owner,) in query(database, "SELECT owner FROM penstock_live")}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shutdown_lets_running_tasks_finish_and_the_next_engine_goes_on(
    database_url: str, database: Path, ledger: Ledger, state: dict[str, Any], workers: int
) -> None:
    engine = Engine(app, database_url, workers=workers)
    engine.start()
    keys = engine.create_many("slow", [state] * 20)
    ledger.wait_for(21)
    stopping = threading.Thread(target=engine.shutdown)
    stopping.start()
    eventually(lambda: repr(engine).endswith("stopped>"), what="the shutdown to begin")
    Path(state["gate"]).touch()
    stopping.join(20)
    assert owners(database) == {None}
    at_rest = len(ledger.entries())
    assert at_rest < 60, "it was stopped half way"
    assert ledger_is_clean(ledger)
    with Engine(app, database_url, workers=workers) as engine:
        for key in keys:
            outcome = engine.wait(key, timeout=20)
            assert (outcome.state["count"], outcome.state["trail"]) == (3, ["first", "held", "last"])
    assert ledger_is_clean(ledger), "no task ran twice over a clean shutdown"


def test_a_task_that_outlives_the_shutdown_runs_again(
    database_url: str, ledger: Ledger, state: dict[str, Any]
) -> None:
    engine = Engine(app, database_url, workers=1)
    engine.start()
    key = engine.create("slow", state)
    ledger.wait_for(2)
    engine.shutdown(timeout=0)
    Path(state["gate"]).touch()
    with Engine(app, database_url, workers=1) as engine:
        assert engine.wait(key, timeout=20).state["count"] == 3
        (_, held, _) = engine.history(key)
        assert (held.attempt, [event.kind for event in held.events]) == (0, ["done"]), "it is charged nothing"
    assert sorted(ledger.counts("step").values()) == [1, 1, 2]


def test_a_waiting_call_ends_with_the_engine_and_names_the_flow(
    database_url: str, ledger: Ledger, state: dict[str, Any]
) -> None:
    with Engine(app, database_url) as engine:
        key = engine.create("ask", state)
        assert engine.wait(key, timeout=10).status == "interrupted"
        waits = engine.create("nap", {**state, "by": 600})
        failures: list[Exception] = []

        def wait() -> None:
            try:
                engine.wait(waits)
            except EngineUnavailable as error:
                failures.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        eventually(lambda: engine.history(waits)[-1].status == "parked", what="the flow to sleep")
    waiting.join(10)
    assert not waiting.is_alive()
    assert [waits in str(error) for error in failures] == [True]


def test_a_question_is_released_and_its_answer_brings_the_flow_back(
    database_url: str, database: Path, state: dict[str, Any]
) -> None:
    with Engine(app, database_url) as engine:
        keys = engine.create_many("ask", [state] * 30)
        for key in keys:
            assert engine.wait(key, timeout=10).status == "interrupted"
        eventually(lambda: owners(database) == {None}, what="all flows to be released")
        for number, key in enumerate(keys):
            engine.resume(key, number)
        for number, key in enumerate(keys):
            assert engine.wait(key, timeout=10).state["trail"] == ["first", number, "last"]


def test_a_question_outlives_any_number_of_engines(
    database_url: str, database: Path, ledger: Ledger, state: dict[str, Any]
) -> None:
    with Engine(app, database_url) as engine:
        key = engine.create("wide", {**state, "items": [1, 2, 3]})
        eventually(lambda: len(engine.snapshot(key).interrupts) == 3, what="three questions")
    for answer in ("b", "c"):
        with Engine(app, database_url) as engine:
            before = engine.snapshot(key)
            assert before.status == "interrupted"
            engine.resume(key, answer, interrupt_id=before.interrupts[-1].interrupt_id)
            assert engine.snapshot(key).interrupts == before.interrupts[:-1]
    with Engine(app, database_url) as engine:
        engine.resume(key, "a")
        outcome = engine.wait(key, timeout=10)
    assert sorted(outcome.state["trail"]) == ["a", "b", "c", "each", "each", "each", "first", "join"]
    assert ledger_is_clean(ledger)
    assert query(database, "SELECT count(*) FROM penstock_inbox WHERE answered_at IS NULL") == [(0,)]


def test_a_sleeper_wakes_in_another_engine(database_url: str, database: Path, state: dict[str, Any]) -> None:
    with Engine(app, database_url) as engine:
        short = engine.create("nap", {**state, "by": 0.2})
        long = engine.create("nap", {**state, "by": 6})
        eventually(lambda: engine.history(long)[-1].status == "parked", what="the flow to sleep")
        eventually(lambda: None in owners(database), what="the long sleeper to be released")
    with Engine(app, database_url) as engine:
        assert engine.wait(short, timeout=10).state["count"] == 3
        assert engine.snapshot(long).status == "running"
        engine.cancel(long)


def test_a_due_sleeper_is_woken_at_the_start(database_url: str, state: dict[str, Any]) -> None:
    with Engine(app, database_url) as engine:
        key = engine.create("nap", {**state, "by": 3_600})
        eventually(lambda: engine.history(key)[-1].status == "parked", what="the flow to sleep")
    later = int(time.time() * 1000) + 3_600_001
    with Engine(app, database_url, clock=lambda: later) as engine:
        assert engine.wait(key, timeout=10).state["trail"] == ["first", "nap", "last"]


def test_a_parent_and_its_child_go_on_in_the_next_engine(
    database_url: str, ledger: Ledger, state: dict[str, Any]
) -> None:
    engine = Engine(app, database_url, workers=1)
    engine.start()
    keys = [engine.create("call", state) for _ in range(3)]
    ledger.wait_for(5)
    engine.shutdown(timeout=0)
    Path(state["gate"]).touch()
    with Engine(app, database_url, workers=1) as engine:
        for key in keys:
            outcome = engine.wait(key, timeout=20)
            assert (outcome.state["count"], outcome.state["trail"]) == (5, ["first", "child", "last"])


def test_a_backlog_beyond_the_room_waits_in_the_database(
    database_url: str, database: Path, ledger: Ledger, state: dict[str, Any]
) -> None:
    Path(state["gate"]).touch()
    with Engine(app, database_url, room=5) as engine:
        keys = engine.create_many("slow", [state] * 60)
        for key in keys:
            assert engine.wait(key, timeout=30).state["count"] == 3
    assert ledger_is_clean(ledger)


def test_an_engine_starts_and_stops_many_times(database_url: str, state: dict[str, Any]) -> None:
    engine = Engine(app, database_url)
    for _ in range(5):
        engine.start()
        engine.start()
        assert engine.run("ask", state, timeout=10).status == "interrupted"
        engine.shutdown()
        engine.shutdown()
