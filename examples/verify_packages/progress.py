"""Show how far a flow has come, on a terminal as one line that changes, elsewhere as a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TextIO

from penstock.outcome import StepInfo

SETTLED = frozenset({"completed", "routed", "failed", "cancelled"})
BAR_WIDTH = 30


def count_branches(history: Iterable[StepInfo]) -> tuple[int, int]:
    """How many distributions are verified, and how many there are to verify."""
    statuses = [step.status for step in history if step.node == "verify"]
    return sum(status in SETTLED for status in statuses), len(statuses)


class Progress:
    """Writes progress to a stream, no more often than a person can read."""

    def __init__(self, stream: TextIO = sys.stdout, line_interval: float = 2.0) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.line_interval = line_interval
        self.shown_at = float("-inf")
        self.shown = ""

    def show(self, done: int, total: int, *, is_last: bool = False) -> None:
        """Show the numbers, unless they were shown a moment ago; the last ones always."""
        text = self.render(done, total)
        now = time.monotonic()
        is_soon = not self.is_terminal and now - self.shown_at < self.line_interval
        if text == self.shown or (is_soon and not is_last):
            return
        self.stream.write(f"\r\033[K{text}" if self.is_terminal else f"{text}\n")
        self.stream.flush()
        self.shown, self.shown_at = text, now

    def render(self, done: int, total: int) -> str:
        """One line of text."""
        if total == 0:
            return "looking for distributions"
        filled = BAR_WIDTH * done // total
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        return f"[{bar}] {done} of {total} distributions verified"

    def finish(self) -> None:
        """Leave the changing line."""
        if self.is_terminal and self.shown:
            self.stream.write("\n")
            self.stream.flush()
