"""The clock seam: one way to ask for the time, which tests replace."""

import threading
import time
from collections.abc import Callable

from penstock.clock import wall_clock_ms as wall_clock_ms


class Clock:
    """A clock that never goes back, even when the machine's is set back. Any thread."""

    def __init__(self, source: Callable[[], int] = wall_clock_ms) -> None:
        self._source = source
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._latest = 0

    def now(self) -> int:
        """Milliseconds since 1970, never less than the time before."""
        with self._lock:
            self._latest = max(self._latest, self._source())
            return self._latest


class DatabaseClock:
    """The database's clock, estimated from the answers that carry it.

    An answer was given somewhere between question and arrival, so the one with the shortest way there and back says
    most. It is believed until a shorter one comes, or it is old: two clocks drift apart. Any thread.
    """

    _STALE_NS = 300 * 1_000_000_000

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        # Guarded by _lock: milliseconds to add to the process's clock, how far they may be off, and from when they are.
        self._offset_ms = wall_clock_ms() - monotonic_ns() // 1_000_000
        self._way_ns = -1
        self._seen_ns = 0

    def observe(self, asked_ns: int, database_ms: int, answered_ns: int) -> None:
        """Take an answer into account; the first and last values are of `time.monotonic_ns`."""
        way = answered_ns - asked_ns
        with self._lock:
            is_stale = self._way_ns < 0 or answered_ns - self._seen_ns > self._STALE_NS
            if is_stale or way <= self._way_ns:
                self._offset_ms = database_ms - (asked_ns + way // 2) // 1_000_000
                self._way_ns = way
                self._seen_ns = answered_ns

    def __call__(self) -> int:
        """Milliseconds since 1970 by the database."""
        with self._lock:
            return self._monotonic_ns() // 1_000_000 + self._offset_ms
