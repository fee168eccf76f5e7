"""Time that a test lets pass, with tasks on threads, with worker processes, and on PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import App, Client, Flow, Retry
from penstock.errors import InterruptTimeout, Invalid, Retryable
from penstock.testing import TestClock, TestEngine, wait_until
from tests.support.databases import Database

app = App("moved")
MONTH = timedelta(days=30)


@app.task
def nap(flow: Flow, days: int) -> dict[str, Any]:
    flow.sleep(timedelta(days=days))
    return {"woke": flow.now.timestamp(), "naps": 1}


@app.task
def put_off(flow: Flow) -> None:
    flow.delay(MONTH)


@app.task
def flaky(flow: Flow) -> dict[str, Any]:
    if flow.attempt < 2:
        raise Retryable("busy")
    return {"done": flow.now.timestamp()}


@app.task
def again(flow: Flow) -> dict[str, Any]:
    armed = flow.retry(timedelta(days=2), give_up_after=timedelta(days=5))
    return {"tries": flow.attempt + 1, "armed": armed}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    try:
        return {"answer": flow.interrupt("well?", timeout=timedelta(days=7))}
    except InterruptTimeout:
        return {"answer": None, "lapsed": True}


@app.task
def spread(n: int) -> dict[str, Any]:
    return {"each": list(range(1, n + 1))}


@app.task
def end() -> None: ...


@app.task
def call(flow: Flow) -> dict[str, Any]:
    return {"child": flow.subgraph("nap", {"days": 90})["woke"]}


app.graph("nap").chain(nap)
app.graph("later").chain(put_off, "nap")
app.graph("flaky").node("flaky", flaky, retry=Retry(3, timedelta(hours=6), multiplier=4, jitter=0))
app.graph("again").chain(again)
app.graph("ask").chain(ask)
app.graph("call").chain(call)
app.graph("naps").reducer("naps", "add").for_each(spread, nap, over="each", bind="days").edge(
    nap, end
).fan_in(end)


def test_a_month_passes_at_once_for_a_flow_that_was_released(engine: TestEngine) -> None:
    key = engine.create("nap", {"days": 30})
    engine.wait_until_idle()
    engine.advance(timedelta(days=29))
    # Nobody holds it: only the database knows when it wakes.
    assert all(replica.owned == 0 for replica in engine.replicas())
    assert engine.snapshot(key).status == "running"
    engine.advance(timedelta(days=1))
    outcome = engine.snapshot(key)
    engine.assert_status(outcome, "completed")
    assert abs(outcome.state["woke"] - engine.clock.now.timestamp()) < 60


def test_what_is_due_has_run_when_advance_returns(engine: TestEngine) -> None:
    key = engine.create("naps", {"n": 20})
    engine.wait_until_idle()
    for day in range(1, 21):
        engine.advance(timedelta(days=1))
        assert engine.ran(key).count("nap") == day
    engine.assert_status(key, "completed")
    engine.assert_state(key, naps=20)


def test_delays_retries_and_their_horizons_go_by_the_clock(engine: TestEngine) -> None:
    delayed, flaky_, asked = (
        engine.create("later", {"days": 0}),
        engine.create("flaky"),
        engine.create("again"),
    )
    engine.wait_until_idle()
    engine.assert_not_ran(delayed, "end")
    engine.assert_attempts(flaky_, "flaky", 2)
    engine.advance(timedelta(hours=7))
    engine.assert_attempts(flaky_, "flaky", 3)
    engine.advance(timedelta(hours=25))
    engine.assert_status(flaky_, "completed")
    engine.advance(MONTH)
    engine.assert_ran(delayed, ["put_off", "nap"])
    # Tried at once and after two days; then a month had passed, and its five days with it.
    engine.assert_state(asked, tries=2, armed=False)


def test_a_question_lapses_by_the_clock(engine: TestEngine) -> None:
    key = engine.create("ask")
    assert engine.wait(key, timeout=20).status == "interrupted"
    engine.advance(timedelta(days=6))
    engine.assert_status(key, "interrupted")
    engine.advance(timedelta(days=1))
    engine.assert_state(key, lapsed=True)


def test_waits_are_skipped_one_after_the_other_in_children_too(engine: TestEngine) -> None:
    before = engine.clock.now
    outcome = engine.run_through("call")
    assert outcome.status == "completed"
    assert timedelta(days=90) <= engine.clock.now - before < timedelta(days=91)
    key = engine.create("naps", {"n": 3})
    engine.skip_waits(up_to=timedelta(days=2, hours=1))
    assert engine.ran(key).count("nap") == 2
    due = engine.next_due()
    assert due is not None
    assert timedelta(0) < due - engine.clock.now <= timedelta(days=1)


def test_an_engine_outlives_a_month_that_passes_at_once_and_its_lease_does_not_see_it(
    engine: TestEngine,
) -> None:
    (replica,) = engine.replicas()
    engine.advance(MONTH)
    outcome = engine.run("nap", {"days": 0}, timeout=20)
    assert outcome.status == "completed"
    assert [other.replica_id for other in engine.replicas()] == [replica.replica_id]


@pytest.mark.needs("replicas")
def test_two_engines_of_one_clock_go_through_a_month_together(database: Database) -> None:
    clock = TestClock()
    with (
        TestEngine(app, database.url, clock=clock, lease=1) as one,
        TestEngine(app, database.url, clock=clock, lease=1) as other,
    ):
        keys = [engine.create("nap", {"days": 30}) for engine in (one, other) for _ in range(10)]
        for engine in (one, other):
            engine.wait_until_idle()
        clock.advance(MONTH)
        assert {one.wait(key, timeout=20).status for key in keys} == {"completed"}
        assert len(one.replicas()) == 2


def test_a_client_creates_by_the_clock_of_the_engine(database: Database) -> None:
    clock = TestClock(datetime(2031, 5, 1, tzinfo=UTC))
    with (
        TestEngine(app, database.url, clock=clock) as engine,
        Client(app, database.url, clock=clock) as client,
    ):
        outcome = client.run("nap", {"days": 0}, timeout=20)
        step = engine.history(outcome.key)[0]
        assert step.created_at is not None
        assert step.created_at.date().isoformat() == "2031-05-01"
        assert datetime.fromtimestamp(outcome.state["woke"], UTC).year == 2031


def test_a_frozen_clock_gives_the_same_instants_in_every_run() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    with TestEngine(app, clock=TestClock(noon, frozen=True)) as engine:
        outcome = engine.run_through("nap", {"days": 1})
        assert outcome.state["woke"] == (noon + timedelta(days=1)).timestamp()
        assert engine.clock.now == noon + timedelta(days=1)


def test_a_clock_goes_forward_only() -> None:
    clock = TestClock(datetime(2030, 1, 1, tzinfo=UTC), frozen=True)
    clock.advance_to(datetime(2029, 1, 1, tzinfo=UTC))
    assert clock.now == datetime(2030, 1, 1, tzinfo=UTC)
    clock.advance_to(datetime(2030, 6, 1, tzinfo=UTC))
    assert clock.now == datetime(2030, 6, 1, tzinfo=UTC)
    for bad in (timedelta(days=-1), "a day", float("nan")):
        with pytest.raises(Invalid, match="by is"):
            clock.advance(bad)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="time zone"):
        TestClock(datetime(2030, 1, 1))  # noqa: DTZ001


def test_an_engine_that_does_not_come_to_rest_says_what_it_does() -> None:
    held = threading.Event()
    busy = App("busy")

    @busy.task
    def hold() -> None:
        held.wait(20)

    busy.graph("hold").chain(hold)
    with TestEngine(busy) as holding:
        key = holding.create("hold")
        wait_until(lambda: "1 steps run" in _not_idle(holding), "the task to run")
        held.set()
        holding.wait_until_idle()
        holding.assert_status(key, "completed")


def _not_idle(engine: TestEngine) -> str:
    with pytest.raises(AssertionError) as caught:
        engine.wait_until_idle(timeout=0.01)
    return str(caught.value)


def test_a_task_is_not_late_because_a_month_passed_while_it_ran() -> None:
    begun, held = threading.Event(), threading.Event()
    slow = App("slow")

    @slow.task
    def hold(flow: Flow) -> dict[str, Any]:
        before = flow.now
        begun.set()
        held.wait(20)
        return {"days": (flow.now - before).days, "cancelled": flow.is_cancelled}

    slow.graph("hold").chain(hold)
    with TestEngine(slow, time_budget=60) as engine:
        key = engine.create("hold")
        assert begun.wait(20)
        engine.clock.advance(MONTH)
        held.set()
        assert engine.wait(key, timeout=20).state == {"days": 30, "cancelled": False}
