"""Many branches and many laps: their cost grows with their number, not with its square."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from penstock import Engine
from tests.flows.app import app
from tests.support.database import query


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with Engine(app, database_url, workers=2) as engine:
        yield engine


def test_a_wide_for_each_takes_time_by_its_branches(engine: Engine) -> None:
    branches, took = 20_000, []
    for n in (branches // 10, branches):
        started = time.monotonic()
        outcome = engine.run("wide", {"n": n}, timeout=50)
        took.append(time.monotonic() - started)
        assert outcome.state["total"] == n * (n - 1) // 2
        assert outcome.state["items"] == list(range(n))
    # About 1 s. With the whole array sent to each branch 10 000 took 7 s and 30 000 took 41 s.
    assert took[1] < 15


def test_the_journal_of_long_branches_does_not_repeat_what_they_share(engine: Engine, database: Path) -> None:
    n = 3_000
    outcome = engine.run("relay", {"n": n}, timeout=50)
    assert outcome.state["total"] == n * (n - 1) // 2
    ((journal_bytes,),) = query(database, "SELECT sum(length(body)) FROM penstock_journal")
    ((snapshots,),) = query(database, "SELECT count(*) FROM penstock_journal WHERE event = 'snapshot'")
    # The source is 1 MB, every snapshot holds it once; each of 3 000 branches sees it.
    assert snapshots > 0
    assert journal_bytes < 20_000_000


def test_branches_may_read_whatever_the_flow_holds(engine: Engine) -> None:
    n = 100
    outcome = engine.run("looking", {"n": n}, timeout=30)
    assert outcome.error is None
    tens, ones = sum(range(0, n, 10)), 10 * 1_000_000
    assert outcome.state["total"] == tens + ones + 80 * n


def test_async_branches_see_everything(engine: Engine) -> None:
    outcome = engine.run("looking_async", {"n": 50}, timeout=30)
    assert (outcome.error, outcome.state["total"]) == (None, sum(range(50)))


def test_a_long_loop_keeps_its_order(engine: Engine) -> None:
    state = engine.run("laps", {"i": 0, "n": 1_500}, timeout=50).state
    assert state["i"] == 1_500
    assert len(state["log"]) == 1_500
    assert all(after - before == 1 for before, after in pairwise(state["log"]))
