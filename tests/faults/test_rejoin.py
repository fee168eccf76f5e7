"""Engines whose registration, answers or commits are taken away behind their back, on one PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import Client, Engine
from penstock.errors import EngineUnavailable
from tests.faults.app import app
from tests.support.databases import Databases, PostgresDatabase
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

LEASE = 1.0


@pytest.fixture
def database(databases: Databases) -> PostgresDatabase:
    return databases.postgresql()


@pytest.fixture
def state(ledger: Ledger, gate: Path) -> dict[str, Any]:
    return {"ledger": str(ledger.path), "gate": str(gate)}


def replica_of(database: PostgresDatabase) -> int:
    """The newest replica."""
    return int(database.rows("SELECT max(replica_id) FROM penstock_replicas")[0][0])


def declare_dead(database: PostgresDatabase, replica_id: int) -> None:
    """As another engine would that took a long pause for a death."""
    database.execute(f"UPDATE penstock_replicas SET dead_at = 1 WHERE replica_id = {replica_id}")


def cut_connections(database: PostgresDatabase) -> None:
    database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


@contextmanager
def locked(database: PostgresDatabase, table: str) -> Iterator[None]:
    """Keep writers of a table waiting."""
    with database.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("workers", [0, 1])
def test_who_waits_at_an_engine_that_was_declared_dead_is_told_what_became_of_the_flow(
    database: PostgresDatabase, state: dict[str, Any], ledger: Ledger, gate: Path, workers: int
) -> None:
    with (
        Engine(app, database.url, workers=workers, lease=LEASE) as engine,
        Engine(app, database.url, lease=LEASE, room=1) as other,
    ):
        before = replica_of(database) - 1
        key = engine.create("held", state)
        ledger.wait_for(1)
        assert database.rows("SELECT owner FROM penstock_live") == [(before,)]
        outcomes: list[Any] = []
        waiting = threading.Thread(target=lambda: outcomes.append(engine.wait(key, timeout=20)))
        waiting.start()
        declare_dead(database, before)
        ledger.wait_for(2)
        gate.touch()
        waiting.join(20)
        assert [outcome.state["count"] for outcome in outcomes] == [3]
        assert other.wait(key, timeout=1).state["count"] == 3
        eventually(lambda: replica_of(database) > before + 1, what="a new registration")
        assert engine.run("hold", state, timeout=10).state["count"] == 1


def test_who_creates_at_an_engine_that_was_declared_dead_is_told_that_nothing_is_stored(
    database: PostgresDatabase, state: dict[str, Any], gate: Path
) -> None:
    gate.touch()
    with Engine(app, database.url, lease=15) as engine:
        for create in (engine.create, engine.run):
            declare_dead(database, replica_of(database))
            with pytest.raises(EngineUnavailable, match="declared dead"):
                create("hold", state)
            assert database.rows("SELECT count(*) FROM penstock_flows") == [(0,)]
            eventually(lambda: _is_alive(database), what="a new registration")
        assert engine.run("hold", state, timeout=10).state["count"] == 1


def _is_alive(database: PostgresDatabase) -> bool:
    return bool(database.rows("SELECT 1 FROM penstock_replicas WHERE dead_at IS NULL"))


def test_a_flow_whose_creation_waits_is_not_taken_for_lost(
    database: PostgresDatabase, state: dict[str, Any], gate: Path
) -> None:
    gate.touch()
    with Engine(app, database.url, lease=0.5) as engine:
        made: list[Any] = []
        creating = threading.Thread(target=lambda: made.append(engine.run("held", state, timeout=20)))
        with locked(database, "penstock_flows"):
            creating.start()
            # Four or five looks of the housekeeping.
            creating.join(0.85)
            assert creating.is_alive()
        creating.join(20)
        assert [outcome.state["count"] for outcome in made] == [3]


def test_the_engines_of_a_database_are_listed_with_what_they_own(
    database: PostgresDatabase, state: dict[str, Any], ledger: Ledger
) -> None:
    with (
        Engine(app, database.url, name="alpha", workers=1, lease=LEASE) as engine,
        Engine(app, database.url, room=1) as other,
    ):
        engine.create("hold", state)
        ledger.wait_for(1)
        first, second = engine.replicas()
        assert other.replicas()[1] == second
        assert [(row.name, row.owned) for row in (first, second)] == [("alpha", 1), (None, 0)]
        assert {first.pid, second.pid} == {os.getpid()}
        assert second.lease_until is not None
        assert second.lease_until > second.started_at
        engine.shutdown(timeout=0.1)
        with Client(None, database.url) as client:
            eventually(lambda: len(client.replicas()) == 1, what="the engine to leave")


def test_flows_of_a_claim_whose_answer_was_lost_are_found_and_run(
    database: PostgresDatabase, state: dict[str, Any], gate: Path
) -> None:
    gate.touch()
    with Engine(app, database.url, lease=LEASE):
        last = replica_of(database)
    with Client(app, database.url) as client:
        keys = client.create_many("held", [state] * 3)
        # The next engine's, as if it had claimed them and not heard of it.
        database.execute(f"UPDATE penstock_live SET owner = {last + 1}, claims = 1")
        with Engine(app, database.url, lease=LEASE) as engine:
            assert replica_of(database) == last + 1
            assert [engine.wait(key, timeout=10).state["count"] for key in keys] == [3] * 3


def test_a_flow_that_is_held_and_not_owned_is_dropped_and_claimed_anew(
    database: PostgresDatabase, state: dict[str, Any], ledger: Ledger, gate: Path
) -> None:
    with Engine(app, database.url, workers=2, lease=LEASE) as engine:
        key = engine.create("hold", state)
        ledger.wait_for(1)
        database.execute("UPDATE penstock_live SET owner = NULL, ready_at = 0")
        ledger.wait_for(2)
        gate.touch()
        assert engine.wait(key, timeout=10).state["count"] == 1
        assert database.rows("SELECT count(*) FROM penstock_journal WHERE event = 'done'") == [(1,)]


@pytest.mark.parametrize("name", [None, "alpha"])
def test_an_engine_replays_its_flows_when_the_database_has_lost_commits(
    database: PostgresDatabase, state: dict[str, Any], ledger: Ledger, gate: Path, name: str | None
) -> None:
    """As after a failover to a standby that was behind."""
    with Engine(app, database.url, lease=LEASE, name=name) as engine:
        key = engine.create("asking", state)
        assert engine.wait(key, timeout=10).status == "interrupted"
        held = engine.create("held_late", state)
        eventually(lambda: _nodes(ledger, "late"), what="the held step")
        rows = "SELECT ord FROM penstock_journal WHERE event = 'done' AND node = 'early'"
        assert database.rows(rows) == [(1,)]
        database.execute("DELETE FROM penstock_journal WHERE node = 'early'")
        cut_connections(database)
        gate.touch()
        outcome = engine.wait(held, timeout=20)
        assert outcome.state["count"] == 2
        assert len(_nodes(ledger, "early")) == 2
        engine.resume(key, 5)
        assert engine.wait(key, timeout=10).state["count"] == 7
    ords = [ord_ for (ord_,) in database.rows("SELECT ord FROM penstock_journal ORDER BY flow_id, ord")]
    assert ords.count(1) == 2


def _nodes(ledger: Ledger, node: str) -> list[dict[str, Any]]:
    return [entry for entry in ledger.entries() if entry["node"] == node and entry["event"] == "start"]
