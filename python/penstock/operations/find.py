"""Listing flows."""

from __future__ import annotations

import base64
import binascii
import difflib
import inspect
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.errors import Invalid
from penstock.operations.context import Context
from penstock.operations.read import error_info, instant
from penstock.operations.threads import thread_of
from penstock.options import instant_ms
from penstock.outcome import FlowSummary, Page
from penstock.store.rows import FlowFilter

if TYPE_CHECKING:
    from penstock.store.rows import OutcomeRow

MAX_LIMIT = 1_000


def find(
    context: Context,
    *,
    status: str | None = None,
    workflow: str | None = None,
    thread: str | None = None,
    node: str | None = None,
    fairness_key: str | None = None,
    priority: int | None = None,
    tags: Mapping[str, str] | None = None,
    error_code: str | None = None,
    search: str | None = None,
    older_than: datetime | None = None,
    newer_than: datetime | None = None,
    children: bool = False,
    shard: int | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[FlowSummary]:
    """List flows for which everything given holds, newest first."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit is {limit!r}: give a number from 1 to {MAX_LIMIT}, and go on with the cursor")
    if shard is not None and shard != context.shard:
        raise Invalid(f"shard is {shard!r}: this engine has shard {context.shard}")
    which = FlowFilter(
        status=status,
        workflow=workflow,
        thread_id=None if thread is None else thread_of(context, thread),
        node=node,
        fairness_key=fairness_key,
        priority=priority,
        tags=dict(tags or {}),
        error_code=error_code,
        search=search,
        older_than=None if older_than is None else instant_ms(older_than, "older_than"),
        newer_than=None if newer_than is None else instant_ms(newer_than, "newer_than"),
        children=children,
    )
    page = context.store.list_flows(which, limit, decode_cursor(cursor))
    items = tuple(_summary(context, row) for row in page.items)
    return Page(items=items, cursor=encode_cursor(page.cursor))


def encode_cursor(cursor: bytes | None) -> str | None:
    """A cursor of the store as a caller has it."""
    return None if cursor is None else base64.urlsafe_b64encode(cursor).decode()


def decode_cursor(cursor: str | None) -> bytes | None:
    """A caller's cursor as the store has it.

    Raises:
        Invalid: It is none.
    """
    if cursor is None:
        return None
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Invalid(f"cursor is {cursor!r}: pass the cursor of the page before") from error


def _summary(context: Context, row: OutcomeRow) -> FlowSummary:
    created_at, updated_at = instant(row.created_at), instant(row.updated_at)
    assert created_at is not None
    assert updated_at is not None
    key = context.key_of(row.flow_id)
    forked = None
    if row.forked_from is not None:
        forked = f"{context.key_of(row.forked_from)}/{row.forked_step}"
    return FlowSummary(
        key=key,
        correlation_id=f"{context.shard}-{row.flow_id.hex()[:12]}",
        thread_key=context.key_of(row.thread_id or row.flow_id),
        parent_key=None if row.parent_id is None else context.key_of(row.parent_id),
        forked_from=forked,
        workflow=row.workflow,
        status=row.status,
        nodes=tuple(json.loads(row.position)) if row.position else (),
        error=error_info(json.loads(row.error)) if row.error else None,
        cancel_reason=row.cancel_reason,
        priority=row.priority,
        fairness_key=row.fairness_key,
        tags=json.loads(row.tags) if row.tags else {},
        trace_id=row.trace_parent.split("-")[1] if row.trace_parent else None,
        created_at=created_at,
        updated_at=updated_at,
        stopped_at=instant(row.stopped_at),
    )


def check(filters: Mapping[str, object]) -> dict[str, Any]:
    """Refuse filters that do not exist.

    Raises:
        Invalid: The message names the nearest one.
    """
    known = list(inspect.signature(find).parameters)[1:]
    for name in filters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise Invalid(f"list() has no filter {name!r}: {hint}")
    return dict(filters)
