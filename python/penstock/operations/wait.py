"""Waiting for flows: run, wait, poll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.errors import WaitTimeout
from penstock.operations.arrival import Arrival
from penstock.operations.context import Context, Deadline, ended
from penstock.operations.create import State, create, make_row, read_options, refused, resolve
from penstock.operations.operation import Operation, Until
from penstock.operations.read import outcome_of, read_outcome, snapshot
from penstock.options import Duration, duration_ms
from penstock.runtime.waiters import SHUT, Refused

if TYPE_CHECKING:
    from penstock.outcome import Outcome
    from penstock.runtime.waiters import Waiter

#: Between two looks for a node.
SHORTEST_WAIT_S = 0.005
LONGEST_WAIT_S = 0.25


def run(
    context: Context, workflow: str, state: State | None, timeout: Duration | None, options: Mapping[str, Any]
) -> Operation[Outcome]:
    """Create a flow and wait for it."""
    deadline = Deadline(seconds(timeout))
    asked = read_options(options)
    keys = (asked.idempotency_key, asked.business_key, asked.thread)
    if any(key is not None for key in keys):
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


def wait(
    context: Context, key: str, timeout: Duration | None, until: str | None = None
) -> Operation[Outcome]:
    """Wait until a flow has stopped, or has come to the node `until`."""
    deadline = Deadline(seconds(timeout))
    if until is None:
        return (yield from _wait(context, key, deadline, timeout))
    return (yield from _wait_for_node(context, key, Arrival(context, key, until), deadline, timeout))


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


def _wait_for_node(
    context: Context, key: str, arrival: Arrival, deadline: Deadline, timeout: Duration | None
) -> Operation[Outcome]:
    """Look into the journal at a stop, and between stops ever more seldom."""
    pause_s = SHORTEST_WAIT_S
    while True:
        waiter = _enter(context, arrival.flow_id)
        try:
            if arrival.has_come():
                return snapshot(context, key)
            outcome = read_outcome(context, key)
            if outcome.is_stopped:
                # It may have come to the node between the two looks, which changes nothing: it has stopped.
                return outcome
            left = deadline.left()
            if left == 0:
                raise WaitTimeout(
                    f"flow {key} has come to node {arrival.node!r} and has stopped neither within {timeout}; "
                    f"it goes on{context.port.absence()}",
                    flow_key=key,
                )
            yield Until(waiter, pause_s if left is None else min(left, pause_s))
            if waiter.value is SHUT:
                raise ended(f"flow {key} was waited for")
        finally:
            _leave(context, arrival.flow_id, waiter)
        pause_s = min(pause_s * 2, LONGEST_WAIT_S)


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
