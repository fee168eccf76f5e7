"""A proxy that pools by transaction between the engine and PostgreSQL: no two statements share a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import pytest

from penstock import App, Client, Engine, Flow
from tests.support.databases import PostgresDatabase
from tests.support.postgres_server import as_somebody
from tests.support.waiting import eventually

PROXY = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
app = App("proxied")


@app.task
def count(number: int) -> dict[str, Any]:
    """One step."""
    return {"number": number + 1}


@app.task
def ask(flow: Flow) -> dict[str, Any]:
    """A question, and a child."""
    answer = flow.interrupt("well?")
    return {"answer": answer, "child": flow.subgraph("counting", {"number": 0})["number"]}


app.graph("counting").node("a", count).node("b", count).chain("a", "b")
app.graph("asking").chain(ask)


def _behind(database: PostgresDatabase) -> str:
    """Where the proxy finds the database, in its own words."""
    known = psycopg.conninfo.conninfo_to_dict(database.server.dsn(database.name))
    wanted = {name: known[name] for name in ("host", "port", "dbname", "user", "password") if name in known}
    return psycopg.conninfo.make_conninfo(**wanted)


@pytest.fixture
def proxied_url(database: PostgresDatabase) -> Iterator[str]:
    """The database behind a proxy with two server connections, each lent for one transaction."""
    if not Path(PROXY).exists():
        assert "CI" not in os.environ, "CI installs pgbouncer"
        pytest.skip("pgbouncer is not installed")
    directory = Path(tempfile.mkdtemp(prefix="pgb-", dir="/tmp"))
    prefix = as_somebody(directory)
    (directory / "proxy.ini").write_text(
        f"[databases]\n{database.name} = {_behind(database)}\n[pgbouncer]\n"
        f"unix_socket_dir = {directory}\nlisten_port = 6432\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 2\nmax_client_conn = 100\n"
    )
    url = f"postgresql://postgres@/{database.name}?host={directory}&port=6432"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*prefix, PROXY, str(directory / "proxy.ini")], stderr=log, stdout=log)

    def answers() -> bool:
        assert process.poll() is None, (directory / "log").read_text()
        try:
            with psycopg.connect(url) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    try:
        eventually(answers, what="an answer of the proxy", deadline=20)
        yield url
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.needs("postgresql")
def test_everything_works_behind_a_proxy_that_pools_by_transaction(
    proxied_url: str, database: PostgresDatabase
) -> None:
    with Engine(app, proxied_url, workers=0) as engine, Client(app, proxied_url) as client:
        keys = client.create_many("counting", [{"number": n} for n in range(40)])
        assert [client.wait(key, timeout=30).state["number"] for key in keys] == [n + 2 for n in range(40)]
        asking = engine.create("asking", idempotency_key="once")
        assert engine.create("asking", idempotency_key="once") == asking
        assert client.wait(asking, timeout=30).status == "interrupted"
        client.resume(asking, "yes")
        assert client.wait(asking, timeout=30).state == {"answer": "yes", "child": 2}
    assert database.rows("SELECT count(*) FROM penstock_live") == [(0,)]
