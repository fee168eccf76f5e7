"""Whether the clock has leapt: a machine that slept, a clock that was set, a test that lets a month pass."""

import time
from collections.abc import Callable

# Two clocks that both go right, read one after the other by a busy thread, differ by less.
_LEAP_MS = 50


class Leap:
    """Compares the clock that timers are due by with the one that a thread can sleep by. One thread."""

    def __init__(self, now: Callable[[], int], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now = now
        self._monotonic_ns = monotonic_ns
        self._ahead_ms = self._look()

    def has_leapt(self) -> bool:
        """Whether the clock has gone forward more than time has passed since the last call."""
        ahead_ms = self._look()
        has_leapt = ahead_ms - self._ahead_ms > _LEAP_MS
        self._ahead_ms = ahead_ms
        return has_leapt

    def _look(self) -> int:
        return self._now() - self._monotonic_ns() // 1_000_000
