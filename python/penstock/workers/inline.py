"""The pool of `workers=0` and of a host's executor: threads of the engine's own process, the same frames.

It never touches the signals, the event loop or the limits of the host's interpreter.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable

from penstock._core import WorkerCodec
from penstock.app import App
from penstock.clock import wall_clock_ms
from penstock.errors import Invalid
from penstock.host import TaskExecutor
from penstock.workers.channel import Channel
from penstock.workers.exit_codes import WorkerExit
from penstock.workers.numbers import next_worker
from penstock.workers.runner import Runner
from penstock.workers.tasks import AppTasks, ExecutorTasks, Tasks, TaskTable

log = logging.getLogger("penstock.workers")

# An event loop that an async task holds up for longer is replaced, with everything on it.
_HELD_UP_SECONDS = 1.0


class InlinePool:
    """One worker made of threads. Same interface as `Pool`, same thread: that of one asyncio loop."""

    def __init__(
        self,
        app: App | TaskExecutor,
        *,
        threads: int = 1,
        on_worker: Callable[[int, Channel], None],
        on_data: Callable[[int, bytes], None],
        on_gone: Callable[[int, WorkerExit], None],
        now: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Make a pool that `start` brings up.

        Args:
            app: Where the tasks are.
            threads: How many sync tasks run at a time.
            on_worker: Called when the worker is ready, before its first data.
            on_data: Called with each piece of its stream.
            on_gone: Called once when it is gone, after its last data.
            now: What tasks take for the time, in milliseconds.
        """
        if threads < 1:
            raise Invalid(f"a pool has at least one thread, not {threads}")
        self._tasks: Tasks = AppTasks(app) if isinstance(app, App) else ExecutorTasks(app)
        self._threads = threads
        self._now = now
        self._on_worker = on_worker
        self._on_data = on_data
        self._on_gone = on_gone
        self._is_stopping = False
        self._is_up = False
        self._number = 0
        self._channel: Channel | None = None
        self._gone = asyncio.Event()
        self.trouble: str | None = None

    async def start(self) -> TaskTable:
        """Start the threads and give the tasks."""
        self._loop = asyncio.get_running_loop()
        table = self._tasks.table()
        self._launch()
        return table

    def send(self, worker: int, data: bytes) -> None:
        """Send frames to the worker; one that is gone takes none."""
        if worker == self._number and self._channel is not None:
            self._channel.send(data)

    def kill(self, worker: int, why: str) -> None:
        """Give the worker up: a thread cannot be killed, so it is left to end by itself, and replaced."""
        if worker != self._number or self._channel is None:
            return
        log.warning("a task in the engine's process does not end and keeps its thread: %s", why)
        self._channel.close()
        self._bury(worker, WorkerExit(None, None, f"its threads were given up: {why}"))

    def give_up(self, worker: int, dispatch: int, why: str) -> bool:
        """Free the place of an attempt that does not end: a thread of its own goes with it, and a new one comes.

        Returns:
            True: the place is free.
        """
        if worker != self._number or self._channel is None:
            return True
        log.warning("a task in the engine's process does not end and keeps its thread: %s", why)
        runner, is_done = self._runner, threading.Event()

        def given_up(is_thread_lost: bool) -> None:
            is_done.set()
            if is_thread_lost:
                _start_thread(runner.run_sync, f"penstock-inline-{worker}-for-{dispatch}")

        runner.give_up(dispatch, given_up)
        self._loop.call_later(_HELD_UP_SECONDS, self._check_given_up, worker, is_done, why)
        return True

    def _check_given_up(self, worker: int, is_done: threading.Event, why: str) -> None:
        if not is_done.is_set():
            self.kill(worker, why)

    async def stop(self, timeout: float) -> None:
        """Let the threads finish what they have; after `timeout` seconds they are left alone."""
        self._is_stopping = True
        if self._channel is None:
            return
        self._channel.send(WorkerCodec.stop())
        try:
            async with asyncio.timeout(timeout):
                await self._gone.wait()
        except TimeoutError:
            self.kill(self._number, "it did not finish in time")

    @property
    def zygote_pid(self) -> None:
        """None: nothing is forked."""

    @property
    def pids(self) -> dict[int, int]:
        """Empty: the worker has no process of its own."""
        return {}

    def _launch(self) -> None:
        self._number = number = next_worker()
        self._is_up = False
        mine, theirs = socket.socketpair()
        self._runner = runner = Runner(theirs, self._tasks, self._threads, self._now)
        self._channel = Channel(
            self._loop, mine, lambda data: self._on_piece(number, data), lambda: self._on_close(number)
        )
        self._channel.open()
        _start_thread(runner.serve, f"penstock-inline-{number}-loop")
        for place in range(self._threads):
            _start_thread(runner.run_sync, f"penstock-inline-{number}-{place}")

    def _on_piece(self, number: int, data: bytes) -> None:
        if number != self._number or self._channel is None:
            return
        if not self._is_up:
            self._is_up = True
            self._on_worker(number, self._channel)
        self._on_data(number, data)

    def _on_close(self, number: int) -> None:
        if number == self._number and self._channel is not None:
            self._bury(number, WorkerExit(0, None, "its threads have finished"))

    def _bury(self, number: int, end: WorkerExit) -> None:
        self._channel = None
        if self._is_stopping:
            self._gone.set()
        else:
            self._launch()
        self._on_gone(number, end)


def _start_thread(target: Callable[[], None], name: str) -> None:
    # Daemons: a task that never ends must not keep the host's process from ending.
    threading.Thread(target=target, name=name, daemon=True).start()
