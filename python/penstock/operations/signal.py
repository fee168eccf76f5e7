"""Sending signals to flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import Invalid
from penstock.operations.context import Context
from penstock.operations.messages import ask, to_json
from penstock.operations.operation import Operation
from penstock.options import MAX_KEY_BYTES, Duration, check_text

if TYPE_CHECKING:
    from penstock.outcome import Json


def signal(context: Context, key: str, name: str, payload: Json, timeout: Duration) -> Operation[None]:
    """Send a signal: the call that has waited longest for its name has it, or the next one that comes."""
    check_text(name, "name", MAX_KEY_BYTES)
    if not name:
        raise Invalid("name is '': give what the task passes to wait_signal")
    to_json(payload, "the payload")
    yield from ask(context, key, "signal", {"name": name, "payload": payload}, timeout)
