"""What a host may plug in, and tasks that wait without holding a thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock import App, Engine, Flow, Graph
from penstock.errors import NotFound, Permanent
from tests.support.ledger import Ledger, note

app = App("seams")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
async def meet(flow: Flow, ledger: str, number: int) -> dict[str, Any]:
    """End when so many of its kind run at the same time."""
    note(ledger, step=flow.step_key)
    while len(Path(ledger).read_text().splitlines()) < number:  # noqa: ASYNC110 - others are other processes
        await asyncio.sleep(0.001)
    return {"pid": os.getpid()}


@app.task
async def ask(flow: Flow) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"answer": flow.interrupt("well?")}


app.graph("double").chain(double)
app.graph("meet").chain(meet)
app.graph("ask").chain(ask)


@pytest.mark.parametrize(("workers", "number"), [(0, 50), (1, 50), (2, 100)])
def test_async_tasks_run_side_by_side(database_url: str, ledger: Ledger, workers: int, number: int) -> None:
    with Engine(app, database_url, workers=workers) as engine:
        keys = engine.create_many("meet", [{"ledger": str(ledger.path), "number": number}] * number)
        pids = {engine.wait(key, timeout=20).state["pid"] for key in keys}
    assert len(pids) <= max(workers, 1)


def test_sync_and_async_tasks_share_a_worker(database_url: str, ledger: Ledger) -> None:
    with Engine(app, database_url, workers=1) as engine:
        waiting = engine.create("meet", {"ledger": str(ledger.path), "number": 2})
        ledger.wait_for(1)
        assert engine.run("double", {"n": 2}, timeout=10).state == {"n": 4}
        note(ledger.path, step="the other")
        assert engine.wait(waiting, timeout=10).status == "completed"


def test_an_async_task_may_ask(engine: Engine) -> None:
    key = engine.create("ask")
    assert engine.wait(key, timeout=10).status == "interrupted"
    engine.resume(key, 3)
    assert engine.wait(key, timeout=10).state == {"answer": 3}


class Executor:
    """Runs every task by name, in the process of the test."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, str]] = []

    def execute(
        self, task: str, flow: Flow
    ) -> Mapping[str, Any] | Awaitable[Mapping[str, Any] | None] | None:
        self.calls.append((task, os.getpid(), threading.current_thread().name))
        if task == "later":
            return self._later(flow)
        if task == "refused":
            raise Permanent("refused_there", "the other side says no")
        return {"n": flow.get("n", int) + 1}

    async def _later(self, flow: Flow) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"n": flow.get("n", int) * 10}


def test_an_executor_runs_tasks_that_no_app_has(database_url: str) -> None:
    executor = Executor()
    remote = App("remote")
    remote.graph("remote").chain("now", "later")
    remote.graph("refused").chain("refused")
    with Engine(remote, database_url, executor=executor) as engine:
        assert engine.run("remote", {"n": 1}, timeout=10).state == {"n": 20}
        error = engine.run("refused", timeout=10).error
        assert engine.run_task("anything", {"n": 1}, timeout=10).state == {"n": 2}
    assert error is not None
    assert (error.code, error.message) == ("refused_there", "the other side says no")
    assert [task for task, _, _ in executor.calls] == ["now", "later", "refused", "anything"]
    assert {pid for _, pid, _ in executor.calls} == {os.getpid()}
    assert threading.main_thread().name not in {thread for _, _, thread in executor.calls}


class Loader:
    """Makes graphs from what stands in the baggage."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def load(self, workflow: str, baggage: Mapping[str, Any]) -> Graph | None:
        self.asked.append((workflow, dict(baggage)))
        if workflow != "loaded":
            return None
        graph = Graph(workflow)
        names = [f"n{number}" for number in range(int(baggage["length"]))]
        for name in names:
            graph.node(name, "double")
        return graph.chain(*names)


def test_a_loader_gives_each_flow_its_graph(database_url: str) -> None:
    loader = Loader()
    with Engine(app, database_url, loader=loader) as engine:
        for length in (1, 3):
            outcome = engine.run("loaded", {"n": 1}, baggage={"length": length}, timeout=10)
            assert outcome.state == {"n": 2**length}
        with pytest.raises(NotFound):
            engine.create("unknown")
        assert engine.run("double", {"n": 1}, timeout=10).status == "completed"
    assert loader.asked == [("loaded", {"length": 1}), ("loaded", {"length": 3}), ("unknown", {})]
