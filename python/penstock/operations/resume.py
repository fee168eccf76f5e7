"""Answering interrupts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from penstock.errors import Invalid
from penstock.operations.context import Context
from penstock.operations.messages import ask
from penstock.operations.operation import Operation
from penstock.options import Duration

if TYPE_CHECKING:
    from penstock.outcome import Json


def resume(
    context: Context, key: str, answer: Json, interrupt_id: str | None, timeout: Duration
) -> Operation[None]:
    """Answer the oldest open interrupt of a flow, or the one that is named."""
    try:
        json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"the answer {answer!r:.80} is not JSON: {error}") from error
    body: dict[str, Json] = {"answer": answer}
    if interrupt_id is not None:
        if not isinstance(interrupt_id, str) or len(interrupt_id) != 32:
            raise Invalid(f"interrupt_id is {interrupt_id!r}: pass the interrupt_id of an OpenInterrupt")
        body["interrupt_id"] = interrupt_id
    yield from ask(context, key, "resume", body, timeout)
