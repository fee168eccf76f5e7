"""Fields that tasks wait for: those that their frame did not carry."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from penstock._core import WorkerCodec
from penstock.errors import Invalid
from penstock.flow import Flow
from penstock.workers.failure import cancelled


class Fetches:
    """Asks the engine for fields. `_lock` guards `_waiting` and `_is_closed`."""

    def __init__(
        self, flows: Mapping[int, Flow], send: Callable[[bytes], None], pump: Callable[[], None]
    ) -> None:
        """Make it on the thread that brings the answers.

        Args:
            flows: The attempts that have not ended, by dispatch; looked at only.
            send: Sends to the engine, from any thread.
            pump: Waits for something from the engine and takes it, on that thread.
        """
        self._flows = flows
        self._send = send
        self._pump = pump
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        # By dispatch, with what was asked, in the order of the questions, which is that of the answers: threads that a
        # task has started may look at its carrier at the same time.
        self._waiting: dict[int, deque[tuple[str, Future[str]]]] = {}
        self._is_closed = False

    def fetch(self, dispatch: int, names: str) -> str:
        """Give fields of an attempt's state, a JSON object; waits for the engine.

        An async task that looks at a field which it was not sent keeps its loop waiting, for as long as the engine takes to
        send it.

        Args:
            dispatch: The attempt.
            names: A JSON list, or empty for all fields.

        Raises:
            Invalid: The attempt has ended.
            Permanent: The attempt is no longer wanted, or the engine is gone.
        """
        flow = self._flows.get(dispatch)
        if flow is None or flow._ended:
            raise Invalid("the attempt has ended: of its state only what the task has read is left")
        state = "" if flow._cancelled else self._answer(dispatch, names)
        if not state:
            flow._cancelled = True
            raise cancelled()
        return state

    def arrived(self, dispatch: int, state: str) -> None:
        """Hand over fields; empty when the attempt is not current. What nobody waits for is dropped."""
        with self._lock:
            waiting = self._waiting.get(dispatch)
            first = waiting.popleft()[1] if waiting else None
            if not waiting:
                self._waiting.pop(dispatch, None)
        if first is not None:
            first.set_result(state)

    def cancel(self, dispatch: int) -> None:
        """The attempt is no longer wanted: who waits for it is cancelled."""
        with self._lock:
            waiting = self._waiting.pop(dispatch, ())
        for _, future in waiting:
            future.set_result("")

    def close(self) -> None:
        """No more answers come: who waits, and who comes later, is cancelled."""
        with self._lock:
            self._is_closed = True
            waiting = list(self._waiting)
        for dispatch in waiting:
            self.cancel(dispatch)

    def _answer(self, dispatch: int, names: str) -> str:
        with self._lock:
            if self._is_closed:
                return ""
            waiting = self._waiting.setdefault(dispatch, deque())
            answer = next((future for asked, future in waiting if asked == names), None)
            if answer is None:
                answer = Future()
                waiting.append((names, answer))
                self._send(WorkerCodec.fetch(dispatch, names))
        if threading.get_ident() == self._loop_thread:
            while not answer.done():
                self._pump()
        return answer.result()
