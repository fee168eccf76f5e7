"""What happened: every step of a flow with its events and children, or one step in full."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from penstock.errors import NotFound
from penstock.operations.context import Context, unknown_step
from penstock.operations.past import levels, read_past, tell
from penstock.operations.read import error_info, instant
from penstock.outcome import StepEvent, StepInfo

Steps = tuple[StepInfo, ...]


def history(context: Context, key: str) -> Steps:
    """Read every step of a flow with its events; children are nested, to any depth."""
    past = read_past(context, key)
    return _with_children(context, levels(context, past, tell(context, past), tell))[bytes(past.flow_id)]


def step(context: Context, step_key: str) -> StepInfo:
    """Read one step in full, with the state that it saw."""
    flow_id, number = context.step_id(step_key)
    try:
        past = read_past(context, context.key_of(flow_id))
    except NotFound:
        raise unknown_step(step_key) from None
    told = tell(context, past, number)
    told["steps"] = [step for step in told["steps"] if step["number"] == number]
    if not told["steps"]:
        raise unknown_step(step_key)
    return _with_children(context, levels(context, past, told, tell))[flow_id][0]


def _with_children(context: Context, found: list[dict[bytes, dict[str, Any]]]) -> dict[bytes, Steps]:
    """Put histories together from the innermost level outward."""
    below: dict[bytes, Steps] = {}
    for level in reversed(found):
        below = {
            flow_id: tuple(_step_info(context, flow_id, step, below) for step in told["steps"])
            for flow_id, told in level.items()
        }
    return below


def _step_info(
    context: Context, flow_id: bytes, told: Mapping[str, Any], below: Mapping[bytes, Steps]
) -> StepInfo:
    return StepInfo(
        key=f"{context.key_of(flow_id)}/{told['number']}",
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
        waited=timedelta(milliseconds=told["waited_ms"]),
        created_at=instant(told["created_at"]),
        finished_at=instant(told["finished_at"]),
        events=tuple(_step_event(event) for event in told["events"]),
        # A child that was called is not there yet while its parent's commit is on its way.
        children=tuple(below.get(bytes.fromhex(child), ()) for child in told["children"]),
        state=told.get("state"),
        changes=_plain_changes(told["changes"]),
    )


def _step_event(told: Mapping[str, Any]) -> StepEvent:
    at = instant(told["at"])
    assert at is not None
    detail = {**told["body"], **{name: told[name] for name in ("worker", "queued_ms", "ran_ms")}}
    return StepEvent(ord=told["ord"], kind=told["event"], attempt=told["attempt"], at=at, detail=detail)


def _plain_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a step wrote, by field; null where it deleted."""
    deleted = dict.fromkeys(changes.get("del", ()))
    return {**changes.get("add", {}), **changes.get("set", {}), **deleted}
