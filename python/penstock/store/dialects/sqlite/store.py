"""The store over a SQLite file."""

import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, Connection

from penstock.errors import EngineUnavailable
from penstock.store import replicas
from penstock.store.batch import Batch, Committed, Fenced
from penstock.store.dialects.sqlite import claims as claiming
from penstock.store.dialects.sqlite import mail as mailing
from penstock.store.dialects.sqlite.commit import FENCE, commit
from penstock.store.dialects.sqlite.connections import as_driver, driver_of, reading_engine, writing_engine
from penstock.store.dialects.sqlite.failures import failures_named
from penstock.store.dialects.sqlite.json_queries import SqliteJson
from penstock.store.dialects.sqlite.location import locate
from penstock.store.dialects.sqlite.lock import EngineLock
from penstock.store.failures import Outage
from penstock.store.identity import is_gone
from penstock.store.migrations import migrate
from penstock.store.rows import Claimed, Ended, LoadRow, Look, Mail, Sent
from penstock.store.sql_store import SqlStore


class SqliteStore(SqlStore):
    """One file, one engine. The clock is the process's; see `Store` for the rest."""

    _json = SqliteJson()
    _dialect = "sqlite"

    def __init__(
        self, url: URL, now: Callable[[], int] | None = None, lease_now: Callable[[], int] | None = None
    ) -> None:
        super().__init__(now, lease_now)
        self._location = locate(url)
        self._lock = EngineLock(self._location.path)
        self._writes = writing_engine(self._location)
        self._reads = reading_engine(self._location)
        # The writing thread's, opened by its first use:
        self._writer: Connection | None = None
        # Written by close, read by any thread:
        self._is_closed = False
        # A temporary database goes even when nobody closes the store.
        self._remove = weakref.finalize(self, self._location.remove)
        self._check()

    def _check(self) -> None:
        """Refuse what is no database. A file that is not there yet is made by `register`, not by a look."""
        if not self._location.path.exists():
            return
        try:
            with self._naming_failures(), self._reads.connect() as conn:
                conn.exec_driver_sql("PRAGMA schema_version").fetchone()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections, let go of the engine's lock, remove a temporary database."""
        self._is_closed = True
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._writes.dispose()
        self._reads.dispose()
        self._lock.release()
        self._remove()

    @property
    def is_shared(self) -> bool:
        """The lock file sees to it that there is one engine."""
        return False

    # --- connections ---

    @staticmethod
    def _insert_new(table: Table) -> Any:
        """An INSERT that leaves out rows of which a key is taken."""
        return insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)

    def identity(self) -> object:
        """The file."""
        return self._location.path

    def _identity_of(self, conn: Connection) -> object:
        files = [row[2] for row in conn.exec_driver_sql("PRAGMA database_list") if row[1] == "main"]
        return Path(files[0]).resolve() if files and files[0] else None

    def _naming_failures(self) -> AbstractContextManager[None]:
        if self._is_closed:
            raise Outage(f"The SQLite database {self._location.path} was closed.")
        return failures_named(str(self._location.path))

    def _write_connection(self) -> Connection:
        if self._writer is None:
            self._writer = self._writes.connect()
        return self._writer

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._naming_failures():
            conn = self._write_connection()
            with conn.begin():
                yield conn

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._naming_failures(), self._reads.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def _reading_driver(self) -> Iterator[sqlite3.Connection]:
        """A bare connection of the pool: a look costs a tenth of what it does through SQLAlchemy's."""
        with self._naming_failures():
            pooled = self._reads.raw_connection()
            try:
                driver = as_driver(pooled.driver_connection)
                driver.execute("BEGIN")
                yield driver
            finally:
                # The pool rolls the transaction back.
                pooled.close()

    # --- life of a replica ---

    def register(self, *, name: str | None = None, capacity: int = 0, lease_ms: int = 15_000) -> int:
        """Take the lock, migrate, take over what a predecessor owned, enter as a new replica."""
        self._lock.acquire()
        try:
            with self._writing() as conn:
                migrate(conn)
                # Whoever held the lock before is gone, and its tasks may be why.
                replicas.release_owned(conn, self.now(), crashes=1)
                replicas.delete_replicas(conn)
                replica_id = replicas.insert_replica(conn, name, capacity, self._lease_clock.now(), lease_ms)
        except BaseException:
            self._lock.release()
            raise
        self._replica_id = replica_id
        return replica_id

    def attach(self) -> None:
        """Check that the schema is there; makes no file."""
        if not self._location.path.exists():
            raise EngineUnavailable(
                f"There is no database {self._location.path}: no engine has ever used it. Start one, which makes it."
            )
        super().attach()

    def has_living_replica(self) -> bool:
        """Look for the processes themselves: there is one machine, and one engine renews nothing."""
        with self._reading() as conn:
            return not all(is_gone(*process) for process in replicas.read_processes(conn))

    def leave(self) -> int:
        """Release all flows of this replica, unregister it and let go of the lock."""
        if self._is_closed or not self._replica_id:
            return 0
        with self._writing() as conn:
            count = replicas.release_owned(conn, self.now(), self._replica_id)
            replicas.delete_replicas(conn, self._replica_id)
        self._replica_id = 0
        self._lock.release()
        return count

    # --- hot statements, on the driver's connection ---

    def commit(self, batch: Batch) -> Committed | Fenced:
        """Write *batch* in one transaction."""
        with self._naming_failures():
            return commit(driver_of(self._write_connection()), batch, self._replica_id)

    def claim(
        self, ready: int, mail: int = 256, exclude: Collection[bytes] = (), max_format: int = 1
    ) -> list[Claimed] | Fenced:
        """Take unowned flows: the mail lane first, then ready flows, best band first."""
        with self._writing() as conn:
            driver = driver_of(conn)
            if driver.execute(FENCE, (self._replica_id,)).fetchone() is None:
                return Fenced(self._replica_id)
            claiming.promote(driver, self.now())
            lane = claiming.take_mail_lane(driver, self._replica_id, mail, exclude, max_format)
            return lane + claiming.take_ready(driver, self._replica_id, ready, exclude, max_format)

    def give_back(self, claims: Sequence[Claimed]) -> None:
        """Release flows that this replica cannot run after all."""
        with self._writing() as conn:
            claiming.give_back(driver_of(conn), self._replica_id, claims, self.now())

    def send(self, flow_id: bytes, kind: str, body: str, sender: str | None = None) -> Sent | Ended | None:
        """Put a message into a flow's inbox."""
        with self._writing() as conn:
            return mailing.send(driver_of(conn), flow_id, kind, body, sender, self.now())

    def look(self) -> Look:
        """Tell whether a claim or a look into the inbox would find anything."""
        with self._reading_driver() as driver:
            return claiming.look(driver, self._replica_id)

    def load(self, flow_ids: Sequence[bytes], *, complete: bool = False) -> list[LoadRow]:
        """Read flows and their journals, in one snapshot."""
        with self._reading_driver() as driver:
            return claiming.load(driver, flow_ids, complete=complete)

    def read_mail(self, delivered: Mapping[bytes, int]) -> list[Mail]:
        """Read unread messages of the flows that this replica owns."""
        with self._reading_driver() as driver:
            return mailing.read_mail(driver, self._replica_id, delivered)

    def mail_of(self, flow_ids: Sequence[bytes]) -> list[Mail]:
        """Read all unread messages of these flows."""
        with self._reading_driver() as driver:
            return mailing.mail_of(driver, flow_ids)
