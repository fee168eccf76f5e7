"""Assertions on histories, and what their messages draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock import App, Flow, Retry
from penstock.errors import Permanent, Retryable
from penstock.testing import TestEngine, draw, wait_until

app = App("told")


@app.task
def first(n: int) -> dict[str, Any]:
    return {"items": list(range(n))}


@app.task
def each(flow: Flow, item: int, bad: int = -1) -> dict[str, Any]:
    if item == bad:
        raise Permanent("broken", "item is bad")
    return {"sum": item}


@app.task
def last() -> None: ...


@app.task
def mend(flow: Flow) -> dict[str, Any]:
    return {"mended": flow["on_error"]["code"]}


@app.task
def flaky(flow: Flow) -> None:
    if flow.attempt < 2:
        raise Retryable("busy", "not yet")


@app.task
def parent(flow: Flow) -> dict[str, Any]:
    return {"child": flow.subgraph("lone")}


wide = (
    app.graph("wide").reducer("sum", "add").for_each(first, each, over="items").edge(each, last).fan_in(last)
)
app.graph("mending").chain(first, each).edge(each, last).on_error(each, mend)
app.graph("lone").node("flaky", flaky, retry=Retry(3, 0.001))
app.graph("parent").chain(parent)


@pytest.fixture(scope="module")
def engine() -> Iterator[TestEngine]:
    with TestEngine(app) as engine:
        yield engine


def message(assertion: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **options)
    return str(caught.value)


def test_what_ran_is_asserted_in_order_or_in_any(engine: TestEngine) -> None:
    outcome = engine.run("wide", {"n": 2})
    engine.assert_ran(outcome, ["first", "each", "each", "last"])
    engine.assert_ran(outcome.key, ["last", "each", "first", "each"], in_order=False)
    engine.assert_times(outcome, "each", 2)
    engine.assert_ran_before(outcome, "each", "last")
    engine.assert_not_ran(outcome, "mend")
    engine.assert_state(outcome, sum=1, gone=None)
    engine.assert_status(outcome, "completed")


def test_a_message_says_what_ran_instead_and_draws_the_history(engine: TestEngine) -> None:
    outcome = engine.run("wide", {"n": 2, "bad": 1})
    told = message(engine.assert_ran, outcome, ["first", "each", "last"])
    assert "ran ['first', 'each', 'each'] instead of ['first', 'each', 'last']" in told
    assert "(missing last; unexpected each)" in told
    assert "3 each  [1]  failed ← 1: broken: item is bad" in told
    assert "is failed instead of completed: broken" in message(engine.assert_status, outcome, "completed")
    assert "sum is 0 instead of 3" in message(engine.assert_state, outcome, {"sum": 3})
    assert "'last' did not run" in message(engine.assert_ran_before, outcome, "first", "last")
    assert "did not end before" in message(engine.assert_ran_before, outcome, "each", "first")
    assert "'each' ran 2 times instead of 1" in message(engine.assert_times, outcome, "each", 1)
    assert "reached 'each'" in message(engine.assert_not_ran, outcome, "each", "mend")


def test_failures_are_asserted_whether_or_not_they_were_caught(engine: TestEngine) -> None:
    caught = engine.run("mending", {"n": 1, "item": 3, "bad": 3})
    engine.assert_failed_at(caught, "each", "broken")
    engine.assert_ran(caught, ["first", "each", "mend"])
    assert "instead of 'other'" in message(engine.assert_failed_at, caught, "each", "other")
    assert "'first' did not fail" in message(engine.assert_failed_at, caught, "first")


def test_attempts_are_counted_with_the_first(engine: TestEngine) -> None:
    outcome = engine.run("lone")
    engine.assert_attempts(outcome, "flaky", 3)
    assert "took 3 attempts instead of 1" in message(engine.assert_attempts, outcome, "flaky", 1)
    assert "took no attempts" in message(engine.assert_attempts, outcome, "nobody", 1)


def test_a_drawing_holds_children_and_stays_short(engine: TestEngine) -> None:
    outcome = engine.run("parent")
    assert engine.draw(outcome).splitlines() == [
        "    1 parent      completed",
        "          1 flaky      completed at attempt 3",
    ]
    wide = engine.history(engine.run("wide", {"n": 100}).key)
    assert draw(wide).splitlines()[-1] == "  … and 42 more"
    assert draw(()) == "  (no step)"


def test_a_node_is_waited_for_and_a_fact_that_stays_false_is_shown(engine: TestEngine) -> None:
    key = engine.create("wide", {"n": 2})
    engine.wait_for_node(key, "last")
    assert "waited 0.01 s for node 'mend'" in message(engine.wait_for_node, key, "mend", timeout=0.01)
    told = message(wait_until, list, "rows", timeout=0)
    assert told == "waited 0 s for rows; the last answer was []"
