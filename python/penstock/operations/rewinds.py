"""Going back in place: restart, restart_from, retry_step and recover.

Each is a message to the owner of the flow; a flow that has ended is made live again to read it. A step of a child
takes its ancestors with it: they wait for the child once more, and all hear of it in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock._core import check_rewind, failed_steps
from penstock.errors import Conflict, NotFound
from penstock.operations.context import Context, Deadline, unknown_step
from penstock.operations.messages import await_verdict, check_addressee
from penstock.operations.operation import Operation, settled
from penstock.operations.recorded import ancestry, read_recorded
from penstock.operations.wait import seconds
from penstock.options import Duration, encode_object
from penstock.outcome import FINISHED

if TYPE_CHECKING:
    from penstock.outcome import Json
    from penstock.store.rows import OutcomeRow

Overrides = Mapping[str, "Json"] | None


@dataclass(frozen=True, slots=True)
class _Message:
    flow_id: bytes
    what: str
    body: str


def restart(context: Context, key: str, overrides: Overrides, timeout: Duration) -> Operation[None]:
    """Run a flow that has stopped again from its beginning, under its key."""
    text = _encode(overrides)

    def plan() -> list[_Message]:
        row = check_addressee(context, key, "restart")
        return [_message(row.flow_id, "restart", text)]

    yield from _send(context, plan, Deadline(seconds(timeout)))


def restart_from(context: Context, step_key: str, overrides: Overrides, timeout: Duration) -> Operation[None]:
    """Run a step again, and everything after it."""
    yield from _of_step(context, step_key, "restart_from", overrides, timeout)


def retry_step(context: Context, step_key: str, overrides: Overrides, timeout: Duration) -> Operation[None]:
    """Run a failed step again; what its failure had brought about is withdrawn."""
    yield from _of_step(context, step_key, "retry_step", overrides, timeout)


def recover(context: Context, key: str, overrides: Overrides, timeout: Duration) -> Operation[int]:
    """Run every failed step of a failed flow and of its children again; how many these are."""
    text = _encode(overrides)

    def plan() -> list[_Message]:
        row = check_addressee(context, key, "recover")
        if row.status != "failed":
            raise Conflict(f"flow {key} is {row.status}: recover asks for a failed flow")
        return _recovery(context, row.flow_id, text)

    verdicts = yield from _send(context, plan, Deadline(seconds(timeout)))
    return sum(verdict["steps"] for verdict in verdicts)


def _of_step(
    context: Context, step_key: str, what: str, overrides: Overrides, timeout: Duration
) -> Operation[None]:
    text = _encode(overrides)
    flow_id, number = context.step_id(step_key)

    def plan() -> list[_Message]:
        row = context.store.outcome(flow_id)
        if row is None:
            raise unknown_step(step_key)
        above = _reopened(ancestry(context, row))
        messages = [
            *above,
            _message(flow_id, what, text, step=number, is_awaited=not above and bool(row.parent_id)),
        ]
        if above:
            # None of them may refuse when others have obeyed, so all are asked beforehand.
            for message in messages:
                _, recorded = read_recorded(context, message.flow_id)
                check_rewind(recorded, body=message.body, now_ms=context.store.now())
        return messages

    yield from _send(context, plan, Deadline(seconds(timeout)))


def _reopened(chain: Sequence[OutcomeRow]) -> list[_Message]:
    """Have the ancestors wait again, up to the first whose child has not finished: that one waits already."""
    messages: list[_Message] = []
    for row in reversed(chain):
        if row.parent_id is None or row.status not in FINISHED:
            break
        reopen = [[row.parent_step, row.flow_id.hex()]]
        messages.insert(0, _message(row.parent_id, "reopen", "{}", reopen=reopen))
    return messages


def _recovery(context: Context, flow_id: bytes, overrides: str) -> list[_Message]:
    """Recover a flow, and in place of steps that failed with their children those children."""
    _, recorded = read_recorded(context, flow_id)
    reopen, below = [], []
    for number, children in failed_steps(recorded):
        rows = context.store.outcomes(children)
        for child in children:
            # A fork remembers children of its origin, which are not its own to send back.
            is_own = child in rows and rows[child].parent_id == flow_id
            if is_own and rows[child].status == "failed":
                reopen.append([number, child.hex()])
                below += _recovery(context, child, overrides)
    return [_message(flow_id, "recover", overrides, reopen=reopen), *below]


def _message(flow_id: bytes, what: str, overrides: str, **rest: Any) -> _Message:
    body = json.dumps({"what": what, **rest}, separators=(",", ":"))
    return _Message(flow_id, what, f'{body[:-1]},"overrides":{overrides}}}')


def _encode(overrides: Overrides) -> str:
    return encode_object({} if overrides is None else overrides, "overrides").decode()


def _send(
    context: Context, plan: Callable[[], list[_Message]], deadline: Deadline
) -> Operation[list[dict[str, Any]]]:
    """Send what *plan* says and wait for all verdicts; again while a flow's end came in between."""
    while True:
        messages = plan()
        posted = [(message.flow_id, "rewind", message.body) for message in messages]
        sent = yield from settled(context.port.write(partial(context.store.revive, posted)))
        if sent is None:
            raise NotFound(f"flow {context.key_of(messages[-1].flow_id)} was deleted meanwhile")
        verdicts = []
        for message, number in zip(messages, sent, strict=True):
            key = context.key_of(message.flow_id)
            verdicts.append(
                (yield from await_verdict(context, key, message.flow_id, message.what, number, deadline))
            )
        if not any(verdict.get("again") for verdict in verdicts):
            return verdicts
