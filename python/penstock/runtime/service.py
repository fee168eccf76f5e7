"""The one lifecycle of every background loop."""

import logging
import threading
from abc import ABC, abstractmethod

from penstock.errors import EngineUnavailable

_log = logging.getLogger(__name__)

FIRST_REST_S = 0.01
LONGEST_REST_S = 2.0


class Service(ABC):
    """A thread that calls `run_once`, waits as long as that says or until it is woken, and calls it again.

    A database that is away makes it rest, longer each time. `start` and `stop` may be called in any order, any
    number of times, from any thread but its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._wake = threading.Event()
        self._stop_asked = threading.Event()
        self._lifecycle = threading.Lock()
        # Guarded by _lifecycle:
        self._thread: threading.Thread | None = None

    @abstractmethod
    def run_once(self) -> float | None:
        """Do what there is to do; seconds until it is worth while again, None: not before a `wake`."""

    def prepare(self) -> None:  # noqa: B027  # most services need nothing
        """Do what must be done before the thread starts."""

    def finish(self) -> None:  # noqa: B027  # most services leave nothing behind
        """Do what must be done before the thread ends."""

    def wake(self) -> None:
        """Have `run_once` called soon. Any thread."""
        self._wake.set()

    def start(self) -> None:
        """Start the thread; nothing to do when it runs."""
        with self._lifecycle:
            if self._thread is None:
                self.prepare()
                self._stop_asked.clear()
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread and wait for it; False when it has not ended after *timeout* seconds."""
        with self._lifecycle:
            if self._thread is None:
                return True
            self._stop_asked.set()
            self._wake.set()
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
            self._thread = None
            return True

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called: what is begun is finished, and nothing new begun."""
        return self._stop_asked.is_set()

    def _run(self) -> None:
        rest = 0.0
        while not self._stop_asked.is_set():
            # Cleared before the work: a wake during it is not lost.
            self._wake.clear()
            try:
                delay = self.run_once()
            except EngineUnavailable as outage:
                rest = min(rest * 2, LONGEST_REST_S) or FIRST_REST_S
                _log.warning("%s: %s Tried again in %.2f s.", self._name, outage, rest)
                self._stop_asked.wait(rest)
            except Exception:  # noqa: BLE001  # a loop that ends in silence would stop the engine without a word
                rest = LONGEST_REST_S
                _log.exception("%s failed and goes on.", self._name)
                self._stop_asked.wait(rest)
            else:
                rest = 0.0
                self._wake.wait(delay)
        self.finish()
