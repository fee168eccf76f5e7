"""Many branches and many laps: their cost grows with their number, not with its square."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from penstock import Engine
from tests.flows.app import app
from tests.support.database import query

JOURNAL = "SELECT sum(length(body)) FROM penstock_journal"


def most_memory() -> int:
    """The most bytes that this process, where the engine runs, has ever held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


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


@pytest.mark.parametrize("workflow", ["wide", "wide_async"])
def test_a_hundred_thousand_branches_need_little_memory(
    engine: Engine, database: Path, workflow: str
) -> None:
    engine.run(workflow, {"n": 1_000}, timeout=50)
    ((before,),) = query(database, JOURNAL)
    n, memory = 100_000, most_memory()
    outcome = engine.run(workflow, {"n": n}, timeout=50)
    assert outcome.state["total"] == n * (n - 1) // 2
    # About 200 MB, two kilobytes a branch; a copy of the array for each would be 60 GB.
    assert most_memory() - memory < 500_000_000
    ((after,),) = query(database, JOURNAL)
    assert after - before < 300 * n, "bytes of the journal, its snapshots included"


@pytest.mark.parametrize(
    ("workflow", "laps"),
    [
        ("counting", 2_000),
        ("laps", 2_000),
        pytest.param("counting", 10_000, marks=[pytest.mark.slow, pytest.mark.timeout(240)]),
        pytest.param("laps", 10_000, marks=[pytest.mark.slow, pytest.mark.timeout(240)]),
    ],
)
def test_a_loop_of_many_laps_needs_little_memory_and_a_journal_by_its_laps(
    engine: Engine, database: Path, workflow: str, laps: int
) -> None:
    engine.run(workflow, {"i": 0, "n": 100}, timeout=50)
    ((before,),) = query(database, JOURNAL)
    memory = most_memory()
    outcome = engine.run(workflow, {"i": 0, "n": laps}, timeout=200)
    assert outcome.state["i"] == laps
    assert most_memory() - memory < 50_000_000
    ((after,),) = query(database, JOURNAL)
    assert after - before < 150 * laps, "bytes of the journal, its snapshots included"


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
