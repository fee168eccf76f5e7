"""The operations awaited: without a thread each, without a leak, without blocking the loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow, Graph
from penstock.errors import Conflict, EngineUnavailable, Invalid, WaitTimeout

OPERATIONS = {
    "create",
    "create_many",
    "run",
    "run_task",
    "wait",
    "poll",
    "snapshot",
    "history",
    "step",
    "list",
    "resume",
    "cancel",
    "processes",
    "start",
    "shutdown",
}


class Gate:
    """An app with tasks that count, ask, and stand at a gate that the test opens."""

    def __init__(self) -> None:
        self.app = App("async")
        self.gate = threading.Event()
        self.at_gate = threading.Event()

        def double(n: int) -> dict[str, Any]:
            return {"n": 2 * n}

        def ask(flow: Flow) -> dict[str, Any]:
            return {"answer": flow.interrupt("go on?")}

        def stand() -> dict[str, Any]:
            self.at_gate.set()
            assert self.gate.wait(30)
            return {"passed": True}

        for task in (double, ask, stand):
            self.app.task(task)
            self.app.graph(task.__name__).node(task.__name__)


@pytest.fixture
def house() -> Gate:
    return Gate()


def waits_of(engine: AsyncEngine) -> list[bytes]:
    return engine._ready.waiters.stopped.keys()


async def until(fact: Callable[[], object], what: str) -> None:
    """Wait for a fact without blocking the loop that has to bring it about."""
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110  # the fact is another thread's
            await asyncio.sleep(0.002)
    assert fact(), what


def test_engine_async_engine_and_client_have_the_same_names_and_signatures() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Engine) == public(AsyncEngine) == public(Client) >= OPERATIONS
    for name in public(Engine):
        of_engine = inspect.signature(getattr(Engine, name))
        assert inspect.signature(getattr(AsyncEngine, name)) == of_engine, name
        assert inspect.signature(getattr(Client, name)) == of_engine, name
        assert inspect.iscoroutinefunction(getattr(AsyncEngine, name)), name
    assert inspect.signature(AsyncEngine) == inspect.signature(Engine)


def test_every_operation_can_be_awaited(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url) as engine:
            done = await engine.run("double", {"n": 2})
            assert done.state == {"n": 4}
            assert await engine.wait(done.key) == await engine.poll(done.key) == done
            assert await engine.snapshot(done.key) == done
            (step,) = await engine.history(done.key)
            assert (await engine.step(step.key)).changes == {"n": 4}
            assert (await engine.run_task("double", {"n": 4})).state == {"n": 8}
            keys = await engine.create_many("double", [{"n": 1}, {"n": 2}])
            assert [(await engine.wait(key)).state["n"] for key in keys] == [2, 4]
            asked = await engine.create("ask")
            assert (await engine.wait(asked)).status == "interrupted"
            await engine.resume(asked, "yes")
            assert (await engine.wait(asked)).state == {"answer": "yes"}
            with pytest.raises(Conflict):
                await engine.cancel(asked)
            with pytest.raises(Invalid):
                await engine.run("double", {"n": object()})
            once = [await engine.create("double", {"n": 1}, idempotency_key="k") for _ in range(2)]
            assert once[0] == once[1]
            page = await engine.list(workflow="ask")
            assert [flow.key for flow in page.items] == [asked]
            assert [process.kind for process in await engine.processes()] == ["engine"]

    asyncio.run(scenario())


def test_a_thousand_waits_need_no_thousand_threads(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url) as engine:
            standing = asyncio.create_task(engine.run("stand"))
            await until(house.at_gate.is_set, "a task at the gate holds the one thread of tasks")
            before = threading.active_count()
            runs = [asyncio.create_task(engine.run("double", {"n": n})) for n in range(1_000)]
            await until(lambda: len(waits_of(engine)) == 1_001, "all waits")
            assert threading.active_count() <= before + 8
            house.gate.set()
            outcomes = await asyncio.gather(*runs)
            assert [outcome.state["n"] for outcome in outcomes] == [2 * n for n in range(1_000)]
            assert (await standing).state == {"passed": True}
            assert waits_of(engine) == []

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_the_flow_running_and_no_trace(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url) as engine:
            run = asyncio.create_task(engine.run("stand"))
            await until(house.at_gate.is_set, "the flow runs")
            (flow,) = (await engine.list()).items
            wait = asyncio.create_task(engine.wait(flow.key))
            await until(engine._ready.waiters.stopped.keys, "the waits")
            for task in (run, wait):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await until(lambda: not waits_of(engine), "no waiter is left")
            house.gate.set()
            assert (await engine.wait(flow.key)).state == {"passed": True}

    asyncio.run(scenario())


def test_operations_cancelled_at_any_moment_leak_no_waiter(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url) as engine:
            for turns in range(60):
                task = asyncio.create_task(engine.run("ask"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait((task,))
            await until(lambda: not waits_of(engine), "no waiter is left")
            assert engine._ready.waiters.created.keys() == []
            assert (await engine.run("double", {"n": 1})).state == {"n": 2}

    asyncio.run(scenario())


def test_a_timeout_is_raised_and_the_flow_goes_on(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url) as engine:
            with pytest.raises(WaitTimeout) as refusal:
                await engine.run("stand", timeout=0.01)
            assert waits_of(engine) == []
            house.gate.set()
            assert refusal.value.flow_key is not None
            assert (await engine.wait(refusal.value.flow_key)).state == {"passed": True}

    asyncio.run(scenario())


def test_shutdown_refuses_those_who_wait(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        engine = AsyncEngine(house.app, database_url)
        await engine.start()
        key = await engine.create("ask")
        assert (await engine.wait(key)).status == "interrupted"
        stuck = asyncio.create_task(engine.run("stand"))
        await until(house.at_gate.is_set, "the flow runs")
        await engine.shutdown(timeout=0)
        with pytest.raises(EngineUnavailable, match="shut down"):
            await stuck
        with pytest.raises(EngineUnavailable, match="does not run"):
            await engine.wait(key)
        await engine.shutdown()
        house.gate.set()
        async with engine:
            assert (await engine.wait(key)).status == "interrupted"

    asyncio.run(scenario())


def test_a_start_that_is_cancelled_leaves_nothing_behind(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        starting = asyncio.create_task(AsyncEngine(house.app, database_url).start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        async with AsyncEngine(house.app, database_url) as engine:
            assert (await engine.run("double", {"n": 1})).state == {"n": 2}

    asyncio.run(scenario())


def test_operations_see_the_context_of_their_caller(house: Gate, database_url: str) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen = []

    class Loader:
        def load(self, workflow: str, baggage: Any) -> Graph | None:
            seen.append((workflow, tenant.get()))
            return Graph(workflow).node("double")

    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url, loader=Loader()) as engine:
            tenant.set("ada")
            assert (await engine.run("elsewhere", {"n": 1})).state == {"n": 2}

    asyncio.run(scenario())
    assert seen == [("elsewhere", "ada")]


def test_the_loop_goes_on_while_the_database_is_slow(house: Gate, database_url: str) -> None:
    async def scenario() -> None:
        async with AsyncEngine(house.app, database_url) as engine:
            read, entered, gate = engine._ready.store.outcome, threading.Event(), threading.Event()

            def slow(flow_id: bytes) -> Any:
                entered.set()
                assert gate.wait(20)
                return read(flow_id)

            key = await engine.create("double", {"n": 1})
            engine._ready.store.outcome = slow  # type: ignore[method-assign]  # a database that takes its time
            polls: list[Coroutine[Any, Any, Any]] = [engine.poll(key) for _ in range(3)]
            tasks = [asyncio.create_task(poll) for poll in polls]
            await until(entered.is_set, "a read is under way, and this loop still turns")
            gate.set()
            assert {outcome.key for outcome in await asyncio.gather(*tasks)} == {key}

    asyncio.run(scenario())
