"""A host that carries out one operation, and dies at a named point of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from penstock import App, Client, Engine, Flow
from penstock.operations.facade import Operations
from penstock.store import removal
from penstock.store.dialects.postgresql.store import PostgresStore
from penstock.store.dialects.sqlite.store import SqliteStore

app = App("operating")

#: Enough for a purge of several chunks.
MANY = 250


@app.task
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    return {"answer": flow.interrupt()}


app.graph("double").chain(double)
app.graph("ask").chain(ask)

orders = sa.Table("orders", sa.MetaData(), sa.Column("n", sa.Integer))


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_around(holder: Any, name: str, is_it: Callable[..., bool], *, before: bool = False) -> None:
    """Die at the next call of a function for which something holds, before it or when it has done its work."""
    function = getattr(holder, name)

    def deadly(*arguments: Any, **named: Any) -> Any:
        is_last = is_it(*arguments)
        if is_last and before:
            die()
        answer = function(*arguments, **named)
        if is_last:
            die()
        return answer

    setattr(holder, name, deadly)


def in_stores(name: str, is_it: Callable[..., bool], *, before: bool = False) -> None:
    for store in (SqliteStore, PostgresStore):
        die_around(store, name, is_it, before=before)


def always(*_: Any) -> bool:
    return True


def host_url(url: str) -> str:
    return url.removesuffix("?synchronous=OFF").replace("postgresql:", "postgresql+psycopg:")


def before_the_verdict(_: Any, batch: Any) -> bool:
    return bool(batch.verdicts)


def answered(engine: Operations, _: str) -> None:
    key = engine.create("ask")
    engine.wait(key, timeout=20)
    in_stores("commit", before_the_verdict, before=True)
    engine.resume(key, 7)


def restarted(engine: Operations, _: str) -> None:
    key = engine.run("double", {"n": 1}, timeout=20).key
    in_stores("revive", always)
    engine.restart(key, {"n": 50})


def refused(engine: Operations, _: str) -> None:
    """The step has not failed, which the owner finds out."""
    key = engine.run("double", {"n": 1}, timeout=20).key
    in_stores("revive", always)
    engine.retry_step(engine.history(key)[0].key)


def obeyed(engine: Operations, _: str) -> None:
    key = engine.run("double", {"n": 1}, timeout=20).key
    in_stores("commit", before_the_verdict, before=True)
    engine.restart(key, {"n": 50})


def forked(engine: Operations, _: str) -> None:
    key = engine.run("double", {"n": 1}, timeout=20).key
    in_stores("create", always)
    engine.fork(engine.history(key)[0].key, {"n": 50})


def continued(engine: Operations, _: str) -> None:
    key = engine.run("double", {"n": 1}, timeout=20).key
    in_stores("create", always)
    engine.continue_(key, {"n": 50})


def purged(engine: Operations, _: str) -> None:
    """In the second chunk, with everything deleted and nothing committed."""
    for key in engine.create_many("double", [{"n": n} for n in range(MANY)]):
        engine.wait(key, timeout=20)
    die_around(removal, "purge", lambda *given: given[-1] is not None)
    engine.purge(status="completed")


def placed(client: Operations, url: str, *, is_committed: bool) -> None:
    """A flow and a row of the host's own in one transaction; nobody is there yet who would start the flow."""
    host = sa.create_engine(host_url(url))
    orders.create(host)
    with host.begin() as connection:
        connection.execute(sa.insert(orders).values(n=1))
        client.create("double", {"n": 1}, connection=connection)
        if not is_committed:
            die()
    die()


def placed_uncommitted(client: Operations, url: str) -> None:
    placed(client, url, is_committed=False)


def placed_committed(client: Operations, url: str) -> None:
    placed(client, url, is_committed=True)


POINTS: dict[str, Callable[[Operations, str], None]] = {
    "message sent, verdict not written": answered,
    "live row inserted by a restart, message not read": restarted,
    "live row inserted by what will be refused": refused,
    "restart obeyed, verdict not written": obeyed,
    "fork inserted, not started": forked,
    "turn inserted, not started": continued,
    "chunk of a purge deleted, not committed": purged,
    "host's transaction not committed": placed_uncommitted,
    "host's transaction committed, flow not claimed": placed_committed,
}


def main(url: str, point: str) -> None:
    if point.startswith("host's"):
        with Engine(app, url):
            pass
        with Client(app, url) as client:
            POINTS[point](client, url)
    with Engine(app, url, lease=1.5) as engine:
        POINTS[point](engine, url)
    print("the point was not reached")


if __name__ == "__main__":
    main(*sys.argv[1:])
