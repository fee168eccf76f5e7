"""The engine's own event loop, on a thread of its own: worker sockets, timers, dispatch.

The host's loop, signals and threads are never touched. The zygote is started from here, because the kernel ends it
with the thread that started it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from penstock.errors import EngineUnavailable, PenstockError

if TYPE_CHECKING:
    from penstock._core import Core
    from penstock.workers.channel import Channel
    from penstock.workers.exit_codes import WorkerExit
    from penstock.workers.tasks import TaskTable

_log = logging.getLogger(__name__)
LONGEST_SLEEP_S = 3_600.0


class AnyPool(Protocol):
    """What the loop asks of `Pool` and `InlinePool`."""

    async def start(self) -> TaskTable:
        """Bring the workers up and give the tasks."""
        ...

    def send(self, worker: int, data: bytes) -> None:
        """Send frames to a worker."""
        ...

    def kill(self, worker: int, why: str) -> None:
        """End a worker."""
        ...

    def give_up(self, worker: int, dispatch: int, why: str) -> bool:
        """Free the place of an attempt that does not end; whether it is free at once."""
        ...

    async def stop(self, timeout: float) -> None:
        """End all workers."""
        ...

    @property
    def zygote_pid(self) -> int | None:
        """The process that forks the workers."""
        ...

    @property
    def pids(self) -> dict[int, int]:
        """The workers' processes."""
        ...


class PoolMaker(Protocol):
    """Makes the pool on the loop's thread, with the loop's three callbacks."""

    def __call__(
        self,
        *,
        on_worker: Callable[[int, Channel], None],
        on_data: Callable[[int, bytes], None],
        on_gone: Callable[[int, WorkerExit], None],
    ) -> AnyPool:
        """Make it."""
        ...


class Loop:
    """Runs the pool and moves buffers between it and the core.

    Args:
        core: Gives frames, takes results.
        now: The shard's clock in milliseconds.
        make_pool: Makes the pool.
        wake_writer: Called when there is something to commit.
    """

    def __init__(
        self, core: Core, now: Callable[[], int], make_pool: PoolMaker, wake_writer: Callable[[], None]
    ) -> None:
        self._core = core
        self._now = now
        self._make_pool = make_pool
        self._wake_writer = wake_writer
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: AnyPool | None = None
        self._table: TaskTable | None = None
        # The workers that are up; the loop's thread alone.
        self._workers: set[int] = set()
        # Set by `stop` on the loop's thread: from then on nothing new is dispatched.
        self._is_draining = False
        # Written by any thread that kicks, cleared by the loop's: several kicks are one turn.
        self._is_kicked = False
        self._timer: asyncio.TimerHandle | None = None
        # The instant of the next timer; the loop's thread alone.
        self._due: int | None = None

    def start(self) -> TaskTable:
        """Start the thread and the workers; the tasks that they have.

        Raises:
            EngineUnavailable: The workers do not come up.
        """
        ready = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(ready, failure), name="penstock-loop", daemon=True
        )
        self._thread.start()
        ready.wait()
        if failure:
            self._thread.join()
            self._thread = None
            raise failure[0]
        assert self._table is not None
        return self._table

    def kick(self) -> None:
        """Dispatch what is ready, and look at the timers. Any thread."""
        loop = self._loop
        if loop is None or self._is_kicked:
            return
        self._is_kicked = True
        try:
            loop.call_soon_threadsafe(self._turn)
        except RuntimeError:  # the loop has closed: there is nothing to dispatch to
            return

    def stop(self, timeout: float) -> None:
        """Let the workers finish for up to *timeout* seconds, then end them and the thread. Idempotent."""
        if self._thread is None or self._loop is None:
            return
        self.call(self._drain(timeout))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None

    def turn(self) -> int | None:
        """Look at the timers and dispatch what is ready, and give the instant of the next timer. Never from the loop."""
        due: int | None = self.call(self._turn_now())
        return due

    def replace_workers(self, why: str) -> None:
        """Kill all workers with what they run; new ones come up. Any thread but the loop's."""
        if self._loop is not None:
            self.call(self._kill_workers(why))

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and wait for it. Never from the loop's own thread."""
        if self._loop is None:
            work.close()
            raise EngineUnavailable("The engine does not run.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def pool(self) -> AnyPool | None:
        """The workers, while they are up."""
        return self._pool

    def _run(self, ready: threading.Event, failure: list[BaseException]) -> None:
        loop = _new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            try:
                self._loop = loop
                loop.run_until_complete(self._begin())
            except BaseException as error:  # noqa: BLE001  # raised again by `start` in its caller's thread
                self._loop = None
                failure.append(error)
                return
            finally:
                ready.set()
            loop.run_forever()
        finally:
            self._loop = None
            _end(loop)

    async def _begin(self) -> None:
        self._pool = self._make_pool(on_worker=self._on_worker, on_data=self._on_data, on_gone=self._on_gone)
        self._table = await self._pool.start()

    async def _turn_now(self) -> int | None:
        self._turn()
        return self._due

    async def _kill_workers(self, why: str) -> None:
        for worker in list(self._workers):
            if self._pool is not None:
                self._pool.kill(worker, why)

    async def _drain(self, timeout: float) -> None:
        self._is_draining = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pool is not None:
            await self._pool.stop(timeout)

    def _turn(self) -> None:
        """Fire timers, hand out what is ready, and sleep until the next timer."""
        self._is_kicked = False
        if self._is_draining or self._pool is None:
            return
        now = self._now()
        for worker, dispatch, why in self._core.tick(now):
            self._give_up(worker, dispatch, why, now)
        for worker, data in self._core.frames(now):
            self._pool.send(worker, data)
        if self._core.has_batch():
            self._wake_writer()
        self._due, budget_ms = self._core.next_due()
        waits = [] if self._due is None else [max(self._due - now, 0)]
        self._arm(min(waits if budget_ms is None else [*waits, budget_ms], default=None))

    def _give_up(self, worker: int, dispatch: int, why: str, now: int) -> None:
        assert self._pool is not None
        if self._pool.give_up(worker, dispatch, why):
            self._core.give_up(worker, dispatch, now)
        else:
            self._core.drain_worker(worker)

    def _arm(self, wait_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_ms is not None and self._loop is not None:
            self._timer = self._loop.call_later(min(wait_ms / 1000, LONGEST_SLEEP_S), self._turn)

    def _on_worker(self, worker: int, _channel: Channel) -> None:
        self._workers.add(worker)
        self._core.worker_ready(worker)
        self.kick()

    def _on_data(self, worker: int, data: bytes) -> None:
        try:
            has_batch = self._core.receive(worker, data, self._now())
        except PenstockError:
            _log.exception("Worker %d sent what cannot be read and is replaced.", worker)
            if self._pool is not None:
                self._pool.kill(worker, "it sent bytes that are no frames")
            return
        if has_batch:
            self._wake_writer()
        if self._is_draining:
            self._answer()
        self.kick()

    def _answer(self) -> None:
        """Send what was asked for: a task that waits for its state must be able to finish."""
        for worker, data in self._core.outgoing():
            if self._pool is not None:
                self._pool.send(worker, data)

    def _on_gone(self, worker: int, end: WorkerExit) -> None:
        self._workers.discard(worker)
        if self._is_draining:
            return  # its steps are not lost: whoever owns the flows next runs them again, uncharged
        _log.warning("Worker %d is gone: %s. Its steps run again.", worker, end.reason)
        self._core.worker_gone(worker, end.reason, self._now())
        self._wake_writer()
        self.kick()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    try:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
