"""Hosts that die in the middle of an operation: it is done wholly, once, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from penstock import Engine
from tests.faults.operating import MANY, app
from tests.support.databases import Database
from tests.support.host import Host
from tests.support.waiting import eventually

Crash = Callable[[str], AbstractContextManager[Engine]]


@pytest.fixture
def crash(database: Database, start_host: Callable[..., Host]) -> Crash:
    """Have a host die at a point; what goes on is an engine of the test's own."""

    @contextmanager
    def crash(point: str) -> Iterator[Engine]:
        host = start_host(["-m", "tests.faults.operating", database.url, point])
        assert host.wait() == -9, host.output()
        with Engine(app, database.url, lease=1.5) as engine:
            yield engine

    return crash


@pytest.fixture
def orders(database: Database) -> Iterator[Callable[[], int]]:
    """How many rows the host wrote into a table of its own."""
    database.execute("DROP TABLE IF EXISTS orders")
    yield lambda: int(database.rows("SELECT count(*) FROM orders")[0][0])
    database.execute("DROP TABLE IF EXISTS orders")


def keys(engine: Engine) -> list[str]:
    """All flows, the oldest first."""
    return [flow.key for flow in engine.list(limit=1_000).items][::-1]


def count(database: Database, table: str) -> int:
    return int(database.rows(f"SELECT count(*) FROM penstock_{table}")[0][0])


def verdicts(database: Database) -> list[str]:
    return [str(verdict) for (verdict,) in database.rows("SELECT verdict FROM penstock_inbox ORDER BY seq")]


def has_ended(engine: Engine, database: Database, key: str, state: dict[str, int]) -> bool:
    """It completes with that state, and nothing lives any more."""

    def is_over() -> bool:
        outcome = engine.snapshot(key)
        return outcome.status == "completed" and outcome.state == state and count(database, "live") == 0

    eventually(is_over, what=f"{state} as the end of the flow", deadline=20)
    return True


def test_an_answer_without_its_verdict_is_taken_once(crash: Crash, database: Database) -> None:
    with crash("message sent, verdict not written") as engine:
        (key,) = keys(engine)
        assert has_ended(engine, database, key, {"answer": 7})
        kinds = [event.kind for step in engine.history(key) for event in step.events]
        assert kinds.count("resolved") == 1
    assert verdicts(database) == ['{"ok":true}']
    assert count(database, "interrupts") == 0


@pytest.mark.parametrize(
    "point",
    ["live row inserted by a restart, message not read", "restart obeyed, verdict not written"],
)
def test_a_restart_of_a_finished_flow_is_done_once(crash: Crash, database: Database, point: str) -> None:
    with crash(point) as engine:
        (key,) = keys(engine)
        assert has_ended(engine, database, key, {"n": 100})
    rewinds = database.rows("SELECT count(*) FROM penstock_journal WHERE event = 'control'")
    assert rewinds == [(1,)]
    assert len(verdicts(database)) == 1
    assert verdicts(database)[0].startswith('{"ok":true')


def test_a_flow_that_was_revived_for_what_is_refused_ends_as_it_was(crash: Crash, database: Database) -> None:
    with crash("live row inserted by what will be refused") as engine:
        (key,) = keys(engine)
        eventually(lambda: count(database, "live") == 0, what="the live row to go again", deadline=20)
        assert has_ended(engine, database, key, {"n": 2})
    assert database.rows("SELECT count(*) FROM penstock_journal WHERE event = 'control'") == [(0,)]
    assert '"ok":false' in verdicts(database)[0]


@pytest.mark.parametrize("point", ["fork inserted, not started", "turn inserted, not started"])
def test_a_flow_that_was_made_from_another_is_started_by_whoever_comes(
    crash: Crash, database: Database, point: str
) -> None:
    with crash(point) as engine:
        origin, made = keys(engine)
        assert has_ended(engine, database, made, {"n": 100})
        assert engine.snapshot(origin).state == {"n": 2}
        assert [step.attempt for step in engine.history(made)] == [0]


def test_a_chunk_of_a_purge_goes_wholly_or_not_at_all(crash: Crash, database: Database) -> None:
    with crash("chunk of a purge deleted, not committed") as engine:
        left = keys(engine)
        assert len(left) == MANY - 100
        for key in left:
            assert engine.snapshot(key).status == "completed"
            assert [step.status for step in engine.history(key)] == ["completed"]
        journal = "SELECT count(DISTINCT flow_id) FROM penstock_journal"
        assert database.rows(journal) == [(len(left),)]
        assert engine.purge(status="completed") == len(left)
    assert (count(database, "flows"), count(database, "journal")) == (0, 0)


def test_a_flow_of_a_host_s_transaction_goes_with_it(
    crash: Crash, database: Database, orders: Callable[[], int]
) -> None:
    with crash("host's transaction not committed") as engine:
        assert keys(engine) == []
    assert orders() == 0
    assert (count(database, "flows"), count(database, "live")) == (0, 0)


def test_a_flow_of_a_host_s_transaction_is_started_after_the_commit_by_whoever_comes(
    crash: Crash, database: Database, orders: Callable[[], int]
) -> None:
    with crash("host's transaction committed, flow not claimed") as engine:
        (key,) = keys(engine)
        assert has_ended(engine, database, key, {"n": 2})
        assert [step.attempt for step in engine.history(key)] == [0]
    assert orders() == 1
