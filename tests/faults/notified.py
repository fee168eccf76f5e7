"""A host that is told of stops, and dies at a named point on the way of the first one."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from penstock import App, Engine, Outcome
from penstock.store.dialects.postgresql.store import PostgresStore
from penstock.store.dialects.sqlite.store import SqliteStore

app = App("notified")

#: Where the host dies: after the commit that wrote the row, after it was taken, in its function, after the function.
POINTS = ("after commit", "after take", "in the function", "before the removal")


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


app.graph("double").chain(double)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash_at(point: str) -> None:
    """Die when the point is reached for the first time."""
    for store in (SqliteStore, PostgresStore):
        commit, take = store.commit, store.take_notices

        def commit_and_die(self: Any, batch: Any, commit: Any = commit) -> Any:
            answer = commit(self, batch)
            if batch.outbox:
                die()
            return answer

        def take_and_die(self: Any, *arguments: Any, take: Any = take) -> Any:
            taken = take(self, *arguments)
            if taken:
                die()
            return taken

        if point == "after commit":
            store.commit = commit_and_die  # type: ignore[method-assign]
        if point == "after take":
            store.take_notices = take_and_die  # type: ignore[method-assign]
        if point == "before the removal":
            store.notice_delivered = die  # type: ignore[method-assign]


def main(url: str, point: str = "") -> None:
    crash_at(point)

    def told(outcome: Outcome, address: str) -> None:
        if point == "in the function":
            die()
        print(f"told {address} {outcome.key} {outcome.status} {outcome.state}", flush=True)

    with Engine(app, url, lease=1.5, on_flow_stopped=told) as engine:
        if point:
            print("created", engine.create("double", {"n": 4}, notify_on_stop="bus"), flush=True)
        print("engine runs", flush=True)
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(*sys.argv[1:])
