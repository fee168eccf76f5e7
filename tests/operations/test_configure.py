"""What can change while an engine runs, and what the databases hold."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import App, AsyncEngine, Client, Engine, Flow
from penstock.errors import Invalid
from tests.support.databases import Database
from tests.support.waiting import eventually

app = App("configure")


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt()}


@app.task
def budget(flow: Flow) -> dict[str, Any]:
    assert flow.deadline is not None
    return {"seconds": round((flow.deadline - flow.now).total_seconds())}


app.graph("ask").chain(ask)
app.graph("budget").chain(budget)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with Engine(app, database.url) as engine:
        yield engine


def test_defaults_of_new_flows_can_change(engine: Engine, database: Database) -> None:
    old = engine.create("ask")
    engine.configure(default_priority=7, time_budget=timedelta(seconds=30), room=9)
    new = engine.create("ask")
    assert {flow.key: flow.priority for flow in engine.list().items} == {old: 100, new: 7}
    assert engine.run("budget").state["seconds"] in (29, 30)
    with Client(None, database.url) as client:
        assert client.run("budget", timeout=20).state["seconds"] in (29, 30)
        client.configure(default_priority=3)
        client.create("ask")
        assert client.list(limit=1).items[0].priority == 3
        with pytest.raises(Invalid, match="a client has no room to change"):
            client.configure(room=3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"workers": 3}, "workers cannot change while an engine runs .workers are started"),
        ({"lease": 3}, "shut it down and start one with another lease; what can change is time_budget"),
        ({"url": "sqlite://"}, "an engine belongs to one database"),
        ({"rom": 3}, "did you mean 'room'"),
        ({"room": 0}, "room is 0"),
        ({"retain": 0}, "retain is 0"),
        ({"time_budget": -1}, "time_budget is -1"),
        ({"default_priority": "high"}, "default_priority is 'high'"),
    ],
)
def test_what_cannot_change_is_refused_by_name_and_nothing_is_changed(
    engine: Engine, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        engine.configure(**({"default_priority": 1} | changes))
    assert engine.list().items == ()
    engine.create("ask")
    assert engine.list().items[0].priority == 100


def test_a_change_stands_when_the_engine_is_started_again(database: Database) -> None:
    engine = Engine(app, database.url)
    engine.configure(default_priority=5)
    for _ in range(2):
        with engine:
            engine.create("ask")
            assert engine.list(limit=1).items[0].priority == 5


def test_a_misspelt_option_of_an_engine_is_refused() -> None:
    with pytest.raises(TypeError, match="has no option 'worker': did you mean 'workers'"):
        Engine(app, "sqlite://", worker=3)  # type: ignore[call-arg]


def test_the_shards_say_what_they_hold(engine: Engine, database: Database) -> None:
    engine.wait(engine.create("ask"))
    with Client(None, database.url) as client:
        for ops in (engine, client):
            (shard,) = ops.shards()
            assert (shard.index, shard.weight, shard.is_cordoned) == (1, 1, False)
            assert (shard.live, shard.ready, shard.replicas, shard.error) == (1, 0, 1, None)
            assert timedelta() < shard.latency < timedelta(seconds=20)
            assert shard.url.startswith(database.kind)
            assert "secret" not in shard.url


def test_an_async_engine_is_configured_alike(database: Database) -> None:
    async def scenario() -> None:
        async with AsyncEngine(app, database.url) as engine:
            await engine.configure(default_priority=4)
            await engine.create("ask")
            assert (await engine.list()).items[0].priority == 4
            assert len(await engine.shards()) == 1

    asyncio.run(scenario())


def test_an_engine_with_workers_names_its_processes(database: Database) -> None:
    before = datetime.now(UTC) - timedelta(hours=1)
    with Engine("tests.flows.client_app:app", database.url, workers=2) as engine:
        eventually(lambda: len(engine.processes()) == 4, what="both workers to be up")
        host, zygote, *workers = engine.processes()
        assert (host.kind, host.pid, zygote.kind, zygote.number) == ("engine", os.getpid(), "zygote", None)
        assert [host.number] == [replica.replica_id for replica in engine.replicas()]
        assert [worker.kind for worker in workers] == ["worker"] * 2
        assert len({worker.number for worker in workers}) == len({worker.pid for worker in workers}) == 2
        assert all(before < one.started_at <= datetime.now(UTC) + timedelta(seconds=2) for one in workers)
        with Client(None, database.url) as client:
            assert client.processes() == ()
    assert engine.processes() == ()
