"""Messages to a flow and the verdicts on them: the way of every operation that changes one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from penstock.encoding import decode, encode
from penstock.errors import Conflict, Invalid, NotFound, PenstockError, WaitTimeout
from penstock.operations.context import Context, Deadline, ended, unknown_flow
from penstock.operations.operation import Operation, Until, settled
from penstock.operations.wait import seconds
from penstock.options import Duration
from penstock.store.rows import Ended, OutcomeRow, Sent

_REFUSALS: dict[str, type[PenstockError]] = {"conflict": Conflict, "invalid": Invalid, "not_found": NotFound}


def ask(context: Context, key: str, kind: str, body: Mapping[str, Any], timeout: Duration) -> Operation[None]:
    """Send a message and wait for the owner's verdict on it.

    Raises:
        NotFound: No such flow.
        Invalid: The flow is a child, which only its parent may direct.
        Conflict: The flow has ended, or somebody else was first; the message says who.
        WaitTimeout: No verdict came in time; the message stands and will be answered.
    """
    deadline = Deadline(seconds(timeout))
    check_addressee(context, key, kind)
    text = encode(body, f"the body of {kind}")
    yield from deliver(context, key, kind, text, deadline)


def deliver(
    context: Context, key: str, kind: str, text: str, deadline: Deadline, flow_id: bytes | None = None
) -> Operation[None]:
    """Send a message to a flow, whichever of its tree it is, and wait for the verdict.

    Args:
        context: The shard.
        key: The flow, as the caller named it.
        kind: What the message asks.
        text: Its body, JSON.
        deadline: Of the verdict.
        flow_id: The flow of that tree that it is sent to, if not the one that the caller named.

    Raises:
        NotFound: No such flow.
        Conflict: The flow has ended, or its owner refuses.
        WaitTimeout: No verdict came in time; the message stands and will be answered.
    """
    flow_id = context.flow_id(key) if flow_id is None else flow_id
    send = partial(context.store.send, flow_id, kind, text, _sender())
    sent = yield from settled(context.port.write(send))
    if sent is None:
        raise unknown_flow(key)
    if isinstance(sent, Ended):
        raise too_late(kind, key, sent.status, context.store.outcome(context.flow_id(key)))
    yield from await_verdict(context, key, flow_id, kind, sent, deadline)


def to_json(value: object, what: str) -> str:
    """A value as it is sent.

    Raises:
        InvalidState: Something in it has no form in JSON; the message says what to write instead.
    """
    return encode(value, what)


def root_of(context: Context, key: str, kind: str) -> bytes:
    """The id of a flow that operations may direct; raises as `check_addressee`."""
    return check_addressee(context, key, kind).flow_id


def check_addressee(context: Context, key: str, kind: str) -> OutcomeRow:
    """Read a flow that operations may direct.

    Raises:
        NotFound: No such flow.
        Invalid: It is a child; the message names its root.
    """
    row = context.store.outcome(context.flow_id(key))
    if row is None:
        raise unknown_flow(key)
    if row.parent_id is not None:
        root = context.key_of(row.root_id)
        raise Invalid(f"flow {key} is a child and takes no {kind}; send it to its root, {root}")
    return row


@cache
def _sender() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def await_verdict(
    context: Context, key: str, flow_id: bytes, kind: str, sent: Sent, deadline: Deadline
) -> Operation[dict[str, Any]]:
    """Wait for what the owner says of a message, and raise its refusal."""
    message = (flow_id, sent.seq)
    waiter = context.waiters.verdicts.add(message)
    context.port.poke()
    try:
        if not (yield Until(waiter, deadline.left())):
            raise WaitTimeout(
                f"{kind} of flow {key} was not answered in time; message {sent.seq} stands and will be"
                + context.port.absence(),
                flow_key=key,
            )
    finally:
        context.waiters.verdicts.remove(message, waiter)
    if waiter.value is None:
        raise ended(f"message {sent.seq} to flow {key} waited for its answer")
    verdict: dict[str, Any] = decode(waiter.value)
    if not verdict["ok"] and not verdict.get("again"):
        raise _REFUSALS.get(verdict["code"], PenstockError)(verdict["message"])
    return verdict


def too_late(kind: str, key: str, status: str, row: OutcomeRow | None) -> Conflict:
    """The refusal of what reaches a flow after its end, with the reason of a cancel."""
    why = f' ("{row.cancel_reason}")' if row is not None and row.cancel_reason else ""
    return Conflict(f"{kind} came too late: flow {key} is {status}{why}")
