"""A database that is held, full, or refuses a row."""

from __future__ import annotations

import logging
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import Engine
from penstock._core import parse_flow_key
from penstock.errors import EngineUnavailable
from tests.faults.app import EXPECTED_COUNT, EXPECTED_TRAIL, PARTS, app
from tests.faults.runs import Run
from tests.support.database import query
from tests.support.ledger import Ledger
from tests.support.waiting import eventually

FLOWS = 30


@pytest.fixture
def state(ledger: Ledger, gate: Path) -> dict[str, Any]:
    return {"ledger": str(ledger.path), "gate": str(gate), "parts": list(range(PARTS))}


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Hold the write lock of the file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write not one byte to any file; its workers, which are there already, may."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def runs_of_steps(ledger: Ledger) -> set[int]:
    return set(ledger.counts("step", "event").values())


def assert_all_completed(engine: Engine, keys: list[str]) -> None:
    for key in keys:
        outcome = engine.wait(key, timeout=30)
        assert (outcome.status, outcome.error) == ("completed", None)
        assert (outcome.state["count"], outcome.state["trail"]) == (EXPECTED_COUNT, EXPECTED_TRAIL)


def test_a_second_engine_in_another_process_is_told_who_holds_the_file(
    run: Run, database_url: str, ledger: Ledger
) -> None:
    host = run.start(200)
    ledger.wait_for(10)
    with pytest.raises(EngineUnavailable, match=str(host.pid)):
        Engine(app, database_url).start()
    assert host.wait() == 0, host.output()


def test_while_another_process_holds_the_file_finished_work_is_kept_and_not_run_again(
    engine: Engine, database: Path, ledger: Ledger, gate: Path, state: dict[str, Any]
) -> None:
    keys = engine.create_many("held", [state] * 2)
    ledger.wait_for(2)
    with held(database):
        gate.touch()
        ledger.wait_for(4)
        # Their successors start only when the events that made them are safe.
        eventually(lambda: not engine_is_moving(ledger), what="the engine to wait for the database")
        assert {entry["node"] for entry in ledger.entries()} == {"gate"}
        assert [engine.snapshot(key).status for key in keys] == ["running", "running"]
    for key in keys:
        assert engine.wait(key, timeout=20).state["count"] == 3
    assert runs_of_steps(ledger) == {1}


def engine_is_moving(ledger: Ledger) -> bool:
    before = len(ledger.entries())
    with pytest.raises(AssertionError):
        ledger.wait_for(before + 1, deadline=0.2)
    return len(ledger.entries()) != before


def test_an_engine_on_a_full_disk_goes_on_when_there_is_room_again(
    engine: Engine, ledger: Ledger, gate: Path, state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "penstock")
    keys = engine.create_many("counted", [state] * FLOWS)
    ledger.wait_for(FLOWS)
    with full_disk():
        eventually(lambda: "cannot be used" in caplog.text, what="the outage to be noticed")
        before = caplog.text
        eventually(lambda: len(caplog.text) > len(before), what="another try")
        finished = len(ledger.entries())
        # Reading goes on.
        assert engine.snapshot(keys[0]).status in ("running", "completed")
    assert_all_completed(engine, keys)
    assert len(ledger.entries()) > finished
    assert runs_of_steps(ledger) == {1}, "an outage makes no step run again"


def test_an_operation_during_an_outage_is_refused_as_unavailable_and_may_be_repeated(
    engine: Engine, database: Path, state: dict[str, Any]
) -> None:
    with full_disk(), pytest.raises(EngineUnavailable):
        engine.create("counted", state, idempotency_key="once")
    assert query(database, "SELECT count(*) FROM penstock_flows") == [(0,)]
    assert_all_completed(engine, [engine.create("counted", state, idempotency_key="once")])


@pytest.fixture
def refuse(database: Path) -> Callable[[str, str], None]:
    """Have the database refuse the rows of a flow at a node."""

    def install(key: str, condition: str) -> None:
        _, flow_id = parse_flow_key(key)
        query(
            database,
            f"CREATE TRIGGER refuse BEFORE INSERT ON penstock_journal WHEN new.flow_id = x'{flow_id.hex()}' "
            f"AND {condition} BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        )

    return install


def test_a_refused_row_fails_its_step_alone(
    engine: Engine, ledger: Ledger, gate: Path, state: dict[str, Any], refuse: Callable[[str, str], None]
) -> None:
    victim, *others = engine.create_many("held", [state] * 2)
    ledger.wait_for(2)
    others += engine.create_many("held", [state] * FLOWS)
    refuse(victim, "new.node = 'middle' AND new.event = 'done'")
    gate.touch()

    outcome = engine.wait(victim, timeout=20)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.node) == ("refused", "middle")
    assert "not this one" in outcome.error.message
    assert (outcome.state["count"], outcome.state.get("trail")) == (1, None)
    for key in others:
        assert engine.wait(key, timeout=20).state["count"] == 3
    assert runs_of_steps(ledger) == {1}, "what was refused is not run again, nor what was beside it"


def test_a_refused_row_of_a_branch_is_routed_or_fails_its_cohort_and_the_others_contribute(
    engine: Engine, database: Path, ledger: Ledger, state: dict[str, Any]
) -> None:
    query(
        database,
        "CREATE TRIGGER refuse BEFORE INSERT ON penstock_journal WHEN new.node = 'part' AND new.step = 3 "
        "AND new.event = 'done' BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    )
    keys = engine.create_many("counted", [state] * 3)
    for key in keys:
        outcome = engine.wait(key, timeout=20)
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.step_key) == ("refused", f"{key}/3")
        assert outcome.state["count"] == PARTS
    assert runs_of_steps(ledger) == {1}


def test_a_flow_whose_every_row_is_refused_is_set_aside_and_a_restart_finds_it_where_it_was(
    database_url: str, database: Path, ledger: Ledger, gate: Path, state: dict[str, Any]
) -> None:
    with Engine(app, database_url, workers=2) as engine:
        victim, *others = engine.create_many("held", [state] * 2)
        ledger.wait_for(2)
        _, flow_id = parse_flow_key(victim)
        query(
            database,
            f"CREATE TRIGGER refuse BEFORE INSERT ON penstock_journal WHEN new.flow_id = x'{flow_id.hex()}' "
            "BEGIN SELECT RAISE(ABORT, 'none of these'); END",
        )
        gate.touch()
        assert engine.wait(others[0], timeout=20).status == "completed"
        assert engine.run("counted", state, timeout=20).status == "completed"
        assert engine.snapshot(victim).status == "running"
    query(database, "DROP TRIGGER refuse")
    with Engine(app, database_url, workers=2) as engine:
        assert engine.wait(victim, timeout=20).state["count"] == 3
