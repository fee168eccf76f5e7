"""Telling the host that a flow stopped."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from penstock.encoding import decode
from penstock.operations.read import error_info, open_interrupts
from penstock.outcome import Outcome

if TYPE_CHECKING:
    from penstock.host import FlowStopped
    from penstock.operations.context import Context
    from penstock.store.rows import Notice


def tell_stopped(context: Context, callback: FlowStopped, notice: Notice) -> None:
    """Call the host with the outcome as it was when the flow stopped, whatever became of the flow since."""
    told = decode(notice.body)
    is_open = told["status"] == "interrupted"
    outcome = Outcome(
        key=context.key_of(notice.flow_id),
        workflow=told["workflow"],
        thread_key=context.key_of(bytes.fromhex(told["thread"])),
        status=told["status"],
        state=told["state"],
        error=error_info(told.get("error")),
        cancel_reason=told.get("cancel_reason"),
        interrupts=open_interrupts(context, notice.flow_id, notice.flow_id) if is_open else (),
    )
    result = callback(outcome, told["address"])
    if inspect.isawaitable(result):
        asyncio.run(_awaited(result))


async def _awaited(result: Awaitable[None]) -> None:
    await result
