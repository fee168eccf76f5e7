"""The rows of a unit that was put off too often are taken by waiting, on a second connection.

The writer never waits. A thread of its own stands in the queue for the rows and keeps them, in an open transaction,
until the writer comes by with the unit, which the core gives it with each batch, and writes it there alone.
"""

import logging
import threading

import psycopg

from penstock.store.dialects.postgresql.connections import Driver, connect, run
from penstock.store.dialects.postgresql.location import Location
from penstock.store.dialects.postgresql.parameters import uuid_array
from penstock.store.failures import Outage

_log = logging.getLogger(__name__)

_TAKE = """SELECT flow_id FROM penstock_live WHERE flow_id = ANY ($1::uuid[])
    ORDER BY flow_id FOR NO KEY UPDATE"""
_KEEP_S = 1.0
"""How long rows are kept for a writer that does not come by."""


class Patience:
    """At most one unit's rows at a time. `ask`, `take` and `done` are called by the writer's thread."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._condition = threading.Condition()
        # Guarded by _condition; the first two are written by the thread that waits, `_is_taken` by the writer:
        self._driver: Driver | None = None
        self._held: frozenset[bytes] = frozenset()
        self._is_taken = False
        self._thread: threading.Thread | None = None

    def ask(self, flow_ids: frozenset[bytes]) -> None:
        """Begin to wait for these rows, unless others are waited for."""
        with self._condition:
            if self._thread is None:
                self._is_taken = False
                self._thread = threading.Thread(
                    target=self._wait, args=(flow_ids,), name="penstock-patience", daemon=True
                )
                self._thread.start()

    def take(self, flow_ids: frozenset[bytes]) -> Driver | None:
        """The connection whose open transaction holds all of these rows; give it back by `done`."""
        with self._condition:
            if not flow_ids or not flow_ids <= self._held:
                return None
            self._is_taken = True
            self._held = frozenset()
            return self._driver

    def done(self) -> None:
        """Let the rows go: what was not committed is undone."""
        self._end(has_to_cancel=False)

    def close(self) -> None:
        """End the waiting, if there is any. Idempotent."""
        self._end(has_to_cancel=True)

    def _end(self, *, has_to_cancel: bool) -> None:
        with self._condition:
            driver, self._driver = self._driver, None
            thread = self._thread
            self._held = frozenset()
            self._is_taken = True
            self._condition.notify_all()
        if driver is not None and has_to_cancel and not driver.closed:
            driver.cancel()
        if thread is not None:
            thread.join(5)
        if driver is not None:
            driver.close()

    def _wait(self, flow_ids: frozenset[bytes]) -> None:
        try:
            driver = connect(self._location)
            with self._condition:
                self._driver = driver
                if self._is_taken:
                    self._is_taken = False  # closed meanwhile: the connection is still this thread's
                    return
            driver.execute(b"BEGIN")
            run(driver, _TAKE, [uuid_array(sorted(flow_ids))])
            self._keep(flow_ids)
        except (psycopg.Error, Outage) as error:
            _log.info("Rows of %d flows could not be waited for: %s", len(flow_ids), error)
        finally:
            with self._condition:
                self._thread = None
                is_mine = not self._is_taken
                driver_left = self._driver if is_mine else None
                if is_mine:
                    self._driver, self._held = None, frozenset()
            if driver_left is not None:
                driver_left.close()

    def _keep(self, flow_ids: frozenset[bytes]) -> None:
        with self._condition:
            if not self._is_taken:
                self._held = flow_ids
                self._condition.wait_for(lambda: self._is_taken, _KEEP_S)
