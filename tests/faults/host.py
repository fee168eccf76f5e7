"""A host to be killed: creates flows, if any are asked for, and waits until all rest.

With a point and a number it kills itself when it comes to that point for that time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from penstock import Engine
from penstock.store.dialects.sqlite.store import SqliteStore
from tests.faults.app import PARTS, app

#: A method of the store, what its first argument must have, and whether the host dies before the call or after it.
POINTS: dict[str, tuple[str, str | None, bool]] = {
    "before commit": ("commit", "journal", True),
    "after commit": ("commit", "journal", False),
    "before release": ("commit", "releases", True),
    "after release": ("commit", "releases", False),
    "before stop": ("commit", "stops", True),
    "after stop": ("commit", "stops", False),
    "before takeover": ("register", None, True),
    "after takeover": ("register", None, False),
    "before claim": ("claim", None, True),
    "after claim": ("claim", None, False),
    "after load": ("load", None, False),
}


def crash_at(point: str, number: int) -> None:
    """Die at the given point, when it is reached for the given time."""
    name, part, is_before = POINTS[point]
    method: Callable[..., Any] = getattr(SqliteStore, name)
    reached = 0

    def crashing(self: SqliteStore, *arguments: Any, **named: Any) -> Any:
        nonlocal reached
        is_there = part is None or bool(getattr(arguments[0], part))
        reached += is_there
        is_last = is_there and reached == number
        if is_last and is_before:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = method(self, *arguments, **named)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(SqliteStore, name, crashing)


def main(url: str, ledger: str, number: str, point: str = "", times: str = "1") -> None:
    if point:
        crash_at(point, int(times))
    with Engine(app, url, workers=2) as engine:
        state = {"ledger": ledger, "parts": list(range(PARTS))}
        engine.create_many("counted", [state] * int(number))
        engine.create_many("asking", [state] * (int(number) // 8))
        print("created", flush=True)
        while running := engine.list(status="running", limit=1_000).items:
            for flow in running:
                engine.wait(flow.key)
        print("at rest", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
