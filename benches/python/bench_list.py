"""How long a page of `list` and of `purge` takes among very many flows.

    python -m benches.python.bench_list --flows 1000000
    python -m benches.python.bench_list --flows 1000000 --url postgresql://localhost/bench

Fills an empty database, then reads each page several times and prints median and slowest. It is filled the way that
tests fill it: hours of short flows, one in fifty that lasted for hours, rare things old. A database that holds flows
is measured as it stands; a purge takes some of them, oldest first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from penstock.store import open_store
from penstock.store.rows import FlowFilter
from penstock.store.tables import flows
from tests.support.many_flows import STEP_MS, fill

#: What a page of an indexed filter may take.
GOAL_MS = 50.0
_ROUNDS = 9


def filters(number: int, end_ms: int) -> dict[str, FlowFilter]:
    """What is asked, by name."""
    middle, recent = end_ms - number * STEP_MS // 2, end_ms - number * STEP_MS // 20
    return {
        "all": FlowFilter(),
        "status=completed": FlowFilter(status="completed"),
        "status=failed": FlowFilter(status="failed"),
        "status=paused (none)": FlowFilter(status="paused"),
        "workflow=orders": FlowFilter(workflow="orders"),
        "workflow=old": FlowFilter(workflow="old"),
        "workflow=old status=failed": FlowFilter(workflow="old", status="failed"),
        "workflow (none)": FlowFilter(workflow="none"),
        "fairness_key": FlowFilter(fairness_key="ada"),
        "older_than the middle": FlowFilter(older_than=middle),
        "older_than recent": FlowFilter(older_than=recent),
        "newer_than the middle": FlowFilter(newer_than=middle),
        "newer_than just now": FlowFilter(newer_than=end_ms - 1_000),
        "newer_than recent": FlowFilter(newer_than=recent),
        "newer_than recent, failed": FlowFilter(newer_than=recent, status="failed"),
        "tags (scan)": FlowFilter(tags={"customer": "7"}),
        "search, nothing found (scan)": FlowFilter(search="nowhere"),
    }


class Times(NamedTuple):
    """Of some calls, in milliseconds: neighbours on the machine make the slowest of them, not the median."""

    median: float
    slowest: float

    def __str__(self) -> str:
        return f"{self.median:7.1f} ({self.slowest:7.1f})"


def timed(fn: Callable[[], Any]) -> tuple[Times, Any]:
    """Time some calls, after one that warms the caches."""
    answer = fn()
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        answer = fn()
        took.append((time.perf_counter() - begun) * 1000)
    return Times(statistics.median(took), max(took)), answer


def main() -> int:
    """Fill, measure, print; 1 when a page of an indexed filter misses the goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--url", default="")
    parser.add_argument("--lasting", type=int, default=50, help="one flow in so many lasts for hours")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"sqlite:///{Path(folder) / 'flows.db'}?synchronous=OFF"
        store: Any = open_store(url)
        store.register()
        end_ms = store.now()
        with store._reading() as connection:
            newest = connection.execute(sa.select(sa.func.max(flows.c.created_at))).scalar()
        if newest is None:
            begun = time.perf_counter()
            with store._writing() as connection:
                fill(connection, arguments.flows, end_ms, arguments.lasting)
            print(f"{arguments.flows} flows in {time.perf_counter() - begun:.0f} s", flush=True)
        else:
            end_ms = newest
        is_met = measure(store, arguments.flows, end_ms)
        store.leave()
        store.close()
    return 0 if is_met else 1


def measure(store: Any, number: int, end_ms: int) -> bool:
    """Print a line a page; whether every indexed one meets the goal."""
    is_met = True
    for name, which in filters(number, end_ms).items():
        first, page = timed(partial(store.list_flows, which, 100))
        last_cursor = None
        for _ in range(20):
            if page.cursor is None:
                break
            last_cursor = page.cursor
            page = store.list_flows(which, 100, last_cursor)
        later, page = timed(partial(store.list_flows, which, 100, last_cursor))
        purged, _ = timed(partial(store.purge, which, 100))
        is_slow = not page.is_scan and max(first.median, later.median, purged.median) > GOAL_MS
        is_met &= not is_slow
        mark = "scan" if page.is_scan else "SLOW" if is_slow else ""
        print(
            f"{name:30} list {first} ms, later {later} ms, purge {purged} ms  {mark}",
            flush=True,
        )
    return is_met


if __name__ == "__main__":
    sys.exit(main())
