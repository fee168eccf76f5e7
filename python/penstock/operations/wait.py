"""Waiting for flows: run, wait, poll."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.errors import WaitTimeout
from penstock.operations.context import Context, Deadline, ended
from penstock.operations.create import State, create, make_row, read_options, resolve
from penstock.operations.read import outcome_of, read_outcome, snapshot
from penstock.options import Duration, duration_ms
from penstock.runtime.waiters import CLOSED

if TYPE_CHECKING:
    from penstock.outcome import Outcome
    from penstock.runtime.waiters import Waiter


def run(
    context: Context, workflow: str, state: State | None, timeout: Duration | None, options: Mapping[str, Any]
) -> Outcome:
    """Create a flow and wait for it."""
    deadline = Deadline(seconds(timeout))
    asked = read_options(options)
    if asked.idempotency_key is not None:
        return _wait(context, create(context, workflow, state, options), deadline, timeout)
    graph_id = resolve(context, workflow, asked)
    row = make_row(context, workflow, graph_id, state, asked)
    # Announced from memory when it stops: its creation need not be waited for.
    refused = context.waiters.created.add(row[0])
    waiter = context.waiters.stopped.add(row[0])
    try:
        context.core.create([row], watch_creation=False, watch_stop=True)
    except BaseException:
        context.waiters.stopped.remove(row[0], waiter)
        raise
    finally:
        context.waiters.created.remove(row[0], refused)
    context.writer.wake()
    return _finish(context, row[0], waiter, deadline, timeout)


def wait(context: Context, key: str, timeout: Duration | None) -> Outcome:
    """Wait until a flow has stopped."""
    return _wait(context, key, Deadline(seconds(timeout)), timeout)


def poll(context: Context, key: str, timeout: Duration) -> Outcome:
    """Wait for up to `timeout`, then tell how the flow stands."""
    try:
        return wait(context, key, timeout)
    except WaitTimeout:
        return snapshot(context, key)


def seconds(timeout: Duration | None) -> float | None:
    """A timeout as seconds.

    Raises:
        Invalid: It is no duration.
    """
    return None if timeout is None else duration_ms(timeout, "timeout") / 1000


def _wait(context: Context, key: str, deadline: Deadline, timeout: Duration | None) -> Outcome:
    flow_id = context.flow_id(key)
    waiter = context.waiters.stopped.add(flow_id)
    # Watched before it is looked at: a stop between the two is announced.
    context.core.watch(flow_id)
    try:
        outcome = read_outcome(context, key)
        if outcome.is_stopped:
            _leave(context, flow_id, waiter)
            return outcome
    except BaseException:
        _leave(context, flow_id, waiter)
        raise
    return _finish(context, flow_id, waiter, deadline, timeout)


def _finish(
    context: Context, flow_id: bytes, waiter: Waiter, deadline: Deadline, timeout: Duration | None
) -> Outcome:
    key = context.key_of(flow_id)
    try:
        if not waiter.wait(deadline.left()):
            raise WaitTimeout(f"flow {key} has not stopped within {timeout}; it goes on", flow_key=key)
    finally:
        _leave(context, flow_id, waiter)
    if waiter.value is not None and waiter.value is not CLOSED:
        return outcome_of(context, waiter.value)
    outcome = read_outcome(context, key)
    if outcome.is_stopped:
        return outcome
    if waiter.value is CLOSED:
        raise ended(f"flow {key} was waited for")
    # It stood still and has gone on since: a question that lapsed or was answered.
    return _wait(context, key, deadline, timeout)


def _leave(context: Context, flow_id: bytes, waiter: Waiter) -> None:
    if context.waiters.stopped.remove(flow_id, waiter):
        context.core.unwatch(flow_id)
