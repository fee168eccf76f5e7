"""Flows that are created inside a transaction of the host's own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from penstock import App, AsyncEngine, Client, Engine, Graph
from penstock.errors import Conflict, Invalid, NotFound
from penstock.operations.facade import Operations
from tests.support.databases import Database
from tests.support.waiting import eventually

app = App("host")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def same(n: int) -> dict[str, int]:
    return {"n": n}


app.graph("double").chain(double)
app.graph("chain").node("a", same).node("b", same).node("c", same).edge("a", "b").edge("b", "c")

#: How long a slow host keeps the database to itself.
HELD_S = 1.0

orders = sa.Table("orders", sa.MetaData(), sa.Column("n", sa.Integer))


def host_url(database: Database) -> str:
    return database.url.removesuffix("?synchronous=OFF").replace("postgresql:", "postgresql+psycopg:")


class Loader:
    """Knows one graph that the app does not hold."""

    def load(self, workflow: str, baggage: Any) -> Graph | None:
        return Graph("loaded").chain("double") if workflow == "loaded" else None


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with Engine(app, database.url, loader=Loader()) as engine:
        yield engine


@pytest.fixture
def host(database: Database, engine: Engine) -> Iterator[sa.Engine]:
    """The host's own engine on the same database, with a table of the host's."""
    host = sa.create_engine(host_url(database))
    with host.begin() as connection:
        orders.drop(connection, checkfirst=True)
        orders.create(connection)
    yield host
    host.dispose()


@pytest.fixture(params=["engine", "client"])
def ops(engine: Engine, database: Database, request: pytest.FixtureRequest) -> Iterator[Operations]:
    if request.param == "engine":
        yield engine
    else:
        with Client(None, database.url, loader=Loader()) as client:
            yield client


def placed(host: sa.Engine) -> int:
    with host.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(orders)).scalar_one())


def test_a_flow_is_there_with_the_commit_of_the_host_s_transaction(ops: Operations, host: sa.Engine) -> None:
    with host.begin() as connection:
        connection.execute(orders.insert().values(n=4))
        key = ops.create("double", {"n": 4}, connection=connection)
        with pytest.raises(NotFound):
            ops.snapshot(key)
        assert ops.list().items == ()
    assert ops.wait(key, timeout=20).state == {"n": 8}
    assert placed(host) == 1


def test_a_flow_goes_with_the_host_s_transaction(ops: Operations, host: sa.Engine) -> None:
    with host.connect() as connection:
        connection.execute(orders.insert().values(n=4))
        key = ops.create("double", {"n": 4}, connection=connection)
        many = ops.create_many("double", [{"n": 1}, {"n": 2}], connection=connection)
        connection.rollback()
        kept = ops.create("double", {"n": 5}, connection=connection)
        connection.commit()
    assert ops.wait(kept, timeout=20).state == {"n": 10}
    for gone in (key, *many):
        with pytest.raises(NotFound):
            ops.snapshot(gone)
    assert placed(host) == 0


def test_a_savepoint_takes_its_flows_along(ops: Operations, host: sa.Engine) -> None:
    if host.dialect.name == "sqlite":
        # Its driver begins no transaction for a savepoint; this is the recipe of SQLAlchemy's documentation.
        sa.event.listen(host, "connect", lambda driver, _: setattr(driver, "isolation_level", None))
        sa.event.listen(host, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        host.dispose()
    with host.begin() as connection:
        kept = ops.create("double", {"n": 1}, connection=connection)
        inner = connection.begin_nested()
        gone = ops.create("double", {"n": 2}, connection=connection)
        inner.rollback()
    assert ops.wait(kept, timeout=20).state == {"n": 2}
    with pytest.raises(NotFound):
        ops.snapshot(gone)


def test_a_session_lends_its_connection(ops: Operations, host: sa.Engine) -> None:
    with Session(host) as session, session.begin():
        key = ops.create("double", {"n": 3}, connection=session.connection())
    assert ops.wait(key, timeout=20).state == {"n": 6}


def test_keys_hold_inside_the_transaction_too(ops: Operations, host: sa.Engine) -> None:
    with host.begin() as connection:
        first = ops.create("double", {"n": 1}, connection=connection, idempotency_key="k")
        assert ops.create("double", {"n": 1}, connection=connection, idempotency_key="k") == first
        with pytest.raises(Conflict):
            ops.create("double", {"n": 2}, connection=connection, idempotency_key="k")
        held = ops.create("double", {"n": 1}, connection=connection, business_key="b")
        with pytest.raises(Conflict, match=held):
            ops.create("double", {"n": 1}, connection=connection, business_key="b")
    assert ops.wait(first, timeout=20).state == {"n": 2}
    assert ops.create("double", {"n": 1}, idempotency_key="k") == first


def test_a_graph_of_the_loader_is_stored_in_the_same_transaction(
    ops: Operations, host: sa.Engine, database: Database
) -> None:
    with host.connect() as connection:
        ops.create("loaded", {"n": 1}, connection=connection)
        connection.rollback()
        assert not database.rows("SELECT 1 FROM penstock_graphs WHERE workflow = 'loaded'")
        key = ops.create("loaded", {"n": 2}, connection=connection)
        connection.commit()
    assert ops.wait(key, timeout=20).state == {"n": 4}


def test_a_bad_state_leaves_the_transaction_as_it_was(ops: Operations, host: sa.Engine) -> None:
    with host.begin() as connection:
        connection.execute(orders.insert().values(n=4))
        with pytest.raises(Invalid):
            ops.create("double", {"n": object()}, connection=connection)  # type: ignore[dict-item]
        with pytest.raises(NotFound):
            ops.create("unknown", {}, connection=connection)
    assert placed(host) == 1
    assert ops.list().items == ()


def test_a_connection_to_another_database_is_refused(
    ops: Operations, host: sa.Engine, tmp_path: Path
) -> None:
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with other.begin() as connection, pytest.raises(Invalid, match="connection is to"):
        ops.create("double", {"n": 1}, connection=connection)
    with (
        sa.create_engine("sqlite://").begin() as connection,
        pytest.raises(Invalid, match="connection is to"),
    ):
        ops.create("double", {"n": 1}, connection=connection)


@pytest.mark.needs("postgresql")
def test_another_database_of_the_same_server_is_refused(engine: Engine, databases: Any) -> None:
    other = databases.new_postgresql()
    with Engine(app, other.url):
        pass
    host = sa.create_engine(other.url.replace("postgresql:", "postgresql+psycopg:"))
    with host.begin() as connection, pytest.raises(Invalid, match="connection is to another database"):
        engine.create("double", {"n": 1}, connection=connection)
    host.dispose()


def test_a_connection_without_a_transaction_is_refused(ops: Operations, host: sa.Engine) -> None:
    single = host.execution_options(isolation_level="AUTOCOMMIT")
    with single.connect() as connection, pytest.raises(Invalid, match="commits each statement by itself"):
        ops.create("double", {"n": 1}, connection=connection)
    with pytest.raises(Invalid, match="pass a SQLAlchemy Connection"):
        ops.create("double", {"n": 1}, connection=host)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="unknown option 'connection'"):
        ops.run("double", {"n": 1}, connection=host)  # type: ignore[call-arg]
    assert ops.list().items == ()


def test_an_engine_goes_on_when_the_host_has_held_the_database_for_a_while(
    engine: Engine, host: sa.Engine
) -> None:
    """On SQLite a flow that ends meanwhile is written after the host's commit; nothing is lost or doubled."""
    with host.begin() as connection:
        mine = engine.create("double", {"n": 1}, connection=connection)
        if host.dialect.name == "postgresql":
            assert engine.run("double", {"n": 2}, timeout=20).state == {"n": 4}
    assert engine.wait(mine, timeout=20).state == {"n": 2}
    assert engine.run("double", {"n": 2}, timeout=20).state == {"n": 4}


