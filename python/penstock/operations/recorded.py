"""Flows as the database has them, with their whole journals: what going back is computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import NotFound
from penstock.operations.context import Context

if TYPE_CHECKING:
    from penstock.store.rows import JournalRow, LoadRow, OutcomeRow


class Recorded(NamedTuple):
    """What a flow began with, and everything since, as the core takes it."""

    definition: str
    key: str
    input: str
    created_at: int
    rows: list[JournalRow]


def read_recorded(context: Context, flow_id: bytes) -> tuple[LoadRow, Recorded]:
    """Read a flow that exists.

    Raises:
        NotFound: It, or its graph, is gone.
    """
    key = context.key_of(flow_id)
    found = context.store.load([flow_id])
    definition = context.store.graph(found[0].graph_id) if found else None
    if definition is None:
        raise NotFound(f"flow {key} is gone, or its graph")
    rows = context.store.journal(flow_id)
    return found[0], Recorded(definition, key, found[0].input, found[0].created_at, rows)


def ancestry(context: Context, row: OutcomeRow) -> list[OutcomeRow]:
    """A flow and all flows above it, root first.

    Raises:
        NotFound: One of them was deleted meanwhile.
    """
    chain = [row]
    while chain[0].parent_id is not None:
        above = context.store.outcome(chain[0].parent_id)
        if above is None:
            raise NotFound(f"the parent of flow {context.key_of(chain[0].flow_id)} is gone")
        chain.insert(0, above)
    return chain
