"""Breakpoints: setting and removing them, and letting the steps go that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from penstock.errors import Conflict, Invalid
from penstock.operations.context import Context, Deadline
from penstock.operations.messages import ask, deliver, root_of
from penstock.operations.operation import Operation
from penstock.operations.read import open_interrupts
from penstock.operations.wait import seconds
from penstock.options import MAX_KEY_BYTES, Duration, check_text, encode_object

if TYPE_CHECKING:
    from penstock.outcome import Json, OpenInterrupt


def break_before(context: Context, key: str, node: str, on: bool, timeout: Duration) -> Operation[None]:
    """Hold the steps of a node, in the flow and below it, before they start; or hold them no more."""
    check_text(node, "node", MAX_KEY_BYTES)
    if not isinstance(on, bool):
        raise Invalid(f"on is {on!r}: give True to set the breakpoint, False to remove it")
    yield from ask(context, key, "break_before", {"node": node, "on": on}, timeout)


def resume_break(
    context: Context, key: str, overrides: Mapping[str, Json] | None, timeout: Duration
) -> Operation[None]:
    """Let the oldest step go that a breakpoint holds, in the flow or below it."""
    deadline = Deadline(seconds(timeout))
    text = encode_object({} if overrides is None else overrides, "overrides").decode()
    root = root_of(context, key, "resume_break")
    tried: set[str] = set()
    while True:
        held = _held(context, key, root)
        found = next((step for step in held if step.interrupt_id not in tried), None)
        if found is None:
            raise _nothing_held(key, held, is_asking=bool(open_interrupts(context, root, root)))
        tried.add(found.interrupt_id)
        body = f'{{"interrupt_id":"{found.interrupt_id}","overrides":{text}}}'
        try:
            return (yield from deliver(context, found.flow_key, "resume_break", body, deadline))
        except Conflict:
            # Somebody else let it go; there may be another one.
            continue


def _held(context: Context, key: str, root: bytes) -> list[OpenInterrupt]:
    opened = open_interrupts(context, root, context.flow_id(key))
    return [step for step in opened if step.kind == "breakpoint"]


def _nothing_held(key: str, held: list[OpenInterrupt], *, is_asking: bool) -> Conflict:
    if held:
        return Conflict(f"somebody else let the steps go that breakpoints held in flow {key}")
    hint = "its question is answered by resume()" if is_asking else "wait() returns when one is"
    return Conflict(f"no breakpoint holds a step of flow {key}; {hint}")
