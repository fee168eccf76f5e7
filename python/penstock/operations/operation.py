"""An operation that waits, written once for callers that block and for callers that await.

It is a generator: it yields what it waits for, and is sent whether that came in time. Between two waits it may take as
long as a statement takes, so a caller with an event loop runs these parts on a thread of a pool.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing
from typing import NamedTuple, TypeAlias, TypeVar

from penstock.runtime.waiters import Waiter

T = TypeVar("T")


class Until(NamedTuple):
    """Wait for this, for so many seconds at most; None is for ever."""

    waiter: Waiter
    seconds: float | None


Operation: TypeAlias = Generator[Until, bool, T]


def complete(operation: Operation[T]) -> T:
    """Run an operation to its end on this thread, which blocks while the operation waits."""
    with closing(operation):
        try:
            until = next(operation)
            while True:
                until = operation.send(until.waiter.wait(until.seconds))
        except StopIteration as end:
            result: T = end.value
            return result


def settled(future: Future[T]) -> Operation[T]:
    """Wait for a future, and give its result or raise its exception."""
    waiter = Waiter()
    future.add_done_callback(waiter.set)
    yield Until(waiter, None)
    return future.result()
