"""The databases that tests run on, as a pytest plugin: one of each kind per run, emptied for each test.

A test that takes `database` runs once for each kind. What a kind can do is declared; a test that needs more than one
kind can do says so by `@pytest.mark.needs("capability")` and is not collected for it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.postgres_server import NoServerError, PrivateServer, Server, start_server

KINDS = ("sqlite", "postgresql")

CAPABILITIES = {
    "sqlite": frozenset({"one-engine", "file", "sqlite"}),
    "postgresql": frozenset({"replicas", "server", "postgresql"}),
}
"""`one-engine`: a second one is kept out. `replicas`: many share the database. The kind's own name: the test speaks
its dialect."""


class Database:
    """A database of a test's own, with the schema or without.

    Attributes:
        kind: One of `KINDS`.
        url: For `open_store` and `Engine`.
    """

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read as another process would; marks are `?`, ids come as 16 bytes."""
        raise NotImplementedError

    def execute(self, statement: str) -> None:
        """Write behind everybody's back."""
        raise NotImplementedError


class SqliteDatabase(Database):
    """A file."""

    def __init__(self, path: Path) -> None:
        super().__init__("sqlite", f"sqlite:///{path}?synchronous=OFF")
        self.path = path

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(query, parameters).fetchall()
        finally:
            connection.close()

    def execute(self, statement: str) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute(statement)
        connection.commit()
        connection.close()


class _BytesLoader(psycopg.adapt.Loader):
    format = psycopg.pq.Format.BINARY

    def load(self, data: Any) -> bytes:
        return bytes(data)


class _IdDumper(psycopg.adapt.Dumper):
    """Bytes are ids or hashes, whichever the column is."""

    format = psycopg.pq.Format.BINARY
    oid = 0

    def dump(self, obj: bytes) -> bytes:
        return obj


class PostgresDatabase(Database):
    """A database on the server of this run."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__("postgresql", server.url_of(name))
        self.server = server
        self.name = name

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the test's own, each statement a transaction."""
        connection = psycopg.connect(self.server.dsn(self.name), autocommit=True)
        connection.adapters.register_loader("uuid", _BytesLoader)
        connection.adapters.register_dumper(bytes, _IdDumper)
        return connection

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.cursor(binary=True)
            return cursor.execute(query.replace("?", "%s").encode(), parameters).fetchall()

    def execute(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement.encode())

    def clear(self) -> None:
        """Leave the tables empty, the counters as at the beginning, and no transaction of an earlier test open."""
        self.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        tables = self.rows(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE 'penstock%%' AND schemaname = 'public'"
        )
        counters = self.rows("SELECT sequencename FROM pg_sequences")
        statements = [f"DELETE FROM {table}" for (table,) in tables if table != "penstock_version"]
        statements += [f"ALTER SEQUENCE {counter} RESTART" for (counter,) in counters]
        if statements:
            self.execute("; ".join(statements))


class Databases:
    """What this run has, started when it is first asked for."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._missing: NoServerError | None = None
        self._shared: PostgresDatabase | None = None
        self._created: list[str] = []
        # Kinds that tests were really run on, with a word on each.
        self.used: dict[str, str] = {}

    def server(self) -> Server:
        """The PostgreSQL server; without one the test is skipped, in CI it fails."""
        if self._server is None and self._missing is None:
            try:
                self._server = start_server()
            except NoServerError as error:
                self._missing = error
        if self._server is None:
            if is_ci():
                pytest.fail(f"no PostgreSQL in CI: {self._missing}", pytrace=False)
            pytest.skip(f"no PostgreSQL: {self._missing}")
        self.used["postgresql"] = f"PostgreSQL {self._server.version} ({self._server.origin})"
        return self._server

    def sqlite(self, path: Path) -> SqliteDatabase:
        """A file that does not exist yet."""
        self.used["sqlite"] = f"SQLite {sqlite3.sqlite_version}"
        return SqliteDatabase(path)

    def postgresql(self) -> PostgresDatabase:
        """The database that all tests share one after the other, empty."""
        if self._shared is None:
            self._shared = self.new_postgresql()
        else:
            self._shared.clear()
        return self._shared

    def new_postgresql(self) -> PostgresDatabase:
        """A database without a schema that no other test has: costs a fifth of a second."""
        server = self.server()
        name = f"penstock_test_{os.getpid()}_{len(self._created)}"
        server.execute(f"CREATE DATABASE {name}")
        self._created.append(name)
        return PostgresDatabase(server, name)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._server is not None:
            if not isinstance(self._server, PrivateServer):
                for name in self._created:
                    self._server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            self._server.stop()
            self._server = None


def is_ci() -> bool:
    """Whether a missing server is a failure."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


_databases = Databases()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """All that this run has."""
    yield _databases
    _databases.close()


@pytest.fixture
def database(database_kind: str, databases: Databases, tmp_path: Path) -> Database:
    """An empty database of each kind in turn."""
    return (
        databases.postgresql() if database_kind == "postgresql" else databases.sqlite(tmp_path / "flows.db")
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*capabilities): runs on the databases that can do all of these."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes a database once for each kind that can do what it needs."""
    if "database_kind" not in metafunc.fixturenames:
        return
    needs = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
    unknown = needs - frozenset().union(*CAPABILITIES.values())
    assert not unknown, f"no database has the capability {', '.join(unknown)}"
    metafunc.parametrize("database_kind", [kind for kind in KINDS if needs <= CAPABILITIES[kind]])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the databases that were really used."""
    terminalreporter.write_sep("-", "databases")
    for kind in KINDS:
        terminalreporter.write_line(f"{kind}: {_databases.used.get(kind, 'not used')}")
