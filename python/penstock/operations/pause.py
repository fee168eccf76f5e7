"""Pausing flows and letting them go on."""

from __future__ import annotations

from penstock.operations.context import Context
from penstock.operations.messages import ask
from penstock.operations.operation import Operation
from penstock.operations.reason import read_reason
from penstock.options import Duration


def pause(context: Context, key: str, reason: str, timeout: Duration) -> Operation[None]:
    """Let no step of a flow or of its children start any more; those that run finish."""
    reason = read_reason(reason)
    yield from ask(context, key, "pause", {"reason": reason}, timeout)


def unpause(context: Context, key: str, timeout: Duration) -> Operation[None]:
    """Let a paused flow go on."""
    yield from ask(context, key, "unpause", {}, timeout)
