"""Results on their way to the engine: many to a frame, none late."""

from __future__ import annotations

import threading
import time

from penstock._core import WorkerCodec
from penstock.errors import PenstockError, Permanent
from penstock.workers.attempts import Result
from penstock.workers.channel import Channel
from penstock.workers.failure import failure_json

_MAX_AGE_SECONDS = 0.001


class Outbox:
    """Collects results of all threads of a worker. `_lock` guards `_results` and `_oldest_at`."""

    def __init__(self, channel: Channel) -> None:
        """Make the outbox of a channel."""
        self._channel = channel
        self._lock = threading.Lock()
        self._results: list[Result] = []
        self._oldest_at = 0.0

    def add(self, result: Result) -> None:
        """Add a result; whoever adds sees to it that it is flushed."""
        with self._lock:
            if not self._results:
                self._oldest_at = time.monotonic()
            self._results.append(result)

    def flush_old(self) -> None:
        """Send everything when the oldest result has waited for a millisecond."""
        if self._results and time.monotonic() - self._oldest_at > _MAX_AGE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send everything."""
        with self._lock:
            results, self._results = self._results, []
        if results:
            self._channel.send(_frames(results))

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be flushed."""
        return not self._results


def _frames(results: list[Result]) -> bytes:
    try:
        return WorkerCodec.results(results)
    except PenstockError:
        return b"".join(_one(result) for result in results)


def _one(result: Result) -> bytes:
    """A result by itself, or, when no frame can hold it, the error that says so."""
    try:
        return WorkerCodec.results([result])
    except PenstockError as error:
        meta = failure_json(Permanent("payload_too_large", error.message))
        return WorkerCodec.results([(result[0], WorkerCodec.ERROR, result[2], "", meta)])
