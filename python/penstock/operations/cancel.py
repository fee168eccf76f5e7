"""Cancelling flows."""

from __future__ import annotations

from penstock.operations.context import Context, Deadline
from penstock.operations.messages import ask
from penstock.operations.operation import Operation, Until
from penstock.operations.reason import read_reason
from penstock.operations.wait import LONGEST_WAIT_S, SHORTEST_WAIT_S, seconds
from penstock.options import Duration
from penstock.runtime.waiters import Waiter

#: How long the children may take that somebody has to be found for. After that the cancel stands all the same.
CHILDREN_S = 2.0


def cancel(context: Context, key: str, reason: str, timeout: Duration) -> Operation[None]:
    """Cancel a flow with its children: no step starts after this returns, and late results are dropped."""
    reason = read_reason(reason)
    deadline = Deadline(seconds(timeout))
    yield from ask(context, key, "cancel", {"reason": reason}, timeout)
    yield from _until_children_ended(
        context, context.flow_id(key), Deadline(min(deadline.left() or 0, CHILDREN_S))
    )


def _until_children_ended(context: Context, root_id: bytes, deadline: Deadline) -> Operation[None]:
    """Children that rest, or that another engine owns, are cancelled by messages, in commits of their own."""
    pause_s = SHORTEST_WAIT_S
    while context.store.has_live_children(root_id) and (left := deadline.left()):
        yield Until(Waiter(), min(left, pause_s))
        pause_s = min(pause_s * 2, LONGEST_WAIT_S)
