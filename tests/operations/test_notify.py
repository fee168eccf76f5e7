"""The host is told of every stop that a flow's creator wanted to know of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow, Outcome
from penstock.errors import NotFound, Permanent
from tests.support.databases import Database
from tests.support.waiting import eventually

app = App("notify")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def fail() -> None:
    raise Permanent("no_stock", "nothing left", data={"sku": 7})


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt({"question": "go on?"})}


@app.task
def call(flow: Flow) -> dict[str, Any]:
    return {"child": flow.subgraph("double", {"n": 3})["n"]}


for name, task in (("double", double), ("fail", fail), ("ask", ask), ("call", call)):
    app.graph(name).chain(task)


class Told:
    """What the host was told, and what it answers."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Outcome, str]] = []
        self.refusals = 0

    def __call__(self, outcome: Outcome, address: str) -> None:
        self.outcomes.append((outcome, address))
        if self.refusals:
            self.refusals -= 1
            raise OSError("the host's bus is away")

    def wait_for(self, number: int) -> list[tuple[Outcome, str]]:
        eventually(lambda: len(self.outcomes) >= number, what=f"{number} calls")
        return self.outcomes


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def engine(database: Database, told: Told) -> Iterator[Engine]:
    with Engine(app, database.url, on_flow_stopped=told) as engine:
        yield engine


def left(database: Database) -> int:
    return int(database.rows("SELECT count(*) FROM penstock_outbox")[0][0])


def wait_until_empty(database: Database) -> None:
    eventually(lambda: not left(database), what="the outbox to be empty")


def test_a_completed_flow_is_told_with_its_outcome_and_the_address(
    engine: Engine, database: Database, told: Told
) -> None:
    outcome = engine.run("double", {"n": 4}, notify_on_stop="bus:orders é")
    assert told.wait_for(1) == [(outcome, "bus:orders é")]
    wait_until_empty(database)


def test_failures_and_cancels_are_told_too(engine: Engine, told: Told) -> None:
    failed = engine.run("fail", notify_on_stop="a")
    ((outcome, _),) = told.wait_for(1)
    assert outcome == failed
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.data) == ("no_stock", {"sku": 7})
    key = engine.create("ask")
    engine.cancel(key)
    key = engine.create("ask", notify_on_stop="b")
    engine.cancel(key, "no more")
    told.wait_for(2)
    eventually(lambda: told.outcomes[-1][0].status == "cancelled", what="the cancel to be told")
    assert told.outcomes[-1] == (engine.wait(key), "b")
    assert told.outcomes[-1][0].cancel_reason == "no more"


def test_an_interrupt_is_told_with_its_question_and_the_end_once_more(engine: Engine, told: Told) -> None:
    key = engine.create("ask", {"n": 1}, notify_on_stop="a")
    ((outcome, _),) = told.wait_for(1)
    assert (outcome.status, outcome.state) == ("interrupted", {"n": 1})
    assert [asked.payload for asked in outcome.interrupts] == [{"question": "go on?"}]
    engine.resume(key, "yes")
    told.wait_for(2)
    assert told.outcomes[1][0] == engine.wait(key)


def test_only_the_root_is_told_of_and_only_when_it_was_asked_for(
    engine: Engine, database: Database, told: Told
) -> None:
    engine.run("double", {"n": 1})
    root = engine.run("call", notify_on_stop="root")
    assert told.wait_for(1) == [(root, "root")]
    wait_until_empty(database)
    assert len(told.outcomes) == 1


def test_a_call_that_raises_is_made_again_and_keeps_no_other_waiting(
    engine: Engine, database: Database, told: Told
) -> None:
    told.refusals = 2
    first = engine.run("double", {"n": 1}, notify_on_stop="first")
    told.wait_for(1)
    second = engine.run("double", {"n": 2}, notify_on_stop="second")
    told.wait_for(4)
    wait_until_empty(database)
    assert sorted(address for _, address in told.outcomes) in (
        ["first", "first", "first", "second"],
        ["first", "first", "second", "second"],
    )
    assert {outcome.key for outcome, _ in told.outcomes} == {first.key, second.key}


