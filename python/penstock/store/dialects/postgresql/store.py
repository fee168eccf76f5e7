"""The store over a PostgreSQL database."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, Connection

from penstock.errors import EngineUnavailable
from penstock.store.batch import Batch, Committed, Fenced
from penstock.store.clock import DatabaseClock
from penstock.store.dialects.postgresql import claims as claiming
from penstock.store.dialects.postgresql import mail as mailing
from penstock.store.dialects.postgresql import peers
from penstock.store.dialects.postgresql.commit import Commits
from penstock.store.dialects.postgresql.connections import Driver, Line, Lines, alchemy_engine, run
from penstock.store.dialects.postgresql.failures import failures_named
from penstock.store.dialects.postgresql.json_queries import PostgresJson
from penstock.store.dialects.postgresql.location import locate
from penstock.store.failures import Outage
from penstock.store.migrations import migrate
from penstock.store.rows import Claimed, Ended, LoadRow, Look, Mail, Sent
from penstock.store.sql_store import SqlStore
from penstock.store.standing import Standing

_MIGRATING = 0x70656E73746F636B
"""Names the lock of one transaction, so that engines which start together migrate one after the other."""
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8"
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_IDENTITY = text(
    "SELECT pg_postmaster_start_time(), to_regclass('penstock_flows')::oid,"
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_NAMESAKE_REST_S = 0.25


class PostgresStore(SqlStore):
    """One database, any number of engines. The clock is the database's; see `Store` for the rest."""

    _json = PostgresJson()
    _dialect = "postgresql"

    def __init__(
        self, url: URL, now: Callable[[], int] | None = None, lease_now: Callable[[], int] | None = None
    ) -> None:
        self._database_clock = DatabaseClock()
        super().__init__(now or self._database_clock, lease_now or self._database_clock)
        # None: statements that need the time take the database's.
        self._given_clock = now
        self._given_lease_clock = lease_now
        self._location = locate(url)
        self._commits = Commits(self._location)
        # A line a thread: the writer's, the heartbeat's, the housekeeper's.
        self._writer = Line(self._location)
        self._heartbeat = Line(self._location)
        self._housekeeper = Line(self._location)
        self._readers = Lines(self._location)
        self._engine = alchemy_engine(self._location)
        self._standing = Standing()
        # Written by register, read by the heartbeat's thread and the housekeeper's:
        self._patience_s = peers.PATIENCE_S
        # Written by close, read by any thread:
        self._is_closed = threading.Event()
        self._observe_clock()

    def close(self) -> None:
        """Close all connections."""
        self._is_closed.set()
        self._commits.close()
        for line in (self._writer, self._heartbeat, self._housekeeper):
            line.drop()
        self._readers.close()
        self._engine.dispose()

    @property
    def is_shared(self) -> bool:
        """Any number of engines may use it."""
        return True

    # --- connections ---

    @staticmethod
    def _insert_new(table: Table) -> Any:
        """An INSERT that leaves out rows of which a key is taken."""
        return insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)

    def identity(self) -> object:
        """The start of the server, and the numbers of database and table."""
        with self._reading() as conn:
            return self._identity_of(conn)

    def _identity_of(self, conn: Connection) -> object:
        return tuple(conn.execute(_IDENTITY).one())

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._require_open()
        with failures_named(self._location.shown), self._engine.begin() as conn:
            yield conn

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._require_open()
        with failures_named(self._location.shown), self._engine.connect() as conn:
            conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with conn.begin():
                yield conn

    @contextmanager
    def _reading_driver(self) -> Iterator[Driver]:
        self._require_open()
        with self._readers.line() as line, line.lend() as driver:
            yield driver

    def _require_open(self) -> None:
        if self._is_closed.is_set():
            raise Outage(f"The PostgreSQL database {self._location.shown} was closed.")

    def _line(self, line: Line) -> Line:
        self._require_open()
        return line

    # --- time ---

    @property
    def _stamp(self) -> int | None:
        """The time for a statement that makes flows ready, and would else take the database's own."""
        return None if self._given_clock is None else self.now()

    @property
    def _lease_stamp(self) -> int | None:
        """The time for a statement about leases, which would else take the database's own."""
        return None if self._given_lease_clock is None else self._lease_clock.now()

    def _elapsed_ms(self) -> int:
        """How leases are judged by their holder: by this process's own time, which no answer of the database moves."""
        if self._given_lease_clock is None:
            return time.monotonic_ns() // 1_000_000
        return self._lease_clock.now()

    def _observe_clock(self) -> None:
        with self._reading_driver() as driver:
            for _ in range(3):
                asked = time.monotonic_ns()
                row = run(driver, _CLOCK).fetchone()
                if row is not None:
                    self._database_clock.observe(asked, row[0], time.monotonic_ns())

    # --- life of a replica ---

    def register(self, *, name: str | None = None, capacity: int = 0, lease_ms: int = 15_000) -> int:
        """Migrate, declare dead namesakes that are gone, enter as a new replica."""
        with self._writing() as conn:
            conn.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
            migrate(conn)
        self._standing.lost()
        self._line(self._heartbeat).open()
        self._retire()
        self._replica_id = self._enter(name, capacity, lease_ms)
        self._commits.forget()
        self._standing.renewed(self._elapsed_ms(), lease_ms)
        return self._replica_id

    def _enter(self, name: str | None, capacity: int, lease_ms: int) -> int:
        deadline = time.monotonic() + lease_ms / 1000
        while True:
            living = self._declare_namesakes(name) if name is not None else []
            replica_id = None
            if not living:
                replica_id = peers.enter(
                    self._line(self._writer), name, capacity, lease_ms, self._lease_stamp
                )
            if replica_id is not None:
                return replica_id
            if time.monotonic() >= deadline or self._is_closed.wait(_NAMESAKE_REST_S):
                raise EngineUnavailable(_lives(name, living))

    def _retire(self) -> None:
        """Give up an earlier registration that stands: until its lease lapsed nobody would take its flows, nor its name.

        What others have declared dead is theirs to release.
        """
        before = self._replica_id
        line = self._line(self._writer)
        if not before or not peers.declare_dead(
            line, self._location, before, lambda _: True, self._lease_stamp, self._patience_s
        ):
            return
        with line.lend() as driver:
            while peers.release(driver, before, 0, self._stamp):
                pass
            peers.bury(driver)

    def _declare_namesakes(self, name: str) -> list[peers.Namesake]:
        """Declare those that are gone, release what they owned, and return those that live."""
        with self._line(self._writer).lend() as driver:
            found = peers.find_namesakes(driver, name, self._lease_stamp)
        living = [namesake for namesake in found if not namesake.may_be_declared]
        for namesake in found:
            if namesake not in living and not self._declare(self._writer, namesake):
                living.append(namesake)
        if len(living) < len(found):
            with self._writer.lend() as driver:
                while peers.release_dead(driver, self._stamp):
                    pass
                peers.bury(driver)
        return living

    def _declare(self, line: Line, namesake: peers.Namesake) -> bool:
        def still(driver: Driver) -> bool:
            # Unless its process is gone, the lease decides, and it may have been renewed meanwhile.
            return not namesake.has_lapsed or peers.has_lapsed(driver, namesake.replica_id, self._lease_stamp)

        return peers.declare_dead(
            line, self._location, namesake.replica_id, still, self._lease_stamp, self._patience_s
        )

    def renew_lease(self, lease_ms: int) -> bool:
        """Put off the instant at which others may declare this replica dead."""
        return self._renew(self._heartbeat, lease_ms)

    def _renew(self, line: Line, lease_ms: int) -> bool:
        begun, asked = self._elapsed_ms(), time.monotonic_ns()
        with self._line(line).lend() as driver:
            clock = peers.renew(driver, self._replica_id, lease_ms, self._lease_stamp)
        if clock is None:
            self._standing.lost()
            return False
        self._database_clock.observe(asked, clock, time.monotonic_ns())
        self._standing.renewed(begun, lease_ms)
        return True

    def declare_dead(self) -> list[int]:
        """Declare dead whose lease has lapsed."""
        if not self._standing.may_declare(self._elapsed_ms()):
            return []
        line = self._line(self._housekeeper)
        with line.lend() as driver:
            lapsed = peers.find_lapsed(driver, self._replica_id, self._lease_stamp)
        return [replica_id for replica_id in lapsed if self._declare_lapsed(line, replica_id)]

    def _declare_lapsed(self, line: Line, replica_id: int) -> bool:
        still = partial(peers.has_lapsed, replica_id=replica_id, now=self._lease_stamp)
        return peers.declare_dead(
            line, self._location, replica_id, still, self._lease_stamp, self._patience_s
        )

    def release_dead(self) -> int:
        """Release a chunk of the flows that dead replicas own."""
        with self._line(self._housekeeper).lend() as driver:
            count = peers.release_dead(driver, self._stamp)
            if not count:
                peers.bury(driver)
        return count

    def owned(self) -> dict[bytes, int]:
        """Read which flows this replica owns, with the number of each claim."""
        with self._reading_driver() as driver:
            return claiming.owned(driver, self._replica_id)

    def leave(self) -> int:
        """Release all flows of this replica and unregister it."""
        if self._is_closed.is_set() or not self._replica_id:
            return 0
        count = 0
        with self._line(self._writer).lend() as driver:
            while chunk := peers.release(driver, self._replica_id, 0, self._stamp):
                count += chunk
            peers.leave(driver, self._replica_id)
        self._replica_id = 0
        self._standing.lost()
        return count

    # --- hot statements, on the driver's connections ---

    def commit(self, batch: Batch) -> Committed | Fenced:
        """Write *batch* by one statement."""
        self._require_open()
        answer = self._commits.commit(batch, self._replica_id)
        if self._standing.is_late(self._elapsed_ms()):
            # The heartbeat is stuck, and the writer is not.
            self._renew(self._writer, self._standing.lease_ms)
        return answer

    def claim(
        self, ready: int, mail: int = 256, exclude: Collection[bytes] = (), max_format: int = 1
    ) -> list[Claimed] | Fenced:
        """Take unowned flows: the mail lane first, then ready flows, best band first."""
        line = self._line(self._writer)
        with line.lend() as driver:
            claiming.promote(driver, self.now())
        with line.transaction(claiming.IN_ORDER) as driver:
            return claiming.claim(driver, self._replica_id, mail, ready, exclude, max_format)

    def give_back(self, claims: Sequence[Claimed]) -> None:
        """Release flows that this replica cannot run after all."""
        with self._line(self._writer).lend() as driver:
            claiming.give_back(driver, self._replica_id, claims, self.now())

    def send(self, flow_id: bytes, kind: str, body: str, sender: str | None = None) -> Sent | Ended | None:
        """Put a message into a flow's inbox."""
        with self._reading_driver() as driver:
            return mailing.send(driver, flow_id, kind, body, sender, self.now())

    def look(self) -> Look:
        """Tell whether a claim or a look into the inbox would find anything."""
        with self._reading_driver() as driver:
            return claiming.look(driver, self._replica_id)

    def load(self, flow_ids: Sequence[bytes], *, complete: bool = False) -> list[LoadRow]:
        """Read flows and their journals, in one snapshot."""
        self._require_open()
        with self._readers.line() as line, line.transaction(_SNAPSHOT) as driver:
            return claiming.load(driver, flow_ids, complete=complete)

    def read_mail(self, delivered: Mapping[bytes, int]) -> list[Mail]:
        """Read unread messages of the flows that this replica owns."""
        with self._reading_driver() as driver:
            return mailing.read_mail(driver, self._replica_id, delivered)

    def mail_of(self, flow_ids: Sequence[bytes]) -> list[Mail]:
        """Read all unread messages of these flows."""
        with self._reading_driver() as driver:
            return mailing.mail_of(driver, flow_ids)


def _lives(name: str | None, living: Sequence[peers.Namesake]) -> str:
    who = ", ".join(f"replica {other.replica_id}, process {other.pid} on {other.host}" for other in living)
    return (
        f"An engine named {name!r} lives ({who or 'it has just started'}); "
        "stop it, or give this one another name or none."
    )
