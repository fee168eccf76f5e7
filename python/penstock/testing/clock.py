"""The clock of a test: it goes like any other until it is moved, or stands still."""

from __future__ import annotations

import os
import tempfile
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import SharedClock
from penstock.options import duration_ms, instant_ms

if TYPE_CHECKING:
    from penstock.options import Duration


class TestClock(SharedClock):
    """The `clock=` of engines and clients in a test. Any thread, and the workers of its engines too.

    Sleeps, delays, retries, timeouts of interrupts and starts that were put off go by it, and so does `flow.now`.
    Leases and time budgets do not: they measure whether a process lives, and how long a task really ran.

    Args:
        at: Where it begins, an aware datetime; default is now.
        frozen: It stands still between two moves. Otherwise it goes on from there.
    """

    # Not a test, whatever its name says to pytest.
    __test__ = False

    def __init__(self, at: datetime | None = None, *, frozen: bool = False) -> None:
        handle, path = tempfile.mkstemp(prefix="penstock-clock-")
        os.close(handle)
        self._remove = weakref.finalize(self, Path(path).unlink, missing_ok=True)
        self.create(Path(path), None if at is None else instant_ms(at, "at"), is_frozen=frozen)
        super().__init__(path)

    def __repr__(self) -> str:
        return f"<TestClock {self.now.isoformat()}>"

    @property
    def now(self) -> datetime:
        """What it shows."""
        return datetime.fromtimestamp(self() / 1000, UTC)

    def advance(self, by: Duration) -> datetime:
        """Go forward at once, and have every engine that goes by this clock look at its timers.

        What has become due runs after this has returned; `TestEngine.advance` waits for it.

        Raises:
            Invalid: That would be backward, or no duration.
        """
        by_ms = duration_ms(by, "by")
        self.move(by_ms)
        return self.now

    def advance_to(self, at: datetime) -> datetime:
        """Go forward to an instant; nothing to do when it has passed.

        Raises:
            Invalid: It is no aware datetime.
        """
        self.move(max(instant_ms(at, "at") - self(), 0))
        return self.now
