"""Who waits for what: flows that shall stop, creations that shall be safe, messages that shall be answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from penstock._core import Report
    from penstock.store import Store

K = TypeVar("K")


class Waiter:
    """One caller's wait. Set once; what it was set to stays."""

    __slots__ = ("_done", "value")

    def __init__(self) -> None:
        self._done = threading.Lock()
        self._done.acquire()
        self.value: Any = None

    def set(self, value: Any) -> None:
        """Wake the caller. More calls change nothing."""
        if self._done.locked():
            self.value = value
            self._done.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait up to *timeout* seconds; False when nothing came."""
        return self._done.acquire(timeout=-1 if timeout is None else max(timeout, 0))


class Board(Generic[K]):
    """Waiters by what they wait for. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._waiters: dict[K, list[Waiter]] = {}

    def add(self, key: K) -> Waiter:
        """Wait for *key* from now on."""
        waiter = Waiter()
        with self._lock:
            self._waiters.setdefault(key, []).append(waiter)
        return waiter

    def remove(self, key: K, waiter: Waiter) -> bool:
        """End one wait; True when nobody waits for *key* any more."""
        with self._lock:
            waiters = self._waiters.get(key, [])
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters:
                self._waiters.pop(key, None)
            return not waiters

    def announce(self, key: K, value: Any) -> None:
        """Wake everybody who waits for *key*."""
        with self._lock:
            waiters = self._waiters.pop(key, ())
        for waiter in waiters:
            waiter.set(value)

    def keys(self) -> list[K]:
        """What is waited for."""
        with self._lock:
            return list(self._waiters)

    def close(self, value: Any) -> None:
        """Wake everybody with the same word."""
        for key in self.keys():
            self.announce(key, value)


class Waiters:
    """All waits of one engine or client on one shard.

    A flow that this process owns is announced from memory, by `on_report`; everything else by `tick`, one query
    for all.
    """

    def __init__(self, store: Store, owned: Callable[[Sequence[bytes]], Sequence[bytes]]) -> None:
        """Make empty boards.

        Args:
            store: Asked about what nobody here owns.
            owned: Which of these flows this process owns.
        """
        self._store = store
        self._owned = owned
        self.created: Board[bytes] = Board()
        self.stopped: Board[bytes] = Board()
        self.verdicts: Board[tuple[bytes, int]] = Board()

    def on_report(self, report: Report) -> None:
        """Announce what a commit brought. The writer's thread."""
        for flow_id in report.created:
            self.created.announce(flow_id, None)
        for flow_id, message in report.refused:
            self.created.announce(flow_id, message)
        for row in report.stopped:
            self.stopped.announce(row[0], row)
        for flow_id in report.rests:
            self.stopped.announce(flow_id, None)

    @property
    def wants_verdicts(self) -> bool:
        """Whether somebody waits for an answer to a message."""
        return bool(self.verdicts.keys())

    def tick(self) -> None:
        """Look into the database for what memory does not tell. The poller's thread."""
        self._look_for_verdicts(self.verdicts.keys())
        waited = self.stopped.keys()
        if waited:
            owned = set(self._owned(waited))
            self._look_for_stops([key for key in waited if key not in owned])

    def _look_for_verdicts(self, messages: Sequence[tuple[bytes, int]]) -> None:
        if not messages:
            return
        found = self._store.verdicts(messages)
        for message in messages:
            verdict = found.get(message)
            if verdict is not None and verdict.answered_at is not None:
                self.verdicts.announce(message, verdict.verdict)

    def _look_for_stops(self, flow_ids: Sequence[bytes]) -> None:
        if not flow_ids:
            return
        for flow_id, row in self._store.outcomes(flow_ids).items():
            if row.status not in ("running", "paused"):
                self.stopped.announce(flow_id, None)
