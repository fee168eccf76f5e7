"""Listing flows."""

from __future__ import annotations

import base64
import binascii
import inspect
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.encoding import decode
from penstock.errors import Invalid, NotFound
from penstock.operations.context import Context
from penstock.operations.read import error_info, instant
from penstock.operations.threads import thread_of
from penstock.options import INT32, Duration, check_names, check_text, duration_ms, instant_ms
from penstock.outcome import STATUSES, FlowSummary, Page
from penstock.runtime.correlation import correlation_id
from penstock.store.rows import FlowFilter

if TYPE_CHECKING:
    from penstock.store.rows import OutcomeRow

MAX_LIMIT = 1_000
MAX_TEXT_BYTES = 4_096
CURSOR_BYTES = 16


def find(context: Context, filters: Mapping[str, Any]) -> Page[FlowSummary]:
    """List flows for which everything given holds, newest first."""
    check_names("list() has no filter", filters, [*FILTERS, "limit", "cursor"])
    given = dict(filters)
    limit, cursor = given.pop("limit", 100), given.pop("cursor", None)
    check_limit(limit, MAX_LIMIT, "and go on with the cursor")
    page = context.store.list_flows(read_filter(context, **given), limit, decode_cursor(cursor))
    items = tuple(_summary(context, row) for row in page.items)
    return Page(items=items, cursor=encode_cursor(page.cursor), is_scan=page.is_scan)


def check_limit(limit: object, most: int, way_on: str) -> None:
    """Refuse a number of rows that no call gives; *way_on* says how more are had."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
        raise Invalid(f"limit is {limit!r}: give a number from 1 to {most}, {way_on}")


def read_filter(
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
    older_than: datetime | Duration | None = None,
    newer_than: datetime | Duration | None = None,
    children: bool = False,
    shard: int | None = None,
) -> FlowFilter:
    """Check what is asked for.

    Raises:
        Invalid: A value is of the wrong type, or is no status or shard.
        NotFound: `thread` names nothing.
    """
    if status is not None and status not in STATUSES:
        raise Invalid(f"status is {status!r}: give one of {', '.join(STATUSES)}")
    named = {"workflow": workflow, "node": node, "fairness_key": fairness_key}
    for name, value in (named | {"error_code": error_code, "search": search}).items():
        if value is not None:
            check_text(value, name, MAX_TEXT_BYTES)
    if priority is not None and (isinstance(priority, bool) or priority not in INT32):
        raise Invalid(f"priority is {priority!r}: give an integer of 32 bits")
    if not isinstance(children, bool):
        raise Invalid(f"children is {children!r}: give True or False")
    if shard is not None and shard != context.shard:
        raise Invalid(f"shard is {shard!r}: this engine has shard {context.shard}")
    return FlowFilter(
        status=status,
        workflow=workflow,
        thread_id=None if thread is None else thread_of(context, thread),
        node=node,
        fairness_key=fairness_key,
        priority=priority,
        tags=_tags(tags),
        error_code=error_code,
        search=search or None,
        search_id=_id_in(context, search),
        older_than=_instant(context, older_than, "older_than"),
        newer_than=_instant(context, newer_than, "newer_than"),
        children=children,
    )


#: What `list` and `purge` may ask.
FILTERS = list(inspect.signature(read_filter).parameters)[1:]


def _instant(context: Context, value: datetime | Duration | None, what: str) -> int | None:
    """An instant as it is given, or so long ago."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return instant_ms(value, what)
    return context.store.now() - duration_ms(value, what)


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    if tags is not None and not isinstance(tags, Mapping):
        raise Invalid(f"tags is {tags!r}: give a mapping of strings to strings")
    for name, value in (tags or {}).items():
        check_text(name, "the name of a tag", MAX_TEXT_BYTES)
        check_text(value, f"tag {name!r}", MAX_TEXT_BYTES)
    return dict(tags or {})


def _id_in(context: Context, search: str | None) -> bytes | None:
    """The flow that a text for searching is the key of."""
    try:
        return None if search is None else context.flow_id(search)
    except NotFound:
        return None


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
        decoded = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Invalid(f"cursor is {cursor!r}: pass the cursor of the page before") from error
    if len(decoded) != CURSOR_BYTES:
        raise Invalid(f"cursor is {cursor!r}: pass the cursor of the page before")
    return decoded


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
        correlation_id=correlation_id(context.shard, row.flow_id),
        thread_key=context.key_of(row.thread_id or row.flow_id),
        parent_key=None if row.parent_id is None else context.key_of(row.parent_id),
        forked_from=forked,
        workflow=row.workflow,
        status=row.status,
        nodes=tuple(decode(row.position)) if row.position else (),
        error=error_info(decode(row.error)) if row.error else None,
        cancel_reason=row.cancel_reason,
        priority=row.priority,
        fairness_key=row.fairness_key,
        tags=decode(row.tags) if row.tags else {},
        trace_id=row.trace_parent.split("-")[1] if row.trace_parent else None,
        created_at=created_at,
        updated_at=updated_at,
        stopped_at=instant(row.stopped_at),
    )
