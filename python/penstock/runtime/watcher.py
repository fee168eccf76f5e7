"""The thread by which a client waits: it looks into the database for whom somebody waits, and sleeps otherwise."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.runtime.service import Service

if TYPE_CHECKING:
    from penstock.runtime.waiters import Waiters

SHORTEST_WAIT_S = 0.003
LONGEST_WAIT_S = 0.25
# A look costs more the more is waited for; this many times its length passes before the next one.
_RESTS_PER_LOOK = 4


class Watcher(Service):
    """Looks often after a new wait or a find, then ever more seldom, and not at all while nobody waits."""

    def __init__(self, waiters: Waiters) -> None:
        super().__init__("penstock-watcher")
        self._waiters = waiters
        # Set by any thread, cleared by the watcher's:
        self._is_poked = False
        # The watcher's thread's:
        self._wait_s = SHORTEST_WAIT_S

    def poke(self) -> None:
        """Look now, and soon again. Any thread."""
        self._is_poked = True
        self.wake()

    def run_once(self) -> float | None:
        """Look once and return the seconds until the next look, None when nobody waits."""
        if self._is_poked:
            self._is_poked = False
            self._wait_s = SHORTEST_WAIT_S / 2
        if self._waiters.is_idle:
            return None
        started = time.monotonic()
        is_found = self._waiters.tick() > 0
        spent = time.monotonic() - started
        self._wait_s = SHORTEST_WAIT_S if is_found else min(self._wait_s * 2, LONGEST_WAIT_S)
        return min(max(self._wait_s, spent * _RESTS_PER_LOOK), LONGEST_WAIT_S)
