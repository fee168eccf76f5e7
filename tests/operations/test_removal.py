"""Flows go: one, those that a filter means, and those whose time has come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Conflict, Invalid, NotFound
from penstock.operations.facade import Operations
from tests.support.databases import Database
from tests.support.waiting import eventually

app = App("removal")
gate = threading.Event()
entered = threading.Event()


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt()}


@app.task
def call(flow: Flow) -> dict[str, Any]:
    return {"child": flow.subgraph("double", {"n": 3})["n"]}


@app.task
def hold() -> None:
    entered.set()
    gate.wait()


for name, task in (("double", double), ("ask", ask), ("call", call), ("hold", hold)):
    app.graph(name).chain(task)

TABLES = ("flows", "live", "journal", "interrupts", "outbox")


class MovedClock:
    """The machine's clock, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> int:
        return int((time.time() + self.ahead.total_seconds()) * 1000)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self() / 1000, UTC)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def engine(database: Database, clock: MovedClock) -> Iterator[Engine]:
    with Engine(app, database.url, clock=clock) as engine:
        yield engine


@pytest.fixture(params=["engine", "client"])
def ops(
    engine: Engine, database: Database, clock: MovedClock, request: pytest.FixtureRequest
) -> Iterator[Operations]:
    if request.param == "engine":
        yield engine
    else:
        with Client(None, database.url, clock=clock) as client:
            yield client


def rows_left(database: Database) -> dict[str, int]:
    counts = {table: database.rows(f"SELECT count(*) FROM penstock_{table}")[0][0] for table in TABLES}
    return {table: count for table, count in counts.items() if count}


def test_a_deleted_flow_goes_with_its_children_and_its_history(ops: Operations, database: Database) -> None:
    key = ops.run("call", notify_on_stop="a", timeout=20).key
    assert rows_left(database)["flows"] == 2
    ops.delete(key)
    assert rows_left(database) == {}
    for gone in (lambda: ops.snapshot(key), lambda: ops.delete(key), lambda: ops.history(key)):
        with pytest.raises(NotFound):
            gone()


def test_an_interrupted_flow_is_cancelled_and_then_deleted(ops: Operations, database: Database) -> None:
    key = ops.create("ask")
    ops.wait(key, timeout=20)
    ops.delete(key)
    assert rows_left(database) == {}


def test_a_flow_that_runs_is_not_deleted(ops: Operations) -> None:
    entered.clear()
    gate.clear()
    try:
        key = ops.create("hold")
        assert entered.wait(20)
        with pytest.raises(Conflict, match="is running: cancel it first"):
            ops.delete(key)
    finally:
        gate.set()
    assert ops.wait(key, timeout=20).status == "completed"
    ops.delete(key)


def test_a_child_is_not_deleted_without_its_root(ops: Operations) -> None:
    root = ops.run("call", timeout=20).key
    (child,) = [flow.key for flow in ops.list(children=True).items if flow.parent_key]
    with pytest.raises(Invalid, match=f"is a child and goes with its root, {root}"):
        ops.delete(child)


