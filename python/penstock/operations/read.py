"""Reading flows: outcomes and current state. Works from any process that has the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from penstock.encoding import decode
from penstock.operations.context import Context, unknown_flow
from penstock.operations.past import read_past, tell
from penstock.outcome import FINISHED, ErrorInfo, OpenInterrupt, Outcome
from penstock.store.rows import InterruptFilter

if TYPE_CHECKING:
    from penstock.store.rows import InterruptRow, OutcomeRow


def read_outcome(context: Context, key: str) -> Outcome:
    """Read a flow that has stopped; one that runs has its last written state, which is empty until it stops."""
    flow_id = context.flow_id(key)
    row = context.store.outcome(flow_id)
    if row is None:
        raise unknown_flow(key)
    return snapshot(context, key) if row.status == "interrupted" else _written(context, row)


def _written(context: Context, row: OutcomeRow) -> Outcome:
    thread = row.thread_id or row.flow_id
    values = (row.flow_id, row.workflow, thread, row.status, row.output, row.error, row.cancel_reason)
    return outcome_of(context, values)


def outcome_of(context: Context, values: Sequence[Any]) -> Outcome:
    """Make an outcome of (flow_id, workflow, thread_id, status, output, error, cancel_reason)."""
    flow_id, workflow, thread_id, status, output, error, cancel_reason = values
    return Outcome(
        key=context.key_of(flow_id),
        workflow=workflow,
        thread_key=context.key_of(thread_id),
        status=status,
        state=decode(output) if output else {},
        error=error_info(decode(error)) if error else None,
        cancel_reason=cancel_reason,
    )


def snapshot(context: Context, key: str) -> Outcome:
    """Read a flow with its current state: what was written at its end, or, while it lives, a replay of its journal."""
    row = context.store.outcome(context.flow_id(key))
    if row is None:
        raise unknown_flow(key)
    if row.status in FINISHED:
        return _written(context, row)
    past = read_past(context, key)
    told = tell(context, past)
    open_now = open_interrupts(context, past.root_id, past.flow_id)
    # A parent that is owned elsewhere hears a moment later that the last question below it was answered.
    is_answered = told["status"] == "interrupted" and not open_now
    return Outcome(
        key=key,
        workflow=past.workflow,
        thread_key=context.key_of(past.thread_id or past.flow_id),
        status="running" if is_answered else told["status"],
        state=told["state"],
        error=error_info(told["error"]),
        cancel_reason=told["cancel_reason"],
        interrupts=open_now,
    )


def open_interrupts(context: Context, root_id: bytes, flow_id: bytes) -> tuple[OpenInterrupt, ...]:
    """Read the open questions of a flow and of the flows below it, oldest first."""
    found: list[InterruptRow] = []
    cursor = None
    which = InterruptFilter(root_id=root_id, is_oldest_first=True)
    while True:
        page = context.store.list_interrupts(which, limit=1_000, cursor=cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    mine = found
    if found and root_id != flow_id:
        below = _below(context, flow_id, {row.flow_id for row in found})
        mine = [row for row in found if row.flow_id in below]
    return tuple(open_interrupt(context, row) for row in mine)


def _below(context: Context, flow_id: bytes, flows: set[bytes]) -> set[bytes]:
    """Those of some flows that are the given one or stand below it, found by going up from all of them at once."""
    ancestors = {flow: flow for flow in flows}
    below = set()
    while ancestors:
        below |= {flow for flow, ancestor in ancestors.items() if ancestor == flow_id}
        rows = context.store.outcomes(set(ancestors.values()) - {flow_id})
        parents = {found: row.parent_id for found, row in rows.items() if row.parent_id is not None}
        ancestors = {flow: parents[above] for flow, above in ancestors.items() if above in parents}
    return below


def error_info(error: Mapping[str, Any] | None) -> ErrorInfo | None:
    """Make an error of its JSON; the traceback stays in the journal."""
    if error is None:
        return None
    names = ("code", "message", "type", "retryable", "node", "step_key", "data")
    return ErrorInfo(**{name: error[name] for name in names if name in error})


def instant(at_ms: int | None) -> datetime | None:
    """An instant of the database as an aware datetime."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def open_interrupt(context: Context, row: InterruptRow) -> OpenInterrupt:
    """Make an open question of its row."""
    created_at = instant(row.created_at)
    assert created_at is not None
    key = context.key_of(row.flow_id)
    return OpenInterrupt(
        interrupt_id=row.interrupt_id.hex(),
        flow_key=key,
        step_key=f"{key}/{row.step}",
        node=row.node,
        kind=row.kind,
        key=row.key,
        payload=None if row.payload is None else decode(row.payload),
        created_at=created_at,
        expires_at=instant(row.expires_at),
    )
