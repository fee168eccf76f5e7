"""Cancelling flows."""

from __future__ import annotations

from penstock.operations.context import Context
from penstock.operations.messages import ask
from penstock.operations.operation import Operation
from penstock.operations.reason import read_reason
from penstock.options import Duration


def cancel(context: Context, key: str, reason: str, timeout: Duration) -> Operation[None]:
    """Cancel a flow with its children: no step starts after this returns, and late results are dropped."""
    reason = read_reason(reason)
    yield from ask(context, key, "cancel", {"reason": reason}, timeout)
