"""Removes flows whose time has come, a chunk at a time."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from penstock.errors import EngineUnavailable

if TYPE_CHECKING:
    from penstock.runtime.writer import Writer
    from penstock.store import Store

_log = logging.getLogger(__name__)

EVERY_MS = 5_000
#: Flows of one transaction: a batch waits that long at most.
CHUNK = 100


class Retention:
    """Sweeps on the writer's thread, between batches. One thread, the poller's."""

    def __init__(self, store: Store, writer: Writer, retain_ms: int | None) -> None:
        self._store = store
        self._writer = writer
        # Both are written by `keep` too, from any thread.
        self._retain_ms = retain_ms
        self._next_at = 0
        self._under_way: Future[int] | None = None

    def keep(self, retain_ms: int | None) -> None:
        """Have finished flows stay that long from now on, None for ever. Any thread."""
        self._retain_ms = retain_ms
        self._next_at = 0

    def tick(self, now: int) -> None:
        """Begin a chunk when it is time, or when the one before was full."""
        if self._under_way is not None:
            if not self._under_way.done():
                return
            removed, self._under_way = _result(self._under_way), None
            if removed >= CHUNK:
                self._next_at = now
        if now >= self._next_at:
            self._next_at = now + EVERY_MS
            self._under_way = self._writer.run(partial(self._store.sweep, self._retain_ms, CHUNK))


def _result(swept: Future[int]) -> int:
    try:
        return swept.result()
    except EngineUnavailable:
        # The database is away; those who need it say so.
        return 0
    except Exception:  # noqa: BLE001  # what stands in the way of a sweep must not stop the poller
        _log.exception("Flows could not be removed; tried again in %d s.", EVERY_MS // 1000)
        return 0
