"""Cancelling flows."""

from __future__ import annotations

from penstock.errors import Invalid
from penstock.operations.context import Context
from penstock.operations.messages import ask
from penstock.operations.operation import Operation
from penstock.options import Duration

MAX_REASON_BYTES = 4_096


def cancel(context: Context, key: str, reason: str, timeout: Duration) -> Operation[None]:
    """Cancel a flow with its children: no step starts after this returns, and late results are dropped."""
    if not isinstance(reason, str):
        raise Invalid(f"reason is {reason!r}: give a string")
    if "\0" in reason:
        raise Invalid(f"reason is {reason!r}: a NUL character cannot be stored, remove it")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError as error:
        raise Invalid(f"reason is {reason!r}: a lone surrogate cannot be stored, replace it") from error
    if size > MAX_REASON_BYTES:
        raise Invalid(f"reason is {size} bytes long: at most {MAX_REASON_BYTES} fit")
    yield from ask(context, key, "cancel", {"reason": reason}, timeout)
