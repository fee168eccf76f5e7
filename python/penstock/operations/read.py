"""Reading flows: outcomes, current state, history, single steps. Works from any process that has the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock._core import read_flow
from penstock.errors import NotFound
from penstock.operations.context import Context, unknown_flow
from penstock.outcome import ErrorInfo, OpenInterrupt, Outcome, StepEvent, StepInfo
from penstock.store.rows import InterruptFilter

if TYPE_CHECKING:
    from penstock.store.rows import InterruptRow, LoadRow


def read_outcome(context: Context, key: str) -> Outcome:
    """Read a flow that has stopped; one that runs has its last written state, which is empty until it stops."""
    flow_id = context.flow_id(key)
    row = context.store.outcome(flow_id)
    if row is None:
        raise unknown_flow(key)
    thread = row.thread_id or row.flow_id
    if row.status != "interrupted":
        values = (row.flow_id, row.workflow, thread, row.status, row.output, row.error, row.cancel_reason)
        return outcome_of(context, values)
    return snapshot(context, key)


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
    """Read a flow with its current state, by replay of its journal."""
    flow_id = context.flow_id(key)
    row, told = _replay(context, key)
    stored = context.store.outcome(flow_id)
    thread = (stored.thread_id if stored else None) or flow_id
    open_now = open_interrupts(context, row.root_id, flow_id)
    # A parent that is owned elsewhere hears a moment later that the last question below it was answered.
    is_answered = told["status"] == "interrupted" and not open_now
    return Outcome(
        key=key,
        workflow=row.workflow,
        thread_key=context.key_of(thread),
        status="running" if is_answered else told["status"],
        state=told["state"],
        error=error_info(told["error"]),
        cancel_reason=told["cancel_reason"],
        interrupts=open_now,
    )


def history(context: Context, key: str) -> tuple[StepInfo, ...]:
    """Read every step of a flow with its events; children are nested."""
    row, told = _replay(context, key)
    return tuple(_step_info(context, row.flow_id, step) for step in told["steps"])


def step(context: Context, step_key: str) -> StepInfo:
    """Read one step in full, with the state that it saw."""
    flow_id, number = context.step_id(step_key)
    try:
        row, told = _replay(context, context.key_of(flow_id), number)
    except NotFound:
        raise unknown_step(step_key) from None
    found = next((step for step in told["steps"] if step["number"] == number), None)
    if found is None:
        raise unknown_step(step_key)
    return _step_info(context, row.flow_id, found)


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


def _replay(context: Context, key: str, number: int | None = None) -> tuple[LoadRow, dict[str, Any]]:
    flow_id = context.flow_id(key)
    rows = context.store.load([flow_id])
    if not rows:
        raise unknown_flow(key)
    row = rows[0]
    definition = context.store.graph(row.graph_id)
    if definition is None:
        raise NotFound(f"the graph of flow {key} is not in the database; restore the table of graphs")
    journal = context.store.journal(flow_id)
    told = read_flow(
        definition,
        key=key,
        input=row.input,
        created_at=row.created_at,
        rows=journal,
        now_ms=context.store.now(),
        step=number,
    )
    return row, json.loads(told)


def _step_info(context: Context, flow_id: bytes, told: Mapping[str, Any]) -> StepInfo:
    key = context.key_of(flow_id)
    children = [context.key_of(bytes.fromhex(child)) for child in told["children"]]
    return StepInfo(
        key=f"{key}/{told['number']}",
        number=told["number"],
        node=told["node"],
        task=told["task"],
        status=told["status"],
        attempt=told["attempt"],
        predecessors=tuple(told["predecessors"]),
        ordinal=told["ordinal"],
        error=error_info(told["error"]),
        replica=None if told["replica"] is None else str(told["replica"]),
        worker=told["worker"],
        queued=timedelta(milliseconds=told["queued_ms"]),
        ran=timedelta(milliseconds=told["ran_ms"]),
        created_at=instant(told["created_at"]),
        finished_at=instant(told["finished_at"]),
        events=tuple(_step_event(event) for event in told["events"]),
        children=tuple(_child_history(context, child) for child in children),
        state=told.get("state"),
        changes=_plain_changes(told["changes"]),
    )


def _child_history(context: Context, key: str) -> tuple[StepInfo, ...]:
    try:
        return history(context, key)
    except NotFound:
        return ()


def _step_event(told: Mapping[str, Any]) -> StepEvent:
    at = instant(told["at"])
    assert at is not None
    detail = {**told["body"], **{name: told[name] for name in ("worker", "queued_ms", "ran_ms")}}
    return StepEvent(ord=told["ord"], kind=told["event"], attempt=told["attempt"], at=at, detail=detail)


def _plain_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a step wrote, by field; null where it deleted."""
    deleted = dict.fromkeys(changes.get("del", ()))
    return {**changes.get("add", {}), **changes.get("set", {}), **deleted}


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
        payload=None if row.payload is None else json.loads(row.payload),
        created_at=created_at,
        expires_at=instant(row.expires_at),
    )


def unknown_step(step_key: str) -> NotFound:
    """The refusal of a step key that names nothing."""
    return NotFound(f"no step has the key {step_key!r}; step keys stand in history()")
