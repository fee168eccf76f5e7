"""How a new flow begins: at once, paused, or at an instant to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._core import JOURNAL_FORMAT, first_events
from penstock.store.rows import NewFlow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.options import FlowOptions
    from penstock.store.batch import Row


class Beginning(NamedTuple):
    """What stands in the rows of a new flow that nobody owns yet."""

    status: str
    ready_at: int | None
    wake_at: int | None
    journal: tuple[Row, ...]


def first_of(asked: FlowOptions, now: int) -> tuple[bool, int | None]:
    """Whether a new flow is held, and when it starts; an instant that has passed is none."""
    start_at = asked.start_at_ms
    return asked.hold, None if start_at is None or start_at <= now else start_at


def beginning(flow_id: bytes, now: int, hold: bool, start_at: int | None) -> Beginning:
    """The rows of a flow that begins so: what does not start yet is nobody's until its time has come."""
    bodies = first_events(hold=hold, start_at=start_at)
    journal = tuple(
        (flow_id, ord_, 0, "", "control", 0, 0, None, 0, 0, now, body)
        for ord_, body in enumerate(bodies, start=1)
    )
    if hold:
        return Beginning("paused", None, None, journal)
    return Beginning("running", now if start_at is None else None, start_at, journal)


def unowned(row: Sequence[Any]) -> NewFlow:
    """The rows of a flow that is left to whoever claims it, for a transaction of its own."""
    flow_id, workflow, graph_id, state = row[:4]
    band, place, tags, about, now = row[4:7], row[7:10], row[10], row[11:15], row[15]
    names = (flow_id, flow_id, None, None, workflow, graph_id)
    begin = beginning(flow_id, now, *row[16:18])
    flow = (*names, begin.status, *band, *place, tags, state, *about, None, now, None, None)
    live = (flow_id, None, 0, 0, *band, begin.ready_at, begin.wake_at, 0, None, graph_id, JOURNAL_FORMAT)
    return NewFlow(flow, live, begin.journal)
