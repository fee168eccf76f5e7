"""Who waits for what: flows that shall stop, creations that shall be safe, messages that shall be answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from penstock._core import Report
    from penstock.store import Store
    from penstock.store.rows import OutcomeRow

K = TypeVar("K")


#: What a creation is told that the engine could not write before it was declared dead.
LOST_CREATION: Final = "the engine was declared dead before the flow was stored; create it again"


class _Word(Enum):
    SHUT = "shut"


#: What a wait is given when the engine or client that it belongs to goes.
SHUT: Final = _Word.SHUT


@dataclass(frozen=True, slots=True)
class Refused:
    """What a wait for a flow is given that the database did not take."""

    message: str


class Waiter:
    """One caller's wait. Set once; what it was set to stays."""

    __slots__ = ("_callback", "_done", "value")

    def __init__(self) -> None:
        self._done = threading.Lock()
        self._done.acquire()
        self._callback: Callable[[], None] | None = None
        self.value: Any = None

    def set(self, value: Any) -> None:
        """Wake the caller. More calls change nothing."""
        if self._done.locked():
            self.value = value
            self._done.release()
            if self._callback is not None:
                self._callback()

    def on_set(self, callback: Callable[[], None]) -> None:
        """Have *callback* called once it is set, at once when it is: by the thread that sets it, perhaps twice.

        In place of `wait`, for a caller that has no thread to spend.
        """
        # Stored before the look, as `set` releases before it reads: one of the two sees the other.
        self._callback = callback
        if not self._done.locked():
            callback()

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
        """Wake everybody with the same value."""
        for key in self.keys():
            self.announce(key, value)


class Waiters:
    """All waits of one engine or client on one shard.

    A flow that this process owns is announced from memory, by `on_report`; everything else by `tick`, one query
    for all.
    """

    def __init__(self, store: Store, owned: Callable[[Sequence[bytes]], Collection[bytes]]) -> None:
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
            self.stopped.announce(flow_id, Refused(message))
        for row in report.stopped:
            self.stopped.announce(row[0], row)
        for flow_id in report.rests:
            self.stopped.announce(flow_id, None)

    def on_lost_creation(self, flow_id: bytes, *, is_stored: bool) -> None:
        """Announce what became of a flow that was being created when the engine lost its registration."""
        message = None if is_stored else LOST_CREATION
        self.created.announce(flow_id, message)
        if message is not None:
            self.stopped.announce(flow_id, Refused(message))

    @property
    def wants_verdicts(self) -> bool:
        """Whether somebody waits for an answer to a message."""
        return bool(self.verdicts.keys())

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for anything that a look into the database could find."""
        return not self.verdicts.keys() and not self.stopped.keys()

    def tick(self) -> int:
        """Look into the database for what memory does not tell; how much was found. The poller's thread."""
        found = self._look_for_verdicts(self.verdicts.keys())
        waited = self.stopped.keys()
        if waited:
            owned = set(self._owned(waited))
            found += self._look_for_stops([key for key in waited if key not in owned])
        return found

    def close(self) -> None:
        """Tell everybody that nothing will be found any more."""
        self.created.close("the engine was shut down before the flow was stored")
        self.stopped.close(SHUT)
        self.verdicts.close(None)

    def _look_for_verdicts(self, messages: Sequence[tuple[bytes, int]]) -> int:
        if not messages:
            return 0
        answered = {
            message: verdict.verdict
            for message, verdict in self._store.verdicts(messages).items()
            if verdict.answered_at is not None
        }
        for message, verdict in answered.items():
            self.verdicts.announce(message, verdict)
        return len(answered)

    def _look_for_stops(self, flow_ids: Sequence[bytes]) -> int:
        if not flow_ids:
            return 0
        rows = self._store.outcomes(flow_ids).items()
        stopped = [(flow_id, row) for flow_id, row in rows if row.status not in ("running", "paused")]
        for flow_id, row in stopped:
            self.stopped.announce(flow_id, _what_stopped(row))
        return len(stopped)


def _what_stopped(row: OutcomeRow) -> tuple[Any, ...] | None:
    """The same values as in `Report.stopped`; None for a flow whose state has to be read from its journal."""
    if row.status == "interrupted":
        return None
    thread = row.thread_id or row.flow_id
    return (row.flow_id, row.workflow, thread, row.status, row.output, row.error, row.cancel_reason)