def test_a_busy_engine_loses_nothing_while_the_host_holds_its_transaction_open(
    engine: Engine, host: sa.Engine, database: Database
) -> None:
    """On SQLite whoever writes waits for the host: its own transaction, others who create, and the engine's commits."""
    keys: list[str] = []
    is_over = threading.Event()

    def create_on() -> None:
        while not is_over.is_set():
            keys.extend(engine.create_many("chain", [{"n": n} for n in range(20)]))

    def hold() -> str:
        with host.begin() as connection:
            connection.execute(sa.insert(orders).values(n=1))
            key = engine.create("chain", {"n": 1}, connection=connection)
            # The second itself is what is tried.
            assert not is_over.wait(HELD_S)
            return key

    with ThreadPoolExecutor(4) as pool:
        makers = [pool.submit(create_on) for _ in range(3)]
        eventually(lambda: len(keys) > 60, what="an engine that is busy")
        before = time.monotonic()
        mine = pool.submit(hold).result(20)
        assert time.monotonic() - before >= HELD_S
        held = len(keys)
        eventually(lambda: len(keys) > held + 60, what="creations after the host's commit", deadline=20)
        is_over.set()
        for maker in makers:
            maker.result(20)
    assert len(set(keys)) == len(keys)
    for key in [*keys, mine]:
        assert engine.wait(key, timeout=20).status == "completed"
    eventually(lambda: database.rows("SELECT count(*) FROM penstock_live") == [(0,)], what="the end of all")
    done = database.rows(
        "SELECT count(*), count(DISTINCT flow_id) FROM penstock_journal WHERE event = 'done'"
    )
    assert done == [(3 * (len(keys) + 1), len(keys) + 1)]
    attempts = database.rows("SELECT max(attempt) FROM penstock_journal")
    assert attempts == [(0,)]
    assert placed(host) == 1


