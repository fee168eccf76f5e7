"""Reading flows: outcomes and current state. Works from any process that has the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
        state=json.loads(output) if output else {},
        error=error_info(json.loads(error)) if error else None,
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
    return Outcome(
        key=key,
        workflow=past.workflow,
        thread_key=context.key_of(past.thread_id or past.flow_id),
        status=told["status"],
        state=told["state"],
        error=error_info(told["error"]),
        cancel_reason=told["cancel_reason"],
        interrupts=open_interrupts(context, past.root_id, past.flow_id),
    )


def open_interrupts(context: Context, root_id: bytes, flow_id: bytes) -> tuple[OpenInterrupt, ...]:
    """Read the open questions of a flow and of the flows below it, oldest first."""
    found: list[InterruptRow] = []
    cursor = None
    while True:
        page = context.store.list_interrupts(InterruptFilter(root_id=root_id), limit=1_000, cursor=cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    is_root = root_id == flow_id
    mine = [row for row in found if is_root or row.flow_id == flow_id]
    return tuple(_open_interrupt(context, row) for row in sorted(mine, key=_age))


def _age(row: InterruptRow) -> tuple[bytes, int]:
    """The order in which a resume that names none takes them: by the instant in the id, then by step."""
    return row.interrupt_id[:6], row.step


def error_info(error: Mapping[str, Any] | None) -> ErrorInfo | None:
    """Make an error of its JSON; the traceback stays in the journal."""
    if error is None:
        return None
    names = ("code", "message", "type", "retryable", "node", "step_key", "data")
    return ErrorInfo(**{name: error[name] for name in names if name in error})


def instant(at_ms: int | None) -> datetime | None:
    """An instant of the database as an aware datetime."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _open_interrupt(context: Context, row: InterruptRow) -> OpenInterrupt:
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
        payload=None if row.payload is None else json.loads(row.payload),
        created_at=created_at,
        expires_at=instant(row.expires_at),
    )
