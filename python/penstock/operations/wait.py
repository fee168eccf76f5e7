"""Waiting for flows: run, wait, poll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.errors import WaitTimeout
from penstock.operations.context import Context, Deadline, ended
from penstock.operations.create import State, create, make_row, read_options, refused, resolve
from penstock.operations.operation import Operation, Until
from penstock.operations.read import outcome_of, read_outcome, snapshot
from penstock.options import Duration, duration_ms
from penstock.runtime.waiters import SHUT, Refused

if TYPE_CHECKING:
    from penstock.outcome import Outcome
    from penstock.runtime.waiters import Waiter


def run(
    context: Context, workflow: str, state: State | None, timeout: Duration | None, options: Mapping[str, Any]
) -> Operation[Outcome]:
    """Create a flow and wait for it."""
    deadline = Deadline(seconds(timeout))
    asked = read_options(options)
    if asked.idempotency_key is not None or asked.business_key is not None:
        key = yield from create(context, workflow, state, None, options)
        return (yield from _wait(context, key, deadline, timeout))
    graph_id = resolve(context, workflow, asked)
    row = make_row(context, workflow, graph_id, state, asked)
    # Announced when it stops, or is refused: its creation need not be waited for.
    waiter = context.waiters.stopped.add(row[0])
    try:
        context.port.submit([row], is_run=True)
    except BaseException:
        context.waiters.stopped.remove(row[0], waiter)
        raise
    values = yield from _until_stop(context, row[0], waiter, deadline, timeout)
    if values is not None:
        return outcome_of(context, values)
    return (yield from _wait(context, context.key_of(row[0]), deadline, timeout))


def wait(context: Context, key: str, timeout: Duration | None) -> Operation[Outcome]:
    """Wait until a flow has stopped."""
    return (yield from _wait(context, key, Deadline(seconds(timeout)), timeout))


def poll(context: Context, key: str, timeout: Duration) -> Operation[Outcome]:
    """Wait for up to `timeout`, then tell how the flow stands."""
    try:
        return (yield from wait(context, key, timeout))
    except WaitTimeout:
        return snapshot(context, key)


def seconds(timeout: Duration | None) -> float | None:
    """A timeout as seconds.

    Raises:
        Invalid: It is no duration.
    """
    return None if timeout is None else duration_ms(timeout, "timeout") / 1000


def _wait(context: Context, key: str, deadline: Deadline, timeout: Duration | None) -> Operation[Outcome]:
    flow_id = context.flow_id(key)
    while True:
        # Entered before it is read: a stop between the two is announced.
        waiter = _enter(context, flow_id)
        try:
            outcome = read_outcome(context, key)
        except BaseException:
            _leave(context, flow_id, waiter)
            raise
        if outcome.is_stopped:
            _leave(context, flow_id, waiter)
            return outcome
        if (values := (yield from _until_stop(context, flow_id, waiter, deadline, timeout))) is not None:
            return outcome_of(context, values)
        # It came to rest with a question, and somebody may have answered it since.


def _until_stop(
    context: Context, flow_id: bytes, waiter: Waiter, deadline: Deadline, timeout: Duration | None
) -> Operation[Sequence[Any] | None]:
    """Wait for the word that a flow stopped; None when it has to be read."""
    key = context.key_of(flow_id)
    try:
        if not (yield Until(waiter, deadline.left())):
            raise WaitTimeout(
                f"flow {key} has not stopped within {timeout}; it goes on{context.port.absence()}",
                flow_key=key,
            )
    finally:
        _leave(context, flow_id, waiter)
    if waiter.value is SHUT:
        raise ended(f"flow {key} was waited for")
    if isinstance(waiter.value, Refused):
        raise refused(waiter.value.message)
    values: Sequence[Any] | None = waiter.value
    return values


def _enter(context: Context, flow_id: bytes) -> Waiter:
    """Wait for a flow from here on: what it does after this is announced."""
    waiter = context.waiters.stopped.add(flow_id)
    context.port.watch(flow_id)
    return waiter


def _leave(context: Context, flow_id: bytes, waiter: Waiter) -> None:
    if context.waiters.stopped.remove(flow_id, waiter):
        context.port.unwatch(flow_id)
