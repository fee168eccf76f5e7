"""Open questions over all flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import Invalid, NotFound
from penstock.operations.context import Context
from penstock.operations.find import MAX_LIMIT, check_limit, decode_cursor, encode_cursor
from penstock.operations.read import open_interrupt
from penstock.outcome import Page
from penstock.store.rows import InterruptFilter

if TYPE_CHECKING:
    from penstock.outcome import OpenInterrupt


def interrupts(
    context: Context,
    workflow: str | None,
    node: str | None,
    key: str | None,
    limit: int,
    cursor: str | None,
) -> Page[OpenInterrupt]:
    """List open questions of all flows for which everything given holds, newest first."""
    for what, value in (("workflow", workflow), ("node", node), ("key", key)):
        if value is not None and not isinstance(value, str):
            raise Invalid(f"{what} is {value!r}: give a string")
    check_limit(limit, MAX_LIMIT, "and go on with the cursor")
    which = InterruptFilter(workflow=workflow, node=node, key=key, tree=_flow_of(context, key))
    page = context.store.list_interrupts(which, limit, decode_cursor(cursor))
    return Page(
        items=tuple(open_interrupt(context, row) for row in page.items), cursor=encode_cursor(page.cursor)
    )


def _flow_of(context: Context, key: str | None) -> bytes | None:
    """The flow, when the key that is asked for is that of a flow, and not one that a task has chosen."""
    if key is None:
        return None
    try:
        return context.flow_id(key)
    except NotFound:
        return None
