"""Connections: bare ones for the hot statements, pools of SQLAlchemy's for all others."""

import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import RawCursor
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper
from sqlalchemy.engine import Engine

from penstock.store.dialects.postgresql.failures import failures_named, is_stale
from penstock.store.dialects.postgresql.location import Location

_POOL = 4

Driver = psycopg.Connection[tuple[Any, ...]]


class _BinaryDumper(Dumper):
    """Bytes are what the statement's cast says, in PostgreSQL's binary format: an array, a uuid, a bytea."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: bytes) -> bytes:
        """Send them as they are."""
        return obj


class _UuidLoader(Loader):
    """An id is its 16 bytes."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        """Take them as they came."""
        return bytes(data)


def connect(location: Location) -> Driver:
    """Open a bare connection: every statement is a transaction of its own, results are binary, marks are `$1`.

    Statements are prepared only where no proxy stands between, because one that pools by transaction gives each of
    them another server process. A proxy shows by the process id: it answers with one of its own making.
    """
    driver: Driver = psycopg.connect(
        location.conninfo, autocommit=True, prepare_threshold=None, cursor_factory=RawCursor
    )
    driver.adapters.register_dumper(bytes, _BinaryDumper)
    # One width for all numbers, so that a statement has one form whatever they are.
    driver.adapters.register_dumper(int, Int8BinaryDumper)
    driver.adapters.register_loader("uuid", _UuidLoader)
    if location.prepare == "on" or (location.prepare == "auto" and _is_direct(driver)):
        _prepare(driver)
    return driver


def _is_direct(driver: Driver) -> bool:
    row = run(driver, "SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] == driver.info.backend_pid


def _prepare(driver: Driver) -> None:
    """Plan each statement once. The plan is made while tables may be empty, so it must not scan them whole."""
    driver.prepare_threshold = 1
    driver.prepared_max = 200
    driver.execute("SET plan_cache_mode = force_generic_plan")
    driver.execute("SET enable_seqscan = off")
    driver.execute("SET jit = off")


def run(driver: Driver, statement: str, parameters: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
    """Run one statement with binary results."""
    cursor = driver.cursor(binary=True)
    return cursor.execute(statement, parameters)


def _is_over(driver: Driver) -> bool:
    """Whether a connection at rest is of no more use. A server that says something unasked says that it goes."""
    if driver.closed or driver.broken:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Line:
    """A bare connection that is opened when it is needed and again after it was lost. One thread at a time."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._driver: Driver | None = None
        # How often it was opened; by the line's thread.
        self.openings = 0

    def open(self) -> Driver:
        """The connection, opened when there is none.

        Raises:
            Outage: There is no reaching the database.
        """
        if self._driver is not None and _is_over(self._driver):
            self.drop()
        if self._driver is None:
            with failures_named(self._location.shown):
                self._driver = connect(self._location)
            self.openings += 1
        return self._driver

    def drop(self) -> None:
        """Close the connection; the next use opens another one."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    @contextmanager
    def lend(self) -> Iterator[Driver]:
        """Lend the connection, and name what goes wrong; one that is of no more use is dropped."""
        driver = self.open()
        with failures_named(self._location.shown):
            try:
                yield driver
            except psycopg.Error as error:
                if driver.closed or driver.broken or is_stale(error):
                    self.drop()
                raise

    @contextmanager
    def transaction(self, begin: str = "BEGIN") -> Iterator[Driver]:
        """Lend the connection inside a transaction, committed at the end."""
        with self.lend() as driver:
            driver.execute(begin.encode())
            try:
                yield driver
            except BaseException:
                if not driver.closed:
                    driver.execute(b"ROLLBACK")
                raise
            driver.execute(b"COMMIT")


class Lines:
    """A few lines for readers. Any thread; one that finds none free waits for one."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._condition = threading.Condition()
        # Guarded by _condition:
        self._free: list[Line] = [Line(location) for _ in range(_POOL)]
        self._is_closed = False

    @contextmanager
    def line(self) -> Iterator[Line]:
        """Lend a line."""
        with self._condition:
            while not self._free:
                self._condition.wait()
            # The one used last, so that no more are open than are needed.
            line = self._free.pop()
        try:
            yield line
        finally:
            with self._condition:
                self._free.append(line)
                if self._is_closed:
                    line.drop()
                self._condition.notify()

    def close(self) -> None:
        """Close those that are free now; the others when they come back."""
        with self._condition:
            self._is_closed = True
            for line in self._free:
                line.drop()


def alchemy_engine(location: Location) -> Engine:
    """What the ordinary statements run on. A connection that died while it rested is replaced unseen."""
    return sa.create_engine(
        location.url,
        pool_size=_POOL,
        max_overflow=_POOL,
        pool_pre_ping=True,
        # What a statement holds, ids of flows among it, is nobody's business in a traceback.
        hide_parameters=True,
        connect_args={"prepare_threshold": None},
    )
