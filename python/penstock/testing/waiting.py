"""Waiting for facts, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

#: Long enough for a busy machine; a fact that comes true costs none of it.
PATIENCE_S = 20.0


def wait_until(
    fact: Callable[[], Fact], what: str = "a fact", *, timeout: float = PATIENCE_S, interval: float = 0.005
) -> Fact:
    """Ask again and again, and return the first truthy answer.

    Args:
        fact: Asked at once, and then every `interval` seconds.
        what: What is waited for, for the message.
        timeout: Seconds until the wait is given up.
        interval: Seconds between two questions.

    Raises:
        AssertionError: The fact did not come true; the message holds the last answer.
    """
    end = time.monotonic() + timeout
    while True:
        answer = fact()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last answer was {answer!r}")
        time.sleep(interval)
