"""Hosts that die at named points: whichever it is, nothing is lost and nothing is done twice."""

from __future__ import annotations

from collections import Counter

import pytest

from penstock import Engine
from tests.faults.app import app
from tests.faults.host import POINTS
from tests.faults.runs import Run, check_counted
from tests.support.database import query

FLOWS = 16
ASKING = FLOWS // 8


@pytest.mark.parametrize(
    "point", [point for point in POINTS if "takeover" not in point and "claim" not in point]
)
def test_a_host_that_dies_there_leaves_all_or_nothing_of_it(run: Run, point: str) -> None:
    times = 2 if "commit" in point else 1
    first = (
        run.start(FLOWS, point, str(times))
        if point != "after load"
        else run.start(FLOWS, "after commit", "4")
    )
    assert first.wait() == -9, first.output()
    run.note_death(first)
    if point == "after load":
        second = run.start(0, point)
        assert second.wait() == -9, second.output()
        run.note_death(second)
    finish(run)


@pytest.mark.parametrize("point", [point for point in POINTS if "takeover" in point or "claim" in point])
def test_a_host_that_dies_while_it_takes_over_leaves_it_to_the_next(run: Run, point: str) -> None:
    first = run.start(FLOWS, "after commit", "5")
    assert first.wait() == -9, first.output()
    run.note_death(first)
    second = run.start(0, point)
    assert second.wait() == -9, second.output()
    run.note_death(second)
    finish(run)


def finish(run: Run) -> None:
    """Bring everything to its end with an engine that lives, and check every invariant."""
    with Engine(app, f"sqlite:///{run.database}", workers=2) as engine:
        for flow in engine.list(status="running", limit=1_000):
            engine.wait(flow.key, timeout=20)
        asking = engine.list(workflow="asking").items
        assert Counter(flow.status for flow in asking) in ({"interrupted": ASKING}, {})
        for number, flow in enumerate(asking):
            engine.resume(flow.key, number)
        for number, flow in enumerate(asking):
            outcome = engine.wait(flow.key, timeout=20)
            assert (outcome.status, outcome.state["count"]) == ("completed", number + 2)
            assert outcome.state["trail"] == ["before", "after"]
            assert [step.attempt for step in engine.history(flow.key)] == [0, 0, 0]
        assert check_counted(engine) in (0, FLOWS)
    run.check_ledger()
    for table in ("live", "interrupts"):
        assert query(run.database, f"SELECT count(*) FROM penstock_{table}") == [(0,)]
