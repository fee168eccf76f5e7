"""Removing flows: one, or all that a filter means."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from penstock.errors import Conflict, Invalid
from penstock.operations.context import Context, Deadline, unknown_flow
from penstock.operations.find import FILTERS, check_limit, read_filter
from penstock.operations.messages import ask
from penstock.operations.operation import Operation, settled
from penstock.operations.wait import seconds
from penstock.options import Duration, check_names
from penstock.outcome import FINISHED

MAX_PURGE = 4_096
#: Flows of one transaction: a batch waits that long at most.
CHUNK = 100


def delete(context: Context, key: str, timeout: Duration) -> Operation[None]:
    """Remove a flow with its history and everything below it; an interrupted one is cancelled first.

    Raises:
        NotFound: No such flow.
        Invalid: The flow is a child.
        Conflict: It runs, or was answered before it could be cancelled.
        WaitTimeout: The cancel was not answered in time.
    """
    deadline = Deadline(seconds(timeout))
    flow_id = context.flow_id(key)
    row = context.store.outcome(flow_id)
    if row is None:
        raise unknown_flow(key)
    if row.parent_id is not None:
        raise Invalid(f"flow {key} is a child and goes with its root, {context.key_of(row.root_id)}")
    if row.status == "interrupted":
        body = {"reason": "deleted", "if_status": "interrupted"}
        yield from ask(context, key, "cancel", body, deadline.left() or 0)
    elif row.status not in FINISHED:
        raise Conflict(f"flow {key} is {row.status}: cancel it first, or wait for its end")
    has_ended = yield from settled(context.port.write(partial(context.store.delete, flow_id)))
    if has_ended is False:
        raise Conflict(f"flow {key} runs again: somebody restarted it; cancel it first, or wait for its end")


def purge(context: Context, filters: Mapping[str, Any]) -> Operation[int]:
    """Remove finished flows for which everything given holds, oldest first, with all below them; how many.

    Raises:
        Invalid: No filter is given, or a bad one.
    """
    check_names(
        "purge() has no filter", filters, [*(name for name in FILTERS if name != "children"), "limit"]
    )
    given = dict(filters)
    limit = given.pop("limit", MAX_PURGE)
    check_limit(limit, MAX_PURGE, "and call until 0 went")
    if not any(value is not None and value != {} for name, value in given.items() if name != "shard"):
        raise Invalid(
            "purge() without a filter would remove all that has finished: give one, such as older_than or status"
        )
    which = read_filter(context, **given)
    removed, after = 0, None
    while True:
        chunk = min(limit - removed, CHUNK)
        done = yield from settled(context.port.write(partial(context.store.purge, which, chunk, after)))
        removed, after = removed + done.roots, done.after
        if after is None or removed >= limit:
            return removed
