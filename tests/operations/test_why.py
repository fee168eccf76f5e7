"""Why steps wait, from the engine that owns them and from elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Invalid, NotFound, Unavailable
from penstock.outcome import WaitingStep
from tests.support.databases import Database
from tests.support.waiting import eventually as wait_for

Fact = TypeVar("Fact")

app = App("why")
gate = threading.Event()
is_up = threading.Event()


@app.task
def lean() -> dict[str, Any]:
    if not is_up.is_set():
        raise Unavailable("connection refused")
    return {"done": True}


@app.task
def hold() -> None:
    gate.wait(30)


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt()}


app.graph("lean").node("lean", resource="mail").chain("lean")
app.graph("hold").chain(hold)
app.graph("ask").chain(ask)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    gate.clear()
    is_up.clear()
    yield
    gate.set()
    is_up.set()


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with Engine(app, database.url, name="one") as engine:
        yield engine
        gate.set()
        is_up.set()


def eventually(fact: Callable[[], Fact]) -> Fact:
    return wait_for(fact, what="the reason")


def reasons(rows: tuple[WaitingStep, ...]) -> list[str]:
    return [row.reason for row in rows]


def test_an_open_breaker_is_named_with_its_cause_and_its_next_probe(engine: Engine) -> None:
    key = engine.create("lean")
    other = engine.create("lean")
    # For a moment every now and then it is the probe, and runs.
    row = eventually(lambda: next((row for row in engine.why(key) if row.reason == "breaker"), None))
    assert row is not None
    assert (row.flow_key, row.step_key, row.node, row.resource) == (key, f"{key}/1", "lean", "mail")
    assert row.owner == "one"
    assert row.detail["cause"] == "connection refused"
    assert row.until is not None
    eventually(lambda: {row.flow_key for row in engine.waiting(resource="mail")} == {key, other})
    assert engine.waiting(resource="nobody") == ()
    eventually(lambda: len(engine.waiting(limit=1)) == 1)
    mail = eventually(lambda: next((found for found in engine.resources() if found.ready == 2), None))
    assert mail is not None
    assert mail.name == "mail"
    assert mail.cause == "connection refused"
    assert mail.next_probe_at is not None
    is_up.set()
    assert engine.wait(key, timeout=30).status == "completed"
    assert engine.why(key) == ()


def test_a_step_without_a_free_worker_waits_for_that(engine: Engine, database: Database) -> None:
    first = engine.create("hold")
    eventually(lambda: engine.progress(first)["running"] == 1)
    second = engine.create("hold")
    eventually(lambda: reasons(engine.why(second)) == ["no_free_worker"])
    assert engine.why(first) == ()
    with Client(None, database.url) as client:
        assert [(row.reason, row.owner) for row in client.why(second)] == [("elsewhere", "one")]


def test_what_holds_a_flow_is_told_from_anywhere(engine: Engine, database: Database) -> None:
    held = engine.create("ask", hold=True)
    later = engine.create("ask", start_at=datetime.now(UTC) + timedelta(days=1))
    asked = engine.create("ask")
    stopped = engine.create("ask", hold=True)
    engine.break_before(stopped, "ask")
    engine.unpause(stopped)
    eventually(lambda: engine.snapshot(stopped).status == "interrupted")
    with Client(None, database.url) as client:
        for side in (engine, client):
            eventually(lambda side=side: reasons(side.why(held)) == ["paused"])
            eventually(lambda side=side: reasons(side.why(later)) == ["not_due"])
            eventually(lambda side=side: reasons(side.why(asked)) == ["parked"])
            [row] = side.why(stopped)
            assert (row.reason, row.node, row.step_key) == ("breakpoint", "ask", f"{stopped}/1")
            assert side.why(later)[0].until is not None
    engine.cancel(held)
    assert engine.why(held) == ()


def test_flows_that_nobody_owns_wait_for_an_engine(database: Database) -> None:
    with Engine(app, database.url):
        pass
    with Client(None, database.url) as client:
        worse, better = client.create("lean", priority=9), client.create("lean", priority=3)
        assert [(row.flow_key, row.reason, row.owner) for row in client.waiting()] == [
            (better, "unclaimed", None),
            (worse, "unclaimed", None),
        ]
        assert reasons(client.why(worse)) == ["unclaimed"]
        assert client.waiting(resource="mail") == ()
        assert len(client.waiting(limit=1)) == 1
        assert client.resources() == ()


def test_what_cannot_be_asked_is_refused(engine: Engine) -> None:
    with pytest.raises(NotFound, match="no flow has the key 'x'"):
        engine.why("x")
    for limit in (0, 1_001, True):
        with pytest.raises(Invalid, match="limit is"):
            engine.waiting(limit=limit)


def test_an_async_engine_tells_it_too(database: Database) -> None:
    async def ask_it() -> None:
        async with AsyncEngine(app, database.url) as engine:
            key = await engine.create("ask", hold=True)
            assert reasons(await engine.why(key)) == ["paused"]
            assert await engine.waiting(resource="mail") == ()
            assert await engine.resources() is not None

    asyncio.run(ask_it())
