"""Answering interrupts, in a flow and in the flows below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.errors import Conflict, Invalid, NotFound
from penstock.operations.context import Context, Deadline
from penstock.operations.messages import check_addressee, deliver, to_json, too_late
from penstock.operations.operation import Operation
from penstock.operations.read import instant
from penstock.operations.wait import seconds
from penstock.options import Duration
from penstock.outcome import FINISHED
from penstock.store.rows import InterruptFilter

if TYPE_CHECKING:
    from penstock.outcome import Json
    from penstock.store.rows import InterruptRow

#: How many are read when the first is a breakpoint.
_PAGE = 10


def resume(
    context: Context, key: str, answer: Json, interrupt_id: str | None, timeout: Duration
) -> Operation[None]:
    """Answer the oldest open interrupt of a flow's tree, or the one that is named.

    The message goes straight to the flow that asked. Without a name, one that somebody else answers meanwhile is passed
    over for the next.
    """
    text = to_json(answer, "the answer")
    wanted = None if interrupt_id is None else _id_of(interrupt_id)
    deadline = Deadline(seconds(timeout))
    row = check_addressee(context, key, "resume")
    root, last = row.flow_id, wanted
    while (question := _find(context, root, key, wanted, last)) is not None:
        head = f'"interrupt_id":"{question.interrupt_id.hex()}","step":{question.step}'
        body = f'{{{head},"answer":{text}}}'
        last = question.interrupt_id
        try:
            yield from deliver(context, key, "resume", body, deadline, question.flow_id)
        except Conflict:
            if wanted is not None:
                break
        else:
            return
    if last is None and row.status in FINISHED:
        raise too_late("resume", key, row.status, row)
    raise _not_open(context, key, root, last)


def _id_of(interrupt_id: str) -> bytes:
    try:
        if len(interrupt_id) != 32:
            raise ValueError
        return bytes.fromhex(interrupt_id)
    except (ValueError, TypeError):
        raise Invalid(
            f"interrupt_id is {interrupt_id!r}: pass the interrupt_id of an OpenInterrupt"
        ) from None


def _find(
    context: Context, root: bytes, key: str, wanted: bytes | None, last: bytes | None
) -> InterruptRow | None:
    """The question to answer: the one that is wanted, else the oldest after the last one tried."""
    if wanted is not None:
        rows = _page(context, InterruptFilter(root_id=root, interrupt_id=wanted), None, 1)
        questions = _interrupts(rows)
    else:
        cursor, questions, rows, limit = last, (), [], 1
        while not questions:
            page = _page(context, InterruptFilter(root_id=root, is_oldest_first=True), cursor, limit)
            rows += page
            questions = _interrupts(page)
            if len(page) < limit:
                break
            cursor, limit = page[-1].interrupt_id, _PAGE
    if rows and not questions:
        raise Conflict(
            f"flow {key} is held at node {rows[0].node!r} by a breakpoint, which takes no answer; "
            f"let it go on with resume_break({key!r})"
        )
    return questions[0] if questions else None


def _page(context: Context, which: InterruptFilter, cursor: bytes | None, limit: int) -> list[InterruptRow]:
    return list(context.store.list_interrupts(which, limit, cursor).items)


def _interrupts(rows: Sequence[InterruptRow]) -> Sequence[InterruptRow]:
    return [row for row in rows if row.kind == "interrupt"]


def _not_open(context: Context, key: str, root: bytes, interrupt_id: bytes | None) -> Conflict | NotFound:
    if interrupt_id is None:
        return Conflict(f"flow {key} has no open interrupt; it was answered already, or none was asked")
    what = f"interrupt {interrupt_id.hex()} of flow {key} is not open"
    answer = context.store.answer_of(root, interrupt_id)
    if answer is None:
        row = context.store.outcome(root)
        if row is None:
            return NotFound(f"flow {key} was deleted meanwhile")
        if row.status in FINISHED:
            return too_late("resume", key, row.status, row)
        return Conflict(f"{what}; it was answered or it lapsed, or there is no such id")
    sender = "" if answer.sender is None else f" from {answer.sender}"
    return Conflict(
        f"{what}; it was answered by message {answer.seq}{sender} at {instant(answer.answered_at)}"
    )
