"""A host's executor in place of an app's tasks, and the flow that deep code finds."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import App, Engine, Flow, current_flow
from penstock.errors import Invalid, Permanent, RateLimited, Retryable, Unavailable

NAMES = [
    "plain",
    "nothing",
    "permanent",
    "retryable",
    "limited",
    "away",
    "wrong",
    "write",
    "slow",
    "deep",
    "ask",
]
remote = App("remote")
for name in NAMES:
    remote.graph(name).node("work", name, time_budget=0.2 if name == "slow" else None)
remote.graph("wide").reducer("total", "add").for_each("plain", "sum", over="items").edge(
    "sum", "nothing"
).fan_in("nothing")


class Bus:
    """What tasks do, whichever way they are called."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}

    def act(self, task: str, flow: Flow) -> Mapping[str, Any] | None:
        tries = self.tries[flow.key] = self.tries.get(flow.key, 0) + 1
        if task == "permanent":
            raise Permanent("refused_there", "no", data={"by": "them"})
        if task == "retryable":
            raise Retryable("later", "not now")
        if task in ("limited", "away") and tries == 1:
            raise RateLimited(0.001) if task == "limited" else Unavailable("away")
        if task == "wrong":
            return [1]  # type: ignore[return-value]  # what a careless host does
        if task == "write":
            flow["written"] = flow.get("n", int, 0)
            flow.overwrite("over", 1)
            return None
        if task == "deep":
            return {"found": current_flow() is flow}
        if task == "ask":
            return {"answer": flow.interrupt({"question": "?"})}
        if task == "sum":
            return {"total": flow["item"]}
        return None if task == "nothing" else {"n": flow.get("n", int, 0) + 1, "attempt": flow.attempt}


class Sync(Bus):
    def execute(self, task: str, flow: Flow) -> Mapping[str, Any] | None:
        if task == "slow":
            while not flow.is_cancelled:
                time.sleep(0.005)
        return self.act(task, flow)


class Async(Bus):
    async def execute(self, task: str, flow: Flow) -> Mapping[str, Any] | None:
        await asyncio.sleep(10 if task == "slow" else 0)
        return self.act(task, flow)


class Either(Bus):
    """A plain function that gives an awaitable now and then."""

    def execute(
        self, task: str, flow: Flow
    ) -> Mapping[str, Any] | Awaitable[Mapping[str, Any] | None] | None:
        return self.later(task, flow) if task != "plain" else self.act(task, flow)

    async def later(self, task: str, flow: Flow) -> Mapping[str, Any] | None:
        while task == "slow" and not flow.is_cancelled:  # noqa: ASYNC110 - it is told through the flow
            await asyncio.sleep(0.005)
        return self.act(task, flow)


@pytest.fixture(scope="module", params=[Sync, Async, Either], ids=["sync", "async", "either"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path_factory.mktemp('executor') / 'flows.db'}"
    with Engine(remote, url, executor=request.param()) as engine:
        yield engine


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("plain", {"n": 2, "attempt": 0}),
        ("nothing", {"n": 1}),
        ("write", {"n": 1, "written": 1, "over": 1}),
        ("deep", {"n": 1, "found": True}),
        ("limited", {"n": 2, "attempt": 0}),
        ("away", {"n": 2, "attempt": 0}),
    ],
)
def test_what_an_executor_gives_is_merged(engine: Engine, task: str, expected: dict[str, Any]) -> None:
    assert engine.run(task, {"n": 1}, timeout=20).state == expected


@pytest.mark.parametrize(
    ("task", "code", "data"),
    [
        ("permanent", "refused_there", {"by": "them"}),
        ("retryable", "later", None),
        ("wrong", "invalid_state", None),
        ("slow", "time_budget", None),
    ],
)
def test_its_errors_are_errors_of_the_step(engine: Engine, task: str, code: str, data: Any) -> None:
    error = engine.run(task, timeout=20).error
    assert error is not None
    assert (error.code, error.data) == (code, data)


def test_its_tasks_may_park(engine: Engine) -> None:
    key = engine.create("ask")
    assert engine.wait(key, timeout=20).status == "interrupted"
    engine.resume(key, 7)
    assert engine.wait(key, timeout=20).state == {"answer": 7}


def test_it_runs_the_branches_of_a_cohort(engine: Engine) -> None:
    outcome = engine.run("wide", {"items": list(range(200))}, timeout=20)
    assert outcome.state["total"] == sum(range(200))


app = App("deep")


def find() -> str:
    return current_flow().node


@app.task
def look_around(flow: Flow) -> dict[str, Any]:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as threads:
        in_thread = threads.submit(context.run, find).result()
        bare: list[str] = []
        stranger = threading.Thread(target=lambda: bare.append(_kind_of_refusal()))
        stranger.start()
        stranger.join()
    return {"found": [find(), in_thread, *bare]}


@app.task
async def look_around_async() -> dict[str, Any]:
    async def nested() -> str:
        await asyncio.sleep(0)
        return find()

    together = await asyncio.gather(nested(), asyncio.create_task(nested()), asyncio.to_thread(find))
    return {"found": [find(), *together]}


def _kind_of_refusal() -> str:
    try:
        return find()
    except Invalid as error:
        return error.code


app.graph("sync").node("here", look_around)
app.graph("async").node("here", look_around_async)


@pytest.mark.parametrize("workers", [0, 1])
def test_deep_code_finds_its_flow_in_threads_and_asyncio_tasks(database_url: str, workers: int) -> None:
    with Engine(app, database_url, workers=workers) as engine:
        assert engine.run("sync", timeout=20).state == {"found": ["here", "here", "invalid"]}
        keys = [engine.create("async") for _ in range(5)]
        assert all(engine.wait(key, timeout=20).state == {"found": ["here"] * 4} for key in keys)
    with pytest.raises(Invalid):
        current_flow()
