"""The engine of a test: on a database of its own, by a clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.engine import Engine
from penstock.errors import EngineUnavailable
from penstock.runtime import quiet
from penstock.testing.assertions import Assertions
from penstock.testing.clock import TestClock
from penstock.testing.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.app import App
    from penstock.options import Duration
    from penstock.outcome import Json, Outcome
    from penstock.runtime.quiet import Standstill

_LONGEST = timedelta(days=3_660)


class TestEngine(Engine, Assertions):
    """An `Engine` with a clock to be moved, waits for facts, and assertions on histories.

    Args:
        app: As of `Engine`.
        url: The database; default is a SQLite file in a temporary directory that goes with the engine.
        workers: Worker processes; 0, the default, runs tasks on threads of this process.
        clock: Default is a `TestClock` of its own, which goes on until it is moved.
        **options: All others of `Engine`.
    """

    # Not a test, whatever its name says to pytest.
    __test__ = False

    def __init__(
        self,
        app: App | str | None,
        url: str = "sqlite://",
        *,
        workers: int = 0,
        clock: TestClock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock if clock is not None else TestClock()
        super().__init__(app, url, workers=workers, clock=self.clock, **options)

    # -- time --

    def advance(self, by: Duration, *, timeout: float = PATIENCE_S) -> None:
        """Let time pass at once, between two rests: what could run before runs first, then everything that became due.

        Where a task is to see its time pass while it runs, move `clock` itself.

        Raises:
            AssertionError: The engine has not come to rest in time.
        """
        self.wait_until_idle(timeout=timeout)
        self.clock.advance(by)
        self.wait_until_idle(timeout=timeout)

    def next_due(self, *, timeout: float = PATIENCE_S) -> datetime | None:
        """Wait until nothing runs, and tell when the first timer is due; None when no flow waits for time."""
        due = self._idle(timeout).due
        return None if due is None else datetime.fromtimestamp(due / 1000, UTC)

    def skip_waits(self, *, up_to: Duration = _LONGEST, timeout: float = PATIENCE_S) -> None:
        """Go from timer to timer, with the clock at each, until no flow waits for time any more.

        Args:
            up_to: How far the clock may go; the rest is left waiting.
            timeout: Real seconds for each of them.
        """
        self._skip(up_to, timeout, lambda: False)

    def run_through(
        self,
        workflow: str,
        state: Mapping[str, Json] | None = None,
        *,
        timeout: float = PATIENCE_S,
        **options: Any,
    ) -> Outcome:
        """`run`, with the clock put forward whenever the flow only waits for time, by ten years at most."""
        key = self.create(workflow, state, **options)
        self._skip(_LONGEST, timeout, lambda: self.poll(key).is_stopped)
        return self.wait(key, timeout=timeout)

    def _skip(self, up_to: Duration, timeout: float, is_done: Any) -> None:
        limit = up_to if isinstance(up_to, timedelta) else timedelta(seconds=up_to)
        end = self.clock() + limit // timedelta(milliseconds=1)
        while True:
            due = self._idle(timeout).due
            if due is None or due > end or is_done():
                return
            self.clock.move(max(due - self.clock(), 0))

    # -- facts --

    def wait_until_idle(self, *, timeout: float = PATIENCE_S) -> None:
        """Wait until no step runs or could run, nothing is unwritten, and nothing in the database is for this engine.

        Flows that wait for time, for an answer or for a signal are no reason to wait.

        Raises:
            AssertionError: The message says what it still has to do.
        """
        self._idle(timeout)

    def wait_for_node(self, key: str, node: str, *, timeout: float = PATIENCE_S) -> None:
        """Wait until a flow has made a step of a node, in this flow itself, whether or not it has run.

        Raises:
            AssertionError: It has not; the message draws the flow's history.
        """
        try:
            wait_until(
                lambda: node in (step.node for step in self.history(key)), f"node {node!r}", timeout=timeout
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.draw(key)}") from None

    def _idle(self, timeout: float) -> Standstill:
        replica = self._replica
        if replica is None:
            raise EngineUnavailable("the engine does not run; call start(), or use it as a context manager")
        last = quiet.Standstill("nobody has looked yet")

        def is_idle() -> bool:
            nonlocal last
            last = quiet.look(replica)
            return not last.busy

        try:
            wait_until(is_idle, "an idle engine", timeout=timeout, interval=0.001)
        except AssertionError:
            raise AssertionError(f"the engine is not idle after {timeout:g} s: {last.busy}") from None
        return last
