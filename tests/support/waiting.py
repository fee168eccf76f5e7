"""Wait for a fact, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")


def eventually(
    fact: Callable[[], Fact], *, what: str, deadline: float = 20.0, interval: float = 0.005
) -> Fact:
    """Return the first truthy answer of `fact`.

    Args:
        fact: Asked again and again.
        what: What is waited for, for the message.
        deadline: Seconds until the wait is given up.
        interval: Seconds between two questions.

    Raises:
        AssertionError: The fact did not come true; the message holds the last answer.
    """
    end = time.monotonic() + deadline
    while True:
        answer = fact()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline:g} s for {what}; the last answer was {answer!r}")
        time.sleep(interval)
