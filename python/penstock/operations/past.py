"""Replaying flows for readers: a flow, or a flow with everything below it, from any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock._core import count_steps, read_flow
from penstock.encoding import decode
from penstock.errors import NotFound
from penstock.operations.context import Context, unknown_flow

if TYPE_CHECKING:
    from penstock.store.rows import PastRow

Told = dict[str, Any]


def read_past(context: Context, key: str) -> PastRow:
    """Read one flow.

    Raises:
        NotFound: No such flow.
    """
    pasts = context.store.pasts([context.flow_id(key)])
    if not pasts:
        raise unknown_flow(key)
    return pasts[0]


def tell(context: Context, past: PastRow, step: int | None = None) -> Told:
    """Replay a flow; *step* is the one whose state is wanted."""
    told: Told = decode(read_flow(_replayable(context, past), context.store.now(), step))
    return told


def count(context: Context, past: PastRow) -> Told:
    """Replay a flow and count its steps by status."""
    told: Told = decode(count_steps(_replayable(context, past), context.store.now()))
    return told


def levels(
    context: Context, past: PastRow, told: Told, tell: Callable[[Context, PastRow], Told]
) -> list[dict[bytes, Told]]:
    """Replay everything below a flow too, level by level; the first level is the flow itself."""
    found = [{bytes(past.flow_id): told}]
    while wanted := [bytes.fromhex(child) for each in found[-1].values() for child in children_of(each)]:
        below = context.store.pasts(wanted)
        if not below:
            break
        found.append({bytes(child.flow_id): tell(context, child) for child in below})
    return found


def children_of(told: Told) -> list[str]:
    """The children that a flow's steps called, as ids in hexadecimal."""
    if "steps" not in told:
        return list(told["children"])
    return [child for step in told["steps"] for child in step["children"]]


def _replayable(context: Context, past: PastRow) -> Any:
    key = context.key_of(past.flow_id)
    definition = context.definition(past.graph_id)
    if definition is None:
        raise NotFound(f"the graph of flow {key} is not in the database; restore the table of graphs")
    return {
        "definition": definition,
        "key": key,
        "input": past.input,
        "created_at": past.created_at,
        "rows": past.journal,
        "running": context.port.running(past.flow_id),
    }