def test_a_flow_starts_soon_after_the_commit_although_the_engine_was_at_rest(
    engine: Engine, host: sa.Engine
) -> None:
    poller = engine._replica.poller  # type: ignore[union-attr]
    eventually(lambda: poller._wait_s == 0.25, what="the poller to be at rest")
    with host.begin() as connection:
        key = engine.create("double", {"n": 1}, connection=connection)
        assert not poller._is_expecting
        poller._wait_s = 0.25
    assert engine.wait(key, timeout=20).state == {"n": 2}


def test_an_async_engine_takes_an_asynchronous_connection(database: Database) -> None:
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    if database.kind == "sqlite":
        pytest.importorskip("aiosqlite")
    url = host_url(database)
    url = url.replace("sqlite:", "sqlite+aiosqlite:")

    async def scenario() -> None:
        async with AsyncEngine(app, database.url) as engine:
            host = create_async_engine(url)
            async with host.begin() as connection:
                key = await engine.create("double", {"n": 4}, connection=connection)
                keys = await engine.create_many("double", [{"n": 1}], connection=connection)
            assert (await engine.wait(key, timeout=20)).state == {"n": 8}
            assert (await engine.wait(keys[0], timeout=20)).state == {"n": 2}
            async with host.connect() as connection:
                gone = await engine.create("double", {"n": 4}, connection=connection)
                await connection.rollback()
            with pytest.raises(NotFound):
                await engine.snapshot(gone)
            await host.dispose()

    asyncio.run(scenario())


def test_an_async_engine_takes_an_ordinary_connection_too(database: Database) -> None:
    url = host_url(database)

    async def scenario() -> None:
        async with AsyncEngine(app, database.url) as engine:
            host = sa.create_engine(url)
            with host.begin() as connection:
                key = await engine.create("double", {"n": 4}, connection=connection)
            assert (await engine.wait(key, timeout=20)).state == {"n": 8}
            host.dispose()

    asyncio.run(scenario())