def test_of_a_deletion_and_an_answer_at_once_one_wins(ops: Operations) -> None:
    """Never is a flow cancelled that somebody has answered."""
    for _ in range(20):
        key = ops.create("ask")
        ops.wait(key, timeout=20)
        start = threading.Barrier(2)
        ends: dict[str, object] = {}

        def try_to(name: str, operation: Any) -> None:
            start.wait()  # noqa: B023
            try:
                ends[name] = operation()  # noqa: B023
            except (Conflict, NotFound) as refusal:
                ends[name] = refusal  # noqa: B023

        threads = [
            threading.Thread(target=try_to, args=("delete", lambda: ops.delete(key))),  # noqa: B023
            threading.Thread(target=try_to, args=("resume", lambda: ops.resume(key, 1))),  # noqa: B023
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if ends["resume"] is None:
            assert isinstance(ends["delete"], Conflict | None)
            if isinstance(ends["delete"], Conflict):
                assert ops.wait(key, timeout=20).status == "completed"
        else:
            assert ends["delete"] is None


def test_a_purge_takes_finished_flows_oldest_first_and_says_how_many(
    ops: Operations, database: Database
) -> None:
    for n in range(5):
        ops.run("double", {"n": n}, timeout=20)
    keys = [flow.key for flow in ops.list().items]
    asking = ops.create("ask")
    ops.wait(asking, timeout=20)
    assert ops.purge(workflow="double", limit=2) == 2
    assert [flow.key for flow in ops.list(workflow="double").items] == keys[:3]
    assert ops.purge(workflow="double") == 3
    assert ops.purge(workflow="double") == 0
    assert ops.purge(workflow="ask") == 0
    assert ops.purge(status="interrupted") == 0
    assert [flow.key for flow in ops.list().items] == [asking]
    assert rows_left(database).keys() == {"flows", "live", "journal", "interrupts"}


def test_a_purge_takes_the_filters_of_a_list(ops: Operations, clock: MovedClock) -> None:
    old = [ops.run("double", {"n": 1}, tags={"a": str(n)}, timeout=20).key for n in range(3)]
    clock.ahead += timedelta(hours=1)
    noon = clock.now()
    young = ops.run("double", {"n": 2}, fairness_key="ada", priority=3, timeout=20).key
    assert ops.purge(tags={"a": "1"}) == 1
    assert ops.purge(older_than=noon, workflow="double", status="completed") == 2
    assert ops.purge(older_than=noon) == 0
    assert [flow.key for flow in ops.list().items] == [young]
    assert ops.purge(fairness_key="ada", priority=4) == 0
    assert ops.purge(newer_than=noon) == 1
    with pytest.raises(NotFound):
        ops.purge(thread=old[0])


def test_an_age_is_an_instant_or_a_duration(ops: Operations, clock: MovedClock) -> None:
    old = ops.run("double", {"n": 1}, timeout=20).key
    clock.ahead += timedelta(hours=2)
    young = ops.run("double", {"n": 2}, timeout=20).key
    hour = timedelta(hours=1)
    assert [flow.key for flow in ops.list(older_than=hour).items] == [old]
    assert [flow.key for flow in ops.list(newer_than=hour.total_seconds()).items] == [young]
    for bad in (-1, True, "1 h", float("nan")):
        with pytest.raises(Invalid, match="older_than"):
            ops.list(older_than=bad)
    assert ops.purge(older_than=hour) == 1
    assert [flow.key for flow in ops.list().items] == [young]


def test_a_purge_by_thread_takes_that_thread(ops: Operations) -> None:
    first, second = (ops.run("double", {"n": n}, timeout=20).key for n in range(2))
    assert ops.purge(thread=first) == 1
    assert [flow.key for flow in ops.list().items] == [second]


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({}, "without a filter would remove all"),
        ({"limit": 5}, "without a filter"),
        ({"shard": 1}, "without a filter"),
        ({"status": None, "tags": {}}, "without a filter"),
        ({"status": "done"}, "status is 'done': give one of running, interrupted"),
        ({"workflow": "w", "limit": 5_000}, "limit is 5000"),
        ({"children": True}, "purge.. has no filter 'children'"),
        ({"oldr_than": 1}, "did you mean 'older_than'"),
        ({"older_than": datetime(2030, 1, 1)}, "without a time zone"),  # noqa: DTZ001  # that is refused
    ],
)
def test_a_purge_needs_a_filter_that_it_knows(
    ops: Operations, filters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        ops.purge(**filters)


def test_a_tree_of_which_something_still_runs_is_not_purged(engine: Engine, database: Database) -> None:
    root = engine.run("call").key
    (child,) = database.rows("SELECT flow_id, graph_id FROM penstock_flows WHERE parent_id IS NOT NULL")
    database.execute(
        "INSERT INTO penstock_live SELECT flow_id, NULL, 1, 0, 100, '', 1, NULL, NULL, 0, NULL, graph_id, 1"
        " FROM penstock_flows WHERE parent_id IS NOT NULL"
    )
    assert engine.purge(workflow="call") == 0
    engine.delete(root)
    assert engine.list().items == ()
    assert engine.snapshot(root).status == "completed"
    database.execute("DELETE FROM penstock_live")
    engine._replica.retention._next_at = 0  # type: ignore[union-attr]
    eventually(lambda: rows_left(database) == {}, what="the rest of the tree to end, and all of it to go")
    assert child


def test_retention_removes_what_finished_long_ago(database: Database, clock: MovedClock) -> None:
    with Engine(app, database.url, clock=clock, retain=timedelta(days=30)) as engine:
        old = engine.run("call").key
        asking = engine.create("ask")
        engine.wait(asking)
        clock.ahead += timedelta(days=20)
        young = engine.run("double", {"n": 1}).key
        clock.ahead += timedelta(days=9)
        assert engine.snapshot(old).is_finished
        clock.ahead += timedelta(days=2)
        eventually(lambda: len(engine.list().items) == 2, what="the old flow to go")
        assert {flow.key for flow in engine.list(children=True).items} == {asking, young}
        assert engine.purge(newer_than=datetime(1990, 1, 1, tzinfo=UTC), status="failed") == 0


def test_nothing_is_removed_by_itself_and_retention_can_be_configured(
    engine: Engine, clock: MovedClock
) -> None:
    keys = [engine.run("double", {"n": n}).key for n in range(3)]
    clock.ahead += timedelta(days=4_000)
    engine.run("double", {"n": 9})
    assert [engine.snapshot(key).status for key in keys] == ["completed"] * 3
    engine.configure(retain=timedelta(days=1))
    eventually(lambda: len(engine.list().items) == 1, what="the old flows to go")


def test_a_sweep_of_many_flows_goes_on_chunk_by_chunk(database: Database, clock: MovedClock) -> None:
    with Engine(app, database.url, clock=clock) as engine:
        keys = engine.create_many("double", [{"n": n} for n in range(350)], delete_on_completion=True)
        for key in keys:
            engine.wait(key)
        clock.ahead += timedelta(seconds=90)
        eventually(lambda: rows_left(database) == {}, what="all flows to go")


def test_an_async_engine_deletes_and_purges(database: Database) -> None:
    async def scenario() -> None:
        async with AsyncEngine(app, database.url) as engine:
            keys = [(await engine.run("double", {"n": n})).key for n in range(3)]
            await engine.delete(keys[0])
            assert await engine.purge(workflow="double", limit=1) == 1
            assert [flow.key for flow in (await engine.list()).items] == [keys[2]]
            await engine.configure(retain=timedelta(days=1))

    asyncio.run(scenario())
