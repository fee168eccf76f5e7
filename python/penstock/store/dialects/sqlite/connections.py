"""Two engines over one file: one connection that writes, and a small pool that reads."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import QueuePool

from penstock.store.dialects.sqlite.location import Location

_BUSY_TIMEOUT_S = 5.0
_READERS = 4
_CACHE_KIB = 32 * 1024


def writing_engine(location: Location) -> Engine:
    """An engine whose transactions take the write lock at once, so that none fails half way through."""
    engine = _engine(location.path, size=1)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {location.synchronous}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    _begin_with(engine, "BEGIN IMMEDIATE")
    return engine


def reading_engine(location: Location) -> Engine:
    """An engine whose connections cannot write; each transaction sees one snapshot."""
    engine = _engine(location.path, size=_READERS)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    _begin_with(engine, "BEGIN")
    return engine


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for the hot statements."""
    return as_driver(connection.connection.driver_connection)


def as_driver(connection: object) -> sqlite3.Connection:
    """The same object under its type."""
    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(f"expected a sqlite3 connection, found {type(connection).__name__}")
    return connection


def _engine(path: Path, size: int) -> Engine:
    return sa.create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        # What a statement holds, ids of flows among it, is nobody's business in a traceback.
        hide_parameters=True,
        # isolation_level None: the driver begins no transaction of its own, and ours are begun below.
        connect_args={
            "check_same_thread": False,
            "isolation_level": None,
            "timeout": _BUSY_TIMEOUT_S,
            "cached_statements": 256,
        },
    )


def _begin_with(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)
