"""The clock seam: one way to ask for the time, which tests replace."""

import threading
import time
from collections.abc import Callable


def wall_clock_ms() -> int:
    """Milliseconds since 1970 by this machine."""
    return time.time_ns() // 1_000_000


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
