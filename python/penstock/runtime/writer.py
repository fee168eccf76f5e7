"""The one thread that writes to a shard.

Whatever piled up in the core during a commit is the next batch: there is no delay to tune. Every other write of the
process goes between two batches, as a transaction of its own.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from penstock.errors import EngineUnavailable
from penstock.runtime.correlation import without_keys
from penstock.runtime.service import Service
from penstock.store import LostCommits, Outage, RefusedRow, Store
from penstock.store.batch import Batch, Fenced

T = TypeVar("T")
_log = logging.getLogger(__name__)

PUT_OFF_S = 0.002
"""How long a unit that was left out waits when nothing else comes: its owner has to read mail first."""


class BatchSource(Protocol):
    """What the writer asks of the core."""

    def take_batch(self) -> Any | None:
        """Give what is ready to be written; None when nothing is."""

    def committed(self, batch: Any, refused_units: list[int], now_ms: int) -> Any:
        """Take note that a batch stands but for some units; the report says what became of it."""

    def refuse(self, batch: Any, message: str) -> Any:
        """Take back a batch of one unit that the database refuses for what it holds."""


class Writer(Service):
    """Commits batches, and runs other writes between them.

    A batch that met an outage is kept and tried again unchanged; one with a row that the database refuses is
    committed in halves until the offender stands alone.

    Args:
        store: Written to by this thread only.
        core: Where batches come from.
        on_committed: Told each report of the core, on this thread.
        on_fenced: Told, on this thread, that this replica was declared dead, or that the database lost what it had
            acknowledged; the batches are dropped.
        on_foreign: Told, on this thread, of flows that this replica does not own any more.
    """

    def __init__(
        self,
        store: Store,
        core: BatchSource,
        on_committed: Callable[[Any], None],
        on_fenced: Callable[[Fenced], None],
        on_foreign: Callable[[Sequence[bytes]], None] = lambda flow_ids: None,
    ) -> None:
        super().__init__("penstock-writer")
        self._store = store
        self._core = core
        self._on_committed = on_committed
        self._on_fenced = on_fenced
        self._on_foreign = on_foreign
        # Taken from the core and not committed yet; only the writer's thread looks at it.
        self._batches: deque[Batch] = deque()
        #: How many batches were taken from the core so far; only the writer's thread looks at it.
        self.taken = 0
        self._jobs_lock = threading.Lock()
        # Guarded by _jobs_lock:
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_open = False

    def prepare(self) -> None:
        """Take calls from here on."""
        with self._jobs_lock:
            self._is_open = True

    def run(self, fn: Callable[[], T]) -> "Future[T]":
        """Call *fn* on the writer's thread between two batches. Never wait for the future on that thread.

        What *fn* raises, `Outage` too, is the future's exception: a call is not repeated, its caller decides. When
        the writer does not run the exception is EngineUnavailable.
        """
        future: Future[T] = Future()
        with self._jobs_lock:
            if self._is_open:
                self._jobs.append(lambda: _call(fn, future))
            else:
                future.set_exception(EngineUnavailable("The engine does not run."))
        self.wake()
        return future

    def forget(self) -> None:
        """Drop the batches that wait: their flows are others' now. By a call on the writer's thread."""
        self._batches.clear()

    def run_once(self) -> float | None:
        """Run the calls that wait, then commit one batch.

        Raises:
            Outage: The batch could not be committed; it is kept.
        """
        self._run_jobs()
        return self._commit_next()

    def finish(self) -> None:
        """Commit what the core still has, as far as it can be written; the rest will run again."""
        with self._jobs_lock:
            self._is_open = False
        try:
            while self.run_once() == 0:
                pass
        except Outage as outage:
            _log.warning("The last batch is not written: %s", outage)
            self._run_jobs()

    def _run_jobs(self) -> None:
        with self._jobs_lock:
            jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            job()

    def _commit_next(self) -> float | None:
        if not self._batches:
            batch = self._core.take_batch()
            if batch is None:
                return None
            self._batches.append(batch)
            self.taken += 1
        batch = self._batches[0]
        try:
            answer = self._store.commit(batch)
        except RefusedRow as refusal:
            self._isolate(batch, refusal)
            return 0
        except LostCommits as loss:
            _log.critical("%s", loss)
            answer = Fenced(self._store.replica_id)
        if isinstance(answer, Fenced):
            self._batches.clear()
            self._on_fenced(answer)
            return None
        self._batches.popleft()
        if answer.foreign:
            self._on_foreign(answer.foreign)
        self._on_committed(self._core.committed(batch, list(answer.refused), self._store.now()))
        return PUT_OFF_S if answer.refused else 0

    def _isolate(self, batch: Batch, refusal: RefusedRow) -> None:
        """Put halves in the place of a refused batch; one that cannot be halved goes back to the core."""
        self._batches.popleft()
        halves = batch.split()
        if halves is not None:
            self._batches.extendleft(reversed(halves))
            return
        _log.error("A row is refused: %s", without_keys(refusal))
        report = self._core.refuse(batch, str(refusal))
        if report is not None:
            self._on_committed(report)


def _call(fn: Callable[[], T], future: "Future[T]") -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn())
    except BaseException as error:  # noqa: BLE001  # the caller gets whatever it is
        future.set_exception(error)
