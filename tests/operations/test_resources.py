"""What is known of resources outlives an engine and is heard by others; limits hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from penstock import App, Client, Engine, Limit
from penstock.errors import Invalid, RateLimited, Unavailable
from penstock.outcome import ResourceInfo
from tests.support.databases import Database, Databases
from tests.support.waiting import eventually as wait_for

Fact = TypeVar("Fact")

app = App("resources")


class Counter:
    """How many tasks run at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.now = self.most = 0
        self.refusals = 1

    def add(self, n: int) -> None:
        with self.lock:
            self.now += n
            self.most = max(self.most, self.now)


counter = Counter()
both = threading.Event()


@app.task
def away() -> None:
    raise Unavailable("connection refused")


@app.task
def busy() -> None:
    with counter.lock:
        counter.refusals -= 1
        is_refused = counter.refusals >= 0
    if is_refused:
        raise RateLimited


@app.task
def count() -> None:
    counter.add(1)
    both.wait(0.02)
    counter.add(-1)


app.graph("away").chain(away)
app.graph("busy").chain(busy)
app.graph("count").chain(count)


@pytest.fixture(autouse=True)
def cleared() -> None:
    counter.clear()


def eventually(fact: Callable[[], Fact]) -> Fact:
    return wait_for(fact, what="the resource's state")


def of(side: Engine | Client, name: str) -> ResourceInfo | None:
    return next((found for found in side.resources() if found.name == name), None)


def probe_in_a_while(side: Engine | Client) -> datetime | None:
    """When the open breaker lets the next one through, if that is not too soon to look at in peace."""
    found = of(side, "away")
    soon = datetime.now(UTC) + timedelta(seconds=2)
    return None if found is None or (found.next_probe_at or soon) <= soon else found.next_probe_at


def test_an_open_breaker_survives_a_restart_with_its_next_probe(database: Database) -> None:
    with Engine(app, database.url) as engine:
        key = engine.create("away")
        probe_at = eventually(lambda: probe_in_a_while(engine))
    with Client(None, database.url) as client, Engine(app, database.url) as engine:
        for found in (of(client, "away"), of(engine, "away")):
            assert found is not None
            assert (found.cause, found.next_probe_at) == ("connection refused", probe_at)
        told = of(client, "away")
        assert told is not None
        assert (told.ready, told.running, told.per_second) == (None, None, None)
        eventually(lambda: [(step.reason, step.until) for step in engine.why(key)] == [("breaker", probe_at)])


def test_the_rate_of_a_valve_survives_a_restart(database: Database) -> None:
    with Engine(app, database.url) as engine:
        assert engine.run("busy", timeout=20).status == "completed"
        before = of(engine, "busy")
        assert before is not None
    with Engine(app, database.url) as engine:
        after = of(engine, "busy")
        assert after is not None
        assert before.valve is not None
        assert after.valve is not None
        assert after.valve >= before.valve, "it recovers with time"
        assert after.valve < before.valve + 100


def test_engines_hear_of_each_others_resources(databases: Databases) -> None:
    url = databases.new_postgresql().url
    with Engine(app, url, lease=1) as one, Engine(App("idle"), url, lease=1) as other:
        one.create("away")
        found = eventually(lambda: of(other, "away"))
        assert found is not None
        assert found.cause == "connection refused"


def test_no_more_run_than_a_limit_allows_until_it_is_lifted(database: Database) -> None:
    with Engine(app, database.url, threads=4, limits={"count": Limit(max_concurrency=1)}) as engine:
        for key in engine.create_many("count", [{}] * 12):
            engine.wait(key, timeout=20)
        assert counter.most == 1
        engine.configure(limits={})
        for key in engine.create_many("count", [{}] * 40):
            engine.wait(key, timeout=20)
        assert counter.most > 1


def test_a_limit_may_be_for_each_partition(database: Database) -> None:
    limits = {"count": [Limit(max_concurrency=1, partition="baggage.tenant"), Limit(max_concurrency=2)]}
    with Engine(app, database.url, threads=4, limits=limits) as engine:
        keys: list[str] = []
        for tenant in ("a", "b", "c"):
            keys += engine.create_many("count", [{}] * 6, baggage={"tenant": tenant})
        for key in keys:
            engine.wait(key, timeout=20)
        assert counter.most <= 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Limit, "limits nothing"),
        (lambda: Limit(max_concurrency=0), "max_concurrency is 0"),
        (lambda: Limit(rate=0), "rate is 0: give a number above 0"),
        (lambda: Limit(rate=float("nan")), "rate is nan"),
        (lambda: Limit(rate=5, burst=0.5), "burst is 0.5: give a number of at least 1"),
        (lambda: Limit(max_concurrency=1, burst=2), "without a rate"),
        (lambda: Limit(rate=5, partition="tenant"), "partition is 'tenant'"),
        (lambda: Engine(app, "sqlite://", limits={"count": 5}), "the limit of 'count' is 5"),
        (lambda: Engine(app, "sqlite://", limits={"count": [Limit(rate=1)] * 2}), "has 2 limits"),
        (lambda: Engine(app, "sqlite://", limits=7), "limits is 7"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        make()
