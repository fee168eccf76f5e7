"""Why steps wait, and what they lean on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from penstock._core import Core
from penstock.errors import Invalid
from penstock.operations.context import unknown_flow
from penstock.operations.read import instant
from penstock.options import MAX_KEY_BYTES, check_text
from penstock.outcome import FINISHED, ResourceInfo, WaitingStep
from penstock.store.rows import InterruptFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.operations.context import Context
    from penstock.store.rows import WaitRow

#: Steps of one flow that are told at most.
MOST_STEPS = 1_000
MOST_ROWS = 1_000


def why(context: Context, key: str) -> tuple[WaitingStep, ...]:
    """Say of each step of a flow that does not run why not, by number; from elsewhere what the database knows."""
    flow_id = context.flow_id(key)
    rows = context.port.why(flow_id, MOST_STEPS)
    if rows is not None:
        # No name is asked for twice: this engine answers, so it is the owner.
        return _steps(context, rows)
    wait = context.store.wait_of(flow_id)
    if wait is not None:
        return _of_row(context, wait)
    outcome = context.store.outcome(flow_id)
    if outcome is None:
        raise unknown_flow(key)
    # Ended, or in the very moment of being created.
    return () if outcome.status in FINISHED else (_told(context, flow_id, None, "unclaimed"),)


def waiting(context: Context, resource: str | None, limit: int) -> tuple[WaitingStep, ...]:
    """Give steps that are ready and wait, then flows that wait for an engine, best band first."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST_ROWS:
        raise Invalid(f"limit is {limit!r}: give a number from 1 to {MOST_ROWS}")
    if resource is not None:
        check_text(resource, "resource", MAX_KEY_BYTES)
    found = _steps(context, context.port.waiting(resource, limit))
    if resource is not None or len(found) == limit:
        # What a flow in the database leans on is only known to who loads it.
        return found
    unclaimed = context.store.unclaimed(limit - len(found))
    rows = (_told(context, row.flow_id, None, "unclaimed", _since(row)) for row in unclaimed)
    return (*found, *rows)


def resources(context: Context) -> tuple[ResourceInfo, ...]:
    """Give what tasks lean on, by name; a client gives what engines have told the database."""
    now = context.store.now()
    rows = context.port.resources(now)
    is_known = rows is not None
    if rows is None:
        # The same reading of a state as an engine's.
        reader = Core(0, context.shard, {})
        reader.learn_resources(context.store.resources(), now)
        rows = reader.resources(now)
    return tuple(
        ResourceInfo(
            name=name,
            ready=ready if is_known else None,
            running=running if is_known else None,
            per_second=per_second if is_known else None,
            valve=valve,
            cause=cause,
            next_probe_at=instant(next_probe_at),
        )
        for name, ready, running, per_second, valve, cause, next_probe_at in rows
    )


def _steps(context: Context, rows: Sequence[tuple[Any, ...]]) -> tuple[WaitingStep, ...]:
    if not rows:
        return ()
    owner = _name(context.store.replica_id, context.owner_name)
    made = []
    for flow_id, step, node, resource, reason, detail, until in rows:
        key = context.key_of(flow_id)
        made.append(
            WaitingStep(
                flow_key=key,
                step_key=f"{key}/{step}",
                node=node,
                resource=resource or None,
                reason=reason,
                detail=json.loads(detail),
                until=instant(until),
                owner=owner,
            )
        )
    return tuple(made)


def _of_row(context: Context, row: WaitRow) -> tuple[WaitingStep, ...]:
    """What holds a flow that this process does not own; its breakpoints by step."""
    owner = None if row.owner is None else _name(row.owner, row.owner_name)
    if row.status == "paused":
        return (_told(context, row.flow_id, owner, "paused"),)
    held = _breakpoints(context, row.flow_id, owner)
    if held:
        return held
    if row.owner is not None:
        is_mine = row.owner == context.store.replica_id
        return (_told(context, row.flow_id, owner, "loading" if is_mine else "elsewhere"),)
    if row.ready_at is not None:
        return (_told(context, row.flow_id, None, "unclaimed", _since(row)),)
    reason = "parked" if row.wake_at is None or row.status == "interrupted" else "not_due"
    return (_told(context, row.flow_id, None, reason, until=row.wake_at),)


def _breakpoints(context: Context, flow_id: bytes, owner: str | None) -> tuple[WaitingStep, ...]:
    outcome = context.store.outcome(flow_id)
    if outcome is None:
        return ()
    which = InterruptFilter(root_id=outcome.root_id, is_oldest_first=True)
    page = context.store.list_interrupts(which, limit=MOST_STEPS)
    key = context.key_of(flow_id)
    return tuple(
        WaitingStep(
            flow_key=key,
            step_key=f"{key}/{row.step}",
            node=row.node,
            resource=None,
            reason="breakpoint",
            detail={"interrupt_id": row.interrupt_id.hex()},
            until=None,
            owner=owner,
        )
        for row in page.items
        if row.kind == "breakpoint" and row.flow_id == flow_id
    )


def _told(
    context: Context,
    flow_id: bytes,
    owner: str | None,
    reason: str,
    detail: dict[str, Any] | None = None,
    until: int | None = None,
) -> WaitingStep:
    return WaitingStep(
        flow_key=context.key_of(flow_id),
        step_key=None,
        node=None,
        resource=None,
        reason=reason,
        detail=detail or {},
        until=instant(until),
        owner=owner,
    )


def _since(row: WaitRow) -> dict[str, Any]:
    return {} if row.ready_at is None else {"ready_at": row.ready_at}


def _name(replica_id: int, name: str | None) -> str:
    return name or f"replica {replica_id}"
