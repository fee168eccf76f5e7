"""Wait for a fact, never for a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from penstock.testing import wait_until

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
    return wait_until(fact, what, timeout=deadline, interval=interval)
