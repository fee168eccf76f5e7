"""The pool: keeps a zygote and its workers up, and says which worker is there, speaks, and is gone."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from penstock._core import WorkerCodec
from penstock.clock import SharedClock
from penstock.errors import EngineUnavailable, Invalid
from penstock.workers.boot import Boot
from penstock.workers.channel import Channel
from penstock.workers.control import Message
from penstock.workers.exit_codes import WorkerExit
from penstock.workers.launcher import ZygoteProcess
from penstock.workers.numbers import next_worker
from penstock.workers.spec import AppSpec
from penstock.workers.tasks import TaskTable

log = logging.getLogger("penstock.workers")

# A socket that closed is followed by the zygote's report of the exit; past this the reason stays unknown.
_REPORT_SECONDS = 1.0
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 10.0
_KILL_SECONDS = 2.0


@dataclass(slots=True)
class _Worker:
    """A worker from its fork to its last word. Written and read by the loop's thread alone."""

    channel: Channel
    is_up: bool = False
    """It has said hello, so the engine knows it."""
    status: int | None = None
    """Its wait status, once the zygote has reported it."""
    why: str = ""
    """What the pool knows about its end."""


class Pool:
    """A zygote and its workers. Belongs to the thread of one asyncio loop, which calls and is called."""

    def __init__(
        self,
        spec: AppSpec,
        *,
        workers: int,
        threads: int = 1,
        on_worker: Callable[[int, Channel], None],
        on_data: Callable[[int, bytes], None],
        on_gone: Callable[[int, WorkerExit], None],
        clock: SharedClock | None = None,
    ) -> None:
        """Make a pool that `start` brings up.

        Args:
            spec: Where the app is.
            workers: How many processes are kept up.
            threads: How many sync tasks each runs at a time.
            on_worker: Called when a worker is ready, before its first data.
            on_data: Called with each piece of a worker's stream.
            on_gone: Called once for each worker that was ready, after its last data.
            clock: What tasks take for the time; None for the machine's.
        """
        if workers < 1 or threads < 1:
            raise Invalid(f"a pool has at least one worker and one thread, not {workers} and {threads}")
        self._boot = Boot.of_host(spec, threads, clock)
        self._target = workers
        self._on_worker = on_worker
        self._on_data = on_data
        self._on_gone = on_gone
        self._workers: dict[int, _Worker] = {}
        self._zygote: ZygoteProcess | None = None
        self._failures = 0
        self._is_stopping = False
        self._changed = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None
        self._restart: asyncio.Task[None] | None = None
        self._table = TaskTable()
        self.trouble: str | None = None

    async def start(self) -> TaskTable:
        """Bring the zygote up and order the workers; they report through `on_worker`.

        Call it on a thread that lives as long as the pool: the kernel ends the zygote with that thread.

        Returns:
            The tasks of the app.

        Raises:
            EngineUnavailable: The app cannot be imported, or the zygote does not come up.
        """
        self._loop = asyncio.get_running_loop()
        await self._start_zygote()
        self._fill()
        return self._table

    def send(self, worker: int, data: bytes) -> None:
        """Send frames to a worker; what it does not take at once is kept. A worker that is gone takes none."""
        known = self._workers.get(worker)
        if known is not None:
            known.channel.send(data)

    def kill(self, worker: int, why: str) -> None:
        """Kill a worker, whose task overran or never ends; it is replaced like any that dies."""
        known = self._workers.get(worker)
        if known is not None and self._zygote is not None:
            known.why = why
            self._zygote.send({"kind": "kill", "worker": worker})

    def give_up(self, worker: int, dispatch: int, why: str) -> bool:
        """Free the place of an attempt that does not end: kill its worker.

        Returns:
            False: the place is free when the worker is gone.
        """
        log.warning("worker %d is killed: %s", worker, why)
        self.kill(worker, why)
        return False

    async def stop(self, timeout: float) -> None:
        """Let all workers finish what they have and end them; after `timeout` seconds they are killed."""
        self._is_stopping = True
        if self._retry is not None:
            self._retry.cancel()
        if self._restart is not None:
            self._restart.cancel()
        for worker in self._workers.values():
            worker.channel.send(WorkerCodec.stop())
        if not await self._wait_until_empty(timeout):
            for number in list(self._workers):
                self.kill(number, "it did not finish in time")
            await self._wait_until_empty(_KILL_SECONDS)
        if self._zygote is not None:
            await self._zygote.stop(_KILL_SECONDS)
            self._zygote = None
        for worker in list(self._workers.values()):
            worker.channel.close()

    @property
    def pids(self) -> dict[int, int]:
        """The processes of the workers, by number, as far as the zygote has reported them."""
        return dict(self._zygote.pids) if self._zygote is not None else {}

    @property
    def zygote_pid(self) -> int | None:
        """The process of the zygote, None while there is none."""
        return self._zygote.pid if self._zygote is not None else None

    async def _start_zygote(self) -> None:
        zygote = ZygoteProcess(self._loop, self._boot, self._on_report, self._on_zygote_gone)
        ready = await zygote.start()
        self._zygote = zygote
        self._table = TaskTable.of_report(ready["tasks"])
        if ready["threads"]:
            log.warning(
                "the import of %s left threads, so each worker imports it anew instead of being forked: %s",
                self._boot.spec.target,
                ", ".join(ready["threads"]),
            )

    def _fill(self) -> None:
        """Order as many workers as are missing."""
        while self._zygote is not None and not self._is_stopping and len(self._workers) < self._target:
            if not self._order():
                return

    def _order(self) -> bool:
        number = next_worker()
        mine, theirs = socket.socketpair()
        channel = Channel(
            self._loop, mine, lambda data: self._on_piece(number, data), lambda: self._on_close(number)
        )
        with theirs:
            assert self._zygote is not None
            if not self._zygote.send({"kind": "fork", "worker": number}, theirs.fileno()):
                channel.close()
                return False
        self._workers[number] = _Worker(channel)
        channel.open()
        return True

    def _on_piece(self, number: int, data: bytes) -> None:
        worker = self._workers[number]
        if not worker.is_up:
            worker.is_up = True
            self._failures = 0
            self.trouble = None
            self._on_worker(number, worker.channel)
        self._on_data(number, data)

    def _on_close(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is None:
            return
        if worker.status is not None or self._zygote is None:
            self._bury(number, worker)
            return
        self._loop.call_later(_REPORT_SECONDS, self._give_up_on, number)

    def _give_up_on(self, number: int) -> None:
        """End what has closed its socket and lives on: nobody would ever use it again."""
        worker = self._workers.get(number)
        if worker is not None and not self._is_stopping:
            self.kill(number, worker.why)
            self._bury(number, worker)

    def _on_report(self, message: Message) -> None:
        worker = self._workers.get(message["worker"])
        if worker is None:
            return
        if message["kind"] == "refused":
            worker.why = f"the zygote could not start it: {message['error']}"
            worker.channel.close()
            self._bury(message["worker"], worker)
        elif message["kind"] == "exited":
            worker.status = message["status"]
            # A process that the task left behind may hold the socket open, so the end is not waited for.
            worker.channel.read_rest()
            worker.channel.close()
            self._bury(message["worker"], worker)

    def _bury(self, number: int, worker: _Worker) -> None:
        if self._workers.pop(number, None) is None:
            return
        if worker.status is None:
            end = WorkerExit.unknown(worker.why or "nobody saw it end")
        else:
            end = WorkerExit.from_status(worker.status, worker.why)
        self._changed.set()
        if worker.is_up:
            self._fill()
            self._on_gone(number, end)
        elif not self._is_stopping:
            self._back_off(end.reason)

    def _back_off(self, reason: str) -> None:
        """Wait before the next attempt, longer each time: workers die before they are ready."""
        self.trouble = f"workers do not come up: {reason}"
        delay = min(_FIRST_BACKOFF_SECONDS * 2**self._failures, _LONGEST_BACKOFF_SECONDS)
        self._failures = min(self._failures + 1, 16)
        log.error("%s; next attempt in %.1f s", self.trouble, delay)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(delay, self._fill)

    def _on_zygote_gone(self) -> None:
        if self._is_stopping:
            return
        self._zygote = None
        for number, worker in list(self._workers.items()):
            worker.why = worker.why or "its zygote ended"
            if worker.channel.is_closed:
                self._bury(number, worker)
        self._restart = self._loop.create_task(self._restart_zygote())

    async def _restart_zygote(self) -> None:
        while not self._is_stopping:
            log.error("the zygote ended; it is started again")
            await asyncio.sleep(min(_FIRST_BACKOFF_SECONDS * 2**self._failures, _LONGEST_BACKOFF_SECONDS))
            self._failures = min(self._failures + 1, 16)
            try:
                await self._start_zygote()
            except EngineUnavailable as error:
                self.trouble = error.message
                log.error("%s", error.message)
            else:
                self._fill()
                return

    async def _wait_until_empty(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._workers:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