def test_a_flow_of_a_client_is_told_by_an_engine_that_comes_later(database: Database, told: Told) -> None:
    with Engine(app, database.url), Client(None, database.url) as client:
        outcome = client.run("double", {"n": 4}, notify_on_stop="a", timeout=20)
        assert left(database) == 1
    with Engine(app, database.url, on_flow_stopped=told):
        assert told.wait_for(1) == [(outcome, "a")]
        wait_until_empty(database)


def test_what_was_told_is_told_although_the_flow_has_gone_on(database: Database, told: Told) -> None:
    with Engine(app, database.url) as engine:
        key = engine.create("ask", notify_on_stop="a")
        engine.wait(key)
        engine.resume(key, 1)
        engine.wait(key)
    with Engine(app, database.url, on_flow_stopped=told):
        statuses = [outcome.status for outcome, _ in told.wait_for(2)]
    assert statuses == ["interrupted", "completed"]


def test_a_deleted_flow_is_not_told_of(database: Database, told: Told) -> None:
    with Engine(app, database.url) as engine:
        engine.delete(engine.run("double", {"n": 1}, notify_on_stop="a").key)
    assert left(database) == 0


def test_what_is_to_be_awaited_is_awaited(database: Database) -> None:
    told = []

    async def callback(outcome: Outcome, address: str) -> None:
        await asyncio.sleep(0)
        told.append((outcome, address))

    with Engine(app, database.url, on_flow_stopped=callback) as engine:
        outcome = engine.run("double", {"n": 1}, notify_on_stop="a")
        eventually(lambda: told, what="the call")
    assert told == [(outcome, "a")]


def test_an_async_engine_awaits_it_on_the_host_s_loop(database: Database) -> None:
    async def scenario() -> None:
        called = asyncio.Event()
        loops = []

        async def callback(outcome: Outcome, address: str) -> None:
            loops.append(asyncio.get_running_loop())
            called.set()

        async with AsyncEngine(app, database.url, on_flow_stopped=callback) as engine:
            await engine.run("double", {"n": 1}, notify_on_stop="a")
            async with asyncio.timeout(20):
                await called.wait()
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(scenario())


@contextmanager
def released(gate: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        gate.set()


def test_an_engine_stops_although_the_host_s_function_hangs_and_the_next_one_tells(
    database: Database, told: Told
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hang(outcome: Outcome, address: str) -> None:
        entered.set()
        gate.wait()

    with released(gate):
        engine = Engine(app, database.url, on_flow_stopped=hang)
        engine.start()
        outcome = engine.run("double", {"n": 1}, notify_on_stop="a")
        assert entered.wait(20)
        engine.shutdown(timeout=0.05)
        with Engine(app, database.url, on_flow_stopped=told):
            assert told.wait_for(1) == [(outcome, "a")]


@pytest.mark.needs("replicas")
def test_of_several_engines_one_tells(database: Database) -> None:
    tellers = [Told(), Told(), Told()]
    engines = [Engine(app, database.url, on_flow_stopped=told) for told in tellers]
    for engine in engines:
        engine.start()
    with Client(None, database.url) as client:
        keys = client.create_many("double", [{"n": n} for n in range(60)], notify_on_stop="a")
        for key in keys:
            client.wait(key, timeout=20)
    wait_until_empty(database)
    for engine in engines:
        engine.shutdown()
    assert sorted(outcome.key for told in tellers for outcome, _ in told.outcomes) == sorted(keys)


def test_what_is_no_function_is_refused(database: Database) -> None:
    from penstock.errors import Invalid

    with pytest.raises(Invalid, match="on_flow_stopped is 'bus'"):
        Engine(app, database.url, on_flow_stopped="bus")  # type: ignore[arg-type]


def test_the_flow_that_is_told_of_may_be_deleted_by_the_function(database: Database) -> None:
    engines: list[Engine] = []

    def delete(outcome: Outcome, address: str) -> None:
        engines[0].delete(outcome.key)

    with Engine(app, database.url, on_flow_stopped=delete) as engine:
        engines.append(engine)
        key = engine.create("double", {"n": 1}, notify_on_stop="a")

        def is_gone() -> bool:
            try:
                engine.snapshot(key)
            except NotFound:
                return True
            return False

        eventually(is_gone, what="the flow to be deleted")
        wait_until_empty(database)
