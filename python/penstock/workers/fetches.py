"""Whole states that tasks wait for: those whose frame carried a part of theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from penstock._core import WorkerCodec
from penstock.errors import Invalid
from penstock.flow import Flow
from penstock.workers.failure import cancelled


class Fetches:
    """Asks the engine for states. `_lock` guards `_waiting` and `_is_closed`."""

    def __init__(self, flows: Mapping[int, Flow], send: Callable[[bytes], None]) -> None:
        """Make it on the thread that brings the answers, which must never wait for one.

        Args:
            flows: The attempts that have not ended, by dispatch; looked at only.
            send: Sends to the engine, from any thread.
        """
        self._flows = flows
        self._send = send
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        # By dispatch: threads that a task has started may look at its carrier at the same time.
        self._waiting: dict[int, Future[str]] = {}
        self._is_closed = False

    def fetch(self, dispatch: int) -> str:
        """Give the whole state of an attempt, a JSON object; waits for the engine.

        Raises:
            Invalid: The attempt has ended, or the caller is the thread that would bring the answer.
            Permanent: The attempt is no longer wanted, or the engine is gone.
        """
        flow = self._flows.get(dispatch)
        if flow is None or flow._ended:
            raise Invalid("the attempt has ended: of its state only what the task has read is left")
        if threading.get_ident() == self._loop_thread:
            raise Invalid("a sync task's flow was read on the worker's event loop; read it in the task")
        state = self._ask(dispatch).result() if not flow._cancelled else ""
        if not state:
            flow._cancelled = True
            raise cancelled()
        return state

    def arrived(self, dispatch: int, state: str) -> None:
        """Hand over a state; empty when the attempt is no longer wanted. One that nobody waits for is dropped."""
        with self._lock:
            waiting = self._waiting.pop(dispatch, None)
        if waiting is not None:
            waiting.set_result(state)

    def close(self) -> None:
        """No more answers come: who waits, and who comes later, is cancelled."""
        with self._lock:
            self._is_closed = True
            waiting = list(self._waiting)
        for dispatch in waiting:
            self.arrived(dispatch, "")

    def _ask(self, dispatch: int) -> Future[str]:
        with self._lock:
            waiting = self._waiting.get(dispatch)
            is_first = waiting is None
            if waiting is None:
                waiting = self._waiting[dispatch] = Future()
        if self._is_closed:
            self.arrived(dispatch, "")
        elif is_first:
            self._send(WorkerCodec.fetch(dispatch))
        return waiting
