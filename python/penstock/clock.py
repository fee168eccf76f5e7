"""The time that scheduling goes by where a test has set it: one small file that all processes of the test map.

An engine takes any function for its clock. Only this one reaches worker processes, whose tasks ask for the time too, and
tells the engine when it was moved.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_VALUES = struct.Struct("=qq")
"""1 for a clock that stands still, and then its milliseconds since 1970; 0, and what to add to the machine's."""


def wall_clock_ms() -> int:
    """Milliseconds since 1970 by this machine."""
    return time.time_ns() // 1_000_000


class SharedClock:
    """A clock that several processes share: one of them moves it, all of them read it. Any thread.

    Args:
        path: The file, made by `create`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _VALUES.size)
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._listeners: list[Callable[[], None]] = []

    @staticmethod
    def create(path: Path, at_ms: int | None, *, is_frozen: bool) -> None:
        """Write the file of a clock that begins at an instant, or at the machine's time."""
        now = wall_clock_ms()
        begin = now if at_ms is None else at_ms
        path.write_bytes(_VALUES.pack(1, begin) if is_frozen else _VALUES.pack(0, begin - now))

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        is_frozen, value = _VALUES.unpack_from(self._map)
        return int(value) if is_frozen else wall_clock_ms() + int(value)

    def move(self, by_ms: int) -> None:
        """Go forward, and tell all listeners of this process; those elsewhere see it at their next look."""
        with self._lock:
            is_frozen, value = _VALUES.unpack_from(self._map)
            _VALUES.pack_into(self._map, 0, is_frozen, value + by_ms)
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have *listener* called after each move; returns what ends that."""
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._forget(listener)

    def _forget(self, listener: Callable[[], None]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
