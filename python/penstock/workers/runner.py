"""The inside of a worker: one thread with the socket and the async tasks, others with the sync tasks.

The same in a worker process, where the sync tasks have the main thread, and in the engine's own process,
where all are threads of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from penstock._core import WorkerCodec
from penstock.clock import wall_clock_ms
from penstock.encoding import decode
from penstock.errors import PenstockError
from penstock.flow import Attempt, Flow, _current
from penstock.workers.attempts import Result, run_async_attempt, run_attempt, settle
from penstock.workers.channel import Channel
from penstock.workers.fetches import Fetches
from penstock.workers.outbox import Outbox
from penstock.workers.tasks import Task, Tasks

# A long task must not hold back the results of the short ones that ran before it on the same thread.
_LATE_RESULT_SECONDS = 0.005
_LAST_SEND_SECONDS = 5.0


class Runner:
    """Runs what the engine sends over one socket.

    `serve` belongs to one thread and owns `_flows`, `_running` and `_reducers`; `run_sync` is called by
    `threads` others, which share only `_queue`, `_outbox` and `_fetches` with it.
    """

    def __init__(
        self, sock: socket.socket, tasks: Tasks, threads: int, now: Callable[[], int] = wall_clock_ms
    ) -> None:
        """Make the runner of a socket; its loop is made by the thread that serves."""
        self._sock = sock
        self._tasks = tasks
        self._threads = threads
        self._now = now
        self._queue: queue.SimpleQueue[tuple[Flow, Task] | None] = queue.SimpleQueue()
        self._codec = WorkerCodec()
        self._reducers: dict[int, dict[str, str]] = {}
        self._flows: dict[int, Flow] = {}
        self._running: dict[int, asyncio.Task[Result]] = {}
        self._busy_threads = threads
        self._is_stopping = False
        self._is_watching = False
        self._loop: asyncio.AbstractEventLoop
        self._outbox: Outbox
        self._fetches: Fetches
        self._is_up = threading.Event()
        self.is_engine_gone = False
        self.broken: PenstockError | None = None

    def serve(self, on_engine_gone: Callable[[], None] | None = None) -> None:
        """Serve the socket until the engine has it stopped, or is gone.

        Args:
            on_engine_gone: Called when the engine closed the socket or sent no frames; a worker process
                ends itself there. Without it the rest is cancelled.
        """
        self._loop = loop = _new_loop()
        loop.set_task_factory(task_factory)
        self._channel = Channel(loop, self._sock, self._on_data, lambda: self._on_close(on_engine_gone))
        self._outbox = Outbox(self._channel)
        self._fetches = Fetches(self._flows, self._channel.send, self._channel.pump)
        self._is_up.set()
        try:
            self._channel.send(WorkerCodec.hello(json.dumps({"pid": os.getpid(), "threads": self._threads})))
            loop.call_soon(self._channel.open)
            _run_until_stopped(loop, self)
            self._outbox.flush()
            self._channel.flush(_LAST_SEND_SECONDS)
        finally:
            self._channel.close()
            loop.close()

    def run_sync(self) -> None:
        """Run sync tasks on the calling thread until the runner stops."""
        self._is_up.wait()
        outbox, waiting = self._outbox, self._queue
        while (item := waiting.get()) is not None:
            flow, task = item
            outbox.flush_old()
            result = run_attempt(flow, task)
            if self._flows.pop(flow._attempt.dispatch, None) is None:
                return  # it was given up, and another thread has this one's place
            outbox.add(result)
            if waiting.empty():
                outbox.flush()
        outbox.flush()
        self._tell_loop(self._on_thread_done)

    def give_up(self, dispatch: int, on_given_up: Callable[[bool], None]) -> None:
        """Let go of an attempt that does not end; from any thread.

        Args:
            dispatch: The attempt. What it comes to is dropped.
            on_given_up: Called when that is done, on whatever thread, with whether it holds one of the threads that run
                sync tasks, which ends with it. Never called while the loop is held up.
        """
        if dispatch in self._running:
            self._tell_loop(lambda: on_given_up(self._drop(dispatch)))
        elif self._flows.pop(dispatch, None) is not None:
            on_given_up(True)
        else:
            on_given_up(False)

    def _drop(self, dispatch: int) -> bool:
        self._flows.pop(dispatch, None)
        self._running.pop(dispatch, None)
        self._check_finished()
        return False

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do for a runner that was asked to stop."""
        return self._is_stopping and not self._running and self._busy_threads <= 0

    def _on_data(self, data: bytes) -> None:
        try:
            messages = self._codec.feed(data)
        except PenstockError as error:
            self.broken = error
            self._channel.close()
            self._channel._on_close()
            return
        for message in messages:
            self._on_message(message)
        self._watch_results()

    def _on_message(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == WorkerCodec.STEP:
            self._start(Attempt._make(message))
        elif kind == WorkerCodec.GRAPH:
            self._reducers[message[1]] = decode(message[2])
        elif kind == WorkerCodec.CANCEL:
            self._cancel(message[1])
        elif kind == WorkerCodec.STATE:
            self._fetches.arrived(message[1], message[2])
        elif kind == WorkerCodec.STOP:
            self._stop()

    def _start(self, attempt: Attempt) -> None:
        flow = Flow(attempt, self._reducers.get(attempt.graph_no, {}), self._fetches.fetch, self._now)
        try:
            task = self._tasks.find(attempt.task)
        except Exception as error:  # noqa: BLE001 - a host's executor may raise what it likes
            self._report(settle(flow, error, time.perf_counter_ns()))
            return
        self._flows[attempt.dispatch] = flow
        if task.is_async:
            context = contextvars.Context()
            running = asyncio.Task(run_async_attempt(flow, task), loop=self._loop, context=context)
            self._running[attempt.dispatch] = running
            running.add_done_callback(lambda ended: self._on_ended(flow, ended))
        else:
            self._queue.put((flow, task))

    def _on_ended(self, flow: Flow, ended: asyncio.Task[Result]) -> None:
        """Report an async attempt; one cancelled before its first line has no result of its own."""
        dispatch = flow._attempt.dispatch
        error = asyncio.CancelledError() if ended.cancelled() else ended.exception()
        result = ended.result() if error is None else settle(flow, error, time.perf_counter_ns())
        if self._flows.pop(dispatch, None) is not None:
            self._report(result)
        self._running.pop(dispatch, None)
        self._check_finished()

    def _report(self, result: Result) -> None:
        if self._outbox.is_empty:
            self._loop.call_soon(self._outbox.flush)
        self._outbox.add(result)

    def _cancel(self, dispatch: int) -> None:
        flow = self._flows.get(dispatch)
        if flow is not None:
            flow._cancelled = True
            self._fetches.cancel(dispatch)
        running = self._running.get(dispatch)
        if running is not None:
            running.cancel()

    def _watch_results(self) -> None:
        """Look in a moment whether a task holds back the results of those before it."""
        if not self._is_watching and not self._queue.empty():
            self._is_watching = True
            self._loop.call_later(_LATE_RESULT_SECONDS, self._send_late)

    def _send_late(self) -> None:
        self._is_watching = False
        if not self._outbox.is_empty:
            self._outbox.flush()
        self._watch_results()

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            for _ in range(self._threads):
                self._queue.put(None)
            self._check_finished()

    def _on_thread_done(self) -> None:
        self._busy_threads -= 1
        self._check_finished()

    def _on_close(self, on_engine_gone: Callable[[], None] | None) -> None:
        self.is_engine_gone = True
        if on_engine_gone is not None:
            on_engine_gone()
        for flow in list(self._flows.values()):
            flow._cancelled = True
        self._fetches.close()
        for running in list(self._running.values()):
            running.cancel()
        self._stop()
        self._busy_threads = 0  # a sync task cannot be ended from outside; its result has nowhere to go
        self._check_finished()

    def _check_finished(self) -> None:
        if self.is_finished:
            self._loop.stop()

    def _tell_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return  # the loop is closed already, since the engine is gone


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run_until_stopped(loop: asyncio.AbstractEventLoop, runner: Runner) -> None:
    """Run the loop to its end, whatever comes out of it: SystemExit of a task's child task does."""
    while not runner.is_finished:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,
) -> asyncio.Task[Any]:
    """Make an asyncio task and tell the flow in whose context it is made."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    context = options.get("context")
    flow = _current.get(None) if context is None else context.get(_current)
    if flow is not None:
        flow._open_calls().adopt(task, asyncio.current_task(loop))
    return task
