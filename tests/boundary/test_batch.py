"""Batches as rows: their columns, their parts and their one use."""

from __future__ import annotations

import re
from typing import Any

import pytest

from penstock import Graph
from penstock._core import WorkerCodec
from penstock.store import batch as contract
from tests.boundary.driver import NOW, REPLICA, CoreDriver

COLUMNS = {
    "flows": contract.FLOW_COLUMNS,
    "live": contract.LIVE_COLUMNS,
    "journal": contract.JOURNAL_COLUMNS,
    "interrupts": contract.INTERRUPT_COLUMNS,
    "outbox": contract.OUTBOX_COLUMNS,
}
LISTS = [
    name for name, member in vars(contract.Batch).items() if isinstance(member, property) and name != "units"
]
ASKS = '{"calls":[{"kind":"interrupt","key":"ok","payload":1,"timeout_ms":900000}]}'
Rows = dict[str, list[tuple[Any, ...]]]


def width(name: str) -> int:
    """How many columns the store expects of a list, from its constant or from what its docstring says."""
    listed = COLUMNS.get(name)
    if listed is None:
        told = re.search(r"\(([^)]*)\)", vars(contract.Batch)[name].fget.__doc__)
        assert told is not None, name
        listed = told[1].rstrip(",")
    return len(listed.split(","))


def everything_a_flow_does() -> Rows:
    """The rows of flows that are created, ask, are answered, wait long, follow a crash, and answer a parent."""
    driver = CoreDriver(Graph("one").chain("a"), Graph("two").chain("a", "b"))
    rows: Rows = {name: [] for name in LISTS}

    def settle() -> list[tuple[Any, ...]]:
        steps = driver.steps()
        while driver.core.has_batch():
            batch, _ = driver.commit()
            for name in LISTS:
                rows[name] += getattr(batch, name)
            steps += driver.steps()
        return steps

    def next_step_ends(outcome: int, meta: str = "") -> None:
        (step,) = settle()
        driver.answer(step[1], outcome, meta=meta)

    flow_id = driver.create("one")
    next_step_ends(WorkerCodec.PARKED, ASKS)
    driver.core.deliver(flow_id, 1, [(1, "resume", '{"answer":true}')], NOW)
    next_step_ends(WorkerCodec.DONE)
    settle()

    driver.create("one")
    next_step_ends(WorkerCodec.PARKED, ASKS)
    settle()

    driver.core.load([driver.claimed_row("two", crashes=1)], NOW)
    next_step_ends(WorkerCodec.DONE)
    next_step_ends(WorkerCodec.DONE)
    settle()

    driver.core.load([driver.claimed_row("one", parent=bytes(16))], NOW)
    next_step_ends(WorkerCodec.DONE)
    settle()
    return rows


@pytest.fixture(scope="module")
def rows() -> Rows:
    return everything_a_flow_does()


@pytest.mark.parametrize("name", LISTS)
def test_rows_have_the_columns_that_the_store_writes(rows: Rows, name: str) -> None:
    assert rows[name] or name == "outbox"  # nothing is published yet
    assert {len(row) for row in rows[name]} <= {width(name)}


def test_a_part_has_the_rows_of_its_units_and_the_halves_have_all() -> None:
    driver = CoreDriver(Graph("parent").chain("a"))
    ids = [driver.create("parent") for _ in range(5)]
    batch = driver.take()
    assert batch.units == 5
    assert [row[0] for row in batch.without({0, 3}).flows] == [ids[1], ids[2], ids[4]]
    halves = batch.split()
    assert halves is not None
    assert [row[0] for half in halves for row in half.live] == ids
    single = batch.without({0, 1, 2, 3})
    assert single.split() is None


def test_a_guard_names_owner_claim_and_mail_of_a_stop() -> None:
    driver = CoreDriver(Graph("parent").chain("a"))
    flow_id = driver.create("parent")
    assert driver.take().guards() == []
    driver = CoreDriver(Graph("parent").chain("a"))
    flow_id = driver.create("parent")
    driver.commit()
    driver.core.deliver(flow_id, 3, [], NOW)
    driver.answer(driver.steps()[0][1], WorkerCodec.DONE)
    assert driver.take().guards() == [(0, flow_id, REPLICA, 1, 3)]


def test_a_unit_that_was_not_written_comes_again() -> None:
    driver = CoreDriver(Graph("parent").chain("a"))
    flow_id = driver.create("parent")
    driver.commit()
    driver.answer(driver.steps()[0][1], WorkerCodec.DONE)
    batch = driver.take()
    stops = batch.stops
    report = driver.core.committed(batch, [0], NOW)
    assert (report.mail, report.stopped) == ([flow_id], [])
    assert driver.take().stops == stops


def test_a_batch_is_answered_once_and_then_says_so() -> None:
    driver = CoreDriver(Graph("parent").chain("a"))
    driver.create("parent")
    batch = driver.take()
    driver.core.committed(batch, [], NOW)
    for use in (
        lambda: batch.flows,
        lambda: batch.number,
        batch.guards,
        batch.split,
        lambda: driver.core.committed(batch, [], NOW),
        lambda: driver.core.refuse(batch, "why"),
    ):
        with pytest.raises(ValueError, match="the batch was answered already"):
            use()
